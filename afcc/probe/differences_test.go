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

// randomResult is a result of layers with filters whose ratios are drawn at random,
// clusters being singletons; some filters have no clipped matrix.
func randomResult(r *rand.Rand, k int, filters ...int) *Result {
	res := &Result{Model: "m.onnx", Theta: 0.3, Data: Data{Labels: make([]string, k)}}
	for i, n := range filters {
		l := Layer{Tap: Tap{Layers: []string{fmt.Sprint("layer", i)}, Tensor: fmt.Sprint("t", i), Filters: n}}
		for f := range n {
			filter := afcc.Filter{Index: f}
			if r.IntN(5) > 0 {
				for j := range k {
					filter.Ratios = append(filter.Ratios, r.Float32())
					if filter.Ratios[j] > 0.3 {
						filter.Clusters = append(filter.Clusters, []int{j})
					}
				}
			}
			l.Filters = append(l.Filters, filter)
		}
		res.Layers = append(res.Layers, l)
	}
	return res
}

// moved returns a result whose filter places[i][j] is filter j of layer i of a, for
// those that are not -1, and the pairs that say so. What is left is drawn at random,
// and layers have other names.
func moved(r *rand.Rand, a *Result, places [][]int, sizes []int) (*Result, []Pair) {
	b := randomResult(r, len(a.Data.Labels), sizes...)
	var pairs []Pair
	for i, to := range places {
		l := &b.Layers[i]
		l.Tensor, l.Layers = l.Tensor+"'", []string{l.Layers[0] + "'"}
		for j, at := range to {
			if at >= 0 {
				l.Filters[at] = a.Layers[i].Filters[j]
				l.Filters[at].Index = at
			}
		}
		pairs = append(pairs, Pair{A: &a.Layers[i].Tap, B: &l.Tap, Filters: to})
	}
	return b, pairs
}

// Filters that only changed their places do not differ, and those that are gone or
// new are counted as such.
func TestComparePairsOfMovedFilters(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a := randomResult(r, 10, 16, 8, 5)
	permuted := [][]int{r.Perm(16), r.Perm(8), r.Perm(5)}
	b, pairs := moved(r, a, permuted, []int{16, 8, 5})
	d, err := ComparePairs(a, b, pairs)
	if err != nil || len(d.Layers) != 3 || d.Unpaired != nil {
		t.Fatalf("%+v, %v", d, err)
	}
	for _, l := range d.Layers {
		if l.Clusters+l.Gained+l.Lost+l.Gone+l.New+l.Silent != 0 || l.Differ != nil || l.Furthest != nil {
			t.Errorf("permuted: %+v", l)
		}
	}
	if named, err := Compare(a, b); err != nil || len(named.Unpaired) != 6 {
		t.Errorf("by name: %+v, %v", named, err)
	}
	// Two of four are gone, one is new, and the first of those left differs.
	a = randomResult(r, 10, 4)
	b, pairs = moved(r, a, [][]int{{-1, 1, -1, 0}}, []int{3})
	f := &b.Layers[0].Filters[0]
	*f = afcc.Filter{Ratios: []float32{0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, Clusters: [][]int{{9}}}
	a.Layers[0].Filters[3] = afcc.Filter{Index: 3, Ratios: []float32{1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, Clusters: [][]int{{0}}}
	d, err = ComparePairs(a, b, pairs)
	if err != nil {
		t.Fatal(err)
	}
	l := d.Layers[0]
	if l.Filters != 4 || l.Gone != 2 || l.New != 1 || l.Clusters != 1 || l.Gained != 1 || l.Lost != 1 || len(l.Differ) != 1 ||
		l.Differ[0].Filter != 3 || l.Differ[0].Then == nil || *l.Differ[0].Then != 0 || l.Differ[0].Gained[0].Label != 9 || l.Differ[0].Lost[0].Label != 0 {
		t.Errorf("%+v", l)
	}
}

// A slow version looks each filter up in both results and each label in its sets.
func TestComparePairsCounts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		n, m := 1+r.IntN(12), 1+r.IntN(12)
		to := make([]int, n)
		perm := r.Perm(m)
		for i := range to {
			to[i] = -1
			if i < m && r.IntN(4) > 0 {
				to[i] = perm[i]
			}
		}
		a, b := randomResult(r, 6, n), randomResult(r, 6, m)
		d, err := ComparePairs(a, b, []Pair{{A: &a.Layers[0].Tap, B: &b.Layers[0].Tap, Filters: to}})
		if err != nil {
			t.Fatal(err)
		}
		var want LayerDifferences
		for j := range m {
			if !slices.Contains(to, j) {
				want.New++
			}
		}
		for i, j := range to {
			if j < 0 {
				want.Gone++
				continue
			}
			x, y := a.Layers[0].Filters[i].Labels(), b.Layers[0].Filters[j].Labels()
			if fmt.Sprint(x) != fmt.Sprint(y) {
				want.LabelSets++
			}
			for l := range 6 {
				switch in, is := slices.Contains(x, l), slices.Contains(y, l); {
				case is && !in:
					want.Gained++
				case in && !is:
					want.Lost++
				}
			}
		}
		l := d.Layers[0]
		if l.Filters != n || l.New != want.New || l.Gone != want.Gone || l.LabelSets != want.LabelSets || l.Clusters != want.LabelSets || l.Gained != want.Gained || l.Lost != want.Lost {
			t.Fatalf("%v of %d: %+v, want %+v", to, m, l, want)
		}
	}
}

func TestComparePairsLayers(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	a, b := randomResult(r, 3, 2, 3, 4, 2, 2), randomResult(r, 3, 2, 3, 3, 3, 2)
	pair := func(i, j int, places ...int) Pair {
		return Pair{A: &a.Layers[i].Tap, B: &b.Layers[j].Tap, Filters: places}
	}
	of := func(name string) *Tap { return &Tap{Layers: []string{name}, Tensor: name} }
	// Layer 0 stays, 1 is filter by filter in 3 with one more that is new, 2 has
	// fewer and nobody knows which, 3 was not measured in b, 4 has no counterpart.
	pairs := []Pair{pair(0, 0), pair(1, 3), pair(2, 2), {A: &a.Layers[3].Tap, B: of("x")}, {A: of("y"), B: &b.Layers[1].Tap}, {A: of("z"), B: of("z")}}
	a.Layers[1].Filters = a.Layers[1].Filters[:2]
	pairs[0].Assumed = true
	d, err := ComparePairs(a, b, pairs)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range d.Layers {
		got = append(got, fmt.Sprint(l.Layer, " ", l.New, " ", l.Assumed))
	}
	for _, s := range d.Unpaired {
		got = append(got, s.Layer+": "+s.Reason)
	}
	want := []string{"layer0 0 true", "layer1 1 false",
		"layer2: 4 filters in the first result, 3 in the second, and it is not known which are which",
		"layer3: the second result lacks its counterpart", "layer4: the second model has no counterpart",
		"layer1: the first result lacks its counterpart", "layer4: the first model has no counterpart"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for places, want := range map[*[]int]string{
		{0}:     "layer layer0: places of 1 filters, it has 2",
		{0, 2}:  "layer layer0: filter 1 is said to be number 2 of 2 in layer layer0",
		{-2, 0}: "layer layer0: filter 0 is said to be number -2 of 2 in layer layer0",
		{1, 1}:  "layer layer0: two filters are said to be number 1 in layer layer0",
	} {
		if _, err := ComparePairs(a, b, []Pair{pair(0, 0, *places...)}); err == nil || err.Error() != want {
			t.Errorf("%v: %v, want %s", *places, err, want)
		}
	}
	b.Theta = 0.5
	if _, err := ComparePairs(a, b, nil); err == nil {
		t.Error("other thresholds are compared")
	}
}

// BenchmarkComparePairs compares the filters of a layer of 512 with a thousand labels,
// a third of which each filter has.
func BenchmarkComparePairs(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	x, y := randomResult(r, 1000, 512), randomResult(r, 1000, 512)
	pairs := []Pair{{A: &x.Layers[0].Tap, B: &y.Layers[0].Tap, Filters: r.Perm(512)}}
	for b.Loop() {
		if _, err := ComparePairs(x, y, pairs); err != nil {
			b.Fatal(err)
		}
	}
}
