package compute

// Affine sets dst to x*factor + addend, with one factor and one addend for each
// channel. x has shape (N, len(factor), inner). dst may be x.
func Affine(w *Workers, dst, x []float32, inner int, factor, addend []float32) {
	affine(best, w, dst, x, inner, factor, addend)
}

func affine(a arch, w *Workers, dst, x []float32, inner int, factor, addend []float32) {
	off := []int{0}
	runs := 0
	if inner > 0 {
		runs = len(x) / inner
	}
	piece := max(1, 1<<14/max(1, inner))
	w.Do(ceilDiv(runs, piece), func(part int) {
		for r := part * piece; r < min(runs, (part+1)*piece); r++ {
			c := r % len(factor)
			if inner == 1 {
				dst[r] = addend[c] + factor[c]*x[r]
				continue
			}
			a.taps(dst[r*inner:][:inner], x[r*inner:][:inner], off, factor[c:c+1], addend[c], false, negInf, posInf)
		}
	})
}

// Multiply sets the m x n matrix c to the product of a, m x k, and b, k x n, for
// elements of any type, by a plain loop; Gemm is for float32. Matrices lie
// without gaps; sums that overflow wrap around where T is an integer.
func Multiply[T Number](w *Workers, m, n, k int, a, b, c []T) {
	w.Do(m, func(i int) {
		row := c[i*n:][:n]
		clear(row)
		for p, v := range a[i*k:][:k] {
			for j, u := range b[p*n:][:n] {
				row[j] += v * u
			}
		}
	})
}
