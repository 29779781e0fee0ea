package gradient

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// Options say how a model is trained. Defaults returns a recipe that suits the short
// training after pruning; the zero value trains for no epoch.
type Options struct {
	// Layers, Whole and Norms are as in BuildOptions.
	Layers       []Layer
	Whole, Norms bool
	// Epochs is the number of passes over the training samples, Batch that of samples
	// in a step. Memory bounds the bytes of what a step computes on the way: the batch
	// is halved until three times Graph.Bytes, which is more than runtimes were seen to
	// take, fit; 0 is no bound. Weights, their velocities and masks come on top.
	Epochs, Batch int
	Memory        int64
	// LearningRate is that of the first step. It falls to zero as half a cosine over
	// all steps, unless Constant is set. Momentum is Nesterov's; WeightDecay is the
	// factor of the weights in the gradient, biases included.
	LearningRate          float64
	Constant              bool
	Momentum, WeightDecay float64
	// Clip is as in BuildOptions.
	Clip float64
	// Shift moves each image by up to that many pixels both ways, and with Edge
	// repeats the border instead of filling with black; Flip mirrors every other
	// image, left to right.
	Shift      int
	Edge, Flip bool
	// Mix is the parameter a of mixup: each image of a batch becomes l of itself and
	// 1-l of another one, pixel by pixel, and so do their targets, with l drawn for
	// each from Beta(a, a) (Zhang et al., arXiv 1710.09412). 1 draws evenly from 0 to
	// 1, as Beyer et al. do for distillation, where the teacher sees the mixed image
	// too (arXiv 2106.05237); 0 mixes nothing.
	Mix float64
	// HoldOut is the share of each label's samples that is kept from training to
	// judge the epochs, unless Judge names the samples that do, which index must not
	// hold then; without any the last epoch is taken as it comes. Patience ends the
	// training after so many epochs without a better one, 0 never.
	HoldOut  float64
	Judge    []int
	Patience int
	// Distill and Temperature are as in BuildOptions; they count only where there is
	// an original model.
	Distill, Temperature float64
	// Seed draws the held-out part, the order of the samples and their augmentation.
	Seed uint64
	// Preprocess says how images become the model's input, Workers how many
	// goroutines decode them (below 1: all processors but one).
	Preprocess dataset.Preprocess
	Workers    int
	// Progress, unless nil, is told what is being done ("train 3/10", "evaluate")
	// and how many of the samples of that are done.
	Progress func(stage string, done, total int)
}

// Defaults returns ten epochs of batches of 100 at a learning rate of 0.01 with
// momentum 0.9, weight decay 5e-4 and gradients clipped at norm 5, shifts by 4 pixels and flips, a tenth held out,
// and half of the loss from the original model at temperature 4.
func Defaults() Options {
	return Options{
		Epochs: 10, Batch: 100, Memory: 4 << 30, LearningRate: 0.01, Momentum: 0.9, WeightDecay: 5e-4, Clip: 5,
		Shift: 4, Flip: true, HoldOut: 0.1, Patience: 5, Distill: 0.5, Temperature: 4, Seed: 1,
	}
}

// An Epoch is one pass over the training samples and what came of it. Epoch 0 is the
// model before training.
type Epoch struct {
	Epoch int `json:"epoch"`
	// Loss and TrainAccuracy are those of the training samples as they were met,
	// augmented, nil for epoch 0; TrainAccuracy also where images were mixed.
	Loss          *float64 `json:"loss"`
	TrainAccuracy *float64 `json:"train_accuracy"`
	// Accuracy and HeldOutLoss, the loss of the training, are those of the held-out
	// samples, neither augmented nor mixed; nil without such.
	Accuracy    *float64 `json:"accuracy"`
	HeldOutLoss *float64 `json:"held_out_loss"`
	// Rate is the learning rate of its last step.
	Rate float64 `json:"learning_rate"`
	// Seconds is what it took, evaluation included.
	Seconds float64 `json:"seconds"`
}

// A History tells how a training went.
type History struct {
	// Batch is the size that was used, TrainSamples and HeldOutSamples count what it
	// was trained and judged on.
	Batch          int     `json:"batch"`
	TrainSamples   int     `json:"train_samples"`
	HeldOutSamples int     `json:"held_out_samples"`
	Epochs         []Epoch `json:"epochs"`
	// Best is the epoch whose weights were taken.
	Best int `json:"best"`
	// Stopped says why it ended before its time: "patience", "diverged", or "".
	Stopped string `json:"stopped,omitempty"`
	// Parameters counts the numbers that were trained, Zeros those held at zero.
	Parameters int64 `json:"parameters"`
	Zeros      int64 `json:"zeros"`
}

// holder is a session of an engine that can keep tensors where it computes (ort);
// its methods are described there.
type holder interface {
	Hold(fixed map[string]*engine.Tensor, carry map[string]string) error
	Held(ctx context.Context) (map[string]*engine.Tensor, error)
	Put(values map[string]*engine.Tensor) error
}

// Train trains masked on the samples index of set and returns its new weights by the
// name of the stored tensor, in the layout in which they are stored: those of the
// epoch with the lowest loss on the held-out samples. (The loss tells more than the
// accuracy, which of 1,000 samples has a standard error of a point.) The model before
// training is one of the candidates, so that there nothing can become worse.
//
// original, which may be nil, is the model before pruning; its logits are a second
// target (Options.Distill), and what the two models have in common is not trained
// (BuildOptions.Layers). It must read the same input and have the same labels.
//
// Errors are those of Build, of the data set and of the engine; of a cancelled context
// its error. Then there are no weights.
func Train(ctx context.Context, eng engine.Engine, original, masked *inspect.Model, set *dataset.Set, index []int, opt Options) (map[string][]float32, *History, error) {
	t := &training{eng: eng, m: masked, set: set, opt: opt}
	if t.opt.Progress == nil {
		t.opt.Progress = func(string, int, int) {}
	}
	if original == nil {
		t.opt.Distill = 0
	}
	defer t.close()
	if err := t.prepare(ctx, original, index); err != nil {
		return nil, nil, err
	}
	if err := t.run(ctx); err != nil {
		return nil, nil, err
	}
	return t.best, &t.history, nil
}

// training is one call of Train.
type training struct {
	eng engine.Engine
	m   *inspect.Model
	set *dataset.Set
	opt Options

	g, judged *Graph
	tr        *dataset.Transform
	fit, held []int
	stored    map[string][]float32 // the weights of the file
	// sess takes steps, jury runs judged, teach the original where these do not.
	sess, jury, teach engine.Session
	teacher           *fixed
	holder            holder
	// w and u are weights and velocities as the graph reads them, w2 and u2 what the
	// next step writes them to; masks are ones and zeros.
	w, u, w2, u2, masks [][]float32

	history History
	best    map[string][]float32
}

func (t *training) close() {
	for _, s := range []engine.Session{t.sess, t.jury, t.teach} {
		if s != nil {
			s.Close()
		}
	}
}

func (opt *Options) check() error {
	switch {
	case opt.Epochs < 0 || opt.Epochs > 1<<20:
		return &OptionError{"epochs", fmt.Sprintf("%d is out of range", opt.Epochs)}
	case !(opt.LearningRate >= 0 && opt.LearningRate <= 1e3):
		return &OptionError{"learning rate", fmt.Sprintf("%v is out of range", opt.LearningRate)}
	case !(opt.HoldOut >= 0 && opt.HoldOut < 1):
		return &OptionError{"held-out share", fmt.Sprintf("%v is not in [0,1)", opt.HoldOut)}
	case opt.Patience < 0:
		return &OptionError{"patience", fmt.Sprintf("%d is negative", opt.Patience)}
	case !(opt.Mix >= 0 && opt.Mix <= 100):
		return &OptionError{"mix", fmt.Sprintf("%v is out of range", opt.Mix)}
	case opt.Shift < 0 || opt.Shift > 1<<12:
		return &OptionError{"shift", fmt.Sprintf("%d is out of range", opt.Shift)}
	case opt.Memory < 0:
		return &OptionError{"memory", fmt.Sprintf("%d is negative", opt.Memory)}
	}
	return nil
}

// runtimeShare is how many times the bytes that are alive at once ONNX Runtime holds:
// 2.2 for VGG-16, 2.4 for EfficientNet-B0, from the second run on, when it lays all
// tensors out anew without giving back what it had.
const runtimeShare = 3

func (t *training) prepare(ctx context.Context, original *inspect.Model, index []int) error {
	if err := t.opt.check(); err != nil {
		return err
	}
	if t.fit, t.held = index, t.opt.Judge; t.held == nil {
		t.fit, t.held = HoldOut(t.set, index, t.opt.HoldOut, t.opt.Seed)
	}
	if len(t.fit) == 0 {
		return &OptionError{"samples", "there are none to train on"}
	}
	build := BuildOptions{
		Layers: t.opt.Layers, Whole: t.opt.Whole, Norms: t.opt.Norms, Original: original, Batch: min(t.opt.Batch, len(t.fit)),
		Momentum: t.opt.Momentum, WeightDecay: t.opt.WeightDecay, Distill: t.opt.Distill, Temperature: t.opt.Temperature, Clip: t.opt.Clip,
	}
	var err error
	if t.g, err = Build(t.m, build); err != nil {
		return err
	}
	if err := t.read(ctx, &build); err != nil {
		return err
	}
	for first := true; first || t.opt.Memory > 0 && runtimeShare*t.g.Bytes > t.opt.Memory && build.Batch > 1; first = false {
		if !first {
			build.Batch /= 2
		}
		if t.g, err = Build(t.m, build); err != nil {
			return err
		}
	}
	if k := len(t.set.Labels()); k > t.g.Labels {
		return &OptionError{"samples", fmt.Sprintf("they have %d labels, the model has %d outputs", k, t.g.Labels)}
	}
	if t.tr, err = t.opt.Preprocess.Transform(append([]int64{-1}, t.g.Dims...)); err != nil {
		return err
	}
	t.history = History{Batch: t.g.Batch, TrainSamples: len(t.fit), HeldOutSamples: len(t.held), Epochs: []Epoch{}}
	t.arrange()
	if t.opt.Epochs == 0 {
		return nil
	}
	if t.g.Teacher != "" {
		bytes, f, err := answering(original, t.g.Batch)
		if err != nil {
			return err
		}
		t.teacher = f
		if t.teach, err = t.eng.Load(ctx, engine.Model{Name: original.File, Bytes: bytes}); err != nil {
			return err
		}
	}
	if t.sess, err = t.eng.Load(ctx, engine.Model{Name: "training of " + t.m.File, Bytes: t.g.Model}); err != nil {
		return err
	}
	t.g.Model = nil
	if len(t.held) > 0 {
		build.judge = true
		if t.judged, err = Build(t.m, build); err != nil {
			return err
		}
		if t.jury, err = t.eng.Load(ctx, engine.Model{Name: t.m.File, Bytes: t.judged.Model}); err != nil {
			return err
		}
		t.judged.Model = nil
	}
	return t.hold()
}

// read reads the weights and finds those tensors that have no zeros to hold.
func (t *training) read(ctx context.Context, build *BuildOptions) error {
	t.stored = map[string][]float32{}
	build.dense = map[string]bool{}
	for i := range t.g.Params {
		p := &t.g.Params[i]
		v, err := p.Values(ctx)
		if err != nil {
			return err
		}
		t.stored[p.Name] = v
		if !slices.Contains(v, 0) {
			build.dense[p.Name] = true
		}
	}
	return nil
}

// arrange makes the tensors of the graph.
func (t *training) arrange() {
	n := len(t.g.Params)
	t.w, t.u, t.w2, t.u2, t.masks = make([][]float32, n), make([][]float32, n), make([][]float32, n), make([][]float32, n), make([][]float32, n)
	for i := range t.g.Params {
		p := &t.g.Params[i]
		v := t.stored[p.Name]
		t.history.Parameters += int64(len(v))
		t.w[i] = p.Pack(v)
		k := len(t.w[i])
		t.u[i] = make([]float32, k)
		if p.Mask == "" {
			continue
		}
		t.masks[i] = make([]float32, k)
		for j, x := range t.w[i] {
			if x != 0 {
				t.masks[i][j] = 1
			}
		}
		for _, x := range v {
			if x == 0 {
				t.history.Zeros++
			}
		}
	}
}

// hold keeps the state of the training where the engine computes, if that is
// elsewhere than in the processor's memory.
func (t *training) hold() error {
	h, ok := t.sess.(holder)
	if !ok || t.eng.Provider() == "cpu" {
		for i, w := range t.w {
			t.w2[i], t.u2[i] = make([]float32, len(w)), make([]float32, len(w))
		}
		return nil
	}
	state, carry := map[string]*engine.Tensor{}, map[string]string{}
	for i := range t.g.Params {
		p := &t.g.Params[i]
		state[p.Weight], state[p.Velocity] = engine.NewFloat32(t.w[i], p.Shape...), engine.NewFloat32(t.u[i], p.Shape...)
		carry[p.NewWeight], carry[p.NewVelocity] = p.Weight, p.Velocity
		if p.Mask != "" {
			state[p.Mask] = engine.NewFloat32(t.masks[i], p.Shape...)
		}
	}
	t.holder = h
	return h.Hold(state, carry)
}

// run trains, epoch by epoch.
func (t *training) run(ctx context.Context) error {
	begin := time.Now()
	first := Epoch{Rate: t.rate(0, 1)}
	if err := t.judge(ctx, &first, t.w); err != nil {
		return err
	}
	first.Seconds = time.Since(begin).Seconds()
	t.history.Epochs = append(t.history.Epochs, first)
	t.best = t.stored
	for e := 1; e <= t.opt.Epochs; e++ {
		begin := time.Now()
		epoch := Epoch{Epoch: e}
		if err := t.epoch(ctx, &epoch); err != nil {
			return err
		}
		w, err := t.current(ctx)
		if err != nil {
			return err
		}
		if !finite(w) || math.IsNaN(*epoch.Loss) || math.IsInf(*epoch.Loss, 0) {
			t.history.Stopped = "diverged"
			break
		}
		if err := t.judge(ctx, &epoch, w); err != nil {
			return err
		}
		epoch.Seconds = time.Since(begin).Seconds()
		t.history.Epochs = append(t.history.Epochs, epoch)
		if epoch.better(&t.history.Epochs[t.history.Best]) {
			t.history.Best, t.best = e, t.unpack(w)
		} else if t.opt.Patience > 0 && e-t.history.Best >= t.opt.Patience {
			t.history.Stopped = "patience"
			break
		}
	}
	return nil
}

// better tells whether an epoch is to be preferred to an earlier one.
func (e *Epoch) better(than *Epoch) bool {
	if e.HeldOutLoss == nil {
		return true // nothing was held out
	}
	return *e.HeldOutLoss < *than.HeldOutLoss
}

func finite(weights [][]float32) bool {
	for _, v := range weights {
		for _, x := range v {
			if x-x != 0 {
				return false
			}
		}
	}
	return true
}

// rate is the learning rate after a part of the steps.
func (t *training) rate(done, total int) float64 {
	if t.opt.Constant {
		return t.opt.LearningRate
	}
	return t.opt.LearningRate * (1 + math.Cos(math.Pi*float64(done)/float64(total))) / 2
}

// plan cuts the training samples into the batches of an epoch. A last one that is
// not full is left out, unless it is the only one.
func (t *training) plan(epoch int) [][]int {
	plan := dataset.Shuffled(t.fit, t.g.Batch, t.opt.Seed, uint64(epoch))
	if n := len(plan); n > 1 && len(plan[n-1]) < t.g.Batch {
		plan = plan[:n-1]
	}
	return plan
}

// epoch takes a step on each batch.
func (t *training) epoch(ctx context.Context, e *Epoch) error {
	plan := t.plan(e.Epoch)
	stage := fmt.Sprintf("train %d/%d", e.Epoch, t.opt.Epochs)
	total := 0
	for _, b := range plan {
		total += len(b)
	}
	t.opt.Progress(stage, 0, total)
	b := newBatch(t.g)
	seen, hits, loss := 0, 0, 0.0
	step, steps := (e.Epoch-1)*len(plan), t.opt.Epochs*len(plan)
	for samples, err := range t.set.Batches(ctx, plan, t.tr, t.opt.Workers) {
		if err != nil {
			return err
		}
		b.fill(samples, t.tr, func(i int, x []float32) {
			t.augment(x, samples.X[i*t.tr.Len():(i+1)*t.tr.Len()], e.Epoch, samples.Index[i])
		})
		if t.opt.Mix > 0 {
			b.mix(len(samples.Index), t.opt.Mix, rand.New(rand.NewPCG(t.opt.Seed^0x6d6978, uint64(step))))
		}
		e.Rate = t.rate(step, steps)
		logits, l, err := t.step(ctx, b, e.Rate)
		if err != nil {
			return err
		}
		step++
		loss += l * float64(len(samples.Index))
		hits += correct(logits, samples.Labels, t.g.Labels)
		seen += len(samples.Index)
		t.opt.Progress(stage, seen, total)
		if math.IsNaN(l) {
			break // nothing better can follow
		}
	}
	loss /= float64(max(seen, 1))
	e.Loss = &loss
	if t.opt.Mix == 0 {
		accuracy := float64(hits) / float64(max(seen, 1))
		e.TrainAccuracy = &accuracy
	}
	return nil
}

// inputs are those of a graph with one batch, but for weights and rate.
func (t *training) inputs(ctx context.Context, g *Graph, b *batch) (map[string]*engine.Tensor, error) {
	in := map[string]*engine.Tensor{g.Image: b.image, g.Target: b.target, g.Rows: b.rows}
	if g.Teacher != "" {
		out := map[string]*engine.Tensor{t.teacher.logits: nil}
		if err := t.teach.Run(ctx, map[string]*engine.Tensor{t.teacher.image: b.image}, out); err != nil {
			return nil, err
		}
		in[g.Teacher] = engine.NewFloat32(out[t.teacher.logits].Float32(), int64(g.Batch), int64(g.Labels))
	}
	return in, nil
}

// step runs the graph once.
func (t *training) step(ctx context.Context, b *batch, rate float64) (logits []float32, loss float64, err error) {
	g := t.g
	in, err := t.inputs(ctx, g, b)
	if err != nil {
		return nil, 0, err
	}
	in[g.Rate] = engine.NewFloat32([]float32{float32(rate)})
	out := map[string]*engine.Tensor{g.Loss: nil, g.Logits: b.logits}
	if t.holder == nil {
		for i := range g.Params {
			p := &g.Params[i]
			in[p.Weight], in[p.Velocity] = engine.NewFloat32(t.w[i], p.Shape...), engine.NewFloat32(t.u[i], p.Shape...)
			out[p.NewWeight], out[p.NewVelocity] = engine.NewFloat32(t.w2[i], p.Shape...), engine.NewFloat32(t.u2[i], p.Shape...)
			if p.Mask != "" {
				in[p.Mask] = engine.NewFloat32(t.masks[i], p.Shape...)
			}
		}
	}
	if err := t.sess.Run(ctx, in, out); err != nil {
		return nil, 0, err
	}
	t.w, t.w2, t.u, t.u2 = t.w2, t.w, t.u2, t.u
	return b.logits.Float32(), float64(out[g.Loss].Float32()[0]), nil
}

// current returns the weights as the graph holds them.
func (t *training) current(ctx context.Context) ([][]float32, error) {
	if t.holder == nil {
		return t.w, nil
	}
	held, err := t.holder.Held(ctx)
	if err != nil {
		return nil, err
	}
	w := make([][]float32, len(t.g.Params))
	for i := range t.g.Params {
		w[i] = held[t.g.Params[i].Weight].Float32()
	}
	return w, nil
}

// unpack returns weights as they are stored.
func (t *training) unpack(w [][]float32) map[string][]float32 {
	out := map[string][]float32{}
	for i := range t.g.Params {
		p := &t.g.Params[i]
		v := slices.Clone(t.stored[p.Name])
		p.Unpack(w[i], v)
		out[p.Name] = v
	}
	return out
}

// judge measures the loss of the held-out samples with weights w.
func (t *training) judge(ctx context.Context, e *Epoch, w [][]float32) error {
	if len(t.held) == 0 {
		return nil
	}
	g := t.judged
	t.opt.Progress("evaluate", 0, len(t.held))
	b := newBatch(g)
	seen, hits, loss := 0, 0, 0.0
	for samples, err := range t.set.Batches(ctx, dataset.Sequential(t.held, g.Batch), t.tr, t.opt.Workers) {
		if err != nil {
			return err
		}
		b.fill(samples, t.tr, func(i int, x []float32) { copy(x, samples.X[i*t.tr.Len():]) })
		in, err := t.inputs(ctx, g, b)
		if err != nil {
			return err
		}
		for i := range g.Params {
			in[g.Params[i].Weight] = engine.NewFloat32(w[i], g.Params[i].Shape...)
		}
		out := map[string]*engine.Tensor{g.Loss: nil, g.Logits: b.logits}
		if err := t.jury.Run(ctx, in, out); err != nil {
			return err
		}
		hits += correct(b.logits.Float32(), samples.Labels, g.Labels)
		loss += float64(out[g.Loss].Float32()[0]) * float64(len(samples.Index))
		seen += len(samples.Index)
		t.opt.Progress("evaluate", seen, len(t.held))
	}
	accuracy := float64(hits) / float64(max(seen, 1))
	loss /= float64(max(seen, 1))
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		loss = math.MaxFloat64
	}
	e.Accuracy, e.HeldOutLoss = &accuracy, &loss
	return nil
}

// HoldOut takes a share of each label's samples out of index: at least one of each
// label that has two or more, and never all. Train does so itself; whoever uses the
// samples in other ways before must keep the held-out ones from these too, and hands
// them over as Options.Judge.
func HoldOut(set *dataset.Set, index []int, share float64, seed uint64) (fit, held []int) {
	if share <= 0 {
		return slices.Clone(index), nil
	}
	byLabel := make([][]int, len(set.Labels()))
	for _, i := range index {
		byLabel[set.Label(i)] = append(byLabel[set.Label(i)], i)
	}
	r := rand.New(rand.NewPCG(seed, 0x686f6c64))
	for _, list := range byLabel {
		r.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
		k := 0
		if len(list) > 1 {
			k = min(max(1, int(math.Round(share*float64(len(list))))), len(list)-1)
		}
		held, fit = append(held, list[:k]...), append(fit, list[k:]...)
	}
	slices.Sort(fit)
	slices.Sort(held)
	return fit, held
}
