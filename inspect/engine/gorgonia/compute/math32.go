package compute

import "math"

// Functions of float32 without a detour through float64. The polynomials were
// fitted for this package: least squares at Chebyshev nodes, weights adjusted
// until the largest error was even, checked against 40 digits.

const (
	log2e = 1.44269504088896340736
	// The natural logarithm of 2 in two parts: the first one has few digits, so
	// that multiples of it are exact.
	ln2Hi = 0.693359375
	ln2Lo = -2.12194440e-4
	// Adding and taking away 1.5*2^23 rounds to the nearest integer.
	round32 = 12582912
	// Beyond these bounds exp is 0 and infinity.
	expLeast, expMost = -104, 89

	// exp(r) = 1 + r + r^2 (e0 + e1 r + ...), |r| <= ln(2)/2, relative error 3e-9.
	e0 = 0.4999999403953552
	e1 = 0.1666652113199234
	e2 = 0.04166838899254799
	e3 = 0.0083687175065279
	e4 = 0.0013814596459269524

	// tanh(x) = x + x s (t0 + t1 s + ...), s = x^2, |x| <= tanhSmall, relative
	// error 4e-9.
	tanhSmall = 0.625
	t0        = -0.3333328366279602
	t1        = 0.13331490755081177
	t2        = -0.05374349653720856
	t3        = 0.020650578662753105
	t4        = -0.005717036779969931

	// erf(x) = x + x (s0 + s1 s + ...), s = x^2, |x| <= erfSmall, relative error
	// 2e-8; above, erf(x) = 1 - exp(-(l0 + l1 x + ...)), error 2e-9; above
	// erfMost it is 1.
	erfSmall = 0.9375
	erfMost  = 4
	s0       = 0.12837915122509003
	s1       = -0.3761248290538788
	s2       = 0.11281681805849075
	s3       = -0.02676110714673996
	s4       = 0.004984378814697266
	s5       = -0.0005943142459727824
	l0       = 0.00017748723621480167
	l1       = 1.1277495622634888
	l2       = 0.6370596885681152
	l3       = 0.10403741896152496
	l4       = -0.022277116775512695
	l5       = 0.0030556158162653446
	l6       = -0.00019718262774404138
)

// exp1 is e to the power of x.
func exp1(x float32) float32 {
	switch {
	case x != x:
		return x
	case x > expMost:
		x = expMost
	case x < expLeast:
		x = expLeast
	}
	n := float32(x*log2e+round32) - round32
	r := float32(x-n*ln2Hi) - n*ln2Lo
	p := (((e4*r+e3)*r+e2)*r+e1)*r + e0
	p = float32(r*r)*p + r + 1
	// 2^n in two factors, because the result may be too small for a normal
	// number, or too large.
	k := int32(n)
	half := k >> 1
	return p * math.Float32frombits(uint32(half+127)<<23) * math.Float32frombits(uint32(k-half+127)<<23)
}

func tanh1(x float32) float32 {
	a := math.Float32frombits(math.Float32bits(x) &^ (1 << 31))
	if a <= tanhSmall {
		s := x * x
		p := (((t4*s+t3)*s+t2)*s+t1)*s + t0
		return x + x*s*p
	}
	// NaN comes here too.
	r := 1 - 2/(exp1(2*a)+1)
	return math.Float32frombits(math.Float32bits(r) | math.Float32bits(x)&(1<<31))
}

func erf1(x float32) float32 {
	a := math.Float32frombits(math.Float32bits(x) &^ (1 << 31))
	if a <= erfSmall {
		s := x * x
		p := ((((s5*s+s4)*s+s3)*s+s2)*s+s1)*s + s0
		return x + x*p
	}
	if a > erfMost {
		a = erfMost
	}
	p := (((((l6*a+l5)*a+l4)*a+l3)*a+l2)*a+l1)*a + l0
	r := 1 - exp1(-p)
	return math.Float32frombits(math.Float32bits(r) | math.Float32bits(x)&(1<<31))
}

func sigmoid1(x float32) float32 { return 1 / (1 + exp1(-x)) }

func silu1(x float32) float32 { return x / (1 + exp1(-x)) }

// The portable forms over slices.

func expGo(dst, x []float32) {
	for i, v := range x {
		dst[i] = exp1(v)
	}
}

func sigmoidGo(dst, x []float32) {
	for i, v := range x {
		dst[i] = sigmoid1(v)
	}
}

func siluGo(dst, x []float32) {
	for i, v := range x {
		dst[i] = silu1(v)
	}
}

func tanhGo(dst, x []float32) {
	for i, v := range x {
		dst[i] = tanh1(v)
	}
}

func erfGo(dst, x []float32) {
	for i, v := range x {
		dst[i] = erf1(v)
	}
}

func reluGo(dst, x []float32) {
	for i, v := range x {
		if v <= 0 {
			v = 0
		}
		dst[i] = v
	}
}
