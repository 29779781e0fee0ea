package main

import (
	"context"
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/report"
)

func evalCommand() *cli.Command {
	return &cli.Command{
		Name:      "eval",
		Usage:     "accuracy and latency of models, the way the other verbs measure them",
		UsageText: "filterlens eval MODEL... --data DIR [flags]\nfilterlens eval MODEL --engine both (--data DIR | --random N) [flags]",
		Description: "All models see every batch, one after the other, and the same samples: by default the\n" +
			"evaluation split on which inspect and prune judge, too.\n\n" +
			"--engine both runs one model on ONNX Runtime and on the pure-Go engine and tells how their outputs differ, " +
			"which answers are others, and the first node at which the engines part. It ends with 0 when they agree " +
			"within the tolerance, with 1 when they part.",
		Flags: slices.Concat(
			outputFlags("write to `FILE` (- is standard output)"), shapeFlags(), dataFlags(),
			sampleFlags(), runFlagsWith(engineFlag(", both compares the two"), runBatch, runBatchDefault), bothFlags()),
		Action: evaluate,
	}
}

// sampleFlags say which samples of a data set a model answers.
func sampleFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "subset", Usage: "the data has samples of some labels only; the others are those of --labels or those that the model records", Category: groupData, DisableDefaultText: true},
		&cli.StringFlag{Name: "split", Value: "eval", Usage: "samples: eval, stats, fit, all, or test or train as shipped", Category: groupData},
	}
}

func evaluate(c *cli.Context) error {
	paths := c.Args().Slice()
	switch {
	case len(paths) == 0:
		return usage("eval: no model given; write filterlens eval MODEL.onnx --data DIR")
	case !c.IsSet("data") && c.String("engine") != bothEngines:
		return usage("eval: no data given; write --data DIR")
	case slices.Contains(paths, "-"):
		return usage("eval needs models in files, not standard input")
	}
	if err := checkEngineFlags(c); err != nil {
		return err
	}
	if err := checkBothFlags(c); err != nil {
		return err
	}
	out, err := outputOf(c, paths...)
	if err != nil {
		return err
	}
	shapes, err := shapeOptions(c)
	if err != nil {
		return err
	}
	k := newConsole(c)
	defer k.finish()
	var models []*inspect.Model
	for _, path := range paths {
		m, err := openModel(c.Context, c, path, shapes)
		if err != nil {
			return err
		}
		defer m.Close()
		models = append(models, m)
	}
	if c.String("engine") == bothEngines {
		return compareEngines(c, k, out, models[0])
	}
	e, err := evaluateModels(c.Context, c, k, models)
	if err != nil {
		return err
	}
	k.bar.end()
	return out.report(k, e, report.FromEvaluations(e))
}

func evaluateModels(ctx context.Context, c *cli.Context, k *console, models []*inspect.Model) (*report.Evaluations, error) {
	set, err := openData(c, k, models[0])
	if err != nil {
		return nil, err
	}
	defer set.Close()
	s, err := judgedSamples(c, k, set, models[0])
	if err != nil {
		return nil, err
	}
	pre, index, hash := s.pre, s.index, s.hash
	for _, m := range models[1:] {
		if a, b := metadata(models[0], preprocessKey), metadata(m, preprocessKey); a != b && !c.IsSet("preprocess") {
			k.warn("all models get the preprocessing of %s, %s; %s records %q", models[0].File, pre, m.File, b)
		}
	}
	opt := probe.Options{Preprocess: pre, Split: splitOptions(c), Batch: c.Int("batch"), Progress: k.bar.progress}
	e := &report.Evaluations{
		Schema: report.EvaluationSchema, Data: c.String("data"), Format: set.Format(), Labels: len(set.Labels()),
		Split: c.String("split"), SHA256: hash, Preprocess: pre.String(), Seed: c.Uint64("seed"),
	}
	var evals []probe.Evaluation
	err = withEngine(ctx, c, k, func(eng engine.Engine) (err error) {
		e.Engine, e.EngineVersion, e.Provider = eng.Name(), eng.Version(), eng.Provider()
		evals, err = probe.Evaluate(ctx, eng, models, set, index, opt)
		return err
	})
	k.bar.end()
	var mismatch *probe.LabelMismatchError
	if errors.As(err, &mismatch) {
		mismatch.Data = c.String("data")
	}
	if err != nil {
		return nil, err
	}
	for i, v := range evals {
		e.Models = append(e.Models, report.EvaluatedModel{File: models[i].File, Evaluation: v})
		if v.Unanswered > 0 {
			k.warn("the outputs of %s for %d of %d samples are not numbers (NaN); these count as wrong", models[i].File, v.Unanswered, v.Samples)
		}
		if probe.AtChance(v.Top1, v.Chance, v.Samples) {
			k.warn("the accuracy of %s, %s, is at chance level: check the preprocessing (now %s) and the order of the labels", models[i].File, report.Share(v.Top1).Text, e.Preprocess)
		}
	}
	k.warnSkipped(set.Skipped())
	e.Skipped = set.Skipped()
	e.Warnings = k.warned
	return e, nil
}

// judged are samples to evaluate models on, and how they are made.
type judged struct {
	pre   dataset.Preprocess
	index []int
	hash  string // of a split
}

// judgedSamples reads the flags that say which samples of a data set are run, and
// how they are preprocessed for a model.
func judgedSamples(c *cli.Context, k *console, set *dataset.Set, m *inspect.Model) (*judged, error) {
	pre, err := preprocessOf(c, k, m)
	if err != nil {
		return nil, err
	}
	index, hash, err := samplesOf(c, set, splitOptions(c))
	if err != nil {
		return nil, err
	}
	return &judged{pre, index, hash}, nil
}

// samplesOf returns the samples named by --split, of the splits that opt asks for, and
// the hash of a split.
func samplesOf(c *cli.Context, set *dataset.Set, opt dataset.SplitOptions) (index []int, hash string, err error) {
	name := c.String("split")
	switch name {
	case "eval", "stats", "fit":
		fit, stats, eval, err := set.Split(opt)
		if err != nil {
			return nil, "", err
		}
		s := map[string]dataset.Split{"fit": fit, "stats": stats, "eval": eval}[name]
		return s.Index, s.Hash, nil
	case "all", "test", "train":
	default:
		return nil, "", usage("--split %q: the splits are eval, stats, fit, all, test and train", name)
	}
	if c.IsSet("limit") || c.IsSet("per-label") || c.IsSet("balanced") {
		return nil, "", usage("--limit, --per-label and --balanced need one of the splits eval, stats and fit")
	}
	part := map[string]dataset.Part{"test": dataset.PartTest, "train": dataset.PartTrain}[name]
	for i := range set.Len() {
		if name == "all" || set.Part(i) == part {
			index = append(index, i)
		}
	}
	if len(index) == 0 {
		return nil, "", errors.New(c.String("data") + " has no " + name + " part; use --split eval or all")
	}
	return index, "", nil
}
