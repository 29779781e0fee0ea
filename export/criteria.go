package export

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
)

// CriteriaSchema names the form of a CriteriaReport as JSON.
const CriteriaSchema = "filterlens.criteria/1"

// Criteria returns those that a plan may order by, AFCC first.
func Criteria() []string {
	return []string{AFCC, Weighted, Reconstruction, Magnitude, Activation, Random}
}

// DefaultDilutions are the dilutions that criteria are compared at, besides the
// paper's own rule, when none are asked for.
func DefaultDilutions() []float64 { return []float64{0.5, 0.7, 0.8, 0.9, 0.95} }

// CriteriaOptions steer CompareCriteria.
type CriteriaOptions struct {
	// Options are those of Prune. Set must be there. Criterion, Dilution, FiltersKeep,
	// GroupsKeep, Dense, Plan, MaxDrop and the targets are not used. Activity and
	// Moments are measured where they are needed and nil.
	Options
	// Criteria are compared, in this order; nil stands for all that can order what is
	// to fall.
	Criteria []string
	// Dilutions are the shares of connections that fall, each above 0 and below 1; nil
	// stands for DefaultDilutions and OwnRule.
	Dilutions []float64
	// OwnRule adds the dilution that AFCC comes to at the threshold Theta.
	OwnRule bool
	// FilterShares, unless empty, has whole filters go, not connections: these shares
	// of each group of filters stay, each above 0 and below 1. Dilutions and OwnRule
	// are not used then.
	FilterShares []float64
	// Seeds is how many seeds, from PlanOptions.Seed on, draw for Random; 0 is 1. Its
	// accuracies are means over them.
	Seeds int
}

// The things of a CriteriaReport that fall.
const (
	UnitConnections = "connections"
	UnitFilters     = "filters"
)

// A CriteriaReport says what is left of a model's accuracy when as many connections,
// or filters, of each layer fall by one criterion or by another.
type CriteriaReport struct {
	Schema      string `json:"schema"`
	Model       string `json:"model"`
	ModelSHA256 string `json:"model_sha256"`
	Target      string `json:"target"`
	// Unit is what falls, UnitConnections or UnitFilters.
	Unit string `json:"unit"`
	// Criteria are those compared, in order, Baseline the one that differences are
	// taken from.
	Criteria []string `json:"criteria"`
	Baseline string   `json:"baseline"`
	// LeftOut are criteria that cannot order what is to fall, Blocked layers and groups
	// of filters that stay in all runs.
	LeftOut []LeftOutCriterion `json:"left_out,omitempty"`
	Blocked []Blocked          `json:"blocked,omitempty"`
	// Recover are the steps of the recovery in their order, empty for none.
	Recover []string `json:"recover"`
	// Seeds drew for Random, the first of them also made the splits.
	Seeds []uint64 `json:"seeds"`
	// Original is the unpruned model, MACs its multiply-accumulates for one sample, nil
	// where they are not known.
	Original OriginalResult `json:"original"`
	MACs     *int64         `json:"macs"`
	Samples  *Samples       `json:"samples"`
	// Levels are the dilutions, the least first.
	Levels        []CriteriaLevel `json:"levels"`
	Engine        string          `json:"engine"`
	EngineVersion string          `json:"engine_version"`
	Provider      string          `json:"provider"`
	// Warnings are sentences that a reader must not miss.
	Warnings []string `json:"warnings,omitempty"`
}

// An OriginalResult is what the unpruned model answers on the evaluation split.
type OriginalResult struct {
	Samples int `json:"samples"`
	// Correct counts those whose label has the largest output, Unanswered those with an
	// output that is no number, which are wrong.
	Correct    int `json:"correct"`
	Unanswered int `json:"unanswered,omitempty"`
	// Top1 is the share that is correct, Chance that of always answering their
	// commonest label.
	Top1   float64 `json:"top1"`
	Chance float64 `json:"chance"`
}

// A LeftOutCriterion is one that was not compared.
type LeftOutCriterion struct {
	Criterion string `json:"criterion"`
	Reason    string `json:"reason"`
}

// A CriteriaLevel is one dilution, at which every criterion keeps the same number of
// connections, or filters, of each layer.
type CriteriaLevel struct {
	// Asked are the shares that were asked for and lead to these numbers: dilutions, or
	// shares of filters that stay. Theta is the threshold where it is AFCC's own rule.
	Asked []float64 `json:"asked"`
	Theta *float64  `json:"theta"`
	// Total counts the units of Layers, Kept those that stay; Dilution is the share that
	// falls.
	Total    int     `json:"total"`
	Kept     int     `json:"kept"`
	Dilution float64 `json:"dilution"`
	// Layers are those that lose something, Runs what each criterion makes of it.
	Layers []CriteriaLayer `json:"layers"`
	Runs   []CriteriaRun   `json:"runs"`
	// Masked and Recovered say who is ahead before and after recovery; Recovered is nil
	// where there is none.
	Masked    *Verdict `json:"masked"`
	Recovered *Verdict `json:"recovered"`

	plans [][]*Plan // by criterion and seed
}

// A CriteriaLayer is what stays of a layer, or of the group of filters that it makes
// first.
type CriteriaLayer struct {
	Layer string `json:"layer"`
	Total int    `json:"total"`
	Kept  int    `json:"kept"`
}

// A CriteriaRun is a model pruned by one criterion.
type CriteriaRun struct {
	Criterion string `json:"criterion"`
	// Masked is the model that was cut, Recovered what recovery made of it, nil where
	// there is none.
	Masked    CriteriaResult  `json:"masked"`
	Recovered *CriteriaResult `json:"recovered"`
	// MACs is what a dense runtime does for one sample once the filters are removed; nil
	// for connections, which change nothing about it, and where it is not known.
	MACs *int64 `json:"macs"`
	// Seconds is what masking, its checks and recovery took, without evaluation, of all
	// seeds together.
	Seconds float64 `json:"seconds"`
	// Skipped are steps of the recovery that the model does not allow.
	Skipped []SkippedStep `json:"skipped,omitempty"`
}

// A SkippedStep is a step of a recovery that was left out.
type SkippedStep struct {
	Step   string `json:"step"`
	Reason string `json:"reason"`
}

// A CriteriaResult is what a model answers on the evaluation split; a mean over the
// seeds of Random.
type CriteriaResult struct {
	Top1 float64 `json:"top1"`
	// PerSeed are the accuracies of single seeds, nil where there is one.
	PerSeed []float64 `json:"per_seed,omitempty"`
	// Changed is the share of samples with another answer than the original's.
	Changed float64 `json:"changed"`
	// Unanswered counts the samples with an output that is no number, of all seeds.
	Unanswered int `json:"unanswered,omitempty"`
	// Loss is how far the original is ahead, Ahead how far this is ahead of the
	// baseline, nil for the baseline itself.
	Loss  Gap  `json:"loss"`
	Ahead *Gap `json:"ahead"`
}

// CompareCriteria prunes m by several criteria at equal dilutions, recovers each in
// the same way as Prune does, and evaluates all of them on the same samples. In each
// layer every criterion keeps as many connections, or filters, as AFCC does; that is
// checked. Nothing is written but temporary files in the system's folder for these.
//
// res are the statistics, which must have been measured on the same file; they may be
// nil where NewPlan needs none. Errors are those of Prune and NewPlan; what cannot be
// compared is an *OptionError.
func CompareCriteria(ctx context.Context, eng engine.Engine, m *inspect.Model, res *probe.Result, opt CriteriaOptions) (*CriteriaReport, error) {
	if opt.Probe.Progress == nil {
		opt.Probe.Progress = func(string, int, int) {}
	}
	c := &comparer{eng: eng, m: m, res: res, opt: opt}
	if err := c.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "filterlens-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c.target = dir + "/model.onnx"
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	if err := c.plan(ctx); err != nil {
		return nil, err
	}
	if err := c.original(ctx); err != nil {
		return nil, err
	}
	for i := range c.r.Levels {
		if err := c.level(ctx, &c.r.Levels[i], i); err != nil {
			return nil, err
		}
	}
	return c.r, nil
}

// A comparer is one run of CompareCriteria.
type comparer struct {
	eng    engine.Engine
	m      *inspect.Model
	res    *probe.Result
	opt    CriteriaOptions
	target string
	p      *pipeline // what all runs share
	r      *CriteriaReport

	// before is the evaluation of the original, right what it answers rightly.
	before probe.Evaluation
	right  []bool
}

func (c *comparer) check() error {
	bad := func(format string, a ...any) error { return &OptionError{fmt.Sprintf(format, a...)} }
	share := func(list []float64) bool {
		return !slices.ContainsFunc(list, func(v float64) bool { return !(v > 0 && v < 1) })
	}
	o := &c.opt
	switch {
	case o.Set == nil:
		return bad("criteria are compared by the accuracy that they leave; give --data")
	case !share(o.Dilutions):
		return bad("dilutions %v: each is a share above 0 and below 1", o.Dilutions)
	case !share(o.FilterShares):
		return bad("filters to keep %v: each is a share above 0 and below 1", o.FilterShares)
	case o.Seeds < 0:
		return bad("%d seeds: it must be 1 or more", o.Seeds)
	case o.Criteria != nil && len(o.Criteria) == 0:
		return bad("no criterion is named")
	}
	for i, name := range o.Criteria {
		if slices.Contains(o.Criteria[:i], name) {
			return bad("criterion %s is named twice", name)
		}
	}
	// What one run of Prune would need is not what this is about.
	o.Plan, o.MaxDrop, o.TargetMACs, o.TargetLatency = nil, nil, 0, 0
	o.Dilution, o.FiltersKeep, o.GroupsKeep, o.Dense = 0, 0, nil, false
	if o.Seeds == 0 {
		o.Seeds = 1
	}
	if o.Dilutions == nil {
		o.Dilutions, o.OwnRule = DefaultDilutions(), true
	}
	return nil
}

// prepare splits the samples, settles the steps and the criteria and measures what
// these need.
func (c *comparer) prepare(ctx context.Context) (err error) {
	o := &c.opt
	c.p = &pipeline{eng: c.eng, m: c.m, opt: o.Options, target: c.target}
	if c.p.fit, c.p.stats, c.p.eval, err = o.Set.Split(o.Probe.Split); err != nil {
		return err
	}
	if err := c.p.settle(); err != nil {
		return err
	}
	c.r = &CriteriaReport{Schema: CriteriaSchema, Model: c.m.File, Target: o.Target, Unit: UnitConnections, Recover: c.p.steps, MACs: c.m.Totals.MACs,
		Seeds: []uint64{}, Engine: c.eng.Name(), EngineVersion: c.eng.Version(), Provider: c.eng.Provider(),
		Samples: &Samples{Preprocess: o.Probe.Preprocess.String(), Eval: part(c.p.eval)}}
	if c.r.Recover == nil {
		c.r.Recover = []string{}
	}
	if len(c.p.steps) > 0 {
		c.r.Samples.Fit, c.r.Samples.Stats = part(c.p.fit), part(c.p.stats)
	}
	if len(o.FilterShares) > 0 {
		c.r.Unit = UnitFilters
	}
	if c.res != nil {
		if err := c.res.CheckModel(ctx, c.m.Handle); err != nil {
			return err
		}
	}
	if c.r.ModelSHA256, err = c.m.Handle.SHA256(ctx); err != nil {
		return err
	}
	if err := c.criteria(); err != nil {
		return err
	}
	for i := range o.Seeds {
		c.r.Seeds = append(c.r.Seeds, o.Seed+uint64(i))
	}
	if o.Activity == nil && (slices.Contains(c.r.Criteria, Activation) || slices.Contains(c.r.Criteria, Weighted)) {
		taps, err := Taps(c.m, c.planOptions(Activation, 0, 0.5))
		if err != nil {
			return err
		}
		if o.Activity, err = Activity(ctx, c.eng, c.m, o.Set, taps, o.Probe); err != nil {
			return err
		}
	}
	if o.Moments == nil && slices.Contains(c.r.Criteria, Reconstruction) {
		taps, err := Taps(c.m, c.planOptions(Reconstruction, 0, 0.5))
		if err != nil {
			return err
		}
		if o.Moments, err = MeasureMoments(ctx, c.eng, c.m, o.Set, taps, o.Probe); err != nil {
			return err
		}
	}
	return nil
}

// criteria finds out which can be compared. One that was not asked for by name is left
// out when it cannot order what is to fall.
func (c *comparer) criteria() error {
	for _, name := range Criteria() {
		if c.opt.Criteria != nil {
			break
		}
		if err := c.checkCriterion(name); err != nil {
			c.r.LeftOut = append(c.r.LeftOut, LeftOutCriterion{name, err.Error()})
			continue
		}
		c.r.Criteria = append(c.r.Criteria, name)
	}
	for _, name := range c.opt.Criteria {
		if err := c.checkCriterion(name); err != nil {
			return err
		}
		c.r.Criteria = append(c.r.Criteria, name)
	}
	c.r.Baseline = c.r.Criteria[0]
	if slices.Contains(c.r.Criteria, Magnitude) {
		c.r.Baseline = Magnitude
	}
	return nil
}

func (c *comparer) checkCriterion(name string) error {
	po := c.planOptions(name, 0, 0.5)
	if po.Activity == nil {
		po.Activity = map[string][]float64{} // it will be measured
	}
	if po.Moments == nil {
		po.Moments = map[string]*Moments{} // they too
	}
	return po.check()
}

// planOptions are those of a plan by a criterion at a share: a dilution, 0 for AFCC's
// own rule, or the share of filters that stay.
func (c *comparer) planOptions(criterion string, seed uint64, share float64) PlanOptions {
	po := c.opt.PlanOptions
	po.Criterion, po.Seed = criterion, seed
	if len(c.opt.FilterShares) > 0 {
		po.FiltersKeep = share
	} else {
		po.Dilution = share
	}
	return po
}

// seeds are those of the runs of a criterion.
func (c *comparer) seeds(criterion string) []uint64 {
	if criterion == Random {
		return c.r.Seeds
	}
	return c.r.Seeds[:1]
}

// original evaluates the unpruned model, once for all.
func (c *comparer) original(ctx context.Context) error {
	evals, right, err := c.evaluate(ctx, "original", c.m)
	if err != nil {
		return err
	}
	c.before, c.right = evals[0], right[0]
	e := &c.before
	c.r.Original = OriginalResult{e.Samples, e.Correct, e.Unanswered, e.Top1, e.Chance}
	if probe.AtChance(e.Top1, e.Chance, e.Samples) {
		c.r.Warnings = append(c.r.Warnings, fmt.Sprintf("the original model's accuracy of %.2f %% is at chance level: check the preprocessing and the order of the labels", 100*e.Top1))
	}
	return nil
}

// evaluate runs models over the evaluation split and tells which samples each gets
// right.
func (c *comparer) evaluate(ctx context.Context, what string, models ...*inspect.Model) (evals []probe.Evaluation, right [][]bool, err error) {
	opt := c.opt.Probe
	opt.Progress = c.progress(what)
	right = make([][]bool, len(models))
	evals, err = probe.EvaluateEach(ctx, slices.Repeat([]engine.Engine{c.eng}, len(models)), models, c.opt.Set, c.p.eval.Index, opt, func(model int, r probe.Run) error {
		k := len(r.Out) / len(r.Index)
		for i, label := range r.Labels {
			row := r.Out[i*k : (i+1)*k]
			best := probe.Argmax(row)
			right[model] = append(right[model], best == label && row[best] == row[best])
		}
		return nil
	})
	return evals, right, err
}

// progress puts what is worked on before each stage.
func (c *comparer) progress(what string) func(string, int, int) {
	return func(stage string, done, total int) { c.opt.Probe.Progress(what+": "+stage, done, total) }
}

// level runs all criteria at one dilution.
func (c *comparer) level(ctx context.Context, l *CriteriaLevel, number int) error {
	var masked, recovered [][][]bool // by criterion, seed and sample
	for i, criterion := range c.r.Criteria {
		run := CriteriaRun{Criterion: criterion}
		var a, b outcome
		for s, plan := range l.plans[i] {
			what := fmt.Sprintf("%s, %s %s", criterion, c.r.Unit, percent(l.Dilution))
			if len(l.plans[i]) > 1 {
				what += fmt.Sprintf(", seed %d", c.r.Seeds[s])
			}
			what += fmt.Sprintf(" (level %d of %d)", number+1, len(c.r.Levels))
			if err := c.run(ctx, what, plan, &run, &a, &b); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fmt.Errorf("criterion %s at %s: %w", criterion, percent(l.Dilution), err)
			}
			l.plans[i][s] = nil
		}
		run.Masked = a.result(c)
		masked = append(masked, a.right)
		if len(c.p.steps) > 0 {
			r := b.result(c)
			run.Recovered = &r
			recovered = append(recovered, b.right)
		}
		l.Runs = append(l.Runs, run)
	}
	l.plans = nil
	base := slices.Index(c.r.Criteria, c.r.Baseline)
	for i := range l.Runs {
		if i == base {
			continue
		}
		g := newGap(masked[i], masked[base])
		l.Runs[i].Masked.Ahead = &g
		if r := l.Runs[i].Recovered; r != nil {
			g := newGap(recovered[i], recovered[base])
			r.Ahead = &g
		}
	}
	l.Masked = newVerdict(c.r.Criteria, masked, c.r.Original)
	if recovered != nil {
		l.Recovered = newVerdict(c.r.Criteria, recovered, c.r.Original)
	}
	return nil
}

// run prunes and recovers by one plan, as Prune does, and evaluates both models.
func (c *comparer) run(ctx context.Context, what string, plan *Plan, run *CriteriaRun, masked, recovered *outcome) error {
	q := &pipeline{eng: c.eng, m: c.m, opt: c.p.opt, target: c.target, plan: plan, steps: c.p.steps, open: c.p.open, fit: c.p.fit, stats: c.p.stats, eval: c.p.eval, r: &Report{}}
	q.opt.Activity, q.opt.Moments = nil, nil
	q.opt.Probe.Progress = c.progress(what)
	defer q.close()
	begin := time.Now()
	first, err := q.mask(ctx)
	if err != nil {
		return err
	}
	models := []*inspect.Model{first.m}
	last := first
	if len(q.steps) > 0 {
		if last, _, err = q.recover(ctx, first); err != nil {
			return err
		}
		if last != first {
			models = append(models, last.m)
		}
	}
	run.Seconds += time.Since(begin).Seconds()
	for _, s := range q.r.Steps {
		skipped := SkippedStep{s.Name, s.Skipped}
		if s.Skipped != "" && !slices.Contains(run.Skipped, skipped) {
			run.Skipped = append(run.Skipped, skipped)
		}
	}
	evals, right, err := c.evaluate(ctx, what, models...)
	if err != nil {
		return err
	}
	masked.add(&evals[0], right[0])
	recovered.add(&evals[len(evals)-1], right[len(right)-1])
	if len(plan.Filters) > 0 {
		run.MACs, err = c.macs(ctx, plan)
	}
	return err
}

// An outcome is what the models of all seeds of a criterion answer.
type outcome struct {
	evals []probe.Evaluation
	right [][]bool
}

func (o *outcome) add(e *probe.Evaluation, right []bool) {
	o.evals, o.right = append(o.evals, *e), append(o.right, right)
}

func (o *outcome) result(c *comparer) CriteriaResult {
	var r CriteriaResult
	for i := range o.evals {
		e := &o.evals[i]
		r.Top1 += e.Top1 / float64(len(o.evals))
		if changed := changedFrom(&c.before, e); changed != nil {
			r.Changed += *changed / float64(len(o.evals))
		}
		r.Unanswered += e.Unanswered
		if len(o.evals) > 1 {
			r.PerSeed = append(r.PerSeed, e.Top1)
		}
	}
	r.Loss = newGap([][]bool{c.right}, o.right)
	return r
}

// percent writes a share with as many digits as tell dilutions apart.
func percent(v float64) string { return strconv.FormatFloat(100*v, 'f', 2, 64) + " %" }
