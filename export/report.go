package export

import (
	"fmt"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export/compact"
	"github.com/filterlens/filterlens/export/gradient"
	"github.com/filterlens/filterlens/export/refit"
)

// ReportSchema names the form of a Report as JSON.
const ReportSchema = "filterlens.prune/2"

// A Report says what Prune did, and answers three questions: whether the surgery is
// right (Checks, Compaction), what it cost (Steps, Drop, Changed), and whether it
// pays (Before, After).
type Report struct {
	Schema string `json:"schema"`
	Output string `json:"output"`
	// Plan is what was decided, without masks.
	Plan *Plan `json:"plan"`
	// Verified tells that every check passed, so that the file was written.
	Verified bool    `json:"verified"`
	Checks   []Check `json:"checks"`
	// Steps are the model with its connections cut and then each step of the
	// recovery, in order.
	Steps []Step `json:"steps"`
	// Samples says on which samples it was recovered and judged, nil without data.
	Samples *Samples `json:"samples"`
	// Compaction is nil when the plan is Dense.
	Compaction *Compaction `json:"compaction"`
	// Search is nil when the plan was not searched for.
	Search *Search `json:"search"`
	// Before and After hold the two sides, nil where something failed earlier.
	Before *Side `json:"before"`
	After  *Side `json:"after"`
	// Drop is the loss of top-1 accuracy in points, Changed the share of
	// evaluation samples with another answer; nil without samples.
	Drop    *float64 `json:"drop_points"`
	Changed *float64 `json:"changed"`
	// NewZeros counts the weights that the masks made zero and that were not.
	NewZeros int64 `json:"new_zeros"`
	// Engine, EngineVersion and Provider say what ran the models.
	Engine        string `json:"engine"`
	EngineVersion string `json:"engine_version"`
	Provider      string `json:"provider"`
	// Warnings are sentences that a reader must not miss.
	Warnings []string `json:"warnings,omitempty"`
}

// A Check is one thing that was verified on the written file, or on a temporary one
// on the way to it.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// A Side describes a model before or after.
type Side struct {
	// Bytes is the size of the file with its external data.
	Bytes int64 `json:"bytes"`
	// Parameters is the number of parameters stored, Zeros the share of the
	// weights of Conv, Gemm and MatMul that are zero.
	Parameters int64    `json:"parameters"`
	Zeros      *float64 `json:"zeros"`
	// MACs is what a dense runtime does for one sample, zeros included; nil
	// when a shape is not known.
	MACs *int64 `json:"macs"`
	// Latency is the time of a run with one sample, measured in turn with the other
	// side; nil when the size of the input is open and there are no samples.
	Latency *probe.Timing `json:"latency"`
	// Evaluation is nil without samples.
	Evaluation *probe.Evaluation `json:"evaluation"`
}

// Masked is the name of the first Step: connections and filters are cut, nothing is
// recovered yet.
const Masked = "masked"

// A Step is one step on the way from the masked model to the recovered one.
type Step struct {
	// Name is Masked or one of RecoverySteps.
	Name string `json:"step"`
	// Seconds is what it took, without its evaluation.
	Seconds float64 `json:"seconds"`
	// Skipped says why the step was left out, "" where it was not.
	Skipped string `json:"skipped,omitempty"`
	// Evaluation is that of the dense model after the step, on the evaluation split;
	// nil without samples.
	Evaluation *probe.Evaluation `json:"evaluation"`
	// Layers are what bias and ridge found for each layer, Head what training the
	// classifier came to, Training the epochs of finetune.
	Layers   []refit.LayerError `json:"layers,omitempty"`
	Head     *refit.HeadFit     `json:"head,omitempty"`
	Training *gradient.History  `json:"training,omitempty"`
}

// Samples says on which samples a model was recovered and on which it was judged.
type Samples struct {
	// Preprocess is what was done to an image, as dataset.ParsePreprocess reads it.
	Preprocess string `json:"preprocess"`
	// Fit and Stats are the splits that recovered, nil when no step ran, Eval the one
	// that judged.
	Fit   *Part `json:"fit"`
	Stats *Part `json:"stats"`
	Eval  *Part `json:"eval"`
}

// A Part is a split: how many samples, and the hash of their names and labels
// (dataset.Split.Hash).
type Part struct {
	Samples int    `json:"samples"`
	SHA256  string `json:"sha256"`
}

// Compaction says which channels went, and how far the compacted model's outputs are
// from those of the masked and recovered one.
type Compaction struct {
	// Channels counts those of all groups, Removed those that went.
	Channels int `json:"channels"`
	Removed  int `json:"removed"`
	// Groups are those that lost channels.
	Groups []CompactedGroup `json:"groups"`
	// Grouped are the convolutions whose masks fall into blocks, in the order in which
	// computing them in groups was tried; those that are faster so were kept so.
	Grouped []GroupedLayer `json:"grouped,omitempty"`
	// Barriers are the operators that fix channels, Refused filters that were asked for
	// and stay.
	Barriers []compact.Barrier `json:"barriers"`
	Refused  []compact.Refusal `json:"refused,omitempty"`
	// Nodes and Tensors count what nothing read any more.
	Nodes   int `json:"dropped_nodes"`
	Tensors int `json:"dropped_tensors"`
	// Tolerance is the largest relative difference that passes, Real and Noise what was
	// found on samples and on random inputs, nil where there were none.
	Tolerance float64     `json:"tolerance"`
	Real      *Difference `json:"real"`
	Noise     *Difference `json:"noise"`
}

// A CompactedGroup is a group of coupled channels of which some went.
type CompactedGroup struct {
	// Layers are those that make the channels.
	Layers []string `json:"layers"`
	Size   int      `json:"size"`
	Kept   int      `json:"kept"`
}

// A Difference is how far the outputs of two models are from each other.
type Difference struct {
	Samples int `json:"samples"`
	// Largest is the largest |b-a| of an output, Relative that divided by the largest
	// |a|.
	Largest  float64 `json:"largest"`
	Relative float64 `json:"relative"`

	// first are the outputs for the first input, varies tells that others are not these.
	first  []float32
	varies bool
}

// Search says how a plan was found.
type Search struct {
	// TargetMACs, TargetLatency and MaxDrop are what was asked for, nil where it was
	// not: shares of the original, and points.
	TargetMACs    *float64 `json:"target_macs"`
	TargetLatency *float64 `json:"target_latency"`
	MaxDrop       *float64 `json:"max_drop"`
	// Samples is how many measured the covariances behind the sensitivities.
	Samples int `json:"samples"`
	// Sensitivities are those of the groups, in file order.
	Sensitivities []Sensitivity `json:"sensitivities"`
	// Trials are the plans that were tried, in order.
	Trials []Trial `json:"trials"`
	// Met tells that the plan meets what was asked for.
	Met bool `json:"met"`
}

// A Sensitivity is what a group of filters costs when it alone loses some.
type Sensitivity struct {
	// Layer is FilterPlan.Layer, Removed the shares of its filters that were removed.
	Layer   string    `json:"layer"`
	Removed []float64 `json:"removed"`
	// Error is the share of the variance of what the layers make that read the filters
	// which is lost when the worst by the criterion are gone and those layers' weights
	// for the others are fitted anew, mean over them.
	Error []float64 `json:"error"`
	// MACs is what one filter less saves.
	MACs int64 `json:"macs"`
}

// A Trial is one plan that was tried.
type Trial struct {
	// Share is that of the filters that were to go in all groups together.
	Share float64 `json:"share"`
	// MACs and Latency are shares of the original's, nil where they were not measured.
	MACs    *float64 `json:"macs"`
	Latency *float64 `json:"latency"`
	// Drop is the loss of accuracy in points after recovery, on samples that recovery
	// did not see, Margin its standard error; both together must not exceed the loss
	// that is allowed, so that the evaluation split is likely to confirm it.
	Drop   *float64 `json:"drop_points"`
	Margin *float64 `json:"margin_points"`
	// OK tells that it meets what was asked for.
	OK bool `json:"ok"`
}

// A VerdictError says that a check failed and that nothing was written.
type VerdictError struct{ Check Check }

func (e *VerdictError) Error() string {
	return fmt.Sprintf("%s: %s; nothing was written", e.Check.Name, e.Check.Detail)
}

func (r *Report) check(name string, ok bool, format string, a ...any) error {
	c := Check{Name: name, OK: ok, Detail: fmt.Sprintf(format, a...)}
	r.Checks = append(r.Checks, c)
	if !ok {
		return &VerdictError{c}
	}
	return nil
}
