package afcc

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestSweepMatchesEachThreshold(t *testing.T) {
	rng := rand.New(rand.NewPCG(40, 40))
	thetas := []float64{0.5, 0, 0.3, 0.1, 0.3, 0.9, 0.999}
	for _, kind := range hardKinds {
		for _, size := range []struct{ k, f, p int }{{1, 1, 1}, {1, 1, 4}, {70, 9, 1}, {65, 7, 9}} {
			k, f, p := size.k, size.f, size.p
			l := hardLayer(rng, kind, k, f, p)
			for _, workers := range []int{0, 1, 3} {
				got, err := Sweep(t.Context(), l.w, l.means, k, f, p, thetas, workers)
				if err != nil {
					t.Fatal(err)
				}
				for n, theta := range thetas {
					filters, err := AnalyzeLayer(t.Context(), l.w, l.means, k, f, p, Options{Theta: theta})
					if err != nil {
						t.Fatal(err)
					}
					if want := Summarize(filters, k, theta); !reflect.DeepEqual(got[n], want) {
						t.Fatalf("%s: K=%d P=%d theta %v\ngot  %+v\nwant %+v", kind, k, p, theta, got[n], want)
					}
				}
			}
		}
	}
}

func TestPermuteLabelsMatchesSlowVersion(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 41))
	varied := false
	for _, size := range []struct{ k, f, p int }{{1, 1, 1}, {30, 9, 1}, {40, 7, 3}, {70, 5, 2}} {
		k, f, p := size.k, size.f, size.p
		l := hardLayer(rng, "normal", k, f, p)
		for n := range l.means {
			l.means[n] = max(l.means[n], 0)
			if n/p%f == 1 {
				l.means[n] = 0 // a dead filter after a live one
			}
		}
		const permutations, seed, theta = 6, 5, 0.1
		got, err := PermuteLabels(t.Context(), l.w, l.means, k, f, p, permutations, seed, Options{Theta: theta, Workers: 1 + f%2})
		if err != nil {
			t.Fatal(err)
		}
		rows := func(order []int) Stats {
			m, permuted := make([]float32, k*k), make([]float32, k*k)
			var filters []Filter
			for i := range f {
				FieldMatrix(m, l.w, l.means, k, f, p, i)
				for a, i := range order {
					for b, j := range order {
						permuted[a*k+b] = m[i*k+j]
					}
				}
				filters = append(filters, slowAnalyze(permuted, k, theta))
			}
			return Summarize(filters, k, theta)
		}
		ascending := make([]int, k)
		for i := range ascending {
			ascending[i] = i
		}
		want := LabelOrder{Seed: seed, Ascending: rows(ascending)}
		var nc []float64
		for r := range permutations {
			want.Permuted = append(want.Permuted, rows(rand.New(rand.NewPCG(seed, uint64(r))).Perm(k)))
			nc = append(nc, want.Permuted[r].Mean.Nc)
		}
		if !reflect.DeepEqual(got.Ascending, want.Ascending) || !reflect.DeepEqual(got.Permuted, want.Permuted) {
			t.Fatalf("K=%d P=%d\ngot  %+v\nwant %+v", k, p, got, want)
		}
		if got.Nc != spreadOf(nc) {
			t.Errorf("spread %+v of %v", got.Nc, nc)
		}
		varied = varied || got.Nc.SD > 0 && got.Cs.SD > 0 && got.N.SD > 0 && got.NAll.SD > 0
		for _, s := range got.Permuted {
			if s.Mean.D != got.Ascending.Mean.D || !reflect.DeepEqual(s.SNR, got.Ascending.SNR) {
				t.Errorf("K=%d: d or SNR depend on the order: %+v, %+v", k, s, got.Ascending)
			}
		}
	}
	if !varied {
		t.Error("no layer depends on the label order")
	}
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		x    []float64
		want Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{Mean: 3, Min: 3, Max: 3}},
		{[]float64{1, 5, 3}, Spread{Mean: 3, SD: 2, Min: 1, Max: 5}},
	} {
		if got := spreadOf(tt.x); !near(got.Mean, tt.want.Mean) || !near(got.SD, tt.want.SD) || got.Min != tt.want.Min || got.Max != tt.want.Max {
			t.Errorf("%v: %+v, want %+v", tt.x, got, tt.want)
		}
	}
}

func TestLayerArguments(t *testing.T) {
	stopped, stop := context.WithCancel(t.Context())
	stop()
	x := make([]float32, 8)
	sweep := func(ctx context.Context, w []float32, theta float64) error {
		_, err := Sweep(ctx, w, x, 2, 2, 2, []float64{0.3, theta}, 0)
		return err
	}
	permute := func(ctx context.Context, w []float32, theta float64) error {
		_, err := PermuteLabels(ctx, w, x, 2, 2, 2, 3, 0, Options{Theta: theta})
		return err
	}
	for name, call := range map[string]func(context.Context, []float32, float64) error{"sweep": sweep, "permute": permute} {
		t.Run(name, func(t *testing.T) {
			if err := call(t.Context(), x, 0.3); err != nil {
				t.Error(err)
			}
			if err := call(stopped, x, 0.3); !errors.Is(err, context.Canceled) {
				t.Errorf("stopped: %v", err)
			}
			var e *ArgumentError
			if err := call(t.Context(), x, 1); !errors.As(err, &e) || e.Name != "theta" {
				t.Errorf("theta: %v", err)
			}
			if err := call(t.Context(), x[1:], 0.3); !errors.As(err, &e) || e.Name != "head weights" {
				t.Errorf("weights: %v", err)
			}
		})
	}
	var e *ArgumentError
	if _, err := PermuteLabels(t.Context(), x, x, 2, 2, 2, 0, 0, Options{}); !errors.As(err, &e) || e.Name != "permutations" {
		t.Errorf("no permutations: %v", err)
	}
}

// Compare with BenchmarkAnalyzeLayer of the same size: what ten thresholds, or a
// hundred label orders, cost beyond one analysis.
func BenchmarkSweep(b *testing.B) {
	rng := rand.New(rand.NewPCG(42, 42))
	const k, f, p = 1000, 32, 49
	w, means := normals(rng, k*f*p), normals(rng, k*f*p)
	for i := range means {
		means[i] = max(means[i], 0)
	}
	b.Run("thresholds=10", func(b *testing.B) {
		thetas := []float64{0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6}
		for b.Loop() {
			if _, err := Sweep(b.Context(), w, means, k, f, p, thetas, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("orders=100", func(b *testing.B) {
		for b.Loop() {
			if _, err := PermuteLabels(b.Context(), w, means, k, f, p, 100, 1, Options{Theta: 0.3}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
