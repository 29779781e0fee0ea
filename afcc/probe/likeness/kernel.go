package likeness

import (
	"math"
	"sync"

	"gonum.org/v1/gonum/floats"
)

// A kernel is the inner products of the features of samples, with the mean of each
// feature taken out, and what becomes of them.
type kernel struct {
	n int
	// off holds the products of samples i < j row by row, diag those with themselves.
	off, diag []float64
	// squares is the sum of the squares of the features before the means were taken out.
	squares   float64
	notFinite bool

	// sums holds for each sample the sum of its products with the others, total that
	// of these, self and selfDebiased the alignments with itself before division.
	sums               []float64
	total              float64
	self, selfDebiased float64
}

func newKernel(n int) *kernel {
	return &kernel{n: n, off: make([]float64, n*(n-1)/2), diag: make([]float64, n)}
}

// kernelBytes is what a kernel of n samples takes.
func kernelBytes(n int64) int64 { return 8 * (n*(n-1)/2 + 2*n) }

// add adds scale times products of samples from from on with all from from on, row by
// row.
func (k *kernel) add(from int, products []float32, scale float64) {
	w := k.n - from
	for i := from; len(products) > 0; i, products = i+1, products[w:] {
		row := products[i-from : w]
		k.diag[i] += scale * float64(row[0])
		off := k.off[i*(2*k.n-i-1)/2:][:k.n-1-i]
		for j, x := range row[1:] {
			off[j] += scale * float64(x)
		}
	}
}

// constantShare is the share of the features' length below which what is left without
// their means is rounding: 2^-20, sixteen units in the last place of a float32.
const constantShare = 0x1p-20

// constant tells whether the features are the same for all samples.
func (k *kernel) constant() bool {
	if k.notFinite {
		return false
	}
	return floats.Sum(k.diag) <= constantShare*constantShare*k.squares
}

// finish prepares alignments.
func (k *kernel) finish() {
	k.sums = make([]float64, k.n)
	at := 0
	for i := range k.n {
		for j := i + 1; j < k.n; j++ {
			k.sums[i] += k.off[at]
			k.sums[j] += k.off[at]
			at++
		}
	}
	k.total = floats.Sum(k.sums)
	k.self, k.selfDebiased = k.with(k)
}

// with returns the sum of the products of two kernels' elements, (n-1)^2 HSIC, and
// n(n-3) times the unbiased estimate of HSIC (equation 5 of Song et al. 2012):
//
//	sum_{i!=j} K_ij L_ij + (1'K1)(1'L1) / ((n-1)(n-2)) - 2/(n-2) 1'KL1
//
// where the diagonals of K and L are zero.
func (k *kernel) with(l *kernel) (all, unbiased float64) {
	off := 2 * floats.Dot(k.off, l.off)
	all = off + floats.Dot(k.diag, l.diag)
	if n := float64(k.n); n >= 4 {
		unbiased = off + k.total*l.total/((n-1)*(n-2)) - 2/(n-2)*floats.Dot(k.sums, l.sums)
	}
	return all, unbiased
}

// noise is the share of the squares of all products below which the debiased
// alignment of a kernel with itself is rounding of float32 products.
const noise = 1e-12

// alignments returns the centred kernel alignment of each of a with each of b, and the
// debiased one; nil where it is not defined.
func alignments(a, b []*kernel) (cka, debiased [][]*float64) {
	ready := map[*kernel]bool{}
	var wg sync.WaitGroup
	for _, list := range [][]*kernel{a, b} {
		for _, k := range list {
			if k.n > 1 && !k.notFinite && !k.constant() && !ready[k] {
				ready[k] = true
				wg.Go(k.finish)
			}
		}
	}
	wg.Wait()
	cka, debiased = make([][]*float64, len(a)), make([][]*float64, len(a))
	limit := make(chan struct{}, workers())
	for i, k := range a {
		cka[i], debiased[i] = make([]*float64, len(b)), make([]*float64, len(b))
		if !ready[k] {
			continue
		}
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			for j, l := range b {
				if !ready[l] {
					continue
				}
				all, unbiased := k.with(l)
				cka[i][j] = ratio(all, k.self, l.self, 0)
				if k.n >= 4 && k.selfDebiased > noise*k.self && l.selfDebiased > noise*l.self {
					debiased[i][j] = ratio(unbiased, k.selfDebiased, l.selfDebiased, -1)
				}
			}
		})
	}
	wg.Wait()
	return cka, debiased
}

// ratio returns x / sqrt(a b), nil when it is not a number. What exceeds low to 1 by no
// more than rounding is brought back.
func ratio(x, a, b, low float64) *float64 {
	r := x / math.Sqrt(a) / math.Sqrt(b)
	const rounding = 1e-6
	switch {
	case math.IsNaN(r) || math.IsInf(r, 0):
		return nil
	case r > 1 && r <= 1+rounding:
		r = 1
	case r < low && r >= low-rounding:
		r = low
	}
	return &r
}
