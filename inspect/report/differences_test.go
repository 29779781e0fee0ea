package report

import (
	"bytes"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
)

// differentResults are two measurements that differ in every way that can be
// shown.
func differentResults(t *testing.T) *Differences {
	t.Helper()
	a, b := goldenResult(), goldenResult()
	b.Provider = "cuda"
	b.Layers[0].Accuracy = 0.625
	f := &b.Layers[0].Filters[0]
	f.Clusters, f.Ratios = [][]int{{0, 2}}, []float32{1, 0.25, 0.9}
	b.Layers = b.Layers[:1]
	d, err := NewDifferences("cpu.json", "cuda.json", a, b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDifferences(t *testing.T) {
	d := differentResults(t)
	var b bytes.Buffer
	golden(t, "differences.txt", &b, WriteText(&b, TextOptions{}, FromDifferences(d)))
	golden(t, "differences.72.txt", &b, WriteText(&b, TextOptions{Width: 72}, FromDifferences(d)))
	golden(t, "differences.csv", &b, WriteCSV(&b, FromDifferences(d)))
	golden(t, "differences.json", &b, WriteJSON(&b, d))
	same, err := NewDifferences("a.json", "b.json", goldenResult(), goldenResult())
	if err != nil || !same.Same || same.Otherwise != "" {
		t.Errorf("%+v, %v", same, err)
	}
	if got, want := FromDifferences(same).Sections[0].Facts[0].Value.Text, "the same clusters in all of 4 filters"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	other := goldenResult()
	other.Theta = 0.5
	if _, err := NewDifferences("a", "b", goldenResult(), other); err == nil {
		t.Error("other thresholds are compared")
	}
}

func TestDifferencesSchema(t *testing.T) {
	t.Parallel()
	s, doc := compiled(t, "compare-stats")
	fits(t, doc, map[string]any{"differences": Differences{}, "measured": Measured{}, "layer": DifferentLayer{}, "filter": probe.FilterDifference{}, "label": probe.LabelChange{}, "skip": probe.Skip{}})
	d := differentResults(t)
	d.Layers[0].Silent, d.Layers[0].Gone, d.Layers[0].New, d.Layers[0].Assumed = 1, 2, 3, true
	d.Layers[0].Differ[0].Then = ptr(0)
	d.Layers[0].Differ[0].Gained = []probe.LabelChange{{Label: 1, First: nil, Second: ptr(float32(0.5))}}
	v := plain(t, d)
	if err := s.Validate(v); err != nil {
		t.Fatal(err)
	}
	strict(t, "compare-stats", s, doc, v)
}
