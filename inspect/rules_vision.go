package inspect

import (
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

func roiAlignRule(c *call) {
	regions(c, integers([]int64{c.AttrInt("output_height", 1), c.AttrInt("output_width", 1)}))
}

func maxRoiPoolRule(c *call) {
	size := c.AttrInts("pooled_shape")
	if len(size) != 2 {
		size = []int64{-1, -1}
	}
	regions(c, integers(size))
}

// regions sets one image of the given size for each region of input 1.
func regions(c *call, size []term) {
	x, rois := c.in(0), c.in(1)
	out := []term{{}, {}, size[0].dim(), size[1].dim()}
	if rois.known && len(rois.shape) == 2 {
		out[0] = rois.shape[0]
	}
	if x.known && len(x.shape) == 4 {
		out[1] = x.shape[1]
	}
	c.shape(0, x.dtype, out)
}

func maxUnpoolRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known || len(x.shape) < 3 {
		return
	}
	n := len(x.shape) - 2
	out := unknowns(n + 2)
	out[0], out[1] = x.shape[0], x.shape[1]
	defer func() { c.shape(0, x.dtype, out) }()
	if c.has(2) {
		if v := c.value(2); v != nil && len(v.e) == len(out) {
			for i, t := range v.e {
				out[i] = t.dim()
			}
		}
		return
	}
	win, ok := windowOf(c.Node, nil, n)
	if !ok || win.auto != "NOTSET" {
		return
	}
	for i := range n {
		size := mulTerm(subTerm(x.shape[2+i], integer(1)), integer(win.strides[i]))
		out[2+i] = addTerm(size, integer(win.kernel[i]-win.begin[i]-win.end[i])).dim()
	}
}

func gridSampleRule(c *call) {
	x, grid := c.in(0), c.in(1)
	c.typed(0, x.dtype)
	switch {
	case grid.known && len(grid.shape) >= 3:
		out := append([]term{grid.shape[0], {}}, grid.shape[1:len(grid.shape)-1]...)
		if x.known && len(x.shape) == len(grid.shape) {
			out[0], out[1] = x.shape[0], x.shape[1]
		}
		c.shape(0, x.dtype, out)
	case x.known && len(x.shape) >= 3:
		out := unknowns(len(x.shape))
		out[0], out[1] = x.shape[0], x.shape[1]
		c.shape(0, x.dtype, out)
	}
}

func affineGridRule(c *call) {
	d := c.in(0).dtype
	c.typed(0, d)
	v := c.value(1)
	if v == nil {
		v = &value{}
		if s := c.in(1); s.known && len(s.shape) == 1 {
			if n, ok := s.shape[0].number(); ok && n <= maxRank {
				v.e = unknowns(int(n))
			}
		}
	}
	if n := len(v.e); n == 4 || n == 5 {
		out := append([]term{v.e[0].dim()}, v.e[2:]...)
		for i := range out {
			out[i] = out[i].dim()
		}
		c.shape(0, d, append(out, integer(int64(n-2))))
	}
}

func nonMaxSuppressionRule(c *call) {
	c.shape(0, onnxfile.Int64, []term{{}, integer(3)})
}

func col2ImRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	size := c.value(1)
	if size == nil || len(size.e)+2 > maxRank {
		return
	}
	out := unknowns(2)
	if x.known && len(x.shape) == 3 {
		out[0] = x.shape[0]
		if block := c.value(2); block != nil {
			out[1] = quotient(x.shape[1:2], block.e)
		}
	}
	for _, t := range size.e {
		out = append(out, t.dim())
	}
	c.shape(0, x.dtype, out)
}

func centerCropPadRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known {
		return
	}
	axes := c.AttrInts("axes")
	if axes == nil {
		for i := range x.shape {
			axes = append(axes, int64(i))
		}
	}
	if _, ok := axesOf(axes, len(x.shape)); !ok {
		return
	}
	v := c.value(1)
	if v != nil && len(v.e) != len(axes) {
		return
	}
	out := slices.Clone(x.shape)
	for i, a := range axes {
		j, _ := axis(a, len(out))
		out[j] = term{}
		if v != nil {
			out[j] = v.e[i].dim()
		}
	}
	c.shape(0, x.dtype, out)
}

// imageDecoderRule: what cannot be decoded becomes an empty image, so not even
// the number of channels is certain.
func imageDecoderRule(c *call) { c.shape(0, uint8Type, unknowns(3)) }
