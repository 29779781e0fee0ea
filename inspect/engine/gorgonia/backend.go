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

// operand is what a node reads: its shape and, when it is constant, its value.
type operand struct {
	shape    []int
	constant *value
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

func (b *backend) outShape() []int { return b.shape }

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

// catch, deferred, turns a panic of the libraries into an error and their errors
// into lines that can be printed.
func catch(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("the backend panicked: %s", oneLine(fmt.Sprint(v)))
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
