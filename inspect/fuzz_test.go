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
	seeds = append(seeds, nestedSeeds()...)
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
		for scope, g := range m.Graph.All() {
			if len(scope) > maxScope+3 {
				t.Fatalf("a scope of %d bytes", len(scope))
			}
			for _, n := range g.Nodes {
				for _, out := range n.Outputs {
					check(g.Shape(out))
					v, ok := g.Ints(out)
					if ok && len(v) > maxFold {
						t.Fatalf("%d folded elements", len(v))
					}
					if k, fixed := g.Shape(out).Elements(); ok && fixed && k != int64(len(v)) {
						t.Fatalf("%d values in %s", len(v), g.Shape(out))
					}
				}
			}
		}
		for i := range m.Layers {
			l := &m.Layers[i]
			if l.Parameters < 0 || l.WeightBytes < 0 || l.MACs != nil && *l.MACs < 0 || l.OutBytes != nil && *l.OutBytes < 0 {
				t.Fatalf("layer %+v", l)
			}
			if g, n := m.LayerNode(l); n.Index != l.Node || g.Nodes[l.Node] != n {
				t.Fatalf("node of %+v", l)
			}
		}
		if p := m.Totals.PeakActivationBytes; p != nil && *p < 0 || m.ExternalBytes < 0 {
			t.Fatalf("totals %+v", m.Totals)
		}
		nodes := 0
		for _, op := range m.Operators {
			nodes += op.Count
		}
		if nodes != m.Totals.Nodes {
			t.Fatalf("%d nodes, by operator %d", m.Totals.Nodes, nodes)
		}
		if m.Totals.Parameters < 0 || m.Totals.MACs != nil && *m.Totals.MACs < 0 {
			t.Fatalf("totals %+v", m.Totals)
		}
		if _, err := json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	})
}

// nestedSeeds have graphs in attributes, functions, sequences and more than one
// of them at once.
func nestedSeeds() []*sketch {
	again := func(s *sketch) *sketch { return s.node("Identity", "c", "more") }
	grow := counted(body("i c v", "more w e", func(s *sketch) { again(s).node("Concat", "v x", "w", attrInt("axis", 0)).node("Relu", "v", "e") }))
	conv := func(s *sketch) { s.weights("w", []int64{4, 4, 1, 1}).node("Conv", "x w", "a") }
	return []*sketch{
		newSketch(17).input("x", "n", 4, 8, 8).scalar("k", 3).node("Loop", "k _ x", "y z", attrGraph("body", grow)).
			node("If", "y", "u", attrGraph("then_branch", body("", "a", conv)), attrGraph("else_branch", body("", "a", conv))).result("u", "z"),
		newSketch(17).input("x", "n", 4).weights("w", []int64{4, 4}).weights("h", []int64{1, 4}).
			define("f/G", "a b", "c", newSketch(17).node("MatMul", "a b", "d").node("Concat", "d d", "c", attrRef("axis", "k")), "k").
			define("f/F", "a b", "c", newSketch(17).node("f/G", "a b", "d", attrRef("k", "k")).node("f/F", "d b", "c"), "k").
			node("f/F", "x w", "u", attrInt("k", 1)).node("f/G", "x w", "v", attrInt("k", 0)).
			node("Scan", "h v", "y z", attrInt("num_scan_inputs", 1), attrGraph("body", body("s r", "o e", func(s *sketch) { s.node("Add", "s r", "o").node("Relu", "r", "e") }))).
			result("u", "y", "z"),
		newSketch(18).input("x", "n", 6).scalar("two", 2).scalar("zero", 0).node("SplitToSequence", "x two", "q", attrInt("axis", 1)).
			node("SequenceMap", "q x", "r", attrGraph("body", body("a b", "o", func(s *sketch) { s.node("Concat", "a b", "o", attrInt("axis", 1)) }))).
			node("SequenceInsert", "r x", "s").node("SequenceErase", "s", "t").node("SequenceAt", "t zero", "u").node("ConcatFromSequence", "t", "v", attrInt("axis", 0), attrInt("new_axis", 1)).
			node("Optional", "t", "o").node("OptionalGetElement", "o", "p").node("OptionalHasElement", "o", "h").node("SequenceLength", "p", "l").
			node("SequenceEmpty", "", "e").node("SequenceConstruct", "x x", "c").result("u", "v", "l"),
	}
}

func matches(tb testing.TB, pattern string) []string {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		tb.Fatal(err)
	}
	return paths
}
