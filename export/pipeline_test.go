package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export/gradient"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

const (
	vgg         = "vgg16-glyphs20.onnx"
	efficient   = "efficientnet-b0-glyphs20.onnx"
	efficientBN = "efficientnet-b0-bn-glyphs20.onnx"
	perLabel    = 20 // samples of a label in all splits
)

// trained opens a fixture with its data.
func trained(t testing.TB, file string) (*inspect.Model, Options) {
	t.Helper()
	m := open(t, filepath.Join("..", "fixtures", file))
	set, err := dataset.Open(filepath.Join("..", "fixtures", "glyphs20"), dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	pre, err := dataset.Preset("signed")
	if err != nil {
		t.Fatal(err)
	}
	return m, Options{Set: set, Probe: probe.Options{Preprocess: pre, Theta: 0.3, Split: dataset.SplitOptions{Seed: 4, PerLabel: perLabel}}}
}

// measured are the statistics that a plan by opt asks about.
func measured(t testing.TB, eng engine.Engine, m *inspect.Model, opt Options) *probe.Result {
	t.Helper()
	var err error
	if opt.Probe.Layers, err = Taps(m, opt.PlanOptions); err != nil {
		t.Fatal(err)
	}
	opt.Probe.Recipe = probe.DefaultRecipe()
	opt.Probe.Recipe.Epochs = 3
	res, err := probe.Measure(t.Context(), eng, m, opt.Set, opt.Probe)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// halfOfFilters removes every other filter by its norm, without any statistics.
func halfOfFilters() PlanOptions {
	return PlanOptions{Target: Conv, Criterion: Magnitude, FiltersKeep: 0.5, RoundTo: 1, Recover: []string{RecoverNone}}
}

// convolutions names some, counted from 1.
func convolutions(m *inspect.Model, from, to int) (names []string) {
	for i := range m.Layers {
		if m.Layers[i].Op == "Conv" {
			names = append(names, m.Layers[i].Name)
		}
	}
	return names[from-1 : to]
}

func steps(r *Report) (names []string) {
	for _, s := range r.Steps {
		names = append(names, s.Name)
	}
	return names
}

// TestPruneFixtures prunes trained models; what the report says of each step is
// checked against what is known about it.
func TestPruneFixtures(t *testing.T) {
	eng := runtime(t)
	for _, c := range []struct {
		name, file string
		plan       PlanOptions
		steps      []string
		// lost is how many points the recovered model may lose at most, gain how many
		// recovery brings at least.
		lost, gain float64
	}{
		{"connections", vgg, PlanOptions{Target: Both, Criterion: AFCC, Dilution: 0.5}, []string{Masked, RecoverBias, RecoverRidge, RecoverHead}, 25, 30},
		{"filters", vgg, PlanOptions{Target: Conv, Criterion: AFCC, FiltersKeep: 0.7, RoundTo: 4, Recover: []string{RecoverRidge}}, []string{Masked, RecoverRidge}, 30, 30},
		{"filters and connections", vgg, PlanOptions{Target: Conv, Criterion: Random, FiltersKeep: 0.8, RoundTo: 1, Dilution: 0.3, Seed: 2, Recover: []string{RecoverFinetune, RecoverRidge}}, []string{Masked, RecoverRidge, RecoverFinetune}, 30, 30},
		{"depthwise and gates", efficient, PlanOptions{Target: Conv, Criterion: Magnitude, FiltersKeep: 0.8, RoundTo: 1}, []string{Masked, RecoverBias, RecoverRidge, RecoverHead}, 35, 20},
		{"BatchNorm", efficientBN, PlanOptions{Target: Conv, Criterion: Magnitude, FiltersKeep: 0.8, RoundTo: 1, Recover: []string{RecoverRidge}}, []string{Masked, RecoverRidge}, 35, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, opt := trained(t, c.file)
			opt.PlanOptions = c.plan
			opt.Finetune = gradient.Defaults()
			opt.Finetune.Epochs, opt.Finetune.Batch, opt.Finetune.Flip, opt.Finetune.LearningRate = 2, 20, false, 0.001
			var res *probe.Result
			if c.plan.Criterion == AFCC || c.plan.Dilution > 0 {
				res = measured(t, eng, m, opt)
			}
			dir := t.TempDir()
			out := filepath.Join(dir, "out.onnx")
			r, err := Prune(t.Context(), eng, m, res, out, nil, opt)
			if err != nil {
				t.Fatalf("%v, %+v", err, r)
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Errorf("%v is left", left)
			}
			if got := steps(r); !slices.Equal(got, c.steps) {
				t.Errorf("steps %q", got)
			}
			for _, s := range r.Steps {
				if s.Skipped != "" || s.Evaluation == nil || s.Evaluation.Changed == nil {
					t.Errorf("step %+v", s)
				}
				for _, l := range s.Layers {
					if l.Skipped == "" && l.After > l.Before && s.Name == RecoverRidge {
						t.Errorf("%s: %+v", s.Name, l)
					}
				}
				t.Logf("%s: %.4f", s.Name, s.Evaluation.Top1)
			}
			want := []string{"surgery", "untouched", "recovery", "compacted", "runs"}
			if slices.Contains(c.steps, RecoverFinetune) {
				want = slices.Insert(want, 4, RecoverFinetune)
			}
			for i, ch := range r.Checks {
				if !ch.OK || i >= len(want) || ch.Name != want[i] {
					t.Errorf("check %+v", ch)
				}
			}
			masked := r.Steps[0].Evaluation.Top1
			if after := r.After.Evaluation.Top1; *r.Drop > c.lost || 100*(after-masked) < c.gain {
				t.Errorf("top-1 %.4f, masked %.4f, recovered %.4f", r.Before.Evaluation.Top1, masked, after)
			}
			if last := r.Steps[len(r.Steps)-1].Evaluation; math.Abs(float64(last.Correct-r.After.Evaluation.Correct)) > 1 {
				t.Errorf("%d are right before compaction, %d after", last.Correct, r.After.Evaluation.Correct)
			}
			fit, stats, eval, err := opt.Set.Split(opt.Probe.Split)
			if err != nil {
				t.Fatal(err)
			}
			if s := r.Samples; s.Fit.SHA256 != fit.Hash || s.Stats.Samples != len(stats.Index) || s.Eval.SHA256 != eval.Hash || s.Preprocess != "signed" {
				t.Errorf("samples %+v", s)
			}
			if r.Before.Latency == nil || r.After.Latency == nil || r.After.Latency.Runs < 20 {
				t.Errorf("times %+v, %+v", r.Before.Latency, r.After.Latency)
			}
			written := open(t, out)
			if *r.After.MACs != *written.Totals.MACs || r.After.Parameters != written.Totals.Parameters || r.After.Bytes != written.FileBytes {
				t.Errorf("after %+v, the file has %+v", r.After, written.Totals)
			}
			t.Logf("%d of %d bytes, %d of %d multiply-accumulates, %.3f of %.3f ms", r.After.Bytes, r.Before.Bytes, *r.After.MACs, *r.Before.MACs, r.After.Latency.Median, r.Before.Latency.Median)
			if c.plan.FiltersKeep == 0 {
				return
			}
			if float64(*r.After.MACs) > 0.9*float64(*r.Before.MACs) || r.After.Parameters >= r.Before.Parameters {
				t.Errorf("before %+v, after %+v", r.Before, r.After)
			}
			// Each planned group has lost its filters in all layers that make them.
			for _, f := range r.Plan.Filters {
				for _, name := range append([]string{f.Layer}, f.Coupled...) {
					st, ok := written.Graph.Initializer(layerNamed(m, name).Weight)
					if !ok || st.Dims()[0] > int64(f.Kept) || c.plan.RoundTo > 1 && st.Dims()[0]%int64(c.plan.RoundTo) != 0 {
						t.Errorf("layer %s has %v left, want %d", name, st.Dims(), f.Kept)
					}
				}
			}
		})
	}
}

// TestHeld: in a dense file the zeros of the masks are zero after each step, and only
// what a step told of has changed.
func TestHeld(t *testing.T) {
	eng := runtime(t)
	m, opt := trained(t, vgg)
	opt.PlanOptions = PlanOptions{Target: Both, Criterion: Magnitude, Theta: 0.2, Dense: true}
	res := measured(t, eng, m, opt)
	plan, err := NewPlan(t.Context(), m, res, opt.PlanOptions)
	if err != nil {
		t.Fatal(err)
	}
	opt.Finetune = gradient.Defaults()
	opt.Finetune.Epochs, opt.Finetune.Batch, opt.Finetune.HoldOut = 1, 20, 0
	for _, step := range append(RecoverySteps(), RecoverNone) {
		opt.Recover = []string{step}
		out := filepath.Join(t.TempDir(), "out.onnx")
		r, err := Prune(t.Context(), eng, m, res, out, nil, opt)
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if r.Compaction != nil {
			t.Errorf("%s: %+v", step, r.Compaction)
		}
		written := open(t, out)
		changed := 0
		for _, l := range plan.Layers {
			was, _ := values(t, m, l.Weight)
			is, _ := values(t, written, l.Weight)
			for e := range was {
				if row, col := l.layout().connection(int64(e)); !l.kept(row, col) && is[e] != 0 {
					t.Fatalf("%s: %s[%d] is %v", step, l.Layer, e, is[e])
				} else if is[e] != was[e] && l.kept(row, col) {
					changed++
				}
			}
		}
		if weights := step == RecoverRidge || step == RecoverHead || step == RecoverFinetune; weights != (changed > 0) {
			t.Errorf("%s: %d weights are others", step, changed)
		}
	}
}

// TestChecksSee: each check finds what it is there for.
func TestChecksSee(t *testing.T) {
	eng := runtime(t)
	n := newNet().conv("a", 3, 4).conv("b", 4, 4).head(4)
	clear(n.g.Initializer[1].RawData[:9*4]) // one kernel of the layer "b"
	m := n.model(t)
	edited := func(name string, edit func(v []float32)) *inspect.Model {
		v, dims := values(t, m, name)
		edit(v)
		d := m.Handle.Draft()
		d.SetFloat32(d.Initializer(name), v, dims...)
		path := filepath.Join(t.TempDir(), "m.onnx")
		if err := d.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		return open(t, path)
	}
	for _, c := range []struct {
		name           string
		m              *inspect.Model
		held, silenced bool
	}{
		{"nothing", m, true, true},
		{"a weight", edited("w.b", func(v []float32) { v[20] = 3 }), true, false},
		{"a dropped weight", edited("w.b", func(v []float32) { v[3] = 3 }), false, false},
		{"a weight is zero", edited("w.b", func(v []float32) { v[20] = 0 }), true, true},
		{"a bias", edited("b.classifier", func(v []float32) { v[0] = 0 }), true, false},
	} {
		if _, err := checkHeld(t.Context(), m, c.m); (err == nil) != c.held {
			t.Errorf("%s: held: %v", c.name, err)
		}
		if err := checkSilenced(t.Context(), m, c.m); (err == nil) != c.silenced {
			t.Errorf("%s: silenced: %v", c.name, err)
		}
	}
	p := &pipeline{eng: eng, m: m, opt: Options{Probe: probe.Options{Progress: func(string, int, int) {}}}, r: &Report{}}
	var verdict *VerdictError
	if err := p.checkCompacted(t.Context(), m, edited("w.b", func(v []float32) { v[20] += 0.1 }), &Compaction{}); !errors.As(err, &verdict) || verdict.Check.Name != "compacted" {
		t.Errorf("another model: %v", err)
	}
	if err := p.checkCompacted(t.Context(), m, m, &Compaction{}); err != nil || len(p.r.Warnings) != 0 {
		t.Errorf("the same model: %v, %q", err, p.r.Warnings)
	}
	// A model that is dead proves nothing, and says so.
	dead := edited("w.classifier", func(v []float32) { clear(v) })
	if err := p.checkCompacted(t.Context(), dead, dead, &Compaction{}); err != nil || len(p.r.Warnings) != 1 {
		t.Errorf("a model without an answer of its own: %v, %q", err, p.r.Warnings)
	}
}

// TestDifference: what is not finite must be so on both sides.
func TestDifference(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		a, b              []float32
		largest, relative float64
	}{
		{[]float32{1, -4}, []float32{1, -4}, 0, 0},
		{[]float32{1, -4}, []float32{2, -4}, 1, 0.25},
		{[]float32{0, 0}, []float32{0, 1}, 1, math.MaxFloat64},
		{[]float32{nan, 2}, []float32{inf, 2}, 0, 0},
		{[]float32{nan, 2}, []float32{1, 2}, math.MaxFloat64, math.MaxFloat64},
		{[]float32{1, 2}, []float32{1, nan}, math.MaxFloat64, math.MaxFloat64},
	} {
		d := &Difference{}
		d.relate(d.add(c.a, c.b, 0))
		if d.varies || d.Largest != c.largest || d.Relative != c.relative {
			t.Errorf("%v, %v: %+v", c.a, c.b, d)
		}
	}
}

// TestPlanFile: a plan that was written and read gives the file to the byte that
// pruning at once gives, and so does pruning twice.
func TestPlanFile(t *testing.T) {
	eng := runtime(t)
	m, opt := trained(t, vgg)
	opt.PlanOptions = PlanOptions{Target: Both, Criterion: AFCC, Dilution: 0.4, FiltersKeep: 0.8, RoundTo: 1}
	res := measured(t, eng, m, opt)
	prune := func(opt Options, res *probe.Result) []byte {
		var b bytes.Buffer
		r, err := Prune(t.Context(), eng, m, res, "", &b, opt)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Plan.Layers) == 0 || len(r.Plan.Filters) == 0 || r.Plan.Layers[0].Mask != nil {
			t.Errorf("plan in the report: %+v", r.Plan)
		}
		return b.Bytes()
	}
	direct := prune(opt, res)
	if !bytes.Equal(direct, prune(opt, res)) {
		t.Error("pruning again gives other bytes")
	}
	plan, err := NewPlan(t.Context(), m, res, opt.PlanOptions)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadPlan(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(read)
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("read back as another plan (%v)", err)
	}
	applied := opt
	applied.PlanOptions, applied.Plan = PlanOptions{}, read
	if !bytes.Equal(direct, prune(applied, nil)) {
		t.Error("the plan from the file gives other bytes")
	}
	out := filepath.Join(t.TempDir(), "out.onnx")
	var refused *PlanError
	other, _ := trained(t, efficient)
	if _, err := Prune(t.Context(), eng, other, nil, out, nil, applied); !errors.As(err, &refused) || !strings.Contains(err.Error(), "another file") {
		t.Errorf("another model: %v", err)
	}
	stripped := applied
	stripped.Plan = plan.summary()
	if _, err := Prune(t.Context(), eng, m, nil, out, nil, stripped); !errors.As(err, &refused) {
		t.Errorf("a plan without masks: %v", err)
	}
	// What the file would cost is known before.
	c, err := Preview(t.Context(), m, plan)
	if err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Read(bytes.NewReader(direct), int64(len(direct)), "out")
	if err != nil {
		t.Fatal(err)
	}
	written, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if *c.After.MACs != *written.Totals.MACs || c.Model != m.File {
		t.Errorf("%d multiply-accumulates are foreseen, the file has %d", *c.After.MACs, *written.Totals.MACs)
	}
	for _, c := range []struct {
		name string
		edit func(p *Plan)
		want string
	}{
		{"a bit more", func(p *Plan) { p.Layers[0].Mask[0] ^= 1 }, "not those of its mask"},
		{"a mask cut short", func(p *Plan) { p.Layers[0].Mask = p.Layers[0].Mask[1:] }, "bytes for"},
		{"other columns", func(p *Plan) { p.Layers[0].Cols, p.Layers[0].Rows = p.Layers[0].Rows*2, p.Layers[0].Cols/2 }, ""},
		{"huge", func(p *Plan) { p.Layers[0].Cols, p.Layers[0].Rows = math.MaxInt64, math.MaxInt64 }, "its mask has"},
		{"negative", func(p *Plan) { p.Layers[0].Inner = -1 }, "connections of -1"},
		{"twice", func(p *Plan) { p.Layers[1] = p.Layers[0] }, "twice"},
		{"totals", func(p *Plan) { p.Dropped++ }, "totals"},
		{"a filter twice", func(p *Plan) {
			f := &p.Filters[len(p.Filters)-1]
			f.Removed[1] = f.Removed[0]
		}, "twice"},
		{"a step", func(p *Plan) { p.Recover = []string{"prayer"} }, "unknown recovery step"},
		{"nothing", func(p *Plan) { p.Layers, p.Filters = nil, nil }, "nothing falls"},
		{"dense", func(p *Plan) { p.Dense = true }, "contradict"},
	} {
		p, err := ReadPlan(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		c.edit(p)
		edited, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPlan(bytes.NewReader(edited)); !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A plan that fits itself but not the model.
	for _, c := range []struct {
		name string
		edit func(p *Plan)
	}{
		{"another layer", func(p *Plan) { p.Layers[0].Layer = "x" }},
		{"another weight", func(p *Plan) { p.Layers[0].Weight = "x" }},
		{"another group", func(p *Plan) { p.Filters[0].Layer = "x" }},
		{"transposed", func(p *Plan) { p.Layers[0].Transposed = !p.Layers[0].Transposed }},
	} {
		p, err := ReadPlan(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		c.edit(p)
		applied.Plan = p
		if _, err := Prune(t.Context(), eng, m, nil, out, nil, applied); !errors.As(err, &refused) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a file was written")
	}
}

func TestReadPlanRefuses(t *testing.T) {
	var refused *PlanError
	for _, c := range []struct {
		text, want string
		plan       bool
	}{
		{"", "not a plan", false}, {"[]", "not a plan", false}, {"{}", "not a plan", false}, {"x", "not a plan", false},
		{`{"schema":"filterlens.plan/1"}`, "does not say which connections fall", true},
		{`{"schema":"filterlens.plan/9"}`, "another version", true},
		{`{"schema":"filterlens.plan/2"}`, "nothing falls", true},
		{`{"schema":"filterlens.plan/2","layers":[{"mask":7}]}`, "plan: ", true},
	} {
		_, err := ReadPlan(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &refused) != c.plan || errors.Is(err, ErrNotPlan) == c.plan {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

func FuzzReadPlan(f *testing.F) {
	p := &Plan{Schema: PlanSchema, Model: "m", ModelSHA256: "0", Criterion: AFCC, Target: Both, Recover: []string{RecoverBias}}
	l := LayerPlan{Layer: "l", Op: "Conv", Rule: "filters", Weight: "w", In: "i", Rows: 3, Cols: 5, Inner: 9, Mask: []byte{0x5a, 0x31}}
	l.count()
	p.Layers = []LayerPlan{l}
	p.Connections, p.Kept, p.Elements, p.Dropped = l.Connections, l.Kept, l.Elements, l.Dropped
	p.Filters = []FilterPlan{{Layer: "l", Size: 4, Kept: 2, Removed: []int{3, 1}, Scores: []float64{0.1, 0.2}, KeptScore: 1}}
	b, err := json.Marshal(p)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := ReadPlan(bytes.NewReader(b)); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":"filterlens.plan/2","layers":[{"rows":4611686018427387904,"cols":4,"inner":1}]}`))
	f.Add([]byte(`{"schema":"filterlens.plan/1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ReadPlan(bytes.NewReader(b))
		if err != nil {
			return
		}
		for i := range p.Layers {
			l := &p.Layers[i]
			l.kept(l.Rows-1, l.Cols-1)
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPlan(bytes.NewReader(again)); err != nil {
			t.Fatalf("what was read is refused when it is written: %v", err)
		}
	})
}

// TestOptionsRefused: what cannot be is refused before anything is written.
func TestOptionsRefused(t *testing.T) {
	eng := runtime(t)
	m, good := trained(t, vgg)
	good.PlanOptions = halfOfFilters()
	dir := t.TempDir()
	drop := 1.0
	for _, c := range []struct {
		name string
		edit func(o *Options)
		want string
	}{
		{"a step", func(o *Options) { o.Recover = []string{"x"} }, "unknown recovery step"},
		{"none and more", func(o *Options) { o.Recover = []string{RecoverNone, RecoverBias} }, "does not go with"},
		{"no data to recover", func(o *Options) { o.Recover, o.Set = []string{RecoverRidge}, nil }, "needs data"},
		{"no data for a limit", func(o *Options) { o.MaxDrop, o.Set = &drop, nil }, "needs data"},
		{"no data to search", func(o *Options) { o.TargetMACs, o.Set = 0.5, nil }, "needs data"},
		{"a target", func(o *Options) { o.TargetMACs = 1 }, "shares below 1"},
		{"a target that is no number", func(o *Options) { o.TargetLatency = math.NaN() }, "shares below 1"},
		{"a search for a given plan", func(o *Options) { o.TargetMACs, o.Plan = 0.5, &Plan{} }, "nothing to search"},
		{"an empty plan", func(o *Options) { o.Plan = &Plan{} }, "nothing falls"},
		{"dense", func(o *Options) { o.Dense = true }, "stay dense"},
		{"a dense search", func(o *Options) { o.FiltersKeep, o.TargetMACs, o.Dense = 0, 0.5, true }, "stay dense"},
		{"more than all", func(o *Options) { o.FiltersKeep = 1.1 }, "share of at most 1"},
		{"all", func(o *Options) { o.FiltersKeep = 1 }, "nothing of"},
		{"rounding", func(o *Options) { o.RoundTo = -1 }, "multiples of -1"},
		{"a group", func(o *Options) { o.GroupsKeep = map[string]float64{"x": 0.5} }, `layer "x"`},
		{"a share of a group", func(o *Options) { o.GroupsKeep = map[string]float64{"x": 0} }, "layer x: 0"},
		{"filters by connections", func(o *Options) { o.Criterion, o.Activity = Weighted, map[string][]float64{} }, "not whole filters"},
		{"no activations", func(o *Options) { o.Criterion = Activation }, "needs samples"},
		{"other activations", func(o *Options) { o.Criterion, o.Activity = Activation, map[string][]float64{} }, "measure this model"},
		{"no statistics", func(o *Options) { o.Criterion = AFCC }, "needs statistics"},
		{"no statistics for connections", func(o *Options) { o.FiltersKeep = 0 }, "needs statistics"},
	} {
		opt := good
		c.edit(&opt)
		if _, err := Prune(t.Context(), eng, m, nil, filepath.Join(dir, "out.onnx"), nil, opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v is left behind", left)
	}
}

// TestInterrupted ends a run at each of its stages: nothing is left.
func TestInterrupted(t *testing.T) {
	eng := runtime(t)
	m, opt := trained(t, vgg)
	opt.PlanOptions = halfOfFilters()
	opt.Recover = []string{RecoverRidge, RecoverFinetune}
	opt.Finetune = gradient.Defaults()
	opt.Finetune.Epochs, opt.Finetune.Batch = 1, 20
	opt.Probe.Split.PerLabel = 10
	opt.TargetMACs, opt.FiltersKeep, opt.Layers = 0.9, 0, convolutions(m, 6, 7)
	var stages []string
	note := func(ctx context.Context, end func(), at int) error {
		dir := t.TempDir()
		stages = stages[:0]
		o := opt
		o.Probe.Progress = func(stage string, _, _ int) {
			if !slices.Contains(stages, stage) {
				stages = append(stages, stage)
			}
			if len(stages) == at {
				end()
			}
		}
		_, err := Prune(ctx, eng, m, nil, filepath.Join(dir, "out.onnx"), nil, o)
		left, _ := os.ReadDir(dir)
		if err == nil && len(left) != 1 || err != nil && len(left) != 0 {
			t.Errorf("ended in stage %q: %v, %v is left", stages, err, left)
		}
		return err
	}
	if err := note(t.Context(), func() {}, 0); err != nil {
		t.Fatal(err)
	}
	all := slices.Clone(stages)
	if len(all) < 6 {
		t.Errorf("stages %q", all)
	}
	for at := range all {
		ctx, cancel := context.WithCancel(t.Context())
		if err := note(ctx, cancel, at+1); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %q: %v", all[at], err)
		}
		cancel()
	}
}

// TestSearch: the plan that is found meets what was asked for.
func TestSearch(t *testing.T) {
	eng := runtime(t)
	m, opt := trained(t, vgg)
	opt.PlanOptions = halfOfFilters()
	opt.FiltersKeep = 0
	opt.Recover = []string{RecoverRidge}
	opt.Probe.Split.PerLabel = 40
	opt.TargetMACs, opt.Layers = 0.8, convolutions(m, 3, 7)
	out := filepath.Join(t.TempDir(), "out.onnx")
	r, err := Prune(t.Context(), eng, m, nil, out, nil, opt)
	if err != nil {
		t.Fatal(err)
	}
	left := float64(*r.After.MACs) / float64(*r.Before.MACs)
	if left > 0.8 || left < 0.7 || !r.Search.Met || len(r.Search.Sensitivities) != 5 || *r.Search.TargetMACs != 0.8 {
		t.Errorf("%v of the multiply-accumulates are left, search %+v", left, r.Search)
	}
	for _, s := range r.Search.Sensitivities {
		if len(s.Error) != 3 || s.Error[2] <= s.Error[0] || s.MACs <= 0 {
			t.Errorf("%+v", s)
		}
	}
	// A limit on the loss holds the search back; without a bit of it nothing goes.
	limit := *r.Drop / 2
	opt.MaxDrop = &limit
	r, err = Prune(t.Context(), eng, m, nil, out, nil, opt)
	var verdict *VerdictError
	if r == nil || err != nil && !errors.As(err, &verdict) {
		t.Fatal(err)
	}
	judged, taken := 0, 1.0
	for _, trial := range r.Search.Trials {
		if trial.Drop != nil {
			judged++
			if trial.OK != (*trial.Drop+*trial.Margin <= limit) {
				t.Errorf("%+v", trial)
			}
			if trial.OK {
				taken = *trial.MACs
			}
		}
	}
	if left := float64(*r.After.MACs) / float64(*r.Before.MACs); judged == 0 || r.Search.Met || left <= 0.8 || math.Abs(left-taken) > 0.02 {
		t.Errorf("%v of the multiply-accumulates are left, %d trials, %v", left, judged, err)
	}
	var option *OptionError
	never := -100.0
	opt.MaxDrop = &never
	if _, err := Prune(t.Context(), eng, m, nil, out, nil, opt); !errors.As(err, &option) {
		t.Errorf("a gain of a hundred points: %v", err)
	}
}

// TestSearchLatency: the time of what is found is measured. How much faster a model
// gets on this machine is not known here.
func TestSearchLatency(t *testing.T) {
	eng := runtime(t)
	m, opt := trained(t, vgg)
	opt.PlanOptions = halfOfFilters()
	opt.FiltersKeep, opt.Layers = 0, convolutions(m, 2, 7)
	opt.TargetLatency = 0.9
	r, err := Prune(t.Context(), eng, m, nil, filepath.Join(t.TempDir(), "out.onnx"), nil, opt)
	if err != nil {
		t.Fatal(err)
	}
	met := false
	for _, trial := range r.Search.Trials {
		if trial.Latency == nil || trial.OK != (*trial.Latency <= 0.9) {
			t.Errorf("%+v", trial)
		}
		met = met || trial.OK
	}
	if len(r.Search.Trials) > searchTrials+1 || met != r.Search.Met {
		t.Errorf("%+v", r.Search)
	}
}

func TestBisect(t *testing.T) {
	for _, c := range []struct {
		least, high, trials int
		want                int
		met                 bool
	}{
		{5, 16, 10, 5, true}, {0, 16, 10, 0, true}, {16, 16, 10, 16, true}, {17, 16, 10, 16, false}, {5, 16, 0, 16, true}, {5, 16, 1, 8, true}, {0, 0, 4, 0, true},
	} {
		asked := 0
		n, met, err := bisect(0, c.high, c.trials, func(n int) (bool, error) {
			asked++
			return n >= c.least, nil
		})
		if n != c.want || met != c.met || err != nil || asked > c.trials+1 {
			t.Errorf("%+v: %d, %v, %v in %d", c, n, met, err, asked)
		}
	}
}
