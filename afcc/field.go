package afcc

import (
	"fmt"
	"math/bits"

	"gonum.org/v1/gonum/blas"
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
// It panics when a length does not match the dimensions or filter is not in
// [0,f).
func FieldMatrix(dst, w, means []float32, k, f, p, filter int) {
	n, ok := volume(k, f, p)
	if !ok || len(w) != n || len(means) != n || len(dst) != k*k || filter < 0 || filter >= f {
		panic(fmt.Sprintf("afcc: field matrix of filter %d with K=%d F=%d P=%d from %d weights and %d means into %d fields",
			filter, k, f, p, len(w), len(means), len(dst)))
	}
	fieldMatrix(dst, w, means, k, f, p, filter)
}

func fieldMatrix(dst, w, means []float32, k, f, p, filter int) {
	stride := f * p
	if p == 1 {
		for i := range k {
			row, a := dst[i*k:(i+1)*k], means[i*stride+filter]
			for j := range row {
				row[j] = a * w[j*stride+filter]
			}
		}
		return
	}
	view := func(x []float32) blas32.General {
		return blas32.General{Rows: k, Cols: p, Stride: stride, Data: x[filter*p:]}
	}
	blas32.Gemm(blas.NoTrans, blas.Trans, 1, view(means), view(w), 0,
		blas32.General{Rows: k, Cols: k, Stride: k, Data: dst})
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
