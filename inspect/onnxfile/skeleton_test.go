package onnxfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A tensor that the walk does not reach would be decoded with its payload, and
// a hostile payload field in it would be believed.
func TestKindsCoverTheSchema(t *testing.T) {
	kinds := map[protoreflect.Name]kind{
		"ModelProto": kindModel, "GraphProto": kindGraph, "NodeProto": kindNode, "AttributeProto": kindAttribute,
		"TensorProto": kindTensor, "SparseTensorProto": kindSparse, "TrainingInfoProto": kindTraining, "FunctionProto": kindFunction,
	}
	messages := onnxpb.File_inspect_onnxfile_onnxpb_onnx_proto.Messages()
	for i := range messages.Len() {
		m := messages.Get(i)
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			want := kindOther
			if f.Message() != nil && kinds[m.Name()] != kindOther {
				want = kinds[f.Message().Name()]
			}
			if f.Message() != nil && kinds[m.Name()] == kindOther && kinds[f.Message().Name()] != kindOther {
				t.Errorf("%s holds %s but is not walked", m.Name(), f.Message().Name())
			}
			if got := kinds[m.Name()].child(f.Number()); got != want {
				t.Errorf("%s.%s: child kind %v, want %v", m.Name(), f.Name(), got, want)
			}
			single := want == kindTensor || want == kindSparse
			if got := kinds[m.Name()].singleTensor(f.Number()); got != (single && !f.IsList()) {
				t.Errorf("%s.%s: singleTensor %v", m.Name(), f.Name(), got)
			}
			if f.Number() < 20 && m.Name() == "TensorProto" {
				if got, want := isPayload(f.Number()), strings.HasSuffix(string(f.Name()), "_data") && f.Name() != "string_data" && f.Name() != "external_data"; got != want {
					t.Errorf("isPayload(%s) = %v", f.Name(), got)
				}
			}
		}
	}
}

// everywhere puts a tensor of n bytes at each place where a model can have one.
func everywhere(n int) *onnxpb.ModelProto {
	i := 0
	tensor := func() *onnxpb.TensorProto {
		i++
		t := tensorOf(fmt.Sprint("t", i), onnxpb.TensorProto_UINT8, int64(n))
		t.RawData = bytes.Repeat([]byte{byte(i)}, n)
		t.DocString = proto.String("after the payload")
		return t
	}
	sparse := func() *onnxpb.SparseTensorProto {
		return &onnxpb.SparseTensorProto{Values: tensor(), Indices: tensor(), Dims: []int64{9}}
	}
	graph := func(nodes ...*onnxpb.NodeProto) *onnxpb.GraphProto {
		return &onnxpb.GraphProto{
			Initializer:       []*onnxpb.TensorProto{tensor(), tensor()},
			SparseInitializer: []*onnxpb.SparseTensorProto{sparse()},
			Node:              nodes,
		}
	}
	attribute := func() *onnxpb.AttributeProto {
		return &onnxpb.AttributeProto{
			Name: proto.String("a"), T: tensor(), Tensors: []*onnxpb.TensorProto{tensor(), tensor()},
			G: graph(), Graphs: []*onnxpb.GraphProto{graph(), graph()},
			SparseTensor: sparse(), SparseTensors: []*onnxpb.SparseTensorProto{sparse()},
		}
	}
	node := func() *onnxpb.NodeProto {
		return &onnxpb.NodeProto{OpType: proto.String("If"), Attribute: []*onnxpb.AttributeProto{attribute(), attribute()}}
	}
	return &onnxpb.ModelProto{
		Graph:        graph(node(), node()),
		TrainingInfo: []*onnxpb.TrainingInfoProto{{Initialization: graph(node()), Algorithm: graph()}},
		Functions:    []*onnxpb.FunctionProto{{Node: []*onnxpb.NodeProto{node()}, AttributeProto: []*onnxpb.AttributeProto{attribute()}}},
	}
}

func TestSkeletonIsTheModelWithoutPayloads(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	packed := tensorOf("packed", onnxpb.TensorProto_FLOAT, 400)
	for range 400 {
		packed.FloatData = append(packed.FloatData, rnd.Float32())
	}
	ints := tensorOf("ints", onnxpb.TensorProto_INT64, 300)
	for range 300 {
		ints.Int64Data = append(ints.Int64Data, int64(rnd.Uint64()))
	}
	unknown := modelOf(packed, ints)
	unknown.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 7))
	unknown.Graph.ProtoReflect().SetUnknown(field(998, bytes.Repeat([]byte("x"), 200_000)))
	for _, c := range []struct {
		name string
		m    *onnxpb.ModelProto
		left bool // whether payloads are large enough to stay in the file
	}{
		{"empty graph", modelOf(), false},
		{"payloads below the limit", everywhere(payloadLimit - 1), false},
		{"payloads at the limit", everywhere(payloadLimit), true},
		{"payloads beyond the window", everywhere(windowBytes + 3), true},
		{"unknown fields and typed data", unknown, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := marshal(t, c.m)
			want := new(onnxpb.ModelProto)
			if err := proto.Unmarshal(b, want); err != nil {
				t.Fatal(err)
			}
			f := read(t, b)
			tensors, ranges := 0, 0
			eachTensor(f.Model, func(x *onnxpb.TensorProto) { tensors++; ranges += len(x.FilterlensPayload) })
			if c.left && ranges != tensors || !c.left && ranges != 0 {
				t.Errorf("%d payloads left in the file, %d tensors", ranges, tensors)
			}
			if !proto.Equal(restore(t, f.Model, b), want) {
				t.Error("skeleton and payloads are not the model")
			}
			out, err := f.Draft().Bytes()
			if err != nil {
				t.Fatal(err)
			}
			again := new(onnxpb.ModelProto)
			if err := proto.Unmarshal(out, again); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(again, want) {
				t.Error("an unchanged draft is another model")
			}
			if len(out) != len(b) {
				t.Errorf("%d bytes written, %d read", len(out), len(b))
			}
			if n, err := f.Draft().Size(); err != nil || n != int64(len(out)) {
				t.Errorf("Size = %d, %v, wrote %d", n, err, len(out))
			}
		})
	}
}

// Writers other than protobuf's put fields in any order; raw_data last is what
// canonical order gives for the tensors that ONNX exporters write.
func TestUnchangedDraftIsTheSameBytes(t *testing.T) {
	x := tensorOf("w", onnxpb.TensorProto_UINT8, 5000)
	x.RawData = bytes.Repeat([]byte("abcde"), 1000)
	b := marshal(t, modelOf(x))
	if out, err := read(t, b).Draft().Bytes(); err != nil || !bytes.Equal(out, b) {
		t.Errorf("err %v, %d bytes, want the same %d", err, len(out), len(b))
	}
}

func nested(levels int) []byte {
	b := field(1, field(4, []byte("If")))
	for range levels {
		b = field(1, field(5, field(6, b)))
	}
	return field(7, b)
}

func TestReadRefuses(t *testing.T) {
	big := bytes.Repeat([]byte{1}, payloadLimit)
	tensor := func(fields ...[]byte) []byte { return field(7, field(5, fields...)) }
	attr := func(fields ...[]byte) []byte { return field(7, field(1, field(5, fields...))) }
	x := tensorOf("w", onnxpb.TensorProto_UINT8, 4000)
	x.RawData = make([]byte, 4000)
	whole := marshal(t, modelOf(x))
	for _, c := range []struct {
		name, want string
		b          []byte
	}{
		{"empty", "the file is empty", nil},
		{"no graph", "it holds no graph", field(2, []byte("me"))},
		{"truncated payload", "claims 4017 bytes, 4012 are left", whole[:len(whole)-9]},
		{"truncated header", "", whole[:20]},
		{"fixed field beyond its message", "ends in the middle", append(field(7, []byte{2<<3 | 5, 1, 2, 3}), field(2, []byte("me"))...)},
		{"varint beyond its message", "ends in the middle", append(field(7, []byte{2 << 3, 0x80}), 1<<3, 1)},
		{"bytes beyond their message", "claims 4 bytes, 3 are left", append(field(7, []byte{2<<3 | 2, 4, 1, 2, 3}), field(2, []byte("me"))...)},
		{"length beyond int64", "claims 18446744073709551615 bytes", append(protowire.AppendTag(nil, 7, protowire.BytesType), 255, 255, 255, 255, 255, 255, 255, 255, 255, 1)},
		{"endless varint", "a number of more than 64 bits", bytes.Repeat([]byte{0xff}, 40)},
		{"field number 0", "invalid field number 0", []byte{0, 0}},
		{"group", "wire type 3", []byte{7<<3 | 3, 7<<3 | 4}},
		{"reserved field", "field 50001 is reserved", tensor(field(payloadField, appendPayload(nil, 9, 0, 1<<40)))},
		{"reserved field as a number", "field 50001 is reserved", tensor(protowire.AppendVarint(protowire.AppendTag(nil, payloadField, protowire.VarintType), 1))},
		{"reserved field in an attribute", "field 50001 is reserved", attr(field(5, field(payloadField)))},
		{"payload twice", "field 9 is stored in several pieces", tensor(field(9, big), field(9, big))},
		{"small piece, payload", "field 9 is stored in several pieces", tensor(field(9, []byte{1}), field(9, big))},
		{"payload, small piece", "field 4 is stored in several pieces", tensor(field(4, big), field(4, []byte{1, 2, 3, 4}))},
		{"payload, single value", "field 4 is stored in several pieces", tensor(field(4, big), []byte{4<<3 | 5, 1, 2, 3, 4})},
		{"tensor of an attribute twice", "field 5 is given twice", attr(field(5, field(9, big)), field(5, field(9, []byte{1})))},
		{"values of a sparse tensor twice", "field 1 is given twice", field(7, field(15, field(1), field(1)))},
		{"raw data as a number", "field 9 has wire type 0", tensor([]byte{9 << 3, 1})},
		{"float data as a varint", "field 4 has wire type 0", tensor([]byte{4 << 3, 1})},
		{"nested too deep", "nested deeper than 200", nested(80)},
		{"nested much too deep", "nested deeper than 200", nested(5000)},
		{"wrong type in a nested message", "does not decode", field(7, field(11, field(2, []byte{0xff})))},
		{"git-lfs pointer", "git lfs pull", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")},
		{"text", "not a readable ONNX model", []byte("<!DOCTYPE html><html><body>404</body></html>")},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(c.b), int64(len(c.b)), "m.onnx")
			var fe *FormatError
			if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "m.onnx: ") {
				t.Fatalf("error %v, want a FormatError with %q", err, c.want)
			}
			if strings.ContainsAny(err.Error(), "\n\u00a0") {
				t.Errorf("message %q is not one plain line", err)
			}
		})
	}
	if _, err := Read(bytes.NewReader(nested(60)), int64(len(nested(60))), "m.onnx"); err != nil {
		t.Errorf("sixty nested graphs: %v", err)
	}
}

// A cut model is refused or, cut between fields, another model; never
// a panic, never the whole one.
func TestEveryTruncation(t *testing.T) {
	b := marshal(t, everywhere(payloadLimit))
	for n := 0; n < len(b); n += 1 + n%13 {
		f, err := Read(bytes.NewReader(b[:n]), int64(n), "m")
		if err == nil && proto.Size(f.Model) >= len(b) {
			t.Fatalf("%d of %d bytes are the whole model", n, len(b))
		}
	}
}

type shrinking struct {
	io.ReaderAt
	size int64
}

func (s shrinking) ReadAt(p []byte, off int64) (int, error) {
	if off >= s.size {
		return 0, io.EOF
	}
	if int64(len(p)) > s.size-off {
		n, _ := s.ReaderAt.ReadAt(p[:s.size-off], off)
		return n, io.EOF
	}
	return s.ReaderAt.ReadAt(p, off)
}

func TestFileShrinks(t *testing.T) {
	x := tensorOf("w", onnxpb.TensorProto_UINT8, 400_000)
	x.RawData = make([]byte, 400_000)
	b := marshal(t, modelOf(x))
	if _, err := Read(shrinking{bytes.NewReader(b), 30}, int64(len(b)), "m"); !errors.Is(err, ErrChanged) {
		t.Errorf("Read: %v", err)
	}
	r := &shrinking{bytes.NewReader(b), int64(len(b))}
	f, err := Read(r, int64(len(b)), "m.onnx")
	if err != nil {
		t.Fatal(err)
	}
	r.size = 200_000
	err = f.Tensor(f.Model.Graph.Initializer[0]).Values(func([]float64) error { return nil })
	var te *TensorError
	if !errors.As(err, &te) || te.Tensor != "w" || !errors.Is(err, ErrChanged) {
		t.Errorf("Values: %v", err)
	}
	if _, err := f.Draft().Bytes(); !errors.Is(err, ErrChanged) {
		t.Errorf("Bytes: %v", err)
	}
}

// A payload is skipped, not read: that is what the skeleton is for.
func TestPayloadsAreNotRead(t *testing.T) {
	b := marshal(t, everywhere(300_000))
	r := &counting{ReaderAt: bytes.NewReader(b)}
	f, err := Read(r, int64(len(b)), "m")
	if err != nil {
		t.Fatal(err)
	}
	tensors := 0
	eachTensor(f.Model, func(*onnxpb.TensorProto) { tensors++ })
	if limit := int64(tensors+2) * 2 * firstRead; r.n > limit {
		t.Errorf("%d bytes read for %d tensors, at most %d are needed", r.n, tensors, limit)
	}
}

type counting struct {
	io.ReaderAt
	n int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.n += int64(len(p))
	return c.ReaderAt.ReadAt(p, off)
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo.onnx")
	mkfifo(t, fifo)
	for _, path := range []string{fifo, dir, filepath.Join(dir, "missing.onnx"), filepath.Join(dir, "missing", "m.onnx")} {
		done := make(chan error, 1)
		go func() {
			f, err := Open(path)
			if err == nil {
				f.Close()
			}
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("Open(%s): %v", path, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("Open(%s) waits", path)
		}
	}
	if _, err := Open(filepath.Join(dir, "missing.onnx")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
