package inspect

import (
	"cmp"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// nested returns the sketch's graph, to stand in an attribute.
func (s *sketch) nested() *onnxpb.GraphProto { return s.Graph }

// result adds an output of which nothing is declared.
func (s *sketch) result(names ...string) *sketch {
	for _, name := range names {
		s.Graph.Output = append(s.Graph.Output, &onnxpb.ValueInfoProto{Name: proto.String(name)})
	}
	return s
}

// takes adds inputs of which nothing is declared.
func (s *sketch) takes(names ...string) *sketch {
	for _, name := range names {
		s.Graph.Input = append(s.Graph.Input, &onnxpb.ValueInfoProto{Name: proto.String(name)})
	}
	return s
}

// define adds a function with the nodes of body.
func (s *sketch) define(op, in, out string, body *sketch, attrs ...string) *sketch {
	n := newNode(op, in, out)
	f := &onnxpb.FunctionProto{Name: n.OpType, Domain: n.Domain, Input: n.Input, Output: n.Output, Node: body.Graph.Node, Attribute: attrs}
	f.OpsetImport = body.OpsetImport
	s.Functions = append(s.Functions, f)
	return s
}

// attrRef is an attribute that refers to one of the call.
func attrRef(name, ref string) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), RefAttrName: proto.String(ref), Type: onnxpb.AttributeProto_INT.Enum()}
}

// checkLimits describes s in a bounded time and with bounded memory.
//
// The time is generous, for tests run beside others; without its bounds none of
// these would end.
func checkLimits(t *testing.T, s *sketch, memory uint64) *Model {
	t.Helper()
	f := s.file(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	m, err := New(t.Context(), f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d bytes of file: %v, %d MB kept, %d MB allocated", f.Size, took, (after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))>>20, (after.TotalAlloc-before.TotalAlloc)>>20)
	if took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if after.HeapAlloc > before.HeapAlloc && after.HeapAlloc-before.HeapAlloc > memory {
		t.Errorf("it keeps %d MB", (after.HeapAlloc-before.HeapAlloc)>>20)
	}
	runtime.KeepAlive(m)
	return m
}

// A file of a few kilobytes must not make more than it says.
func TestHostileNesting(t *testing.T) {
	const mb = 1 << 20
	t.Run("functions that call each other", func(t *testing.T) {
		s := newSketch(17).input("x", 1, 2).weights("w", []int64{2, 2})
		for i := range 30 {
			body := newSketch(17)
			for j := range 10 {
				body.node(fmt.Sprintf("f/F%d", i+1), "a", fmt.Sprintf("b%d", j))
			}
			s.define(fmt.Sprintf("f/F%d", i), "a", "b0", body)
		}
		s.define("f/F30", "a", "b", newSketch(17).node("Relu", "a", "b"))
		s.node("f/F0", "x", "y").result("y")
		m := checkLimits(t, s, 64*mb)
		if m.Totals.Nodes != 1+30*10+1 || m.Totals.MACsUnknown == 0 {
			t.Errorf("totals %+v", m.Totals)
		}
		if f := m.Functions[30]; f.Calls != 10 || f.Nodes != 1 {
			t.Errorf("%+v", f)
		}
	})
	t.Run("layers with long names", func(t *testing.T) {
		s := newSketch(17).input("x", 1, 2).weights("w", []int64{2, 2})
		inner := newSketch(17)
		for i := range 200 {
			inner.node("MatMul", "a w", fmt.Sprintf("m%d", i))
		}
		s.define("f/G", "a w", "m0", inner)
		outer := newSketch(17)
		for i := range 200 {
			outer.node("f/G", "a w", fmt.Sprintf("b%d", i))
			outer.Graph.Node[i].Name = proto.String(strings.Repeat("x", 20000))
		}
		s.define("f/F", "a w", "b0", outer).node("f/F", "x w", "y").result("y")
		checkLimits(t, s, 96*mb)
	})
	t.Run("numbers in every node", func(t *testing.T) {
		s := newSketch(17).ints("k", 1024).ints("perm", make([]int64, 64)...).scalar("a", 0).scalar("b", 1024).scalar("c", 1)
		for i := range 2000 {
			s.node("Range", "a b c", fmt.Sprintf("r%d", i)).node("ConstantOfShape", "perm", fmt.Sprintf("s%d", i))
		}
		s.node("Range", "a c c", "small")
		m := checkLimits(t, s, 64*mb)
		if v, ok := m.Graph.Ints("small"); !ok || len(v) != 1 {
			t.Error("a small value is lost")
		}
		if v, ok := m.Graph.Ints("r3"); !ok || len(v) != 1024 {
			t.Error("the first values are lost")
		}
	})
	t.Run("loops in loops", func(t *testing.T) {
		// Every level makes its value longer, so that nothing holds for all runs.
		var body *sketch
		for i := range 60 {
			b := newSketch(17).takes(fmt.Sprintf("i%d", i), fmt.Sprintf("c%d", i), fmt.Sprintf("a%d", i))
			in := fmt.Sprintf("a%d", i)
			if body != nil {
				b.node("Loop", "k _ "+in, fmt.Sprintf("l%d", i), attrGraph("body", body.nested()))
				in = fmt.Sprintf("l%d", i)
			}
			b.node("Concat", in+" "+in, fmt.Sprintf("o%d", i), attrInt("axis", 0))
			body = b.result(fmt.Sprintf("c%d", i), fmt.Sprintf("o%d", i))
		}
		s := newSketch(17).input("x", 3).scalar("k", 5).node("Loop", "k _ x", "y", attrGraph("body", body.nested())).result("y")
		checkLimits(t, s, 64*mb)
	})
	t.Run("deep graphs that read from far outside", func(t *testing.T) {
		names := make([]string, 2000)
		s := newSketch(17)
		for i := range names {
			names[i] = fmt.Sprintf("x%d", i)
			s.input(names[i], 1)
		}
		body := newSketch(17).node("Sum", strings.Join(names, " "), "y59").result("y59")
		for i := 58; i >= 0; i-- {
			out := fmt.Sprintf("y%d", i)
			body = newSketch(17).node("If", "x0", out, attrGraph("then_branch", body.nested())).result(out)
		}
		s.node("If", "x0", "y", attrGraph("then_branch", body.nested())).result("y")
		m := checkLimits(t, s, 64*mb)
		if m.Totals.Subgraphs != 60 {
			t.Errorf("%d graphs", m.Totals.Subgraphs)
		}
		if got := len(m.Graph.Consumers("x7")); got != 1 {
			t.Errorf("x7 has %d readers", got)
		}
	})
}

// What lies in nested graphs and functions, one line a layer: scope, name,
// weight, bias, parameters, multiply-accumulates; then the totals: parameters,
// statistics, constants, multiply-accumulates, unknown ones, nodes, graphs.
func TestLayersOfBodies(t *testing.T) {
	conv := func(name, weight string) func(s *sketch) {
		return func(s *sketch) { s.node("Conv", "x "+weight, name) }
	}
	within := func(name string, dims ...int64) func(s *sketch) { // a weight of its own
		return func(s *sketch) { s.weights("w", dims).node("Conv", "x w", name) }
	}
	again := func(s *sketch) *sketch { return s.node("Identity", "c", "more") }
	for _, c := range []struct {
		name   string
		build  func(s *sketch)
		want   []string
		totals string
	}{
		{"if: the branch that costs more", func(s *sketch) {
			s.node("If", "x", "y", attrGraph("then_branch", body("", "a", within("a", 4, 4, 1, 1))), attrGraph("else_branch", body("", "b", within("b", 8, 4, 1, 1))))
		}, []string{"y/then_branch a w - 16 1024", "y/else_branch b w - 32 2048"}, "48 0 0 2048 0 3 2"},
		{"if: one branch is unknown", func(s *sketch) {
			s.node("If", "x", "y", attrGraph("then_branch", body("", "a", within("a", 4, 4, 1, 1))),
				attrGraph("else_branch", body("", "b", func(s *sketch) { s.node("Oops", "x", "o").weights("w", []int64{8, 4, 1, 1}).node("Conv", "o w", "b") })))
		}, []string{"y/then_branch a w - 16 1024", "y/else_branch b w - 32 ?"}, "48 0 0 1024 1 4 2"},
		{"if: only one branch ever runs", func(s *sketch) {
			s.scalar("two", 2).node("Less", "two two", "q").
				node("If", "q", "y", attrGraph("then_branch", body("", "a", within("a", 8, 4, 1, 1))), attrGraph("else_branch", body("", "b", within("b", 4, 4, 1, 1))))
		}, []string{"y/then_branch a w - 32 2048", "y/else_branch b w - 16 1024"}, "48 0 1 1024 0 4 2"},
		{"a weight of the main graph, read three times", func(s *sketch) {
			s.weights("k", []int64{4, 4, 1, 1}).node("Conv", "x k", "z").
				node("If", "x", "y", attrGraph("then_branch", body("", "a", conv("a", "k"))), attrGraph("else_branch", body("", "a", conv("a", "k"))))
		}, []string{" z k - 16 1024", "y/then_branch a k - 16 1024", "y/else_branch a k - 16 1024"}, "16 0 0 2048 0 4 2"},
		{"loop: as often as it runs", func(s *sketch) {
			s.weights("k", []int64{4, 4, 1, 1}).scalar("five", 5).
				node("Loop", "five _ x", "y", attrGraph("body", counted(body("i c v", "more w", func(s *sketch) { again(s).node("Conv", "v k", "w") }))))
		}, []string{"y/body w k - 16 1024"}, "16 0 1 5120 0 3 1"},
		{"loop: no one knows how often", func(s *sketch) {
			s.weights("k", []int64{4, 4, 1, 1}).node("Conv", "x k", "u").
				node("Loop", "_ _ u", "y", attrGraph("body", counted(body("i c v", "more w", func(s *sketch) { again(s).node("Conv", "v k", "w") }))))
		}, []string{" u k - 16 1024", "y/body w k - 16 1024"}, "16 0 0 1024 1 4 1"},
		{"scan", func(s *sketch) {
			s.weights("k", []int64{8, 2}).node("Scan", "x", "y", attrInt("num_scan_inputs", 1), attrInts("scan_input_axes", 1),
				attrGraph("body", body("r", "e", func(s *sketch) { s.node("MatMul", "r k", "e") })))
		}, []string{"y/body e k - 16 128"}, "16 0 0 512 0 2 1"},
		{"function: at each call, its weights once", func(s *sketch) {
			s.weights("k", []int64{4, 4, 1, 1}).weights("l", []int64{4}).
				define("f/F", "a w b", "d", newSketch(17).node("Conv", "a w b", "c").node("Constant", "", "k", attrTensor("value", floatTensor("", []int64{4, 4, 1, 1}))).node("Conv", "c k", "d")).
				node("f/F", "x k l", "u").node("f/F", "u k", "y")
		}, []string{"u c k l 20 1024", "u d k - 16 1024", "y c k - 16 1024", "y d k - 16 1024"}, "36 0 0 4096 0 5 0"},
		{"function that is never called", func(s *sketch) {
			s.define("f/F", "a", "d", newSketch(17).node("Constant", "", "k", attrTensor("value", floatTensor("", []int64{4, 4, 1, 1}))).node("Conv", "a k", "d")).node("Relu", "x", "y")
		}, nil, "0 0 16 0 0 1 0"},
		{"function that calls itself", func(s *sketch) {
			s.define("f/F", "a w", "b", newSketch(17).node("Conv", "a w", "c").node("f/F", "c w", "b")).weights("k", []int64{4, 4, 1, 1}).node("f/F", "x k", "y")
		}, []string{"y c k - 16 1024"}, "16 0 0 1024 1 3 0"},
		{"sparse weight", func(s *sketch) {
			s.Graph.SparseInitializer = append(s.Graph.SparseInitializer, &onnxpb.SparseTensorProto{Values: floatTensor("k", []int64{3}), Indices: intTensor("", []int64{3}, 0, 5, 9), Dims: []int64{4, 4, 1, 1}})
			s.node("Conv", "x k", "y")
		}, []string{" y k - 16 1024"}, "16 0 0 1024 0 1 0"},
		{"tensors of unknown operators", func(s *sketch) {
			s.node("com.example/Tree", "x", "y", attrTensor("table", floatTensor("", []int64{7})), attrGraph("do", body("", "a", within("a", 4, 4, 1, 1))))
		}, []string{"y/do a w - 16 1024"}, "16 0 7 ? 1 2 1"},
		{"normalisation in a branch", func(s *sketch) {
			s.node("If", "x", "y", attrGraph("then_branch", body("", "a", func(s *sketch) {
				for _, p := range []string{"s", "b", "m", "v"} {
					s.weights(p, []int64{4})
				}
				s.node("BatchNormalization", "x s b m v", "a")
			})))
		}, []string{"y/then_branch a s b 8 0"}, "8 8 0 0 0 2 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSketch(17).input("x", "n", 4, 8, 8)
			c.build(s)
			m := s.model(t, Options{Weights: true})
			var got []string
			for i := range m.Layers {
				l := &m.Layers[i]
				got = append(got, fmt.Sprintf("%s %s %s %s %d %s", l.Scope, l.Name, l.Weight, cmp.Or(l.Bias, "-"), l.Parameters, macs(l.MACs)))
				g, n := m.LayerNode(l)
				if n.Index != l.Node || g.Nodes[l.Node] != n || g.Scope() != l.Scope || n.Label() != l.Name {
					t.Errorf("node of %+v", l)
				}
				w, ok := m.LayerWeight(l)
				if ok && w.Name != l.Weight || !ok && len(s.Graph.SparseInitializer) == 0 {
					t.Errorf("weight of %+v", l)
				}
				if b, ok := m.LayerBias(l); ok && b.Name != l.Bias {
					t.Errorf("bias of %+v", l)
				}
				if ok && strings.Contains(l.Op, "Conv") && (l.Zeros == nil || *l.Zeros != 1) {
					t.Errorf("zeros of %+v", l)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("layers\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			sum := &m.Totals
			if totals := fmt.Sprintf("%d %d %d %s %d %d %d", sum.Parameters, sum.Statistics, sum.Constants, macs(sum.MACs), sum.MACsUnknown, sum.Nodes, sum.Subgraphs); totals != c.totals {
				t.Errorf("totals %s, want %s", totals, c.totals)
			}
			nodes, elements := 0, int64(0)
			for _, op := range m.Operators {
				nodes += op.Count
			}
			for _, k := range m.Types {
				elements += k.Elements
			}
			if nodes != sum.Nodes {
				t.Errorf("%d nodes, by operator %d", sum.Nodes, nodes)
			}
			if len(s.Graph.SparseInitializer) == 0 && elements != sum.Parameters+sum.Statistics+sum.Constants {
				t.Errorf("%d elements by type, %+v", elements, sum)
			}
		})
	}
}

// Names repeat across scopes; each reader gets its own.
func TestNamesRepeat(t *testing.T) {
	branch := func(v float32) *onnxpb.GraphProto {
		return body("", "a", func(s *sketch) { s.weights("w", []int64{4, 4, 1, 1}, v).node("Conv", "x w", "a") })
	}
	m := newSketch(17).input("x", "n", 4, 8, 8).weights("w", []int64{4, 4, 1, 1}, 0).node("Conv", "x w", "a").
		node("If", "a", "y", attrGraph("then_branch", branch(0)), attrGraph("else_branch", branch(1))).model(t, Options{Weights: true})
	var zeros []float64
	for i := range m.Layers {
		zeros = append(zeros, *m.Layers[i].Zeros)
	}
	if !slices.Equal(zeros, []float64{1, 1, 0}) || m.Totals.Parameters != 48 || *m.Totals.Zeros != 2.0/3 {
		t.Errorf("zeros %v, totals %+v", zeros, m.Totals)
	}
}

func TestWhatIsForTraining(t *testing.T) {
	s := newSketch(17).input("x", 1, 3).node("Relu", "x", "y")
	algorithm := newSketch(17).weights("rate", []int64{5}).node("Add", "y rate", "z").node("If", "z", "u", attrGraph("then_branch", body("", "a", func(s *sketch) { s.node("Relu", "z", "a") })))
	s.TrainingInfo = []*onnxpb.TrainingInfoProto{{Algorithm: algorithm.Graph}}
	m := s.model(t, Options{})
	want := Totals{MACs: new(int64), PeakActivationBytes: m.Totals.PeakActivationBytes, PeakNode: "y", Constants: 5, Nodes: 1, TrainingNodes: 3}
	if !reflect.DeepEqual(m.Totals, want) {
		t.Errorf("%+v, want %+v", m.Totals, want)
	}
}

func TestTypesAndExternalBytes(t *testing.T) {
	external := func(name string, d int32, n int64, at ...string) *onnxpb.TensorProto {
		p := &onnxpb.TensorProto{Name: proto.String(name), Dims: []int64{n}, DataType: proto.Int32(d), DataLocation: onnxpb.TensorProto_EXTERNAL.Enum()}
		for i := 0; i+1 < len(at); i += 2 {
			p.ExternalData = append(p.ExternalData, &onnxpb.StringStringEntryProto{Key: proto.String(at[i]), Value: proto.String(at[i+1])})
		}
		return p
	}
	s := newSketch(17).input("x", 1, 3).ints("k", 1, 2)
	s.Graph.Initializer = append(s.Graph.Initializer,
		external("a", 1, 10, "location", "w.bin", "offset", "100", "length", "40"),
		external("b", 1, 10, "location", "./w.bin", "offset", "120", "length", "40"), // shares 20 bytes
		external("c", 10, 10, "location", "w.bin", "offset", "110"),                  // 20 bytes, all shared
		external("d", 1, 10, "location", "v.bin", "length", "40"),
		external("e", 22, 10, "location", "u.bin", "offset", "9223372036854775800")) // int4, up to the end of all files
	s.node("If", "x", "y", attrGraph("then_branch", body("", "a", func(s *sketch) {
		s.Graph.Initializer = append(s.Graph.Initializer, external("f", 1, 1, "location", "v.bin", "offset", "38", "length", "4")) // 2 bytes more
		s.node("Relu", "x", "a")
	})))
	f := s.file(t)
	m, err := New(t.Context(), f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(60 + 42 + 5); m.ExternalBytes != want {
		t.Errorf("%d bytes beside the file, want %d", m.ExternalBytes, want)
	}
	want := []TypeCount{{"float", 4, 31, 124}, {"float16", 1, 10, 20}, {"int4", 1, 10, 5}, {"int64", 1, 2, 2}}
	if !slices.Equal(m.Types, want) {
		t.Errorf("%+v, want %+v", m.Types, want)
	}
}

// All visits what Scope names; a long or a bad name does no harm.
func TestScopes(t *testing.T) {
	branch := body("", "a", func(s *sketch) {
		s.node("If", "x", "a", attrGraph("then_branch", body("", "b", func(s *sketch) { s.node("f/F", "x", "b") })))
	})
	s := newSketch(17).define("f/F", "x", "y", newSketch(17).node("Relu", "x", "y")).input("x", 1).
		node("If", "x", "y", attrGraph("else_branch", branch)).
		node("com.example/Many", "x", "z", &onnxpb.AttributeProto{Name: proto.String("g"), Graphs: []*onnxpb.GraphProto{branch, branch}})
	s.Graph.Node[0].Name = proto.String(strings.Repeat("n", 500))
	g := s.graph(t)
	long := strings.Repeat("n", maxLabel) + "..."
	var want, got []string
	want = append(want, "")
	for _, outer := range []string{long + "/else_branch", "z/g[0]", "z/g[1]"} {
		want = append(want, outer, outer+"/a/then_branch", outer+"/a/then_branch/b")
	}
	for scope, sub := range g.All() {
		got = append(got, scope)
		if sub.Scope() != scope {
			t.Errorf("%q is in %q", sub.Scope(), scope)
		}
		parent, owner := sub.Parent()
		if (parent == nil) != (sub == g) || (owner == nil) != (sub == g) || (sub.Function() != nil) != strings.HasSuffix(scope, "/b") {
			t.Errorf("%q: %v %v %v", scope, parent, owner, sub.Function())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	for range g.All() {
		break // it must be possible to stop
	}
}
