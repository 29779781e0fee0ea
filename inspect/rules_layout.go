package inspect

import (
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

func flattenRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known {
		c.shape(0, x.dtype, unknowns(2))
		return
	}
	a := c.AttrInt("axis", 1)
	if a < 0 {
		a += int64(len(x.shape))
	}
	if a < 0 || a > int64(len(x.shape)) {
		return
	}
	c.shape(0, x.dtype, []term{productTerm(x.shape[:a]), productTerm(x.shape[a:])})
}

func reshapeRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	var want []term
	if a := c.Attr("shape"); a != nil && c.opset < 5 {
		want = integers(a.GetInts())
	} else if v := c.value(1); v != nil {
		want = v.e
	} else if s := c.in(1); s.known && len(s.shape) == 1 {
		if n, ok := s.shape[0].number(); ok && n <= maxRank {
			c.shape(0, x.dtype, unknowns(int(n)))
		}
		return
	} else {
		return
	}
	if len(want) > maxRank || x.known && !c.reshapes(x.shape, want) {
		return
	}
	out := slices.Clone(want)
	open := -1 // the dimension that follows from the others
	single := true
	for i, w := range want {
		switch {
		case w.is(0) && c.AttrInt("allowzero", 0) == 0:
			out[i] = term{}
			if x.known && i < len(x.shape) {
				out[i] = x.shape[i]
			}
		case w.is(-1):
			out[i] = term{}
		default:
			out[i] = w.dim()
		}
		if out[i].kind == unknownTerm {
			single = open < 0
			open = i
		}
	}
	if open >= 0 && single && x.known {
		rest := append(slices.Clone(out[:open]), out[open+1:]...)
		out[open] = quotient(x.shape, rest)
	}
	c.shape(0, x.dtype, out)
	if v := c.value(0); v != nil {
		if r := newValue(out); r != nil && len(r.e) == len(v.e) {
			r.e = v.e
			c.keep(0, r)
		}
	}
}

// reshapes tells whether x can have the shape wanted, as far as it is certain.
func (c *call) reshapes(x, want []term) bool {
	copies := c.AttrInt("allowzero", 0) == 0
	rest, open, fixed := integer(1), 0, true
	for i, w := range want {
		k, ok := w.number()
		switch {
		case !ok:
			fixed = false
		case k == 0 && copies && i >= len(x):
			c.clash(0, "copies dimension %d of %q, %s, which has none; export the model again", i, c.Input(0), dims(x))
			return false
		case k == 0 && copies:
			rest = mulTerm(rest, x[i])
		case k < -1:
			c.clash(0, "reshapes %q to %d in dimension %d; export the model again", c.Input(0), k, i)
			return false
		case k == -1:
			open++
		default:
			rest = mulTerm(rest, w)
		}
	}
	if open > 1 {
		c.clash(0, "leaves %d dimensions open, and one can follow from the others; export the model again", open)
		return false
	}
	have, ok1 := productTerm(x).number()
	need, ok2 := rest.number()
	if !fixed || !ok1 || !ok2 || have == need || open == 1 && (need == 0 || have%need == 0) {
		return true
	}
	shape := make([]int64, len(want))
	for i, w := range want {
		shape[i], _ = w.number()
	}
	c.clash(0, "reshapes %q, %s, with %d values, to %v; export the model again", c.Input(0), dims(x), have, shape)
	return false
}

// quotient returns the product of a divided by the product of b. Dimensions
// that both have, even unknown ones of the same symbol, cancel.
func quotient(a, b []term) term {
	return exactTerm(productTerm(a), productTerm(b)).dim()
}

func transposeRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	perm := c.AttrInts("perm")
	if !x.known {
		if perm != nil && len(perm) <= maxRank {
			c.shape(0, x.dtype, unknowns(len(perm)))
		}
		return
	}
	if perm == nil {
		for i := len(x.shape) - 1; i >= 0; i-- {
			perm = append(perm, int64(i))
		}
	}
	if _, ok := axesOf(perm, len(x.shape)); !ok || len(perm) != len(x.shape) {
		return
	}
	out := make([]term, len(perm))
	source := make([]int, len(perm))
	for i, p := range perm {
		source[i], _ = axis(p, len(perm))
		out[i] = x.shape[source[i]]
	}
	c.shape(0, x.dtype, out)
	if v := c.value(0); v != nil {
		c.keep(0, pick(v, out, func(at []int64) []int64 {
			from := make([]int64, len(at))
			for i, s := range source {
				from[s] = at[i]
			}
			return from
		}))
	}
}

// pick makes a value of the given shape; from says which element of v stands
// at a position. Nil when the shape is not fixed or a position does not exist.
func pick(v *value, shape []term, from func(at []int64) []int64) *value {
	out := newValue(shape)
	if out == nil {
		return nil
	}
	at := make([]int64, len(shape))
	for k := range out.e {
		rest := int64(k)
		for j := len(at) - 1; j >= 0; j-- {
			at[j] = rest % out.dims[j]
			rest /= out.dims[j]
		}
		src := from(at)
		if len(src) != len(v.dims) {
			return nil
		}
		i := int64(0)
		for j, p := range src {
			if p < 0 || p >= v.dims[j] {
				return nil
			}
			i = i*v.dims[j] + p
		}
		out.e[k] = v.e[i]
	}
	return out
}

func concatRule(c *call) {
	d := c.in(0).dtype
	c.typed(0, d)
	def := int64(0)
	if c.opset < 4 {
		def = 1
	}
	parts := make([]tensor, len(c.Inputs))
	for i := range parts {
		parts[i] = c.in(i)
	}
	out, ok := joined(parts, c.AttrInt("axis", def))
	if !ok {
		c.unjoined(parts, c.AttrInt("axis", def))
		return
	}
	c.shape(0, d, out)
	if len(out) != 1 {
		return
	}
	v := &value{}
	for i := range c.Inputs {
		p := c.value(i)
		if p == nil {
			// An unknown piece of known length is only unknown elements.
			n, ok := c.in(i).shape[0].number()
			if !ok || n > maxFold {
				return
			}
			p = &value{e: make([]term, n)}
		}
		if len(v.e)+len(p.e) > maxFold {
			return
		}
		v.e = append(v.e, p.e...)
	}
	v.dims = []int64{int64(len(v.e))}
	c.keep(0, v)
}

// unjoined takes down why the inputs cannot be joined along an axis.
func (c *call) unjoined(parts []tensor, along int64) {
	first := -1
	for i, t := range parts {
		if !t.known || empty(t.shape) {
			continue
		}
		at, ok := axis(along, len(t.shape))
		if !ok {
			c.clash(i, "joins %q, %s, along axis %d; export the model again", c.Input(i), dims(t.shape), along)
			return
		}
		if first < 0 {
			first = i
			continue
		}
		a := parts[first].shape
		fits := len(a) == len(t.shape)
		for j := 0; fits && j < len(a); j++ {
			fits = j == at || !apart(a[j], t.shape[j])
		}
		if !fits {
			c.clash(i, "joins %q, %s, and %q, %s, along axis %d; export the model again",
				c.Input(first), dims(a), c.Input(i), dims(t.shape), along)
			return
		}
	}
}

// joined returns the shape of the parts put together along an axis.
func joined(parts []tensor, along int64) (out []term, ok bool) {
	at := 0
	for i, t := range parts {
		if !t.known {
			return nil, false
		}
		if i == 0 {
			if at, ok = axis(along, len(t.shape)); !ok {
				return nil, false
			}
			out = slices.Clone(t.shape)
			continue
		}
		if len(t.shape) != len(out) {
			return nil, false
		}
		for j, d := range t.shape {
			switch {
			case j == at:
				out[j] = addTerm(out[j], d)
			case differ(out[j], d):
				return nil, false
			case out[j].kind == unknownTerm || out[j].symbolic() && !d.symbolic() && d.kind != unknownTerm:
				out[j] = d // they are equal, and this one says more
			}
		}
	}
	return out, len(parts) > 0
}

func splitRule(c *call) {
	x := c.in(0)
	for i := range c.out {
		c.typed(i, x.dtype)
	}
	if !x.known {
		return
	}
	a, ok := axis(c.AttrInt("axis", 0), len(x.shape))
	if !ok {
		return
	}
	sizes := make([]term, len(c.out))
	switch {
	case c.Attr("split") != nil:
		if len(c.AttrInts("split")) != len(sizes) {
			return
		}
		copy(sizes, integers(c.AttrInts("split")))
	case c.has(1):
		if v := c.value(1); v != nil {
			if len(v.e) != len(sizes) {
				return
			}
			copy(sizes, v.e)
		}
	default:
		n, ok := x.shape[a].number()
		parts := int64(len(sizes))
		if k := c.AttrInt("num_outputs", parts); k != parts {
			return
		}
		if ok && parts > 0 {
			each := n / parts
			if n%parts != 0 {
				each++
			}
			for i := range sizes {
				left := max(0, n-int64(i)*each)
				sizes[i] = integer(min(each, left))
			}
			if n%parts != 0 && c.Attr("num_outputs") == nil {
				clear(sizes) // before opset 18 it must be even
			}
		} else if parts > 0 && !ok {
			even := exactTerm(x.shape[a], integer(parts))
			for i := range sizes {
				sizes[i] = even
			}
		}
	}
	v := c.value(0)
	off := int64(0)
	for i, s := range sizes {
		out := slices.Clone(x.shape)
		out[a] = s.dim()
		c.shape(i, x.dtype, out)
		n, ok := s.number()
		if !ok || v == nil {
			v = nil
			continue
		}
		start := off
		c.keep(i, pick(v, out, func(at []int64) []int64 {
			from := slices.Clone(at)
			from[a] += start
			return from
		}))
		off += n
	}
}

func sliceRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known {
		return
	}
	rank := len(x.shape)
	var starts, ends []term
	var axes, steps []int64
	if c.opset < 10 {
		starts, ends, axes = integers(c.AttrInts("starts")), integers(c.AttrInts("ends")), c.AttrInts("axes")
	} else {
		var ok bool
		if c.has(3) {
			if axes, ok = c.ints(3); !ok {
				c.shape(0, x.dtype, unknowns(rank))
				return
			}
		}
		if c.has(4) {
			if steps, ok = c.ints(4); !ok {
				steps = nil
				starts = make([]term, 0)
			}
		}
		s, e := c.value(1), c.value(2)
		if s == nil || e == nil || starts != nil {
			// The other dimensions stay when it is known which are cut.
			out := unknowns(rank)
			if axes != nil {
				set, ok := axesOf(axes, rank)
				if !ok {
					return
				}
				for i := range out {
					if !set[i] {
						out[i] = x.shape[i]
					}
				}
			}
			c.shape(0, x.dtype, out)
			return
		}
		starts, ends = s.e, e.e
	}
	if axes == nil {
		for i := range starts {
			axes = append(axes, int64(i))
		}
	}
	if len(starts) != len(axes) || len(ends) != len(axes) || steps != nil && len(steps) != len(axes) {
		return
	}
	if _, ok := axesOf(axes, rank); !ok {
		return
	}
	out := slices.Clone(x.shape)
	first, stride := make([]int64, rank), make([]int64, rank)
	for i := range stride {
		stride[i] = 1
	}
	for i, a := range axes {
		j, _ := axis(a, rank)
		step := int64(1)
		if steps != nil {
			step = steps[i]
		}
		out[j], first[j] = cut(x.shape[j], starts[i], ends[i], step)
		stride[j] = step
	}
	c.shape(0, x.dtype, out)
	if v := c.value(0); v != nil {
		c.keep(0, pick(v, out, func(at []int64) []int64 {
			from := make([]int64, len(at))
			for i, p := range at {
				from[i] = first[i] + p*stride[i]
			}
			return from
		}))
	}
}

// cut returns the length that a slice leaves of a dimension, and where it
// begins (meaningful only for a fixed dimension).
func cut(dim, start, end term, step int64) (length term, first int64) {
	n, fixed := dim.number()
	s, ok1 := start.number()
	e, ok2 := end.number()
	if !fixed || !ok1 || !ok2 {
		switch {
		case step > 0 && step <= maxExtent:
			return cutSymbolic(dim, start, end, step)
		// All of a dimension, from behind.
		case step == -1 && ok1 && ok2 && (s == -1 || s >= maxExtent) && e < -maxExtent:
			return dim, 0
		}
		return term{}, 0
	}
	if n > math.MaxInt64/4 || step == 0 || step > maxExtent || step < -maxExtent {
		return term{}, 0
	}
	if s < 0 {
		s += n
	}
	if e < 0 {
		e += n
	}
	if step > 0 {
		s, e = min(max(s, 0), n), min(max(e, 0), n)
		return integer(max(0, (e-s+step-1)/step)), s
	}
	s, e = min(max(s, 0), n-1), min(max(e, -1), n-1)
	return integer(max(0, (s-e-step-1)/-step)), s
}

// cutSymbolic is cut for a positive step and what depends on symbols. It knows
// a length only where it is certain on which side of the ends of the dimension
// the cuts lie.
func cutSymbolic(dim, start, end term, step int64) (length term, first int64) {
	if dim.kind != integerTerm {
		return term{}, 0
	}
	// place returns where a cut lies between 0 and dim.
	place := func(t term) term {
		if k, ok := t.number(); ok && k >= maxExtent {
			return dim // the customary way to say the end
		} else if ok && k < -maxExtent {
			return integer(0)
		}
		switch {
		case t.kind != integerTerm:
			return term{}
		case subTerm(t, dim).atLeast(0):
			return dim
		case t.atLeast(0) && subTerm(dim, t).atLeast(0):
			return t
		}
		if high, ok := t.upper(); ok && high < 0 {
			if t = addTerm(t, dim); t.atLeast(0) {
				return t
			}
			if high, ok := t.upper(); ok && high <= 0 {
				return integer(0)
			}
		}
		return term{}
	}
	from, to := place(start), place(end)
	first, _ = from.number()
	span := subTerm(to, from)
	if high, ok := span.upper(); ok && high <= 0 {
		return integer(0), first
	}
	if !span.atLeast(0) {
		return term{}, 0
	}
	return ceilTerm(span, step), first
}

// axesArgument returns the axes of Squeeze and Unsqueeze, an attribute before
// opset 13 and an input since. given is false when there are none.
func axesArgument(c *call) (axes []int64, given, ok bool) {
	if c.Attr("axes") != nil {
		return c.AttrInts("axes"), true, true
	}
	if !c.has(1) {
		return nil, false, true
	}
	axes, ok = c.ints(1)
	return axes, true, ok
}

func squeezeRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	axes, given, ok := axesArgument(c)
	if !x.known || !ok {
		return
	}
	if !given {
		for i, d := range x.shape {
			if n, ok := d.number(); !ok {
				return // whether it goes depends on the run
			} else if n == 1 {
				axes = append(axes, int64(i))
			}
		}
	}
	set, ok := axesOf(axes, len(x.shape))
	if !ok {
		return
	}
	out := make([]term, 0, len(x.shape))
	for i, d := range x.shape {
		if !set[i] {
			out = append(out, d)
		} else if differ(d, integer(1)) {
			return
		}
	}
	c.shape(0, x.dtype, out)
	rearranged(c, out)
}

// rearranged keeps the value of input 0 in a new shape.
func rearranged(c *call, shape []term) {
	if v := c.value(0); v != nil {
		if r := newValue(shape); r != nil && len(r.e) == len(v.e) {
			r.e = v.e
			c.keep(0, r)
		}
	}
}

func unsqueezeRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	axes, given, ok := axesArgument(c)
	if !x.known || !given || !ok || len(axes) > maxRank {
		return
	}
	set, ok := axesOf(axes, len(x.shape)+len(axes))
	if !ok {
		return
	}
	out := make([]term, 0, len(set))
	next := 0
	for _, added := range set {
		if added {
			out = append(out, integer(1))
			continue
		}
		out = append(out, x.shape[next])
		next++
	}
	c.shape(0, x.dtype, out)
	rearranged(c, out)
}

func gatherRule(c *call) {
	x, idx := c.in(0), c.in(1)
	c.typed(0, x.dtype)
	if !x.known || !idx.known {
		return
	}
	a, ok := axis(c.AttrInt("axis", 0), len(x.shape))
	if !ok {
		return
	}
	out := append(slices.Clone(x.shape[:a]), idx.shape...)
	out = append(out, x.shape[a+1:]...)
	c.shape(0, x.dtype, out)
	v := c.value(0)
	if v == nil || len(v.dims) != 1 {
		return
	}
	k := c.value(1)
	if k == nil {
		return
	}
	r := newValue(out)
	if r == nil || len(r.e) != len(k.e) {
		return
	}
	for i, t := range k.e {
		n, ok := t.number()
		if n < 0 {
			n += v.dims[0]
		}
		if ok && n >= 0 && n < v.dims[0] {
			r.e[i] = v.e[n]
		}
	}
	c.keep(0, r)
}

func gatherElementsRule(c *call) {
	c.typed(0, c.in(0).dtype)
	if idx := c.in(1); idx.known {
		c.shape(0, c.in(0).dtype, idx.shape)
	}
}

func expandRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	v := c.value(1)
	if v == nil {
		if s := c.in(1); x.known && s.known && len(s.shape) == 1 {
			if n, ok := s.shape[0].number(); ok && n <= maxRank {
				if out, ok := broadcast(x.shape, unknowns(int(n))); ok {
					c.shape(0, x.dtype, out)
				}
			}
		}
		return
	}
	if !x.known || len(v.e) > maxRank {
		return
	}
	want := make([]term, len(v.e))
	for i, t := range v.e {
		want[i] = t.dim()
	}
	out, ok := broadcast(x.shape, want)
	if !ok {
		c.clashing(x.shape, want)
		return
	}
	c.shape(0, x.dtype, out)
	if src := c.value(0); src != nil && len(v.e) == len(out) {
		ones := newValue(want)
		if ones != nil {
			c.keep(0, combine([]*value{src, ones}, func(e []term) term { return e[0] }))
		}
	}
}

// clashing takes down that an Expand to want, which does not fit x, has numbers
// that do not.
func (c *call) clashing(x, want []term) {
	for k := range min(len(x), len(want)) {
		if a, b := x[len(x)-1-k], want[len(want)-1-k]; apart(a, b) && !a.is(1) && !b.is(1) {
			c.clash(0, "expands %q, %s, to %s; export the model again", c.Input(0), dims(x), dims(want))
			return
		}
	}
}

func tileRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known {
		return
	}
	v := c.value(1)
	if c.opset < 6 || v == nil || len(v.e) != len(x.shape) {
		c.shape(0, x.dtype, unknowns(len(x.shape)))
		return
	}
	out := make([]term, len(x.shape))
	for i, d := range x.shape {
		out[i] = mulTerm(d, v.e[i]).dim()
	}
	c.shape(0, x.dtype, out)
	if src := c.value(0); src != nil {
		c.keep(0, pick(src, out, func(at []int64) []int64 {
			from := make([]int64, len(at))
			for i := range at {
				from[i] = at[i] % src.dims[i]
			}
			return from
		}))
	}
}

func oneHotRule(c *call) {
	x := c.in(0)
	d := c.in(2).dtype
	c.typed(0, d)
	if !x.known {
		return
	}
	a, ok := axis(c.AttrInt("axis", -1), len(x.shape)+1)
	if !ok {
		return
	}
	var depth term
	if t, ok := c.value(1).scalar(); ok {
		depth = whole(t).dim()
	}
	out := append(slices.Clone(x.shape[:a]), depth)
	c.shape(0, d, append(out, x.shape[a:]...))
}

// whole returns a real number without a fraction as an integer.
func whole(t term) term {
	if t.kind == floatTerm && t.f == math.Trunc(t.f) && math.Abs(t.f) <= maxExtent {
		return integer(int64(t.f))
	}
	return t
}

func shapeRule(c *call) {
	x := c.in(0)
	c.typed(0, onnxfile.Int64)
	if !x.known {
		c.shape(0, onnxfile.Int64, unknowns(1))
		return
	}
	rank := int64(len(x.shape))
	clamp := func(i int64) int64 {
		if i < 0 {
			i += rank
		}
		return min(max(i, 0), rank)
	}
	from, to := clamp(c.AttrInt("start", 0)), clamp(c.AttrInt("end", rank))
	e := x.shape[from:max(from, to)]
	c.result(0, onnxfile.Int64, &value{dims: []int64{int64(len(e))}, e: e})
}

func sizeRule(c *call) {
	x := c.in(0)
	v := &value{e: make([]term, 1)}
	if x.known {
		v.e[0] = productTerm(x.shape)
	}
	c.result(0, onnxfile.Int64, v)
}

func constantRule(c *call) {
	scalar := func(d onnxfile.DType, t term) { c.result(0, d, &value{e: []term{t}}) }
	list := func(d onnxfile.DType, e []term) {
		n := []term{integer(int64(len(e)))}
		c.shape(0, d, n)
		if len(e) <= maxFold {
			c.keep(0, &value{dims: []int64{int64(len(e))}, e: e})
		}
	}
	if a := c.Attr("value"); a.GetT() != nil {
		t := tensor{dtype: onnxfile.DType(a.GetT().GetDataType())}.withDims(a.GetT().GetDims())
		c.set(0, t)
		c.keep(0, c.g.stored(a.GetT()))
	} else if a := c.Attr("sparse_value"); a.GetSparseTensor() != nil {
		s := a.GetSparseTensor()
		c.set(0, tensor{dtype: onnxfile.DType(s.GetValues().GetDataType())}.withDims(s.GetDims()))
	} else if a := c.Attr("value_int"); a != nil {
		scalar(onnxfile.Int64, integer(a.GetI()))
	} else if a := c.Attr("value_float"); a != nil {
		scalar(onnxfile.Float, float(float64(a.GetF())))
	} else if a := c.Attr("value_ints"); a != nil {
		list(onnxfile.Int64, integers(a.GetInts()))
	} else if a := c.Attr("value_floats"); a != nil {
		e := make([]term, len(a.GetFloats()))
		for i, f := range a.GetFloats() {
			e[i] = float(float64(f))
		}
		list(onnxfile.Float, e)
	} else if a := c.Attr("value_string"); a != nil {
		c.shape(0, stringType, nil)
	} else if a := c.Attr("value_strings"); a != nil {
		c.shape(0, stringType, []term{integer(int64(len(a.GetStrings())))})
	}
}

func constantOfShapeRule(c *call) {
	d, fill := onnxfile.Float, float(0)
	if t := c.Attr("value").GetT(); t != nil {
		d, fill = onnxfile.DType(t.GetDataType()), term{}
		if x, ok := c.g.stored(t).scalar(); ok {
			fill = x
		}
	}
	c.typed(0, d)
	v := c.value(0)
	if v == nil {
		if s := c.in(0); s.known && len(s.shape) == 1 {
			if n, ok := s.shape[0].number(); ok && n <= maxRank {
				c.shape(0, d, unknowns(int(n)))
			}
		}
		return
	}
	if len(v.e) > maxRank {
		return
	}
	out := make([]term, len(v.e))
	for i, t := range v.e {
		out[i] = t.dim()
	}
	c.shape(0, d, out)
	if r := newValue(out); r != nil {
		for i := range r.e {
			r.e[i] = fill
		}
		c.keep(0, r)
	}
}

func rangeRule(c *call) {
	d := c.in(0).dtype
	c.shape(0, d, unknowns(1))
	var v [3]term
	for i := range v {
		v[i] = c.scalarInput(i)
	}
	step, ok := v[2].number()
	if !ok {
		c.shape(0, d, []term{realSteps(v[0], v[1], v[2])})
		return
	}
	n := steps(v[0], v[1], step)
	c.shape(0, d, []term{n})
	from, ok1 := v[0].number()
	k, ok2 := n.number()
	if !ok1 || !ok2 || k > maxFold {
		return
	}
	r := &value{dims: []int64{k}, e: make([]term, k)}
	for i := range r.e {
		r.e[i] = integer(from + int64(i)*step)
	}
	c.keep(0, r)
}

// steps returns how many steps lead from one number to another, the last one
// left out: max(ceil((to-from)/step), 0).
func steps(from, to term, step int64) term {
	if step < 0 && step > -maxExtent {
		from, to, step = negTerm(from), negTerm(to), -step
	}
	span := subTerm(to, from)
	if high, ok := span.upper(); ok && high <= 0 {
		return integer(0)
	}
	if step < 1 || step > maxExtent || !span.atLeast(0) {
		return term{}
	}
	return ceilTerm(span, step)
}

// realSteps is steps for real numbers. Runtimes differ in the precision that
// they compute with, so a number is known only where that does not matter.
func realSteps(from, to, step term) term {
	if from.kind != floatTerm || to.kind != floatTerm || step.kind != floatTerm || step.f == 0 {
		return term{}
	}
	double := math.Ceil((to.f - from.f) / step.f)
	mixed := math.Ceil(float64(float32(to.f)-float32(from.f)) / step.f)
	single := math.Ceil(float64((float32(to.f) - float32(from.f)) / float32(step.f)))
	if double != mixed || double != single || !(math.Abs(double) <= maxExtent) {
		return term{}
	}
	return integer(int64(max(double, 0)))
}

func nonZeroRule(c *call) {
	x := c.in(0)
	out := unknowns(2)
	if v := c.value(0); v != nil && !slices.ContainsFunc(v.e, func(e term) bool {
		return !differ(e, integer(0)) && !same(e, integer(0)) && e.kind != floatTerm
	}) {
		n := int64(0)
		for _, e := range v.e {
			if !same(e, integer(0)) && !same(e, float(0)) {
				n++
			}
		}
		out[1] = integer(n)
	}
	if x.known {
		out[0] = integer(int64(len(x.shape)))
	}
	c.shape(0, onnxfile.Int64, out)
}
