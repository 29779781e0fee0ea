package afcc

import (
	"math"
	"slices"
)

// slowAnalyze is method.md word by word: it checks the whole block, in both
// directions, each time a label asks to join.
func slowAnalyze(m []float32, k int, theta float64) Filter {
	top := math.Inf(-1)
	for _, v := range m {
		if math.IsNaN(float64(v)) {
			return Filter{NonFinite: true}
		}
		top = math.Max(top, float64(v))
	}
	if math.IsInf(top, 0) {
		return Filter{NonFinite: true}
	}
	f := Filter{Max: top + 0}
	if top <= 0 {
		return f
	}
	b := make([][]bool, k)
	for i := range b {
		b[i] = make([]bool, k)
		for j := range b[i] {
			b[i][j] = m[i*k+j]/float32(top) > float32(theta)
			if b[i][j] {
				f.Ones++
			}
		}
		f.Ratios = append(f.Ratios, float32(math.Max(-math.MaxFloat32, float64(m[i*k+i]/float32(top)))))
	}
	full := func(labels []int) bool {
		for _, i := range labels {
			for _, j := range labels {
				if !b[i][j] {
					return false
				}
			}
		}
		return true
	}
	used := make([]bool, k)
	inLabels := make([]bool, k)
	for s := range k {
		if used[s] || !b[s][s] {
			continue
		}
		cluster := []int{s}
		for t := s + 1; t < k; t++ {
			if used[t] || !b[t][t] {
				continue
			}
			if grown := append(slices.Clone(cluster), t); full(grown) {
				cluster = grown
			}
		}
		for _, l := range cluster {
			used[l], inLabels[l] = true, true
		}
		f.Clusters = append(f.Clusters, cluster)
	}
	inside := func(i, j int) bool {
		for _, c := range f.Clusters {
			if slices.Contains(c, i) && slices.Contains(c, j) {
				return true
			}
		}
		return false
	}
	for i := range k {
		for j := range k {
			if !b[i][j] || inside(i, j) {
				continue
			}
			f.Noise++
			if inLabels[j] {
				f.Internal++
			} else {
				f.External++
			}
		}
	}
	return f
}
