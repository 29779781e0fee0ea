package probe

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
)

// TestEvaluateMany compares with each model alone, and with losses and agreements
// counted sample by sample.
func TestEvaluateMany(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 9)
	build := func(side int64, softmax bool) *inspect.Model {
		n := newNet(-1, 3, side)
		n.conv("conv1", 3, 4, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten").gemm("classifier", 4, testK)
		if softmax {
			n.op("Softmax")
		}
		return n.model(t, -1, testK)
	}
	models := []*inspect.Model{build(8, false), build(16, true), build(8, false)}
	opts := []Options{testOptions(), testOptions(), testOptions()}
	// The last two of one file differ by their preprocessing alone.
	opts[2].Preprocess = dataset.Preprocess{Mean: []float32{0.5}, Std: []float32{0.25}}
	index := everySample(set)
	many, err := EvaluateMany(t.Context(), eng, models, set, index, opts)
	if err != nil {
		t.Fatal(err)
	}
	answers := make([][]int, len(models))
	for i, m := range models {
		alone, err := Evaluate(t.Context(), eng, []*inspect.Model{m}, set, index, opts[i])
		if err != nil {
			t.Fatal(err)
		}
		answers[i] = alone[0].Predictions
		if got := many.Evaluations[i]; !slices.Equal(got.Predictions, answers[i]) || got.Top1 != alone[0].Top1 {
			t.Errorf("model %d answers differently in company", i)
		}
	}
	if slices.Equal(answers[0], answers[2]) {
		t.Error("another preprocessing changes no answer: the test shows nothing")
	}
	for i := range models {
		for j := range models {
			want := 0
			for s := range index {
				if answers[i][s] == answers[j][s] {
					want++
				}
			}
			if many.Agree[i][j] != want {
				t.Errorf("models %d and %d agree on %d samples, want %d", i, j, many.Agree[i][j], want)
			}
		}
	}
	// The loss of the first, and of the second, whose outputs are probabilities.
	for i, m := range models[:2] {
		rows := perSample(t, eng, m, set, &Tap{Tensor: m.Outputs[0].Name}, index)
		want := 0.0
		for s, row := range rows {
			p := float64(row[set.Label(index[s])])
			if i == 0 {
				sum := 0.0
				for _, x := range row {
					sum += math.Exp(float64(x))
				}
				p = math.Exp(p) / sum
			}
			want -= math.Log(p) / float64(len(index))
		}
		if got := many.NLL[i]; got == nil || math.Abs(*got-want) > 1e-6 {
			t.Errorf("model %d: a loss of %v, want %v", i, got, want)
		}
	}
	wrong := small(t, testK+1)
	var mismatch *LabelMismatchError
	if _, err := EvaluateMany(t.Context(), eng, []*inspect.Model{models[0], wrong}, set, index, opts[:2]); !errors.As(err, &mismatch) {
		t.Errorf("other labels: %v", err)
	}
}

func TestLossOf(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		row           []float32
		probabilities bool
		want          float64
	}{
		{[]float32{0, 0}, false, math.Ln2},
		{[]float32{1000, 1000}, false, math.Ln2},
		{[]float32{-1000, 0}, false, 1000},
		{[]float32{0.25, 0.75}, true, 2 * math.Ln2},
		{[]float32{0, 1}, true, math.Inf(1)},
		{[]float32{nan, 1}, false, math.NaN()},
		{[]float32{1, inf}, false, math.NaN()},
	} {
		if got := lossOf(c.row, 0, c.probabilities); !(math.Abs(got-c.want) < 1e-12) && got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("%v: %v, want %v", c.row, got, c.want)
		}
	}
}
