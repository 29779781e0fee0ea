package probe

import (
	"math"
	"slices"
	"testing"

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
