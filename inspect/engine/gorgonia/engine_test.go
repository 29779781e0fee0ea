package gorgonia

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"google.golang.org/protobuf/proto"
)

func TestVersion(t *testing.T) {
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range []string{"github.com/owulveryck/onnx-go", "gorgonia.org/gorgonia"} {
		v := regexp.MustCompile(regexp.QuoteMeta(m) + ` (v\S+)`).FindSubmatch(mod)
		if v == nil {
			t.Fatalf("go.mod does not name %s", m)
		}
		want = append(want, m[strings.LastIndex(m, "/")+1:]+" "+string(v[1]))
	}
	e := Open(Options{})
	if got := e.Version(); got != strings.Join(want, ", ") {
		t.Errorf("version %q, go.mod says %q", got, want)
	}
	if e.Name() != "gorgonia" || e.Provider() != "cpu" {
		t.Errorf("name %q, provider %q", e.Name(), e.Provider())
	}
}

// mixed is a graph with everything that lowering takes out, in no good order:
// a is an intermediate result and an output, b goes through Dropout, c is x
// itself, d is a constant, and an operator that is lacking leads nowhere.
func mixed(t testing.TB) []byte {
	n := newNet(t, 13)
	n.input("x", "N", 3)
	two := &onnxpb.TensorProto{DataType: proto.Int32(int32(onnxfile.Float)), Dims: []int64{3}, FloatData: []float32{2, 3, 4}}
	n.node("Dropout", nil, "b", "twice")
	n.node("Mul", nil, "twice", "a", "k")
	n.node("Add", nil, "a", "x", "same")
	n.node("Identity", nil, "same", "x")
	n.node("Constant", attrs{"value": two}, "k")
	n.node("Identity", nil, "c", "x")
	n.node("Identity", nil, "d", "k")
	n.node("Celu", nil, "nowhere", "x")
	for _, out := range []string{"a", "b", "c", "d"} {
		n.output(out)
	}
	return n.bytes()
}

func TestLowering(t *testing.T) {
	s := load(t, Open(Options{}), engine.Model{Name: "mixed", Bytes: mixed(t)})
	for rows := int64(1); rows < 8; rows++ { // more batch sizes than plans are kept
		x := make([]float32, 3*rows)
		for i := range x {
			x[i] = float32(i) - 1
		}
		out := map[string]*engine.Tensor{"a": nil, "b": nil, "c": nil, "d": nil}
		if err := s.Run(t.Context(), map[string]*engine.Tensor{"x": engine.NewFloat32(x, rows, 3)}, out); err != nil {
			t.Fatal(err)
		}
		for i, v := range x {
			a := 2 * v
			b := a * []float32{2, 3, 4}[i%3]
			if out["a"].Float32()[i] != a || out["b"].Float32()[i] != b || out["c"].Float32()[i] != v {
				t.Fatalf("row %d: a %v, b %v, c %v of x %v", i, out["a"], out["b"], out["c"], x)
			}
		}
		if !slices.Equal(out["d"].Float32(), []float32{2, 3, 4}) {
			t.Fatalf("d is %v", out["d"])
		}
		// Results are the caller's: writing to them changes neither input nor weights.
		out["c"].Float32()[0], out["d"].Float32()[0] = 99, 99
		if x[0] != -1 {
			t.Fatal("an output shares memory with an input")
		}
	}
	if n := len(s.(*session).plans); n > keptPlans {
		t.Errorf("%d plans are kept", n)
	}
}

func TestSignature(t *testing.T) {
	s := load(t, Open(Options{}), engine.Model{Name: "mixed", Bytes: mixed(t)})
	if got, want := fmt.Sprint(s.Inputs()), "[{x float [-1 3]}]"; got != want {
		t.Errorf("inputs %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(s.Outputs()), "[{a float []} {b float []} {c float []} {d float []}]"; got != want {
		t.Errorf("outputs %s, want %s", got, want)
	}
}

func TestRunRefuses(t *testing.T) {
	s := load(t, Open(Options{}), engine.Model{Name: "mixed", Bytes: mixed(t)})
	x := func() *engine.Tensor { return engine.NewFloat32(make([]float32, 6), 2, 3) }
	type tensors = map[string]*engine.Tensor
	for _, c := range []struct {
		name    string
		in, out tensors
		want    string
	}{
		{"missing", tensors{}, tensors{"a": nil}, `input "x" is missing`},
		{"type", tensors{"x": engine.NewInt64(make([]int64, 6), 2, 3)}, tensors{"a": nil}, `input "x" has type float, given data of Go type []int64`},
		{"rank", tensors{"x": engine.NewFloat32(make([]float32, 6), 6)}, tensors{"a": nil}, `input "x" has shape [? 3], given [6]`},
		{"dimension", tensors{"x": engine.NewFloat32(make([]float32, 6), 3, 2)}, tensors{"a": nil}, `input "x" has shape [? 3], given [3 2]`},
		{"data", tensors{"x": {Shape: []int64{2, 3}, Data: make([]float32, 5)}}, tensors{"a": nil}, `input "x": shape [2 3] does not fit its data of 5 elements`},
		{"negative", tensors{"x": {Shape: []int64{-2, 3}, Data: make([]float32, 5)}}, tensors{"a": nil}, `input "x": shape [-2 3] is negative`},
		{"stranger", tensors{"x": x(), "z": x()}, tensors{"a": nil}, `the graph has no input "z"; it has x`},
		{"output", tensors{"x": x()}, tensors{"a": nil, "z": nil}, `the graph has no output "z"; it has a, b, c, d`},
		{"output shape", tensors{"x": x()}, tensors{"a": engine.NewFloat32(make([]float32, 9), 3, 3)}, `output "a" has shape [2 3], given [3 3]`},
		{"output type", tensors{"x": x()}, tensors{"a": {Shape: []int64{2, 3}, Data: make([]float64, 6)}}, `output "a" has type float, given data of Go type []float64`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := s.Run(t.Context(), c.in, c.out)
			var e *engine.Error
			if !errors.As(err, &e) || e.Op != "run" || e.Model != "mixed" || e.Err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	out := tensors{"a": engine.NewFloat32([]float32{9, 9, 9, 9, 9, 9}, 2, 3)}
	held := out["a"]
	if err := s.Run(t.Context(), tensors{"x": engine.NewFloat32([]float32{1, 2, 3, 4, 5, 6}, 2, 3)}, out); err != nil {
		t.Fatal(err)
	}
	if out["a"] != held || !slices.Equal(held.Float32(), []float32{2, 4, 6, 8, 10, 12}) {
		t.Errorf("the tensor that was there holds %v", held)
	}
}

func TestLoadRefuses(t *testing.T) {
	valid := func() *net {
		n := newNet(t, 13)
		n.input("x", "N", 3)
		n.node("Relu", nil, "y", "x")
		n.output("y")
		return n
	}
	for _, c := range []struct {
		name string
		edit func(n *net)
		want string
	}{
		{"lacking", func(n *net) { n.node("NonZero", nil, "z", "y"); n.output("z") }, `does not compute NonZero: the operator is lacking (node 1 "/z")`},
		{"domain", func(n *net) { n.g.Node[0].Domain = proto.String("com.example") }, `com.example.Relu: the operator is lacking (node 0 "/y")`},
		{"attribute", func(n *net) { n.g.Node[0].Attribute = attrs{"consumed": 1}.proto() }, `Relu: attribute consumed is not known for it`},
		{"arity", func(n *net) { n.g.Node[0].Input = []string{"x", "x"} }, `Relu: 2 inputs are not among its forms`},
		{"outputs", func(n *net) { n.g.Node[0].Output = []string{"y", "mask"}; n.output("mask") }, `Relu: outputs beyond the first are lacking`},
		{"no first output", func(n *net) { n.g.Node[0].Output = []string{"", "y"} }, `Relu: outputs beyond the first are lacking`},
		{"computed initializer", func(n *net) { n.floats("y", make([]float32, 3), 3) }, `node 0 "/y" (Relu): tensor "y" has a value already`},
		{"computed input", func(n *net) { n.input("y", 3) }, `node 0 "/y" (Relu): tensor "y" has a value already`},
		{"cycle", func(n *net) { n.g.Node[0].Input = []string{"y"} }, `node 0 "/y" (Relu) reads a tensor that nothing computes before it`},
		{"alias cycle", func(n *net) {
			n.node("Identity", nil, "p", "q")
			n.node("Identity", nil, "q", "p")
			n.g.Node[0].Input = []string{"p"}
		}, `reads a tensor that nothing computes before it`},
		{"nothing", func(n *net) { n.g.Node[0].Input = []string{"z"} }, `reads a tensor that nothing computes before it`},
		{"twice", func(n *net) { n.node("Relu", nil, "y", "x") }, `tensor "y" has a value already`},
		{"no output", func(n *net) { n.g.Node = nil }, `output "y" is computed by no node`},
		{"unnamed input", func(n *net) { n.input("", 1) }, `input name "" is empty or not unique`},
		{"no outputs", func(n *net) { n.g.Output = nil }, `the graph has no outputs`},
		{"integers", func(n *net) { n.g.Input[0].GetType().GetTensorType().ElemType = proto.Int32(7) }, `Relu: type int64 is not part of operator set 13`},
		{"sequence", func(n *net) {
			n.g.Input[0].Type = &onnxpb.TypeProto{Value: &onnxpb.TypeProto_SequenceType{SequenceType: new(onnxpb.TypeProto_Sequence)}}
		}, `Relu: input 0 is no tensor`},
		{"strings", func(n *net) { n.g.Input[0].GetType().GetTensorType().ElemType = proto.Int32(8) }, `Relu: input 0 has type string, which is lacking (node 0 "/y")`},
		{"string weights", func(n *net) {
			n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("w"), DataType: proto.Int32(8), Dims: []int64{1}, StringData: [][]byte{[]byte("a")}})
			n.node("Add", nil, "z", "y", "w")
			n.output("z")
		}, `Add: input 1 has type string, which is lacking (node 1 "/z")`},
		{"strings passed on", func(n *net) {
			n.g.Input = append(n.g.Input, valueInfo("s", 8, 1))
			n.node("Identity", nil, "z", "s")
			n.g.Output = append(n.g.Output, valueInfo("z", 8, 1))
		}, `Identity: input 0 has type string, which is lacking (node 1 "/z")`},
		{"loop", func(n *net) { n.node("Loop", nil, "z", "", "", "y"); n.output("z") }, `Loop: the operator is lacking (node 1 "/z")`},
		{"operator set", func(n *net) { n.draft.Model.OpsetImport[0].Version = proto.Int64(6) }, `operator set 6 is not among those`},
		{"no operator set", func(n *net) { n.draft.Model.OpsetImport = nil }, `the model names no version`},
		{"double weights", func(n *net) {
			n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("w"), DataType: proto.Int32(int32(onnxfile.Double)), Dims: []int64{1}, DoubleData: []float64{1}})
			n.node("Add", nil, "z", "y", "w")
			n.output("z")
		}, `Add: inputs 0 and 1 have types float and double`},
		{"cut weights", func(n *net) {
			n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("w"), DataType: proto.Int32(int32(onnxfile.Float)), Dims: []int64{1 << 20}, FloatData: []float32{1}})
			n.node("Add", nil, "z", "y", "w")
			n.output("z")
		}, `tensor "w"`},
		{"shape fed", func(n *net) { n.node("Reshape", nil, "z", "y", "y"); n.output("z") }, `Reshape: input 1 has type float, which is lacking`},
		{"huge", func(n *net) {
			n.floats("row", make([]float32, 1<<16), 1, 1<<16)
			n.floats("column", make([]float32, 1<<16), 1<<16, 1)
			n.node("Add", nil, "p", "row", "column")
			n.node("Add", nil, "z", "p", "p")
			n.output("z")
		}, `Add: shape [65536 65536] has more than 1073741824 elements`},
		{"huge padding", func(n *net) {
			n.floats("w", make([]float32, 3), 1, 3, 1, 1)
			n.node("Unsqueeze", nil, "p", "y", "axes")
			n.int64s("axes", []int64{2, 3}, 2)
			n.node("Conv", attrs{"pads": []int64{1 << 30, 1 << 30, 1 << 30, 1 << 30}}, "z", "p", "w")
			n.output("z")
		}, `Conv: shape [1 1 2147483649 2147483649] has more than`},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := valid()
			c.edit(n)
			_, err := Open(Options{}).Load(t.Context(), engine.Model{Name: "bad", Bytes: n.bytes()})
			var e *engine.Error
			if !errors.As(err, &e) || e.Op != "load" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	for _, m := range []engine.Model{{}, {Bytes: []byte{}}, {Bytes: []byte("no model")}, {Path: "no such file"}, {Path: "x", Bytes: []byte("y")}} {
		if _, err := Open(Options{}).Load(t.Context(), m); !errors.As(err, new(*engine.Error)) {
			t.Errorf("%+v: got %v", m, err)
		}
	}
}

// All that is wrong is named at once, in the order of the file.
func TestUnsupportedListsAll(t *testing.T) {
	n := newNet(t, 13)
	n.input("x", "N", 3, 4, 4)
	n.node("DepthToSpace", attrs{"blocksize": 2}, "a", "x") // known from the shape
	n.node("NonZero", nil, "b", "x")
	n.node("Relu", nil, "c", "b")
	n.node("NonZero", nil, "d", "c")
	n.node("MaxPool", nil, "e", "d")
	n.node("Unique", nil, "f", "a", "e")
	n.output("f")
	_, err := Open(Options{}).Load(t.Context(), engine.Model{Name: "bad", Bytes: n.bytes()})
	var u *UnsupportedError
	if !errors.As(err, &u) {
		t.Fatal(err)
	}
	var got []string
	for _, n := range u.Nodes {
		got = append(got, fmt.Sprint(n.Index, n.Node, n.Op))
	}
	if want := "[0/aDepthToSpace 1/bNonZero 3/dNonZero 4/eMaxPool 5/fUnique]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if want := `NonZero: the operator is lacking (node 1 "/b", 3 "/d")`; !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not contain %s", err, want)
	}
}

// Forms that depend on sizes that only a run knows are judged there.
func TestSymbolicSizes(t *testing.T) {
	n := newNet(t, 13)
	n.input("x", "N", 3, "H", "W")
	n.node("AveragePool", attrs{"kernel_shape": []int64{4, 4}}, "y", "x")
	n.output("y")
	s := load(t, Open(Options{}), engine.Model{Name: "sizes", Bytes: n.bytes()})
	run := func(size int64) error {
		x := engine.NewFloat32(make([]float32, 3*size*size), 1, 3, size, size)
		return s.Run(t.Context(), map[string]*engine.Tensor{"x": x}, map[string]*engine.Tensor{"y": nil})
	}
	if err := run(4); err != nil {
		t.Error(err)
	}
	var e *engine.Error
	if err := run(3); !errors.As(err, &e) || e.Op != "run" || !errors.As(err, new(*UnsupportedError)) {
		t.Errorf("got %v", err)
	}
	n.node("NonZero", nil, "z", "y")
	n.output("z")
	if _, err := Open(Options{}).Load(t.Context(), engine.Model{Bytes: n.bytes()}); !errors.As(err, new(*UnsupportedError)) {
		t.Errorf("got %v", err)
	}
}

// countdown is a context that is cancelled when it has been asked n times.
type countdown struct {
	context.Context
	n int
}

func (c *countdown) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

func TestCancel(t *testing.T) {
	s := load(t, Open(Options{}), engine.Model{Name: "mixed", Bytes: mixed(t)})
	in := map[string]*engine.Tensor{"x": engine.NewFloat32(make([]float32, 3), 1, 3)}
	stopped := 0
	for n := range 20 {
		out := map[string]*engine.Tensor{"a": nil}
		err := s.Run(&countdown{t.Context(), n}, in, out)
		switch {
		case err == nil:
			if out["a"] == nil {
				t.Error("no output")
			}
		case err != context.Canceled || out["a"] != nil:
			t.Errorf("got %v and output %v", err, out["a"])
		default:
			stopped++
		}
	}
	if stopped < 3 || stopped == 20 {
		t.Errorf("stopped at %d places", stopped)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(Options{}).Load(ctx, engine.Model{Bytes: mixed(t)}); !errors.Is(err, context.Canceled) {
		t.Errorf("load: got %v", err)
	}
}

func TestClose(t *testing.T) {
	e := Open(Options{})
	s, err := e.Load(t.Context(), engine.Model{Name: "mixed", Bytes: mixed(t)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := errors.Join(s.Close(), e.Close()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Run(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "the session is closed") {
		t.Errorf("got %v", err)
	}
	if _, err := e.Load(t.Context(), engine.Model{Bytes: mixed(t)}); err == nil || !strings.Contains(err.Error(), "the engine is closed") {
		t.Errorf("got %v", err)
	}
}

// Sessions load and run side by side, although onnx-go and Gorgonia keep state of
// their own, and leave no goroutines.
func TestConcurrentSessions(t *testing.T) {
	before := runtime.NumGoroutine()
	d, feed, _, _ := oneNode(t, 13, "Conv", attrs{"pads": []int64{1, 1, 1, 1}}, []arg{fed(2, 3, 8, 8), stored(4, 3, 3, 3), stored(4)}, 3)
	e := Open(Options{})
	results := make([]*engine.Tensor, 8)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			s, err := e.Load(t.Context(), engine.Model{Name: "conv", Bytes: d})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for range 5 {
				out := map[string]*engine.Tensor{"y": nil}
				if err := s.Run(t.Context(), feed, out); err != nil {
					t.Error(err)
				}
				results[i] = out["y"]
			}
		})
	}
	wg.Wait()
	for _, r := range results[1:] {
		if difference(r, results[0]) != 0 {
			t.Error("sessions differ")
		}
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

func TestConvolutionOfLargeImages(t *testing.T) {
	const samples, size = 5, 220
	args := []arg{fed(samples, 16, size, size), stored(2, 16, 3, 3), stored(2)}
	model, feed, _, values := oneNode(t, 13, "Conv", attrs{"pads": []int64{1, 1, 1, 1}}, args, 4)
	s := load(t, Open(Options{}), engine.Model{Name: "conv", Bytes: model})
	out := map[string]*engine.Tensor{"y": nil}
	if err := s.Run(t.Context(), feed, out); err != nil {
		t.Fatal(err)
	}
	x, w, bias := values[0].floats(), values[1].floats(), values[2].floats()
	got := out["y"].Float32()
	for _, at := range [][4]int{{0, 0, 0, 0}, {1, 1, 219, 219}, {2, 0, 100, 7}, {3, 1, 0, 219}, {4, 1, 17, 150}} {
		n, f, r, c := at[0], at[1], at[2], at[3]
		want := float64(bias[f])
		for ch := range 16 {
			for i := range 3 {
				for j := range 3 {
					if y, z := r+i-1, c+j-1; y >= 0 && y < size && z >= 0 && z < size {
						want += float64(x[((n*16+ch)*size+y)*size+z]) * float64(w[((f*16+ch)*3+i)*3+j])
					}
				}
			}
		}
		if v := float64(got[((n*2+f)*size+r)*size+c]); math.Abs(v-want) > 1e-4 {
			t.Errorf("at %v: %g, want %g", at, v, want)
		}
	}
}

// Pooling of images that several workers share.
func TestMaxPoolOfLargeImages(t *testing.T) {
	const samples, size = 3, 1200
	model, feed, _, values := oneNode(t, 13, "MaxPool", attrs{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}, []arg{fed(samples, 2, size, size)}, 5)
	s := load(t, Open(Options{}), engine.Model{Name: "pool", Bytes: model})
	out := map[string]*engine.Tensor{"y": nil}
	if err := s.Run(t.Context(), feed, out); err != nil {
		t.Fatal(err)
	}
	x, y := values[0].floats(), out["y"].Float32()
	for n := range samples * 2 {
		for r := range size / 2 {
			for c := range size / 2 {
				at := (n*size+2*r)*size + 2*c
				if want := max(x[at], x[at+1], x[at+size], x[at+size+1]); y[(n*size/2+r)*size/2+c] != want {
					t.Fatalf("at %d %d %d: %g, want %g", n, r, c, y[(n*size/2+r)*size/2+c], want)
				}
			}
		}
	}
}

// A panic of the libraries becomes an error, and so do their errors that cannot
// be printed.
func TestCatch(t *testing.T) {
	panics := func() (err error) {
		defer catch(&err)
		panic("no\nway")
	}
	if err := panics(); err == nil || err.Error() != "internal error: no way" {
		t.Errorf("got %v", err)
	}
	in := []operand{{dtype: onnxfile.Float, shape: []int{3, 3}}, {dtype: onnxfile.Float, shape: []int{3}}}
	if _, err := newBackend("Add", nil, in); err == nil || !strings.Contains(err.Error(), "without saying why") {
		t.Errorf("got %v", err)
	}
}

// ONNX Runtime makes the lowest finite number of it in some sizes.
func TestMaxPoolOfNothing(t *testing.T) {
	inf := float32(math.Inf(-1))
	model, feed, _, _ := oneNode(t, 13, "MaxPool", attrs{"kernel_shape": []int64{1, 2}}, []arg{{shape: []int64{1, 1, 1, 3}, floats: []float32{inf, inf, 1}}}, 1)
	out, err := evaluate(t, Open(Options{}), model, feed, "y")
	if err != nil {
		t.Fatal(err)
	}
	if got := out["y"].Float32(); got[0] != inf || got[1] != 1 {
		t.Errorf("got %v", got)
	}
}

// FuzzLoad feeds damaged models: they load and run, or they are refused.
func FuzzLoad(f *testing.F) {
	f.Add(mixed(f))
	for _, c := range forms() {
		if c.lacking == "" && c.opset == 13 {
			model, _, _, _ := oneNode(f, c.opset, c.op, c.attrs, c.args, 1)
			if len(model) < 2<<10 {
				f.Add(model)
			}
		}
	}
	e := Open(Options{})
	f.Fuzz(func(t *testing.T, model []byte) {
		if len(model) == 0 {
			return
		}
		s, err := e.Load(t.Context(), engine.Model{Name: "fuzz", Bytes: model})
		if err != nil {
			if !errors.As(err, new(*engine.Error)) {
				t.Errorf("no engine error: %v", err)
			}
			return
		}
		defer s.Close()
		in := make(map[string]*engine.Tensor)
		total := int64(0)
		for _, v := range s.Inputs() {
			shape := slices.Clone(v.Shape)
			n := int64(1)
			for i := range shape {
				if shape[i] < 0 {
					shape[i] = 2
				}
				if shape[i] > 1<<10 || n > 1<<12 {
					return
				}
				n *= shape[i]
			}
			if total += n; total > 1<<12 {
				return
			}
			dtype := s.(*session).program.inputs[len(in)].dtype
			if _, ok := storageFor(dtype); !ok {
				return
			}
			in[v.Name] = &engine.Tensor{Shape: shape, Data: makeData(dtype, int(n))}
		}
		// A graph may make much of little; what it makes is known beforehand.
		shapes := make([][]int, 0, len(in))
		for _, v := range s.Inputs() {
			shapes = append(shapes, toInts(in[v.Name].Shape))
		}
		pl, err := s.(*session).planFor(t.Context(), shapes)
		if err == nil {
			for _, s := range pl.specs {
				if size(s.shape) > 1<<16 {
					return
				}
			}
		}
		out := make(map[string]*engine.Tensor)
		for _, v := range s.Outputs() {
			out[v.Name] = nil
		}
		if err := s.Run(t.Context(), in, out); err != nil && !errors.As(err, new(*engine.Error)) {
			t.Errorf("no engine error: %v", err)
		} else if err == nil {
			for name, v := range out {
				if v == nil {
					t.Errorf("output %q is missing", name)
				} else if s, ok := storageFor(outputType(s, name)); !ok || int64(s.len(v.Data)) != engine.Elements(v.Shape) {
					t.Errorf("output %q is %v", name, v)
				}
			}
		}
	})
}

// outputType is the element type of an output that has been computed.
func outputType(s engine.Session, name string) onnxfile.DType {
	for _, o := range s.(*session).program.outputs {
		if o.Name == name {
			return o.dtype
		}
	}
	return 0
}
