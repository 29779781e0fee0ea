package report

import (
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
)

// ComparedTable puts a comparison in one table, for CSV: a row for each change,
// tensor and layer with filters; with v.Filters, one for each filter that is not
// kept. Where only what was run is compared these are the samples that flip, else
// the layers.
func ComparedTable(r *Compared, v CompareView) Document {
	d := Document{Title: r.A.File + " and " + r.B.File}
	section := Section{}
	switch {
	case r.Delta != nil && v.Filters:
		section.Table = filterTable(r.Delta, v)
	case r.Delta != nil:
		section.Table = r.deltaTable(v)
	case r.Description != nil:
		section.Table = r.Description.table(v)
	case r.Answers != nil:
		section = r.flipSection(0)
	case r.Likeness != nil:
		section = r.likenessSection(CompareView{All: true})
	case r.Statistics != nil:
		return StatisticsTable(r.Statistics)
	default:
		return d
	}
	section.Table.Main = true
	d.Sections = []Section{section}
	return d
}

// filterTable has a row for each filter that is not kept.
func filterTable(d *delta.Delta, v CompareView) *Table {
	t := &Table{Columns: append([]Column{{Key: "a"}, {Key: "b"}}, filterColumns()...)}
	for i := range d.Nodes {
		n := &d.Nodes[i]
		if n.Filters == nil || v.FilterLayers != nil && !fitsAny(v.FilterLayers, nodeNames(n)...) {
			continue
		}
		for _, f := range n.Filters.Filters {
			t.Rows = append(t.Rows, append([]Cell{Words(n.A.Name), Words(n.B.Name)}, filterRow(&f)...))
		}
	}
	return t
}

// changeTable begins a table of changes; further columns follow.
func changeTable(more ...string) *Table {
	t := &Table{}
	for _, key := range append([]string{"kind", "aspect", "what", "operator", "a", "b", "name", "from", "to"}, more...) {
		t.Columns = append(t.Columns, Column{Key: key})
	}
	return t
}

// add appends a row; cells that are left out are empty.
func (t *Table) add(kind delta.Kind, texts []string, cells ...Cell) {
	row := make([]Cell, len(t.Columns))
	row[0] = Words(string(kind))
	for i, s := range texts {
		row[i+1] = Words(s)
	}
	copy(row[len(texts)+1:], cells)
	t.Rows = append(t.Rows, row)
}

func (t *Table) addModel(list []delta.Change) {
	for _, c := range list {
		t.add(changeKind(c), []string{AspectMetadata, c.What, "", "", "", c.Name, c.From, c.To})
	}
}

func (r *Compared) deltaTable(v CompareView) *Table {
	t := changeTable("tensor_a", "tensor_b", "type_a", "type_b", "agreement", "elements", "changed", "beyond", "rel_l2", "cosine", "max_abs", "digits", "new_zeros", "gone_zeros", "mean_a", "mean_b", "std_a", "std_b",
		"filters_a", "filters_b", "kept", "moved", "scaled", "changed_filters", "gone", "new")
	d := r.Delta
	t.addModel(d.Model)
	t.addValues("input", d.Inputs, v)
	t.addValues("output", d.Outputs, v)
	for i := range d.Nodes {
		n := &d.Nodes[i]
		var a, b string
		if n.A != nil {
			a = n.A.Name
		}
		if n.B != nil {
			b = n.B.Name
		}
		row := func(kind delta.Kind, aspect, what, name, from, to string, cells ...Cell) {
			t.add(kind, []string{aspect, what, nodeOperator(n), a, b, name, from, to}, cells...)
		}
		if n.A == nil || n.B == nil || n.Moved || v.All {
			row(n.Kind, AspectStructure, "operator", "", "", "")
		}
		if n.Renamed {
			row(delta.Renamed, AspectNames, "operator", "", a, b)
		}
		if n.Rewritten {
			row(delta.Changed, AspectWriting, "operator", "", strings.Join(n.A.Nodes, " "), strings.Join(n.B.Nodes, " "))
		}
		for _, c := range n.Changes {
			if changeAspect(c.What) != AspectWeights || !hasTensor(n, c) {
				row(delta.Changed, changeAspect(c.What), c.What, c.Name, c.From, c.To)
			}
		}
		for k := range n.Tensors {
			if x := &n.Tensors[k]; x.Agreement != delta.Equal || retyped(x) || v.All {
				kind := delta.Kept
				if x.Agreement == delta.Differs || x.Agreement == delta.Incomplete {
					kind = delta.Changed
				}
				row(kind, AspectWeights, x.What, position(x), "", "", tensorCells(x)...)
			}
		}
		if f := n.Filters; f != nil && (v.All || f.FilterCounts != delta.FilterCounts{Kept: f.CountA}) {
			kind := delta.Changed
			if f.FilterCounts == (delta.FilterCounts{Kept: f.CountA}) {
				kind = delta.Kept
			}
			cells := make([]Cell, 18, 26)
			for _, v := range []int{f.CountA, f.CountB, f.Kept, f.Moved, f.Scaled, f.Changed, f.Gone, f.New} {
				cells = append(cells, Count(int64(v)))
			}
			row(kind, AspectFilters, "filters of the layer", "", "", "", cells...)
		}
	}
	return t
}

func (t *Table) addValues(what string, list []delta.ValueDelta, v CompareView) {
	for _, x := range list {
		if x.Kind == delta.Kept && !v.All {
			continue
		}
		side := func(y *inspect.Value) (name, text string) {
			if y == nil {
				return "", ""
			}
			return y.Name, strings.TrimSpace(y.DType + " " + y.Shape.String())
		}
		a, from := side(x.A)
		b, to := side(x.B)
		t.add(x.Kind, []string{AspectInterface, what, "", a, b, "", from, to})
	}
}

// hasTensor tells whether a change of numbers has a row as a tensor.
func hasTensor(n *delta.NodeDelta, c delta.Change) bool {
	return slices.ContainsFunc(n.Tensors, func(t delta.TensorDelta) bool {
		return t.What == c.What && position(&t) == c.Name && t.Agreement != delta.Equal
	})
}

func tensorCells(x *delta.TensorDelta) []Cell {
	cells := make([]Cell, 18)
	for i, s := range []*delta.Tensor{x.A, x.B} {
		if s != nil {
			cells[i], cells[2+i] = Words(s.Name), Words(s.DType)
		}
	}
	cells[4] = Words(string(x.Agreement))
	if v := x.Values; v != nil {
		copy(cells[5:], []Cell{Count(v.Elements), Count(v.Changed), Count(v.Beyond), optional(v.RelL2, significant, none), optional(v.Cosine, significant, none), optional(v.MaxAbs, significant, none),
			optional(v.Digits, func(n int) Cell { return Count(int64(n)) }, none), Count(v.NewZeros), Count(v.GoneZeros),
			optional(v.MeanA, significant, none), optional(v.MeanB, significant, none), optional(v.StdA, significant, none), optional(v.StdB, significant, none)})
	}
	return cells
}
