package compute

import (
	"math"
	"testing"
)

func TestNormalize(t *testing.T) {
	w := NewWorkers(2)
	for _, c := range []struct {
		name                      string
		runs, n, period, channels int
		centred                   bool
	}{
		{"instance", 6, 10, 10, 3, true}, {"layer", 6, 10, 1, 10, true}, {"group", 4, 30, 5, 12, true}, {"root mean square", 6, 10, 1, 10, false},
		{"one number", 3, 1, 1, 1, true},
	} {
		x := floats(1, c.runs*c.n)
		scale, bias := floats(2, c.channels), floats(3, c.channels)
		for _, plain := range []bool{false, true} {
			s, b := scale, bias
			if plain {
				s, b = nil, nil
			}
			got := make([]float32, len(x))
			Normalize(w, got, x, c.n, c.period, s, b, 1e-3, c.centred)
			for i := range x {
				row := x[i/c.n*c.n:][:c.n]
				mean, square := 0., 0.
				if c.centred {
					mean = total(row, func(v float64) float64 { return v }) / float64(c.n)
				}
				square = total(row, func(v float64) float64 { return (v - mean) * (v - mean) }) / float64(c.n)
				want := (float64(x[i]) - mean) / math.Sqrt(square+1e-3)
				if !plain {
					k := i / c.period % c.channels
					want = want*float64(scale[k]) + float64(bias[k])
				}
				if math.Abs(float64(got[i])-want) > 1e-5 {
					t.Fatalf("%s, plain %t, at %d: %g, want %g", c.name, plain, i, got[i], want)
				}
			}
		}
	}
}

func TestLRN(t *testing.T) {
	const n, channels, inner = 2, 5, 7
	x := floats(1, n*channels*inner)
	for _, size := range []int{1, 2, 3, 4, 9} {
		got := make([]float32, len(x))
		LRN(NewWorkers(2), got, x, channels, inner, size, .5, .75, 2)
		for i := range x {
			c := i / inner % channels
			sum := 0.
			// The window of the ONNX operator: floor((size-1)/2) before, ceil behind.
			for k := c - int(math.Floor(float64(size-1)/2)); k <= c+int(math.Ceil(float64(size-1)/2)); k++ {
				if k >= 0 && k < channels {
					v := float64(x[i+(k-c)*inner])
					sum += v * v
				}
			}
			if want := float64(x[i]) / math.Pow(2+.5/float64(size)*sum, .75); math.Abs(float64(got[i])-want) > 1e-6 {
				t.Fatalf("size %d at %d: %g, want %g", size, i, got[i], want)
			}
		}
	}
}

func TestLpNormalize(t *testing.T) {
	got := make([]float64, 2)
	if LpNormalize[float64](2)(got, []float64{3, -4}); got[0] != .6 || got[1] != -.8 {
		t.Error(got)
	}
	if LpNormalize[float64](1)(got, []float64{1, -3}); got[0] != .25 || got[1] != -.75 {
		t.Error(got)
	}
	if LpNormalize[float64](2)(got, []float64{0, 0}); got[0] != 0 {
		t.Error(got)
	}
}
