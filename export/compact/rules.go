package compact

import (
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect"
)

var nan = math.NaN()

// rule applies the rule of a standard operator. A reason says why there is none
// that fits: then n is a barrier.
func (a *analysis) rule(n *inspect.Node) (reason string, err error) {
	for i, in := range n.Inputs {
		if in != "" && a.kind(in) == data && a.live[in] == nil {
			return fmt.Sprintf("the channels of its input %d are not known", i), nil
		}
	}
	switch n.Op {
	case "Conv":
		return a.conv(n)
	case "ConvTranspose":
		return a.convTranspose(n)
	case "Gemm":
		return a.gemm(n)
	case "MatMul":
		return a.matMul(n)
	case "BatchNormalization":
		return a.batchNorm(n)
	case "InstanceNormalization":
		return a.instanceNorm(n)
	case "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool":
		return a.pool(n), nil
	case "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp":
		return a.reduce(n), nil
	case "Flatten", "Reshape", "Squeeze", "Unsqueeze":
		return a.reshape(n), nil
	case "Transpose":
		return a.transpose(n), nil
	case "Concat":
		return a.concat(n)
	case "Split":
		return a.split(n), nil
	case "Slice":
		return a.slice(n), nil
	case "Pad":
		return a.pad(n), nil
	case "Shape":
		return a.shape(n), nil
	case "Resize", "Upsample":
		return a.resize(n), nil
	case "Dropout":
		return a.dropout(n)
	}
	if fn := a.unary(n); fn != nil {
		return a.elementwise(n, 1, func(x []float64) float64 { return fn(x[0]) })
	}
	if fn := combination(n.Op); fn != nil {
		return a.elementwise(n, len(n.Inputs), fn)
	}
	return "there is no rule for this operator", nil
}

// used tells whether anything reads output i of n.
func (a *analysis) used(n *inspect.Node, i int) bool {
	out := n.Output(i)
	return out != "" && (len(a.readersOf(out)) > 0 || a.g.IsOutput(out))
}

// pass couples the only output with x place by place, its channels on axis.
func (a *analysis) pass(n *inspect.Node, x *track, axis int, fn func(float64) float64) string {
	out := a.sized(n, axis, x.n)
	if out == nil {
		return "the shape of its output is not known or does not fit"
	}
	a.join(x, out)
	a.eval(func(v *values) error {
		from, to := v.of(x), v.of(out)
		for i := range to {
			to[i] = fn(from[i])
		}
		return nil
	})
	return ""
}

func (a *analysis) eval(fn func(v *values) error) { a.evals = append(a.evals, fn) }

func keepValue(x float64) float64 { return x }

// zeroOnly is for operators that map a constant 0 to 0 and others to what is not
// followed.
func zeroOnly(x float64) float64 {
	if x == 0 {
		return 0
	}
	return nan
}

// varies is for operators whose values are not followed.
func varies(float64) float64 { return nan }

func (a *analysis) rank(tensor string) int {
	if s := a.g.Shape(tensor); s.Known {
		return len(s.Dims)
	}
	return -1
}

// spatial returns the channels of the first input of an operator whose channels
// are always on axis 1.
func (a *analysis) spatial(n *inspect.Node) (*track, string) {
	x := a.live[n.Input(0)]
	if x == nil || x.axis != 1 {
		return nil, "the channels of its input are not on axis 1"
	}
	return x, ""
}

func (a *analysis) pool(n *inspect.Node) string {
	x, reason := a.spatial(n)
	if reason != "" {
		return reason
	}
	if a.used(n, 1) {
		return "its indices are used"
	}
	fn := keepValue
	switch n.Op {
	case "LpPool", "GlobalLpPool":
		fn = zeroOnly
	case "MaxPool", "AveragePool":
		padded := anyNot(n.AttrInts("pads"), 0) || n.AttrString("auto_pad", "NOTSET") != "NOTSET"
		// A last window may lie outside altogether, and what runtimes divide by
		// there is not one thing.
		if n.AttrInt("ceil_mode", 0) != 0 || padded && n.Op == "AveragePool" && n.AttrInt("count_include_pad", 0) != 0 {
			fn = zeroOnly
		}
	}
	return a.pass(n, x, 1, fn)
}

func anyNot(list []int64, v int64) bool {
	return slices.ContainsFunc(list, func(x int64) bool { return x != v })
}

func (a *analysis) reduce(n *inspect.Node) string {
	x := a.live[n.Input(0)]
	rank := a.rank(n.Input(0))
	axes := n.AttrInts("axes")
	if n.Input(1) != "" {
		var ok bool
		if axes, ok = a.g.Ints(n.Input(1)); !ok {
			return "its axes are computed"
		}
	}
	if x == nil || len(axes) == 0 {
		return "it reduces over all axes"
	}
	axis := x.axis
	for _, r := range axes {
		if r < 0 {
			r += int64(rank)
		}
		switch {
		case r == int64(x.axis):
			return "it reduces over the channels"
		case r < int64(x.axis) && n.AttrInt("keepdims", 1) == 0:
			axis--
		}
	}
	fn := varies
	switch n.Op {
	case "ReduceMean", "ReduceMax", "ReduceMin":
		fn = keepValue
	case "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare":
		fn = zeroOnly
	}
	return a.pass(n, x, axis, fn)
}

func (a *analysis) transpose(n *inspect.Node) string {
	x := a.live[n.Input(0)]
	perm, ok := permutation(n, a.rank(n.Input(0)))
	if x == nil || !ok {
		return "its permutation does not fit"
	}
	return a.pass(n, x, slices.Index(perm, x.axis), keepValue)
}

func (a *analysis) dropout(n *inspect.Node) (string, error) {
	if a.used(n, 1) {
		return "its mask is used", nil
	}
	if t := n.Input(2); t != "" {
		st, ok := a.g.Stored(t)
		if !ok {
			return "whether it drops anything is computed", nil
		}
		on := false
		if err := st.Tensor.Values(func(b []float64) error { on = on || b[0] != 0; return nil }); err != nil {
			return "", err
		}
		if on {
			return "it is in training mode", nil
		}
	}
	x := a.live[n.Input(0)]
	if x == nil {
		return "its input is constant", nil
	}
	return a.pass(n, x, x.axis, keepValue), nil
}

// resize passes channels when nothing is scaled along them.
func (a *analysis) resize(n *inspect.Node) string {
	x := a.live[n.Input(0)]
	if x == nil {
		return "its input is constant"
	}
	at := 2
	if n.Op == "Upsample" || a.g.Opset("") < 11 {
		at = 1
	}
	if n.Op == "Resize" && n.Input(3) != "" || n.Input(at) == "" || len(n.AttrInts("axes")) > 0 {
		return "it resizes to a size, of which the number of channels is a part; scale factors would do"
	}
	st, ok := a.g.Stored(n.Input(at))
	if !ok || len(st.Through) > 0 {
		return "its scale factors are computed"
	}
	scales, err := st.Tensor.Float32s(64)
	if err != nil || len(scales) != a.rank(n.Input(0)) || scales[x.axis] != 1 {
		return "it scales the channels"
	}
	fn := varies
	if n.AttrString("mode", "nearest") == "nearest" && n.AttrString("coordinate_transformation_mode", "") != "tf_crop_and_resize" {
		fn = keepValue
	}
	return a.pass(n, x, x.axis, fn)
}

// shape passes when what is read of a shape is not the number of channels.
func (a *analysis) shape(n *inspect.Node) string {
	x := a.live[n.Input(0)]
	rank := int64(a.rank(n.Input(0)))
	if x == nil || rank < 0 {
		return "the shape is not known"
	}
	clip := func(v int64) int64 {
		if v < 0 {
			v += rank
		}
		return min(max(v, 0), rank)
	}
	start, end := clip(n.AttrInt("start", 0)), clip(n.AttrInt("end", rank))
	channel := int64(x.axis) - start // its place in the output
	if channel >= 0 && int64(x.axis) < end {
		if a.g.IsOutput(n.Output(0)) {
			return "the number of channels is an output"
		}
		for _, r := range a.readersOf(n.Output(0)) {
			if !a.without(r, n.Output(0), channel, end-start) {
				return "the number of channels is used in arithmetic by node " + quote(r.Label())
			}
		}
	}
	a.kinds[n.Output(0)] = sizes
	return ""
}

// without tells whether n picks numbers of a list other than the one at place.
func (a *analysis) without(n *inspect.Node, list string, place, length int64) bool {
	if !n.Standard() || n.Input(0) != list {
		return false
	}
	norm := func(v int64) int64 {
		if v < 0 {
			v += length
		}
		return v
	}
	switch n.Op {
	case "Gather":
		idx, ok := a.g.Ints(n.Input(1))
		return ok && !slices.ContainsFunc(idx, func(v int64) bool { return norm(v) == place })
	case "Slice":
		starts, ok1 := a.g.Ints(n.Input(1))
		ends, ok2 := a.g.Ints(n.Input(2))
		if !ok1 || !ok2 {
			starts, ends = n.AttrInts("starts"), n.AttrInts("ends")
		}
		if steps, ok := a.g.Ints(n.Input(4)); n.Input(4) != "" && (!ok || anyNot(steps, 1)) {
			return false
		}
		return len(starts) == 1 && len(ends) == 1 && (place < norm(starts[0]) || place >= norm(ends[0]))
	}
	return false
}
