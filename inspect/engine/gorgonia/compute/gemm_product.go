package compute

import (
	"sync/atomic"
)

// product is a set of matrix products whose right factors are made on demand, a
// panel of columns at a time: rows of a matrix for Gemm, what the kernel sees at
// an output's positions for Conv. Panels are packed as the kernels read them; the
// left factor is read where it lies.
//
// A result is the sum, in order, of the products over slices of k of one length;
// the length follows from k alone, so neither the number of workers nor the way
// in which rows and columns are cut changes a bit.
type product struct {
	arch    arch
	m, n, k int
	groups  int // products of that shape

	a        []float32 // left factor, row i and column p at i*ars + p*acs
	ars, acs int
	ga       int // distance of the left factors of two groups

	// fill writes columns [j, j+n) of rows [k0, k1) of group g's right factor to
	// dst, where rows are pitch apart. What lies in dst beyond the nth column is
	// multiplied, but its results are not used.
	fill func(dst []float32, pitch, g, k0, k1, j, n int)
	// stripe is how many rows are filled in all panels before the next ones are,
	// 0 for all: what lies in rows is better read in rows.
	stripe int

	// Row i and column j of the result of group g lies in c at
	// g*gc + j/plane*cplane + i*ldc + j%plane.
	c             []float32
	ldc           int
	plane, cplane int
	gc            int

	alpha, beta float32
	bias        []float32 // nil, or m for each group
	lo, hi      float32
	after       func([]float32) // called with finished results, if not nil
}

const (
	kSlice       = 320     // longest slice of k
	blockColumns = 384     // most columns whose panels one worker holds
	sharedPanels = 1 << 20 // numbers of panels that workers share at most
	rowStripe    = 8       // rows of a matrix that are packed at a time
)

// cut is how a product is divided among workers.
type cut struct {
	slices int // slices of k
	slice  int // length of all slices but perhaps the last
	// columns and rows of a piece of work; for shared panels, how many slices are
	// packed at a time.
	columns, rows int
	shared        bool
	together      int
	panels, left  int // numbers of scratch: packed columns (of each worker unless shared), packed rows of each worker
}

func (p *product) cut(w *Workers) cut {
	mr, nr := p.arch.rows(), p.arch.columns()
	var c cut
	c.slices = ceilDiv(p.k, kSlice)
	c.slice = ceilDiv(p.k, c.slices)
	c.left = mr*c.slice + mr*nr + mr
	// Columns are cut into pieces for some rounds of all workers, so that one
	// that is held up does not hold up all.
	pieces := 4 * w.N()
	c.rows = p.m
	c.columns = min(blockColumns/nr*nr, roundUp(ceilDiv(p.n*p.groups, pieces), nr))
	c.columns = min(max(c.columns, 2*nr), roundUp(p.n, nr))
	c.panels = c.slice * c.columns
	if w.N() == 1 || p.m <= mr || p.groups*ceilDiv(p.n, c.columns) >= 2*w.N() {
		return c
	}
	// Too few columns for that. Workers share their panels and take some of the
	// rows each.
	c.shared = true
	c.columns = roundUp(p.n, nr)
	c.rows = max(mr, roundUp(ceilDiv(p.m, pieces), mr))
	c.together = min(c.slices, max(1, sharedPanels/(c.slice*c.columns)))
	c.panels = c.together * c.slice * c.columns
	return c
}

func (p *product) scratch(w *Workers) int {
	c := p.cut(w)
	if c.shared {
		return c.panels + w.N()*c.left
	}
	return w.N() * (c.panels + c.left)
}

func (p *product) run(w *Workers, scratch []float32) {
	c := p.cut(w)
	if need := p.scratch(w); len(scratch) < need {
		scratch = make([]float32, need)
	}
	if c.shared {
		p.runShared(w, c, scratch)
		return
	}
	blocks := ceilDiv(p.n, c.columns)
	share(w, p.groups*blocks, func(worker, piece int) {
		s := scratch[worker*(c.panels+c.left):][:c.panels+c.left]
		panels, left := s[:c.panels], s[c.panels:]
		g, j0 := piece/blocks, piece%blocks*c.columns
		j1 := min(p.n, j0+c.columns)
		for s := range c.slices {
			k0 := s * c.slice
			k1 := min(p.k, k0+c.slice)
			p.pack(panels, g, k0, k1, j0, j1)
			p.multiply(panels, left, g, k0, k1, 0, p.m, j0, j1)
		}
	})
}

func (p *product) runShared(w *Workers, c cut, scratch []float32) {
	panels, left := scratch[:c.panels], scratch[c.panels:]
	nr := p.arch.columns()
	columns := ceilDiv(p.n, nr)
	for g := range p.groups {
		for s0 := 0; s0 < c.slices; s0 += c.together {
			together := min(c.together, c.slices-s0)
			w.Do(together*columns, func(part int) {
				s, j := part/columns, part%columns*nr
				k0 := (s0 + s) * c.slice
				k1 := min(p.k, k0+c.slice)
				p.pack(panels[s*c.slice*c.columns+j*(k1-k0):], g, k0, k1, j, min(p.n, j+nr))
			})
			share(w, ceilDiv(p.m, c.rows), func(worker, piece int) {
				i0 := piece * c.rows
				i1 := min(p.m, i0+c.rows)
				for s := range together {
					k0 := (s0 + s) * c.slice
					k1 := min(p.k, k0+c.slice)
					p.multiply(panels[s*c.slice*c.columns:], left[worker*c.left:][:c.left], g, k0, k1, i0, i1, 0, p.n)
				}
			})
		}
	}
}

// pack writes the panels of columns [j0, j1) and rows [k0, k1) one after the
// other.
func (p *product) pack(panels []float32, g, k0, k1, j0, j1 int) {
	nr := p.arch.columns()
	stripe := k1 - k0
	if p.stripe > 0 {
		stripe = p.stripe
	}
	for k := k0; k < k1; k += stripe {
		end := min(k1, k+stripe)
		for j := j0; j < j1; j += nr {
			n := min(nr, j1-j)
			width := p.arch.width(n)
			at := (j-j0)*(k1-k0) + (k-k0)*width
			p.fill(panels[at:at+(end-k)*width], width, g, k, end, j, n)
		}
	}
}

// multiply adds the products of rows [i0, i1) with columns [j0, j1) over [k0, k1)
// to the results.
func (p *product) multiply(panels, left []float32, g, k0, k1, i0, i1, j0, j1 int) {
	mr, nr := p.arch.rows(), p.arch.columns()
	tile, left := left[:mr*nr], left[mr*nr:]
	edge, left := left[:mr], left[mr:]
	alpha, beta, lo, hi := p.alpha, float32(1), negInf, posInf
	if k0 == 0 {
		beta = p.beta
	}
	last := k1 == p.k
	if last {
		lo, hi = p.lo, p.hi
	}
	for i := i0; i < i1; i += mr {
		rows := min(mr, i1-i)
		a, ars, acs := p.a[g*p.ga+i*p.ars+k0*p.acs:], p.ars, p.acs
		if rows < mr || acs != 1 {
			packRows(left, mr, a, ars, acs, rows, k1-k0)
			a, ars, acs = left, 1, mr
		}
		var bias []float32
		if last && p.bias != nil {
			if bias = p.bias[g*p.m+i:]; rows < mr {
				copy(edge, bias[:rows])
				bias = edge
			}
		}
		done := j0 // columns before it are finished
		for j := j0; j < j1; j += nr {
			n := min(nr, j1-j)
			width := p.arch.width(n)
			b := panels[(j-j0)*(k1-k0):]
			at := j % p.plane
			if rows == mr && n == width && at+n <= p.plane {
				p.arch.tile(width, k1-k0, a, ars, acs, b, width, p.c[p.at(g, i, j):], p.ldc, alpha, beta, bias, lo, hi)
				continue
			}
			if beta != 0 {
				p.move(tile, width, g, i, rows, j, n, false)
			}
			p.arch.tile(width, k1-k0, a, ars, acs, b, width, tile, width, alpha, beta, bias, lo, hi)
			if last && p.after != nil {
				p.finish(g, i, rows, done, j)
				done = j + n
				if n == width {
					p.after(tile[:rows*width])
				} else {
					for r := range rows {
						p.after(tile[r*width:][:n])
					}
				}
			}
			p.move(tile, width, g, i, rows, j, n, true)
		}
		if last && p.after != nil {
			p.finish(g, i, rows, done, j1)
		}
	}
}

// at returns where the result of row i and column j lies.
func (p *product) at(g, i, j int) int {
	return g*p.gc + j/p.plane*p.cplane + i*p.ldc + j%p.plane
}

// finish hands columns [j0, j1) of the results to after.
func (p *product) finish(g, i, rows, j0, j1 int) {
	for j := j0; j < j1; {
		n := min(p.plane-j%p.plane, j1-j)
		for r := range rows {
			p.after(p.c[p.at(g, i+r, j):][:n])
		}
		j += n
	}
}

// move copies rows [i, i+rows) and columns [j, j+n) between the results and a
// tile, into the results if out.
func (p *product) move(tile []float32, width, g, i, rows, j, n int, out bool) {
	for at := 0; at < n; {
		run := min(p.plane-(j+at)%p.plane, n-at)
		first := p.at(g, i, j+at)
		for r := range rows {
			c, t := p.c[first+r*p.ldc:][:run], tile[r*width+at:][:run]
			if out {
				copy(c, t)
			} else {
				copy(t, c)
			}
		}
		at += run
	}
}

// packRows writes rows of a to dst, where columns lie pitch apart, and fills the
// rows up to pitch with zeros.
func packRows(dst []float32, pitch int, a []float32, ars, acs, rows, k int) {
	for p := range k {
		d := dst[p*pitch:][:pitch]
		for i := range rows {
			d[i] = a[i*ars+p*acs]
		}
		clear(d[rows:])
	}
}

// fillRows is the fill of a right factor that is a matrix.
func fillRows(b []float32, ldb int) func(dst []float32, pitch, g, k0, k1, j, n int) {
	return func(dst []float32, pitch, g, k0, k1, j, n int) {
		for p := k0; p < k1; p++ {
			d, s := dst[(p-k0)*pitch:][:pitch], b[p*ldb+j:]
			if n == 32 {
				*(*[32]float32)(d) = *(*[32]float32)(s)
				continue
			}
			copy(d, s[:n])
			clear(d[n:])
		}
	}
}

// fillColumns is the fill of a right factor that is a matrix's transpose.
func fillColumns(b []float32, ldb int) func(dst []float32, pitch, g, k0, k1, j, n int) {
	return func(dst []float32, pitch, g, k0, k1, j, n int) {
		if n < pitch {
			clear(dst[:(k1-k0)*pitch])
		}
		const run = 16 // of a row, so that dst's part stays near
		for p := k0; p < k1; p += run {
			q := min(k1, p+run)
			for x := range n {
				d := dst[(p-k0)*pitch+x:]
				for y, v := range b[(j+x)*ldb+p : (j+x)*ldb+q] {
					d[y*pitch] = v
				}
			}
		}
	}
}

// share calls f for every piece in [0, pieces), and tells it a number below w.N()
// that no other call has at the same time.
func share(w *Workers, pieces int, f func(worker, piece int)) {
	var next atomic.Int64
	w.Do(min(w.N(), pieces), func(worker int) {
		for {
			piece := int(next.Add(1)) - 1
			if piece >= pieces {
				return
			}
			f(worker, piece)
		}
	})
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func roundUp(a, to int) int { return ceilDiv(a, to) * to }
