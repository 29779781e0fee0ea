package probe

import (
	"math"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
)

// A row with a NaN is never right, and nothing is confused in it.
func TestUnanswered(t *testing.T) {
	nan := float32(math.NaN())
	rows := engine.NewFloat32([]float32{nan, nan, nan, 1, 2, 0, 5, nan, 1, 3, 3, 1}, 4, 3)
	answers, err := appendAnswers(nil, rows, 4, 3)
	if err != nil || !slices.Equal(answers, []int32{noAnswer, 1, noAnswer, 0}) {
		t.Fatalf("answers %v, %v", answers, err)
	}
	labels := []int32{0, 0, 1, 0}
	all, perLabel := accuracies(labels, answers, 3)
	if all != 0.25 || *perLabel[0] != 1.0/3 || *perLabel[1] != 0 || perLabel[2] != nil {
		t.Errorf("accuracy %v, by label %v", all, perLabel)
	}
	if m := confusion(labels, answers, 3); !slices.Equal(m, []int{1, 1, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("confusion %v", m)
	}
}

// TestEvaluateUnanswered: outputs that are not numbers are counted, and no sample
// with such is right.
func TestEvaluateUnanswered(t *testing.T) {
	n := newNet(-1, 3, 8)
	n.op("Flatten").gemm("classifier", 192, testK)
	plain := n.t
	// The root of the first pixel is not a number where that is below 0.
	first := n.node("Gather", []string{"image", n.constInt([]int64{0}, 1)}, attrInt("axis", 1))
	root := n.node("ReduceMean", []string{n.node("Sqrt", []string{first})}, attrInts("axes", 1, 2, 3), attrInt("keepdims", 0))
	column := n.node("Reshape", []string{root, n.constInt([]int64{-1, 1}, 2)})
	n.t = n.node("Add", []string{plain, column})
	m, set := n.model(t, -1, testK), folder(t, testK, 12)
	index := make([]int, set.Len())
	for i := range index {
		index[i] = i
	}
	evals, err := Evaluate(t.Context(), runtime(t), []*inspect.Model{m, small(t, testK)}, set, index, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if e := evals[0]; e.Unanswered == 0 || e.Unanswered+e.Correct > e.Samples {
		t.Errorf("%d of %d samples unanswered, %d right", e.Unanswered, e.Samples, e.Correct)
	}
	if n := evals[1].Unanswered; n != 0 {
		t.Errorf("%d samples unanswered by a model that answers all", n)
	}
}
