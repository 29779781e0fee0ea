package gorgonia

import (
	"errors"
	"fmt"
	"slices"
)

var errRank4 = errors.New("only images (rank 4) are computed")

func bindRelu(b *binder) (kernel, error) { return relu{b.in[0].shape}, nil }

// bindUnary hands a function of single numbers over as a vector, because the
// backend fails on scalars.
func bindUnary(b *binder) (kernel, error) {
	shape := b.in[0].shape
	in := reshaped(b.in[0], []int{size(shape)})
	var attributes map[string]any
	if b.op == "LeakyRelu" {
		in.copied = true
		attributes = map[string]any{"alpha": b.float("alpha", 0.01)}
	}
	return b.adapt(b.op, attributes, []adapted{in}, shape)
}

// bindBinary lowers broadcasting to the forms that the backend gets right: equal
// shapes, matrices, and one number per channel.
func bindBinary(b *binder) (kernel, error) {
	x, y := b.in[0], b.in[1]
	shape, groups, err := broadcast(x.shape, y.shape)
	if err != nil {
		return nil, err
	}
	var left, right []int
	for _, g := range groups {
		left, right = append(left, g.x), append(right, g.y)
	}
	switch {
	case len(groups) == 1 && left[0] == right[0]:
	case len(groups) <= 2:
		for len(left) < 2 {
			left, right = append([]int{1}, left...), append([]int{1}, right...)
		}
	case len(groups) == 3 && right[0] == 1 && right[2] == 1 && left[1] == right[1]:
		left, right = append(left, 1), []int{right[1], 1, 1}
	case len(groups) == 3 && left[0] == 1 && left[2] == 1 && left[1] == right[1]:
		left, right = []int{left[1], 1, 1}, append(right, 1)
	default:
		return nil, fmt.Errorf("shapes %v and %v broadcast in a form that is lacking", x.shape, y.shape)
	}
	if _, err := checkedSize(shape); err != nil {
		return nil, err
	}
	return b.adapt(b.op, nil, []adapted{reshaped(x, left), reshaped(y, right)}, shape)
}

// checkDiv refuses zeros below the line, which the backend divides by to plus
// infinity whatever stands above.
func checkDiv(n *node) error {
	c := n.param(1)
	if c == nil {
		return errors.New("division by a computed tensor is lacking")
	}
	if slices.Contains(c.floats, 0) {
		return errors.New("division by zero is lacking")
	}
	return nil
}

// group is a run of dimensions that broadcast alike.
type group struct{ x, y int }

// broadcast returns the shape that x and y broadcast to and their dimensions
// with neighbours of the same kind multiplied.
func broadcast(x, y []int) (shape []int, groups []group, err error) {
	rank := max(len(x), len(y))
	at := func(s []int, i int) int {
		if i -= rank - len(s); i < 0 {
			return 1
		}
		return s[i]
	}
	kind := func(g group) int {
		switch {
		case g.x == g.y:
			return 0
		case g.x == 1:
			return 1
		}
		return 2
	}
	shape = make([]int, rank)
	for i := range shape {
		d := group{at(x, i), at(y, i)}
		if d.x != d.y && d.x != 1 && d.y != 1 {
			return nil, nil, fmt.Errorf("shapes %v and %v do not broadcast", x, y)
		}
		shape[i] = max(d.x, d.y)
		if d.x == 1 && d.y == 1 {
			continue
		}
		if n := len(groups); n > 0 && kind(groups[n-1]) == kind(d) {
			groups[n-1].x *= d.x
			groups[n-1].y *= d.y
		} else {
			groups = append(groups, d)
		}
	}
	if groups == nil {
		groups = []group{{1, 1}}
	}
	return shape, groups, nil
}

// window is the geometry of a convolution or pooling over height and width.
type window struct {
	kernel, strides, dilations [2]int
	begin, end                 [2]int // padding
}

// window reads the geometry; in is the image's shape.
func (b *binder) window(in []int, kernel []int) (w window, err error) {
	pair := func(name string, missing int) (v [2]int, err error) {
		s, err := b.ints(name, 2, missing)
		if err == nil {
			v = [2]int(s)
		}
		return v, err
	}
	if len(in) != 4 {
		return w, errRank4
	}
	w.kernel = [2]int(kernel)
	if w.strides, err = pair("strides", 1); err != nil {
		return w, err
	}
	if w.dilations, err = pair("dilations", 1); err != nil {
		return w, err
	}
	pads, err := b.ints("pads", 4, 0)
	if err != nil {
		return w, err
	}
	for i := range 2 {
		if w.kernel[i] < 1 || w.strides[i] < 1 || w.dilations[i] < 1 {
			return w, errors.New("kernel, strides and dilations must be positive")
		}
		size := in[2+i]
		extent := (w.kernel[i]-1)*w.dilations[i] + 1
		switch mode := b.text("auto_pad"); mode {
		case "", "NOTSET":
			w.begin[i], w.end[i] = pads[i], pads[2+i]
		case "VALID":
		case "SAME_UPPER", "SAME_LOWER":
			total := max(0, ((size+w.strides[i]-1)/w.strides[i]-1)*w.strides[i]+extent-size)
			w.begin[i] = total / 2
			w.end[i] = total - total/2
			if mode == "SAME_LOWER" {
				w.begin[i], w.end[i] = w.end[i], w.begin[i]
			}
		default:
			return w, fmt.Errorf("auto_pad %q is unknown", mode)
		}
		if size+w.begin[i]+w.end[i] < extent {
			return w, fmt.Errorf("a window of %d does not fit in %d", extent, size+w.begin[i]+w.end[i])
		}
	}
	return w, nil
}

// outputs returns the shape that a window makes of an image.
func (w *window) outputs(in []int, channels int) ([]int, error) {
	shape := []int{in[0], channels, 0, 0}
	for i := range 2 {
		extent := (w.kernel[i]-1)*w.dilations[i] + 1
		shape[2+i] = (in[2+i]+w.begin[i]+w.end[i]-extent)/w.strides[i] + 1
	}
	_, err := checkedSize(shape)
	return shape, err
}

func longs(v ...int) []int64 { return toInt64s(v) }

func checkConv(n *node) error {
	if g := n.integer("group", 1); g != 1 {
		return errors.New("grouped convolution is lacking")
	}
	if p := n.attributes["pads"]; p != nil && len(p.Ints) == 4 && (p.Ints[0] != p.Ints[2] || p.Ints[1] != p.Ints[3]) {
		return errors.New("padding that differs between the sides is lacking")
	}
	if w := n.param(1); w != nil && len(w.shape) != 4 {
		return errRank4
	}
	return nil
}

func bindConv(b *binder) (kernel, error) {
	x, f := b.in[0].shape, b.in[1].shape
	if len(x) != 4 || len(f) != 4 {
		return nil, errRank4
	}
	stated, err := b.ints("kernel_shape", 2, 0)
	if err != nil {
		return nil, err
	}
	if b.attributes["kernel_shape"] != nil && !slices.Equal(stated, f[2:]) {
		return nil, fmt.Errorf("kernel_shape %v does not fit weights of shape %v", stated, f)
	}
	if x[1] != f[1] {
		return nil, fmt.Errorf("weights of shape %v do not fit %d channels", f, x[1])
	}
	if len(b.in) == 3 && !slices.Equal(b.in[2].shape, f[:1]) {
		return nil, fmt.Errorf("a bias of shape %v does not fit %d filters", b.in[2].shape, f[0])
	}
	w, err := b.window(x, f[2:])
	if err != nil {
		return nil, err
	}
	if w.begin != w.end {
		return nil, errors.New("padding that differs between the sides is lacking")
	}
	shape, err := w.outputs(x, f[0])
	if err != nil {
		return nil, err
	}
	columns, err := checkedSize([]int{shape[2], shape[3], f[1], f[2], f[3]})
	if err != nil {
		return nil, err
	}
	// onnx-go reads pads as height, height, width, width.
	attributes := map[string]any{
		"kernel_shape": longs(f[2], f[3]),
		"pads":         longs(w.begin[0], w.begin[0], w.begin[1], w.begin[1]),
		"strides":      longs(w.strides[:]...),
		"dilations":    longs(w.dilations[:]...),
	}
	return b.split(max(1, columnBudget/columns), shape, func() (kernel, error) { return b.call("Conv", attributes) })
}

// columnBudget is how many numbers of a convolution's column matrix are in
// memory at once, 16 MiB, if one sample does not need more.
const columnBudget = 1 << 22

// split makes a kernel that takes its first input in parts of at most n samples.
// one makes the kernel of b with that input replaced.
func (b *binder) split(n int, shape []int, one func() (kernel, error)) (kernel, error) {
	x := b.in[0]
	if x.shape[0] <= n {
		return one()
	}
	k := &parts{samples: n, in: x.shape, shape: shape}
	part := func(n int) (kernel, error) {
		b.in[0] = operand{shape: append([]int{n}, x.shape[1:]...)}
		return one()
	}
	var err error
	if k.part, err = part(n); err != nil {
		return nil, err
	}
	if rest := x.shape[0] % n; rest > 0 {
		k.rest, err = part(rest)
	}
	return k, err
}

func checkMaxPool(n *node) error {
	if p := n.attributes["dilations"]; p != nil && slices.ContainsFunc(p.Ints, func(d int64) bool { return d != 1 }) {
		return errors.New("dilated pooling is lacking")
	}
	if p := n.attributes["kernel_shape"]; p == nil || len(p.Ints) != 2 {
		return errRank4
	}
	return nil
}

// bindMaxPool does not tell minus infinity from the lowest finite number: that
// is what the backend finds in a window with nothing above it.
func bindMaxPool(b *binder) (kernel, error) {
	extent, err := b.ints("kernel_shape", 2, 0)
	if err != nil {
		return nil, err
	}
	x := b.in[0].shape
	w, err := b.window(x, extent)
	if err != nil {
		return nil, err
	}
	for i := range 2 {
		if w.begin[i] >= w.kernel[i] || w.end[i] >= w.kernel[i] {
			return nil, errors.New("padding as wide as the window is lacking")
		}
		if b.integer("ceil_mode", 0) == 0 || b.text("auto_pad") != "" && b.text("auto_pad") != "NOTSET" {
			continue
		}
		// One window more at the end is padding of what it sticks out, unless it
		// would begin in the padding (ONNX, MaxPool, ceil_mode).
		size := x[2+i]
		rest := size + w.begin[i] + w.end[i] - w.kernel[i]
		count := (rest + w.strides[i] - 1) / w.strides[i]
		if count*w.strides[i] >= size+w.begin[i] {
			count--
		}
		w.end[i] += max(0, count*w.strides[i]-rest)
		if w.end[i] >= w.kernel[i]+w.strides[i] {
			return nil, errors.New("this form of ceil_mode is lacking")
		}
	}
	shape, err := w.outputs(x, x[1])
	if err != nil {
		return nil, err
	}
	positions := size(shape[1:])
	if positions > maxPositions {
		return nil, fmt.Errorf("%d positions are more than the %d that are pooled", positions, maxPositions)
	}
	// Gorgonia reads four pads as end and begin of the height, then of the width.
	attributes := map[string]any{
		"kernel_shape": longs(extent...),
		"pads":         longs(w.end[0], w.begin[0], w.end[1], w.begin[1]),
		"strides":      longs(w.strides[:]...),
	}
	return b.split(max(1, positionBudget/positions), shape, func() (kernel, error) { return b.call("MaxPool", attributes) })
}

// Gorgonia keeps eight bytes for each position that a pooling makes, as long as
// the plan lives. positionBudget bounds that where there are several samples, to
// 8 MiB; maxPositions bounds one sample.
const (
	positionBudget = 1 << 20
	maxPositions   = 1 << 24
)

// bindAveragePool lowers the two forms that need no averaging operator of their
// own: windows of one position, and one window over all positions.
func bindAveragePool(b *binder) (kernel, error) {
	lacking := errors.New("average pooling with more than one window is lacking")
	if p := b.attributes["kernel_shape"]; p == nil || len(p.Ints) != 2 {
		return nil, errRank4
	}
	kernel, err := b.ints("kernel_shape", 2, 0)
	if err != nil {
		return nil, err
	}
	x := b.in[0].shape
	w, err := b.window(x, kernel)
	if err != nil {
		return nil, err
	}
	if w.begin != [2]int{} || w.end != [2]int{} {
		return nil, lacking
	}
	if w.kernel == [2]int{1, 1} && w.strides == [2]int{1, 1} {
		return view{x}, nil
	}
	if w.kernel != [2]int(x[2:]) || w.dilations != [2]int{1, 1} {
		return nil, lacking
	}
	return b.call("GlobalAveragePool", nil)
}

func bindGlobalAveragePool(b *binder) (kernel, error) {
	if len(b.in[0].shape) != 4 {
		return nil, errRank4
	}
	return b.call("GlobalAveragePool", nil)
}

// bindGemm gives the backend a full matrix C of its own: it overwrites C, cannot
// do without, and mistakes a column for a row when the product is square.
func bindGemm(b *binder) (kernel, error) {
	x, y := b.in[0].shape, b.in[1].shape
	if len(x) != 2 || len(y) != 2 {
		return nil, errors.New("the factors are no matrices")
	}
	transA, transB := b.integer("transA", 0) != 0, b.integer("transB", 0) != 0
	rows, inner, outer, cols := x[0], x[1], y[0], y[1]
	if transA {
		rows, inner = inner, rows
	}
	if transB {
		outer, cols = cols, outer
	}
	if inner != outer {
		return nil, fmt.Errorf("shapes %v and %v cannot be multiplied", x, y)
	}
	shape := []int{rows, cols}
	if _, err := checkedSize(shape); err != nil {
		return nil, err
	}
	c := adapted{operand: operand{shape: shape}, zero: true}
	if len(b.in) == 3 {
		s := b.in[2].shape
		ok := len(s) <= 2
		for i := range min(len(s), 2) {
			d := s[len(s)-1-i]
			ok = ok && (d == 1 || d == shape[1-i])
		}
		if !ok {
			return nil, fmt.Errorf("an addend of shape %v does not fit %v", s, shape)
		}
		c = adapted{operand: operand{shape: shape}, spread: true}
	}
	as := func(t bool) int64 {
		if t {
			return 1
		}
		return 0
	}
	return b.adapt("Gemm", map[string]any{
		"alpha": b.float("alpha", 1), "beta": b.float("beta", 1), "transA": as(transA), "transB": as(transB),
	}, []adapted{{operand: b.in[0]}, {operand: b.in[1]}, c}, shape)
}

// bindMatMul multiplies by one matrix; leading dimensions of the first factor
// become rows.
func bindMatMul(b *binder) (kernel, error) {
	x, y := b.in[0].shape, b.in[1].shape
	if len(x) < 2 || len(y) != 2 {
		return nil, errors.New("only a product with one matrix on the right is computed")
	}
	n := len(x) - 1
	if x[n] != y[0] {
		return nil, fmt.Errorf("shapes %v and %v cannot be multiplied", x, y)
	}
	shape := append(slices.Clone(x[:n]), y[1])
	if _, err := checkedSize(shape); err != nil {
		return nil, err
	}
	return b.adapt("MatMul", nil, []adapted{reshaped(b.in[0], []int{size(x[:n]), x[n]}), {operand: b.in[1]}}, shape)
}

func checkBatchNorm(n *node) error {
	if n.integer("training_mode", 0) != 0 || n.integer("spatial", 1) != 1 {
		return errors.New("only normalization with stored statistics per channel is computed")
	}
	for i := 1; i < 5; i++ {
		if n.param(i) == nil {
			return errors.New("its parameters are no constants of the graph")
		}
	}
	return nil
}

// bindBatchNorm hands the input over as images, of its own memory, because the
// backend overwrites it when there is one sample.
func bindBatchNorm(b *binder) (kernel, error) {
	shape := b.in[0].shape
	if len(shape) < 2 {
		return nil, errors.New("the input has no channels")
	}
	x := reshaped(b.in[0], []int{shape[0], shape[1], size(shape[2:]), 1})
	x.copied = shape[0] == 1
	in := []adapted{x}
	for _, o := range b.in[1:] {
		if !slices.Equal(o.shape, shape[1:2]) {
			return nil, fmt.Errorf("a parameter of shape %v does not fit %d channels", o.shape, shape[1])
		}
		in = append(in, adapted{operand: o})
	}
	return b.adapt("BatchNormalization", map[string]any{"epsilon": b.float("epsilon", 1e-5)}, in, shape)
}

// bindSoftmax hands a matrix over, the only form that the backend gets right.
func bindSoftmax(b *binder) (kernel, error) {
	shape := b.in[0].shape
	missing := int64(1)
	if b.opset >= 13 {
		missing = -1
	}
	at, err := axis(b.integer("axis", missing), len(shape))
	if err != nil {
		return nil, err
	}
	// Before version 13 everything from the axis on is one distribution.
	if b.opset >= 13 && size(shape[at:]) != shape[at] {
		return nil, errors.New("softmax over another axis than the last is lacking")
	}
	rows := reshaped(b.in[0], []int{size(shape[:at]), size(shape[at:])})
	return b.adapt("Softmax", map[string]any{"axis": int64(1)}, []adapted{rows}, shape)
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
		return view{first}, nil
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
		return view{x}, nil
	}
	return b.adapt("Transpose", map[string]any{"perm": toInt64s(perm)}, []adapted{{operand: b.in[0]}}, shape)
}
