package report

import (
	"bytes"
	"fmt"
	"html"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

// measuredTwice are two measurements, of a model and of one in which the filters of
// the first layer stand in another order, one is gone and one is new; and how they
// are paired.
func measuredTwice() (a, b *probe.Result, pairs []probe.Pair) {
	a, b = goldenResult(), goldenResult()
	b.Model, b.ModelSHA256, b.Accuracy, b.Provider = "pruned.onnx", "ff00", 0.85, "cuda"
	l := &b.Layers[0]
	l.Layers, l.Tensor, l.Accuracy = []string{"/first/Conv"}, "x1", 0.4375
	l.Filters = []afcc.Filter{
		{Index: 0, Ratios: []float32{0.5, 0.9, 1}, Clusters: [][]int{{0, 1, 2}}, Ones: 9},
		{Index: 1, Max: 1.5, Ratios: []float32{1, 0.25, 0.9}, Clusters: [][]int{{0, 2}}, Ones: 5, Noise: 1, External: 1},
		{Index: 2, Max: 2, Ratios: []float32{0.2, 0.4, 1}, Clusters: [][]int{{1}, {2}}, Ones: 2},
	}
	l.Stats = afcc.Summarize(l.Filters, 3, 0.3)
	a.Layers = append(a.Layers, probe.Layer{Tap: probe.Tap{Layers: []string{"/gone/Conv"}, Tensor: "t3", Op: "Conv"}})
	pairs = []probe.Pair{
		{A: &a.Layers[0].Tap, B: &l.Tap, Filters: []int{1, 0, -1}},
		{A: &a.Layers[1].Tap, B: &b.Layers[1].Tap, Assumed: true},
	}
	return a, b, pairs
}

func statisticsDelta(t *testing.T) *StatisticsDelta {
	t.Helper()
	d, err := NewStatisticsDelta(measuredTwice())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestStatisticsDelta(t *testing.T) {
	d := statisticsDelta(t)
	doc := Document{Title: "a.onnx and pruned.onnx", Sections: slices.Concat(FromStatisticsDelta(d), FromFilterChanges(d, []string{"cat", "dog"}, nil))}
	var b bytes.Buffer
	golden(t, "statistics-delta.txt", &b, WriteText(&b, TextOptions{}, doc))
	golden(t, "statistics-delta.72.txt", &b, WriteText(&b, TextOptions{Width: 72}, doc))
	golden(t, "statistics-delta.csv", &b, WriteCSV(&b, StatisticsTable(d)))
	golden(t, "statistics-delta.json", &b, WriteJSON(&b, d))
	if d.Same() {
		t.Error("filters differ and Same is true")
	}
	if err := WriteDocumentsHTML(&b, doc); err != nil || !strings.Contains(html.UnescapeString(b.String()), "+cat (none -> 0.50)") {
		t.Errorf("%v, the page lacks a label gained", err)
	}
}

// What was measured twice is the same, by name and as it was paired.
func TestStatisticsDeltaOfTheSame(t *testing.T) {
	a, b := goldenResult(), goldenResult()
	a.Asked.Stability = 2
	pairs := []probe.Pair{{A: &a.Layers[0].Tap, B: &b.Layers[0].Tap}, {A: &a.Layers[1].Tap, B: &b.Layers[1].Tap}}
	for _, p := range [][]probe.Pair{nil, pairs} {
		d, err := NewStatisticsDelta(a, b, p)
		if err != nil || !d.Same() || d.Otherwise != "" || len(d.Layers) != 2 || d.Layers[0].TensorB != "t1" || d.Layers[0].A != d.Layers[0].A {
			t.Fatalf("%+v, %v", d, err)
		}
		facts := FromStatisticsDelta(d)[0].Facts
		if got, want := facts[0].Value.Text, "the same clusters in all of 4 filters compared"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if changes := FromFilterChanges(d, nil, nil); len(changes) != 1 || !strings.Contains(changes[0].Facts[0].Value.Text, "conv1") {
			t.Errorf("%+v", changes)
		}
	}
	// Nothing is paired.
	d, err := NewStatisticsDelta(a, b, []probe.Pair{})
	if err != nil || d.Same() || len(d.Layers) != 0 || len(d.Unpaired) != 4 {
		t.Fatalf("%+v, %v", d, err)
	}
	var text bytes.Buffer
	if err := WriteText(&text, TextOptions{}, Document{Sections: FromStatisticsDelta(d)}); err != nil || !strings.Contains(text.String(), "no layer of A has a counterpart in B") {
		t.Errorf("%v: %s", err, &text)
	}
	b.Theta = 0.5
	if _, err := NewStatisticsDelta(a, b, pairs); err == nil {
		t.Error("other thresholds are compared")
	}
	b.Theta, b.Layers[0].Pool = a.Theta, 2
	if d, err := NewStatisticsDelta(a, b, pairs); err != nil || d.Otherwise != "maps of conv1 are averaged over windows of side 1 in A, 2 in B" {
		t.Errorf("%q, %v", d.Otherwise, err)
	}
	b.Seed = 7
	if d, err := NewStatisticsDelta(a, b, pairs); err != nil || d.Otherwise != "the seed: 1, now 7" {
		t.Errorf("%q, %v", d.Otherwise, err)
	}
}

func TestFilterChangesOfLayers(t *testing.T) {
	d := statisticsDelta(t)
	for _, c := range []struct {
		layer string
		want  []string
	}{{"/conv1/Conv", []string{"Filters of conv1 / first"}}, {"/conv2/Conv", []string{"Filters without a change"}}, {"no", nil}} {
		var got []string
		for _, s := range FromFilterChanges(d, nil, func(p *StatisticsPair) bool { return p.Layer == c.layer }) {
			got = append(got, s.Title)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.layer, got, c.want)
		}
	}
}

func TestWithSign(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", -0.001: "0.00", 0.004: "0.00", 0.005001: "+0.01", -1.5: "-1.50", 12: "+12.00"} {
		if got := withSign(2)(v).Text; got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	if got := fmt.Sprint(points(-0.0125)); !strings.HasPrefix(got, "{-1.25 ") {
		t.Error(got)
	}
}
