package compute

// grain is about how many numbers a part of work holds: enough to be worth a
// goroutine's attention, few enough to stay in the cache.
const grain = 1 << 14

// pieces cuts [0, n) into runs of at most each and gives them to the workers.
func pieces(w *Workers, n, each int, f func(lo, hi int)) {
	if n <= 0 {
		return
	}
	if n <= each {
		f(0, n)
		return
	}
	w.Do((n+each-1)/each, func(i int) { f(i*each, min(n, (i+1)*each)) })
}

// dim is a dimension of a walk over row-major results: its length, and by how
// many elements each operand moves with a step along it (0: it is broadcast).
type dim struct {
	n    int
	step [3]int
}

// collapse leaves out dimensions of length 1 and joins neighbours along which
// every operand moves evenly. The result has at least one dimension.
func collapse(dims []dim) []dim {
	out := make([]dim, 0, len(dims)+1)
	for _, d := range dims {
		if d.n == 1 {
			continue
		}
		if k := len(out) - 1; k >= 0 {
			even := true
			for i, s := range d.step {
				even = even && out[k].step[i] == s*d.n
			}
			if even {
				out[k] = dim{out[k].n * d.n, d.step}
				continue
			}
		}
		out = append(out, d)
	}
	if len(out) == 0 {
		out = append(out, dim{n: 1, step: [3]int{1, 1, 1}})
	}
	return out
}

// walk calls f for every run of numbers along the last dimension, cut into
// pieces that the workers share: at is where the run lies in the result, off
// where it begins in each operand, n its length.
func walk(w *Workers, dims []dim, f func(at int, off [3]int, n int)) {
	outer, last := dims[:len(dims)-1], dims[len(dims)-1]
	rows := 1
	for _, d := range outer {
		rows *= d.n
	}
	if rows == 0 || last.n == 0 {
		return
	}
	if last.n > grain {
		per := (last.n + grain - 1) / grain
		w.Do(rows*per, func(i int) {
			lo := i % per * grain
			off := seek(outer, i/per)
			for k := range off {
				off[k] += lo * last.step[k]
			}
			f(i/per*last.n+lo, off, min(grain, last.n-lo))
		})
		return
	}
	pieces(w, rows, grain/last.n, func(lo, hi int) {
		// The place in each dimension, kept from row to row.
		var room [8]int
		index := append(room[:0], make([]int, len(outer))...)
		for i, r := len(outer)-1, lo; i >= 0; i-- {
			index[i] = r % outer[i].n
			r /= outer[i].n
		}
		off := seek(outer, lo)
		for row := lo; row < hi; row++ {
			f(row*last.n, off, last.n)
			for i := len(outer) - 1; i >= 0; i-- {
				index[i]++
				for k := range off {
					off[k] += outer[i].step[k]
				}
				if index[i] < outer[i].n {
					break
				}
				index[i] = 0
				for k := range off {
					off[k] -= outer[i].n * outer[i].step[k]
				}
			}
		}
	})
}

// seek returns where a row of the walk begins in each operand.
func seek(outer []dim, row int) (off [3]int) {
	for i := len(outer) - 1; i >= 0; i-- {
		at := row % outer[i].n
		row /= outer[i].n
		for k := range off {
			off[k] += at * outer[i].step[k]
		}
	}
	return off
}

// size is the number of elements of a shape.
func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// broadcastDims lays out a walk over shape for operands whose shapes broadcast
// to it.
func broadcastDims(shape []int, operands ...[]int) []dim {
	dims := make([]dim, len(shape))
	for i, n := range shape {
		dims[i].n = n
	}
	for k, s := range operands {
		step := 1
		for i := len(s) - 1; i >= 0; i-- {
			d := &dims[len(shape)-len(s)+i]
			if s[i] != 1 {
				d.step[k] = step
			}
			step *= s[i]
		}
	}
	return collapse(dims)
}
