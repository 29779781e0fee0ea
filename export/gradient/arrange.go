package gradient

import (
	"slices"

	"github.com/filterlens/filterlens/inspect"
)

// What only moves numbers: the gradient is moved back.

func (b *backward) transposeBackward(n *inspect.Node, dy string) {
	x := n.Input(0)
	rank := len(b.shape[x])
	perm := n.AttrInts("perm")
	if perm == nil {
		for i := range rank {
			perm = append(perm, int64(rank-1-i))
		}
	}
	back := make([]int64, rank)
	for i, p := range perm {
		back[p] = int64(i)
	}
	b.give(x, b.transpose(dy, back...))
}

func (b *backward) concatBackward(n *inspect.Node, dy string) {
	axis := n.AttrInt("axis", 1)
	if axis < 0 {
		axis += int64(len(b.shape[dy]))
	}
	at := int64(0)
	for _, in := range n.Inputs {
		size := b.shape[in][axis]
		if b.active[in] {
			b.give(in, b.slice(dy, []int64{axis}, []int64{at}, []int64{at + size}, []int64{1}))
		}
		at += size
	}
}

func (b *backward) split(n *inspect.Node, dys []string) error {
	x := n.Input(0)
	axis := n.AttrInt("axis", 0)
	if axis < 0 {
		axis += int64(len(b.shape[x]))
	}
	parts := make([]string, len(dys))
	for i, dy := range dys {
		s := b.shape[n.Outputs[i]]
		if s == nil {
			return b.refuse(n, "the shapes of its outputs are not known")
		}
		if dy == "" {
			dy = b.filled(0, s...)
		}
		parts[i] = dy
	}
	b.give(x, b.concat(axis, parts...))
	return nil
}

func (b *backward) padBackward(n *inspect.Node, dy string) error {
	x := n.Input(0)
	s := b.shape[x]
	if mode := n.AttrString("mode", "constant"); mode != "constant" {
		return b.refuse(n, "padding by "+mode+" has no gradient rule")
	}
	pads, ok := b.constantInts(n, "pads", 1)
	if v := n.AttrInts("paddings"); v != nil { // opset 1
		pads = v
	}
	axes, known := []int64(nil), true
	if n.Input(3) != "" {
		axes, known = b.graph.Ints(n.Input(3))
	}
	if !ok || !known {
		return b.refuse(n, "its pads are not constant")
	}
	if axes == nil {
		for i := range s {
			axes = append(axes, int64(i))
		}
	}
	if len(pads) != 2*len(axes) {
		return b.refuse(n, "its pads do not fit its input")
	}
	before, after := make([]int64, len(s)), make([]int64, len(s))
	for i, a := range axes {
		if a < 0 {
			a += int64(len(s))
		}
		if a < 0 || a >= int64(len(s)) {
			return b.refuse(n, "its axes do not fit its input")
		}
		before[a], after[a] = -pads[i], -pads[i+len(axes)]
	}
	b.give(x, b.fit(dy, before, after))
	return nil
}

func (b *backward) sliceBackward(n *inspect.Node, dy string) error {
	x := n.Input(0)
	s := b.shape[x]
	starts, ok1 := b.constantInts(n, "starts", 1)
	ends, ok2 := b.constantInts(n, "ends", 2)
	axes, ok3 := b.constantInts(n, "axes", 3)
	var steps []int64
	ok4 := true
	if n.Input(4) != "" {
		steps, ok4 = b.graph.Ints(n.Input(4))
	}
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return b.refuse(n, "what it cuts out is not constant")
	}
	if axes == nil {
		for i := range starts {
			axes = append(axes, int64(i))
		}
	}
	if steps == nil {
		steps = slices.Repeat([]int64{1}, len(starts))
	}
	if len(ends) != len(starts) || len(axes) != len(starts) || len(steps) != len(starts) {
		return b.refuse(n, "its inputs do not fit each other")
	}
	before, after := make([]int64, len(s)), make([]int64, len(s))
	for i, a := range axes {
		if a < 0 {
			a += int64(len(s))
		}
		if a < 0 || a >= int64(len(s)) {
			return b.refuse(n, "its axes do not fit its input")
		}
		if steps[i] < 1 {
			return b.refuse(n, "negative steps are not supported")
		}
		start := starts[i]
		if start < 0 {
			start += s[a]
		}
		start = min(max(start, 0), s[a])
		dy = b.spread(dy, int(a), steps[i])
		before[a], after[a] = start, s[a]-start-b.shape[dy][a]
	}
	b.give(x, b.fit(dy, before, after))
	return nil
}
