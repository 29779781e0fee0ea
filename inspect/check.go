package inspect

import "fmt"

// Check tells whether the model could run: every tensor that a node reads is
// provided, none is written twice, nothing reads from itself, stored tensors have the bytes that their
// shapes need, and convolutions read as many channels as they have weights for.
// It returns the first fault, a *GraphError or *onnxfile.TensorError, and reads
// no weights. A nil result is no promise that a runtime accepts the model.
func (m *Model) Check() error {
	g := m.Graph
	if _, err := g.Order(); err != nil {
		return err
	}
	fault := func(n *Node, format string, a ...any) error {
		return &GraphError{File: m.File, Index: n.Index, Node: n.Label(), Op: n.Op, Err: fmt.Errorf(format, a...)}
	}
	for _, n := range g.Nodes {
		for _, out := range n.Outputs {
			if first := g.Producer(out); out != "" && first != n {
				return fault(n, "it writes tensor %q, which %q writes too; export the model again", out, first.Label())
			}
		}
		for _, in := range n.Inputs {
			if in != "" && !g.Has(in) {
				return fault(n, "it reads %q, which is neither an input, an initializer nor any node's output; export the model again", in)
			}
		}
	}
	for _, v := range m.Outputs {
		if !g.Has(v.Name) {
			return &GraphError{File: m.File, Index: -1, Err: fmt.Errorf("no node makes the output %q; export the model again", v.Name)}
		}
	}
	for _, p := range m.Handle.Model.GetGraph().GetInitializer() {
		t := m.Handle.Tensor(p)
		if t.DType().Bits() == 0 {
			continue // strings and types of the future
		}
		if _, err := t.Raw(nil); err != nil {
			return err
		}
	}
	for i := range m.Layers {
		l := &m.Layers[i]
		if per, have, ok := m.channels(l); !ok {
			return fault(g.Nodes[l.Node], "it has weights for %d channels in each of %d groups and reads %q with %d", per, max(l.Group, 1), l.InTensor, have)
		}
	}
	return nil
}

// channels returns how many channels of each group a convolution has weights for
// and how many it reads in all, and whether they fit as far as both are known.
func (m *Model) channels(l *Layer) (per, have int64, ok bool) {
	if l.Scope != "" {
		return 0, 0, true // it may be in a branch that is there for other shapes
	}
	w, stored := m.Graph.Stored(m.Graph.Nodes[l.Node].Input(1))
	if l.Op != "Conv" || !stored || len(w.Tensor.Dims()) < 2 || len(l.In.Dims) < 2 || len(w.Through) > 0 {
		return 0, 0, true
	}
	group := max(l.Group, 1)
	have, per = l.In.Dims[1].Value, w.Tensor.Dims()[1]
	return per, have, have < 0 || per <= 0 || have%group == 0 && have/group == per
}

// checkChannels refuses sizes given by opt that a convolution cannot read.
func (m *Model) checkChannels(opt Options) error {
	if len(opt.InputShapes) == 0 && len(opt.Dims) == 0 {
		return nil
	}
	for i := range m.Layers {
		l := &m.Layers[i]
		if per, have, ok := m.channels(l); !ok {
			return &OptionError{File: m.File,
				Err: fmt.Errorf("layer %q reads %d channels in %d groups, the sizes given leave it %d", l.Name, per, max(l.Group, 1), have)}
		}
	}
	return nil
}
