package afcc

import (
	"context"
	"math"
	"math/rand/v2"
)

// LabelOrder says how much of a layer's row depends on the order in which the
// labels are visited when clusters are formed.
//
// Only N_c, C_s and what is outside the blocks can change. The label sets, and so d,
// the masks, S and, because N_int + N_ext counts all wrong outputs, the SNR are the
// same in every order.
type LabelOrder struct {
	// Seed is where the random orders came from.
	Seed uint64 `json:"seed"`
	// Ascending is the layer's row in the reference order, Permuted its rows in
	// random orders. One order holds for all filters.
	Ascending Stats   `json:"ascending"`
	Permuted  []Stats `json:"permuted"`
	// Nc, Cs and N are the spread of Permuted's averages over the filters that
	// have a cluster, NAll that of the noise averaged over all filters.
	Nc   Spread `json:"n_c"`
	Cs   Spread `json:"c_s"`
	N    Spread `json:"n"`
	NAll Spread `json:"n_all"`
}

// Spread describes a list of numbers; all zero for an empty list.
type Spread struct {
	Mean float64 `json:"mean"`
	// SD is the standard deviation of a sample, with the divisor n-1; 0 for one
	// number.
	SD  float64 `json:"sd"`
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

// PermuteLabels forms the clusters of every filter of a layer anew in a number of
// random label orders. w, means, k, f, p and opt are those of [AnalyzeLayer]; fields
// are formed and clipped only once. Order r is rand.New(rand.NewPCG(seed, r)).Perm(k)
// of math/rand/v2, so the same seed gives the same result.
//
// The error is an *ArgumentError for an argument that cannot be used, or the
// context's.
func PermuteLabels(ctx context.Context, w, means []float32, k, f, p, permutations int, seed uint64, opt Options) (*LabelOrder, error) {
	if err := CheckTheta(opt.Theta); err != nil {
		return nil, err
	}
	if permutations < 1 {
		return nil, argumentf("permutations", "%d are too few; at least one is needed", permutations)
	}
	l, err := newLayer(w, means, k, f, p)
	if err != nil {
		return nil, err
	}
	orders := make([][]int, permutations)
	c := make([][]counts, permutations)
	for r := range orders {
		orders[r] = rand.New(rand.NewPCG(seed, uint64(r))).Perm(k)
		c[r] = make([]counts, f)
	}
	ascending := make([]counts, f)
	err = l.each(ctx, opt.Workers, func(z *analyzer, i int) {
		clipped, inColumns := z.clip(float32(opt.Theta))
		filter := clipped
		z.findClusters(&filter, inColumns)
		ascending[i] = count(&filter)
		for r, order := range orders {
			filter = clipped
			if z.ok { // else the label set is that of another filter
				for _, j := range order {
					if has(z.labels, j) {
						z.cand = append(z.cand, j)
					}
				}
				z.findClusters(&filter, inColumns)
			}
			c[r][i] = count(&filter)
		}
	})
	if err != nil {
		return nil, err
	}
	result := &LabelOrder{Seed: seed, Ascending: summarize(ascending, k, opt.Theta)}
	for r := range c {
		result.Permuted = append(result.Permuted, summarize(c[r], k, opt.Theta))
	}
	spread := func(value func(*Stats) float64) Spread {
		x := make([]float64, permutations)
		for r := range x {
			x[r] = value(&result.Permuted[r])
		}
		return spreadOf(x)
	}
	result.Nc = spread(func(s *Stats) float64 { return s.Mean.Nc })
	result.Cs = spread(func(s *Stats) float64 { return s.Mean.Cs })
	result.N = spread(func(s *Stats) float64 { return s.Mean.N })
	result.NAll = spread(func(s *Stats) float64 { return s.MeanAll.N })
	return result, nil
}

func spreadOf(x []float64) Spread {
	if len(x) == 0 {
		return Spread{}
	}
	s := Spread{Min: x[0], Max: x[0]}
	for _, v := range x {
		s.Mean += v / float64(len(x))
		s.Min, s.Max = min(s.Min, v), max(s.Max, v)
	}
	squares := 0.0
	for _, v := range x {
		squares += (v - s.Mean) * (v - s.Mean)
	}
	if len(x) > 1 {
		s.SD = math.Sqrt(squares / float64(len(x)-1))
	}
	return s
}
