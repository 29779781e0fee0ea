package afcc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// randomRatios returns F x K ratios in steps of 0.1, so that ties with thresholds
// and between connections are common; some filters have none.
func randomRatios(rng *rand.Rand, f, k int) [][]float32 {
	ratios := make([][]float32, f)
	for i := range ratios {
		if rng.IntN(8) == 0 {
			continue
		}
		ratios[i] = make([]float32, k)
		for j := range ratios[i] {
			ratios[i][j] = float32(rng.IntN(16)-5) / 10
			if rng.IntN(3) == 0 {
				ratios[i][j] = rng.Float32()*1.5 - 0.5
			}
		}
	}
	return ratios
}

// labelSets is the definition: the labels whose ratio is above theta.
func labelSets(ratios [][]float32, theta float64) []map[int]bool {
	sets := make([]map[int]bool, len(ratios))
	for f := range ratios {
		sets[f] = map[int]bool{}
		for _, j := range (&Filter{Ratios: ratios[f]}).LabelsAt(theta) {
			sets[f][j] = true
		}
	}
	return sets
}

func thetas(rng *rand.Rand) []float64 {
	t := []float64{0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.999}
	for range 10 {
		t = append(t, rng.Float64())
	}
	return t
}

func TestClassifierMaskMatchesSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 10))
	for range 60 {
		f, k := rng.IntN(20), 1+rng.IntN(40)
		ratios := randomRatios(rng, f, k)
		s, err := ClassifierScores(ratios, k)
		if err != nil {
			t.Fatal(err)
		}
		if s.Rows != k || s.Cols != f {
			t.Fatalf("%d x %d scores for %d labels and %d filters", s.Rows, s.Cols, k, f)
		}
		for _, theta := range thetas(rng) {
			mask, sets, kept := s.Mask(theta), labelSets(ratios, theta), 0
			for j := range k {
				for c := range f {
					if mask.Kept(j, c) != sets[c][j] {
						t.Fatalf("theta %v: label %d filter %d: kept %v, in the set %v", theta, j, c, mask.Kept(j, c), sets[c][j])
					}
				}
			}
			for _, set := range sets {
				kept += len(set)
			}
			if mask.Count() != kept {
				t.Fatalf("%d kept, %d labels", mask.Count(), kept)
			}
			// Kept share = mean(d)/K.
			if f > 0 && !near(1-mask.Dilution(), float64(kept)/float64(f)/float64(k)) {
				t.Fatalf("dilution %v with %d of %d kept", mask.Dilution(), kept, f*k)
			}
		}
	}
}

func TestConvMaskMatchesSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 11))
	for range 80 {
		fin, fout, k := rng.IntN(15), rng.IntN(15), 1+rng.IntN(30)
		in, out := randomRatios(rng, fin, k), randomRatios(rng, fout, k)
		s, err := ConvScores(t.Context(), in, out)
		if err != nil {
			t.Fatal(err)
		}
		for _, theta := range thetas(rng) {
			mask, ins, outs := s.Mask(theta), labelSets(in, theta), labelSets(out, theta)
			for r := range fout {
				for c := range fin {
					shared := false
					for j := range outs[r] {
						shared = shared || ins[c][j]
					}
					if mask.Kept(r, c) != shared {
						t.Fatalf("theta %v: output %d input %d: kept %v, share a label %v", theta, r, c, mask.Kept(r, c), shared)
					}
				}
			}
		}
		for r := range fout {
			for c := range fin {
				label, v := SharedLabel(in[c], out[r])
				if v != s.At(r, c) {
					t.Fatalf("output %d input %d: shared label %d at %v, score %v", r, c, label, v, s.At(r, c))
				}
				if label >= 0 && min(in[c][label], out[r][label]) != v {
					t.Fatalf("label %d does not give %v", label, v)
				}
			}
		}
	}
}

// From fields to masks: the label sets of the clusters themselves, not of their
// ratios, decide.
func TestConvMaskMatchesClusters(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 12))
	for _, theta := range []float64{0, 0.1, 0.3, 0.5, 0.9} {
		var layers [2][]Filter
		const k = 12
		for n := range layers {
			for range 15 {
				layers[n] = append(layers[n], slowAnalyze(randomMatrix(rng, k), k, theta))
			}
		}
		s, err := ConvScores(t.Context(), Ratios(layers[0]), Ratios(layers[1]))
		if err != nil {
			t.Fatal(err)
		}
		mask := s.Mask(theta)
		for r := range layers[1] {
			for c := range layers[0] {
				shared := slices.ContainsFunc(layers[1][r].Labels(), func(j int) bool {
					return slices.Contains(layers[0][c].Labels(), j)
				})
				if mask.Kept(r, c) != shared {
					t.Fatalf("theta %v: output %d input %d: kept %v, share a label %v", theta, r, c, mask.Kept(r, c), shared)
				}
			}
		}
	}
}

func TestScoresRefuse(t *testing.T) {
	good := [][]float32{nil, {1, 2}}
	for name, call := range map[string]func() (*Scores, error){
		"classifier: labels": func() (*Scores, error) { return ClassifierScores(good, 0) },
		"classifier: length": func() (*Scores, error) { return ClassifierScores(good, 3) },
		"classifier: NaN":    func() (*Scores, error) { return ClassifierScores([][]float32{{1, nan}}, 2) },
		"conv: in":           func() (*Scores, error) { return ConvScores(t.Context(), [][]float32{{1, 2}, {1}}, good) },
		"conv: out":          func() (*Scores, error) { return ConvScores(t.Context(), good, [][]float32{{1}}) },
		"conv: empty row":    func() (*Scores, error) { return ConvScores(t.Context(), good, [][]float32{{}}) },
		"conv: NaN":          func() (*Scores, error) { return ConvScores(t.Context(), good, [][]float32{{1, nan}}) },
		"magnitude":          func() (*Scores, error) { return MagnitudeScores(make([]float32, 5), 2, 3) },
		"magnitude: sign":    func() (*Scores, error) { return MagnitudeScores(make([]float32, 6), -2, -3) },
		"magnitude: wrap":    func() (*Scores, error) { return MagnitudeScores(nil, 1<<32, 1<<32) },
	} {
		var e *ArgumentError
		if s, err := call(); s != nil || !errors.As(err, &e) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := ConvScores(ctx, good, good); s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, %v", s, err)
	}
}

// slowThreshold tries 0 and every score.
func slowThreshold(s *Scores, dilution float64) float64 {
	candidates := []float64{0}
	for _, v := range s.v {
		if v > 0 {
			candidates = append(candidates, float64(v))
		}
	}
	slices.Sort(candidates)
	for _, theta := range candidates {
		if s.Mask(theta).Dilution() >= dilution {
			return theta
		}
	}
	return math.NaN()
}

func TestThresholdFor(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 13))
	for range 100 {
		s, err := ConvScores(t.Context(), randomRatios(rng, 1+rng.IntN(12), 5), randomRatios(rng, 1+rng.IntN(12), 5))
		if err != nil {
			t.Fatal(err)
		}
		n := len(s.v)
		for _, dilution := range []float64{0, 1e-9, 0.07, 0.1, 0.5, 0.7, 0.9, 0.95, 1, rng.Float64(), float64(rng.IntN(n+1)) / float64(n)} {
			theta, achieved := s.ThresholdFor(dilution)
			if want := slowThreshold(s, dilution); theta != want {
				t.Fatalf("%d scores, dilution %v: theta %v, want %v", n, dilution, theta, want)
			}
			if achieved < dilution || achieved != s.Mask(theta).Dilution() {
				t.Fatalf("dilution %v: achieved %v, mask %v", dilution, achieved, s.Mask(theta).Dilution())
			}
		}
	}
}

func TestThresholdForEnds(t *testing.T) {
	s, err := MagnitudeScores([]float32{0.5, 0.5, 0.5, 0.25, 0, -1, nan, 2}, 2, 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ dilution, theta, achieved float64 }{
		{-1, 0, 3.0 / 8}, {0, 0, 3.0 / 8}, {math.NaN(), 0, 3.0 / 8}, // what shares no label falls at 0
		{3.0 / 8, 0, 3.0 / 8},
		{0.376, 0.25, 4.0 / 8},
		{0.51, 0.5, 7.0 / 8}, // equal scores fall together
		{1, 2, 1}, {7, 2, 1}, {math.Inf(1), 2, 1},
	} {
		if theta, achieved := s.ThresholdFor(tt.dilution); theta != tt.theta || achieved != tt.achieved {
			t.Errorf("dilution %v: theta %v, achieved %v; want %v, %v", tt.dilution, theta, achieved, tt.theta, tt.achieved)
		}
	}
	// 0.07 * 100 rounds to more than 7, yet 7 of 100 are enough.
	percent := make([]float32, 100)
	for i := range percent {
		percent[i] = float32(i + 1)
	}
	if s, err = MagnitudeScores(percent, 10, 10); err != nil {
		t.Fatal(err)
	}
	for i := range 101 {
		if theta, achieved := s.ThresholdFor(float64(i) / 100); theta != float64(i) || achieved != float64(i)/100 {
			t.Errorf("dilution %d %%: theta %v, achieved %v", i, theta, achieved)
		}
	}
	if theta, achieved := (&Scores{}).ThresholdFor(0.5); theta != 0 || achieved != 0 {
		t.Errorf("no scores: %v, %v", theta, achieved)
	}
}

func TestTop(t *testing.T) {
	rng := rand.New(rand.NewPCG(14, 14))
	for range 100 {
		rows, cols := 1+rng.IntN(12), 1+rng.IntN(12)
		norms := make([]float32, rows*cols)
		for i := range norms {
			norms[i] = float32(rng.IntN(7) - 2)
			if rng.IntN(10) == 0 {
				norms[i] = []float32{inf, -inf, nan}[rng.IntN(3)]
			}
		}
		s, err := MagnitudeScores(norms, rows, cols)
		if err != nil {
			t.Fatal(err)
		}
		order := make([]int, len(norms))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(s.v[b], s.v[a]) })
		for n := range len(norms) + 1 {
			m := s.Top(n)
			if m.Count() != n {
				t.Fatalf("Top(%d) keeps %d", n, m.Count())
			}
			for _, i := range order[:n] {
				if !m.Kept(i/cols, i%cols) {
					t.Fatalf("Top(%d) of %v drops %d", n, s.v, i)
				}
			}
		}
		if s.Top(-1).Count() != 0 || s.Top(len(norms)+5).Count() != len(norms) {
			t.Fatal("n outside the range is not taken as the nearer end")
		}
	}
}

func TestRandomRatios(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 15))
	ratios := randomRatios(rng, 40, 30)
	before := make([][]float32, len(ratios))
	for i := range ratios {
		before[i] = slices.Clone(ratios[i])
	}
	a, b, c := RandomRatios(ratios, 1), RandomRatios(ratios, 1), RandomRatios(ratios, 2)
	if !reflect.DeepEqual(a, b) || reflect.DeepEqual(a, c) || reflect.DeepEqual(a, ratios) {
		t.Error("the seed, and nothing else, must decide")
	}
	if !reflect.DeepEqual(ratios, before) {
		t.Error("the ratios themselves were changed")
	}
	for f := range ratios {
		if (ratios[f] == nil) != (a[f] == nil) {
			t.Errorf("filter %d: nil %v became %v", f, ratios[f] == nil, a[f] == nil)
		}
		x, y := slices.Clone(ratios[f]), slices.Clone(a[f])
		slices.Sort(x)
		slices.Sort(y)
		if !slices.Equal(x, y) {
			t.Errorf("filter %d: %v is no permutation of %v", f, a[f], ratios[f])
		}
	}
}

// The kept shares of random label sets, as the method states them: by the closed
// form with exact binomials, by RandomKeptShare, and by masks of shuffled
// ratios.
func TestRandomKeptShare(t *testing.T) {
	for _, tt := range []struct {
		d    int
		want float64 // per cent, one decimal
	}{{2, 4.0}, {3, 8.8}, {4, 15.3}, {5, 23.0}, {8, 50.0}} {
		const k = 100
		var none, all, share big.Int
		none.Binomial(k-int64(tt.d), int64(tt.d))
		all.Binomial(k, int64(tt.d))
		share.Sub(&all, &none)
		closed, _ := new(big.Rat).SetFrac(&share, &all).Float64()
		if math.Round(closed*1000)/10 != tt.want {
			t.Errorf("d=%d: closed form %.2f %%, want %v", tt.d, 100*closed, tt.want)
		}
		if got := RandomKeptShare(k, tt.d, tt.d); !near(got, closed) {
			t.Errorf("d=%d: %v, closed form %v", tt.d, got, closed)
		}

		// 400 x 400 pairs; the standard error of the share is below 0.3 %.
		filters := make([][]float32, 400)
		for i := range filters {
			filters[i] = make([]float32, k)
			for j := range tt.d {
				filters[i][j] = 1
			}
		}
		s, err := ConvScores(t.Context(), RandomRatios(filters, 1), RandomRatios(filters, 2))
		if err != nil {
			t.Fatal(err)
		}
		if got := 1 - s.Mask(0.3).Dilution(); math.Abs(got-closed) > 0.01 {
			t.Errorf("d=%d: simulated %.2f %%, closed form %.2f %%", tt.d, 100*got, 100*closed)
		}
	}
	for _, tt := range []struct {
		k, a, b int
		want    float64
	}{{10, 0, 3, 0}, {10, 3, 0, 0}, {10, 10, 1, 1}, {10, 6, 5, 1}, {10, 1, 1, 0.1}, {10, 3, 1, 0.3}, {10, 11, 1, 0}, {10, -1, 1, 0}, {0, 0, 0, 0}} {
		if got := RandomKeptShare(tt.k, tt.a, tt.b); !near(got, tt.want) {
			t.Errorf("K=%d, %d and %d labels: %v, want %v", tt.k, tt.a, tt.b, got, tt.want)
		}
	}
}

func BenchmarkConvScores(b *testing.B) {
	for _, size := range []struct{ in, out, k int }{{512, 512, 100}, {320, 1280, 1000}, {4096, 4096, 1000}} {
		b.Run(fmt.Sprintf("in=%d/out=%d/K=%d", size.in, size.out, size.k), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(16, 16))
			layer := func(f int) [][]float32 {
				r := make([][]float32, f)
				for i := range r {
					r[i] = make([]float32, size.k)
					for j := range r[i] {
						r[i][j] = float32(rng.NormFloat64() / 4)
					}
				}
				return r
			}
			in, out := layer(size.in), layer(size.out)
			for b.Loop() {
				if _, err := ConvScores(b.Context(), in, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkThresholdFor(b *testing.B) {
	rng := rand.New(rand.NewPCG(17, 17))
	s, err := MagnitudeScores(normals(rng, 1280*320), 1280, 320)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s.ThresholdFor(0.9)
	}
}
