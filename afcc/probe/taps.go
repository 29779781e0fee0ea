// Package probe measures what the method needs of a model: label means of every
// tap, a head for each, and their accuracy, by running graphs on an engine.
//
// It decides which tensors are taps, writes the graphs that reduce and train
// inside the runtime, and hands arrays to package afcc. The mathematics of
// clusters, pictures of results, and changes to the user's model do not enter.
package probe

import (
	"fmt"
	"iter"
	"slices"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A Tap is a tensor that a layer hands on: after the convolution, its
// BatchNorm, activation, gate, residual addition, concatenation and, where it ends
// the block, pooling. It is the tensor that the next convolution reads: where that
// has a BatchNorm and an activation before it (pre-activation), behind these.
type Tap struct {
	// Layers names the layers that end in this tensor, in file order; more than
	// one where a residual addition or a concatenation joins them.
	Layers []string `json:"layers"`
	// Parts says which filters of a concatenation are those of Layers. The others
	// come from layers that had ended in an earlier tap.
	Parts []FilterRange `json:"parts,omitempty"`
	// Tensor is the tensor's name in the file.
	Tensor string `json:"tensor"`
	// Op is the operator of the first of Layers.
	Op string `json:"op"`
	// Filters is F, Height and Width the map; both are 1 for hidden units.
	Filters int `json:"filter_count"`
	Height  int `json:"height"`
	Width   int `json:"width"`
	// ChannelsLast tells that the tensor is N x H x W x C.
	ChannelsLast bool `json:"channels_last,omitempty"`
	// Pool is the side of the average pooling that was put behind the tap
	// because a head on the full map would not have fitted in memory, or because
	// it was asked for; 1 for none.
	Pool int `json:"pool"`
	// Inner tells that the tensor lies inside a layer, or was asked for by name;
	// then Layers holds its name.
	Inner bool `json:"inner,omitempty"`
	// Own tells that the model's classifier reads this tap directly, so that its
	// weights are the head.
	Own bool `json:"own_classifier"`

	// cast tells that the tensor is not float and must be converted.
	cast bool
}

// Positions returns P, the positions of a filter that the head sees.
func (t *Tap) Positions() int { return (t.Height / t.Pool) * (t.Width / t.Pool) }

// A FilterRange is the part of a tap's filters that a layer makes.
type FilterRange struct {
	Layer string `json:"layer"`
	// First is the number of the layer's first filter, Filters how many follow.
	First   int `json:"first"`
	Filters int `json:"filter_count"`
}

// Range returns the number of the first filter that a layer makes, and how many.
func (t *Tap) Range(layer string) (first, filters int) {
	for _, p := range t.Parts {
		if p.Layer == layer {
			return p.First, p.Filters
		}
	}
	return 0, t.Filters
}

// Name returns the name of the first layer.
func (t *Tap) Name() string { return t.Layers[0] }

// A Skip is a layer that is not measured, and why.
type Skip struct {
	Layer  string `json:"layer"`
	Reason string `json:"reason"`
}

// A Classifier is the linear layer that makes the logits.
type Classifier struct {
	// Layer is its name, Node its index in the file.
	Layer string
	Node  int
	// Weight is the name of its weight tensor, Outputs K and Inputs the number
	// of columns of the weight read as K x Inputs.
	Weight          string
	Outputs, Inputs int
	// Transposed tells that the weight is stored as Inputs x K.
	Transposed bool
	// In is the tensor that it reads, Tap the tap from which that comes through
	// nothing but reshaping, nil when something lies between.
	In  string
	Tap *Tap
}

// A Survey says what can be measured in a model. Nothing has run yet.
type Survey struct {
	// Input is the image input, Output the tensor of K numbers for an image.
	Input, Output inspect.Value
	// Labels is K.
	Labels int
	// Batch is the number of samples that the file fixes for a run, 0 where it
	// leaves that open. Opened tells that the graph says the same for any number,
	// so that it is run with larger batches; else runs take Batch samples, the
	// last one filled up.
	Batch  int
	Opened bool
	// Taps in file order, and the layers that have none.
	Taps    []*Tap
	Skipped []Skip
	// Classifier is nil when the output does not come from one linear layer.
	Classifier *Classifier

	w      *walker
	layers []inspect.Layer
	rows   rowCheck
	// sides holds the size of the map that the last layer of a tap makes, before
	// any pooling.
	sides map[*Tap][2]int64
}

// NotClassifierError says why a model cannot be measured.
type NotClassifierError struct{ File, Reason string }

func (e *NotClassifierError) Error() string {
	return fmt.Sprintf("%s is no image classifier that can be measured: %s", e.File, e.Reason)
}

// classifierEnds returns the image input and the output of a classifier and the
// number of its labels, a *NotClassifierError, or what is wrong with the model.
func classifierEnds(m *inspect.Model) (in, out inspect.Value, k int, err error) {
	refuse := func(format string, a ...any) (inspect.Value, inspect.Value, int, error) {
		return in, out, 0, &NotClassifierError{File: m.File, Reason: fmt.Sprintf(format, a...)}
	}
	if err := m.Check(); err != nil {
		return in, out, 0, err
	}
	if len(m.Inputs) != 1 {
		return refuse("it has %d inputs, one image input is expected", len(m.Inputs))
	}
	if len(m.Outputs) == 0 {
		return refuse("it has no output")
	}
	in, out = m.Inputs[0], m.Outputs[0]
	for _, v := range []inspect.Value{in, out} {
		if v.DType != "float" && v.DType != "float16" {
			return refuse("its input or output %q is of type %s, float or float16 is expected", v.Name, v.DType)
		}
	}
	if n := declaredBatch(m, in.Name); n > maxBatch {
		return refuse("its batch is fixed to %d, at most %d samples are run at a time", n, maxBatch)
	}
	if d := in.Shape; !d.Known || len(d.Dims) != 4 {
		return refuse("its input %q has shape %s, four dimensions are expected", in.Name, d)
	}
	shape, n := m.Graph.Shape(out.Name), int64(1)
	if !shape.Known || len(shape.Dims) < 2 {
		return refuse("its output %q has shape %s, batch x labels is expected", out.Name, shape)
	}
	for _, d := range shape.Dims[1:] {
		if d.Value < 1 || d.Value > maxLabels {
			return refuse("its output %q has shape %s, the number of labels must be fixed", out.Name, shape)
		}
		n *= d.Value
		if n > maxLabels {
			break
		}
	}
	if n < 2 || n > maxLabels {
		return refuse("its output %q has %d values for an image, labels from 2 to %d are expected", out.Name, n, maxLabels)
	}
	return in, out, int(n), nil
}

// maxBatch bounds the number of samples that a file may ask for at a time.
const maxBatch = 1 << 12

func newEnds(m *inspect.Model, in, out inspect.Value, k int) *Survey {
	s := &Survey{Input: in, Output: out, Labels: k, Batch: declaredBatch(m, in.Name)}
	s.Opened = s.Batch > 0 && canOpen(m, in.Name, s.Batch)
	return s
}

// NewSurvey finds the taps of m. A model that is no image classifier with one
// image input and one output of K numbers gives a *NotClassifierError.
func NewSurvey(m *inspect.Model) (*Survey, error) {
	in, out, k, err := classifierEnds(m)
	if err != nil {
		return nil, err
	}
	g := m.Graph
	rows, err := newRowCheck(m, in.Shape.Dims[0])
	if err != nil {
		return nil, err
	}
	if shape := g.Shape(out.Name); !rows.ok(out.Name, shape.Dims[0]) {
		return nil, &NotClassifierError{m.File, fmt.Sprintf("its output %q has shape %s, which is not a row for each sample of %q (%s); export it with a batch that is open, or fixed, throughout",
			out.Name, shape, in.Name, in.Shape)}
	}
	if err := checkSamples(m, in, out.Name); err != nil {
		return nil, err
	}
	s := newEnds(m, in, out, k)
	w := newWalker(g, in.Name)
	s.w, s.layers, s.rows, s.sides = w, m.Layers, rows, map[*Tap][2]int64{}
	s.Classifier = w.classifier(m, s.Output.Name, s.Labels)
	byTensor := map[string]*Tap{}
	for i := range m.Layers {
		l := &m.Layers[i]
		skip := func(reason string) { s.Skipped = append(s.Skipped, Skip{l.Name, reason}) }
		switch {
		case l.Scope != "" && (l.Op == "Conv" || l.Op == "Gemm" || l.Op == "MatMul"):
			s.Skipped = append(s.Skipped, Skip{l.Scope + "/" + l.Name, "it lies in a nested graph or a function"})
			continue
		case l.Op != "Conv" && l.Op != "Gemm" && l.Op != "MatMul":
			if l.Op == "ConvTranspose" {
				skip("transposed convolution")
			}
			continue
		case s.Classifier != nil && l.Node == s.Classifier.Node:
			continue // its outputs are labels, not filters
		case w.gates.node[l.Node]:
			skip("squeeze-excite gate: it scales filters and hands none on")
			continue
		}
		at := w.follow(w.begin(l))
		t := at.tensor
		if g.IsOutput(t) && t == s.Output.Name || w.endsInOutput(t, s.Output.Name) {
			skip("its outputs are the labels")
			continue
		}
		tap := byTensor[t]
		if tap == nil {
			var reason string
			if tap, reason = newTap(g, at, rows); reason != "" {
				skip(reason)
				continue
			}
			tap.Op = l.Op
			byTensor[t] = tap
			s.Taps = append(s.Taps, tap)
		}
		tap.Layers = append(tap.Layers, l.Name)
		s.sides[tap] = w.side(l)
		if at.filters > 0 {
			tap.Parts = append(tap.Parts, FilterRange{l.Name, at.first, at.filters})
		}
	}
	if c := s.Classifier; c != nil {
		if tap := s.InputTap(g, c.In); tap != nil && tap.Filters*tap.Height*tap.Width == c.Inputs {
			c.Tap, tap.Own = tap, true
		}
	}
	// A tap stands where its tensor is made, behind what leads to it.
	at := w.positions()
	slices.SortStableFunc(s.Taps, func(a, b *Tap) int { return at[a.Tensor] - at[b.Tensor] })
	if len(s.Taps) == 0 {
		return nil, &NotClassifierError{m.File, "no convolution or hidden fully connected layer can be measured" + because(s.Skipped)}
	}
	return s, nil
}

const (
	maxLabels = 1 << 15
	// maxFeatures bounds filters times positions of a tap, so that the sizes
	// computed from it stay far from overflowing.
	maxFeatures = 1 << 32
)

// A rowCheck tells whether the rows of a tensor are the samples of the input.
type rowCheck struct {
	batch inspect.Dim
	// numbered has a number in place of batch where that is open and without a
	// name, which is lost on the way through the graph; else it is nil.
	numbered *inspect.Graph
}

// numberedBatch stands for an open batch: any number above 1 does.
const numberedBatch = 3

// newRowCheck returns a rowCheck for an input whose first dimension is batch.
func newRowCheck(m *inspect.Model, batch inspect.Dim) (rowCheck, error) {
	if batch.Value >= 0 || batch.Name != "" {
		return rowCheck{batch: batch}, nil
	}
	opt := m.Options
	opt.Batch = numberedBatch
	g, err := inspect.NewGraph(m.Handle, opt)
	return rowCheck{batch, g}, err
}

// ok tells whether the tensor t, whose first dimension is rows, has a row for
// each sample, as far as can be told.
func (c rowCheck) ok(t string, rows inspect.Dim) bool {
	if rows.Value != c.batch.Value || rows.Name != "" && c.batch.Name != "" && rows.Name != c.batch.Name {
		return false
	}
	if c.numbered == nil {
		return true
	}
	s := c.numbered.Shape(t)
	return len(s.Dims) == 0 || s.Dims[0].Value < 0 || s.Dims[0].Value == numberedBatch
}

// newTap returns the tap at a place, or why there is none.
func newTap(g *inspect.Graph, at place, rows rowCheck) (*Tap, string) {
	shape := g.Shape(at.tensor)
	if reason := unfit(at.tensor, shape, rows); reason != "" {
		return nil, fmt.Sprintf("the shape of its output %q is %s: %s", at.tensor, shape, reason)
	}
	t := &Tap{Tensor: at.tensor, Height: 1, Width: 1, Pool: 1, cast: g.DType(at.tensor) != onnxfile.Float}
	d := shape.Dims[1:]
	if len(d) == 3 {
		if t.ChannelsLast = at.nhwc; t.ChannelsLast {
			d = []inspect.Dim{d[2], d[0], d[1]}
		}
		t.Height, t.Width = int(d[1].Value), int(d[2].Value)
	}
	t.Filters = int(d[0].Value)
	return t, ""
}

// unfit says why the tensor t of that shape is no tap, "" when it is one.
func unfit(t string, shape inspect.Shape, rows rowCheck) string {
	switch {
	case !shape.Known:
		return "give --input-shape"
	case len(shape.Dims) != 2 && len(shape.Dims) != 4:
		return "batch x filters or batch x filters x height x width is expected"
	}
	if !rows.ok(t, shape.Dims[0]) {
		return "its rows are not the samples of the input"
	}
	n := int64(1)
	for _, d := range shape.Dims[1:] {
		switch {
		case d.Value < 1:
			return "give --input-shape"
		case d.Value > maxFeatures/n:
			return "it is too large"
		}
		n *= d.Value
	}
	return ""
}

func because(skipped []Skip) string {
	if len(skipped) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s: %s)", skipped[0].Layer, skipped[0].Reason)
}

// Tap returns the tap of that tensor, nil when there is none.
func (s *Survey) Tap(tensor string) *Tap {
	for _, t := range s.Taps {
		if t.Tensor == tensor {
			return t
		}
	}
	return nil
}

// LayerTap returns the tap that the named layer ends in, nil when it has none.
func (s *Survey) LayerTap(layer string) *Tap {
	for _, t := range s.Taps {
		if slices.Contains(t.Layers, layer) {
			return t
		}
	}
	return nil
}

// InputTap returns the tap whose filters the tensor carries, in the same order:
// the tap itself or what comes from it by reshaping alone. It is nil for the image
// and for what is put together from several taps or computed from one.
func (s *Survey) InputTap(g *inspect.Graph, tensor string) *Tap {
	w := walker{g: g}
	for t, nhwc := range w.back(tensor) {
		if tap := s.Tap(t); tap != nil {
			if tap.ChannelsLast != nhwc && tap.Height*tap.Width > 1 {
				return nil
			}
			return tap
		}
	}
	return nil
}

// unary lists the operators that keep filters apart and in place.
var unary = map[string]bool{
	"BatchNormalization": true, "Relu": true, "LeakyRelu": true, "PRelu": true, "Elu": true, "Selu": true, "Celu": true,
	"Clip": true, "Sigmoid": true, "HardSigmoid": true, "HardSwish": true, "Tanh": true, "Softplus": true, "Softsign": true,
	"Mish": true, "Gelu": true, "ThresholdedRelu": true, "Dropout": true, "Identity": true, "InstanceNormalization": true,
	"Erf": true, "Exp": true, "Abs": true, "Neg": true, "Sqrt": true, "Pow": true, "Cast": true,
	"MaxPool": true, "AveragePool": true, "GlobalAveragePool": true, "GlobalMaxPool": true, "LpPool": true, "LRN": true,
}

// channelsFirst lists the operators of unary for which the second axis is that
// of the filters.
var channelsFirst = map[string]bool{
	"BatchNormalization": true, "InstanceNormalization": true, "LRN": true,
	"MaxPool": true, "AveragePool": true, "GlobalAveragePool": true, "GlobalMaxPool": true, "LpPool": true,
}

// A place is where a layer's filters are: in a tensor, on its second axis or, with
// nhwc, on the last of four; behind a concatenation filters of them from first on,
// else filters is 0.
type place struct {
	tensor         string
	nhwc           bool
	first, filters int
}

// axis returns the axis of the filters.
func (p place) axis() int {
	if p.nhwc {
		return 3
	}
	return 1
}

type walker struct {
	g     *inspect.Graph
	gates gates
	// varies holds the tensors that depend on the image, be it on its size.
	varies map[string]bool
}

func newWalker(g *inspect.Graph, image string) *walker {
	w := &walker{g: g, gates: findGates(g), varies: map[string]bool{image: true}}
	order, _ := g.Order() // what is on a cycle stands last
	for _, n := range order {
		if slices.ContainsFunc(n.Inputs, func(t string) bool { return w.varies[t] }) || len(n.Inputs) == 0 && n.Op != "Constant" || nested(n) {
			for _, out := range n.Outputs {
				w.varies[out] = out != ""
			}
		}
	}
	return w
}

// nested tells whether a node has graphs in it, which may read what surrounds them.
func nested(n *inspect.Node) bool {
	return slices.ContainsFunc(n.Proto.Attribute, func(a *onnxpb.AttributeProto) bool { return a.G != nil || len(a.Graphs) > 0 })
}

// constant tells whether a tensor is the same for every image.
func (w *walker) constant(t string) bool {
	return w.g.Has(t) && !w.g.IsInput(t) && !w.varies[t]
}

// positions returns the number of each tensor in an order in which nodes can run.
func (w *walker) positions() map[string]int {
	order, _ := w.g.Order()
	at := map[string]int{}
	for i, n := range order {
		for _, t := range n.Outputs {
			at[t] = i
		}
	}
	return at
}

// necks returns the tensors through which every way from the image to the output
// leads.
func (w *walker) necks(image, output string) map[string]bool {
	order, _ := w.g.Order()
	needed := map[string]bool{output: true}
	last := map[string]int{output: len(order)}
	for i := len(order) - 1; i >= 0; i-- {
		n := order[i]
		if !slices.ContainsFunc(n.Outputs, func(t string) bool { return needed[t] }) || n.Standard() && (n.Op == "Shape" || n.Op == "Size") {
			continue
		}
		for _, t := range n.Inputs {
			if !w.varies[t] || w.g.DType(t) != 0 && !w.g.DType(t).IsFloat() {
				continue
			}
			needed[t] = true
			last[t] = max(last[t], i)
		}
	}
	necks := map[string]bool{}
	ends := make([]int, len(order)+1) // tensors that are read last by a node
	ends[last[image]]++
	live := 1
	for i, n := range order {
		live -= ends[i]
		for _, t := range n.Outputs {
			if needed[t] {
				live++
				ends[last[t]]++
				necks[t] = live == 1
			}
		}
	}
	return necks
}

// begin returns the place of a layer's raw output.
func (w *walker) begin(l *inspect.Layer) place {
	return place{tensor: l.OutTensor, nhwc: l.Op == "MatMul" && len(w.g.Shape(l.OutTensor).Dims) == 4}
}

// side returns height and width of a layer's raw output, 1 for hidden units.
func (w *walker) side(l *inspect.Layer) [2]int64 {
	d := w.g.Shape(l.OutTensor).Dims
	switch {
	case len(d) != 4:
		return [2]int64{1, 1}
	case w.begin(l).nhwc:
		return [2]int64{d[1].Value, d[2].Value}
	}
	return [2]int64{d[2].Value, d[3].Value}
}

// follow walks from a layer's raw output to the tensor that the layer hands on.
// No walk is longer than the graph, whatever a malformed file makes of it.
func (w *walker) follow(p place) place {
	end := p
	for range w.g.Nodes {
		next, ok := w.step(p)
		if !ok {
			break
		}
		// A change of layout counts when something is computed behind it.
		if n := w.g.Producer(next.tensor); n == nil || n.Op != "Transpose" {
			end = next
		}
		p = next
	}
	return end
}

// step returns the place behind p as long as its tensor is the layer's own
// business: nothing but the next step of the same block reads it.
func (w *walker) step(p place) (place, bool) {
	t := p.tensor
	if w.g.IsOutput(t) {
		return p, false
	}
	to := func(out string) (place, bool) {
		p.tensor = out
		if len(w.g.Shape(out).Dims) == 2 {
			p.nhwc = false
		}
		return p, true
	}
	readers := w.readers(t)
	switch len(readers) {
	case 0:
		return p, false
	case 1:
		n := readers[0]
		if out := w.elementwise(n, p); out != "" {
			return to(out)
		}
		switch {
		case !n.Standard():
		case n.Op == "ReduceMean" && n.Input(0) == t && w.spatial(n, p):
			return to(n.Output(0))
		case (n.Op == "Add" || n.Op == "Sum" && len(n.Inputs) == 2) && n.Input(0) != n.Input(1):
			other := n.Input(0)
			if other == t {
				other = n.Input(1)
			}
			if w.sameShape(other, t) {
				return to(n.Output(0)) // the residual sum is what the next convolution reads
			}
		case n.Op == "Transpose":
			// There and back between N x C x H x W and N x H x W x C.
			if perm := n.AttrInts("perm"); slices.Equal(perm, toNHWC) && !p.nhwc || slices.Equal(perm, toNCHW) && p.nhwc {
				p.nhwc, p.tensor = !p.nhwc, n.Output(0)
				return p, true
			}
		}
	case 2:
		// An activation written out: t times a function of t alone, as in SiLU,
		// HardSwish and GELU.
		for i, n := range readers {
			if mul := readers[1-i]; mul.Op == "Mul" && mul.Standard() && w.reaches(n, p, mul) {
				return to(mul.Output(0))
			}
		}
	}
	if mul := w.gates.mul[t]; mul != nil {
		for _, r := range readers {
			if r != mul && !w.gates.branch[t][r.Index] {
				return p, false
			}
		}
		return to(mul.Output(0))
	}
	return w.join(p, readers)
}

// The permutations between the two layouts of a map.
var toNHWC, toNCHW = []int64{0, 2, 3, 1}, []int64{0, 3, 1, 2}

// join steps from a tensor that residual additions and concatenations read. With
// one more reader, of the filters one by one, that one leads on: it is the
// pre-activation of the next convolution, and the tensor itself only goes past it.
// With concatenations alone the first leads on.
func (w *walker) join(p place, readers []*inspect.Node) (place, bool) {
	var on string
	var concat *inspect.Node
	adds := 0
	for _, n := range readers {
		if out := w.elementwise(n, p); out != "" {
			if on != "" {
				return p, false
			}
			on = out
			continue
		}
		switch {
		case n.Standard() && (n.Op == "Add" || n.Op == "Sum"):
			adds++
		case n.Standard() && n.Op == "Concat":
			if concat == nil {
				concat = n
			}
		default:
			return p, false
		}
	}
	if on != "" {
		p.tensor = on
		return p, true
	}
	if concat == nil || adds > 0 {
		return p, false
	}
	shape := w.g.Shape(p.tensor)
	axis := concat.AttrInt("axis", 1)
	if axis < 0 {
		axis += int64(len(shape.Dims))
	}
	if !shape.Known || axis != int64(p.axis()) || axis >= int64(len(shape.Dims)) {
		return p, false
	}
	before, found := 0, false
	for _, in := range concat.Inputs {
		if in == p.tensor {
			if found {
				return p, false
			}
			found = true
		}
		d := w.g.Shape(in)
		if !d.Known || len(d.Dims) != len(shape.Dims) || d.Dims[axis].Value < 1 || d.Dims[axis].Value > maxFeatures {
			return p, false
		}
		if !found {
			before += int(d.Dims[axis].Value)
		}
	}
	if p.filters == 0 {
		p.filters = int(shape.Dims[axis].Value)
	}
	p.first += before
	p.tensor = concat.Output(0)
	return p, true
}

// elementwise returns the output of n when it keeps the filters at p apart and in
// place and all else that it reads is constant.
func (w *walker) elementwise(n *inspect.Node, p place) string {
	t := p.tensor
	if !n.Standard() {
		return ""
	}
	switch {
	case unary[n.Op] && n.Input(0) == t && !(p.nhwc && channelsFirst[n.Op]):
		return n.Output(0)
	case n.Op == "Pad" && n.Input(0) == t && w.padsMapsOnly(n, p):
		return n.Output(0)
	case n.Op == "Add" || n.Op == "Mul" || n.Op == "Sub" || n.Op == "Div" || n.Op == "Min" || n.Op == "Max":
		found := false
		for _, in := range n.Inputs {
			if in == t && !found {
				found = true
			} else if !w.constant(in) {
				return ""
			}
		}
		if found && w.sameShape(t, n.Output(0)) {
			return n.Output(0)
		}
	}
	return ""
}

// reaches tells whether the way from p through n leads to mul element by element.
func (w *walker) reaches(n *inspect.Node, p place, mul *inspect.Node) bool {
	for range w.g.Nodes {
		if n == mul {
			return true
		}
		out := w.elementwise(n, p)
		if out == "" || w.g.IsOutput(out) || !w.sameShape(out, p.tensor) {
			return false
		}
		readers := w.readers(out)
		if len(readers) != 1 {
			return false
		}
		n, p.tensor = readers[0], out
	}
	return false
}

// pads returns the constant paddings of a Pad, all beginnings, then all ends.
func (w *walker) pads(n *inspect.Node) ([]int64, bool) {
	if p := n.AttrInts("pads"); p != nil {
		return p, true
	}
	if n.Input(3) != "" {
		return nil, false // only some axes
	}
	return w.g.Ints(n.Input(1))
}

// padsMapsOnly tells whether a Pad leaves the samples and the filters as they are.
func (w *walker) padsMapsOnly(n *inspect.Node, at place) bool {
	p, ok := w.pads(n)
	c := at.axis()
	return ok && len(p) == 8 && p[0] == 0 && p[c] == 0 && p[4] == 0 && p[4+c] == 0
}

// readers returns the nodes that read the numbers of t; who asks for its shape
// alone does not count.
func (w *walker) readers(t string) []*inspect.Node {
	var rs []*inspect.Node
	for _, n := range w.g.Consumers(t) {
		if n.Op != "Shape" && n.Op != "Size" || !n.Standard() {
			rs = append(rs, n)
		}
	}
	return rs
}

func (w *walker) sameShape(a, b string) bool {
	x, y := w.g.Shape(a), w.g.Shape(b)
	if !x.Known || !y.Known {
		return false
	}
	return slices.Equal(x.Dims, y.Dims)
}

// spatial tells whether a ReduceMean averages over positions only.
func (w *walker) spatial(n *inspect.Node, p place) bool {
	axes := n.AttrInts("axes")
	if axes == nil && n.Input(1) != "" {
		axes, _ = w.g.Ints(n.Input(1))
	}
	rank := len(w.g.Shape(n.Input(0)).Dims)
	if rank != 4 || len(axes) != 2 {
		return false
	}
	for _, a := range axes {
		if a < 0 {
			a += int64(rank)
		}
		if a < 1 || a > 3 || a == int64(p.axis()) {
			return false
		}
	}
	return true
}

// unshape returns the tensor from which t comes by reshaping alone, "" when
// something else made it.
func (w *walker) unshape(t string) string {
	n := w.g.Producer(t)
	if n == nil || !n.Standard() {
		return ""
	}
	switch n.Op {
	case "Flatten":
		if n.AttrInt("axis", 1) == 1 {
			return n.Input(0)
		}
	case "Pad":
		if p, ok := w.pads(n); ok && !slices.ContainsFunc(p, func(v int64) bool { return v != 0 }) {
			return n.Input(0)
		}
	case "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast":
		return n.Input(0)
	}
	return ""
}

// back yields t, which has its filters on the second axis, and what it comes from
// by reshaping alone, as far as that goes; nhwc tells that the filters are on the
// last of four axes.
func (w *walker) back(t string) iter.Seq2[string, bool] {
	return func(yield func(t string, nhwc bool) bool) {
		nhwc := false
		for range len(w.g.Nodes) + 1 {
			if t == "" || !yield(t, nhwc) {
				return
			}
			if n := w.g.Producer(t); n != nil && n.Standard() && n.Op == "Transpose" {
				switch perm := n.AttrInts("perm"); {
				case slices.Equal(perm, toNCHW) && !nhwc, slices.Equal(perm, toNHWC) && nhwc:
					nhwc = !nhwc
				case slices.Equal(perm, toNHWC) && w.single(n.Input(0)):
				default:
					return
				}
				t = n.Input(0)
				continue
			}
			next := w.unshape(t)
			if nhwc && !w.sameShape(t, next) {
				return
			}
			t = next
		}
	}
}

// single tells whether the maps of an N x C x H x W tensor have one position.
func (w *walker) single(t string) bool {
	d := w.g.Shape(t).Dims
	return len(d) == 4 && d[2].Value == 1 && d[3].Value == 1
}

// endsInOutput tells whether t reaches the model's output through nothing but
// reshaping and Softmax.
func (w *walker) endsInOutput(t, output string) bool {
	o := output
	for range len(w.g.Nodes) + 1 {
		if o == t {
			return true
		}
		n := w.g.Producer(o)
		if n != nil && n.Standard() && (n.Op == "Softmax" || n.Op == "LogSoftmax" || n.Op == "Transpose") {
			o = n.Input(0)
		} else {
			o = w.unshape(o)
		}
	}
	return false
}

// classifier finds the linear layer behind the model's output.
func (w *walker) classifier(m *inspect.Model, output string, k int) *Classifier {
	t := output
	for range m.Graph.Nodes {
		n := w.g.Producer(t)
		if n == nil || !n.Standard() {
			return nil
		}
		switch n.Op {
		case "Softmax", "LogSoftmax":
			t = n.Input(0)
			continue
		case "Add":
			if _, ok := w.g.Stored(n.Input(1)); ok {
				t = n.Input(0)
			} else if _, ok := w.g.Stored(n.Input(0)); ok {
				t = n.Input(1)
			} else {
				return nil
			}
			continue
		case "Gemm", "MatMul", "Conv":
		default:
			if t = w.unshape(t); t == "" {
				return nil
			}
			continue
		}
		for i := range m.Layers {
			l := &m.Layers[i]
			if l.Node != n.Index || l.Scope != "" {
				continue
			}
			st, ok := w.g.Stored(n.Input(1))
			if !ok || len(st.Through) > 0 || n.AttrInt("transA", 0) != 0 {
				return nil
			}
			dims := st.Tensor.Dims()
			c := &Classifier{Layer: l.Name, Node: n.Index, Weight: st.Name, In: n.Input(0)}
			switch {
			case n.Op == "Conv":
				// A linear layer, when it sees one position.
				if len(dims) != 4 || dims[2] != 1 || dims[3] != 1 || l.Group > 1 || !w.single(c.In) || !w.single(n.Output(0)) {
					return nil
				}
			case len(dims) != 2:
				return nil
			default:
				c.Transposed = n.Op == "MatMul" || n.AttrInt("transB", 0) == 0
			}
			rows, cols := dims[0], dims[1]
			if c.Transposed {
				rows, cols = cols, rows
			}
			if rows != int64(k) || cols < 1 {
				return nil
			}
			c.Outputs, c.Inputs = k, int(cols)
			return c
		}
		return nil
	}
	return nil
}

// gates holds the squeeze-excite branches: by the tensor that is scaled, the
// Mul that scales it and the nodes of the branch; node marks all of the latter.
type gates struct {
	mul    map[string]*inspect.Node
	branch map[string]map[int]bool
	node   map[int]bool
}

// gateDepth bounds the walk back from a Mul to the pooling: two convolutions
// or fully connected layers with biases, activations and reshaping.
const gateDepth = 24

func findGates(g *inspect.Graph) gates {
	gs := gates{map[string]*inspect.Node{}, map[string]map[int]bool{}, map[int]bool{}}
	for _, n := range g.Nodes {
		if n.Op != "Mul" || !n.Standard() || len(n.Inputs) != 2 {
			continue
		}
		for i := range 2 {
			scaled, gate := n.Input(i), n.Input(1-i)
			branch, ok := gateBranch(g, gate, scaled)
			if !ok {
				continue
			}
			gs.mul[scaled], gs.branch[scaled] = n, branch
			for idx := range branch {
				gs.node[idx] = true
			}
			break
		}
	}
	return gs
}

// gateBranch walks back from gate. It is a squeeze-excite branch when every way
// ends in a pooling of scaled and at least one linear layer lies on it.
func gateBranch(g *inspect.Graph, gate, scaled string) (map[int]bool, bool) {
	branch := map[int]bool{}
	linear, pooled := false, false
	queue := []string{gate}
	for len(queue) > 0 {
		t := queue[0]
		queue = queue[1:]
		if _, constant := g.Stored(t); constant {
			continue
		}
		n := g.Producer(t)
		if n == nil || len(branch) > gateDepth {
			return nil, false
		}
		if branch[n.Index] {
			continue
		}
		branch[n.Index] = true
		switch n.Op {
		case "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "AveragePool":
			if n.Input(0) != scaled {
				return nil, false
			}
			pooled = true
			continue
		case "Conv", "Gemm", "MatMul":
			linear = true
			queue = append(queue, n.Input(0))
		case "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Clip":
			queue = append(queue, n.Input(0))
		default:
			queue = append(queue, n.Inputs...)
		}
	}
	return branch, linear && pooled
}
