package inspect

import (
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

// findLayers fills m.Layers and m.Totals.
func (m *Model) findLayers() {
	g := m.Graph
	parameters := make(map[string]onnxfile.Tensor)
	statistics := make(map[string]onnxfile.Tensor)
	m.Layers = []Layer{}
	macs, known, missing := int64(0), 0, 0
	for _, n := range g.order {
		if n.Standard() {
			if cost, ok := g.macs(n); ok {
				if sum, fits := add(macs, cost); cost >= 0 && fits {
					macs, known = sum, known+1
				} else {
					missing++
				}
			}
		}
		l, ok := g.layer(n)
		if !ok {
			continue
		}
		l.Index = len(m.Layers)
		for _, name := range []string{l.Weight, l.Bias} {
			if s, ok := g.Stored(name); ok {
				parameters[s.Name] = s.Tensor
				if k, err := s.Tensor.Elements(); err == nil {
					l.Parameters, _ = add(l.Parameters, k)
				}
			}
		}
		if n.Op == "BatchNormalization" {
			for i := 3; i <= 4; i++ {
				if s, ok := g.Stored(n.Input(i)); ok {
					statistics[s.Name] = s.Tensor
				}
			}
		}
		m.Layers = append(m.Layers, l)
	}
	t := &m.Totals
	t.Layers, t.MACsUnknown = len(m.Layers), missing
	if known > 0 || missing == 0 {
		t.MACs = &macs
	}
	for _, s := range parameters {
		t.Parameters = addElements(t.Parameters, s)
		t.WeightBytes, _ = add(t.WeightBytes, s.StoredBytes())
	}
	for name, s := range statistics {
		if _, ok := parameters[name]; !ok {
			t.Statistics = addElements(t.Statistics, s)
			t.WeightBytes, _ = add(t.WeightBytes, s.StoredBytes())
		}
	}
	constant := func(name string, s onnxfile.Tensor) {
		if _, ok := parameters[name]; ok {
			return
		}
		if _, ok := statistics[name]; ok {
			return
		}
		t.Constants = addElements(t.Constants, s)
	}
	for name, p := range g.inits {
		constant(name, g.file.Tensor(p))
	}
	for _, n := range g.Nodes {
		if p := n.Attr("value").GetT(); p != nil && n.Op == "Constant" && n.Standard() {
			constant(n.Output(0), g.file.Tensor(p))
		}
	}
}

// addElements adds the elements of s to n; a tensor with impossible dimensions
// has none.
func addElements(n int64, s onnxfile.Tensor) int64 {
	if k, err := s.Elements(); err == nil {
		if sum, ok := add(n, k); ok {
			return sum
		}
	}
	return n
}

// layer describes n when it is a layer.
func (g *Graph) layer(n *Node) (l Layer, ok bool) {
	if !n.Standard() {
		return l, false
	}
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
			return l, false // two activations
		}
	case "QLinearMatMul":
		weight, bias = n.Input(3), ""
		if !g.fixed(weight) {
			return l, false
		}
	case "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization":
	case "RMSNormalization", "PRelu":
		bias = ""
	default:
		return l, false
	}
	l = Layer{
		Node: n.Index, Name: n.Label(), Op: n.Op,
		In: g.Shape(input), Out: g.Shape(n.Output(0)),
		InTensor: input, OutTensor: n.Output(0),
	}
	if s, ok := g.Stored(weight); ok {
		l.Weight = s.Name
	}
	if s, ok := g.Stored(bias); ok {
		l.Bias = s.Name
	}
	if l.Bias == "" && bias == "" {
		l.Bias = g.addedBias(n)
	}
	if cost, ok := g.macs(n); !ok {
		l.MACs = new(int64)
	} else if cost >= 0 {
		l.MACs = &cost
	}
	switch n.Op {
	case "Conv", "ConvTranspose", "ConvInteger", "QLinearConv":
		l.Group = n.AttrInt("group", 1)
		w := g.tensors[weight]
		if win, ok := windowOf(n, w.shape, max(len(w.shape)-2, len(n.AttrInts("kernel_shape")))); ok {
			l.Kernel, l.Strides, l.Dilations = slices.Clone(win.kernel), win.strides, win.dilations
			if win.auto == "NOTSET" || win.auto == "" {
				l.Pads = slices.Concat(win.begin, win.end)
			} else {
				l.AutoPad = win.auto
			}
		}
	}
	return l, true
}

// addedBias returns the stored tensor that the only reader of n adds to each of
// its outputs, "" when there is none.
func (g *Graph) addedBias(n *Node) string {
	channel := -1
	switch n.Op {
	case "Conv", "ConvTranspose":
		channel = 1
	case "MatMul", "Gemm":
	default:
		return ""
	}
	out := n.Output(0)
	readers := g.consumers[out]
	t := g.tensors[out]
	if len(readers) != 1 || g.IsOutput(out) || !t.known || len(t.shape) < 2 {
		return ""
	}
	a := readers[0]
	if a.Op != "Add" || !a.Standard() || len(a.Inputs) != 2 || g.Opset("") < 7 {
		return ""
	}
	other := a.Inputs[0]
	if other == out {
		other = a.Inputs[1]
	}
	s, ok := g.Stored(other)
	if !ok || !s.Tensor.DType().IsFloat() {
		return ""
	}
	// The numbers must stand along the output's channels and nowhere else.
	if channel < 0 {
		channel = len(t.shape) - 1
	}
	shape := g.tensors[other].shape
	off := len(t.shape) - len(shape)
	if off < 0 || off > channel {
		return ""
	}
	for i, d := range shape {
		if off+i == channel {
			if !same(d, t.shape[channel]) {
				return ""
			}
		} else if !d.is(1) {
			return ""
		}
	}
	return s.Name
}

// macs returns the multiply-accumulates of n, -1 when they are not known; not
// ok for an operator that is not counted.
func (g *Graph) macs(n *Node) (count int64, ok bool) {
	x, y := g.tensors[n.Input(0)], g.tensors[n.Input(1)]
	var p []term
	switch n.Op {
	case "Conv", "ConvInteger", "QLinearConv":
		if n.Op == "QLinearConv" {
			y = g.tensors[n.Input(3)]
		}
		// Each output reads one kernel over the channels of its group.
		if out := g.tensors[n.Output(0)]; out.known && y.known && len(y.shape) > 2 {
			p = slices.Concat(out.shape, y.shape[1:])
		}
	case "ConvTranspose":
		// Each input writes one kernel over the channels of its group.
		if x.known && y.known && len(y.shape) > 2 {
			p = slices.Concat(x.shape, y.shape[1:])
		}
	case "Gemm":
		if out := g.tensors[n.Output(0)]; out.known {
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
			y = g.tensors[n.Input(3)]
		}
		if out := g.tensors[n.Output(0)]; out.known && x.known && len(x.shape) > 0 {
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
