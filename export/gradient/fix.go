package gradient

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// fixed is a model with all shapes fixed for one size of batch.
type fixed struct {
	draft  *onnxfile.Draft
	graph  *inspect.Graph
	image  string
	dims   []int64
	logits string
	labels int
	// nodes are those that the logits need, in an order in which they can run.
	nodes []*inspect.Node
}

// maxLabels bounds the number of labels of a classifier.
const maxLabels = 1 << 20

// fixBatch gives a copy of m's skeleton a batch of n samples.
func fixBatch(m *inspect.Model, n int) (*fixed, error) {
	refuse := func(tensor, reason string) error {
		return &UnsupportedError{File: m.File, Tensor: tensor, Reason: reason}
	}
	if m.Graph == nil || m.Handle == nil {
		return nil, refuse("", "it was read from a report, not from its file")
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	if m.Graph.Opset("") < 7 {
		return nil, refuse("", fmt.Sprintf("opset %d is older than 7; convert it first", m.Graph.Opset("")))
	}
	if len(m.Inputs) != 1 || len(m.Outputs) == 0 {
		return nil, refuse("", fmt.Sprintf("it has %d inputs and %d outputs, one image input and an output are expected", len(m.Inputs), len(m.Outputs)))
	}
	in := m.Inputs[0]
	for _, v := range []inspect.Value{in, m.Outputs[0]} {
		if v.DType != "float" {
			return nil, refuse(v.Name, fmt.Sprintf("it is of type %s; only models in float32 throughout can be trained", v.DType))
		}
	}
	if !in.Shape.Known || len(in.Shape.Dims) != 4 {
		return nil, refuse(in.Name, fmt.Sprintf("an input of shape %s; four dimensions are expected", in.Shape))
	}
	f := &fixed{draft: m.Handle.Draft(), image: in.Name}
	for _, d := range in.Shape.Dims[1:] {
		if d.Value < 1 {
			return nil, refuse(in.Name, fmt.Sprintf("an input of shape %s; give its size", in.Shape))
		}
		f.dims = append(f.dims, d.Value)
	}
	declared := int64(0)
	for _, v := range f.draft.Model.Graph.Input {
		if dims := v.GetType().GetTensorType().GetShape().GetDim(); v.GetName() == in.Name && len(dims) > 0 {
			declared = dims[0].GetDimValue()
			dims[0] = &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(n)}}
		}
	}
	if declared > 0 && declared != int64(n) {
		openTargets(f.draft.Model, m.Graph, declared)
	}
	f.draft.Model.Graph.ValueInfo = nil
	handle := *m.Handle
	handle.Model = f.draft.Model
	opt := m.Options
	opt.Batch = 0
	opt.InputShapes = map[string][]int64{in.Name: append([]int64{int64(n)}, f.dims...)}
	var err error
	if f.graph, err = inspect.NewGraph(&handle, opt); err != nil {
		return nil, err
	}
	order, err := f.graph.Order()
	if err != nil {
		return nil, err
	}
	out := m.Outputs[0].Name
	if f.logits, err = logitsOf(m.File, f.graph, out); err != nil {
		return nil, err
	}
	dims, ok := f.graph.Shape(f.logits).Fixed()
	if !ok || len(dims) < 2 || dims[0] != int64(n) {
		return nil, refuse(f.logits, fmt.Sprintf("the output for %d samples has shape %s", n, f.graph.Shape(f.logits)))
	}
	if k := elements(dims[1:]); k < 2 || k > maxLabels {
		return nil, refuse(f.logits, fmt.Sprintf("%d values for an image, labels from 2 to %d are expected", k, maxLabels))
	} else {
		f.labels = int(k)
	}
	f.nodes = needed(order, f.logits)
	if err := f.checkBatch(m, n); err != nil {
		return nil, err
	}
	return f, nil
}

// openTargets makes constant targets of Reshape that repeat the batch of the file
// follow another one.
func openTargets(model *onnxpb.ModelProto, g *inspect.Graph, declared int64) {
	for i, node := range model.Graph.Node {
		n := g.Nodes[i]
		if n.Op != "Reshape" || !n.Standard() || n.AttrInt("allowzero", 0) != 0 {
			continue
		}
		to, ok := g.Ints(n.Input(1))
		if _, constant := g.Stored(n.Input(0)); !ok || constant || len(to) == 0 || to[0] != declared {
			continue
		}
		to = slices.Clone(to)
		to[0] = -1
		if slices.Contains(to[1:], -1) {
			to[0] = 0 // as the tensor that it reads
		}
		name := fmt.Sprintf("target.%d", i)
		for g.Has(name) {
			name = "_" + name
		}
		// Inline, so that the shapes of the new graph can be told at once.
		model.Graph.Initializer = append(model.Graph.Initializer, &onnxpb.TensorProto{
			Name: proto.String(name), DataType: proto.Int32(int32(onnxfile.Int64)), Dims: []int64{int64(len(to))}, Int64Data: to,
		})
		node.Input[1] = name
	}
}

// checkBatch sees that every number on the way from the image belongs to one sample.
func (f *fixed) checkBatch(m *inspect.Model, n int) error {
	depends := map[string]bool{f.image: true}
	for _, node := range f.nodes {
		if node.Standard() && (node.Op == "Shape" || node.Op == "Size") || !slices.ContainsFunc(node.Inputs, func(t string) bool { return depends[t] }) {
			continue
		}
		for _, out := range node.Outputs {
			if out == "" || f.graph.DType(out) != 0 && !f.graph.DType(out).IsFloat() {
				continue
			}
			depends[out] = true
			is, was := f.graph.Shape(out), m.Graph.Shape(out)
			if !is.Known || len(is.Dims) == 0 || is.Dims[0].Value != int64(n) || was.Known && (len(is.Dims) != len(was.Dims) || !sameRest(is, was)) {
				return &UnsupportedError{File: m.File, Node: node.Label(), Op: node.Op, Tensor: out,
					Reason: fmt.Sprintf("for a batch of %d its shape would be %s; export the model with an open batch", n, is)}
			}
		}
	}
	return nil
}

// sameRest tells whether two shapes agree behind the first dimension, as far as
// both are fixed.
func sameRest(a, b inspect.Shape) bool {
	for i, d := range a.Dims[1:] {
		if e := b.Dims[1+i]; d.Value >= 0 && e.Value >= 0 && d.Value != e.Value {
			return false
		}
	}
	return true
}

// logitsOf returns the tensor whose softmax are the probabilities of a classifier
// with the given output.
func logitsOf(file string, g *inspect.Graph, out string) (string, error) {
	n := g.Producer(out)
	for n != nil && n.Standard() && n.Op == "Identity" {
		out = n.Input(0)
		n = g.Producer(out)
	}
	if n == nil || !n.Standard() {
		return out, nil
	}
	switch n.Op {
	case "Softmax", "LogSoftmax":
		s := g.Shape(out)
		dims, ok := s.Fixed()
		if ok && len(dims) >= 2 && !lastAxis(n, dims, g.Opset("")) {
			axis := n.AttrInt("axis", 1)
			if axis != 1 || elements(dims[2:]) != 1 {
				return "", &UnsupportedError{File: file, Node: n.Label(), Op: n.Op, Reason: "its axis is not that of the labels"}
			}
		}
		return n.Input(0), nil
	case "Sigmoid":
		return "", &UnsupportedError{File: file, Node: n.Label(), Op: n.Op, Reason: "an output of independent probabilities is no classifier's with one label for each image"}
	}
	return out, nil
}

// needed returns the nodes of order that a tensor depends on.
func needed(order []*inspect.Node, tensor string) []*inspect.Node {
	want := map[string]bool{tensor: true}
	var nodes []*inspect.Node
	for _, n := range slices.Backward(order) {
		if slices.ContainsFunc(n.Outputs, func(t string) bool { return t != "" && want[t] }) {
			nodes = append(nodes, n)
			addReads(n.Proto, want)
		}
	}
	slices.Reverse(nodes)
	return nodes
}

// findParams returns the tensors to train, in the order of the layers. c, which may be
// nil, is what the model has in common with its original.
func findParams(m *inspect.Model, g *inspect.Graph, opt BuildOptions, c *common) ([]Param, error) {
	var params []Param
	index := map[string]int{}
	add := func(l *inspect.Layer, s inspect.Stored, masked bool) error {
		if i, ok := index[s.Name]; ok {
			params[i].Masked = params[i].Masked || masked
			return nil
		}
		bad := func(reason string) error {
			return &UnsupportedError{File: m.File, Node: l.Name, Op: l.Op, Tensor: s.Name, Reason: reason}
		}
		for _, n := range s.Through {
			switch n.Op {
			case "DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear":
				return bad("it is quantized; train the model before quantizing it")
			case "Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast":
			default:
				return bad("it is computed by an operator " + n.Op)
			}
		}
		if s.Tensor.DType() != onnxfile.Float {
			return bad(fmt.Sprintf("it is of type %s; only models in float32 throughout can be trained", s.Tensor.DType()))
		}
		if _, err := s.Tensor.Elements(); err != nil {
			return err
		}
		if _, ok := g.Initializer(s.Name); !ok {
			if p := g.Producer(s.Name); p == nil || p.Op != "Constant" {
				return bad("it is not stored in the main graph")
			}
		}
		index[s.Name] = len(params)
		params = append(params, Param{Name: s.Name, Dims: slices.Clone(s.Tensor.Dims()), Masked: masked, stored: s})
		return nil
	}
	wanted := map[string]*Layer{}
	for i := range opt.Layers {
		wanted[opt.Layers[i].Name] = &opt.Layers[i]
	}
	frozen := func(l *inspect.Layer) bool { return false }
	if c != nil && opt.Layers == nil && !opt.Whole {
		same := c.computed()
		if !same[c.model.logits] { // else nothing is pruned, and all is trained
			frozen = func(l *inspect.Layer) bool {
				_, n := m.LayerNode(l)
				return same[n.Output(0)]
			}
		}
	}
	for i := range m.Layers {
		l := &m.Layers[i]
		if l.Scope != "" {
			if wanted[l.Name] != nil {
				return nil, &OptionError{"layers", fmt.Sprintf("layer %q lies in a nested graph", l.Name)}
			}
			continue
		}
		if frozen(l) {
			continue
		}
		masked := true
		switch l.Op {
		case "Conv", "Gemm", "MatMul":
			if opt.Layers == nil {
				break
			}
			w := wanted[l.Name]
			if w == nil {
				continue
			}
			if w.Weight != "" && w.Weight != l.Weight {
				return nil, &OptionError{"layers", fmt.Sprintf("layer %q has the weight %q, not %q", l.Name, l.Weight, w.Weight)}
			}
			masked = w.Masked
			delete(wanted, l.Name)
		case "BatchNormalization":
			if !opt.Norms {
				continue
			}
			_, n := m.LayerNode(l)
			for _, t := range []string{n.Input(1), n.Input(2)} {
				if s, ok := m.Graph.Stored(t); ok {
					if err := add(l, s, false); err != nil {
						return nil, err
					}
				}
			}
			continue
		default:
			continue
		}
		s, ok := m.LayerWeight(l)
		if !ok {
			if opt.Layers == nil {
				continue
			}
			return nil, &UnsupportedError{File: m.File, Node: l.Name, Op: l.Op, Reason: "its weight is not stored"}
		}
		if err := add(l, s, masked); err != nil {
			return nil, err
		}
		if s, ok := m.LayerBias(l); ok {
			if err := add(l, s, false); err != nil {
				return nil, err
			}
		}
	}
	for _, l := range opt.Layers {
		if wanted[l.Name] != nil {
			return nil, &OptionError{"layers", fmt.Sprintf("no Conv, Gemm or MatMul of the main graph is called %q", l.Name)}
		}
	}
	if len(params) == 0 {
		return nil, &UnsupportedError{File: m.File, Reason: "no layer with a stored weight is to be trained"}
	}
	return params, nil
}

// usedParams leaves out parameters that the logits do not depend on.
func usedParams(file string, params []Param, nodes []*inspect.Node, opt BuildOptions) ([]Param, error) {
	read := map[string]bool{}
	for _, n := range nodes {
		addReads(n.Proto, read)
	}
	unused := func(p Param) bool { return !read[p.Name] }
	if i := slices.IndexFunc(params, unused); i >= 0 && opt.Layers != nil {
		return nil, &UnsupportedError{File: file, Tensor: params[i].Name, Reason: "the output does not depend on it"}
	}
	return slices.DeleteFunc(params, unused), nil
}
