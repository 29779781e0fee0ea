package inspect

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func TestZeros(t *testing.T) {
	s := newSketch(17).input("x", "n", 4, 8, 8).
		weights("w", []int64{4, 4, 3, 3}, 0, 1, 2, 0). // half
		weights("v", []int64{4, 4, 1, 1}, 0, 0, 0, 1). // three quarters
		weights("scale", []int64{4}, 0).weights("bias", []int64{4}, 1).
		node("Conv", "x w bias", "a").node("Conv", "a v", "b").node("Conv", "b v", "c").
		node("BatchNormalization", "c scale bias bias bias", "d")
	s.Graph.Initializer = append(s.Graph.Initializer, &onnxpb.TensorProto{Name: proto.String("odd"), Dims: []int64{4, 4, 1, 1},
		DataType: proto.Int32(int32(onnxpb.TensorProto_COMPLEX64)), RawData: make([]byte, 128)})
	s.node("Conv", "x odd", "e")
	m := s.model(t, Options{Weights: true})
	want := []float64{0.5, 0.75, 0.75, 1, -1}
	for i, l := range m.Layers {
		switch {
		case want[i] < 0 && l.Zeros != nil:
			t.Errorf("%s: zeros %v of a type that cannot be read", l.Name, *l.Zeros)
		case want[i] >= 0 && (l.Zeros == nil || *l.Zeros != want[i]):
			t.Errorf("%s: zeros %v, want %v", l.Name, l.Zeros, want[i])
		}
	}
	// The shared tensor counts once, the normalisation not at all.
	if z := m.Totals.Zeros; z == nil || *z != (72.0+12)/(144+16) {
		t.Errorf("total %v", z)
	}
}

func TestWeightsAreReadOnlyWhenAsked(t *testing.T) {
	dir := t.TempDir()
	s := newSketch(17).input("x", "n", 400).node("MatMul", "x w", "y")
	s.Graph.Initializer = []*onnxpb.TensorProto{{
		Name: proto.String("w"), Dims: []int64{400, 10}, DataType: proto.Int32(int32(onnxfile.Float)),
		DataLocation: onnxpb.TensorProto_EXTERNAL.Enum(),
		ExternalData: []*onnxpb.StringStringEntryProto{{Key: proto.String("location"), Value: proto.String("w.bin")}},
	}}
	path := filepath.Join(dir, "m.onnx")
	if err := os.WriteFile(path, s.bytes(t), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := New(t.Context(), f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Totals.Parameters != 4000 || m.ExternalBytes != 16000 || m.Totals.WeightBytes != 16000 {
		t.Errorf("%+v, %d external bytes", m.Totals, m.ExternalBytes)
	}
	var te *onnxfile.TensorError
	if _, err = New(t.Context(), f, Options{Weights: true}); !errors.As(err, &te) || te.Tensor != "w" {
		t.Errorf("a missing file gave %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "w.bin"), make([]byte, 16000), 0o644); err != nil {
		t.Fatal(err)
	}
	if m, err = New(t.Context(), f, Options{Weights: true}); err != nil || *m.Totals.Zeros != 1 {
		t.Errorf("%v, %v", m, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = New(ctx, f, Options{Weights: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context gave %v", err)
	}
}
