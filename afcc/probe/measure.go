package probe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/filterlens/filterlens/afcc/probe/state"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
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
	// Batch is the largest number of samples run at once, 0 means 100, or as many,
	// ten at least, as have activations of a quarter of Memory. Steps of heads that
	// are trained while the model runs take Recipe.Batch samples all the same.
	Batch int
	// Thetas are other thresholds at which rows are wanted as well (Layer.Sweep).
	Thetas []float64
	// Stability is the number of repeated measurements by which the filters are
	// judged (Layer.Stability): 0 for none, 2 for split halves, 3 to 10,000 for
	// resamples with replacement (bootstrap). Halves and resamples are drawn for
	// each label among its samples of the statistics split, and depend on these and
	// on Split.Seed only. A run that has no readable sample of a label takes the
	// mean over all of them: so does a half of one sample. Heads, and the clusters
	// in Layer.Filters, are the same as without.
	//
	// They come from the pass that takes the label means anyway, and each takes
	// memory for K x F x P more of these; where not all fit in half of Memory, the
	// pass is run more than once.
	Stability int
	// StabilityIfFree leaves Stability out where it would add passes through the
	// model, because the label means of all repetitions do not fit in Memory beside
	// the others; Plan.LeftOut and Result.LeftOut then say so.
	StabilityIfFree bool
	// Orders is the number of random label orders in which clusters are formed
	// anew (Layer.Order).
	Orders int
	// Confusion asks for Layer.Confusion, Single for Layer.Single. The latter takes
	// K multiplications and additions for each number of a tap and each evaluation
	// sample, outside the runtime, one to two thousand million a second on each
	// core: for a thousand labels often longer than the model itself.
	Confusion, Single bool
	// Top is how many samples of the evaluation split are kept of those that each
	// filter answers most (Layer.Top): by the mean activation over its positions, of
	// equal ones the smaller sample number first, and none whose mean is not finite.
	// Batches of another size change means by rounding only.
	Top int
	// Each is called with every layer that is done, in the order of Result.Layers,
	// while its head and label means are still held. An error ends Measure.
	Each func(l *Layer, f Fields) error
	// State keeps what has been found so far, so that a measurement that was
	// interrupted goes on from there, with the same numbers, and that later ones
	// with other settings take over what does not depend on these; nil keeps
	// nothing. Checkpoint is the longest time between two savings of work that is
	// under way, 0 means DefaultCheckpoint; in the beginning they come sooner, after a
	// quarter of the time that Measure has run and two seconds at least. It is also
	// what a killed process loses at most, but for the analysis of one layer, and for
	// savings that take more than a twentieth of that time: these come more seldom,
	// at most ten times.
	State      *state.Store
	Checkpoint time.Duration
	// Known is a Result of before. Measure returns it, having run nothing, when it
	// answers what is asked for (Result.Answers) and, if there is Each, when State
	// has the heads and label means of its layers.
	Known *Result
	// Progress is told what is being done and how far it is; it must be quick.
	Progress func(stage string, done, total int)
}

// DefaultMemory is the memory limit of Options in bytes.
const DefaultMemory = 4 << 30

// DefaultCheckpoint is the time between two savings of Options.State.
const DefaultCheckpoint = time.Minute

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
	// inline is the most bytes of a copy of the model that external data is spliced
	// into.
	inline int64
	// hold has sessions hold tensors even where they do not travel.
	hold bool
	// nodes counts the nodes of all sessions by provider, elsewhere names those that
	// another one than the engine's runs.
	nodes     map[string]int
	elsewhere []string
	ran       ran

	// leftOut is what is not measured, though it would be with more memory.
	leftOut []LeftOut

	fit, stats, eval dataset.Split
	// Samples used of each split, label by label.
	seenFit, seenStats, seenEval []int
	evalLabels                   []int32 // of the samples judged
	unanswered                   int     // of these, by the model

	keep keeper
	// lost lists samples that the measurement which is being continued could not
	// decode, names the IDs in each split.
	lost  []dataset.Skipped
	names map[string]map[string]bool
	// done counts the samples of the pass under way whose outputs were used.
	done int
}

// head is a linear head on its way: weights for scaled features.
type head struct {
	tap    *Tap
	i      uint64    // its number (Survey.number), the seed of its weights
	w, z   []float32 // weights, and the point that carries the momentum
	w2, z2 []float32 // where the next step is written, unless the session holds w and z
	norm   float64
	scale  float32
	spread spread // of its features
	// outliers is what a row says of that.
	outliers *Outliers
	loss     float64
	means    []float32
	acc      []float64
	sum      *engine.Tensor
	own      bool
	fitted   bool // it is trained
	judgement
	resampled
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
	id, err := p.identify(ctx, slices.Concat(groups...))
	if err != nil {
		return nil, err
	}
	if res, err := p.known(ctx, id); res != nil || err != nil {
		return res, err
	}
	p.keep = p.newKeeper(id)
	res := p.newResult(s, id)
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
	if err := p.complete(res); err != nil {
		return nil, err
	}
	res.Nodes, res.Elsewhere = p.nodes, p.elsewhere
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
		declared: s.Batch, opened: s.Opened, half: s.Input.DType == "float16", inline: maxInline}
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
	b, err := newTrunk(p.m, p.inline)
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
// image input is filled by pass. The first samples of plan, as many as from says,
// have been used before; they must be whole batches. save, which may be nil, is
// called when it is time to save what was gathered, and when the context ends the
// pass.
func (p *measurer) pass(ctx context.Context, stage string, sess engine.Session, plan [][]int, from int, save func() error,
	feed func(b *dataset.Batch, in, out map[string]*engine.Tensor) error, use func(b *dataset.Batch, out map[string]*engine.Tensor) error) error {
	total := 0
	for _, b := range plan {
		total += len(b)
	}
	for p.done = 0; p.done < from && len(plan) > 0; plan = plan[1:] {
		p.done += len(plan[0])
	}
	saved := p.done
	interrupted := func(err error) error {
		if ctx.Err() != nil && save != nil && p.keep.store != nil && p.done > saved {
			return p.also(err, save())
		}
		return err
	}
	p.opt.Progress(stage, p.done, total)
	for b, err := range p.set.Batches(ctx, plan, p.tr, 0) {
		if from > 0 && errors.Is(err, dataset.ErrEmpty) {
			break // what is left cannot be decoded, what came before could
		}
		if err != nil {
			return interrupted(err)
		}
		if len(b.Index) > 0 {
			in := map[string]*engine.Tensor{p.image: p.rows.tensor(b.X, len(b.Index))}
			out := map[string]*engine.Tensor{}
			if err := feed(&b, in, out); err != nil {
				return interrupted(err)
			}
			if err := sess.Run(ctx, in, out); err != nil {
				return interrupted(err)
			}
			if err := use(&b, out); err != nil {
				return err
			}
		}
		p.done += len(b.Index) + len(b.Skipped)
		p.opt.Progress(stage, p.done, total)
		if save != nil && p.keep.due() {
			if err := save(); err != nil {
				return err
			}
			saved = p.done
		}
	}
	return interrupted(ctx.Err())
}

// load makes a session of a graph and notes who runs its nodes.
func (p *measurer) load(ctx context.Context, what string, b *builder) (engine.Session, error) {
	data, err := b.serialize()
	if err != nil {
		return nil, err
	}
	s, err := p.eng.Load(ctx, engine.Model{Name: p.m.File + " (" + what + ")", Bytes: data, Dir: b.dir})
	if err != nil {
		return nil, err
	}
	if t, ok := s.(interface {
		Providers() (map[string][]string, error)
	}); ok {
		nodes, err := t.Providers()
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		if p.ran.first(data) {
			p.countNodes(nodes)
		}
	}
	return s, nil
}

// maxElsewhere is the most nodes that Result.Elsewhere names.
const maxElsewhere = 20

// countNodes adds the nodes of a session, by the library's name for the provider
// that runs them ("CUDAExecutionProvider").
func (p *measurer) countNodes(nodes map[string][]string) {
	if p.nodes == nil {
		p.nodes = map[string]int{}
	}
	for _, library := range slices.Sorted(maps.Keys(nodes)) {
		name := strings.ToLower(strings.TrimSuffix(library, "ExecutionProvider"))
		if strings.Contains(name, p.eng.Provider()) { // a plugin has a longer name
			name = p.eng.Provider()
		}
		p.nodes[name] += len(nodes[library])
		if name == p.eng.Provider() {
			continue
		}
		for _, node := range nodes[library] {
			if len(p.elsewhere) < maxElsewhere && !slices.Contains(p.elsewhere, node) {
				p.elsewhere = append(p.elsewhere, node)
			}
		}
	}
}
