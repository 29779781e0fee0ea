package report

import (
	"fmt"

	"github.com/filterlens/filterlens/afcc/probe"
)

// FromMeasuring shows what a measurement is going to do: what is tapped, in which
// passes through the model, and the memory that it takes.
func FromMeasuring(p *probe.Plan) Document {
	d := Document{Title: "What measuring " + p.Model + " takes (nothing was run)"}
	d.Sections = append(d.Sections, Section{Facts: measuringFacts(p)}, tapSection(p), passSection(p))
	if len(p.Skipped) > 0 {
		s := Section{Title: "Not measured"}
		for _, g := range byReason(p.Skipped) {
			s.Facts = append(s.Facts, Fact{plural(len(g.layers), "layer"), Words(g.reason + ": " + firstNames(g.layers))})
		}
		d.Sections = append(d.Sections, s)
	}
	return d
}

func measuringFacts(p *probe.Plan) []Fact {
	batch := fmt.Sprintf("up to %s", plural(p.Batch, "sample"))
	switch {
	case p.FixedBatch > 0 && p.Opened:
		batch += fmt.Sprintf(" (the file fixes %d, which is opened in the copy that runs)", p.FixedBatch)
	case p.FixedBatch > 0:
		batch = plural(p.FixedBatch, "sample") + ", as the file fixes it; the last batch is filled up"
	}
	taps, passes := 0, 0
	for _, g := range p.Groups {
		taps += len(g.Taps)
		for _, ps := range g.Passes {
			passes += ps.Times
		}
	}
	forward := Count(p.Forward)
	forward.Text += fmt.Sprintf(" samples through the model, in %s passes", grouped(int64(passes)))
	facts := []Fact{
		{"labels", Count(int64(p.Labels))},
		{"samples", Words(fmt.Sprintf("fit %s, stats %s, eval %s", grouped(int64(p.Fit)), grouped(int64(p.Stats)), grouped(int64(p.Eval))))},
		{"heads", Words(recipeText(p.Recipe))},
		{"batch", Words(batch)},
		{"taps", Words(fmt.Sprintf("%d, in %s", taps, plural(len(p.Groups), "group")))},
		{"work", forward},
		{"memory", Words(fmt.Sprintf("%s at most, of %s allowed (--memory); the model and the runtime's buffers come on top", Bytes(p.Peak).Text, Bytes(p.Memory).Text))},
	}
	for _, l := range p.LeftOut {
		facts = append(facts, Fact{"left out", Words(leftOutText(l))})
	}
	if p.State > 0 {
		facts = append(facts, Fact{"disk", Words(fmt.Sprintf("about %s with --resume, of which %s stay", Bytes(p.State).Text, Bytes(p.Kept).Text))})
	}
	return facts
}

func leftOutText(l probe.LeftOut) string {
	passes := "a pass"
	if l.Passes > 1 {
		passes = grouped(int64(l.Passes)) + " passes"
	}
	return fmt.Sprintf("%s, to save %s through the model; ask for it with --statistics %s, or allow more --memory", l.Statistic, passes, l.Statistic)
}

func recipeText(r probe.Recipe) string {
	return fmt.Sprintf("%s, SGD with Nesterov momentum %g, learning rate %g x %g per epoch, L2 %g, batch %d, feature norm %g",
		plural(r.Epochs, "epoch"), r.Momentum, r.LearningRate, r.Decay, r.L2, r.Batch, r.Norm)
}

func tapSection(p *probe.Plan) Section {
	t := &Table{Main: true, Columns: []Column{
		{Title: "layer", Key: "layer", Shrink: true},
		{Title: "tensor", Key: "tensor", Hidden: true},
		{Title: "group", Key: "group", Right: true, Drop: 5},
		{Title: "filters", Key: "filters", Right: true},
		{Title: "map", Key: "map", Right: true},
		{Title: "pool", Key: "pool", Right: true},
		{Title: "pos", Key: "positions", Right: true, Drop: 4},
		{Title: "head", Key: "head"},
		{Title: "weights", Key: "head_bytes", Right: true, Drop: 1},
		{Title: "means", Key: "means_bytes", Right: true, Drop: 3},
		{Title: "training", Key: "training_bytes", Right: true, Drop: 2},
		{Title: "features", Key: "feature_bytes", Right: true},
	}}
	for i, g := range p.Groups {
		for _, tap := range g.Taps {
			pool := Cell{Text: "-", Raw: tap.Pool}
			if tap.Pool > 1 {
				pool.Text = fmt.Sprintf("%dx%d", tap.Pool, tap.Pool)
			}
			training, features := Bytes(tap.TrainingBytes), Bytes(tap.FeatureBytes)
			if tap.Head == "classifier" {
				training.Text, features.Text = "-", "-"
			}
			t.Rows = append(t.Rows, []Cell{
				layerName(tap.Op, tap.Layers...), Words(tap.Tensor), Count(int64(i + 1)), Count(int64(tap.Filters)), Words(fmt.Sprintf("%dx%d", tap.Height, tap.Width)),
				pool, Count(int64(tap.Positions())), Words(tap.Head), Bytes(tap.HeadBytes), Bytes(tap.MeansBytes), training, features,
			})
		}
	}
	return Section{Title: "Taps", Table: t, Notes: []string{
		"map: height x width of a filter's map; pool: the windows that it is averaged over before the head (--max-side, or because the head would not fit in memory); pos: positions that the head sees",
		"head \"cached\": trained on features held in memory; \"streamed\": trained while the model runs, once for each epoch; \"classifier\": the model's own, nothing is trained",
		"weights: of the head; means: label means; training: what training the head holds; features: those of the fit split, held by a cached head only",
	}}
}

func passSection(p *probe.Plan) Section {
	t := &Table{Columns: []Column{
		{Title: "group", Key: "group", Right: true},
		{Title: "pass", Key: "pass"},
		{Title: "split", Key: "split"},
		{Title: "samples", Key: "samples", Right: true},
		{Title: "times", Key: "times", Right: true},
		{Title: "taps", Key: "taps", Right: true},
		{Title: "memory", Key: "bytes", Right: true},
	}}
	for i, g := range p.Groups {
		for _, ps := range g.Passes {
			t.Rows = append(t.Rows, []Cell{Count(int64(i + 1)), Words(ps.Kind), Words(ps.Split), Count(int64(ps.Samples)), Count(int64(ps.Times)), Count(int64(len(ps.Layers))), Bytes(ps.Bytes)})
		}
	}
	return Section{Title: "Passes through the model", Table: t}
}
