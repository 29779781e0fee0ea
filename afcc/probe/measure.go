package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Options steers Measure. The zero value of a field means its default.
type Options struct {
	Preprocess dataset.Preprocess
	// Split divides the samples; its Seed also seeds heads and shuffles.
	Split dataset.SplitOptions
	// Theta is the threshold; the zero value is 0, not afcc.DefaultTheta.
	Theta  float64
	Recipe Recipe // zero: DefaultRecipe
	// Taps says what is measured: TapsLayer (also when it is empty), TapsStage,
	// TapsAll, and names of layers or tensors; Survey.Choose says more.
	Taps []string
	// Layers restricts Taps to the layers or tap tensors of these names, when it
	// is not empty.
	Layers []string
	// MaxSide has larger maps averaged over windows until neither side is longer,
	// 0 leaves all as they are. Maps of which the head would not fit in Memory are
	// averaged in any case.
	MaxSide int
	// Memory bounds the bytes held for features, heads and label means; 0 means
	// DefaultMemory. The model itself and the runtime's buffers come on top. Where
	// it is too small for all taps at once they are measured in groups, with more
	// passes through the model; results differ by rounding only.
	Memory int64
	// Batch is the largest number of samples run at once, 0 means 100.
	Batch int
	// Progress is told what is being done and how far it is; it must be quick.
	Progress func(stage string, done, total int)
}

// DefaultMemory is the memory limit of Options in bytes.
const DefaultMemory = 4 << 30

// An UnknownLayerError says that a layer was asked for that cannot be measured.
type UnknownLayerError struct {
	Layer  string
	Reason string // why it has no tap, "" when the model has no such layer
	Known  []string
}

func (e *UnknownLayerError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("layer %q cannot be measured: %s", e.Layer, e.Reason)
	}
	known := e.Known
	more := ""
	if len(known) > 8 {
		more = fmt.Sprintf(" and %d more", len(known)-8)
		known = known[:8]
	}
	return fmt.Sprintf("no layer %q; the layers are %q%s", e.Layer, known, more)
}

// LabelMismatchError says that a data set cannot judge a model.
type LabelMismatchError struct {
	Data          string
	Labels, Model int
}

func (e *LabelMismatchError) Error() string {
	return fmt.Sprintf("%s has %d labels, the model has %d outputs; both must list the same labels in the same order", e.Data, e.Labels, e.Model)
}

// measurer holds what the passes of one measurement share.
type measurer struct {
	m    *inspect.Model
	eng  engine.Engine
	set  *dataset.Set
	opt  Options
	tr   *dataset.Transform
	k    int
	in   string // the model's input
	out  string // its output
	dims []int64
	// batch is the largest number of samples in a run of the trunk, fixed the
	// number that it takes at a time, 0 for any.
	batch, fixed int
	// declared is the fixed batch of the file, 0 for none; opened tells that the
	// trunk has a symbolic one in its place.
	declared int
	opened   bool
	// half tells that the model's input is float16. image is the input of the
	// trunk, which reads float.
	half  bool
	image string
	rows  images

	fit, stats, eval dataset.Split
	// Samples used of each split, label by label.
	seenFit, seenStats, seenEval []int
}

// head is a linear head on its way: weights for scaled features.
type head struct {
	tap      *Tap
	i        int       // its number among all heads, the seed of its weights
	w, z     []float32 // weights, and the point that carries the momentum
	w2, z2   []float32 // where the next step is written
	norm     float64
	scale    float32
	loss     float64
	logits   string
	correct  int
	means    []float32
	acc      []float64
	sum      *engine.Tensor
	own      bool
	accuracy float64
}

func (h *head) d() int { return h.tap.Filters * h.tap.Positions() }

// Measure trains a head for each tap of m on the fitting split of set, takes the
// label means on the statistics split, judges heads and model on the evaluation
// split, and analyses every filter. It runs three kinds of passes through the
// trunk: over the fitting split one for each group of taps whose features fit in
// memory together (one for each epoch where not even one tap's do), and one each
// for the label means and the accuracies of all heads that fit in memory.
//
// Errors are of the engine, of the data set, what inspect.Model.Check finds,
// *NotClassifierError, *UnknownLayerError, *LabelMismatchError or the context's.
func Measure(ctx context.Context, eng engine.Engine, m *inspect.Model, set *dataset.Set, opt Options) (*Result, error) {
	p, s, groups, err := prepare(m, set, opt)
	if err != nil {
		return nil, err
	}
	p.eng = eng
	res := p.newResult(s)
	for _, g := range groups {
		if err := p.fitHeads(ctx, g); err != nil {
			return nil, err
		}
		for _, h := range g {
			if h.own {
				if h.w, err = ownWeights(m, s.Classifier); err != nil {
					return nil, err
				}
			}
		}
		if err := p.judge(ctx, g, res); err != nil {
			return nil, err
		}
		if err := p.labelMeans(ctx, g); err != nil {
			return nil, err
		}
		if err := p.analyse(ctx, g, res); err != nil {
			return nil, err
		}
	}
	if err := p.complete(ctx, res); err != nil {
		return nil, err
	}
	p.warn(res)
	return res, ctx.Err()
}

func (r Recipe) check() error {
	bad := func(what string) error { return fmt.Errorf("recipe: %s", what) }
	switch {
	case r.Epochs < 0:
		return bad("the number of epochs is negative")
	case r.Batch < 1:
		return bad("the batch must hold at least one sample")
	case !(r.LearningRate > 0), math.IsInf(r.LearningRate, 0):
		return bad("the learning rate must be positive")
	case !(r.Decay > 0 && r.Decay <= 1):
		return bad("the decay of the learning rate must be above 0 and at most 1")
	case !(r.Momentum >= 0 && r.Momentum < 1):
		return bad("the momentum must be at least 0 and below 1")
	case !(r.L2 >= 0 && r.L2 < 1):
		return bad("the L2 penalty must be at least 0 and below 1")
	case !(r.Norm > 0), math.IsInf(r.Norm, 0):
		return bad("the feature norm must be positive")
	}
	return nil
}

func newMeasurer(m *inspect.Model, set *dataset.Set, opt Options, s *Survey) (*measurer, error) {
	if n := len(set.Labels()); n != s.Labels {
		return nil, &LabelMismatchError{Data: "the data set", Labels: n, Model: s.Labels}
	}
	p := &measurer{m: m, set: set, opt: opt, k: s.Labels, in: s.Input.Name, out: s.Output.Name,
		declared: s.Batch, opened: s.Opened, half: s.Input.DType == "float16"}
	shape := make([]int64, len(s.Input.Shape.Dims))
	for i, d := range s.Input.Shape.Dims {
		shape[i] = d.Value
	}
	p.batch = opt.Batch
	if p.batch < 1 {
		p.batch = 100
	}
	if p.declared > 0 && !p.opened {
		p.batch, p.fixed = p.declared, p.declared
	}
	var err error
	if p.tr, err = opt.Preprocess.Transform(shape); err != nil {
		return nil, fmt.Errorf("input %q of shape %s: %w", s.Input.Name, s.Input.Shape, err)
	}
	c, h, w := int64(p.tr.Channels), int64(p.tr.Height), int64(p.tr.Width)
	p.dims = []int64{c, h, w}
	if p.tr.Layout == dataset.NHWC {
		p.dims = []int64{h, w, c}
	}
	p.rows = images{dims: p.dims, fixed: p.fixed}
	return p, nil
}

// trunk returns a copy of the model's graph without outputs that reads the
// samples of p.batch as float.
func (p *measurer) trunk() (*builder, error) {
	b, err := newTrunk(p.m)
	if err != nil {
		return nil, err
	}
	if p.opened {
		openBatch(b.d.Model, p.m.Graph, p.in, p.declared)
	}
	p.image = p.in
	if p.half {
		p.image = b.floatInput(p.in)
	}
	return b, nil
}

// pass runs a graph over batches. feed adds inputs, use reads the outputs; the
// image input is filled by pass.
func (p *measurer) pass(ctx context.Context, stage string, sess engine.Session, plan [][]int,
	feed func(b *dataset.Batch, in, out map[string]*engine.Tensor), use func(b *dataset.Batch, out map[string]*engine.Tensor) error) error {
	total, done := 0, 0
	for _, b := range plan {
		total += len(b)
	}
	p.opt.Progress(stage, 0, total)
	for b, err := range p.set.Batches(ctx, plan, p.tr, 0) {
		if err != nil {
			return err
		}
		if len(b.Index) > 0 {
			in := map[string]*engine.Tensor{p.image: p.rows.tensor(b.X, len(b.Index))}
			out := map[string]*engine.Tensor{}
			feed(&b, in, out)
			if err := sess.Run(ctx, in, out); err != nil {
				return err
			}
			if err := use(&b, out); err != nil {
				return err
			}
		}
		done += len(b.Index) + len(b.Skipped)
		p.opt.Progress(stage, done, total)
	}
	return ctx.Err()
}

func (p *measurer) load(ctx context.Context, what string, b *builder) (engine.Session, error) {
	data, err := b.serialize()
	if err != nil {
		return nil, err
	}
	return p.eng.Load(ctx, engine.Model{Name: p.m.File + " (" + what + ")", Bytes: data})
}

// judge runs the evaluation split and counts what each head, and the model
// itself, gets right.
func (p *measurer) judge(ctx context.Context, heads []*head, res *Result) error {
	b, err := p.trunk()
	if err != nil {
		return err
	}
	answer := b.answer(p.m)
	weights := map[string]*engine.Tensor{}
	for i, h := range heads {
		if h.own {
			continue
		}
		w := b.input(fmt.Sprintf("w.%d", i), onnxfile.Float, int64(p.k), int64(h.d()))
		weights[w] = engine.NewFloat32(h.w, int64(p.k), int64(h.d()))
		h.logits = b.outputOf(fmt.Sprintf("logits.%d", i), "Gemm", b.noBias(b.features(h.tap), w), []int64{-1, int64(p.k)}, attrInt("transB", 1))
	}
	sess, err := p.load(ctx, "heads", b)
	if err != nil {
		return err
	}
	defer sess.Close()
	correct := 0
	p.seenEval = make([]int, p.k)
	err = p.pass(ctx, "judging heads", sess, dataset.Sequential(p.eval.Index, p.batch),
		func(_ *dataset.Batch, in, out map[string]*engine.Tensor) {
			for n, t := range weights {
				in[n] = t
			}
			out[answer] = nil
			for _, h := range heads {
				if !h.own {
					out[h.logits] = nil
				}
			}
		},
		func(b *dataset.Batch, out map[string]*engine.Tensor) error {
			for _, l := range b.Labels {
				p.seenEval[l]++
			}
			own, err := hits(out[answer], b.Labels, p.k)
			if err != nil {
				return fmt.Errorf("output %q: %w", p.out, err)
			}
			correct += own
			for _, h := range heads {
				n := own
				if !h.own {
					if n, err = hits(out[h.logits], b.Labels, p.k); err != nil {
						return err
					}
				}
				h.correct += n
			}
			return nil
		})
	if err != nil {
		return err
	}
	judged := total(p.seenEval)
	if judged == 0 {
		return dataset.ErrEmpty
	}
	res.Accuracy = float64(correct) / float64(judged)
	for _, h := range heads {
		h.accuracy = float64(h.correct) / float64(judged)
	}
	return nil
}

func total(counts []int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// hits counts the rows of t (B x K) whose largest value stands at the label; B
// may be larger than the number of labels. Of equal values the first counts, as
// in numpy's argmax.
func hits(t *engine.Tensor, labels []int, k int) (int, error) {
	v, err := numbers(t, len(labels), k)
	if err != nil {
		return 0, err
	}
	n := 0
	for i, label := range labels {
		if Argmax(v[i*k:(i+1)*k]) == label {
			n++
		}
	}
	return n, nil
}

// Argmax returns the position of the largest value, the first of equal ones. A
// NaN is larger than everything, as in numpy, so that it is never overlooked.
func Argmax(v []float32) int {
	best := 0
	for i, x := range v {
		if x != x {
			return i
		}
		if x > v[best] {
			best = i
		}
	}
	return best
}

// analyse turns heads with their label means into rows of res, and lets go of
// both.
func (p *measurer) analyse(ctx context.Context, heads []*head, res *Result) error {
	for i, h := range heads {
		p.opt.Progress("finding clusters", i, len(heads))
		filters, err := afcc.AnalyzeLayer(ctx, h.w, h.means, p.k, h.tap.Filters, h.tap.Positions(), afcc.Options{Theta: p.opt.Theta})
		if err != nil {
			return fmt.Errorf("layer %s: %w", h.tap.Name(), err)
		}
		l := Layer{Tap: *h.tap, Head: "trained", Accuracy: h.accuracy, Norm: h.norm,
			Stats: afcc.Summarize(filters, p.k, p.opt.Theta), Filters: filters}
		if h.own {
			l.Head, l.Norm = "classifier", 0
		} else {
			l.Loss = &h.loss
		}
		res.Layers = append(res.Layers, l)
		h.w, h.means = nil, nil
	}
	p.opt.Progress("finding clusters", len(heads), len(heads))
	return nil
}

// labelMeans fills means (K x F x P) of each head with the mean activation of
// each label. A batch holds samples of one label, so that the sum is a
// reduction inside the graph and only F*P numbers leave the runtime.
func (p *measurer) labelMeans(ctx context.Context, heads []*head) error {
	b, err := p.trunk()
	if err != nil {
		return err
	}
	sums := make([]string, len(heads))
	// Where the last batch of a label may have to be filled up, the rows count
	// that are samples.
	counted := ""
	if p.fixed > 1 {
		counted = b.input("counted", onnxfile.Float, int64(p.fixed), 1)
	}
	for i, h := range heads {
		d, x := h.d(), b.features(h.tap)
		if counted != "" {
			x = b.node("Mul", []string{x, counted})
		}
		sums[i] = b.batchSum(fmt.Sprintf("sum.%d", i), x, int64(d))
		h.means = make([]float32, p.k*d)
		h.acc = make([]float64, d)
		h.sum = engine.NewFloat32(make([]float32, d), int64(d))
	}
	sess, err := p.load(ctx, "label means", b)
	if err != nil {
		return err
	}
	defer sess.Close()
	label, count := -1, 0
	flush := func() {
		for _, h := range heads {
			if label >= 0 && count > 0 {
				d := h.d()
				for j, s := range h.acc {
					h.means[label*d+j] = float32(s / float64(count))
				}
			}
			clear(h.acc)
		}
		count = 0
	}
	seen := make([]int, p.k)
	err = p.pass(ctx, "measuring label means", sess, p.set.ByLabel(p.stats.Index, p.batch),
		func(b *dataset.Batch, in, out map[string]*engine.Tensor) {
			if counted != "" {
				in[counted] = engine.NewFloat32(append(ones(len(b.Index)), make([]float32, p.fixed-len(b.Index))...), int64(p.fixed), 1)
			}
			for i, h := range heads {
				out[sums[i]] = h.sum
			}
		},
		func(b *dataset.Batch, _ map[string]*engine.Tensor) error {
			if b.Labels[0] != label {
				flush()
				label = b.Labels[0]
			}
			for _, l := range b.Labels {
				if l != label {
					return errors.New("a batch holds samples of two labels")
				}
			}
			for _, h := range heads {
				for j, v := range h.sum.Float32() {
					h.acc[j] += float64(v)
				}
			}
			count += len(b.Labels)
			seen[label] += len(b.Labels)
			return nil
		})
	if err != nil {
		return err
	}
	flush()
	p.seenStats = seen
	for l, n := range seen {
		if n == 0 {
			return fmt.Errorf("label %q has no readable sample to measure on; left out: %s", p.set.Labels()[l], dataset.SkippedText(p.set.Skipped()))
		}
	}
	for _, h := range heads {
		h.acc, h.sum = nil, nil
	}
	return nil
}

// ownWeights returns the classifier's weights as K x Inputs.
func ownWeights(m *inspect.Model, c *Classifier) ([]float32, error) {
	st, ok := m.Graph.Stored(m.Graph.Nodes[c.Node].Input(1))
	if !ok {
		return nil, fmt.Errorf("%s: the weights of %q are not constant", m.File, c.Layer)
	}
	v, err := st.Tensor.Float32s(math.MaxInt64)
	if err != nil {
		return nil, err
	}
	if c.Transposed {
		t := make([]float32, len(v))
		for i := range c.Inputs {
			for j := range c.Outputs {
				t[j*c.Inputs+i] = v[i*c.Outputs+j]
			}
		}
		v = t
	}
	if n := m.Graph.Nodes[c.Node]; n.Op == "Gemm" {
		if alpha := n.AttrFloat("alpha", 1); alpha != 1 {
			for i := range v {
				v[i] *= alpha
			}
		}
	}
	return v, nil
}

// newResult describes the measurement before anything has run.
func (p *measurer) newResult(s *Survey) *Result {
	split := p.opt.Split
	return &Result{
		Schema: Schema, Model: p.m.File,
		Engine: p.eng.Name(), EngineVersion: p.eng.Version(), Provider: p.eng.Provider(),
		Theta: p.opt.Theta, Seed: split.Seed, Recipe: p.opt.Recipe, Chance: 1 / float64(p.k), Skipped: s.Skipped,
		Data: Data{
			Format: p.set.Format(), Labels: p.set.Labels(), Samples: p.set.Len(), Preprocess: p.opt.Preprocess.String(),
			Split: Split{FitShare: split.Fit, StatsShare: split.Stats, EvalShare: split.Eval, Limit: split.Limit, PerLabel: split.PerLabel, Balanced: split.Balanced},
		},
	}
}

// complete adds what is known only when every sample has been read.
func (p *measurer) complete(ctx context.Context, res *Result) error {
	var err error
	if res.ModelSHA256, err = p.m.Handle.SHA256(ctx); err != nil {
		return err
	}
	d := &res.Data
	d.Skipped = p.set.Skipped()
	d.Unreadable = len(d.Skipped)
	d.Fit, d.Stats, d.Eval = part(p.fit, p.seenFit), part(p.stats, p.seenStats), part(p.eval, p.seenEval)
	seen := p.stats.Index
	if p.seenFit != nil {
		seen = slices.Concat(p.fit.Index, seen)
	}
	d.Repeated, err = p.set.Leaks(p.read(seen), p.read(p.eval.Index))
	return err
}

// read returns the samples of index that could be decoded, ascending.
func (p *measurer) read(index []int) dataset.Split {
	skipped := map[string]bool{}
	for _, s := range p.set.Skipped() {
		skipped[s.Name] = true
	}
	index = slices.DeleteFunc(slices.Clone(index), func(i int) bool { return skipped[p.set.ID(i)] })
	slices.Sort(index)
	return dataset.Split{Index: index}
}

// part describes a split of which seen counts the samples used, label by label;
// nil when nothing needed it.
func part(s dataset.Split, seen []int) Part {
	if seen == nil {
		return Part{SHA256: s.Hash}
	}
	return Part{Samples: total(seen), MinPerLabel: slices.Min(seen), MaxPerLabel: slices.Max(seen), SHA256: s.Hash}
}

// warn adds what a reader must not miss.
func (p *measurer) warn(res *Result) {
	say := func(format string, a ...any) { res.Warnings = append(res.Warnings, fmt.Sprintf(format, a...)) }
	if AtChance(res.Accuracy, p.k, res.Data.Eval.Samples) {
		say("the model's accuracy of %.2f %% is at chance level (%.2f %%): check the preprocessing (now %s) and the order of the labels; the statistics below mean nothing",
			100*res.Accuracy, 100*res.Chance, res.Data.Preprocess)
	}
	if n := res.Data.Unreadable; n > 0 {
		say("left out of the data: %d: %s", n, dataset.SkippedText(res.Data.Skipped))
	}
	if n := res.Data.Repeated; n > 0 {
		say("%d evaluation samples also occur among those that the heads or the statistics saw", n)
	}
	if n := res.Data.Stats.MinPerLabel; n < 10 {
		say("a label has only %d samples to measure on; its means are uncertain", n)
	}
	for _, l := range res.Layers {
		if l.Pool > 1 {
			why := "which would not have fitted in memory (--memory)"
			if max(l.Height, l.Width)/(l.Pool-1) > p.opt.MaxSide && p.opt.MaxSide > 0 {
				why = "as asked for"
			}
			say("layer %s: averaged over %d x %d positions before its head, %s", l.Name(), l.Pool, l.Pool, why)
		}
		if l.Stats.NonFinite > 0 {
			say("layer %s: %d filters have fields that are not finite", l.Name(), l.Stats.NonFinite)
		}
	}
}

// AtChance tells whether an accuracy measured on n samples is within three
// standard errors of guessing among k labels, or below.
func AtChance(accuracy float64, k, n int) bool {
	c := 1 / float64(k)
	return accuracy <= c+3*math.Sqrt(c*(1-c)/float64(max(n, 1)))
}
