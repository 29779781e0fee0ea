package compute

import (
	"math"
	"slices"
	"testing"
)

// gathered lists, for every place in the other axes, the numbers over which the
// marked ones are reduced.
func gathered(x []float32, shape []int, over []bool) [][]float32 {
	var kept []int
	for i, n := range shape {
		if !over[i] {
			kept = append(kept, n)
		}
	}
	out := make([][]float32, size(kept))
	each(shape, func(at int, index []int) {
		to := 0
		for i, k := range index {
			if !over[i] {
				to = to*shape[i] + k
			}
		}
		out[to] = append(out[to], x[at])
	})
	return out
}

func TestFold(t *testing.T) {
	type axes = []bool
	for _, c := range []struct {
		shape []int
		over  []bool
	}{
		{nil, nil}, {[]int{5}, axes{true}}, {[]int{5}, axes{false}}, {[]int{3, 4}, axes{false, true}}, {[]int{3, 4}, axes{true, false}},
		{[]int{2, 3, 4, 5}, axes{false, false, true, true}}, {[]int{2, 3, 4, 5}, axes{true, false, true, true}},
		{[]int{2, 3, 4, 5}, axes{false, true, false, false}}, {[]int{2, 3, 4, 5}, axes{false, true, false, true}},
		{[]int{2, 3, 1, 5}, axes{false, true, false, true}}, {[]int{2, 3, 4, 5}, axes{true, true, true, true}},
		{[]int{3, 300, 70}, axes{false, true, false}}, {[]int{300, 70}, axes{true, false}}, {[]int{1, 20000, 3}, axes{false, true, false}},
	} {
		x := floats(7, size(c.shape))
		want := gathered(x, c.shape, c.over)
		for name, f := range map[string]struct {
			fold func([]float32) float32
			want func([]float32) float64
		}{
			"sum": {Sum[float32], func(row []float32) (s float64) { return total(row, func(v float64) float64 { return v }) }},
			"mean": {Mean[float32], func(row []float32) float64 {
				return total(row, func(v float64) float64 { return v }) / float64(len(row))
			}},
			"l1":  {NormL1[float32], func(row []float32) float64 { return total(row, math.Abs) }},
			"l2":  {NormL2[float32], func(row []float32) float64 { return math.Sqrt(total(row, func(v float64) float64 { return v * v })) }},
			"sq":  {SumSquare[float32], func(row []float32) float64 { return total(row, func(v float64) float64 { return v * v }) }},
			"lse": {LogSumExp[float32], func(row []float32) float64 { return math.Log(total(row, math.Exp)) }},
			"max": {Most[float32], func(row []float32) float64 { return float64(slices.Max(row)) }},
			"min": {Least[float32], func(row []float32) float64 { return float64(slices.Min(row)) }},
		} {
			got := make([]float32, len(want))
			alone := make([]float32, len(want))
			Fold(NewWorkers(3), f.fold, got, x, c.shape, c.over)
			Fold(nil, f.fold, alone, x, c.shape, c.over)
			if !slices.Equal(got, alone) {
				t.Errorf("%s of %v over %v depends on the workers", name, c.shape, c.over)
			}
			for i, row := range want {
				if w := f.want(row); math.Abs(float64(got[i])-w) > 1e-6*math.Abs(w)+1e-6 {
					t.Fatalf("%s of %v over %v: %g at %d, want %g", name, c.shape, c.over, got[i], i, w)
				}
			}
		}
	}
}

func total(row []float32, f func(float64) float64) (s float64) {
	for _, v := range row {
		s += f(float64(v))
	}
	return s
}

func TestFoldOfNothing(t *testing.T) {
	got := []float32{5, 5}
	Fold(nil, Sum[float32], got, nil, []int{2, 0}, []bool{false, true})
	if got[0] != 0 || got[1] != 0 {
		t.Error(got)
	}
	if a, b := Most[float32](nil), Least[float32](nil); a != float32(math.Inf(-1)) || b != float32(math.Inf(1)) {
		t.Error(a, b)
	}
	if a, b, c := Most[int8](nil), Least[int8](nil), Least[uint16](nil); a != math.MinInt8 || b != math.MaxInt8 || c != math.MaxUint16 {
		t.Error(a, b, c)
	}
	Fold(nil, Product[float32], got[:1], nil, []int{0}, []bool{true})
	if got[0] != 1 {
		t.Error(got)
	}
}

// Float64 accumulators keep what float32 ones lose.
func TestSumIsAccurate(t *testing.T) {
	x := make([]float32, 1<<22)
	for i := range x {
		x[i] = .1
	}
	if got, want := Sum(x), float32(float64(float32(.1))*(1<<22)); got != want {
		t.Errorf("%g, want %g", got, want)
	}
}

func TestSpecialNumbersOfRows(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, row := range [][]float32{{nan, 1, 2}, {1, nan, 2}, {1, 2, nan}} {
		if v := Most(row); v == v {
			t.Errorf("greatest of %v: %g", row, v)
		}
		if v := Least(row); v == v {
			t.Errorf("least of %v: %g", row, v)
		}
	}
	if v := LogSumExp([]float32{-inf, -inf}); v != -inf {
		t.Error(v)
	}
	if v := LogSumExp([]float32{1000, 1000}); math.Abs(float64(v)-1000.6931) > 1e-3 {
		t.Error(v)
	}
	row := []int32{4, 9, -1, 9, -1}
	if a, b, c, d := ArgMost[int32](false)(row), ArgMost[int32](true)(row), ArgLeast[int32](false)(row), ArgLeast[int32](true)(row); a != 1 || b != 3 || c != 2 || d != 4 {
		t.Error(a, b, c, d)
	}
	top := make([]int64, 3)
	if TopK[int32](false)(top, row); !slices.Equal(top, []int64{1, 3, 0}) {
		t.Error(top)
	}
	if TopK[int32](true)(top, row); !slices.Equal(top, []int64{2, 4, 0}) {
		t.Error(top)
	}
}

func TestCumSum(t *testing.T) {
	for _, c := range []struct {
		exclusive, reverse bool
		want               []int64
	}{{false, false, []int64{1, 3, 6}}, {true, false, []int64{0, 1, 3}}, {false, true, []int64{6, 5, 3}}, {true, true, []int64{5, 3, 0}}} {
		got := make([]int64, 3)
		if CumSum[int64](c.exclusive, c.reverse)(got, []int64{1, 2, 3}); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v", c, got)
		}
		// Powers of 2 multiply as their exponents add.
		if CumProd[int64](c.exclusive, c.reverse)(got, []int64{2, 4, 8}); got[0] != 1<<c.want[0] || got[1] != 1<<c.want[1] || got[2] != 1<<c.want[2] {
			t.Errorf("products, %v: %v", c, got)
		}
	}
}

func TestSoftmax(t *testing.T) {
	inf := float32(math.Inf(-1))
	for _, c := range []struct{ outer, n, inner int }{{1, 1, 1}, {3, 5, 1}, {2, 7, 3}, {1, 1000, 1}, {2, 300, 70}} {
		x := floats(3, c.outer*c.n*c.inner)
		for i := range x {
			x[i] *= 30
		}
		if len(x) > 3 {
			x[2] = inf
		}
		soft, log, hard := make([]float32, len(x)), make([]float32, len(x)), make([]float32, len(x))
		Along(NewWorkers(2), Softmax[float32], soft, x, c.n, c.n, c.inner)
		Along(NewWorkers(2), LogSoftmax[float32], log, x, c.n, c.n, c.inner)
		Along(NewWorkers(2), Hardmax[float32], hard, x, c.n, c.n, c.inner)
		for o := range c.outer {
			for i := range c.inner {
				at := func(k int) int { return (o*c.n+k)*c.inner + i }
				most, sum, ones := math.Inf(-1), 0., float32(0)
				for k := range c.n {
					most = max(most, float64(x[at(k)]))
				}
				for k := range c.n {
					sum += math.Exp(float64(x[at(k)]) - most)
				}
				for k := range c.n {
					want := float64(x[at(k)]) - most - math.Log(sum)
					if math.Abs(float64(log[at(k)])-want) > 1e-5+1e-6*math.Abs(want) && want != float64(log[at(k)]) {
						t.Fatalf("%v: log softmax %g, want %g", c, log[at(k)], want)
					}
					if math.Abs(float64(soft[at(k)])-math.Exp(want)) > 1e-6 {
						t.Fatalf("%v: softmax %g, want %g", c, soft[at(k)], math.Exp(want))
					}
					ones += hard[at(k)]
				}
				if ones != 1 {
					t.Fatalf("%v: hardmax has %g ones", c, ones)
				}
			}
		}
	}
}

func BenchmarkFold(b *testing.B) {
	shape := []int{8, 64, 56, 56}
	x := floats(1, size(shape))
	for name, over := range map[string][]bool{"planes": {false, false, true, true}, "batch": {true, false, false, false}, "channels": {false, true, false, false}} {
		b.Run(name, func(b *testing.B) {
			dst := make([]float32, len(x))
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				Fold(nil, Sum[float32], dst, x, shape, over)
			}
		})
	}
}

func BenchmarkSoftmax(b *testing.B) {
	x := floats(1, 256*1000)
	dst := make([]float32, len(x))
	b.SetBytes(int64(4 * len(x)))
	for b.Loop() {
		Along(nil, Softmax[float32], dst, x, 1000, 1000, 1)
	}
}
