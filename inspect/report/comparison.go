package report

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/filterlens/filterlens/inspect"
)

// ComparisonSchema names the form of Comparison as JSON.
const ComparisonSchema = "filterlens.compare/1"

// A Comparison is what `compare` writes as JSON.
type Comparison struct {
	Schema string `json:"schema"`
	*inspect.Comparison
	Definitions []string `json:"definitions"`
}

// NewComparison returns c with its schema and definitions.
func NewComparison(c *inspect.Comparison) Comparison {
	return Comparison{ComparisonSchema, c, comparisonDefinitions(c)}
}

func comparisonDefinitions(c *inspect.Comparison) []string {
	return []string{
		"structure and weights are matched by name; the order of nodes and doc strings do not count",
		fmt.Sprintf("rel L2: ||B-A|| / ||A||; max diff: the largest |B-A|; beyond: values with |B-A| > %g + %g |A|; new zeros: zero in B only", c.ATol, c.RTol),
	}
}

// FromComparison shows what differs between two models; tensors that are the
// same are only counted.
func FromComparison(c *inspect.Comparison) Document {
	verdict := Cell{Text: "the models differ", Tone: Changed}
	switch {
	case c.Same && c.Totals.Changed > 0:
		verdict = Cell{Text: "the same within tolerance", Tone: Added}
	case c.Same:
		verdict = Cell{Text: "the same", Tone: Added}
	}
	d := Document{Title: c.A + " and " + c.B}
	t := c.Totals
	counts := fmt.Sprintf("%s in both, %d of them changed, %d added, %d removed", plural(t.Tensors, "tensor"), t.Changed, t.Added, t.Removed)
	facts := []Fact{{"verdict", verdict}, {"structure", Words(plural(len(c.Structure), "change"))}, {"weights", Words(counts)}}
	if t.ElementsChanged > 0 {
		facts = append(facts,
			Fact{"values", Words(fmt.Sprintf("%s of %s changed (%s), %s beyond the tolerance", grouped(t.ElementsChanged), grouped(t.Elements),
				Share(float64(t.ElementsChanged)/float64(t.Elements)).Text, grouped(t.ElementsBeyond)))},
			Fact{"zeros", Words(fmt.Sprintf("%s new, %s gone", grouped(t.NewZeros), grouped(t.GoneZeros)))},
			Fact{"relative L2", optional(t.RelL2, significant, unread)})
	}
	d.Sections = append(d.Sections, Section{Facts: facts})
	if len(c.Structure) > 0 {
		d.Sections = append(d.Sections, structureSection(c))
	}
	d.Sections = append(d.Sections, tensorSection(c))
	return d
}

// significant writes v with four significant digits.
func significant(v float64) Cell { return Cell{Text: fmt.Sprintf("%.4g", v), Raw: v} }

func mark(k inspect.ChangeKind) Cell {
	switch k {
	case inspect.Added:
		return Cell{Text: "+", Raw: string(k), Tone: Added}
	case inspect.Removed:
		return Cell{Text: "-", Raw: string(k), Tone: Removed}
	case inspect.Changed:
		return Cell{Text: "~", Raw: string(k), Tone: Changed}
	}
	return Cell{Text: "=", Raw: "same"}
}

func structureSection(c *inspect.Comparison) Section {
	t := &Table{Columns: []Column{{Key: "kind"}, {Title: "what", Key: "what"}, {Title: "node", Key: "node", Shrink: true}, {Title: "name", Key: "name", Shrink: true}, {Title: "value", Key: "value", Wrap: true}}}
	for _, ch := range c.Structure {
		value := oneValue(ch.From) + oneValue(ch.To)
		if ch.Kind == inspect.Changed {
			value = oneValue(ch.From) + " -> " + oneValue(ch.To)
			if ch.From == "" && ch.To == "" {
				value = ""
			}
		}
		t.Rows = append(t.Rows, []Cell{mark(ch.Kind), Words(strings.ReplaceAll(ch.What, "_", " ")), Words(ch.Node), Words(ch.Name), Words(value)})
	}
	return Section{Title: "Structure", Table: t}
}

func tensorSection(c *inspect.Comparison) Section {
	t := &Table{Main: true, Columns: []Column{
		{Key: "kind"},
		{Title: "tensor", Key: "tensor", Shrink: true},
		{Title: "type", Key: "dtype", Drop: 4},
		{Title: "shape", Key: "shape", Drop: 3},
		{Title: "changed", Key: "changed", Right: true, Drop: 1},
		{Title: "rel L2", Key: "rel_l2", Right: true},
		{Title: "max diff", Key: "max_abs", Right: true},
		{Title: "beyond", Key: "beyond", Right: true, Drop: 2},
		{Title: "new zeros", Key: "new_zeros", Right: true},
	}}
	same := 0
	for _, x := range c.Tensors {
		if x.Kind == "" {
			same++
			continue
		}
		row := []Cell{mark(x.Kind), Words(x.Name), sides(x, func(s *inspect.TensorSide) string { return s.DType }), sides(x, func(s *inspect.TensorSide) string { return cmp.Or(joined(s.Dims), "scalar") })}
		if v := x.Values; v != nil {
			row = append(row, Count(v.Changed), optional(v.RelL2, significant, unread), optional(v.MaxAbs, significant, unread), Count(v.Beyond), Count(v.NewZeros))
		} else {
			row = append(row, unread, unread, unread, unread, unread)
		}
		t.Rows = append(t.Rows, row)
	}
	if len(t.Rows) == 0 {
		return Section{Title: "Weights", Table: t, Facts: []Fact{{"all", Words(plural(same, "tensor") + " the same, value by value")}}, Notes: comparisonDefinitions(c)}
	}
	s := Section{Title: "Weights", Table: t, Notes: comparisonDefinitions(c)}
	if same > 0 {
		s.Notes = append([]string{"not listed: " + plural(same, "tensor") + " without any change"}, s.Notes...)
	}
	return s
}

// sides writes a property of a tensor, both where they differ.
func sides(x inspect.TensorComparison, of func(*inspect.TensorSide) string) Cell {
	switch {
	case x.A == nil:
		return Words(of(x.B))
	case x.B == nil || of(x.A) == of(x.B):
		return Words(of(x.A))
	}
	return Words(of(x.A) + " -> " + of(x.B))
}

// ComparisonTable puts everything that differs in one table, a row a change: for
// CSV, where a reader cannot be shown two.
func ComparisonTable(c *inspect.Comparison) Document {
	t := &Table{Main: true, Columns: []Column{
		{Key: "kind"}, {Key: "what"}, {Key: "node"}, {Key: "name"}, {Key: "from"}, {Key: "to"},
		{Key: "changed"}, {Key: "rel_l2"}, {Key: "max_abs"}, {Key: "beyond"}, {Key: "new_zeros"},
	}}
	for _, ch := range c.Structure {
		t.Rows = append(t.Rows, []Cell{mark(ch.Kind), Words(ch.What), Words(ch.Node), Words(ch.Name), Words(ch.From), Words(ch.To),
			unread, unread, unread, unread, unread})
	}
	side := func(s *inspect.TensorSide) Cell {
		if s == nil {
			return Words("")
		}
		return Words(s.DType + " " + cmp.Or(joined(s.Dims), "scalar"))
	}
	for _, x := range c.Tensors {
		if x.Kind == "" {
			continue
		}
		row := []Cell{mark(x.Kind), Words("tensor"), Words(""), Words(x.Name), side(x.A), side(x.B), unread, unread, unread, unread, unread}
		if v := x.Values; v != nil {
			copy(row[6:], []Cell{Count(v.Changed), optional(v.RelL2, significant, unread), optional(v.MaxAbs, significant, unread), Count(v.Beyond), Count(v.NewZeros)})
		}
		t.Rows = append(t.Rows, row)
	}
	return Document{Title: c.A + " and " + c.B, Sections: []Section{{Table: t}}}
}
