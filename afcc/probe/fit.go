package probe

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// fitPlan says how the heads are trained within the memory limit.
type fitPlan struct {
	// cached holds groups of heads whose features, and the state of one head,
	// fit in memory together: one pass of the trunk each.
	cached [][]*head
	// streamed holds groups of heads whose features do not fit; their training
	// steps are part of the trunk's graph: one pass for each epoch.
	streamed [][]*head
}

// state is the bytes that training a head takes: weights and momentum, twice.
func (p *measurer) state(h *head) int64 { return 16 * int64(p.k) * int64(h.d()) }

// headBytes is the bytes of a head's weights and label means, and of the sums on the
// way to these.
func (p *measurer) headBytes(h *head) int64 { return int64(h.d()) * (8*int64(p.k) + 12) }

// held is the bytes that a head takes until its row is made, with the label means of
// repeated measurements and the samples that its filters answer most.
func (p *measurer) held(h *head) int64 {
	top := int64(min(p.opt.Top, len(p.eval.Index)))
	return p.headBytes(h) + int64(p.runsAtATime(h))*p.runBytes(h) + 16*top*int64(h.tap.Filters)
}

// features is the bytes of the tap's features of the whole fitting split.
func (p *measurer) features(h *head) int64 {
	n, d := int64(len(p.fit.Index)), int64(h.d())
	if n > 0 && d > math.MaxInt64/8/n {
		return math.MaxInt64 / 2
	}
	return 4 * n * d
}

// group cuts heads into groups that are fitted, judged and analysed one after the
// other, each holding at most half of the memory; the other half is for training.
// A tap whose head is too large for that is pooled.
func (p *measurer) group(heads []*head) ([][]*head, error) {
	half := p.opt.Memory / 2
	var groups [][]*head
	var bytes int64
	for _, h := range heads {
		for !h.own && (p.state(h) > half || p.fixed > 0 && p.state(h)+p.features(h) > half) {
			h.tap.Pool++
			if h.tap.Pool > min(h.tap.Height, h.tap.Width) {
				return nil, fmt.Errorf("layer %s: a head for %d filters and %d labels does not fit in the %d bytes of --memory", h.tap.Name(), h.tap.Filters, p.k, p.opt.Memory)
			}
		}
		takes := p.held(h) + p.activationBytes(h, p.batch)
		if len(groups) == 0 || bytes+takes > half {
			groups, bytes = append(groups, nil), 0
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], h)
		bytes += takes
	}
	return groups, nil
}

// passes returns how often the fitting split runs through the trunk.
func (f fitPlan) passes(epochs int) int {
	n := len(f.cached) + epochs*len(f.streamed)
	if len(f.cached) == 0 && len(f.streamed) > 0 {
		n++ // for the lengths of the features, which a pass for others takes along
	}
	return n
}

// planFit assigns the heads of a group to passes over the fitting split. Where
// features have to be computed in each epoch for some heads, all are trained with
// them if that saves passes.
func (p *measurer) planFit(heads []*head) fitPlan {
	room := p.opt.Memory
	for _, h := range heads {
		room -= p.held(h)
	}
	room = max(room, p.opt.Memory/2)
	plan := p.assign(heads, room, false)
	if len(plan.streamed) > 0 {
		if all := p.assign(heads, room, true); all.passes(p.opt.Recipe.Epochs) < plan.passes(p.opt.Recipe.Epochs) {
			return all
		}
	}
	return plan
}

// assign fills the passes of a plan, with every head streamed or only those whose
// features do not fit in room.
func (p *measurer) assign(heads []*head, room int64, stream bool) fitPlan {
	var plan fitPlan
	var cached, most, streamed int64
	for _, h := range heads {
		switch state, features := p.state(h), p.features(h); {
		case h.own:
		case stream || state+features > room:
			if len(plan.streamed) == 0 || streamed+state > room {
				plan.streamed, streamed = append(plan.streamed, nil), 0
			}
			g := &plan.streamed[len(plan.streamed)-1]
			*g = append(*g, h)
			streamed += state
		default:
			// Trained one after the other: the features of all and the state of
			// one are there at a time.
			if most = max(most, state); len(plan.cached) == 0 || cached+features+most > room {
				plan.cached, cached, most = append(plan.cached, nil), 0, state
			}
			g := &plan.cached[len(plan.cached)-1]
			*g = append(*g, h)
			cached += features
		}
	}
	return plan
}

// fitHeads trains the heads of a group. A head is complete, and nothing else of its
// training is needed any more, when finish was called for it: after each head of a
// cached group, and for a streamed group when all of its heads have converged.
func (p *measurer) fitHeads(ctx context.Context, heads []*head) error {
	plan := p.planFit(heads)
	lengths := newLengths(slices.Concat(plan.streamed...))
	p.loadHeads(heads, lengths)
	for i, g := range plan.cached {
		if err := p.fitCached(ctx, g, lengths, i, len(plan.cached)); err != nil {
			return err
		}
	}
	for i, g := range plan.streamed {
		if allFitted(g) {
			continue
		}
		if !lengths.known {
			if err := p.measureLengths(ctx, lengths); err != nil {
				return err
			}
		}
		if err := p.fitStreamed(ctx, g, lengths, i, len(plan.streamed)); err != nil {
			return err
		}
	}
	return nil
}

func stageOf(name string, i, n int) string {
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%s (group %d of %d)", name, i+1, n)
}

// fitCached runs the trunk once over the fitting split, keeps the features of
// all taps of the group, and trains their heads on them one after the other. If
// lengths are not known yet, the pass takes them too.
func (p *measurer) fitCached(ctx context.Context, group []*head, lengths *lengths, i, groups int) error {
	if allFitted(group) {
		return nil
	}
	cache := make([][]float32, len(group))
	for j, h := range group {
		if !h.fitted {
			cache[j] = make([]float32, len(p.fit.Index)*h.d())
		}
	}
	labels, under, err := p.collect(ctx, group, cache, lengths, stageOf("collecting features", i, groups))
	if err != nil {
		return err
	}
	for j, h := range group {
		if h.fitted {
			continue
		}
		stage := stageOf("training heads", i, groups)
		progress := func(epoch int) { p.opt.Progress(stage, j*p.opt.Recipe.Epochs+epoch, len(group)*p.opt.Recipe.Epochs) }
		features := cache[j][:len(labels)*h.d()]
		squares := squaredLengths(features, h.d())
		of := spreadOf(squares)
		of.shorten(features, h.d(), squares)
		if err := p.trainCached(ctx, h, features, labels, of, progress); err != nil {
			return err
		}
		cache[j] = nil
	}
	return p.dropFeatures(under)
}

// collect fills cache, where it is not nil, with the features (samples x D) of each
// head of a group and returns the labels of the samples, those that could be read,
// and how the features are kept.
func (p *measurer) collect(ctx context.Context, group []*head, cache [][]float32, lengths *lengths, stage string) (labels []int, under *featureState, err error) {
	if under, err = p.newFeatureState(group, cache, lengths); err != nil {
		return nil, nil, err
	}
	defer func() {
		if cerr := under.close(); err == nil {
			err = cerr
		}
	}()
	labels, done := under.load()
	if done < len(p.fit.Index) {
		if labels, err = p.collectPass(ctx, group, cache, lengths, stage, under, labels, done); err != nil {
			return nil, nil, err
		}
	}
	if len(labels) == 0 {
		return nil, nil, dataset.ErrEmpty
	}
	p.countFit(labels)
	if !lengths.known {
		lengths.complete()
		err = p.saveLengths(lengths)
	}
	return labels, under, err
}

// collectPass runs the fitting split but for the first samples, as many as done says,
// of which labels are those that could be read.
func (p *measurer) collectPass(ctx context.Context, group []*head, cache [][]float32, lengths *lengths, stage string, under *featureState, labels []int, done int) ([]int, error) {
	b, err := p.trunk()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(group))
	for j, h := range group {
		names[j] = b.outputOf(fmt.Sprintf("features.%d", j), "Identity", []string{b.features(h.tap)}, []int64{-1, int64(h.d())})
	}
	more := !lengths.known
	if more {
		lengths.add(b)
	}
	sess, err := p.load(ctx, "features", b)
	if err != nil {
		return nil, err
	}
	defer sess.Close()
	err = p.pass(ctx, stage, sess, dataset.Sequential(p.fit.Index, p.batch), done, under.sync,
		func(b *dataset.Batch, _, out map[string]*engine.Tensor) error {
			for j, h := range group {
				if cache[j] == nil {
					continue
				}
				d, at, n := h.d(), len(labels), len(b.Index)
				out[names[j]] = nil
				if n >= p.fixed {
					out[names[j]] = engine.NewFloat32(cache[j][at*d:(at+n)*d], int64(n), int64(d))
				}
			}
			if more {
				lengths.want(out)
			}
			return nil
		},
		func(b *dataset.Batch, out map[string]*engine.Tensor) error {
			for j, h := range group {
				if d, at, n := h.d(), len(labels), len(b.Index); cache[j] != nil && n < p.fixed {
					copy(cache[j][at*d:(at+n)*d], out[names[j]].Float32())
				}
			}
			if more {
				lengths.take(out, len(b.Index))
			}
			labels = append(labels, b.Labels...)
			return under.add(len(b.Labels), len(labels), p.done+len(b.Index)+len(b.Skipped), b.Labels)
		})
	return labels, err
}

// countFit records the samples that heads are fitted on.
func (p *measurer) countFit(labels []int) {
	p.seenFit = make([]int, p.k)
	for _, l := range labels {
		p.seenFit[l]++
	}
}

// maxRestarts bounds how often a head that diverges is begun anew with smaller
// features.
const maxRestarts = 4

// prepare gives a head room for its weights, and the scale for features as long as of
// says.
func (h *head) prepare(k int, of spread) error {
	if !finite(of.RMS) {
		return fmt.Errorf("layer %s: tensor %q holds values that are not finite; check the preprocessing and the model", h.tap.Name(), h.tap.Tensor)
	}
	h.spread = of
	h.rescale()
	n := k * h.d()
	if h.w == nil {
		h.w, h.z = make([]float32, n), make([]float32, n)
	}
	return nil
}

// start sets a head that is prepared to its first weights.
func (h *head) start(seed uint64, r Recipe) {
	InitialWeights(h.w, h.d(), seed, uint64(h.i))
	for i, w := range h.w {
		h.z[i] = float32(1+r.Momentum) * w // at rest
	}
	h.loss = 0
}

// rescale sets the scale that brings features to the length that is wanted.
func (h *head) rescale() {
	h.scale = 1
	if h.spread.RMS > 0 {
		h.scale = float32(h.norm / h.spread.RMS)
	}
}

// InitialWeights fills w with the first weights of head number i for d
// features: uniform in +-1/sqrt(d).
func InitialWeights(w []float32, d int, seed, i uint64) {
	r := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15^i))
	bound := 1 / math.Sqrt(float64(d))
	for j := range w {
		w[j] = float32((2*r.Float64() - 1) * bound)
	}
}

// finish folds the scale of the features back into the weights.
func (h *head) finish() {
	for i := range h.w {
		h.w[i] *= h.scale
	}
	h.z, h.w2, h.z2 = nil, nil, nil
}

// trainCached trains one head on features (len(labels) x D) that are in memory,
// shortened where that is due.
func (p *measurer) trainCached(ctx context.Context, h *head, features []float32, labels []int, of spread, progress func(epoch int)) error {
	r := p.opt.Recipe
	d := int64(h.d())
	table := engine.NewFloat32(features, int64(len(labels)), d)
	if err := h.prepare(p.k, of); err != nil {
		return err
	}
	a := attempt{key: p.trainingKey("cached", []*head{h})}
	if p.loadTraining(&a, []*head{h}); a.at != nil {
		a.restart, h.norm = a.at.Restart, a.at.Norms[0]
	}
	for ; ; a.restart++ {
		h.rescale()
		if a.at == nil {
			h.start(p.opt.Split.Seed, r)
		}
		ok, err := p.epochs(ctx, h, table, labels, a, progress)
		if err != nil {
			return err
		}
		if ok {
			h.finish()
			if err := p.saveHead(h); err != nil {
				return err
			}
			return p.keep.remove(partTraining, a.key)
		}
		a.at = nil
		if a.restart == maxRestarts {
			return fmt.Errorf("layer %s: its head does not converge; lower --head-rate (now %g)", h.tap.Name(), r.LearningRate)
		}
		h.norm /= 3
	}
}

// epochs runs the recipe once, or what is left of an attempt; ok is false when the
// head diverged.
func (p *measurer) epochs(ctx context.Context, h *head, table *engine.Tensor, labels []int, a attempt, progress func(int)) (ok bool, err error) {
	r := p.opt.Recipe
	d := int64(h.d())
	b := newGraph()
	all := b.input("features", 1, -1, d)
	index := b.input("index", 7, -1)
	t := trainer{p: p, heads: []*head{h}, fixed: map[string]*engine.Tensor{all: table}}
	t.add(b, func(*head) string { return b.node("Gather", []string{all, index}, attrInt("axis", 0)) })
	if t.sess, err = p.load(ctx, "head of "+h.tap.Name(), b); err != nil {
		return false, err
	}
	defer t.sess.Close()
	numbers := make([]int, len(labels))
	for i := range numbers {
		numbers[i] = i
	}
	epoch := 0
	if a.at != nil {
		epoch = a.at.Epoch
	}
	for ; epoch < r.Epochs; epoch++ {
		progress(epoch)
		if err := t.begin(epoch, a); err != nil {
			return false, err
		}
		done := 0
		if a.at != nil {
			done, a.at = a.at.Done, nil
		}
		for i, batch := range dataset.Shuffled(numbers, r.Batch, p.opt.Split.Seed, uint64(epoch)) {
			if i < done {
				continue
			}
			here := training{Restart: a.restart, Epoch: epoch, Done: i, Diverged: []bool{false}}
			idx := make([]int64, len(batch))
			y := make([]int, len(batch))
			for i, n := range batch {
				idx[i], y[i] = int64(n), labels[n]
			}
			in, out := map[string]*engine.Tensor{index: engine.NewInt64(idx, int64(len(idx)))}, map[string]*engine.Tensor{}
			t.feed(y, in, out)
			if err := t.sess.Run(ctx, in, out); err != nil {
				if ctx.Err() != nil {
					err = p.also(err, p.saveTraining(ctx, a.key, &t, here))
				}
				return false, err
			}
			t.took(len(batch), out)
			if here.Done++; p.keep.due() {
				if err := p.saveTraining(ctx, a.key, &t, here); err != nil {
					return false, err
				}
			}
		}
		if err := t.end(ctx); err != nil {
			return false, err
		}
		if !finite(h.loss) {
			return false, ctx.Err()
		}
	}
	progress(r.Epochs)
	return finite32(h.w), ctx.Err()
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func finite32(v []float32) bool {
	for _, x := range v {
		if x-x != 0 {
			return false
		}
	}
	return true
}

// fitStreamed trains a group of heads inside the trunk's graph: each batch runs
// the trunk once and takes one step of every head.
func (p *measurer) fitStreamed(ctx context.Context, group []*head, lengths *lengths, i, groups int) error {
	restart, active := p.loadAttempts(group)
	all, group := group, active
	for ; len(group) > 0; restart++ {
		if restart > maxRestarts {
			return fmt.Errorf("layer %s: its head does not converge; lower --head-rate (now %g)", group[0].tap.Name(), p.opt.Recipe.LearningRate)
		}
		for _, h := range group {
			if err := h.prepare(p.k, lengths.spreads[h]); err != nil {
				return err
			}
		}
		a := attempt{key: p.trainingKey("streamed", group, restart), restart: restart}
		if p.loadTraining(&a, group); a.at == nil {
			for _, h := range group {
				h.start(p.opt.Split.Seed, p.opt.Recipe)
			}
		}
		diverged, err := p.streamEpochs(ctx, group, a, i, groups)
		if err != nil {
			return err
		}
		again := group[:0:0]
		for _, h := range group {
			if diverged[h] {
				h.norm /= 3
				again = append(again, h)
				continue
			}
			h.finish()
			if err := p.saveHead(h); err != nil {
				return err
			}
		}
		if err := p.saveAttempts(all, restart+1, again); err != nil {
			return err
		}
		if err := p.keep.remove(partTraining, a.key); err != nil {
			return err
		}
		group = again
	}
	return p.keep.remove(partAttempts, p.trainingKey("attempts", all))
}

// streamEpochs runs the recipe once, or what is left of an attempt, and tells which
// heads diverged.
func (p *measurer) streamEpochs(ctx context.Context, group []*head, a attempt, number, groups int) (diverged map[*head]bool, err error) {
	r := p.opt.Recipe
	b, err := p.trunk()
	if err != nil {
		return nil, err
	}
	t := trainer{p: p, heads: group}
	t.add(b, func(h *head) string { return b.shortened(b.features(h.tap), h.d(), h.spread.Limit) })
	if t.sess, err = p.load(ctx, "heads", b); err != nil {
		return nil, err
	}
	defer t.sess.Close()
	diverged = map[*head]bool{}
	epoch := 0
	if a.at != nil {
		epoch = a.at.Epoch
		for i, h := range group {
			diverged[h] = a.at.Diverged[i]
		}
	}
	for ; epoch < r.Epochs; epoch++ {
		if err := t.begin(epoch, a); err != nil {
			return nil, err
		}
		done := 0
		if a.at != nil {
			done, a.at = a.at.Done, nil
		}
		save := func() error {
			here := training{Restart: a.restart, Epoch: epoch, Done: p.done}
			for _, h := range group {
				here.Diverged = append(here.Diverged, diverged[h])
			}
			return p.saveTraining(ctx, a.key, &t, here)
		}
		err := p.pass(ctx, stageOf(fmt.Sprintf("training heads, epoch %d of %d", epoch+1, r.Epochs), number, groups), t.sess,
			dataset.Shuffled(p.fit.Index, r.Batch, p.opt.Split.Seed, uint64(epoch)), done, save,
			func(b *dataset.Batch, in, out map[string]*engine.Tensor) error {
				t.feed(b.Labels, in, out)
				return nil
			},
			func(b *dataset.Batch, out map[string]*engine.Tensor) error {
				t.took(len(b.Labels), out)
				return nil
			})
		if err != nil {
			return nil, err
		}
		if err := t.end(ctx); err != nil {
			return nil, err
		}
		for _, h := range group {
			if !finite(h.loss) {
				diverged[h] = true
			}
		}
	}
	for _, h := range group {
		if !finite32(h.w) {
			diverged[h] = true
		}
	}
	return diverged, nil
}
