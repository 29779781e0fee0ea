package inspect

import "github.com/filterlens/filterlens/inspect/onnxfile"

func reduceRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known {
		return
	}
	rank := len(x.shape)
	keep := c.AttrInt("keepdims", 1) != 0
	axes := c.AttrInts("axes")
	if c.has(1) {
		given, ok := c.ints(1)
		if !ok {
			if keep {
				c.shape(0, x.dtype, unknowns(rank))
			} else if n := c.in(1); n.known && len(n.shape) == 1 {
				if k, ok := n.shape[0].number(); ok && k > 0 && k <= int64(rank) {
					c.shape(0, x.dtype, unknowns(rank-int(k)))
				}
			}
			return
		}
		axes = given
	}
	if len(axes) == 0 {
		if c.AttrInt("noop_with_empty_axes", 0) != 0 {
			c.shape(0, x.dtype, x.shape)
			return
		}
		for i := range rank {
			axes = append(axes, int64(i))
		}
	}
	set, ok := axesOf(axes, rank)
	if !ok {
		return
	}
	out := make([]term, 0, rank)
	for i, d := range x.shape {
		switch {
		case !set[i]:
			out = append(out, d)
		case keep:
			out = append(out, integer(1))
		}
	}
	c.shape(0, x.dtype, out)
	if c.Op != "ReduceProd" || rank != 1 || len(axes) != 1 {
		return
	}
	if v := c.value(0); v != nil {
		p := &value{e: []term{fit(productTerm(v.e), x.dtype)}}
		if keep {
			p.dims = []int64{1}
		}
		c.keep(0, p)
	}
}

func argRule(c *call) {
	x := c.in(0)
	c.typed(0, onnxfile.Int64)
	if !x.known {
		return
	}
	a, ok := axis(c.AttrInt("axis", 0), len(x.shape))
	if !ok {
		return
	}
	out := append([]term(nil), x.shape[:a]...)
	if c.AttrInt("keepdims", 1) != 0 {
		out = append(out, integer(1))
	}
	c.shape(0, onnxfile.Int64, append(out, x.shape[a+1:]...))
}

func topKRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	c.typed(1, onnxfile.Int64)
	if !x.known {
		return
	}
	a, ok := axis(c.AttrInt("axis", -1), len(x.shape))
	if !ok {
		return
	}
	out := append([]term(nil), x.shape...)
	out[a] = term{}
	if c.Attr("k") != nil {
		out[a] = integer(c.AttrInt("k", 0)).dim()
	} else if k, ok := c.value(1).scalar(); ok {
		out[a] = k.dim()
	}
	c.shape(0, x.dtype, out)
	c.shape(1, onnxfile.Int64, out)
}
