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
	"github.com/filterlens/filterlens/inspect/engine/duel"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/report"
)

// randomBatch is how many random samples run at once unless --batch says.
const randomBatch = 10

// bothFlags are those of --engine both.
func bothFlags() []cli.Flag {
	t := duel.DefaultTolerance()
	return []cli.Flag{
		&cli.IntFlag{Name: "random", Usage: "no data: run `N` samples of random numbers", Category: groupBoth, DefaultText: "the samples of --data"},
		&cli.Float64Flag{Name: "rtol", Value: t.Rel, Usage: "numbers may differ by atol + rtol * the largest magnitude of their sample, or tensor", Category: groupBoth},
		&cli.Float64Flag{Name: "atol", Value: t.Abs, Usage: "absolute tolerance", Category: groupBoth},
		&cli.StringFlag{Name: "taps", Value: probe.TapsLayer, Usage: "tensors that are listed: `TAPS` is layer, or all for every node; the node at which the engines part is found in either case", Category: groupBoth},
	}
}

// checkBothFlags refuses what does not go with --engine both, or not without it.
func checkBothFlags(c *cli.Context) error {
	if c.String("engine") != bothEngines {
		for _, f := range bothFlags() {
			if name := f.Names()[0]; c.IsSet(name) {
				return usage("%s needs --engine both", dashed(name))
			}
		}
		return nil
	}
	switch {
	case c.NArg() != 1:
		return usage("--engine both takes one model, %d are given: %q", c.NArg(), c.Args().Slice())
	case c.IsSet("random") && c.Int("random") < 1:
		return usage("--random %d: it must be 1 or more", c.Int("random"))
	case !c.IsSet("random") && !c.IsSet("data"):
		return usage("--engine both needs samples: --data DIR, or --random N for N of random numbers")
	case c.String("taps") != probe.TapsLayer && c.String("taps") != probe.TapsAll:
		return usage("--taps %q: with --engine both it is layer or all", c.String("taps"))
	}
	if c.IsSet("random") {
		for _, f := range slices.Concat(dataFlags(), []cli.Flag{&cli.StringFlag{Name: "split"}, &cli.BoolFlag{Name: "subset"}}) {
			if name := f.Names()[0]; name != "seed" && c.IsSet(name) {
				return usage("%s does not go with --random, which needs no data", dashed(name))
			}
		}
	}
	if err := tolerance(c).Check(); err != nil {
		return usage("--rtol and --atol: %v", err)
	}
	return nil
}

func tolerance(c *cli.Context) duel.Tolerance {
	return duel.Tolerance{Rel: c.Float64("rtol"), Abs: c.Float64("atol")}
}

// compareEngines is eval --engine both.
func compareEngines(c *cli.Context, k *console, out output, m *inspect.Model) error {
	d := &report.Duel{Schema: report.DuelSchema, Model: m.File, Seed: c.Uint64("seed"), RTol: c.Float64("rtol"), ATol: c.Float64("atol")}
	var set *dataset.Set
	if !c.IsSet("random") {
		var err error
		if set, err = openData(c, k, m); err != nil {
			return err
		}
		defer set.Close()
	}
	err := fight(c.Context, c, k, m, set, d)
	k.bar.end()
	if err != nil {
		return err
	}
	d.Warnings = k.warned
	if !k.quiet || out.path != "" {
		if err := out.report(k, d, report.FromDuel(d)); err != nil {
			return err
		}
	}
	if !d.Agree {
		return errSaid
	}
	return nil
}

// fight opens both engines, neither of which takes the other's place, and fills d.
func fight(ctx context.Context, c *cli.Context, k *console, m *inspect.Model, set *dataset.Set, d *report.Duel) (err error) {
	var samples *judged
	if set != nil {
		if samples, err = judgedSamples(c, k, set, m); err != nil {
			return err
		}
	}
	a, _, err := openRuntime(ctx, c, k)
	if err != nil {
		return err
	}
	defer a.Close()
	b := gorgonia.Open(gorgonia.Options{Threads: c.Int("threads")})
	defer b.Close()
	engines := []engine.Engine{a, b}
	for _, e := range engines {
		d.Engines = append(d.Engines, report.DuelEngine{Engine: e.Name(), EngineVersion: e.Version(), Provider: e.Provider()})
	}
	r := round{c: c, k: k, m: m, d: d}
	if set != nil {
		err = r.data(ctx, engines, set, samples)
	} else {
		err = r.random(ctx, engines)
	}
	if err != nil {
		return err
	}
	for _, o := range r.outputs {
		if o.Unanswered > 0 {
			k.warn("output %q is no number (NaN) for %d of %d samples, on both engines", o.Name, o.Unanswered, o.Samples)
		}
	}
	trail, err := duel.Walk(ctx, a, b, m, r.in, duel.Options{Tolerance: tolerance(c), All: c.String("taps") == probe.TapsAll, Progress: k.bar.progress})
	if err != nil {
		return err
	}
	d.Add(r.outputs, trail, r.sample, r.names)
	return nil
}

// round is what one run of all samples leaves.
type round struct {
	c       *cli.Context
	k       *console
	m       *inspect.Model
	d       *report.Duel
	outputs []duel.Output
	// in is the input of the sample that differs most, or of the first.
	in     map[string]*engine.Tensor
	sample int
	names  report.Samples
}

func (r *round) random(ctx context.Context, engines []engine.Engine) (err error) {
	opt := duel.RandomOptions{Samples: r.c.Int("random"), Batch: r.c.Int("batch"), Seed: r.c.Uint64("seed"), Tolerance: tolerance(r.c), Progress: r.k.bar.progress}
	if opt.Batch == 0 {
		opt.Batch = randomBatch
	}
	var worst duel.Sample
	r.outputs, worst, err = duel.Random(ctx, engines[0], engines[1], r.m, opt)
	r.sample, r.in = worst.Number, worst.In
	return err
}

func (r *round) data(ctx context.Context, engines []engine.Engine, set *dataset.Set, s *judged) error {
	output := duel.Output{Name: r.m.Outputs[0].Name, Outputs: duel.Outputs{Tolerance: tolerance(r.c)}}
	rows := 1
	if dims := r.m.Inputs[0].Shape.Dims; len(dims) > 0 && dims[0].Value > 0 {
		rows = int(dims[0].Value)
	}
	var first *engine.Tensor
	watch := func(i int, run probe.Run) error {
		n := len(run.Index)
		out := engine.NewFloat32(run.Out, int64(n), int64(len(run.Out)/n))
		if i == 0 {
			first = out
			return nil
		}
		before := output.Relative
		if err := output.Add(run.Index, first, out, "float"); err != nil {
			return err
		}
		at := slices.Index(run.Index, output.Worst())
		if r.in == nil && at < 0 {
			at = 0
		}
		if at >= 0 && (r.in == nil || output.Relative != before) {
			r.sample = run.Index[at]
			r.in = map[string]*engine.Tensor{r.m.Inputs[0].Name: duel.Row(run.In, at, rows)}
		}
		return nil
	}
	opt := probe.Options{Preprocess: s.pre, Split: splitOptions(r.c), Batch: r.c.Int("batch"), Progress: r.k.bar.progress}
	evals, err := probe.EvaluateEach(ctx, engines, []*inspect.Model{r.m, r.m}, set, s.index, opt, watch)
	var mismatch *probe.LabelMismatchError
	if errors.As(err, &mismatch) {
		mismatch.Data = r.c.String("data")
	}
	if err != nil {
		return err
	}
	labels := set.Labels()
	r.outputs = []duel.Output{output}
	r.names = report.Samples{
		ID:     set.ID,
		Label:  func(i int) string { return labels[set.Label(i)] },
		Output: func(i int) string { return labels[i] },
	}
	for i := range r.d.Engines {
		r.d.Engines[i].Evaluation = &evals[i]
	}
	r.d.Data = &report.DuelData{Path: r.c.String("data"), Format: set.Format(), Labels: len(labels), Split: r.c.String("split"), SHA256: s.hash, Preprocess: s.pre.String()}
	r.k.warnSkipped(set.Skipped())
	r.d.Skipped = set.Skipped()
	return nil
}
