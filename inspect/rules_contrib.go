package inspect

import (
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// ruleOfMicrosoft is the table for com.microsoft: what the optimiser and the
// quantiser of ONNX Runtime leave in a model, as far as image models and
// transformers have it.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
func ruleOfMicrosoft(op string) rule {
	switch op {
	case "Gelu", "BiasGelu", "FastGelu", "QuickGelu", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", "BiasSoftmax",
		"RotaryEmbedding", "Trilu", "Inverse":
		return sameRule
	case "SkipLayerNormalization", "SkipSimplifiedLayerNormalization":
		return skipNormRule
	case "QuantizeLinear":
		return quantizeRule
	case "DequantizeLinear":
		return dequantizeRule
	case "QLinearAdd", "QLinearMul":
		return func(c *call) { broadcastInputs(c, c.in(0).dtype, 0, 3) }
	case "QLinearWhere":
		return func(c *call) { broadcastInputs(c, c.in(1).dtype, 0, 1, 4) }
	case "QLinearConcat":
		return qlinearConcatRule
	case "QLinearConv":
		return func(c *call) {
			c.typed(0, c.in(7).dtype)
			if s, ok := convShape(c, channelsFirst(c, c.in(0)), c.in(3)); ok {
				c.shape(0, c.in(7).dtype, channelsBack(c, s))
			}
		}
	case "QLinearAveragePool", "QLinearGlobalAveragePool":
		return func(c *call) {
			x := channelsFirst(c, c.in(0))
			c.typed(0, x.dtype)
			if s, ok := pooled(c, x, op == "QLinearGlobalAveragePool"); ok {
				c.shape(0, x.dtype, channelsBack(c, s))
			}
		}
	case "NhwcMaxPool":
		return func(c *call) {
			x := toFirst(c.in(0))
			c.typed(0, x.dtype)
			if s, ok := pooled(c, x, false); ok {
				c.shape(0, x.dtype, toLast(s))
			}
		}
	case "FusedConv":
		return convRule
	case "NhwcFusedConv":
		return func(c *call) { // how its weight lies is not documented
			x := c.in(0)
			c.typed(0, x.dtype)
			if x.known && len(x.shape) > 2 {
				out := unknowns(len(x.shape))
				out[0] = x.shape[0]
				c.shape(0, x.dtype, out)
			}
		}

	case "FusedGemm":
		return gemmRule
	case "QGemm":
		return qGemmRule
	case "FusedMatMul", "TransposeMatMul":
		return fusedMatMulRule
	case "DynamicQuantizeMatMul":
		return func(c *call) { matMulAs(c, c.in(0).dtype) }
	case "MatMulInteger16":
		return func(c *call) { matMulAs(c, onnxfile.Int32) }
	case "MatMulIntegerToFloat":
		return func(c *call) { matMulAs(c, c.in(2).dtype) }
	case "MatMulNBits":
		return matMulNBitsRule

	case "DynamicQuantizeLSTM":
		return dynamicLSTMRule
	case "Attention":
		return microsoftAttentionRule
	case "QAttention":
		return qAttentionRule
	case "MultiHeadAttention":
		return multiHeadAttentionRule
	case "GroupQueryAttention":
		return groupQueryAttentionRule
	case "EmbedLayerNormalization":
		return embedLayerNormRule
	case "GridSample":
		return gridSampleRule
	}
	return nil
}

// ruleOfBlocked is the table for com.microsoft.nchwc, whose tensors hold their
// channels in blocks. Their shape is that of NCHW with the channels rounded up,
// and the stored weights are rounded up already.
func ruleOfBlocked(op string) rule {
	switch op {
	case "Conv":
		return convRule
	case "MaxPool", "AveragePool":
		return poolRule
	case "GlobalMaxPool", "GlobalAveragePool":
		return globalPoolRule
	case "ReorderInput":
		return reorderInputRule
	case "ReorderOutput":
		return reorderOutputRule
	}
	return nil
}

func broadcastInputs(c *call, d onnxfile.DType, inputs ...int) {
	c.typed(0, d)
	var shapes [][]term
	for _, i := range inputs {
		t := c.in(i)
		if !t.known {
			return
		}
		shapes = append(shapes, t.shape)
	}
	if s, ok := broadcast(shapes...); ok {
		c.shape(0, d, s)
	}
}

// qlinearConcatRule: scale and zero point of the output come first, then
// tensor, scale and zero point of each part.
func qlinearConcatRule(c *call) {
	d := c.in(1).dtype
	c.typed(0, d)
	var parts []tensor
	for i := 2; i < len(c.Inputs); i += 3 {
		parts = append(parts, c.in(i))
	}
	if s, ok := joined(parts, c.AttrInt("axis", 0)); ok && c.Attr("axis") != nil {
		c.shape(0, d, s)
	}
}

// toFirst moves the last dimension, the channels, to the second place; toLast
// moves it back.
func toFirst(t tensor) tensor {
	if n := len(t.shape); t.known && n > 2 {
		t.shape = slices.Concat(t.shape[:1], t.shape[n-1:], t.shape[1:n-1])
	}
	t.value = nil
	return t
}

func toLast(s []term) []term {
	if len(s) < 3 {
		return s
	}
	return slices.Concat(s[:1], s[2:], s[1:2])
}

func channelsFirst(c *call, t tensor) tensor {
	if c.AttrInt("channels_last", 0) != 0 {
		return toFirst(t)
	}
	return t
}

func channelsBack(c *call, s []term) []term {
	if c.AttrInt("channels_last", 0) != 0 {
		return toLast(s)
	}
	return s
}

func qGemmRule(c *call) {
	d := onnxfile.Float
	if c.has(7) {
		d = c.in(8).dtype
	}
	gemmOf(c, d, c.in(0), c.in(3))
}

func matMulAs(c *call, d onnxfile.DType) {
	c.typed(0, d)
	if s, ok := matMulShape(c.in(0), c.in(1)); ok {
		c.shape(0, d, s)
	}
}

func fusedMatMulRule(c *call) {
	a, b := c.in(0), c.in(1)
	c.typed(0, a.dtype)
	if c.AttrInt("transBatchA", 0) != 0 || c.AttrInt("transBatchB", 0) != 0 {
		return
	}
	for t, name := range map[*tensor]string{&a: "transA", &b: "transB"} {
		if n := len(t.shape); c.AttrInt(name, 0) != 0 && t.known {
			if n < 2 {
				return
			}
			t.shape = slices.Clone(t.shape)
			t.shape[n-1], t.shape[n-2] = t.shape[n-2], t.shape[n-1]
		}
	}
	if s, ok := matMulShape(a, b); ok {
		c.shape(0, a.dtype, s)
	}
}

func matMulNBitsRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if x.known && len(x.shape) > 0 {
		c.shape(0, x.dtype, append(slices.Clone(x.shape[:len(x.shape)-1]), integer(c.AttrInt("N", -1)).dim()))
	}
}

func skipNormRule(c *call) {
	sameRule(c)
	c.typed(1, onnxfile.Float)
	c.typed(2, onnxfile.Float)
	if len(c.out) > 3 {
		c.out[3] = c.out[0]
	}
}

// simplifiedLayerNormRule: the output has the type of the scale.
func simplifiedLayerNormRule(c *call) {
	layerNormRule(c)
	c.out[0].dtype = c.in(1).dtype
	if len(c.out) > 2 {
		c.out[2] = tensor{}
	}
}

func dynamicLSTMRule(c *call) {
	directions := term{}
	switch c.AttrString("direction", "forward") {
	case "forward", "reverse":
		directions = integer(1)
	case "bidirectional":
		directions = integer(2)
	}
	recurrent(c, directions, integer(c.AttrInt("hidden_size", -1)).dim(), false)
}

// reorderInputRule fills up the last block of channels. How long a block is
// depends on the machine that the model was optimised on.
func reorderInputRule(c *call) {
	x := channelsFirst(c, c.in(0))
	c.typed(0, x.dtype)
	if x.known && len(x.shape) > 2 {
		out := slices.Clone(x.shape)
		out[1] = term{}
		c.shape(0, x.dtype, out)
	}
}

// reorderOutputRule drops the channels that fill up the last block.
func reorderOutputRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if !x.known || len(x.shape) < 3 {
		return
	}
	out := slices.Clone(x.shape)
	out[1] = integer(c.AttrInt("channels", -1)).dim()
	c.shape(0, x.dtype, channelsBack(c, out))
}
