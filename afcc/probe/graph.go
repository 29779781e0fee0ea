package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// builder adds nodes to a graph. Names of its own begin with a prefix that no
// name of the model has.
type builder struct {
	d      *onnxfile.Draft
	g      *onnxpb.GraphProto
	opset  int64
	prefix string
	n      int
	// dir is the folder of weights that stay outside the graph, "" for none.
	dir string
}

// minOpset is the first operator set with numpy-style broadcasting, without
// which the added nodes would mean something else.
const minOpset = 7

// newTrunk returns a copy of m's graph without outputs, to which taps can be
// added. External data is spliced in, as long as the copy has no more than inline
// bytes then; else it stays where it is, for a graph in memory must not have more
// than 2 GB.
func newTrunk(m *inspect.Model, inline int64) (*builder, error) {
	opset := m.Graph.Opset("")
	if opset < minOpset {
		return nil, &NotClassifierError{m.File, fmt.Sprintf("opset %d is older than %d; convert it first", opset, minOpset)}
	}
	d := m.Handle.Draft()
	if err := d.InlineExternal(); err != nil { // also sees that all of it is there
		return nil, err
	}
	dir := ""
	if size, err := d.Size(); err != nil && !errors.Is(err, onnxfile.ErrTooLarge) {
		return nil, err
	} else if (err != nil || size > inline) && m.Handle.External() {
		d = m.Handle.Draft()
		dir = externalDir(m)
	}
	b := &builder{d: d, g: d.Model.Graph, opset: opset, prefix: "filterlens.", dir: dir}
	for b.prefixTaken() {
		b.prefix = "_" + b.prefix
	}
	b.g.Output, b.g.ValueInfo = nil, nil
	return b, nil
}

// maxInline is the most bytes of a copy of a graph that are held in memory while it
// is loaded, where there is a choice.
const maxInline = 1 << 30

// externalDir returns the folder that m's external data is relative to: that of the
// file or, where its name is a link and the data is not beside it, that of the file
// that it leads to.
func externalDir(m *inspect.Model) string {
	dir := filepath.Dir(m.File)
	layout, err := m.Handle.Layout(context.Background())
	target, linkErr := filepath.EvalSymlinks(m.File)
	if err != nil || linkErr != nil || len(layout.Data) == 0 {
		return dir
	}
	if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(layout.Data[0].Location))); err != nil {
		return filepath.Dir(target)
	}
	return dir
}

// newGraph returns an empty graph.
func newGraph() *builder {
	m := &onnxpb.ModelProto{
		IrVersion:   proto.Int64(7),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(13)}},
		Graph:       &onnxpb.GraphProto{Name: proto.String("head")},
	}
	return &builder{d: onnxfile.NewDraft(m), g: m.Graph, opset: 13, prefix: "filterlens."}
}

func (b *builder) prefixTaken() bool {
	taken := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, b.prefix) })
	}
	var graph func(*onnxpb.GraphProto) bool
	graph = func(g *onnxpb.GraphProto) bool {
		for _, n := range g.GetNode() {
			if taken(n.GetName()) || taken(n.Output...) {
				return true
			}
			for _, a := range n.Attribute {
				if slices.ContainsFunc(append(a.Graphs, a.G), graph) {
					return true
				}
			}
		}
		return slices.ContainsFunc(g.GetInitializer(), func(t *onnxpb.TensorProto) bool { return taken(t.GetName()) }) ||
			slices.ContainsFunc(g.GetSparseInitializer(), func(t *onnxpb.SparseTensorProto) bool { return taken(t.GetValues().GetName()) }) ||
			slices.ContainsFunc(g.GetInput(), func(v *onnxpb.ValueInfoProto) bool { return taken(v.GetName()) })
	}
	return graph(b.g)
}

// node adds an operator with one output and returns the output's name.
func (b *builder) node(op string, in []string, attrs ...*onnxpb.AttributeProto) string {
	b.n++
	out := fmt.Sprintf("%s%d", b.prefix, b.n)
	b.named(out, op, in, attrs...)
	return out
}

// named adds an operator whose output has the given name.
func (b *builder) named(out, op string, in []string, attrs ...*onnxpb.AttributeProto) {
	b.g.Node = append(b.g.Node, &onnxpb.NodeProto{
		OpType: proto.String(op), Name: proto.String(out), Input: in, Output: []string{out}, Attribute: attrs,
	})
}

func attrInt(name string, v int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func attrInts(name string, v ...int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INTS.Enum(), Ints: v}
}

func attrFloat(name string, v float32) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_FLOAT.Enum(), F: proto.Float32(v)}
}

// constFloat adds a float initializer; without dims it is a scalar.
func (b *builder) constFloat(v []float32, dims ...int64) string {
	b.n++
	t := &onnxpb.TensorProto{Name: proto.String(fmt.Sprintf("%s%d", b.prefix, b.n))}
	b.d.SetFloat32(t, v, dims...)
	b.g.Initializer = append(b.g.Initializer, t)
	return t.GetName()
}

func (b *builder) constInt(v []int64, dims ...int64) string {
	b.n++
	t := &onnxpb.TensorProto{Name: proto.String(fmt.Sprintf("%s%d", b.prefix, b.n))}
	b.d.SetInt64(t, v, dims...)
	b.g.Initializer = append(b.g.Initializer, t)
	return t.GetName()
}

// valueInfo describes an input or output; a negative dimension is left open.
func valueInfo(name string, dtype onnxfile.DType, dims ...int64) *onnxpb.ValueInfoProto {
	shape := &onnxpb.TensorShapeProto{}
	for _, d := range dims {
		dim := &onnxpb.TensorShapeProto_Dimension{}
		if d >= 0 {
			dim.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(dtype)), Shape: shape},
	}}}
}

func (b *builder) input(name string, dtype onnxfile.DType, dims ...int64) string {
	b.g.Input = append(b.g.Input, valueInfo(b.prefix+name, dtype, dims...))
	return b.prefix + name
}

// outputOf adds an operator whose one output, of type float, is an output of the graph.
func (b *builder) outputOf(name, op string, in []string, dims []int64, attrs ...*onnxpb.AttributeProto) string {
	return b.outputAs(name, onnxfile.Float, op, in, dims, attrs...)
}

// outputAs is outputOf for other types.
func (b *builder) outputAs(name string, dtype onnxfile.DType, op string, in []string, dims []int64, attrs ...*onnxpb.AttributeProto) string {
	out := b.prefix + name
	b.named(out, op, in, attrs...)
	b.g.Output = append(b.g.Output, valueInfo(out, dtype, dims...))
	return out
}

// floatInput replaces an input of another type by one that is float, and returns
// its name.
func (b *builder) floatInput(name string) string {
	image := b.prefix + "image"
	for _, v := range b.g.Input {
		if t := v.GetType().GetTensorType(); v.GetName() == name {
			to := t.GetElemType()
			v.Name, t.ElemType = proto.String(image), proto.Int32(int32(onnxfile.Float))
			b.named(name, "Cast", []string{image}, attrInt("to", int64(to)))
			// A graph lists its nodes in an order in which they can run.
			last := len(b.g.Node) - 1
			b.g.Node = slices.Insert(b.g.Node[:last:last], 0, b.g.Node[last])
		}
	}
	return image
}

// answer adds the first output of m, as float, and returns its name.
func (b *builder) answer(m *inspect.Model) string {
	o := m.Handle.Model.Graph.Output[0]
	dims := make([]int64, len(m.Graph.Shape(o.GetName()).Dims))
	for i := range dims {
		dims[i] = -1
	}
	if m.Graph.DType(o.GetName()) != onnxfile.Float {
		return b.outputOf("answer", "Cast", []string{o.GetName()}, dims, attrInt("to", int64(onnxfile.Float)))
	}
	b.g.Output = append(b.g.Output, valueInfo(o.GetName(), onnxfile.Float, dims...))
	return o.GetName()
}

// features adds the tap as the head sees it: pooled when the plan says so, one
// row of F*P numbers for each sample.
func (b *builder) features(t *Tap) string {
	x := t.Tensor
	if t.cast {
		x = b.node("Cast", []string{x}, attrInt("to", int64(onnxfile.Float)))
	}
	if t.ChannelsLast {
		x = b.node("Transpose", []string{x}, attrInts("perm", toNCHW...))
	}
	if t.Pool > 1 {
		p := int64(t.Pool)
		x = b.node("AveragePool", []string{x}, attrInts("kernel_shape", p, p), attrInts("strides", p, p))
	}
	return b.node("Flatten", []string{x}, attrInt("axis", 1))
}

// batchSum adds an output that is the sum over the samples of a batch: B x D
// becomes D.
func (b *builder) batchSum(name, x string, d int64) string {
	in, attrs := b.overBatch(x)
	return b.outputOf(name, "ReduceSum", in, []int64{d}, attrs...)
}

// overBatch returns the inputs and attributes of a ReduceSum over the samples of x.
func (b *builder) overBatch(x string) (in []string, attrs []*onnxpb.AttributeProto) {
	if b.opset < 13 {
		return []string{x}, []*onnxpb.AttributeProto{attrInts("axes", 0), attrInt("keepdims", 0)}
	}
	return []string{x, b.constInt([]int64{0}, 1)}, []*onnxpb.AttributeProto{attrInt("keepdims", 0)}
}

// noBias returns the inputs of a Gemm without bias, which opsets before 11 do
// not let one leave out.
func (b *builder) noBias(x, w string) []string {
	if b.opset < 11 {
		return []string{x, w, b.constFloat([]float32{0}, 1)}
	}
	return []string{x, w}
}

// headNames are the tensors through which a head's training step is fed and read.
type headNames struct {
	weight, point       string // inputs, K x D
	newWeight, newPoint string // outputs, K x D
	loss                string // output, the weighted sum of the batch's cross-entropies
}

// stepInputs are shared by all training steps of a graph.
type stepInputs struct {
	onehot string // B x K
	rows   string // B x 1: the weight of each sample, 1/B
	pull   string // scalar: -(1+mu) rate
	keep   string // scalar: (1+mu) (1 - rate L2)
}

// newStepInputs adds the inputs that every training step of a graph reads.
func (b *builder) newStepInputs(k int) stepInputs {
	return stepInputs{
		onehot: b.input("onehot", onnxfile.Float, -1, int64(k)),
		rows:   b.input("rows", onnxfile.Float, -1, 1),
		pull:   b.input("pull", onnxfile.Float),
		keep:   b.input("keep", onnxfile.Float),
	}
}

// step adds one step of stochastic gradient descent with Nesterov momentum and
// an L2 penalty on the cross-entropy of a linear head without bias. As PyTorch's
// SGD writes it (after Sutskever et al., "On the importance of initialization
// and momentum in deep learning", ICML 2013):
//
//	p  = softmax(s X W^T)
//	g  = s (r (p - Y))^T X + l2 W        r: row weights, their sum 1
//	v' = mu v + g
//	w' = w - rate (g + mu v')
//
// Here the velocity is carried as the point z = (1+mu) (w + rate mu v), with which
// the same step, at a constant rate, reads
//
//	z' = (1+mu) (w - rate g)
//	w' = z' - mu/(1+mu) z
//
// Large heads are bound by memory, and this touches half as much of it. The
// scale s multiplies the features: it is gradient descent on W / s.
func (b *builder) step(x string, in stepInputs, k, d int, name string, scale float32, r Recipe) headNames {
	kd := []int64{int64(k), int64(d)}
	h := headNames{
		weight: b.input("w."+name, onnxfile.Float, kd...),
		point:  b.input("z."+name, onnxfile.Float, kd...),
	}
	logits := b.node("Gemm", b.noBias(x, h.weight), attrInt("transB", 1), attrFloat("alpha", scale))
	p := b.node("Softmax", []string{logits}, attrInt("axis", 1))
	// -log p of the true label; the summand keeps a certain mistake finite.
	hit := b.node("MatMul", []string{b.node("Mul", []string{p, in.onehot}), b.constFloat(ones(k), int64(k), 1)})
	hit = b.node("Add", []string{hit, b.constFloat([]float32{1e-30})})
	loss := b.node("Mul", []string{b.node("Neg", []string{b.node("Log", []string{hit})}), in.rows})
	h.loss = b.batchSum("loss."+name, loss, 1)

	diff := b.node("Mul", []string{b.node("Sub", []string{p, in.onehot}), in.rows})
	diff = b.node("Mul", []string{diff, in.pull})
	kept := b.node("Mul", []string{h.weight, in.keep})
	h.newPoint = b.outputOf("z'."+name, "Gemm", []string{diff, x, kept}, kd, attrInt("transA", 1), attrFloat("alpha", scale))
	c := b.constFloat([]float32{float32(r.Momentum / (1 + r.Momentum))})
	h.newWeight = b.outputOf("w'."+name, "Sub", []string{h.newPoint, b.node("Mul", []string{h.point, c})}, kd)
	return h
}

func ones(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = 1
	}
	return v
}

// serialize returns the graph's bytes, ready for an engine.
func (b *builder) serialize() ([]byte, error) { return b.d.Bytes() }

// drop takes out the nodes on which no output of the graph depends, and their weights:
// engines need not do so.
func (b *builder) drop() {
	needed := map[string]bool{}
	for _, v := range b.g.Output {
		needed[v.GetName()] = true
	}
	var inner func(g *onnxpb.GraphProto) // what a nested graph reads, of whatever graph
	inner = func(g *onnxpb.GraphProto) {
		for _, n := range g.GetNode() {
			for _, t := range n.Input {
				needed[t] = true
			}
			for _, a := range n.Attribute {
				for _, g := range append(a.Graphs, a.G) {
					inner(g)
				}
			}
		}
		for _, v := range g.GetOutput() {
			needed[v.GetName()] = true
		}
	}
	live := make([]bool, len(b.g.Node))
	// Nodes stand behind those that they read from, but for those of a file that lists
	// them in another order.
	for again := true; again; {
		again = false
		for i, n := range slices.Backward(b.g.Node) {
			if live[i] || !slices.ContainsFunc(n.Output, func(t string) bool { return t != "" && needed[t] }) {
				continue
			}
			live[i], again = true, true
			for _, t := range n.Input {
				needed[t] = true
			}
			for _, a := range n.Attribute {
				for _, g := range append(a.Graphs, a.G) {
					inner(g)
				}
			}
		}
	}
	at := 0
	b.g.Node = slices.DeleteFunc(b.g.Node, func(*onnxpb.NodeProto) bool { at++; return !live[at-1] })
	unread := map[string]bool{}
	b.g.Initializer = slices.DeleteFunc(b.g.Initializer, func(t *onnxpb.TensorProto) bool {
		unread[t.GetName()] = !needed[t.GetName()]
		return unread[t.GetName()]
	})
	// Old files list their initializers as inputs too.
	b.g.Input = slices.DeleteFunc(b.g.Input, func(v *onnxpb.ValueInfoProto) bool { return unread[v.GetName()] })
}
