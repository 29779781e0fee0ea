package probe

import (
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/afcc"
)

// check tells what of a layer that was read does not fit the rest, nil when all
// does: a reader may then use every number as an index without looking. samples is
// the size of the data set, k the number of labels, theta the threshold.
func (l *Layer) check(k, samples int, theta float64) error {
	if len(l.Layers) == 0 || l.Tap.Filters != len(l.Filters) {
		return fmt.Errorf("%d filters, %d listed", l.Tap.Filters, len(l.Filters))
	}
	if l.Pool < 1 || l.Height < 1 || l.Width < 1 {
		return fmt.Errorf("a map of %d x %d, pooled by %d", l.Height, l.Width, l.Pool)
	}
	for i := range l.Filters {
		if err := checkFilter(&l.Filters[i], i, k); err != nil {
			return err
		}
		if err := checkLabels(&l.Filters[i], theta); err != nil {
			return err
		}
	}
	if err := checkRow(l.Stats, afcc.Summarize(l.Filters, k, theta)); err != nil {
		return err
	}
	if !isShare(&l.Accuracy) {
		return fmt.Errorf("an accuracy of %v", l.Accuracy)
	}
	if err := checkShares(l.PerLabel, k); err != nil {
		return err
	}
	for i, s := range l.Sweep {
		if err := afcc.CheckTheta(s.Theta); err != nil {
			return err
		}
		if i > 0 && s.Theta <= l.Sweep[i-1].Theta {
			return fmt.Errorf("threshold %v behind %v", s.Theta, l.Sweep[i-1].Theta)
		}
	}
	if l.Stability != nil {
		if err := checkStability(l.Stability, l.Filters, k); err != nil {
			return err
		}
	}
	if c := l.Confusion; c != nil && (c.Pairs < 0 || c.Errors < 0 || c.Inside < 0 || c.Inside > c.Errors) {
		return fmt.Errorf("%d of %d wrong answers inside %d pairs of labels", c.Inside, c.Errors, c.Pairs)
	}
	if o := l.Outliers; o != nil && (o.Far < 0 || o.Shortened < o.Far || o.Samples < o.Shortened || o.Sample < 0 || o.Sample >= samples || o.Label < 0 || o.Label >= k) {
		return fmt.Errorf("%d of %d samples with long features, sample %d with label %d", o.Shortened, o.Samples, o.Sample, o.Label)
	}
	if l.Single != nil && len(l.Single) != len(l.Filters) {
		return fmt.Errorf("%d filters alone of %d", len(l.Single), len(l.Filters))
	}
	for i, s := range l.Single {
		if !isShare(s.Accuracy) || !isShare(s.Own) {
			return fmt.Errorf("filter %d: an accuracy alone is no share", i)
		}
	}
	if l.Top != nil && len(l.Top) != len(l.Filters) {
		return fmt.Errorf("samples of %d filters of %d", len(l.Top), len(l.Filters))
	}
	for i, top := range l.Top {
		for _, s := range top {
			if s.Sample < 0 || s.Sample >= samples || s.Label < 0 || s.Label >= k {
				return fmt.Errorf("filter %d: sample %d of %d with label %d of %d", i, s.Sample, samples, s.Label, k)
			}
		}
	}
	return nil
}

func checkFilter(f *afcc.Filter, i, k int) error {
	if f.Index != i {
		return fmt.Errorf("filter %d stands at place %d", f.Index, i)
	}
	seen := map[int]bool{}
	blocks := 0
	for _, c := range f.Clusters {
		blocks += len(c) * len(c)
		if len(c) == 0 || !slices.IsSorted(c) {
			return fmt.Errorf("filter %d: a cluster of labels %v", i, c)
		}
		for _, label := range c {
			if label < 0 || label >= k || seen[label] {
				return fmt.Errorf("filter %d: label %d, where each of %d may stand once", i, label, k)
			}
			seen[label] = true
		}
	}
	if f.Ratios != nil && len(f.Ratios) != k {
		return fmt.Errorf("filter %d: %d ratios for %d labels", i, len(f.Ratios), k)
	}
	if f.Ones < 0 || f.Noise < 0 || f.Internal < 0 || f.External < 0 {
		return fmt.Errorf("filter %d: a number of ones is negative", i)
	}
	if f.Ones != blocks+f.Noise || f.Noise != f.Internal+f.External {
		return fmt.Errorf("filter %d: %d ones, %d of them in clusters, %d in columns of its labels beside these, %d in others", i, f.Ones, blocks, f.Internal, f.External)
	}
	return nil
}

// checkLabels tells whether the ratios of a filter give the labels of its clusters.
func checkLabels(f *afcc.Filter, theta float64) error {
	if labels := f.LabelsAt(theta); !slices.Equal(labels, f.Labels()) {
		return fmt.Errorf("filter %d: labels %v by their ratios, %v by its clusters", f.Index, labels, f.Labels())
	}
	return nil
}

// checkRow tells in what a row of statistics is not what follows from its filters.
// Versions may have summed in another order.
func checkRow(got, want afcc.Stats) error {
	if got.Filters != want.Filters || got.WithoutCluster != want.WithoutCluster || got.NonFinite != want.NonFinite {
		return fmt.Errorf("%d filters, %d without a cluster, %d not finite, where the filters listed make %d, %d, %d",
			got.Filters, got.WithoutCluster, got.NonFinite, want.Filters, want.WithoutCluster, want.NonFinite)
	}
	same := func(a, b *float64) bool {
		return a == b || a != nil && b != nil && math.Abs(*a-*b) <= 1e-9*math.Abs(*b)
	}
	for _, c := range []struct {
		name      string
		got, want *float64
	}{
		{"n_c", &got.Mean.Nc, &want.Mean.Nc}, {"c_s", &got.Mean.Cs, &want.Mean.Cs}, {"d", &got.Mean.D, &want.Mean.D},
		{"n", &got.Mean.N, &want.Mean.N}, {"n_internal", &got.Mean.Internal, &want.Mean.Internal}, {"n_external", &got.Mean.External, &want.Mean.External},
		{"n_c of all", &got.MeanAll.Nc, &want.MeanAll.Nc}, {"c_s of all", &got.MeanAll.Cs, &want.MeanAll.Cs}, {"d of all", &got.MeanAll.D, &want.MeanAll.D},
		{"n of all", &got.MeanAll.N, &want.MeanAll.N}, {"n_internal of all", &got.MeanAll.Internal, &want.MeanAll.Internal},
		{"n_external of all", &got.MeanAll.External, &want.MeanAll.External},
		{"signal", &got.Signal, &want.Signal}, {"noise_internal", &got.NoiseInternal, &want.NoiseInternal}, {"noise_external", &got.NoiseExternal, &want.NoiseExternal},
		{"snr", got.SNR, want.SNR}, {"snr_external", got.SNRExternal, want.SNRExternal},
	} {
		if !same(c.got, c.want) {
			return fmt.Errorf("%s of the layer is not what its filters make it", c.name)
		}
	}
	return nil
}

func checkStability(s *afcc.Stability, filters []afcc.Filter, k int) error {
	if s.Runs < 2 || len(s.Filters) != len(filters) {
		return fmt.Errorf("stability of %d filters of %d in %d runs", len(s.Filters), len(filters), s.Runs)
	}
	for i, f := range s.Filters {
		if f.Index != i || len(f.Clusters) != len(filters[i].Clusters) {
			return fmt.Errorf("filter %d: stability of %d clusters of %d", i, len(f.Clusters), len(filters[i].Clusters))
		}
		for n, l := range f.Labels {
			if l.Label < 0 || l.Label >= k || !isShare(&l.Share) || n > 0 && l.Label <= f.Labels[n-1].Label {
				return fmt.Errorf("filter %d: label %d of %d in a share of %v of the runs", i, l.Label, k, l.Share)
			}
		}
		for _, c := range f.Clusters {
			if !isShare(&c.Jaccard) || !isShare(&c.Identical) {
				return fmt.Errorf("filter %d: the stability of a cluster is no share", i)
			}
		}
	}
	return nil
}

// checkShares checks an accuracy for each of k labels, or none at all.
func checkShares(v []*float64, k int) error {
	if v != nil && len(v) != k {
		return fmt.Errorf("accuracies of %d labels of %d", len(v), k)
	}
	for i, x := range v {
		if !isShare(x) {
			return fmt.Errorf("an accuracy of %v on label %d", *x, i)
		}
	}
	return nil
}

// isShare tells whether x lies between 0 and 1, or is unknown.
func isShare(x *float64) bool { return x == nil || *x >= 0 && *x <= 1 }
