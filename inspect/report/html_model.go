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
		macs.Note = "for batch 1"
		if t.MACsUnknown > 0 {
			macs.Value, macs.Note = "≥ "+macs.Value, "unknown for "+plural(t.MACsUnknown, "node")
		}
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
	nodes := htmlTile{"layers", grouped(int64(t.Layers)), plural(t.Nodes, "node"), ""}
	if t.Subgraphs > 0 {
		nodes.Note += ", " + plural(t.Subgraphs, "nested graph")
	}
	tiles := []htmlTile{
		{"parameters", Scaled(t.Parameters).Text, grouped(t.Parameters), ""}, macs, weights, peak, nodes,
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
	label          string
	value          func(inspect.Layer) *int64
	cell           func(int64) Cell
	total, largest int64
}

func (s *series) of(l inspect.Layer) htmlNumber {
	v := s.value(l)
	if v == nil {
		return htmlNumber{Text: "unknown"}
	}
	title := s.exact(*v)
	if s.total > 0 {
		title += ", " + percent(float64(*v)/float64(s.total), 1).Text
	}
	return bar(s.cell(*v), *v, s.largest, title)
}

func (s *series) exact(v int64) string { return grouped(v) }

func layerSeries(layers []inspect.Layer) (parameters, macs, weights, outputs *series) {
	parameters = &series{label: "parameters", cell: Scaled, value: func(l inspect.Layer) *int64 { return &l.Parameters }}
	macs = &series{label: "MACs", cell: Scaled, value: func(l inspect.Layer) *int64 { return l.MACs }}
	weights = &series{label: "weights", cell: Bytes, value: func(l inspect.Layer) *int64 { return &l.WeightBytes }}
	outputs = &series{label: "memory of outputs", cell: Bytes, value: func(l inspect.Layer) *int64 { return l.OutBytes }}
	for _, s := range []*series{parameters, macs, weights, outputs} {
		for _, l := range layers {
			if v := s.value(l); v != nil {
				s.largest = max(s.largest, *v)
				// A sum of hostile sizes may not fit.
				if s.total += *v; s.total < 0 {
					s.total = math.MaxInt64
				}
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
	parameters, macs, weights, outputs := layerSeries(layers)
	for _, s := range []*series{parameters, macs, outputs} {
		if s.largest > 0 && len(layers) > 1 {
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
