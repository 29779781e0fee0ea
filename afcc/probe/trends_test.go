package probe

import (
	"math"
	"reflect"
	"testing"

	"github.com/filterlens/filterlens/afcc"
)

// TestSpearman: numbers worked out by hand.
func TestSpearman(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   *float64
	}{
		{nil, nil},
		{[]float64{3}, nil},
		{[]float64{2, 2, 2}, nil},
		{[]float64{1, 2}, ptr(1.0)},
		{[]float64{2, 1}, ptr(-1.0)},
		{[]float64{0.1, 5, 5.1, 1000}, ptr(1.0)},
		// 1 - 6 sum d^2 / (n (n^2-1)) without ties.
		{[]float64{1, 3, 2}, ptr(0.5)},                             // d = 0, 1, -1
		{[]float64{10, 20, 50, 30, 40}, ptr(1 - 6.0*6/(5*24))},     // d = 0, 0, 2, -1, -1
		{[]float64{40, 50, 30, 20, 10}, ptr(1 - 6.0*38/(5*24))},    // d = 3, 3, 0, -2, -4
		{[]float64{-1, -2, 0, math.Inf(1)}, ptr(1 - 6.0*2/(4*15))}, // d = 1, -1, 0, 0
		// Ties: ranks 1, 2.5, 2.5, 4 with places 1..4: cov 4.5, variances 4.5 and 5.
		{[]float64{1, 7, 7, 9}, ptr(4.5 / math.Sqrt(4.5*5))},
		// Ranks 2, 2, 2, 4: about their mean -0.5, -0.5, -0.5, 1.5.
		{[]float64{1, 1, 1, 2}, ptr(3 / math.Sqrt(3*5))},
	} {
		got := spearman(c.values)
		if (got == nil) != (c.want == nil) || got != nil && math.Abs(*got-*c.want) > 1e-12 {
			t.Errorf("%v: %v, want %v", c.values, show(got), show(c.want))
		}
	}
}

func show(x *float64) any {
	if x == nil {
		return nil
	}
	return *x
}

func TestTrends(t *testing.T) {
	layer := func(accuracy float64, snr *float64, inner bool) Layer {
		return Layer{Tap: Tap{Inner: inner}, Accuracy: accuracy, Stats: afcc.Stats{SNR: snr}}
	}
	r := &Result{Layers: []Layer{
		layer(0.5, ptr(1.0), false),
		layer(0.9, ptr(9.0), true), // inside a layer
		layer(0.6, nil, false),     // no noise
		layer(0.58, ptr(3.0), false),
		layer(0.3, ptr(2.0), false),
		layer(0.7, ptr(2.0), false),
	}}
	r.Data.Eval.Samples = 1000
	got := r.Trends()
	// Accuracies 0.5 0.6 0.58 0.3 0.7: ranks 2 4 3 1 5, d = 1, 2, 0, -3, 0.
	want := Trends{
		Accuracy: Trend{Layers: []int{0, 2, 3, 4, 5}, Rho: ptr(1 - 6.0*14/(5*24)), Against: []Step{
			{From: 2, To: 3, Before: 0.6, After: 0.58, Within: true}, // two standard errors are 0.0439
			{From: 3, To: 4, Before: 0.58, After: 0.3},
		}},
		// 1 3 2 2: ranks 1 4 2.5 2.5, about their mean -1.5 1.5 0 0.
		SNR: Trend{Layers: []int{0, 3, 4, 5}, Rho: ptr((1.5*1.5 - 1.5*0.5) / math.Sqrt(4.5*5)), Against: []Step{{From: 3, To: 4, Before: 3, After: 2}}},
	}
	for _, x := range []*float64{got.Accuracy.Rho, got.SNR.Rho, want.Accuracy.Rho, want.SNR.Rho} {
		*x = math.Round(*x*1e12) / 1e12
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	// The limit of the standard error: 0.6 and q of n samples.
	for _, c := range []struct {
		n      int
		after  float64
		within bool
	}{{1000, 0.556, true}, {1000, 0.555, false}, {100000, 0.58, false}, {0, 0.59, false}} {
		r.Layers[3].Accuracy = c.after
		r.Data.Eval.Samples = c.n
		if s := r.Trends().Accuracy.Against[0]; s.Within != c.within {
			t.Errorf("from 0.6 to %v on %d samples: within two standard errors %v", c.after, c.n, s.Within)
		}
	}
	if got := (&Result{}).Trends(); got.Accuracy.Rho != nil || got.SNR.Against != nil {
		t.Errorf("of no layer: %+v", got)
	}
}
