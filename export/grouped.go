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
	// this layer in groups, the others that were kept so far in groups in both, measured
	// in turn; nil where that was not possible.
	Before *probe.Timing `json:"before"`
	After  *probe.Timing `json:"after"`
	// Won is the share of the rounds in which the model with it was the faster one.
	Won float64 `json:"won"`
	// Kept tells that the written file computes the layer in groups, Reason why not. Of
	// layers that are faster together one alone need not show that it is.
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
// and the model is faster for it. All together save the most time, which is told from
// what else the machine does most surely, so that they are tried first; then each is
// left out of them in turn. Where all together are not faster, they are tried one by
// one.
//
// Masks of single kernels hardly ever fall into blocks: of the AFCC masks of VGG-16 and
// of EfficientNet-B0 on CIFAR-100 those of no convolution do up to a threshold of 0.7,
// and 2 of 12 and 2 of 32 do at 0.8, then into one with nearly all channels and a crumb.
// So this is for plans that are made for it. Blocks of filters with like label profiles
// were no use: with the convolutions 8 to 13 of VGG-16 in four groups and refitted, they
// answered worse than blocks dealt out at random (62.2 against 66.0 % of 1,000 images).
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
	now, err := p.all(ctx, found)
	if err != nil {
		return err
	}
	if now != nil {
		now, err = p.shrink(ctx, now)
	} else {
		now, err = p.grow(ctx, found)
	}
	if err != nil || len(now.list) == 0 {
		return err
	}
	return p.checkGrouped(ctx, base, now.t)
}

// A form is a model with the convolutions of list computed in groups.
type form struct {
	list    []compact.Blocks
	t       *temporary
	gathers int
}

// trial makes a form of each list and times them in turn with now. ms is nil when the
// size of the input is open.
func (p *pipeline) trial(ctx context.Context, now *temporary, lists ...[]compact.Blocks) (forms []*form, ms [][]float64, err error) {
	models := []*inspect.Model{now.m}
	for _, list := range lists {
		draft, n, err := compact.ApplyBlocks(ctx, p.final.m, list)
		if err != nil {
			return nil, nil, err
		}
		t, err := p.write(ctx, draft)
		if err != nil {
			return nil, nil, err
		}
		forms, models = append(forms, &form{list, t, n}), append(models, t.m)
	}
	ms, err = inTurn(ctx, p.eng, groupedRounds, models...)
	return forms, ms, err
}

// dropBut drops the forms that were tried but one.
func (p *pipeline) dropBut(keep *form, forms []*form) {
	for _, f := range forms {
		if f != keep {
			p.drop(f.t)
		}
	}
}

// all returns the fastest of the forms that compute everything found in groups, nil
// when none is faster than the final model so far.
func (p *pipeline) all(ctx context.Context, found [][]compact.Blocks) (best *form, err error) {
	var lists [][]compact.Blocks
	most := 0
	for _, forms := range found {
		most = max(most, len(forms))
	}
	if len(found) < 2 {
		return nil, nil
	}
	for k := range most {
		var list []compact.Blocks
		for _, forms := range found {
			list = append(list, forms[min(k, len(forms)-1)])
		}
		lists = append(lists, list)
	}
	p.opt.Probe.Progress("grouping convolutions", 0, len(found)+1)
	forms, ms, err := p.trial(ctx, p.final, lists...)
	if err != nil || ms == nil {
		p.dropBut(nil, forms)
		return nil, err
	}
	times, least := timings(p.m, ms), 0.0
	for i, f := range forms {
		if _, ok := faster(ms[0], ms[i+1]); ok && (best == nil || times[i+1].Median < least) {
			best, least = f, times[i+1].Median
		}
	}
	p.dropBut(best, forms)
	return best, nil
}

// shrink leaves those convolutions out of now without which it is faster, the one that
// saves least first.
func (p *pipeline) shrink(ctx context.Context, now *form) (*form, error) {
	c := p.r.Compaction
	order := slices.Clone(now.list)
	slices.Reverse(order)
	for i, b := range order {
		p.opt.Probe.Progress("grouping convolutions", i+1, len(order)+1)
		without := slices.DeleteFunc(slices.Clone(now.list), func(x compact.Blocks) bool { return x.Index == b.Index })
		forms, ms, err := p.trial(ctx, now.t, without)
		if err != nil {
			return nil, err
		}
		times := timings(p.m, ms)
		won, _ := faster(ms[1], ms[0])
		l := GroupedLayer{Layer: b.Layer, Components: b.Components, Groups: b.Groups, Gathers: now.gathers - forms[0].gathers, MACs: b.Share,
			Before: times[1], After: times[0], Won: won, Kept: true}
		if _, ok := faster(ms[0], ms[1]); ok {
			l.Kept, l.Reason = false, "the model is faster without it in groups"
			p.drop(now.t)
			now = forms[0]
		} else {
			p.drop(forms[0].t)
		}
		c.Grouped = append(c.Grouped, l)
	}
	return now, nil
}

// grow adds the convolutions one by one with which the model is faster.
func (p *pipeline) grow(ctx context.Context, found [][]compact.Blocks) (*form, error) {
	now := &form{t: p.final}
	for i, forms := range found {
		p.opt.Probe.Progress("grouping convolutions", i, len(found))
		l, better, err := p.tryForms(ctx, now, forms)
		if err != nil {
			return nil, err
		}
		p.r.Compaction.Grouped = append(p.r.Compaction.Grouped, *l)
		if better != nil {
			if now.t != p.final {
				p.drop(now.t)
			}
			now = better
		}
	}
	return now, nil
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

// tryForms times the ways to compute one convolution more in groups. better is the
// fastest of them, nil when none is faster than now.
func (p *pipeline) tryForms(ctx context.Context, now *form, ways []compact.Blocks) (l *GroupedLayer, better *form, err error) {
	var lists [][]compact.Blocks
	for _, b := range ways {
		lists = append(lists, append(slices.Clone(now.list), b))
	}
	tried, ms, err := p.trial(ctx, now.t, lists...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { p.dropBut(better, tried) }()
	tell := func(i int) *GroupedLayer {
		b := ways[i]
		return &GroupedLayer{Layer: b.Layer, Components: b.Components, Groups: b.Groups, Gathers: tried[i].gathers - now.gathers, MACs: b.Share}
	}
	if ms == nil {
		l = tell(0)
		l.Reason = "not measured, for the size of the input is open; give --input-shape"
		return l, nil, nil
	}
	times := timings(p.m, ms)
	for i, f := range tried {
		won, ok := faster(ms[0], ms[i+1])
		if l != nil && (l.Kept && !ok || l.Kept == ok && times[i+1].Median >= l.After.Median) {
			continue
		}
		l = tell(i)
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
	times := timings(p.m, ms)
	return p.r.check("grouped", most <= allowed, "outputs with convolutions in groups differ from those without by %.2g of the largest, on %d samples and random inputs; %.2g are allowed; median time %.3g ms, without %.3g ms",
		most, samples, allowed, times[1].Median, times[0].Median)
}
