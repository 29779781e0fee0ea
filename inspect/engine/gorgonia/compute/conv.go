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

	arch arch
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
	if c.N == 0 {
		return 0
	}
	switch {
	case c.depthwise():
		return newDepthwise(c).scratch() * w.N()
	case c.whole():
		g := c.gemm()
		return g.Scratch(w)
	case c.few():
		n := c.N * c.OutH() * c.OutW()
		return n * (c.C*c.KernelH*c.KernelW + c.Filters)
	}
	p := c.product()
	return p.scratch(w)
}

// Run convolves x with weights into out. bias has one number for each filter, or
// is nil. out overlaps nothing else. scratch holds at least Scratch(w) numbers
// of any value; Run allocates if it does not. A tensor that is too short for its
// shape is a fault of the caller and panics.
func (c *Conv) Run(w *Workers, x, weights, bias, out, scratch []float32) {
	oh, ow := c.OutH(), c.OutW()
	taps := c.KernelH * c.KernelW
	x = x[:c.N*c.C*c.H*c.W]
	weights = weights[:c.Filters*c.C/c.Groups*taps]
	out = out[:c.N*c.Filters*oh*ow]
	if bias != nil {
		bias = bias[:c.Filters]
	}
	if c.N == 0 {
		return
	}
	if c.depthwise() {
		newDepthwise(c).run(w, x, weights, bias, out, scratch)
		return
	}
	if c.whole() {
		k := c.C * c.H * c.W
		g := c.gemm()
		g.Run(w, x, k, weights, k, out, c.Filters, scratch)
		c.finish(out, 1, bias)
		return
	}
	cols := c.columns()
	cols.x = x
	if c.few() {
		c.runFew(w, cols, weights, bias, out, scratch)
		return
	}
	p := c.product()
	p.a, p.ars, p.acs, p.ga = weights, p.k, 1, p.m*p.k
	p.c, p.bias, p.fill = out, bias, cols.fill
	p.run(w, scratch)
}

// depthwise says whether c is computed by depthwise: not if its planes, with
// padding, are far larger than what they are made of and what is made of them.
func (c *Conv) depthwise() bool {
	if c.Groups != c.C || c.Groups == 1 || c.StrideH > 8 || c.StrideW > 8 {
		return false
	}
	padded := float64(c.H+c.PadTop+c.PadBottom) * float64(c.W+c.PadLeft+c.PadRight)
	return padded <= 1<<16 || padded <= 4*float64(c.H*c.W+c.OutH()*c.OutW())
}

// fewPositions is the number of outputs of a filter up to which a tile would be
// half empty.
const fewPositions = 8

func (c *Conv) few() bool {
	return c.Groups == 1 && c.N*c.OutH()*c.OutW() <= fewPositions
}

// runFew multiplies the filters, where they lie, with what each position sees,
// and neither is packed: reading the weights takes the time.
func (c *Conv) runFew(w *Workers, cols *columns, weights, bias, out, scratch []float32) {
	if need := c.Scratch(w); len(scratch) < need {
		scratch = make([]float32, need)
	}
	area := cols.oh * cols.ow
	n := c.N * area
	k := c.C * c.KernelH * c.KernelW
	seen, sums := scratch[:n*k], scratch[n*k:][:n*c.Filters]
	cols.rows(seen, k, n)
	g := Gemm{M: c.Filters, N: n, K: k, TransB: true, Alpha: 1, arch: c.arch}
	g.dots(w, weights, k, seen, k, sums, n)
	for image := range c.N {
		for f := range c.Filters {
			copy(out[(image*c.Filters+f)*area:][:area], sums[f*n+image*area:])
		}
	}
	c.finish(out, area, bias)
}

// finish does to sums what comes after them.
func (c *Conv) finish(out []float32, area int, bias []float32) {
	lo, hi := c.limits()
	for image := range c.N {
		y := out[image*c.Filters*area:][:c.Filters*area]
		for f := range c.Filters {
			var b float32
			if bias != nil {
				b = bias[f]
			}
			y := y[f*area:][:area]
			for p, v := range y {
				y[p] = clamp(v+b, lo, hi)
			}
		}
		if c.After != nil {
			c.After(y)
		}
	}
}

// whole says whether every filter sees each image as a whole, once: then images
// are rows of a matrix.
func (c *Conv) whole() bool {
	return c.Groups == 1 && c.KernelH == c.H && c.KernelW == c.W && c.OutH()*c.OutW() == 1 &&
		c.PadTop == 0 && c.PadLeft == 0 && (c.DilationH == 1 || c.H == 1) && (c.DilationW == 1 || c.W == 1)
}

// gemm is the product of such a convolution.
func (c *Conv) gemm() Gemm {
	return Gemm{TransB: true, M: c.N, N: c.Filters, K: c.C * c.H * c.W, Alpha: 1, arch: c.arch}
}

func (c *Conv) product() product {
	area := c.OutH() * c.OutW()
	lo, hi := c.limits()
	return product{
		arch: c.arch.or(), m: c.Filters / c.Groups, n: c.N * area, k: c.C / c.Groups * c.KernelH * c.KernelW,
		groups: c.Groups, ldc: area, plane: area, cplane: c.Filters * area, gc: c.Filters / c.Groups * area,
		alpha: 1, lo: lo, hi: hi, after: c.After,
	}
}

func (c *Conv) columns() *columns {
	cols := &columns{
		arch: c.arch.or(), group: c.C / c.Groups * c.H * c.W, image: c.C * c.H * c.W, h: c.H, w: c.W,
		kh: c.KernelH, kw: c.KernelW, sh: c.StrideH, sw: c.StrideW, dh: c.DilationH, dw: c.DilationW,
		top: c.PadTop, left: c.PadLeft, oh: c.OutH(), ow: c.OutW(),
	}
	if c.KernelH == 1 && c.KernelW == 1 && c.StrideH == 1 && c.StrideW == 1 && cols.oh == c.H && cols.ow == c.W && c.PadTop == 0 && c.PadLeft == 0 {
		// Every position sees itself: a plane is one row.
		cols.h, cols.w, cols.oh, cols.ow = 1, c.H*c.W, 1, c.H*c.W
	}
	return cols
}

func (c *Conv) limits() (lo, hi float32) {
	if c.Clamp {
		return c.Min, c.Max
	}
	return negInf, posInf
}
