package inspect

import "github.com/filterlens/filterlens/inspect/onnxfile"

// ruleOf is the table of shape rules for the operators of ONNX itself. An
// operator that is not here has outputs of unknown shape.
func ruleOf(op string) rule {
	switch op {
	case "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish",
		"Gelu", "Softplus", "Softsign", "Tanh", "Shrink", "Exp", "Log", "Reciprocal", "Sign", "Round", "Erf",
		"Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh",
		"Softmax", "LogSoftmax", "Hardmax", "LRN", "LpNormalization", "MeanVarianceNormalization",
		"GroupNormalization", "RMSNormalization", "CumSum", "CumProd", "Trilu", "BitwiseNot", "ReverseSequence",
		"ScatterElements", "Scatter", "ScatterND", "RotaryEmbedding", "TensorScatter":
		return sameRule
	case "PRelu":
		return preluRule
	case "Abs", "Neg", "Ceil", "Floor", "Sqrt", "Not", "Clip", "Identity":
		return unaryRule
	case "EyeLike", "RandomUniformLike", "RandomNormalLike", "Bernoulli":
		return likeRule
	case "IsNaN", "IsInf":
		return maskRule
	case "Dropout":
		return dropoutRule
	case "Cast", "CastLike":
		return castRule
	case "QuantizeLinear":
		return quantizeRule
	case "DequantizeLinear":
		return dequantizeRule
	case "DynamicQuantizeLinear":
		return dynamicQuantizeRule
	case "Add", "Sub", "Mul", "Div", "Pow", "Mod", "And", "Or", "Xor", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
		"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual":
		return binaryRule
	case "Max", "Min", "Sum", "Mean":
		return variadicRule
	case "Where":
		return whereRule

	case "Conv":
		return convRule
	case "ConvInteger":
		return convIntegerRule
	case "QLinearConv":
		return qlinearConvRule
	case "ConvTranspose":
		return convTransposeRule
	case "MaxPool", "AveragePool", "LpPool":
		return poolRule
	case "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool":
		return globalPoolRule
	case "InstanceNormalization":
		return instanceNormRule
	case "BatchNormalization":
		return batchNormRule
	case "LayerNormalization":
		return layerNormRule
	case "Resize":
		return resizeRule
	case "Upsample":
		return upsampleRule
	case "DepthToSpace":
		return depthToSpaceRule
	case "SpaceToDepth":
		return spaceToDepthRule
	case "Pad":
		return padRule

	case "Gemm":
		return gemmRule
	case "MatMul":
		return matMulRule
	case "Einsum":
		return einsumRule
	case "Det":
		return detRule
	case "MatMulInteger":
		return matMulIntegerRule
	case "QLinearMatMul":
		return qlinearMatMulRule

	case "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
		"ReduceLogSumExp", "ReduceSumSquare":
		return reduceRule
	case "ArgMax", "ArgMin":
		return argRule
	case "TopK":
		return topKRule

	case "Flatten":
		return flattenRule
	case "Reshape":
		return reshapeRule
	case "Transpose":
		return transposeRule
	case "Concat":
		return concatRule
	case "Split":
		return splitRule
	case "Slice":
		return sliceRule
	case "Squeeze":
		return squeezeRule
	case "Unsqueeze":
		return unsqueezeRule
	case "Gather":
		return gatherRule
	case "GatherElements":
		return gatherElementsRule
	case "Expand":
		return expandRule
	case "Tile":
		return tileRule
	case "OneHot":
		return oneHotRule

	case "Shape":
		return shapeRule
	case "Size":
		return sizeRule
	case "Constant":
		return constantRule
	case "ConstantOfShape":
		return constantOfShapeRule
	case "Range":
		return rangeRule
	case "NonZero":
		return nonZeroRule
	case "Compress":
		return compressRule
	case "Unique":
		return uniqueRule
	case "GatherND":
		return gatherNDRule
	case "BitCast":
		return bitCastRule
	case "RandomNormal", "RandomUniform":
		return randomRule
	case "Multinomial":
		return multinomialRule

	case "LSTM", "GRU", "RNN":
		return recurrentRule
	case "Attention":
		return attentionRule
	case "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss":
		return lossRule

	case "RoiAlign":
		return roiAlignRule
	case "MaxRoiPool":
		return maxRoiPoolRule
	case "MaxUnpool":
		return maxUnpoolRule
	case "GridSample":
		return gridSampleRule
	case "AffineGrid":
		return affineGridRule
	case "NonMaxSuppression":
		return nonMaxSuppressionRule
	case "Col2Im":
		return col2ImRule
	case "CenterCropPad":
		return centerCropPadRule
	case "DeformConv":
		return convRule
	case "ImageDecoder":
		return imageDecoderRule

	case "DFT":
		return dftRule
	case "STFT":
		return stftRule
	case "MelWeightMatrix":
		return melRule
	case "HannWindow", "HammingWindow", "BlackmanWindow":
		return windowFunctionRule

	case "RegexFullMatch":
		return maskRule
	case "StringConcat":
		return binaryRule
	case "StringSplit":
		return stringSplitRule
	case "StringNormalizer":
		return stringNormalizerRule
	case "TfIdfVectorizer":
		return tfIdfRule

	// ONNX Runtime has this one in the domain of ONNX itself.
	case "SimplifiedLayerNormalization":
		return simplifiedLayerNormRule

	case "If":
		return ifRule
	case "Loop":
		return loopRule
	case "Scan":
		return scanRule
	case "SequenceMap":
		return sequenceMapRule
	case "SequenceConstruct":
		return sequenceConstructRule
	case "SequenceEmpty":
		return sequenceEmptyRule
	case "SequenceAt":
		return sequenceAtRule
	case "SequenceInsert":
		return sequenceInsertRule
	case "SequenceErase":
		return sequenceEraseRule
	case "SequenceLength":
		return sequenceLengthRule
	case "SplitToSequence":
		return splitToSequenceRule
	case "ConcatFromSequence":
		return concatFromSequenceRule
	case "Optional":
		return optionalRule
	case "OptionalGetElement":
		return optionalGetElementRule
	case "OptionalHasElement":
		return optionalHasElementRule
	}
	return nil
}

// ruleOfDomain is the table of shape rules for operators of other domains.
func ruleOfDomain(domain, op string) rule {
	switch domain {
	case "ai.onnx.ml":
		return ruleOfML(op)
	case "ai.onnx.preview.training":
		return ruleOfTraining(op)
	case "com.microsoft":
		return ruleOfMicrosoft(op)
	case "com.microsoft.nchwc":
		return ruleOfBlocked(op)
	}
	return nil
}

func sameRule(c *call) {
	t := c.in(0)
	t.value = nil
	c.set(0, t)
}

func likeRule(c *call) {
	t := c.in(0)
	t.value = nil
	if d := c.AttrInt("dtype", 0); d != 0 {
		t.dtype = onnxfile.DType(d)
	}
	c.set(0, t)
}

func maskRule(c *call) {
	t := c.in(0)
	t.value, t.dtype = nil, boolType
	c.set(0, t)
}

func dropoutRule(c *call) {
	sameRule(c)
	t := c.in(0)
	t.value, t.dtype = nil, boolType
	if c.opset < 10 { // the mask had the type of the data
		t.dtype = c.in(0).dtype
	}
	c.set(1, t)
}

func quantizeRule(c *call) {
	t := c.in(0)
	t.value = nil
	switch {
	case c.has(2):
		t.dtype = c.in(2).dtype
	default:
		t.dtype = onnxfile.DType(c.AttrInt("output_dtype", int64(uint8Type)))
		if t.dtype == 0 {
			t.dtype = uint8Type
		}
	}
	c.set(0, t)
}

func dequantizeRule(c *call) {
	t := c.in(0)
	t.value, t.dtype = nil, c.in(1).dtype
	if d := c.AttrInt("output_dtype", 0); d != 0 {
		t.dtype = onnxfile.DType(d)
	}
	c.set(0, t)
}

func dynamicQuantizeRule(c *call) {
	t := c.in(0)
	t.value, t.dtype = nil, uint8Type
	c.set(0, t)
	c.shape(1, onnxfile.Float, []term{})
	c.shape(2, uint8Type, []term{})
}
