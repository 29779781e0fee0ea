// Package criterion orders the connections of a layer by label clusters, weights and
// activations together.
//
// What follows from clusters alone is the business of afcc, how numbers are measured
// that of afcc/probe; which connections then fall, and in which file, is decided in
// package export. Nothing here opens a model or runs one.
package criterion

import (
	"fmt"
	"math"

	"github.com/filterlens/filterlens/afcc"
)

// Offset and Gamma are the constants of Weighted, chosen on CIFAR-100 with VGG-16.
const (
	Offset = 0.05
	Gamma  = 0.5
)

// Weighted without the clusters, by output, is the classifier's best control: measured
// on the classifier of VGG-16 (CIFAR-100, 5,000 held-out images, no recovery) at a
// dilution of 96.3 %, top-1 is 57.4 % with the clusters alone (afcc), 60.2 % with the
// largest weights, 61.1 % with Weighted without clusters and 64.1 % with them (70.8 %
// before; standard error of a difference 0.4 points). Once the classifier is retrained
// under its mask all of these lie within 0.6 points of each other.
//
// Convolutions are another matter: there the overlap of label sets, in this product
// too, costs accuracy after a recovery. See Balanced.

// An ArgumentError says which argument cannot be used and why.
type ArgumentError struct{ Name, Reason string }

func (e *ArgumentError) Error() string { return e.Name + ": " + e.Reason }

// Weighted scores connections by the size of what passes through them and by how far
// the clusters of their two ends agree:
//
//	score(f,f') = |W(f,f')| * a(f') * (Offset + max(0, s(f,f')))^Gamma
//
// |W| is the norm of the connection's weights, norms, rows x cols, row-major; a the
// activity of the input filter, activity, one number of 0 or more for each column, such
// as its root mean square or its standard deviation over samples; s the score of AFCC,
// clusters (afcc.ClassifierScores: the ratio of the input filter's field for the label;
// afcc.ConvScores: the threshold up to which both ends share a label). The first two
// factors are the activation-weighted magnitude of Sun et al., arXiv:2306.11695; the
// third is ours. A nil activity counts as 1 everywhere, and without clusters, nil, the
// third factor is left out. Gamma below 1 keeps the clusters from overruling the
// weights: a connection of no common label, such as one that silences a label, falls
// behind by a factor of at most about 4.6, rather than at once.
//
// The scores of different outputs cannot be compared, since the sizes of their weights
// differ for reasons of their own: keep the best of each by Scores.TopRows.
//
// The error is an *ArgumentError when lengths do not match, or an activity is negative
// or not finite. A norm that is NaN gives -Inf.
func Weighted(norms []float32, rows, cols int, activity []float64, clusters *afcc.Scores) (*afcc.Scores, error) {
	if rows < 0 || cols < 0 || cols > 0 && len(norms)/cols != rows || len(norms) != rows*cols {
		return nil, &ArgumentError{"norms", fmt.Sprintf("%d values for %d x %d connections", len(norms), rows, cols)}
	}
	if activity != nil && len(activity) != cols {
		return nil, &ArgumentError{"activity", fmt.Sprintf("%d values for %d input filters", len(activity), cols)}
	}
	for f, a := range activity {
		if !(a >= 0) || math.IsInf(a, 1) {
			return nil, &ArgumentError{"activity", fmt.Sprintf("that of input filter %d is %v", f, a)}
		}
	}
	if clusters != nil && (clusters.Rows != rows || clusters.Cols != cols) {
		return nil, &ArgumentError{"clusters", fmt.Sprintf("scores of %d x %d connections for %d x %d", clusters.Rows, clusters.Cols, rows, cols)}
	}
	product := make([]float32, len(norms))
	for r := range rows {
		for c := range cols {
			v := float64(norms[r*cols+c])
			if activity != nil {
				v *= activity[c]
			}
			if clusters != nil {
				v *= math.Pow(Offset+max(0, float64(clusters.At(r, c))), Gamma)
			}
			product[r*cols+c] = float32(v)
		}
	}
	return afcc.MagnitudeScores(product, rows, cols)
}

// Balanced scores the kernels of a convolution by their norms, norms, rows x cols,
// row-major, each divided by the root of the mean norm of its output's kernels:
//
//	score(f,f') = |W(f,f')| / sqrt(mean_h |W(f,h)|)
//
// That is half of the way from a ranking over the layer, in which outputs of small
// weights starve, to one within each output, which spends as much on outputs that
// matter little. It is ours and uses no labels. Keep the best by Scores.Top.
//
// Measured on convolutions 8 to 13 of VGG-16 (CIFAR-100, 90 % of each, ridge, full
// classifier, 5,000 held-out images): 67.1 % against 66.5 % for the largest norms, with
// a standard error of the difference of 0.4 points, so no proof of a gain.
//
// The error is an *ArgumentError when lengths do not match. A norm that is NaN gives
// -Inf and does not count in its row's mean.
func Balanced(norms []float32, rows, cols int) (*afcc.Scores, error) {
	if rows < 0 || cols < 0 || cols > 0 && len(norms)/cols != rows || len(norms) != rows*cols {
		return nil, &ArgumentError{"norms", fmt.Sprintf("%d values for %d x %d connections", len(norms), rows, cols)}
	}
	product := make([]float32, len(norms))
	for r := range rows {
		row, sum, n := norms[r*cols:][:cols], 0.0, 0
		for _, v := range row {
			if v == v {
				sum += float64(v)
				n++
			}
		}
		factor := 1.0
		if sum > 0 {
			factor = 1 / math.Sqrt(sum/float64(n))
		}
		for c, v := range row {
			product[r*cols+c] = float32(float64(v) * factor)
		}
	}
	return afcc.MagnitudeScores(product, rows, cols)
}
