package gorgonia

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
)

// What onnx-go's backend makes of a form of an operator that is handed to it as
// it stands.
const (
	right      = "right"
	wrong      = "wrong"      // the numbers or the shape
	refused    = "refused"    // an error or a panic
	overwrites = "overwrites" // right once, but an input is overwritten
)

// A form is an operator with attributes and shapes.
type form struct {
	name  string
	opset int64
	op    string
	attrs attrs
	args  []arg
	// raw is what the backend makes of it; lacking is part of the engine's
	// reason for refusing it, "" when the engine computes it.
	raw, lacking string
}

// forms is the experiment behind the rules: every form is tried on the bare
// backend and on the engine, against ONNX Runtime.
func forms() []form {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	sq := func(v ...int64) []int64 { return v }
	k3 := func(a attrs) attrs {
		a["kernel_shape"] = sq(3, 3)
		return a
	}
	return []form{
		{"conv", 13, "Conv", k3(attrs{"pads": sq(1, 1, 1, 1)}), []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3), stored(4)}, right, ""},
		{"conv batch1", 13, "Conv", k3(attrs{"pads": sq(1, 1, 1, 1)}), []arg{fed(1, 3, 8, 8), stored(4, 3, 3, 3), stored(4)}, right, ""},
		{"conv F1", 13, "Conv", k3(attrs{"pads": sq(1, 1, 1, 1)}), []arg{fed(2, 3, 8, 8), stored(1, 3, 3, 3), stored(1)}, right, ""},
		{"conv C1", 13, "Conv", k3(attrs{"pads": sq(1, 1, 1, 1)}), []arg{fed(2, 1, 8, 8), stored(2, 1, 3, 3), stored(2)}, right, ""},
		{"conv all1", 13, "Conv", attrs{"kernel_shape": sq(1, 1)}, []arg{fed(1, 1, 1, 1), stored(1, 1, 1, 1), stored(1)}, right, ""},
		{"conv 1x1 out", 13, "Conv", k3(attrs{}), []arg{fed(2, 3, 3, 3), stored(4, 3, 3, 3), stored(4)}, right, ""},
		{"conv nobias", 13, "Conv", k3(attrs{"strides": sq(2, 2)}), []arg{fed(2, 3, 9, 9), stored(4, 3, 3, 3)}, right, ""},
		{"conv no kernel_shape", 13, "Conv", attrs{}, []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3)}, refused, ""},
		{"conv rect kernel", 13, "Conv", attrs{"kernel_shape": sq(1, 3), "pads": sq(0, 0, 0, 0)}, []arg{fed(2, 3, 8, 7), stored(4, 3, 1, 3)}, right, ""},
		{"conv rect pads sym", 13, "Conv", attrs{"kernel_shape": sq(1, 3), "pads": sq(0, 1, 0, 1)}, []arg{fed(2, 3, 8, 7), stored(4, 3, 1, 3)}, refused, ""},
		{"conv asym pads as begin/end", 13, "Conv", k3(attrs{"pads": sq(1, 1, 0, 0)}), []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3)}, wrong, ""},
		{"conv asym pads", 13, "Conv", k3(attrs{"pads": sq(1, 0, 1, 0)}), []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3)}, refused, ""},
		{"conv dilated", 13, "Conv", k3(attrs{"dilations": sq(2, 2)}), []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3)}, right, ""},
		{"conv dilated rect", 13, "Conv", k3(attrs{"dilations": sq(1, 2), "strides": sq(2, 1)}), []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3)}, right, ""},
		{"conv grouped", 13, "Conv", k3(attrs{"group": 2}), []arg{fed(2, 4, 8, 8), stored(4, 2, 3, 3)}, refused, ""},
		{"conv depthwise", 13, "Conv", k3(attrs{"group": 4}), []arg{fed(2, 4, 8, 8), stored(4, 1, 3, 3)}, refused, ""},
		{"conv SAME_UPPER", 13, "Conv", k3(attrs{"auto_pad": "SAME_UPPER"}), []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3)}, right, ""},
		{"conv SAME_UPPER stride2", 13, "Conv", k3(attrs{"auto_pad": "SAME_UPPER", "strides": sq(2, 2)}), []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3)}, refused, ""},
		{"conv VALID", 13, "Conv", k3(attrs{"auto_pad": "VALID"}), []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3)}, right, ""},
		{"conv 1d", 13, "Conv", attrs{"kernel_shape": sq(3)}, []arg{fed(2, 3, 8), stored(4, 3, 3)}, refused, ""},
		{"conv 1d pads", 13, "Conv", attrs{"strides": sq(2), "dilations": sq(2), "pads": sq(1, 2), "group": 3}, []arg{fed(2, 6, 11), stored(9, 2, 3), stored(9)}, refused, ""},
		{"conv 3d", 13, "Conv", attrs{}, []arg{fed(2, 3, 4, 4, 4), stored(4, 3, 3, 3, 3)}, refused, "only convolutions along one or two axes are computed"},
		{"conv depthwise strided", 13, "Conv", attrs{"group": 5, "strides": sq(2, 3), "pads": sq(1, 2, 0, 3)}, []arg{fed(2, 5, 12, 9), stored(10, 1, 3, 5), stored(10)}, refused, ""},
		{"conv many filters", 13, "Conv", k3(attrs{"pads": sq(1, 1, 1, 1)}), []arg{fed(3, 20, 7, 7), stored(37, 20, 3, 3), stored(37)}, right, ""},
		{"convtranspose", 13, "ConvTranspose", attrs{"strides": sq(2, 2)}, []arg{fed(2, 3, 5, 4), stored(3, 4, 3, 3), stored(4)}, refused, ""},
		{"convtranspose pads", 13, "ConvTranspose", attrs{"strides": sq(2, 3), "pads": sq(1, 0, 0, 2), "dilations": sq(2, 1), "output_padding": sq(1, 0)}, []arg{fed(2, 3, 5, 4), stored(3, 4, 3, 2)}, refused, ""},
		{"convtranspose grouped", 13, "ConvTranspose", attrs{"group": 2}, []arg{fed(2, 4, 5, 4), stored(4, 3, 3, 3), stored(6)}, refused, ""},
		{"convtranspose 1d", 13, "ConvTranspose", attrs{"strides": sq(2)}, []arg{fed(2, 3, 5), stored(3, 4, 3)}, refused, ""},
		{"convtranspose output_shape", 13, "ConvTranspose", attrs{"strides": sq(2, 2), "output_shape": sq(10, 8)}, []arg{fed(1, 3, 5, 4), stored(3, 2, 3, 3)}, refused, ""},
		{"convtranspose SAME_UPPER", 13, "ConvTranspose", attrs{"strides": sq(2, 2), "auto_pad": "SAME_UPPER"}, []arg{fed(1, 3, 5, 4), stored(3, 2, 3, 3)}, refused, ""},
		{"convtranspose SAME_LOWER", 13, "ConvTranspose", attrs{"strides": sq(2, 2), "auto_pad": "SAME_LOWER"}, []arg{fed(1, 3, 5, 4), stored(3, 2, 3, 3)}, refused, ""},
		{"matmul both batched", 13, "MatMul", nil, []arg{fed(2, 1, 4, 5), fed(3, 5, 6)}, refused, ""},
		{"matmul vec left", 13, "MatMul", nil, []arg{fed(5), stored(2, 5, 3)}, refused, ""},
		{"matmul vec right", 13, "MatMul", nil, []arg{fed(2, 4, 5), stored(5)}, refused, ""},
		{"matmul vec vec", 13, "MatMul", nil, []arg{fed(5), stored(5)}, right, ""},
		{"matmul stored left", 13, "MatMul", nil, []arg{stored(4, 5), fed(2, 5, 3)}, refused, ""},
		{"matmul wide", 13, "MatMul", nil, []arg{fed(9, 400), stored(400, 50)}, right, ""},
		{"gemm transA transB", 13, "Gemm", attrs{"transA": 1, "transB": 1, "alpha": float32(.5)}, []arg{fed(5, 9), stored(40, 5), stored(9, 1)}, refused, ""},
		{"conv fed weight", 13, "Conv", k3(attrs{}), []arg{fed(2, 3, 8, 8), fed(4, 3, 3, 3), fed(4)}, right, ""},

		{"relu", 13, "Relu", nil, []arg{fed(2, 3, 4, 4)}, right, ""},
		{"relu inf", 13, "Relu", nil, []arg{{shape: sq(4), floats: []float32{inf, -inf, 1, -1}}}, wrong, ""},
		{"relu nan", 13, "Relu", nil, []arg{{shape: sq(2), floats: []float32{float32(math.NaN()), -1}}}, right, ""},
		{"relu one", 13, "Relu", nil, []arg{fed(1)}, right, ""},
		{"relu 1x1", 13, "Relu", nil, []arg{fed(1, 1)}, right, ""},
		{"relu scalar", 13, "Relu", nil, []arg{fed()}, refused, ""},
		{"leakyrelu", 13, "LeakyRelu", attrs{"alpha": float32(.1)}, []arg{fed(2, 3, 4, 4)}, overwrites, ""},

		{"maxpool", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "strides": sq(2, 2)}, []arg{fed(2, 3, 8, 8)}, right, ""},
		{"maxpool odd", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "strides": sq(2, 2)}, []arg{fed(2, 3, 7, 9)}, right, ""},
		{"maxpool 1x1", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "strides": sq(2, 2)}, []arg{fed(1, 1, 2, 2)}, right, ""},
		{"maxpool 1x1 n2", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "strides": sq(2, 2)}, []arg{fed(2, 3, 2, 2)}, right, ""},
		{"maxpool pads1", 13, "MaxPool", attrs{"kernel_shape": sq(3, 3), "strides": sq(2, 2), "pads": sq(1, 1, 1, 1)}, []arg{fed(2, 3, 8, 8)}, right, ""},
		{"maxpool pads sym rect", 13, "MaxPool", attrs{"kernel_shape": sq(3, 3), "pads": sq(1, 0, 1, 0)}, []arg{fed(2, 3, 8, 8)}, wrong, ""},
		{"maxpool pads sym rect (permuted)", 13, "MaxPool", attrs{"kernel_shape": sq(3, 3), "pads": sq(1, 1, 0, 0)}, []arg{fed(2, 3, 8, 8)}, wrong, ""},
		{"maxpool stride default", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2)}, []arg{fed(2, 3, 8, 8)}, right, ""},
		{"maxpool stride rect", 13, "MaxPool", attrs{"kernel_shape": sq(2, 3), "strides": sq(2, 1)}, []arg{fed(2, 3, 8, 8)}, right, ""},
		{"maxpool dilations 1", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "dilations": sq(1, 1)}, []arg{fed(2, 3, 8, 8)}, refused, ""},
		{"maxpool dilations 2", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "dilations": sq(2, 2)}, []arg{fed(2, 3, 8, 8)}, refused, ""},
		{"maxpool ceil", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "strides": sq(2, 2), "ceil_mode": 1}, []arg{fed(2, 3, 7, 7)}, refused, ""},
		{"maxpool same_upper", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "strides": sq(2, 2), "auto_pad": "SAME_UPPER"}, []arg{fed(2, 3, 7, 7)}, right, ""},
		{"maxpool valid", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "strides": sq(2, 2), "auto_pad": "VALID"}, []arg{fed(2, 3, 7, 7)}, right, ""},
		{"avgpool", 13, "AveragePool", attrs{"kernel_shape": sq(2, 2)}, []arg{fed(2, 3, 8, 8)}, refused, ""},
		{"gap", 13, "GlobalAveragePool", nil, []arg{fed(2, 3, 8, 8)}, right, ""},
		{"gap batch1", 13, "GlobalAveragePool", nil, []arg{fed(1, 3, 8, 8)}, right, ""},
		{"gap 1x1", 13, "GlobalAveragePool", nil, []arg{fed(2, 3, 1, 1)}, right, ""},
		{"gap c1", 13, "GlobalAveragePool", nil, []arg{fed(2, 1, 4, 4)}, right, ""},
		{"gap rect", 13, "GlobalAveragePool", nil, []arg{fed(2, 3, 4, 5)}, right, ""},

		{"flatten", 13, "Flatten", attrs{"axis": 1}, []arg{fed(2, 3, 4, 4)}, right, ""},
		{"flatten -1", 13, "Flatten", attrs{"axis": -1}, []arg{fed(2, 3, 4, 4)}, wrong, ""},
		{"flatten 2d", 13, "Flatten", attrs{"axis": 1}, []arg{fed(2, 3)}, right, ""},
		{"reshape", 13, "Reshape", nil, []arg{fed(2, 3, 4), ints(2, 12)}, right, ""},
		{"reshape -1", 13, "Reshape", nil, []arg{fed(2, 3, 4), ints(2, -1)}, right, ""},
		{"reshape 0 -1", 13, "Reshape", nil, []arg{fed(2, 3, 4), ints(0, -1)}, right, ""},
		{"reshape 1", 13, "Reshape", nil, []arg{fed(2, 3, 4), ints(-1)}, right, ""},
		{"reshape up", 13, "Reshape", nil, []arg{fed(2, 3), ints(0, -1, 1, 1)}, refused, ""},

		{"gemm", 13, "Gemm", attrs{"transB": 1}, []arg{fed(2, 5), stored(3, 5), stored(3)}, right, ""},
		{"gemm batch1", 13, "Gemm", attrs{"transB": 1}, []arg{fed(1, 5), stored(3, 5), stored(3)}, overwrites, ""},
		{"gemm full C", 13, "Gemm", attrs{"transB": 1}, []arg{fed(2, 5), stored(3, 5), stored(2, 3)}, overwrites, ""},
		{"gemm C row", 13, "Gemm", attrs{"transB": 1}, []arg{fed(2, 5), stored(3, 5), stored(1, 3)}, right, ""},
		{"gemm C col", 13, "Gemm", attrs{"transB": 1}, []arg{fed(3, 5), stored(3, 5), stored(3, 1)}, wrong, ""},
		{"gemm no C", 13, "Gemm", attrs{"transB": 1}, []arg{fed(2, 5), stored(3, 5)}, refused, ""},
		{"gemm alpha beta full C", 13, "Gemm", attrs{"alpha": float32(.5), "beta": float32(2)}, []arg{fed(2, 5), stored(5, 3), stored(2, 3)}, overwrites, ""},
		{"gemm transA full C", 13, "Gemm", attrs{"transA": 1}, []arg{fed(5, 2), stored(5, 3), stored(2, 3)}, overwrites, ""},
		{"gemm K1 full C", 13, "Gemm", attrs{}, []arg{fed(2, 1), stored(1, 3), stored(2, 3)}, overwrites, ""},
		{"gemm N1 full C", 13, "Gemm", attrs{}, []arg{fed(2, 5), stored(5, 1), stored(2, 1)}, overwrites, ""},
		{"gemm M1N1 full C", 13, "Gemm", attrs{}, []arg{fed(1, 5), stored(5, 1), stored(1, 1)}, overwrites, ""},
		{"matmul", 13, "MatMul", nil, []arg{fed(2, 5), stored(5, 3)}, right, ""},
		{"matmul m1", 13, "MatMul", nil, []arg{fed(1, 5), stored(5, 3)}, right, ""},
		{"matmul n1", 13, "MatMul", nil, []arg{fed(4, 5), stored(5, 1)}, right, ""},
		{"matmul m1n1", 13, "MatMul", nil, []arg{fed(1, 5), stored(5, 1)}, right, ""},
		{"matmul k1", 13, "MatMul", nil, []arg{fed(4, 1), stored(1, 3)}, right, ""},
		{"matmul 3d", 13, "MatMul", nil, []arg{fed(2, 4, 5), stored(5, 3)}, refused, ""},
		{"matmul vec", 13, "MatMul", nil, []arg{fed(2, 5), stored(5)}, right, ""},

		{"add same", 13, "Add", nil, []arg{fed(2, 3, 4, 4), fed(2, 3, 4, 4)}, right, ""},
		{"add bias 2d", 13, "Add", nil, []arg{fed(2, 3), stored(3)}, right, ""},
		{"add bias square", 13, "Add", nil, []arg{fed(3, 3), stored(3)}, refused, ""},
		{"add bias 1x3", 13, "Add", nil, []arg{fed(2, 3), stored(1, 3)}, right, ""},
		{"add col", 13, "Add", nil, []arg{fed(2, 3), stored(2, 1)}, right, ""},
		{"add scalar", 13, "Add", nil, []arg{fed(2, 3), stored()}, right, ""},
		{"add [1]", 13, "Add", nil, []arg{fed(2, 3), stored(1)}, right, ""},
		{"add chan", 13, "Add", nil, []arg{fed(2, 3, 4, 4), stored(1, 3, 1, 1)}, refused, ""},
		{"add chan31", 13, "Add", nil, []arg{fed(2, 3, 4, 4), stored(3, 1, 1)}, right, ""},
		{"mul se", 13, "Mul", nil, []arg{fed(2, 3, 4, 4), fed(2, 3, 1, 1)}, refused, ""},
		{"mul se1", 13, "Mul", nil, []arg{fed(1, 3, 4, 4), fed(1, 3, 1, 1)}, refused, ""},
		{"mul scalar", 13, "Mul", nil, []arg{fed(2, 3, 4, 4), stored()}, right, ""},
		{"mul 1s", 13, "Mul", nil, []arg{fed(1, 1, 1, 1), fed(1, 1, 1, 1)}, right, ""},
		{"sub same", 13, "Sub", nil, []arg{fed(2, 3), fed(2, 3)}, right, ""},
		{"sub scalar left", 13, "Sub", nil, []arg{stored(), fed(2, 3)}, right, ""},
		{"sub scalar right", 13, "Sub", nil, []arg{fed(2, 3), stored()}, right, ""},
		{"div same", 13, "Div", nil, []arg{fed(2, 3), fed(2, 3)}, right, ""},
		{"div scalar left", 13, "Div", nil, []arg{stored(), fed(2, 3)}, right, ""},
		{"div scalar right", 13, "Div", nil, []arg{fed(2, 3), stored()}, right, ""},
		{"div zero", 13, "Div", nil, []arg{fed(2), {shape: sq(2), stored: true, floats: []float32{0, 1}}}, right, ""},
		{"add dupe?", 13, "Add", nil, []arg{fed(5), fed(5)}, right, ""},

		{"bn", 13, "BatchNormalization", nil, []arg{fed(2, 3, 4, 4), stored(3), stored(3), stored(3), positive(3)}, right, ""},
		{"bn batch1", 13, "BatchNormalization", attrs{"epsilon": float32(1e-3)}, []arg{fed(1, 3, 4, 4), stored(3), stored(3), stored(3), positive(3)}, overwrites, ""},
		{"bn 2d", 13, "BatchNormalization", nil, []arg{fed(2, 3), stored(3), stored(3), stored(3), positive(3)}, refused, ""},

		{"softmax", 13, "Softmax", attrs{"axis": 1}, []arg{fed(3, 5)}, right, ""},
		{"softmax -1", 13, "Softmax", attrs{"axis": -1}, []arg{fed(3, 5)}, right, ""},
		{"softmax batch1", 13, "Softmax", attrs{"axis": 1}, []arg{fed(1, 5)}, right, ""},
		{"softmax n1", 13, "Softmax", attrs{"axis": 1}, []arg{fed(3, 1)}, right, ""},
		{"softmax axis0", 13, "Softmax", attrs{"axis": 0}, []arg{fed(3, 5)}, wrong, ""},
		{"softmax square", 13, "Softmax", attrs{"axis": 1}, []arg{fed(5, 5)}, right, ""},
		{"softmax large", 13, "Softmax", attrs{"axis": 1}, []arg{{shape: sq(2, 2), floats: []float32{1000, 999, -1000, -1001}}}, right, ""},
		{"softmax 4d", 13, "Softmax", attrs{"axis": 1}, []arg{fed(2, 3, 4, 4)}, wrong, ""},
		{"softmax 4d last", 13, "Softmax", attrs{"axis": 3}, []arg{fed(2, 3, 4, 4)}, right, ""},
		{"softmax 1 neg", 13, "Softmax", attrs{"axis": 1}, []arg{{shape: sq(1, 2), floats: []float32{-100, -101}}}, right, ""},

		{"sigmoid", 13, "Sigmoid", nil, []arg{fed(2, 3)}, right, ""},
		{"sigmoid large", 13, "Sigmoid", nil, []arg{{shape: sq(4), floats: []float32{-100, 100, -1000, 1000}}}, right, ""},
		{"tanh", 13, "Tanh", nil, []arg{fed(2, 3)}, right, ""},
		{"tanh large", 13, "Tanh", nil, []arg{{shape: sq(4), floats: []float32{-100, 100, -1000, 1000}}}, right, ""},
		{"exp", 13, "Exp", nil, []arg{fed(2, 3)}, right, ""},
		{"log", 13, "Log", nil, []arg{{shape: sq(2, 3), positive: true}}, right, ""},
		{"sqrt", 13, "Sqrt", nil, []arg{{shape: sq(2, 3), positive: true}}, right, ""},
		{"abs", 13, "Abs", nil, []arg{fed(2, 3)}, right, ""},
		{"neg", 13, "Neg", nil, []arg{fed(2, 3)}, right, ""},
		{"ceil", 13, "Ceil", nil, []arg{fed(2, 3)}, right, ""},
		{"floor", 13, "Floor", nil, []arg{fed(2, 3)}, right, ""},
		{"sign", 13, "Sign", nil, []arg{fed(2, 3)}, right, ""},
		{"sin", 13, "Sin", nil, []arg{fed(2, 3)}, right, ""},
		{"cos", 13, "Cos", nil, []arg{fed(2, 3)}, right, ""},
		{"softplus", 13, "Softplus", nil, []arg{fed(2, 3)}, right, ""},
		{"softplus large", 13, "Softplus", nil, []arg{{shape: sq(3), floats: []float32{-100, 100, 1000}}}, right, ""},

		{"concat 1", 13, "Concat", attrs{"axis": 1}, []arg{fed(2, 3, 4, 4), fed(2, 2, 4, 4)}, right, ""},
		{"concat -1", 13, "Concat", attrs{"axis": -1}, []arg{fed(2, 3), fed(2, 2)}, refused, ""},
		{"concat 0", 13, "Concat", attrs{"axis": 0}, []arg{fed(2, 3), fed(1, 3)}, right, ""},
		{"concat batch1", 13, "Concat", attrs{"axis": 1}, []arg{fed(1, 3, 4, 4), fed(1, 2, 4, 4)}, right, ""},
		{"concat 3", 13, "Concat", attrs{"axis": 1}, []arg{fed(2, 3, 2, 2), fed(2, 2, 2, 2), fed(2, 1, 2, 2)}, right, ""},
		{"concat one", 13, "Concat", attrs{"axis": 1}, []arg{fed(2, 3)}, right, ""},
		{"transpose", 13, "Transpose", attrs{"perm": sq(0, 2, 3, 1)}, []arg{fed(2, 3, 4, 5)}, right, ""},
		{"transpose 1", 13, "Transpose", attrs{"perm": sq(0, 2, 3, 1)}, []arg{fed(1, 3, 1, 5)}, right, ""},
		{"transpose id", 13, "Transpose", attrs{"perm": sq(0, 1)}, []arg{fed(2, 3)}, refused, ""},
		{"transpose 2d", 13, "Transpose", attrs{"perm": sq(1, 0)}, []arg{fed(2, 3)}, right, ""},
		{"transpose default", 13, "Transpose", nil, []arg{fed(2, 3)}, refused, ""},
		{"squeeze 11", 11, "Squeeze", attrs{"axes": sq(2, 3)}, []arg{fed(2, 3, 1, 1)}, right, ""},
		{"squeeze 13", 13, "Squeeze", nil, []arg{fed(2, 3, 1, 1), ints(2, 3)}, refused, ""},
		{"unsqueeze 11", 11, "Unsqueeze", attrs{"axes": sq(0, 3)}, []arg{fed(2, 3)}, right, ""},
		{"unsqueeze 11 mid", 11, "Unsqueeze", attrs{"axes": sq(1)}, []arg{fed(2, 3)}, wrong, ""},
		{"clip", 13, "Clip", nil, []arg{fed(2, 3), stored(), stored()}, refused, ""},
		{"max", 13, "Max", nil, []arg{fed(2, 3), fed(2, 3)}, right, ""},
		{"max scalar", 13, "Max", nil, []arg{fed(2, 3), stored()}, right, ""},
		{"max inf", 13, "Max", nil, []arg{{shape: sq(2), floats: []float32{-inf, 1}}, fed(2)}, wrong, ""},
		{"min", 13, "Min", nil, []arg{fed(2, 3), fed(2, 3)}, right, ""},
		{"reducemean", 13, "ReduceMean", attrs{"axes": sq(2, 3)}, []arg{fed(2, 3, 4, 4)}, refused, ""},
		{"globalmax", 13, "GlobalMaxPool", nil, []arg{fed(2, 3, 4, 4)}, refused, ""},
		{"hardsigmoid", 13, "HardSigmoid", nil, []arg{fed(2, 3, 4, 4)}, refused, ""},

		{"conv SAME_LOWER", 13, "Conv", k3(attrs{"auto_pad": "SAME_LOWER"}), []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3)}, refused, ""},
		{"conv 1x1 strided", 13, "Conv", attrs{"kernel_shape": sq(1, 1), "strides": sq(2, 2)}, []arg{fed(2, 3, 8, 8), stored(4, 3, 1, 1), stored(4)}, right, ""},
		{"conv wide pads", 13, "Conv", k3(attrs{"pads": sq(2, 2, 2, 2)}), []arg{fed(2, 3, 4, 4), stored(4, 3, 3, 3), stored(4)}, right, ""},
		{"conv explicit group", 13, "Conv", k3(attrs{"group": 1, "auto_pad": "NOTSET"}), []arg{fed(2, 3, 4, 4), stored(4, 3, 3, 3), stored(4)}, right, ""},
		{"maxpool pads end", 13, "MaxPool", attrs{"kernel_shape": sq(3, 3), "strides": sq(2, 2), "pads": sq(0, 0, 1, 1)}, []arg{fed(2, 3, 8, 8)}, wrong, ""},
		{"maxpool pads all differ", 13, "MaxPool", attrs{"kernel_shape": sq(3, 4), "strides": sq(2, 1), "pads": sq(1, 2, 0, 3)}, []arg{fed(2, 3, 8, 9)}, wrong, ""},
		{"maxpool ceil even", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "strides": sq(2, 2), "ceil_mode": 1}, []arg{fed(2, 3, 8, 8)}, refused, ""},
		{"maxpool ceil 3 2", 13, "MaxPool", attrs{"kernel_shape": sq(3, 3), "strides": sq(2, 2), "ceil_mode": 1}, []arg{fed(2, 3, 8, 8)}, refused, ""},
		{"maxpool ceil pads", 13, "MaxPool", attrs{"kernel_shape": sq(3, 3), "strides": sq(2, 2), "pads": sq(1, 1, 1, 1), "ceil_mode": 1}, []arg{fed(2, 3, 8, 8)}, refused, ""},
		{"maxpool ceil stride 3", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "strides": sq(3, 3), "ceil_mode": 1}, []arg{fed(2, 3, 7, 8)}, refused, ""},
		{"maxpool same_lower", 13, "MaxPool", attrs{"kernel_shape": sq(2, 2), "strides": sq(2, 2), "auto_pad": "SAME_LOWER"}, []arg{fed(2, 3, 7, 7)}, refused, ""},
		{"avgpool whole", 13, "AveragePool", attrs{"kernel_shape": sq(8, 6), "strides": sq(8, 6)}, []arg{fed(2, 3, 8, 6)}, refused, ""},
		{"avgpool one", 13, "AveragePool", attrs{"kernel_shape": sq(1, 1), "strides": sq(1, 1)}, []arg{fed(2, 3, 8, 6)}, refused, ""},
		{"flatten 0", 13, "Flatten", attrs{"axis": 0}, []arg{fed(2, 3, 4)}, right, ""},
		{"flatten rank", 13, "Flatten", attrs{"axis": 3}, []arg{fed(2, 3, 4)}, right, ""},
		{"gemm scalar C", 13, "Gemm", attrs{}, []arg{fed(2, 5), stored(5, 3), stored()}, refused, ""},
		{"gemm C [1]", 13, "Gemm", attrs{}, []arg{fed(2, 5), stored(5, 3), stored(1)}, right, ""},
		{"gemm C [1 1]", 13, "Gemm", attrs{}, []arg{fed(2, 5), stored(5, 3), stored(1, 1)}, right, ""},
		{"gemm C fed", 13, "Gemm", attrs{}, []arg{fed(2, 5), fed(5, 3), fed(3)}, right, ""},
		{"matmul 4d", 13, "MatMul", nil, []arg{fed(2, 3, 4, 5), stored(5, 3)}, refused, ""},
		{"matmul batched", 13, "MatMul", nil, []arg{fed(2, 4, 5), stored(2, 5, 3)}, refused, ""},
		{"add cross", 13, "Add", nil, []arg{fed(2, 1), fed(1, 3)}, right, ""},
		{"add chan left", 13, "Sub", nil, []arg{stored(3, 1, 1), fed(2, 3, 4, 5)}, right, ""},
		{"add chan square", 13, "Add", nil, []arg{fed(3, 3, 3, 3), stored(3, 1, 1)}, right, ""},
		{"add spatial", 13, "Add", nil, []arg{fed(2, 3, 4, 5), stored(4, 5)}, refused, ""},
		{"add row", 13, "Add", nil, []arg{fed(2, 3, 4, 5), stored(5)}, right, ""},
		{"add middle two", 13, "Add", nil, []arg{fed(2, 3, 4, 5), stored(3, 1, 5)}, right, ""},
		{"add 3d same", 13, "Add", nil, []arg{fed(2, 3, 4), fed(2, 3, 4)}, right, ""},
		{"add 5d chan", 13, "Add", nil, []arg{fed(2, 3, 2, 2, 2), stored(3, 1, 1, 1)}, refused, ""},
		{"add scalars", 13, "Add", nil, []arg{fed(), fed()}, refused, ""},
		{"div chan", 13, "Div", nil, []arg{fed(2, 3, 4, 4), stored(1, 3, 1, 1)}, refused, ""},
		{"sub ones", 13, "Sub", nil, []arg{fed(1), fed(1, 1, 1)}, right, ""},
		{"bn 3d", 13, "BatchNormalization", nil, []arg{fed(2, 3, 4), stored(3), stored(3), stored(3), positive(3)}, refused, ""},
		{"bn c1", 13, "BatchNormalization", nil, []arg{fed(2, 1, 4, 4), stored(1), stored(1), stored(1), positive(1)}, right, ""},
		{"bn fed", 13, "BatchNormalization", nil, []arg{fed(2, 3, 4, 4), fed(3), stored(3), stored(3), positive(3)}, right, ""},
		{"softmax 11 4d", 11, "Softmax", attrs{"axis": 1}, []arg{fed(2, 3, 4, 4)}, right, ""},
		{"softmax 11 default", 11, "Softmax", nil, []arg{fed(2, 3, 4)}, right, ""},
		{"softmax 11 axis0", 11, "Softmax", attrs{"axis": 0}, []arg{fed(3, 5)}, wrong, ""},
		{"softmax 13 default", 13, "Softmax", nil, []arg{fed(2, 3, 4)}, wrong, ""},
		{"softmax 1x1 images", 13, "Softmax", attrs{"axis": 1}, []arg{fed(2, 3, 1, 1)}, right, ""},
		{"softmax 1d", 13, "Softmax", nil, []arg{fed(4)}, wrong, ""},
		{"softmax one", 13, "Softmax", nil, []arg{fed(1)}, right, ""},
		{"leakyrelu default", 13, "LeakyRelu", nil, []arg{fed(5)}, overwrites, ""},
		{"leakyrelu special", 13, "LeakyRelu", nil, []arg{{shape: sq(3), floats: []float32{inf, -inf, nan}}}, right, ""},
		{"sigmoid special", 13, "Sigmoid", nil, []arg{{shape: sq(3), floats: []float32{inf, -inf, nan}}}, right, ""},
		{"tanh special", 13, "Tanh", nil, []arg{{shape: sq(3), floats: []float32{inf, -inf, nan}}}, right, ""},
		{"softplus special", 13, "Softplus", nil, []arg{{shape: sq(3), floats: []float32{inf, -inf, nan}}}, right, ""},
		{"exp special", 13, "Exp", nil, []arg{{shape: sq(5), floats: []float32{inf, -inf, nan, 100, -50}}}, right, ""},
		{"log special", 13, "Log", nil, []arg{{shape: sq(5), floats: []float32{inf, -inf, nan, 0, -1}}}, right, ""},
		{"sqrt special", 13, "Sqrt", nil, []arg{{shape: sq(5), floats: []float32{inf, -inf, nan, 0, -1}}}, right, ""},
		{"abs special", 13, "Abs", nil, []arg{{shape: sq(3), floats: []float32{inf, -inf, nan}}}, right, ""},
		{"neg special", 13, "Neg", nil, []arg{{shape: sq(3), floats: []float32{inf, -inf, nan}}}, right, ""},
		{"neg scalar", 13, "Neg", nil, []arg{fed()}, right, ""},
		{"concat 2 of rank 1", 13, "Concat", attrs{"axis": 0}, []arg{fed(2), fed(3)}, right, ""},
		{"concat stored", 13, "Concat", attrs{"axis": 1}, []arg{fed(2, 3), stored(2, 1)}, right, ""},
		{"concat ones", 13, "Concat", attrs{"axis": 1}, []arg{fed(1, 1), fed(1, 1)}, right, ""},
		{"concat last of 4", 13, "Concat", attrs{"axis": 3}, []arg{fed(2, 3, 2, 2), fed(2, 3, 2, 1)}, right, ""},
		{"transpose 4d swap", 13, "Transpose", attrs{"perm": sq(1, 0, 3, 2)}, []arg{fed(2, 3, 4, 5)}, right, ""},
		{"transpose vector", 13, "Transpose", nil, []arg{fed(5)}, refused, ""},
		{"transpose ones", 13, "Transpose", attrs{"perm": sq(1, 0)}, []arg{fed(1, 4)}, right, ""},
		{"transpose ones 3", 13, "Transpose", attrs{"perm": sq(2, 0, 1)}, []arg{fed(1, 1, 4)}, right, ""},
		{"reshape allowzero", 14, "Reshape", attrs{"allowzero": 1}, []arg{fed(2, 3, 4), ints(-1, 12)}, refused, ""},
		{"squeeze negative", 13, "Squeeze", nil, []arg{fed(2, 3, 1, 1), ints(-1)}, refused, ""},
		{"squeeze all", 13, "Squeeze", nil, []arg{fed(2, 1, 3, 1)}, right, ""},
		{"unsqueeze 13", 13, "Unsqueeze", nil, []arg{fed(2, 3), ints(0, -1)}, refused, ""},
		{"unsqueeze mid 13", 13, "Unsqueeze", nil, []arg{fed(2, 3), ints(2, 1)}, refused, ""},
	}
}

func TestBackend(t *testing.T) {
	reference := openORT(t)
	for _, c := range forms() {
		t.Run(c.name, func(t *testing.T) {
			model, feed, in, values := oneNode(t, c.opset, c.op, c.attrs, c.args, 1)
			want, err := evaluate(t, reference, model, feed, "y")
			if err != nil {
				t.Fatal(err)
			}
			if got := try(c, in, values, want["y"]); got != c.raw {
				t.Errorf("the bare backend is %s, expected %s; do the rules still fit?", got, c.raw)
			}
		})
	}
}

// try gives the node as it stands to the bare backend.
func try(c form, in []operand, values []*value, want *engine.Tensor) string {
	before := make([][]float32, len(values))
	for i, v := range values {
		before[i] = slices.Clone(v.floats())
	}
	b, err := newBackend(c.op, c.attrs.backendForm(), in)
	if err != nil {
		return refused
	}
	got, err := b.run(values)
	if err != nil {
		return refused
	}
	if difference(engine.NewFloat32(got.floats(), toInt64s(got.shape)...), want) > 1e-5 {
		return wrong
	}
	for i, v := range values {
		for k := range v.floats() {
			if math.Float32bits(v.floats()[k]) != math.Float32bits(before[i][k]) {
				return overwrites
			}
		}
	}
	return right
}

func TestOperators(t *testing.T) {
	reference := openORT(t)
	e := Open(Options{})
	for _, c := range forms() {
		t.Run(c.name, func(t *testing.T) {
			model, feed, _, _ := oneNode(t, c.opset, c.op, c.attrs, c.args, 2)
			s, err := e.Load(t.Context(), engine.Model{Name: "test", Bytes: model})
			if c.lacking != "" {
				if err == nil || !strings.Contains(err.Error(), c.lacking) || !strings.Contains(err.Error(), c.op) {
					t.Fatalf("got error %v, want %s: %s", err, c.op, c.lacking)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			want, err := evaluate(t, reference, model, feed, "y")
			if err != nil {
				t.Fatal(err)
			}
			before := fmt.Sprint(feed)
			for range 2 { // the second run finds what the first one spoilt
				out := map[string]*engine.Tensor{"y": nil}
				if err := s.Run(t.Context(), feed, out); err != nil {
					t.Fatal(err)
				}
				if d := difference(out["y"], want["y"]); d > 1e-6 {
					t.Fatalf("off by %g: %v %v in place of %v %v", d, out["y"].Shape, out["y"].Data, want["y"].Shape, want["y"].Data)
				}
			}
			if after := fmt.Sprint(feed); after != before {
				t.Error("an input was overwritten")
			}
		})
	}
}

// Under the operator sets at which forms changed, the engine agrees with ONNX
// Runtime or refuses.
func TestOperatorSets(t *testing.T) {
	reference := openORT(t)
	agreed := make(map[int64]int)
	const theirs = 26 // the newest that this ONNX Runtime takes; the corpus has tests of newer ones
	for _, opset := range []int64{oldestOpset, 9, 11, 12, 14, 18, 22, theirs} {
		for _, c := range forms() {
			if c.lacking != "" {
				continue
			}
			model, feed, _, _ := oneNode(t, opset, c.op, c.attrs, c.args, 3)
			got, err := evaluate(t, Open(Options{}), model, feed, "y")
			if err != nil {
				if !errors.As(err, new(*UnsupportedError)) {
					t.Errorf("%s, operator set %d: %v", c.name, opset, err)
				}
				continue
			}
			want, err := evaluate(t, reference, model, feed, "y")
			if err != nil {
				continue // not a form of this operator set
			}
			if d := difference(got["y"], want["y"]); d > 1e-6 {
				t.Errorf("%s, operator set %d: off by %g", c.name, opset, d)
			}
			agreed[opset]++
		}
		if agreed[opset] < 50 {
			t.Errorf("operator set %d: only %d forms could be compared", opset, agreed[opset])
		}
	}
	t.Logf("forms compared by operator set: %v", agreed)
}
