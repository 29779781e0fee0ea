package criterion

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/filterlens/filterlens/afcc"
)

func labelScores(t *testing.T, rng *rand.Rand, labels, filters int) ([][]float32, *afcc.Scores) {
	t.Helper()
	ratios := make([][]float32, filters)
	for f := range ratios {
		if rng.IntN(6) == 0 {
			continue
		}
		ratios[f] = make([]float32, labels)
		for j := range ratios[f] {
			ratios[f][j] = rng.Float32()*1.6 - .6
		}
	}
	s, err := afcc.ClassifierScores(ratios, labels)
	if err != nil {
		t.Fatal(err)
	}
	return ratios, s
}

// The formula, connection by connection, from the ratios themselves.
func TestWeightedIsTheProduct(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		rows, cols := 1+rng.IntN(8), rng.IntN(9)
		ratios, clusters := labelScores(t, rng, rows, cols)
		norms, activity := make([]float32, rows*cols), make([]float64, cols)
		for i := range norms {
			norms[i] = rng.Float32()
		}
		for i := range activity {
			activity[i] = rng.Float64() * 3
		}
		got, err := Weighted(norms, rows, cols, activity, clusters)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := Weighted(norms, rows, cols, activity, nil)
		if err != nil {
			t.Fatal(err)
		}
		bare, err := Weighted(norms, rows, cols, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for r := range rows {
			for c := range cols {
				n, field := float64(norms[r*cols+c]), .05
				if ratios[c] != nil && ratios[c][r] > 0 {
					field += float64(ratios[c][r])
				}
				for name, v := range map[string][2]float64{
					"all":              {float64(got.At(r, c)), n * activity[c] * math.Sqrt(field)},
					"without clusters": {float64(plain.At(r, c)), n * activity[c]},
					"norms only":       {float64(bare.At(r, c)), n},
				} {
					if math.Abs(v[0]-v[1]) > 1e-6*math.Abs(v[1]) {
						t.Fatalf("%s: connection %d,%d: %v, want %v", name, r, c, v[0], v[1])
					}
				}
			}
		}
	}
}

// Of two weights of one size the one whose label is in the filter's cluster wins; a
// weight that is five times as large wins all the same.
func TestClustersDecideBetweenEqualWeights(t *testing.T) {
	clusters, err := afcc.ClassifierScores([][]float32{{1, -1}, {-.5, 1}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		norms []float32
		first bool
	}{{[]float32{1, 1, 1, 1}, true}, {[]float32{1, 5, 1, 1}, false}} {
		s, err := Weighted(test.norms, 2, 2, []float64{1, 1}, clusters)
		if err != nil {
			t.Fatal(err)
		}
		if m := s.TopRows(2); m.Kept(0, 0) != test.first || m.Kept(0, 1) == test.first || !m.Kept(1, 1) {
			t.Errorf("norms %v: kept %v %v of label 0", test.norms, m.Kept(0, 0), m.Kept(0, 1))
		}
	}
}

func TestWeightedRefuses(t *testing.T) {
	_, clusters := labelScores(t, rand.New(rand.NewPCG(1, 1)), 2, 3)
	norms := make([]float32, 6)
	for name, f := range map[string]func() error{
		"norms":      func() error { _, err := Weighted(norms[:5], 2, 3, nil, nil); return err },
		"no columns": func() error { _, err := Weighted(norms[:1], 2, 0, nil, nil); return err },
		"activity":   func() error { _, err := Weighted(norms, 2, 3, []float64{1}, nil); return err },
		"negative":   func() error { _, err := Weighted(norms, 2, 3, []float64{1, -1, 0}, nil); return err },
		"nan":        func() error { _, err := Weighted(norms, 2, 3, []float64{1, math.NaN(), 0}, nil); return err },
		"infinite":   func() error { _, err := Weighted(norms, 2, 3, []float64{1, math.Inf(1), 0}, nil); return err },
		"clusters":   func() error { _, err := Weighted(norms, 3, 2, nil, clusters); return err },
	} {
		var arg *ArgumentError
		if err := f(); !errors.As(err, &arg) {
			t.Errorf("%s: %v", name, err)
		}
	}
	norms[2] = float32(math.NaN())
	s, err := Weighted(norms, 2, 3, nil, nil)
	if err != nil || !math.IsInf(float64(s.At(0, 2)), -1) {
		t.Errorf("a norm that is no number: %v, %v", s, err)
	}
}

func TestBalancedIsTheFormula(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range 50 {
		rows, cols := 1+rng.IntN(6), 1+rng.IntN(6)
		norms := make([]float32, rows*cols)
		for i := range norms {
			norms[i] = rng.Float32() + .01
		}
		got, err := Balanced(norms, rows, cols)
		if err != nil {
			t.Fatal(err)
		}
		for r := range rows {
			row := 0.0
			for c := range cols {
				row += float64(norms[r*cols+c]) / float64(cols)
			}
			for c := range cols {
				want := float64(norms[r*cols+c]) / math.Sqrt(row)
				if v := float64(got.At(r, c)); math.Abs(v-want) > 1e-6*want {
					t.Fatalf("%d,%d: %v, want %v", r, c, v, want)
				}
			}
		}
	}
}

func TestBalancedEnds(t *testing.T) {
	nan := float32(math.NaN())
	s, err := Balanced([]float32{0, 0, nan, 4, nan, nan}, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	inf := float32(math.Inf(-1))
	for i, want := range []float32{0, 0, inf, 2, inf, inf} {
		if v := s.At(i/2, i%2); v != want {
			t.Errorf("connection %d: %v, want %v", i, v, want)
		}
	}
	var arg *ArgumentError
	if _, err := Balanced(make([]float32, 3), 2, 2); !errors.As(err, &arg) {
		t.Error(err)
	}
}
