package gorgonia

import (
	"errors"
	"fmt"
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesElementwise has the functions of single numbers.
func rulesElementwise() map[string]rule {
	unary := func(attributes ...string) rule {
		return rule{attributes: attributes, least: 1, most: 1, bind: bindUnary}
	}
	binary := rule{least: 2, most: 2, bind: bindBinary}
	return map[string]rule{
		"Relu":      {least: 1, most: 1, bind: bindRelu},
		"LeakyRelu": unary("alpha"),
		"Sigmoid":   unary(),
		"Tanh":      unary(),
		"Softplus":  unary(),
		"Exp":       unary(),
		"Log":       unary(),
		"Sqrt":      unary(),
		"Abs":       unary(),
		"Neg":       unary(),
		"Ceil":      unary(),
		"Floor":     unary(),
		"Sin":       unary(),
		"Cos":       unary(),
		"Add":       binary,
		"Sub":       binary,
		"Mul":       binary,
		"Div":       {least: 2, most: 2, check: checkDiv, bind: bindBinary},
	}
}

// bindRelu computes here, because Gorgonia multiplies by 0 or 1, which makes NaN
// of minus infinity.
func bindRelu(b *binder) (kernel, error) {
	return &each{spec{onnxfile.Float, b.in[0].shape}, func(_ *run, in []*value, out *value) error {
		y := out.floats()
		for i, x := range in[0].floats() {
			if x > 0 || x != x {
				y[i] = x
			} else {
				y[i] = 0
			}
		}
		return nil
	}}, nil
}

// bindUnary hands a function of single numbers over as a vector, because the
// backend fails on scalars.
func bindUnary(b *binder) (kernel, error) {
	shape := b.in[0].shape
	in := reshaped(b.in[0], []int{size(shape)})
	var attributes map[string]any
	if b.op == "LeakyRelu" {
		in.copied = true
		attributes = map[string]any{"alpha": b.float("alpha", 0.01)}
	}
	return b.adapt(b.op, attributes, []adapted{in}, shape)
}

// bindBinary lowers broadcasting to the forms that the backend gets right: equal
// shapes, matrices, and one number per channel.
func bindBinary(b *binder) (kernel, error) {
	x, y := b.in[0], b.in[1]
	shape, groups, err := broadcast(x.shape, y.shape)
	if err != nil {
		return nil, err
	}
	var left, right []int
	for _, g := range groups {
		left, right = append(left, g.x), append(right, g.y)
	}
	switch {
	case len(groups) == 1 && left[0] == right[0]:
	case len(groups) <= 2:
		for len(left) < 2 {
			left, right = append([]int{1}, left...), append([]int{1}, right...)
		}
	case len(groups) == 3 && right[0] == 1 && right[2] == 1 && left[1] == right[1]:
		left, right = append(left, 1), []int{right[1], 1, 1}
	case len(groups) == 3 && left[0] == 1 && left[2] == 1 && left[1] == right[1]:
		left, right = []int{left[1], 1, 1}, append(right, 1)
	default:
		return nil, fmt.Errorf("shapes %v and %v broadcast in a form that is lacking", x.shape, y.shape)
	}
	if _, err := checkedSize(shape); err != nil {
		return nil, err
	}
	return b.adapt(b.op, nil, []adapted{reshaped(x, left), reshaped(y, right)}, shape)
}

// checkDiv refuses zeros below the line, which the backend divides by to plus
// infinity whatever stands above.
func checkDiv(n *node) error {
	c := n.param(1)
	if c == nil {
		return errors.New("division by a computed tensor is lacking")
	}
	if slices.Contains(c.floats(), 0) {
		return errors.New("division by zero is lacking")
	}
	return nil
}

// group is a run of dimensions that broadcast alike.
type group struct{ x, y int }

// broadcast returns the shape that x and y broadcast to and their dimensions
// with neighbours of the same kind multiplied.
func broadcast(x, y []int) (shape []int, groups []group, err error) {
	rank := max(len(x), len(y))
	at := func(s []int, i int) int {
		if i -= rank - len(s); i < 0 {
			return 1
		}
		return s[i]
	}
	kind := func(g group) int {
		switch {
		case g.x == g.y:
			return 0
		case g.x == 1:
			return 1
		}
		return 2
	}
	shape = make([]int, rank)
	for i := range shape {
		d := group{at(x, i), at(y, i)}
		if d.x != d.y && d.x != 1 && d.y != 1 {
			return nil, nil, fmt.Errorf("shapes %v and %v do not broadcast", x, y)
		}
		shape[i] = max(d.x, d.y)
		if d.x == 1 && d.y == 1 {
			continue
		}
		if n := len(groups); n > 0 && kind(groups[n-1]) == kind(d) {
			groups[n-1].x *= d.x
			groups[n-1].y *= d.y
		} else {
			groups = append(groups, d)
		}
	}
	if groups == nil {
		groups = []group{{1, 1}}
	}
	return shape, groups, nil
}
