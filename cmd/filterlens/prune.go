package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/report"
)

func pruneCommand() *cli.Command {
	const group = "Pruning"
	return &cli.Command{
		Name:  "prune",
		Usage: "write a diluted model, verified",
		UsageText: "filterlens prune --afcc MODEL --data DIR -o OUT.onnx [flags]\n" +
			"filterlens prune --afcc MODEL --stats stats.json [--data DIR] -o OUT.onnx [flags]",
		Description: "The file is written beside its target, opened again, checked value by value, run and,\n" +
			"with --data, evaluated on samples that the statistics never saw; only then it takes\n" +
			"its place. The report goes to standard output.",
		Flags: slices.Concat([]cli.Flag{
			&cli.BoolFlag{Name: "afcc", Usage: "keep the connections of filters that share labels", Category: group, DisableDefaultText: true},
			&cli.StringFlag{Name: "stats", Usage: "statistics from inspect --data -o `FILE`.json; else they are measured on --data", Category: group},
			&cli.StringFlag{Name: "target", Value: export.Classifier, Usage: "fc: the classifier and hidden fully connected layers; conv: convolutions; both", Category: group},
			&cli.StringSliceFlag{Name: "layers", Usage: "only layers `A,B`: names, their ends (features.40) or conv5, fc1; or those in @FILE, one a line", Category: group},
			&cli.Float64Flag{Name: "threshold", Usage: "a filter has the labels with fields above this share of its largest", Category: group, DefaultText: "theta of the statistics"},
			&cli.Float64Flag{Name: "dilution", DefaultText: "by --threshold", Usage: "choose each layer's threshold so that at least this share of its connections falls, like 0.9", Category: group},
			&cli.StringFlag{Name: "criterion", Value: export.AFCC, Usage: "afcc, or the controls random and magnitude at the same dilution", Category: group},
			&cli.Float64Flag{Name: "max-drop", DefaultText: "any loss passes", Usage: "write nothing and end with 1 when top-1 accuracy falls by more than `POINTS`", Category: group},
			&cli.BoolFlag{Name: "dry-run", Usage: "print the plan, write nothing", Category: group, DisableDefaultText: true},
		},
			pruneOutputFlags(), shapeFlags(), dataFlags(), noSubset(), measureFlags(), runFlags(runBatch, runBatchDefault)),
		Action: prune,
	}
}

// pruneOutputFlags are the common ones, but -o is the model.
func pruneOutputFlags() []cli.Flag {
	flags := outputFlags("the diluted model, `OUT`.onnx (- is standard output; the report then goes to standard error)")
	format := flags[1].(*cli.StringFlag)
	format.Usage, format.Value, format.DefaultText = "`FORMAT` of the report: text, json, csv or html", text, text
	flags[2].(*cli.BoolFlag).Usage = "no progress and no report"
	return flags
}

func prune(c *cli.Context) error {
	if !c.Bool("afcc") {
		return usage("prune needs a method; write filterlens prune --afcc MODEL --data DIR -o OUT.onnx")
	}
	path, err := oneModel(c)
	if err != nil {
		return err
	}
	if err := checkPruneFlags(c, path); err != nil {
		return err
	}
	layers, err := namesOf(c, "layers")
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
	layers = resolve(m, layers)
	plan := export.PlanOptions{
		Target: c.String("target"), Criterion: c.String("criterion"), Layers: layers,
		Theta: c.Float64("threshold"), Dilution: c.Float64("dilution"), Seed: c.Uint64("seed"),
	}
	res, err := statistics(c, k, m, plan)
	if err != nil {
		return err
	}
	if !c.IsSet("threshold") {
		plan.Theta = res.Theta
	}
	out := output{format: c.String("format")}
	if c.Bool("dry-run") {
		if err := res.CheckModel(c.Context, m.Handle); err != nil {
			return err
		}
		p, err := export.NewPlan(c.Context, m, res, plan)
		if err != nil {
			return err
		}
		return out.report(k, p, report.FromPlan(p))
	}
	r, err := pruneModel(c.Context, c, k, m, res, plan)
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

// checkPruneFlags refuses what can be refused before anything is opened.
func checkPruneFlags(c *cli.Context, model string) error {
	out := c.String("output")
	switch {
	case !c.IsSet("data") && !c.IsSet("stats"):
		return usage("prune needs --stats stats.json (from inspect --data) or --data DIR to measure on")
	case c.IsSet("subset"):
		return refuseSubset(c)
	case c.IsSet("threshold") && c.IsSet("dilution"):
		return usage("--threshold and --dilution contradict each other; --dilution chooses the thresholds")
	case out == "" && !c.Bool("dry-run"):
		return usage("prune needs -o OUT.onnx (or --dry-run to print the plan only)")
	case c.IsSet("max-drop") && !c.IsSet("data"):
		return usage("--max-drop needs --data DIR to measure the accuracy on")
	case c.IsSet("dilution") && !(c.Float64("dilution") > 0 && c.Float64("dilution") < 1):
		return usage("--dilution %v: it is a share above 0 and below 1; 0.9 drops nine of ten connections", c.Float64("dilution"))
	case math.IsNaN(c.Float64("max-drop")):
		return usage("--max-drop: not a number")
	case !slices.Contains([]string{export.Classifier, export.Conv, export.Both}, c.String("target")):
		return usage("--target %q: the targets are fc, conv and both", c.String("target"))
	case !slices.Contains([]string{export.AFCC, export.Random, export.Magnitude}, c.String("criterion")):
		return usage("--criterion %q: the criteria are afcc, random and magnitude", c.String("criterion"))
	}
	if c.IsSet("threshold") {
		if err := afcc.CheckTheta(c.Float64("threshold")); err != nil {
			return fmt.Errorf("--threshold: %w", err)
		}
	}
	if err := checkEngineFlags(c); err != nil {
		return err
	}
	if err := checkFormat(c.String("format")); err != nil {
		return err
	}
	if out == "" || out == "-" || c.Bool("dry-run") {
		return nil
	}
	return checkTarget(out, append(flagFiles(c), model)...)
}

// statistics reads --stats or measures on --data what the plan needs.
func statistics(c *cli.Context, k *console, m *inspect.Model, plan export.PlanOptions) (*probe.Result, error) {
	if !c.IsSet("stats") {
		taps, err := export.Taps(m, plan)
		if err != nil {
			return nil, err
		}
		opt, err := probeOptions(c, k)
		if err != nil {
			return nil, err
		}
		opt.Layers = taps
		set, err := openMeasuredData(c, k, m, &opt)
		if err != nil {
			return nil, err
		}
		defer set.Close()
		if _, err := probe.NewPlan(m, set, opt); err != nil {
			return nil, err
		}
		return measureModel(c.Context, c, k, m, set, opt)
	}
	res, err := readStats(c)
	if err != nil {
		return nil, err
	}
	for _, w := range res.Warnings {
		k.warn("%s: %s", statsName(c), w)
	}
	return res, nil
}

// pruneModel opens data and runtime and prunes.
func pruneModel(ctx context.Context, c *cli.Context, k *console, m *inspect.Model, res *probe.Result, plan export.PlanOptions) (*export.Report, error) {
	opt := export.Options{PlanOptions: plan}
	var err error
	if opt.Probe, err = judging(c, k, m, res); err != nil {
		return nil, err
	}
	if c.IsSet("data") {
		if opt.Set, err = openData(c, k, m); err != nil {
			return nil, err
		}
		defer opt.Set.Close()
		if err := sameSamples(k, c, opt, res); err != nil {
			return nil, err
		}
	}
	if c.IsSet("max-drop") {
		v := c.Float64("max-drop")
		opt.MaxDrop = &v
	}
	out := c.String("output")
	if out == "-" {
		out = ""
	}
	var r *export.Report
	err = withEngine(ctx, c, k, func(eng engine.Engine) (err error) {
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
