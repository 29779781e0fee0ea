package inspect

import (
	"slices"
	"strings"
)

// einsumRule reads the equation as numpy.einsum does: a letter stands for a
// dimension, an ellipsis for those that broadcast.
func einsumRule(c *call) {
	d := c.in(0).dtype
	c.typed(0, d)
	equation := strings.Join(strings.Fields(c.AttrString("equation", "")), "")
	left, right, explicit := strings.Cut(equation, "->")
	operands := strings.Split(left, ",")
	if len(equation) > 1024 || len(operands) != len(c.Inputs) {
		return
	}
	size := make(map[byte]term)
	count := make(map[byte]int)
	var wide [][]term // what the ellipsis stands for in each operand
	for i, labels := range operands {
		t := c.in(i)
		if !t.known {
			return
		}
		front, back, dots := strings.Cut(labels, "...")
		if !letters(front) || !letters(back) {
			return
		}
		rest := len(t.shape) - len(front) - len(back)
		if rest < 0 || rest > 0 && !dots {
			return
		}
		if dots {
			wide = append(wide, t.shape[len(front):len(front)+rest])
		}
		dims := slices.Concat(t.shape[:len(front)], t.shape[len(front)+rest:])
		for j := range len(dims) {
			l := (front + back)[j]
			old, seen := size[l]
			if !seen {
				old = integer(1)
			}
			if size[l], dots = broadcastDim(old, dims[j]); !dots {
				return
			}
			count[l]++
		}
	}
	if !explicit {
		var once []byte
		for l, n := range count {
			if n == 1 {
				once = append(once, l)
			}
		}
		slices.Sort(once)
		if right = string(once); right != strings.ToLower(right) {
			return // runtimes differ in the order of capitals
		}
		if len(wide) > 0 {
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
			t, ok := size[part[j]]
			if !ok {
				return
			}
			out = append(out, t)
		}
		if i == 0 && dots {
			s, ok := broadcast(wide...)
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
