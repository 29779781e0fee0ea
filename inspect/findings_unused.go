package inspect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// unused adds inputs and initializers that nothing reads, and nodes whose results
// reach no output.
func (f *finder) unused() {
	kept := f.kept()
	for _, g := range f.graphs {
		main := g.Graph == f.m.Graph
		idle := func(name string) bool {
			return name != "" && len(g.Consumers(name)) == 0 && !g.IsOutput(name) && !(main && kept[name])
		}
		if main {
			for _, v := range g.proto().GetInput() {
				if name := v.GetName(); g.IsInput(name) && idle(name) {
					f.add("unused-input", place{tensor: name}, "no node reads the input %q; leave it out", name)
				}
			}
		}
		for _, t := range g.proto().GetInitializer() {
			if name := t.GetName(); idle(name) {
				t := f.m.Handle.Tensor(t)
				f.add("unused-initializer", place{scope: g.scope, tensor: name}, "no node reads the initializer %q (%s, %d bytes); remove it", name, typeAndShape(t), t.StoredBytes())
			}
		}
		for _, t := range g.proto().GetSparseInitializer() {
			if name := t.GetValues().GetName(); idle(name) {
				f.add("unused-initializer", place{scope: g.scope, tensor: name}, "no node reads the sparse initializer %q; remove it", name)
			}
		}
		f.deadNodes(g, kept)
	}
}

// deadNodes adds the last node of every part of g that reaches no output; what
// works for it alone is counted.
func (f *finder) deadNodes(g locatedGraph, kept map[string]bool) {
	main := g.Graph == f.m.Graph
	if len(g.outputs) == 0 && g.Function() == nil || g.cycle != nil {
		return // a model without outputs, as tests have, is no reason to call all of it dead
	}
	reads := make([][]string, len(g.Nodes)) // in graphs nested in a node too
	for name, nodes := range g.consumers {
		for _, n := range nodes {
			reads[n.Index] = append(reads[n.Index], name)
		}
	}
	alive := make([]bool, len(g.Nodes))
	var stack []*Node
	reach := func(name string) {
		if n := g.Producer(name); n != nil && !alive[n.Index] {
			alive[n.Index] = true
			stack = append(stack, n)
		}
	}
	for name := range g.outputs {
		reach(name)
	}
	if main {
		for name := range kept {
			reach(name)
		}
	}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, name := range reads[n.Index] {
			reach(name)
		}
	}
	for _, n := range g.Nodes {
		f.dead[n.Proto] = !alive[n.Index]
	}
	claimed := make([]bool, len(g.Nodes))
	for _, n := range g.Nodes {
		if alive[n.Index] || slices.ContainsFunc(n.Outputs, func(out string) bool { return out != "" && len(g.Consumers(out)) > 0 }) {
			continue
		}
		before := 0
		claimed[n.Index] = true
		stack = append(stack[:0], n)
		for len(stack) > 0 {
			m := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			for _, name := range reads[m.Index] {
				if p := g.Producer(name); p != nil && !alive[p.Index] && !claimed[p.Index] {
					claimed[p.Index] = true
					before++
					stack = append(stack, p)
				}
			}
		}
		text := described(n) + " reaches no output of the graph"
		if before > 0 {
			text += ", nor " + count(before, "node before it does", "nodes before it do")
		}
		f.add("dead-node", place{scope: g.scope, node: n}, "%s; remove it", text)
	}
}

// shapes adds the nodes that cannot compute with what they read. What hangs on a
// condition may be there for other sizes, so only nodes count that run for certain.
func (f *finder) shapes() {
	main := f.m.Graph
	if !main.trust {
		// The sizes that the model is asked about are no fault of it.
		var err error
		if main, err = NewGraph(f.m.Handle, Options{}); err != nil {
			return
		}
	}
	for scope, g := range main.All() {
		if len(g.clashes) == 0 || !g.certain() {
			continue
		}
		for _, n := range g.Nodes {
			if c, ok := g.clashes[n]; ok && !f.told[n.Proto] && !f.dead[n.Proto] {
				f.add("shapes", place{scope, n, c.tensor}, "%s %s", described(n), c.text)
			}
		}
	}
}

// certain tells whether g runs whenever the model does.
func (g *Graph) certain() bool {
	for ; g.parent != nil; g = g.parent {
		if g.calls == nil {
			return false
		}
	}
	return true
}

// declarations adds types and shapes in the file that contradict what follows
// from the graph.
func (f *finder) declarations() {
	made := make(map[string]bool)
	for _, g := range f.graphs {
		for _, n := range g.Nodes {
			for _, out := range n.Outputs {
				made[out] = true
			}
		}
		for name := range g.inputs {
			made[name] = true
		}
		for name := range g.inits {
			made[name] = true
		}
		for name := range g.sparse {
			made[name] = true
		}
	}
	for _, g := range f.graphs {
		var gone []string
		for _, v := range g.proto().GetValueInfo() {
			name := v.GetName()
			switch {
			case name == "":
			case !g.Has(name):
				// Exporters describe the inside of functions as domain::name/tensor,
				// and some keep what is nested with the main graph.
				if !made[name] && !strings.Contains(name, "::") {
					gone = append(gone, name)
				}
			default:
				f.declared(g, v, "stale-value-info", "value_info")
			}
		}
		if len(gone) > 0 {
			f.add("stale-value-info", place{scope: g.scope, tensor: gone[0]},
				"value_info describes %s that nothing makes: %s; remove it", count(len(gone), "tensor", "tensors"), list(gone))
		}
		for _, v := range g.proto().GetOutput() {
			if g.Has(v.GetName()) && g.Graph == f.m.Graph {
				f.declared(g, v, "stale-output-shape", "the list of outputs")
			}
		}
	}
}

// declared compares a declaration with what was inferred.
func (f *finder) declared(g locatedGraph, v *onnxpb.ValueInfoProto, code, where string) {
	if !g.trust {
		return // the model is asked about at other sizes than it declares
	}
	name := v.GetName()
	t, d := g.at(name), g.fromDeclaration(v.GetType(), name)
	p := place{scope: g.scope, tensor: name}
	if v.GetType().GetTensorType() == nil {
		return
	}
	if t.dtype != 0 && d.dtype != 0 && t.dtype != d.dtype {
		f.add("type-mismatch", p, "%s says that %q is %s, and it is %s; export the model again", where, name, d.dtype, t.dtype)
		return
	}
	if !t.known || !d.known || len(d.shape) == 0 {
		return // some exporters write no dimensions where they know none
	}
	contradicts := len(t.shape) != len(d.shape)
	for i := 0; i < len(t.shape) && !contradicts; i++ {
		have, haveOK := t.shape[i].number()
		want, wantOK := d.shape[i].number()
		contradicts = haveOK && wantOK && have != want
	}
	if contradicts {
		f.add(code, p, "%s says that %q is %s, and it is %s; infer the shapes again", where, name, outerShape(d), outerShape(t))
	}
}

// at returns what is known of a tensor that g can see.
func (g *Graph) at(name string) tensor {
	if h := g.home(name); h != nil {
		return h.tensors[name]
	}
	return tensor{}
}

// batchProbe is a size that batches are given to see whether the graph follows:
// a prime beyond the dimensions of models, so that a number of elements which it
// divides has the batch in it.
const batchProbe = 104729

// batch adds the nodes at which a model that declares a batch of any size breaks
// at other sizes than one.
func (f *finder) batch() {
	if !f.m.Graph.trust {
		return
	}
	probe := make(map[string][]int64)
	for _, v := range f.m.Inputs {
		dims := v.Shape.Dims
		if len(dims) == 0 || dims[0].Value >= 0 {
			continue // a model for one size of batch may have it anywhere
		}
		probe[v.Name] = make([]int64, len(dims))
		for i := range dims {
			probe[v.Name][i] = -1
		}
		probe[v.Name][0] = batchProbe
	}
	if len(probe) == 0 {
		return
	}
	g, err := NewGraph(f.m.Handle, Options{InputShapes: probe})
	if err != nil {
		return
	}
	mixed := f.mixed(g)
	for _, n := range g.order[:g.ordered] {
		if n.function != nil || !n.Standard() {
			continue
		}
		if text := g.baked(n, f.m.Graph, mixed); text != "" {
			f.add("baked-batch", place{node: f.m.Graph.Nodes[n.Index]}, "%s %s", described(n), text)
		}
	}
}

// mixed marks the nodes of g, a graph with batches of batchProbe, from which what
// holds such a batch comes out of the model or runs into a node that cannot compute
// with it, without a Reshape on the way that may put the samples in order again.
func (f *finder) mixed(g *Graph) map[*Node]bool {
	mixed := make(map[*Node]bool)
	for i := g.ordered - 1; i >= 0; i-- {
		n := g.order[i]
		if g.clashes[n].text != "" && f.m.Graph.clashes[f.m.Graph.Nodes[n.Index]].text == "" {
			mixed[n] = true
			continue
		}
		for _, out := range n.Outputs {
			if t := g.at(out); out == "" || !t.known || !slices.ContainsFunc(t.shape, holdsBatch) {
				continue
			}
			mixed[n] = mixed[n] || g.IsOutput(out) || slices.ContainsFunc(g.Consumers(out), func(c *Node) bool { return mixed[c] && c.Op != "Reshape" })
		}
	}
	return mixed
}

// holdsBatch tells whether a dimension of a graph with batches of batchProbe has
// the batch as a factor.
func holdsBatch(d term) bool {
	k, ok := d.number()
	return ok && k > 0 && k%batchProbe == 0
}

// baked tells how a node of a graph with batches of batchProbe breaks at that
// size, "" when it does not or when that is not certain. open is the graph with
// batches of any size, mixed that of g.
func (g *Graph) baked(n *Node, open *Graph, mixed map[*Node]bool) string {
	// What follows from the size of the batch is not fixed.
	ints := func(name string) ([]int64, bool) {
		v, ok := g.Ints(name)
		w, fixed := open.Ints(name)
		return v, ok && fixed && slices.Equal(v, w)
	}
	leads := func(name string) bool {
		t := g.at(name)
		return t.known && len(t.shape) > 0 && t.shape[0].is(batchProbe)
	}
	if !leads(n.Input(0)) && n.Op != "Concat" {
		return ""
	}
	x := g.at(n.Input(0))
	switch n.Op {
	case "Reshape":
		target, ok := ints(n.Input(1))
		if n.Input(1) == "" {
			target, ok = n.AttrInts("shape"), true
		}
		if !ok || len(target) == 0 {
			return ""
		}
		total, left, known := int64(1), false, true
		for i, d := range target {
			if d == 0 && n.AttrInt("allowzero", 0) == 0 {
				if i == 0 {
					return "" // the batch is copied
				}
				known = false
				if i < len(x.shape) {
					d, known = x.shape[i].number()
				}
			}
			if d < 0 {
				left = true
				continue
			}
			var fits bool
			if total, fits = product(total, max(d, 0)); !fits || !known {
				return ""
			}
		}
		if !left {
			if total == 0 || total%batchProbe == 0 {
				return ""
			}
			advice := "export the model with a batch of any size"
			if sample, ok := productTerm(x.shape[1:]).number(); ok && target[0] > 0 && sample == total/target[0] {
				advice = "use 0 or -1 for the first dimension"
			}
			return fmt.Sprintf("has the batch fixed in its shape %s; it fails at any other; %s", FixedShape(target...), advice)
		}
		if target[0] < 1 || len(target) < 2 {
			return ""
		}
		// With a dimension left open it may run, and mixes the samples when the
		// channels stay in their place behind a batch of one.
		if target[0] == 1 && len(target) > 2 && len(x.shape) > 2 && target[1] > 1 && x.shape[1].is(target[1]) {
			return fmt.Sprintf("has a batch of 1 fixed in its shape %v and mixes the samples of any other; use 0 for the first dimension", target)
		}
		// Or when the batch goes into the open one and stays there.
		if mixed[n] {
			return fmt.Sprintf("has the first dimension fixed at %d in its shape %v, so that the batch goes into another one; it fails or mixes the samples at most sizes; use 0 or the size of the batch for the first dimension", target[0], target)
		}
	case "Expand":
		target, ok := ints(n.Input(1))
		if ok && len(target) == len(x.shape) && target[0] > 1 && target[0] != batchProbe {
			return fmt.Sprintf("has the batch %d fixed in its shape; it fails at any other; use 1 for the first dimension", target[0])
		}
	case "Resize", "Upsample":
		if sizes, ok := ints(n.Input(3)); ok && n.Input(3) != "" && n.Op == "Resize" && len(n.AttrInts("axes")) == 0 &&
			len(sizes) == len(x.shape) && sizes[0] != batchProbe {
			return fmt.Sprintf("has the batch %d fixed in its sizes and resamples between samples at any other; give scales or the sizes of the image alone", sizes[0])
		}
	case "Concat":
		first, fixed := "", ""
		for _, in := range n.Inputs {
			t := g.at(in)
			if !t.known || len(t.shape) == 0 {
				return ""
			}
			if a, ok := axis(n.AttrInt("axis", 1), len(t.shape)); !ok || a == 0 {
				return ""
			}
			if k, ok := t.shape[0].number(); ok && k == batchProbe {
				first = in
			} else if ok && g.fixed(in) {
				fixed = in
			}
		}
		if first != "" && fixed != "" {
			k, _ := g.at(fixed).shape[0].number()
			return fmt.Sprintf("joins %q, whose first dimension is fixed at %d, to a batch; it fails at any other size; expand it to the size of the batch", fixed, k)
		}
	}
	return ""
}
