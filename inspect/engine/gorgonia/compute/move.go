package compute

// Strided copies numbers of src into dst of the given shape: a step along
// dimension i of dst is one of steps[i] elements in src, which may be 0 or
// negative; the first number is at offset. It is how tensors are transposed,
// cut and spread.
func Strided[T any](w *Workers, dst, src []T, shape []int, offset int, steps []int) {
	dims := make([]dim, len(shape))
	for i, n := range shape {
		dims[i] = dim{n: n, step: [3]int{steps[i]}}
	}
	dims = collapse(dims)
	if k := len(dims) - 1; k > 0 && dims[k].step[0] != 1 {
		for i := range k {
			if dims[i].step[0] == 1 {
				turned(w, dst, src, dims, i, offset)
				return
			}
		}
	}
	step := dims[len(dims)-1].step[0]
	walk(w, dims, func(at int, off [3]int, n int) {
		d, from := dst[at:at+n:at+n], offset+off[0]
		switch step {
		case 1:
			copy(d, src[from:from+n])
		case 0:
			v := src[from]
			for i := range d {
				d[i] = v
			}
		default:
			for i := range d {
				d[i] = src[from]
				from += step
			}
		}
	})
}

// turned is Strided where numbers that are neighbours in src lie along dimension
// near of dst and not along its last one: it goes by tiles, so that both are
// read and written by cache lines.
func turned[T any](w *Workers, dst, src []T, dims []dim, near, offset int) {
	const tile = 32
	last := dims[len(dims)-1]
	// Where a step along each dimension leads in dst.
	into := make([]int, len(dims))
	n := 1
	for i := len(dims) - 1; i >= 0; i-- {
		into[i] = n
		n *= dims[i].n
	}
	if n == 0 {
		return
	}
	var others []dim
	for i, d := range dims[:len(dims)-1] {
		if i != near {
			others = append(others, dim{d.n, [3]int{d.step[0], into[i]}})
		}
	}
	strips := (dims[near].n + tile - 1) / tile
	pieces(w, n/(dims[near].n*last.n)*strips, max(1, grain/(tile*last.n)), func(lo, hi int) {
		for p := lo; p < hi; p++ {
			off := seek(others, p/strips)
			a := p % strips * tile
			b := min(dims[near].n, a+tile)
			from, to := offset+off[0], off[1]
			for c := 0; c < last.n; c += tile {
				e := min(last.n, c+tile)
				for i := a; i < b; i++ {
					d := dst[to+i*into[near]+c : to+i*into[near]+e]
					s := from + i + c*last.step[0]
					for k := range d {
						d[k] = src[s]
						s += last.step[0]
					}
				}
			}
		}
	})
}

// Transpose writes src with its axes in another order: dimension i of dst is
// dimension perm[i] of src.
func Transpose[T any](w *Workers, dst, src []T, shape, perm []int) {
	from := rowMajor(shape)
	out, steps := make([]int, len(perm)), make([]int, len(perm))
	for i, p := range perm {
		out[i], steps[i] = shape[p], from[p]
	}
	Strided(w, dst, src, out, 0, steps)
}

// rowMajor returns by how many elements one moves along each dimension.
func rowMajor(shape []int) []int {
	steps := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		steps[i] = n
		n *= shape[i]
	}
	return steps
}

// Expand broadcasts src to shape.
func Expand[T any](w *Workers, dst []T, shape []int, src []T, srcShape []int) {
	steps := make([]int, len(shape))
	for i, s := range rowMajor(srcShape) {
		if srcShape[i] != 1 {
			steps[len(shape)-len(srcShape)+i] = s
		}
	}
	Strided(w, dst, src, shape, 0, steps)
}

// Slice writes every step[i]-th number of src along each dimension i, beginning
// at start[i], as many as shape, that of dst, says.
func Slice[T any](w *Workers, dst []T, shape []int, src []T, srcShape, start, step []int) {
	offset, steps := 0, rowMajor(srcShape)
	for i := range steps {
		offset += start[i] * steps[i]
		steps[i] *= step[i]
	}
	if size(shape) > 0 {
		Strided(w, dst, src, shape, offset, steps)
	}
}

// Tile repeats src along each dimension.
func Tile[T any](w *Workers, dst, src []T, shape, repeats []int) {
	var out, steps []int
	for i, s := range rowMajor(shape) {
		out = append(out, repeats[i], shape[i])
		steps = append(steps, 0, s)
	}
	Strided(w, dst, src, out, 0, steps)
}

// Concat writes srcs one behind the other along an axis: after[i] is how many
// numbers source i has for one place of the axes before it.
func Concat[T any](w *Workers, dst []T, srcs [][]T, after []int) {
	whole := 0
	for _, n := range after {
		whole += n
	}
	at := 0
	for i, src := range srcs {
		if n := after[i]; n > 0 && len(src) > 0 {
			pieces(w, len(src)/n, max(1, grain/n), func(lo, hi int) {
				for k := lo; k < hi; k++ {
					copy(dst[k*whole+at:], src[k*n:(k+1)*n])
				}
			})
		}
		at += after[i]
	}
}

// Take writes the numbers of src, of the given shape, that index names: along
// dimension i, place k of dst is place index[i][k] of src, and fill where that
// is negative. It is how tensors are padded and resized by whole numbers.
func Take[T any](w *Workers, dst, src []T, shape []int, index [][]int, fill T) {
	if len(shape) == 0 {
		copy(dst, src)
		return
	}
	last := index[len(index)-1]
	steps := rowMajor(shape)
	outer := 1
	for _, x := range index[:len(index)-1] {
		outer *= len(x)
	}
	n := len(last)
	if n == 0 || outer == 0 {
		return
	}
	// Runs of neighbours are copied at once.
	type run struct{ at, from, n int }
	var runs []run
	for k, from := range last {
		if i := len(runs) - 1; i >= 0 && (from < 0 && runs[i].from < 0 || from >= 0 && runs[i].from >= 0 && runs[i].from+runs[i].n == from) {
			runs[i].n++
			continue
		}
		runs = append(runs, run{k, from, 1})
	}
	pieces(w, outer, max(1, grain/n), func(lo, hi int) {
		for row := lo; row < hi; row++ {
			d := dst[row*n : (row+1)*n]
			from, inside := 0, true
			for i, r := len(index)-2, row; i >= 0; i-- {
				k := index[i][r%len(index[i])]
				r /= len(index[i])
				inside = inside && k >= 0
				from += k * steps[i]
			}
			if !inside {
				for i := range d {
					d[i] = fill
				}
				continue
			}
			s := src[from : from+shape[len(shape)-1]]
			if len(runs)*2 > n {
				for i, k := range last {
					if k < 0 {
						d[i] = fill
					} else {
						d[i] = s[k]
					}
				}
				continue
			}
			for _, r := range runs {
				if r.from >= 0 {
					copy(d[r.at:r.at+r.n], s[r.from:])
					continue
				}
				for i := r.at; i < r.at+r.n; i++ {
					d[i] = fill
				}
			}
		}
	})
}

// PadMode says what stands beyond the edges.
type PadMode int

// What stands beyond the edges: one number, the mirror image without the edge,
// the edge, or the other side.
const (
	PadConstant PadMode = iota
	PadReflect
	PadEdge
	PadWrap
)

// Index returns for Take the places along one dimension of length n with begin
// places before it and end behind it; where they are negative, as many are cut
// off.
func (m PadMode) Index(n, begin, end int) []int {
	index := make([]int, max(0, begin+n+end))
	for i := range index {
		k := i - begin
		if k >= 0 && k < n {
			index[i] = k
			continue
		}
		switch m {
		case PadReflect:
			if n == 1 {
				k = 0
			} else {
				p := 2 * (n - 1)
				k = ((k % p) + p) % p
				k = min(k, p-k)
			}
		case PadEdge:
			k = min(max(k, 0), n-1)
		case PadWrap:
			k = ((k % n) + n) % n
		default:
			k = -1
		}
		index[i] = k
	}
	return index
}

// Gather writes the blocks of src that index names: src has shape (outer, n,
// inner), dst (outer, len(index), inner). The numbers of index lie in [0, n).
func Gather[T any](w *Workers, dst, src []T, n, inner int, index []int) {
	if len(dst) == 0 {
		return
	}
	pieces(w, len(dst)/inner, max(1, grain/inner), func(lo, hi int) {
		for b := lo; b < hi; b++ {
			from := (b/len(index)*n + index[b%len(index)]) * inner
			copy(dst[b*inner:(b+1)*inner], src[from:from+inner])
		}
	})
}
