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
	case avx512:
		return 32
	}
	return 4
}

// width returns how many columns the kernel for a tile of n columns computes.
func (x arch) width(n int) int {
	if x == avx512 && n <= 16 {
		return 16
	}
	return x.columns()
}

// tilePortable sets the tile c, of rows() rows and columns() columns, to
//
//	min(hi, max(lo, alpha*a*b + beta*c + bias))
//
// where a is rows() x k, its rows ars and its columns acs apart, b is k x
// columns(), its rows bs apart, and bias, which may be nil, has one number for
// each row. If beta is 0, c is not read. The sum over k runs in order, and what
// is not a number passes the limits.
func tilePortable(k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, alpha, beta float32, bias []float32, lo, hi float32) {
	for i := 0; i < 4; i += 2 {
		var s [2][4]float32
		s[0], s[1] = tile2x4(k, a[i*ars:], ars, acs, b, bs)
		for r := range 2 {
			d := c[(i+r)*ldc:]
			d = d[:4]
			for j, v := range s[r] {
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

func tile2x4(k int, a []float32, ars, acs int, b []float32, bs int) (x, y [4]float32) {
	var x0, x1, x2, x3, y0, y1, y2, y3 float32
	at, bt := 0, 0
	for range k {
		u, v := a[at], a[at+ars]
		w := b[bt : bt+4 : bt+4]
		x0 += u * w[0]
		x1 += u * w[1]
		x2 += u * w[2]
		x3 += u * w[3]
		y0 += v * w[0]
		y1 += v * w[1]
		y2 += v * w[2]
		y3 += v * w[3]
		at += acs
		bt += bs
	}
	return [4]float32{x0, x1, x2, x3}, [4]float32{y0, y1, y2, y3}
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
