package probe

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

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
// repeated measurements.
func (p *measurer) held(h *head) int64 {
	return p.headBytes(h) + int64(p.runsAtATime(h))*p.runBytes(h)
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

// planFit assigns the heads of a group to passes over the fitting split.
func (p *measurer) planFit(heads []*head) fitPlan {
	room := p.opt.Memory
	for _, h := range heads {
		room -= p.held(h)
	}
	room = max(room, p.opt.Memory/2)
	var plan fitPlan
	var cached, streamed int64
	for _, h := range heads {
		switch state, features := p.state(h), p.features(h); {
		case h.own:
		case state+features > room:
			if len(plan.streamed) == 0 || streamed+state > room {
				plan.streamed, streamed = append(plan.streamed, nil), 0
			}
			g := &plan.streamed[len(plan.streamed)-1]
			*g = append(*g, h)
			streamed += state
		default:
			// Trained one after the other: the features of all and the state of
			// one are there at a time. Counting every state keeps it simple.
			if len(plan.cached) == 0 || cached+features+state > room {
				plan.cached, cached = append(plan.cached, nil), 0
			}
			g := &plan.cached[len(plan.cached)-1]
			*g = append(*g, h)
			cached += features + state
		}
	}
	return plan
}

func (p *measurer) fitHeads(ctx context.Context, heads []*head) error {
	plan := p.planFit(heads)
	for i, g := range plan.cached {
		if err := p.fitCached(ctx, g, i, len(plan.cached)); err != nil {
			return err
		}
	}
	for i, g := range plan.streamed {
		if err := p.fitStreamed(ctx, g, i, len(plan.streamed)); err != nil {
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
// all taps of the group, and trains their heads on them one after the other.
func (p *measurer) fitCached(ctx context.Context, group []*head, i, groups int) error {
	b, err := p.trunk()
	if err != nil {
		return err
	}
	names := make([]string, len(group))
	cache := make([][]float32, len(group))
	for j, h := range group {
		names[j] = b.outputOf(fmt.Sprintf("features.%d", j), "Identity", []string{b.features(h.tap)}, []int64{-1, int64(h.d())})
		cache[j] = make([]float32, len(p.fit.Index)*h.d())
	}
	var labels []int
	collect := func() error {
		sess, err := p.load(ctx, "features", b)
		if err != nil {
			return err
		}
		defer sess.Close()
		return p.pass(ctx, stageOf("collecting features", i, groups), sess, dataset.Sequential(p.fit.Index, p.batch),
			func(b *dataset.Batch, _, out map[string]*engine.Tensor) {
				for j, h := range group {
					d, at, n := h.d(), len(labels), len(b.Index)
					out[names[j]] = nil
					if n >= p.fixed {
						out[names[j]] = engine.NewFloat32(cache[j][at*d:(at+n)*d], int64(n), int64(d))
					}
				}
			},
			func(b *dataset.Batch, out map[string]*engine.Tensor) error {
				for j, h := range group {
					if d, at, n := h.d(), len(labels), len(b.Index); n < p.fixed {
						copy(cache[j][at*d:(at+n)*d], out[names[j]].Float32())
					}
				}
				labels = append(labels, b.Labels...)
				return nil
			})
	}
	if err := collect(); err != nil {
		return err
	}
	if len(labels) == 0 {
		return dataset.ErrEmpty
	}
	p.countFit(labels)
	for j, h := range group {
		stage := stageOf("training heads", i, groups)
		progress := func(epoch int) { p.opt.Progress(stage, j*p.opt.Recipe.Epochs+epoch, len(group)*p.opt.Recipe.Epochs) }
		d := h.d()
		var sq float64
		for _, x := range cache[j][:len(labels)*d] {
			sq += float64(x) * float64(x)
		}
		if err := p.trainCached(ctx, h, cache[j][:len(labels)*d], labels, math.Sqrt(sq/float64(len(labels))), progress); err != nil {
			return err
		}
		cache[j] = nil
	}
	return nil
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

// start sets a head to its first weights for features whose root mean square
// length is length.
func (h *head) start(k int, length float64, seed uint64, r Recipe) error {
	if math.IsNaN(length) || math.IsInf(length, 0) {
		return fmt.Errorf("layer %s: tensor %q holds values that are not finite; check the preprocessing and the model", h.tap.Name(), h.tap.Tensor)
	}
	h.scale = 1
	if length > 0 {
		h.scale = float32(h.norm / length)
	}
	n := k * h.d()
	if h.w == nil {
		h.w, h.z, h.w2, h.z2 = make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	}
	InitialWeights(h.w, h.d(), seed, uint64(h.i))
	for i, w := range h.w {
		h.z[i] = float32(1+r.Momentum) * w // at rest
	}
	h.loss = 0
	return nil
}

// slow prepares a head for a learning rate that is smaller by factor: the
// velocity stays, so the point moves towards where a head at rest has it.
func (h *head) slow(factor float64, r Recipe) {
	f, m := float32(factor), float32(1+r.Momentum)
	for i, w := range h.w {
		rest := m * w
		h.z[i] = rest + f*(h.z[i]-rest)
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

func (h *head) swap() {
	h.w, h.w2 = h.w2, h.w
	h.z, h.z2 = h.z2, h.z
}

// rates returns the learning rate of each epoch.
func (r Recipe) rates() []float64 {
	rates := make([]float64, r.Epochs)
	rate := r.LearningRate
	for i := range rates {
		rates[i] = rate
		rate *= r.Decay
	}
	return rates
}

// trainCached trains one head on features (len(labels) x D) that are in memory.
func (p *measurer) trainCached(ctx context.Context, h *head, features []float32, labels []int, length float64, progress func(epoch int)) error {
	r := p.opt.Recipe
	d := int64(h.d())
	table := engine.NewFloat32(features, int64(len(labels)), d)
	for restart := 0; ; restart++ {
		if err := h.start(p.k, length, p.opt.Split.Seed, r); err != nil {
			return err
		}
		ok, err := p.epochs(ctx, h, table, labels, progress)
		if err != nil {
			return err
		}
		if ok {
			h.finish()
			return nil
		}
		if restart == maxRestarts {
			return fmt.Errorf("layer %s: its head does not converge; lower --head-rate (now %g)", h.tap.Name(), r.LearningRate)
		}
		h.norm /= 3
	}
}

// epochs runs the recipe once; ok is false when the head diverged.
func (p *measurer) epochs(ctx context.Context, h *head, table *engine.Tensor, labels []int, progress func(int)) (ok bool, err error) {
	r := p.opt.Recipe
	d := int64(h.d())
	b := newGraph()
	all := b.input("features", 1, -1, d)
	index := b.input("index", 7, -1)
	si := b.newStepInputs(p.k)
	names := b.step(b.node("Gather", []string{all, index}, attrInt("axis", 0)), si, p.k, int(d), "0", h.scale, r)
	sess, err := p.load(ctx, "head of "+h.tap.Name(), b)
	if err != nil {
		return false, err
	}
	defer sess.Close()
	numbers := make([]int, len(labels))
	for i := range numbers {
		numbers[i] = i
	}
	tensors := newStepTensors(p.k)
	for epoch, rate := range r.rates() {
		progress(epoch)
		if epoch > 0 {
			h.slow(r.Decay, r)
		}
		loss := 0.0
		for _, batch := range dataset.Shuffled(numbers, r.Batch, p.opt.Split.Seed, uint64(epoch)) {
			idx := make([]int64, len(batch))
			y := make([]int, len(batch))
			for i, n := range batch {
				idx[i], y[i] = int64(n), labels[n]
			}
			in, out := map[string]*engine.Tensor{all: table, index: engine.NewInt64(idx, int64(len(idx)))}, map[string]*engine.Tensor{}
			tensors.feed(si, y, rate, r, in)
			h.feed(names, int64(p.k), in, out)
			if err := sess.Run(ctx, in, out); err != nil {
				return false, err
			}
			h.swap()
			loss += float64(out[names.loss].Float32()[0]) * float64(len(batch))
		}
		h.loss = loss / float64(len(labels))
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

// feed binds a head's state to a training step: read from w and z, written to
// w2 and z2.
func (h *head) feed(n headNames, k int64, in, out map[string]*engine.Tensor) {
	d := int64(h.d())
	in[n.weight], in[n.point] = engine.NewFloat32(h.w, k, d), engine.NewFloat32(h.z, k, d)
	out[n.newWeight], out[n.newPoint] = engine.NewFloat32(h.w2, k, d), engine.NewFloat32(h.z2, k, d)
	out[n.loss] = nil
}

// stepTensors holds the small inputs of a training step.
type stepTensors struct {
	k      int
	onehot []float32
	rows   []float32
}

func newStepTensors(k int) *stepTensors { return &stepTensors{k: k} }

func (s *stepTensors) feed(si stepInputs, labels []int, rate float64, rec Recipe, in map[string]*engine.Tensor) {
	n := len(labels)
	if cap(s.rows) < n {
		s.onehot, s.rows = make([]float32, n*s.k), make([]float32, n)
	}
	y, r := s.onehot[:n*s.k], s.rows[:n]
	clear(y)
	for i, l := range labels {
		y[i*s.k+l] = 1
		r[i] = 1 / float32(n)
	}
	in[si.onehot] = engine.NewFloat32(y, int64(n), int64(s.k))
	in[si.rows] = engine.NewFloat32(r, int64(n), 1)
	in[si.pull] = engine.NewFloat32([]float32{float32(-(1 + rec.Momentum) * rate)})
	in[si.keep] = engine.NewFloat32([]float32{float32((1 + rec.Momentum) * (1 - rate*rec.L2))})
}

// fitStreamed trains a group of heads inside the trunk's graph: each batch runs
// the trunk once and takes one step of every head.
func (p *measurer) fitStreamed(ctx context.Context, group []*head, i, groups int) error {
	lengths, err := p.lengths(ctx, group)
	if err != nil {
		return err
	}
	for restart := 0; len(group) > 0; restart++ {
		if restart > maxRestarts {
			return fmt.Errorf("layer %s: its head does not converge; lower --head-rate (now %g)", group[0].tap.Name(), p.opt.Recipe.LearningRate)
		}
		for _, h := range group {
			if err := h.start(p.k, lengths[h], p.opt.Split.Seed, p.opt.Recipe); err != nil {
				return err
			}
		}
		diverged, err := p.streamEpochs(ctx, group, i, groups)
		if err != nil {
			return err
		}
		again := group[:0:0]
		for _, h := range group {
			if diverged[h] {
				h.norm /= 3
				again = append(again, h)
			} else {
				h.finish()
			}
		}
		group = again
	}
	return nil
}

// lengths returns the root mean square length of each tap's feature vectors
// over the fitting split.
func (p *measurer) lengths(ctx context.Context, group []*head) (map[*head]float64, error) {
	b, err := p.trunk()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(group))
	for i, h := range group {
		x := b.features(h.tap)
		rowSums := b.node("MatMul", []string{b.node("Mul", []string{x, x}), b.constFloat(ones(h.d()), int64(h.d()), 1)})
		names[i] = b.batchSum(fmt.Sprintf("square.%d", i), rowSums, 1)
	}
	sess, err := p.load(ctx, "feature lengths", b)
	if err != nil {
		return nil, err
	}
	defer sess.Close()
	sums := make([]float64, len(group))
	var labels []int
	err = p.pass(ctx, "scaling features", sess, dataset.Sequential(p.fit.Index, p.batch),
		func(_ *dataset.Batch, _, out map[string]*engine.Tensor) {
			for _, name := range names {
				out[name] = nil
			}
		},
		func(b *dataset.Batch, out map[string]*engine.Tensor) error {
			for i, name := range names {
				sums[i] += float64(out[name].Float32()[0])
			}
			labels = append(labels, b.Labels...)
			return nil
		})
	if err != nil {
		return nil, err
	}
	p.countFit(labels)
	lengths := map[*head]float64{}
	for i, h := range group {
		lengths[h] = math.Sqrt(sums[i] / float64(max(len(labels), 1)))
	}
	return lengths, nil
}

func (p *measurer) streamEpochs(ctx context.Context, group []*head, number, groups int) (diverged map[*head]bool, err error) {
	r := p.opt.Recipe
	b, err := p.trunk()
	if err != nil {
		return nil, err
	}
	si := b.newStepInputs(p.k)
	names := make([]headNames, len(group))
	for i, h := range group {
		names[i] = b.step(b.features(h.tap), si, p.k, h.d(), fmt.Sprint(i), h.scale, r)
	}
	sess, err := p.load(ctx, "heads", b)
	if err != nil {
		return nil, err
	}
	defer sess.Close()
	tensors := newStepTensors(p.k)
	diverged = map[*head]bool{}
	for epoch, rate := range r.rates() {
		if epoch > 0 {
			for _, h := range group {
				h.slow(r.Decay, r)
			}
		}
		loss, n := make([]float64, len(group)), 0
		err := p.pass(ctx, stageOf(fmt.Sprintf("training heads, epoch %d of %d", epoch+1, r.Epochs), number, groups), sess,
			dataset.Shuffled(p.fit.Index, r.Batch, p.opt.Split.Seed, uint64(epoch)),
			func(b *dataset.Batch, in, out map[string]*engine.Tensor) {
				tensors.feed(si, b.Labels, rate, r, in)
				for i, h := range group {
					h.feed(names[i], int64(p.k), in, out)
				}
			},
			func(b *dataset.Batch, out map[string]*engine.Tensor) error {
				for i, h := range group {
					h.swap()
					loss[i] += float64(out[names[i].loss].Float32()[0]) * float64(len(b.Labels))
				}
				n += len(b.Labels)
				return nil
			})
		if err != nil {
			return nil, err
		}
		for i, h := range group {
			h.loss = loss[i] / float64(max(n, 1))
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
