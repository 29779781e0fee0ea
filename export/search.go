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
	// searchSamples is how many samples measure sensitivities, searchJudge how many
	// judge a trial, at most.
	searchSamples = 256
	searchJudge   = 2000
	// searchSteps is into how many steps the filters of a group are cut, of which the
	// last one is never taken.
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
	groups     []Sensitivity
	sizes      []int
	// path holds the groups in the order in which they lose a step of filters.
	path []int
}

// find returns the plan that removes whole filters until the targets are met. The
// sensitivity of each group of filters is measured once, by the error of the model's
// outputs when it alone loses some. Groups then lose steps of a sixteenth of their
// filters, always the one whose error grows least for the multiply-accumulates that
// it saves; how many steps are taken is found by bisection, of the multiply-
// accumulates that are left, of the time that is measured, and of the loss of
// accuracy after recovery on samples that neither recovery nor evaluation sees.
func (p *pipeline) find(ctx context.Context, res *probe.Result) (*Plan, error) {
	f := &finder{p: p, res: res, search: &Search{MaxDrop: p.opt.MaxDrop, Sensitivities: []Sensitivity{}, Trials: []Trial{}}}
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
	f.judge = some(f.judge, searchJudge)
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
		return nil, &OptionError{fmt.Sprintf("no filter of %s can be removed with target %s", p.m.File, p.opt.Target)}
	}
	if !f.search.Met {
		plan.Warnings = append(plan.Warnings, "no plan was found that meets what was asked for; this one comes nearest without exceeding the loss of accuracy that is allowed")
	}
	return plan, nil
}

// options returns what a plan is made by in which groups keep these shares.
func (f *finder) options(keep map[string]float64) PlanOptions {
	opt := f.p.opt.PlanOptions
	opt.FiltersKeep, opt.GroupsKeep = 0, keep
	return opt
}

// plan is the plan after so many steps of the path.
func (f *finder) plan(ctx context.Context, taken int) (*Plan, error) {
	lost := make([]int, len(f.groups))
	for _, g := range f.path[:taken] {
		lost[g]++
	}
	keep := map[string]float64{}
	for g, n := range lost {
		keep[f.groups[g].Layer] = 1 - float64(n)/searchSteps
	}
	return newPlan(ctx, f.p.m, f.res, f.options(keep))
}

// share is that of the filters of all groups that so many steps remove.
func (f *finder) share(taken int) float64 {
	all, gone := 0.0, 0.0
	for _, n := range f.sizes {
		all += float64(n)
	}
	for _, g := range f.path[:taken] {
		gone += float64(f.sizes[g]) / searchSteps
	}
	return gone / all
}

// measure fills in the sensitivities.
func (f *finder) measure(ctx context.Context) error {
	p := f.p
	opt := f.options(nil)
	opt.FiltersKeep, opt.Dilution = 0.25, 0
	all, err := newPlan(ctx, p.m, f.res, opt)
	if err != nil {
		return err
	}
	macs := map[string]int64{}
	groups, err := compact.Groups(ctx, p.m)
	if err != nil {
		return err
	}
	for i := range groups {
		if len(groups[i].Makers) > 0 {
			macs[groups[i].Makers[0].Layer] = groups[i].MACs
		}
	}
	index := some(f.judge, searchSamples)
	f.search.Samples = len(index)
	was, right, err := f.outputs(ctx, p.m, index)
	if err != nil {
		return err
	}
	variance := spread(was, len(index))
	for i := range all.Filters {
		g := &all.Filters[i]
		p.opt.Probe.Progress("measuring sensitivities", i, len(all.Filters))
		s := Sensitivity{Layer: g.Layer, MACs: macs[g.Layer], Removed: []float64{}, Error: []float64{}, Drop: []float64{}}
		for _, removed := range []float64{0.25, 0.5, 0.75} {
			opt := f.options(map[string]float64{g.Layer: 1 - removed})
			opt.Dilution, opt.RoundTo = 0, 0
			plan, err := newPlan(ctx, p.m, f.res, opt)
			if err != nil {
				return err
			}
			if len(plan.Filters) == 0 {
				continue // there are so few that none goes
			}
			c, err := compact.NewPlan(ctx, p.m, plan.compaction(true))
			if err != nil {
				return err
			}
			draft, err := compact.Mask(ctx, p.m, c)
			if err != nil {
				return err
			}
			t, err := p.write(ctx, draft)
			if err != nil {
				return err
			}
			is, hits, err := f.outputs(ctx, t.m, index)
			p.drop(t)
			if err != nil {
				return err
			}
			s.Removed = append(s.Removed, float64(len(plan.Filters[0].Removed))/float64(plan.Filters[0].Size))
			s.Error = append(s.Error, squares(was, is)/variance)
			s.Drop = append(s.Drop, points(right-hits, len(index)))
		}
		if len(s.Removed) > 0 {
			f.groups, f.sizes = append(f.groups, s), append(f.sizes, g.Size)
		}
	}
	if len(f.groups) == 0 {
		return &OptionError{fmt.Sprintf("no filter of %s can be removed with target %s", p.m.File, p.opt.Target)}
	}
	f.search.Sensitivities = append(f.search.Sensitivities, f.groups...)
	return nil
}

// outputs runs a model over samples and counts those that it gets right.
func (f *finder) outputs(ctx context.Context, m *inspect.Model, index []int) (all []float32, right int, err error) {
	opt := f.p.opt.Probe
	opt.Progress = nil
	evals, err := probe.EvaluateEach(ctx, []engine.Engine{f.p.eng}, []*inspect.Model{m}, f.p.opt.Set, index, opt, func(_ int, r probe.Run) error {
		all = append(all, r.Out...)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return all, evals[0].Correct, nil
}

// spread is the sum of squares of outputs from their means over samples, 1 where that
// is no number above 0.
func spread(v []float32, samples int) float64 {
	k := len(v) / max(1, samples)
	sum := 0.0
	for j := range k {
		mean := 0.0
		for i := range samples {
			mean += float64(v[i*k+j]) / float64(samples)
		}
		for i := range samples {
			d := float64(v[i*k+j]) - mean
			sum += d * d
		}
	}
	if !(sum > 0) || math.IsInf(sum, 0) {
		return 1
	}
	return sum
}

// squares is the sum of squared differences; one that is no number counts as large.
func squares(a, b []float32) float64 {
	sum := 0.0
	for i := range min(len(a), len(b)) {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	if sum-sum != 0 {
		return 1e9
	}
	return sum
}

// at is the error of a group that has lost a share of its filters: linear between
// what was measured, and further as steep as the last part.
func (s *Sensitivity) at(share float64) float64 {
	x0, y0, slope := 0.0, 0.0, 0.0
	for i, x := range s.Removed {
		if x <= x0 {
			continue
		}
		// More filters cannot cost less; what is measured can waver.
		y := max(y0, s.Error[i])
		slope = (y - y0) / (x - x0)
		if share <= x {
			break
		}
		x0, y0 = x, y
	}
	return y0 + slope*(share-x0)
}

// order fills in the path: always the step that costs least for what it saves.
func (f *finder) order() {
	lost := make([]int, len(f.groups))
	for {
		best, least := -1, math.Inf(1)
		for g := range f.groups {
			s := &f.groups[g]
			if lost[g] == searchSteps-1 || s.MACs <= 0 {
				continue
			}
			n := float64(lost[g])
			cost := (s.at((n+1)/searchSteps) - s.at(n/searchSteps)) / (float64(s.MACs) * float64(f.sizes[g]))
			if cost < least {
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
