package duel_test

import (
	"errors"
	"math"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/duel"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

func TestCompare(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	float := func(v ...float64) *engine.Tensor {
		return &engine.Tensor{Shape: []int64{2, int64(len(v) / 2)}, Data: v}
	}
	tol := duel.Tolerance{Rel: 0.01, Abs: 0.001}
	for _, c := range []struct {
		name     string
		a, b     *engine.Tensor
		dtype    string
		max, rel float64
		at       []int64
		beyond   bool
	}{
		{"equal", float(1, -4, nan, inf), float(1, -4, nan, inf), "double", 0, 0, nil, false},
		{"within", float(1, -4, 0, 2), float(1.04, -4, 0, 2), "double", 0.04, 0.01, []int64{0, 0}, false},
		{"beyond", float(1, -4, 0, 2), float(1, -4, 0.05, 2), "double", 0.05, 0.0125, []int64{1, 0}, true},
		{"not a number", float(1, 2), float(1, nan), "double", inf, inf, []int64{1, 0}, true},
		{"infinite", float(-inf, 2), float(inf, 2), "double", inf, inf, []int64{0, 0}, true},
		{"zero", float(0, 0), float(0, 0.0005), "double", 0.0005, inf, []int64{1, 0}, false},
		{"integers", &engine.Tensor{Shape: []int64{2}, Data: []int64{1000000, 1}}, &engine.Tensor{Shape: []int64{2}, Data: []int64{1000000, 2}}, "int64", 1, 1e-6, []int64{1}, true},
		{"booleans", &engine.Tensor{Shape: []int64{2}, Data: []bool{true, true}}, &engine.Tensor{Shape: []int64{2}, Data: []bool{true, false}}, "bool", 1, 1, []int64{1}, true},
		{"half", &engine.Tensor{Shape: []int64{1}, Data: []uint16{0x3c00}}, &engine.Tensor{Shape: []int64{1}, Data: []uint16{0x3c01}}, "float16", 1.0 / 1024, 1.0 / 1024, []int64{0}, false},
		{"brain float", &engine.Tensor{Shape: []int64{}, Data: []uint16{0x3f80}}, &engine.Tensor{Shape: []int64{}, Data: []uint16{0x4000}}, "bfloat16", 1, 1, []int64{}, true},
	} {
		d, err := duel.Compare(c.a, c.b, c.dtype)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		near := func(a, b float64) bool { return a == b || math.Abs(a-b) < 1e-12 }
		if !near(d.Max, c.max) || !near(d.Relative(), c.rel) || !reflect.DeepEqual(d.At, c.at) || tol.Beyond(&d) != c.beyond {
			t.Errorf("%s: %+v, relative %v, beyond %v", c.name, d, d.Relative(), tol.Beyond(&d))
		}
	}
	for _, b := range []*engine.Tensor{float(1, 2, 3, 4), {Shape: []int64{2, 1}, Data: []float32{1, 2}}, {Shape: []int64{2, 1}, Data: []string{"", ""}}} {
		if _, err := duel.Compare(float(1, 2), b, "double"); err == nil {
			t.Errorf("%v was compared", b)
		}
	}
}

func TestOutputs(t *testing.T) {
	o := duel.Outputs{Tolerance: duel.Tolerance{Rel: 0.01}}
	if o.Worst() != -1 {
		t.Errorf("of nothing %d is the worst", o.Worst())
	}
	add := func(samples []int, a, b []float32) {
		t.Helper()
		if err := o.Add(samples, engine.NewFloat32(a, int64(len(a)/3), 3), engine.NewFloat32(b, int64(len(b)/3), 3), "float"); err != nil {
			t.Fatal(err)
		}
	}
	add([]int{7}, []float32{1, 2, 3}, []float32{1, 2, 3})
	if o.Worst() != -1 {
		t.Errorf("of equal ones %d is the worst", o.Worst())
	}
	// The third row fills up the batch and does not count.
	add([]int{4, 9}, []float32{100, 99, 0, 1, 0, 0.5, 0, 0, 0}, []float32{99, 100, 0, 1, 0, 0.25, 9, 9, 9})
	nan := float32(math.NaN())
	add([]int{2}, []float32{nan, nan, nan}, []float32{nan, nan, nan})
	want := duel.Outputs{Tolerance: o.Tolerance, Samples: 4, Values: 12, Beyond: 1, Unanswered: 1,
		Absolute: duel.Extreme{Sample: 4, Value: 0, A: 100, B: 99, Difference: 1},
		Relative: duel.Extreme{Sample: 9, Value: 2, A: 0.5, B: 0.25, Difference: 0.25},
		Answers:  []duel.Answer{{Sample: 4, A: 0, B: 1}}}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got\n%+v, want\n%+v", o, want)
	}
	if o.Worst() != 9 {
		t.Errorf("the worst is %d", o.Worst())
	}
	add([]int{1}, []float32{1, 2, 3}, []float32{1, 2, nan})
	if o.Worst() != 1 || !math.IsInf(o.Absolute.Difference, 1) || o.Answers[1] != (duel.Answer{Sample: 1, A: 2, B: 1}) {
		t.Errorf("%+v", o)
	}
}

func TestShapesPart(t *testing.T) {
	a, b := engine.NewFloat32(make([]float32, 6), 2, 3), engine.NewFloat32(make([]float32, 6), 3, 2)
	var o duel.Outputs
	_, err := duel.Compare(a, b, "float")
	for _, err := range []error{err, o.Add([]int{0}, a, b, "float")} {
		var part *duel.ShapeError
		if !errors.As(err, &part) || err.Error() != "the shapes are [2 3] and [3 2]" {
			t.Errorf("got %v", err)
		}
	}
}

func TestRow(t *testing.T) {
	got := duel.Row(&engine.Tensor{Shape: []int64{3, 1, 2}, Data: []int32{1, 2, 3, 4, 5, 6}}, 1, 2)
	if want := (&engine.Tensor{Shape: []int64{2, 1, 2}, Data: []int32{3, 4, 3, 4}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

// Random inputs depend on the seed alone, the sample that differs most is the one
// returned, and a wrong engine shows.
func TestRandom(t *testing.T) {
	eng := openORT(t, ort.Options{})
	m := open(t, filepath.Join(fixtures, "vgg16-glyphs20.onnx"))
	gemm := nodes(m, "Gemm")[0]
	bad := wrong{eng, scaled(m, gemm, 1, -1)}
	run := func(opt duel.RandomOptions) (duel.Output, duel.Sample) {
		t.Helper()
		outputs, worst, err := duel.Random(t.Context(), eng, bad, m, opt)
		if err != nil {
			t.Fatal(err)
		}
		return outputs[0], worst
	}
	opt := duel.RandomOptions{Samples: 10, Batch: 4, Seed: 5, Tolerance: duel.DefaultTolerance()}
	o, worst := run(opt)
	if o.Samples != 10 || o.Beyond != 10 || len(o.Answers) == 0 {
		t.Errorf("%+v", o)
	}
	again, _ := run(opt)
	if !reflect.DeepEqual(o, again) {
		t.Errorf("%+v and then %+v", o, again)
	}
	opt.Seed = 6
	if other, _ := run(opt); reflect.DeepEqual(o, other) {
		t.Error("another seed changes nothing")
	}
	if worst.Number != o.Relative.Sample {
		t.Errorf("sample %d, %+v", worst.Number, o.Relative)
	}
	x := worst.In[m.Inputs[0].Name]
	if x.Shape[0] != 1 {
		t.Fatalf("the worst sample has shape %v", x.Shape)
	}
	// Alone, it differs as it did among others.
	trail, err := duel.Walk(t.Context(), eng, bad, m, worst.In, duel.Options{Tolerance: opt.Tolerance})
	if err != nil {
		t.Fatal(err)
	}
	if last := trail.Taps[len(trail.Taps)-1]; math.Abs(last.Relative()-o.Relative.Difference) > 1e-5 || trail.Parting.Node != gemm {
		t.Errorf("%+v alone, %+v before", last, o.Relative)
	}
}

func TestRandomRefuses(t *testing.T) {
	eng := openORT(t, ort.Options{})
	m := open(t, filepath.Join(fixtures, "vgg16-glyphs20.onnx"))
	for name, opt := range map[string]duel.RandomOptions{
		"tolerance": {Samples: 1, Batch: 1, Tolerance: duel.Tolerance{Rel: math.NaN()}},
		"size":      {Samples: 1 << 30, Batch: 1 << 30},
	} {
		if _, _, err := duel.Random(t.Context(), eng, eng, m, opt); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	broken := wrong{eng, func(d *onnxfile.Draft) { d.Model.Graph.Node[0].OpType = new(string) }}
	if _, _, err := duel.Random(t.Context(), eng, broken, m, duel.RandomOptions{Samples: 1, Batch: 1}); err == nil {
		t.Error("a model that does not load gives no error")
	}
}
