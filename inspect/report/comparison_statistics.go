package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/afcc/probe"
)

// NewStatisticsDelta puts what was measured of two models side by side. pairs says
// which taps of A are which of B, and what has become of the filters; with nil, taps
// are paired by the names of their tensors and filters by their places, as for a
// model that was measured twice. Both must have the same number of labels and the
// same threshold; the error is that of probe.Compare or probe.ComparePairs.
func NewStatisticsDelta(a, b *probe.Result, pairs []probe.Pair) (*StatisticsDelta, error) {
	partner := map[string]string{}
	for _, p := range pairs {
		partner[p.A.Tensor] = p.B.Tensor
	}
	var found *probe.Differences
	var err error
	if pairs == nil {
		found, err = probe.Compare(a, b)
	} else {
		found, err = probe.ComparePairs(a, b, pairs)
	}
	if err != nil {
		return nil, err
	}
	d := &StatisticsDelta{Theta: a.Theta, MeasuredA: measuredOf(a), MeasuredB: measuredOf(b),
		Fit: a.Data.Fit, Stats: a.Data.Stats, Eval: a.Data.Eval, Layers: []StatisticsPair{}, Unpaired: found.Unpaired}
	d.Otherwise = measuredOtherwise(a, b)
	for _, l := range found.Layers {
		to := l.Tensor
		if pairs != nil {
			to = partner[l.Tensor]
		}
		of, other := a.Layer(l.Tensor), b.Layer(to)
		if d.Otherwise == "" && of.Pool != other.Pool {
			d.Otherwise = fmt.Sprintf("maps of %s are averaged over windows of side %d in A, %d in B", layerName(of.Op, of.Name()).Short, of.Pool, other.Pool)
		}
		d.Layers = append(d.Layers, StatisticsPair{LayerDifferences: l, Op: of.Op, LayerB: other.Name(), TensorB: to, A: statisticsRow(of), B: statisticsRow(other)})
	}
	return d, nil
}

// measuredOtherwise says what decides the numbers and is different, the first that
// there is beside the model, its layers, and further statistics, "" for nothing.
func measuredOtherwise(a, b *probe.Result) string {
	id, of := b.Identity(), a.Identity()
	id.ModelSHA256, id.Taps, id.Asked = of.ModelSHA256, of.Taps, of.Asked
	_, why := a.Answers(id)
	return why
}

func statisticsRow(l *probe.Layer) StatisticsRow {
	r := StatisticsRow{Filters: len(l.Filters), Accuracy: l.Accuracy, SNR: l.Stats.SNR}
	if l.Stats.Filters > l.Stats.WithoutCluster {
		m := l.Stats.Mean
		r.Clusters, r.Size, r.Labels, r.Noise = &m.Nc, &m.Cs, &m.D, &m.N
	}
	return r
}

// Same tells whether every layer of both has a counterpart and every filter one with
// the same clusters.
func (d *StatisticsDelta) Same() bool {
	return len(d.Unpaired) == 0 && !slices.ContainsFunc(d.Layers, func(l StatisticsPair) bool { return l.Clusters+l.Gone+l.New > 0 })
}

// statisticsCounts sums up the layers of a StatisticsDelta.
type statisticsCounts struct{ compared, clusters, labelSets, gained, lost, gone, new int }

func (d *StatisticsDelta) counts() (n statisticsCounts) {
	for _, l := range d.Layers {
		n.compared += l.Filters - l.Gone
		n.clusters += l.Clusters
		n.labelSets += l.LabelSets
		n.gained += l.Gained
		n.lost += l.Lost
		n.gone += l.Gone
		n.new += l.New
	}
	return n
}

// FromStatisticsDelta shows what was measured of two models, layer by layer.
// FromFilterChanges shows the filters, StatisticsTable is for CSV.
func FromStatisticsDelta(d *StatisticsDelta) []Section {
	if len(d.Layers) == 0 {
		return []Section{{Title: "Statistics", Facts: statisticsFacts(d), Notes: notPaired(d.Unpaired)}}
	}
	measures := sideMeasures()
	heads, clusters := &Table{Columns: []Column{layerColumn}}, &Table{Columns: []Column{layerColumn}}
	heads.Columns = append(heads.Columns, measureColumns(1, measures[0])...)
	heads.Columns = append(heads.Columns, measureColumns(2, measures[1])...)
	heads.Columns = append(heads.Columns,
		Column{Title: "filters", Key: "filters", Right: true, Drop: 3},
		Column{Title: "gone", Key: "gone", Right: true, Sparse: true},
		Column{Title: "new", Key: "new", Right: true, Sparse: true},
		Column{Title: "other", Key: "label_sets", Right: true},
		Column{Title: "gained", Key: "gained", Right: true},
		Column{Title: "lost", Key: "lost", Right: true})
	clusters.Columns = append(clusters.Columns, measureColumns(1, measures[2:]...)...)
	for i := range d.Layers {
		l := &d.Layers[i]
		row := append([]Cell{pairedName(l)}, measureCells(l, measures[0], measures[1])...)
		heads.Rows = append(heads.Rows, append(row, filterCells(l)...))
		clusters.Rows = append(clusters.Rows, append([]Cell{pairedName(l)}, measureCells(l, measures[2:]...)...))
	}
	notes := []string{
		"filters: of A, each compared with what it has become in B; gone, new: without a counterpart in B, or in A; other: with another label set; gained, lost: labels that they have only in B, or only in A",
		"accuracy: of a linear head without bias on the layer's output, trained on the fit split, judged on the eval split; +-: B less A, of accuracies in points",
		"SNR: S / N with S = sum of d / K, N = (sum of n + sum of C(C-1) over clusters of C labels) / (K(K-1)); - where there is no noise",
	}
	names := []string{}
	for i := range d.Layers {
		if d.Layers[i].Assumed {
			names = append(names, pairedName(&d.Layers[i]).Short)
		}
	}
	if len(names) > 0 {
		notes = append(notes, "places of filters taken to be the same, for their weights do not tell: "+firstNames(names))
	}
	notes = append(notes, notPaired(d.Unpaired)...)
	return []Section{
		{Title: "Statistics", Facts: statisticsFacts(d), Table: heads, Notes: notes},
		{Title: "Clusters", Table: clusters, Notes: []string{
			fmt.Sprintf("N_c: clusters of a filter at theta = %g; C_s: labels in a cluster; d: labels in all its clusters; n: ones of its clipped matrix outside the clusters; averaged over the filters that have a cluster", d.Theta),
		}},
	}
}

func notPaired(skips []probe.Skip) (notes []string) {
	for _, g := range byReason(skips) {
		notes = append(notes, "not compared: "+firstNames(g.layers)+" ("+g.reason+")")
	}
	return notes
}

func statisticsFacts(d *StatisticsDelta) []Fact {
	n := d.counts()
	verdict := Cell{Text: fmt.Sprintf("%s of %s compared have another label set", grouped(int64(n.labelSets)), plural(n.compared, "filter")), Tone: Changed}
	switch {
	case len(d.Layers) == 0:
		verdict = Cell{Text: "no layer of A has a counterpart in B that was measured", Tone: Changed}
	case n.compared == 0:
		verdict = Cell{Text: "no filter of A has a counterpart in B", Tone: Changed}
	case n.clusters == 0:
		verdict = Cell{Text: fmt.Sprintf("the same clusters in all of %s compared", plural(n.compared, "filter")), Tone: Added}
	case n.labelSets == 0:
		verdict.Text = fmt.Sprintf("the same labels in all of %s compared, divided otherwise in %s", plural(n.compared, "filter"), grouped(int64(n.clusters)))
	}
	facts := []Fact{{"filters", verdict}}
	if n.labelSets > 0 {
		facts = append(facts, Fact{"labels", Words(fmt.Sprintf("%s gained, %s lost", grouped(int64(n.gained)), grouped(int64(n.lost))))})
	}
	if n.gone+n.new > 0 {
		facts = append(facts, Fact{"not compared", Words(fmt.Sprintf("%s gone, %s new", plural(n.gone, "filter"), grouped(int64(n.new))))})
	}
	if d.Otherwise != "" {
		facts = append(facts, Fact{"measured otherwise", Cell{Text: d.Otherwise, Raw: d.Otherwise, Tone: Changed}})
	}
	var splits []string
	for _, x := range []struct {
		name string
		part probe.Part
	}{{"fit", d.Fit}, {"stats", d.Stats}, {"eval", d.Eval}} {
		if x.part.Samples > 0 {
			splits = append(splits, fmt.Sprintf("%s %s (sha256 %s)", x.name, grouped(int64(x.part.Samples)), shortHash(x.part.SHA256)))
		}
	}
	if splits != nil {
		facts = append(facts, Fact{"samples", Words(strings.Join(splits, ", "))})
	}
	a, b := d.MeasuredA, d.MeasuredB
	facts = append(facts, Fact{"accuracy", Words(fmt.Sprintf("of the models %s and %s", Share(a.Accuracy).Text, Share(b.Accuracy).Text))})
	if a.Engine != b.Engine || a.EngineVersion != b.EngineVersion || a.Provider != b.Provider {
		facts = append(facts, Fact{"measured on", Words(fmt.Sprintf("A %s %s, provider %s; B %s %s, provider %s", a.Engine, a.EngineVersion, a.Provider, b.Engine, b.EngineVersion, b.Provider))})
	}
	return append(facts, Fact{"theta", Cell{Text: fmt.Sprint(d.Theta), Raw: d.Theta}})
}

// A sideMeasure is a number that both sides of a layer have.
type sideMeasure struct {
	title, key string
	of         func(*StatisticsRow) *float64
	cell, diff func(float64) Cell
	// better tells that more is better, for colours.
	better bool
}

var layerColumn = Column{Title: "layer", Key: "layer", Shrink: true}

// sideMeasures are those of a layer, accuracy and SNR first.
func sideMeasures() []sideMeasure {
	return []sideMeasure{
		{"accuracy", "accuracy", func(r *StatisticsRow) *float64 { return &r.Accuracy }, Share, points, true},
		{"SNR", "snr", func(r *StatisticsRow) *float64 { return r.SNR }, decimals(2), withSign(2), true},
		{"N_c", "n_c", func(r *StatisticsRow) *float64 { return r.Clusters }, decimals(2), withSign(2), false},
		{"C_s", "c_s", func(r *StatisticsRow) *float64 { return r.Size }, decimals(2), withSign(2), false},
		{"d", "d", func(r *StatisticsRow) *float64 { return r.Labels }, decimals(2), withSign(2), false},
		{"n", "n", func(r *StatisticsRow) *float64 { return r.Noise }, decimals(1), withSign(1), false},
	}
}

// points writes a difference of shares in hundredths: "-0.51".
func points(v float64) Cell { return Cell{Text: withSign(2)(100 * v).Text, Raw: v} }

// withSign writes a difference with its sign, "0.00" for what would be written as
// either.
func withSign(decimals int) func(float64) Cell {
	return func(v float64) Cell {
		text := fmt.Sprintf("%+.*f", decimals, v)
		if strings.Trim(text, "+-0.") == "" {
			text = text[1:]
		}
		return Cell{Text: text, Raw: v}
	}
}

// measureColumns are the columns A, B and B less A of each measure; dropDiff is the
// Drop of differences.
func measureColumns(dropDiff int, list ...sideMeasure) (cols []Column) {
	for _, m := range list {
		cols = append(cols,
			Column{Title: m.title + " A", Key: m.key + "_a", Right: true},
			Column{Title: "B", Key: m.key + "_b", Right: true},
			Column{Title: "+-", Key: m.key + "_diff", Right: true, Drop: dropDiff})
	}
	return cols
}

func measureCells(l *StatisticsPair, list ...sideMeasure) (cells []Cell) {
	for _, m := range list {
		a, b := m.of(&l.A), m.of(&l.B)
		diff := unread
		if a != nil && b != nil {
			diff = m.diff(*b - *a)
			if m.better && strings.ContainsAny(diff.Text, "+-") {
				diff.Tone = Added
				if *b < *a {
					diff.Tone = Removed
				}
			}
		}
		cells = append(cells, optional(a, m.cell, unread), optional(b, m.cell, unread), diff)
	}
	return cells
}

// filterCells are filters, gone, new, label_sets, gained and lost.
func filterCells(l *StatisticsPair) []Cell {
	return []Cell{Count(int64(l.Filters)), unlessZero(l.Gone), unlessZero(l.New), Count(int64(l.LabelSets)), Count(int64(l.Gained)), Count(int64(l.Lost))}
}

func unlessZero(n int) Cell {
	if n == 0 {
		return Cell{Raw: int64(0)}
	}
	return Count(int64(n))
}

// pairedName is the name of a layer, or both where they differ.
func pairedName(l *StatisticsPair) Cell {
	a, b := layerName(l.Op, l.Layer), layerName(l.Op, l.LayerB)
	if l.Layer == l.LayerB {
		return a
	}
	return Cell{Text: a.Text + " / " + b.Text, Short: a.Short + " / " + b.Short, Raw: l.Layer}
}

// StatisticsTable puts all that FromStatisticsDelta shows in one table, a row a
// layer.
func StatisticsTable(d *StatisticsDelta) Document {
	measures := sideMeasures()
	t := &Table{Main: true, Columns: append([]Column{layerColumn, {Key: "layer_b"}}, measureColumns(0, measures...)...)}
	for _, key := range []string{"filters", "filters_b", "gone", "new", "clusters", "label_sets", "gained", "lost", "furthest"} {
		t.Columns = append(t.Columns, Column{Key: key})
	}
	for i := range d.Layers {
		l := &d.Layers[i]
		row := append([]Cell{Words(l.Layer), Words(l.LayerB)}, measureCells(l, measures...)...)
		for _, n := range []int{l.Filters, l.B.Filters, l.Gone, l.New, l.Clusters, l.LabelSets, l.Gained, l.Lost} {
			row = append(row, Count(int64(n)))
		}
		t.Rows = append(t.Rows, append(row, optional(l.Furthest, significant, unread)))
	}
	return Document{Title: "Statistics", Sections: []Section{{Table: t}}}
}

// FromFilterChanges shows for the layers of A that wanted names, all where it is nil,
// which labels each filter has gained and lost. labels names the labels.
func FromFilterChanges(d *StatisticsDelta, labels []string, wanted func(*StatisticsPair) bool) (list []Section) {
	same := []string{}
	for i := range d.Layers {
		l := &d.Layers[i]
		if wanted != nil && !wanted(l) {
			continue
		}
		if len(l.Differ) == 0 {
			same = append(same, pairedName(l).Short)
			continue
		}
		t := &Table{Columns: []Column{
			{Title: "filter", Key: "filter", Right: true},
			{Title: "in B", Key: "then", Right: true, Sparse: true},
			{Title: "labels gained and lost", Key: "labels", Wrap: true},
		}}
		for _, f := range l.Differ {
			then := none
			if f.Then != nil {
				then = Count(int64(*f.Then))
			}
			t.Rows = append(t.Rows, []Cell{Count(int64(f.Filter)), then, labelChanges(f, labels)})
		}
		list = append(list, Section{Title: "Filters of " + pairedName(l).Short, Table: t})
	}
	if len(list) > 0 {
		list[len(list)-1].Notes = []string{
			fmt.Sprintf("+ gained, - lost: the label's field in A -> in B, as a share of the filter's largest; it is the filter's label above %g; none: no field is above 0", d.Theta)}
	}
	if len(same) > 0 {
		list = append(list, Section{Title: "Filters without a change", Facts: []Fact{{"layers", Words(strings.Join(same, ", "))}}})
	}
	return list
}

// labelChanges writes "+dog (0.29 -> 0.32), -cat (0.31 -> 0.12)".
func labelChanges(f probe.FilterDifference, labels []string) Cell {
	if len(f.Gained)+len(f.Lost) == 0 {
		return Cell{Text: "the same labels in other clusters", Raw: "", Tone: Faint}
	}
	var parts []string
	ratio := func(r *float32) string {
		if r == nil {
			return "none"
		}
		return fmt.Sprintf("%.2f", *r)
	}
	add := func(mark string, list []probe.LabelChange) {
		for _, c := range list {
			name := fmt.Sprint(c.Label)
			if c.Label < len(labels) {
				name = labels[c.Label]
			}
			parts = append(parts, fmt.Sprintf("%s%s (%s -> %s)", mark, name, ratio(c.First), ratio(c.Second)))
		}
	}
	add("+", f.Gained)
	add("-", f.Lost)
	return Words(strings.Join(parts, ", "))
}
