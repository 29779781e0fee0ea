package gorgonia

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesReduce has the operators that make one number of many, or many of many
// along an axis.
func rulesReduce() map[string]rule {
	axisInput := 1 << onnxfile.Int64
	reduce := withHalf(rule{attributes: []string{"axes", "keepdims", "noop_with_empty_axes"}, least: 1, most: 2, types: []typeSet{numberSet | boolSet, typeSet(axisInput)}, empty: true, check: checkReduce, bind: reductions.first})
	arg := withHalf(rule{attributes: []string{"axis", "keepdims", "select_last_index"}, least: 1, most: 1, types: []typeSet{numberSet}, bind: args.first})
	softmax := withHalf(rule{attributes: []string{"axis"}, least: 1, most: 1, types: []typeSet{realSet}, bind: byType{f32: bindSoftmax[float32], f64: bindSoftmax[float64]}.first})
	all := map[string]rule{
		"ArgMax":     arg,
		"ArgMin":     arg,
		"Softmax":    softmax,
		"LogSoftmax": softmax,
		"Hardmax":    softmax,
		"CumSum":     withHalf(rule{attributes: []string{"exclusive", "reverse"}, least: 2, most: 2, types: []typeSet{numberSet, indexSet}, bind: sums.first}),
		"CumProd":    withHalf(rule{attributes: []string{"exclusive", "reverse"}, least: 2, most: 2, types: []typeSet{numberSet, indexSet}, bind: sums.first}),
		"TopK":       withHalf(rule{attributes: []string{"axis", "k", "largest", "sorted"}, least: 1, most: 2, outputs: 2, types: []typeSet{numberSet, 1 << onnxfile.Int64}, check: checkTopK, bind: tops.first}),
	}
	for _, op := range []string{"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"} {
		all[op] = reduce
	}
	maps.Copy(all, rulesNorm())
	return all
}

var (
	reductions = byType{bindReduceReal[float32], bindReduceReal[float64], bindReduceInt[int64], bindReduceInt[int32], bindReduceInt[int16], bindReduceInt[int8], bindReduceInt[uint64], bindReduceInt[uint32], bindReduceInt[uint16], bindReduceInt[uint8]}
	args       = byType{bindArg[float32], bindArg[float64], bindArg[int64], bindArg[int32], bindArg[int16], bindArg[int8], bindArg[uint64], bindArg[uint32], bindArg[uint16], bindArg[uint8]}
	sums       = byType{bindCumSum[float32], bindCumSum[float64], bindCumSum[int64], bindCumSum[int32], nil, nil, bindCumSum[uint64], bindCumSum[uint32], nil, nil}
	tops       = byType{bindTopK[float32], bindTopK[float64], bindTopK[int64], bindTopK[int32], bindTopK[int16], bindTopK[int8], bindTopK[uint64], bindTopK[uint32], bindTopK[uint16], bindTopK[uint8]}
)

// checkReduce knows from which version on the axes are an input.
func checkReduce(n *node) error {
	inputs := int64(18)
	if n.op == "ReduceSum" {
		inputs = 13
	}
	if n.opset < inputs && (len(n.in) > 1 || n.attributes["noop_with_empty_axes"] != nil) || n.opset >= inputs && n.attributes["axes"] != nil {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	return nil
}

// reduced returns which axes are reduced and the shape of the result. none says
// that the input passes unchanged, whatever the function.
func (b *binder) reduced() (over []bool, shape []int, none bool, err error) {
	x := b.in[0].shape
	axes, _, err := b.intsOr("axes", 1)
	if err != nil {
		return nil, nil, false, err
	}
	over = make([]bool, len(x))
	for _, a := range axes {
		at, err := axis(a, len(x))
		if err != nil {
			return nil, nil, false, err
		}
		over[at] = true
	}
	if len(axes) == 0 {
		none = b.integer("noop_with_empty_axes", 0) != 0
		for i := range over {
			over[i] = !none
		}
	}
	keep := b.integer("keepdims", 1) != 0
	shape = []int{}
	for i, d := range x {
		switch {
		case !over[i]:
			shape = append(shape, d)
		case keep:
			shape = append(shape, 1)
		}
	}
	return over, shape, none, nil
}

// folding is a kernel that reduces the first input by f. Numbers that no axis is
// reduced of go through f one by one.
func folding[R, T compute.Number](b *binder, to onnxfile.DType, f func(row []T) R) (kernel, error) {
	over, shape, none, err := b.reduced()
	if err != nil {
		return nil, err
	}
	x := b.in[0].shape
	if none && b.op != "ReduceL1" && b.op != "ReduceL2" && b.op != "ReduceSumSquare" && b.op != "ReduceLogSum" && b.op != "ReduceLogSumExp" {
		return b.reshapedTo(x), nil
	}
	if none {
		return nil, errors.New("noop_with_empty_axes is lacking for it")
	}
	return &each{spec{to, shape}, func(r *run, in []*value, out *value) error {
		compute.Fold(r.workers, f, elements[R](out), elements[T](in[0]), x, over)
		return nil
	}}, nil
}

// bindReduceReal forms sums in float64.
func bindReduceReal[T compute.Float](b *binder) (kernel, error) {
	var f func(row []T) T
	switch b.op {
	case "ReduceSum":
		f = compute.Sum[T]
	case "ReduceMean":
		f = compute.Mean[T]
	case "ReduceLogSum":
		f = func(row []T) T { return T(math.Log(float64(compute.Sum(row)))) }
	default:
		f = reduction[T](b.op)
	}
	return folding(b, b.in[0].dtype, f)
}

func bindReduceInt[T compute.Integer](b *binder) (kernel, error) {
	d := b.in[0].dtype
	if d == boolType && (b.op != "ReduceMax" && b.op != "ReduceMin" || b.opset < 20) {
		return nil, fmt.Errorf("type %s is lacking", d)
	}
	var f func(row []T) T
	switch b.op {
	case "ReduceSum":
		f = compute.SumInt[T]
	case "ReduceMean":
		f = func(row []T) T {
			if len(row) == 0 {
				return 0
			}
			return T(int64(compute.SumInt(row)) / int64(len(row)))
		}
	case "ReduceLogSum":
		return nil, fmt.Errorf("type %s is lacking", d)
	case "ReduceMin", "ReduceMax":
		if f = reduction[T](b.op); d == boolType {
			// Of nothing, the least and the greatest truth value.
			g := f
			f = func(row []T) T { return min(g(row), 1) }
		}
	default:
		f = reduction[T](b.op)
	}
	return folding(b, d, f)
}

// reduction returns the functions that all types have.
func reduction[T compute.Number](op string) func(row []T) T {
	return map[string]func(row []T) T{
		"ReduceMax":       compute.Most[T],
		"ReduceMin":       compute.Least[T],
		"ReduceProd":      compute.Product[T],
		"ReduceL1":        compute.NormL1[T],
		"ReduceL2":        compute.NormL2[T],
		"ReduceLogSumExp": compute.LogSumExp[T],
		"ReduceSumSquare": compute.SumSquare[T],
	}[op]
}

func bindArg[T compute.Number](b *binder) (kernel, error) {
	x := b.in[0].shape
	at, err := axis(b.integer("axis", 0), max(1, len(x)))
	if err != nil {
		return nil, err
	}
	over := make([]bool, len(x))
	shape := slices.Clone(x)
	if len(x) > 0 {
		if over[at], shape[at] = true, 1; b.integer("keepdims", 1) == 0 {
			shape = slices.Delete(shape, at, at+1)
		}
	}
	last := b.integer("select_last_index", 0) != 0
	f := compute.ArgMost[T](last)
	if b.op == "ArgMin" {
		f = compute.ArgLeast[T](last)
	}
	return &each{spec{onnxfile.Int64, shape}, func(r *run, in []*value, out *value) error {
		compute.Fold(r.workers, f, out.ints(), elements[T](in[0]), x, over)
		return nil
	}}, nil
}

// bindSoftmax takes everything from the axis on for one distribution before
// version 13, and the axis alone since.
func bindSoftmax[T compute.Float](b *binder) (kernel, error) {
	x := b.in[0].shape
	missing := int64(1)
	if b.opset >= 13 {
		missing = -1
	}
	at, err := axis(b.integer("axis", missing), max(1, len(x)))
	if err != nil {
		return nil, err
	}
	n, inner := 1, 1
	switch {
	case len(x) == 0:
	case b.opset < 13:
		n = size(x[at:])
	default:
		n, inner = x[at], size(x[at+1:])
	}
	f := map[string]func(dst, row []T){"Softmax": compute.Softmax[T], "LogSoftmax": compute.LogSoftmax[T], "Hardmax": compute.Hardmax[T]}[b.op]
	return &each{spec{b.in[0].dtype, x}, func(r *run, in []*value, out *value) error {
		compute.Along(r.workers, f, typed[T](out), typed[T](in[0]), n, n, inner)
		return nil
	}}, nil
}

func bindCumSum[T compute.Number](b *binder) (kernel, error) {
	x := b.in[0].shape
	axes, err := b.int64s(1)
	if err != nil {
		return nil, err
	}
	if len(axes) != 1 {
		return nil, fmt.Errorf("%d axes are given in place of one", len(axes))
	}
	at, err := axis(axes[0], len(x))
	if err != nil {
		return nil, err
	}
	exclusive, reverse := b.integer("exclusive", 0) != 0, b.integer("reverse", 0) != 0
	f := compute.CumSum[T](exclusive, reverse)
	if b.op == "CumProd" {
		f = compute.CumProd[T](exclusive, reverse)
	}
	return &each{spec{b.in[0].dtype, x}, func(r *run, in []*value, out *value) error {
		compute.Along(r.workers, f, elements[T](out), elements[T](in[0]), x[at], x[at], size(x[at+1:]))
		return nil
	}}, nil
}

func checkTopK(n *node) error {
	if n.opset < 10 && len(n.in) > 1 || n.opset >= 10 && (n.attributes["k"] != nil || len(n.in) < 2) || n.opset < 11 && n.attributes["largest"] != nil {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	return nil
}

func bindTopK[T compute.Number](b *binder) (kernel, error) {
	x := b.in[0].shape
	at, err := axis(b.integer("axis", -1), len(x))
	if err != nil {
		return nil, err
	}
	k := b.integer("k", -1)
	if b.has(1) {
		list, err := b.int64s(1)
		if err != nil {
			return nil, err
		}
		if len(list) != 1 {
			return nil, fmt.Errorf("%d numbers are given for k", len(list))
		}
		k = list[0]
	}
	if k < 0 || k > int64(x[at]) {
		return nil, fmt.Errorf("the %d first of %d are asked for", k, x[at])
	}
	n, m, inner := x[at], int(k), size(x[at+1:])
	shape := slices.Clone(x)
	shape[at] = m
	f := compute.TopK[T](b.integer("largest", 1) == 0)
	return &several{[]spec{{b.in[0].dtype, shape}, {onnxfile.Int64, shape}}, func(r *run, in, out []*value) error {
		var places []int64
		if len(out) > 1 && out[1] != nil {
			places = out[1].ints()
		} else {
			places = make([]int64, size(shape))
		}
		src, dst := elements[T](in[0]), elements[T](out[0])
		compute.Along(r.workers, f, places, src, n, m, inner)
		for i, place := range places {
			// i is (outer, m, inner).
			dst[i] = src[(i/(m*inner)*n+int(place))*inner+i%inner]
		}
		return nil
	}}, nil
}
