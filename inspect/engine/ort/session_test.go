package ort

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect/engine"
)

type tensors = map[string]*engine.Tensor

// open opens an engine for a test and closes it after.
func open(t testing.TB, opts Options) *Engine {
	t.Helper()
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
