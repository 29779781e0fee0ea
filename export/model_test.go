package export

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// net writes small models, which read "image" of batch x 3 x 8 x 8.
type net struct {
	g *onnxpb.GraphProto
	r *rand.Rand
	t string // the tensor that the next operator reads
}

func newNet() *net {
	return &net{g: &onnxpb.GraphProto{Name: proto.String("net"), Input: []*onnxpb.ValueInfoProto{value("image", -1, 3, 8, 8)}},
		r: rand.New(rand.NewPCG(5, 5)), t: "image"}
}

// value describes a float tensor; the first open dimension is "batch".
func value(name string, dims ...int64) *onnxpb.ValueInfoProto {
	shape := &onnxpb.TensorShapeProto{}
	for i, d := range dims {
		dim := &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}}
		if d < 0 {
			symbol := "batch"
			if i > 0 {
				symbol = "d" + strconv.Itoa(i)
			}
			dim.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: symbol}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxpb.TensorProto_FLOAT)), Shape: shape}}}}
}

func (n *net) raw(name string, dtype onnxpb.TensorProto_DataType, b []byte, dims ...int64) string {
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(dtype)), RawData: b})
	return name
}

func (n *net) floats(name string, v []float32, dims ...int64) string {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return n.raw(name, onnxpb.TensorProto_FLOAT, b, dims...)
}

func (n *net) ints(name string, v ...int64) string {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, uint64(x))
	}
	return n.raw(name, onnxpb.TensorProto_INT64, b, int64(len(v)))
}

// weights adds an initializer of drawn numbers.
func (n *net) weights(name string, dims ...int64) string {
	v := make([]float32, elements(dims))
	for i := range v {
		v[i] = float32(n.r.NormFloat64())
	}
	return n.floats(name, v, dims...)
}

func elements(dims []int64) int64 {
	e := int64(1)
	for _, d := range dims {
		e *= d
	}
	return e
}

func ints(name string, v ...int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INTS.Enum(), Ints: v}
}

func integer(name string, v int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

// node adds an operator that makes the tensor of its name.
func (n *net) node(name, op string, in []string, attrs ...*onnxpb.AttributeProto) string {
	n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: proto.String(op), Name: proto.String(name), Input: in, Output: []string{name}, Attribute: attrs})
	n.t = name
	return name
}

// conv adds a convolution of 3 x 3 with the weight "w.name", and its Relu.
func (n *net) conv(name string, in, out int64) *net {
	n.node(name, "Conv", []string{n.t, n.weights("w."+name, out, in, 3, 3)}, ints("pads", 1, 1, 1, 1))
	n.node(name+".relu", "Relu", []string{n.t})
	return n
}

// head ends the net in a pooling and the layer "classifier".
func (n *net) head(in int64) *net {
	n.node("pool", "GlobalAveragePool", []string{n.t})
	n.node("flat", "Flatten", []string{n.t})
	return n.classifier(in)
}

func (n *net) classifier(in int64) *net {
	n.node("classifier", "Gemm", []string{n.t, n.weights("w.classifier", classes, in), n.weights("b.classifier", classes)}, integer("transB", 1))
	return n
}

// save writes the net into a folder of its own; beside tells that the numbers
// lie in a file "w.data" beside it.
func (n *net) save(t testing.TB, beside bool) string {
	t.Helper()
	dir := t.TempDir()
	m := &onnxpb.ModelProto{IrVersion: proto.Int64(8), OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(13)}},
		Graph: proto.Clone(n.g).(*onnxpb.GraphProto)}
	m.Graph.Output = append([]*onnxpb.ValueInfoProto{value(n.t, -1, classes)}, m.Graph.Output...)
	if beside {
		var data []byte
		for _, p := range m.Graph.Initializer {
			entry := func(k, v string) *onnxpb.StringStringEntryProto {
				return &onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(v)}
			}
			p.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
			p.ExternalData = []*onnxpb.StringStringEntryProto{entry("location", "w.data"),
				entry("offset", strconv.Itoa(len(data))), entry("length", strconv.Itoa(len(p.RawData)))}
			data, p.RawData = append(data, p.RawData...), nil
		}
		if err := os.WriteFile(filepath.Join(dir, "w.data"), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "model.onnx")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func (n *net) model(t testing.TB) *inspect.Model {
	t.Helper()
	return open(t, n.save(t, false))
}
