package delta

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A model under test: a skeleton with all its weights inline, which edits change
// freely.
type bench struct {
	t testing.TB
	*onnxpb.ModelProto
}

// loaded reads a model with all weights as raw_data.
func loaded(t testing.TB, path string) *bench {
	t.Helper()
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return inline(t, f)
}

func inline(t testing.TB, f *onnxfile.File) *bench {
	t.Helper()
	m := proto.Clone(f.Model).(*onnxpb.ModelProto)
	fill := func(src, dst *onnxpb.TensorProto) {
		if src.GetDataType() != int32(onnxfile.Float) {
			if len(src.FilterlensPayload) == 0 {
				return
			}
			v, err := f.Tensor(src).Int64s(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			dst.FilterlensPayload, dst.Int64Data = nil, v
			return
		}
		v, err := f.Tensor(src).Float32s(1 << 26)
		if err != nil {
			t.Fatal(err)
		}
		*dst = onnxpb.TensorProto{}
		setFloats(dst, src.GetName(), src.Dims, v)
	}
	for i, p := range f.Model.Graph.Initializer {
		fill(p, m.Graph.Initializer[i])
	}
	return &bench{t, m}
}

func setFloats(p *onnxpb.TensorProto, name string, dims []int64, v []float32) {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	p.Name, p.Dims, p.DataType, p.RawData = proto.String(name), dims, proto.Int32(int32(onnxfile.Float)), raw
	p.FloatData = nil
}

func floatsOf(p *onnxpb.TensorProto) []float32 {
	v := make([]float32, len(p.RawData)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(p.RawData[4*i:]))
	}
	return v
}

func (m *bench) clone() *bench { return &bench{m.t, proto.Clone(m.ModelProto).(*onnxpb.ModelProto)} }

func (m *bench) init(name string) *onnxpb.TensorProto {
	m.t.Helper()
	for _, p := range m.Graph.Initializer {
		if p.GetName() == name {
			return p
		}
	}
	m.t.Fatalf("no initializer %q", name)
	return nil
}

func (m *bench) weights(name string) []float32 { return floatsOf(m.init(name)) }

func (m *bench) set(name string, v []float32, dims ...int64) {
	p := m.init(name)
	if dims == nil {
		dims = p.Dims
	}
	setFloats(p, name, dims, v)
}

func (m *bench) ops(op string) (list []*onnxpb.NodeProto) {
	for _, n := range m.Graph.Node {
		if n.GetOpType() == op {
			list = append(list, n)
		}
	}
	return list
}

func (m *bench) open() *inspect.Model {
	m.t.Helper()
	b, err := proto.Marshal(m.ModelProto)
	if err != nil {
		m.t.Fatal(err)
	}
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "test.onnx")
	if err != nil {
		m.t.Fatal(err)
	}
	x, err := inspect.New(m.t.Context(), f, inspect.Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	return x
}

func compared(t testing.TB, a, b *bench, opt Options) *Delta {
	t.Helper()
	d, err := Compare(t.Context(), a.open(), b.open(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// summary lists all that a Delta reports as different, one line each, for exact
// comparison: nodes that are not kept with their changes, tensors that are not
// equal, filters that are not kept in place.
func summary(d *Delta) []string {
	var out []string
	for _, c := range d.Model {
		out = append(out, fmt.Sprintf("model %s %s %s->%s", c.What, c.Name, c.From, c.To))
	}
	values := func(what string, list []ValueDelta) {
		for _, v := range list {
			if v.Kind != Kept {
				s := what + " " + string(v.Kind)
				for _, c := range v.Changes {
					s += fmt.Sprintf(" %s %s->%s", c.What, c.From, c.To)
				}
				out = append(out, s)
			}
		}
	}
	values("input", d.Inputs)
	values("output", d.Outputs)
	for _, n := range d.Nodes {
		s := string(n.Kind)
		if n.Moved && n.Kind != Moved {
			s += " moved"
		}
		if n.Rewritten {
			s += " rewritten"
		}
		if n.Unclear {
			s += " unclear"
		}
		for _, c := range n.Changes {
			s += " " + c.What
			if c.Name != "" {
				s += ":" + c.Name
			}
			if c.From != "" || c.To != "" {
				s += "(" + c.From + "->" + c.To + ")"
			}
		}
		if s != string(Kept) {
			name := ""
			if n.A != nil {
				name = n.A.Name
			} else {
				name = n.B.Name
			}
			out = append(out, name+": "+s)
		}
	}
	return out
}

func expect(t *testing.T, d *Delta, want ...string) {
	t.Helper()
	got := summary(d)
	if slices.Equal(got, want) {
		return
	}
	for _, s := range got {
		if !slices.Contains(want, s) {
			t.Errorf("reported: %s", s)
		}
	}
	for _, s := range want {
		if !slices.Contains(got, s) {
			t.Errorf("not reported: %s", s)
		}
	}
	if !t.Failed() {
		t.Errorf("order: %v, want %v", got, want)
	}
}

func node(d *Delta, name string) *NodeDelta {
	for i := range d.Nodes {
		n := &d.Nodes[i]
		if n.A != nil && n.A.Name == name || n.A == nil && n.B.Name == name {
			return n
		}
	}
	return nil
}

// edits

// rename gives every node and tensor another name, those of inputs and outputs
// too.
func (m *bench) rename(f func(string) string) {
	to := func(list []string) {
		for i, s := range list {
			if s != "" {
				list[i] = f(s)
			}
		}
	}
	for _, n := range m.Graph.Node {
		if n.GetName() != "" {
			n.Name = proto.String(f(n.GetName()))
		}
		to(n.Input)
		to(n.Output)
	}
	for _, p := range m.Graph.Initializer {
		p.Name = proto.String(f(p.GetName()))
	}
	for _, list := range [][]*onnxpb.ValueInfoProto{m.Graph.Input, m.Graph.Output, m.Graph.ValueInfo} {
		for _, v := range list {
			v.Name = proto.String(f(v.GetName()))
		}
	}
}

// A stack is a chain of convolutions that ends in a Gemm, each of which reads all
// channels of the one before: VGG.
func (m *bench) stack() (list []*onnxpb.NodeProto) {
	for _, n := range m.Graph.Node {
		if n.GetOpType() == "Conv" || n.GetOpType() == "Gemm" {
			list = append(list, n)
		}
	}
	return list
}

// pick keeps the given rows of a layer's weight and bias, in this order.
func (m *bench) pickRows(n *onnxpb.NodeProto, keep []int) {
	for _, name := range n.Input[1:] {
		p := m.init(name)
		v := floatsOf(p)
		size := len(v) / int(p.Dims[0])
		var out []float32
		for _, k := range keep {
			out = append(out, v[k*size:(k+1)*size]...)
		}
		setFloats(p, name, append([]int64{int64(len(keep))}, p.Dims[1:]...), out)
	}
}

// pickChannels keeps the given channels of what a layer reads, in this order; each
// channel is so many numbers of a row.
func (m *bench) pickChannels(n *onnxpb.NodeProto, keep []int, channels int) {
	p := m.init(n.Input[1])
	v := floatsOf(p)
	rows := int(p.Dims[0])
	cols := len(v) / rows
	size := cols / channels
	var out []float32
	for r := range rows {
		for _, k := range keep {
			out = append(out, v[r*cols+k*size:r*cols+(k+1)*size]...)
		}
	}
	dims := slices.Clone(p.Dims)
	dims[1] = dims[1] / int64(channels) * int64(len(keep))
	setFloats(p, p.GetName(), dims, out)
}

// halves converts all float tensors, inputs and outputs to another type.
func (m *bench) convert(d onnxfile.DType) {
	for _, p := range m.Graph.Initializer {
		if p.GetDataType() != int32(onnxfile.Float) {
			continue
		}
		var raw []byte
		for _, x := range floatsOf(p) {
			switch d {
			case onnxfile.Float16:
				raw = binary.LittleEndian.AppendUint16(raw, half(x))
			case onnxfile.BFloat16:
				b := math.Float32bits(x)
				raw = binary.LittleEndian.AppendUint16(raw, uint16((b+0x7fff+b>>16&1)>>16))
			case onnxfile.Double:
				raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(float64(x)))
			}
		}
		p.DataType, p.RawData = proto.Int32(int32(d)), raw
	}
	for _, list := range [][]*onnxpb.ValueInfoProto{m.Graph.Input, m.Graph.Output, m.Graph.ValueInfo} {
		for _, v := range list {
			v.GetType().GetTensorType().ElemType = proto.Int32(int32(d))
		}
	}
}

// half rounds to the nearest half-precision number by trying its neighbours.
func half(x float32) uint16 {
	best, dist := uint16(0), math.Inf(1)
	lo, hi := 0, 0x7bff
	for lo < hi {
		mid := (lo + hi) / 2
		if onnxfile.Float16Value(uint16(mid)) < float32(math.Abs(float64(x))) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	for _, h := range []int{lo - 1, lo} {
		if h < 0 {
			continue
		}
		if d := math.Abs(float64(onnxfile.Float16Value(uint16(h))) - math.Abs(float64(x))); d < dist {
			best, dist = uint16(h), d
		}
	}
	if x < 0 {
		best |= 0x8000
	}
	return best
}

// tune adds noise of the given share of each tensor's deviation.
func tune(v []float32, share float64, r *rand.Rand) {
	var q float64
	for _, x := range v {
		q += float64(x) * float64(x)
	}
	s := math.Sqrt(q/float64(len(v))) * share
	for i := range v {
		v[i] += float32(s * r.NormFloat64())
	}
}

func attrI(name string, v int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func attrInts(name string, v ...int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INTS.Enum(), Ints: v}
}

func attrF(name string, v float32) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_FLOAT.Enum(), F: proto.Float32(v)}
}

func attrT(name string, t *onnxpb.TensorProto) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_TENSOR.Enum(), T: t}
}

func newNode(op, in, out string, attrs ...*onnxpb.AttributeProto) *onnxpb.NodeProto {
	names := func(list string) []string {
		f := strings.Fields(list)
		for i := range f {
			if f[i] == "_" {
				f[i] = ""
			}
		}
		return f
	}
	n := &onnxpb.NodeProto{Name: proto.String("n_" + strings.Fields(out)[0]), OpType: proto.String(op), Input: names(in), Output: names(out), Attribute: attrs}
	if domain, name, ok := strings.Cut(op, "/"); ok {
		n.Domain, n.OpType = proto.String(domain), proto.String(name)
	}
	return n
}

// sketch builds a small model.
func sketch(t testing.TB, opset int64) *bench {
	return &bench{t, &onnxpb.ModelProto{
		IrVersion:   proto.Int64(8),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(opset)}},
		Graph:       &onnxpb.GraphProto{Name: proto.String("g")},
	}}
}

func info(name string, dims ...int64) *onnxpb.ValueInfoProto {
	shape := &onnxpb.TensorShapeProto{}
	for _, d := range dims {
		p := &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}}
		if d < 0 {
			p.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "N"}
		}
		shape.Dim = append(shape.Dim, p)
	}
	return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxfile.Float)), Shape: shape},
	}}}
}

func (m *bench) input(name string, dims ...int64) *bench {
	m.Graph.Input = append(m.Graph.Input, info(name, dims...))
	return m
}

func (m *bench) output(name string, dims ...int64) *bench {
	m.Graph.Output = append(m.Graph.Output, info(name, dims...))
	return m
}

func (m *bench) node(op, in, out string, attrs ...*onnxpb.AttributeProto) *bench {
	m.Graph.Node = append(m.Graph.Node, newNode(op, in, out, attrs...))
	return m
}

// random adds an initializer of normal numbers.
func (m *bench) random(name string, seed uint64, dims ...int64) *bench {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	r := rand.New(rand.NewPCG(seed, 7))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	p := &onnxpb.TensorProto{}
	setFloats(p, name, dims, v)
	m.Graph.Initializer = append(m.Graph.Initializer, p)
	return m
}

func (m *bench) ints(name string, v ...int64) *bench {
	m.Graph.Initializer = append(m.Graph.Initializer, &onnxpb.TensorProto{Name: proto.String(name), Dims: []int64{int64(len(v))}, DataType: proto.Int32(int32(onnxfile.Int64)), Int64Data: v})
	return m
}

func (m *bench) floats(name string, dims []int64, v ...float32) *bench {
	p := &onnxpb.TensorProto{}
	setFloats(p, name, dims, v)
	m.Graph.Initializer = append(m.Graph.Initializer, p)
	return m
}
