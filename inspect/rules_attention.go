package inspect

import "github.com/filterlens/filterlens/inspect/onnxfile"

// attentionRule is that of Attention since opset 23. Heads stand either in a
// dimension of their own (4 dimensions) or side by side in the last one (3).
func attentionRule(c *call) {
	q, k, v := c.in(0), c.in(1), c.in(2)
	for i, t := range []tensor{q, k, v, q} {
		c.typed(i, t.dtype)
	}
	qHeads, qLength, _, ok1 := heads(q, c.AttrInt("q_num_heads", 0))
	kHeads, length, kSize, ok2 := heads(k, c.AttrInt("kv_num_heads", 0))
	_, _, vSize, ok3 := heads(v, c.AttrInt("kv_num_heads", 0))
	if !ok1 || !ok2 || !ok3 {
		return
	}
	batch, total := q.shape[0], length
	if c.has(4) {
		past := c.in(4)
		if past.known && len(past.shape) == 4 {
			total = addTerm(past.shape[2], length)
		} else {
			total = term{}
		}
	}
	if len(q.shape) == 4 {
		c.shape(0, q.dtype, []term{batch, qHeads, qLength, vSize})
	} else {
		c.shape(0, q.dtype, []term{batch, qLength, mulTerm(qHeads, vSize)})
	}
	c.shape(1, k.dtype, []term{batch, kHeads, total, kSize})
	c.shape(2, v.dtype, []term{batch, kHeads, total, vSize})
	c.shape(3, q.dtype, []term{batch, qHeads, qLength, total})
}

// heads returns the number of heads of t, its length and the size of a head;
// n is the number that an attribute gives, 0 for none.
func heads(t tensor, n int64) (count, length, size term, ok bool) {
	switch {
	case !t.known:
		return count, length, size, false
	case len(t.shape) == 4:
		return t.shape[1], t.shape[2], t.shape[3], true
	case len(t.shape) != 3:
		return count, length, size, false
	}
	if n > 0 {
		count, size = integer(n), exactTerm(t.shape[2], integer(n))
	}
	return count, t.shape[1], size, true
}

// microsoftAttentionRule is that of com.microsoft's Attention: weights for
// query, key and value stand side by side.
func microsoftAttentionRule(c *call) { packedAttention(c, c.in(0).dtype) }

// qAttentionRule has quantized input and weights; its output has the type of
// their scales.
func qAttentionRule(c *call) { packedAttention(c, c.in(3).dtype) }

func packedAttention(c *call, d onnxfile.DType) {
	x, w := c.in(0), c.in(1)
	c.typed(0, d)
	c.typed(1, d)
	if !x.known || len(x.shape) != 3 {
		return
	}
	out := []term{x.shape[0], x.shape[1], {}}
	if sizes := c.AttrInts("qkv_hidden_sizes"); len(sizes) == 3 {
		out[2] = integer(sizes[2]).dim()
	} else if w.known && len(w.shape) == 2 {
		out[2] = exactTerm(w.shape[1], integer(3))
	}
	c.shape(0, d, out)
	// Keys and values of this step, where there are none of earlier ones.
	if n := c.AttrInt("num_heads", 0); n > 0 && !c.has(4) && c.Op == "Attention" && c.Attr("qkv_hidden_sizes") == nil {
		c.shape(1, d, []term{integer(2), x.shape[0], integer(n), x.shape[1], exactTerm(out[2], integer(n))})
	}
}

// multiHeadAttentionRule is that of com.microsoft's MultiHeadAttention where
// query, key and value are inputs of their own; packed ones stay unknown.
func multiHeadAttentionRule(c *call) {
	q, v := c.in(0), c.in(2)
	for i := range c.out {
		c.typed(i, q.dtype)
	}
	if !q.known || len(q.shape) != 3 || !v.known {
		return
	}
	switch len(v.shape) {
	case 3:
		c.shape(0, q.dtype, []term{q.shape[0], q.shape[1], v.shape[2]})
	case 4:
		c.shape(0, q.dtype, []term{q.shape[0], q.shape[1], mulTerm(v.shape[1], v.shape[3])})
	}
}

// groupQueryAttentionRule says nothing of a packed query.
func groupQueryAttentionRule(c *call) {
	q := c.in(0)
	q.value = nil
	for i := range c.out {
		c.typed(i, q.dtype)
	}
	if c.has(1) && c.has(2) {
		c.set(0, q)
	}
}

func embedLayerNormRule(c *call) {
	ids, words := c.in(0), c.in(2)
	d := words.dtype
	c.typed(0, d)
	c.typed(1, onnxfile.Int32)
	c.typed(2, d)
	if !ids.known || len(ids.shape) != 2 {
		return
	}
	out := []term{ids.shape[0], ids.shape[1], {}}
	if words.known && len(words.shape) == 2 {
		out[2] = words.shape[1]
	}
	c.shape(0, d, out)
	c.shape(1, onnxfile.Int32, ids.shape[:1:1])
	c.shape(2, d, out)
}
