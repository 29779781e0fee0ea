package inspect

import "github.com/filterlens/filterlens/inspect/onnxfile"

func sequence(elem *tensor, length term) tensor {
	return tensor{kind: sequenceKind, elem: elem, length: length.dim()}
}

// element returns what holds for every element of input i; nothing when it is no
// sequence or never had one.
func (c *call) element(i int) tensor {
	if t := c.in(i); t.kind == sequenceKind && t.elem != nil {
		return *t.elem
	}
	return tensor{}
}

func sequenceConstructRule(c *call) {
	var elem *tensor
	for i := range c.Inputs {
		t := c.in(i)
		t.value = nil
		if elem != nil {
			t = merge(*elem, t)
		}
		elem = &t
	}
	c.set(0, sequence(elem, integer(int64(len(c.Inputs)))))
}

func sequenceEmptyRule(c *call) { c.set(0, sequence(nil, integer(0))) }

func sequenceAtRule(c *call) { c.set(0, c.element(0)) }

func sequenceLengthRule(c *call) {
	v := &value{e: make([]term, 1)}
	if t := c.in(0); t.kind == sequenceKind {
		v.e[0] = t.length
	}
	c.result(0, onnxfile.Int64, v)
}

func sequenceInsertRule(c *call) {
	s, t := c.in(0), c.in(1)
	t.value = nil
	elem := tensor{}
	if t.kind == tensorKind {
		elem.dtype = t.dtype // a sequence has one type
	}
	length := term{}
	if s.kind == sequenceKind {
		length = addTerm(s.length, integer(1))
		switch {
		case s.elem == nil:
			elem = t
		default:
			elem = merge(*s.elem, t)
		}
	}
	c.set(0, sequence(&elem, length))
}

func sequenceEraseRule(c *call) {
	s := c.in(0)
	if s.kind != sequenceKind {
		c.set(0, sequence(&tensor{}, term{}))
		return
	}
	c.set(0, sequence(s.elem, subTerm(s.length, integer(1))))
}

func splitToSequenceRule(c *call) {
	t := c.in(0)
	t.value = nil
	if t.kind != tensorKind {
		return
	}
	elem := tensor{dtype: t.dtype}
	a, ok := axis(c.AttrInt("axis", 0), len(t.shape))
	length := term{}
	if t.known && !ok {
		return
	}
	d := term{}
	if t.known {
		d = t.shape[a]
		elem.known, elem.shape = true, append([]term{}, t.shape...)
		elem.shape[a] = term{}
	}
	switch split := c.in(1); {
	case !c.has(1):
		length = d
		if elem.known {
			elem.shape[a] = integer(1)
			if c.AttrInt("keepdims", 1) == 0 {
				elem.shape = append(elem.shape[:a], elem.shape[a+1:]...)
			}
		}
	case split.known && len(split.shape) == 0:
		part, _ := c.value(1).scalar()
		k, ok := part.number()
		n, fixed := d.number()
		switch {
		case !ok || !fixed || k < 1:
		case n%k == 0:
			length, elem.shape[a] = integer(n/k), part
		default: // the last one is smaller
			length = integer(n/k + 1)
			if n < k {
				elem.shape[a] = d
			}
		}
	case split.known && len(split.shape) == 1:
		length = split.shape[0]
		if v := c.value(1); v != nil && elem.known && len(v.e) > 0 {
			part := v.e[0]
			for _, e := range v.e[1:] {
				part = mergeTerms(part, e)
			}
			elem.shape[a] = part.dim()
		}
	}
	c.set(0, sequence(&elem, length))
}

func concatFromSequenceRule(c *call) {
	e := c.element(0)
	c.typed(0, e.dtype)
	if !e.known {
		return
	}
	length := c.in(0).length
	at := c.AttrInt("axis", 0)
	if c.AttrInt("new_axis", 0) != 0 {
		c.set(0, stack(e, length, at))
		return
	}
	a, ok := axis(at, len(e.shape))
	if !ok {
		return
	}
	out := append([]term{}, e.shape...)
	out[a] = mulTerm(length, e.shape[a])
	c.shape(0, e.dtype, out)
}

// sequenceMapRule runs its body on each element of the first input; the others
// are sequences of as many elements, or tensors.
func sequenceMapRule(c *call) {
	body := c.body("body")
	if body == nil || len(body.ins) != len(c.Inputs) || len(c.Inputs) == 0 {
		return
	}
	in := make([]tensor, len(c.Inputs))
	for i := range in {
		t := c.in(i)
		switch {
		case i == 0 || t.kind == sequenceKind:
			in[i] = c.element(i)
		case t.dtype != 0: // else it may be a sequence
			in[i] = t
		}
	}
	if !body.inferBody(in) {
		return
	}
	length := c.in(0).length
	body.trips, body.idle = length, length.is(0)
	for i := range c.out {
		e := body.result(i)
		e.value = nil
		c.set(i, sequence(&e, length))
	}
}

func optionalRule(c *call) {
	t := c.in(0)
	t.value = nil
	if !c.has(0) {
		t = c.g.fromDeclaration(c.Attr("type").GetTp(), "").numbers()
	}
	c.set(0, tensor{kind: optionalKind, elem: &t})
}

func optionalGetElementRule(c *call) {
	t := c.in(0)
	switch {
	case t.kind == optionalKind:
		c.set(0, *t.elem)
	case t.kind == sequenceKind || t.dtype != 0: // since opset 18 it may be given as it is
		t.value = c.value(0)
		c.set(0, t)
	}
}

func optionalHasElementRule(c *call) {
	v := &value{e: make([]term, 1)}
	switch t := c.in(0); {
	case !c.has(0):
		v.e[0] = integer(0)
	case t.kind == sequenceKind || t.kind == tensorKind && t.dtype != 0:
		v.e[0] = integer(1)
	}
	c.result(0, boolType, v)
}
