package inspect

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// feed adds an input of a type other than float.
func (s *sketch) feed(name string, d onnxfile.DType, dims ...any) *sketch {
	s.Graph.Input = append(s.Graph.Input, valueInfo(name, d, dims))
	return s
}

// domain imports one more operator set.
func (s *sketch) domain(name string, version int64) *sketch {
	s.OpsetImport = append(s.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: proto.String(name), Version: proto.Int64(version)})
	return s
}

// Rules beyond the everyday ones: type and shape of all outputs. The sizes were
// checked by running the same nodes in ONNX Runtime; see TestConformance.
func TestShapesOfRareOperators(t *testing.T) {
	for _, c := range []struct {
		name  string
		opset int64
		build func(s *sketch)
		want  string
	}{
		{"lstm", 14, func(s *sketch) {
			s.input("x", "t", "b", 16).weights("w", []int64{2, 32, 16}).weights("r", []int64{2, 32, 8}).
				node("LSTM", "x w r", "y h c", attrString("direction", "bidirectional"))
		}, "float t x 2 x b x 8; float 2 x b x 8; float 2 x b x 8"},
		{"gru, batch first", 14, func(s *sketch) {
			s.input("x", "b", "t", 16).weights("w", []int64{1, 24, 16}).weights("r", []int64{1, 24, 8}).
				node("GRU", "x w r", "y h", attrInt("layout", 1), attrInt("hidden_size", 8))
		}, "float b x t x 1 x 8; float b x 1 x 8"},
		{"rnn, hostile direction", 14, func(s *sketch) {
			s.input("x", "t", "b", 16).node("RNN", "x _ _", "y h", attrString("direction", "sideways"))
		}, "float t x ? x b x ?; float ? x b x ?"},
		{"attention with a cache", 23, func(s *sketch) {
			s.input("q", "b", 8, "seq", 64).input("k", "b", 2, "seq", 64).input("v", "b", 2, "seq", 32).
				input("pk", "b", 2, "past", 64).input("pv", "b", 2, "past", 32).
				node("Attention", "q k v _ pk pv", "y nk nv qk")
		}, "float b x 8 x seq x 32; float b x 2 x (past + seq) x 64; float b x 2 x (past + seq) x 32; float b x 8 x seq x (past + seq)"},
		{"attention, heads side by side", 23, func(s *sketch) {
			s.input("q", "b", "s", 512).input("k", "b", "t", 128).input("v", "b", "t", 64).
				node("Attention", "q k v", "y nk nv", attrInt("q_num_heads", 8), attrInt("kv_num_heads", 2))
		}, "float b x s x 256; float b x 2 x t x 64; float b x 2 x t x 32"},
		{"einsum", 12, func(s *sketch) {
			s.input("x", "b", "i", "j").input("z", "b", "j", 7).node("Einsum", "x z", "y", attrString("equation", " bij, bjk -> bik "))
		}, "float b x i x 7"},
		{"einsum, ellipsis and no arrow", 12, func(s *sketch) {
			s.input("x", 2, 1, "n", 3).input("z", 5, 3, 4).node("Einsum", "x z", "y", attrString("equation", "...ij,...jk"))
		}, "float 2 x 5 x n x 4"},
		{"einsum, diagonal", 12, func(s *sketch) {
			s.input("x", "b", 3, 3).node("Einsum", "x", "y", attrString("equation", "...ii->...i"))
		}, "float b x 3"},
		{"einsum, letters that do not fit", 12, func(s *sketch) { s.input("x", 2, 3).node("Einsum", "x", "y", attrString("equation", "ii->i")) }, "float unknown"},
		{"einsum, nonsense", 12, func(s *sketch) { s.input("x", 2, 3).node("Einsum", "x", "y", attrString("equation", "a1->a")) }, "float unknown"},
		{"einsum, output letter from nowhere", 12, func(s *sketch) { s.input("x", 2, 3).node("Einsum", "x", "y", attrString("equation", "ij->ik")) }, "float unknown"},
		{"roi align", 16, func(s *sketch) {
			s.input("x", "b", 256, "h", "w").input("r", "boxes", 4).feed("i", onnxfile.Int64, "boxes").
				node("RoiAlign", "x r i", "y", attrInt("output_height", 7), attrInt("output_width", 7))
		}, "float boxes x 256 x 7 x 7"},
		{"max roi pool", 1, func(s *sketch) {
			s.input("x", 1, 3, 8, 8).input("r", "boxes", 5).node("MaxRoiPool", "x r", "y", attrInts("pooled_shape", 2, 3))
		}, "float boxes x 3 x 2 x 3"},
		{"max unpool", 11, func(s *sketch) {
			s.input("x", "b", 3, "h", 4).feed("i", onnxfile.Int64, "b", 3, "h", 4).
				node("MaxUnpool", "x i", "y", attrInts("kernel_shape", 2, 2), attrInts("strides", 2, 2))
		}, "float b x 3 x h*2 x 8"},
		{"max unpool to a size", 11, func(s *sketch) {
			s.input("x", 1, 1, 2, 2).feed("i", onnxfile.Int64, 1, 1, 2, 2).ints("s", 1, 1, 5, 5).
				node("MaxUnpool", "x i s", "y", attrInts("kernel_shape", 2, 2), attrInts("strides", 2, 2))
		}, "float 1 x 1 x 5 x 5"},
		{"grid sample", 16, func(s *sketch) {
			s.input("x", "b", 3, 8, 8).input("g", "b", "h", "w", 2).node("GridSample", "x g", "y")
		}, "float b x 3 x h x w"},
		{"affine grid", 20, func(s *sketch) { s.input("x", "b", 2, 3).ints("n", 4, 3, 5, 6).node("AffineGrid", "x n", "y") }, "float 4 x 5 x 6 x 2"},
		{"suppression", 11, func(s *sketch) { s.input("x", 1, "n", 4).input("z", 1, 80, "n").node("NonMaxSuppression", "x z", "y") }, "int64 ? x 3"},
		{"col2im", 18, func(s *sketch) {
			s.input("x", "b", 20, 12).ints("i", 5, 6).ints("k", 2, 2).node("Col2Im", "x i k", "y")
		}, "float b x 5 x 5 x 6"},
		{"center crop", 18, func(s *sketch) {
			s.input("x", "b", 30, 40).ints("n", 10, 8).node("CenterCropPad", "x n", "y", attrInts("axes", 1, -1))
		}, "float b x 10 x 8"},
		{"deformable convolution", 19, func(s *sketch) {
			s.input("x", "b", 3, 9, 9).weights("w", []int64{4, 3, 3, 3}).input("o", "b", 18, 7, 7).node("DeformConv", "x w o", "y")
		}, "float b x 4 x 7 x 7"},
		{"image decoder", 20, func(s *sketch) { s.feed("x", uint8Type, "n").node("ImageDecoder", "x", "y") }, "uint8 ? x ? x ?"},
		{"dft", 17, func(s *sketch) { s.input("x", "b", "n", 1).node("DFT", "x", "y", attrInt("onesided", 1)) }, "float b x (floor(n/2) + 1) x 2"},
		{"dft back", 20, func(s *sketch) {
			s.input("x", "b", "n", 2).node("DFT", "x", "y", attrInt("onesided", 1), attrInt("inverse", 1))
		}, "float b x (n*2 - 2) x 1"},
		{"stft", 17, func(s *sketch) {
			s.input("x", "b", 128, 1).scalar("k", 8).weights("w", []int64{16}).node("STFT", "x k w", "y")
		}, "float b x 15 x 9 x 2"},
		{"mel", 17, func(s *sketch) {
			s.scalar("b", 40).scalar("n", 400).scalar("f", 16000).weights("l", nil).node("MelWeightMatrix", "b n f l l", "y")
		}, "float 201 x 40"},
		{"window", 17, func(s *sketch) {
			s.scalar("n", 10).node("HannWindow", "n", "y", attrInt("output_datatype", 11))
		}, "double 10"},
		{"split strings", 20, func(s *sketch) { s.feed("x", stringType, "n").node("StringSplit", "x", "y z") }, "string n x ?; int64 n"},
		{"match", 20, func(s *sketch) { s.feed("x", stringType, "n").node("RegexFullMatch", "x", "y") }, "bool n"},
		{"concatenate strings", 20, func(s *sketch) {
			s.feed("x", stringType, "n", 1).feed("z", stringType, 4).node("StringConcat", "x z", "y")
		}, "string n x 4"},
		{"stop words", 10, func(s *sketch) {
			s.feed("x", stringType, "n").node("StringNormalizer", "x", "y").
				node("StringNormalizer", "x", "z", &onnxpb.AttributeProto{Name: proto.String("stopwords"), Strings: [][]byte{[]byte("a")}})
		}, "string n; string ?"},
		{"tf-idf", 9, func(s *sketch) {
			s.feed("x", onnxfile.Int64, "n", 9).node("TfIdfVectorizer", "x", "y", attrInts("ngram_indexes", 3, 0, 5))
		}, "float n x 6"},
		{"loss", 13, func(s *sketch) {
			s.input("x", "n", 5, "d").feed("t", onnxfile.Int64, "n", "d").
				node("SoftmaxCrossEntropyLoss", "x t", "y z").node("NegativeLogLikelihoodLoss", "x t", "u", attrString("reduction", "none"))
		}, "float scalar; float n x 5 x d; float n x d"},
		{"compress", 11, func(s *sketch) {
			s.input("x", "n", 4).ints("i", 1, 0, 1).node("Cast", "i", "k", attrInt("to", 9)).
				node("Compress", "x k", "y", attrInt("axis", 1)).node("Compress", "x k", "z", attrInt("axis", 0))
		}, "bool 3; float n x 2; float ? x 4"},
		{"unique", 11, func(s *sketch) { s.input("x", "n", 4).node("Unique", "x", "y i j k") }, "float ?; int64 ?; int64 n*4; int64 ?"},
		{"unique rows", 11, func(s *sketch) { s.input("x", "n", 4).node("Unique", "x", "y i j", attrInt("axis", 0)) }, "float ? x 4; int64 ?; int64 n"},
		{"gather n-d", 12, func(s *sketch) {
			s.input("x", "b", 3, 4, 5).feed("i", onnxfile.Int64, "b", 7, 2).node("GatherND", "x i", "y", attrInt("batch_dims", 1))
		}, "float b x 7 x 5"},
		{"gather n-d, too deep", 12, func(s *sketch) {
			s.input("x", 2, 3).feed("i", onnxfile.Int64, 7, 3).node("GatherND", "x i", "y")
		}, "float unknown"},
		{"random", 17, func(s *sketch) {
			s.node("RandomNormal", "", "y", attrInts("shape", 2, 3), attrInt("dtype", 11)).input("x", "b", 9).
				node("Multinomial", "x", "z", attrInt("sample_size", 4))
		}, "double 2 x 3; int32 b x 4"},
		{"bits", 26, func(s *sketch) { s.input("x", "n").node("BitCast", "x", "y", attrInt("to", 6)) }, "int32 n"},
		{"determinant", 11, func(s *sketch) { s.input("x", "n", 3, 3).node("Det", "x", "y") }, "float n"},
		{"non-zero of what is known", 13, func(s *sketch) { s.ints("k", 3, 0, 4, 0).node("NonZero", "k", "y") }, "int64 1 x 2"},
		{"resize within", 18, func(s *sketch) {
			s.input("x", 1, 3, 20, 40).ints("n", 30, 30).node("Resize", "x _ _ n", "y", attrInts("axes", 2, 3), attrString("keep_aspect_ratio_policy", "not_larger")).
				node("Resize", "x _ _ n", "z", attrInts("axes", 2, 3), attrString("keep_aspect_ratio_policy", "not_smaller"))
		}, "float 1 x 3 x 15 x 30; float 1 x 3 x 30 x 60"},
		{"range of real numbers", 11, func(s *sketch) {
			s.weights("a", nil, 0).weights("b", nil, 1).weights("d", nil, 0.25).node("Range", "a b d", "y")
		}, "float 4"},
		{"range of a symbol", 11, func(s *sketch) {
			s.input("x", "n", 4).scalar("one", 1).scalar("zero", 0).node("Shape", "x", "s").node("Gather", "s zero", "n").node("Range", "one n one", "y")
		}, "int64 2; int64 scalar; int64 n - 1"},
		{"symbols in a convolution", 17, func(s *sketch) {
			s.input("x", "b", 3, "h", "w").weights("k", []int64{8, 3, 7, 7}).
				node("Conv", "x k", "y", attrInts("strides", 2, 2), attrInts("pads", 3, 3, 3, 3)).
				node("MaxPool", "y", "z", attrInts("kernel_shape", 3, 3), attrInts("strides", 2, 2), attrInts("pads", 1, 1, 1, 1)).
				node("ConvTranspose", "z k2", "u", attrInts("strides", 2, 2)).weights("k2", []int64{8, 2, 2, 2})
		}, "float b x 8 x floor((h + 1)/2) x floor((w + 1)/2); float b x 8 x floor((h + 3)/4) x floor((w + 3)/4); float b x 2 x floor((h + 3)/4)*2 x floor((w + 3)/4)*2"},
		{"symbols put together", 17, func(s *sketch) {
			s.input("x", "b", "past", 8).input("z", "b", "seq", 8).ints("p", 0, 1, 0, 0, 2, 0).ints("o", 1).ints("e", 1<<62).
				node("Concat", "x z", "y", attrInt("axis", 1)).node("Pad", "x p", "u").node("Slice", "y o e o", "v")
		}, "float b x (past + seq) x 8; float b x (past + 3) x 8; float b x (past + seq - 1) x 8"},

		{"classical models", 17, func(s *sketch) {
			s.domain("ai.onnx.ml", 3).input("x", "n", 4).feed("i", onnxfile.Int64, 2).
				node("ai.onnx.ml/Scaler", "x", "y").node("ai.onnx.ml/LinearRegressor", "x", "z", attrInt("targets", 2)).
				node("ai.onnx.ml/ArrayFeatureExtractor", "x i", "u").
				node("ai.onnx.ml/LinearClassifier", "x", "v w", attrInts("classlabels_ints", 0, 1, 2))
		}, "float n x 4; float n x 2; float n x 2; int64 n; float n x ?"},
		{"labels", 17, func(s *sketch) {
			s.domain("ai.onnx.ml", 2).feed("x", stringType, "n").node("ai.onnx.ml/LabelEncoder", "x", "y", attrInts("values_int64s", 1))
		}, "int64 n"},
		{"training", 17, func(s *sketch) {
			s.domain("ai.onnx.preview.training", 1).input("r").feed("k", onnxfile.Int64).input("a", 2).input("b", 3, "n").
				node("ai.onnx.preview.training/Adam", "r k a b a b a b a b", "na nb va vb ha hb")
		}, "float 2; float 3 x n; float 2; float 3 x n; float 2; float 3 x n"},
		{"training, outputs missing", 17, func(s *sketch) {
			s.domain("ai.onnx.preview.training", 1).input("a", 2).node("ai.onnx.preview.training/Momentum", "a a a a a", "y z u")
		}, " unknown;  unknown;  unknown"},

		{"fused", 17, func(s *sketch) {
			s.domain("com.microsoft", 1).input("x", "b", 3, 8, 8).weights("w", []int64{4, 3, 3, 3}).input("m", "b", "k", "n").input("r", "b", "p", "k").
				node("com.microsoft/FusedConv", "x w", "y", attrInts("strides", 2, 2)).node("com.microsoft/FusedMatMul", "m r", "z", attrInt("transA", 1), attrInt("transB", 1)).
				node("com.microsoft/Gelu", "z", "u").node("com.microsoft/SkipLayerNormalization", "z z w", "v _ _ t")
		}, "float b x 4 x 3 x 3; float b x n x p; float b x n x p; float b x n x p; float b x n x p"},
		{"quantized, channels last", 17, func(s *sketch) {
			s.domain("com.microsoft", 1).feed("x", uint8Type, "b", 9, 11, 5).weights("s", nil).feed("o", uint8Type).feed("w", uint8Type, 7, 5, 3, 2).
				node("com.microsoft/QLinearConv", "x s o w s o s o", "y", attrInts("strides", 2, 1), attrInts("pads", 1, 0, 1, 1), attrInt("channels_last", 1)).
				node("com.microsoft/QLinearGlobalAveragePool", "y s o s o", "z", attrInt("channels_last", 1)).
				node("com.microsoft/QLinearConcat", "s o x s o x s o", "u", attrInt("axis", 3)).
				node("com.microsoft/QLinearAdd", "x s o x s o s o", "v")
		}, "uint8 b x 5 x 11 x 7; uint8 b x 1 x 1 x 7; uint8 b x 9 x 11 x 10; uint8 b x 9 x 11 x 5"},
		{"packed attention", 17, func(s *sketch) {
			s.domain("com.microsoft", 1).input("x", "b", "s", 16).weights("w", []int64{16, 48}).weights("c", []int64{48}).
				node("com.microsoft/Attention", "x w c", "y z", attrInt("num_heads", 4)).
				node("com.microsoft/MatMulNBits", "x w c", "u", attrInt("N", 8))
		}, "float b x s x 16; float 2 x b x 4 x s x 4; float b x s x 8"},
		{"blocked", 17, func(s *sketch) {
			s.domain("com.microsoft.nchwc", 1).input("x", "b", 20, 8, 8).weights("w", []int64{24, 24, 1, 1}).
				node("com.microsoft.nchwc/ReorderInput", "x", "y").node("com.microsoft.nchwc/Conv", "y w", "z").
				node("com.microsoft.nchwc/ReorderOutput", "z", "u", attrInt("channels", 20))
		}, "float b x ? x 8 x 8; float b x 24 x 8 x 8; float b x 20 x 8 x 8"},
		{"the same name in another domain", 17, func(s *sketch) {
			s.domain("com.example", 1).input("x", "b", 3).node("com.example/Gelu", "x", "y")
		}, " unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSketch(c.opset)
			c.build(s)
			g := s.graph(t)
			var got []string
			for _, n := range s.Graph.Node {
				for _, out := range n.Output {
					if out == "" {
						continue
					}
					name := ""
					if d := g.DType(out); d != 0 {
						name = d.String()
					}
					got = append(got, name+" "+g.Shape(out).String())
				}
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("\n got %s\nwant %s", s, c.want)
			}
		})
	}
}
