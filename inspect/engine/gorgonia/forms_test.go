package gorgonia

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"google.golang.org/protobuf/proto"
)

// A typedArg is an input of any type. Stored ones are initializers in every
// variant of a test; data is drawn at random where there is none.
type typedArg struct {
	dtype  onnxfile.DType
	shape  []int64
	stored bool
	absent bool
	data   any
}

func of(d onnxfile.DType, shape ...int64) typedArg { return typedArg{dtype: d, shape: shape} }
func float(shape ...int64) typedArg                { return of(onnxfile.Float, shape...) }
func list(v ...int64) typedArg {
	return typedArg{dtype: onnxfile.Int64, shape: []int64{int64(len(v))}, stored: true, data: v}
}
func one(d onnxfile.DType, data any) typedArg {
	return typedArg{dtype: d, shape: []int64{}, stored: true, data: data}
}
func (a typedArg) with(data any) typedArg { a.data = data; return a }

// draw returns small numbers of the argument's type, integers never 0.
func (a typedArg) draw(r *rand.Rand) any {
	if a.data != nil {
		return a.data
	}
	v := newValue(spec{a.dtype, toInts(a.shape)})
	x := make([]float64, size(v.shape))
	for i := range x {
		switch {
		case a.dtype == boolType:
			x[i] = float64(r.IntN(2))
		case intSet.has(a.dtype):
			if x[i] = float64(1 + r.IntN(7)); r.IntN(2) == 0 && (1<<onnxfile.Int64|1<<onnxfile.Int32|1<<int8Type|1<<int16Type)&(1<<a.dtype) != 0 {
				x[i] = -x[i]
			}
		default:
			x[i] = 2 * r.NormFloat64()
		}
	}
	if err := convert(v, &value{onnxfile.Double, v.shape, x}); err != nil {
		panic(err)
	}
	return v.data
}

// numbersOf returns the numbers of a tensor as float64.
func numbersOf(t *engine.Tensor, d onnxfile.DType) []float64 {
	v := newValue(spec{onnxfile.Double, toInts(t.Shape)})
	if err := convert(v, &value{d, toInts(t.Shape), t.Data}); err != nil {
		panic(err)
	}
	return v.doubles()
}

// A typedForm is an operator with attributes, inputs of any type and the types of
// its outputs.
type typedForm struct {
	op    string
	opset int64
	attrs attrs
	args  []typedArg
	out   []onnxfile.DType
	// tolerance is how far floats may be off, relative to the largest; 0 for 1e-6.
	tolerance float64
}

// model is a graph of the one node; with all inputs stored, it has another one
// that only passes on what it is fed.
func (f typedForm) model(t testing.TB, data []any, stored bool) (model []byte, feed map[string]*engine.Tensor, outputs []string) {
	n := newNet(t, f.opset)
	feed = make(map[string]*engine.Tensor)
	var names []string
	for i, a := range f.args {
		name := fmt.Sprintf("x%d", i)
		if a.absent {
			names = append(names, "")
			continue
		}
		names = append(names, name)
		if !a.stored && !stored {
			dims := make([]any, len(a.shape))
			for k, d := range a.shape {
				dims[k] = d
			}
			n.g.Input = append(n.g.Input, valueInfo(name, a.dtype, dims...))
			feed[name] = &engine.Tensor{Shape: a.shape, Data: data[i]}
			continue
		}
		storage, _ := storageFor(a.dtype)
		n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{
			Name: proto.String(name), DataType: proto.Int32(int32(a.dtype)), Dims: a.shape, RawData: storage.bytes(data[i]),
		})
	}
	if len(feed) == 0 {
		n.input("idle", 1)
		n.node("Relu", nil, "busy", "idle")
		n.output("busy")
		feed["idle"] = engine.NewFloat32([]float32{1}, 1)
	}
	for i, d := range f.out {
		v := valueInfo(fmt.Sprintf("y%d", i), d)
		v.Type.GetTensorType().Shape = nil
		n.g.Output = append(n.g.Output, v)
		outputs = append(outputs, v.GetName())
	}
	n.g.Node = append(n.g.Node, &onnxpb.NodeProto{Name: proto.String("/y"), OpType: proto.String(f.op), Input: names, Output: outputs, Attribute: f.attrs.proto()})
	return n.bytes(), feed, outputs
}

// TestTypedForms compares forms with ONNX Runtime, once with the inputs fed and
// once with all of them stored, so that planning computes the node.
func TestTypedForms(t *testing.T) {
	reference := openORT(t)
	seen := make(map[string]int)
	for i, f := range typedForms() {
		name := fmt.Sprint(f.op, f.opset, f.attrs, "#", seen[f.op])
		seen[f.op]++
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			data := make([]any, len(f.args))
			for k, a := range f.args {
				if !a.absent {
					data[k] = a.draw(r)
				}
			}
			model, feed, outputs := f.model(t, data, false)
			want := f.expected(t, reference, model, feed, outputs)
			for _, stored := range []bool{false, true} {
				model, feed, outputs := f.model(t, data, stored)
				before := fmt.Sprint(feed)
				got, err := evaluate(t, Open(Options{Threads: 2}), model, feed, outputs...)
				if err != nil {
					t.Fatalf("stored %t: %v", stored, err)
				}
				if fmt.Sprint(feed) != before {
					t.Error("an input was overwritten")
				}
				for k, y := range outputs {
					if err := near(got[y], want[y], f.out[k], f.tolerance); err != nil {
						t.Errorf("stored %t, output %d: %v", stored, k, err)
					}
				}
			}
		})
	}
}

// expected runs the model on ONNX Runtime, which needs to be given tensors for
// halves.
func (f typedForm) expected(t *testing.T, reference engine.Engine, model []byte, feed map[string]*engine.Tensor, outputs []string) map[string]*engine.Tensor {
	out := make(map[string]*engine.Tensor)
	for i, name := range outputs {
		out[name] = nil
		if !halfSet.has(f.out[i]) {
			continue
		}
		ours, err := evaluate(t, Open(Options{}), model, feed, name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = &engine.Tensor{Shape: ours[name].Shape, Data: make([]uint16, engine.Elements(ours[name].Shape))}
	}
	s := load(t, reference, engine.Model{Name: "test", Bytes: model})
	if err := s.Run(t.Context(), feed, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func near(got, want *engine.Tensor, d onnxfile.DType, tolerance float64) error {
	if fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) {
		return fmt.Errorf("shape %v in place of %v", got.Shape, want.Shape)
	}
	a, b := numbersOf(got, d), numbersOf(want, d)
	if tolerance == 0 {
		switch {
		case d == onnxfile.Float16:
			tolerance = 2e-3
		case d == onnxfile.BFloat16:
			tolerance = 2e-2
		case realSet.has(d):
			tolerance = 1e-6
		}
	}
	most := 0.
	for _, y := range b {
		if !math.IsInf(y, 0) && !math.IsNaN(y) {
			most = max(most, math.Abs(y))
		}
	}
	for i, y := range b {
		if a[i] == y || math.IsNaN(a[i]) && math.IsNaN(y) {
			continue
		}
		if !(math.Abs(a[i]-y) <= tolerance*most) {
			return fmt.Errorf("number %d is %g in place of %g", i, a[i], y)
		}
	}
	return nil
}

func typedForms() []typedForm {
	f32, f64, f16, i64, i32 := onnxfile.Float, onnxfile.Double, onnxfile.Float16, onnxfile.Int64, onnxfile.Int32
	sq := func(v ...int64) []int64 { return v }
	types := func(d ...onnxfile.DType) []onnxfile.DType { return d }
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	special := typedArg{dtype: f32, shape: sq(14), data: []float32{nan, inf, -inf, 0, -0.5, .5, 1, -1, 1.5, 2.5, -2.5, 30, -30, 100}}
	var all []typedForm
	add := func(f typedForm) { all = append(all, f) }
	same := func(op string, opset int64, a attrs, args ...typedArg) {
		add(typedForm{op: op, opset: opset, attrs: a, args: args, out: types(args[0].dtype)})
	}

	// Functions of one number: special values, and every type.
	for _, op := range []string{"Relu", "Sigmoid", "Tanh", "Exp", "Erf", "Ceil", "Floor", "Round", "Log", "Sqrt", "Reciprocal", "Softplus", "Softsign", "Abs", "Neg", "Sign", "HardSigmoid", "LeakyRelu", "Elu", "Selu", "ThresholdedRelu", "Atan", "Asinh", "Celu", "Mish"} {
		opset := int64(22)
		in := special
		switch op {
		case "Sigmoid", "Erf":
			// ONNX Runtime's approximations bound the argument.
			in = float(3, 5)
		case "Sign", "Mish":
			in.data, in.shape = in.data.([]float32)[3:], sq(11) // what ONNX Runtime makes of these is of its own
		}
		add(typedForm{op: op, opset: opset, args: []typedArg{in}, out: types(f32), tolerance: 2e-6})
		same(op, opset, nil, of(f32))
		same(op, opset, nil, float(2, 0, 3))
	}
	for _, op := range []string{"Sin", "Cos", "Tan", "Sinh", "Cosh", "Acos", "Asin", "Atanh", "Acosh"} {
		in := typedArg{dtype: f32, shape: sq(5), data: []float32{-.9, -.1, 0, .3, .99}}
		if op == "Acosh" {
			in.data = []float32{1, 1.5, 2, 10, 1000}
		}
		add(typedForm{op: op, opset: 22, args: []typedArg{in}, out: types(f32), tolerance: 2e-6})
	}
	for _, op := range []string{"Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Sqrt", "Erf", "Softplus"} {
		if op != "Softplus" && op != "Sqrt" {
			same(op, 22, nil, of(f16, 3, 5))
		}
		if op != "Erf" && op != "Softplus" { // which ONNX Runtime lacks
			same(op, 22, nil, of(f64, 3, 5))
		}
	}
	for _, d := range types(i64, i32, int8Type) {
		same("Abs", 22, nil, of(d, 3, 4))
		same("Neg", 22, nil, of(d, 3, 4))
		same("Sign", 22, nil, of(d, 3, 4))
	}
	same("Relu", 14, nil, of(i32, 3, 4))
	same("HardSigmoid", 6+1, attrs{"alpha": float32(.3), "beta": float32(.4)}, float(3, 4))
	same("HardSwish", 14, nil, float(3, 4))
	same("LeakyRelu", 16, attrs{"alpha": float32(.3)}, float(3, 4))
	same("Elu", 7, attrs{"alpha": float32(1.3)}, float(3, 4))
	same("Selu", 7, attrs{"alpha": float32(1.3), "gamma": float32(2)}, float(3, 4))
	same("Celu", 12, attrs{"alpha": float32(1.3)}, float(3, 4))
	same("ThresholdedRelu", 10, attrs{"alpha": float32(.3)}, float(3, 4))
	same("Shrink", 9, attrs{"bias": float32(.2), "lambd": float32(1)}, float(3, 4))
	same("Gelu", 20, nil, float(3, 4))
	same("Gelu", 20, attrs{"approximate": "tanh"}, float(3, 4))
	same("Clip", 7, attrs{"min": float32(-1), "max": float32(.5)}, special)
	same("Clip", 7, nil, float(3, 4))
	same("Clip", 11, nil, special, one(f32, []float32{-1}), one(f32, []float32{.5}))
	same("Clip", 13, nil, float(3, 4), typedArg{absent: true}, one(f32, []float32{.5}))
	same("Clip", 13, nil, float(3, 4), float().with([]float32{-.5}))
	same("Clip", 13, nil, of(i64, 3, 4), one(i64, []int64{-2}), one(i64, []int64{3}))
	same("Clip", 13, nil, of(i32, 3, 4), one(i32, []int32{2}), one(i32, []int32{-3}))
	for _, op := range []string{"IsNaN", "IsInf"} {
		add(typedForm{op: op, opset: 20, args: []typedArg{special}, out: types(boolType)})
	}
	add(typedForm{op: "IsInf", opset: 10, attrs: attrs{"detect_negative": 0}, args: []typedArg{special}, out: types(boolType)})

	// Two numbers.
	for _, d := range types(f32, f64, f16, i64, i32) {
		for _, op := range []string{"Add", "Sub", "Mul", "Div"} {
			same(op, 14, nil, of(d, 2, 3, 4), of(d, 3, 1))
			same(op, 14, nil, of(d, 1, 3, 1), of(d, 2, 1, 4))
			same(op, 14, nil, of(d, 1), of(d, 2, 2))
		}
		for _, op := range []string{"Min", "Max"} {
			same(op, 13, nil, of(d, 2, 1), of(d, 3), of(d, 1))
			same(op, 13, nil, of(d, 2, 3))
		}
	}
	for _, op := range []string{"Sum", "Mean"} {
		same(op, 13, nil, float(2, 1), float(3), float(2, 3))
		same(op, 8, nil, float(2, 3))
	}
	same("Div", 7, nil, special, float(14))
	same("Div", 7, nil, float(14), special)
	same("Div", 14, nil, float(2, 3), typedArg{dtype: f32, shape: sq(3), data: []float32{0, 1, -2}})
	same("Add", 14, nil, float(2, 0), float(1))
	same("Pow", 15, nil, float(2, 3).with([]float32{1, 2, 3, 4, 5, 6}), float(3))
	same("Pow", 15, nil, float(2, 3), one(f32, []float32{2}))
	same("Pow", 15, nil, float(2, 3), one(i64, []int64{3}))
	same("Pow", 15, nil, of(i32, 2, 3), typedArg{dtype: i32, shape: sq(3), data: []int32{0, 1, 2}})
	same("Pow", 12, nil, of(i64, 3).with([]int64{1, 2, 3}), one(f32, []float32{2}))
	same("PRelu", 9, nil, float(2, 3, 4), float(3, 1))
	same("PRelu", 16, nil, float(2, 3, 4), float(1))
	same("Mod", 13, nil, of(i64, 4, 3), of(i64, 3))
	same("Mod", 13, attrs{"fmod": 1}, of(i32, 4, 3), of(i32, 3))
	same("Mod", 13, attrs{"fmod": 1}, float(4, 3), float(3))
	for _, op := range []string{"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"} {
		for _, d := range types(f32, f64, i64, i32) {
			add(typedForm{op: op, opset: 16, args: []typedArg{of(d, 5, 4), of(d, 4)}, out: types(boolType)})
		}
		add(typedForm{op: op, opset: 16, args: []typedArg{special, of(f32)}, out: types(boolType)})
	}
	add(typedForm{op: "Equal", opset: 13, args: []typedArg{of(boolType, 5), of(boolType, 5)}, out: types(boolType)})
	for _, op := range []string{"And", "Or", "Xor"} {
		same(op, 7, nil, of(boolType, 4, 1), of(boolType, 5))
	}
	same("Not", 7, nil, of(boolType, 6))
	for _, op := range []string{"BitwiseAnd", "BitwiseOr", "BitwiseXor"} {
		same(op, 18, nil, of(i32, 6), of(i32, 2, 1))
	}
	same("BitwiseNot", 18, nil, of(i64, 6))
	same("BitShift", 11, attrs{"direction": "LEFT"}, of(uint8Type, 6), of(uint8Type, 6))
	same("BitShift", 11, attrs{"direction": "RIGHT"}, of(uint32Type, 6), of(uint32Type, 6))
	for _, d := range types(f32, f64, i64, i32, uint8Type) {
		add(typedForm{op: "Where", opset: 16, args: []typedArg{of(boolType, 2, 1, 4), of(d, 3, 1), of(d)}, out: types(d)})
	}

	// Reductions.
	for _, op := range []string{"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"} {
		in := float(2, 3, 4, 5)
		if op == "ReduceLogSum" {
			in.data = positives(2 * 3 * 4 * 5)
		}
		if op == "ReduceProd" {
			in = float(2, 3, 2, 2)
		}
		f := typedForm{op: op, out: types(f32), tolerance: 5e-6}
		for _, axes := range [][]int64{{2, 3}, {0}, {-1}, {0, 2}, {1}, {3, 1}} {
			f.opset, f.attrs, f.args = 11, attrs{"axes": axes}, []typedArg{in}
			add(f)
			f.opset, f.attrs, f.args = 18, attrs{"keepdims": 0}, []typedArg{in, list(axes...)}
			add(f)
		}
		f.opset, f.attrs, f.args = 11, nil, []typedArg{in}
		add(f)
		f.opset, f.attrs = 18, attrs{"keepdims": 0}
		add(f)
		if op == "ReduceSum" || op == "ReduceMax" || op == "ReduceProd" || op == "ReduceMean" {
			same(op, 18, attrs{"keepdims": 0}, of(i32, 3, 4), list(0))
			same(op, 18, nil, of(f64, 3, 4), list(1))
			same(op, 18, attrs{"noop_with_empty_axes": 1}, float(3, 4))
		}
	}
	same("ReduceMean", 18, nil, of(f16, 2, 3, 4, 4), list(2, 3))
	same("ReduceMax", 18, nil, of(i64, 3, 4), list(1))
	for _, op := range []string{"ArgMax", "ArgMin"} {
		for _, a := range []attrs{nil, {"axis": 1}, {"axis": -1, "keepdims": 0}, {"axis": 1, "select_last_index": 1}} {
			add(typedForm{op: op, opset: 13, attrs: a, args: []typedArg{float(3, 4, 2)}, out: types(i64)})
			add(typedForm{op: op, opset: 13, attrs: a, args: []typedArg{of(i32, 3, 4, 2)}, out: types(i64)})
		}
	}
	for _, op := range []string{"Softmax", "LogSoftmax", "Hardmax"} {
		for _, opset := range []int64{11, 13} {
			for _, a := range []attrs{nil, {"axis": 0}, {"axis": 1}, {"axis": 2}, {"axis": -2}} {
				same(op, opset, a, float(3, 4, 5))
			}
		}
		if op != "Hardmax" {
			same(op, 13, nil, of(f64, 3, 4))
		}
		same(op, 13, attrs{"axis": 1}, float(2, 1000, 3, 3))
	}
	same("Softmax", 13, nil, of(f16, 3, 4))
	for _, a := range []attrs{nil, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}} {
		same("CumSum", 14, a, float(2, 5, 3), one(i64, []int64{1}))
		same("CumSum", 14, a, of(i64, 2, 5), one(i32, []int32{-1}))
	}
	for _, a := range []attrs{nil, {"axis": 0}, {"axis": 1, "largest": 0}} {
		add(typedForm{op: "TopK", opset: 11, attrs: a, args: []typedArg{float(4, 5, 3), list(2)}, out: types(f32, i64)})
	}
	add(typedForm{op: "TopK", opset: 11, args: []typedArg{of(i64, 2, 9), list(3)}, out: types(i64, i64)})
	add(typedForm{op: "TopK", opset: 10, args: []typedArg{float(2, 9), list(9)}, out: types(f32, i64)})
	add(typedForm{op: "TopK", opset: 9, attrs: attrs{"k": 3}, args: []typedArg{float(2, 9)}, out: types(f32, i64)})

	// Normalization.
	same("InstanceNormalization", 7, nil, float(2, 3, 4, 5), float(3), float(3))
	same("InstanceNormalization", 22, attrs{"epsilon": float32(.1)}, float(2, 3, 7), float(3), float(3))
	same("GroupNormalization", 18, attrs{"num_groups": 2}, float(2, 4, 3, 3), float(2), float(2))
	same("GroupNormalization", 21, attrs{"num_groups": 2}, float(2, 4, 3, 3), float(4), float(4))
	same("LayerNormalization", 17, nil, float(2, 3, 8), float(8), float(8))
	same("LayerNormalization", 17, attrs{"axis": 1, "epsilon": float32(.1)}, float(2, 3, 8), float(3, 8))
	same("RMSNormalization", 23, nil, float(2, 3, 8), float(8))
	same("LRN", 13, attrs{"size": 3}, float(2, 7, 4, 4))
	same("LRN", 13, attrs{"size": 5, "alpha": float32(.2), "beta": float32(.5), "bias": float32(2)}, float(2, 7, 4, 4))
	same("LpNormalization", 7, attrs{"axis": 1}, float(2, 5, 3))
	same("LpNormalization", 7, attrs{"p": 1}, float(2, 5, 3))
	same("MeanVarianceNormalization", 9, nil, float(2, 3, 4, 4))
	same("MeanVarianceNormalization", 13, attrs{"axes": sq(1)}, float(2, 3, 4, 4))

	// Pooling.
	for _, op := range []string{"MaxPool", "AveragePool", "LpPool"} {
		k := func(a attrs, kernel ...int64) attrs { a["kernel_shape"] = kernel; return a }
		opset := int64(19)
		if op == "LpPool" {
			opset = 18
		}
		same(op, opset, k(attrs{}, 3, 3), float(2, 3, 9, 8))
		same(op, opset, k(attrs{"strides": sq(2, 2), "pads": sq(1, 1, 1, 1)}, 3, 3), float(2, 3, 9, 8))
		same(op, opset, k(attrs{"strides": sq(2, 1), "pads": sq(1, 0, 2, 1)}, 3, 2), float(2, 3, 9, 8))
		same(op, opset, k(attrs{"strides": sq(2, 2)}, 2, 2), float(2, 3, 64, 70))
		same(op, opset, k(attrs{"strides": sq(2)}, 3), float(2, 3, 11))
		same(op, opset, k(attrs{"strides": sq(2, 1, 2)}, 3, 2, 2), float(1, 2, 5, 6, 7))
		same(op, opset, k(attrs{"dilations": sq(2, 3), "strides": sq(1, 2)}, 2, 2), float(2, 3, 9, 8))
		same(op, opset, k(attrs{"auto_pad": "SAME_UPPER", "strides": sq(2, 2)}, 3, 3), float(2, 3, 9, 8))
		same(op, opset, k(attrs{"auto_pad": "SAME_LOWER", "strides": sq(2, 2)}, 2, 3), float(2, 3, 9, 8))
		same(op, opset, k(attrs{"auto_pad": "VALID", "strides": sq(2, 2)}, 2, 3), float(2, 3, 9, 8))
		same(op, 7, k(attrs{"strides": sq(2, 2)}, 3, 3), float(2, 3, 9, 8))
		if op == "LpPool" {
			same(op, opset, k(attrs{"p": 3, "strides": sq(2, 2)}, 3, 3), float(2, 3, 9, 8))
			continue
		}
		for _, ceil := range []attrs{{"strides": sq(2, 2)}, {"strides": sq(3, 3), "pads": sq(1, 1, 1, 1)}, {"strides": sq(4, 3), "pads": sq(0, 1, 1, 0)}} {
			ceil["ceil_mode"] = 1
			same(op, opset, k(ceil, 3, 3), float(1, 2, 8, 7))
			same(op, 11, k(ceil, 3, 3), float(1, 2, 7, 8))
		}
		if op == "MaxPool" {
			same(op, 22, k(attrs{"strides": sq(2, 2)}, 3, 3), of(f64, 2, 3, 9, 8))
		}
		if op == "AveragePool" {
			for _, a := range []attrs{{"pads": sq(1, 1, 1, 1)}, {"pads": sq(1, 0, 0, 1), "strides": sq(2, 2)}, {"pads": sq(1, 1, 1, 1), "ceil_mode": 1, "strides": sq(3, 3)}, {"pads": sq(1, 1, 1, 1), "dilations": sq(2, 2)}} {
				a["count_include_pad"] = 1
				same(op, 19, k(a, 3, 3), float(1, 2, 8, 7))
			}
		}
	}
	for _, a := range []attrs{{}, {"storage_order": 1}, {"pads": sq(1, 1, 1, 1), "strides": sq(2, 2)}, {"dilations": sq(2, 2)}} {
		a["kernel_shape"] = sq(3, 2)
		add(typedForm{op: "MaxPool", opset: 12, attrs: a, args: []typedArg{float(2, 3, 8, 7)}, out: types(f32, i64)})
	}
	same("MaxPool", 12, attrs{"kernel_shape": sq(2, 2)}, of(uint8Type, 1, 2, 5, 5))
	same("MaxPool", 22, attrs{"kernel_shape": sq(2, 2)}, of(f16, 1, 2, 5, 5))
	for _, op := range []string{"GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"} {
		same(op, 7, nil, float(2, 3, 9, 8))
		same(op, 7, nil, float(2, 3, 9))
		same(op, 7, nil, float(2, 3, 4, 5, 6))
	}

	// Products in half precision.
	same("Conv", 11, attrs{"pads": sq(1, 1, 1, 1)}, of(f16, 2, 3, 6, 7), of(f16, 4, 3, 3, 3), of(f16, 4))
	same("Conv", 11, attrs{"group": 3}, of(f16, 2, 3, 6, 7), of(f16, 3, 1, 3, 3))
	same("Gemm", 13, attrs{"transB": 1}, of(f16, 5, 9), of(f16, 4, 9), of(f16, 4))
	same("MatMul", 13, nil, of(f16, 2, 5, 9), of(f16, 9, 4))
	same("BatchNormalization", 15, nil, of(f16, 2, 3, 4), of(f16, 3), of(f16, 3), of(f16, 3), typedArg{dtype: f16, shape: sq(3), data: []uint16{0x3c00, 0x4000, 0x3800}})

	// Movement, for every width.
	for _, d := range types(f32, f64, i64, i32, boolType, uint8Type, f16) {
		same("Transpose", 13, attrs{"perm": sq(0, 2, 3, 1)}, of(d, 2, 3, 4, 5))
		same("Concat", 13, attrs{"axis": -1}, of(d, 2, 3), of(d, 2, 1))
		same("Slice", 13, nil, of(d, 6, 7), list(1, -1), list(5, -9), list(0, 1), list(2, -2))
		same("Gather", 13, attrs{"axis": 1}, of(d, 3, 4, 2), typedArg{dtype: i64, shape: sq(2, 2), data: sq(3, -1, 0, 1)})
		same("Expand", 13, nil, of(d, 3, 1), list(2, 1, 4))
		same("Tile", 13, nil, of(d, 3, 2), list(2, 3))
		same("Pad", 18, nil, of(d, 3, 2), list(1, 0, 2, 1))
	}
	same("Transpose", 13, nil, float(2, 3, 4))
	same("Concat", 13, attrs{"axis": 1}, float(2, 3), float(2, 0), float(2, 1))
	same("Concat", 13, attrs{"axis": 0}, of(i64, 2), of(i64, 1), list(5, 6))
	for _, s := range [][4]typedArg{
		{list(0), list(math.MaxInt64), list(1), list(1)}, {list(-3), list(-1), list(0), list(1)}, {list(5), list(math.MinInt64), list(0), list(-1)},
		{list(100, -100), list(-100, 100), list(0, 1), list(-3, 2)}, {list(4), list(2), list(0), list(1)}, {list(1), list(6), list(-1), list(100)},
	} {
		same("Slice", 13, nil, float(6, 7), s[0], s[1], s[2], s[3])
	}
	same("Slice", 11, nil, float(6, 7), list(1, 2), list(3, 9))
	same("Slice", 9, attrs{"starts": sq(1, -3), "ends": sq(4, 100), "axes": sq(0, 1)}, float(6, 7))
	same("Slice", 7, attrs{"starts": sq(1), "ends": sq(4)}, float(6, 7))
	same("Gather", 13, nil, float(5), typedArg{dtype: i32, shape: sq(), data: []int32{-2}})
	same("GatherElements", 13, attrs{"axis": 1}, float(3, 4), typedArg{dtype: i64, shape: sq(2, 2), data: sq(3, -1, 0, 1)})
	same("GatherND", 13, nil, float(3, 4, 2), typedArg{dtype: i64, shape: sq(2, 2), data: sq(2, 3, -1, 0)})
	same("GatherND", 13, attrs{"batch_dims": 1}, float(2, 3, 2), typedArg{dtype: i64, shape: sq(2, 1), data: sq(2, 0)})
	for _, mode := range []string{"constant", "reflect", "edge"} {
		same("Pad", 13, attrs{"mode": mode}, float(4, 5), list(2, 0, 1, 3))
		same("Pad", 13, attrs{"mode": mode}, float(4, 5), list(-1, 1, 0, -2))
	}
	same("Pad", 19, attrs{"mode": "wrap"}, float(4, 5), list(2, 0, 1, 3))
	same("Pad", 13, nil, float(4, 5), list(2, 0, 1, 3), of(f32))
	same("Pad", 18, nil, float(2, 4, 5), list(2, 1), one(f32, []float32{7}), list(-1))
	same("Pad", 7, attrs{"pads": sq(1, 0, 2, 3), "value": float32(2.5)}, float(4, 5))
	split := func(opset int64, a attrs, n int, args ...typedArg) {
		out := make([]onnxfile.DType, n)
		for i := range out {
			out[i] = args[0].dtype
		}
		add(typedForm{op: "Split", opset: opset, attrs: a, args: args, out: out})
	}
	split(11, attrs{"axis": 1}, 3, float(2, 6, 3))
	split(11, attrs{"axis": -1, "split": sq(1, 0, 2)}, 3, float(2, 6, 3))
	split(13, attrs{"axis": 1}, 2, of(i64, 2, 6), list(2, 4))
	split(18, attrs{"num_outputs": 3}, 3, float(7, 2))
	same("DepthToSpace", 11, attrs{"blocksize": 2}, float(2, 12, 3, 4))
	same("DepthToSpace", 13, attrs{"blocksize": 2, "mode": "CRD"}, float(2, 12, 3, 4))
	same("SpaceToDepth", 13, attrs{"blocksize": 2}, float(2, 3, 4, 6))
	same("Trilu", 14, nil, float(2, 4, 5))
	same("Trilu", 14, attrs{"upper": 0}, of(i64, 4, 5), one(i64, []int64{-1}))
	add(typedForm{op: "Size", opset: 13, args: []typedArg{float(2, 3)}, out: types(i64)})
	add(typedForm{op: "Shape", opset: 15, attrs: attrs{"start": 1}, args: []typedArg{of(i32, 2, 3)}, out: types(i64)})
	same("Identity", 13, nil, of(i64, 3))
	same("Dropout", 10, nil, float(2, 3))
	for _, in := range [][]typedArg{{float(2, 3)}, {float(2, 3), one(f32, []float32{.5}), one(boolType, []bool{false})}} {
		add(typedForm{op: "Dropout", opset: 13, args: in, out: types(f32, boolType)})
		same("Dropout", 13, nil, in...)
	}
	same("Reshape", 13, nil, of(i64, 2, 3), list(3, -1))
	same("Unsqueeze", 13, nil, of(boolType, 2, 3), list(0, -1))

	// Types.
	held := types(f32, f64, i64, i32, uint8Type, int8Type, boolType, f16, onnxfile.BFloat16)
	for _, from := range held {
		for _, to := range held {
			if from == onnxfile.BFloat16 && to == f16 || from == f16 && to == onnxfile.BFloat16 {
				continue
			}
			in := of(from, 3, 4)
			if to == uint8Type && !intSet.has(from) && from != boolType {
				in = typedArg{dtype: from, shape: sq(3)}
				v := newValue(spec{from, []int{3}})
				if err := convert(v, &value{f64, []int{3}, []float64{0, 1.7, 250}}); err != nil {
					panic(err)
				}
				in.data = v.data
			}
			add(typedForm{op: "Cast", opset: 13, attrs: attrs{"to": int(to)}, args: []typedArg{in}, out: types(to)})
		}
	}
	add(typedForm{op: "Cast", opset: 9, attrs: attrs{"to": int(i64)}, args: []typedArg{float(7)}, out: types(i64)})
	add(typedForm{op: "CastLike", opset: 15, args: []typedArg{float(7), of(i32, 1)}, out: types(i32)})
	add(typedForm{op: "ConstantOfShape", opset: 9, args: []typedArg{list(2, 3)}, out: types(f32)})
	add(typedForm{op: "ConstantOfShape", opset: 9, attrs: attrs{"value": &onnxpb.TensorProto{DataType: proto.Int32(int32(i64)), Dims: sq(1), Int64Data: sq(-4)}}, args: []typedArg{list()}, out: types(i64)})
	add(typedForm{op: "ConstantOfShape", opset: 9, attrs: attrs{"value": &onnxpb.TensorProto{DataType: proto.Int32(int32(boolType)), Dims: sq(1), RawData: []byte{1}}}, args: []typedArg{list(3)}, out: types(boolType)})
	add(typedForm{op: "Range", opset: 11, args: []typedArg{one(i64, sq(3)), one(i64, sq(-8)), one(i64, sq(-3))}, out: types(i64)})
	add(typedForm{op: "Range", opset: 11, args: []typedArg{one(f32, []float32{.5}), one(f32, []float32{3}), one(f32, []float32{.25})}, out: types(f32)})
	add(typedForm{op: "OneHot", opset: 11, attrs: attrs{"axis": 1}, args: []typedArg{typedArg{dtype: i64, shape: sq(2, 2), data: sq(0, -1, 3, 9)}, one(i64, sq(4)), {dtype: f32, shape: sq(2), data: []float32{-1, 5}}}, out: types(f32)})
	add(typedForm{op: "EyeLike", opset: 9, attrs: attrs{"dtype": int(i64), "k": 1}, args: []typedArg{float(3, 4)}, out: types(i64)})

	// Levels.
	small := typedArg{dtype: f32, shape: sq(3), stored: true, data: []float32{.25, .125, .5}}
	for d, zero := range map[onnxfile.DType]any{int8Type: []int8{0, 1, -2}, uint8Type: []uint8{128, 120, 3}} {
		zeros := typedArg{dtype: d, shape: sq(3), stored: true, data: zero}
		add(typedForm{op: "QuantizeLinear", opset: 13, args: []typedArg{float(2, 3, 50), small, zeros}, out: types(d)})
		add(typedForm{op: "QuantizeLinear", opset: 13, attrs: attrs{"axis": -1}, args: []typedArg{float(50, 3), small, zeros}, out: types(d)})
		add(typedForm{op: "DequantizeLinear", opset: 13, args: []typedArg{of(d, 2, 3, 50), small, zeros}, out: types(f32)})
		add(typedForm{op: "DequantizeLinear", opset: 10, args: []typedArg{of(d, 50), one(f32, []float32{.1})}, out: types(f32)})
	}
	add(typedForm{op: "QuantizeLinear", opset: 10, args: []typedArg{float(50), one(f32, []float32{.01})}, out: types(uint8Type)})
	add(typedForm{op: "DequantizeLinear", opset: 10, args: []typedArg{of(i32, 50), one(f32, []float32{.1})}, out: types(f32)})
	add(typedForm{op: "LayerNormalization", opset: 17, attrs: attrs{"axis": 1}, args: []typedArg{float(2, 3, 8), float(3, 8), float(3, 8)}, out: types(f32, f32, f32)})

	// Sizes.
	scales := func(v ...float32) typedArg {
		return typedArg{dtype: f32, shape: sq(int64(len(v))), stored: true, data: v}
	}
	none := typedArg{absent: true}
	resize := func(a attrs, args ...typedArg) {
		// ONNX Runtime has its weights in float32.
		add(typedForm{op: "Resize", opset: 19, attrs: a, args: args, out: types(args[0].dtype), tolerance: 5e-6})
	}
	for _, mode := range []string{"nearest", "linear", "cubic"} {
		for _, coordinate := range []string{"half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"} {
			a := func() attrs { return attrs{"mode": mode, "coordinate_transformation_mode": coordinate} }
			resize(a(), float(1, 2, 4, 5), none, none, list(1, 2, 7, 9))
			resize(a(), float(1, 2, 7, 9), none, none, list(1, 2, 4, 3))
			resize(a(), float(1, 2, 4, 5), none, scales(1, 1, 2, 3))
			if coordinate != "align_corners" {
				resize(a(), float(1, 2, 8, 7), none, scales(1, 1, .6, 1.7))
			}
		}
	}
	for _, rounding := range []string{"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"} {
		resize(attrs{"nearest_mode": rounding, "coordinate_transformation_mode": "asymmetric"}, float(1, 2, 4, 5), none, scales(1, 1, 2, 2.5))
		resize(attrs{"nearest_mode": rounding}, of(i32, 1, 2, 4, 5), none, scales(1, 1, 2, .5))
	}
	resize(attrs{"mode": "cubic", "cubic_coeff_a": float32(-.5), "exclude_outside": 1}, float(1, 2, 4, 5), none, scales(1, 1, 2, 2))
	for _, mode := range []string{"linear", "cubic"} {
		resize(attrs{"mode": mode, "antialias": 1}, float(1, 2, 8, 9), none, none, list(1, 2, 3, 4))
		resize(attrs{"mode": mode, "antialias": 1, "exclude_outside": 1}, float(1, 2, 8, 9), none, none, list(1, 2, 3, 4))
	}
	for _, mode := range []string{"nearest", "linear"} {
		resize(attrs{"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": float32(9)}, float(1, 1, 6, 6), scales(0, 0, .2, -.3, 1, 1, .7, 1.2), none, list(1, 1, 4, 5))
	}
	resize(attrs{"axes": sq(2, 3), "keep_aspect_ratio_policy": "not_larger"}, float(1, 2, 6, 8), none, none, list(9, 10))
	resize(attrs{"axes": sq(3, 2), "keep_aspect_ratio_policy": "not_smaller", "mode": "linear"}, float(1, 2, 6, 8), none, none, list(9, 10))
	same("Resize", 10, nil, float(1, 2, 4, 5), scales(1, 1, 2, 2))
	same("Resize", 10, attrs{"mode": "linear"}, float(1, 2, 4, 5), scales(1, 1, 2, 1.5))
	same("Resize", 11, nil, float(1, 2, 4, 5), scales(), scales(1, 1, 2, 2))
	same("Upsample", 9, nil, float(1, 2, 4, 5), scales(1, 1, 2, 2))
	same("Upsample", 9, attrs{"mode": "linear"}, float(1, 2, 4, 5), scales(1, 1, 2, 2))
	return all
}

func positives(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = 1 + float32(i%7)
	}
	return x
}

// What cannot be computed is refused by name, or when it runs if numbers tell.
func TestTypedFormsRefused(t *testing.T) {
	f32, i64 := onnxfile.Float, onnxfile.Int64
	sq := func(v ...int64) []int64 { return v }
	for _, c := range []struct {
		form typedForm
		want string
	}{
		{typedForm{op: "Div", opset: 14, args: []typedArg{of(i64, 3), typedArg{dtype: i64, shape: sq(3), data: sq(1, 0, 2)}}}, "an integer is divided by 0"},
		{typedForm{op: "Gather", opset: 13, args: []typedArg{float(3), typedArg{dtype: i64, shape: sq(1), data: sq(3)}}}, "index 3 is out of range for 3 places"},
		{typedForm{op: "Clip", opset: 13, attrs: attrs{"min": float32(0)}, args: []typedArg{float(3)}}, "Clip: this form is not part of operator set 13"},
		{typedForm{op: "Slice", opset: 13, args: []typedArg{float(3), of(i64, 1), list(1)}}, "Slice: input 1 depends on what the graph is fed"},
		{typedForm{op: "Add", opset: 14, args: []typedArg{float(3), of(i64, 3)}}, "Add: inputs 0 and 1 have types float and int64"},
		{typedForm{op: "Add", opset: 14, args: []typedArg{float(3), float(2)}}, "do not broadcast"},
		{typedForm{op: "Sin", opset: 14, args: []typedArg{of(i64, 3)}}, "Sin: input 0 has type int64, which is lacking"},
		{typedForm{op: "Conv", opset: 13, attrs: attrs{"auto_pad": "SAME_UPPER", "strides": sq(5)}, args: []typedArg{float(1, 1, 10), float(1, 1, 2)}}, "Conv: auto_pad SAME with strides that leave out two places"},
		{typedForm{op: "LpPool", opset: 13, attrs: attrs{"auto_pad": "SAME_LOWER", "kernel_shape": sq(1), "strides": sq(5)}, args: []typedArg{float(1, 1, 5)}}, "LpPool: auto_pad SAME with strides that leave out two places"},
		{typedForm{op: "Pad", opset: 19, attrs: attrs{"mode": "wrap"}, args: []typedArg{float(3), list(-1, 2)}}, "Pad: padding by wrap at one end and cutting at the other is lacking"},
		{typedForm{op: "Pad", opset: 19, attrs: attrs{"mode": "edge"}, args: []typedArg{float(3), list(-3, 2)}}, "Pad: padding by edge of nothing that is left of 3 places"},
		{typedForm{op: "MaxPool", opset: 13, attrs: attrs{"kernel_shape": sq(3), "pads": sq(3, 0)}, args: []typedArg{float(1, 1, 9)}}, "MaxPool: padding as wide as the window is lacking"},
		{typedForm{op: "MaxPool", opset: 13, attrs: attrs{"kernel_shape": sq(1 << 30)}, args: []typedArg{float(1, 1, 9)}}, "is too large"},
		{typedForm{op: "AveragePool", opset: 13, attrs: attrs{"kernel_shape": sq(11)}, args: []typedArg{float(1, 1, 9)}}, "a window of 11 does not fit in 9"},
		{typedForm{op: "Resize", opset: 13, attrs: attrs{"coordinate_transformation_mode": "align_corners"}, args: []typedArg{float(1, 4), {absent: true}, {dtype: f32, shape: sq(2), stored: true, data: []float32{1, .6}}}}, "Resize: align_corners with scale 0.6"},
		{typedForm{op: "Resize", opset: 13, args: []typedArg{float(1, 4), {absent: true}, {dtype: f32, shape: sq(2), stored: true, data: []float32{1, 1e30}}}}, "Resize: scale 1e+30 of 4 places is lacking"},
		{typedForm{op: "Tile", opset: 13, args: []typedArg{float(1, 4), list(1<<29, 1<<29)}}, "Tile: "},
		{typedForm{op: "Range", opset: 11, args: []typedArg{one(i64, sq(0)), one(i64, sq(math.MaxInt64)), one(i64, sq(1))}}, "Range: "},
		{typedForm{op: "OneHot", opset: 11, args: []typedArg{of(i64, 2), one(i64, sq(1<<40)), {dtype: f32, shape: sq(2), data: []float32{0, 1}}}}, "OneHot: depth"},
		{typedForm{op: "Dropout", opset: 13, args: []typedArg{float(2), {absent: true}, one(boolType, []bool{true})}}, "Dropout: training mode is lacking"},
		{typedForm{op: "ConstantOfShape", opset: 9, args: []typedArg{list(1<<20, 1<<20)}}, "ConstantOfShape: shape [1048576 1048576] has more than"},
		{typedForm{op: "Pad", opset: 13, attrs: attrs{"mode": "reflect"}, args: []typedArg{float(3), list(3, 0)}}, "Pad: 3 places of padding by reflect"},
		{typedForm{op: "Split", opset: 13, args: []typedArg{float(3), list(1, 1)}}, "Split: 2 parts for 1 outputs"},
		{typedForm{op: "TopK", opset: 11, args: []typedArg{float(3), list(4)}}, "TopK: the 4 first of 3 are asked for"},
	} {
		t.Run(c.form.op, func(t *testing.T) {
			f := c.form
			f.out = []onnxfile.DType{0}
			r := rand.New(rand.NewPCG(1, 1))
			data := make([]any, len(f.args))
			for k, a := range f.args {
				if !a.absent {
					data[k] = a.draw(r)
				}
			}
			model, feed, outputs := f.model(t, data, false)
			_, err := evaluate(t, Open(Options{}), model, feed, outputs...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// Activations of a network at the size that EfficientNet-B0 has them.
func BenchmarkKernels(b *testing.B) {
	for _, c := range []struct {
		name string
		form typedForm
	}{
		{"SiLU", typedForm{op: "Swish", opset: 24, args: []typedArg{float(8, 96, 56, 56)}}},
		{"squeeze-excite", typedForm{op: "Mul", opset: 14, args: []typedArg{float(8, 96, 56, 56), float(8, 96, 1, 1)}}},
		{"residual", typedForm{op: "Add", opset: 14, args: []typedArg{float(8, 96, 56, 56), float(8, 96, 56, 56)}}},
		{"GlobalAveragePool", typedForm{op: "GlobalAveragePool", opset: 14, args: []typedArg{float(8, 96, 56, 56)}}},
		{"MaxPool", typedForm{op: "MaxPool", opset: 14, attrs: attrs{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}, args: []typedArg{float(8, 96, 56, 56)}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := c.form
			f.out = []onnxfile.DType{onnxfile.Float}
			r := rand.New(rand.NewPCG(1, 1))
			var data []any
			for _, a := range f.args {
				data = append(data, a.draw(r))
			}
			model, feed, outputs := f.model(b, data, false)
			s, err := Open(Options{Threads: 1}).Load(b.Context(), engine.Model{Name: c.name, Bytes: model})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			out := map[string]*engine.Tensor{outputs[0]: nil}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Run(b.Context(), feed, out); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(4 * compute.NewWorkers(1).N() * len(data[0].([]float32))))
		})
	}
}
