package inspect

import (
	"fmt"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A storedTensor is one that a model stores numbers in: an initializer, the
// values of a sparse one, or the value of a Constant.
type storedTensor struct {
	scope, name string
	t           onnxfile.Tensor
}

// storedTensors lists the tensors with numbers, each once: those of a graph and
// its Constants before those of the graphs within, otherwise in file order; those
// of a function where it is first called. What no node calls and what is there
// for training comes last.
func (m *Model) storedTensors() []storedTensor {
	var all []storedTensor
	seen := make(map[*onnxpb.TensorProto]bool)
	add := func(scope, name string, p *onnxpb.TensorProto) {
		if p != nil && !seen[p] {
			seen[p] = true
			all = append(all, storedTensor{scope, name, m.Handle.Tensor(p)})
		}
	}
	graph := func(scope string, s source) {
		for _, p := range s.inits {
			add(scope, p.GetName(), p)
		}
		for _, p := range s.sparse {
			add(scope, p.GetValues().GetName(), p.GetValues())
		}
		for _, n := range s.nodes {
			if n.GetOpType() != "Constant" || len(n.GetOutput()) == 0 {
				continue
			}
			for _, a := range n.GetAttribute() {
				add(scope, n.GetOutput()[0], a.T)
				add(scope, n.GetOutput()[0], a.SparseTensor.GetValues())
				add(scope, n.GetOutput()[0], m.Graph.x.constantOf(n, a))
			}
		}
	}
	for _, g := range m.locatedGraphs() {
		if g.calls != nil {
			graph(g.scope, g.calls.body)
		} else {
			graph(g.scope, graphSource(g.proto()))
		}
	}
	// deep walks what has no Graph.
	var deep func(scope string, s source)
	deep = func(scope string, s source) {
		graph(scope, s)
		for _, n := range s.nodes {
			for _, a := range n.GetAttribute() {
				if a.G != nil {
					deep(scope, graphSource(a.G))
				}
				for _, g := range a.Graphs {
					deep(scope, graphSource(g))
				}
			}
		}
	}
	for _, fn := range m.Handle.Model.GetFunctions() {
		deep(fn.GetName(), source{nodes: fn.GetNode()})
	}
	for i, t := range m.Handle.Model.GetTrainingInfo() {
		deep(fmt.Sprintf("training_info[%d]/initialization", i), graphSource(t.GetInitialization()))
		deep(fmt.Sprintf("training_info[%d]/algorithm", i), graphSource(t.GetAlgorithm()))
	}
	return all
}
