package report

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
)

// A CompareView says how much of a comparison is listed.
type CompareView struct {
	// All lists what is the same, too.
	All bool
	// Top, when positive, bounds the lists: of operators those whose weights differ
	// most, after those that differ otherwise.
	Top int
	// Filters lists every filter that is not kept, and the labels that filters have
	// gained and lost: of the layers that FilterLayers names as a CompareChoice does,
	// of all when it is nil.
	Filters      bool
	FilterLayers []string
}

// NewComparedSide describes a model that was opened.
func NewComparedSide(file string, m *inspect.Model) ComparedSide {
	bytes, layers := m.FileBytes+m.ExternalBytes, m.Totals.Layers
	s := ComparedSide{File: file, Bytes: &bytes, MACs: m.Totals.MACs, Layers: &layers}
	if m.Totals.ParametersUnknown == 0 {
		n := m.Totals.Parameters
		s.Parameters = &n
	}
	return s
}

// FromCompared shows what differs between two models, as a review shows it of two
// texts.
func FromCompared(r *Compared, v CompareView) Document {
	d := Document{Title: r.A.File + " and " + r.B.File, Warnings: r.Warnings}
	d.Sections = append(d.Sections, r.headSection(), r.sideSection())
	if x := r.Delta; x != nil {
		d.add(changeSection(x.Model), valueChanges(x, v), r.operatorSection(v))
		if v.Filters {
			d.Sections = append(d.Sections, filterSections(x, v)...)
		}
	}
	if x := r.Description; x != nil {
		d.add(changeSection(x.Changes), x.layerSection(v))
	}
	if r.Data != nil {
		d.add(r.dataSection())
	}
	if r.Answers != nil {
		d.Sections = append(d.Sections, r.answerSections(v)...)
	}
	if r.Likeness != nil {
		d.add(r.likenessSection(v))
	}
	if r.Statistics != nil {
		d.Sections = append(d.Sections, FromStatisticsDelta(r.Statistics)...)
		if v.Filters && r.Data != nil {
			wanted := func(l *StatisticsPair) bool {
				return v.FilterLayers == nil || fitsAny(v.FilterLayers, l.Layer, LayerName(l.Op, l.Layer), l.Tensor, l.LayerB, LayerName(l.Op, l.LayerB))
			}
			d.Sections = append(d.Sections, FromFilterChanges(r.Statistics, r.Data.Labels, wanted)...)
		}
	}
	last := &d.Sections[len(d.Sections)-1]
	last.Notes = append(last.Notes, r.definitions(d.shows)...)
	return d
}

// shows tells whether a table of the document has a column of that title with
// something in it.
func (d *Document) shows(column string) bool {
	return slices.ContainsFunc(d.Sections, func(s Section) bool {
		return s.Table != nil && slices.ContainsFunc(visible(s.Table).Columns, func(c Column) bool { return c.Title == column })
	})
}

// add appends the sections that have something to show.
func (d *Document) add(list ...Section) {
	for _, s := range list {
		if len(s.Facts) > 0 || len(s.Notes) > 0 || s.Table != nil && len(s.Table.Rows) > 0 {
			d.Sections = append(d.Sections, s)
		}
	}
}

func (r *Compared) headSection() Section {
	verdict := Cell{Text: r.Verdict, Tone: Changed}
	if r.Same {
		verdict.Tone = Added
	}
	facts := []Fact{{"verdict", verdict}}
	if len(r.Besides) > 0 && !r.Same {
		facts = append(facts, Fact{"not counted", Words(r.besides())})
	}
	if d := r.Delta; d != nil {
		facts = append(facts, deltaFacts(d)...)
	}
	if len(r.Only) > 0 {
		facts = append(facts, Fact{"compared", Words("only " + strings.Join(r.Only, ", "))})
	}
	if len(r.Ignored) > 0 {
		facts = append(facts, Fact{"left out", Words(strings.Join(r.Ignored, ", "))})
	}
	return Section{Facts: facts}
}

// besides says what differs without counting.
func (r *Compared) besides() string {
	found := r.differences()
	words := make([]string, len(r.Besides))
	for i, a := range r.Besides {
		words[i] = found[a]
	}
	return strings.Join(words, ", ")
}

func deltaFacts(d *delta.Delta) (facts []Fact) {
	t := d.Totals
	if s := counted(part{t.Kept + t.Renamed, "the same"}, part{t.Changed, "changed"}, part{t.Moved, "moved"}, part{t.Added, "added"}, part{t.Removed, "removed"}); s != "" {
		facts = append(facts, Fact{"operators", Words(s)})
	}
	within := "within the tolerance"
	if d.RTol == 0 && d.ATol == 0 {
		within = "equal but for rounding"
	}
	equal := "equal"
	if f := t.Filters; f.Gone+f.New > 0 {
		equal = "equal in the filters that live on"
	}
	if s := counted(part{t.TensorsEqual, equal}, part{t.TensorsWithin, within}, part{t.TensorsDiffer, "differ"}, part{t.TensorsNotRead, "not compared"}); s != "" {
		if t.ElementsChanged > 0 {
			s += fmt.Sprintf("; %s of %s numbers changed (%s)", grouped(t.ElementsChanged), grouped(t.Elements), partly(float64(t.ElementsChanged)/float64(t.Elements)).Text)
		}
		facts = append(facts, Fact{"tensors", Words(s)})
	}
	var added, gone int64
	for i := range d.Nodes {
		for _, x := range d.Nodes[i].Tensors {
			if x.Values != nil {
				added += x.Values.NewZeros
				gone += x.Values.GoneZeros
			}
		}
	}
	if added+gone > 0 {
		facts = append(facts, Fact{"zeros", Words(counted(part{int(added), "new"}, part{int(gone), "gone"}))})
	}
	if f := t.Filters; f != (delta.FilterCounts{}) {
		facts = append(facts, Fact{"filters", Words(filterText(&f, ", "))})
	}
	if d.RTol > 0 || d.ATol > 0 {
		facts = append(facts, Fact{"tolerance", Words(fmt.Sprintf("%g + %g |a|", d.ATol, d.RTol))})
	}
	return facts
}

func filterText(f *delta.FilterCounts, sep string) string {
	s := counted(part{f.Kept, "kept"}, part{f.Moved, "moved"}, part{f.Scaled, "scaled"}, part{f.Changed, "changed"}, part{f.Gone, "gone"}, part{f.New, "new"})
	return strings.ReplaceAll(s, ", ", sep)
}

// partly is a share in per cent that is 0 or 100 only when it is.
func partly(v float64) Cell {
	c := Share(v)
	switch {
	case v > 0 && v < 0.00005:
		c.Text = "<0.01 %"
	case v < 1 && v >= 0.99995:
		c.Text = ">99.99 %"
	case v == 1:
		c.Text = "100 %"
	}
	return c
}

// cosineCell shows a cosine that is 1 only when it is, but for the rounding of sums.
func cosineCell(v float64) Cell {
	c := Number(v, 4)
	if v < 1-1e-9 && c.Text == "1.0000" {
		c.Text = ">.9999"
	}
	return c
}

// relative writes v with three significant digits.
func relative(v float64) Cell { return Cell{Text: fmt.Sprintf("%.3g", v), Raw: v} }

// sideSection puts both models side by side.
func (r *Compared) sideSection() Section {
	title := func(s ComparedSide, other string) string {
		if base := filepath.Base(s.File); base != filepath.Base(other) {
			return base
		}
		return s.File
	}
	t := &Table{Columns: []Column{{Title: ""}, {Title: title(r.A, r.B.File), Right: true}, {Title: title(r.B, r.A.File), Right: true}, {Title: "", Right: true}}}
	if len([]rune(t.Columns[1].Title+t.Columns[2].Title)) > 48 || r.A.File == r.B.File {
		t.Columns[1].Title, t.Columns[2].Title = "A", "B"
	}
	row := func(name string, a, b *int64, cell func(int64) Cell) {
		if a == nil && b == nil {
			return
		}
		change := none
		if a != nil && b != nil && *a != *b && *a > 0 {
			ratio := float64(*b) / float64(*a)
			change = Cell{Text: signed(100*(ratio-1)) + " %", Tone: Changed}
			if ratio >= 10 {
				change.Text = "x " + digits(ratio, 3)
			}
		}
		t.Rows = append(t.Rows, []Cell{Words(name), optional(a, cell, absent), optional(b, cell, absent), change})
	}
	for _, s := range []*ComparedSide{&r.A, &r.B} {
		if s.Model != "" {
			t.Rows = append(t.Rows, []Cell{Words("report of"), Words(r.A.Model), Words(r.B.Model), none})
			break
		}
	}
	row("size", r.A.Bytes, r.B.Bytes, Bytes)
	row("parameters", r.A.Parameters, r.B.Parameters, Count)
	row("MACs", r.A.MACs, r.B.MACs, Scaled)
	wide := func(v *int) *int64 {
		if v == nil {
			return nil
		}
		n := int64(*v)
		return &n
	}
	row("layers", wide(r.A.Layers), wide(r.B.Layers), Count)
	return Section{Table: t}
}

// signed writes a number of per cents with its sign.
func signed(v float64) string {
	s := fmt.Sprintf("%+.1f", v)
	if s == "+0.0" || s == "-0.0" {
		s = fmt.Sprintf("%+.2g", v)
	}
	return s
}

// sign marks what became of something.
func sign(k delta.Kind) Cell {
	switch k {
	case delta.Added:
		return Cell{Text: "+", Raw: string(k), Tone: Added}
	case delta.Removed:
		return Cell{Text: "-", Raw: string(k), Tone: Removed}
	case delta.Changed:
		return Cell{Text: "~", Raw: string(k), Tone: Changed}
	case delta.Moved:
		return Cell{Text: ">", Raw: string(k), Tone: Changed}
	}
	return Cell{Text: "=", Raw: string(k), Tone: Faint}
}

// changeKind tells on which side a change of a list has a value.
func changeKind(c delta.Change) delta.Kind {
	listed := c.What == "metadata" || c.What == "opset" || c.What == "operator" || c.What == "input" || c.What == "output"
	switch {
	case listed && c.From == "" && c.To != "":
		return delta.Added
	case listed && c.To == "" && c.From != "":
		return delta.Removed
	}
	return delta.Changed
}

// valueChars is how much of a value is shown; JSON and CSV have all of it.
const valueChars = 60

func fromTo(c delta.Change) string {
	switch from, to := firstChars(oneValue(c.From), valueChars), firstChars(oneValue(c.To), valueChars); {
	case from == "" && to == "":
		return ""
	case from == "" && changeKind(c) == delta.Added:
		return to
	case to == "" && changeKind(c) == delta.Removed:
		return from
	default:
		return cmp.Or(from, "none") + " -> " + cmp.Or(to, "none")
	}
}

// changeSection lists changes of a model as a whole.
func changeSection(list []delta.Change) Section {
	s := Section{Title: "Model"}
	for _, c := range list {
		mark := sign(changeKind(c))
		name := strings.TrimSpace(mark.Text + " " + strings.ReplaceAll(c.What, "_", " ") + " " + c.Name)
		s.Facts = append(s.Facts, Fact{name, Cell{Text: fromTo(c), Tone: mark.Tone}})
	}
	return s
}

// valueChanges shows the inputs and outputs that differ.
func valueChanges(d *delta.Delta, v CompareView) Section {
	t := &Table{Columns: []Column{{}, {Title: ""}, {Title: "name", Shrink: true}, {Title: "type"}, {Title: "shape", Wrap: true}, {Title: "comes from", Sparse: true, Wrap: true}}}
	both := func(x delta.ValueDelta, of func(*inspect.Value) string) string {
		switch {
		case x.A == nil:
			return of(x.B)
		case x.B == nil || of(x.A) == of(x.B):
			return of(x.A)
		}
		return of(x.A) + " -> " + of(x.B)
	}
	for _, l := range []struct {
		word string
		list []delta.ValueDelta
	}{{"input", d.Inputs}, {"output", d.Outputs}} {
		for _, x := range l.list {
			if x.Kind == delta.Kept && !v.All {
				continue
			}
			mark := sign(x.Kind)
			if x.Kind == delta.Renamed {
				mark = sign(delta.Changed)
			}
			shape := func(v *inspect.Value) string { return v.Shape.String() }
			if x.A != nil && x.B != nil && !slices.ContainsFunc(x.Changes, func(c delta.Change) bool { return c.What == "shape" }) {
				shape = func(*inspect.Value) string { return x.A.Shape.String() } // other names of symbols
			}
			source := none
			for _, c := range x.Changes {
				if c.What == "source" {
					source = Words(fromTo(c))
				}
			}
			t.Rows = append(t.Rows, []Cell{mark, Words(l.word), Words(both(x, func(v *inspect.Value) string { return v.Name })),
				Words(both(x, func(v *inspect.Value) string { return cmp.Or(v.DType, "unknown") })), Words(both(x, shape)), source})
		}
	}
	return Section{Title: "Inputs and outputs", Table: t}
}

// foldedFrom is how many operators in a row that are the same get a line that says
// so; fewer are left out without a word between those that are listed.
const foldedFrom = 3

// differs tells whether an operator is more than renamed or written otherwise.
func differs(n *delta.NodeDelta) bool { return n.Kind != delta.Kept && n.Kind != delta.Renamed }

// listed tells whether an operator gets a line of its own.
func (r *Compared) listed(n *delta.NodeDelta, v CompareView) bool {
	counts := func(a string) bool { return slices.Contains(r.Counts, a) }
	switch {
	case v.All || differs(n):
		return true
	case n.Renamed && counts(AspectNames), n.Rewritten && counts(AspectWriting):
		return true
	}
	return r.Strict && slices.ContainsFunc(n.Tensors, func(t delta.TensorDelta) bool { return retyped(&t) })
}

// severity orders operators by how much differs: what is not a matter of numbers
// first.
func severity(n *delta.NodeDelta) float64 {
	worst := 0.0
	for _, t := range n.Tensors {
		switch {
		case t.Agreement == delta.Incomplete:
			worst = math.Inf(1)
		case t.Values == nil:
		case t.Values.RelL2 != nil:
			worst = max(worst, *t.Values.RelL2)
		case t.Values.Changed > 0:
			worst = math.Inf(1)
		}
	}
	if n.A == nil || n.B == nil || n.Moved || slices.ContainsFunc(n.Changes, func(c delta.Change) bool { return changeAspect(c.What) != AspectWeights }) {
		return math.Inf(1)
	}
	return worst
}

// chosen tells which operators are listed and how many are not for the sake of
// Top.
func (r *Compared) chosen(v CompareView) (show map[int]bool, more int) {
	show = map[int]bool{}
	var candidates []int
	for i := range r.Delta.Nodes {
		n := &r.Delta.Nodes[i]
		if !r.listed(n, v) {
			continue
		}
		show[i] = true
		if v.Top > 0 {
			candidates = append(candidates, i)
		}
	}
	if v.Top > 0 && len(candidates) > v.Top {
		slices.SortStableFunc(candidates, func(i, j int) int {
			return cmp.Compare(severity(&r.Delta.Nodes[j]), severity(&r.Delta.Nodes[i]))
		})
		for _, i := range candidates[v.Top:] {
			delete(show, i)
			if differs(&r.Delta.Nodes[i]) {
				more++
			}
		}
	}
	return show, more
}

func (r *Compared) operatorSection(v CompareView) Section {
	t := &Table{Columns: []Column{
		{}, {Title: "operator"}, {Title: "name", Shrink: true},
		{Title: "rel L2", Right: true, Sparse: true}, {Title: "cosine", Right: true, Sparse: true, Drop: 4}, {Title: "changed", Right: true, Sparse: true, Drop: 3},
		{Title: "max diff", Right: true, Sparse: true, Drop: 5}, {Title: "zeros", Right: true, Sparse: true, Drop: 2},
		{Title: "digits", Right: true, Sparse: true, Drop: 6}, {Title: "stored as", Sparse: true, Drop: 7},
		{Title: "filters", Sparse: true, Drop: 1}, {Title: "what differs", Sparse: true, Wrap: true},
	}}
	show, more := r.chosen(v)
	same, renamed, within, unlisted := 0, 0, 0, 0
	fold := func() {
		say := func(n int, word, more string) {
			if n > 0 {
				row := make([]Cell, len(t.Columns))
				row[1], row[2] = Cell{Text: "...", Tone: Faint}, Cell{Text: grouped(int64(n)) + " " + word, Tone: Faint}
				row[len(row)-1] = Cell{Text: more, Tone: Faint}
				t.Rows = append(t.Rows, row)
			}
		}
		if same >= foldedFrom || len(t.Rows) == 0 {
			say(same, "the same", counted(part{renamed, "renamed"}, part{within, "within tolerance"}))
		}
		say(unlisted, "not listed", "")
		same, renamed, within, unlisted = 0, 0, 0, 0
	}
	differing := false
	for i := range r.Delta.Nodes {
		n := &r.Delta.Nodes[i]
		if !show[i] {
			if differs(n) {
				unlisted++
				continue
			}
			same++
			if n.Renamed {
				renamed++
			}
			if slices.ContainsFunc(n.Tensors, func(x delta.TensorDelta) bool { return x.Agreement == delta.Within }) {
				within++
			}
			continue
		}
		fold()
		differing = true
		t.Rows = append(t.Rows, r.operatorRow(n))
	}
	if !differing {
		return Section{}
	}
	fold()
	distinguish(t.Rows, 2)
	s := Section{Title: "Operators", Table: t}
	if more > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("not listed: %s that differ less", plural(more, "operator")))
	}
	return s
}

// distinguish adds to the short names of a column that several operators of a module
// share what sets them apart: "layer1.0/Relu_1".
func distinguish(rows [][]Cell, column int) {
	texts := map[string]map[string]bool{}
	for _, r := range rows {
		c := r[column]
		if texts[c.Short] == nil {
			texts[c.Short] = map[string]bool{}
		}
		texts[c.Short][c.Text] = true
	}
	for _, r := range rows {
		if c := &r[column]; c.Short != "" && len(texts[c.Short]) > 1 {
			from, to, renamed := strings.Cut(c.Text, " -> ")
			if c.Short = modulePath(from+"/.", "."); renamed {
				c.Short += " -> " + modulePath(to+"/.", ".")
			}
		}
	}
}

// nodeName is the name of an operator on both sides.
func nodeName(n *delta.NodeDelta) Cell {
	switch {
	case n.A == nil:
		return Cell{Text: n.B.Name, Raw: n.B.Name, Short: nodeShort(n.B)}
	case n.B == nil || !n.Renamed || n.A.Name == n.B.Name:
		return Cell{Text: n.A.Name, Raw: n.A.Name, Short: nodeShort(n.A)}
	}
	c := Words(n.A.Name + " -> " + n.B.Name)
	a, b := nodeShort(n.A), nodeShort(n.B)
	if c.Short = a; a != b {
		c.Short += " -> " + b
	}
	return c
}

// nodeShort is the module path of an operator, with the rest of its name where that
// is not the operator: "layer1.0/Relu_1".
func nodeShort(n *delta.Node) string {
	if s := LayerName(nodeOp(n), n.Name); s != n.Name {
		return s
	}
	return modulePath(n.Name+"/.", ".")
}

func nodeOperator(n *delta.NodeDelta) string {
	switch {
	case n.A == nil:
		return n.B.Op
	case n.B == nil || n.A.Op == n.B.Op:
		return n.A.Op
	}
	return n.A.Op + " -> " + n.B.Op
}

// foremost is the tensor whose numbers stand for an operator: the one that differs
// most by how it agrees, the first of equal ones.
func foremost(n *delta.NodeDelta) *delta.TensorDelta {
	rank := map[delta.Agreement]int{delta.Differs: 3, delta.Incomplete: 2, delta.Within: 1}
	var best *delta.TensorDelta
	for i := range n.Tensors {
		if t := &n.Tensors[i]; rank[t.Agreement] > 0 && (best == nil || rank[t.Agreement] > rank[best.Agreement]) {
			best = t
		}
	}
	return best
}

func (r *Compared) operatorRow(n *delta.NodeDelta) []Cell {
	row := make([]Cell, 12)
	mark := sign(n.Kind)
	name, op := nodeName(n), Words(nodeOperator(n))
	if !differs(n) && (n.Renamed || n.Rewritten) && slices.ContainsFunc(r.Counts, func(a string) bool { return a == AspectNames || a == AspectWriting }) {
		mark = sign(delta.Changed)
	}
	name.Tone, op.Tone = mark.Tone, mark.Tone
	row[0], row[1], row[2] = mark, op, name
	t := foremost(n)
	if t != nil && t.Values != nil {
		x := t.Values
		row[3], row[4], row[5], row[6] = optional(x.RelL2, relative, unread), optional(x.Cosine, cosineCell, unread), partly(x.Share), optional(x.MaxAbs, relative, none)
		if x.NewZeros > 0 || x.GoneZeros > 0 {
			row[7] = Words(zeroText(x))
		}
		if x.Digits != nil {
			row[8] = Count(int64(*x.Digits))
		}
	}
	for i := range n.Tensors {
		if x := &n.Tensors[i]; retyped(x) {
			row[9] = Words(x.A.DType + " -> " + x.B.DType)
			break
		}
	}
	if f := n.Filters; f != nil && f.FilterCounts != (delta.FilterCounts{}) && f.FilterCounts != (delta.FilterCounts{Kept: f.CountA}) {
		row[10] = Words(filterText(&f.FilterCounts, " "))
	}
	row[11] = Words(strings.Join(r.whatDiffers(n, t), ", "))
	return row
}

func zeroText(x *delta.Values) string {
	var words []string
	if x.NewZeros > 0 {
		words = append(words, "+"+grouped(x.NewZeros))
	}
	if x.GoneZeros > 0 {
		words = append(words, "-"+grouped(x.GoneZeros))
	}
	return strings.Join(words, " ")
}

// whatDiffers lists what differs of an operator in words; t is the tensor whose
// numbers are shown.
func (r *Compared) whatDiffers(n *delta.NodeDelta, t *delta.TensorDelta) (words []string) {
	var weights []string
	for _, c := range n.Changes {
		switch c.What {
		case "weight", "bias", "operand":
			s := strings.TrimSpace(c.What + " " + c.Name)
			if c.From != "" || c.To != "" {
				s += " " + c.From + " -> " + c.To
			} else if note := noteOf(n, c); note != "" {
				s += " (" + note + ")"
			}
			if t != nil && t.What == c.What && t.Agreement == delta.Differs {
				weights = append([]string{s}, weights...) // first the one with the numbers
			} else {
				weights = append(weights, s)
			}
		case "operator": // told as such
		case "attribute":
			words = append(words, fmt.Sprintf("%s %s -> %s", c.Name, cmp.Or(c.From, "none"), cmp.Or(c.To, "none")))
		case "filters":
			words = append(words, fmt.Sprintf("%s -> %s filters", c.From, c.To))
		case "channels":
			words = append(words, fmt.Sprintf("reads %s -> %s channels", c.From, c.To))
		case "filter_order":
			words = append(words, "filters in another order")
		case "channel_order":
			words = append(words, "channels in another order")
		case "input":
			words = append(words, fmt.Sprintf("reads %s, was %s", cmp.Or(c.To, "nothing"), cmp.Or(c.From, "nothing")))
		default:
			words = append(words, strings.TrimSpace(c.What+" "+fromTo(c)))
		}
	}
	words = append(weights, words...)
	if n.Moved {
		words = append(words, "in another place")
	}
	if n.Rewritten {
		words = append(words, "written as "+strings.Join(n.B.Nodes, " ")+", was "+strings.Join(n.A.Nodes, " "))
	}
	if n.Unclear && differs(n) {
		words = append(words, "another partner is as likely")
	}
	if f := n.Filters; f != nil && f.Note != "" && differs(n) {
		words = append(words, "filters: "+f.Note)
	}
	return words
}

// noteOf says why the numbers of a tensor were not compared, "" when they were.
func noteOf(n *delta.NodeDelta, c delta.Change) string {
	for i := range n.Tensors {
		if t := &n.Tensors[i]; t.What == c.What && position(t) == c.Name && t.Agreement == delta.Incomplete {
			return t.Note
		}
	}
	return ""
}

// filterSections lists, layer by layer, the filters that are not kept.
func filterSections(d *delta.Delta, v CompareView) (list []Section) {
	for i := range d.Nodes {
		n := &d.Nodes[i]
		if n.Filters == nil || len(n.Filters.Filters) == 0 || v.FilterLayers != nil && !fitsAny(v.FilterLayers, nodeNames(n)...) {
			continue
		}
		t := &Table{Columns: filterColumns()}
		for _, f := range n.Filters.Filters {
			if v.Top > 0 && len(t.Rows) == v.Top {
				break
			}
			t.Rows = append(t.Rows, filterRow(&f))
		}
		s := Section{Title: "Filters of " + cmp.Or(nodeName(n).Short, nodeName(n).Text), Facts: []Fact{{"filters", Words(filterText(&n.Filters.FilterCounts, ", "))}}, Table: t}
		if more := len(n.Filters.Filters) - len(t.Rows); more > 0 {
			s.Notes = []string{"not listed: " + plural(more, "filter")}
		}
		list = append(list, s)
	}
	return list
}

func filterColumns() []Column {
	return []Column{
		{Title: "", Key: "kind"}, {Title: "of A", Key: "from", Right: true}, {Title: "in B", Key: "to", Right: true}, {Title: "cosine", Key: "similarity", Right: true},
		{Title: "scale", Key: "scale", Right: true, Sparse: true}, {Title: "bias", Key: "bias_changed", Sparse: true}, {Title: "as likely", Key: "candidates", Sparse: true, Wrap: true},
	}
}

func filterRow(f *delta.Filter) []Cell {
	kind := Words(string(f.Kind))
	switch f.Kind {
	case delta.FilterGone:
		kind.Tone = Removed
	case delta.FilterNew:
		kind.Tone = Added
	default:
		kind.Tone = Changed
	}
	index := func(v *int) Cell {
		if v == nil {
			return none
		}
		return Cell{Text: fmt.Sprint(*v), Raw: *v}
	}
	bias := Cell{Raw: f.BiasChanged}
	if f.BiasChanged {
		bias.Text = "changed"
	}
	likely := none
	if f.Unclear {
		likely = Words(strings.Trim(fmt.Sprint(f.Candidates), "[]"))
		if likely.Text == "" {
			likely = Words("another of A")
		}
	}
	return []Cell{kind, index(f.From), index(f.To), optional(f.Similarity, cosineCell, none), optional(f.Scale, significant, none), bias, likely}
}

// significant writes v with four significant digits.
func significant(v float64) Cell { return Cell{Text: fmt.Sprintf("%.4g", v), Raw: v} }

// definitions says what the numbers mean, of those columns only that are shown.
func (r *Compared) definitions(shown func(column string) bool) []string {
	list := []string{}
	add := func(s string) { list = append(list, s) }
	add("what counts: " + cmp.Or(strings.Join(r.Counts, ", "), "nothing"))
	if d := r.Delta; d != nil {
		add("operators are matched by what they do, BatchNormalization folded; names are a hint, and what is only written in another way is the same")
		if shown("rel L2") && d.Totals.TensorsEqual+d.Totals.TensorsWithin+d.Totals.TensorsDiffer > 0 {
			add("of the tensor named first: rel L2: ||b-a|| / ||a||; cosine: a.b / (||a|| ||b||); changed: numbers that differ at all; max diff: the largest |b-a|; zeros: + new in B, - gone from A; digits: the largest d with max |b-a| <= 10^-d max |a|")
			add(fmt.Sprintf("a number differs when |b-a| > %g + %g |a|, unless a type of less precision or a BatchNormalization that was folded explains it", d.ATol, d.RTol))
		}
		if shown("filters") && d.Totals.Filters != (delta.FilterCounts{}) {
			add(fmt.Sprintf("filters of A are looked for in B by their weights, at a cosine of %g or more over the channels that live on: kept, moved to another index, scaled, changed, gone; new: of B only", d.Similarity))
		}
	}
	if r.Description != nil {
		add("saved reports hold no weights: only what they describe was compared; layers are paired by name, then in order by operator, attributes and shapes")
	}
	if r.Answers != nil {
		add("p: two-sided exact p-value of the hypothesis that both are right equally often (McNemar's test on the samples that only one has right); margin: softmax probability of the answer less that of the other's answer")
	}
	if x := r.Likeness; x != nil {
		add(fmt.Sprintf("layers part where ||b-a|| / ||a|| of their activations is above %g; max rel: the largest |b-a| by the largest |a|; CKA: linear centred kernel alignment over the samples (Kornblith et al. 2019), debiased: with the unbiased estimate of HSIC", x.Tolerance))
	}
	return list
}
