package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/report"
)

// showSaved is inspect --stats: the report of a measurement that was saved. A model
// is not needed; one that is given must be the one measured.
func showSaved(c *cli.Context) error {
	if err := checkSavedFlags(c); err != nil {
		return err
	}
	var model string
	switch c.NArg() {
	case 0:
	case 1:
		model = c.Args().First()
	default:
		return usage("inspect --stats takes one model at most, %d are given: %q", c.NArg(), c.Args().Slice())
	}
	sel, err := selectionOf(c)
	if err != nil {
		return err
	}
	r := measured{}
	if r.out, err = outputOf(c, model); err != nil {
		return err
	}
	if err := checkExplain(c, r.out); err != nil {
		return err
	}
	if r.pictures, err = picturesOf(c, model); err != nil {
		return err
	}
	wanted, err := filtersOf(c)
	if err != nil {
		return err
	}
	r.k = newConsole(c)
	defer r.k.finish()
	if r.res, err = readStats(c); err != nil {
		return err
	}
	var m *inspect.Model
	if model != "" {
		if m, err = openSavedModel(c.Context, c, model, r.res); err != nil {
			return err
		}
		defer m.Close()
		described := report.NewModel(m, sel, nil)
		r.model = &described
		wanted = resolve(m, wanted)
	}
	var taps []*probe.Tap
	for i := range r.res.Layers {
		taps = append(taps, &r.res.Layers[i].Tap)
	}
	if err := resolvePictures(r.pictures, m, taps); err != nil {
		return err
	}
	if err := replay(c, &r, m); err != nil {
		return err
	}
	if c.IsSet("filters") {
		if r.filters, err = filterDocuments(r.res, wanted); err != nil {
			return err
		}
	}
	if c.Bool("explain") {
		r.after = append(r.after, report.FromDefinitions(report.NewDefinitions()))
	}
	return r.write()
}

// replay takes the field matrices that are shown from the folder of --resume.
func replay(c *cli.Context, r *measured, m *inspect.Model) error {
	if !c.IsSet("resume") {
		for _, p := range r.pictures {
			if p.NeedsMatrix() {
				return usage("--plot %s: field matrices are not kept in %s; name the model and the folder of --resume that was measured with, or measure with --data DIR", p.word, statsName(c))
			}
		}
		return nil
	}
	if m == nil {
		return usage("--resume with --stats needs the model, too: field matrices are made of its classifier")
	}
	if !isFolder(c.String("resume")) {
		return fmt.Errorf("--resume: there is no folder %s", c.String("resume"))
	}
	if r.out.format == htmlOut {
		r.page = report.NewPictures(0)
	}
	take := takeMatrices(r.pictures, r.page)
	if take == nil {
		return nil
	}
	st, err := openState(c, r.k)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := probe.Replay(c.Context, m, st, r.res, take); err != nil {
		return fmt.Errorf("%s: %w", c.String("resume"), err)
	}
	return nil
}

// checkSavedFlags refuses what would have to be measured anew.
func checkSavedFlags(c *cli.Context) error {
	if c.IsSet("data") {
		return usage("--stats shows what was measured, --data measures; give one of them (with -o %s --data measures only what has changed)", c.String("stats"))
	}
	for _, name := range []string{"check", "ignore", "full", "weights", "batch", "runtime-library", "offline"} {
		if c.IsSet(name) {
			return usage("%s does not go with --stats", dashed(name))
		}
	}
	if name := measuringFlag(c, "filters", "resume"); name != "" {
		return usage("%s does not go with --stats, which shows what was measured; measure anew with --data DIR", name)
	}
	return nil
}

func statsName(c *cli.Context) string {
	if c.String("stats") == "-" {
		return "standard input"
	}
	return c.String("stats")
}

// readStats reads --stats, of which - is standard input.
func readStats(c *cli.Context) (*probe.Result, error) {
	if path := c.String("stats"); path != "-" {
		res, err := readResult(path)
		if err != nil {
			return nil, fmt.Errorf("--stats: %w", err)
		}
		return res, nil
	}
	res, err := probe.ReadResult(c.App.Reader)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", statsName(c), err)
	}
	return res, nil
}

// readResult reads what inspect --data -o has written.
func readResult(path string) (*probe.Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, notOpened(path, err)
	}
	defer f.Close()
	res, err := probe.ReadResult(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return res, nil
}

// openSavedModel opens the model that statistics are of.
func openSavedModel(ctx context.Context, c *cli.Context, path string, res *probe.Result) (*inspect.Model, error) {
	if path == "-" && c.String("stats") == "-" {
		return nil, usage("standard input (-) is given twice; it can be read once")
	}
	m, err := openMeasured(c, path)
	if err != nil {
		return nil, err
	}
	if err := res.CheckModel(ctx, m.Handle); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// layerOf returns the layer measured that a person means by name: its tensor, one
// of its layers, or an end of that layer's path that only one has.
func layerOf(res *probe.Result, name string) *probe.Layer {
	var found []*probe.Layer
	for i := range res.Layers {
		l := &res.Layers[i]
		if l.Tensor == name || slices.Contains(l.Layers, name) {
			return l
		}
		if slices.ContainsFunc(l.Layers, func(full string) bool {
			path := strings.Trim(strings.TrimSuffix(full, "/"+l.Op), "/")
			return path == name || strings.HasSuffix(path, "/"+name)
		}) {
			found = append(found, l)
		}
	}
	if len(found) != 1 || name == "" {
		return nil
	}
	return found[0]
}
