package onnxfile

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func floats(name string, v ...float32) *onnxpb.TensorProto {
	x := tensorOf(name, onnxpb.TensorProto_FLOAT, int64(len(v)))
	x.FloatData = v
	return x
}

func TestDraftReplacesData(t *testing.T) {
	long := slices.Repeat([]float32{1, 2, 3, 4}, 300)
	ints := tensorOf("ints", onnxpb.TensorProto_INT64, 1)
	ints.Int64Data = []int64{5}
	f := read(t, marshal(t, modelOf(floats("kept", long...), floats("a", long...), floats("b", 1, 2), ints)))
	before := proto.Clone(f.Model)

	d := f.Draft()
	d.SetFloat32(d.Initializer("a"), []float32{7, 8, 9, float32(math.Inf(1))}, 2, 2)
	d.SetRaw(d.Initializer("b"), BytesContent{0, 0, 128, 63, 0, 0, 0, 64})
	d.SetRaw(d.Initializer("b"), BytesContent{0, 0, 0, 64, 0, 0, 128, 63}) // the last one counts
	d.SetInt64(d.Initializer("ints"), []int64{-1, math.MaxInt64}, 2)
	fresh := new(onnxpb.TensorProto)
	fresh.Name = proto.String("fresh")
	d.SetFloat32(fresh, slices.Repeat([]float32{0.5}, windowBytes), windowBytes)
	d.Model.Graph.Initializer = append(d.Model.Graph.Initializer, fresh)
	d.Model.Graph.Initializer[0], d.Model.Graph.Initializer[3] = d.Model.Graph.Initializer[3], d.Model.Graph.Initializer[0]
	if d.Initializer("nothing") != nil {
		t.Error("an initializer that is not there")
	}

	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	g := read(t, b)
	at := func(name string) Tensor {
		for _, p := range g.Model.Graph.Initializer {
			if p.GetName() == name {
				return g.Tensor(p)
			}
		}
		t.Fatalf("no %s", name)
		return Tensor{}
	}
	for name, want := range map[string][]float64{
		"a": {7, 8, 9, math.Inf(1)}, "b": {2, 1},
		"kept": slices.Repeat([]float64{1, 2, 3, 4}, 300), "fresh": slices.Repeat([]float64{0.5}, windowBytes),
	} {
		if got := values(t, at(name)); !slices.Equal(got, want) {
			t.Errorf("%s: other values", name)
		}
	}
	if got, err := at("ints").Int64s(2); err != nil || !slices.Equal(got, []int64{-1, math.MaxInt64}) {
		t.Errorf("ints: %v, %v", got, err)
	}
	if d := at("a").Dims(); !slices.Equal(d, []int64{2, 2}) {
		t.Errorf("dimensions %v", d)
	}
	if !proto.Equal(f.Model, before) {
		t.Error("the draft has changed its file")
	}
	if err := f.Tensor(d.Initializer("a")).Values(func([]float64) error { return nil }); err == nil || !strings.Contains(err.Error(), "not written yet") {
		t.Errorf("values of a draft's tensor: %v", err)
	}
}

func TestRawWithEdit(t *testing.T) {
	const n = 3<<20/4 + 11 // four blocks
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i + 1)
	}
	f := read(t, marshal(t, modelOf(floats("w", v...), floats("small", 1, 2, 3))))
	d := f.Draft()
	for _, name := range []string{"w", "small"} {
		x := d.Initializer(name)
		next := int64(0)
		c, err := f.Tensor(proto.Clone(x).(*onnxpb.TensorProto)).Raw(func(b []byte, off int64) {
			if off%(1<<20) != 0 || off != next && off != 0 {
				t.Errorf("block at %d after %d", off, next)
			}
			next = off + int64(len(b))
			for i := 0; i < len(b); i += 8 { // every other value
				clear(b[i : i+4])
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		d.SetRaw(x, c)
	}
	for range 2 { // a draft can be written twice
		b, err := d.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		g := read(t, b)
		got := values(t, g.Tensor(g.Model.Graph.Initializer[0]))
		for i, x := range got {
			want := float64(v[i])
			if i%2 == 0 {
				want = 0
			}
			if x != want {
				t.Fatalf("value %d is %v, want %v", i, x, want)
			}
		}
		if got := values(t, g.Tensor(g.Model.Graph.Initializer[1])); !slices.Equal(got, []float64{0, 2, 0}) {
			t.Errorf("small: %v", got)
		}
	}
	if got := values(t, f.Tensor(f.Model.Graph.Initializer[1])); !slices.Equal(got, []float64{1, 2, 3}) {
		t.Errorf("the edit has changed the source: %v", got)
	}
}

func TestInlineExternalEverywhere(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "w.bin"), bytes.Repeat([]byte("wxyz"), 1000))
	m := everywhere(600)
	n := int64(0)
	eachTensor(m, func(x *onnxpb.TensorProto) {
		x.RawData = nil
		external(x, "w.bin", n, 600)
		n += 3
	})
	f := openAt(t, write(t, filepath.Join(dir, "m.onnx"), marshal(t, m)))
	d := f.Draft()
	if err := d.InlineExternal(); err != nil {
		t.Fatal(err)
	}
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	g := read(t, b)
	if g.External() || !f.External() {
		t.Error("External is wrong")
	}
	n = 0
	eachTensor(g.Model, func(x *onnxpb.TensorProto) {
		if v := values(t, g.Tensor(x)); len(v) != 600 || byte(v[0]) != "wxyz"[n%4] {
			t.Errorf("%s: %d values", x.GetName(), len(v))
		}
		n += 3
	})
	if err := NewDraft(f.Model).InlineExternal(); err == nil {
		t.Error("external data without a source file")
	}
}

func TestNewDraftWritesWhatItIsGiven(t *testing.T) {
	m := everywhere(5000)
	b, err := NewDraft(m).Bytes()
	if err != nil || !bytes.Equal(b, marshal(t, m)) {
		t.Errorf("other bytes, %v", err)
	}
}

type hugeContent struct{ n int64 }

func (c hugeContent) Len() int64                       { return c.n }
func (c hugeContent) WriteTo(io.Writer) (int64, error) { return 0, nil }

type failing struct{ after int }

var errFull = errors.New("no space left on device")

func (w *failing) Write(b []byte) (int, error) {
	if len(b) > w.after {
		n := w.after
		w.after = 0
		return n, errFull
	}
	w.after -= len(b)
	return len(b), nil
}

func TestDraftErrors(t *testing.T) {
	f := read(t, marshal(t, modelOf(floats("w", make([]float32, 5000)...))))
	d := f.Draft()
	d.SetRaw(d.Initializer("w"), hugeContent{1 << 31})
	if _, err := d.Size(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("2 GB: %v", err)
	}
	if n, err := d.WriteTo(io.Discard); !errors.Is(err, ErrTooLarge) || n != 0 {
		t.Errorf("2 GB: %d bytes written, %v", n, err)
	}
	d.SetRaw(d.Initializer("w"), hugeContent{7})
	if _, err := d.Bytes(); err == nil || !strings.Contains(err.Error(), "wrote 0 of 7 bytes") {
		t.Errorf("lying content: %v", err)
	}
	other := NewDraft(modelOf(proto.Clone(d.Initializer("w")).(*onnxpb.TensorProto)))
	if _, err := other.Bytes(); err == nil || !strings.Contains(err.Error(), "another draft") {
		t.Errorf("replacement of another draft: %v", err)
	}
	other = NewDraft(f.Model)
	if _, err := other.Bytes(); err == nil || !strings.Contains(err.Error(), "without a source") {
		t.Errorf("payload of another file: %v", err)
	}
	size, err := f.Draft().Size()
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []int{0, 10, 5000, int(size) - 1} {
		if n, err := f.Draft().WriteTo(&failing{after}); !errors.Is(err, errFull) || n != int64(after) {
			t.Errorf("full after %d: %d written, %v", after, n, err)
		}
	}
	closed := openAt(t, write(t, filepath.Join(t.TempDir(), "m.onnx"), marshal(t, modelOf(floats("w", make([]float32, 500)...)))))
	draft := closed.Draft()
	closed.Close()
	if _, err := draft.Bytes(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed source: %v", err)
	}
}
