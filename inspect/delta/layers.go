package delta

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// A layerPair is a pair of ops with the tensors that are compared.
type layerPair struct {
	node    *NodeDelta
	a, b    *op
	list    []*pairing // weight, bias, operands; nil where they cannot be compared
	deltas  []TensorDelta
	changed []string // the names of operands, for Changes
}

// weights compares the constants of all pairs of ops and finds the filters.
func (m *matcher) weights(ctx context.Context, d *Delta, opt Options) error {
	var layers []*layerPair
	var all []*pairing
	for i, a := range m.a.ops {
		j := m.a.pair[i]
		if j < 0 || a.kind != m.b.ops[j].kind {
			continue
		}
		l := &layerPair{node: &d.Nodes[i], a: a, b: m.b.ops[j]}
		l.tensors(opt)
		layers = append(layers, l)
		for _, p := range l.list {
			if p != nil {
				all = append(all, p)
			}
		}
	}
	if err := comparePairs(ctx, all, workersOf(opt), opt.Progress); err != nil {
		return err
	}
	var known map[int32]int32
	for {
		f, err := m.follow(ctx, layers, opt, known)
		if err != nil {
			return err
		}
		if f == nil || known != nil || len(f.resolved) == 0 {
			break
		}
		// Later layers have told apart what earlier ones could not.
		known = f.resolved
	}
	for _, l := range layers {
		l.finish()
	}
	return nil
}

// follow goes through all layers in order. known are channels of A that are known
// to live on as certain ones of B. It returns nil when filters are not looked for.
func (m *matcher) follow(ctx context.Context, layers []*layerPair, opt Options, known map[int32]int32) (*follower, error) {
	var f *follower
	if !opt.SkipFilters {
		f = newFollower(m, opt, known)
	}
	for _, l := range layers {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		for k, p := range l.list {
			if p == nil {
				continue
			}
			l.deltas[k].Aligned = false
			if err := p.describe(&l.deltas[k]); err != nil {
				return nil, err
			}
		}
		switch {
		case f == nil:
		case l.a.weight != nil && l.b.weight != nil:
			if err := f.layer(ctx, l); err != nil {
				return nil, err
			}
		default:
			f.opaque(l.a, l.b)
		}
	}
	return f, nil
}

// tensors lists what is to be compared.
func (l *layerPair) tensors(opt Options) {
	add := func(what string, position int, a, b *view) {
		d := TensorDelta{What: what, Position: position, A: tensorOf(a), B: tensorOf(b), Agreement: Incomplete}
		var p *pairing
		name := ""
		if what == "operand" {
			name = strconv.Itoa(position)
		}
		switch {
		case a == nil && b == nil:
			return
		case what == "bias" && a == nil:
			a = zeros(b)
		case what == "bias" && b == nil:
			b = zeros(a)
		}
		switch {
		case a == nil:
			d.Note = "A has none"
		case b == nil:
			d.Note = "B has none"
		case a.rows != b.rows || a.cols != b.cols || what == "operand" && !slices.Equal(a.dims, b.dims):
			d.Note = "the shapes differ"
		default:
			p = &pairing{a: a, b: b, tol: between(a, b, opt)}
			if exactInteger(a.dtype) && a.dtype == b.dtype && a.stored && b.stored {
				p.strict = true
			}
		}
		l.list, l.deltas, l.changed = append(l.list, p), append(l.deltas, d), append(l.changed, name)
	}
	add("weight", 0, l.a.weight, l.b.weight)
	add("bias", 0, l.a.bias, l.b.bias)
	slots := map[int][2]*view{}
	var order []int
	for side, o := range []*op{l.a, l.b} {
		for _, x := range o.operands {
			p, ok := slots[x.slot]
			if !ok {
				order = append(order, x.slot)
			}
			p[side] = x.view
			slots[x.slot] = p
		}
	}
	slices.Sort(order)
	for _, s := range order {
		add("operand", s, slots[s][0], slots[s][1])
	}
}

// zeros is a bias that is not there.
func zeros(like *view) *view {
	return &view{vals: make([]float64, like.count()), rows: like.rows, cols: like.cols, dims: like.dims, mag: make([]float64, like.count()), computed: like.computed, dtype: like.dtype}
}

// describe fills d from what was compared.
func (p *pairing) describe(d *TensorDelta) error {
	switch {
	case p.note != "":
		d.Note = p.note
		return nil
	case p.equal != nil:
		d.Agreement = Differs
		if *p.equal {
			d.Agreement = Equal
		}
		return nil
	}
	dims := p.a.dims
	if p.a.stored {
		dims = p.a.t.Dims()
	}
	d.set(&p.sum, dims)
	if p.strict && d.Agreement == Equal && d.Values.Elements > 0 {
		// As float64 they are equal; beyond 2^53 that is not enough.
		same, err := onnxfile.SameData(p.a.t, p.b.t)
		if err != nil {
			return err
		}
		if !same && slices.Equal(p.a.t.Dims(), p.b.t.Dims()) {
			d.Agreement, d.Values, d.Note = Differs, nil, "integers that differ by less than a float64 can tell"
		}
	}
	return nil
}

func (d *TensorDelta) set(t *tally, dims []int64) {
	d.Values = t.values(dims)
	switch {
	case d.Values.Changed == 0:
		d.Agreement = Equal
	case d.Values.Beyond == 0:
		d.Agreement = Within
	default:
		d.Agreement = Differs
	}
	d.Note = ""
}

// setAligned is set of the filters that live on, of a tensor of so many numbers.
func (d *TensorDelta) setAligned(t *tally, dims []int64, count int64) {
	d.set(t, dims)
	d.Aligned = true
	if count > 0 && d.Values.Elements == 0 {
		d.Agreement, d.Values, d.Note = Incomplete, nil, noneLivesOn
	}
}

// noneLivesOn is why a tensor was not compared whose filters are all gone.
const noneLivesOn = "none of its filters lives on"

// find returns the comparison of that name, nil when there is none.
func (l *layerPair) find(what string) *TensorDelta {
	for i := range l.deltas {
		if l.deltas[i].What == what {
			return &l.deltas[i]
		}
	}
	return nil
}

// finish tells the node what differs.
func (l *layerPair) finish() {
	n := l.node
	if f := n.Filters; f != nil {
		count := func(what string, a, b int) {
			if a != b {
				n.Changes = append(n.Changes, Change{What: what, From: strconv.Itoa(a), To: strconv.Itoa(b)})
			}
		}
		count("filters", f.CountA, f.CountB)
		if !f.InOrder {
			n.Changes = append(n.Changes, Change{What: "filter_order"})
		}
		count("channels", f.Channels.CountA, f.Channels.CountB)
		if !f.Channels.InOrder && !f.Channels.Ignored {
			n.Changes = append(n.Changes, Change{What: "channel_order"})
		}
	}
	for i := range l.deltas {
		d := &l.deltas[i]
		differs := d.Agreement == Differs || d.Agreement == Incomplete
		if d.Note == noneLivesOn {
			differs = false // told as filters
		}
		if f := n.Filters; f != nil && d.What == "weight" {
			if d.Agreement == Incomplete && f.Note == "" {
				differs = false // told as filters and channels
			}
			if f.Gone > 0 && f.New > 0 {
				differs = true
			}
		}
		if differs {
			c := Change{What: d.What, Name: l.changed[i]}
			if d.Agreement == Incomplete && d.Note != noneLivesOn && d.A != nil && d.B != nil {
				c.From, c.To = fmt.Sprint(d.A.Dims), fmt.Sprint(d.B.Dims)
			}
			n.Changes = append(n.Changes, c)
		}
	}
	n.Tensors = l.deltas
}

// A follower knows which channels of A live on as which of B, layer by layer.
type follower struct {
	m       *matcher
	opt     Options
	ca, cb  *channels
	to      map[int32]int32   // of a class of A's channels, that of B's
	claimed map[int32]bool    // classes of B that stand for one of A
	scale   map[int32]float64 // of a class of A, what B multiplies it by
	assumed map[int32]bool    // classes of A of which to is an assumption
	// unclear are classes of A of which to is one of several that are as likely, and
	// resolved what a later layer says of them.
	unclear  map[int32]bool
	resolved map[int32]int32
}

func newFollower(m *matcher, opt Options, known map[int32]int32) *follower {
	f := &follower{m: m, opt: opt, ca: followChannels(m.a.graph), cb: followChannels(m.b.graph),
		to: map[int32]int32{}, claimed: map[int32]bool{}, scale: map[int32]float64{}, assumed: map[int32]bool{},
		unclear: map[int32]bool{}, resolved: map[int32]int32{}}
	for a, b := range known {
		f.to[a], f.claimed[b] = b, true
	}
	for in, x := range f.ca.inputs {
		f.identity(x.ids, f.cb.inputs[in].ids, false)
	}
	return f
}

// identity takes the channels of two lists of one length to be the same, where
// nothing better is known.
func (f *follower) identity(x, y []int32, assumed bool) {
	if len(x) != len(y) {
		return
	}
	for k := range x {
		a, b := f.ca.find(x[k]), f.cb.find(y[k])
		if _, ok := f.to[a]; ok || f.claimed[b] {
			continue
		}
		f.to[a], f.claimed[b] = b, true
		if assumed {
			f.assumed[a] = true
		}
	}
}

// opaque takes the channels that an operator makes, of which nothing is known, to
// be in the same order in both models.
func (f *follower) opaque(a, b *op) {
	for k, x := range f.ca.outs[a.id] {
		if k >= len(f.cb.outs[b.id]) {
			return
		}
		y := f.cb.outs[b.id][k]
		if len(x.ids) == 0 || len(x.ids) != len(y.ids) || !f.ca.unknown[x.ids[0]] || !f.cb.unknown[y.ids[0]] {
			continue
		}
		f.identity(x.ids, y.ids, true)
	}
}

// positions maps the channels of a list of A to those of B, the n-th of a class
// to the n-th.
func (f *follower) positions(x, y []int32) (to []int32, assumed bool) {
	at := map[int32][]int32{}
	for j, id := range y {
		c := f.cb.find(id)
		at[c] = append(at[c], int32(j))
	}
	to = make([]int32, len(x))
	for i, id := range x {
		to[i] = -1
		c := f.ca.find(id)
		b, ok := f.to[c]
		if !ok || len(at[b]) == 0 {
			continue
		}
		to[i], at[b] = at[b][0], at[b][1:]
		assumed = assumed || f.assumed[c]
	}
	return to, assumed
}

func identical(to []int32, n int) bool {
	if len(to) != n {
		return false
	}
	for i, j := range to {
		if int(j) != i {
			return false
		}
	}
	return true
}

func mapped(to []int32) (n int) {
	for _, j := range to {
		if j >= 0 {
			n++
		}
	}
	return n
}

func ascends(to []int32) bool {
	last := int32(-1)
	for _, j := range to {
		if j < 0 {
			continue
		}
		if j < last {
			return false
		}
		last = j
	}
	return true
}

func inverse(to []int32, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = -1
	}
	for i, j := range to {
		if j >= 0 {
			out[j] = int32(i)
		}
	}
	return out
}

// maxRows bounds the filters of a layer that are looked for.
const maxRows = 1 << 16

// layer finds the filters of a pair of layers.
func (f *follower) layer(ctx context.Context, l *layerPair) error {
	a, b := l.a, l.b
	each := a.channelwise || a.depthwise() && a.weight.rows == a.group
	fd := &FilterDelta{CountA: int(a.weight.rows), CountB: int(b.weight.rows), KeptIndices: []int{}, InOrder: true, Channels: ChannelDelta{InOrder: true}}
	if !a.channelwise {
		l.node.Filters = fd
	}
	note := func(s string) error {
		fd.Note = s
		f.identity(f.ca.of(ref{op: a}).ids, f.cb.of(ref{op: b}).ids, true)
		return nil
	}
	if a.weight.rows > maxRows || b.weight.rows > maxRows {
		return note("more filters than are looked for")
	}
	if each != (b.channelwise || b.depthwise() && b.weight.rows == b.group) {
		return note("one of the two works channel by channel")
	}
	inA, inB := f.ca.of(a.ins[0]).ids, f.cb.of(b.ins[0]).ids
	outA, outB := f.ca.of(ref{op: a}).ids, f.cb.of(ref{op: b}).ids
	if a.channelwise && len(outA) != fd.CountA || b.channelwise && len(outB) != fd.CountB {
		return nil
	}
	if inA == nil || inB == nil || len(outA) != fd.CountA || len(outB) != fd.CountB {
		return note("its channels could not be followed")
	}
	s := &assignment{a: &rowsOf{v: a.weight}, b: &rowsOf{v: b.weight}, each: each, groupsA: 1, groupsB: 1, least: f.opt.Similarity,
		tol: between(a.weight, b.weight, f.opt), workers: workersOf(f.opt)}
	s.biases(a, b, f.opt)
	s.answers = f.m.a.answers(a) && f.m.b.answers(b)
	// The most similar of so many pairs of rows that have nothing to do with each
	// other has about this cosine.
	if d := float64(min(a.weight.cols, b.weight.cols)); d > 0 {
		chance := math.Sqrt(2 * math.Log(float64(a.weight.rows)*float64(b.weight.rows)) / d)
		s.least = max(s.least, min(chance, 0.95))
	}
	fd.Channels.CountA, fd.Channels.CountB = len(inA), len(inB)
	s.forced, _ = f.positions(outA, outB)
	if each {
		if a.weight.cols != b.weight.cols {
			return note("the kernels differ in size")
		}
		// A row that has no channel in B is gone.
		for i := range s.forced {
			if s.forced[i] < 0 {
				s.forced[i] = -2
			}
		}
		if mapped(s.forced) == 0 && len(inA) == len(inB) {
			f.identity(inA, inB, true)
			s.forced, _ = f.positions(outA, outB)
			fd.Channels.Assumed = true
		}
		s.cols = s.forced
		fd.Channels.of(s.forced, len(inB))
	} else {
		s.groupsA, s.groupsB = int(a.group), int(b.group)
		if len(inA)%s.groupsA != 0 || len(inB)%s.groupsB != 0 || len(inA) == 0 {
			return note("its channels could not be followed")
		}
		s.inner = int(a.weight.cols) / (len(inA) / s.groupsA)
		if s.inner != int(b.weight.cols)/(len(inB)/s.groupsB) || s.inner*len(inA)/s.groupsA != int(a.weight.cols) || s.inner*len(inB)/s.groupsB != int(b.weight.cols) {
			return note("the kernels differ in size")
		}
		s.cols, fd.Channels.Assumed = f.positions(inA, inB)
		if mapped(s.cols) == 0 {
			if len(inA) != len(inB) {
				return note("none of the channels that it reads lives on")
			}
			f.identity(inA, inB, true)
			fd.Channels.Assumed = true
			s.cols, _ = f.positions(inA, inB)
			if mapped(s.cols) < len(s.cols) {
				for i := range s.cols {
					s.cols[i] = int32(i)
				}
			}
		}
		fd.Channels.of(s.cols, len(inB))
		s.inverse = inverse(s.cols, len(inB))
		s.findGaps()
	}
	var reopened []int
	if !each {
		// Where the layer before could not tell, the weights of this one may.
		for i, j := range s.forced {
			if j >= 0 && f.unclear[f.ca.find(outA[i])] {
				s.forced[i] = -1
				reopened = append(reopened, i)
			}
		}
	}
	raw := l.find("weight")
	place := identical(s.cols, len(inB)) && fd.CountA == fd.CountB
	for i, j := range s.forced {
		place = place && (j == -1 || int(j) == i)
	}
	rawSame := raw.Agreement == Equal || raw.Agreement == Within
	if place && rawSame {
		s.inPlace()
	} else if err := f.search(ctx, s, inA, fd, rawSame && fd.CountA == fd.CountB); err != nil {
		return err
	}
	for _, i := range reopened {
		if q := s.to[i]; q >= 0 && !s.unclear[i] {
			f.resolved[f.ca.find(outA[i])] = f.cb.find(outB[q])
		}
	}
	if err := f.columns(ctx, s, inA, inB); err != nil {
		return err
	}
	f.remember(s, outA, outB, each)
	s.fill(fd)
	if identical(s.to, fd.CountB) && identical(s.cols, len(inB)) && raw.Agreement != Incomplete || fd.Channels.Ignored {
		return nil // compared by place already
	}
	l.align(s)
	return nil
}

// search solves s; with the scales of the filters before taken out, where that
// makes more filters the same.
func (f *follower) search(ctx context.Context, s *assignment, inA []int32, fd *FilterDelta, rawSame bool) error {
	if err := s.solve(ctx); err != nil {
		return err
	}
	if !s.each {
		scales := make([]float64, len(inA))
		some := false
		for i, id := range inA {
			scales[i] = 1
			if v, ok := f.scale[f.ca.find(id)]; ok {
				scales[i], some = v, true
			}
		}
		if some {
			t := *s
			t.colScale = scales
			t.sum = tally{}
			t.tol.rel = max(t.tol.rel, 1e-5)
			if err := t.solve(ctx); err != nil {
				return err
			}
			if t.score() > s.score()+1e-6 {
				*s = t
				fd.Channels.Scaled = true
			}
		}
	}
	if rawSame {
		same := 0
		for i := range s.to {
			if s.to[i] >= 0 && s.status[i].same {
				same++
			}
		}
		if same < len(s.to) {
			// The numbers are those of A, whatever became of the channels.
			fd.Channels.Ignored = true
			s.inPlace()
		}
	}
	return nil
}

// score sums the similarities of an assignment.
func (s *assignment) score() (sum float64) {
	for i, q := range s.to {
		if q >= 0 && !math.IsNaN(s.cosine[i]) {
			sum += s.cosine[i]
		}
		if q >= 0 && s.status[i].same {
			sum++
		}
	}
	return sum
}

// biases takes over the biases of both ops.
func (s *assignment) biases(a, b *op, opt Options) {
	get := func(v *view) (x, m []float64) {
		if v == nil || v.vals == nil {
			return nil, nil
		}
		if m = v.mag; m == nil {
			m = make([]float64, len(v.vals))
			for i, y := range v.vals {
				m[i] = math.Abs(y)
			}
		}
		return v.vals, m
	}
	s.biasA, s.magA = get(a.bias)
	s.biasB, s.magB = get(b.bias)
	s.biasTol = tolerance{opt.RTol, opt.ATol}
	switch {
	case a.bias != nil && b.bias != nil:
		s.biasTol = between(a.bias, b.bias, opt)
	case a.weight.made() != b.weight.made():
		s.biasTol.rel = max(s.biasTol.rel, foldRounding)
	}
}

// answers tells whether what an op makes comes out of the model as it is, or as
// probabilities.
func (g *graph) answers(o *op) bool {
	return slices.ContainsFunc(g.readers[o.id], func(r reader) bool {
		if r.op == nil {
			return true
		}
		switch r.op.kind {
		case "Softmax", "LogSoftmax", "Sigmoid":
			return slices.ContainsFunc(g.readers[r.op.id], func(r reader) bool { return r.op == nil })
		}
		return false
	})
}

// inPlace takes every filter to be at its index with the same weights.
func (s *assignment) inPlace() {
	n := int(s.a.v.rows)
	s.to, s.cosine, s.scale = make([]int32, n), make([]float64, n), make([]float64, n)
	s.status, s.unclear, s.others = make([]rowStatus, n), make([]bool, n), make([][]int32, n)
	for i := range n {
		s.to[i], s.cosine[i], s.scale[i] = int32(i), 1, 1
		s.status[i] = rowStatus{same: true, bias: !s.biasAlike(int32(i), int32(i), 1)}
	}
}

func (c *ChannelDelta) of(to []int32, n int) {
	c.Gone = len(to) - mapped(to)
	c.New = n - mapped(to)
	c.InOrder = ascends(to)
}

// findGaps lists, for each group of A, the channels that live on, where not all
// do.
func (s *assignment) findGaps() {
	if mapped(s.cols) == len(s.cols) {
		return
	}
	per := len(s.cols) / s.groupsA
	s.gaps = make([][]int32, s.groupsA)
	for g := range s.gaps {
		for c := range per {
			if s.cols[g*per+c] >= 0 {
				s.gaps[g] = append(s.gaps[g], int32(c))
			}
		}
	}
}

// maxUnclear bounds the channels that are told apart by what reads them.
const maxUnclear = 64

// columns tells channels apart that the layer which makes them could not: by the
// weights with which this layer reads them.
func (f *follower) columns(ctx context.Context, s *assignment, inA, inB []int32) error {
	if s.each || s.groupsA != 1 || s.groupsB != 1 {
		return nil
	}
	var list []int // channels of A
	var at []int   // of each, its position among the channels that are compared
	n := 0
	for i, j := range s.cols {
		if j < 0 {
			continue
		}
		if f.unclear[f.ca.find(inA[i])] {
			list, at = append(list, i), append(at, n)
		}
		n++
	}
	if len(list) < 2 || len(list) > maxUnclear {
		return nil
	}
	var rows []int32
	for i, q := range s.to {
		if q >= 0 {
			rows = append(rows, int32(i))
		}
	}
	m := len(list)
	xy, xx, yy := make([]float64, m*m), make([]float64, m), make([]float64, m)
	one := *s
	one.workers = 1 // so that the sums are always the same
	err := one.pairs(ctx, len(rows), func(k int) (int32, int32) { return rows[k], s.to[rows[k]] }, func(_ int, x, y []float64) {
		for u := range list {
			a := x[at[u]*s.inner : (at[u]+1)*s.inner]
			for v := range list {
				b := y[at[v]*s.inner : (at[v]+1)*s.inner]
				for k, w := range a {
					xy[u*m+v] += w * b[k]
				}
			}
			for k, w := range a {
				xx[u] += w * w
				yy[u] += y[at[u]*s.inner+k] * y[at[u]*s.inner+k]
			}
		}
	})
	if err != nil {
		return err
	}
	cosine := func(u, v int) float64 {
		if c := xy[u*m+v] / math.Sqrt(xx[u]) / math.Sqrt(yy[v]); c-c == 0 {
			return c
		}
		return 0
	}
	for u := range list {
		best := 0
		for v := range list {
			if cosine(u, v) > cosine(u, best) {
				best = v
			}
		}
		c := cosine(u, best)
		clear := c >= s.least
		for k := range list {
			clear = clear && (k == best || !alike(c, cosine(u, k))) && (k == u || !alike(c, cosine(k, best)) && cosine(k, best) < c)
		}
		if clear {
			f.resolved[f.ca.find(inA[list[u]])] = f.cb.find(inB[s.cols[list[best]]])
		}
	}
	return nil
}

// remember notes which channels the filters make.
func (f *follower) remember(s *assignment, outA, outB []int32, each bool) {
	if each {
		return
	}
	found := 0
	for i, q := range s.to {
		a := f.ca.find(outA[i])
		if q < 0 {
			continue
		}
		found++
		b := f.cb.find(outB[q])
		if _, ok := f.to[a]; ok || f.claimed[b] {
			continue
		}
		f.to[a], f.claimed[b] = b, true
		if s.unclear[i] {
			f.unclear[a] = true
		}
		if s.status[i].scaled {
			f.scale[a] = s.scale[i]
		}
	}
	if 10*found < len(s.to) && len(outA) == len(outB) {
		f.identity(outA, outB, true) // the layer is another one; go on by index
	}
}

// fill writes down what was found.
func (s *assignment) fill(fd *FilterDelta) {
	back := make([]int, fd.CountB)
	for q := range back {
		back[q] = -1
	}
	for i, q := range s.to {
		if q >= 0 {
			back[q] = i
		}
	}
	for _, i := range back {
		if i >= 0 {
			fd.KeptIndices = append(fd.KeptIndices, i)
		}
	}
	fd.InOrder = slices.IsSorted(fd.KeptIndices)
	for i, q := range s.to {
		x := Filter{From: &i, Unclear: s.unclear[i]}
		if x.Unclear {
			fd.Unclear++
			for _, o := range s.others[i] {
				x.Candidates = append(x.Candidates, int(o))
			}
		}
		x.Similarity = number64(s.cosine[i])
		if q < 0 {
			x.Kind = FilterGone
			fd.Gone++
			fd.Filters = append(fd.Filters, x)
			continue
		}
		to := int(q)
		x.To = &to
		st := s.status[i]
		x.BiasChanged = st.bias
		switch {
		case st.scaled:
			x.Kind, x.Scale = FilterScaled, number64(s.scale[i])
			fd.Scaled++
		case !st.same || st.bias:
			x.Kind = FilterChanged
			fd.Changed++
		case to == i || fd.InOrder:
			x.Kind = FilterKept
			fd.Kept++
			if to == i && !x.Unclear {
				continue
			}
		default:
			x.Kind = FilterMoved
			fd.Moved++
		}
		fd.Filters = append(fd.Filters, x)
	}
	for q, i := range back {
		if i < 0 {
			fd.Filters = append(fd.Filters, Filter{Kind: FilterNew, To: &q})
			fd.New++
		}
	}
}

// align replaces the comparison of weight and bias by place with that of the
// filters that live on.
func (l *layerPair) align(s *assignment) {
	if d := l.find("weight"); d != nil {
		dims := l.a.weight.dims
		if l.a.weight.stored {
			dims = l.a.weight.t.Dims()
		}
		d.setAligned(&s.sum, dims, s.a.v.count())
	}
	if d := l.find("bias"); d != nil {
		t := tally{tol: s.biasTol}
		for i, q := range s.to {
			if q < 0 {
				continue
			}
			var x, y, size float64
			if s.biasA != nil {
				x, size = s.biasA[i], s.magA[i]
			}
			if s.biasB != nil {
				y, size = s.biasB[q], max(size, s.magB[q])
			}
			t.add(x, y, int64(i), size)
		}
		d.setAligned(&t, []int64{l.a.weight.rows}, l.a.weight.rows)
	}
}
