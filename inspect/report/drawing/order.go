package drawing

import (
	"cmp"
	"slices"
)

// order decides who stands left of whom in each layer so that few lines cross:
// barycentres, sweeping down and up, and then exchanges of neighbours.
func (n *net) order() {
	n.pos = make([]int32, len(n.width))
	n.initialOrder()
	best := n.crossings()
	kept := n.snapshot()
	for round, idle := 0, 0; best > 0 && round < 24 && idle < 4; round++ {
		// Ties break to either side in turn, which frees orders that are stuck.
		n.sweep(round%2 == 0, round%4 >= 2)
		if c := n.crossings(); c < best {
			best, idle = c, 0
			kept = n.snapshot()
		} else {
			idle++
		}
	}
	for k, layer := range kept {
		n.setLayer(k, layer)
	}
	for round := 0; best > 0 && round < 4 && n.exchange(); round++ {
	}
}

func (n *net) snapshot() [][]int32 {
	s := make([][]int32, len(n.layers))
	for i, l := range n.layers {
		s[i] = slices.Clone(l)
	}
	return s
}

func (n *net) setLayer(k int, layer []int32) {
	n.layers[k] = layer
	for i, v := range layer {
		n.pos[v] = int32(i)
	}
}

// initialOrder follows the lines depth first, so that what hangs together stands
// together.
func (n *net) initialOrder() {
	depth := int32(0)
	for _, k := range n.layer {
		depth = max(depth, k+1)
	}
	n.layers = make([][]int32, depth)
	seen := make([]bool, len(n.width))
	var stack []int32
	visit := func(root int32) {
		stack = append(stack[:0], root)
		for len(stack) > 0 {
			v := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if seen[v] {
				continue
			}
			seen[v] = true
			k := n.layer[v]
			n.pos[v] = int32(len(n.layers[k]))
			n.layers[k] = append(n.layers[k], v)
			for _, w := range slices.Backward(n.down[v]) {
				if !seen[w] {
					stack = append(stack, w)
				}
			}
		}
	}
	byLayer := make([]int32, n.nodes)
	for v := range byLayer {
		byLayer[v] = int32(v)
	}
	slices.SortStableFunc(byLayer, func(a, b int32) int { return cmp.Compare(n.layer[a], n.layer[b]) })
	for _, v := range byLayer {
		visit(v)
	}
}

// sweep sorts each layer by the mean position of the neighbours in the layer
// before. Vertices that have none there keep their places.
func (n *net) sweep(down, right bool) {
	type entry struct {
		v    int32
		mean float64
	}
	var entries []entry
	for i := 1; i < len(n.layers); i++ {
		k, near := i, n.up
		if !down {
			k, near = len(n.layers)-1-i, n.down
		}
		layer := n.layers[k]
		entries = entries[:0]
		for _, v := range layer {
			if len(near[v]) == 0 {
				continue
			}
			sum := 0
			for _, w := range near[v] {
				sum += int(n.pos[w])
			}
			entries = append(entries, entry{v, float64(sum) / float64(len(near[v]))})
		}
		if right {
			slices.Reverse(entries)
		}
		slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.mean, b.mean) })
		next := 0
		for j, v := range layer {
			if len(near[v]) > 0 {
				layer[j] = entries[next].v
				next++
			}
		}
		n.setLayer(k, layer)
	}
}

// crossings counts the pairs of lines that cross between neighbouring layers, by
// the accumulator tree of Barth, Mutzel and Jünger (2004).
func (n *net) crossings() int {
	total := 0
	var tree []int
	var ends []int32
	for k := 1; k < len(n.layers); k++ {
		width := len(n.layers[k])
		if width < 2 || len(n.layers[k-1]) < 2 {
			continue
		}
		tree = slices.Grow(tree[:0], width+1)[:width+1]
		clear(tree)
		count := 0
		for _, v := range n.layers[k-1] {
			ends = ends[:0]
			for _, w := range n.down[v] {
				ends = append(ends, n.pos[w])
			}
			slices.Sort(ends)
			// Lines of one vertex do not cross: ask for all before adding any.
			for _, e := range ends {
				total += count
				for i := int(e) + 1; i > 0; i -= i & -i {
					total -= tree[i]
				}
			}
			for _, e := range ends {
				count++
				for i := int(e) + 1; i <= width; i += i & -i {
					tree[i]++
				}
			}
		}
	}
	return total
}

// exchange swaps neighbours wherever that removes crossings and tells whether it
// did so anywhere. Vertices with very many lines are left alone.
func (n *net) exchange() bool {
	better := false
	for k, layer := range n.layers {
		for i := 0; i+1 < len(layer); i++ {
			v, w := layer[i], layer[i+1]
			if len(n.up[v])*len(n.up[w])+len(n.down[v])*len(n.down[w]) > 1024 {
				continue
			}
			now, then := n.pairCrossings(n.up[v], n.up[w])
			a, b := n.pairCrossings(n.down[v], n.down[w])
			if now+a > then+b {
				layer[i], layer[i+1] = w, v
				n.pos[v], n.pos[w] = int32(i+1), int32(i)
				better = true
			}
		}
		n.layers[k] = layer
	}
	return better
}

// pairCrossings counts the crossings between the lines of two neighbours that
// lead to as and bs, as they stand and when they change places.
func (n *net) pairCrossings(as, bs []int32) (now, then int) {
	for _, a := range as {
		for _, b := range bs {
			switch pa, pb := n.pos[a], n.pos[b]; {
			case pa > pb:
				now++
			case pa < pb:
				then++
			}
		}
	}
	return now, then
}
