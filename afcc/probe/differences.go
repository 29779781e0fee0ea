package probe

import (
	"fmt"
	"math"
	"slices"
)

// Differences says where the filters of two results differ: of one model measured
// on two providers, with two seeds, or before and after it was changed.
type Differences struct {
	// Layers pairs the taps of the same tensor, in the order of the first result.
	Layers []LayerDifferences `json:"layers"`
	// Unpaired are the layers that only one of the results has, or that have
	// another number of filters in the other.
	Unpaired []Skip `json:"unpaired,omitempty"`
}

// LayerDifferences says where the filters of one layer differ.
type LayerDifferences struct {
	Layer  string `json:"layer"`
	Tensor string `json:"tensor"`
	// Filters counts all of them, LabelSets those with another label set, and
	// Clusters those with other clusters: the former, and those that divide the
	// same labels otherwise.
	Filters   int `json:"filter_count"`
	LabelSets int `json:"label_sets"`
	Clusters  int `json:"clusters"`
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
	Filter int           `json:"filter"`
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

// Compare finds where the filters of a and b differ. Both must have the same
// number of labels and the same threshold; what their labels are called does not
// matter.
func Compare(a, b *Result) (*Differences, error) {
	if len(a.Data.Labels) != len(b.Data.Labels) {
		return nil, fmt.Errorf("%s was measured with %d labels, %s with %d: their filters cannot be compared", a.Model, len(a.Data.Labels), b.Model, len(b.Data.Labels))
	}
	if a.Theta != b.Theta {
		return nil, fmt.Errorf("%s was measured with threshold %v, %s with %v: their filters cannot be compared", a.Model, a.Theta, b.Model, b.Theta)
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
			d.Layers = append(d.Layers, compareLayers(l, other, a.Theta))
		}
	}
	for i := range b.Layers {
		if l := &b.Layers[i]; a.Layer(l.Tensor) == nil {
			d.Unpaired = append(d.Unpaired, Skip{l.Name(), "the first result has no such layer"})
		}
	}
	return d, nil
}

func compareLayers(a, b *Layer, theta float64) LayerDifferences {
	d := LayerDifferences{Layer: a.Name(), Tensor: a.Tensor, Filters: len(a.Filters)}
	furthest := -1.0
	for i := range a.Filters {
		first, second := &a.Filters[i], &b.Filters[i]
		if slices.EqualFunc(first.Clusters, second.Clusters, slices.Equal) {
			continue
		}
		d.Clusters++
		f := FilterDifference{Filter: i}
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
					furthest = max(furthest, math.Abs(float64(r)-float64(float32(theta))))
				}
			}
			return c
		}
		for _, j := range has {
			if !slices.Contains(had, j) {
				f.Gained = append(f.Gained, change(j))
			}
		}
		for _, j := range had {
			if !slices.Contains(has, j) {
				f.Lost = append(f.Lost, change(j))
			}
		}
		if len(f.Gained)+len(f.Lost) > 0 {
			d.LabelSets++
		}
		if (first.Ratios == nil) != (second.Ratios == nil) {
			d.Silent++
		}
		d.Gained, d.Lost = d.Gained+len(f.Gained), d.Lost+len(f.Lost)
		d.Differ = append(d.Differ, f)
	}
	if furthest >= 0 {
		d.Furthest = &furthest
	}
	return d
}
