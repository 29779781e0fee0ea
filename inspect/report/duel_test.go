package report

import (
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine/duel"
)

func goldenTrail() *duel.Trail {
	tap := func(node int, name, op string, largest, most float64) duel.Tap {
		return duel.Tap{Tensor: fmt.Sprintf("t%d", node), DType: "float", Node: node, Name: name, Op: op, Parts: most > 1e-4*largest,
			Difference: duel.Difference{Values: 4096, Largest: largest, Max: most, At: []int64{0, 1, 2, 3}, A: largest, B: largest - most}}
	}
	taps := []duel.Tap{tap(0, "/conv1/Conv", "Conv", 2.5, 1e-6), tap(4, "/conv2/Conv", "Conv", 10, 0.5), tap(9, "", "Gemm", 8, math.Inf(1))}
	taps[0].At = nil
	parting := tap(2, "/act/Relu", "Relu", 4, 0.25)
	taps = slices.Insert(taps, 1, parting)
	return &duel.Trail{Taps: taps, Parting: &parting, Agreeing: &taps[0], Skipped: 2}
}

// goldenDuel is of engines that part.
func goldenDuel() *Duel {
	e := goldenEvaluations().Models
	d := &Duel{Schema: DuelSchema, Model: "net.onnx", Seed: 1, RTol: 1e-4, ATol: 1e-6,
		Data:    &DuelData{Path: "data", Format: "IDX", Labels: 3, Split: "eval", SHA256: "0123456789abcdef", Preprocess: "unit"},
		Engines: []DuelEngine{{"onnxruntime", "1.30.0", "cpu", &e[0].Evaluation}, {"gorgonia", "onnx-go v0.5.0", "cpu", &e[1].Evaluation}}}
	output := duel.Output{Name: "logits", Outputs: duel.Outputs{Samples: 27, Values: 81, Beyond: 3,
		Absolute: duel.Extreme{Sample: 14, Value: 2, A: 3.5, B: 3.25, Difference: 0.25},
		Relative: duel.Extreme{Sample: 11, Value: 0, A: 0.5, B: math.NaN(), Difference: math.Inf(1)}}}
	for i := range answersShown + 2 {
		output.Answers = append(output.Answers, duel.Answer{Sample: i, A: i % 3, B: (i + 1) % 3})
	}
	output.Answers[1].B = -1
	labels := []string{"cat", "dog", "cow"}
	d.Add([]duel.Output{output}, goldenTrail(), 11, Samples{
		ID:     func(i int) string { return fmt.Sprintf("test/%d.png", i) },
		Label:  func(i int) string { return labels[i%3] },
		Output: func(i int) string { return labels[i] },
	})
	return d
}

// randomDuel is of engines that agree.
func randomDuel() *Duel {
	d := &Duel{Schema: DuelSchema, Model: "net.onnx", Seed: 1, RTol: 1e-4,
		Engines: []DuelEngine{{"onnxruntime", "1.30.0", "cpu", nil}, {"gorgonia", "onnx-go v0.5.0", "cpu", nil}}}
	t := goldenTrail()
	t.Taps, t.Parting, t.Agreeing, t.Skipped = t.Taps[:1], nil, nil, 0
	d.Add([]duel.Output{{Name: "y", Outputs: duel.Outputs{Samples: 10, Values: 30, Absolute: duel.Extreme{Sample: -1}, Relative: duel.Extreme{Sample: -1}}}}, t, 0, Samples{})
	return d
}

func goldenSkippedDuel() *Duel {
	d := randomDuel()
	d.Skipped, d.Warnings = []dataset.Skipped{{Name: "x.png", Reason: "broken"}}, []string{"w"}
	return d
}
