package inspect

import (
	"math"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// unaryRule keeps the shape and computes the value of small integers.
func unaryRule(c *call) {
	t := c.in(0)
	t.value = nil
	if c.Op == "Not" {
		t.dtype = boolType
	}
	c.set(0, t)
	if c.Op == "Clip" && (c.has(1) || c.has(2) || c.opset < 11) {
		return
	}
	v := c.value(0)
	if v == nil {
		return
	}
	out := &value{dims: v.dims, e: make([]term, len(v.e))}
	for i, x := range v.e {
		out.e[i] = foldUnary(c.Op, x, t.dtype)
	}
	c.keep(0, out)
}

func foldUnary(op string, x term, d onnxfile.DType) term {
	n, isInt := x.number()
	switch op {
	case "Identity", "Clip":
		return x
	case "Neg":
		return fit(negTerm(x), d)
	case "Abs":
		if isInt && n < 0 {
			return fit(negTerm(x), d)
		}
		if x.kind == floatTerm {
			return float(math.Abs(x.f))
		}
		if x.atLeast(0) {
			return x
		}
	case "Ceil":
		if x.kind == floatTerm {
			return float(math.Ceil(x.f))
		}
	case "Floor":
		if x.kind == floatTerm {
			return float(math.Floor(x.f))
		}
	case "Sqrt":
		if x.kind == floatTerm {
			return fit(float(math.Sqrt(x.f)), d)
		}
	case "Not":
		if isInt {
			return truth(n == 0)
		}
	}
	return term{}
}

// fit rounds a computed number to its type; what does not fit is unknown.
func fit(t term, d onnxfile.DType) term {
	switch t.kind {
	case floatTerm:
		switch d {
		case onnxfile.Float:
			return float(float64(float32(t.f)))
		case onnxfile.Double:
			return t
		}
		return term{}
	case integerTerm:
		switch d {
		case onnxfile.Int64:
			return t
		case onnxfile.Int32:
			for _, p := range t.monomials() {
				if p.k < math.MinInt32 || p.k > math.MaxInt32 {
					return term{}
				}
			}
			return t
		case boolType:
			return t
		}
	}
	return term{}
}

func castRule(c *call) {
	t := c.in(0)
	from := t.dtype
	t.value = nil
	switch {
	case c.Op == "CastLike":
		t.dtype = c.in(1).dtype
	case c.Attr("to") != nil && c.Attr("to").S != nil: // before opset 6
		t.dtype = parseType(c.AttrString("to", ""))
	default:
		t.dtype = onnxfile.DType(c.AttrInt("to", 0))
	}
	c.set(0, t)
	v := c.value(0)
	if v == nil || from == 0 {
		return
	}
	out := &value{dims: v.dims, e: make([]term, len(v.e))}
	for i, x := range v.e {
		out.e[i] = convert(x, t.dtype)
	}
	c.keep(0, out)
}

func convert(x term, to onnxfile.DType) term {
	switch {
	case to == boolType:
		if n, ok := x.number(); ok {
			return truth(n != 0)
		}
		if x.kind == floatTerm {
			return truth(x.f != 0)
		}
		return term{}
	case to == onnxfile.Int64 || to == onnxfile.Int32:
		if x.kind == floatTerm {
			if math.IsNaN(x.f) || math.Abs(x.f) >= 1<<62 {
				return term{}
			}
			x = integer(int64(x.f))
		}
		return fit(x, to)
	case to == onnxfile.Float || to == onnxfile.Double:
		if n, ok := x.number(); ok {
			if n > 1<<53 || n < -1<<53 {
				return term{}
			}
			x = float(float64(n))
		}
		return fit(x, to)
	}
	return term{}
}

// broadcast returns the shape of an element-wise operation (multidirectional
// broadcasting). It is not ok when the shapes certainly do not fit.
func broadcast(shapes ...[]term) (out []term, ok bool) {
	rank := 0
	for _, s := range shapes {
		rank = max(rank, len(s))
	}
	out = make([]term, rank)
	for i := range out {
		out[i] = integer(1)
	}
	for _, s := range shapes {
		off := rank - len(s)
		for j, d := range s {
			o := &out[off+j]
			if *o, ok = broadcastDim(*o, d); !ok {
				return nil, false
			}
		}
	}
	return out, true
}

func broadcastDim(a, b term) (term, bool) {
	switch {
	case a.is(1):
		return b, true
	case b.is(1) || same(a, b):
		return a, true
	}
	n, aFixed := a.number()
	m, bFixed := b.number()
	switch {
	case aFixed && bFixed:
		return term{}, false
	case aFixed && n > 1:
		return a, true // b is 1 or n
	case bFixed && m > 1:
		return b, true
	}
	return term{}, true
}

// broadcast is that of the shapes of inputs.
func (c *call) broadcast(inputs ...int) ([]term, bool) {
	shapes := make([][]term, len(inputs))
	for i, k := range inputs {
		shapes[i] = c.in(k).shape
	}
	return c.broadcastAs(inputs, shapes...)
}

// broadcastAs is broadcast for shapes that are in part those of inputs.
func (c *call) broadcastAs(inputs []int, shapes ...[]term) ([]term, bool) {
	out, ok := broadcast(shapes...)
	if ok {
		return out, true
	}
	for i, a := range shapes {
		for j, b := range shapes[:i] {
			// Aligned at the last dimension.
			for k := range min(len(a), len(b)) {
				if x, y := a[len(a)-1-k], b[len(b)-1-k]; apart(x, y) && !x.is(1) && !y.is(1) {
					c.clash(inputs[i], "combines %q, %s, with %q, %s, and %s does not fit %s; export the model again",
						c.Input(inputs[j]), dims(c.in(inputs[j]).shape), c.Input(inputs[i]), dims(c.in(inputs[i]).shape), y.outer(), x.outer())
				}
			}
		}
	}
	return nil, false
}

// preluRule: the slope is stretched to the first operand. What becomes of a larger
// slope is up to the runtime.
func preluRule(c *call) {
	x, slope := c.in(0), c.in(1)
	if c.opset >= 7 && x.known && slope.known {
		_, fits := c.broadcast(0, 1)
		off := len(x.shape) - len(slope.shape)
		for i, d := range slope.shape {
			fits = fits && off >= 0 && (d.is(1) || !x.shape[off+i].is(1))
		}
		if !fits {
			c.typed(0, x.dtype)
			return
		}
	}
	sameRule(c)
}

func binaryRule(c *call) {
	a, b := c.in(0), c.in(1)
	d := a.dtype
	if d == 0 && c.Op != "Pow" && c.Op != "BitShift" {
		d = b.dtype
	}
	switch c.Op {
	case "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor":
		d = boolType
	}
	c.typed(0, d)
	if c.opset < 7 { // the second operand is fitted to the first
		if a.known {
			c.shape(0, d, a.shape)
		}
	} else if a.known && b.known {
		if s, ok := c.broadcast(0, 1); ok {
			c.shape(0, d, s)
		}
	}
	if c.opset < 7 && c.Attr("axis") != nil {
		return
	}
	x := c.value(0)
	if x == nil {
		return
	}
	y := c.value(1)
	if y == nil {
		return
	}
	fmod := c.AttrInt("fmod", 0) != 0
	c.keep(0, combine([]*value{x, y}, func(e []term) term { return foldBinary(c.Op, e[0], e[1], d, fmod) }))
}

// combine applies fn to the broadcast elements of vs; nil when the result is
// too large to compute with.
func combine(vs []*value, fn func([]term) term) *value {
	shapes := make([][]term, len(vs))
	for i, v := range vs {
		shapes[i] = integers(v.dims)
	}
	s, ok := broadcast(shapes...)
	if !ok {
		return nil
	}
	out := newValue(s)
	if out == nil {
		return nil
	}
	// stride[i][j] is how far operand i moves for one step along dimension j.
	stride := make([][]int64, len(vs))
	for i, v := range vs {
		stride[i] = make([]int64, len(s))
		step, off := int64(1), len(s)-len(v.dims)
		for j := len(v.dims) - 1; j >= 0; j-- {
			if v.dims[j] != 1 {
				stride[i][off+j] = step
			}
			step *= v.dims[j]
		}
	}
	args := make([]term, len(vs))
	for k := range out.e {
		rest := int64(k)
		at := make([]int64, len(vs))
		for j := len(s) - 1; j >= 0; j-- {
			pos := rest % out.dims[j]
			rest /= out.dims[j]
			for i := range vs {
				at[i] += pos * stride[i][j]
			}
		}
		for i, v := range vs {
			args[i] = v.e[at[i]]
		}
		out.e[k] = fn(args)
	}
	return out
}

// newValue returns a value of unknown elements, nil when the shape is not
// fixed or too large to compute with.
func newValue(shape []term) *value {
	v := &value{dims: make([]int64, len(shape))}
	for i, d := range shape {
		n, ok := d.number()
		if !ok {
			return nil
		}
		v.dims[i] = n
	}
	n, ok := product(v.dims...)
	if !ok || n > maxFold {
		return nil
	}
	v.e = make([]term, n)
	return v
}

func foldBinary(op string, a, b term, d onnxfile.DType, fmod bool) term {
	switch op {
	case "Add":
		return fit(addTerm(a, b), d)
	case "Sub":
		return fit(subTerm(a, b), d)
	case "Mul":
		return fit(mulTerm(a, b), d)
	case "Div":
		return fit(divTerm(a, b), d)
	case "Mod":
		n, ok1 := a.number()
		m, ok2 := b.number()
		if ok2 && m != 0 && !ok1 && exactTerm(a, b).kind == integerTerm {
			return integer(0)
		}
		if !ok1 || !ok2 || m == 0 {
			return term{}
		}
		if m == -1 {
			return integer(0)
		}
		r := n % m
		if !fmod && r != 0 && (r < 0) != (m < 0) {
			r += m
		}
		return integer(r)
	case "Equal":
		if same(a, b) {
			return truth(true)
		}
		if differ(a, b) {
			return truth(false)
		}
	case "Less":
		if l, ok := less(a, b); ok {
			return truth(l)
		}
	case "Greater":
		if l, ok := less(b, a); ok {
			return truth(l)
		}
	case "LessOrEqual":
		if l, ok := less(b, a); ok {
			return truth(!l)
		}
	case "GreaterOrEqual":
		if l, ok := less(a, b); ok {
			return truth(!l)
		}
	case "And":
		if a.is(0) || b.is(0) {
			return truth(false)
		}
		if a.is(1) && b.is(1) {
			return truth(true)
		}
	case "Or":
		if a.is(1) || b.is(1) {
			return truth(true)
		}
		if a.is(0) && b.is(0) {
			return truth(false)
		}
	}
	return term{}
}

func variadicRule(c *call) {
	var shapes [][]term
	var inputs []int
	for i := range c.Inputs {
		t := c.in(i)
		c.typed(0, t.dtype)
		if !t.known {
			return
		}
		shapes, inputs = append(shapes, t.shape), append(inputs, i)
	}
	if len(shapes) == 0 {
		return
	}
	d := c.in(0).dtype
	if c.opset < 8 {
		c.shape(0, d, shapes[0])
	} else if s, ok := c.broadcastAs(inputs, shapes...); ok {
		c.shape(0, d, s)
	}
	if c.Op != "Max" && c.Op != "Min" {
		return
	}
	vs := make([]*value, len(shapes))
	for i := range shapes {
		if vs[i] = c.value(i); vs[i] == nil {
			return
		}
	}
	c.keep(0, combine(vs, func(e []term) term {
		best := e[0]
		for _, x := range e[1:] {
			l, ok := less(x, best)
			switch {
			case same(x, best):
			case !ok:
				return term{}
			case l == (c.Op == "Min"):
				best = x
			}
		}
		if best.kind == floatTerm && math.IsNaN(best.f) {
			return term{}
		}
		return best
	}))
}

func whereRule(c *call) {
	k, a, b := c.in(0), c.in(1), c.in(2)
	d := a.dtype
	if d == 0 {
		d = b.dtype
	}
	c.typed(0, d)
	if !k.known || !a.known || !b.known {
		return
	}
	s, ok := c.broadcast(0, 1, 2)
	if !ok {
		return
	}
	c.shape(0, d, s)
	vs := []*value{c.value(0), nil, nil}
	if vs[0] == nil {
		return
	}
	if vs[1], vs[2] = c.value(1), c.value(2); vs[1] == nil || vs[2] == nil {
		return
	}
	c.keep(0, combine(vs, func(e []term) term {
		switch {
		case e[0].is(1):
			return e[1]
		case e[0].is(0):
			return e[2]
		case same(e[1], e[2]):
			return e[1]
		}
		return term{}
	}))
}
