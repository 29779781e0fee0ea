package gorgonia

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
)

// branches is a graph whose outputs need different nodes: p and q share a node,
// s needs one of its own, v is a view of p, c is made of constants only and d of
// a shape.
func branches(t testing.TB) *net {
	n := newNet(t, 13)
	n.input("x", "N", 4)
	n.floats("w", []float32{1, 2, 3, 4}, 4)
	n.int64s("to", []int64{0, 2, -1}, 3)
	n.node("Relu", nil, "h", "x")
	n.node("Add", nil, "p", "h", "w")
	n.node("Mul", nil, "q", "h", "h")
	n.node("Neg", nil, "s", "x")
	n.node("Reshape", nil, "v", "p", "to")
	n.node("Add", nil, "c", "w", "w")
	n.node("Shape", nil, "d", "q")
	for _, out := range []string{"p", "q", "s", "v", "c"} {
		n.output(out)
	}
	n.g.Output = append(n.g.Output, valueInfo("d", 7, 2))
	return n
}

func TestOnlyWhatIsWantedRuns(t *testing.T) {
	s := load(t, Open(Options{}), engine.Model{Name: "branches", Bytes: branches(t).bytes()})
	want := map[string]string{
		"p": "{[2 4] [1 3 3 4 2 2 6 4]}", "q": "{[2 4] [0 1 0 0 1 0 9 0]}", "s": "{[2 4] [1 -1 -0 5 -1 -0 -3 1]}",
		"v": "{[2 2 2] [1 3 3 4 2 2 6 4]}", "c": "{[4] [2 4 6 8]}", "d": "{[2] [2 4]}",
	}
	steps := map[string]string{
		"": "", "p": "/h /p", "q": "/h /q", "s": "/s", "v": "/h /p /v", "c": "", "d": "", "p v": "/h /p /v", "q s": "/h /q /s", "p q s v c d": "/h /p /q /s /v",
	}
	for range 2 {
		for wanted, nodes := range steps {
			out := make(map[string]*engine.Tensor)
			for _, name := range fields(wanted) {
				out[name] = nil
			}
			x := engine.NewFloat32([]float32{-1, 1, 0, -5, 1, 0, 3, -1}, 2, 4)
			if err := s.Run(t.Context(), map[string]*engine.Tensor{"x": x}, out); err != nil {
				t.Fatal(err)
			}
			for name, v := range out {
				if got := fmt.Sprint(*v); got != want[name] {
					t.Errorf("%q: %s is %s, want %s", wanted, name, got, want[name])
				}
			}
			pl := s.(*session).plans[len(s.(*session).plans)-1].plan
			var ran []string
			for _, st := range pl.recent[0].steps {
				ran = append(ran, st.node.name)
			}
			if got := fmt.Sprint(ran); got != "["+nodes+"]" {
				t.Errorf("%q ran %s, want %s", wanted, got, nodes)
			}
			if len(pl.recent) > keptSchedules {
				t.Errorf("%d schedules are kept", len(pl.recent))
			}
			for _, v := range pl.recent[0].borrowed {
				if v.data != nil {
					t.Errorf("%q: what was fed is held", wanted)
				}
			}
		}
	}
}

func fields(s string) (f []string) {
	for i := 0; i < len(s); i += 2 {
		f = append(f, s[i:i+1])
	}
	return f
}

// Nodes of constants are computed when the graph is loaded, and what only they
// read is forgotten.
func TestFold(t *testing.T) {
	s := load(t, Open(Options{}), engine.Model{Name: "branches", Bytes: branches(t).bytes()})
	p := s.(*session).program
	for _, n := range p.nodes {
		if n.name == "/c" {
			t.Error("c is computed in each run")
		}
	}
	n := newNet(t, 13)
	n.input("x", 3)
	n.floats("a", []float32{1, 2, 3}, 3)
	n.floats("b", []float32{1, 1, 1}, 3)
	n.node("Add", nil, "ab", "a", "b")
	n.node("Neg", nil, "c", "ab")
	n.node("Mul", nil, "y", "x", "c")
	n.output("y")
	s = load(t, Open(Options{}), engine.Model{Name: "fold", Bytes: n.bytes()})
	p = s.(*session).program
	held := slices.DeleteFunc(slices.Clone(p.constants), func(v *value) bool { return v == nil })
	if len(p.nodes) != 1 || len(held) != 1 || !slices.Equal(held[0].floats(), []float32{-2, -3, -4}) {
		t.Errorf("%d nodes and constants %v are left", len(p.nodes), held)
	}
}

// A shape that is computed is known for each batch size.
func TestShapeArithmetic(t *testing.T) {
	n := newNet(t, 13)
	n.input("x", "N", 2, 3)
	n.node("Shape", nil, "dims", "x")
	n.node("Reshape", nil, "y", "x2", "dims")
	n.node("Reshape", nil, "x2", "x", "flat")
	n.int64s("flat", []int64{-1}, 1)
	n.output("y")
	s := load(t, Open(Options{}), engine.Model{Name: "shape", Bytes: n.bytes()})
	for _, rows := range []int64{1, 4, 2, 1} {
		out := map[string]*engine.Tensor{"y": nil}
		if err := s.Run(t.Context(), map[string]*engine.Tensor{"x": engine.NewFloat32(make([]float32, 6*rows), rows, 2, 3)}, out); err != nil {
			t.Fatal(err)
		}
		if got := out["y"].Shape; !slices.Equal(got, []int64{rows, 2, 3}) {
			t.Errorf("shape %v", got)
		}
	}
}

// What is computed before a run is bounded, of one node and in all, and so is the
// memory of a run.
func TestBounds(t *testing.T) {
	n := newNet(t, 13)
	n.input("x", "N", 2)
	n.node("Shape", nil, "dims", "x")
	n.floats("one", []float32{1}, 1, 1)
	n.node("Gather", nil, "rows", "dims", "first")
	n.int64s("first", []int64{0}, 1)
	n.int64s("wide", []int64{1 << 19}, 1)
	n.node("Concat", attrs{"axis": 0}, "to", "rows", "wide")
	var names []string
	const nodes = 40
	for i := range nodes {
		name := fmt.Sprint("e", i)
		n.node("Expand", nil, name, "one", "to")
		names = append(names, name)
	}
	n.node("Sum", nil, "y", names...)
	n.output("y")
	s := load(t, Open(Options{}), engine.Model{Name: "bounds", Bytes: n.bytes()})
	for rows, want := range map[int64]int{1: maxAllKnown>>19 - 1, 2: maxAllKnown>>20 - 1, 3: 0} {
		pl, err := s.(*session).planFor(t.Context(), [][]int{{int(rows), 2}})
		if err != nil {
			t.Fatal(err)
		}
		known := 0
		for i, n := range s.(*session).program.nodes {
			if n.op == "Expand" && pl.kernels[i] == nil {
				known++
			}
		}
		if known != want {
			t.Errorf("%d rows: %d of %d nodes are known before the run, want %d", rows, known, nodes, want)
		}
		if rows > 1 {
			continue
		}
		out := map[string]*engine.Tensor{"y": nil}
		if err := s.Run(t.Context(), map[string]*engine.Tensor{"x": engine.NewFloat32([]float32{1, 2}, 1, 2)}, out); err != nil || out["y"].Float32()[1<<19-1] != nodes {
			t.Errorf("%v, %v", out["y"].Shape, err)
		}
	}
	in := map[string]*engine.Tensor{"x": engine.NewFloat32(make([]float32, 2*2000), 2000, 2)}
	if err := s.Run(t.Context(), in, map[string]*engine.Tensor{"y": nil}); err == nil || !strings.Contains(err.Error(), "use smaller batches") {
		t.Errorf("got %v", err)
	}
}

// From the second run on, a run allocates what it hands over and little else, and
// results of one run do not change in the next.
func TestRunsReuseMemory(t *testing.T) {
	n := newNet(t, 13)
	n.input("x", "N", 1000)
	n.node("Relu", nil, "a", "x")
	n.node("Relu", nil, "b", "a")
	n.node("Relu", nil, "c", "b")
	n.node("Flatten", nil, "y", "c")
	n.output("y")
	s := load(t, Open(Options{}), engine.Model{Name: "reuse", Bytes: n.bytes()})
	run := func(v float32, out *engine.Tensor) *engine.Tensor {
		x := slices.Repeat([]float32{v}, 64000)
		outs := map[string]*engine.Tensor{"y": out}
		if err := s.Run(t.Context(), map[string]*engine.Tensor{"x": engine.NewFloat32(x, 64, 1000)}, outs); err != nil {
			t.Fatal(err)
		}
		return outs["y"]
	}
	first := run(1, nil)
	if run(2, nil).Float32()[7] != 2 || first.Float32()[7] != 1 {
		t.Error("a result changed in the run after it")
	}
	if n := len(s.(*session).arena); n != 2*words(4*64000) {
		t.Errorf("%d words for two tensors of %d", n, words(4*64000))
	}
	in, out := map[string]*engine.Tensor{"x": first}, map[string]*engine.Tensor{"y": engine.NewFloat32(make([]float32, 64000), 64, 1000)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const runs = 20
	for range runs {
		if err := s.Run(t.Context(), in, out); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / runs; n > 4096 {
		t.Errorf("a run allocates %d bytes", n)
	}
}

// Results do not depend on the number of threads.
func TestThreads(t *testing.T) {
	path := fixture
	one, many := load(t, Open(Options{Threads: 1}), engine.Model{Name: "one", Path: path}), load(t, Open(Options{Threads: 5}), engine.Model{Name: "many", Path: path})
	feed := batch(one, 3, 9)
	if d := difference(answer(t, many, feed), answer(t, one, feed)); d != 0 {
		t.Errorf("answers differ by %g", d)
	}
}

// A session whose batches grow holds the memory of the largest one alone, and what
// ran before runs again in it.
func TestGrowingBatchesHoldOneArena(t *testing.T) {
	n := newNet(t, 13)
	n.input("x", "N", 1000)
	n.node("Exp", nil, "e", "x")
	n.node("Neg", nil, "y", "e")
	n.output("e")
	n.output("y")
	s := load(t, Open(Options{}), engine.Model{Name: "growing", Bytes: n.bytes()}).(*session)
	run := func(rows int64, want ...string) {
		t.Helper()
		x := make([]float32, rows*1000)
		x[len(x)-1] = 1
		out := make(map[string]*engine.Tensor)
		for _, name := range want {
			out[name] = nil
		}
		if err := s.Run(t.Context(), map[string]*engine.Tensor{"x": engine.NewFloat32(x, rows, 1000)}, out); err != nil {
			t.Fatal(err)
		}
		if y := out["y"].Data.([]float32); y[0] != -1 || math.Abs(float64(y[len(y)-1])+math.E) > 1e-5 {
			t.Errorf("%d rows: %g, %g", rows, y[0], y[len(y)-1])
		}
	}
	for rows := range int64(4) {
		run(1+rows, "y")
		run(1+rows, "e", "y")
	}
	for _, k := range s.plans {
		for _, other := range k.plan.recent {
			if len(other.arena) > 0 && &other.arena[0] != &s.arena[0] {
				t.Errorf("shapes %v hold %d words of their own", k.shapes, len(other.arena))
			}
		}
	}
	for rows := range int64(4) {
		run(4-rows, "e", "y")
		run(1+rows, "y")
	}
}
