package inspect

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
)

// at evaluates a term for given symbols; nil when it is unknown.
func evaluate(t term, env map[string]int64) *big.Int {
	if t.kind != integerTerm {
		return nil
	}
	v := big.NewInt(t.k)
	for _, s := range t.syms {
		v.Mul(v, big.NewInt(env[s]))
	}
	return v
}

// Whatever a term operation claims must hold for every value of the symbols.
func TestTermsHoldForEverySymbol(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "c"}
	random := func() term {
		k := []int64{-1, 0, 1, 2, 3, 7, 49, -12, 1 << 40, -1 << 62, 1<<63 - 1, -1 << 63}[rng.IntN(12)]
		x := integer(k)
		for range rng.IntN(3) {
			x = mulTerm(x, symbol(names[rng.IntN(3)]))
		}
		return x
	}
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
	}
	known := 0
	for range 200_000 {
		a, b := random(), random()
		env := map[string]int64{"a": 1 + rng.Int64N(9), "b": 1 + rng.Int64N(9), "c": 1 + rng.Int64N(1000)}
		x, y := evaluate(a, env), evaluate(b, env)
		if x == nil || y == nil {
			continue
		}
		context := func() string { return fmt.Sprintf("%v %v at %v", a, b, env) }
		for _, op := range operations {
			r := evaluate(op.term(a, b), env)
			if r == nil {
				continue
			}
			known++
			if want := op.big(x, y); want == nil || r.Cmp(want) != 0 {
				t.Fatalf("%s: %s is %v, want %v", op.name, context(), r, want)
			}
		}
		if same(a, b) && x.Cmp(y) != 0 {
			t.Fatalf("same: %s", context())
		}
		if differ(a, b) && x.Cmp(y) == 0 {
			t.Fatalf("differ: %s", context())
		}
		if l, ok := less(a, b); ok && l != (x.Cmp(y) < 0) {
			t.Fatalf("less: %s", context())
		}
	}
	if known < 100_000 {
		t.Errorf("only %d results were known", known)
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
		{divTerm(b, integer(2)), "?"},
		{addTerm(b, b), "batch*2"},
		{addTerm(b, integer(1)), "?"},
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
