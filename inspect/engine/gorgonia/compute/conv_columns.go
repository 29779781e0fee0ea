package compute

// columns says where the columns of a convolution's right factor come from: a
// column is what the kernel sees at one position of the output, its rows are
// channels, kernel rows and kernel columns, in that order.
type columns struct {
	arch              arch
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

const (
	shortRow   = 12 // outputs in a row, below which single numbers are gathered
	gatherTaps = 32 // most numbers of a kernel for which they are
)

// fill is the fill of product.
func (c *columns) fill(dst []float32, pitch, g, k0, k1, j, n int) {
	area := c.kh * c.kw
	plane := c.oh * c.ow
	if c.ow < shortRow && area <= gatherTaps {
		c.gather(dst, pitch, g, k0, k1, j, n)
		return
	}
	if n < pitch {
		clear(dst[:(k1-k0)*pitch])
	}
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

// gather is fill for positions of which few lie in one row.
func (c *columns) gather(dst []float32, pitch, g, k0, k1, j, n int) {
	// For each number of the kernel, which columns see the input, and where in the
	// first channel.
	type source struct{ column, from int }
	var table [gatherTaps * widestTile]source
	var counts [gatherTaps]int
	plane := c.oh * c.ow
	area := c.kh * c.kw
	for x := range n {
		image, p := (j+x)/plane, (j+x)%plane
		base := g*c.group + image*c.image
		top, left := p/c.ow*c.sh-c.top, p%c.ow*c.sw-c.left
		for tap := range area {
			iy, ix := top+tap/c.kw*c.dh, left+tap%c.kw*c.dw
			if iy >= 0 && iy < c.h && ix >= 0 && ix < c.w {
				table[tap*widestTile+counts[tap]] = source{x, base + iy*c.w + ix}
				counts[tap]++
			}
		}
	}
	channel, tap := k0/area, k0%area
	for k := k0; k < k1; k++ {
		d := dst[(k-k0)*pitch:][:pitch]
		sources := table[tap*widestTile:][:counts[tap]]
		if len(sources) < pitch {
			clear(d)
		}
		x := c.x[channel*c.h*c.w:]
		for _, s := range sources {
			d[s.column] = x[s.from]
		}
		if tap++; tap == area {
			tap = 0
			channel++
		}
	}
}

// rows writes n columns as rows of k numbers.
func (c *columns) rows(dst []float32, k, n int) {
	plane := c.oh * c.ow
	area := c.kh * c.kw
	clear(dst[:n*k])
	for x := range n {
		d := dst[x*k:][:k]
		image, p := x/plane, x%plane
		top, left := p/c.ow*c.sh-c.top, p%c.ow*c.sw-c.left
		for tap := range area {
			iy, ix := top+tap/c.kw*c.dh, left+tap%c.kw*c.dw
			if iy < 0 || iy >= c.h || ix < 0 || ix >= c.w {
				continue
			}
			from := image*c.image + iy*c.w + ix
			for i := tap; i < k; i += area {
				d[i] = c.x[from]
				from += c.h * c.w
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
	lo, hi := within(ix, c.sw, len(row), n)
	if hi <= lo {
		clear(dst)
		return
	}
	clear(dst[:lo])
	clear(dst[hi:])
	c.arch.take(dst[lo:hi], 0, row[ix+lo*c.sw:], 0, 1, hi-lo, c.sw)
}
