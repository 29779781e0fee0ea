package gorgonia

import (
	"context"
	"fmt"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
)

// plan is a program bound to shapes of its inputs.
type plan struct {
	kernels []kernel // by node, nil for nodes whose results are known
	specs   []spec   // by tensor
	known   []*value // by tensor, nil when it depends on what the graph is fed
	recent  []*schedule
}

// Bounds of the numbers that are computed before a run and kept, of one node and
// of all: beyond shape arithmetic, computing them with the rest is no loss.
const (
	maxKnown    = 1 << 20
	maxAllKnown = 1 << 24
)

// maxWords bounds the memory of a run, 32 GiB: a graph may ask for anything.
const maxWords = 1 << 32

// plan binds every node to the shapes that its inputs have when the program's
// inputs have the given ones. It fails with an *UnsupportedError that lists all
// nodes that cannot be bound.
func (p *program) plan(ctx context.Context, w *compute.Workers, inputs [][]int) (*plan, error) {
	pl := &plan{
		kernels: make([]kernel, len(p.nodes)),
		specs:   make([]spec, len(p.constants)),
		known:   slices.Clone(p.constants),
	}
	for t, c := range pl.known {
		if c != nil {
			pl.specs[t] = c.spec()
		}
	}
	for i, in := range p.inputs {
		pl.specs[in.tensor] = spec{in.dtype, inputs[i]}
	}
	var bad []Unsupported
	budget := maxAllKnown
	for i, n := range p.nodes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := n.check(); err != nil {
			bad = append(bad, n.unsupported(err.Error()))
			continue
		}
		b, ok := p.binder(n, w, pl)
		if !ok {
			continue // a node before it is refused
		}
		in, known := b.values()
		k, err := b.bind()
		if err != nil {
			bad = append(bad, n.unsupported(err.Error()))
			continue
		}
		specs := k.results()
		var results []*value
		if sum := total(specs); known && sum <= min(maxKnown, budget) || isFixed(k) {
			budget -= sum
			if results, err = computed(ctx, w, k, in); err != nil {
				return nil, fmt.Errorf("%s: %w", n, err)
			}
		} else {
			pl.kernels[i] = k
		}
		for o, t := range n.out {
			if t < 0 {
				continue
			}
			pl.specs[t] = specs[o]
			if results != nil {
				pl.known[t] = results[o]
			}
		}
	}
	if err := unsupported(bad); err != nil {
		return nil, err
	}
	for _, out := range p.outputs {
		got := pl.specs[out.tensor].dtype
		if !anySet.has(got) {
			return nil, lacking("output %q has type %s", out.Name, out.DType)
		}
		if out.dtype != 0 && got != out.dtype {
			return nil, fmt.Errorf("output %q is declared as %s, but it is computed as %s", out.Name, out.DType, got)
		}
	}
	return pl, nil
}

// binder returns what binds node n; not ok when a tensor that it reads is not
// described.
func (p *program) binder(n *node, w *compute.Workers, pl *plan) (b *binder, ok bool) {
	b = &binder{node: n, in: make([]operand, len(n.in)), workers: w, prepared: &p.prepared}
	for i, t := range n.in {
		if t < 0 {
			continue
		}
		s := pl.specs[t]
		if s.dtype == 0 {
			return nil, false
		}
		b.in[i] = operand{dtype: s.dtype, shape: s.shape, constant: pl.known[t]}
	}
	for len(b.in) > 0 && b.in[len(b.in)-1].dtype == 0 {
		b.in = b.in[:len(b.in)-1]
	}
	return b, true
}

// values returns the inputs' values, and whether all are known that the node
// reads.
func (b *binder) values() (in []*value, known bool) {
	in, known = make([]*value, len(b.in)), true
	for i, o := range b.in {
		in[i] = o.constant
		known = known && (o.dtype == 0 || o.constant != nil)
	}
	return in, known
}

func isFixed(k kernel) bool {
	_, ok := k.(fixed)
	return ok
}

// total is the number of elements of several tensors.
func total(specs []spec) int {
	n := 0
	for _, s := range specs {
		n += size(s.shape)
	}
	return n
}

// computed runs a kernel on known values, in memory of its own.
func computed(ctx context.Context, w *compute.Workers, k kernel, in []*value) (out []*value, err error) {
	defer catch(&err)
	switch k := k.(type) {
	case fixed:
		return k, nil
	case view:
		return []*value{in[0].withShape(k.shape)}, nil
	}
	specs := k.results()
	out = make([]*value, len(specs))
	for i, s := range specs {
		out[i] = newValue(s)
	}
	if total(specs) == 0 {
		return out, nil
	}
	return out, k.run(&run{ctx: ctx, workers: w, scratch: new(scratch)}, in, out)
}

// fold computes the nodes that read nothing but constants, and forgets constants
// that nothing reads any more. Nodes that cannot be computed stay, for a plan to
// refuse. What folding makes is bounded by what the file stores.
func (p *program) fold(ctx context.Context, w *compute.Workers) error {
	budget := 1 << 24
	for _, c := range p.constants {
		if c != nil {
			budget += 2 * size(c.shape)
		}
	}
	pl := &plan{specs: make([]spec, len(p.constants)), known: p.constants}
	readers := p.readers()
	for t, c := range p.constants {
		if c != nil {
			pl.specs[t] = c.spec()
		}
	}
	var left []*node
	for _, n := range p.nodes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !p.foldNode(ctx, w, pl, n, &budget) {
			left = append(left, n)
			continue
		}
		// At once, so that weights of which another form is made need not be held
		// until all are.
		for _, t := range n.in {
			if t < 0 {
				continue
			}
			if readers[t]--; readers[t] == 0 {
				p.constants[t] = nil
			}
		}
	}
	p.nodes = left
	return nil
}

func (p *program) foldNode(ctx context.Context, w *compute.Workers, pl *plan, n *node, budget *int) bool {
	b, ok := p.binder(n, w, pl)
	if !ok || n.check() != nil {
		return false
	}
	in, known := b.values()
	if !known {
		return false
	}
	k, err := b.bind()
	if err != nil {
		return false
	}
	if *budget -= total(k.results()); *budget < 0 {
		return false
	}
	results, err := computed(ctx, w, k, in)
	if err != nil {
		return false
	}
	for i, t := range n.out {
		if t >= 0 {
			p.constants[t], pl.specs[t] = results[i], results[i].spec()
		}
	}
	return true
}

// schedule is a plan for certain outputs: the nodes that these need, and where
// each tensor lies in the session's memory.
type schedule struct {
	wanted []bool // by output
	steps  []step
	inputs []*value // by input of the program, nil when it is not read
	output []*value // by output of the program, nil when it is not wanted
	placed []placed
	words  int
	arena  []uint64 // that placed tensors lie in, nil at first
	// borrowed are the values whose data is set in each run.
	borrowed []*value
}

// step is a node of a schedule. Its kernel is nil when the first output has the
// numbers of the first input.
type step struct {
	node    *node
	kernel  kernel
	in, out []*value
}

// placed is a value that lies at an offset, in words, of the memory.
type placed struct {
	*value
	at int
}

// keptSchedules is how many sets of wanted outputs a plan remembers.
const keptSchedules = 4

// scheduleFor returns the schedule for wanted outputs of p.
func (pl *plan) scheduleFor(p *program, wanted []bool) *schedule {
	for i, s := range pl.recent {
		if slices.Equal(s.wanted, wanted) {
			copy(pl.recent[1:], pl.recent[:i])
			pl.recent[0] = s
			return s
		}
	}
	s := pl.schedule(p, wanted)
	if len(pl.recent) == keptSchedules {
		pl.recent = pl.recent[:keptSchedules-1]
	}
	pl.recent = slices.Insert(pl.recent, 0, s)
	return s
}

func (pl *plan) schedule(p *program, wanted []bool) *schedule {
	// Backwards: which nodes are needed, and after which node each tensor's memory
	// is free. A view and what it is a view of share theirs.
	const never = -1
	last := slices.Repeat([]int{never}, len(pl.specs))
	for o, port := range p.outputs {
		if wanted[o] {
			last[port.tensor] = len(p.nodes)
		}
	}
	needed := make([]bool, len(p.nodes))
	origin := make([]int, len(pl.specs))
	for t := range origin {
		origin[t] = t
	}
	for i := len(p.nodes) - 1; i >= 0; i-- {
		n := p.nodes[i]
		if pl.kernels[i] == nil || !slices.ContainsFunc(n.out, func(t int) bool { return t >= 0 && last[t] != never }) {
			continue
		}
		needed[i] = true
		for _, t := range n.in {
			if t >= 0 {
				last[t] = max(last[t], i)
			}
		}
		if _, ok := pl.kernels[i].(view); ok {
			last[n.in[0]] = max(last[n.in[0]], last[n.out[0]])
		}
	}

	s := &schedule{wanted: slices.Clone(wanted)}
	values := slices.Clone(pl.known)
	s.inputs = make([]*value, len(p.inputs))
	for i, in := range p.inputs {
		if last[in.tensor] != never {
			v := &value{dtype: in.dtype, shape: pl.specs[in.tensor].shape}
			values[in.tensor], s.inputs[i] = v, v
			s.borrowed = append(s.borrowed, v)
		}
	}
	type room struct{ at, n int }
	rooms := make([]room, len(pl.specs))
	expire := make([][]int, len(p.nodes)+1)
	var l layout
	for i, n := range p.nodes {
		if !needed[i] {
			continue
		}
		st := step{node: n, kernel: pl.kernels[i]}
		for _, t := range n.in {
			var v *value
			if t >= 0 {
				v = values[t]
			}
			st.in = append(st.in, v)
		}
		if k, ok := st.kernel.(view); ok {
			v := &value{dtype: k.dtype, shape: k.shape}
			values[n.out[0]], st.out, st.kernel = v, []*value{v}, nil
			s.borrowed = append(s.borrowed, v)
			s.steps = append(s.steps, st)
			continue
		}
		var now []room
		for o, spec := range pl.kernels[i].results() {
			t := -1
			if o < len(n.out) {
				t = n.out[o]
			}
			if o > 0 && (t < 0 || last[t] == never) {
				st.out = append(st.out, nil)
				continue
			}
			storage, _ := storageFor(spec.dtype)
			v := &value{dtype: spec.dtype, shape: spec.shape}
			n := words(storage.width * size(spec.shape))
			at := l.take(n)
			s.placed = append(s.placed, placed{v, at})
			st.out = append(st.out, v)
			if t < 0 || last[t] == never {
				now = append(now, room{at, n})
				continue
			}
			values[t], rooms[t] = v, room{at, n}
			expire[last[t]] = append(expire[last[t]], t)
		}
		s.steps = append(s.steps, st)
		for _, r := range now {
			l.give(r.at, r.n)
		}
		for _, t := range expire[i] {
			l.give(rooms[t].at, rooms[t].n)
		}
	}
	s.words = l.end
	s.output = make([]*value, len(p.outputs))
	for o, port := range p.outputs {
		if wanted[o] {
			s.output[o] = values[port.tensor]
		}
	}
	return s
}

// lieIn puts the schedule's tensors into memory of at least s.words words.
func (s *schedule) lieIn(arena []uint64) {
	if len(s.arena) == len(arena) && (len(arena) == 0 || &s.arena[0] == &arena[0]) && s.arena != nil {
		return
	}
	s.arena = arena
	for _, p := range s.placed {
		storage, _ := storageFor(p.dtype)
		p.data = storage.over(arena[p.at:], size(p.shape))
	}
}

// leave takes the schedule's tensors out of the memory that they lie in.
func (s *schedule) leave() {
	s.arena = nil
	for _, p := range s.placed {
		p.data = nil
	}
}

// run computes the schedule's outputs; they stay valid until the next run in the
// same memory. Errors name the node.
func (s *schedule) run(r *run) error {
	for i := range s.steps {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		st := &s.steps[i]
		if st.kernel == nil {
			st.out[0].data = st.in[0].data
			continue
		}
		err := st.run(r)
		r.scratch.reclaim()
		if err != nil {
			return fmt.Errorf("%s: %w", st.node, err)
		}
	}
	return r.ctx.Err()
}

func (st *step) run(r *run) (err error) {
	defer catch(&err)
	for _, v := range st.out {
		if v != nil && size(v.shape) > 0 {
			return st.kernel.run(r, st.in, st.out)
		}
	}
	return nil
}

// forget drops what the caller fed.
func (s *schedule) forget() {
	for _, v := range s.borrowed {
		v.data = nil
	}
}
