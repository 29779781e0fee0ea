package inspect

import (
	"slices"
	"strings"
)

// An einsumCall is what an Einsum works on: the size of each letter, how often it
// occurs, and what the ellipsis stands for in each operand.
type einsumCall struct {
	size     map[byte]term
	count    map[byte]int
	wide     [][]term
	right    string
	explicit bool
}

// readEinsum reads the equation as numpy.einsum does: a letter stands for a
// dimension, an ellipsis for those that broadcast.
func readEinsum(c *call) (e einsumCall, ok bool) {
	equation := strings.Join(strings.Fields(c.AttrString("equation", "")), "")
	left, right, explicit := strings.Cut(equation, "->")
	operands := strings.Split(left, ",")
	if len(equation) > 1024 || len(operands) != len(c.Inputs) {
		return e, false
	}
	e = einsumCall{size: make(map[byte]term), count: make(map[byte]int), right: right, explicit: explicit}
	for i, labels := range operands {
		t := c.in(i)
		if !t.known {
			return e, false
		}
		front, back, dots := strings.Cut(labels, "...")
		if !letters(front) || !letters(back) {
			return e, false
		}
		rest := len(t.shape) - len(front) - len(back)
		if rest < 0 || rest > 0 && !dots {
			return e, false
		}
		if dots {
			e.wide = append(e.wide, t.shape[len(front):len(front)+rest])
		}
		dims := slices.Concat(t.shape[:len(front)], t.shape[len(front)+rest:])
		for j := range len(dims) {
			l := (front + back)[j]
			old, seen := e.size[l]
			if !seen {
				old = integer(1)
			}
			if e.size[l], dots = broadcastDim(old, dims[j]); !dots {
				return e, false
			}
			e.count[l]++
		}
	}
	return e, true
}

func einsumRule(c *call) {
	d := c.in(0).dtype
	c.typed(0, d)
	e, ok := readEinsum(c)
	if !ok {
		return
	}
	right := e.right
	if !e.explicit {
		var once []byte
		for l, n := range e.count {
			if n == 1 {
				once = append(once, l)
			}
		}
		slices.Sort(once)
		if right = string(once); right != strings.ToLower(right) {
			return // runtimes differ in the order of capitals
		}
		if len(e.wide) > 0 {
			right = "..." + right
		}
	}
	front, back, dots := strings.Cut(right, "...")
	var out []term
	for i, part := range []string{front, back} {
		if !letters(part) {
			return
		}
		for j := range len(part) {
			t, ok := e.size[part[j]]
			if !ok {
				return
			}
			out = append(out, t)
		}
		if i == 0 && dots {
			s, ok := broadcast(e.wide...)
			if !ok {
				return
			}
			out = append(out, s...)
		}
	}
	c.shape(0, d, out)
}

func letters(s string) bool {
	for i := range len(s) {
		if l := s[i] | 0x20; l < 'a' || l > 'z' {
			return false
		}
	}
	return true
}

func detRule(c *call) {
	x := c.in(0)
	c.typed(0, x.dtype)
	if x.known && len(x.shape) >= 2 {
		c.shape(0, x.dtype, x.shape[:len(x.shape)-2:len(x.shape)-2])
	}
}
