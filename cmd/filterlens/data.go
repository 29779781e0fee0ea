package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
)

// What a model may say about itself.
const (
	preprocessKey = "filterlens.preprocess"
	labelsKey     = "filterlens.labels"
)

// preprocessOf returns the preprocessing asked for, else what the model records,
// else "unit" with a warning.
func preprocessOf(c *cli.Context, k *console, m *inspect.Model) (dataset.Preprocess, error) {
	var p dataset.Preprocess
	var err error
	recorded := metadata(m, preprocessKey)
	switch {
	case c.IsSet("preprocess"):
		p, err = dataset.ParsePreprocess(c.String("preprocess"))
		if err != nil {
			return p, fmt.Errorf("--preprocess: %w", err)
		}
	case recorded != "":
		if p, err = dataset.ParsePreprocess(recorded); err != nil {
			return p, fmt.Errorf("%s: metadata %s: %w; say how to preprocess with --preprocess", m.File, preprocessKey, err)
		}
	case !c.IsSet("mean") && !c.IsSet("std"):
		k.warn("preprocessing \"unit\" (values/255) was assumed, for %s does not record its own; name it with --preprocess imagenet, signed or unit, or --mean and --std", m.File)
	}
	if c.IsSet("mean") {
		if p.Mean, err = floats("--mean", c.String("mean")); err != nil {
			return p, err
		}
	}
	if c.IsSet("std") {
		if p.Std, err = floats("--std", c.String("std")); err != nil {
			return p, err
		}
	}
	if c.IsSet("resize") {
		p.Resize = c.Int("resize")
	}
	if c.IsSet("crop") {
		p.Crop = c.Int("crop")
	}
	if err := p.Validate(); err != nil {
		return p, fmt.Errorf("preprocessing: %w", err)
	}
	return p, nil
}

func floats(flag, s string) ([]float32, error) {
	var v []float32
	for _, part := range strings.Split(s, ",") {
		f, err := strconv.ParseFloat(strings.TrimSpace(part), 32)
		if err != nil {
			return nil, usage("%s %q: %q is no number; write A,B,C", flag, s, part)
		}
		v = append(v, float32(f))
	}
	return v, nil
}

// openData opens the data set given with --data. Label names come from --labels,
// from the data set, or, where it only numbers its labels, from the model.
func openData(c *cli.Context, k *console, m *inspect.Model) (*dataset.Set, error) {
	set, err := openSet(c, k, m)
	if err != nil {
		return nil, err
	}
	if out := c.String("output"); out != "" && out != "-" && set.Owns(out) {
		set.Close()
		return nil, usage("the output %s is a file of the data set; give -o another path", out)
	}
	return set, nil
}

func openSet(c *cli.Context, k *console, m *inspect.Model) (*dataset.Set, error) {
	path := c.String("data")
	var opt dataset.Options
	if c.IsSet("labels") {
		b, err := os.ReadFile(c.String("labels"))
		if err != nil {
			return nil, fmt.Errorf("--labels: %w", err)
		}
		if opt.Labels = nonEmptyLines(string(b)); len(opt.Labels) == 0 {
			return nil, usage("--labels: %s names no label", c.String("labels"))
		}
		return dataset.Open(path, opt)
	}
	set, err := dataset.Open(path, opt)
	if err != nil {
		return nil, err
	}
	recorded := nonEmptyLines(metadata(m, labelsKey))
	if len(recorded) == 0 || slices.Equal(recorded, set.Labels()) {
		return set, nil
	}
	if numbered(set.Labels()) && set.Format() != folderFormat && len(recorded) == len(set.Labels()) || sameNames(recorded, set.Labels()) && set.Format() == folderFormat {
		set.Close()
		opt.Labels = recorded
		return dataset.Open(path, opt)
	}
	if len(recorded) == len(set.Labels()) {
		k.warn("the labels of %s are not those that %s records: %s; the data's names are used", path, m.File, firstDifference(set.Labels(), recorded))
	}
	return set, nil
}

// folderFormat is the format whose label names are names of folders.
const folderFormat = "image folder"

func nonEmptyLines(s string) []string {
	var lines []string
	for _, l := range strings.Split(s, "\n") {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

// numbered tells whether labels are named 0, 1, 2 ...
func numbered(labels []string) bool {
	for i, l := range labels {
		if l != strconv.Itoa(i) {
			return false
		}
	}
	return true
}

func sameNames(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func firstDifference(data, model []string) string {
	for i := range data {
		if data[i] != model[i] {
			return fmt.Sprintf("label %d is %q in the data, %q in the model", i, data[i], model[i])
		}
	}
	return "none"
}

func splitOptions(c *cli.Context) dataset.SplitOptions {
	return dataset.SplitOptions{Seed: c.Uint64("seed"), Limit: c.Int("limit"), PerLabel: c.Int("per-label")}
}
