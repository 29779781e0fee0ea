package probe

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect"
)

// TestPlan compares a plan with what Measure then does.
func TestPlan(t *testing.T) {
	eng, m, set := runtime(t), small(t, testK), folder(t, testK, 20)
	for _, c := range []struct {
		name   string
		memory int64
		side   int
		taps   []string
		heads  string
		groups int
	}{
		{"all at once", 0, 0, nil, "cached cached classifier", 1},
		{"one after the other", 40 << 10, 0, nil, "cached cached classifier", 1},
		{"trained inside the trunk", 16 << 10, 0, nil, "streamed streamed classifier", 2},
		{"pooled as asked", 0, 2, nil, "cached cached classifier", 1},
		{"pooled by need", 10000, 0, nil, "cached cached classifier", 1},
		{"the model's own head", 0, 0, []string{"hidden"}, "classifier", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := testOptions()
			opt.Memory, opt.MaxSide, opt.Taps = c.memory, c.side, c.taps
			plan, err := NewPlan(m, set, opt)
			if err != nil {
				t.Fatal(err)
			}
			var heads []string
			planned := map[string]int{}
			for _, g := range plan.Groups {
				held := int64(0)
				for _, tap := range g.Taps {
					heads = append(heads, tap.Head)
					held += tap.HeadBytes + tap.MeansBytes
					if want := 4 * testK * int64(tap.Filters*tap.Positions()); tap.HeadBytes != want {
						t.Errorf("%s: a head of %d bytes, want %d", tap.Name(), tap.HeadBytes, want)
					}
				}
				if g.Held != held {
					t.Errorf("a group holds %d bytes, its taps %d", g.Held, held)
				}
				for _, p := range g.Passes {
					planned[p.Kind] += p.Samples * p.Times
					if p.Bytes < held || p.Bytes > plan.Peak || plan.Peak > plan.Memory*2 {
						t.Errorf("%+v in a plan of at most %d of %d bytes", p, plan.Peak, plan.Memory)
					}
				}
			}
			if got := strings.Join(heads, " "); got != c.heads || len(plan.Groups) != c.groups {
				t.Errorf("heads %s in %d groups, want %s in %d", got, len(plan.Groups), c.heads, c.groups)
			}
			// What runs: each pass reports its samples, the last report of each counts.
			ran := map[string]int{}
			opt.Progress = func(stage string, done, total int) {
				if done != total {
					return
				}
				for prefix, kind := range map[string]string{"collecting features": "features", "scaling features": "feature lengths",
					"training heads, epoch": "training", "judging heads": "accuracy", "measuring label means": "label means"} {
					if strings.HasPrefix(stage, prefix) {
						ran[kind] += total
					}
				}
			}
			res, err := Measure(t.Context(), eng, m, set, opt)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(planned, ran) {
				t.Errorf("planned %v, ran %v", planned, ran)
			}
			forward := 0
			for _, n := range ran {
				forward += n
			}
			if plan.Forward != int64(forward) {
				t.Errorf("%d samples go forward, planned %d", forward, plan.Forward)
			}
			if plan.Stats != res.Data.Stats.Samples || plan.Eval != res.Data.Eval.Samples || plan.Recipe != res.Recipe {
				t.Errorf("plan %+v, result %+v", plan, res.Data)
			}
			i := 0
			for _, g := range plan.Groups {
				for _, tap := range g.Taps {
					if !reflect.DeepEqual(tap.Tap.Layers, res.Layers[i].Tap.Layers) || tap.Pool != res.Layers[i].Pool {
						t.Errorf("row %d: planned %+v, measured %+v", i, tap.Tap, res.Layers[i].Tap)
					}
					i++
				}
			}
			for _, l := range res.Layers {
				if side := max(l.Height, l.Width) / l.Pool; c.side > 0 && side > c.side {
					t.Errorf("%s: a map of %d", l.Name(), side)
				}
			}
			reason := map[bool]string{true: "as asked for", false: "--memory"}[c.side > 0]
			for _, w := range res.Warnings {
				if strings.Contains(w, "averaged over") && !strings.Contains(w, reason) {
					t.Errorf("%q should name %q", w, reason)
				}
			}
			if _, err := json.Marshal(plan); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPlanRefuses: what Measure would refuse, before anything has run.
func TestPlanRefuses(t *testing.T) {
	m, set := small(t, testK), folder(t, testK, 9)
	var unknown *UnknownLayerError
	var mismatch *LabelMismatchError
	var refused *NotClassifierError
	change := func(f func(*Options)) Options {
		opt := testOptions()
		f(&opt)
		return opt
	}
	if _, err := NewPlan(m, set, change(func(o *Options) { o.Taps = []string{"stage", "conv9"} })); !errors.As(err, &unknown) {
		t.Errorf("an unknown tap: %v", err)
	}
	if _, err := NewPlan(m, folder(t, testK+1, 9), testOptions()); !errors.As(err, &mismatch) {
		t.Errorf("other labels: %v", err)
	}
	n := newNet(-1, 3, 8)
	n.conv("a", 3, 4, 3, 1)
	if _, err := NewPlan(n.model(t, -1, 4, 8, 8), set, testOptions()); !errors.As(err, &refused) {
		t.Errorf("no classifier: %v", err)
	}
	for name, f := range map[string]func(*Options){
		"memory": func(o *Options) { o.Memory = 100 }, "negative memory": func(o *Options) { o.Memory = -1 },
		"side": func(o *Options) { o.MaxSide = -1 }, "batch": func(o *Options) { o.Batch = -3 },
		"theta": func(o *Options) { o.Theta = 1 }, "recipe": func(o *Options) { o.Recipe.Batch = 0 },
	} {
		if _, err := NewPlan(m, set, change(f)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Without a number asked for, a batch's activations take a quarter of the memory.
func TestPlanBatch(t *testing.T) {
	set := folder(t, testK, 20)
	m := small(t, testK)
	peak := *m.Totals.PeakActivationBytes
	fixed := newNet(4, 3, 8)
	fixed.conv("conv1", 3, 4, 3, 1).op("Relu").op("Flatten").gemm("classifier", 4*64, testK)
	four := fixed.model(t, 4, testK)
	for _, c := range []struct {
		m      *inspect.Model
		memory int64
		asked  int
		want   int
	}{
		{m, 0, 0, 100},
		{m, 4 * 99 * peak, 0, 99},
		{m, 4*43*peak - 1, 0, 42},
		{m, 4 * 5 * peak, 0, 10},
		{m, 4 * 5 * peak, 64, 64},
		{four, *four.Totals.PeakActivationBytes * 20, 0, 20},
	} {
		opt := testOptions()
		opt.Memory, opt.Batch = c.memory, c.asked
		plan, err := NewPlan(c.m, set, opt)
		if err != nil {
			t.Fatal(err)
		}
		if plan.Batch != c.want {
			t.Errorf("memory %d, batch %d asked for: batches of %d, want %d", c.memory, c.asked, plan.Batch, c.want)
		}
	}
}
