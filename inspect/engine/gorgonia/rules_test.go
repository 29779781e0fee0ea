package gorgonia

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Every rule is whole, and no operator stands in two subjects.
func TestRules(t *testing.T) {
	seen := make(map[string]bool)
	for _, subject := range subjects() {
		for op, r := range subject {
			if seen[op] {
				t.Errorf("%s stands in two files", op)
			}
			seen[op] = true
			if r.bind == nil || r.most < r.least || r.least < 0 || r.outputs < 0 {
				t.Errorf("%s: %+v", op, r)
			}
			for i, s := range r.types {
				if s == 0 || s&^anySet != 0 {
					t.Errorf("%s: input %d may have types that no value holds", op, i)
				}
			}
		}
	}
}

func TestStorage(t *testing.T) {
	for d := onnxfile.DType(0); d < 64; d++ {
		s, ok := storageFor(d)
		if ok != anySet.has(d) {
			t.Errorf("%s: held %v, in the set of all types %v", d, ok, anySet.has(d))
		}
		if !ok {
			continue
		}
		if int64(8*s.width) != d.Bits() {
			t.Errorf("%s: %d bytes for %d bits", d, s.width, d.Bits())
		}
		v := newValue(spec{d, []int{2, 3}})
		if n, ok := holds(d, v.data); !ok || n != 6 || s.len(v.data) != 6 || len(s.bytes(v.data)) != 6*s.width {
			t.Errorf("%s: %v", d, v)
		}
		over := s.over(make([]uint64, words(6*s.width)), 6)
		s.bytes(over)[0] = 1
		s.copy(v.data, over)
		if fmt.Sprint(v.data) != fmt.Sprint(s.clone(over)) {
			t.Errorf("%s: %v is no copy of %v", d, v.data, over)
		}
	}
}

// prepare makes a form of a stored constant once for all plans, and again for one
// that depends on shapes.
func TestPrepare(t *testing.T) {
	stored, planned := floatValue([]float32{1}, 1), floatValue([]float32{2}, 1)
	keep := &prepared{make(map[preparedKey]any)}
	made := 0
	for range 3 {
		b := &binder{node: &node{in: []int{0, 1}, program: &program{constants: []*value{stored, nil}}}, in: []operand{{constant: stored}, {constant: planned}}, prepared: keep}
		for i := range b.in {
			for _, what := range []string{"packed", "turned"} {
				got, err := prepare(b, i, what, func(v *value) (float32, error) { made++; return 10 * v.floats()[0], nil })
				if err != nil || got != 10*float32(i+1) {
					t.Errorf("%v, %v", got, err)
				}
			}
		}
		if _, err := prepare(b, 0, "failed", func(*value) (int, error) { return 0, errors.New("no") }); err == nil {
			t.Error("the error is lost")
		}
	}
	if made != 2+3*2 || len(keep.made) != 2 {
		t.Errorf("made %d times, %d kept", made, len(keep.made))
	}
}

// Inputs and outputs have the types that they have.
func TestTypes(t *testing.T) {
	n := newNet(t, 13)
	n.g.Input = append(n.g.Input, valueInfo("i", onnxfile.Int64, "N", 2), valueInfo("b", boolType, 3))
	n.int64s("to", []int64{-1}, 1)
	n.node("Reshape", nil, "flat", "i", "to")
	n.node("Shape", nil, "dims", "i")
	n.node("Unsqueeze", nil, "wide", "b", "axis")
	n.int64s("axis", []int64{0}, 1)
	n.output("flat")
	n.output("dims")
	n.output("wide")
	n.g.Output[0].GetType().GetTensorType().ElemType = valueInfo("", onnxfile.Int64).GetType().GetTensorType().ElemType
	n.g.Output[1].Type, n.g.Output[2].Type = nil, nil
	s := load(t, Open(Options{}), engine.Model{Name: "types", Bytes: n.bytes()})
	if got, want := fmt.Sprint(s.Inputs(), s.Outputs()), "[{i int64 [-1 2]} {b bool [3]}] [{flat int64 []} {dims int64 []} {wide bool []}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	out := map[string]*engine.Tensor{"flat": nil, "dims": {Shape: []int64{2}, Data: make([]int64, 2)}, "wide": nil}
	in := map[string]*engine.Tensor{"i": engine.NewInt64([]int64{1, 2, 3, 4, 5, 6}, 3, 2), "b": {Shape: []int64{3}, Data: []bool{true, false, true}}}
	if err := s.Run(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(*out["flat"], *out["dims"], *out["wide"]), "{[6] [1 2 3 4 5 6]} {[2] [3 2]} {[1 3] [true false true]}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	n.g.Output[1].Type = valueInfo("", onnxfile.Float, 2).Type
	if _, err := Open(Options{}).Load(t.Context(), engine.Model{Bytes: n.bytes()}); err == nil || !strings.Contains(err.Error(), `output "dims" is declared as float, but it is computed as int64`) {
		t.Errorf("got %v", err)
	}
}
