package report

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/filterlens/filterlens/inspect"
)

// An Order is what layers, groups and tensors are sorted by.
type Order string

// The orders. All but ByPosition put first what is not or not wholly known, since
// it may be the largest, then the largest; what is equal stays in the order of the
// model.
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

// A Sum is that of some layers, made as the totals of a model are
// (inspect.LayerSum): a tensor that several of them share counts once, a layer in
// the body of a loop as often as it runs.
type Sum struct {
	Layers            int   `json:"layers"`
	Parameters        int64 `json:"parameters"`
	ParametersUnknown int   `json:"parameters_unknown,omitempty"`
	// MACs sums what is known, nil when nothing is; MACsUnknown counts the
	// layers left out.
	MACs        *int64 `json:"macs"`
	MACsUnknown int    `json:"macs_unknown"`
	WeightBytes int64  `json:"weight_bytes"`
	// OutBytes sums the outputs of one run of each layer, nil when none is known;
	// OutBytesUnknown counts those left out.
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

func sumOf(m *inspect.Model, layers []inspect.Layer) Sum {
	x := m.SumLayers(layers)
	s := Sum{Layers: len(layers), Parameters: x.Parameters, ParametersUnknown: x.ParametersUnknown, MACs: x.MACs, MACsUnknown: x.MACsUnknown, WeightBytes: x.WeightBytes}
	for _, l := range layers {
		s.OutBytes, s.OutBytesUnknown = plusKnown(s.OutBytes, s.OutBytesUnknown, l.OutBytes)
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

// A measure is what an order compares: as much as is known, and whether that is
// all.
type measure struct {
	known   int64
	partial bool
}

func layerMeasure(m *inspect.Model, by Order) func(inspect.Layer) measure {
	return func(l inspect.Layer) measure {
		s := Sum{Parameters: l.Parameters, ParametersUnknown: parametersUnknown(m, &l), WeightBytes: l.WeightBytes, MACs: l.MACs, OutBytes: l.OutBytes}
		if l.MACs == nil {
			s.MACsUnknown = 1
		}
		if l.OutBytes == nil {
			s.OutBytesUnknown = 1
		}
		return s.measure(by)
	}
}

func groupMeasure(by Order) func(Group) measure {
	return func(g Group) measure { return g.measure(by) }
}

func (s *Sum) measure(by Order) measure {
	value := func(p *int64) int64 {
		if p == nil {
			return 0
		}
		return *p
	}
	switch by {
	case ByParameters:
		return measure{s.Parameters, s.ParametersUnknown > 0}
	case ByMACs:
		return measure{value(s.MACs), s.MACsUnknown > 0}
	case ByMemory:
		return measure{plus(s.WeightBytes, value(s.OutBytes)), s.OutBytesUnknown > 0}
	}
	return measure{}
}

// parametersUnknown counts the weights of a layer that its parameters leave out.
func parametersUnknown(m *inspect.Model, l *inspect.Layer) int {
	if m.Totals.ParametersUnknown == 0 {
		return 0
	}
	return m.SumLayers([]inspect.Layer{*l}).ParametersUnknown
}

// pick sorts a copy of list and leaves the first top of it, all when top is 0.
// partial counts those of the copy that are not wholly known.
func pick[T any](list []T, top int, of func(T) measure) (picked []T, partial int) {
	type measured struct {
		item T
		measure
	}
	all := make([]measured, len(list))
	for i, v := range list {
		if all[i] = (measured{v, of(v)}); all[i].partial {
			partial++
		}
	}
	slices.SortStableFunc(all, func(a, b measured) int {
		switch {
		case a.partial == b.partial:
			return cmp.Compare(b.known, a.known)
		case a.partial:
			return -1
		}
		return 1
	})
	if top > 0 && top < len(all) {
		all = all[:top]
	}
	picked = make([]T, len(all))
	for i, v := range all {
		picked[i] = v.item
	}
	return picked, partial
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
func groups(m *inspect.Model, layers []inspect.Layer, depth int) []Group {
	list := []Group{}
	in := map[string][]inspect.Layer{}
	for i := range layers {
		name := moduleName(Modules(&layers[i]), depth)
		if in[name] == nil {
			list = append(list, Group{Name: name})
		}
		in[name] = append(in[name], layers[i])
	}
	for i := range list {
		list[i].Sum = sumOf(m, in[list[i].Name])
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
	all, _ = pick(all, s.Top, func(t inspect.TensorStats) measure {
		if s.Sort == ByPosition {
			return measure{}
		}
		return measure{known: t.Bytes}
	})
	return all
}
