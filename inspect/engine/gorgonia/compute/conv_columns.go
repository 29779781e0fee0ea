package compute

// columns says where the columns of a convolution's right factor come from: a
// column is what the kernel sees at one position of the output, its rows are
// channels, kernel rows and kernel columns, in that order.
type columns struct {
	x                 []float32
	group, image      int // distances of two groups' and two images' channels
	h, w              int // of the input
	kh, kw            int
	sh, sw, dh, dw    int
	top, left, oh, ow int
}

// run is a part of a panel whose positions lie in one row of the output.
type run struct {
	at, n  int // columns of the panel
	base   int // of the image in x
	iy, ix int // input position that the kernel's first number meets
}

// fill is the fill of product.
func (c *columns) fill(dst []float32, pitch, g, k0, k1, j, n int) {
	if n < pitch {
		clear(dst[:(k1-k0)*pitch])
	}
	area := c.kh * c.kw
	plane := c.oh * c.ow
	for at := 0; at < n; {
		image, p := (j+at)/plane, (j+at)%plane
		oy, ox := p/c.ow, p%c.ow
		r := run{at: at, n: min(n-at, c.ow-ox), base: g*c.group + image*c.image, iy: oy*c.sh - c.top, ix: ox*c.sw - c.left}
		at += r.n
		k, channel, tap := k0, k0/area, k0%area
		for k < k1 {
			ky, kx := tap/c.kw, tap%c.kw
			taps := min(c.kw-kx, k1-k)
			d := dst[(k-k0)*pitch+r.at:]
			iy := r.iy + ky*c.dh
			if iy < 0 || iy >= c.h {
				for t := range taps {
					clear(d[t*pitch:][:r.n])
				}
			} else {
				row := c.x[r.base+(channel*c.h+iy)*c.w:][:c.w]
				for t := range taps {
					c.row(d[t*pitch:][:r.n], row, r.ix+(kx+t)*c.dw)
				}
			}
			k += taps
			if tap += taps; tap == area {
				tap = 0
				channel++
			}
		}
	}
}

// row sets dst to every sw-th number of row, from ix on, and 0 beyond its ends.
func (c *columns) row(dst, row []float32, ix int) {
	n := len(dst)
	if c.sw == 1 && ix >= 0 && ix+n <= len(row) {
		if n == 32 {
			*(*[32]float32)(dst) = *(*[32]float32)(row[ix:])
			return
		}
		copy(dst, row[ix:])
		return
	}
	// Numbers [lo, hi) of dst lie within the row.
	lo, hi := 0, 0
	if ix < 0 {
		lo = min(n, ceilDiv(-ix, c.sw))
	}
	if ix < len(row) {
		hi = min(n, ceilDiv(len(row)-ix, c.sw))
	}
	if hi <= lo {
		clear(dst)
		return
	}
	clear(dst[:lo])
	clear(dst[hi:])
	ix += lo * c.sw
	if c.sw == 1 {
		copy(dst[lo:hi], row[ix:])
		return
	}
	for i := lo; i < hi; i++ {
		dst[i] = row[ix]
		ix += c.sw
	}
}
