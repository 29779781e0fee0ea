package gorgonia

import (
	"fmt"
	"unsafe"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// binding makes the kernel of a node.
type binding = func(b *binder) (kernel, error)

// byType has a binding for each type that the first input may have, nil where
// there is none.
type byType struct {
	f32, f64, i64, i32, i16, i8, u64, u32, u16, u8 binding
}

// bind runs the binding for the type of input i. Booleans are bytes here.
func (t byType) bind(b *binder, i int) (kernel, error) {
	var f binding
	switch b.in[i].dtype {
	case onnxfile.Float:
		f = t.f32
	case onnxfile.Double:
		f = t.f64
	case onnxfile.Int64:
		f = t.i64
	case onnxfile.Int32:
		f = t.i32
	case int16Type:
		f = t.i16
	case int8Type:
		f = t.i8
	case uint64Type:
		f = t.u64
	case uint32Type:
		f = t.u32
	case uint16Type:
		f = t.u16
	case uint8Type, boolType:
		f = t.u8
	}
	if f == nil {
		return nil, fmt.Errorf("input %d has type %s, which is lacking", i, b.in[i].dtype)
	}
	return f(b)
}

// elements returns the numbers of v, booleans as bytes when T is uint8.
func elements[T compute.Number](v *value) []T {
	if b, ok := v.data.([]bool); ok {
		return over[T](b)
	}
	return v.data.([]T)
}

// bits is a type as wide as elements that are moved and not looked at.
type bits interface {
	uint8 | uint16 | uint32 | uint64
}

// asBits returns the elements of v, which are as wide as T, as numbers of that
// width.
func asBits[T bits](v *value) []T {
	switch d := v.data.(type) {
	case []float32:
		return over[T](d)
	case []float64:
		return over[T](d)
	case []int64:
		return over[T](d)
	case []int32:
		return over[T](d)
	case []int16:
		return over[T](d)
	case []int8:
		return over[T](d)
	case []uint64:
		return over[T](d)
	case []uint32:
		return over[T](d)
	case []uint16:
		return over[T](d)
	case []uint8:
		return over[T](d)
	case []bool:
		return over[T](d)
	}
	return nil
}

func over[T, S element](d []S) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(d))), len(d))
}

// moved is a kernel of one result that moves elements of the width of type d:
// one of four forms of the same function.
func moved(s spec, one, two, four, eight func(r *run, in []*value, out *value) error) kernel {
	storage, _ := storageFor(s.dtype)
	f := map[int]func(r *run, in []*value, out *value) error{1: one, 2: two, 4: four, 8: eight}[storage.width]
	return &each{s, f}
}

// several is a kernel of several results that is made by a function.
type several struct {
	specs []spec
	f     func(r *run, in, out []*value) error
}

func (k *several) results() []spec { return k.specs }

func (k *several) run(r *run, in, out []*value) error { return k.f(r, in, out) }

// sameTypes refuses inputs from the given one on that have another type than it.
func (b *binder) sameTypes(from int) error {
	for i, o := range b.in[from:] {
		if o.dtype != 0 && o.dtype != b.in[from].dtype {
			return fmt.Errorf("inputs %d and %d have types %s and %s", from, from+i, b.in[from].dtype, o.dtype)
		}
	}
	return nil
}

// indices64 returns the integers of v, of type int64 or int32.
func indices64(v *value) []int64 {
	if d, ok := v.data.([]int32); ok {
		wide := make([]int64, len(d))
		compute.Convert(wide, d)
		return wide
	}
	return v.ints()
}
