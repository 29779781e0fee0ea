package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect/dataset"
)

// dataSection says on what both models were run.
func (r *Compared) dataSection() Section {
	d := r.Data
	split := d.Split
	if d.SHA256 != "" {
		split += fmt.Sprintf(", seed %d, sha256 %s", d.Seed, shortHash(d.SHA256))
	}
	facts := []Fact{{"data", Words(fmt.Sprintf("%s (%s, %s)", d.Path, d.Format, plural(len(d.Labels), "label")))}}
	if split != "" {
		facts = append(facts, Fact{"samples", Words(split)})
	}
	if d.PreprocessA == d.PreprocessB {
		facts = append(facts, Fact{"preprocessing", Words(d.PreprocessA)})
	} else {
		facts = append(facts, Fact{"preprocessing", Words("of A: " + d.PreprocessA + "; of B: " + d.PreprocessB)})
	}
	if d.Engine != "" {
		facts = append(facts, Fact{"engine", Words(strings.TrimSpace(d.Engine+" "+d.EngineVersion) + ", provider " + d.Provider)})
	}
	if len(d.Skipped) > 0 {
		facts = append(facts, Fact{"left out", Words(dataset.SkippedText(d.Skipped))})
	}
	return Section{Title: "Data", Facts: facts}
}

// label names an answer.
func (r *Compared) label(i int) string {
	switch {
	case i < 0:
		return "none"
	case r.Data != nil && i < len(r.Data.Labels):
		return r.Data.Labels[i]
	}
	return fmt.Sprint(i)
}

// listedByDefault is how many flips and labels a text lists unless asked.
const listedByDefault = 20

func topOf(v CompareView) int { return cmp.Or(v.Top, listedByDefault) }

func (r *Compared) answerSections(v CompareView) []Section {
	x := r.Answers
	n := float64(max(x.Samples, 1))
	t := &Table{Columns: []Column{{}, {Title: "A", Right: true}, {Title: "B", Right: true}, {Title: "", Right: true}}}
	change := none
	if d := 100 * (x.B.Top1 - x.A.Top1); d != 0 {
		change = Cell{Text: fmt.Sprintf("%+.2f points", d), Tone: Removed}
		if d > 0 {
			change.Tone = Added
		}
	}
	t.Rows = append(t.Rows, []Cell{Words("top-1"), Share(x.A.Top1), Share(x.B.Top1), change})
	if x.A.Top5 != nil && x.B.Top5 != nil {
		t.Rows = append(t.Rows, []Cell{Words("top-5"), Share(*x.A.Top5), Share(*x.B.Top5), none})
	}
	if x.A.Unanswered+x.B.Unanswered > 0 {
		t.Rows = append(t.Rows, []Cell{Words("no answer (NaN)"), Count(int64(x.A.Unanswered)), Count(int64(x.B.Unanswered)), none})
	}
	head := Section{Title: "Answers", Facts: []Fact{
		{"the same answer", Words(fmt.Sprintf("%s of %s (%s)", grouped(int64(x.Agree)), plural(x.Samples, "sample"), partly(float64(x.Agree)/n).Text))},
		{"right", Words(fmt.Sprintf("both %s, only A %s, only B %s, neither %s; p = %.3g", grouped(int64(x.BothRight)), grouped(int64(x.OnlyA)), grouped(int64(x.OnlyB)), grouped(int64(x.BothWrong)), x.P))},
	}, Table: t}
	if x.MaxDiff != nil {
		s := fmt.Sprintf("at most %.3g", *x.MaxDiff)
		if x.RelDiff != nil {
			s += fmt.Sprintf(", %.3g of the largest", *x.RelDiff)
		}
		if x.A.Unanswered+x.B.Unanswered > 0 {
			s += ", of those that are numbers in both"
		}
		head.Facts = append(head.Facts, Fact{"outputs differ", Words(s)})
	}
	out := []Section{head}
	if s := r.flipSection(topOf(v)); len(s.Table.Rows) > 0 {
		out = append(out, s)
	}
	if s := r.labelSection(topOf(v)); len(s.Table.Rows) > 0 {
		out = append(out, s)
	}
	return out
}

// flipSection lists the samples that the models answer differently.
func (r *Compared) flipSection(top int) Section {
	x := r.Answers
	t := &Table{Columns: []Column{
		{Title: "", Key: "kind"}, {Title: "sample", Key: "id", Shrink: true}, {Title: "number", Key: "sample", Hidden: true}, {Title: "label", Key: "label", Shrink: true},
		{Title: "A", Key: "a", Shrink: true}, {Title: "B", Key: "b", Shrink: true}, {Title: "margin A", Key: "margin_a", Right: true, Drop: 1}, {Title: "margin B", Key: "margin_b", Right: true, Drop: 2},
	}}
	for i, f := range x.Flips {
		if top > 0 && i == top {
			break
		}
		kind := Cell{Text: "~", Raw: "both wrong", Tone: Changed}
		switch f.Label {
		case f.A:
			kind = Cell{Text: "-", Raw: "only A right", Tone: Removed}
		case f.B:
			kind = Cell{Text: "+", Raw: "only B right", Tone: Added}
		}
		t.Rows = append(t.Rows, []Cell{kind, Words(cmp.Or(f.ID, fmt.Sprint(f.Sample))), {Text: fmt.Sprint(f.Sample), Raw: f.Sample}, Words(r.label(f.Label)), Words(r.label(f.A)), Words(r.label(f.B)),
			optional(f.MarginA, decimals(3), none), optional(f.MarginB, decimals(3), none)})
	}
	s := Section{Title: "Samples that flip", Table: t}
	if more := len(x.Flips) - len(t.Rows); more > 0 {
		s.Notes = []string{fmt.Sprintf("not listed: %s; --top %d lists them, JSON holds all", plural(more, "sample"), len(x.Flips))}
	}
	return s
}

// labelSection lists the labels whose accuracy differs, those first that lose most.
func (r *Compared) labelSection(top int) Section {
	x := r.Answers
	var list []int
	for i, l := range x.PerLabel {
		if l.RightA != l.RightB {
			list = append(list, i)
		}
	}
	gain := func(i int) float64 {
		l := x.PerLabel[i]
		return float64(l.RightB-l.RightA) / float64(max(l.Samples, 1))
	}
	slices.SortStableFunc(list, func(i, j int) int { return cmp.Compare(gain(i), gain(j)) })
	t := &Table{Columns: []Column{
		{Title: "", Key: ""}, {Title: "label", Key: "label", Shrink: true}, {Title: "samples", Key: "samples", Right: true}, {Title: "right in A", Key: "right_a", Right: true},
		{Title: "right in B", Key: "right_b", Right: true}, {Title: "change", Key: "change", Right: true}, {Title: "flips", Key: "flips", Right: true},
	}}
	for k, i := range list {
		if top > 0 && k == top {
			break
		}
		l := x.PerLabel[i]
		g := gain(i)
		mark := Cell{Text: "+", Tone: Added}
		if g < 0 {
			mark = Cell{Text: "-", Tone: Removed}
		}
		t.Rows = append(t.Rows, []Cell{mark, Words(r.label(i)), Count(int64(l.Samples)), Count(int64(l.RightA)), Count(int64(l.RightB)), {Text: signed(100*g) + " points", Raw: g, Tone: mark.Tone}, Count(int64(l.Flips))})
	}
	s := Section{Title: "Labels, those first that lose most", Table: t}
	if more := len(list) - len(t.Rows); more > 0 {
		s.Notes = []string{"not listed: " + plural(more, "label")}
	}
	return s
}

// likenessSection says how far the activations of paired layers are apart.
func (r *Compared) likenessSection(v CompareView) Section {
	x := r.Likeness
	t := &Table{Columns: []Column{
		{Title: ""}, {Title: "layer", Key: "layer_a", Shrink: true}, {Title: "in B", Key: "layer_b", Shrink: true, Sparse: true}, {Title: "filters", Key: "filters_compared", Right: true, Drop: 3},
		{Title: "rel L2", Key: "rel_l2", Right: true}, {Title: "max rel", Key: "max_rel", Right: true, Drop: 2}, {Title: "cosine", Key: "cosine", Right: true, Drop: 1},
		{Title: "CKA", Key: "cka", Right: true}, {Title: "debiased", Key: "cka_debiased", Right: true, Drop: 4}, {Title: "parts", Key: "parts", Hidden: true}, {Title: "note", Key: "note", Sparse: true, Wrap: true},
	}}
	for i, l := range x.Layers {
		if v.Top > 0 && i == v.Top && !v.All {
			break
		}
		a, b := x.A[l.A], x.B[l.B]
		name, other := layerName(a.Op, a.Layer), layerName(b.Op, b.Layer)
		if name.Text == other.Text {
			other.Text, other.Short = "", ""
		}
		mark := Cell{Text: "=", Tone: Faint}
		note := l.Note
		if l.Assumed {
			note = strings.TrimPrefix(note+"; places assumed", "; ")
		}
		if l.Parts {
			mark = sign("changed")
			if x.Parting != nil && i == *x.Parting {
				note = strings.TrimSuffix("parts here first; "+note, "; ")
				name.Tone = Changed
			}
		}
		t.Rows = append(t.Rows, []Cell{mark, name, other, Count(int64(l.Filters)), optional(l.RelL2, relative, unread), optional(l.MaxRel, relative, unread), optional(l.Cosine, cosineCell, unread),
			optional(l.CKA, cosineCell, unread), optional(l.Debiased, cosineCell, unread), {Raw: l.Parts}, {Text: note, Raw: l.Note}})
	}
	first := "no layer parts"
	if x.Parting != nil {
		tap := x.A[x.Layers[*x.Parting].A]
		first = LayerName(tap.Op, tap.Layer)
	}
	s := Section{Title: "Activations", Facts: []Fact{{"samples", Words(grouped(int64(x.Samples)))}, {"first that parts", Words(first)}}, Table: t}
	if more := len(x.Layers) - len(t.Rows); more > 0 {
		s.Notes = append(s.Notes, "not listed: "+plural(more, "layer"))
	}
	if x.Note != "" {
		s.Notes = append(s.Notes, x.Note)
	}
	return s
}
