package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

// FromStats shows what was measured: the samples, the row of each layer, and what
// else was asked for.
func FromStats(r *probe.Result) Document {
	d := Document{Title: "What the filters of " + r.Model + " recognise", Warnings: r.Warnings}
	d.Sections = append(d.Sections, Section{Facts: measureFacts(r)}, splitSection(r), statsSection(r))
	if s := trendSection(r); len(s.Facts) > 0 {
		d.Sections = append(d.Sections, s)
	}
	for _, s := range []Section{allFiltersSection(r), stabilitySection(r), singleSection(r), confusionSection(r), orderSection(r)} {
		if s.Table != nil {
			d.Sections = append(d.Sections, s)
		}
	}
	d.Sections = append(d.Sections, sweepSections(r)...)
	return d
}

func measureFacts(r *probe.Result) []Fact {
	acc := Share(r.Accuracy)
	acc.Text += fmt.Sprintf(" on the evaluation split (chance %s)", Share(r.Chance).Text)
	return []Fact{
		{"data", Words(strings.TrimSpace(r.Data.Path + " (" + r.Data.Format + ")"))},
		{"labels", Count(int64(len(r.Data.Labels)))},
		{"preprocessing", Words(r.Data.Preprocess)},
		{"model accuracy", acc},
		{"theta", Cell{Text: fmt.Sprint(r.Theta), Raw: r.Theta}},
		{"heads", Words(recipeText(r.Recipe))},
		{"seed", Cell{Text: fmt.Sprint(r.Seed), Raw: r.Seed}},
		{"run on", Words(runOn(r.Engine, r.EngineVersion, r.Provider, r.Nodes, r.Elsewhere))},
	}
}

func splitSection(r *probe.Result) Section {
	t := &Table{Columns: []Column{
		{Title: "split", Key: "split"}, {Title: "used for", Key: "used_for", Drop: 1}, {Title: "samples", Key: "samples", Right: true},
		{Title: "per label", Key: "per_label", Right: true}, {Title: "sha256", Key: "sha256"},
	}}
	add := func(name, use string, p probe.Part) {
		if p.Samples == 0 {
			return
		}
		per := grouped(int64(p.MinPerLabel))
		if p.MaxPerLabel != p.MinPerLabel {
			per += " to " + grouped(int64(p.MaxPerLabel))
		}
		t.Rows = append(t.Rows, []Cell{Words(name), Words(use), Count(int64(p.Samples)), Words(per), {Text: shortHash(p.SHA256), Raw: p.SHA256}})
	}
	add("fit", "training the heads", r.Data.Fit)
	add("stats", "label means, hence fields and clusters", r.Data.Stats)
	add("eval", "accuracies", r.Data.Eval)
	return Section{Title: "Samples", Table: t}
}

func shortHash(s string) string { return s[:min(12, len(s))] }

func statsSection(r *probe.Result) Section {
	t := &Table{Main: true, Columns: []Column{
		{Title: "layer", Key: "layer", Shrink: true},
		{Title: "filters", Key: "filters", Right: true},
		{Title: "pos", Key: "positions", Right: true, Drop: 5},
		{Title: "accuracy", Key: "accuracy", Right: true},
		{Title: "N_c", Key: "n_c", Right: true},
		{Title: "C_s", Key: "c_s", Right: true},
		{Title: "d", Key: "d", Right: true},
		{Title: "n", Key: "n", Right: true},
		{Title: "n int", Key: "n_internal", Right: true, Drop: 3},
		{Title: "n ext", Key: "n_external", Right: true, Drop: 4},
		{Title: "SNR", Key: "snr", Right: true},
		{Title: "S/N_ext", Key: "snr_external", Right: true, Drop: 2},
		{Title: "stable", Key: "stability_jaccard", Right: true, Sparse: true},
		{Title: "none", Key: "without_cluster", Right: true, Drop: 1},
		{Title: "head", Key: "head", Drop: 6},
		{Title: "phi", Key: "stability_phi", Hidden: true},
		{Title: "alone", Key: "single_accuracy_mean", Hidden: true},
		{Title: "inside", Key: "confusion_share", Hidden: true},
		{Title: "lift", Key: "confusion_lift", Hidden: true},
		{Title: "engine", Key: "engine", Hidden: true},
		{Title: "engine version", Key: "engine_version", Hidden: true},
		{Title: "provider", Key: "provider", Hidden: true},
	}}
	stable := false
	for i := range r.Layers {
		l := &r.Layers[i]
		jaccard, phi, inside, lift := none, none, none, none
		if l.Stability != nil {
			stable = true
			jaccard, phi = optional(l.Stability.Jaccard, decimals(2), unread), optional(l.Stability.Phi, decimals(2), unread)
		}
		if l.Confusion != nil {
			inside, lift = optional(l.Confusion.Share, Share, unread), optional(l.Confusion.Lift, decimals(2), unread)
		}
		alone := none
		if len(l.Single) > 0 {
			alone = meanOf(l.Single, func(f probe.SingleFilter) *float64 { return f.Accuracy })
		}
		row := []Cell{tapName(l), Count(int64(l.Tap.Filters)), Count(int64(l.Positions())), Share(l.Accuracy)}
		row = append(row, averages(l.Stats.Mean, l.Stats.Filters > l.Stats.WithoutCluster)...)
		t.Rows = append(t.Rows, append(row, optional(l.Stats.SNR, decimals(2), unread), optional(l.Stats.SNRExternal, decimals(2), unread), jaccard,
			Count(int64(l.Stats.WithoutCluster)), Words(l.Head), phi, alone, inside, lift,
			Words(r.Engine), Words(r.EngineVersion), Words(r.Provider)))
	}
	s := Section{Title: "Layers", Table: t, Notes: statsDefinitions(r.Theta)}
	if stable {
		s.Notes = append(s.Notes, "stable: agreement of a filter's labels with those found on other samples (mean Jaccard index), averaged over the filters; 1 is the same")
	}
	if len(r.Skipped) > 0 {
		s.Notes = append(s.Notes, "not measured: "+skipped(r.Skipped))
	}
	if text := outliersText(r.Layers); text != "" {
		s.Notes = append(s.Notes, "long features, shortened to train the heads: "+text)
	}
	for _, l := range r.LeftOut {
		s.Notes = append(s.Notes, "left out: "+leftOutText(l))
	}
	return s
}

func tapName(l *probe.Layer) Cell { return layerName(l.Op, l.Layers...) }

func decimals(n int) func(float64) Cell {
	return func(v float64) Cell { return Number(v, n) }
}

// averages returns the cells of N_c to n ext. Where there is nothing to average
// over they are unknown.
func averages(a afcc.Averages, any bool) []Cell {
	if !any {
		return []Cell{unread, unread, unread, unread, unread, unread}
	}
	return []Cell{Number(a.Nc, 2), Number(a.Cs, 2), Number(a.D, 2), Number(a.N, 1), Number(a.Internal, 1), Number(a.External, 1)}
}

func statsDefinitions(theta float64) []string {
	return []string{
		"accuracy: of a linear head without bias on the layer's output, trained on the fit split with everything before it frozen, judged on the eval split; head \"classifier\": the model's own last layer",
		fmt.Sprintf("field: what a head's output gets from one filter alone, mean over the samples of a label; clipped at theta = %g of the filter's largest field", theta),
		"N_c: clusters of a filter; C_s: labels in a cluster; d: labels in all its clusters; averaged over the filters that have a cluster",
		"n: ones of the clipped matrix outside the clusters; n int: those in columns of the filter's labels; n ext: the rest",
		"SNR: S / (N_int + N_ext) with S = sum of d / K, N_int = sum of C(C-1) / (K(K-1)) over clusters of C labels, N_ext = sum of n / (K(K-1)); S/N_ext: without N_int; - where there is no noise",
		"filters: of the layer; pos: positions of a filter that the head sees; none: filters without a cluster",
	}
}

// outliersText says in which layers samples have features much longer than others,
// and how many, "" when in none.
func outliersText(layers []probe.Layer) string {
	const shown = 3
	var list []string
	n := 0
	for i := range layers {
		o := layers[i].Outliers
		if o == nil {
			continue
		}
		if n++; n <= shown {
			list = append(list, fmt.Sprintf("%s of %s samples at %s, at most %s times the median",
				grouped(int64(o.Shortened)), grouped(int64(o.Samples)), tapName(&layers[i]).Short, grouped(int64(math.Round(o.Longest)))))
		}
	}
	if n > shown {
		list = append(list, fmt.Sprintf("and at %s more", plural(n-shown, "layer")))
	}
	return strings.Join(list, "; ")
}

// skipped writes layers and why, those with the same reason together.
func skipped(skips []probe.Skip) string {
	var parts []string
	for _, g := range byReason(skips) {
		parts = append(parts, firstNames(g.layers)+" ("+g.reason+")")
	}
	return strings.Join(parts, "; ")
}

// group is layers that share a reason.
type group struct {
	reason string
	layers []string
}

func byReason(skips []probe.Skip) []group {
	var groups []group
	for _, s := range skips {
		i := slices.IndexFunc(groups, func(g group) bool { return g.reason == s.Reason })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{reason: s.Reason})
		}
		groups[i].layers = append(groups[i].layers, s.Layer)
	}
	return groups
}

// firstNames lists a few names and counts the others; JSON has them all.
func firstNames(names []string) string {
	const shown = 3
	list := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		list += fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return list
}

// FromFilters shows the filters of one layer with their clusters by label name.
// labels names the labels; theta is the threshold of the clusters.
func FromFilters(l *probe.Layer, labels []string, theta float64) Document {
	t := &Table{Main: true, Columns: []Column{
		{Title: "filter", Key: "filter", Right: true},
		{Title: "max field", Key: "max", Right: true, Drop: 4},
		{Title: "N_c", Key: "n_c", Right: true},
		{Title: "d", Key: "d", Right: true},
		{Title: "n", Key: "n", Right: true},
		{Title: "n int", Key: "n_internal", Right: true, Drop: 3},
		{Title: "n ext", Key: "n_external", Right: true, Drop: 3},
		{Title: "stable", Key: "stability_jaccard", Right: true, Sparse: true},
		{Title: "phi", Key: "stability_phi", Hidden: true},
		{Title: "alone", Key: "single_accuracy", Right: true, Sparse: true, Drop: 1},
		{Title: "own", Key: "single_own_labels", Right: true, Sparse: true, Drop: 2},
		{Title: "clusters", Key: "clusters", Wrap: true},
	}}
	for i, f := range l.Filters {
		clusters := Words(clusterNames(f, labels))
		if len(f.Clusters) == 0 {
			reason := "none: no diagonal field above theta"
			switch {
			case f.NonFinite:
				reason = "none: a field is not finite"
			case f.Ratios == nil:
				reason = "none: no field above 0"
			}
			clusters = Cell{Text: reason, Raw: "", Tone: Faint}
		}
		jaccard, phi, alone, own := none, none, none, none
		if l.Stability != nil && i < len(l.Stability.Filters) {
			of := &l.Stability.Filters[i]
			jaccard, phi = optional(of.Jaccard, decimals(2), unread), optional(of.Phi, decimals(2), unread)
		}
		if i < len(l.Single) {
			alone, own = optional(l.Single[i].Accuracy, Share, unread), optional(l.Single[i].Own, Share, unread)
		}
		t.Rows = append(t.Rows, []Cell{
			Count(int64(f.Index)), {Text: fmt.Sprintf("%#.3g", f.Max), Raw: f.Max}, Count(int64(len(f.Clusters))), Count(int64(f.D())),
			Count(int64(f.Noise)), Count(int64(f.Internal)), Count(int64(f.External)), jaccard, phi, alone, own, clusters,
		})
	}
	s := Section{Table: t, Notes: []string{
		fmt.Sprintf("clusters in braces, labels by falling field; a label belongs to a filter when its diagonal field is above %g of the filter's largest", theta),
	}}
	if l.Stability != nil {
		s.Notes = append(s.Notes, fmt.Sprintf("stable: agreement of the filter's labels in %s (mean Jaccard index)", runsText(l.Stability.Runs)))
	}
	if len(l.Single) > 0 {
		s.Notes = append(s.Notes, "alone: accuracy of a head of which only this filter speaks; own: the same on samples of the filter's labels")
	}
	layers := strings.Join(l.Layers, " + ")
	return Document{Title: "Filters of " + layers, Key: "layer", Of: layers, Sections: []Section{s}}
}

// clusterNames writes clusters as {dog, wolf} {cat}: the cluster with the
// strongest label first, in each the strongest label first.
func clusterNames(f afcc.Filter, labels []string) string {
	strongest := func(a, b int) int { return cmp.Or(cmp.Compare(f.Ratios[b], f.Ratios[a]), cmp.Compare(a, b)) }
	clusters := make([][]int, len(f.Clusters))
	for i, c := range f.Clusters {
		clusters[i] = slices.SortedFunc(slices.Values(c), strongest)
	}
	slices.SortStableFunc(clusters, func(a, b []int) int { return strongest(a[0], b[0]) })
	parts := make([]string, len(clusters))
	for i, c := range clusters {
		names := make([]string, len(c))
		for j, l := range c {
			names[j] = fmt.Sprint(l)
			if l < len(labels) {
				names[j] = labels[l]
			}
		}
		parts[i] = "{" + strings.Join(names, ", ") + "}"
	}
	return strings.Join(parts, " ")
}
