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
	Definitions []string `json:"definitions"`
}

// NewModel returns m with its schema and definitions. With top above 0 only that
// many layers are listed, those with the most parameters first; the totals stay
// those of the whole model.
func NewModel(m *inspect.Model, top int) Model {
	c := *m
	c.Layers = topLayers(m.Layers, top)
	return Model{Schema: ModelSchema, Model: &c, Definitions: inspect.Definitions()}
}

func topLayers(layers []inspect.Layer, top int) []inspect.Layer {
	if top <= 0 {
		return layers
	}
	layers = slices.Clone(layers)
	slices.SortStableFunc(layers, func(a, b inspect.Layer) int { return cmp.Compare(b.Parameters, a.Parameters) })
	return layers[:min(top, len(layers))]
}

// FromModel describes a model: the file, its inputs and outputs, operators,
// layers and totals. top is that of NewModel.
func FromModel(m *inspect.Model, top int) Document {
	return Document{Title: m.File, Sections: []Section{
		{Facts: fileFacts(m)}, valueSection(m), operatorSection(m), layerSection(m, top),
		{Title: "Totals", Facts: totalFacts(m), Notes: inspect.Definitions()},
	}}
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
	var opsets []string
	for _, o := range m.Opsets {
		opsets = append(opsets, fmt.Sprintf("%s %d", cmp.Or(o.Domain, "ai.onnx"), o.Version))
	}
	facts = append(facts, Fact{"opset", Words(cmp.Or(strings.Join(opsets, ", "), "unknown"))})
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
		name := o.Op
		if o.Domain != "" {
			name = o.Domain + "." + name
		}
		parts = append(parts, fmt.Sprintf("%d %s", o.Count, name))
		nodes += o.Count
	}
	text := strings.Join(parts, ", ")
	if text == "" {
		text = "none"
	}
	return Section{Title: "Operators", Facts: []Fact{{plural(nodes, "node"), Words(text)}}}
}

func layerSection(m *inspect.Model, top int) Section {
	layers := topLayers(m.Layers, top)
	s := Section{Title: "Layers"}
	if len(layers) < len(m.Layers) {
		s.Title = fmt.Sprintf("Layers (%d of %d, those with the most parameters)", len(layers), len(m.Layers))
	}
	s.Table = &Table{Main: true, Columns: []Column{
		{Title: "name", Key: "name", Shrink: true},
		{Title: "operator", Key: "op", Shrink: true},
		{Title: "kernel", Key: "kernel"},
		{Title: "stride", Key: "stride", Drop: 4},
		{Title: "groups", Key: "groups", Right: true, Drop: 5},
		{Title: "input", Key: "in", Drop: 3},
		{Title: "output", Key: "out", Drop: 1},
		{Title: "parameters", Key: "parameters", Right: true},
		{Title: "MACs", Key: "macs", Right: true},
		{Title: "zeros", Key: "zeros", Right: true, Drop: 2},
	}}
	batch := batchDim(m)
	unreadWeights := 0
	for _, l := range layers {
		zeros := optional(l.Zeros, Share, unread)
		if l.Zeros == nil && l.Weight != "" {
			unreadWeights++
		}
		group := none
		if l.Group > 0 {
			group = Count(l.Group)
		}
		s.Table.Rows = append(s.Table.Rows, []Cell{
			layerName(l.Op, l.Name), operatorName(l.Op), Words(joined(l.Kernel)), Words(joined(l.Strides)), group,
			shape(l.In, batch), shape(l.Out, batch), Count(l.Parameters), optional(l.MACs, Scaled, absent), zeros,
		})
	}
	if batch != nil {
		s.Notes = append(s.Notes, "shapes: without the batch dimension ("+batch.String()+")")
	}
	if unreadWeights > 0 && m.Totals.Zeros == nil {
		s.Notes = append(s.Notes, "zeros: - for weights that were not read; --weights reads them")
	}
	return s
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
	dims := s.Dims
	if batch != nil && len(dims) > 1 && dims[0] == *batch {
		dims = dims[1:]
	}
	parts := make([]string, len(dims))
	for i, d := range dims {
		parts[i] = d.String()
	}
	c.Text = strings.Join(parts, "x")
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
	facts := []Fact{{"layers", Count(int64(t.Layers))}, {"parameters", Count(t.Parameters)}}
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
		macs.Text += "; shapes unknown for " + plural(t.MACsUnknown, "node")
	}
	return append(facts, Fact{"MACs", macs}, Fact{"weights", Bytes(t.WeightBytes)}, Fact{"zeros", optional(t.Zeros, Share, unread)})
}
