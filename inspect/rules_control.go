package inspect

import "github.com/filterlens/filterlens/inspect/onnxfile"

// body returns the graph in the attribute of that name, nil when there is none.
func (c *call) body(attr string) *Graph {
	for _, b := range c.bodies {
		if b.calls == nil && b.attr == attr {
			return b
		}
	}
	return nil
}

// result returns what is known of output i of a body that was inferred.
func (g *Graph) result(i int) tensor {
	if i >= len(g.outs) {
		return tensor{}
	}
	t := g.lookup(g.outs[i])
	if t.kind == tensorKind {
		t.value = g.valueOf(g.outs[i])
	}
	return t.checked()
}

// merge returns what holds for a tensor that is a or b; it has no value.
func merge(a, b tensor) tensor {
	if a.kind != b.kind {
		return tensor{}
	}
	t := tensor{kind: a.kind}
	switch {
	case a.kind != tensorKind:
		switch {
		case a.elem == nil:
			t.elem = b.elem
		case b.elem == nil:
			t.elem = a.elem
		default:
			e := merge(*a.elem, *b.elem)
			t.elem = &e
		}
		t.length = mergeTerms(a.length, b.length)
		return t
	case a.dtype == b.dtype:
		t.dtype = a.dtype
	}
	if !a.known || !b.known || len(a.shape) != len(b.shape) {
		return t
	}
	t.known, t.shape = true, make([]term, len(a.shape))
	for i, d := range a.shape {
		t.shape[i] = mergeTerms(d, b.shape[i])
	}
	return t
}

func mergeTerms(a, b term) term {
	if same(a, b) {
		return a
	}
	return term{}
}

// equal tells whether the same is known of a and b, values aside.
func (a tensor) equal(b tensor) bool {
	alike := func(x, y term) bool { return same(x, y) || x.kind == unknownTerm && y.kind == unknownTerm }
	if a.kind != b.kind || a.dtype != b.dtype || a.known != b.known || len(a.shape) != len(b.shape) || !alike(a.length, b.length) {
		return false
	}
	for i, d := range a.shape {
		if !alike(d, b.shape[i]) {
			return false
		}
	}
	if a.elem == nil || b.elem == nil {
		return a.elem == b.elem
	}
	return a.elem.equal(*b.elem)
}

// ifRule knows of an output what both branches agree on, or what the one says
// that a known condition selects.
func ifRule(c *call) {
	yes, no := c.body("then_branch"), c.body("else_branch")
	if yes == nil || no == nil || !yes.inferBody(nil) || !no.inferBody(nil) {
		return
	}
	cond, known := term{}, false
	if t, ok := c.value(0).scalar(); ok {
		cond = t
		_, known = t.number()
	}
	yes.idle, no.idle = known && cond.is(0), known && !cond.is(0)
	yes.trips, no.trips = integer(1), integer(1)
	for i := range c.out {
		switch {
		case yes.idle:
			c.set(i, no.result(i))
		case no.idle:
			c.set(i, yes.result(i))
		default:
			c.set(i, merge(yes.result(i), no.result(i)))
		}
	}
}

// functionRule takes the outputs from the body of a function.
func functionRule(c *call) {
	for _, b := range c.bodies {
		if b.calls == nil {
			continue
		}
		in := make([]tensor, len(b.ins))
		for i := range in {
			in[i] = c.in(i)
		}
		if !b.inferBody(in) {
			return
		}
		b.trips = integer(1)
		for i := range c.out {
			c.set(i, b.result(i))
		}
	}
}

// carry infers a body whose first outputs, after skip of them, become inputs of
// the next run, until what is assumed of them holds for what the body makes of
// them too. head stands before the carried inputs and tail after them. It
// returns what holds for the carried values in all runs, nil when that is not
// known.
func (g *Graph) carry(head, state, tail []tensor, skip int) []tensor {
	state = append([]tensor{}, state...)
	for i := range state {
		state[i].value = nil
	}
	changed := make([]bool, len(state))
	const rounds = 5
	for round := range rounds {
		// What still changes is given up, more of it each time.
		for i, t := range state {
			switch {
			case !changed[i]:
			case round == rounds-3 && t.known:
				state[i].shape = unknowns(len(t.shape))
			case round == rounds-2:
				state[i] = t.shapeless()
			case round == rounds-1:
				state[i] = tensor{}
			}
		}
		in := append(append(append([]tensor(nil), head...), state...), tail...)
		if !g.inferBody(in) {
			return nil
		}
		stable := true
		for i := range state {
			next := merge(state[i], g.result(skip+i))
			if !next.equal(state[i]) {
				stable, changed[i] = false, true
			}
			state[i] = next
		}
		if stable {
			return state
		}
	}
	g.forget()
	return nil
}

// loopRule: the inputs are the largest number of runs, the condition and the
// carried values, those of the body the number of the run, the condition and the
// carried values. Each further output of the body is stacked.
func loopRule(c *call) {
	body := c.body("body")
	n := len(c.Inputs) - 2
	if body == nil || n < 0 || len(body.ins) != n+2 || len(body.outs) < n+1 {
		return
	}
	state := make([]tensor, n)
	for i := range state {
		state[i] = c.in(2 + i)
	}
	// Runtimes hand over one number with or without a dimension, as declared.
	count, again := body.oneNumber(0, onnxfile.Int64), body.oneNumber(1, boolType)
	again.value = &value{e: []term{integer(1)}}
	carried := body.carry([]tensor{count, again}, state, nil, 1)
	forever := carried != nil && isTrue(body.valueOf(body.outs[0]))
	if !forever && !c.has(1) {
		// Whether the body's condition counts is not agreed on.
		again.value = nil
		carried = body.carry([]tensor{count, again}, state, nil, 1)
	}
	if carried == nil {
		return
	}
	var trips term
	limit, _ := c.value(0).scalar()
	if k, ok := limit.number(); ok && k < 0 {
		limit = integer(0)
	}
	start, _ := c.value(1).scalar()
	switch {
	case limit.is(0) || start.is(0):
		trips = integer(0)
	case forever && (!c.has(1) || isTrue(c.value(1))):
		trips = limit.dim()
	}
	body.trips, body.idle = trips, trips.is(0)
	for i := range c.out {
		switch {
		case i >= n:
			c.set(i, stack(body.result(1+i), trips, 0))
		case body.idle:
			t := c.in(2 + i)
			t.value = c.value(2 + i)
			c.set(i, t)
		default:
			c.set(i, carried[i])
		}
	}
}

// oneNumber returns input i of a body when it is one number.
func (g *Graph) oneNumber(i int, d onnxfile.DType) tensor {
	t := g.fromDeclaration(g.inputs[g.ins[i]].GetType(), "").numbers()
	if !t.known || len(t.shape) > 1 || len(t.shape) == 1 && !t.shape[0].is(1) {
		return tensor{dtype: d}
	}
	return tensor{dtype: d, known: true, shape: t.shape}
}

func isTrue(v *value) bool {
	t, ok := v.scalar()
	if !ok {
		return false
	}
	k, ok := t.number()
	return ok && k != 0
}

// stack returns n tensors like t along a new axis. Of no tensors the other
// dimensions are not agreed on.
func stack(t tensor, n term, at int64) tensor {
	out := tensor{dtype: t.dtype}
	if t.kind != tensorKind || !t.known {
		return out
	}
	i, ok := axis(at, len(t.shape)+1)
	if !ok {
		return out
	}
	out.known, out.shape = true, make([]term, 0, len(t.shape)+1)
	out.shape = append(append(append(out.shape, t.shape[:i]...), n), t.shape[i:]...)
	if n.is(0) {
		clear(out.shape[:i])
		clear(out.shape[i+1:])
	}
	return out
}

// scanRule: the inputs are carried values and tensors that are read slice by
// slice; the outputs are carried values and stacked ones. Before opset 9 there
// was a batch as well, which is not followed.
func scanRule(c *call) {
	body := c.body("body")
	slices := c.AttrInt("num_scan_inputs", 0)
	n := len(c.Inputs) - int(slices)
	if c.opset < 9 || body == nil || slices < 1 || n < 0 || slices > int64(len(c.Inputs)) || len(body.ins) != len(c.Inputs) || len(body.outs) < n {
		return
	}
	axes := func(name string, i int) int64 {
		if a := c.AttrInts(name); i < len(a) {
			return a[i]
		}
		return 0
	}
	var trips term
	state, tail := make([]tensor, n), make([]tensor, slices)
	for i := range state {
		state[i] = c.in(i)
	}
	for i := range tail {
		t := c.in(n + i)
		tail[i].dtype = t.dtype
		if !t.known {
			continue
		}
		a, ok := axis(axes("scan_input_axes", i), len(t.shape))
		if !ok {
			return
		}
		if trips.kind == unknownTerm {
			trips = t.shape[a]
		}
		tail[i].known = true
		tail[i].shape = append(append([]term{}, t.shape[:a]...), t.shape[a+1:]...)
	}
	carried := body.carry(nil, state, tail, 0)
	if carried == nil {
		return
	}
	body.trips, body.idle = trips, trips.is(0)
	for i := range c.out {
		if i < n {
			c.set(i, carried[i])
			continue
		}
		c.set(i, stack(body.result(i), trips, axes("scan_output_axes", i-n)))
	}
}
