package gorgonia

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// The element types that are computed, beside those that onnxfile names.
const (
	boolType   = onnxfile.DType(onnxpb.TensorProto_BOOL)
	int8Type   = onnxfile.DType(onnxpb.TensorProto_INT8)
	int16Type  = onnxfile.DType(onnxpb.TensorProto_INT16)
	uint8Type  = onnxfile.DType(onnxpb.TensorProto_UINT8)
	uint16Type = onnxfile.DType(onnxpb.TensorProto_UINT16)
	uint32Type = onnxfile.DType(onnxpb.TensorProto_UINT32)
	uint64Type = onnxfile.DType(onnxpb.TensorProto_UINT64)
)

// value is a dense tensor in row-major order. data is a slice of the Go type
// that belongs to dtype: []float32, []float64, []int8 to []int64, []uint8 to
// []uint64, []bool, and []uint16 for the bit patterns of float16 and bfloat16.
// Whoever is given a value to read never changes it.
type value struct {
	dtype onnxfile.DType
	shape []int
	data  any
}

// spec is what is known of a value before the run.
type spec struct {
	dtype onnxfile.DType
	shape []int
}

// newValue returns a value of zeros in memory of its own.
func newValue(s spec) *value {
	return &value{s.dtype, s.shape, makeData(s.dtype, size(s.shape))}
}

// floatValue, intValue return a value over data, which is not copied.
func floatValue(data []float32, shape ...int) *value { return &value{onnxfile.Float, shape, data} }
func intValue(data []int64, shape ...int) *value     { return &value{onnxfile.Int64, shape, data} }

func (v *value) spec() spec { return spec{v.dtype, v.shape} }

// The data of a value, nil when it has another type.
func (v *value) floats() []float32  { return typed[float32](v) }
func (v *value) doubles() []float64 { return typed[float64](v) }
func (v *value) ints() []int64      { return typed[int64](v) }
func (v *value) bools() []bool      { return typed[bool](v) }

// typed returns the data of v, nil when it has another Go type or v is nil.
func typed[T element](v *value) []T {
	if v == nil {
		return nil
	}
	d, _ := v.data.([]T)
	return d
}

// element is a Go type that tensors are made of.
type element interface {
	float32 | float64 | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | bool
}

// storage describes the Go type of one element type.
type storage struct {
	width int // bytes
	make  func(n int) any
	over  func(words []uint64, n int) any
	bytes func(data any) []byte
	len   func(data any) int
	clone func(data any) any
	copy  func(dst, src any)
}

func storageOf[T element]() storage {
	var zero T
	width := int(unsafe.Sizeof(zero))
	return storage{
		width: width,
		make:  func(n int) any { return make([]T, n) },
		over:  func(words []uint64, n int) any { return slice[T](words, n) },
		bytes: func(data any) []byte {
			d := data.([]T)
			return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(d))), width*len(d))
		},
		len:   func(data any) int { return len(data.([]T)) },
		clone: func(data any) any { return slices.Clone(data.([]T)) },
		copy:  func(dst, src any) { copy(dst.([]T), src.([]T)) },
	}
}

// slice is memory as n elements of type T.
func slice[T element](words []uint64, n int) []T {
	if n == 0 {
		return []T{} // not nil, which stands for another type
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(words))), n)
}

// storageFor returns how elements of type d are held; not ok for a type that
// this engine does not hold.
func storageFor(d onnxfile.DType) (s storage, ok bool) {
	switch d {
	case onnxfile.Float:
		return storageOf[float32](), true
	case onnxfile.Double:
		return storageOf[float64](), true
	case onnxfile.Int64:
		return storageOf[int64](), true
	case onnxfile.Int32:
		return storageOf[int32](), true
	case int16Type:
		return storageOf[int16](), true
	case int8Type:
		return storageOf[int8](), true
	case uint8Type:
		return storageOf[uint8](), true
	case uint16Type, onnxfile.Float16, onnxfile.BFloat16:
		return storageOf[uint16](), true
	case uint32Type:
		return storageOf[uint32](), true
	case uint64Type:
		return storageOf[uint64](), true
	case boolType:
		return storageOf[bool](), true
	}
	return storage{}, false
}

// makeData returns n zeros of type d, nil for a type that is not held.
func makeData(d onnxfile.DType, n int) any {
	if s, ok := storageFor(d); ok {
		return s.make(n)
	}
	return nil
}

// holds says whether data is a slice of the Go type for d, and its length.
func holds(d onnxfile.DType, data any) (n int, ok bool) {
	switch x := data.(type) {
	case []float32:
		return len(x), d == onnxfile.Float
	case []float64:
		return len(x), d == onnxfile.Double
	case []int64:
		return len(x), d == onnxfile.Int64
	case []int32:
		return len(x), d == onnxfile.Int32
	case []int16:
		return len(x), d == int16Type
	case []int8:
		return len(x), d == int8Type
	case []uint8:
		return len(x), d == uint8Type
	case []uint16:
		return len(x), d == uint16Type || d == onnxfile.Float16 || d == onnxfile.BFloat16
	case []uint32:
		return len(x), d == uint32Type
	case []uint64:
		return len(x), d == uint64Type
	case []bool:
		return len(x), d == boolType
	}
	return 0, false
}

// size is the number of elements of a shape that has passed checkedSize.
func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// maxElements bounds a tensor, 4 GiB of numbers, because shapes come from files.
const maxElements = 1 << 30

// checkedSize is size for a shape from outside: negative dimensions and tensors
// above maxElements are refused.
func checkedSize[T int | int64](shape []T) (int, error) {
	n := int64(1)
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v is negative", shape)
		}
		if d > 0 && n > maxElements/int64(d) {
			return 0, fmt.Errorf("shape %v has more than %d elements; use smaller batches", shape, maxElements)
		}
		n *= int64(d)
	}
	return int(n), nil
}

// withShape returns v under another shape of the same size.
func (v *value) withShape(shape []int) *value { return &value{v.dtype, shape, v.data} }

// readConstant reads a tensor of the file into memory of its own, once. A type that
// is not held gives a value without data, for rules to refuse.
func readConstant(t onnxfile.Tensor) (*value, error) {
	n, err := checkedSize(t.Dims())
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.Name(), err)
	}
	v := &value{dtype: t.DType(), shape: toInts(t.Dims())}
	s, ok := storageFor(v.dtype)
	if !ok {
		return v, nil
	}
	raw, err := t.Raw(nil) // sees that as much is stored as the shape says
	if err != nil {
		return nil, err
	}
	if v.dtype == onnxfile.Float {
		// Read in one piece, straight to where it stays.
		data := make([]float32, (n+3)&^3)
		err := t.Float32sIn(0, int64(n), data, func([]float32) error { return nil })
		v.data = data[:n:n]
		return v, err
	}
	v.data = s.make(n)
	w := filler{s.bytes(v.data)}
	if _, err := raw.WriteTo(&w); err != nil {
		return nil, err
	}
	fromLittleEndian(s.bytes(v.data), s.width)
	if b, ok := v.data.([]bool); ok {
		// A file may hold any byte for true, a bool in Go may not.
		for i, x := range s.bytes(v.data) {
			b[i] = x != 0
		}
	}
	return v, nil
}

// filler is a writer into memory.
type filler struct{ left []byte }

func (f *filler) Write(b []byte) (int, error) {
	if len(b) > len(f.left) {
		return 0, onnxfile.ErrChanged
	}
	f.left = f.left[copy(f.left, b):]
	return len(b), nil
}

// fromLittleEndian turns the bytes of numbers of a file into those of this
// machine.
func fromLittleEndian(b []byte, width int) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return
	}
	for ; len(b) >= width; b = b[width:] {
		slices.Reverse(b[:width])
	}
}
