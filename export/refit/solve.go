package refit

import (
	"context"
	"hash/maphash"
	"math"
	"runtime"
	"slices"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// A ridge problem is to find for each filter k the weights w on its support that
// minimise
//
//	w' A w - 2 w' b_k + lambda |w - w0_k|^2
//
// with A and b from a system: ridge regression (Hoerl and Kennard, Technometrics
// 12, 1970) that shrinks towards the weights that are there instead of towards
// zero. With w = w0 + v it reads (A + lambda I) v = b_k - A w0_k on the support.
type problem struct {
	*system
	support []bool    // d x f
	rest    []float64 // d x f: b - A w0, zero off the support
	lambda  float64
	// memory bounds the bytes that factorisations take together, 0 for no bound.
	memory int64
}

// How a problem was solved.
const (
	cholesky = "cholesky"
	gradient = "conjugate gradients"
)

// newProblem returns the problem of a system for weights w0 (d x f). relative is
// lambda as a share of the mean diagonal element of A.
func newProblem(ctx context.Context, mul *multiplier, s *system, w0 []float64, support []bool, relative float64) (*problem, error) {
	p := &problem{system: s, support: support}
	trace := 0.0
	for i := range s.d {
		trace += s.a[i*s.d+i]
	}
	p.lambda = relative * trace / float64(s.d)
	if p.lambda <= 0 || math.IsNaN(p.lambda) {
		p.lambda = relative + 1e-30 // nothing varies, and nothing is to be found
	}
	prod, err := mul.product(ctx, w0, s.f)
	if err != nil {
		return nil, err
	}
	p.rest = make([]float64, len(prod))
	for i, v := range prod {
		if support[i] {
			p.rest[i] = s.b[i] - v
		}
	}
	return p, nil
}

// group is the filters that have one support, the numbers of its regressors.
type group struct {
	rows    []int
	filters []int
}

// groups returns the filters by their supports, those with an empty one left out.
func (p *problem) groups() []group {
	var h maphash.Hash
	seed := maphash.MakeSeed()
	byHash := map[uint64][]int{} // to places in out
	var out []group
	for k := range p.f {
		h.SetSeed(seed)
		var rows []int
		for r := range p.d {
			if p.support[r*p.f+k] {
				rows = append(rows, r)
				maphash.WriteComparable(&h, r)
			}
		}
		if len(rows) == 0 {
			continue
		}
		sum := h.Sum64()
		at := slices.IndexFunc(byHash[sum], func(i int) bool { return slices.Equal(out[i].rows, rows) })
		if at < 0 {
			byHash[sum] = append(byHash[sum], len(out))
			out = append(out, group{rows: rows, filters: []int{k}})
			continue
		}
		i := byHash[sum][at]
		out[i].filters = append(out[i].filters, k)
	}
	return out
}

// Rough speeds on one core, in multiply-adds a second: of a Cholesky
// factorisation and of the engine's product of matrices. They decide which way is
// taken, and nothing else.
const (
	choleskySpeed = 6e9
	productSpeed  = 2.5e10
	// typicalIterations is what conjugate gradients mostly take.
	typicalIterations = 60
)

// method returns the way that costs less.
func (p *problem) method(groups []group) string {
	direct := 0.0
	if p.memory > 0 && factorBytes(groups) > p.memory {
		return gradient
	}
	for _, g := range groups {
		n := float64(len(g.rows))
		direct += n*n*n/6 + n*n*float64(len(g.filters))
	}
	d := float64(p.d)
	if direct/choleskySpeed <= typicalIterations*d*d*float64(p.f)/productSpeed || p.d <= 64 {
		return cholesky
	}
	return gradient
}

// factorBytes is what the largest factorisation takes.
func factorBytes(groups []group) int64 {
	n := 1
	for _, g := range groups {
		n = max(n, len(g.rows))
	}
	return 12 * int64(n) * int64(n)
}

// solve returns v (d x f), zero off the support. way is cholesky, gradient or "" for
// the one that costs less. iterations is 0 for cholesky.
func (p *problem) solve(ctx context.Context, mul *multiplier, way string) (v []float64, used string, iterations int, err error) {
	groups := p.groups()
	if way == "" {
		way = p.method(groups)
	}
	if way == cholesky {
		v, err = p.direct(ctx, groups)
		return v, way, 0, err
	}
	v, iterations, err = p.iterate(ctx, mul)
	return v, way, iterations, err
}

// direct factorises the matrix of each support.
func (p *problem) direct(ctx context.Context, groups []group) ([]float64, error) {
	v := make([]float64, p.d*p.f)
	workers := min(runtime.GOMAXPROCS(0), len(groups))
	if p.memory > 0 {
		workers = int(min(int64(workers), max(1, p.memory/factorBytes(groups))))
	}
	errs := make([]error, workers)
	var wg sync.WaitGroup
	next := make(chan int)
	for w := range workers {
		wg.Go(func() {
			var f factoriser
			for i := range next {
				if errs[w] == nil {
					errs[w] = p.factorise(&f, groups[i], v)
				}
			}
		})
	}
	var err error
	for i := range groups {
		if err = ctx.Err(); err != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	for _, e := range errs {
		if err == nil {
			err = e
		}
	}
	return v, err
}

// factorise solves for the filters of a group. Where rounding has left the matrix
// with negative eigenvalues, the ridge is raised until it has none.
func (p *problem) factorise(w *factoriser, g group, v []float64) error {
	n, k := len(g.rows), len(g.filters)
	b := make([]float64, n*k)
	for lambda := p.lambda; ; lambda *= 10 {
		a := w.matrix(n)
		largest := 0.0
		for i, r := range g.rows {
			row, to := p.a[r*p.d:(r+1)*p.d], a[i*n:(i+1)*n]
			for j := i; j < n; j++ {
				to[j] = row[g.rows[j]]
			}
			largest = max(largest, to[i])
			to[i] += lambda
			for j, c := range g.filters {
				b[i*k+j] = p.rest[r*p.f+c]
			}
		}
		if w.solve(n, k, b) {
			break
		}
		if !(lambda < largest) {
			return &skipError{"the sums over its inputs are not finite"}
		}
	}
	for i, r := range g.rows {
		for j, c := range g.filters {
			v[r*p.f+c] = b[i*k+j]
		}
	}
	return nil
}

// tolerance is the length of the residual, by that of the right side, at which
// conjugate gradients stop; maxIterations is where they stop anyway.
const (
	tolerance     = 1e-4
	maxIterations = 300
)

// iterate runs conjugate gradients (Hestenes and Stiefel, J. Res. Nat. Bur. Stand.
// 49, 1952) for all filters at once, restricted to their supports and with the
// diagonal as preconditioner: each iteration is one product of matrices.
func (p *problem) iterate(ctx context.Context, mul *multiplier) (v []float64, iterations int, err error) {
	d, f := p.d, p.f
	v = make([]float64, d*f)
	r := slices.Clone(p.rest)
	inverse := make([]float64, d)
	for i := range d {
		inverse[i] = 1 / (p.a[i*d+i] + p.lambda)
	}
	dir := make([]float64, d*f)
	rz, rr, goal := make([]float64, f), make([]float64, f), make([]float64, f)
	dots := func() {
		clear(rz)
		clear(rr)
		for i := range d {
			for k, x := range r[i*f : (i+1)*f] {
				rr[k] += x * x
				rz[k] += x * x * inverse[i]
			}
		}
	}
	dots()
	for k := range f {
		goal[k] = rr[k] * tolerance * tolerance
	}
	for i := range d {
		for k := range f {
			dir[i*f+k] = r[i*f+k] * inverse[i]
		}
	}
	step, pq, beta := make([]float64, f), make([]float64, f), make([]float64, f)
	open := func() bool {
		for k := range f {
			if rr[k] > goal[k] {
				return true
			}
		}
		return false
	}
	for iterations = 0; iterations < maxIterations && open(); iterations++ {
		q, err := mul.product(ctx, dir, f)
		if err != nil {
			return nil, iterations, err
		}
		clear(pq)
		for i := range d {
			at := i * f
			for k := range f {
				if !p.support[at+k] {
					q[at+k] = 0
					continue
				}
				q[at+k] += p.lambda * dir[at+k]
				pq[k] += q[at+k] * dir[at+k]
			}
		}
		for k := range f {
			step[k] = 0
			if rr[k] > goal[k] && pq[k] > 0 {
				step[k] = rz[k] / pq[k]
			}
			beta[k] = rz[k]
		}
		for i := range d {
			at := i * f
			for k := range f {
				v[at+k] += step[k] * dir[at+k]
				r[at+k] -= step[k] * q[at+k]
			}
		}
		dots()
		for k := range f {
			if beta[k] = rz[k] / beta[k]; step[k] == 0 {
				beta[k] = 0
			}
		}
		for i := range d {
			at := i * f
			for k := range f {
				dir[at+k] = r[at+k]*inverse[i] + beta[k]*dir[at+k]
			}
		}
	}
	return v, iterations, nil
}

// A multiplier multiplies a d x d matrix with others: on an engine, in single
// precision, but for small ones.
type multiplier struct {
	small []float64
	sess  engine.Session
	a     *engine.Tensor
	d     int
}

// smallMatrix is up to what size a matrix is not worth a session.
const smallMatrix = 256

func newMultiplier(ctx context.Context, eng engine.Engine, a []float64, d int) (*multiplier, error) {
	if d <= smallMatrix {
		return &multiplier{small: a, d: d}, nil
	}
	b := newBuilder("product")
	n := int64(d)
	b.output("y", "MatMul", []string{b.input("a", onnxfile.Float, n, n), b.input("x", onnxfile.Float, n, -1)}, []int64{n, -1})
	bytes, err := b.d.Bytes()
	if err != nil {
		return nil, err
	}
	m := &multiplier{a: engine.NewFloat32(singles(a), n, n), d: d}
	m.sess, err = eng.Load(ctx, engine.Model{Name: "product", Bytes: bytes})
	return m, err
}

// product returns the matrix times x (d x f).
func (m *multiplier) product(ctx context.Context, x []float64, f int) ([]float64, error) {
	if m.small != nil {
		y := make([]float64, len(x))
		blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, blas64.General{Rows: m.d, Cols: m.d, Stride: m.d, Data: m.small},
			blas64.General{Rows: m.d, Cols: f, Stride: f, Data: x}, 0, blas64.General{Rows: m.d, Cols: f, Stride: f, Data: y})
		return y, ctx.Err()
	}
	shape := []int64{int64(m.d), int64(f)}
	out := map[string]*engine.Tensor{"y": engine.NewFloat32(make([]float32, len(x)), shape...)}
	if err := m.sess.Run(ctx, map[string]*engine.Tensor{"a": m.a, "x": engine.NewFloat32(singles(x), shape...)}, out); err != nil {
		return nil, err
	}
	y := make([]float64, len(x))
	for i, v := range out["y"].Float32() {
		y[i] = float64(v)
	}
	return y, nil
}

func (m *multiplier) close() error {
	if m == nil || m.sess == nil {
		return nil
	}
	return m.sess.Close()
}
