package duel

import (
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Tolerance says how far apart numbers may be that two engines compute: Abs plus
// Rel times the largest magnitude of the numbers that they stand among, those of a
// tensor or, of outputs, of a sample. A number near zero in a tensor of large ones
// is a difference of large ones, so that its own magnitude says nothing.
type Tolerance struct {
	Rel, Abs float64
}

// DefaultTolerance is what sums in another order, in float32, stay within in
// networks of some hundred layers.
func DefaultTolerance() Tolerance { return Tolerance{Rel: 1e-4, Abs: 1e-6} }

// Check refuses what is no tolerance.
func (t Tolerance) Check() error {
	for _, v := range []float64{t.Rel, t.Abs} {
		if !(v >= 0) || math.IsInf(v, 0) {
			return fmt.Errorf("a tolerance cannot be %v", v)
		}
	}
	return nil
}

// Beyond tells whether a difference is more than the tolerance allows. Integers and
// booleans must be equal.
func (t Tolerance) Beyond(d *Difference) bool {
	if d.exact {
		return d.Max > 0
	}
	return !(d.Max <= t.Abs+t.Rel*d.Largest)
}

// Difference is what parts two tensors of one shape and type.
type Difference struct {
	// Values counts the numbers compared, Largest is the largest magnitude among
	// the finite ones of the first tensor.
	Values  int64
	Largest float64
	// Max is the largest |b-a|, At the index of the first such number, A and B what
	// the tensors hold there. Max is infinite where one is NaN or infinite and the
	// other is not the same. At is nil when all are equal.
	Max  float64
	At   []int64
	A, B float64

	exact bool
}

// Relative returns Max as a share of Largest: 0 where all are equal, infinite where
// only the first tensor is all zero.
func (d *Difference) Relative() float64 {
	if d.Max == 0 {
		return 0
	}
	return d.Max / d.Largest
}

// ShapeError says that two engines made tensors of different shapes of the same input:
// they part, and there is nothing to subtract.
type ShapeError struct{ A, B []int64 }

func (e *ShapeError) Error() string {
	return fmt.Sprintf("the shapes are %v and %v", e.A, e.B)
}

// Compare returns the difference of two tensors whose element type is dtype, as
// engine.Value has it. Tensors of different shapes are a *ShapeError; those of different
// types are an error, and so are those whose elements are no numbers.
func Compare(a, b *engine.Tensor, dtype string) (Difference, error) {
	if !slices.Equal(a.Shape, b.Shape) {
		return Difference{}, &ShapeError{a.Shape, b.Shape}
	}
	x, err := read(a, dtype)
	if err != nil {
		return Difference{}, err
	}
	y, err := read(b, dtype)
	if err != nil {
		return Difference{}, err
	}
	if x.kind != y.kind || x.n != y.n {
		return Difference{}, fmt.Errorf("the types are %s and %s, of %d and %d elements", x.kind, y.kind, x.n, y.n)
	}
	d := Difference{exact: x.exact}
	at := d.add(x, y, 0, x.n)
	if at >= 0 {
		d.At = index(a.Shape, at)
	}
	return d, nil
}

// add compares the elements from lo to hi and returns the position of the largest
// difference, -1 for none.
func (d *Difference) add(x, y numbers, lo, hi int) (at int) {
	at = -1
	for i := lo; i < hi; i++ {
		a, b := x.at(i), y.at(i)
		if v := math.Abs(a); v > d.Largest && !math.IsInf(v, 0) {
			d.Largest = v
		}
		if v := distance(a, b); v > d.Max {
			d.Max, d.A, d.B, at = v, a, b, i
		}
	}
	d.Values += int64(hi - lo)
	return at
}

func distance(a, b float64) float64 {
	if a == b || a != a && b != b {
		return 0
	}
	if v := math.Abs(b - a); v == v {
		return v
	}
	return math.Inf(1)
}

// index returns the index of element i of a tensor of that shape.
func index(shape []int64, i int) []int64 {
	at := make([]int64, len(shape))
	rest := int64(i)
	for k := len(shape) - 1; k >= 0; k-- {
		at[k] = rest % shape[k]
		rest /= shape[k]
	}
	return at
}

// numbers are the elements of a tensor. exact tells that they are integers.
type numbers struct {
	kind  string
	n     int
	exact bool
	at    func(i int) float64
}

func read(t *engine.Tensor, dtype string) (numbers, error) {
	if h, ok := t.Data.([]uint16); ok {
		switch dtype {
		case "float16":
			return numbers{dtype, len(h), false, func(i int) float64 { return float64(onnxfile.Float16Value(h[i])) }}, nil
		case "bfloat16":
			return numbers{dtype, len(h), false, func(i int) float64 { return float64(math.Float32frombits(uint32(h[i]) << 16)) }}, nil
		}
	}
	switch v := t.Data.(type) {
	case []float32:
		return numbers{"float", len(v), false, func(i int) float64 { return float64(v[i]) }}, nil
	case []float64:
		return numbers{"double", len(v), false, func(i int) float64 { return v[i] }}, nil
	case []int64:
		return integers("int64", v), nil
	case []int32:
		return integers("int32", v), nil
	case []int16:
		return integers("int16", v), nil
	case []int8:
		return integers("int8", v), nil
	case []uint8:
		return integers("uint8", v), nil
	case []uint16:
		return integers("uint16", v), nil
	case []uint32:
		return integers("uint32", v), nil
	case []uint64:
		return integers("uint64", v), nil
	case []bool:
		return numbers{"bool", len(v), true, func(i int) float64 {
			if v[i] {
				return 1
			}
			return 0
		}}, nil
	}
	return numbers{}, fmt.Errorf("elements of Go type %T are no numbers", t.Data)
}

func integers[T int64 | int32 | int16 | int8 | uint8 | uint16 | uint32 | uint64](kind string, v []T) numbers {
	return numbers{kind, len(v), true, func(i int) float64 { return float64(v[i]) }}
}
