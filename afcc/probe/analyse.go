package probe

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
)

// analyse turns heads with their label means into rows of res, and lets go of
// both.
func (p *measurer) analyse(ctx context.Context, heads []*head, res *Result) error {
	for i, h := range heads {
		p.opt.Progress("finding clusters", i, len(heads))
		if l, ok := p.loadRow(h); ok {
			if err := p.deliver(h, *l, res); err != nil {
				return err
			}
			continue
		}
		filters, err := afcc.AnalyzeLayer(ctx, h.w, h.means, p.k, h.tap.Filters, h.tap.Positions(), afcc.Options{Theta: p.opt.Theta})
		if err != nil {
			return fmt.Errorf("layer %s: %w", h.tap.Name(), err)
		}
		l := Layer{Tap: *h.tap, Head: "trained", Norm: h.norm,
			Stats: afcc.Summarize(filters, p.k, p.opt.Theta), Filters: filters}
		if h.own {
			l.Head, l.Norm = "classifier", 0
		} else {
			l.Loss, l.Outliers = &h.loss, h.outliers
		}
		if err := p.further(ctx, h, &l); err != nil {
			return fmt.Errorf("layer %s: %w", h.tap.Name(), err)
		}
		if err := p.saveRow(h, l); err != nil {
			return err
		}
		if err := p.deliver(h, l, res); err != nil {
			return err
		}
	}
	p.opt.Progress("finding clusters", len(heads), len(heads))
	return nil
}

// deliver adds the row of a head to res, and lets go of what the head holds.
func (p *measurer) deliver(h *head, l Layer, res *Result) error {
	res.Layers = append(res.Layers, l)
	if p.opt.Each != nil {
		if err := p.opt.Each(&res.Layers[len(res.Layers)-1], Fields{W: h.w, Means: h.means, K: p.k, F: h.tap.Filters, P: h.tap.Positions()}); err != nil {
			return err
		}
	}
	h.w, h.means = nil, nil
	h.judgement, h.resampled = judgement{}, resampled{}
	return nil
}

// further adds the accuracies of a layer and what is measured only when it is asked
// for.
func (p *measurer) further(ctx context.Context, h *head, l *Layer) (err error) {
	k, f, pos := p.k, h.tap.Filters, h.tap.Positions()
	l.Accuracy, l.PerLabel = accuracies(p.evalLabels, h.answers, k)
	if len(p.opt.Thetas) > 0 {
		if l.Sweep, err = afcc.Sweep(ctx, h.w, h.means, k, f, pos, p.opt.Thetas, 0); err != nil {
			return err
		}
	}
	if p.opt.Stability > 0 {
		if l.Stability, err = afcc.MeasureStability(l.Filters, h.runs, k); err != nil {
			return err
		}
	}
	if p.opt.Orders > 0 {
		if l.Order, err = afcc.PermuteLabels(ctx, h.w, h.means, k, f, pos, p.opt.Orders, p.opt.Split.Seed, afcc.Options{Theta: p.opt.Theta}); err != nil {
			return err
		}
	}
	if p.opt.Confusion {
		var clusters [][]int
		for i := range l.Filters {
			clusters = append(clusters, l.Filters[i].Clusters...)
		}
		c, err := afcc.MeasureConfusion(confusion(p.evalLabels, h.answers, k), k, clusters)
		if err != nil {
			return err
		}
		l.Confusion = &c
	}
	if h.single != nil {
		l.Single = make([]SingleFilter, f)
		for i := range l.Single {
			l.Single[i].Accuracy = h.single.Accuracy(i, nil)
			if labels := l.Filters[i].Labels(); labels != nil {
				l.Single[i].Own = h.single.Accuracy(i, labels)
			}
		}
	}
	if p.opt.Top > 0 {
		l.Top = h.top.samples(p.set)
	}
	return nil
}

// ownWeights returns the classifier's weights as K x Inputs.
func ownWeights(m *inspect.Model, c *Classifier) ([]float32, error) {
	st, ok := m.Graph.Stored(m.Graph.Nodes[c.Node].Input(1))
	if !ok {
		return nil, fmt.Errorf("%s: the weights of %q are not constant", m.File, c.Layer)
	}
	v, err := st.Tensor.Float32s(math.MaxInt64)
	if err != nil {
		return nil, err
	}
	if c.Transposed {
		t := make([]float32, len(v))
		for i := range c.Inputs {
			for j := range c.Outputs {
				t[j*c.Inputs+i] = v[i*c.Outputs+j]
			}
		}
		v = t
	}
	if n := m.Graph.Nodes[c.Node]; n.Op == "Gemm" {
		if alpha := n.AttrFloat("alpha", 1); alpha != 1 {
			for i := range v {
				v[i] *= alpha
			}
		}
	}
	return v, nil
}

// newResult describes the measurement before anything has run.
func (p *measurer) newResult(s *Survey, id *Identity) *Result {
	split := p.opt.Split
	return &Result{
		Schema: Schema, Method: Method, Model: p.m.File, ModelSHA256: id.ModelSHA256, Input: id.Input, Asked: id.Asked,
		Engine: p.eng.Name(), EngineVersion: p.eng.Version(), Provider: p.eng.Provider(),
		Theta: p.opt.Theta, Seed: split.Seed, Recipe: p.opt.Recipe, Skipped: s.Skipped, LeftOut: p.leftOut,
		Data: Data{
			Format: p.set.Format(), Labels: p.set.Labels(), Samples: p.set.Len(), Preprocess: p.opt.Preprocess.String(),
			Split: Split{FitShare: split.Fit, StatsShare: split.Stats, EvalShare: split.Eval, Limit: split.Limit, PerLabel: split.PerLabel, Balanced: split.Balanced},
			Fit:   Part{Content: id.Fit}, Stats: Part{Content: id.Stats}, Eval: Part{Content: id.Eval},
		},
	}
}

// complete adds what is known only when every sample has been read.
func (p *measurer) complete(res *Result) error {
	d := &res.Data
	d.Skipped = p.skipped()
	d.Unreadable = len(d.Skipped)
	d.Fit.count(p.fit, p.seenFit)
	d.Stats.count(p.stats, p.seenStats)
	d.Eval.count(p.eval, p.seenEval)
	seen := p.stats.Index
	if p.seenFit != nil {
		seen = slices.Concat(p.fit.Index, seen)
	}
	var err error
	d.Repeated, err = p.set.Leaks(p.read(seen), p.read(p.eval.Index))
	return err
}

// read returns the samples of index that could be decoded, ascending.
func (p *measurer) read(index []int) dataset.Split {
	skipped := map[string]bool{}
	for _, s := range p.skipped() {
		skipped[s.Name] = true
	}
	index = slices.DeleteFunc(slices.Clone(index), func(i int) bool { return skipped[p.set.ID(i)] })
	slices.Sort(index)
	return dataset.Split{Index: index}
}

// count describes a split of which seen counts the samples used, label by label;
// nil when nothing needed it.
func (d *Part) count(s dataset.Split, seen []int) {
	d.SHA256 = s.Hash
	if seen != nil {
		d.Samples, d.MinPerLabel, d.MaxPerLabel = total(seen), slices.Min(seen), slices.Max(seen)
	}
}

// warn adds what a reader must not miss.
func (p *measurer) warn(res *Result) {
	say := func(format string, a ...any) { res.Warnings = append(res.Warnings, fmt.Sprintf(format, a...)) }
	if AtChance(res.Accuracy, res.Chance, res.Data.Eval.Samples) {
		say("the model's accuracy of %.2f %% is at chance level (%.2f %%, what always answering the commonest label gives): check the preprocessing (now %s) and the order of the labels; the statistics below mean nothing",
			100*res.Accuracy, 100*res.Chance, res.Data.Preprocess)
	}
	if n := p.unanswered; n > 0 {
		say("the model's outputs for %d of %d evaluation samples are not numbers (NaN); these count as wrong", n, res.Data.Eval.Samples)
	}
	if n := res.Data.Unreadable; n > 0 {
		say("left out of the data: %d: %s", n, dataset.SkippedText(res.Data.Skipped))
	}
	if n := res.Data.Repeated; n > 0 {
		say("%d evaluation samples also occur among those that the heads or the statistics saw", n)
	}
	if n := res.Data.Stats.MinPerLabel; n < 10 {
		samples := "samples"
		if n == 1 {
			samples = "sample"
		}
		say("a label has only %d %s to measure on; its means are uncertain", n, samples)
		if n == 1 && p.opt.Stability > 0 {
			say("repeated measurements of a label with one sample are all alike; filters of such labels seem more stable than they are")
		}
	}
	p.warnOutliers(res.Layers, say)
	if names := p.untaught(res.Layers); len(names) > 0 {
		more := ""
		if n := len(names) - 1; n > 0 {
			more = fmt.Sprintf(" (and of %d more)", n)
		}
		say("layer %s%s: after %s its head's loss is no better than that of guessing, so its row says little about the layer; try more --epochs, another --head-rate (now %g) or --head-norm (now %g)",
			names[0], more, epochs(p.opt.Recipe.Epochs), p.opt.Recipe.LearningRate, p.opt.Recipe.Norm)
	}
	for _, l := range res.Layers {
		if l.Pool > 1 {
			why := "which would not have fitted in memory (--memory)"
			if max(l.Height, l.Width)/(l.Pool-1) > p.opt.MaxSide && p.opt.MaxSide > 0 {
				why = "as asked for"
			}
			say("layer %s: averaged over %d x %d positions before its head, %s%s", l.Name(), l.Pool, l.Pool, why, leftOut(&l.Tap))
		}
		if l.Stats.NonFinite > 0 {
			say("layer %s: %d filters have fields that are not finite", l.Name(), l.Stats.NonFinite)
		}
	}
}

// warnOutliers tells of samples of which the features are longer by orders of magnitude
// than those of others, and names that of the layer in which they are longest.
func (p *measurer) warnOutliers(layers []Layer, say func(format string, a ...any)) {
	var worst *Layer
	more := -1
	for i := range layers {
		if o := layers[i].Outliers; o != nil && o.Far > 0 {
			more++
			if worst == nil || o.Longest > worst.Outliers.Longest {
				worst = &layers[i]
			}
		}
	}
	if worst == nil {
		return
	}
	others := ""
	if more > 0 {
		others = fmt.Sprintf(" (and of %d more)", more)
	}
	o := worst.Outliers
	say("layer %s%s: the features of %d of %d training samples are over %d times as long as the median, those of %s %.0f times; such samples dominate label means, and with them fields and clusters",
		worst.Name(), others, o.Far, o.Samples, farFrom, o.ID, o.Longest)
}

// untaught returns the layers of which the trained head has not learned: its
// cross-entropy on the fitting split is at least 95 % of the entropy of that split's
// labels, which a head without any input reaches.
func (p *measurer) untaught(layers []Layer) (names []string) {
	entropy := math.Log(float64(p.k))
	if n := total(p.seenFit); n > 0 {
		entropy = 0
		for _, c := range p.seenFit {
			if c > 0 {
				share := float64(c) / float64(n)
				entropy -= share * math.Log(share)
			}
		}
	}
	for _, l := range layers {
		if l.Loss != nil && *l.Loss >= 0.95*entropy {
			names = append(names, l.Name())
		}
	}
	return names
}

func epochs(n int) string {
	if n == 1 {
		return "one epoch"
	}
	return fmt.Sprintf("%d epochs", n)
}

// leftOut says which positions of a tap no window of its pooling covers, "" for none.
func leftOut(t *Tap) string {
	rows, columns := t.Height%t.Pool, t.Width%t.Pool
	switch {
	case rows > 0 && columns > 0:
		return fmt.Sprintf("; its last rows (%d of %d) and columns (%d of %d) fill no window and are left out", rows, t.Height, columns, t.Width)
	case rows > 0:
		return fmt.Sprintf("; its last rows (%d of %d) fill no window and are left out", rows, t.Height)
	case columns > 0:
		return fmt.Sprintf("; its last columns (%d of %d) fill no window and are left out", columns, t.Width)
	}
	return ""
}

// AtChance tells whether an accuracy measured on n samples is within three standard
// errors of guessing, or below. Guessing is to answer the commonest label always,
// which gives the share chance: 1/K where all labels have as many samples
// (Evaluation.Chance, Result.Chance).
func AtChance(accuracy, chance float64, n int) bool {
	return accuracy <= chance+3*math.Sqrt(chance*(1-chance)/float64(max(n, 1)))
}
