package main

import (
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/report"
)

func compareCommand() *cli.Command {
	return &cli.Command{
		Name:      "compare",
		Usage:     "what changed from one model to another: structure and weights, by name",
		UsageText: "filterlens compare A.onnx B.onnx [flags]\nfilterlens compare A.json B.json [flags]",
		Description: "Two files that inspect --data -o has written are compared filter by filter: whose\n" +
			"clusters differ, as between providers, seeds, or before and after a change.\n\n" +
			"Ends with 0 when both are the same within the tolerance, with 1 when they differ,\n" +
			"with 2 when they cannot be compared.",
		Flags: slices.Concat(outputFlags("write to `FILE` (- is standard output)"), []cli.Flag{
			&cli.Float64Flag{Name: "rtol", Usage: "relative tolerance: values may differ by atol + rtol * |a|", Category: groupModel},
			&cli.Float64Flag{Name: "atol", Usage: "absolute tolerance", Category: groupModel},
			&cli.BoolFlag{Name: "ignore-metadata", Usage: "leave out producer, metadata and names of nodes", Category: groupModel, DisableDefaultText: true},
		}),
		Action: compare,
	}
}

func compare(c *cli.Context) error {
	paths := c.Args().Slice()
	if len(paths) != 2 {
		return usage("compare takes two models, %d given; write filterlens compare A.onnx B.onnx", len(paths))
	}
	if isJSON(paths[0]) && isJSON(paths[1]) {
		return compareMeasured(c, paths[0], paths[1])
	}
	if paths[0] == "-" && paths[1] == "-" {
		return usage("only one of the models can come from standard input")
	}
	opt := inspect.CompareOptions{RTol: c.Float64("rtol"), ATol: c.Float64("atol"), IgnoreMetadata: c.Bool("ignore-metadata")}
	for _, t := range []float64{opt.RTol, opt.ATol} {
		if !(t >= 0) || math.IsInf(t, 0) {
			return usage("--rtol and --atol: a tolerance cannot be %v", t)
		}
	}
	out, err := outputOf(c, paths...)
	if err != nil {
		return err
	}
	k := newConsole(c)
	defer k.finish()
	a, err := openFile(c, paths[0])
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := openFile(c, paths[1])
	if err != nil {
		return err
	}
	defer b.Close()
	r, err := inspect.Compare(c.Context, a, b, opt)
	if err != nil {
		return err
	}
	if !k.quiet || out.path != "" {
		doc := report.FromComparison(r)
		if out.format == csvOut {
			doc = report.ComparisonTable(r)
		}
		if err := out.report(k, report.NewComparison(r), doc); err != nil {
			return err
		}
	}
	if !r.Same {
		return errSaid
	}
	return nil
}

func isJSON(path string) bool { return strings.EqualFold(filepath.Ext(path), ".json") }

// compareMeasured is compare of two measurements that were saved.
func compareMeasured(c *cli.Context, pathA, pathB string) error {
	if name := firstSet(c, "rtol", "atol", "ignore-metadata"); name != "" {
		return usage("%s is for models; clusters are the same or not", name)
	}
	out, err := outputOf(c, pathA, pathB)
	if err != nil {
		return err
	}
	k := newConsole(c)
	defer k.finish()
	a, err := readResult(pathA)
	if err != nil {
		return err
	}
	b, err := readResult(pathB)
	if err != nil {
		return err
	}
	d, err := report.NewDifferences(pathA, pathB, a, b)
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
