package export

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export/compact"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
)

const (
	// searchJudge is how many samples judge a trial at most, searchFit how many recover
	// it.
	searchJudge = 2000
	searchFit   = 4000
	// searchSteps is into how many steps the filters of a group are cut, where
	// PlanOptions.RoundTo allows so many; the last one is never taken.
	searchSteps = 16
	// searchTrials bounds the number of times and accuracies that are measured, each.
	searchTrials = 6
)

// A finder searches for a plan.
type finder struct {
	p      *pipeline
	res    *probe.Result
	search *Search
	// fit recovers trials, judge are other samples, neither of the evaluation split.
	fit, judge []int
	moments    map[string]*Moments
	ranked     map[string]ranking
	groups     []removable
	layers     []costly
	// path holds the groups in the order in which they lose a step of filters.
	path []int
}

// A removable is a group that can lose filters.
type removable struct {
	layer string
	size  int
	// kept holds the numbers of filters that may stay, the size first, errors what is
	// lost with each, as Sensitivity.Error.
	kept   []int
	errors []float64
}

// A costly layer does so many multiply-accumulates for one sample, in proportion to
// the filters that stay of the group that it makes and of those that it reads.
type costly struct {
	macs float64
	out  int // -1: a group that keeps all
	in   []int
}

// find returns the plan that removes whole filters until the targets are met. What
// each group of filters costs is computed once, in closed form: how much the layers
// that read it lose when it alone loses some, by the criterion, and their weights for
// the others are fitted anew (Sensitivity). Groups then lose steps of a sixteenth of
// their filters, always the one whose error grows least for the multiply-accumulates
// that it saves by then; how many steps are taken is found by bisection, of the
// multiply-accumulates that are left, of the time that is measured, and of the loss of
// accuracy after recovery on samples that neither recovery nor evaluation sees.
func (p *pipeline) find(ctx context.Context, res *probe.Result) (*Plan, error) {
	f := &finder{p: p, res: res, ranked: map[string]ranking{}, search: &Search{MaxDrop: p.opt.MaxDrop, Sensitivities: []Sensitivity{}, Trials: []Trial{}}}
	p.search = f.search
	if v := p.opt.TargetMACs; v > 0 {
		f.search.TargetMACs = &v
	}
	if v := p.opt.TargetLatency; v > 0 {
		f.search.TargetLatency = &v
	}
	f.fit, f.judge = slices.Clone(p.fit.Index), slices.Clone(p.stats.Index)
	if len(f.judge) == 0 {
		f.fit = nil
		for i, s := range p.fit.Index {
			if i%10 == 9 {
				f.judge = append(f.judge, s)
			} else {
				f.fit = append(f.fit, s)
			}
		}
	}
	if len(f.judge) == 0 {
		return nil, &OptionError{"the search for a plan needs samples to judge by besides those of the evaluation split; give more data"}
	}
	f.fit, f.judge = some(f.fit, searchFit), some(f.judge, searchJudge)
	if err := f.measure(ctx); err != nil {
		return nil, err
	}
	f.order()
	taken, err := f.reach(ctx)
	if err != nil {
		return nil, err
	}
	if p.opt.MaxDrop != nil {
		if taken, err = f.backOff(ctx, taken); err != nil {
			return nil, err
		}
	}
	plan, err := f.plan(ctx, taken)
	if err != nil {
		return nil, err
	}
	if len(plan.Filters) == 0 {
		return nil, f.nothing()
	}
	if !f.search.Met {
		plan.Warnings = append(plan.Warnings, "no plan was found that meets what was asked for; this one comes nearest without exceeding the loss of accuracy that is allowed")
	}
	return plan, nil
}

func (f *finder) nothing() error {
	return &OptionError{fmt.Sprintf("no filter of %s can be removed with target %s", f.p.m.File, f.p.opt.Target)}
}

// options returns what a plan is made by in which groups keep these shares.
func (f *finder) options(keep map[string]float64) PlanOptions {
	opt := f.p.opt.PlanOptions
	opt.FiltersKeep, opt.GroupsKeep = 0, keep
	opt.Moments, opt.ranked = f.moments, f.ranked
	return opt
}

// lost counts the steps of each group among so many of the path.
func (f *finder) lost(taken int) []int {
	lost := make([]int, len(f.groups))
	for _, g := range f.path[:taken] {
		lost[g]++
	}
	return lost
}

// plan is the plan after so many steps of the path.
func (f *finder) plan(ctx context.Context, taken int) (*Plan, error) {
	keep := map[string]float64{}
	for g, n := range f.lost(taken) {
		r := &f.groups[g]
		keep[r.layer] = float64(r.kept[n]) / float64(r.size)
	}
	return newPlan(ctx, f.p.m, f.res, f.options(keep))
}

// share is that of the filters of all groups that so many steps remove.
func (f *finder) share(taken int) float64 {
	all, gone := 0, 0
	for g, n := range f.lost(taken) {
		r := &f.groups[g]
		all += r.size
		gone += r.size - r.kept[n]
	}
	return float64(gone) / float64(all)
}

// measure fills in the groups, their sensitivities and the costs of the layers.
func (f *finder) measure(ctx context.Context) error {
	p := f.p
	opt := f.options(nil)
	opt.FiltersKeep, opt.Dilution = math.SmallestNonzeroFloat64, 0
	wanted := opt
	wanted.Criterion = Reconstruction // which needs what every group's readers see
	taps, err := Taps(p.m, wanted)
	if err != nil {
		return err
	}
	if f.moments, err = measureMoments(ctx, p.eng, p.m, p.opt.Set, taps, f.fit, p.opt.Probe); err != nil {
		return err
	}
	f.search.Samples = min(len(f.fit), momentsSamples)
	opt.Moments = f.moments
	all, err := newPlan(ctx, p.m, f.res, opt)
	if err != nil {
		return err
	}
	groups, err := compact.Groups(ctx, p.m)
	if err != nil {
		return err
	}
	survey, err := probe.NewSurvey(p.m)
	if err != nil {
		return err
	}
	pl := &planner{m: p.m, survey: survey, opt: opt}
	number := map[string]int{} // of each layer's group among f.groups
	reads := map[string][]int{}
	done := 0
	for i := range groups {
		g := &groups[i]
		if len(g.Makers) == 0 {
			continue
		}
		name := g.Makers[0].Layer
		if !slices.ContainsFunc(all.Filters, func(fp FilterPlan) bool { return fp.Layer == name }) {
			continue
		}
		p.opt.Probe.Progress("computing sensitivities", done, len(all.Filters))
		done++
		curve, err := f.curve(ctx, pl, g)
		if err != nil {
			return fmt.Errorf("layer %s: %w", name, err)
		}
		r := removable{layer: name, size: g.Size}
		r.steps(opt.RoundTo)
		if curve == nil || len(r.kept) < 2 {
			continue
		}
		r.errors = make([]float64, len(r.kept))
		for k, n := range r.kept[1:] {
			r.errors[k+1] = curve[g.Size-n-1]
		}
		s := Sensitivity{Layer: name, MACs: g.MACs, Removed: []float64{}, Error: []float64{}}
		for _, share := range []float64{0.25, 0.5, 0.75} {
			if n := int(share * float64(g.Size)); n > 0 {
				s.Removed, s.Error = append(s.Removed, float64(n)/float64(g.Size)), append(s.Error, curve[n-1])
			}
		}
		for _, mk := range g.Makers {
			number[mk.Layer] = len(f.groups)
		}
		for _, reader := range g.Readers {
			reads[reader] = append(reads[reader], len(f.groups))
		}
		f.groups = append(f.groups, r)
		f.search.Sensitivities = append(f.search.Sensitivities, s)
	}
	if len(f.groups) == 0 {
		return f.nothing()
	}
	for i := range p.m.Layers {
		l := &p.m.Layers[i]
		if l.Scope != "" || l.MACs == nil {
			continue
		}
		c := costly{macs: float64(*l.MACs), out: -1, in: reads[l.Name]}
		if g, ok := number[l.Name]; ok {
			c.out = g
			c.in = slices.DeleteFunc(slices.Clone(c.in), func(k int) bool { return k == g && l.Group > 1 })
		}
		if c.out >= 0 || len(c.in) > 0 {
			f.layers = append(f.layers, c)
		}
	}
	return nil
}

// curve returns how much the readers of a group lose when its n+1 filters that are
// worst by the criterion go, for each n; nil where that is not known.
func (f *finder) curve(ctx context.Context, pl *planner, g *compact.Group) ([]float64, error) {
	views, reason, err := pl.views(ctx, g)
	if err != nil || reason != "" {
		return nil, err
	}
	order := worstFirst(f.ranked[g.Makers[0].Layer].scores)
	costs, err := eliminate(ctx, views, g.Size, order)
	if err != nil {
		return nil, err
	}
	curve := make([]float64, g.Size)
	for n, c := range order {
		curve[n] = costs[c]
	}
	return curve, nil
}

// steps fills in the numbers of filters that may stay: multiples of roundTo where that
// is above 1, in about searchSteps steps of equal size.
func (r *removable) steps(roundTo int) {
	if roundTo == 0 {
		roundTo = DefaultRoundTo
	}
	r.kept = []int{r.size}
	for i := 1; i < searchSteps; i++ {
		n := (r.size*(searchSteps-i) + searchSteps - 1) / searchSteps
		n = (n + roundTo - 1) / roundTo * roundTo
		if n > 0 && n < r.kept[len(r.kept)-1] {
			r.kept = append(r.kept, n)
		}
	}
}

// order fills in the path: always the step that costs least for what it saves.
func (f *finder) order() {
	lost := make([]int, len(f.groups))
	for {
		best, least := -1, math.Inf(1)
		for g := range f.groups {
			r := &f.groups[g]
			if lost[g] == len(r.kept)-1 {
				continue
			}
			saved := f.macsLeft(lost, g)
			lost[g]++
			saved -= f.macsLeft(lost, g)
			lost[g]--
			if saved <= 0 {
				continue
			}
			if cost := (r.errors[lost[g]+1] - r.errors[lost[g]]) / saved; cost < least {
				best, least = g, cost
			}
		}
		if best < 0 {
			return
		}
		lost[best]++
		f.path = append(f.path, best)
	}
}

// macsLeft estimates the multiply-accumulates of the layers that make or read a group
// after so many steps of each group.
func (f *finder) macsLeft(lost []int, group int) float64 {
	sum := 0.0
	for i := range f.layers {
		l := &f.layers[i]
		if l.out != group && !slices.Contains(l.in, group) {
			continue
		}
		macs := l.macs
		if l.out >= 0 {
			r := &f.groups[l.out]
			macs *= float64(r.kept[lost[l.out]]) / float64(r.size)
		}
		if len(l.in) > 0 {
			kept, size := 0, 0
			for _, g := range l.in {
				kept += f.groups[g].kept[lost[g]]
				size += f.groups[g].size
			}
			macs *= float64(kept) / float64(size)
		}
		sum += macs
	}
	return sum
}

// reach returns the least number of steps that meets the targets, by bisection; all
// of them where not even these do, which Search.Met then says.
func (f *finder) reach(ctx context.Context) (taken int, err error) {
	f.search.Met = true
	try := func(trials int, ask func(n int, t *Trial) error) error {
		n, met, err := bisect(taken, len(f.path), trials, func(n int) (bool, error) {
			t := Trial{Share: f.share(n)}
			if err := ask(n, &t); err != nil {
				return false, err
			}
			f.search.Trials = append(f.search.Trials, t)
			return t.OK, nil
		})
		taken, f.search.Met = n, f.search.Met && met
		return err
	}
	if target := f.p.opt.TargetMACs; target > 0 {
		err = try(len(f.path), func(n int, t *Trial) error {
			err := f.macs(ctx, n, t)
			t.OK = err == nil && *t.MACs <= target
			return err
		})
	}
	if target := f.p.opt.TargetLatency; target > 0 && err == nil {
		err = try(searchTrials, func(n int, t *Trial) error {
			err := f.time(ctx, n, t)
			t.OK = err == nil && *t.Latency <= target
			return err
		})
	}
	return taken, err
}

// bisect returns the least number in low..high that ok holds for; of those that it
// does not get to ask about in so many trials, the larger. It is high, and not met,
// where ok does not hold for that.
func bisect(low, high, trials int, ok func(n int) (bool, error)) (n int, met bool, err error) {
	if met, err = ok(high); err != nil || !met {
		return high, false, err
	}
	for ; low < high && trials > 0; trials-- {
		mid := (low + high) / 2
		yes, err := ok(mid)
		if err != nil {
			return 0, false, err
		}
		if yes {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return high, true, nil
}

// macs fills in what is left of the multiply-accumulates.
func (f *finder) macs(ctx context.Context, taken int, t *Trial) error {
	c, err := f.compacted(ctx, taken)
	if err != nil {
		return err
	}
	if c == nil {
		one := 1.0
		t.MACs = &one
		return nil
	}
	if c.Before.MACs == nil || c.After.MACs == nil || *c.Before.MACs == 0 {
		return &OptionError{"the multiply-accumulates of the model are not known, for the size of its input is open; give --input-shape"}
	}
	v := float64(*c.After.MACs) / float64(*c.Before.MACs)
	t.MACs = &v
	return nil
}

// compacted plans the removal of the filters of so many steps, nil when none goes.
func (f *finder) compacted(ctx context.Context, taken int) (*compact.Plan, error) {
	if taken == 0 {
		return nil, nil
	}
	plan, err := f.plan(ctx, taken)
	if err != nil || len(plan.Filters) == 0 {
		return nil, err
	}
	return compact.NewPlan(ctx, f.p.m, plan.compaction(true))
}

// time measures a model without the filters of so many steps beside the original.
func (f *finder) time(ctx context.Context, taken int, t *Trial) error {
	if err := f.macs(ctx, taken, t); err != nil {
		return err
	}
	one := 1.0
	t.Latency = &one
	c, err := f.compacted(ctx, taken)
	if err != nil || c == nil {
		return err
	}
	draft, err := compact.Apply(ctx, f.p.m, c)
	if err != nil {
		return err
	}
	tmp, err := f.p.write(ctx, draft)
	if err != nil {
		return err
	}
	defer f.p.drop(tmp)
	times, err := latencies(ctx, f.p.eng, f.p.m, tmp.m)
	if err != nil {
		return err
	}
	if times == nil {
		return &OptionError{"the time of the model cannot be measured, for the size of its input is open; give --input-shape"}
	}
	v := times[1].Median / times[0].Median
	t.Latency = &v
	return nil
}

// backOff takes fewer steps where the loss of accuracy after recovery is more than is
// allowed.
func (f *finder) backOff(ctx context.Context, taken int) (int, error) {
	low, high := 0, taken // high is not yet known to be too much
	for trial := 0; trial < searchTrials && low < high; trial++ {
		n := high
		if trial > 0 {
			n = (low + high + 1) / 2
		}
		t := Trial{Share: f.share(n)}
		if err := f.macs(ctx, n, &t); err != nil {
			return 0, err
		}
		drop, margin, err := f.drop(ctx, n)
		if err != nil {
			return 0, err
		}
		t.Drop, t.Margin, t.OK = &drop, &margin, drop+margin <= *f.p.opt.MaxDrop
		f.search.Trials = append(f.search.Trials, t)
		if t.OK {
			low = n
		} else {
			high = n - 1
		}
	}
	f.search.Met = f.search.Met && low == taken
	if low == 0 {
		return 0, &OptionError{fmt.Sprintf("no filters can be removed with a loss of at most %.2f points on the samples of the search; allow more, or recover with finetune", *f.p.opt.MaxDrop)}
	}
	return low, nil
}

// drop is the loss of accuracy in points after so many steps, recovered on other
// samples than it is judged by, and its standard error: with b samples that only the
// original gets right and c that only the pruned model does, of n,
// sqrt(b + c - (b-c)^2/n) / n.
func (f *finder) drop(ctx context.Context, taken int) (drop, margin float64, err error) {
	plan, err := f.plan(ctx, taken)
	if err != nil || len(plan.Filters) == 0 {
		return 0, 0, err
	}
	p := f.p
	q := &pipeline{eng: p.eng, m: p.m, opt: p.opt, target: p.target, plan: plan, steps: p.steps, open: p.open, r: &Report{}}
	defer q.close()
	q.fit = p.fit
	q.fit.Index = f.fit
	masked, err := q.mask(ctx)
	if err != nil {
		return 0, 0, err
	}
	dense, _, err := q.recover(ctx, masked)
	if err != nil {
		return 0, 0, err
	}
	var right [2][]bool
	models := []*inspect.Model{p.m, dense.m}
	evals, err := probe.EvaluateEach(ctx, []engine.Engine{p.eng, p.eng}, models, p.opt.Set, f.judge, p.opt.Probe, func(model int, r probe.Run) error {
		k := len(r.Out) / len(r.Index)
		for i, label := range r.Labels {
			right[model] = append(right[model], probe.Argmax(r.Out[i*k:(i+1)*k]) == label)
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	b, c, n := 0.0, 0.0, float64(len(right[0]))
	for i, was := range right[0] {
		switch is := right[1][i]; {
		case was && !is:
			b++
		case is && !was:
			c++
		}
	}
	return points(evals[0].Correct-evals[1].Correct, evals[0].Samples), 100 * math.Sqrt(b+c-(b-c)*(b-c)/n) / n, nil
}
