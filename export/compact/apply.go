package compact

import (
	"context"
	"errors"
	"slices"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// Apply returns m without what p removes. m must be the model that p was made
// for, and stay open until the draft is written: stored tensors are read then,
// block by block, and those that lose places are never in memory as a whole.
//
// External data becomes part of the draft, which may then exceed the 2 GB that one
// file can hold (Draft.PutBeside). A plan that was read from a file is checked against
// m first; one that does not fit is a *PlanError. Other errors are a *RefusedError, a
// *onnxfile.TensorError, one of m.Check, or ctx's.
func Apply(ctx context.Context, m *inspect.Model, p *Plan) (*onnxfile.Draft, error) {
	s, err := p.solution(ctx, m)
	if err != nil {
		return nil, err
	}
	return s.apply(ctx)
}

func (s *solution) apply(ctx context.Context) (*onnxfile.Draft, error) {
	d := s.a.m.Handle.Draft()
	if err := d.InlineExternal(); err != nil {
		return nil, err
	}
	e := s.editor(ctx, d)
	if err := e.fold(ctx); err != nil {
		return nil, err
	}
	for _, fix := range s.a.fixes {
		if err := fix(e); err != nil {
			return nil, err
		}
	}
	if err := e.weights(); err != nil {
		return nil, err
	}
	e.insertNodes()
	e.sweep()
	e.describe()
	return d, ctx.Err()
}

func (s *solution) editor(ctx context.Context, d *onnxfile.Draft) *editor {
	e := &editor{ctx: ctx, a: s.a, s: s, d: d, names: map[string]bool{}, lists: map[*track][]int{}, replaced: map[string]bool{},
		masks: map[string]*groupMask{}, insert: map[int][]*onnxpb.NodeProto{}}
	g := d.Model.Graph
	for _, n := range g.Node {
		e.names[n.GetName()] = true
	}
	eachName(g, func(name string) { e.names[name] = true })
	for _, t := range g.Initializer {
		e.names[t.GetName()] = true
	}
	for _, t := range g.SparseInitializer {
		e.names[t.GetValues().GetName()] = true
	}
	return e
}

// eachName calls fn with all tensors that the nodes of g and of the graphs nested
// in it read or make.
func eachName(g *onnxpb.GraphProto, fn func(string)) {
	for _, list := range [][]*onnxpb.ValueInfoProto{g.GetInput(), g.GetOutput()} {
		for _, v := range list {
			fn(v.GetName())
		}
	}
	for _, n := range g.GetNode() {
		eachInput(n, fn)
		for _, name := range n.Output {
			fn(name)
		}
	}
}

// eachInput calls fn with all tensors that a node reads, those named in the graphs
// nested in it included.
func eachInput(n *onnxpb.NodeProto, fn func(string)) {
	for _, name := range n.GetInput() {
		fn(name)
	}
	for _, a := range n.GetAttribute() {
		if a.G != nil {
			eachName(a.G, fn)
		}
		for _, sub := range a.Graphs {
			eachName(sub, fn)
		}
	}
}

// fold adds what removed constants did to the biases of their readers.
func (e *editor) fold(ctx context.Context) error {
	for _, k := range e.a.sinks {
		factor := make([]float64, k.in.n)
		needed := false
		for p := range factor {
			if !e.s.gone(int(e.a.class[k.in.base+p])) {
				continue
			}
			if x, ok := e.s.foldable(k, p); ok && x != 0 && k.count[p] > 0 {
				factor[p], needed = x, true
			}
		}
		if !needed {
			continue
		}
		sums := make([]float64, k.out.n)
		if err := k.sums(ctx, factor, sums); err != nil {
			return err
		}
		delta := make([]float64, len(sums))
		changed := false
		for _, o := range e.kept(k.out) {
			if delta[o] = k.scale * sums[o]; k.biasScale != 0 && k.node.Input(2) != "" {
				delta[o] /= k.biasScale
			}
			changed = changed || delta[o] != 0
		}
		if !changed {
			continue
		}
		if err := k.mend(e, delta); err != nil {
			return err
		}
	}
	return nil
}

// stored finds the tensor of a Constant node or an initializer in the draft; its
// attribute where it is a list of numbers.
func (e *editor) stored(name string) (*onnxpb.TensorProto, *onnxpb.AttributeProto) {
	if t := e.d.Initializer(name); t != nil {
		return t, nil
	}
	if n := e.a.g.Producer(name); n != nil && n.Op == "Constant" {
		for _, at := range e.node(n).Attribute {
			switch at.GetName() {
			case "value":
				return at.T, nil
			case "value_floats":
				return nil, at
			}
		}
	}
	return nil, nil
}

// weights rewrites the stored tensors that lose places.
func (e *editor) weights() error {
	for _, name := range e.a.paramNames() {
		p := e.a.params[name]
		if e.replaced[name] {
			e.resize(name, p)
			continue
		}
		c := &sliced{dims: p.dims, keep: make([][]bool, len(p.dims)), mask: e.masks[name], width: p.stored.Tensor.DType().Bits() / 8}
		dims := slices.Clone(p.dims)
		changed := c.mask != nil
		if changed {
			dims[1] = int64(c.mask.columns)
		}
		for axis, t := range p.tracks {
			kept := e.kept(t)
			if len(kept) == t.n {
				continue
			}
			changed = true
			c.keep[axis] = make([]bool, t.n)
			for _, i := range kept {
				c.keep[axis][i] = true
			}
			dims[axis] = int64(len(kept))
		}
		if !changed {
			continue
		}
		var edit func(b []byte, off int64)
		for _, k := range e.a.sinks {
			if k.weight == name && len(e.s.merged[k]) > 0 { // only one node reads it then
				var err error
				if edit, err = e.mergeWeights(k); err != nil {
					return err
				}
			}
		}
		pb, list := e.stored(name)
		switch {
		case list != nil:
			var v []float32
			for i, x := range list.Floats {
				if c.keep[0][i] {
					v = append(v, x)
				}
			}
			list.Floats = v
		case pb == nil || p.stored.Tensor.DType().Bits()%8 != 0:
			return &onnxfile.TensorError{File: e.a.m.File, Tensor: name, Err: errors.New("its numbers cannot be taken apart")}
		default:
			var err error
			if c.src, err = p.stored.Tensor.Raw(edit); err != nil {
				return err
			}
			c.n = c.width
			for _, d := range dims {
				c.n *= d
			}
			pb.Dims = dims
			e.d.SetRaw(pb, c)
		}
		e.resize(name, p)
	}
	return nil
}

// resize corrects what the inputs of the graph say of a stored tensor, and drops
// what value_info says of tensors between it and its readers.
func (e *editor) resize(name string, p *param) {
	g := e.d.Model.Graph
	pb, _ := e.stored(name)
	for _, v := range g.Input {
		if v.GetName() != name || pb == nil {
			continue
		}
		for i, d := range v.GetType().GetTensorType().GetShape().GetDim() {
			if i < len(pb.Dims) {
				d.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: pb.Dims[i]}
			}
		}
	}
	g.ValueInfo = slices.DeleteFunc(g.ValueInfo, func(v *onnxpb.ValueInfoProto) bool { return p.names[v.GetName()] })
}

func (e *editor) insertNodes() {
	if len(e.insert) == 0 {
		return
	}
	var nodes []*onnxpb.NodeProto
	for i, n := range e.d.Model.Graph.Node {
		nodes = append(append(nodes, n), e.insert[i]...)
	}
	e.d.Model.Graph.Node = nodes
}

// sweep drops nodes and stored tensors that nothing reads.
func (e *editor) sweep() {
	g := e.d.Model.Graph
	uses := map[string]int{}
	count := func(n *onnxpb.NodeProto, by int) { eachInput(n, func(name string) { uses[name] += by }) }
	makers := map[string]int{}
	for i, n := range g.Node {
		count(n, 1)
		for _, out := range n.Output {
			makers[out] = i
		}
	}
	for _, v := range g.Output {
		uses[v.GetName()]++
	}
	dead := make([]bool, len(g.Node))
	var todo []int
	for i := range g.Node {
		todo = append(todo, i)
	}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n := g.Node[i]
		if dead[i] || slices.ContainsFunc(n.Output, func(out string) bool { return out != "" && uses[out] > 0 }) {
			continue
		}
		dead[i] = true
		count(n, -1)
		eachInput(n, func(name string) {
			if j, ok := makers[name]; ok && name != "" {
				todo = append(todo, j)
			}
		})
	}
	var nodes []*onnxpb.NodeProto
	for i, n := range g.Node {
		if !dead[i] {
			nodes = append(nodes, n)
		}
	}
	g.Node = nodes
	gone := map[string]bool{}
	g.Initializer = slices.DeleteFunc(g.Initializer, func(t *onnxpb.TensorProto) bool {
		if uses[t.GetName()] > 0 {
			return false
		}
		gone[t.GetName()] = true
		return true
	})
	g.SparseInitializer = slices.DeleteFunc(g.SparseInitializer, func(t *onnxpb.SparseTensorProto) bool {
		name := t.GetValues().GetName()
		if uses[name] > 0 {
			return false
		}
		gone[name] = true
		return true
	})
	g.Input = slices.DeleteFunc(g.Input, func(v *onnxpb.ValueInfoProto) bool { return gone[v.GetName()] })
}

// describe corrects value_info of tensors that lost channels, and drops that of
// tensors that are not there.
func (e *editor) describe() {
	g := e.d.Model.Graph
	there := map[string]bool{}
	eachName(g, func(name string) { there[name] = true })
	g.ValueInfo = slices.DeleteFunc(g.ValueInfo, func(v *onnxpb.ValueInfoProto) bool {
		t := e.a.live[v.GetName()]
		if !there[v.GetName()] {
			return true
		}
		if t == nil || len(e.kept(t)) == t.n {
			return false
		}
		dims := v.GetType().GetTensorType().GetShape().GetDim()
		if t.axis >= len(dims) {
			return true
		}
		dims[t.axis].Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(len(e.kept(t)))}
		return false
	})
	g.QuantizationAnnotation = slices.DeleteFunc(g.QuantizationAnnotation, func(q *onnxpb.TensorAnnotation) bool { return !there[q.GetTensorName()] })
}

// Mask returns m with what p asks for silenced instead of removed: the weights by
// which it is read are zero. The compacted model computes what this one does, to
// rounding; without anything asked for it computes what m does. Its weights can be
// mended before it is compacted, if those that are zero stay zero: of what Mask
// returns the same channels go without being asked for (where RoundTo or a grouped
// convolution keeps some back, perhaps others).
func Mask(ctx context.Context, m *inspect.Model, p *Plan) (*onnxfile.Draft, error) {
	s, err := p.solution(ctx, m)
	if err != nil {
		return nil, err
	}
	d := m.Handle.Draft()
	if err := d.InlineExternal(); err != nil {
		return nil, err
	}
	e := s.editor(ctx, d)
	type silence struct {
		k     *sink
		place []bool
	}
	silenced := map[string][]silence{}
	var names []string
	for _, k := range s.a.sinks {
		place, any := make([]bool, k.in.n), false
		for i := range place {
			place[i] = s.why[s.a.class[k.in.base+i]] == asked
			any = any || place[i]
		}
		if any {
			if silenced[k.weight] == nil {
				names = append(names, k.weight)
			}
			silenced[k.weight] = append(silenced[k.weight], silence{k, place})
		}
	}
	for _, name := range names {
		pb, _ := e.stored(name)
		t := s.a.params[name].stored.Tensor
		width := t.DType().Bits() / 8
		if pb == nil || width == 0 {
			return nil, &onnxfile.TensorError{File: m.File, Tensor: name, Err: errors.New("its numbers cannot be changed")}
		}
		c, err := t.Raw(func(b []byte, off int64) {
			for _, z := range silenced[name] {
				z.k.silence(b, off/width, width, z.place)
			}
		})
		if err != nil {
			return nil, err
		}
		d.SetRaw(pb, c)
	}
	return d, ctx.Err()
}

// silence clears the weights of some places of the input in b, which begins with
// element first. All bits zero is +0 in every floating-point format.
func (s *sink) silence(b []byte, first, width int64, place []bool) {
	dims := s.w.t.Dims()
	rowStride, columnStride := int64(1), int64(1)
	for _, d := range dims[s.w.row+1:] {
		rowStride *= d
	}
	for _, d := range dims[s.w.column+1:] {
		columnStride *= d
	}
	for i := int64(0); i < int64(len(b))/width; i++ {
		at := first + i
		o, c := int(at/rowStride%dims[s.w.row]), int(at/columnStride%dims[s.w.column])
		if place[o/s.rows()*s.columns()+c] {
			clear(b[i*width : (i+1)*width])
		}
	}
}
