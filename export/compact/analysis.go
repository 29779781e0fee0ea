package compact

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A track is the axis of a tensor along which its channels lie. Place i of it is
// slot base+i.
type track struct {
	name    string
	axis    int
	base, n int
	// stored tells the axis of a weight from that of an activation.
	stored bool
}

// A param is a stored tensor that rules read.
type param struct {
	stored inspect.Stored
	dims   []int64
	// tracks are the axes that lose places, by number.
	tracks map[int]*track
	// names are it and the tensors between it and the nodes that read it by a rule,
	// views how each of these sees it.
	names map[string]bool
	views []*view
	// grouped is the convolution whose groups keep columns of their own.
	grouped *sink
}

// A kind says what a tensor is for compaction.
type kind uint8

const (
	data  kind = iota // computed from what is fed
	fixed             // the same in every run
	sizes             // computed from shapes
)

const (
	maxPlaces = 1 << 22 // of one axis
	maxSlots  = 1 << 25 // of all
)

// An analysis is what is known of a model before anything is decided.
type analysis struct {
	ctx       context.Context // of analyse, which the rules are part of
	m         *inspect.Model
	g         *inspect.Graph
	kernels   bool // are looked at
	functions map[[2]string]bool
	needed    []bool // nodes that an output of the graph depends on

	kinds  map[string]kind
	live   map[string]*track
	params map[string]*param
	tracks []*track
	owner  []int32 // track of a slot
	parent []int32 // union-find over slots
	pins   []pin
	// barriers are the operators without a rule.
	barriers []Barrier
	readers  map[string]map[int]bool // rules that read a stored tensor, by node
	sinks    []*sink
	grouped  []*groupedConv
	evals    []func(v *values) error
	fixes    []func(e *editor) error

	// After finish:
	class  []int32  // channel of a slot
	count  int      // of channels
	slots  []int32  // of all channels, one after the other
	first  []int32  // of a channel's slots
	pinned []string // why a channel cannot go, "" when it can
}

// A pin fixes the slots of a track.
type pin struct {
	t      *track
	reason string
}

// A groupedConv is a convolution with several groups. Those that stay must have
// equally many inputs and equally many outputs.
type groupedConv struct {
	node    *inspect.Node
	in, out *track
	groups  int
}

// analyse applies the rules to m. Without kernels it does not look at which are
// zero: then only the channels are known.
func analyse(ctx context.Context, m *inspect.Model, kernels bool) (*analysis, error) {
	if m == nil || m.Graph == nil || m.Handle == nil {
		return nil, &RefusedError{File: "model", Index: -1, Reason: "it was read from a report; open the model itself"}
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	a := &analysis{ctx: ctx, kernels: kernels, m: m, g: m.Graph, functions: map[[2]string]bool{},
		kinds: map[string]kind{}, live: map[string]*track{}, params: map[string]*param{}, readers: map[string]map[int]bool{}}
	if len(m.Handle.Model.GetTrainingInfo()) > 0 {
		return nil, refuse(m, nil, "it holds a training graph whose weights would no longer fit; export it without training_info")
	}
	for _, f := range m.Handle.Model.GetFunctions() {
		a.functions[[2]string{f.GetDomain(), f.GetName()}] = true
	}
	for _, v := range m.Handle.Model.GetGraph().GetInput() {
		if name := v.GetName(); a.g.IsInput(name) {
			a.pinTensor(name, "it is an input of the graph")
		}
	}
	order, err := a.g.Order()
	if err != nil {
		return nil, err
	}
	a.needed = neededNodes(a.g, m.Handle.Model.GetGraph())
	for _, n := range order {
		if !a.needed[n.Index] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := quantized(m, n); err != nil {
			return nil, err
		}
		if err := a.node(n); err != nil {
			return nil, err
		}
	}
	a.finish()
	return a, nil
}

// neededNodes tells which nodes an output of the graph depends on; the others are
// dropped.
func neededNodes(g *inspect.Graph, pb *onnxpb.GraphProto) []bool {
	needed := make([]bool, len(g.Nodes))
	var todo []string
	for _, v := range pb.GetOutput() {
		todo = append(todo, v.GetName())
	}
	for len(todo) > 0 {
		n := g.Producer(todo[len(todo)-1])
		todo = todo[:len(todo)-1]
		if n == nil || needed[n.Index] {
			continue
		}
		needed[n.Index] = true
		eachInput(n.Proto, func(name string) { todo = append(todo, name) })
	}
	return needed
}

// readersOf returns the nodes that read a tensor and are needed.
func (a *analysis) readersOf(tensor string) []*inspect.Node {
	return slices.DeleteFunc(slices.Clone(a.g.Consumers(tensor)), func(n *inspect.Node) bool { return !a.needed[n.Index] })
}

func quantized(m *inspect.Model, n *inspect.Node) error {
	switch n.Op {
	case "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
		"QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool", "QGemm", "MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention":
		return refuse(m, n, "the model is quantized; compact it before it is quantized")
	}
	return nil
}

// node applies the rule of n, or makes it a barrier.
func (a *analysis) node(n *inspect.Node) error {
	k := a.kindOf(n)
	if k != data {
		for _, out := range n.Outputs {
			if out != "" {
				a.kinds[out] = k
			}
		}
		return nil
	}
	if nested(n) {
		a.barrier(n, "what its nested graphs read is not followed")
		return nil
	}
	if a.functions[[2]string{n.Domain, n.Op}] || a.functions[[2]string{plain(n.Domain), n.Op}] {
		a.barrier(n, "it calls a function of the model")
		return nil
	}
	if !n.Standard() {
		a.barrier(n, "there is no rule for this operator")
		return nil
	}
	reason, err := a.rule(n)
	if err != nil {
		return err
	}
	if reason != "" {
		a.barrier(n, reason)
	}
	return nil
}

func plain(domain string) string {
	if domain == "ai.onnx" {
		return ""
	}
	return domain
}

// kindOf tells what the outputs of n are, from its inputs.
func (a *analysis) kindOf(n *inspect.Node) kind {
	switch n.Op {
	case "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial":
		return data
	}
	if nested(n) || !n.Standard() {
		return data
	}
	k := fixed
	for _, in := range n.Inputs {
		if in == "" {
			continue
		}
		switch a.kind(in) {
		case data:
			return data
		case sizes:
			k = sizes
		}
	}
	return k
}

func (a *analysis) kind(tensor string) kind {
	if k, ok := a.kinds[tensor]; ok {
		return k
	}
	if a.g.Producer(tensor) == nil && a.g.Has(tensor) && !a.g.IsInput(tensor) {
		return fixed
	}
	return data
}

func nested(n *inspect.Node) bool {
	return slices.ContainsFunc(n.Proto.GetAttribute(), func(p *onnxpb.AttributeProto) bool {
		return p.G != nil || len(p.Graphs) > 0
	})
}

// newTrack returns a track of n new slots that belong to nobody else, nil when
// there are too many.
func (a *analysis) newTrack(name string, axis int, n int64, stored bool) *track {
	if n < 1 || n > maxPlaces || int64(len(a.owner))+n > maxSlots {
		return nil
	}
	t := &track{name: name, axis: axis, base: len(a.owner), n: int(n), stored: stored}
	for i := range t.n {
		a.owner = append(a.owner, int32(len(a.tracks)))
		a.parent = append(a.parent, int32(t.base+i))
	}
	a.tracks = append(a.tracks, t)
	return t
}

// track begins to track an axis of an activation, nil when its size is not known.
func (a *analysis) track(tensor string, axis int) *track {
	s := a.g.Shape(tensor)
	if tensor == "" || !s.Known || axis < 0 || axis >= len(s.Dims) || a.live[tensor] != nil {
		return nil
	}
	t := a.newTrack(tensor, axis, s.Dims[axis].Value, false)
	if t != nil {
		a.live[tensor] = t
	}
	return t
}

// sized tracks the only output that counts when its axis has n places.
func (a *analysis) sized(n *inspect.Node, axis, places int) *track {
	t := a.track(n.Output(0), axis)
	if t == nil || t.n != places {
		return nil // the barrier that follows fixes t
	}
	return t
}

func (a *analysis) find(s int) int {
	for int(a.parent[s]) != s {
		a.parent[s] = a.parent[a.parent[s]]
		s = int(a.parent[s])
	}
	return s
}

func (a *analysis) union(s, t int) {
	s, t = a.find(s), a.find(t)
	if s < t { // the smaller root stays: classes are ordered as the graph is
		a.parent[t] = int32(s)
	} else {
		a.parent[s] = int32(t)
	}
}

// join couples two tracks of the same size place by place.
func (a *analysis) join(s, t *track) {
	for i := range s.n {
		a.union(s.base+i, t.base+i)
	}
}

func (a *analysis) pin(t *track, reason string) {
	if t != nil {
		a.pins = append(a.pins, pin{t, reason})
	}
}

// pinTensor fixes the channels of a tensor; one that is not tracked yet is, along
// its second axis.
func (a *analysis) pinTensor(tensor, reason string) {
	if a.live[tensor] == nil && a.kind(tensor) == data {
		a.track(tensor, 1)
	}
	a.pin(a.live[tensor], reason)
}

// barrier fixes all channels that n touches. Stored tensors that it reads are
// fixed by finish, because no rule reads them.
func (a *analysis) barrier(n *inspect.Node, reason string) {
	b := Barrier{Index: n.Index, Node: n.Label(), Op: n.Op, Tensors: []string{}, Reason: reason}
	why := "barrier " + n.Op + " " + quote(n.Label()) + ": " + reason
	for _, list := range [][]string{n.Inputs, n.Outputs} {
		for _, name := range list {
			if name == "" || a.kind(name) != data {
				continue
			}
			a.pinTensor(name, why)
			if !slices.Contains(b.Tensors, name) {
				b.Tensors = append(b.Tensors, name)
			}
		}
	}
	for _, out := range n.Outputs {
		if out != "" {
			a.kinds[out] = data
		}
	}
	a.barriers = append(a.barriers, b)
}

func quote(s string) string { return `"` + s + `"` }

// A view is a stored tensor as a node sees it, perhaps transposed.
type view struct {
	p *param
	// dims are those that the node sees; axes are the stored tensor's axes that
	// they are, -1 for an axis of size 1 that was put in.
	dims []int64
	axes []int
	// follows are the stored axes along which the node may lose places.
	follows map[int]bool
}

// view returns the stored tensor that n reads as input i. Reading it through view
// tells that n has a rule for it; a tensor that is also read otherwise is fixed.
func (a *analysis) view(n *inspect.Node, i int) (*view, bool) {
	name := n.Input(i)
	st, ok := a.g.Stored(name)
	if name == "" || !ok || !st.Tensor.DType().IsFloat() {
		return nil, false
	}
	if _, err := st.Tensor.Elements(); err != nil {
		return nil, false
	}
	v := &view{dims: slices.Clone(st.Tensor.Dims()), follows: map[int]bool{}}
	for i := range v.dims {
		v.axes = append(v.axes, i)
	}
	for _, t := range slices.Backward(st.Through) {
		if !v.through(a.g, t) {
			return nil, false
		}
	}
	p := a.params[st.Name]
	if p == nil {
		p = &param{stored: st, dims: st.Tensor.Dims(), tracks: map[int]*track{}, names: map[string]bool{}}
		a.params[st.Name] = p
	}
	v.p = p
	p.views = append(p.views, v)
	at := name
	reader := n
	for _, t := range st.Through {
		a.account(p, at, reader)
		at, reader = t.Input(0), t
	}
	a.account(p, at, reader)
	return v, true
}

func (a *analysis) account(p *param, tensor string, reader *inspect.Node) {
	p.names[tensor] = true
	if a.readers[tensor] == nil {
		a.readers[tensor] = map[int]bool{}
	}
	a.readers[tensor][reader.Index] = true
}

// through follows a node that rearranges a stored tensor and works for any number
// of channels.
func (v *view) through(g *inspect.Graph, n *inspect.Node) bool {
	if !n.Standard() {
		return false
	}
	rank := len(v.dims)
	switch n.Op {
	case "Identity":
	case "Cast":
		return onnxfile.DType(n.AttrInt("to", 0)).IsFloat()
	case "Transpose":
		perm, ok := permutation(n, rank)
		if !ok {
			return false
		}
		dims, axes := make([]int64, rank), make([]int, rank)
		for i, p := range perm {
			dims[i], axes[i] = v.dims[p], v.axes[p]
		}
		v.dims, v.axes = dims, axes
	case "Unsqueeze", "Squeeze":
		list := n.AttrInts("axes")
		if n.Input(1) != "" {
			var ok bool
			if list, ok = g.Ints(n.Input(1)); !ok {
				return false
			}
		}
		if len(list) == 0 {
			return false // all axes of size 1, which would change
		}
		if n.Op == "Unsqueeze" {
			rank += len(list)
		}
		set := make([]bool, rank)
		for _, x := range list {
			if x < 0 {
				x += int64(rank)
			}
			if x < 0 || x >= int64(rank) || set[x] {
				return false
			}
			set[x] = true
		}
		var dims []int64
		var axes []int
		next := 0
		for i := range rank {
			switch {
			case n.Op == "Squeeze" && set[i]:
				if v.dims[i] != 1 {
					return false
				}
			case n.Op == "Unsqueeze" && set[i]:
				dims, axes = append(dims, 1), append(axes, -1)
			default:
				dims, axes = append(dims, v.dims[next]), append(axes, v.axes[next])
			}
			if n.Op == "Squeeze" || !set[i] {
				next++
			}
		}
		v.dims, v.axes = dims, axes
	default:
		return false
	}
	return true
}

// permutation returns that of a Transpose.
func permutation(n *inspect.Node, rank int) ([]int, bool) {
	perm := make([]int, rank)
	list := n.AttrInts("perm")
	if list == nil {
		for i := range perm {
			perm[i] = rank - 1 - i
		}
		return perm, true
	}
	if len(list) != rank {
		return nil, false
	}
	seen := make([]bool, rank)
	for i, p := range list {
		if p < 0 || p >= int64(rank) || seen[p] {
			return nil, false
		}
		perm[i], seen[p] = int(p), true
	}
	return perm, true
}

// places returns the track of an axis that a node sees of a stored tensor, nil
// when it cannot lose places.
func (a *analysis) places(v *view, axis int) *track {
	at := v.axes[axis]
	if at < 0 {
		return nil
	}
	v.follows[at] = true
	if v.p.tracks[at] == nil {
		if t := a.newTrack(v.p.stored.Name, at, v.p.dims[at], true); t != nil {
			v.p.tracks[at] = t
		}
	}
	return v.p.tracks[at]
}

// along joins the axis of a stored tensor to t.
func (a *analysis) along(v *view, axis int, t *track) bool {
	p := a.places(v, axis)
	if p == nil || p.n != t.n {
		return false
	}
	a.join(t, p)
	return true
}

// numbers returns what a stored tensor adds to or does with each place of an axis
// that a node sees: one number each, NaN where it is not the same everywhere.
// axis -1 is that of a tensor that is one number for all n places.
func (a *analysis) numbers(v *view, axis, n int) ([]float64, error) {
	out := make([]float64, n)
	stride, size := int64(1), int64(1)
	if axis >= 0 && v.axes[axis] >= 0 {
		at := v.axes[axis]
		size = v.p.dims[at]
		for _, d := range v.p.dims[at+1:] {
			stride *= d
		}
	}
	got := make([]float64, size)
	seen := make([]bool, size)
	e := int64(0)
	err := v.p.stored.Tensor.Values(func(block []float64) error {
		for _, x := range block {
			i := e / stride % size
			switch {
			case !seen[i]:
				got[i], seen[i] = x, true
			case got[i] != x:
				got[i] = math.NaN()
			}
			e++
		}
		return a.ctx.Err()
	})
	for i := range out {
		out[i] = got[int64(i)%size]
	}
	return out, err
}

// own tells whether one node alone reads p, once, and nothing else sees it, so
// that its numbers may change.
func (a *analysis) own(p *param) bool {
	return len(p.views) == 1 && len(a.readersOf(p.stored.Name)) == 1 && !a.g.IsOutput(p.stored.Name)
}

// finish closes the unions: fixes what is read by other ways than rules, and
// numbers the channels.
func (a *analysis) finish() {
	for _, v := range a.m.Handle.Model.GetGraph().GetOutput() {
		a.pinTensor(v.GetName(), "it is an output of the graph")
	}
	for _, t := range a.tracks {
		if t.stored {
			continue
		}
		for _, n := range a.readersOf(t.name) {
			if !slices.Contains(n.Inputs, t.name) {
				a.pin(t, "a nested graph of node "+quote(n.Label())+" reads it")
			}
		}
	}
	for _, p := range a.params {
		reason := ""
		for name := range p.names {
			if a.g.IsOutput(name) {
				reason = "the stored tensor " + quote(p.stored.Name) + " is an output of the graph"
			}
			for _, n := range a.readersOf(name) {
				if !a.readers[name][n.Index] && !onward(n, p) {
					reason = "node " + quote(n.Label()) + " (" + n.Op + ") reads the stored tensor " + quote(p.stored.Name) + " too"
				}
			}
		}
		if p.grouped != nil && len(p.views) > 1 {
			reason = "several nodes read the stored tensor " + quote(p.stored.Name) + " of a grouped convolution"
		}
		if p.grouped != nil && reason != "" { // its columns have no track
			a.pin(p.grouped.in, reason)
		}
		for axis, t := range p.tracks {
			why := reason
			for _, v := range p.views {
				if !v.follows[axis] {
					why = "several nodes read the stored tensor " + quote(p.stored.Name) + ", one of them along other axes"
				}
			}
			if why != "" {
				a.pin(t, why)
			}
		}
	}
	a.number()
}

// onward tells whether n hands p on to what a rule reads.
func onward(n *inspect.Node, p *param) bool { return p.names[n.Output(0)] }

// number gives each class of slots its number, in the order of the graph, and
// merges the pins.
func (a *analysis) number() {
	a.class = make([]int32, len(a.parent))
	a.count = 0
	for s := range a.parent {
		if r := a.find(s); r == s {
			a.class[s] = int32(a.count)
			a.count++
		} else {
			a.class[s] = a.class[r] // a root is smaller than the rest
		}
	}
	a.first = make([]int32, a.count+1)
	for _, c := range a.class {
		a.first[c+1]++
	}
	for c := range a.count {
		a.first[c+1] += a.first[c]
	}
	a.slots = make([]int32, len(a.class))
	next := slices.Clone(a.first[:a.count])
	for s, c := range a.class {
		a.slots[next[c]] = int32(s)
		next[c]++
	}
	a.pinned = make([]string, a.count)
	slices.SortStableFunc(a.pins, func(x, y pin) int { return x.t.base - y.t.base })
	for _, p := range a.pins {
		for i := range p.t.n {
			if c := a.class[p.t.base+i]; a.pinned[c] == "" {
				a.pinned[c] = p.reason
			}
		}
	}
}

// members returns the slots of a channel.
func (a *analysis) members(c int) []int32 { return a.slots[a.first[c]:a.first[c+1]] }

// paramNames returns the names of the stored tensors that rules read, in order.
func (a *analysis) paramNames() []string { return slices.Sorted(maps.Keys(a.params)) }
