package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/report"
)

// A measuring is what the flags of inspect --data ask for.
type measuring struct {
	c        *cli.Context
	k        *console
	out      output
	sel      report.Selection
	opt      probe.Options
	taps     []string
	layers   []string
	filters  []string // of which filters are listed; empty for all
	pictures []*picture
	page     *report.Pictures // of a page, else nil
	reused   bool             // the result is what -o held before
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
	res, err := in.run(c.Context, m)
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
	if c.Bool("dry-run") {
		if name := firstSet(c, "filters", "plot", "explain", "resume", "fresh"); name != "" {
			return nil, usage("%s does not go with --dry-run, which measures nothing", name)
		}
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
	if err := checkExplain(c, in.out); err != nil {
		return nil, err
	}
	if in.pictures, err = picturesOf(c, model); err != nil {
		return nil, err
	}
	if in.taps, err = namesOf(c, "taps"); err != nil {
		return nil, err
	}
	if in.layers, err = namesOf(c, "layers"); err != nil {
		return nil, err
	}
	if in.filters, err = filtersOf(c); err != nil {
		return nil, err
	}
	in.k = newConsole(c)
	if in.opt, err = probeOptions(c, in.k); err != nil {
		return nil, err
	}
	if in.out.format == htmlOut && !c.Bool("dry-run") {
		in.page = report.NewPictures(0)
	}
	return in, statisticsOf(c, in.out.format, in.pictures, &in.opt)
}

// filtersOf returns the layers named with --filters, nil for all.
func filtersOf(c *cli.Context) ([]string, error) {
	if v := c.String("filters"); c.IsSet("filters") && v != allLayers {
		return nameList("--filters", v)
	}
	return nil, nil
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

// run opens data and runtime and measures. Whatever can be refused without running
// is refused before the runtime is loaded.
func (in *measuring) run(ctx context.Context, m *inspect.Model) (*probe.Result, error) {
	set, err := openMeasuredData(in.c, in.k, m, &in.opt)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	p, err := probe.NewPlan(m, set, in.opt)
	if err != nil {
		return nil, err
	}
	if err := resolvePictures(in.pictures, m, plannedTaps(p)); err != nil {
		return nil, err
	}
	in.opt.Each = takeMatrices(in.pictures, in.page)
	in.opt.Known = knownResult(in.c, in.k, in.out)
	if in.opt.State, err = openState(in.c, in.k); err != nil {
		return nil, err
	}
	if in.opt.State != nil {
		defer in.opt.State.Close()
	}
	res, err := measureModel(ctx, in.c, in.k, m, set, in.opt)
	if err != nil {
		sayKept(ctx, in.c, in.k)
		return nil, err
	}
	in.reused = in.opt.Known != nil && res == in.opt.Known
	sayReused(in.k, in.out.path, in.opt.Known, res)
	if in.page != nil && in.opt.Top > 0 {
		if err := in.page.AddSamples(ctx, set.Image); err != nil {
			return nil, err
		}
	}
	return res, nil
}

func plannedTaps(p *probe.Plan) (taps []*probe.Tap) {
	for i := range p.Groups {
		for j := range p.Groups[i].Taps {
			taps = append(taps, &p.Groups[i].Taps[j].Tap)
		}
	}
	return taps
}

// takeMatrices returns what takes the field matrices of layers that are done, nil
// when neither a picture nor a page shows any.
func takeMatrices(pictures []*picture, page *report.Pictures) func(*probe.Layer, probe.Fields) error {
	if !needMatrix(pictures) && page == nil {
		return nil
	}
	return func(l *probe.Layer, f probe.Fields) error {
		keepMatrix(pictures, l, f)
		if page != nil {
			return page.Add(l, f)
		}
		return nil
	}
}

// report writes the result to where -o says, then pictures, and shows the tables
// in any case.
func (in *measuring) report(m *inspect.Model, res *probe.Result) error {
	model := report.NewModel(m, in.sel, nil)
	r := measured{k: in.k, out: in.out, written: in.reused, res: res, model: &model, page: in.page, pictures: in.pictures}
	if in.c.IsSet("filters") {
		var err error
		if r.filters, err = filterDocuments(res, resolve(m, in.filters)); err != nil {
			return err
		}
	}
	if in.c.Bool("explain") {
		r.after = append(r.after, report.FromDefinitions(report.NewDefinitions()))
	}
	return r.write()
}

// What was measured is reported on in these parts.
type measured struct {
	k        *console
	out      output
	written  bool // out holds the result already
	res      *probe.Result
	model    *report.Model // nil when there is no model at hand
	page     *report.Pictures
	pictures []*picture
	filters  []report.Document // that were asked for
	after    []report.Document // what stands below
}

func (r *measured) write() error {
	if !r.written {
		if err := r.writeTo(r.out); err != nil {
			return err
		}
	}
	if err := writePictures(r.k, r.pictures, r.res); err != nil || r.out.path == "" || r.k.quiet {
		return err
	}
	return r.writeTo(output{format: text})
}

// writeTo writes the result; as CSV the table of layers, or of filters if these
// were asked for.
func (r *measured) writeTo(out output) error {
	stats := report.FromStats(r.res)
	switch {
	case out.format == htmlOut:
		return out.write(r.k.stdout, func(w io.Writer) error { return report.WriteStatsHTML(w, r.res, r.model, r.page) })
	case out.format == csvOut && len(r.filters) > 0:
		return out.report(r.k, r.res, r.filters...)
	case out.format == csvOut:
		return out.report(r.k, r.res, stats)
	}
	var docs []report.Document
	if r.model != nil {
		docs = append(docs, report.FromModel(*r.model, report.LayerTable))
	}
	docs = append(append(docs, stats), r.filters...)
	return out.report(r.k, r.res, append(docs, r.after...)...)
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
		l := layerOf(res, name)
		if l == nil {
			return nil, usage("--filters: layer %q was not measured", name)
		}
		add(l)
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

// measureModel opens the runtime and measures.
func measureModel(ctx context.Context, c *cli.Context, k *console, m *inspect.Model, set *dataset.Set, opt probe.Options) (*probe.Result, error) {
	defer denseHeap()()
	var res *probe.Result
	err := withEngine(ctx, c, k, func(eng engine.Engine) (err error) {
		res, err = probe.Measure(ctx, eng, m, set, opt)
		return err
	})
	k.bar.end()
	if err != nil {
		return nil, err
	}
	for _, w := range res.Warnings {
		k.warn("%s", w)
	}
	// An answer of before may have been found under other names.
	res.Model, res.Data.Path = m.File, c.String("data")
	if res != opt.Known {
		res.Warnings = slices.Clone(k.warned)
	}
	return res, nil
}

// denseHeap has Go collect garbage when it is a fifth of what lives, and not as much
// again, until the function that it returns is called: heads and label means are few
// and large, so that collecting costs little, and --memory is about all of them.
// Whoever sets GOGC decides for himself.
func denseHeap() (restore func()) {
	if _, set := os.LookupEnv("GOGC"); set {
		return func() {}
	}
	before := debug.SetGCPercent(20)
	return func() { debug.SetGCPercent(before) }
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
