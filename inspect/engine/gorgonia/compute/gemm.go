package compute

import "math"

// Gemm is a product of two matrices of fixed shape,
//
//	C = Alpha*op(A)*op(B) + Beta*C,
//
// op(X) being X or its transpose: op(A) is M x K, op(B) is K x N and C is M x N.
// Matrices lie in row-major order; a leading dimension is the distance from the
// start of one row to the start of the next as the matrix lies in memory.
//
// Numbers that are not finite go through the sums as IEEE 754 has it. When Beta
// is 0, C is written without being read. When K is 0, the product is 0. A Gemm
// is not changed by Run and may serve several goroutines.
type Gemm struct {
	TransA, TransB bool
	M, N, K        int
	Alpha, Beta    float32

	arch arch
}

// Scratch returns how many numbers of scratch memory Run wants on w. It is
// bounded, whatever the shape.
func (g *Gemm) Scratch(w *Workers) int {
	if g.M <= 0 || g.N <= 0 || g.K <= 0 || g.way() != byPanels {
		return 0
	}
	p := g.product()
	return p.scratch(w)
}

// Run multiplies. Neither a nor b may overlap c. scratch holds at least
// Scratch(w) numbers of any value; Run allocates if it does not. A matrix that is
// too short for its shape is a fault of the caller and panics.
func (g *Gemm) Run(w *Workers, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, scratch []float32) {
	if g.M <= 0 || g.N <= 0 {
		return
	}
	mustHold(c, g.M, g.N, ldc)
	if g.K <= 0 {
		for i := range g.M {
			scale(c[i*ldc:][:g.N], g.Beta)
		}
		return
	}
	if g.TransA {
		mustHold(a, g.K, g.M, lda)
	} else {
		mustHold(a, g.M, g.K, lda)
	}
	if g.TransB {
		mustHold(b, g.N, g.K, ldb)
	} else {
		mustHold(b, g.K, g.N, ldb)
	}
	if h, ok := g.plain(&lda, &ldb); ok {
		g = h
	}
	switch g.way() {
	case byDots:
		g.dots(w, a, lda, b, ldb, c, ldc)
	case byTaps:
		g.taps(w, a, lda, b, ldb, c, ldc)
	default:
		p := g.product()
		p.a, p.ars, p.acs = a, lda, 1
		if g.TransA {
			p.ars, p.acs = 1, lda
		}
		p.fill, p.stripe = fillRows(b, ldb), rowStripe
		if g.TransB {
			p.fill, p.stripe = fillColumns(b, ldb), 0
		}
		p.c, p.ldc = c, ldc
		p.run(w, scratch)
	}
}

// plain returns g without the transposes of vectors that lie without gaps, which
// are none, and with those that make a column a row, if there are such.
func (g *Gemm) plain(lda, ldb *int) (*Gemm, bool) {
	h := *g
	if h.M == 1 && h.TransA && *lda == 1 {
		h.TransA, *lda = false, h.K
	}
	if h.N == 1 && !h.TransB && *ldb == 1 && !h.TransA {
		h.TransB, *ldb = true, h.K
	}
	return &h, h != *g
}

func (g *Gemm) product() product {
	return product{
		arch: g.arch.or(), m: g.M, n: g.N, k: g.K, groups: 1, plane: g.N,
		alpha: g.Alpha, beta: g.Beta, lo: negInf, hi: posInf,
	}
}

var (
	posInf = float32(math.Inf(1))
	negInf = float32(math.Inf(-1))
)

// mustHold panics unless x holds a matrix of that many rows and columns.
func mustHold(x []float32, rows, columns, ld int) {
	if ld < columns && rows > 1 {
		panic("compute: leading dimension smaller than a row")
	}
	_ = x[(rows-1)*ld+columns-1]
}

// scale multiplies x by f; if f is 0, x is set without being read.
func scale(x []float32, f float32) {
	switch f {
	case 0:
		clear(x)
	case 1:
	default:
		for i := range x {
			x[i] *= f
		}
	}
}
