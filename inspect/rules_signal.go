package inspect

import (
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// scalarInput returns input i when it is one known term.
func (c *call) scalarInput(i int) term {
	t, _ := c.value(i).scalar()
	return t
}

// oneSided returns the number of frequencies that a real signal of n samples
// has: floor(n/2) + 1.
func oneSided(n term) term {
	return addTerm(floorTerm(n.dim(), 2), integer(1))
}

func dftRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known || len(x.shape) < 2 {
		return
	}
	inverse, half := c.AttrInt("inverse", 0) != 0, c.AttrInt("onesided", 0) != 0
	if c.opset < 20 && inverse && half {
		return
	}
	along := int64(-2)
	if c.opset < 20 {
		along = c.AttrInt("axis", 1)
	} else if c.has(2) {
		n, ok := c.scalarInput(2).number()
		if !ok {
			c.shape(0, x.dtype, unknowns(len(x.shape)))
			return
		}
		along = n
	}
	a, ok := axis(along, len(x.shape))
	if !ok || a == len(x.shape)-1 {
		return
	}
	out := slices.Clone(x.shape)
	length := x.shape[a]
	if inverse && half {
		length = mulTerm(integer(2), subTerm(length, integer(1)))
	}
	if c.has(1) {
		length = c.scalarInput(1)
	}
	out[len(out)-1] = integer(2)
	switch {
	case half && inverse:
		out[len(out)-1] = integer(1)
	case half:
		length = oneSided(length)
	}
	out[a] = length.dim()
	c.shape(0, x.dtype, out)
}

func stftRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	out := []term{{}, {}, {}, integer(2)}
	defer func() { c.shape(0, x.dtype, out) }()
	frame := term{}
	if c.has(3) {
		frame = c.scalarInput(3)
	} else if w := c.in(2); w.known && len(w.shape) == 1 {
		frame = w.shape[0]
	}
	if out[2] = frame.dim(); c.AttrInt("onesided", 1) != 0 {
		out[2] = oneSided(frame)
	}
	if !x.known || len(x.shape) < 2 {
		return
	}
	out[0] = x.shape[0]
	if step, ok := c.scalarInput(1).number(); ok {
		out[1] = addTerm(floorTerm(subTerm(x.shape[1], frame).dim(), step), integer(1))
	}
}

func melRule(c *call) {
	d := onnxfile.DType(c.AttrInt("output_datatype", int64(onnxfile.Float)))
	c.shape(0, d, []term{oneSided(c.scalarInput(1)), c.scalarInput(0).dim()})
}

func windowFunctionRule(c *call) {
	d := onnxfile.DType(c.AttrInt("output_datatype", int64(onnxfile.Float)))
	c.shape(0, d, []term{c.scalarInput(0).dim()})
}
