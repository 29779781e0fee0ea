package probe

import (
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect"
)

// The words that choose taps in Options.Taps; any other is the name of a layer or
// of a tensor.
const (
	// TapsLayer is one tap for each layer: what it hands on.
	TapsLayer = "layer"
	// TapsStage is the last tap of each stage. A block ends in a tensor through
	// which every way from the image to the labels leads; layers whose module
	// paths, which exporters build names from, agree in two elements are of one
	// block ("/layer1/layer1.0/conv1/Conv"). A stage ends with a block when the last
	// layer of the next gives maps of another size, or has another module at the
	// top of its path ("layer1"; a number behind a dot does not count).
	TapsStage = "stage"
	// TapsAll is every tensor on a layer's way, from its raw output over
	// BatchNorm and activation to the one it hands on, and those of
	// squeeze-excite gates.
	TapsAll = "all"
)

// Choose returns the taps that words name, each a constant above, a layer, or a
// tensor of the graph; those of TapsLayer when there are none. Taps of the model's
// layers come in file order, other tensors behind. What cannot be measured is an
// *UnknownLayerError with the reason.
func (s *Survey) Choose(words []string) ([]*Tap, error) {
	if len(words) == 0 {
		return s.Taps, nil
	}
	want := map[*Tap]bool{}
	inside := s.inside()
	all := inside
	for _, word := range words {
		var add []*Tap
		switch word {
		case TapsLayer:
			add = s.Taps
		case TapsStage:
			add = s.stages()
		case TapsAll:
			add = inside
		default:
			t, err := s.named(word, all)
			if err != nil {
				return nil, err
			}
			if add = []*Tap{t}; !slices.Contains(all, t) {
				all = append(all[:len(all):len(all)], t)
			}
		}
		for _, t := range add {
			want[t] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(t *Tap) bool { return !want[t] }), nil
}

// restrict leaves the taps of the named layers or tensors, all when there are no
// names.
func (s *Survey) restrict(taps []*Tap, names []string) ([]*Tap, error) {
	if len(names) == 0 {
		return taps, nil
	}
	want := map[string]bool{}
	for _, name := range names {
		t, err := s.named(name, taps)
		if err != nil {
			return nil, err
		}
		want[t.Tensor] = true
	}
	var left []*Tap
	var known []string
	for _, t := range taps {
		known = append(known, t.Layers...)
		if want[t.Tensor] {
			left = append(left, t)
		}
	}
	if len(left) == 0 {
		return nil, &UnknownLayerError{Layer: names[0], Reason: "it is not among the taps that were chosen", Known: known}
	}
	return left, nil
}

// named returns the tap of a layer or of a tensor of the graph, that of taps where
// these have it.
func (s *Survey) named(name string, taps []*Tap) (*Tap, error) {
	if t := s.LayerTap(name); t != nil {
		return t, nil
	}
	if t := s.Tap(name); t != nil {
		return t, nil
	}
	if s.Classifier != nil && s.Classifier.Layer == name {
		return nil, &UnknownLayerError{Layer: name, Reason: "it is the classifier; its outputs are labels"}
	}
	for _, sk := range s.Skipped {
		if sk.Layer == name {
			return nil, &UnknownLayerError{Layer: name, Reason: sk.Reason}
		}
	}
	if i := slices.IndexFunc(taps, func(t *Tap) bool { return t.Tensor == name }); i >= 0 {
		return taps[i], nil
	}
	var known []string
	for _, t := range s.Taps {
		known = append(known, t.Layers...)
	}
	if s.w.g.Producer(name) == nil {
		return nil, &UnknownLayerError{Layer: name, Known: known}
	}
	if !s.w.g.DType(name).IsFloat() {
		return nil, &UnknownLayerError{Layer: name, Reason: "its numbers are of type " + s.w.g.DType(name).String()}
	}
	t, reason := newTap(s.w.g, place{tensor: name}, s.rows)
	if reason != "" {
		return nil, &UnknownLayerError{Layer: name, Reason: reason}
	}
	t.asTensor(s.w.g)
	return t, nil
}

// asTensor names a tap that is not what a layer hands on.
func (t *Tap) asTensor(g *inspect.Graph) {
	t.Inner, t.Layers, t.Parts = true, []string{t.Tensor}, nil
	if n := g.Producer(t.Tensor); n != nil {
		t.Op = n.Op
	}
}

// inside returns the taps, and those of the tensors inside layers, in file order.
func (s *Survey) inside() []*Tap {
	w := s.w
	seen := map[string]bool{s.Output.Name: true}
	var taps []*Tap
	for i := range s.layers {
		l := &s.layers[i]
		if l.Scope != "" || l.Op != "Conv" && l.Op != "Gemm" && l.Op != "MatMul" || s.Classifier != nil && l.Node == s.Classifier.Node {
			continue
		}
		at := w.begin(l)
		end := w.follow(at).tensor
		for {
			if !seen[at.tensor] && !w.endsInOutput(at.tensor, s.Output.Name) {
				seen[at.tensor] = true
				if t := s.Tap(at.tensor); t != nil {
					taps = append(taps, t)
				} else if t, reason := newTap(s.w.g, at, s.rows); reason == "" {
					t.asTensor(s.w.g)
					taps = append(taps, t)
				}
			}
			next, ok := w.step(at)
			if at.tensor == end || !ok {
				break
			}
			at = next
		}
	}
	at := w.positions()
	slices.SortStableFunc(taps, func(a, b *Tap) int { return at[a.Tensor] - at[b.Tensor] })
	return taps
}

// stages returns the last tap of each stage.
func (s *Survey) stages() []*Tap {
	type block struct {
		path, top string
		side      [2]int64
		last      *Tap
	}
	var blocks []block
	necks := s.w.necks(s.Input.Name, s.Output.Name)
	open := false
	for _, t := range s.Taps {
		b := block{side: s.sides[t], last: t}
		path := strings.FieldsFunc(t.Layers[len(t.Layers)-1], func(r rune) bool { return r == '/' })
		if len(path) > 2 { // the last element is the operator
			b.top, _, _ = strings.Cut(path[0], ".")
			b.path = path[0] + "/" + path[1]
		}
		if n := len(blocks); n > 0 && (open || b.path != "" && blocks[n-1].path == b.path) {
			blocks[n-1] = b
		} else {
			blocks = append(blocks, b)
		}
		open = !necks[t.Tensor]
	}
	var taps []*Tap
	for i, b := range blocks {
		if i+1 == len(blocks) || blocks[i+1].side != b.side || blocks[i+1].top != b.top {
			taps = append(taps, b.last)
		}
	}
	return taps
}
