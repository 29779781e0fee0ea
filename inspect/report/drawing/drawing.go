// Package drawing places the boxes and lines of a directed graph on a plane, in
// layers from top to bottom, in the manner of Sugiyama, Tagawa and Toda (1981).
//
// It knows sizes and edges and nothing else: what a node is, what is written in
// its box and how a picture is stored do not enter here, and nothing is random,
// so that the same graph always gives the same drawing.
package drawing

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// A Graph is what is to be drawn. Lengths are in any unit, the same everywhere.
type Graph struct {
	// Nodes holds the size of each node's box.
	Nodes []Size
	// Edges point from the node that is to lie higher. They may form cycles,
	// repeat, or lead from a node to itself.
	Edges []Edge
}

// A Size is that of a box.
type Size struct{ Width, Height float64 }

// An Edge leads from one node to another, by their positions in Graph.Nodes.
type Edge struct{ From, To int }

// Options are the distances of a drawing. A zero field stands for its default.
type Options struct {
	// NodeGap lies between neighbouring boxes of a layer, 24 when zero.
	NodeGap float64
	// LayerGap lies between layers, 36 when zero.
	LayerGap float64
	// EdgeGap lies between a line that passes a layer and its neighbours there,
	// 14 when zero.
	EdgeGap float64
}

// A Point is a place in a drawing: X to the right, Y downwards.
type Point struct{ X, Y float64 }

// A Layout is a drawing. It spans from (0, 0) to (Width, Height).
type Layout struct {
	Width, Height float64
	// Nodes holds the centre of each node's box.
	Nodes []Point
	// Layers holds the layer of each node, 0 at the top of its component.
	Layers []int
	// Edges holds the line of each edge of the graph, in the graph's order.
	Edges []Route
}

// A Route is the line of an edge, from its upper end to its lower one. Points of
// equal X that follow each other are meant to be joined straight, others by a
// curve that is vertical at both.
type Route struct {
	// Points is empty for an edge from a node to itself.
	Points []Point
	// Reversed says that the edge points upwards because it closes a cycle:
	// Points begin at Edge.To then.
	Reversed bool
	// Direct says that the line leads straight to its end, maybe behind boxes:
	// too many edges of the graph pass over many layers.
	Direct bool
}

// ErrSize says that a box or a gap has no finite size.
var ErrSize = errors.New("it is not a finite length of zero or more")

// New lays out a graph. Each component is drawn on its own, and components stand
// beside and below each other. Boxes do not overlap, and lines pass between
// them. Time and memory are bounded by the number of nodes and edges times a
// logarithm: where lines would need more bends than that, the longest become
// Direct. It fails when an edge has an end that is no node, or with ErrSize.
func New(g Graph, opt Options) (*Layout, error) {
	opt, err := opt.checked()
	if err != nil {
		return nil, err
	}
	for i, s := range g.Nodes {
		if !length(s.Width) || !length(s.Height) {
			return nil, fmt.Errorf("node %d: %w", i, ErrSize)
		}
	}
	for i, e := range g.Edges {
		for _, v := range []int{e.From, e.To} {
			if v < 0 || v >= len(g.Nodes) {
				return nil, fmt.Errorf("edge %d: node %d is not one of the graph's %d", i, v, len(g.Nodes))
			}
		}
	}
	l := &Layout{Nodes: make([]Point, len(g.Nodes)), Layers: make([]int, len(g.Nodes)), Edges: make([]Route, len(g.Edges))}
	var parts []*part
	for _, c := range components(g) {
		parts = append(parts, drawComponent(g, c, opt, l))
	}
	l.pack(g, parts, opt)
	return l, nil
}

func (o Options) checked() (Options, error) {
	for _, f := range []struct {
		v   *float64
		def float64
	}{{&o.NodeGap, 24}, {&o.LayerGap, 36}, {&o.EdgeGap, 14}} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if !length(*f.v) {
			return o, fmt.Errorf("gap: %w", ErrSize)
		}
	}
	return o, nil
}

// length tells whether v is a sane length; the bound keeps sums of many finite.
func length(v float64) bool { return v >= 0 && v <= 1e9 && !math.IsNaN(v) }

// A component is a connected part of a graph: nodes and edges by position.
type component struct{ nodes, edges []int }

func components(g Graph) []component {
	parent := make([]int, len(g.Nodes))
	for i := range parent {
		parent[i] = i
	}
	find := func(v int) int {
		for parent[v] != v {
			parent[v] = parent[parent[v]]
			v = parent[v]
		}
		return v
	}
	for _, e := range g.Edges {
		a, b := find(e.From), find(e.To)
		if a != b {
			// The smaller one wins, so that a root is its component's first node.
			parent[max(a, b)] = min(a, b)
		}
	}
	index := make(map[int]int)
	var cs []component
	for v := range g.Nodes {
		r := find(v)
		if r == v {
			index[v] = len(cs)
			cs = append(cs, component{})
		}
		c := &cs[index[r]]
		c.nodes = append(c.nodes, v)
	}
	for i, e := range g.Edges {
		c := &cs[index[find(e.From)]]
		c.edges = append(c.edges, i)
	}
	return cs
}

// A part is a component that is drawn, with its own origin.
type part struct {
	component
	width, height float64
}

// pack puts the parts on shelves, in order, so that the whole is about as wide
// as it is high, and never narrower than its widest part.
func (l *Layout) pack(g Graph, parts []*part, opt Options) {
	area, widest := 0.0, 0.0
	for _, p := range parts {
		area += (p.width + opt.NodeGap) * (p.height + opt.LayerGap)
		widest = max(widest, p.width)
	}
	limit := max(widest, math.Sqrt(area))
	x, y, shelf := 0.0, 0.0, 0.0
	for _, p := range parts {
		if x > 0 && x+p.width > limit {
			x, y, shelf = 0, y+shelf+opt.LayerGap, 0
		}
		for _, v := range p.nodes {
			l.Nodes[v].X += x
			l.Nodes[v].Y += y
		}
		for _, e := range p.edges {
			pts := l.Edges[e].Points
			for i := range pts {
				pts[i].X += x
				pts[i].Y += y
			}
		}
		l.Width, l.Height = max(l.Width, x+p.width), max(l.Height, y+p.height)
		x += p.width + opt.NodeGap
		shelf = max(shelf, p.height)
	}
}

// drawComponent draws one component into l, with its upper left corner at (0, 0).
func drawComponent(g Graph, c component, opt Options, l *Layout) *part {
	n := newNet(g, c)
	n.breakCycles()
	n.assignLayers()
	n.addBends()
	n.order()
	x := n.coordinates(opt)
	p := &part{component: c}

	left, right := math.Inf(1), math.Inf(-1)
	for v := range x {
		left, right = min(left, x[v]-n.width[v]/2), max(right, x[v]+n.width[v]/2)
	}
	p.width = right - left
	// A layer is as high as its highest box.
	tops, bottoms := make([]float64, len(n.layers)), make([]float64, len(n.layers))
	y := 0.0
	for i, layer := range n.layers {
		h := 0.0
		for _, v := range layer {
			if int(v) < len(c.nodes) {
				h = max(h, g.Nodes[c.nodes[v]].Height)
			}
		}
		tops[i], bottoms[i] = y, y+h
		y += h + opt.LayerGap
	}
	p.height = y - opt.LayerGap
	for i, v := range c.nodes {
		k := n.layer[i]
		l.Nodes[v] = Point{x[i] - left, (tops[k] + bottoms[k]) / 2}
		l.Layers[v] = int(k)
	}
	for i, id := range c.edges {
		a := n.arcs[i]
		if a.from == a.to {
			continue
		}
		r := Route{Reversed: a.reversed, Direct: a.direct}
		add := func(x, y float64) {
			// A point between two others on one vertical line says nothing.
			if k := len(r.Points); k >= 2 && r.Points[k-1].X == x && r.Points[k-2].X == x {
				r.Points[k-1].Y = y
				return
			} else if k >= 1 && r.Points[k-1] == (Point{x, y}) {
				return
			}
			r.Points = append(r.Points, Point{x, y})
		}
		from, to := c.nodes[a.from], c.nodes[a.to]
		add(l.Nodes[from].X, l.Nodes[from].Y+g.Nodes[from].Height/2)
		if !a.direct {
			add(l.Nodes[from].X, bottoms[n.layer[a.from]])
			for k := range a.bends {
				v := a.firstBend + k
				add(x[v]-left, tops[n.layer[v]])
				add(x[v]-left, bottoms[n.layer[v]])
			}
			add(l.Nodes[to].X, tops[n.layer[a.to]])
		}
		add(l.Nodes[to].X, l.Nodes[to].Y-g.Nodes[to].Height/2)
		l.Edges[id] = r
	}
	return p
}

// A net is a component on its way to a drawing. Its vertices are the component's
// nodes, followed by the bends of lines that pass a layer.
type net struct {
	nodes int
	arcs  []arc
	width []float64
	layer []int32
	// up and down are the neighbours in the layer above and below.
	up, down [][]int32
	// layers holds the vertices of each layer from left to right, pos the
	// position of each vertex there.
	layers [][]int32
	pos    []int32
}

// An arc is an edge between vertices. After breakCycles it leads downwards.
type arc struct {
	from, to          int
	reversed, direct  bool
	firstBend, bends  int
	repeated, ignored bool
}

func newNet(g Graph, c component) *net {
	n := &net{nodes: len(c.nodes), arcs: make([]arc, len(c.edges)), width: make([]float64, len(c.nodes)), layer: make([]int32, len(c.nodes))}
	index := make(map[int]int, len(c.nodes))
	for i, v := range c.nodes {
		index[v] = i
		n.width[i] = g.Nodes[v].Width
	}
	for i, id := range c.edges {
		e := g.Edges[id]
		n.arcs[i] = arc{from: index[e.From], to: index[e.To]}
	}
	return n
}

// breakCycles turns the arcs that a depth-first search finds to close a cycle,
// and marks those that do not count: loops and repetitions.
func (n *net) breakCycles() {
	out := make([][]int, n.nodes)
	indegree := make([]int, n.nodes)
	for i, a := range n.arcs {
		if a.from != a.to {
			out[a.from] = append(out[a.from], i)
			indegree[a.to]++
		}
	}
	const unseen, open, done = 0, 1, 2
	state := make([]uint8, n.nodes)
	next := make([]int, n.nodes)
	var stack []int
	visit := func(root int) {
		if state[root] != unseen {
			return
		}
		state[root] = open
		stack = append(stack[:0], root)
		for len(stack) > 0 {
			v := stack[len(stack)-1]
			if next[v] == len(out[v]) {
				state[v] = done
				stack = stack[:len(stack)-1]
				continue
			}
			a := &n.arcs[out[v][next[v]]]
			next[v]++
			switch state[a.to] {
			case unseen:
				state[a.to] = open
				stack = append(stack, a.to)
			case open:
				a.reversed = true
			}
		}
	}
	for v, d := range indegree {
		if d == 0 {
			visit(v)
		}
	}
	for v := range n.nodes {
		visit(v)
	}
	seen := make(map[[2]int]bool, len(n.arcs))
	for i := range n.arcs {
		a := &n.arcs[i]
		if a.reversed {
			a.from, a.to = a.to, a.from
		}
		key := [2]int{a.from, a.to}
		a.repeated = seen[key]
		seen[key] = true
		a.ignored = a.repeated || a.from == a.to
	}
}

// assignLayers puts each node as high as its predecessors allow, and then lets
// nodes sink or rise to where their lines are shortest.
func (n *net) assignLayers() {
	in, out := make([][]int32, n.nodes), make([][]int32, n.nodes)
	for _, a := range n.arcs {
		if !a.ignored {
			in[a.to] = append(in[a.to], int32(a.from))
			out[a.from] = append(out[a.from], int32(a.to))
		}
	}
	waits := make([]int, n.nodes)
	order := make([]int32, 0, n.nodes)
	for v := range waits {
		if waits[v] = len(in[v]); waits[v] == 0 {
			order = append(order, int32(v))
		}
	}
	for i := 0; i < len(order); i++ {
		v := order[i]
		for _, w := range out[v] {
			n.layer[w] = max(n.layer[w], n.layer[v]+1)
			if waits[w]--; waits[w] == 0 {
				order = append(order, w)
			}
		}
	}
	// Each pass moves along the order, so that a whole chain follows its end.
	for range 4 {
		moved := false
		shift := func(v int32) {
			target := n.layer[v]
			switch {
			case len(out[v]) > len(in[v]):
				target = math.MaxInt32
				for _, w := range out[v] {
					target = min(target, n.layer[w]-1)
				}
			case len(in[v]) > len(out[v]):
				target = 0
				for _, w := range in[v] {
					target = max(target, n.layer[w]+1)
				}
			}
			if target != n.layer[v] {
				n.layer[v], moved = target, true
			}
		}
		for _, v := range slices.Backward(order) {
			shift(v)
		}
		for _, v := range order {
			shift(v)
		}
		if !moved {
			break
		}
	}
	// A chain whose every node has one line in and one out stays at its top end;
	// it hangs well there. What is left is to begin at layer 0 and skip none.
	used := make([]int32, n.nodes+1)
	for _, k := range n.layer {
		used[k] = 1
	}
	next := int32(0)
	for k := range used {
		used[k], next = next, next+used[k]
	}
	for v := range n.layer {
		n.layer[v] = used[n.layer[v]]
	}
}

// addBends gives each arc a vertex in every layer that it passes, the shortest
// arcs first, until there are too many.
func (n *net) addBends() {
	byLength := make([]int, 0, len(n.arcs))
	for i, a := range n.arcs {
		if !a.ignored {
			byLength = append(byLength, i)
		}
	}
	span := func(i int) int { return int(n.layer[n.arcs[i].to] - n.layer[n.arcs[i].from]) }
	slices.SortStableFunc(byLength, func(a, b int) int { return span(a) - span(b) })
	budget := 20_000 + 8*n.nodes
	routed := make([]bool, len(n.arcs))
	for _, i := range byLength {
		need := span(i) - 1
		if need > budget {
			n.arcs[i].direct = true
			continue
		}
		budget -= need
		routed[i] = true
	}
	n.up, n.down = make([][]int32, n.nodes), make([][]int32, n.nodes)
	first := make(map[[2]int]int)
	for i := range n.arcs {
		a := &n.arcs[i]
		if !routed[i] {
			continue
		}
		first[[2]int{a.from, a.to}] = i
		a.firstBend, a.bends = len(n.width), span(i)-1
		v := int32(a.from)
		for k := range a.bends {
			w := int32(len(n.width))
			n.width = append(n.width, 0)
			n.layer = append(n.layer, n.layer[a.from]+int32(k)+1)
			n.up, n.down = append(n.up, nil), append(n.down, nil)
			n.connect(v, w)
			v = w
		}
		n.connect(v, int32(a.to))
	}
	// A repetition takes the way of the arc that it repeats.
	for i := range n.arcs {
		if a := &n.arcs[i]; a.repeated && a.from != a.to {
			if k, ok := first[[2]int{a.from, a.to}]; ok {
				a.firstBend, a.bends = n.arcs[k].firstBend, n.arcs[k].bends
			} else {
				a.direct = true
			}
		}
	}
}

func (n *net) connect(v, w int32) {
	n.down[v] = append(n.down[v], w)
	n.up[w] = append(n.up[w], v)
}
