package inspect

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func byteTensor(name string, dims []int64, v ...byte) *onnxpb.TensorProto {
	return &onnxpb.TensorProto{Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(uint8Type)), RawData: v}
}

// What equals the zero point is zero, and nothing is said where that is not known.
func TestZeroPoints(t *testing.T) {
	const none = -1
	conv := []int64{2, 2, 1, 1}
	for _, c := range []struct {
		name  string
		build func(s *sketch)
		want  float64
	}{
		{"none given", func(s *sketch) { s.node("DequantizeLinear", "w scale", "d").node("Conv", "x d", "y") }, 0.25},
		{"of the tensor", func(s *sketch) { s.node("DequantizeLinear", "w scale seven", "d").node("Conv", "x d", "y") }, 0.5},
		{"zero", func(s *sketch) { s.node("DequantizeLinear", "w scale zero", "d").node("Conv", "x d", "y") }, 0.25},
		{"along an axis", func(s *sketch) {
			s.node("DequantizeLinear", "w scale both", "d", attrInt("axis", 0)).node("Conv", "x d", "y")
		}, 0.75},
		{"along another axis", func(s *sketch) {
			s.node("DequantizeLinear", "w scale both", "d", attrInt("axis", -3)).node("Conv", "x d", "y")
		}, 0.5},
		{"along an axis that has moved", func(s *sketch) {
			s.node("Transpose", "w", "t").node("DequantizeLinear", "t scale both", "d", attrInt("axis", 0)).node("Conv", "x d", "y")
		}, none},
		{"one for all, moved", func(s *sketch) {
			s.node("Transpose", "w", "t", attrInts("perm", 1, 0, 2, 3)).node("DequantizeLinear", "t scale seven", "d").node("Conv", "x d", "y")
		}, 0.5},
		{"in blocks", func(s *sketch) {
			s.node("DequantizeLinear", "w scale both", "d", attrInt("axis", 0), attrInt("block_size", 1)).node("Conv", "x d", "y")
		}, none},
		{"fed", func(s *sketch) {
			s.feed("z", uint8Type).node("DequantizeLinear", "w scale z", "d").node("Conv", "x d", "y")
		}, none},
		{"of another length", func(s *sketch) {
			s.Graph.Initializer = append(s.Graph.Initializer, byteTensor("three", []int64{3}, 1, 2, 3))
			s.node("DequantizeLinear", "w scale three", "d", attrInt("axis", 0)).node("Conv", "x d", "y")
		}, none},
		{"QLinearConv", func(s *sketch) { s.node("QLinearConv", "q scale zero w scale both scale zero", "y") }, 0.75},
		{"ConvInteger", func(s *sketch) { s.node("ConvInteger", "q w zero seven", "y") }, 0.5},
		{"MatMulInteger, columns", func(s *sketch) { s.node("MatMulInteger", "q m _ both", "y") }, 0.5},
		{"MatMulInteger, rows", func(s *sketch) { s.node("MatMulInteger", "m q both", "y") }, 0.75},
		{"QGemm, transposed", func(s *sketch) {
			s.feed("two", uint8Type, 3, 2).node("com.microsoft/QGemm", "two scale zero m scale both", "y", attrInt("transB", 1))
		}, 0.75},
		{"packed", func(s *sketch) {
			s.node("com.microsoft/MatMulNBits", "x m scale", "y", attrInt("K", 4), attrInt("N", 2))
		}, none},
		{"stored unquantized", func(s *sketch) {
			s.weights("f", conv, 0, 7, 7, 7).node("QuantizeLinear", "f scale seven", "fq").node("DequantizeLinear", "fq scale seven", "d").node("Conv", "x d", "y")
		}, 0.25},
	} {
		s := newSketch(21).input("x", 1, 2, 4, 4).weights("scale", nil, 1).feed("q", uint8Type, 1, 2, 2, 2)
		s.Graph.Initializer = append(s.Graph.Initializer, byteTensor("w", conv, 7, 7, 0, 9), byteTensor("m", []int64{2, 2}, 7, 7, 0, 9),
			byteTensor("seven", nil, 7), byteTensor("zero", nil, 0), byteTensor("both", []int64{2}, 7, 9))
		c.build(s)
		m := s.model(t, Options{Weights: true})
		if len(m.Layers) != 1 {
			t.Fatalf("%s: %d layers", c.name, len(m.Layers))
		}
		got := float64(none)
		if z := m.Layers[0].Zeros; z != nil {
			got = *z
		}
		if got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
