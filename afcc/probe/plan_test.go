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

// planned counts the passes of a plan.
func planned(plan *Plan) (passes int) {
	for _, g := range plan.Groups {
		for _, p := range g.Passes {
			passes += p.Times
		}
	}
	return passes
}

// TestPlanLeavesOutStability: repeated measurements that nobody asked for by name
// are left out where, and only where, there are fewer passes without them, and plan
// and result say how many.
func TestPlanLeavesOutStability(t *testing.T) {
	eng, m, set := runtime(t), small(t, testK), folder(t, testK, 20)
	left, kept := 0, 0
	for memory := int64(9 << 10); memory <= 160<<10; memory += 3 << 10 {
		opt := testOptions()
		opt.Memory = memory
		plans := map[string]*Plan{}
		for name, f := range map[string]func(*Options){
			"asked":   func(o *Options) { o.Stability = 2 },
			"default": func(o *Options) { o.Stability, o.StabilityIfFree = 2, true },
			"without": func(o *Options) { o.StabilityIfFree = true },
		} {
			o := opt
			f(&o)
			var err error
			if plans[name], err = NewPlan(m, set, o); err != nil {
				t.Fatal(err)
			}
		}
		asked, without, got := planned(plans["asked"]), planned(plans["without"]), planned(plans["default"])
		if plans["asked"].LeftOut != nil || plans["without"].LeftOut != nil {
			t.Errorf("%d bytes: left out %v and %v", memory, plans["asked"].LeftOut, plans["without"].LeftOut)
		}
		var want []LeftOut
		if asked > without {
			want = []LeftOut{{"stability", asked - without}}
			left++
		} else {
			kept++
		}
		if got != min(asked, without) || !reflect.DeepEqual(plans["default"].LeftOut, want) {
			t.Errorf("%d bytes: %d passes with, %d without, %d planned, left out %v", memory, asked, without, got, plans["default"].LeftOut)
		}
		if want != nil && left > 1 || want == nil && kept > 1 {
			continue // the first of each is measured
		}
		opt.Stability, opt.StabilityIfFree = 2, true
		res, err := Measure(t.Context(), eng, m, set, opt)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(res.LeftOut, want) || (res.Layers[0].Stability == nil) != (want != nil) {
			t.Errorf("%d bytes: the result has left out %v, stability %v", memory, res.LeftOut, res.Layers[0].Stability)
		}
		// As a result that was kept it answers the same question again.
		id, err := Identify(t.Context(), eng, m, set, opt)
		if err != nil {
			t.Fatal(err)
		}
		if ok, why := res.Answers(id); !ok {
			t.Errorf("%d bytes: it does not answer itself: %s", memory, why)
		}
	}
	if left == 0 || kept == 0 {
		t.Errorf("left out %d times, kept %d times: the test sees only one of both", left, kept)
	}
}

// TestPlanCaches: heads are trained one after the other, so that beside the features
// of all that share a pass only the largest state of one is held.
func TestPlanCaches(t *testing.T) {
	m, set := small(t, testK), folder(t, testK, 20)
	opt := testOptions()
	p, _, groups, err := prepare(m, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	var features, most, sum int64
	for _, h := range groups[0] {
		if !h.own {
			features, most, sum = features+p.features(h), max(most, p.state(h)), sum+p.state(h)
		}
	}
	if most >= sum {
		t.Fatalf("one state of %d bytes of %d", most, sum)
	}
	for room, want := range map[int64]int{features + most: 1, features + most - 1: 2} {
		if got := p.assign(groups[0], room, false); len(got.cached) != want || len(got.streamed) != 0 {
			t.Errorf("%d bytes: features in %d passes, %d heads streamed, want %d", room, len(got.cached), len(got.streamed), want)
		}
	}
}
