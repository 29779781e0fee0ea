// Package export makes a plan real: it decides which connections of a model
// fall, writes the diluted model beside the original, proves that nothing else
// changed and measures what it cost.
//
// How label sets come about is the business of afcc and afcc/probe; how a
// report looks does not enter.
package export

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export/criterion"
	"github.com/filterlens/filterlens/inspect"
)

// PlanSchema names the form of a Plan as JSON.
const PlanSchema = "filterlens.plan/2"

// The criteria by which connections and filters are ordered.
const (
	// AFCC keeps a connection whose two ends share a label, and the filters whose
	// clusters have the least noise.
	AFCC = "afcc"
	// Random is AFCC with each filter's labels replaced by random ones, as many at
	// every threshold; whole filters are drawn. Magnitude orders kernels and filters
	// by their Euclidean norm. Activation orders filters by the root mean square of
	// what they hand on, and kernels by their norm times that of the filter that they
	// read (Sun et al., arXiv 2306.11695, with kernels for weights). These are
	// controls: they drop as many connections of each layer as AFCC does.
	Random     = "random"
	Magnitude  = "magnitude"
	Activation = "activation"
	// Weighted orders connections by label clusters, weights and activations together
	// (criterion.Weighted) and keeps the best of each output, as many as AFCC keeps of
	// the layer. It does not order whole filters.
	Weighted = "weighted"
	// Reconstruction orders whole filters, and nothing else: those go first that the
	// layers which read them can best do without once their weights for the others
	// are fitted anew. It uses no labels. See PlanOptions.Moments and, for what was
	// measured, the planner's reconstruction.
	Reconstruction = "reconstruction"
)

// The targets of a plan.
const (
	// Classifier is the linear layer that makes the logits, with any hidden
	// fully connected layers before it.
	Classifier = "fc"
	Conv       = "conv"
	Both       = "both"
)

// The steps of a recovery, in the order in which they run.
const (
	// RecoverBias corrects the means of layers (refit.Bias), RecoverRidge fits the
	// weights that are left layer by layer (refit.Ridge), RecoverHead trains the
	// classifier (refit.Head), RecoverFinetune all weights (gradient.Train).
	RecoverBias     = "bias"
	RecoverRidge    = "ridge"
	RecoverHead     = "head"
	RecoverFinetune = "finetune"
	// RecoverNone stands alone: no step.
	RecoverNone = "none"
)

// RecoverySteps returns the steps of a recovery in the order in which they run.
func RecoverySteps() []string {
	return []string{RecoverBias, RecoverRidge, RecoverHead, RecoverFinetune}
}

// PlanOptions say what is to fall, and how the loss is made good.
type PlanOptions struct {
	Target    string // Classifier, Conv or Both
	Criterion string // AFCC, Weighted, Random, Magnitude, Activation or Reconstruction
	// Layers restricts the plan to the layers of these names, none when empty.
	Layers []string
	// Theta is the threshold. Dilution, when above 0, replaces it: each layer
	// then gets the smallest threshold that drops at least this share of its
	// connections.
	Theta    float64
	Dilution float64
	// FiltersKeep, when above 0, removes whole filters: of each group of filters that
	// can only go together this share stays, the best by Criterion, one at least.
	// Connections then fall only where Dilution is given too.
	FiltersKeep float64
	// GroupsKeep is the same for single groups, by the first layer that makes each
	// (FilterPlan.Layer); it comes before FiltersKeep.
	GroupsKeep map[string]float64
	// RoundTo keeps numbers of filters that are multiples of it, as far as a layer has
	// so many, by keeping more; 1 keeps any number. 0 stands for DefaultRoundTo where
	// whole filters go, else for any number.
	RoundTo int
	// Seed draws the labels of Random, and its filters.
	Seed uint64
	// Activity holds the root mean square of each filter of a tap, by the name of its
	// tensor, as Activity measures it. Activation and Weighted need it.
	Activity map[string][]float64
	// Moments holds the covariances of the filters of taps, by the names of their
	// tensors, as MeasureMoments measures them. Reconstruction needs it.
	Moments map[string]*Moments
	// Recover are the steps of the recovery, in any order; nil stands for bias, ridge
	// and head where there are samples, as far as the model allows.
	Recover []string
	// Dense keeps all channels that were not asked for, so that tensors keep their
	// shapes. It does not go with FiltersKeep.
	Dense bool

	// ranked keeps the scores of groups, by FilterPlan.Layer, from plan to plan of one
	// model and criterion; nil keeps none.
	ranked map[string]ranking
}

// DefaultRoundTo is what numbers of filters are multiples of where whole filters go
// and PlanOptions.RoundTo is 0. ONNX Runtime computes convolutions on CPUs in blocks of
// 8 or 16 channels: EfficientNet-B0 with half of its filters, in odd numbers, took
// longer than the whole model, and less time in multiples of 8.
const DefaultRoundTo = 8

// A Plan says which connections and filters of a model fall, why others cannot,
// and what is done about the loss. It is everything that pruning decides: as JSON
// it is read back by ReadPlan, and applied to the same model with the same samples
// it gives the same file.
type Plan struct {
	Schema      string `json:"schema"`
	Model       string `json:"model"`
	ModelSHA256 string `json:"model_sha256"`
	Criterion   string `json:"criterion"`
	Target      string `json:"target"`
	// Theta is the threshold of all layers, nil when Dilution chose one for each or
	// only whole filters fall.
	Theta    *float64 `json:"theta"`
	Dilution *float64 `json:"dilution"`
	// FiltersKeep is the share of filters that was to stay, nil when none were to go.
	FiltersKeep *float64 `json:"filters_keep"`
	RoundTo     int      `json:"round_to,omitempty"`
	Seed        uint64   `json:"seed"`
	// Recover are the steps of the recovery in the order in which they run, nil when
	// they are those that the data and the model allow.
	Recover []string `json:"recover"`
	// Dense keeps all channels that were not asked for.
	Dense bool `json:"dense,omitempty"`
	// Layers that are diluted and layers that are not, in file order.
	Layers  []LayerPlan `json:"layers"`
	Blocked []Blocked   `json:"blocked,omitempty"`
	// Filters are the groups that lose whole filters.
	Filters []FilterPlan `json:"filters,omitempty"`
	// Connections, Kept: totals over Layers.
	Connections int `json:"connections"`
	Kept        int `json:"kept"`
	// Elements counts the weights of Layers, Dropped those that are set to zero.
	Elements int64 `json:"elements"`
	Dropped  int64 `json:"dropped"`
	// Warnings are sentences that a reader must not miss.
	Warnings []string `json:"warnings,omitempty"`
}

// A LayerPlan is what happens to one layer.
type LayerPlan struct {
	Layer string `json:"layer"`
	Op    string `json:"op"`
	// Rule is "classifier" (keep W[j, f] iff j is a label of f) or "filters"
	// (keep the kernel from f' to f iff both share a label).
	Rule   string `json:"rule"`
	Weight string `json:"weight"`
	// In and Out are the tensors on which the label sets of the input and the
	// output filters were measured; Out is empty for the classifier.
	In  string `json:"in"`
	Out string `json:"out,omitempty"`
	// Theta is the layer's threshold.
	Theta float64 `json:"theta"`
	// Rows counts outputs, Cols input filters, Inner the weights of one connection;
	// Transposed tells that the weight is stored as (Cols*Inner) x Rows.
	Rows       int  `json:"rows"`
	Cols       int  `json:"cols"`
	Inner      int  `json:"inner"`
	Transposed bool `json:"transposed,omitempty"`
	// Connections = output rows x input filters, Kept of them stay, Dilution is
	// the share that falls.
	Connections int     `json:"connections"`
	Kept        int     `json:"kept"`
	Dilution    float64 `json:"dilution"`
	// Elements is the size of the weight, Dropped the elements set to zero.
	Elements int64 `json:"elements"`
	Dropped  int64 `json:"dropped"`
	// CutOutputs counts the output rows that no connection is left for,
	// CutInputs the input filters that nothing of the layer reads any more.
	CutOutputs int `json:"cut_outputs"`
	CutInputs  int `json:"cut_inputs"`
	// Mask has a bit for each connection, row by row, from the lowest bit of the first
	// byte on: 1 stays. The plan of a Report has none.
	Mask []byte `json:"mask,omitempty"`
}

// A FilterPlan is a group of filters that can only go together, some of which go.
type FilterPlan struct {
	// Layer makes the filters, Coupled are layers whose filters go with them.
	Layer   string   `json:"layer"`
	Coupled []string `json:"coupled,omitempty"`
	// Size is the number of filters in the group, Kept of them stay.
	Size int `json:"size"`
	Kept int `json:"kept"`
	// Removed are the numbers of those of Layer that go, the least first; Scores are
	// theirs, KeptScore is the least of one that stays. Scores are means over the
	// layers of the group, in each of which they are divided by the layer's mean.
	Removed   []int     `json:"removed"`
	Scores    []float64 `json:"scores,omitempty"`
	KeptScore float64   `json:"kept_score"`
}

// A Blocked layer stays as it is.
type Blocked struct {
	Layer  string `json:"layer"`
	Reason string `json:"reason"`
}

// layout says where the weights of a connection lie in a weight tensor.
type layout struct {
	rows, cols int
	// inner is the number of weights of a connection: kernel height times width
	// for a convolution, positions for a fully connected layer.
	inner int
	// transposed: the tensor is stored as (cols*inner) x rows.
	transposed bool
}

func (l *LayerPlan) layout() layout { return layout{l.Rows, l.Cols, l.Inner, l.Transposed} }

// kept tells whether the connection from input c to output r stays.
func (l *LayerPlan) kept(r, c int) bool {
	i := r*l.Cols + c
	return l.Mask[i/8]>>(i%8)&1 == 1
}

func (l layout) elements() int64 { return int64(l.rows) * int64(l.cols) * int64(l.inner) }

// connection returns the row and column that element e belongs to.
func (l layout) connection(e int64) (row, col int) {
	if l.transposed {
		return int(e % int64(l.rows)), int(e / int64(l.rows) / int64(l.inner))
	}
	q := e / int64(l.inner)
	return int(q / int64(l.cols)), int(q % int64(l.cols))
}

// run returns how many elements from e on belong to the same connection.
func (l layout) run(e int64) int64 {
	if l.transposed {
		return 1
	}
	return int64(l.inner) - e%int64(l.inner)
}

// An OptionError says that what was asked for cannot be planned.
type OptionError struct{ Reason string }

func (e *OptionError) Error() string { return e.Reason }

// A QuantizedError says that a model is quantized, so that its weights are no longer
// what a plan is about.
type QuantizedError struct{ File, Node, Op string }

func (e *QuantizedError) Error() string {
	return fmt.Sprintf("%s: node %q (%s): the model is quantized; prune the model that it was made from, then quantize again", e.File, e.Node, e.Op)
}

// checkNotQuantized refuses a model that computes with quantized numbers.
func checkNotQuantized(m *inspect.Model) error {
	for _, n := range m.Graph.Nodes {
		switch n.Op {
		case "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
			"QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool", "QGemm", "MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention":
			return &QuantizedError{m.File, n.Label(), n.Op}
		}
	}
	return nil
}

func (opt *PlanOptions) check() error {
	bad := func(format string, a ...any) error { return &OptionError{fmt.Sprintf(format, a...)} }
	switch {
	case !slices.Contains([]string{Classifier, Conv, Both}, opt.Target):
		return bad("unknown target %q; use fc, conv or both", opt.Target)
	case !slices.Contains([]string{AFCC, Random, Magnitude, Activation, Weighted, Reconstruction}, opt.Criterion):
		return bad("unknown criterion %q; use afcc, weighted, random, magnitude, activation or reconstruction", opt.Criterion)
	case math.IsNaN(opt.Dilution) || opt.Dilution < 0 || opt.Dilution >= 1:
		return bad("dilution %v is not a share below 1; 0.9 drops nine of ten connections", opt.Dilution)
	case math.IsNaN(opt.FiltersKeep) || opt.FiltersKeep < 0 || opt.FiltersKeep > 1:
		return bad("filters to keep: %v is not a share of at most 1; 0.5 keeps every other filter", opt.FiltersKeep)
	case opt.RoundTo < 0:
		return bad("numbers of filters cannot be rounded to multiples of %d", opt.RoundTo)
	case opt.Dense && opt.wholeFilters():
		return bad("whole filters cannot be removed from a model that is to stay dense")
	case (opt.Criterion == Activation || opt.Criterion == Weighted) && opt.Activity == nil:
		return bad("the criterion %s needs samples to measure activations on; give --data", opt.Criterion)
	case opt.Criterion == Weighted && opt.wholeFilters():
		return bad("the criterion weighted orders connections, not whole filters; use reconstruction, afcc, magnitude or activation")
	case opt.Criterion == Reconstruction && (!opt.wholeFilters() || opt.Dilution > 0):
		return bad("the criterion reconstruction orders whole filters, not connections; give the share of filters to keep and no dilution")
	case opt.Criterion == Reconstruction && opt.Moments == nil:
		return bad("the criterion reconstruction needs samples to measure covariances on; give --data")
	}
	for layer, keep := range opt.GroupsKeep {
		if !(keep > 0 && keep <= 1) {
			return bad("filters to keep of layer %s: %v is not a share above 0 and of at most 1", layer, keep)
		}
	}
	if _, err := recoverySteps(opt.Recover); err != nil {
		return err
	}
	return afcc.CheckTheta(opt.Theta)
}

// wholeFilters tells whether filters are to be removed.
func (opt *PlanOptions) wholeFilters() bool { return opt.FiltersKeep > 0 || len(opt.GroupsKeep) > 0 }

// recoverySteps puts the steps asked for in order; nil stays nil, none is empty.
func recoverySteps(asked []string) ([]string, error) {
	if asked == nil {
		return nil, nil
	}
	steps := []string{}
	for _, s := range asked {
		if s == RecoverNone {
			if len(asked) > 1 {
				return nil, &OptionError{"recovery: none does not go with other steps"}
			}
			return steps, nil
		}
		if !slices.Contains(RecoverySteps(), s) {
			return nil, &OptionError{fmt.Sprintf("unknown recovery step %q; use bias, ridge, head, finetune or none", s)}
		}
	}
	for _, s := range RecoverySteps() {
		if slices.Contains(asked, s) {
			steps = append(steps, s)
		}
	}
	return steps, nil
}

// NewPlan decides which connections and filters of m fall by the statistics res,
// which must have been measured on the same file. res may be nil where only whole
// filters fall, by another criterion than AFCC. A quantized model is a
// *QuantizedError, what cannot be asked for an *OptionError.
func NewPlan(ctx context.Context, m *inspect.Model, res *probe.Result, opt PlanOptions) (*Plan, error) {
	p, err := newPlan(ctx, m, res, opt)
	if err == nil && len(p.Layers) == 0 && len(p.Filters) == 0 {
		why := ""
		if len(p.Blocked) > 0 {
			why = fmt.Sprintf(" (%s: %s)", p.Blocked[0].Layer, p.Blocked[0].Reason)
		}
		err = &OptionError{fmt.Sprintf("nothing of %s can be pruned with target %s%s", m.File, opt.Target, why)}
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// newPlan is NewPlan, but that nothing may fall.
func newPlan(ctx context.Context, m *inspect.Model, res *probe.Result, opt PlanOptions) (*Plan, error) {
	bad := func(format string, a ...any) (*Plan, error) { return nil, &OptionError{fmt.Sprintf(format, a...)} }
	if err := opt.check(); err != nil {
		return nil, err
	}
	kernels := !opt.wholeFilters() || opt.Dilution > 0
	if opt.wholeFilters() && opt.RoundTo == 0 {
		opt.RoundTo = DefaultRoundTo
	}
	if res == nil && (kernels || opt.Criterion == AFCC) {
		return bad("the plan needs statistics of the model; give --stats or --data")
	}
	if err := checkNotQuantized(m); err != nil {
		return nil, err
	}
	survey, err := probe.NewSurvey(m)
	if err != nil {
		return nil, err
	}
	p := &Plan{Schema: PlanSchema, Model: m.File, Criterion: opt.Criterion, Target: opt.Target, Seed: opt.Seed, RoundTo: opt.RoundTo, Dense: opt.Dense, Layers: []LayerPlan{}}
	if p.Recover, err = recoverySteps(opt.Recover); err != nil {
		return nil, err
	}
	if res != nil {
		if k := len(res.Data.Labels); k != survey.Labels {
			return bad("the statistics are of %d labels, the model has %d outputs", k, survey.Labels)
		}
		p.ModelSHA256 = res.ModelSHA256
	} else if p.ModelSHA256, err = m.Handle.SHA256(ctx); err != nil {
		return nil, err
	}
	pl := &planner{m: m, survey: survey, res: res, opt: opt}
	asked := map[string]bool{}
	for _, l := range opt.Layers {
		asked[l] = false
	}
	if kernels {
		if opt.Dilution > 0 {
			p.Dilution = &opt.Dilution
		} else {
			p.Theta = &opt.Theta
		}
		if err := pl.connections(ctx, p, asked); err != nil {
			return nil, err
		}
	}
	if opt.wholeFilters() {
		if opt.FiltersKeep > 0 {
			p.FiltersKeep = &opt.FiltersKeep
		}
		if err := pl.filters(ctx, p, asked); err != nil {
			return nil, err
		}
	}
	for _, name := range opt.Layers {
		if !asked[name] {
			var known []string
			for i := range m.Layers {
				if op := m.Layers[i].Op; m.Layers[i].Scope == "" && (op == "Conv" || op == "Gemm" || op == "MatMul") {
					known = append(known, m.Layers[i].Name)
				}
			}
			return nil, &probe.UnknownLayerError{Layer: name, Known: known}
		}
	}
	return p, nil
}

// connections plans which connections of which layers fall. asked are the layers
// that were asked for, all when there are none; what is found is marked.
func (p *planner) connections(ctx context.Context, plan *Plan, asked map[string]bool) error {
	m, opt := p.m, p.opt
	for i := range m.Layers {
		l := &m.Layers[i]
		if l.Op != "Conv" && l.Op != "Gemm" && l.Op != "MatMul" && l.Op != "ConvTranspose" {
			continue
		}
		conv := isConv(p.survey, l)
		if l.Scope != "" {
			_, ok := asked[l.Name]
			if ok {
				asked[l.Name] = true
			}
			if ok || len(asked) == 0 {
				plan.Blocked = append(plan.Blocked, Blocked{l.Scope + "/" + l.Name, "it lies in a nested graph or a function"})
			}
			continue
		}
		if len(asked) > 0 {
			if _, ok := asked[l.Name]; !ok {
				continue
			}
			asked[l.Name] = true
		}
		if conv && opt.Target == Classifier || !conv && opt.Target == Conv {
			if len(asked) > 0 {
				plan.Blocked = append(plan.Blocked, Blocked{l.Name, fmt.Sprintf("not in the target %q", opt.Target)})
			}
			continue
		}
		lp, reason, err := p.layer(ctx, l)
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.Name, err)
		}
		if reason != "" {
			plan.Blocked = append(plan.Blocked, Blocked{l.Name, reason})
			continue
		}
		plan.Layers = append(plan.Layers, *lp)
		plan.warn(lp)
		plan.Connections += lp.Connections
		plan.Kept += lp.Kept
		plan.Elements += lp.Elements
		plan.Dropped += lp.Dropped
	}
	return nil
}

// isConv tells whether the target Conv is meant to hold a layer. A convolution
// over one position that makes the logits is a classifier.
func isConv(s *probe.Survey, l *inspect.Layer) bool {
	return (l.Op == "Conv" || l.Op == "ConvTranspose") && !(s.Classifier != nil && l.Scope == "" && l.Node == s.Classifier.Node)
}

// Taps returns the tensors of m whose filters a plan for opt asks about, in the
// order of the file: what has to be measured, and nothing more. There are none where
// no statistics are needed.
func Taps(m *inspect.Model, opt PlanOptions) ([]string, error) {
	survey, err := probe.NewSurvey(m)
	if err != nil {
		return nil, err
	}
	need := map[*probe.Tap]bool{}
	if opt.wholeFilters() && opt.Criterion != Magnitude && opt.Criterion != Random {
		for _, t := range survey.Taps {
			need[t] = opt.Target != Classifier || t.Height*t.Width == 1
		}
	}
	for i := range m.Layers {
		l := &m.Layers[i]
		if opt.wholeFilters() && opt.Dilution == 0 {
			break
		}
		classifier := survey.Classifier != nil && survey.Classifier.Node == l.Node
		switch {
		case l.Scope != "", l.Op != "Conv" && l.Op != "Gemm" && l.Op != "MatMul",
			isConv(survey, l) && (opt.Target == Classifier || l.Group > 1), !isConv(survey, l) && opt.Target == Conv,
			len(opt.Layers) > 0 && !slices.Contains(opt.Layers, l.Name):
			continue
		}
		in, out := survey.InputTap(m.Graph, m.Graph.Nodes[l.Node].Input(0)), survey.LayerTap(l.Name)
		if in == nil || out == nil && !classifier {
			continue
		}
		need[in] = true
		if !classifier {
			need[out] = true
		}
	}
	var tensors []string
	for _, t := range survey.Taps {
		if need[t] {
			tensors = append(tensors, t.Tensor)
		}
	}
	return tensors, nil
}

// warn adds what is surprising about a layer.
func (p *Plan) warn(l *LayerPlan) {
	say := func(format string, a ...any) { p.Warnings = append(p.Warnings, fmt.Sprintf(format, a...)) }
	switch {
	case l.Kept == 0:
		say("layer %s loses every connection: nothing passes through it any more", l.Layer)
	case p.Dilution != nil && l.Dilution > *p.Dilution+0.05:
		say("layer %s is diluted to %.1f %%, %.1f %% was asked for: its filters share too few labels for less, or connections of equal score fall together",
			l.Layer, 100*l.Dilution, 100**p.Dilution)
	}
}

type planner struct {
	m      *inspect.Model
	survey *probe.Survey
	res    *probe.Result
	opt    PlanOptions
}

// layer plans one layer; a reason says why it must stay as it is.
func (p *planner) layer(ctx context.Context, l *inspect.Layer) (lp *LayerPlan, reason string, err error) {
	stay := func(format string, a ...any) (*LayerPlan, string, error) { return nil, fmt.Sprintf(format, a...), nil }
	g := p.m.Graph
	node := g.Nodes[l.Node]
	for _, s := range p.survey.Skipped {
		if s.Layer == l.Name && s.Reason != "its outputs are the labels" {
			return stay("%s", s.Reason)
		}
	}
	if l.Op == "ConvTranspose" {
		return stay("transposed convolution")
	}
	st, ok := g.Stored(node.Input(1))
	if !ok {
		return stay("its weights are computed or sparse")
	}
	if len(st.Through) > 0 {
		if op := st.Through[0].Op; op == "DequantizeLinear" {
			return stay("its weights are quantized; prune before quantizing")
		}
		return stay("its weights pass through %s", st.Through[0].Op)
	}
	if readers := g.Consumers(st.Name); len(readers) > 1 || g.IsOutput(st.Name) {
		return stay("its weights %q are shared with %s", st.Name, other(readers, node))
	}
	if !st.Tensor.DType().IsFloat() || st.Tensor.DType().Bits() < 16 {
		return stay("its weights are of type %s", st.Tensor.DType())
	}
	lay, reason := weightLayout(l, node, st.Tensor.Dims())
	if reason != "" {
		return stay("%s", reason)
	}
	lp = &LayerPlan{Layer: l.Name, Op: l.Op, Weight: st.Name}
	in := p.survey.InputTap(g, node.Input(0))
	if in == nil {
		if g.IsInput(node.Input(0)) {
			return stay("it reads the image, whose channels have no labels")
		}
		return stay("its input %q is not the output of one layer", node.Input(0))
	}
	inRow := p.res.Layer(in.Tensor)
	if inRow == nil {
		return stay("the filters it reads (%s) were not measured", in.Name())
	}
	if err := fits(inRow, in); err != nil {
		return nil, "", err
	}
	if lay.cols%in.Filters != 0 {
		return stay("it reads %d columns, its input has %d filters", lay.cols, in.Filters)
	}
	switch per := lay.cols / in.Filters; {
	case l.Op == "Conv" && per == 1:
	case l.Op == "Conv" || per != in.Height*in.Width:
		return stay("it reads %d columns, its input has %d filters of %d positions", lay.cols, in.Filters, in.Height*in.Width)
	default:
		lay.cols, lay.inner = in.Filters, per
	}
	lp.Rows, lp.Cols, lp.Inner, lp.Transposed = lay.rows, lay.cols, lay.inner, lay.transposed
	lp.In = in.Tensor
	inRatios := afcc.Ratios(inRow.Filters)

	var scores *afcc.Scores
	k := p.survey.Labels
	if c := p.survey.Classifier; c != nil && c.Node == l.Node {
		lp.Rule = "classifier"
		score := func(ratios [][]float32) (*afcc.Scores, error) { return afcc.ClassifierScores(ratios, k) }
		if scores, err = score(inRatios); err != nil {
			return nil, "", err
		}
		return lp, "", p.cut(ctx, lp, st, in, scores, func() (*afcc.Scores, error) {
			return score(afcc.RandomRatios(inRatios, p.opt.Seed^p.tapNumber(in)))
		})
	}
	out := p.survey.LayerTap(l.Name)
	if out == nil {
		return stay("its outputs are not filters that a later layer reads")
	}
	outRow := p.res.Layer(out.Tensor)
	if outRow == nil {
		return stay("its own filters were not measured")
	}
	if err := fits(outRow, out); err != nil {
		return nil, "", err
	}
	first, rows := out.Range(l.Name)
	if rows != lp.Rows {
		return stay("it has %d outputs, the tensor %q has %d filters", lp.Rows, out.Tensor, rows)
	}
	lp.Rule, lp.Out = "filters", out.Tensor
	allRatios := afcc.Ratios(outRow.Filters)
	outRatios := allRatios[first : first+rows]
	if scores, err = afcc.ConvScores(ctx, inRatios, outRatios); err != nil {
		return nil, "", err
	}
	return lp, "", p.cut(ctx, lp, st, in, scores, func() (*afcc.Scores, error) {
		// Each tap's filters keep their random labels from layer to layer.
		return afcc.ConvScores(ctx, afcc.RandomRatios(inRatios, p.opt.Seed^p.tapNumber(in)), afcc.RandomRatios(allRatios, p.opt.Seed^p.tapNumber(out))[first:first+rows])
	})
}

// fits refuses statistics of a tap that is not the model's.
func fits(row *probe.Layer, t *probe.Tap) error {
	if len(row.Filters) != t.Filters || row.Height != t.Height || row.Width != t.Width {
		return &OptionError{fmt.Sprintf("the statistics of tensor %q are of %d filters of %d x %d, the model's are %d of %d x %d; measure this model",
			t.Tensor, len(row.Filters), row.Height, row.Width, t.Filters, t.Height, t.Width)}
	}
	return nil
}

func (p *planner) tapNumber(t *probe.Tap) uint64 {
	for i, o := range p.survey.Taps {
		if o == t {
			return uint64(i) << 32
		}
	}
	return 0
}

func other(readers []*inspect.Node, n *inspect.Node) string {
	for _, r := range readers {
		if r != n {
			return fmt.Sprintf("%q", r.Label())
		}
	}
	return "an output"
}

// weightLayout says where the connections of a layer lie in its weights, each column
// for itself, or why they cannot be told.
func weightLayout(l *inspect.Layer, node *inspect.Node, dims []int64) (lay layout, reason string) {
	if l.Op == "Conv" {
		if len(dims) < 3 {
			return lay, fmt.Sprintf("its weights have shape %v", dims)
		}
		if l.Group > 1 {
			if dims[1] == 1 {
				return lay, "depthwise: each filter reads one channel, there are no pairs to drop"
			}
			return lay, "grouped convolution"
		}
		inner := int64(1)
		for _, d := range dims[2:] {
			inner *= d
		}
		return layout{rows: int(dims[0]), cols: int(dims[1]), inner: int(inner)}, ""
	}
	if len(dims) != 2 {
		return lay, fmt.Sprintf("its weights have shape %v", dims)
	}
	if node.AttrInt("transA", 0) != 0 {
		return lay, "its input is transposed"
	}
	if l.Op == "MatMul" || node.AttrInt("transB", 0) == 0 {
		return layout{rows: int(dims[1]), cols: int(dims[0]), inner: 1, transposed: true}, ""
	}
	return layout{rows: int(dims[0]), cols: int(dims[1]), inner: 1}, ""
}

// cut chooses the threshold and the mask of lp, which reads the tap in. scores are
// those of AFCC, which also set how much a control drops; random makes those of
// Random.
func (p *planner) cut(ctx context.Context, lp *LayerPlan, st inspect.Stored, in *probe.Tap, scores *afcc.Scores, random func() (*afcc.Scores, error)) error {
	lp.Theta = p.opt.Theta
	if p.opt.Dilution > 0 {
		lp.Theta, _ = scores.ThresholdFor(p.opt.Dilution)
	}
	mask := scores.Mask(lp.Theta)
	var err error
	switch p.opt.Criterion {
	case Random:
		if scores, err = random(); err != nil {
			return err
		}
		mask = scores.Top(mask.Count())
	case Weighted:
		norms, err := kernelNorms(ctx, st, lp.layout())
		if err != nil {
			return err
		}
		rms, err := p.activity(in)
		if err != nil {
			return err
		}
		if scores, err = criterion.Weighted(norms, lp.Rows, lp.Cols, rms, scores); err != nil {
			return err
		}
		mask = scores.TopRows(mask.Count())
	case Magnitude, Activation:
		norms, err := kernelNorms(ctx, st, lp.layout())
		if err != nil {
			return err
		}
		if p.opt.Criterion == Activation {
			rms, err := p.activity(in)
			if err != nil {
				return err
			}
			for i := range norms {
				norms[i] *= float32(rms[i%lp.Cols])
			}
		}
		if scores, err = afcc.MagnitudeScores(norms, lp.Rows, lp.Cols); err != nil {
			return err
		}
		mask = scores.Top(mask.Count())
	}
	lp.Mask = make([]byte, (lp.Rows*lp.Cols+7)/8)
	for r := range lp.Rows {
		for c := range lp.Cols {
			if i := r*lp.Cols + c; mask.Kept(r, c) {
				lp.Mask[i/8] |= 1 << (i % 8)
			}
		}
	}
	lp.count()
	return nil
}

// activity returns the measured root mean squares of a tap's filters.
func (p *planner) activity(t *probe.Tap) ([]float64, error) {
	rms := p.opt.Activity[t.Tensor]
	if len(rms) != t.Filters {
		return nil, &OptionError{fmt.Sprintf("the activations of tensor %q are of %d filters, the model's are %d; measure this model", t.Tensor, len(rms), t.Filters)}
	}
	return rms, nil
}

// count fills in what follows from the mask.
func (l *LayerPlan) count() {
	l.Connections, l.Kept, l.CutOutputs, l.CutInputs = l.Rows*l.Cols, 0, 0, 0
	cols := make([]bool, l.Cols)
	for r := range l.Rows {
		any := false
		for c := range l.Cols {
			if l.kept(r, c) {
				l.Kept++
				any, cols[c] = true, true
			}
		}
		if !any {
			l.CutOutputs++
		}
	}
	for _, read := range cols {
		if !read {
			l.CutInputs++
		}
	}
	l.Dilution = 0
	if l.Connections > 0 {
		l.Dilution = float64(l.Connections-l.Kept) / float64(l.Connections)
	}
	l.Elements = l.layout().elements()
	l.Dropped = int64(l.Connections-l.Kept) * int64(l.Inner)
}

// kernelNorms returns the Euclidean norm of each connection's weights.
func kernelNorms(ctx context.Context, st inspect.Stored, l layout) ([]float32, error) {
	sums := make([]float64, l.rows*l.cols)
	var e int64
	err := st.Tensor.Values(func(block []float64) error {
		for _, v := range block {
			r, c := l.connection(e)
			sums[r*l.cols+c] += v * v
			e++
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	norms := make([]float32, len(sums))
	for i, s := range sums {
		norms[i] = float32(math.Sqrt(s))
	}
	return norms, nil
}
