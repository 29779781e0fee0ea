package onnxfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// DType is an ONNX element type (TensorProto.DataType); types newer than the
// schema keep their number.
type DType int32

// The element types that the rest of the program names.
const (
	Float    = DType(onnxpb.TensorProto_FLOAT)
	Float16  = DType(onnxpb.TensorProto_FLOAT16)
	BFloat16 = DType(onnxpb.TensorProto_BFLOAT16)
	Double   = DType(onnxpb.TensorProto_DOUBLE)
	Int64    = DType(onnxpb.TensorProto_INT64)
	Int32    = DType(onnxpb.TensorProto_INT32)
)

// String returns the ONNX name in lower case, "type 99" for one it does not know.
func (d DType) String() string {
	if s, ok := onnxpb.TensorProto_DataType_name[int32(d)]; ok {
		return strings.ToLower(s)
	}
	return fmt.Sprintf("type %d", int32(d))
}

// Bits returns the width of an element in bits, 0 for strings and unknown types.
func (d DType) Bits() int64 {
	switch onnxpb.TensorProto_DataType(d) {
	case onnxpb.TensorProto_UINT2, onnxpb.TensorProto_INT2:
		return 2
	case onnxpb.TensorProto_UINT4, onnxpb.TensorProto_INT4, onnxpb.TensorProto_FLOAT4E2M1:
		return 4
	case onnxpb.TensorProto_FLOAT6E2M3, onnxpb.TensorProto_FLOAT6E3M2:
		return 6
	case onnxpb.TensorProto_UINT8, onnxpb.TensorProto_INT8, onnxpb.TensorProto_BOOL,
		onnxpb.TensorProto_FLOAT8E4M3FN, onnxpb.TensorProto_FLOAT8E4M3FNUZ, onnxpb.TensorProto_FLOAT8E5M2,
		onnxpb.TensorProto_FLOAT8E5M2FNUZ, onnxpb.TensorProto_FLOAT8E8M0:
		return 8
	case onnxpb.TensorProto_UINT16, onnxpb.TensorProto_INT16, onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_BFLOAT16:
		return 16
	case onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_INT32, onnxpb.TensorProto_UINT32:
		return 32
	case onnxpb.TensorProto_DOUBLE, onnxpb.TensorProto_INT64, onnxpb.TensorProto_UINT64, onnxpb.TensorProto_COMPLEX64:
		return 64
	case onnxpb.TensorProto_COMPLEX128:
		return 128
	}
	return 0
}

// IsFloat tells whether d is a floating-point type.
func (d DType) IsFloat() bool {
	switch onnxpb.TensorProto_DataType(d) {
	case onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_DOUBLE, onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_BFLOAT16,
		onnxpb.TensorProto_FLOAT8E4M3FN, onnxpb.TensorProto_FLOAT8E4M3FNUZ, onnxpb.TensorProto_FLOAT8E5M2,
		onnxpb.TensorProto_FLOAT8E5M2FNUZ, onnxpb.TensorProto_FLOAT8E8M0, onnxpb.TensorProto_FLOAT4E2M1,
		onnxpb.TensorProto_FLOAT6E2M3, onnxpb.TensorProto_FLOAT6E3M2:
		return true
	}
	return false
}

// A TensorError says what is wrong with one tensor of a file.
type TensorError struct {
	File, Tensor string
	Err          error
}

func (e *TensorError) Error() string {
	return fmt.Sprintf("%s: tensor %q: %v", e.File, e.Tensor, e.Err)
}

func (e *TensorError) Unwrap() error { return e.Err }

// ErrUnsupportedType says that the numbers of a type cannot be read as values.
var ErrUnsupportedType = errors.New("values of this type cannot be read")

// A Tensor is a tensor of a File: its description at hand, its numbers read on
// demand.
type Tensor struct {
	f *File
	p *onnxpb.TensorProto
}

// Tensor returns a view of p, which must belong to f.Model.
func (f *File) Tensor(p *onnxpb.TensorProto) Tensor { return Tensor{f, p} }

// Name returns the tensor's name as in the file.
func (t Tensor) Name() string { return t.p.GetName() }

// Dims returns the tensor's dimensions as in the file; a hostile file may hold
// negative ones, Elements checks them.
func (t Tensor) Dims() []int64 { return t.p.GetDims() }

// DType returns the element type.
func (t Tensor) DType() DType { return DType(t.p.GetDataType()) }

// Elements returns the product of the dimensions. It fails when one of them is
// negative or the product overflows.
func (t Tensor) Elements() (int64, error) {
	n := int64(1)
	for _, d := range t.p.GetDims() {
		if d < 0 {
			return 0, t.errorf("dimension %d is negative", d)
		}
		if d != 0 && n > math.MaxInt64/16/d {
			return 0, t.errorf("dimensions %v overflow", t.p.GetDims())
		}
		n *= d
	}
	return n, nil
}

func (t Tensor) errorf(format string, a ...any) error {
	return &TensorError{File: t.f.Name, Tensor: t.Name(), Err: fmt.Errorf(format, a...)}
}

// denseBytes is what the elements take in raw form.
func (t Tensor) denseBytes() (int64, error) {
	n, err := t.Elements()
	if err != nil {
		return 0, err
	}
	bits := t.DType().Bits()
	if bits == 0 {
		return 0, t.errorf("%s has no fixed size", t.DType())
	}
	return (n*bits + 7) / 8, nil
}

// StoredBytes returns the bytes that the tensor's numbers take where they are
// stored, in the file or beside it, as the file claims.
func (t Tensor) StoredBytes() int64 {
	if t.p.GetDataLocation() == onnxpb.TensorProto_EXTERNAL {
		for _, kv := range t.p.ExternalData {
			if kv.GetKey() == "length" {
				var n int64
				if _, err := fmt.Sscan(kv.GetValue(), &n); err == nil && n >= 0 {
					return n
				}
			}
		}
		n, err := t.denseBytes()
		if err != nil {
			return 0
		}
		return n
	}
	n := int64(len(t.p.RawData)) + 4*int64(len(t.p.FloatData)) + 8*int64(len(t.p.DoubleData))
	for _, v := range t.p.Int32Data {
		n += int64(protowire.SizeVarint(uint64(v)))
	}
	for _, v := range t.p.Int64Data {
		n += int64(protowire.SizeVarint(uint64(v)))
	}
	for _, v := range t.p.Uint64Data {
		n += int64(protowire.SizeVarint(v))
	}
	for _, s := range t.p.StringData {
		n += int64(len(s))
	}
	for _, p := range t.p.FilterlensPayload {
		n += p.GetLength()
	}
	return n
}

// source is where a tensor's numbers lie: a range of r, in the encoding of a
// TensorProto field (9 is raw).
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

// open finds the numbers of t. ok is false when they are decoded already and
// stand in the typed fields of the skeleton.
func (t Tensor) open() (s source, ok bool, err error) {
	if t.p.Segment != nil {
		return s, false, t.errorf("segmented tensors are not supported")
	}
	if t.p.GetDataLocation() == onnxpb.TensorProto_EXTERNAL {
		ext, off, n, err := t.f.externalRange(t.p)
		if err != nil {
			return s, false, err
		}
		return source{r: ext, c: ext, off: off, n: n, field: 9}, true, nil
	}
	inline := len(t.p.FloatData) + len(t.p.Int32Data) + len(t.p.Int64Data) + len(t.p.DoubleData) + len(t.p.Uint64Data)
	switch {
	case len(t.p.FilterlensPayload) == 1 && inline == 0 && t.p.RawData == nil:
		p := t.p.FilterlensPayload[0]
		return source{r: t.f.r, off: p.GetOffset(), n: p.GetLength(), field: p.GetField()}, true, nil
	case len(t.p.FilterlensPayload) > 0:
		return s, false, t.errorf("its data is stored in several pieces")
	case t.p.RawData != nil:
		return source{r: bytesAt(t.p.RawData), n: int64(len(t.p.RawData)), field: 9}, true, nil
	}
	return s, false, nil
}

// blockElements is how many values a block of Values holds at most.
const blockElements = 1 << 15

// Values calls fn with the tensor's values as float64, in order, a block at a
// time; the block is valid during the call only. Floating-point types up to 64
// bits, integers from 8 to 64 bits and bool are read; integers beyond 2^53 are
// rounded. It fails on other types (ErrUnsupportedType) and when the number of
// values is not the product of the dimensions, before fn is called where that
// can be known. Memory is bounded by the block.
func (t Tensor) Values(fn func(block []float64) error) error {
	want, err := t.Elements()
	if err != nil {
		return err
	}
	s, stored, err := t.open()
	if err != nil {
		return err
	}
	if !stored {
		return t.inlineValues(want, fn)
	}
	defer s.close()
	switch s.field {
	case 9:
		return t.rawValues(s, want, fn)
	case 4, 10:
		width, dt := int64(4), Float
		if s.field == 10 {
			width, dt = 8, Double
		}
		if t.DType() != dt {
			return t.errorf("%s values stored as %s", t.DType(), dt)
		}
		if s.n != want*width {
			return t.errorf("%d bytes stored, %v needs %d", s.n, t.Dims(), want*width)
		}
		return t.rawValues(s, want, fn)
	}
	return t.varintValues(s, want, fn)
}

func (t Tensor) rawValues(s source, want int64, fn func([]float64) error) error {
	dec := rawDecoder(t.DType())
	if dec == nil {
		return t.errorf("%s: %w", t.DType(), ErrUnsupportedType)
	}
	width := t.DType().Bits() / 8
	if s.n != want*width {
		return t.errorf("%d bytes stored, %v of %s needs %d", s.n, t.Dims(), t.DType(), want*width)
	}
	buf := make([]byte, min(want, blockElements)*width)
	out := make([]float64, min(want, blockElements))
	for done := int64(0); done < want; {
		k := min(want-done, blockElements)
		if _, err := readFull(s.r, buf[:k*width], s.off+done*width); err != nil {
			return t.errorf("%w", err)
		}
		dec(out[:k], buf[:k*width])
		if err := fn(out[:k]); err != nil {
			return err
		}
		done += k
	}
	return nil
}

func readFull(r io.ReaderAt, b []byte, off int64) (int, error) {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = errors.New("the file became shorter while it was read")
	}
	return n, err
}

func rawDecoder(d DType) func(dst []float64, b []byte) {
	le := binary.LittleEndian
	switch onnxpb.TensorProto_DataType(d) {
	case onnxpb.TensorProto_FLOAT:
		return func(dst []float64, b []byte) {
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
	sign := uint32(h>>15) << 31
	exp := uint32(h>>10) & 31
	frac := uint32(h) & 1023
	switch exp {
	case 0:
		v := float32(frac) / (1 << 24)
		if sign != 0 {
			return float32(math.Copysign(float64(v), -1))
		}
		return v
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// varintValues decodes packed int32_data, int64_data and uint64_data.
func (t Tensor) varintValues(s source, want int64, fn func([]float64) error) error {
	conv, err := t.typedInt(s.field)
	if err != nil {
		return err
	}
	// Each value takes at least one byte, so a lying dimension costs nothing.
	if want > s.n {
		return t.errorf("%d bytes stored, %v has %d values", s.n, t.Dims(), want)
	}
	r := io.NewSectionReader(s.r, s.off, s.n)
	in := make([]byte, 0, windowBytes)
	out := make([]float64, 0, blockElements)
	total := int64(0)
	for {
		k, rerr := r.Read(in[len(in):cap(in)])
		in = in[:len(in)+k]
		used := 0
		for used < len(in) {
			v, w := protowire.ConsumeVarint(in[used:])
			if w < 0 {
				if rerr == nil && len(in)-used < protowireMax {
					break // the rest of it is in the next block
				}
				return t.errorf("%w", protowire.ParseError(w))
			}
			used += w
			total++
			if out = append(out, conv(v)); len(out) == cap(out) {
				if err := fn(out); err != nil {
					return err
				}
				out = out[:0]
			}
		}
		in = in[:copy(in, in[used:])]
		if rerr == io.EOF {
			break
		}
		if rerr != nil {
			return t.errorf("%w", rerr)
		}
	}
	if total != want {
		return t.errorf("%d values stored, %v needs %d", total, t.Dims(), want)
	}
	if len(out) > 0 {
		return fn(out)
	}
	return nil
}

// typedInt returns how a varint of the given TensorProto field becomes a value
// of the tensor's type; the small types all travel in int32_data.
func (t Tensor) typedInt(field int32) (func(uint64) float64, error) {
	d := onnxpb.TensorProto_DataType(t.DType())
	switch {
	case field == 7 && d == onnxpb.TensorProto_INT64:
		return func(v uint64) float64 { return float64(int64(v)) }, nil
	case field == 11 && (d == onnxpb.TensorProto_UINT64 || d == onnxpb.TensorProto_UINT32):
		return func(v uint64) float64 { return float64(v) }, nil
	case field == 5:
		switch d {
		case onnxpb.TensorProto_FLOAT16:
			return func(v uint64) float64 { return float64(Float16Value(uint16(v))) }, nil
		case onnxpb.TensorProto_BFLOAT16:
			return func(v uint64) float64 { return float64(math.Float32frombits(uint32(uint16(v)) << 16)) }, nil
		case onnxpb.TensorProto_INT32, onnxpb.TensorProto_INT16, onnxpb.TensorProto_INT8, onnxpb.TensorProto_UINT16,
			onnxpb.TensorProto_UINT8, onnxpb.TensorProto_BOOL:
			return func(v uint64) float64 { return float64(int32(v)) }, nil
		}
	}
	return nil, t.errorf("%s: %w", t.DType(), ErrUnsupportedType)
}

func (t Tensor) inlineValues(want int64, fn func([]float64) error) error {
	var out []float64
	switch d := onnxpb.TensorProto_DataType(t.DType()); d {
	case onnxpb.TensorProto_FLOAT:
		for _, v := range t.p.FloatData {
			out = append(out, float64(v))
		}
	case onnxpb.TensorProto_DOUBLE:
		out = append(out, t.p.DoubleData...)
	case onnxpb.TensorProto_INT64:
		for _, v := range t.p.Int64Data {
			out = append(out, float64(v))
		}
	case onnxpb.TensorProto_UINT64, onnxpb.TensorProto_UINT32:
		for _, v := range t.p.Uint64Data {
			out = append(out, float64(v))
		}
	default:
		conv, err := t.typedInt(5)
		if err != nil {
			return err
		}
		for _, v := range t.p.Int32Data {
			out = append(out, conv(uint64(v)))
		}
	}
	if int64(len(out)) != want {
		return t.errorf("%d values stored, %v needs %d", len(out), t.Dims(), want)
	}
	for len(out) > 0 {
		k := min(len(out), blockElements)
		if err := fn(out[:k]); err != nil {
			return err
		}
		out = out[k:]
	}
	return nil
}

// Float32s returns all values as float32. limit bounds the number of elements,
// so that a lying shape cannot ask for memory; it fails above it.
func (t Tensor) Float32s(limit int64) ([]float32, error) {
	var out []float32
	err := t.collect(limit, func(n int64) { out = make([]float32, 0, n) }, func(block []float64) {
		for _, v := range block {
			out = append(out, float32(v))
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Int64s returns all values of an int64 or int32 tensor; limit as in Float32s.
func (t Tensor) Int64s(limit int64) ([]int64, error) {
	if d := t.DType(); d != Int64 && d != Int32 {
		return nil, t.errorf("%s, not integers", d)
	}
	n, err := t.Elements()
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, t.errorf("%d elements, at most %d are expected", n, limit)
	}
	// Through float64 values beyond 2^53 would be rounded, and the end of a
	// Slice is often the largest integer.
	if t.DType() == Int64 {
		s, stored, err := t.open()
		if err != nil {
			return nil, err
		}
		if !stored {
			if int64(len(t.p.Int64Data)) != n {
				return nil, t.errorf("%d values stored, %v needs %d", len(t.p.Int64Data), t.Dims(), n)
			}
			return append([]int64(nil), t.p.Int64Data...), nil
		}
		defer s.close()
		if s.field == 9 {
			if s.n != 8*n {
				return nil, t.errorf("%d bytes stored, %v needs %d", s.n, t.Dims(), 8*n)
			}
			b := make([]byte, s.n)
			if _, err := readFull(s.r, b, s.off); err != nil {
				return nil, t.errorf("%w", err)
			}
			out := make([]int64, n)
			for i := range out {
				out[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
			}
			return out, nil
		}
	}
	var out []int64
	err = t.Values(func(block []float64) error {
		for _, v := range block {
			out = append(out, int64(v))
		}
		return nil
	})
	return out, err
}

func (t Tensor) collect(limit int64, alloc func(int64), add func([]float64)) error {
	n, err := t.Elements()
	if err != nil {
		return err
	}
	if n > limit {
		return t.errorf("%d elements, at most %d are expected", n, limit)
	}
	first := true
	return t.Values(func(block []float64) error {
		if first {
			alloc(n) // Values has checked by now that so many are stored
			first = false
		}
		add(block)
		return nil
	})
}
