package inspect

import (
	"container/heap"
	"errors"
	"fmt"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A Node is one operator of a graph.
type Node struct {
	// Index is the node's position in its graph.
	Index            int
	Name, Op, Domain string
	// Inputs and Outputs are tensor names; "" stands for an optional one that
	// is left out. They belong to Proto and are not to be changed.
	Inputs, Outputs []string
	Proto           *onnxpb.NodeProto

	attrs    map[string]*onnxpb.AttributeProto
	function *function // that the node calls, nil when it calls none
	bodies   []*Graph  // nested graphs, and the body of the function
}

// Label returns the node's name, else its first output, else its position.
func (n *Node) Label() string {
	if n.Name != "" {
		return n.Name
	}
	if out := n.Output(0); out != "" {
		return out
	}
	return fmt.Sprintf("node %d", n.Index)
}

// Input returns the name of input i, "" when it is left out.
func (n *Node) Input(i int) string {
	if i < 0 || i >= len(n.Inputs) {
		return ""
	}
	return n.Inputs[i]
}

// Output returns the name of output i, "" when it is left out.
func (n *Node) Output(i int) string {
	if i < 0 || i >= len(n.Outputs) {
		return ""
	}
	return n.Outputs[i]
}

// Attr returns the attribute of that name, nil when the node has none.
func (n *Node) Attr(name string) *onnxpb.AttributeProto { return n.attrs[name] }

// AttrInt returns an integer attribute, def when the node has none.
func (n *Node) AttrInt(name string, def int64) int64 {
	if a := n.attrs[name]; a != nil && a.I != nil {
		return a.GetI()
	}
	return def
}

// AttrInts returns a list of integers, nil when the node has none.
func (n *Node) AttrInts(name string) []int64 { return n.attrs[name].GetInts() }

// AttrString returns a string attribute, def when the node has none.
func (n *Node) AttrString(name, def string) string {
	if a := n.attrs[name]; a != nil && a.S != nil {
		return string(a.GetS())
	}
	return def
}

// AttrFloat returns a floating-point attribute, def when the node has none.
func (n *Node) AttrFloat(name string, def float32) float32 {
	if a := n.attrs[name]; a != nil && a.F != nil {
		return a.GetF()
	}
	return def
}

// Standard tells whether the node is an operator of ONNX itself.
func (n *Node) Standard() bool { return n.Domain == "" || n.Domain == "ai.onnx" }

// A Graph is an index over the main graph of a model, over a graph nested in
// an attribute, or over the body of a function as one node calls it: who makes a
// tensor, who reads it, what shape it has, and its numbers where they follow
// from the graph alone. All leads from the main graph to the others. It is safe
// for concurrent use.
//
// In a nested graph the names of the graphs around it are visible too: Has,
// Shape, DType, Ints, Float and Stored find them; Producer, Consumers and
// Initializer speak of the graph itself.
type Graph struct {
	// Nodes holds the nodes in file order.
	Nodes []*Node

	x         *expansion
	file      *onnxfile.File
	producer  map[string]*Node
	consumers map[string][]*Node
	inits     map[string]*onnxpb.TensorProto
	sparse    map[string]*onnxpb.SparseTensorProto
	inputs    map[string]*onnxpb.ValueInfoProto
	outputs   map[string]*onnxpb.ValueInfoProto
	declared  map[string]*onnxpb.ValueInfoProto
	opsets    map[string]int64
	order     []*Node
	ordered   int // so many of order come after all they read
	cycle     error

	nesting
	tensors map[string]tensor
	clashes map[*Node]clash // of what the nodes read
	live    map[string]bool // made by nodes from what is fed or drawn
	batch   map[string]bool // symbols that stand for the batch
	trust   bool            // declared shapes describe what was asked for
	layers  []foundLayer    // of a Model, by Layer.Index
}

// A GraphError says that the graph of a file is not well formed.
type GraphError struct {
	File string
	// Node and Op are those of a node it can be pinned to, at Index.
	Index    int
	Node, Op string
	Err      error
}

func (e *GraphError) Error() string {
	s := e.File + ": "
	if e.Op != "" {
		s += fmt.Sprintf("node %d %q (%s): ", e.Index, e.Node, e.Op)
	}
	return s + e.Err.Error()
}

func (e *GraphError) Unwrap() error { return e.Err }

// NewGraph indexes the main graph of f and the graphs within, and infers their
// shapes. Of opt it reads the shapes, not Weights. A graph with a cycle or with
// missing tensors is indexed all the same: see Order and Has. It fails with an
// *OptionError when opt does not fit the model.
func NewGraph(f *onnxfile.File, opt Options) (*Graph, error) {
	x := newExpansion(f)
	g := &Graph{x: x, file: f, opsets: versions(f.Model.GetOpsetImport())}
	g.index(graphSource(f.Model.GetGraph()))
	x.work = workPerUnit*x.nested + minWork
	g.findLive()
	if err := g.infer(opt); err != nil {
		return nil, err
	}
	return g, nil
}

// A source is what a graph and the body of a function have in common.
type source struct {
	nodes                 []*onnxpb.NodeProto
	inits                 []*onnxpb.TensorProto
	sparse                []*onnxpb.SparseTensorProto
	inputs, outputs, info []*onnxpb.ValueInfoProto
}

func graphSource(pb *onnxpb.GraphProto) source {
	return source{pb.GetNode(), pb.GetInitializer(), pb.GetSparseInitializer(), pb.GetInput(), pb.GetOutput(), pb.GetValueInfo()}
}

// index fills g from s, and the graphs nested in it.
func (g *Graph) index(s source) {
	g.Nodes = make([]*Node, len(s.nodes))
	g.producer = make(map[string]*Node, len(s.nodes))
	g.consumers = make(map[string][]*Node, len(s.nodes))
	g.inits = make(map[string]*onnxpb.TensorProto, len(s.inits))
	g.sparse = make(map[string]*onnxpb.SparseTensorProto, len(s.sparse))
	g.inputs = make(map[string]*onnxpb.ValueInfoProto, len(s.inputs))
	g.outputs = make(map[string]*onnxpb.ValueInfoProto, len(s.outputs))
	g.declared = make(map[string]*onnxpb.ValueInfoProto, len(s.outputs)+len(s.info))
	for _, v := range s.inputs {
		g.inputs[v.GetName()] = v
	}
	for _, t := range s.inits {
		if g.parent == nil || g.inputs[t.GetName()] == nil { // what is fed to a body hides its default
			g.inits[t.GetName()] = t
		}
	}
	for _, t := range s.sparse {
		if name := t.GetValues().GetName(); g.parent == nil || g.inputs[name] == nil {
			g.sparse[name] = t
		}
	}
	for _, v := range s.outputs {
		g.outputs[v.GetName()] = v
		g.declared[v.GetName()] = v
	}
	for _, v := range s.info {
		g.declared[v.GetName()] = v
	}
	if g.parent != nil {
		g.formals(s)
	}
	for i, p := range s.nodes {
		n := g.newNode(i, p)
		g.Nodes[i] = n
		for _, out := range n.Outputs {
			if out != "" && g.producer[out] == nil {
				g.producer[out] = n
			}
		}
		g.nest(n)
	}
	around := make(map[string]bool) // what is read from around g
	for _, n := range g.Nodes {
		seen := make(map[string]bool, len(n.Inputs))
		read := func(name string) {
			switch {
			case name == "" || seen[name]:
				return
			case g.parent != nil && g.calls == nil && !g.owns(name):
				around[name] = true
			default:
				g.consumers[name] = append(g.consumers[name], n)
			}
			seen[name] = true
		}
		for _, in := range n.Inputs {
			read(in)
		}
		for _, b := range n.bodies {
			for name := range b.around {
				read(name)
			}
			b.around = nil
		}
	}
	if g.parent != nil && g.calls == nil {
		for _, name := range g.outs {
			if name != "" && !g.owns(name) {
				around[name] = true
			}
		}
		g.around = around
	}
	g.sort()
}

func plainDomain(d string) string {
	if d == "ai.onnx" {
		return ""
	}
	return d
}

type byIndex []*Node

func (h byIndex) Len() int           { return len(h) }
func (h byIndex) Less(i, j int) bool { return h[i].Index < h[j].Index }
func (h byIndex) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byIndex) Push(x any)        { *h = append(*h, x.(*Node)) }
func (h *byIndex) Pop() any {
	old := *h
	n := old[len(old)-1]
	*h = old[:len(old)-1]
	return n
}

// sort orders the nodes so that each follows those it reads from, and otherwise
// as in the file.
func (g *Graph) sort() {
	waits := make([]int, len(g.Nodes))
	for name, readers := range g.consumers {
		if g.producer[name] != nil {
			for _, r := range readers {
				waits[r.Index]++
			}
		}
	}
	var ready byIndex
	for i, n := range g.Nodes {
		if waits[i] == 0 {
			ready = append(ready, n) // in order, so a heap already
		}
	}
	g.order = make([]*Node, 0, len(g.Nodes))
	released := make(map[string]bool, len(g.producer))
	for len(ready) > 0 {
		n := heap.Pop(&ready).(*Node)
		g.order = append(g.order, n)
		for _, out := range n.Outputs {
			if g.producer[out] != n || released[out] {
				continue
			}
			released[out] = true
			for _, r := range g.consumers[out] {
				if waits[r.Index]--; waits[r.Index] == 0 {
					heap.Push(&ready, r)
				}
			}
		}
	}
	if g.ordered = len(g.order); g.ordered == len(g.Nodes) {
		return
	}
	for i, n := range g.Nodes {
		if waits[i] > 0 {
			if g.cycle == nil {
				g.cycle = &GraphError{File: g.file.Name, Index: i, Node: n.Label(), Op: n.Op,
					Err: errors.New("it is part of a cycle or reads from one")}
			}
			g.order = append(g.order, n)
		}
	}
}

// Order returns the nodes so that each follows those it reads from. When the
// graph has a cycle it also returns a *GraphError, and the nodes that cannot be
// ordered stand last, as in the file.
func (g *Graph) Order() ([]*Node, error) { return g.order, g.cycle }

// Producer returns the node that makes a tensor, nil when it is an input, an
// initializer or missing.
func (g *Graph) Producer(tensor string) *Node { return g.producer[tensor] }

// Consumers returns the nodes of g that read a tensor, in file order, each once;
// a node whose subgraph reads it is one of them. In a nested graph it does not
// tell of tensors from around it.
func (g *Graph) Consumers(tensor string) []*Node { return g.consumers[tensor] }

// IsInput tells whether a tensor has to be fed when the graph runs. An
// initializer that is listed among the inputs, as files of IR version 3 do, is
// none.
func (g *Graph) IsInput(tensor string) bool {
	return g.inputs[tensor] != nil && g.inits[tensor] == nil && g.sparse[tensor] == nil
}

// IsOutput tells whether a tensor is an output of the graph.
func (g *Graph) IsOutput(tensor string) bool { return g.outputs[tensor] != nil }

// Has tells whether anything provides a tensor: an input, an initializer or a
// node, of the graph or of one around it.
func (g *Graph) Has(tensor string) bool { return g.home(tensor) != nil }

// owns tells whether the graph itself provides a tensor.
func (g *Graph) owns(tensor string) bool {
	return g.producer[tensor] != nil || g.inits[tensor] != nil || g.sparse[tensor] != nil || g.inputs[tensor] != nil
}

// Initializer returns the initializer of that name. A sparse one is not found.
func (g *Graph) Initializer(name string) (onnxfile.Tensor, bool) {
	if p := g.inits[name]; p != nil {
		return g.file.Tensor(p), true
	}
	return onnxfile.Tensor{}, false
}

// fixed tells whether a tensor is the same in every run: stored, or computed
// from stored numbers alone.
func (g *Graph) fixed(tensor string) bool {
	for {
		if g = g.home(tensor); g == nil {
			return false
		}
		if g.calls == nil || g.inputs[tensor] == nil {
			return !g.IsInput(tensor) && !g.live[tensor]
		}
		tensor, g = g.args[tensor], g.parent
	}
}

// findLive fills g.live, and those of the graphs within.
func (g *Graph) findLive() {
	g.live = make(map[string]bool, len(g.producer))
	for i, n := range g.order {
		if b := n.callee(); b != nil && i < g.ordered {
			// What a function returns may follow from what is stored.
			b.findLive()
			for j, out := range n.Outputs {
				if g.producer[out] == n && (j >= len(b.outs) || !b.fixed(b.outs[j])) {
					g.live[out] = true
				}
			}
			continue
		}
		live := i >= g.ordered || !n.Standard() && !n.requantizes() || n.function != nil || len(n.bodies) > 0
		switch n.Op {
		case "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial":
			live = true
		}
		for _, in := range n.Inputs {
			live = live || in != "" && !g.fixed(in)
		}
		for _, out := range n.Outputs {
			if live && g.producer[out] == n {
				g.live[out] = true
			}
		}
	}
	for _, n := range g.Nodes {
		for _, b := range n.bodies {
			if b.live == nil {
				b.findLive()
			}
		}
	}
}

// requantizes tells whether n is ONNX Runtime's own form of QuantizeLinear or
// DequantizeLinear, which has further types.
func (n *Node) requantizes() bool {
	return n.Domain == "com.microsoft" && (n.Op == "QuantizeLinear" || n.Op == "DequantizeLinear")
}

// callee returns the body of the function that n calls, nil when it calls none
// or was not expanded.
func (n *Node) callee() *Graph {
	for _, b := range n.bodies {
		if n.function != nil && b.calls == n.function {
			return b
		}
	}
	return nil
}

// Opset returns the version of an operator set that the model imports, or the
// function that the graph belongs to; 0 when it does not. A model older than operator sets imports version 1.
func (g *Graph) Opset(domain string) int64 {
	if v, ok := g.opsets[plainDomain(domain)]; ok {
		return v
	}
	if plainDomain(domain) == "" && len(g.opsets) == 0 {
		return 1
	}
	return 0
}

// A Stored is a tensor of constant numbers: an initializer, or the value of a
// Constant node, made of its attribute where that holds a list of numbers.
type Stored struct {
	// Name is the initializer, or the output of the Constant node.
	Name string
	// Tensor is its description and its numbers.
	Tensor onnxfile.Tensor
	// Through lists the nodes that lie between it and the reader, the one next
	// to the reader first; empty when it is read as it stands.
	Through []*Node
}

// Stored finds the constant numbers behind a tensor: directly, or through nodes
// that only rearrange or convert them (Identity, Transpose, Reshape, Cast,
// QuantizeLinear, DequantizeLinear and the like). From the body of a function it
// goes on to what the node that calls it hands over, and into a function that
// returns it; such a call is one of Through. It is not ok for what
// depends on an input, for sparse initializers and for computed weights.
func (g *Graph) Stored(tensor string) (s Stored, ok bool) {
	w, _ := g.weight(tensor)
	return w.stored(g.file)
}

// A weight is a stored tensor, dense or sparse.
type weight struct {
	name    string
	dense   *onnxpb.TensorProto
	sparse  *onnxpb.SparseTensorProto
	through []*Node
	in      []*Graph // that the nodes of through belong to
	// packed is how many numbers it stands for where several share an element.
	packed *int64
	// computed is set, and nothing above, for one that is computed.
	computed *computed
}

func (w weight) stored(f *onnxfile.File) (s Stored, ok bool) {
	if w.dense == nil {
		return s, false
	}
	return Stored{Name: w.name, Tensor: f.Tensor(w.dense), Through: w.through}, true
}

// weight does the work of Stored, and finds sparse tensors as well.
func (g *Graph) weight(tensor string) (w weight, ok bool) {
	for range 16 { // a cycle of such nodes is no weight
		for g = g.home(tensor); g != nil && g.calls != nil && g.inputs[tensor] != nil; g = g.home(tensor) {
			tensor, g = g.args[tensor], g.parent
		}
		if g == nil {
			return weight{}, false
		}
		w.name = tensor
		if w.dense = g.inits[tensor]; w.dense != nil {
			return w, true
		}
		if w.sparse = g.sparse[tensor]; w.sparse != nil {
			return w, true
		}
		n := g.producer[tensor]
		if n == nil {
			return weight{}, false
		}
		if b, out := g.returned(tensor); b != nil {
			w.through, w.in = append(w.through, n), append(w.in, g)
			g, tensor = b, out
			continue
		}
		if !n.Standard() && !n.requantizes() || n.function != nil || n.Output(0) != tensor {
			return weight{}, false
		}
		switch n.Op {
		case "Constant":
			w.dense, w.sparse = g.x.constant(n), n.Attr("sparse_value").GetSparseTensor()
			return w, w.dense != nil || w.sparse != nil
		case "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "CastLike", "QuantizeLinear", "DequantizeLinear":
			w.through, w.in = append(w.through, n), append(w.in, g)
			tensor = n.Input(0)
		default:
			return weight{}, false
		}
	}
	return weight{}, false
}
