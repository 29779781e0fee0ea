package gorgonia

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesElementwise has the functions of single numbers and of two numbers that
// broadcast.
func rulesElementwise() map[string]rule {
	number1 := withHalf(rule{least: 1, most: 1, types: []typeSet{numberSet}, empty: true, bind: numbers1.first})
	number2 := withHalf(rule{least: 2, most: 2, types: []typeSet{numberSet}, empty: true, bind: numbers2.first})
	variadic := withHalf(rule{least: 1, most: 1 << 10, types: []typeSet{numberSet}, empty: true, bind: variadics.first})
	compare := withHalf(rule{least: 2, most: 2, types: []typeSet{numberSet | boolSet}, empty: true, bind: comparisons.first})
	logic := rule{least: 2, most: 2, types: []typeSet{boolSet}, empty: true, bind: bindLogic}
	bitwise := rule{least: 2, most: 2, types: []typeSet{intSet}, empty: true, bind: bitwises.first}
	shift, mod, gelu := bitwise, number2, realRule("approximate")
	shift.attributes = []string{"direction"}
	mod.attributes = []string{"fmod"}
	all := map[string]rule{
		"LeakyRelu":       realRule("alpha"),
		"Elu":             realRule("alpha"),
		"Celu":            realRule("alpha"),
		"Selu":            realRule("alpha", "gamma"),
		"ThresholdedRelu": realRule("alpha"),
		"HardSigmoid":     realRule("alpha", "beta"),
		"Swish":           realRule("alpha"),
		"Gelu":            gelu,
		"Shrink":          realRule("bias", "lambd"),
		"Clip":            withHalf(rule{attributes: []string{"max", "min"}, least: 1, most: 3, types: []typeSet{numberSet}, empty: true, check: checkClip, bind: clips.first}),
		"Min":             variadic,
		"Max":             variadic,
		"Sum":             variadic,
		"Mean":            variadic,
		"Mod":             mod,
		"Where":           {least: 3, most: 3, types: []typeSet{boolSet, anySet}, empty: true, bind: bindWhere},
		"Not":             {least: 1, most: 1, types: []typeSet{boolSet}, empty: true, bind: bindNot},
		"And":             logic,
		"Or":              logic,
		"Xor":             logic,
		"BitwiseAnd":      bitwise,
		"BitwiseOr":       bitwise,
		"BitwiseXor":      bitwise,
		"BitwiseNot":      {least: 1, most: 1, types: []typeSet{intSet}, empty: true, bind: bitwises1.first},
		"BitShift":        shift,
		"IsNaN":           withHalf(rule{least: 1, most: 1, types: []typeSet{realSet}, empty: true, bind: byType{f32: bindTest[float32], f64: bindTest[float64]}.first}),
		"IsInf":           withHalf(rule{attributes: []string{"detect_negative", "detect_positive"}, least: 1, most: 1, types: []typeSet{realSet}, empty: true, bind: byType{f32: bindTest[float32], f64: bindTest[float64]}.first}),
	}
	for _, op := range []string{"Relu", "Abs", "Neg", "Sign"} {
		all[op] = number1
	}
	for _, op := range []string{"Add", "Sub", "Mul", "Div", "Pow", "PRelu"} {
		all[op] = number2
	}
	for _, op := range []string{"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"} {
		all[op] = compare
	}
	for op := range functions() {
		all[op] = realRule()
	}
	for _, op := range []string{"Sigmoid", "Tanh", "Exp", "Erf", "HardSwish"} {
		all[op] = realRule()
	}
	return all
}

// realRule is the rule of a function of one floating-point number.
func realRule(attributes ...string) rule {
	return withHalf(rule{attributes: attributes, least: 1, most: 1, types: []typeSet{realSet}, empty: true, bind: byType{f32: bindReal[float32], f64: bindReal[float64]}.first})
}

// first binds by the type of the first input.
func (t byType) first(b *binder) (kernel, error) { return t.bind(b, 0) }

var (
	numbers1    = byType{bindNumber[float32], bindNumber[float64], bindNumber[int64], bindNumber[int32], bindNumber[int16], bindNumber[int8], bindNumber[uint64], bindNumber[uint32], bindNumber[uint16], bindNumber[uint8]}
	numbers2    = byType{bindBroadcast[float32], bindBroadcast[float64], bindBroadcast[int64], bindBroadcast[int32], bindBroadcast[int16], bindBroadcast[int8], bindBroadcast[uint64], bindBroadcast[uint32], bindBroadcast[uint16], bindBroadcast[uint8]}
	variadics   = byType{bindVariadic[float32], bindVariadic[float64], bindVariadic[int64], bindVariadic[int32], bindVariadic[int16], bindVariadic[int8], bindVariadic[uint64], bindVariadic[uint32], bindVariadic[uint16], bindVariadic[uint8]}
	comparisons = byType{bindCompare[float32], bindCompare[float64], bindCompare[int64], bindCompare[int32], bindCompare[int16], bindCompare[int8], bindCompare[uint64], bindCompare[uint32], bindCompare[uint16], bindCompare[uint8]}
	clips       = byType{bindClip[float32], bindClip[float64], bindClip[int64], bindClip[int32], bindClip[int16], bindClip[int8], bindClip[uint64], bindClip[uint32], bindClip[uint16], bindClip[uint8]}
	bitwises    = byType{i64: bindBitwise[int64], i32: bindBitwise[int32], i16: bindBitwise[int16], i8: bindBitwise[int8], u64: bindBitwise[uint64], u32: bindBitwise[uint32], u16: bindBitwise[uint16], u8: bindBitwise[uint8]}
	bitwises1   = byType{i64: bindBitwiseNot[int64], i32: bindBitwiseNot[int32], i16: bindBitwiseNot[int16], i8: bindBitwiseNot[int8], u64: bindBitwiseNot[uint64], u32: bindBitwiseNot[uint32], u16: bindBitwiseNot[uint16], u8: bindBitwiseNot[uint8]}
)

// mapped is a kernel that computes f of every number of the first input.
func mapped[D, S compute.Number](to onnxfile.DType, b *binder, f func(dst []D, x []S)) kernel {
	return &each{spec{to, b.in[0].shape}, func(r *run, in []*value, out *value) error {
		compute.Map(r.workers, f, elements[D](out), elements[S](in[0]))
		return nil
	}}
}

// functions are those without attributes that are computed by way of float64.
func functions() map[string]func(x float64) float64 {
	return map[string]func(x float64) float64{
		"Acos": math.Acos, "Acosh": math.Acosh, "Asin": math.Asin, "Asinh": math.Asinh, "Atan": math.Atan, "Atanh": math.Atanh,
		"Cos": math.Cos, "Cosh": math.Cosh, "Sin": math.Sin, "Sinh": math.Sinh, "Tan": math.Tan,
		"Ceil": math.Ceil, "Floor": math.Floor, "Round": math.RoundToEven,
		"Log": math.Log, "Sqrt": math.Sqrt, "Reciprocal": func(x float64) float64 { return 1 / x },
		"Softplus": compute.Softplus, "Softsign": compute.Softsign, "Mish": compute.Mish,
	}
}

// gorgonian are the functions of float32 that stay on onnx-go's backend, which
// gets them right (TestBackend).
func gorgonian(op string) bool {
	return slices.Contains([]string{"Ceil", "Cos", "Floor", "Log", "Sin", "Softplus", "Sqrt"}, op)
}

// bindReal computes a function of floating-point numbers.
func bindReal[T compute.Float](b *binder) (kernel, error) {
	x := b.in[0]
	if x.dtype == onnxfile.Float && gorgonian(b.op) && size(x.shape) > 0 {
		// As a vector, because the backend fails on scalars.
		return b.adapt(b.op, nil, []adapted{reshaped(x, []int{size(x.shape)})}, x.shape)
	}
	number := func(name string, missing float32) T { return T(b.float(name, missing)) }
	double := func(name string, missing float32) float64 { return float64(b.float(name, missing)) }
	var f func(dst, x []T)
	switch b.op {
	case "SiLU": // of the fusion
		f = compute.SiLU[T]
	case "Sigmoid":
		f = compute.Sigmoid[T]
	case "Tanh":
		f = compute.Tanh[T]
	case "Exp":
		f = compute.Exp[T]
	case "Erf":
		f = compute.Erf[T]
	case "HardSwish":
		f = compute.HardSwish[T]
	case "LeakyRelu":
		f = compute.LeakyRelu(number("alpha", .01))
	case "Elu":
		f = compute.Elu[T](double("alpha", 1), 1, 1)
	case "Celu":
		if double("alpha", 1) == 0 {
			return nil, errors.New("alpha 0 is lacking")
		}
		f = compute.Elu[T](double("alpha", 1), 1, double("alpha", 1))
	case "Selu":
		f = compute.Elu[T](double("alpha", 1.67326319217681884765625), double("gamma", 1.05070102214813232421875), 1)
	case "ThresholdedRelu":
		f = compute.ThresholdedRelu(number("alpha", 1))
	case "HardSigmoid":
		f = compute.HardSigmoid(number("alpha", .2), number("beta", .5))
	case "Swish":
		alpha := number("alpha", 1)
		if f = compute.SiLU[T]; alpha != 1 {
			f = func(dst, x []T) {
				for i, v := range x {
					dst[i] = alpha * v
				}
				compute.Sigmoid(dst, dst)
				for i, v := range x {
					dst[i] *= v
				}
			}
		}
	case "Gelu":
		switch mode := b.text("approximate"); mode {
		case "", "none":
			f = compute.Gelu[T]
		case "tanh":
			f = compute.GeluTanh[T]
		default:
			return nil, fmt.Errorf("approximate %q is lacking", mode)
		}
	case "Shrink":
		bias, bound := number("bias", 0), number("lambd", .5)
		f = compute.Each(func(x T) T {
			switch {
			case x < -bound:
				return x + bias
			case x > bound:
				return x - bias
			}
			return 0
		})
	default:
		f = compute.Real[T](functions()[b.op])
	}
	return mapped(x.dtype, b, f), nil
}

// bindNumber computes a function of numbers of any type.
func bindNumber[T compute.Number](b *binder) (kernel, error) {
	f := map[string]func(dst, x []T){"Relu": compute.Relu[T], "Abs": compute.Abs[T], "Neg": compute.Neg[T], "Sign": compute.Sign[T]}[b.op]
	if d := b.in[0].dtype; b.op == "Relu" && b.opset < 14 && !(floatSet | doubleSet).has(d) {
		return nil, fmt.Errorf("type %s is not part of operator set %d", d, b.opset)
	}
	return mapped(b.in[0].dtype, b, f), nil
}

func checkClip(n *node) error {
	if n.opset >= 11 && len(n.attributes) > 0 || n.opset < 11 && len(n.in) > 1 {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	return nil
}

// bindClip has its bounds as attributes before version 11 and as inputs since.
func bindClip[T compute.Number](b *binder) (kernel, error) {
	if err := b.sameTypes(0); err != nil {
		return nil, err
	}
	for i := 1; i < len(b.in); i++ {
		if b.has(i) && size(b.in[i].shape) != 1 {
			return nil, fmt.Errorf("input %d has shape %v in place of one number", i, b.in[i].shape)
		}
	}
	least, most := extremes[T]()
	if p := b.attributes["min"]; p != nil {
		least = T(p.GetF())
	}
	if p := b.attributes["max"]; p != nil {
		most = T(p.GetF())
	}
	x := b.in[0]
	return &each{spec{x.dtype, x.shape}, func(r *run, in []*value, out *value) error {
		least, most := least, most
		if len(in) > 1 && in[1] != nil {
			least = elements[T](in[1])[0]
		}
		if len(in) > 2 && in[2] != nil {
			most = elements[T](in[2])[0]
		}
		compute.Map(r.workers, compute.Clip(least, most), elements[T](out), elements[T](in[0]))
		return nil
	}}, nil
}

// extremes returns bounds that bound nothing.
func extremes[T compute.Number]() (least, most T) {
	switch l := any(&least).(type) {
	case *float32:
		*l = float32(math.Inf(-1))
		return least, -least
	case *float64:
		*l = math.Inf(-1)
		return least, -least
	case *int64:
		*l = math.MinInt64
	case *int32:
		*l = math.MinInt32
	case *int16:
		*l = math.MinInt16
	case *int8:
		*l = math.MinInt8
	}
	// For integers, the number before the least is the greatest.
	return least, least - 1
}

// broadcastShape is compute.BroadcastShape of the inputs.
func (b *binder) broadcastShape() ([]int, error) {
	shapes := make([][]int, len(b.in))
	for i, o := range b.in {
		shapes[i] = o.shape
	}
	return compute.BroadcastShape(shapes...)
}

// broadcasting is a kernel that computes op of the two inputs.
func broadcasting[R, T compute.Number](b *binder, to onnxfile.DType, op compute.Binary[T, R]) (kernel, error) {
	shape, err := b.broadcastShape()
	if err != nil {
		return nil, err
	}
	if err := b.sameTypes(0); err != nil {
		return nil, err
	}
	x, y := b.in[0].shape, b.in[1].shape
	return &each{spec{to, shape}, func(r *run, in []*value, out *value) error {
		compute.Broadcast(r.workers, op, elements[R](out), shape, elements[T](in[0]), x, elements[T](in[1]), y)
		return nil
	}}, nil
}

// bindBroadcast computes a function of two numbers of one type.
func bindBroadcast[T compute.Number](b *binder) (kernel, error) {
	var op compute.Binary[T, T]
	switch b.op {
	case "Add":
		op = compute.Add[T]()
	case "Sub":
		op = compute.Sub[T]()
	case "Mul":
		op = compute.Mul[T]()
	case "Div":
		if op = compute.Div[T](); !realSet.has(b.in[0].dtype) {
			return divides(b, op)
		}
	case "Mod":
		return bindMod[T](b)
	case "Pow":
		if b.in[0].dtype != b.in[1].dtype {
			return bindMixedPow[T](b)
		}
		op = compute.Pow[T]()
	case "PRelu":
		op = compute.PRelu[T]()
		if shape, err := b.broadcastShape(); err == nil && !slices.Equal(shape, b.in[0].shape) {
			return nil, fmt.Errorf("a slope of shape %v does not fit %v", b.in[1].shape, b.in[0].shape)
		}
	}
	return broadcasting(b, b.in[0].dtype, op)
}

// divides is broadcasting for functions of integers that have no result for a
// second number of 0.
func divides[T compute.Number](b *binder, op compute.Binary[T, T]) (kernel, error) {
	k, err := broadcasting(b, b.in[0].dtype, op)
	if err != nil {
		return nil, err
	}
	return &each{k.results()[0], func(r *run, in []*value, out *value) error {
		if slices.Contains(elements[T](in[1]), 0) {
			return errors.New("an integer is divided by 0")
		}
		return k.run(r, in, []*value{out})
	}}, nil
}

func bindMod[T compute.Number](b *binder) (kernel, error) {
	truncated := b.integer("fmod", 0) != 0
	if realSet.has(b.in[0].dtype) {
		if !truncated && b.opset < 28 {
			return nil, fmt.Errorf("the remainder of floats without fmod is not part of operator set %d", b.opset)
		}
		return broadcasting(b, b.in[0].dtype, compute.BinaryOf(func(x, y T) T {
			r := math.Mod(float64(x), float64(y))
			switch {
			case truncated:
			case r == 0:
				r = math.Copysign(0, float64(y))
			case (r < 0) != (y < 0):
				r += float64(y)
			}
			return T(r)
		}))
	}
	return divides(b, compute.BinaryOf(func(x, y T) T {
		r := x - x/y*y
		if !truncated && r != 0 && (r < 0) != (y < 0) {
			r += y
		}
		return r
	}))
}

// bindMixedPow computes a power whose exponent has another type than its base,
// in float64.
func bindMixedPow[T compute.Number](b *binder) (kernel, error) {
	shape, err := b.broadcastShape()
	if err != nil {
		return nil, err
	}
	x, y := b.in[0], b.in[1]
	return &each{spec{x.dtype, shape}, func(r *run, in []*value, out *value) error {
		base, exponent, power := make([]float64, size(x.shape)), make([]float64, size(y.shape)), make([]float64, size(shape))
		compute.Convert(base, elements[T](in[0]))
		if err := convert(&value{onnxfile.Double, y.shape, exponent}, in[1]); err != nil {
			return err
		}
		compute.Broadcast(r.workers, compute.Pow[float64](), power, shape, base, x.shape, exponent, y.shape)
		compute.Convert(elements[T](out), power)
		return nil
	}}, nil
}

// bindVariadic computes functions of any number of tensors, from the first one on.
func bindVariadic[T compute.Number](b *binder) (kernel, error) {
	for i := range b.in {
		if !b.has(i) {
			return nil, fmt.Errorf("input %d is left out", i)
		}
	}
	shape, err := b.broadcastShape()
	if err != nil {
		return nil, err
	}
	if err := b.sameTypes(0); err != nil {
		return nil, err
	}
	var op compute.Binary[T, T]
	switch b.op {
	case "Min":
		op = compute.Min[T]()
	case "Max":
		op = compute.Max[T]()
	default:
		op = compute.Add[T]()
	}
	to := b.in[0].dtype
	if (b.op == "Sum" || b.op == "Mean") && !realSet.has(to) {
		return nil, fmt.Errorf("type %s is lacking", to)
	}
	in := b.in
	return &each{spec{to, shape}, func(r *run, args []*value, out *value) error {
		y := elements[T](out)
		compute.Expand(r.workers, y, shape, elements[T](args[0]), in[0].shape)
		for i, v := range args[1:] {
			compute.Broadcast(r.workers, op, y, shape, y, shape, elements[T](v), in[1+i].shape)
		}
		if b.op == "Mean" {
			n := T(len(args))
			compute.Map(r.workers, compute.Each(func(x T) T { return x / n }), y, y)
		}
		return nil
	}}, nil
}

func bindCompare[T compute.Number](b *binder) (kernel, error) {
	d := b.in[0].dtype
	if d == boolType && b.op != "Equal" {
		return nil, fmt.Errorf("type %s is lacking", d)
	}
	holds := func(f func(x, y T) bool) (kernel, error) {
		return broadcasting(b, boolType, compute.BinaryOf(func(x, y T) uint8 {
			if f(x, y) {
				return 1
			}
			return 0
		}))
	}
	switch b.op {
	case "Equal":
		return holds(func(x, y T) bool { return x == y })
	case "Greater":
		return holds(func(x, y T) bool { return x > y })
	case "GreaterOrEqual":
		return holds(func(x, y T) bool { return x >= y })
	case "Less":
		return holds(func(x, y T) bool { return x < y })
	}
	return holds(func(x, y T) bool { return x <= y })
}

// bindLogic computes with booleans as bytes of 0 or 1.
func bindLogic(b *binder) (kernel, error) {
	return broadcasting(b, boolType, compute.BinaryOf(map[string]func(x, y uint8) uint8{
		"And": func(x, y uint8) uint8 { return x & y },
		"Or":  func(x, y uint8) uint8 { return x | y },
		"Xor": func(x, y uint8) uint8 { return x ^ y },
	}[b.op]))
}

func bindNot(b *binder) (kernel, error) {
	return mapped(boolType, b, compute.Each(func(x uint8) uint8 { return x ^ 1 })), nil
}

func bindBitwise[T compute.Integer](b *binder) (kernel, error) {
	var f func(x, y T) T
	switch b.op {
	case "BitwiseAnd":
		f = func(x, y T) T { return x & y }
	case "BitwiseOr":
		f = func(x, y T) T { return x | y }
	case "BitwiseXor":
		f = func(x, y T) T { return x ^ y }
	default:
		var zero T
		if signed := zero-1 < zero; signed && b.opset < 28 {
			return nil, fmt.Errorf("type %s is not part of operator set %d", b.in[0].dtype, b.opset)
		}
		// Go shifts by a negative number not at all; it is as one that shifts
		// everything out.
		by := func(y T) uint64 {
			if y < 0 {
				return 64
			}
			return uint64(y)
		}
		switch way := b.text("direction"); way {
		case "LEFT":
			f = func(x, y T) T { return x << by(y) }
		case "RIGHT":
			f = func(x, y T) T { return x >> by(y) }
		default:
			return nil, fmt.Errorf("direction %q is unknown", way)
		}
	}
	return broadcasting(b, b.in[0].dtype, compute.BinaryOf(f))
}

func bindBitwiseNot[T compute.Integer](b *binder) (kernel, error) {
	return mapped(b.in[0].dtype, b, compute.Each(func(x T) T { return ^x })), nil
}

// bindTest tells which numbers are NaN or infinite.
func bindTest[T compute.Float](b *binder) (kernel, error) {
	below, above := b.integer("detect_negative", 1) != 0, b.integer("detect_positive", 1) != 0
	test := func(x T) bool { return x != x }
	if b.op == "IsInf" {
		test = func(x T) bool { return above && math.IsInf(float64(x), 1) || below && math.IsInf(float64(x), -1) }
	}
	return mapped(boolType, b, compute.Each(func(x T) uint8 {
		if test(x) {
			return 1
		}
		return 0
	})), nil
}

func bindWhere(b *binder) (kernel, error) {
	shape, err := b.broadcastShape()
	if err != nil {
		return nil, err
	}
	if err := b.sameTypes(1); err != nil {
		return nil, err
	}
	s := spec{b.in[1].dtype, shape}
	return moved(s, chosen[uint8](b.in, shape), chosen[uint16](b.in, shape), chosen[uint32](b.in, shape), chosen[uint64](b.in, shape)), nil
}

func chosen[T bits](o []operand, shape []int) func(r *run, in []*value, out *value) error {
	return func(r *run, in []*value, out *value) error {
		compute.Select(r.workers, asBits[T](out), shape, in[0].bools(), o[0].shape, asBits[T](in[1]), o[1].shape, asBits[T](in[2]), o[2].shape)
		return nil
	}
}
