package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect"
)

// A htmlModel is the section of a page that describes one model.
type htmlModel struct {
	ID, Title, Path string
	Inputs, Outputs []htmlValue
	Tiles           []htmlTile
	Charts          []htmlChart
	Findings        []htmlFinding
	MoreFindings    string
	LayerCount      string
	Layers          []htmlLayer
	MoreLayers      string
	Batch           string
	Zeros           bool
	Tensors         []htmlTensor
	MoreTensors     string
	Facts           []htmlFact
	Types           []htmlType
	Operators       []htmlOperator
	Functions       []inspect.Function
	Definitions     []string

	Views     []htmlView
	ViewBox   string
	Legend    []htmlLegend
	GraphNote string
	// Data is what the drawing's panel shows, as JSON whose < and > are escaped.
	Data template.JS
}

type htmlValue struct{ Name, Type, Shape string }

type htmlTile struct{ Label, Value, Note, Tone string }

// A htmlNumber is a cell of a number, with a bar of Width per cent of the
// column's largest.
type htmlNumber struct {
	Known             bool
	Text, Sort, Title string
	Width             int
}

type htmlLayer struct {
	X                                         int
	Name, Full, Op, Kernel, Out, Family       string
	Node                                      string
	OutSort                                   string
	Parameters, MACs, Weights, OutBytes, Zero htmlNumber
}

type htmlTensor struct {
	Name, Full, DType                               string
	Elements, Min, Max, Mean, Std, Zeros, NotFinite htmlNumber
	Histogram                                       string
}

type htmlType struct {
	DType, Tensors, Elements string
	Bytes                    htmlNumber
}

type htmlOperator struct {
	Op, Family string
	Count      htmlNumber
}

type htmlFinding struct {
	Level, Code, Text string
	Where             *htmlWhere
}

type htmlWhere struct{ Text, Node string }

func newHTMLModel(m Model, id string) (*htmlModel, error) {
	h := &htmlModel{ID: id, Title: printable(filepath.Base(m.File)), Path: printable(m.File), Definitions: printables(m.Definitions)}
	h.Inputs, h.Outputs = htmlValues(m.Inputs), htmlValues(m.Outputs)
	for _, f := range fileFacts(m.Model) {
		h.Facts = append(h.Facts, htmlFact{Name: printable(f.Name), Value: printable(f.Value.Text)})
	}
	for _, f := range totalFacts(m.Model) {
		h.Facts = append(h.Facts, htmlFact{Name: printable(f.Name), Value: printable(f.Value.Text)})
	}
	h.Tiles = modelTiles(m)
	net := newNetwork(m)
	h.addLayers(m, net)
	h.addTensors(m)
	h.addFindings(m, net)
	var types int64
	for _, t := range m.Types {
		types = max(types, t.Bytes)
	}
	for _, t := range m.Types {
		h.Types = append(h.Types, htmlType{t.DType, grouped(int64(t.Tensors)), grouped(t.Elements), bar(Bytes(t.Bytes), t.Bytes, types, "")})
	}
	most := 0
	for _, o := range m.Operators {
		most = max(most, o.Count)
	}
	for _, o := range m.Operators {
		name := o.Op
		if o.Domain != "" {
			name = o.Domain + "." + name
		}
		h.Operators = append(h.Operators, htmlOperator{printable(name), net.family(o.Op, o.Domain), bar(Count(int64(o.Count)), int64(o.Count), int64(most), "")})
	}
	for _, f := range m.Functions {
		f.Name, f.Domain = printable(f.Name), printable(f.Domain)
		h.Functions = append(h.Functions, f)
	}
	return h, h.addDrawing(net)
}

func htmlValues(values []inspect.Value) []htmlValue {
	out := make([]htmlValue, len(values))
	for i, v := range values {
		out[i] = htmlValue{printable(v.Name), printable(cmp.Or(v.DType, "unknown")), printable(v.Shape.String())}
	}
	return out
}

// modelTiles are the numbers that a person asks for first.
func modelTiles(m Model) []htmlTile {
	t := m.Totals
	macs := htmlTile{"MACs", optional(t.MACs, Scaled, absent).Text, "", ""}
	if t.MACs != nil {
		macs.Note = grouped(*t.MACs)
		if b := batchDim(m.Model); b != nil && b.Value < 0 {
			macs.Note = "for batch 1"
		}
		if t.MACsUnknown > 0 {
			macs.Value = "≥ " + macs.Value
		}
	}
	if t.MACsUnknown > 0 {
		macs.Note = "unknown for " + plural(t.MACsUnknown, "node")
	}
	parameters := htmlTile{"parameters", Scaled(t.Parameters).Text, grouped(t.Parameters), ""}
	if t.ParametersUnknown > 0 {
		parameters.Value, parameters.Note = "≥ "+parameters.Value, "unknown for "+plural(t.ParametersUnknown, "computed weight")
	}
	types := make([]string, 0, 2)
	for _, c := range m.Types[:min(2, len(m.Types))] {
		types = append(types, c.DType)
	}
	weights := htmlTile{"weights", Bytes(t.WeightBytes).Text, strings.Join(types, ", "), ""}
	if m.ExternalBytes > 0 {
		weights.Note += ", beside the file"
	}
	peak := htmlTile{"activations", optional(t.PeakActivationBytes, Bytes, absent).Text, "peak", ""}
	if t.PeakNode != "" {
		peak.Note = "peak, at " + printable(lastModule(t.PeakNode))
	}
	if t.ActivationsUnknown > 0 {
		peak.Note += "; unknown for " + plural(t.ActivationsUnknown, "tensor")
		if t.PeakActivationBytes != nil {
			peak.Value = "≥ " + peak.Value
		}
	}
	nodes := htmlTile{"layers", grouped(int64(t.Layers)), plural(t.Nodes, "node"), ""}
	if t.Subgraphs > 0 {
		nodes.Note += ", " + plural(t.Subgraphs, "nested graph")
	}
	tiles := []htmlTile{
		parameters, macs, weights, peak, nodes,
		{"file", Bytes(m.FileBytes).Text, printable("opset " + opsets(m.Model)), ""},
	}
	if f := m.Findings; f != nil {
		tile := htmlTile{"findings", "none", "checked", ""}
		if len(f) > 0 {
			tile = htmlTile{"findings", grouped(int64(len(f))), plural(len(f), "warning"), "warning"}
		}
		errs := 0
		for _, x := range f {
			if x.Level == "error" {
				errs++
			}
		}
		if errs > 0 {
			tile.Tone, tile.Note = "error", plural(errs, "error")
		}
		tiles = append(tiles, tile)
	}
	return tiles
}

// lastModule is modulePath where the operator is not at hand.
func lastModule(name string) string {
	i := strings.LastIndex(name, "/")
	return modulePath(name, name[i+1:])
}

func number(c Cell, sort float64) htmlNumber {
	return htmlNumber{Known: true, Text: c.Text, Sort: strconv.FormatFloat(sort, 'g', -1, 64)}
}

func bar(c Cell, v, largest int64, title string) htmlNumber {
	n := htmlNumber{Known: true, Text: c.Text, Sort: strconv.FormatInt(v, 10), Title: title}
	if v > 0 && largest > 0 {
		n.Width = int(math.Round(100 * float64(v) / float64(largest)))
	}
	return n
}

// A series is what one chart and one column of bars show.
type series struct {
	label string
	m     *inspect.Model
	value func(inspect.Layer) *int64 // of one run
	cell  func(int64) Cell
	// again says that the model's total counts a layer as often as it runs.
	again bool
	// least counts what is unknown of a layer's value, if anything may be.
	least func(inspect.Layer) int
	// total is that of the model, 0 where there is none to have a share of;
	// missing is what it leaves out, in words.
	total   int64
	missing string
	// largest is the largest value of one run, most the largest in the total.
	largest, most int64
}

func (s *series) of(l inspect.Layer) htmlNumber {
	v := s.value(l)
	if v == nil {
		return htmlNumber{Text: "unknown"}
	}
	title, c := grouped(*v), s.cell(*v)
	if s.least != nil && s.least(l) > 0 {
		c.Text, title = "≥ "+c.Text, "at least "+title
	}
	if times := runs(s.m, &l).Text; s.again && times != "" && *v > 0 {
		c.Text += " × " + times
		title += " in one run, runs: " + times
	}
	if share := s.share(l); share != "" {
		title += ", " + share
	}
	return bar(c, *v, s.largest, title)
}

// inTotal returns what a layer adds to the total, nil where that is not known.
// sure says that it does; a branch of an If need not run.
func (s *series) inTotal(l inspect.Layer) (v *int64, sure bool) {
	v = s.value(l)
	if v == nil || !s.again {
		return v, true
	}
	n, maybe := s.m.LayerRuns(&l)
	switch {
	case n < 0:
		return nil, false
	case n > 0 && *v > math.MaxInt64/n:
		return ptrTo(int64(math.MaxInt64)), false
	}
	return ptrTo(*v * n), !maybe
}

func ptrTo[T any](v T) *T { return &v }

// share says what part of the model's total a layer is, "" where it has none.
func (s *series) share(l inspect.Layer) string {
	v, sure := s.inTotal(l)
	if v == nil || !sure || s.total <= 0 || s.least != nil && s.least(l) > 0 {
		return ""
	}
	text := percent(float64(*v)/float64(s.total), 1).Text
	if s.missing != "" {
		text += " of what is known"
	}
	return text
}

func layerSeries(m *inspect.Model, layers []inspect.Layer) (parameters, macs, weights, outputs *series) {
	t := m.Totals
	missing := func(n int, word string) string {
		if n == 0 {
			return ""
		}
		return "unknown for " + plural(n, word)
	}
	unknown := 0
	for _, l := range layers {
		if l.OutBytes == nil {
			unknown++
		}
	}
	parameters = &series{label: "parameters", cell: Scaled, value: func(l inspect.Layer) *int64 { return &l.Parameters },
		least: func(l inspect.Layer) int { return parametersUnknown(m, &l) }, total: t.Parameters, missing: missing(t.ParametersUnknown, "computed weight")}
	macs = &series{label: "MACs", cell: Scaled, value: func(l inspect.Layer) *int64 { return l.MACs }, again: true, missing: missing(t.MACsUnknown, "node")}
	if t.MACs != nil {
		macs.total = *t.MACs
	}
	weights = &series{label: "weights", cell: Bytes, value: func(l inspect.Layer) *int64 { return &l.WeightBytes }, total: t.WeightBytes}
	outputs = &series{label: "memory of outputs", cell: Bytes, value: func(l inspect.Layer) *int64 { return l.OutBytes }, missing: missing(unknown, "layer")}
	for _, s := range []*series{parameters, macs, weights, outputs} {
		s.m = m
		for _, l := range layers {
			if v := s.value(l); v != nil {
				s.largest = max(s.largest, *v)
			}
			if v, _ := s.inTotal(l); v != nil {
				s.most = max(s.most, *v)
			}
		}
	}
	return parameters, macs, weights, outputs
}

func (h *htmlModel) addLayers(m Model, net *network) {
	layers := slices.Clone(m.Layers)
	slices.SortStableFunc(layers, func(a, b inspect.Layer) int { return cmp.Compare(a.Index, b.Index) })
	h.LayerCount = plural(len(layers), "layer")
	if m.Totals.Layers > len(layers) {
		h.LayerCount = fmt.Sprintf("%s of %s", grouped(int64(len(layers))), plural(m.Totals.Layers, "layer"))
	}
	if n := len(layers) - maxHTMLRows; n > 0 {
		h.MoreLayers = leftOut(n, "layer")
	}
	parameters, macs, weights, outputs := layerSeries(m.Model, layers)
	for _, s := range []*series{parameters, macs, outputs} {
		if s.most > 0 && len(layers) > 1 {
			h.Charts = append(h.Charts, net.chart(s, layers))
		}
	}
	batch := batchDim(m.Model)
	if batch != nil {
		h.Batch = printable(batch.String())
	}
	for _, l := range layers {
		h.Zeros = h.Zeros || l.Zeros != nil
	}
	for _, l := range layers[:min(len(layers), maxHTMLRows)] {
		r := htmlLayer{X: l.Index, Name: printable(modulePath(l.Name, l.Op)), Full: printable(l.Name), Op: printable(operatorName(l.Op).Text), Family: net.layerFamily(l),
			Kernel: kernelText(l), Out: printable(shape(l.Out, batch).Text), Node: net.nodeOf(l),
			Parameters: parameters.of(l), MACs: macs.of(l), Weights: weights.of(l), OutBytes: outputs.of(l), Zero: htmlNumber{Text: "-"}}
		if short := operatorName(l.Op).Short; short != "" {
			r.Op = printable(short)
		}
		if l.Scope != "" {
			r.Name = printable(l.Scope) + " › " + r.Name
			r.Full = printable(l.Scope) + "/" + r.Full
		}
		r.OutSort = r.Out
		if n, ok := l.Out.Elements(); ok {
			r.OutSort = strconv.FormatInt(n, 10)
		} else if l.OutBytes != nil {
			r.OutSort = strconv.FormatInt(*l.OutBytes, 10)
		}
		if l.Zeros != nil {
			r.Zero = htmlNumber{Known: true, Text: Share(*l.Zeros).Text, Sort: strconv.FormatFloat(*l.Zeros, 'g', -1, 64), Width: int(math.Round(100 * *l.Zeros))}
		}
		h.Layers = append(h.Layers, r)
	}
}

// kernelText writes 3x3 /2 g32: kernel, stride unless 1, groups unless 1.
func kernelText(l inspect.Layer) string {
	s := joined(l.Kernel)
	for _, n := range l.Strides {
		if n != 1 {
			stride := joined(l.Strides)
			if len(slices.Compact(slices.Clone(l.Strides))) == 1 {
				stride = strconv.FormatInt(l.Strides[0], 10)
			}
			s += " /" + stride
			break
		}
	}
	if l.Group > 1 {
		s += " g" + strconv.FormatInt(l.Group, 10)
	}
	return strings.TrimSpace(s)
}

func (h *htmlModel) addTensors(m Model) {
	tensors := m.Tensors
	if len(tensors) > maxHTMLRows {
		h.MoreTensors = leftOut(len(tensors)-maxHTMLRows, "tensor")
		tensors = tensors[:maxHTMLRows]
	}
	for _, t := range tensors {
		dims := joined(t.Dims)
		r := htmlTensor{Name: printable(t.Name), Full: printable(t.Name), DType: printable(strings.TrimSpace(t.DType + " " + dims)), Elements: number(Count(t.Elements), float64(t.Elements))}
		unknown := htmlNumber{Text: "-"}
		r.Min, r.Max, r.Mean, r.Std, r.Zeros, r.NotFinite = unknown, unknown, unknown, unknown, unknown, unknown
		if v := t.Values; v != nil {
			value := func(p *float64) htmlNumber {
				if p == nil {
					return unknown
				}
				n := number(Cell{Text: strconv.FormatFloat(*p, 'g', 4, 64)}, *p)
				n.Title = n.Sort
				return n
			}
			r.Min, r.Max, r.Mean, r.Std = value(v.Min), value(v.Max), value(v.Mean), value(v.Std)
			r.NotFinite = number(Count(v.NaN+v.Inf), float64(v.NaN+v.Inf))
			if t.Elements > 0 {
				share := float64(v.Zeros) / float64(t.Elements)
				r.Zeros = htmlNumber{Known: true, Text: percent(share, 1).Text, Sort: strconv.FormatFloat(share, 'g', -1, 64), Title: grouped(v.Zeros), Width: int(math.Round(100 * min(share, 1)))}
			}
			r.Histogram = sparkline(v.Histogram)
		}
		h.Tensors = append(h.Tensors, r)
	}
}

// maxFindings bounds the list of a page.
const maxFindings = 1000

func (h *htmlModel) addFindings(m Model, net *network) {
	list := m.Findings
	if len(list) > maxFindings {
		h.MoreFindings = leftOut(len(list)-maxFindings, "finding")
		list = list[:maxFindings]
	}
	for _, f := range list {
		level := "warning"
		if f.Level == "error" {
			level = "error"
		}
		hf := htmlFinding{Level: level, Code: printable(f.Code), Text: printable(f.Text)}
		if where := cmp.Or(f.Node, f.Tensor); where != "" {
			if f.Scope != "" {
				where = f.Scope + " › " + where
			}
			hf.Where = &htmlWhere{Text: printable(where), Node: net.nodeOfLabel(f.Scope, f.Node, f.Tensor)}
		}
		h.Findings = append(h.Findings, hf)
	}
}
