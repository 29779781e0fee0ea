package gorgonia

import (
	"context"
	"errors"
	"fmt"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"google.golang.org/protobuf/proto"
)

// readProgram lowers the graph of f and reads the constants that it needs.
func readProgram(ctx context.Context, f *onnxfile.File, w *compute.Workers) (*program, error) {
	g := f.Model.Graph
	l := &lowering{file: f, opset: modelOpset(f.Model), names: make(map[string]int), alias: make(map[string]string), stored: make(map[string]*onnxpb.TensorProto)}
	if err := l.storedTensors(g); err != nil {
		return nil, err
	}
	p := &program{prepared: prepared{make(map[preparedKey]any)}}
	var err error
	if p.nodes, err = l.nodes(g); err != nil {
		return nil, err
	}
	if p.inputs, err = l.ports("input", g.Input); err != nil {
		return nil, err
	}
	if p.outputs, err = l.ports("output", g.Output); err != nil {
		return nil, err
	}
	if len(p.outputs) == 0 {
		return nil, errors.New("the graph has no outputs")
	}
	if err := l.readConstants(ctx, p); err != nil {
		return nil, err
	}
	if err := p.order(); err != nil {
		return nil, err
	}
	if err := p.fold(ctx, w); err != nil {
		return nil, err
	}
	p.fuse()
	return p, nil
}

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
		return lacking("the graph has sparse initializers")
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
	initial := make(map[string]bool)
	for _, t := range g.Initializer {
		initial[t.GetName()] = true
	}
	alien := make(map[string]bool) // inputs that cannot be held
	for _, v := range g.Input {
		initial[v.GetName()] = true
		_, held := storageFor(onnxfile.DType(v.GetType().GetTensorType().GetElemType()))
		alien[v.GetName()] = !held
	}
	for i, n := range g.Node {
		for _, out := range n.Output {
			if out == "" {
				continue
			}
			if _, twice := producer[out]; twice || initial[out] {
				return nil, fmt.Errorf("node %d %q (%s): tensor %q has a value already", i, n.GetName(), n.GetOpType(), out)
			}
			producer[out] = i
		}
	}
	needed := make([]bool, len(g.Node))
	read := make(map[string]bool)
	var open []string
	for _, v := range g.Output {
		open = append(open, v.GetName())
	}
	for len(open) > 0 {
		name := open[len(open)-1]
		open = open[:len(open)-1]
		read[name] = true
		i, ok := producer[name]
		if _, stored := l.stored[name]; !ok || stored || needed[i] {
			continue
		}
		needed[i] = true
		open = append(open, g.Node[i].Input...)
	}
	for i, n := range g.Node {
		if needed[i] && l.transparent(n, read) && !alien[n.Input[0]] {
			l.alias[n.Output[0]] = n.Input[0]
		}
	}
	var live []*node
	known := rules()
	for i, n := range g.Node {
		if !needed[i] || len(n.Output) > 0 && l.alias[n.Output[0]] != "" {
			continue
		}
		made := &node{index: i, name: n.GetName(), op: n.GetOpType(), opset: l.opset, attributes: make(attributes)}
		if !standardDomain(n.GetDomain()) {
			made.op = n.GetDomain() + "." + made.op
		}
		for _, a := range n.Attribute {
			made.attributes[a.GetName()] = a
		}
		for _, in := range n.Input {
			made.in = append(made.in, l.tensor(in))
		}
		for len(made.in) > 0 && made.in[len(made.in)-1] < 0 {
			made.in = made.in[:len(made.in)-1] // as if it were not listed
		}
		for _, out := range n.Output {
			if !read[out] {
				out = ""
			}
			made.out = append(made.out, l.tensor(out))
		}
		// A Split without lengths cuts by the number of its outputs, read or not.
		for made.op != "Split" && len(made.out) > 1 && made.out[len(made.out)-1] < 0 {
			made.out = made.out[:len(made.out)-1]
		}
		made.rule = known[made.op]
		live = append(live, made)
	}
	return live, nil
}

// transparent says whether n only passes its first input on, as far as its outputs
// are read.
func (l *lowering) transparent(n *onnxpb.NodeProto, read map[string]bool) bool {
	if !standardDomain(n.GetDomain()) || len(n.Input) == 0 || n.Input[0] == "" || n.Output[0] == "" {
		return false
	}
	for _, out := range n.Output[1:] {
		if out != "" && read[out] {
			return false
		}
	}
	switch n.GetOpType() {
	case "Identity":
		return len(n.Input) == 1
	case "Dropout":
		// An attribute or an input may put it into training mode, in older operator
		// sets and in newer ones.
		return knownOpset(l.opset) == nil && (len(n.Input) < 3 || n.Input[2] == "")
	}
	return false
}

// tensor returns the number of the tensor that a name stands for, -1 for "".
func (l *lowering) tensor(name string) int {
	if name == "" {
		return -1
	}
	// A cycle of aliases ends after as many steps as there are.
	root := name
	for range l.alias {
		next, ok := l.alias[root]
		if !ok {
			break
		}
		root = next
	}
	for name != root { // so that chains are followed once
		next := l.alias[name]
		l.alias[name] = root
		name = next
	}
	t, ok := l.names[root]
	if !ok {
		t = len(l.names)
		l.names[root] = t
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
		if v.GetType() != nil && t == nil || dtype == 0 && kind == "input" {
			dtype = noTensor
		}
		// Nodes that read what cannot be held are refused when they are planned.
		p := port{Value: engine.Value{Name: name, DType: typeName(v.GetType())}, dtype: dtype, tensor: l.tensor(name)}
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

// noTensor stands for the type of a sequence, a map and the like, and for one that
// the file does not state where it must.
const noTensor = onnxfile.DType(-1)

// typeName is the ONNX name of a type, "" for one that is not stated.
func typeName(t *onnxpb.TypeProto) string {
	switch t.GetValue().(type) {
	case *onnxpb.TypeProto_SequenceType:
		return "sequence"
	case *onnxpb.TypeProto_MapType:
		return "map"
	case *onnxpb.TypeProto_OptionalType:
		return "optional"
	case *onnxpb.TypeProto_SparseTensorType:
		return "sparse tensor"
	}
	if d := onnxfile.DType(t.GetTensorType().GetElemType()); d != 0 {
		return d.String()
	}
	return ""
}

// readConstants reads the stored tensors that p needs, each once.
func (l *lowering) readConstants(ctx context.Context, p *program) error {
	p.constants = make([]*value, len(l.names))
	names := make([]string, len(l.names))
	for name, t := range l.names {
		names[t] = name
	}
	for t, name := range names {
		proto := l.stored[name]
		if proto == nil {
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
		n.program = p
	}
	return nil
}
