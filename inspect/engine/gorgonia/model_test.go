package gorgonia

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"google.golang.org/protobuf/proto"
)

// An arg is an input of the node under test: drawn numbers of the given shape,
// fed to the graph or stored in it, or int64 constants.
type arg struct {
	shape []int64
	// stored makes it an initializer.
	stored bool
	ints   []int64
	floats []float32
	// absent stands for an optional input that is left out.
	absent bool
	// positive draws from (0, 1] in place of a normal distribution.
	positive bool
}

func fed(shape ...int64) arg    { return arg{shape: shape} }
func stored(shape ...int64) arg { return arg{shape: shape, stored: true} }
func positive(shape ...int64) arg {
	return arg{shape: shape, stored: true, positive: true}
}
func ints(v ...int64) arg {
	return arg{shape: []int64{int64(len(v))}, stored: true, ints: v}
}

func (a arg) values(r *rand.Rand) []float32 {
	if a.floats != nil {
		return a.floats
	}
	v := make([]float32, engine.Elements(a.shape))
	for i := range v {
		v[i] = float32(r.NormFloat64())
		if a.positive {
			v[i] = 1 - r.Float32()
		}
	}
	return v
}

type attrs map[string]any

func (a attrs) proto() []*onnxpb.AttributeProto {
	var list []*onnxpb.AttributeProto
	for name, v := range a {
		p := &onnxpb.AttributeProto{Name: proto.String(name)}
		switch v := v.(type) {
		case int:
			p.I, p.Type = proto.Int64(int64(v)), onnxpb.AttributeProto_INT.Enum()
		case []int64:
			p.Ints, p.Type = v, onnxpb.AttributeProto_INTS.Enum()
		case float32:
			p.F, p.Type = proto.Float32(v), onnxpb.AttributeProto_FLOAT.Enum()
		case string:
			p.S, p.Type = []byte(v), onnxpb.AttributeProto_STRING.Enum()
		case *onnxpb.TensorProto:
			p.T, p.Type = v, onnxpb.AttributeProto_TENSOR.Enum()
		default:
			panic(fmt.Sprintf("attribute of type %T", v))
		}
		list = append(list, p)
	}
	return list
}

// backendForm is attributes as onnx-go hands them to the backend.
func (a attrs) backendForm() map[string]any {
	m := make(map[string]any)
	for name, v := range a {
		if i, ok := v.(int); ok {
			v = int64(i)
		}
		m[name] = v
	}
	return m
}

// A net is a graph in the making.
type net struct {
	t     testing.TB
	draft *onnxfile.Draft
	g     *onnxpb.GraphProto
	opset int64
}

func newNet(t testing.TB, opset int64) *net {
	g := &onnxpb.GraphProto{Name: proto.String("test")}
	m := &onnxpb.ModelProto{
		IrVersion:   proto.Int64(8),
		Graph:       g,
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(opset)}},
	}
	return &net{t, onnxfile.NewDraft(m), g, opset}
}

func valueInfo(name string, dtype onnxfile.DType, dims ...any) *onnxpb.ValueInfoProto {
	shape := new(onnxpb.TensorShapeProto)
	for _, d := range dims {
		dim := new(onnxpb.TensorShapeProto_Dimension)
		switch d := d.(type) {
		case int64:
			dim.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}
		case int:
			dim.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}
		case string:
			dim.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: d}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(dtype)), Shape: shape},
	}}}
}

func (n *net) input(name string, dims ...any) {
	n.g.Input = append(n.g.Input, valueInfo(name, onnxfile.Float, dims...))
}

// output declares an output whose shape the engines find out.
func (n *net) output(name string) {
	v := valueInfo(name, onnxfile.Float)
	v.Type.GetTensorType().Shape = nil
	n.g.Output = append(n.g.Output, v)
}

func (n *net) floats(name string, v []float32, dims ...int64) {
	t := &onnxpb.TensorProto{Name: proto.String(name)}
	n.draft.SetFloat32(t, v, dims...)
	n.g.Initializer = append(n.g.Initializer, t)
}

func (n *net) int64s(name string, v []int64, dims ...int64) {
	t := &onnxpb.TensorProto{Name: proto.String(name)}
	n.draft.SetInt64(t, v, dims...)
	n.g.Initializer = append(n.g.Initializer, t)
}

func (n *net) node(op string, a attrs, out string, in ...string) {
	n.g.Node = append(n.g.Node, &onnxpb.NodeProto{
		Name: proto.String("/" + out), OpType: proto.String(op), Input: in, Output: []string{out}, Attribute: a.proto(),
	})
}

func (n *net) bytes() []byte {
	n.t.Helper()
	b, err := n.draft.Bytes()
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

// oneNode is a graph of one node, y, and what to feed it.
func oneNode(t testing.TB, opset int64, op string, a attrs, args []arg, seed uint64) (model []byte, feed map[string]*engine.Tensor, in []operand, values []*value) {
	n := newNet(t, opset)
	r := rand.New(rand.NewPCG(seed, 1))
	feed = make(map[string]*engine.Tensor)
	var names []string
	for i, x := range args {
		name := fmt.Sprintf("x%d", i)
		if x.absent {
			names = append(names, "")
			continue
		}
		names = append(names, name)
		shape := make([]int, len(x.shape))
		dims := make([]any, len(x.shape))
		for k, d := range x.shape {
			shape[k], dims[k] = int(d), d
		}
		v := intValue(x.ints, shape...)
		if x.ints == nil {
			v = floatValue(x.values(r), shape...)
		}
		values = append(values, v)
		o := operand{dtype: v.dtype, shape: shape}
		switch {
		case x.ints != nil:
			n.int64s(name, x.ints, x.shape...)
			o.constant = v
		case x.stored:
			n.floats(name, v.floats(), x.shape...)
			o.constant = v
		default:
			n.input(name, dims...)
			feed[name] = engine.NewFloat32(v.floats(), x.shape...)
		}
		in = append(in, o)
	}
	n.node(op, a, "y", names...)
	n.output("y")
	return n.bytes(), feed, in, values
}

func openORT(t testing.TB) *ort.Engine {
	t.Helper()
	e, err := ort.Open(t.Context(), ort.Options{Offline: true, Threads: 1})
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// evaluate loads a model, runs it once and returns the wanted outputs.
func evaluate(t testing.TB, e engine.Engine, model []byte, feed map[string]*engine.Tensor, outputs ...string) (map[string]*engine.Tensor, error) {
	t.Helper()
	s, err := e.Load(t.Context(), engine.Model{Name: "test", Bytes: model})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	out := make(map[string]*engine.Tensor)
	for _, name := range outputs {
		out[name] = nil
	}
	return out, s.Run(t.Context(), feed, out)
}

// difference returns the largest absolute difference divided by the largest
// magnitude in want; infinite when shapes or special values differ.
func difference(got, want *engine.Tensor) float64 {
	if fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) {
		return math.Inf(1)
	}
	var worst, scale float64
	a, b := got.Float32(), want.Float32()
	for i := range b {
		x, y := float64(a[i]), float64(b[i])
		if x == y || math.IsNaN(x) && math.IsNaN(y) {
			continue
		}
		if d := math.Abs(x - y); d <= math.MaxFloat64 {
			worst = max(worst, d)
		} else {
			return math.Inf(1)
		}
	}
	for _, y := range b {
		if y := math.Abs(float64(y)); !math.IsInf(y, 0) && !math.IsNaN(y) {
			scale = max(scale, y)
		}
	}
	if worst == 0 {
		return 0
	}
	return worst / scale
}
