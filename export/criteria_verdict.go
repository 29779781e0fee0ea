package export

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/afcc/probe"
)

// A Gap is how far one model is ahead of another, on the same samples.
type Gap struct {
	// Points is the difference of their accuracies in percentage points, Error its
	// standard error.
	Points float64 `json:"points"`
	Error  float64 `json:"error_points"`
	// Clear tells that the difference is more than chance would show in about 95 of 100
	// comparisons of equally good models.
	Clear bool `json:"clear"`
}

// newGap compares two models, or two sets of models of which each has another seed, by
// what they answer rightly: a and b are by seed and sample, of the same samples.
//
// With d the difference of the two for a sample, each a mean over its seeds, and n
// samples, the difference is mean(d), with the variance (mean(d^2) - mean(d)^2)/n;
// for single models, of which b alone gets some samples right and a alone others, that
// is McNemar's setting, and the variance that of the count of discordant samples. To
// it comes for each side with several seeds the variance of their accuracies, divided
// by their number. It is clear when it exceeds twice the error of equal models, for
// which mean(d) is 0, by more than the sample that the correction for continuity takes.
func newGap(a, b [][]bool) Gap {
	n := 0
	if len(a) > 0 {
		n = len(a[0])
	}
	if n == 0 || len(b) == 0 {
		return Gap{}
	}
	sum, squares := 0.0, 0.0
	for i := range n {
		d := meanAt(a, i) - meanAt(b, i)
		sum += d
		squares += d * d
	}
	size := float64(n)
	drawn := drawVariance(a) + drawVariance(b)
	mean, null := sum/size, squares/size/size
	return Gap{
		Points: 100 * mean,
		Error:  100 * math.Sqrt(max(0, null-mean*mean/size)+drawn),
		Clear:  math.Abs(mean)-1/size > 2*math.Sqrt(null+drawn),
	}
}

// meanAt is the share of seeds that get a sample right.
func meanAt(right [][]bool, i int) float64 {
	n := 0
	for _, r := range right {
		if r[i] {
			n++
		}
	}
	return float64(n) / float64(len(right))
}

// drawVariance is the variance of the mean of the seeds' accuracies, 0 where there is
// one seed, which does not tell.
func drawVariance(right [][]bool) float64 {
	if len(right) < 2 {
		return 0
	}
	shares, mean := make([]float64, len(right)), 0.0
	for s, r := range right {
		shares[s] = rightShare(r)
		mean += shares[s] / float64(len(right))
	}
	sum := 0.0
	for _, v := range shares {
		sum += (v - mean) * (v - mean)
	}
	return sum / float64(len(right)-1) / float64(len(right))
}

func rightShare(right []bool) float64 {
	n := 0
	for _, r := range right {
		if r {
			n++
		}
	}
	return float64(n) / float64(max(1, len(right)))
}

// A Verdict says which criterion is ahead.
type Verdict struct {
	// Best is the criterion with the highest accuracy, the first of equal ones; Clear
	// tells that it is clearly ahead of the second.
	Best  string `json:"best"`
	Clear bool   `json:"clear"`
	// AtChance tells that no criterion leaves more than chance does.
	AtChance bool `json:"at_chance"`
	// Contests set each criterion of label clusters against the best of those without.
	Contests []Contest `json:"contests"`
	// Text says so in words.
	Text string `json:"text"`
}

// A Contest sets a criterion that uses label clusters against the best control, the
// one of them with the highest accuracy at this dilution.
type Contest struct {
	Criterion string `json:"criterion"`
	Control   string `json:"control"`
	// Ahead is how far Criterion is ahead.
	Ahead Gap `json:"ahead"`
}

// ofClusters tells whether a criterion uses label clusters.
func ofClusters(criterion string) bool { return criterion == AFCC || criterion == Weighted }

// newVerdict judges what criteria answer rightly, by criterion, seed and sample.
func newVerdict(criteria []string, right [][][]bool, original OriginalResult) *Verdict {
	accuracy := make([]float64, len(criteria))
	best, second, control := -1, -1, -1
	better := func(i, than int) bool { return than < 0 || accuracy[i] > accuracy[than] }
	for i := range criteria {
		for _, r := range right[i] {
			accuracy[i] += rightShare(r) / float64(len(right[i]))
		}
		if better(i, best) {
			best, second = i, best
		} else if better(i, second) {
			second = i
		}
		if !ofClusters(criteria[i]) && better(i, control) {
			control = i
		}
	}
	v := &Verdict{Best: criteria[best], Contests: []Contest{}}
	v.AtChance = probe.AtChance(accuracy[best], original.Chance, original.Samples)
	word := "highest"
	if second >= 0 {
		if v.Clear = newGap(right[best], right[second]).Clear; v.Clear {
			word = "best"
		}
	}
	parts := []string{fmt.Sprintf("%s %s, %s", v.Best, word, percent(accuracy[best]))}
	for i, name := range criteria {
		if !ofClusters(name) || control < 0 {
			continue
		}
		c := Contest{name, criteria[control], newGap(right[i], right[control])}
		v.Contests = append(v.Contests, c)
		parts = append(parts, c.text())
	}
	if v.Text = strings.Join(parts, "; "); v.AtChance {
		v.Text = fmt.Sprintf("all are at chance level, %s at most: nothing is told by this", percent(accuracy[best]))
	}
	return v
}

func (c *Contest) text() string {
	points := math.Abs(c.Ahead.Points)
	switch {
	case !c.Ahead.Clear:
		return fmt.Sprintf("%s and %s not told apart (%+.1f +/- %.1f points)", c.Criterion, c.Control, c.Ahead.Points, c.Ahead.Error)
	case c.Ahead.Points > 0:
		return fmt.Sprintf("%s ahead of %s by %.1f +/- %.1f points", c.Criterion, c.Control, points, c.Ahead.Error)
	}
	return fmt.Sprintf("%s behind %s by %.1f +/- %.1f points", c.Criterion, c.Control, points, c.Ahead.Error)
}

// A Tally counts the dilutions of a report by how a criterion of label clusters does
// there against the best control.
type Tally struct {
	Criterion string
	// Ahead and Behind count those where the difference is clear, Even the others.
	Ahead, Behind, Even int
}

// Tallies counts, after recovery where there is one, else of the masked models.
// Dilutions at which nothing but chance is left do not count.
func (r *CriteriaReport) Tallies() (list []Tally) {
	for i := range r.Levels {
		v := r.Levels[i].Masked
		if r.Levels[i].Recovered != nil {
			v = r.Levels[i].Recovered
		}
		if v == nil || v.AtChance {
			continue
		}
		for _, c := range v.Contests {
			k := slices.IndexFunc(list, func(t Tally) bool { return t.Criterion == c.Criterion })
			if k < 0 {
				k, list = len(list), append(list, Tally{Criterion: c.Criterion})
			}
			switch {
			case !c.Ahead.Clear:
				list[k].Even++
			case c.Ahead.Points > 0:
				list[k].Ahead++
			default:
				list[k].Behind++
			}
		}
	}
	return list
}
