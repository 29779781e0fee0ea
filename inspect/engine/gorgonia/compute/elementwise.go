package compute

import "math"

// The functions of this file take a slice and write one of the same length,
// which may be the same slice; Map spreads them over the workers.

// Map computes f over x into dst, both of the same length, in pieces. f sees
// each number once and writes dst where it reads x.
func Map[D, S any](w *Workers, f func(dst []D, x []S), dst []D, x []S) {
	pieces(w, len(x), grain, func(lo, hi int) { f(dst[lo:hi:hi], x[lo:hi:hi]) })
}

// Each makes a function over slices of a function of one number.
func Each[D, S any](f func(x S) D) func(dst []D, x []S) {
	return func(dst []D, x []S) {
		dst = dst[:len(x)]
		for i, v := range x {
			dst[i] = f(v)
		}
	}
}

// Real makes a function over slices of a function of float64, for functions
// that are too rare for one of their own.
func Real[T Float](f func(x float64) float64) func(dst, x []T) {
	return Each(func(x T) T { return T(f(float64(x))) })
}

// choose runs the function of float32 where T is that, else the one of float64.
func choose[T Float](dst, x []T, narrow func(dst, x []float32), wide func(float64) float64) {
	if d, ok := any(dst).([]float32); ok {
		narrow(d[:len(x)], any(x).([]float32))
		return
	}
	Real[T](wide)(dst, x)
}

// Exp is e to the power of x, for float32 within 2 units in the last place.
func Exp[T Float](dst, x []T) { choose(dst, x, exp32, math.Exp) }

// Sigmoid is 1/(1+exp(-x)).
func Sigmoid[T Float](dst, x []T) {
	choose(dst, x, sigmoid32, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) })
}

// SiLU is x/(1+exp(-x)), which networks also call swish.
func SiLU[T Float](dst, x []T) {
	choose(dst, x, silu32, func(x float64) float64 { return x / (1 + math.Exp(-x)) })
}

// Tanh is the hyperbolic tangent.
func Tanh[T Float](dst, x []T) { choose(dst, x, tanh32, math.Tanh) }

// Erf is the error function.
func Erf[T Float](dst, x []T) { choose(dst, x, erf32, math.Erf) }

// Relu is max(x, 0); of NaN it is NaN.
func Relu[T Number](dst, x []T) {
	if d, ok := any(dst).([]float32); ok {
		relu32(d[:len(x)], any(x).([]float32))
		return
	}
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = max(v, 0)
	}
}

// Clip bounds numbers by least and most, first by least; NaN stays.
func Clip[T Number](least, most T) func(dst, x []T) {
	return func(dst, x []T) {
		if d, ok := any(dst).([]float32); ok {
			clip32(d[:len(x)], any(x).([]float32), float32(least), float32(most))
			return
		}
		clipGo(dst[:len(x)], x, least, most)
	}
}

func clipGo[T Number](dst, x []T, least, most T) {
	for i, v := range x {
		if v < least {
			v = least
		}
		if v > most {
			v = most
		}
		dst[i] = v
	}
}

// HardSigmoid is max(0, min(1, alpha*x + beta)).
func HardSigmoid[T Float](alpha, beta T) func(dst, x []T) {
	return func(dst, x []T) {
		dst = dst[:len(x)]
		for i, v := range x {
			dst[i] = max(0, min(1, T(alpha*v)+beta))
		}
	}
}

// HardSwish is x * max(0, min(1, x/6 + 1/2)).
func HardSwish[T Float](dst, x []T) {
	if d, ok := any(dst).([]float32); ok {
		hardSwish32(d[:len(x)], any(x).([]float32))
		return
	}
	hardSwishGo(dst[:len(x)], x)
}

func hardSwishGo[T Float](dst, x []T) {
	for i, v := range x {
		dst[i] = v * max(0, min(1, T(v*(1.0/6))+.5))
	}
}

// LeakyRelu is x where it is not negative and alpha*x elsewhere.
func LeakyRelu[T Float](alpha T) func(dst, x []T) {
	return func(dst, x []T) {
		dst = dst[:len(x)]
		for i, v := range x {
			if v < 0 {
				v *= alpha
			}
			dst[i] = v
		}
	}
}

// ThresholdedRelu is x where it is above alpha and 0 elsewhere.
func ThresholdedRelu[T Float](alpha T) func(dst, x []T) {
	return Each(func(x T) T {
		if x > alpha {
			return x
		}
		return 0
	})
}

// Elu is x where it is above 0 and alpha*(exp(x/scale) - 1) elsewhere, all times
// gamma: with scale 1 ELU and, with gamma, SELU; with scale alpha CELU.
func Elu[T Float](alpha, gamma, scale float64) func(dst, x []T) {
	return Each(func(x T) T {
		v := float64(x)
		if v <= 0 {
			v = alpha * math.Expm1(v/scale)
		}
		return T(gamma * v)
	})
}

// Gelu is x/2 * (1 + erf(x/sqrt(2))) (Hendrycks and Gimpel, 2016).
func Gelu[T Float](dst, x []T) {
	var buf [256]T
	dst = dst[:len(x)]
	for lo := 0; lo < len(x); lo += len(buf) {
		part := x[lo:min(len(x), lo+len(buf))]
		b := buf[:len(part)]
		for i, v := range part {
			b[i] = v * (1 / math.Sqrt2)
		}
		Erf(b, b)
		for i, v := range part {
			dst[lo+i] = T(v*.5) * (1 + b[i])
		}
	}
}

// GeluTanh is x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))), the approximation
// of the same paper.
func GeluTanh[T Float](dst, x []T) {
	c := T(math.Sqrt(2 / math.Pi))
	var buf [256]T
	dst = dst[:len(x)]
	for lo := 0; lo < len(x); lo += len(buf) {
		part := x[lo:min(len(x), lo+len(buf))]
		b := buf[:len(part)]
		for i, v := range part {
			b[i] = c * (v + T(.044715*v)*v*v)
		}
		Tanh(b, b)
		for i, v := range part {
			dst[lo+i] = T(v*.5) * (1 + b[i])
		}
	}
}

// Softplus is log(1 + exp(x)).
func Softplus(x float64) float64 {
	if x > 0 {
		return x + math.Log1p(math.Exp(-x))
	}
	return math.Log1p(math.Exp(x))
}

// Mish is x * tanh(softplus(x)) (Misra, 2019).
func Mish(x float64) float64 { return x * math.Tanh(Softplus(x)) }

// Softsign is x/(1+|x|).
func Softsign(x float64) float64 { return x / (1 + math.Abs(x)) }

// Abs is the absolute value; of the least integer it is that integer.
func Abs[T Number](dst, x []T) {
	dst = dst[:len(x)]
	for i, v := range x {
		if v < 0 || v == 0 { // also -0
			v = 0 - v
		}
		dst[i] = v
	}
}

// Neg is -x.
func Neg[T Number](dst, x []T) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = -v
	}
}

// Sign is -1, 0 or 1; NaN stays.
func Sign[T Number](dst, x []T) {
	dst = dst[:len(x)]
	for i, v := range x {
		switch {
		case v > 0:
			v = 1
		case v < 0:
			var one T = 1
			v = -one
		}
		dst[i] = v
	}
}
