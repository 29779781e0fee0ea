package report

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/filterlens/filterlens/inspect"
)

// An Order is what layers, groups and tensors are sorted by.
type Order string

// The orders. All but ByPosition put the largest first; what is equal, or
// unknown, stays in the order of the model, the unknown last.
const (
	ByPosition   Order = "order" // as in the model
	ByParameters Order = "params"
	ByMACs       Order = "macs"
	// ByMemory is by the bytes of weights and output together.
	ByMemory Order = "memory"
)

// Orders returns all orders.
func Orders() []Order { return []Order{ByPosition, ByParameters, ByMACs, ByMemory} }

// A Selection chooses what of a model is listed. The zero value lists all
// layers in their order. Totals and findings are never selected from.
type Selection struct {
	// Top, when positive, leaves that many layers, groups and tensors.
	Top int
	// Sort is the order of layers and groups; "" is ByParameters when Top is
	// positive, else ByPosition. Tensors stay as in the file without Top; with
	// it they are sorted by their bytes, except ByPosition.
	Sort Order
	// Filter, if any, leaves the layers of whose name, operator and scope one
	// matches; and the tensors whose name does or that such a layer reads.
	Filter *regexp.Regexp
	// Depth, when positive, sums up layers by the first Depth parts of their
	// Modules; Top and Sort then choose among groups.
	Depth int
}

func (s Selection) order() Order {
	if s.Sort == "" && s.Top > 0 {
		return ByParameters
	}
	return cmp.Or(s.Sort, ByPosition)
}

// An Applied selection is what JSON says of it.
type Applied struct {
	Filter string `json:"filter,omitempty"`
	Top    int    `json:"top,omitempty"`
	Sort   Order  `json:"sort"`
	Depth  int    `json:"depth,omitempty"`
	// Matched sums up the layers that Filter matches, all when there is none.
	Matched Sum `json:"matched"`
}

// A Sum is that of some layers. A tensor that several of them share counts in
// each.
type Sum struct {
	Layers     int   `json:"layers"`
	Parameters int64 `json:"parameters"`
	// MACs sums what is known, nil when nothing is; MACsUnknown counts the
	// layers left out. So do OutBytes and OutBytesUnknown.
	MACs            *int64 `json:"macs"`
	MACsUnknown     int    `json:"macs_unknown"`
	WeightBytes     int64  `json:"weight_bytes"`
	OutBytes        *int64 `json:"out_bytes"`
	OutBytesUnknown int    `json:"out_bytes_unknown"`
}

// A Group is the sum of the layers of one module.
type Group struct {
	// Name is the beginning of their Modules, joined by dots; "" for layers
	// that are in no module.
	Name string `json:"name"`
	Sum
}

func (s *Sum) add(l *inspect.Layer) {
	s.Layers++
	s.Parameters = plus(s.Parameters, l.Parameters)
	s.WeightBytes = plus(s.WeightBytes, l.WeightBytes)
	s.MACs, s.MACsUnknown = plusKnown(s.MACs, s.MACsUnknown, l.MACs)
	s.OutBytes, s.OutBytesUnknown = plusKnown(s.OutBytes, s.OutBytesUnknown, l.OutBytes)
}

func sumOf(layers []inspect.Layer) (s Sum) {
	for i := range layers {
		s.add(&layers[i])
	}
	return s
}

// plus adds counts of what files claim, which may be absurd.
func plus(a, b int64) int64 {
	if s := a + b; s >= a || b < 0 {
		return s
	}
	return 1<<63 - 1
}

func plusKnown(sum *int64, unknown int, v *int64) (*int64, int) {
	switch {
	case v == nil:
		return sum, unknown + 1
	case sum == nil:
		n := *v
		return &n, unknown
	}
	n := plus(*sum, *v)
	return &n, unknown
}

// A measure is what an order compares.
type measure struct {
	parameters, memory int64
	macs               *int64
}

func layerMeasure(l inspect.Layer) measure {
	m := measure{parameters: l.Parameters, memory: l.WeightBytes, macs: l.MACs}
	if l.OutBytes != nil {
		m.memory = plus(m.memory, *l.OutBytes)
	}
	return m
}

func groupMeasure(g Group) measure {
	m := measure{parameters: g.Parameters, memory: g.WeightBytes, macs: g.MACs}
	if g.OutBytes != nil {
		m.memory = plus(m.memory, *g.OutBytes)
	}
	return m
}

// pick sorts a copy of list and leaves the first top of it, all when top is 0.
func pick[T any](list []T, by Order, top int, of func(T) measure) []T {
	list = slices.Clone(list)
	key := func(v T) int64 {
		m := of(v)
		switch {
		case by == ByParameters:
			return m.parameters
		case by == ByMemory:
			return m.memory
		case by == ByMACs && m.macs != nil:
			return *m.macs
		}
		return -1
	}
	slices.SortStableFunc(list, func(a, b T) int { return cmp.Compare(key(b), key(a)) })
	if top > 0 && top < len(list) {
		list = list[:top]
	}
	return list
}

// filtered returns the layers that re matches.
func filtered(layers []inspect.Layer, re *regexp.Regexp) []inspect.Layer {
	if re == nil {
		return layers
	}
	kept := []inspect.Layer{}
	for _, l := range layers {
		if re.MatchString(l.Name) || re.MatchString(l.Op) || l.Scope != "" && re.MatchString(l.Scope) {
			kept = append(kept, l)
		}
	}
	return kept
}

// groups sums up layers by the first depth parts of their module paths, in the
// order in which the groups begin.
func groups(layers []inspect.Layer, depth int) []Group {
	list := []Group{}
	at := map[string]int{}
	for i := range layers {
		l := &layers[i]
		name := moduleName(Modules(l), depth)
		g, ok := at[name]
		if !ok {
			g = len(list)
			at[name] = g
			list = append(list, Group{Name: name})
		}
		list[g].add(l)
	}
	return list
}

// tensors returns what s leaves of a model's tensors; layers are those that its
// filter leaves.
func (s Selection) tensors(all []inspect.TensorStats, layers []inspect.Layer) []inspect.TensorStats {
	if all == nil {
		return nil
	}
	if s.Filter != nil {
		read := map[[2]string]bool{}
		for _, l := range layers {
			for _, name := range []string{l.Weight, l.Bias} {
				// A nested graph reads what is stored around it, too.
				read[[2]string{l.Scope, name}], read[[2]string{"", name}] = true, true
			}
		}
		kept := []inspect.TensorStats{}
		for _, t := range all {
			if t.Name != "" && read[[2]string{t.Scope, t.Name}] || s.Filter.MatchString(t.Name) {
				kept = append(kept, t)
			}
		}
		all = kept
	}
	if s.Top <= 0 {
		return all
	}
	by := ByMemory
	if s.Sort == ByPosition {
		by = ByPosition
	}
	return pick(all, by, s.Top, func(t inspect.TensorStats) measure { return measure{memory: t.Bytes} })
}
