package main

import (
	"errors"
	"fmt"
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

// openData opens the data set given with --data. The order of the labels comes
// from --labels, from the data set, or, where that has none, from the model.
func openData(c *cli.Context, k *console, m *inspect.Model) (*dataset.Set, error) {
	set, err := openSet(c, k, m)
	if err != nil {
		return nil, err
	}
	for _, out := range outputPaths(c) {
		if set.Owns(out) {
			set.Close()
			return nil, usage("the output %s is a file of the data set; give another path", out)
		}
	}
	k.warnSkipped(set.Skipped())
	return set, nil
}

func openSet(c *cli.Context, k *console, m *inspect.Model) (*dataset.Set, error) {
	path, column := c.String("data"), c.String("label-column")
	if c.IsSet("labels") {
		classes, err := dataset.ReadClasses(c.String("labels"))
		if err != nil {
			return nil, fmt.Errorf("--labels: %w", err)
		}
		return openClasses(c, k, classes)
	}
	recorded := nonEmptyLines(metadata(m, labelsKey))
	classes := make([]dataset.Class, len(recorded))
	for i, name := range recorded {
		classes[i].Name = name
	}
	if c.Bool("subset") {
		if len(recorded) == 0 {
			return nil, usage("--subset needs --labels FILE, for %s does not record its labels", m.File)
		}
		return dataset.Open(path, dataset.Options{Classes: classes, Subset: true, LabelColumn: column})
	}
	set, err := dataset.Open(path, dataset.Options{LabelColumn: column})
	if err != nil {
		return nil, err
	}
	own := set.Labels()
	if len(recorded) == 0 || slices.Equal(recorded, own) {
		return set, nil
	}
	opt := dataset.Options{LabelColumn: column}
	switch named := namesLabels(set); {
	case named && sameNames(recorded, own):
		opt.Classes = classes
	case !named && numbered(own) && len(recorded) == len(own):
		opt.Labels = recorded
	case len(recorded) == len(own):
		k.warn("the labels of %s are not those that %s records: %s; the data's names are used", path, m.File, firstDifference(own, recorded))
		return set, nil
	default:
		return set, nil
	}
	set.Close()
	return dataset.Open(path, opt)
}

// openClasses opens the data set with the labels given, in their order. Where
// the data has names they are found among those given. Data whose labels are
// numbers may also be given names of its own choice: then there are as many, and
// none is that of another label.
func openClasses(c *cli.Context, k *console, classes []dataset.Class) (*dataset.Set, error) {
	path, column := c.String("data"), c.String("label-column")
	set, err := dataset.Open(path, dataset.Options{Classes: classes, Subset: c.Bool("subset"), LabelColumn: column})
	if err == nil || !errors.Is(err, dataset.ErrLabel) {
		return set, err
	}
	plain, other := dataset.Open(path, dataset.Options{LabelColumn: column})
	if other != nil {
		return nil, other
	}
	defer plain.Close()
	own := plain.Labels()
	names, ok := newNames(own, classes)
	if !ok || namesLabels(plain) {
		return nil, err
	}
	if set, other = dataset.Open(path, dataset.Options{Labels: names, LabelColumn: column}); other != nil {
		return nil, err
	}
	k.warn("the names in %s are not those of %s and are given to its labels in order: %s", c.String("labels"), path, firstRenamed(own, names))
	return set, nil
}

// newNames returns the names of classes for labels that are called otherwise. ok
// is false when classes are more than names, or contradict the names there are.
func newNames(own []string, classes []dataset.Class) (names []string, ok bool) {
	if len(own) != len(classes) {
		return nil, false
	}
	at := make(map[string]int, len(own))
	for i, name := range own {
		at[strings.ToLower(name)] = i
	}
	given := make(map[string]bool, len(classes))
	for i, class := range classes {
		j, known := at[strings.ToLower(class.Name)]
		if class.Synset != "" || given[class.Name] || known && j != i {
			return nil, false
		}
		given[class.Name] = true
		names = append(names, class.Name)
	}
	return names, true
}

// namesLabels tells whether the labels of a data set are names in the order of
// their bytes, as those of folders, rather than numbers that may have names.
func namesLabels(set *dataset.Set) bool {
	switch set.Format() {
	case "image folder":
		return true
	case "Parquet", "tar shards":
		own := set.Labels()
		return slices.IsSorted(own) && !numbered(own)
	}
	return false
}

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

// firstRenamed says which label got which name, of the first that got another.
func firstRenamed(own, names []string) string {
	for i := range own {
		if own[i] != names[i] {
			return fmt.Sprintf("label %d, %q, is now %q", i, own[i], names[i])
		}
	}
	return "none"
}

func splitOptions(c *cli.Context) dataset.SplitOptions {
	return dataset.SplitOptions{Seed: c.Uint64("seed"), Limit: c.Int("limit"), PerLabel: c.Int("per-label"), Balanced: c.Bool("balanced")}
}
