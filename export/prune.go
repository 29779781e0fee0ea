package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export/compact"
	"github.com/filterlens/filterlens/export/gradient"
	"github.com/filterlens/filterlens/export/refit"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Options steer Prune.
type Options struct {
	PlanOptions
	// Plan, unless nil, is applied in place of one made by PlanOptions, of which only
	// Recover counts then, and only where the plan leaves it open. It must have been
	// made for the same file.
	Plan *Plan
	// Set recovers the model, on the fitting and statistics splits, and judges it
	// before and after, on the evaluation split that Probe describes; nil leaves it
	// unrecovered and its accuracy unmeasured.
	Set *dataset.Set
	// Probe says how samples are made and split, and takes the progress.
	Probe probe.Options
	// MaxDrop is the largest loss of top-1 accuracy, in points, that passes; nil
	// lets every loss pass. It needs Set.
	MaxDrop *float64
	// Refit, Head and Finetune say how the steps of the recovery run. Samples,
	// preprocessing and progress are filled in, the seed where it is 0, and the
	// original of Head; a Finetune without epochs stands for gradient.Defaults.
	Refit    refit.Options
	Head     refit.HeadOptions
	Finetune gradient.Options
	// TargetMACs and TargetLatency, when above 0, search for a plan that removes whole
	// filters until the model has at most this share of the original's multiply-
	// accumulates, or of its time for one sample; FiltersKeep is not used then. They
	// need Set. With MaxDrop less is removed where the loss would be larger.
	TargetMACs, TargetLatency float64

	// oneFile is the most bytes that are written as one file, 0 for as many as it can
	// hold.
	oneFile int64
}

// A SameFileError says that the output would overwrite an input.
type SameFileError struct{ Path string }

func (e *SameFileError) Error() string {
	return fmt.Sprintf("the output %s is a file of the model itself; give -o another path", e.Path)
}

// CheckOutput refuses an output that is the model or holds its external data, ""
// being standard output.
func CheckOutput(m *inspect.Model, output string) error {
	if output == "" {
		return nil
	}
	// A model of more than 2 GB is written as two files.
	for _, path := range []string{output, output + ".data"} {
		if m.Handle.SameFile(path) {
			return &SameFileError{path}
		}
	}
	return nil
}

// Prune cuts connections and filters of m, recovers what is left, removes the
// channels that this leaves without use, and writes the result to the file output,
// or to w when output is "". What falls is decided by the statistics res, which may
// be nil where NewPlan needs none, or by Options.Plan.
//
// Each step is written beside the target, opened again by the engine and checked
// value by value; the last is compared with the one before it on samples and noise,
// evaluated, and only then moved into place: on any error nothing is left. One of more
// than 2 GB becomes two files, the second called as output with .data behind it. A failed
// check or an accuracy loss above MaxDrop gives a *VerdictError together with the
// Report. Statistics of another file give a *probe.OtherModelError, a plan for
// another one a *PlanError.
func Prune(ctx context.Context, eng engine.Engine, m *inspect.Model, res *probe.Result, output string, w io.Writer, opt Options) (*Report, error) {
	if err := opt.checkRun(); err != nil {
		return nil, err
	}
	if opt.Probe.Progress == nil {
		opt.Probe.Progress = func(string, int, int) {}
	}
	if err := CheckOutput(m, output); err != nil {
		return nil, err
	}
	p := &pipeline{eng: eng, m: m, opt: opt, target: output}
	defer p.close()
	if output == "" {
		dir, err := os.MkdirTemp("", "filterlens-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		p.target = dir + "/model.onnx"
	}
	// A target that cannot be written is refused before anything is computed.
	pending, err := onnxfile.CreatePending(p.target)
	if err != nil {
		return nil, err
	}
	pending.Abort()
	if opt.searches() { // which runs models
		if err := p.place(ctx); err != nil {
			return nil, err
		}
	}
	if err := p.prepare(ctx, res); err != nil {
		return nil, err
	}
	if opt.searches() {
		p.plan.Model = m.File
	}
	if err := p.place(ctx); err != nil {
		return nil, err
	}
	p.r = &Report{Schema: ReportSchema, Output: orStandard(output), Plan: p.plan.summary(), Steps: []Step{}, Checks: []Check{},
		Search: p.search, Engine: eng.Name(), EngineVersion: eng.Version(), Provider: eng.Provider(), Warnings: slices.Clone(p.plan.Warnings)}
	if err := p.run(ctx); err != nil {
		var verdict *VerdictError
		if errors.As(err, &verdict) {
			return p.r, err
		}
		return nil, err
	}
	p.r.Verified = true
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if output == "" {
		return p.r, p.final.copyTo(w)
	}
	if p.final.data != nil {
		p.r.Warnings = append(p.r.Warnings, fmt.Sprintf("the model exceeds the 2 GB that one file can hold: its numbers lie beside it, in %s; keep the two together", p.final.name))
	}
	return p.r, p.final.commit(p.target)
}

// checkRun refuses options that contradict each other.
func (opt *Options) checkRun() error {
	bad := func(format string, a ...any) error { return &OptionError{fmt.Sprintf(format, a...)} }
	steps := opt.Recover
	if opt.Plan != nil && opt.Plan.Recover != nil {
		steps = opt.Plan.Recover
	}
	if _, err := recoverySteps(steps); err != nil {
		return err
	}
	share := func(v float64) bool { return v >= 0 && v < 1 }
	switch {
	case opt.MaxDrop != nil && opt.Set == nil:
		return bad("a limit on the loss of accuracy needs data to measure it on; give --data")
	case opt.MaxDrop != nil && math.IsNaN(*opt.MaxDrop):
		return bad("the limit on the loss of accuracy is not a number")
	case opt.Set == nil && slices.ContainsFunc(steps, func(s string) bool { return s != RecoverNone }):
		return bad("recovery by %s needs data; give --data", steps[0])
	case !share(opt.TargetMACs) || !share(opt.TargetLatency):
		return bad("the targets %v and %v must be shares below 1; 0.5 asks for half", opt.TargetMACs, opt.TargetLatency)
	case opt.searches() && opt.Set == nil:
		return bad("the search for a plan needs data to measure sensitivities on; give --data")
	case opt.searches() && opt.Plan != nil:
		return bad("a plan is given, so that there is nothing to search for")
	case opt.searches() && opt.Dense:
		return bad("whole filters cannot be removed from a model that is to stay dense")
	}
	return nil
}

func (opt *Options) searches() bool { return opt.TargetMACs > 0 || opt.TargetLatency > 0 }

func orStandard(output string) string {
	if output == "" {
		return "standard output"
	}
	return output
}

// A pipeline is one run of Prune.
type pipeline struct {
	eng    engine.Engine
	m      *inspect.Model
	opt    Options
	target string // beside which temporary files lie
	plan   *Plan
	steps  []string // of the recovery
	// open tells that the steps were not asked for: those that the model does not allow
	// are left out.
	open   bool
	search *Search
	r      *Report

	fit, stats, eval dataset.Split
	files            []*temporary
	final            *temporary
}

// prepare makes or checks the plan and splits the samples.
func (p *pipeline) prepare(ctx context.Context, res *probe.Result) (err error) {
	if p.opt.Set != nil {
		if p.fit, p.stats, p.eval, err = p.opt.Set.Split(p.opt.Probe.Split); err != nil {
			return err
		}
	}
	if err := p.settle(); err != nil {
		return err
	}
	switch {
	case p.opt.Plan != nil:
		p.plan = p.opt.Plan
		if err := p.plan.check(); err != nil {
			return err
		}
		if err := checkNotQuantized(p.m); err != nil {
			return err
		}
		sum, err := p.m.Handle.SHA256(ctx)
		if err != nil {
			return err
		}
		if err := p.plan.fit(p.m, sum); err != nil {
			return err
		}
	default:
		if res != nil {
			if err := res.CheckModel(ctx, p.m.Handle); err != nil {
				return err
			}
		}
		if p.opt.searches() {
			p.plan, err = p.find(ctx, res)
		} else {
			p.plan, err = NewPlan(ctx, p.m, res, p.opt.PlanOptions)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle decides which steps recover.
func (p *pipeline) settle() (err error) {
	asked := p.opt.Recover
	if p.opt.Plan != nil && p.opt.Plan.Recover != nil {
		asked = p.opt.Plan.Recover
	}
	if p.steps, err = recoverySteps(asked); p.steps == nil && err == nil {
		p.open = true
		if p.opt.Set != nil {
			p.steps = []string{RecoverBias, RecoverRidge, RecoverHead}
		}
	}
	return err
}

// run goes from the plan to a verified file, p.final.
func (p *pipeline) run(ctx context.Context) error {
	masked, err := p.mask(ctx)
	if err != nil {
		return err
	}
	closed, training := p.steps, []string(nil)
	if i := slices.Index(p.steps, RecoverFinetune); i >= 0 {
		closed, training = p.steps[:i], p.steps[i:]
	}
	p.begin()
	dense, models, err := p.follow(ctx, masked, closed)
	if err != nil {
		return err
	}
	models = append([]*inspect.Model{masked.m}, models...)
	// A model that answers with what is no number could not be compared below.
	if _, err := runs(ctx, p.eng, p.m, dense.m); err != nil {
		return p.r.fail(ctx, "runs", err)
	}
	if p.final, err = p.compact(ctx, dense); err != nil {
		return err
	}
	// What is trained is the small model: each step costs as much less as it does.
	if training != nil {
		var trained []*inspect.Model
		if p.final, trained, err = p.follow(ctx, p.final, training); err != nil {
			return err
		}
		models = append(models, trained...)
	}
	// Last, as a Gather node has no gradient here.
	if err := p.group(ctx); err != nil {
		return err
	}
	if err := p.checkRuns(ctx); err != nil {
		return err
	}
	err = p.judge(ctx, models)
	if training == nil && p.r.Drop != nil && *p.r.Drop > worthTraining {
		p.r.Warnings = append(p.r.Warnings, fmt.Sprintf("%.2f points of accuracy are lost: a short training by gradient may win back a part of them, in minutes to hours; add %s to --recover", *p.r.Drop, RecoverFinetune))
	}
	return err
}

// worthTraining is the loss of accuracy in points from which on a report speaks of
// training.
const worthTraining = 1

// mask cuts what the plan says, and proves that nothing else changed.
func (p *pipeline) mask(ctx context.Context) (*temporary, error) {
	p.opt.Probe.Progress("checking weights", 0, 1)
	draft, err := Apply(p.m, p.plan)
	if err != nil {
		return nil, err
	}
	t, err := p.write(ctx, draft)
	if err != nil {
		return nil, err
	}
	if p.r.NewZeros, err = checkSurgery(ctx, p.m, t.m, p.plan); err != nil {
		return nil, p.r.fail(ctx, "surgery", err)
	}
	did := "dropped weights are zero, all others of the same layers are unchanged"
	names := map[string]bool{}
	for i := range p.plan.Layers {
		names[p.plan.Layers[i].Weight] = true
	}
	if err := checkUntouched(ctx, p.m, t.m, names); err != nil {
		return nil, p.r.fail(ctx, "untouched", err)
	}
	if len(p.plan.Filters) > 0 {
		silent, filters, err := p.silence(ctx, t)
		if err != nil {
			return nil, err
		}
		if err := checkSilenced(ctx, t.m, silent.m); err != nil {
			return nil, p.r.fail(ctx, "surgery", err)
		}
		p.drop(t)
		t = silent
		did = fmt.Sprintf("dropped weights and those that read the %d removed filters are zero, all others of the same layers are unchanged", filters)
	}
	if err := p.r.check("surgery", true, "%s", did); err != nil {
		return nil, err
	}
	return t, p.r.check("untouched", true, "every other tensor and node is unchanged")
}

// silence sets the weights to zero that read removed filters, and returns the number
// of channels that this removes.
func (p *pipeline) silence(ctx context.Context, t *temporary) (*temporary, int, error) {
	c, err := compact.NewPlan(ctx, t.m, p.plan.compaction(true))
	if err != nil {
		return nil, 0, p.named(err, t)
	}
	n := 0
	for i := range c.Groups {
		for _, ch := range c.Groups[i].Removed {
			if ch.Reason == compact.Asked {
				n++
			}
		}
	}
	p.r.Compaction = &Compaction{Refused: c.Refused}
	draft, err := compact.Mask(ctx, t.m, c)
	if err != nil {
		return nil, 0, err
	}
	silent, err := p.write(ctx, draft)
	return silent, n, err
}

// named puts the model's own name in the place of a temporary file's.
func (p *pipeline) named(err error, t *temporary) error {
	var refused *compact.RefusedError
	var filter *compact.FilterError
	switch {
	case errors.As(err, &refused):
		e := *refused
		e.File = p.m.File
		return &e
	case errors.As(err, &filter):
		e := *filter
		e.File = p.m.File
		return &e
	}
	return err
}

// compaction returns what is asked of package compact; with filters those of the plan
// are removed, else they are silent already and go because nothing reads them.
func (p *Plan) compaction(filters bool) compact.Options {
	opt := compact.Options{RoundTo: p.RoundTo}
	if filters && len(p.Filters) > 0 {
		opt.Remove = map[string][]int{}
		for i := range p.Filters {
			opt.Remove[p.Filters[i].Layer] = p.Filters[i].Removed
		}
	}
	return opt
}

// Preview tells what the file would cost that Prune writes by the plan, and which
// operators are in the way, without running anything: recovery changes no number of
// it, but for channels that only recovered weights could make constant. Temporary
// files lie in the system's folder for these.
func Preview(ctx context.Context, m *inspect.Model, plan *Plan) (*compact.Plan, error) {
	dir, err := os.MkdirTemp("", "filterlens-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p := &pipeline{m: m, target: dir + "/model.onnx", plan: plan}
	defer p.close()
	draft, err := Apply(m, plan)
	if err != nil {
		return nil, err
	}
	t, err := p.write(ctx, draft)
	if err != nil {
		return nil, err
	}
	c, err := compact.NewPlan(ctx, t.m, plan.compaction(true))
	if err != nil {
		return nil, p.named(err, t)
	}
	c.Model = m.File
	return c, nil
}

// compact removes what the recovered model has no use for and proves that it answers
// as before.
func (p *pipeline) compact(ctx context.Context, dense *temporary) (*temporary, error) {
	if p.plan.Dense {
		return dense, nil
	}
	p.opt.Probe.Progress("compacting", 0, 1)
	c, err := compact.NewPlan(ctx, dense.m, p.plan.compaction(false))
	var refused *compact.RefusedError
	if errors.As(err, &refused) && len(p.plan.Filters) == 0 {
		p.r.Warnings = append(p.r.Warnings, "no channel was removed: "+refused.Reason)
		return dense, nil
	}
	if err != nil {
		return nil, p.named(err, dense)
	}
	sum := &Compaction{Channels: c.Channels, Removed: c.Removed, Groups: []CompactedGroup{}, Barriers: c.Barriers, Nodes: len(c.DroppedNodes), Tensors: len(c.DroppedTensors)}
	if p.r.Compaction != nil {
		sum.Refused = p.r.Compaction.Refused
	}
	for i := range c.Groups {
		g := &c.Groups[i]
		if len(g.Removed) == 0 {
			continue
		}
		cg := CompactedGroup{Size: g.Size, Kept: g.Size - len(g.Removed), Layers: []string{}}
		for _, mk := range g.Makers {
			cg.Layers = append(cg.Layers, mk.Layer)
		}
		sum.Groups = append(sum.Groups, cg)
	}
	p.r.Compaction = sum
	draft, err := compact.Apply(ctx, dense.m, c)
	if err != nil {
		return nil, p.named(err, dense)
	}
	t, err := p.write(ctx, draft)
	if err != nil {
		return nil, err
	}
	if err := t.m.Check(); err != nil {
		return nil, p.r.fail(ctx, "compacted", err)
	}
	return t, p.checkCompacted(ctx, dense.m, t.m, sum)
}
