package gradient

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A Layer is a layer to train: a Conv, Gemm or MatMul of the main graph with a
// stored weight. Its stored bias is trained along.
type Layer struct {
	// Name is the layer's name in inspect.Model.Layers.
	Name string
	// Weight is its stored tensor; "" stands for the one that the layer reads.
	Weight string
	// Masked says that weights that are exactly zero in the file stay zero.
	Masked bool
}

// BuildOptions say what a Graph computes.
type BuildOptions struct {
	// Layers are those that are trained; nil means all of them, Masked, but for those
	// that compute the very same in the original, unless Whole asks for these too.
	Layers []Layer
	Whole  bool
	// Norms trains scale and bias of BatchNormalization too; the statistics stay.
	Norms bool
	// Batch is the number of samples of a step, at least 1.
	Batch int
	// Momentum and WeightDecay are those of the step.
	Momentum, WeightDecay float64
	// Distill is the share a of the teacher in the loss, 0 to 1, Temperature its T:
	//
	//	(1-a) CE(y, softmax(z)) + a T^2 KL(softmax(t/T) || softmax(z/T))
	//
	// with the logits z of the model and t of the teacher (Hinton, Vinyals and Dean,
	// "Distilling the knowledge in a neural network", arXiv 1503.02531).
	Distill, Temperature float64
	// Original, unless nil, is the model before pruning, the teacher. What both models
	// compute alike before the first trained weight is computed once for both. It must
	// read the same input and have the same labels.
	Original *inspect.Model
	// Clip bounds the norm of the gradient of all parameters together: a longer one is
	// shortened to it (Pascanu, Mikolov and Bengio, arXiv 1211.5063). 0 is no bound.
	Clip float64
	// Gradients asks for the gradients as outputs, in place of the step.
	Gradients bool

	// dense names masked tensors that have no zeros.
	dense map[string]bool
	// judge asks for the loss alone.
	judge bool
}

// A Param is a stored tensor that is trained.
type Param struct {
	// Name is that of the stored tensor, Dims its dimensions, Masked as in Layer.
	Name   string
	Dims   []int64
	Masked bool
	// Weight and Velocity are the inputs of the graph with the tensor and with the
	// momentum times its velocity, NewWeight and NewVelocity the outputs that they
	// become. Mask, an input of ones and zeros, is "" when it is not masked. Gradient
	// is an output where gradients were asked for, and then there is no step.
	Weight, Velocity, NewWeight, NewVelocity, Mask, Gradient string
	// Shape is the shape of all of these, see Pack.
	Shape []int64

	stored inspect.Stored
	conv   *conv // in the form columns
}

// A Graph computes loss and gradients of a model on one batch and, unless it was
// built for gradients, a step of stochastic gradient descent with Nesterov momentum
// and an L2 penalty (as PyTorch's SGD writes it: the penalty is part of the gradient
// g, the velocity is v' = mu v + g, the step -rate (g + mu v')).
type Graph struct {
	// Model is the serialized ModelProto.
	Model []byte
	// Batch is the number of samples N, Labels that of outputs K.
	Batch, Labels int
	// Image is the input with the samples, N x Dims. Target holds the wanted
	// probabilities, N x K, Rows the weight of each sample in the loss, N x 1 (1/N
	// for a mean, 0 for a row without sample). Teacher, N x K, holds the teacher's
	// logits, "" without distillation and where the graph computes them itself: it
	// does with an Original of the same operator set that has standard operators
	// alone. Rate is the learning rate, a scalar, "" without a step.
	Image, Target, Rows, Teacher, Rate string
	Dims                               []int64
	// Loss, of one element, and Logits, N x K, are outputs.
	Loss, Logits string
	Params       []Param
	// Bytes estimates the memory of a run beside weights: the most bytes of tensors
	// that are alive at once when nodes run in their order.
	Bytes int64
}

// Build writes the graph that trains m. Batches that the file fixes to another size
// are opened where each sample still goes its own way. Models of another type than
// float32, quantized ones, operators without a gradient rule between the first
// trained weight and the output, and outputs that are neither logits nor their
// softmax are refused with an *UnsupportedError; options out of range with an
// *OptionError.
//
// What lies before the first trained weight is computed as it stands, and nothing of
// it is kept for the gradients.
func Build(m *inspect.Model, opt BuildOptions) (*Graph, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	f, err := fixBatch(m, opt.Batch)
	if err != nil {
		return nil, err
	}
	c, err := opt.common(m, f)
	if err != nil {
		return nil, err
	}
	params, err := findParams(m, f.graph, opt, c)
	if err != nil {
		return nil, err
	}
	if params, err = usedParams(m.File, params, f.nodes, opt); err != nil {
		return nil, err
	}
	g := &Graph{Batch: opt.Batch, Labels: f.labels, Image: f.image, Dims: f.dims, Params: params}
	b := &backward{
		builder: &builder{
			d: f.draft, g: &onnxpb.GraphProto{Name: proto.String("training")}, opset: f.graph.Opset(""),
			prefix: freePrefix(f.graph, f.draft.Model.Graph), shape: map[string][]int64{}, constants: map[string]string{},
		},
		file: m.File, graph: f.graph, active: map[string]bool{}, grads: map[string][]string{}, convs: map[*inspect.Node]*conv{},
	}
	if err := b.forward(f, g); err != nil {
		return nil, err
	}
	teacher := ""
	if c != nil && opt.Distill > 0 {
		trained := func(t string) bool { return slices.ContainsFunc(params, func(p Param) bool { return p.Name == t }) }
		if c, err = compare(c.original, f, trained); err != nil {
			return nil, err
		}
		if c.fits() {
			if teacher, err = b.teach(c); err != nil {
				return nil, err
			}
		}
	}
	b.loss(f.logits, teacher, g, opt)
	if opt.judge {
		g.Model, err = b.bytes(f)
		return g, err
	}
	for i := len(f.nodes) - 1; i >= 0; i-- {
		n := f.nodes[i]
		if !slices.ContainsFunc(n.Inputs, func(t string) bool { return b.active[t] }) {
			continue
		}
		dys, any := make([]string, len(n.Outputs)), false
		for j, out := range n.Outputs {
			if out != "" {
				dys[j] = b.gradient(out)
				any = any || dys[j] != ""
			}
		}
		if any {
			if err := b.differentiate(n, dys); err != nil {
				return nil, err
			}
		}
	}
	if err := b.finish(g, opt); err != nil {
		return nil, err
	}
	g.Bytes = b.peak(g)
	if g.Model, err = b.bytes(f); err != nil {
		return nil, err
	}
	return g, nil
}

func (opt *BuildOptions) check() error {
	switch {
	case opt.Batch < 1 || opt.Batch > 1<<16:
		return &OptionError{"batch", fmt.Sprintf("%d is out of range", opt.Batch)}
	case !(opt.Momentum >= 0 && opt.Momentum < 1):
		return &OptionError{"momentum", fmt.Sprintf("%v is not in [0,1)", opt.Momentum)}
	case !(opt.Clip >= 0):
		return &OptionError{"clip", fmt.Sprintf("%v is negative", opt.Clip)}
	case !(opt.WeightDecay >= 0 && opt.WeightDecay < 1):
		return &OptionError{"weight decay", fmt.Sprintf("%v is not in [0,1)", opt.WeightDecay)}
	case !(opt.Distill >= 0 && opt.Distill <= 1):
		return &OptionError{"distillation", fmt.Sprintf("a share of %v is not in [0,1]", opt.Distill)}
	case opt.Distill > 0 && !(opt.Temperature > 0 && opt.Temperature < 1e4):
		return &OptionError{"temperature", fmt.Sprintf("%v is out of range", opt.Temperature)}
	}
	return nil
}

// common compares m with its original, nil where there is none.
func (opt *BuildOptions) common(m *inspect.Model, f *fixed) (*common, error) {
	if opt.Original == nil {
		return nil, nil
	}
	o, err := fixBatch(opt.Original, opt.Batch)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(o.dims, f.dims) || o.labels != f.labels {
		return nil, &UnsupportedError{File: opt.Original.File, Reason: fmt.Sprintf("its input %v and its %d labels are not those of %s: %v and %d",
			o.dims, o.labels, m.File, f.dims, f.labels)}
	}
	return compare(o, f, func(string) bool { return false })
}

// forward adds inputs and the nodes that the logits need.
func (b *backward) forward(f *fixed, g *Graph) error {
	readers := map[string]int{}
	for _, n := range f.nodes {
		for _, in := range n.Inputs {
			readers[in]++
		}
	}
	b.shape[f.image] = append([]int64{int64(g.Batch)}, f.dims...)
	b.input(f.image, b.shape[f.image]...)
	byName := map[string]*Param{}
	for i := range g.Params {
		p := &g.Params[i]
		byName[p.Name] = p
		b.active[p.Name] = true
		b.shape[p.Name] = p.Dims
		p.Weight, p.Shape = p.Name, p.Dims
	}
	for _, n := range f.nodes {
		trained := slices.ContainsFunc(n.Inputs, func(t string) bool { return b.active[t] })
		for _, t := range append(slices.Clone(n.Inputs), n.Outputs...) {
			if t == "" || b.shape[t] != nil {
				continue
			}
			dims, ok := f.graph.Shape(t).Fixed()
			if ok {
				b.shape[t] = dims
				if dims == nil {
					b.shape[t] = []int64{}
				}
			}
		}
		if trained && !(n.Standard() && (n.Op == "Shape" || n.Op == "Size")) {
			for i, t := range n.Outputs {
				if t == "" || i > 0 && n.Op != "Split" {
					continue
				}
				if d := f.graph.DType(t); d != onnxfile.Float && d != 0 {
					if d.IsFloat() {
						return b.refuse(n, fmt.Sprintf("it computes in %s; only models in float32 throughout can be trained", d))
					}
					continue
				}
				if b.shape[t] == nil {
					return &UnsupportedError{File: b.file, Node: n.Label(), Op: n.Op, Tensor: t, Reason: "its shape is not known"}
				}
				b.active[t] = true
			}
		}
		switch p := byName[n.Output(0)]; {
		case p != nil: // a Constant that is trained
		case n.Op == "Conv" && n.Standard() && trained:
			w := byName[n.Input(1)]
			c, err := b.planConv(n, w != nil && readers[n.Input(1)] == 1)
			if err != nil {
				return err
			}
			if c.form == columns {
				w.conv, w.Weight = c, b.fresh()
				w.Shape = []int64{c.o, c.positions() * c.c}
				c.w = w.Weight
				b.shape[c.w], b.active[c.w] = w.Shape, true
			}
			b.convs[n] = c
			b.convForward(c, n)
		default:
			b.copy(n)
		}
	}
	for i := range g.Params {
		b.input(g.Params[i].Weight, g.Params[i].Shape...)
	}
	return nil
}

// loss adds the loss and the gradient of the logits. teacher are the original's, ""
// where they are an input.
func (b *backward) loss(logits, teacher string, g *Graph, opt BuildOptions) {
	n, k := int64(g.Batch), int64(g.Labels)
	shape := b.shape[logits]
	z := b.reshape(logits, n, k)
	g.Target = b.input(b.prefix+"target", n, k)
	g.Rows = b.input(b.prefix+"rows", n, 1)
	axis := attrInt("axis", 1)
	share := 1 - opt.Distill
	p := b.unary("Softmax", z, axis)
	rows := b.mul(g.Rows, b.scalar(share))
	loss := b.mul(b.mul(b.unary("LogSoftmax", z, axis), g.Target), b.unary("Neg", rows))
	grad := b.mul(b.sub(b.mul(p, b.sum(g.Target, true, 1)), g.Target), rows)
	if opt.Distill > 0 {
		t := opt.Temperature
		if teacher == "" {
			g.Teacher = b.input(b.prefix+"teacher", n, k)
			teacher = g.Teacher
		}
		soft := b.scalar(1 / t)
		zt, tt := b.mul(z, soft), b.mul(b.reshape(teacher, n, k), soft)
		q := b.unary("Softmax", tt, axis)
		kl := b.mul(q, b.sub(b.unary("LogSoftmax", tt, axis), b.unary("LogSoftmax", zt, axis)))
		loss = b.add(loss, b.mul(kl, b.mul(g.Rows, b.scalar(opt.Distill*t*t))))
		grad = b.add(grad, b.mul(b.sub(b.unary("Softmax", zt, axis), q), b.mul(g.Rows, b.scalar(opt.Distill*t))))
	}
	g.Loss = b.prefix + "loss"
	b.call(b.sum(b.reshape(loss, n*k), true, 0), g.Loss)
	b.output(g.Loss)
	g.Logits = b.prefix + "logits"
	b.call(b.op("Identity", b.shape[z], []string{z}), g.Logits)
	b.output(g.Logits)
	b.give(logits, b.reshape(grad, shape...))
}

// finish adds what becomes of the gradients: outputs, or a step.
func (b *backward) finish(g *Graph, opt BuildOptions) error {
	grads := make([]string, len(g.Params))
	for i := range g.Params {
		p := &g.Params[i]
		if grads[i] = b.gradient(p.Weight); grads[i] == "" {
			return &UnsupportedError{File: b.file, Tensor: p.Name, Reason: "the output does not depend on it"}
		}
		if opt.Gradients {
			p.Gradient = b.role("gradient", i)
			b.call(b.op("Identity", p.Shape, []string{grads[i]}), p.Gradient)
			b.output(p.Gradient)
			continue
		}
		if p.Masked && !opt.dense[p.Name] {
			p.Mask = b.input(b.role("mask", i), p.Shape...)
			grads[i] = b.mul(grads[i], p.Mask)
		}
	}
	if opt.Gradients {
		return nil
	}
	g.Rate = b.input(b.prefix + "rate")
	short := ""
	if opt.Clip > 0 {
		var squares []string
		for _, grad := range grads {
			squares = append(squares, b.square(grad))
		}
		norm := b.unary("Sqrt", b.total(squares))
		short = b.div(b.scalar(opt.Clip), b.op("Max", nil, []string{norm, b.scalar(opt.Clip)}))
	}
	for i := range g.Params {
		b.step(&g.Params[i], i, grads[i], short, g.Rate, opt)
	}
	return nil
}

func (b *builder) role(role string, i int) string { return fmt.Sprintf("%s%s.%d", b.prefix, role, i) }

// step adds the step of a parameter; short is the factor that the gradient is clipped
// by, or "".
func (b *builder) step(p *Param, i int, grad, short, rate string, opt BuildOptions) {
	if short != "" {
		grad = b.mul(grad, short)
	}
	if opt.WeightDecay > 0 { // what is masked is zero and stays so
		grad = b.add(grad, b.mul(p.Weight, b.scalar(opt.WeightDecay)))
	}
	// The input is u = mu v: with it the step is u' = mu (u + g), w' = w - rate (g + u').
	p.Velocity = b.input(b.role("velocity", i), p.Shape...)
	p.NewVelocity, p.NewWeight = b.role("velocity'", i), b.role("weight'", i)
	b.call(b.mul(b.add(p.Velocity, grad), b.scalar(opt.Momentum)), p.NewVelocity)
	b.output(p.NewVelocity)
	b.call(b.sub(p.Weight, b.mul(b.add(grad, p.NewVelocity), rate)), p.NewWeight)
	b.output(p.NewWeight)
}

// square is the sum of the squares of all elements of x.
func (b *builder) square(x string) string {
	return b.op("ReduceSumSquare", []int64{}, []string{x}, attrInt("keepdims", 0))
}

// bytes serializes the graph in place of the model's.
func (b *backward) bytes(f *fixed) ([]byte, error) {
	read := map[string]bool{}
	for _, n := range b.g.Node {
		addReads(n, read)
	}
	fed := map[string]bool{}
	for _, v := range b.g.Input {
		fed[v.GetName()] = true
	}
	old := b.d.Model.Graph
	for _, t := range old.Initializer {
		if read[t.GetName()] && !fed[t.GetName()] {
			b.g.Initializer = append(b.g.Initializer, t)
		}
	}
	for _, t := range old.SparseInitializer {
		if read[t.GetValues().GetName()] {
			b.g.SparseInitializer = append(b.g.SparseInitializer, t)
		}
	}
	b.d.Model.Graph = b.g
	b.d.Model.TrainingInfo = nil
	if b.d.Model.GetIrVersion() < 4 {
		b.d.Model.IrVersion = proto.Int64(4) // initializers need not be inputs
	}
	if err := b.d.InlineExternal(); err != nil {
		return nil, err
	}
	return b.d.Bytes()
}

// addReads notes the tensors that a node and the graphs within it read.
func addReads(n *onnxpb.NodeProto, read map[string]bool) {
	for _, in := range n.Input {
		read[in] = true
	}
	for _, a := range n.Attribute {
		for _, g := range append(slices.Clone(a.Graphs), a.G) {
			for _, inner := range g.GetNode() {
				addReads(inner, read)
			}
			for _, out := range g.GetOutput() {
				read[out.GetName()] = true
			}
		}
	}
}

// peak estimates the memory of a run.
func (b *backward) peak(g *Graph) int64 {
	last := map[string]int{}
	for i, n := range b.g.Node {
		read := map[string]bool{}
		addReads(n, read)
		for t := range read {
			last[t] = i
		}
	}
	const never = 1 << 62
	for _, v := range b.g.Output {
		last[v.GetName()] = never
	}
	size := func(t string) int64 { return 4 * elements(b.shape[t]) }
	stored := map[string]bool{}
	for _, t := range b.g.Initializer {
		stored[t.GetName()] = true
	}
	var now, most int64
	made := map[string]bool{g.Image: true}
	now = size(g.Image)
	for i, n := range b.g.Node {
		for _, out := range n.Output {
			if b.shape[out] != nil {
				now += size(out)
				made[out] = true
			}
		}
		most = max(most, now)
		for _, t := range append(slices.Clone(n.Input), n.Output...) {
			if made[t] && last[t] <= i {
				now -= size(t)
				delete(made, t)
			}
		}
	}
	return most
}

// Pack arranges stored numbers as the graph reads them; those of a convolution on
// small maps in another order, without what only ever meets padding.
func (p *Param) Pack(stored []float32) []float32 {
	if p.conv == nil {
		return slices.Clone(stored)
	}
	out := make([]float32, elements(p.Shape))
	p.each(func(packed, at int) { out[packed] = stored[at] })
	return out
}

// Unpack writes numbers that the graph computed to their places in stored.
func (p *Param) Unpack(packed, stored []float32) {
	if p.conv == nil {
		copy(stored, packed)
		return
	}
	p.each(func(i, at int) { stored[at] = packed[i] })
}

// each visits the pairs of places, packed and stored, that hold the same number.
func (p *Param) each(visit func(packed, stored int)) {
	c := p.conv
	i := 0
	for out := range c.o {
		for y := range c.plane[0].kernel {
			for x := range c.plane[1].kernel {
				pos := (y+c.from[0])*c.whole[1] + x + c.from[1]
				for in := range c.c {
					visit(i, int((out*c.c+in)*c.whole[0]*c.whole[1]+pos))
					i++
				}
			}
		}
	}
}

// Values reads the tensor as it is stored.
func (p *Param) Values(ctx context.Context) ([]float32, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n, err := p.stored.Tensor.Elements()
	if err != nil {
		return nil, err
	}
	return p.stored.Tensor.Float32s(n)
}
