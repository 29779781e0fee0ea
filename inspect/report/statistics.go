package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

// layerTable returns a table with a row for each layer that has a statistic, nil
// when none has. row returns the cells behind the name, nil for a layer without.
func layerTable(r *probe.Result, columns []Column, row func(l *probe.Layer) []Cell) *Table {
	t := &Table{Columns: append([]Column{{Title: "layer", Key: "layer", Shrink: true}}, columns...)}
	for i := range r.Layers {
		if cells := row(&r.Layers[i]); cells != nil {
			t.Rows = append(t.Rows, append([]Cell{tapName(&r.Layers[i])}, cells...))
		}
	}
	if len(t.Rows) == 0 {
		return nil
	}
	return t
}

// minTrend is the fewest layers of which a trend is worth telling.
const minTrend = 3

// trendSection says whether accuracy and SNR rise with depth, and where they do
// not.
func trendSection(r *probe.Result) Section {
	t := r.Trends()
	if len(t.Accuracy.Layers) < minTrend {
		return Section{}
	}
	percents := func(v float64) string { return Share(v).Text }
	numbers := func(v float64) string { return Number(v, 2).Text }
	return Section{Title: "Do accuracy and SNR rise with depth?", Facts: []Fact{
		{"accuracy", Words(trendText(r, t.Accuracy, percents))},
		{"SNR", Words(trendText(r, t.SNR, numbers))},
	}, Notes: []string{
		"arXiv 2309.07537 reports that both rise with the layers; rho: Spearman's rank correlation with depth, 1 when each layer has more than the one before it, -1 when less",
		"within the error: a fall of at most two standard errors, which another draw of eval samples may well not show; it is not known for SNR",
	}}
}

// trendText says how a quantity changes with depth, and names the steps against
// the rise.
func trendText(r *probe.Result, t probe.Trend, value func(float64) string) string {
	steps := len(t.Layers) - 1
	if steps < 1 {
		return "known of too few layers"
	}
	text := "the same in all layers"
	if t.Rho != nil {
		text = fmt.Sprintf("rho = %.2f over %s", *t.Rho, plural(len(t.Layers), "layer"))
	}
	if len(t.Against) == 0 {
		return text + "; it falls nowhere"
	}
	const shown = 6
	var list []string
	for _, s := range t.Against[:min(shown, len(t.Against))] {
		from, to := tapName(&r.Layers[s.From]), tapName(&r.Layers[s.To])
		step := fmt.Sprintf("%s to %s (%s to %s", from.Short, to.Short, value(s.Before), value(s.After))
		if s.Within {
			step += ", within the error"
		}
		list = append(list, step+")")
	}
	text += fmt.Sprintf("; it falls at %d of %s: %s", len(t.Against), plural(steps, "step"), strings.Join(list, ", "))
	if n := len(t.Against) - shown; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// allFiltersSection averages over all filters of layers in which that differs from
// the averages over those that have a cluster.
func allFiltersSection(r *probe.Result) Section {
	return Section{Title: "Averages over all filters", Table: layerTable(r, []Column{
		{Title: "filters", Key: "filters", Right: true},
		{Title: "none", Key: "without_cluster", Right: true},
		{Title: "N_c", Key: "n_c_all", Right: true},
		{Title: "C_s", Key: "c_s_all", Right: true},
		{Title: "d", Key: "d_all", Right: true},
		{Title: "n", Key: "n_all", Right: true},
		{Title: "n int", Key: "n_internal_all", Right: true, Drop: 1},
		{Title: "n ext", Key: "n_external_all", Right: true, Drop: 1},
	}, func(l *probe.Layer) []Cell {
		if l.Stats.WithoutCluster == 0 {
			return nil
		}
		return append([]Cell{Count(int64(l.Stats.Filters)), Count(int64(l.Stats.WithoutCluster))}, averages(l.Stats.MeanAll, true)...)
	}), Notes: []string{"of the layers that have filters without a cluster (none); such a filter has N_c = C_s = d = 0, and the noise that it has"}}
}

// Hennig's bounds for the Jaccard index of a cluster (afcc.ClusterStability).
const (
	stableFrom     = 0.75
	dissolvedBelow = 0.5
)

func stabilitySection(r *probe.Result) Section {
	runs := 0
	t := layerTable(r, []Column{
		{Title: "stable", Key: "jaccard", Right: true},
		{Title: "phi", Key: "phi", Right: true},
		{Title: "cluster", Key: "cluster_jaccard", Right: true},
		{Title: "identical", Key: "cluster_identical", Right: true},
		{Title: ">= 0.75", Key: "stable_clusters", Right: true},
		{Title: "< 0.5", Key: "dissolved_clusters", Right: true},
		{Title: "clusters", Key: "clusters", Right: true},
	}, func(l *probe.Layer) []Cell {
		s := l.Stability
		if s == nil {
			return nil
		}
		runs = s.Runs
		total, stable, dissolved := 0, 0, 0
		for _, f := range s.Filters {
			for _, c := range f.Clusters {
				total++
				if c.Jaccard >= stableFrom {
					stable++
				}
				if c.Jaccard < dissolvedBelow {
					dissolved++
				}
			}
		}
		cluster, identical := unread, unread
		if s.Cluster != nil {
			cluster, identical = Number(s.Cluster.Jaccard, 2), Share(s.Cluster.Identical)
		}
		return []Cell{optional(s.Jaccard, decimals(2), unread), optional(s.Phi, decimals(2), unread), cluster, identical,
			Count(int64(stable)), Count(int64(dissolved)), Count(int64(total))}
	})
	return Section{Title: "Which clusters are real", Table: t, Notes: []string{
		"measured again: " + runsText(runs),
		"stable: mean Jaccard index of a filter's label sets in two runs, 1 is the same; phi: the same corrected for chance, 0 is what random label sets of that size give",
		"cluster: largest Jaccard index of a cluster with one of a run, averaged over runs and clusters; >= 0.75, < 0.5: clusters that are stable or dissolved by it (Hennig 2007); identical: share of runs with exactly the same cluster",
	}}
}

// runsText says what the runs of a stability are.
func runsText(runs int) string {
	if runs == 2 {
		return "two halves of the stats samples"
	}
	return fmt.Sprintf("%d bootstrap resamples of the stats samples", runs)
}

func singleSection(r *probe.Result) Section {
	t := layerTable(r, []Column{
		{Title: "head", Key: "accuracy", Right: true},
		{Title: "alone", Key: "single_accuracy_mean", Right: true},
		{Title: "best", Key: "single_accuracy_max", Right: true},
		{Title: "filter", Key: "best_filter", Right: true, Drop: 1},
		{Title: "own", Key: "own_labels_mean", Right: true},
		{Title: "best own", Key: "own_labels_max", Right: true},
	}, func(l *probe.Layer) []Cell {
		if len(l.Single) == 0 {
			return nil
		}
		accuracy := func(f probe.SingleFilter) *float64 { return f.Accuracy }
		own := func(f probe.SingleFilter) *float64 { return f.Own }
		best, filter := maxOf(l.Single, accuracy)
		bestOwn, _ := maxOf(l.Single, own)
		return []Cell{Share(l.Accuracy), meanOf(l.Single, accuracy), best, filter, meanOf(l.Single, own), bestOwn}
	})
	return Section{Title: "Filters alone", Table: t, Notes: []string{
		fmt.Sprintf("head: accuracy of the whole head; alone: that of a head of which one filter speaks, mean over the filters; best: of the best filter; chance is %s", Share(r.Chance).Text),
		"own: accuracy of one filter on the samples of its own labels, mean over the filters that have labels; where the head sees one position of a filter that is never negative, the filter alone always gives the same answer and is right for one label at most",
	}}
}

// meanOf averages what is known, unknown when nothing is.
func meanOf(list []probe.SingleFilter, value func(probe.SingleFilter) *float64) Cell {
	sum, n := 0.0, 0
	for _, f := range list {
		if v := value(f); v != nil {
			sum += *v
			n++
		}
	}
	if n == 0 {
		return unread
	}
	return Share(sum / float64(n))
}

// maxOf returns the largest value and the number of its filter.
func maxOf(list []probe.SingleFilter, value func(probe.SingleFilter) *float64) (best, filter Cell) {
	best, filter = unread, unread
	top := -1.0
	for i, f := range list {
		if v := value(f); v != nil && *v > top {
			top = *v
			best, filter = Share(top), Count(int64(i))
		}
	}
	return best, filter
}

func confusionSection(r *probe.Result) Section {
	t := layerTable(r, []Column{
		{Title: "errors", Key: "errors", Right: true},
		{Title: "inside", Key: "inside_share", Right: true},
		{Title: "pairs", Key: "expected_share", Right: true},
		{Title: "lift", Key: "lift", Right: true},
		{Title: "weighted", Key: "weighted_lift", Right: true},
	}, func(l *probe.Layer) []Cell {
		c := l.Confusion
		if c == nil {
			return nil
		}
		return []Cell{Count(int64(c.Errors)), optional(c.Share, Share, unread), optional(c.Expected, Share, unread), optional(c.Lift, decimals(2), unread), optional(c.WeightedLift, decimals(2), unread)}
	})
	return Section{Title: "Confusion of labels that share a cluster", Table: t, Notes: []string{
		"errors: wrong answers of the head on the eval samples; inside: share of them whose right and given label stand in one cluster of some filter; pairs: share of all pairs of labels that do, which is what to expect inside by chance",
		"lift: inside / pairs; weighted: the same with each pair counted as often as clusters hold it, for layers in which nearly every pair is in some cluster; above 1, labels of a cluster are taken for each other more often than others",
	}}
}

func orderSection(r *probe.Result) Section {
	orders := 0
	spread := func(reference float64, s afcc.Spread, n int) []Cell {
		return []Cell{Number(reference, n), Number(s.Mean, n), Number(s.SD, n)}
	}
	var columns []Column
	for _, q := range []struct{ title, key string }{{"N_c", "n_c"}, {"C_s", "c_s"}, {"n", "n"}} {
		columns = append(columns, Column{Title: q.title, Key: q.key, Right: true}, Column{Title: "mean", Key: q.key + "_mean", Right: true}, Column{Title: "sd", Key: q.key + "_sd", Right: true})
	}
	t := layerTable(r, columns, func(l *probe.Layer) []Cell {
		o := l.Order
		if o == nil {
			return nil
		}
		orders = len(o.Permuted)
		a := o.Ascending.Mean
		return append(append(spread(a.Nc, o.Nc, 2), spread(a.Cs, o.Cs, 2)...), spread(a.N, o.N, 1)...)
	})
	return Section{Title: "What the order of the labels changes", Table: t, Notes: []string{
		fmt.Sprintf("N_c, C_s, n: in ascending order, then mean and standard deviation over %s; d, the label sets, what AFCC keeps and SNR are the same in every order", plural(orders, "random order")),
	}}
}

// sweepSections returns a table for each quantity: layers by thresholds.
func sweepSections(r *probe.Result) (sections []Section) {
	for i, q := range []struct {
		title, key string
		cell       func(s *afcc.Stats) Cell
	}{
		{"N_c", "n_c", func(s *afcc.Stats) Cell { return ofClusters(s, s.Mean.Nc, 2) }},
		{"C_s", "c_s", func(s *afcc.Stats) Cell { return ofClusters(s, s.Mean.Cs, 2) }},
		{"n", "n", func(s *afcc.Stats) Cell { return ofClusters(s, s.Mean.N, 1) }},
		{"SNR", "snr", func(s *afcc.Stats) Cell { return optional(s.SNR, decimals(2), unread) }},
	} {
		var columns []Column
		t := layerTable(r, nil, func(l *probe.Layer) []Cell {
			if len(l.Sweep) == 0 {
				return nil
			}
			if columns == nil {
				columns = thetaColumns(l.Sweep, q.key)
			}
			cells := make([]Cell, len(columns))
			for i := range cells {
				cells[i] = none
				if i < len(l.Sweep) {
					cells[i] = q.cell(&l.Sweep[i])
				}
			}
			return cells
		})
		if t == nil {
			return nil
		}
		t.Columns = append(t.Columns, columns...)
		s := Section{Title: q.title + " at other thresholds theta", Table: t}
		if i == 3 {
			s.Notes = []string{"averages over the filters that have a cluster at that threshold; - where there is none, or no noise"}
		}
		sections = append(sections, s)
	}
	return sections
}

// thetaColumns heads a column for each threshold. Where there is no room every
// other one goes first.
func thetaColumns(sweep []afcc.Stats, key string) []Column {
	columns := make([]Column, len(sweep))
	for i := range sweep {
		theta := strconv.FormatFloat(sweep[i].Theta, 'g', 4, 64)
		columns[i] = Column{Title: theta, Key: key + "_at_" + theta, Right: true}
		switch {
		case i%2 == 1 && i+1 < len(sweep):
			columns[i].Drop = 2
		case i%4 == 2:
			columns[i].Drop = 1
		}
	}
	return columns
}

// ofClusters is an average over the filters that have a cluster, unknown where
// none has.
func ofClusters(s *afcc.Stats, v float64, n int) Cell {
	if s.Filters == s.WithoutCluster {
		return unread
	}
	return Number(v, n)
}

// runOn says what ran the graphs, and how many nodes ran where. elsewhere names
// nodes that did not run on the provider asked for.
func runOn(engine, version, provider string, nodes map[string]int, elsewhere []string) string {
	text := fmt.Sprintf("%s %s, provider %s", engine, version, provider)
	if len(nodes) == 0 {
		return text
	}
	text += ": " + plural(nodes[provider], "node")
	others := 0
	for _, p := range slices.Sorted(maps.Keys(nodes)) {
		if p != provider {
			others += nodes[p]
			text += fmt.Sprintf(", %s: %s", p, grouped(int64(nodes[p])))
		}
	}
	if named := elsewhere[:min(3, len(elsewhere))]; others > 0 && len(named) > 0 {
		text += " (" + strings.Join(named, ", ")
		if n := others - len(named); n > 0 {
			text += fmt.Sprintf(" and %s more", grouped(int64(n)))
		}
		text += ")"
	}
	return text
}
