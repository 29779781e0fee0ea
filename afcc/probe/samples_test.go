package probe

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
)

// samples changes the files of an image folder by their numbers in its set.
type samples struct {
	t   *testing.T
	dir string
	set *dataset.Set
}

func (s samples) path(i int) string { return filepath.Join(s.dir, filepath.FromSlash(s.set.ID(i))) }

// corrupt leaves the beginning of a file: an image by its first bytes, but none
// that can be decoded. Two such files are the same.
func (s samples) corrupt(index ...int) {
	s.t.Helper()
	for _, i := range index {
		if err := os.Truncate(s.path(i), 41); err != nil {
			s.t.Fatal(err)
		}
	}
}

// copy makes files the same as that of sample from.
func (s samples) copy(from int, to ...int) {
	s.t.Helper()
	b, err := os.ReadFile(s.path(from))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, i := range to {
		if err := os.WriteFile(s.path(i), b, 0o666); err != nil {
			s.t.Fatal(err)
		}
	}
}

// of returns the n-th sample of a label in a split.
func (s samples) of(split dataset.Split, label, n int) int {
	for _, i := range split.Index {
		if s.set.Label(i) == label {
			if n == 0 {
				return i
			}
			n--
		}
	}
	s.t.Fatalf("split %s has too few samples of label %d", split.Name, label)
	return 0
}

// TestCounts measures on a folder with unreadable and repeated files in every
// split: all numbers are of samples used.
func TestCounts(t *testing.T) {
	eng, m := runtime(t), small(t, testK)
	opt := testOptions()
	dir := imageFolder(t, testK, 20)
	s := samples{t, dir, openSet(t, dir)}
	fit, stats, eval, err := s.set.Split(opt.Split)
	if err != nil {
		t.Fatal(err)
	}
	if len(fit.Index) != 8*testK || len(stats.Index) != 6*testK || len(eval.Index) != 6*testK {
		t.Fatalf("splits of %d, %d and %d samples", len(fit.Index), len(stats.Index), len(eval.Index))
	}
	s.corrupt(s.of(fit, 0, 0), s.of(fit, 0, 1), s.of(fit, 3, 2))
	s.corrupt(s.of(stats, 1, 0))
	s.corrupt(s.of(eval, 2, 0), s.of(eval, 2, 1), s.of(eval, 4, 0), s.of(eval, 0, 0))
	s.copy(s.of(fit, 1, 0), s.of(stats, 1, 1), s.of(eval, 1, 0)) // fit, stats and eval: counts once
	s.copy(s.of(fit, 1, 1), s.of(eval, 1, 1), s.of(eval, 3, 1))  // twice in eval: counts twice
	s.copy(s.of(stats, 2, 0), s.of(eval, 2, 2))
	s.copy(s.of(eval, 3, 2), s.of(eval, 3, 3))    // only in eval
	s.copy(s.of(fit, 4, 1), s.of(stats, 4, 1))    // not in eval
	for _, memory := range []int64{0, 16 << 10} { // all heads at once, and in groups with training inside the trunk
		opt.Memory = memory
		set := openSet(t, dir)
		res, err := Measure(t.Context(), eng, m, set, opt)
		if err != nil {
			t.Fatal(err)
		}
		d := res.Data
		for _, c := range []struct {
			name      string
			got, want int
		}{
			{"samples", d.Samples, 20 * testK},
			{"unreadable", d.Unreadable, 8},
			{"repeated", d.Repeated, 4},
			{"fit", d.Fit.Samples, 8*testK - 3}, {"fit, least", d.Fit.MinPerLabel, 6}, {"fit, most", d.Fit.MaxPerLabel, 8},
			{"stats", d.Stats.Samples, 6*testK - 1}, {"stats, least", d.Stats.MinPerLabel, 5}, {"stats, most", d.Stats.MaxPerLabel, 6},
			{"eval", d.Eval.Samples, 6*testK - 4}, {"eval, least", d.Eval.MinPerLabel, 4}, {"eval, most", d.Eval.MaxPerLabel, 6},
		} {
			if c.got != c.want {
				t.Errorf("limit %d: %s: %d, want %d", memory, c.name, c.got, c.want)
			}
		}
		// An accuracy is a share of the samples used.
		for _, a := range []float64{res.Accuracy, res.Layers[0].Accuracy} {
			if n := a * float64(6*testK-4); n-float64(int(n+0.5)) > 1e-9 || float64(int(n+0.5))-n > 1e-9 {
				t.Errorf("an accuracy of %v is no share of %d samples", a, 6*testK-4)
			}
		}
		for _, want := range []string{"left out of the data: 8: label", "4 evaluation samples"} {
			if !slices.ContainsFunc(res.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
				t.Errorf("no warning of %q in %q", want, res.Warnings)
			}
		}
	}
	// The model's own head is not fitted: nothing is said of the fitting split.
	opt.Memory, opt.Layers = 0, []string{"hidden"}
	res, err := Measure(t.Context(), eng, m, openSet(t, dir), opt)
	if err != nil {
		t.Fatal(err)
	}
	if d := res.Data; d.Fit.Samples != 0 || d.Fit.SHA256 != fit.Hash || d.Unreadable != 5 || d.Repeated != 2 {
		t.Errorf("own head: %+v", d)
	}
}

// TestBatchOfFile: whether a model takes other batches is said by the file, not
// by a shape that was asked for.
func TestBatchOfFile(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 9)
	build := func(batch int64, opt inspect.Options) *inspect.Model {
		n := newNet(batch, 3, 8)
		n.conv("conv1", 3, 4, 3, 1).op("Relu").head(4)
		m := n.model(t, batch, testK)
		m, err := inspect.New(t.Context(), m.Handle, opt)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	given := func(dims ...int64) inspect.Options {
		return inspect.Options{InputShapes: map[string][]int64{"image": dims}}
	}
	want, err := Measure(t.Context(), eng, build(-1, inspect.Options{}), set, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		model  *inspect.Model
		batch  int
		opened bool
	}{
		{"open, 4 asked for", build(-1, given(4, 3, 8, 8)), 0, false},
		{"open, 1 asked for", build(-1, given(1, 3, 8, 8)), 0, false},
		{"open, a batch of 5", build(-1, inspect.Options{Batch: 5}), 0, false},
		{"fixed", build(1, inspect.Options{}), 1, true},
		{"fixed, 2 asked for", build(1, given(2, 3, 8, 8)), 1, true},
		{"fixed to 4, 1 asked for", build(4, given(1, 3, 8, 8)), 4, true},
	} {
		if s := mustSurvey(t, c.model); s.Batch != c.batch || s.Opened != c.opened {
			t.Errorf("%s: batch %d, opened %v", c.name, s.Batch, s.Opened)
		}
		res, err := Measure(t.Context(), eng, c.model, set, testOptions())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		equalResults(t, want, res, 1e-4)
	}
}

// TestLayerNames: a layer that cannot be measured is refused with its own reason.
func TestLayerNames(t *testing.T) {
	n := newNet(-1, 3, 8)
	n.conv("conv1", 3, 4, 3, 1).op("Relu")
	relu := n.t
	gate := n.op("GlobalAveragePool").conv("gate", 4, 4, 1, 1).op("Sigmoid").t
	n.t = n.node("Mul", []string{relu, gate})
	n.head(4)
	s := mustSurvey(t, n.model(t, -1, testK))
	for _, c := range []struct {
		name, reason string
		known        bool
	}{
		{"classifier", "it is the classifier", false},
		{"gate", "squeeze-excite", false},
		{"conv2", "", true},
	} {
		_, err := s.Choose([]string{"conv1", c.name})
		var unknown *UnknownLayerError
		if !errors.As(err, &unknown) || unknown.Layer != c.name || !strings.Contains(unknown.Reason, c.reason) || (unknown.Reason == "") != c.known {
			t.Errorf("%s: %v", c.name, err)
		} else if slices.Contains(unknown.Known, "conv1") != c.known {
			t.Errorf("%s: known layers %q", c.name, unknown.Known)
		}
	}
	for _, names := range [][]string{nil, {"conv1"}, {s.Taps[0].Tensor}, {"conv1", "conv1"}} {
		if taps, err := s.Choose(names); err != nil || len(taps) != 1 {
			t.Errorf("%q: %v, %v", names, taps, err)
		}
	}
}

// TestTimings: a throughput needs a full batch, a latency needs none.
func TestTimings(t *testing.T) {
	eng := runtime(t)
	dir := imageFolder(t, 6, 3)
	s := samples{t, dir, openSet(t, dir)}
	s.corrupt(1, 3)
	set := openSet(t, dir)
	build := func(k int64) *inspect.Model {
		n := newNet(-1, 3, 8)
		return n.conv("conv1", 3, 4, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten").gemm("classifier", 4, k).model(t, -1, k)
	}
	m := build(6)
	for _, c := range []struct {
		index       []int
		samples     int
		batch, runs int // of the throughput; 0 for none
	}{
		{[]int{0}, 1, 1, 1},
		{[]int{4, 5, 6}, 3, 3, 1},
		{[]int{4, 5, 6, 7}, 4, 4, 1},
		{[]int{4, 5, 6, 7, 8, 9, 10}, 7, 4, 1},
		{[]int{4, 5, 6, 7, 8, 9, 10, 11}, 8, 4, 2},
		{[]int{0, 1, 2}, 2, 0, 0},
		{[]int{0, 1, 2, 4}, 3, 0, 0},
		{[]int{0, 1, 2, 4, 5, 6, 7, 8}, 7, 4, 1},
	} {
		evals, err := Evaluate(t.Context(), eng, []*inspect.Model{m, m}, set, c.index, testOptions()) // batches of 4
		if err != nil {
			t.Errorf("%v: %v", c.index, err)
			continue
		}
		for _, e := range evals {
			if e.Samples != c.samples || len(e.Predictions) != c.samples {
				t.Errorf("%v: %d samples, %d are expected", c.index, e.Samples, c.samples)
			}
			if (e.Throughput == nil) != (c.runs == 0) || c.runs > 0 && (e.Throughput.Batch != c.batch || e.Throughput.Runs != c.runs) {
				t.Errorf("%v: throughput %+v, want %d runs of %d samples", c.index, e.Throughput, c.runs, c.batch)
			}
			for _, timing := range []*Timing{e.Throughput, e.Latency} {
				if timing != nil && !(0 < timing.Low && timing.Low <= timing.Median && timing.Median <= timing.High) {
					t.Errorf("%v: %+v", c.index, timing)
				}
			}
			if e.Latency == nil || e.Latency.Batch != 1 || e.Latency.Runs != latencyRuns {
				t.Errorf("%v: latency %+v", c.index, e.Latency)
			}
			if e.Top5 == nil {
				t.Errorf("%v: no top-5 of six labels", c.index)
			}
		}
		if evals[0].Changed != nil || evals[1].Changed == nil || *evals[1].Changed != 0 {
			t.Errorf("%v: changed %v and %v", c.index, evals[0].Changed, evals[1].Changed)
		}
	}
	for _, index := range [][]int{nil, {1, 3}} {
		if _, err := Evaluate(t.Context(), eng, []*inspect.Model{m}, set, index, testOptions()); !errors.Is(err, dataset.ErrEmpty) {
			t.Errorf("%v: %v", index, err)
		}
	}
	evals, err := Evaluate(t.Context(), eng, []*inspect.Model{build(5)}, folder(t, 5, 3), []int{0, 1}, testOptions())
	if err != nil || evals[0].Top5 != nil {
		t.Errorf("top-5 of five labels: %+v, %v", evals, err)
	}
}
