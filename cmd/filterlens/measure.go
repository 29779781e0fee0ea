package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/report"
)

// A measuring is what the flags of inspect --data ask for.
type measuring struct {
	c       *cli.Context
	k       *console
	out     output
	sel     report.Selection
	opt     probe.Options
	taps    []string
	layers  []string
	filters []string // of which filters are listed; empty for all
}

// measure is inspect --data.
func measure(c *cli.Context) error {
	path, err := oneModel(c)
	if err != nil {
		return err
	}
	in, err := newMeasuring(c, path)
	if err != nil {
		return err
	}
	defer in.k.finish()
	m, err := openMeasured(c, path)
	if err != nil {
		return err
	}
	defer m.Close()
	in.opt.Taps, in.opt.Layers = resolveTaps(m, in.taps), resolve(m, in.layers)
	if c.Bool("dry-run") {
		return in.plan(m)
	}
	res, err := measureModel(c.Context, c, in.k, m, in.opt)
	if err != nil {
		return err
	}
	return in.report(m, res)
}

// newMeasuring reads the flags and refuses what can be refused before anything is
// opened.
func newMeasuring(c *cli.Context, model string) (in *measuring, err error) {
	for _, name := range []string{"check", "ignore", "full"} {
		if c.IsSet(name) {
			return nil, usage("%s does not go with --data; check the model without it", dashed(name))
		}
	}
	if c.Bool("weights") && c.Bool("no-weights") {
		return nil, usage("--weights and --no-weights contradict each other")
	}
	if c.Bool("dry-run") && c.IsSet("filters") {
		return nil, usage("--filters does not go with --dry-run, which measures nothing")
	}
	in = &measuring{c: c}
	if in.sel, err = selectionOf(c); err != nil {
		return nil, err
	}
	if err := checkEngineFlags(c); err != nil {
		return nil, err
	}
	if in.out, err = outputOf(c, model); err != nil {
		return nil, err
	}
	if in.taps, err = namesOf(c, "taps"); err != nil {
		return nil, err
	}
	if in.layers, err = namesOf(c, "layers"); err != nil {
		return nil, err
	}
	if v := c.String("filters"); c.IsSet("filters") && v != allLayers {
		if in.filters, err = nameList("--filters", v); err != nil {
			return nil, err
		}
	}
	in.k = newConsole(c)
	if in.opt, err = probeOptions(c, in.k); err != nil {
		return nil, err
	}
	return in, statisticsOf(c, in.out.format, &in.opt)
}

// plan reports on what would be done.
func (in *measuring) plan(m *inspect.Model) error {
	set, err := openMeasuredData(in.c, in.k, m, &in.opt)
	if err != nil {
		return err
	}
	defer set.Close()
	p, err := probe.NewPlan(m, set, in.opt)
	if err != nil {
		return err
	}
	return in.out.report(in.k, p, report.FromMeasuring(p))
}

// report writes the result to where -o says, and shows the tables in any case.
func (in *measuring) report(m *inspect.Model, res *probe.Result) error {
	docs := []report.Document{report.FromModel(report.NewModel(m, in.sel, nil), report.LayerTable), report.FromStats(res)}
	if in.c.IsSet("filters") {
		filters, err := filterDocuments(res, resolve(m, in.filters))
		if err != nil {
			return err
		}
		docs = append(docs, filters...)
	}
	if err := in.out.report(in.k, res, csvDocs(docs, in.out.format)...); err != nil || in.out.path == "" || in.k.quiet {
		return err
	}
	return output{format: text}.report(in.k, res, docs...)
}

// csvDocs leaves the table of statistics, or of filters, as CSV.
func csvDocs(docs []report.Document, format string) []report.Document {
	if format != csvOut {
		return docs
	}
	if len(docs) > 2 {
		return docs[2:]
	}
	return docs[1:2]
}

func filterDocuments(res *probe.Result, wanted []string) ([]report.Document, error) {
	var docs []report.Document
	add := func(l *probe.Layer) {
		docs = append(docs, report.FromFilters(l, res.Data.Labels, res.Theta))
	}
	if len(wanted) == 0 {
		for i := range res.Layers {
			add(&res.Layers[i])
		}
	}
	for _, name := range wanted {
		i := slices.IndexFunc(res.Layers, func(l probe.Layer) bool { return l.Tensor == name || slices.Contains(l.Layers, name) })
		if i < 0 {
			return nil, usage("--filters: layer %q was not measured", name)
		}
		add(&res.Layers[i])
	}
	return docs, nil
}

// openMeasured opens a model to run it. Its batch stays open.
func openMeasured(c *cli.Context, path string) (*inspect.Model, error) {
	opt, err := shapeOptions(c)
	if err != nil {
		return nil, err
	}
	m, err := inspectOne(c.Context, c, path, opt)
	if errors.Is(err, fs.ErrNotExist) && c.IsSet("filters") && c.String("filters") == allLayers {
		return nil, fmt.Errorf("%w (a layer is named as --filters=LAYER)", err)
	}
	return m, err
}

// openMeasuredData opens the data set, which must be closed, and finds out how
// images are preprocessed, after the model has been refused if it has to be.
func openMeasuredData(c *cli.Context, k *console, m *inspect.Model, opt *probe.Options) (*dataset.Set, error) {
	survey, err := probe.NewSurvey(m)
	if err != nil {
		return nil, err
	}
	set, err := openData(c, k, m)
	if err != nil {
		return nil, err
	}
	if n := len(set.Labels()); n != survey.Labels {
		err = &probe.LabelMismatchError{Data: c.String("data"), Labels: n, Model: survey.Labels}
	} else {
		opt.Preprocess, err = preprocessOf(c, k, m)
	}
	if err != nil {
		set.Close()
		return nil, err
	}
	return set, nil
}

// measureModel opens data and runtime and measures. Whatever can be refused
// without running is refused before the runtime is loaded.
func measureModel(ctx context.Context, c *cli.Context, k *console, m *inspect.Model, opt probe.Options) (*probe.Result, error) {
	set, err := openMeasuredData(c, k, m, &opt)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	if _, err := probe.NewPlan(m, set, opt); err != nil {
		return nil, err
	}
	eng, err := openEngine(ctx, c, k)
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	res, err := probe.Measure(ctx, eng, m, set, opt)
	k.bar.end()
	if err != nil {
		return nil, err
	}
	res.Data.Path = c.String("data")
	for _, w := range res.Warnings {
		k.warn("%s", w)
	}
	res.Warnings = slices.Clone(k.warned)
	return res, nil
}

func probeOptions(c *cli.Context, k *console) (opt probe.Options, err error) {
	if opt.Memory, err = byteSize("--memory", c.String("memory")); err != nil {
		return opt, err
	}
	if c.IsSet("max-side") && c.Int("max-side") < 1 {
		return opt, usage("--max-side %d: it must be 1 or more; leave it out to keep maps as they are", c.Int("max-side"))
	}
	opt.MaxSide = c.Int("max-side")
	opt.Theta = c.Float64("theta")
	if err := afcc.CheckTheta(opt.Theta); err != nil {
		return opt, err
	}
	opt.Recipe = recipeOf(c)
	opt.Split = splitOptions(c)
	opt.Batch = c.Int("batch")
	opt.Progress = k.bar.progress
	return opt, nil
}
