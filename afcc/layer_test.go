package afcc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestAnalyzeLayerMatchesFilterByFilter(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for _, size := range []struct{ k, f, p int }{
		{1, 1, 1}, {3, 5, 1}, {64, 9, 1}, {65, 9, 1}, {10, 7, 4}, {70, 5, 9},
	} {
		k, f, p := size.k, size.f, size.p
		w, means := normals(rng, k*f*p), normals(rng, k*f*p)
		for n := range means {
			if (n/p)%f%3 > 0 { // two filters of three as after a ReLU, one with both signs
				means[n] = max(means[n], 0)
			}
		}
		if f > 4 {
			means[0*p] = nan   // filter 0
			means[1*p] = inf   // filter 1
			for i := range k { // filter 2: dead
				for pos := range p {
					means[(i*f+2)*p+pos] = 0
				}
			}
			means[3*p], w[3*p] = 3e38, 3e38 // filter 3: finite factors, infinite field
		}
		m := make([]float32, k*k)
		var want []Filter
		for i := range f {
			FieldMatrix(m, w, means, k, f, p, i)
			x := slowAnalyze(m, k, 0.3)
			x.Index = i
			want = append(want, x)
		}
		for _, workers := range []int{0, 1, 3, 100} {
			got, err := AnalyzeLayer(t.Context(), w, means, k, f, p, Options{Theta: 0.3, Workers: workers})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("K=%d F=%d P=%d with %d workers\ngot  %+v\nwant %+v", k, f, p, workers, got, want)
			}
		}
		if f > 4 && !(want[0].NonFinite && want[1].NonFinite && want[2].Max == 0 && want[3].NonFinite) {
			t.Errorf("K=%d F=%d P=%d: special filters are not special: %+v", k, f, p, want[:4])
		}
	}
}

// Factors in small steps, zeros, infinities and NaN: products that tie with each
// other, with the threshold and with the cutoff, and 0 * Inf.
func TestOuterProductMatchesSlowVersion(t *testing.T) {
	rng := rand.New(rand.NewPCG(19, 19))
	clustered := 0
	for range 500 {
		k := 1 + rng.IntN(70)
		x := [2][]float32{make([]float32, k), make([]float32, k)}
		for _, v := range x {
			low := rng.IntN(11) - 7
			high := low + rng.IntN(9)
			for i := range v {
				v[i] = float32(low + rng.IntN(high-low+1))
			}
			if rng.IntN(3) == 0 {
				v[rng.IntN(k)] = []float32{inf, -inf, nan, math.MaxFloat32, math.SmallestNonzeroFloat32}[rng.IntN(5)]
			}
		}
		m := make([]float32, k*k)
		FieldMatrix(m, x[1], x[0], k, 1, 1, 0)
		thetas := []float64{0, 0.1, 0.3, 0.5}
		// A threshold just below one of the quotients, so that a field is the cutoff.
		if q := math.Nextafter32(m[rng.IntN(len(m))]/maximum(m), -1); q >= 0 && q < 1 {
			thetas = append(thetas, float64(q))
		}
		for _, theta := range thetas {
			got, err := AnalyzeLayer(t.Context(), x[1], x[0], k, 1, 1, Options{Theta: theta})
			if err != nil {
				t.Fatal(err)
			}
			if want := slowAnalyze(m, k, theta); !reflect.DeepEqual(got[0], want) {
				t.Fatalf("theta %v, means %v, weights %v\ngot  %+v\nwant %+v", theta, x[0], x[1], got[0], want)
			}
			if len(got[0].Clusters) > 0 {
				clustered++
			}
			if math.Signbit(got[0].Max) && got[0].Max == 0 {
				t.Fatal("largest field is -0")
			}
		}
	}
	if clustered < 500 {
		t.Errorf("only %d filters have a cluster", clustered)
	}
}

func TestAnalyzeLayerRefuses(t *testing.T) {
	x := make([]float32, 12)
	for _, tt := range []struct {
		name     string
		w, means []float32
		k, f, p  int
		theta    float64
		want     string
	}{
		{"theta", x, x, 2, 3, 2, 1, "theta: 1 is not in [0,1); the reference value is 0.3"},
		{"weights", x[:11], x, 2, 3, 2, 0.3, "head weights: 11 values where 2 labels x 3 filters x 2 positions need 12"},
		{"means", x, x[:11], 2, 3, 2, 0.3, "label means: 11 values where 2 labels x 3 filters x 2 positions need 12"},
		{"empty", nil, nil, 0, 3, 2, 0.3, "layer output: 0 labels x 3 filters x 2 positions is no array"},
		{"negative", x, x, -2, -3, 2, 0.3, "layer output: -2 labels x -3 filters x 2 positions is no array"},
		{"overflow", x, x, math.MaxInt, 2, 2, 0.3, fmt.Sprintf("layer output: %d labels x 2 filters x 2 positions is no array", math.MaxInt)},
		{"labels", x, x, MaxLabels + 1, 1, 1, 0.3, "labels: 32769 are too many; at most 32768 are supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AnalyzeLayer(t.Context(), tt.w, tt.means, tt.k, tt.f, tt.p, Options{Theta: tt.theta})
			var e *ArgumentError
			if got != nil || !errors.As(err, &e) || err.Error() != tt.want {
				t.Errorf("got %v, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestAnalyzeLayerHonoursContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x := make([]float32, 8)
	if got, err := AnalyzeLayer(ctx, x, x, 2, 2, 2, Options{}); got != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", got, err)
	}
}

// The sizes are those of a VGG-16 at 32x32 on CIFAR-100, first and last block, and
// of the end of an EfficientNet-B0 on ImageNet, after and before its pooling.
func BenchmarkAnalyzeLayer(b *testing.B) {
	for _, size := range []struct{ k, f, p int }{
		{100, 64, 1024}, {100, 512, 16}, {1000, 1280, 1}, {1000, 32, 49}, {1000, 1280, 49},
	} {
		b.Run(fmt.Sprintf("K=%d/F=%d/P=%d", size.k, size.f, size.p), func(b *testing.B) {
			k, f, p := size.k, size.f, size.p
			rng := rand.New(rand.NewPCG(7, 7))
			w, means := normals(rng, k*f*p), normals(rng, k*f*p)
			for i := range means {
				means[i] = max(means[i], 0)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := AnalyzeLayer(b.Context(), w, means, k, f, p, Options{Theta: 0.3}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Clipping and clustering alone, for fields that are noise and for the worst
// case, in which every label is a candidate.
func BenchmarkAnalyze(b *testing.B) {
	rng := rand.New(rand.NewPCG(8, 8))
	for _, k := range []int{100, 1000} {
		noise := normals(rng, k*k)
		dense := normals(rng, k*k)
		for i := range dense {
			dense[i] = max(dense[i], -dense[i])
		}
		for i := range k {
			dense[i*k+i] = 3
		}
		for name, m := range map[string][]float32{"noise": noise, "dense": dense} {
			b.Run(fmt.Sprintf("K=%d/%s", k, name), func(b *testing.B) {
				z := newAnalyzer(k)
				for b.Loop() {
					z.loadFields(m, maximum(m))
					z.at(0.3)
				}
			})
		}
	}
}
