package probe

import (
	"context"
	"math"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// ManyAnswers says how well many models answer the same samples, and how far they
// agree.
type ManyAnswers struct {
	// Evaluations has an entry for each model.
	Evaluations []Evaluation
	// Agree counts for each pair of models the samples that both answer alike, right
	// or wrong; the diagonal counts those that a model answers at all. Outputs with a
	// NaN are no answer.
	Agree [][]int
	// NLL is for each model the mean over the samples of -ln p in nats, p being the
	// probability that it gives to the right label: by the softmax of its outputs, or
	// the output itself where that comes out of a Softmax. It is nil where it is not
	// finite.
	NLL []*float64
}

// EvaluateMany is Evaluate with options for each model, so that each gets its own
// preprocessing: opts are as many as models. Batches are as large as the smallest of
// opts, Progress and the seed are those of the first.
func EvaluateMany(ctx context.Context, eng engine.Engine, models []*inspect.Model, set *dataset.Set, index []int, opts []Options) (*ManyAnswers, error) {
	many := &ManyAnswers{Agree: make([][]int, len(models)), NLL: make([]*float64, len(models))}
	probabilities := make([]bool, len(models))
	engines := make([]engine.Engine, len(models))
	for i, m := range models {
		_, out, _, err := classifierEnds(m)
		if err != nil {
			return nil, err
		}
		probabilities[i], engines[i] = givesProbabilities(m, out.Name), eng
		many.Agree[i] = make([]int, len(models))
	}
	loss := make([]float64, len(models))
	answers := make([][]int, len(models)) // of a batch
	var err error
	many.Evaluations, err = evaluate(ctx, engines, models, set, index, opts, func(model int, r Run) error {
		k := len(r.Out) / len(r.Index)
		answers[model] = answers[model][:0]
		for i, label := range r.Labels {
			row := r.Out[i*k : (i+1)*k]
			answers[model] = append(answers[model], answerOf(row))
			loss[model] += lossOf(row, label, probabilities[model])
		}
		for other := range model + 1 {
			for i, a := range answers[model] {
				if a >= 0 && a == answers[other][i] {
					many.Agree[other][model]++
					if other != model {
						many.Agree[model][other]++
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, e := range many.Evaluations {
		if mean := loss[i] / float64(e.Samples); finite(mean) {
			many.NLL[i] = &mean
		}
	}
	return many, nil
}

// lossOf returns -ln p of a label, with the largest output taken out of the softmax
// so that nothing overflows.
func lossOf(row []float32, label int, probabilities bool) float64 {
	if probabilities {
		return -math.Log(float64(row[label]))
	}
	top := float64(row[Argmax(row)])
	var sum float64
	for _, x := range row {
		sum += math.Exp(float64(x) - top)
	}
	return math.Log(sum) + top - float64(row[label])
}
