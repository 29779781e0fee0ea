package inspect

import (
	"encoding/json"
	"math"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TensorStats describes the numbers of one stored tensor.
type TensorStats struct {
	// Scope is that of the graph or function it is stored in, as in Layer; it is
	// "" for the main graph.
	Scope string `json:"scope,omitempty"`
	// Name is that of the initializer or of a Constant node's output.
	Name  string `json:"name"`
	DType string `json:"dtype"`
	// Dims are the dimensions as they are stored; a sparse tensor is described
	// by its values alone.
	Dims     []int64 `json:"dims"`
	Elements int64   `json:"elements"`
	Bytes    int64   `json:"bytes"`
	// Values holds what only reading can tell, nil for a type without numbers
	// (strings, complex) and for an empty tensor.
	Values *ValueStats `json:"values"`
}

// ValueStats describes numbers. NaN and infinite ones are counted and left out
// of everything else.
type ValueStats struct {
	// Min, Max, Mean and Std are nil when no value is finite. Std is that of the
	// population: the root of the mean squared distance from Mean.
	Min  *float64 `json:"min"`
	Max  *float64 `json:"max"`
	Mean *float64 `json:"mean"`
	Std  *float64 `json:"std"`
	// Zeros counts exact zeros of either sign, Subnormal what is not zero and
	// below the smallest normal number of the tensor's type.
	Zeros     int64 `json:"zeros"`
	Subnormal int64 `json:"subnormal"`
	NaN       int64 `json:"nan"`
	Inf       int64 `json:"inf"`
	// Histogram counts the finite values in bins of equal width from Min to
	// Max; Max belongs to the last one. It is nil when Min and Max are equal.
	Histogram []int64 `json:"histogram"`
	// MinInteger and MaxInteger are Min and Max in digits where a float64 may
	// round them, in tensors of int64 and uint64 with numbers of 2^53 and more;
	// "" elsewhere. In JSON they stand in the place of Min and Max.
	MinInteger json.Number `json:"-"`
	MaxInteger json.Number `json:"-"`
}

// histogramBins is how many bins a histogram has.
const histogramBins = 16

// A census is what the first reading of numbers tells.
type census struct {
	n      int64 // finite values
	zeros  int64
	small  int64 // below the smallest normal number, zeros included
	nan    int64
	inf    int64
	lo, hi float64 // of the finite values
	sum    float64 // of the finite values; may be beyond the largest number
	rest   float64 // what sum is rounded by, for values in single precision
}

func newCensus() census { return census{lo: math.Inf(1), hi: math.Inf(-1)} }

// add counts a block; tiny is the smallest normal number of its type, 0 when it
// has no others.
func (t *census) add(block []float64, tiny float64) {
	b := block
	lo, hi := t.lo, t.hi
	var s0, s1, s2, s3 float64
	var small int64
	// Without the sign, the bits of numbers are in the order of the numbers.
	limit := max(math.Float64bits(tiny), 1) << 1
	for len(b) >= 4 {
		v0, v1, v2, v3 := b[0], b[1], b[2], b[3]
		// Zeros are not predictable in a diluted model: counted without a branch.
		small += below(v0, limit) + below(v1, limit) + below(v2, limit) + below(v3, limit)
		b = b[4:]
		s0 += v0
		s1 += v1
		s2 += v2
		s3 += v3
		// Extremes are rare after the first few values, so these are predicted.
		if v0 < lo {
			lo = v0
		}
		if v0 > hi {
			hi = v0
		}
		if v1 < lo {
			lo = v1
		}
		if v1 > hi {
			hi = v1
		}
		if v2 < lo {
			lo = v2
		}
		if v2 > hi {
			hi = v2
		}
		if v3 < lo {
			lo = v3
		}
		if v3 > hi {
			hi = v3
		}
	}
	for _, v := range b {
		small += below(v, limit)
		s0 += v
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
	}
	t.small += small
	switch {
	case small > 0 && tiny > 0:
		for _, v := range block {
			t.zeros += below(v, 2)
		}
	default:
		t.zeros += small
	}
	sum := (s0 + s1) + (s2 + s3)
	if sum-sum == 0 {
		t.lo, t.hi, t.n, t.sum = lo, hi, t.n+int64(len(block)), t.sum+sum
		return
	}
	// Something is not finite, or the sum is not.
	for _, v := range block {
		switch {
		case v != v:
			t.nan++
		case v-v != 0:
			t.inf++
		default:
			t.lo, t.hi, t.n, t.sum = min(t.lo, v), max(t.hi, v), t.n+1, t.sum+v
		}
	}
}

// below returns 1 when the bits of v but for its sign, shifted left by one, are
// less than limit.
func below(v float64, limit uint64) (n int64) {
	if math.Float64bits(v)<<1 < limit {
		n = 1
	}
	return n
}

func (t *census) merge(o *census) {
	t.n += o.n
	t.zeros += o.zeros
	t.small += o.small
	t.nan += o.nan
	t.inf += o.inf
	t.lo, t.hi = min(t.lo, o.lo), max(t.hi, o.hi)
	t.addSum(o.sum)
	t.rest += o.rest
}

// A ruler says how the second reading measures: each value v is taken as
// v*unit, whose distances from center are squared and whose distances from low
// give the bin.
type ruler struct {
	unit, center, low, bins float64
	middle                  float64 // 65 and the bin of the center, for wholeLess64
	holes                   bool    // some values are not finite
}

// ruler returns what to measure with after t. It is not ok when there is nothing
// to measure: all values are the same, or none is finite.
func (t *census) ruler() (r ruler, ok bool) {
	if t.n == 0 || t.lo == t.hi {
		return ruler{}, false
	}
	r = ruler{unit: 1, holes: t.nan+t.inf > 0}
	// Squares of far larger or far smaller distances would not be numbers any
	// more; a power of two changes no digit.
	if width := t.hi/2 - t.lo/2; width > 0x1p400 || width < 0x1p-400 {
		_, e := math.Frexp(width)
		r.unit = math.Ldexp(1, min(-e, 1000))
	}
	r.low = t.lo * r.unit
	high := t.hi * r.unit
	r.bins = histogramBins / (high - r.low)
	if r.center = t.sum * r.unit / float64(t.n); math.IsInf(t.sum, 0) || math.IsInf(r.center, 0) {
		r.center = r.low/2 + high/2
	}
	// A value at the edge of two bins belongs to the upper one; a rounding error
	// of some units in the last place must not put it below.
	r.middle = 65 + (r.center-r.low)*r.bins + 0x1p-44
	return r, true
}

// A spread is what the second reading tells: sums of distances and of their
// squares in the ruler's unit, and the histogram.
type spread struct {
	s1, s2 float64
	bins   [histogramBins]int64
}

func (s *spread) add(block []float64, r ruler) {
	if r.holes {
		s.addFinite(block, r)
		return
	}
	// Neighbours often fall into one bin; with four sets of bins an addition
	// need not wait for the one before it.
	var h [4][2 * histogramBins]int64
	var a0, a1, a2, a3, q0, q1, q2, q3 float64
	b := block
	for len(b) >= 4 {
		v0, v1, v2, v3 := b[0]*r.unit, b[1]*r.unit, b[2]*r.unit, b[3]*r.unit
		b = b[4:]
		d0, d1, d2, d3 := v0-r.center, v1-r.center, v2-r.center, v3-r.center
		a0 += d0
		a1 += d1
		a2 += d2
		a3 += d3
		q0 += d0 * d0
		q1 += d1 * d1
		q2 += d2 * d2
		q3 += d3 * d3
		h[0][r.bin(v0)]++
		h[1][r.bin(v1)]++
		h[2][r.bin(v2)]++
		h[3][r.bin(v3)]++
	}
	for _, v := range b {
		v *= r.unit
		d := v - r.center
		a0 += d
		q0 += d * d
		h[0][r.bin(v)]++
	}
	s.s1 += (a0 + a1) + (a2 + a3)
	s.s2 += (q0 + q1) + (q2 + q3)
	for i := range s.bins {
		s.bins[i] += h[0][i] + h[1][i] + h[2][i] + h[3][i]
	}
	const last = histogramBins
	s.bins[last-1] += h[0][last] + h[1][last] + h[2][last] + h[3][last]
}

func (s *spread) addFinite(block []float64, r ruler) {
	for _, v := range block {
		if v-v != 0 {
			continue
		}
		v *= r.unit
		d := v - r.center
		s.s1 += d
		s.s2 += d * d
		s.bins[min(r.bin(v), histogramBins-1)]++
	}
}

// bin returns the bin of v; the largest value of all has one bin too many.
func (r *ruler) bin(v float64) int { return int((v-r.low)*r.bins) & (2*histogramBins - 1) }

func (s *spread) merge(o *spread) {
	s.s1 += o.s1
	s.s2 += o.s2
	for i, n := range o.bins {
		s.bins[i] += n
	}
}

// stats puts both readings together; s is nil when only counts are wanted. The
// variance is that of the corrected two-pass algorithm (Chan, Golub and LeVeque, "Algorithms for Computing the
// Sample Variance", 1983): the mean square of the distances from a center near
// the mean, less the square of their mean.
func (t *census) stats(d onnxfile.DType, s *spread) *ValueStats {
	v := &ValueStats{Zeros: t.zeros, NaN: t.nan, Inf: t.inf}
	if smallestNormal(d) > 0 {
		v.Subnormal = t.small - t.zeros
	}
	if t.n == 0 || s == nil {
		return v
	}
	lo, hi := t.lo+0, t.hi+0 // -0 becomes 0
	v.Min, v.Max = &lo, &hi
	mean, std := lo, 0.0
	if r, ok := t.ruler(); ok {
		n := float64(t.n)
		if mean = t.sum / n; math.IsInf(t.sum, 0) {
			mean = (r.center + s.s1/n) / r.unit
		}
		mean = min(max(mean, lo), hi)
		std = math.Sqrt(max(s.s2-s.s1*s.s1/n, 0)/n) / r.unit
		v.Histogram = s.bins[:]
	}
	v.Mean, v.Std = &mean, &std
	return v
}

// smallestNormal returns the smallest normal number of a floating-point type, 0
// for a type that has no subnormal ones.
func smallestNormal(d onnxfile.DType) float64 {
	switch onnxpb.TensorProto_DataType(d) {
	case onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_BFLOAT16:
		return 0x1p-126
	case onnxpb.TensorProto_DOUBLE:
		return 0x1p-1022
	case onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_FLOAT8E5M2:
		return 0x1p-14
	case onnxpb.TensorProto_FLOAT8E5M2FNUZ:
		return 0x1p-15
	case onnxpb.TensorProto_FLOAT8E4M3FN:
		return 0x1p-6
	case onnxpb.TensorProto_FLOAT8E4M3FNUZ:
		return 0x1p-7
	case onnxpb.TensorProto_FLOAT6E3M2:
		return 0x1p-2
	case onnxpb.TensorProto_FLOAT6E2M3, onnxpb.TensorProto_FLOAT4E2M1:
		return 1
	}
	return 0
}
