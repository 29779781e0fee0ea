package probe

import (
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
)

// PlanSchema names the form of a Plan as JSON.
const PlanSchema = "filterlens.measuring/1"

// A Plan says what Measure is going to do: which taps, in which passes through the
// model, and the memory that this takes. Nothing has run yet.
type Plan struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Labels int    `json:"labels"`
	// Memory is the limit in bytes, Peak the most that any pass holds of it.
	Memory int64 `json:"memory"`
	Peak   int64 `json:"peak"`
	// Batch is the largest number of samples in a run. FixedBatch is what the
	// file fixes it to, 0 where it does not; Opened tells that it is made
	// symbolic in the copy that runs.
	Batch      int  `json:"batch"`
	FixedBatch int  `json:"fixed_batch,omitempty"`
	Opened     bool `json:"batch_opened,omitempty"`
	// Fit, Stats and Eval count the samples of the splits.
	Fit   int `json:"fit_samples"`
	Stats int `json:"stats_samples"`
	Eval  int `json:"eval_samples"`
	// Recipe is how heads are trained, with the number of epochs chosen.
	Recipe Recipe `json:"recipe"`
	// Forward counts the samples that run through the model in all passes.
	Forward int64 `json:"forward_samples"`
	// State is about the most bytes that Options.State takes on disk meanwhile, of a
	// folder that was empty; Kept is what stays there.
	State int64 `json:"state_bytes,omitempty"`
	Kept  int64 `json:"state_kept,omitempty"`
	// Groups are measured one after the other.
	Groups  []Group   `json:"groups"`
	Skipped []Skip    `json:"skipped,omitempty"`
	LeftOut []LeftOut `json:"left_out,omitempty"`
}

// A LeftOut is a statistic that is not measured because it was not asked for by name
// and would add passes through the model.
type LeftOut struct {
	// Statistic is "stability" (Options.StabilityIfFree).
	Statistic string `json:"statistic"`
	// Passes is how many it would add.
	Passes int `json:"passes"`
}

// A Group is taps whose heads and label means are held together.
type Group struct {
	Taps []PlannedTap `json:"taps"`
	// Held is the bytes of heads and label means.
	Held   int64  `json:"held"`
	Passes []Pass `json:"passes"`
}

// A PlannedTap is a tap with what it takes.
type PlannedTap struct {
	Tap
	// Head says how the head comes about: "cached", trained on features held in
	// memory; "streamed", trained while the model runs, once for each epoch; or
	// "classifier", the model's own.
	Head string `json:"head"`
	// Bytes of the head's weights, K x D; of its label means, K x D with D sums in
	// float32 and float64, again for each repeated measurement that is made in one
	// pass, and of Options.Top samples of each filter; of what its training holds;
	// and of the features of the fitting split, which only a cached head needs.
	HeadBytes     int64 `json:"head_bytes"`
	MeansBytes    int64 `json:"means_bytes"`
	TrainingBytes int64 `json:"training_bytes"`
	FeatureBytes  int64 `json:"feature_bytes"`
}

// A Pass runs the samples of a split through the model.
type Pass struct {
	// Kind is "features", "feature lengths", "training", "accuracy" or "label
	// means".
	Kind string `json:"kind"`
	// Split is "fit", "stats" or "eval", Samples its size, Times how often it is
	// run: once for each epoch when training, and more than once for label means
	// where those of all repeated measurements do not fit in memory.
	Split   string `json:"split"`
	Samples int    `json:"samples"`
	Times   int    `json:"times"`
	// Layers names the taps by their first layer.
	Layers []string `json:"layers"`
	// Bytes is what is held at a time, Group.Held included; of activations that
	// leave the runtime for Options.Single, those of a batch.
	Bytes int64 `json:"bytes"`
}

// NewPlan plans a measurement. It needs no runtime and refuses what Measure would
// refuse before running.
func NewPlan(m *inspect.Model, set *dataset.Set, opt Options) (*Plan, error) {
	p, s, groups, err := prepare(m, set, opt)
	if err != nil {
		return nil, err
	}
	plan := &Plan{
		Schema: PlanSchema, Model: m.File, Labels: p.k, Memory: p.opt.Memory,
		Batch: p.batch, FixedBatch: p.declared, Opened: p.opened,
		Fit: len(p.fit.Index), Stats: len(p.stats.Index), Eval: len(p.eval.Index), Recipe: p.opt.Recipe, Skipped: s.Skipped, LeftOut: p.leftOut,
	}
	for _, heads := range groups {
		plan.add(p, heads)
		kept, working := p.stateBytes(heads)
		plan.State = max(plan.State, plan.Kept+kept+working)
		plan.Kept += kept
	}
	return plan, nil
}

// add plans a group of heads.
func (plan *Plan) add(p *measurer, heads []*head) {
	fit := p.planFit(heads)
	var g Group
	how := map[*head]string{}
	for _, h := range heads {
		g.Held += p.held(h)
		how[h] = "classifier"
	}
	pass := func(kind, split string, samples, times int, bytes int64, heads []*head) {
		ps := Pass{Kind: kind, Split: split, Samples: samples, Times: times, Bytes: g.Held + bytes}
		for _, h := range heads {
			ps.Layers = append(ps.Layers, h.tap.Name())
		}
		g.Passes = append(g.Passes, ps)
		plan.Forward += int64(samples) * int64(times)
		plan.Peak = max(plan.Peak, ps.Bytes)
	}
	for _, c := range fit.cached {
		var bytes, state int64
		for _, h := range c {
			how[h] = "cached"
			bytes += p.features(h)
			state = max(state, p.state(h))
		}
		pass("features", "fit", plan.Fit, 1, bytes+state, c)
	}
	// A pass that collects features takes the lengths of others along.
	if len(fit.cached) == 0 && len(fit.streamed) > 0 {
		pass("feature lengths", "fit", plan.Fit, 1, 0, slices.Concat(fit.streamed...))
	}
	for _, st := range fit.streamed {
		var bytes int64
		for _, h := range st {
			how[h] = "streamed"
			bytes += p.state(h)
		}
		pass("training", "fit", plan.Fit, p.opt.Recipe.Epochs, bytes, st)
	}
	_, activations := p.judgeBatch(heads)
	pass("accuracy", "eval", plan.Eval, 1, activations, heads)
	pass("label means", "stats", plan.Stats, len(p.runsInPasses(heads))-1, 0, heads)
	for _, h := range heads {
		d := int64(h.d())
		t := PlannedTap{Tap: *h.tap, Head: how[h], HeadBytes: 4 * int64(p.k) * d, MeansBytes: p.held(h) - 4*int64(p.k)*d}
		if !h.own {
			t.TrainingBytes, t.FeatureBytes = p.state(h), p.features(h)
		}
		g.Taps = append(g.Taps, t)
	}
	plan.Groups = append(plan.Groups, g)
}

// prepare checks what is asked for and plans it, before anything runs.
func prepare(m *inspect.Model, set *dataset.Set, opt Options) (p *measurer, s *Survey, groups [][]*head, err error) {
	fail := func(err error) (*measurer, *Survey, [][]*head, error) { return nil, nil, nil, err }
	if opt.Recipe == (Recipe{}) {
		opt.Recipe = DefaultRecipe()
	}
	if err := opt.Recipe.check(); err != nil {
		return fail(err)
	}
	if err := afcc.CheckTheta(opt.Theta); err != nil {
		return fail(err)
	}
	if opt, err = opt.statistics(); err != nil {
		return fail(err)
	}
	if opt.Memory < 0 || opt.MaxSide < 0 || opt.Batch < 0 {
		return fail(fmt.Errorf("a limit is negative: memory %d, map side %d, batch %d", opt.Memory, opt.MaxSide, opt.Batch))
	}
	if opt.Memory == 0 {
		opt.Memory = DefaultMemory
	}
	if opt.Progress == nil {
		opt.Progress = func(string, int, int) {}
	}
	if s, err = NewSurvey(m); err != nil {
		return fail(err)
	}
	taps, err := s.Choose(opt.Taps)
	if err != nil {
		return fail(err)
	}
	if taps, err = s.restrict(taps, opt.Layers); err != nil {
		return fail(err)
	}
	if p, err = newMeasurer(m, set, opt, s); err != nil {
		return fail(err)
	}
	if p.fit, p.stats, p.eval, err = set.Split(opt.Split); err != nil {
		return fail(err)
	}
	if opt.Batch == 0 && p.fixed == 0 {
		p.batch = min(p.batch, fittingBatch(m, opt.Memory, p.declared))
	}
	if err := everyLabel(set.Labels(), p.stats.PerLabel); err != nil {
		return fail(err)
	}
	p.opt.Recipe.Epochs = p.opt.Recipe.epochsFor(len(p.fit.Index))
	heads := make([]*head, len(taps))
	for i, t := range taps {
		heads[i] = &head{tap: t, i: s.number(t), norm: opt.Recipe.Norm, own: t.Own}
		if !t.Own && opt.MaxSide > 0 {
			for t.Pool < min(t.Height, t.Width) && max(t.Height, t.Width)/t.Pool > opt.MaxSide {
				t.Pool++
			}
		}
	}
	if groups, err = p.group(heads); err != nil {
		return fail(err)
	}
	if opt.StabilityIfFree && opt.Stability > 0 {
		groups, err = p.spareStability(heads, groups)
	}
	if err != nil {
		return fail(err)
	}
	return p, s, groups, nil
}

// spareStability leaves repeated measurements out if there are fewer passes without
// them. groups is how heads are grouped with them.
func (p *measurer) spareStability(heads []*head, groups [][]*head) ([][]*head, error) {
	runs, with := p.opt.Stability, p.passes(groups)
	p.opt.Stability = 0
	fewer, err := p.group(heads)
	if err != nil {
		return nil, err
	}
	if saved := with - p.passes(fewer); saved > 0 {
		p.leftOut = append(p.leftOut, LeftOut{Statistic: "stability", Passes: saved})
		return fewer, nil
	}
	p.opt.Stability = runs
	return groups, nil
}

// passes counts the passes through the model that groups of heads need.
func (p *measurer) passes(groups [][]*head) int {
	n := 0
	for _, g := range groups {
		n += p.planFit(g).passes(p.opt.Recipe.Epochs) + 1 + len(p.runsInPasses(g)) - 1
	}
	return n
}

// fittingBatch returns the number of samples, ten at least, of which the model's
// activations take a quarter of the memory. The runtime takes up to about twice
// what inspect counts. declared is the batch that the file says, 0 for none.
func fittingBatch(m *inspect.Model, memory int64, declared int) int {
	peak := m.Totals.PeakActivationBytes
	if peak == nil || m.Totals.ActivationsUnknown > 0 || *peak <= 0 {
		return math.MaxInt
	}
	each := max(1, *peak/int64(max(declared, 1)))
	return int(min(max(10, memory/4/each), math.MaxInt32))
}

// everyLabel refuses samples that lack a label: its row of every field matrix
// would be missing.
func everyLabel(names []string, samples []int) error {
	first, missing := "", 0
	for l, n := range samples {
		if n == 0 {
			if missing == 0 {
				first = names[l]
			}
			missing++
		}
	}
	if missing == 0 {
		return nil
	}
	return fmt.Errorf("%d of the %d labels have no sample to measure on, the first is %q; clusters need samples of every label", missing, len(names), first)
}

// maxRepeats bounds repeated measurements and label orders, of which more would take
// memory and time but tell no more.
const maxRepeats = 10_000

// statistics checks the settings of further statistics, and returns them with the
// thresholds ascending, each once.
func (o Options) statistics() (Options, error) {
	refuse := func(name string, n int, want string) error {
		return &afcc.ArgumentError{Name: name, Reason: fmt.Sprintf("%d cannot be used; %s", n, want)}
	}
	for _, theta := range o.Thetas {
		if err := afcc.CheckTheta(theta); err != nil {
			return o, err
		}
	}
	o.Thetas = slices.Clone(o.Thetas)
	slices.Sort(o.Thetas)
	o.Thetas = slices.Compact(o.Thetas)
	switch {
	case o.Stability < 0 || o.Stability == 1 || o.Stability > maxRepeats:
		return o, refuse("stability", o.Stability, fmt.Sprintf("it is 0 for none, 2 for halves, or 3 to %d resamples", maxRepeats))
	case o.Orders < 0 || o.Orders > maxRepeats:
		return o, refuse("label orders", o.Orders, fmt.Sprintf("there may be 0 to %d", maxRepeats))
	case o.Top < 0:
		return o, refuse("top samples", o.Top, "their number cannot be negative")
	}
	return o, nil
}
