package inspect

import (
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

func stringSplitRule(c *call) {
	x := c.in(0)
	c.typed(0, stringType)
	c.typed(1, onnxfile.Int64)
	if x.known {
		c.shape(0, stringType, append(slices.Clone(x.shape), term{}))
		c.shape(1, onnxfile.Int64, x.shape)
	}
}

// stringNormalizerRule: without stop words no string is dropped.
func stringNormalizerRule(c *call) {
	x := c.in(0)
	c.typed(0, stringType)
	if !x.known || len(x.shape) == 0 {
		return
	}
	out := slices.Clone(x.shape)
	if last := len(out) - 1; len(c.Attr("stopwords").GetStrings()) > 0 || out[last].is(0) {
		out[last] = term{}
	}
	c.shape(0, stringType, out)
}

func tfIdfRule(c *call) {
	x := c.in(0)
	c.typed(0, onnxfile.Float)
	if !x.known || len(x.shape) < 1 || len(x.shape) > 2 {
		return
	}
	width := term{}
	if idx := c.AttrInts("ngram_indexes"); len(idx) > 0 {
		width = addTerm(integer(slices.Max(idx)), integer(1)).dim()
	}
	c.shape(0, onnxfile.Float, append(slices.Clone(x.shape[:len(x.shape)-1]), width))
}
