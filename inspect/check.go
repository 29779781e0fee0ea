package inspect

import (
	"errors"
	"fmt"
	"iter"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Check tells whether the model could run: every tensor that a node reads is
// provided, none is written twice, nothing reads from itself, stored tensors
// have the bytes that their shapes need, and convolutions read as many channels
// as they have weights for.
// It returns the first fault of the main graph, a *GraphError or
// *onnxfile.TensorError, and reads no weights. A nil result is no promise that a
// runtime accepts the model; Findings looks further.
func (m *Model) Check() error {
	g := m.Graph
	fault := func(n *Node, what string) error {
		e := &GraphError{File: m.File, Index: -1, Err: errors.New(what)}
		if n != nil {
			e.Index, e.Node, e.Op, e.Err = n.Index, n.Label(), n.Op, errors.New("it "+what)
		}
		return e
	}
	for x := range g.faults() {
		return fault(x.node, x.what)
	}
	stored := m.Handle.StoredCheck()
	for _, p := range m.Handle.Model.GetGraph().GetInitializer() {
		if err := storedFault(stored, m.Handle.Tensor(p)); err != nil {
			return err
		}
	}
	for i := range m.Layers {
		l := &m.Layers[i]
		if l.Scope != "" {
			continue
		}
		if per, have, ok := m.channels(l); !ok {
			return fault(m.layer(l).node, channelFault(l, per, have))
		}
	}
	return nil
}

// A fault keeps a graph from running: what is wrong with node, or with the whole
// graph when it is nil.
type fault struct {
	code   string
	node   *Node
	tensor string
	what   string
}

// faults yields what keeps g itself from running.
func (g *Graph) faults() iter.Seq[fault] {
	return func(yield func(fault) bool) {
		var e *GraphError
		if errors.As(g.cycle, &e) && !yield(fault{"cycle", g.Nodes[e.Index], "", "is part of a cycle or reads from one; export the model again"}) {
			return
		}
		for _, n := range g.Nodes {
			for _, out := range n.Outputs {
				if first := g.Producer(out); out != "" && first != n &&
					!yield(fault{"written-twice", n, out, fmt.Sprintf("writes tensor %q, which %q writes too; export the model again", out, first.Label())}) {
					return
				}
			}
			for _, in := range n.Inputs {
				if in != "" && !g.Has(in) &&
					!yield(fault{"missing-tensor", n, in, fmt.Sprintf("reads %q, which is neither an input, an initializer nor any node's output; export the model again", in)}) {
					return
				}
			}
		}
		for _, name := range g.outputNames() {
			if !g.Has(name) && !yield(fault{"output-missing", nil, name, fmt.Sprintf("no node makes the output %q; export the model again", name)}) {
				return
			}
		}
	}
}

// outputNames returns the names of what comes out of g, those without a name left
// out.
func (g *Graph) outputNames() []string {
	var names []string
	if fn := g.Function(); fn != nil {
		names = append(names, fn.GetOutput()...)
	}
	for _, v := range g.proto().GetOutput() {
		names = append(names, v.GetName())
	}
	kept := names[:0]
	for _, name := range names {
		if name != "" || g.parent == nil {
			kept = append(kept, name)
		}
	}
	return kept
}

// storedFault tells why the bytes of a tensor do not fit its shape or are not
// there, without reading them; check is a StoredCheck. Types whose size is not
// known always fit.
func storedFault(check func(onnxfile.Tensor) error, t onnxfile.Tensor) error {
	if t.DType().Bits() == 0 {
		return nil // strings and types of the future
	}
	if err := check(t); err != nil && !errors.Is(err, onnxfile.ErrUnsupportedType) {
		return err
	}
	return nil
}

func channelFault(l *Layer, per, have int64) string {
	return fmt.Sprintf("has weights for %d channels in each of %s and reads %q with %d", per, groups(max(l.Group, 1)), l.InTensor, have)
}

// channels returns how many channels of each group a convolution has weights for
// and how many it reads in all, and whether they fit as far as both are known.
func (m *Model) channels(l *Layer) (per, have int64, ok bool) {
	at := m.layer(l)
	if at.node == nil {
		return 0, 0, true
	}
	w, stored := at.graph.Stored(at.node.Input(1))
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
				Err: fmt.Errorf("layer %q reads %d channels in each of %s, the sizes given leave it %d", l.Name, per, groups(max(l.Group, 1)), have)}
		}
	}
	return nil
}
