package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export"
	"github.com/filterlens/filterlens/export/compact"
	"github.com/filterlens/filterlens/export/gradient"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/report"
)

func pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "write a diluted, recovered and compacted model, verified",
		UsageText: "filterlens prune --afcc MODEL --data DIR -o OUT.onnx [flags]\n" +
			"filterlens prune --afcc MODEL --stats stats.json [--data DIR] -o OUT.onnx [flags]\n" +
			"filterlens prune --afcc MODEL --data DIR --dry-run [-o plan.json] [flags]\n" +
			"filterlens prune --apply plan.json MODEL [--data DIR] -o OUT.onnx [flags]\n" +
			"filterlens prune --compare-criteria MODEL --data DIR [-o report.json] [flags]",
		Description: "Connections and filters fall by the criterion, what is left is refitted, and channels\n" +
			"without use are removed. The file is written beside its target, opened again, checked\n" +
			"value by value, run and, with --data, evaluated on samples that neither the statistics\n" +
			"nor the recovery saw; only then it takes its place. The report goes to standard output.",
		Flags: slices.Concat(chooseFlags(), criteriaFlags(), recoverFlags(),
			pruneOutputFlags(), shapeFlags(), dataFlags(), noSubset(), measureFlags(), runFlags(runBatch, runBatchDefault)),
		Action: prune,
	}
}

// chooseFlags say what falls.
func chooseFlags() []cli.Flag {
	const group = "Pruning"
	return []cli.Flag{
		&cli.BoolFlag{Name: "afcc", Usage: "keep the connections of filters that share labels", Category: group, DisableDefaultText: true},
		&cli.StringFlag{Name: "stats", Usage: "statistics from inspect --data -o `FILE`.json; else they are measured on --data", Category: group},
		&cli.StringFlag{Name: "target", Value: export.Classifier, DefaultText: "fc; both where whole filters go", Usage: "fc: the classifier and hidden fully connected layers; conv: convolutions; both", Category: group},
		&cli.StringSliceFlag{Name: "layers", Usage: "only layers `A,B`: names, their ends (features.40) or conv5, fc1; or those in @FILE, one a line", Category: group},
		&cli.Float64Flag{Name: "threshold", Usage: "a filter has the labels with fields above this share of its largest", Category: group, DefaultText: "theta of the statistics"},
		&cli.Float64Flag{Name: "dilution", DefaultText: "by --threshold", Usage: "choose each layer's threshold so that at least this share of its connections falls, like 0.9", Category: group},
		&cli.StringFlag{Name: "filters-keep", DefaultText: "all", Usage: "remove whole filters, so that this `SHARE` of each group of coupled ones stays, like 0.5; connections fall only with --dilution then", Category: group},
		&cli.IntFlag{Name: "round-to", DefaultText: "8 where whole filters go", Usage: "keep numbers of filters that are multiples of `N`, which runtimes compute fast; 1 for any number", Category: group},
		&cli.StringFlag{Name: "criterion", Value: export.AFCC, Usage: "afcc; weighted, label clusters with weights and activations; or the controls random, magnitude and activation at the same dilution; reconstruction for whole filters, those go that the others can best stand in for", Category: group},
		&cli.Float64Flag{Name: "target-macs", DefaultText: "none", Usage: "search for the filters to remove until at most this `SHARE` of the multiply-accumulates is left, like 0.5", Category: group},
		&cli.Float64Flag{Name: "target-latency", DefaultText: "none", Usage: "the same for the `SHARE` of the time of one sample, as it is measured", Category: group},
		&cli.Float64Flag{Name: "max-drop", DefaultText: "any loss passes", Usage: "write nothing and end with 1 when top-1 accuracy falls by more than `POINTS`; a search removes less instead", Category: group},
		&cli.BoolFlag{Name: "dry-run", Usage: "print the plan, write no model; -o plan.json keeps it for --apply", Category: group, DisableDefaultText: true},
		&cli.StringFlag{Name: "apply", Usage: "do what `plan.json` says, in place of planning", Category: group},
	}
}

// recoverFlags say what is done about the loss.
func recoverFlags() []cli.Flag {
	const group = "Recovery and compaction"
	d := gradient.Defaults()
	return []cli.Flag{
		&cli.StringFlag{Name: "recover", DefaultText: "bias,ridge,head with --data", Usage: "`STEPS` of bias (means of layers), ridge (weights that are left, layer by layer), head (the classifier), finetune (a short training of all weights), or none", Category: group},
		&cli.IntFlag{Name: "finetune-epochs", Value: d.Epochs, Usage: "epochs of finetune at most", Category: group},
		&cli.Float64Flag{Name: "finetune-rate", Value: d.LearningRate, Usage: "its learning rate at the start", Category: group},
		&cli.IntFlag{Name: "finetune-shift", Value: d.Shift, Usage: "move its images by up to so many pixels", Category: group},
		&cli.BoolFlag{Name: "finetune-no-flip", Usage: "do not mirror its images, for labels such as digits and letters", Category: group, DisableDefaultText: true},
		&cli.BoolFlag{Name: "compact", Usage: "remove channels that have no use left (the default)", Category: group, DisableDefaultText: true},
		&cli.BoolFlag{Name: "no-compact", Usage: "keep all channels, so that tensors keep their shapes", Category: group, DisableDefaultText: true},
	}
}

// pruneOutputFlags are the common ones, but -o is the model.
func pruneOutputFlags() []cli.Flag {
	flags := outputFlags("the pruned model, `OUT`.onnx (- is standard output; the report then goes to standard error); with --dry-run the plan")
	format := flags[1].(*cli.StringFlag)
	format.Usage, format.DefaultText = "`FORMAT` of the report: text, json, csv or html", text
	flags[2].(*cli.BoolFlag).Usage = "no progress and no report"
	return flags
}

func prune(c *cli.Context) error {
	if c.Bool("compare-criteria") {
		return compareCriteria(c)
	}
	if !c.Bool("afcc") && !c.IsSet("criterion") && !c.IsSet("apply") {
		return usage("prune needs a method; write filterlens prune --afcc MODEL --data DIR -o OUT.onnx")
	}
	path, err := oneModel(c)
	if err != nil {
		return err
	}
	if err := checkPruneFlags(c, path); err != nil {
		return err
	}
	out := output{format: cmp.Or(strings.ToLower(c.String("format")), text)}
	if c.Bool("dry-run") {
		if out, err = outputOf(c, path); err != nil {
			return err
		}
	}
	layers, err := namesOf(c, "layers")
	if err != nil {
		return err
	}
	opt, err := pruneOptions(c)
	if err != nil {
		return err
	}
	k := newConsole(c)
	defer k.finish()
	m, err := openMeasured(c, path)
	if err != nil {
		return err
	}
	defer m.Close()
	opt.Layers = resolve(m, layers)
	var res *probe.Result
	if opt.Plan == nil {
		if res, err = statistics(c, k, m, &opt); err != nil {
			return err
		}
		if !c.IsSet("threshold") && res != nil {
			opt.Theta = res.Theta
		}
	}
	if c.Bool("dry-run") {
		return dryRun(c, k, m, res, out, opt.PlanOptions)
	}
	r, err := pruneModel(c.Context, c, k, m, res, opt)
	k.bar.end()
	// What was interrupted or could not be done has no report.
	var verdict *export.VerdictError
	if r == nil || k.quiet || err != nil && !errors.As(err, &verdict) {
		return err
	}
	r.Warnings = append(slices.Clone(k.warned), r.Warnings...)
	if c.String("output") == "-" {
		k.stdout = k.stderr
	}
	if rerr := out.report(k, r, report.FromPrune(r)); rerr != nil && err == nil {
		err = rerr
	}
	return err
}

// dryRun writes the plan to where -o says, and shows it.
func dryRun(c *cli.Context, k *console, m *inspect.Model, res *probe.Result, out output, opt export.PlanOptions) error {
	if res != nil {
		if err := res.CheckModel(c.Context, m.Handle); err != nil {
			return err
		}
	}
	p, err := export.NewPlan(c.Context, m, res, opt)
	if err != nil {
		return err
	}
	var cost *compact.Plan
	if !p.Dense {
		// A model that cannot be compacted can be diluted all the same.
		var refused *compact.RefusedError
		if cost, err = export.Preview(c.Context, m, p); errors.As(err, &refused) {
			k.warn("no channel can be removed: %v", refused)
		} else if err != nil {
			return err
		}
	}
	doc := report.FromPlan(p, cost)
	if err := out.report(k, p, doc); err != nil || out.path == "" || k.quiet {
		return err
	}
	return output{format: text}.report(k, p, doc)
}

// wholeFilters tells whether filters go, not connections alone.
func wholeFilters(c *cli.Context) bool {
	return c.IsSet("filters-keep") || searches(c)
}

// searches tells whether the plan is searched for.
func searches(c *cli.Context) bool { return c.IsSet("target-macs") || c.IsSet("target-latency") }

// pruneOptions reads the flags that say what falls and how the loss is made good,
// and the plan of --apply.
func pruneOptions(c *cli.Context) (opt export.Options, err error) {
	opt.PlanOptions = export.PlanOptions{
		Target: c.String("target"), Criterion: c.String("criterion"), Theta: c.Float64("threshold"), Dilution: c.Float64("dilution"), Seed: c.Uint64("seed"),
		FiltersKeep: c.Float64("filters-keep"), RoundTo: c.Int("round-to"), Dense: c.Bool("no-compact"), Recover: recoverSteps(c),
	}
	if wholeFilters(c) && !c.IsSet("target") {
		opt.Target = export.Both
	}
	opt.TargetMACs, opt.TargetLatency = c.Float64("target-macs"), c.Float64("target-latency")
	if c.IsSet("max-drop") {
		v := c.Float64("max-drop")
		opt.MaxDrop = &v
	}
	memory, err := byteSize("--memory", c.String("memory"))
	if err != nil {
		return opt, err
	}
	opt.Refit.Memory = memory
	f := gradient.Defaults()
	f.Epochs, f.LearningRate, f.Shift, f.Flip, f.Memory, f.Seed = c.Int("finetune-epochs"), c.Float64("finetune-rate"), c.Int("finetune-shift"), !c.Bool("finetune-no-flip"), memory, 0
	opt.Finetune = f
	if c.IsSet("apply") {
		if opt.Plan, err = readPlan(c); err != nil {
			return opt, err
		}
		if steps := opt.Plan.Recover; steps != nil && c.IsSet("recover") {
			return opt, usage("%s says how to recover: %s; leave --recover out, or make another plan", c.String("apply"), cmp.Or(strings.Join(steps, ","), export.RecoverNone))
		} else if len(steps) > 0 && !c.IsSet("data") {
			return opt, usage("%s recovers by %s, which needs --data DIR", c.String("apply"), strings.Join(steps, ","))
		}
	}
	steps := opt.Recover
	if opt.Plan != nil && opt.Plan.Recover != nil {
		steps = opt.Plan.Recover
	}
	if name := firstSet(c, "finetune-epochs", "finetune-rate", "finetune-shift", "finetune-no-flip"); name != "" && !slices.Contains(steps, export.RecoverFinetune) {
		return opt, usage("%s is for the step finetune; ask for it, as with --recover bias,ridge,head,finetune", name)
	}
	return opt, nil
}

// recoverSteps reads --recover, nil where it is not given.
func recoverSteps(c *cli.Context) []string {
	if !c.IsSet("recover") {
		return nil
	}
	steps := strings.Split(c.String("recover"), ",")
	for i := range steps {
		steps[i] = strings.TrimSpace(steps[i])
	}
	return steps
}

// readPlan reads --apply, of which - is standard input.
func readPlan(c *cli.Context) (*export.Plan, error) {
	name := c.String("apply")
	if name == "-" {
		p, err := export.ReadPlan(c.App.Reader)
		if err != nil {
			return nil, fmt.Errorf("--apply: standard input: %w", err)
		}
		return p, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--apply: %w", notOpened(name, err))
	}
	defer f.Close()
	p, err := export.ReadPlan(f)
	if err != nil {
		return nil, fmt.Errorf("--apply: %s: %w", name, err)
	}
	return p, nil
}

// checkPruneFlags refuses what can be refused before anything is opened.
func checkPruneFlags(c *cli.Context, model string) error {
	out, dry := c.String("output"), c.Bool("dry-run")
	criterion := c.String("criterion")
	free := wholeFilters(c) && !c.IsSet("dilution") && (criterion == export.Magnitude || criterion == export.Random)
	share := func(name string) bool {
		v := c.Float64(name)
		return !c.IsSet(name) || v > 0 && v < 1
	}
	if err := checkShares(c, "filters-keep"); err != nil {
		return err
	}
	switch {
	case firstSet(c, criteriaOnly()...) != "":
		return usage("%s is for --compare-criteria", firstSet(c, criteriaOnly()...))
	case c.IsSet("apply"):
		if err := checkApplyFlags(c, model); err != nil {
			return err
		}
	case c.Bool("compact") && c.Bool("no-compact"):
		return usage("--compact and --no-compact contradict each other")
	case c.IsSet("data") || c.IsSet("stats") || free:
	default:
		return usage("prune needs --stats stats.json (from inspect --data) or --data DIR to measure on")
	}
	switch {
	case c.IsSet("subset"):
		return refuseSubset(c)
	case c.IsSet("threshold") && c.IsSet("dilution"):
		return usage("--threshold and --dilution contradict each other; --dilution chooses the thresholds")
	case c.IsSet("filters-keep") && searches(c):
		return usage("--filters-keep and %s contradict each other; a search chooses how many filters of each layer stay", firstSet(c, "target-macs", "target-latency"))
	case c.IsSet("threshold") && wholeFilters(c):
		return usage("--threshold chooses connections, %s removes whole filters; connections fall with it by --dilution only", firstSet(c, "filters-keep", "target-macs", "target-latency"))
	case c.Bool("no-compact") && wholeFilters(c):
		return usage("--no-compact and %s contradict each other; filters that go leave the tensors smaller", firstSet(c, "filters-keep", "target-macs", "target-latency"))
	case c.Bool("no-compact") && c.IsSet("round-to"):
		return usage("--no-compact and --round-to contradict each other; all channels stay")
	case out == "" && !dry:
		return usage("prune needs -o OUT.onnx (or --dry-run to print the plan only)")
	case dry && searches(c):
		return usage("--dry-run does not go with %s, which runs the models it tries", firstSet(c, "target-macs", "target-latency"))
	case dry && c.IsSet("max-drop"):
		return usage("--dry-run does not go with --max-drop, for it measures no accuracy")
	case dry && strings.EqualFold(filepath.Ext(out), ".onnx"):
		return usage("--dry-run writes no model; keep the plan with -o plan.json")
	case searches(c) && !c.IsSet("data"):
		return usage("%s needs --data DIR to measure sensitivities on", firstSet(c, "target-macs", "target-latency"))
	case c.IsSet("max-drop") && !c.IsSet("data"):
		return usage("--max-drop needs --data DIR to measure the accuracy on")
	case !share("dilution"):
		return usage("--dilution %v: it is a share above 0 and below 1; 0.9 drops nine of ten connections", c.Float64("dilution"))
	case !share("filters-keep"):
		return usage("--filters-keep %v: it is a share above 0 and below 1; 0.5 keeps every other filter", c.Float64("filters-keep"))
	case !share("target-macs"):
		return usage("--target-macs %v: it is a share above 0 and below 1; 0.5 asks for half", c.Float64("target-macs"))
	case !share("target-latency"):
		return usage("--target-latency %v: it is a share above 0 and below 1; 0.5 asks for half", c.Float64("target-latency"))
	case c.IsSet("round-to") && c.Int("round-to") < 1:
		return usage("--round-to %d: it must be 1 or more", c.Int("round-to"))
	case math.IsNaN(c.Float64("max-drop")):
		return usage("--max-drop: not a number")
	case !slices.Contains([]string{export.Classifier, export.Conv, export.Both}, c.String("target")):
		return usage("--target %q: the targets are fc, conv and both", c.String("target"))
	case !slices.Contains(export.Criteria(), criterion):
		return usage("--criterion %q: the criteria are %s", criterion, listed(export.Criteria()))
	case needsActivity(criterion) && !c.IsSet("data"):
		return usage("--criterion %s needs --data DIR to measure activations on", criterion)
	case criterion == export.Reconstruction && !c.IsSet("data"):
		return usage("--criterion reconstruction needs --data DIR to measure covariances on")
	case criterion == export.Reconstruction && (!wholeFilters(c) || c.IsSet("dilution")):
		return usage("--criterion reconstruction orders whole filters, not connections; use it with --filters-keep, --target-macs or --target-latency, without --dilution")
	case criterion == export.Weighted && wholeFilters(c):
		return usage("--criterion weighted orders connections, not whole filters, which %s removes; use reconstruction, afcc, magnitude, activation or random", firstSet(c, "filters-keep", "target-macs", "target-latency"))
	}
	if err := checkRecoverFlags(c); err != nil {
		return err
	}
	if c.IsSet("threshold") {
		if err := afcc.CheckTheta(c.Float64("threshold")); err != nil {
			return fmt.Errorf("--threshold: %w", err)
		}
	}
	if err := checkEngineFlags(c); err != nil {
		return err
	}
	if f := strings.ToLower(c.String("format")); f != "" {
		if err := checkFormat(f); err != nil {
			return err
		}
	}
	if out == "" || out == "-" || dry {
		return nil
	}
	return checkTarget(out, append(flagFiles(c), model, c.String("apply"))...)
}

// checkRecoverFlags refuses steps that do not exist or go together, and settings that
// do nothing.
func checkRecoverFlags(c *cli.Context) error {
	steps := recoverSteps(c)
	for _, s := range steps {
		if s != export.RecoverNone && !slices.Contains(export.RecoverySteps(), s) {
			return usage("--recover %q: the steps are %s and none", s, strings.Join(export.RecoverySteps(), ", "))
		}
	}
	switch none := slices.Contains(steps, export.RecoverNone); {
	case none && len(steps) > 1:
		return usage("--recover %s: none does not go with other steps", c.String("recover"))
	case len(steps) > 0 && !none && !c.IsSet("data") && !c.Bool("dry-run"):
		return usage("--recover %s needs --data DIR to recover on", c.String("recover"))
	case c.Int("finetune-epochs") < 1:
		return usage("--finetune-epochs %d: it must be 1 or more; leave finetune out of --recover for none", c.Int("finetune-epochs"))
	case !(c.Float64("finetune-rate") > 0) || math.IsInf(c.Float64("finetune-rate"), 0):
		return usage("--finetune-rate %v: it must be a number above 0", c.Float64("finetune-rate"))
	case c.Int("finetune-shift") < 0:
		return usage("--finetune-shift %d: it cannot be negative", c.Int("finetune-shift"))
	}
	return nil
}

// checkApplyFlags refuses what the plan has decided.
func checkApplyFlags(c *cli.Context, model string) error {
	for _, name := range []string{"afcc", "stats", "target", "layers", "threshold", "dilution", "filters-keep", "round-to", "criterion", "target-macs", "target-latency", "compact", "no-compact", "theta"} {
		if c.IsSet(name) {
			return usage("%s does not go with --apply; the plan has decided what falls", dashed(name))
		}
	}
	switch {
	case c.Bool("dry-run"):
		return usage("--dry-run makes a plan, --apply carries one out; give one of them")
	case c.String("apply") == "":
		return usage("--apply needs the name of a file, or - for standard input")
	case c.String("apply") == "-" && model == "-":
		return usage("standard input (-) is given twice; it can be read once")
	}
	return nil
}

// statistics reads --stats or measures on --data what the plan needs; nil where it
// needs none. Activations are measured into opt.
func statistics(c *cli.Context, k *console, m *inspect.Model, opt *export.Options) (res *probe.Result, err error) {
	plan := opt.PlanOptions
	if searches(c) {
		plan.FiltersKeep = c.Float64("target-macs") + c.Float64("target-latency") // which taps are asked for does not depend on how many
	}
	taps, err := export.Taps(m, plan)
	if err != nil {
		return nil, err
	}
	if c.IsSet("stats") {
		if res, err = readStats(c); err != nil {
			return nil, err
		}
		for _, w := range res.Warnings {
			k.warn("%s: %s", statsName(c), w)
		}
	}
	measured := c.IsSet("stats") || wholeFilters(c) && !c.IsSet("dilution") && plan.Criterion != export.AFCC
	active := needsActivity(plan.Criterion)
	// A search measures covariances by itself, on samples that do not judge it.
	covariances := plan.Criterion == export.Reconstruction && !searches(c)
	if measured && !active && !covariances {
		return res, nil
	}
	po, err := probeOptions(c, k)
	if err != nil {
		return nil, err
	}
	po.Layers = taps
	set, err := openMeasuredData(c, k, m, &po)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	if !measured {
		if _, err := probe.NewPlan(m, set, po); err != nil {
			return nil, err
		}
		if res, err = measureModel(c.Context, c, k, m, set, po); err != nil {
			return nil, err
		}
	}
	if active || covariances {
		err = withEngine(c.Context, c, k, func(eng engine.Engine) (err error) {
			if active {
				opt.Activity, err = export.Activity(c.Context, eng, m, set, taps, po)
			} else {
				opt.Moments, err = export.MeasureMoments(c.Context, eng, m, set, taps, po)
			}
			return err
		})
		k.bar.end()
	}
	return res, err
}

// openJudged opens the data that judge, if any, into opt, and says how samples are
// made and split. The set must be closed.
func openJudged(c *cli.Context, k *console, m *inspect.Model, res *probe.Result, opt *export.Options) (err error) {
	switch {
	case res != nil:
		if opt.Probe, err = judging(c, k, m, res); err != nil || !c.IsSet("data") {
			return err
		}
		if opt.Set, err = openData(c, k, m); err != nil {
			return err
		}
		if err := sameSamples(k, c, *opt, res); err != nil {
			opt.Set.Close()
			return err
		}
	case c.IsSet("data"):
		if opt.Probe, err = probeOptions(c, k); err != nil {
			return err
		}
		opt.Set, err = openMeasuredData(c, k, m, &opt.Probe)
	default:
		opt.Probe.Progress = k.bar.progress
	}
	return err
}

// pruneModel opens data and runtime and prunes.
func pruneModel(ctx context.Context, c *cli.Context, k *console, m *inspect.Model, res *probe.Result, opt export.Options) (*export.Report, error) {
	if err := openJudged(c, k, m, res, &opt); err != nil {
		return nil, err
	}
	if opt.Set != nil {
		defer opt.Set.Close()
	}
	out := c.String("output")
	if out == "-" {
		out = ""
	}
	var r *export.Report
	err := withEngine(ctx, c, k, func(eng engine.Engine) (err error) {
		r, err = export.Prune(ctx, eng, m, res, out, k.stdout, opt)
		return err
	})
	return r, err
}

// judging returns how samples are made and split: as for the statistics, unless
// the flags say otherwise.
func judging(c *cli.Context, k *console, m *inspect.Model, res *probe.Result) (opt probe.Options, err error) {
	switch {
	case !c.IsSet("data"):
	case c.IsSet("preprocess") || c.IsSet("mean") || c.IsSet("std") || c.IsSet("resize") || c.IsSet("crop"):
		opt.Preprocess, err = preprocessOf(c, k, m)
	default:
		opt.Preprocess, err = dataset.ParsePreprocess(res.Data.Preprocess)
	}
	if err != nil {
		return opt, err
	}
	// The samples that the statistics left aside, unless the flags say otherwise.
	opt.Split = res.Data.Split.Options(res.Seed)
	asked := splitOptions(c)
	if c.IsSet("seed") {
		opt.Split.Seed = asked.Seed
	}
	if c.IsSet("limit") {
		opt.Split.Limit = asked.Limit
	}
	if c.IsSet("per-label") {
		opt.Split.PerLabel = asked.PerLabel
	}
	if c.IsSet("balanced") {
		opt.Split.Balanced = asked.Balanced
	}
	opt.Batch = c.Int("batch")
	opt.Progress = k.bar.progress
	return opt, nil
}

// sameSamples warns when the samples that judge are not those that the
// statistics left aside for it: some may have been seen by the statistics.
func sameSamples(k *console, c *cli.Context, opt export.Options, res *probe.Result) error {
	_, _, eval, err := opt.Set.Split(opt.Probe.Split)
	if err != nil {
		return err
	}
	if eval.Hash != res.Data.Eval.SHA256 {
		k.warn("the evaluation samples are not those of the statistics, which may have seen some of them; give the same data, --seed, --limit, --per-label and --balanced")
	}
	if !slices.Equal(opt.Set.Labels(), res.Data.Labels) {
		return errors.New(c.String("data") + ": its labels are not those of the statistics")
	}
	return nil
}
