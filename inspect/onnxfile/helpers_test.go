package onnxfile

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// modelOf returns a small model with the given initializers.
func modelOf(tensors ...*onnxpb.TensorProto) *onnxpb.ModelProto {
	return &onnxpb.ModelProto{
		IrVersion:    proto.Int64(8),
		ProducerName: proto.String("test"),
		OpsetImport:  []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(17)}},
		Graph:        &onnxpb.GraphProto{Name: proto.String("g"), Initializer: tensors},
	}
}

func tensorOf(name string, d onnxpb.TensorProto_DataType, dims ...int64) *onnxpb.TensorProto {
	return &onnxpb.TensorProto{Name: proto.String(name), DataType: proto.Int32(int32(d)), Dims: dims}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t testing.TB, b []byte) *File {
	t.Helper()
	f, err := Read(bytes.NewReader(b), int64(len(b)), "m.onnx")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func openAt(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func external(t *onnxpb.TensorProto, location string, offset, length int64) *onnxpb.TensorProto {
	t.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
	t.ExternalData = entries("location", location, "offset", strconv.FormatInt(offset, 10), "length", strconv.FormatInt(length, 10))
	return t
}

func entries(kv ...string) []*onnxpb.StringStringEntryProto {
	var out []*onnxpb.StringStringEntryProto
	for i := 0; i < len(kv); i += 2 {
		out = append(out, &onnxpb.StringStringEntryProto{Key: proto.String(kv[i]), Value: proto.String(kv[i+1])})
	}
	return out
}

func values(t testing.TB, x Tensor) []float64 {
	t.Helper()
	var out []float64
	if err := x.Values(func(b []float64) error { out = append(out, b...); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// sameFloats compares bit for bit, but takes every NaN for the same.
func sameFloats(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float64bits(a[i]) != math.Float64bits(b[i]) && !(math.IsNaN(a[i]) && math.IsNaN(b[i])) {
			return false
		}
	}
	return true
}

// field is one bytes field of a message.
func field(num protowire.Number, body ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), bytes.Join(body, nil))
}

// restore puts the payloads back into the skeleton m, the slow and obvious way.
func restore(t testing.TB, m *onnxpb.ModelProto, file []byte) *onnxpb.ModelProto {
	t.Helper()
	m = proto.Clone(m).(*onnxpb.ModelProto)
	eachTensor(m, func(x *onnxpb.TensorProto) {
		for _, p := range x.FilterlensPayload {
			b := field(protowire.Number(p.GetField()), file[p.GetOffset():][:p.GetLength()])
			if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(b, x); err != nil {
				t.Fatal(err)
			}
		}
		x.FilterlensPayload = nil
	})
	return m
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range append(all, hidden...) {
		out = append(out, filepath.Base(p))
	}
	return out
}
