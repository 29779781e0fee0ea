package drawing

import (
	"cmp"
	"math"
	"slices"
)

// coordinates returns the x of each vertex's centre, by the method of Brandes
// and Köpf (2001): vertices are aligned with their median neighbours in four
// ways (above or below, to the left or to the right), each is packed as closely
// as the gaps allow, and the mean of the two middle results is taken. It keeps
// every gap, because each of the four does.
func (n *net) coordinates(opt Options) []float64 {
	marked := n.conflicts()
	xs := make([][]float64, 0, 4)
	for _, downwards := range []bool{true, false} {
		for _, leftwards := range []bool{true, false} {
			xs = append(xs, n.align(opt, marked, downwards, leftwards))
		}
	}
	// All four are moved so that they agree with the narrowest one, left ones at
	// its left end, right ones at its right end.
	type extent struct{ left, right float64 }
	extents := make([]extent, 4)
	narrow := 0
	for i, x := range xs {
		e := extent{math.Inf(1), math.Inf(-1)}
		for v := range x {
			e.left, e.right = min(e.left, x[v]-n.width[v]/2), max(e.right, x[v]+n.width[v]/2)
		}
		extents[i] = e
		if e.right-e.left < extents[narrow].right-extents[narrow].left {
			narrow = i
		}
	}
	for i, x := range xs {
		shift := extents[narrow].left - extents[i].left
		if i%2 == 1 {
			shift = extents[narrow].right - extents[i].right
		}
		for v := range x {
			x[v] += shift
		}
	}
	result := make([]float64, len(n.width))
	for v := range result {
		four := [4]float64{xs[0][v], xs[1][v], xs[2][v], xs[3][v]}
		slices.Sort(four[:])
		// A grid spares the picture digits and makes straight what is straight
		// but for rounding.
		result[v] = math.Round(2*(four[1]+four[2])/2) / 2
	}
	// Rounding may have cost a gap half a unit.
	for _, layer := range n.layers {
		for i := 1; i < len(layer); i++ {
			v, w := layer[i-1], layer[i]
			if least := result[v] + (n.width[v]+n.width[w])/2; result[w] < least {
				result[w] = least
			}
		}
	}
	return result
}

func (n *net) isBend(v int32) bool { return int(v) >= n.nodes }

// conflicts returns the lines, upper end first, that cross an inner segment of a
// long line; they give way, so that long lines are straight.
func (n *net) conflicts() map[[2]int32]bool {
	marked := make(map[[2]int32]bool)
	for k := 1; k < len(n.layers); k++ {
		above, layer := n.layers[k-1], n.layers[k]
		low, scanned := int32(0), 0
		for i, v := range layer {
			inner := n.isBend(v) && n.isBend(n.up[v][0])
			if !inner && i+1 < len(layer) {
				continue
			}
			high := int32(len(above)) - 1
			if inner {
				high = n.pos[n.up[v][0]]
			}
			for ; scanned <= i; scanned++ {
				w := layer[scanned]
				for _, u := range n.up[w] {
					if (n.pos[u] < low || n.pos[u] > high) && !(n.isBend(u) && n.isBend(w)) {
						marked[[2]int32{u, w}] = true
					}
				}
			}
			low = high
		}
	}
	return marked
}

// align is one of the four ways.
func (n *net) align(opt Options, marked map[[2]int32]bool, downwards, leftwards bool) []float64 {
	total := len(n.width)
	root, next := make([]int32, total), make([]int32, total)
	for v := range root {
		root[v], next[v] = int32(v), int32(v)
	}
	// To the right is to the left in a mirror.
	place := func(v int32) int32 {
		if leftwards {
			return n.pos[v]
		}
		return int32(len(n.layers[n.layer[v]])) - 1 - n.pos[v]
	}
	at := func(layer []int32, i int) int32 {
		if leftwards {
			return layer[i]
		}
		return layer[len(layer)-1-i]
	}
	near := n.up
	if !downwards {
		near = n.down
	}
	var sorted []int32
	for k := range n.layers {
		layer := n.layers[k]
		if !downwards {
			layer = n.layers[len(n.layers)-1-k]
		}
		taken := int32(-1)
		for i := range layer {
			v := at(layer, i)
			if len(near[v]) == 0 {
				continue
			}
			sorted = append(sorted[:0], near[v]...)
			slices.SortFunc(sorted, func(a, b int32) int { return cmp.Compare(place(a), place(b)) })
			for m := (len(sorted) - 1) / 2; m <= len(sorted)/2; m++ {
				w := sorted[m]
				line := [2]int32{w, v}
				if !downwards {
					line = [2]int32{v, w}
				}
				if next[v] != v || place(w) <= taken || marked[line] {
					continue
				}
				next[w], next[v] = v, root[w]
				root[v] = root[w]
				taken = place(w)
			}
		}
	}
	x := n.compact(opt, root, at)
	if !leftwards {
		for v := range x {
			x[v] = -x[v]
		}
	}
	return x
}

// compact gives each block of aligned vertices, named by its root, one x: as far
// to the left as its neighbours allow, and then as close to those on its right.
func (n *net) compact(opt Options, root []int32, at func([]int32, int) int32) []float64 {
	type link struct {
		to  int32
		gap float64
	}
	right := make([][]link, len(root))
	waits := make([]int32, len(root))
	for _, layer := range n.layers {
		for i := 1; i < len(layer); i++ {
			v, w := at(layer, i-1), at(layer, i)
			gap := opt.NodeGap
			if n.isBend(v) || n.isBend(w) {
				gap = opt.EdgeGap
			}
			right[root[v]] = append(right[root[v]], link{root[w], gap + (n.width[v]+n.width[w])/2})
			waits[root[w]]++
		}
	}
	x := make([]float64, len(root))
	order := make([]int32, 0, len(root))
	for v := range root {
		if root[v] == int32(v) && waits[v] == 0 {
			order = append(order, int32(v))
		}
	}
	for i := 0; i < len(order); i++ {
		v := order[i]
		for _, l := range right[v] {
			x[l.to] = max(x[l.to], x[v]+l.gap)
			if waits[l.to]--; waits[l.to] == 0 {
				order = append(order, l.to)
			}
		}
	}
	for _, v := range slices.Backward(order) {
		if len(right[v]) == 0 {
			continue
		}
		least := math.Inf(1)
		for _, l := range right[v] {
			least = min(least, x[l.to]-l.gap)
		}
		x[v] = max(x[v], least)
	}
	for v := range x {
		if root[v] != int32(v) {
			x[v] = x[root[v]]
		}
	}
	return x
}
