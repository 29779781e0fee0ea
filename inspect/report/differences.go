package report

import (
	"fmt"

	"github.com/filterlens/filterlens/afcc/probe"
)

// DifferencesSchema names the form of Differences as JSON.
const DifferencesSchema = "filterlens.compare-stats/1"

// Differences is what `compare` writes of two measurements as JSON.
type Differences struct {
	Schema string `json:"schema"`
	// A and B are the names of the files, Same tells that all filters of all layers
	// have the same clusters.
	A    string `json:"a"`
	B    string `json:"b"`
	Same bool   `json:"same"`
	// Otherwise says what decides the numbers and is different, the first that
	// there is, "" for nothing.
	Otherwise string `json:"otherwise,omitempty"`
	// Theta is the threshold of both.
	Theta     float64          `json:"theta"`
	MeasuredA Measured         `json:"measured_a"`
	MeasuredB Measured         `json:"measured_b"`
	Layers    []DifferentLayer `json:"layers"`
	Unpaired  []probe.Skip     `json:"unpaired,omitempty"`
}

// Measured says what a measurement is of, and what ran it.
type Measured struct {
	Model         string  `json:"model"`
	ModelSHA256   string  `json:"model_sha256"`
	Engine        string  `json:"engine"`
	EngineVersion string  `json:"engine_version"`
	Provider      string  `json:"provider"`
	Accuracy      float64 `json:"accuracy"`
}

// A DifferentLayer is a layer of both, with the accuracies of its heads and its
// signal-to-noise ratios.
type DifferentLayer struct {
	probe.LayerDifferences
	Op        string   `json:"op"`
	AccuracyA float64  `json:"accuracy_a"`
	AccuracyB float64  `json:"accuracy_b"`
	SNRA      *float64 `json:"snr_a"`
	SNRB      *float64 `json:"snr_b"`
}

// NewDifferences compares the results read from the files nameA and nameB. The
// error is that of probe.Compare.
func NewDifferences(nameA, nameB string, a, b *probe.Result) (*Differences, error) {
	found, err := probe.Compare(a, b)
	if err != nil {
		return nil, err
	}
	d := &Differences{
		Schema: DifferencesSchema, A: nameA, B: nameB, Same: len(found.Unpaired) == 0, Theta: a.Theta,
		MeasuredA: measuredOf(a), MeasuredB: measuredOf(b), Layers: []DifferentLayer{}, Unpaired: found.Unpaired,
	}
	_, d.Otherwise = a.Answers(b.Identity())
	for _, l := range found.Layers {
		of, other := a.Layer(l.Tensor), b.Layer(l.Tensor)
		d.Same = d.Same && l.Clusters == 0
		d.Layers = append(d.Layers, DifferentLayer{l, of.Op, of.Accuracy, other.Accuracy, of.Stats.SNR, other.Stats.SNR})
	}
	return d, nil
}

func measuredOf(r *probe.Result) Measured {
	return Measured{r.Model, r.ModelSHA256, r.Engine, r.EngineVersion, r.Provider, r.Accuracy}
}

// FromDifferences shows in which layers filters have other clusters.
func FromDifferences(d *Differences) Document {
	filters, other := 0, 0
	t := &Table{Main: true, Columns: []Column{
		{Title: "layer", Key: "layer", Shrink: true},
		{Title: "filters", Key: "filters", Right: true},
		{Title: "other clusters", Key: "clusters", Right: true},
		{Title: "other labels", Key: "label_sets", Right: true},
		{Title: "gained", Key: "gained", Right: true},
		{Title: "lost", Key: "lost", Right: true},
		{Title: "furthest", Key: "furthest", Right: true, Drop: 1},
		{Title: "accuracy", Key: "accuracy_a", Right: true, Drop: 2},
		{Title: "then", Key: "accuracy_b", Right: true, Drop: 2},
		{Title: "SNR", Key: "snr_a", Right: true, Drop: 3},
		{Title: "then", Key: "snr_b", Right: true, Drop: 3},
	}}
	for _, l := range d.Layers {
		filters += l.Filters
		other += l.Clusters
		t.Rows = append(t.Rows, []Cell{layerName(l.Op, l.Layer), Count(int64(l.Filters)), Count(int64(l.Clusters)), Count(int64(l.LabelSets)), Count(int64(l.Gained)), Count(int64(l.Lost)),
			optional(l.Furthest, significant, unread), Share(l.AccuracyA), Share(l.AccuracyB), optional(l.SNRA, decimals(2), unread), optional(l.SNRB, decimals(2), unread)})
	}
	verdict := Cell{Text: fmt.Sprintf("%s of %s have other clusters", grouped(int64(other)), plural(filters, "filter")), Tone: Changed}
	switch {
	case d.Same:
		verdict = Cell{Text: fmt.Sprintf("the same clusters in all of %s", plural(filters, "filter")), Tone: Added}
	case other == 0:
		verdict.Text = fmt.Sprintf("the same clusters in all of %s that both have", plural(filters, "filter"))
	}
	facts := []Fact{{"verdict", verdict}}
	if d.Otherwise != "" {
		facts = append(facts, Fact{"measured otherwise", Words(d.Otherwise)})
	}
	run := func(m Measured) Cell {
		return Words(fmt.Sprintf("%s, %s %s, provider %s, accuracy %s", m.Model, m.Engine, m.EngineVersion, m.Provider, Share(m.Accuracy).Text))
	}
	facts = append(facts, Fact{"first", run(d.MeasuredA)}, Fact{"then", run(d.MeasuredB)})
	s := Section{Facts: facts, Table: t, Notes: []string{
		"other clusters: filters whose clusters differ; other labels: those of them whose label sets do; gained, lost: labels that filters have only then, or only first",
		fmt.Sprintf("furthest: how far from the threshold %g the field of a label gained or lost is at most, as a share of the filter's largest; a small number says that rounding decided", d.Theta),
	}}
	for _, g := range byReason(d.Unpaired) {
		s.Notes = append(s.Notes, "not compared: "+firstNames(g.layers)+" ("+g.reason+")")
	}
	return Document{Title: d.A + " and " + d.B + ": what filters recognise", Sections: []Section{s}}
}
