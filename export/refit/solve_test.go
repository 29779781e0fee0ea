package refit

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// drawn returns a problem with a Gram matrix of about rank rows, whose variances
// spread over orders of magnitude, and supports of kernels of the given size.
func drawn(d, f, rows, kernel int, keep, lambda float64) *problem {
	r := rand.New(rand.NewPCG(3, 5))
	x := mat.NewDense(rows, d, nil)
	for i := range rows {
		common := r.NormFloat64()
		for j := range d {
			x.Set(i, j, math.Exp(-3*float64(j)/float64(d))*(r.NormFloat64()+common))
		}
	}
	var a mat.Dense
	a.Mul(x.T(), x)
	a.Scale(1/float64(rows), &a)
	s := &system{d: d, f: f, a: a.RawMatrix().Data}
	p := &problem{system: s, support: make([]bool, d*f), rest: make([]float64, d*f)}
	trace := a.Trace()
	p.lambda = lambda * trace / float64(d)
	for k := range f {
		for c := range d / kernel {
			if r.Float64() < keep {
				for t := range kernel {
					i := (c*kernel+t)*f + k
					p.support[i] = true
					p.rest[i] = r.NormFloat64()
				}
			}
		}
	}
	return p
}

// TestSolve: both ways against gonum's own, filter by filter.
func TestSolve(t *testing.T) {
	eng := onnxRuntime(t, 1)
	for _, c := range []struct {
		name               string
		d, f, rows, kernel int
		keep, lambda       float64
	}{
		{"one weight", 1, 3, 10, 1, 1, 1e-3},
		{"small", 9, 4, 50, 1, 0.6, 1e-3},
		{"some filters without weights", 27, 20, 100, 9, 0.2, 1e-2},
		{"refined", 450, 6, 900, 9, 0.7, 1e-3},
		{"fewer rows than weights", 300, 5, 60, 1, 0.9, 1e-2},
		{"shared supports", 300, 8, 400, 1, 1, 1e-3},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := drawn(c.d, c.f, c.rows, c.kernel, c.keep, c.lambda)
			mul, err := newMultiplier(t.Context(), eng, p.a, p.d)
			if err != nil {
				t.Fatal(err)
			}
			defer mul.close()
			direct, _, _, err := p.solve(t.Context(), mul, cholesky)
			if err != nil {
				t.Fatal(err)
			}
			iterated, _, n, err := p.solve(t.Context(), mul, gradient)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d iterations", n)
			for k := range p.f {
				want := slow(t, p, k)
				for i := range p.d {
					if !p.support[i*p.f+k] && (direct[i*p.f+k] != 0 || iterated[i*p.f+k] != 0) {
						t.Fatalf("filter %d has weight %d, which is masked", k, i)
					}
				}
				if d := difference(p, direct, want, k); d > 1e-7 {
					t.Errorf("filter %d by Cholesky differs by %g", k, d)
				}
				if d := difference(p, iterated, want, k); d > 1e-2 {
					t.Errorf("filter %d by conjugate gradients differs by %g", k, d)
				}
			}
		})
	}
}

func difference(p *problem, v, want []float64, k int) float64 {
	off, all := 0.0, 1e-300
	for i := range p.d {
		off += math.Pow(v[i*p.f+k]-want[i], 2)
		all += want[i] * want[i]
	}
	return math.Sqrt(off / all)
}

// slow solves for one filter with gonum's dense solver.
func slow(t *testing.T, p *problem, k int) []float64 {
	var rows []int
	for i := range p.d {
		if p.support[i*p.f+k] {
			rows = append(rows, i)
		}
	}
	w := make([]float64, p.d)
	if len(rows) == 0 {
		return w
	}
	a, b := mat.NewDense(len(rows), len(rows), nil), mat.NewVecDense(len(rows), nil)
	for i, r := range rows {
		for j, c := range rows {
			a.Set(i, j, p.a[r*p.d+c])
		}
		a.Set(i, i, a.At(i, i)+p.lambda)
		b.SetVec(i, p.rest[r*p.f+k])
	}
	var x mat.VecDense
	if err := x.SolveVec(a, b); err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		w[r] = x.AtVec(i)
	}
	return w
}

// TestCholeskyRefuses: a matrix that is not positive definite is not solved.
func TestCholeskyRefuses(t *testing.T) {
	for _, n := range []int{1, 3, 200} {
		var f factoriser
		a := f.matrix(n)
		clear(a)
		for i := range n {
			a[i*n+i] = 1
		}
		a[(n-1)*n+n-1] = -1
		if f.solve(n, 1, make([]float64, n)) {
			t.Errorf("%d x %d with a negative eigenvalue", n, n)
		}
	}
}

func BenchmarkCholesky(b *testing.B) {
	for _, n := range []int{783, 2304} {
		b.Run(map[int]string{783: "17 percent", 2304: "half"}[n], func(b *testing.B) {
			p := drawn(n, 1, 256, 1, 1, 1e-3)
			groups := p.groups()
			var f factoriser
			v := make([]float64, n)
			for b.Loop() {
				if err := p.factorise(&f, groups[0], v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConjugateGradients is one iteration at the size of a layer of VGG-16, 512
// filters on 512 channels of 3 x 3.
func BenchmarkConjugateGradients(b *testing.B) {
	eng := onnxRuntime(b, 1)
	const d, f = 4608, 512
	r := rand.New(rand.NewPCG(1, 2))
	a, x := make([]float64, d*d), make([]float64, d*f)
	for i := range a {
		a[i] = r.Float64()
	}
	for i := range x {
		x[i] = r.Float64()
	}
	mul, err := newMultiplier(b.Context(), eng, a, d)
	if err != nil {
		b.Fatal(err)
	}
	defer mul.close()
	for b.Loop() {
		if _, err := mul.product(b.Context(), x, f); err != nil {
			b.Fatal(err)
		}
	}
}
