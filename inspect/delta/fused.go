package delta

import (
	"cmp"
	"slices"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// contrib is the domain of ONNX Runtime's own operators, which it writes into
// models that it has optimised.
const contrib = "com.microsoft"

// unfuse takes apart operators of ONNX Runtime that stand for several of the
// standard: a convolution or a product with the activation after it, and
// x*sigmoid(x). It returns false when n is to be taken as it stands.
func (c *canon) unfuse(s *scope, n *inspect.Node) (bool, error) {
	out := n.Output(0)
	if out == "" || len(n.Outputs) != 1 {
		return false, nil
	}
	switch n.Op {
	case "QuickGelu":
		if n.AttrFloat("alpha", 1.702) != 1 {
			return false, nil
		}
		x := c.lookup(s, n.Input(0))
		gate := &op{kind: "Sigmoid", ins: []ref{x}, slots: []int{0}, nodes: []*inspect.Node{n}, g: s.g, outs: n.Outputs}
		c.add(gate)
		product := &op{kind: "Mul", ins: []ref{x, {op: gate}}, slots: []int{0, 1}, nodes: []*inspect.Node{n}, g: s.g, outs: n.Outputs}
		c.add(product)
		s.env[out] = ref{op: product}
		return true, nil
	case "FusedConv", "FusedGemm":
		activation, ok := activationOf(n)
		if !ok {
			return false, nil
		}
		plain := *n
		plain.Domain, plain.Op = "", n.Op[len("Fused"):]
		plain.Inputs = n.Inputs[:min(3, len(n.Inputs))]
		if done, err := c.layer(s, &plain); !done || err != nil {
			return false, err
		}
		last := s.env[out].op
		last.nodes = []*inspect.Node{n}
		if sum := n.Input(3); sum != "" {
			// FusedConv adds another tensor before the activation.
			add := &op{kind: "Add", ins: []ref{{op: last}, c.lookup(s, sum)}, slots: []int{0, 1}, nodes: []*inspect.Node{n}, g: s.g, outs: n.Outputs}
			c.add(add)
			last = add
		}
		activation.ins, activation.slots, activation.nodes, activation.g, activation.outs = []ref{{op: last}}, []int{0}, []*inspect.Node{n}, s.g, n.Outputs
		c.add(activation)
		s.env[out] = ref{op: activation}
		return true, nil
	}
	return false, nil
}

// activationOf returns the activation of a fused operator, with the parameters
// that FusedConv lists and FusedGemm names.
func activationOf(n *inspect.Node) (*op, bool) {
	o := &op{kind: n.AttrString("activation", "")}
	var names []string
	switch o.kind {
	case "Relu", "Sigmoid", "Tanh":
	case "LeakyRelu":
		names = []string{"alpha"}
	case "HardSigmoid":
		names = []string{"alpha", "beta"}
	case "Clip":
		names = []string{"min", "max"}
	default:
		return nil, false
	}
	params := n.Attr("activation_params").GetFloats()
	for i, name := range names {
		var v float32
		switch a := n.Attr("activation_" + name); {
		case i < len(params):
			v = params[i]
		case a != nil && a.F != nil:
			v = a.GetF()
		default:
			continue
		}
		if a := (attribute{name, number(float64(v), onnxfile.Float)}); !isDefault(o.kind, a) {
			o.attrs = append(o.attrs, a)
		}
	}
	slices.SortFunc(o.attrs, func(a, b attribute) int { return cmp.Compare(a.name, b.name) })
	return o, true
}
