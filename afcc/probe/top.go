package probe

import (
	"container/heap"
	"slices"

	"github.com/filterlens/filterlens/inspect/dataset"
)

// topLists keeps, for each filter, the samples that it answers most.
type topLists struct {
	most  int
	lists []topList
}

// topList is a heap with the least of its samples in front.
type topList []strength

// strength is how strongly a filter answers a sample.
type strength struct {
	value  float32
	sample int
}

// less orders strengths: the larger value is more, of equal ones the smaller
// sample number.
func (a strength) less(b strength) bool {
	return a.value < b.value || a.value == b.value && a.sample > b.sample
}

func (l topList) Len() int           { return len(l) }
func (l topList) Less(i, j int) bool { return l[i].less(l[j]) }
func (l topList) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }

// Push and Pop complete heap.Interface; they are not called.
func (l topList) Push(any) {}
func (l topList) Pop() any { return nil }

func newTopLists(filters, most int) topLists {
	return topLists{most, make([]topList, filters)}
}

// add offers the samples of a batch; v is batch x filters. What is not finite is
// never kept.
func (t topLists) add(v []float32, samples []int) {
	f := len(t.lists)
	for i, sample := range samples {
		for j, x := range v[i*f : (i+1)*f] {
			if x-x != 0 {
				continue
			}
			s, l := strength{x, sample}, t.lists[j]
			if len(l) < t.most {
				t.lists[j] = append(l, s)
				heap.Fix(t.lists[j], len(l))
			} else if l[0].less(s) {
				l[0] = s
				heap.Fix(l, 0)
			}
		}
	}
}

// ordered returns what a filter's list holds, the strongest first.
func (t topLists) ordered(filter int) []strength {
	l := slices.Clone(t.lists[filter])
	slices.SortFunc(l, func(a, b strength) int {
		if b.less(a) {
			return -1
		}
		return 1
	})
	return l
}

// samples returns the samples of each filter, the strongest first.
func (t topLists) samples(set *dataset.Set) [][]TopSample {
	lists := make([][]TopSample, len(t.lists))
	for i := range lists {
		lists[i] = []TopSample{}
		for _, s := range t.ordered(i) {
			lists[i] = append(lists[i], TopSample{Sample: s.sample, ID: set.ID(s.sample), Label: set.Label(s.sample), Activation: float64(s.value)})
		}
	}
	return lists
}
