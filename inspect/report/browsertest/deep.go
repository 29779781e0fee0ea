// Package browsertest opens the pages of package report in a browser, and builds
// the models that are large, nested or hostile enough to test pages with.
// Nothing in the program imports it.
package browsertest

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// Hostile is a name that ends a script, an attribute, a comment and a style, and
// would run if it were not escaped.
const Hostile = `--></title></script></style>"'><img src=x onerror=alert(1)>{{.}}`

// Deep returns a residual network of 8 nodes a block and 4 besides, on images of
// 3x32x32: each block multiplies a branch of convolutions by a gate and adds its
// input. Weights are zero. With named, nodes have the names that PyTorch's
// exporter gives, 25 blocks a layer; else none.
func Deep(blocks int, named bool) *onnxpb.ModelProto {
	b := newBuilder()
	b.anonymous = !named
	x := b.conv("/stem/conv", "input", 3, 16, 3, 1)
	for i := range blocks {
		path := fmt.Sprintf("/layer%d/layer%d.%d", i/25, i/25, i%25)
		a := b.node(path+"/relu1", "Relu", b.conv(path+"/conv1", x, 16, 16, 1, 1))
		a = b.conv(path+"/conv2", a, 16, 16, 3, 16)
		gate := b.node(path+"/gate", "Sigmoid", b.conv(path+"/conv3", x, 16, 16, 1, 1))
		x = b.node(path+"/relu2", "Relu", b.node(path, "Add", b.node(path+"/gate", "Mul", a, gate), x))
	}
	x = b.node("/pool", "GlobalAveragePool", x)
	x = b.node("/flatten", "Flatten", x)
	b.weight("fc.weight", 16, 10)
	x = b.node("/fc", "MatMul", x, "fc.weight")
	return b.finish(x)
}

// Hostiles returns a small model all of whose names are Hostile or begin with it,
// with a nested graph, a text attribute, a loop from a node to itself and a
// cycle.
func Hostiles() *onnxpb.ModelProto {
	b := newBuilder()
	g := b.model.Graph
	g.Input[0].Name, g.Name = proto.String(Hostile+"in"), proto.String(Hostile)
	b.model.ProducerName, b.model.DocString = proto.String(Hostile), proto.String(Hostile+"\x00\xff\u202e")
	b.model.MetadataProps = []*onnxpb.StringStringEntryProto{{Key: proto.String(Hostile), Value: proto.String(Hostile)}}
	b.weight(Hostile+"w", 8, 3, 1, 1)
	add := func(op, name string, in, out []string, attrs ...*onnxpb.AttributeProto) {
		g.Node = append(g.Node, &onnxpb.NodeProto{OpType: proto.String(op), Name: proto.String(name), Input: in, Output: out, Attribute: attrs})
	}
	add("Conv", Hostile, []string{Hostile + "in", Hostile + "w"}, []string{Hostile + "c"},
		&onnxpb.AttributeProto{Name: proto.String(Hostile), Type: onnxpb.AttributeProto_STRING.Enum(), S: []byte(Hostile)})
	body := &onnxpb.GraphProto{Name: proto.String(Hostile), Node: []*onnxpb.NodeProto{{OpType: proto.String("Identity"), Input: []string{Hostile + "c"}, Output: []string{"b"}}},
		Output: []*onnxpb.ValueInfoProto{{Name: proto.String("b")}}}
	add(Hostile+"Op", Hostile+"2", []string{Hostile + "c"}, []string{Hostile + "x"}, &onnxpb.AttributeProto{Name: proto.String(Hostile + "body"), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: body})
	add("Add", Hostile+"loop", []string{Hostile + "x", Hostile + "self"}, []string{Hostile + "self"})
	add("Add", Hostile+"y1", []string{Hostile + "self", Hostile + "p"}, []string{Hostile + "q"})
	add("Relu", Hostile+"y2", []string{Hostile + "q"}, []string{Hostile + "p"})
	return b.finish(Hostile + "p")
}

// Several returns a chain of Relus of one name.
func Several(nodes int, name string) *onnxpb.ModelProto {
	b := newBuilder()
	x := "input"
	for range nodes {
		out := fmt.Sprintf("t%d", len(b.model.Graph.Node))
		b.model.Graph.Node = append(b.model.Graph.Node, &onnxpb.NodeProto{OpType: proto.String("Relu"), Name: proto.String(name), Input: []string{x}, Output: []string{out}})
		x = out
	}
	return b.finish(x)
}

type builder struct {
	model     *onnxpb.ModelProto
	anonymous bool
}

func newBuilder() *builder {
	dims := []*onnxpb.TensorShapeProto_Dimension{{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "batch"}}}
	for _, d := range []int64{3, 32, 32} {
		dims = append(dims, &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
	}
	input := &onnxpb.ValueInfoProto{Name: proto.String("input"), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxfile.Float)), Shape: &onnxpb.TensorShapeProto{Dim: dims}}}}}
	return &builder{model: &onnxpb.ModelProto{IrVersion: proto.Int64(8), OpsetImport: []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(17)}},
		Graph: &onnxpb.GraphProto{Name: proto.String("g"), Input: []*onnxpb.ValueInfoProto{input}}}}
}

func (b *builder) node(path, op string, inputs ...string) string {
	g := b.model.Graph
	out := fmt.Sprintf("t%d", len(g.Node))
	n := &onnxpb.NodeProto{OpType: proto.String(op), Input: inputs, Output: []string{out}}
	if !b.anonymous {
		n.Name = proto.String(path + "/" + op)
	}
	g.Node = append(g.Node, n)
	return out
}

func (b *builder) conv(path, in string, channels, filters, kernel, groups int64) string {
	w := strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", ".") + ".weight"
	if b.anonymous {
		w = fmt.Sprintf("w%d", len(b.model.Graph.Initializer))
	}
	b.weight(w, filters, channels/groups, kernel, kernel)
	out := b.node(path, "Conv", in, w)
	n := b.model.Graph.Node[len(b.model.Graph.Node)-1]
	ints := func(name string, v ...int64) *onnxpb.AttributeProto {
		return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INTS.Enum(), Ints: v}
	}
	p := kernel / 2
	n.Attribute = append(n.Attribute, ints("kernel_shape", kernel, kernel), ints("pads", p, p, p, p),
		&onnxpb.AttributeProto{Name: proto.String("group"), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(groups)})
	return out
}

func (b *builder) weight(name string, dims ...int64) {
	n := int64(4)
	for _, d := range dims {
		n *= d
	}
	b.model.Graph.Initializer = append(b.model.Graph.Initializer, &onnxpb.TensorProto{Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(onnxfile.Float)), RawData: make([]byte, n)})
}

func (b *builder) finish(out string) *onnxpb.ModelProto {
	b.model.Graph.Output = []*onnxpb.ValueInfoProto{{Name: proto.String(out), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxfile.Float))}}}}}
	return b.model
}
