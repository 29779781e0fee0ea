package afcc

// ClusterConfusion says whether a classifier confuses the labels that stand in one
// cluster more often than others.
type ClusterConfusion struct {
	// Pairs counts the pairs of different labels that some cluster holds, of the
	// K(K-1)/2 that there are.
	Pairs int `json:"pairs"`
	// Errors counts the wrong answers, Inside those whose right and given label
	// are such a pair, in either direction.
	Errors int `json:"errors"`
	Inside int `json:"inside"`
	// Share is Inside/Errors. Expected is Pairs / (K(K-1)/2), the share of errors
	// inside if the names of the labels were dealt out at random. Both are nil for
	// a division by 0.
	Share    *float64 `json:"share"`
	Expected *float64 `json:"expected"`
	// Lift is Share/Expected: above 1, labels of one cluster are confused more
	// often than labels at random. WeightedLift counts each pair as often as
	// clusters hold it, which still tells something where nearly every pair is
	// in the cluster of some filter:
	//
	//	(sum_c errors in c / sum_c C(C-1)) / (Errors / (K(K-1)))
	//
	// Both are nil for a division by 0.
	Lift         *float64 `json:"lift"`
	WeightedLift *float64 `json:"weighted_lift"`
}

// MeasureConfusion relates clusters to a confusion matrix (k x k, row-major; row =
// right label, column = given answer, entries = numbers of samples) of a head or of
// the whole model. The clusters may be one, those of one filter, or those of all
// filters of a layer, and may overlap. The measure is ours; the papers only observe
// that clusters hold labels that are alike.
//
// The error is an *ArgumentError for a matrix of another size, a negative entry, or a
// cluster with a label twice or outside [0,k).
func MeasureConfusion(matrix []int, k int, clusters [][]int) (ClusterConfusion, error) {
	var c ClusterConfusion
	if k < 1 || k > MaxLabels || len(matrix) != k*k {
		return c, argumentf("confusion matrix", "%d entries for %d labels", len(matrix), k)
	}
	for n, v := range matrix {
		if v < 0 {
			return c, argumentf("confusion matrix", "%d samples of label %d with answer %d", v, n/k, n%k)
		}
		if n/k != n%k {
			c.Errors += v
		}
	}
	together := make([]uint64, (k*k+63)/64) // bit i*k+j for i < j
	times, weighted := 0, 0
	in := make([]int, k) // number of the last cluster with the label, from 1
	for n, cluster := range clusters {
		for x, i := range cluster {
			if i < 0 || i >= k || in[i] == n+1 {
				return ClusterConfusion{}, argumentf("clusters", "label %d where %d different labels are", i, k)
			}
			in[i] = n + 1
			for _, j := range cluster[:x] {
				wrong := matrix[i*k+j] + matrix[j*k+i]
				times += 2
				weighted += wrong
				if bit := min(i, j)*k + max(i, j); !has(together, bit) {
					set(together, bit)
					c.Pairs++
					c.Inside += wrong
				}
			}
		}
	}
	c.Share = quotient(c.Inside, c.Errors)
	c.Expected = quotient(2*c.Pairs, k*(k-1))
	c.Lift = ratioOf(c.Share, c.Expected)
	c.WeightedLift = ratioOf(quotient(weighted, times), quotient(c.Errors, k*(k-1)))
	return c, nil
}

// ratioOf returns nil unless both are there and b is not 0.
func ratioOf(a, b *float64) *float64 {
	if a == nil || b == nil || *b == 0 {
		return nil
	}
	v := *a / *b
	return &v
}
