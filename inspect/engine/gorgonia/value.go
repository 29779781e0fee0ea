package gorgonia

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// value is a dense tensor in row-major order: floats, or ints for constants
// that describe shapes. Values are never changed once made.
type value struct {
	shape  []int
	floats []float32
	ints   []int64
}

// dense returns v as a tensor of its own over the same memory: Gorgonia turns
// and untuns operands in place, so headers may not be shared.
func (v *value) dense() *tensor.Dense {
	var data any = v.floats
	if v.ints != nil {
		data = v.ints
	}
	if len(v.shape) == 0 {
		if v.ints != nil {
			return tensor.New(tensor.FromScalar(v.ints[0]))
		}
		return tensor.New(tensor.FromScalar(v.floats[0]))
	}
	return tensor.New(tensor.WithShape(append([]int(nil), v.shape...)...), tensor.WithBacking(data))
}

// fromGorgonia returns the value of a float tensor, in row-major order.
func fromGorgonia(v gorgonia.Value) (*value, error) {
	if d, ok := v.(*tensor.Dense); ok {
		if d.IsView() || d.RequiresIterator() || d.DataOrder().IsColMajor() {
			v = d.Materialize().(*tensor.Dense)
		}
	}
	out := &value{shape: append([]int(nil), v.Shape()...)}
	switch d := v.Data().(type) {
	case []float32:
		out.floats = d
	case float32:
		out.floats = []float32{d}
	default:
		return nil, fmt.Errorf("the backend returned %T", d)
	}
	if n := size(out.shape); n != len(out.floats) {
		return nil, fmt.Errorf("the backend returned %d elements for shape %v", len(out.floats), out.shape)
	}
	return out, nil
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
func (v *value) withShape(shape []int) *value {
	return &value{shape: shape, floats: v.floats, ints: v.ints}
}
