package compute

import (
	"fmt"
	"math"
)

// Float are the types in which floating-point arithmetic is done.
type Float interface{ float32 | float64 }

// Integer are the integers of tensors.
type Integer interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64
}

// Number are the numbers of tensors.
type Number interface{ Float | Integer }

// Binary is a function of two numbers in the forms that broadcasting needs. In
// each, dst has the length of the operands that are slices.
type Binary[T, R any] struct {
	// Both takes both numbers from slices, Left only the first one, Right only
	// the second one.
	Both  func(dst []R, x, y []T)
	Left  func(dst []R, x []T, y T)
	Right func(dst []R, x T, y []T)
}

// BroadcastShape returns the shape that shapes broadcast to: aligned at the last
// dimension, each dimension 1 or that of the result. It fails when they do not.
func BroadcastShape(shapes ...[]int) ([]int, error) {
	rank := 0
	for _, s := range shapes {
		rank = max(rank, len(s))
	}
	out := make([]int, rank)
	for i := range out {
		out[i] = 1
		for _, s := range shapes {
			k := i - rank + len(s)
			if k < 0 || s[k] == 1 || s[k] == out[i] {
				continue
			}
			if out[i] != 1 {
				return nil, fmt.Errorf("shapes %v do not broadcast", shapes)
			}
			out[i] = s[k]
		}
	}
	return out, nil
}

// Broadcast computes op over x and y, whose shapes broadcast to shape, into dst
// of that shape.
func Broadcast[T, R any](w *Workers, op Binary[T, R], dst []R, shape []int, x []T, xShape []int, y []T, yShape []int) {
	dims := broadcastDims(shape, xShape, yShape)
	last := dims[len(dims)-1].step
	walk(w, dims, func(at int, off [3]int, n int) {
		d := dst[at : at+n : at+n]
		switch {
		case last[0] == 0 && last[1] == 0:
			op.Left(d[:1], x[off[0]:off[0]+1], y[off[1]])
			for i := range d {
				d[i] = d[0]
			}
		case last[0] == 0:
			op.Right(d, x[off[0]], y[off[1]:off[1]+n:off[1]+n])
		case last[1] == 0:
			op.Left(d, x[off[0]:off[0]+n:off[0]+n], y[off[1]])
		default:
			op.Both(d, x[off[0]:off[0]+n:off[0]+n], y[off[1]:off[1]+n:off[1]+n])
		}
	})
}

// Select takes x where the condition holds and y elsewhere; the three shapes
// broadcast to shape, that of dst.
func Select[T any](w *Workers, dst []T, shape []int, cond []bool, condShape []int, x []T, xShape []int, y []T, yShape []int) {
	dims := broadcastDims(shape, condShape, xShape, yShape)
	step := dims[len(dims)-1].step
	walk(w, dims, func(at int, off [3]int, n int) {
		for i := range n {
			if cond[off[0]+i*step[0]] {
				dst[at+i] = x[off[1]+i*step[1]]
			} else {
				dst[at+i] = y[off[2]+i*step[2]]
			}
		}
	})
}

// BinaryOf makes the three forms of f.
func BinaryOf[T, R any](f func(x, y T) R) Binary[T, R] {
	return Binary[T, R]{
		Both: func(dst []R, x, y []T) {
			for i := range dst {
				dst[i] = f(x[i], y[i])
			}
		},
		Left: func(dst []R, x []T, y T) {
			for i := range dst {
				dst[i] = f(x[i], y)
			}
		},
		Right: func(dst []R, x T, y []T) {
			for i := range dst {
				dst[i] = f(x, y[i])
			}
		},
	}
}

// Add is the sum.
func Add[T Number]() Binary[T, T] {
	return Binary[T, T]{
		Both:  addBoth[T],
		Left:  addOne[T],
		Right: func(dst []T, x T, y []T) { addOne(dst, y, x) },
	}
}

func addBoth[T Number](dst, x, y []T) {
	x, y = x[:len(dst)], y[:len(dst)]
	done := 0
	if d, ok := any(dst).([]float32); ok {
		done = add32(d, any(x).([]float32), any(y).([]float32))
	}
	for i := done; i < len(dst); i++ {
		dst[i] = x[i] + y[i]
	}
}

func addOne[T Number](dst, x []T, y T) {
	x = x[:len(dst)]
	done := 0
	if d, ok := any(dst).([]float32); ok {
		done = addOne32(d, any(x).([]float32), float32(y))
	}
	for i := done; i < len(dst); i++ {
		dst[i] = x[i] + y
	}
}

// Mul is the product.
func Mul[T Number]() Binary[T, T] {
	return Binary[T, T]{
		Both:  mulBoth[T],
		Left:  mulOne[T],
		Right: func(dst []T, x T, y []T) { mulOne(dst, y, x) },
	}
}

func mulBoth[T Number](dst, x, y []T) {
	x, y = x[:len(dst)], y[:len(dst)]
	done := 0
	if d, ok := any(dst).([]float32); ok {
		done = mul32(d, any(x).([]float32), any(y).([]float32))
	}
	for i := done; i < len(dst); i++ {
		dst[i] = x[i] * y[i]
	}
}

func mulOne[T Number](dst, x []T, y T) {
	x = x[:len(dst)]
	done := 0
	if d, ok := any(dst).([]float32); ok {
		done = mulOne32(d, any(x).([]float32), float32(y))
	}
	for i := done; i < len(dst); i++ {
		dst[i] = x[i] * y
	}
}

// Sub is x - y.
func Sub[T Number]() Binary[T, T] {
	return Binary[T, T]{
		Both: func(dst, x, y []T) {
			x, y = x[:len(dst)], y[:len(dst)]
			for i := range dst {
				dst[i] = x[i] - y[i]
			}
		},
		Left: func(dst, x []T, y T) {
			x = x[:len(dst)]
			for i := range dst {
				dst[i] = x[i] - y
			}
		},
		Right: func(dst []T, x T, y []T) {
			y = y[:len(dst)]
			for i := range dst {
				dst[i] = x - y[i]
			}
		},
	}
}

// Div is x / y, for integers towards zero; integers y must not be 0.
func Div[T Number]() Binary[T, T] {
	return Binary[T, T]{
		Both: func(dst, x, y []T) {
			x, y = x[:len(dst)], y[:len(dst)]
			for i := range dst {
				dst[i] = x[i] / y[i]
			}
		},
		Left: func(dst, x []T, y T) {
			x = x[:len(dst)]
			for i := range dst {
				dst[i] = x[i] / y
			}
		},
		Right: func(dst []T, x T, y []T) {
			y = y[:len(dst)]
			for i := range dst {
				dst[i] = x / y[i]
			}
		},
	}
}

// Max is the greater number, NaN when one is NaN.
func Max[T Number]() Binary[T, T] { return BinaryOf(func(x, y T) T { return max(x, y) }) }

// Min is the lesser number, NaN when one is NaN.
func Min[T Number]() Binary[T, T] { return BinaryOf(func(x, y T) T { return min(x, y) }) }

// Pow is x to the power of y in float64, integers truncated.
func Pow[T Number]() Binary[T, T] {
	pow := func(x, y T) T { return T(math.Pow(float64(x), float64(y))) }
	op := BinaryOf(pow)
	slow := op.Left
	op.Left = func(dst, x []T, y T) {
		// Squares are what norms and variances are written with.
		if y == 2 {
			mulBoth(dst, x, x)
			return
		}
		slow(dst, x, y)
	}
	return op
}

// PRelu is x where it is not negative and slope*x elsewhere.
func PRelu[T Number]() Binary[T, T] {
	return BinaryOf(func(x, slope T) T {
		if x < 0 {
			return slope * x
		}
		return x
	})
}

// Remainder is x - y*floor(x/y), of the sign of y, for integers; y must not
// be 0.
func Remainder[T Integer]() Binary[T, T] {
	return BinaryOf(func(x, y T) T {
		r := x % y
		if r != 0 && (r < 0) != (y < 0) {
			r += y
		}
		return r
	})
}

// FloatRemainder is x - y*trunc(x/y), of the sign of x, as C's fmod.
func FloatRemainder[T Float]() Binary[T, T] {
	return BinaryOf(func(x, y T) T { return T(math.Mod(float64(x), float64(y))) })
}
