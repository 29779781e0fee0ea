package export

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export/compact"
	"github.com/filterlens/filterlens/inspect"
)

// A GroupedLayer is a convolution whose mask falls into blocks, so that it can be
// computed in groups, and whether that is faster.
type GroupedLayer struct {
	Layer string `json:"layer"`
	// Components counts the blocks that no kernel connects, Groups the groups that they
	// were put into (compact.Blocks).
	Components int `json:"components"`
	Groups     int `json:"groups"`
	// Gathers are the nodes that this took to bring channels into order.
	Gathers int `json:"gathers"`
	// MACs is the share of the layer's multiply-accumulates that is left.
	MACs float64 `json:"macs_share"`
	// Before and After are the times of the whole model for one sample without and with
	// this layer in groups, layers that were kept before it in groups in both, measured
	// in turn; nil where that was not possible.
	Before *probe.Timing `json:"before"`
	After  *probe.Timing `json:"after"`
	// Won is the share of the rounds in which the model with it was the faster one.
	Won float64 `json:"won"`
	// Kept tells that the written file computes the layer in groups, Reason why not.
	Kept   bool   `json:"kept"`
	Reason string `json:"reason,omitempty"`
}

const (
	// groupedRounds is how often two models are timed in turn to tell which is faster.
	groupedRounds = 30
	// groupedGain is the least by which the median time must fall, groupedSigma by how
	// many standard deviations more than half of the rounds must be won (a sign test:
	// 22 of 30, which chance gives in less than one of 100 trials). Spreads may overlap, as what else
	// a machine does moves both sides of a round alike.
	groupedGain  = 0.02
	groupedSigma = 2.5
)

// roundsToWin is how many of n rounds the faster model must win.
func roundsToWin(n int) int {
	return int(math.Ceil(float64(n)/2 + groupedSigma*math.Sqrt(float64(n))/2))
}

// faster tells whether b, measured in turn with a, takes less time, and in what share
// of the rounds it did.
func faster(a, b []float64) (won float64, ok bool) {
	wins := 0
	for i := range a {
		if b[i] < a[i] {
			wins++
		}
	}
	median := func(v []float64) float64 {
		v = slices.Sorted(slices.Values(v))
		return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	}
	return float64(wins) / float64(len(a)), wins >= roundsToWin(len(a)) && median(b) <= (1-groupedGain)*median(a)
}

// group computes convolutions of the final model in groups where their masks allow it
// and the model is faster for it: layer by layer, the one with the most multiply-
// accumulates to save first, and then all together against none.
func (p *pipeline) group(ctx context.Context) error {
	c := p.r.Compaction
	if p.plan.Dense || c == nil {
		return nil
	}
	base := p.final
	found, err := compact.FindBlocks(ctx, base.m)
	if err != nil {
		return p.named(err, base)
	}
	sortBySaving(base.m, found)
	now, kept := base, []compact.Blocks{}
	gathers := 0
	for i, forms := range found {
		p.opt.Probe.Progress("grouping convolutions", i, len(found))
		l, better, err := p.tryForms(ctx, now, kept, gathers, forms)
		if err != nil {
			return err
		}
		c.Grouped = append(c.Grouped, *l)
		if better == nil {
			continue
		}
		if now != base {
			p.drop(now)
		}
		now, kept, gathers = better.t, append(kept, better.form), better.gathers
	}
	if now == base {
		return nil
	}
	return p.checkGrouped(ctx, base, now)
}

// sortBySaving puts the convolutions first that save the most multiply-accumulates.
func sortBySaving(m *inspect.Model, found [][]compact.Blocks) {
	saving := func(b compact.Blocks) float64 {
		for i := range m.Layers {
			if l := &m.Layers[i]; l.Scope == "" && l.Node == b.Index && l.MACs != nil {
				return (1 - b.Share) * float64(*l.MACs)
			}
		}
		return 0
	}
	slices.SortStableFunc(found, func(x, y []compact.Blocks) int { return cmp.Compare(saving(y[0]), saving(x[0])) })
}

// A form is a model with one more convolution computed in groups.
type form struct {
	form    compact.Blocks
	t       *temporary
	gathers int // of all its convolutions
}

// tryForms times the ways to compute one convolution in groups against the model now,
// which computes those of kept so. better is the fastest of them, nil when none is
// faster than that.
func (p *pipeline) tryForms(ctx context.Context, now *temporary, kept []compact.Blocks, gathers int, forms []compact.Blocks) (l *GroupedLayer, better *form, err error) {
	models := []*inspect.Model{now.m}
	tried := make([]*form, len(forms))
	defer func() {
		for _, f := range tried {
			if f != nil && f != better {
				p.drop(f.t)
			}
		}
	}()
	for i, b := range forms {
		draft, n, err := compact.ApplyBlocks(ctx, p.final.m, append(slices.Clone(kept), b))
		if err != nil {
			return nil, nil, err
		}
		t, err := p.write(ctx, draft)
		if err != nil {
			return nil, nil, err
		}
		tried[i] = &form{b, t, n}
		models = append(models, t.m)
	}
	ms, err := inTurn(ctx, p.eng, groupedRounds, models...)
	if err != nil {
		return nil, nil, err
	}
	tell := func(f *form) *GroupedLayer {
		return &GroupedLayer{Layer: f.form.Layer, Components: f.form.Components, Groups: f.form.Groups, Gathers: f.gathers - gathers, MACs: f.form.Share}
	}
	if ms == nil {
		l = tell(tried[0])
		l.Reason = "not measured, for the size of the input is open; give --input-shape"
		return l, nil, nil
	}
	times := timings(now.m, ms)
	for i, f := range tried {
		won, ok := faster(ms[0], ms[i+1])
		if l != nil && (l.Kept && !ok || l.Kept == ok && times[i+1].Median >= l.After.Median) {
			continue
		}
		l = tell(f)
		l.Before, l.After, l.Won, l.Kept = times[0], times[i+1], won, ok
		better = nil
		if ok {
			better = f
		} else {
			l.Reason = fmt.Sprintf("not faster: the median must fall by %.2g %%, and %d of %d rounds be won", 100*groupedGain, roundsToWin(len(ms[0])), len(ms[0]))
		}
	}
	return l, better, nil
}

// checkGrouped makes now the final model when it computes what base does and is
// faster.
func (p *pipeline) checkGrouped(ctx context.Context, base, now *temporary) error {
	c := p.r.Compaction
	ms, err := inTurn(ctx, p.eng, groupedRounds, base.m, now.m)
	if err != nil {
		return err
	}
	if _, ok := faster(ms[0], ms[1]); !ok {
		for i := range c.Grouped {
			if l := &c.Grouped[i]; l.Kept {
				l.Kept, l.Reason = false, "all layers in groups together were not faster when they were measured again"
			}
		}
		p.drop(now)
		return nil
	}
	if err := now.m.Check(); err != nil {
		return p.r.fail(ctx, "grouped", err)
	}
	// The same comparison as that of the compacted model with the masked one.
	noise, err := noiseDifference(ctx, p.eng, base.m, now.m)
	if err != nil {
		return p.r.fail(ctx, "grouped", err)
	}
	differences := []*Difference{noise}
	if p.opt.Set != nil {
		index := some(slices.Sorted(slices.Values(slices.Concat(p.fit.Index, p.stats.Index, p.eval.Index))), equalSamples)
		real, err := p.sampleDifference(ctx, base.m, now.m, index)
		if err != nil {
			return p.r.fail(ctx, "grouped", err)
		}
		differences = append(differences, real)
	}
	most, samples := 0.0, 0
	for _, d := range differences {
		if d != nil {
			most, samples = max(most, d.Relative), samples+d.Samples
		}
	}
	p.final = now
	allowed := tolerance(base.m)
	return p.r.check("grouped", most <= allowed, "outputs with convolutions in groups differ from those without by %.2g of the largest, on %d samples and random inputs; %.2g are allowed", most, samples, allowed)
}
