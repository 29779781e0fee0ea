package inspect

import (
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// compressRule keeps the elements, or the slices along an axis, whose condition
// is true; how many they are is known only with the condition.
func compressRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	kept := term{}
	// A condition longer than what it selects from is not worth a guess.
	count := func(of term) {
		v := c.value(1)
		n, ok := of.number()
		if v == nil || !ok || int64(len(v.e)) > n {
			return
		}
		k := int64(0)
		for _, e := range v.e {
			if !e.is(0) && !e.is(1) {
				return
			}
			k += e.k
		}
		kept = integer(k)
	}
	if c.Attr("axis") == nil {
		if x.known {
			count(productTerm(x.shape))
		}
		c.shape(0, x.dtype, []term{kept})
		return
	}
	if !x.known {
		return
	}
	a, ok := axis(c.AttrInt("axis", 0), len(x.shape))
	if !ok {
		return
	}
	count(x.shape[a])
	out := slices.Clone(x.shape)
	out[a] = kept
	c.shape(0, x.dtype, out)
}

func uniqueRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	for _, i := range []int{1, 2, 3} {
		c.shape(i, onnxfile.Int64, unknowns(1))
	}
	if c.Attr("axis") == nil {
		c.shape(0, x.dtype, unknowns(1))
		if x.known {
			c.shape(2, onnxfile.Int64, []term{productTerm(x.shape)})
		}
		return
	}
	if !x.known {
		return
	}
	a, ok := axis(c.AttrInt("axis", 0), len(x.shape))
	if !ok {
		return
	}
	out := slices.Clone(x.shape)
	out[a] = term{}
	c.shape(0, x.dtype, out)
	c.shape(2, onnxfile.Int64, []term{x.shape[a]})
}

func gatherNDRule(c *call) {
	x, idx := c.in(0), c.in(1)
	c.typed(0, x.dtype)
	if !x.known || !idx.known || len(idx.shape) == 0 {
		return
	}
	last := len(idx.shape) - 1
	depth, ok := idx.shape[last].number()
	batch := c.AttrInt("batch_dims", 0)
	if !ok || depth < 0 || batch < 0 || batch > maxRank || depth > maxRank || batch+depth > int64(len(x.shape)) || batch > int64(last) {
		return
	}
	c.shape(0, x.dtype, slices.Concat(idx.shape[:last], x.shape[batch+depth:]))
}

func bitCastRule(c *call) {
	t := c.in(0)
	t.value, t.dtype = nil, onnxfile.DType(c.AttrInt("to", 0))
	c.set(0, t)
}

func randomRule(c *call) {
	d := onnxfile.DType(c.AttrInt("dtype", int64(onnxfile.Float)))
	c.typed(0, d)
	if a := c.Attr("shape"); a != nil && len(a.GetInts()) <= maxRank {
		c.set(0, tensor{dtype: d}.withDims(a.GetInts()))
	}
}

func multinomialRule(c *call) {
	x := c.in(0)
	d := onnxfile.DType(c.AttrInt("dtype", int64(onnxfile.Int32)))
	out := []term{{}, integer(c.AttrInt("sample_size", 1)).dim()}
	if x.known && len(x.shape) == 2 {
		out[0] = x.shape[0]
	}
	c.shape(0, d, out)
}

func lossRule(c *call) {
	x, target := c.in(0), c.in(1)
	if c.AttrString("reduction", "mean") != "none" {
		c.shape(0, x.dtype, nil)
	} else {
		target.dtype, target.value = x.dtype, nil
		c.set(0, target)
	}
	x.value = nil
	c.set(1, x)
}
