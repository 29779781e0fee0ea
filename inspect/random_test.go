package inspect

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// ruledOperators are those of ruleOf and, with their domain, of ruleOfDomain.
const ruledOperators = `
	Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
	Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu
	CenterCropPad Clip Col2Im Compress Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh
	CumProd CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear Einsum Elu
	Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
	GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow
	HardSigmoid HardSwish Hardmax Identity ImageDecoder InstanceNormalization IsInf IsNaN LRN LSTM
	LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max
	MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Multinomial Neg
	NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul
	QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range
	Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
	ReduceSumSquare RegexFullMatch Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round STFT Scatter
	ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign SimplifiedLayerNormalization Sin Sinh Size Slice
	Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split Sqrt Squeeze StringConcat StringNormalizer
	StringSplit Sub Sum Swish Tan Tanh TensorScatter TfIdfVectorizer ThresholdedRelu Tile TopK Transpose Trilu
	Unique Unsqueeze Upsample Where Xor
	ai.onnx.ml/Binarizer ai.onnx.ml/Imputer ai.onnx.ml/Normalizer ai.onnx.ml/Scaler ai.onnx.ml/LabelEncoder
	ai.onnx.ml/LinearRegressor ai.onnx.ml/TreeEnsembleRegressor ai.onnx.ml/TreeEnsemble ai.onnx.ml/LinearClassifier
	ai.onnx.ml/TreeEnsembleClassifier ai.onnx.ml/OneHotEncoder ai.onnx.ml/ArrayFeatureExtractor
	ai.onnx.preview.training/Momentum ai.onnx.preview.training/Adagrad ai.onnx.preview.training/Adam
	com.microsoft/Gelu com.microsoft/BiasGelu com.microsoft/FastGelu com.microsoft/QuickGelu
	com.microsoft/QLinearLeakyRelu com.microsoft/QLinearSigmoid com.microsoft/QLinearSoftmax
	com.microsoft/BiasSoftmax com.microsoft/RotaryEmbedding com.microsoft/Trilu com.microsoft/Inverse
	com.microsoft/SkipLayerNormalization com.microsoft/SkipSimplifiedLayerNormalization
	com.microsoft/QuantizeLinear com.microsoft/DequantizeLinear com.microsoft/QLinearAdd com.microsoft/QLinearMul
	com.microsoft/QLinearWhere com.microsoft/QLinearConcat com.microsoft/QLinearConv
	com.microsoft/QLinearAveragePool com.microsoft/QLinearGlobalAveragePool com.microsoft/NhwcMaxPool
	com.microsoft/FusedConv com.microsoft/NhwcFusedConv com.microsoft/FusedGemm com.microsoft/QGemm
	com.microsoft/FusedMatMul com.microsoft/TransposeMatMul com.microsoft/DynamicQuantizeMatMul
	com.microsoft/MatMulInteger16 com.microsoft/MatMulIntegerToFloat com.microsoft/MatMulNBits
	com.microsoft/DynamicQuantizeLSTM com.microsoft/Attention com.microsoft/QAttention
	com.microsoft/MultiHeadAttention com.microsoft/GroupQueryAttention com.microsoft/EmbedLayerNormalization
	com.microsoft/GridSample
	com.microsoft.nchwc/Conv com.microsoft.nchwc/MaxPool com.microsoft.nchwc/AveragePool
	com.microsoft.nchwc/GlobalMaxPool com.microsoft.nchwc/GlobalAveragePool com.microsoft.nchwc/ReorderInput
	com.microsoft.nchwc/ReorderOutput
`

// Nodes of random operators over random inputs, attributes and numbers, hostile
// ones among them: no rule may panic or say what cannot be.
func TestRandomGraphs(t *testing.T) {
	ops := strings.Fields(ruledOperators)
	for _, op := range ops {
		r := ruleOf(op)
		if domain, name, ok := strings.Cut(op, "/"); ok {
			r = ruleOfDomain(domain, name)
		}
		if r == nil {
			t.Errorf("%s has no rule", op)
		}
	}
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		s, desc := randomSketch(rng, ops)
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("seed %d: %v\n%s", seed, r, desc)
				}
			}()
			m := s.model(t, Options{Weights: true})
			for _, n := range m.Graph.Nodes {
				for _, out := range n.Outputs {
					for _, d := range m.Graph.Shape(out).Dims {
						if d.Value < -1 {
							t.Errorf("seed %d: %s is %s", seed, out, m.Graph.Shape(out))
						}
					}
					v := m.Graph.valueOf(out)
					if v == nil {
						continue
					}
					if k, ok := m.Graph.Shape(out).Elements(); !ok || k != int64(len(v.e)) || k > maxFold {
						t.Errorf("seed %d: %s has %d elements in %s", seed, out, len(v.e), m.Graph.Shape(out))
					}
				}
			}
			if _, err := json.Marshal(m); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}()
		if t.Failed() {
			return
		}
	}
}

func randomSketch(rng *rand.Rand, ops []string) (*sketch, string) {
	hostile := []int64{0, 1, -1, 2, 3, 4, 7, -2, -3, 1 << 31, -1 << 31, 1 << 62, 1<<63 - 1, -1 << 63, 1 << 40}
	number := func() int64 {
		if rng.IntN(4) > 0 {
			return hostile[rng.IntN(7)]
		}
		return hostile[rng.IntN(len(hostile))]
	}
	list := func() []int64 {
		v := make([]int64, rng.IntN(6))
		for i := range v {
			v[i] = number()
		}
		return v
	}
	pick := func(v []string) string { return v[rng.IntN(len(v))] }

	s := newSketch([]int64{1, 5, 6, 8, 9, 10, 11, 12, 13, 17, 18, 21, 23}[rng.IntN(13)])
	names := []string{"_"}
	for i := range 2 + rng.IntN(2) {
		dims := make([]any, rng.IntN(6))
		for j := range dims {
			dims[j] = []any{1, 2, 3, 8, 0, -1, "n", "h", nil, int(1) << 62}[rng.IntN(10)]
		}
		name := fmt.Sprintf("x%d", i)
		s.Graph.Input = append(s.Graph.Input, valueInfo(name, []onnxfile.DType{1, 7, 6, 9, 10}[rng.IntN(5)], dims))
		names = append(names, name)
	}
	for i := range 4 {
		name := fmt.Sprintf("k%d", i)
		switch i {
		case 0:
			s.scalar(name, number())
		case 1:
			s.weights(name, []int64{rng.Int64N(4), 1 + rng.Int64N(4)}, 0.5, 1, 2)
		default:
			s.ints(name, list()...)
		}
		names = append(names, name)
	}
	attributes := []string{"axis", "axes", "perm", "kernel_shape", "strides", "dilations", "pads", "output_shape", "output_padding", "group",
		"keepdims", "starts", "ends", "split", "num_outputs", "to", "blocksize", "shape", "start", "end", "allowzero", "scales", "transA",
		"transB", "noop_with_empty_axes", "ceil_mode", "auto_pad", "value", "value_int", "value_ints", "k", "batch_axis", "broadcast", "mode", "fmod",
		"direction", "layout", "hidden_size", "q_num_heads", "kv_num_heads", "num_heads", "equation", "reduction", "batch_dims", "dtype",
		"pooled_shape", "output_height", "onesided", "inverse", "channels", "channels_last", "N", "n_targets", "ngram_indexes",
		"qkv_hidden_sizes", "keep_aspect_ratio_policy", "cats_int64s", "sample_size"}
	for i := range 1 + rng.IntN(8) {
		var in []string
		for range rng.IntN(6) {
			in = append(in, pick(names))
		}
		var attrs []*onnxpb.AttributeProto
		for range rng.IntN(5) {
			name := pick(attributes)
			switch rng.IntN(6) {
			case 0, 1:
				attrs = append(attrs, attrInt(name, number()))
			case 2, 3:
				attrs = append(attrs, attrInts(name, list()...))
			case 4:
				attrs = append(attrs, attrString(name, pick([]string{"SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "float", "?", "none", "not_larger", "bidirectional", "...ij,jk", "ij->ji"})))
			case 5:
				v := list()
				attrs = append(attrs, attrTensor(name, intTensor("", []int64{int64(len(v))}, v...)))
			}
		}
		out := fmt.Sprintf("y%d", i)
		s.node(pick(ops), strings.Join(in, " "), out+" "+out+"b "+out+"c", attrs...)
		names = append(names, out, out+"b")
	}
	s.output(names[len(names)-1], "n")
	return s, fmt.Sprint(s.Graph)
}
