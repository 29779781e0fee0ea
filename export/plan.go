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
	"github.com/filterlens/filterlens/inspect"
)

// PlanSchema names the form of a Plan as JSON.
const PlanSchema = "filterlens.plan/1"

// The criteria by which connections are ordered.
const (
	// AFCC keeps a connection whose two ends share a label.
	AFCC = "afcc"
	// Random is AFCC with each filter's labels replaced by random ones, as many
	// at every threshold; Magnitude orders kernels by their Euclidean norm. Both
	// are controls: they drop as many connections of each layer as AFCC does.
	Random    = "random"
	Magnitude = "magnitude"
)

// The targets of a plan.
const (
	// Classifier is the linear layer that makes the logits, with any hidden
	// fully connected layers before it.
	Classifier = "fc"
	Conv       = "conv"
	Both       = "both"
)

// PlanOptions say what is to fall.
type PlanOptions struct {
	Target    string // Classifier, Conv or Both
	Criterion string // AFCC, Random or Magnitude
	// Layers restricts the plan to the layers of these names, none when empty.
	Layers []string
	// Theta is the threshold. Dilution, when above 0, replaces it: each layer
	// then gets the smallest threshold that drops at least this share of its
	// connections.
	Theta    float64
	Dilution float64
	// Seed draws the labels of Random.
	Seed uint64
}

// A Plan says which connections of a model fall, and why others cannot.
type Plan struct {
	Schema      string `json:"schema"`
	Model       string `json:"model"`
	ModelSHA256 string `json:"model_sha256"`
	Criterion   string `json:"criterion"`
	Target      string `json:"target"`
	// Theta is the threshold of all layers, nil when Dilution chose one for each.
	Theta    *float64 `json:"theta"`
	Dilution *float64 `json:"dilution"`
	Seed     uint64   `json:"seed"`
	// Layers that are diluted and layers that are not, in file order.
	Layers  []LayerPlan `json:"layers"`
	Blocked []Blocked   `json:"blocked,omitempty"`
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

	mask   *afcc.Mask
	layout layout
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

// NewPlan decides which connections of m fall by the statistics res, which must
// have been measured on the same file.
func NewPlan(ctx context.Context, m *inspect.Model, res *probe.Result, opt PlanOptions) (*Plan, error) {
	bad := func(format string, a ...any) (*Plan, error) { return nil, &OptionError{fmt.Sprintf(format, a...)} }
	switch {
	case !slices.Contains([]string{Classifier, Conv, Both}, opt.Target):
		return bad("unknown target %q; use fc, conv or both", opt.Target)
	case !slices.Contains([]string{AFCC, Random, Magnitude}, opt.Criterion):
		return bad("unknown criterion %q; use afcc, random or magnitude", opt.Criterion)
	case math.IsNaN(opt.Dilution) || opt.Dilution < 0 || opt.Dilution >= 1:
		return bad("dilution %v is not a share below 1; 0.9 drops nine of ten connections", opt.Dilution)
	}
	if err := afcc.CheckTheta(opt.Theta); err != nil {
		return nil, err
	}
	survey, err := probe.NewSurvey(m)
	if err != nil {
		return nil, err
	}
	if k := len(res.Data.Labels); k != survey.Labels {
		return bad("the statistics are of %d labels, the model has %d outputs", k, survey.Labels)
	}
	p := &Plan{Schema: PlanSchema, Model: m.File, ModelSHA256: res.ModelSHA256, Criterion: opt.Criterion, Target: opt.Target, Seed: opt.Seed}
	if opt.Dilution > 0 {
		p.Dilution = &opt.Dilution
	} else {
		p.Theta = &opt.Theta
	}
	asked := map[string]bool{}
	for _, l := range opt.Layers {
		asked[l] = false
	}
	pl := planner{m: m, survey: survey, res: res, opt: opt}
	for i := range m.Layers {
		l := &m.Layers[i]
		if l.Op != "Conv" && l.Op != "Gemm" && l.Op != "MatMul" && l.Op != "ConvTranspose" {
			continue
		}
		conv := isConv(survey, l)
		if l.Scope != "" {
			_, ok := asked[l.Name]
			if ok {
				asked[l.Name] = true
			}
			if ok || len(asked) == 0 {
				p.Blocked = append(p.Blocked, Blocked{l.Scope + "/" + l.Name, "it lies in a nested graph or a function"})
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
				p.Blocked = append(p.Blocked, Blocked{l.Name, fmt.Sprintf("not in the target %q", opt.Target)})
			}
			continue
		}
		lp, reason, err := pl.layer(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Name, err)
		}
		if reason != "" {
			p.Blocked = append(p.Blocked, Blocked{l.Name, reason})
			continue
		}
		p.Layers = append(p.Layers, *lp)
		p.warn(lp)
		p.Connections += lp.Connections
		p.Kept += lp.Kept
		p.Elements += lp.Elements
		p.Dropped += lp.Dropped
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
	if len(p.Layers) == 0 {
		why := ""
		if len(p.Blocked) > 0 {
			why = fmt.Sprintf(" (%s: %s)", p.Blocked[0].Layer, p.Blocked[0].Reason)
		}
		return bad("no layer of %s can be diluted with target %s%s", m.File, opt.Target, why)
	}
	return p, nil
}

// isConv tells whether the target Conv is meant to hold a layer. A convolution
// over one position that makes the logits is a classifier.
func isConv(s *probe.Survey, l *inspect.Layer) bool {
	return (l.Op == "Conv" || l.Op == "ConvTranspose") && !(s.Classifier != nil && l.Scope == "" && l.Node == s.Classifier.Node)
}

// Taps returns the tensors of m whose filters a plan for opt asks about, in the
// order of the file: what has to be measured, and nothing more.
func Taps(m *inspect.Model, opt PlanOptions) ([]string, error) {
	survey, err := probe.NewSurvey(m)
	if err != nil {
		return nil, err
	}
	need := map[*probe.Tap]bool{}
	for i := range m.Layers {
		l := &m.Layers[i]
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
	dims := st.Tensor.Dims()
	lp = &LayerPlan{Layer: l.Name, Op: l.Op, Weight: st.Name}
	if l.Op == "Conv" {
		if len(dims) < 3 {
			return stay("its weights have shape %v", dims)
		}
		if l.Group > 1 {
			if dims[1] == 1 {
				return stay("depthwise: each filter reads one channel, there are no pairs to drop")
			}
			return stay("grouped convolution")
		}
		inner := int64(1)
		for _, d := range dims[2:] {
			inner *= d
		}
		lp.layout = layout{rows: int(dims[0]), cols: int(dims[1]), inner: int(inner)}
	} else {
		if len(dims) != 2 {
			return stay("its weights have shape %v", dims)
		}
		if node.AttrInt("transA", 0) != 0 {
			return stay("its input is transposed")
		}
		lp.layout = layout{rows: int(dims[0]), cols: int(dims[1]), inner: 1}
		if l.Op == "MatMul" || node.AttrInt("transB", 0) == 0 {
			lp.layout = layout{rows: int(dims[1]), cols: int(dims[0]), inner: 1, transposed: true}
		}
	}

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
	if lp.layout.cols%in.Filters != 0 {
		return stay("it reads %d columns, its input has %d filters", lp.layout.cols, in.Filters)
	}
	switch per := lp.layout.cols / in.Filters; {
	case l.Op == "Conv" && per == 1:
	case l.Op == "Conv" || per != in.Height*in.Width:
		return stay("it reads %d columns, its input has %d filters of %d positions", lp.layout.cols, in.Filters, in.Height*in.Width)
	default:
		lp.layout.cols, lp.layout.inner = in.Filters, per
	}
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
		return lp, "", p.cut(ctx, lp, st, scores, func() (*afcc.Scores, error) {
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
	if rows != lp.layout.rows {
		return stay("it has %d outputs, the tensor %q has %d filters", lp.layout.rows, out.Tensor, rows)
	}
	lp.Rule, lp.Out = "filters", out.Tensor
	allRatios := afcc.Ratios(outRow.Filters)
	outRatios := allRatios[first : first+rows]
	if scores, err = afcc.ConvScores(ctx, inRatios, outRatios); err != nil {
		return nil, "", err
	}
	return lp, "", p.cut(ctx, lp, st, scores, func() (*afcc.Scores, error) {
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

// cut chooses the threshold and the mask of lp. scores are those of AFCC, which
// also set how much a control drops; random makes those of Random.
func (p *planner) cut(ctx context.Context, lp *LayerPlan, st inspect.Stored, scores *afcc.Scores, random func() (*afcc.Scores, error)) error {
	lp.Theta = p.opt.Theta
	if p.opt.Dilution > 0 {
		lp.Theta, _ = scores.ThresholdFor(p.opt.Dilution)
	}
	lp.mask = scores.Mask(lp.Theta)
	var err error
	switch p.opt.Criterion {
	case Random:
		if scores, err = random(); err != nil {
			return err
		}
		lp.mask = scores.Top(lp.mask.Count())
	case Magnitude:
		norms, err := kernelNorms(ctx, st, lp.layout)
		if err != nil {
			return err
		}
		if scores, err = afcc.MagnitudeScores(norms, lp.layout.rows, lp.layout.cols); err != nil {
			return err
		}
		lp.mask = scores.Top(lp.mask.Count())
	}
	lp.Connections = lp.layout.rows * lp.layout.cols
	lp.Kept = lp.mask.Count()
	lp.Dilution = lp.mask.Dilution()
	lp.Elements = lp.layout.elements()
	lp.Dropped = int64(lp.Connections-lp.Kept) * int64(lp.layout.inner)
	cols := make([]bool, lp.layout.cols)
	for r := range lp.layout.rows {
		any := false
		for c := range lp.layout.cols {
			if lp.mask.Kept(r, c) {
				any, cols[c] = true, true
			}
		}
		if !any {
			lp.CutOutputs++
		}
	}
	for _, read := range cols {
		if !read {
			lp.CutInputs++
		}
	}
	return nil
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
