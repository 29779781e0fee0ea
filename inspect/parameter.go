package inspect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// maxSources bounds how many tensors are looked at on the way back from a
// computed weight to the stored ones.
const maxSources = 256

// A computed weight follows from stored numbers alone.
type computed struct {
	key   any
	from  []weight // stored tensors, each once
	size  int64
	known bool // size
}

// none tells whether there is no weight.
func (w weight) none() bool { return w.dense == nil && w.sparse == nil && w.computed == nil }

// key identifies the numbers; names repeat across scopes.
func (w weight) key() any {
	switch {
	case w.computed != nil:
		return w.computed.key
	case w.dense != nil:
		return w.dense
	}
	return w.sparse
}

// from lists the stored tensors that the weight is made of.
func (w weight) from() []weight {
	if w.computed != nil {
		return w.computed.from
	}
	return []weight{w}
}

// elements counts those of the dense shape. It is not ok where that is not
// known or impossible.
func (w weight) elements() (int64, bool) {
	switch {
	case w.computed != nil:
		return w.computed.size, w.computed.known
	case w.packed != nil:
		return *w.packed, true
	case w.sparse != nil:
		return product(w.sparse.GetDims()...)
	}
	return product(w.dense.GetDims()...)
}

// parameter finds the weight behind a tensor: a stored one as weight does, or
// one that is computed from stored numbers.
//
// Two computed weights are the same when the same node computes them from the
// same stored tensors, so that a function which is called twice with one weight
// has it once. One that has as many elements as exactly one of the stored
// tensors that it comes from counts as that tensor: scaled, shifted, rearranged.
func (g *Graph) parameter(tensor string) (w weight, ok bool) {
	if tensor == "" {
		return w, false
	}
	if w, ok = g.weight(tensor); ok {
		return w, true
	}
	if g, tensor = g.origin(tensor); g == nil {
		return weight{}, false
	}
	n := g.producer[tensor]
	if n == nil || !g.fixed(tensor) && !g.foreignButFixed(n) {
		return weight{}, false
	}
	c := &computed{}
	g.sources(tensor, c)
	t := g.lookup(tensor)
	if t.known {
		c.size, c.known = productOf(t.shape).number()
	}
	same := 0
	var names strings.Builder
	for _, s := range c.from {
		fmt.Fprintf(&names, "%p ", s.key())
		if k, ok := s.elements(); ok && c.known && k == c.size {
			c.key = s.key()
			same++
		}
	}
	if same != 1 {
		c.key = struct {
			node         *onnxpb.NodeProto
			output, from string
		}{n.Proto, tensor, names.String()}
	}
	return weight{computed: c}, true
}

// foreignButFixed tells whether n is an operator that nobody knows over what
// does not change.
func (g *Graph) foreignButFixed(n *Node) bool {
	return len(n.Inputs) > 0 && len(n.bodies) == 0 && n.function == nil && !n.Standard() &&
		!slices.ContainsFunc(n.Inputs, func(in string) bool { return in != "" && !g.fixed(in) })
}

// origin follows a tensor out of bodies that are handed it and into functions
// that make it, to the graph that owns it; nil when there is none.
func (g *Graph) origin(tensor string) (*Graph, string) {
	for range 2 * maxCalls {
		if g = g.home(tensor); g == nil {
			return nil, ""
		}
		if g.calls != nil && g.inputs[tensor] != nil {
			tensor, g = g.args[tensor], g.parent
			continue
		}
		b, out := g.returned(tensor)
		if b == nil {
			return g, tensor
		}
		g, tensor = b, out
	}
	return nil, ""
}

// returned returns the body of the function that makes a tensor of g, and what it
// is called there; nil when no such call makes it.
func (g *Graph) returned(tensor string) (*Graph, string) {
	n := g.producer[tensor]
	if n == nil {
		return nil, ""
	}
	b, i := n.callee(), slices.Index(n.Outputs, tensor)
	if b == nil || i < 0 || i >= len(b.outs) || b.outs[i] == "" {
		return nil, ""
	}
	return b, b.outs[i]
}

// sources fills c.from with the stored tensors that another is computed from.
// Those that only say how it is shaped or cut, and the scales and zero points of
// QuantizeLinear and DequantizeLinear, are none of them.
func (g *Graph) sources(tensor string, c *computed) {
	type place struct {
		g    *Graph
		name string
	}
	seen := make(map[place]bool)
	have := make(map[any]bool)
	stack := []place{{g, tensor}}
	for len(stack) > 0 && len(seen) < maxSources {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if p.g, p.name = p.g.origin(p.name); p.g == nil || seen[p] {
			continue
		}
		seen[p] = true
		if w, ok := p.g.weight(p.name); ok {
			if !have[w.key()] {
				have[w.key()] = true
				c.from = append(c.from, w)
			}
			continue
		}
		n := p.g.producer[p.name]
		if n == nil {
			continue
		}
		inputs := dataInputs(n)
		for i := len(inputs) - 1; i >= 0; i-- {
			if inputs[i] != "" {
				stack = append(stack, place{p.g, inputs[i]})
			}
		}
	}
}

// dataInputs returns the inputs of n whose numbers its outputs hold.
func dataInputs(n *Node) []string {
	if !n.Standard() && n.Domain != "com.microsoft" {
		return n.Inputs
	}
	switch n.Op {
	case "ConstantOfShape", "EyeLike", "Shape", "Size", "Range":
		return nil
	case "Where":
		return n.Inputs[min(1, len(n.Inputs)):]
	case "Reshape", "Expand", "Tile", "Gather", "GatherElements", "GatherND", "Slice", "Split", "Squeeze", "Unsqueeze", "Pad",
		"Resize", "Upsample", "Compress", "Trilu", "TopK", "CastLike", "QuantizeLinear", "DequantizeLinear",
		"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare":
		return n.Inputs[:min(1, len(n.Inputs))]
	}
	return n.Inputs
}
