package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
	"github.com/filterlens/filterlens/inspect/report"
)

func compareCommand() *cli.Command {
	return &cli.Command{
		Name:  "compare",
		Usage: "what changed from one model to another: structure, weights, filters; with --data, answers",
		UsageText: "filterlens compare A B [flags]\nfilterlens compare A B --data DIR [flags]\n" +
			"filterlens compare MODEL MODEL MODEL... [--data DIR] [flags]",
		Description: "A and B are models, or what inspect MODEL -o FILE.json or inspect MODEL --data DIR -o FILE.json has saved of them; one may be - for standard input. " +
			"Operators are matched by what they do, whatever exporters call them and however they write them; + was added, - removed, ~ changed, > moved, and = is the same (--all). " +
			"With --data both are run: answers, activations layer by layer, what filters recognise. Three models and more, or a folder of them, are a table to choose from.\n\n" +
			"WORD of --only and --ignore is an aspect (" + strings.Join(report.Aspects(), ", ") + ") or a name of operators, layers or tensors in which * stands for any characters. " +
			"The verdict depends on interface, structure, weights, filters and answers; on others when --only names them or --strict is given.\n\n" +
			"Ends with 0 when nothing that counts differs, with 1 when something does, with 2 when they cannot be compared. " +
			"A table has no verdict: it ends with 0, with 2 when it has a model that cannot be compared.",
		Flags:  distinctFlags(outputFlags("write to `FILE` (- is standard output)"), compareFlags(), compareListFlags(), manyFlags(), compareDataFlags()),
		Action: compare,
	}
}

func compareFlags() []cli.Flag {
	return []cli.Flag{
		&cli.Float64Flag{Name: "rtol", Usage: "relative tolerance: numbers may differ by atol + rtol * |a|", Category: groupModel},
		&cli.Float64Flag{Name: "atol", Usage: "absolute tolerance", Category: groupModel},
		&cli.StringSliceFlag{Name: "only", Usage: "compare only `WORD,...`: aspects and names", Category: groupModel},
		&cli.StringSliceFlag{Name: "ignore", Usage: "leave out `WORD,...`: aspects and names", Category: groupModel},
		&cli.BoolFlag{Name: "strict", Usage: "everything that is shown counts: names, metadata, ways of writing, types too", Category: groupModel, DisableDefaultText: true},
		&cli.Float64Flag{Name: "similarity", Value: 0.5, Usage: "least cosine, above 0 and at most 1, at which a filter is taken for one of the first model", Category: groupModel},
		&cli.BoolFlag{Name: "ignore-metadata", Hidden: true},
	}
}

func compareListFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "all", Usage: "list what is the same, too", Category: groupList, DisableDefaultText: true},
		&cli.IntFlag{Name: "top", DefaultText: "all operators, 20 samples and labels", Usage: "list the `N` operators that differ most, N samples and labels; of several models the first N", Category: groupList},
		&cli.StringFlag{Name: "filters", Usage: "list every filter that is not kept; with --data the labels that filters have gained and lost, --filters=`LAYER,...` chooses whose", Category: groupList},
	}
}

// distinctFlags joins lists of flags; of those of one name the first stays.
func distinctFlags(lists ...[]cli.Flag) (flags []cli.Flag) {
	seen := map[string]bool{}
	for _, f := range slices.Concat(lists...) {
		if name := f.Names()[0]; !seen[name] {
			seen[name] = true
			flags = append(flags, f)
		}
	}
	return flags
}

func compare(c *cli.Context) error {
	paths := c.Args().Slice()
	switch {
	case c.IsSet("ignore-metadata"):
		return usage("--ignore-metadata is now --ignore metadata,names; neither counts unless --only or --strict says so")
	case len(paths) > 2 || slices.ContainsFunc(paths, isFolder):
		return compareMany(c, paths)
	case len(paths) < 2:
		return usage("compare takes two models, %d given; write filterlens compare A.onnx B.onnx", len(paths))
	case paths[0] == "-" && paths[1] == "-":
		return usage("only one of the models can come from standard input")
	}
	p := &pairComparison{c: c, data: c.IsSet("data")}
	if err := p.flags(); err != nil {
		return err
	}
	out, err := outputOf(c, paths...)
	if err != nil {
		return err
	}
	p.k = newConsole(c)
	defer p.k.finish()
	for i, path := range paths {
		if err := p.open(i, path); err != nil {
			return err
		}
		defer p.sides[i].close()
	}
	a, b := &p.sides[0], &p.sides[1]
	if a.stats != nil && b.stats != nil {
		return compareMeasured(c, p.k, out, paths, a.stats, b.stats)
	}
	if err := p.compare(c.Context); err != nil {
		return err
	}
	p.r.Warnings = append(p.r.Warnings, p.k.warned...)
	p.r.Judge(p.choice)
	if p.measured {
		p.r.Verdict = "the model that was measured, byte for byte"
	}
	if !p.k.quiet || out.path != "" {
		if err := p.write(out); err != nil {
			return err
		}
	}
	if !p.r.Same {
		return errSaid
	}
	return nil
}

// shownProgress is how many numbers take long enough to be told how far they are.
const shownProgress = 1 << 23

// A compareSide is one of the two: a model that is open, or a saved report.
type compareSide struct {
	path  string
	model *inspect.Model // open, or as its report describes it
	saved bool           // model is a description
	stats *probe.Result
}

func (s *compareSide) close() {
	if s.model != nil && !s.saved {
		s.model.Close()
	}
}

// open tells whether the side is a model that can be read and run.
func (s *compareSide) open() bool { return s.model != nil && !s.saved }

// A pairComparison is what the flags of compare ask for of two sides.
type pairComparison struct {
	c      *cli.Context
	k      *console
	data   bool
	choice report.CompareChoice
	view   report.CompareView
	opt    delta.Options
	sides  [2]compareSide
	r      *report.Compared
	// measured says that one side is the measurement of the other, and nothing was run.
	measured bool
}

// flags reads the flags and refuses what contradicts or does nothing.
func (p *pairComparison) flags() (err error) {
	c := p.c
	p.opt = delta.Options{RTol: c.Float64("rtol"), ATol: c.Float64("atol"), Similarity: c.Float64("similarity")}
	for _, t := range []float64{p.opt.RTol, p.opt.ATol} {
		if !(t >= 0) || math.IsInf(t, 0) {
			return usage("--rtol and --atol: a tolerance cannot be %v", t)
		}
	}
	if s := p.opt.Similarity; !(s > 0 && s <= 1) {
		return usage("--similarity %v: it must be above 0 and at most 1", s)
	}
	if c.IsSet("top") && c.Int("top") < 1 {
		return usage("--top %d: it must be 1 or more", c.Int("top"))
	}
	if c.IsSet("sort") {
		return usage("--sort is for three models and more")
	}
	p.view = report.CompareView{All: c.Bool("all"), Top: c.Int("top"), Filters: c.IsSet("filters")}
	layers, err := nameList("--filters", c.String("filters"))
	if err != nil {
		return err
	}
	if len(layers) > 0 && c.String("filters") != allLayers {
		p.view.FilterLayers = layers
	}
	p.choice = report.CompareChoice{Strict: c.Bool("strict"), Data: p.data}
	if p.choice.Only, err = namesOf(c, "only"); err != nil {
		return err
	}
	if p.choice.Ignore, err = namesOf(c, "ignore"); err != nil {
		return err
	}
	for _, w := range p.choice.Only {
		switch {
		case slices.Contains(p.choice.Ignore, w):
			return usage("--only and --ignore both name %s", w)
		case !p.data && slices.Contains(report.DataAspects(), w):
			return usage("--only %s needs --data DIR", w)
		}
	}
	if !slices.ContainsFunc(report.Aspects(), p.choice.Wants) {
		return usage("--only and --ignore leave nothing to compare")
	}
	if !p.data {
		if name := dataOnlyFlag(c); name != "" && name != "--filters" {
			return usage("%s needs --data DIR", name)
		}
		return nil
	}
	return checkCompareData(c, p.choice.Wants)
}

// open opens one side.
func (p *pairComparison) open(i int, path string) error {
	s := &p.sides[i]
	s.path = path
	in, name, isReport, err := p.peek(path)
	if err != nil {
		return err
	}
	if !isReport {
		s.model, err = openModel(p.c.Context, p.c, path, inspect.Options{})
		return err
	}
	defer in.Close()
	saved, err := report.ReadSaved(in, name)
	if err != nil {
		return err
	}
	s.stats = saved.Stats
	if saved.Model != nil {
		s.model, s.saved = saved.Model.Model, true
	}
	return nil
}

// peek opens what is JSON by its name or its first byte, with which no ONNX file
// begins. Of standard input what was read is kept for the model.
func (p *pairComparison) peek(path string) (in io.ReadCloser, name string, isReport bool, err error) {
	if path == "" {
		return nil, "", false, usage("the name of a model is empty")
	}
	if path == "-" {
		r := bufio.NewReader(p.c.App.Reader)
		p.c.App.Reader = r
		first, _ := r.Peek(1)
		return io.NopCloser(r), "standard input", isJSONByte(first), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, "", false, notOpened(path, err)
	}
	first := make([]byte, 1)
	n, _ := f.ReadAt(first, 0)
	if isJSON(path) || isJSONByte(first[:n]) {
		return f, path, true, nil
	}
	return nil, "", false, f.Close()
}

func isJSON(path string) bool { return strings.EqualFold(filepath.Ext(path), ".json") }

func isJSONByte(b []byte) bool { return len(b) > 0 && (b[0] == '{' || b[0] == '[') }

// compare fills p.r.
func (p *pairComparison) compare(ctx context.Context) error {
	a, b := &p.sides[0], &p.sides[1]
	if err := p.checkSides(ctx); err != nil {
		return err
	}
	var known []*inspect.Model
	for _, s := range p.sides {
		if s.model != nil {
			known = append(known, s.model)
		}
	}
	if w := p.choice.Unmatched(known...); w != "" {
		return usage("%q is neither an aspect nor the name of an operator, layer or tensor of the models; the aspects are %s", w, strings.Join(report.Aspects(), ", "))
	}
	for _, l := range p.view.FilterLayers {
		if (report.CompareChoice{Only: []string{l}}).Unmatched(known...) != "" {
			return usage("--filters: no layer of the models is called %q", l)
		}
	}
	p.r = report.NewCompared(a.describe(), b.describe(), p.choice)
	switch {
	case a.open() && b.open():
		if !p.needsDelta() {
			break
		}
		opt := p.opt
		opt.Progress = func(done, total int64) {
			if total > shownProgress {
				p.k.bar.progress("comparing weights", int(done), int(total))
			}
		}
		d, err := delta.Compare(ctx, a.model, b.model, opt)
		p.k.bar.end()
		if err != nil {
			return err
		}
		p.r.Delta = d
	case a.model != nil && b.model != nil:
		p.r.SetDescription(report.CompareDescriptions(a.model, b.model), p.choice)
	}
	if p.data {
		var models [2]*inspect.Model
		var saved [2]*probe.Result
		for i, s := range p.sides {
			if saved[i] = s.stats; s.open() {
				models[i] = s.model
			}
		}
		if err := compareOnData(ctx, p.c, p.k, p.r, models[0], models[1], saved, p.choice.Wants); err != nil {
			return err
		}
	}
	if d := p.r.Delta; d != nil {
		p.r.Delta = nil
		if p.choice.WantsModels() {
			p.r.SetDelta(d, p.choice)
		}
	}
	return nil
}

// needsDelta tells whether the files themselves are compared, or which layers of one
// are which of the other.
func (p *pairComparison) needsDelta() bool {
	return p.choice.WantsModels() || p.choice.Wants(report.AspectActivations) || p.choice.Wants(report.AspectStatistics)
}

// checkSides refuses pairs that cannot be compared.
func (p *pairComparison) checkSides(ctx context.Context) error {
	for i := range p.sides {
		s, other := &p.sides[i], &p.sides[1-i]
		switch {
		case s.stats != nil && other.saved:
			return usage("%s is a measurement and %s describes a model: they tell nothing that can be compared; give the models", s.path, other.path)
		case s.saved && p.data:
			return usage("%s only describes a model, which cannot be run; give the model", s.path)
		case s.saved && p.c.IsSet("filters"):
			return usage("--filters needs both models; %s holds no weights", s.path)
		case s.saved && p.c.IsSet("rtol"), s.saved && p.c.IsSet("atol"), s.saved && p.c.IsSet("similarity"):
			return usage("%s is for weights, of which %s holds none", firstSet(p.c, "rtol", "atol", "similarity"), s.path)
		case s.stats != nil && !p.data && other.open():
			var another *probe.OtherModelError
			err := s.stats.CheckModel(ctx, other.model.Handle)
			switch {
			case errors.As(err, &another):
				return usage("%s was measured on another model than %s; give --data DIR to measure that one, too, or the model it was measured on", s.path, other.path)
			case err != nil:
				return err
			}
			p.measured = true
		}
	}
	return nil
}

// describe says what is known of a side.
func (s *compareSide) describe() report.ComparedSide {
	switch {
	case s.stats != nil:
		return report.ComparedSide{File: s.path, Saved: "stats", Model: s.stats.Model}
	case s.saved:
		side := report.NewComparedSide(s.path, s.model)
		side.Saved, side.Model = "inspect", s.model.File
		return side
	}
	return report.NewComparedSide(s.path, s.model)
}

// write writes the report.
func (p *pairComparison) write(out output) error {
	switch out.format {
	case htmlOut:
		pics, err := p.pictures()
		if err != nil {
			return err
		}
		return out.write(p.k.stdout, func(w io.Writer) error { return report.WriteComparedHTML(w, p.r, pics) })
	case csvOut:
		return out.report(p.k, p.r, report.ComparedTable(p.r, p.view))
	}
	return out.report(p.k, p.r, report.FromCompared(p.r, p.view))
}

// pictures reads the samples of a page that both answer differently.
func (p *pairComparison) pictures() (report.ComparedPictures, error) {
	if p.r.Answers == nil || len(p.r.Answers.Flips) == 0 {
		return nil, nil
	}
	set, err := openData(p.c, p.k, p.sides[0].model)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	return report.NewComparedPictures(p.c.Context, p.r.Answers, set.Image)
}

// compareMeasured is compare of two measurements that were saved.
func compareMeasured(c *cli.Context, k *console, out output, paths []string, a, b *probe.Result) error {
	if name := firstSet(c, "rtol", "atol", "only", "ignore", "strict", "similarity", "all", "filters", "top"); name != "" {
		return usage("%s is for models; clusters are the same or not", name)
	}
	if c.IsSet("data") {
		return usage("--data: both sides are measured already; leave it out, or give the models")
	}
	d, err := report.NewDifferences(paths[0], paths[1], a, b)
	if err != nil {
		return err
	}
	if !k.quiet || out.path != "" {
		if err := out.report(k, d, report.FromDifferences(d)); err != nil {
			return err
		}
	}
	if !d.Same {
		return errSaid
	}
	return nil
}
