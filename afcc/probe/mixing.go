package probe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect"
)

// acrossSamples tells whether a node whose first input has a sample in each row
// computes over these rows and still gives one for each, so that its numbers depend
// on which samples are run together and no shape shows it.
func acrossSamples(g *inspect.Graph, n *inspect.Node) bool {
	if !n.Standard() {
		return false
	}
	rank := int64(len(g.Shape(n.Input(0)).Dims))
	first := func(axis int64) bool { return axis == 0 || axis < 0 && axis+rank == 0 }
	switch n.Op {
	case "Softmax", "LogSoftmax", "Hardmax", "LayerNormalization", "RMSNormalization", "LpNormalization":
		return first(n.AttrInt("axis", -1))
	case "MeanVarianceNormalization":
		axes := n.AttrInts("axes")
		return axes == nil || slices.ContainsFunc(axes, first) // without axes: 0, 2, 3
	case "CumSum":
		axis, ok := g.Ints(n.Input(1))
		return ok && len(axis) == 1 && first(axis[0])
	case "BatchNormalization":
		return n.AttrInt("training_mode", 0) != 0
	}
	if !strings.HasPrefix(n.Op, "Reduce") {
		return false
	}
	axes := n.AttrInts("axes")
	if axes == nil && n.Input(1) != "" {
		var ok bool
		if axes, ok = g.Ints(n.Input(1)); !ok {
			return false
		}
	}
	if len(axes) == 0 {
		return n.AttrInt("noop_with_empty_axes", 0) == 0
	}
	return slices.ContainsFunc(axes, first)
}

// checkSamples returns a *NotClassifierError when the output of a model whose batch
// is open depends on which samples are run together. Label means come from batches
// of one label, so that nothing measured of such a model would hold.
func checkSamples(m *inspect.Model, in inspect.Value, output string) error {
	batch := in.Shape.Dims[0]
	if batch.Value >= 0 || batch.Name == "" {
		return nil
	}
	order, err := m.Graph.Order()
	if err != nil {
		return err
	}
	needed := map[string]bool{output: true}
	for _, n := range slices.Backward(order) {
		if slices.ContainsFunc(n.Outputs, func(t string) bool { return needed[t] }) && !(n.Standard() && (n.Op == "Shape" || n.Op == "Size")) {
			for _, t := range n.Inputs {
				needed[t] = t != ""
			}
		}
	}
	for _, n := range order {
		dims := m.Graph.Shape(n.Input(0)).Dims
		if len(dims) == 0 || dims[0].Name != batch.Name || !slices.ContainsFunc(n.Outputs, func(t string) bool { return needed[t] }) {
			continue
		}
		if acrossSamples(m.Graph, n) {
			return &NotClassifierError{m.File, fmt.Sprintf("%s %q computes over the samples of a batch, so that answers depend on which are run together; export it with a batch of 1, or as it is used after training",
				n.Op, n.Name)}
		}
	}
	return nil
}
