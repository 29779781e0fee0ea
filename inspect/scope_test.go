package inspect

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
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
func checkLimits(t *testing.T, s *sketch, limit time.Duration, memory uint64) *Model {
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
	if took > limit {
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
		m := checkLimits(t, s, 2*time.Second, 64*mb)
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
		checkLimits(t, s, 2*time.Second, 96*mb)
	})
	t.Run("numbers in every node", func(t *testing.T) {
		s := newSketch(17).ints("k", 1024).ints("perm", make([]int64, 64)...).scalar("a", 0).scalar("b", 1024).scalar("c", 1)
		for i := range 10000 {
			s.node("Range", "a b c", fmt.Sprintf("r%d", i)).node("ConstantOfShape", "perm", fmt.Sprintf("s%d", i))
		}
		s.node("Range", "a c c", "small")
		m := checkLimits(t, s, time.Second, 64*mb)
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
		checkLimits(t, s, time.Second, 64*mb)
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
		m := checkLimits(t, s, time.Second, 64*mb)
		if m.Totals.Subgraphs != 60 {
			t.Errorf("%d graphs", m.Totals.Subgraphs)
		}
		if got := len(m.Graph.Consumers("x7")); got != 1 {
			t.Errorf("x7 has %d readers", got)
		}
	})
}

var _ = slices.Sorted[string]
var _ = onnxfile.Float
