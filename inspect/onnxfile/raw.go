package onnxfile

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// The fields of TensorProto that hold numbers.
const (
	floatField  = 4
	int32Field  = 5
	int64Field  = 7
	rawField    = 9
	doubleField = 10
	uint64Field = 11
)

var fieldNames = map[int32]string{
	floatField: "float_data", int32Field: "int32_data", int64Field: "int64_data",
	rawField: "raw_data", doubleField: "double_data", uint64Field: "uint64_data",
}

// source is where a tensor's numbers lie: a range of r, in the encoding of a
// TensorProto field.
type source struct {
	r      io.ReaderAt
	c      io.Closer
	off, n int64
	field  int32
}

func (s source) close() {
	if s.c != nil {
		s.c.Close()
	}
}

type bytesAt []byte

func (b bytesAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readFull fills b from offset off of r.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = ErrChanged // it was long enough when it was opened
	}
	return err
}

// open finds the numbers of t. A tensor without any gives an empty source.
func (t Tensor) open() (source, error) {
	if t.p.Segment != nil {
		return source{}, t.errorf("segmented tensors are not supported")
	}
	if isExternal(t.p) {
		ext, off, n, err := t.f.externalRange(t.p)
		if err != nil {
			return source{}, err
		}
		return source{r: ext, c: ext, off: off, n: n, field: rawField}, nil
	}
	var found []source
	for _, p := range t.p.FilterlensPayload {
		if p.GetReplacement() != 0 {
			return source{}, t.errorf("its new data is not written yet")
		}
		found = append(found, source{r: t.f.r, off: p.GetOffset(), n: p.GetLength(), field: p.GetField()})
	}
	inline := func(field int32, b []byte) {
		found = append(found, source{r: bytesAt(b), n: int64(len(b)), field: field})
	}
	// What protobuf has decoded is short; encoding it again leaves one way to
	// read a tensor instead of two.
	if len(t.p.RawData) > 0 {
		inline(rawField, t.p.RawData)
	}
	var b []byte
	if len(t.p.FloatData) > 0 {
		for _, v := range t.p.FloatData {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		inline(floatField, b)
	}
	if len(t.p.DoubleData) > 0 {
		b = nil
		for _, v := range t.p.DoubleData {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
		inline(doubleField, b)
	}
	if len(t.p.Int32Data) > 0 {
		inline(int32Field, appendVarints(nil, t.p.Int32Data))
	}
	if len(t.p.Int64Data) > 0 {
		inline(int64Field, appendVarints(nil, t.p.Int64Data))
	}
	if len(t.p.Uint64Data) > 0 {
		inline(uint64Field, appendVarints(nil, t.p.Uint64Data))
	}
	switch len(found) {
	case 0:
		return source{r: bytesAt(nil), field: rawField}, nil
	case 1:
		return found[0], nil
	}
	return source{}, t.errorf("its data is given twice, as %s and as %s", fieldNames[found[0].field], fieldNames[found[1].field])
}

func appendVarints[T int32 | int64 | uint64](b []byte, values []T) []byte {
	for _, v := range values {
		b = protowire.AppendVarint(b, uint64(v))
	}
	return b
}

// rawReader reads a tensor from front to back in raw form (little-endian,
// row-major), whichever way it is stored.
type rawReader struct {
	t     Tensor
	s     source
	width int64 // bytes that a varint gives, 0 when it gives six bits
	total int64 // bytes in raw form
	count int64 // varints of which they are made
	done  int64 // of total
	used  int64 // of s.n, for varints
	in    []byte
	acc   uint32 // of six-bit elements, the bits that do not fill a byte yet
	bits  int
}

// raw returns a reader of t's bytes; the caller closes it. The stored length is
// checked against the dimensions here, that of varints as they are read.
func (t Tensor) raw() (*rawReader, error) {
	total, err := t.denseBytes()
	if err != nil {
		return nil, err
	}
	s, err := t.open()
	if err != nil {
		return nil, err
	}
	r := &rawReader{t: t, s: s, total: total}
	switch bits := t.DType().Bits(); {
	case bits >= 8:
		r.width, r.count = bits/8, total/(bits/8)
	case bits == 6:
		r.count, _ = t.Elements() // denseBytes has checked
	default: // a varint holds the elements of one byte
		r.width, r.count = 1, total
	}
	if err := r.check(); err != nil {
		s.close()
		return nil, err
	}
	return r, nil
}

func (r *rawReader) check() error {
	d := onnxpb.TensorProto_DataType(r.t.DType())
	var ok bool
	switch r.s.field {
	case rawField:
		ok = true
	case floatField:
		ok = d == onnxpb.TensorProto_FLOAT || d == onnxpb.TensorProto_COMPLEX64
	case doubleField:
		ok = d == onnxpb.TensorProto_DOUBLE || d == onnxpb.TensorProto_COMPLEX128
	case int64Field:
		ok = d == onnxpb.TensorProto_INT64
	case uint64Field:
		ok = d == onnxpb.TensorProto_UINT64 || d == onnxpb.TensorProto_UINT32
	case int32Field:
		switch d {
		case onnxpb.TensorProto_INT32, onnxpb.TensorProto_INT16, onnxpb.TensorProto_INT8, onnxpb.TensorProto_UINT16,
			onnxpb.TensorProto_UINT8, onnxpb.TensorProto_BOOL, onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_BFLOAT16,
			onnxpb.TensorProto_FLOAT8E4M3FN, onnxpb.TensorProto_FLOAT8E4M3FNUZ, onnxpb.TensorProto_FLOAT8E5M2,
			onnxpb.TensorProto_FLOAT8E5M2FNUZ, onnxpb.TensorProto_FLOAT8E8M0, onnxpb.TensorProto_FLOAT6E2M3,
			onnxpb.TensorProto_FLOAT6E3M2, onnxpb.TensorProto_FLOAT4E2M1, onnxpb.TensorProto_INT4, onnxpb.TensorProto_UINT4,
			onnxpb.TensorProto_INT2, onnxpb.TensorProto_UINT2:
			ok = true
		}
	}
	if !ok {
		return r.t.errorf("values of %s cannot be read from %s: %w", r.t.DType(), fieldNames[r.s.field], ErrUnsupportedType)
	}
	if r.varints() {
		// Each value takes at least one byte, so a lying dimension costs nothing.
		if r.count > r.s.n {
			return r.t.errorf("%d bytes of %s stored, %v has %d values", r.s.n, fieldNames[r.s.field], r.t.Dims(), r.count)
		}
		return nil
	}
	if r.s.n != r.total {
		return r.t.errorf("%d bytes stored, %v of %s needs %d", r.s.n, r.t.Dims(), r.t.DType(), r.total)
	}
	return nil
}

func (r *rawReader) varints() bool {
	return r.s.field == int32Field || r.s.field == int64Field || r.s.field == uint64Field
}

func (r *rawReader) close() { r.s.close() }

// seek continues at byte off; varints have no such place and must not be asked.
func (r *rawReader) seek(off int64) { r.done = off }

// fill reads the next bytes into buf, whose length is a multiple of the width,
// and returns the part it filled: all of it until the tensor ends, then nothing.
func (r *rawReader) fill(buf []byte) ([]byte, error) {
	buf = buf[:min(int64(len(buf)), r.total-r.done)]
	var err error
	if r.varints() {
		err = r.fillVarints(buf)
	} else {
		err = readFull(r.s.r, buf, r.s.off+r.done)
	}
	if err != nil {
		return nil, r.t.errorf("%w", err)
	}
	r.done += int64(len(buf))
	return buf, nil
}

func (r *rawReader) fillVarints(buf []byte) error {
	if r.width == 0 {
		if err := r.fillSixBits(buf); err != nil {
			return err
		}
	}
	for at := 0; r.width > 0 && at < len(buf); at += int(r.width) {
		v, err := r.varint((r.done + int64(at)) / r.width)
		if err != nil {
			return err
		}
		switch r.width {
		case 1:
			buf[at] = byte(v)
		case 2:
			binary.LittleEndian.PutUint16(buf[at:], uint16(v))
		case 4:
			binary.LittleEndian.PutUint32(buf[at:], uint32(v))
		case 8:
			binary.LittleEndian.PutUint64(buf[at:], v)
		}
	}
	if r.done+int64(len(buf)) == r.total && int64(len(r.in))+r.s.n-r.used > 0 {
		return fmt.Errorf("more values of %s stored than the %d of %v", fieldNames[r.s.field], r.count, r.t.Dims())
	}
	return nil
}

// fillSixBits packs elements that are stored one a varint as raw_data does:
// low bits first, the last byte filled with zeros.
func (r *rawReader) fillSixBits(buf []byte) error {
	next := (8*r.done + int64(r.bits)) / 6
	for at := range buf {
		for r.bits < 8 && next < r.count {
			v, err := r.varint(next)
			if err != nil {
				return err
			}
			next++
			r.acc |= uint32(v&0x3f) << r.bits
			r.bits += 6
		}
		buf[at] = byte(r.acc)
		r.acc >>= 8
		r.bits = max(r.bits-8, 0)
	}
	return nil
}

// varint returns the next number; index counts those before it.
func (r *rawReader) varint(index int64) (uint64, error) {
	if len(r.in) < protowireMax && r.used < r.s.n {
		if err := r.refill(); err != nil {
			return 0, err
		}
	}
	if len(r.in) == 0 {
		return 0, fmt.Errorf("%d values of %s stored, %v has %d", index, fieldNames[r.s.field], r.t.Dims(), r.count)
	}
	v, n := protowire.ConsumeVarint(r.in)
	if n < 0 {
		return 0, wireError(n)
	}
	r.in = r.in[n:]
	return v, nil
}

func (r *rawReader) refill() error {
	b := make([]byte, int64(len(r.in))+min(windowBytes, r.s.n-r.used))
	k := copy(b, r.in)
	if err := readFull(r.s.r, b[k:], r.s.off+r.used); err != nil {
		return err
	}
	r.used += int64(len(b) - k)
	r.in = b
	return nil
}
