package inspect

// A Settled is one dimension or one folded number, worked out for given sizes
// of the symbols.
type Settled struct {
	Kind  SettledKind
	Int   int64
	Float float64
	// Text is what a report says.
	Text string
}

// SettledKind says how much is known.
type SettledKind int

// Unbound is a symbol that no input has: what a file declares of an output
// whose shape does not follow from anything.
const (
	Unknown SettledKind = iota
	Number
	Symbolic
	Real
	Unbound
)

func settle(t term, sizes map[string]int64) Settled {
	s := Settled{Text: t.outer().String()}
	switch t.kind {
	case floatTerm:
		s.Kind, s.Float = Real, t.f
	case integerTerm:
		if n, ok := t.number(); ok {
			s.Kind, s.Int = Number, n
			return s
		}
		for _, name := range t.symbols() {
			if _, ok := sizes[name]; !ok {
				s.Kind = Unbound
				return s
			}
		}
		s.Kind = Symbolic
		v := evaluate(t, sizes)
		if !v.IsInt64() {
			s.Kind = Unknown
			return s
		}
		s.Int = v.Int64()
	}
	return s
}

// SettledShape returns the inferred dimensions of a tensor, not ok when their
// number is not known.
func (g *Graph) SettledShape(name string, sizes map[string]int64) (dims []Settled, ok bool) {
	t := g.tensors[name]
	for _, d := range t.shape {
		dims = append(dims, settle(d, sizes))
	}
	return dims, t.known
}

// SettledValue returns the folded numbers of a tensor, nil when there are none.
func (g *Graph) SettledValue(name string, sizes map[string]int64) []Settled {
	v := g.valueOf(name)
	if v == nil {
		return nil
	}
	out := make([]Settled, len(v.e))
	for i, t := range v.e {
		out[i] = settle(t, sizes)
	}
	return out
}

// BindSizes adds the symbols of an input's declared shape to sizes. It is not
// ok when the dimensions contradict the declaration or each other, or when a
// symbol would be zero.
func (g *Graph) BindSizes(input string, dims []int64, sizes map[string]int64) bool {
	t := g.tensors[input]
	if !t.known {
		return true
	}
	if len(t.shape) != len(dims) {
		return false
	}
	for i, d := range t.shape {
		if n, ok := d.number(); ok {
			if n != dims[i] {
				return false
			}
			continue
		}
		for _, name := range d.symbols() {
			if old, ok := sizes[name]; ok && old != dims[i] || dims[i] < 1 {
				return false
			}
			sizes[name] = dims[i]
		}
	}
	return true
}

// InputSymbols returns the symbol of each dimension of an input, "" for a
// number; not ok when their number is not declared.
func (g *Graph) InputSymbols(input string) (symbols []string, numbers []int64, ok bool) {
	t := g.tensors[input]
	for _, d := range t.shape {
		n, _ := d.number()
		name := ""
		if s := d.symbols(); len(s) > 0 {
			name = s[0]
		}
		symbols, numbers = append(symbols, name), append(numbers, n)
	}
	return symbols, numbers, t.known
}

// Ruled tells whether a node's outputs follow from a rule.
func (g *Graph) Ruled(n *Node) bool { return g.rule(n) != nil }
