package inspect

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

// evaluate returns the value of a term for given symbols; nil when it is
// unknown.
func evaluate(t term, env map[string]int64) *big.Int {
	if t.kind != integerTerm {
		return nil
	}
	sum := new(big.Int)
	for _, p := range t.monomials() {
		v := big.NewInt(p.k)
		for _, s := range p.syms {
			if !strings.HasPrefix(s, rounded) {
				v.Mul(v, big.NewInt(env[s]))
				continue
			}
			num, den, ok := decodeFloor(s)
			if !ok {
				return nil
			}
			v.Mul(v, bigFloor(evaluate(num, env), big.NewInt(den)))
		}
		sum.Add(sum, v)
	}
	return sum
}

func bigFloor(a, b *big.Int) *big.Int {
	q, r := new(big.Int).QuoRem(a, b, new(big.Int))
	if r.Sign() != 0 && r.Sign() != b.Sign() {
		q.Sub(q, big.NewInt(1))
	}
	return q
}

// randomTerm makes a polynomial by the operations themselves, so that it is
// what shape arithmetic meets.
func randomTerm(rng *rand.Rand, depth int) term {
	constants := []int64{-1, 0, 1, 2, 3, 7, 49, -12, 1 << 40, -1 << 62, 1<<63 - 1, -1 << 63}
	if rng.IntN(3) > 0 {
		constants = constants[:8]
	}
	if depth == 0 {
		if rng.IntN(2) == 0 {
			return integer(constants[rng.IntN(len(constants))])
		}
		return symbol([]string{"a", "b", "c"}[rng.IntN(3)])
	}
	x, y := randomTerm(rng, depth-1), randomTerm(rng, rng.IntN(depth))
	switch rng.IntN(6) {
	case 0, 1:
		return addTerm(x, y)
	case 2:
		return subTerm(x, y)
	case 3:
		return mulTerm(x, y)
	case 4:
		return floorTerm(x, 1+rng.Int64N(8))
	}
	return x
}

// Whatever a term operation claims must hold for every value of the symbols.
func TestTermsHoldForEverySymbol(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	operations := []struct {
		name string
		term func(a, b term) term
		big  func(a, b *big.Int) *big.Int
	}{
		{"+", addTerm, func(a, b *big.Int) *big.Int { return new(big.Int).Add(a, b) }},
		{"-", subTerm, func(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }},
		{"*", mulTerm, func(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }},
		{"/", divTerm, func(a, b *big.Int) *big.Int {
			if b.Sign() == 0 {
				return nil
			}
			return new(big.Int).Quo(a, b)
		}},
		{"exact /", exactTerm, func(a, b *big.Int) *big.Int {
			if b.Sign() == 0 {
				return nil
			}
			q, r := new(big.Int).QuoRem(a, b, new(big.Int))
			if r.Sign() != 0 {
				return nil
			}
			return q
		}},
		{"floor /", func(a, b term) term {
			if n, ok := b.number(); ok {
				return floorTerm(a, n)
			}
			return term{}
		}, func(a, b *big.Int) *big.Int { return bigFloor(a, b) }},
		{"steps", func(a, b term) term { return steps(a, b, 3) }, func(a, b *big.Int) *big.Int {
			n := bigFloor(new(big.Int).Add(new(big.Int).Sub(b, a), big.NewInt(2)), big.NewInt(3))
			if n.Sign() < 0 {
				n.SetInt64(0)
			}
			return n
		}},
	}
	known := map[string]int{}
	for range 200_000 {
		a, b := randomTerm(rng, rng.IntN(4)), randomTerm(rng, rng.IntN(4))
		switch rng.IntN(8) {
		case 0:
			b = addTerm(a, integer(rng.Int64N(5)-2))
		case 1:
			a = mulTerm(a, b) // so that it divides
		}
		env := map[string]int64{"a": 1 + rng.Int64N(9), "b": 1 + rng.Int64N(9), "c": 1 + rng.Int64N(1000)}
		x, y := evaluate(a, env), evaluate(b, env)
		if x == nil || y == nil {
			continue
		}
		context := func() string {
			return fmt.Sprintf("%s and %s at %v, which are %v and %v", a.text(), b.text(), env, x, y)
		}
		for _, op := range operations {
			r := evaluate(op.term(a, b), env)
			if r == nil {
				continue
			}
			if a.symbolic() && b.symbolic() || op.name == "floor /" && a.symbolic() {
				known[op.name]++
			}
			if want := op.big(x, y); want == nil || r.Cmp(want) != 0 {
				t.Fatalf("%s: %s is %v, want %v", op.name, context(), r, want)
			}
		}
		if same(a, b) {
			known["same"]++
			if x.Cmp(y) != 0 {
				t.Fatalf("same: %s", context())
			}
		}
		if differ(a, b) {
			known["differ"]++
			if x.Cmp(y) == 0 {
				t.Fatalf("differ: %s", context())
			}
		}
		if l, ok := less(a, b); ok {
			known["less"]++
			if l != (x.Cmp(y) < 0) {
				t.Fatalf("less: %s", context())
			}
		}
		if low, ok := a.lower(); ok && x.Cmp(big.NewInt(low)) < 0 {
			t.Fatalf("lower %d: %s", low, context())
		}
		if high, ok := a.upper(); ok && x.Cmp(big.NewInt(high)) > 0 {
			t.Fatalf("upper %d: %s", high, context())
		}
		// What is put to one must be the value at one.
		env["a"] = 1
		if r := evaluate(a.at(map[string]bool{"a": true}), env); r != nil && r.Cmp(evaluate(a, env)) != 0 {
			t.Fatalf("at: %s: %v", context(), r)
		}
		env["a"] = 1 + rng.Int64N(9)
		// A polynomial is built from its text's own parts in any order.
		if c := addTerm(addTerm(a, symbol("z")), subTerm(b, symbol("z"))); c.kind == integerTerm {
			if d := addTerm(b, a); d.kind == integerTerm && !same(c, d) {
				t.Fatalf("canonical form: %s: %s and %s", context(), c.text(), d.text())
			}
		}
	}
	for _, name := range []string{"+", "-", "*", "/", "exact /", "floor /", "steps", "same", "differ", "less"} {
		if known[name] < 2_000 {
			t.Errorf("%s: only %d results were known", name, known[name])
		}
	}
}

// Symbols that stand for divisions come from shape arithmetic alone, but a file
// may hold any name.
func FuzzDecodeFloor(f *testing.F) {
	f.Add(floorTerm(addTerm(symbol("height"), integer(1)), 2).syms[0])
	f.Add(rounded)
	f.Add(rounded + "\x02\xff\xff\xff\xff\x0f")
	f.Fuzz(func(t *testing.T, s string) {
		num, den, ok := decodeFloor(s)
		if !ok {
			return
		}
		if den < 1 {
			t.Errorf("divisor %d", den)
		}
		num.symbols()
	})
}

// cutSymbolic agrees with cut wherever it claims a length.
func TestSymbolicCuts(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	known := 0
	for range 100_000 {
		dim, start, end := randomTerm(rng, rng.IntN(3)).dim(), randomTerm(rng, rng.IntN(3)), randomTerm(rng, rng.IntN(3))
		switch rng.IntN(4) {
		case 0:
			end = dim
		case 1:
			end = integer(math.MaxInt64)
		}
		env := map[string]int64{"a": 1 + rng.Int64N(9), "b": 1 + rng.Int64N(9), "c": 1 + rng.Int64N(20)}
		d, s, e := evaluate(dim, env), evaluate(start, env), evaluate(end, env)
		if d == nil || s == nil || e == nil || d.Sign() < 0 || !d.IsInt64() || !s.IsInt64() || !e.IsInt64() || d.Int64() > maxExtent {
			continue
		}
		step := 1 + rng.Int64N(3)
		got, _ := cutSymbolic(dim, start, end, step)
		v := evaluate(got, env)
		if v == nil {
			continue
		}
		if got.symbolic() {
			known++
		}
		want, _ := cut(integer(d.Int64()), integer(s.Int64()), integer(e.Int64()), step)
		if w, ok := want.number(); !ok || v.Cmp(big.NewInt(w)) != 0 {
			t.Fatalf("%s[%s:%s:%d] at %v: %v, want %v", dim.text(), start.text(), end.text(), step, env, v, w)
		}
	}
	if known < 3_000 {
		t.Errorf("only %d lengths were known", known)
	}
}

func TestTermNames(t *testing.T) {
	b := symbol("batch")
	for _, c := range []struct {
		term term
		want string
	}{
		{b, "batch"},
		{mulTerm(integer(49), b), "batch*49"},
		{mulTerm(symbol("h"), mulTerm(integer(2), b)), "batch*h*2"},
		{divTerm(mulTerm(integer(49), b), integer(7)), "batch*7"},
		{divTerm(mulTerm(integer(49), b), b), "49"},
		{divTerm(b, integer(2)), "floor(batch/2)"},
		{divTerm(subTerm(b, integer(2)), integer(2)), "?"}, // may be negative
		{addTerm(b, b), "batch*2"},
		{addTerm(b, integer(1)), "batch + 1"},
		{subTerm(b, integer(1)), "batch - 1"},
		{subTerm(integer(9), b), "9 - batch"},
		{subTerm(integer(1), b), "1 - batch"},
		{subTerm(integer(0), b), "?"},
		{addTerm(symbol("seq"), symbol("past")), "past + seq"},
		{mulTerm(b, addTerm(symbol("seq"), symbol("past"))), "batch*past + batch*seq"},
		{exactTerm(mulTerm(b, addTerm(symbol("seq"), symbol("past"))), addTerm(symbol("seq"), symbol("past"))), "batch"},
		{floorTerm(subTerm(symbol("height"), integer(1)), 2), "floor((height + 1)/2) - 1"},
		{addTerm(floorTerm(subTerm(symbol("height"), integer(1)), 2), integer(1)), "floor((height + 1)/2)"},
		{ceilTerm(ceilTerm(ceilTerm(symbol("height"), 2), 2), 8), "floor((height + 31)/32)"},
		{mulTerm(floorTerm(symbol("height"), 2), integer(2)), "floor(height/2)*2"},
		{floorTerm(mulTerm(floorTerm(symbol("height"), 2), integer(2)), 2), "floor(height/2)"},
		{floorTerm(mulTerm(b, integer(3)), 2), "batch + floor(batch/2)"},
		{addTerm(nameless("x", 0), integer(1)), "?"},
		{floorTerm(nameless("x", 0), 2), "?"},
		{symbol(anonymous + "b"), "?"},
		{symbol(rounded + "b"), "?"},
		{subTerm(b, b), "0"},
		{nameless("x", 0), "?"},
		{mulTerm(nameless("x", 0), b), "?"},
		{integer(-1), "?"},
		{term{}, "?"},
	} {
		if got := c.term.outer().String(); got != c.want {
			t.Errorf("%v prints as %q, want %q", c.term, got, c.want)
		}
	}
}
