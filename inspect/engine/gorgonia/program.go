package gorgonia

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// The operator sets whose forms the rules know.
const (
	oldestOpset = 7
	newestOpset = 22
)

// maxSteps bounds the nodes of a graph; the largest published classifiers have
// a few thousand.
const maxSteps = 1 << 20

// program is a lowered graph, its nodes in an order in which they can run.
// Tensors are numbered; constants hold the values of those that are known.
type program struct {
	inputs, outputs []port
	nodes           []*node
	constants       []*value // by tensor, nil when it is computed
	last            []int    // by tensor, the last node that reads it; len(nodes) for outputs, -1 for none
}

// port is an input or output of the graph and the number of its tensor.
type port struct {
	engine.Value
	tensor int
}

// node is one operator of the lowered graph.
type node struct {
	index    int // in the file
	name, op string
	opset    int64
	attributes
	in     []int // tensors, -1 for an optional input that is left out
	out    int
	extra  bool // it has more outputs than one
	rule   rule
	params []*value // constants among in, nil elsewhere
}

func (n *node) String() string { return fmt.Sprintf("node %d %q (%s)", n.index, n.name, n.op) }

func (n *node) unsupported(reason string) Unsupported {
	return Unsupported{Index: n.index, Node: n.name, Op: n.op, Reason: reason}
}

// param returns the constant behind input i, nil when it is computed or absent.
func (n *node) param(i int) *value {
	if i < len(n.params) {
		return n.params[i]
	}
	return nil
}

// readProgram lowers the graph of f and reads the constants that it needs.
func readProgram(ctx context.Context, f *onnxfile.File) (*program, error) {
	opset, err := modelOpset(f.Model)
	if err != nil {
		return nil, err
	}
	g := f.Model.Graph
	l := &lowering{file: f, opset: opset, names: make(map[string]int), alias: make(map[string]string), stored: make(map[string]*onnxpb.TensorProto)}
	if err := l.storedTensors(g); err != nil {
		return nil, err
	}
	live, err := l.nodes(g)
	if err != nil {
		return nil, err
	}
	p := new(program)
	if p.inputs, err = l.ports("input", g.Input); err != nil {
		return nil, err
	}
	if p.outputs, err = l.ports("output", g.Output); err != nil {
		return nil, err
	}
	if len(p.inputs) == 0 || len(p.outputs) == 0 {
		return nil, errors.New("the graph has no inputs or no outputs")
	}
	p.nodes = live
	if err := l.readConstants(ctx, p); err != nil {
		return nil, err
	}
	if err := l.order(p); err != nil {
		return nil, err
	}
	return p, nil
}

func modelOpset(m *onnxpb.ModelProto) (int64, error) {
	for _, o := range m.OpsetImport {
		if standardDomain(o.GetDomain()) {
			if v := o.GetVersion(); v >= oldestOpset && v <= newestOpset {
				return v, nil
			}
			return 0, fmt.Errorf("operator set %d is not among those that the pure-Go engine knows, %d to %d; run it on ONNX Runtime", o.GetVersion(), oldestOpset, newestOpset)
		}
	}
	return 0, errors.New("the model names no version of the ai.onnx operator set")
}

func standardDomain(d string) bool { return d == "" || d == "ai.onnx" }

// check refuses what can be refused without knowing shapes.
func (p *program) check() error {
	var bad []Unsupported
	for _, n := range p.nodes {
		if err := n.check(); err != nil {
			bad = append(bad, n.unsupported(err.Error()))
		}
	}
	if len(bad) > 0 {
		return &UnsupportedError{bad}
	}
	return nil
}

// sampleShapes returns the inputs' shapes for a batch of one; not ok when other
// dimensions than the first are symbolic.
func (p *program) sampleShapes() (shapes [][]int, ok bool) {
	for _, in := range p.inputs {
		if in.Shape == nil {
			return nil, false
		}
		s := make([]int64, len(in.Shape))
		for i, d := range in.Shape {
			switch {
			case d > 0:
				s[i] = d
			case d < 0 && i == 0:
				s[i] = 1
			default:
				return nil, false
			}
		}
		if _, err := checkedSize(s); err != nil {
			return nil, false
		}
		shapes = append(shapes, toInts(s))
	}
	return shapes, true
}

// plan is a program bound to shapes of its inputs.
type plan struct {
	kernels []kernel
	shapes  [][]int // by tensor
}

// plan binds every node to the shapes that its inputs have when the program's
// inputs have the given ones. It fails with an *UnsupportedError that lists all
// nodes that cannot be bound.
func (p *program) plan(inputs [][]int) (*plan, error) {
	pl := &plan{kernels: make([]kernel, len(p.nodes)), shapes: make([][]int, len(p.constants))}
	known := make([]bool, len(p.constants))
	for i, in := range p.inputs {
		pl.shapes[in.tensor], known[in.tensor] = inputs[i], true
	}
	for t, c := range p.constants {
		if c != nil {
			pl.shapes[t], known[t] = c.shape, true
		}
	}
	var bad []Unsupported
	b := new(binder)
nodes:
	for i, n := range p.nodes {
		if err := n.check(); err != nil {
			bad = append(bad, n.unsupported(err.Error()))
			continue
		}
		b.node, b.in = n, nil
		for k, t := range n.in {
			if t < 0 {
				continue
			}
			if !known[t] {
				continue nodes // a node before it is refused
			}
			b.in = append(b.in, operand{shape: pl.shapes[t], constant: n.params[k]})
		}
		k, err := b.bind()
		if err != nil {
			bad = append(bad, n.unsupported(err.Error()))
			continue
		}
		pl.kernels[i] = k
		pl.shapes[n.out], known[n.out] = k.outShape(), true
	}
	if len(bad) > 0 {
		slices.SortFunc(bad, func(a, b Unsupported) int { return a.Index - b.Index })
		return nil, &UnsupportedError{bad}
	}
	return pl, nil
}

// run evaluates the program on values of the shapes that it was planned for. A
// tensor is dropped as soon as no node needs it any more.
func (p *program) run(ctx context.Context, pl *plan, in []*value) ([]*value, error) {
	values := slices.Clone(p.constants)
	for i, port := range p.inputs {
		values[port.tensor] = in[i]
	}
	var args []*value
	for i, n := range p.nodes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		args = args[:0]
		for _, t := range n.in {
			if t >= 0 {
				args = append(args, values[t])
			}
		}
		v, err := pl.kernels[i].run(args)
		if err == nil && !slices.Equal(v.shape, pl.shapes[n.out]) {
			err = fmt.Errorf("the result has shape %v in place of %v", v.shape, pl.shapes[n.out])
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n, err)
		}
		values[n.out] = v
		for _, t := range n.in {
			if t >= 0 && p.last[t] == i {
				values[t] = nil
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]*value, len(p.outputs))
	for i, port := range p.outputs {
		out[i] = values[port.tensor]
	}
	return out, nil
}

func toInts(s []int64) []int {
	out := make([]int, len(s))
	for i, d := range s {
		out[i] = int(d)
	}
	return out
}

func toInt64s(s []int) []int64 {
	out := make([]int64, len(s))
	for i, d := range s {
		out[i] = int64(d)
	}
	return out
}

// attributes are those of a node in the file.
type attributes map[string]*onnxpb.AttributeProto

func (a attributes) integer(name string, missing int64) int64 {
	if p := a[name]; p != nil {
		return p.GetI()
	}
	return missing
}

func (a attributes) float(name string, missing float32) float32 {
	if p := a[name]; p != nil {
		return p.GetF()
	}
	return missing
}

func (a attributes) text(name string) string { return string(a[name].GetS()) }

// ints returns n integers, all of them missing when the attribute is absent.
func (a attributes) ints(name string, n int, missing int) ([]int, error) {
	p := a[name]
	if p == nil {
		return slices.Repeat([]int{missing}, n), nil
	}
	if len(p.Ints) != n {
		return nil, fmt.Errorf("%s holds %d numbers in place of %d", name, len(p.Ints), n)
	}
	for _, v := range p.Ints {
		if v < 0 || v > math.MaxInt32 {
			return nil, fmt.Errorf("%s holds %d", name, v)
		}
	}
	return toInts(p.Ints), nil
}
