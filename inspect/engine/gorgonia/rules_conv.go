package gorgonia

import (
	"errors"
	"fmt"
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesConv has the operators that are products: convolutions, matrices and
// normalization over channels.
func rulesConv() map[string]rule {
	return map[string]rule{
		"Conv":               {attributes: []string{"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}, least: 2, most: 3, check: checkConv, bind: bindConv},
		"Gemm":               {attributes: []string{"alpha", "beta", "transA", "transB"}, least: 2, most: 3, bind: bindGemm},
		"MatMul":             {least: 2, most: 2, bind: bindMatMul},
		"BatchNormalization": {attributes: []string{"epsilon", "momentum", "spatial", "training_mode"}, least: 5, most: 5, check: checkBatchNorm, bind: bindBatchNorm},
	}
}

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

// parts runs a kernel on one part of the samples after the other.
type parts struct {
	samples    int // in a part
	part, rest kernel
	in, shape  []int
}

func (k *parts) results() []spec { return []spec{{onnxfile.Float, k.shape}} }

func (k *parts) run(r *run, in, out []*value) error {
	args := slices.Clone(in)
	each, made := size(k.in[1:]), size(k.shape[1:])
	for at := 0; at < k.in[0]; at += k.samples {
		n, one := k.samples, k.part
		if left := k.in[0] - at; left < n {
			n, one = left, k.rest
		}
		args[0] = floatValue(in[0].floats()[at*each:(at+n)*each], append([]int{n}, k.in[1:]...)...)
		part := floatValue(out[0].floats()[at*made:(at+n)*made], append([]int{n}, k.shape[1:]...)...)
		if err := one.run(r, args, []*value{part}); err != nil {
			return err
		}
	}
	return nil
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
