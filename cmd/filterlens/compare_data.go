package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/afcc/probe/likeness"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/delta"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/report"
)

// compareDataFlags say on which samples models are compared, and how what their
// filters recognise is measured.
func compareDataFlags() []cli.Flag {
	return slices.Concat(dataFlags(), sampleFlags(), []cli.Flag{
		&cli.IntFlag{Name: "cka-samples", Value: likeness.DefaultSamples, Usage: "compare activations on `N` of the samples, as many of each label as can be", Category: groupMeasure},
		&cli.StringSliceFlag{Name: "taps", Usage: "compare `TAPS`: layer, stage (the last of each), all (inside layers, too), or names of layers or tensors of both, A,B or @FILE (default: layer)", Category: groupMeasure},
		&cli.StringSliceFlag{Name: "layers", Usage: "of these only layers `A,B` of the first model and their counterparts: names, their ends (features.40) or conv5, fc1; or those in @FILE, one a line", Category: groupMeasure},
	}, measureFlags(), []cli.Flag{
		&cli.StringFlag{Name: "resume", Usage: "keep in the folder `DIR` what has been found so far, of both models, and go on from there when it was interrupted", Category: groupWork},
	}, runFlags(runBatch, runBatchDefault))
}

// dataOnlyFlag returns the first flag given that does nothing without --data, "" when
// there is none.
func dataOnlyFlag(c *cli.Context) string {
	for _, f := range compareDataFlags() {
		if name := f.Names()[0]; name != "data" && c.IsSet(name) {
			return dashed(name)
		}
	}
	return ""
}

// checkCompareData refuses flags that contradict each other before anything is
// opened.
func checkCompareData(c *cli.Context, want func(aspect string) bool) error {
	switch {
	case c.String("data") == "":
		return usage("--data is empty; name the folder or file of the samples")
	case c.Int("cka-samples") < 2:
		return usage("--cka-samples %d: it takes two samples at least to compare", c.Int("cka-samples"))
	case c.IsSet("subset") && want(report.AspectStatistics):
		return usage("--subset: what filters recognise is measured on samples of every label; leave it out with --only %s,%s", report.AspectAnswers, report.AspectActivations)
	case !want(report.AspectStatistics) && firstSet(c, "theta", "epochs", "resume") != "":
		return usage("%s is for %s, which are left out", firstSet(c, "theta", "epochs", "resume"), report.AspectStatistics)
	}
	return checkEngineFlags(c)
}

// A dataComparison is what the flags of compare --data ask for.
type dataComparison struct {
	c      *cli.Context
	k      *console
	r      *report.Compared
	models [2]*inspect.Model // nil for a side that is a saved measurement, unless its model was found
	saved  [2]*probe.Result
	set    *dataset.Set
	opt    [2]probe.Options
	// index are the samples on which answers are compared.
	index []int
	// taps of both, those of the second being counterparts where layers were chosen;
	// pairs is nil when a side is no model.
	taps  [2][]*probe.Tap
	pairs []probe.Pair
	// chosen says that layers were named, unpaired lists those that are not measured
	// because they have no counterpart.
	chosen   bool
	unpaired []probe.Skip
	// Which parts are wanted and possible.
	answers, activations, statistics bool
}

// compareOnData runs models on the samples of --data and fills r with what was
// wanted: Data, Answers, Likeness, Statistics, cheapest first. A side for which saved
// has a measurement is not measured again; its model may be nil. r.Delta, if any, must
// still be whole, for it says which layers and filters are which; it is made when it
// is missing, and not kept. What can be refused without running is refused before the
// runtime is loaded.
func compareOnData(ctx context.Context, c *cli.Context, k *console, r *report.Compared, a, b *inspect.Model, saved [2]*probe.Result, want func(aspect string) bool) error {
	d := &dataComparison{c: c, k: k, r: r, models: [2]*inspect.Model{a, b}, saved: saved,
		answers: want(report.AspectAnswers), activations: want(report.AspectActivations), statistics: want(report.AspectStatistics)}
	if err := checkCompareData(c, want); err != nil {
		return err
	}
	if err := d.savedSides(); err != nil {
		return err
	}
	defer d.findModels(ctx)()
	if err := d.open(); err != nil {
		return err
	}
	defer d.set.Close()
	if err := d.pair(ctx); err != nil {
		return err
	}
	if d.statistics {
		for i, m := range d.models {
			if d.saved[i] == nil {
				if _, err := probe.NewPlan(m, d.set, d.opt[i]); err != nil {
					return err
				}
			}
		}
	}
	err := withEngine(ctx, c, k, func(eng engine.Engine) error { return d.run(ctx, eng) })
	k.bar.end()
	var mismatch *probe.LabelMismatchError
	if errors.As(err, &mismatch) {
		mismatch.Data = c.String("data")
	}
	if err != nil {
		if d.statistics {
			sayKept(ctx, c, k)
		}
		return err
	}
	k.warnSkipped(d.set.Skipped())
	r.Data.Skipped = d.set.Skipped()
	return nil
}

// name is what messages call a side.
func (d *dataComparison) name(i int) string {
	if d.saved[i] == nil {
		return d.models[i].File
	}
	return [2]string{d.r.A.File, d.r.B.File}[i]
}

// savedSides leaves out what takes two models where one is a saved measurement,
// unless it was asked for.
func (d *dataComparison) savedSides() error {
	for i, m := range d.models {
		if m != nil {
			continue
		}
		for aspect, wanted := range map[string]*bool{report.AspectAnswers: &d.answers, report.AspectActivations: &d.activations} {
			if *wanted && slices.Contains(d.r.Only, aspect) {
				return usage("--only %s: %s is a saved measurement; give the model, which is run", aspect, d.name(i))
			}
			*wanted = false
		}
		if !d.statistics {
			return usage("%s is a saved measurement: only %s can be compared with it", d.name(i), report.AspectStatistics)
		}
	}
	return nil
}

// findModels opens the model that a saved measurement is of where it still lies at its
// place, byte for byte: it tells which filters have become which. It returns what
// closes it.
func (d *dataComparison) findModels(ctx context.Context) (close func()) {
	close = func() {}
	for i, res := range d.saved {
		if res == nil || d.models[i] != nil || d.models[1-i] == nil {
			continue
		}
		m, err := openModel(ctx, d.c, res.Model, inspect.Options{})
		if err == nil {
			if err = res.CheckModel(ctx, m.Handle); err != nil {
				m.Close()
			}
		}
		if err != nil {
			d.k.note("filters are paired by their places, for the model that %s was measured on is not there: %v", d.name(i), err)
			continue
		}
		d.models[i], close = m, func() { m.Close() }
	}
	return close
}

// open reads the flags, opens the data and checks that both sides answer with its
// labels.
func (d *dataComparison) open() error {
	if err := d.options(); err != nil {
		return err
	}
	if d.saved[0] != nil && d.saved[1] != nil {
		return usage("both measurements are saved; leave --data out to compare them")
	}
	var labels [2]int
	for i, m := range d.models {
		if d.saved[i] != nil {
			labels[i] = len(d.saved[i].Data.Labels)
			continue
		}
		survey, err := probe.NewSurvey(m)
		if err != nil {
			return err
		}
		labels[i] = survey.Labels
	}
	if labels[0] != labels[1] {
		return fmt.Errorf("%s has %d outputs, %s has %d: they do not answer with the same labels", d.name(0), labels[0], d.name(1), labels[1])
	}
	if err := sameRecordedLabels(d.c, d.models[0], d.models[1]); err != nil {
		return err
	}
	first := d.models[0]
	if first == nil {
		first = d.models[1]
	}
	set, err := openData(d.c, d.k, first)
	if err != nil {
		return err
	}
	if err := d.samples(set, labels[0]); err != nil {
		set.Close()
		return err
	}
	d.set = set
	return nil
}

// sameRecordedLabels refuses two models that record the same labels in another order:
// what one answers is not what the other means.
func sameRecordedLabels(c *cli.Context, a, b *inspect.Model) error {
	if a == nil || b == nil || c.IsSet("labels") {
		return nil
	}
	x, y := nonEmptyLines(metadata(a, labelsKey)), nonEmptyLines(metadata(b, labelsKey))
	if len(x) == 0 || len(x) != len(y) || !sameNames(x, y) {
		return nil
	}
	for i := range x {
		if x[i] != y[i] {
			return fmt.Errorf("label %d is %q in %s and %q in %s: they record their labels in another order; where that is wrong say the right one with --labels FILE", i, x[i], a.File, y[i], b.File)
		}
	}
	return nil
}

// options reads how to measure: from the flags, and from a saved measurement what it
// was made with.
func (d *dataComparison) options() error {
	opt, err := probeOptions(d.c, d.k)
	if err != nil {
		return err
	}
	for i, res := range d.saved {
		if res == nil {
			continue
		}
		for flag, differs := range map[string]bool{
			"theta": opt.Theta != res.Theta, "seed": opt.Split.Seed != res.Seed, "limit": opt.Split.Limit != res.Data.Split.Limit,
			"per-label": opt.Split.PerLabel != res.Data.Split.PerLabel, "balanced": opt.Split.Balanced != res.Data.Split.Balanced,
		} {
			if d.c.IsSet(flag) && differs {
				return usage("%s: %s was measured otherwise; leave the flag out, or give the model to measure it anew", dashed(flag), d.name(i))
			}
		}
		if name := firstSet(d.c, "epochs", "head-rate", "head-decay", "head-batch", "momentum", "l2", "head-norm"); name != "" {
			return usage("%s: heads are trained as those of %s were; leave the flag out, or give the model to measure it anew", name, d.name(i))
		}
		opt.Theta, opt.Recipe, opt.Split = res.Theta, res.Recipe, res.Data.Split.Options(res.Seed)
	}
	for i := range d.opt {
		d.opt[i] = opt
		side := "AB"[i : i+1]
		d.opt[i].Progress = func(stage string, done, total int) { d.k.bar.progress(stage+" of "+side, done, total) }
	}
	return nil
}

// samples finds out which are run and how they are preprocessed for each side.
func (d *dataComparison) samples(set *dataset.Set, labels int) (err error) {
	if n := len(set.Labels()); n != labels {
		return &probe.LabelMismatchError{Data: d.c.String("data"), Labels: n, Model: labels}
	}
	for i, m := range d.models {
		if m != nil && d.saved[i] == nil {
			d.opt[i].Preprocess, err = preprocessOf(d.c, d.k, m)
		} else {
			d.opt[i].Preprocess, err = dataset.ParsePreprocess(d.saved[i].Data.Preprocess)
		}
		if err != nil {
			return err
		}
	}
	index, hash, err := samplesOf(d.c, set, d.opt[0].Split)
	if err != nil {
		return err
	}
	d.index = index
	for i, res := range d.saved {
		if res != nil {
			if err := d.sameSplits(set, i, res); err != nil {
				return err
			}
		}
	}
	x, y := d.opt[0].Preprocess.String(), d.opt[1].Preprocess.String()
	if x != y {
		d.k.warn("each model gets its own preprocessing: %s %s, %s %s", d.name(0), x, d.name(1), y)
	}
	d.r.Data = &report.ComparedData{Path: d.c.String("data"), Format: set.Format(), Labels: set.Labels(), Split: d.c.String("split"), SHA256: hash,
		PreprocessA: x, PreprocessB: y, Seed: d.opt[0].Split.Seed}
	return nil
}

// sameSplits refuses data that a saved measurement was not made on.
func (d *dataComparison) sameSplits(set *dataset.Set, i int, res *probe.Result) error {
	if !slices.Equal(set.Labels(), res.Data.Labels) {
		return fmt.Errorf("%s: its labels are not those of %s", d.c.String("data"), d.name(i))
	}
	fit, stats, eval, err := set.Split(d.opt[i].Split)
	if err != nil {
		return err
	}
	for _, s := range []struct {
		split dataset.Split
		had   probe.Part
	}{{fit, res.Data.Fit}, {stats, res.Data.Stats}, {eval, res.Data.Eval}} {
		if s.split.Hash != s.had.SHA256 {
			return fmt.Errorf("%s was measured on other samples: those of the %s split have sha256 %.12s, here %.12s; give the same data", d.name(i), s.split.Name, s.had.SHA256, s.split.Hash)
		}
	}
	return nil
}

// pair chooses taps and finds out which are which.
func (d *dataComparison) pair(ctx context.Context) error {
	if !d.activations && !d.statistics {
		return nil
	}
	d.chosen = d.c.IsSet("layers")
	words, err := namesOf(d.c, "taps")
	if err != nil {
		return err
	}
	layers, err := namesOf(d.c, "layers")
	if err != nil {
		return err
	}
	for i, m := range d.models {
		if m == nil {
			continue
		}
		survey, err := probe.NewSurvey(m)
		if err != nil {
			return err
		}
		d.opt[i].Taps = resolveTaps(m, words)
		if d.taps[i], err = survey.Choose(d.opt[i].Taps); err != nil {
			return fmt.Errorf("%s: %w", m.File, err)
		}
	}
	a, b := d.models[0], d.models[1]
	if a == nil || b == nil {
		d.oneModel(layers)
		return nil
	}
	for i, res := range d.saved {
		if res != nil { // what was measured of it, and no more
			d.taps[i] = slices.DeleteFunc(slices.Clone(d.taps[i]), func(t *probe.Tap) bool { return res.Layer(t.Tensor) == nil })
		}
	}
	whole := d.r.Delta
	if whole == nil {
		if whole, err = delta.Compare(ctx, a, b, delta.Options{}); err != nil {
			return err
		}
	}
	d.pairs = probe.PairTaps(whole, a, b, d.taps[0], d.taps[1])
	if d.pairs == nil {
		d.pairs = []probe.Pair{}
	}
	switch {
	case d.chosen:
		return d.restrict(a, layers)
	case d.saved[0] != nil || d.saved[1] != nil:
		d.keep(d.pairs)
	default:
		d.measurePaired()
	}
	return nil
}

// measurePaired has layers without a counterpart left out of the statistics, in which
// nothing could stand beside them. Where no layer has one the last of each model is
// measured, for the accuracy of the model itself.
func (d *dataComparison) measurePaired() {
	for i, taps := range d.taps {
		for _, t := range taps {
			paired := slices.ContainsFunc(d.pairs, func(p probe.Pair) bool { return [2]*probe.Tap{p.A, p.B}[i] == t })
			if paired || len(d.pairs) == 0 && t == taps[len(taps)-1] {
				d.opt[i].Layers = append(d.opt[i].Layers, t.Tensor)
				continue
			}
			d.unpaired = append(d.unpaired, probe.Skip{Layer: t.Name(), Reason: [2]string{"the second model has no counterpart", "the first model has no counterpart"}[i]})
		}
	}
}

// restrict leaves the named layers of the first model, and their counterparts.
func (d *dataComparison) restrict(a *inspect.Model, layers []string) error {
	var pairs []probe.Pair
	for _, name := range resolve(a, layers) {
		i := slices.IndexFunc(d.taps[0], func(t *probe.Tap) bool { return t.Tensor == name || slices.Contains(t.Layers, name) })
		if i < 0 {
			known := make([]string, len(d.taps[0]))
			for i, t := range d.taps[0] {
				known[i] = t.Name()
			}
			return fmt.Errorf("%s: %w", a.File, &probe.UnknownLayerError{Layer: name, Known: known})
		}
		t := d.taps[0][i]
		at := slices.IndexFunc(d.pairs, func(p probe.Pair) bool { return p.A == t })
		if at < 0 {
			return usage("--layers: layer %q has no counterpart in %s", name, d.name(1))
		}
		if !slices.ContainsFunc(pairs, func(p probe.Pair) bool { return p.A == t }) {
			pairs = append(pairs, d.pairs[at])
		}
	}
	d.keep(pairs)
	return nil
}

// keep leaves some of the pairs.
func (d *dataComparison) keep(pairs []probe.Pair) {
	d.pairs, d.taps = pairs, [2][]*probe.Tap{}
	for _, p := range pairs {
		for i, t := range []*probe.Tap{p.A, p.B} {
			d.taps[i] = append(d.taps[i], t)
			d.opt[i].Layers = append(d.opt[i].Layers, t.Tensor)
		}
	}
}

// oneModel measures of the only model what the saved measurement has; taps are paired
// by the names of their tensors.
func (d *dataComparison) oneModel(layers []string) {
	for i, m := range d.models {
		if m == nil {
			continue
		}
		for _, t := range d.taps[i] {
			if res := d.saved[1-i]; res.Layer(t.Tensor) != nil {
				d.opt[i].Layers = append(d.opt[i].Layers, t.Tensor)
			}
		}
		if len(layers) > 0 {
			d.opt[i].Layers = resolve(m, layers)
		}
	}
}

func (d *dataComparison) run(ctx context.Context, eng engine.Engine) error {
	d.r.Data.Engine, d.r.Data.EngineVersion, d.r.Data.Provider = eng.Name(), eng.Version(), eng.Provider()
	a, b := d.models[0], d.models[1]
	var err error
	if d.answers {
		x, y := d.opt[0], d.opt[1]
		x.Progress, y.Progress = d.k.bar.progress, d.k.bar.progress
		if d.r.Answers, err = probe.CompareAnswers(ctx, eng, a, b, d.set, d.index, x, y); err != nil {
			return err
		}
		d.warnAnswers()
	}
	if d.activations {
		opt := likeness.Options{
			PreprocessA: d.opt[0].Preprocess, PreprocessB: d.opt[1].Preprocess, Samples: d.c.Int("cka-samples"), Seed: d.opt[0].Split.Seed,
			Batch: d.opt[0].Batch, Memory: d.opt[0].Memory, Progress: d.k.bar.progress,
		}
		if d.r.Likeness, err = likeness.Measure(ctx, eng, a, b, d.taps[0], d.taps[1], d.pairs, d.set, d.index, opt); err != nil {
			return err
		}
	}
	if d.statistics {
		return d.measure(ctx, eng)
	}
	return nil
}

// warnAnswers says what of the answers must not be missed, unless measuring the
// statistics is going to.
func (d *dataComparison) warnAnswers() {
	for i, e := range []*probe.Evaluation{&d.r.Answers.A, &d.r.Answers.B} {
		if d.statistics && d.saved[i] == nil && d.c.String("split") == "eval" {
			continue
		}
		if e.Unanswered > 0 {
			d.k.warn("the outputs of %s for %d of %d samples are not numbers (NaN); these count as wrong", d.name(i), e.Unanswered, e.Samples)
		}
		if probe.AtChance(e.Top1, e.Chance, e.Samples) {
			d.k.warn("the accuracy of %s, %s, is at chance level: check the preprocessing (now %s) and the order of the labels", d.name(i), report.Share(e.Top1).Text, d.opt[i].Preprocess)
		}
	}
}

// measure fills r.Statistics.
func (d *dataComparison) measure(ctx context.Context, eng engine.Engine) error {
	st, err := openState(d.c, d.k)
	if err != nil {
		return err
	}
	if st != nil {
		defer st.Close()
	}
	defer denseHeap()()
	res := d.saved
	for i, m := range d.models {
		if res[i] != nil {
			continue
		}
		d.opt[i].State = st
		if res[i], err = probe.Measure(ctx, eng, m, d.set, d.opt[i]); err != nil {
			return err
		}
		res[i].Model = m.File
	}
	for i, r := range res {
		for _, w := range r.Warnings {
			if slices.Contains(res[1-i].Warnings, w) {
				d.k.warn("%s", w)
			} else {
				d.k.warn("%s: %s", d.name(i), w)
			}
		}
	}
	if d.chosen {
		for i := range d.saved {
			if d.saved[i] != nil {
				res[i] = d.onlyChosen(res[i], res[1-i], i)
			}
		}
	}
	if d.r.Statistics, err = report.NewStatisticsDelta(res[0], res[1], d.pairs); err != nil {
		return err
	}
	d.r.Statistics.Unpaired = append(d.r.Statistics.Unpaired, d.unpaired...)
	return nil
}

// onlyChosen leaves the layers of a saved measurement that were named, by now those
// that the other was measured at.
func (d *dataComparison) onlyChosen(res, other *probe.Result, i int) *probe.Result {
	left := *res
	left.Layers = slices.DeleteFunc(slices.Clone(res.Layers), func(l probe.Layer) bool {
		if d.pairs == nil {
			return other.Layer(l.Tensor) == nil
		}
		return !slices.Contains(d.opt[i].Layers, l.Tensor)
	})
	return &left
}
