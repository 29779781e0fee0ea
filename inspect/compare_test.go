package inspect

import (
	"bytes"
	"context"
	le "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func cmpFloats(name string, dims []int64, v ...float32) *onnxpb.TensorProto {
	return &onnxpb.TensorProto{Name: &name, DataType: proto.Int32(int32(onnxfile.Float)), Dims: dims, FloatData: v}
}

func cmpValue(name string, dims ...any) *onnxpb.ValueInfoProto {
	shape := &onnxpb.TensorShapeProto{}
	for _, d := range dims {
		x := &onnxpb.TensorShapeProto_Dimension{}
		switch d := d.(type) {
		case int:
			x.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}
		case string:
			x.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: d}
		}
		shape.Dim = append(shape.Dim, x)
	}
	return &onnxpb.ValueInfoProto{Name: &name, Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(1), Shape: shape},
	}}}
}

func cmpNode(op, name, in, out string, attrs ...*onnxpb.AttributeProto) *onnxpb.NodeProto {
	return &onnxpb.NodeProto{OpType: &op, Name: &name, Input: strings.Fields(in), Output: strings.Fields(out), Attribute: attrs}
}

func cmpInts(name string, v ...int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: &name, Type: onnxpb.AttributeProto_INTS.Enum(), Ints: v}
}

// cmpModel is a small network with weights both below and above the size from
// which they stay in the file.
func cmpModel() *onnxpb.ModelProto {
	rnd := rand.New(rand.NewPCG(1, 1))
	w := make([]float32, 40_000)
	for i := range w {
		w[i] = float32(rnd.NormFloat64())
	}
	constant := cmpFloats("", []int64{2}, 3, 4)
	constant.Name = nil
	return &onnxpb.ModelProto{
		IrVersion: proto.Int64(8), ProducerName: proto.String("p"),
		OpsetImport:   []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(17)}},
		MetadataProps: []*onnxpb.StringStringEntryProto{{Key: proto.String("k"), Value: proto.String("v")}},
		Graph: &onnxpb.GraphProto{
			Name:  proto.String("g"),
			Input: []*onnxpb.ValueInfoProto{cmpValue("x", "N", 3, 8, nil)}, Output: []*onnxpb.ValueInfoProto{cmpValue("y", "N", 2)},
			Node: []*onnxpb.NodeProto{
				cmpNode("Conv", "conv", "x w b", "c", cmpInts("strides", 1, 1), cmpInts("pads", 0, 0, 0, 0)),
				cmpNode("Constant", "const", "", "k", &onnxpb.AttributeProto{Name: proto.String("value"), T: constant}),
				cmpNode("Relu", "", "c", "r"),
				cmpNode("Mul", "mul", "r k", "y"),
			},
			Initializer: []*onnxpb.TensorProto{cmpFloats("w", []int64{200, 200}, w...), cmpFloats("b", []int64{3}, 1, 0, -2)},
		},
	}
}

func cmpOpen(t testing.TB, name string, m *onnxpb.ModelProto) *onnxfile.File {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func compared(t testing.TB, a, b *onnxpb.ModelProto, opt CompareOptions) *Comparison {
	t.Helper()
	c, err := Compare(context.Background(), cmpOpen(t, "a.onnx", a), cmpOpen(t, "b.onnx", b), opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// changedTensors lists the tensors that are not the same in every bit.
func changedTensors(c *Comparison) []string {
	out := []string{}
	for _, x := range c.Tensors {
		if x.Kind != "" {
			out = append(out, string(x.Kind)+" "+x.Name)
		}
	}
	return out
}

func TestCompareReportsExactlyTheEdit(t *testing.T) {
	type edit struct {
		name      string
		edit      func(m *onnxpb.ModelProto)
		structure []Change
		tensors   []string
	}
	g := func(m *onnxpb.ModelProto) *onnxpb.GraphProto { return m.Graph }
	for _, c := range []edit{
		{"nothing", func(m *onnxpb.ModelProto) {}, nil, nil},
		{"what is not compared", func(m *onnxpb.ModelProto) {
			m.DocString = proto.String("d")
			g(m).Node[0].DocString = proto.String("d")
			g(m).ValueInfo = append(g(m).ValueInfo, cmpValue("c", 1))
			slices.Reverse(g(m).Initializer)
		}, nil, nil},
		{"one weight", func(m *onnxpb.ModelProto) { g(m).Initializer[0].FloatData[39_999]++ }, nil, []string{"changed w"}},
		{"weight of a constant", func(m *onnxpb.ModelProto) { g(m).Node[1].Attribute[0].T.FloatData[1] = 5 }, nil, []string{"changed k"}},
		{"node renamed", func(m *onnxpb.ModelProto) { g(m).Node[0].Name = proto.String("conv1") },
			[]Change{{Changed, "node", "", "conv", "conv", "conv1"}}, nil},
		{"metadata added", func(m *onnxpb.ModelProto) {
			m.MetadataProps = append(m.MetadataProps, &onnxpb.StringStringEntryProto{Key: proto.String("new"), Value: proto.String("1")})
		}, []Change{{Added, "metadata", "", "new", "", "1"}}, nil},
		{"metadata changed", func(m *onnxpb.ModelProto) { m.MetadataProps[0].Value = proto.String("z") },
			[]Change{{Changed, "metadata", "", "k", "v", "z"}}, nil},
		{"opset", func(m *onnxpb.ModelProto) { m.OpsetImport[0].Version = proto.Int64(18) },
			[]Change{{Changed, "opset", "", "ai.onnx", "17", "18"}}, nil},
		{"opset of another domain", func(m *onnxpb.ModelProto) {
			m.OpsetImport = append(m.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: proto.String("d"), Version: proto.Int64(1)})
		}, []Change{{Added, "opset", "", "d", "", "1"}}, nil},
		{"IR version", func(m *onnxpb.ModelProto) { m.IrVersion = proto.Int64(9) }, []Change{{Changed, "ir_version", "", "", "8", "9"}}, nil},
		{"producer", func(m *onnxpb.ModelProto) { m.ProducerName = proto.String("q") }, []Change{{Changed, "producer_name", "", "", "p", "q"}}, nil},
		{"input shape", func(m *onnxpb.ModelProto) { g(m).Input[0] = cmpValue("x", 1, 3, 8, 8) },
			[]Change{{Changed, "input", "", "x", "float[N,3,8,?]", "float[1,3,8,8]"}}, nil},
		{"output type", func(m *onnxpb.ModelProto) { g(m).Output[0].Type.GetTensorType().ElemType = proto.Int32(10) },
			[]Change{{Changed, "output", "", "y", "float[N,2]", "float16[N,2]"}}, nil},
		{"output added, then order", func(m *onnxpb.ModelProto) {
			g(m).Output = []*onnxpb.ValueInfoProto{cmpValue("c"), g(m).Output[0]}
		}, []Change{{Added, "output", "", "c", "", "float[]"}}, nil},
		{"attribute", func(m *onnxpb.ModelProto) { g(m).Node[0].Attribute[0].Ints[1] = 2 },
			[]Change{{Changed, "attribute", "conv", "strides", "[1 1]", "[1 2]"}}, nil},
		{"attribute removed", func(m *onnxpb.ModelProto) { g(m).Node[0].Attribute = g(m).Node[0].Attribute[1:] },
			[]Change{{Removed, "attribute", "conv", "strides", "[1 1]", ""}}, nil},
		{"attributes permuted", func(m *onnxpb.ModelProto) { slices.Reverse(g(m).Node[0].Attribute) }, nil, nil},
		{"operator", func(m *onnxpb.ModelProto) {
			g(m).Node[2].OpType = proto.String("Silu")
			g(m).Node[2].Domain = proto.String("d")
		},
			[]Change{{Changed, "operator", "r", "", "Relu", "d.Silu"}}, nil},
		{"input rewired", func(m *onnxpb.ModelProto) { g(m).Node[3].Input[0] = "c" },
			[]Change{{Changed, "node_input", "mul", "0", "r", "c"}}, nil},
		{"bias dropped", func(m *onnxpb.ModelProto) {
			g(m).Node[0].Input = g(m).Node[0].Input[:2]
			g(m).Initializer = g(m).Initializer[:1]
		}, []Change{{Removed, "node_input", "conv", "2", "b", ""}}, []string{"removed b"}},
		{"node removed", func(m *onnxpb.ModelProto) {
			g(m).Node = slices.Delete(g(m).Node, 2, 3)
			g(m).Node[2].Input[0] = "c"
		}, []Change{{Removed, "node", "", "r", "Relu", ""}, {Changed, "node_input", "mul", "0", "r", "c"}}, nil},
		{"node added", func(m *onnxpb.ModelProto) { g(m).Node = append(g(m).Node, cmpNode("Softmax", "s", "y", "z")) },
			[]Change{{Added, "node", "", "s", "", "Softmax"}}, nil},
		{"output of a named node renamed", func(m *onnxpb.ModelProto) { g(m).Node[0].Output[0] = "d"; g(m).Node[2].Input[0] = "d" },
			[]Change{{Changed, "node_output", "conv", "0", "c", "d"}, {Changed, "node_input", "r", "0", "c", "d"}}, nil},
		{"weight renamed", func(m *onnxpb.ModelProto) {
			g(m).Initializer[0].Name = proto.String("w2")
			g(m).Node[0].Input[1] = "w2"
		}, []Change{{Changed, "node_input", "conv", "1", "w", "w2"}}, []string{"removed w", "added w2"}},
		{"shape", func(m *onnxpb.ModelProto) { g(m).Initializer[0].Dims = []int64{100, 400} }, nil, []string{"changed w"}},
		{"constant becomes an initializer", func(m *onnxpb.ModelProto) {
			k := proto.Clone(g(m).Node[1].Attribute[0].T).(*onnxpb.TensorProto)
			k.Name = proto.String("k")
			g(m).Initializer = append(g(m).Initializer, k)
			g(m).Node = slices.Delete(g(m).Node, 1, 2)
		}, []Change{{Removed, "node", "", "const", "Constant", ""}}, nil},
		{"function", func(m *onnxpb.ModelProto) {
			m.Functions = append(m.Functions, &onnxpb.FunctionProto{Name: proto.String("f"), Domain: proto.String("d")})
		}, []Change{{Added, "function", "", "d:f:", "", ""}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := cmpModel(), cmpModel()
			c.edit(b)
			got := compared(t, a, b, CompareOptions{})
			if !slices.Equal(got.Structure, c.structure) {
				t.Errorf("structure %+v\nwant %+v", got.Structure, c.structure)
			}
			if tensors := changedTensors(got); !slices.Equal(tensors, c.tensors) {
				t.Errorf("tensors %q, want %q", tensors, c.tensors)
			}
			if want := len(c.structure)+len(c.tensors) == 0; got.Same != want {
				t.Errorf("Same = %v", got.Same)
			}
			checkSwapped(t, got, compared(t, b, a, CompareOptions{}))
			if self := compared(t, b, b, CompareOptions{}); !self.Same || len(self.Structure) > 0 || self.Totals.ElementsChanged > 0 || *self.Totals.RelL2 != 0 {
				t.Errorf("a model differs from itself: %+v", self)
			}
			if _, err := json.Marshal(got); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkSwapped checks that B against A is the mirror of A against B.
func checkSwapped(t *testing.T, ab, ba *Comparison) {
	t.Helper()
	mirror := map[ChangeKind]ChangeKind{Added: Removed, Removed: Added, Changed: Changed}
	count := func(c *Comparison, flip bool) map[string]int {
		n := map[string]int{}
		for _, s := range c.Structure {
			if flip {
				s.Kind, s.From, s.To = mirror[s.Kind], s.To, s.From
			}
			n[fmt.Sprint(s.Kind, s.What, s.From, s.To)]++
		}
		return n
	}
	if a, b := count(ab, false), count(ba, true); !reflect.DeepEqual(a, b) {
		t.Errorf("structure %v, swapped %v", a, b)
	}
	x, y := ab.Totals, ba.Totals
	if x.Added != y.Removed || x.Removed != y.Added || x.Changed != y.Changed || x.ElementsChanged != y.ElementsChanged ||
		x.NewZeros != y.GoneZeros || x.GoneZeros != y.NewZeros {
		t.Errorf("totals %+v, swapped %+v", x, y)
	}
}

func TestCompareIgnoreMetadata(t *testing.T) {
	a, b := cmpModel(), cmpModel()
	b.MetadataProps, b.ProducerName, b.ModelVersion, b.Graph.Name = nil, nil, proto.Int64(4), nil
	b.Graph.Node[0].Name = proto.String("other")
	if c := compared(t, a, b, CompareOptions{}); len(c.Structure) != 5 || c.Same {
		t.Errorf("%+v", c.Structure)
	}
	if c := compared(t, a, b, CompareOptions{IgnoreMetadata: true}); !c.Same {
		t.Errorf("%+v", c.Structure)
	}
}

// slowCompare is the definition of a ValueComparison.
func slowCompare(x, y []float64, opt CompareOptions) ValueComparison {
	v := ValueComparison{Elements: int64(len(x))}
	worst, diff, norm, bad := 0.0, 0.0, 0.0, false
	for i := range x {
		a, b := x[i], y[i]
		equal := a == b || math.IsNaN(a) && math.IsNaN(b)
		fine := !math.IsNaN(a) && !math.IsInf(a, 0) && !math.IsNaN(b) && !math.IsInf(b, 0)
		if !equal {
			v.Changed++
			if !fine || math.Abs(b-a) > opt.ATol+opt.RTol*math.Abs(a) {
				v.Beyond++
			}
			bad = bad || !fine
		}
		if a != 0 && b == 0 {
			v.NewZeros++
		}
		if a == 0 && b != 0 {
			v.GoneZeros++
		}
		if fine {
			worst = math.Max(worst, math.Abs(b-a))
			diff += math.Pow(b-a, 2)
			norm += math.Pow(a, 2)
		}
	}
	if !bad {
		v.MaxAbs = &worst
		rel := math.Sqrt(diff) / math.Sqrt(norm)
		if diff == 0 {
			rel = 0
		}
		if !math.IsInf(rel, 0) {
			v.RelL2 = &rel
		}
	}
	return v
}

func TestCompareValuesAgainstTheDefinition(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 9))
	odd := []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1)}
	for round := range 60 {
		n := []int{0, 1, 5, 1000, 33_000, 100_000}[round%6]
		// Some rounds without odd values, some with zeros only, some with all.
		odds := odd[:[]int{0, 2, 5}[round/6%3]]
		opt := CompareOptions{RTol: []float64{0, 1e-3}[round/18%2], ATol: []float64{0, 0.1}[round/36%2]}
		value := func() float32 {
			if len(odds) > 0 && rnd.IntN(100) == 0 {
				return float32(odds[rnd.IntN(len(odds))])
			}
			return float32(rnd.NormFloat64())
		}
		x, y := make([]float32, n), make([]float32, n)
		var xs, ys []float64
		for i := range x {
			x[i] = value()
			y[i] = x[i]
			if i > n/2 && rnd.IntN(3) == 0 {
				y[i] = value()
			} else if i > n/2 && rnd.IntN(3) == 0 {
				y[i] *= 1 + float32(rnd.NormFloat64())*1e-3
			}
			xs, ys = append(xs, float64(x[i])), append(ys, float64(y[i]))
		}
		a, b := cmpModel(), cmpModel()
		a.Graph.Initializer[0] = cmpFloats("w", []int64{int64(n)}, x...)
		b.Graph.Initializer[0] = cmpFloats("w", []int64{int64(n)}, y...)
		got, want := *compared(t, a, b, opt).Tensors[0].Values, slowCompare(xs, ys, opt)
		if got.Elements != want.Elements || got.Changed != want.Changed || got.Beyond != want.Beyond || got.NewZeros != want.NewZeros ||
			got.GoneZeros != want.GoneZeros || !near(got.MaxAbs, want.MaxAbs) || !near(got.RelL2, want.RelL2) {
			t.Fatalf("round %d, n %d: %s\nwant %s", round, n, asJSON(t, got), asJSON(t, want))
		}
	}
}

func near(a, b *float64) bool {
	if a == nil || b == nil {
		return a == b
	}
	return math.Abs(*a-*b) <= 1e-12*math.Abs(*b)
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCompareZeroedBlock(t *testing.T) {
	a, b := cmpModel(), cmpModel()
	w := b.Graph.Initializer[0].FloatData
	clear(w[1000:5000])
	b.Graph.Initializer[1].FloatData[1] = 9 // was zero
	c := compared(t, a, b, CompareOptions{})
	x := c.Tensors[0]
	if x.Values.NewZeros != 4000 || x.Values.Changed != 4000 || *x.A.Zeros != 0 || *x.B.Zeros != 4000 || x.Same {
		t.Errorf("%s", asJSON(t, x))
	}
	if tt := c.Totals; tt.NewZeros != 4000 || tt.GoneZeros != 1 || tt.Changed != 2 || tt.Tensors != 3 || tt.Elements != 40_005 {
		t.Errorf("%s", asJSON(t, tt))
	}
	names := []string{}
	for _, x := range c.Tensors {
		names = append(names, x.Name)
	}
	if !slices.Equal(names, []string{"w", "b", "k"}) {
		t.Errorf("order %q", names)
	}
}

func TestCompareFloat16(t *testing.T) {
	a, b := cmpModel(), cmpModel()
	// Every value representable: float16 differs from float in type only.
	for i := range a.Graph.Initializer[0].FloatData {
		a.Graph.Initializer[0].FloatData[i] = onnxfile.Float16Value(uint16(i))
	}
	half := &onnxpb.TensorProto{Name: proto.String("w"), Dims: []int64{200, 200}, DataType: proto.Int32(int32(onnxfile.Float16))}
	for i := range 40_000 {
		half.RawData = le.LittleEndian.AppendUint16(half.RawData, uint16(i))
	}
	b.Graph.Initializer[0] = half
	x := compared(t, a, b, CompareOptions{}).Tensors[0]
	if x.Kind != Changed || x.Same || x.Values.Changed != 0 || *x.Values.MaxAbs != 0 || x.A.DType != "float" || x.B.DType != "float16" {
		t.Errorf("%s", asJSON(t, x))
	}
}

func TestComparePermutedTensor(t *testing.T) {
	a, b := cmpModel(), cmpModel()
	slices.Reverse(b.Graph.Initializer[0].FloatData)
	c := compared(t, a, b, CompareOptions{ATol: 100})
	if x := c.Tensors[0]; !c.Same || x.Kind != Changed || x.Values.Changed < 39_000 || x.Values.Beyond != 0 || c.Totals.Beyond != 0 || c.Totals.Changed != 1 {
		t.Errorf("%s", asJSON(t, c.Totals))
	}
}

func TestCompareToleranceIsInclusive(t *testing.T) {
	a, b := cmpModel(), cmpModel()
	a.Graph.Initializer[1] = cmpFloats("b", []int64{4}, 1, 2, -2, 0)
	b.Graph.Initializer[1] = cmpFloats("b", []int64{4}, 1.5, 3, -1, 0.25)
	for _, c := range []struct {
		opt    CompareOptions
		beyond int64
	}{
		{CompareOptions{}, 4},
		{CompareOptions{RTol: 0.5}, 1},
		{CompareOptions{ATol: 0.25}, 3},
		{CompareOptions{ATol: 0.25, RTol: 0.25}, 2},
		{CompareOptions{ATol: 0.25, RTol: 0.375}, 0},
		{CompareOptions{ATol: 1}, 0},
	} {
		x := compared(t, a, b, c.opt).Tensors[1]
		if x.Values.Beyond != c.beyond || x.Values.Changed != 4 || x.Same != (c.beyond == 0) || x.Kind != Changed {
			t.Errorf("%+v: %s", c.opt, asJSON(t, x))
		}
	}
}

// A NaN that both models have does not hide how far the other values are.
func TestCompareEqualNaN(t *testing.T) {
	n := 100_000 // several blocks; only the last one changes
	v := make([]float32, n)
	v[0], v[1], v[2] = float32(math.NaN()), float32(math.Inf(-1)), 3
	w := slices.Clone(v)
	v[n-1], w[n-1] = 4, 14
	a, b := cmpModel(), cmpModel()
	a.Graph.Initializer[0] = cmpFloats("w", []int64{int64(n)}, v...)
	b.Graph.Initializer[0] = cmpFloats("w", []int64{int64(n)}, w...)
	c := compared(t, a, b, CompareOptions{})
	x := c.Tensors[0]
	if x.Values.Changed != 1 || x.Values.RelL2 == nil || *x.Values.RelL2 != 2 || *x.Values.MaxAbs != 10 {
		t.Errorf("%s", asJSON(t, x))
	}
	// ||a||^2 over all tensors: 3, 4; 1, 0, -2; 3, 4.
	if want := 10 / math.Sqrt(9+16+1+4+9+16); math.Abs(*c.Totals.RelL2-want) > 1e-15 {
		t.Errorf("overall %v, want %v", *c.Totals.RelL2, want)
	}
}

func TestCompareTypesWithoutValues(t *testing.T) {
	with := func(d onnxpb.TensorProto_DataType, columns int64, fill byte) *onnxpb.ModelProto {
		m := cmpModel()
		m.Graph.Initializer[1] = &onnxpb.TensorProto{Name: proto.String("b"), DataType: proto.Int32(int32(d)), Dims: []int64{2, columns}, RawData: bytes.Repeat([]byte{fill}, 800)}
		return m
	}
	single, double := onnxpb.TensorProto_COMPLEX64, onnxpb.TensorProto_COMPLEX128
	for _, c := range []struct {
		b    *onnxpb.ModelProto
		same bool
	}{{with(single, 50, 1), true}, {with(single, 50, 2), false}, {with(double, 25, 1), false}} {
		x := compared(t, with(single, 50, 1), c.b, CompareOptions{}).Tensors[1]
		if x.Same != c.same || (x.Kind == "") != c.same || x.Values != nil || x.A.Zeros != nil {
			t.Errorf("%s", asJSON(t, x))
		}
	}
}

func TestCompareLargeIntegers(t *testing.T) {
	with := func(v int64) *onnxpb.ModelProto {
		m := cmpModel()
		m.Graph.Initializer[1] = &onnxpb.TensorProto{Name: proto.String("b"), DataType: proto.Int32(7), Dims: []int64{1}, Int64Data: []int64{v}}
		return m
	}
	if x := compared(t, with(math.MaxInt64), with(math.MaxInt64-1), CompareOptions{}).Tensors[1]; x.Same || x.Kind != Changed {
		t.Errorf("%s", asJSON(t, x))
	}
}

// Two graphs inside an attribute whose tensors lie at other places of the files
// are the same when the data is.
func TestCompareNestedGraphs(t *testing.T) {
	with := func(pad int, last float32) *onnxpb.ModelProto {
		m := cmpModel()
		m.DocString = proto.String(strings.Repeat("x", pad))
		v := make([]float32, 500)
		v[499] = last
		inner := &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{cmpFloats("i", []int64{500}, v...)}}
		m.Graph.Node = append(m.Graph.Node, cmpNode("If", "if", "y", "z", &onnxpb.AttributeProto{Name: proto.String("then_branch"), G: inner}))
		return m
	}
	if c := compared(t, with(0, 1), with(1000, 1), CompareOptions{}); !c.Same {
		t.Errorf("%+v", c.Structure)
	}
	named := with(0, 1)
	inner := named.Graph.Node[4].Attribute[0].G
	inner.DocString = proto.String("d")
	if c := compared(t, with(0, 1), named, CompareOptions{}); !c.Same {
		t.Errorf("doc string: %+v", c.Structure)
	}
	want := []Change{{Changed, "attribute", "if", "then_branch", "graph of 0 nodes", "graph of 0 nodes"}}
	inner.Initializer[0].Name = proto.String("other")
	for _, b := range []*onnxpb.ModelProto{with(0, 2), named} {
		if c := compared(t, with(0, 1), b, CompareOptions{}); !slices.Equal(c.Structure, want) {
			t.Errorf("%+v", c.Structure)
		}
	}
}

// Names that are given twice, which ONNX forbids, are matched in order.
func TestCompareDuplicateNames(t *testing.T) {
	twice := func(second float32) *onnxpb.ModelProto {
		m := cmpModel()
		m.Graph.Initializer = append(m.Graph.Initializer, cmpFloats("b", []int64{1}, second))
		return m
	}
	if c := compared(t, twice(1), twice(1), CompareOptions{}); !c.Same {
		t.Error(changedTensors(c))
	}
	if got := changedTensors(compared(t, twice(1), twice(2), CompareOptions{})); !slices.Equal(got, []string{"changed b"}) {
		t.Error(got)
	}
	if got := changedTensors(compared(t, twice(1), cmpModel(), CompareOptions{})); !slices.Equal(got, []string{"removed b"}) {
		t.Error(got)
	}
}

func TestCompareErrors(t *testing.T) {
	m := cmpModel()
	f := cmpOpen(t, "a.onnx", m)
	for _, opt := range []CompareOptions{{RTol: -1}, {ATol: math.NaN()}, {RTol: math.Inf(1)}} {
		if _, err := Compare(context.Background(), f, f, opt); err == nil {
			t.Errorf("%+v passes", opt)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Compare(ctx, f, f, CompareOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	m.Graph.Initializer[0].Dims = []int64{200, 201}
	lying := cmpOpen(t, "b.onnx", m)
	var te *onnxfile.TensorError
	if _, err := Compare(context.Background(), lying, lying, CompareOptions{}); !errors.As(err, &te) || te.Tensor != "w" || te.File != "b.onnx" {
		t.Errorf("lying shape: %v", err)
	}
}

// Any two files that open can be compared or give an error; each is the same as
// itself, and the comparison can be written as JSON.
func FuzzCompare(f *testing.F) {
	base, err := proto.Marshal(cmpModel())
	if err != nil {
		f.Fatal(err)
	}
	small := cmpModel()
	small.Graph.Initializer = small.Graph.Initializer[1:]
	small.Graph.Node = slices.Repeat(small.Graph.Node, 2)
	other, err := proto.Marshal(small)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(base, other)
	f.Add(other, other)
	f.Add([]byte("\x3a\x00"), other)
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, errA := onnxfile.Read(bytes.NewReader(x), int64(len(x)), "a")
		b, errB := onnxfile.Read(bytes.NewReader(y), int64(len(y)), "b")
		if errA != nil || errB != nil {
			return
		}
		if c, err := Compare(context.Background(), a, a, CompareOptions{}); err == nil && !c.Same {
			t.Errorf("not the same as itself: %s", asJSON(t, c))
		}
		ab, err := Compare(context.Background(), a, b, CompareOptions{})
		if err != nil {
			return
		}
		asJSON(t, ab)
		ba, err := Compare(context.Background(), b, a, CompareOptions{})
		if err != nil {
			t.Fatalf("compares one way only: %v", err)
		}
		if ab.Same != ba.Same || ab.Totals.Added != ba.Totals.Removed || ab.Totals.NewZeros != ba.Totals.GoneZeros {
			t.Errorf("%s\nswapped %s", asJSON(t, ab), asJSON(t, ba))
		}
	})
}

func BenchmarkCompare(b *testing.B) {
	const tensors, elements = 10, 5 << 20 // 200 MB
	dir := b.TempDir()
	build := func(name string, last float32) *onnxfile.File {
		m := &onnxpb.ModelProto{Graph: &onnxpb.GraphProto{}}
		d := onnxfile.NewDraft(m)
		v := make([]float32, elements)
		rnd := rand.New(rand.NewPCG(1, 1))
		for i := range v {
			v[i] = rnd.Float32()
		}
		changed := slices.Clone(v)
		for i := range changed {
			changed[i] *= last
		}
		for i := range tensors {
			x := &onnxpb.TensorProto{Name: proto.String(fmt.Sprint("w", i))}
			m.Graph.Initializer = append(m.Graph.Initializer, x)
			if i == 0 {
				d.SetFloat32(x, changed, elements)
			} else {
				d.SetFloat32(x, v, elements)
			}
		}
		p, err := onnxfile.CreatePending(filepath.Join(dir, name))
		if err == nil {
			_, err = d.WriteTo(p)
		}
		if err == nil {
			err = p.Commit()
		}
		if err != nil {
			b.Fatal(err)
		}
		f, err := onnxfile.Open(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { f.Close() })
		return f
	}
	x, y := build("a.onnx", 1), build("b.onnx", 0.5)
	b.SetBytes(x.Size + y.Size)
	b.ReportAllocs()
	for b.Loop() {
		c, err := Compare(context.Background(), x, y, CompareOptions{})
		if err != nil || c.Totals.Changed != 1 {
			b.Fatal(err)
		}
	}
}
