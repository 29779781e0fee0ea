package refit

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
)

func random(r *rand.Rand, shape ...int64) *engine.Tensor {
	v := make([]float32, engine.Elements(shape))
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return engine.NewFloat32(v, shape...)
}

// TestGram: sums over more regressors than one block has, far from zero, against
// sums in double precision over explicit patches.
func TestGram(t *testing.T) {
	eng := onnxRuntime(t, 1)
	r := rand.New(rand.NewPCG(2, 3))
	for _, constant := range []bool{false, true} {
		s := &site{name: "layer", op: "Conv", groups: 1, channels: 90, taps: 9, f: 3, scale: 1, biasScale: 1,
			window: &window{kernel: []int64{3, 3}, pads: []int64{1, 1, 1, 1}}}
		if constant {
			s.bias = "b"
		}
		var g *gram
		n := 0
		d, f := s.d(), s.f
		sum, cross := make([]float64, d), make([]float64, d*f)
		sumY := make([]float64, f)
		square := make([]float64, d*d)
		for i := range 3 {
			x, y := random(r, int64(4+i), 90, 4, 4), random(r, int64(4+i), 3, 4, 4)
			for j := range x.Float32() {
				x.Float32()[j] += 20
			}
			if g == nil {
				var err error
				if g, err = newGram(t.Context(), eng, s, x, y, 16); err != nil {
					t.Fatal(err)
				}
				defer g.close()
			}
			if err := g.add(t.Context(), x, y, choose(r, 16, 16)); err != nil {
				t.Fatal(err)
			}
			s.patches(x, y, func(_ int, row, out []float64) {
				n++
				for a, v := range row {
					sum[a] += v
					for b, w := range row {
						square[a*d+b] += v * w
					}
					for k, w := range out {
						cross[a*f+k] += v * w
					}
				}
				for k, w := range out {
					sumY[k] += w
				}
			})
		}
		sys := g.m.system(0, constant)
		if int(g.m.n) != n {
			t.Errorf("%v rows, not %d", g.m.n, n)
		}
		c := 0.0
		if constant {
			c = 1
		}
		rows := float64(n)
		for a := range d {
			for b := range d {
				want := square[a*d+b]/rows - c*sum[a]/rows*sum[b]/rows
				if got := sys.a[a*d+b]; math.Abs(got-want) > 1e-4*(1+math.Abs(want)) {
					t.Fatalf("constant %v: A[%d,%d] is %v, not %v", constant, a, b, got, want)
				}
			}
			for k := range f {
				want := cross[a*f+k]/rows - c*sum[a]/rows*sumY[k]/rows
				if got := sys.b[a*f+k]; math.Abs(got-want) > 1e-4*(1+math.Abs(want)) {
					t.Fatalf("constant %v: b[%d,%d] is %v, not %v", constant, a, k, got, want)
				}
			}
		}
	}
}

// TestPlaces: windows that do not make the output's size are refused.
func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		w       window
		in, out []int64
		want    []int64 // for the first position, nil for an error
	}{
		{window{kernel: []int64{2, 2}}, []int64{3, 3}, []int64{2, 2}, []int64{0, 1, 3, 4}},
		{window{kernel: []int64{3}, pads: []int64{1, 1}}, []int64{4}, []int64{4}, []int64{4, 0, 1}},
		{window{kernel: []int64{2, 1, 1}, dilations: []int64{2, 1, 1}}, []int64{3, 2, 2}, []int64{1, 2, 2}, []int64{0, 8}},
		{window{kernel: []int64{3}, auto: "SAME_LOWER", strides: []int64{2}}, []int64{4}, []int64{2}, []int64{4, 0, 1}},
		{window{kernel: []int64{3}, auto: "SAME_UPPER", strides: []int64{2}}, []int64{4}, []int64{2}, []int64{0, 1, 2}},
		{window{kernel: []int64{2, 2}}, []int64{3, 3}, []int64{3, 3}, nil},
		{window{kernel: []int64{2, 2}}, []int64{3}, []int64{2}, nil},
		{window{kernel: []int64{2}, auto: "VALID"}, []int64{3}, []int64{3}, nil},
	} {
		got, err := c.w.places(c.in, c.out, []int64{0})
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%+v of %v: %v, %v", c.w, c.in, got, err)
		}
	}
}

func TestChoose(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	seen := map[int64]int{}
	for range 2000 {
		v := choose(r, 3, 10)
		if len(v) != 3 || !slices.IsSorted(v) || len(slices.Compact(slices.Clone(v))) != 3 {
			t.Fatal(v)
		}
		for _, p := range v {
			seen[p]++
		}
	}
	for p := range int64(10) {
		if seen[p] < 500 || seen[p] > 700 {
			t.Errorf("position %d came %d times of 600", p, seen[p])
		}
	}
	if v := choose(r, 12, 10); len(v) != 10 {
		t.Error(v)
	}
}

// BenchmarkGram is a batch of 100 samples at 16 positions each, at the size of a
// layer of VGG-16: 4,608 regressors and 512 filters.
func BenchmarkGram(b *testing.B) {
	eng := onnxRuntime(b, 1)
	s := &site{name: "layer", op: "Conv", groups: 1, channels: 512, taps: 9, f: 512, scale: 1, biasScale: 1, bias: "b",
		window: &window{kernel: []int64{3, 3}, pads: []int64{1, 1, 1, 1}}}
	r := rand.New(rand.NewPCG(2, 3))
	x, y := random(r, 100, 512, 4, 4), random(r, 100, 512, 4, 4)
	g, err := newGram(b.Context(), eng, s, x, y, 16)
	if err != nil {
		b.Fatal(err)
	}
	defer g.close()
	for b.Loop() {
		if err := g.add(b.Context(), x, y, choose(r, 16, 16)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(2*4608*4608*1600*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s-equivalent")
}
