package compute

import (
	"fmt"
	"math"
)

// Scaling is how one dimension is resized. Coordinates are formed in float32, as
// ONNX Runtime does, so that places on a boundary fall to the same side.
type Scaling struct {
	In, Out int
	// Scale is the length of the result over that of the input, before it was
	// rounded.
	Scale float32
	// Coordinate is the transformation from a place of the result to one of the
	// input, by its name in the ONNX operator Resize.
	Coordinate string
	// Start and Limit bound the region of tf_crop_and_resize, as shares of the
	// dimension.
	Start, Limit float32
}

// coordinate returns the function from places of the result to the input.
func (s Scaling) coordinate() (func(i int) float32, error) {
	in, out := float32(s.In), float32(s.Out)
	half := func(i int) float32 { return (float32(i)+.5)/s.Scale - .5 }
	switch s.Coordinate {
	case "half_pixel":
		return half, nil
	case "half_pixel_symmetric":
		adjust := out / (s.Scale * in)
		offset := in / 2 * (1 - adjust)
		return func(i int) float32 { return offset + half(i) }, nil
	case "pytorch_half_pixel":
		if s.Out == 1 {
			return func(int) float32 { return 0 }, nil
		}
		return half, nil
	case "align_corners":
		if s.Out == 1 {
			return func(int) float32 { return 0 }, nil
		}
		return func(i int) float32 { return float32(i) * (in - 1) / (out - 1) }, nil
	case "asymmetric":
		return func(i int) float32 { return float32(i) / s.Scale }, nil
	case "tf_half_pixel_for_nn":
		return func(i int) float32 { return (float32(i) + .5) / s.Scale }, nil
	case "tf_crop_and_resize":
		if s.Out == 1 {
			return func(int) float32 { return .5 * (s.Start + s.Limit) * (in - 1) }, nil
		}
		return func(i int) float32 {
			return s.Start*(in-1) + float32(i)*(s.Limit-s.Start)*(in-1)/(out-1)
		}, nil
	}
	return nil, fmt.Errorf("coordinate transformation %q is lacking", s.Coordinate)
}

// Outside tells for which places of the result tf_crop_and_resize asks for a
// number outside the input; nil when for none.
func (s Scaling) Outside() []bool {
	if s.Coordinate != "tf_crop_and_resize" {
		return nil
	}
	at, _ := s.coordinate()
	var out []bool
	for i := range s.Out {
		if x := at(i); x < 0 || x > float32(s.In-1) {
			if out == nil {
				out = make([]bool, s.Out)
			}
			out[i] = true
		}
	}
	return out
}

// Nearest returns for Take the place of the input that is nearest to each place
// of the result; rounding is round_prefer_floor, round_prefer_ceil, floor or
// ceil.
func (s Scaling) Nearest(rounding string) ([]int, error) {
	at, err := s.coordinate()
	if err != nil {
		return nil, err
	}
	index := make([]int, s.Out)
	for i := range index {
		x := float64(at(i))
		switch rounding {
		case "round_prefer_floor":
			x = math.Ceil(x - .5)
		case "round_prefer_ceil":
			x = math.Floor(x + .5)
		case "floor":
			x = math.Floor(x)
		case "ceil":
			x = math.Ceil(x)
		default:
			return nil, fmt.Errorf("rounding %q is lacking", rounding)
		}
		index[i] = int(min(max(x, 0), float64(s.In-1)))
	}
	return index, nil
}

// Kernel interpolates: at distance x (of places of the input) from a place it
// gives that place its weight; beyond Reach it is 0.
type Kernel struct {
	Reach  float64
	Weight func(x float64) float64
}

// Linear is the kernel of linear interpolation.
func Linear() Kernel {
	return Kernel{1, func(x float64) float64 { return max(0, 1-math.Abs(x)) }}
}

// Cubic is the kernel of cubic convolution (Keys, 1981) with coefficient a.
func Cubic(a float64) Kernel {
	return Kernel{2, func(x float64) float64 {
		switch x = math.Abs(x); {
		case x <= 1:
			return ((a+2)*x-(a+3))*x*x + 1
		case x < 2:
			return ((a*x-5*a)*x+8*a)*x - 4*a
		}
		return 0
	}}
}

// Taps are, for each place of a result, Each places of the input and their
// weights.
type Taps struct {
	Each   int
	Index  []int
	Weight []float64
}

// Taps returns the places between which k interpolates. With inside, places
// beyond the edges count nothing and the rest is scaled up; else the edge stands
// for them. With smooth, a kernel is widened by the factor by which the dimension
// shrinks (antialiasing).
func (s Scaling) Taps(k Kernel, inside, smooth bool) (*Taps, error) {
	at, err := s.coordinate()
	if err != nil {
		return nil, err
	}
	wide := 1.
	if smooth && s.Scale < 1 {
		wide = 1 / float64(s.Scale)
	}
	reach := k.Reach * wide
	each := 2 * int(math.Ceil(reach))
	t := &Taps{each, make([]int, s.Out*each), make([]float64, s.Out*each)}
	for i := range s.Out {
		x := float64(at(i))
		first := int(math.Floor(x)) - each/2 + 1
		if k.Reach == 1 && !smooth && !inside {
			x = min(max(x, 0), float64(s.In-1))
			first = int(x)
		}
		sum := 0.
		for j := range each {
			p := first + j
			weight := k.Weight((x - float64(p)) / wide)
			if inside && (p < 0 || p >= s.In) {
				weight = 0
			}
			sum += weight
			t.Index[i*each+j] = min(max(p, 0), s.In-1)
			t.Weight[i*each+j] = weight
		}
		if (inside || smooth) && sum != 0 {
			for j := range each {
				t.Weight[i*each+j] /= sum
			}
		}
	}
	return t, nil
}

// Resample interpolates along one axis: x has shape (outer, n, inner), dst
// (outer, places of t, inner).
func Resample[T Float](w *Workers, dst, x []T, n, inner int, t *Taps) {
	m := len(t.Index) / t.Each
	if len(dst) == 0 {
		return
	}
	if inner == 1 {
		Along(w, func(dst, row []T) {
			for i := range dst {
				var s float64
				for j := i * t.Each; j < (i+1)*t.Each; j++ {
					if c := t.Weight[j]; c != 0 {
						s += c * float64(row[t.Index[j]])
					}
				}
				dst[i] = T(s)
			}
		}, dst, x, n, m, 1)
		return
	}
	pieces(w, len(dst)/inner, max(1, grain/inner), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			d := dst[r*inner : (r+1)*inner]
			clear(d)
			i := r % m
			for j := i * t.Each; j < (i+1)*t.Each; j++ {
				c := T(t.Weight[j])
				if c == 0 {
					continue
				}
				src := x[(r/m*n+t.Index[j])*inner:][:inner]
				for k, v := range src {
					d[k] += c * v
				}
			}
		}
	})
}
