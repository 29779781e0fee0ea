package afcc

import (
	"math"
	"math/rand/v2"
	"testing"
)

func normals(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// The mean field of a label's samples, formed sample by sample as the papers
// define it, is what FieldMatrix computes from the mean activations.
func TestFieldMatrixMatchesPerSampleFields(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, size := range []struct{ k, f, p, perLabel int }{
		{1, 1, 1, 1}, {3, 4, 1, 5}, {5, 3, 2, 7}, {10, 8, 49, 6}, {65, 3, 9, 4}, {100, 2, 16, 3}, {130, 2, 67, 2},
	} {
		k, f, p := size.k, size.f, size.p
		w := normals(rng, k*f*p)
		means := make([]float32, k*f*p)
		want := make([]float64, f*k*k)
		for i := range k {
			for range size.perLabel {
				x := normals(rng, f*p)
				for n, v := range x {
					x[n] = max(v, 0)
					means[i*f*p+n] += x[n] / float32(size.perLabel)
				}
				for filter := range f {
					for j := range k {
						phi := 0.0
						for pos := range p {
							phi += float64(w[(j*f+filter)*p+pos]) * float64(x[filter*p+pos])
						}
						want[(filter*k+i)*k+j] += phi / float64(size.perLabel)
					}
				}
			}
		}
		got := make([]float32, k*k)
		for filter := range f {
			got[0] = nan // what dst holds before must not matter
			FieldMatrix(got, w, means, k, f, p, filter)
			for n, v := range got {
				if d := math.Abs(float64(v) - want[filter*k*k+n]); !(d <= 1e-4) {
					t.Fatalf("K=%d F=%d P=%d filter %d entry %d: %v, per sample %v", k, f, p, filter, n, v, want[filter*k*k+n])
				}
			}
		}
	}
}

func TestFieldMatrixPanics(t *testing.T) {
	for name, call := range map[string]func(){
		"filter":   func() { FieldMatrix(make([]float32, 4), make([]float32, 4), make([]float32, 4), 2, 2, 1, 2) },
		"weights":  func() { FieldMatrix(make([]float32, 4), make([]float32, 3), make([]float32, 4), 2, 2, 1, 0) },
		"means":    func() { FieldMatrix(make([]float32, 4), make([]float32, 4), make([]float32, 3), 2, 2, 1, 0) },
		"fields":   func() { FieldMatrix(make([]float32, 3), make([]float32, 4), make([]float32, 4), 2, 2, 1, 0) },
		"overflow": func() { FieldMatrix(nil, nil, nil, math.MaxInt, math.MaxInt, 4, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}
