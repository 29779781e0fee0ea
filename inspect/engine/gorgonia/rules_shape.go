package gorgonia

import (
	"errors"
	"fmt"
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesShape has the operators that describe or change shapes, and those that move
// numbers about.
func rulesShape() map[string]rule {
	withAxes := []typeSet{anySet, 1 << onnxfile.Int64}
	return map[string]rule{
		"Shape":     {attributes: []string{"end", "start"}, least: 1, most: 1, types: []typeSet{anySet}, empty: true, bind: bindShape},
		"Flatten":   {attributes: []string{"axis"}, least: 1, most: 1, types: []typeSet{anySet}, empty: true, bind: bindFlatten},
		"Reshape":   {attributes: []string{"allowzero"}, least: 2, most: 2, types: withAxes, empty: true, bind: bindReshape},
		"Squeeze":   {attributes: []string{"axes"}, least: 1, most: 2, types: withAxes, empty: true, check: checkAxes, bind: bindSqueeze},
		"Unsqueeze": {attributes: []string{"axes"}, least: 1, most: 2, types: withAxes, empty: true, check: checkAxes, bind: bindUnsqueeze},
		"Concat":    {attributes: []string{"axis"}, least: 1, most: 1 << 10, bind: bindConcat},
		"Transpose": {attributes: []string{"perm"}, least: 1, most: 1, bind: bindTranspose},
	}
}

// bindShape knows the dimensions when the shape is planned, whatever the tensor
// holds.
func bindShape(b *binder) (kernel, error) {
	shape := b.in[0].shape
	clamp := func(a int64) int {
		if a < 0 {
			a += int64(len(shape))
		}
		return int(max(0, min(a, int64(len(shape)))))
	}
	from, to := clamp(b.integer("start", 0)), clamp(b.integer("end", int64(len(shape))))
	dims := toInt64s(shape[from:max(from, to)])
	return fixed{intValue(dims, len(dims))}, nil
}

// reshapedTo is a kernel that gives the first input another shape.
func (b *binder) reshapedTo(shape []int) kernel { return view{spec{b.in[0].dtype, shape}} }

func bindFlatten(b *binder) (kernel, error) {
	shape := b.in[0].shape
	at := b.integer("axis", 1)
	if at < 0 {
		at += int64(len(shape))
	}
	if at < 0 || at > int64(len(shape)) {
		return nil, fmt.Errorf("axis %d is out of range for rank %d", at, len(shape))
	}
	return b.reshapedTo([]int{size(shape[:at]), size(shape[at:])}), nil
}

func bindReshape(b *binder) (kernel, error) {
	target, err := b.int64s(1)
	if err != nil {
		return nil, err
	}
	x := b.in[0].shape
	literal := b.integer("allowzero", 0) != 0
	shape := make([]int64, len(target))
	open := -1
	for i, d := range target {
		switch {
		case d == 0 && !literal && i < len(x):
			shape[i] = int64(x[i])
		case d == -1 && open < 0:
			open, shape[i] = i, 1
		case d > 0 || d == 0 && literal:
			shape[i] = d
		default:
			return nil, fmt.Errorf("shape %v does not fit %v", target, x)
		}
	}
	n, err := checkedSize(shape)
	if err != nil {
		return nil, err
	}
	if open >= 0 && n > 0 {
		shape[open] = int64(size(x) / n)
		n *= size(x) / n
	}
	if n != size(x) || open >= 0 && n == 0 {
		return nil, fmt.Errorf("shape %v does not fit %v", target, x)
	}
	return b.reshapedTo(toInts(shape)), nil
}

// axes returns the axes of Squeeze and Unsqueeze, an attribute before version 13
// and an input since, counted from the start and sorted. rank is that of the
// result for n axes. Not given says that the node has none.
func (b *binder) axes(rank func(n int) int) (axes []int, given bool, err error) {
	list, given, err := b.intsOr("axes", 1)
	if err != nil {
		return nil, given, err
	}
	for _, a := range list {
		at, err := axis(a, rank(len(list)))
		if err != nil {
			return nil, given, err
		}
		axes = append(axes, at)
	}
	slices.Sort(axes)
	if len(slices.Compact(slices.Clone(axes))) < len(list) {
		return nil, given, fmt.Errorf("axes %v are not unique", list)
	}
	return axes, given, nil
}

func checkAxes(n *node) error {
	if n.opset >= 13 && n.attributes["axes"] != nil || n.opset < 13 && len(n.in) > 1 {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	if n.op == "Unsqueeze" && n.attributes["axes"] == nil && (len(n.in) < 2 || n.in[1] < 0) {
		return errors.New("it has no axes")
	}
	return nil
}

func bindSqueeze(b *binder) (kernel, error) {
	x := b.in[0].shape
	axes, given, err := b.axes(func(int) int { return len(x) })
	if err != nil {
		return nil, err
	}
	shape := []int{}
	for i, d := range x {
		switch chosen := slices.Contains(axes, i); {
		case chosen && d != 1:
			return nil, fmt.Errorf("axis %d of shape %v is not 1", i, x)
		case !chosen && (given || d != 1):
			shape = append(shape, d)
		}
	}
	return b.reshapedTo(shape), nil
}

func bindUnsqueeze(b *binder) (kernel, error) {
	x := b.in[0].shape
	axes, _, err := b.axes(func(n int) int { return len(x) + n })
	if err != nil {
		return nil, err
	}
	shape := slices.Clone(x)
	for _, at := range axes {
		shape = slices.Insert(shape, at, 1)
	}
	return b.reshapedTo(shape), nil
}

func bindConcat(b *binder) (kernel, error) {
	first := b.in[0].shape
	if b.attributes["axis"] == nil {
		return nil, errors.New("it has no axis")
	}
	at, err := axis(b.integer("axis", 0), len(first))
	if err != nil {
		return nil, err
	}
	for _, o := range b.in[1:] {
		if len(o.shape) != len(first) || !slices.Equal(o.shape[:at], first[:at]) || !slices.Equal(o.shape[at+1:], first[at+1:]) {
			return nil, fmt.Errorf("shapes %v and %v cannot be joined at axis %d", first, o.shape, at)
		}
	}
	if len(b.in) == 1 {
		return b.reshapedTo(first), nil
	}
	// Outer dimensions become rows, so that any rank is that of matrices.
	rows := size(first[:at])
	in := make([]adapted, len(b.in))
	shape := slices.Clone(first)
	shape[at] = 0
	for i, o := range b.in {
		in[i] = reshaped(o, []int{rows, size(o.shape[at:])})
		shape[at] += o.shape[at]
	}
	return b.adapt("Concat", map[string]any{"axis": int64(1)}, in, shape)
}

func bindTranspose(b *binder) (kernel, error) {
	x := b.in[0].shape
	perm := make([]int, len(x))
	for i := range perm {
		perm[i] = len(x) - 1 - i
	}
	if p := b.attributes["perm"]; p != nil {
		var err error
		if perm, err = b.ints("perm", len(x), 0); err != nil {
			return nil, err
		}
	}
	shape := make([]int, len(x))
	seen := make([]bool, len(x))
	for i, p := range perm {
		if p >= len(x) || seen[p] {
			return nil, fmt.Errorf("perm %v is no permutation", perm)
		}
		seen[p] = true
		shape[i] = x[p]
	}
	if slices.IsSorted(perm) {
		return b.reshapedTo(x), nil
	}
	return b.adapt("Transpose", map[string]any{"perm": toInt64s(perm)}, []adapted{{operand: b.in[0]}}, shape)
}
