package gorgonia

import (
	"container/heap"
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
	newestOpset = 28
)

// maxSteps bounds the nodes of a graph; the largest published classifiers have
// a few thousand.
const maxSteps = 1 << 20

// program is a lowered graph, its nodes in an order in which they can run.
// Tensors are numbered; constants hold the values of those that are known
// whatever the graph is fed.
type program struct {
	inputs, outputs []port
	nodes           []*node
	constants       []*value // by tensor, nil when it is computed
	prepared        prepared
}

// port is an input or output of the graph and the number of its tensor.
type port struct {
	engine.Value
	dtype  onnxfile.DType // 0 for an output whose type the file does not state, noTensor for what is none
	tensor int
}

// node is one operator of the lowered graph.
type node struct {
	index    int // in the file
	name, op string
	opset    int64
	attributes
	in      []int // tensors, -1 for an optional input that is left out
	out     []int // tensors, -1 for an output that nothing reads
	rule    rule
	then    epilogue // what a rule that says so does with the first output
	program *program
}

func (n *node) String() string { return fmt.Sprintf("node %d %q (%s)", n.index, n.name, n.op) }

func (n *node) unsupported(reason string) Unsupported {
	return Unsupported{Index: n.index, Node: n.name, Op: n.op, Reason: reason}
}

// param returns the constant behind input i, nil when it is computed or absent.
func (n *node) param(i int) *value {
	if i < len(n.in) && n.in[i] >= 0 {
		return n.program.constants[n.in[i]]
	}
	return nil
}

// check refuses what can be refused without knowing shapes.
func (p *program) check() error {
	fed := make(map[int]onnxfile.DType)
	for _, in := range p.inputs {
		fed[in.tensor] = in.dtype
	}
	var bad []Unsupported
	for _, n := range p.nodes {
		err := n.check()
		for i, t := range n.in {
			if d, ok := fed[t]; ok && err == nil {
				err = n.rule.accepts(i, d)
			}
		}
		if err != nil {
			bad = append(bad, n.unsupported(err.Error()))
		}
	}
	return unsupported(bad)
}

// unsupported returns an error that lists nodes in the order of the file, nil
// when there are none.
func unsupported(bad []Unsupported) error {
	if len(bad) == 0 {
		return nil
	}
	slices.SortStableFunc(bad, func(a, b Unsupported) int { return a.Index - b.Index })
	return &UnsupportedError{Nodes: bad}
}

// lacking returns an *UnsupportedError that is no single node's matter.
func lacking(format string, a ...any) error {
	return &UnsupportedError{Reason: fmt.Sprintf(format, a...)}
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
			case d >= 0:
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

// describe gives outputs whose type the file does not state the type that they
// have in a plan.
func (p *program) describe(pl *plan) {
	for i := range p.outputs {
		out := &p.outputs[i]
		out.dtype = pl.specs[out.tensor].dtype
		out.DType = out.dtype.String()
	}
}

// order sorts the nodes so that each follows what it reads, keeping the order
// of the file where that is free.
func (p *program) order() error {
	have := make([]bool, len(p.constants))
	for t, c := range p.constants {
		have[t] = c != nil
	}
	for _, in := range p.inputs {
		have[in.tensor] = true
	}
	readers := make([][]int, len(p.constants))
	missing := make([]int, len(p.nodes))
	var ready indices
	for i, n := range p.nodes {
		for _, t := range n.in {
			if t >= 0 && !have[t] {
				readers[t] = append(readers[t], i)
				missing[i]++
			}
		}
		if missing[i] == 0 {
			ready = append(ready, i) // sorted, and so a heap
		}
	}
	sorted := make([]*node, 0, len(p.nodes))
	for len(ready) > 0 {
		n := p.nodes[heap.Pop(&ready).(int)]
		sorted = append(sorted, n)
		for _, out := range n.out {
			if out < 0 {
				continue
			}
			have[out] = true
			for _, i := range readers[out] {
				if missing[i]--; missing[i] == 0 {
					heap.Push(&ready, i)
				}
			}
		}
	}
	if len(sorted) < len(p.nodes) {
		for i, n := range p.nodes {
			if missing[i] > 0 {
				return fmt.Errorf("%s reads a tensor that nothing computes before it", n)
			}
		}
	}
	for _, out := range p.outputs {
		if !have[out.tensor] {
			return fmt.Errorf("output %q is computed by no node", out.Name)
		}
	}
	p.nodes = sorted
	return nil
}

// indices is a heap of positions, the first one on top.
type indices []int

func (h indices) Len() int           { return len(h) }
func (h indices) Less(i, j int) bool { return h[i] < h[j] }
func (h indices) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *indices) Push(x any)        { *h = append(*h, x.(int)) }

func (h *indices) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// readers counts how often each tensor is read, by nodes and as an output.
func (p *program) readers() []int {
	count := make([]int, len(p.constants))
	for _, n := range p.nodes {
		for _, t := range n.in {
			if t >= 0 {
				count[t]++
			}
		}
	}
	for _, out := range p.outputs {
		count[out.tensor]++
	}
	return count
}

// dropUnread forgets constants that nothing reads any more.
func (p *program) dropUnread() {
	for t, n := range p.readers() {
		if n == 0 {
			p.constants[t] = nil
		}
	}
}

func standardDomain(d string) bool { return d == "" || d == "ai.onnx" }

// modelOpset returns the version of the ai.onnx operator set, 0 when the model names
// none.
func modelOpset(m *onnxpb.ModelProto) int64 {
	for _, o := range m.OpsetImport {
		if standardDomain(o.GetDomain()) {
			return o.GetVersion()
		}
	}
	return 0
}

// knownOpset refuses an operator set that the rules do not know.
func knownOpset(v int64) error {
	if v == 0 {
		return errors.New("the model names no version of the ai.onnx operator set")
	}
	if v < oldestOpset || v > newestOpset {
		return fmt.Errorf("operator set %d is not among those that are known, %d to %d", v, oldestOpset, newestOpset)
	}
	return nil
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

// ints returns n integers that are not negative, all of them missing when the
// attribute is absent.
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
