package compute

import "golang.org/x/sys/cpu"

// The kernels in gemm_amd64.s. Those in gemm_kernel.go of the same names are what
// they compute; lengths are exact, nothing is read or written beyond them.

//go:noescape
func tile8x32(k int, a *float32, ars, acs int, b *float32, bs int, c *float32, ldc int, alpha, beta float32, bias *float32, lo, hi float32)

//go:noescape
func tile8x16(k int, a *float32, ars, acs int, b *float32, bs int, c *float32, ldc int, alpha, beta float32, bias *float32, lo, hi float32)

//go:noescape
func tile6x16(k int, a *float32, ars, acs int, b *float32, bs int, c *float32, ldc int, alpha, beta float32, bias *float32, lo, hi float32)

//go:noescape
func dot2x4avx512(k int, a *float32, lda int, b *float32, ldb int, out *[8]float32)

//go:noescape
func dot1x4avx512(k int, a *float32, lda int, b *float32, ldb int, out *[8]float32)

//go:noescape
func dot2x4avx2(k int, a *float32, lda int, b *float32, ldb int, out *[8]float32)

//go:noescape
func dot1x4avx2(k int, a *float32, lda int, b *float32, ldb int, out *[8]float32)

//go:noescape
func tapsAVX512(dst *float32, n int, src *float32, off *int, weights *float32, taps int, bias float32, add int32, lo, hi float32)

//go:noescape
func tapsAVX2(dst *float32, n int, src *float32, off *int, weights *float32, taps int, bias float32, add int32, lo, hi float32)

//go:noescape
func copyRows(dst *float32, pitch int, src *float32, distance, rows, n int)

//go:noescape
func evenRows(dst *float32, pitch int, src *float32, distance, rows, n int)

// arches returns the sets of kernels that this processor can run, the fastest
// last.
func arches() []arch {
	as := []arch{portable}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		as = append(as, avx2)
		if cpu.X86.HasAVX512F {
			as = append(as, avx512)
		}
	}
	return as
}

// tile multiplies rows() rows by width columns, as tilePortable does.
func (x arch) tile(width, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, alpha, beta float32, bias []float32, lo, hi float32) {
	if x == portable {
		tilePortable(width, k, a, ars, acs, b, bs, c, ldc, alpha, beta, bias, lo, hi)
		return
	}
	var first *float32
	if bias != nil {
		first = &bias[:x.rows()][0]
	}
	switch {
	case x == avx2:
		tile6x16(k, &a[0], ars, acs, &b[0], bs, &c[0], ldc, alpha, beta, first, lo, hi)
	case width == 16:
		tile8x16(k, &a[0], ars, acs, &b[0], bs, &c[0], ldc, alpha, beta, first, lo, hi)
	default:
		tile8x32(k, &a[0], ars, acs, &b[0], bs, &c[0], ldc, alpha, beta, first, lo, hi)
	}
}

// dot multiplies rows, 1 or 2, by 4 rows, as dotPortable does. k is a multiple
// of 16.
func (x arch) dot(rows, k int, a []float32, lda int, b []float32, ldb int, out *[8]float32) {
	switch {
	case x == portable:
		dotPortable(rows, k, a, lda, b, ldb, out)
	case x == avx2 && rows == 1:
		dot1x4avx2(k, &a[0], lda, &b[0], ldb, out)
	case x == avx2:
		dot2x4avx2(k, &a[0], lda, &b[0], ldb, out)
	case rows == 1:
		dot1x4avx512(k, &a[0], lda, &b[0], ldb, out)
	default:
		dot2x4avx512(k, &a[0], lda, &b[0], ldb, out)
	}
}

// taps adds up shifted and weighted copies of src, as tapsPortable does.
func (x arch) taps(dst, src []float32, off []int, weights []float32, bias float32, add bool, lo, hi float32) {
	var adds int32
	if add {
		adds = 1
	}
	switch x {
	case portable:
		tapsPortable(dst, src, off, weights, bias, add, lo, hi)
	case avx2:
		tapsAVX2(&dst[0], len(dst), &src[0], &off[0], &weights[0], len(weights), bias, adds, lo, hi)
	default:
		tapsAVX512(&dst[0], len(dst), &src[0], &off[0], &weights[0], len(weights), bias, adds, lo, hi)
	}
}

// take copies rows, as takePortable does.
func (x arch) take(dst []float32, pitch int, src []float32, distance, rows, n, step int) {
	switch {
	case rows == 0 || n == 0:
	case x == portable || step > 2:
		takePortable(dst, pitch, src, distance, rows, n, step)
	case step == 1:
		_, _ = dst[(rows-1)*pitch+n-1], src[(rows-1)*distance+n-1]
		copyRows(&dst[0], pitch, &src[0], distance, rows, n)
	default:
		_, _ = dst[(rows-1)*pitch+n-1], src[(rows-1)*distance+2*(n-1)]
		evenRows(&dst[0], pitch, &src[0], distance, rows, n)
	}
}
