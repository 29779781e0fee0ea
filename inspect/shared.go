package inspect

// A LayerSum is what Totals would say of a model if only some of its layers
// counted.
type LayerSum struct {
	// Parameters counts the elements of each tensor once, however many of the
	// layers read it; ParametersUnknown is as in Totals.
	Parameters        int64
	ParametersUnknown int
	// MACs counts a layer in the body of a loop as often as it runs, and of an If
	// the branch with more of them; it is nil when there are layers and none is
	// known. MACsUnknown counts the layers left out.
	MACs        *int64
	MACsUnknown int
	// WeightBytes counts each stored tensor once.
	WeightBytes int64
}

// SumLayers sums up some layers of m, each once, as Totals sums up all nodes. Of
// a Model without a Graph, which knows neither what is shared nor what runs
// again, it adds the numbers of the layers.
func (m *Model) SumLayers(layers []Layer) (s LayerSum) {
	parameters, stored := make(map[any]bool), make(map[any]bool)
	cost := partCost{own: make(map[*Graph]macSum), owners: make(map[*Graph][]*Node), seen: make(map[*Graph]bool)}
	var root *Graph
	var alone macSum
	for i := range layers {
		l := &layers[i]
		var one macSum // that of a normalisation
		switch {
		case l.MACs == nil:
			one.unknown = 1
		case *l.MACs > 0:
			one = macSum{macs: *l.MACs, known: 1}
		}
		g, n := m.LayerNode(l)
		if g == nil {
			s.Parameters = addUp(s.Parameters, l.Parameters)
			s.WeightBytes = addUp(s.WeightBytes, l.WeightBytes)
			alone = alone.plus(one)
			continue
		}
		root = cost.add(g, one)
		_, weights, _ := g.layer(n)
		for _, w := range weights {
			if w.none() || parameters[w.key()] {
				continue
			}
			parameters[w.key()] = true
			s.Parameters = addElements(s.Parameters, w)
			if w.computed != nil && !w.computed.known {
				s.ParametersUnknown++
			}
			for _, f := range w.from() {
				if !stored[f.key()] {
					stored[f.key()] = true
					s.WeightBytes = addUp(s.WeightBytes, g.storedBytes(f))
				}
			}
		}
	}
	total := alone
	if root != nil {
		total = total.plus(cost.of(root))
	}
	if s.MACsUnknown = total.unknown; total.known > 0 || total.unknown == 0 {
		s.MACs = &total.macs
	}
	return s
}

// A partCost is what some of the nodes of a model cost, by the graph that they
// belong to.
type partCost struct {
	own    map[*Graph]macSum
	owners map[*Graph][]*Node // nodes of a graph with such nodes in their bodies
	seen   map[*Graph]bool
}

// add counts a node of g and returns the main graph.
func (p *partCost) add(g *Graph, cost macSum) *Graph {
	p.own[g] = p.own[g].plus(cost)
	for ; g.parent != nil; g = g.parent {
		if !p.seen[g] {
			p.seen[g] = true
			// Bodies of one node are added one by one; the node counts once.
			twice := false
			for _, b := range g.owner.bodies {
				twice = twice || b != g && p.seen[b]
			}
			if !twice {
				p.owners[g.parent] = append(p.owners[g.parent], g.owner)
			}
		}
	}
	return g
}

// of returns what one run of g costs.
func (p *partCost) of(g *Graph) macSum {
	total := p.own[g]
	for _, n := range p.owners[g] {
		total = total.plus(costOfBodies(n, func(b *Graph) macSum {
			if p.seen[b] {
				return p.of(b)
			}
			return macSum{}
		}))
	}
	return total
}

// costOfBodies returns what the bodies of n cost when n runs once, given what one
// run of each costs.
func costOfBodies(n *Node, of func(*Graph) macSum) macSum {
	var total, most macSum
	for i, b := range n.bodies {
		c := of(b)
		trips, ok := b.trips.at(b.batch).number()
		switch {
		case b.idle:
			c = macSum{}
		case ok && trips == 1:
		case ok:
			macs, fits := product(c.macs, trips)
			if c.macs = macs; !fits {
				c = macSum{unknown: c.known + c.unknown}
			}
		default:
			c = macSum{unknown: c.known + c.unknown}
		}
		if !n.chooses() {
			total = total.plus(c)
			continue
		}
		// One branch runs, and it may be the one that costs more.
		if i == 0 || c.macs > most.macs {
			most.macs = c.macs
		}
		most.known += c.known
		most.unknown += c.unknown
	}
	return total.plus(most)
}

// chooses tells whether one of the bodies of n runs.
func (n *Node) chooses() bool { return n.Op == "If" && n.Standard() && n.function == nil }

// LayerRuns tells how often l runs when m runs once, -1 where that is not known, as
// for a layer of a nested graph or function in a Model without a Graph.
// maybe says that it lies in a branch of an If whose condition is not known: then
// n is the most.
func (m *Model) LayerRuns(l *Layer) (n int64, maybe bool) {
	g, _ := m.LayerNode(l)
	if g == nil && l.Scope != "" {
		return -1, false
	}
	n = 1
	for ; g != nil && g.parent != nil; g = g.parent {
		if g.idle {
			return 0, false
		}
		if g.owner.chooses() && !siblingIdle(g) {
			maybe = true
		}
		trips, ok := g.trips.at(g.batch).number()
		if n >= 0 && ok {
			if n, ok = product(n, trips); ok {
				continue
			}
		}
		n = -1
	}
	return n, maybe
}

// siblingIdle tells whether another body of g's owner is known never to run.
func siblingIdle(g *Graph) bool {
	for _, b := range g.owner.bodies {
		if b != g && b.idle {
			return true
		}
	}
	return false
}
