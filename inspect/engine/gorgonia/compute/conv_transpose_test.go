package compute

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestConvTranspose(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	n := func(least, most int) int { return least + r.IntN(most-least+1) }
	for range 200 {
		g := n(1, 3)
		c := ConvTranspose{
			N: n(1, 3), Groups: g, C: g * n(1, 4), Filters: g * n(1, 4), H: n(1, 9), W: n(1, 9), KernelH: n(1, 4), KernelW: n(1, 4),
			StrideH: n(1, 3), StrideW: n(1, 3), DilationH: n(1, 2), DilationW: n(1, 2), PadTop: n(0, 3), PadLeft: n(0, 3),
			OutH: n(1, 20), OutW: n(1, 20),
		}
		cg, fg := c.C/g, c.Filters/g
		x, weights, bias := random(r, c.N*c.C*c.H*c.W), random(r, c.C*fg*c.KernelH*c.KernelW), random(r, c.Filters)
		if n(0, 1) == 0 {
			bias = nil
		}
		want := make([]float64, c.N*c.Filters*c.OutH*c.OutW)
		for i := range want {
			if bias != nil {
				want[i] = float64(bias[i/(c.OutH*c.OutW)%c.Filters])
			}
		}
		for i := range x {
			ix, iy, ch, image := i%c.W, i/c.W%c.H, i/(c.W*c.H)%c.C, i/(c.W*c.H*c.C)
			for f := range fg {
				for ky := range c.KernelH {
					for kx := range c.KernelW {
						oy, ox := iy*c.StrideH+ky*c.DilationH-c.PadTop, ix*c.StrideW+kx*c.DilationW-c.PadLeft
						if oy >= 0 && oy < c.OutH && ox >= 0 && ox < c.OutW {
							want[((image*c.Filters+ch/cg*fg+f)*c.OutH+oy)*c.OutW+ox] +=
								float64(x[i]) * float64(weights[((ch*fg+f)*c.KernelH+ky)*c.KernelW+kx])
						}
					}
				}
			}
		}
		var first []float32
		for _, workers := range []int{1, 3} {
			w := NewWorkers(workers)
			out, scratch := make([]float32, len(want)), make([]float32, c.Scratch(w))
			for _, v := range [][]float32{out, scratch} {
				for i := range v {
					v[i] = float32(math.NaN())
				}
			}
			c.Run(w, x, weights, bias, out, scratch)
			for i, v := range want {
				if math.Abs(float64(out[i])-v) > 1e-4 {
					t.Fatalf("%+v: number %d is %g, want %g", c, i, out[i], v)
				}
				if first != nil && first[i] != out[i] {
					t.Fatalf("%+v: number %d depends on the number of workers", c, i)
				}
			}
			first = out
		}
	}
}

// Positions that are taken in several parts.
func TestConvTransposeParts(t *testing.T) {
	c := ConvTranspose{N: 1, C: 1, H: 40, W: 50, Filters: 700, Groups: 1, KernelH: 1, KernelW: 1, StrideH: 1, StrideW: 1,
		DilationH: 1, DilationW: 1, OutH: 40, OutW: 50}
	if _, positions := c.parts(); positions >= 2000 {
		t.Fatalf("%d positions at once", positions)
	}
	r := rand.New(rand.NewPCG(1, 2))
	x, weights, out := random(r, 2000), random(r, 700), make([]float32, 700*2000)
	c.Run(NewWorkers(2), x, weights, nil, out, nil)
	for i, v := range out {
		if want := x[i%2000] * weights[i/2000]; v != want {
			t.Fatalf("number %d is %g, want %g", i, v, want)
		}
	}
}
