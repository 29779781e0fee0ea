package report

import (
	"fmt"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export"
)

// FromPlan shows what a plan would drop.
func FromPlan(p *export.Plan) Document {
	return Document{Title: "Plan for " + p.Model, Warnings: p.Warnings, Sections: append([]Section{{Facts: planFacts(p)}}, planSections(p)...)}
}

// FromPrune shows what was written, whether it is right, and what it cost.
func FromPrune(r *export.Report) Document {
	d := Document{Title: r.Plan.Model + " -> " + r.Output, Warnings: r.Warnings}
	if !r.Verified {
		d.Title = r.Plan.Model + ": nothing was written"
	}
	facts := planFacts(r.Plan)
	var nodes map[string]int
	var elsewhere []string
	if r.After != nil && r.After.Evaluation != nil {
		nodes, elsewhere = r.After.Evaluation.Nodes, r.After.Evaluation.Elsewhere
	}
	facts = append(facts, Fact{"run on", Words(runOn(r.Engine, r.EngineVersion, r.Provider, nodes, elsewhere))})
	d.Sections = append(d.Sections, Section{Facts: facts})
	if r.Before != nil && r.After != nil {
		d.Sections = append(d.Sections, costSection(r))
	}
	d.Sections = append(d.Sections, checkSection(r))
	d.Sections = append(d.Sections, planSections(r.Plan)...)
	return d
}

func planFacts(p *export.Plan) []Fact {
	criteria := map[string]string{
		export.AFCC:      "afcc (a connection stays where both ends share a label)",
		export.Random:    "random (control: random labels, as many connections as afcc drops)",
		export.Magnitude: "magnitude (control: the smallest kernels, as many connections as afcc drops)",
	}
	facts := []Fact{{"criterion", Words(criteria[p.Criterion])}, {"target", Words(p.Target)}}
	if p.Theta != nil {
		facts = append(facts, Fact{"threshold", Cell{Text: fmt.Sprintf("%g, all layers", *p.Theta), Raw: *p.Theta}})
	}
	if p.Dilution != nil {
		facts = append(facts, Fact{"dilution asked", Cell{Text: fmt.Sprintf("%s of each layer, at least", Share(*p.Dilution).Text), Raw: *p.Dilution}})
	}
	if p.Criterion == export.Random {
		facts = append(facts, Fact{"seed", Cell{Text: fmt.Sprint(p.Seed), Raw: p.Seed}})
	}
	dropped := fmt.Sprintf("%s of %s weights of these layers", grouped(p.Dropped), grouped(p.Elements))
	if p.Elements > 0 {
		dropped += " (" + Share(float64(p.Dropped)/float64(p.Elements)).Text + ")"
	}
	return append(facts, Fact{"dropped", Words(dropped)})
}

func costSection(r *export.Report) Section {
	t := &Table{Columns: []Column{{Key: "quantity"}, {Title: "before", Key: "before", Right: true}, {Title: "after", Key: "after", Right: true}, {Title: "", Key: "change", Right: true}}}
	add := func(name string, before, after, change Cell) {
		t.Rows = append(t.Rows, []Cell{Words(name), before, after, change})
	}
	b, a := r.Before, r.After
	if be, ae := b.Evaluation, a.Evaluation; be != nil && ae != nil {
		change := none
		if r.Drop != nil {
			change = Cell{Text: fmt.Sprintf("%+.2f points", -*r.Drop), Raw: -*r.Drop}
			if *r.Drop > 0 {
				change.Tone = Removed
			}
		}
		add("top-1 accuracy", Share(be.Top1), Share(ae.Top1), change)
		if be.Top5 != nil && ae.Top5 != nil {
			add("top-5 accuracy", Share(*be.Top5), Share(*ae.Top5), Cell{Text: fmt.Sprintf("%+.2f points", 100*(*ae.Top5-*be.Top5))})
		}
		if r.Changed != nil {
			add("answers changed", none, Share(*r.Changed), none)
		}
	}
	add("dilution (zeros)", optional(b.Zeros, Share, unread), optional(a.Zeros, Share, unread), Words("+"+grouped(r.NewZeros)+" zeros"))
	add("file size", Bytes(b.Bytes), Bytes(a.Bytes), ratio(float64(b.Bytes), float64(a.Bytes)))
	add("parameters stored", Count(b.Parameters), Count(a.Parameters), none)
	add("MACs, dense runtime", optional(b.MACs, Scaled, absent), optional(a.MACs, Scaled, absent), none)
	if be, ae := b.Evaluation, a.Evaluation; be != nil && ae != nil && be.Latency != nil && ae.Latency != nil {
		add("latency, median ms", milliseconds(be.Latency.Median), milliseconds(ae.Latency.Median), ratio(be.Latency.Median, ae.Latency.Median))
		add("  p10 to p90 ms", Words(span(be.Latency.Low, be.Latency.High)), Words(span(ae.Latency.Low, ae.Latency.High)), none)
	}
	s := Section{Title: "Before and after", Table: t, Notes: []string{
		"dilution: share of the weights of Conv, Gemm and MatMul that are zero; a diluted dense file is neither smaller nor faster on a dense runtime",
	}}
	if b.Evaluation != nil {
		note := fmt.Sprintf("accuracy: %s of the evaluation split", plural(b.Evaluation.Samples, "sample"))
		if l := b.Evaluation.Latency; l != nil {
			note += fmt.Sprintf("; latency: one sample at a time, %d runs", l.Runs)
		}
		s.Notes = append(s.Notes, note)
	}
	return s
}

func span(low, high float64) string { return digits(low, 3) + " to " + digits(high, 3) }

func ratio(before, after float64) Cell {
	if before <= 0 {
		return none
	}
	return Cell{Text: fmt.Sprintf("%+.1f %%", 100*(after/before-1)), Raw: after / before}
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
	return Section{Title: "Verification", Table: t}
}

func planSections(p *export.Plan) []Section {
	t := &Table{Main: true, Columns: []Column{
		{Title: "layer", Key: "layer", Shrink: true},
		{Title: "operator", Key: "op", Drop: 3},
		{Title: "rule", Key: "rule", Drop: 2},
		{Title: "threshold", Key: "theta", Right: true},
		{Title: "connections", Key: "connections", Right: true},
		{Title: "kept", Key: "kept", Right: true},
		{Title: "dilution", Key: "dilution", Right: true},
		{Title: "weights dropped", Key: "dropped", Right: true, Drop: 1},
		{Title: "cut off", Key: "cut", Drop: 4},
	}}
	for _, l := range p.Layers {
		t.Rows = append(t.Rows, []Cell{
			layerName(l.Op, l.Layer), Words(l.Op), Words(l.Rule), {Text: fmt.Sprintf("%.4f", l.Theta), Raw: l.Theta},
			Count(int64(l.Connections)), Count(int64(l.Kept)), Share(l.Dilution), Count(l.Dropped), Words(cutOff(l)),
		})
	}
	out := []Section{{Title: "Layers", Table: t, Notes: []string{
		"connection: from an input filter to an output filter, or to a label; rule \"filters\": it stays where both filters share a label; rule \"classifier\": where the label is one of the filter's",
		"a filter has the labels whose diagonal field is above the threshold times its largest field",
		"cut off: outputs without any connection left, inputs that nothing of the layer reads any more",
	}}}
	if len(p.Blocked) > 0 {
		skips := make([]probe.Skip, len(p.Blocked))
		for i, b := range p.Blocked {
			skips[i] = probe.Skip(b)
		}
		s := Section{Title: "Layers that stay as they are"}
		for _, g := range byReason(skips) {
			s.Facts = append(s.Facts, Fact{plural(len(g.layers), "layer"), Words(g.reason + ": " + firstNames(g.layers))})
		}
		out = append(out, s)
	}
	return out
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
