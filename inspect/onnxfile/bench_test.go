package onnxfile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"
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
	const size = 48 << 20 // whole elements of every width
	for _, d := range []onnxpb.TensorProto_DataType{onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_DOUBLE,
		onnxpb.TensorProto_INT8, onnxpb.TensorProto_FLOAT8E4M3FN, onnxpb.TensorProto_INT4, onnxpb.TensorProto_FLOAT6E2M3} {
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

// How fast one tensor of 256 MB is read, by one goroutine and by two, beside
// reading its bytes only. Two goroutines cannot be faster where one fills the
// memory bus.
func BenchmarkValuesIn(b *testing.B) {
	const size, elements = 256 << 20, 64 << 20
	path := filepath.Join(b.TempDir(), "m.onnx")
	x := tensorOf("w", onnxpb.TensorProto_FLOAT, elements)
	d := NewDraft(modelOf(x))
	d.SetFloat32(x, make([]float32, elements), elements)
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	if _, err := d.WriteTo(out); err != nil {
		b.Fatal(err)
	}
	f := openAt(b, path)
	t := f.Tensor(f.Model.Graph.Initializer[0])
	payload := f.Model.Graph.Initializer[0].FilterlensPayload[0]
	for _, way := range []struct {
		name string
		read func(from, to int64) error
	}{
		{"pread", func(from, to int64) error {
			buf := make([]byte, 4*blockElements)
			for ; from < to; from += blockElements {
				if _, err := out.ReadAt(buf, payload.GetOffset()+4*from); err != nil {
					return err
				}
			}
			return nil
		}},
		{"float64", func(from, to int64) error { return t.ValuesIn(from, to, func([]float64) error { return nil }) }},
		{"float32", func(from, to int64) error { return t.Float32sIn(from, to, nil, func([]float32) error { return nil }) }},
	} {
		for _, n := range []int64{1, 2} {
			b.Run(fmt.Sprintf("%s/goroutines=%d", way.name, n), func(b *testing.B) {
				b.SetBytes(size)
				for b.Loop() {
					var group errgroup.Group
					for i := range n {
						group.Go(func() error { return way.read(i*elements/n, (i+1)*elements/n) })
					}
					if err := group.Wait(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
