package probe

import (
	"context"
	"fmt"
	"math"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// Answers compares what two models answer to the same samples. An answer is the
// label with the largest output, the first of equal ones; outputs with a NaN are no
// answer, which is wrong and agrees with nothing.
type Answers struct {
	Samples int `json:"samples"`
	// A and B are the two models' own results; B.Changed is the share of the samples
	// on which the two do not agree.
	A Evaluation `json:"a"`
	B Evaluation `json:"b"`
	// Agree counts the samples that both answer alike, right or wrong. The others are
	// in Flips or counted by Neither: those that none of the two answers.
	Agree   int `json:"agree"`
	Neither int `json:"answered_by_neither,omitempty"`
	// Every sample is one of these.
	BothRight int `json:"both_right"`
	OnlyA     int `json:"only_a_right"`
	OnlyB     int `json:"only_b_right"`
	BothWrong int `json:"both_wrong"`
	// P is the two-sided exact p-value of the hypothesis that both models are right
	// equally often: the binomial test of OnlyA among OnlyA + OnlyB (McNemar 1947,
	// exact form); 1 where both are zero.
	P float64 `json:"p_value"`
	// MaxDiff is the largest |b-a| of an output over the samples, RelDiff that by the
	// largest |a|, of outputs that are finite in both; nil where there are none, RelDiff
	// also where all of a are zero and b are not.
	MaxDiff *float64 `json:"max_output_diff"`
	RelDiff *float64 `json:"rel_output_diff"`
	// Flips lists the samples whose answers differ, in the order of the data.
	Flips []Flip `json:"flips"`
	// PerLabel has an entry for each label.
	PerLabel []LabelAnswers `json:"per_label"`
}

// A Flip is a sample that two models answer differently.
type Flip struct {
	// Sample is its number in the data set, ID its name there.
	Sample int    `json:"sample"`
	ID     string `json:"id"`
	Label  int    `json:"label"`
	// A and B are the answers, -1 for none, MarginA and MarginB what probability the
	// model gives to its answer less what it gives to the other's: by its softmax, or
	// its outputs where they are one already. They are nil without both answers, and
	// where the probabilities are not numbers.
	A       int      `json:"a"`
	B       int      `json:"b"`
	MarginA *float64 `json:"margin_a"`
	MarginB *float64 `json:"margin_b"`
}

// LabelAnswers counts the samples of one label.
type LabelAnswers struct {
	Samples int `json:"samples"`
	RightA  int `json:"right_a"`
	RightB  int `json:"right_b"`
	// Flips counts those whose answers differ.
	Flips int `json:"flips"`
}

// CompareAnswers runs two classifiers over the samples index of set, batch by batch
// in turn, and compares what they answer. Each has its own preprocessing, optA's and
// optB's; batches are as large as the smaller of the two, Progress is optA's. The files
// are opened by the engine itself, as Evaluate does. The error is that of Evaluate; a
// model whose outputs are not as many as the labels of set gives a
// *LabelMismatchError.
func CompareAnswers(ctx context.Context, eng engine.Engine, a, b *inspect.Model, set *dataset.Set, index []int, optA, optB Options) (*Answers, error) {
	models := []*inspect.Model{a, b}
	var probabilities [2]bool
	k := len(set.Labels())
	for i, m := range models {
		_, out, outputs, err := classifierEnds(m)
		if err != nil {
			return nil, err
		}
		if outputs != k {
			return nil, fmt.Errorf("%s: %w", m.File, &LabelMismatchError{Data: "the data set", Labels: k, Model: outputs})
		}
		probabilities[i] = givesProbabilities(m, out.Name)
	}
	c := &answerCount{Answers: &Answers{Flips: []Flip{}, PerLabel: make([]LabelAnswers, k)}, set: set, k: k, probabilities: probabilities}
	evals, err := evaluate(ctx, []engine.Engine{eng, eng}, models, set, index, []Options{optA, optB}, func(model int, r Run) error {
		if model == 0 {
			c.a = r.Out
		} else {
			c.add(r.Index, r.Labels, c.a, r.Out)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	x := c.Answers
	x.A, x.B = evals[0], evals[1]
	changed := float64(x.Samples-x.Agree) / float64(x.Samples)
	x.B.Changed = &changed
	x.P = mcnemar(x.OnlyA, x.OnlyB)
	if c.pairs {
		x.MaxDiff = &c.diff
		if rel := c.diff / c.largest; c.diff == 0 {
			x.RelDiff = new(float64)
		} else if finite(rel) {
			x.RelDiff = &rel
		}
	}
	return x, nil
}

// answerCount gathers Answers.
type answerCount struct {
	*Answers
	set           *dataset.Set
	k             int
	probabilities [2]bool
	a             []float32 // outputs of model a for the batch
	// pairs tells that there are outputs that are finite in both; diff is the largest
	// difference of such a pair, largest the largest |a|.
	pairs         bool
	diff, largest float64
}

// add counts a batch: rows of k outputs for each sample.
func (c *answerCount) add(index, labels []int, a, b []float32) {
	for i, label := range labels {
		ra, rb := a[i*c.k:(i+1)*c.k], b[i*c.k:(i+1)*c.k]
		for j, x := range ra {
			x, y := float64(x), float64(rb[j])
			if finite(x) && finite(y) {
				c.pairs = true
				c.diff, c.largest = max(c.diff, math.Abs(y-x)), max(c.largest, math.Abs(x))
			}
		}
		c.Samples++
		at := &c.PerLabel[label]
		at.Samples++
		fa, fb := answerOf(ra), answerOf(rb)
		rightA, rightB := fa == label, fb == label
		switch {
		case rightA && rightB:
			c.BothRight++
		case rightA:
			c.OnlyA++
		case rightB:
			c.OnlyB++
		default:
			c.BothWrong++
		}
		if rightA {
			at.RightA++
		}
		if rightB {
			at.RightB++
		}
		switch {
		case fa < 0 && fb < 0:
			c.Neither++
		case fa == fb:
			c.Agree++
		default:
			at.Flips++
			f := Flip{Sample: index[i], ID: c.set.ID(index[i]), Label: label, A: fa, B: fb}
			if fa >= 0 && fb >= 0 {
				f.MarginA = margin(ra, fa, fb, c.probabilities[0])
				f.MarginB = margin(rb, fb, fa, c.probabilities[1])
			}
			c.Flips = append(c.Flips, f)
		}
	}
}

// answerOf returns the label that outputs name, -1 when one of them is NaN.
func answerOf(row []float32) int {
	best := Argmax(row)
	if row[best] != row[best] {
		return -1
	}
	return best
}

// margin returns the probability of label i less that of j, nil when it is not a
// number.
func margin(row []float32, i, j int, probabilities bool) *float64 {
	d := float64(row[i]) - float64(row[j])
	if !probabilities {
		var sum float64
		for _, x := range row { // row[i] is the largest
			sum += math.Exp(float64(x) - float64(row[i]))
		}
		d = -math.Expm1(-d) / sum
	}
	if !finite(d) {
		return nil
	}
	return &d
}

// givesProbabilities tells whether the output of m is that of a Softmax, but for
// reshaping.
func givesProbabilities(m *inspect.Model, output string) bool {
	w := walker{g: m.Graph}
	for range len(m.Graph.Nodes) + 1 {
		n := m.Graph.Producer(output)
		switch {
		case n == nil || !n.Standard():
			return false
		case n.Op == "Softmax":
			return true
		case n.Op == "Transpose":
			output = n.Input(0)
		default:
			if output = w.unshape(output); output == "" {
				return false
			}
		}
	}
	return false
}

// mcnemar returns the two-sided p-value of b successes among b + c trials of
// probability 1/2: twice the smaller tail, 1 at most (McNemar, "Note on the sampling
// error of the difference between correlated proportions or percentages",
// Psychometrika 1947, with the binomial distribution itself). Terms are taken as
// shares of the largest, so that nothing overflows; what is below 1e-308 is 0.
func mcnemar(b, c int) float64 {
	n, low := b+c, min(b, c)
	if n == 0 || b == c {
		return 1
	}
	middle := n / 2
	term, tail := 1.0, 0.0
	var total float64
	for i := middle; i >= 0 && term > 0; i-- {
		if i <= low {
			tail += term
		}
		total += 2 * term
		if 2*i == n {
			total -= term // it has no mirror image
		}
		term *= float64(i) / float64(n-i+1)
	}
	return min(2*tail/total, 1)
}
