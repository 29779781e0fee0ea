package compute

// depthwise is a convolution of single channels. An input plane is laid out with
// its padding, and cut into one plane for each phase of the strides; then every
// tap of the kernel is a shift of one of these planes, for all outputs at once.
//
// A phase plane holds the padded input's rows y with y%StrideH == a, and of these
// the columns x with x%StrideW == b.
type depthwise struct {
	*Conv
	oh, ow     int
	rows       int // of a phase plane
	pitch      int // of its rows
	off        []int
	flat, outs int // outputs computed in one go, over all rows; 0 for row by row
}

// flatWidth is the width of the output below which rows are computed together.
const flatWidth = 48

func newDepthwise(c *Conv) *depthwise {
	d := &depthwise{Conv: c, oh: c.OutH(), ow: c.OutW()}
	d.rows = d.oh + c.DilationH*(c.KernelH-1)/c.StrideH
	d.pitch = d.ow + c.DilationW*(c.KernelW-1)/c.StrideW
	if d.ow < flatWidth {
		d.flat = (d.oh-1)*d.pitch + d.ow
	}
	d.off = make([]int, 0, c.KernelH*c.KernelW)
	for ky := range c.KernelH {
		for kx := range c.KernelW {
			y, x := ky*c.DilationH, kx*c.DilationW
			phase := y%c.StrideH*c.StrideW + x%c.StrideW
			d.off = append(d.off, (phase*d.rows+y/c.StrideH)*d.pitch+x/c.StrideW)
		}
	}
	return d
}

// scratch returns how many numbers one worker needs.
func (d *depthwise) scratch() int {
	return d.StrideH*d.StrideW*d.rows*d.pitch + d.flat
}

func (d *depthwise) run(w *Workers, x, weights, bias, out, scratch []float32) {
	each := d.scratch()
	if len(scratch) < each*w.N() {
		scratch = make([]float32, each*w.N())
	}
	kernels := d.arch.or()
	lo, hi := d.limits()
	taps := len(d.off)
	fan := d.Filters / d.C
	share(w, d.N*d.C, func(worker, plane int) {
		s := scratch[worker*each:][:each]
		flat := s[:d.flat]
		s = s[d.flat:]
		d.lay(s, x[plane*d.H*d.W:][:d.H*d.W])
		for f := plane * fan; f < (plane+1)*fan; f++ {
			y := out[f*d.oh*d.ow:][:d.oh*d.ow]
			filter := f % d.Filters
			weights := weights[filter*taps:][:taps]
			var b float32
			if bias != nil {
				b = bias[filter]
			}
			if d.flat > 0 {
				kernels.taps(flat, s, d.off, weights, b, false, lo, hi)
				for oy := range d.oh {
					copy(y[oy*d.ow:][:d.ow], flat[oy*d.pitch:])
				}
			} else {
				for oy := range d.oh {
					kernels.taps(y[oy*d.ow:][:d.ow], s[oy*d.pitch:], d.off, weights, b, false, lo, hi)
				}
			}
			if d.After != nil {
				d.After(y)
			}
		}
	})
}

// lay writes the phase planes of x.
func (d *depthwise) lay(dst, x []float32) {
	c := columns{sw: d.StrideW}
	for a := range d.StrideH {
		for b := range d.StrideW {
			for r := range d.rows {
				row := dst[((a*d.StrideW+b)*d.rows+r)*d.pitch:][:d.pitch]
				iy := r*d.StrideH + a - d.PadTop
				if iy < 0 || iy >= d.H {
					clear(row)
					continue
				}
				c.row(row, x[iy*d.W:][:d.W], b-d.PadLeft)
			}
		}
	}
}
