package compute

import (
	"math/rand/v2"
	"testing"
)

func TestAffine(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, a := range arches() {
		for _, inner := range []int{0, 1, 2, 15, 16, 33, 64, 20000} {
			const n, channels = 3, 5
			x, factor, addend := random(r, n*channels*inner), random(r, channels), random(r, channels)
			y := make([]float32, len(x))
			affine(a, NewWorkers(3), y, x, inner, factor, addend)
			affine(a, NewWorkers(1), x, append([]float32(nil), x...), inner, factor, addend)
			for i, v := range y {
				if v != x[i] {
					t.Fatalf("%s, inner %d: %g on three workers, %g on one", a, inner, v, x[i])
				}
			}
		}
		y := make([]float32, 6)
		affine(a, nil, y, []float32{1, 2, 3, 4, 5, posInf}, 3, []float32{2, -1}, []float32{10, 0})
		for i, v := range []float32{12, 14, 16, -4, -5, negInf} {
			if y[i] != v {
				t.Errorf("%s: number %d is %g, want %g", a, i, y[i], v)
			}
		}
	}
}

func TestMultiply(t *testing.T) {
	c := make([]int8, 4)
	Multiply(NewWorkers(2), 2, 2, 3, []int8{1, 2, 3, 4, 5, 100}, []int8{1, -1, 2, 0, 3, 2}, c)
	for i, v := range []int8{14, 5, 58, -60} { // 314 and 196 wrap around
		if c[i] != v {
			t.Errorf("number %d is %d, want %d", i, c[i], v)
		}
	}
	Multiply(nil, 2, 2, 0, nil, nil, c)
	for i, v := range c {
		if v != 0 {
			t.Errorf("number %d of an empty product is %d", i, v)
		}
	}
}
