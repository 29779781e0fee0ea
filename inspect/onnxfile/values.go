package onnxfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// blockElements is how many values a block of Values holds at most. A multiple
// of four, so that the blocks of every type begin with a byte.
const blockElements = 1 << 15

// ErrSequential says that a tensor's numbers can only be read from the front:
// they are stored as varints, whose place depends on all before them.
var ErrSequential = errors.New("its numbers are stored as varints and can only be read from the first one on")

// Values calls fn with the tensor's values as float64, in order, in blocks of
// 32,768 (the last may be shorter); a block is valid during the call only, and
// fn may overwrite it. Readable are all types of floating-point numbers and
// integers, packed ones too, and bool; integers beyond 2^53 are rounded. Strings,
// complex numbers and types newer than the schema give ErrUnsupportedType. It
// fails when the number of values is not the product of the dimensions, before
// fn is called except for packed varints, which only reading can count. Memory
// is bounded by the block.
func (t Tensor) Values(fn func(block []float64) error) error {
	v, err := t.values()
	if err != nil {
		return err
	}
	return v.each(fn)
}

// ValuesIn is Values of the elements [from, to), which must lie within the
// tensor. Several goroutines may read parts of one tensor at the same time. A
// part that does not begin with the first element gives ErrSequential when the
// numbers are stored as varints (int32_data, int64_data, uint64_data).
func (t Tensor) ValuesIn(from, to int64, fn func(block []float64) error) error {
	v, err := t.valuesIn(from, to)
	if err != nil {
		return err
	}
	return v.each(fn)
}

// Float32sIn is ValuesIn in single precision, for readers that want the numbers
// of float tensors at the speed of memory: values of other types are rounded to
// float32 where they do not fit. The blocks lie in buf and are as long as it (its
// length rounded down to a multiple of four; the first and the last block may be
// shorter), so that a reader of many tensors needs no memory for each. A buf of
// fewer than four elements, such as nil, is replaced by one of 32,768.
func (t Tensor) Float32sIn(from, to int64, buf []float32, fn func(block []float32) error) error {
	v, err := t.valuesIn(from, to)
	if err != nil {
		return err
	}
	defer v.close()
	v.intoSingles(buf)
	for {
		b, err := v.bytes()
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return nil
		}
		if err := fn(v.singles(b)); err != nil {
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

// valueReader is a rawReader with the numbers decoded, in double precision
// (values) or in single precision (singles).
type valueReader struct {
	*rawReader
	skip   int64     // elements of the next block that were not asked for
	left   int64     // elements not read yet, those included
	size   int64     // elements of a block
	n      int64     // elements of the last block
	buf    []byte    // a block in raw form
	floats []float32 // buf as what it is, for the most frequent type
	wide   func(dst []float64, b []byte)
	narrow func(dst []float32, b []byte)
	out    []float64
	single []float32
}

func (t Tensor) values() (*valueReader, error) {
	n, err := t.Elements()
	if err != nil {
		return nil, err
	}
	return t.valuesIn(0, n)
}

func (t Tensor) valuesIn(from, to int64) (*valueReader, error) {
	if !decodable(t.DType()) {
		return nil, t.errorf("%s: %w", t.DType(), ErrUnsupportedType)
	}
	n, err := t.Elements()
	if err != nil {
		return nil, err
	}
	if from < 0 || to < from || to > n {
		return nil, t.errorf("elements [%d, %d) of %d", from, to, n)
	}
	r, err := t.raw()
	if err != nil {
		return nil, err
	}
	if from > 0 && r.varints() {
		r.close()
		return nil, t.errorf("%w", ErrSequential)
	}
	skip := from % 4
	if from == to {
		skip = 0
	}
	v := &valueReader{rawReader: r, skip: skip, left: to - from + skip}
	v.size = min(v.left, blockElements)
	if !r.varints() {
		r.seek(v.bytesOf(from - skip))
	}
	return v, nil
}

// intoSingles has blocks in single precision put into buf.
func (v *valueReader) intoSingles(buf []float32) {
	if len(buf) < 4 {
		buf = make([]float32, (v.size+3)&^3)
	}
	v.size = min(v.left, int64(len(buf))&^3)
	v.single = buf[:v.size]
	if v.t.DType() == Float {
		v.floats = v.single
		v.buf = bytesOfFloats(v.floats)
	}
}

// bytesOf returns what n elements from the start of a byte take.
func (v *valueReader) bytesOf(n int64) int64 { return (n*v.t.DType().Bits() + 7) / 8 }

// each calls fn with every block and closes v.
func (v *valueReader) each(fn func(block []float64) error) error {
	defer v.close()
	for {
		b, err := v.bytes()
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return nil
		}
		if err := fn(v.values(b)); err != nil {
			return err
		}
	}
}

// bytes returns the next block in raw form.
func (v *valueReader) bytes() ([]byte, error) {
	if v.buf == nil {
		if v.t.DType() == Float {
			v.floats = make([]float32, v.size)
			v.buf = bytesOfFloats(v.floats)
		} else {
			v.buf = make([]byte, v.bytesOf(v.size))
		}
	}
	v.n = min(v.left, v.size)
	v.left -= v.n
	return v.fill(v.buf[:v.bytesOf(v.n)])
}

// values decodes what bytes returned.
func (v *valueReader) values(b []byte) []float64 {
	if v.out == nil {
		v.out = make([]float64, v.size)
	}
	out := v.out[:v.n]
	if v.floats != nil {
		floats := littleEndian(v.floats[:v.n])
		for i, x := range floats[:len(out)] {
			out[i] = float64(x)
		}
	} else {
		if v.wide == nil {
			v.wide = decoder[float64](v.t.DType())
		}
		v.wide(out, b)
	}
	out = out[v.skip:]
	v.skip = 0
	return out
}

// singles is values in single precision.
func (v *valueReader) singles(b []byte) []float32 {
	var out []float32
	if v.floats != nil {
		out = littleEndian(v.floats[:v.n])
	} else {
		if v.single == nil {
			v.single = make([]float32, v.size)
		}
		if v.narrow == nil {
			v.narrow = decoder[float32](v.t.DType())
		}
		out = v.single[:v.n]
		v.narrow(out, b)
	}
	out = out[v.skip:]
	v.skip = 0
	return out
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
		rawX, err := va.bytes()
		if err != nil {
			return err
		}
		rawY, err := vb.bytes()
		if err != nil {
			return err
		}
		if len(rawX) == 0 {
			return nil
		}
		same := a.DType() == b.DType() && bytes.Equal(rawX, rawY)
		x := va.values(rawX)
		y := x
		if !same {
			y = vb.values(rawY)
		}
		if err := fn(x, y, same); err != nil {
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
	out := make([]float32, v.left) // as many as are stored, values has checked
	for at := 0; ; {
		b, err := v.bytes()
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			return out, nil
		}
		at += copy(out[at:], v.singles(b))
	}
}

// Int64s returns all values of a tensor of integers, unrounded; limit as in
// Float32s. It fails for bool and for a uint64 beyond the largest int64.
func (t Tensor) Int64s(limit int64) ([]int64, error) {
	d := t.DType()
	if !d.IsInteger() {
		return nil, t.errorf("%s is no integer type", d)
	}
	if err := t.atMost(limit); err != nil {
		return nil, err
	}
	v, err := t.values()
	if err != nil {
		return nil, err
	}
	defer v.close()
	out := make([]int64, 0, v.left) // as many as are stored, values has checked
	for {
		b, err := v.bytes()
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			return out, nil
		}
		if d.Bits() < 64 { // exact as float64
			for _, x := range v.values(b) {
				out = append(out, int64(x))
			}
			continue
		}
		for ; len(b) > 0; b = b[8:] {
			x := binary.LittleEndian.Uint64(b)
			if x > math.MaxInt64 && d == DType(onnxpb.TensorProto_UINT64) {
				return nil, t.errorf("element %d is %d, beyond the largest int64", len(out), x)
			}
			out = append(out, int64(x))
		}
	}
}

func (t Tensor) atMost(limit int64) error {
	n, err := t.Elements()
	if err == nil && n > limit {
		err = t.errorf("%d elements, at most %d are expected", n, limit)
	}
	return err
}
