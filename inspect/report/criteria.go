package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export"
)

// FromCriteria shows what several criteria leave of a model's accuracy at equal
// dilutions: who is ahead, the table, and what stays of each layer.
func FromCriteria(r *export.CriteriaReport) Document {
	d := Document{Title: "Criteria at equal dilution: " + r.Model, Warnings: r.Warnings}
	d.Sections = append(d.Sections, Section{Facts: criteriaFacts(r)})
	masked, recovered := verdictFacts(r)
	if recovered != nil {
		d.Sections = append(d.Sections, Section{Title: "Who is ahead after recovery", Facts: recovered})
	}
	d.Sections = append(d.Sections, Section{Title: "Who is ahead before any recovery", Facts: masked}, criteriaSection(r), criteriaLayers(r))
	if len(r.LeftOut) > 0 {
		s := Section{Title: "Criteria left out"}
		for _, l := range r.LeftOut {
			s.Facts = append(s.Facts, Fact{l.Criterion, Words(l.Reason)})
		}
		d.Sections = append(d.Sections, s)
	}
	if len(r.Blocked) > 0 {
		skips := make([]probe.Skip, len(r.Blocked))
		for i, b := range r.Blocked {
			skips[i] = probe.Skip(b)
		}
		d.Sections = append(d.Sections, reasonSection("Layers that stay as they are", skips))
	}
	return d
}

// criterionMeanings says in a few words by what each criterion keeps connections, or
// filters.
func criterionMeanings(unit string) map[string]string {
	if unit == export.UnitFilters {
		return map[string]string{
			export.AFCC:           "clusters of little noise",
			export.Weighted:       "clusters, weights and activations together",
			export.Reconstruction: "those that the others can least stand in for",
			export.Magnitude:      "the largest norms",
			export.Activation:     "the largest activations",
			export.Random:         "drawn",
		}
	}
	return map[string]string{
		export.AFCC:       "both ends share a label (label clusters alone)",
		export.Weighted:   "label clusters, weights and activations together, within each output",
		export.Magnitude:  "the largest kernels",
		export.Activation: "the largest kernels times what they read",
		export.Random:     "as afcc, with random labels",
	}
}

func criteriaFacts(r *export.CriteriaReport) []Fact {
	meanings := criterionMeanings(r.Unit)
	facts := []Fact{{"target", Words(r.Target)}}
	for _, c := range r.Criteria {
		facts = append(facts, Fact{c, Words(meanings[c])})
	}
	recovery := "none"
	if len(r.Recover) > 0 {
		recovery = strings.Join(r.Recover, ", ") + ", the same for all"
	}
	facts = append(facts, Fact{"recovery", Words(recovery)})
	facts = append(facts, Fact{"original", Words(fmt.Sprintf("%s top-1 on the %s of the evaluation split", Share(r.Original.Top1).Text, plural(r.Original.Samples, "sample")))})
	if s := r.Samples; s != nil && s.Fit != nil && s.Stats != nil {
		facts = append(facts, Fact{"recovered on", Words(plural(s.Fit.Samples+s.Stats.Samples, "other sample"))})
	}
	if len(r.Seeds) > 1 {
		facts = append(facts, Fact{"random", Words(fmt.Sprintf("mean of %d seeds, from %d on", len(r.Seeds), r.Seeds[0]))})
	}
	return append(facts, Fact{"run on", Words(runOn(r.Engine, r.EngineVersion, r.Provider, nil, nil))})
}

// levelName is what a dilution is called: what falls, and the threshold where it is
// the paper's own rule.
func levelName(l *export.CriteriaLevel) string {
	name := Share(l.Dilution).Text
	if l.Theta != nil {
		name += fmt.Sprintf(" (theta %g)", *l.Theta)
	}
	return name
}

func verdictFacts(r *export.CriteriaReport) (masked, recovered []Fact) {
	for i := range r.Levels {
		l := &r.Levels[i]
		if l.Masked != nil {
			masked = append(masked, Fact{levelName(l), Words(l.Masked.Text)})
		}
		if l.Recovered != nil {
			recovered = append(recovered, Fact{levelName(l), Words(l.Recovered.Text)})
		}
	}
	tallies := r.Tallies()
	sums := make([]Fact, len(tallies))
	for i, t := range tallies {
		sums[i] = Fact{t.Criterion + " in all", Words(fmt.Sprintf("clearly ahead of the best control at %d of these, behind at %d, not told apart at %d", t.Ahead, t.Behind, t.Even))}
	}
	if recovered != nil {
		return masked, append(recovered, sums...)
	}
	return append(masked, sums...), nil
}

func criteriaSection(r *export.CriteriaReport) Section {
	ahead := "vs " + r.Baseline
	t := &Table{Main: true, Columns: []Column{
		{Title: "dilution", Key: "dilution", Right: true},
		{Title: "asked", Key: "asked", Hidden: true},
		{Title: "theta", Key: "theta", Hidden: true},
		{Title: r.Unit, Key: "total", Right: true, Hidden: true},
		{Title: "kept", Key: "kept", Right: true, Drop: 4},
		{Title: "criterion", Key: "criterion"},
		{Title: "masked", Key: "masked_top1", Right: true},
		{Title: ahead, Key: "masked_ahead_points", Right: true, Sparse: true, Drop: 2},
		{Title: "+/-", Key: "masked_error_points", Right: true, Sparse: true, Drop: 2},
		{Title: "recovered", Key: "recovered_top1", Right: true, Sparse: true},
		{Title: ahead, Key: "recovered_ahead_points", Right: true, Sparse: true},
		{Title: "+/-", Key: "recovered_error_points", Right: true, Sparse: true},
		{Title: "loss, points", Key: "loss_points", Right: true, Drop: 1},
		{Title: "+/-", Key: "loss_error_points", Hidden: true},
		{Title: "flips", Key: "changed", Right: true, Drop: 3},
		{Title: "MACs", Key: "macs", Right: true, Sparse: true, Drop: 5},
		{Title: "took", Key: "seconds", Right: true, Drop: 6},
	}}
	for i := range r.Levels {
		l := &r.Levels[i]
		for k := range l.Runs {
			t.Rows = append(t.Rows, criteriaRow(l, &l.Runs[k], k == 0))
		}
	}
	s := Section{Title: "Accuracy by dilution and criterion", Table: t, Notes: []string{
		fmt.Sprintf("dilution: share of the %s that falls; every criterion keeps the same number in each layer, as many as afcc does", r.Unit),
		"masked: top-1 once they are cut; recovered: after the recovery; loss: top-1 of the original less that of the last of the two; flips: its share of samples with another answer than the original's",
		fmt.Sprintf("%s: points of top-1 ahead of %s; +/-: standard error of that difference on the same samples, sqrt(b + c - (b-c)^2/n)/n for b and c of n samples that only one of the two gets right; with several seeds, what they differ by is added", ahead, r.Baseline),
		"clear, ahead, behind, best: more than twice the standard error of equally good models and one sample; about one in 20 differences is so by chance. Not told apart: less. The best control is chosen by the same samples, which favours it a little. What another seed of splits or recovery would change is not in the errors",
	}}
	if len(r.Seeds) == 1 {
		s.Notes = append(s.Notes, "random: one seed, so that its errors do not hold what another draw would change; --seeds 3 tells")
	}
	return s
}

// criteriaRow is one run; the dilution stands in the first row of a level only, as CSV
// in all.
func criteriaRow(l *export.CriteriaLevel, run *export.CriteriaRun, first bool) []Cell {
	asked := make([]string, len(l.Asked))
	for i, v := range l.Asked {
		asked[i] = fmt.Sprint(v)
	}
	last := &run.Masked
	dilution, kept := Share(l.Dilution), Count(int64(l.Kept))
	if !first {
		dilution.Text, kept.Text = "", ""
	}
	theta := optional(l.Theta, func(v float64) Cell { return Cell{Text: fmt.Sprint(v), Raw: v} }, none)
	row := []Cell{dilution, Words(strings.Join(asked, " ")), theta, Count(int64(l.Total)), kept, Words(run.Criterion), Share(run.Masked.Top1)}
	row = append(row, gapCells(run.Masked.Ahead)...)
	if run.Recovered == nil {
		row = append(row, none, none, none)
	} else {
		last = run.Recovered
		row = append(row, Share(last.Top1))
		row = append(row, gapCells(last.Ahead)...)
	}
	return append(row, Number(last.Loss.Points, 2), Number(last.Loss.Error, 2), Share(last.Changed), optional(run.MACs, Scaled, none),
		Cell{Text: Seconds(time.Duration(run.Seconds * float64(time.Second))), Raw: run.Seconds})
}

// gapCells are a difference and its error, both empty for the baseline.
func gapCells(g *export.Gap) []Cell {
	if g == nil {
		return []Cell{none, none}
	}
	c := Cell{Text: fmt.Sprintf("%+.2f", g.Points), Raw: g.Points, Tone: Faint}
	switch {
	case g.Clear && g.Points > 0:
		c.Tone = Added
	case g.Clear:
		c.Tone = Removed
	}
	return []Cell{c, Number(g.Error, 2)}
}

func criteriaLayers(r *export.CriteriaReport) Section {
	t := &Table{Columns: []Column{
		{Title: "layer", Key: "layer", Shrink: true},
		{Title: r.Unit, Key: "total", Right: true},
	}}
	row := map[string]int{}
	for i := range r.Levels {
		t.Columns = append(t.Columns, Column{Title: levelName(&r.Levels[i]), Key: fmt.Sprintf("kept_%d", i+1), Right: true, Drop: 1 + i})
		for _, y := range r.Levels[i].Layers {
			if _, ok := row[y.Layer]; !ok {
				row[y.Layer] = len(t.Rows)
				op := "Conv"
				if layerName(op, y.Layer).Short == y.Layer {
					op = "Gemm"
				}
				t.Rows = append(t.Rows, []Cell{layerName(op, y.Layer), Count(int64(y.Total))})
			}
		}
	}
	for k := range t.Rows {
		for range r.Levels {
			t.Rows[k] = append(t.Rows[k], none)
		}
	}
	for i := range r.Levels {
		for _, y := range r.Levels[i].Layers {
			t.Rows[row[y.Layer]][2+i] = Count(int64(y.Kept))
		}
	}
	return Section{Title: "Kept in each layer, by every criterion", Table: t}
}
