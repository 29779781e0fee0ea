package probe

import (
	"encoding/binary"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// half returns the nearest number of IEEE 754 binary16 to a number in its normal
// range, 0 below it.
func half(f float32) uint16 {
	b := math.Float32bits(f)
	sign, exp, frac := uint16(b>>16)&0x8000, int(b>>23&0xff)-127+15, b&0x7fffff
	if exp <= 0 {
		return sign
	}
	return sign | uint16(((uint32(exp)<<23|frac)+0xfff+(frac>>13&1))>>13)
}

// convert rewrites every float initializer of the net in another type.
func (n *net) convert(t *testing.T, dtype onnxfile.DType) {
	t.Helper()
	f := n.model(t, -1, testK).Handle
	n.g.Output = nil
	for i, p := range f.Model.Graph.Initializer {
		if f.Tensor(p).DType() != onnxfile.Float {
			continue
		}
		values, err := f.Tensor(p).Float32s(math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		for _, v := range values {
			switch dtype {
			case onnxfile.Float16:
				b = binary.LittleEndian.AppendUint16(b, half(v))
			case onnxfile.Double:
				b = binary.LittleEndian.AppendUint64(b, math.Float64bits(float64(v)))
			}
		}
		n.g.Initializer[i] = &onnxpb.TensorProto{Name: proto.String(p.GetName()), Dims: p.Dims, DataType: proto.Int32(int32(dtype)), RawData: b}
	}
}

// TestMeasureOtherPrecision measures models that convert their input, compute
// in another type and convert the result back.
func TestMeasureOtherPrecision(t *testing.T) {
	if got := [...]uint16{half(1), half(-2), half(65504), half(0.1), half(1e-9)}; got != [...]uint16{0x3c00, 0xc000, 0x7bff, 0x2e66, 0} {
		t.Fatalf("half gives %#x", got)
	}
	eng, set := runtime(t), folder(t, testK, 12)
	convolutions := func(n *net) {
		n.conv("conv1", 3, 4, 3, 1).op("Relu").pool()
		n.conv("conv2", 4, 6, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten").gemm("classifier", 6, testK)
	}
	// The runtime has no convolution in double.
	hidden := func(n *net) {
		n.op("Flatten").gemm("hidden1", 192, 9).op("Relu").gemm("hidden2", 9, 6).op("Relu").gemm("classifier", 6, testK)
	}
	for _, c := range []struct {
		name  string
		dtype onnxfile.DType
		body  func(*net)
		tol   float64
	}{
		{"float16 convolutions", onnxfile.Float16, convolutions, 2e-2},
		{"float16 hidden layers", onnxfile.Float16, hidden, 2e-2},
		{"double hidden layers", onnxfile.Double, hidden, 1e-3},
	} {
		t.Run(c.name, func(t *testing.T) {
			build := func(dtype onnxfile.DType) *Result {
				n := newNet(-1, 3, 8)
				if dtype != onnxfile.Float {
					n.op("Cast", attrInt("to", int64(dtype)))
				}
				c.body(n)
				if dtype != onnxfile.Float {
					n.op("Cast", attrInt("to", int64(onnxfile.Float)))
					n.convert(t, dtype)
				}
				m := n.model(t, -1, testK)
				var results [2]*Result
				for i, memory := range []int64{0, 12 << 10} { // all at once, and trained inside the trunk
					opt := testOptions()
					opt.Memory = memory
					res, err := Measure(t.Context(), eng, m, set, opt)
					if err != nil {
						t.Fatal(err)
					}
					results[i] = res
				}
				equalResults(t, results[0], results[1], 2e-3)
				return results[0]
			}
			want, got := build(onnxfile.Float), build(c.dtype)
			if len(got.Layers) != 2 || !got.Layers[1].Own {
				t.Fatalf("%d layers, skipped %v", len(got.Layers), got.Skipped)
			}
			equalResults(t, want, got, c.tol)
			if got.Accuracy < want.Accuracy-0.1 || got.Accuracy > want.Accuracy+0.1 {
				t.Errorf("accuracy %v, in float %v", got.Accuracy, want.Accuracy)
			}
		})
	}
}
