package compact

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// An editor writes a solution into a draft.
type editor struct {
	ctx   context.Context // of the whole edit
	a     *analysis
	s     *solution
	d     *onnxfile.Draft
	names map[string]bool // taken by tensors and nodes
	lists map[*track][]int
	// replaced are stored tensors whose numbers are written anew.
	replaced map[string]bool
	// masks are, by stored tensor, the columns that each group of a grouped
	// convolution keeps.
	masks  map[string]*groupMask
	insert map[int][]*onnxpb.NodeProto // behind the node of that position
}

// kept returns the places of t that stay, in order.
func (e *editor) kept(t *track) []int {
	list, ok := e.lists[t]
	if !ok {
		list = []int{}
		for i := range t.n {
			if !e.s.gone(int(e.a.class[t.base+i])) {
				list = append(list, i)
			}
		}
		e.lists[t] = list
	}
	return list
}

func (e *editor) node(n *inspect.Node) *onnxpb.NodeProto { return e.d.Model.Graph.Node[n.Index] }

func (e *editor) attr(n *inspect.Node, name string) *onnxpb.AttributeProto {
	p := e.node(n)
	for _, at := range p.Attribute {
		if at.GetName() == name {
			return at
		}
	}
	at := &onnxpb.AttributeProto{Name: proto.String(name)}
	p.Attribute = append(p.Attribute, at)
	return at
}

func (e *editor) setInt(n *inspect.Node, name string, v int64) {
	at := e.attr(n, name)
	at.Type, at.I = onnxpb.AttributeProto_INT.Enum(), proto.Int64(v)
}

func (e *editor) setInts(n *inspect.Node, name string, v []int64) {
	at := e.attr(n, name)
	at.Type, at.Ints = onnxpb.AttributeProto_INTS.Enum(), v
}

func (e *editor) dropAttr(n *inspect.Node, name string) {
	p := e.node(n)
	p.Attribute = slices.DeleteFunc(p.Attribute, func(at *onnxpb.AttributeProto) bool { return at.GetName() == name })
}

// name returns one that nothing has.
func (e *editor) name(want string) string {
	name := want
	for i := 1; e.names[name]; i++ {
		name = want + "_" + strconv.Itoa(i)
	}
	e.names[name] = true
	return name
}

// initializer adds an empty one.
func (e *editor) initializer(name string, t onnxfile.DType, dims ...int64) *onnxpb.TensorProto {
	p := &onnxpb.TensorProto{Name: proto.String(name), DataType: proto.Int32(int32(t)), Dims: dims}
	g := e.d.Model.Graph
	g.Initializer = append(g.Initializer, p)
	if e.d.Model.GetIrVersion() < 4 { // initializers are inputs too
		v := &onnxpb.ValueInfoProto{Name: p.Name, Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
			TensorType: &onnxpb.TypeProto_Tensor{ElemType: p.DataType, Shape: &onnxpb.TensorShapeProto{}}}}}
		for _, d := range dims {
			s := v.GetType().GetTensorType().Shape
			s.Dim = append(s.Dim, &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
		}
		g.Input = append(g.Input, v)
	}
	return p
}

// setInput makes input i of n a tensor of that name.
func (e *editor) setInput(n *inspect.Node, i int, name string) {
	p := e.node(n)
	for len(p.Input) <= i {
		p.Input = append(p.Input, "")
	}
	p.Input[i] = name
}

// ints makes input i of n a new list.
func (e *editor) ints(n *inspect.Node, i int, what string, v []int64) {
	name := e.name(n.Label() + "." + what)
	e.d.SetInt64(e.initializer(name, onnxfile.Int64, int64(len(v))), v, int64(len(v)))
	e.setInput(n, i, name)
}

// floats fills p with numbers of its type, float or double.
func (e *editor) floats(p *onnxpb.TensorProto, v []float64, dims ...int64) {
	p.Dims = dims
	var b []byte
	for _, x := range v {
		if p.GetDataType() == int32(onnxfile.Double) {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
		} else {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(x)))
		}
	}
	e.d.SetRaw(p, onnxfile.BytesContent(b))
}

// bias adds delta, one number for each output of s, to its input i, which is b or
// nothing.
func (e *editor) bias(s *sink, i int, b *view, delta []float64) error {
	kept := e.kept(s.out)
	v := make([]float64, len(kept))
	for j, o := range kept {
		v[j] = delta[o]
		if s.bias != nil {
			v[j] += s.bias[o]
		}
	}
	n := int64(len(v))
	if b != nil && e.a.own(b.p) && len(b.p.stored.Through) == 0 && len(b.dims) == 1 && b.dims[0] == int64(s.out.n) {
		if p := e.d.Initializer(b.p.stored.Name); p != nil {
			e.floats(p, v, n)
			e.replaced[b.p.stored.Name] = true
			return nil
		}
	}
	name := e.name(s.node.Label() + ".bias")
	e.floats(e.initializer(name, e.a.g.DType(s.node.Output(0)), n), v, n)
	e.setInput(s.node, i, name)
	if b == nil && s.node.Op == "Gemm" {
		e.dropAttr(s.node, "beta")
	}
	return nil
}

// added puts a node behind s that adds delta.
func (e *editor) added(s *sink, delta []float64) error {
	kept := e.kept(s.out)
	v := make([]float64, len(kept))
	for j, o := range kept {
		v[j] = delta[o]
	}
	p := e.node(s.node)
	product := e.name(p.Output[0] + ".product")
	bias := e.name(s.node.Label() + ".bias")
	e.floats(e.initializer(bias, e.a.g.DType(s.node.Output(0)), int64(len(v))), v, int64(len(v)))
	e.behind(s.node.Index, &onnxpb.NodeProto{Name: proto.String(e.name(s.node.Label() + ".add")), OpType: proto.String("Add"),
		Input: []string{product, bias}, Output: []string{p.Output[0]}})
	p.Output[0] = product
	return nil
}

func (e *editor) behind(after int, n *onnxpb.NodeProto) { e.insert[after] = append(e.insert[after], n) }

// groups adjusts a grouped convolution: whole groups go, and the others keep
// columns of their own.
func (e *editor) groups(s *sink) error {
	columns, rows := s.columns(), s.rows()
	in, out := e.kept(s.in), e.kept(s.out)
	if len(in) == s.in.n && len(out) == s.out.n {
		return nil
	}
	m := &groupMask{rows: rows, keep: make([][]bool, s.groups)}
	outs := make([]int, s.groups)
	for q := range m.keep {
		m.keep[q] = make([]bool, columns)
	}
	for _, p := range in {
		m.keep[p/columns][p%columns] = true
	}
	for _, o := range out {
		outs[o/rows]++
	}
	groups := 0
	for q, keep := range m.keep {
		n := 0
		for _, k := range keep {
			if k {
				n++
			}
		}
		if n == 0 && outs[q] == 0 {
			continue
		}
		groups++
		if m.columns != 0 && (m.columns != n || m.outs != outs[q]) {
			return fmt.Errorf("internal error: groups of %q differ after compaction", s.node.Label())
		}
		m.columns, m.outs = n, outs[q]
	}
	e.masks[s.weight] = m
	e.setInt(s.node, "group", int64(groups))
	return nil
}

// A groupMask says which columns of a weight (outputs x columns x ...) the rows of
// each group keep.
type groupMask struct {
	rows          int // of a group
	keep          [][]bool
	columns, outs int // that each group keeps
}

// A sliced content is a stored tensor without some of its places.
type sliced struct {
	src  onnxfile.Content
	dims []int64
	// keep has, for each axis, what stays; nil for all.
	keep  [][]bool
	mask  *groupMask // replaces keep[1]
	width int64      // bytes of an element
	n     int64
}

func (c *sliced) Len() int64 { return c.n }

// WriteTo reads all of the source and passes on what stays.
func (c *sliced) WriteTo(w io.Writer) (int64, error) {
	f := &filter{sliced: c, w: w, run: c.width, at: make([]int64, len(c.dims))}
	for f.last = len(c.dims) - 1; f.last >= 0 && c.keep[f.last] == nil && (c.mask == nil || f.last != 1); f.last-- {
		f.run *= c.dims[f.last]
	}
	f.left = f.run
	f.pass = f.passes()
	if _, err := c.src.WriteTo(f); err != nil {
		return f.done, err
	}
	return f.done, f.flush()
}

// A filter is the writer between a source and what stays of it.
type filter struct {
	*sliced
	w    io.Writer
	run  int64 // bytes that stay or go as one
	last int   // the innermost axis that loses places
	at   []int64
	left int64 // of the current run
	pass bool
	buf  []byte
	done int64
}

func (f *filter) passes() bool {
	for i := range f.last + 1 {
		switch {
		case f.mask != nil && i == 1:
			if !f.mask.keep[int(f.at[0])/f.mask.rows][f.at[1]] {
				return false
			}
		case f.keep[i] != nil && !f.keep[i][f.at[i]]:
			return false
		}
	}
	return true
}

func (f *filter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		k := min(int64(len(b)), f.left)
		if f.pass {
			f.buf = append(f.buf, b[:k]...)
			if len(f.buf) >= 1<<20 {
				if err := f.flush(); err != nil {
					return n - len(b), err
				}
			}
		}
		b = b[k:]
		if f.left -= k; f.left > 0 {
			continue
		}
		f.left = f.run
		for i := f.last; i >= 0; i-- {
			if f.at[i]++; f.at[i] < f.dims[i] {
				break
			}
			f.at[i] = 0
		}
		f.pass = f.passes()
	}
	return n, nil
}

func (f *filter) flush() error {
	n, err := f.w.Write(f.buf)
	f.done += int64(n)
	f.buf = f.buf[:0]
	return err
}
