package onnxfile

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// sparseModel writes a model of n float tensors of size bytes each, whose
// payloads are holes in the file.
func sparseModel(b *testing.B, d onnxpb.TensorProto_DataType, n int, size, elements int64) string {
	b.Helper()
	var graph int64
	var heads [][]byte
	for range n {
		head := marshal(b, tensorOf("layer.weight", d, elements))
		head = protowire.AppendVarint(protowire.AppendTag(head, rawField, protowire.BytesType), uint64(size))
		head = append(protowire.AppendVarint(protowire.AppendTag(nil, 5, protowire.BytesType), uint64(int64(len(head))+size)), head...)
		heads = append(heads, head)
		graph += int64(len(head)) + size
	}
	path := filepath.Join(b.TempDir(), "m.onnx")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(protowire.AppendVarint(protowire.AppendTag(nil, 7, protowire.BytesType), uint64(graph))); err != nil {
		b.Fatal(err)
	}
	for _, h := range heads {
		if _, err := f.Write(h); err != nil {
			b.Fatal(err)
		}
		off, err := f.Seek(size, 1)
		if err == nil {
			err = f.Truncate(off)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return path
}

func BenchmarkOpen(b *testing.B) {
	for _, c := range []struct {
		name    string
		tensors int
		size    int64
	}{{"32x17MB", 32, 17 << 20}, {"10000x40KB", 10_000, 40 << 10}} {
		b.Run(c.name, func(b *testing.B) {
			path := sparseModel(b, onnxpb.TensorProto_FLOAT, c.tensors, c.size, c.size/4)
			b.ReportAllocs()
			for b.Loop() {
				f, err := Open(path)
				if err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
	}
}

func BenchmarkValues(b *testing.B) {
	const size = 64 << 20
	for _, d := range []onnxpb.TensorProto_DataType{onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_DOUBLE, onnxpb.TensorProto_INT8} {
		b.Run(DType(d).String(), func(b *testing.B) {
			f, err := Open(sparseModel(b, d, 1, size, size*8/DType(d).Bits()))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			x := f.Tensor(f.Model.Graph.Initializer[0])
			b.SetBytes(size)
			for b.Loop() {
				if err := x.Values(func([]float64) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
