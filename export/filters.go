package export

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export/compact"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// filters plans which whole filters fall, group by group of those that can only go
// together. asked is as for connections.
func (p *planner) filters(ctx context.Context, plan *Plan, asked map[string]bool) error {
	groups, err := compact.Groups(ctx, p.m)
	if err != nil {
		return err
	}
	unknown := maps.Clone(p.opt.GroupsKeep)
	for i := range groups {
		g := &groups[i]
		if len(g.Makers) == 0 {
			continue
		}
		name := g.Makers[0].Layer
		delete(unknown, name)
		wanted := len(asked) == 0
		for _, mk := range g.Makers {
			if _, ok := asked[mk.Layer]; ok {
				asked[mk.Layer], wanted = true, true
			}
		}
		keep, ok := p.opt.GroupsKeep[name]
		if !ok {
			keep = p.opt.FiltersKeep
		}
		if !wanted || keep == 0 || !p.targeted(g) {
			continue
		}
		block := func(reason string) { plan.block(name, reason) }
		if g.Fixed != "" {
			block("its filters cannot go: " + g.Fixed)
			continue
		}
		r, ok := p.opt.ranked[name]
		if !ok {
			if r.scores, r.reason, err = p.channelScores(ctx, g, uint64(i)); err != nil {
				return fmt.Errorf("layer %s: %w", name, err)
			}
			if p.opt.ranked != nil {
				p.opt.ranked[name] = r
			}
		}
		if r.reason != "" {
			block(r.reason)
			continue
		}
		if f := removeLeast(g, r.scores, keep, p.opt.RoundTo); f != nil {
			plan.Filters = append(plan.Filters, *f)
		}
	}
	if len(unknown) > 0 {
		return &OptionError{fmt.Sprintf("no group of filters begins with layer %q", slices.Sorted(maps.Keys(unknown))[0])}
	}
	return nil
}

// A ranking is what the channels of a group are worth, or why that is not known.
type ranking struct {
	scores []float64
	reason string
}

// block notes why a layer stays, once for each.
func (p *Plan) block(layer, reason string) {
	if !slices.ContainsFunc(p.Blocked, func(b Blocked) bool { return b.Layer == layer }) {
		p.Blocked = append(p.Blocked, Blocked{layer, reason})
	}
}

// targeted tells whether a group is in the target: Conv has the groups that any
// convolution makes.
func (p *planner) targeted(g *compact.Group) bool {
	conv := false
	for _, mk := range g.Makers {
		if l := layerNamed(p.m, mk.Layer); l != nil && isConv(p.survey, l) {
			conv = true
		}
	}
	return p.opt.Target == Both || conv == (p.opt.Target == Conv)
}

func layerNamed(m *inspect.Model, name string) *inspect.Layer {
	for i := range m.Layers {
		if m.Layers[i].Scope == "" && m.Layers[i].Name == name {
			return &m.Layers[i]
		}
	}
	return nil
}

// removeLeast removes the channels with the least scores until the share keep is
// left, rounded up; nil when none falls. Of equal ones the last fall first.
func removeLeast(g *compact.Group, scores []float64, keep float64, roundTo int) *FilterPlan {
	n := min(max(1, int(math.Ceil(keep*float64(g.Size)-1e-9))), g.Size)
	if roundTo > 1 {
		n = min((n+roundTo-1)/roundTo*roundTo, g.Size)
	}
	if n == g.Size {
		return nil
	}
	order := worstFirst(scores)
	f := &FilterPlan{Layer: g.Makers[0].Layer, Size: g.Size, Kept: n, KeptScore: scores[order[g.Size-n]]}
	for _, mk := range g.Makers[1:] {
		f.Coupled = append(f.Coupled, mk.Layer)
	}
	for _, c := range order[:g.Size-n] {
		f.Removed = append(f.Removed, g.Makers[0].Filters(c)[0])
		f.Scores = append(f.Scores, scores[c])
	}
	return f
}

// worstFirst orders channels by their scores, the least first and of equal ones the
// last.
func worstFirst(scores []float64) []int {
	order := make([]int, len(scores))
	for c := range order {
		order[c] = len(scores) - 1 - c
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	return order
}

// channelScores returns what each channel of a group is worth: the mean over the
// layers that make it of the score of its filters there, divided by the layer's mean,
// so that no layer counts for more because its numbers are larger. Layers without
// statistics, such as those of gates, do not count; a reason says why none does. Of
// Reconstruction it is what the layers that read the channels lose: see there.
func (p *planner) channelScores(ctx context.Context, g *compact.Group, number uint64) (scores []float64, reason string, err error) {
	scores = make([]float64, g.Size)
	if p.opt.Criterion == Random {
		r := rand.New(rand.NewPCG(p.opt.Seed, number))
		for c, i := range r.Perm(g.Size) {
			scores[c] = float64(i)
		}
		return scores, "", nil
	}
	if p.opt.Criterion == Reconstruction {
		return p.reconstruction(ctx, g)
	}
	counted := 0
	for i := range g.Makers {
		mk := &g.Makers[i]
		of, why, err := p.filterScores(ctx, mk.Layer)
		if err != nil {
			return nil, "", err
		}
		if of == nil {
			if reason == "" {
				reason = why
			}
			continue
		}
		own, mean := make([]float64, g.Size), 0.0
		for c := range own {
			filters := mk.Filters(c)
			for _, f := range filters {
				if f >= len(of) {
					return nil, "", fmt.Errorf("filter %d of layer %s has no score among %d", f, mk.Layer, len(of))
				}
				own[c] += of[f] / float64(len(filters))
			}
			mean += own[c] / float64(g.Size)
		}
		for c := range own {
			if mean > 0 {
				own[c] /= mean
			}
			scores[c] += own[c]
		}
		counted++
	}
	if counted == 0 {
		return nil, reason, nil
	}
	for c := range scores {
		scores[c] /= float64(counted)
	}
	return scores, "", nil
}

// filterScores returns the score of each filter of a layer, or why it has none.
func (p *planner) filterScores(ctx context.Context, layer string) (scores []float64, reason string, err error) {
	for _, s := range p.survey.Skipped {
		if s.Layer == layer {
			return nil, s.Reason, nil
		}
	}
	l := layerNamed(p.m, layer)
	if p.opt.Criterion == Magnitude {
		st, ok := p.m.Graph.Stored(p.m.Graph.Nodes[l.Node].Input(1))
		if !ok || !st.Tensor.DType().IsFloat() {
			return nil, "its weights are computed, sparse or no floating-point numbers", nil
		}
		scores, err = filterNorms(ctx, st, l, p.m.Graph.Nodes[l.Node])
		return scores, "", err
	}
	tap := p.survey.LayerTap(layer)
	if tap == nil {
		return nil, "its outputs are not filters that a later layer reads", nil
	}
	first, n := tap.Range(layer)
	if p.opt.Criterion == Activation {
		rms, err := p.activity(tap)
		if err != nil {
			return nil, "", err
		}
		return rms[first : first+n], "", nil
	}
	row := p.res.Layer(tap.Tensor)
	if row == nil {
		return nil, "its own filters were not measured", nil
	}
	if err := fits(row, tap); err != nil {
		return nil, "", err
	}
	for i := range row.Filters[first : first+n] {
		scores = append(scores, clusterQuality(&row.Filters[first+i]))
	}
	return scores, "", nil
}

// clusterQuality is the share of a filter's clipped field matrix that is signal,
//
//	q = d / (ones of B),
//
// 0 for a filter without clusters. It rises with the filter's own part in the
// signal-to-noise ratio of its layer, SNR = (d/K) / ((ones-d)/(K(K-1))) =
// (K-1) q/(1-q) (arXiv:2309.07537), and stays finite where there is no noise.
func clusterQuality(f *afcc.Filter) float64 {
	if f.Ones == 0 {
		return 0
	}
	return float64(f.D()) / float64(f.Ones)
}

// filterNorms returns the Euclidean norm of each filter's weights.
func filterNorms(ctx context.Context, st inspect.Stored, l *inspect.Layer, node *inspect.Node) ([]float64, error) {
	dims := st.Tensor.Dims()
	total, err := st.Tensor.Elements()
	if err != nil {
		return nil, err
	}
	if len(dims) == 0 || total == 0 {
		return nil, fmt.Errorf("tensor %q has shape %v", st.Name, dims)
	}
	transposed := l.Op == "MatMul" || l.Op == "Gemm" && node.AttrInt("transB", 0) == 0
	rows := dims[0]
	if transposed {
		rows = dims[len(dims)-1]
	}
	norms := make([]float64, rows)
	each := total / rows
	var e int64
	err = st.Tensor.Values(func(block []float64) error {
		for _, v := range block {
			r := e / each
			if transposed {
				r = e % rows
			}
			norms[r] += v * v
			e++
		}
		return ctx.Err()
	})
	for i, v := range norms {
		norms[i] = math.Sqrt(v)
	}
	return norms, err
}

// activitySamples is how many samples measure activations at most.
const activitySamples = 1000

// Activity measures what PlanOptions.Activity holds: for the taps tensors of m (see
// Taps) the root mean square of each filter over samples and positions. The samples
// are those of the fitting and the statistics split of opt, at most a thousand.
// Errors are those of probe.Activations and of the split.
func Activity(ctx context.Context, eng engine.Engine, m *inspect.Model, set *dataset.Set, tensors []string, opt probe.Options) (map[string][]float64, error) {
	survey, err := probe.NewSurvey(m)
	if err != nil {
		return nil, err
	}
	var taps []*probe.Tap
	for _, name := range tensors {
		t := survey.Tap(name)
		if t == nil {
			return nil, &probe.UnknownLayerError{Layer: name}
		}
		taps = append(taps, t)
	}
	fit, stats, _, err := set.Split(opt.Split)
	if err != nil {
		return nil, err
	}
	index := some(slices.Sorted(slices.Values(slices.Concat(fit.Index, stats.Index))), activitySamples)
	sums := make([][]float64, len(taps))
	for i, t := range taps {
		sums[i] = make([]float64, t.Filters)
	}
	seen := 0
	for a, err := range probe.Activations(ctx, eng, m, taps, set, index, opt) {
		if err != nil {
			return nil, err
		}
		for i, t := range taps {
			positions := len(a.Taps[i]) / (len(a.Index) * t.Filters)
			for j, v := range a.Taps[i] {
				sums[i][j/positions%t.Filters] += float64(v) * float64(v) / float64(positions)
			}
		}
		seen += len(a.Index)
		if opt.Progress != nil {
			opt.Progress("activations", seen, len(index))
		}
	}
	rms := map[string][]float64{}
	for i, t := range taps {
		rms[t.Tensor] = make([]float64, t.Filters)
		for f, s := range sums[i] {
			rms[t.Tensor][f] = math.Sqrt(s / float64(max(1, seen)))
		}
	}
	return rms, nil
}

// some returns at most n members of index, evenly spread.
func some(index []int, n int) []int {
	if len(index) <= n {
		return index
	}
	out := make([]int, n)
	for i := range out {
		out[i] = index[i*len(index)/n]
	}
	return out
}
