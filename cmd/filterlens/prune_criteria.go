package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/export"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/report"
	"github.com/filterlens/filterlens/inspect/report/plot"
)

// criteriaFlags are those of --compare-criteria.
func criteriaFlags() []cli.Flag {
	const group = "Comparing criteria"
	var shares []string
	for _, v := range export.DefaultDilutions() {
		shares = append(shares, strconv.FormatFloat(v, 'g', -1, 64))
	}
	return []cli.Flag{
		&cli.BoolFlag{Name: "compare-criteria", Usage: "prune by several criteria, at dilutions at which each keeps as many connections of every layer as afcc does, and tell what they leave of the accuracy; writes no model. With --filters-keep A,B whole filters go", Category: group, DisableDefaultText: true},
		&cli.StringFlag{Name: "criteria", DefaultText: "all that apply", Usage: "`LIST` of " + strings.Join(export.Criteria(), ", "), Category: group},
		&cli.StringFlag{Name: "dilutions", DefaultText: strings.Join(shares, ",") + " and what afcc comes to by its own rule at --threshold", Usage: "`SHARES` of the connections of each layer that fall at least", Category: group},
		&cli.IntFlag{Name: "seeds", Value: 1, Usage: "draw for random with `N` seeds, and take the mean", Category: group},
		&cli.StringFlag{Name: "plot", Usage: "draw accuracy against dilution to `FILE`.svg or .png, like criteria.svg", Category: group},
	}
}

// criteriaOnly names the flags that do nothing without --compare-criteria.
func criteriaOnly() []string { return []string{"criteria", "dilutions", "seeds", "plot"} }

// needsActivity tells whether a criterion asks what filters hand on.
func needsActivity(criterion string) bool {
	return criterion == export.Activation || criterion == export.Weighted
}

// listed writes "a, b and c".
func listed(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// compareCriteria is prune --compare-criteria.
func compareCriteria(c *cli.Context) error {
	path, err := oneModel(c)
	if err != nil {
		return err
	}
	if err := checkCriteriaFlags(c); err != nil {
		return err
	}
	out, err := outputOf(c, path)
	if err != nil {
		return err
	}
	picture, err := criteriaPicture(c, path)
	if err != nil {
		return err
	}
	layers, err := namesOf(c, "layers")
	if err != nil {
		return err
	}
	pruning, err := pruneOptions(c)
	if err != nil {
		return err
	}
	opt := export.CriteriaOptions{Options: pruning, Criteria: wordsOf(c, "criteria"), Seeds: c.Int("seeds"), OwnRule: !c.IsSet("dilutions") || c.IsSet("threshold")}
	if opt.Dilutions, err = sharesOf(c, "dilutions"); err != nil {
		return err
	}
	if opt.Dilutions == nil {
		opt.Dilutions = export.DefaultDilutions()
	}
	if opt.FilterShares, err = sharesOf(c, "filters-keep"); err != nil {
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
	// The statistics that a plan by label clusters asks about serve all criteria.
	asked := opt.Options
	asked.Criterion = export.AFCC
	if len(opt.FilterShares) > 0 {
		asked.FiltersKeep = opt.FilterShares[0]
		if opt.Criteria != nil && !slices.Contains(opt.Criteria, export.AFCC) {
			asked.Criterion = export.Magnitude
		}
	}
	res, err := statistics(c, k, m, &asked)
	if err != nil {
		return err
	}
	if !c.IsSet("threshold") && res != nil {
		opt.Theta = res.Theta
	}
	if err := openJudged(c, k, m, res, &opt.Options); err != nil {
		return err
	}
	defer opt.Set.Close()
	var r *export.CriteriaReport
	err = withEngine(c.Context, c, k, func(eng engine.Engine) (err error) {
		r, err = export.CompareCriteria(c.Context, eng, m, res, opt)
		return err
	})
	k.bar.end()
	if err != nil {
		// No file is ever written here, so that none is missing either.
		var verdict *export.VerdictError
		if errors.As(err, &verdict) {
			return &verdictError{strings.TrimSuffix(err.Error(), "; nothing was written")}
		}
		return err
	}
	r.Warnings = append(slices.Clone(k.warned), r.Warnings...)
	doc := report.FromCriteria(r)
	if err := out.report(k, r, doc); err != nil {
		return err
	}
	if picture.path != "" {
		format := strings.ToLower(strings.TrimPrefix(filepath.Ext(picture.path), "."))
		if err := picture.write(k.stdout, func(w io.Writer) error { return plot.WriteCriteria(w, format, r) }); err != nil {
			return err
		}
		if info, err := os.Stat(picture.path); err == nil && info.Mode().IsRegular() {
			k.log("wrote " + picture.path)
		}
	}
	if out.path == "" || k.quiet {
		return nil
	}
	return output{format: text}.report(k, r, doc)
}

// checkCriteriaFlags refuses what can be refused before anything is opened.
func checkCriteriaFlags(c *cli.Context) error {
	with := func(names ...string) string { return firstSet(c, names...) }
	switch {
	case with("apply", "dry-run") != "":
		return usage("--compare-criteria prunes by several plans of its own; leave %s out", with("apply", "dry-run"))
	case with("target-macs", "target-latency", "max-drop") != "":
		return usage("%s does not go with --compare-criteria, which writes no model", with("target-macs", "target-latency", "max-drop"))
	case with("compact", "no-compact") != "":
		return usage("%s does not go with --compare-criteria, which writes no model", with("compact", "no-compact"))
	case c.IsSet("criterion"):
		return usage("--criterion is one; name those to compare with --criteria %s,...", c.String("criterion"))
	case c.IsSet("dilution"):
		return usage("--dilution is one; name those to compare at with --dilutions %v,...", c.Float64("dilution"))
	case c.IsSet("dilutions") && c.IsSet("filters-keep"):
		return usage("--dilutions and --filters-keep contradict each other; compare connections, or whole filters")
	case c.IsSet("threshold") && c.IsSet("filters-keep"):
		return usage("--threshold chooses connections, --filters-keep removes whole filters")
	case c.IsSet("round-to") && !c.IsSet("filters-keep"):
		return usage("--round-to is for whole filters; give --filters-keep, too")
	case c.IsSet("round-to") && c.Int("round-to") < 1:
		return usage("--round-to %d: it must be 1 or more", c.Int("round-to"))
	case c.IsSet("subset"):
		return refuseSubset(c)
	case !c.IsSet("data"):
		return usage("--compare-criteria needs --data DIR to measure the accuracies on")
	case c.Int("seeds") < 1:
		return usage("--seeds %d: it must be 1 or more", c.Int("seeds"))
	case !slices.Contains([]string{export.Classifier, export.Conv, export.Both}, c.String("target")):
		return usage("--target %q: the targets are fc, conv and both", c.String("target"))
	case strings.EqualFold(filepath.Ext(c.String("output")), ".onnx"):
		return usage("--compare-criteria writes no model; keep the report with -o criteria.json")
	}
	criteria := wordsOf(c, "criteria")
	for i, name := range criteria {
		switch {
		case !slices.Contains(export.Criteria(), name):
			return usage("--criteria %q: the criteria are %s", name, listed(export.Criteria()))
		case slices.Contains(criteria[:i], name):
			return usage("--criteria names %s twice", name)
		case name == export.Weighted && c.IsSet("filters-keep"):
			return usage("--criteria weighted orders connections, not whole filters, which --filters-keep removes")
		}
	}
	if c.IsSet("seeds") && criteria != nil && !slices.Contains(criteria, export.Random) {
		return usage("--seeds is for the criterion random, which --criteria does not name")
	}
	for _, name := range []string{"dilutions", "filters-keep"} {
		if _, err := sharesOf(c, name); err != nil {
			return err
		}
	}
	if err := checkRecoverFlags(c); err != nil {
		return err
	}
	if c.IsSet("threshold") {
		if err := afcc.CheckTheta(c.Float64("threshold")); err != nil {
			return err
		}
	}
	return checkEngineFlags(c)
}

// criteriaPicture reads --plot, and refuses what could not be written.
func criteriaPicture(c *cli.Context, model string) (output, error) {
	if !c.IsSet("plot") {
		return output{}, nil
	}
	word := c.String("plot")
	o := output{path: strings.TrimPrefix(word, "criteria=")}
	switch ending := strings.ToLower(strings.TrimPrefix(filepath.Ext(o.path), ".")); {
	case ending != plot.SVG && ending != plot.PNG:
		return o, usage("--plot %s: its ending must be .svg or .png, the format it is written in", word)
	case c.String("output") != "" && absolute(o.path) == absolute(c.String("output")):
		return o, usage("--plot %s and -o %s would write the same file", word, c.String("output"))
	case isDevice(o.path):
		return o, nil
	}
	return o, checkTarget(o.path, append(flagFiles(c), model)...)
}

// wordsOf reads a list of words, nil where it is not given.
func wordsOf(c *cli.Context, flag string) []string {
	if !c.IsSet(flag) {
		return nil
	}
	words := strings.Split(c.String(flag), ",")
	for i := range words {
		words[i] = strings.ToLower(strings.TrimSpace(words[i]))
	}
	return words
}

// sharesOf reads a list of shares above 0 and below 1, nil where it is not given.
func sharesOf(c *cli.Context, flag string) (list []float64, err error) {
	for _, w := range wordsOf(c, flag) {
		v, err := strconv.ParseFloat(w, 64)
		if err != nil {
			return nil, usage("%s %q: not a number", dashed(flag), w)
		}
		if !(v > 0 && v < 1) {
			return nil, usage("%s %v: it is a share above 0 and below 1", dashed(flag), v)
		}
		if slices.Contains(list, v) {
			return nil, usage("%s names %v twice", dashed(flag), v)
		}
		list = append(list, v)
	}
	return list, nil
}

// checkShares refuses a flag that holds more than one number, or none.
func checkShares(c *cli.Context, flag string) error {
	switch words := wordsOf(c, flag); {
	case len(words) > 1:
		return usage("%s takes one share; several are for --compare-criteria", dashed(flag))
	case len(words) == 1:
		if _, err := strconv.ParseFloat(words[0], 64); err != nil {
			return usage("%s %q: not a number", dashed(flag), words[0])
		}
	}
	return nil
}
