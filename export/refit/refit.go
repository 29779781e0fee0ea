// Package refit makes a diluted classifier answer like the one that it was made
// from, without gradients: it corrects the means of layers (Bias), fits the weights
// that are left by ridge regression (Ridge), and trains the classifier on features
// that do not change (Head). What is zero in the masked layers stays zero.
//
// The models are run by an engine, part by part; sums over samples are formed there
// too. Which weights fall is decided elsewhere, and new weights are handed back as
// numbers, by the names of the stored tensors, for Rewrite to put into a file. How
// gradients go through a network does not enter, nor does what removes channels.
package refit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// DefaultMemory is the memory limit of Options in bytes.
const DefaultMemory = 4 << 30

// DefaultHoldOut is the share of samples that no fit sees.
const DefaultHoldOut = 0.1

// Options say on which samples and how models are refitted. The zero value of a
// field but Index means its default.
type Options struct {
	Preprocess dataset.Preprocess
	// Index holds the numbers of the samples to use, those of the fitting split.
	Index []int
	// HoldOut is the share of Index that fits do not see and errors are measured
	// on; 0 means DefaultHoldOut. At least one batch is held out, and one is not.
	HoldOut float64
	// Seed draws the held-out samples, and positions of large maps.
	Seed uint64
	// Batch is the largest number of samples that are run at once, 0 means 100, or
	// fewer where the activations of so many would take more than a sixteenth of
	// Memory. Where the file fixes another number, that is taken, and samples that
	// do not fill a batch are left out.
	Batch int
	// Memory bounds the bytes held beside the models: activations that are kept
	// from layer to layer, and the sums and equations of one layer. Where it is too
	// small activations are computed again; a layer whose equations alone do not fit,
	// or whose weights take more than a quarter of it, is skipped. New weights of all
	// layers are held until the end. 0 means DefaultMemory.
	Memory int64
	// Lambda is the strength of the ridge, as a share of the mean variance of a
	// layer's inputs; 0 means DefaultLambda.
	Lambda float64
	// Observations is how many rows, samples times positions of the map, the
	// regression of a layer reads at least, as far as there are so many; positions
	// are drawn anew for each batch. 0 means DefaultObservations for each weight of
	// a filter, but 65,536 at least.
	Observations int64
	// Progress is told what is being done and how far it is; it must be quick.
	Progress func(stage string, done, total int)
}

// DefaultLambda is the strength of the ridge and DefaultObservations the number of
// rows for each weight of a filter, zeros included, unless Options say otherwise. On
// networks of VGG's kind held-out errors are least at a lambda of 0.01 to 0.03 and
// hardly larger from 0.0001 to 0.1.
const (
	DefaultLambda       = 1e-2
	DefaultObservations = 32
)

// minObservations is the least number of rows for a layer.
const minObservations = 1 << 16

func (o Options) withDefaults() (Options, error) {
	switch {
	case len(o.Index) == 0:
		return o, &OptionError{"there are no samples to fit on"}
	case !(o.HoldOut >= 0 && o.HoldOut < 1):
		return o, &OptionError{fmt.Sprintf("a share of %v cannot be held out; 0.1 is a tenth", o.HoldOut)}
	case !(o.Lambda >= 0) || o.Lambda > 1e6:
		return o, &OptionError{fmt.Sprintf("lambda %v is not a strength of a ridge; 0.01 is one", o.Lambda)}
	case o.Batch < 0 || o.Memory < 0 || o.Observations < 0:
		return o, &OptionError{"the batch, the memory and the number of observations must not be negative"}
	}
	if o.HoldOut == 0 {
		o.HoldOut = DefaultHoldOut
	}
	if o.Lambda == 0 {
		o.Lambda = DefaultLambda
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	return o, nil
}

// An OptionError says that what was asked for cannot be done.
type OptionError struct{ Reason string }

func (e *OptionError) Error() string { return e.Reason }

// An UnknownLayerError says that a model has no layer of a name.
type UnknownLayerError struct{ File, Layer string }

func (e *UnknownLayerError) Error() string {
	return fmt.Sprintf("%s has no layer %q in its main graph; inspect lists them", e.File, e.Layer)
}

// A LayerError says how far the output of a layer, before any activation, is from
// that of the original network for the same samples, which the fit did not see.
type LayerError struct {
	Layer string `json:"layer"`
	// Before and After are relative squared errors: sums of squared differences over
	// samples, positions and filters, divided by those of the original's outputs
	// from their means over samples and positions. 1 is what answering always the
	// mean would give. The layer reads what the layers before it give after their
	// own refit; Before is with the weights of the masked model.
	Before float64 `json:"error_before"`
	After  float64 `json:"error_after"`
	// Samples is how many were held out for the errors, Observations the number of
	// rows, samples times positions, of the fit.
	Samples      int   `json:"held_out_samples"`
	Observations int64 `json:"observations"`
	// Weights is how many of the layer's weights are not zero.
	Weights int64 `json:"weights"`
	// Method is "cholesky" or "conjugate gradients", with Iterations, or "mean".
	Method     string `json:"method,omitempty"`
	Iterations int    `json:"iterations,omitempty"`
	// Kept tells that the fit made the error larger, so that the layer stays as it
	// was.
	Kept bool `json:"kept,omitempty"`
	// Skipped is why the layer was left alone, "" where it was not; then all
	// numbers are zero.
	Skipped string `json:"skipped,omitempty"`
}

// errNoBatch says that no batch is left after samples that cannot be read.
var errNoBatch = errors.New("too few samples can be read to fit on one batch and to hold out another")

// A runner runs two networks, side by side, over the samples.
type runner struct {
	eng              engine.Engine
	set              *dataset.Set
	opt              Options
	tr               *dataset.Transform
	dims             []int64
	original, masked *network
	budget           budget
	// batches holds the samples, those to fit on first, from batch held on those
	// that are held out; once decoded tells that all of them can be read.
	batches [][]int
	labels  [][]int
	held    int
	decoded bool
	fixed   int
}

// newRunner prepares for models, of which original may be nil.
func newRunner(eng engine.Engine, original, masked *inspect.Model, set *dataset.Set, opt Options) (*runner, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &runner{eng: eng, set: set, opt: opt, budget: budget{limit: opt.Memory / 2}}
	survey, err := probe.NewSurvey(masked)
	if err != nil {
		return nil, err
	}
	if n := len(set.Labels()); n != survey.Labels {
		return nil, &probe.LabelMismatchError{Data: "the data set", Labels: n, Model: survey.Labels}
	}
	shape := make([]int64, len(survey.Input.Shape.Dims))
	for i, d := range survey.Input.Shape.Dims {
		shape[i] = d.Value
	}
	if r.tr, err = opt.Preprocess.Transform(shape); err != nil {
		return nil, fmt.Errorf("input %q of shape %s: %w", survey.Input.Name, survey.Input.Shape, err)
	}
	r.dims = []int64{int64(r.tr.Channels), int64(r.tr.Height), int64(r.tr.Width)}
	if r.tr.Layout == dataset.NHWC {
		r.dims = []int64{r.dims[1], r.dims[2], r.dims[0]}
	}
	r.masked = newNetwork(masked, eng, survey.Input.Name, &r.budget)
	if original != nil {
		if len(original.Inputs) != 1 || original.Inputs[0].DType != survey.Input.DType || len(original.Inputs[0].Shape.Dims) != 4 {
			return nil, &OptionError{fmt.Sprintf("the input of %s is not that of %s", original.File, masked.File)}
		}
		r.original = newNetwork(original, eng, original.Inputs[0].Name, &r.budget)
	}
	r.fixed = survey.Batch
	r.plan()
	if len(r.batches) == 0 {
		return nil, &OptionError{fmt.Sprintf("%d samples do not fill a batch to fit on and one to hold out, of %d as the file fixes it", len(opt.Index), max(r.fixed, 1))}
	}
	return r, nil
}

// plan cuts the samples into batches.
func (r *runner) plan() {
	size := r.opt.Batch
	if size == 0 {
		size = 100
		largest := int64(1)
		for _, n := range []*network{r.original, r.masked} {
			if n == nil {
				continue
			}
			for i := range n.m.Layers {
				if b := n.m.Layers[i].OutBytes; b != nil {
					largest = max(largest, *b)
				}
			}
		}
		size = int(max(1, min(int64(size), r.opt.Memory/16/largest)))
	}
	if r.fixed > 0 {
		size = r.fixed
	}
	index := slices.Clone(r.opt.Index)
	rand.New(rand.NewPCG(r.opt.Seed, 0x6f1d)).Shuffle(len(index), func(i, j int) { index[i], index[j] = index[j], index[i] })
	held := int(r.opt.HoldOut*float64(len(index)) + 0.5)
	held = min(max(held, 1), len(index)-1)
	if r.fixed > 0 {
		held = (held + size - 1) / size * size
	}
	if held < 1 || held >= len(index) {
		return
	}
	fit := dataset.Sequential(index[:len(index)-held], min(size, len(index)-held))
	out := dataset.Sequential(index[len(index)-held:], min(size, held))
	if r.fixed > 0 {
		full := func(b []int) bool { return len(b) != size }
		fit, out = slices.DeleteFunc(fit, full), slices.DeleteFunc(out, full)
		if len(fit) == 0 || len(out) == 0 {
			return
		}
	}
	r.batches, r.held = append(fit, out...), len(fit)
}

// samples returns how many samples the batches [from, to) have.
func (r *runner) samples(from, to int) int {
	n := 0
	for _, b := range r.batches[from:to] {
		n += len(b)
	}
	return n
}

// each calls fn for the batches [from, to) in order, with their images where needed.
// The first call must be for all of them and need images: it finds out which samples
// can be read. Images are valid during the call of fn.
func (r *runner) each(ctx context.Context, stage string, from, to int, images bool, fn func(i int, held bool, image func() (*engine.Tensor, error)) error) error {
	total := r.samples(from, to)
	done := 0
	r.opt.Progress(stage, 0, total)
	noImage := func() (*engine.Tensor, error) { return nil, errors.New("an image that was not expected to be needed") }
	if !images && r.decoded {
		for i := from; i < to; i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(i, i >= r.held, noImage); err != nil {
				return err
			}
			done += len(r.batches[i])
			r.opt.Progress(stage, done, total)
		}
		return nil
	}
	heldSample := map[int]bool{}
	for _, b := range r.batches[r.held:] {
		for _, i := range b {
			heldSample[i] = true
		}
	}
	var read, labels [][]int
	fit := 0
	i := from
	for b, err := range r.set.Batches(ctx, r.batches[from:to], r.tr, 0) {
		if err != nil {
			return err
		}
		if r.decoded && !slices.Equal(b.Index, r.batches[i]) {
			return fmt.Errorf("samples that could be read no longer can, among them %s; try again when nothing changes them", r.set.ID(r.batches[i][0]))
		}
		n := len(b.Index)
		if r.fixed > 0 && n != r.fixed {
			continue
		}
		if !r.decoded {
			read, labels = append(read, slices.Clone(b.Index)), append(labels, slices.Clone(b.Labels))
			if !heldSample[b.Index[0]] {
				fit++
			}
		}
		image := func() (*engine.Tensor, error) {
			return engine.NewFloat32(b.X, append([]int64{int64(n)}, r.dims...)...), nil
		}
		if err := fn(i, heldSample[b.Index[0]], image); err != nil {
			return err
		}
		i++
		done += n
		r.opt.Progress(stage, done, total)
	}
	if !r.decoded {
		r.batches, r.labels, r.held, r.decoded = read, labels, fit, true
		if r.held == 0 || r.held == len(r.batches) {
			return errNoBatch
		}
	}
	return ctx.Err()
}
