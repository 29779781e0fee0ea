package inspect

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// macs prints a layer's or a total's cost.
func macs(n *int64) string {
	if n == nil {
		return "?"
	}
	return fmt.Sprint(*n)
}

func TestLayers(t *testing.T) {
	const none = "?"
	for _, c := range []struct {
		name  string
		x     []any
		build func(s *sketch)
		// A line a layer: operator, weight, bias, parameters, MACs.
		want []string
		// Parameters, statistics, constants, MACs, unknown MACs.
		totals string
	}{
		{"conv", []any{"n", 4, 8, 8}, func(s *sketch) {
			s.weights("w", []int64{6, 2, 3, 3}).weights("b", []int64{6}).node("Conv", "x w b", "y", attrInt("group", 2))
		}, []string{"Conv w b 114 3888"}, "114 0 0 3888 0"},
		{"depthwise conv, fixed batch", []any{2, 4, 8, 8}, func(s *sketch) {
			s.weights("w", []int64{4, 1, 3, 3}).node("Conv", "x w", "y", attrInt("group", 4), attrInts("pads", 1, 1, 1, 1))
		}, []string{"Conv w - 36 4608"}, "36 0 0 4608 0"},
		{"transposed conv", []any{"n", 4, 5, 5}, func(s *sketch) {
			s.weights("w", []int64{4, 3, 2, 2}).node("ConvTranspose", "x w", "y", attrInts("strides", 2, 2), attrInt("group", 2))
		}, []string{"ConvTranspose w - 48 1200"}, "48 0 0 1200 0"},
		{"gemm", []any{"n", 16}, func(s *sketch) {
			s.weights("w", []int64{10, 16}).weights("b", []int64{10}).node("Gemm", "x w b", "y", attrInt("transB", 1))
		}, []string{"Gemm w b 170 160"}, "170 0 0 160 0"},
		{"matmul and a bias", []any{"n", 49, 16}, func(s *sketch) {
			s.weights("w", []int64{16, 10}).weights("b", []int64{10}).node("MatMul", "x w", "u").node("Add", "b u", "y")
		}, []string{"MatMul w b 170 7840"}, "170 0 0 7840 0"},
		{"matmul and something else", []any{"n", 49, 16}, func(s *sketch) {
			// One number a position is no bias, and what an output shows is none.
			s.weights("w", []int64{16, 10}).weights("b", []int64{49, 1}).node("MatMul", "x w", "u").node("Add", "u b", "y").
				weights("c", []int64{10}).node("MatMul", "x w", "v").node("Add", "v c", "z").output("v")
		}, []string{"MatMul w - 160 7840", "MatMul w - 160 7840"}, "160 0 59 15680 0"},
		{"conv and an added bias", []any{"n", 4, 8, 8}, func(s *sketch) {
			s.weights("w", []int64{6, 4, 1, 1}).weights("b", []int64{1, 6, 1, 1}).node("Conv", "x w", "u").node("Add", "u b", "y")
		}, []string{"Conv w b 30 1536"}, "30 0 0 1536 0"},
		{"weight on the left, transposed", []any{16, "n"}, func(s *sketch) {
			s.weights("w", []int64{16, 10}).node("Transpose", "w", "wt").node("MatMul", "wt x", "y")
		}, []string{"MatMul w - 160 " + none}, "160 0 0 ? 1"},
		{"attention has no weight but costs", []any{"n", 7, 16}, func(s *sketch) {
			s.node("Transpose", "x", "xt", attrInts("perm", 0, 2, 1)).node("MatMul", "x xt", "y")
		}, nil, "0 0 0 784 0"},
		{"batch norm", []any{"n", 4, 8, 8}, func(s *sketch) {
			for _, p := range []string{"s", "b", "m", "v"} {
				s.weights(p, []int64{4})
			}
			s.node("BatchNormalization", "x s b m v", "y")
		}, []string{"BatchNormalization s b 8 0"}, "8 8 0 0 0"},
		{"other normalisations and PRelu", []any{"n", 4, 8, 8}, func(s *sketch) {
			s.weights("a", []int64{4}).weights("b", []int64{4}).weights("c", []int64{8}).weights("p", []int64{4, 1, 1}).
				node("InstanceNormalization", "x a b", "u").node("LayerNormalization", "u c", "v").node("PRelu", "v p", "y")
		}, []string{"InstanceNormalization a b 8 0", "LayerNormalization c - 8 0", "PRelu p - 4 0"}, "20 0 0 0 0"},
		{"shared weight", []any{"n", 4, 8, 8}, func(s *sketch) {
			s.weights("w", []int64{4, 4, 1, 1}).weights("b", []int64{4}).node("Conv", "x w b", "u").node("Conv", "u w b", "y")
		}, []string{"Conv w b 20 1024", "Conv w b 20 1024"}, "20 0 0 2048 0"},
		{"quantized weight", []any{"n", 4, 8, 8}, func(s *sketch) {
			s.Graph.Initializer = append(s.Graph.Initializer, &onnxpb.TensorProto{Name: proto.String("q"), Dims: []int64{4, 4, 1, 1},
				DataType: proto.Int32(3), RawData: make([]byte, 16)})
			s.weights("scale", nil, 1).node("DequantizeLinear", "q scale", "w").node("Conv", "x w", "y")
		}, []string{"Conv q - 16 1024"}, "16 0 1 1024 0"},
		{"Constant node as weight", []any{"n", 4}, func(s *sketch) {
			s.node("Constant", "", "w", attrTensor("value", floatTensor("", []int64{4, 2}))).node("MatMul", "x w", "y").ints("other", 1, 2, 3)
		}, []string{"MatMul w - 8 8"}, "8 0 3 8 0"},
		{"open height", []any{1, 4, "h", 8}, func(s *sketch) {
			s.weights("w", []int64{4, 4, 1, 1}).node("Conv", "x w", "u").weights("v", []int64{8, 2}).node("MatMul", "x v", "y")
		}, []string{"Conv w - 16 ?", "MatMul v - 16 ?"}, "32 0 0 ? 2"},
		{"beyond 64 bits", []any{1, 1 << 30, 1 << 30, 1 << 30}, func(s *sketch) {
			s.weights("w", []int64{4, 4, 1, 1}).node("Conv", "x w", "y")
		}, []string{"Conv w - 16 ?"}, "16 0 0 ? 1"},
		{"impossible weight", []any{"n", 4, 8, 8}, func(s *sketch) {
			s.Graph.Initializer = append(s.Graph.Initializer, &onnxpb.TensorProto{Name: proto.String("w"), Dims: []int64{-4, 1 << 62, 1 << 62, 3}, DataType: proto.Int32(1)})
			s.node("Conv", "x w", "y")
		}, []string{"Conv w - 0 ?"}, "0 0 0 ? 1"},
		{"computed weight", []any{"n", 16}, func(s *sketch) {
			s.ints("k", 16, 10).node("ConstantOfShape", "k", "w").node("Gemm", "x w", "u").
				node("RandomNormal", "", "r", attrInts("shape", 10, 10)).node("MatMul", "u r", "y")
		}, []string{"Gemm - - 160 160"}, "160 0 2 260 0"},
		{"computed kernel", []any{"n", 4, 8, 8}, func(s *sketch) {
			s.weights("w", []int64{4, 4, 3, 3}).weights("g", []int64{4, 1, 1, 1}).node("Mul", "w g", "k").node("Conv", "x k", "y")
		}, []string{"Conv - - 144 5184"}, "144 0 0 5184 0"},
		{"fused conv", []any{"n", 4, 8, 8}, func(s *sketch) {
			s.weights("w", []int64{6, 4, 3, 3}).weights("b", []int64{6}).node("com.microsoft/FusedConv", "x w b", "y")
		}, []string{"com.microsoft.FusedConv w b 222 7776"}, "222 0 0 7776 0"},
		{"conv over blocks of channels", []any{1, 16, 8, 8}, func(s *sketch) {
			s.weights("w", []int64{32, 16, 3, 3}).node("com.microsoft.nchwc/Conv", "x w", "y").
				node("com.ms.internal.nhwc/Conv", "x w", "z")
		}, []string{"com.microsoft.nchwc.Conv w - 4608 165888", "com.ms.internal.nhwc.Conv w - 4608 ?"}, "4608 0 0 165888 1"},
		{"matrices of other domains", []any{4, 16}, func(s *sketch) {
			s.weights("w", []int64{10, 16}).weights("b", []int64{10}).weights("s", nil, 1).
				node("com.microsoft/FusedGemm", "x w b", "a", attrInt("transB", 1)).
				node("com.microsoft/FusedMatMul", "x w", "c", attrInt("transB", 1)).node("com.microsoft/BiasGelu", "c b", "d").
				node("com.microsoft/DynamicQuantizeMatMul", "d w s _ _", "y")
		}, []string{"com.microsoft.FusedGemm w b 170 640", "com.microsoft.FusedMatMul w b 170 640", "com.microsoft.DynamicQuantizeMatMul w - 160 640"}, "170 0 1 1920 0"},
		{"packed weight", []any{2, 32}, func(s *sketch) {
			s.weights("q", []int64{8, 2, 2}).weights("s", []int64{16}).
				node("com.microsoft/MatMulNBits", "x q s", "y", attrInt("K", 32), attrInt("N", 8), attrInt("bits", 4), attrInt("block_size", 16))
		}, []string{"com.microsoft.MatMulNBits q - 256 512"}, "256 0 16 512 0"},
		{"unknown operator", []any{4, 16}, func(s *sketch) {
			s.weights("w", []int64{16, 8}).weights("v", []int64{8}).weights("u", []int64{3}).ints("i", 1, 2).
				node("my/Op", "x w v i", "y").node("my/Small", "y u", "z").node("MatMul", "x w", "k")
		}, []string{"my.Op w - 136 ?", "MatMul w - 128 512"}, "136 0 5 512 1"},
		{"recurrent", []any{4, 1, 3}, func(s *sketch) {
			s.weights("w", []int64{2, 20, 3}).weights("r", []int64{2, 20, 5}).weights("b", []int64{2, 40}).weights("p", []int64{2, 15}).
				node("LSTM", "x w r b _ _ _ p", "l", attrString("direction", "bidirectional"), attrInt("hidden_size", 5)).
				weights("gw", []int64{1, 15, 3}).weights("gr", []int64{1, 15, 5}).node("GRU", "x gw gr", "g", attrInt("hidden_size", 5)).
				weights("nw", []int64{1, 5, 3}).weights("nr", []int64{1, 5, 5}).node("RNN", "x nw nr", "n", attrInt("layout", 1))
		}, []string{"LSTM w b 430 1280", "GRU gw - 120 480", "RNN nw - 40 160"}, "590 0 0 1920 0"},
		{"Einsum", []any{2, 3, 4}, func(s *sketch) {
			s.weights("w", []int64{4, 5}).node("Einsum", "x w", "y", attrString("equation", "bij,jk->bik")).
				node("Einsum", "x x", "z", attrString("equation", "...ij,...kj->...ik")).node("Einsum", "x", "t", attrString("equation", "bij->bji")).
				node("Einsum", "w w x", "u", attrString("equation", "jk,jk,bij->b"))
		}, []string{"Einsum w - 20 120", "Einsum w - 20 ?"}, "20 0 0 192 1"},
		{"attention of other domains", []any{2, 3, 8}, func(s *sketch) {
			s.weights("w", []int64{8, 24}).weights("b", []int64{24}).node("com.microsoft/Attention", "x w b", "y", attrInt("num_heads", 2)).
				node("com.microsoft/MultiHeadAttention", "x x x b", "z", attrInt("num_heads", 2)).
				node("com.microsoft/GroupQueryAttention", "x x x", "q")
		}, []string{"com.microsoft.Attention w b 216 1440", "com.microsoft.MultiHeadAttention - b 24 288"}, "216 0 0 1728 1"},
		{"bias behind a product of integers", []any{"n", 4, 8, 8}, func(s *sketch) {
			s.Graph.Initializer = append(s.Graph.Initializer, &onnxpb.TensorProto{Name: proto.String("q"), Dims: []int64{6, 4, 1, 1}, DataType: proto.Int32(3), RawData: make([]byte, 24)})
			s.weights("b", []int64{6}).ints("shape", 1, -1, 1, 1).node("DynamicQuantizeLinear", "x", "xq xs xz").node("ConvInteger", "xq q xz", "i").
				node("Cast", "i", "f", attrInt("to", 1)).node("Mul", "f xs", "m").node("Reshape", "b shape", "rb").node("Add", "m rb", "y")
		}, []string{"ConvInteger q b 30 1536"}, "30 0 4 1536 0"},
		{"bias behind quantization", []any{"n", 16}, func(s *sketch) {
			s.weights("w", []int64{16, 10}).weights("b", []int64{10}).weights("s", nil, 1).node("MatMul", "x w", "m").
				node("QuantizeLinear", "m s", "q").node("DequantizeLinear", "q s", "d").
				node("QuantizeLinear", "b s", "bq").node("DequantizeLinear", "bq s", "bd").node("Add", "d bd", "y")
		}, []string{"MatMul w b 170 160"}, "170 0 1 160 0"},
		{"numbers in an attribute", []any{"n", 4}, func(s *sketch) {
			s.node("Constant", "", "k", attrFloats("value_floats", make([]float32, 20)...)).ints("shape", 4, 5).node("Reshape", "k shape", "w").
				node("MatMul", "x w", "y").node("Constant", "", "one", &onnxpb.AttributeProto{Name: proto.String("value_float"), F: proto.Float32(1)}).
				node("Constant", "", "ints", attrInts("value_ints", 1, 2, 3)).node("Constant", "", "s", attrString("value_string", "a"))
		}, []string{"MatMul k - 20 20"}, "20 0 7 20 0"},
		{"parts of a tensor", []any{"n", 4, 8, 8}, func(s *sketch) {
			s.weights("w", []int64{8, 4, 3, 3}).node("Split", "w", "a b", attrInt("axis", 0)).node("Conv", "x a", "y").node("Conv", "x b", "z").node("Conv", "x a", "again")
		}, []string{"Conv - - 144 5184", "Conv - - 144 5184", "Conv - - 144 5184"}, "288 0 0 15552 0"},
		{"scaled twice", []any{"n", 16}, func(s *sketch) {
			// Both have as many elements as w, which they come from.
			s.weights("w", []int64{16, 16}).weights("s", nil, 2).node("Mul", "w s", "a").node("Mul", "s w", "b").node("Gemm", "x a", "y").node("Gemm", "y b", "z")
		}, []string{"Gemm - - 256 256", "Gemm - - 256 256"}, "256 0 0 512 0"},
		{"computed in a function", []any{"n", 4}, func(s *sketch) {
			s.weights("w", []int64{4, 4}).define("f/T", "a", "b", newSketch(17).node("Transpose", "a", "b")).
				define("f/Half", "", "c", newSketch(17).node("Constant", "", "k", attrTensor("value", floatTensor("", []int64{8, 4}))).node("Split", "k", "c _", attrInt("axis", 0))).
				node("f/T", "w", "t").node("MatMul", "x t", "y").node("f/Half", "", "h").node("MatMul", "y h", "z").node("f/Half", "", "i").node("MatMul", "z i", "e")
		}, []string{"MatMul w - 16 16", "MatMul - - 16 16", "MatMul - - 16 16"}, "32 0 0 48 0"},
		{"computed by an unknown operator", []any{"n", 4}, func(s *sketch) {
			s.ints("q", 1, 2, 3).node("my/Unpack", "q", "w").node("Conv", "x w", "y")
		}, []string{"Conv - - 0 ?"}, "0 0 0 ? 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSketch(17).input("x", c.x...)
			c.build(s)
			m := s.model(t, Options{})
			var got []string
			for i, l := range m.Layers {
				dash := func(s string) string {
					if s == "" {
						return "-"
					}
					return s
				}
				got = append(got, fmt.Sprintf("%s %s %s %d %s", l.Op, dash(l.Weight), dash(l.Bias), l.Parameters, macs(l.MACs)))
				if l.Index != i || l.Zeros != nil {
					t.Errorf("layer %d: %+v", i, l)
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("layers\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			totals := fmt.Sprintf("%d %d %d %s %d", m.Totals.Parameters, m.Totals.Statistics, m.Totals.Constants, macs(m.Totals.MACs), m.Totals.MACsUnknown)
			if totals != c.totals {
				t.Errorf("totals %s, want %s", totals, c.totals)
			}
		})
	}
}

func TestLayerFields(t *testing.T) {
	m := newSketch(17).input("x", "n", 4, 9, 9).weights("w", []int64{6, 2, 3, 5}).
		node("Conv", "x w", "y", attrInt("group", 2), attrInts("strides", 2, 1), attrInts("pads", 1, 0, 0, 2), attrInts("dilations", 1, 1)).
		node("Conv", "x w", "z", attrString("auto_pad", "SAME_LOWER"), attrInt("group", 2)).model(t, Options{})
	want := Layer{Index: 0, Node: 0, Name: "y", Op: "Conv", Kernel: []int64{3, 5}, Strides: []int64{2, 1}, Dilations: []int64{1, 1},
		Pads: []int64{1, 0, 0, 2}, Group: 2, InTensor: "x", OutTensor: "y", Weight: "w", Parameters: 180,
		In: m.Graph.Shape("x"), Out: m.Graph.Shape("y"), MACs: m.Layers[0].MACs, WeightBytes: 4 * 180, OutBytes: new(int64)}
	*want.OutBytes = 4 * 6 * 4 * 7
	if !reflect.DeepEqual(m.Layers[0], want) {
		t.Errorf("%+v\nwant %+v", m.Layers[0], want)
	}
	if l := m.Layers[1]; l.AutoPad != "SAME_LOWER" || l.Pads != nil || l.Out.String() != "n x 6 x 9 x 9" {
		t.Errorf("%+v", l)
	}
}

func TestModel(t *testing.T) {
	s := newSketch(17).input("x", "batch", 3).input("w", 3, 2).weights("w", []int64{3, 2}).
		node("MatMul", "x w", "u").node("Relu", "u", "v").node("Relu", "v", "y").node("com.example/Relu", "y", "z").output("y", "batch", 2)
	s.ProducerName, s.ProducerVersion, s.ModelVersion = proto.String("maker"), proto.String("1.2"), proto.Int64(3)
	s.MetadataProps = []*onnxpb.StringStringEntryProto{{Key: proto.String("b"), Value: proto.String("2")}, {Key: proto.String("a"), Value: proto.String("1")}}
	m := s.model(t, Options{})
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	zero := int64(6)
	want := fmt.Sprintf(`{"file":"test.onnx","file_bytes":%d,"external_bytes":0,"ir_version":8,"opsets":[{"domain":"","version":17}],`+
		`"producer":"maker","producer_version":"1.2","model_version":3,"metadata":[{"key":"b","value":"2"},{"key":"a","value":"1"}],`+
		`"inputs":[{"name":"x","dtype":"float","shape":["batch",3]}],"outputs":[{"name":"y","dtype":"float","shape":["batch",2]}],`+
		`"operators":[{"op":"Relu","count":2},{"op":"MatMul","count":1},{"op":"Relu","domain":"com.example","count":1}],`+
		`"layers":[{"index":0,"node":0,"name":"u","op":"MatMul","in":["batch",3],"out":["batch",2],"in_tensor":"x","out_tensor":"u","weight":"w","parameters":6,"macs":%d,"weight_bytes":24,"out_bytes":8,"zeros":null}],`+
		`"types":[{"dtype":"float","tensors":1,"elements":6,"bytes":24}],`+
		`"totals":{"layers":1,"parameters":6,"statistics":0,"constants":0,"macs":6,"macs_unknown":0,"weight_bytes":24,`+
		`"peak_activation_bytes":20,"peak_node":"u","activations_unknown":1,"nodes":4,"subgraphs":0,"zeros":null}}`, m.FileBytes, zero)
	if string(b) != want {
		t.Errorf("JSON\n%s\nwant\n%s", b, want)
	}
	back := new(Model)
	if err := json.Unmarshal(b, back); err != nil {
		t.Fatal(err)
	}
	m.Graph, m.Handle = nil, nil
	if !reflect.DeepEqual(back, m) {
		t.Errorf("read back %+v\nwant %+v", back, m)
	}
}
