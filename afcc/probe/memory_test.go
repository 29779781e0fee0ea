//go:build unix

package probe

import (
	goruntime "runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/dataset"
)

// TestMemoryInUse measures a model of many layers with small limits and sees that
// what Measure itself holds keeps to them, that the layers are the same as without
// a limit, and that maps are pooled only where a head would not fit. What the
// environment names (bench_test.go) is measured with the limits, in MiB, that
// FILTERLENS_BENCH_LIMITS lists.
func TestMemoryInUse(t *testing.T) {
	if testing.Short() {
		t.Skip("measures VGG-16 three times")
	}
	o := openBenched(t)
	opt := Options{Preprocess: o.pre, Theta: 0.3, Recipe: DefaultRecipe(), Batch: 20,
		Split: dataset.SplitOptions{Seed: 3, Fit: 0.4, Stats: 0.4, Eval: 0.2, Limit: min(o.limit, 200)}}
	if !o.onFixture {
		opt.Split.Limit = o.limit
	}
	opt.Recipe.Epochs, opt.Recipe.Batch = 1, 20
	eng := runtime(t)
	measure := func(memory int64) (res *Result, peak uint64) {
		opt := opt
		opt.Memory = memory
		// What the result itself takes is not counted, nor what the samples do.
		var base, m goruntime.MemStats
		var rows uint64
		calls := 0
		opt.Progress = func(stage string, done, total int) {
			if calls++; calls%5 != 0 {
				return
			}
			goruntime.GC()
			goruntime.ReadMemStats(&m)
			if held := m.HeapAlloc - base.HeapAlloc - rows; held > peak && m.HeapAlloc > base.HeapAlloc+rows {
				peak = held
			}
		}
		opt.Each = func(l *Layer, f Fields) error {
			for i := range l.Filters {
				rows += uint64(4*len(l.Filters[i].Ratios) + 8*l.Filters[i].D() + 200)
			}
			return nil
		}
		debug.FreeOSMemory()
		goruntime.ReadMemStats(&base)
		res, err := Measure(t.Context(), eng, o.model, o.set, opt)
		if err != nil {
			t.Fatal(err)
		}
		return res, peak
	}
	whole, peak := measure(0)
	t.Logf("no limit: %.1f MiB", float64(peak)/(1<<20))
	for _, l := range whole.Layers {
		if l.Pool > 1 {
			t.Errorf("no limit: layer %s is pooled by %d", l.Name(), l.Pool)
		}
	}
	for _, text := range strings.Split(env("LIMITS", "8,2"), ",") {
		mib, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		limit := mib << 20
		res, peak := measure(limit)
		// Batches of samples being decoded, and the smaller things.
		dims := int64(3 * 32 * 32)
		samples := 4 * dims * int64(opt.Batch) * int64(goruntime.GOMAXPROCS(0)+3)
		t.Logf("limit %d MiB: %.2f MiB held, %.2f of samples", mib, float64(peak)/(1<<20), float64(samples)/(1<<20))
		if int64(peak) > limit+samples+1<<20 {
			t.Errorf("limit %d MiB: %.1f MiB are held", mib, float64(peak)/(1<<20))
		}
		same := func(r *Result) *Result {
			c := *r
			c.Layers = nil
			for i, l := range r.Layers {
				// A head of weights and momentum, twice, has half of the memory.
				whole := 16 * int64(len(r.Data.Labels)) * int64(l.Tap.Filters*l.Height*l.Width)
				if pooled := res.Layers[i].Pool > 1; pooled != (whole > limit/2 && !l.Own) {
					t.Errorf("limit %d MiB: layer %s pooled %v; its head takes %d bytes", mib, l.Name(), pooled, whole)
				} else if !pooled {
					c.Layers = append(c.Layers, l)
				}
			}
			return &c
		}
		a, b := same(whole), same(res)
		if len(a.Layers) == 0 {
			t.Errorf("limit %d MiB: every layer is pooled", mib)
		}
		t.Logf("limit %d MiB: %d of %d layers not pooled", mib, len(b.Layers), len(res.Layers))
		equalResults(t, a, b, 2e-3)
	}
}
