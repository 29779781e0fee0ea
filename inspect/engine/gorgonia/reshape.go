package gorgonia

import (
	"errors"
	"fmt"
	"slices"
)

// The operators of this file only change shapes.

func bindFlatten(b *binder) (kernel, error) {
	shape := b.in[0].shape
	at := b.integer("axis", 1)
	if at < 0 {
		at += int64(len(shape))
	}
	if at < 0 || at > int64(len(shape)) {
		return nil, fmt.Errorf("axis %d is out of range for rank %d", at, len(shape))
	}
	return view{[]int{size(shape[:at]), size(shape[at:])}}, nil
}

func checkReshape(n *node) error {
	if n.integer("allowzero", 0) != 0 && slices.Contains(n.param(1).ints, 0) {
		return errors.New("an empty result is lacking")
	}
	return nil
}

func bindReshape(b *binder) (kernel, error) {
	x, target := b.in[0].shape, b.param(1).ints
	shape := make([]int64, len(target))
	open := -1
	for i, d := range target {
		switch {
		case d == 0 && i < len(x):
			shape[i] = int64(x[i])
		case d == -1 && open < 0:
			open, shape[i] = i, 1
		case d > 0:
			shape[i] = d
		default:
			return nil, fmt.Errorf("shape %v does not fit %v", target, x)
		}
	}
	n, err := checkedSize(shape)
	if err != nil {
		return nil, err
	}
	if open >= 0 {
		shape[open] = int64(size(x) / n)
		n *= size(x) / n
	}
	if n != size(x) {
		return nil, fmt.Errorf("shape %v does not fit %v", target, x)
	}
	return view{toInts(shape)}, nil
}

// axes returns the axes of Squeeze and Unsqueeze, an attribute before version 13
// and an input since, counted from the start and sorted; nil when there are none.
func (n *node) axes(rank int) ([]int, error) {
	var given []int64
	if p := n.attributes["axes"]; p != nil {
		given = p.Ints
	} else if c := n.param(1); c != nil {
		given = c.ints
	}
	var out []int
	for _, a := range given {
		at, err := axis(a, rank)
		if err != nil {
			return nil, err
		}
		out = append(out, at)
	}
	slices.Sort(out)
	if len(slices.Compact(slices.Clone(out))) < len(given) {
		return nil, fmt.Errorf("axes %v are not unique", given)
	}
	return out, nil
}

func checkAxes(n *node) error {
	if n.opset >= 13 && n.attributes["axes"] != nil || n.opset < 13 && len(n.in) > 1 {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	if n.op == "Unsqueeze" && n.attributes["axes"] == nil && n.param(1) == nil {
		return errors.New("it has no axes")
	}
	return nil
}

func bindSqueeze(b *binder) (kernel, error) {
	x := b.in[0].shape
	axes, err := b.axes(len(x))
	if err != nil {
		return nil, err
	}
	all := b.attributes["axes"] == nil && b.param(1) == nil
	shape := []int{}
	for i, d := range x {
		switch chosen := slices.Contains(axes, i); {
		case chosen && d != 1:
			return nil, fmt.Errorf("axis %d of shape %v is not 1", i, x)
		case !chosen && !(all && d == 1):
			shape = append(shape, d)
		}
	}
	return view{shape}, nil
}

func bindUnsqueeze(b *binder) (kernel, error) {
	x := b.in[0].shape
	n := 0
	if p := b.attributes["axes"]; p != nil {
		n = len(p.Ints)
	} else {
		n = len(b.param(1).ints)
	}
	axes, err := b.axes(len(x) + n)
	if err != nil {
		return nil, err
	}
	shape := slices.Clone(x)
	for _, at := range axes {
		shape = slices.Insert(shape, at, 1)
	}
	return view{shape}, nil
}
