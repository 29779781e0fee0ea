package inspect

import (
	"cmp"
	"math"
	"path"
	"slices"
	"strconv"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// An inventory counts what lies in a file: in the main graph, in the graphs nested
// in attributes, in functions and in what is for training. Everything counts
// once, however often it runs.
type inventory struct {
	file      *onnxfile.File
	x         *expansion
	operators map[OpCount]int // Count 0
	nodes     int
	subgraphs int
	training  int

	functions map[functionID]int // to Functions
	calls     []int
	reached   []int // functions that are called, their bodies not yet counted

	elements int64 // of all tensors
	types    map[onnxfile.DType]*TypeCount
	external map[string][]byteRange
}

type byteRange struct{ from, to int64 }

// count fills what Model says of the file as a whole: Operators, Functions,
// Types, ExternalBytes and, in Totals, the numbers of nodes and graphs and the
// constants, given how many stored elements parameters and statistics are made of.
func (m *Model) count(used int64) {
	pb := m.Handle.Model
	c := &inventory{
		file:      m.Handle,
		x:         m.Graph.x,
		operators: make(map[OpCount]int),
		functions: make(map[functionID]int, len(pb.GetFunctions())),
		calls:     make([]int, len(pb.GetFunctions())),
		types:     make(map[onnxfile.DType]*TypeCount),
		external:  make(map[string][]byteRange),
	}
	for i, f := range pb.GetFunctions() {
		id := functionID{plainDomain(f.GetDomain()), f.GetName(), f.GetOverload()}
		if _, twice := c.functions[id]; !twice {
			c.functions[id] = i
		}
		m.Functions = append(m.Functions, Function{Name: f.GetName(), Domain: f.GetDomain(), Nodes: len(f.GetNode())})
	}
	// The bodies of functions count when the main graph reaches them.
	c.graph(pb.GetGraph(), true)
	for len(c.reached) > 0 {
		i := c.reached[len(c.reached)-1]
		c.reached = c.reached[:len(c.reached)-1]
		c.function(pb.GetFunctions()[i], true)
	}
	for i, f := range pb.GetFunctions() {
		m.Functions[i].Calls = c.calls[i]
		if c.calls[i] == 0 {
			c.function(f, false)
		}
	}
	for _, t := range pb.GetTrainingInfo() {
		for _, g := range []*onnxpb.GraphProto{t.GetInitialization(), t.GetAlgorithm()} {
			c.training += nodesOf(g)
			c.graph(g, false)
		}
	}
	m.Operators = c.sorted()
	m.Types = c.byType()
	m.ExternalBytes = c.externalBytes()
	t := &m.Totals
	t.Nodes, t.Subgraphs, t.TrainingNodes = c.nodes, c.subgraphs, c.training
	t.Constants = max(0, c.elements-used)
}

// graph counts g; where nodes do not count its tensors do.
func (c *inventory) graph(g *onnxpb.GraphProto, nodes bool) {
	for _, t := range g.GetInitializer() {
		c.tensor(t)
	}
	for _, t := range g.GetSparseInitializer() {
		c.sparse(t)
	}
	c.list(g.GetNode(), nodes)
}

func (c *inventory) function(f *onnxpb.FunctionProto, nodes bool) {
	c.attributes(f.GetAttributeProto(), nodes)
	c.list(f.GetNode(), nodes)
}

func (c *inventory) list(list []*onnxpb.NodeProto, nodes bool) {
	for _, n := range list {
		if nodes {
			c.nodes++
			c.operators[OpCount{Op: n.GetOpType(), Domain: plainDomain(n.GetDomain())}]++
			if i, ok := c.functions[calledBy(n)]; ok {
				if c.calls[i]++; c.calls[i] == 1 {
					c.reached = append(c.reached, i)
				}
			}
		}
		for _, a := range n.GetAttribute() {
			if t := c.x.constantOf(n, a); t != nil {
				c.tensor(t)
			}
		}
		c.attributes(n.GetAttribute(), nodes)
	}
}

func (c *inventory) attributes(list []*onnxpb.AttributeProto, nodes bool) {
	for _, a := range list {
		if a.T != nil {
			c.tensor(a.T)
		}
		for _, t := range a.Tensors {
			c.tensor(t)
		}
		if a.SparseTensor != nil {
			c.sparse(a.SparseTensor)
		}
		for _, t := range a.SparseTensors {
			c.sparse(t)
		}
		if a.G != nil {
			c.nested(a.G, nodes)
		}
		for _, g := range a.Graphs {
			c.nested(g, nodes)
		}
	}
}

func (c *inventory) nested(g *onnxpb.GraphProto, nodes bool) {
	if nodes {
		c.subgraphs++
	}
	c.graph(g, nodes)
}

// nodesOf counts the nodes of g and of the graphs nested in it.
func nodesOf(g *onnxpb.GraphProto) int {
	n := len(g.GetNode())
	for _, node := range g.GetNode() {
		for _, a := range node.GetAttribute() {
			n += nodesOf(a.G)
			for _, sub := range a.Graphs {
				n += nodesOf(sub)
			}
		}
	}
	return n
}

func (c *inventory) tensor(t *onnxpb.TensorProto) {
	c.elements = addElements(c.elements, weight{dense: t})
	c.stored(t)
}

// sparse counts the dense shape among the elements of the model; by type, the
// values and their places count as they are stored.
func (c *inventory) sparse(t *onnxpb.SparseTensorProto) {
	c.elements = addElements(c.elements, weight{sparse: t})
	for _, part := range []*onnxpb.TensorProto{t.GetValues(), t.GetIndices()} {
		if part != nil {
			c.stored(part)
		}
	}
}

func (c *inventory) stored(t *onnxpb.TensorProto) {
	d := onnxfile.DType(t.GetDataType())
	k := c.types[d]
	if k == nil {
		k = &TypeCount{DType: d.String()}
		c.types[d] = k
	}
	bytes := c.file.Tensor(t).StoredBytes()
	k.Tensors++
	k.Elements = addElements(k.Elements, weight{dense: t})
	k.Bytes = addUp(k.Bytes, bytes)
	if t.GetDataLocation() != onnxpb.TensorProto_EXTERNAL {
		return
	}
	location, from := "", int64(0)
	for _, kv := range t.GetExternalData() {
		switch kv.GetKey() {
		case "location":
			location = path.Clean(kv.GetValue())
		case "offset":
			// An offset that is no number is not for this count to report.
			from, _ = strconv.ParseInt(kv.GetValue(), 10, 64)
		}
	}
	if from >= 0 && bytes > 0 {
		c.external[location] = append(c.external[location], byteRange{from, addUp(from, bytes)})
	}
}

// externalBytes sums the data stored beside the file, each byte once.
func (c *inventory) externalBytes() int64 {
	total := int64(0)
	for _, ranges := range c.external {
		slices.SortFunc(ranges, func(a, b byteRange) int { return cmp.Compare(a.from, b.from) })
		end := int64(0)
		for _, r := range ranges {
			if from := max(r.from, end); r.to > from {
				total = addUp(total, r.to-from)
				end = r.to
			}
		}
	}
	return total
}

func (c *inventory) sorted() []OpCount {
	ops := make([]OpCount, 0, len(c.operators))
	for op, n := range c.operators {
		op.Count = n
		ops = append(ops, op)
	}
	slices.SortFunc(ops, func(a, b OpCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Op, b.Op), cmp.Compare(a.Domain, b.Domain))
	})
	return ops
}

func (c *inventory) byType() []TypeCount {
	types := make([]TypeCount, 0, len(c.types))
	for _, k := range c.types {
		types = append(types, *k)
	}
	slices.SortFunc(types, func(a, b TypeCount) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Elements, a.Elements), cmp.Compare(a.DType, b.DType))
	})
	return types
}

// bytesOf returns what a tensor takes when the model runs with a batch of one,
// or a sequence all of whose elements have one shape. It is not ok when its
// shape or its type is not known.
func (g *Graph) bytesOf(tensor string) (int64, bool) {
	t := g.lookup(tensor)
	n := integer(1)
	if t.kind == sequenceKind && t.elem != nil {
		n, t = t.length, *t.elem
	}
	bits := t.dtype.Bits()
	if t.kind != tensorKind || !t.known || bits == 0 {
		return 0, false
	}
	for _, d := range t.shape {
		n = mulTerm(n, d)
	}
	k, ok := n.at(g.batch).number()
	if !ok || k < 0 || k > math.MaxInt64/bits-8 {
		return 0, false
	}
	return (k*bits + 7) / 8, true
}
