package probe

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/filterlens/filterlens/afcc/probe/state"
)

// loadHeads takes over the heads that are trained and, where lengths are wanted,
// these.
func (p *measurer) loadHeads(heads []*head, l *lengths) {
	if p.keep.store == nil {
		return
	}
	for _, h := range heads {
		p.loadHead(h)
	}
	var info lengthsInfo
	if l.known || !p.keep.get(partLengths, p.lengthsKey(l), &info) || len(info.Seen) != p.k || len(info.Spreads) != len(l.heads) || !p.recall(info.sampled) {
		return
	}
	for i, h := range l.heads {
		l.spreads[h] = info.Spreads[i]
	}
	l.known = true
	p.seenFit = info.Seen
}

// lengthsInfo says how long the features of heads are, in their order.
type lengthsInfo struct {
	Spreads []spread
	sampled
}

func (p *measurer) lengthsKey(l *lengths) state.Key {
	return state.KeyOf(p.keep.trunk(), p.keep.id.Fit, p.batch, factsOf(l.heads))
}

func (p *measurer) saveLengths(l *lengths) error {
	if p.keep.store == nil || len(l.heads) == 0 {
		return nil
	}
	info := lengthsInfo{sampled: p.sampled(p.fit, p.seenFit)}
	for _, h := range l.heads {
		if !finite(l.spreads[h].RMS) {
			return nil // the head's start will refuse it
		}
		info.Spreads = append(info.Spreads, l.spreads[h])
	}
	return p.keep.put(partLengths, p.lengthsKey(l), info)
}

func factsOf(heads []*head) (facts []any) {
	for _, h := range heads {
		facts = append(facts, tapFacts(h.tap))
	}
	return facts
}

func allFitted(heads []*head) bool {
	return !slices.ContainsFunc(heads, func(h *head) bool { return !h.fitted })
}

// featureState saves the features of a group batch by batch.
type featureState struct {
	p       *measurer
	group   []*head
	cache   [][]float32 // nil for a head whose features are not wanted
	lengths *lengths    // nil where they are not taken
	rows    *state.Rows
	key     state.Key
}

// A featureNote says what the features of a batch belong to: the heads, by their
// place in the group; the labels of its samples; how many samples were run with it;
// and of how many heads the squared lengths stand behind the features.
type featureNote struct {
	Heads   []int
	Labels  []int
	Done    int
	Lengths int
	sampled
}

// newFeatureState opens the features of a group; it returns nil without a store.
func (p *measurer) newFeatureState(group []*head, cache [][]float32, l *lengths) (*featureState, error) {
	if p.keep.store == nil {
		return nil, nil
	}
	facts := []any{p.keep.trunk(), p.keep.id.Fit, p.batch, factsOf(group)}
	if len(group) == 0 {
		facts = append(facts, factsOf(l.heads))
	}
	s := &featureState{p: p, group: group, cache: cache, key: state.KeyOf(facts...)}
	if !l.known {
		s.lengths = l
	}
	var err error
	s.rows, err = p.keep.store.Rows(partFeatures, s.key)
	return s, err
}

// wanted lists the heads whose features are collected.
func (s *featureState) wanted() (list []int) {
	for j := range s.group {
		if s.cache[j] != nil {
			list = append(list, j)
		}
	}
	return list
}

// load takes over the batches that are there: the labels of their samples, and how
// many samples were run.
func (s *featureState) load() (labels []int, done int) {
	if s == nil {
		return nil, 0
	}
	wanted := s.wanted()
	for {
		text, values, ok := s.rows.Next()
		if !ok {
			return labels, done
		}
		var note featureNote
		if json.Unmarshal(text, &note) != nil || note.Done <= done || note.Done > len(s.p.fit.Index) || len(note.Labels) > note.Done-done ||
			note.Lengths < 0 || s.lengths != nil && note.Lengths != len(s.lengths.heads) ||
			slices.ContainsFunc(note.Labels, func(l int) bool { return l < 0 || l >= s.p.k }) ||
			slices.ContainsFunc(wanted, func(j int) bool { return !slices.Contains(note.Heads, j) }) {
			return labels, done
		}
		var into [][]float32
		n, sum := len(note.Labels), int64(0)
		for _, j := range note.Heads {
			if j < 0 || j >= len(s.group) {
				return labels, done
			}
			d := s.group[j].d()
			if sum += int64(n * d); sum > values {
				return labels, done
			}
			if s.cache[j] == nil {
				into = append(into, make([]float32, n*d))
				continue
			}
			into = append(into, s.cache[j][len(labels)*d:(len(labels)+n)*d])
		}
		if n > 0 && int64(note.Lengths) > (values-sum)/int64(n) {
			return labels, done
		}
		squares := make([][]float32, note.Lengths)
		for i := range squares {
			squares[i] = make([]float32, n)
		}
		if !s.rows.Fill(append(into, squares...)...) {
			return labels, done
		}
		s.p.recall(note.sampled)
		labels, done = append(labels, note.Labels...), note.Done
		if s.lengths != nil {
			for i, h := range s.lengths.heads {
				s.lengths.squares[h] = append(s.lengths.squares[h], squares[i]...)
			}
		}
	}
}

// add keeps the features of a batch: the last n of labels samples, with which done
// samples have been run.
func (s *featureState) add(n, labels, done int, of []int) error {
	if s == nil {
		return nil
	}
	note := featureNote{Heads: s.wanted(), Labels: of, Done: done, sampled: s.p.sampled(s.p.fit, nil)}
	var values [][]float32
	for _, j := range note.Heads {
		d := s.group[j].d()
		values = append(values, s.cache[j][(labels-n)*d:labels*d])
	}
	if s.lengths != nil {
		note.Lengths = len(s.lengths.heads)
		values = append(values, s.lengths.last(n)...)
	}
	text, err := json.Marshal(note)
	if err != nil {
		return err
	}
	return s.rows.Append(text, values...)
}

// sync makes what was added last.
func (s *featureState) sync() error {
	if s == nil {
		return nil
	}
	return s.p.keep.took(func() error {
		// Where all features are there, their graph does not run again.
		if err := s.p.keep.first(); err != nil {
			return err
		}
		return s.rows.Sync()
	})
}

func (s *featureState) close() error {
	if s == nil {
		return nil
	}
	if err := s.sync(); err != nil {
		s.rows.Close()
		return err
	}
	return s.rows.Close()
}

// dropFeatures removes the features of a group whose heads are trained.
func (p *measurer) dropFeatures(s *featureState) error {
	if s == nil {
		return nil
	}
	return p.keep.remove(partFeatures, s.key)
}

// training is where a training stands: in which attempt and epoch, and what of the
// epoch is done, in batches (cached heads) or samples that were run (streamed ones).
// Beside it are the weights and points of the heads and the sums of their losses.
type training struct {
	Restart, Epoch, Done, Seen int
	// Norms and Diverged are in the order of the heads.
	Norms    []float64
	Diverged []bool
	sampled
}

// fits tells whether a training that was read can be gone on with.
func (t *training) fits(r Recipe, heads int) bool {
	return t.Restart >= 0 && t.Restart <= maxRestarts && t.Epoch >= 0 && t.Epoch < r.Epochs && t.Done >= 0 && t.Seen >= 0 &&
		len(t.Norms) == heads && len(t.Diverged) == heads
}

func (p *measurer) trainingKey(way string, heads []*head, more ...any) state.Key {
	if p.keep.store == nil {
		return state.Key{}
	}
	facts := []any{way, p.keep.trunk(), p.batch, more}
	for _, h := range heads {
		facts = append(facts, p.keep.headFacts(h))
	}
	return state.KeyOf(facts...)
}

// trainingArrays are the weights and points of heads, and their losses.
func trainingArrays(heads []*head, loss []float64) []any {
	all := []any{loss}
	for _, h := range heads {
		all = append(all, h.w, h.z)
	}
	return all
}

// saveTraining keeps the state of a trainer within an epoch.
func (p *measurer) saveTraining(ctx context.Context, key state.Key, t *trainer, at training) error {
	if p.keep.store == nil || t.held != nil && ctx.Err() != nil {
		return nil // a session that was cancelled hands nothing out
	}
	if err := t.sync(ctx); err != nil {
		return err
	}
	at.Seen, at.Norms = t.seen, nil
	for _, h := range t.heads {
		at.Norms = append(at.Norms, h.norm)
	}
	at.sampled = p.sampled(p.fit, nil)
	return p.keep.put(partTraining, key, at, trainingArrays(t.heads, t.loss)...)
}

// An attempt is one run of the recipe. The zero value is the first, from its
// beginning, of which nothing is kept.
type attempt struct {
	key     state.Key // of what is under way
	restart int
	// at is where it was interrupted, nil for the beginning, with these losses.
	at   *training
	loss []float64
}

// loadTraining puts heads, which have been prepared, where an attempt was
// interrupted. When there is no such place they must be started, whatever is in them.
func (p *measurer) loadTraining(a *attempt, heads []*head) {
	if p.keep.store == nil {
		return
	}
	at, loss := new(training), make([]float64, len(heads))
	if p.keep.get(partTraining, a.key, at, trainingArrays(heads, loss)...) && at.fits(p.opt.Recipe, len(heads)) && p.recall(at.sampled) {
		a.at, a.loss = at, loss
	}
}

// attempts says which heads of a streamed group are being trained, and for the how
// manieth time; the others are finished.
type attempts struct {
	Restart int
	Active  []bool
	Norms   []float64
}

// loadAttempts returns what is to be done of a streamed group: which attempt is
// next, and the heads that it is for.
func (p *measurer) loadAttempts(group []*head) (restart int, active []*head) {
	var a attempts
	ok := p.keep.get(partAttempts, p.trainingKey("attempts", group), &a) && a.Restart >= 0 && a.Restart <= maxRestarts+1 && len(a.Active) == len(group) && len(a.Norms) == len(group)
	for i, h := range group {
		ok = ok && (a.Active[i] || h.fitted)
	}
	for i, h := range group {
		if ok && a.Active[i] {
			h.norm = a.Norms[i]
		}
		if ok && a.Active[i] || !ok && !h.fitted {
			active = append(active, h)
		}
	}
	if !ok {
		return 0, active
	}
	return a.Restart, active
}

func (p *measurer) saveAttempts(group []*head, restart int, active []*head) error {
	a := attempts{Restart: restart}
	for _, h := range group {
		a.Active, a.Norms = append(a.Active, slices.Contains(active, h)), append(a.Norms, h.norm)
	}
	return p.keep.put(partAttempts, p.trainingKey("attempts", group), a)
}

// stateBytes is about what the parts of a group take: what is kept, and the most
// that there is while it is measured.
func (p *measurer) stateBytes(heads []*head) (kept, working int64) {
	const number = 12 // bytes of a number in JSON
	k, eval := int64(p.k), int64(len(p.eval.Index))
	weights := func(h *head) int64 { return 4 * k * int64(h.d()) }
	var rows int64
	for _, h := range heads {
		f := int64(h.tap.Filters)
		kept += weights(h) + number*f*k + 4*eval // label means, the row, answers
		if !h.own {
			kept += weights(h)
		}
		if p.opt.Single {
			kept += 8 * f * k
		}
		kept += int64(p.opt.Top) * f * number
		kept += int64(p.opt.Stability) * f * 10 * number // clusters
		rows += weights(h) * int64(1+p.runsAtATime(h))
	}
	working = rows
	fit := p.planFit(heads)
	for _, g := range fit.cached {
		var features, training int64
		for _, h := range g {
			features += p.features(h)
			training = max(training, 4*weights(h)) // weights and points, old and new
		}
		working = max(working, features+training)
	}
	for _, g := range fit.streamed {
		var training int64
		for _, h := range g {
			training += 4 * weights(h)
		}
		working = max(working, training)
	}
	return kept, working
}
