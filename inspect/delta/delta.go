package delta

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Options says what counts as a difference. The zero value is exact, but for
// rounding that the files explain: a type of less precision, or a
// BatchNormalization that one of them has folded.
type Options struct {
	// RTol and ATol are tolerances of numbers: b is within when
	// |b-a| <= ATol + RTol*|a|. Both must be finite and not negative.
	RTol, ATol float64
	// Similarity is the least cosine at which a filter of A counts as living on
	// in B, 0.5 when zero. Where a filter has so few weights that chance alone would
	// do as much, the limit is what chance does: sqrt(2 ln(n m) / d) for n and m
	// filters of d weights, at most 0.95.
	Similarity float64
	// SkipFilters leaves out the search for filters; then layers with other numbers
	// of filters or channels are not compared, and what was permuted differs.
	SkipFilters bool
	// Workers bounds the goroutines, GOMAXPROCS when zero. No result depends on
	// it.
	Workers int
	// Progress, if any, is told how many numbers of how many have been compared
	// where they stand; one call at a time. The search for filters comes after.
	Progress func(done, total int64)
}

// defaultSimilarity is the cosine above which a filter has been changed and not
// replaced. Filters that have nothing to do with each other are far below it in
// the dimensions of a layer's weights.
const defaultSimilarity = 0.5

// A Delta is what differs between two models, A and B. Both are compared in
// canonical form; what is written in another way only is no difference. Graphs
// nested in attributes are compared by a digest of their canonical form, with a
// sample of their weights. Not compared are initializers that no node reads,
// functions that no node calls, training_info, value_info and doc strings.
type Delta struct {
	// A and B are the names of the files.
	A string `json:"a"`
	B string `json:"b"`
	// RTol, ATol and Similarity are those that it was made with.
	RTol       float64 `json:"rtol"`
	ATol       float64 `json:"atol"`
	Similarity float64 `json:"similarity"`
	// Same says that no node is changed, moved, added or removed and that inputs
	// and outputs have the same types and shapes: the models differ in names,
	// metadata, operator sets and ways of writing alone, and in numbers within
	// tolerance.
	Same bool `json:"same"`
	// Model lists what differs in the file's head: ir_version, opset,
	// producer_name, producer_version, domain, model_version and metadata.
	Model []Change `json:"model"`
	// Inputs and Outputs pair those of A and B, by name and then by position.
	Inputs  []ValueDelta `json:"inputs"`
	Outputs []ValueDelta `json:"outputs"`
	// Nodes has the operators of A in the order in which they run; those that only
	// B has stand behind what they stand behind in B.
	Nodes  []NodeDelta `json:"nodes"`
	Totals Totals      `json:"totals"`
}

// Kind says what became of an operator or of an input or output.
type Kind string

// The kinds. Where several hold, the last of them in this list is told.
const (
	Kept    Kind = "kept"    // the same, in the same place, under the same name
	Renamed Kind = "renamed" // the same in the same place
	Moved   Kind = "moved"   // the same in another place
	Changed Kind = "changed" // told by Changes
	Added   Kind = "added"   // B has it, A does not
	Removed Kind = "removed" // A has it, B does not
)

// A Change is a property that differs.
type Change struct {
	// What differs. Of the model: see Delta.Model. Of an input or output: type,
	// shape, source (what an output has been given is put out by another operator). Of
	// a node: operator, attribute, weight, bias, operand, filters (their
	// number), filter_order, channels (the number of those that it reads),
	// channel_order, input (it reads from another operator).
	What string `json:"what"`
	// Name is that of an attribute, an operator set or an entry of the metadata,
	// or the position of an operand or input.
	Name string `json:"name,omitempty"`
	// From and To are the values in A and B as text, empty where there is none.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// A ValueDelta is an input or output of the models.
type ValueDelta struct {
	Kind Kind `json:"kind"`
	// A and B are nil on the side that has none.
	A *inspect.Value `json:"a,omitempty"`
	B *inspect.Value `json:"b,omitempty"`
	// Changes says what differs besides the name: type, shape, source. The names of
	// symbolic dimensions do not count.
	Changes []Change `json:"changes,omitempty"`
}

// A NodeDelta is what became of one operator of the canonical form.
type NodeDelta struct {
	Kind Kind `json:"kind"`
	// A and B describe the two sides, nil on the side that has none.
	A *Node `json:"a,omitempty"`
	B *Node `json:"b,omitempty"`
	// Renamed, Moved and Rewritten may hold beside any kind: another name; another
	// place; the same written with other operators of the file.
	Renamed   bool `json:"renamed,omitempty"`
	Moved     bool `json:"moved,omitempty"`
	Rewritten bool `json:"rewritten,omitempty"`
	// Unclear says that another operator would have matched as well.
	Unclear bool `json:"unclear,omitempty"`
	// Changes says what differs.
	Changes []Change `json:"changes,omitempty"`
	// Tensors compares what both sides have of weight, bias and further constants,
	// in this order.
	Tensors []TensorDelta `json:"tensors,omitempty"`
	// Filters says which filters of A live on, of a Conv, of a Linear and of
	// operators that work channel by channel; nil for other operators.
	Filters *FilterDelta `json:"filters,omitempty"`
}

// A Node is an operator of the canonical form, in one of the models.
type Node struct {
	// Name is that of the first named node of the file that it stands for, else
	// that of its output.
	Name string `json:"name"`
	// Op is the canonical operator; Linear stands for Gemm and for MatMul by a
	// constant.
	Op string `json:"op"`
	// Nodes are the operators of the file that it stands for.
	Nodes []string `json:"nodes"`
	// Output is the name of the first tensor that comes out, Shape its shape.
	Output string        `json:"output"`
	Shape  inspect.Shape `json:"shape"`
	// Index is its place among the operators of its model, in the order in which
	// they run.
	Index int `json:"-"`
}

// Agreement says how near two tensors are.
type Agreement string

// The agreements.
const (
	Equal      Agreement = "equal"        // every number is the same
	Within     Agreement = "within"       // the differences are within the tolerance, or explained by rounding
	Differs    Agreement = "differs"      // some are not
	Incomplete Agreement = "not compared" // shapes differ, or the numbers cannot be read; see Note
)

// A TensorDelta compares a constant of an operator with that of its partner.
type TensorDelta struct {
	// What it is: weight, bias or operand; Position is that of an operand among
	// the node's inputs.
	What     string `json:"what"`
	Position int    `json:"position,omitempty"`
	// A and B describe the two sides, nil where the operator has none; a bias that
	// is missing is compared as zeros.
	A *Tensor `json:"a,omitempty"`
	B *Tensor `json:"b,omitempty"`
	// Agreement sums up Values.
	Agreement Agreement `json:"agreement"`
	// Aligned says that not all numbers were compared by place but those of
	// filters and channels that live on, each with its new place: see
	// NodeDelta.Filters.
	Aligned bool `json:"aligned,omitempty"`
	// Values is nil when numbers were not compared.
	Values *Values `json:"values,omitempty"`
	// Note says why not.
	Note string `json:"note,omitempty"`
}

// A Tensor describes a constant as it is stored.
type Tensor struct {
	Name  string  `json:"name"`
	DType string  `json:"dtype"`
	Dims  []int64 `json:"dims"`
	// Effective says that the numbers are not the stored ones: a
	// BatchNormalization or another scale and shift is folded in.
	Effective bool `json:"effective,omitempty"`
}

// Totals counts.
type Totals struct {
	Kept    int `json:"kept"`
	Renamed int `json:"renamed"`
	Moved   int `json:"moved"`
	Changed int `json:"changed"`
	Added   int `json:"added"`
	Removed int `json:"removed"`
	// Rewritten and Unclear count nodes of any kind.
	Rewritten int `json:"rewritten"`
	Unclear   int `json:"unclear"`
	// Tensors counts those compared, by agreement.
	TensorsEqual    int   `json:"tensors_equal"`
	TensorsWithin   int   `json:"tensors_within"`
	TensorsDiffer   int   `json:"tensors_differ"`
	TensorsNotRead  int   `json:"tensors_not_compared"`
	TensorsRetyped  int   `json:"tensors_retyped"`
	ElementsChanged int64 `json:"elements_changed"`
	Elements        int64 `json:"elements"`
	// Digits is the least of Values.Digits, nil when no number differs.
	Digits *int `json:"digits"`
	// Filters sums up the layers in which filters were looked for.
	Filters FilterCounts `json:"filters"`
}

// Compare says what differs between two models whose files are open and stay so
// until it returns. Weights are read block by block; memory does not grow with
// them, except where a layer that was changed is stored with its filters in
// columns. A graph with a cycle is an *inspect.GraphError, a tensor that cannot be
// read an *onnxfile.TensorError.
func Compare(ctx context.Context, a, b *inspect.Model, opt Options) (*Delta, error) {
	for _, tol := range []float64{opt.RTol, opt.ATol} {
		if !(tol >= 0 && tol <= math.MaxFloat64) {
			return nil, fmt.Errorf("tolerance %v: it must be a finite number, zero or more", tol)
		}
	}
	if opt.Similarity == 0 {
		opt.Similarity = defaultSimilarity
	}
	if !(opt.Similarity > 0 && opt.Similarity <= 1) {
		return nil, fmt.Errorf("similarity %v: it must be above 0 and at most 1", opt.Similarity)
	}
	for _, m := range []*inspect.Model{a, b} {
		if m.Graph == nil || m.Handle == nil {
			return nil, fmt.Errorf("%s: only the description is there; open the model's file", m.File)
		}
	}
	ga, err := canonical(ctx, a)
	if err != nil {
		return nil, err
	}
	gb, err := canonical(ctx, b)
	if err != nil {
		return nil, err
	}
	d := &Delta{A: a.File, B: b.File, RTol: opt.RTol, ATol: opt.ATol, Similarity: opt.Similarity}
	d.Model = modelChanges(a, b)
	d.Inputs = pairValues(a.Inputs, b.Inputs)
	d.Outputs = pairValues(a.Outputs, b.Outputs)
	align(ga, gb, a, b)
	m, err := match(ctx, ga, gb)
	if err != nil {
		return nil, err
	}
	d.Nodes = m.structureDeltas()
	m.sources(d)
	if err := m.weights(ctx, d, opt); err != nil {
		return nil, err
	}
	d.Nodes = m.inPlace(d.Nodes)
	d.Recount()
	return d, nil
}

// inPlace puts the operators that only B has, which stand last, behind the partner
// of the one that they stand behind in B.
func (m *matcher) inPlace(list []NodeDelta) []NodeDelta {
	n := len(m.a.ops)
	added := list[n:]
	behind := make([][]NodeDelta, n+1)
	last := 0
	for j := range m.b.ops {
		if i := m.b.pair[j]; i >= 0 {
			last = i + 1
			continue
		}
		behind[last], added = append(behind[last], added[0]), added[1:]
	}
	out := append(make([]NodeDelta, 0, len(list)), behind[0]...)
	for i, x := range list[:n] {
		out = append(append(out, x), behind[i+1]...)
	}
	return out
}

// modelChanges compares the heads of two files.
func modelChanges(a, b *inspect.Model) []Change {
	list := []Change{}
	text := func(what, name, from, to string) {
		if from != to {
			list = append(list, Change{What: what, Name: name, From: from, To: to})
		}
	}
	number := func(what string, from, to int64) {
		text(what, "", strconv.FormatInt(from, 10), strconv.FormatInt(to, 10))
	}
	number("ir_version", a.IRVersion, b.IRVersion)
	opsets := func(m *inspect.Model) (keys []string, values map[string]string) {
		values = map[string]string{}
		for _, o := range m.Opsets {
			name := o.Domain
			if name == "" {
				name = "ai.onnx"
			}
			keys = append(keys, name)
			values[name] = strconv.FormatInt(o.Version, 10)
		}
		return
	}
	metadata := func(m *inspect.Model) (keys []string, values map[string]string) {
		values = map[string]string{}
		for _, kv := range m.Metadata {
			keys = append(keys, kv.Key)
			values[kv.Key] = kv.Value
		}
		return
	}
	table := func(what string, of func(*inspect.Model) ([]string, map[string]string)) {
		ka, va := of(a)
		kb, vb := of(b)
		keys := append(slices.Clone(ka), kb...)
		slices.Sort(keys)
		for _, k := range slices.Compact(keys) {
			from, inA := va[k]
			to, inB := vb[k]
			if from != to || inA != inB {
				list = append(list, Change{What: what, Name: k, From: from, To: to})
			}
		}
	}
	table("opset", opsets)
	text("producer_name", "", a.Producer, b.Producer)
	text("producer_version", "", a.ProducerVersion, b.ProducerVersion)
	text("domain", "", a.Domain, b.Domain)
	number("model_version", a.ModelVersion, b.ModelVersion)
	table("metadata", metadata)
	return list
}

// pairNames pairs the elements of two lists by name, then in order. It returns
// for each of a the partner in b, or -1.
func pairNames(a, b []inspect.Value) []int {
	pair := make([]int, len(a))
	taken := make([]bool, len(b))
	named := map[string][]int{}
	for j, w := range b {
		named[w.Name] = append(named[w.Name], j)
	}
	for i, v := range a {
		pair[i] = -1
		if l := named[v.Name]; len(l) > 0 {
			pair[i], named[v.Name] = l[0], l[1:]
			taken[l[0]] = true
		}
	}
	next := 0
	for i := range a {
		if pair[i] >= 0 {
			continue
		}
		for next < len(b) && taken[next] {
			next++
		}
		if next < len(b) {
			pair[i], taken[next] = next, true
		}
	}
	return pair
}

func pairValues(a, b []inspect.Value) []ValueDelta {
	list := []ValueDelta{}
	pair := pairNames(a, b)
	for i := range a {
		v := ValueDelta{A: &a[i], Kind: Removed}
		if j := pair[i]; j >= 0 {
			v.B = &b[j]
			if a[i].DType != b[j].DType {
				v.Changes = append(v.Changes, Change{What: "type", From: a[i].DType, To: b[j].DType})
			}
			if !sameShape(a[i].Shape, b[j].Shape) {
				v.Changes = append(v.Changes, Change{What: "shape", From: a[i].Shape.String(), To: b[j].Shape.String()})
			}
		}
		list = append(list, v)
	}
	taken := map[int]bool{}
	for _, j := range pair {
		taken[j] = true
	}
	for j := range b {
		if !taken[j] {
			list = append(list, ValueDelta{B: &b[j], Kind: Added})
		}
	}
	return list
}

// sameShape compares the numbers of two shapes, not the names of symbols.
func sameShape(a, b inspect.Shape) bool {
	return a.Known == b.Known && slices.EqualFunc(a.Dims, b.Dims, func(x, y inspect.Dim) bool { return x.Value == y.Value })
}

// align numbers the inputs and outputs of gb as those of ga that they are paired
// with.
func align(ga, gb *graph, a, b *inspect.Model) {
	inputs := map[int]int{} // of B to A
	for i, j := range pairNames(a.Inputs, b.Inputs) {
		inputs[j] = i
	}
	renumber := func(r ref) ref {
		if r.op != nil || r.in < 0 {
			return r
		}
		if i, ok := inputs[r.in]; ok {
			r.in = i
		} else {
			r.in += len(a.Inputs)
		}
		return r
	}
	names := make([]string, len(a.Inputs)+len(b.Inputs))
	for j, name := range gb.inputs {
		names[renumber(ref{in: j}).in] = name
	}
	gb.inputs = names
	for _, o := range gb.ops {
		for k := range o.ins {
			o.ins[k] = renumber(o.ins[k])
		}
	}
	var outs []ref
	pair := pairNames(a.Outputs, b.Outputs)
	taken := map[int]bool{}
	for _, j := range pair {
		taken[j] = true
		if j >= 0 {
			outs = append(outs, renumber(gb.outputs[j]))
		} else {
			outs = append(outs, ref{in: -1})
		}
	}
	for j, r := range gb.outputs {
		if !taken[j] {
			outs = append(outs, renumber(r))
		}
	}
	gb.outputs = outs
	gb.findReaders()
}

// describe makes the public form of an op.
func (o *op) describe() *Node {
	n := &Node{Name: o.label(), Op: o.kind, Nodes: []string{}, Index: o.id}
	for _, x := range o.nodes {
		s := x.Op
		if !x.Standard() {
			s = x.Domain + "." + s
		}
		n.Nodes = append(n.Nodes, s)
	}
	if len(o.outs) > 0 {
		n.Output = o.outs[0]
		n.Shape = o.g.Shape(n.Output)
	}
	return n
}

// structureDeltas says what became of each op but for its weights: those of A in
// order, then those that only B has.
func (m *matcher) structureDeltas() []NodeDelta {
	list := []NodeDelta{}
	inOrder := m.inOrder()
	for i, a := range m.a.ops {
		d := NodeDelta{Kind: Removed, A: a.describe()}
		if j := m.a.pair[i]; j >= 0 {
			b := m.b.ops[j]
			d.Kind, d.B, d.Unclear = Kept, b.describe(), m.unclear[i]
			d.Renamed = renamed(a, b)
			d.Rewritten = a.kind == b.kind && !slices.Equal(d.A.Nodes, d.B.Nodes)
			if a.kind != b.kind {
				d.Changes = append(d.Changes, Change{What: "operator", From: a.kind, To: b.kind})
			}
			d.Changes = append(d.Changes, attributeChanges(a, b)...)
			moved, wires := m.wiring(a, b, inOrder)
			d.Moved = moved
			d.Changes = append(d.Changes, wires...)
		}
		list = append(list, d)
	}
	for j, b := range m.b.ops {
		if m.b.pair[j] < 0 {
			list = append(list, NodeDelta{Kind: Added, B: b.describe()})
		}
	}
	return list
}

func renamed(a, b *op) bool {
	if n, k := a.nodes[0], b.nodes[0]; n.Name != "" && k.Name != "" {
		return n.Name != k.Name
	}
	if len(a.nodes) != len(b.nodes) || len(a.outs) == 0 || len(b.outs) == 0 {
		return false // the last output of another number of nodes has to have another name
	}
	return a.outs[0] != b.outs[0]
}

func attributeChanges(a, b *op) (list []Change) {
	if a.kind != b.kind {
		return nil
	}
	texts := func(o *op) map[string]string {
		t := map[string]string{}
		for _, x := range o.attrs {
			t[x.name] = x.text
		}
		if o.depthwise() {
			delete(t, "group") // the number of channels
		}
		return t
	}
	ta, tb := texts(a), texts(b)
	if a.depthwise() != b.depthwise() {
		ta["group"], tb["group"] = strconv.FormatInt(a.group, 10), strconv.FormatInt(b.group, 10)
	}
	var names []string
	for name := range ta {
		names = append(names, name)
	}
	for name := range tb {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if ta[name] != tb[name] {
			list = append(list, Change{What: "attribute", Name: name, From: ta[name], To: tb[name]})
		}
	}
	return list
}

// depthwise tells whether each filter of a Conv reads one channel.
func (o *op) depthwise() bool {
	if o.kind != "Conv" || o.weight == nil || len(o.weight.dims) < 3 {
		return false
	}
	return o.group > 1 && o.weight.dims[1] == 1
}

// inOrder tells which ops of a have partners in the order of a: those of the
// longest ascending sequence of partners.
func (m *matcher) inOrder() []bool {
	var at []int // ops of a
	var seq []int
	for i := range m.a.ops {
		if j := m.a.pair[i]; j >= 0 {
			at, seq = append(at, i), append(seq, j)
		}
	}
	in := make([]bool, len(m.a.ops))
	for _, k := range ascending(seq) {
		in[at[k]] = true
	}
	return in
}

// ascending returns the positions of a longest ascending subsequence of distinct
// numbers (patience sorting; Fredman, "On computing the length of longest
// increasing subsequences", 1975).
func ascending(seq []int) []int {
	var tails []int // positions of the least last element of each length
	before := make([]int, len(seq))
	for i, v := range seq {
		k, _ := slices.BinarySearchFunc(tails, v, func(t, v int) int { return seq[t] - v })
		before[i] = -1
		if k > 0 {
			before[i] = tails[k-1]
		}
		if k == len(tails) {
			tails = append(tails, i)
		} else {
			tails[k] = i
		}
	}
	if len(tails) == 0 {
		return nil
	}
	var out []int
	for i := tails[len(tails)-1]; i >= 0; i = before[i] {
		out = append(out, i)
	}
	slices.Reverse(out)
	return out
}

// sources tells which outputs of the models are put out by operators that are not
// each other's partner, unless an operator that was added, removed or moved tells it.
func (m *matcher) sources(d *Delta) {
	for i, r := range m.a.outputs {
		v := &d.Outputs[i]
		if v.B == nil {
			continue
		}
		to := m.b.outputs[i]
		told := false
		for _, x := range []struct {
			ref
			pair []int
		}{{r, m.a.pair}, {to, m.b.pair}} {
			told = told || x.op == nil && x.in < 0 || x.op != nil && x.pair[x.op.id] < 0
		}
		if told || r.op != nil && d.Nodes[r.op.id].Moved || to.op != nil && d.Nodes[m.b.pair[to.op.id]].Moved {
			continue
		}
		if !m.reaches(r, to) {
			name := func(g *graph, r ref) string {
				if r.op == nil {
					return refName(g, r)
				}
				return r.op.kind + " " + refName(g, r)
			}
			v.Changes = append(v.Changes, Change{What: "source", From: name(m.a.graph, r), To: name(m.b.graph, to)})
		}
	}
}

// wiring tells whether an op has moved, and which of its inputs come from
// somewhere else though it has not. What was added or removed in between does not
// count, nor does what moved away.
func (m *matcher) wiring(a, b *op, inOrder []bool) (moved bool, list []Change) {
	if len(a.ins) == 0 && len(b.ins) == 0 {
		return false, nil
	}
	var from, to []ref
	match := make([]bool, len(b.ins))
	for k, x := range a.ins {
		found := false
		for l, y := range b.ins {
			if match[l] || l != k && !(a.commutes() && b.commutes()) {
				continue
			}
			if m.reaches(x, y) {
				match[l], found = true, true
				break
			}
		}
		if !found {
			from = append(from, x)
		}
	}
	for l, y := range b.ins {
		if !match[l] {
			to = append(to, y)
		}
	}
	if len(from) == 0 && len(to) == 0 {
		return false, nil
	}
	if !inOrder[a.id] {
		return true, nil
	}
	for k := range max(len(from), len(to)) {
		c := Change{What: "input"}
		if k < len(from) {
			c.From = refName(m.a.graph, from[k])
		}
		if k < len(to) {
			c.To = refName(m.b.graph, to[k])
		}
		if k < len(from) && from[k].op != nil && !inOrder[from[k].op.id] {
			continue // what it read has moved away
		}
		if k < len(to) && to[k].op != nil && m.b.pair[to[k].op.id] >= 0 && !inOrder[m.b.pair[to[k].op.id]] {
			continue // what it reads has moved here
		}
		list = append(list, c)
	}
	return false, list
}

// reaches tells whether two inputs come from partners, through what has none.
func (m *matcher) reaches(x, y ref) bool {
	if m.sameRef(x, y) {
		return true
	}
	origins := func(s *side, r ref, name func(o *op) uint64) map[uint64]bool {
		out := map[uint64]bool{}
		seen := map[*op]bool{}
		stack := []ref{r}
		for len(stack) > 0 {
			r := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			switch {
			case r.op == nil:
				out[hash("input", r.in)] = true
			case s.pair[r.op.id] >= 0:
				out[hash(name(r.op), r.out)] = true
			case !seen[r.op]:
				seen[r.op] = true
				stack = append(stack, r.op.ins...)
			}
		}
		return out
	}
	oa := origins(m.a, x, func(o *op) uint64 { return hash("op", o.id) })
	ob := origins(m.b, y, func(o *op) uint64 { return hash("op", m.b.pair[o.id]) })
	for k := range oa {
		if ob[k] {
			return true
		}
	}
	return false
}

func refName(g *graph, r ref) string {
	switch {
	case r.op != nil:
		return r.op.label()
	case r.in >= 0 && r.in < len(g.inputs):
		return g.inputs[r.in]
	}
	return ""
}

// tensorOf describes a view.
func tensorOf(v *view) *Tensor {
	if v == nil {
		return nil
	}
	t := &Tensor{Name: v.name, Dims: v.dims, Effective: v.made()}
	if v.stored {
		t.Dims = v.t.Dims()
	}
	if v.dtype != 0 {
		t.DType = v.dtype.String()
	}
	if t.Dims == nil {
		t.Dims = []int64{}
	}
	return t
}

// Recount sets Kind of all that both sides have, Same and Totals anew: after
// something was taken out of d that is not to be told or to count.
func (d *Delta) Recount() {
	d.Totals = Totals{}
	t := &d.Totals
	d.Same = true
	for i := range d.Nodes {
		n := &d.Nodes[i]
		if n.A != nil && n.B != nil {
			n.Kind = Kept
			switch {
			case len(n.Changes) > 0:
				n.Kind = Changed
			case n.Moved:
				n.Kind = Moved
			case n.Renamed:
				n.Kind = Renamed
			}
		}
		for _, k := range []struct {
			kind  Kind
			count *int
		}{{Kept, &t.Kept}, {Renamed, &t.Renamed}, {Moved, &t.Moved}, {Changed, &t.Changed}, {Added, &t.Added}, {Removed, &t.Removed}} {
			if n.Kind == k.kind {
				*k.count++
			}
		}
		d.Same = d.Same && (n.Kind == Kept || n.Kind == Renamed)
		if n.Rewritten {
			t.Rewritten++
		}
		if n.Unclear {
			t.Unclear++
		}
		for _, x := range n.Tensors {
			t.add(&x)
		}
		if n.Filters != nil {
			t.Filters.add(&n.Filters.FilterCounts)
		}
	}
	for _, list := range [][]ValueDelta{d.Inputs, d.Outputs} {
		for i := range list {
			v := &list[i]
			if v.A != nil && v.B != nil {
				v.Kind = Kept
				switch {
				case v.Changes != nil:
					v.Kind = Changed
				case v.A.Name != v.B.Name:
					v.Kind = Renamed
				}
			}
			d.Same = d.Same && (v.Kind == Kept || v.Kind == Renamed)
		}
	}
}

func (t *Totals) add(x *TensorDelta) {
	switch x.Agreement {
	case Equal:
		t.TensorsEqual++
	case Within:
		t.TensorsWithin++
	case Differs:
		t.TensorsDiffer++
	default:
		t.TensorsNotRead++
	}
	if x.A != nil && x.B != nil && x.A.DType != x.B.DType {
		t.TensorsRetyped++
	}
	if v := x.Values; v != nil {
		t.Elements += v.Elements
		t.ElementsChanged += v.Changed
		if v.Digits != nil && (t.Digits == nil || *v.Digits < *t.Digits) {
			t.Digits = v.Digits
		}
	}
}

// exactInteger tells whether values of d may be rounded as float64.
func exactInteger(d onnxfile.DType) bool { return d.IsInteger() && d.Bits() == 64 }
