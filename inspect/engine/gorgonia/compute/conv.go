package compute

// Conv is a convolution of images of fixed shape: the input is N x C x H x W, the
// weights are Filters x C/Groups x KernelH x KernelW, the output is
// N x Filters x OutH() x OutW(), all in row-major order. A convolution along one
// axis has H and KernelH 1.
//
// Strides and dilations are at least 1, paddings at least 0, Groups divides C
// and Filters, and the output is not empty: who calls has checked it.
type Conv struct {
	N, C, H, W                           int
	Filters, Groups                      int
	KernelH, KernelW                     int
	StrideH, StrideW                     int
	DilationH, DilationW                 int
	PadTop, PadLeft, PadBottom, PadRight int

	// Clamp limits results to [Min, Max] after the bias was added; what is not a
	// number stays so. ReLU is a clamp from 0 to +Inf.
	Clamp    bool
	Min, Max float32
	// After, if not nil, is called with every run of finished results, to change
	// them in place; on several goroutines at once. Every result belongs to
	// exactly one call, the runs' lengths are open.
	After func(y []float32)
}

// OutH returns the height of the output.
func (c *Conv) OutH() int {
	return (c.H+c.PadTop+c.PadBottom-c.DilationH*(c.KernelH-1)-1)/c.StrideH + 1
}

// OutW returns the width of the output.
func (c *Conv) OutW() int {
	return (c.W+c.PadLeft+c.PadRight-c.DilationW*(c.KernelW-1)-1)/c.StrideW + 1
}

// Scratch returns how many numbers of scratch memory Run wants on w. It does not
// grow with the number of images.
func (c *Conv) Scratch(w *Workers) int {
	return 0
}

// Run convolves x with weights into out. bias has one number for each filter, or
// is nil. out overlaps nothing else. scratch holds at least Scratch(w) numbers
// of any value; Run allocates what is missing.
func (c *Conv) Run(w *Workers, x, weights, bias, out, scratch []float32) {
	oh, ow := c.OutH(), c.OutW()
	cg, fg := c.C/c.Groups, c.Filters/c.Groups
	w.Do(c.N*c.Filters, func(plane int) {
		n, f := plane/c.Filters, plane%c.Filters
		y := out[plane*oh*ow : (plane+1)*oh*ow]
		for oy := range oh {
			for ox := range ow {
				var s float32
				if bias != nil {
					s = bias[f]
				}
				for ch := range cg {
					for ky := range c.KernelH {
						iy := oy*c.StrideH - c.PadTop + ky*c.DilationH
						if iy < 0 || iy >= c.H {
							continue
						}
						for kx := range c.KernelW {
							ix := ox*c.StrideW - c.PadLeft + kx*c.DilationW
							if ix < 0 || ix >= c.W {
								continue
							}
							s += weights[((f*cg+ch)*c.KernelH+ky)*c.KernelW+kx] *
								x[((n*c.C+f/fg*cg+ch)*c.H+iy)*c.W+ix]
						}
					}
				}
				y[oy*ow+ox] = s
			}
		}
		if c.Clamp {
			for i, v := range y {
				if v < c.Min {
					y[i] = c.Min
				} else if v > c.Max {
					y[i] = c.Max
				}
			}
		}
		if c.After != nil {
			c.After(y)
		}
	})
}
