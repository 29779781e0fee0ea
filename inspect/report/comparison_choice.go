package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
)

// Aspects returns all aspects of a comparison, in the order of a report.
func Aspects() []string {
	return []string{AspectMetadata, AspectNames, AspectWriting, AspectInterface, AspectStructure, AspectWeights, AspectFilters,
		AspectAnswers, AspectActivations, AspectStatistics}
}

// DataAspects returns those of them for which models have to be run.
func DataAspects() []string { return []string{AspectAnswers, AspectActivations, AspectStatistics} }

// countedByDefault are the aspects that decide whether two models are the same
// unless others are asked for: what a program that runs them depends on.
func countedByDefault() []string {
	return []string{AspectInterface, AspectStructure, AspectWeights, AspectFilters, AspectAnswers}
}

// A CompareChoice says what of two models is compared and what counts. The zero
// value compares all that can be told without data.
type CompareChoice struct {
	// Only and Ignore are aspects, and names of operators, layers, tensors or
	// entries of the metadata, in which * stands for any characters. Names in Only
	// leave only those; aspects in Only count, whatever counts otherwise.
	Only, Ignore []string
	// Strict makes all aspects count that are compared, and types of less precision
	// a difference of weights.
	Strict bool
	// Data says that models are run.
	Data bool
}

func split(words []string) (aspects, names []string) {
	for _, w := range words {
		if slices.Contains(Aspects(), w) {
			aspects = append(aspects, w)
		} else {
			names = append(names, w)
		}
	}
	return
}

// Wants tells whether an aspect is compared.
func (c CompareChoice) Wants(aspect string) bool {
	if !c.Data && slices.Contains(DataAspects(), aspect) {
		return false
	}
	only, _ := split(c.Only)
	return (len(only) == 0 || slices.Contains(only, aspect)) && !slices.Contains(c.Ignore, aspect)
}

// Counts tells whether an aspect decides if the models are the same.
func (c CompareChoice) Counts(aspect string) bool {
	return c.Wants(aspect) && (c.Strict || slices.Contains(c.Only, aspect) || slices.Contains(countedByDefault(), aspect))
}

// WantsModels tells whether anything is compared that the files themselves tell.
func (c CompareChoice) WantsModels() bool {
	return slices.ContainsFunc(Aspects(), func(a string) bool { return c.Wants(a) && !slices.Contains(DataAspects(), a) })
}

// Unmatched returns the first word that is neither an aspect nor fits a name of
// the models, "" when there is none.
func (c CompareChoice) Unmatched(models ...*inspect.Model) string {
	_, only := split(c.Only)
	_, ignore := split(c.Ignore)
	words := append(only, ignore...)
	if len(words) == 0 {
		return ""
	}
	found := map[string]bool{}
	for _, m := range models {
		modelNames(m, func(name string) {
			for _, w := range words {
				found[w] = found[w] || matches(w, name)
			}
		})
	}
	for _, w := range words {
		if !found[w] {
			return w
		}
	}
	return ""
}

// modelNames calls yield with all names that a word can fit.
func modelNames(m *inspect.Model, yield func(string)) {
	node := func(name, op string) {
		yield(name)
		yield(LayerName(op, name))
	}
	for _, list := range [][]inspect.Value{m.Inputs, m.Outputs} {
		for _, v := range list {
			yield(v.Name)
		}
	}
	for _, kv := range m.Metadata {
		yield(kv.Key)
	}
	for _, l := range m.Layers {
		node(l.Name, l.Op)
		yield(l.Weight)
		yield(l.Bias)
	}
	if m.Graph == nil {
		return
	}
	for _, n := range m.Graph.Nodes {
		node(n.Label(), n.Op)
		for _, out := range n.Outputs {
			yield(out)
		}
	}
	if m.Handle != nil {
		for _, t := range m.Handle.Model.GetGraph().GetInitializer() {
			yield(t.GetName())
		}
	}
}

// matches tells whether name fits a pattern in which * stands for any characters.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	last := len(parts) - 1
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok || len(rest) < len(parts[last]) || !strings.HasSuffix(rest, parts[last]) {
		return false
	}
	rest = rest[:len(rest)-len(parts[last])]
	for _, p := range parts[1:last] {
		i := strings.Index(rest, p)
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return true
}

// A nameChoice is the part of a choice that names things.
type nameChoice struct{ only, ignore []string }

func fitsAny(words []string, names ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return n != "" && matches(w, n) })
	})
}

// takes tells whether something of these names is compared; whole says of a thing
// with parts that all of them are.
func (c nameChoice) takes(names ...string) bool {
	return (len(c.only) == 0 || fitsAny(c.only, names...)) && !fitsAny(c.ignore, names...)
}

// changeAspect is the aspect that a change of an operator belongs to.
func changeAspect(what string) string {
	switch what {
	case "weight", "bias", "operand":
		return AspectWeights
	case "filters", "filter_order", "channels", "channel_order":
		return AspectFilters
	}
	return AspectStructure
}

// leave takes out of d what is not to be compared.
func (c CompareChoice) leave(d *delta.Delta) {
	names := nameChoice{}
	_, names.only = split(c.Only)
	_, names.ignore = split(c.Ignore)
	d.Model = slices.DeleteFunc(d.Model, func(x delta.Change) bool { return !c.Wants(AspectMetadata) || !names.takes(x.What, x.Name) })
	for _, list := range []*[]delta.ValueDelta{&d.Inputs, &d.Outputs} {
		*list = slices.DeleteFunc(*list, func(v delta.ValueDelta) bool {
			var both []string
			for _, x := range []*inspect.Value{v.A, v.B} {
				if x != nil {
					both = append(both, x.Name)
				}
			}
			return !c.Wants(AspectInterface) || !names.takes(both...)
		})
	}
	d.Nodes = slices.DeleteFunc(d.Nodes, func(n delta.NodeDelta) bool { return !c.wantsNode(&n, names) })
	for i := range d.Nodes {
		c.trim(&d.Nodes[i], names)
	}
	d.Recount()
}

// nodeNames are those that a word can fit to mean the whole operator.
func nodeNames(n *delta.NodeDelta) (names []string) {
	for _, x := range []*delta.Node{n.A, n.B} {
		if x != nil {
			names = append(names, x.Name, LayerName(nodeOp(x), x.Name), x.Output)
		}
	}
	return names
}

// nodeOp is the operator of the file that gave a node its name.
func nodeOp(n *delta.Node) string {
	if len(n.Nodes) > 0 {
		return n.Nodes[0]
	}
	return n.Op
}

func tensorNames(t *delta.TensorDelta) (names []string) {
	for _, x := range []*delta.Tensor{t.A, t.B} {
		if x != nil {
			names = append(names, x.Name)
		}
	}
	return names
}

// position is what a change of an operator calls a tensor of its own.
func position(t *delta.TensorDelta) string {
	if t.What == "operand" {
		return fmt.Sprint(t.Position)
	}
	return ""
}

func (c CompareChoice) wantsNode(n *delta.NodeDelta, names nameChoice) bool {
	own := nodeNames(n)
	switch {
	case fitsAny(names.ignore, own...):
		return false
	case len(names.only) > 0 && !fitsAny(names.only, own...) && !slices.ContainsFunc(n.Tensors, func(t delta.TensorDelta) bool { return fitsAny(names.only, tensorNames(&t)...) }):
		return false
	case n.A == nil || n.B == nil:
		return c.Wants(AspectStructure)
	}
	return c.Wants(AspectStructure) || c.Wants(AspectNames) || c.Wants(AspectWriting) ||
		c.Wants(AspectWeights) && n.Tensors != nil || c.Wants(AspectFilters) && n.Filters != nil
}

// trim takes out of an operator what is not to be compared.
func (c CompareChoice) trim(n *delta.NodeDelta, names nameChoice) {
	part := names
	if fitsAny(names.only, nodeNames(n)...) {
		part.only = nil // it is meant as a whole
	}
	gone := map[[2]string]bool{} // changes of tensors that are left out
	noWeight := false
	n.Tensors = slices.DeleteFunc(n.Tensors, func(t delta.TensorDelta) bool {
		if part.takes(tensorNames(&t)...) {
			return false
		}
		gone[[2]string{t.What, position(&t)}] = true
		noWeight = noWeight || t.What == "weight"
		return true
	})
	if !c.Wants(AspectWeights) || len(n.Tensors) == 0 {
		n.Tensors = nil
	}
	if !c.Wants(AspectFilters) || noWeight {
		n.Filters = nil
	}
	whole := len(part.only) == 0
	n.Changes = slices.DeleteFunc(n.Changes, func(x delta.Change) bool {
		aspect := changeAspect(x.What)
		return !c.Wants(aspect) || gone[[2]string{x.What, x.Name}] || aspect == AspectFilters && noWeight || aspect == AspectStructure && !whole
	})
	if len(n.Changes) == 0 {
		n.Changes = nil
	}
	n.Moved = n.Moved && c.Wants(AspectStructure) && whole
	n.Unclear = n.Unclear && c.Wants(AspectStructure) && whole
	n.Renamed = n.Renamed && c.Wants(AspectNames) && whole
	n.Rewritten = n.Rewritten && c.Wants(AspectWriting) && whole
}
