package export

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export/compact"
)

// TestCoupledFilters: filters that a residual addition couples are ranked by the mean
// of what each layer says of them, relative to its own mean.
func TestCoupledFilters(t *testing.T) {
	n := newNet()
	norms := func(name string, in int64, norm ...float32) string {
		v := make([]float32, int64(len(norm))*in*9)
		for f, x := range norm {
			v[f*int(in)*9+4] = x
		}
		return n.floats("w."+name, v, int64(len(norm)), in, 3, 3)
	}
	pads := ints("pads", 1, 1, 1, 1)
	n.node("a", "Conv", []string{"image", norms("a", 3, 1, 2, 3, 2)}, pads)
	a := n.node("a.relu", "Relu", []string{"a"})
	n.node("b", "Conv", []string{a, norms("b", 4, 1, 2, 3, 4, 5)}, pads)
	n.node("b.relu", "Relu", []string{"b"})
	n.node("c", "Conv", []string{"b.relu", norms("c", 5, 4000, 1000, 500, 2500)}, pads)
	n.node("sum", "Add", []string{"c", a})
	n.node("sum.relu", "Relu", []string{"sum"})
	m := n.head(4).model(t)
	plan, err := NewPlan(t.Context(), m, nil, PlanOptions{Target: Conv, Criterion: Magnitude, FiltersKeep: 0.5, RoundTo: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Filters) != 2 {
		t.Fatalf("%+v", plan.Filters)
	}
	// a has the scores .5 1 1.5 1, c 2 .5 .25 1.25: together 1.25 .75 .875 1.125.
	coupled, alone := plan.Filters[0], plan.Filters[1]
	if coupled.Layer != "a" || !slices.Equal(coupled.Coupled, []string{"c"}) || !slices.Equal(coupled.Removed, []int{1, 2}) ||
		!near(coupled.Scores, 0.75, 0.875) || !near([]float64{coupled.KeptScore}, 1.125) {
		t.Errorf("%+v", coupled)
	}
	if alone.Layer != "b" || !slices.Equal(alone.Removed, []int{0, 1}) || alone.Kept != 3 || len(alone.Coupled) != 0 {
		t.Errorf("%+v", alone)
	}
	if plan.Layers == nil || len(plan.Layers) != 0 || *plan.FiltersKeep != 0.5 || plan.Theta != nil || plan.ModelSHA256 == "" {
		t.Errorf("%+v", plan)
	}
	// A group alone, and those of a layer that was asked for.
	plan, err = NewPlan(t.Context(), m, nil, PlanOptions{Target: Conv, Criterion: Magnitude, GroupsKeep: map[string]float64{"b": 0.25}, RoundTo: 1})
	if err != nil || len(plan.Filters) != 1 || plan.Filters[0].Kept != 2 || plan.FiltersKeep != nil {
		t.Errorf("%+v, %v", plan, err)
	}
	plan, err = NewPlan(t.Context(), m, nil, PlanOptions{Target: Conv, Criterion: Magnitude, FiltersKeep: 0.5, RoundTo: 1, Layers: []string{"c"}})
	if err != nil || len(plan.Filters) != 1 || plan.Filters[0].Layer != "a" {
		t.Errorf("%+v, %v", plan, err)
	}
	var unknown *probe.UnknownLayerError
	if _, err := NewPlan(t.Context(), m, nil, PlanOptions{Target: Conv, Criterion: Magnitude, FiltersKeep: 0.5, RoundTo: 1, Layers: []string{"x"}}); !errors.As(err, &unknown) {
		t.Errorf("an unknown layer: %v", err)
	}
	// The classifier's outputs are the labels: they stay.
	var option *OptionError
	if _, err := NewPlan(t.Context(), m, nil, PlanOptions{Target: Classifier, Criterion: Magnitude, FiltersKeep: 0.5, RoundTo: 1}); !errors.As(err, &option) || !strings.Contains(err.Error(), "classifier") {
		t.Errorf("the classifier: %v", err)
	}
	// The same by clusters: filters without labels go first.
	res := statistics(t, m)
	for i := range res.Layers {
		for f := range res.Layers[i].Filters {
			ratios := make([]float32, classes)
			ratios[0] = 1
			res.Layers[i].Filters[f] = afcc.Filter{Index: f, Max: 1, Ratios: ratios, Clusters: [][]int{{0}}, Ones: 1 + f}
		}
	}
	plan, err = NewPlan(t.Context(), m, res, PlanOptions{Target: Conv, Criterion: AFCC, FiltersKeep: 0.5, RoundTo: 1})
	if err != nil || len(plan.Filters) != 2 || !slices.Equal(plan.Filters[0].Removed, []int{3, 2}) || !slices.Equal(plan.Filters[1].Removed, []int{4, 3}) {
		t.Errorf("%+v, %v", plan, err)
	}
}

func near(got []float64, want ...float64) bool {
	return slices.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) < 1e-6 })
}

func TestRemoveLeast(t *testing.T) {
	for _, c := range []struct {
		scores  []float64
		keep    float64
		roundTo int
		removed []int
	}{
		{[]float64{3, 1, 2, 4}, 0.5, 0, []int{1, 2}},
		{[]float64{3, 1, 2, 4}, 0.51, 0, []int{1}},
		{[]float64{3, 1, 2, 4}, 0.01, 0, []int{1, 2, 0}},
		{[]float64{3, 1, 2, 4}, 0.76, 0, nil},
		{[]float64{1, 1, 1, 1}, 0.5, 0, []int{3, 2}},
		{[]float64{3, 1, 2, 4, 6, 5}, 0.5, 4, []int{1, 2}},
		{[]float64{3, 1, 2, 4}, 0.5, 8, nil},
		{[]float64{7}, 0.1, 0, nil},
		// 0.3 * 10 is more than 3 by a rounding.
		{[]float64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 0.3, 0, []int{0, 1, 2, 3, 4, 5, 6}},
	} {
		g := &compact.Group{Size: len(c.scores), Makers: []compact.Maker{{Layer: "a", Each: 1}, {Layer: "b", Each: 1}}}
		f := removeLeast(g, c.scores, c.keep, c.roundTo)
		switch {
		case f == nil && c.removed != nil || f != nil && !slices.Equal(f.Removed, c.removed):
			t.Errorf("%+v: %+v", c, f)
		case f != nil && (f.Kept != len(c.scores)-len(c.removed) || f.KeptScore < f.Scores[len(f.Scores)-1] || f.Coupled[0] != "b"):
			t.Errorf("%+v: %+v", c, f)
		}
	}
}

func TestClusterQuality(t *testing.T) {
	for _, c := range []struct {
		f    afcc.Filter
		want float64
	}{
		{afcc.Filter{}, 0},
		{afcc.Filter{Ones: 3}, 0},
		{afcc.Filter{Ones: 1, Clusters: [][]int{{4}}}, 1},
		// The worked example of the method: d = 3, nine ones.
		{afcc.Filter{Ones: 9, Clusters: [][]int{{0, 1}, {2}}}, 1. / 3},
	} {
		if got := clusterQuality(&c.f); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%+v: %v, want %v", c.f, got, c.want)
		}
	}
}

// TestActivity compares with a sum over what each tap hands on, and plans by it.
func TestActivity(t *testing.T) {
	eng := runtime(t)
	m, opt := trained(t, vgg)
	opt.PlanOptions = PlanOptions{Target: Conv, Criterion: Activation, FiltersKeep: 0.5, RoundTo: 1}
	tensors, err := Taps(m, opt.PlanOptions)
	if err != nil || len(tensors) != 13 {
		t.Fatalf("%q, %v", tensors, err)
	}
	got, err := Activity(t.Context(), eng, m, opt.Set, tensors, opt.Probe)
	if err != nil {
		t.Fatal(err)
	}
	survey, err := probe.NewSurvey(m)
	if err != nil {
		t.Fatal(err)
	}
	tap := survey.Tap(tensors[4])
	fit, stats, _, err := opt.Set.Split(opt.Probe.Split)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float64, tap.Filters)
	n := 0
	for _, i := range slices.Concat(stats.Index, fit.Index) {
		for a, err := range probe.Activations(t.Context(), eng, m, []*probe.Tap{tap}, opt.Set, []int{i}, opt.Probe) {
			if err != nil {
				t.Fatal(err)
			}
			p := len(a.Taps[0]) / tap.Filters
			for f := range want {
				for _, v := range a.Taps[0][f*p : (f+1)*p] {
					want[f] += float64(v * v)
				}
			}
			n = p
		}
		if i > 1<<30 {
			t.Fatal(i)
		}
	}
	for f := range want {
		want[f] = math.Sqrt(want[f] / float64(n*(len(fit.Index)+len(stats.Index))))
		if math.Abs(got[tap.Tensor][f]-want[f]) > 1e-4*(1+want[f]) {
			t.Errorf("filter %d: %v, want %v", f, got[tap.Tensor][f], want[f])
		}
	}
	opt.Activity = got
	plan, err := NewPlan(t.Context(), m, nil, opt.PlanOptions)
	if err != nil || len(plan.Filters) != 13 {
		t.Fatalf("%+v, %v", plan, err)
	}
	for _, f := range plan.Filters {
		rms := got[survey.LayerTap(f.Layer).Tensor]
		for kept := range rms {
			if !slices.Contains(f.Removed, kept) && rms[kept] < rms[f.Removed[len(f.Removed)-1]] {
				t.Errorf("%s: filter %d of %v is kept", f.Layer, kept, rms[kept])
			}
		}
	}
	var unknown *probe.UnknownLayerError
	if _, err := Activity(t.Context(), eng, m, opt.Set, []string{"x"}, opt.Probe); !errors.As(err, &unknown) {
		t.Errorf("an unknown tensor: %v", err)
	}
}

// TestTapsOfFilters: norms and draws need no statistics.
func TestTapsOfFilters(t *testing.T) {
	m := open(t, filepath.Join("..", "fixtures", vgg))
	for criterion, want := range map[string]int{AFCC: 13, Activation: 13, Magnitude: 0, Random: 0} {
		got, err := Taps(m, PlanOptions{Target: Conv, Criterion: criterion, FiltersKeep: 0.5, RoundTo: 1})
		if err != nil || len(got) != want {
			t.Errorf("%s: %q, %v", criterion, got, err)
		}
	}
}
