package compute

// ConvTranspose is a transposed convolution of images of fixed shape: every
// number of the N x C x H x W input adds a multiple of the kernel to the output,
// which is N x Filters x OutH x OutW. The weights are C x Filters/Groups x
// KernelH x KernelW. Number (ky, kx) of the kernel meets row
// y*StrideH + ky*DilationH - PadTop of the output, and what lies outside is left
// out; the other paddings follow from the output's size.
type ConvTranspose struct {
	N, C, H, W           int
	Filters, Groups      int
	KernelH, KernelW     int
	StrideH, StrideW     int
	DilationH, DilationW int
	PadTop, PadLeft      int
	OutH, OutW           int
}

// transposeBudget is how many numbers of products are held at once, if those of
// one position are not more.
const transposeBudget = 1 << 20

// parts returns the product for some positions of one image and group, and how
// many positions it takes.
func (c *ConvTranspose) parts() (g Gemm, positions int) {
	rows := c.Filters / c.Groups * c.KernelH * c.KernelW
	positions = max(1, min(c.H*c.W, transposeBudget/max(1, rows)))
	return Gemm{TransA: true, M: rows, N: positions, K: c.C / c.Groups, Alpha: 1}, positions
}

// Scratch returns how many numbers of scratch memory Run wants on w. It does not
// grow with the number of images.
func (c *ConvTranspose) Scratch(w *Workers) int {
	g, positions := c.parts()
	return g.M*positions + g.Scratch(w)
}

// Run adds x's multiples of weights up in out, with one number of bias for each
// filter; bias may be nil. out overlaps nothing else. scratch holds at least
// Scratch(w) numbers of any value; Run allocates if it does not.
func (c *ConvTranspose) Run(w *Workers, x, weights, bias, out, scratch []float32) {
	if need := c.Scratch(w); len(scratch) < need {
		scratch = make([]float32, need)
	}
	plane, area := c.H*c.W, c.OutH*c.OutW
	cg, fg := c.C/c.Groups, c.Filters/c.Groups
	taps := c.KernelH * c.KernelW
	g, positions := c.parts()
	products, scratch := scratch[:g.M*positions], scratch[g.M*positions:]
	for n := range c.N {
		for group := range c.Groups {
			y := out[(n*c.Filters+group*fg)*area:][:fg*area]
			for p0 := 0; p0 < plane; p0 += positions {
				part := g
				part.N = min(positions, plane-p0)
				part.Run(w, weights[group*cg*g.M:][:cg*g.M], g.M, x[(n*c.C+group*cg)*plane+p0:], plane, products, part.N, scratch)
				w.Do(fg, func(f int) {
					y := y[f*area:][:area]
					if p0 == 0 {
						var b float32
						if bias != nil {
							b = bias[group*fg+f]
						}
						for i := range y {
							y[i] = b
						}
					}
					c.spread(y, products[f*taps*part.N:][:taps*part.N], p0, part.N)
				})
			}
		}
	}
}

// spread adds the products of n positions from p0 on to a plane of the output.
func (c *ConvTranspose) spread(y, products []float32, p0, n int) {
	for tap := range c.KernelH * c.KernelW {
		top := tap/c.KernelW*c.DilationH - c.PadTop
		left := tap%c.KernelW*c.DilationW - c.PadLeft
		for i, v := range products[tap*n:][:n] {
			oy := (p0+i)/c.W*c.StrideH + top
			ox := (p0+i)%c.W*c.StrideW + left
			if oy >= 0 && oy < c.OutH && ox >= 0 && ox < c.OutW {
				y[oy*c.OutW+ox] += v
			}
		}
	}
}
