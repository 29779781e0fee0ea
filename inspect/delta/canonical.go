package delta

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// outerSlot numbers what a nested graph reads from around it.
const outerSlot = 1000

// A graph is a model in canonical form: what it computes, freed of the ways in
// which exporters write the same thing.
type graph struct {
	m       *inspect.Model
	ops     []*op // each after those it reads from
	inputs  []string
	outputs []ref
	readers [][]reader // of each op, in order
}

// An op is an operator of the canonical form. It stands for one or several nodes
// of the file.
type op struct {
	id    int
	kind  string // the operator, with its domain unless that is ONNX's own
	attrs []attribute
	ins   []ref // what changes from run to run, in order of position
	slots []int // positions of ins among the node's inputs
	// weight has one row for each filter of a Conv or a Linear, or for each
	// channel of what works channel by channel. bias has one number for each row.
	weight, bias *view
	channelwise  bool
	group        int64
	operands     []operand // other constants
	nodes        []*inspect.Node
	g            *inspect.Graph // of the last of nodes
	outs         []string       // tensor names, of the last of nodes
	dead         bool           // nothing in the file needs it
}

// An attribute is what a node was told, whether as an attribute or as a constant
// input, as text; defaults are left out.
type attribute struct{ name, text string }

// An operand is a constant that a node reads at a position.
type operand struct {
	slot int
	view *view
}

// A ref is where a tensor comes from: an output of an op, or an input of the
// model, -1 where nothing provides it.
type ref struct {
	op  *op
	out int
	in  int
}

// A reader is an op that reads an output of another, or an output of the model.
type reader struct {
	op     *op // nil: output number pos
	pos    int
	output int // of the op that is read
}

func (o *op) label() string {
	for _, n := range o.nodes {
		if n.Name != "" {
			return n.Name
		}
	}
	if len(o.outs) > 0 && o.outs[0] != "" {
		return o.outs[0]
	}
	return o.nodes[0].Label()
}

func (o *op) attr(name string) string {
	for _, a := range o.attrs {
		if a.name == name {
			return a.text
		}
	}
	return ""
}

// commutes tells whether the order of the inputs does not matter.
func (o *op) commutes() bool {
	switch o.kind {
	case "Add", "Mul", "Sum", "Max", "Min", "Mean", "And", "Or", "Xor", "Equal":
		return true
	}
	return false
}

type scope struct {
	g     *inspect.Graph
	env   map[string]ref
	outer *scope // around a nested graph
	used  *[]ref // what a nested graph reads from around it
}

type canon struct {
	ctx    context.Context
	m      *inspect.Model
	out    *graph
	bodies map[*inspect.Node][]*inspect.Graph
	consts map[constKey]*view // nil where a tensor is no constant
}

type constKey struct {
	g    *inspect.Graph
	name string
}

// canonical brings the main graph of m to its canonical form. It fails when the
// graph has a cycle or when a constant that it has to look at cannot be read.
func canonical(ctx context.Context, m *inspect.Model) (*graph, error) {
	c := &canon{ctx: ctx, m: m, out: &graph{m: m}, bodies: map[*inspect.Node][]*inspect.Graph{}, consts: map[constKey]*view{}}
	for _, g := range m.Graph.All() {
		if _, owner := g.Parent(); owner != nil {
			c.bodies[owner] = append(c.bodies[owner], g)
		}
	}
	s := &scope{g: m.Graph, env: map[string]ref{}}
	// A sparse initializer is an operator without inputs.
	for _, t := range m.Handle.Model.GetGraph().GetSparseInitializer() {
		text, err := c.sparseText(t)
		if err != nil {
			return nil, err
		}
		name := t.GetValues().GetName()
		o := &op{kind: "SparseConstant", attrs: []attribute{{"value", text}}, g: m.Graph, outs: []string{name}, nodes: []*inspect.Node{{Op: "SparseConstant", Outputs: []string{name}}}}
		c.add(o)
		s.env[name] = ref{op: o}
	}
	for i, v := range m.Inputs {
		s.env[v.Name] = ref{in: i}
		c.out.inputs = append(c.out.inputs, v.Name)
	}
	if err := c.run(s); err != nil {
		return nil, err
	}
	for _, v := range m.Outputs {
		r, err := c.output(s, v.Name)
		if err != nil {
			return nil, err
		}
		c.out.outputs = append(c.out.outputs, r)
	}
	c.out.finish(needed(m.Graph))
	return c.out, nil
}

// output is what the model returns under a name; a constant gets an op that
// makes it.
func (c *canon) output(s *scope, name string) (ref, error) {
	v, err := c.constant(s, name)
	if err != nil {
		return ref{}, err
	}
	if v == nil {
		return c.lookup(s, name), nil
	}
	o := &op{kind: "Constant", operands: []operand{{0, v}}, g: s.g, outs: []string{name}}
	n := s.g.Producer(name)
	if n == nil {
		n = &inspect.Node{Op: "Constant", Outputs: []string{name}}
	}
	o.nodes = []*inspect.Node{n}
	c.add(o)
	return ref{op: o}, nil
}

// needed lists the nodes of the main graph that an output of the model depends
// on.
func needed(g *inspect.Graph) map[*inspect.Node]bool {
	live := map[*inspect.Node]bool{}
	order, _ := g.Order()
	for _, n := range slices.Backward(order) {
		for _, out := range n.Outputs {
			if out == "" || live[n] {
				continue
			}
			live[n] = g.IsOutput(out) || slices.ContainsFunc(g.Consumers(out), func(r *inspect.Node) bool { return live[r] })
		}
	}
	return live
}

// finish drops what only the canonical form has made useless (the arithmetic on
// shapes behind a Reshape that is a Flatten), numbers the ops and finds the
// readers of each.
func (g *graph) finish(needed map[*inspect.Node]bool) {
	live := map[*op]bool{}
	for _, r := range g.outputs {
		if r.op != nil {
			live[r.op] = true
		}
	}
	for _, o := range slices.Backward(g.ops) {
		if !live[o] {
			o.dead = !slices.ContainsFunc(o.nodes, func(n *inspect.Node) bool { return needed[n] })
			if !o.dead {
				continue
			}
			live[o] = true
		}
		for _, r := range o.ins {
			if r.op != nil {
				live[r.op] = true
			}
		}
	}
	g.ops = slices.DeleteFunc(g.ops, func(o *op) bool { return !live[o] })
	for i, o := range g.ops {
		o.id = i
	}
	g.findReaders()
}

func (g *graph) findReaders() {
	g.readers = make([][]reader, len(g.ops))
	for _, o := range g.ops {
		for k, r := range o.ins {
			if r.op != nil {
				g.readers[r.op.id] = append(g.readers[r.op.id], reader{op: o, pos: k, output: r.out})
			}
		}
	}
	for i, r := range g.outputs {
		if r.op != nil {
			g.readers[r.op.id] = append(g.readers[r.op.id], reader{pos: i, output: r.out})
		}
	}
}

func (c *canon) run(s *scope) error {
	order, err := s.g.Order()
	if err != nil {
		return err
	}
	for _, n := range order {
		if err := c.ctx.Err(); err != nil {
			return context.Cause(c.ctx)
		}
		if err := c.node(s, n); err != nil {
			return err
		}
	}
	return nil
}

// lookup finds where a tensor of s comes from.
func (c *canon) lookup(s *scope, name string) ref {
	if r, ok := s.env[name]; ok {
		return r
	}
	if s.outer != nil && s.g.Producer(name) == nil {
		r := c.lookup(s.outer, name)
		if s.used != nil {
			k := slices.Index(*s.used, r)
			if k < 0 {
				k = len(*s.used)
				*s.used = append(*s.used, r)
			}
			// Within the body it is the input of that number.
			return ref{in: outerSlot + k}
		}
		return r
	}
	return ref{in: -1}
}

// constant returns the constant behind a tensor, nil where it is none.
func (c *canon) constant(s *scope, name string) (*view, error) {
	if name == "" {
		return nil, nil
	}
	key := constKey{s.g, name}
	if v, ok := c.consts[key]; ok {
		return v, nil
	}
	v := c.findConstant(s.g, name)
	c.consts[key] = v
	return v, nil
}

func (c *canon) findConstant(g *inspect.Graph, name string) *view {
	if st, ok := g.Stored(name); ok {
		if v := storedView(g, name, st); v != nil {
			return v
		}
	}
	if !g.Has(name) {
		return nil
	}
	dims, fixed := g.Shape(name).Fixed()
	n, counted := elements(dims)
	if !fixed || !counted {
		return nil
	}
	if ints, ok := g.Ints(name); ok && int64(len(ints)) == n {
		v := &view{name: name, dims: dims, vals: make([]float64, len(ints)), dtype: g.DType(name)}
		for i, x := range ints {
			v.vals[i] = float64(x)
		}
		v.rows, v.cols = n, 1
		return v
	}
	if x, ok := g.Float(name); ok && n == 1 {
		return &view{name: name, dims: dims, vals: []float64{x}, rows: 1, cols: 1, dtype: g.DType(name)}
	}
	return nil
}

// storedView is a stored tensor as it is read under a name, nil where something
// lies between that the canonical form does not see through.
func storedView(g *inspect.Graph, name string, st inspect.Stored) *view {
	stored := st.Tensor.Dims()
	v := &view{name: st.Name, t: st.Tensor, stored: true, dims: stored, dtype: st.Tensor.DType()}
	if n, err := st.Tensor.Elements(); err == nil {
		v.rows, v.cols = n, 1
	}
	for _, n := range st.Through {
		switch n.Op {
		case "Identity":
		case "Cast", "CastLike":
			if !v.dtype.IsFloat() || !g.DType(name).IsFloat() {
				return nil
			}
		case "Reshape", "Squeeze", "Unsqueeze", "Flatten":
			dims, ok := g.Shape(name).Fixed()
			if !ok || v.flipped {
				return nil
			}
			v.dims = dims
		case "Transpose":
			perm := n.AttrInts("perm")
			if len(stored) != 2 || len(st.Through) > 1 || perm != nil && !slices.Equal(perm, []int64{1, 0}) {
				return nil
			}
			v.flipped, v.dims = true, []int64{stored[1], stored[0]}
		default:
			return nil
		}
	}
	if n, ok := elements(v.dims); !ok || n != v.rows {
		return nil
	}
	return v
}

// elements multiplies dimensions; it is not ok where one is negative or the
// product is beyond 64 bits.
func elements(dims []int64) (n int64, ok bool) {
	n = 1
	for _, d := range dims {
		if d < 0 || d != 0 && n > math.MaxInt64/128/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}

func (c *canon) add(o *op) {
	o.id = len(c.out.ops)
	c.out.ops = append(c.out.ops, o)
}

// node adds what n computes to the canonical graph, or to an op in front of it.
func (c *canon) node(s *scope, n *inspect.Node) error {
	bodies := c.bodies[n]
	if len(bodies) == 1 && bodies[0].Function() != nil {
		return c.call(s, n, bodies[0])
	}
	if len(bodies) == 0 && n.Standard() {
		if done, err := c.rewrite(s, n); done || err != nil {
			return err
		}
	}
	if len(bodies) == 0 && n.Domain == contrib {
		if done, err := c.unfuse(s, n); done || err != nil {
			return err
		}
	}
	return c.generic(s, n, bodies)
}

// call puts the body of a function in the place of the node that calls it.
func (c *canon) call(s *scope, n *inspect.Node, body *inspect.Graph) error {
	fn := body.Function()
	in := &scope{g: body, env: map[string]ref{}}
	for i, name := range fn.GetInput() {
		if n.Input(i) != "" {
			in.env[name] = c.lookup(s, n.Input(i))
		}
	}
	if err := c.run(in); err != nil {
		return err
	}
	for i, name := range fn.GetOutput() {
		if n.Output(i) == "" {
			continue
		}
		r := c.lookup(in, name)
		s.env[n.Output(i)] = r
	}
	return nil
}

// rewrite handles the standard operators that have more than one form. It
// returns false when n is to be taken as it stands.
func (c *canon) rewrite(s *scope, n *inspect.Node) (bool, error) {
	out := n.Output(0)
	single := len(n.Outputs) < 2 || !slices.ContainsFunc(n.Outputs[1:], func(t string) bool {
		return t != "" && (s.g.IsOutput(t) || len(s.g.Consumers(t)) > 0)
	})
	if out == "" || !single {
		return false, nil
	}
	if v, err := c.constant(s, out); v != nil || err != nil {
		return true, err
	}
	alias := func() (bool, error) {
		s.env[out] = c.lookup(s, n.Input(0))
		return true, nil
	}
	x := s.g.Shape(n.Input(0))
	y := s.g.Shape(out)
	switch n.Op {
	case "Identity":
		return alias()
	case "Dropout":
		if v, err := c.small(s, n.Input(2)); err != nil || len(v) == 1 && v[0] == 0 || n.Input(2) == "" && n.AttrInt("is_test", 1) != 0 {
			if err != nil {
				return false, err
			}
			return alias()
		}
	case "Cast":
		if d := s.g.DType(n.Input(0)); d != 0 && int64(d) == n.AttrInt("to", -1) {
			return alias()
		}
	case "Concat", "Sum", "Max", "Min":
		if len(n.Inputs) == 1 {
			return alias()
		}
	case "Pad":
		pads, err := c.listed(s, n, "pads", 1)
		if err != nil {
			return false, err
		}
		if pads != nil && !slices.ContainsFunc(pads, func(p float64) bool { return p != 0 }) {
			return alias()
		}
	case "Flatten", "Reshape", "Squeeze":
		if flattens(n, x, y) {
			c.plain(s, n, "Flatten", n.Input(0))
			return true, nil
		}
	case "ReduceMean", "AveragePool":
		return c.globalPool(s, n, x)
	case "Conv", "Gemm", "MatMul":
		return c.layer(s, n)
	case "BatchNormalization":
		return c.batchNorm(s, n)
	case "Add", "Sub", "Mul", "Div":
		return c.affine(s, n)
	}
	return false, nil
}

// flattens tells whether n makes a matrix with one row for each sample.
func flattens(n *inspect.Node, x, y inspect.Shape) bool {
	if n.Op == "Flatten" && n.AttrInt("axis", 1) == 1 {
		return true
	}
	if !x.Known || !y.Known || len(x.Dims) < 2 || len(y.Dims) != 2 {
		return false
	}
	a, b := x.Dims[0], y.Dims[0]
	if a.Value < 0 && a.Name == "" {
		return false
	}
	return a == b
}

// plain adds an op of one input and nothing else.
func (c *canon) plain(s *scope, n *inspect.Node, kind, in string) *op {
	o := &op{kind: kind, ins: []ref{c.lookup(s, in)}, slots: []int{0}, nodes: []*inspect.Node{n}, g: s.g, outs: n.Outputs}
	c.add(o)
	s.env[n.Output(0)] = ref{op: o}
	return o
}

// globalPool finds means over all positions.
func (c *canon) globalPool(s *scope, n *inspect.Node, x inspect.Shape) (bool, error) {
	if !x.Known || len(x.Dims) < 3 {
		return false, nil
	}
	rank := len(x.Dims)
	if n.Op == "AveragePool" {
		kernel := n.AttrInts("kernel_shape")
		if len(kernel) != rank-2 || n.AttrString("auto_pad", "NOTSET") != "NOTSET" {
			return false, nil
		}
		for _, p := range n.AttrInts("pads") {
			if p != 0 {
				return false, nil
			}
		}
		for i, k := range kernel {
			if x.Dims[i+2].Value != k {
				return false, nil
			}
		}
		for _, d := range n.AttrInts("dilations") {
			if d != 1 {
				return false, nil
			}
		}
		c.plain(s, n, "GlobalAveragePool", n.Input(0))
		return true, nil
	}
	axes, err := c.listed(s, n, "axes", 1)
	if err != nil || axes == nil {
		return false, err
	}
	seen := make([]bool, rank)
	for _, a := range axes {
		if a < 0 {
			a += float64(rank)
		}
		if a < 2 || a >= float64(rank) || seen[int(a)] {
			return false, nil
		}
		seen[int(a)] = true
	}
	if len(axes) != rank-2 {
		return false, nil
	}
	o := c.plain(s, n, "GlobalAveragePool", n.Input(0))
	if n.AttrInt("keepdims", 1) == 0 {
		f := &op{kind: "Flatten", ins: []ref{{op: o}}, slots: []int{0}, nodes: []*inspect.Node{n}, g: s.g, outs: n.Outputs}
		c.add(f)
		s.env[n.Output(0)] = ref{op: f}
	}
	return true, nil
}

// small reads a constant of at most 64 numbers, nil when it is none.
func (c *canon) small(s *scope, name string) ([]float64, error) {
	v, err := c.constant(s, name)
	if v == nil || err != nil || v.count() > 64 {
		return nil, err
	}
	x, err := v.load(c.ctx)
	if errors.Is(err, onnxfile.ErrUnsupportedType) {
		return nil, nil
	}
	return x, err
}

// listed reads numbers that older operator sets give as an attribute and newer
// ones as an input.
func (c *canon) listed(s *scope, n *inspect.Node, name string, input int) ([]float64, error) {
	if a := n.AttrInts(name); a != nil {
		v := make([]float64, len(a))
		for i, x := range a {
			v[i] = float64(x)
		}
		return v, nil
	}
	if n.Input(input) == "" {
		return nil, nil
	}
	return c.small(s, n.Input(input))
}

// maxBias bounds the numbers of one bias, which are kept in memory.
const maxBias = 1 << 20

// vector reads a constant that has n numbers, or one that stands for n.
func (c *canon) vector(v *view, n int64) ([]float64, bool, error) {
	if v == nil || v.count() != n && v.count() != 1 || n > maxBias || !v.dtype.IsFloat() {
		return nil, false, nil
	}
	x, err := v.load(c.ctx)
	if errors.Is(err, onnxfile.ErrUnsupportedType) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if int64(len(x)) != n {
		one := x[0]
		x = make([]float64, n)
		for i := range x {
			x[i] = one
		}
	}
	return slices.Clone(x), true, nil
}

// layer makes a Conv, or a Linear of Gemm and MatMul.
func (c *canon) layer(s *scope, n *inspect.Node) (bool, error) {
	w, err := c.constant(s, n.Input(1))
	if w == nil || err != nil || !w.dtype.IsFloat() {
		return false, err
	}
	if x, err := c.constant(s, n.Input(0)); x != nil || err != nil {
		return false, err
	}
	o := &op{kind: "Linear", ins: []ref{c.lookup(s, n.Input(0))}, slots: []int{0}, nodes: []*inspect.Node{n}, g: s.g, outs: n.Outputs, group: 1}
	weight := *w
	var alpha, beta float64 = 1, 1
	switch n.Op {
	case "Conv":
		o.kind = "Conv"
		if len(w.dims) < 3 || w.flipped || w.dims[0] < 1 {
			return false, nil
		}
		o.group = n.AttrInt("group", 1)
		if o.group < 1 || w.dims[0]%o.group != 0 {
			return false, nil
		}
		if o.attrs, _, err = c.attributes(s, n, w); err != nil {
			return false, err
		}
		weight.rows, weight.cols = w.dims[0], w.count()/w.dims[0]
	default:
		if len(w.dims) != 2 || w.dims[0] < 1 || w.dims[1] < 1 {
			return false, nil
		}
		// rows are the second dimension unless B is transposed.
		transposed := true
		if n.Op == "Gemm" {
			if n.AttrInt("transA", 0) != 0 {
				return false, nil
			}
			transposed = n.AttrInt("transB", 0) == 0
			alpha, beta = float64(n.AttrFloat("alpha", 1)), float64(n.AttrFloat("beta", 1))
		}
		weight.rows, weight.cols = w.dims[0], w.dims[1]
		if transposed {
			weight.rows, weight.cols = weight.cols, weight.rows
		}
		// flipped says that the stored tensor is the transpose of w.
		weight.transposed = transposed != w.flipped
		weight.flipped = false
	}
	if alpha != 1 {
		if weight.rows > maxBias {
			return false, nil
		}
		weight.scale = make([]float64, weight.rows)
		for i := range weight.scale {
			weight.scale[i] = alpha
		}
	}
	o.weight = &weight
	if b := n.Input(2); b != "" {
		v, err := c.constant(s, b)
		if err != nil {
			return false, err
		}
		if v == nil || len(v.dims) > 2 || len(v.dims) > 0 && v.count() != 1 && v.dims[len(v.dims)-1] != weight.rows {
			return false, nil
		}
		x, ok, err := c.vector(v, weight.rows)
		if !ok || err != nil {
			return false, err
		}
		o.bias = biasView(v, x)
		for i := range x {
			x[i] *= beta
			o.bias.mag[i] = math.Abs(x[i])
		}
	}
	c.add(o)
	s.env[n.Output(0)] = ref{op: o}
	return true, nil
}

func biasView(v *view, x []float64) *view {
	b := &view{vals: x, rows: int64(len(x)), cols: 1, dims: []int64{int64(len(x))}, mag: make([]float64, len(x))}
	if v != nil {
		b.name, b.dtype = v.name, v.dtype
	}
	for i, y := range x {
		b.mag[i] = math.Abs(y)
	}
	return b
}

// foldable returns the op whose rows may take up a scale and a shift that the
// only reader of its output applies to each channel, nil when there is none.
func (c *canon) foldable(s *scope, tensor string) *op {
	r := c.lookup(s, tensor)
	if r.op == nil || r.op.weight == nil || r.op.channelwise && r.op.kind != "BatchNormalization" || r.op.weight.rows > maxBias ||
		s.g.Producer(tensor) == nil || s.g.IsOutput(tensor) || len(s.g.Consumers(tensor)) != 1 {
		return nil
	}
	return r.op
}

// fold has o multiply its channels by scale and add shift. names are of what they
// come from.
func (o *op) fold(n *inspect.Node, scale, shift, shiftMag []float64, name string, dtype onnxfile.DType) {
	w := *o.weight
	rows := int(w.rows)
	if scale != nil {
		if w.vals != nil {
			w.vals = slices.Clone(w.vals)
			for i := range w.vals {
				w.vals[i] *= scale[int64(i)/w.cols]
			}
			w.computed = true
		} else {
			old := w.scale
			w.scale = slices.Clone(scale)
			for i := range old {
				w.scale[i] *= old[i]
			}
		}
		o.weight = &w
	}
	if o.bias == nil {
		if shift == nil {
			o.nodes, o.outs = append(o.nodes, n), n.Outputs
			return
		}
		o.bias = biasView(nil, make([]float64, rows))
		o.bias.name, o.bias.dtype = name, dtype
	}
	b := *o.bias
	b.vals, b.mag = slices.Clone(b.vals), slices.Clone(b.mag)
	for i := range b.vals {
		if scale != nil {
			b.vals[i] *= scale[i]
			b.mag[i] *= math.Abs(scale[i])
		}
		if shift != nil {
			b.vals[i] += shift[i]
			b.mag[i] += math.Abs(shift[i])
			if shiftMag != nil {
				b.mag[i] += shiftMag[i]
			}
		}
	}
	b.computed = true
	o.bias = &b
	o.nodes, o.outs = append(o.nodes, n), n.Outputs
}

// batchNorm folds a BatchNormalization into what is before it, or makes it one
// scale and one shift for each channel.
func (c *canon) batchNorm(s *scope, n *inspect.Node) (bool, error) {
	if n.AttrInt("training_mode", 0) != 0 || n.AttrInt("spatial", 1) != 1 {
		return false, nil
	}
	var p [4][]float64
	var first *view
	for i := range p {
		v, err := c.constant(s, n.Input(i+1))
		if v == nil || err != nil {
			return false, err
		}
		if i == 0 {
			first = v
		}
		var ok bool
		if p[i], ok, err = c.vector(v, first.count()); !ok || err != nil || v.count() != first.count() {
			return false, err
		}
	}
	eps := float64(n.AttrFloat("epsilon", 1e-5))
	scale, shift, mag := p[0], p[1], make([]float64, len(p[0]))
	for i := range scale {
		scale[i] /= math.Sqrt(p[3][i] + eps)
		mag[i] = math.Abs(p[2][i]*scale[i]) + math.Abs(shift[i])
		shift[i] -= p[2][i] * scale[i]
	}
	if o := c.foldable(s, n.Input(0)); o != nil && o.weight.rows == int64(len(scale)) && c.channelSecond(s, o, n.Input(0)) {
		o.fold(n, scale, shift, mag, n.Input(2), first.dtype)
		s.env[n.Output(0)] = ref{op: o}
		return true, nil
	}
	o := c.plain(s, n, "BatchNormalization", n.Input(0))
	o.channelwise = true
	o.weight = &view{name: first.name, dtype: first.dtype, vals: scale, rows: int64(len(scale)), cols: 1, dims: []int64{int64(len(scale))}, computed: true}
	o.bias = biasView(nil, shift)
	o.bias.name, o.bias.dtype, o.bias.computed, o.bias.mag = n.Input(2), first.dtype, true, mag
	return true, nil
}

// channelSecond tells whether the channels of o's output stand in the second
// dimension.
func (c *canon) channelSecond(s *scope, o *op, tensor string) bool {
	if o.kind != "Linear" {
		return true
	}
	y := s.g.Shape(tensor)
	return y.Known && len(y.Dims) == 2
}

// affine folds a scale or a shift of each channel into the op in front, or makes
// the constant a weight with one number for each channel.
func (c *canon) affine(s *scope, n *inspect.Node) (bool, error) {
	if len(n.Inputs) != 2 || s.g.Opset("") < 7 {
		return false, nil
	}
	side := 1
	v, err := c.constant(s, n.Input(1))
	if err != nil {
		return false, err
	}
	if v == nil && (n.Op == "Add" || n.Op == "Mul") {
		side = 0
		if v, err = c.constant(s, n.Input(0)); err != nil {
			return false, err
		}
	}
	if v == nil || v.flipped || !v.dtype.IsFloat() {
		return false, nil
	}
	tensor := n.Input(1 - side)
	if x, err := c.constant(s, tensor); x != nil || err != nil {
		return false, err
	}
	x := s.g.Shape(tensor)
	if o := c.foldable(s, tensor); o != nil {
		rank, axis := len(x.Dims), 1
		if !x.Known && o.kind == "Conv" {
			rank = len(o.weight.dims)
		}
		if o.kind == "Linear" {
			axis = rank - 1
		}
		if (x.Known || o.kind == "Conv") && alongChannel(v.dims, rank, axis, o.weight.rows) {
			p, ok, err := c.vector(v, o.weight.rows)
			if err != nil {
				return false, err
			}
			if ok {
				var scale, shift []float64
				switch n.Op {
				case "Add":
					shift = p
				case "Sub":
					shift = p
					for i := range p {
						p[i] = -p[i]
					}
				case "Mul":
					scale = p
				case "Div":
					scale = p
					for i := range p {
						p[i] = 1 / p[i]
					}
				}
				o.fold(n, scale, shift, nil, v.name, v.dtype)
				if n.Op == "Add" && len(o.nodes) == 2 {
					o.bias.computed = false // the stored numbers themselves
				}
				s.env[n.Output(0)] = ref{op: o}
				return true, nil
			}
		}
	}
	if !x.Known || len(x.Dims) < 2 || x.Dims[1].Value < 2 || v.count() != x.Dims[1].Value || !alongChannel(v.dims, len(x.Dims), 1, v.count()) {
		return false, nil
	}
	o := c.plain(s, n, n.Op, tensor)
	w := *v
	w.rows, w.cols = v.count(), 1
	o.weight, o.channelwise = &w, true
	return true, nil
}

// alongChannel tells whether a constant of dims, added to a tensor of that rank,
// has n numbers along axis and repeats along all others; or is one number.
func alongChannel(dims []int64, rank, axis int, n int64) bool {
	off := rank - len(dims)
	if off < 0 {
		return false
	}
	for i, d := range dims {
		if d != 1 && (i+off != axis || d != n) {
			return false
		}
	}
	return true
}

// generic adds a node as it stands.
func (c *canon) generic(s *scope, n *inspect.Node, bodies []*inspect.Graph) error {
	o := &op{kind: n.Op, nodes: []*inspect.Node{n}, g: s.g, outs: n.Outputs}
	if !n.Standard() {
		o.kind = n.Domain + "." + n.Op
	}
	attrs, consumed, err := c.attributes(s, n, nil)
	if err != nil {
		return err
	}
	o.attrs = attrs
	for i, in := range n.Inputs {
		if in == "" || consumed[i] {
			continue
		}
		v, err := c.constant(s, in)
		if err != nil {
			return err
		}
		if v != nil {
			o.operands = append(o.operands, operand{i, v})
			continue
		}
		o.ins = append(o.ins, c.lookup(s, in))
		o.slots = append(o.slots, i)
	}
	if err := c.nested(s, o, bodies); err != nil {
		return err
	}
	c.add(o)
	for i, out := range n.Outputs {
		if out != "" {
			s.env[out] = ref{op: o, out: i}
		}
	}
	return nil
}

// nested describes the graphs in o's attributes by digests, and adds what they
// read from around them to o's inputs.
func (c *canon) nested(s *scope, o *op, bodies []*inspect.Graph) error {
	var protos []*onnxpb.GraphProto
	var names []string
	for _, a := range o.nodes[0].Proto.GetAttribute() {
		if a.G != nil {
			protos, names = append(protos, a.G), append(names, a.GetName())
		}
		for i, g := range a.Graphs {
			protos, names = append(protos, g), append(names, fmt.Sprintf("%s[%d]", a.GetName(), i))
		}
	}
	for i, pb := range protos {
		text := fmt.Sprintf("graph of %d nodes", len(pb.GetNode()))
		if len(protos) == len(bodies) {
			var err error
			if text, err = c.body(s, o, bodies[i], pb); err != nil {
				return err
			}
		}
		o.attrs = append(o.attrs, attribute{names[i], text})
	}
	return nil
}

// body returns a digest of a graph nested in o.
func (c *canon) body(s *scope, o *op, b *inspect.Graph, pb *onnxpb.GraphProto) (string, error) {
	inner := &canon{ctx: c.ctx, m: c.m, out: &graph{m: c.m}, bodies: c.bodies, consts: c.consts}
	var used []ref
	in := &scope{g: b, env: map[string]ref{}, outer: s, used: &used}
	for i, v := range pb.GetInput() {
		in.env[v.GetName()] = ref{in: i}
	}
	if err := inner.run(in); err != nil {
		return "", err
	}
	for _, v := range pb.GetOutput() {
		r, err := inner.output(in, v.GetName())
		if err != nil {
			return "", err
		}
		inner.out.outputs = append(inner.out.outputs, r)
	}
	inner.out.finish(nil)
	sum, err := digest(c.ctx, inner.out)
	if err != nil {
		return "", err
	}
	for _, r := range used {
		o.ins = append(o.ins, r)
		o.slots = append(o.slots, outerSlot+len(o.slots))
	}
	return fmt.Sprintf("graph of %d operators, digest %016x", len(inner.out.ops), sum), nil
}
