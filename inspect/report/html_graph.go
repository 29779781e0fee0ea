package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"github.com/filterlens/filterlens/inspect/report/drawing"
)

// Bounds of what a page draws. A browser moves a few thousand boxes smoothly; a
// larger graph is collapsed by block, and a block's own drawing is part of the
// page as long as there are not too many of them.
const (
	maxDrawn  = 3000   // nodes in one drawing
	maxEdges  = 12_000 // lines in one drawing
	maxOpened = 10_000 // nodes of all blocks that can be opened
	maxDetail = 10_000 // nodes whose attributes, inputs and outputs can be read
	maxEnds   = 100    // inputs, and outputs, of the model in one drawing
	maxItems  = 40     // inputs, outputs, attributes, readers in the panel
	maxText   = 300    // characters of a name or a value
)

// A family is what operators that do the same sort of work share: a colour.
type family struct{ name, label string }

// families returns all families, in the order of the legend.
func families() []family {
	return []family{{"conv", "convolution"}, {"linear", "matrix product"}, {"norm", "normalisation"}, {"act", "activation"}, {"pool", "pooling, reduction"},
		{"math", "arithmetic"}, {"shape", "shape, copy"}, {"seq", "recurrence, attention"}, {"flow", "control, function"}, {"quant", "quantisation"}, {"other", "other"}}
}

func operatorFamily(op string) string {
	switch op {
	case "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "FusedConv", "NhwcConv", "QConv":
		return "conv"
	case "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "Einsum", "FusedGemm", "FusedMatMul", "MatMulNBits", "QGemm":
		return "linear"
	case "LRN", "LpNormalization":
		return "norm"
	case "Relu", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softmax", "LogSoftmax", "Elu", "Selu", "Celu", "Gelu", "Mish", "Swish",
		"Softplus", "Softsign", "ThresholdedRelu", "Clip", "Hardmax", "Shrink", "BiasGelu", "FastGelu", "QuickGelu":
		return "act"
	case "ArgMax", "ArgMin", "TopK", "CumSum":
		return "pool"
	case "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Log", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Reciprocal", "Mod", "Sum", "Max", "Min", "Mean",
		"Where", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not", "Xor", "Erf", "Sin", "Cos", "IsNaN", "IsInf", "BitShift":
		return "math"
	case "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Split", "Slice", "Gather", "GatherElements", "GatherND", "Expand", "Shape", "Size",
		"Pad", "Tile", "Resize", "Upsample", "DepthToSpace", "SpaceToDepth", "Identity", "ScatterElements", "ScatterND", "Range", "ConstantOfShape", "Constant",
		"Cast", "CastLike", "Dropout", "Compress", "NonZero", "OneHot", "EyeLike", "Trilu", "GridSample", "Col2Im":
		return "shape"
	case "LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention", "GroupQueryAttention":
		return "seq"
	case "If", "Loop", "Scan":
		return "flow"
	case "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear":
		return "quant"
	}
	switch {
	case strings.HasSuffix(op, "Normalization"):
		return "norm"
	case strings.HasSuffix(op, "Pool"), strings.HasPrefix(op, "Reduce"), strings.HasSuffix(op, "RoiAlign"):
		return "pool"
	case strings.HasPrefix(op, "Sequence"), strings.HasPrefix(op, "Optional"):
		return "flow"
	}
	return "other"
}

// A network is a model's graph as it is drawn: without constants and what is
// computed from them alone.
type network struct {
	m         Model
	graph     *inspect.Graph // nil when the model has none
	functions map[[2]string]bool
	// drawn holds the nodes in the order in which they run, at the position of
	// each by its index, -1 for one that is not drawn.
	drawn []*inspect.Node
	at    []int
	// next holds the readers of each drawn node, each once.
	next   [][]int
	labels map[string]*inspect.Node
	layers map[int][]inspect.Layer // by the index of the node they belong to
	stats  map[string]*inspect.TensorStats
	// inputs and outputs are those of the model that are drawn.
	inputs, outputs []inspect.Value
	// block is the block of each drawn node, -1 when the graph is not collapsed.
	block  []int
	blocks []block
}

func newNetwork(m Model) *network {
	n := &network{m: m, graph: m.Graph, functions: make(map[[2]string]bool), labels: make(map[string]*inspect.Node), layers: make(map[int][]inspect.Layer), stats: make(map[string]*inspect.TensorStats)}
	for _, f := range m.Functions {
		n.functions[[2]string{f.Domain, f.Name}] = true
	}
	for i, t := range m.Tensors {
		n.stats[t.Name] = &m.Tensors[i]
	}
	if n.graph == nil {
		return n
	}
	n.inputs, n.outputs = m.Inputs[:min(len(m.Inputs), maxEnds)], m.Outputs[:min(len(m.Outputs), maxEnds)]
	n.choose()
	for _, l := range m.Layers {
		if owner := n.owner(l); owner != nil {
			n.layers[owner.Index] = append(n.layers[owner.Index], l)
		}
	}
	edges := 0
	n.next = make([][]int, len(n.drawn))
	for i, node := range n.drawn {
		for _, out := range node.Outputs {
			if out == "" || n.graph.Producer(out) != node {
				continue
			}
			for _, r := range n.graph.Consumers(out) {
				if k := n.at[r.Index]; k >= 0 {
					n.next[i] = append(n.next[i], k)
				}
			}
		}
		slices.Sort(n.next[i])
		n.next[i] = slices.Compact(n.next[i])
		edges += len(n.next[i])
	}
	if len(n.drawn) > maxDrawn || edges > maxEdges {
		n.collapse()
	}
	return n
}

// choose decides which nodes are drawn: those that depend on an input or give an
// output, and all when there are none.
func (n *network) choose() {
	order, _ := n.graph.Order() // a cycle is drawn as one
	constant := make([]bool, len(n.graph.Nodes))
	fixed := func(tensor string) bool {
		if p := n.graph.Producer(tensor); p != nil {
			return constant[p.Index]
		}
		return n.graph.Has(tensor) && !n.graph.IsInput(tensor)
	}
	kept := 0
	for _, node := range order {
		c := node.Standard() && !strings.HasPrefix(node.Op, "Random") && node.Op != "Bernoulli" && node.Op != "Multinomial"
		read := 0
		for _, in := range node.Inputs {
			if in != "" {
				read++
				c = c && fixed(in)
			}
		}
		c = c && (read > 0 || node.Op == "Constant")
		for _, a := range node.Proto.GetAttribute() {
			c = c && a.G == nil && len(a.Graphs) == 0
		}
		for _, out := range node.Outputs {
			c = c && !n.graph.IsOutput(out)
		}
		if constant[node.Index] = c; !c {
			kept++
		}
	}
	n.at = make([]int, len(n.graph.Nodes))
	for i := range n.at {
		n.at[i] = -1
	}
	for _, node := range order {
		if n.labels[node.Label()] == nil {
			n.labels[node.Label()] = node
		}
		if kept > 0 && constant[node.Index] {
			continue
		}
		n.at[node.Index] = len(n.drawn)
		n.drawn = append(n.drawn, node)
	}
}

// owner returns the node of the main graph that a layer is or belongs to.
func (n *network) owner(l inspect.Layer) *inspect.Node {
	if n.graph == nil {
		return nil
	}
	if l.Scope != "" {
		return n.scopeOwner(l.Scope)
	}
	if l.Node < 0 || l.Node >= len(n.graph.Nodes) {
		return nil
	}
	return n.graph.Nodes[l.Node]
}

// scopeOwner finds the node whose label a scope begins with; labels may hold
// slashes themselves.
func (n *network) scopeOwner(scope string) *inspect.Node {
	for i := 0; i <= len(scope); i++ {
		if i == len(scope) || scope[i] == '/' {
			if node := n.labels[scope[:i]]; node != nil {
				return node
			}
		}
	}
	return nil
}

func (n *network) id(node *inspect.Node) string {
	if node == nil || n.at[node.Index] < 0 || n.at[node.Index] >= maxDetail {
		return ""
	}
	return "n" + strconv.Itoa(node.Index)
}

// nodeOf returns the name in the page of the node that a layer belongs to, "" when
// it is not drawn.
func (n *network) nodeOf(l inspect.Layer) string { return n.id(n.owner(l)) }

// nodeOfLabel is nodeOf for what a finding is about.
func (n *network) nodeOfLabel(scope, node, tensor string) string {
	if n.graph == nil {
		return ""
	}
	if scope != "" {
		return n.id(n.scopeOwner(scope))
	}
	if id := n.id(n.labels[node]); node != "" && id != "" {
		return id
	}
	if tensor == "" {
		return ""
	}
	if id := n.id(n.graph.Producer(tensor)); id != "" {
		return id
	}
	if readers := n.graph.Consumers(tensor); len(readers) > 0 {
		return n.id(readers[0])
	}
	return ""
}

func (n *network) family(op, domain string) string {
	if n.functions[[2]string{domain, op}] {
		return "flow"
	}
	return operatorFamily(op)
}

func (n *network) layerFamily(l inspect.Layer) string { return operatorFamily(l.Op) }

// shown makes a text from a file fit for a page: printable and not endless.
func shown(s string) string { return firstChars(printable(firstBytes(s, 8*maxText)), maxText) }

// firstBytes bounds the work on a text; a cut character becomes a question mark.
func firstBytes(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// A htmlView is one drawing: of the whole graph, or of the inner of a block.
type htmlView struct {
	ID            string
	Inner         bool
	Width, Height string
	Nodes         []htmlNode
	Edges         []htmlEdge
}

// A htmlNode is a box with two or three lines of text: operator, what is special
// about it and the shape; the name; and a third line for blocks.
type htmlNode struct {
	ID, Kind, Family, X, Y, W, H, R, Tag        string
	Op, Extra, Shape, ShapeX, Name, Line3, Full string

	size drawing.Size
}

type htmlEdge struct{ A, B, Path, Class string }

type htmlLegend struct{ Family, Label string }

const (
	charWidth = 6.5 // of the small type, in pixels, roughly
	opWidth   = 7.9 // of the operator's bold type
	maxBox    = 280.0
	minBox    = 160.0
)

// textWidth estimates the width of a text in pixels.
func textWidth(s string, char float64) float64 {
	w := 0.0
	for _, r := range s {
		switch {
		case r >= 0x1100 && unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana) || r >= 0x1F000:
			w += 2 * char
		case unicode.Is(unicode.Mn, r):
		default:
			w += char
		}
	}
	return w
}

// clip shortens a text in its middle to about a width.
func clip(s string, char, width float64) string {
	if textWidth(s, char) <= width {
		return s
	}
	return shorten(s, max(3, int(width/char)))
}

// box fits the size of a node to its texts.
func (b htmlNode) box() htmlNode {
	// At a width of maxBox both must fit beside each other.
	b.Op = clip(b.Op, opWidth, maxBox-90)
	b.Shape = clip(b.Shape, charWidth, maxBox-30-textWidth(b.Op, opWidth))
	first := textWidth(b.Op, opWidth) + textWidth(b.Extra, charWidth) + textWidth(b.Shape, charWidth) + 16
	if first > maxBox-22 {
		b.Extra = ""
		first = textWidth(b.Op, opWidth) + textWidth(b.Shape, charWidth) + 16
	}
	b.Name, b.Line3 = clip(b.Name, charWidth, maxBox-22), clip(b.Line3, charWidth, maxBox-22)
	w := math.Ceil(min(maxBox, max(minBox, 22+max(first, textWidth(b.Name, charWidth), textWidth(b.Line3, charWidth)))))
	h := 38.0
	if b.Line3 != "" {
		h = 53
	}
	b.size = drawing.Size{Width: w, Height: h}
	b.W, b.H, b.R = trim(w), trim(h), "5"
	b.ShapeX = trim(w - 8)
	b.Tag = "M5 0a5 5 0 0 0-5 5v" + trim(h-10) + "a5 5 0 0 0 5 5z"
	if b.Kind == "io" {
		b.R = "19"
	}
	return b
}

func (n *network) nodeBox(node *inspect.Node) htmlNode {
	b := htmlNode{ID: n.id(node), Family: n.family(node.Op, node.Domain), Op: shown(node.Op), Name: shown(modulePath(node.Name, node.Op)), Full: shown(node.Label())}
	for _, l := range n.layers[node.Index] {
		if l.Scope == "" {
			b.Extra = shown(kernelText(l))
		}
	}
	if b.Extra == "" && strings.HasSuffix(node.Op, "Pool") {
		b.Extra = kernelText(inspect.Layer{Kernel: node.AttrInts("kernel_shape"), Strides: node.AttrInts("strides")})
	}
	if b.Name == "" {
		b.Name = shown(node.Label())
	}
	for _, out := range node.Outputs {
		if out != "" {
			b.Shape = shown(shape(n.graph.Shape(out), batchDim(n.m.Model)).Text)
			break
		}
	}
	if b.Shape == "unknown" {
		b.Shape = "?"
	}
	b.Full += "\n" + shown(node.Op) + " → " + b.Shape
	return b.box()
}

func (n *network) endBox(id, kind string, v inspect.Value) htmlNode {
	return htmlNode{ID: id, Kind: "io", Family: "io", Op: kind, Name: shown(v.Name), Shape: shown(shape(v.Shape, batchDim(n.m.Model)).Text), Full: kind + " " + shown(v.Name)}.box()
}

// A sketch gathers what one drawing shows before it is laid out.
type sketch struct {
	nodes []htmlNode
	index map[string]int
	edges [][2]int
	seen  map[[2]int]bool
}

func newSketch() *sketch { return &sketch{index: make(map[string]int), seen: make(map[[2]int]bool)} }

func (s *sketch) add(key string, b htmlNode) {
	s.index[key] = len(s.nodes)
	s.nodes = append(s.nodes, b)
}

func (s *sketch) connect(a, b string) {
	i, ok := s.index[a]
	j, ok2 := s.index[b]
	if e := [2]int{i, j}; ok && ok2 && !s.seen[e] {
		s.seen[e] = true
		s.edges = append(s.edges, e)
	}
}

// view lays a sketch out. left counts the lines that are not drawn because there
// are too many.
func (s *sketch) view(id string, inner bool) (v htmlView, left int, err error) {
	if left = max(0, len(s.edges)-maxEdges); left > 0 {
		s.edges = s.edges[:maxEdges]
	}
	g := drawing.Graph{Nodes: make([]drawing.Size, len(s.nodes)), Edges: make([]drawing.Edge, len(s.edges))}
	for i, b := range s.nodes {
		g.Nodes[i] = b.size
	}
	for i, e := range s.edges {
		g.Edges[i] = drawing.Edge{From: e[0], To: e[1]}
	}
	l, err := drawing.New(g, drawing.Options{NodeGap: 22, LayerGap: 30, EdgeGap: 14})
	if err != nil {
		return htmlView{}, 0, err
	}
	v = htmlView{ID: id, Inner: inner, Width: trim(l.Width), Height: trim(l.Height), Nodes: s.nodes}
	for i := range v.Nodes {
		b, p := &v.Nodes[i], l.Nodes[i]
		b.X, b.Y = trim(p.X-b.size.Width/2), trim(p.Y-b.size.Height/2)
	}
	for i, r := range l.Edges {
		e := htmlEdge{A: s.nodes[s.edges[i][0]].ID, B: s.nodes[s.edges[i][1]].ID, Path: routePath(r.Points)}
		if r.Reversed {
			e.Class = "back"
		}
		if e.Path == "" {
			// From a node to itself: a bow at its right side.
			p, z := l.Nodes[g.Edges[i].From], g.Nodes[g.Edges[i].From]
			e.Path = fmt.Sprintf("M%s %sc16 0 16 16 0 16", trim(p.X+z.Width/2), trim(p.Y-8))
			e.Class = "back"
		}
		v.Edges = append(v.Edges, e)
	}
	return v, left, nil
}

// routePath draws a route: straight down where it stays in its column, else a
// curve that leaves and arrives vertically.
func routePath(points []drawing.Point) string {
	if len(points) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "M%s %s", trim(points[0].X), trim(points[0].Y))
	for i := 1; i < len(points); i++ {
		p, q := points[i-1], points[i]
		if p.X == q.X {
			b.WriteString("V" + trim(q.Y))
			continue
		}
		mid := trim((p.Y + q.Y) / 2)
		fmt.Fprintf(&b, "C%s %s %s %s %s %s", trim(p.X), mid, trim(q.X), mid, trim(q.X), trim(q.Y))
	}
	return b.String()
}

// addDrawing fills the views of the graph and what can be read of its nodes.
func (h *htmlModel) addDrawing(n *network) error {
	if n.graph == nil || len(n.drawn) == 0 {
		return nil
	}
	whole := newSketch()
	key := func(i int) string { return "n" + strconv.Itoa(n.drawn[i].Index) }
	if n.blocks != nil {
		key = func(i int) string { return blockID(n.block[i]) }
	}
	for i, v := range n.inputs {
		id := "i" + strconv.Itoa(i)
		whole.add(id, n.endBox(id, "input", v))
	}
	if n.blocks == nil {
		for _, node := range n.drawn {
			whole.add("n"+strconv.Itoa(node.Index), n.nodeBox(node))
		}
	}
	for i, b := range n.blocks {
		whole.add(blockID(i), n.blockBox(i, b))
	}
	for i, v := range n.inputs {
		for _, r := range n.graph.Consumers(v.Name) {
			if k := n.at[r.Index]; k >= 0 {
				whole.connect("i"+strconv.Itoa(i), key(k))
			}
		}
	}
	for i := range n.drawn {
		for _, k := range n.next[i] {
			if n.blocks == nil || n.block[i] != n.block[k] {
				whole.connect(key(i), key(k))
			}
		}
	}
	for i, v := range n.outputs {
		id := "o" + strconv.Itoa(i)
		whole.add(id, n.endBox(id, "output", v))
		if p := n.graph.Producer(v.Name); p != nil {
			if k := n.at[p.Index]; k >= 0 {
				whole.connect(key(k), id)
			}
			continue
		}
		for j, in := range n.inputs {
			if in.Name == v.Name {
				whole.connect("i"+strconv.Itoa(j), id)
			}
		}
	}
	v, left, err := whole.view("", false)
	if err != nil {
		return err
	}
	h.Views = append(h.Views, v)
	h.ViewBox = "0 0 " + v.Width + " " + v.Height
	inner, err := n.blockViews()
	if err != nil {
		return err
	}
	h.Views = append(h.Views, inner...)
	h.addLegend()
	notes := []string{"Wheel or drag moves, Ctrl + wheel or pinch zooms."}
	if n.blocks != nil {
		notes = append(notes, fmt.Sprintf("%s, collapsed into %s.", plural(len(n.drawn), "node"), plural(len(n.blocks), "block")))
		if len(inner) > 0 {
			notes = append(notes, "A double click opens a block.")
		}
	}
	if hidden := len(n.graph.Nodes) - len(n.drawn); hidden > 0 {
		notes = append(notes, "Not drawn: "+plural(hidden, "node")+" computed from constants alone.")
	}
	if left > 0 {
		notes = append(notes, "Not drawn: "+plural(left, "line")+".")
	}
	h.GraphNote = strings.Join(notes, " ")
	data, err := json.Marshal(n.details())
	if err != nil {
		return err
	}
	h.Data = template.JS(data) // Marshal has escaped <, > and &
	return nil
}

func (h *htmlModel) addLegend() {
	used := make(map[string]bool)
	for _, v := range h.Views {
		for _, b := range v.Nodes {
			used[b.Family] = true
		}
	}
	for _, f := range families() {
		if used[f.name] {
			h.Legend = append(h.Legend, htmlLegend{f.name, f.label})
		}
	}
}

// A detail is what the panel shows of a node.
type detail struct {
	Op    string      `json:"op"`
	Name  string      `json:"name"`
	Block string      `json:"block,omitempty"`
	Facts [][2]string `json:"facts,omitempty"`
	In    []item      `json:"in,omitempty"`
	Out   []item      `json:"out,omitempty"`
	Attr  []item      `json:"attr,omitempty"`
	Sub   []item      `json:"sub,omitempty"`
	Nodes []item      `json:"nodes,omitempty"`
}

// An item is a name, a text, the nodes it leads to and maybe a histogram.
type item struct {
	Name string   `json:"n"`
	Text string   `json:"t,omitempty"`
	To   []string `json:"to,omitempty"`
	Hist string   `json:"h,omitempty"`
}

func (n *network) details() map[string]detail {
	data := make(map[string]detail, len(n.drawn)+len(n.blocks))
	sources := make(map[string]string)
	for i, v := range n.inputs {
		id := "i" + strconv.Itoa(i)
		sources[v.Name] = id
		data[id] = detail{Op: "input", Name: shown(v.Name), Facts: valueFacts(v), Out: []item{{Name: shown(v.Name), To: n.readers(v.Name)}}}
	}
	for i, v := range n.outputs {
		data["o"+strconv.Itoa(i)] = detail{Op: "output", Name: shown(v.Name), Facts: valueFacts(v), In: []item{n.input(v.Name, sources)}}
	}
	for i, node := range n.drawn {
		if id := n.id(node); id != "" {
			d := n.detail(node, sources)
			if n.blocks != nil {
				d.Block = blockID(n.block[i])
			}
			data[id] = d
		}
	}
	for i, b := range n.blocks {
		data[blockID(i)] = n.blockDetail(i, b)
	}
	return data
}

func valueFacts(v inspect.Value) [][2]string {
	return [][2]string{{"type", shown(cmp.Or(v.DType, "unknown"))}, {"shape", shown(v.Shape.String())}}
}

func (n *network) detail(node *inspect.Node, sources map[string]string) detail {
	op := node.Op
	if !node.Standard() {
		op = node.Domain + "." + op
	}
	d := detail{Op: shown(op), Name: shown(node.Label())}
	layers := n.layers[node.Index]
	for _, l := range layers[:min(len(layers), maxItems)] {
		where := ""
		if l.Scope != "" {
			where = " of " + shown(l.Scope+" › "+l.Name)
		}
		macs := optional(l.MACs, Count, absent).Text
		if times := runs(n.m.Model, &l).Text; times != "" {
			macs += " in one run, runs: " + times
		}
		d.Facts = append(d.Facts, [2]string{"parameters" + where, atLeast(Count(l.Parameters), parametersUnknown(n.m.Model, &l)).Text}, [2]string{"MACs" + where, macs},
			[2]string{"weights" + where, Bytes(l.WeightBytes).Text})
		if l.OutBytes != nil && where == "" {
			d.Facts = append(d.Facts, [2]string{"output size", Bytes(*l.OutBytes).Text})
		}
		if l.Zeros != nil {
			d.Facts = append(d.Facts, [2]string{"zeros" + where, Share(*l.Zeros).Text})
		}
	}
	read := make(map[string]bool)
	for _, in := range node.Inputs {
		read[in] = true
		if len(d.In) < maxItems {
			d.In = append(d.In, n.input(in, sources))
		}
	}
	d.In = more(d.In, len(node.Inputs))
	for _, out := range node.Outputs[:min(len(node.Outputs), maxItems)] {
		if out == "" {
			continue
		}
		d.Out = append(d.Out, item{Name: shown(out), Text: n.tensorText(out), To: n.readers(out)})
	}
	d.Out = more(d.Out, len(node.Outputs))
	for _, a := range node.Proto.GetAttribute() {
		if a.G != nil || len(a.Graphs) > 0 {
			for _, g := range append(a.Graphs[:len(a.Graphs):len(a.Graphs)], a.G) {
				if g != nil && len(d.Sub) < maxItems {
					d.Sub = append(d.Sub, item{Name: shown(a.GetName()), Text: graphText(g)})
				}
			}
			continue
		}
		if len(d.Attr) < maxItems {
			d.Attr = append(d.Attr, item{Name: shown(a.GetName()), Text: shown(attributeText(a))})
		}
	}
	return d
}

// more says how many items a list leaves out.
func more(items []item, of int) []item {
	if of > maxItems {
		items = append(items, item{Name: "and " + grouped(int64(of-maxItems)) + " more"})
	}
	return items
}

func (n *network) readers(tensor string) []string {
	var to []string
	for _, r := range n.graph.Consumers(tensor) {
		if id := n.id(r); id != "" && len(to) < maxItems {
			to = append(to, id)
		}
	}
	for i, v := range n.outputs {
		if v.Name == tensor {
			to = append(to, "o"+strconv.Itoa(i))
		}
	}
	return to
}

func (n *network) input(tensor string, sources map[string]string) item {
	if tensor == "" {
		return item{Name: "left out"}
	}
	it := item{Name: shown(tensor), Text: n.tensorText(tensor)}
	p := n.graph.Producer(tensor)
	switch {
	case p != nil && n.id(p) != "":
		it.To = []string{n.id(p)}
	case sources[tensor] != "":
		it.To = []string{sources[tensor]}
	case !n.graph.Has(tensor):
		it.Text = "missing"
	default:
		s, ok := n.graph.Stored(tensor)
		if !ok {
			it.Text = strings.TrimPrefix(it.Text+", constant", "unknown, ")
			break
		}
		it.Text += ", stored: " + Bytes(s.Tensor.StoredBytes()).Text
		if v := n.graph; len(s.Through) == 0 {
			if list, ok := v.Ints(tensor); ok && len(list) > 0 && len(list) <= 8 {
				it.Text += " = " + joinInts(list)
			} else if f, ok := v.Float(tensor); ok {
				it.Text += " = " + strconv.FormatFloat(f, 'g', 6, 64)
			}
		}
		if st := n.stats[s.Name]; st != nil && st.Values != nil {
			it.Text += statsText(st)
			it.Hist = sparkline(st.Values.Histogram)
		}
	}
	return it
}

func statsText(s *inspect.TensorStats) string {
	var b strings.Builder
	for _, f := range []struct {
		name string
		v    *float64
	}{{"min", s.Values.Min}, {"max", s.Values.Max}, {"mean", s.Values.Mean}, {"std", s.Values.Std}} {
		if f.v != nil {
			fmt.Fprintf(&b, ", %s %s", f.name, strconv.FormatFloat(*f.v, 'g', 3, 64))
		}
	}
	return b.String()
}

func joinInts(list []int64) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = strconv.FormatInt(v, 10)
	}
	return strings.Join(parts, ", ")
}

// tensorText writes "float 64x32x32".
func (n *network) tensorText(tensor string) string {
	v := n.graph.Value(tensor)
	return shown(strings.TrimSpace(v.DType + " " + shape(v.Shape, nil).Text))
}

func graphText(g *onnxpb.GraphProto) string {
	count := make(map[string]int)
	for _, n := range g.GetNode() {
		count[n.GetOpType()]++
	}
	return shown(g.GetName()) + ": " + plural(len(g.GetNode()), "node") + operatorCounts(count, 8)
}

// operatorCounts writes ": 4 Conv, 2 Relu", the most frequent first.
func operatorCounts(count map[string]int, limit int) string {
	ops := make([]string, 0, len(count))
	for op := range count {
		ops = append(ops, op)
	}
	slices.SortFunc(ops, func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	var b strings.Builder
	for i, op := range ops {
		if i == limit {
			b.WriteString(", ...")
			break
		}
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%d %s", sep, count[op], shown(op))
	}
	return b.String()
}

// attributeText writes the value of an attribute that is no graph.
func attributeText(a *onnxpb.AttributeProto) string {
	list := func(k int, at func(int) string) string {
		parts := make([]string, 0, min(k, maxItems)+1)
		for i := range min(k, maxItems) {
			parts = append(parts, at(i))
		}
		if k > maxItems {
			parts = append(parts, fmt.Sprintf("... (%s)", grouped(int64(k))))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	float := func(f float32) string { return strconv.FormatFloat(float64(f), 'g', -1, 32) }
	quote := func(s []byte) string { return strconv.Quote(firstBytes(string(s[:min(len(s), maxText)]), maxText)) }
	switch {
	case a.GetRefAttrName() != "":
		return "attribute " + a.GetRefAttrName() + " of the function"
	case a.I != nil:
		return strconv.FormatInt(a.GetI(), 10)
	case a.F != nil:
		return float(a.GetF())
	case a.S != nil:
		return quote(a.GetS())
	case a.T != nil:
		return tensorAttribute(a.T)
	case a.SparseTensor != nil:
		return "sparse tensor, " + dimsText(a.SparseTensor.GetDims())
	case a.Tp != nil:
		return "type"
	case len(a.Ints) > 0:
		return list(len(a.Ints), func(i int) string { return strconv.FormatInt(a.Ints[i], 10) })
	case len(a.Floats) > 0:
		return list(len(a.Floats), func(i int) string { return float(a.Floats[i]) })
	case len(a.Strings) > 0:
		return list(len(a.Strings), func(i int) string { return quote(a.Strings[i]) })
	case len(a.Tensors) > 0:
		return plural(len(a.Tensors), "tensor")
	}
	return "[]"
}

func tensorAttribute(t *onnxpb.TensorProto) string {
	return "tensor, " + onnxfile.DType(t.GetDataType()).String() + " " + dimsText(t.GetDims())
}

func dimsText(dims []int64) string { return cmp.Or(joined(dims), "scalar") }
