package gradient

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// backward adds a model's nodes to a graph and, behind them, the nodes that compute
// gradients.
type backward struct {
	*builder
	file  string
	graph *inspect.Graph
	// active holds the tensors that depend on a parameter.
	active map[string]bool
	// grads holds what was found of each tensor's gradient so far.
	grads map[string][]string
	convs map[*inspect.Node]*conv
}

func (b *backward) refuse(n *inspect.Node, reason string) error {
	return &UnsupportedError{File: b.file, Node: n.Label(), Op: n.Op, Reason: reason}
}

// copy adds a node of the model as it stands.
func (b *backward) copy(n *inspect.Node) {
	b.g.Node = append(b.g.Node, proto.Clone(n.Proto).(*onnxpb.NodeProto))
}

// give adds to the gradient of a tensor.
func (b *backward) give(tensor, grad string) {
	if b.active[tensor] {
		b.grads[tensor] = append(b.grads[tensor], grad)
	}
}

// gradient returns the gradient of a tensor, "" when nothing reads it.
func (b *backward) gradient(tensor string) string {
	parts := b.grads[tensor]
	if len(parts) == 0 {
		return ""
	}
	sum := b.total(parts)
	b.grads[tensor] = []string{sum}
	return sum
}

// constantInts returns integers that are an attribute or, in later operator sets,
// an input.
func (b *backward) constantInts(n *inspect.Node, attr string, input int) ([]int64, bool) {
	if v := n.AttrInts(attr); v != nil {
		return v, true
	}
	if n.Input(input) == "" {
		return nil, true
	}
	return b.graph.Ints(n.Input(input))
}

// axes returns the axes of a node, all from 0 on, ascending; all of x where there
// are none.
func (b *backward) axes(n *inspect.Node, rank int) ([]int64, bool) {
	v, ok := b.constantInts(n, "axes", 1)
	if !ok {
		return nil, false
	}
	var axes []int64
	for _, a := range v {
		if a < 0 {
			a += int64(rank)
		}
		if a < 0 || a >= int64(rank) {
			return nil, false
		}
		axes = append(axes, a)
	}
	if len(axes) == 0 {
		for i := range rank {
			axes = append(axes, int64(i))
		}
	}
	slices.Sort(axes)
	return axes, true
}

// differentiate adds the gradients of a node's inputs, given those of its outputs;
// "" stands for an output that nothing depends on.
func (b *backward) differentiate(n *inspect.Node, dys []string) error {
	for i, dy := range dys {
		if i > 0 && dy != "" && n.Op != "Split" {
			return b.refuse(n, "only its first output may be used")
		}
	}
	if !n.Standard() {
		return b.refuse(n, "operators of the domain "+n.Domain+" have no gradient rule")
	}
	if n.Op == "Split" {
		return b.split(n, dys)
	}
	x, y, dy := n.Input(0), n.Output(0), dys[0]
	switch n.Op {
	case "Conv":
		b.convBackward(b.convs[n], dy)
	case "Gemm":
		b.gemmBackward(n, dy)
	case "MatMul":
		return b.matmulBackward(n, dy)
	case "BatchNormalization":
		return b.batchNormBackward(n, dy)
	case "Relu":
		b.give(x, b.mul(dy, b.is("Greater", y, b.scalar(0))))
	case "LeakyRelu":
		slope := float64(n.AttrFloat("alpha", 0.01))
		b.give(x, b.mul(dy, b.slopes(b.is("Greater", x, b.scalar(0)), b.scalar(slope))))
	case "PRelu":
		b.preluBackward(n, dy)
	case "Sigmoid":
		b.give(x, b.mul(dy, b.mul(y, b.sub(b.scalar(1), y))))
	case "Tanh":
		b.give(x, b.mul(dy, b.sub(b.scalar(1), b.mul(y, y))))
	case "HardSigmoid":
		b.give(x, b.mul(b.mul(dy, b.scalar(float64(n.AttrFloat("alpha", 0.2)))), b.between(y, 0, 1)))
	case "HardSwish":
		// x/3 + 1/2 between -3 and 3, 1 above.
		slope := b.mul(b.add(b.mul(x, b.scalar(1.0/3)), b.scalar(0.5)), b.between(x, -3, 3))
		b.give(x, b.mul(dy, b.add(slope, b.is("Greater", x, b.scalar(3)))))
	case "Clip":
		return b.clipBackward(n, dy)
	case "Softmax", "LogSoftmax":
		return b.softmaxBackward(n, dy)
	case "MaxPool":
		return b.maxPoolBackward(n, dy)
	case "AveragePool":
		return b.averagePoolBackward(n, dy)
	case "GlobalAveragePool", "GlobalMaxPool":
		return b.globalPoolBackward(n, dy)
	case "ReduceMean", "ReduceSum":
		return b.reduceBackward(n, dy)
	case "Add", "Sum":
		for _, in := range n.Inputs {
			if b.active[in] {
				b.give(in, b.reduceTo(dy, b.shape[in]))
			}
		}
	case "Sub":
		if b.active[x] {
			b.give(x, b.reduceTo(dy, b.shape[x]))
		}
		if other := n.Input(1); b.active[other] {
			b.give(other, b.unary("Neg", b.reduceTo(dy, b.shape[other])))
		}
	case "Neg":
		b.give(x, b.unary("Neg", dy))
	case "Mul":
		b.mulBackward(n, dy)
	case "Div":
		if b.active[x] {
			b.give(x, b.reduceTo(b.div(dy, n.Input(1)), b.shape[x]))
		}
		if d := n.Input(1); b.active[d] {
			b.give(d, b.unary("Neg", b.reduceTo(b.div(b.mul(dy, y), d), b.shape[d])))
		}
	case "Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze":
		b.give(x, b.reshape(dy, b.shape[x]...))
	case "Dropout":
		if mode := n.Input(2); mode != "" {
			if s, ok := b.graph.Stored(mode); !ok || !zero(s) {
				return b.refuse(n, "it drops values at random; export the model for inference")
			}
		}
		b.give(x, dy)
	case "Cast":
		if n.AttrInt("to", 0) != int64(onnxfile.Float) || b.graph.DType(x) != onnxfile.Float {
			return b.refuse(n, "only models that compute in float32 throughout can be trained")
		}
		b.give(x, dy)
	case "Transpose":
		b.transposeBackward(n, dy)
	case "Concat":
		b.concatBackward(n, dy)
	case "Slice":
		return b.sliceBackward(n, dy)
	case "Pad":
		return b.padBackward(n, dy)
	case "Expand":
		b.give(x, b.reduceTo(dy, b.shape[x]))
	default:
		return b.refuse(n, "the operator has no gradient rule")
	}
	return nil
}

// zero tells whether all numbers of a stored tensor are zero.
func zero(s inspect.Stored) bool {
	all := true
	err := s.Tensor.Values(func(block []float64) error {
		for _, v := range block {
			all = all && v == 0
		}
		return nil
	})
	return err == nil && all
}

// between is 1 where low < x < high, else 0.
func (b *builder) between(x string, low, high float64) string {
	return b.mul(b.is("Greater", x, b.scalar(low)), b.is("Less", x, b.scalar(high)))
}

// slopes is 1 where positive is 1, else slope.
func (b *builder) slopes(positive, slope string) string {
	rest := b.sub(b.scalar(1), positive)
	return b.add(positive, b.mul(rest, slope))
}

func (b *backward) preluBackward(n *inspect.Node, dy string) {
	x, slope := n.Input(0), n.Input(1)
	positive := b.is("Greater", x, b.scalar(0))
	// The slope broadcasts to x from the right, as in numpy.
	if b.active[x] {
		b.give(x, b.mul(dy, b.slopes(positive, slope)))
	}
	if b.active[slope] {
		negative := b.mul(x, b.sub(b.scalar(1), positive))
		b.give(slope, b.reduceTo(b.mul(dy, negative), b.shape[slope]))
	}
}

func (b *backward) clipBackward(n *inspect.Node, dy string) error {
	x := n.Input(0)
	bound := func(name string, input int) (string, error) {
		if a := n.Attr(name); a != nil {
			return b.scalar(float64(a.GetF())), nil
		}
		t := n.Input(input)
		if b.active[t] {
			return "", b.refuse(n, "its bounds depend on trained weights")
		}
		return t, nil
	}
	low, err := bound("min", 1)
	if err != nil {
		return err
	}
	high, err := bound("max", 2)
	if err != nil {
		return err
	}
	if low != "" {
		dy = b.mul(dy, b.is("Greater", x, low))
	}
	if high != "" {
		dy = b.mul(dy, b.is("Less", x, high))
	}
	b.give(x, dy)
	return nil
}

// lastAxis tells whether a softmax runs over the last axis of x alone.
func lastAxis(n *inspect.Node, shape []int64, opset int64) bool {
	rank := int64(len(shape))
	def := int64(-1)
	if opset < 13 {
		def = 1 // and all axes behind it
	}
	axis := n.AttrInt("axis", def)
	if axis < 0 {
		axis += rank
	}
	return axis == rank-1
}

func (b *backward) softmaxBackward(n *inspect.Node, dy string) error {
	x, y := n.Input(0), n.Output(0)
	s := b.shape[y]
	if !lastAxis(n, s, b.opset) {
		return b.refuse(n, "only an axis that is the last one is supported")
	}
	last := int64(len(s) - 1)
	if n.Op == "LogSoftmax" {
		b.give(x, b.sub(dy, b.mul(b.unary("Exp", y), b.sum(dy, true, last))))
		return nil
	}
	b.give(x, b.mul(y, b.sub(dy, b.sum(b.mul(dy, y), true, last))))
	return nil
}

func (b *backward) mulBackward(n *inspect.Node, dy string) {
	x, s, y := n.Input(0), n.Input(1), n.Output(0)
	for range 2 {
		// x Sigmoid(x) has the derivative s + y (1-s), s being the sigmoid: fewer
		// passes over memory than product and sigmoid one after the other.
		if p := b.graph.Producer(s); p != nil && p.Op == "Sigmoid" && p.Standard() && p.Input(0) == x && b.active[x] && len(b.graph.Consumers(s)) == 1 && !b.graph.IsOutput(s) {
			b.give(x, b.mul(dy, b.add(s, b.mul(y, b.sub(b.scalar(1), s)))))
			return
		}
		x, s = s, x
	}
	for range 2 {
		if b.active[x] {
			b.give(x, b.reduceTo(b.mul(dy, s), b.shape[x]))
		}
		x, s = s, x
	}
}

func (b *backward) gemmBackward(n *inspect.Node, dy string) {
	x, w, c := n.Input(0), n.Input(1), n.Input(2)
	alpha := n.AttrFloat("alpha", 1)
	transX, transW := n.AttrInt("transA", 0) != 0, n.AttrInt("transB", 0) != 0
	if b.active[x] {
		if transX {
			b.give(x, b.gemm(w, dy, transW, true, alpha))
		} else {
			b.give(x, b.gemm(dy, w, false, !transW, alpha))
		}
	}
	if b.active[w] {
		if transW {
			b.give(w, b.gemm(dy, x, true, transX, alpha))
		} else {
			b.give(w, b.gemm(x, dy, !transX, false, alpha))
		}
	}
	if b.active[c] {
		g := b.reduceTo(dy, b.shape[c])
		if beta := n.AttrFloat("beta", 1); beta != 1 {
			g = b.mul(g, b.scalar(float64(beta)))
		}
		b.give(c, g)
	}
}

func (b *backward) matmulBackward(n *inspect.Node, dy string) error {
	x, w := n.Input(0), n.Input(1)
	sx, sw := b.shape[x], b.shape[w]
	if len(sx) < 2 || len(sw) < 2 {
		return b.refuse(n, "products with vectors are not supported")
	}
	swap := func(t string) string {
		perm := make([]int64, len(b.shape[t]))
		for i := range perm {
			perm[i] = int64(i)
		}
		k := len(perm)
		perm[k-2], perm[k-1] = perm[k-1], perm[k-2]
		return b.transpose(t, perm...)
	}
	if len(sw) == 2 {
		// A matrix on the right: one product over all rows.
		rows := elements(sx) / sx[len(sx)-1]
		grad := b.reshape(dy, rows, sw[1])
		if b.active[x] {
			b.give(x, b.reshape(b.gemm(grad, w, false, true, 1), sx...))
		}
		if b.active[w] {
			b.give(w, b.gemm(b.reshape(x, rows, sw[0]), grad, true, false, 1))
		}
		return nil
	}
	if b.active[x] {
		b.give(x, b.reduceTo(b.matmul(dy, swap(w)), sx))
	}
	if b.active[w] {
		b.give(w, b.reduceTo(b.matmul(swap(x), dy), sw))
	}
	return nil
}

// batchNormBackward is that of y = scale (x - mean) / sqrt(var + epsilon) + bias
// with mean and variance as they are stored.
func (b *backward) batchNormBackward(n *inspect.Node, dy string) error {
	x, scale, bias, mean, variance := n.Input(0), n.Input(1), n.Input(2), n.Input(3), n.Input(4)
	if n.AttrInt("training_mode", 0) != 0 || b.opset < 14 && n.Output(1) != "" {
		return b.refuse(n, "it normalises by the statistics of the batch; export the model for inference")
	}
	if b.active[mean] || b.active[variance] {
		return b.refuse(n, "its statistics depend on trained weights")
	}
	s := b.shape[x]
	if len(s) < 2 {
		return b.refuse(n, "its input has fewer than two dimensions")
	}
	channel := make([]int64, len(s))
	others := []int64{0}
	for i := range channel {
		channel[i] = 1
		if i > 1 {
			others = append(others, int64(i))
		}
	}
	channel[1] = s[1]
	deviation := b.unary("Sqrt", b.add(variance, b.scalar(float64(n.AttrFloat("epsilon", 1e-5)))))
	if b.active[x] {
		b.give(x, b.mul(dy, b.reshape(b.div(scale, deviation), channel...)))
	}
	if b.active[bias] {
		b.give(bias, b.sum(dy, false, others...))
	}
	if b.active[scale] {
		centred := b.sub(x, b.reshape(mean, channel...))
		b.give(scale, b.div(b.sum(b.mul(dy, centred), false, others...), deviation))
	}
	return nil
}

func (b *backward) reduceBackward(n *inspect.Node, dy string) error {
	x := n.Input(0)
	s := b.shape[x]
	axes, ok := b.axes(n, len(s))
	if !ok {
		return b.refuse(n, "its axes are not constant")
	}
	if v, _ := b.constantInts(n, "axes", 1); len(v) == 0 && n.AttrInt("noop_with_empty_axes", 0) != 0 {
		b.give(x, dy)
		return nil
	}
	kept := slices.Clone(s)
	spread := slices.Repeat([]int64{1}, len(s))
	count := int64(1)
	for _, a := range axes {
		kept[a], spread[a] = 1, s[a]
		count *= s[a]
	}
	f := 1.0
	if n.Op == "ReduceMean" {
		f = 1 / float64(count)
	}
	b.give(x, b.mul(b.reshape(dy, kept...), b.filled(f, spread...)))
	return nil
}

// filled is a constant of one number.
func (b *builder) filled(v float64, dims ...int64) string {
	return b.floats(slices.Repeat([]float32{float32(v)}, int(elements(dims))), dims...)
}
