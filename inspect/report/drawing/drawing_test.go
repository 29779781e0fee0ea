package drawing

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func boxes(n int) []Size {
	s := make([]Size, n)
	for i := range s {
		s[i] = Size{Width: 60 + float64(i%7)*20, Height: 30 + float64(i%3)*10}
	}
	return s
}

func chain(n int) Graph {
	g := Graph{Nodes: boxes(n)}
	for i := 1; i < n; i++ {
		g.Edges = append(g.Edges, Edge{i - 1, i})
	}
	return g
}

// residual is a chain of blocks with two branches and a way around both.
func residual(blocks int) Graph {
	g := Graph{Nodes: boxes(1 + 5*blocks)}
	for b := range blocks {
		in, n := 5*b, 5*b+1
		g.Edges = append(g.Edges, Edge{in, n}, Edge{n, n + 1}, Edge{in, n + 2}, Edge{n + 2, n + 3}, Edge{n + 1, n + 4}, Edge{n + 3, n + 4}, Edge{in, n + 4})
	}
	return g
}

func random(seed uint64, nodes, edges int, cyclic bool) Graph {
	r := rand.New(rand.NewPCG(seed, 1))
	g := Graph{Nodes: boxes(nodes)}
	for range edges {
		a, b := r.IntN(nodes), r.IntN(nodes)
		if !cyclic && a > b {
			a, b = b, a
		}
		g.Edges = append(g.Edges, Edge{a, b})
	}
	return g
}

func cases() map[string]Graph {
	return map[string]Graph{
		"empty":        {},
		"one":          {Nodes: boxes(1)},
		"loop":         {Nodes: boxes(1), Edges: []Edge{{0, 0}, {0, 0}}},
		"two":          chain(2),
		"two cycle":    {Nodes: boxes(2), Edges: []Edge{{0, 1}, {1, 0}}},
		"repeated":     {Nodes: boxes(3), Edges: []Edge{{0, 1}, {1, 2}, {0, 2}, {0, 2}, {0, 1}}},
		"ring":         {Nodes: boxes(5), Edges: []Edge{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 0}}},
		"diamond":      {Nodes: boxes(4), Edges: []Edge{{0, 1}, {0, 2}, {1, 3}, {2, 3}}},
		"apart":        {Nodes: boxes(9), Edges: []Edge{{0, 8}, {1, 7}, {7, 2}}},
		"isolated":     {Nodes: boxes(50)},
		"chain":        chain(200),
		"residual":     residual(40),
		"star":         star(60),
		"no size":      {Nodes: make([]Size, 4), Edges: []Edge{{0, 1}, {0, 2}, {0, 3}, {1, 3}}},
		"random":       random(1, 60, 90, false),
		"dense":        random(2, 30, 200, false),
		"random cycle": random(3, 50, 90, true),
		"sparse":       random(4, 300, 280, true),
	}
}

func star(n int) Graph {
	g := Graph{Nodes: boxes(n)}
	for i := 1; i < n; i++ {
		g.Edges = append(g.Edges, Edge{0, i})
	}
	return g
}

func TestInvariants(t *testing.T) {
	for name, g := range cases() {
		t.Run(name, func(t *testing.T) { check(t, g, Options{}) })
	}
}

// check lays g out and tests everything that New promises.
func check(t *testing.T, g Graph, opt Options) *Layout {
	t.Helper()
	l, err := New(g, opt)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Nodes) != len(g.Nodes) || len(l.Layers) != len(g.Nodes) || len(l.Edges) != len(g.Edges) {
		t.Fatalf("%d nodes, %d layers, %d edges for a graph of %d and %d", len(l.Nodes), len(l.Layers), len(l.Edges), len(g.Nodes), len(g.Edges))
	}
	const eps = 1e-6
	for v, p := range l.Nodes {
		s := g.Nodes[v]
		if !(p.X-s.Width/2 >= -eps && p.Y-s.Height/2 >= -eps && p.X+s.Width/2 <= l.Width+eps && p.Y+s.Height/2 <= l.Height+eps) {
			t.Fatalf("box %d at %v leaves the drawing of %v x %v", v, p, l.Width, l.Height)
		}
		for w := range v {
			q, z := l.Nodes[w], g.Nodes[w]
			if math.Abs(p.X-q.X) < (s.Width+z.Width)/2-eps && math.Abs(p.Y-q.Y) < (s.Height+z.Height)/2-eps {
				t.Fatalf("boxes %d at %v and %d at %v overlap", v, p, w, q)
			}
		}
	}
	for i, e := range g.Edges {
		r := l.Edges[i]
		if e.From == e.To {
			if len(r.Points) != 0 {
				t.Fatalf("edge %d is a loop and has points", i)
			}
			continue
		}
		if len(r.Points) < 2 {
			t.Fatalf("edge %d has %d points", i, len(r.Points))
		}
		up, low := e.From, e.To
		if r.Reversed {
			up, low = low, up
		}
		if l.Layers[up] >= l.Layers[low] {
			t.Fatalf("edge %d leads from layer %d to %d", i, l.Layers[up], l.Layers[low])
		}
		first, last := r.Points[0], r.Points[len(r.Points)-1]
		if first.X != l.Nodes[up].X || last.X != l.Nodes[low].X || math.Abs(first.Y-l.Nodes[up].Y-g.Nodes[up].Height/2) > eps || math.Abs(last.Y-l.Nodes[low].Y+g.Nodes[low].Height/2) > eps {
			t.Fatalf("edge %d runs from %v to %v, its boxes are at %v and %v", i, first, last, l.Nodes[up], l.Nodes[low])
		}
		for k := 1; k < len(r.Points); k++ {
			a, b := r.Points[k-1], r.Points[k]
			if b.Y < a.Y {
				t.Fatalf("edge %d climbs from %v to %v", i, a, b)
			}
			if r.Direct {
				continue
			}
			for v, p := range l.Nodes {
				if p.Y+g.Nodes[v].Height/2 <= a.Y+eps || p.Y-g.Nodes[v].Height/2 >= b.Y-eps {
					continue
				}
				if math.Max(a.X, b.X) > p.X-g.Nodes[v].Width/2+eps && math.Min(a.X, b.X) < p.X+g.Nodes[v].Width/2-eps {
					t.Fatalf("edge %d (%v to %v) crosses box %d at %v", i, a, b, v, p)
				}
			}
		}
	}
	again, err := New(g, opt)
	if err != nil || !reflect.DeepEqual(l, again) {
		t.Fatal("a second drawing differs from the first")
	}
	return l
}

func TestAcyclicPointsDown(t *testing.T) {
	for name, g := range cases() {
		if name == "ring" || name == "two cycle" || name == "random cycle" || name == "sparse" {
			continue
		}
		l, err := New(g, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range l.Edges {
			if r.Reversed {
				t.Errorf("%s: edge %d is reversed in a graph without cycles", name, i)
			}
		}
	}
}

// A straight chain is drawn straight, a diamond symmetric, a tree without
// crossings, and a source beside its only reader.
func TestShapes(t *testing.T) {
	l := check(t, chain(20), Options{})
	for v, p := range l.Nodes {
		if p.X != l.Nodes[0].X || l.Layers[v] != v {
			t.Errorf("node %d of a chain at %v, layer %d", v, p, l.Layers[v])
		}
	}
	same := []Size{{80, 30}, {80, 30}, {80, 30}, {80, 30}}
	l = check(t, Graph{Nodes: same, Edges: []Edge{{0, 1}, {0, 2}, {1, 3}, {2, 3}}}, Options{})
	if l.Nodes[0].X != l.Nodes[3].X || l.Nodes[0].X != (l.Nodes[1].X+l.Nodes[2].X)/2 {
		t.Errorf("diamond: %v", l.Nodes)
	}
	late := chain(10)
	late.Nodes = append(late.Nodes, Size{50, 20})
	late.Edges = append(late.Edges, Edge{10, 8})
	if l = check(t, late, Options{}); l.Layers[10] != 7 {
		t.Errorf("a source whose reader is in layer 8 is in layer %d", l.Layers[10])
	}
	long := chain(10)
	long.Edges = append(long.Edges, Edge{0, 9})
	l = check(t, long, Options{})
	xs := map[float64]bool{}
	for _, p := range l.Edges[len(l.Edges)-1].Points[2:] {
		xs[p.X] = true
	}
	if len(xs) > 2 {
		t.Errorf("the line past a chain bends: %v", l.Edges[len(l.Edges)-1].Points)
	}
}

func TestTreeHasNoCrossings(t *testing.T) {
	g := Graph{Nodes: boxes(63)}
	for _, i := range rand.New(rand.NewPCG(5, 5)).Perm(62) {
		g.Edges = append(g.Edges, Edge{i / 2, i + 1})
	}
	c := components(g)
	n := newNet(g, c[0])
	n.breakCycles()
	n.assignLayers()
	n.addBends()
	n.order()
	if k := n.crossings(); k != 0 {
		t.Errorf("a tree is drawn with %d crossings", k)
	}
}

// crossings against the definition.
func TestCrossings(t *testing.T) {
	for seed := range uint64(20) {
		g := random(seed, 25, 60, false)
		for _, c := range components(g) {
			n := newNet(g, c)
			n.breakCycles()
			n.assignLayers()
			n.addBends()
			n.pos = make([]int32, len(n.width))
			n.initialOrder()
			want := 0
			for v := range n.down {
				for w := range n.down {
					if n.layer[v] != n.layer[w] || n.pos[v] >= n.pos[w] {
						continue
					}
					for _, a := range n.down[v] {
						for _, b := range n.down[w] {
							if n.pos[a] > n.pos[b] {
								want++
							}
						}
					}
				}
			}
			before := n.crossings()
			if before != want {
				t.Fatalf("seed %d: %d crossings, want %d", seed, before, want)
			}
			n.order()
			if after := n.crossings(); after > before {
				t.Errorf("seed %d: ordering made %d crossings of %d", seed, after, before)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	for name, g := range map[string]Graph{
		"no such node": {Nodes: boxes(2), Edges: []Edge{{0, 2}}},
		"negative":     {Nodes: boxes(2), Edges: []Edge{{-1, 0}}},
		"NaN":          {Nodes: []Size{{math.NaN(), 1}}},
		"infinite":     {Nodes: []Size{{1, math.Inf(1)}}},
	} {
		if _, err := New(g, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(chain(2), Options{NodeGap: -1}); !errors.Is(err, ErrSize) {
		t.Errorf("negative gap: %v", err)
	}
}

// Graphs that are made to be slow: very many nodes, very long lines, very wide
// layers. The bound is far above what they take and far below what a quadratic
// method would.
func TestHostile(t *testing.T) {
	if testing.Short() {
		t.Skip("draws graphs of 100,000 nodes")
	}
	skip := chain(3000) // every node is read by the last one
	for i := range 2998 {
		skip.Edges = append(skip.Edges, Edge{i, 2999})
	}
	for name, g := range map[string]Graph{
		"chain": chain(100_000), "star": star(100_000), "random": random(7, 20_000, 40_000, true), "long lines": skip, "isolated": {Nodes: boxes(100_000)},
	} {
		begin := time.Now()
		l, err := New(g, Options{})
		if err != nil {
			t.Fatal(err)
		}
		d := time.Since(begin)
		t.Logf("%s: %v", name, d)
		if d > time.Minute {
			t.Errorf("%s took %v", name, d)
		}
		direct := 0
		for _, r := range l.Edges {
			if r.Direct {
				direct++
			}
		}
		if name == "long lines" && direct == 0 {
			t.Errorf("%s: all 4.5 million bends were made", name)
		}
	}
}

func FuzzNew(f *testing.F) {
	f.Add([]byte{5, 0, 1, 1, 2, 2, 0, 3, 3, 4, 0})
	f.Add([]byte{1, 0, 0})
	f.Add([]byte{30, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 2, 9, 1, 29})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 400 || b[0] == 0 {
			return
		}
		g := Graph{Nodes: boxes(int(b[0]))}
		for i := 1; i+1 < len(b); i += 2 {
			g.Edges = append(g.Edges, Edge{int(b[i]) % int(b[0]), int(b[i+1]) % int(b[0])})
		}
		check(t, g, Options{})
	})
}

func BenchmarkNew(b *testing.B) {
	for name, g := range map[string]Graph{"residual2000": residual(400), "random2000": random(1, 2000, 2600, false)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := New(g, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
