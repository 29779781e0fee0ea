package refit

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TestRewrite: new numbers in the stored type and layout, nothing else changed,
// wherever the old ones lie.
func TestRewrite(t *testing.T) {
	for _, dtype := range []onnxfile.DType{onnxfile.Float, onnxfile.Float16, onnxfile.BFloat16, onnxfile.Double} {
		for _, beside := range []bool{false, true} {
			n := newNet(dtype)
			n.twins(8)
			n.node("layer", "Conv", []string{n.t, n.weights("w", 6, 8, 3, 3)})
			m := open(t, n.head(6).save(t, beside))
			was := values(t, m, "w")
			next := slices.Clone(was)
			for i := range next {
				switch i % 3 {
				case 0:
					next[i] = 0
				case 1:
					next[i] = float32(i) / 7
				}
			}
			got := rewritten(t, m, map[string][]float32{"w": next})
			st, _ := storedTensor(got, "w")
			if st.DType() != dtype || !slices.Equal(st.Dims(), []int64{6, 8, 3, 3}) {
				t.Errorf("%s: became %s %v", dtype, st.DType(), st.Dims())
			}
			for i, x := range values(t, got, "w") {
				step := 0.0
				if dtype == onnxfile.Float16 {
					step = math.Abs(float64(next[i])) / 1024
				} else if dtype == onnxfile.BFloat16 {
					step = math.Abs(float64(next[i])) / 128
				}
				if math.Abs(float64(x-next[i])) > step/2 {
					t.Fatalf("%s: element %d is %v, not %v", dtype, i, x, next[i])
				}
			}
			if got.Handle.External() {
				t.Errorf("%s: some data still lie outside", dtype)
			}
			sameBut(t, m, got, "w")
		}
	}
}

// sameBut fails when anything but the numbers of a tensor differs.
func sameBut(t *testing.T, a, b *inspect.Model, name string) {
	t.Helper()
	if x, y := a.Handle.Model, b.Handle.Model; x.GetIrVersion() != y.GetIrVersion() || len(x.Graph.Node) != len(y.Graph.Node) ||
		len(x.Graph.Initializer) != len(y.Graph.Initializer) || len(x.Graph.Input) != len(y.Graph.Input) || len(x.Graph.Output) != len(y.Graph.Output) {
		t.Error("the models differ")
		return
	}
	for i, n := range a.Handle.Model.Graph.Node {
		if !proto.Equal(n, b.Handle.Model.Graph.Node[i]) {
			t.Errorf("node %s differs", n.GetName())
		}
	}
	for i, p := range a.Handle.Model.Graph.Initializer {
		q := b.Handle.Model.Graph.Initializer[i]
		same, err := onnxfile.SameData(a.Handle.Tensor(p), b.Handle.Tensor(q))
		if err != nil || p.GetName() != q.GetName() || same == (p.GetName() == name) {
			t.Errorf("tensor %q and %q: same %v, %v", p.GetName(), q.GetName(), same, err)
		}
	}
}

// TestRewriteDouble: elements that do not change keep the digits that single
// precision does not have.
func TestRewriteDouble(t *testing.T) {
	n := newNet(onnxfile.Double)
	n.twins(8).head(8)
	exact := []float64{1.0 / 3, math.Pi, 1e-300, 0}
	b := []byte{}
	for _, x := range exact {
		b = append(b, raw(onnxfile.Double, []float32{0})...)
		for i := range 8 {
			b[len(b)-8+i] = byte(math.Float64bits(x) >> (8 * i))
		}
	}
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("digits"), Dims: []int64{4}, DataType: proto.Int32(int32(onnxfile.Double)), RawData: b})
	m := n.model(t)
	v := values(t, m, "digits")
	v[1] = 3
	got := rewritten(t, m, map[string][]float32{"digits": v})
	st, _ := storedTensor(got, "digits")
	exact[1] = 3
	err := st.Values(func(block []float64) error {
		if !slices.Equal(block, exact) {
			t.Errorf("%v, not %v", block, exact)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRewriteConstants: numbers that Constant nodes hold.
func TestRewriteConstants(t *testing.T) {
	constant := func(name string, a *onnxpb.AttributeProto) *onnxpb.NodeProto {
		return &onnxpb.NodeProto{OpType: proto.String("Constant"), Name: proto.String(name), Output: []string{name}, Attribute: []*onnxpb.AttributeProto{a}}
	}
	n := newNet(onnxfile.Float)
	n.twins(8).head(8)
	n.g.Node = append([]*onnxpb.NodeProto{
		constant("tensor", &onnxpb.AttributeProto{Name: proto.String("value"), Type: onnxpb.AttributeProto_TENSOR.Enum(),
			T: &onnxpb.TensorProto{Dims: []int64{2}, DataType: proto.Int32(1), FloatData: []float32{1, 2}}}),
		constant("list", &onnxpb.AttributeProto{Name: proto.String("value_floats"), Type: onnxpb.AttributeProto_FLOATS.Enum(), Floats: []float32{1, 2}}),
		constant("one", &onnxpb.AttributeProto{Name: proto.String("value_float"), Type: onnxpb.AttributeProto_FLOAT.Enum(), F: proto.Float32(1)}),
		constant("whole", attrInt("value_int", 3)),
	}, n.g.Node...)
	m := n.model(t)
	want := map[string][]float32{"tensor": {3, 4}, "list": {5, 6}, "one": {7}}
	got := rewritten(t, m, want)
	for name, v := range want {
		if x := values(t, got, name); !slices.Equal(x, v) {
			t.Errorf("%s is %v, not %v", name, x, v)
		}
	}
	if x := values(t, m, "list"); !slices.Equal(x, []float32{1, 2}) {
		t.Errorf("the model itself has changed: %v", x)
	}
}

func TestRewriteRefuses(t *testing.T) {
	n := newNet(onnxfile.Float16)
	n.twins(8).head(8)
	n.g.Initializer = append(n.g.Initializer, intsTensor("integers", 1, 2))
	m := n.model(t)
	for _, c := range []struct {
		name   string
		values []float32
		want   error
	}{
		{"nothing", []float32{1}, ErrNoTensor},
		{"image", []float32{1}, ErrNoTensor},
		{"twins", []float32{1}, ErrNoTensor},
		{"b.twins", make([]float32, 7), ErrLength},
		{"b.twins", nil, ErrLength},
		{"b.twins", []float32{0, 0, 0, 0, 0, 0, 0, 65520}, ErrRange},
		{"b.twins", []float32{0, 0, float32(math.NaN()), 0, 0, 0, 0, 0}, ErrRange},
		{"b.twins", []float32{0, 0, float32(math.Inf(-1)), 0, 0, 0, 0, 0}, ErrRange},
		{"integers", []float32{1, 2}, onnxfile.ErrUnsupportedType},
	} {
		_, err := Rewrite(m, map[string][]float32{c.name: c.values})
		var typed *onnxfile.TensorError
		if !errors.Is(err, c.want) || !errors.As(err, &typed) || typed.Tensor != c.name || typed.File != m.File {
			t.Errorf("%s %v: %v", c.name, c.values, err)
		}
	}
	if _, err := Rewrite(m, map[string][]float32{"b.twins": {65504, -65504, 65519, 0, 0, 0, 0, 0}}); err != nil {
		t.Error(err)
	}
}

// TestRewriteMissingData: external data that is not there is an error before
// anything is written.
func TestRewriteMissingData(t *testing.T) {
	n := newNet(onnxfile.Float)
	path := n.twins(8).head(8).save(t, true)
	m := open(t, path)
	if err := os.Remove(filepath.Join(filepath.Dir(path), "w.data")); err != nil {
		t.Fatal(err)
	}
	var typed *onnxfile.TensorError
	if _, err := Rewrite(m, nil); !errors.As(err, &typed) {
		t.Error(err)
	}
}

func TestBfloat16(t *testing.T) {
	for x, want := range map[float32]uint16{0: 0, 1: 0x3f80, -2: 0xc000, 1 + 1.0/256: 0x3f80, 1 + 3.0/256: 0x3f82, 1 + 1.0/255: 0x3f81} {
		if got := bfloat16Bits(x); got != want {
			t.Errorf("%v is %#x, not %#x", x, got, want)
		}
	}
}

// FuzzNarrow: what is written is as long as announced and reads back as the nearest
// number.
func FuzzNarrow(f *testing.F) {
	f.Add(uint32(0x3f800001), 3)
	f.Add(uint32(0x38000000), narrowBlock+1)
	f.Fuzz(func(t *testing.T, bits uint32, n int) {
		x := math.Float32frombits(bits)
		if n < 0 || n > 1<<17 || !(math.Abs(float64(x)) <= 65519) {
			return
		}
		v := slices.Repeat([]float32{x}, n)
		for _, dtype := range []onnxfile.DType{onnxfile.Float, onnxfile.Float16, onnxfile.BFloat16} {
			c := narrowContent{v, dtype}
			var b bytes.Buffer
			if k, err := c.WriteTo(&b); err != nil || k != c.Len() || int64(b.Len()) != k {
				t.Fatalf("%s: %d bytes of %d, %v", dtype, k, c.Len(), err)
			}
			for i := 0; i+2 <= b.Len(); i += 2 {
				h := uint16(b.Bytes()[i]) | uint16(b.Bytes()[i+1])<<8
				switch dtype {
				case onnxfile.Float16:
					if y := onnxfile.Float16Value(h); math.Abs(float64(x-y)) > math.Max(math.Abs(float64(x))/2048, math.Ldexp(1, -25)) {
						t.Fatalf("%v became %v", x, y)
					}
				case onnxfile.BFloat16:
					if y := math.Float32frombits(uint32(h) << 16); math.Abs(float64(x-y)) > math.Max(math.Abs(float64(x))/256, math.Ldexp(1, -134)) {
						t.Fatalf("%v became %v", x, y)
					}
				}
			}
		}
	})
}
