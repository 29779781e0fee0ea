package refit

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
)

// A factoriser solves positive definite systems by a Cholesky factorisation. That of
// larger ones is in single precision, where products of matrices are fast; a few
// conjugate gradients in double precision, with the factor as preconditioner, make
// the solution as good as one in double. It keeps its memory for the next system.
type factoriser struct {
	a          []float64 // n x n, the upper triangle in use
	l          []float32 // n x n, the lower triangle is the factor
	panel      []float32
	scratch    []float32
	inverse    []float32 // of a diagonal block
	x, r, z, p []float64
	q          []float64
}

const (
	// panelWidth is the width of the blocks in which a matrix is factorised.
	panelWidth = 64
	// refined is the error of a solution, in the norm of the matrix and by its own,
	// at which the refinement ends; maxRefinements bounds it.
	refined        = 1e-8
	maxRefinements = 60
)

// matrix returns memory for the upper triangle of an n x n matrix.
func (f *factoriser) matrix(n int) []float64 {
	f.a = slices.Grow(f.a[:0], n*n)[:n*n]
	return f.a
}

// solve solves the system of matrix(n) for k right sides, b being n x k, in place.
// ok is false when the matrix is not positive definite; b is as it was then.
func (f *factoriser) solve(n, k int, b []float64) (ok bool) {
	if n > 2*panelWidth && f.approximate(n) {
		kept := slices.Clone(b)
		solved := true
		for j := 0; j < k && solved; j++ {
			solved = f.refine(n, k, j, b)
		}
		if solved {
			return true
		}
		copy(b, kept)
	}
	t, ok := lapack64.Potrf(blas64.Symmetric{N: n, Stride: n, Data: f.a, Uplo: blas.Upper})
	if ok {
		lapack64.Potrs(t, blas64.General{Rows: n, Cols: k, Stride: k, Data: b})
	}
	return ok
}

// approximate factorises the matrix, or one with so much more on its diagonal that
// single precision does for it.
func (f *factoriser) approximate(n int) bool {
	largest := 0.0
	for i := range n {
		largest = max(largest, f.a[i*n+i])
	}
	for _, more := range []float64{0, 1e-5, 1e-4, 1e-3} {
		if f.factor(n, more*largest) {
			return true
		}
	}
	return false
}

// factor makes l, column block by column block, each by one product with all the
// columns to its left, of the matrix with more on its diagonal.
func (f *factoriser) factor(n int, more float64) bool {
	f.l = slices.Grow(f.l[:0], n*n)[:n*n]
	for i := range n {
		for j := range i {
			f.l[i*n+j] = float32(f.a[j*n+i])
		}
		f.l[i*n+i] = float32(f.a[i*n+i] + more)
	}
	for j := 0; j < n; j += panelWidth {
		w := min(panelWidth, n-j)
		if j > 0 {
			f.panel = slices.Grow(f.panel[:0], j*w)[:j*w]
			for i := range w {
				for p, v := range f.l[(j+i)*n : (j+i)*n+j] {
					f.panel[p*w+i] = v
				}
			}
			g := compute.Gemm{M: n - j, N: w, K: j, Alpha: -1, Beta: 1}
			// The left factor is columns before j, the result is columns from j on.
			f.product(&g, f.l[j*n:], n, f.panel, w, f.l[j*n+j:], n)
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
			f.product(&g, f.panel, w, f.inverse, w, f.l[(j+w)*n+j:], n)
		}
	}
	return true
}

// product multiplies on this goroutine alone, for there is one for each system.
func (f *factoriser) product(g *compute.Gemm, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	var alone compute.Workers
	need := g.Scratch(&alone)
	f.scratch = slices.Grow(f.scratch[:0], need)[:need]
	g.Run(&alone, a, lda, b, ldb, c, ldc, f.scratch)
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

// refine solves for column j of b. It reports whether the solution is good; b is as
// it was where not.
func (f *factoriser) refine(n, k, j int, b []float64) bool {
	grow := func(v []float64) []float64 { return slices.Grow(v[:0], n)[:n] }
	f.x, f.r, f.z, f.p, f.q = grow(f.x), grow(f.r), grow(f.z), grow(f.p), grow(f.q)
	vector := func(v []float64) blas64.Vector { return blas64.Vector{N: n, Inc: 1, Data: v} }
	clear(f.x)
	for i := range n {
		f.r[i] = b[i*k+j]
	}
	copy(f.z, f.r)
	f.substitute(n, f.z)
	copy(f.p, f.z)
	rz := blas64.Dot(vector(f.r), vector(f.z))
	goal := rz * refined * refined
	for range maxRefinements {
		if !(rz > goal) {
			break
		}
		blas64.Symv(1, blas64.Symmetric{N: n, Stride: n, Data: f.a, Uplo: blas.Upper}, vector(f.p), 0, vector(f.q))
		curve := blas64.Dot(vector(f.p), vector(f.q))
		if !(curve > 0) {
			return false
		}
		step := rz / curve
		blas64.Axpy(step, vector(f.p), vector(f.x))
		blas64.Axpy(-step, vector(f.q), vector(f.r))
		copy(f.z, f.r)
		f.substitute(n, f.z)
		last := rz
		rz = blas64.Dot(vector(f.r), vector(f.z))
		blas64.Scal(rz/last, vector(f.p))
		blas64.Axpy(1, vector(f.z), vector(f.p))
	}
	if rz > goal || rz != rz {
		return false
	}
	for i, v := range f.x {
		b[i*k+j] = v
	}
	return true
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
