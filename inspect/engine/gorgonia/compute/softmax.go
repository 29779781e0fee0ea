package compute

import "math"

// Softmax writes exp(x) / sum(exp(x)) of a row, moved by the greatest number so
// that nothing overflows; for Along.
func Softmax[T Float](dst, row []T) {
	m := Most(row)
	for i, v := range row {
		dst[i] = v - m
	}
	Exp(dst, dst)
	scale := T(1 / sum(dst))
	for i := range dst {
		dst[i] *= scale
	}
}

// LogSoftmax writes x - log(sum(exp(x))) of a row; for Along.
func LogSoftmax[T Float](dst, row []T) {
	m := Most(row)
	for i, v := range row {
		dst[i] = v - m
	}
	var s float64
	var buf [256]T
	for lo := 0; lo < len(dst); lo += len(buf) {
		part := dst[lo:min(len(dst), lo+len(buf))]
		Exp(buf[:len(part)], part)
		s += sum(buf[:len(part)])
	}
	move := T(math.Log(s))
	for i := range dst {
		dst[i] -= move
	}
}

// Hardmax writes 1 at the greatest number of a row, the first of equals, and 0
// elsewhere; for Along.
func Hardmax[T Float](dst, row []T) {
	clear(dst)
	dst[ArgMost[T](false)(row)] = 1
}
