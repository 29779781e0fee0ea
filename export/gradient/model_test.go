package gradient

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// net writes small models.
type net struct {
	g     *onnxpb.GraphProto
	r     *rand.Rand
	opset int64
	t     string // the tensor that the next operator reads
}

// newNet begins a model that reads "image" of the given dimensions behind the batch;
// batch 0 is open.
func newNet(opset int64, batch int64, dims ...int64) *net {
	return &net{g: &onnxpb.GraphProto{Name: proto.String("net"), Input: []*onnxpb.ValueInfoProto{described("image", append([]int64{batch}, dims...)...)}},
		r: rand.New(rand.NewPCG(5, 5)), t: "image", opset: opset}
}

func described(name string, dims ...int64) *onnxpb.ValueInfoProto {
	v := valueInfo(name, dims)
	for i, d := range v.GetType().GetTensorType().GetShape().GetDim() {
		if d.GetDimValue() == 0 {
			d.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "d" + strconv.Itoa(i)}
		}
	}
	return v
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
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String(name), Dims: []int64{int64(len(v))}, DataType: proto.Int32(int32(onnxfile.Int64)), Int64Data: v})
	return name
}

// drawn adds an initializer of normal numbers.
func (n *net) drawn(name string, scale float64, dims ...int64) string {
	v := make([]float32, elements(dims))
	for i := range v {
		v[i] = float32(scale * n.r.NormFloat64())
	}
	return n.floats(name, v, dims...)
}

// node adds an operator that makes the tensor of its name.
func (n *net) node(name, op string, in []string, attrs ...*onnxpb.AttributeProto) string {
	n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: proto.String(op), Name: proto.String(name), Input: in, Output: []string{name}, Attribute: attrs})
	n.t = name
	return name
}

// then adds an operator on what is there.
func (n *net) then(op string, attrs ...*onnxpb.AttributeProto) *net {
	n.node(fmt.Sprintf("%s_%d", op, len(n.g.Node)), op, []string{n.t}, attrs...)
	return n
}

// conv adds a convolution with the weight "w.NAME" and the bias "b.NAME".
func (n *net) conv(name string, w [4]int64, attrs ...*onnxpb.AttributeProto) *net {
	scale := math.Sqrt(2 / float64(w[1]*w[2]*w[3]))
	n.node(name, "Conv", []string{n.t, n.drawn("w."+name, scale, w[:]...), n.drawn("b."+name, 0.3, w[0])}, attrs...)
	return n
}

// head ends the net in a Flatten and a classifier of features inputs.
func (n *net) head(features int64) *net {
	n.then("Flatten")
	n.node("classifier", "Gemm", []string{n.t, n.drawn("w.classifier", 1/math.Sqrt(float64(features)), classes, features), n.drawn("b.classifier", 0.1, classes)}, attrInt("transB", 1))
	return n
}

const classes = 5

func (n *net) proto() *onnxpb.ModelProto {
	m := &onnxpb.ModelProto{IrVersion: proto.Int64(7), OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(n.opset)}}, Graph: n.g}
	if len(n.g.Output) == 0 {
		n.g.Output = []*onnxpb.ValueInfoProto{described(n.t, n.g.Input[0].GetType().GetTensorType().GetShape().GetDim()[0].GetDimValue(), classes)}
	}
	return m
}

func (n *net) model(t testing.TB) *inspect.Model {
	t.Helper()
	b, err := proto.Marshal(n.proto())
	if err != nil {
		t.Fatal(err)
	}
	return read(t, b)
}

func read(t testing.TB, b []byte) *inspect.Model {
	t.Helper()
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "net.onnx")
	if err != nil {
		t.Fatal(err)
	}
	m, err := inspect.New(context.Background(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func open(t testing.TB, path string) *inspect.Model {
	t.Helper()
	m, err := inspect.Open(context.Background(), path, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// runtime opens ONNX Runtime on the provider that FILTERLENS_TEST_EP names, the
// CPU where it is not set. A provider that is not there fails the test.
func runtime(t testing.TB, threads int) engine.Engine {
	t.Helper()
	if !ort.Available {
		t.Skip("ONNX Runtime needs cgo")
	}
	eng, err := ort.Open(context.Background(), ort.Options{Provider: os.Getenv("FILTERLENS_TEST_EP"), Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

func pureGo(t testing.TB) engine.Engine {
	t.Helper()
	eng := gorgonia.Open(gorgonia.Options{})
	t.Cleanup(func() { eng.Close() })
	return eng
}

func load(t testing.TB, eng engine.Engine, m engine.Model) engine.Session {
	t.Helper()
	s, err := eng.Load(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
