package inspect

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxSymbols bounds the factors of a product, maxMonomials the products of a
	// sum, maxSymbol the length of one name and maxFloor that of a rounded
	// division in its encoded form; beyond, a number is unknown. Real models
	// stay far below.
	maxSymbols   = 6
	maxMonomials = 8
	maxSymbol    = 128
	maxFloor     = 512
	// anonymous begins the symbol of an input dimension without a name, so that
	// it can be followed through the graph. It never reaches a Dim.
	anonymous = "\x00"
	// rounded begins a symbol that stands for a division rounded down; see
	// floorTerm. It sorts behind all names, for no UTF-8 text has this byte.
	rounded = "\xff"
)

// A term is a number in shape arithmetic: an integer polynomial in symbols, a
// real number (in the shape arithmetic of Resize), or unknown, which is the zero
// term. Symbols stand for positive integers, large enough for every window to fit
// into what it slides over (where one does not, runtimes differ).
//
// The polynomial is a sum of products in a canonical order, the longest product
// first and the number without symbols last, so that equal polynomials are equal
// terms. Most have one product only, which k and syms hold; more holds the rest.
type term struct {
	kind termKind
	k    int64
	syms []string // sorted, never modified
	f    float64
	tail *[]monomial // what is added, nil for nothing; never modified
}

// more returns the monomials that are added to the first one. Few terms have any,
// and there are many terms: the pointer keeps them small.
func (t term) more() []monomial {
	if t.tail == nil {
		return nil
	}
	return *t.tail
}

// A monomial is an integer times symbols.
type monomial struct {
	k    int64
	syms []string // sorted, never modified
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
	if name == "" || len(name) > maxSymbol || strings.HasPrefix(name, anonymous) || strings.HasPrefix(name, rounded) {
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

// symbolic tells whether t is an integer that depends on symbols.
func (t term) symbolic() bool { return t.kind == integerTerm && len(t.syms) > 0 }

// dim returns t as a dimension; a number that is certainly negative is none.
func (t term) dim() term {
	if t.kind != integerTerm || t.tail == nil && t.k < 0 {
		return term{}
	}
	if t.tail == nil {
		return t
	}
	if high, ok := t.upper(); ok && high < 0 {
		return term{}
	}
	return t
}

// monomials returns the sum that an integer term is.
func (t term) monomials() []monomial {
	return append([]monomial{{t.k, t.syms}}, t.more()...)
}

func compareMonomials(a, b monomial) int {
	if c := cmp.Compare(len(b.syms), len(a.syms)); c != 0 {
		return c
	}
	return slices.Compare(a.syms, b.syms)
}

// sumOf puts products in canonical form; it reorders them.
func sumOf(ps []monomial) term {
	slices.SortFunc(ps, compareMonomials)
	out := ps[:0]
	for _, p := range ps {
		if n := len(out); n > 0 && compareMonomials(out[n-1], p) == 0 {
			k, ok := add64(out[n-1].k, p.k)
			if !ok {
				return term{}
			}
			out[n-1].k = k
			continue
		}
		out = append(out, p)
	}
	out = slices.DeleteFunc(out, func(p monomial) bool { return p.k == 0 })
	switch {
	case len(out) == 0:
		return integer(0)
	case len(out) > maxMonomials:
		return term{}
	}
	t := term{kind: integerTerm, k: out[0].k, syms: out[0].syms}
	if len(out) > 1 {
		more := slices.Clone(out[1:])
		t.tail = &more
	}
	return t
}

func sameMonomial(a, b monomial) bool { return a.k == b.k && slices.Equal(a.syms, b.syms) }

// same tells whether a and b are certainly equal.
func same(a, b term) bool {
	if a.kind != b.kind || a.kind == unknownTerm {
		return false
	}
	if a.kind == floatTerm {
		return a.f == b.f
	}
	return a.k == b.k && slices.Equal(a.syms, b.syms) && slices.EqualFunc(a.more(), b.more(), sameMonomial)
}

// differ tells whether a and b are certainly not equal.
func differ(a, b term) bool {
	if a.kind == floatTerm && b.kind == floatTerm {
		return a.f != b.f
	}
	if a.kind != integerTerm || b.kind != integerTerm {
		return false
	}
	if !a.symbolic() && !b.symbolic() {
		return a.k != b.k
	}
	d := subTerm(a, b)
	if low, ok := d.lower(); ok && low > 0 {
		return true
	}
	high, ok := d.upper()
	return ok && high < 0
}

// less tells whether a < b, as far as that is certain.
func less(a, b term) (result, ok bool) {
	if a.kind == floatTerm && b.kind == floatTerm {
		return a.f < b.f, true
	}
	if a.kind != integerTerm || b.kind != integerTerm {
		return false, false
	}
	if !a.symbolic() && !b.symbolic() {
		return a.k < b.k, true
	}
	d := subTerm(a, b)
	if high, ok := d.upper(); ok && high < 0 {
		return true, true
	}
	low, ok := d.lower()
	return false, ok && low >= 0
}

// atLeast tells whether t is certainly n or more.
func (t term) atLeast(n int64) bool {
	low, ok := t.lower()
	return ok && low >= n
}

// lower returns a number that t is never below; not ok when there is none.
func (t term) lower() (int64, bool) {
	if t.kind != integerTerm {
		return 0, false
	}
	sum, ok := lowerMonomial(monomial{t.k, t.syms})
	for i := 0; ok && i < len(t.more()); i++ {
		var p int64
		if p, ok = lowerMonomial(t.more()[i]); ok {
			sum, ok = add64(sum, p)
		}
	}
	return sum, ok
}

// upper returns a number that t is never above; not ok when there is none.
func (t term) upper() (int64, bool) {
	n := negTerm(t)
	low, ok := n.lower()
	return -low, ok && low != math.MinInt64
}

// lowerMonomial: a symbol is at least one and has no upper bound.
func lowerMonomial(p monomial) (int64, bool) {
	low := p.k
	for _, s := range p.syms {
		least := int64(1)
		if strings.HasPrefix(s, rounded) {
			num, den, ok := decodeFloor(s)
			if !ok {
				return 0, false
			}
			n, ok := num.lower()
			if least = floorDiv(n, den); !ok || least < 0 {
				return 0, false
			}
		}
		var ok bool
		if low, ok = mul64(low, least); !ok {
			return 0, false
		}
	}
	return low, len(p.syms) == 0 || p.k >= 0
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
	case a.is(1):
		return b
	case b.is(1):
		return a
	}
	if a.tail == nil && b.tail == nil {
		p, ok := mulMonomials(monomial{a.k, a.syms}, monomial{b.k, b.syms})
		if !ok {
			return term{}
		}
		return term{kind: integerTerm, k: p.k, syms: p.syms}
	}
	ps := make([]monomial, 0, (1+len(a.more()))*(1+len(b.more())))
	for _, x := range a.monomials() {
		for _, y := range b.monomials() {
			p, ok := mulMonomials(x, y)
			if !ok {
				return term{}
			}
			ps = append(ps, p)
		}
	}
	return sumOf(ps)
}

func mulMonomials(a, b monomial) (monomial, bool) {
	k, ok := mul64(a.k, b.k)
	if !ok || len(a.syms)+len(b.syms) > maxSymbols {
		return monomial{}, false
	}
	switch {
	case len(a.syms) == 0:
		return monomial{k, b.syms}, true
	case len(b.syms) == 0:
		return monomial{k, a.syms}, true
	}
	syms := slices.Concat(a.syms, b.syms)
	slices.Sort(syms)
	return monomial{k, syms}, true
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

func add64(a, b int64) (int64, bool) {
	k := a + b
	return k, (k > a) == (b > 0)
}

// divTerm divides as ONNX does, truncating.
func divTerm(a, b term) term {
	switch {
	case a.kind == floatTerm && b.kind == floatTerm:
		return float(a.f / b.f)
	case a.kind != integerTerm || b.kind != integerTerm:
		return term{}
	}
	n, ok1 := a.number()
	m, ok2 := b.number()
	if ok1 && ok2 {
		if m == 0 || n == math.MinInt64 {
			return term{}
		}
		return integer(n / m)
	}
	if t := exactTerm(a, b); t.kind != unknownTerm {
		return t
	}
	if ok2 && m > 0 && a.atLeast(0) {
		return floorTerm(a, m)
	}
	return term{}
}

// exactTerm returns a / b where that is a polynomial again, else unknown.
func exactTerm(a, b term) term {
	if a.kind != integerTerm || b.kind != integerTerm || !differ(b, integer(0)) {
		return term{}
	}
	lead := monomial{b.k, b.syms}
	q := integer(0)
	for range maxMonomials {
		if a.is(0) {
			return q
		}
		p, ok := divMonomials(monomial{a.k, a.syms}, lead)
		if !ok {
			return term{}
		}
		t := term{kind: integerTerm, k: p.k, syms: p.syms}
		q, a = addTerm(q, t), subTerm(a, mulTerm(t, b))
		if q.kind == unknownTerm || a.kind == unknownTerm {
			return term{}
		}
	}
	if a.is(0) {
		return q
	}
	return term{}
}

func divMonomials(a, b monomial) (monomial, bool) {
	if b.k == 0 || a.k == math.MinInt64 || a.k%b.k != 0 {
		return monomial{}, false
	}
	if len(b.syms) == 0 {
		return monomial{a.k / b.k, a.syms}, true
	}
	left := slices.Clone(a.syms)
	for _, s := range b.syms {
		i := slices.Index(left, s)
		if i < 0 {
			return monomial{}, false
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) == 0 {
		left = nil
	}
	return monomial{a.k / b.k, left}, true
}

// floorTerm returns a / n rounded down, for n >= 1. What does not divide stays
// as a symbol that holds the rest and the divisor, so that the same division is
// the same symbol: multiples of n go out of it, common factors are cancelled, and
// a division of a division becomes one.
func floorTerm(a term, n int64) term {
	if a.kind != integerTerm || n < 1 || n > 1<<40 {
		return term{}
	}
	if k, ok := a.number(); ok {
		return integer(floorDiv(k, n))
	}
	var out, rest []monomial
	common, constant := n, int64(0)
	for _, p := range a.monomials() {
		q := floorDiv(p.k, n)
		r := p.k - q*n
		if q != 0 {
			out = append(out, monomial{q, p.syms})
		}
		switch {
		case r == 0:
		case len(p.syms) == 0:
			constant = r
		default:
			rest = append(rest, monomial{r, p.syms})
			common = gcd(common, r)
		}
	}
	if len(rest) == 0 {
		return sumOf(out) // the constant is below n
	}
	for i := range rest {
		rest[i].k /= common
	}
	n, constant = n/common, constant/common
	if n == 1 {
		return sumOf(slices.Concat(out, rest, []monomial{{constant, nil}}))
	}
	var inner term
	if s := rest[0].syms; len(rest) == 1 && rest[0].k == 1 && len(s) == 1 && strings.HasPrefix(s[0], rounded) {
		num, den, ok := decodeFloor(s[0])
		shift, ok1 := mul64(constant, den)
		total, ok2 := mul64(n, den)
		if !ok || !ok1 || !ok2 {
			return term{}
		}
		inner = floorTerm(addTerm(num, integer(shift)), total)
	} else {
		inner = encodeFloor(sumOf(append(rest, monomial{constant, nil})), n)
	}
	if len(out) == 0 {
		return inner
	}
	return addTerm(sumOf(out), inner)
}

// ceilTerm returns a / n rounded up, for n >= 1.
func ceilTerm(a term, n int64) term { return floorTerm(addTerm(a, integer(n-1)), n) }

func floorDiv(a, n int64) int64 {
	q := a / n
	if a%n < 0 {
		q--
	}
	return q
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// encodeFloor makes a symbol of a division: divisor, number of products, and of
// each its factor and its symbols.
func encodeFloor(num term, den int64) term {
	if num.kind != integerTerm {
		return term{}
	}
	ps := num.monomials()
	b := binary.AppendUvarint([]byte(rounded), uint64(den))
	b = binary.AppendUvarint(b, uint64(len(ps)))
	for _, p := range ps {
		b = binary.AppendVarint(b, p.k)
		b = binary.AppendUvarint(b, uint64(len(p.syms)))
		for _, s := range p.syms {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	if len(b) > maxFloor {
		return term{}
	}
	return term{kind: integerTerm, k: 1, syms: []string{string(b)}}
}

// decodeFloor is the reverse of encodeFloor.
func decodeFloor(symbol string) (num term, den int64, ok bool) {
	b := []byte(strings.TrimPrefix(symbol, rounded))
	ok = true
	count := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			ok = false
			return 0
		}
		b = b[n:]
		return v
	}
	den = int64(count())
	ps := make([]monomial, min(count(), maxMonomials))
	for i := range ps {
		k, n := binary.Varint(b)
		if n <= 0 {
			return term{}, 0, false
		}
		b = b[n:]
		ps[i] = monomial{k: k}
		for range min(count(), maxSymbols) {
			size := count()
			if size > uint64(len(b)) {
				return term{}, 0, false
			}
			ps[i].syms = append(ps[i].syms, string(b[:size]))
			b = b[size:]
		}
	}
	if !ok || den < 1 || len(ps) == 0 {
		return term{}, 0, false
	}
	return sumOf(ps), den, true
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
	case a.tail == nil && b.tail == nil && slices.Equal(a.syms, b.syms):
		k, ok := add64(a.k, b.k)
		switch {
		case !ok:
			return term{}
		case k == 0:
			return integer(0)
		}
		return term{kind: integerTerm, k: k, syms: a.syms}
	}
	return sumOf(append(a.monomials(), b.monomials()...))
}

func negTerm(a term) term {
	if a.kind == floatTerm {
		return float(-a.f)
	}
	if a.kind != integerTerm || a.k == math.MinInt64 {
		return term{}
	}
	a.k = -a.k
	if a.tail != nil {
		more := slices.Clone(a.more())
		a.tail = &more
		for i := range more {
			if more[i].k == math.MinInt64 {
				return term{}
			}
			more[i].k *= -1
		}
	}
	return a
}

func subTerm(a, b term) term { return addTerm(a, negTerm(b)) }

func productTerm(ts []term) term {
	p := integer(1)
	for _, t := range ts {
		p = mulTerm(p, t)
	}
	return p
}

// symbols returns the names that t depends on, some perhaps more than once.
func (t term) symbols() []string {
	if !t.symbolic() {
		return nil
	}
	var names []string
	for _, p := range t.monomials() {
		for _, s := range p.syms {
			if !strings.HasPrefix(s, rounded) {
				names = append(names, s)
			} else if num, _, ok := decodeFloor(s); ok {
				names = append(names, num.symbols()...)
			}
		}
	}
	return names
}

// outer returns t as the outside sees it.
func (t term) outer() Dim {
	if k, ok := t.number(); ok && k >= 0 {
		return Dim{Value: k}
	}
	d := Dim{Value: -1}
	if t.dim().kind == unknownTerm {
		return d
	}
	for _, s := range t.symbols() {
		if strings.HasPrefix(s, anonymous) {
			return d
		}
	}
	d.Name = t.text()
	return d
}

// text writes an integer term: "batch*49", "past + seq", "height - 3",
// "floor((height + 31)/32)".
func (t term) text() string {
	ps := t.monomials()
	// A sum should not begin with a minus if it need not.
	if i := slices.IndexFunc(ps, func(p monomial) bool { return p.k > 0 }); i > 0 {
		ps[0], ps[i] = ps[i], ps[0]
	}
	var s strings.Builder
	for i, p := range ps {
		k := p.k
		switch {
		case i > 0 && k < 0:
			s.WriteString(" - ")
		case i > 0:
			s.WriteString(" + ")
		case k < 0:
			s.WriteString("-")
		}
		factor := strings.TrimPrefix(strconv.FormatInt(k, 10), "-")
		for j, name := range p.syms {
			if j > 0 {
				s.WriteString("*")
			}
			if !strings.HasPrefix(name, rounded) {
				s.WriteString(name)
				continue
			}
			num, den, _ := decodeFloor(name)
			inner := num.text()
			if num.tail != nil {
				inner = "(" + inner + ")"
			}
			s.WriteString("floor(" + inner + "/" + strconv.FormatInt(den, 10) + ")")
		}
		switch {
		case len(p.syms) == 0:
			s.WriteString(factor)
		case factor != "1":
			s.WriteString("*" + factor)
		}
	}
	return s.String()
}

// at replaces symbols by one.
func (t term) at(ones map[string]bool) term {
	if !t.symbolic() || !slices.ContainsFunc(t.symbols(), func(s string) bool { return ones[s] }) {
		return t
	}
	sum := integer(0)
	for _, p := range t.monomials() {
		one := integer(p.k)
		for _, s := range p.syms {
			switch {
			case ones[s]:
			case strings.HasPrefix(s, rounded):
				num, den, ok := decodeFloor(s)
				if !ok {
					return term{}
				}
				one = mulTerm(one, floorTerm(num.at(ones), den))
			default:
				one = mulTerm(one, term{kind: integerTerm, k: 1, syms: []string{s}})
			}
		}
		sum = addTerm(sum, one)
	}
	return sum
}
