package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

const classes = 6

func open(t testing.TB, path string) *inspect.Model {
	t.Helper()
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// efficientNet returns a narrow network with every kind of layer.
func efficientNet(t testing.TB) *inspect.Model {
	t.Helper()
	d, err := arch.EfficientNetB0(arch.Options{Classes: classes, Size: 32, Width: 0.25, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := arch.Write(path, d); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

// statistics returns made-up statistics of every tap of m: about two labels a
// filter, some filters without any.
func statistics(t testing.TB, m *inspect.Model) *probe.Result {
	t.Helper()
	s, err := probe.NewSurvey(m)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 9))
	sum, err := m.Handle.SHA256(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	res := &probe.Result{Schema: probe.Schema, Model: m.File, ModelSHA256: sum, Theta: 0.3}
	res.Data.Labels = []string{"a", "b", "c", "d", "e", "f"}
	for _, tap := range s.Taps {
		l := probe.Layer{Tap: *tap, Head: "trained"}
		for f := range tap.Filters {
			field := make([]float32, classes*classes)
			for i := range field {
				field[i] = float32(r.Float64()*1.3 - 0.9)
			}
			if f%11 == 7 {
				clear(field)
			}
			filter := afcc.Analyze(field, classes, 0.3)
			filter.Index = f
			l.Filters = append(l.Filters, filter)
		}
		l.Stats = afcc.Summarize(l.Filters, classes, 0.3)
		res.Layers = append(res.Layers, l)
	}
	return res
}

// runtime opens ONNX Runtime on the provider that FILTERLENS_TEST_EP names, the
// CPU where it is not set. A provider that is not there fails the test.
func runtime(t testing.TB) engine.Engine {
	t.Helper()
	if !ort.Available {
		t.Skip("ONNX Runtime needs cgo")
	}
	eng, err := ort.Open(context.Background(), ort.Options{Provider: os.Getenv("FILTERLENS_TEST_EP"), Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

func values(t *testing.T, m *inspect.Model, name string) ([]float32, []int64) {
	t.Helper()
	w, ok := m.Graph.Initializer(name)
	if !ok {
		t.Fatalf("no initializer %q", name)
	}
	v, err := w.Float32s(1 << 30)
	if err != nil {
		t.Fatal(err)
	}
	return v, w.Dims()
}

func share(a, b []int) bool {
	return slices.ContainsFunc(a, func(l int) bool { return slices.Contains(b, l) })
}

// TestPruneByDefinition checks every weight of the written file against the
// definition by label sets, without scores or masks.
func TestPruneByDefinition(t *testing.T) {
	m, eng := efficientNet(t), runtime(t)
	res := statistics(t, m)
	out := filepath.Join(t.TempDir(), "out.onnx")
	report, err := Prune(t.Context(), eng, m, res, out, nil, Options{PlanOptions: PlanOptions{Target: Both, Criterion: AFCC, Theta: 0.5, Dense: true}})
	if err != nil {
		t.Fatal(err)
	}
	// 16 blocks of two mixing convolutions less the missing first expansion, the
	// head convolution and the classifier.
	if len(report.Plan.Layers) != 16+15+1+1 || !report.Verified {
		t.Fatalf("%d layers are planned, verified %v", len(report.Plan.Layers), report.Verified)
	}
	written := open(t, out)
	byDefinition(t, m, written, res, report)
	depthwise, gates := 0, 0
	for _, b := range report.Plan.Blocked {
		switch {
		case len(b.Reason) > 9 && b.Reason[:9] == "depthwise":
			depthwise++
		case len(b.Reason) > 14 && b.Reason[:14] == "squeeze-excite":
			gates++
		}
	}
	if depthwise != 16 || gates != 32 || len(report.Plan.Blocked) != 16+32+1 {
		t.Errorf("%d depthwise, %d gates, %d blocked in all", depthwise, gates, len(report.Plan.Blocked))
	}
}

// byDefinition checks every weight that the plan of report, made at 0.5, tells of,
// and that nothing else changed.
func byDefinition(t *testing.T, m, written *inspect.Model, res *probe.Result, report *Report) {
	t.Helper()
	var dropped int64
	for _, l := range report.Plan.Layers {
		was, dims := values(t, m, l.Weight)
		is, _ := values(t, written, l.Weight)
		inner := 1
		for _, d := range dims[2:] {
			inner *= int(d)
		}
		var zero int64
		for row := range int(dims[0]) {
			for col := range int(dims[1]) {
				in := res.Layer(l.In).Filters[col].LabelsAt(0.5)
				keep := slices.Contains(in, row)
				if l.Rule == "filters" {
					out := res.Layer(l.Out)
					first, _ := out.Range(l.Layer)
					keep = share(in, out.Filters[first+row].LabelsAt(0.5))
				}
				for i := range inner {
					e := (row*int(dims[1])+col)*inner + i
					switch {
					case keep && is[e] != was[e]:
						t.Fatalf("%s[%d,%d]: %v became %v", l.Layer, row, col, was[e], is[e])
					case !keep && is[e] != 0:
						t.Fatalf("%s[%d,%d]: %v should be zero", l.Layer, row, col, is[e])
					case !keep:
						zero++
					}
				}
			}
		}
		if zero != l.Dropped || int64(len(was)) != l.Elements {
			t.Errorf("%s: %d of %d dropped, the plan says %d of %d", l.Layer, zero, len(was), l.Dropped, l.Elements)
		}
		dropped += zero
	}
	if dropped != report.Plan.Dropped || report.NewZeros != dropped {
		t.Errorf("%d dropped, the plan says %d, %d became zero", dropped, report.Plan.Dropped, report.NewZeros)
	}
	d, err := delta.Compare(t.Context(), m, written, delta.Options{SkipFilters: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := d.Totals; n.TensorsDiffer != len(report.Plan.Layers) || n.TensorsWithin+n.TensorsNotRead > 0 || n.Renamed+n.Moved+n.Added+n.Removed+n.Rewritten > 0 {
		t.Errorf("%+v", n)
	}
	if len(d.Model) != 1 || d.Model[0].Name != MetadataKey || d.Model[0].From != "" {
		t.Errorf("%+v", d.Model)
	}
}

// TestPruneArchitectures: layers that a concatenation joins have their own part
// of its filters, and a convolution may be the classifier.
func TestPruneArchitectures(t *testing.T) {
	eng := runtime(t)
	for _, c := range []struct {
		name  string
		build func(n *net)
		want  map[string]string // layer: rule
	}{
		{"SqueezeNet and a classifier that is a convolution", func(n *net) {
			squeezed := n.conv("squeeze", 3, 4).t
			one := n.conv("expand1", 4, 5).t
			n.t = squeezed
			three := n.conv("expand3", 4, 6).t
			n.node("fire", "Concat", []string{one, three}, integer("axis", 1))
			n.conv("last", 11, 7)
			n.node("pool", "GlobalAveragePool", []string{n.t})
			n.node("classifier", "Conv", []string{n.t, n.weights("w.classifier", classes, 7, 1, 1)})
			n.node("flat", "Flatten", []string{n.t})
		}, map[string]string{"expand1": "filters", "expand3": "filters", "last": "filters", "classifier": "classifier"}},
		{"DenseNet", func(n *net) {
			all := n.conv("stem", 3, 4).t
			for i, name := range []string{"a", "b"} {
				n.node(name+".pre", "Relu", []string{n.t})
				n.conv(name+"1", int64(4+3*i), 5)
				n.node(name+"2", "Conv", []string{n.t, n.weights("w."+name+"2", 3, 5, 3, 3)}, ints("pads", 1, 1, 1, 1))
				all = n.node(name+".all", "Concat", []string{all, n.t}, integer("axis", 1))
			}
			n.node("post", "Relu", []string{all})
			n.head(10)
		}, map[string]string{"a1": "filters", "a2": "filters", "b1": "filters", "b2": "filters", "classifier": "classifier"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet()
			c.build(n)
			m := n.model(t)
			res := statistics(t, m)
			out := filepath.Join(t.TempDir(), "out.onnx")
			report, err := Prune(t.Context(), eng, m, res, out, nil, Options{PlanOptions: PlanOptions{Target: Both, Criterion: AFCC, Theta: 0.5, Dense: true}})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, l := range report.Plan.Layers {
				got[l.Layer] = l.Rule
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("planned %v, want %v (blocked %v)", got, c.want, report.Plan.Blocked)
			}
			byDefinition(t, m, open(t, out), res, report)
			for target, want := range map[string]bool{Classifier: true, Conv: false} {
				p, err := NewPlan(t.Context(), m, res, PlanOptions{Target: target, Criterion: AFCC, Theta: 0.5})
				if err != nil {
					t.Fatal(err)
				}
				if slices.ContainsFunc(p.Layers, func(l LayerPlan) bool { return l.Layer == "classifier" }) != want {
					t.Errorf("target %s: %v", target, p.Layers)
				}
			}
		})
	}
}

// TestPruneFloat16: a model that takes and gives float16 is run for its check.
func TestPruneFloat16(t *testing.T) {
	half := int32(onnxpb.TensorProto_FLOAT16)
	n := newNet()
	n.g.Input[0].GetType().GetTensorType().ElemType = &half
	n.node("in", "Cast", []string{"image"}, integer("to", int64(onnxpb.TensorProto_FLOAT)))
	n.conv("a", 3, 4).conv("b", 4, 5).head(5)
	out := value(n.node("out", "Cast", []string{n.t}, integer("to", int64(half))), -1, classes)
	out.GetType().GetTensorType().ElemType = &half
	n.g.Output = append(n.g.Output, out)
	path := n.save(t, false)
	// save lists the last tensor as a float output before those of the net.
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := f.Draft()
	d.Model.Graph.Output = d.Model.Graph.Output[1:]
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "half.onnx")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	m := open(t, path)
	report, err := Prune(t.Context(), runtime(t), m, statistics(t, m), filepath.Join(t.TempDir(), "out.onnx"), nil,
		Options{PlanOptions: PlanOptions{Target: Both, Criterion: AFCC, Theta: 0.5}})
	if err != nil || !report.Verified || len(report.Plan.Layers) != 2 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestControlsDropAsMuch(t *testing.T) {
	m := efficientNet(t)
	res := statistics(t, m)
	activity := map[string][]float64{}
	for _, l := range res.Layers {
		activity[l.Tensor] = make([]float64, len(l.Filters))
		for f := range l.Filters {
			activity[l.Tensor][f] = float64(1 + f%5)
		}
	}
	for _, dilution := range []float64{0, 0.9} {
		var plans []*Plan
		for _, c := range []string{AFCC, Random, Magnitude, Activation, Weighted} {
			p, err := NewPlan(t.Context(), m, res, PlanOptions{Target: Both, Criterion: c, Theta: 0.4, Dilution: dilution, Seed: 5, Activity: activity})
			if err != nil {
				t.Fatal(err)
			}
			plans = append(plans, p)
		}
		for i, l := range plans[0].Layers {
			if dilution > 0 && l.Dilution < dilution {
				t.Errorf("%s: dilution %v, %v was asked for", l.Layer, l.Dilution, dilution)
			}
			same := 0
			for r := range l.Rows {
				for c := range l.Cols {
					if l.kept(r, c) == plans[1].Layers[i].kept(r, c) {
						same++
					}
				}
			}
			for _, p := range plans[1:] {
				if p.Layers[i].Kept != l.Kept {
					t.Errorf("%s: %s keeps %d, afcc %d", l.Layer, p.Criterion, p.Layers[i].Kept, l.Kept)
				}
			}
			if n := l.Connections; n > 100 && l.Kept > 10 && same == n {
				t.Errorf("%s: random keeps what afcc keeps", l.Layer)
			}
			// By Weighted no output has more than one connection more than another.
			least, most := l.Cols, 0
			for r := range l.Rows {
				n := 0
				for c := range l.Cols {
					if plans[4].Layers[i].kept(r, c) {
						n++
					}
				}
				least, most = min(least, n), max(most, n)
			}
			if most > least+1 {
				t.Errorf("%s: outputs keep %d to %d connections", l.Layer, least, most)
			}
			// No dropped kernel is larger than a kept one.
			w := plans[2].Layers[i]
			v, _ := values(t, m, w.Weight)
			smallest, largest := 1e9, 0.0
			for r := range w.Rows {
				for c := range w.Cols {
					sum := 0.0
					for q := range w.Inner {
						x := float64(v[(r*w.Cols+c)*w.Inner+q])
						sum += x * x
					}
					if w.kept(r, c) {
						smallest = min(smallest, sum)
					} else {
						largest = max(largest, sum)
					}
				}
			}
			if largest > smallest*(1+1e-5) {
				t.Errorf("%s: dropped a kernel of norm² %v and kept one of %v", w.Layer, largest, smallest)
			}
		}
	}
}

func TestLayout(t *testing.T) {
	for _, l := range []layout{{rows: 3, cols: 4, inner: 5}, {rows: 3, cols: 4, inner: 5, transposed: true}, {rows: 1, cols: 1, inner: 1}} {
		for e := range l.elements() {
			row, col := l.connection(e)
			if row < 0 || row >= l.rows || col < 0 || col >= l.cols {
				t.Fatalf("%+v: element %d belongs to %d,%d", l, e, row, col)
			}
			for i := e; i < e+l.run(e); i++ {
				if r, c := l.connection(i); r != row || c != col {
					t.Fatalf("%+v: the run from %d leaves its connection at %d", l, e, i)
				}
			}
			// A stored tensor is rows x (cols*inner), or its transpose.
			wantRow, wantCol := int(e)/(l.cols*l.inner), int(e)%(l.cols*l.inner)/l.inner
			if l.transposed {
				wantRow, wantCol = int(e)%l.rows, int(e)/l.rows/l.inner
			}
			if row != wantRow || col != wantCol {
				t.Fatalf("%+v: element %d is %d,%d, want %d,%d", l, e, row, col, wantRow, wantCol)
			}
		}
	}
}

func TestPruneLeavesNothingOnFailure(t *testing.T) {
	m, eng := efficientNet(t), runtime(t)
	res := statistics(t, m)
	dir := t.TempDir()
	good := Options{PlanOptions: PlanOptions{Target: Both, Criterion: AFCC, Theta: 0.5}}
	run := func(out string, change func(*Options)) error {
		opt := good
		change(&opt)
		_, err := Prune(t.Context(), eng, m, res, out, nil, opt)
		return err
	}
	out := filepath.Join(dir, "out.onnx")
	var option *OptionError
	var unknown *probe.UnknownLayerError
	var same *SameFileError
	drop := 1.0
	for _, c := range []struct {
		name   string
		out    string
		change func(*Options)
		as     any
	}{
		{"target", out, func(o *Options) { o.Target = "x" }, &option},
		{"criterion", out, func(o *Options) { o.Criterion = "x" }, &option},
		{"dilution", out, func(o *Options) { o.Dilution = 1 }, &option},
		{"layer", out, func(o *Options) { o.PlanOptions.Layers = []string{"x"} }, &unknown},
		{"only a gate", out, func(o *Options) { o.PlanOptions.Layers = []string{m.Layers[0].Name} }, &option},
		{"max drop without data", out, func(o *Options) { o.MaxDrop = &drop }, &option},
		{"output is the model", m.File, func(*Options) {}, &same},
		{"output is a folder", dir, func(*Options) {}, nil},
		{"no such folder", filepath.Join(dir, "none", "out.onnx"), func(*Options) {}, nil},
	} {
		before, err := os.ReadFile(m.File)
		if err != nil {
			t.Fatal(err)
		}
		err = run(c.out, c.change)
		if err == nil || c.as != nil && !errors.As(err, c.as) {
			t.Errorf("%s: %v", c.name, err)
		}
		if after, _ := os.ReadFile(m.File); !bytes.Equal(before, after) {
			t.Errorf("%s: the model was changed", c.name)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: %v was left behind", c.name, left)
		}
	}
	// A cancelled run, and an engine that cannot open the result.
	ctx, cancel := context.WithCancel(t.Context())
	opt := good
	opt.Probe.Progress = func(string, int, int) { cancel() }
	if _, err := Prune(ctx, eng, m, res, out, nil, opt); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var verdict *VerdictError
	if r, err := Prune(t.Context(), broken{eng}, m, res, out, nil, good); !errors.As(err, &verdict) || r.Verified {
		t.Errorf("an engine that fails: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v was left behind", left)
	}
}

type broken struct{ engine.Engine }

func (broken) Load(context.Context, engine.Model) (engine.Session, error) {
	return nil, &engine.Error{Op: "load", Model: "out", Err: io.ErrUnexpectedEOF}
}

func TestPruneToWriter(t *testing.T) {
	m, eng := efficientNet(t), runtime(t)
	res := statistics(t, m)
	var buf bytes.Buffer
	opt := Options{PlanOptions: PlanOptions{Target: Classifier, Criterion: AFCC, Theta: 0.5}}
	if _, err := Prune(t.Context(), eng, m, res, "", &buf, opt); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.onnx")
	if _, err := Prune(t.Context(), eng, m, res, out, nil, opt); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, buf.Bytes()) {
		t.Errorf("a writer gets other bytes than a file (%v)", err)
	}
	// Pruning the pruned model again records both steps.
	again := filepath.Join(t.TempDir(), "again.onnx")
	first := open(t, out)
	var other *probe.OtherModelError
	if _, err := Prune(t.Context(), eng, first, res, again, nil, opt); !errors.As(err, &other) {
		t.Errorf("statistics of another model: %v", err)
	}
	if _, err := Prune(t.Context(), eng, first, statistics(t, first), again, nil, opt); err != nil {
		t.Fatal(err)
	}
	var before provenance
	for _, kv := range open(t, again).Metadata {
		if kv.Key == MetadataKey {
			if err := json.Unmarshal([]byte(kv.Value), &before); err != nil {
				t.Fatal(err)
			}
		}
	}
	if before.Before == "" {
		t.Error("the first step is not recorded")
	}
}

// TestSurgeryCheckSees changes one weight of a written file and expects the
// check to find it.
func TestSurgeryCheckSees(t *testing.T) {
	m := efficientNet(t)
	p, err := NewPlan(t.Context(), m, statistics(t, m), PlanOptions{Target: Both, Criterion: AFCC, Theta: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	write := func(change func(*onnxfile.Draft)) *inspect.Model {
		d, err := Apply(m, p)
		if err != nil {
			t.Fatal(err)
		}
		change(d)
		path := filepath.Join(t.TempDir(), "out.onnx")
		if err := arch.Write(path, d); err != nil {
			t.Fatal(err)
		}
		return open(t, path)
	}
	set := func(d *onnxfile.Draft, name string, change func([]float32)) {
		v, dims := values(t, m, name)
		change(v)
		d.SetFloat32(d.Initializer(name), v, dims...)
	}
	planned := map[string]bool{}
	for i := range p.Layers {
		planned[p.Layers[i].Weight] = true
	}
	l := p.Layers[3]
	if _, err := checkSurgery(t.Context(), m, write(func(*onnxfile.Draft) {}), p); err != nil {
		t.Errorf("the right file: %v", err)
	}
	if _, err := checkSurgery(t.Context(), m, write(func(d *onnxfile.Draft) { set(d, l.Weight, func([]float32) {}) }), p); err == nil {
		t.Error("an undiluted layer passed")
	}
	if _, err := checkSurgery(t.Context(), m, write(func(d *onnxfile.Draft) { set(d, l.Weight, func(v []float32) { clear(v) }) }), p); err == nil {
		t.Error("a layer of zeros passed")
	}
	other := ""
	for _, ml := range m.Layers {
		if ml.Op == "Conv" && ml.Group > 1 {
			other = ml.Weight
		}
	}
	bad := write(func(d *onnxfile.Draft) { set(d, other, func(v []float32) { v[0]++ }) })
	if _, err := checkSurgery(t.Context(), m, bad, p); err != nil {
		t.Errorf("a weight outside the plan: %v", err)
	}
	if err := checkUntouched(t.Context(), m, bad, planned); err == nil {
		t.Error("a changed weight outside the plan passed")
	}
}

// TestTapsSuffice plans with statistics of the asked taps alone.
func TestTapsSuffice(t *testing.T) {
	m := efficientNet(t)
	all := statistics(t, m)
	for _, opt := range []PlanOptions{{Target: Both}, {Target: Conv}, {Target: Classifier}, {Target: Conv, Layers: []string{m.Layers[len(m.Layers)-2].Name}}} {
		opt.Criterion, opt.Theta = AFCC, 0.5
		if len(opt.Layers) > 0 {
			for i := range m.Layers {
				if l := &m.Layers[i]; l.Op == "Conv" && l.Group == 1 {
					opt.Layers[0] = l.Name // the last one
				}
			}
		}
		want, err := NewPlan(t.Context(), m, all, opt)
		if err != nil {
			t.Fatal(err)
		}
		tensors, err := Taps(m, opt)
		if err != nil {
			t.Fatal(err)
		}
		some := *all
		some.Layers = slices.DeleteFunc(slices.Clone(all.Layers), func(l probe.Layer) bool { return !slices.Contains(tensors, l.Tensor) })
		got, err := NewPlan(t.Context(), m, &some, opt)
		if err != nil {
			t.Fatal(err)
		}
		if got.Kept != want.Kept || got.Connections != want.Connections || len(got.Layers) != len(want.Layers) {
			t.Errorf("%+v: %d of %d kept in %d layers, want %d of %d in %d", opt, got.Kept, got.Connections, len(got.Layers), want.Kept, want.Connections, len(want.Layers))
		}
		if opt.Target == Classifier && len(tensors) != 1 || len(opt.Layers) > 0 && len(tensors) != 2 {
			t.Errorf("%+v asks for %v", opt, tensors)
		}
	}
}
