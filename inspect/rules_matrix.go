package inspect

import "github.com/filterlens/filterlens/inspect/onnxfile"

func gemmRule(c *call) { gemmOf(c, c.in(0).dtype, c.in(0), c.in(1)) }

func gemmOf(c *call, d onnxfile.DType, a, b tensor) {
	c.typed(0, d)
	if a.known && len(a.shape) != 2 || b.known && len(b.shape) != 2 {
		return
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

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func matMulRule(c *call) {
	c.typed(0, c.in(0).dtype)
	if s, ok := matMulShape(c.in(0), c.in(1)); ok {
		c.shape(0, c.in(0).dtype, s)
	}
}

func matMulIntegerRule(c *call) {
	c.typed(0, onnxfile.Int32)
	if s, ok := matMulShape(c.in(0), c.in(1)); ok {
		c.shape(0, onnxfile.Int32, s)
	}
}

func qlinearMatMulRule(c *call) {
	c.typed(0, c.in(7).dtype)
	if s, ok := matMulShape(c.in(0), c.in(3)); ok {
		c.shape(0, c.in(7).dtype, s)
	}
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
