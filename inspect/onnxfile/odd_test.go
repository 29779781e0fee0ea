package onnxfile

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

type oddModel struct {
	name string
	m    *onnxpb.ModelProto
	// want has the values of the tensors in the order of the file, nil for one
	// without numbers.
	want [][]float64
}

// oddModels are valid models of the kinds that are rare.
func oddModels() []oddModel {
	unknown := func(m proto.Message, n protowire.Number) {
		m.ProtoReflect().SetUnknown(append(field(n, []byte("later")), protowire.AppendVarint(protowire.AppendTag(nil, n+1, protowire.VarintType), 7)...))
	}
	float := func(name string, v ...float32) *onnxpb.TensorProto { return floats(name, v...) }
	scalar := func() *onnxpb.TensorProto {
		x := float("scalar", 3)
		x.Dims = nil
		return x
	}
	input := func(name string) *onnxpb.ValueInfoProto { return &onnxpb.ValueInfoProto{Name: proto.String(name)} }

	early := modelOf(float("w", 1, 2))
	early.IrVersion, early.OpsetImport = proto.Int64(1), nil
	early.Graph.Input = []*onnxpb.ValueInfoProto{input("x"), input("w")}
	nameless := &onnxpb.ModelProto{Graph: &onnxpb.GraphProto{}}
	third := proto.Clone(early).(*onnxpb.ModelProto)
	third.IrVersion = proto.Int64(3)
	third.OpsetImport = []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(7)}}

	later := modelOf(float("w", 1))
	unknown(later, 900)
	unknown(later.Graph, 901)
	unknown(later.Graph.Initializer[0], 902)
	unknown(later.OpsetImport[0], 903)
	later.Graph.Node = []*onnxpb.NodeProto{{OpType: proto.String("Later"), Attribute: []*onnxpb.AttributeProto{{}}}}
	unknown(later.Graph.Node[0], 904)
	unknown(later.Graph.Node[0].Attribute[0], 905)

	opsets := modelOf()
	for _, d := range []string{"", "ai.onnx", "ai.onnx.ml", "com.microsoft", ""} {
		opsets.OpsetImport = append(opsets.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: proto.String(d), Version: proto.Int64(1)})
	}

	training := modelOf(float("w", 1))
	training.TrainingInfo = []*onnxpb.TrainingInfoProto{{
		Initialization: &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{float("i", 2)}},
		Algorithm:      &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{float("a", 3)}},
		UpdateBinding:  entries("w", "w_new"),
	}, {}}

	constant := func(x *onnxpb.TensorProto) *onnxpb.NodeProto {
		return &onnxpb.NodeProto{OpType: proto.String("Constant"), Attribute: []*onnxpb.AttributeProto{{Name: proto.String("value"), T: x}}}
	}
	functions := modelOf()
	functions.Functions = []*onnxpb.FunctionProto{{
		Name: proto.String("f"), Domain: proto.String("d"), Overload: proto.String("o"), Attribute: []string{"alpha"},
		AttributeProto: []*onnxpb.AttributeProto{{Name: proto.String("beta"), T: float("b", 4)}},
		Node:           []*onnxpb.NodeProto{constant(float("c", 5)), {Attribute: []*onnxpb.AttributeProto{{Name: proto.String("alpha"), RefAttrName: proto.String("alpha")}}}},
		ValueInfo:      []*onnxpb.ValueInfoProto{input("v")},
	}}

	twice := float("w", 1, 2)
	twice.RawData = []byte{}
	emptied := tensorOf("r", onnxpb.TensorProto_FLOAT, 1)
	emptied.RawData, emptied.FloatData = []byte{0, 0, 128, 63}, []float32{}
	long := tensorOf("long", onnxpb.TensorProto_INT64, 600)
	long.RawData, long.Int64Data = []byte{}, make([]int64, 600)
	text := tensorOf("text", onnxpb.TensorProto_STRING, 2)
	text.StringData = [][]byte{{}, {0xff, 0}}

	var none []*onnxpb.TensorProto
	var nothing [][]float64
	for _, d := range []dtype{onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_INT64, onnxpb.TensorProto_INT4, onnxpb.TensorProto_FLOAT6E3M2, onnxpb.TensorProto_BOOL} {
		for _, dims := range [][]int64{{0}, {0, 3}, {3, 0, 1 << 40}} {
			x := tensorOf("none", d, dims...)
			withRaw := proto.Clone(x).(*onnxpb.TensorProto)
			withRaw.RawData = []byte{}
			none = append(none, x, withRaw)
			nothing = append(nothing, []float64{}, []float64{})
		}
	}

	sparse := modelOf()
	sparse.Graph.SparseInitializer = []*onnxpb.SparseTensorProto{{Values: float("w", 7, 8), Indices: func() *onnxpb.TensorProto {
		x := tensorOf("", onnxpb.TensorProto_INT64, 2)
		x.Int64Data = []int64{0, 9}
		return x
	}(), Dims: []int64{10}}, {Dims: []int64{5}}}

	return []oddModel{
		{"IR version 1, no opset", early, [][]float64{{1, 2}}},
		{"no IR version", nameless, nil},
		{"IR version 3, initializer that is an input", third, [][]float64{{1, 2}}},
		{"fields of a later schema", later, [][]float64{{1}}},
		{"several opset imports", opsets, nil},
		{"training info", training, [][]float64{{1}, {2}, {3}}},
		{"functions", functions, [][]float64{{4}, {5}}},
		{"empty raw data beside typed data", modelOf(twice, emptied, long), [][]float64{{1, 2}, {1}, make([]float64, 600)}},
		{"no elements", modelOf(none...), nothing},
		{"scalar", modelOf(scalar(), float("one", 4)), [][]float64{{3}, {4}}},
		{"strings", modelOf(text), [][]float64{nil}},
		{"sparse", sparse, [][]float64{{7, 8}, {0, 9}}},
	}
}

func TestOddModels(t *testing.T) {
	for _, c := range oddModels() {
		t.Run(c.name, func(t *testing.T) {
			b := marshal(t, c.m)
			f := read(t, b)
			checkRead(t, b)
			var got [][]float64
			eachTensor(f.Model, func(p *onnxpb.TensorProto) {
				x := f.Tensor(p)
				if x.DType() == DType(onnxpb.TensorProto_STRING) {
					got = append(got, nil)
					if x.StoredBytes() != 2 {
						t.Errorf("%d bytes of strings", x.StoredBytes())
					}
					return
				}
				got = append(got, values(t, x))
			})
			if !slices.EqualFunc(got, c.want, sameFloats) {
				t.Errorf("values %v, want %v", got, c.want)
			}
			// What is not touched is written as it was, unknown fields too.
			out, err := f.Draft().Bytes()
			if err != nil || len(out) != len(b) {
				t.Errorf("%d bytes written, %d read, %v", len(out), len(b), err)
			}
			if n := bytes.Count(b, []byte("later")); n != bytes.Count(out, []byte("later")) {
				t.Errorf("not all %d unknown fields were kept", n)
			}
		})
	}
}
