package inspect

import (
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

func gemmRule(c *call) {
	a := c.in(0)
	gemmOf(c, a.dtype, a, c.in(1))
	if len(c.out) == 0 || !c.out[0].known || c.opset < 7 {
		return
	}
	// The third one is stretched to the product, never the other way round.
	out, bias := c.out[0].shape, c.in(2)
	if !bias.known || !slices.ContainsFunc(bias.shape, func(d term) bool { return !d.is(1) }) {
		return // one number fits with any number of dimensions
	}
	off := len(out) - len(bias.shape)
	for i, d := range bias.shape {
		if off < 0 || apart(d, out[off+i]) && !d.is(1) {
			c.typed(0, a.dtype)
			c.clash(2, "adds %q, %s, to a product of %s; export the model again", c.Input(2), dims(bias.shape), dims(out))
			return
		}
	}
}

func gemmOf(c *call, d onnxfile.DType, a, b tensor) {
	c.typed(0, d)
	for i, t := range []tensor{a, b} {
		if t.known && len(t.shape) != 2 {
			c.clash(i, "reads %q, whose shape is %s, and multiplies matrices; export the model again", c.Input(i), dims(t.shape))
			return
		}
	}
	if a.known && b.known {
		x, y := a.shape[b2i(c.AttrInt("transA", 0) == 0)], b.shape[b2i(c.AttrInt("transB", 0) != 0)]
		if apart(x, y) {
			c.clash(1, "multiplies %q, %s, by %q, %s, and sums over %s and %s values; export the model again",
				c.Input(0), transposed(a, c.AttrInt("transA", 0)), c.Input(1), transposed(b, c.AttrInt("transB", 0)), x.outer(), y.outer())
		}
		if differ(x, y) {
			return
		}
	}
	out := unknowns(2)
	if a.known {
		out[0] = a.shape[b2i(c.AttrInt("transA", 0) != 0)]
	}
	if b.known {
		out[1] = b.shape[b2i(c.AttrInt("transB", 0) == 0)]
	}
	c.shape(0, d, out)
}

// transposed is how the shape of an operand of Gemm reads in a sentence.
func transposed(t tensor, trans int64) string {
	if trans == 0 {
		return dims(t.shape)
	}
	return dims(t.shape) + " transposed"
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func matMulRule(c *call) {
	c.typed(0, c.in(0).dtype)
	if s, ok := c.matMul(0, 1); ok {
		c.shape(0, c.in(0).dtype, s)
	}
}

func matMulIntegerRule(c *call) {
	c.typed(0, onnxfile.Int32)
	if s, ok := c.matMul(0, 1); ok {
		c.shape(0, onnxfile.Int32, s)
	}
}

func qlinearMatMulRule(c *call) {
	c.typed(0, c.in(7).dtype)
	if s, ok := c.matMul(0, 3); ok {
		c.shape(0, c.in(7).dtype, s)
	}
}

// matMul returns the shape of the product of inputs i and j.
func (c *call) matMul(i, j int) ([]term, bool) {
	x, y := c.in(i), c.in(j)
	out, ok := matMulShape(x, y)
	if ok || !x.known || !y.known {
		return out, ok
	}
	m, n := len(x.shape), len(y.shape)
	if m == 0 || n == 0 {
		k := i
		if m > 0 {
			k = j
		}
		c.clash(k, "reads %q, which is a scalar, and multiplies matrices; export the model again", c.Input(k))
		return nil, false
	}
	switch a, b := x.shape[m-1], y.shape[max(n-2, 0)]; {
	case apart(a, b):
		c.clash(j, "multiplies %q, %s, by %q, %s, and sums over %s and %s values; export the model again",
			c.Input(i), dims(x.shape), c.Input(j), dims(y.shape), a.outer(), b.outer())
	case !differ(a, b):
		c.broadcastAs([]int{i, j}, x.shape[:max(m-2, 0)], y.shape[:max(n-2, 0)])
	}
	return nil, false
}

// matMulShape follows numpy.matmul.
func matMulShape(x, y tensor) ([]term, bool) {
	if !x.known || !y.known || len(x.shape) == 0 || len(y.shape) == 0 {
		return nil, false
	}
	a, b := x.shape, y.shape
	if len(a) == 1 {
		a = []term{integer(1), a[0]}
	}
	if len(b) == 1 {
		b = []term{b[0], integer(1)}
	}
	if differ(a[len(a)-1], b[len(b)-2]) {
		return nil, false
	}
	out, ok := broadcast(a[:len(a)-2], b[:len(b)-2])
	if !ok {
		return nil, false
	}
	if len(x.shape) > 1 {
		out = append(out, a[len(a)-2])
	}
	if len(y.shape) > 1 {
		out = append(out, b[len(b)-1])
	}
	return out, true
}
