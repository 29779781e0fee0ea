package inspect

// findPeak fills what m.Totals says of activations.
func (m *Model) findPeak() {
	p := m.Graph.peak()
	t := &m.Totals
	t.ActivationsUnknown = p.unknown
	if p.known > 0 || p.unknown == 0 {
		t.PeakActivationBytes = &p.bytes
		t.PeakNode = p.node
	}
}

// A peak is the largest sum of tensors that are alive at once, over those of
// known size.
type peak struct {
	bytes          int64
	node           string // at which it is reached, "" before the first one
	known, unknown int    // tensors
}

// peak runs the nodes of g one by one, in order. A tensor is alive from the node
// that makes it, an input from the start, to the last node that reads it, an
// output of the graph to the end. The inputs of a function's body are those of
// the node that calls it and do not count again.
func (g *Graph) peak() peak {
	var p peak
	at := make([]int, len(g.order)) // by Index
	for i, n := range g.order {
		at[n.Index] = i
	}
	last := len(g.order) - 1
	freed := make([]int64, len(g.order)) // after each node
	alive := int64(0)
	// until returns the last node that needs a tensor made at step i, -1 for an
	// input that nobody reads.
	until := func(name string, i int) int {
		if g.IsOutput(name) {
			return last
		}
		for _, r := range g.consumers[name] {
			i = max(i, at[r.Index])
		}
		return i
	}
	take := func(name string, i int) (bytes int64) {
		b, ok := g.bytesOf(name)
		switch {
		case g.parent != nil && g.owner.hands() && g.IsOutput(name): // counted there
		case ok:
			p.known++
		default:
			p.unknown++
		}
		switch end := until(name, i); {
		case end >= 0:
			freed[end] = addUp(freed[end], b)
		case !g.IsOutput(name):
			return 0
		}
		return b
	}
	if g.calls == nil {
		for name := range g.inputs {
			if g.IsInput(name) {
				alive = addUp(alive, take(name, -1))
			}
		}
	}
	p.bytes = alive
	for i, n := range g.order {
		made := int64(0)
		for _, name := range n.Outputs {
			if name != "" && g.producer[name] == n && !storedOutput(n) {
				made = addUp(made, take(name, i))
			}
		}
		inside := int64(0)
		for _, b := range n.bodies {
			if b.idle {
				continue
			}
			q := b.peak()
			p.known += q.known
			p.unknown += q.unknown
			inside = max(inside, q.bytes)
		}
		// The outputs of a branch and of a function are those of the node; what a
		// loop makes gathers while its body runs.
		during := max(made, inside)
		if len(n.bodies) > 0 && !n.hands() {
			during = addUp(made, inside)
		}
		if sum := addUp(alive, during); sum > p.bytes || p.node == "" && sum == p.bytes {
			p.bytes, p.node = sum, n.Label()
		}
		alive = max(0, addUp(alive, made)-freed[i])
	}
	return p
}

// hands tells whether the outputs of n's bodies are its own.
func (n *Node) hands() bool { return n.function != nil || n.Op == "If" && n.Standard() }

// storedOutput tells whether n's output is a stored tensor.
func storedOutput(n *Node) bool {
	return n.Op == "Constant" && n.Standard() && n.function == nil
}
