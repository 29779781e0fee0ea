package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export"
	"github.com/filterlens/filterlens/export/compact"
)

// FromPlan shows what a plan would drop and, unless cost is nil, what the file
// would cost then (export.Preview).
func FromPlan(p *export.Plan, cost *compact.Plan) Document {
	d := Document{Title: "Plan for " + p.Model, Warnings: p.Warnings, Sections: []Section{{Facts: planFacts(p)}}}
	if cost != nil {
		d.Sections = append(d.Sections, previewSection(cost))
	}
	d.Sections = append(d.Sections, planSections(p)...)
	if cost != nil {
		d.Sections = append(d.Sections, obstacleSections(cost.Barriers, cost.Refused)...)
	}
	return d
}

// FromPrune shows what was written: whether it is right, what it cost, whether it
// paid, and then each layer.
func FromPrune(r *export.Report) Document {
	d := Document{Title: r.Plan.Model + " -> " + r.Output, Warnings: r.Warnings}
	if !r.Verified {
		d.Title = r.Plan.Model + ": nothing was written"
	}
	facts := planFacts(r.Plan)
	if r.Plan.Recover == nil && r.Verified {
		for i := range facts {
			if facts[i].Name == "recovery" {
				facts[i].Value = Words(ranSteps(r.Steps))
			}
		}
	}
	var nodes map[string]int
	var elsewhere []string
	if r.After != nil && r.After.Evaluation != nil {
		nodes, elsewhere = r.After.Evaluation.Nodes, r.After.Evaluation.Elsewhere
	}
	facts = append(facts, Fact{"run on", Words(runOn(r.Engine, r.EngineVersion, r.Provider, nodes, elsewhere))})
	d.Sections = append(d.Sections, Section{Facts: facts}, checkSection(r))
	if s, ok := costSection(r); ok {
		d.Sections = append(d.Sections, s)
	}
	if r.Before != nil && r.After != nil {
		d.Sections = append(d.Sections, paySection(r))
	}
	if r.Search != nil {
		d.Sections = append(d.Sections, searchSections(r.Search)...)
	}
	d.Sections = append(d.Sections, planSections(r.Plan)...)
	d.Sections = append(d.Sections, recoverySections(r.Steps)...)
	if c := r.Compaction; c != nil {
		if len(c.Groups) > 0 {
			d.Sections = append(d.Sections, channelSection(c))
		}
		if len(c.Grouped) > 0 {
			d.Sections = append(d.Sections, groupedSection(c.Grouped))
		}
		d.Sections = append(d.Sections, obstacleSections(c.Barriers, c.Refused)...)
	}
	return d
}

// ranSteps names the steps that were not asked for and ran.
func ranSteps(steps []export.Step) string {
	var ran []string
	for _, s := range steps {
		if s.Name != export.Masked && s.Skipped == "" {
			ran = append(ran, s.Name)
		}
	}
	if len(ran) == 0 {
		return "none"
	}
	return strings.Join(ran, ", ") + " (what the data and the model allow)"
}

func planFacts(p *export.Plan) []Fact {
	criteria := map[string]string{
		export.AFCC:       "afcc (a connection stays where both ends share a label, a filter where its clusters have little noise)",
		export.Random:     "random (control: random labels, as many connections as afcc drops; filters are drawn)",
		export.Magnitude:  "magnitude (control: the smallest kernels, as many connections as afcc drops; the smallest filters)",
		export.Activation: "activation (control: the smallest kernels times what they read, as many connections as afcc drops; the quietest filters)",
	}
	criterion := p.Criterion
	if s, ok := criteria[p.Criterion]; ok {
		criterion = s
	}
	facts := []Fact{{"criterion", Words(criterion)}, {"target", Words(p.Target)}}
	if p.Theta != nil {
		facts = append(facts, Fact{"threshold", Cell{Text: fmt.Sprintf("%g, all layers", *p.Theta), Raw: *p.Theta}})
	}
	if p.Dilution != nil {
		facts = append(facts, Fact{"dilution asked", Cell{Text: fmt.Sprintf("%s of each layer, at least", Share(*p.Dilution).Text), Raw: *p.Dilution}})
	}
	if p.FiltersKeep != nil {
		facts = append(facts, Fact{"filters to keep", Cell{Text: fmt.Sprintf("%s of each group, at least", Share(*p.FiltersKeep).Text), Raw: *p.FiltersKeep}})
	}
	if p.RoundTo > 1 {
		facts = append(facts, Fact{"filters round to", Count(int64(p.RoundTo))})
	}
	if p.Criterion == export.Random {
		facts = append(facts, Fact{"seed", Cell{Text: fmt.Sprint(p.Seed), Raw: p.Seed}})
	}
	if len(p.Layers) > 0 {
		dropped := fmt.Sprintf("%s of %s weights of these layers", grouped(p.Dropped), grouped(p.Elements))
		if p.Elements > 0 {
			dropped += " (" + Share(float64(p.Dropped)/float64(p.Elements)).Text + ")"
		}
		facts = append(facts, Fact{"dropped", Words(dropped)})
	}
	if len(p.Filters) > 0 {
		size, kept := 0, 0
		for i := range p.Filters {
			size, kept = size+p.Filters[i].Size, kept+p.Filters[i].Kept
		}
		facts = append(facts, Fact{"whole filters", Words(fmt.Sprintf("%s of %s removed, in %s", grouped(int64(size-kept)), grouped(int64(size)), plural(len(p.Filters), "group")))})
	}
	recovery := "what the data and the model allow of bias, ridge and head"
	switch {
	case p.Recover != nil && len(p.Recover) == 0:
		recovery = "none"
	case p.Recover != nil:
		recovery = strings.Join(p.Recover, ", ")
	}
	facts = append(facts, Fact{"recovery", Words(recovery)})
	if p.Dense {
		facts = append(facts, Fact{"channels", Words("all are kept (--no-compact)")})
	}
	return facts
}

// quantities is a table of two sides.
func quantities() *Table {
	return &Table{Columns: []Column{{Key: "quantity"}, {Title: "before", Key: "before", Right: true}, {Title: "after", Key: "after", Right: true}, {Title: "after/before", Key: "ratio", Right: true}}}
}

func (t *Table) quantity(name string, before, after, ratio Cell) {
	t.Rows = append(t.Rows, []Cell{Words(name), before, after, ratio})
}

// ratio divides what two cells hold.
func ratioCell[T int64 | float64](before, after *T) Cell {
	if before == nil || after == nil || *before <= 0 {
		return none
	}
	return Number(float64(*after)/float64(*before), 3)
}

const (
	noteParameters = "parameters stored: numbers in the tensors that the graph reads as weights, zeros included"
	noteMACs       = "MACs: multiply-accumulates of Conv, Gemm and MatMul that a dense runtime does for one sample, those with zeros included"
)

func previewSection(c *compact.Plan) Section {
	t := quantities()
	b, a := c.Before, c.After
	t.quantity("file size", Bytes(b.Bytes), Bytes(a.Bytes), ratioCell(&b.Bytes, &a.Bytes))
	t.quantity("parameters stored", Count(b.Parameters), Count(a.Parameters), ratioCell(&b.Parameters, &a.Parameters))
	t.quantity("MACs, dense runtime", optional(b.MACs, Scaled, absent), optional(a.MACs, Scaled, absent), ratioCell(b.MACs, a.MACs))
	return Section{Title: "What the file would be", Table: t, Notes: []string{
		fmt.Sprintf("%s of %s go; nothing was run", plural(c.Removed, "channel"), grouped(int64(c.Channels))), noteParameters, noteMACs,
	}}
}

func checkSection(r *export.Report) Section {
	t := &Table{Columns: []Column{{Title: "check", Key: "check"}, {Key: "ok"}, {Key: "detail", Wrap: true}}}
	for _, c := range r.Checks {
		ok := Cell{Text: "failed", Raw: false, Tone: Removed}
		if c.OK {
			ok = Cell{Text: "ok", Raw: true, Tone: Added}
		}
		t.Rows = append(t.Rows, []Cell{Words(c.Name), ok, Words(c.Detail)})
	}
	return Section{Title: "Is the surgery right?", Table: t}
}

// costSection has the accuracy of each state that the model went through.
func costSection(r *export.Report) (s Section, ok bool) {
	s = Section{Title: "What did it cost?"}
	if r.Before == nil || r.Before.Evaluation == nil {
		if !r.Verified {
			return s, false
		}
		s.Facts = []Fact{{"accuracy", Words("not measured; give --data DIR")}}
		return s, true
	}
	before := r.Before.Evaluation
	t := &Table{Columns: []Column{
		{Title: "model", Key: "model"},
		{Title: "top-1", Key: "top1", Right: true},
		{Title: "loss, points", Key: "drop_points", Right: true},
		{Title: "flips", Key: "changed", Right: true},
		{Title: "top-5", Key: "top5", Right: true, Drop: 1, Sparse: true},
		{Title: "took", Key: "seconds", Right: true, Drop: 2},
		{Key: "note", Wrap: true, Sparse: true},
	}}
	add := func(name string, e *probe.Evaluation, took Cell, note string) {
		row := []Cell{Words(name), unread, none, none, none, took, Words(note)}
		if e != nil {
			loss := 100 * float64(before.Correct-e.Correct) / float64(max(1, before.Samples))
			row[1], row[4] = Share(e.Top1), optional(e.Top5, Share, none)
			if e != before {
				row[2], row[3] = Number(loss, 2), optional(e.Changed, Share, none)
				if loss > 0 {
					row[2].Tone = Removed
				}
			}
		}
		t.Rows = append(t.Rows, row)
	}
	add("original", before, none, "")
	for i := range r.Steps {
		st := &r.Steps[i]
		took := Cell{Text: Seconds(time.Duration(st.Seconds * float64(time.Second))), Raw: st.Seconds}
		switch {
		case st.Name == export.Masked:
			add("masked", st.Evaluation, none, "")
		case st.Skipped != "":
			add("+ "+st.Name, nil, took, "left out: "+st.Skipped)
		default:
			add("+ "+st.Name, st.Evaluation, took, "")
		}
	}
	if r.After != nil {
		add("final", r.After.Evaluation, none, "")
	}
	s.Table = t
	s.Notes = []string{
		"masked: connections and filters are cut, nothing is mended; + a step: the same model after this step of the recovery; final: the file, without the channels that have no use",
		"loss: top-1 of the original less this one's; flips: share of samples with another answer than the original's, right or wrong",
		sampleNote(r),
	}
	if unanswered := before.Unanswered; unanswered > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("the original gives no number for %s; they count as wrong", plural(unanswered, "sample")))
	}
	return s, true
}

func sampleNote(r *export.Report) string {
	note := fmt.Sprintf("measured on the %s of the evaluation split", plural(r.Before.Evaluation.Samples, "sample"))
	if s := r.Samples; s != nil && s.Fit != nil && s.Stats != nil {
		note += fmt.Sprintf("; recovered on the %s of the fitting and the statistics split, none of which is among them", plural(s.Fit.Samples+s.Stats.Samples, "other sample"))
	}
	return note
}

func paySection(r *export.Report) Section {
	t := quantities()
	b, a := r.Before, r.After
	t.quantity("file size", Bytes(b.Bytes), Bytes(a.Bytes), ratioCell(&b.Bytes, &a.Bytes))
	t.quantity("parameters stored", Count(b.Parameters), Count(a.Parameters), ratioCell(&b.Parameters, &a.Parameters))
	t.quantity("MACs, dense runtime", optional(b.MACs, Scaled, absent), optional(a.MACs, Scaled, absent), ratioCell(b.MACs, a.MACs))
	t.quantity("dilution (zeros)", optional(b.Zeros, Share, unread), optional(a.Zeros, Share, unread), none)
	s := Section{Title: "Did it pay?", Table: t}
	s.Notes = []string{noteParameters, noteMACs,
		"dilution: share of the weights of Conv, Gemm and MatMul that are zero; zeros alone make a file neither smaller nor faster on a dense runtime, channels that are removed do"}
	if b.Latency == nil || a.Latency == nil {
		s.Notes = append(s.Notes, "latency was not measured: the size of the input is open; give --data DIR or --input-shape")
		return s
	}
	t.quantity("latency, median ms", milliseconds(b.Latency.Median), milliseconds(a.Latency.Median), ratioCell(&b.Latency.Median, &a.Latency.Median))
	t.quantity("  p10 to p90 ms", Words(span(b.Latency.Low, b.Latency.High)), Words(span(a.Latency.Low, a.Latency.High)), none)
	batch := "one sample at a time"
	if b.Latency.Batch > 1 {
		batch = fmt.Sprintf("%s at a time", plural(b.Latency.Batch, "sample"))
	}
	s.Notes = append(s.Notes, fmt.Sprintf("latency: %s, %d runs of each, the two models in turn", batch, b.Latency.Runs))
	if b.Latency.Low <= a.Latency.High && a.Latency.Low <= b.Latency.High {
		s.Notes = append(s.Notes, "the two spreads of latency overlap: a difference of the medians may be chance")
	}
	return s
}

func span(low, high float64) string { return digits(low, 3) + " to " + digits(high, 3) }

// searchSections show how a plan was found that meets targets.
func searchSections(s *export.Search) []Section {
	asked := []Fact{}
	share := func(name string, v *float64) {
		if v != nil {
			asked = append(asked, Fact{name, Cell{Text: fmt.Sprintf("at most %s of the original's", Share(*v).Text), Raw: *v}})
		}
	}
	share("MACs", s.TargetMACs)
	share("latency", s.TargetLatency)
	if s.MaxDrop != nil {
		asked = append(asked, Fact{"loss", Cell{Text: fmt.Sprintf("at most %g points", *s.MaxDrop), Raw: *s.MaxDrop}})
	}
	met := Cell{Text: "no; the last plan tried is the nearest", Raw: false, Tone: Removed}
	if s.Met {
		met = Cell{Text: "yes", Raw: true, Tone: Added}
	}
	asked = append(asked, Fact{"met", met})
	t := &Table{Columns: []Column{
		{Title: "filters to go", Key: "share", Right: true}, {Title: "MACs", Key: "macs", Right: true, Sparse: true},
		{Title: "latency", Key: "latency", Right: true, Sparse: true}, {Title: "loss, points", Key: "drop_points", Right: true, Sparse: true}, {Title: "+/-", Key: "margin_points", Right: true, Sparse: true}, {Title: "meets it", Key: "ok"},
	}}
	points := func(v float64) Cell { return Number(v, 2) }
	for _, tr := range s.Trials {
		ok := Cell{Text: "no", Raw: false}
		if tr.OK {
			ok = Cell{Text: "yes", Raw: true}
		}
		t.Rows = append(t.Rows, []Cell{Share(tr.Share), optional(tr.MACs, Share, none), optional(tr.Latency, Share, none), optional(tr.Drop, points, none), optional(tr.Margin, points, none), ok})
	}
	of := &Table{Columns: []Column{{Title: "layer", Key: "layer", Shrink: true}, {Title: "removed", Key: "removed", Right: true}, {Title: "error", Key: "error", Right: true}, {Title: "MACs a filter", Key: "macs", Right: true, Drop: 1}}}
	for _, l := range s.Sensitivities {
		for i := range min(len(l.Removed), len(l.Error)) {
			of.Rows = append(of.Rows, []Cell{layerName("Conv", l.Layer), Share(l.Removed[i]), Number(l.Error[i], 4), Scaled(l.MACs)})
		}
	}
	return []Section{{Title: "Search", Facts: asked, Table: t, Notes: []string{
		"MACs and latency are shares of the original's; loss: after recovery, on samples that neither recovery nor the evaluation sees; +/-: its standard error, which the allowed loss has to cover too"}},
		{Title: "Sensitivity of the layers", Table: of, Notes: []string{
			fmt.Sprintf("error: share of the variance of what the layers make that read the filters which is lost when only these go, the worst by the criterion, and those layers are fitted anew; from covariances on %s", plural(s.Samples, "sample"))}}}
}

// planSections show what becomes of each layer. As CSV one table has connections and
// whole filters.
func planSections(p *export.Plan) []Section {
	t := &Table{Main: true, Columns: []Column{
		{Title: "layer", Key: "layer", Shrink: true},
		{Title: "operator", Key: "op", Drop: 3, Sparse: true},
		{Title: "rule", Key: "rule", Drop: 2},
		{Title: "threshold", Key: "theta", Right: true, Sparse: true},
		{Title: "connections", Key: "connections", Right: true, Sparse: true},
		{Title: "kept", Key: "kept", Right: true, Sparse: true},
		{Title: "dilution", Key: "dilution", Right: true, Sparse: true},
		{Title: "weights dropped", Key: "dropped", Right: true, Drop: 1, Sparse: true},
		{Title: "cut off", Key: "cut", Drop: 4, Sparse: true},
		{Title: "filters", Key: "filters", Right: true, Sparse: true},
		{Title: "kept", Key: "filters_kept", Right: true, Sparse: true},
		{Title: "with it", Key: "coupled", Drop: 5, Sparse: true},
	}}
	for _, l := range p.Layers {
		t.Rows = append(t.Rows, []Cell{
			layerName(l.Op, l.Layer), Words(l.Op), Words(l.Rule), {Text: fmt.Sprintf("%.4f", l.Theta), Raw: l.Theta},
			Count(int64(l.Connections)), Count(int64(l.Kept)), Share(l.Dilution), Count(l.Dropped), Words(cutOff(l)), none, none, none,
		})
	}
	for _, f := range p.Filters {
		coupled := Words(firstNames(f.Coupled))
		coupled.Raw = strings.Join(f.Coupled, " ")
		t.Rows = append(t.Rows, []Cell{layerName("Conv", f.Layer), none, Words("whole filters"), none, none, none, none, none, none, Count(int64(f.Size)), Count(int64(f.Kept)), coupled})
	}
	s := Section{Title: "Layers", Table: t}
	if len(p.Layers) > 0 {
		s.Notes = append(s.Notes,
			"connection: from an input filter to an output filter, or to a label; rule \"filters\": it stays where both filters share a label; rule \"classifier\": where the label is one of the filter's",
			"a filter has the labels whose diagonal field is above the threshold times its largest field",
			"cut off: outputs without any connection left, inputs that nothing of the layer reads any more")
	}
	if len(p.Filters) > 0 {
		s.Notes = append(s.Notes, "rule \"whole filters\": of filters that can only go together, those of the layer and of the layers with it, the best by the criterion stay")
	}
	out := []Section{s}
	if len(p.Blocked) > 0 {
		skips := make([]probe.Skip, len(p.Blocked))
		for i, b := range p.Blocked {
			skips[i] = probe.Skip(b)
		}
		out = append(out, reasonSection("Layers that stay as they are", skips))
	}
	return out
}

func reasonSection(title string, skips []probe.Skip) Section {
	s := Section{Title: title}
	for _, g := range byReason(skips) {
		s.Facts = append(s.Facts, Fact{plural(len(g.layers), "layer"), Words(g.reason + ": " + firstNames(g.layers))})
	}
	return s
}

func cutOff(l export.LayerPlan) string {
	switch {
	case l.CutOutputs == 0 && l.CutInputs == 0:
		return ""
	case l.CutInputs == 0:
		return plural(l.CutOutputs, "output")
	case l.CutOutputs == 0:
		return plural(l.CutInputs, "input")
	}
	return plural(l.CutOutputs, "output") + ", " + plural(l.CutInputs, "input")
}

// recoverySections show what each step found.
func recoverySections(steps []export.Step) (out []Section) {
	t := &Table{Columns: []Column{
		{Title: "step", Key: "step"},
		{Title: "layer", Key: "layer", Shrink: true},
		{Title: "error before", Key: "error_before", Right: true},
		{Title: "after", Key: "error_after", Right: true},
		{Title: "weights", Key: "weights", Right: true, Drop: 2},
		{Title: "rows", Key: "observations", Right: true, Drop: 3},
		{Title: "solved by", Key: "method", Drop: 1},
		{Key: "note", Sparse: true, Wrap: true},
	}}
	for i := range steps {
		for _, l := range steps[i].Layers {
			name := layerName("Conv", l.Layer)
			if name.Short == l.Layer {
				name = layerName("Gemm", l.Layer)
			}
			if l.Skipped != "" {
				t.Rows = append(t.Rows, []Cell{Words(steps[i].Name), name, none, none, none, none, none, Words(l.Skipped)})
				continue
			}
			note := ""
			if l.Kept {
				note = "no better; left as it was"
			}
			t.Rows = append(t.Rows, []Cell{Words(steps[i].Name), name, Number(l.Before, 4), Number(l.After, 4), Count(l.Weights), Count(l.Observations), Words(l.Method), Words(note)})
		}
	}
	if len(t.Rows) > 0 {
		out = append(out, Section{Title: "Recovery, layer by layer", Table: t, Notes: []string{
			"error: squared difference of the layer's output, before any activation, from the original network's for the same samples, which the fit did not see, divided by that of the original's from its mean; 1 is what always answering the mean would give",
			"rows: samples times positions of the fit; weights: those that are not zero",
		}})
	}
	for i := range steps {
		if h := steps[i].Head; h != nil {
			out = append(out, headSection(h))
		}
		if tr := steps[i].Training; tr != nil {
			out = append(out, trainingSection(&steps[i]))
		}
	}
	return out
}
