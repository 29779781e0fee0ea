package inspect

import (
	"fmt"
	"iter"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

const (
	// maxCalls bounds how deep calls of functions lie within each other.
	maxCalls = 64
	// maxExpansion bounds what the bodies of functions may take; a small file
	// could ask for any amount of it. A unit is a node or four names, a few
	// hundred bytes; a graph counts graphCost besides. Calls beyond are left as
	// they are.
	maxExpansion = 1 << 17
	graphCost    = 8
	// Bodies of loops may be inferred more than once, in a file made for it very
	// often; workPerUnit and minWork bound how often.
	workPerUnit = 16
	minWork     = 1 << 12
	// maxLabel and maxScope bound what a name adds to a scope, and a scope.
	maxLabel = 160
	maxScope = 1024
)

// A function is an operator that the model defines itself.
type function struct {
	pb     *onnxpb.FunctionProto
	body   source
	opsets map[string]int64
	size   int
}

// functionID is a function's domain, name and overload.
type functionID [3]string

func calledBy(n *onnxpb.NodeProto) functionID {
	return functionID{plainDomain(n.GetDomain()), n.GetOpType(), n.GetOverload()}
}

// An expansion is what the graphs of one model share.
type expansion struct {
	functions map[functionID]*function
	room      int // left of maxExpansion
	nested    int // units in nested graphs and bodies
	work      int // so many of them may still be inferred
	sizes     map[*onnxpb.GraphProto]int
	terms     int // left of maxTerms
	listed    listed
}

// size returns how many units s takes, what is nested in it not counted.
func (s source) size() int {
	names := len(s.inits) + len(s.sparse) + len(s.inputs) + len(s.outputs) + len(s.info)
	for _, n := range s.nodes {
		names += len(n.GetInput()) + len(n.GetOutput()) + len(n.GetAttribute())
	}
	return graphCost + len(s.nodes) + names/4
}

func newExpansion(f *onnxfile.File) *expansion {
	x := &expansion{functions: make(map[functionID]*function, len(f.Model.GetFunctions())), room: maxExpansion, terms: maxTerms, sizes: make(map[*onnxpb.GraphProto]int)}
	for _, pb := range f.Model.GetFunctions() {
		id := functionID{plainDomain(pb.GetDomain()), pb.GetName(), pb.GetOverload()}
		if x.functions[id] != nil {
			continue
		}
		fn := &function{pb: pb}
		fn.body.nodes, fn.body.info = pb.GetNode(), pb.GetValueInfo()
		for _, name := range pb.GetInput() {
			fn.body.inputs = append(fn.body.inputs, &onnxpb.ValueInfoProto{Name: &name})
		}
		for _, name := range pb.GetOutput() {
			fn.body.outputs = append(fn.body.outputs, &onnxpb.ValueInfoProto{Name: &name})
		}
		if fn.opsets = versions(pb.GetOpsetImport()); len(fn.opsets) == 0 {
			fn.opsets = versions(f.Model.GetOpsetImport())
		}
		fn.size = fn.body.size() + (len(pb.GetAttribute())+len(pb.GetAttributeProto()))/4
		x.functions[id] = fn
	}
	return x
}

func versions(imports []*onnxpb.OperatorSetIdProto) map[string]int64 {
	v := make(map[string]int64, len(imports))
	for _, o := range imports {
		v[plainDomain(o.GetDomain())] = o.GetVersion()
	}
	return v
}

// nesting is what a nested graph and the body of a function have more than the
// main graph.
type nesting struct {
	parent *Graph
	owner  *Node  // of parent
	attr   string // that holds the graph
	depth  int    // of calls

	calls *function                         // whose body it is
	args  map[string]string                 // an input of the body to the tensor that the call hands over
	bind  map[string]*onnxpb.AttributeProto // what attributes of the body may refer to

	ins, outs []string
	around    map[string]bool // what it reads from around it, until its parent has taken note
	size      int             // as maxExpansion counts

	// What the owner's rule found out.
	inferred bool
	trips    term // how often it runs
	idle     bool // it never runs
}

// Parent returns the graph around g and the node of it that g belongs to, nil
// for the main graph.
func (g *Graph) Parent() (*Graph, *Node) { return g.parent, g.owner }

// Function returns the definition that g is the body of, nil for other graphs.
// Each call has a Graph of its own.
func (g *Graph) Function() *onnxpb.FunctionProto {
	if g.calls == nil {
		return nil
	}
	return g.calls.pb
}

// All yields g and all graphs within with their scopes, as in Layer.Scope: a
// graph before those nested in it, otherwise in file order. A function has a
// body for each node that calls it, none when nothing does; calls that would never
// end are left out, and so are those beyond some ten thousands of nodes.
func (g *Graph) All() iter.Seq2[string, *Graph] {
	return func(yield func(string, *Graph) bool) { g.all(g.Scope(), yield) }
}

func (g *Graph) all(scope string, yield func(string, *Graph) bool) bool {
	if !yield(scope, g) {
		return false
	}
	for _, n := range g.Nodes {
		for _, b := range n.bodies {
			if !b.all(b.within(scope), yield) {
				return false
			}
		}
	}
	return true
}

// Scope names the graph as Layer.Scope does, "" for the main graph. Two graphs
// have the same scope when the nodes that they belong to have the same name.
func (g *Graph) Scope() string {
	if g.parent == nil {
		return ""
	}
	return g.within(g.parent.Scope())
}

// within returns g's scope, given that of its parent.
func (g *Graph) within(scope string) string {
	s := g.owner.Label()
	if len(s) > maxLabel {
		s = s[:maxLabel] + "..."
	}
	if g.attr != "" {
		s += "/" + g.attr
	}
	if scope != "" {
		s = scope + "/" + s
	}
	if len(s) > maxScope {
		s = s[:maxScope] + "..."
	}
	return s
}

// home returns the graph that provides a tensor which g reads, nil when none
// does.
func (g *Graph) home(tensor string) *Graph {
	for ; g != nil; g = g.parent {
		if g.owns(tensor) {
			return g
		}
		if g.calls != nil {
			return nil // a function sees nothing but its inputs
		}
	}
	return nil
}

// newNode makes a node of g. In the body of a function, attributes that refer
// to those of the call are replaced by them, and inputs that the call leaves out
// are left out.
func (g *Graph) newNode(i int, p *onnxpb.NodeProto) *Node {
	n := &Node{Index: i, Name: p.GetName(), Op: p.GetOpType(), Domain: p.GetDomain(), Inputs: p.GetInput(), Outputs: p.GetOutput(), Proto: p}
	if len(p.GetAttribute()) > 0 {
		n.attrs = make(map[string]*onnxpb.AttributeProto, len(p.GetAttribute()))
	}
	for _, a := range p.GetAttribute() {
		name := a.GetName()
		if ref := a.GetRefAttrName(); ref != "" {
			if a = g.bind[ref]; a == nil {
				continue
			}
		}
		n.attrs[name] = a
	}
	n.function = g.x.functions[calledBy(p)]
	if g.depth > 0 {
		for j, in := range p.GetInput() {
			h := g.home(in)
			if in == "" || h == nil || h.calls == nil || h.inputs[in] == nil || h.args[in] != "" {
				continue
			}
			if &n.Inputs[0] == &p.Input[0] {
				n.Inputs = append([]string(nil), p.Input...)
			}
			n.Inputs[j] = ""
		}
	}
	return n
}

// formals fills the lists of inputs and outputs of a body.
func (g *Graph) formals(s source) {
	for _, v := range s.inputs {
		g.ins = append(g.ins, v.GetName())
	}
	for _, v := range s.outputs {
		g.outs = append(g.outs, v.GetName())
	}
	if g.calls == nil {
		return
	}
	g.args = make(map[string]string, len(g.ins))
	for i, name := range g.ins {
		g.args[name] = g.owner.Input(i)
	}
}

// nest indexes the graphs in n's attributes and the function that it calls.
func (g *Graph) nest(n *Node) {
	for _, a := range n.Proto.GetAttribute() {
		if a.G != nil {
			g.add(n, a.GetName(), a.G)
		}
		for i, pb := range a.Graphs {
			g.add(n, fmt.Sprintf("%s[%d]", a.GetName(), i), pb)
		}
	}
	if n.function == nil || g.depth >= maxCalls {
		return
	}
	for p := g; p != nil; p = p.parent {
		if p.calls == n.function {
			return // it would never end
		}
	}
	if !g.x.take(n.function.size) {
		return
	}
	b := &Graph{x: g.x, file: g.file, opsets: n.function.opsets}
	b.nesting = nesting{parent: g, owner: n, depth: g.depth + 1, calls: n.function, bind: n.function.bind(n), size: n.function.size}
	n.bodies = append(n.bodies, b)
	b.index(n.function.body)
}

func (g *Graph) add(n *Node, attr string, pb *onnxpb.GraphProto) {
	s := graphSource(pb)
	size, ok := g.x.sizes[pb]
	if !ok {
		size = s.size()
		g.x.sizes[pb] = size
	}
	if g.depth == 0 {
		g.x.nested += size
	} else if !g.x.take(size) {
		return
	}
	b := &Graph{x: g.x, file: g.file, opsets: g.opsets}
	b.nesting = nesting{parent: g, owner: n, attr: attr, depth: g.depth, bind: g.bind, size: size}
	n.bodies = append(n.bodies, b)
	b.index(s)
}

// take uses up room for a graph of that size; it is not ok when there is too
// little.
func (x *expansion) take(size int) bool {
	if size > x.room {
		return false
	}
	x.room -= size
	x.nested += size
	return true
}

// bind returns the attributes that the body of f sees when n calls it.
func (f *function) bind(n *Node) map[string]*onnxpb.AttributeProto {
	if len(f.pb.GetAttribute()) == 0 && len(f.pb.GetAttributeProto()) == 0 {
		return nil
	}
	bind := make(map[string]*onnxpb.AttributeProto)
	for _, a := range f.pb.GetAttributeProto() {
		bind[a.GetName()] = a
		if given := n.attrs[a.GetName()]; given != nil {
			bind[a.GetName()] = given
		}
	}
	for _, name := range f.pb.GetAttribute() {
		if given := n.attrs[name]; given != nil {
			bind[name] = given
		}
	}
	return bind
}
