package compact

import (
	"context"
	"fmt"
	"slices"
)

// why a channel goes.
type why uint8

const (
	stays why = iota
	unread
	constant
	asked
)

// A solution says what becomes of each channel.
type solution struct {
	a *analysis
	// why tells why a channel is not needed. One that is idle is stored all the
	// same; what it holds does not matter.
	why  []why
	idle []bool
	// held are channels that must stay as they are, with the reason why something
	// that could go stays.
	held  []bool
	extra map[int]string
	// asked has the channels that are to go, rank their order: the first goes
	// first.
	asked []int
	rank  map[int]int
	// exact are the values of the model, masked those with what is asked for gone.
	exact, masked *values

	blockers []int32
	counts   [][]int32 // of sinks, by place: rows that are needed and read it
	// groups are the channels of each group, anchor is the constant channel of one
	// that stands for others, merged what is added to what by the readers.
	groups  [][]int
	anchor  map[int]int
	merged  map[*sink][]mergedPlace
	readsOf map[int32][]*sink // sinks that read a track, by its number
	makesOf map[int32][]*sink
}

func (a *analysis) evaluate(ctx context.Context, goes []bool) (*values, error) {
	v := &values{ctx: ctx, v: make([]float64, len(a.class))}
	for i := range v.v {
		v.v[i] = nan
	}
	if goes != nil {
		v.asked = make([]bool, len(a.class))
		for s, c := range a.class {
			v.asked[s] = goes[c]
		}
	}
	for _, fn := range a.evals {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := fn(v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// solve finds what goes: what is asked for, in that order of preference, and all
// that can go without a change of what the model computes.
func (a *analysis) solve(ctx context.Context, list []int, roundTo int) (*solution, error) {
	s := &solution{a: a, held: make([]bool, a.count), idle: make([]bool, a.count), extra: map[int]string{}, rank: map[int]int{}, anchor: map[int]int{},
		readsOf: map[int32][]*sink{}, makesOf: map[int32][]*sink{}}
	for i, c := range list {
		s.rank[c] = i
	}
	s.asked = list
	for _, k := range a.sinks {
		in, out := a.owner[k.in.base], a.owner[k.out.base]
		s.readsOf[in] = append(s.readsOf[in], k)
		s.makesOf[out] = append(s.makesOf[out], k)
	}
	_, s.groups = a.grouping()
	var err error
	if s.exact, err = a.evaluate(ctx, nil); err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.close(ctx); err != nil {
			return nil, err
		}
		again := s.keepOne()
		again = s.equalGroups() || again
		again = s.round(roundTo) || again
		if !again {
			return s, nil
		}
	}
}

// gone tells whether a channel leaves the file.
func (s *solution) gone(c int) bool { return s.why[c] != stays && !s.idle[c] }

// close finds what can go, with what is held.
func (s *solution) close(ctx context.Context) error {
	a := s.a
	s.masked = s.exact
	s.begin(nil)
	goes := make([]bool, a.count)
	for {
		// What is asked for and does not go by itself is made to.
		again := false
		for _, c := range s.asked {
			if s.why[c] == stays && !s.held[c] && a.pinned[c] == "" {
				goes[c], again = true, true
			}
		}
		if again {
			var err error
			if s.masked, err = a.evaluate(ctx, goes); err != nil {
				return err
			}
			s.begin(goes)
			continue
		}
		for c, idle := range s.idle {
			if idle && s.why[c] != unread && s.why[c] != stays {
				// It is stored, so what it holds does matter.
				s.idle[c], s.held[c], goes[c], again = false, true, false, true
			}
		}
		if !again {
			return nil
		}
		s.begin(goes)
	}
}

// begin finds what can go beside goes.
func (s *solution) begin(goes []bool) {
	a := s.a
	s.why = make([]why, a.count)
	s.counts = make([][]int32, len(a.sinks))
	s.blockers = make([]int32, a.count)
	for i, k := range a.sinks {
		s.counts[i] = slices.Clone(k.count)
		for p := range s.counts[i] {
			if _, ok := s.foldable(k, p); ok {
				s.counts[i][p] = 0
			}
			if s.counts[i][p] > 0 {
				s.blockers[a.class[k.in.base+p]]++
			}
		}
	}
	todo := make([]int, 0, a.count)
	for c := range a.count {
		if goes != nil && goes[c] {
			s.remove(c, asked)
		}
		todo = append(todo, c)
	}
	s.spread(todo)
	s.merge()
}

// foldable tells whether k can do without a place of its input: what it is worth,
// and that the bias can make up for it.
func (s *solution) foldable(k *sink, place int) (x float64, ok bool) {
	x, ok = s.masked.at(k, place)
	return x, ok && (x == 0 || k.mend != nil)
}

// spread removes all channels of todo that nothing holds, and what that sets
// free.
func (s *solution) spread(todo []int) {
	for len(todo) > 0 {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if s.why[c] != stays || s.blockers[c] > 0 || s.held[c] || s.a.pinned[c] != "" {
			continue
		}
		w := unread
		if s.mattersAsConstant(c) {
			w = constant
		}
		todo = append(todo, s.remove(c, w)...)
	}
}

// mattersAsConstant tells whether a row that stays reads a channel, which then
// must be constant.
func (s *solution) mattersAsConstant(c int) bool {
	a := s.a
	for _, slot := range a.members(c) {
		t := a.tracks[a.owner[slot]]
		for _, k := range s.readsOf[a.owner[slot]] {
			place := int(slot) - t.base
			if _, ok := s.foldable(k, place); !ok {
				continue
			}
			q := place / k.columns()
			for o := q * k.rows(); o < (q+1)*k.rows(); o++ {
				if k.reads(o, place%k.columns()) && s.why[a.class[k.out.base+o]] == stays {
					return true
				}
			}
		}
	}
	return false
}

// remove marks a channel and returns the channels that may go now.
func (s *solution) remove(c int, w why) []int {
	s.why[c] = w
	return s.release(c)
}

// release stops the rows of a channel from reading.
func (s *solution) release(c int) (free []int) {
	a := s.a
	for _, slot := range a.members(c) {
		for _, k := range s.makesOf[a.owner[slot]] {
			counts := s.counts[k.number]
			k.columnsOf(int(slot)-k.out.base, func(p int) {
				if counts[p] == 0 {
					return
				}
				if counts[p]--; counts[p] == 0 {
					d := a.class[k.in.base+p]
					if s.blockers[d]--; s.blockers[d] == 0 {
						free = append(free, int(d))
					}
				}
			})
		}
	}
	return free
}

// restore takes a channel back, and returns whether it is a new one.
func (s *solution) restore(c int, reason string) bool {
	if !s.gone(c) {
		return false
	}
	if s.why[c] == unread {
		s.idle[c] = true
	} else {
		s.held[c] = true
		s.why[c] = stays // until close looks again
	}
	s.extra[c] = reason
	return true
}

// better orders the channels that may be taken back: those that were asked for,
// the last of them first; then those that nothing reads, which need nothing
// themselves; then constants.
func (s *solution) better(c, d int) int {
	first := func(w why) int {
		if w == asked {
			return 0
		}
		return int(w)
	}
	if s.why[c] != s.why[d] {
		return first(s.why[c]) - first(s.why[d])
	}
	if s.why[c] == asked {
		return s.rank[d] - s.rank[c]
	}
	return c - d
}

// candidates returns the channels of some places that could be taken back, best
// first.
func (s *solution) candidates(t *track, from, to int) []int {
	var list []int
	for i := from; i < to; i++ {
		if c := int(s.a.class[t.base+i]); s.gone(c) {
			list = append(list, c)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	slices.SortStableFunc(list, s.better)
	return list
}

func (s *solution) stay(t *track, from, to int) (n int) {
	for i := from; i < to; i++ {
		if !s.gone(int(s.a.class[t.base+i])) {
			n++
		}
	}
	return n
}

// keepOne takes back one channel of each tensor that would have none.
func (s *solution) keepOne() (again bool) {
	for _, t := range s.a.tracks {
		if s.stay(t, 0, t.n) > 0 {
			continue
		}
		if list := s.candidates(t, 0, t.n); len(list) > 0 {
			again = s.restore(list[0], "a tensor keeps one channel at least") || again
		}
	}
	return again
}

// equalGroups takes back what a grouped convolution needs: groups that stay must
// be alike.
func (s *solution) equalGroups() (again bool) {
	for _, g := range s.a.grouped {
		ins, outs := g.in.n/g.groups, g.out.n/g.groups
		most, mostOut := 1, 1
		for q := range g.groups {
			most = max(most, s.stay(g.in, q*ins, (q+1)*ins))
			mostOut = max(mostOut, s.stay(g.out, q*outs, (q+1)*outs))
		}
		for q := range g.groups {
			in, out := s.stay(g.in, q*ins, (q+1)*ins), s.stay(g.out, q*outs, (q+1)*outs)
			if in == 0 && out == 0 {
				continue // the whole group goes
			}
			again = s.fill(g.in, q*ins, (q+1)*ins, most) || again
			again = s.fill(g.out, q*outs, (q+1)*outs, mostOut) || again
		}
	}
	return again
}

func (s *solution) fill(t *track, from, to, n int) (again bool) {
	for s.stay(t, from, to) < n {
		list := s.candidates(t, from, to)
		if len(list) == 0 {
			return again
		}
		again = s.restore(list[0], "the groups of a convolution stay alike") || again
	}
	return again
}

// round takes channels back until the number of each tensor's is a multiple of m.
func (s *solution) round(m int) (again bool) {
	if m <= 1 {
		return false
	}
	reason := fmt.Sprintf("counts are multiples of %d", m)
	for _, t := range s.a.tracks {
		n := s.stay(t, 0, t.n)
		if t.stored || n == t.n || n%m == 0 {
			continue
		}
		for _, c := range s.candidates(t, 0, t.n) {
			again = s.restore(c, reason) || again
			if s.stay(t, 0, t.n)%m == 0 {
				break
			}
		}
	}
	return again
}
