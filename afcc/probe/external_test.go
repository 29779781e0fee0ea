package probe

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// externalized writes m to dir/model.onnx with its weights in dir/data/weights.bin,
// and opens that file.
func externalized(t *testing.T, m *inspect.Model, dir string) *inspect.Model {
	t.Helper()
	d := m.Handle.Draft()
	var data bytes.Buffer
	for i, p := range d.Model.Graph.Initializer {
		c, err := m.Handle.Tensor(m.Handle.Model.Graph.Initializer[i]).Raw(nil)
		if err != nil {
			t.Fatal(err)
		}
		at := data.Len()
		if _, err := c.WriteTo(&data); err != nil {
			t.Fatal(err)
		}
		entry := func(k, v string) *onnxpb.StringStringEntryProto {
			return &onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(v)}
		}
		d.Model.Graph.Initializer[i] = &onnxpb.TensorProto{
			Name: p.Name, DataType: p.DataType, Dims: p.Dims, DataLocation: onnxpb.TensorProto_EXTERNAL.Enum(),
			ExternalData: []*onnxpb.StringStringEntryProto{entry("location", "data/weights.bin"),
				entry("offset", strconv.Itoa(at)), entry("length", strconv.Itoa(data.Len()-at))},
		}
		data.Write(make([]byte, 4096-data.Len()%4096)) // as exporters align it
	}
	text, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "model.onnx")
	for name, b := range map[string][]byte{path: text, filepath.Join(dir, "data", "weights.bin"): data.Bytes()} {
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return openModel(t, path)
}

func openModel(t *testing.T, path string) *inspect.Model {
	t.Helper()
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestExternalWeightsStay: a model whose weights are too large to be spliced into
// the graphs that run is measured as any other.
func TestExternalWeightsStay(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 9)
	plain := small(t, testK)
	want, err := Measure(t.Context(), eng, plain, set, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m := externalized(t, plain, dir)
	link := filepath.Join(t.TempDir(), "link.onnx")
	if err := os.Symlink(filepath.Join(dir, "model.onnx"), link); err != nil {
		t.Skip(err)
	}
	for _, m := range []*inspect.Model{m, openModel(t, link)} {
		for _, inline := range []int64{maxInline, 0} {
			p, _, groups, err := prepare(m, set, testOptions())
			if err != nil {
				t.Fatal(err)
			}
			p.eng, p.inline = eng, inline
			b, err := p.trunk()
			if err != nil {
				t.Fatal(err)
			}
			b.answer(m)
			data, err := b.serialize()
			if err != nil {
				t.Fatal(err)
			}
			if outside := bytes.Contains(data, []byte("weights.bin")); outside != (inline == 0) || outside != (b.dir != "") {
				t.Errorf("%s, %d bytes: weights outside %v, folder %q", m.File, inline, outside, b.dir)
			}
			res := &Result{}
			for _, g := range groups {
				if err := p.fitHeads(t.Context(), g); err != nil {
					t.Fatal(err)
				}
				for _, h := range g {
					if h.own {
						if h.w, err = ownWeights(m, mustSurvey(t, m).Classifier); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := errors.Join(p.judge(t.Context(), g, res), p.labelMeans(t.Context(), g), p.analyse(t.Context(), g, res)); err != nil {
					t.Fatal(err)
				}
			}
			equalResults(t, want, res, 1e-6)
			if res.Accuracy != want.Accuracy {
				t.Errorf("%s, %d bytes: accuracy %v, want %v", m.File, inline, res.Accuracy, want.Accuracy)
			}
			if inline == 0 {
				// Every engine reads such data, and misses it where it is not.
				for dir, missing := range map[string]bool{b.dir: false, t.TempDir(): true} {
					s, err := gorgonia.Open(gorgonia.Options{}).Load(t.Context(), engine.Model{Name: "model", Bytes: data, Dir: dir})
					var e *engine.Error
					if missing && (!errors.As(err, &e) || !strings.Contains(err.Error(), "external")) || !missing && err != nil {
						t.Errorf("gorgonia: %v", err)
					}
					if err == nil {
						s.Close()
					}
				}
			}
		}
	}
	// What is missing is found before anything is loaded.
	if err := os.Truncate(filepath.Join(dir, "data", "weights.bin"), 100); err != nil {
		t.Fatal(err)
	}
	if _, err := newTrunk(m, 0); err == nil || !strings.Contains(err.Error(), "weights.bin") {
		t.Errorf("a file cut off: %v", err)
	}
}
