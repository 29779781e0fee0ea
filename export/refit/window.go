package refit

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// A window says which places of its input a convolution reads for a place of its
// output. Lengths are one for each spatial dimension, pads two (all beginnings,
// then all ends).
type window struct {
	kernel, strides, dilations, pads []int64
	auto                             string
}

// places returns for each of the chosen output positions (row-major over out) and
// each place of the kernel (row-major) the position of the input (row-major over
// in) that is read there; the number of input positions stands for padding. It
// fails when out is not what the window makes of in.
func (w *window) places(in, out []int64, chosen []int64) ([]int64, error) {
	dims := len(w.kernel)
	if len(in) != dims || len(out) != dims {
		return nil, fmt.Errorf("a kernel of %d dimensions on an input of %v and an output of %v", dims, in, out)
	}
	begin := make([]int64, dims)
	total, taps := int64(1), int64(1)
	for i := range dims {
		stride, dilation := at(w.strides, i), at(w.dilations, i)
		span := (w.kernel[i]-1)*dilation + 1
		var size int64
		switch w.auto {
		case "", "NOTSET":
			end := int64(0)
			if len(w.pads) == 2*dims {
				begin[i], end = w.pads[i], w.pads[dims+i]
			}
			size = (in[i]+begin[i]+end-span)/stride + 1
		case "VALID":
			size = (in[i]-span)/stride + 1
		default:
			size = (in[i] + stride - 1) / stride
			pad := max((size-1)*stride+span-in[i], 0)
			begin[i] = pad / 2
			if w.auto == "SAME_LOWER" {
				begin[i] = pad - pad/2
			}
		}
		if size != out[i] {
			return nil, fmt.Errorf("a map of %v becomes one of %v, %d is expected along dimension %d", in, out, size, i)
		}
		total *= in[i]
		taps *= w.kernel[i]
	}
	index := make([]int64, 0, int64(len(chosen))*taps)
	for _, p := range chosen {
		for t := range taps {
			place, inside, step := int64(0), true, int64(1)
			rest, tap := p, t
			for i := dims - 1; i >= 0; i-- {
				x := rest%out[i]*at(w.strides, i) - begin[i] + tap%w.kernel[i]*at(w.dilations, i)
				rest /= out[i]
				tap /= w.kernel[i]
				inside = inside && x >= 0 && x < in[i]
				place += x * step
				step *= in[i]
			}
			if !inside {
				place = total
			}
			index = append(index, place)
		}
	}
	return index, nil
}

func at(v []int64, i int) int64 {
	if i < len(v) {
		return v[i]
	}
	return 1
}

// choose draws n of total positions, ascending, all of them where there are no more.
func choose(r *rand.Rand, n, total int64) []int64 {
	all := make([]int64, total)
	for i := range all {
		all[i] = int64(i)
	}
	if n >= total {
		return all
	}
	for i := range n {
		j := i + r.Int64N(total-i)
		all[i], all[j] = all[j], all[i]
	}
	slices.Sort(all[:n])
	return all[:n]
}
