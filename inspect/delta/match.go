package delta

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
)

// The levels at which two operators may look alike.
const (
	byContent = iota // operator, attributes, shapes and a sample of the weights
	byShape          // operator, attributes and shapes
	byForm           // operator and attributes, whatever the number of channels
	byKind           // operator
	levels
)

// A side is one of the two graphs with what matching needs to know of it.
type side struct {
	*graph
	labels  [levels][]uint64
	samples [][]float64 // of each op's weight
	pair    []int       // the op's partner in the other graph, -1
}

func hash(parts ...any) uint64 {
	h := fnv.New64a()
	var b [8]byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			binary.LittleEndian.PutUint64(b[:], uint64(len(p)))
			h.Write(b[:])
			h.Write([]byte(p))
		case uint64:
			binary.LittleEndian.PutUint64(b[:], p)
			h.Write(b[:])
		case int:
			binary.LittleEndian.PutUint64(b[:], uint64(p))
			h.Write(b[:])
		case []uint64:
			for _, x := range p {
				binary.LittleEndian.PutUint64(b[:], x)
				h.Write(b[:])
			}
			binary.LittleEndian.PutUint64(b[:], uint64(len(p)))
			h.Write(b[:])
		}
	}
	return h.Sum64()
}

// ofChannels tells whether an attribute follows from the number of channels.
func ofChannels(name string) bool {
	switch name {
	case "group", "shape", "split", "starts", "ends", "pads_of_channels", "num_groups":
		return true
	}
	return false
}

func newSide(ctx context.Context, g *graph) (*side, error) {
	s := &side{graph: g, pair: make([]int, len(g.ops)), samples: make([][]float64, len(g.ops))}
	for l := range s.labels {
		s.labels[l] = make([]uint64, len(g.ops))
	}
	for i, o := range g.ops {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.pair[i] = -1
		kind := hash(o.kind)
		form, shape := []uint64{kind}, []uint64{kind}
		for _, a := range o.attrs {
			if !ofChannels(a.name) {
				form = append(form, hash(a.name, a.text))
			}
			shape = append(shape, hash(a.name, a.text))
		}
		var content []uint64
		for k, v := range o.constants() {
			if v == nil {
				continue
			}
			if k > 1 {
				form = append(form, hash(k, len(v.dims)))
			}
			if k != 1 {
				shape = append(shape, hash(k, fmt.Sprint(v.rows, v.cols)))
			}
			sample, err := v.sketch()
			if err != nil {
				return nil, err
			}
			if k == 0 {
				s.samples[i] = sample
			}
			for _, x := range sample {
				content = append(content, uint64(math.Float32bits(float32(x))))
			}
		}
		form = append(form, hash(len(o.ins), len(o.outs)))
		s.labels[byKind][i] = kind
		s.labels[byForm][i] = hash(form)
		s.labels[byShape][i] = hash(shape, hash(form))
		s.labels[byContent][i] = hash(s.labels[byShape][i], hash(content))
	}
	return s, nil
}

// constants are the weight, the bias and the operands of o; the first two may be
// nil.
func (o *op) constants() []*view {
	list := []*view{o.weight, o.bias}
	for _, x := range o.operands {
		list = append(list, x.view)
	}
	return list
}

// digest returns a number for what a graph is and holds; of large weights, a
// sample.
func digest(ctx context.Context, g *graph) (uint64, error) {
	s, err := newSide(ctx, g)
	if err != nil {
		return 0, err
	}
	f, b := s.colours(byContent, nil)
	for i := range f {
		f[i] = hash(f[i], b[i])
	}
	slices.Sort(f)
	var outs []uint64
	for _, r := range g.outputs {
		outs = append(outs, refHash(r, f))
	}
	return hash(f, outs), nil
}

func refHash(r ref, f []uint64) uint64 {
	if r.op == nil {
		return hash("input", r.in)
	}
	return hash(f[r.op.id], r.out)
}

// colours describes each op by all it is computed from (forward) and by all that
// is computed from it (backward). anchor gives ops that are matched already a
// colour of their own.
func (s *side) colours(level int, anchor func(id int) (uint64, bool)) (f, b []uint64) {
	f, b = make([]uint64, len(s.ops)), make([]uint64, len(s.ops))
	fixed := func(i int) (uint64, bool) {
		if anchor == nil {
			return 0, false
		}
		return anchor(i)
	}
	for i, o := range s.ops {
		if c, ok := fixed(i); ok {
			f[i] = c
			continue
		}
		ins := make([]uint64, len(o.ins))
		for k, r := range o.ins {
			ins[k] = hash(refHash(r, f), o.slots[k])
			if o.commutes() {
				ins[k] = refHash(r, f)
			}
		}
		if o.commutes() {
			slices.Sort(ins)
		}
		f[i] = hash(s.labels[level][i], ins)
	}
	for i, o := range slices.Backward(s.ops) {
		if c, ok := fixed(i); ok {
			b[i] = c
			continue
		}
		var outs []uint64
		for _, r := range s.readers[i] {
			switch {
			case r.op == nil:
				outs = append(outs, hash("output", r.pos, r.output))
			case r.op.commutes():
				outs = append(outs, hash(b[r.op.id], r.output))
			default:
				outs = append(outs, hash(b[r.op.id], r.op.slots[r.pos], r.output))
			}
		}
		slices.Sort(outs)
		b[i] = hash(s.labels[level][i], outs, len(o.ins))
	}
	return f, b
}

type matcher struct {
	a, b    *side
	hasty   bool // guesses are made many at a time
	pairs   int
	unclear map[int]bool // ops of a
}

// maxRestarts is how often matching begins anew with one guess more before it
// makes many at a time, so that no graph takes long.
const maxRestarts = 200

// match pairs the ops of two graphs, most certain pairs first.
func match(ctx context.Context, a, b *graph) (*matcher, error) {
	sa, err := newSide(ctx, a)
	if err != nil {
		return nil, err
	}
	sb, err := newSide(ctx, b)
	if err != nil {
		return nil, err
	}
	m := &matcher{a: sa, b: sb, unclear: map[int]bool{}}
	steps := []func() int{
		func() int { return m.structure(byContent) },
		m.likeWeights,
		func() int { return m.structure(byShape) },
		func() int { return m.structure(byForm) },
		m.following,
		func() int { return m.names(byForm) },
		func() int { return m.oneWay(byContent, false) },
		func() int { return m.oneWay(byShape, false) },
		func() int { return m.names(byKind) },
		func() int { return m.oneWay(byForm, false) },
		func() int { return m.structure(byKind) },
		func() int { return m.oneWay(byShape, true) },
		func() int { return m.oneWay(byForm, true) },
		func() int { return m.oneWay(byKind, true) },
		m.replaced,
	}
	restarts := 0
	for i := 0; i < len(steps); {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if m.pairs == len(sa.ops) || m.pairs == len(sb.ops) {
			break
		}
		switch n := steps[i](); {
		case n == 0:
			i++
		default:
			// What is matched now tells the others apart.
			restarts++
			m.hasty = restarts > maxRestarts
			if i++; restarts < 5*maxRestarts {
				i = 0
			}
		}
	}
	return m, nil
}

func (m *matcher) join(i, j int, unclear bool) {
	m.a.pair[i], m.b.pair[j] = j, i
	m.pairs++
	if unclear {
		m.unclear[i] = true
	}
}

func (m *matcher) colours(level int) (fa, ba, fb, bb []uint64) {
	fa, ba = m.a.colours(level, func(i int) (uint64, bool) { return hash("pair", i), m.a.pair[i] >= 0 })
	fb, bb = m.b.colours(level, func(j int) (uint64, bool) { return hash("pair", m.b.pair[j]), m.b.pair[j] >= 0 })
	return
}

// group lists the unmatched ops of both sides by key, in the order of a.
func (m *matcher) group(keyA, keyB func(i int) uint64) (list [][2][]int) {
	index := map[uint64]int{}
	for i := range m.a.ops {
		if m.a.pair[i] >= 0 {
			continue
		}
		k := keyA(i)
		at, ok := index[k]
		if !ok {
			at = len(list)
			index[k] = at
			list = append(list, [2][]int{})
		}
		list[at][0] = append(list[at][0], i)
	}
	for j := range m.b.ops {
		if m.b.pair[j] >= 0 {
			continue
		}
		if at, ok := index[keyB(j)]; ok {
			list[at][1] = append(list[at][1], j)
		}
	}
	return list
}

// structure pairs ops that have the same place in both graphs. Twins, which
// structure cannot tell apart, are told apart by name, else by order, and only
// one pair of them at a time, because it tells what is around them apart.
func (m *matcher) structure(level int) (n int) {
	fa, ba, fb, bb := m.colours(level)
	groups := m.group(func(i int) uint64 { return hash(fa[i], ba[i]) }, func(j int) uint64 { return hash(fb[j], bb[j]) })
	for _, g := range groups {
		if len(g[0]) == 1 && len(g[1]) == 1 {
			m.join(g[0][0], g[1][0], false)
			n++
		}
	}
	if n > 0 {
		return n
	}
	for _, g := range groups {
		if len(g[0]) < 2 || len(g[0]) != len(g[1]) {
			continue
		}
		i, j := g[0][0], g[1][0]
		named := false
		for _, k := range g[1] {
			if m.sameName(i, k) {
				j, named = k, true
			}
		}
		m.join(i, j, !named && level != byContent && m.a.ops[i].weight != nil)
		if n++; !m.hasty {
			return n
		}
	}
	return n
}

func (m *matcher) sameName(i, j int) bool {
	a, b := m.a.ops[i], m.b.ops[j]
	return len(a.outs) > 0 && len(b.outs) > 0 && a.outs[0] != "" && a.outs[0] == b.outs[0]
}

// likeness is the cosine of two samples of weights.
func likeness(x, y []float64) float64 {
	if len(x) != len(y) {
		return 0
	}
	var xx, yy, xy float64
	for i, a := range x {
		if b := y[i]; a-a == 0 && b-b == 0 {
			xx += a * a
			yy += b * b
			xy += a * b
		}
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx) / math.Sqrt(yy)
}

// likeWeights pairs ops whose weights are alike wherever they stand: each must be
// the other's best, by far.
func (m *matcher) likeWeights() (n int) {
	key := func(s *side) func(i int) uint64 {
		return func(i int) uint64 { return s.labels[byShape][i] }
	}
	for _, g := range m.group(key(m.a), key(m.b)) {
		la, lb := m.withSamples(m.a, g[0]), m.withSamples(m.b, g[1])
		if len(la) == 0 || len(lb) == 0 || len(la)*len(lb) > 1<<16 {
			continue
		}
		like := make([][]float64, len(la))
		for x, i := range la {
			like[x] = make([]float64, len(lb))
			for y, j := range lb {
				like[x][y] = likeness(m.a.samples[i], m.b.samples[j])
			}
		}
		for x, i := range la {
			y := slices.Index(like[x], slices.Max(like[x]))
			best := like[x][y]
			if best < 0.8 {
				continue
			}
			clear := true
			for k := range lb {
				clear = clear && (k == y || like[x][k] < best-0.1)
			}
			for k := range la {
				clear = clear && (k == x || like[k][y] < best-0.1)
			}
			if clear {
				m.join(i, lb[y], false)
				n++
			}
		}
	}
	return n
}

// withSamples keeps the ops with samples that are long enough to mean something.
func (m *matcher) withSamples(s *side, list []int) (out []int) {
	for _, i := range list {
		if len(s.samples[i]) >= 24 {
			out = append(out, i)
		}
	}
	return out
}

// names pairs ops whose outputs bear the same name.
func (m *matcher) names(level int) (n int) {
	key := func(s *side) func(i int) uint64 {
		return func(i int) uint64 {
			o := s.ops[i]
			if len(o.outs) == 0 || o.outs[0] == "" {
				return hash("none", i, len(s.pair))
			}
			return hash(s.labels[level][i], o.outs[0])
		}
	}
	for _, g := range m.group(key(m.a), key(m.b)) {
		if len(g[0]) == 1 && len(g[1]) == 1 && m.sameName(g[0][0], g[1][0]) {
			m.join(g[0][0], g[1][0], false)
			n++
		}
	}
	return n
}

// following pairs ops without constants that read partners: an activation goes
// with the layer before it.
func (m *matcher) following() (n int) {
	for i, a := range m.a.ops {
		if m.a.pair[i] >= 0 || len(a.ins) == 0 || a.weight != nil || len(a.operands) > 0 {
			continue
		}
		found, several := -1, false
		for _, r := range m.partners(a) {
			j := r.op.id
			if m.b.pair[j] < 0 && j != found && m.a.labels[byShape][i] == m.b.labels[byShape][j] && m.sameIns(a, r.op) {
				found, several = j, found >= 0
			}
		}
		// Twins of a must not claim the same.
		for _, r := range m.readersOf(a.ins[0]) {
			several = several || r.op != nil && r.op != a && m.a.pair[r.op.id] < 0 && m.a.labels[byShape][r.op.id] == m.a.labels[byShape][i] && found >= 0 && m.sameIns(r.op, m.b.ops[found])
		}
		if found >= 0 && !several {
			m.join(i, found, false)
			n++
		}
	}
	return n
}

// partners lists the ops of b that read the partner of what a reads first.
func (m *matcher) partners(a *op) (list []reader) {
	x := a.ins[0]
	if x.op != nil {
		if j := m.a.pair[x.op.id]; j >= 0 {
			for _, r := range m.b.readers[j] {
				if r.op != nil {
					list = append(list, r)
				}
			}
		}
		return list
	}
	for _, o := range m.b.ops {
		for k, y := range o.ins {
			if y.op == nil && y.in == x.in {
				list = append(list, reader{op: o, pos: k})
			}
		}
	}
	return list
}

// readersOf lists the ops of a that read a tensor.
func (m *matcher) readersOf(x ref) []reader {
	if x.op != nil {
		return m.a.readers[x.op.id]
	}
	return nil
}

// oneWay pairs ops that are computed from the same, or from which the same is
// computed. Where the two ways disagree it takes the former, if contested.
func (m *matcher) oneWay(level int, contested bool) (n int) {
	fa, ba, fb, bb := m.colours(level)
	unique := func(ka, kb []uint64) map[int]int {
		out := map[int]int{}
		for _, g := range m.group(func(i int) uint64 { return ka[i] }, func(j int) uint64 { return kb[j] }) {
			if len(g[0]) == 1 && len(g[1]) == 1 {
				out[g[0][0]] = g[1][0]
			}
		}
		return out
	}
	f, b := unique(fa, fb), unique(ba, bb)
	takenF, takenB := map[int]int{}, map[int]int{}
	for i, j := range f {
		takenF[j] = i
	}
	for i, j := range b {
		takenB[j] = i
	}
	for i := range m.a.ops {
		jf, inF := f[i]
		jb, inB := b[i]
		switch {
		case !inF && !inB:
			continue
		case inF && inB && jf != jb:
			if contested && m.b.pair[jf] < 0 {
				m.join(i, jf, true)
				n++
			}
		case inF:
			k, ok := takenB[jf]
			if !ok || k == i {
				m.join(i, jf, false)
				n++
			} else if contested && m.b.pair[jf] < 0 && m.a.pair[i] < 0 {
				m.join(i, jf, true)
				n++
			}
		default:
			if k, ok := takenF[jb]; !ok || k == i {
				m.join(i, jb, false)
				n++
			}
		}
		if contested && n > 0 && !m.hasty {
			return n // one guess at a time
		}
	}
	return n
}

// replaced pairs an op with the one of another operator that stands in its place:
// all that they read is paired, and so is one of their readers.
func (m *matcher) replaced() (n int) {
	for i, a := range m.a.ops {
		if m.a.pair[i] >= 0 || len(a.ins) == 0 {
			continue
		}
		for _, r := range m.partners(a) {
			b := r.op
			if j := b.id; m.b.pair[j] < 0 && len(a.ins) == len(b.ins) && m.sameIns(a, b) && m.sameReader(i, j) {
				m.join(i, j, false)
				n++
				break
			}
		}
	}
	return n
}

// sameRef tells whether two tensors are the same as far as matched.
func (m *matcher) sameRef(x, y ref) bool {
	if x.op == nil || y.op == nil {
		return x.op == nil && y.op == nil && x.in == y.in
	}
	return x.out == y.out && m.a.pair[x.op.id] == y.op.id
}

func (m *matcher) sameIns(a, b *op) bool {
	if len(a.ins) != len(b.ins) {
		return false
	}
	used := make([]bool, len(b.ins))
	for k, x := range a.ins {
		found := false
		for l, y := range b.ins {
			if used[l] || l != k && !(a.commutes() && b.commutes()) || !m.sameRef(x, y) {
				continue
			}
			used[l], found = true, true
			break
		}
		if !found {
			return false
		}
	}
	return true
}

func (m *matcher) sameReader(i, j int) bool {
	for _, x := range m.a.readers[i] {
		for _, y := range m.b.readers[j] {
			if x.op == nil && y.op == nil && x.pos == y.pos {
				return true
			}
			if x.op != nil && y.op != nil && m.a.pair[x.op.id] == y.op.id {
				return true
			}
		}
	}
	return false
}
