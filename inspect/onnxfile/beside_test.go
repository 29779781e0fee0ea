package onnxfile

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TestPutBeside takes the numbers of a model out of it, which lay in all kinds of
// places before, and reads them back.
func TestPutBeside(t *testing.T) {
	dir := t.TempDir()
	long := slices.Repeat([]float32{1, 2, 3, 4}, 300)
	raw := make([]byte, 4096)
	for i := range raw {
		raw[i] = byte(i % 251)
	}
	write(t, filepath.Join(dir, "old.data"), append(make([]byte, 8), raw...))
	ints := tensorOf("ints", onnxpb.TensorProto_INT64, 600)
	for i := range 600 {
		ints.Int64Data = append(ints.Int64Data, int64(i)-300)
	}
	outside := external(tensorOf("outside", onnxpb.TensorProto_FLOAT16, 2048), "old.data", 8, 4096)
	text := tensorOf("text", onnxpb.TensorProto_STRING, 1)
	text.StringData = [][]byte{bytes.Repeat([]byte("x"), 3000)}
	source := openAt(t, write(t, filepath.Join(dir, "old.onnx"), marshal(t, modelOf(floats("float_data", long...), floats("few", 1, 2), ints, outside, text, floats("new", 1)))))
	if got := source.DataDir(); got != dir {
		t.Errorf("data is looked for in %s", got)
	}
	var same bytes.Buffer
	if err := source.Copy(&same); err != nil {
		t.Fatal(err)
	}
	if whole, err := os.ReadFile(source.Name); err != nil || !bytes.Equal(whole, same.Bytes()) {
		t.Errorf("a copy of %d bytes of %d, %v", same.Len(), len(whole), err)
	}
	if got := read(t, same.Bytes()).DataDir(); got != "" {
		t.Errorf("a model without a folder has data in %q", got)
	}
	d := source.Draft()
	d.SetFloat32(d.Initializer("new"), long, 1200)
	data, err := d.PutBeside("new.data")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if n, err := data.WriteTo(&b); err != nil || n != data.Len() || n != int64(b.Len()) {
		t.Fatalf("wrote %d of %d bytes, %v", n, data.Len(), err)
	}
	write(t, filepath.Join(dir, "new.data"), b.Bytes())
	model, err := d.Bytes()
	if err != nil || len(model) > 4096 {
		t.Fatalf("%d bytes, %v", len(model), err)
	}
	f := openAt(t, write(t, filepath.Join(dir, "new.onnx"), model))
	for i, p := range f.Model.Graph.Initializer {
		x, was := f.Tensor(p), source.Tensor(source.Model.Graph.Initializer[i])
		if want := !slices.Contains([]string{"few", "text"}, p.GetName()); isExternal(p) != want {
			t.Errorf("%s lies beside the model: %v", p.GetName(), !want)
		}
		if isExternal(p) {
			if e, err := x.external(); err != nil || e.offset%4096 != 0 || e.location != "new.data" {
				t.Errorf("%s: %+v, %v", p.GetName(), e, err)
			}
		}
		if p.GetName() == "new" {
			if got, err := x.Float32s(1200); err != nil || !slices.Equal(got, long) {
				t.Errorf("new: %v", err)
			}
			continue
		}
		if same, err := SameData(was, x); err != nil || !same {
			t.Errorf("%s is not what it was, %v", p.GetName(), err)
		}
	}

	moved := f.Draft()
	moved.Relocate("new.data", "moved.data")
	moved.Relocate("nothing", "else")
	if err := os.Rename(filepath.Join(dir, "new.data"), filepath.Join(dir, "moved.data")); err != nil {
		t.Fatal(err)
	}
	if model, err = moved.Bytes(); err != nil {
		t.Fatal(err)
	}
	g := openAt(t, write(t, filepath.Join(dir, "moved.onnx"), model))
	if got := values(t, g.Tensor(g.Model.Graph.Initializer[2])); len(got) != 600 || got[599] != 299 {
		t.Errorf("moved: %v", got)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../x", `a\b`, "/x"} {
		if _, err := source.Draft().PutBeside(name); err == nil || !strings.Contains(err.Error(), "name") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestCommitWith(t *testing.T) {
	for _, c := range []struct {
		name string
		here []string // files that are there before
		fail bool
		want []string
	}{
		{"new", nil, false, []string{"m.onnx", "m.onnx.data"}},
		{"over an older pair", []string{"m.onnx", "m.onnx.data"}, false, []string{"m.onnx", "m.onnx.data"}},
		{"data cannot be written", []string{"m.onnx", "m.onnx.data/"}, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			target := filepath.Join(dir, "m.onnx")
			for _, name := range c.here {
				if path, ok := strings.CutSuffix(name, "/"); !ok {
					write(t, filepath.Join(dir, path), []byte("old"))
				}
			}
			p, err := CreatePending(target)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Abort()
			data, name, err := p.Beside()
			if err != nil || name != "m.onnx.data" {
				t.Fatal(name, err)
			}
			defer data.Abort()
			p.Write([]byte("model"))
			data.Write([]byte("numbers"))
			if c.fail { // a folder has taken the place meanwhile
				if err := os.MkdirAll(filepath.Join(dir, "m.onnx.data", "x"), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := p.CommitWith(data); err == nil {
					t.Fatal("committed")
				}
				if left := names(t, dir); slices.ContainsFunc(left, func(n string) bool { return strings.HasSuffix(n, ".tmp") }) {
					t.Errorf("left: %v", left)
				}
				return
			}
			if err := p.CommitWith(data); err != nil {
				t.Fatal(err)
			}
			left := names(t, dir)
			if slices.Sort(left); !slices.Equal(left, c.want) {
				t.Errorf("left: %v", left)
			}
			for path, want := range map[string]string{target: "model", target + ".data": "numbers"} {
				if b, err := os.ReadFile(path); err != nil || string(b) != want {
					t.Errorf("%s holds %q, %v", path, b, err)
				}
			}
		})
	}
}
