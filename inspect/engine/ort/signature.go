//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"io"

	"github.com/filterlens/filterlens/inspect/engine"
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of the ONNX schema that the signature needs.
const (
	modelGraph       = 7
	graphInitializer = 5
	graphInput       = 11
	graphOutput      = 12
	tensorName       = 8
	valueName        = 1
	valueType        = 2
	typeTensor       = 1
	tensorElem       = 1
	tensorShape      = 2
	shapeDim         = 1
	dimValue         = 1
	dimParam         = 2
)

// maxValueInfo bounds what is read into memory for one graph input or output,
// maxName what is read for the name of an initializer.
const (
	maxValueInfo = 1 << 20
	maxName      = 1 << 16
)

// value is an input or output as the file declares it.
type value struct {
	engine.Value
	// tensor is false for sequences, maps and other non-tensor types.
	tensor bool
	// params holds the symbol of each symbolic dimension, "" elsewhere.
	params []string
}

// scalar says that the rank is known to be 0.
func (v *value) scalar() bool { return v.Shape != nil && len(v.Shape) == 0 }

// readSignature reads the inputs that a caller has to feed and the outputs of
// the graph of a serialized ModelProto of the given size. It is here because
// the binding takes the names as arguments and can only find them by loading
// the whole model a second time; this walk skips every weight.
func readSignature(r io.ReaderAt, size int64) (inputs, outputs []value, err error) {
	initializers := make(map[string]bool)
	found := false
	err = fields(r, 0, size, func(num protowire.Number, at, n int64) error {
		if num != modelGraph {
			return nil
		}
		found = true
		return fields(r, at, n, func(num protowire.Number, at, n int64) error {
			switch num {
			case graphInitializer:
				return fields(r, at, n, func(num protowire.Number, at, n int64) error {
					if num != tensorName {
						return nil
					}
					b, err := readAt(r, at, n, maxName)
					initializers[string(b)] = true
					return err
				})
			case graphInput, graphOutput:
				b, err := readAt(r, at, n, maxValueInfo)
				if err != nil {
					return err
				}
				v, err := parseValue(b)
				if err != nil {
					return fmt.Errorf("graph input or output at byte %d: %w", at, err)
				}
				if num == graphInput {
					inputs = append(inputs, v)
				} else {
					outputs = append(outputs, v)
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, nil, err
	}
	if !found {
		return nil, nil, errors.New("the file holds no graph; is it an ONNX model?")
	}
	// Up to IR version 3 every initializer is listed as an input too; later
	// ones may be. Neither has to be fed.
	fed := inputs[:0]
	for _, v := range inputs {
		if !initializers[v.Name] {
			fed = append(fed, v)
		}
	}
	return fed, outputs, nil
}

// fields calls f with number, offset and length of every length-delimited
// field of the message at r[at:at+n] and skips all others.
func fields(r io.ReaderAt, at, n int64, f func(num protowire.Number, at, n int64) error) error {
	var buf [24]byte
	for end := at + n; at < end; {
		b := buf[:min(int64(len(buf)), end-at)]
		if _, err := r.ReadAt(b, at); err != nil && err != io.EOF {
			return err
		}
		num, typ, k := protowire.ConsumeTag(b)
		if k < 0 {
			return fmt.Errorf("byte %d: %w", at, protowire.ParseError(k))
		}
		if typ != protowire.BytesType {
			// Groups are no part of ONNX; one longer than the window fails here.
			m := protowire.ConsumeFieldValue(num, typ, b[k:])
			if m < 0 {
				return fmt.Errorf("byte %d: %w", at, protowire.ParseError(m))
			}
			at += int64(k + m)
			continue
		}
		length, m := protowire.ConsumeVarint(b[k:])
		if m < 0 {
			return fmt.Errorf("byte %d: %w", at, protowire.ParseError(m))
		}
		at += int64(k + m)
		if length > uint64(end-at) {
			return fmt.Errorf("byte %d: field %d claims %d bytes, %d are left; the file is cut off or not an ONNX model", at, num, length, end-at)
		}
		if err := f(num, at, int64(length)); err != nil {
			return err
		}
		at += int64(length)
	}
	return nil
}

func readAt(r io.ReaderAt, at, n, limit int64) ([]byte, error) {
	if n > limit {
		return nil, fmt.Errorf("byte %d: %d bytes where at most %d are expected", at, n, limit)
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, at); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// parseValue decodes a ValueInfoProto.
func parseValue(b []byte) (value, error) {
	var v value
	err := eachField(b, func(num protowire.Number, x uint64, b []byte) error {
		switch num {
		case valueName:
			v.Name = string(b)
		case valueType:
			return eachField(b, func(num protowire.Number, x uint64, b []byte) error {
				if num != typeTensor {
					return nil
				}
				v.tensor = true
				return v.parseTensorType(b)
			})
		}
		return nil
	})
	return v, err
}

func (v *value) parseTensorType(b []byte) error {
	return eachField(b, func(num protowire.Number, x uint64, b []byte) error {
		switch num {
		case tensorElem:
			v.DType = dtypeName(x)
		case tensorShape:
			v.Shape = []int64{}
			return eachField(b, func(num protowire.Number, x uint64, b []byte) error {
				if num != shapeDim {
					return nil
				}
				size, param := int64(-1), ""
				err := eachField(b, func(num protowire.Number, x uint64, b []byte) error {
					switch num {
					case dimValue:
						if size = int64(x); size < 0 {
							size = -1
						}
					case dimParam:
						param = string(b)
					}
					return nil
				})
				v.Shape = append(v.Shape, size)
				v.params = append(v.params, param)
				return err
			})
		}
		return nil
	})
}

// eachField calls f with every field of a message: x holds a varint, sub the
// bytes of a length-delimited field.
func eachField(b []byte, f func(num protowire.Number, x uint64, sub []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var x uint64
		var sub []byte
		switch typ {
		case protowire.VarintType:
			x, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			sub, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := f(num, x, sub); err != nil {
			return err
		}
	}
	return nil
}
