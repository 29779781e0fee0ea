package gradient

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// builder adds nodes of known shapes to a graph. Names of its own begin with a
// prefix that no name of the model has.
type builder struct {
	d      *onnxfile.Draft
	g      *onnxpb.GraphProto
	opset  int64
	prefix string
	n      int
	// shape holds the shapes of all tensors that are known.
	shape map[string][]int64
	// constants finds a constant by its content, so that each is stored once.
	constants map[string]string
}

func (b *builder) fresh() string {
	b.n++
	return fmt.Sprintf("%s%d", b.prefix, b.n)
}

// op adds an operator with one output of the given shape and returns its name.
func (b *builder) op(op string, shape []int64, in []string, attrs ...*onnxpb.AttributeProto) string {
	out := b.fresh()
	b.g.Node = append(b.g.Node, &onnxpb.NodeProto{
		OpType: proto.String(op), Name: proto.String(out), Input: slices.Clone(in), Output: []string{out}, Attribute: attrs,
	})
	b.shape[out] = shape
	return out
}

// call gives the tensor x, which the builder made, the name that the model has for it.
func (b *builder) call(x, name string) {
	b.shape[name] = b.shape[x]
	if last := b.g.Node[len(b.g.Node)-1]; last.Output[0] == x && strings.HasPrefix(x, b.prefix) {
		last.Output[0] = name
		return
	}
	b.g.Node = append(b.g.Node, &onnxpb.NodeProto{
		OpType: proto.String("Identity"), Name: proto.String(b.fresh()), Input: []string{x}, Output: []string{name},
	})
}

func attrInt(name string, v int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func attrInts(name string, v ...int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INTS.Enum(), Ints: v}
}

func attrFloat(name string, v float32) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_FLOAT.Enum(), F: proto.Float32(v)}
}

func attrString(name, v string) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_STRING.Enum(), S: []byte(v)}
}

// constant stores a tensor once.
func (b *builder) constant(dtype onnxfile.DType, data []byte, dims []int64) string {
	key := fmt.Sprint(dtype, dims, ":") + string(data)
	if name, ok := b.constants[key]; ok {
		return name
	}
	name := b.fresh()
	t := &onnxpb.TensorProto{Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(dtype))}
	b.d.SetRaw(t, onnxfile.BytesContent(data))
	b.g.Initializer = append(b.g.Initializer, t)
	b.constants[key] = name
	b.shape[name] = dims
	return name
}

// floats returns a constant; without dims it is a scalar.
func (b *builder) floats(v []float32, dims ...int64) string {
	data := make([]byte, 0, 4*len(v))
	for _, x := range v {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
	}
	return b.constant(onnxfile.Float, data, dims)
}

func (b *builder) scalar(v float64) string { return b.floats([]float32{float32(v)}) }

// ints returns a constant vector.
func (b *builder) ints(v ...int64) string {
	data := make([]byte, 0, 8*len(v))
	for _, x := range v {
		data = binary.LittleEndian.AppendUint64(data, uint64(x))
	}
	return b.constant(onnxfile.Int64, data, []int64{int64(len(v))})
}

// input adds an input of the graph.
func (b *builder) input(name string, dims ...int64) string {
	b.g.Input = append(b.g.Input, valueInfo(name, dims))
	b.shape[name] = dims
	return name
}

// output makes a tensor an output of the graph.
func (b *builder) output(name string) string {
	b.g.Output = append(b.g.Output, valueInfo(name, b.shape[name]))
	return name
}

func valueInfo(name string, dims []int64) *onnxpb.ValueInfoProto {
	shape := &onnxpb.TensorShapeProto{}
	for _, d := range dims {
		shape.Dim = append(shape.Dim, &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
	}
	return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxfile.Float)), Shape: shape},
	}}}
}

// broadcast returns the shape that two shapes have together, as in numpy.
func broadcast(a, b []int64) []int64 {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	for i, d := range b {
		if j := len(a) - len(b) + i; out[j] == 1 {
			out[j] = d
		}
	}
	return out
}

func (b *builder) binary(op, x, y string) string {
	return b.op(op, broadcast(b.shape[x], b.shape[y]), []string{x, y})
}

func (b *builder) add(x, y string) string { return b.binary("Add", x, y) }
func (b *builder) sub(x, y string) string { return b.binary("Sub", x, y) }
func (b *builder) mul(x, y string) string { return b.binary("Mul", x, y) }
func (b *builder) div(x, y string) string { return b.binary("Div", x, y) }

func (b *builder) unary(op, x string, attrs ...*onnxpb.AttributeProto) string {
	return b.op(op, b.shape[x], []string{x}, attrs...)
}

// is returns 1 where x and y compare as op says ("Greater", "Less", "Equal"), else 0.
func (b *builder) is(op, x, y string) string {
	return b.unary("Cast", b.binary(op, x, y), attrInt("to", int64(onnxfile.Float)))
}

func (b *builder) reshape(x string, dims ...int64) string {
	if slices.Equal(b.shape[x], dims) {
		return x
	}
	return b.op("Reshape", dims, []string{x, b.ints(dims...)})
}

func (b *builder) transpose(x string, perm ...int64) string {
	s := make([]int64, len(perm))
	for i, p := range perm {
		s[i] = b.shape[x][p]
	}
	return b.op("Transpose", s, []string{x}, attrInts("perm", perm...))
}

// sum adds up x over axes.
func (b *builder) sum(x string, keep bool, axes ...int64) string {
	var s []int64
	for i, d := range b.shape[x] {
		if !slices.Contains(axes, int64(i)) {
			s = append(s, d)
		} else if keep {
			s = append(s, 1)
		}
	}
	k := attrInt("keepdims", 0)
	if keep {
		k = attrInt("keepdims", 1)
	}
	if b.opset < 13 {
		return b.op("ReduceSum", s, []string{x}, attrInts("axes", axes...), k)
	}
	return b.op("ReduceSum", s, []string{x, b.ints(axes...)}, k)
}

// slice cuts [from, to) in steps out of axes.
func (b *builder) slice(x string, axes, from, to, steps []int64) string {
	s := slices.Clone(b.shape[x])
	whole, plain := true, true
	for i, a := range axes {
		whole = whole && from[i] == 0 && to[i] == s[a] && steps[i] == 1
		plain = plain && steps[i] == 1
		s[a] = (to[i] - from[i] + steps[i] - 1) / steps[i]
	}
	if whole {
		return x
	}
	if b.opset >= 10 {
		in := []string{x, b.ints(from...), b.ints(to...), b.ints(axes...)}
		if !plain {
			in = append(in, b.ints(steps...))
		}
		return b.op("Slice", s, in)
	}
	if plain {
		return b.op("Slice", s, []string{x}, attrInts("starts", from...), attrInts("ends", to...), attrInts("axes", axes...))
	}
	// Before opset 10 there are no steps: rows are gathered, axis by axis.
	for i, a := range axes {
		var rows []int64
		for p := from[i]; p < to[i]; p += steps[i] {
			rows = append(rows, p)
		}
		g := slices.Clone(b.shape[x])
		g[a] = int64(len(rows))
		x = b.op("Gather", g, []string{x, b.ints(rows...)}, attrInt("axis", a))
	}
	return x
}

// pad puts zeros around x: before and after each axis.
func (b *builder) pad(x string, before, after []int64) string {
	s := slices.Clone(b.shape[x])
	none := true
	for i := range s {
		s[i] += before[i] + after[i]
		none = none && before[i] == 0 && after[i] == 0
	}
	if none {
		return x
	}
	pads := append(slices.Clone(before), after...)
	if b.opset < 11 {
		return b.op("Pad", s, []string{x}, attrInts("pads", pads...))
	}
	return b.op("Pad", s, []string{x, b.ints(pads...)})
}

// fit pads x with zeros or cuts it, per axis.
func (b *builder) fit(x string, before, after []int64) string {
	s := b.shape[x]
	n := len(s)
	var axes, from, to, steps []int64
	pb, pa := make([]int64, n), make([]int64, n)
	for i := range n {
		pb[i], pa[i] = max(0, before[i]), max(0, after[i])
		if before[i] < 0 || after[i] < 0 {
			axes = append(axes, int64(i))
			from = append(from, max(0, -before[i]))
			to = append(to, s[i]-max(0, -after[i]))
			steps = append(steps, 1)
		}
	}
	if len(axes) > 0 {
		x = b.slice(x, axes, from, to, steps)
	}
	return b.pad(x, pb, pa)
}

// spread puts step-1 zeros behind every element along an axis, whose size becomes
// step times what it was.
func (b *builder) spread(x string, axis int, step int64) string {
	if step == 1 {
		return x
	}
	s := b.shape[x]
	split := slices.Insert(slices.Clone(s), axis+1, 1)
	before, after := make([]int64, len(split)), make([]int64, len(split))
	after[axis+1] = step - 1
	x = b.pad(b.reshape(x, split...), before, after)
	joined := slices.Clone(s)
	joined[axis] *= step
	return b.reshape(x, joined...)
}

func (b *builder) concat(axis int64, parts ...string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	s := slices.Clone(b.shape[parts[0]])
	for _, p := range parts[1:] {
		s[axis] += b.shape[p][axis]
	}
	return b.op("Concat", s, parts, attrInt("axis", axis))
}

// matmul multiplies matrices or, with leading dimensions, stacks of them.
func (b *builder) matmul(x, y string) string {
	sx, sy := b.shape[x], b.shape[y]
	s := broadcast(sx[:len(sx)-2], sy[:len(sy)-2])
	return b.op("MatMul", append(s, sx[len(sx)-2], sy[len(sy)-1]), []string{x, y})
}

// gemm is alpha op(x) op(y) of two matrices.
func (b *builder) gemm(x, y string, transX, transY bool, alpha float32) string {
	m, n := b.shape[x][0], b.shape[y][1]
	attrs := []*onnxpb.AttributeProto{}
	if transX {
		m = b.shape[x][1]
		attrs = append(attrs, attrInt("transA", 1))
	}
	if transY {
		n = b.shape[y][0]
		attrs = append(attrs, attrInt("transB", 1))
	}
	if alpha != 1 {
		attrs = append(attrs, attrFloat("alpha", alpha))
	}
	in := []string{x, y}
	if b.opset < 11 {
		in = append(in, b.floats([]float32{0}, 1))
	}
	return b.op("Gemm", []int64{m, n}, in, attrs...)
}

// reduceTo adds up what broadcasting a tensor of the shape made several of.
func (b *builder) reduceTo(x string, shape []int64) string {
	s := b.shape[x]
	var axes []int64
	lead := len(s) - len(shape)
	for i, d := range s {
		if i < lead || shape[i-lead] == 1 && d != 1 {
			axes = append(axes, int64(i))
		}
	}
	if len(axes) > 0 {
		x = b.sum(x, true, axes...)
	}
	return b.reshape(x, shape...)
}

// total adds up tensors of one shape.
func (b *builder) total(parts []string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	if len(parts) == 2 {
		return b.add(parts[0], parts[1])
	}
	return b.op("Sum", b.shape[parts[0]], parts)
}

func elements(dims []int64) int64 {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}

// freePrefix returns a prefix that no name of the graph has.
func freePrefix(g *inspect.Graph, p *onnxpb.GraphProto) string {
	prefix := "gradient."
	taken := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, prefix) })
	}
	used := func() bool {
		for _, inner := range g.All() {
			for _, n := range inner.Nodes {
				if taken(n.Name) || taken(n.Inputs...) || taken(n.Outputs...) {
					return true
				}
			}
		}
		return slices.ContainsFunc(p.GetInitializer(), func(t *onnxpb.TensorProto) bool { return taken(t.GetName()) }) ||
			slices.ContainsFunc(p.GetInput(), func(v *onnxpb.ValueInfoProto) bool { return taken(v.GetName()) })
	}
	for used() {
		prefix = "_" + prefix
	}
	return prefix
}
