package probe

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
)

func TestSpread(t *testing.T) {
	inf := math.Inf(1)
	repeat := func(x float64, n int, more ...float64) []float64 {
		return append(slices.Repeat([]float64{x}, n), more...)
	}
	for _, c := range []struct {
		name    string
		squares []float64
		want    spread
	}{
		{"none", nil, spread{}},
		{"alike", repeat(4, 10), spread{RMS: 2, N: 10, Longest: 1}},
		{"just not shortened", repeat(4, 3, 100), spread{RMS: math.Sqrt(112. / 4), N: 4, Row: 3, Longest: 5}},
		{"one longer", repeat(4, 3, 144), spread{RMS: math.Sqrt(112. / 4), Limit: 10, N: 4, Shortened: 1, Row: 3, Longest: 6}},
		{"one far", repeat(4, 3, 4e8), spread{RMS: math.Sqrt(112. / 4), Limit: 10, N: 4, Shortened: 1, Far: 1, Row: 3, Longest: 1e4}},
		{"the median of an even number", []float64{1, 9, 1, 9}, spread{RMS: math.Sqrt(5), N: 4, Row: 1, Longest: 1.5}},
		{"mostly zero", repeat(0, 6, 1, 16), spread{RMS: math.Sqrt(17. / 8), N: 8, Row: 7}},
		{"infinite", repeat(1, 3, inf), spread{RMS: inf, N: 4, Row: 3}},
	} {
		if got := spreadOf(c.squares); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	if got := spreadOf(repeat(1, 3, math.NaN())); got.RMS == got.RMS || got.Limit != 0 {
		t.Errorf("not a number: %+v", got)
	}
}

// TestShorten: vectors over the limit get that length, others stay as they are to the
// last bit, in memory as in a graph.
func TestShorten(t *testing.T) {
	const d = 3
	rows := []float32{1, 2, 2, 0, 0, 0, -300, 400, 0, 3, 0, -4, 1e-20, 0, 0, 0, 1e19, 1e19}
	squares := squaredLengths(rows, d)
	want := []float64{9, 0, 250_000, 25, 1e-40, 2e38}
	for i := range want {
		if math.Abs(squares[i]-want[i]) > 1e-6*want[i] {
			t.Fatalf("squared lengths %v, want %v", squares, want)
		}
	}
	got := slices.Clone(rows)
	spread{Limit: 5}.shorten(got, d, squares)
	b := newGraph()
	x := b.input("x", 1, -1, d)
	y := b.outputOf("y", "Identity", []string{b.shortened(x, d, 5)}, []int64{-1, d})
	data, err := b.serialize()
	if err != nil {
		t.Fatal(err)
	}
	s, err := runtime(t).Load(t.Context(), engine.Model{Name: "shortened", Bytes: data})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := map[string]*engine.Tensor{y: nil}
	n := 5 // the last row's square overflows in the graph, as its length would elsewhere
	if err := s.Run(t.Context(), map[string]*engine.Tensor{x: engine.NewFloat32(rows[:n*d], int64(n), d)}, out); err != nil {
		t.Fatal(err)
	}
	for _, v := range [][]float32{got, out[y].Float32()} {
		for i := range len(v) / d {
			row, old := v[i*d:(i+1)*d], rows[i*d:(i+1)*d]
			if want[i] <= 25 && !slices.Equal(row, old) {
				t.Errorf("row %d is %v, was %v", i, row, old)
			}
			length := math.Sqrt(squaredLengths(row, d)[0])
			if want[i] > 25 && (math.Abs(length-5) > 1e-5 || row[0]*old[0] < 0 || row[1]*old[1] < 0) {
				t.Errorf("row %d is %v of length %v, was %v", i, row, length, old)
			}
		}
	}
}

// glaring is a model of which white images get features longer by a factor of
// thousands, and data with a few of these.
func glaring(t *testing.T) (m *inspect.Model, dir string, white map[int]bool) {
	t.Helper()
	n := newNet(-1, 3, 8)
	mean := n.node("ReduceMean", []string{n.t}, attrInts("axes", 1, 2, 3))
	over := n.node("Relu", []string{n.node("Sub", []string{mean, n.constFloat([]float32{0.98})})})
	n.t = n.node("Mul", []string{n.t, n.node("Exp", []string{n.node("Mul", []string{over, n.constFloat([]float32{420})})})})
	n.conv("conv1", 3, 6, 3, 1).op("Relu").pool()
	n.op("Flatten").gemm("hidden", 6*16, 9).op("Relu").gemm("classifier", 9, testK)
	m = n.model(t, -1, testK)
	dir = imageFolder(t, testK, 40)
	set, white := openSet(t, dir), map[int]bool{}
	fit, _, _, err := set.Split(testOptions().Split)
	if err != nil {
		t.Fatal(err)
	}
	im := image.NewRGBA(image.Rect(0, 0, 8, 8))
	draw.Draw(im, im.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	for _, i := range []int{fit.Index[2], fit.Index[len(fit.Index)/2], fit.Index[len(fit.Index)-1]} {
		white[i] = true
		f, err := os.Create(filepath.Join(dir, filepath.FromSlash(set.ID(i))))
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, im); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return m, dir, white
}

// TestOutliers: a few samples with features thousands of times as long as those of
// others do not keep a head from learning, whether it is trained on features in memory
// or while the model runs, and the result says which they are.
func TestOutliers(t *testing.T) {
	eng := runtime(t)
	m, dir, white := glaring(t)
	set := openSet(t, dir)
	opt := testOptions()
	opt.Recipe.Epochs = 12
	var results []*Result
	for _, memory := range []int64{0, 16 << 10} {
		opt.Memory = memory
		plan, err := NewPlan(m, set, opt)
		if err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{true: "cached", false: "streamed"}[memory == 0]
		if head := plan.Groups[0].Taps[0].Head; head != want {
			t.Fatalf("the head is %s, not %s", head, want)
		}
		res, err := Measure(t.Context(), eng, m, set, opt)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, res)
		l := res.Layers[0]
		if l.Accuracy < 0.8 {
			t.Errorf("%s: accuracy %v", want, l.Accuracy)
		}
		o := l.Outliers
		if o == nil || o.Samples != res.Data.Fit.Samples || o.Shortened != len(white) || o.Far != len(white) || !white[o.Sample] ||
			o.ID != set.ID(o.Sample) || o.Label != set.Label(o.Sample) || o.Longest < 100 {
			t.Fatalf("%s: outliers %+v of %v", want, o, white)
		}
		if !slices.ContainsFunc(res.Warnings, func(w string) bool { return strings.Contains(w, o.ID) && strings.Contains(w, "dominate label means") }) {
			t.Errorf("%s: warnings %q", want, res.Warnings)
		}
	}
	equalResults(t, results[0], results[1], 2e-3)

	// Where there are none, nothing is said.
	res, err := Measure(t.Context(), eng, m, openSet(t, imageFolder(t, testK, 12)), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if o := res.Layers[0].Outliers; o != nil {
		t.Errorf("outliers %+v among samples that are alike", o)
	}
}
