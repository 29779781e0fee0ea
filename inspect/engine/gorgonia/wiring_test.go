package gorgonia_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// wired is a graph of one node that reads x, [2 6], and whose first output is the
// graph's.
func wired(t *testing.T, opset int64, op string, in, more []string, attrs ...any) (model []byte, out string) {
	t.Helper()
	float := func(dims ...int64) *onnxpb.TypeProto {
		v := &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxfile.Float))}
		for _, d := range dims {
			if v.Shape == nil {
				v.Shape = new(onnxpb.TensorShapeProto)
			}
			v.Shape.Dim = append(v.Shape.Dim, &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
		}
		return &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: v}}
	}
	g := &onnxpb.GraphProto{Name: proto.String("wired"), Input: []*onnxpb.ValueInfoProto{{Name: proto.String("x"), Type: float(2, 6)}}}
	b := &builder{t: t, opset: opset, graph: g, r: rand.New(rand.NewPCG(1, 1)), draft: onnxfile.NewDraft(&onnxpb.ModelProto{
		IrVersion: proto.Int64(8), Graph: g, OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(opset)}},
	})}
	out = b.node(op, in, attrs...)
	g.Node[0].Output = append(g.Node[0].Output, more...)
	g.Output = []*onnxpb.ValueInfoProto{{Name: proto.String(out), Type: float()}}
	model, err := b.draft.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return model, out
}

// Outputs that nobody reads still count where the number of outputs says how much
// each gets.
func TestSplitWithUnreadOutputs(t *testing.T) {
	for _, c := range []struct {
		opset int64
		attrs []any
	}{{7, []any{"axis", 1}}, {13, []any{"axis", 1}}, {18, []any{"axis", 1, "num_outputs", 3}}} {
		model, y := wired(t, c.opset, "Split", []string{"x"}, []string{"b", "c"}, c.attrs...)
		x := drawn(12, 1)
		out, _, err := compute(t.Context(), gorgonia.Open(gorgonia.Options{}), engine.Model{Name: "split", Bytes: model},
			map[string]*engine.Tensor{"x": engine.NewFloat32(x, 2, 6)})
		if err != nil {
			t.Fatalf("opset %d: %v", c.opset, err)
		}
		if want := []float32{x[0], x[1], x[6], x[7]}; !slices.Equal(out[y].Shape, []int64{2, 2}) || !slices.Equal(out[y].Float32(), want) {
			t.Errorf("opset %d: made %v %v, want [2 2] %v", c.opset, out[y].Shape, out[y].Data, want)
		}
	}
}

// An input that is left out among others is refused where the operator needs all.
func TestVariadicWithInputLeftOut(t *testing.T) {
	for _, op := range []string{"Max", "Min", "Mean", "Sum"} {
		model, _ := wired(t, 13, op, []string{"x", "", "x"}, nil)
		s, err := gorgonia.Open(gorgonia.Options{}).Load(t.Context(), engine.Model{Name: op, Bytes: model})
		if err == nil {
			s.Close()
			t.Errorf("%s is loaded", op)
		} else if !strings.Contains(err.Error(), "input 1 is left out") {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// Inputs that are left out at the end are as if they were not listed.
func TestVariadicWithLastInputLeftOut(t *testing.T) {
	for _, op := range []string{"Max", "Mean", "Concat"} {
		var attrs []any
		if op == "Concat" {
			attrs = []any{"axis", 0}
		}
		model, y := wired(t, 13, op, []string{"x", ""}, nil, attrs...)
		x := drawn(12, 1)
		out, _, err := compute(t.Context(), gorgonia.Open(gorgonia.Options{}), engine.Model{Name: op, Bytes: model},
			map[string]*engine.Tensor{"x": engine.NewFloat32(x, 2, 6)})
		if err != nil {
			t.Errorf("%s: %v", op, err)
		} else if !slices.Equal(out[y].Float32(), x) {
			t.Errorf("%s of x alone is %v, x is %v", op, out[y].Data, x)
		}
	}
}
