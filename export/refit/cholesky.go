package refit

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
)

// A factoriser solves positive definite systems, by a Cholesky factorisation. That
// of larger ones is in single precision, where products of matrices are fast, and
// corrected with residuals in double (iterative refinement, Higham, "Accuracy and
// Stability of Numerical Algorithms", 2nd ed., chapter 12), until the solution is as
// good as one in double. It keeps its memory for the next system.
type factoriser struct {
	a       []float64 // n x n, the upper triangle in use
	l       []float32 // n x n, the lower triangle is the factor
	panel   []float32
	inverse []float32 // of a diagonal block
	x, r, s []float64
}

const (
	// panelWidth is the width of the blocks in which a matrix is factorised.
	panelWidth = 64
	// refined is the length of the residual, by that of the right side, that ends
	// the refinement.
	refined = 1e-10
	// maxRefinements bounds it.
	maxRefinements = 20
)

// matrix returns memory for the upper triangle of an n x n matrix.
func (f *factoriser) matrix(n int) []float64 {
	f.a = slices.Grow(f.a[:0], n*n)[:n*n]
	return f.a
}

// solve solves the system of matrix(n) for k right sides, b being n x k, in place.
// ok is false when the matrix is not positive definite.
func (f *factoriser) solve(n, k int, b []float64) (ok bool) {
	if n > 2*panelWidth {
		solved, kept := true, slices.Clone(b)
		if f.factor(n) {
			for j := range k {
				solved = solved && f.refine(n, k, j, b)
			}
			if solved {
				return true
			}
		}
		copy(b, kept)
	}
	t, ok := lapack64.Potrf(blas64.Symmetric{N: n, Stride: n, Data: f.a, Uplo: blas.Upper})
	if ok {
		lapack64.Potrs(t, blas64.General{Rows: n, Cols: k, Stride: k, Data: b})
	}
	return ok
}

// factor makes l, column block by column block, each by one product with all the
// columns to its left.
func (f *factoriser) factor(n int) bool {
	f.l = slices.Grow(f.l[:0], n*n)[:n*n]
	for i := range n {
		for j := range i + 1 {
			f.l[i*n+j] = float32(f.a[j*n+i])
		}
	}
	var alone compute.Workers
	for j := 0; j < n; j += panelWidth {
		w := min(panelWidth, n-j)
		if j > 0 {
			g := compute.Gemm{TransB: true, M: n - j, N: w, K: j, Alpha: -1, Beta: 1}
			// The factors are columns before j, the result is columns from j on.
			g.Run(&alone, f.l[j*n:], n, f.l[j*n:], n, f.l[j*n+j:], n, nil)
		}
		if !f.diagonal(n, j, w) {
			return false
		}
		if m := n - j - w; m > 0 {
			f.panel = slices.Grow(f.panel[:0], m*w)[:m*w]
			for i := range m {
				copy(f.panel[i*w:(i+1)*w], f.l[(j+w+i)*n+j:])
			}
			g := compute.Gemm{TransB: true, M: m, N: w, K: w, Alpha: 1}
			g.Run(&alone, f.panel, w, f.inverse, w, f.l[(j+w)*n+j:], n, nil)
		}
	}
	return true
}

// diagonal factorises the block of width w at j, and makes its inverse.
func (f *factoriser) diagonal(n, j, w int) bool {
	var c, inv [panelWidth][panelWidth]float64
	for i := range w {
		for k := range i + 1 {
			v := float64(f.l[(j+i)*n+j+k])
			for p := range k {
				v -= c[i][p] * c[k][p]
			}
			if k < i {
				c[i][k] = v / c[k][k]
				continue
			}
			if !(v > 0) {
				return false
			}
			c[i][i] = math.Sqrt(v)
		}
	}
	f.inverse = slices.Grow(f.inverse[:0], w*w)[:w*w]
	clear(f.inverse)
	for i := range w {
		inv[i][i] = 1 / c[i][i]
		for k := range i {
			v := 0.0
			for p := k; p < i; p++ {
				v -= c[i][p] * inv[p][k]
			}
			inv[i][k] = v / c[i][i]
		}
		for k := range i + 1 {
			f.inverse[i*w+k] = float32(inv[i][k])
			f.l[(j+i)*n+j+k] = float32(c[i][k])
		}
	}
	return true
}

// refine solves for column j of b with the factor, and corrects the solution until
// its residual in double precision is small. It reports whether that came about.
func (f *factoriser) refine(n, k, j int, b []float64) bool {
	f.x, f.r, f.s = slices.Grow(f.x[:0], n)[:n], slices.Grow(f.r[:0], n)[:n], slices.Grow(f.s[:0], n)[:n]
	goal := 0.0
	for i := range n {
		f.x[i], f.r[i] = 0, b[i*k+j]
		goal += f.r[i] * f.r[i]
	}
	goal *= refined * refined
	last := math.Inf(1)
	for range maxRefinements {
		copy(f.s, f.r)
		f.substitute(n, f.s)
		for i, v := range f.s {
			f.x[i] += v
		}
		for i := range n {
			f.r[i] = b[i*k+j]
		}
		blas64.Symv(-1, blas64.Symmetric{N: n, Stride: n, Data: f.a, Uplo: blas.Upper}, blas64.Vector{N: n, Inc: 1, Data: f.x}, 1, blas64.Vector{N: n, Inc: 1, Data: f.r})
		now := blas64.Dot(blas64.Vector{N: n, Inc: 1, Data: f.r}, blas64.Vector{N: n, Inc: 1, Data: f.r})
		if now <= goal {
			for i, v := range f.x {
				b[i*k+j] = v
			}
			return true
		}
		if !(now < last/4) { // it does not converge, at least not fast
			return false
		}
		last = now
	}
	return false
}

// substitute solves l l' x = v in place.
func (f *factoriser) substitute(n int, v []float64) {
	for i := range n {
		sum := v[i]
		row := f.l[i*n : i*n+i+1]
		for p, y := range v[:i] {
			sum -= float64(row[p]) * y
		}
		v[i] = sum / float64(row[i])
	}
	for i := n - 1; i >= 0; i-- {
		row := f.l[i*n : i*n+i+1]
		x := v[i] / float64(row[i])
		v[i] = x
		for p := range v[:i] {
			v[p] -= float64(row[p]) * x
		}
	}
}
