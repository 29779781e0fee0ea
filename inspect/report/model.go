package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect"
)

// ModelSchema names the form of Model as JSON.
const ModelSchema = "filterlens.inspect/1"

// A Model is what `inspect MODEL` writes as JSON.
type Model struct {
	Schema string `json:"schema"`
	*inspect.Model
	// Selection says what of the model is listed, nil for all of it.
	Selection *Applied `json:"selection,omitempty"`
	// Groups are the sums that Selection.Depth asks for, else nil.
	Groups []Group `json:"groups,omitzero"`
	// Findings are those of a check, nil when none was made.
	Findings    []inspect.Finding `json:"findings,omitzero"`
	Definitions []string          `json:"definitions"`
	// partial counts what the order of the selection compares and is not wholly
	// known.
	partial int
}

// A Failure stands in a list of models for one that cannot be read.
type Failure struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

// NewModel returns what sel leaves of m, with its schema and definitions.
// findings are those of a check, nil when none was made. The totals stay those
// of the whole model.
func NewModel(m *inspect.Model, sel Selection, findings []inspect.Finding) Model {
	c := *m
	r := Model{Schema: ModelSchema, Model: &c, Findings: findings, Definitions: m.Definitions()}
	if slices.ContainsFunc(m.Layers, func(l inspect.Layer) bool { return runs(m, &l).Text != "" }) {
		r.Definitions = append(r.Definitions, "a single layer in the body of a loop or in a branch: MACs and memory of one run; sums of layers count its MACs as often as it runs")
	}
	if sel == (Selection{}) {
		return r
	}
	c.Layers = filtered(m.Layers, sel.Filter)
	c.Tensors = sel.tensors(m.Tensors, c.Layers)
	r.Selection = &Applied{Top: sel.Top, Sort: sel.order(), Depth: sel.Depth, Matched: sumOf(m, c.Layers)}
	if sel.Filter != nil {
		r.Selection.Filter = sel.Filter.String()
	}
	if sel.Depth > 0 {
		r.Groups, r.partial = pick(groups(m, c.Layers, sel.Depth), sel.Top, groupMeasure(sel.order()))
	} else {
		c.Layers, r.partial = pick(c.Layers, sel.Top, layerMeasure(m, sel.order()))
	}
	return r
}

// A TableKind names the table that stands for a model as CSV.
type TableKind string

// The kinds.
const (
	LayerTable   TableKind = "layers" // of groups, when the selection has a depth
	FindingTable TableKind = "findings"
	TensorTable  TableKind = "tensors"
)

// FromModel describes a model: the file, its inputs and outputs, operators,
// layers or groups of layers, tensors, totals and findings. main is the table
// that stands for it as CSV.
func FromModel(m Model, main TableKind) Document {
	d := Document{Title: m.File, Sections: []Section{{Facts: fileFacts(m.Model)}, valueSection(m.Model), operatorSection(m.Model)}}
	layers := layerSection(m)
	if m.Groups != nil {
		layers = groupSection(m)
	}
	layers.Table.Main = main == LayerTable
	d.Sections = append(d.Sections, layers)
	if m.Tensors != nil {
		tensors := statisticsSection(m)
		tensors.Table.Main = main == TensorTable
		d.Sections = append(d.Sections, tensors)
	}
	d.Sections = append(d.Sections, Section{Title: "Totals", Facts: totalFacts(m.Model), Notes: m.Definitions})
	if m.Findings != nil {
		found := findingSection(m.Findings)
		found.Table.Main = main == FindingTable
		d.Sections = append(d.Sections, found)
	}
	return d
}

// FromFailure says in the place of a report why there is none.
func FromFailure(f Failure) Document {
	return Document{Title: f.File, Warnings: []string{"not read: " + f.Error}}
}

func fileFacts(m *inspect.Model) []Fact {
	size := Bytes(m.FileBytes)
	size.Text += " (" + grouped(m.FileBytes) + " bytes)"
	facts := []Fact{{"size", size}}
	if m.ExternalBytes > 0 {
		facts = append(facts, Fact{"external data", Bytes(m.ExternalBytes)})
	}
	ir := absent
	if m.IRVersion > 0 {
		ir = Cell{Text: strconv.FormatInt(m.IRVersion, 10), Raw: m.IRVersion}
	}
	facts = append(facts, Fact{"IR version", ir})
	facts = append(facts, Fact{"opset", Words(opsets(m))})
	if p := strings.TrimSpace(m.Producer + " " + m.ProducerVersion); p != "" {
		facts = append(facts, Fact{"producer", Words(p)})
	}
	if m.Domain != "" {
		facts = append(facts, Fact{"domain", Words(m.Domain)})
	}
	if m.ModelVersion != 0 {
		facts = append(facts, Fact{"model version", Cell{Text: strconv.FormatInt(m.ModelVersion, 10), Raw: m.ModelVersion}})
	}
	if m.Doc != "" {
		facts = append(facts, Fact{"description", Words(firstChars(m.Doc, 300))})
	}
	for _, kv := range m.Metadata {
		facts = append(facts, Fact{kv.Key, Words(oneValue(kv.Value))})
	}
	return facts
}

// oneValue shows a value of several lines as a list that fits on about one.
func oneValue(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) == 1 {
		return firstChars(lines[0], 200)
	}
	text := strings.Join(lines, ", ")
	if short := firstChars(text, 60); short != text {
		return fmt.Sprintf("%s (%d lines)", short, len(lines))
	}
	return text
}

func firstChars(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + " ..."
	}
	return s
}

func valueSection(m *inspect.Model) Section {
	t := &Table{Columns: []Column{{Title: "", Key: "kind"}, {Title: "name", Key: "name", Shrink: true}, {Title: "type", Key: "dtype"}, {Title: "shape", Key: "shape"}}}
	add := func(kind string, values []inspect.Value) {
		for _, v := range values {
			t.Rows = append(t.Rows, []Cell{Words(kind), Words(v.Name), Words(cmp.Or(v.DType, "unknown")), Words(v.Shape.String())})
		}
	}
	add("input", m.Inputs)
	add("output", m.Outputs)
	return Section{Title: "Inputs and outputs", Table: t}
}

func operatorSection(m *inspect.Model) Section {
	var parts []string
	nodes := 0
	for _, o := range m.Operators {
		parts = append(parts, fmt.Sprintf("%d %s", o.Count, qualified(o.Domain, o.Op)))
		nodes += o.Count
	}
	s := Section{Title: "Operators", Facts: []Fact{{plural(nodes, "node"), Words(cmp.Or(strings.Join(parts, ", "), "none"))}}}
	if len(m.Functions) > 0 {
		var list []string
		for _, f := range m.Functions {
			list = append(list, fmt.Sprintf("%s (%s, called %s)", qualified(f.Domain, f.Name), plural(f.Nodes, "node"), times(f.Calls)))
		}
		s.Facts = append(s.Facts, Fact{plural(len(list), "function"), Words(strings.Join(list, ", "))})
	}
	if n := m.Totals.Subgraphs; n > 0 {
		s.Facts = append(s.Facts, Fact{"subgraphs", Count(int64(n))})
	}
	if n := m.Totals.TrainingNodes; n > 0 {
		s.Facts = append(s.Facts, Fact{"training nodes", Count(int64(n))})
	}
	return s
}

func qualified(domain, name string) string {
	if domain == "" {
		return name
	}
	return domain + "." + name
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return grouped(int64(n)) + " times"
}

func layerSection(m Model) Section {
	layers := m.Layers
	s := Section{Title: chosenTitle("Layers", m, len(layers), matched(m), "layer")}
	s.Table = &Table{Columns: []Column{
		{Title: "name", Key: "name", Shrink: true},
		{Title: "operator", Key: "op", Shrink: true},
		{Title: "kernel", Key: "kernel"},
		{Title: "stride", Key: "stride", Drop: 4},
		{Title: "groups", Key: "groups", Right: true, Drop: 7},
		{Title: "input", Key: "in", Drop: 3},
		{Title: "output", Key: "out", Drop: 1},
		{Title: "parameters", Key: "parameters", Right: true},
		{Key: "parameters_unknown", Hidden: true},
		{Title: "MACs", Key: "macs", Right: true},
		{Title: "runs", Key: "runs", Right: true, Sparse: true},
		{Title: "weight mem", Key: "weight_bytes", Right: true, Drop: 6},
		{Title: "output mem", Key: "out_bytes", Right: true, Drop: 5},
		{Title: "zeros", Key: "zeros", Right: true, Drop: 2},
		{Title: "in graph", Key: "scope", Shrink: true, Sparse: true},
	}}
	batch := batchDim(m.Model)
	unreadWeights, shapes, again, bound := 0, false, false, false
	for _, l := range layers {
		zeros := optional(l.Zeros, Share, unread)
		if l.Zeros == nil && l.Weight != "" {
			unreadWeights++
		}
		group := none
		if l.Group > 0 {
			group = Count(l.Group)
		}
		shapes = shapes || l.In.Known || l.Out.Known
		unknown := parametersUnknown(m.Model, &l)
		times := runs(m.Model, &l)
		again, bound = again || times.Text != "", bound || unknown > 0
		s.Table.Rows = append(s.Table.Rows, []Cell{
			layerName(l.Op, l.Name), operatorName(l.Op), Words(joined(l.Kernel)), Words(joined(l.Strides)), group,
			shape(l.In, batch), shape(l.Out, batch), atLeast(Count(l.Parameters), unknown), Count(int64(unknown)), optional(l.MACs, Scaled, absent), times,
			Bytes(l.WeightBytes), optional(l.OutBytes, Bytes, absent), zeros, Words(l.Scope),
		})
	}
	s.Notes = append(s.Notes, matchNotes(m)...)
	if again {
		s.Notes = append(s.Notes, "runs: how often a layer runs when the model runs once, where that is not once, ? where it is not known; MACs and output mem: of one run")
	}
	if bound {
		s.Notes = append(s.Notes, ">=: a computed weight of unknown shape is left out")
	}
	if batch != nil && shapes {
		s.Notes = append(s.Notes, "shapes: without the batch dimension ("+batch.String()+")")
	}
	if unreadWeights > 0 && m.Totals.Zeros == nil {
		s.Notes = append(s.Notes, "zeros: - for weights that were not read; --weights reads them")
	}
	return s
}

// runs is the cell of how often a layer runs, without a text where it is once.
func runs(m *inspect.Model, l *inspect.Layer) Cell {
	switch n, maybe := m.LayerRuns(l); {
	case n < 0:
		return Cell{Text: "?"}
	case maybe && n == 1:
		return Cell{Text: "0 or 1"}
	case maybe:
		return Cell{Text: "0 to " + grouped(n)}
	case n == 1:
		return Cell{Raw: n}
	default:
		return Count(n)
	}
}

// atLeast marks the cell of a sum that leaves some out.
func atLeast(c Cell, unknown int) Cell {
	if unknown > 0 && c.Raw != nil {
		c.Text = ">= " + c.Text
	}
	return c
}

// matched returns how many layers the selection chose from.
func matched(m Model) int {
	if m.Selection == nil {
		return m.Totals.Layers
	}
	return m.Selection.Matched.Layers
}

// chosenTitle says in a title what is left of how many, and in which order.
func chosenTitle(title string, m Model, shown, of int, word string) string {
	if m.Selection == nil {
		return title
	}
	by := map[Order]string{ByParameters: "most parameters", ByMACs: "most MACs", ByMemory: "most memory"}[m.Selection.Sort]
	before := ""
	if m.partial > 0 {
		before = ", unknown ones before them"
	}
	switch {
	case shown < of && by != "":
		return fmt.Sprintf("%s (%d of %s, those with the %s%s)", title, shown, plural(of, word), by, before)
	case shown < of:
		return fmt.Sprintf("%s (the first %d of %s)", title, shown, plural(of, word))
	case by != "":
		return fmt.Sprintf("%s (%s first%s)", title, by, before)
	}
	return title
}

// matchNotes says what a filter matches and what an order makes of the unknown.
func matchNotes(m Model) (notes []string) {
	if m.partial > 0 {
		what := map[Order]string{ByParameters: "parameters", ByMACs: "MACs", ByMemory: "memory"}[m.Selection.Sort]
		notes = append(notes, fmt.Sprintf("sorted by %s: what is not wholly known (%s) comes first, for it may be the most", what, grouped(int64(m.partial))))
	}
	if m.Selection == nil || m.Selection.Filter == "" {
		return notes
	}
	sum := m.Selection.Matched
	s := fmt.Sprintf("filter %q: %d of %s", m.Selection.Filter, sum.Layers, plural(m.Totals.Layers, "layer"))
	if sum.Layers > 0 {
		s += fmt.Sprintf(" with %s parameters (%s) and %s MACs", atLeast(Count(sum.Parameters), sum.ParametersUnknown).Text, Bytes(sum.WeightBytes).Text, macsOf(sum).Text) + ", what is shared counted once"
	}
	return append(notes, s+"; the totals are those of the whole model")
}

// macsOf is the cell of a sum of which some may be unknown.
func macsOf(s Sum) Cell {
	return atLeast(optional(s.MACs, Scaled, absent), s.MACsUnknown)
}

func groupSection(m Model) Section {
	all := 0
	seen := map[string]bool{}
	for i := range m.Layers {
		if name := moduleName(Modules(&m.Layers[i]), m.Selection.Depth); !seen[name] {
			seen[name] = true
			all++
		}
	}
	s := Section{Title: chosenTitle("Modules", m, len(m.Groups), all, "module")}
	s.Table = &Table{Columns: []Column{
		{Title: "module", Key: "module", Shrink: true},
		{Title: "layers", Key: "layers", Right: true},
		{Title: "parameters", Key: "parameters", Right: true},
		{Key: "parameters_unknown", Hidden: true},
		{Title: "MACs", Key: "macs", Right: true},
		{Key: "macs_unknown", Hidden: true},
		{Title: "weight mem", Key: "weight_bytes", Right: true, Drop: 2},
		{Title: "output mem", Key: "out_bytes", Right: true, Drop: 1},
		{Key: "out_bytes_unknown", Hidden: true},
	}}
	bound := false
	for _, g := range m.Groups {
		name := Words(g.Name)
		if g.Name == "" {
			name.Text = "(none)"
		}
		bound = bound || g.ParametersUnknown > 0 || g.MACsUnknown > 0 || g.OutBytesUnknown > 0
		s.Table.Rows = append(s.Table.Rows, []Cell{name, Count(int64(g.Layers)), atLeast(Count(g.Parameters), g.ParametersUnknown), Count(int64(g.ParametersUnknown)),
			macsOf(g.Sum), Count(int64(g.MACsUnknown)), Bytes(g.WeightBytes), atLeast(optional(g.OutBytes, Bytes, absent), g.OutBytesUnknown), Count(int64(g.OutBytesUnknown))})
	}
	s.Notes = append(matchNotes(m), "modules: by the names that exporters build from paths, cut after "+plural(m.Selection.Depth, "part")+
		"; what layers of a module share counts once in it, what modules share in each; output mem: one run of each layer")
	if bound {
		s.Notes = append(s.Notes, ">=: what is unknown of some layers is left out")
	}
	return s
}

func statisticsSection(m Model) Section {
	title := "Tensors"
	if m.Selection != nil && m.Selection.Top > 0 && m.Selection.Sort != ByPosition {
		title = "Tensors (the largest first)"
	}
	t := &Table{Columns: []Column{
		{Title: "name", Key: "name", Shrink: true},
		{Title: "type", Key: "dtype"},
		{Title: "shape", Key: "dims"},
		{Title: "elements", Key: "elements", Right: true, Drop: 6},
		{Title: "memory", Key: "bytes", Right: true, Drop: 5},
		{Title: "min", Key: "min", Right: true},
		{Title: "max", Key: "max", Right: true},
		{Title: "mean", Key: "mean", Right: true, Drop: 3},
		{Title: "std", Key: "std", Right: true, Drop: 2},
		{Title: "zeros", Key: "zeros", Right: true, Drop: 1},
		{Title: "subnormal", Key: "subnormal", Right: true, Sparse: true, Drop: 7},
		{Title: "NaN", Key: "nan", Right: true, Sparse: true},
		{Title: "Inf", Key: "inf", Right: true, Sparse: true},
		{Title: "histogram", Key: "histogram", Drop: 4},
		{Title: "in graph", Key: "scope", Shrink: true, Sparse: true},
	}}
	for _, x := range m.Tensors {
		row := []Cell{Words(x.Name), Words(x.DType), {Text: cmp.Or(joined(x.Dims), "scalar"), Raw: joined(x.Dims)}, Count(x.Elements), Bytes(x.Bytes)}
		v := x.Values
		if v == nil {
			for range len(t.Columns) - len(row) - 1 {
				row = append(row, none)
			}
			t.Rows = append(t.Rows, append(row, Words(x.Scope)))
			continue
		}
		for _, n := range []*float64{v.Min, v.Max, v.Mean, v.Std} {
			row = append(row, optional(n, significant, unread))
		}
		zeros := Share(float64(v.Zeros) / float64(max(x.Elements, 1)))
		zeros.Raw = v.Zeros
		t.Rows = append(t.Rows, append(row, zeros, countNotZero(v.Subnormal), countNotZero(v.NaN), countNotZero(v.Inf), histogram(v.Histogram), Words(x.Scope)))
	}
	s := Section{Title: title, Table: t, Notes: []string{
		"min, max, mean, std, histogram: of the finite values; std: of all values, not of a sample; histogram: bins of equal width from min to max, drawn against the fullest"}}
	if len(t.Rows) == 0 {
		s.Facts, s.Notes = []Fact{{"stored tensors", Words("none")}}, nil
	}
	return s
}

// countNotZero is empty for nothing, so that a column of rare things can go.
func countNotZero(n int64) Cell {
	c := Count(n)
	if n == 0 {
		c.Text = ""
	}
	return c
}

func findingSection(findings []inspect.Finding) Section {
	s := Section{Title: "Findings", Table: findingTable(findings)}
	if len(findings) == 0 {
		s.Facts = []Fact{{"none", none}}
	}
	return s
}

// place says what a finding is about.
func place(f inspect.Finding) string {
	var what []string
	if f.Node != "" {
		what = append(what, "node "+f.Node)
	}
	if f.Tensor != "" {
		what = append(what, "tensor "+f.Tensor)
	}
	s := strings.Join(what, ", ")
	if f.Scope == "" {
		return s
	}
	return strings.TrimSpace(s + " in " + f.Scope)
}

func findingTable(findings []inspect.Finding) *Table {
	t := &Table{Columns: []Column{
		{Title: "level", Key: "level"}, {Title: "code", Key: "code"},
		{Key: "scope", Hidden: true}, {Key: "node", Hidden: true}, {Key: "tensor", Hidden: true},
		{Title: "where", Shrink: true},
		{Title: "what", Key: "text", Wrap: true},
	}}
	for _, f := range findings {
		level := Words(f.Level)
		level.Tone = Changed
		if f.Level == "error" {
			level.Tone = Removed
		}
		t.Rows = append(t.Rows, []Cell{level, Words(f.Code), Words(f.Scope), Words(f.Node), Words(f.Tensor), Words(place(f)), Words(f.Text)})
	}
	return t
}

func operatorName(op string) Cell {
	c := Words(op)
	if s, ok := strings.CutSuffix(op, "Normalization"); ok && s != "" {
		c.Short = s + "Norm"
	}
	return c
}

// batchDim returns the first dimension of the first input, nil when it has none.
func batchDim(m *inspect.Model) *inspect.Dim {
	if len(m.Inputs) == 0 || len(m.Inputs[0].Shape.Dims) < 2 {
		return nil
	}
	return &m.Inputs[0].Shape.Dims[0]
}

// shape writes 64x32x32, without the first dimension when it is the batch.
func shape(s inspect.Shape, batch *inspect.Dim) Cell {
	c := Cell{Text: "unknown"}
	if !s.Known {
		return c
	}
	c.Raw = s.String()
	rest := s
	if batch != nil && len(s.Dims) > 1 && s.Dims[0] == *batch {
		rest.Dims = s.Dims[1:]
	}
	c.Text = rest.Join("x")
	if len(s.Dims) == 0 {
		c.Text = "scalar"
	}
	return c
}

func joined(v []int64) string {
	parts := make([]string, len(v))
	for i, n := range v {
		parts[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(parts, "x")
}

func totalFacts(m *inspect.Model) []Fact {
	t := m.Totals
	parameters := Count(t.Parameters)
	if t.ParametersUnknown > 0 {
		parameters.Text = "at least " + parameters.Text + "; shapes unknown of " + plural(t.ParametersUnknown, "computed weight")
	}
	facts := []Fact{{"layers", Count(int64(t.Layers))}, {"parameters", parameters}}
	if t.Statistics > 0 {
		facts = append(facts, Fact{"statistics", Count(t.Statistics)})
	}
	if t.Constants > 0 {
		facts = append(facts, Fact{"constants", Count(t.Constants)})
	}
	macs := optional(t.MACs, Scaled, absent)
	if t.MACs != nil {
		macs.Text += " (" + grouped(*t.MACs) + ")"
		if t.MACsUnknown > 0 {
			macs.Text = "at least " + macs.Text
		}
	}
	if t.MACsUnknown > 0 {
		macs.Text += "; unknown for " + plural(t.MACsUnknown, "node")
	}
	facts = append(facts, Fact{"MACs", macs}, Fact{"weights", Bytes(t.WeightBytes)})
	if len(m.Types) > 0 {
		facts = append(facts, Fact{"stored", Words(typeList(m.Types))})
	}
	return append(facts, Fact{"activation memory", peak(t)}, Fact{"zeros", optional(t.Zeros, Share, unread)})
}

// typeList says how much is stored of each element type.
func typeList(types []inspect.TypeCount) string {
	parts := make([]string, len(types))
	for i, c := range types {
		parts[i] = fmt.Sprintf("%s %s (%s)", Bytes(c.Bytes).Text, c.DType, plural(c.Tensors, "tensor"))
	}
	return strings.Join(parts, ", ")
}

// peak says how much memory activations take and where.
func peak(t inspect.Totals) Cell {
	c := optional(t.PeakActivationBytes, Bytes, absent)
	if t.PeakActivationBytes != nil {
		if t.ActivationsUnknown > 0 {
			c.Text = "at least " + c.Text
		}
		if t.PeakNode != "" {
			c.Text += " at " + t.PeakNode
		}
	}
	if t.ActivationsUnknown > 0 {
		c.Text += "; sizes unknown of " + plural(t.ActivationsUnknown, "tensor")
	}
	return c
}
