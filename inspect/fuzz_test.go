package inspect

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// FuzzNew describes whatever can be opened: it must not panic, and what it says
// must be consistent.
func FuzzNew(f *testing.F) {
	seeds := []*sketch{
		newSketch(17).input("x", "n", 4, 8, 8).weights("w", []int64{6, 2, 3, 3}).
			node("Conv", "x w", "c", attrInt("group", 2), attrInts("strides", 2, 1), attrInts("pads", 1, 1, 1, 1)).
			node("MaxPool", "c", "p i", attrInts("kernel_shape", 2, 2), attrInt("ceil_mode", 1)).
			node("Flatten", "p", "y").output("y", "n", 1),
		newSketch(13).input("x", "n", 64, 7, 7).scalar("zero", 0).ints("axes", 0).ints("rest", -1, 49).
			node("Shape", "x", "s").node("Gather", "s zero", "b").node("Unsqueeze", "b axes", "u").
			node("Concat", "u rest", "t", attrInt("axis", 0)).node("Reshape", "x t", "y").
			node("Slice", "y axes rest axes rest", "z").node("Expand", "z t", "e").node("Tile", "s rest", "q"),
		newSketch(18).input("x", 7).ints("k", 1, 2).node("Split", "x", "a b", attrInt("num_outputs", 2)).
			node("Range", "k k k", "r").node("ConstantOfShape", "k", "f", attrTensor("value", intTensor("", []int64{1}, 3))).
			node("Equal", "f f", "g").node("Where", "g f f", "h").node("Transpose", "h", "i").node("Pad", "i k", "j").
			node("Resize", "x _ k", "l").node("ReduceProd", "k", "m").node("OneHot", "k k k", "n"),
	}
	for _, s := range seeds {
		f.Add(s.bytes(f), int64(0))
		f.Add(s.bytes(f), int64(3))
	}
	// The models of the repository, where they are small.
	for _, path := range matches(f, "../fixtures/*.onnx") {
		if b, err := os.ReadFile(path); err == nil && len(b) < 1<<16 {
			f.Add(b, int64(1))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, batch int64) {
		file, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "fuzz")
		if err != nil {
			return
		}
		m, err := New(t.Context(), file, Options{Batch: batch})
		if err != nil {
			t.Fatal(err) // no option is in the way
		}
		_, _ = New(t.Context(), file, Options{Batch: batch, Weights: true})
		check := func(s Shape) {
			if !s.Known && s.Dims != nil || len(s.Dims) > maxRank {
				t.Fatalf("shape %+v", s)
			}
			for _, d := range s.Dims {
				if d.Value < -1 || d.Value >= 0 && d.Name != "" {
					t.Fatalf("dimension %+v", d)
				}
			}
		}
		for _, n := range m.Graph.Nodes {
			for _, out := range n.Outputs {
				check(m.Graph.Shape(out))
				v, ok := m.Graph.Ints(out)
				if ok && len(v) > maxFold {
					t.Fatalf("%d folded elements", len(v))
				}
				if k, fixed := m.Graph.Shape(out).Elements(); ok && fixed && k != int64(len(v)) {
					t.Fatalf("%d values in %s", len(v), m.Graph.Shape(out))
				}
			}
		}
		for _, l := range m.Layers {
			if l.Parameters < 0 || l.MACs != nil && *l.MACs < 0 {
				t.Fatalf("layer %+v", l)
			}
		}
		if m.Totals.Parameters < 0 || m.Totals.MACs != nil && *m.Totals.MACs < 0 {
			t.Fatalf("totals %+v", m.Totals)
		}
		if _, err := json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	})
}

func matches(tb testing.TB, pattern string) []string {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		tb.Fatal(err)
	}
	return paths
}
