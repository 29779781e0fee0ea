//go:build cgo

package ort

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect/engine"
)

type tensors = map[string]*engine.Tensor

// open opens an engine for a test and closes it after. FILTERLENS_TEST_EP names
// the provider of tests that do not care.
func open(t testing.TB, opts Options) *Engine {
	t.Helper()
	if opts.Provider == "" {
		opts.Provider = os.Getenv("FILTERLENS_TEST_EP")
	}
	opts.Log = func(s string) { t.Log(s) }
	e, err := Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func load(t testing.TB, e *Engine, model []byte) engine.Session {
	t.Helper()
	s, err := e.Load(context.Background(), engine.Model{Name: "test.onnx", Bytes: model})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRun(t *testing.T) {
	e := open(t, Options{Threads: 1})
	s := load(t, e, reluModel())
	want := []engine.Value{{Name: "x", DType: "float", Shape: []int64{-1, 3}}}
	if got := s.Inputs(); !reflect.DeepEqual(got, want) {
		t.Errorf("inputs %v, want %v", got, want)
	}
	want[0].Name = "y"
	if got := s.Outputs(); !reflect.DeepEqual(got, want) {
		t.Errorf("outputs %v, want %v", got, want)
	}

	in := tensors{"x": engine.NewFloat32([]float32{-1, 2, -3, 4, -5, 6}, 2, 3)}
	relu := []float32{0, 2, 0, 4, 0, 6}
	out := tensors{"y": nil}
	if err := s.Run(context.Background(), in, out); err != nil {
		t.Fatal(err)
	}
	if got := out["y"]; !reflect.DeepEqual(got.Float32(), relu) || !reflect.DeepEqual(got.Shape, []int64{2, 3}) {
		t.Errorf("allocated output %v", got)
	}
	mine := make([]float32, 6)
	out = tensors{"y": engine.NewFloat32(mine, 2, 3)}
	if err := s.Run(context.Background(), in, out); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(mine, relu) {
		t.Errorf("output in place %v, want %v", mine, relu)
	}
}

func TestRunPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := os.WriteFile(path, reluModel(), 0o666); err != nil {
		t.Fatal(err)
	}
	e := open(t, Options{})
	s, err := e.Load(context.Background(), engine.Model{Name: "m.onnx", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := tensors{"y": nil}
	if err := s.Run(context.Background(), tensors{"x": engine.NewFloat32([]float32{1, -1, 0}, 1, 3)}, out); err != nil {
		t.Fatal(err)
	}
	if got := out["y"].Float32(); !reflect.DeepEqual(got, []float32{1, 0, 0}) {
		t.Error(got)
	}
}

func TestRunErrors(t *testing.T) {
	e := open(t, Options{})
	s := load(t, e, reluModel())
	x := engine.NewFloat32(make([]float32, 6), 2, 3)
	for _, tt := range []struct {
		name    string
		in, out tensors
		want    string
	}{
		{"missing input", tensors{}, tensors{"y": nil}, `input "x" is missing`},
		{"nil input", tensors{"x": nil}, tensors{"y": nil}, `input "x" is missing`},
		{"unknown input", tensors{"x": x, "z": x}, tensors{"y": nil}, `the graph has no input "z"; it has x`},
		{"unknown output", tensors{"x": x}, tensors{"z": nil}, `the graph has no output "z"; it has y`},
		{"input type", tensors{"x": engine.NewInt64(make([]int64, 3), 1, 3)}, tensors{"y": nil}, `input "x" has type float, given int64`},
		{"input rank", tensors{"x": engine.NewFloat32(make([]float32, 3), 3)}, tensors{"y": nil}, `input "x" has shape [N 3], given [3]`},
		{"input shape", tensors{"x": engine.NewFloat32(make([]float32, 4), 1, 4)}, tensors{"y": nil}, `input "x" has shape [N 3], given [1 4]`},
		{"input data", tensors{"x": {Shape: []int64{2, 3}, Data: make([]float32, 5)}}, tensors{"y": nil}, `does not fit its data of 5 elements`},
		{"negative", tensors{"x": {Shape: []int64{-1, -3}, Data: make([]float32, 3)}}, tensors{"y": nil}, `shape [-1 -3] does not fit`},
		{"overflow", tensors{"x": {Shape: []int64{1 << 62, 4}, Data: []float32{}}}, tensors{"y": nil}, `does not fit`},
		{"go type", tensors{"x": {Shape: []int64{1, 3}, Data: []string{"a", "b", "c"}}}, tensors{"y": nil}, `Go type []string`},
		{"output type", tensors{"x": x}, tensors{"y": engine.NewInt64(make([]int64, 6), 2, 3)}, `output "y" has type float, given int64`},
		{"output shape", tensors{"x": x}, tensors{"y": engine.NewFloat32(make([]float32, 3), 1, 3)}, `output "y" has shape [2 3], given [1 3]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := s.Run(context.Background(), tt.in, tt.out)
			var re *engine.Error
			if !errors.As(err, &re) || re.Op != "run" || re.Model != "test.onnx" {
				t.Fatalf("%v (%T), want an *engine.Error", err, err)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q, want %q", err, tt.want)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	e := open(t, Options{Threads: 1})
	const n = 256
	s := load(t, e, slowModel(n, 900))
	in := tensors{"x": engine.NewFloat32(make([]float32, n*n), n, n)}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	start := time.Now()
	if err := s.Run(ctx, in, tensors{"y": nil}); err != context.Canceled {
		t.Fatalf("after %v: %v, want %v", time.Since(start), err, context.Canceled)
	}
	cancelled := time.Since(start)
	start = time.Now()
	if err := s.Run(context.Background(), in, tensors{"y": nil}); err != nil {
		t.Fatalf("run after a cancelled one: %v", err)
	}
	if whole := time.Since(start); cancelled > whole/2 {
		t.Errorf("cancelled after %v, a whole run takes %v", cancelled, whole)
	}
}

// TestTypes sends every type through an Identity node, both ways of output.
func TestTypes(t *testing.T) {
	e := open(t, Options{Threads: 1})
	for dtype, data := range map[elem]any{
		1: []float32{1.5, -2}, 11: []float64{1.5, -2}, 7: []int64{1 << 40, -2}, 6: []int32{1 << 20, -2},
		5: []int16{1 << 10, -2}, 3: []int8{100, -2}, 2: []uint8{200, 2}, 4: []uint16{60000, 2},
		12: []uint32{1 << 31, 2}, 13: []uint64{1 << 63, 2}, 9: []bool{true, false},
		10: []uint16{0x3c00, 0xc000}, 16: []uint16{0x3f80, 0xc000},
	} {
		name := dtypeName(uint64(dtype))
		t.Run(name, func(t *testing.T) {
			s := load(t, e, identityModel(dtype, "N"))
			if got := s.Inputs()[0].DType; got != name {
				t.Errorf("type %s", got)
			}
			in := tensors{"x": {Shape: []int64{2}, Data: data}}
			mine := &engine.Tensor{Shape: []int64{2}, Data: makeData(name, 2)}
			for _, out := range []tensors{{"y": nil}, {"y": mine}} {
				if err := s.Run(context.Background(), in, out); err != nil {
					t.Fatal(err)
				}
				if got := out["y"]; !reflect.DeepEqual(got, in["x"]) {
					t.Errorf("%v, want %v", got, in["x"])
				}
			}
		})
	}
}

func TestScalar(t *testing.T) {
	e := open(t, Options{Threads: 1})
	in := tensors{"x": engine.NewInt64([]int64{42})}
	undeclared := graph{
		nodes:   [][]byte{node("Identity", []string{"x"}, []string{"y"}), node("Neg", []string{"x"}, []string{"z"})},
		inputs:  [][]byte{tensorInfo("x", elemInt64, []dim{})},
		outputs: [][]byte{tensorInfo("y", elemInt64, nil), tensorInfo("z", elemInt64, nil)},
	}.model()
	for name, model := range map[string][]byte{"declared": identityModel(elemInt64), "undeclared": undeclared} {
		t.Run(name, func(t *testing.T) {
			s := load(t, e, model)
			for range 2 {
				out := tensors{"y": nil}
				if err := s.Run(context.Background(), in, out); err != nil {
					t.Fatal(err)
				}
				if got := out["y"]; got.Shape == nil || len(got.Shape) != 0 || !reflect.DeepEqual(got.Data, []int64{42}) {
					t.Errorf("allocated %v", got)
				}
				mine := []int64{0}
				if err := s.Run(context.Background(), in, tensors{"y": engine.NewInt64(mine)}); err != nil {
					t.Fatal(err)
				}
				if mine[0] != 42 {
					t.Errorf("in place %v", mine)
				}
			}
		})
	}
}

// TestUndeclaredOutputs has outputs whose type or shape the file leaves out.
func TestUndeclaredOutputs(t *testing.T) {
	e := open(t, Options{Threads: 1})
	s := load(t, e, graph{
		nodes:   [][]byte{node("Relu", []string{"x"}, []string{"y"}), node("Neg", []string{"x"}, []string{"z"})},
		inputs:  [][]byte{tensorInfo("x", elemFloat, []dim{"N", 3})},
		outputs: [][]byte{tensorInfo("y", elemFloat, nil), str(nil, 1, "z")},
	}.model())
	want := []engine.Value{{Name: "y", DType: "float"}, {Name: "z", DType: "float", Shape: []int64{-1, 3}}}
	if got := s.Outputs(); !reflect.DeepEqual(got, want) {
		t.Errorf("outputs %v, want %v", got, want)
	}
	out := tensors{"y": nil, "z": nil}
	if err := s.Run(context.Background(), tensors{"x": engine.NewFloat32([]float32{1, -1, 2}, 1, 3)}, out); err != nil {
		t.Fatal(err)
	}
	if y, z := out["y"].Float32(), out["z"].Float32(); !reflect.DeepEqual(y, []float32{1, 0, 2}) || !reflect.DeepEqual(z, []float32{-1, 1, -2}) {
		t.Error(y, z)
	}
}

// TestWronglyDeclaredOutput has files that promise what they do not keep. The
// library only warns where it allocates, and so must we.
func TestWronglyDeclaredOutput(t *testing.T) {
	e := open(t, Options{Threads: 1})
	for name, declared := range map[string]dim{"number": 1, "symbol": "M"} {
		t.Run(name, func(t *testing.T) {
			s := load(t, e, graph{
				nodes:   [][]byte{node("Relu", []string{"x"}, []string{"y"}), node("Neg", []string{"w"}, []string{"z"})},
				inputs:  [][]byte{tensorInfo("x", elemFloat, []dim{"N"}), tensorInfo("w", elemFloat, []dim{"M"})},
				outputs: [][]byte{tensorInfo("y", elemFloat, []dim{declared}), tensorInfo("z", elemFloat, []dim{"M"})},
			}.model())
			in := tensors{"x": engine.NewFloat32([]float32{1, 2}, 2), "w": engine.NewFloat32([]float32{1, 2, 3}, 3)}
			out := tensors{"y": nil}
			if err := s.Run(context.Background(), in, out); err != nil {
				t.Fatal(err)
			}
			if got := out["y"].Shape; !reflect.DeepEqual(got, []int64{2}) {
				t.Errorf("shape %v", got)
			}
			err := s.Run(context.Background(), in, tensors{"y": engine.NewFloat32(make([]float32, 2), 2)})
			if name == "number" {
				if err == nil || !strings.Contains(err.Error(), `output "y" has shape [1], given [2]`) {
					t.Error(err)
				}
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEmptyBatch(t *testing.T) {
	s := load(t, open(t, Options{Threads: 1}), reluModel())
	out := tensors{"y": nil}
	if err := s.Run(context.Background(), tensors{"x": engine.NewFloat32(nil, 0, 3)}, out); err != nil {
		t.Fatal(err)
	}
	if got := out["y"]; !reflect.DeepEqual(got.Shape, []int64{0, 3}) || len(got.Float32()) != 0 {
		t.Errorf("%v", got)
	}
}

// TestInitializerInput lists a weight among the inputs, as files up to IR
// version 3 do; it does not have to be fed.
func TestInitializerInput(t *testing.T) {
	s := load(t, open(t, Options{Threads: 1}), graph{
		nodes:        [][]byte{node("Mul", []string{"x", "w"}, []string{"y"})},
		initializers: [][]byte{floats("w", []float32{2, 3}, 2)},
		inputs:       [][]byte{tensorInfo("x", elemFloat, []dim{2}), tensorInfo("w", elemFloat, []dim{2})},
		outputs:      [][]byte{tensorInfo("y", elemFloat, []dim{2})},
	}.model())
	if got := s.Inputs(); len(got) != 1 || got[0].Name != "x" {
		t.Fatalf("inputs %v", got)
	}
	out := tensors{"y": nil}
	if err := s.Run(context.Background(), tensors{"x": engine.NewFloat32([]float32{1, 1}, 2)}, out); err != nil {
		t.Fatal(err)
	}
	if got := out["y"].Float32(); !reflect.DeepEqual(got, []float32{2, 3}) {
		t.Error(got)
	}
}

// TestOtherOutputs has outputs that cannot be handed over. They fail when they
// are asked for and do not disturb the others.
func TestOtherOutputs(t *testing.T) {
	sequence := msg(str(nil, 1, "s"), 2, msg(nil, 4, msg(nil, 1, msg(nil, 1, num(nil, 1, 1)))))
	s := load(t, open(t, Options{Threads: 1}), graph{
		nodes: [][]byte{
			node("Relu", []string{"x"}, []string{"y"}),
			node("SequenceConstruct", []string{"x"}, []string{"s"}),
			node("Cast", []string{"x"}, []string{"t"}, attr{"to", int64(elemString)}),
			node("Cast", []string{"x"}, []string{"h"}, attr{"to", int64(elemFloat16)}),
		},
		inputs:  [][]byte{tensorInfo("x", elemFloat, []dim{"N"})},
		outputs: [][]byte{tensorInfo("y", elemFloat, []dim{"N"}), sequence, tensorInfo("t", elemString, []dim{"N"}), tensorInfo("h", elemFloat16, []dim{"N"})},
	}.model())
	in := tensors{"x": engine.NewFloat32([]float32{1, -1}, 2)}
	out := tensors{"y": nil, "h": nil}
	if err := s.Run(context.Background(), in, out); err != nil {
		t.Fatal(err)
	}
	if got := out["h"].Data; !reflect.DeepEqual(got, []uint16{0x3c00, 0xbc00}) {
		t.Errorf("%v", got)
	}
	for name, want := range map[string]string{"s": "no tensor", "t": "type string"} {
		err := s.Run(context.Background(), in, tensors{name: nil})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	e := open(t, Options{Threads: 1})
	good := reluModel()
	missing := filepath.Join(t.TempDir(), "missing.onnx")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tt := range []struct {
		name  string
		model engine.Model
		want  string
		is    error
	}{
		{"nothing", engine.Model{}, "needs either bytes or a path", nil},
		{"both", engine.Model{Bytes: good, Path: "x"}, "needs either bytes or a path", nil},
		{"missing file", engine.Model{Path: missing}, missing, os.ErrNotExist},
		{"empty", engine.Model{Bytes: []byte{}}, "holds no graph", nil},
		{"text", engine.Model{Bytes: []byte("hello, this is no model")}, "byte", nil},
		{"cut off", engine.Model{Bytes: good[:len(good)-20]}, "cut off", nil},
		{"no inputs", engine.Model{Bytes: graph{outputs: [][]byte{tensorInfo("y", elemFloat, nil)}}.model()}, "no inputs", nil},
		{"no outputs", engine.Model{Bytes: graph{inputs: [][]byte{tensorInfo("y", elemFloat, nil)}}.model()}, "no outputs", nil},
		{"twice", engine.Model{Bytes: graph{
			inputs:  [][]byte{tensorInfo("x", elemFloat, nil), tensorInfo("x", elemFloat, nil)},
			outputs: [][]byte{tensorInfo("y", elemFloat, nil)},
		}.model()}, `input name "x" is empty or not unique`, nil},
		{"operator", engine.Model{Bytes: graph{
			nodes:   [][]byte{node("Nonsense", []string{"x"}, []string{"y"})},
			inputs:  [][]byte{tensorInfo("x", elemFloat, []dim{1})},
			outputs: [][]byte{tensorInfo("y", elemFloat, []dim{1})},
		}.model()}, "Nonsense", nil},
		{"cancelled", engine.Model{Bytes: good}, "context canceled", context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := context.Background()
			if tt.is == context.Canceled {
				ctx = cancelled
			}
			tt.model.Name = "bad.onnx"
			s, err := e.Load(ctx, tt.model)
			var le *engine.Error
			if s != nil || !errors.As(err, &le) || le.Op != "load" || le.Model != "bad.onnx" {
				t.Fatalf("%v, %v (%T), want an *engine.Error", s, err, err)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q, want %q", err, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
		})
	}
}

func TestClose(t *testing.T) {
	e, err := Open(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Load(context.Background(), engine.Model{Name: "m", Bytes: reluModel()})
	if err != nil {
		t.Fatal(err)
	}
	in := tensors{"x": engine.NewFloat32(make([]float32, 3), 1, 3)}
	// The session outlives its engine, against the contract, without a crash.
	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Load(context.Background(), engine.Model{Name: "m", Bytes: reluModel()}); err == nil {
		t.Error("a closed engine loads")
	}
	if err := s.Run(context.Background(), in, tensors{"y": nil}); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Run(context.Background(), in, tensors{"y": nil}); err == nil || !strings.Contains(err.Error(), "the session is closed") {
		t.Errorf("run of a closed session: %v", err)
	}
	if environment.users != 0 {
		t.Errorf("%d users left", environment.users)
	}
}

func TestConcurrentUse(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range 5 {
				e, err := Open(context.Background(), Options{Threads: 1})
				if err != nil {
					t.Error(err)
					return
				}
				s, err := e.Load(context.Background(), engine.Model{Name: "m", Bytes: reluModel()})
				if err != nil {
					t.Error(err)
					return
				}
				x := float32(i*10 + k)
				out := tensors{"y": nil}
				if err := s.Run(context.Background(), tensors{"x": engine.NewFloat32([]float32{x, -x, x}, 1, 3)}, out); err != nil {
					t.Error(err)
				} else if got := out["y"].Float32(); got[0] != x || got[1] != 0 {
					t.Errorf("%v for %v", got, x)
				}
				if err := errors.Join(s.Close(), e.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if environment.users != 0 {
		t.Errorf("%d users left", environment.users)
	}
}

func TestOpenErrors(t *testing.T) {
	text := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(text, []byte("hello"), 0o666); err != nil {
		t.Fatal(err)
	}
	old := text + ".1.23.2"
	if err := os.WriteFile(old, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		opts Options
		want string
		gone bool
	}{
		{"old library", Options{Library: old}, "is older than 1.24", true},
		{"provider", Options{Provider: "tpu"}, `unknown execution provider "tpu"`, false},
		{"threads", Options{Threads: -1}, "-1 threads", false},
		{"missing library", Options{Library: text + ".1"}, "no such file", true},
		{"not a library", Options{Library: text}, "cannot be loaded", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(context.Background(), tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			var u *engine.UnavailableError
			if errors.As(err, &u) != tt.gone {
				t.Errorf("%T, want unavailable: %v", err, tt.gone)
			}
		})
	}
	t.Run("second library", func(t *testing.T) {
		open(t, Options{})
		if _, err := Open(context.Background(), Options{Library: text}); err == nil || !strings.Contains(err.Error(), "is loaded from") {
			t.Errorf("%v", err)
		}
	})
}

// TestNoLeak runs what takes native memory over and over and watches the
// process. Each way would cost far more than the limit if it leaked.
func TestNoLeak(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	e := open(t, Options{Threads: 1})
	const n = 1 << 16 // 256 KiB a tensor
	model := graph{
		nodes:   [][]byte{node("Relu", []string{"x"}, []string{"y"})},
		inputs:  [][]byte{tensorInfo("x", elemFloat, []dim{"N"})},
		outputs: [][]byte{tensorInfo("y", elemFloat, []dim{"N"})},
	}.model()
	s := load(t, e, model)
	in := tensors{"x": engine.NewFloat32(make([]float32, n), n)}
	mine := engine.NewFloat32(make([]float32, n), n)
	short := engine.NewFloat32(make([]float32, 1), 1)
	once := func() {
		if err := s.Run(context.Background(), in, tensors{"y": nil}); err != nil {
			t.Fatal(err)
		}
		if err := s.Run(context.Background(), in, tensors{"y": mine}); err != nil {
			t.Fatal(err)
		}
		if err := s.Run(context.Background(), in, tensors{"y": short}); err == nil {
			t.Fatal("a short output is taken")
		}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(10*time.Microsecond, cancel)
		s.Run(ctx, in, tensors{"y": nil})
		other, err := e.Load(context.Background(), engine.Model{Name: "m", Bytes: model})
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Run(context.Background(), in, tensors{"y": nil}); err != nil {
			t.Fatal(err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
	}
	tiny := load(t, e, reluModel())
	tinyIn := tensors{"x": engine.NewFloat32(make([]float32, 3), 1, 3)}
	tinyOut := tensors{"y": engine.NewFloat32(make([]float32, 3), 1, 3)}
	// A value over Go memory takes some 200 bytes of native memory.
	many := func() {
		for range 50_000 {
			if err := tiny.Run(context.Background(), tinyIn, tinyOut); err != nil {
				t.Fatal(err)
			}
		}
	}
	many()
	runtime.GC()
	small := resident(t)
	many()
	runtime.GC()
	if grown := resident(t) - small; grown > 10<<20 {
		t.Errorf("50000 small runs left %d MiB behind", grown>>20)
	}
	for range 100 {
		once()
	}
	runtime.GC()
	goroutines, before := runtime.NumGoroutine(), resident(t)
	for range 500 {
		once()
	}
	runtime.GC()
	if grown := resident(t) - before; grown > 64<<20 {
		t.Errorf("500 rounds over %d KiB left %d MiB behind", n*4>>10, grown>>20)
	}
	if now := runtime.NumGoroutine(); now > goroutines+2 {
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
}

// resident returns the memory of the process in bytes.
func resident(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestQuiet sees that the library itself writes nothing to standard error,
// whatever goes wrong. It needs a process of its own, for the library writes
// past Go.
func TestQuiet(t *testing.T) {
	lib, err := Locate(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "ORT_TEST_HELPER=quiet", "FILTERLENS_ORT_LIBRARY="+lib.Path)
	b, err := cmd.CombinedOutput()
	if err != nil || string(b) != "done\n" {
		t.Errorf("%v, it wrote %q", err, b)
	}
}

func helperQuiet() {
	ctx := context.Background()
	e, err := Open(ctx, Options{Threads: 1})
	if err != nil {
		panic(err)
	}
	s, err := e.Load(ctx, engine.Model{Name: "m", Bytes: reluModel()})
	if err != nil {
		panic(err)
	}
	in := tensors{"x": engine.NewFloat32(make([]float32, 6), 2, 3)}
	// A batch of the wrong size is found by the library, in the middle of a run.
	if s.Run(ctx, in, tensors{"y": engine.NewFloat32(make([]float32, 3), 1, 3)}) == nil {
		panic("a wrong output is taken")
	}
	bad := reluModel()
	copy(bad[len(bad)-3:], "xxx")
	if _, err := e.Load(ctx, engine.Model{Name: "m", Bytes: bad}); err == nil {
		panic("a broken model is loaded")
	}
	if err := errors.Join(s.Close(), e.Close()); err != nil {
		panic(err)
	}
	// Where there is no GPU the library says more than the error holds.
	if e, err := Open(ctx, Options{Provider: CUDA}); err == nil {
		if err := e.Close(); err != nil {
			panic(err)
		}
	}
	fmt.Println("done")
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"fine":       "fine",
		"a\n  b.":    "a b",
		"open x: no": "open x: no",
		"Error running network: Non-zero status. Status Message: /src/a.cc:83 virtual int f(int) [ONNXRuntimeError] : 2 : INVALID_ARGUMENT : bad shape": "Non-zero status. Status Message: bad shape",
	} {
		err := errors.New(in)
		got := oneLine(err)
		if got.Error() != want || !errors.Is(got, err) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
