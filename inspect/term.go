package inspect

import (
	"math"
	"math/bits"
	"slices"
	"sort"
	"strconv"
	"strings"
)

const (
	// maxSymbols bounds a product of symbols, maxSymbol the length of one name;
	// beyond, a dimension is unknown. Real models stay far below.
	maxSymbols = 6
	maxSymbol  = 128
	// anonymous begins the symbol of an input dimension without a name, so that
	// it can be followed through the graph. It never reaches a Dim.
	anonymous = "\x00"
)

// A term is a number in shape arithmetic: an integer times symbols, a real
// number (in the shape arithmetic of Resize), or unknown, which is the zero
// term. Symbols stand for positive integers.
type term struct {
	kind termKind
	k    int64
	syms []string // sorted, never modified
	f    float64
}

type termKind uint8

const (
	unknownTerm termKind = iota
	integerTerm
	floatTerm
)

func integer(k int64) term { return term{kind: integerTerm, k: k} }
func float(f float64) term { return term{kind: floatTerm, f: f} }

func symbol(name string) term {
	if name == "" || len(name) > maxSymbol {
		return term{}
	}
	return term{kind: integerTerm, k: 1, syms: []string{name}}
}

func truth(b bool) term {
	if b {
		return integer(1)
	}
	return integer(0)
}

func integers(v []int64) []term {
	t := make([]term, len(v))
	for i, k := range v {
		t[i] = integer(k)
	}
	return t
}

// number returns the value of an integer without symbols.
func (t term) number() (int64, bool) {
	return t.k, t.kind == integerTerm && len(t.syms) == 0
}

func (t term) is(k int64) bool { n, ok := t.number(); return ok && n == k }

// dim returns t as a dimension; a negative number is none.
func (t term) dim() term {
	if t.kind != integerTerm || t.k < 0 {
		return term{}
	}
	return t
}

// same tells whether a and b are certainly equal.
func same(a, b term) bool {
	if a.kind != b.kind || a.kind == unknownTerm {
		return false
	}
	if a.kind == floatTerm {
		return a.f == b.f
	}
	return a.k == b.k && slices.Equal(a.syms, b.syms)
}

// differ tells whether a and b are certainly not equal. Symbols are positive,
// so a symbolic term differs from every number of the other sign.
func differ(a, b term) bool {
	if a.kind == floatTerm && b.kind == floatTerm {
		return a.f != b.f
	}
	if a.kind != integerTerm || b.kind != integerTerm {
		return false
	}
	if slices.Equal(a.syms, b.syms) {
		return a.k != b.k
	}
	return (a.k > 0) != (b.k > 0) || (a.k < 0) != (b.k < 0)
}

func mulTerm(a, b term) term {
	if a.is(0) || b.is(0) {
		return integer(0)
	}
	switch {
	case a.kind == floatTerm && b.kind == floatTerm:
		return float(a.f * b.f)
	case a.kind != integerTerm || b.kind != integerTerm:
		return term{}
	}
	k, ok := mul64(a.k, b.k)
	if !ok || len(a.syms)+len(b.syms) > maxSymbols {
		return term{}
	}
	t := integer(k)
	switch {
	case len(a.syms) == 0:
		t.syms = b.syms
	case len(b.syms) == 0:
		t.syms = a.syms
	default:
		t.syms = append(append(make([]string, 0, len(a.syms)+len(b.syms)), a.syms...), b.syms...)
		sort.Strings(t.syms)
	}
	return t
}

func mul64(a, b int64) (int64, bool) {
	if a == math.MinInt64 || b == math.MinInt64 {
		return 0, false
	}
	hi, lo := bits.Mul64(uint64(max(a, -a)), uint64(max(b, -b)))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if (a < 0) != (b < 0) {
		return -int64(lo), true
	}
	return int64(lo), true
}

// divTerm divides as ONNX does, truncating; with symbols only where the
// division is exact.
func divTerm(a, b term) term {
	switch {
	case a.kind == floatTerm && b.kind == floatTerm:
		return float(a.f / b.f)
	case a.kind != integerTerm || b.kind != integerTerm || b.k == 0:
		return term{}
	case a.k == math.MinInt64:
		return term{}
	case len(a.syms) == 0 && len(b.syms) == 0:
		return integer(a.k / b.k)
	case a.k == 0:
		return integer(0)
	case a.k%b.k != 0:
		return term{}
	}
	left := slices.Clone(a.syms)
	for _, s := range b.syms {
		i := slices.Index(left, s)
		if i < 0 {
			return term{}
		}
		left = slices.Delete(left, i, i+1)
	}
	t := integer(a.k / b.k)
	if len(left) > 0 {
		t.syms = left
	}
	return t
}

func addTerm(a, b term) term {
	switch {
	case a.kind == floatTerm && b.kind == floatTerm:
		return float(a.f + b.f)
	case a.kind != integerTerm || b.kind != integerTerm:
		return term{}
	case a.is(0):
		return b
	case b.is(0):
		return a
	case !slices.Equal(a.syms, b.syms):
		return term{}
	}
	k := a.k + b.k
	if (k > a.k) != (b.k > 0) {
		return term{} // beyond 64 bits
	}
	if k == 0 {
		return integer(0)
	}
	return term{kind: integerTerm, k: k, syms: a.syms}
}

func negTerm(a term) term {
	switch {
	case a.kind == floatTerm:
		return float(-a.f)
	case a.kind == integerTerm && a.k != math.MinInt64:
		a.k = -a.k
		return a
	}
	return term{}
}

func subTerm(a, b term) term { return addTerm(a, negTerm(b)) }

// less tells whether a < b, as far as that is certain.
func less(a, b term) (result, ok bool) {
	if a.kind == floatTerm && b.kind == floatTerm {
		return a.f < b.f, true
	}
	if a.kind != integerTerm || b.kind != integerTerm {
		return false, false
	}
	if slices.Equal(a.syms, b.syms) {
		return a.k < b.k, true
	}
	// Of a symbol no more is known than that it is at least one.
	if len(a.syms) == 0 && b.k >= 0 {
		return a.k < b.k, a.k < b.k || b.k == 0
	}
	if len(b.syms) == 0 && a.k >= 0 && a.k >= b.k {
		return false, true
	}
	return false, false
}

func productTerm(ts []term) term {
	p := integer(1)
	for _, t := range ts {
		p = mulTerm(p, t)
	}
	return p
}

// outer returns t as the outside sees it.
func (t term) outer() Dim {
	if k, ok := t.number(); ok && k >= 0 {
		return Dim{Value: k}
	}
	d := Dim{Value: -1}
	if t.kind != integerTerm || t.k <= 0 {
		return d
	}
	for _, s := range t.syms {
		if strings.HasPrefix(s, anonymous) {
			return d
		}
	}
	d.Name = strings.Join(t.syms, "*")
	if t.k != 1 {
		d.Name += "*" + strconv.FormatInt(t.k, 10)
	}
	return d
}

// at replaces symbols by one.
func (t term) at(ones map[string]bool) term {
	if len(t.syms) == 0 {
		return t
	}
	var left []string
	for _, s := range t.syms {
		if !ones[s] {
			left = append(left, s)
		}
	}
	t.syms = left
	return t
}

// symbols returns the symbols that t depends on.
func (t term) symbols() []string { return t.syms }
