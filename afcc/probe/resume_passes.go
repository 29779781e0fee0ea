package probe

import (
	"encoding/json"
	"hash/fnv"
	"slices"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe/state"
)

// judging is what is kept of the judging of a group of heads beside arrays.
type judging struct {
	// Done counts the samples of the split that were run, Read those of them that
	// could be decoded.
	Done, Read int
	sampled
}

func (p *measurer) judgingKey(heads []*head) state.Key {
	facts := []any{p.keep.trunk(), p.keep.id.Eval, numbersOf(p.eval.Index), p.opt.Single, p.opt.Top}
	batch, _ := p.judgeBatch(heads)
	facts = append(facts, batch)
	for _, h := range heads {
		facts = append(facts, p.keep.headFacts(h))
	}
	return state.KeyOf(facts...)
}

// numbersOf hashes sample numbers.
func numbersOf(index []int) uint64 {
	h := fnv.New64a()
	b := make([]byte, 8)
	for _, i := range index {
		for j := range b {
			b[j] = byte(i >> (8 * j))
		}
		h.Write(b)
	}
	return h.Sum64()
}

// judgingArrays returns arrays with room for what judging gathers, in the order in
// which they are kept: labels and answers, and of each head its answers, its hits
// and its top samples.
func (p *measurer) judgingArrays(heads []*head) (labels, own []int32, of []judgedArrays, all []any) {
	n := len(p.eval.Index)
	labels, own = make([]int32, n), make([]int32, n)
	all = []any{labels, own}
	for _, h := range heads {
		var a judgedArrays
		f := h.tap.Filters
		if !h.own {
			a.answers = make([]int32, n)
		}
		if p.opt.Single {
			a.samples, a.hits = make([]int64, p.k), make([]int64, f*p.k)
		}
		if p.opt.Top > 0 {
			most := min(p.opt.Top, n)
			a.top, a.values = make([]int64, f*most), make([]float32, f*most)
		}
		of = append(of, a)
		all = append(all, a.answers, a.samples, a.hits, a.top, a.values)
	}
	return labels, own, of, all
}

type judgedArrays struct {
	answers       []int32
	samples, hits []int64
	top           []int64 // sample + 1, 0 behind the last
	values        []float32
}

// saveJudging keeps the judging of a group after the first done samples.
func (p *measurer) saveJudging(heads []*head, done int, labels, own []int32) error {
	if p.keep.store == nil {
		return nil
	}
	l, o, of, all := p.judgingArrays(heads)
	copy(l, labels)
	copy(o, own)
	for i, h := range heads {
		a := of[i]
		copy(a.answers, h.answers)
		if h.single != nil {
			samples, hits := h.single.Counts()
			for j, n := range samples {
				a.samples[j] = int64(n)
			}
			for j, n := range hits {
				a.hits[j] = int64(n)
			}
		}
		if p.opt.Top > 0 {
			most := len(a.top) / h.tap.Filters
			for f, list := range h.top.lists {
				for j, s := range list {
					a.top[f*most+j], a.values[f*most+j] = int64(s.sample)+1, s.value
				}
			}
		}
	}
	return p.keep.put(partJudged, p.judgingKey(heads), judging{done, len(labels), p.sampled(p.eval, nil)}, all...)
}

// loadJudging takes over the judging of a group, and returns how many samples of
// the split have been run.
func (p *measurer) loadJudging(heads []*head) (done int, labels, own []int32) {
	if p.keep.store == nil {
		return 0, nil, nil
	}
	l, o, of, all := p.judgingArrays(heads)
	var info judging
	if !p.keep.get(partJudged, p.judgingKey(heads), &info, all...) ||
		info.Read < 0 || info.Read > info.Done || info.Done > len(p.eval.Index) || !p.judged(l, o, of) || !p.recall(info.sampled) {
		return 0, nil, nil
	}
	for i, h := range heads {
		a := of[i]
		if a.answers != nil {
			h.answers = a.answers[:info.Read]
		}
		if h.single != nil {
			samples, hits := h.single.Counts()
			for j := range samples {
				samples[j] = int(a.samples[j])
			}
			for j := range hits {
				hits[j] = int(a.hits[j])
			}
		}
		if p.opt.Top > 0 {
			most := len(a.top) / h.tap.Filters
			for f := range h.top.lists {
				for j := range most {
					if s := a.top[f*most+j]; s > 0 {
						h.top.lists[f] = append(h.top.lists[f], strength{a.values[f*most+j], int(s - 1)})
					}
				}
			}
		}
	}
	return info.Done, l[:info.Read], o[:info.Read]
}

// judged tells whether arrays of judging can be used as indices.
func (p *measurer) judged(labels, own []int32, of []judgedArrays) bool {
	within := func(list []int32, least int32) bool {
		return !slices.ContainsFunc(list, func(l int32) bool { return l < least || int(l) >= p.k })
	}
	fine := within(labels, 0) && within(own, noAnswer)
	for _, a := range of {
		fine = fine && within(a.answers, noAnswer) && !slices.ContainsFunc(a.top, func(s int64) bool { return s < 0 || s > int64(p.set.Len()) })
	}
	return fine
}

// runsKey names the clusters of the repeated measurements first to end of a head.
func (p *measurer) runsKey(h *head, first, end int) state.Key {
	return state.KeyOf(p.keep.trunk(), p.keep.headFacts(h), p.keep.id.Stats, p.keep.id.Seed, p.opt.Theta, p.opt.Stability, first, end)
}

// loadRuns returns the clusters of the repeated measurements first to end that were
// found already.
func (p *measurer) loadRuns(h *head, first, end int) [][]afcc.Filter {
	var runs [][]afcc.Filter
	if end == first || !p.keep.get(partRuns, p.runsKey(h, first, end), &runs) || len(runs) > end-first {
		return nil
	}
	for _, filters := range runs {
		if len(filters) != h.tap.Filters {
			return nil
		}
		for i := range filters {
			if checkFilter(&filters[i], i, p.k) != nil {
				return nil
			}
		}
	}
	return runs
}

// loadMeans takes over label means, and clusters of the repeated measurements first
// to end, when those of all heads are there.
func (p *measurer) loadMeans(heads []*head, first, end int) bool {
	if p.keep.store == nil {
		return false
	}
	runs := make([][][]afcc.Filter, len(heads))
	for i, h := range heads {
		if runs[i] = p.loadRuns(h, first, end); len(runs[i]) < end-first {
			return false
		}
	}
	if first == 0 {
		var info sampled
		for _, h := range heads {
			h.means = make([]float32, p.k*h.d())
			info = sampled{}
			if !p.keep.get(partMeans, p.keep.meansKey(h), &info, h.means) || len(info.Seen) != p.k {
				return false
			}
		}
		p.recall(info)
		p.seenStats = info.Seen
	}
	for i, h := range heads {
		h.runs = append(h.runs, runs[i]...)
	}
	return true
}

// saveMeans keeps the label means of a group.
func (p *measurer) saveMeans(heads []*head) error {
	if p.keep.store == nil {
		return nil
	}
	info := p.sampled(p.stats, p.seenStats)
	for _, h := range heads {
		if err := p.keep.put(partMeans, p.keep.meansKey(h), info, h.means); err != nil {
			return err
		}
	}
	return nil
}

// meansState saves a pass over the statistics split: labels that are done row by
// row, and now and then the sums of the one that is not.
type meansState struct {
	p     *measurer
	heads []*head
	whole bool // label means of all samples are taken
	key   state.Key
	rows  *state.Rows
	n     int // of rows
}

// labelDone is the note of a row: the label, how many of its samples were read, and
// how many samples of the split were run when it ended.
type labelDone struct {
	Label, Seen, Done int
	sampled
}

// labelSums says the same of a label under way, and how many rows stand before it.
type labelSums struct {
	Rows int
	labelDone
}

func (p *measurer) newMeansState(heads []*head, first, end int) (*meansState, error) {
	if p.keep.store == nil {
		return nil, nil
	}
	facts := []any{p.keep.trunk(), p.keep.id.Stats, p.keep.id.Seed, p.opt.Stability, first, end, p.batch}
	for _, h := range heads {
		facts = append(facts, tapFacts(h.tap))
	}
	s := &meansState{p: p, heads: heads, whole: first == 0, key: state.KeyOf(facts...)}
	var err error
	s.rows, err = p.keep.store.Rows(partLabels, s.key)
	return s, err
}

// row returns the label means of one label.
func (s *meansState) row(label int) (row [][]float32) {
	for _, h := range s.heads {
		d := h.d()
		if s.whole {
			row = append(row, h.means[label*d:(label+1)*d])
		}
		for _, m := range h.runMeans {
			row = append(row, m[label*d:(label+1)*d])
		}
	}
	return row
}

// sums returns the sums of the label that is being read.
func (s *meansState) sums(drawn []float64) (sums []any) {
	sums = []any{drawn}
	for _, h := range s.heads {
		if s.whole {
			sums = append(sums, h.acc)
		}
		if len(h.runMeans) > 0 {
			sums = append(sums, h.runAcc)
		}
	}
	return sums
}

// load takes over what there is. It returns how many samples of the split were run,
// the label whose sums are under way, -1 for none, and how many samples these are
// of; seen gets the counts of the labels that are done.
func (s *meansState) load(seen []int, drawn []float64) (done, label, count int) {
	if s == nil {
		return 0, -1, 0
	}
	label = -1
	rows := 0
	for {
		note, _, ok := s.rows.Next()
		if !ok {
			break
		}
		var d labelDone
		if json.Unmarshal(note, &d) != nil || d.Label < 0 || d.Label >= s.p.k || d.Done < done || d.Done > len(s.p.stats.Index) || !s.rows.Fill(s.row(d.Label)...) {
			break
		}
		s.p.recall(d.sampled)
		done, seen[d.Label] = d.Done, d.Seen
		rows++
	}
	s.n = rows
	var info labelSums
	sums := s.sums(drawn)
	if s.p.keep.get(partSums, s.key, &info, sums...) && info.Done > done && info.Done <= len(s.p.stats.Index) &&
		info.Label >= 0 && info.Label < s.p.k && info.Rows == rows {
		s.p.recall(info.sampled)
		seen[info.Label] = info.Seen
		return info.Done, info.Label, info.Seen
	}
	for _, a := range sums {
		clear(a.([]float64))
	}
	return done, -1, 0
}

// labelDone keeps a label's means; a label below 0 stands for none.
func (s *meansState) labelDone(label, seen, done int) error {
	if s == nil || label < 0 || seen == 0 {
		return nil
	}
	note, err := json.Marshal(labelDone{label, seen, done, s.p.sampled(s.p.stats, nil)})
	if err != nil {
		return err
	}
	s.n++
	return s.rows.Append(note, s.row(label)...)
}

// save makes the rows last and keeps the sums under way.
func (s *meansState) save(label, seen, done int, drawn []float64) error {
	if s == nil {
		return nil
	}
	if err := s.rows.Sync(); err != nil {
		return err
	}
	return s.p.keep.put(partSums, s.key, labelSums{s.n, labelDone{label, seen, done, s.p.sampled(s.p.stats, nil)}}, s.sums(drawn)...)
}

// close makes the rows last and closes them.
func (s *meansState) close() error {
	if s == nil || s.rows == nil {
		return nil
	}
	rows := s.rows
	s.rows = nil
	return rows.Close()
}

// remove takes away what is no longer needed.
func (s *meansState) remove() error {
	if s == nil {
		return nil
	}
	if err := s.p.keep.remove(partSums, s.key); err != nil {
		return err
	}
	return s.p.keep.remove(partLabels, s.key)
}

// rowKey names the finished row of a layer.
func (p *measurer) rowKey(h *head) state.Key {
	return state.KeyOf(p.keep.trunk(), p.keep.headFacts(h), p.keep.id.Eval, numbersOf(p.eval.Index), p.keep.id.Stats, p.keep.id.Seed, p.opt.Theta, p.opt.asked())
}

// saveRow keeps the finished row of a layer.
func (p *measurer) saveRow(h *head, l Layer) error {
	if p.keep.store == nil {
		return nil
	}
	return p.keep.put(partRow, p.rowKey(h), l)
}

// loadRow returns the finished row of a layer.
func (p *measurer) loadRow(h *head) (*Layer, bool) {
	var l Layer
	if p.keep.store == nil || !p.keep.get(partRow, p.rowKey(h), &l) {
		return nil, false
	}
	l.Tap = *h.tap
	if l.check(p.k, p.set.Len(), p.opt.Theta) != nil {
		return nil, false
	}
	return &l, true
}
