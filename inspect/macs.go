package inspect

import "strings"

// operands says what an operator computes with: the positions of the tensor that
// it reads, of its weight, its bias and its further weights, -1 for none.
type operands struct {
	x, w, b int
	others  []int
	// either: the stored one of x and w is the weight. needs: without a stored
	// weight the node is no layer.
	either, needs bool
	// window: the node is a convolution whose weight lies as in Conv.
	window bool
	// cost returns the multiply-accumulates of a node, unknown when they do not
	// follow from the shapes; it is nil where none count.
	cost func(*call) term
}

func conv(x, w, b int) (operands, bool) {
	return operands{x: x, w: w, b: b, window: true, cost: func(c *call) term {
		// Each output reads one kernel over the channels of its group.
		return perPosition(c, c.Output(0), c.Input(w))
	}}, true
}

func normalisation(w, b int, others ...int) (operands, bool) {
	return operands{w: w, b: b, others: others}, true
}

func matMul(x, w, b int, either bool, cost func(*call) term) (operands, bool) {
	return operands{x: x, w: w, b: b, either: either, needs: true, cost: cost}, true
}

// operandsOf is the table of operators that compute with parameters or whose
// multiply-accumulates count. It is not ok for others.
func operandsOf(domain, op string) (o operands, ok bool) {
	switch plainDomain(domain) {
	case "":
		return standardOperands(op)
	case "com.microsoft":
		return microsoftOperands(op)
	case "com.microsoft.nchwc":
		if op == "Conv" {
			return conv(0, 1, 2)
		}
	case "com.ms.internal.nhwc":
		// How weights lie there is up to the provider.
		switch op {
		case "Conv", "FusedConv", "ConvTranspose":
			return operands{w: 1, b: 2, cost: unknownCost}, true
		case "QLinearConv":
			return operands{w: 3, b: 8, cost: unknownCost}, true
		}
	}
	return o, false
}

func standardOperands(op string) (o operands, ok bool) {
	switch op {
	case "Conv":
		return conv(0, 1, 2)
	case "QLinearConv":
		return conv(0, 3, 8)
	case "ConvInteger":
		return conv(0, 1, -1)
	case "DeformConv":
		return conv(0, 1, 3)
	case "ConvTranspose":
		return operands{w: 1, b: 2, window: true, cost: func(c *call) term {
			// Each input writes one kernel over the channels of its group.
			return perPosition(c, c.Input(0), c.Input(1))
		}}, true
	case "Gemm":
		return matMul(0, 1, 2, true, gemmCost(0, 1))
	case "MatMul", "MatMulInteger":
		return matMul(0, 1, -1, true, matMulCost(0, 1))
	case "QLinearMatMul":
		return matMul(0, 3, -1, false, matMulCost(0, 3))
	case "Einsum":
		return matMul(0, 1, -1, true, einsumCost)
	case "LSTM":
		return operands{w: 1, b: 3, others: []int{2, 7}, cost: recurrentCost(4)}, true
	case "GRU":
		return operands{w: 1, b: 3, others: []int{2}, cost: recurrentCost(3)}, true
	case "RNN":
		return operands{w: 1, b: 3, others: []int{2}, cost: recurrentCost(1)}, true
	case "Attention":
		return operands{w: -1, b: -1, needs: true, cost: attentionCost}, true
	case "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization":
		return normalisation(1, 2)
	case "RMSNormalization", "SimplifiedLayerNormalization", "PRelu":
		return normalisation(1, -1)
	}
	return o, false
}

// microsoftOperands is the table of com.microsoft:
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
func microsoftOperands(op string) (o operands, ok bool) {
	switch op {
	case "FusedConv":
		return conv(0, 1, 2)
	case "QLinearConv":
		return conv(0, 3, 8)
	case "NhwcFusedConv":
		return operands{w: 1, b: 2, cost: unknownCost}, true
	case "FusedGemm":
		return matMul(0, 1, 2, true, gemmCost(0, 1))
	case "QGemm":
		return matMul(0, 3, 6, false, gemmCost(0, 3))
	case "FusedMatMul", "FusedMatMulActivation", "TransposeMatMul", "MatMulInteger16":
		return matMul(0, 1, -1, true, matMulCost(0, 1))
	case "GemmFastGelu":
		return matMul(0, 1, 2, false, matMulCost(0, 1))
	case "DynamicQuantizeMatMul":
		return matMul(0, 1, 4, false, matMulCost(0, 1))
	case "MatMulIntegerToFloat":
		return matMul(0, 1, 6, false, matMulCost(0, 1))
	case "MatMulNBits":
		return matMul(0, 1, 5, false, packedCost)
	case "MatMulBnb4":
		return matMul(0, 1, -1, false, packedCost)
	case "DynamicQuantizeLSTM":
		return operands{w: 1, b: 3, others: []int{2, 7}, cost: recurrentCost(4)}, true
	case "Attention":
		return operands{w: 1, b: 2, cost: packedAttentionCost(4)}, true
	case "QAttention":
		return operands{w: 1, b: 2, cost: packedAttentionCost(8)}, true
	case "MultiHeadAttention":
		return operands{w: -1, b: 3, needs: true, cost: multiHeadCost}, true
	case "GroupQueryAttention", "SparseAttention", "PagedAttention", "LinearAttention", "DecoderAttention",
		"DecoderMaskedSelfAttention", "DecoderMaskedMultiHeadAttention", "PackedAttention", "PackedMultiHeadAttention",
		"LongformerAttention", "EPContext":
		return operands{w: -1, b: -1, needs: true, cost: unknownCost}, true
	case "SkipLayerNormalization":
		return normalisation(2, 3, 4)
	case "SkipSimplifiedLayerNormalization":
		return normalisation(2, 3)
	case "GroupNorm":
		return normalisation(1, 2)
	case "SkipGroupNorm":
		return normalisation(1, 2, 4)
	case "EmbedLayerNormalization":
		return normalisation(5, 6)
	}
	return o, false
}

// unfamiliar tells whether nothing is known of n: neither how its outputs follow
// from its inputs nor what it computes with.
func (g *Graph) unfamiliar(n *Node) bool {
	_, known := operandsOf(n.Domain, n.Op)
	return !known && n.function == nil && len(n.bodies) == 0 && g.rule(n) == nil
}

// macs returns the multiply-accumulates of n, -1 when they are not known; 0 and
// not ok for an operator that is not counted.
func (g *Graph) macs(n *Node) (count int64, ok bool) {
	o, known := operandsOf(n.Domain, n.Op)
	if !known || o.cost == nil {
		return 0, false
	}
	if _, clashes := g.clashes[n]; clashes {
		return -1, true
	}
	c := call{g: g, Node: n, opset: g.Opset(n.Domain)}
	if k, ok := o.cost(&c).number(); ok && k >= 0 {
		return k, true
	}
	return -1, true
}

func unknownCost(*call) term { return term{} }

// dims returns the shape of a tensor for the batch that counts.
func (c *call) dims(tensor string) ([]term, bool) {
	t := c.g.lookup(tensor)
	if tensor == "" || !t.known {
		return nil, false
	}
	out := make([]term, len(t.shape))
	for i, d := range t.shape {
		out[i] = d.at(c.g.batch)
	}
	return out, true
}

// productOf multiplies; of nothing it is 1.
func productOf(lists ...[]term) term {
	p := integer(1)
	for _, list := range lists {
		for _, d := range list {
			p = mulTerm(p, d)
		}
	}
	return p
}

// perPosition is the cost of a convolution: every element of a tensor meets the
// weights of one channel.
func perPosition(c *call, tensor, weight string) term {
	t, ok1 := c.dims(tensor)
	w, ok2 := c.dims(weight)
	if !ok1 || !ok2 || len(w) < 3 {
		return term{}
	}
	return productOf(t, w[1:])
}

func gemmCost(a, b int) func(*call) term {
	return func(c *call) term {
		out, ok := c.dims(c.Output(0))
		if !ok {
			return term{}
		}
		k := term{}
		if x, ok := c.dims(c.Input(a)); ok && len(x) == 2 {
			k = x[b2i(c.AttrInt("transA", 0) == 0)]
		}
		if y, ok := c.dims(c.Input(b)); ok && len(y) == 2 && k.kind == unknownTerm {
			k = y[b2i(c.AttrInt("transB", 0) != 0)]
		}
		return mulTerm(productOf(out), k)
	}
}

func matMulCost(a, b int) func(*call) term {
	return func(c *call) term {
		out, ok := c.dims(c.Output(0))
		x, known := c.dims(c.Input(a))
		if !ok || !known || len(x) == 0 {
			return term{}
		}
		standard := c.Standard()
		at := len(x) - 1
		if !standard && c.AttrInt("transA", 0) != 0 && at > 0 {
			at--
		}
		k := x[at]
		if _, fixed := k.number(); !fixed {
			if y, ok := c.dims(c.Input(b)); ok && len(y) > 0 {
				at := max(0, len(y)-2)
				if !standard && c.AttrInt("transB", 0) != 0 {
					at = len(y) - 1
				}
				k = y[at]
			}
		}
		return mulTerm(productOf(out), k)
	}
}

// packedCost is that of a MatMul whose weight of K times N numbers is packed.
func packedCost(c *call) term {
	out, ok := c.dims(c.Output(0))
	if !ok {
		return term{}
	}
	return mulTerm(productOf(out), integer(c.AttrInt("K", -1)).dim())
}

// einsumCost is the product of the sizes of all indices of two operands; one
// operand multiplies nothing.
func einsumCost(c *call) term {
	switch len(c.Inputs) {
	case 1:
		return integer(0)
	case 2:
	default:
		return term{} // the order of more decides
	}
	e, ok := readEinsum(c)
	if !ok {
		return term{}
	}
	wide, ok := broadcast(e.wide...)
	if !ok {
		return term{}
	}
	p := productOf(wide)
	for _, d := range e.size {
		p = mulTerm(p, d)
	}
	return p.at(c.g.batch)
}

// recurrentCost multiplies input and state by the weights of each gate, in every
// step and direction.
func recurrentCost(gates int64) func(*call) term {
	return func(c *call) term {
		x, ok1 := c.dims(c.Input(0))
		r, ok2 := c.dims(c.Input(2)) // directions x gates*hidden x hidden, or the last two swapped
		if !ok1 || len(x) != 3 {
			return term{}
		}
		directions, hidden := integer(1), integer(c.AttrInt("hidden_size", -1)).dim()
		if c.AttrString("direction", "forward") == "bidirectional" {
			directions = integer(2)
		}
		if hidden.kind == unknownTerm && c.Standard() && ok2 && len(r) == 3 {
			hidden = r[2]
		}
		return productOf(x[:2], []term{directions, integer(gates), hidden, addTerm(x[2], hidden)})
	}
}

// attentionCost is that of the standard Attention: every query meets the key and
// the value of each position.
func attentionCost(c *call) term {
	part := func(i int, n string) (count, length, size term, batch term, ok bool) {
		d, known := c.dims(c.Input(i))
		count, length, size, ok = heads(tensor{known: known, shape: d}, c.AttrInt(n, 0))
		if ok {
			batch = d[0]
		}
		return count, length, size, batch, ok
	}
	n, queries, kSize, batch, ok1 := part(0, "q_num_heads")
	_, length, _, _, ok2 := part(1, "kv_num_heads")
	_, _, vSize, _, ok3 := part(2, "kv_num_heads")
	if !ok1 || !ok2 || !ok3 {
		return term{}
	}
	if c.has(4) {
		past, ok := c.dims(c.Input(4))
		if !ok || len(past) != 4 {
			return term{}
		}
		length = addTerm(past[2], length)
	}
	return productOf([]term{batch, n, queries, length, addTerm(kSize, vSize)})
}

// packedAttentionCost is that of com.microsoft's Attention, given the position
// of the keys and values of earlier steps: the weights of query, key and value
// stand side by side.
func packedAttentionCost(past int) func(*call) term {
	return func(c *call) term {
		x, ok1 := c.dims(c.Input(0))
		w, ok2 := c.dims(c.Input(1))
		if !ok1 || !ok2 || len(x) != 3 || len(w) != 2 || c.has(past) {
			return term{}
		}
		kv := mulTerm(integer(2), exactTerm(w[1], integer(3)))
		if sizes := c.AttrInts("qkv_hidden_sizes"); len(sizes) == 3 {
			kv = addTerm(integer(sizes[1]).dim(), integer(sizes[2]).dim())
		}
		each := addTerm(productOf(x[2:], w[1:]), mulTerm(x[1], kv))
		return mulTerm(productOf(x[:2]), each)
	}
}

// multiHeadCost knows query, key and value where each is an input of its own.
func multiHeadCost(c *call) term {
	q, ok1 := c.dims(c.Input(0))
	k, ok2 := c.dims(c.Input(1))
	v, ok3 := c.dims(c.Input(2))
	if !ok1 || !ok2 || !ok3 || len(q) != 3 || len(k) != 3 || len(v) != 3 || c.has(6) || c.has(7) {
		return term{}
	}
	return productOf(q[:2], []term{k[1], addTerm(q[2], v[2])})
}

// qualifiedOp names an operator as Layer.Op does.
func qualifiedOp(domain, op string) string {
	if domain = plainDomain(domain); domain != "" {
		return domain + "." + op
	}
	return op
}

// splitOp undoes qualifiedOp.
func splitOp(name string) (domain, op string) {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return "", name
}

// multiplies tells whether the multiply-accumulates of an operator count.
func multiplies(domain, op string) bool {
	o, ok := operandsOf(domain, op)
	return ok && o.cost != nil
}

// packs tells whether several numbers of an operator's weight share an element.
func packs(domain, op string) bool {
	return domain == "com.microsoft" && (op == "MatMulNBits" || op == "MatMulBnb4")
}
