package afcc

import (
	"math/bits"
	"slices"
)

// Stability says which label sets and clusters of a layer return when its label
// means are measured again on other samples, with the same head.
type Stability struct {
	// Runs is the number R of repeated measurements: 2 for split halves, the
	// number of resamples for a bootstrap.
	Runs    int               `json:"runs"`
	Filters []FilterStability `json:"filters"`
	// Jaccard and Phi average over the filters that have them; nil when none has.
	Jaccard *float64 `json:"jaccard"`
	Phi     *float64 `json:"phi"`
	// Cluster averages over all clusters of the reference; nil when it has none.
	Cluster *ClusterStability `json:"cluster"`
}

// FilterStability is one filter's part of a [Stability].
type FilterStability struct {
	Index int `json:"index"`
	// Labels holds the labels that are in the filter's label set in any run,
	// ascending.
	Labels []LabelFrequency `json:"labels"`
	// Jaccard is the mean over pairs of runs r < s of
	//
	//	|L_r ∩ L_s| / |L_r ∪ L_s|
	//
	// Pairs in which both sets are empty say nothing and are left out; nil when no
	// pair is left (Ben-Hur, Elisseeff, Guyon, Pacific Symposium on Biocomputing
	// 2002).
	Jaccard *float64 `json:"jaccard"`
	// Phi is the same agreement corrected for chance, so that it can be compared
	// between label sets of different size: 1 for equal sets, about 0 for random
	// ones.
	//
	//	Phi = 1 - (1/K sum_j R/(R-1) p_j (1-p_j)) / (d/K (1 - d/K))
	//
	// with p_j the share of runs in which j is a label and d the mean number of
	// labels (Nogueira, Sechidis, Brown, JMLR 18(174), 2018); nil when d is 0 or K.
	Phi *float64 `json:"phi"`
	// Clusters is in the order of the reference's clusters.
	Clusters []ClusterStability `json:"clusters"`
}

// LabelFrequency is the share of runs in which a label is in a filter's label set.
type LabelFrequency struct {
	Label int     `json:"label"`
	Share float64 `json:"share"`
}

// ClusterStability says how a cluster of the reference fares in the runs.
type ClusterStability struct {
	// Jaccard is the mean over runs of the largest Jaccard index with a cluster of
	// the run, 0 where there is none (Hennig, Computational Statistics & Data
	// Analysis 52, 2007, who takes 0.75 and more as stable, less than 0.5 as
	// dissolved).
	Jaccard float64 `json:"jaccard"`
	// Identical is the share of runs that have exactly this cluster.
	Identical float64 `json:"identical"`
}

// MeasureStability compares a layer's filters with those found in repeated
// measurements. reference comes from all samples; runs[r] comes from the label means
// of one half of the samples, or of one bootstrap resample, all by [AnalyzeLayer]
// with the same head weights and threshold. k is the number of labels. Label means
// need not be kept: only label sets and clusters are read.
//
// The error is an *ArgumentError when there are fewer than two runs, filters do not
// match, or a label is not in [0,k).
func MeasureStability(reference []Filter, runs [][]Filter, k int) (*Stability, error) {
	if k < 1 || k > MaxLabels {
		return nil, argumentf("labels", "%d is no number of labels that is supported", k)
	}
	if len(runs) < 2 {
		return nil, argumentf("runs", "%d are too few; agreement takes two", len(runs))
	}
	for r, run := range append([][]Filter{reference}, runs...) {
		if len(run) != len(reference) {
			return nil, argumentf("runs", "run %d has %d filters where the reference has %d", r-1, len(run), len(reference))
		}
		for i := range run {
			for _, c := range run[i].Clusters {
				for _, j := range c {
					if j < 0 || j >= k {
						return nil, argumentf("clusters", "filter %d has label %d where %d labels are", i, j, k)
					}
				}
			}
		}
	}

	s := &Stability{Runs: len(runs), Filters: make([]FilterStability, len(reference))}
	var jaccard, phi, best, identical mean
	sets := make([][]uint64, len(runs))
	of := make([]*Filter, len(runs))
	for i := range reference {
		f := &s.Filters[i]
		f.Index = reference[i].Index
		for r := range runs {
			of[r] = &runs[r][i]
			sets[r] = setOf(of[r].Clusters, k)
		}
		f.Labels, f.Phi = frequencies(of, k)
		f.Jaccard = pairwiseJaccard(sets)
		jaccard.addIfAny(f.Jaccard)
		phi.addIfAny(f.Phi)
		for _, c := range reference[i].Clusters {
			x := recovery(c, of)
			f.Clusters = append(f.Clusters, x)
			best.add(x.Jaccard)
			identical.add(x.Identical)
		}
	}
	s.Jaccard, s.Phi = jaccard.value(), phi.value()
	if best.n > 0 {
		s.Cluster = &ClusterStability{Jaccard: *best.value(), Identical: *identical.value()}
	}
	return s, nil
}

func frequencies(of []*Filter, k int) (labels []LabelFrequency, phi *float64) {
	runs := float64(len(of))
	count := make([]int, k)
	total := 0
	for _, f := range of {
		for _, c := range f.Clusters {
			for _, j := range c {
				count[j]++
				total++
			}
		}
	}
	variance := 0.0
	for j, n := range count {
		if n > 0 {
			p := float64(n) / runs
			labels = append(labels, LabelFrequency{j, p})
			variance += runs / (runs - 1) * p * (1 - p) / float64(k)
		}
	}
	if total > 0 && total < k*len(of) {
		share := float64(total) / runs / float64(k)
		v := 1 - variance/(share*(1-share))
		phi = &v
	}
	return labels, phi
}

func pairwiseJaccard(sets [][]uint64) *float64 {
	var m mean
	for s := range sets {
		for r := range s {
			both, either := 0, 0
			for x, word := range sets[s] {
				both += bits.OnesCount64(word & sets[r][x])
				either += bits.OnesCount64(word | sets[r][x])
			}
			if either > 0 {
				m.add(float64(both) / float64(either))
			}
		}
	}
	return m.value()
}

func recovery(cluster []int, of []*Filter) ClusterStability {
	sum, identical := 0.0, 0
	for _, f := range of {
		best := 0.0
		for _, c := range f.Clusters {
			both := 0
			for _, j := range c {
				if _, found := slices.BinarySearch(cluster, j); found {
					both++
				}
			}
			best = max(best, float64(both)/float64(len(c)+len(cluster)-both))
		}
		sum += best
		if best == 1 {
			identical++
		}
	}
	runs := float64(len(of))
	return ClusterStability{Jaccard: sum / runs, Identical: float64(identical) / runs}
}

func setOf(clusters [][]int, k int) []uint64 {
	b := make([]uint64, (k+63)/64)
	for _, c := range clusters {
		for _, j := range c {
			set(b, j)
		}
	}
	return b
}

// mean is a running mean.
type mean struct {
	sum float64
	n   int
}

func (m *mean) add(v float64) { m.sum, m.n = m.sum+v, m.n+1 }

func (m *mean) addIfAny(v *float64) {
	if v != nil {
		m.add(*v)
	}
}

// value returns nil for a mean of nothing.
func (m *mean) value() *float64 {
	if m.n == 0 {
		return nil
	}
	v := m.sum / float64(m.n)
	return &v
}
