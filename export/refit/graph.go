package refit

import (
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// builder writes the small graphs in which sums are formed, apart from the models.
type builder struct {
	d *onnxfile.Draft
	g *onnxpb.GraphProto
	n int
}

func newBuilder(name string) *builder {
	m := &onnxpb.ModelProto{
		IrVersion:   proto.Int64(7),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(13)}},
		Graph:       &onnxpb.GraphProto{Name: proto.String(name)},
	}
	return &builder{d: onnxfile.NewDraft(m), g: m.Graph}
}

// input adds an input of the graph; a negative dimension is left open.
func (b *builder) input(name string, dtype onnxfile.DType, dims ...int64) string {
	b.g.Input = append(b.g.Input, valueInfo(name, dtype, dims...))
	return name
}

// node adds an operator with one output and returns the output's name.
func (b *builder) node(op string, in []string, attrs ...*onnxpb.AttributeProto) string {
	b.n++
	return b.named(strconv.Itoa(b.n), op, in, attrs...)
}

func (b *builder) named(out, op string, in []string, attrs ...*onnxpb.AttributeProto) string {
	b.g.Node = append(b.g.Node, &onnxpb.NodeProto{OpType: proto.String(op), Name: proto.String(out), Input: in, Output: []string{out}, Attribute: attrs})
	return out
}

// output adds an operator whose output, of type float, is one of the graph.
func (b *builder) output(name, op string, in []string, dims []int64, attrs ...*onnxpb.AttributeProto) {
	b.named(name, op, in, attrs...)
	b.g.Output = append(b.g.Output, valueInfo(name, onnxfile.Float, dims...))
}

func (b *builder) ints(v ...int64) string {
	b.n++
	t := &onnxpb.TensorProto{Name: proto.String(strconv.Itoa(b.n))}
	b.d.SetInt64(t, v, int64(len(v)))
	b.g.Initializer = append(b.g.Initializer, t)
	return t.GetName()
}

func (b *builder) floats(v []float32, dims ...int64) string {
	b.n++
	t := &onnxpb.TensorProto{Name: proto.String(strconv.Itoa(b.n))}
	b.d.SetFloat32(t, v, dims...)
	b.g.Initializer = append(b.g.Initializer, t)
	return t.GetName()
}

func attrInt(name string, v int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func attrInts(name string, v ...int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INTS.Enum(), Ints: v}
}

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
