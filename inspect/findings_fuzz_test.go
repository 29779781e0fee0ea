package inspect

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// FuzzFindings looks at whatever reads as a model. Findings that cannot be made
// twice the same, and faults that Check sees and Findings does not, are wrong.
func FuzzFindings(f *testing.F) {
	add := func(s *sketch) { f.Add(s.bytes(f)) }
	add(plain())
	add(plain().node("Relu", "y", "z").node("Add", "p q", "p").output("").weights("u", []int64{64, 64}, 0).weights("v", []int64{64, 64}, 0))
	add(plain().imports("f", 1).function("f", "F", newNode("Relu", "a", "b"), newNode("f/F", "a", "c")).node("f/F", "y", "q").info("gone", 1))
	add(newSketch(17).input("x", 1, 512, 7, 7).ints("s", 1, 25088).node("Reshape", "x s", "y").output("y", 2, 2))
	nested := plain()
	nested.Graph.Node = append(nested.Graph.Node, newNode("If", "c", "o", attrGraph("then_branch", proto.Clone(plain().Graph).(*onnxpb.GraphProto))))
	add(nested)
	for _, s := range nestedSeeds() {
		add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "fuzz.onnx")
		if err != nil {
			return
		}
		m, err := New(t.Context(), file, Options{})
		if err != nil {
			return
		}
		first, err := m.Findings(t.Context(), FindingOptions{Weights: true})
		if err != nil {
			t.Fatal(err)
		}
		again, err := m.Findings(t.Context(), FindingOptions{Weights: true})
		if err != nil || len(again) != len(first) {
			t.Fatalf("%d findings, then %d, %v", len(first), len(again), err)
		}
		errors := 0
		for i, x := range first {
			if x != again[i] {
				t.Fatalf("%+v, then %+v", x, again[i])
			}
			if x.Level == LevelError {
				errors++
			}
		}
		if err := m.Check(); err != nil && errors == 0 {
			t.Fatalf("Check says %v, Findings no error: %+v", err, first)
		}
		for i := range m.Layers {
			if _, err := m.ZeroFilters(t.Context(), &m.Layers[i]); err != nil {
				return
			}
		}
	})
}
