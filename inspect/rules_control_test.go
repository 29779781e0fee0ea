package inspect

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// body makes a graph for an attribute; in and out are separated by blanks.
func body(in, out string, build func(s *sketch)) *onnxpb.GraphProto {
	s := newSketch(17).takes(strings.Fields(in)...)
	build(s)
	return s.result(strings.Fields(out)...).nested()
}

// counted declares the number of the run and the condition of a loop's body.
func counted(g *onnxpb.GraphProto) *onnxpb.GraphProto {
	g.Input[0].Type = valueInfo("", onnxfile.Int64, []any{}).Type
	g.Input[1].Type = valueInfo("", boolType, []any{}).Type
	return g
}

// Shapes of "y", which is the output, and of tensors within it: "scope:tensor".
func TestShapesOfBodies(t *testing.T) {
	same := func(s *sketch) { s.node("Relu", "x", "a") }
	branch := func(s *sketch, cond string, yes, no func(s *sketch)) {
		s.node("If", cond, "y", attrGraph("then_branch", body("", "a", yes)), attrGraph("else_branch", body("", "a", no)))
	}
	// loop carries "x" as v; y is what is carried and z what is stacked.
	loop := func(s *sketch, head string, build func(s *sketch)) {
		s.node("Loop", head+" x", "y z", attrGraph("body", counted(body("i c v", "more w e", build))))
	}
	again := func(s *sketch) *sketch { return s.node("Identity", "c", "more") }
	for _, c := range []struct {
		name  string
		x     []any
		build func(s *sketch)
		want  map[string]string
	}{
		{"if, both branches alike", []any{"n", 3}, func(s *sketch) { branch(s, "x", same, same) },
			map[string]string{"y": "n x 3", "y/then_branch:a": "n x 3", "y/else_branch:a": "n x 3"}},
		{"if, another number", []any{"n", 3}, func(s *sketch) {
			s.weights("w", []int64{3, 4})
			branch(s, "x", same, func(s *sketch) { s.node("MatMul", "x w", "a") })
		}, map[string]string{"y": "n x ?", "y/then_branch:a": "n x 3", "y/else_branch:a": "n x 4"}},
		{"if, another rank", []any{"n", 3}, func(s *sketch) {
			branch(s, "x", same, func(s *sketch) { s.node("Shape", "x", "a") })
		}, map[string]string{"y": "unknown", "y/else_branch:a": "2"}},
		{"if, the condition is known", []any{"n", 3}, func(s *sketch) {
			s.scalar("three", 3).scalar("one", 1).node("Shape", "x", "s").node("Gather", "s one", "d").node("Equal", "d three", "q")
			branch(s, "q", same, func(s *sketch) { s.node("Shape", "x", "a") })
		}, map[string]string{"y": "n x 3"}},
		{"if, the other branch is known", []any{"n", 3}, func(s *sketch) {
			s.scalar("three", 3).scalar("zero", 0).node("Less", "three zero", "q")
			branch(s, "q", same, func(s *sketch) { s.node("Shape", "x", "a") })
		}, map[string]string{"y": "2"}},
		{"if, an output from around it", []any{"n", 3}, func(s *sketch) {
			s.node("Relu", "x", "a")
			branch(s, "x", func(*sketch) {}, func(*sketch) {})
		}, map[string]string{"y": "n x 3"}},
		{"if, a branch is missing", []any{"n", 3}, func(s *sketch) {
			s.node("If", "x", "y", attrGraph("then_branch", body("", "a", same)))
		}, map[string]string{"y": "unknown", "y/then_branch:a": "n x 3"}},

		{"loop, invariant", []any{"n", 3}, func(s *sketch) {
			s.scalar("k", 7)
			loop(s, "k _", func(s *sketch) { again(s).node("Relu", "v", "w").node("Flatten", "w", "e", attrInt("axis", 0)) })
		}, map[string]string{"y": "n x 3", "z": "7 x 1 x n*3", "y/body:w": "n x 3", "y/body:i": "scalar"}},
		{"loop, one dimension grows", []any{"n", 3}, func(s *sketch) {
			s.scalar("k", 7)
			loop(s, "k _", func(s *sketch) {
				again(s).node("Concat", "v x", "w", attrInt("axis", 1)).node("Relu", "v", "e")
			})
		}, map[string]string{"y": "n x ?", "z": "7 x n x ?", "y/body:v": "n x ?"}},
		{"loop, the number of dimensions grows", []any{"n", 3}, func(s *sketch) {
			s.scalar("k", 7)
			loop(s, "k _", func(s *sketch) {
				s.ints("axes", 0)
				again(s).node("Unsqueeze", "v axes", "w").node("Relu", "v", "e")
			})
		}, map[string]string{"y": "unknown", "z": "unknown"}},
		{"loop, dimensions exchange", []any{2, 2, 5}, func(s *sketch) {
			s.scalar("k", 7)
			loop(s, "k _", func(s *sketch) {
				again(s).node("Transpose", "v", "w", attrInts("perm", 2, 0, 1)).node("Relu", "w", "e")
			})
		}, map[string]string{"y": "? x ? x ?", "z": "7 x ? x ? x ?"}},
		{"loop, no one knows when it ends", []any{"n", 3}, func(s *sketch) {
			s.scalar("k", 7)
			loop(s, "k _", func(s *sketch) { s.node("Oops", "v", "more").node("Relu", "v", "w").node("Relu", "v", "e") })
		}, map[string]string{"y": "n x 3", "z": "? x n x 3"}},
		{"loop, a condition of its own", []any{"n", 3}, func(s *sketch) {
			s.scalar("k", 7)
			loop(s, "k x", func(s *sketch) { again(s).node("Relu", "v", "w").node("Relu", "v", "e") })
		}, map[string]string{"y": "n x 3", "z": "? x n x 3"}},
		{"loop, as often as there are rows", []any{"n", 3}, func(s *sketch) {
			s.scalar("zero", 0).node("Shape", "x", "s").node("Gather", "s zero", "k")
			loop(s, "k _", func(s *sketch) { again(s).node("Relu", "v", "w").node("Relu", "v", "e") })
		}, map[string]string{"y": "n x 3", "z": "n x n x 3"}},
		{"loop, never", []any{"n", 3}, func(s *sketch) {
			s.scalar("k", 0)
			loop(s, "k _", func(s *sketch) { again(s).node("Concat", "v v", "w", attrInt("axis", 1)).node("Relu", "v", "e") })
		}, map[string]string{"y": "n x 3", "z": "0 x ? x ?"}},
		{"loop, a value that changes is none", []any{"n", 3}, func(s *sketch) {
			s.scalar("k", 3).ints("one", 1)
			s.node("Loop", "k _ one", "d", attrGraph("body", body("i c v", "more w", func(s *sketch) { again(s).node("Add", "v v", "w") }))).
				node("ConstantOfShape", "d", "y")
		}, map[string]string{"d": "1", "y": "?"}},
		{"loop, inputs too few", []any{"n", 3}, func(s *sketch) {
			s.node("Loop", "x", "y", attrGraph("body", body("i", "w", func(s *sketch) { s.node("Relu", "x", "w") })))
		}, map[string]string{"y": "unknown", "y/body:w": "n x 3"}},
		{"loop that gathers a sequence", []any{"n", 3}, func(s *sketch) {
			s.scalar("k", 3).scalar("zero", 0).node("SequenceEmpty", "", "empty").
				node("Loop", "k _ empty", "q", attrGraph("body", body("i c v", "more w", func(s *sketch) {
					again(s).node("SequenceInsert", "v x", "w")
				}))).node("SequenceAt", "q zero", "y").node("ConcatFromSequence", "q", "z", attrInt("axis", 1))
		}, map[string]string{"y": "n x 3", "z": "n x ?"}},

		{"scan", []any{5, "n", 3}, func(s *sketch) {
			s.weights("h", []int64{1, 3})
			s.node("Scan", "h x", "y z", attrInt("num_scan_inputs", 1), attrInts("scan_input_axes", 1), attrInts("scan_output_axes", -1),
				attrGraph("body", body("v r", "w e", func(s *sketch) { s.node("Relu", "v", "w").node("Relu", "r", "e") })))
		}, map[string]string{"y": "1 x 3", "z": "5 x 3 x n", "y/body:r": "5 x 3"}},
		{"scan, the state takes over a shape", []any{5, "n", 3}, func(s *sketch) {
			s.weights("h", []int64{1, 3})
			s.node("Scan", "h x", "y z", attrInt("num_scan_inputs", 1),
				attrGraph("body", body("v r", "w e", func(s *sketch) { s.node("Add", "v r", "w").node("Relu", "r", "e") })))
		}, map[string]string{"y": "? x 3", "z": "5 x n x 3"}},
		{"scan, axis out of range", []any{5, 3}, func(s *sketch) {
			s.node("Scan", "x", "y", attrInt("num_scan_inputs", 1), attrInts("scan_input_axes", 2),
				attrGraph("body", body("r", "e", func(s *sketch) { s.node("Relu", "r", "e") })))
		}, map[string]string{"y": "unknown"}},
		{"scan, hostile number", []any{5, 3}, func(s *sketch) {
			s.node("Scan", "x", "y", attrInt("num_scan_inputs", 1<<62), attrGraph("body", body("r", "e", func(s *sketch) { s.node("Relu", "r", "e") })))
		}, map[string]string{"y": "unknown"}},

		{"sequence map", []any{"n", 3}, func(s *sketch) {
			s.scalar("zero", 0).node("SequenceConstruct", "x x", "q").
				node("SequenceMap", "q x", "r", attrGraph("body", body("a b", "o", func(s *sketch) { s.node("Concat", "a b", "o", attrInt("axis", 1)) }))).
				node("SequenceAt", "r zero", "y").node("ConcatFromSequence", "r", "z", attrInt("axis", 0), attrInt("new_axis", 1))
		}, map[string]string{"y": "n x 6", "z": "2 x n x 6", "r/body:a": "n x 3"}},
		{"sequence of several shapes", []any{"n", 3}, func(s *sketch) {
			s.scalar("zero", 0).weights("v", []int64{2, 3}).node("SequenceConstruct", "x v", "q").node("SequenceAt", "q zero", "y").
				node("SequenceLength", "q", "l").node("ConstantOfShape", "l", "z")
		}, map[string]string{"y": "? x 3", "l": "scalar"}},
		{"split to a sequence", []any{"n", 7}, func(s *sketch) {
			s.scalar("zero", 0).scalar("two", 2).ints("parts", 3, 3).
				node("SplitToSequence", "x", "a", attrInt("axis", 1), attrInt("keepdims", 0)).node("SequenceAt", "a zero", "y").
				node("SplitToSequence", "x two", "b", attrInt("axis", 1)).node("SequenceAt", "b zero", "z").
				node("SplitToSequence", "x parts", "c", attrInt("axis", 1)).node("SequenceErase", "c", "d").node("ConcatFromSequence", "d", "u", attrInt("axis", 1)).
				node("ConcatFromSequence", "b", "v", attrInt("axis", 0), attrInt("new_axis", 1))
		}, map[string]string{"y": "n", "z": "n x ?", "u": "n x 3", "v": "4 x n x ?"}},
		{"optional", []any{"n", 3}, func(s *sketch) {
			s.node("Optional", "x", "o").node("OptionalGetElement", "o", "y").node("OptionalGetElement", "x", "z")
			branch := func() *onnxpb.GraphProto { return body("", "a", same) }
			s.node("OptionalHasElement", "", "q").node("If", "q", "u", attrGraph("then_branch", body("", "s", func(s *sketch) { s.node("Shape", "x", "s") })),
				attrGraph("else_branch", branch()))
		}, map[string]string{"y": "n x 3", "z": "n x 3", "u": "n x 3"}},

		{"function", []any{"n", 3}, func(s *sketch) {
			s.weights("w", []int64{3, 4}).define("f/Twice", "a b", "d", newSketch(17).node("MatMul", "a b", "c").node("Concat", "c c", "d", attrRef("axis", "where")), "where").
				node("f/Twice", "x w", "y", attrInt("where", 1)).node("f/Twice", "x w", "z", attrInt("where", 0))
		}, map[string]string{"y": "n x 8", "z": "n*2 x 4", "y:c": "n x 4", "z:d": "n*2 x 4"}},
		{"function with a default", []any{"n", 3}, func(s *sketch) {
			s.define("f/Twice", "a", "d", newSketch(17).node("Concat", "a a", "d", attrRef("axis", "where")))
			s.Functions[0].AttributeProto = []*onnxpb.AttributeProto{attrInt("where", 1)}
			s.node("f/Twice", "x", "y").node("f/Twice", "x", "z", attrInt("where", 0))
		}, map[string]string{"y": "n x 6", "z": "n*2 x 3"}},
		{"functions of one name", []any{"n", 3}, func(s *sketch) {
			s.define("f/F", "a", "b", newSketch(17).node("Relu", "a", "b")).define("f/F", "a", "b", newSketch(17).node("Shape", "a", "b"))
			s.Functions[1].Overload = proto.String("shape")
			s.node("f/F", "x", "y").node("f/F", "x", "z")
			s.Graph.Node[1].Overload = proto.String("shape")
		}, map[string]string{"y": "n x 3", "z": "2"}},
		{"function, an input left out", []any{4, 6}, func(s *sketch) {
			s.define("f/F", "a lo hi", "b", newSketch(17).node("Clip", "a lo hi", "b")).node("f/F", "x", "y")
		}, map[string]string{"y": "4 x 6"}},
		{"function sees nothing around it", []any{"n", 3}, func(s *sketch) {
			s.define("f/F", "a", "b", newSketch(17).node("Add", "a x", "b")).node("f/F", "x", "y")
		}, map[string]string{"y": "unknown"}},
		{"function of its own opset", []any{"n", 3}, func(s *sketch) {
			s.ints("axes", 0).define("f/F", "a", "b", newSketch(11).node("Unsqueeze", "a", "b", attrInts("axes", 0))).node("f/F", "x", "y")
		}, map[string]string{"y": "1 x n x 3"}},
		{"function in function, with a graph within", []any{"n", 3}, func(s *sketch) {
			s.define("f/In", "a p", "b", newSketch(17).node("If", "p", "b",
				attrGraph("then_branch", body("", "t", func(s *sketch) { s.node("Concat", "a a", "t", attrRef("axis", "k")) })),
				attrGraph("else_branch", body("", "t", func(s *sketch) { s.node("Concat", "a a", "t", attrRef("axis", "k")) }))), "k").
				define("f/Out", "a p", "b", newSketch(17).node("f/In", "a p", "c", attrRef("k", "m")).node("Relu", "c", "b"), "m").
				node("f/Out", "x x", "y", attrInt("m", 1))
		}, map[string]string{"y": "n x 6", "y/c/b/then_branch:t": "n x 6"}},
		{"function that calls itself", []any{"n", 3}, func(s *sketch) {
			s.define("f/F", "a", "b", newSketch(17).node("Relu", "a", "c").node("f/F", "c", "b")).node("f/F", "x", "y")
		}, map[string]string{"y": "unknown", "y:c": "n x 3"}},
		{"function hides an operator", []any{"n", 3}, func(s *sketch) {
			s.define("Relu", "a", "b", newSketch(17).node("Shape", "a", "b")).node("Relu", "x", "y")
		}, map[string]string{"y": "2"}},
		{"graph of an unknown operator", []any{"n", 3}, func(s *sketch) {
			s.node("com.example/Each", "x", "y", attrGraph("do", body("e", "r", func(s *sketch) { s.node("Relu", "x", "r").node("Relu", "e", "u") })))
		}, map[string]string{"y": "unknown", "y/do:r": "n x 3", "y/do:u": "unknown"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSketch(17).input("x", c.x...)
			c.build(s)
			g := s.graph(t)
			graphs := map[string]*Graph{}
			for scope, sub := range g.All() {
				graphs[scope] = sub
			}
			for at, want := range c.want {
				scope, name, ok := strings.Cut(at, ":")
				if !ok {
					scope, name = "", at
				}
				sub := graphs[scope]
				if sub == nil {
					t.Fatalf("no graph %q", scope)
				}
				if got := sub.Shape(name).String(); got != want {
					t.Errorf("%s is %s, want %s", at, got, want)
				}
			}
		})
	}
}

// What is declared of sequences is read; symbols may differ from one element to
// the next.
func TestDeclaredSequence(t *testing.T) {
	s := newSketch(17)
	elem := valueInfo("", onnxfile.Float, []any{"n", 3}).Type
	s.Graph.Input = append(s.Graph.Input, &onnxpb.ValueInfoProto{Name: proto.String("q"),
		Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_SequenceType{SequenceType: &onnxpb.TypeProto_Sequence{ElemType: elem}}}})
	s.scalar("zero", 0).node("SequenceAt", "q zero", "y").result("y")
	m := s.model(t, Options{})
	if got := m.Graph.Shape("y").String(); got != "? x 3" {
		t.Error(got)
	}
	if m.Inputs[0].DType != "sequence(float)" || m.Outputs[0].DType != "float" {
		t.Errorf("%+v %+v", m.Inputs, m.Outputs)
	}
}

// A model that is asked about with other sizes must not believe what was
// declared within it.
func TestBodiesDistrustDeclarations(t *testing.T) {
	branch := body("", "a", func(s *sketch) { s.info("a", 1, 3).node("com.example/Op", "x", "a") })
	s := newSketch(17).input("x", "n", 3).node("If", "x", "y", attrGraph("then_branch", branch), attrGraph("else_branch", branch)).result("y")
	for batch, want := range map[int64]string{0: "1 x 3", 5: "unknown"} {
		g, err := NewGraph(s.file(t), Options{Batch: batch})
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Shape("y").String(); got != want {
			t.Errorf("batch %d: %s, want %s", batch, got, want)
		}
	}
}

// Random nests of branches, loops, sequences and functions: what is known with
// symbols must agree with what is known with numbers in their place.
func TestRandomBodies(t *testing.T) {
	compared := 0
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 11))
		s := newSketch(17).input("x", "n", 3).input("z", "n", "m").input("c").scalar("zero", 0).scalar("one", 1).scalar("three", 3).ints("axes", 0)
		s.define("f/F", "a b", "r", newSketch(17).node("Concat", "a b", "r", attrRef("axis", "k")), "k")
		b := bodyMaker{rng: rng}
		b.fill(s, []string{"x", "z", "x"}, 0)
		f := s.file(t)
		infer := func(opt Options) *Graph {
			g, err := NewGraph(f, opt)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		symbolic, fixed := infer(Options{}), infer(Options{Dims: map[string]int64{"n": 5, "m": 4}})
		other := map[string]*Graph{}
		runs := true
		for scope, g := range fixed.All() {
			other[scope] = g
			for _, n := range g.Nodes {
				runs = runs && mayRun(g, n)
			}
		}
		if !runs {
			continue // of what no runtime runs either shape may be said
		}
		compared++
		for scope, g := range symbolic.All() {
			for _, n := range g.Nodes {
				for _, name := range n.Outputs {
					x, y := g.lookup(name), other[scope].lookup(name)
					if why := contradict(x, y); why != "" {
						t.Fatalf("seed %d: %s in %q: %s: %+v, %+v\n%v", seed, name, scope, why, x, y, s.Graph)
					}
				}
			}
		}
	}
	t.Logf("%d models compared", compared)
	if compared < 50 {
		t.Errorf("only %d models could run", compared)
	}
}

// mayRun tells whether nothing known is against running n.
func mayRun(g *Graph, n *Node) bool {
	x, y := g.lookup(n.Input(0)), g.lookup(n.Input(1))
	if !x.known || !y.known || n.Op != "Concat" && n.Op != "Add" {
		return true
	}
	if n.Op == "Concat" && (len(x.shape) != len(y.shape) || n.AttrInt("axis", 0) >= int64(len(x.shape))) {
		return false
	}
	for i := 1; i <= min(len(x.shape), len(y.shape)); i++ {
		at := len(x.shape) - i
		a, b := x.shape[at], y.shape[len(y.shape)-i]
		free := n.Op == "Add" && (a.is(1) || b.is(1)) || n.Op == "Concat" && int64(at) == n.AttrInt("axis", 0)
		if !free && differ(a, b) {
			return false
		}
	}
	return true
}

func contradict(x, y tensor) string {
	if x.kind != y.kind && x.kind != tensorKind && y.kind != tensorKind {
		return "kinds"
	}
	if x.dtype != y.dtype && x.dtype != 0 && y.dtype != 0 {
		return "types"
	}
	wrong := func(a, b term) bool {
		k, ok := b.number()
		return ok && a.kind == integerTerm && evaluate(a, map[string]int64{"n": 5, "m": 4}).Cmp(big.NewInt(k)) != 0
	}
	if wrong(x.length, y.length) {
		return "lengths"
	}
	if x.elem != nil && y.elem != nil {
		return contradict(*x.elem, *y.elem)
	}
	if !x.known || !y.known {
		return ""
	}
	if len(x.shape) != len(y.shape) {
		return "ranks"
	}
	for i := range x.shape {
		if wrong(x.shape[i], y.shape[i]) {
			return "dimensions"
		}
	}
	return ""
}

type bodyMaker struct {
	rng  *rand.Rand
	next int
}

// fill adds random nodes that read names; it returns what they make.
func (b *bodyMaker) fill(s *sketch, names []string, depth int) []string {
	name := func() string { b.next++; return fmt.Sprintf("t%d", b.next) }
	some := func() string { return names[b.rng.IntN(len(names))] }
	within := func(in, out string, extra ...string) *onnxpb.GraphProto {
		return body(in, out, func(s *sketch) {
			made := b.fill(s, append(append([]string{}, names...), extra...), depth+1)
			for _, o := range strings.Fields(out) {
				if o == "more" {
					s.node([]string{"Identity", "Oops"}[b.rng.IntN(2)], "run", "more")
					continue
				}
				s.node("Identity", made[b.rng.IntN(len(made))], o)
			}
		})
	}
	for range 1 + b.rng.IntN(5) {
		out := name()
		switch k := b.rng.IntN(14); {
		case k < 2:
			s.node("Concat", some()+" "+some(), out, attrInt("axis", int64(b.rng.IntN(2))))
		case k < 3:
			s.node("Transpose", some(), out)
		case k < 4:
			s.node("Unsqueeze", some()+" axes", out)
		case k < 5:
			s.node("Add", some()+" "+some(), out)
		case k < 6:
			s.node("f/F", some()+" "+some(), out, attrInt("k", int64(b.rng.IntN(2))))
		case k < 7:
			s.node("SequenceConstruct", some()+" "+some(), out+"q").node("SequenceInsert", out+"q "+some(), out+"r").node("SequenceAt", out+"r zero", out).
				node("ConcatFromSequence", out+"q", out+"j", attrInt("axis", int64(b.rng.IntN(2))))
			names = append(names, out+"j")
		case depth > 2:
			s.node("Relu", some(), out)
		case k < 9:
			e := name()
			s.node("If", []string{"c", "one", "zero"}[b.rng.IntN(3)], out, attrGraph("then_branch", within("", e)), attrGraph("else_branch", within("", e)))
		case k < 12:
			v, w, e := name(), name(), name()
			s.node("Loop", []string{"three", "_", "zero"}[b.rng.IntN(3)]+" "+[]string{"_", "c"}[b.rng.IntN(2)]+" "+some(), out+" "+out+"s",
				attrGraph("body", counted(within("i run "+v, "more "+w+" "+e, v))))
			names = append(names, out+"s")
		default:
			v, r, w, e := name(), name(), name(), name()
			s.node("Scan", some()+" "+some(), out+" "+out+"s", attrInt("num_scan_inputs", 1), attrGraph("body", within(v+" "+r, w+" "+e, v, r)))
			names = append(names, out+"s")
		}
		names = append(names, out)
	}
	return names
}
