package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/delta"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/report"
)

// manyFlags choose what of many models is listed.
func manyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "sort", DefaultText: "top1 with --data, else order", Usage: "several models: the best first by `COLUMN`, the worst with - before it: " + strings.Join(report.ModelColumns(false), ", ") + "; with --data " + strings.Join(dataColumns(), ", "), Category: groupList},
	}
}

// dataColumns are the columns that there are with --data only.
func dataColumns() []string {
	return slices.DeleteFunc(report.ModelColumns(true), func(s string) bool { return slices.Contains(report.ModelColumns(false), s) })
}

// manyModels is compare of three and more models: a table of them.
type manyModels struct {
	c      *cli.Context
	k      *console
	r      *report.ComparedModels
	models []*inspect.Model // as many as r.Models, nil where one could not be read
	// failed are the errors of rows.
	failed []error
	// assumed are the files that do not record their preprocessing.
	assumed []string
}

// compareMany is compare of three and more models, or of those in folders: a row for
// each. A model that cannot be read, or compared, has a row that says why and does not
// keep the others from being shown.
func compareMany(c *cli.Context, paths []string) error {
	paths, _, err := modelPaths(paths)
	if err != nil {
		return err
	}
	column, err := checkMany(c, paths)
	if err != nil {
		return err
	}
	out, err := outputOf(c, paths...)
	if err != nil {
		return err
	}
	k := newConsole(c)
	defer k.finish()
	m := &manyModels{c: c, k: k, r: &report.ComparedModels{Schema: report.ComparedModelsSchema, Models: []report.ComparedModel{}, Definitions: report.ModelsDefinitions(c.IsSet("data"))}}
	defer m.close()
	if err := m.open(paths); err != nil {
		return err
	}
	if c.IsSet("data") {
		err = m.run(c.Context)
	} else {
		err = m.differences(c.Context)
	}
	k.bar.end()
	if err == nil {
		err = c.Context.Err()
	}
	if err != nil {
		return err
	}
	if m.r.Data == nil && c.IsSet("data") { // none of them runs
		column, m.r.Definitions = "order", report.ModelsDefinitions(false)
	}
	m.r.Arrange(column, c.Int("top"))
	m.r.Warnings = k.warned
	if !k.quiet || out.path != "" {
		if err := out.report(k, m.r, report.FromComparedModels(m.r, out.format == htmlOut)); err != nil {
			return err
		}
	}
	return m.verdict()
}

// checkMany refuses what can be refused before anything is opened, and returns the
// column that models are sorted by.
func checkMany(c *cli.Context, paths []string) (column string, err error) {
	data := c.IsSet("data")
	if slices.Contains(paths, "-") {
		return "", usage("compare of several models needs files, not standard input")
	}
	for _, p := range paths {
		if isJSON(p) {
			return "", usage("compare of several models takes models, not saved reports: %s; compare two at a time", p)
		}
	}
	if name := firstSet(c, "only", "ignore", "strict", "all", "taps", "layers", "filters", "cka-samples", "theta", "epochs", "resume", "similarity"); name != "" {
		return "", usage("%s is for two models; %d are given", name, len(paths))
	}
	if name := dataOnlyFlag(c); !data && name != "" {
		return "", usage("%s needs --data DIR", name)
	}
	if data && firstSet(c, "rtol", "atol") != "" {
		return "", usage("%s does nothing for several models with --data, whose weights are not compared", firstSet(c, "rtol", "atol"))
	}
	if c.IsSet("top") && c.Int("top") < 1 {
		return "", usage("--top %d: it must be 1 or more", c.Int("top"))
	}
	if data {
		if err := checkEngineFlags(c); err != nil {
			return "", err
		}
	}
	column = "order"
	if data {
		column = "top1"
	}
	if c.IsSet("sort") {
		column = c.String("sort")
		if known := report.ModelColumns(data); !slices.Contains(known, strings.TrimPrefix(column, "-")) {
			if slices.Contains(report.ModelColumns(!data), strings.TrimPrefix(column, "-")) {
				return "", usage("--sort %s: there is no such column %s --data", column, map[bool]string{true: "with", false: "without"}[data])
			}
			return "", usage("--sort %q: the columns are %s, with a - before them the worst first", column, strings.Join(known, ", "))
		}
	}
	return column, nil
}

func (m *manyModels) close() {
	for _, x := range m.models {
		if x != nil {
			x.Close()
		}
	}
}

// fail notes why a model cannot be compared.
func (m *manyModels) fail(i int, err error) {
	m.r.Models[i].Error = withoutName(m.r.Models[i].File, err)
	m.failed = append(m.failed, err)
}

func (m *manyModels) open(paths []string) error {
	opt, err := shapeOptions(m.c)
	if err != nil {
		return err
	}
	for i, path := range paths {
		x, err := openModel(m.c.Context, m.c, path, opt)
		var misuse *usageError
		if errors.As(err, &misuse) || m.c.Context.Err() != nil {
			return err
		}
		m.models = append(m.models, x)
		m.r.Models = append(m.r.Models, report.NewComparedModel(path, x))
		if err != nil {
			m.fail(i, err)
		}
	}
	return nil
}

// differences compares each model with the first that could be read.
func (m *manyModels) differences(ctx context.Context) error {
	first := slices.IndexFunc(m.models, func(x *inspect.Model) bool { return x != nil })
	for i, x := range m.models {
		if x == nil || i == first {
			continue
		}
		m.k.bar.progress("comparing models", i, len(m.models))
		d, err := delta.Compare(ctx, m.models[first], x, delta.Options{RTol: m.c.Float64("rtol"), ATol: m.c.Float64("atol"), SkipFilters: true})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			m.fail(i, err)
			continue
		}
		m.r.Models[i].Difference = report.NewModelDifference(d)
	}
	return nil
}

// run evaluates all models that answer with the labels of the data.
func (m *manyModels) run(ctx context.Context) error {
	surveys := make([]*probe.Survey, len(m.models))
	var first *inspect.Model
	for i, x := range m.models {
		if x == nil {
			continue
		}
		var err error
		if surveys[i], err = probe.NewSurvey(x); err != nil {
			m.fail(i, err)
			continue
		}
		if first == nil {
			first = x
		}
	}
	if first == nil {
		return nil
	}
	set, err := openData(m.c, m.k, first)
	if err != nil {
		return err
	}
	defer set.Close()
	index, hash, err := samplesOf(m.c, set, splitOptions(m.c))
	if err != nil {
		return err
	}
	var run []int
	opts := make([]probe.Options, len(m.models))
	for i, s := range surveys {
		if s == nil {
			continue
		}
		if opts[i], err = m.options(set, first, m.models[i], s); err != nil {
			var misuse *usageError
			if errors.As(err, &misuse) {
				return err
			}
			m.fail(i, err)
			continue
		}
		run = append(run, i)
	}
	if n := len(m.assumed); n > 0 {
		more := ""
		if n > 3 {
			more = fmt.Sprintf(" and %d more", n-3)
		}
		m.k.warn("preprocessing \"unit\" (values/255) was assumed for models that do not record their own: %s%s; name it with --preprocess imagenet, signed or unit, or --mean and --std", strings.Join(m.assumed[:min(n, 3)], ", "), more)
	}
	m.r.Data = &report.ModelsData{Path: m.c.String("data"), Format: set.Format(), Labels: set.Labels(), Split: m.c.String("split"), SHA256: hash, Seed: m.c.Uint64("seed")}
	err = withEngine(ctx, m.c, m.k, func(eng engine.Engine) error {
		m.r.Data.Engine, m.r.Data.EngineVersion, m.r.Data.Provider = eng.Name(), eng.Version(), eng.Provider()
		return m.evaluate(ctx, eng, set, index, run, opts)
	})
	m.k.warnSkipped(set.Skipped())
	m.r.Data.Skipped = set.Skipped()
	return err
}

// options returns how a model is run, or why it cannot be.
func (m *manyModels) options(set *dataset.Set, first, x *inspect.Model, s *probe.Survey) (opt probe.Options, err error) {
	if n := len(set.Labels()); n != s.Labels {
		return opt, &probe.LabelMismatchError{Data: m.c.String("data"), Labels: n, Model: s.Labels}
	}
	if err := sameRecordedLabels(m.c, first, x); err != nil {
		return opt, err
	}
	opt = probe.Options{Split: splitOptions(m.c), Batch: m.c.Int("batch"), Progress: m.k.bar.progress}
	if metadata(x, preprocessKey) == "" && firstSet(m.c, "preprocess", "mean", "std", "resize", "crop") == "" {
		// The zero value is "unit", of which one warning speaks for all.
		m.assumed = append(m.assumed, x.File)
	} else if opt.Preprocess, err = preprocessOf(m.c, m.k, x); err != nil {
		return opt, err
	}
	shape := make([]int64, len(s.Input.Shape.Dims))
	for i, d := range s.Input.Shape.Dims {
		shape[i] = d.Value
	}
	if _, err := opt.Preprocess.Transform(shape); err != nil {
		return opt, fmt.Errorf("input %q of shape %s: %w", s.Input.Name, s.Input.Shape, err)
	}
	return opt, nil
}

// evaluate runs models, and again without one that the engine cannot load or run.
func (m *manyModels) evaluate(ctx context.Context, eng engine.Engine, set *dataset.Set, index, run []int, opts []probe.Options) error {
	for len(run) > 0 {
		var models []*inspect.Model
		var own []probe.Options
		var preprocess []string
		for _, i := range run {
			models, own, preprocess = append(models, m.models[i]), append(own, opts[i]), append(preprocess, opts[i].Preprocess.String())
		}
		many, err := probe.EvaluateMany(ctx, eng, models, set, index, own)
		if err == nil {
			m.r.Data.Samples = many.Evaluations[0].Samples
			m.r.SetAnswers(many, preprocess, run)
			m.warn(many, preprocess, run)
			return nil
		}
		var fault *engine.Error
		at := -1
		if ctx.Err() == nil && errors.As(err, &fault) {
			at = slices.IndexFunc(run, func(i int) bool { return m.models[i].File == fault.Model })
		}
		if at < 0 {
			return err
		}
		m.k.note("%v; the others are run without it", err)
		m.fail(run[at], err)
		run = slices.Delete(slices.Clone(run), at, at+1)
	}
	return nil
}

func (m *manyModels) warn(many *probe.ManyAnswers, preprocess []string, run []int) {
	for i, e := range many.Evaluations {
		file := m.models[run[i]].File
		if e.Unanswered > 0 {
			m.k.warn("the outputs of %s for %d of %d samples are not numbers (NaN); these count as wrong", file, e.Unanswered, e.Samples)
		}
		if probe.AtChance(e.Top1, e.Chance, e.Samples) {
			m.k.warn("the accuracy of %s, %s, is at chance level: check the preprocessing (now %s) and the order of the labels", file, report.Share(e.Top1).Text, preprocess[i])
		}
	}
}

// A partlyError says that some of many models are not compared. It is a failure of
// the engine when all of these are.
type partlyError struct {
	text   string
	engine *engine.Error
}

func (e *partlyError) Error() string { return e.text }

func (e *partlyError) Unwrap() error {
	if e.engine == nil {
		return nil
	}
	return e.engine
}

// verdict is the error of the rows that say why a model is not compared.
func (m *manyModels) verdict() error {
	if len(m.failed) == 0 {
		return nil
	}
	p := &partlyError{text: fmt.Sprintf("%d of %s could not be compared", len(m.failed), plural(len(m.models), "model"))}
	for _, err := range m.failed {
		if !errors.As(err, &p.engine) {
			p.engine = nil
			break
		}
	}
	return p
}
