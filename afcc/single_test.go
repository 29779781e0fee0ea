package afcc

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestFilterHitsMatchSlowVersion(t *testing.T) {
	rng := rand.New(rand.NewPCG(70, 70))
	for _, kind := range hardKinds {
		for _, size := range []struct{ k, f, p, n int }{{1, 2, 1, 3}, {3, 5, 1, 40}, {10, 7, 4, 90}, {40, 3, 49, 60}} {
			k, f, p, n := size.k, size.f, size.p, size.n
			w := hardLayer(rng, kind, k, f, p).w
			acts := hardLayer(rng, kind, n, f, p).means
			labels := make([]int, n)
			for i := range labels {
				labels[i] = rng.IntN(k)
			}
			h, err := NewFilterHits(w, k, f, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range [][2]int{{0, n / 3}, {n / 3, n / 3}, {n / 3, 2 * n / 3}, {2 * n / 3, n}} {
				if err := h.Add(t.Context(), acts[part[0]*f*p:part[1]*f*p], labels[part[0]:part[1]]); err != nil {
					t.Fatal(err)
				}
			}
			for filter := range f {
				hits, all := make([]int, k), 0
				samples := make([]int, k)
				for i, y := range labels {
					phi := func(j int) float32 {
						sum := 0.0
						for q := range p {
							sum += float64(w[(j*f+filter)*p+q]) * float64(acts[(i*f+filter)*p+q])
						}
						return float32(sum)
					}
					samples[y]++
					best := phi(y) == phi(y)
					for j := range k {
						best = best && (j == y || phi(y) > phi(j))
					}
					if best {
						hits[y]++
						all++
					}
				}
				if got := h.Accuracy(filter, nil); got == nil || !near(*got, float64(all)/float64(n)) {
					t.Fatalf("%s %+v filter %d: accuracy %v, want %d hits", kind, size, filter, got, all)
				}
				for j := range k {
					got := h.Accuracy(filter, []int{j})
					if samples[j] == 0 && got != nil || samples[j] > 0 && !near(*got, float64(hits[j])/float64(samples[j])) {
						t.Fatalf("%s %+v filter %d label %d: accuracy %v, want %d of %d", kind, size, filter, j, got, hits[j], samples[j])
					}
				}
			}
		}
	}
}

// A filter that is silent hits nothing, not even label 0.
func TestSilentFilterHitsNothing(t *testing.T) {
	h, err := NewFilterHits([]float32{1, 2, 3, 4}, 2, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Add(t.Context(), []float32{0, 1, 0, 1}, []int{0, 1}); err != nil {
		t.Fatal(err)
	}
	if silent, other := h.Accuracy(0, nil), h.Accuracy(1, nil); *silent != 0 || *other != 0.5 {
		t.Errorf("accuracies %v and %v, want 0 and 0.5", *silent, *other)
	}
	if got := h.Accuracy(1, []int{}); got != nil {
		t.Errorf("accuracy over no labels: %v", *got)
	}
}

// A field that is no number beats the label's own.
func TestNoHitAgainstNaN(t *testing.T) {
	h, err := NewFilterHits([]float32{1, inf}, 2, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Add(t.Context(), []float32{0, 1}, []int{0, 1}); err != nil {
		t.Fatal(err)
	}
	if a, b := h.Accuracy(0, []int{0}), h.Accuracy(0, []int{1}); *a != 0 || *b != 1 {
		t.Errorf("accuracies %v and %v, want 0 against a NaN and 1 for the infinite field", *a, *b)
	}
}

func TestFilterHitsArguments(t *testing.T) {
	var e *ArgumentError
	if _, err := NewFilterHits(make([]float32, 3), 2, 2, 1); !errors.As(err, &e) || e.Name != "head weights" {
		t.Errorf("weights: %v", err)
	}
	h, err := NewFilterHits(make([]float32, 4), 2, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := h.Add(stopped, make([]float32, 2), []int{0}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	for name, tt := range map[string]struct {
		acts   []float32
		labels []int
		want   string
	}{
		"short":      {make([]float32, 3), []int{0, 1}, "activations"},
		"no samples": {make([]float32, 3), nil, "activations"},
		"label":      {make([]float32, 4), []int{0, 2}, "labels"},
		"negative":   {make([]float32, 4), []int{-1, 0}, "labels"},
	} {
		if err := h.Add(t.Context(), tt.acts, tt.labels); !errors.As(err, &e) || e.Name != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := h.Accuracy(0, nil); got != nil {
		t.Errorf("refused samples were counted: %v", *got)
	}
}

// TestCountGoesOn breaks a count off and continues it in another counter.
func TestCountGoesOn(t *testing.T) {
	rng := rand.New(rand.NewPCG(72, 72))
	const k, f, p, n = 4, 5, 3, 40
	w, acts := normals(rng, k*f*p), normals(rng, n*f*p)
	labels := make([]int, n)
	for i := range labels {
		labels[i] = rng.IntN(k)
	}
	counter := func() *FilterHits {
		h, err := NewFilterHits(w, k, f, p)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	add := func(h *FilterHits, from, to int) {
		if err := h.Add(t.Context(), acts[from*f*p:to*f*p], labels[from:to]); err != nil {
			t.Fatal(err)
		}
	}
	whole, first, second := counter(), counter(), counter()
	add(whole, 0, n)
	add(first, 0, 25)
	samples, hits := first.Counts()
	toSamples, toHits := second.Counts()
	copy(toSamples, samples)
	copy(toHits, hits)
	add(second, 25, n)
	if !reflect.DeepEqual(whole, second) {
		t.Error("a count that goes on ends in another place")
	}
	if reflect.DeepEqual(first, whole) {
		t.Error("nothing was counted behind the break")
	}
}

func BenchmarkFilterHits(b *testing.B) {
	rng := rand.New(rand.NewPCG(71, 71))
	const k, f, p, n = 100, 512, 4, 100
	h, err := NewFilterHits(normals(rng, k*f*p), k, f, p)
	if err != nil {
		b.Fatal(err)
	}
	acts, labels := normals(rng, n*f*p), make([]int, n)
	for b.Loop() {
		if err := h.Add(b.Context(), acts, labels); err != nil {
			b.Fatal(err)
		}
	}
}
