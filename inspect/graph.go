package inspect

import (
	"container/heap"
	"errors"
	"fmt"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A Node is one operator of the main graph.
type Node struct {
	// Index is the node's position in the file.
	Index            int
	Name, Op, Domain string
	// Inputs and Outputs are tensor names; "" stands for an optional one that
	// is left out. They belong to Proto and are not to be changed.
	Inputs, Outputs []string
	Proto           *onnxpb.NodeProto

	attrs map[string]*onnxpb.AttributeProto
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

// A Graph is an index over the main graph of a model: who makes a tensor, who
// reads it, what shape it has, and its numbers where they follow from the graph
// alone. It is safe for concurrent use.
type Graph struct {
	// Nodes holds the nodes in file order.
	Nodes []*Node

	file      *onnxfile.File
	producer  map[string]*Node
	consumers map[string][]*Node
	inits     map[string]*onnxpb.TensorProto
	sparse    map[string]*onnxpb.SparseTensorProto
	inputs    map[string]*onnxpb.ValueInfoProto
	outputs   map[string]*onnxpb.ValueInfoProto
	declared  map[string]*onnxpb.ValueInfoProto
	functions map[[2]string]bool
	opsets    map[string]int64
	order     []*Node
	ordered   int // so many of order come after all they read
	cycle     error

	tensors map[string]tensor
	live    map[string]bool // made by nodes from what is fed or drawn
	batch   map[string]bool // symbols that stand for the batch
	trust   bool            // declared shapes describe what was asked for
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

// NewGraph indexes the main graph of f and infers its shapes. Of opt it reads
// the shapes, not Weights. A graph with a cycle or with missing tensors is
// indexed all the same: see Order and Has. It fails with an *OptionError when
// opt does not fit the model.
func NewGraph(f *onnxfile.File, opt Options) (*Graph, error) {
	pb := f.Model.GetGraph()
	g := &Graph{
		file:      f,
		Nodes:     make([]*Node, len(pb.GetNode())),
		producer:  make(map[string]*Node, len(pb.GetNode())),
		consumers: make(map[string][]*Node, len(pb.GetNode())),
		inits:     make(map[string]*onnxpb.TensorProto, len(pb.GetInitializer())),
		sparse:    make(map[string]*onnxpb.SparseTensorProto),
		inputs:    make(map[string]*onnxpb.ValueInfoProto),
		outputs:   make(map[string]*onnxpb.ValueInfoProto),
		declared:  make(map[string]*onnxpb.ValueInfoProto),
		functions: make(map[[2]string]bool),
		opsets:    make(map[string]int64),
	}
	for _, o := range f.Model.GetOpsetImport() {
		g.opsets[plainDomain(o.GetDomain())] = o.GetVersion()
	}
	for _, fn := range f.Model.GetFunctions() {
		g.functions[[2]string{plainDomain(fn.GetDomain()), fn.GetName()}] = true
	}
	for _, t := range pb.GetInitializer() {
		g.inits[t.GetName()] = t
	}
	for _, t := range pb.GetSparseInitializer() {
		g.sparse[t.GetValues().GetName()] = t
	}
	for _, v := range pb.GetInput() {
		g.inputs[v.GetName()] = v
	}
	for _, v := range pb.GetOutput() {
		g.outputs[v.GetName()] = v
		g.declared[v.GetName()] = v
	}
	for _, v := range pb.GetValueInfo() {
		g.declared[v.GetName()] = v
	}
	for i, p := range pb.GetNode() {
		n := &Node{Index: i, Name: p.GetName(), Op: p.GetOpType(), Domain: p.GetDomain(), Inputs: p.GetInput(), Outputs: p.GetOutput(), Proto: p}
		if len(p.GetAttribute()) > 0 {
			n.attrs = make(map[string]*onnxpb.AttributeProto, len(p.GetAttribute()))
		}
		for _, a := range p.GetAttribute() {
			n.attrs[a.GetName()] = a
		}
		g.Nodes[i] = n
		for _, out := range n.Outputs {
			if out != "" && g.producer[out] == nil {
				g.producer[out] = n
			}
		}
	}
	for _, n := range g.Nodes {
		seen := make(map[string]bool, len(n.Inputs))
		read := func(name string) {
			if name != "" && !seen[name] {
				seen[name] = true
				g.consumers[name] = append(g.consumers[name], n)
			}
		}
		for _, in := range n.Inputs {
			read(in)
		}
		for _, sub := range n.subgraphs() {
			for name := range freeNames(sub) {
				read(name)
			}
		}
	}
	g.sort()
	g.findLive()
	if err := g.infer(opt); err != nil {
		return nil, err
	}
	return g, nil
}

func plainDomain(d string) string {
	if d == "ai.onnx" {
		return ""
	}
	return d
}

func (n *Node) subgraphs() []*onnxpb.GraphProto {
	var subs []*onnxpb.GraphProto
	for _, a := range n.Proto.GetAttribute() {
		if a.G != nil {
			subs = append(subs, a.G)
		}
		subs = append(subs, a.Graphs...)
	}
	return subs
}

// freeNames returns the tensors that a subgraph reads from outside.
func freeNames(g *onnxpb.GraphProto) map[string]bool {
	free := make(map[string]bool)
	for _, n := range g.GetNode() {
		for _, in := range n.GetInput() {
			free[in] = true
		}
		for _, a := range n.GetAttribute() {
			for _, sub := range append(a.Graphs[:len(a.Graphs):len(a.Graphs)], a.G) {
				for name := range freeNames(sub) {
					free[name] = true
				}
			}
		}
	}
	for _, o := range g.GetOutput() {
		free[o.GetName()] = true
	}
	for _, n := range g.GetNode() {
		for _, out := range n.GetOutput() {
			delete(free, out)
		}
	}
	for _, t := range g.GetInitializer() {
		delete(free, t.GetName())
	}
	for _, t := range g.GetSparseInitializer() {
		delete(free, t.GetValues().GetName())
	}
	for _, v := range g.GetInput() {
		delete(free, v.GetName())
	}
	delete(free, "")
	return free
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

// Consumers returns the nodes that read a tensor, in file order, each once; a
// node whose subgraph reads it is one of them.
func (g *Graph) Consumers(tensor string) []*Node { return g.consumers[tensor] }

// IsInput tells whether a tensor has to be fed when the model runs. An
// initializer that is listed among the inputs, as files of IR version 3 do, is
// none.
func (g *Graph) IsInput(tensor string) bool {
	return g.inputs[tensor] != nil && g.inits[tensor] == nil && g.sparse[tensor] == nil
}

// IsOutput tells whether a tensor is an output of the model.
func (g *Graph) IsOutput(tensor string) bool { return g.outputs[tensor] != nil }

// Has tells whether anything provides a tensor: an input, an initializer or a
// node.
func (g *Graph) Has(tensor string) bool {
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
	return g.Has(tensor) && !g.IsInput(tensor) && !g.live[tensor]
}

// findLive fills g.live.
func (g *Graph) findLive() {
	g.live = make(map[string]bool, len(g.producer))
	for i, n := range g.order {
		live := i >= g.ordered || !n.Standard() || len(n.subgraphs()) > 0
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
}

// Opset returns the version of an operator set that the model imports, 0 when
// it does not. A model older than operator sets imports version 1.
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
// Constant node.
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
// QuantizeLinear, DequantizeLinear and the like). It is not ok for what depends
// on an input, for sparse initializers and for computed weights.
func (g *Graph) Stored(tensor string) (s Stored, ok bool) {
	for range 16 { // a cycle of such nodes is no weight
		if t, ok := g.Initializer(tensor); ok {
			s.Name, s.Tensor = tensor, t
			return s, true
		}
		n := g.producer[tensor]
		if n == nil || !n.Standard() || n.Output(0) != tensor {
			return Stored{}, false
		}
		switch n.Op {
		case "Constant":
			t := n.Attr("value").GetT()
			if t == nil {
				return Stored{}, false
			}
			s.Name, s.Tensor = tensor, g.file.Tensor(t)
			return s, true
		case "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "CastLike", "QuantizeLinear", "DequantizeLinear":
			s.Through = append(s.Through, n)
			tensor = n.Input(0)
		default:
			return Stored{}, false
		}
	}
	return Stored{}, false
}
