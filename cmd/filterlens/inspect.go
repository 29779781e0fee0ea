package main

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/report"
)

// weightsByDefault is the largest size of weights that are read without being
// asked for, in bytes.
const weightsByDefault = 64 << 20

// allLayers is the value of a bare --filters.
const allLayers = "*"

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:  "inspect",
		Usage: "what is in a model; with --data, what each filter recognises",
		UsageText: "filterlens inspect MODEL... [flags]\nfilterlens inspect MODEL --check [flags]\n" +
			"filterlens inspect MODEL --data DIR [-o stats.json] [flags]\n" +
			"filterlens inspect --stats stats.json [flags]\nfilterlens inspect --explain",
		Description: "Without --data nothing is run: inputs, outputs, operators, layers, parameters, " +
			"multiply-accumulates, memory. MODEL is a file, - for standard input, or a folder, which stands for the " +
			".onnx files below it. Several models get a row each, --full a report each.\n\n" +
			"--check looks for what is wrong or wasted and ends with 1 when it finds anything.\n\n" +
			"With --data a linear head is trained on every layer and the " +
			"labels of every filter are found; -o stats.json keeps what prune needs. --stats stats.json shows it again, " +
			"needing neither model nor runtime; --explain says what every number means.",
		Flags: slices.Concat(
			outputFlags("write to `FILE` (- is standard output); with --data the table is still printed"),
			shapeFlags(), checkFlags(), listFlags(),
			dataFlags(), noSubset(), tapFlags(), showFlags(), statisticFlags(), measureFlags(), keepFlags(),
			runFlags(runBatch+"; without --data the batch that MACs and memory are counted for where the model leaves it open", runBatchDefault+"; without --data 1")),
		Action: func(c *cli.Context) error {
			if err := refuseSubset(c); err != nil {
				return err
			}
			switch {
			case c.IsSet("stats"):
				return showSaved(c)
			case c.IsSet("data"):
				return measure(c)
			case c.Bool("explain") && c.NArg() == 0:
				return explain(c)
			}
			return inspectModels(c)
		},
	}
}

// An inspection is what the flags of inspect ask for.
type inspection struct {
	c      *cli.Context
	k      *console
	opt    inspect.Options
	sel    report.Selection
	check  bool
	ignore []string
	// many says that there is a list of models, rows that each gets only a row.
	many, rows bool
	format     string
	main       report.TableKind // as CSV
}

func inspectModels(c *cli.Context) error {
	if name := measuringFlag(c); name != "" {
		return usage("%s needs --data DIR", name)
	}
	if name := firstSet(c, "plot", "explain"); name != "" {
		return usage("%s needs --data DIR, or --stats FILE of an earlier measurement", name)
	}
	if err := positive(c, "batch"); err != nil {
		return err
	}
	if c.NArg() == 0 {
		return usage("inspect: no model given; write filterlens inspect MODEL.onnx")
	}
	paths, many, err := modelPaths(c.Args().Slice())
	if err != nil {
		return err
	}
	out, err := outputOf(c, paths...)
	if err != nil {
		return err
	}
	in, err := newInspection(c, many, out.format)
	if err != nil {
		return err
	}
	defer in.k.finish()
	if in.many {
		return in.list(out, paths)
	}
	return in.single(out, paths[0])
}

// measuringFlag returns the first flag given that does nothing without --data and
// is not allowed, "" when there is none.
func measuringFlag(c *cli.Context, allowed ...string) string {
	allowed = append(allowed, "batch", "runtime-library", "offline")
	for _, f := range slices.Concat(dataFlags(), tapFlags(), statisticFlags(), measureFlags(), keepFlags(), runFlags("", "")) {
		if name := f.Names()[0]; c.IsSet(name) && !slices.Contains(allowed, name) {
			return dashed(name)
		}
	}
	return ""
}

// newInspection reads the flags and refuses what contradicts or does nothing.
func newInspection(c *cli.Context, many bool, format string) (in *inspection, err error) {
	in = &inspection{c: c, many: many, rows: many && !c.Bool("full") && format != jsonOut, check: c.Bool("check"), format: format, main: report.LayerTable}
	if in.opt, err = shapeOptions(c); err != nil {
		return nil, err
	}
	in.opt.Batch = int64(c.Int("batch"))
	for _, name := range slices.Sorted(maps.Keys(in.opt.InputShapes)) {
		if dims := in.opt.InputShapes[name]; in.opt.Batch > 0 && dims[0] > 0 && dims[0] != in.opt.Batch {
			return nil, usage("--batch %d contradicts --input-shape %s, whose first dimension is %d; give -1 there or leave --batch out", in.opt.Batch, shapeText(name, dims), dims[0])
		}
	}
	if in.sel, err = selectionOf(c); err != nil {
		return nil, err
	}
	if in.ignore, err = ignoredCodes(c); err != nil {
		return nil, err
	}
	switch {
	case c.Bool("weights") && c.Bool("no-weights"):
		return nil, usage("--weights and --no-weights contradict each other")
	case c.Bool("full") && !many:
		return nil, usage("--full is for several models; a single one is always reported in full")
	case c.Bool("full") && format == jsonOut:
		return nil, usage("--full does nothing here: %s always holds full reports", format)
	case in.rows && in.sel != report.Selection{}:
		return nil, usage("%s chooses among layers; several models get a row each, give --full as well", firstSet(c, "top", "sort", "filter", "depth"))
	case format == csvOut && !in.rows && in.check && c.Bool("weights"):
		return nil, usage("csv holds one table; give --check or --weights, not both")
	case format == csvOut && !in.rows && in.check && in.sel != report.Selection{}:
		return nil, usage("csv holds one table, with --check that of findings; %s does nothing", firstSet(c, "top", "sort", "filter", "depth"))
	case format == csvOut && !in.rows && c.Bool("weights") && in.sel.Depth > 0:
		return nil, usage("csv holds one table; give --weights or --depth, not both")
	case in.check:
		in.main = report.FindingTable
	case c.Bool("weights"):
		in.main = report.TensorTable
	}
	in.k = newConsole(c)
	return in, nil
}

// single reports on one model.
func (in *inspection) single(out output, path string) error {
	m, findings, err := in.read(in.c.Context, path)
	if err != nil {
		return err
	}
	defer m.Close()
	if batchIdle(m) {
		in.k.warn("--batch %d has no effect: no input of %s leaves its first dimension open", in.opt.Batch, m.File)
	}
	if !in.check {
		if err := m.Check(); err != nil {
			in.k.warn("it could not run: %v", err)
		}
	}
	r := report.NewModel(m, in.sel, findings)
	if err := out.report(in.k, r, report.FromModel(r, in.main)); err != nil {
		return err
	}
	return verdict(findings)
}

// read describes a model, which must be closed, and checks it if asked to.
func (in *inspection) read(ctx context.Context, path string) (m *inspect.Model, findings []inspect.Finding, err error) {
	opt := in.opt
	opt.Statistics = in.c.Bool("weights") && !in.rows
	if in.rows && !in.c.Bool("weights") {
		m, err = openModel(ctx, in.c, path, opt)
	} else {
		m, err = inspectOne(ctx, in.c, path, opt)
	}
	if err == nil && in.check {
		if findings, err = in.findings(ctx, m); err != nil {
			m.Close()
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return m, findings, nil
}

// batchIdle tells whether a batch was asked for and no input leaves it open.
func batchIdle(m *inspect.Model) bool {
	opt := m.Options
	if opt.Batch <= 0 {
		return false
	}
	opt.Batch = 0
	g, err := inspect.NewGraph(m.Handle, opt)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(m.Inputs, func(v inspect.Value) bool {
		s := g.Value(v.Name).Shape
		return len(s.Dims) > 0 && s.Dims[0].Value < 0
	})
}

// inspectOne describes a model and counts the zeros of its weights when asked to
// or when they are small. Weights that nobody asked for, or that --check will
// speak of, may be unreadable.
func inspectOne(ctx context.Context, c *cli.Context, path string, opt inspect.Options) (*inspect.Model, error) {
	statistics := opt.Statistics
	opt.Statistics = false
	m, err := openModel(ctx, c, path, opt)
	if err != nil {
		return nil, err
	}
	asked := c.Bool("weights")
	if !asked && (c.Bool("no-weights") || m.Totals.WeightBytes > weightsByDefault) {
		return m, nil
	}
	err = m.ReadWeights(ctx, statistics)
	var unreadable *onnxfile.TensorError
	if errors.As(err, &unreadable) && (!asked || c.Bool("check")) {
		return m, nil
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
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
