package probe

import (
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/afcc"
)

// Differences says where the filters of two results differ: of one model measured
// on two providers, with two seeds, or before and after it was changed.
type Differences struct {
	// Layers pairs the taps of both, in the order of the first result.
	Layers []LayerDifferences `json:"layers"`
	// Unpaired are the layers that only one of the results has, or whose filters
	// cannot be paired.
	Unpaired []Skip `json:"unpaired,omitempty"`
}

// LayerDifferences says where the filters of one layer differ.
type LayerDifferences struct {
	// Layer and Tensor are names in the first result.
	Layer  string `json:"layer"`
	Tensor string `json:"tensor"`
	// Filters counts those of the first result, Gone those among them that the
	// second has no counterpart of, New those of the second that stand for none.
	// Only the others are compared: LabelSets counts those of them with another
	// label set, and Clusters those with other clusters: the former, and those that
	// divide the same labels otherwise.
	Filters int `json:"filter_count"`
	Gone    int `json:"gone,omitempty"`
	New     int `json:"new,omitempty"`
	// Assumed says that the places of some filters are those of the first, for want
	// of knowledge.
	Assumed   bool `json:"assumed,omitempty"`
	LabelSets int  `json:"label_sets"`
	Clusters  int  `json:"clusters"`
	// Gained and Lost count the labels that filters have in the second result
	// only, and in the first only.
	Gained int `json:"gained"`
	Lost   int `json:"lost"`
	// Silent counts those of Clusters that have a clipped matrix in one of the
	// results only.
	Silent int `json:"silent,omitempty"`
	// Furthest is how far from the threshold the ratio of a label that was gained
	// or lost is at most, in either result, without those of silent filters; nil
	// where there is none. A small number says that rounding decided.
	Furthest *float64 `json:"furthest,omitempty"`
	// Differ lists the filters that differ, ascending.
	Differ []FilterDifference `json:"differ,omitempty"`
}

// A FilterDifference is a filter whose clusters differ. Where neither a label was
// gained nor one lost the same labels are divided otherwise.
type FilterDifference struct {
	Filter int `json:"filter"`
	// Then is its place in the second result, nil where that is the same.
	Then   *int          `json:"then,omitempty"`
	Gained []LabelChange `json:"gained,omitempty"`
	Lost   []LabelChange `json:"lost,omitempty"`
}

// A LabelChange is a label that a filter has in one of two results, with its
// ratio (afcc.Filter) in the first and in the second, nil where the filter has
// none.
type LabelChange struct {
	Label  int      `json:"label"`
	First  *float32 `json:"first"`
	Second *float32 `json:"second"`
}

// Compare finds where the filters of a and b differ, layers paired by the name of
// their tensor and filters by their place. Both results must have the same number
// of labels and the same threshold; what their labels are called does not matter.
func Compare(a, b *Result) (*Differences, error) {
	if err := comparable(a, b); err != nil {
		return nil, err
	}
	d := &Differences{Layers: []LayerDifferences{}}
	for i := range a.Layers {
		l := &a.Layers[i]
		switch other := b.Layer(l.Tensor); {
		case other == nil:
			d.Unpaired = append(d.Unpaired, Skip{l.Name(), "the second result has no such layer"})
		case len(other.Filters) != len(l.Filters):
			d.Unpaired = append(d.Unpaired, Skip{l.Name(), fmt.Sprintf("%d filters in the first result, %d in the second", len(l.Filters), len(other.Filters))})
		default:
			d.Layers = append(d.Layers, compareLayers(l, other, a.Theta, nil))
		}
	}
	for i := range b.Layers {
		if l := &b.Layers[i]; a.Layer(l.Tensor) == nil {
			d.Unpaired = append(d.Unpaired, Skip{l.Name(), "the first result has no such layer"})
		}
	}
	return d, nil
}

// ComparePairs is Compare for two models whose layers and filters have other names
// and places: pairs says which taps of the first are which of the second, and what
// has become of each filter. Pairs of which neither result has the tap are left out.
// Places that the second result does not have, and two filters in one place, are an
// error.
func ComparePairs(a, b *Result, pairs []Pair) (*Differences, error) {
	if err := comparable(a, b); err != nil {
		return nil, err
	}
	d := &Differences{Layers: []LayerDifferences{}}
	of := make(map[string]*Pair, len(pairs))
	paired := make(map[string]*Pair, len(pairs))
	for i := range pairs {
		of[pairs[i].A.Tensor], paired[pairs[i].B.Tensor] = &pairs[i], &pairs[i]
	}
	for i := range a.Layers {
		l := &a.Layers[i]
		p := of[l.Tensor]
		if p == nil {
			d.Unpaired = append(d.Unpaired, Skip{l.Name(), "the second model has no counterpart"})
			continue
		}
		other := b.Layer(p.B.Tensor)
		switch {
		case other == nil:
			d.Unpaired = append(d.Unpaired, Skip{l.Name(), "the second result lacks its counterpart"})
			continue
		case p.Filters == nil && len(l.Filters) > len(other.Filters):
			d.Unpaired = append(d.Unpaired, Skip{l.Name(), fmt.Sprintf("%d filters in the first result, %d in the second, and it is not known which are which", len(l.Filters), len(other.Filters))})
			continue
		}
		if err := checkPlaces(p.Filters, l, other); err != nil {
			return nil, err
		}
		found := compareLayers(l, other, a.Theta, p.Filters)
		found.Assumed = p.Assumed
		d.Layers = append(d.Layers, found)
	}
	for i := range b.Layers {
		l := &b.Layers[i]
		switch p := paired[l.Tensor]; {
		case p == nil:
			d.Unpaired = append(d.Unpaired, Skip{l.Name(), "the first model has no counterpart"})
		case a.Layer(p.A.Tensor) == nil:
			d.Unpaired = append(d.Unpaired, Skip{l.Name(), "the first result lacks its counterpart"})
		}
	}
	return d, nil
}

// comparable tells why two results cannot be compared, nil when they can.
func comparable(a, b *Result) error {
	if len(a.Data.Labels) != len(b.Data.Labels) {
		return fmt.Errorf("%s was measured with %d labels, %s with %d: their filters cannot be compared", a.Model, len(a.Data.Labels), b.Model, len(b.Data.Labels))
	}
	if a.Theta != b.Theta {
		return fmt.Errorf("%s was measured with threshold %v, %s with %v: their filters cannot be compared", a.Model, a.Theta, b.Model, b.Theta)
	}
	return nil
}

// checkPlaces tells what is wrong with the places of the filters of a in b.
func checkPlaces(places []int, a, b *Layer) error {
	if places == nil {
		return nil
	}
	if len(places) != len(a.Filters) {
		return fmt.Errorf("layer %s: places of %d filters, it has %d", a.Name(), len(places), len(a.Filters))
	}
	taken := make([]bool, len(b.Filters))
	for i, j := range places {
		switch {
		case j < -1 || j >= len(b.Filters):
			return fmt.Errorf("layer %s: filter %d is said to be number %d of %d in layer %s", a.Name(), i, j, len(b.Filters), b.Name())
		case j >= 0 && taken[j]:
			return fmt.Errorf("layer %s: two filters are said to be number %d in layer %s", a.Name(), j, b.Name())
		case j >= 0:
			taken[j] = true
		}
	}
	return nil
}

// compareLayers compares filters with those that have their places, or are in them
// where places is nil.
func compareLayers(a, b *Layer, theta float64, places []int) LayerDifferences {
	d := LayerDifferences{Layer: a.Name(), Tensor: a.Tensor, Filters: len(a.Filters)}
	furthest := -1.0
	for i := range a.Filters {
		j := i
		if places != nil {
			j = places[i]
		}
		if j < 0 {
			d.Gone++
			continue
		}
		f, differ := compareFilters(i, &a.Filters[i], &b.Filters[j], theta, &furthest)
		if !differ {
			continue
		}
		if j != i {
			f.Then = &j
		}
		d.Clusters++
		if len(f.Gained)+len(f.Lost) > 0 {
			d.LabelSets++
		}
		if (a.Filters[i].Ratios == nil) != (b.Filters[j].Ratios == nil) {
			d.Silent++
		}
		d.Gained, d.Lost = d.Gained+len(f.Gained), d.Lost+len(f.Lost)
		d.Differ = append(d.Differ, f)
	}
	d.New = len(b.Filters) - (len(a.Filters) - d.Gone)
	if furthest >= 0 {
		d.Furthest = &furthest
	}
	return d
}

// compareFilters finds what labels filter i gained and lost, and tells whether its
// clusters differ at all. furthest grows to LayerDifferences.Furthest.
func compareFilters(i int, first, second *afcc.Filter, theta float64, furthest *float64) (f FilterDifference, differ bool) {
	if slices.EqualFunc(first.Clusters, second.Clusters, slices.Equal) {
		return f, false
	}
	f.Filter = i
	had, has := first.Labels(), second.Labels()
	change := func(j int) LabelChange {
		c := LabelChange{Label: j}
		if first.Ratios != nil {
			c.First = &first.Ratios[j]
		}
		if second.Ratios != nil {
			c.Second = &second.Ratios[j]
		}
		if c.First != nil && c.Second != nil {
			for _, r := range []float32{*c.First, *c.Second} {
				*furthest = max(*furthest, math.Abs(float64(r)-float64(float32(theta))))
			}
		}
		return c
	}
	for len(had)+len(has) > 0 { // both ascend
		switch {
		case len(had) == 0 || len(has) > 0 && has[0] < had[0]:
			f.Gained, has = append(f.Gained, change(has[0])), has[1:]
		case len(has) == 0 || had[0] < has[0]:
			f.Lost, had = append(f.Lost, change(had[0])), had[1:]
		default:
			had, has = had[1:], has[1:]
		}
	}
	return f, true
}
