package report

import (
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect/delta"
)

const (
	// maxReviewRows bounds the operators of a review.
	maxReviewRows = 6000
	// maxReviewName bounds the characters of a name in a row.
	maxReviewName = 80
	// foldedRun is how many operators in a row are folded when none of them
	// changed, besides one on either side that stays in sight.
	foldedRun = 3
)

// A htmlReview is the graph as a review.
type htmlReview struct {
	Groups []htmlReviewGroup
	Kinds  []htmlReviewKind
	Notes  []string
	// Data are the details of each row, JSON.
	Data template.JS
	// rows are the numbers of the rows of d.Nodes, -1 for those left out.
	rows []int
}

type htmlReviewKind struct{ Class, Sign, Word, Count string }

// A htmlReviewGroup is a run of operators; a folded one is shown on demand and says
// in Summary what is in it.
type htmlReviewGroup struct {
	Folded        bool
	Summary, Note string
	Rows          []htmlReviewRow
}

type htmlReviewRow struct {
	ID                int
	Sign, Class, Word string
	A, B              *htmlReviewSide
	Changes           []htmlReviewChange
	Flags             []string
	Weights           []htmlReviewWeight
	Filters           string
}

type htmlReviewSide struct{ Op, Name, Full, Shape string }

type htmlReviewChange struct{ What, From, To string }

// A htmlReviewWeight is a constant of an operator in one line.
type htmlReviewWeight struct {
	What, Text, Note string
	// Width is the length of the bar of rel L2.
	Width int
	Known bool
}

type reviewSign struct{ text, class, word string }

func signOf(k delta.Kind) reviewSign {
	switch k {
	case delta.Added:
		return reviewSign{"+", "added", "added"}
	case delta.Removed:
		return reviewSign{"-", "removed", "removed"}
	case delta.Changed:
		return reviewSign{"~", "changed", "changed"}
	case delta.Moved:
		return reviewSign{">", "moved", "moved"}
	}
	return reviewSign{"", "kept", "the same"}
}

// unchanged tells whether an operator may be folded away.
func unchanged(n *delta.NodeDelta) bool {
	if n.Kind != delta.Kept && n.Kind != delta.Renamed {
		return false
	}
	return !slices.ContainsFunc(n.Tensors, func(t delta.TensorDelta) bool {
		return t.Agreement == delta.Differs || t.Agreement == delta.Incomplete
	})
}

// reviewOrder returns the positions of nodes in the order of a review: those of A,
// and those that only B has behind what they follow in B, but for what has moved;
// what was removed at the same place comes before what was added.
func reviewOrder(nodes []delta.NodeDelta) []int {
	var ofA, added []int
	for i := range nodes {
		if nodes[i].A != nil {
			ofA = append(ofA, i)
		} else if nodes[i].B != nil {
			added = append(added, i)
		}
	}
	slices.SortStableFunc(added, func(a, b int) int { return nodes[a].B.Index - nodes[b].B.Index })
	type anchor struct{ place, row int } // in B and in ofA
	var anchors []anchor
	for row, i := range ofA {
		if n := &nodes[i]; n.B != nil && !n.Moved {
			anchors = append(anchors, anchor{n.B.Index, row})
		}
	}
	slices.SortStableFunc(anchors, func(a, b anchor) int { return a.place - b.place })
	// behind lists for each row of A, and at first for none, what follows it.
	behind := make([][]int, len(ofA)+1)
	next, row := 0, -1
	for _, i := range added {
		for next < len(anchors) && anchors[next].place < nodes[i].B.Index {
			row = anchors[next].row
			next++
		}
		at := row + 1
		for at < len(ofA) && nodes[ofA[at]].B == nil {
			at++
		}
		behind[at] = append(behind[at], i)
	}
	order := slices.Clone(behind[0])
	for row, i := range ofA {
		order = append(append(order, i), behind[row+1]...)
	}
	return order
}

// newReview makes the rows of the graph. Of more than maxReviewRows operators those
// that did not change are left out first.
func newReview(d *delta.Delta) (*htmlReview, error) {
	h := &htmlReview{rows: make([]int, len(d.Nodes))}
	for i := range h.rows {
		h.rows[i] = -1
	}
	t := d.Totals
	for _, k := range []struct {
		kind  delta.Kind
		count int
	}{{delta.Changed, t.Changed}, {delta.Added, t.Added}, {delta.Removed, t.Removed}, {delta.Moved, t.Moved}, {delta.Kept, t.Kept + t.Renamed}} {
		s := signOf(k.kind)
		if s.text == "" {
			s.text = "="
		}
		h.Kinds = append(h.Kinds, htmlReviewKind{s.class, s.text, s.word, grouped(int64(k.count))})
	}
	layer := filterLayers(d)
	order := reviewOrder(d.Nodes)
	room, folded, cut := maxReviewRows, len(order) > maxReviewRows, 0
	var details []*reviewDetails
	var open htmlReviewGroup
	flush := func() {
		if len(open.Rows) > 0 {
			h.Groups = append(h.Groups, open)
		}
		open = htmlReviewGroup{}
	}
	show := func(g *htmlReviewGroup, i int) {
		if room == 0 {
			cut++
			return
		}
		room--
		h.rows[i] = len(details)
		n := &d.Nodes[i]
		g.Rows = append(g.Rows, reviewRow(n, len(details)))
		one := newReviewDetails(n)
		one.Layer = layer[i]
		details = append(details, one)
	}
	for from := 0; from < len(order); {
		to := from
		for to < len(order) && unchanged(&d.Nodes[order[to]]) {
			to++
		}
		// One operator on either side stays in sight, none at the ends of the graph.
		first, last := from+1, to-1
		if from == 0 {
			first = from
		}
		if to == len(order) {
			last = to
		}
		if last-first < foldedRun {
			for ; from < to; from++ {
				show(&open, order[from])
			}
		} else {
			for ; from < first; from++ {
				show(&open, order[from])
			}
			flush()
			run := htmlReviewGroup{Folded: true, Summary: runSummary(d, order[first:last])}
			if folded {
				run.Note = "left out of this page; CSV and JSON hold all"
			} else {
				for _, i := range order[first:last] {
					show(&run, i)
				}
			}
			h.Groups = append(h.Groups, run)
			for from = last; from < to; from++ {
				show(&open, order[from])
			}
		}
		if from < len(order) {
			show(&open, order[from])
			from++
		}
	}
	flush()
	if cut > 0 {
		h.Notes = append(h.Notes, leftOut(cut, "operator"))
	}
	var err error
	h.Data, err = script(details)
	return h, err
}

// filterLayers numbers the operators of which newFilterMaps shows filters, from 1.
func filterLayers(d *delta.Delta) map[int]int {
	number := make(map[int]int)
	for i := range d.Nodes {
		if n := &d.Nodes[i]; n.Filters != nil && n.A != nil && n.B != nil {
			number[i] = len(number) + 1
		}
	}
	return number
}

// runSummary says what a folded run holds.
func runSummary(d *delta.Delta, run []int) string {
	ops := make(map[string]int)
	var names []string
	renamed, rewritten, within := 0, 0, 0
	var digits *int
	for _, i := range run {
		n := &d.Nodes[i]
		op := ""
		if n.A != nil {
			op = shown(n.A.Op)
		}
		if ops[op] == 0 {
			names = append(names, op)
		}
		ops[op]++
		if n.Renamed {
			renamed++
		}
		if n.Rewritten {
			rewritten++
		}
		for _, t := range n.Tensors {
			if t.Agreement != delta.Within {
				continue
			}
			within++
			if t.Values != nil && t.Values.Digits != nil && (digits == nil || *t.Values.Digits < *digits) {
				digits = t.Values.Digits
			}
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return ops[b] - ops[a] })
	const named = 5
	var parts []string
	for i, n := range names {
		if i == named {
			parts = append(parts, "others")
			break
		}
		parts = append(parts, fmt.Sprintf("%s %d", n, ops[n]))
	}
	s := plural(len(run), "unchanged operator") + ": " + strings.Join(parts, ", ")
	if renamed > 0 {
		s += fmt.Sprintf("; %s renamed", grouped(int64(renamed)))
	}
	if rewritten > 0 {
		s += fmt.Sprintf("; %s written otherwise", grouped(int64(rewritten)))
	}
	if within > 0 {
		s += "; " + plural(within, "tensor") + " within tolerance"
		if digits != nil {
			s += fmt.Sprintf(", the same to %s", plural(*digits, "digit"))
		}
	}
	return s
}

// shortName is a name as it stands where there is little room.
func shortName(name string) string { return shown(lastModule(firstBytes(name, 8*maxText))) }

// nothingCompared tells whether not one number of a tensor lives on.
func nothingCompared(t *delta.TensorDelta) bool {
	return t.Aligned && (t.Values == nil || t.Values.Elements == 0)
}

func reviewSide(n *delta.Node) *htmlReviewSide {
	if n == nil {
		return nil
	}
	s := &htmlReviewSide{Op: shown(n.Op), Name: firstChars(shortName(n.Name), maxReviewName), Full: shown(n.Name), Shape: shown(n.Shape.String())}
	if s.Full == s.Name {
		s.Full = ""
	}
	return s
}

func reviewRow(n *delta.NodeDelta, id int) htmlReviewRow {
	s := signOf(n.Kind)
	row := htmlReviewRow{ID: id, Sign: s.text, Class: s.class, Word: s.word, A: reviewSide(n.A), B: reviewSide(n.B)}
	if n.Renamed {
		row.Flags = append(row.Flags, "renamed")
	}
	if n.Moved && n.A != nil && n.B != nil {
		row.Flags = append(row.Flags, fmt.Sprintf("moved: place %d \u2192 %d", n.A.Index, n.B.Index))
	}
	if n.Rewritten {
		row.Flags = append(row.Flags, "written otherwise")
	}
	if n.Unclear {
		row.Flags = append(row.Flags, "unclear: another operator would match as well")
	}
	const few = 6
	for _, ch := range n.Changes {
		switch ch.What {
		case "weight", "bias", "operand":
			if ch.From == "" && ch.To == "" {
				continue // told with the numbers
			}
		}
		if len(row.Changes) == few {
			row.Flags = append(row.Flags, "and further changes")
			break
		}
		what := strings.ReplaceAll(ch.What, "_", " ")
		if ch.Name != "" {
			what += " " + shown(ch.Name)
		}
		row.Changes = append(row.Changes, htmlReviewChange{shown(what), shown(ch.From), shown(ch.To)})
	}
	same, aligned := 0, false
	for i := range n.Tensors {
		t := &n.Tensors[i]
		aligned = aligned || t.Aligned
		if nothingCompared(t) {
			row.Weights = append(row.Weights, htmlReviewWeight{What: tensorName(t), Text: "nothing lives on"})
			continue
		}
		retyped := t.A != nil && t.B != nil && t.A.DType != t.B.DType
		if t.Agreement == delta.Equal && !retyped {
			same++
			continue
		}
		if len(row.Weights) == few {
			row.Weights = append(row.Weights, htmlReviewWeight{What: "and further constants"})
			break
		}
		row.Weights = append(row.Weights, reviewWeight(t))
	}
	if same > 0 && same == len(n.Tensors) {
		text := "weights the same"
		if f := n.Filters; aligned && f != nil && f.Gone+f.New+f.Channels.Gone+f.Channels.New > 0 {
			text = "weights that live on the same"
		}
		row.Weights = append(row.Weights, htmlReviewWeight{What: text})
	}
	if f := n.Filters; f != nil && f.Note == "" && (f.Moved+f.Scaled+f.Changed+f.Gone+f.New > 0 || !f.InOrder) {
		row.Filters = filterCountsText(&f.FilterCounts)
		if !slices.ContainsFunc(n.Changes, func(c delta.Change) bool { return c.What == "filters" }) {
			row.Filters = "filters: " + row.Filters
		}
	}
	return row
}

// filterText counts the filters of each kind that there is.
func filterCountsText(c *delta.FilterCounts) string {
	var parts []string
	for _, k := range filterCounts(c) {
		if k.count > 0 {
			parts = append(parts, grouped(int64(k.count))+" "+string(k.kind))
		}
	}
	return strings.Join(parts, ", ")
}

// tensorName says which constant of an operator it is.
func tensorName(t *delta.TensorDelta) string {
	if t.What == "operand" {
		return "operand " + strconv.Itoa(t.Position)
	}
	return shown(t.What)
}

func reviewWeight(t *delta.TensorDelta) htmlReviewWeight {
	w := htmlReviewWeight{What: tensorName(t)}
	v := t.Values
	if v == nil {
		w.Text = "not compared"
		w.Note = shown(t.Note)
		return w
	}
	w.Known, w.Width = true, distanceWidth(v.RelL2)
	parts := []string{"rel L2 " + optionalText(v.RelL2, fourDigits)}
	if v.Cosine != nil {
		parts = append(parts, "cos "+cosineText(*v.Cosine))
	}
	w.Text = strings.Join(parts, ", ")
	var notes []string
	if v.Elements > 0 {
		notes = append(notes, shareText(v.Share)+" changed")
	}
	if v.NewZeros > 0 {
		notes = append(notes, "+"+grouped(v.NewZeros)+" zeros")
	}
	if v.GoneZeros > 0 {
		notes = append(notes, "-"+grouped(v.GoneZeros)+" zeros")
	}
	if t.A != nil && t.B != nil && t.A.DType != t.B.DType {
		notes = append(notes, t.A.DType+" \u2192 "+t.B.DType)
	}
	if t.Agreement == delta.Within {
		notes = append(notes, "within tolerance")
	}
	w.Note = shown(strings.Join(notes, ", "))
	return w
}

func optionalText[T any](v *T, text func(T) string) string {
	if v == nil {
		return "-"
	}
	return text(*v)
}

// reviewDetails is what the page shows of an operator when it is opened.
type reviewDetails struct {
	A       *detailSide    `json:"a,omitempty"`
	B       *detailSide    `json:"b,omitempty"`
	Tensors []detailTensor `json:"t,omitempty"`
	Filters string         `json:"f,omitempty"`
	// Layer is the number of the layer among the filter maps, less one.
	Layer    int    `json:"l,omitempty"`
	Channels string `json:"c,omitempty"`
}

// A detailSide describes an operator; that of B has only what differs from A.
type detailSide struct {
	Name   string `json:"n,omitempty"`
	Place  *int   `json:"p,omitempty"`
	Nodes  string `json:"o,omitempty"`
	Output string `json:"t,omitempty"`
	Shape  string `json:"s,omitempty"`
}

// A detailTensor compares a constant; B is nil where it is described as A is.
type detailTensor struct {
	What  string  `json:"w"`
	A     *string `json:"a,omitempty"`
	B     *string `json:"b,omitempty"`
	Agree string  `json:"g,omitempty"`
	// Facts are names and values, in this order.
	Facts [][2]string `json:"f,omitempty"`
}

func newDetailSide(n *delta.Node) *detailSide {
	if n == nil {
		return nil
	}
	return &detailSide{Name: shown(n.Name), Place: &n.Index, Nodes: shown(strings.Join(n.Nodes[:min(len(n.Nodes), 20)], " + ")), Output: shown(n.Output), Shape: shown(n.Shape.String())}
}

// less leaves out what o says as well.
func (s *detailSide) less(o *detailSide) *detailSide {
	if s == nil || o == nil {
		return s
	}
	for _, f := range [][2]*string{{&s.Name, &o.Name}, {&s.Nodes, &o.Nodes}, {&s.Output, &o.Output}, {&s.Shape, &o.Shape}} {
		if *f[0] == *f[1] {
			*f[0] = ""
		}
	}
	if *s.Place == *o.Place {
		s.Place = nil
	}
	return s
}

func newReviewDetails(n *delta.NodeDelta) *reviewDetails {
	d := &reviewDetails{A: newDetailSide(n.A)}
	d.B = newDetailSide(n.B).less(d.A)
	const few = 12
	for i := range n.Tensors {
		if i == few {
			d.Tensors = append(d.Tensors, detailTensor{What: plural(len(n.Tensors)-i, "further constant")})
			break
		}
		d.Tensors = append(d.Tensors, newDetailTensor(&n.Tensors[i]))
	}
	if f := n.Filters; f != nil {
		d.Filters = filterCountsText(&f.FilterCounts)
		if f.Note != "" {
			d.Filters = shown(f.Note)
		}
		d.Channels = channelText(&f.Channels)
	}
	return d
}

func storedText(t *delta.Tensor) string {
	if t == nil {
		return ""
	}
	dims := make([]string, len(t.Dims))
	for i, n := range t.Dims {
		dims[i] = strconv.FormatInt(n, 10)
	}
	s := shown(t.Name) + ": " + shown(t.DType)
	if len(dims) > 0 {
		s += " " + strings.Join(dims[:min(len(dims), 16)], " x ")
	}
	if t.Effective {
		s += ", as folded"
	}
	return s
}

func newDetailTensor(t *delta.TensorDelta) detailTensor {
	x := detailTensor{What: tensorName(t), A: ptrTo(storedText(t.A)), Agree: string(t.Agreement)}
	if b := storedText(t.B); b != *x.A {
		x.B = &b
	}
	if t.Aligned {
		x.Agree += ", filters and channels put in their new places"
	}
	if t.Note != "" {
		x.Facts = append(x.Facts, [2]string{"note", shown(t.Note)})
	}
	v := t.Values
	if v == nil {
		return x
	}
	add := func(name, value string) { x.Facts = append(x.Facts, [2]string{name, value}) }
	add("numbers compared", grouped(v.Elements))
	if v.Changed == 0 {
		return x
	}
	add("changed", grouped(v.Changed)+" ("+shareText(v.Share)+"), "+grouped(v.Beyond)+" beyond tolerance")
	add("rel L2", optionalText(v.RelL2, fourDigits))
	add("cosine", optionalText(v.Cosine, cosineText))
	if v.MaxAbs != nil {
		at := make([]string, len(v.At))
		for i, n := range v.At {
			at[i] = strconv.FormatInt(n, 10)
		}
		add("largest difference", fourDigits(*v.MaxAbs)+" at ["+strings.Join(at[:min(len(at), 16)], ", ")+"] of A")
	}
	add("the same to", optionalText(v.Digits, func(n int) string { return plural(n, "digit") }))
	add("zeros", grouped(v.NewZeros)+" new, "+grouped(v.GoneZeros)+" gone")
	if v.MeanA != nil && v.MeanB != nil && v.StdA != nil && v.StdB != nil {
		add("mean", fmt.Sprintf("%s \u2192 %s (%+.3g)", fourDigits(*v.MeanA), fourDigits(*v.MeanB), *v.MeanB-*v.MeanA))
		add("std", fmt.Sprintf("%s \u2192 %s (%+.3g)", fourDigits(*v.StdA), fourDigits(*v.StdB), *v.StdB-*v.StdA))
	}
	if v.NaNA+v.NaNB > 0 {
		add("NaN", grouped(v.NaNA)+" \u2192 "+grouped(v.NaNB))
	}
	if v.InfA+v.InfB > 0 {
		add("infinite", grouped(v.InfA)+" \u2192 "+grouped(v.InfB))
	}
	return x
}

// weightGrid lists the tensors that are not the same, number by number.
func weightGrid(d *delta.Delta, review *htmlReview) (*htmlGrid, []string) {
	g := &htmlGrid{Class: "weights", What: "tensor", Searched: true, Caption: "tensors that differ", Heads: []htmlGridHead{
		{Title: "operator", Tip: "of A, or of B where A has none; leads to it in the graph"}, {Title: "tensor", Tip: "its name in A, or in B"},
		{Title: "is"}, {Title: "type", Tip: "as stored"}, {Title: "shape", Tip: "as stored"},
		{Title: "rel L2", Tip: "||B-A|| / ||A||; " + distanceScale, Right: true}, {Title: "cosine", Tip: "A.B / (||A|| ||B||)", Right: true},
		{Title: "changed", Tip: "share of the numbers that differ at all", Right: true}, {Title: "beyond", Tip: "numbers that differ by more than the tolerance", Right: true},
		{Title: "max diff", Tip: "largest |B-A|", Right: true}, {Title: "digits", Tip: "the same to this many decimal digits, measured by the largest |A|", Right: true},
		{Title: "new zeros", Tip: "zero in B only", Right: true}, {Title: "gone zeros", Tip: "zero in A only", Right: true},
		{Title: "mean shift", Tip: "mean of B less mean of A", Right: true}, {Title: "agreement", Tip: "within: all differences are within the tolerance, or explained by rounding"}}}
	same, dead := 0, 0
	for i := range d.Nodes {
		n := &d.Nodes[i]
		for k := range n.Tensors {
			t := &n.Tensors[k]
			if nothingCompared(t) {
				dead++
				continue
			}
			if t.Agreement == delta.Equal && (t.A == nil || t.B == nil || t.A.DType == t.B.DType) {
				same++
				continue
			}
			g.Rows = append(g.Rows, weightRow(n, t, review.rows[i]))
		}
	}
	notes := []string{fmt.Sprintf("A number is beyond the tolerance when |B-A| > %g + %g |A|, or by more than what rounding to a type, or folding a BatchNormalization, explains.", d.ATol, d.RTol)}
	if same > 0 {
		notes = append(notes, "Not listed: "+plural(same, "tensor")+" with the same numbers, as far as filters and channels live on.")
	}
	if dead > 0 {
		notes = append(notes, "Not listed: "+plural(dead, "tensor")+" of which no filter, or no channel, lives on.")
	}
	g.Rows, notes = leftOutRows(g.Rows, notes)
	return g, notes
}

func weightRow(n *delta.NodeDelta, t *delta.TensorDelta, row int) []htmlGridCell {
	side := n.A
	if side == nil {
		side = n.B
	}
	op := htmlGridCell{Text: "-"}
	if side != nil {
		op = htmlGridCell{Text: shortName(side.Name), Tip: shown(side.Name)}
		if row >= 0 {
			op.Go = &row
		}
	}
	both := func(of func(*delta.Tensor) string) string {
		switch {
		case t.A == nil && t.B == nil:
			return ""
		case t.A == nil:
			return of(t.B)
		case t.B == nil || of(t.A) == of(t.B):
			return of(t.A)
		}
		return of(t.A) + " \u2192 " + of(t.B)
	}
	name := both(func(x *delta.Tensor) string { return shown(x.Name) })
	cells := []htmlGridCell{op, {Text: name, Tip: name, Class: "name"}, textCell(tensorName(t)),
		textCell(shown(both(func(x *delta.Tensor) string { return x.DType }))), textCell(shown(both(func(x *delta.Tensor) string { return joined(x.Dims) })))}
	v := t.Values
	if v == nil {
		v = &delta.Values{}
		for range 9 {
			cells = append(cells, htmlGridCell{Text: "-", Class: "num unknown"})
		}
	} else {
		rel := gridNumber(v.RelL2, fourDigits)
		rel.Width = distanceWidth(v.RelL2)
		var shift *float64
		if v.MeanA != nil && v.MeanB != nil {
			shift = ptrTo(*v.MeanB - *v.MeanA)
		}
		share := gridNumber(&v.Share, shareText)
		cells = append(cells, rel, gridNumber(v.Cosine, cosineText), share, gridCount(v.Beyond), gridNumber(v.MaxAbs, fourDigits),
			gridNumber(v.Digits, strconv.Itoa), gridCount(v.NewZeros), gridCount(v.GoneZeros), gridNumber(shift, func(x float64) string { return fmt.Sprintf("%+.2g", x) }))
	}
	agree := htmlGridCell{Text: string(t.Agreement), Tip: shown(t.Note)}
	if t.Agreement == delta.Differs {
		agree.Class = "changed"
	}
	return append(cells, agree)
}
