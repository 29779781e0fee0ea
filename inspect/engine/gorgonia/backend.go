package gorgonia

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/owulveryck/onnx-go"
	"github.com/owulveryck/onnx-go/backend/x/gorgonnx"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// building guards gorgonnx's graph construction, which numbers its nodes from a
// counter of the whole process without a lock.
var building sync.Mutex

// backend is one ONNX node, translated by onnx-go's Gorgonia backend for fixed
// shapes of its inputs and evaluated here.
//
// Gorgonia's own tape machine is not used: it runs operators on a goroutine of
// its own, where a panic ends the process, cannot be cancelled, and lets
// operators overwrite tensors that the caller still needs.
type backend struct {
	nodes gorgonia.Nodes
	args  [][]int // positions in nodes of each node's children, in order
	last  []int   // position of the last node that reads a node's value
	leaf  []int   // position in nodes of each input, -1 when it is not read
	root  int
	shape []int
}

// newBackend translates one operator. Attributes hold int64, float32, []int64
// or string.
func newBackend(op string, attributes map[string]any, in []operand) (b *backend, err error) {
	building.Lock()
	defer building.Unlock()
	defer catch(&err)

	g := gorgonnx.NewGraph()
	out := g.NewNode()
	g.AddNode(out)
	given := make([]tensor.Tensor, len(in))
	for i, o := range in {
		if o.constant != nil {
			given[i] = o.constant.dense()
		} else {
			given[i] = newPlaceholder(o.shape)
		}
		n := g.NewNode()
		g.AddNode(n)
		if err := n.(*gorgonnx.Node).SetTensor(given[i]); err != nil {
			return nil, err
		}
		g.SetWeightedEdge(g.NewWeightedEdge(out, n, float64(i)))
	}
	if err := g.ApplyOperation(onnx.Operation{Name: op, Attributes: attributes}, out); err != nil {
		return nil, err
	}
	graph, err := g.GetExprGraph()
	if err != nil {
		return nil, err
	}
	return order(graph, given)
}

// order lists the nodes of graph so that they can be evaluated one after the
// other. The graph has one result: the node that no
// other one reads.
func order(graph *gorgonia.ExprGraph, given []tensor.Tensor) (*backend, error) {
	// Nodes are listed in the order they were made, children first.
	b := &backend{nodes: graph.AllNodes(), root: -1}
	at := make(map[int64]int, len(b.nodes))
	for i, n := range b.nodes {
		at[n.ID()] = i
	}
	b.args = make([][]int, len(b.nodes))
	b.last = make([]int, len(b.nodes))
	for i, n := range b.nodes {
		b.last[i] = -1
		children := graph.From(n.ID())
		for children != nil && children.Next() {
			c, ok := at[children.Node().ID()]
			if !ok || c >= i {
				return nil, errors.New("the backend's graph is not in order")
			}
			b.args[i] = append(b.args[i], c)
			b.last[c] = i
		}
	}
	b.leaf = make([]int, len(given))
	for k, t := range given {
		b.leaf[k] = -1
		for i, n := range b.nodes {
			if len(b.args[i]) == 0 && n.Value() == gorgonia.Value(t) {
				b.leaf[k] = i
			}
		}
	}
	for i := range b.nodes {
		if b.last[i] >= 0 {
			continue
		}
		if len(b.args[i]) == 0 {
			// An input that is only needed while the graph is made.
			continue
		}
		if b.root >= 0 {
			return nil, errors.New("the backend's graph has more than one result")
		}
		b.root = i
	}
	if b.root < 0 {
		return nil, errors.New("the backend's graph has no result")
	}
	b.shape = append([]int(nil), b.nodes[b.root].Shape()...)
	return b, nil
}

// placeholder has the shape of an input and no memory to speak of; it stands for
// the input while a graph is made.
type placeholder struct {
	tensor.Tensor
	shape tensor.Shape
}

func newPlaceholder(shape []int) *placeholder {
	one := tensor.New(tensor.WithShape(1), tensor.WithBacking(make([]float32, 1)))
	return &placeholder{one, append([]int(nil), shape...)}
}

func (p *placeholder) Shape() tensor.Shape { return p.shape }
func (p *placeholder) Dims() int           { return len(p.shape) }

// run evaluates the node. The result is new memory or that of an input.
func (b *backend) run(in []*value) (out *value, err error) {
	defer catch(&err)
	vals := make([]gorgonia.Value, len(b.nodes))
	for i, n := range b.nodes {
		if len(b.args[i]) == 0 {
			vals[i] = n.Value()
		}
	}
	for k, i := range b.leaf {
		if i >= 0 {
			vals[i] = in[k].dense()
		}
	}
	args := make([]gorgonia.Value, 0, 4)
	for i, n := range b.nodes {
		if len(b.args[i]) == 0 {
			continue
		}
		args = args[:0]
		for _, c := range b.args[i] {
			args = append(args, vals[c])
		}
		if vals[i], err = n.Op().Do(args...); err != nil {
			return nil, err
		}
		for _, c := range b.args[i] {
			if b.last[c] == i {
				vals[c] = nil
			}
		}
	}
	return fromGorgonia(vals[b.root])
}

// dense returns v as a tensor of its own over the same memory: Gorgonia turns
// and untuns operands in place, so headers may not be shared.
func (v *value) dense() *tensor.Dense {
	if len(v.shape) > 0 {
		return tensor.New(tensor.WithShape(append([]int(nil), v.shape...)...), tensor.WithBacking(v.data))
	}
	if ints := v.ints(); ints != nil {
		return tensor.New(tensor.FromScalar(ints[0]))
	}
	return tensor.New(tensor.FromScalar(v.floats()[0]))
}

// fromGorgonia returns the value of a float tensor, in row-major order.
func fromGorgonia(v gorgonia.Value) (*value, error) {
	if d, ok := v.(*tensor.Dense); ok {
		if d.IsView() || d.RequiresIterator() || d.DataOrder().IsColMajor() {
			v = d.Materialize().(*tensor.Dense)
		}
	}
	var data []float32
	switch d := v.Data().(type) {
	case []float32:
		data = d
	case float32:
		data = []float32{d}
	default:
		return nil, fmt.Errorf("the backend returned %T", d)
	}
	out := floatValue(data, append([]int(nil), v.Shape()...)...)
	if n := size(out.shape); n != len(data) {
		return nil, fmt.Errorf("the backend returned %d elements for shape %v", len(data), out.shape)
	}
	return out, nil
}

// call is a kernel that an operator of the backend computes, with inputs adapted
// to it.
type call struct {
	back *backend
	in   []adapted
	spec
}

// adapted is an input of the backend: that of the node under another shape.
type adapted struct {
	operand
	// copied gives the backend memory of its own, because it overwrites this
	// input.
	copied bool
	// spread broadcasts the input to the shape; implies copied. zero takes
	// zeros where the node has no such input.
	spread, zero bool
}

// reshaped is an input under another shape.
func reshaped(o operand, shape []int) adapted {
	if o.constant != nil {
		o.constant = o.constant.withShape(shape)
	}
	o.shape = shape
	return adapted{operand: o}
}

// adapt makes a kernel of the backend whose inputs are adapted first; the result
// gets the given shape, its own when that is nil.
func (b *binder) adapt(op string, attributes map[string]any, in []adapted, shape []int) (kernel, error) {
	operands := make([]operand, len(in))
	for i, a := range in {
		operands[i] = a.operand
		if a.constant != nil && (a.copied || a.spread) {
			operands[i].constant = nil
		}
	}
	back, err := newBackend(op, attributes, operands)
	if err != nil {
		return nil, err
	}
	if shape == nil {
		shape = back.shape
	} else if size(shape) != size(back.shape) {
		return nil, fmt.Errorf("the backend makes shape %v where %v is due", back.shape, shape)
	}
	return &call{back, in, spec{onnxfile.Float, shape}}, nil
}

func (k *call) results() []spec { return []spec{k.spec} }

func (k *call) run(_ *run, in, out []*value) error {
	args := make([]*value, len(k.in))
	for i, a := range k.in {
		switch {
		case a.zero:
			args[i] = floatValue(make([]float32, size(a.shape)), a.shape...)
		case a.spread:
			args[i] = spread(in[i], a.shape)
		case a.copied:
			args[i] = floatValue(append([]float32(nil), in[i].floats()...), a.shape...)
		default:
			args[i] = in[i].withShape(a.shape)
		}
	}
	made, err := k.back.run(args)
	if err != nil {
		return err
	}
	if len(made.floats()) != size(k.shape) {
		return fmt.Errorf("the backend returned shape %v", made.shape)
	}
	copy(out[0].floats(), made.floats())
	return nil
}

// spread broadcasts v to a matrix of the given shape, in new memory. v has at
// most two dimensions, each 1 or that of the matrix.
func spread(v *value, shape []int) *value {
	rows, cols := shape[0], shape[1]
	rowStep, colStep := 0, 0
	if n := len(v.shape); n > 0 && v.shape[n-1] != 1 {
		colStep = 1
	}
	if n := len(v.shape); n > 1 && v.shape[0] != 1 {
		rowStep = v.shape[1]
	}
	out := make([]float32, rows*cols)
	for i := range rows {
		row := out[i*cols : (i+1)*cols]
		if colStep == 1 {
			copy(row, v.floats()[i*rowStep:])
			continue
		}
		for j := range row {
			row[j] = v.floats()[i*rowStep]
		}
	}
	return floatValue(out, shape...)
}

// catch, deferred, turns a panic of the libraries into an error and their errors
// into lines that can be printed.
func catch(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("internal error: %s", oneLine(fmt.Sprint(v)))
	} else if *err != nil {
		*err = errors.New(message(*err))
	}
}

// message is err's text. onnx-go returns typed nil pointers as errors (for
// shapes that do not broadcast), which panic when they are printed.
func message(err error) (s string) {
	defer func() {
		if recover() != nil {
			s = "the backend refuses these shapes without saying why"
		}
	}()
	return oneLine(err.Error())
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
