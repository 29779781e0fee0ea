package inspect

import (
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// A Layer is a node that computes with parameters.
type Layer struct {
	// Index is the layer's position among the layers, Node that of its node in
	// the graph that it belongs to.
	Index int `json:"index"`
	Node  int `json:"node"`
	// Scope names the nested graph or the called function that the node belongs
	// to, by the labels of the nodes on the way: "if_3/then_branch". It is ""
	// for the main graph.
	Scope string `json:"scope,omitempty"`
	// Name is the node's name, else its first output.
	Name string `json:"name"`
	Op   string `json:"op"`
	// Kernel, Strides and Dilations have one number for each spatial dimension,
	// Pads two (all beginnings, then all ends); they are empty where the
	// operator has none. AutoPad is set when the pads follow from the input.
	Kernel    []int64 `json:"kernel,omitempty"`
	Strides   []int64 `json:"strides,omitempty"`
	Dilations []int64 `json:"dilations,omitempty"`
	Pads      []int64 `json:"pads,omitempty"`
	AutoPad   string  `json:"auto_pad,omitempty"`
	// Group is the number of groups of a convolution, 0 for other operators.
	Group int64 `json:"group,omitempty"`
	// In and Out are the shapes of InTensor, the tensor that the layer reads,
	// and OutTensor, the node's output.
	In        Shape  `json:"in"`
	Out       Shape  `json:"out"`
	InTensor  string `json:"in_tensor"`
	OutTensor string `json:"out_tensor"`
	// Weight and Bias are the stored tensors with the layer's numbers: names of
	// initializers or outputs of Constant nodes, "" when there is none or it is
	// computed. A bias may be added by the node that follows.
	Weight string `json:"weight,omitempty"`
	Bias   string `json:"bias,omitempty"`
	// Parameters counts the elements of Weight and Bias.
	Parameters int64 `json:"parameters"`
	// MACs is nil when a shape is not known, and 0 for normalisations.
	MACs *int64 `json:"macs"`
	// WeightBytes is what Weight and Bias take where they are stored, OutBytes
	// what the output takes when the model runs, nil when its shape or type is
	// not known; batch 1 where the model leaves the batch open.
	WeightBytes int64  `json:"weight_bytes"`
	OutBytes    *int64 `json:"out_bytes"`
	// Zeros is the share of Weight's elements that are exactly zero, nil when
	// they were not read.
	Zeros *float64 `json:"zeros"`
}

// findLayers fills m.Layers and what m.Totals says of them.
func (m *Model) findLayers() {
	w := layerWalk{m: m, parameters: make(map[any]weight), statistics: make(map[any]weight)}
	m.Layers = []Layer{}
	cost := w.graph(m.Graph, "")
	t := &m.Totals
	t.Layers, t.MACsUnknown = len(m.Layers), cost.unknown
	if cost.known > 0 || cost.unknown == 0 {
		t.MACs = &cost.macs
	}
	for _, s := range w.parameters {
		t.Parameters = addElements(t.Parameters, s)
		t.WeightBytes = addUp(t.WeightBytes, m.Graph.storedBytes(s))
	}
	for key, s := range w.statistics {
		if _, ok := w.parameters[key]; !ok {
			t.Statistics = addElements(t.Statistics, s)
			t.WeightBytes = addUp(t.WeightBytes, m.Graph.storedBytes(s))
		}
	}
}

// key identifies a stored tensor; names repeat across scopes.
func (w weight) key() any {
	if w.dense != nil {
		return w.dense
	}
	return w.sparse
}

// A macSum is the multiply-accumulates of some nodes: of so many known ones, and
// how many are unknown.
type macSum struct {
	macs           int64
	known, unknown int
}

// plus adds b; what does not fit is unknown.
func (a macSum) plus(b macSum) macSum {
	sum, ok := add(a.macs, b.macs)
	if !ok {
		return macSum{a.macs, a.known, a.unknown + b.known + b.unknown}
	}
	return macSum{sum, a.known + b.known, a.unknown + b.unknown}
}

// A foundLayer is where a layer lies and what it computes with.
type foundLayer struct {
	graph        *Graph
	node         *Node
	weight, bias weight
}

type layerWalk struct {
	m                      *Model
	parameters, statistics map[any]weight
}

// graph adds the layers of g and returns what one run of it costs.
func (w *layerWalk) graph(g *Graph, scope string) macSum {
	var total macSum
	for _, n := range g.order {
		if n.function != nil || !n.Standard() {
			total = total.plus(w.bodies(n, scope))
			continue
		}
		macs, counted := g.macs(n)
		switch {
		case !counted:
		case macs >= 0:
			total = total.plus(macSum{macs, 1, 0})
		default:
			total.unknown++
		}
		w.layer(g, n, macs, scope)
		total = total.plus(w.bodies(n, scope))
	}
	return total
}

// bodies adds the layers of what n runs and returns what that costs.
func (w *layerWalk) bodies(n *Node, scope string) macSum {
	var total, most macSum
	for i, b := range n.bodies {
		c := w.graph(b, b.within(scope))
		trips, ok := b.trips.at(b.batch).number()
		switch {
		case b.idle:
			c = macSum{}
		case ok && trips == 1:
		case ok:
			macs, fits := product(c.macs, trips)
			if c.macs = macs; !fits {
				c = macSum{unknown: c.known + c.unknown}
			}
		default:
			c = macSum{unknown: c.known + c.unknown}
		}
		if n.Op != "If" || !n.Standard() || n.function != nil {
			total = total.plus(c)
			continue
		}
		// One branch runs, and it may be the one that costs more.
		if i == 0 || c.macs > most.macs {
			most.macs = c.macs
		}
		most.known += c.known
		most.unknown += c.unknown
	}
	if n.function != nil && len(n.bodies) == 0 {
		total.unknown++ // the call was not expanded
	}
	return total.plus(most)
}

// layer adds n, which costs macs, when it is a layer.
func (w *layerWalk) layer(g *Graph, n *Node, macs int64, scope string) {
	l, weights, ok := g.layer(n)
	if !ok {
		return
	}
	l.Index, l.Scope = len(w.m.Layers), scope
	if macs >= 0 {
		l.MACs = &macs
	}
	found := foundLayer{graph: g, node: n, weight: weights[0], bias: weights[1]}
	for _, s := range weights {
		if s.name == "" {
			continue
		}
		w.parameters[s.key()] = s
		l.Parameters = addElements(l.Parameters, s)
		l.WeightBytes = addUp(l.WeightBytes, g.storedBytes(s))
	}
	if b, ok := g.bytesOf(l.OutTensor); ok {
		l.OutBytes = &b
	}
	if n.Op == "BatchNormalization" {
		for i := 3; i <= 4; i++ {
			if s, ok := g.weight(n.Input(i)); ok {
				w.statistics[s.key()] = s
			}
		}
	}
	w.m.Layers = append(w.m.Layers, l)
	w.m.Graph.layers = append(w.m.Graph.layers, found)
}

// layer finds l, which has nothing when m was read from a report.
func (m *Model) layer(l *Layer) foundLayer {
	if m.Graph == nil || l.Index < 0 || l.Index >= len(m.Graph.layers) {
		return foundLayer{}
	}
	return m.Graph.layers[l.Index]
}

// LayerNode returns the node of a layer of m and the graph that it belongs to,
// the main graph or one within; nil when m was read from a report.
func (m *Model) LayerNode(l *Layer) (*Graph, *Node) {
	f := m.layer(l)
	return f.graph, f.node
}

// LayerWeight returns the stored tensor that l.Weight names, wherever it lies.
// It is not ok as in Graph.Stored.
func (m *Model) LayerWeight(l *Layer) (s Stored, ok bool) {
	return m.layer(l).weight.stored(m.Handle)
}

// LayerBias returns the stored tensor that l.Bias names, as LayerWeight does.
func (m *Model) LayerBias(l *Layer) (s Stored, ok bool) {
	return m.layer(l).bias.stored(m.Handle)
}

// addUp adds two numbers that are not negative, up to the largest.
func addUp(a, b int64) int64 {
	if sum, ok := add(a, b); ok {
		return sum
	}
	return math.MaxInt64
}

// addElements adds the elements of s to n; a tensor with impossible dimensions
// has none.
func addElements(n int64, s weight) int64 {
	k, ok := s.elements()
	if !ok {
		return n
	}
	if sum, ok := add(n, k); ok {
		return sum
	}
	return n
}

// elements counts those of the dense shape.
func (w weight) elements() (int64, bool) {
	if w.sparse != nil {
		return product(w.sparse.GetDims()...)
	}
	return product(w.dense.GetDims()...)
}

// storedBytes is what a tensor takes where it is stored; of a sparse one those
// of its values and of their places.
func (g *Graph) storedBytes(w weight) int64 {
	if w.sparse == nil {
		return g.file.Tensor(w.dense).StoredBytes()
	}
	return addUp(g.file.Tensor(w.sparse.GetValues()).StoredBytes(), g.file.Tensor(w.sparse.GetIndices()).StoredBytes())
}

// layer describes n, which calls no function, when it is a layer. It returns its
// weight and its bias; what is not stored has no name.
func (g *Graph) layer(n *Node) (l Layer, weights [2]weight, ok bool) {
	input, weight, bias := n.Input(0), n.Input(1), n.Input(2)
	switch n.Op {
	case "Conv", "ConvTranspose":
	case "QLinearConv":
		weight, bias = n.Input(3), n.Input(8)
	case "ConvInteger":
		bias = ""
	case "Gemm", "MatMul", "MatMulInteger":
		if n.Op != "Gemm" {
			bias = ""
		}
		if !g.fixed(weight) {
			input, weight = weight, input
		}
		if !g.fixed(weight) {
			return l, weights, false // two activations
		}
	case "QLinearMatMul":
		weight, bias = n.Input(3), ""
		if !g.fixed(weight) {
			return l, weights, false
		}
	case "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization":
	case "RMSNormalization", "PRelu":
		bias = ""
	default:
		return l, weights, false
	}
	l = Layer{
		Node: n.Index, Name: n.Label(), Op: n.Op,
		In: g.Shape(input), Out: g.Shape(n.Output(0)),
		InTensor: input, OutTensor: n.Output(0),
	}
	if s, ok := g.weight(weight); ok {
		weights[0] = s
	}
	if s, ok := g.weight(bias); ok {
		weights[1] = s
	} else if bias == "" {
		weights[1] = g.addedBias(n)
	}
	l.Weight, l.Bias = weights[0].name, weights[1].name
	switch n.Op {
	case "Conv", "ConvTranspose", "ConvInteger", "QLinearConv":
		l.Group = n.AttrInt("group", 1)
		w := g.lookup(weight)
		if win, ok := windowOf(n, w.shape, max(len(w.shape)-2, len(n.AttrInts("kernel_shape")))); ok {
			l.Kernel, l.Strides, l.Dilations = slices.Clone(win.kernel), win.strides, win.dilations
			if win.auto == "NOTSET" || win.auto == "" {
				l.Pads = slices.Concat(win.begin, win.end)
			} else {
				l.AutoPad = win.auto
			}
		}
	}
	return l, weights, true
}

// addedBias returns the stored tensor that the only reader of n adds to each of
// its outputs, a weight without a name when there is none.
func (g *Graph) addedBias(n *Node) (none weight) {
	channel := -1
	switch n.Op {
	case "Conv", "ConvTranspose":
		channel = 1
	case "MatMul", "Gemm":
	default:
		return none
	}
	out := n.Output(0)
	readers := g.consumers[out]
	t := g.lookup(out)
	if len(readers) != 1 || g.IsOutput(out) || !t.known || len(t.shape) < 2 {
		return none
	}
	a := readers[0]
	if a.Op != "Add" || !a.Standard() || len(a.Inputs) != 2 || g.Opset("") < 7 {
		return none
	}
	other := a.Inputs[0]
	if other == out {
		other = a.Inputs[1]
	}
	s, ok := g.weight(other)
	if !ok || s.dense == nil || !onnxfile.DType(s.dense.GetDataType()).IsFloat() {
		return none
	}
	// The numbers must stand along the output's channels and nowhere else.
	if channel < 0 {
		channel = len(t.shape) - 1
	}
	shape := g.lookup(other).shape
	off := len(t.shape) - len(shape)
	if off < 0 || off > channel {
		return none
	}
	for i, d := range shape {
		if off+i == channel {
			if !same(d, t.shape[channel]) {
				return none
			}
		} else if !d.is(1) {
			return none
		}
	}
	return s
}

// macs returns the multiply-accumulates of n, -1 when they are not known; 0 and
// not ok for an operator that is not counted.
func (g *Graph) macs(n *Node) (count int64, ok bool) {
	x, y := g.lookup(n.Input(0)), g.lookup(n.Input(1))
	var p []term
	switch n.Op {
	case "Conv", "ConvInteger", "QLinearConv":
		if n.Op == "QLinearConv" {
			y = g.lookup(n.Input(3))
		}
		// Each output reads one kernel over the channels of its group.
		if out := g.lookup(n.Output(0)); out.known && y.known && len(y.shape) > 2 {
			p = slices.Concat(out.shape, y.shape[1:])
		}
	case "ConvTranspose":
		// Each input writes one kernel over the channels of its group.
		if x.known && y.known && len(y.shape) > 2 {
			p = slices.Concat(x.shape, y.shape[1:])
		}
	case "Gemm":
		if out := g.lookup(n.Output(0)); out.known {
			k := term{}
			if x.known && len(x.shape) == 2 {
				k = x.shape[b2i(n.AttrInt("transA", 0) == 0)]
			}
			if k.kind == unknownTerm && y.known && len(y.shape) == 2 {
				k = y.shape[b2i(n.AttrInt("transB", 0) != 0)]
			}
			p = append(slices.Clone(out.shape), k)
		}
	case "MatMul", "MatMulInteger", "QLinearMatMul":
		if n.Op == "QLinearMatMul" {
			y = g.lookup(n.Input(3))
		}
		if out := g.lookup(n.Output(0)); out.known && x.known && len(x.shape) > 0 {
			k := x.shape[len(x.shape)-1]
			if _, fixed := k.number(); !fixed && y.known && len(y.shape) > 0 {
				k = y.shape[max(0, len(y.shape)-2)]
			}
			p = append(slices.Clone(out.shape), k)
		}
	default:
		return 0, false
	}
	if p == nil {
		return -1, true
	}
	total := integer(1)
	for _, d := range p {
		total = mulTerm(total, d.at(g.batch))
	}
	if c, ok := total.number(); ok {
		return c, true
	}
	return -1, true
}
