package probe

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/filterlens/filterlens/afcc/probe/state"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
)

// Kinds of parts in Options.State. Those of work under way are removed when it is
// done.
const (
	partHead   = "head"   // a trained head
	partMeans  = "means"  // label means of a tap
	partRuns   = "runs"   // clusters of repeated measurements
	partJudged = "judged" // answers of a group of heads, also while they are given
	partRow    = "row"    // a layer of a Result
	partRan    = "ran"    // who ran the nodes of graphs
	// The lengths of features, to which heads are scaled that are not trained on
	// features in memory.
	partLengths = "lengths"

	partLabels   = "labels"   // rows: label means of the labels that are done
	partSums     = "sums"     // sums of the label that is not
	partFeatures = "features" // rows: features of the fitting split
	partTraining = "training" // heads in training
	partAttempts = "attempts" // which heads of a group are in training
)

// keeper saves parts in Options.State. Without one it keeps nothing and finds
// nothing.
type keeper struct {
	store *state.Store
	id    *Identity
	every time.Duration // between two savings of work under way
	// begin is when the measurement began, last when something was saved. Until quiet
	// there is no saving of work under way, for those before have taken their share
	// of the time.
	begin, last, quiet time.Time
	// first saves what must be there before anything else.
	first func() error
}

func (p *measurer) newKeeper(id *Identity) keeper {
	now := time.Now()
	k := keeper{store: p.opt.State, every: p.opt.Checkpoint, begin: now, last: now, id: id}
	if k.every <= 0 {
		k.every = DefaultCheckpoint
	}
	if k.store == nil {
		return k
	}
	key := state.KeyOf(id, p.opt.Memory, p.batch)
	k.get(partRan, key, &p.ran)
	p.nodes, p.elsewhere = p.ran.Nodes, p.ran.Elsewhere
	saved := len(p.ran.Graphs)
	k.first = func() error {
		if len(p.ran.Graphs) == saved {
			return nil
		}
		saved = len(p.ran.Graphs)
		p.ran.Nodes, p.ran.Elsewhere = p.nodes, p.elsewhere
		return k.store.Put(partRan, key, p.ran)
	}
	return k
}

// ran says which graphs have been run, by a checksum, and who ran their nodes.
type ran struct {
	Graphs    []uint64
	Nodes     map[string]int
	Elsewhere []string
}

// first tells whether a graph is met for the first time in this measurement.
func (r *ran) first(graph []byte) bool {
	sum := uint64(crc32.Checksum(graph, crc32.MakeTable(crc32.Castagnoli)))<<32 | uint64(uint32(len(graph)))
	if slices.Contains(r.Graphs, sum) {
		return false
	}
	r.Graphs = append(r.Graphs, sum)
	return true
}

// also adds what failed while another error was dealt with.
func (p *measurer) also(err, more error) error {
	if more == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", err, more)
}

const (
	// soon is the least time until work under way is saved, unless a shorter one is
	// asked for. A process that is killed after a few times that, again and again,
	// still gets somewhere.
	soon = 2 * time.Second
	// patience is how much longer than a saving the work behind it takes at least, so
	// that a slow disk does not take all the time.
	patience = 20
)

// due tells whether work under way is to be saved now. In the beginning that is more
// often than asked for: what a killed process loses is in proportion to what it has
// done.
func (k *keeper) due() bool {
	if k.store == nil {
		return false
	}
	now := time.Now()
	return now.Sub(k.last) >= min(k.every, max(soon, now.Sub(k.begin)/4)) && now.After(k.quiet)
}

// took calls save and notes when that was and how long it took.
func (k *keeper) took(save func() error) error {
	begin := time.Now()
	err := save()
	k.last = time.Now()
	if until := k.last.Add(min(patience*k.last.Sub(begin), 10*k.every)); until.After(k.quiet) {
		k.quiet = until
	}
	return err
}

func (k *keeper) put(kind string, key state.Key, info any, arrays ...any) error {
	if k.store == nil {
		return nil
	}
	return k.took(func() error {
		if k.first != nil {
			if err := k.first(); err != nil {
				return err
			}
		}
		return k.store.Put(kind, key, info, arrays...)
	})
}

func (k *keeper) get(kind string, key state.Key, info any, arrays ...any) bool {
	return k.store != nil && k.store.Get(kind, key, info, arrays...)
}

func (k *keeper) remove(kind string, key state.Key) error {
	if k.store == nil {
		return nil
	}
	return k.store.Remove(kind, key)
}

// A part is named by what it depends on and by nothing else, so that it is found
// again whatever is measured beside it: a new threshold needs neither heads nor
// label means, a new layer none of those that are there.

// trunk is what decides the numbers of a tap for given samples.
func (k *keeper) trunk() []any {
	id := k.id
	return []any{id.Method, id.ModelSHA256, id.Input, id.Preprocess, id.Engine, id.EngineVersion, id.Provider, id.Format}
}

func tapFacts(t *Tap) []any { return []any{strconv.Quote(t.Tensor), t.Pool, t.Own} }

// headFacts decide the weights of a head.
func (k *keeper) headFacts(h *head) []any {
	if h.own {
		return tapFacts(h.tap)
	}
	return []any{k.id.Fit, k.id.Seed, k.id.Recipe, tapFacts(h.tap), h.i}
}

func (k *keeper) headKey(h *head) state.Key { return state.KeyOf(k.trunk(), k.headFacts(h)) }

func (k *keeper) meansKey(h *head) state.Key {
	return state.KeyOf(k.trunk(), k.id.Stats, tapFacts(h.tap))
}

// fitted is what is kept beside a head's weights.
type fitted struct {
	Loss, Norm float64
	Outliers   *Outliers
	sampled
}

// sampled says what became of the samples of a split: those of each label that
// were used, and those that could not be decoded.
type sampled struct {
	Seen []int
	Lost []dataset.Skipped
}

// skipped lists what is not used of the data, as dataset.Set.Skipped does, with
// what the measurement that is being continued had found.
func (p *measurer) skipped() []dataset.Skipped {
	list := p.set.Skipped()
	known := map[string]bool{}
	for _, s := range list {
		known[s.Name] = true
	}
	for _, s := range p.lost {
		if !known[s.Name] {
			known[s.Name] = true
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b dataset.Skipped) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// sampled describes a split for a part.
func (p *measurer) sampled(split dataset.Split, seen []int) sampled {
	s := sampled{Seen: seen}
	list := p.skipped()
	if len(list) == 0 {
		return s
	}
	in := p.names[split.Name]
	if in == nil {
		in = make(map[string]bool, len(split.Index))
		for _, i := range split.Index {
			in[p.set.ID(i)] = true
		}
		if p.names == nil {
			p.names = map[string]map[string]bool{}
		}
		p.names[split.Name] = in
	}
	for _, sk := range list {
		if in[sk.Name] {
			s.Lost = append(s.Lost, sk)
		}
	}
	return s
}

// recall takes over what a part says of its split; it returns false when that
// cannot be.
func (p *measurer) recall(s sampled) bool {
	if s.Seen != nil && len(s.Seen) != p.k {
		return false
	}
	for _, sk := range s.Lost {
		if !slices.Contains(p.lost, sk) {
			p.lost = append(p.lost, sk)
		}
	}
	return true
}

// loadHead takes the weights of a trained head from Options.State.
func (p *measurer) loadHead(h *head) bool {
	if p.keep.store == nil || h.own {
		return false
	}
	w := make([]float32, p.k*h.d())
	var info fitted
	if !p.keep.get(partHead, p.keep.headKey(h), &info, w) || len(info.Seen) != p.k || !p.recall(info.sampled) {
		return false
	}
	h.w, h.loss, h.norm, h.outliers, h.fitted = w, info.Loss, info.Norm, info.Outliers, true
	p.seenFit = info.Seen
	return true
}

// saveHead keeps a head that is trained.
func (p *measurer) saveHead(h *head) error {
	h.fitted, h.outliers = true, p.outliers(h.spread)
	if p.keep.store == nil {
		return nil
	}
	return p.keep.put(partHead, p.keep.headKey(h), fitted{h.loss, h.norm, h.outliers, p.sampled(p.fit, p.seenFit)}, h.w)
}

// A MissingError says that Options.State does not have what Replay needs.
type MissingError struct {
	Layer string
	What  string // "head" or "label means"
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("the state holds no %s of layer %s; measure again", e.What, e.Layer)
}

// Replay calls each with the layers of a Result that was measured on m with
// Options.State, and with their heads and label means from st: what Options.Each
// would have been told. Nothing runs and no sample is read. When a layer's are not
// there it is a *MissingError, before each is called for the first time. Every
// other error is that of each, of reading m, or the context's.
func Replay(ctx context.Context, m *inspect.Model, st *state.Store, res *Result, each func(l *Layer, f Fields) error) error {
	s, err := NewSurvey(m)
	if err != nil {
		return err
	}
	keep := keeper{store: st, id: res.Identity()}
	k := len(res.Data.Labels)
	load := func(l *Layer) (f Fields, err error) {
		h := &head{tap: &l.Tap, i: s.number(&l.Tap), own: l.Own}
		f = Fields{K: k, F: l.Tap.Filters, P: l.Positions()}
		n := k * h.d()
		switch {
		case l.Own && s.Classifier != nil:
			if f.W, err = ownWeights(m, s.Classifier); err != nil {
				return f, err
			}
		default:
			f.W = make([]float32, n)
			if !keep.get(partHead, keep.headKey(h), new(fitted), f.W) {
				return f, &MissingError{l.Name(), "head"}
			}
		}
		f.Means = make([]float32, n)
		if !keep.get(partMeans, keep.meansKey(h), new(sampled), f.Means) {
			return f, &MissingError{l.Name(), "label means"}
		}
		return f, nil
	}
	for i := range res.Layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := load(&res.Layers[i]); err != nil {
			return err
		}
	}
	for i := range res.Layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := load(&res.Layers[i])
		if err != nil {
			return err
		}
		if err := each(&res.Layers[i], f); err != nil {
			return err
		}
	}
	return nil
}

// known returns Options.Known when it answers for a measurement of identity id.
func (p *measurer) known(ctx context.Context, id *Identity) (*Result, error) {
	res := p.opt.Known
	if res == nil {
		return nil, nil
	}
	if ok, _ := res.Answers(id); !ok {
		return nil, nil
	}
	if p.opt.Each == nil {
		return res, nil
	}
	if p.opt.State == nil {
		return nil, nil
	}
	err := Replay(ctx, p.m, p.opt.State, res, p.opt.Each)
	if _, missing := err.(*MissingError); missing {
		return nil, nil
	}
	return res, err
}
