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
	"github.com/filterlens/filterlens/inspect/report"
)

// weightsByDefault is the largest size of weights that are read without being
// asked for, in bytes.
const weightsByDefault = 64 << 20

// allLayers is the value of a bare --filters.
const allLayers = "*"

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "what is in a model; with --data, what each filter recognises",
		UsageText: "filterlens inspect MODEL... [flags]\nfilterlens inspect MODEL --data DIR [-o stats.json] [flags]",
		Description: "Without --data nothing is run: inputs, outputs, operators, layers, parameters and\n" +
			"multiply-accumulates. With --data a linear head is trained on every layer and the\n" +
			"labels of every filter are found; -o stats.json keeps what prune needs.",
		Flags: slices.Concat(
			outputFlags("write to `FILE` (- is standard output); with --data the table is still printed"),
			shapeFlags(),
			[]cli.Flag{
				&cli.BoolFlag{Name: "weights", Usage: "read the weights, however large, and count zeros", Category: groupModel, DisableDefaultText: true},
				&cli.BoolFlag{Name: "no-weights", Usage: "do not read the weights", Category: groupModel, DisableDefaultText: true},
				&cli.IntFlag{Name: "top", DefaultText: "all", Usage: "only the `N` layers with the most parameters", Category: groupModel},
				&cli.StringFlag{Name: "filters", Usage: "print the filters of the layers measured with their clusters; --filters=`LAYER,...` chooses", Category: groupMeasure},
			},
			dataFlags(), measureFlags(), runFlags()),
		Action: func(c *cli.Context) error {
			if c.IsSet("data") {
				return measure(c)
			}
			return inspectModels(c)
		},
	}
}

func inspectModels(c *cli.Context) error {
	paths := c.Args().Slice()
	if len(paths) == 0 {
		return usage("inspect: no model given; write filterlens inspect MODEL.onnx")
	}
	for _, name := range []string{"filters", "theta", "layers", "preprocess", "labels", "mean", "std", "resize", "crop",
		"seed", "epochs", "limit", "per-label", "memory", "ep", "device-id", "threads"} {
		if c.IsSet(name) {
			return usage("%s needs --data DIR", dashed(name))
		}
	}
	if err := positive(c, "top", "batch"); err != nil {
		return err
	}
	opt, err := shapeOptions(c)
	if err != nil {
		return err
	}
	opt.Batch = int64(c.Int("batch"))
	out, err := outputOf(c, paths...)
	if err != nil {
		return err
	}
	k := newConsole(c)
	defer k.finish()
	var values []report.Model
	var docs []report.Document
	for _, path := range paths {
		m, err := inspectOne(c, path, opt)
		if err != nil {
			return err
		}
		if err := m.Check(); err != nil {
			k.warn("it could not run: %v", err)
		}
		values = append(values, report.NewModel(m, c.Int("top")))
		docs = append(docs, report.FromModel(m, c.Int("top")))
		m.Handle.Close()
	}
	if len(values) == 1 {
		return out.report(k, values[0], docs...)
	}
	return out.report(k, values, docs...)
}

// inspectOne describes a model and counts the zeros of its weights when asked to
// or when they are small.
func inspectOne(c *cli.Context, path string, opt inspect.Options) (*inspect.Model, error) {
	if c.Bool("weights") && c.Bool("no-weights") {
		return nil, usage("--weights and --no-weights contradict each other")
	}
	m, err := openModel(c.Context, c, path, opt)
	if err != nil {
		return nil, err
	}
	if c.Bool("no-weights") || !c.Bool("weights") && m.Totals.WeightBytes > weightsByDefault {
		return m, nil
	}
	opt.Weights = true
	full, err := describe(c.Context, m.Handle, opt)
	if err != nil {
		m.Handle.Close()
	}
	return full, err
}

// measure is inspect --data.
func measure(c *cli.Context) error {
	path, err := oneModel(c)
	if err != nil {
		return err
	}
	if err := checkEngineFlags(c); err != nil {
		return err
	}
	out, err := outputOf(c, path)
	if err != nil {
		return err
	}
	k := newConsole(c)
	defer k.finish()
	m, err := openMeasured(c, path)
	if err != nil {
		return err
	}
	defer m.Handle.Close()
	var wanted []string
	if v := c.String("filters"); c.IsSet("filters") && v != allLayers {
		if wanted, err = nameList("--filters", v); err != nil {
			return err
		}
	}
	layers, err := layersOf(c)
	if err != nil {
		return err
	}
	res, err := measureModel(c.Context, c, k, m, resolve(m, layers))
	if err != nil {
		return err
	}
	docs := []report.Document{report.FromModel(m, c.Int("top")), report.FromStats(res)}
	if c.IsSet("filters") {
		filters, err := filterDocuments(res, resolve(m, wanted))
		if err != nil {
			return err
		}
		docs = append(docs, filters...)
	}
	if err := out.report(k, res, csvDocs(docs, out.format)...); err != nil || out.path == "" || k.quiet {
		return err
	}
	return output{format: text}.report(k, res, docs...)
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

// oneModel returns the only argument.
func oneModel(c *cli.Context) (string, error) {
	verb := c.Command.Name
	switch c.Args().Len() {
	case 0:
		if verb == "prune" {
			return "", usage("prune: no model given; write filterlens prune --afcc MODEL.onnx --data DIR -o OUT.onnx")
		}
		return "", usage("%s: no model given; write filterlens %s MODEL.onnx --data DIR", verb, verb)
	case 1:
	default:
		if verb == "inspect" && c.String("filters") == allLayers {
			return "", usage("inspect takes one model here, %d are given: %q; a layer is named as --filters=LAYER", c.Args().Len(), c.Args().Slice())
		}
		return "", usage("%s takes one model here, %d are given: %q", verb, c.Args().Len(), c.Args().Slice())
	}
	if c.Args().First() == "-" {
		return "", usage("%s needs a model in a file here, not standard input", verb)
	}
	return c.Args().First(), nil
}

// openMeasured opens a model to run it. Its batch stays open.
func openMeasured(c *cli.Context, path string) (*inspect.Model, error) {
	opt, err := shapeOptions(c)
	if err != nil {
		return nil, err
	}
	m, err := inspectOne(c, path, opt)
	if errors.Is(err, fs.ErrNotExist) && c.IsSet("filters") && c.String("filters") == allLayers {
		return nil, fmt.Errorf("%w (a layer is named as --filters=LAYER)", err)
	}
	return m, err
}

// measureModel opens data and runtime and measures the layers named, all when
// there are none. Whatever can be refused
// without running is refused before the runtime is loaded.
func measureModel(ctx context.Context, c *cli.Context, k *console, m *inspect.Model, layers []string) (*probe.Result, error) {
	opt, err := probeOptions(c, k)
	if err != nil {
		return nil, err
	}
	opt.Layers = layers
	survey, err := probe.NewSurvey(m)
	if err != nil {
		return nil, err
	}
	set, err := openData(c, k, m)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	if n := len(set.Labels()); n != survey.Labels {
		return nil, &probe.LabelMismatchError{Data: c.String("data"), Labels: n, Model: survey.Labels}
	}
	if opt.Preprocess, err = preprocessOf(c, k, m); err != nil {
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
	earlier := slices.Clone(k.warned)
	for _, w := range res.Warnings {
		k.warn("%s", w)
	}
	res.Warnings = append(earlier, res.Warnings...)
	return res, nil
}

func probeOptions(c *cli.Context, k *console) (opt probe.Options, err error) {
	if opt.Memory, err = byteSize("--memory", c.String("memory")); err != nil {
		return opt, err
	}
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
