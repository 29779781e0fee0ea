package duel_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/duel"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

var fixtures = filepath.Join("..", "..", "..", "fixtures")

func open(t testing.TB, path string) *inspect.Model {
	t.Helper()
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func openORT(t testing.TB, opt ort.Options) engine.Engine {
	t.Helper()
	if !ort.Available {
		t.Skip("ONNX Runtime needs cgo")
	}
	opt.Threads = 1
	e, err := ort.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// wrong is an engine that computes something else: edit changes each graph before it
// is loaded.
type wrong struct {
	engine.Engine
	edit func(*onnxfile.Draft)
}

func (w wrong) Load(ctx context.Context, m engine.Model) (engine.Session, error) {
	b := m.Bytes
	if b == nil {
		var err error
		if b, err = os.ReadFile(m.Path); err != nil {
			return nil, err
		}
	}
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), m.Name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := f.Draft()
	w.edit(d)
	if b, err = d.Bytes(); err != nil {
		return nil, err
	}
	return w.Engine.Load(ctx, engine.Model{Name: m.Name, Bytes: b})
}

// scaled multiplies a weight of the node at that index.
func scaled(m *inspect.Model, node, input int, by float32) func(*onnxfile.Draft) {
	name := m.Graph.Nodes[node].Input(input)
	w, _ := m.Graph.Initializer(name)
	var values []float32
	if err := w.Values(func(block []float64) error {
		for _, v := range block {
			values = append(values, float32(v)*by)
		}
		return nil
	}); err != nil {
		panic(err)
	}
	return func(d *onnxfile.Draft) {
		t := d.Initializer(name)
		d.SetFloat32(t, values, t.Dims...)
	}
}

// replaced gives a node another operator of one input.
func replaced(node int, op string) func(*onnxfile.Draft) {
	return func(d *onnxfile.Draft) {
		d.Model.Graph.Node[node].OpType = proto.String(op)
		d.Model.Graph.Node[node].Attribute = nil
	}
}

func nodes(m *inspect.Model, op string) (list []int) {
	for _, n := range m.Graph.Nodes {
		if n.Op == op {
			list = append(list, n.Index)
		}
	}
	return list
}

func noise(t *testing.T, m *inspect.Model, eng engine.Engine) map[string]*engine.Tensor {
	t.Helper()
	_, sample, err := duel.Random(t.Context(), eng, eng, m, duel.RandomOptions{Samples: 1, Batch: 1, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	return sample.In
}

// An engine that is wrong from one node on is found out, and that node is named:
// layers by their outputs, other nodes by looking closer.
func TestWalkNamesTheNode(t *testing.T) {
	eng := openORT(t, ort.Options{})
	for _, name := range []string{"vgg16-glyphs20.onnx", "efficientnet-b0-glyphs20.onnx"} {
		m := open(t, filepath.Join(fixtures, name))
		in := noise(t, m, eng)
		convs := nodes(m, "Conv")
		type fault struct {
			node int
			edit func(*onnxfile.Draft)
		}
		faults := []fault{
			{convs[0], scaled(m, convs[0], 1, 1.01)},
			{convs[len(convs)/2], scaled(m, convs[len(convs)/2], 1, 0.99)},
			{convs[len(convs)-1], scaled(m, convs[len(convs)-1], 1, float32(math.NaN()))},
			{nodes(m, "Gemm")[0], scaled(m, nodes(m, "Gemm")[0], 1, 1.001)},
		}
		for _, op := range []string{"Relu", "Sigmoid"} {
			if found := nodes(m, op); len(found) > 0 {
				at := found[2*len(found)/3]
				faults = append(faults, fault{at, replaced(at, "Abs")})
			}
		}
		for i, f := range faults {
			n := m.Graph.Nodes[f.node]
			options := []duel.Options{{}, {All: true}}
			if i == 1 {
				options = append(options, duel.Options{Memory: 1 << 18}) // in several runs
			}
			for _, opt := range options {
				opt.Tolerance = duel.DefaultTolerance()
				trail, err := duel.Walk(t.Context(), eng, wrong{eng, f.edit}, m, in, opt)
				if err != nil {
					t.Fatalf("%s: %s: %v", name, n.Label(), err)
				}
				p := trail.Parting
				if p == nil || p.Node != f.node || p.Name != n.Name || p.Op != n.Op || !p.Parts {
					t.Errorf("%s: wrong from node %d %q on (%+v); found %+v", name, n.Index, n.Name, opt, p)
				}
				if a := trail.Agreeing; a != nil && (a.Parts || a.Node >= f.node) {
					t.Errorf("%s: %q: the last that agrees is %+v", name, n.Name, a)
				}
				first := slices.IndexFunc(trail.Taps, func(t duel.Tap) bool { return t.Parts })
				if first < 0 || p != nil && trail.Taps[first].Tensor != p.Tensor {
					t.Errorf("%s: %q: the taps are %+v", name, n.Name, trail.Taps)
				}
			}
		}
		trail, err := duel.Walk(t.Context(), eng, eng, m, in, duel.Options{})
		if err != nil || trail.Parting != nil || trail.Agreeing != nil {
			t.Fatalf("%s: an engine parts from itself: %+v, %v", name, trail, err)
		}
		for _, tap := range trail.Taps {
			if tap.Max != 0 || tap.At != nil || tap.Values == 0 || tap.Largest == 0 || tap.DType != "float" {
				t.Errorf("%s: %+v", name, tap)
			}
		}
	}
}

// Both engines of this program agree on the fixtures, within the default tolerance.
func TestEnginesAgree(t *testing.T) {
	eng := openORT(t, ort.Options{})
	pure := gorgonia.Open(gorgonia.Options{})
	defer pure.Close()
	for _, name := range []string{"vgg16-glyphs20.onnx", "efficientnet-b0-glyphs20.onnx", "efficientnet-b0-bn-glyphs20.onnx"} {
		t.Run(name, func(t *testing.T) {
			m := open(t, filepath.Join(fixtures, name))
			tol := duel.DefaultTolerance()
			outputs, sample, err := duel.Random(t.Context(), eng, pure, m, duel.RandomOptions{Samples: 20, Batch: 8, Seed: 1, Tolerance: tol})
			if lacks := new(gorgonia.UnsupportedError); errors.As(err, &lacks) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if o := outputs[0]; o.Samples != 20 || o.Values != 400 || o.Beyond != 0 || len(o.Answers) != 0 {
				t.Errorf("%+v", o)
			}
			trail, err := duel.Walk(t.Context(), eng, pure, m, sample.In, duel.Options{Tolerance: tol, All: true})
			if err != nil {
				t.Fatal(err)
			}
			if trail.Parting != nil {
				t.Errorf("they part at %+v", trail.Parting)
			}
			most := 0.0
			for _, tap := range trail.Taps {
				most = max(most, tap.Relative())
			}
			t.Logf("%d tensors, relative difference at most %.2g", len(trail.Taps), most)
		})
	}
}

// The provider that FILTERLENS_TEST_EP names agrees with the CPU.
func TestProvidersAgree(t *testing.T) {
	provider := os.Getenv("FILTERLENS_TEST_EP")
	if provider == "" {
		t.Skip("FILTERLENS_TEST_EP names no provider")
	}
	other := openORT(t, ort.Options{Provider: provider})
	cpu := openORT(t, ort.Options{})
	for _, name := range []string{"vgg16-glyphs20.onnx", "efficientnet-b0-glyphs20.onnx"} {
		m := open(t, filepath.Join(fixtures, name))
		trail, err := duel.Walk(t.Context(), cpu, other, m, noise(t, m, cpu), duel.Options{Tolerance: duel.DefaultTolerance(), All: true})
		if err != nil {
			t.Fatal(err)
		}
		if trail.Parting != nil {
			t.Errorf("%s: %s parts at %+v", name, provider, trail.Parting)
		}
	}
}

// What is wrong in both branches of a graph is named where it comes first.
func TestWalkBranches(t *testing.T) {
	eng := openORT(t, ort.Options{})
	float := func(name string) *onnxpb.ValueInfoProto {
		return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: &onnxpb.TypeProto_Tensor{
			ElemType: proto.Int32(1), Shape: &onnxpb.TensorShapeProto{Dim: []*onnxpb.TensorShapeProto_Dimension{
				{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "n"}}, {Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: 4}}}}}}}}
	}
	node := func(op, out string, in ...string) *onnxpb.NodeProto {
		return &onnxpb.NodeProto{OpType: proto.String(op), Name: proto.String("make " + out), Input: in, Output: []string{out}}
	}
	eye := make([]float32, 16)
	for i := range 4 {
		eye[5*i] = 1
	}
	g := &onnxpb.GraphProto{Name: proto.String("g"), Input: []*onnxpb.ValueInfoProto{float("x")}, Output: []*onnxpb.ValueInfoProto{float("y"), float("s")},
		Initializer: []*onnxpb.TensorProto{{Name: proto.String("w"), DataType: proto.Int32(1), Dims: []int64{4, 4}, FloatData: eye}},
		Node: []*onnxpb.NodeProto{
			node("MatMul", "a", "x", "w"), // 0: a layer
			node("Tanh", "b", "a"),        // 1
			node("MatMul", "c", "a", "w"), // 2: a layer beside
			node("Sin", "d", "c"),         // 3
			node("Add", "e", "b", "d"),    // 4
			node("MatMul", "y", "e", "w"), // 5: a layer
			node("Sqrt", "f", "c"),        // 6: NaN for negative numbers, in both
			node("Cos", "s", "f"),         // 7: an output that no layer makes
		}}
	d := onnxfile.NewDraft(&onnxpb.ModelProto{IrVersion: proto.Int64(8), Graph: g, OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(17)}}})
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "branches.onnx")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	m := open(t, path)
	in := noise(t, m, eng)
	for _, c := range []struct {
		node     int
		agreeing string
	}{{0, ""}, {1, "a"}, {2, "a"}, {3, "c"}, {7, "f"}} {
		edit := replaced(c.node, "Abs")
		if c.node == 0 || c.node == 2 {
			edit = func(d *onnxfile.Draft) {
				g := d.Model.Graph
				other := proto.Clone(g.Initializer[0]).(*onnxpb.TensorProto)
				other.Name, other.FloatData[0] = proto.String("v"), 2
				g.Initializer = append(g.Initializer, other)
				g.Node[c.node].Input[1] = "v"
			}
		}
		trail, err := duel.Walk(t.Context(), eng, wrong{eng, edit}, m, in, duel.Options{Tolerance: duel.DefaultTolerance()})
		if err != nil {
			t.Fatal(err)
		}
		if trail.Parting == nil || trail.Parting.Node != c.node {
			t.Errorf("wrong at node %d, found %+v", c.node, trail.Parting)
			continue
		}
		if got := trail.Agreeing; (got == nil) != (c.agreeing == "") || got != nil && got.Tensor != c.agreeing {
			t.Errorf("node %d: the last that agrees is %+v, want %q", c.node, got, c.agreeing)
		}
	}
}

func TestWalkCancelled(t *testing.T) {
	eng := openORT(t, ort.Options{})
	m := open(t, filepath.Join(fixtures, "vgg16-glyphs20.onnx"))
	in := noise(t, m, eng)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := duel.Walk(ctx, eng, eng, m, in, duel.Options{Memory: 1, Progress: func(_ string, done, _ int) {
		if done == 2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
