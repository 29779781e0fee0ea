package inspect

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func TestPeakActivation(t *testing.T) {
	relu := func(in, out string) *onnxpb.GraphProto {
		return body("", out, func(s *sketch) { s.node("Relu", in, "t").node("Relu", "t", out) })
	}
	for _, c := range []struct {
		name    string
		build   func(s *sketch) // over x of 10 floats, 40 bytes
		peak    int64           // -1: nil
		node    string
		unknown int
	}{
		{"a chain", func(s *sketch) { s.node("Relu", "x", "a").node("Relu", "a", "y").output("y", 10) }, 80, "a", 0},
		{"an input that is read to the end", func(s *sketch) {
			s.node("Relu", "x", "a").node("Relu", "a", "b").node("Add", "b x", "y").output("y", 10)
		}, 120, "b", 0},
		{"an output is kept", func(s *sketch) {
			s.node("Relu", "x", "a").node("Relu", "a", "b").node("Relu", "b", "c").node("Relu", "c", "y").output("a", 10).output("y", 10)
		}, 120, "c", 0},
		{"an output that nobody reads", func(s *sketch) {
			s.node("Relu", "x", "a").node("Relu", "x", "b").node("Relu", "x", "y").output("y", 10)
		}, 80, "a", 0},
		{"an input that nobody reads", func(s *sketch) { s.input("z", 1000).node("Relu", "x", "y").output("y", 10) }, 80, "y", 0},
		{"an input that is an output", func(s *sketch) {
			s.node("Relu", "x", "a").node("Relu", "a", "b").node("Relu", "b", "y").output("x", 10).output("y", 10)
		}, 120, "b", 0},
		{"weights and Constant nodes do not count", func(s *sketch) {
			s.weights("w", []int64{1000}).node("Constant", "", "k", attrTensor("value", floatTensor("", []int64{10}))).node("Add", "x k", "y").output("y", 10)
		}, 80, "y", 0},
		{"what is computed from weights does", func(s *sketch) {
			s.weights("w", []int64{10}).node("Relu", "w", "v").node("Add", "x v", "y").output("y", 10)
		}, 120, "y", 0},
		{"not in the order of the file", func(s *sketch) { s.node("Relu", "b", "y").node("Relu", "x", "b").output("y", 10) }, 80, "b", 0},
		{"small types", func(s *sketch) {
			s.node("Cast", "x", "a", attrInt("to", 22)).node("Cast", "a", "y", attrInt("to", 9)).output("y", 10)
		}, 45, "a", 0},
		{"some sizes are unknown", func(s *sketch) { s.node("Oops", "x", "a b").node("Relu", "x", "y").output("y", 10) }, 80, "y", 2},
		{"no size is known", func(s *sketch) {
			s.Graph.Input[0].Type = nil
			s.node("Relu", "x", "y").result("y")
		}, -1, "", 2},
		{"no nodes", func(s *sketch) { s.output("x", 10) }, 40, "", 0},
		{"if: the outputs are those of the branch", func(s *sketch) {
			s.node("If", "x", "y", attrGraph("then_branch", relu("x", "a")), attrGraph("else_branch", relu("x", "a"))).output("y", 10)
		}, 120, "y", 0},
		{"if: a branch that makes nothing", func(s *sketch) {
			s.node("Relu", "x", "a").node("If", "a", "y", attrGraph("then_branch", body("", "a", func(*sketch) {})), attrGraph("else_branch", body("", "a", func(*sketch) {}))).output("y", 10)
		}, 80, "a", 0},
		{"function: as if it were not one", func(s *sketch) {
			s.define("f/F", "a", "c", newSketch(17).node("Relu", "a", "b").node("Relu", "b", "c")).node("f/F", "x", "y").output("y", 10)
		}, 120, "y", 0},
		{"loop: what the body makes is added", func(s *sketch) {
			s.scalar("k", 3).node("Loop", "k _ x", "v y", attrGraph("body", counted(body("i c a", "more w e", func(s *sketch) {
				s.node("Identity", "c", "more").node("Relu", "a", "w").node("Relu", "w", "e")
			})))).output("y", 3, 10)
			// x 40, v 40, y 120; within i 8, c 1, more 1, a 40, w 40, e 40. i and c end
			// before the peak: a is read by w only, so at e: more, w and e.
		}, 40 + 40 + 120 + 81, "v", 0},
		{"loop: a body that never runs", func(s *sketch) {
			s.scalar("k", -3).node("Loop", "k _ x", "v y", attrGraph("body", counted(body("i c a", "more w e", func(s *sketch) {
				s.node("Identity", "c", "more").node("Relu", "a", "w").node("Relu", "w", "e")
			})))).output("y", 3, 10)
		}, 40 + 40, "v", 0},
		{"if: the branch that runs", func(s *sketch) {
			s.scalar("k", 1).node("If", "k", "y", attrGraph("then_branch", body("", "b", func(s *sketch) { s.node("Relu", "x", "b") })),
				attrGraph("else_branch", body("", "d", func(s *sketch) { s.node("Relu", "x", "b").node("Relu", "b", "c").node("Add", "b c", "d") }))).output("y", 10)
		}, 40 + 40, "y", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSketch(17).input("x", 10)
			c.build(s)
			got := s.model(t, Options{}).Totals
			peak := int64(-1)
			if got.PeakActivationBytes != nil {
				peak = *got.PeakActivationBytes
			}
			if peak != c.peak || got.PeakNode != c.node || got.ActivationsUnknown != c.unknown {
				t.Errorf("%d at %q, %d unknown; want %d at %q, %d", peak, got.PeakNode, got.ActivationsUnknown, c.peak, c.node, c.unknown)
			}
		})
	}
}

// The first two convolutions of VGG-16 hand 64 maps of 224 by 224 to each other.
func TestPeakOfVGG16(t *testing.T) {
	d, err := arch.VGG16(arch.Options{Zero: true})
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/vgg16.onnx"
	if err := arch.Write(path, d); err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := New(t.Context(), f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if p := m.Totals.PeakActivationBytes; p == nil || *p != 2*64*224*224*4 || m.Totals.ActivationsUnknown != 0 {
		t.Errorf("%+v", m.Totals)
	}
	if b := m.Layers[0].OutBytes; b == nil || *b != 64*224*224*4 {
		t.Errorf("%+v", m.Layers[0])
	}
	if l := &m.Layers[0]; l.WeightBytes != 4*(64*3*3*3+64) {
		t.Errorf("%+v", l)
	}
}

// The peak of random graphs against a computation that, at each node, asks of
// every tensor whether it is alive.
func TestPeakAgainstSlow(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		size := map[string]int64{}
		made, read := map[string]int{}, map[string]int{}
		s := newSketch(17)
		var names []string
		for i := range 1 + rng.IntN(3) {
			name, n := fmt.Sprintf("x%d", i), 1+rng.IntN(20)
			s.input(name, n)
			size[name], made[name], read[name] = int64(4*n), -1, -2
			names = append(names, name)
		}
		count := rng.IntN(12)
		for i := range count {
			a, b := names[rng.IntN(len(names))], names[rng.IntN(len(names))]
			out := fmt.Sprintf("t%d", i)
			s.node("Concat", a+" "+b, out, attrInt("axis", 0))
			size[out], made[out], read[out] = size[a]+size[b], i, i
			read[a], read[b] = i, i
			names = append(names, out)
		}
		for range rng.IntN(3) {
			name := names[rng.IntN(len(names))]
			s.result(name)
			read[name] = count - 1
		}
		want, at := int64(0), ""
		for step := -1; step < count; step++ {
			alive := int64(0)
			for _, name := range names {
				if made[name] <= step && step <= read[name] {
					alive += size[name]
				}
			}
			if step < 0 && count > 0 {
				continue // as many at the first node, and its outputs
			}
			if alive > want || at == "" && step == 0 {
				want, at = alive, fmt.Sprintf("t%d", max(step, 0))
			}
			if count == 0 {
				at = ""
			}
		}
		m := s.model(t, Options{})
		if got := m.Totals; *got.PeakActivationBytes != want || got.PeakNode != at || got.ActivationsUnknown != 0 {
			t.Fatalf("seed %d: %d at %q, want %d at %q\n%v", seed, *got.PeakActivationBytes, got.PeakNode, want, at, s.Graph)
		}
	}
}
