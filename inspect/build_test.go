package inspect

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A sketch is a model in the making. Dimensions are written as in a Shape:
// numbers, strings for symbols, nil for an unnamed one.
type sketch struct {
	*onnxpb.ModelProto
}

func newSketch(opset int64) *sketch {
	return &sketch{&onnxpb.ModelProto{
		IrVersion:   proto.Int64(8),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(opset)}},
		Graph:       &onnxpb.GraphProto{Name: proto.String("g")},
	}}
}

func valueInfo(name string, d onnxfile.DType, dims []any) *onnxpb.ValueInfoProto {
	shape := &onnxpb.TensorShapeProto{}
	for _, dim := range dims {
		p := &onnxpb.TensorShapeProto_Dimension{}
		switch v := dim.(type) {
		case int:
			p.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(v)}
		case string:
			p.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: v}
		}
		shape.Dim = append(shape.Dim, p)
	}
	return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(d)), Shape: shape},
	}}}
}

func (s *sketch) input(name string, dims ...any) *sketch {
	s.Graph.Input = append(s.Graph.Input, valueInfo(name, onnxfile.Float, dims))
	return s
}

func (s *sketch) output(name string, dims ...any) *sketch {
	s.Graph.Output = append(s.Graph.Output, valueInfo(name, onnxfile.Float, dims))
	return s
}

func (s *sketch) info(name string, dims ...any) *sketch {
	s.Graph.ValueInfo = append(s.Graph.ValueInfo, valueInfo(name, onnxfile.Float, dims))
	return s
}

// node adds an operator; inputs and outputs are separated by blanks, "_" stands
// for one that is left out. op may have a domain before a slash.
func (s *sketch) node(op, in, out string, attrs ...*onnxpb.AttributeProto) *sketch {
	s.Graph.Node = append(s.Graph.Node, newNode(op, in, out, attrs...))
	return s
}

func newNode(op, in, out string, attrs ...*onnxpb.AttributeProto) *onnxpb.NodeProto {
	names := func(list string) []string {
		f := strings.Fields(list)
		for i := range f {
			if f[i] == "_" {
				f[i] = ""
			}
		}
		return f
	}
	n := &onnxpb.NodeProto{Input: names(in), Output: names(out), Attribute: attrs}
	if domain, name, ok := strings.Cut(op, "/"); ok {
		n.Domain, op = proto.String(domain), name
	}
	n.OpType = proto.String(op)
	return n
}

func floatTensor(name string, dims []int64, v ...float32) *onnxpb.TensorProto {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	t := &onnxpb.TensorProto{Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(onnxfile.Float))}
	for i := range n {
		f := float32(0)
		if len(v) > 0 {
			f = v[int(i)%len(v)]
		}
		t.RawData = binary.LittleEndian.AppendUint32(t.RawData, math.Float32bits(f))
	}
	return t
}

func intTensor(name string, dims []int64, v ...int64) *onnxpb.TensorProto {
	return &onnxpb.TensorProto{Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(onnxfile.Int64)), Int64Data: v}
}

// weights adds a float initializer that repeats v.
func (s *sketch) weights(name string, dims []int64, v ...float32) *sketch {
	s.Graph.Initializer = append(s.Graph.Initializer, floatTensor(name, dims, v...))
	return s
}

// ints adds a list of integers as an initializer.
func (s *sketch) ints(name string, v ...int64) *sketch {
	s.Graph.Initializer = append(s.Graph.Initializer, intTensor(name, []int64{int64(len(v))}, v...))
	return s
}

// scalar adds one integer without dimensions.
func (s *sketch) scalar(name string, v int64) *sketch {
	s.Graph.Initializer = append(s.Graph.Initializer, intTensor(name, nil, v))
	return s
}

func attrInt(name string, v int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func attrInts(name string, v ...int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INTS.Enum(), Ints: v}
}

func attrFloats(name string, v ...float32) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_FLOATS.Enum(), Floats: v}
}

func attrString(name, v string) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_STRING.Enum(), S: []byte(v)}
}

func attrTensor(name string, t *onnxpb.TensorProto) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_TENSOR.Enum(), T: t}
}

func attrGraph(name string, g *onnxpb.GraphProto) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: g}
}

func (s *sketch) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := onnxfile.NewDraft(s.ModelProto).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// file writes the sketch to memory and reads it back.
func (s *sketch) file(t testing.TB) *onnxfile.File {
	t.Helper()
	b := s.bytes(t)
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "test.onnx")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (s *sketch) graph(t testing.TB) *Graph {
	t.Helper()
	g, err := NewGraph(s.file(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (s *sketch) model(t testing.TB, opt Options) *Model {
	t.Helper()
	m, err := New(t.Context(), s.file(t), opt)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
