package likeness

import (
	"math/rand/v2"
	"slices"

	"github.com/filterlens/filterlens/inspect/dataset"
)

// choose returns n of the samples index, all when there are no more, in the order of
// index: as many of each label as can be, the rest of labels drawn by seed.
func choose(set *dataset.Set, index []int, n int, seed uint64) []int {
	if len(index) <= n {
		return index
	}
	of := map[int][]int{} // places in index by label
	for at, i := range index {
		of[set.Label(i)] = append(of[set.Label(i)], at)
	}
	var labels []int
	for l := range set.Labels() {
		if places := of[l]; len(places) > 0 {
			labels = append(labels, l)
			shuffle(places, seed, uint64(l)+1)
		}
	}
	shuffle(labels, seed, 0)
	var chosen []int
	for round := 0; len(chosen) < n; round++ {
		for _, l := range labels {
			if round < len(of[l]) && len(chosen) < n {
				chosen = append(chosen, of[l][round])
			}
		}
	}
	slices.Sort(chosen)
	for k, at := range chosen {
		chosen[k] = index[at]
	}
	return chosen
}

func shuffle(v []int, seed, stream uint64) {
	rand.New(rand.NewPCG(seed, stream)).Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
}
