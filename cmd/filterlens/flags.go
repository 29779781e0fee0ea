package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/report"
)

// The groups of flags, as help shows them.
const (
	groupOutput     = "Output"
	groupModel      = "Model"
	groupList       = "Listing"
	groupData       = "Data"
	groupMeasure    = "Measuring"
	groupStatistics = "Measuring: statistics in detail"
	groupHeads      = "Measuring: heads"
	groupWork       = "Measuring: memory and kept work"
	groupRun        = "Running"
	groupBoth       = "Two engines"
)

func outputFlags(output string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: output, Category: groupOutput},
		&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "`FORMAT`: text, json, csv or html", DefaultText: "by the ending of -o, else text", Category: groupOutput},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "no progress; with -o nothing on standard output", Category: groupOutput, DisableDefaultText: true},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say on standard error what takes how long", Category: groupOutput, DisableDefaultText: true},
		&cli.BoolFlag{Name: "no-color", Usage: "no colours on a terminal either (as NO_COLOR)", Category: groupOutput, DisableDefaultText: true},
	}
}

func shapeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "input-shape", Usage: "shape of an input as `NAME:1,3,224,224`; may be repeated", Category: groupModel},
		&cli.StringSliceFlag{Name: "dim", Usage: "size of a symbolic dimension as `NAME=N`; may be repeated", Category: groupModel},
	}
}

func checkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "check", Usage: "look for faults and waste; exit code 1 when anything is found", Category: groupModel, DisableDefaultText: true},
		&cli.StringSliceFlag{Name: "ignore", Usage: "leave out findings of the codes `CODE,...`", Category: groupModel},
		&cli.BoolFlag{Name: "weights", Usage: "read the weights, however large: zeros of layers, statistics of each tensor", Category: groupModel, DisableDefaultText: true},
		&cli.BoolFlag{Name: "no-weights", Usage: "do not read the weights", Category: groupModel, DisableDefaultText: true},
	}
}

// listFlags choose what is listed.
func listFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "top", DefaultText: "all", Usage: "only the first `N` layers by --sort, which is params then; of tensors the largest", Category: groupList},
		&cli.StringFlag{Name: "sort", DefaultText: "order", Usage: "list layers by `KEY`, the largest and before them what is unknown first: params, macs, memory (weights and output), or order, as they run", Category: groupList},
		&cli.StringFlag{Name: "filter", Usage: "only layers of whose name, operator or scope `REGEX` matches a part, and their tensors", Category: groupList},
		&cli.IntFlag{Name: "depth", DefaultText: "single layers", Usage: "sum up layers by the first `N` parts of their module path, as /features/features.40/Conv is in features and features.40", Category: groupList},
		&cli.BoolFlag{Name: "full", Usage: "several models: a report each, not a row", Category: groupList, DisableDefaultText: true},
	}
}

// selectionOf reads the flags that choose what is listed.
func selectionOf(c *cli.Context) (sel report.Selection, err error) {
	for _, n := range []string{"top", "depth"} {
		if c.IsSet(n) && c.Int(n) < 1 {
			return sel, usage("%s %d: it must be 1 or more", dashed(n), c.Int(n))
		}
	}
	sel.Top, sel.Depth = c.Int("top"), c.Int("depth")
	if c.IsSet("sort") {
		sel.Sort = report.Order(c.String("sort"))
		if !slices.Contains(report.Orders(), sel.Sort) {
			return sel, usage("--sort %q: the keys are params, macs, memory and order", c.String("sort"))
		}
	}
	if c.IsSet("filter") {
		if c.String("filter") == "" {
			return sel, usage("--filter is empty and matches everything; leave it out")
		}
		if sel.Filter, err = regexp.Compile(c.String("filter")); err != nil {
			why := err.Error()
			var se *syntax.Error
			if errors.As(err, &se) {
				why = se.Code.String()
			}
			return sel, usage("--filter %q: no regular expression: %s", c.String("filter"), why)
		}
	}
	return sel, nil
}

// firstSet returns the first of some flags that is given.
func firstSet(c *cli.Context, names ...string) string {
	for _, n := range names {
		if c.IsSet(n) {
			return dashed(n)
		}
	}
	return ""
}

func dataFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "data", Usage: "labelled images, in the folder or file `DIR`: folder of class folders, Parquet (Hugging Face), tar shards, .npz, CIFAR binary, IDX", Category: groupData},
		&cli.StringFlag{Name: "preprocess", Usage: "`HOW`: imagenet, signed, unit, or settings like \"mean=.5;std=.25;resize=256;crop=224\" (default: what the model records)", Category: groupData},
		&cli.StringFlag{Name: "mean", Usage: "mean `A,B,C` of values in [0,1], one number or one a channel", Category: groupData},
		&cli.StringFlag{Name: "std", Usage: "standard deviation `A,B,C` of values in [0,1]", Category: groupData},
		&cli.IntFlag{Name: "resize", DefaultText: "as --preprocess says", Usage: "length that the shorter side gets, 0 for none", Category: groupData},
		&cli.IntFlag{Name: "crop", DefaultText: "as --preprocess says", Usage: "side of the centre square cut out then, 0 for none", Category: groupData},
		&cli.StringFlag{Name: "labels", Usage: "labels in the order of the model's outputs: a `FILE` of names or synsets, one a line, or JSON (class index, config.json with id2label). Names in the data are found among them; data that only numbers its labels, or names all of them otherwise, is given these names", Category: groupData},
		&cli.StringFlag{Name: "label-column", Usage: "of several labels those of `NAME`: a column of Parquet, a key of JSON in tar shards, arrays of NumPy, coarse_label of CIFAR-100", Category: groupData},
		&cli.IntFlag{Name: "limit", DefaultText: "all", Usage: "use at most `N` samples in all", Category: groupData},
		&cli.IntFlag{Name: "per-label", DefaultText: "all", Usage: "use at most `N` samples of each label", Category: groupData},
		&cli.BoolFlag{Name: "balanced", Usage: "use as many samples of every label as the scarcest has", Category: groupData, DisableDefaultText: true},
		&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "seed of splits, heads and shuffles", Category: groupData},
	}
}

// noSubset is the flag of eval where it is refused: a filter's label means need
// samples of every label.
func noSubset() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: "subset", Hidden: true}}
}

func refuseSubset(c *cli.Context) error {
	if c.IsSet("subset") {
		return usage("--subset is for eval; what filters recognise is measured on samples of every label")
	}
	return nil
}

// runFlags say how a model is run; batch is what --batch means, else the default
// of it.
func runFlags(batch, otherwise string) []cli.Flag {
	return runFlagsWith(engineFlag(""), batch, otherwise)
}

func runFlagsWith(engine cli.Flag, batch, otherwise string) []cli.Flag {
	return slices.Concat([]cli.Flag{engine}, libraryFlags(), []cli.Flag{
		&cli.StringFlag{Name: "ep", Value: "cpu", Usage: "execution provider: cpu or cuda", Category: groupRun},
		&cli.BoolFlag{Name: "tf32", Usage: "with --ep cuda: round factors to 10 bits of mantissa, which is faster and changes results", Category: groupRun, DisableDefaultText: true},
		&cli.IntFlag{Name: "device-id", Usage: "number of the GPU", Category: groupRun},
		&cli.IntFlag{Name: "threads", Usage: "threads of one operator", Category: groupRun, DefaultText: "one per core"},
		&cli.IntFlag{Name: "batch", Usage: batch, Category: groupRun, DefaultText: otherwise},
	})
}

// runBatch and its default are what --batch means where a model is run.
const (
	runBatch        = "samples run at once"
	runBatchDefault = "100"
)

func libraryFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "runtime-library", Usage: "`PATH` of the ONNX Runtime library", Category: groupRun},
		&cli.BoolFlag{Name: "offline", Usage: "never fetch ONNX Runtime", Category: groupRun, DisableDefaultText: true},
	}
}

// measureFlags say how filters are measured, wherever that is done.
func measureFlags() []cli.Flag {
	r := probe.DefaultRecipe()
	return []cli.Flag{
		&cli.Float64Flag{Name: "theta", Value: afcc.DefaultTheta, Usage: "threshold of the clipped matrices, in [0,1)", Category: groupMeasure},
		&cli.IntFlag{Name: "epochs", Value: r.Epochs, Usage: "epochs of training the heads", Category: groupHeads, DefaultText: "10, more where there are few samples"},
		&cli.Float64Flag{Name: "head-rate", Value: r.LearningRate, Usage: "learning rate of the first epoch", Category: groupHeads},
		&cli.Float64Flag{Name: "head-decay", Value: r.Decay, Usage: "what each epoch multiplies it by", Category: groupHeads},
		&cli.IntFlag{Name: "head-batch", Value: r.Batch, Usage: "samples of a training step", Category: groupHeads},
		&cli.Float64Flag{Name: "momentum", Value: r.Momentum, Usage: "Nesterov momentum", Category: groupHeads},
		&cli.Float64Flag{Name: "l2", Value: r.L2, Usage: "L2 penalty", Category: groupHeads},
		&cli.Float64Flag{Name: "head-norm", Value: r.Norm, Usage: "length that feature vectors are scaled to", Category: groupHeads},
		&cli.StringFlag{Name: "memory", Value: "4GiB", Usage: "bound of features, heads and label means, like 4GB or 512MiB", Category: groupWork},
		&cli.IntFlag{Name: "max-side", DefaultText: "as they are", Usage: "average maps down to `N` x N before their heads", Category: groupWork},
	}
}

// tapFlags say what is measured.
func tapFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "taps", Usage: "measure `TAPS`: layer, stage (the last of each), all (inside layers, too), or names of layers or tensors, A,B or @FILE (default: layer)", Category: groupMeasure},
		&cli.StringSliceFlag{Name: "layers", Usage: "of these only layers `A,B`: names, their ends (features.40) or conv5, fc1; or those in @FILE, one a line", Category: groupMeasure},
		&cli.StringFlag{Name: "statistics", DefaultText: strings.Join(defaultStatistics(text), ",") + "; for html " + strings.Join(defaultStatistics(htmlOut)[2:], ",") + " as well",
			Usage: "`LIST` of " + strings.Join(statisticWords, ", ") + ", or all, none", Category: groupMeasure},
		&cli.StringFlag{Name: "filters", Usage: "print the filters of the layers measured with their clusters; --filters=`LAYER,...` chooses", Category: groupMeasure},
		&cli.BoolFlag{Name: "dry-run", Usage: "print what would be done, in which passes and how much memory; run nothing", Category: groupMeasure, DisableDefaultText: true},
	}
}

// showFlags say what is shown of a measurement, be it one that was saved.
func showFlags() []cli.Flag {
	return []cli.Flag{
		plotFlag(),
		&cli.StringFlag{Name: "stats", Usage: "show what was measured, from the `FILE`.json of -o, in the place of --data", Category: groupMeasure},
		&cli.BoolFlag{Name: "explain", Usage: "print what every number means, as a formula and from which paper, below the tables or alone", Category: groupMeasure, DisableDefaultText: true},
	}
}

// keepFlags say what of a measurement is kept, and used again.
func keepFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "resume", Usage: "keep in the folder `DIR` what has been found so far, and go on from there when it was interrupted", Category: groupWork},
		&cli.BoolFlag{Name: "fresh", Usage: "measure anew even where -o stats.json holds the answer", Category: groupWork, DisableDefaultText: true},
	}
}

func recipeOf(c *cli.Context) probe.Recipe {
	return probe.Recipe{
		Epochs: c.Int("epochs"), Batch: c.Int("head-batch"), LearningRate: c.Float64("head-rate"), Decay: c.Float64("head-decay"),
		Momentum: c.Float64("momentum"), L2: c.Float64("l2"), Norm: c.Float64("head-norm"),
	}
}

// namesOf returns the names given with a flag. A name that contains a comma can
// only be given in a file.
func namesOf(c *cli.Context, flag string) ([]string, error) {
	var names []string
	for _, v := range c.StringSlice(flag) {
		list, err := nameList(dashed(flag), v)
		if err != nil {
			return nil, err
		}
		names = append(names, list...)
	}
	if c.IsSet(flag) && len(names) == 0 {
		return nil, usage("%s names nothing", dashed(flag))
	}
	return names, nil
}

// resolve turns what a person calls layers into their names.
func resolve(m *inspect.Model, layers []string) []string {
	names := make([]string, len(layers))
	for i, l := range layers {
		names[i] = m.LayerName(l)
	}
	return names
}

// resolveTaps is resolve for names among which words stand that choose taps.
func resolveTaps(m *inspect.Model, taps []string) []string {
	names := resolve(m, taps)
	for i, t := range taps {
		if t == probe.TapsLayer || t == probe.TapsStage || t == probe.TapsAll {
			names[i] = t
		}
	}
	return names
}

func nameList(flag, value string) ([]string, error) {
	sep := ","
	if path, ok := strings.CutPrefix(value, "@"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		value, sep = string(b), "\n"
	}
	var names []string
	for _, n := range strings.Split(value, sep) {
		if n = strings.TrimSpace(n); n != "" {
			names = append(names, n)
		}
	}
	return names, nil
}

// inputShapes reads NAME:1,3,224,224. The name may contain colons, and be left
// out for a model of one input, which is then found under "".
func inputShapes(values []string) (map[string][]int64, error) {
	shapes := map[string][]int64{}
	for _, v := range values {
		name, list := "", v
		if i := strings.LastIndexByte(v, ':'); i >= 0 {
			name, list = v[:i], v[i+1:]
		}
		var dims []int64
		for _, d := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == 'x' }) {
			n, err := strconv.ParseInt(strings.TrimSpace(d), 10, 64)
			if err != nil || n < 1 {
				if d != "-1" && d != "?" {
					return nil, usage("--input-shape %q: %q is no dimension; write NAME:1,3,224,224", v, d)
				}
				n = -1
			}
			dims = append(dims, n)
		}
		if len(dims) == 0 {
			return nil, usage("--input-shape %q: no dimensions; write NAME:1,3,224,224", v)
		}
		if _, twice := shapes[name]; twice {
			return nil, usage("--input-shape names %q twice", name)
		}
		shapes[name] = dims
	}
	return shapes, nil
}

// shapeText writes what inputShapes reads.
func shapeText(name string, dims []int64) string {
	parts := make([]string, len(dims))
	for i, d := range dims {
		parts[i] = strconv.FormatInt(d, 10)
	}
	text := strings.Join(parts, ",")
	if name == "" {
		return text
	}
	return name + ":" + text
}

// dimSizes reads NAME=N.
func dimSizes(values []string) (map[string]int64, error) {
	dims := map[string]int64{}
	for _, v := range values {
		i := strings.LastIndexByte(v, '=')
		if i <= 0 {
			return nil, usage("--dim %q: write NAME=N", v)
		}
		n, err := strconv.ParseInt(v[i+1:], 10, 64)
		if err != nil || n < 1 {
			return nil, usage("--dim %q: %q is no size; write NAME=N", v, v[i+1:])
		}
		dims[v[:i]] = n
	}
	return dims, nil
}

// byteSize reads 4GB, 512MiB, 1000000.
func byteSize(flag, s string) (int64, error) {
	units := []struct {
		suffix string
		bytes  float64
	}{
		{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
		{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12},
		{"k", 1e3}, {"m", 1e6}, {"g", 1e9}, {"t", 1e12}, {"b", 1},
	}
	number, factor := strings.ToLower(strings.TrimSpace(s)), 1.0
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = n, u.bytes
			break
		}
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !(v*factor >= 1) || v*factor >= math.MaxInt64 {
		return 0, usage("%s %q: not a size; write one like 4GB or 512MiB", flag, s)
	}
	return int64(v * factor), nil
}

// positive refuses negative numbers of flags that count something.
func positive(c *cli.Context, names ...string) error {
	for _, n := range names {
		if c.Int(n) < 0 {
			return usage("%s %d: it cannot be negative", dashed(n), c.Int(n))
		}
	}
	return nil
}
