package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/filterlens/filterlens/export/compact"
)

// plan makes the plans of all levels, so that whatever cannot be compared is refused
// before anything is run.
func (c *comparer) plan(ctx context.Context) error {
	shares := slices.Clone(c.opt.FilterShares)
	if len(shares) == 0 {
		if shares = slices.Clone(c.opt.Dilutions); c.opt.OwnRule {
			shares = append(shares, 0) // the rule: no dilution is asked for
		}
	}
	if len(shares) == 0 {
		return &OptionError{"no dilution is asked for; give --dilutions 0.5,0.9"}
	}
	for i, share := range shares {
		c.opt.Probe.Progress("planning", i, len(shares))
		l, err := c.planLevel(ctx, share)
		if err != nil {
			return err
		}
		c.add(l, share)
	}
	c.opt.Probe.Progress("planning", len(shares), len(shares))
	slices.SortStableFunc(c.r.Levels, func(a, b CriteriaLevel) int { return cmp.Compare(a.Dilution, b.Dilution) })
	for i := range c.r.Levels {
		slices.Sort(c.r.Levels[i].Asked)
		c.surprise(&c.r.Levels[i])
	}
	return nil
}

// add takes a level in, unless one keeps the same numbers already: then both were
// asked for by it.
func (c *comparer) add(l *CriteriaLevel, share float64) {
	for i := range c.r.Levels {
		if slices.Equal(c.r.Levels[i].Layers, l.Layers) {
			c.r.Levels[i].ask(share, c.opt.Theta)
			return
		}
	}
	l.ask(share, c.opt.Theta)
	c.r.Levels = append(c.r.Levels, *l)
}

func (l *CriteriaLevel) ask(share, theta float64) {
	switch {
	case share == 0:
		l.Theta = &theta
	case !slices.Contains(l.Asked, share):
		l.Asked = append(l.Asked, share)
	}
}

// planLevel plans one level by every criterion and seed.
func (c *comparer) planLevel(ctx context.Context, share float64) (*CriteriaLevel, error) {
	l := &CriteriaLevel{Asked: []float64{}, Layers: []CriteriaLayer{}, Runs: []CriteriaRun{}}
	plans := c.plans
	if c.r.Unit == UnitFilters {
		plans = c.filterPlans
	}
	var err error
	if l.plans, err = plans(ctx, share, nil); err != nil {
		return nil, err
	}
	first := l.plans[0][0]
	for i, list := range l.plans {
		for _, p := range list {
			if err := sameNumbers(first, p); err != nil {
				return nil, fmt.Errorf("%s and %s cannot be compared: %w", c.r.Criteria[0], c.r.Criteria[i], err)
			}
		}
	}
	for i := range first.Layers {
		f := &first.Layers[i]
		l.Layers = append(l.Layers, CriteriaLayer{f.Layer, f.Connections, f.Kept})
	}
	for i := range first.Filters {
		f := &first.Filters[i]
		l.Layers = append(l.Layers, CriteriaLayer{f.Layer, f.Size, f.Kept})
	}
	for _, y := range l.Layers {
		l.Total, l.Kept = l.Total+y.Total, l.Kept+y.Kept
	}
	if l.Total > 0 {
		l.Dilution = float64(l.Total-l.Kept) / float64(l.Total)
	}
	for _, b := range first.Blocked {
		if !slices.Contains(c.r.Blocked, b) {
			c.r.Blocked = append(c.r.Blocked, b)
		}
	}
	return l, nil
}

// plans are those of all criteria and seeds. groups, unless nil, are the only groups
// of filters that lose any.
func (c *comparer) plans(ctx context.Context, share float64, groups map[string]float64) (all [][]*Plan, err error) {
	for _, criterion := range c.r.Criteria {
		var list []*Plan
		for _, seed := range c.seeds(criterion) {
			po := c.planOptions(criterion, seed, share)
			if groups != nil {
				po.FiltersKeep, po.GroupsKeep = 0, groups
			}
			p, err := NewPlan(ctx, c.m, c.res, po)
			if err != nil {
				return nil, fmt.Errorf("criterion %s: %w", criterion, err)
			}
			list = append(list, p)
		}
		all = append(all, list)
	}
	return all, nil
}

// filterPlans are plans that remove whole filters. A group that one criterion cannot
// order, or of which filters must stay that one chose, keeps all of its filters in all
// of them, for else the numbers would not be equal.
func (c *comparer) filterPlans(ctx context.Context, share float64, _ map[string]float64) ([][]*Plan, error) {
	all, err := c.plans(ctx, share, nil)
	if err != nil {
		return nil, err
	}
	why := map[string]string{}
	var names []string // of all groups that any plan touches
	for _, list := range all {
		for _, p := range list {
			for i := range p.Filters {
				if n := p.Filters[i].Layer; !slices.Contains(names, n) {
					names = append(names, n)
				}
			}
		}
	}
	for i, list := range all {
		for _, p := range list {
			for _, n := range names {
				if !slices.ContainsFunc(p.Filters, func(f FilterPlan) bool { return f.Layer == n }) {
					why[n] = "the criterion " + c.r.Criteria[i] + " cannot order its filters" + blockedBecause(p, n)
				}
			}
			refused, err := c.refused(ctx, p)
			if err != nil {
				return nil, err
			}
			for n, reason := range refused {
				why[n] = "filters that the criterion " + c.r.Criteria[i] + " would remove must stay: " + reason
			}
		}
	}
	if len(why) == 0 {
		return all, nil
	}
	groups := map[string]float64{}
	for _, n := range names {
		if why[n] == "" {
			groups[n] = share
		} else if b := (Blocked{n, why[n]}); !slices.ContainsFunc(c.r.Blocked, func(o Blocked) bool { return o.Layer == n }) {
			c.r.Blocked = append(c.r.Blocked, b)
		}
	}
	if len(groups) == 0 {
		return nil, &OptionError{fmt.Sprintf("no group of filters of %s can be ordered by all of the criteria (%s: %s); choose some with --criteria", c.m.File, names[0], why[names[0]])}
	}
	return c.plans(ctx, share, groups)
}

func blockedBecause(p *Plan, layer string) string {
	for _, b := range p.Blocked {
		if b.Layer == layer {
			return ": " + b.Reason
		}
	}
	return ""
}

// refused returns the groups of which compaction would keep filters that are to go.
func (c *comparer) refused(ctx context.Context, p *Plan) (map[string]string, error) {
	cp, err := compact.NewPlan(ctx, c.m, p.compaction(true))
	if err != nil {
		return nil, err
	}
	groups := map[string]string{}
	for _, r := range cp.Refused {
		for i := range p.Filters {
			if f := &p.Filters[i]; f.Layer == r.Layer || slices.Contains(f.Coupled, r.Layer) {
				groups[f.Layer] = r.Reason
			}
		}
	}
	return groups, nil
}

// macs are the multiply-accumulates of the model without the filters of a plan.
func (c *comparer) macs(ctx context.Context, p *Plan) (*int64, error) {
	cp, err := compact.NewPlan(ctx, c.m, p.compaction(true))
	if err != nil {
		return nil, err
	}
	return cp.After.MACs, nil
}

// sameNumbers tells whether two plans keep the same numbers of the same layers.
func sameNumbers(a, b *Plan) error {
	if len(a.Layers) != len(b.Layers) || len(a.Filters) != len(b.Filters) {
		return errors.New("they prune different layers")
	}
	for i := range a.Layers {
		x, y := &a.Layers[i], &b.Layers[i]
		if x.Layer != y.Layer || x.Connections != y.Connections || x.Kept != y.Kept {
			return fmt.Errorf("they keep %d of %d connections of layer %s and %d of %d of %s", x.Kept, x.Connections, x.Layer, y.Kept, y.Connections, y.Layer)
		}
	}
	for i := range a.Filters {
		x, y := &a.Filters[i], &b.Filters[i]
		if x.Layer != y.Layer || x.Size != y.Size || x.Kept != y.Kept || len(x.Removed) != len(y.Removed) {
			return fmt.Errorf("they keep %d of %d filters of layer %s and %d of %d of %s", x.Kept, x.Size, x.Layer, y.Kept, y.Size, y.Layer)
		}
	}
	return nil
}

// surprise says what is unexpected about a level.
func (c *comparer) surprise(l *CriteriaLevel) {
	say := func(format string, a ...any) { c.r.Warnings = append(c.r.Warnings, fmt.Sprintf(format, a...)) }
	if c.r.Unit == UnitFilters {
		return
	}
	more, most, where, empty := 0, 0.0, "", 0
	for _, y := range l.Layers {
		dilution := float64(y.Total-y.Kept) / float64(max(1, y.Total))
		if len(l.Asked) > 0 && dilution > l.Asked[0]+0.05 {
			if more++; dilution > most {
				most, where = dilution, y.Layer
			}
		}
		if y.Kept == 0 {
			empty++
		}
	}
	if more > 0 {
		say("a dilution of %s was asked for: %d of %d layers are diluted more, up to %s (%s), for their filters share too few labels for less, or connections of equal score fall together; every criterion drops as many there",
			percent(l.Asked[0]), more, len(l.Layers), percent(most), where)
	}
	if empty > 0 {
		say("at a dilution of %s, %d of %d layers lose every connection, so that all criteria are the same there", percent(l.Dilution), empty, len(l.Layers))
	}
}
