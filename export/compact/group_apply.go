package compact

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// ApplyBlocks returns m with convolutions computed in groups, and the number of
// Gather nodes that this took. list has each convolution at most once, as FindBlocks
// found it in m or, with the same numbers, in a model of the same kernels.
//
// The channels of a group of coupled ones (see Groups) are put into the order that
// the first convolution of list wants that reads or makes them, in all layers that
// make, pass on and read them, so that this costs nothing when the model runs. Where
// channels cannot move, or another convolution of list wants them otherwise, a Gather
// before or behind the convolution puts them in order.
//
// One stored tensor at a time is held in memory, as the draft is written. External
// data is dealt with as by Apply. Blocks that do not fit m give a *PlanError; other
// errors are those of Apply.
func ApplyBlocks(ctx context.Context, m *inspect.Model, list []Blocks) (d *onnxfile.Draft, gathers int, err error) {
	a, err := analyse(ctx, m, false)
	if err != nil {
		return nil, 0, err
	}
	g := &grouper{a: a, orders: map[int][]int{}}
	if err := g.settle(ctx, list); err != nil {
		return nil, 0, err
	}
	d, err = g.draft(ctx)
	return d, g.gathers, err
}

// A grouper puts channels into an order and convolutions into groups.
type grouper struct {
	a *analysis
	// groups are the channels of each group of coupled ones, groupOf that of each
	// channel, -1 for none; movable are the groups whose order may change.
	groups  [][]int
	groupOf []int
	movable []bool
	// orders are those that are settled: at place i is the channel orders[g][i] of
	// groups[g].
	orders  map[int][]int
	sites   []*site
	gathers int
}

// A site is a convolution that is to be grouped. in and out are the original places
// of the channels that the grouped one has, -1 for fillings; gatherIn and gatherOut
// tell that the tensors have other orders.
type site struct {
	s                   *sink
	groups              int
	in, out             []int
	gatherIn, gatherOut bool
}

// settle finds the order of every group of channels.
func (g *grouper) settle(ctx context.Context, list []Blocks) error {
	g.findMovable()
	sinks := map[int]*sink{}
	for _, s := range g.a.sinks {
		if g.a.groupable(s) {
			sinks[s.node.Index] = s
		}
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(x, y Blocks) int { return x.Index - y.Index })
	for i := range list {
		b := &list[i]
		s := sinks[b.Index]
		if s == nil || i > 0 && list[i-1].Index == b.Index {
			return &PlanError{g.a.m.File, "convolution " + quote(b.Layer) + " is not there, or twice, or cannot be grouped"}
		}
		if err := s.find(ctx); err != nil {
			return err
		}
		err := b.check(s)
		s.read, s.count = nil, nil
		if err != nil {
			return &PlanError{g.a.m.File, err.Error()}
		}
		g.place(s, b)
	}
	return nil
}

// findMovable finds the groups of channels whose order is free: nothing fixes them,
// and in each tensor the places of one channel lie together, the channels one behind
// the other.
func (g *grouper) findMovable() {
	a := g.a
	_, g.groups = a.grouping()
	g.groupOf = make([]int, a.count)
	for c := range g.groupOf {
		g.groupOf[c] = -1
	}
	whole := map[int32]bool{} // tracks of grouped convolutions, which have an order of their own
	for _, c := range a.grouped {
		whole[a.owner[c.in.base]], whole[a.owner[c.out.base]] = true, true
	}
	for i, list := range g.groups {
		ok := true
		next, each := map[int32]int32{}, map[int32]int{}
		for k, c := range list {
			g.groupOf[c] = i
			ok = ok && a.pinned[c] == ""
			count := map[int32]int{}
			for _, slot := range a.members(c) {
				o := a.owner[slot]
				count[o]++
				if want, seen := next[o]; seen && slot != want || whole[o] || a.tracks[o].stored && !g.readable(a.tracks[o]) {
					ok = false
				}
				next[o] = slot + 1
			}
			for o, n := range count {
				if k == 0 {
					each[o] = n
				}
				ok = ok && each[o] == n
			}
		}
		g.movable = append(g.movable, ok)
	}
}

// readable tells whether a stored tensor can be written in another order.
func (g *grouper) readable(t *track) bool {
	st := g.a.params[t.name].stored
	if st.Tensor.DType().Bits()%8 != 0 {
		return false
	}
	if _, ok := g.a.g.Initializer(st.Name); ok {
		return true
	}
	n := g.a.g.Producer(st.Name)
	return n != nil && n.Op == "Constant" && n.Attr("value") != nil
}

// free returns the group whose channels are those of t, when their order is not
// settled; -1 for none.
func (g *grouper) free(t *track) int {
	i := g.groupOf[g.a.class[t.base]]
	if i < 0 || !g.movable[i] || g.orders[i] != nil || len(g.groups[i]) != t.n {
		return -1
	}
	for p := range t.n {
		if int(g.a.class[t.base+p]) != g.groups[i][p] {
			return -1
		}
	}
	return i
}

// freeze settles the order of all channels of t as it is.
func (g *grouper) freeze(t *track) {
	for p := range t.n {
		if i := g.groupOf[g.a.class[t.base+p]]; i >= 0 && g.orders[i] == nil {
			g.orders[i] = upTo(len(g.groups[i]))
		}
	}
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// arrangement returns the original place of what is at each place of t.
func (g *grouper) arrangement(t *track) []int {
	at := make([]int, t.n)
	type key struct{ class, nth int }
	places, seen := map[key]int{}, map[int]int{}
	for p := range t.n {
		c := int(g.a.class[t.base+p])
		places[key{c, seen[c]}] = p
		seen[c]++
	}
	clear(seen)
	rank := map[int]int{}
	for p := range t.n {
		c := int(g.a.class[t.base+p])
		nth := seen[c]
		seen[c]++
		at[p] = p
		i := g.groupOf[c]
		if i < 0 || g.orders[i] == nil {
			continue
		}
		k, ok := rank[c]
		if !ok {
			k, _ = slices.BinarySearch(g.groups[i], c)
			rank[c] = k
		}
		at[p] = places[key{g.groups[i][g.orders[i][k]], nth}]
	}
	return at
}

// place settles where the channels of one convolution lie.
func (g *grouper) place(s *sink, b *Blocks) {
	x := &site{s: s, groups: b.Groups}
	g.sites = append(g.sites, x)
	ins, outs := parts(b.Inputs, b.Groups), parts(b.Outputs, b.Groups)
	// An order that is there decides which group comes first, of the inputs before
	// that of the outputs.
	turn := match(g.arrangement(s.in), ins)
	if turn == nil {
		turn = match(g.arrangement(s.out), outs)
	}
	if turn != nil {
		ins, outs = pick(ins, turn), pick(outs, turn)
	}
	x.in, x.gatherIn = g.side(s.in, ins)
	x.out, x.gatherOut = g.side(s.out, outs)
	if x.gatherIn {
		g.gathers++
	}
	if x.gatherOut {
		g.gathers++
	}
}

// side settles the channels of an input or output of a grouped convolution, whose
// groups are parts. It returns the channels in their order, and whether a Gather has
// to bring them into it.
func (g *grouper) side(t *track, parts [][]int) (list []int, gather bool) {
	now := g.arrangement(t)
	turn := match(now, parts)
	if slices.Equal(turn, upTo(len(parts))) {
		g.freeze(t)
		return now, false
	}
	list = slices.Concat(parts...)
	if i := g.free(t); i >= 0 && len(list) == t.n {
		g.orders[i] = list
		return list, false
	}
	return list, true
}

// parts cuts list into n equal parts.
func parts(list []int, n int) [][]int {
	var out [][]int
	for p := range slices.Chunk(list, len(list)/n) {
		out = append(out, p)
	}
	return out
}

func pick(parts [][]int, turn []int) [][]int {
	var out [][]int
	for _, i := range turn {
		out = append(out, parts[i])
	}
	return out
}

// match returns which part the channels of each equal piece of list are, nil when one
// is of several or when parts have fillings.
func match(list []int, parts [][]int) []int {
	if len(list) != len(parts)*len(parts[0]) {
		return nil
	}
	of := make([]int, len(list))
	for i, p := range parts {
		for _, c := range p {
			if c < 0 {
				return nil
			}
			of[c] = i
		}
	}
	var turn []int
	for p := range slices.Chunk(list, len(parts[0])) {
		for _, c := range p {
			if of[c] != of[p[0]] {
				return nil
			}
		}
		turn = append(turn, of[p[0]])
	}
	return turn
}

// draft writes what is settled.
func (g *grouper) draft(ctx context.Context) (*onnxfile.Draft, error) {
	a := g.a
	d := a.m.Handle.Draft()
	if err := d.InlineExternal(); err != nil {
		return nil, err
	}
	e := (&solution{a: a, why: make([]why, a.count), idle: make([]bool, a.count)}).editor(ctx, d)
	for _, name := range a.paramNames() {
		if err := g.reorder(e, a.params[name]); err != nil {
			return nil, err
		}
	}
	before := map[int]*onnxpb.NodeProto{}
	for _, x := range g.sites {
		if err := g.rewrite(e, x, before); err != nil {
			return nil, err
		}
	}
	var nodes []*onnxpb.NodeProto
	for i, n := range d.Model.Graph.Node {
		if b := before[i]; b != nil {
			nodes = append(nodes, b)
		}
		nodes = append(append(nodes, n), e.insert[i]...)
	}
	d.Model.Graph.Node = nodes
	e.sweep()
	e.describe()
	return d, ctx.Err()
}

// reorder puts the numbers of a stored tensor into the order of its channels.
func (g *grouper) reorder(e *editor, p *param) error {
	at := make([][]int, len(p.dims))
	changed := false
	for axis, t := range p.tracks {
		if now := g.arrangement(t); !slices.Equal(now, upTo(t.n)) {
			at[axis], changed = now, true
		}
	}
	if !changed {
		return nil
	}
	pb, _ := e.stored(p.stored.Name)
	if pb == nil {
		return &onnxfile.TensorError{File: g.a.m.File, Tensor: p.stored.Name, Err: errors.New("its numbers cannot be put into another order")}
	}
	src, err := p.stored.Tensor.Raw(nil)
	if err != nil {
		return err
	}
	width := p.stored.Tensor.DType().Bits() / 8
	e.d.SetRaw(pb, &arranged{src: src, n: src.Len(), runs: permuted(p.dims, at, width)})
	return nil
}

// permuted yields the runs of bytes of a tensor of elements of width bytes whose place
// i along an axis takes what lies at at[axis][i], nil for axes that stay.
func permuted(dims []int64, at [][]int, width int64) iter.Seq2[int64, int64] {
	last := 0
	for axis := range at {
		if at[axis] != nil {
			last = axis
		}
	}
	strides := make([]int64, len(dims))
	stride := width
	for i := len(dims) - 1; i >= 0; i-- {
		strides[i] = stride
		stride *= dims[i]
	}
	return func(yield func(off, n int64) bool) {
		var walk func(axis int, off int64) bool
		walk = func(axis int, off int64) bool {
			if axis > last {
				return yield(off, strides[last])
			}
			for i := range dims[axis] {
				if at[axis] != nil {
					i = int64(at[axis][i])
				}
				if !walk(axis+1, off+i*strides[axis]) {
					return false
				}
			}
			return true
		}
		walk(0, 0)
	}
}

// rewrite makes a convolution a grouped one.
func (g *grouper) rewrite(e *editor, x *site, before map[int]*onnxpb.NodeProto) error {
	s := x.s
	n := e.node(s.node)
	if err := g.weight(e, x); err != nil {
		return err
	}
	if s.node.Input(2) != "" {
		if err := g.bias(e, x); err != nil {
			return err
		}
	}
	e.setInt(s.node, "group", int64(x.groups))
	gather := func(what, from, to string, places []int64) *onnxpb.NodeProto {
		name := e.name(s.node.Label() + "." + what)
		e.d.SetInt64(e.initializer(name, onnxfile.Int64, int64(len(places))), places, int64(len(places)))
		node := &onnxpb.NodeProto{Name: proto.String(e.name(s.node.Label() + ".gather_" + what)), OpType: proto.String("Gather"), Input: []string{from, name}, Output: []string{to}}
		node.Attribute = []*onnxpb.AttributeProto{{Name: proto.String("axis"), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(1)}}
		return node
	}
	if x.gatherIn {
		at := inverse(g.arrangement(s.in))
		places := make([]int64, len(x.in))
		for i, c := range x.in {
			if c >= 0 { // any channel fills a group
				places[i] = int64(at[c])
			}
		}
		from := n.Input[0]
		n.Input[0] = e.name(from + ".ordered")
		before[s.node.Index] = gather("inputs", from, n.Input[0], places)
	}
	if x.gatherOut {
		at := make([]int, s.out.n)
		for i, c := range x.out {
			if c >= 0 {
				at[c] = i
			}
		}
		var places []int64
		for _, c := range g.arrangement(s.out) {
			places = append(places, int64(at[c]))
		}
		to := n.Output[0]
		n.Output[0] = e.name(to + ".grouped")
		e.behind(s.node.Index, gather("outputs", n.Output[0], to, places))
	}
	return nil
}

func inverse(list []int) []int {
	out := make([]int, len(list))
	for i, p := range list {
		out[p] = i
	}
	return out
}

// weight gives a grouped convolution its kernels.
func (g *grouper) weight(e *editor, x *site) error {
	t := g.a.params[x.s.weight].stored.Tensor
	src, err := t.Raw(nil)
	if err != nil {
		return err
	}
	kernel := t.DType().Bits() / 8
	for _, d := range t.Dims()[2:] {
		kernel *= d
	}
	columns := int64(x.s.in.n)
	in, out := len(x.in)/x.groups, len(x.out)/x.groups
	runs := func(yield func(off, n int64) bool) {
		for i, o := range x.out {
			for _, c := range x.in[i/out*in:][:in] {
				off := int64(-1)
				if o >= 0 && c >= 0 {
					off = (int64(o)*columns + int64(c)) * kernel
				}
				if !yield(off, kernel) {
					return
				}
			}
		}
	}
	dims := slices.Concat([]int64{int64(len(x.out)), int64(in)}, t.Dims()[2:])
	g.give(e, x, 1, "kernels", t.DType(), dims, &arranged{src: src, n: int64(len(x.out)) * int64(in) * kernel, runs: runs})
	return nil
}

// bias gives a grouped convolution its bias.
func (g *grouper) bias(e *editor, x *site) error {
	st, _ := g.a.g.Stored(x.s.node.Input(2))
	src, err := st.Tensor.Raw(nil)
	if err != nil {
		return err
	}
	width := st.Tensor.DType().Bits() / 8
	runs := func(yield func(off, n int64) bool) {
		for _, o := range x.out {
			if !yield(max(int64(o)*width, -1), width) {
				return
			}
		}
	}
	n := int64(len(x.out))
	g.give(e, x, 2, "bias", st.Tensor.DType(), []int64{n}, &arranged{src: src, n: n * width, runs: runs})
	return nil
}

func (g *grouper) give(e *editor, x *site, input int, what string, t onnxfile.DType, dims []int64, c onnxfile.Content) {
	name := e.name(x.s.node.Label() + "." + what)
	e.d.SetRaw(e.initializer(name, t, dims...), c)
	e.setInput(x.s.node, input, name)
}

// arranged is a stored tensor in another order.
type arranged struct {
	src onnxfile.Content
	n   int64
	// runs are the pieces of src, one behind the other: where each begins and how many
	// bytes it has. One that begins at -1 is zeros.
	runs iter.Seq2[int64, int64]
}

func (c *arranged) Len() int64 { return c.n }

// WriteTo holds all of the source while it writes.
func (c *arranged) WriteTo(w io.Writer) (int64, error) {
	all := &buffer{b: make([]byte, 0, c.src.Len())}
	if _, err := c.src.WriteTo(all); err != nil {
		return 0, err
	}
	var done int64
	out := make([]byte, 0, 1<<20)
	flush := func() error {
		n, err := w.Write(out)
		done += int64(n)
		out = out[:0]
		return err
	}
	for off, n := range c.runs {
		if off < 0 {
			out = append(out, make([]byte, n)...)
		} else {
			out = append(out, all.b[off:off+n]...)
		}
		if len(out) >= 1<<20 {
			if err := flush(); err != nil {
				return done, err
			}
		}
	}
	return done, flush()
}

type buffer struct{ b []byte }

func (b *buffer) Write(p []byte) (int, error) {
	b.b = append(b.b, p...)
	return len(p), nil
}
