package probe

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc"
)

// handResult is a result of one layer with the given clusters and ratios of
// filters.
func handResult(filters ...afcc.Filter) *Result {
	return &Result{Model: "m.onnx", Theta: 0.3, Data: Data{Labels: []string{"a", "b", "c"}},
		Layers: []Layer{{Tap: Tap{Layers: []string{"conv"}, Tensor: "t"}, Filters: filters}}}
}

func TestCompare(t *testing.T) {
	f := func(clusters [][]int, ratios ...float32) afcc.Filter {
		return afcc.Filter{Clusters: clusters, Ratios: ratios}
	}
	a := handResult(
		f([][]int{{0, 1}}, 1, 0.5, 0.2),
		f([][]int{{0, 1}}, 1, 0.301, 0.2),
		f([][]int{{0}, {1}}, 1, 0.5, 0.2),
		f(nil, 0.2, 0.2, 0.29),
		f([][]int{{0}}, 1, 0, 0),
		f(nil))
	b := handResult(
		f([][]int{{0, 1}}, 1, 0.6, 0.1),
		f([][]int{{0}}, 1, 0.299, 0.2),
		f([][]int{{0, 1}}, 1, 0.5, 0.2),
		f([][]int{{2}}, 0.2, 0.2, 0.32),
		f(nil),
		f(nil))
	a.Layers = append(a.Layers, Layer{Tap: Tap{Layers: []string{"gone"}, Tensor: "x"}}, Layer{Tap: Tap{Layers: []string{"wide"}, Tensor: "y"}, Filters: make([]afcc.Filter, 2)})
	b.Layers = append(b.Layers, Layer{Tap: Tap{Layers: []string{"wide"}, Tensor: "y"}, Filters: make([]afcc.Filter, 1)}, Layer{Tap: Tap{Layers: []string{"new"}, Tensor: "z"}})
	d, err := Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"layers":[{"layer":"conv","tensor":"t","filter_count":6,"label_sets":3,"clusters":4,"gained":1,"lost":2,"silent":1,"furthest":0.01999` +
		`!,"differ":[{"filter":1,"lost":[{"label":1,"first":0.301,"second":0.299}]},{"filter":2},{"filter":3,"gained":[{"label":2,"first":0.29,"second":0.32}]},` +
		`{"filter":4,"lost":[{"label":0,"first":1,"second":null}]}]}],"unpaired":[{"layer":"gone","reason":"the second result has no such layer"},` +
		`{"layer":"wide","reason":"2 filters in the first result, 1 in the second"},{"layer":"new","reason":"the first result has no such layer"}]}`
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	// The digits of a float32 difference end the number.
	head, tail, _ := strings.Cut(want, "!")
	if got := string(data); !strings.HasPrefix(got, head) || !strings.HasSuffix(got, tail) || len(got) > len(want)+15 {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if same, err := Compare(a, a); err != nil || len(same.Layers) != 3 || same.Unpaired != nil || same.Layers[0].Clusters+same.Layers[0].Gained+same.Layers[0].Lost != 0 || same.Layers[0].Furthest != nil {
		t.Errorf("a result differs from itself: %+v, %v", same, err)
	}
	other := handResult()
	other.Theta = 0.4
	if _, err := Compare(a, other); err == nil || !strings.Contains(err.Error(), "threshold 0.3") {
		t.Error(err)
	}
	other = handResult()
	other.Data.Labels = other.Data.Labels[:2]
	if _, err := Compare(a, other); err == nil || !strings.Contains(err.Error(), "with 3 labels, m.onnx with 2") {
		t.Error(err)
	}
}

// TestCompareCounts checks the counts against sets drawn at random.
func TestCompareCounts(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	const k, filters = 12, 40
	w, means := make([]float32, k*filters), make([]float32, k*filters)
	for i := range w {
		w[i], means[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
	}
	measure := func(noise float64) *Result {
		moved := slices.Clone(means)
		for i := range moved {
			moved[i] += float32(noise * r.NormFloat64())
		}
		fs, err := afcc.AnalyzeLayer(t.Context(), w, moved, k, filters, 1, afcc.Options{Theta: 0.3})
		if err != nil {
			t.Fatal(err)
		}
		res := handResult(fs...)
		res.Data.Labels = make([]string, k)
		return res
	}
	a := measure(0)
	for _, noise := range []float64{1e-7, 1e-3, 0.1, 1} {
		b := measure(noise)
		d, err := Compare(a, b)
		if err != nil {
			t.Fatal(err)
		}
		sets, clusters, gained, lost := 0, 0, 0, 0
		for i := range a.Layers[0].Filters {
			x, y := &a.Layers[0].Filters[i], &b.Layers[0].Filters[i]
			g, l := 0, 0
			for j := range k {
				in, is := slices.Contains(x.Labels(), j), slices.Contains(y.Labels(), j)
				if is && !in {
					g++
				}
				if in && !is {
					l++
				}
			}
			if g+l > 0 {
				sets++
			}
			if fmt.Sprint(x.Clusters) != fmt.Sprint(y.Clusters) {
				clusters++
			}
			gained, lost = gained+g, lost+l
		}
		l := d.Layers[0]
		if l.LabelSets != sets || l.Clusters != clusters || l.Gained != gained || l.Lost != lost || len(l.Differ) != clusters {
			t.Errorf("noise %v: %+v; want %d label sets, %d clusters, %d gained, %d lost", noise, l, sets, clusters, gained, lost)
		}
		if noise == 1 && (sets < filters/2 || l.Furthest == nil) || noise == 1e-7 && clusters > 0 {
			t.Errorf("noise %v moves %d label sets, %d clusters", noise, sets, clusters)
		}
	}
}
