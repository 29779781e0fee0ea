//go:build !amd64

package compute

// arches returns the sets of kernels that this processor can run, the fastest
// last.
func arches() []arch { return []arch{portable} }

func (x arch) tile(width, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, alpha, beta float32, bias []float32, lo, hi float32) {
	tilePortable(width, k, a, ars, acs, b, bs, c, ldc, alpha, beta, bias, lo, hi)
}

func (x arch) dot(rows, k int, a []float32, lda int, b []float32, ldb int, out *[8]float32) {
	dotPortable(rows, k, a, lda, b, ldb, out)
}

func (x arch) taps(dst, src []float32, off []int, weights []float32, bias float32, add bool, lo, hi float32) {
	tapsPortable(dst, src, off, weights, bias, add, lo, hi)
}

func (x arch) take(dst []float32, pitch int, src []float32, distance, rows, n, step int) {
	takePortable(dst, pitch, src, distance, rows, n, step)
}
