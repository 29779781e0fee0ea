package refit

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A network is a model of which parts are run, from what has been computed before
// to what is wanted next. What a part leaves behind for the parts after it is kept
// for every batch, as far as the budget goes; the rest is computed again.
type network struct {
	m   *inspect.Model
	eng engine.Engine
	// image is the name of the input.
	image string
	// weights are those that replace the stored ones from now on.
	weights map[string][]float32
	// kept has tensors by name, one for each batch. They do not depend on any
	// weight that is still to change.
	kept map[string][]*engine.Tensor
	// prefix begins the names that are made up here.
	prefix string
	budget *budget
	// inline is the most bytes of a part with external data that are held in memory
	// while it is loaded; of larger ones the data stays where it is.
	inline int64
}

// maxInline is inline of networks.
const maxInline = 1 << 30

// A budget counts the bytes that networks keep.
type budget struct{ limit, used int64 }

func newNetwork(m *inspect.Model, eng engine.Engine, image string, b *budget) *network {
	n := &network{m: m, eng: eng, image: image, weights: map[string][]float32{}, kept: map[string][]*engine.Tensor{}, prefix: "filterlens.", budget: b, inline: maxInline}
	for n.prefixTaken() {
		n.prefix = "_" + n.prefix
	}
	return n
}

func (n *network) prefixTaken() bool {
	for _, node := range n.m.Graph.Nodes {
		for _, name := range append(reads(node), node.Outputs...) {
			if strings.HasPrefix(name, n.prefix) {
				return true
			}
		}
	}
	return strings.HasPrefix(n.image, n.prefix)
}

// reads returns every name that a node reads, in the graphs nested in it too.
func reads(node *inspect.Node) []string {
	names := slices.Clone(node.Inputs)
	var within func(n *onnxpb.NodeProto)
	within = func(n *onnxpb.NodeProto) {
		for _, a := range n.Attribute {
			for _, g := range append(slices.Clone(a.Graphs), a.G) {
				for _, o := range g.GetOutput() {
					names = append(names, o.GetName())
				}
				for _, inner := range g.GetNode() {
					names = append(names, inner.Input...)
					within(inner)
				}
			}
		}
	}
	within(node.Proto)
	return names
}

// needed returns the nodes that make the targets out of the given tensors and the
// image, by their index, and which of these tensors they read.
func (n *network) needed(targets []string, given func(string) bool) (nodes map[int]bool, sources []string) {
	nodes = map[int]bool{}
	seen := map[string]bool{"": true}
	for work := slices.Clone(targets); len(work) > 0; {
		name := work[len(work)-1]
		work = work[:len(work)-1]
		if seen[name] {
			continue
		}
		seen[name] = true
		if name == n.image || given(name) {
			sources = append(sources, name)
			continue
		}
		if p := n.m.Graph.Producer(name); p != nil && !nodes[p.Index] {
			nodes[p.Index] = true
			work = append(work, reads(p)...)
		}
	}
	slices.Sort(sources)
	return nodes, sources
}

func none(string) bool { return false }

func (n *network) isKept(name string) bool { return n.kept[name] != nil }

// cut returns the tensors that are made on the way to done and read on the way from
// there to later, targets of done included: what has to be kept.
func (n *network) cut(done, later []string) []string {
	made, _ := n.needed(done, none)
	after, _ := n.needed(later, none)
	var out []string
	for i := range after {
		if made[i] {
			continue
		}
		for _, name := range reads(n.m.Graph.Nodes[i]) {
			if p := n.m.Graph.Producer(name); p != nil && made[p.Index] && n.varies(name) && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// varies tells whether a tensor depends on the samples.
func (n *network) varies(name string) bool {
	_, sources := n.needed([]string{name}, none)
	return len(sources) > 0
}

// A stage is a part of a network that is loaded.
type stage struct {
	n       *network
	sess    engine.Session // nil where nothing has to be computed
	targets []string
	// in and out map names of tensors to those of the inputs and outputs.
	in, out map[string]string
}

// load loads what makes the targets. Stored tensors in free become inputs, of type
// float.
func (n *network) load(ctx context.Context, targets, free []string) (*stage, error) {
	s := &stage{n: n, targets: targets, in: map[string]string{}, out: map[string]string{}}
	var compute []string
	for _, t := range targets {
		if t != n.image && !n.isKept(t) {
			compute = append(compute, t)
		}
	}
	if len(compute) == 0 {
		return s, nil
	}
	part := engine.Model{Name: n.m.File}
	var err error
	if part.Bytes, err = n.part(s, compute, free, true); errors.Is(err, onnxfile.ErrTooLarge) && n.m.Handle.External() {
		part.Dir = n.m.Handle.DataDir()
		part.Bytes, err = n.part(s, compute, free, false)
	}
	if err != nil {
		return nil, err
	}
	s.sess, err = n.eng.Load(ctx, part)
	return s, err
}

// part returns the model that a stage runs. Unless inline, external data stays where
// it is; else it is part of the model, or the error is onnxfile.ErrTooLarge.
func (n *network) part(s *stage, targets, free []string, inline bool) ([]byte, error) {
	nodes, sources := n.needed(targets, func(name string) bool { return n.isKept(name) || slices.Contains(free, name) })
	d := n.m.Handle.Draft()
	g := d.Model.Graph
	read := map[string]bool{}
	var kept []*onnxpb.NodeProto
	for i, node := range g.Node {
		if nodes[i] {
			kept = append(kept, node)
			for _, name := range reads(n.m.Graph.Nodes[i]) {
				read[name] = true
			}
		}
	}
	g.Node, g.Input, g.Output, g.ValueInfo, g.QuantizationAnnotation = kept, nil, nil, nil, nil
	d.Model.TrainingInfo, d.Model.MetadataProps = nil, nil
	// Since version 4 an initializer need not be an input.
	d.Model.IrVersion = proto.Int64(max(d.Model.GetIrVersion(), 4))
	unused := func(name string) bool { return !read[name] || slices.Contains(sources, name) }
	g.Initializer = slices.DeleteFunc(g.Initializer, func(t *onnxpb.TensorProto) bool { return unused(t.GetName()) })
	g.SparseInitializer = slices.DeleteFunc(g.SparseInitializer, func(t *onnxpb.SparseTensorProto) bool { return unused(t.GetValues().GetName()) })
	if inline {
		if err := d.InlineExternal(); err != nil {
			return nil, err
		}
		if size, err := d.Size(); err != nil || size > n.inline && n.m.Handle.External() {
			return nil, errors.Join(err, onnxfile.ErrTooLarge)
		}
	}
	for name, v := range n.weights {
		if d.Initializer(name) == nil && constantValue(g, name) == nil {
			continue
		}
		if err := replace(n.m, d, name, v); err != nil {
			return nil, err
		}
	}
	var casts []*onnxpb.NodeProto
	for _, name := range sources {
		in, dtype := name, n.dtype(name)
		if asFloat(dtype) {
			in = n.prefix + "in." + name
			casts = append(casts, cast(in, name, dtype))
			dtype = onnxfile.Float
		}
		g.Input = append(g.Input, n.describe(in, name, dtype))
		s.in[name] = in
	}
	g.Node = append(casts, g.Node...)
	for _, name := range targets {
		out, dtype := name, n.dtype(name)
		if asFloat(dtype) {
			out, dtype = n.prefix+"out."+name, onnxfile.Float
			g.Node = append(g.Node, cast(name, out, dtype))
		}
		g.Output = append(g.Output, n.describe(out, name, dtype))
		s.out[name] = out
	}
	return d.Bytes()
}

// dtype returns the type that the nodes expect of a tensor.
func (n *network) dtype(name string) onnxfile.DType {
	if t, ok := storedTensor(n.m, name); ok {
		return t.DType()
	}
	return n.m.Graph.DType(name)
}

// asFloat tells whether numbers of a type are handed over as float.
func asFloat(d onnxfile.DType) bool {
	return d == onnxfile.Float16 || d == onnxfile.BFloat16 || d == onnxfile.Double
}

// describe describes a tensor under another name and type. The first dimension of
// what is not stored is left open.
func (n *network) describe(as, name string, dtype onnxfile.DType) *onnxpb.ValueInfoProto {
	if t, ok := storedTensor(n.m, name); ok {
		return valueInfo(as, dtype, t.Dims()...)
	}
	s := n.m.Graph.Shape(name)
	var dims []int64
	for i, d := range s.Dims {
		dims = append(dims, d.Value)
		if i == 0 {
			dims[0] = -1
		}
	}
	v := valueInfo(as, dtype, dims...)
	if !s.Known {
		v.Type.GetTensorType().Shape = nil
	}
	return v
}

func cast(from, to string, dtype onnxfile.DType) *onnxpb.NodeProto {
	return &onnxpb.NodeProto{OpType: proto.String("Cast"), Name: proto.String(to), Input: []string{from}, Output: []string{to},
		Attribute: []*onnxpb.AttributeProto{attrInt("to", int64(dtype))}}
}

// run computes the targets for batch i. image is read where the image is needed,
// free holds the tensors of load's free.
func (s *stage) run(ctx context.Context, i int, image func() (*engine.Tensor, error), free map[string]*engine.Tensor) (map[string]*engine.Tensor, error) {
	in, out := map[string]*engine.Tensor{}, map[string]*engine.Tensor{}
	given := func(name string) (*engine.Tensor, error) {
		switch {
		case name == s.n.image:
			t, err := image()
			if err == nil && s.sess == nil {
				t = engine.NewFloat32(slices.Clone(t.Float32()), t.Shape...) // it outlives the batch
			}
			return t, err
		case free[name] != nil:
			return free[name], nil
		}
		return s.n.kept[name][i], nil
	}
	for name, as := range s.in {
		t, err := given(name)
		if err != nil {
			return nil, err
		}
		in[as] = t
	}
	for _, as := range s.out {
		out[as] = nil
	}
	if s.sess != nil {
		if err := s.sess.Run(ctx, in, out); err != nil {
			return nil, err
		}
	}
	result := map[string]*engine.Tensor{}
	for _, name := range s.targets {
		if as, ok := s.out[name]; ok {
			result[name] = out[as]
			continue
		}
		t, err := given(name)
		if err != nil {
			return nil, err
		}
		result[name] = t
	}
	return result, nil
}

// needsImage tells whether run reads the image.
func (s *stage) needsImage() bool {
	_, ok := s.in[s.n.image]
	return ok || slices.Contains(s.targets, s.n.image)
}

func (s *stage) close() error {
	if s == nil || s.sess == nil {
		return nil
	}
	return s.sess.Close()
}

// A keeping is what a pass of stages gathers to be kept.
type keeping struct {
	n     *network
	names []string
	next  map[string][]*engine.Tensor
	bytes int64
	// full tells that it does not fit.
	full bool
}

func (n *network) keep(names []string) *keeping {
	return &keeping{n: n, names: names, next: map[string][]*engine.Tensor{}}
}

// take keeps what batch i of batches has made of the names. After the first batch
// it gives up where all of them would not fit.
func (k *keeping) take(i, batches int, made map[string]*engine.Tensor) {
	if k.full {
		return
	}
	size := int64(0)
	for _, name := range k.names {
		size += bytesOf(made[name])
	}
	if i == 0 && k.n.budget.used+size*int64(batches) > k.n.budget.limit {
		k.full = true
		return
	}
	k.bytes += size
	for _, name := range k.names {
		if k.next[name] == nil {
			k.next[name] = make([]*engine.Tensor, batches)
		}
		k.next[name][i] = made[name]
	}
}

// done replaces what the network keeps, when everything fits.
func (k *keeping) done() {
	if k.full || len(k.names) == 0 {
		return
	}
	k.n.drop()
	k.n.budget.used += k.bytes
	k.n.kept = k.next
}

// drop forgets what is kept.
func (n *network) drop() {
	for _, batches := range n.kept {
		for _, t := range batches {
			n.budget.used -= bytesOf(t)
		}
	}
	n.kept = map[string][]*engine.Tensor{}
}

// bytesOf returns about what a tensor takes.
func bytesOf(t *engine.Tensor) int64 {
	if t.Float32() != nil {
		return 4 * engine.Elements(t.Shape)
	}
	return 8 * engine.Elements(t.Shape)
}

// sameWay tells whether two networks compute a tensor in the same way, by the same
// nodes from the same numbers.
func sameWay(a, b *network, tensor string) (bool, error) {
	na, _ := a.needed([]string{tensor}, none)
	nb, _ := b.needed([]string{tensor}, none)
	if len(na) != len(nb) || a.image != b.image || len(a.m.Handle.Model.Functions)+len(b.m.Handle.Model.Functions) > 0 ||
		a.m.Graph.Opset("") != b.m.Graph.Opset("") {
		return false, nil
	}
	var pa, pb []*inspect.Node
	for i := range a.m.Graph.Nodes {
		if na[i] {
			pa = append(pa, a.m.Graph.Nodes[i])
		}
	}
	for i := range b.m.Graph.Nodes {
		if nb[i] {
			pb = append(pb, b.m.Graph.Nodes[i])
		}
	}
	for i := range pa {
		if pa[i].Op == "Constant" && pb[i].Op == "Constant" {
			continue // a payload is compared below
		}
		if !proto.Equal(pa[i].Proto, pb[i].Proto) {
			return false, nil
		}
	}
	seen := map[string]bool{}
	for _, node := range pa {
		for _, name := range append(reads(node), node.Outputs...) {
			if seen[name] {
				continue
			}
			seen[name] = true
			if a.weights[name] != nil || b.weights[name] != nil {
				return false, nil
			}
			ta, oka := storedTensor(a.m, name)
			tb, okb := storedTensor(b.m, name)
			if oka != okb {
				return false, nil
			}
			if !oka {
				continue
			}
			same, err := onnxfile.SameData(ta, tb)
			if err != nil || !same {
				return false, ignoreUnsupported(err)
			}
		}
	}
	return true, nil
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, onnxfile.ErrUnsupportedType) {
		return nil
	}
	return err
}
