package compute

// way is how a product is computed.
type way int

const (
	byPanels way = iota // packed: product
	byDots              // rows of A times rows of transposed B, read where they lie
	byTaps              // sums of weighted rows of B, read where they lie
)

const (
	dotRows  = 64   // rows of the shorter factor that are multiplied with one of the longer
	dotSlice = 1024 // numbers of a row that are multiplied at a time
	tapRows  = 8    // rows up to which a product is taken by taps
	tapSlice = 16   // rows of B that are added at a time
)

// way decides by the shape alone. Rows by rows need no packing, which would be a
// transposition; and what is not packed is read at the speed of memory, which
// counts when the other factor has few rows.
func (g *Gemm) way() way {
	switch {
	case g.TransA:
	case g.TransB:
		return byDots
	case !g.TransB && g.M <= tapRows:
		return byTaps
	}
	return byPanels
}

// dots multiplies rows of the longer factor, four at a time, by some rows of the
// other.
func (g *Gemm) dots(w *Workers, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	// Row i of the shorter and row j of the longer make c[i*ci+j*cj].
	short, lds, ns, ci := a, lda, g.M, ldc
	long, ldl, nl, cj := b, ldb, g.N, 1
	if g.N < g.M {
		short, lds, ns, ci, long, ldl, nl, cj = long, ldl, nl, cj, short, lds, ns, ci
	}
	piece := max(4, min(64, roundUp(ceilDiv(nl, 8*w.N()), 4)))
	pieces := ceilDiv(nl, piece)
	w.Do(ceilDiv(ns, dotRows)*pieces, func(part int) {
		i0, j0 := part/pieces*dotRows, part%pieces*piece
		i1, j1 := min(ns, i0+dotRows), min(nl, j0+piece)
		for j := j0; j < j1; {
			n, step := 4, ldl
			if j+4 > j1 {
				n, step = 1, 0
			}
			g.dot4(short[i0*lds:], lds, i1-i0, long[j*ldl:], step, n, c[i0*ci+j*cj:], ci, cj)
			j += n
		}
	})
}

// dot4 multiplies the first n, 1 or 4, rows of long by rows of short.
func (g *Gemm) dot4(short []float32, lds, rows int, long []float32, ldl, n int, c []float32, ci, cj int) {
	x := g.arch.or()
	var sums [dotRows][4]float32
	var out [8]float32
	slice := dotSlice
	if rows == 1 {
		slice = 4 * dotSlice
	}
	whole := g.K &^ 15
	for k0 := 0; k0 < whole; k0 += slice {
		k := min(slice, whole-k0)
		for i := 0; i < rows; i += 2 {
			r := min(2, rows-i)
			x.dot(r, k, short[i*lds+k0:], lds, long[k0:], ldl, &out)
			for t := range n {
				sums[i][t] += out[t]
				if r == 2 {
					sums[i+1][t] += out[4+t]
				}
			}
		}
	}
	for i := range rows {
		s := short[i*lds:]
		for t := range n {
			sum := sums[i][t]
			for k := whole; k < g.K; k++ {
				sum += s[k] * long[t*ldl+k]
			}
			y := &c[i*ci+t*cj]
			sum *= g.Alpha
			if g.Beta != 0 {
				sum += g.Beta * *y
			}
			*y = sum
		}
	}
}

// taps adds up weighted rows of B, some rows at a time, a piece of columns for
// each worker.
func (g *Gemm) taps(w *Workers, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	x := g.arch.or()
	piece := max(256, min(2048, roundUp(ceilDiv(g.N, 4*w.N()), 64)))
	w.Do(ceilDiv(g.N, piece), func(part int) {
		var off [tapSlice]int
		var weights [tapSlice]float32
		for t := range off {
			off[t] = t * ldb
		}
		j := part * piece
		n := min(piece, g.N-j)
		for i := range g.M {
			scale(c[i*ldc+j:][:n], g.Beta)
		}
		for k := 0; k < g.K; k += tapSlice {
			taps := min(tapSlice, g.K-k)
			for i := range g.M {
				for t := range taps {
					weights[t] = g.Alpha * a[i*lda+k+t]
				}
				x.taps(c[i*ldc+j:][:n], b[k*ldb+j:], off[:taps], weights[:taps], 0, true, negInf, posInf)
			}
		}
	})
}
