package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Schema names the form of a Result as JSON. It changes when a reader of the
// old form would misread the new one.
const Schema = "filterlens.stats/1"

// A Result is everything that Measure found, and everything that a later
// pruning needs. As JSON it is read back by ReadResult without loss.
type Result struct {
	Schema string `json:"schema"`
	// Method is that of the package when the result was made, 0 in files of older
	// versions.
	Method int `json:"method,omitempty"`
	// Model is the file measured, ModelSHA256 the hash of its bytes.
	Model       string `json:"model"`
	ModelSHA256 string `json:"model_sha256"`
	// Input is the shape of one sample as it was run, [C, H, W] or [H, W, C].
	Input []int64 `json:"input,omitempty"`
	Data  Data    `json:"data"`
	// Engine, EngineVersion and Provider say what ran the graphs.
	Engine        string `json:"engine"`
	EngineVersion string `json:"engine_version"`
	Provider      string `json:"provider"`
	// Nodes counts the nodes of the graphs that were run by the provider that ran
	// them, as the engine tells; empty where it does not.
	Nodes map[string]int `json:"nodes,omitempty"`
	// Elsewhere names nodes that another provider than Provider ran, each as its
	// operator and its name, the first 20 of them.
	Elsewhere []string `json:"elsewhere,omitempty"`
	// Theta is the threshold of the clipped matrices, Recipe how heads were
	// trained.
	Theta  float64 `json:"theta"`
	Seed   uint64  `json:"seed"`
	Recipe Recipe  `json:"recipe"`
	// Asked says which further statistics were wanted.
	Asked Asked `json:"asked,omitzero"`
	// Accuracy is the model's own top-1 accuracy on the evaluation split, a
	// share, and Chance that of always answering the commonest label of the split:
	// 1/K where each label has as many samples, more where not.
	Accuracy float64 `json:"accuracy"`
	Chance   float64 `json:"chance"`
	// PerLabel is the same accuracy on the samples of each label, nil for a label
	// that has none in the evaluation split; empty in files of older versions.
	PerLabel []*float64 `json:"per_label_accuracy,omitempty"`
	// Layers in file order, and the layers that were not measured.
	Layers  []Layer `json:"layers"`
	Skipped []Skip  `json:"skipped,omitempty"`
	// LeftOut are statistics that were not measured because of what they would have
	// taken.
	LeftOut []LeftOut `json:"left_out,omitempty"`
	// Warnings are sentences that a reader must not miss.
	Warnings []string `json:"warnings,omitempty"`
}

// Data describes the samples of a Result.
type Data struct {
	Path   string   `json:"path"`
	Format string   `json:"format"`
	Labels []string `json:"labels"`
	// Samples counts those of the data set, Unreadable the files that were left
	// out because they hold no image; Skipped names them.
	Samples    int               `json:"samples"`
	Unreadable int               `json:"unreadable"`
	Skipped    []dataset.Skipped `json:"skipped,omitempty"`
	// Preprocess is what was done to an image, as dataset.ParsePreprocess reads it.
	Preprocess string `json:"preprocess"`
	// Split says how the samples were drawn; with Result.Seed it gives the same
	// splits again.
	Split Split `json:"split"`
	// Fit trained the heads, Stats gave the label means, Eval the accuracies.
	Fit   Part `json:"fit"`
	Stats Part `json:"stats"`
	Eval  Part `json:"eval"`
	// Repeated counts the evaluation samples whose content is also in Fit or Stats.
	Repeated int `json:"repeated"`
}

// Split holds the settings of dataset.SplitOptions but for the seed.
type Split struct {
	FitShare   float64 `json:"fit_share"`
	StatsShare float64 `json:"stats_share"`
	EvalShare  float64 `json:"eval_share"`
	Limit      int     `json:"limit"`
	PerLabel   int     `json:"per_label"`
	Balanced   bool    `json:"balanced,omitempty"`
}

// Options returns the settings for drawing the splits again.
func (s Split) Options(seed uint64) dataset.SplitOptions {
	return dataset.SplitOptions{Seed: seed, Fit: s.FitShare, Stats: s.StatsShare, Eval: s.EvalShare, Limit: s.Limit, PerLabel: s.PerLabel, Balanced: s.Balanced}
}

// A Part is a split as it was used.
type Part struct {
	Samples int `json:"samples"`
	// MinPerLabel and MaxPerLabel are the smallest and largest number of
	// samples of one label.
	MinPerLabel int `json:"min_per_label"`
	MaxPerLabel int `json:"max_per_label"`
	// SHA256 is of the names and labels (dataset.Split.Hash), Content of the
	// samples too (dataset.Set.Digest), "" in files of older versions and for a
	// split that was not needed.
	SHA256  string `json:"sha256"`
	Content string `json:"content_sha256,omitempty"`
}

// A Layer is the row of one tap.
type Layer struct {
	Tap
	// Head says how the head came about: "trained" or "classifier", the model's own.
	Head string `json:"head"`
	// Accuracy is the head's top-1 accuracy on the evaluation split, a share;
	// for the model's own classifier that of the model.
	Accuracy float64 `json:"accuracy"`
	// PerLabel is the same on the samples of each label, as Result.PerLabel.
	PerLabel []*float64 `json:"per_label_accuracy,omitempty"`
	// Loss is the mean cross-entropy of the last epoch on the fitting split, in
	// nats, nil for the model's own classifier. Norm is the root mean square
	// length to which feature vectors, Outliers shortened, were scaled for training.
	Loss *float64 `json:"loss"`
	Norm float64  `json:"norm,omitempty"`
	// Outliers is nil where no sample's features are much longer than those of others,
	// and for the model's own classifier.
	Outliers *Outliers `json:"outliers,omitempty"`
	// Stats is the row of statistics at Result.Theta, Filters what it is made of.
	Stats   afcc.Stats    `json:"stats"`
	Filters []afcc.Filter `json:"filters"`
	// Sweep is the row at each of Options.Thetas, ascending.
	Sweep []afcc.Stats `json:"sweep,omitempty"`
	// Stability says which label sets return on other samples, Order what the
	// order of the labels changes, nil when it was not asked for.
	Stability *afcc.Stability  `json:"stability,omitempty"`
	Order     *afcc.LabelOrder `json:"label_order,omitempty"`
	// Confusion says whether the head takes labels of one cluster for each other.
	Confusion *afcc.ClusterConfusion `json:"confusion,omitempty"`
	// Single is what each filter does alone, in the order of Filters.
	Single []SingleFilter `json:"single_filter,omitempty"`
	// Top holds for each filter the samples of the evaluation split with the
	// largest mean activation over its positions, the largest first.
	Top [][]TopSample `json:"top_samples,omitempty"`
}

// SingleFilter is the accuracy of a head of which only one filter speaks
// (afcc.FilterHits), on the evaluation split. A filter with one position that is
// never negative has the same largest output for every sample, so that it is right
// on one label at most.
type SingleFilter struct {
	// Accuracy is the share of hits among all samples, Own that among samples of
	// the filter's labels, nil where there are none.
	Accuracy *float64 `json:"accuracy"`
	Own      *float64 `json:"own_labels"`
}

// A TopSample is a sample that a filter answers strongly.
type TopSample struct {
	// Sample is its number in the data set, ID its name there.
	Sample int    `json:"sample"`
	ID     string `json:"id"`
	Label  int    `json:"label"`
	// Activation is the mean over the filter's positions.
	Activation float64 `json:"activation"`
}

// Fields holds what the field matrices of a layer's filters are made of; the
// slices are K x F x P, row-major, as for afcc.FieldMatrix.
type Fields struct {
	W, Means []float32
	K, F, P  int
}

// Matrix writes the field matrix of a filter (K x K, row = input label, column =
// output) to dst, which is allocated when it is too short, and returns it.
func (f Fields) Matrix(dst []float32, filter int) []float32 {
	if cap(dst) < f.K*f.K {
		dst = make([]float32, f.K*f.K)
	}
	dst = dst[:f.K*f.K]
	afcc.FieldMatrix(dst, f.W, f.Means, f.K, f.F, f.P, filter)
	return dst
}

// Recipe says how heads are trained (method.md, "Heads").
type Recipe struct {
	// Epochs is the number of passes over the fitting split. 0 lets Measure
	// choose: ten, or as many as make 400 steps where the split is small.
	Epochs int `json:"epochs"`
	Batch  int `json:"batch"`
	// LearningRate is that of the first epoch; each epoch multiplies it by Decay.
	LearningRate float64 `json:"learning_rate"`
	Decay        float64 `json:"decay"`
	Momentum     float64 `json:"momentum"`
	L2           float64 `json:"l2"`
	// Norm is the root mean square length to which the feature vectors of each
	// tap are scaled, so that one learning rate suits layers whose activations
	// differ by orders of magnitude; vectors over 5 times as long as the median are
	// shortened to that first. The scale is folded back into the weights.
	Norm float64 `json:"norm"`
}

// The least that DefaultRecipe trains.
const (
	minEpochs = 10
	minSteps  = 400
)

// epochsFor returns the number of epochs for a fitting split of n samples.
func (r Recipe) epochsFor(n int) int {
	if r.Epochs > 0 {
		return r.Epochs
	}
	steps := max(1, (n+r.Batch-1)/r.Batch)
	return max(minEpochs, (minSteps+steps-1)/steps)
}

// DefaultRecipe returns the recipe of arXiv:2309.07537 with the choices that it
// leaves open: the number of epochs, and feature vectors scaled to a length of 10.
func DefaultRecipe() Recipe {
	return Recipe{Batch: 100, LearningRate: 0.01, Decay: 0.975, Momentum: 0.975, L2: 1e-3, Norm: 10}
}

// ErrNotStats says that a file is no saved Result.
var ErrNotStats = errors.New("not a statistics file; make one with inspect MODEL --data DIR -o stats.json")

// ReadResult reads a Result that was written as JSON and checks that its parts
// fit each other.
func ReadResult(r io.Reader) (*Result, error) {
	var res Result
	dec := json.NewDecoder(r)
	if err := dec.Decode(&res); err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrNotStats, err)
	}
	if res.Schema != Schema {
		return nil, fmt.Errorf("%w (schema %q, %q is expected)", ErrNotStats, res.Schema, Schema)
	}
	k := len(res.Data.Labels)
	if err := afcc.CheckTheta(res.Theta); err != nil {
		return nil, err
	}
	if !isShare(&res.Accuracy) || !isShare(&res.Chance) {
		return nil, fmt.Errorf("%w (an accuracy of %v where chance is %v)", ErrNotStats, res.Accuracy, res.Chance)
	}
	if err := checkShares(res.PerLabel, k); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNotStats, err)
	}
	for i := range res.Layers {
		if err := res.Layers[i].check(k, res.Data.Samples, res.Theta); err != nil {
			return nil, fmt.Errorf("%w (tensor %q: %w)", ErrNotStats, res.Layers[i].Tensor, err)
		}
	}
	return &res, nil
}

// Layer returns the row of the tap on that tensor, nil when there is none.
func (r *Result) Layer(tensor string) *Layer {
	for i := range r.Layers {
		if r.Layers[i].Tensor == tensor {
			return &r.Layers[i]
		}
	}
	return nil
}

// An OtherModelError says that statistics were measured on another model.
type OtherModelError struct{ Model, Measured string }

func (e *OtherModelError) Error() string {
	return fmt.Sprintf("the statistics were measured on another file (%s) than %s; measure this one", e.Measured, e.Model)
}

// CheckModel reads the bytes of a model, external data included, and returns an
// *OtherModelError unless they are those that r was measured on.
func (r *Result) CheckModel(ctx context.Context, f *onnxfile.File) error {
	sum, err := f.SHA256(ctx)
	if err == nil && sum != r.ModelSHA256 {
		err = &OtherModelError{Model: f.Name, Measured: r.Model}
	}
	return err
}
