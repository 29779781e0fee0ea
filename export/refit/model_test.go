package refit

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// classes is the number of labels of the data that the nets below are run on.
const classes = 20

// net writes small classifiers, which read "image" of batch x 1 x 8 x 8. Their
// floats are of one type.
type net struct {
	g     *onnxpb.GraphProto
	r     *rand.Rand
	t     string // the tensor that the next operator reads
	dtype onnxfile.DType
}

func newNet(dtype onnxfile.DType) *net {
	in := dtype
	if in == onnxfile.Double {
		in = onnxfile.Float
	}
	return &net{g: &onnxpb.GraphProto{Name: proto.String("net"), Input: []*onnxpb.ValueInfoProto{valueOf("image", in, -1, 1, 8, 8)}},
		r: rand.New(rand.NewPCG(5, 5)), t: "image", dtype: dtype}
}

func valueOf(name string, dtype onnxfile.DType, dims ...int64) *onnxpb.ValueInfoProto {
	v := valueInfo(name, dtype, dims...)
	for _, d := range v.Type.GetTensorType().Shape.Dim {
		if d.Value == nil {
			d.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "batch"}
		}
	}
	return v
}

// raw returns numbers as a tensor of that type stores them.
func raw(dtype onnxfile.DType, v []float32) (b []byte) {
	for _, x := range v {
		switch dtype {
		case onnxfile.Float:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		case onnxfile.Double:
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(float64(x)))
		case onnxfile.Float16:
			b = binary.LittleEndian.AppendUint16(b, probe.NewTensor([]float32{x}, true, 1).Data.([]uint16)[0])
		default:
			b = binary.LittleEndian.AppendUint16(b, bfloat16Bits(x))
		}
	}
	return b
}

func (n *net) floats(name string, v []float32, dims ...int64) string {
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(n.dtype)), RawData: raw(n.dtype, v)})
	return name
}

// weights adds an initializer of drawn numbers.
func (n *net) weights(name string, dims ...int64) string {
	e := int64(1)
	for _, d := range dims {
		e *= d
	}
	v := make([]float32, e)
	for i := range v {
		v[i] = float32(n.r.NormFloat64() / 2)
	}
	return n.floats(name, v, dims...)
}

func (n *net) node(name, op string, in []string, attrs ...*onnxpb.AttributeProto) *net {
	n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: proto.String(op), Name: proto.String(name), Input: in, Output: []string{name}, Attribute: attrs})
	n.t = name
	return n
}

func attrText(name, v string) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_STRING.Enum(), S: []byte(v)}
}

func attrNumber(name string, v float32) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_FLOAT.Enum(), F: proto.Float32(v)}
}

// twins adds a convolution of 3 x 3 with a Relu whose channels 2i and 2i+1 are the
// same.
func (n *net) twins(channels int) *net {
	w := make([]float32, channels*9)
	b := make([]float32, channels)
	for i := 0; i < channels; i += 2 {
		for j := range 9 {
			w[i*9+j] = float32(n.r.NormFloat64())
		}
		copy(w[(i+1)*9:(i+2)*9], w[i*9:(i+1)*9])
		b[i] = float32(n.r.NormFloat64())
		b[i+1] = b[i]
	}
	n.node("twins", "Conv", []string{n.t, n.floats("w.twins", w, int64(channels), 1, 3, 3), n.floats("b.twins", b, int64(channels))}, attrInts("pads", 1, 1, 1, 1))
	return n.node("twins.relu", "Relu", []string{n.t})
}

// head ends the net in a pooling and a classifier.
func (n *net) head(channels int64) *net {
	n.node("pool", "GlobalAveragePool", []string{n.t})
	n.node("flat", "Flatten", []string{n.t})
	return n.node("classifier", "Gemm", []string{n.t, n.weights("w.classifier", classes, channels), n.weights("b.classifier", classes)}, attrInt("transB", 1))
}

// save writes the net into a folder of its own; beside tells that the numbers lie
// in a file "w.data" beside it.
func (n *net) save(t testing.TB, beside bool) string {
	t.Helper()
	dir := t.TempDir()
	m := &onnxpb.ModelProto{IrVersion: proto.Int64(8), OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(13)}}, Graph: proto.Clone(n.g).(*onnxpb.GraphProto)}
	out := onnxfile.DType(m.Graph.Input[0].GetType().GetTensorType().GetElemType())
	m.Graph.Output = append(m.Graph.Output, valueOf(n.t, out, -1, classes))
	if beside {
		var data []byte
		for _, p := range m.Graph.Initializer {
			p.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
			for k, v := range map[string]string{"location": "w.data", "offset": strconv.Itoa(len(data)), "length": strconv.Itoa(len(p.RawData))} {
				p.ExternalData = append(p.ExternalData, &onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(v)})
			}
			data, p.RawData = append(data, p.RawData...), nil
		}
		if err := os.WriteFile(filepath.Join(dir, "w.data"), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "model.onnx")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func (n *net) model(t testing.TB) *inspect.Model {
	t.Helper()
	return open(t, n.save(t, false))
}

// values reads a stored tensor.
func values(t testing.TB, m *inspect.Model, name string) []float32 {
	t.Helper()
	st, ok := storedTensor(m, name)
	if !ok {
		t.Fatalf("no tensor %q", name)
	}
	v, err := st.Float32s(1 << 28)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func intsTensor(name string, v ...int64) *onnxpb.TensorProto {
	return &onnxpb.TensorProto{Name: proto.String(name), Dims: []int64{int64(len(v))}, DataType: proto.Int32(int32(onnxfile.Int64)), Int64Data: v}
}

// indexes returns the first n samples of each set.
func indexes(set *dataset.Set, n int) []int {
	v := make([]int, min(n, set.Len()))
	for i := range v {
		v[i] = i * set.Len() / len(v)
	}
	return v
}

func findSite(t testing.TB, original, masked *inspect.Model, name string) *site {
	t.Helper()
	sites, skipped, err := findSites(original, masked, []string{name}, DefaultMemory)
	if err != nil || len(sites) != 1 {
		t.Fatal(err, skipped)
	}
	return sites[0]
}
