package duel

import (
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine"
)

// Outputs gathers how the outputs of two engines differ, sample by sample. The zero
// value, with a tolerance, is ready.
type Outputs struct {
	Tolerance Tolerance
	// Samples counts those added, Beyond those of them that differ by more than the
	// tolerance.
	Samples, Beyond int
	// Unanswered counts samples of which neither engine makes a number (NaN).
	Unanswered int
	// Values counts numbers.
	Values int64
	// Absolute is where |b-a| is largest, Relative where it is as a share of the
	// largest magnitude of the sample.
	Absolute, Relative Extreme
	// Answers lists the samples for which the engines' largest output is not the
	// same one, in the order added.
	Answers []Answer
}

// Extreme is a largest difference. Sample is the number given to Add, -1 when no two
// numbers differ; Value the position of the number among those of the sample, A and B
// what the engines computed there. Difference is infinite as in Difference.Max.
type Extreme struct {
	Sample     int
	Value      int
	A, B       float64
	Difference float64
}

// Answer is a sample on which the engines disagree. A and B are the positions of
// the largest numbers, the first of equal ones, -1 where none is a number.
type Answer struct {
	Sample, A, B int
}

// Add compares an output of both engines, whose elements are of type dtype. Its rows
// along the first axis belong to the samples of those numbers; rows behind them fill
// up a batch and do not count. An output without a row for each is taken for one of
// the first sample alone. Outputs of different shapes are a *ShapeError.
func (o *Outputs) Add(samples []int, a, b *engine.Tensor, dtype string) error {
	if !slices.Equal(a.Shape, b.Shape) {
		return &ShapeError{a.Shape, b.Shape}
	}
	x, err := read(a, dtype)
	if err != nil {
		return err
	}
	y, err := read(b, dtype)
	if err != nil {
		return err
	}
	if x.kind != y.kind || x.n != y.n {
		return fmt.Errorf("the types are %s and %s, of %d and %d elements", x.kind, y.kind, x.n, y.n)
	}
	size := x.n
	if len(a.Shape) > 0 && a.Shape[0] >= int64(len(samples)) {
		size = x.n / int(a.Shape[0])
	} else {
		samples = samples[:1]
	}
	for i, sample := range samples {
		o.row(sample, x, y, i*size, (i+1)*size)
	}
	return nil
}

func (o *Outputs) row(sample int, x, y numbers, lo, hi int) {
	if o.Samples == 0 {
		o.Absolute.Sample, o.Relative.Sample = -1, -1
	}
	o.Samples++
	d := Difference{exact: x.exact}
	at := d.add(x, y, lo, hi)
	o.Values += d.Values
	if o.Tolerance.Beyond(&d) {
		o.Beyond++
	}
	if at >= 0 {
		for _, e := range []struct {
			to *Extreme
			v  float64
		}{{&o.Absolute, d.Max}, {&o.Relative, d.Relative()}} {
			if e.to.Sample < 0 || e.v > e.to.Difference {
				*e.to = Extreme{Sample: sample, Value: at - lo, A: d.A, B: d.B, Difference: e.v}
			}
		}
	}
	switch p, q := largest(x, lo, hi), largest(y, lo, hi); {
	case p != q:
		o.Answers = append(o.Answers, Answer{sample, p, q})
	case p < 0 && hi > lo:
		o.Unanswered++
	}
}

// Worst returns the sample that differs most, relative to its numbers, -1 when none
// differs.
func (o *Outputs) Worst() int {
	if o.Samples == 0 {
		return -1
	}
	return o.Relative.Sample
}

func largest(x numbers, lo, hi int) int {
	best, at := math.Inf(-1), -1
	for i := lo; i < hi; i++ {
		if v := x.at(i); v > best || at < 0 && v == v {
			best, at = v, i-lo
		}
	}
	return at
}
