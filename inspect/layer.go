package inspect

import (
	"math"
	"slices"
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
	// Op is the operator, that of another domain than ONNX's own with the domain
	// before it: "com.microsoft.FusedConv".
	Op string `json:"op"`
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
	// Others are further stored tensors with parameters: the recurrent weights of
	// an LSTM, all but the first that an unknown operator reads.
	Others []string `json:"other_weights,omitempty"`
	// Parameters counts the elements of Weight, Bias and Others; those of one
	// that is computed from stored numbers alone too.
	Parameters int64 `json:"parameters"`
	// MACs is nil when a shape or the operator is not known, and 0 for
	// normalisations.
	MACs *int64 `json:"macs"`
	// WeightBytes is what the parameters take where they are stored, OutBytes
	// what the output takes when the model runs, nil when its shape or type is
	// not known; batch 1 where the model leaves the batch open.
	WeightBytes int64  `json:"weight_bytes"`
	OutBytes    *int64 `json:"out_bytes"`
	// Zeros is the share of Weight's elements that are exactly zero, of those of
	// a quantized one that equal its zero point; nil when they were not read, when
	// the weight is computed and when its zero point is not known.
	Zeros *float64 `json:"zeros"`
}

// findLayers fills m.Layers and what m.Totals says of them. It returns how many
// stored elements the parameters and statistics are made of.
func (m *Model) findLayers() (used int64) {
	w := layerWalk{m: m, parameters: make(map[any]weight), statistics: make(map[any]weight)}
	m.Layers = []Layer{}
	cost := w.graph(m.Graph, "")
	t := &m.Totals
	t.Layers, t.MACsUnknown = len(m.Layers), cost.unknown
	if cost.known > 0 || cost.unknown == 0 {
		t.MACs = &cost.macs
	}
	stored := make(map[any]bool)
	use := func(s weight) {
		for _, f := range s.from() {
			if stored[f.key()] {
				continue
			}
			stored[f.key()] = true
			t.WeightBytes = addUp(t.WeightBytes, m.Graph.storedBytes(f))
			f.packed = nil
			used = addElements(used, f)
		}
	}
	for _, s := range w.parameters {
		t.Parameters = addElements(t.Parameters, s)
		if s.computed != nil && !s.computed.known {
			t.ParametersUnknown++
		}
		use(s)
	}
	for key, s := range w.statistics {
		if _, ok := w.parameters[key]; !ok {
			t.Statistics = addElements(t.Statistics, s)
			use(s)
		}
	}
	return used
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
		if n.function != nil {
			total = total.plus(w.bodies(n, scope))
			continue
		}
		macs, counted := g.macs(n)
		if g.unfamiliar(n) && len(g.foreignWeights(n)) > 0 {
			macs, counted = -1, true
		}
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
	total := costOfBodies(n, func(b *Graph) macSum { return w.graph(b, b.within(scope)) })
	if n.function != nil && len(n.bodies) == 0 {
		total.unknown++ // the call was not expanded
	}
	return total
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
	w.m.Graph.layers = append(w.m.Graph.layers, foundLayer{graph: g, node: n, weight: weights[0], bias: weights[1]})
	stored := make(map[any]bool)
	for _, s := range weights {
		if s.none() {
			continue
		}
		w.parameters[s.key()] = s
		l.Parameters = addElements(l.Parameters, s)
		for _, f := range s.from() {
			if !stored[f.key()] {
				stored[f.key()] = true
				l.WeightBytes = addUp(l.WeightBytes, g.storedBytes(f))
			}
		}
	}
	if b, ok := g.bytesOf(l.OutTensor); ok {
		l.OutBytes = &b
	}
	if l.Op == "BatchNormalization" {
		for i := 3; i <= 4; i++ {
			if s, ok := g.parameter(n.Input(i)); ok {
				w.statistics[s.key()] = s
			}
		}
	}
	w.m.Layers = append(w.m.Layers, l)
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

// storedBytes is what a tensor takes where it is stored; of a sparse one those
// of its values and of their places.
func (g *Graph) storedBytes(w weight) int64 {
	if w.sparse == nil {
		return g.file.Tensor(w.dense).StoredBytes()
	}
	return addUp(g.file.Tensor(w.sparse.GetValues()).StoredBytes(), g.file.Tensor(w.sparse.GetIndices()).StoredBytes())
}

// layer describes n, which calls no function, when it is a layer. It returns its
// weight, its bias and what else it computes with; the first two may be none.
func (g *Graph) layer(n *Node) (l Layer, weights []weight, ok bool) {
	o, known := operandsOf(n.Domain, n.Op)
	input := ""
	if known {
		if input, weights = g.operate(n, &o); weights == nil {
			return l, nil, false
		}
	} else {
		if !g.unfamiliar(n) {
			return l, nil, false
		}
		if weights = g.foreignWeights(n); len(weights) == 0 {
			return l, nil, false
		}
		input, weights = g.fed(n), slices.Insert(weights, 1, weight{})
	}
	l = Layer{
		Node: n.Index, Name: n.Label(), Op: qualifiedOp(n.Domain, n.Op),
		In: g.Shape(input), Out: g.Shape(n.Output(0)),
		InTensor: input, OutTensor: n.Output(0),
		Weight: weights[0].name, Bias: weights[1].name,
	}
	for _, s := range weights[2:] {
		if s.name != "" {
			l.Others = append(l.Others, s.name)
		}
	}
	if !o.window {
		return l, weights, true
	}
	l.Group = n.AttrInt("group", 1)
	w := g.lookup(n.Input(o.w))
	if win, ok := windowOf(n, w.shape, max(len(w.shape)-2, len(n.AttrInts("kernel_shape")))); ok {
		l.Kernel, l.Strides, l.Dilations = slices.Clone(win.kernel), win.strides, win.dilations
		if win.auto == "NOTSET" || win.auto == "" {
			l.Pads = slices.Concat(win.begin, win.end)
		} else {
			l.AutoPad = win.auto
		}
	}
	return l, weights, true
}

// operate returns what n reads and what it computes with, weight and bias first;
// no weights when it is no layer. It swaps o.x and o.w where they stand so.
func (g *Graph) operate(n *Node, o *operands) (input string, weights []weight) {
	if o.either && !g.fixed(n.Input(o.w)) {
		o.x, o.w = o.w, o.x
	}
	if o.needs && o.w >= 0 && !g.fixed(n.Input(o.w)) {
		return "", nil // two activations
	}
	weights = make([]weight, 2, 2+len(o.others))
	weights[0], _ = g.parameter(n.Input(o.w))
	if weights[0].dense != nil && packs(n.Domain, n.Op) {
		if k, ok := product(n.AttrInt("K", -1), n.AttrInt("N", -1)); ok {
			weights[0].packed = &k
		}
	}
	if weights[1], _ = g.parameter(n.Input(o.b)); n.Input(o.b) == "" {
		weights[1] = g.addedBias(n)
	}
	for _, i := range o.others {
		if s, ok := g.parameter(n.Input(i)); ok {
			weights = append(weights, s)
		}
	}
	if o.needs && o.w < 0 && weights[1].none() {
		return "", nil
	}
	return n.Input(o.x), weights
}

// fed returns the first input of n that changes from run to run, else the first.
func (g *Graph) fed(n *Node) string {
	for _, in := range n.Inputs {
		if in != "" && !g.fixed(in) {
			return in
		}
	}
	return n.Input(0)
}

// foreignWeights returns the stored floating-point tensors that an operator
// reads of which nothing is known; nothing unless one of them has two dimensions
// or more, without which it is unlikely to be a layer.
func (g *Graph) foreignWeights(n *Node) (found []weight) {
	matrix := false
	seen := make(map[any]bool)
	for _, in := range n.Inputs {
		t := g.lookup(in)
		if in == "" || !t.dtype.IsFloat() || len(t.shape) == 0 {
			continue
		}
		if s, ok := g.parameter(in); ok && !seen[s.key()] {
			seen[s.key()] = true
			matrix = matrix || len(t.shape) > 1
			found = append(found, s)
		}
	}
	if !matrix {
		return nil
	}
	return found
}

// addedBias returns the tensor of stored numbers that is added to each of the
// outputs of n, where nothing else reads them: by the next node, by the one that
// follows their quantization and back, or, after products of integers, by the one
// that follows their conversion and scaling.
func (g *Graph) addedBias(n *Node) (none weight) {
	channel := -1
	switch n.Op {
	case "Conv", "ConvTranspose", "ConvInteger":
		if !n.Standard() {
			return none
		}
		channel = 1
	case "MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "TransposeMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "MatMulBnb4":
	default:
		return none
	}
	out := n.Output(0)
	a := g.onlyReader(out)
	between := []string{"Cast", "Mul"}
	if n.Op != "ConvInteger" && n.Op != "MatMulInteger" {
		between = nil
		if a != nil && a.Op == "QuantizeLinear" && a.Input(0) == out {
			between = []string{"QuantizeLinear", "DequantizeLinear"}
		}
	}
	for _, op := range between {
		if a == nil || a.Op != op || a.function != nil || !a.Standard() && !a.requantizes() {
			return none
		}
		out = a.Output(0)
		a = g.onlyReader(out)
	}
	t := g.lookup(out)
	if a == nil || !t.known || len(t.shape) < 2 || a.function != nil {
		return none
	}
	second := 1
	switch {
	case n.Op == "QLinearMatMul":
		if a.Op != "QLinearAdd" || a.Domain != "com.microsoft" {
			return none
		}
		second = 3
	case a.Op == "Add" && a.Standard() && len(a.Inputs) == 2 && g.Opset("") >= 7:
	case (a.Op == "BiasGelu" || a.Op == "FastGelu") && a.Domain == "com.microsoft" && channel < 0 && a.Input(0) == out:
	default:
		return none
	}
	other := a.Input(0)
	if other == out {
		other = a.Input(second)
	} else if a.Input(second) != out {
		return none
	}
	s, ok := g.parameter(other)
	b := g.lookup(other)
	if !ok || s.sparse != nil || !b.known || !b.dtype.IsFloat() && n.Op != "QLinearMatMul" {
		return none
	}
	// The numbers must stand along the output's channels and nowhere else.
	if channel < 0 {
		channel = len(t.shape) - 1
	}
	off := len(t.shape) - len(b.shape)
	if off < 0 || off > channel {
		return none
	}
	for i, d := range b.shape {
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

// onlyReader returns the node that alone reads a tensor, nil when there are
// others or it is an output.
func (g *Graph) onlyReader(tensor string) *Node {
	if r := g.consumers[tensor]; len(r) == 1 && !g.IsOutput(tensor) {
		return r[0]
	}
	return nil
}
