package compute

import "golang.org/x/sys/cpu"

// vector tells whether the assembly of this architecture can run.
var vector = cpu.X86.HasAVX2 && cpu.X86.HasFMA

//go:noescape
func expAVX2(dst, x *float32, n int)

//go:noescape
func sigmoidAVX2(dst, x *float32, n int)

//go:noescape
func siluAVX2(dst, x *float32, n int)

//go:noescape
func tanhAVX2(dst, x *float32, n int)

//go:noescape
func erfAVX2(dst, x *float32, n int)

//go:noescape
func reluAVX2(dst, x *float32, n int)

//go:noescape
func hardSwishAVX2(dst, x *float32, n int)

//go:noescape
func clipAVX2(dst, x *float32, n int, least, most float32)

//go:noescape
func addAVX2(dst, x, y *float32, n int)

//go:noescape
func mulAVX2(dst, x, y *float32, n int)

//go:noescape
func addOneAVX2(dst, x *float32, n int, y float32)

//go:noescape
func mulOneAVX2(dst, x *float32, n int, y float32)

//go:noescape
func maxIntoAVX2(dst, x *float32, n int)

//go:noescape
func maxInto2AVX2(dst, x *float32, n int)

// eights runs f on all but the last numbers and then on these, in a buffer, so
// that a number's result does not depend on where it stands.
func eights(dst, x []float32, f func(dst, x *float32, n int)) {
	n := len(x) &^ 7
	if n > 0 {
		f(&dst[0], &x[0], n)
	}
	if n == len(x) {
		return
	}
	var buf [8]float32
	copy(buf[:], x[n:])
	f(&buf[0], &buf[0], 8)
	copy(dst[n:], buf[:])
}

func exp32(dst, x []float32) {
	if !vector {
		expGo(dst, x)
		return
	}
	eights(dst, x, expAVX2)
}

func sigmoid32(dst, x []float32) {
	if !vector {
		sigmoidGo(dst, x)
		return
	}
	eights(dst, x, sigmoidAVX2)
}

func silu32(dst, x []float32) {
	if !vector {
		siluGo(dst, x)
		return
	}
	eights(dst, x, siluAVX2)
}

func tanh32(dst, x []float32) {
	if !vector {
		tanhGo(dst, x)
		return
	}
	eights(dst, x, tanhAVX2)
}

func erf32(dst, x []float32) {
	if !vector {
		erfGo(dst, x)
		return
	}
	eights(dst, x, erfAVX2)
}

func relu32(dst, x []float32) {
	if !vector {
		reluGo(dst, x)
		return
	}
	eights(dst, x, reluAVX2)
}

func hardSwish32(dst, x []float32) {
	if !vector {
		hardSwishGo(dst, x)
		return
	}
	eights(dst, x, hardSwishAVX2)
}

func clip32(dst, x []float32, least, most float32) {
	if !vector {
		clipGo(dst, x, least, most)
		return
	}
	eights(dst, x, func(dst, x *float32, n int) { clipAVX2(dst, x, n, least, most) })
}

// The functions of two numbers compute whole eights and return how many numbers
// that were; the caller does the rest, to which the same rounding applies.

func add32(dst, x, y []float32) int {
	n := len(dst) &^ 7
	if n == 0 || !vector {
		return 0
	}
	addAVX2(&dst[0], &x[0], &y[0], n)
	return n
}

func mul32(dst, x, y []float32) int {
	n := len(dst) &^ 7
	if n == 0 || !vector {
		return 0
	}
	mulAVX2(&dst[0], &x[0], &y[0], n)
	return n
}

func addOne32(dst, x []float32, y float32) int {
	n := len(dst) &^ 7
	if n == 0 || !vector {
		return 0
	}
	addOneAVX2(&dst[0], &x[0], n, y)
	return n
}

func mulOne32(dst, x []float32, y float32) int {
	n := len(dst) &^ 7
	if n == 0 || !vector {
		return 0
	}
	mulOneAVX2(&dst[0], &x[0], n, y)
	return n
}

// maxInto32 is maxInto for steps 1 and 2.
func maxInto32(dst, src []float32, step int) int {
	n := len(dst) &^ 7
	if step == 2 {
		n = min(n, len(src)/2&^7)
	}
	if n == 0 || !vector {
		return 0
	}
	if step == 2 {
		maxInto2AVX2(&dst[0], &src[0], n)
	} else {
		maxIntoAVX2(&dst[0], &src[0], n)
	}
	return n
}
