package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect/delta"
)

// NewCompared returns a comparison of two sides of which nothing is known yet.
func NewCompared(a, b ComparedSide, c CompareChoice) *Compared {
	return &Compared{Schema: ComparedSchema, A: a, B: b, Only: c.Only, Ignored: c.Ignore, Strict: c.Strict, Counts: []string{}, Differ: []string{}, Definitions: []string{}}
}

// SetDelta takes over what differs between the models themselves, less what c
// leaves out. It changes d.
func (r *Compared) SetDelta(d *delta.Delta, c CompareChoice) {
	c.leave(d)
	r.Delta = d
}

// Judge says, of all that r holds by now, what differs and whether it counts. It
// sets Same, Verdict, Counts, Differ, Besides and Definitions.
func (r *Compared) Judge(c CompareChoice) {
	r.Counts, r.Differ, r.Besides = []string{}, []string{}, nil
	found := r.differences()
	var differ, besides []string
	for _, a := range Aspects() {
		text, differs := found[a]
		switch {
		case !c.Wants(a):
		case c.Counts(a):
			r.Counts = append(r.Counts, a)
			if differs {
				r.Differ = append(r.Differ, a)
				differ = append(differ, text)
			}
		case differs:
			r.Besides = append(r.Besides, a)
			besides = append(besides, text)
		}
	}
	r.Same = len(r.Differ) == 0
	r.Verdict = r.verdict(differ, besides)
	r.Definitions = r.definitions(func(string) bool { return true })
}

func (r *Compared) verdict(differ, besides []string) string {
	if !r.Same {
		return "they differ: " + strings.Join(differ, ", ")
	}
	s := "the same"
	switch {
	case r.Delta == nil && r.Description == nil && slices.Equal(r.Counts, []string{AspectAnswers}):
		s = "the same answers"
	case r.Delta == nil && r.Description == nil && len(r.Counts) == 1:
		s = "the same " + r.Counts[0]
	case r.Delta == nil && r.Description == nil:
	case r.Description != nil:
		s = "the same as far as reports tell"
	case len(r.Counts) == 1:
		s = "the same " + r.Counts[0]
		if r.Counts[0] == AspectInterface || r.Counts[0] == AspectStructure || r.Counts[0] == AspectMetadata {
			break
		}
		s += r.withinText()
	default:
		s += r.withinText()
	}
	if len(besides) > 0 {
		s += " but for " + strings.Join(besides, ", ")
	}
	return s
}

// withinText says how near numbers are that are not all equal.
func (r *Compared) withinText() string {
	if r.Delta == nil || r.Delta.Totals.TensorsWithin == 0 {
		return ""
	}
	s := " within tolerance"
	if r.Delta.RTol == 0 && r.Delta.ATol == 0 {
		s = ""
	}
	if d := r.Delta.Totals.Digits; d != nil {
		s += " to " + plural(*d, "digit")
	}
	if s == "" {
		s = " but for rounding"
	}
	return s
}

// differences says what differs in each aspect.
func (r *Compared) differences() map[string]string {
	found := map[string]string{}
	say := func(aspect, what string) {
		found[aspect] = aspect + " (" + what + ")"
	}
	if d := r.Delta; d != nil {
		r.modelDifferences(d, found, say)
	}
	if d := r.Description; d != nil {
		d.differences(found, say)
	}
	if x := r.Answers; x != nil && x.Agree+x.Neither < x.Samples {
		say(AspectAnswers, fmt.Sprintf("to %s of %s", grouped(int64(x.Samples-x.Agree-x.Neither)), plural(x.Samples, "sample")))
	}
	if x := r.Likeness; x != nil && x.Parting != nil {
		tap := x.A[x.Layers[*x.Parting].A]
		say(AspectActivations, "from "+LayerName(tap.Op, tap.Layer)+" on")
	}
	if x := r.Statistics; x != nil {
		filters, gone := 0, 0
		for _, l := range x.Layers {
			filters += l.Clusters
			gone += l.Gone + l.New
		}
		var parts []string
		if filters > 0 {
			parts = append(parts, "clusters of "+plural(filters, "filter"))
		}
		if gone > 0 {
			parts = append(parts, plural(gone, "filter")+" without a counterpart")
		}
		if n := len(x.Unpaired); n > 0 {
			parts = append(parts, plural(n, "layer")+" of one model only")
		}
		if parts != nil {
			say(AspectStatistics, strings.Join(parts, ", "))
		}
	}
	return found
}

func (r *Compared) modelDifferences(d *delta.Delta, found map[string]string, say func(aspect, what string)) {
	if len(d.Model) > 0 {
		say(AspectMetadata, metadataText(d.Model))
	}
	if words := append(otherValues(d.Inputs), otherValues(d.Outputs)...); len(words) > 0 {
		say(AspectInterface, few(words))
	}
	var n nodeCounts
	for i := range d.Nodes {
		n.add(&d.Nodes[i], r.Strict)
	}
	if n.renamed > 0 {
		found[AspectNames] = "names of " + plural(n.renamed, "operator")
	}
	var written []string
	if n.rewritten > 0 {
		written = append(written, "writing of "+plural(n.rewritten, "operator"))
	}
	if n.retyped > 0 {
		written = append(written, "types of "+plural(n.retyped, "tensor"))
	}
	if written != nil {
		found[AspectWriting] = strings.Join(written, ", ")
	}
	if s := counted(part{n.structure, "changed"}, part{n.moved, "moved"}, part{n.added, "added"}, part{n.removed, "removed"}); s != "" {
		say(AspectStructure, "operators: "+s)
	}
	if n.tensors > 0 {
		say(AspectWeights, fmt.Sprintf("%s of %s", plural(n.tensors, "tensor"), plural(n.layers, "layer")))
	}
	if n.filterLayers > 0 {
		f := n.filters
		s := counted(part{f.Gone, "gone"}, part{f.New, "new"}, part{f.Moved, "moved"})
		if s == "" {
			s = "another order in " + plural(n.filterLayers, "layer")
		}
		say(AspectFilters, s)
	}
}

// otherValues says of inputs or outputs that differ how.
func otherValues(list []delta.ValueDelta) (words []string) {
	for _, v := range list {
		switch {
		case v.A == nil:
			words = append(words, fmt.Sprintf("%q added", v.B.Name))
		case v.B == nil:
			words = append(words, fmt.Sprintf("%q removed", v.A.Name))
		case v.A.Name != v.B.Name:
			words = append(words, fmt.Sprintf("%q -> %q", v.A.Name, v.B.Name))
		case len(v.Changes) > 0:
			words = append(words, fmt.Sprintf("%s of %q", v.Changes[0].What, v.A.Name))
		}
	}
	return words
}

// few joins words, the first three at most.
func few(words []string) string {
	if n := len(words) - 3; n > 0 {
		words = append(words[:3:3], fmt.Sprintf("%d more", n))
	}
	return strings.Join(words, ", ")
}

// metadataText names the few things that differ.
func metadataText(changes []delta.Change) string {
	var words []string
	var entries []string
	for _, c := range changes {
		w := strings.ReplaceAll(c.What, "_", " ")
		switch c.What {
		case "producer_name", "producer_version":
			w = "producer"
		case "metadata":
			entries = append(entries, c.Name)
			continue
		}
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	if n := len(entries); n > 2 {
		entries = []string{grouped(int64(n)) + " entries"}
	}
	return strings.Join(append(words, entries...), ", ")
}

type part struct {
	n    int
	word string
}

// counted writes "3 gone, 1 new".
func counted(parts ...part) string {
	var words []string
	for _, p := range parts {
		if p.n > 0 {
			words = append(words, grouped(int64(p.n))+" "+p.word)
		}
	}
	return strings.Join(words, ", ")
}

// nodeCounts sums up operators by aspect.
type nodeCounts struct {
	renamed, rewritten, retyped      int
	structure, moved, added, removed int
	tensors, layers                  int
	filterLayers                     int
	filters                          delta.FilterCounts
}

func (c *nodeCounts) add(n *delta.NodeDelta, strict bool) {
	switch {
	case n.A == nil:
		c.added++
		return
	case n.B == nil:
		c.removed++
		return
	}
	if n.Renamed {
		c.renamed++
	}
	if n.Rewritten {
		c.rewritten++
	}
	if n.Kind == delta.Moved {
		c.moved++
	}
	weights := 0
	filters, structure := false, false
	told := map[string]bool{}
	for _, x := range n.Changes {
		switch changeAspect(x.What) {
		case AspectStructure:
			structure = true
		case AspectFilters:
			filters = true
		case AspectWeights:
			weights++
			told[x.What+x.Name] = true
		}
	}
	for _, t := range n.Tensors {
		if !retyped(&t) {
			continue
		}
		c.retyped++
		if strict && !told[t.What+position(&t)] {
			weights++
		}
	}
	if structure {
		c.structure++
	}
	if weights > 0 {
		c.tensors += weights
		c.layers++
	}
	if f := n.Filters; f != nil && (filters || f.Gone > 0 || f.New > 0 || f.Moved > 0) {
		c.filterLayers++
		c.filters.Gone += f.Gone
		c.filters.New += f.New
		c.filters.Moved += f.Moved
	}
}

// retyped tells whether the numbers of a tensor are stored in another type.
func retyped(t *delta.TensorDelta) bool { return t.A != nil && t.B != nil && t.A.DType != t.B.DType }
