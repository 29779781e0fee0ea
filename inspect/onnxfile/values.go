package onnxfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"

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
		err = errors.New("the file became shorter while it was read")
	}
	return err
}

// open finds the numbers of t. A tensor without any gives an empty source.
func (t Tensor) open() (source, error) {
	if t.p.Segment != nil {
		return source{}, t.errorf("segmented tensors are not supported")
	}
	if t.p.GetDataLocation() == onnxpb.TensorProto_EXTERNAL {
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
	width int64 // bytes of a value, for varints
	total int64 // bytes in raw form
	done  int64 // of total
	used  int64 // of s.n, for varints
	in    []byte
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
	r := &rawReader{t: t, s: s, width: t.DType().Bits() / 8, total: total}
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
			onnxpb.TensorProto_FLOAT8E5M2FNUZ, onnxpb.TensorProto_FLOAT8E8M0:
			ok = true
		}
	}
	if !ok {
		return r.t.errorf("values of %s cannot be read from %s: %w", r.t.DType(), fieldNames[r.s.field], ErrUnsupportedType)
	}
	if r.varints() {
		// Each value takes at least one byte, so a lying dimension costs nothing.
		if n := r.total / r.width; n > r.s.n {
			return r.t.errorf("%d bytes of %s stored, %v has %d values", r.s.n, fieldNames[r.s.field], r.t.Dims(), n)
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
	for at := 0; at < len(buf); at += int(r.width) {
		if len(r.in) < protowireMax && r.used < r.s.n {
			if err := r.refill(); err != nil {
				return err
			}
		}
		v, n := protowire.ConsumeVarint(r.in)
		if len(r.in) == 0 {
			return fmt.Errorf("%d values of %s stored, %v has %d", (r.done+int64(at))/r.width, fieldNames[r.s.field], r.t.Dims(), r.total/r.width)
		}
		if n < 0 {
			return wireError(n)
		}
		r.in = r.in[n:]
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
		return fmt.Errorf("more values of %s stored than the %d of %v", fieldNames[r.s.field], r.total/r.width, r.t.Dims())
	}
	return nil
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

// blockElements is how many values a block of Values holds at most.
const blockElements = 1 << 15

// Values calls fn with the tensor's values as float64, in order, in blocks of
// 32,768 (the last may be shorter); a block is valid during the call only, and
// fn may overwrite it. Readable are float, double, float16, bfloat16, integers
// from 8 to 64 bits and bool; integers beyond 2^53 are rounded. Other types
// give ErrUnsupportedType. It fails when the number of values is not the
// product of the dimensions, before fn is called except for packed varints,
// which only reading can count. Memory is bounded by the block.
func (t Tensor) Values(fn func(block []float64) error) error {
	v, err := t.values()
	if err != nil {
		return err
	}
	defer v.close()
	for {
		block, _, err := v.next()
		if err != nil {
			return err
		}
		if len(block) == 0 {
			return nil
		}
		if err := fn(block); err != nil {
			return err
		}
	}
}

// Blocks is Values as an iterator; an error comes last, with a nil block.
func (t Tensor) Blocks() iter.Seq2[[]float64, error] {
	return func(yield func([]float64, error) bool) {
		stop := errors.New("stop")
		err := t.Values(func(block []float64) error {
			if !yield(block, nil) {
				return stop
			}
			return nil
		})
		if err != nil && err != stop {
			yield(nil, err)
		}
	}
}

// valueReader is a rawReader with the numbers decoded.
type valueReader struct {
	*rawReader
	decode func(dst []float64, b []byte)
	buf    []byte
	out    []float64
}

func (t Tensor) values() (*valueReader, error) {
	decode := rawDecoder(t.DType())
	if decode == nil {
		return nil, t.errorf("%s: %w", t.DType(), ErrUnsupportedType)
	}
	r, err := t.raw()
	if err != nil {
		return nil, err
	}
	n := min(r.total/r.width, blockElements)
	return &valueReader{r, decode, make([]byte, n*r.width), make([]float64, n)}, nil
}

// bytes returns the next block in raw form.
func (v *valueReader) bytes() ([]byte, error) { return v.fill(v.buf) }

// values decodes what bytes returned.
func (v *valueReader) values(b []byte) []float64 {
	out := v.out[:int64(len(b))/v.width]
	v.decode(out, b)
	return out
}

func (v *valueReader) next() ([]float64, []byte, error) {
	b, err := v.bytes()
	if err != nil {
		return nil, nil, err
	}
	return v.values(b), b, nil
}

// Pairs reads two tensors of equally many elements side by side and calls fn
// with a block of each, as Values does. same says that the two blocks are equal
// bit for bit; y is x then. Types and ways of storage may differ.
func Pairs(a, b Tensor, fn func(x, y []float64, same bool) error) error {
	na, err := a.Elements()
	if err != nil {
		return err
	}
	nb, err := b.Elements()
	if err != nil {
		return err
	}
	if na != nb {
		return b.errorf("%d elements, %d in %s", nb, na, a.f.Name)
	}
	va, err := a.values()
	if err != nil {
		return err
	}
	defer va.close()
	vb, err := b.values()
	if err != nil {
		return err
	}
	defer vb.close()
	for {
		x, rawX, err := va.next()
		if err != nil {
			return err
		}
		rawY, err := vb.bytes()
		if err != nil {
			return err
		}
		if len(x) == 0 {
			return nil
		}
		if a.DType() == b.DType() && bytes.Equal(rawX, rawY) {
			err = fn(x, x, true)
		} else {
			err = fn(x, vb.values(rawY), false)
		}
		if err != nil {
			return err
		}
	}
}

// SameData tells whether two tensors have the same type, the same dimensions
// and the same data in raw form, bit for bit. Types whose values cannot be read
// can be compared too.
func SameData(a, b Tensor) (bool, error) {
	if a.DType() != b.DType() || !slices.Equal(a.Dims(), b.Dims()) {
		return false, nil
	}
	if a.DType() == DType(onnxpb.TensorProto_STRING) {
		return slices.EqualFunc(a.p.StringData, b.p.StringData, bytes.Equal), nil
	}
	ra, err := a.raw()
	if err != nil {
		return false, err
	}
	defer ra.close()
	rb, err := b.raw()
	if err != nil {
		return false, err
	}
	defer rb.close()
	size := min(ra.total, 1<<18)
	bufA, bufB := make([]byte, size), make([]byte, size)
	for {
		x, err := ra.fill(bufA)
		if err != nil {
			return false, err
		}
		y, err := rb.fill(bufB)
		if err != nil || !bytes.Equal(x, y) {
			return false, err
		}
		if len(x) == 0 {
			return true, nil
		}
	}
}

func rawDecoder(d DType) func(dst []float64, b []byte) {
	le := binary.LittleEndian
	switch onnxpb.TensorProto_DataType(d) {
	case onnxpb.TensorProto_FLOAT:
		return func(dst []float64, b []byte) {
			// Four at a time, so that bounds are checked once for the four.
			for len(dst) >= 4 && len(b) >= 16 {
				d, p := dst[:4], b[:16]
				d[0] = float64(math.Float32frombits(le.Uint32(p)))
				d[1] = float64(math.Float32frombits(le.Uint32(p[4:])))
				d[2] = float64(math.Float32frombits(le.Uint32(p[8:])))
				d[3] = float64(math.Float32frombits(le.Uint32(p[12:])))
				dst, b = dst[4:], b[16:]
			}
			for i := range dst {
				dst[i] = float64(math.Float32frombits(le.Uint32(b[4*i:])))
			}
		}
	case onnxpb.TensorProto_DOUBLE:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = math.Float64frombits(le.Uint64(b[8*i:]))
			}
		}
	case onnxpb.TensorProto_FLOAT16:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = float64(Float16Value(le.Uint16(b[2*i:])))
			}
		}
	case onnxpb.TensorProto_BFLOAT16:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = float64(math.Float32frombits(uint32(le.Uint16(b[2*i:])) << 16))
			}
		}
	case onnxpb.TensorProto_INT64:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = float64(int64(le.Uint64(b[8*i:])))
			}
		}
	case onnxpb.TensorProto_UINT64:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = float64(le.Uint64(b[8*i:]))
			}
		}
	case onnxpb.TensorProto_INT32:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = float64(int32(le.Uint32(b[4*i:])))
			}
		}
	case onnxpb.TensorProto_UINT32:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = float64(le.Uint32(b[4*i:]))
			}
		}
	case onnxpb.TensorProto_INT16:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = float64(int16(le.Uint16(b[2*i:])))
			}
		}
	case onnxpb.TensorProto_UINT16:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = float64(le.Uint16(b[2*i:]))
			}
		}
	case onnxpb.TensorProto_INT8:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = float64(int8(b[i]))
			}
		}
	case onnxpb.TensorProto_UINT8, onnxpb.TensorProto_BOOL:
		return func(dst []float64, b []byte) {
			for i := range dst {
				dst[i] = float64(b[i])
			}
		}
	}
	return nil
}

// Float16Value returns the value of an IEEE 754 half-precision bit pattern.
func Float16Value(h uint16) float32 {
	// Moved into place, the bits are the number times 2^-112; the product is
	// exact, subnormals included.
	const exponents = 31 << 10
	v := math.Float32frombits(uint32(h&0x7fff)<<13) * 0x1p112
	bits := math.Float32bits(v) | uint32(h>>15)<<31
	if h&exponents == exponents {
		bits |= 0xff << 23
	}
	return math.Float32frombits(bits)
}

// Float32s returns all values as float32. limit bounds the number of elements,
// so that a lying shape cannot ask for memory; it fails above it.
func (t Tensor) Float32s(limit int64) ([]float32, error) {
	if err := t.atMost(limit); err != nil {
		return nil, err
	}
	v, err := t.values()
	if err != nil {
		return nil, err
	}
	defer v.close()
	out := make([]float32, 0, v.total/v.width) // as many as are stored, values has checked
	for {
		block, _, err := v.next()
		if err != nil {
			return nil, err
		}
		if len(block) == 0 {
			return out, nil
		}
		for _, x := range block {
			out = append(out, float32(x))
		}
	}
}

// Int64s returns all values of an int64 or int32 tensor, unrounded; limit as in
// Float32s.
func (t Tensor) Int64s(limit int64) ([]int64, error) {
	d := t.DType()
	if d != Int64 && d != Int32 {
		return nil, t.errorf("%s, not int64 or int32", d)
	}
	if err := t.atMost(limit); err != nil {
		return nil, err
	}
	r, err := t.raw()
	if err != nil {
		return nil, err
	}
	defer r.close()
	b, err := r.fill(make([]byte, r.total))
	if err != nil {
		return nil, err
	}
	out := make([]int64, r.total/r.width)
	for i := range out {
		if d == Int64 {
			out[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
		} else {
			out[i] = int64(int32(binary.LittleEndian.Uint32(b[4*i:])))
		}
	}
	return out, nil
}

func (t Tensor) atMost(limit int64) error {
	n, err := t.Elements()
	if err == nil && n > limit {
		err = t.errorf("%d elements, at most %d are expected", n, limit)
	}
	return err
}
