package afcc

import "context"

// Sweep computes a layer's row of statistics at each of several thresholds, as
// [AnalyzeLayer] and [Summarize] would one by one, but forms every field matrix
// only once. w, means, k, f and p are those of [AnalyzeLayer]; thetas may be in any
// order, and the result is in the same. Below 1 worker means one per core.
//
// The error is an *ArgumentError for a dimension, length or threshold that cannot
// be used, or the context's.
func Sweep(ctx context.Context, w, means []float32, k, f, p int, thetas []float64, workers int) ([]Stats, error) {
	for _, theta := range thetas {
		if err := CheckTheta(theta); err != nil {
			return nil, err
		}
	}
	l, err := newLayer(w, means, k, f, p)
	if err != nil {
		return nil, err
	}
	c := make([][]counts, len(thetas))
	for t := range c {
		c[t] = make([]counts, f)
	}
	err = l.each(ctx, workers, func(z *analyzer, i int) {
		for t, theta := range thetas {
			filter := z.at(float32(theta))
			c[t][i] = count(&filter)
		}
	})
	if err != nil {
		return nil, err
	}
	rows := make([]Stats, len(thetas))
	for t, theta := range thetas {
		rows[t] = summarize(c[t], k, theta)
	}
	return rows, nil
}
