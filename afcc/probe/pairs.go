package probe

import (
	"slices"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
)

// A Pair is a tap of one model, A, and its counterpart in another, B.
type Pair struct {
	A, B *Tap
	// Filters holds for each filter of A its place in B, -1 where it has none; nil
	// says that all stay where they are.
	Filters []int
	// Assumed says that the places of some were not found by their weights but taken
	// to be the same.
	Assumed bool
}

// PairTaps returns the taps of model a that have a counterpart among those of b, in
// the order of tapsA. d is what delta.Compare says of the two models. Counterparts are
// taps whose tensors matched operators make; where there is none, as where an
// activation was replaced, those in which matched layers end. A tap of b is the
// counterpart of one of a at most. The two may differ in size.
//
// The place of a filter is that of the layer which makes it. A sum has its filters
// from whatever is added, the first that knows, a concatenation from all its parts.
func PairTaps(d *delta.Delta, a, b *inspect.Model, tapsA, tapsB []*Tap) []Pair {
	p := &pairer{a: newPairSide(a), b: newPairSide(b), places: map[string]*placesOf{}}
	for i := range d.Nodes {
		n := &d.Nodes[i]
		if n.A != nil && n.A.Output != "" {
			p.a.ops[n.A.Output] = n
		}
		if n.B != nil && n.B.Output != "" {
			p.b.ops[n.B.Output] = n
		}
	}
	partner := p.byTensor(tapsA, tapsB)
	p.byLayer(tapsA, tapsB, partner)
	var pairs []Pair
	for _, t := range tapsA {
		if of := partner[t]; of != nil {
			pairs = append(pairs, p.pair(t, of))
		}
	}
	return pairs
}

// A pairSide is one of two models.
type pairSide struct {
	m *inspect.Model
	g *inspect.Graph
	// ops has what became of each operator of the canonical form, by its output.
	ops map[string]*delta.NodeDelta
}

func newPairSide(m *inspect.Model) *pairSide {
	return &pairSide{m, m.Graph, map[string]*delta.NodeDelta{}}
}

// made returns the output of a canonical operator that t is, through what the
// canonical form leaves out; t itself when there is none.
func (s *pairSide) made(t string) string {
	at := t
	for range len(s.g.Nodes) + 1 {
		if s.ops[at] != nil {
			return at
		}
		n := s.g.Producer(at)
		if n == nil || !n.Standard() {
			return t
		}
		switch n.Op {
		case "Identity", "Dropout", "Cast", "Pad":
		case "Concat", "Sum", "Max", "Min":
			if len(n.Inputs) != 1 {
				return t
			}
		default:
			return t
		}
		at = n.Input(0)
	}
	return t
}

// ends returns the output of the canonical operator into which what makes t was
// folded, as a BatchNormalization is into the convolution before it; "" when there
// is none.
func (s *pairSide) ends(t string) string {
	for range len(s.g.Nodes) + 1 {
		if s.ops[t] != nil {
			return t
		}
		readers := s.g.Consumers(t)
		if len(readers) != 1 || len(readers[0].Outputs) == 0 {
			return ""
		}
		t = readers[0].Output(0)
	}
	return ""
}

// layers returns the canonical operators of the layers that end in a tap, by their
// outputs.
func (s *pairSide) layers(t *Tap) (ops []string) {
	for i := range s.m.Layers {
		if l := &s.m.Layers[i]; l.Scope == "" && slices.Contains(t.Layers, l.Name) {
			if op := s.ends(l.OutTensor); op != "" {
				ops = append(ops, op)
			}
		}
	}
	return ops
}

// channels returns the length of a tensor along an axis, -1 when it is not known.
func (s *pairSide) channels(t string, axis int) int {
	d := s.g.Shape(t)
	if !d.Known || axis >= len(d.Dims) || d.Dims[axis].Value > maxFeatures {
		return -1
	}
	return int(d.Dims[axis].Value)
}

type pairer struct {
	a, b   *pairSide
	places map[string]*placesOf // by tensor of a
}

// A placesOf says where the channels of a tensor of a are in b; nil when that is not
// known.
type placesOf struct {
	to      []int
	assumed bool
}

// byTensor pairs taps whose tensors are made by matched operators.
func (p *pairer) byTensor(tapsA, tapsB []*Tap) map[*Tap]*Tap {
	of := map[string][]*Tap{}
	for _, t := range tapsB {
		op := p.b.made(t.Tensor)
		of[op] = append(of[op], t)
	}
	partner, taken := map[*Tap]*Tap{}, map[*Tap]bool{}
	for _, t := range tapsA {
		n := p.a.ops[p.a.made(t.Tensor)]
		if n == nil || n.B == nil {
			continue
		}
		for _, other := range of[n.B.Output] {
			if !taken[other] {
				partner[t], taken[other] = other, true
				break
			}
		}
	}
	return partner
}

// byLayer pairs taps that are left by the layers that end in them: with the tap in
// which most do, of several the first.
func (p *pairer) byLayer(tapsA, tapsB []*Tap, partner map[*Tap]*Tap) {
	taken := map[*Tap]bool{}
	for _, t := range partner {
		taken[t] = true
	}
	of := map[string]*Tap{}
	for _, t := range tapsB {
		if t.Inner || taken[t] {
			continue
		}
		for _, op := range p.b.layers(t) {
			of[op] = t
		}
	}
	for _, t := range tapsA {
		if t.Inner || partner[t] != nil {
			continue
		}
		count := map[*Tap]int{}
		var best *Tap
		for _, op := range p.a.layers(t) {
			if n := p.a.ops[op]; n.B != nil {
				if x := of[n.B.Output]; x != nil && !taken[x] {
					count[x]++
					if best == nil || count[x] > count[best] {
						best = x
					}
				}
			}
		}
		if best != nil {
			partner[t], taken[best] = best, true
		}
	}
}

// pair says where the filters of a tap are in its counterpart.
func (p *pairer) pair(a, b *Tap) Pair {
	axis := 1
	if a.ChannelsLast {
		axis = 3
	}
	at := p.follow(a.Tensor, axis)
	to := at.to
	pair := Pair{A: a, B: b, Assumed: at.assumed}
	if len(to) != a.Filters {
		if a.Filters == b.Filters {
			pair.Assumed = true
			return pair
		}
		to = nil
	}
	pair.Filters = make([]int, a.Filters)
	taken := make([]bool, b.Filters)
	moved := false
	for i := range pair.Filters {
		pair.Filters[i] = -1
		if i < len(to) && to[i] >= 0 && to[i] < b.Filters && !taken[to[i]] {
			pair.Filters[i], taken[to[i]] = to[i], true
		}
		moved = moved || pair.Filters[i] != i
	}
	if !moved {
		pair.Filters = nil
	}
	return pair
}

// follow returns the places of the channels of a tensor of a, which are on the given
// axis.
func (p *pairer) follow(t string, axis int) *placesOf {
	if at := p.places[t]; at != nil {
		return at
	}
	at := &placesOf{}
	p.places[t] = at // no way leads around twice, whatever a graph is like
	*at = p.found(t, axis)
	p.places[t] = at
	return at
}

func (p *pairer) found(t string, axis int) placesOf {
	if n := p.a.ops[t]; n != nil && (n.A.Op == "Conv" || n.A.Op == "Linear") {
		return p.ofLayer(n, t, axis)
	}
	n := p.a.g.Producer(t)
	if n == nil || !n.Standard() {
		return p.unchanged(t, axis)
	}
	pass := func(axis int) placesOf { return *p.follow(n.Input(0), axis) }
	count := p.a.channels(t, axis)
	switch n.Op {
	case "Conv", "Gemm", "MatMul":
		if op := p.a.ends(t); op != "" && op != t {
			return *p.follow(op, axis)
		}
		return p.unchanged(t, axis)
	case "Concat":
		if len(n.Inputs) > 1 {
			return p.ofConcat(n, t, axis)
		}
		return pass(axis)
	case "Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Mean":
		return p.ofSum(n, count, axis)
	case "Transpose":
		perm := n.AttrInts("perm")
		switch {
		case slices.Equal(perm, toNHWC) && axis == 3:
			return pass(1)
		case slices.Equal(perm, toNCHW) && axis == 1:
			return pass(3)
		}
	case "ReduceMean", "ReduceMax", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Resize", "Pad", "Softmax", "LogSoftmax":
		if count > 0 && p.a.channels(n.Input(0), axis) == count {
			return pass(axis)
		}
	default:
		if unary[n.Op] {
			return pass(axis)
		}
	}
	return p.unchanged(t, axis)
}

// ofLayer returns what became of the filters of a layer.
func (p *pairer) ofLayer(n *delta.NodeDelta, t string, axis int) placesOf {
	f := n.Filters
	if n.B == nil {
		return placesOf{}
	}
	if f == nil || f.Note != "" || f.CountA > maxFilters {
		return p.unchanged(t, axis)
	}
	to := make([]int, f.CountA)
	for i := range to {
		to[i] = i
	}
	for _, x := range f.Filters {
		switch {
		case x.From == nil || *x.From < 0 || *x.From >= len(to):
		case x.To == nil:
			to[*x.From] = -1
		default:
			to[*x.From] = *x.To
		}
	}
	return placesOf{to: to}
}

// maxFilters bounds the filters of a layer that are followed.
const maxFilters = 1 << 20

// unchanged takes the channels of a tensor to stand where they stood, where its
// counterpart has as many.
func (p *pairer) unchanged(t string, axis int) placesOf {
	n := p.a.ops[p.a.made(t)]
	if p.a.g.IsInput(t) || n == nil || n.B == nil {
		return placesOf{}
	}
	count := p.a.channels(t, axis)
	if count < 1 || count > maxFilters || p.b.channels(n.B.Output, axis) != count {
		return placesOf{}
	}
	to := make([]int, count)
	for i := range to {
		to[i] = i
	}
	return placesOf{to, true}
}

// ofSum merges what is known of the inputs that have as many channels as their sum.
func (p *pairer) ofSum(n *inspect.Node, count, axis int) placesOf {
	var out placesOf
	taken := map[int]bool{}
	for _, in := range n.Inputs {
		if _, constant := p.a.g.Stored(in); constant || p.a.channels(in, axis) != count {
			continue
		}
		x := p.follow(in, axis)
		if len(x.to) != count {
			continue
		}
		if out.to == nil || out.assumed && !x.assumed {
			out = placesOf{slices.Clone(x.to), x.assumed}
			clear(taken)
			for _, q := range x.to {
				taken[q] = true
			}
			continue
		}
		if x.assumed {
			continue
		}
		for i, q := range x.to {
			if out.to[i] < 0 && q >= 0 && !taken[q] {
				out.to[i], taken[q] = q, true
			}
		}
	}
	return out
}

// ofConcat lines up the places of what a concatenation is put together from.
func (p *pairer) ofConcat(n *inspect.Node, t string, axis int) placesOf {
	along := func(n *inspect.Node, t string) bool {
		rank := int64(len(p.a.g.Shape(t).Dims))
		at := n.AttrInt("axis", 1)
		return at == int64(axis) || at+rank == int64(axis)
	}
	op := p.a.ops[p.a.made(t)]
	if op == nil || op.B == nil || !along(n, t) {
		return p.unchanged(t, axis)
	}
	m := p.b.g.Producer(op.B.Output)
	if m == nil || m.Op != "Concat" || !m.Standard() || !along(m, op.B.Output) {
		return p.unchanged(t, axis)
	}
	first := make([]int, len(m.Inputs)) // of each part in b
	for j, at := 0, 0; j < len(m.Inputs); j++ {
		c := p.b.channels(m.Input(j), axis)
		if c < 0 {
			return p.unchanged(t, axis)
		}
		first[j] = at
		at += c
	}
	taken := make([]bool, len(m.Inputs))
	part := make([]int, len(n.Inputs)) // of a, its number in b
	for i, in := range n.Inputs {
		part[i] = -1
		x := p.a.ops[p.a.made(in)]
		if x == nil || x.B == nil {
			continue
		}
		for j, of := range m.Inputs {
			if !taken[j] && p.b.made(of) == x.B.Output {
				part[i], taken[j] = j, true
				break
			}
		}
	}
	var out placesOf
	for i, in := range n.Inputs {
		c := p.a.channels(in, axis)
		if c < 0 || len(out.to)+c > maxFilters {
			return p.unchanged(t, axis)
		}
		if part[i] < 0 && len(n.Inputs) == len(m.Inputs) && !taken[i] {
			part[i], taken[i], out.assumed = i, true, true
		}
		x := &placesOf{}
		if j := part[i]; j >= 0 {
			if x = p.follow(in, axis); len(x.to) != c && p.b.channels(m.Input(j), axis) == c {
				x = &placesOf{to: make([]int, c), assumed: true}
				for k := range x.to {
					x.to[k] = k
				}
			}
		}
		out.assumed = out.assumed || x.assumed
		for k := range c {
			at := -1
			if len(x.to) == c && x.to[k] >= 0 {
				at = first[part[i]] + x.to[k]
			}
			out.to = append(out.to, at)
		}
	}
	return out
}
