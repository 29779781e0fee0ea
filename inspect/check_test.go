package inspect

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func TestCheck(t *testing.T) {
	base := func() *onnxpb.ModelProto {
		value := func(name string, dims ...int64) *onnxpb.ValueInfoProto {
			s := &onnxpb.TensorShapeProto{}
			for _, d := range dims {
				s.Dim = append(s.Dim, &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
			}
			return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
				TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(1), Shape: s}}}}
		}
		return &onnxpb.ModelProto{
			IrVersion: proto.Int64(7), OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(13)}},
			Graph: &onnxpb.GraphProto{
				Node: []*onnxpb.NodeProto{
					{Name: proto.String("c"), OpType: proto.String("Conv"), Input: []string{"x", "w", ""}, Output: []string{"y"}},
					{Name: proto.String("r"), OpType: proto.String("Relu"), Input: []string{"y"}, Output: []string{"z"}},
				},
				Initializer: []*onnxpb.TensorProto{{Name: proto.String("w"), DataType: proto.Int32(1), Dims: []int64{2, 3, 1, 1}, RawData: make([]byte, 24)}},
				Input:       []*onnxpb.ValueInfoProto{value("x", 1, 3, 4, 4)},
				Output:      []*onnxpb.ValueInfoProto{value("z", 1, 2, 4, 4)},
			},
		}
	}
	for _, c := range []struct {
		name   string
		change func(*onnxpb.ModelProto)
		want   string // part of the message, "" for none
	}{
		{"sound", func(*onnxpb.ModelProto) {}, ""},
		{"missing weight", func(m *onnxpb.ModelProto) { m.Graph.Initializer = nil }, `reads "w"`},
		{"missing input", func(m *onnxpb.ModelProto) { m.Graph.Node[1].Input[0] = "nosuch" }, `reads "nosuch"`},
		{"missing output", func(m *onnxpb.ModelProto) { m.Graph.Output[0].Name = proto.String("q") }, `output "q"`},
		{"written twice", func(m *onnxpb.ModelProto) { m.Graph.Node[1].Output[0] = "y" }, `which "c" writes too`},
		{"cycle", func(m *onnxpb.ModelProto) { m.Graph.Node[0].Input[0] = "z" }, "cycle"},
		{"short weight", func(m *onnxpb.ModelProto) { m.Graph.Initializer[0].RawData = make([]byte, 20) }, `tensor "w"`},
		{"channels", func(m *onnxpb.ModelProto) { m.Graph.Initializer[0].Dims = []int64{2, 1, 1, 3} }, `weights for 1 channels`},
	} {
		pb := base()
		c.change(pb)
		b, err := proto.Marshal(pb)
		if err != nil {
			t.Fatal(err)
		}
		f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "m.onnx")
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(t.Context(), f, Options{})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		err = m.Check()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var ge *GraphError
		var te *onnxfile.TensorError
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &ge) && !errors.As(err, &te) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
