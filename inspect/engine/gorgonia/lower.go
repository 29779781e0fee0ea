package gorgonia

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"google.golang.org/protobuf/proto"
)

// lowering turns a graph of the file into a program, exactly: nodes that no
// output needs are dropped, Constant nodes become stored tensors, Identity and
// Dropout (which does nothing outside training) become other names of their
// inputs.
type lowering struct {
	file  *onnxfile.File
	opset int64
	names map[string]int // tensors by name
	// alias maps the output of a node that was taken out to its input.
	alias  map[string]string
	stored map[string]*onnxpb.TensorProto
}

// storedTensors collects the graph's initializers and the values of its
// Constant nodes.
func (l *lowering) storedTensors(g *onnxpb.GraphProto) error {
	if len(g.SparseInitializer) > 0 {
		return errors.New("the graph has sparse initializers, which the pure-Go engine does not read; run it on ONNX Runtime")
	}
	for _, t := range g.Initializer {
		l.stored[t.GetName()] = t
	}
	for _, n := range g.Node {
		if n.GetOpType() != "Constant" || !standardDomain(n.GetDomain()) || len(n.Output) != 1 || len(n.Attribute) != 1 {
			continue
		}
		if t := constantTensor(n.Attribute[0]); t != nil {
			l.stored[n.Output[0]] = t
		}
	}
	return nil
}

// constantTensor returns the value of a Constant node, nil for the forms that
// the engine has no use for (strings, sparse tensors).
func constantTensor(a *onnxpb.AttributeProto) *onnxpb.TensorProto {
	float := proto.Int32(int32(onnxfile.Float))
	integer := proto.Int32(int32(onnxfile.Int64))
	switch a.GetName() {
	case "value":
		return a.T
	case "value_float":
		return &onnxpb.TensorProto{DataType: float, FloatData: []float32{a.GetF()}}
	case "value_floats":
		return &onnxpb.TensorProto{DataType: float, Dims: []int64{int64(len(a.Floats))}, FloatData: a.Floats}
	case "value_int":
		return &onnxpb.TensorProto{DataType: integer, Int64Data: []int64{a.GetI()}}
	case "value_ints":
		return &onnxpb.TensorProto{DataType: integer, Dims: []int64{int64(len(a.Ints))}, Int64Data: a.Ints}
	}
	return nil
}

// nodes returns the nodes that the outputs need, in the order of the file.
func (l *lowering) nodes(g *onnxpb.GraphProto) ([]*node, error) {
	if len(g.Node) > maxSteps {
		return nil, fmt.Errorf("the graph has %d nodes, more than %d", len(g.Node), maxSteps)
	}
	producer := make(map[string]int)
	for i, n := range g.Node {
		for _, out := range n.Output {
			if out == "" {
				continue
			}
			if _, twice := producer[out]; twice {
				return nil, fmt.Errorf("node %d %q (%s): tensor %q has been computed before", i, n.GetName(), n.GetOpType(), out)
			}
			producer[out] = i
		}
		if l.transparent(n) {
			l.alias[n.Output[0]] = n.Input[0]
		}
	}
	needed := make([]bool, len(g.Node))
	var open []string
	for _, v := range g.Output {
		open = append(open, v.GetName())
	}
	for len(open) > 0 {
		name := open[len(open)-1]
		open = open[:len(open)-1]
		i, ok := producer[name]
		if _, stored := l.stored[name]; !ok || stored || needed[i] {
			continue
		}
		needed[i] = true
		open = append(open, g.Node[i].Input...)
	}
	var live []*node
	known := rules()
	for i, n := range g.Node {
		if !needed[i] || len(n.Output) > 0 && l.alias[n.Output[0]] != "" {
			continue
		}
		made := &node{index: i, name: n.GetName(), op: n.GetOpType(), opset: l.opset, attributes: make(attributes), out: -1}
		if !standardDomain(n.GetDomain()) {
			made.op = n.GetDomain() + "." + made.op
		}
		for _, a := range n.Attribute {
			made.attributes[a.GetName()] = a
		}
		for _, in := range n.Input {
			made.in = append(made.in, l.tensor(in))
		}
		for k, out := range n.Output {
			t := l.tensor(out)
			switch {
			case k == 0:
				made.out = t
			case t >= 0:
				made.extra = true
			}
		}
		if made.out < 0 {
			return nil, fmt.Errorf("%s has no first output", made)
		}
		made.rule = known[made.op]
		live = append(live, made)
	}
	return live, nil
}

// transparent says whether n only passes its first input on.
func (l *lowering) transparent(n *onnxpb.NodeProto) bool {
	if !standardDomain(n.GetDomain()) || len(n.Input) == 0 || len(n.Output) == 0 || n.Input[0] == "" {
		return false
	}
	for _, out := range n.Output[1:] {
		if out != "" {
			return false
		}
	}
	switch n.GetOpType() {
	case "Identity":
		return len(n.Input) == 1
	case "Dropout":
		return len(n.Input) < 3 || n.Input[2] == "" // else training mode may be on
	}
	return false
}

// tensor returns the number of the tensor that a name stands for, -1 for "".
func (l *lowering) tensor(name string) int {
	if name == "" {
		return -1
	}
	// A cycle of aliases ends after as many steps as there are.
	for range l.alias {
		next, ok := l.alias[name]
		if !ok {
			break
		}
		name = next
	}
	t, ok := l.names[name]
	if !ok {
		t = len(l.names)
		l.names[name] = t
	}
	return t
}

// ports describes inputs or outputs. Inputs that the file has values for need
// not be fed.
func (l *lowering) ports(kind string, infos []*onnxpb.ValueInfoProto) ([]port, error) {
	var list []port
	seen := make(map[string]bool)
	for _, v := range infos {
		name := v.GetName()
		if _, stored := l.stored[name]; stored && kind == "input" {
			continue
		}
		if name == "" || seen[name] {
			return nil, fmt.Errorf("%s name %q is empty or not unique", kind, name)
		}
		seen[name] = true
		t := v.GetType().GetTensorType()
		dtype := onnxfile.DType(t.GetElemType())
		if t == nil || dtype != onnxfile.Float && !(dtype == 0 && kind == "output") {
			return nil, fmt.Errorf("%s %q has type %s; the pure-Go engine computes float tensors only", kind, name, dtype)
		}
		p := port{Value: engine.Value{Name: name, DType: "float"}, tensor: l.tensor(name)}
		if t.GetShape() != nil {
			p.Shape = []int64{}
			for _, d := range t.GetShape().GetDim() {
				size := int64(-1)
				if v, ok := d.GetValue().(*onnxpb.TensorShapeProto_Dimension_DimValue); ok && v.DimValue >= 0 {
					size = v.DimValue
				}
				p.Shape = append(p.Shape, size)
			}
		}
		list = append(list, p)
	}
	return list, nil
}

// readConstants reads the stored tensors that p needs, each once.
func (l *lowering) readConstants(ctx context.Context, p *program) error {
	p.constants = make([]*value, len(l.names))
	for name, proto := range l.stored {
		t, used := l.names[name]
		if !used {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		v, err := readConstant(l.file.Tensor(proto))
		if err != nil {
			return err
		}
		p.constants[t] = v
	}
	for _, n := range p.nodes {
		n.params = make([]*value, len(n.in))
		for i, t := range n.in {
			if t >= 0 {
				n.params[i] = p.constants[t]
			}
		}
	}
	for _, port := range p.outputs {
		if c := p.constants[port.tensor]; c != nil && c.floats == nil {
			return fmt.Errorf("output %q is a constant of another type than float", port.Name)
		}
	}
	return nil
}

// readConstant returns a tensor of floats or of int64. Other types give a value
// without numbers, for rules to refuse.
func readConstant(t onnxfile.Tensor) (*value, error) {
	n, err := checkedSize(t.Dims())
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.Name(), err)
	}
	v := &value{shape: toInts(t.Dims())}
	switch t.DType() {
	case onnxfile.Float:
		v.floats, err = t.Float32s(math.MaxInt64)
	case onnxfile.Int64:
		v.ints, err = t.Int64s(int64(min(n, maxInts)))
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// maxInts bounds constants that describe shapes.
const maxInts = 1 << 16

// order sorts the nodes so that each follows what it reads, keeping the order
// of the file where that is free, and finds the last reader of each tensor.
func (l *lowering) order(p *program) error {
	have := make([]bool, len(p.constants))
	for t, c := range p.constants {
		have[t] = c != nil
	}
	for _, in := range p.inputs {
		have[in.tensor] = true
	}
	readers := make([][]int, len(p.constants))
	missing := make([]int, len(p.nodes))
	var ready, sorted []*node
	for i, n := range p.nodes {
		for _, t := range n.in {
			if t >= 0 && !have[t] {
				readers[t] = append(readers[t], i)
				missing[i]++
			}
		}
		if missing[i] == 0 {
			ready = append(ready, n)
		}
	}
	for len(ready) > 0 {
		n := ready[0]
		ready = ready[1:]
		sorted = append(sorted, n)
		have[n.out] = true
		for _, i := range readers[n.out] {
			if missing[i]--; missing[i] == 0 {
				ready = append(ready, p.nodes[i])
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
	p.last = make([]int, len(p.constants))
	for t := range p.last {
		p.last[t] = -1
	}
	for i, n := range p.nodes {
		for _, t := range n.in {
			if t >= 0 {
				p.last[t] = i
			}
		}
	}
	for _, out := range p.outputs {
		p.last[out.tensor] = len(p.nodes)
	}
	return nil
}
