package compute

import "math"

// Windows says where the windows of a pooling lie, for up to three spatial
// dimensions, the outermost first. Every slice has one number for each.
type Windows struct {
	In, Out                  []int // lengths
	Kernel, Stride, Dilation []int
	Begin, End               []int // places that are padded on before and behind
}

// volume is Windows in three dimensions.
type volume struct{ in, out, kernel, stride, dilation, begin, end [3]int }

func (s Windows) volume() volume {
	three := func(x []int, fill int) (y [3]int) {
		for i := range y {
			y[i] = fill
		}
		copy(y[3-len(x):], x)
		return y
	}
	return volume{three(s.In, 1), three(s.Out, 1), three(s.Kernel, 1), three(s.Stride, 1), three(s.Dilation, 1), three(s.Begin, 0), three(s.End, 0)}
}

// taps returns which taps of the window at place o of dimension d lie in the
// input: [lo, hi), and the place of tap 0.
func (v *volume) taps(d, o int) (lo, hi, from int) {
	from = o*v.stride[d] - v.begin[d]
	lo, hi = 0, v.kernel[d]
	if from < 0 {
		lo = (-from + v.dilation[d] - 1) / v.dilation[d]
	}
	if left := v.in[d] - from; left <= 0 {
		hi = 0
	} else {
		hi = min(hi, (left+v.dilation[d]-1)/v.dilation[d])
	}
	return min(lo, hi), hi, from
}

// places returns for which places of the last dimension tap k lies in the
// input.
func (v *volume) places(k int) (lo, hi int) {
	off := k*v.dilation[2] - v.begin[2]
	if off < 0 {
		lo = (-off + v.stride[2] - 1) / v.stride[2]
	}
	if left := v.in[2] - off; left > 0 {
		hi = min(v.out[2], (left+v.stride[2]-1)/v.stride[2])
	}
	return min(lo, hi), hi
}

// poolRows calls f for every row of the result and, of those of the input that
// it is made of, the offsets.
func poolRows(w *Workers, v *volume, planes int, f func(from []int, at, oz, oy int)) {
	lines := v.out[0] * v.out[1]
	work := v.out[2] * v.kernel[0] * v.kernel[1] * v.kernel[2]
	pieces(w, planes*lines, max(1, grain/max(1, work)), func(lo, hi int) {
		from := make([]int, 0, 16)
		for r := lo; r < hi; r++ {
			p, oz, oy := r/lines, r%lines/v.out[1], r%v.out[1]
			z0, z1, z := v.taps(0, oz)
			y0, y1, y := v.taps(1, oy)
			from = from[:0]
			for kz := z0; kz < z1; kz++ {
				for ky := y0; ky < y1; ky++ {
					from = append(from, ((p*v.in[0]+z+kz*v.dilation[0])*v.in[1]+y+ky*v.dilation[1])*v.in[2])
				}
			}
			f(from, r*v.out[2], oz, oy)
		}
	})
}

// MaxPool writes the greatest number of every window, NaN when one is NaN and
// minus infinity (the least number, for integers) for a window that lies in the
// padding. x has planes images of the lengths in s.
func MaxPool[T Number](w *Workers, dst, x []T, planes int, s Windows) {
	v := s.volume()
	least := lowest[T]()
	spans := make([][2]int, v.kernel[2])
	for k := range spans {
		spans[k][0], spans[k][1] = v.places(k)
	}
	poolRows(w, &v, planes, func(from []int, at, _, _ int) {
		d := dst[at : at+v.out[2]]
		for i := range d {
			d[i] = least
		}
		if v.out[2] < v.kernel[2] {
			for i := range d {
				lo, hi, place := v.taps(2, i)
				for _, row := range from {
					for k := lo; k < hi; k++ {
						d[i] = max(d[i], x[row+place+k*v.dilation[2]])
					}
				}
			}
			return
		}
		for k, span := range spans {
			lo, hi := span[0], span[1]
			if lo == hi {
				continue
			}
			for _, row := range from {
				src := x[row+lo*v.stride[2]+k*v.dilation[2]-v.begin[2]:]
				maxInto(d[lo:hi], src, v.stride[2])
			}
		}
	})
}

// maxInto is dst[i] = max(dst[i], src[i*step]).
func maxInto[T Number](dst, src []T, step int) {
	if d, ok := any(dst).([]float32); ok && (step == 1 || step == 2) {
		done := maxInto32(d, any(src).([]float32), step)
		dst, src = dst[done:], src[min(len(src), done*step):]
		if len(dst) == 0 {
			return
		}
	}
	switch step {
	case 1:
		src = src[:len(dst)]
		for i, v := range src {
			dst[i] = max(dst[i], v)
		}
	case 2:
		src = src[:2*len(dst)-1]
		for i := range dst {
			dst[i] = max(dst[i], src[2*i])
		}
	default:
		for i := range dst {
			dst[i] = max(dst[i], src[i*step])
		}
	}
}

// lowest is the number below all others.
func lowest[T Number]() T {
	var x T
	switch p := any(&x).(type) {
	case *float32:
		*p = float32(math.Inf(-1))
	case *float64:
		*p = math.Inf(-1)
	case *int8:
		*p = math.MinInt8
	case *int16:
		*p = math.MinInt16
	case *int32:
		*p = math.MinInt32
	case *int64:
		*p = math.MinInt64
	}
	return x
}

// highest is the number above all others.
func highest[T Number]() T {
	least := lowest[T]()
	if most := least - 1; most > least {
		return most // integers wrap around
	}
	return -least
}

// MaxPoolIndices is MaxPool that also writes where in x each number was found,
// the first of equals; -1 for a window that lies in the padding. With columns
// the last two places of the index are counted column by column.
func MaxPoolIndices[T Number](w *Workers, dst []T, index []int64, x []T, planes int, s Windows, columns bool) {
	v := s.volume()
	least := lowest[T]()
	area := v.in[1] * v.in[2]
	poolRows(w, &v, planes, func(from []int, at, _, _ int) {
		for i := range v.out[2] {
			lo, hi, place := v.taps(2, i)
			most, found := least, -1
			for _, row := range from {
				for k := lo; k < hi; k++ {
					j := row + place + k*v.dilation[2]
					if c := x[j]; found < 0 || c > most || c != c && most == most {
						most, found = c, j
					}
				}
			}
			if columns && found >= 0 {
				in := found % area
				found += in%v.in[2]*v.in[1] + in/v.in[2] - in
			}
			dst[at+i], index[at+i] = most, int64(found)
		}
	})
}

// AveragePool writes the mean of every window, over the places that lie in the
// input or, with padding, also over those that were padded on (which hold 0);
// places beyond the padding never count. A window without places is 0.
func AveragePool[T Float](w *Workers, dst, x []T, planes int, s Windows, padding bool) {
	v := s.volume()
	count := func(d, o int) float64 {
		lo, hi, from := v.taps(d, o)
		if padding {
			lo, hi = 0, v.kernel[d]
			if left := v.in[d] + v.end[d] - from; left > 0 {
				hi = min(hi, (left+v.dilation[d]-1)/v.dilation[d])
			}
		}
		return float64(hi - lo)
	}
	across := make([]float64, v.out[2])
	for i := range across {
		across[i] = count(2, i)
	}
	poolSums(w, dst, x, planes, &v, nil, func(d []T, sums []float64, oz, oy int) {
		n := count(0, oz) * count(1, oy)
		for i, c := range sums {
			if c != 0 {
				c /= n * across[i]
			}
			d[i] = T(c)
		}
	})
}

// LpPool writes (sum |x|^p)^(1/p) of every window.
func LpPool[T Float](w *Workers, dst, x []T, planes int, s Windows, p float64) {
	v := s.volume()
	power := func(c float64) float64 { return math.Pow(math.Abs(c), p) }
	poolSums(w, dst, x, planes, &v, power, func(d []T, sums []float64, _, _ int) {
		for i, c := range sums {
			d[i] = T(math.Pow(c, 1/p))
		}
	})
}

// poolSums forms the sum of f of every window in float64 (of the numbers
// themselves without f) and lets finish write rows of the result.
func poolSums[T Float](w *Workers, dst, x []T, planes int, v *volume, f func(float64) float64, finish func(d []T, sums []float64, oz, oy int)) {
	poolRows(w, v, planes, func(from []int, at, oz, oy int) {
		var room [64]float64
		sums := room[:]
		if v.out[2] > len(room) {
			sums = make([]float64, v.out[2])
		}
		sums = sums[:v.out[2]]
		for i := range sums {
			lo, hi, place := v.taps(2, i)
			var sum float64
			for _, row := range from {
				switch {
				case f != nil:
					for k := lo; k < hi; k++ {
						sum += f(float64(x[row+place+k*v.dilation[2]]))
					}
				case v.dilation[2] == 1:
					for _, c := range x[row+place+lo : row+place+hi] {
						sum += float64(c)
					}
				default:
					for k := lo; k < hi; k++ {
						sum += float64(x[row+place+k*v.dilation[2]])
					}
				}
			}
			sums[i] = sum
		}
		finish(dst[at:at+v.out[2]], sums, oz, oy)
	})
}
