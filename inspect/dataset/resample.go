package dataset

import (
	"math"
	"slices"
)

// window is the part of a resampled image that is wanted: its upper left
// corner and its size.
type window struct{ y, x, height, width int }

// fraction bits of a filter weight: 8 bits of a pixel, 2 of headroom and these
// fill an int32.
const (
	weightBits = 32 - 8 - 2
	half       = 1 << (weightBits - 1)
)

// taps are the weights of the input pixels that make up one output pixel.
type taps struct {
	first  int
	weight []int32
}

// axisTaps returns the taps of outputs from to from+n when a side of in pixels
// is resampled to out: a triangle of one output pixel to either side, widened
// by in/out when shrinking (the antialias), in the fixed point of Pillow's
// Image.resize.
func axisTaps(in, out, from, n int) []taps {
	scale := float64(in) / float64(out)
	support := max(scale, 1)
	list := make([]taps, n)
	var w []float64
	all := make([]int32, 0, n*(2*int(math.Ceil(support))+1))
	for i := range list {
		centre := (float64(from+i) + 0.5) * scale
		first := max(int(centre-support+0.5), 0)
		last := min(int(centre+support+0.5), in)
		w = w[:0]
		sum := 0.0
		for k := first; k < last; k++ {
			v := max(1-math.Abs((float64(k)-centre+0.5)/support), 0)
			w = append(w, v)
			sum += v
		}
		from := len(all)
		for _, v := range w {
			if sum != 0 {
				v /= sum
			}
			all = append(all, int32(0.5+v*(1<<weightBits)))
		}
		list[i] = taps{first, all[from:len(all):len(all)]}
	}
	return list
}

// resample scales src to height x width and returns the window win of the
// result, held in dst (or src itself, where nothing changes). Rows first, then
// columns, rounded to 8 bits in between: equal to Pillow 10 to the last bit.
// (Pillow 13 may take the columns first, which changes values by 1.) Only what
// the window needs is computed.
func resample(src, dst *Image, w *scratch, height, width int, win window) *Image {
	if height == src.Height && width == src.Width && win.height == height && win.width == width {
		return src
	}
	var across, down []taps
	if width != src.Width {
		across = axisTaps(src.Width, width, win.x, win.width)
	}
	// Input rows y0 to y1 are needed.
	y0, y1 := win.y, win.y+win.height
	if height != src.Height {
		down = axisTaps(src.Height, height, win.y, win.height)
		first, last := down[0], down[len(down)-1]
		y0, y1 = first.first, last.first+len(last.weight)
	}
	dst.reset(src.Channels, win.height, win.width)
	if n := (y1 - y0) * win.width; cap(w.rows) < n {
		w.rows = make([]uint8, n)
	}
	rows := w.rows[:(y1-y0)*win.width]
	w.sums = slices.Grow(w.sums[:0], win.width)
	sums := w.sums[:win.width]
	for c := range src.Channels {
		in, out := src.plane(c), dst.plane(c)
		for y := y0; y < y1; y++ {
			line := in[y*src.Width : (y+1)*src.Width]
			to := rows[(y-y0)*win.width : (y-y0+1)*win.width]
			if across == nil {
				copy(to, line[win.x:])
				continue
			}
			for x := range to {
				t := &across[x]
				px := line[t.first:][:len(t.weight)]
				sum := int32(half)
				for k, v := range t.weight {
					sum += v * int32(px[k])
				}
				to[x] = clip8(sum)
			}
		}
		for y := range win.height {
			to := out[y*win.width : (y+1)*win.width]
			if down == nil {
				copy(to, rows[y*win.width:])
				continue
			}
			// A row of sums at a time, so that memory is walked in order.
			t := &down[y]
			for x := range sums {
				sums[x] = half
			}
			for k, v := range t.weight {
				row := rows[(t.first-y0+k)*win.width:][:len(sums)]
				for x, px := range row {
					sums[x] += v * int32(px)
				}
			}
			for x, sum := range sums {
				to[x] = clip8(sum)
			}
		}
	}
	return dst
}

func clip8(sum int32) uint8 { return uint8(max(0, min(sum>>weightBits, 255))) }
