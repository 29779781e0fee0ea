package afcc

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"gonum.org/v1/gonum/blas/blas32"
)

// FieldMatrix writes the field matrix of one filter to dst (K x K, row-major;
// row = input label i, column = output j):
//
//	M_f(i,j) = sum_p w[j,f,p] * means[i,f,p]
//
// w (K x F x P, row-major) holds the head's weights, a Linear weight over a
// flattened F*P tap, without bias. means (K x F x P, row-major) holds the mean
// activation of each label. Because the field of a single sample is linear in its
// activations, M_f is the mean field of each label's samples (arXiv:2309.07537,
// "single filter performance").
//
// The sum is formed in float64 in the order of the positions and rounded once to
// float32, so it is the same on every machine.
//
// It panics when a length does not match the dimensions or filter is not in
// [0,f).
func FieldMatrix(dst, w, means []float32, k, f, p, filter int) {
	n, ok := volume(k, f, p)
	if !ok || len(w) != n || len(means) != n || len(dst) != k*k || filter < 0 || filter >= f {
		panic(fmt.Sprintf("afcc: field matrix of filter %d with K=%d F=%d P=%d from %d weights and %d means into %d fields",
			filter, k, f, p, len(w), len(means), len(dst)))
	}
	for i := range k {
		a := means[(i*f+filter)*p:][:p]
		for j := range k {
			dst[i*k+j] = field(a, w[(j*f+filter)*p:][:p])
		}
	}
}

// field returns the field of one label and one output. The product of two float32
// is exact in float64, so that a fused multiply-add changes nothing.
func field(a, w []float32) float32 {
	sum := 0.0
	for n, v := range a {
		sum += float64(v) * float64(w[n])
	}
	return float32(sum)
}

// tileRows x tileCols fields, and the weights that they need, stay in the
// innermost cache while they grow by one position at a time.
const (
	tileRows = 32
	tileCols = 128
)

// fieldBlock computes fields of one filter: those of all outputs for a number of
// activation vectors, be they label means or samples. They come from fast float32
// sums with a bound on their error, so that whoever compares fields can tell which
// ones the rounding leaves in doubt, and have those exactly.
type fieldBlock struct {
	rows, k, p int
	a, w       []float32 // rows x p and k x p: one filter's share of its layer
	at, wt     []float32 // the same, transposed
	tile       []float32
	// v holds the fields, rows x k. Those of row i are within bound[i] of what
	// field returns.
	v     []float32
	bound []float64
	most  []float32 // largest field of each row
}

func newFieldBlock(rows, k, p int) *fieldBlock {
	return &fieldBlock{
		rows: rows, k: k, p: p,
		a: make([]float32, rows*p), w: make([]float32, k*p),
		at: make([]float32, rows*p), wt: make([]float32, k*p),
		tile: make([]float32, tileRows*tileCols),
		v:    make([]float32, rows*k), bound: make([]float64, rows),
		most: make([]float32, rows),
	}
}

// compute fills v and bound for one of the f filters of a layer: acts is
// rows x f x p, w is k x f x p.
func (b *fieldBlock) compute(acts, w []float32, f, filter int) {
	longest := gather(b.w, b.wt, w, b.k, f, b.p, filter, nil)
	most := gather(b.a, b.at, acts, b.rows, f, b.p, filter, b.bound)

	// A sum of p rounded products in float32, in any order, is off by at most
	// gamma |a||w| where gamma = p u / (1 - p u), u = 2^-24 (Higham, Accuracy and
	// Stability of Numerical Algorithms, 2nd ed., section 3.1, with the inequality
	// of Cauchy and Schwarz), plus what products lose by underflow, at most 2^-150
	// each. Two more u cover the rounding of the exact field, one per cent all that
	// happens in float64 here.
	pu := float64(b.p+2) / (1 << 24)
	if !(pu < 1.0/16 && most*longest < math.MaxFloat32/2) {
		b.exactly() // the sums may overflow, or are not finite to begin with
		return
	}
	gamma := 1.01 * pu / (1 - pu)
	for i, norm := range b.bound {
		if x := norm * longest; x > 0 {
			b.bound[i] = gamma*x + float64(b.p)*0x1p-148
		}
	}
	b.multiply()
}

// multiply computes v = a w^T.
func (b *fieldBlock) multiply() {
	for i := range b.most {
		b.most[i] = float32(math.Inf(-1))
	}
	for j := 0; j < b.k; j += tileCols {
		cols := min(tileCols, b.k-j)
		for i := 0; i < b.rows; i += tileRows {
			rows := min(tileRows, b.rows-i)
			tile := blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: b.tile[:rows*cols]}
			clear(tile.Data)
			for n := range b.p {
				blas32.Ger(1,
					blas32.Vector{N: rows, Inc: 1, Data: b.at[n*b.rows+i:]},
					blas32.Vector{N: cols, Inc: 1, Data: b.wt[n*b.k+j:]}, tile)
			}
			for r := range rows {
				row := tile.Data[r*cols : (r+1)*cols]
				copy(b.v[(i+r)*b.k+j:], row)
				b.most[i+r] = max(b.most[i+r], maximum(row))
			}
		}
	}
}

// exactly computes all fields without an error.
func (b *fieldBlock) exactly() {
	clear(b.bound)
	for i := range b.rows {
		for j := range b.k {
			b.v[i*b.k+j] = b.field(i, j)
		}
		b.most[i] = maximum(b.v[i*b.k : (i+1)*b.k])
	}
}

// field returns the exact field of row i and output j.
func (b *fieldBlock) field(i, j int) float32 {
	return field(b.a[i*b.p:(i+1)*b.p], b.w[j*b.p:(j+1)*b.p])
}

// settleMaximum makes exact each field that may be the largest, and returns the
// largest, NaN when one is NaN.
func (b *fieldBlock) settleMaximum() float32 {
	top, bound := slices.Max(b.most), slices.Max(b.bound)
	if bound == 0 {
		return top
	}
	least := float64(top) - 2*bound
	top = float32(math.Inf(-1))
	for i, most := range b.most {
		if float64(most) < least {
			continue
		}
		row := b.v[i*b.k : (i+1)*b.k]
		for j, v := range row {
			if float64(v) >= least {
				row[j] = b.field(i, j)
				top = max(top, row[j])
			}
		}
	}
	return top
}

// settleNear makes exact each field of row i that may be on the other side of x
// than its approximation.
func (b *fieldBlock) settleNear(i int, x float32) {
	if b.bound[i] == 0 {
		return
	}
	// Rounding keeps order: a difference within the bound stays within it. Without
	// their signs the bits of floats are ordered like the floats.
	bound := math.Float32bits(math.Nextafter32(float32(b.bound[i]), math.MaxFloat32))
	row := b.v[i*b.k : (i+1)*b.k]
	for j, v := range row {
		if math.Float32bits(v-x)&(1<<31-1) <= bound {
			row[j] = b.field(i, j)
		}
	}
}

// gather copies one filter's n x p share of x, n x f x p, to dst and its transpose to
// transposed. It writes the length of each row to norms, unless nil, and returns the
// largest; not finite when an element is not.
func gather(dst, transposed, x []float32, n, f, p, filter int, norms []float64) float64 {
	most := 0.0
	for i := range n {
		row := dst[i*p : (i+1)*p]
		copy(row, x[(i*f+filter)*p:])
		squares := 0.0
		for q, v := range row {
			transposed[q*n+i] = v
			squares += float64(v) * float64(v)
		}
		norm := math.Sqrt(squares)
		if norms != nil {
			norms[i] = norm
		}
		most = max(most, norm) // max keeps a NaN
	}
	return most
}

// volume returns k*f*p, false when a factor is not positive or the product
// overflows.
func volume(k, f, p int) (int, bool) {
	if k < 1 || f < 1 || p < 1 {
		return 0, false
	}
	hi, n := bits.Mul64(uint64(k), uint64(f))
	if hi != 0 {
		return 0, false
	}
	hi, n = bits.Mul64(n, uint64(p))
	if hi != 0 || n > 1<<62 {
		return 0, false
	}
	return int(n), true
}
