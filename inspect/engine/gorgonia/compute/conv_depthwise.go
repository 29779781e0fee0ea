package compute

// depthwise is a convolution of single channels. An input plane is laid out with
// its padding, and cut into one plane for each phase of the strides; then every
// tap of the kernel is a shift of one of these planes, for all outputs at once.
//
// A phase plane holds the padded input's rows y with y%StrideH == a, and of these
// the columns x with x%StrideW == b. Small planes of one channel are laid out side
// by side, some images at a time.
type depthwise struct {
	*Conv
	oh, ow int
	rows   int   // of a phase plane
	width  int   // of its rows
	images int   // side by side
	off    []int // of each number of the kernel
	flat   int   // outputs computed in one go, over all rows; 0 for row by row
}

const (
	flatWidth  = 48   // width of the output below which rows are computed together
	sideBySide = 6144 // numbers of scratch that images share, if one does not need more
)

func newDepthwise(c *Conv) *depthwise {
	d := &depthwise{Conv: c, oh: c.OutH(), ow: c.OutW(), images: 1}
	d.rows = d.oh + c.DilationH*(c.KernelH-1)/c.StrideH
	d.width = d.ow + c.DilationW*(c.KernelW-1)/c.StrideW
	if d.ow < flatWidth {
		one := (c.StrideH*c.StrideW*d.rows + d.oh) * d.width
		d.images = max(1, min(c.N, sideBySide/one))
		d.flat = (d.oh-1)*d.pitch() + d.pitch() - d.width + d.ow
	}
	d.off = make([]int, 0, c.KernelH*c.KernelW)
	for ky := range c.KernelH {
		for kx := range c.KernelW {
			y, x := ky*c.DilationH, kx*c.DilationW
			phase := y%c.StrideH*c.StrideW + x%c.StrideW
			d.off = append(d.off, (phase*d.rows+y/c.StrideH)*d.pitch()+x/c.StrideW)
		}
	}
	return d
}

// pitch is the distance of the rows of all images' phase planes.
func (d *depthwise) pitch() int { return d.images * d.width }

// scratch returns how many numbers one worker needs.
func (d *depthwise) scratch() int {
	return d.StrideH*d.StrideW*d.rows*d.pitch() + d.flat
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
	pitch, area := d.pitch(), d.oh*d.ow
	patches := d.patches()
	padded := make([]bool, w.N()) // the workers whose planes have their padding
	share(w, d.C*ceilDiv(d.N, d.images), func(worker, piece int) {
		channel, first := piece%d.C, piece/d.C*d.images
		images := min(d.images, d.N-first)
		s := scratch[worker*each:][:each]
		flat := s[:d.flat]
		s = s[d.flat:]
		if !padded[worker] {
			clear(s)
			padded[worker] = true
		}
		for i := range images {
			in := x[((first+i)*d.C+channel)*d.H*d.W:][:d.H*d.W]
			for _, p := range patches {
				kernels.take(s[p.to+i*d.width:], pitch, in[p.from:], d.StrideH*d.W, p.rows, p.n, d.StrideW)
			}
		}
		for f := channel * fan; f < (channel+1)*fan; f++ {
			weights := weights[f*taps:][:taps]
			var b float32
			if bias != nil {
				b = bias[f]
			}
			if d.flat > 0 {
				kernels.taps(flat, s, d.off, weights, b, false, lo, hi)
			}
			for i := range images {
				y := out[((first+i)*d.Filters+f)*area:][:area]
				if d.flat > 0 {
					kernels.take(y, d.ow, flat[i*d.width:], pitch, d.oh, d.ow, 1)
				} else {
					for oy := range d.oh {
						kernels.taps(y[oy*d.ow:][:d.ow], s[oy*pitch:], d.off, weights, b, false, lo, hi)
					}
				}
				if d.After != nil {
					d.After(y)
				}
			}
		}
	})
}

// patch is the part of a phase plane that lies within the input: where its rows
// start there and in the input.
type patch struct{ to, from, rows, n int }

// patches returns one for each phase; what is left of the planes is padding.
func (d *depthwise) patches() []patch {
	var all []patch
	for a := range d.StrideH {
		for b := range d.StrideW {
			top, bottom := within(a-d.PadTop, d.StrideH, d.H, d.rows)
			left, right := within(b-d.PadLeft, d.StrideW, d.W, d.width)
			if top < bottom && left < right {
				all = append(all, patch{
					to:   ((a*d.StrideW+b)*d.rows+top)*d.pitch() + left,
					from: (a-d.PadTop+top*d.StrideH)*d.W + b - d.PadLeft + left*d.StrideW,
					rows: bottom - top, n: right - left,
				})
			}
		}
	}
	return all
}

// within returns for which i in [0, n) first + i*stride lies in [0, size): those in
// [lo, hi).
func within(first, stride, size, n int) (lo, hi int) {
	if first < 0 {
		lo = min(n, ceilDiv(-first, stride))
	}
	if first < size {
		hi = min(n, ceilDiv(size-first, stride))
	}
	return lo, max(lo, hi)
}
