package inspect

import (
	"math"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// A window is how a convolution or a pooling slides over its spatial
// dimensions.
type window struct {
	kernel, strides, dilations []int64
	begin, end                 []int64
	auto                       string
	ceil                       bool
}

// maxExtent bounds every number in a window, so that their arithmetic cannot
// overflow.
const maxExtent = 1 << 30

// windowOf reads the attributes of a node that slides a kernel of n dimensions;
// weight holds the dimensions of its weight, whose trailing ones are the kernel,
// or nil. Not ok when the attributes contradict each other.
func windowOf(c *Node, weight []term, n int) (w window, ok bool) {
	fill := func(name string, def int64) ([]int64, bool) {
		v := c.AttrInts(name)
		if v == nil {
			v = make([]int64, n)
			for i := range v {
				v[i] = def
			}
			return v, true
		}
		for _, x := range v {
			if x < 1 || x > maxExtent {
				return nil, false
			}
		}
		return v, len(v) == n
	}
	if w.kernel = c.AttrInts("kernel_shape"); w.kernel == nil {
		if len(weight) != n+2 {
			return w, false
		}
		w.kernel = make([]int64, n)
		for i := range w.kernel {
			if w.kernel[i], ok = weight[2+i].number(); !ok {
				return w, false
			}
		}
	}
	if len(w.kernel) != n {
		return w, false
	}
	for _, k := range w.kernel {
		if k < 1 || k > maxExtent {
			return w, false
		}
	}
	if w.strides, ok = fill("strides", 1); !ok {
		return w, false
	}
	if w.dilations, ok = fill("dilations", 1); !ok {
		return w, false
	}
	w.auto = c.AttrString("auto_pad", "NOTSET")
	w.ceil = c.AttrInt("ceil_mode", 0) != 0
	w.begin, w.end = make([]int64, n), make([]int64, n)
	switch w.auto {
	case "NOTSET", "":
		if pads := c.AttrInts("pads"); pads != nil {
			if len(pads) != 2*n {
				return w, false
			}
			w.begin, w.end = pads[:n], pads[n:]
		}
		for i := range w.begin {
			if max(w.begin[i], w.end[i]) > maxExtent || min(w.begin[i], w.end[i]) < -maxExtent {
				return w, false
			}
		}
	case "VALID", "SAME_UPPER", "SAME_LOWER":
	default:
		return w, false
	}
	return w, true
}

// size returns how many positions the window takes along dimension i.
func (w window) size(i int, in term) term {
	extent := (w.kernel[i]-1)*w.dilations[i] + 1
	stride := w.strides[i]
	n, fixed := in.number()
	if w.auto == "SAME_UPPER" || w.auto == "SAME_LOWER" {
		return ceilTerm(in, stride)
	}
	pad := w.begin[i] + w.end[i]
	if !fixed {
		span := addTerm(in, integer(pad-extent)).dim()
		switch {
		case !w.ceil:
			return addTerm(floorTerm(span, stride), integer(1))
		case extent-w.end[i] >= stride:
			// The last window begins before the padding, whatever the size.
			return addTerm(ceilTerm(span, stride), integer(1))
		}
		return term{}
	}
	if n > math.MaxInt64/4 || extent > math.MaxInt64/4 {
		return term{}
	}
	span := n + pad - extent
	if span < 0 {
		return term{}
	}
	out := span/stride + 1
	// A last window that would lie in the padding alone is left out.
	if w.ceil && span%stride != 0 && out*stride < n+w.begin[i] {
		out++
	}
	return integer(out)
}

func convShape(c *call, x, w tensor) (out []term, ok bool) {
	rank := len(x.shape)
	if !x.known {
		if !w.known {
			return nil, false
		}
		rank = len(w.shape)
	}
	if rank < 3 || !c.kernelFits(x, w) || !c.channelsFit(x, w, false) {
		return nil, false
	}
	out = unknowns(rank)
	if w.known {
		out[1] = w.shape[0]
	}
	if !x.known {
		return out, true
	}
	out[0] = x.shape[0]
	if win, ok := windowOf(c.Node, w.shape, rank-2); ok {
		for i := range rank - 2 {
			out[2+i] = win.size(i, x.shape[2+i])
		}
	}
	return out, true
}

// kernelFits tells whether the weight w of a convolution has the rank of x and the
// kernel that an attribute says, as far as it is certain.
func (c *call) kernelFits(x, w tensor) bool {
	if !w.known {
		return true
	}
	if x.known && len(x.shape) != len(w.shape) {
		c.clash(0, "reads %q, %s, and its weight is %s; export the model again", c.Input(0), dims(x.shape), dims(w.shape))
		return false
	}
	given := c.AttrInts("kernel_shape")
	if given == nil {
		return true
	}
	fits := len(given) == len(w.shape)-2
	for i := 0; fits && i < len(given); i++ {
		fits = !apart(integer(given[i]), w.shape[2+i])
	}
	if !fits {
		c.clash(0, "has the kernel %v as an attribute, and its weight is %s; export the model again", given, dims(w.shape))
	}
	return fits
}

// channelsFit tells whether a convolution, or the transpose of one, of x can have
// the weight w, as far as it is certain. Beside rank 3 and more it is not asked.
func (c *call) channelsFit(x, w tensor, transpose bool) bool {
	group := c.AttrInt("group", 1)
	const again = "; export the model again"
	if group < 1 {
		c.clash(0, "has %d groups"+again, group)
		return false
	}
	if !w.known {
		return true
	}
	at := 1
	if c.Op == "QLinearConv" {
		at = 3
	}
	filters, per := w.shape[0], w.shape[1]
	if transpose { // the other way round, and all groups in the first one
		if n, ok := filters.number(); ok && n%group != 0 {
			c.clash(at, "has weights for %d channels, which %s cannot share%s", n, groups(group), again)
			return false
		}
		if x.known && apart(x.shape[1], filters) {
			c.clash(at, "has weights for %s channels and reads %q with %s%s", filters.outer(), c.Input(0), x.shape[1].outer(), again)
			return false
		}
		return true
	}
	if n, ok := filters.number(); ok && n%group != 0 {
		c.clash(at, "has %d filters, which %s cannot share%s", n, groups(group), again)
		return false
	}
	if all := mulTerm(per, integer(group)); x.known && apart(x.shape[1], all) {
		c.clash(at, "has weights for %s channels in each of %s and reads %q with %s%s", per.outer(), groups(group), c.Input(0), x.shape[1].outer(), again)
		return false
	}
	return true
}

// groups is how a number of groups reads in a sentence.
func groups(n int64) string { return count(int(n), "group", "groups") }

func convRule(c *call) {
	c.typed(0, c.in(0).dtype)
	if s, ok := convShape(c, c.in(0), c.in(1)); ok {
		c.shape(0, c.in(0).dtype, s)
	}
}

func convIntegerRule(c *call) {
	c.typed(0, onnxfile.Int32)
	if s, ok := convShape(c, c.in(0), c.in(1)); ok {
		c.shape(0, onnxfile.Int32, s)
	}
}

func qlinearConvRule(c *call) {
	c.typed(0, c.in(7).dtype)
	if s, ok := convShape(c, c.in(0), c.in(3)); ok {
		c.shape(0, c.in(7).dtype, s)
	}
}

func convTransposeRule(c *call) {
	x, w := c.in(0), c.in(1)
	c.typed(0, x.dtype)
	if !x.known || len(x.shape) < 3 || !c.kernelFits(x, w) || !c.channelsFit(x, w, true) {
		return
	}
	n := len(x.shape) - 2
	out := unknowns(n + 2)
	out[0] = x.shape[0]
	if w.known {
		if group := c.AttrInt("group", 1); group > 0 {
			out[1] = mulTerm(w.shape[1], integer(group))
		}
	}
	defer func() { c.shape(0, x.dtype, out) }()
	if given := c.AttrInts("output_shape"); given != nil {
		if len(given) >= n {
			copy(out[2:], integers(given[len(given)-n:]))
		}
		return
	}
	win, ok := windowOf(c.Node, w.shape, n)
	if !ok {
		return
	}
	extra := c.AttrInts("output_padding")
	if extra != nil && len(extra) != n {
		return
	}
	for i := range n {
		in := x.shape[2+i]
		if n, fixed := in.number(); fixed && (n < 1 || n > maxExtent) {
			continue
		}
		e := int64(0)
		if extra != nil {
			if e = extra[i]; e < 0 || e > maxExtent {
				continue
			}
		}
		size := mulTerm(in, integer(win.strides[i]))
		if win.auto != "SAME_UPPER" && win.auto != "SAME_LOWER" {
			size = addTerm(size, integer(e+(win.kernel[i]-1)*win.dilations[i]+1-win.strides[i]-win.begin[i]-win.end[i]))
		}
		if n, fixed := size.number(); !fixed || n > 0 {
			out[2+i] = size.dim()
		}
	}
}

func poolRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if out, ok := pooled(c, x, false); ok {
		c.shape(0, x.dtype, out)
		c.shape(1, onnxfile.Int64, out)
	}
}

func globalPoolRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if out, ok := pooled(c, x, true); ok {
		c.shape(0, x.dtype, out)
	}
}

// pooled returns what a pooling over the window of c, or over all positions,
// makes of x.
func pooled(c *call, x tensor, global bool) (out []term, ok bool) {
	if !x.known || len(x.shape) < 2 || !global && len(x.shape) < 3 {
		return nil, false
	}
	out = unknowns(len(x.shape))
	out[0], out[1] = x.shape[0], x.shape[1]
	if global {
		for i := range out[2:] {
			out[2+i] = integer(1)
		}
	} else if win, ok := windowOf(c.Node, nil, len(out)-2); ok {
		for i := range out[2:] {
			out[2+i] = win.size(i, x.shape[2+i])
		}
	}
	return out, true
}

func batchNormRule(c *call) {
	x, s := c.in(0), c.in(1)
	if !c.perChannel(x, 1, 2, 3, 4) {
		c.typed(0, x.dtype)
		return
	}
	sameRule(c)
	d := c.in(3).dtype
	if d == 0 {
		d = s.dtype
	}
	for i := 1; i < len(c.Outputs); i++ {
		switch {
		case x.known && len(x.shape) > 1:
			c.shape(i, d, x.shape[1:2])
		case s.known:
			c.shape(i, d, s.shape)
		}
	}
}

// perChannel tells whether inputs have a number for each channel of x, as far as it
// is certain.
func (c *call) perChannel(x tensor, inputs ...int) bool {
	if !x.known || len(x.shape) < 2 || c.opset < 9 && c.AttrInt("spatial", 1) == 0 {
		return true
	}
	for _, i := range inputs {
		if t := c.in(i); t.known && len(t.shape) == 1 && apart(t.shape[0], x.shape[1]) {
			c.clash(i, "reads %q with %s numbers for the %s channels of %q; export the model again",
				c.Input(i), t.shape[0].outer(), x.shape[1].outer(), c.Input(0))
			return false
		}
	}
	return true
}

func instanceNormRule(c *call) {
	x := c.in(0)
	if !c.perChannel(x, 1, 2) {
		c.typed(0, x.dtype)
		return
	}
	sameRule(c)
}

func layerNormRule(c *call) {
	sameRule(c)
	x := c.in(0)
	if !x.known {
		return
	}
	first, ok := axis(c.AttrInt("axis", -1), len(x.shape))
	if !ok {
		return
	}
	out := append([]term(nil), x.shape...)
	for i := first; i < len(out); i++ {
		out[i] = integer(1)
	}
	d := onnxfile.DType(c.AttrInt("stash_type", int64(onnxfile.Float)))
	c.shape(1, d, out)
	c.shape(2, d, out)
}

func depthToSpaceRule(c *call) { blocks(c, true) }
func spaceToDepthRule(c *call) { blocks(c, false) }

func blocks(c *call, toSpace bool) {
	x := c.in(0)
	c.typed(0, x.dtype)
	b := c.AttrInt("blocksize", 0)
	if !x.known || len(x.shape) != 4 || b < 1 || b > maxExtent {
		return
	}
	k := integer(b)
	deep, wide := mulTerm, exactTerm
	if toSpace {
		deep, wide = exactTerm, mulTerm
	}
	out := []term{x.shape[0], x.shape[1], x.shape[2], x.shape[3]}
	out[1] = deep(deep(out[1], k), k)
	out[2], out[3] = wide(out[2], k), wide(out[3], k)
	c.shape(0, x.dtype, out)
}

func padRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known {
		return
	}
	var pads []term
	switch {
	case c.Attr("pads") != nil:
		pads = integers(c.AttrInts("pads"))
	case c.Attr("paddings") != nil: // opset 1
		pads = integers(c.AttrInts("paddings"))
	default:
		v := c.value(1)
		if v == nil {
			c.shape(0, x.dtype, unknowns(len(x.shape)))
			return
		}
		pads = v.e
	}
	out := append([]term(nil), x.shape...)
	axes := make([]int64, len(x.shape))
	for i := range axes {
		axes[i] = int64(i)
	}
	if c.has(3) {
		given, ok := c.ints(3)
		if !ok {
			c.shape(0, x.dtype, unknowns(len(x.shape)))
			return
		}
		axes = given
	}
	if _, ok := axesOf(axes, len(x.shape)); !ok || len(pads) != 2*len(axes) {
		return
	}
	for i, a := range axes {
		j, _ := axis(a, len(x.shape))
		// Adding zero must keep a symbol, adding anything else to one loses it.
		out[j] = addTerm(addTerm(pads[i], pads[len(axes)+i]), out[j]).dim()
	}
	c.shape(0, x.dtype, out)
}

func resizeRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known {
		return
	}
	scales, sizes := 2, 3
	if c.opset < 11 {
		scales, sizes = 1, -1
	}
	c.shape(0, x.dtype, unknowns(len(x.shape)))
	axes := c.AttrInts("axes")
	if axes == nil {
		axes = make([]int64, len(x.shape))
		for i := range axes {
			axes[i] = int64(i)
		}
	}
	if _, ok := axesOf(axes, len(x.shape)); !ok {
		return
	}
	out := append([]term(nil), x.shape...)
	if sizes > 0 && c.has(sizes) {
		v := c.value(sizes)
		if v == nil || len(v.e) != len(axes) {
			return
		}
		if policy := c.AttrString("keep_aspect_ratio_policy", "stretch"); policy != "stretch" {
			if aspect(out, axes, v.e, policy) {
				c.shape(0, x.dtype, out)
			}
			return
		}
		for i, a := range axes {
			j, _ := axis(a, len(x.shape))
			out[j] = v.e[i].dim()
		}
		c.shape(0, x.dtype, out)
		return
	}
	v := c.value(scales)
	if v == nil || len(v.e) != len(axes) || c.AttrString("coordinate_transformation_mode", "") == "tf_crop_and_resize" {
		return
	}
	for i, a := range axes {
		j, _ := axis(a, len(x.shape))
		out[j] = scaled(out[j], v.e[i])
	}
	c.shape(0, x.dtype, out)
}

// aspect puts the sizes into out that keep the ratio of the axes: all of them
// scaled by the smallest (or the largest) of the ratios wanted, rounded half up.
// It is not ok where that depends on the precision computed with.
func aspect(out []term, axes []int64, sizes []term, policy string) bool {
	if policy != "not_larger" && policy != "not_smaller" {
		return false
	}
	var best float64
	in := make([]float64, len(axes))
	for i, a := range axes {
		j, _ := axis(a, len(out))
		n, ok1 := out[j].number()
		m, ok2 := sizes[i].number()
		if !ok1 || !ok2 || n < 1 || n > 1<<24 || m < 0 || m > 1<<24 {
			return false
		}
		in[i] = float64(n)
		if r := float64(m) / in[i]; i == 0 || (policy == "not_larger") == (r < best) {
			best = r
		}
	}
	for i, a := range axes {
		j, _ := axis(a, len(out))
		double := math.Floor(best*in[i] + 0.5)
		single := math.Floor(float64(float32(best)*float32(in[i])) + 0.5)
		if double != single {
			return false
		}
		out[j] = integer(int64(double))
	}
	return true
}

// scaled returns floor(d * s), which ONNX Runtime computes in float32.
func scaled(d, s term) term {
	if s.kind != floatTerm || math.IsNaN(s.f) || s.f <= 0 {
		return term{}
	}
	if s.f == 1 {
		return d
	}
	n, ok := d.number()
	if !ok {
		if s.f == math.Trunc(s.f) && s.f < maxExtent {
			return mulTerm(d, integer(int64(s.f)))
		}
		// A power of two is exact in every type.
		if frac, _ := math.Frexp(s.f); frac == 0.5 && s.f < 1 && s.f > 1.0/maxExtent {
			return floorTerm(d, int64(1/s.f))
		}
		return term{}
	}
	if n > 1<<24 || s.f > 1<<24 {
		return term{}
	}
	exact, rounded := math.Floor(float64(n)*s.f), math.Floor(float64(float32(n)*float32(s.f)))
	if exact != rounded {
		return term{}
	}
	return integer(int64(exact))
}

func upsampleRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known {
		return
	}
	out := append([]term(nil), x.shape...)
	var scales []term
	switch a := c.Attr("scales"); {
	case a != nil:
		for _, f := range a.GetFloats() {
			scales = append(scales, float(float64(f)))
		}
	case c.Attr("width_scale") != nil && c.Attr("height_scale") != nil: // opset 1
		scales = []term{float(1), float(1), float(float64(c.AttrFloat("height_scale", 0))), float(float64(c.AttrFloat("width_scale", 0)))}
	default:
		if v := c.value(1); v != nil {
			scales = v.e
		}
	}
	if len(scales) != len(out) {
		c.shape(0, x.dtype, unknowns(len(out)))
		return
	}
	for i := range out {
		out[i] = scaled(out[i], scales[i])
	}
	c.shape(0, x.dtype, out)
}
