package compute

// arch is a set of kernels: the innermost loops, as fast as a kind of processor
// can do them. The sets differ in the order in which they add, so each has
// results of its own, by roundings.
type arch uint8

const (
	fastest  arch = iota // the last of arches()
	portable             // Go
	avx2                 // AVX2 and FMA
	avx512               // AVX-512F
)

// best is the fastest set of kernels that this processor can run.
var best = arches()[len(arches())-1]

// or returns x, or the best set if x leaves it open.
func (x arch) or() arch {
	if x == fastest {
		return best
	}
	return x
}

// rows returns how many rows a tile has.
func (x arch) rows() int {
	switch x {
	case avx2:
		return 6
	case avx512:
		return 8
	}
	return 4
}

// columns returns how many columns a tile has.
func (x arch) columns() int {
	switch x {
	case avx2:
		return 16
	}
	return widestTile
}

// widestTile is the most columns of a tile of any set.
const widestTile = 32

// width returns how many columns the kernel for a tile of n columns computes.
func (x arch) width(n int) int {
	switch {
	case x == portable:
		return n
	case x == avx512 && n <= 16:
		return 16
	}
	return x.columns()
}

// tilePortable sets the tile c, of rows() rows and width columns, to
//
//	min(hi, max(lo, alpha*a*b + beta*c + bias))
//
// where a is rows() x k, its rows ars and its columns acs apart, b is k x width,
// its rows bs apart, and bias, which may be nil, has one number for each row. If
// beta is 0, c is not read. The sum over k runs in order, and what is not a number
// passes the limits.
func tilePortable(width, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, alpha, beta float32, bias []float32, lo, hi float32) {
	for i := 0; i < portable.rows(); i += 2 {
		var sums [2][widestTile]float32
		x, y := sums[0][:width], sums[1][:width]
		at, bt := i*ars, 0
		p := 0
		for ; p+4 <= k; p += 4 {
			u0, u1, u2, u3 := a[at], a[at+acs], a[at+2*acs], a[at+3*acs]
			v0, v1, v2, v3 := a[at+ars], a[at+ars+acs], a[at+ars+2*acs], a[at+ars+3*acs]
			b0, b1, b2, b3 := b[bt:][:len(x)], b[bt+bs:][:len(x)], b[bt+2*bs:][:len(x)], b[bt+3*bs:][:len(x)]
			y := y[:len(x)]
			for j, s := range x {
				w0, w1, w2, w3 := b0[j], b1[j], b2[j], b3[j]
				s += u0 * w0
				s += u1 * w1
				s += u2 * w2
				x[j] = s + u3*w3
				s = y[j]
				s += v0 * w0
				s += v1 * w1
				s += v2 * w2
				y[j] = s + v3*w3
			}
			at += 4 * acs
			bt += 4 * bs
		}
		for ; p < k; p++ {
			u, v := a[at], a[at+ars]
			for j, w := range b[bt:][:len(x)] {
				x[j] += u * w
				y[j] += v * w
			}
			at += acs
			bt += bs
		}
		for r := range 2 {
			d := c[(i+r)*ldc:][:width]
			for j, v := range sums[r][:width] {
				v *= alpha
				if beta != 0 {
					v += beta * d[j]
				}
				if bias != nil {
					v += bias[i+r]
				}
				d[j] = clamp(v, lo, hi)
			}
		}
	}
}

// dotPortable sets out[4*i+j] to the product of row i of a and row j of b, i
// below rows and j below 4; rows is 1 or 2.
func dotPortable(rows, k int, a []float32, lda int, b []float32, ldb int, out *[8]float32) {
	for i := range rows {
		x := a[i*lda:][:k]
		y0, y1, y2, y3 := b[:k], b[ldb:][:k], b[2*ldb:][:k], b[3*ldb:][:k]
		var s0, s1, s2, s3 float32
		for p, v := range x {
			s0 += v * y0[p]
			s1 += v * y1[p]
			s2 += v * y2[p]
			s3 += v * y3[p]
		}
		out[4*i], out[4*i+1], out[4*i+2], out[4*i+3] = s0, s1, s2, s3
	}
}

// tapsPortable sets dst[i] to
//
//	min(hi, max(lo, bias + dst[i] + sum over t of weights[t]*src[off[t]+i]))
//
// where dst[i] is left out of the sum, and not read, unless add is set. There is
// at least one weight, and dst is not empty.
func tapsPortable(dst, src []float32, off []int, weights []float32, bias float32, add bool, lo, hi float32) {
	for i := range dst {
		s := bias
		if add {
			s += dst[i]
		}
		dst[i] = s
	}
	t := 0
	for ; t+4 <= len(weights); t += 4 {
		w0, w1, w2, w3 := weights[t], weights[t+1], weights[t+2], weights[t+3]
		s0, s1 := src[off[t]:][:len(dst)], src[off[t+1]:][:len(dst)]
		s2, s3 := src[off[t+2]:][:len(dst)], src[off[t+3]:][:len(dst)]
		for i, v := range dst {
			v += w0 * s0[i]
			v += w1 * s1[i]
			v += w2 * s2[i]
			v += w3 * s3[i]
			dst[i] = v
		}
	}
	for ; t < len(weights); t++ {
		w, s := weights[t], src[off[t]:][:len(dst)]
		for i := range dst {
			dst[i] += w * s[i]
		}
	}
	for i, v := range dst {
		dst[i] = clamp(v, lo, hi)
	}
}

// takePortable copies rows of n numbers, of which those of src lie step apart;
// pitch and distance are those of the rows of dst and src.
func takePortable(dst []float32, pitch int, src []float32, distance, rows, n, step int) {
	for r := range rows {
		d, s := dst[r*pitch:][:n], src[r*distance:]
		if step == 1 {
			copy(d, s)
			continue
		}
		for i := range d {
			d[i] = s[i*step]
		}
	}
}

// clamp limits v to [lo, hi], unless it is not a number.
func clamp(v, lo, hi float32) float32 {
	if v < lo {
		v = lo
	}
	if v > hi {
		v = hi
	}
	return v
}
