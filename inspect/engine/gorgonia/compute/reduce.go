package compute

import (
	"cmp"
	"math"
	"slices"
)

// Fold reduces x of the given shape over the axes marked, row by row: f gets the
// numbers over which one result is formed, in row-major order, and must not keep
// or change them. dst has one element for each place in the other axes.
func Fold[T, R any](w *Workers, f func(row []T) R, dst []R, x []T, shape []int, over []bool) {
	x, n, inner := folded(w, x, shape, over)
	if n == 0 {
		var none []T
		for i := range dst {
			dst[i] = f(none)
		}
		return
	}
	rows(w, x, len(x)/(n*inner), n, inner, func(at int, row []T) { dst[at] = f(row) })
}

// folded brings x into the form (outer, n, inner) with the axes to reduce in the
// middle, by a transposed copy where they lie apart.
func folded[T any](w *Workers, x []T, shape []int, over []bool) (y []T, n, inner int) {
	n, inner = 1, 1
	var kept, reduced []int
	for i, d := range shape {
		if over[i] {
			n *= d
			reduced = append(reduced, i)
		} else {
			kept = append(kept, i)
		}
	}
	together := true
	for i := 1; i < len(reduced); i++ {
		for k := reduced[i-1] + 1; k < reduced[i]; k++ {
			together = together && shape[k] == 1
		}
	}
	if !together {
		y = make([]T, len(x))
		Transpose(w, y, x, shape, append(kept, reduced...))
		return y, n, 1
	}
	if len(reduced) > 0 {
		inner = size(shape[reduced[len(reduced)-1]+1:])
	}
	return x, n, inner
}

// Along computes f over every run of x along one axis, x being of shape (outer,
// n, inner): f gets the run and writes as many numbers as dst, of shape (outer,
// m, inner), has along that axis. f keeps and changes nothing of row.
func Along[T, R any](w *Workers, f func(dst []R, row []T), dst []R, x []T, n, m, inner int) {
	if len(x) == 0 || len(dst) == 0 {
		return
	}
	outer := len(x) / (n * inner)
	if inner == 1 {
		pieces(w, outer, max(1, grain/n), func(lo, hi int) {
			for i := lo; i < hi; i++ {
				f(dst[i*m:(i+1)*m:(i+1)*m], x[i*n:(i+1)*n:(i+1)*n])
			}
		})
		return
	}
	tiles(w, outer, n, inner, func(i, lo, hi int) {
		buf := make([]T, (hi-lo)*n)
		out := make([]R, m)
		gatherColumns(buf, x[i*n*inner:], n, inner, lo, hi)
		for k := lo; k < hi; k++ {
			f(out, buf[(k-lo)*n:(k-lo+1)*n:(k-lo+1)*n])
			d := dst[i*m*inner+k:]
			for r, v := range out {
				d[r*inner] = v
			}
		}
	})
}

// rows calls f for every run of x along the middle of (outer, n, inner).
func rows[T any](w *Workers, x []T, outer, n, inner int, f func(at int, row []T)) {
	if inner == 1 {
		pieces(w, outer, max(1, grain/n), func(lo, hi int) {
			for i := lo; i < hi; i++ {
				f(i, x[i*n:(i+1)*n:(i+1)*n])
			}
		})
		return
	}
	tiles(w, outer, n, inner, func(i, lo, hi int) {
		buf := make([]T, (hi-lo)*n)
		gatherColumns(buf, x[i*n*inner:], n, inner, lo, hi)
		for k := lo; k < hi; k++ {
			f(i*inner+k, buf[(k-lo)*n:(k-lo+1)*n:(k-lo+1)*n])
		}
	})
}

// tiles cuts the columns of (outer, n, inner) into tiles that fit in the cache
// when they are turned into rows.
func tiles(w *Workers, outer, n, inner int, f func(i, lo, hi int)) {
	wide := min(inner, max(1, min(256, grain/n)))
	per := (inner + wide - 1) / wide
	w.Do(outer*per, func(p int) {
		lo := p % per * wide
		f(p/per, lo, min(inner, lo+wide))
	})
}

// gatherColumns turns columns lo to hi of an n by inner matrix into rows.
func gatherColumns[T any](dst, x []T, n, inner, lo, hi int) {
	for r := range n {
		src := x[r*inner+lo : r*inner+hi]
		for k, v := range src {
			dst[k*n+r] = v
		}
	}
}

// Sum is the sum of a row, formed in float64.
func Sum[T Float](row []T) T { return T(sum(row)) }

func sum[T Float](row []T) float64 {
	var a, b, c, d float64
	for ; len(row) >= 4; row = row[4:] {
		a += float64(row[0])
		b += float64(row[1])
		c += float64(row[2])
		d += float64(row[3])
	}
	for _, v := range row {
		a += float64(v)
	}
	return (a + b) + (c + d)
}

// Mean is the mean of a row, NaN when it is empty.
func Mean[T Float](row []T) T { return T(sum(row) / float64(len(row))) }

// SumInt is the sum of a row of integers; it wraps around.
func SumInt[T Integer](row []T) T {
	var s T
	for _, v := range row {
		s += v
	}
	return s
}

// SumSquare is the sum of squares, formed in float64.
func SumSquare[T Number](row []T) T { return T(sumSquare(row)) }

func sumSquare[T Number](row []T) float64 {
	var s float64
	for _, v := range row {
		s += float64(v) * float64(v)
	}
	return s
}

// NormL1 is the sum of absolute values, formed in float64.
func NormL1[T Number](row []T) T {
	var s float64
	for _, v := range row {
		s += math.Abs(float64(v))
	}
	return T(s)
}

// NormL2 is the root of the sum of squares, formed in float64.
func NormL2[T Number](row []T) T { return T(math.Sqrt(sumSquare(row))) }

// LogSumExp is log(sum(exp(x))), formed in float64 without overflow.
func LogSumExp[T Number](row []T) T {
	most := math.Inf(-1)
	for _, v := range row {
		most = max(most, float64(v))
	}
	if math.IsInf(most, 0) || most != most {
		return T(most)
	}
	var s float64
	for _, v := range row {
		s += math.Exp(float64(v) - most)
	}
	return T(most + math.Log(s))
}

// Product is the product of a row, 1 when it is empty.
func Product[T Number](row []T) T {
	var p T = 1
	for _, v := range row {
		p *= v
	}
	return p
}

// Most is the greatest number of a row, NaN when one is NaN; of none it is minus
// infinity or the least integer.
func Most[T Number](row []T) T {
	if len(row) == 0 {
		return lowest[T]()
	}
	m := row[0]
	for _, v := range row[1:] {
		if v > m || v != v {
			m = v
		}
	}
	return m
}

// Least is the least number of a row, NaN when one is NaN; of none it is infinity
// or the greatest integer.
func Least[T Number](row []T) T {
	if len(row) == 0 {
		return highest[T]()
	}
	m := row[0]
	for _, v := range row[1:] {
		if v < m || v != v {
			m = v
		}
	}
	return m
}

// ArgMost returns a function that tells where the greatest number of a row is,
// the first of equals, or the last one.
func ArgMost[T Number](last bool) func(row []T) int64 {
	return func(row []T) int64 {
		at := 0
		for i, v := range row {
			if v > row[at] || last && v == row[at] {
				at = i
			}
		}
		return int64(at)
	}
}

// ArgLeast is ArgMost for the least number.
func ArgLeast[T Number](last bool) func(row []T) int64 {
	return func(row []T) int64 {
		at := 0
		for i, v := range row {
			if v < row[at] || last && v == row[at] {
				at = i
			}
		}
		return int64(at)
	}
}

// TopK writes where the k = len(dst) greatest, or least, numbers of a row are,
// greatest first, and the lower place first among equals.
func TopK[T Number](least bool) func(dst []int64, row []T) {
	return func(dst []int64, row []T) {
		order := make([]int64, len(row))
		for i := range order {
			order[i] = int64(i)
		}
		slices.SortStableFunc(order, func(a, b int64) int {
			if least {
				return cmp.Compare(row[a], row[b])
			}
			return cmp.Compare(row[b], row[a])
		})
		copy(dst, order)
	}
}

// CumSum writes the sums of the row up to each place, without that place when
// exclusive, from the end when reverse.
func CumSum[T Number](exclusive, reverse bool) func(dst, row []T) {
	return cumulate(0, func(x, y T) T { return x + y }, exclusive, reverse)
}

// CumProd is CumSum of products.
func CumProd[T Number](exclusive, reverse bool) func(dst, row []T) {
	return cumulate(1, func(x, y T) T { return x * y }, exclusive, reverse)
}

func cumulate[T Number](first T, f func(x, y T) T, exclusive, reverse bool) func(dst, row []T) {
	return func(dst, row []T) {
		s := first
		for k := range row {
			i := k
			if reverse {
				i = len(row) - 1 - k
			}
			if exclusive {
				dst[i] = s
			}
			s = f(s, row[i])
			if !exclusive {
				dst[i] = s
			}
		}
	}
}
