package afcc

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// hardLayer returns a layer whose float32 sums go wrong in one way or another.
func hardLayer(rng *rand.Rand, kind string, k, f, p int) *layer {
	w, means := normals(rng, k*f*p), normals(rng, k*f*p)
	switch kind {
	case "cancelling": // nearly equal activations meet weights that sum to nearly nothing
		for n := range means {
			means[n] = 1 + means[n]/1e5
			if n%p > 0 && n%p%2 == 1 {
				w[n] = -w[n-1] * (1 + w[n]/1e5)
			}
		}
	case "ties": // many fields close to a multiple of a tenth of the largest
		for n := range means {
			means[n] = float32(rng.IntN(3)) / 10
			w[n] = float32(rng.IntN(5)-2) / 3
		}
	case "tiny": // products that underflow
		for n := range means {
			means[n] *= 1e-25
			w[n] *= 1e-20
		}
	case "huge": // sums that overflow in float32, not always in float64
		for n := range means {
			means[n] *= 4e18
			w[n] *= 4e18
		}
	case "sparse":
		for n := range means {
			if rng.IntN(4) > 0 || n/(f*p)%3 == 0 {
				means[n] = 0
			}
		}
	case "special":
		means[rng.IntN(len(means))] = nan
		w[rng.IntN(len(w))] = inf
		means[rng.IntN(len(means))] = -inf
	}
	return &layer{w, means, k, f, p}
}

var hardKinds = []string{"normal", "cancelling", "ties", "tiny", "huge", "sparse", "special"}

// Fields from fast float32 sums give the very filters that exact fields give, and
// without the corrections they would not.
func TestAnalyzeLayerIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(30, 30))
	uncorrected := 0
	for _, kind := range hardKinds {
		for _, size := range []struct{ k, f, p int }{{1, 2, 2}, {7, 20, 3}, {33, 10, 49}, {129, 4, 16}, {150, 3, 300}, {20, 3, 2000}} {
			k, f, p := size.k, size.f, size.p
			l := hardLayer(rng, kind, k, f, p)
			results := map[float64][]Filter{}
			analyzed := func(theta float64) []Filter {
				if results[theta] == nil {
					filters, err := AnalyzeLayer(t.Context(), l.w, l.means, k, f, p, Options{Theta: theta})
					if err != nil {
						t.Fatal(err)
					}
					results[theta] = filters
				}
				return results[theta]
			}
			m, b := make([]float32, k*k), newFieldBlock(k, k, p)
			for i := range f {
				FieldMatrix(m, l.w, l.means, k, f, p, i)
				for _, theta := range []float64{0, 0.1, 0.3, 0.5} {
					want := slowAnalyze(m, k, theta)
					want.Index = i
					if got := analyzed(theta)[i]; !reflect.DeepEqual(got, want) {
						t.Fatalf("%s: K=%d P=%d theta %v: got %+v, want %+v", kind, k, p, theta, got, want)
					}
					b.compute(l.means, l.w, f, i)
					if Analyze(b.v, k, theta).Ones != want.Ones {
						uncorrected++
					}
				}
			}
		}
	}
	if uncorrected < 10 {
		t.Errorf("only %d filters would be wrong without corrections: the layers are too easy", uncorrected)
	}
}

func TestFieldBlockKeepsItsBound(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 31))
	used := 0.0 // the largest share of a bound that an error takes up
	for _, kind := range hardKinds {
		for _, size := range []struct{ rows, k, p int }{{1, 1, 1}, {5, 40, 7}, {130, 131, 9}, {10, 20, 1000}} {
			means := hardLayer(rng, kind, size.rows, 2, size.p).means
			w := hardLayer(rng, kind, size.k, 2, size.p).w
			b := newFieldBlock(size.rows, size.k, size.p)
			for i := range b.v {
				b.v[i] = nan // what it holds before must not matter
			}
			b.compute(means, w, 2, 1)
			for n, v := range b.v {
				want := b.field(n/size.k, n%size.k)
				if off := math.Abs(float64(v) - float64(want)); off > 0 {
					if !(off <= b.bound[n/size.k]) {
						t.Fatalf("%s %+v: field %d is %v, want %v within %v", kind, size, n, v, want, b.bound[n/size.k])
					}
					used = max(used, off/b.bound[n/size.k])
				}
			}
		}
	}
	if used < 0.01 {
		t.Errorf("errors use %v of the bound: no error was seen", used)
	}
}
