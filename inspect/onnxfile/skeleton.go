package onnxfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// payloadLimit is the size in bytes from which a payload stays in the file.
	// Below it, a range would cost more than the bytes do.
	payloadLimit = 512
	// maxDepth bounds nested messages. A graph inside an attribute of a node
	// costs three levels; real models nest a handful of graphs.
	maxDepth = 200
	// maxSkeleton bounds what is kept in memory, as protobuf itself does.
	maxSkeleton = 1<<31 - 1
	// payloadField is the number of TensorProto.filterlens_payload.
	payloadField protowire.Number = 50001
	windowBytes                   = 64 << 10
	// firstRead is what is read after a jump: the head of a tensor takes some
	// tens of bytes, and a model of many mid-sized tensors is all jumps.
	firstRead = 4 << 10
)

// kind names the messages on the way from a model to its tensors.
type kind uint8

const (
	kindOther kind = iota
	kindModel
	kindGraph
	kindNode
	kindAttribute
	kindTensor
	kindSparse
	kindTraining
	kindFunction
)

var kindNames = [...]string{"message", "model", "graph", "node", "attribute", "tensor", "sparse tensor", "training info", "function"}

// child returns the kind of message that field num of k holds, kindOther when
// no tensor can lie below it.
func (k kind) child(num protowire.Number) kind {
	switch k {
	case kindModel:
		switch num {
		case 7:
			return kindGraph
		case 20:
			return kindTraining
		case 25:
			return kindFunction
		}
	case kindGraph:
		switch num {
		case 1:
			return kindNode
		case 5:
			return kindTensor
		case 15:
			return kindSparse
		}
	case kindNode:
		if num == 5 {
			return kindAttribute
		}
	case kindAttribute:
		switch num {
		case 5, 10:
			return kindTensor
		case 6, 11:
			return kindGraph
		case 22, 23:
			return kindSparse
		}
	case kindSparse:
		if num == 1 || num == 2 {
			return kindTensor
		}
	case kindTraining:
		if num == 1 || num == 2 {
			return kindGraph
		}
	case kindFunction:
		switch num {
		case 7:
			return kindNode
		case 11:
			return kindAttribute
		}
	}
	return kindOther
}

// singleTensor tells whether field num of k is a message, not a list, with
// tensors in it.
func (k kind) singleTensor(num protowire.Number) bool {
	return k == kindAttribute && (num == 5 || num == 22) || k == kindSparse && (num == 1 || num == 2)
}

// isPayload tells whether field num of a TensorProto holds its numbers.
func isPayload(num protowire.Number) bool {
	switch num {
	case 4, 5, 7, 9, 10, 11:
		return true
	}
	return false
}

// singleValue returns the wire type of one number in a field of them that is not
// packed.
func singleValue(num protowire.Number) protowire.Type {
	switch num {
	case floatField:
		return protowire.Fixed32Type
	case doubleField:
		return protowire.Fixed64Type
	case int32Field, int64Field, uint64Field:
		return protowire.VarintType
	}
	return protowire.BytesType
}

// scanner reads a file through one window, so that skipping a payload costs a
// seek and not a read.
type scanner struct {
	r    io.ReaderAt
	name string
	size int64
	// limit is the size from which a payload stays in the file.
	limit int64
	buf   []byte
	at    int64 // file offset of buf[0]
	step  int64 // bytes of the last read; doubles while reads follow each other
	costs map[protoreflect.FullName]*messageCost
}

// bytes returns at least one and at most n bytes at off, valid until the next call.
func (s *scanner) bytes(off, n int64) ([]byte, error) {
	if i := off - s.at; i >= 0 && i < int64(len(s.buf)) {
		if have := int64(len(s.buf)) - i; have >= n || have >= protowireMax {
			return s.buf[i:min(i+n, int64(len(s.buf)))], nil
		}
	}
	if cap(s.buf) == 0 {
		s.buf = make([]byte, 0, windowBytes)
	}
	if end := s.at + int64(len(s.buf)); off <= end && off > end-protowireMax {
		s.step = min(2*s.step, windowBytes)
	} else {
		s.step = firstRead
	}
	want := min(max(s.step, firstRead), s.size-off)
	if want <= 0 {
		return nil, errTruncated
	}
	if err := readFull(s.r, s.buf[:want], off); err != nil {
		s.buf = s.buf[:0]
		var pe *fs.PathError
		if err != ErrChanged && !errors.As(err, &pe) {
			err = &fs.PathError{Op: "read", Path: s.name, Err: err}
		}
		return nil, err
	}
	s.buf, s.at = s.buf[:want], off
	return s.buf[:min(n, want)], nil
}

// protowireMax is the longest varint.
const protowireMax = 10

func (s *scanner) varint(off, end int64) (uint64, int64, error) {
	b, err := s.bytes(off, min(protowireMax, end-off))
	if err != nil {
		return 0, 0, err
	}
	v, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return 0, 0, wireError(n)
	}
	return v, int64(n), nil
}

// wireError is protowire.ParseError in words that do not change from build to
// build, which protobuf's own messages do on purpose.
func wireError(n int) error {
	if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return errors.New("a number of more than 64 bits")
}

var errSkeleton = errors.New("the model without its weights exceeds 2 GB")

var errTooDeep = fmt.Errorf("messages are nested deeper than %d", maxDepth)

var errTruncated = fmt.Errorf("it ends in the middle of a field: %w", io.ErrUnexpectedEOF)

// walk appends to out the message of kind k that lies in [pos, end), without
// its payloads.
func (s *scanner) walk(out []byte, k kind, pos, end int64, depth int) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		var fe *FormatError
		var pe *fs.PathError
		if errors.As(err, &fe) || errors.As(err, &pe) {
			return nil, err
		}
		return nil, &FormatError{Offset: pos, Where: kindNames[k], Err: err}
	}
	if depth > maxDepth {
		return fail(errTooDeep)
	}
	var payloads []byte
	memory := account{counted: len(out)}
	var seen, ranged uint64 // bits by field number, for what may be there only once
	for pos < end {
		tag, n, err := s.varint(pos, end)
		if err != nil {
			return fail(err)
		}
		num, typ := protowire.DecodeTag(tag)
		if num < protowire.MinValidNumber {
			return fail(fmt.Errorf("invalid field number %d", num))
		}
		if k == kindTensor && num == payloadField {
			return fail(fmt.Errorf("field %d is reserved", num))
		}
		if k.singleTensor(num) {
			// Two would be merged, and which numbers are the tensor's is anyone's guess.
			if seen&(1<<num) != 0 {
				return fail(fmt.Errorf("field %d is given twice", num))
			}
			seen |= 1 << num
		}
		body := pos + n
		payload := k == kindTensor && isPayload(num)
		if payload && typ != protowire.BytesType && typ != singleValue(num) {
			// An unknown field to protobuf, and so one that could follow a range.
			return fail(fmt.Errorf("field %d has wire type %d, which ONNX does not use for it", num, typ))
		}
		switch typ {
		case protowire.VarintType, protowire.Fixed32Type, protowire.Fixed64Type:
			n := int64(4)
			switch typ {
			case protowire.VarintType:
				if _, n, err = s.varint(body, end); err != nil {
					return fail(err)
				}
			case protowire.Fixed64Type:
				n = 8
			}
			if n > end-body {
				return fail(errTruncated)
			}
			if out, err = s.copy(out, pos, body+n-pos); err != nil {
				return fail(err)
			}
			pos = body + n
		case protowire.BytesType:
			v, n, err := s.varint(body, end)
			if err != nil {
				return fail(err)
			}
			body += n
			if v > uint64(end-body) {
				return fail(fmt.Errorf("field %d claims %d bytes, %d are left", num, v, end-body))
			}
			length := int64(v)
			c := k.child(num)
			switch {
			case c != kindOther:
				out = protowire.AppendVarint(out, tag)
				start := len(out)
				if out, err = s.walk(out, c, body, body+length, depth+1); err != nil {
					return fail(err)
				}
				out = prefixLength(out, start)
			case payload && length >= s.limit:
				ranged |= 1 << num
				payloads = protowire.AppendTag(payloads, payloadField, protowire.BytesType)
				start := len(payloads)
				payloads = appendPayload(payloads, int32(num), body, length)
				payloads = prefixLength(payloads, start)
			default:
				if out, err = s.copy(out, pos, body+length-pos); err != nil {
					return fail(err)
				}
			}
			pos = body + length
		default:
			return fail(fmt.Errorf("field %d has wire type %d, which ONNX does not use", num, typ))
		}
		if payload {
			// The skeleton holds ranges after everything else, so the order of
			// a range and another piece of the same field would be lost.
			if seen&ranged&(1<<num) != 0 {
				return fail(fmt.Errorf("field %d is stored in several pieces; write the model again with one piece each", num))
			}
			seen |= 1 << num
		}
		if len(out) > maxSkeleton {
			return fail(errSkeleton)
		}
		if len(out)-memory.counted >= costStep {
			if err := s.settle(&memory, out, k, s.size-pos); err != nil {
				return nil, err
			}
		}
	}
	return append(out, payloads...), nil
}

func appendPayload(b []byte, field int32, offset, length int64) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), uint64(field))
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), uint64(offset))
	return protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), uint64(length))
}

// prefixLength inserts the length of b[start:] before it.
func prefixLength(b []byte, start int) []byte {
	n := len(b) - start
	w := protowire.SizeVarint(uint64(n))
	for range w {
		b = append(b, 0)
	}
	copy(b[start+w:], b[start:start+n])
	protowire.AppendVarint(b[:start], uint64(n))
	return b
}

// copy appends n bytes at off to out, growing in steps of the window.
func (s *scanner) copy(out []byte, off, n int64) ([]byte, error) {
	for n > 0 {
		b, err := s.bytes(off, n)
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
		off += int64(len(b))
		n -= int64(len(b))
		if len(out) > maxSkeleton {
			return nil, errSkeleton
		}
	}
	return out, nil
}
