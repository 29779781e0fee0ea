//go:build cgo

package ort

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/filterlens/filterlens/inspect/engine"
)

// sumModel computes total = sum + x and twice = total + total over any length;
// x is read from a table of rows by index.
func sumModel() []byte {
	return graph{
		nodes: [][]byte{
			node("Gather", []string{"table", "index"}, []string{"x"}),
			node("Add", []string{"sum", "x"}, []string{"total"}),
			node("Add", []string{"total", "total"}, []string{"twice"}),
		},
		inputs: [][]byte{
			tensorInfo("table", elemFloat, []dim{"rows", "N"}), tensorInfo("index", elemInt64, []dim{}),
			tensorInfo("sum", elemFloat, []dim{"N"}),
		},
		outputs: [][]byte{tensorInfo("total", elemFloat, []dim{"N"}), tensorInfo("twice", elemFloat, []dim{"N"})},
	}.model()
}

func sumInputs() tensors {
	return tensors{
		"table": engine.NewFloat32([]float32{1, 2, 10, 20}, 2, 2),
		"sum":   engine.NewFloat32([]float32{100, 200}, 2),
	}
}

func TestHold(t *testing.T) {
	ctx := t.Context()
	s := load(t, open(t, Options{Threads: 1}), sumModel()).(*session)
	if got, err := s.Held(ctx); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	fixed := sumInputs()
	if err := s.Hold(fixed, map[string]string{"total": "sum"}); err != nil {
		t.Fatal(err)
	}
	fixed["sum"].Float32()[0] = -1 // a carried value is the session's own
	held := func(want ...float32) {
		t.Helper()
		got, err := s.Held(ctx)
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got["sum"], engine.NewFloat32(want, 2)) {
			t.Errorf("%v, %v; want %v", got["sum"], err, want)
		}
	}
	held(100, 200)
	run := func(index int64, out tensors) error {
		return s.Run(ctx, tensors{"index": {Shape: []int64{}, Data: []int64{index}}}, out)
	}
	// Nothing wanted, an output of the library's, one of the caller's.
	if err := run(0, nil); err != nil {
		t.Fatal(err)
	}
	held(101, 202)
	out := tensors{"twice": nil}
	if err := run(1, out); err != nil {
		t.Fatal(err)
	}
	held(111, 222)
	if got := out["twice"]; !reflect.DeepEqual(got, engine.NewFloat32([]float32{222, 444}, 2)) {
		t.Errorf("%v", got)
	}
	mine := make([]float32, 2)
	if err := run(0, tensors{"twice": engine.NewFloat32(mine, 2)}); err != nil || mine[1] != 448 {
		t.Errorf("%v, %v", mine, err)
	}
	held(112, 224)

	// A run that fails, or never starts, changes nothing.
	if err := run(7, nil); err == nil || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Run(gone, tensors{"index": {Shape: []int64{}, Data: []int64{0}}}, nil); err != context.Canceled {
		t.Error(err)
	}
	for want, call := range map[string]func() error{
		`"sum" is held`:   func() error { return s.Run(ctx, tensors{"index": nil, "sum": nil}, nil) },
		`"total" is carr`: func() error { return run(0, tensors{"total": nil}) },
		`"index" is miss`: func() error { return s.Run(ctx, nil, nil) },
		`{3}`:             func() error { return run(0, tensors{"twice": engine.NewFloat32(make([]float32, 3), 3)}) },
	} {
		var re *engine.Error
		if err := call(); !errors.As(err, &re) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	held(112, 224)
	if len(s.held.first) != 0 {
		t.Error("what the carried input was given first is kept")
	}

	// Carried values are replaced, all or none; the table stays.
	again := engine.NewFloat32([]float32{5, 6}, 2)
	for want, values := range map[string]tensors{
		`"table" carries no`: {"sum": again, "table": sumInputs()["table"]},
		`no input "total"`:   {"sum": again, "total": again},
		`"sum"`:              {"sum": nil},
	} {
		var re *engine.Error
		if err := s.Put(values); !errors.As(err, &re) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		held(112, 224)
	}
	for range 2 {
		if err := s.Put(tensors{"sum": again}); err != nil {
			t.Fatal(err)
		}
		again.Float32()[0]-- // it was copied
	}
	held(4, 6)
	if err := run(1, nil); err != nil {
		t.Fatal(err)
	}
	held(14, 26)
	if err := s.Put(nil); err != nil {
		t.Error(err)
	}
	through, err := s.readThrough(ctx, s.held.current["sum"])
	if err != nil || !reflect.DeepEqual(through, engine.NewFloat32([]float32{14, 26}, 2)) {
		t.Errorf("%v, %v", through, err)
	}

	// Letting go brings the session back to what it was.
	if err := s.Hold(nil, nil); err != nil {
		t.Fatal(err)
	}
	var re *engine.Error
	if err := s.Put(tensors{"sum": again}); !errors.As(err, &re) || !strings.Contains(err.Error(), "carries no output") {
		t.Error(err)
	}
	in := sumInputs()
	in["index"] = &engine.Tensor{Shape: []int64{}, Data: []int64{1}}
	out = tensors{"total": nil}
	if err := s.Run(ctx, in, out); err != nil || out["total"].Float32()[1] != 220 {
		t.Errorf("%v, %v", out, err)
	}
}

func TestHoldErrors(t *testing.T) {
	s := load(t, open(t, Options{}), sumModel()).(*session)
	carry := map[string]string{"total": "sum"}
	for _, tt := range []struct {
		want  string
		fixed tensors
		carry map[string]string
	}{
		{`no input "z"`, tensors{"z": nil}, nil},
		{`input "sum" is missing`, tensors{"sum": nil}, nil},
		{`has type float, given int64`, tensors{"sum": engine.NewInt64([]int64{1}, 1)}, nil},
		{`has no first value`, tensors{"table": sumInputs()["table"]}, carry},
		{`no output "z"`, sumInputs(), map[string]string{"z": "sum"}},
		{`no input "z"`, sumInputs(), map[string]string{"total": "z"}},
		{`carries two outputs`, sumInputs(), map[string]string{"total": "sum", "twice": "sum"}},
		{`cannot become input "index"`, tensors{"index": {Shape: []int64{}, Data: []int64{0}}}, map[string]string{"total": "index"}},
	} {
		err := s.Hold(tt.fixed, tt.carry)
		var re *engine.Error
		if !errors.As(err, &re) || !strings.Contains(err.Error(), tt.want) || s.held != nil {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	if err := s.Hold(sumInputs(), nil); err != nil {
		t.Fatal(err)
	}
	index := tensors{"index": {Shape: []int64{}, Data: []int64{0}}}
	if err := s.Run(t.Context(), index, nil); err == nil || !strings.Contains(err.Error(), "no output is wanted") {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Hold(sumInputs(), carry); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
}

// TestHoldTypes carries every element type once around.
func TestHoldTypes(t *testing.T) {
	e := open(t, Options{})
	for _, x := range []*engine.Tensor{
		{Shape: []int64{2}, Data: []float64{1, 2}}, {Shape: []int64{2}, Data: []int32{1, 2}}, {Shape: []int64{2}, Data: []bool{true, false}},
		{Shape: []int64{2}, Data: []uint8{1, 2}}, {Shape: []int64{1}, Data: []uint16{0x3c00}}, {Shape: []int64{}, Data: []int64{7}},
	} {
		typ := map[reflect.Type]elem{
			reflect.TypeFor[[]float64](): 11, reflect.TypeFor[[]int32](): 6, reflect.TypeFor[[]bool](): elemBool,
			reflect.TypeFor[[]uint8](): elemUint8, reflect.TypeFor[[]uint16](): elemFloat16, reflect.TypeFor[[]int64](): elemInt64,
		}[reflect.TypeOf(x.Data)]
		g := graph{nodes: [][]byte{node("Identity", []string{"x"}, []string{"y"}), node("Shape", []string{"x"}, []string{"z"})}}
		g.inputs = [][]byte{tensorInfo("x", typ, nil)}
		g.outputs = [][]byte{tensorInfo("y", typ, nil), tensorInfo("z", elemInt64, nil)}
		s := load(t, e, g.model()).(*session)
		if err := s.Hold(tensors{"x": x}, map[string]string{"y": "x"}); err != nil {
			t.Errorf("%T: %v", x.Data, err)
			continue
		}
		out := tensors{"z": nil}
		for range 2 {
			if err := s.Run(t.Context(), nil, out); err != nil {
				t.Errorf("%T: %v", x.Data, err)
			}
		}
		got, err := s.Held(t.Context())
		if err != nil || !reflect.DeepEqual(got["x"], x) {
			t.Errorf("%T: %v, %v", x.Data, got["x"], err)
		}
		through, err := s.readThrough(t.Context(), s.held.current["x"])
		if err != nil || !reflect.DeepEqual(through, x) {
			t.Errorf("%T: %v, %v", x.Data, through, err)
		}
	}
}

func TestHoldCancel(t *testing.T) {
	const n = 512
	s := load(t, open(t, Options{Threads: 1}), slowModel(n, 200)).(*session)
	x := engine.NewFloat32(make([]float32, n*n), n, n)
	x.Float32()[1] = 1
	if err := s.Hold(tensors{"x": x}, map[string]string{"y": "x"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := s.Run(ctx, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	got, err := s.Held(t.Context())
	if err != nil || !reflect.DeepEqual(got["x"], x) {
		t.Errorf("a cancelled run changed what is held, %v", err)
	}
}

// TestHoldPlugin carries a value through a provider that is no part of the
// library.
func TestHoldPlugin(t *testing.T) {
	t.Setenv("FAKE_PLUGIN", "relu")
	e := open(t, Options{Provider: CUDA, CUDALibrary: compilePlugin(t)})
	s := load(t, e, reluModel()).(*session)
	if err := s.Hold(tensors{"x": engine.NewFloat32([]float32{-1, 0, 1}, 1, 3)}, map[string]string{"y": "x"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Held(t.Context()); err != nil || !reflect.DeepEqual(got["x"].Float32(), []float32{0, 0, 1}) {
		t.Errorf("%v, %v", got["x"], err)
	}
}

func TestHoldNoLeak(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("takes seconds and reads /proc")
	}
	const n = 1 << 16
	model := graph{
		nodes:   [][]byte{node("Neg", []string{"x"}, []string{"y"}), node("Abs", []string{"x"}, []string{"z"})},
		inputs:  [][]byte{tensorInfo("x", elemFloat, []dim{"N"})},
		outputs: [][]byte{tensorInfo("y", elemFloat, []dim{"N"}), tensorInfo("z", elemFloat, []dim{"N"})},
	}.model()
	s := load(t, open(t, Options{Threads: 1}), model).(*session)
	x := engine.NewFloat32(make([]float32, n), n)
	short := engine.NewFloat32(make([]float32, 1), 1)
	once := func() {
		if err := s.Hold(tensors{"x": x}, map[string]string{"y": "x"}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := s.Run(context.Background(), nil, tensors{"z": nil}); err != nil {
				t.Fatal(err)
			}
			if err := s.Run(context.Background(), nil, tensors{"z": short}); err == nil {
				t.Fatal("a short output is taken")
			}
		}
		if _, err := s.Held(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.readThrough(context.Background(), s.held.current["x"]); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		once()
	}
	runtime.GC()
	before := resident(t)
	for range 300 {
		once()
	}
	runtime.GC()
	if grown := resident(t) - before; grown > 32<<20 {
		t.Errorf("300 rounds over %d KiB left %d MiB behind", n*4>>10, grown>>20)
	}
}

// BenchmarkHold compares an optimiser's step over state that travels with every
// run with one over state that stays.
func BenchmarkHold(b *testing.B) {
	const n = 1 << 20
	model := graph{
		nodes:   [][]byte{node("Add", []string{"w", "g"}, []string{"next"})},
		inputs:  [][]byte{tensorInfo("w", elemFloat, []dim{n}), tensorInfo("g", elemFloat, []dim{1})},
		outputs: [][]byte{tensorInfo("next", elemFloat, []dim{n})},
	}.model()
	s := load(b, open(b, Options{Threads: 1}), model).(*session)
	w, g := engine.NewFloat32(make([]float32, n), n), engine.NewFloat32([]float32{1}, 1)
	b.Run("run", func(b *testing.B) {
		b.SetBytes(int64(n * unsafe.Sizeof(float32(0))))
		for b.Loop() {
			out := tensors{"next": nil}
			if err := s.Run(b.Context(), tensors{"w": w, "g": g}, out); err != nil {
				b.Fatal(err)
			}
			w = out["next"]
		}
	})
	if err := s.Hold(tensors{"w": w}, map[string]string{"next": "w"}); err != nil {
		b.Fatal(err)
	}
	b.Run("hold", func(b *testing.B) {
		b.SetBytes(int64(n * unsafe.Sizeof(float32(0))))
		for b.Loop() {
			if err := s.Run(b.Context(), tensors{"g": g}, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
