package compact

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// net draws small models. Each method adds a node that makes the tensor of its
// name, and returns that.
type net struct {
	g     *onnxpb.GraphProto
	r     *rand.Rand
	ir    int64
	opset int64
}

func newNet(seed uint64, dims ...int64) *net {
	return &net{g: &onnxpb.GraphProto{Name: proto.String("net"), Input: []*onnxpb.ValueInfoProto{value("x", dims...)}},
		r: rand.New(rand.NewPCG(seed, 7)), ir: 8, opset: 13}
}

// value describes a float tensor; -1 is an open dimension, the batch.
func value(name string, dims ...int64) *onnxpb.ValueInfoProto {
	var shape *onnxpb.TensorShapeProto
	if dims != nil {
		shape = &onnxpb.TensorShapeProto{}
	}
	for _, d := range dims {
		dim := &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}}
		if d < 0 {
			dim.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "batch"}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxfile.Float)), Shape: shape}}}}
}

func (n *net) floats(name string, v []float32, dims ...int64) string {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(onnxfile.Float)), RawData: b})
	return name
}

func (n *net) ints(name string, v ...int64) string {
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String(name), Dims: []int64{int64(len(v))},
		DataType: proto.Int32(int32(onnxfile.Int64)), Int64Data: v})
	return name
}

func (n *net) weights(name string, dims ...int64) string {
	return n.floats(name, n.draw(dims...), dims...)
}

// draw returns numbers of about the size that keeps activations near 1.
func (n *net) draw(dims ...int64) []float32 {
	fan := 1.0
	for _, d := range dims[1:] {
		fan *= float64(d)
	}
	v := make([]float32, engine.Elements(dims))
	for i := range v {
		v[i] = float32(n.r.NormFloat64() / math.Sqrt(fan))
	}
	return v
}

func (n *net) node(name, op string, in []string, attrs ...*onnxpb.AttributeProto) string {
	n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: proto.String(op), Name: proto.String(name), Input: in, Output: []string{name}, Attribute: attrs})
	return name
}

func ints(name string, v ...int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INTS.Enum(), Ints: v}
}

func integer(name string, v int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func number(name string, v float32) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_FLOAT.Enum(), F: proto.Float32(v)}
}

func text(name, v string) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_STRING.Enum(), S: []byte(v)}
}

// conv adds a convolution of k x k with pads p, a weight "name.w" and a bias
// "name.b".
func (n *net) conv(name, in string, from, to, k, p, groups int64, attrs ...*onnxpb.AttributeProto) string {
	n.weights(name+".w", to, from/groups, k, k)
	n.weights(name+".b", to)
	return n.node(name, "Conv", []string{in, name + ".w", name + ".b"}, append(attrs, ints("pads", p, p, p, p), integer("group", groups))...)
}

func (n *net) gemm(name, in string, from, to int64) string {
	n.weights(name+".w", to, from)
	n.weights(name+".b", to)
	return n.node(name, "Gemm", []string{in, name + ".w", name + ".b"}, integer("transB", 1))
}

// head ends in a pooling and a linear layer "head".
func (n *net) head(in string, from int64) *net {
	n.node("gap", "GlobalAveragePool", []string{in})
	n.node("flat", "Flatten", []string{"gap"})
	return n.out(n.gemm("head", "flat", from, 4))
}

func (n *net) out(name string) *net {
	n.g.Output = append(n.g.Output, value(name))
	n.g.Output[len(n.g.Output)-1].GetType().GetTensorType().Shape = nil
	return n
}

// initializer returns a stored tensor's numbers.
func (n *net) initializer(name string) *onnxpb.TensorProto {
	for _, t := range n.g.Initializer {
		if t.GetName() == name {
			return t
		}
	}
	panic(name)
}

// zero clears the places listed along an axis of a stored tensor.
func (n *net) zero(name string, axis int, places ...int64) *net {
	return n.set(name, axis, 0, places...)
}

func (n *net) set(name string, axis int, to float32, places ...int64) *net {
	t := n.initializer(name)
	stride := int64(1)
	for _, d := range t.Dims[axis+1:] {
		stride *= d
	}
	for e := int64(0); e < int64(len(t.RawData))/4; e++ {
		for _, p := range places {
			if e/stride%t.Dims[axis] == p {
				binary.LittleEndian.PutUint32(t.RawData[4*e:], math.Float32bits(to))
			}
		}
	}
	return n
}

func (n *net) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := proto.Marshal(&onnxpb.ModelProto{IrVersion: proto.Int64(n.ir), OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(n.opset)}}, Graph: n.g})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t testing.TB, b []byte) *inspect.Model {
	t.Helper()
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "net.onnx")
	if err != nil {
		t.Fatal(err)
	}
	m, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// engines returns those at hand: the pure-Go one always.
func engines(t testing.TB) []engine.Engine {
	t.Helper()
	list := []engine.Engine{gorgonia.Open(gorgonia.Options{Threads: 1})}
	if ort.Available {
		e, err := ort.Open(context.Background(), ort.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	t.Cleanup(func() {
		for _, e := range list {
			e.Close()
		}
	})
	return list
}

// feed draws a batch for each input of a model.
func feed(s engine.Session, seed uint64) map[string]*engine.Tensor {
	r := rand.New(rand.NewPCG(seed, 99))
	in := map[string]*engine.Tensor{}
	for _, v := range s.Inputs() {
		shape := append([]int64(nil), v.Shape...)
		for i, d := range shape {
			if d < 0 {
				shape[i] = 2
			}
		}
		data := make([]float32, engine.Elements(shape))
		for i := range data {
			data[i] = float32(r.NormFloat64())
		}
		in[v.Name] = engine.NewFloat32(data, shape...)
	}
	return in
}

// answers runs a model.
func answers(t testing.TB, e engine.Engine, b []byte, seed uint64) map[string]*engine.Tensor {
	t.Helper()
	s, err := e.Load(context.Background(), engine.Model{Name: "net.onnx", Bytes: b})
	if err != nil {
		t.Fatalf("%s: %v", e.Name(), err)
	}
	defer s.Close()
	out := map[string]*engine.Tensor{}
	for _, v := range s.Outputs() {
		out[v.Name] = nil
	}
	if err := s.Run(context.Background(), feed(s, seed), out); err != nil {
		t.Fatalf("%s: %v", e.Name(), err)
	}
	return out
}

// apart returns the largest difference of two results, relative to the largest
// number, and fails where shapes differ.
func apart(t testing.TB, a, b map[string]*engine.Tensor) (most float64) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d outputs, %d", len(a), len(b))
	}
	for name, x := range a {
		y := b[name]
		if y == nil || len(x.Shape) != len(y.Shape) {
			t.Fatalf("output %q has another shape", name)
		}
		for i := range x.Shape {
			if x.Shape[i] != y.Shape[i] {
				t.Fatalf("output %q: shapes %v and %v", name, x.Shape, y.Shape)
			}
		}
		largest, differ := 1e-3, 0.0
		for i, v := range x.Float32() {
			w := y.Float32()[i]
			if math.IsNaN(float64(v)) || math.IsNaN(float64(w)) {
				t.Fatalf("output %q: a NaN", name)
			}
			largest = max(largest, math.Abs(float64(v)))
			differ = max(differ, math.Abs(float64(v)-float64(w)))
		}
		most = max(most, differ/largest)
	}
	return most
}

const tolerance = 2e-5

// compacted plans, writes and checks: what is written is what the masked model
// computes, on every engine, and costs what the plan says. It returns the plan and
// the model as written.
func compacted(t testing.TB, list []engine.Engine, m *inspect.Model, source []byte, opt Options) (*Plan, *inspect.Model) {
	t.Helper()
	p, err := NewPlan(t.Context(), m, opt)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Apply(t.Context(), m, p)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	w := read(t, b)
	if err := w.Check(); err != nil {
		t.Fatal(err)
	}
	if w.FileBytes != p.After.Bytes || w.Totals.Parameters != p.After.Parameters || !equal(w.Totals.MACs, p.After.MACs) {
		t.Errorf("the plan says %+v, the file has %d bytes, %d parameters, %v", p.After, w.FileBytes, w.Totals.Parameters, w.Totals.MACs)
	}
	masked := source
	if len(opt.Remove) > 0 {
		md, err := Mask(t.Context(), m, p)
		if err != nil {
			t.Fatal(err)
		}
		if masked, err = md.Bytes(); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range list {
		if d := apart(t, answers(t, e, masked, 3), answers(t, e, b, 3)); d > tolerance {
			t.Errorf("%s: answers differ by %.3g", e.Name(), d)
		}
	}
	return p, w
}

func equal(a, b *int64) bool { return a == b || a != nil && b != nil && *a == *b }

func fixture(t testing.TB, name string) (string, []byte) {
	t.Helper()
	path := filepath.Join("..", "..", "fixtures", name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, b
}
