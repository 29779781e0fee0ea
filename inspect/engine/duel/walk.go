// Package duel runs one graph on two engines and finds where they part: a second
// opinion when a deployment looks wrong.
//
// It knows engines, graphs and numbers. Labels, data sets and reports may not enter.
package duel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// Options says what Walk compares.
type Options struct {
	Tolerance Tolerance
	// All has every node's outputs listed, not only those of layers.
	All bool
	// Memory bounds the bytes of the tensors that are taken out of one run; 0 means
	// DefaultMemory. What does not fit together is taken in several runs.
	Memory int64
	// Progress, unless nil, is called after each run.
	Progress func(stage string, done, total int)
}

// DefaultMemory is the Memory that 0 stands for.
const DefaultMemory = 512 << 20

// Tap is a tensor within the graph, as both engines compute it.
type Tap struct {
	// Tensor is its name, DType its element type; Node is the index in the file of
	// the node that computes it, Name and Op are that node's.
	Tensor, DType string
	Node          int
	Name, Op      string
	// Parts tells that the difference is beyond the tolerance.
	Parts bool
	Difference
}

// Trail is what Walk finds.
type Trail struct {
	// Taps are the outputs of layers, or of all nodes, the graph's own outputs, and
	// Parting and Agreeing, in the order in which they are computed.
	Taps []Tap
	// Parting is the first tensor beyond the tolerance, of any node: when a layer
	// parts, all that is computed between it and the layers that agree is looked at
	// as well. nil when all agree.
	Parting *Tap
	// Agreeing is the last tensor before Parting, on the way to it, that was compared
	// and agrees; nil when there is none.
	Agreeing *Tap
	// Skipped counts tensors that no engine can hand out.
	Skipped int
}

// Walk runs m on both engines with the same input and compares the tensors within,
// in the order of the graph. For that it loads copies of the graph in which these
// are outputs: what an engine fuses otherwise is then computed apart, so that the
// outputs of a copy may agree where those of the model do not.
//
// Errors are of the engines, of the file, or *inspect.GraphError.
func Walk(ctx context.Context, a, b engine.Engine, m *inspect.Model, in map[string]*engine.Tensor, opt Options) (*Trail, error) {
	w, err := newWalker(a, b, m, in, opt)
	if err != nil {
		return nil, err
	}
	wanted := w.layers()
	if opt.All || len(wanted) == 0 {
		wanted = w.all
	}
	if err := w.compare(ctx, "comparing tensors", wanted); err != nil {
		return nil, err
	}
	t := &Trail{Skipped: w.skipped, Taps: w.known(wanted)}
	first := slices.IndexFunc(t.Taps, func(t Tap) bool { return t.Parts })
	if first < 0 {
		return t, nil
	}
	between := w.between(t.Taps[first].Tensor)
	if err := w.compare(ctx, "looking closer", between); err != nil {
		return nil, err
	}
	for _, name := range between {
		tap := w.taps[name]
		if tap.Parts {
			t.Parting = tap
			break
		}
	}
	t.Agreeing = w.agreeing(t.Parting)
	for _, tap := range []*Tap{t.Parting, t.Agreeing} {
		if tap != nil && !slices.Contains(wanted, tap.Tensor) {
			wanted = append(wanted, tap.Tensor)
		}
	}
	w.sort(wanted)
	t.Taps = w.known(wanted)
	return t, nil
}

// walker holds what the runs share.
type walker struct {
	a, b    engine.Engine
	m       *inspect.Model
	g       *inspect.Graph // with the shapes of this input
	in      map[string]*engine.Tensor
	opt     Options
	order   []*inspect.Node
	all     []string        // tensors that can be compared, in order
	place   map[string]int  // of these
	taps    map[string]*Tap // compared already
	skipped int
	dir     string // of external data
}

func newWalker(a, b engine.Engine, m *inspect.Model, in map[string]*engine.Tensor, opt Options) (*walker, error) {
	if err := opt.Tolerance.Check(); err != nil {
		return nil, err
	}
	if opt.Memory <= 0 {
		opt.Memory = DefaultMemory
	}
	if opt.Progress == nil {
		opt.Progress = func(string, int, int) {}
	}
	w := &walker{a: a, b: b, m: m, in: in, opt: opt, place: map[string]int{}, taps: map[string]*Tap{}}
	shapes := make(map[string][]int64, len(in))
	for name, t := range in {
		shapes[name] = t.Shape
	}
	var err error
	if w.g, err = inspect.NewGraph(m.Handle, inspect.Options{InputShapes: shapes}); err != nil {
		return nil, err
	}
	if w.order, err = w.g.Order(); err != nil {
		return nil, err
	}
	if m.Handle.External() {
		w.dir = folder(m)
	}
	w.find()
	return w, nil
}

// folder returns where m's external data lies: beside the file or, where its name is
// a link and the data is not beside it, beside the file that it leads to.
func folder(m *inspect.Model) string {
	dir := filepath.Dir(m.File)
	layout, err := m.Handle.Layout(context.Background())
	target, linkErr := filepath.EvalSymlinks(m.File)
	if err != nil || linkErr != nil || len(layout.Data) == 0 {
		return dir
	}
	if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(layout.Data[0].Location))); err != nil {
		return filepath.Dir(target)
	}
	return dir
}

// find lists the tensors that follow from the numbers of the input and can be handed
// out.
func (w *walker) find() {
	depends := make(map[string]bool)
	for name := range w.in {
		depends[name] = true
	}
	for _, n := range w.order {
		if n.Standard() && (n.Op == "Shape" || n.Op == "Size") || !w.reads(n, depends) {
			continue
		}
		for _, out := range n.Outputs {
			if out == "" {
				continue
			}
			depends[out] = true
			switch dtype := w.g.DType(out); dtype.String() {
			case "float", "double", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool":
				w.place[out] = len(w.all)
				w.all = append(w.all, out)
			default:
				w.skipped++
			}
		}
	}
}

// reads tells whether a node reads what depends on the input; graphs within may read
// anything.
func (w *walker) reads(n *inspect.Node, depends map[string]bool) bool {
	if slices.ContainsFunc(n.Inputs, func(t string) bool { return depends[t] }) {
		return true
	}
	return slices.ContainsFunc(n.Proto.Attribute, func(a *onnxpb.AttributeProto) bool { return a.G != nil || len(a.Graphs) > 0 })
}

// layers lists the outputs of the layers of the main graph, and its outputs.
func (w *walker) layers() []string {
	var list []string
	found := false
	for i := range w.m.Layers {
		g, n := w.m.LayerNode(&w.m.Layers[i])
		if g != w.m.Graph || n == nil {
			continue
		}
		if out := n.Output(0); w.comparable(out) && !slices.Contains(list, out) {
			list, found = append(list, out), true
		}
	}
	if !found {
		return nil
	}
	for _, v := range w.m.Outputs {
		if w.comparable(v.Name) && !slices.Contains(list, v.Name) {
			list = append(list, v.Name)
		}
	}
	w.sort(list)
	return list
}

func (w *walker) sort(tensors []string) {
	slices.SortFunc(tensors, func(a, b string) int { return w.place[a] - w.place[b] })
}

func (w *walker) comparable(tensor string) bool {
	_, ok := w.place[tensor]
	return ok
}

// between lists, in order, what tensor is computed from down to what has been compared
// and agrees, and tensor itself.
func (w *walker) between(tensor string) []string {
	var list []string
	w.back(tensor, func(t string) bool {
		if tap := w.taps[t]; tap != nil && !tap.Parts {
			return false
		}
		if w.comparable(t) {
			list = append(list, t)
		}
		return true
	})
	w.sort(list)
	return list
}

// agreeing returns the last tensor on the way to tap that agrees.
func (w *walker) agreeing(tap *Tap) *Tap {
	var last *Tap
	w.back(tap.Tensor, func(t string) bool {
		found := w.taps[t]
		if found == nil || found.Parts {
			return true
		}
		if last == nil || w.place[t] > w.place[last.Tensor] {
			last = found
		}
		return false
	})
	return last
}

// back visits tensor and all that it is computed from, as long as visit agrees.
func (w *walker) back(tensor string, visit func(t string) bool) {
	seen := map[string]bool{}
	for todo := []string{tensor}; len(todo) > 0; {
		t := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if t == "" || seen[t] {
			continue
		}
		seen[t] = true
		n := w.g.Producer(t)
		if n == nil || !visit(t) {
			continue
		}
		todo = append(todo, n.Inputs...)
		for _, a := range n.Proto.Attribute {
			for _, g := range append(a.Graphs, a.G) {
				todo = append(todo, outer(g)...)
			}
		}
	}
}

// outer lists all names that a graph within a node reads; some are its own.
func outer(g *onnxpb.GraphProto) (names []string) {
	for _, n := range g.GetNode() {
		names = append(names, n.Input...)
		for _, a := range n.Attribute {
			for _, g := range append(a.Graphs, a.G) {
				names = append(names, outer(g)...)
			}
		}
	}
	for _, v := range g.GetOutput() {
		names = append(names, v.GetName())
	}
	return names
}

// known returns what was found of tensors.
func (w *walker) known(tensors []string) []Tap {
	list := make([]Tap, 0, len(tensors))
	for _, t := range tensors {
		list = append(list, *w.taps[t])
	}
	return list
}

// compare runs the graph with the tensors, as far as they have not been compared yet,
// for outputs, as many at a time as memory allows.
func (w *walker) compare(ctx context.Context, stage string, tensors []string) error {
	var todo []string
	for _, t := range tensors {
		if w.taps[t] == nil {
			todo = append(todo, t)
		}
	}
	total := len(todo)
	for len(todo) > 0 {
		n, used := 0, int64(0)
		for n < len(todo) {
			used += w.bytes(todo[n])
			if n > 0 && used > w.opt.Memory {
				break
			}
			n++
		}
		if err := w.run(ctx, todo[:n]); err != nil {
			return err
		}
		todo = todo[n:]
		w.opt.Progress(stage, total-len(todo), total)
	}
	return nil
}

// bytes returns what a tensor takes in both engines and, in one of them, on its way
// out. One of unknown size is taken for a quarter of the memory.
func (w *walker) bytes(tensor string) int64 {
	s := w.g.Shape(tensor)
	if !s.Known {
		return w.opt.Memory / 4
	}
	n := 3 * max(1, w.g.DType(tensor).Bits()/8)
	for _, d := range s.Dims {
		if d.Value < 0 || d.Value > 0 && n > w.opt.Memory/d.Value {
			return w.opt.Memory
		}
		n *= max(1, d.Value)
	}
	return n
}

// run compares tensors in one run of each engine.
func (w *walker) run(ctx context.Context, tensors []string) error {
	model, err := w.tapped(tensors)
	if err != nil {
		return err
	}
	a, _, err := w.evaluate(ctx, w.a, model, tensors)
	if err != nil {
		return err
	}
	b, dtypes, err := w.evaluate(ctx, w.b, model, tensors)
	if err != nil {
		return err
	}
	for _, t := range tensors {
		n := w.g.Producer(t)
		tap := &Tap{Tensor: t, DType: dtypes[t], Node: n.Index, Name: n.Name, Op: n.Op}
		if tap.Difference, err = Compare(a[t], b[t], dtypes[t]); err != nil {
			return fmt.Errorf("%s: node %d %q (%s): tensor %q: of %s and %s %w", w.m.File, n.Index, n.Name, n.Op, t, w.a.Name(), w.b.Name(), err)
		}
		tap.Parts = w.opt.Tolerance.Beyond(&tap.Difference)
		w.taps[t] = tap
	}
	return nil
}

// tapped returns a copy of the graph whose outputs are tensors.
func (w *walker) tapped(tensors []string) (engine.Model, error) {
	d := w.m.Handle.Draft()
	g := d.Model.Graph
	g.Output = nil
	for _, t := range tensors {
		g.Output = append(g.Output, valueInfo(t, w.g.DType(t), w.g.Shape(t)))
	}
	// What the file declares of these must not contradict.
	g.ValueInfo = slices.DeleteFunc(g.ValueInfo, func(v *onnxpb.ValueInfoProto) bool { return slices.Contains(tensors, v.GetName()) })
	b, err := d.Bytes()
	if errors.Is(err, onnxfile.ErrTooLarge) {
		return engine.Model{}, fmt.Errorf("%s: %w; keep its weights in external data to compare what is within", w.m.File, err)
	}
	if err != nil {
		return engine.Model{}, err
	}
	return engine.Model{Name: w.m.File + " (tensors within)", Bytes: b, Dir: w.dir}, nil
}

func valueInfo(name string, dtype onnxfile.DType, shape inspect.Shape) *onnxpb.ValueInfoProto {
	t := &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(dtype))}
	if shape.Known {
		t.Shape = &onnxpb.TensorShapeProto{}
		for _, d := range shape.Dims {
			dim := &onnxpb.TensorShapeProto_Dimension{}
			if d.Value >= 0 {
				dim.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d.Value}
			}
			t.Shape.Dim = append(t.Shape.Dim, dim)
		}
	}
	return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: t}}}
}

// evaluate runs a model once.
func (w *walker) evaluate(ctx context.Context, e engine.Engine, m engine.Model, outputs []string) (out map[string]*engine.Tensor, dtypes map[string]string, err error) {
	s, err := e.Load(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	out, dtypes = make(map[string]*engine.Tensor), make(map[string]string)
	for _, name := range outputs {
		out[name] = nil
	}
	for _, v := range s.Outputs() {
		dtypes[v.Name] = v.DType
	}
	return out, dtypes, s.Run(ctx, w.in, out)
}
