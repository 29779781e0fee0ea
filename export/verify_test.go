package export

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

var bothByLabels = PlanOptions{Target: Both, Criterion: AFCC, Theta: 0.5, Dense: true}

// TestCheckOutput: neither the model nor the data beside it may be written over,
// by whatever name.
func TestCheckOutput(t *testing.T) {
	path := newNet().conv("a", 3, 4).conv("b", 4, 4).head(4).save(t, true)
	m, dir := open(t, path), filepath.Dir(path)
	data := filepath.Join(dir, "w.data")
	for link, target := range map[string]string{"model.link": path, "data.link": "w.data", "folder.link": dir} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
	}
	other := filepath.Join(dir, "other.data")
	if err := os.WriteFile(other, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(data)
	if err != nil {
		t.Fatal(err)
	}
	res, eng := statistics(t, m), runtime(t)
	var same *SameFileError
	for _, c := range []struct {
		output string
		same   bool
	}{
		{"", false}, {filepath.Join(dir, "out.onnx"), false}, {other, false},
		{path, true}, {data, true}, {dir + "/./w.data", true},
		{filepath.Join(dir, "model.link"), true}, {filepath.Join(dir, "data.link"), true}, {filepath.Join(dir, "folder.link", "w.data"), true},
	} {
		if err := CheckOutput(m, c.output); errors.As(err, &same) != c.same || err != nil != c.same {
			t.Errorf("%q: %v", c.output, err)
		}
		if !c.same {
			continue
		}
		if _, err := Prune(t.Context(), eng, m, res, c.output, nil, Options{PlanOptions: bothByLabels}); !errors.As(err, &same) {
			t.Errorf("Prune to %q: %v", c.output, err)
		}
	}
	if after, err := os.ReadFile(data); err != nil || string(after) != string(before) {
		t.Errorf("the data were written over (%v)", err)
	}
	hard := filepath.Join(dir, "data.hard")
	if err := os.Link(data, hard); err != nil {
		t.Skip(err)
	}
	if err := CheckOutput(m, hard); !errors.As(err, &same) {
		t.Errorf("a hard link to the data: %v", err)
	}
	// A model opened by a link is known by its file.
	if err := CheckOutput(open(t, filepath.Join(dir, "model.link")), path); !errors.As(err, &same) {
		t.Errorf("the file that the link points to: %v", err)
	}
}

// TestStatisticsOfAnotherModel: they must have been measured on the same bytes,
// those beside the file included.
func TestStatisticsOfAnotherModel(t *testing.T) {
	eng := runtime(t)
	build := func() *net { return newNet().conv("a", 3, 4).conv("b", 4, 4).head(4) }
	path := build().save(t, true)
	data := filepath.Join(filepath.Dir(path), "w.data")
	out := filepath.Join(t.TempDir(), "out.onnx")
	res := statistics(t, open(t, path))
	var other *probe.OtherModelError
	prune := func(m *inspect.Model) error {
		_, err := Prune(t.Context(), eng, m, res, out, nil, Options{PlanOptions: bothByLabels})
		if _, statErr := os.Stat(out); (statErr == nil) != (err == nil) {
			t.Errorf("error %v, but the file: %v", err, statErr)
		}
		os.Remove(out)
		return err
	}
	if err := prune(open(t, path)); err != nil {
		t.Fatal(err)
	}
	if err := prune(build().model(t)); !errors.As(err, &other) {
		t.Errorf("the same numbers in another file: %v", err)
	}
	different := build()
	different.weights("unused", 1)
	if err := prune(different.model(t)); !errors.As(err, &other) {
		t.Errorf("another file: %v", err)
	}
	b, err := os.ReadFile(data)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(data, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := prune(open(t, path)); !errors.As(err, &other) {
		t.Errorf("other data beside the file: %v", err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(data, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := prune(open(t, path)); err != nil {
		t.Errorf("the first data again: %v", err)
	}
}

// TestShapeOptions: sizes given for the model hold for the written file too.
func TestShapeOptions(t *testing.T) {
	eng := runtime(t)
	n := newNet()
	n.g.Input[0] = value("image", -1, 3, -1, -1)
	path := n.conv("a", 3, 4).conv("b", 4, 4).head(4).save(t, false)
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		name string
		opt  inspect.Options
		macs int64
	}{
		{"InputShapes", inspect.Options{InputShapes: map[string][]int64{"image": {-1, 3, 8, 8}}}, 64 * 9 * (12 + 16)},
		{"Dims", inspect.Options{Dims: map[string]int64{"d2": 4, "d3": 6}}, 24 * 9 * (12 + 16)},
	} {
		m, err := inspect.New(t.Context(), f, c.opt)
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "out.onnx")
		r, err := Prune(t.Context(), eng, m, statistics(t, m), out, nil, Options{PlanOptions: bothByLabels})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, s := range []*Side{r.Before, r.After} {
			if s.MACs == nil || *s.MACs != c.macs+4*classes {
				t.Errorf("%s: %+v, want %d multiply-accumulates", c.name, s, c.macs+4*classes)
			}
		}
		if in := open(t, out).Inputs[0].Shape.String(); in != "batch x 3 x d2 x d3" {
			t.Errorf("%s: the written file's input is %s", c.name, in)
		}
	}
}

// TestPoints: a share that has a short decimal form becomes just that number,
// so that it does not exceed a limit of the same size.
func TestPoints(t *testing.T) {
	for n := range 1001 {
		want, err := strconv.ParseFloat(fmt.Sprintf("%d.%d", n/10, n%10), 64)
		if err != nil {
			t.Fatal(err)
		}
		if got := points(n, 1000); got != want {
			t.Errorf("%d of 1000 are %v points, want %v", n, got, want)
		}
	}
	if points(-3, 800) != -0.375 || points(0, 7) != 0 {
		t.Error("a gain is no negative loss")
	}
}

// answers runs the model sample by sample and returns the largest output of each.
func answers(t *testing.T, eng engine.Engine, path string, set *dataset.Set, index []int) []int {
	t.Helper()
	s, err := eng.Load(t.Context(), engine.Model{Name: path, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var all []int
	for _, i := range index {
		im, err := set.Decode(i)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, len(im.Pix))
		for p, v := range im.Pix {
			x[p] = float32(v)/127.5 - 1
		}
		in, out := s.Inputs()[0].Name, s.Outputs()[0].Name
		result := map[string]*engine.Tensor{out: nil}
		if err := s.Run(t.Context(), map[string]*engine.Tensor{in: engine.NewFloat32(x, 1, 1, 32, 32)}, result); err != nil {
			t.Fatal(err)
		}
		best := 0
		for j, v := range result[out].Float32() {
			if v > result[out].Float32()[best] {
				best = j
			}
		}
		all = append(all, best)
	}
	return all
}

// TestMaxDrop dilutes a trained model and compares the verdict with answers
// taken one by one.
func TestMaxDrop(t *testing.T) {
	eng, m := runtime(t), open(t, filepath.Join("..", "fixtures", "vgg16-glyphs20.onnx"))
	set, err := dataset.Open(filepath.Join("..", "fixtures", "glyphs20"), dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	pre, err := dataset.Preset("signed")
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{PlanOptions: PlanOptions{Target: Classifier, Criterion: AFCC, Theta: 0.9, Recover: []string{RecoverNone}}, Set: set,
		Probe: probe.Options{Preprocess: pre, Theta: 0.3, Split: dataset.SplitOptions{Seed: 4, PerLabel: 21}}}
	if opt.Probe.Layers, err = Taps(m, opt.PlanOptions); err != nil || len(opt.Probe.Layers) != 1 {
		t.Fatalf("taps %q, %v", opt.Probe.Layers, err)
	}
	res, err := probe.Measure(t.Context(), eng, m, set, opt.Probe)
	if err != nil {
		t.Fatal(err)
	}
	_, _, eval, err := set.Split(opt.Probe.Split)
	if err != nil {
		t.Fatal(err)
	}
	free := filepath.Join(t.TempDir(), "free.onnx")
	r, err := Prune(t.Context(), eng, m, res, free, nil, opt)
	if err != nil {
		t.Fatal(err)
	}
	was, is := answers(t, eng, m.File, set, eval.Index), answers(t, eng, free, set, eval.Index)
	var before, after, changed int
	for n, i := range eval.Index {
		if was[n] == set.Label(i) {
			before++
		}
		if is[n] == set.Label(i) {
			after++
		}
		if was[n] != is[n] {
			changed++
		}
	}
	n := len(eval.Index)
	if before*10 < n*9 || after >= before || changed <= before-after {
		t.Fatalf("%d, then %d of %d are right, %d changed: the test can tell nothing from that", before, after, n, changed)
	}
	if b, a := r.Before.Evaluation, r.After.Evaluation; b.Correct != before || a.Correct != after || b.Samples != n || a.Samples != n ||
		b.Top1 != float64(before)/float64(n) || a.Top1 != float64(after)/float64(n) {
		t.Errorf("%+v and %+v; want %d and %d of %d", b, a, before, after, n)
	}
	drop := 100 * float64(before-after) / float64(n)
	if *r.Drop != drop || *r.Changed != float64(changed)/float64(n) || !r.Verified || res.Accuracy != float64(before)/float64(n) {
		t.Errorf("drop %v, changed %v, accuracy when measured %v; want %v, %v, %v", *r.Drop, *r.Changed, res.Accuracy, drop, float64(changed)/float64(n), float64(before)/float64(n))
	}
	dir := t.TempDir()
	for _, c := range []struct {
		name   string
		max    float64
		passes bool
	}{
		{"exactly", drop, true}, {"more", drop + 1, true}, {"any", math.Inf(1), true},
		{"a little less", math.Nextafter(drop, 0), false}, {"none", 0, false}, {"a gain", -1, false},
	} {
		opt, out := opt, filepath.Join(dir, "out.onnx")
		opt.MaxDrop = &c.max
		r, err := Prune(t.Context(), eng, m, res, out, nil, opt)
		var verdict *VerdictError
		_, statErr := os.Stat(out)
		os.Remove(out)
		left, _ := os.ReadDir(dir)
		switch {
		case len(left) != 0:
			t.Errorf("%s: %v is left behind", c.name, left)
		case c.passes && (err != nil || statErr != nil || !r.Verified):
			t.Errorf("%s: %v, file %v", c.name, err, statErr)
		case !c.passes && (!errors.As(err, &verdict) || verdict.Check.Name != "accuracy" || statErr == nil || r == nil || r.Verified || *r.Drop != drop):
			t.Errorf("%s: %v, file %v", c.name, err, statErr)
		}
	}
	opt.MaxDrop = new(float64)
	*opt.MaxDrop = math.NaN()
	var option *OptionError
	if _, err := Prune(t.Context(), eng, m, res, filepath.Join(dir, "out.onnx"), nil, opt); !errors.As(err, &option) {
		t.Errorf("a limit that is no number: %v", err)
	}
}

// TestRunsFinite: outputs that are not finite count only where dilution made
// them so.
func TestRunsFinite(t *testing.T) {
	eng := runtime(t)
	build := func(bias float32, second bool) *inspect.Model {
		n := newNet().conv("a", 3, 4).conv("b", 4, 4).head(4)
		v := make([]float32, classes)
		v[classes-1] = bias
		logits := n.t
		n.node("sum", "Add", []string{logits, n.floats("bias", v, classes)})
		if second {
			sum := n.t
			n.g.Output = append(n.g.Output, value(sum, -1, classes))
			n.t = logits
		}
		return n.model(t)
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, second := range []bool{false, true} {
		for _, c := range []struct {
			was, is float32
			ok      bool
		}{
			{0, 0, true}, {nan, nan, true}, {inf, inf, true}, {-inf, nan, true}, {nan, 0, true},
			{0, nan, false}, {0, inf, false}, {0, -inf, false},
		} {
			_, err := runs(t.Context(), eng, build(c.was, second), build(c.is, second))
			if c.ok != (err == nil) || err != nil && !strings.Contains(err.Error(), "not finite") {
				t.Errorf("%v became %v: %v", c.was, c.is, err)
			}
		}
	}
	m := build(nan, false)
	out := filepath.Join(t.TempDir(), "out.onnx")
	if r, err := Prune(t.Context(), eng, m, statistics(t, m), out, nil, Options{PlanOptions: bothByLabels}); err != nil || !r.Verified {
		t.Errorf("a model that answers NaN: %v", err)
	}
}

// TestBecomesNaN dilutes a layer entirely behind which the model divides by a
// mean, which is then zero.
func TestBecomesNaN(t *testing.T) {
	eng := runtime(t)
	n := newNet().conv("a", 3, 4).conv("b", 4, 4)
	b := n.t
	n.node("mean", "ReduceMean", []string{b}, ints("axes", 1, 2, 3))
	n.node("normalized", "Div", []string{b, "mean"})
	m := n.head(4).model(t)
	res := statistics(t, m)
	for f := range res.Layers[1].Filters {
		res.Layers[1].Filters[f] = afcc.Filter{Index: f} // no label
	}
	dir := t.TempDir()
	r, err := Prune(t.Context(), eng, m, res, filepath.Join(dir, "out.onnx"), nil, Options{PlanOptions: PlanOptions{Target: Conv, Criterion: AFCC, Theta: 0.5}})
	var verdict *VerdictError
	if !errors.As(err, &verdict) || verdict.Check.Name != "runs" || r.Verified || len(r.Warnings) != 1 {
		t.Errorf("%v, report %+v", err, r)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v is left behind", left)
	}
}

// TestOpenSizeOfArchitecture: what the network's own builder makes can be given
// another size and still be diluted.
func TestOpenSizeOfArchitecture(t *testing.T) {
	d, err := arch.EfficientNetB0(arch.Options{Classes: classes, Size: 32, Width: 0.25, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	dims := d.Model.Graph.Input[0].GetType().GetTensorType().GetShape().Dim
	dims[2].Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "side"}
	dims[3].Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "side"}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := arch.Write(path, d); err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := inspect.New(t.Context(), f, inspect.Options{Dims: map[string]int64{"side": 32}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Prune(t.Context(), runtime(t), m, statistics(t, m), filepath.Join(t.TempDir(), "out.onnx"), nil, Options{PlanOptions: bothByLabels})
	if err != nil {
		t.Fatal(err)
	}
	if r.After.MACs == nil || r.Before.MACs == nil || *r.After.MACs != *r.Before.MACs {
		t.Errorf("before %+v, after %+v", r.Before, r.After)
	}
}

// TestOpenSizeIsNotCalledRun loads a file whose input size nobody gave: the
// report must not say that it ran.
func TestOpenSizeIsNotCalledRun(t *testing.T) {
	m, eng := efficientNet(t), runtime(t)
	d := m.Handle.Draft()
	dims := d.Model.Graph.Input[0].Type.GetTensorType().Shape.Dim
	dims[2].Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "h"}
	dims[3].Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "w"}
	path := filepath.Join(t.TempDir(), "open.onnx")
	if err := arch.Write(path, d); err != nil {
		t.Fatal(err)
	}
	sized := open(t, path)
	ran, err := runs(t.Context(), eng, sized, sized)
	if err != nil || ran {
		t.Errorf("ran %v, %v", ran, err)
	}
	if ran, err = runs(t.Context(), eng, m, m); err != nil || !ran {
		t.Errorf("a fixed size: ran %v, %v", ran, err)
	}
}
