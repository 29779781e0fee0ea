package inspect

import (
	"math"
	"unsafe"
)

// Nearly all weights are stored in single precision, and reading them from the
// system's cache takes a tenth of a nanosecond for each byte. What counts them
// must not take much longer, hence the loops below: over groups that stay in the
// first level of cache, each for one purpose, and with two numbers in one word
// where their bit patterns tell enough.

// groupElements is how many numbers are counted at a time.
const groupElements = 2048

const (
	lanes     = 1<<32 | 1          // the lowest bit of both numbers in a word
	signs     = lanes << 31        // their sign bits
	infinity  = 0x7f800000         // the pattern of the infinite number; above it are NaN
	magnitude = lanes * 0x7fffffff // a word without its signs
)

// eights is v in groups of eight, without the last ones that do not fill one: an
// index into an array needs no check.
func eights(v []float32) [][8]float32 {
	if len(v) < 8 {
		return nil
	}
	return unsafe.Slice((*[8]float32)(unsafe.Pointer(unsafe.SliceData(v))), len(v)/8)
}

// words is the memory of eights(v). Which of two numbers is in the upper half of a
// word differs between machines.
func words(v []float32) [][4]uint64 {
	if len(v) < 8 {
		return nil
	}
	return unsafe.Slice((*[4]uint64)(unsafe.Pointer(unsafe.SliceData(v))), len(v)/8)
}

// atLeast is what to add to both magnitudes in a word for a sign bit that tells
// whether the magnitude is pattern or more. No magnitude carries into the other
// number for a pattern of at least 1.
func atLeast(pattern uint32) uint64 { return lanes * uint64(1<<31-pattern) }

// addSingles is add for numbers in single precision. When counts is set, only
// numbers are counted, and the extremes and the sum are left alone.
func (t *census) addSingles(block []float32, tiny float32, counts bool) {
	for len(block) > 0 {
		group := block[:min(len(block), groupElements)]
		block = block[len(group):]
		whole := group[:len(group)&^7]
		if len(whole) > 0 {
			t.addGroup(whole, tiny, counts)
		}
		t.addOneByOne(group[len(whole):], tiny)
	}
}

// addGroup adds a number of values that is a multiple of eight.
func (t *census) addGroup(v []float32, tiny float32, counts bool) {
	w := words(v)
	normal := max(math.Float32bits(tiny), 1)
	// Between extremes of both signs, what is nearer to zero than both is no new one.
	inner := uint32(1)
	if t.n > 0 && t.lo <= 0 && t.hi >= 0 {
		inner += math.Float32bits(float32(math.Abs(min(-t.lo, t.hi))))
	}
	allNormal, beyond, infinite := scan(w, atLeast(normal), atLeast(inner))
	if infinite {
		t.addOneByOne(v, tiny)
		return
	}
	if !allNormal {
		zeros, small := countBelow(w, atLeast(1), atLeast(normal))
		t.zeros += zeros
		t.small += small
	}
	if counts {
		t.n += int64(len(v))
		return
	}
	if beyond || inner == 1 {
		lo, hi := extremes(v[0], eights(v))
		t.lo, t.hi = min(t.lo, float64(lo)), max(t.hi, float64(hi))
	}
	t.n += int64(len(v))
	t.addSum(sum(eights(v)))
}

// addOneByOne adds values whatever they are.
func (t *census) addOneByOne(v []float32, tiny float32) {
	for _, x := range v {
		switch x := float64(x); {
		case x != x:
			t.nan++
			continue
		case x-x != 0:
			t.inf++
			continue
		case x == 0:
			t.zeros++
			t.small++
		case math.Abs(x) < float64(tiny):
			t.small++
		}
		x := float64(x)
		t.n++
		t.lo, t.hi = min(t.lo, x), max(t.hi, x)
		t.addSum(x)
	}
}

// addSum adds x to the sum and keeps what the sum is rounded by (Neumaier,
// "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", 1974).
func (t *census) addSum(x float64) {
	s := t.sum + x
	if math.Abs(t.sum) >= math.Abs(x) {
		t.rest += (t.sum - s) + x
	} else {
		t.rest += (x - s) + t.sum
	}
	t.sum = s
}

// scan tells whether all magnitudes are at least normal, whether any is at least
// inner, and whether any number is infinite or none at all. normal and inner are
// made by atLeast.
func scan(w [][4]uint64, normal, inner uint64) (allNormal, beyond, infinite bool) {
	const finite = lanes * (1<<31 - infinity)
	all, most, any := uint64(signs), uint64(0), uint64(0)
	for i := range w {
		q := &w[i]
		a, b, c, d := q[0]&magnitude, q[1]&magnitude, q[2]&magnitude, q[3]&magnitude
		all &= (a + normal) & (b + normal) & (c + normal) & (d + normal)
		most |= (a + inner) | (b + inner) | (c + inner) | (d + inner)
		any |= (a + finite) | (b + finite) | (c + finite) | (d + finite)
	}
	return all == signs, most&signs != 0, any&signs != 0
}

// countBelow counts the magnitudes below two patterns, which are made by atLeast.
func countBelow(w [][4]uint64, first, second uint64) (zeros, small int64) {
	var a, b uint64 // of both halves
	for i := range w {
		q := &w[i]
		for _, x := range q {
			x &= magnitude
			a += (x + first) >> 31 & lanes
			b += (x + second) >> 31 & lanes
		}
	}
	n := 8 * int64(len(w))
	return n - int64(a>>32+a&math.MaxUint32), n - int64(b>>32+b&math.MaxUint32)
}

// extremes returns the smallest and the largest of finite numbers, one of which
// is any.
func extremes(any float32, v [][8]float32) (lo, hi float32) {
	lo, hi = any, any
	for i := range v {
		q := &v[i]
		for _, x := range q {
			if x < lo {
				lo = x
			}
			if x > hi {
				hi = x
			}
		}
	}
	return lo, hi
}

// sum adds finite values.
func sum(v [][8]float32) float64 {
	var a, b, c, d float64
	for i := range v {
		q := &v[i]
		a += float64(q[0])
		b += float64(q[1])
		c += float64(q[2])
		d += float64(q[3])
		a += float64(q[4])
		b += float64(q[5])
		c += float64(q[6])
		d += float64(q[7])
	}
	return (a + b) + (c + d)
}

// addSingles is add for numbers in single precision. It does not add up
// distances: census.offset tells their sum.
func (s *spread) addSingles(block []float32, r ruler) {
	size := len(block)
	if r.holes {
		size = groupElements
	}
	for len(block) > 0 {
		group := block[:min(len(block), size)]
		block = block[len(group):]
		whole := group[:len(group)&^7]
		if r.holes {
			if _, _, infinite := scan(words(whole), 0, 0); infinite {
				whole = nil
			}
		}
		s.addEights(eights(whole), r)
		for _, x := range group[len(whole):] {
			if v := float64(x); v-v == 0 {
				d := v - r.center
				s.s2 += d * d
				s.bins[inBins(wholeLess64(d*r.bins+r.middle))]++
			}
		}
	}
}

// addEights adds finite values.
func (s *spread) addEights(v [][8]float32, r ruler) {
	// Neighbours often fall into one bin; with four sets of bins an addition
	// need not wait for the one before it.
	var h [4][32]int64
	var a, b, c, d float64
	center, bins, middle := r.center, r.bins, r.middle // in registers
	for i := range v {
		q := &v[i]
		w, x, y, z := float64(q[0])-center, float64(q[1])-center, float64(q[2])-center, float64(q[3])-center
		h[0][wholeLess64(w*bins+middle)]++
		h[1][wholeLess64(x*bins+middle)]++
		h[2][wholeLess64(y*bins+middle)]++
		h[3][wholeLess64(z*bins+middle)]++
		a += w * w
		b += x * x
		c += y * y
		d += z * z
		w, x, y, z = float64(q[4])-center, float64(q[5])-center, float64(q[6])-center, float64(q[7])-center
		h[0][wholeLess64(w*bins+middle)]++
		h[1][wholeLess64(x*bins+middle)]++
		h[2][wholeLess64(y*bins+middle)]++
		h[3][wholeLess64(z*bins+middle)]++
		a += w * w
		b += x * x
		c += y * y
		d += z * z
	}
	s.s2 += (a + b) + (c + d)
	for i := range h[0] {
		s.bins[inBins(i)] += h[0][i] + h[1][i] + h[2][i] + h[3][i]
	}
}

// wholeLess64 returns the whole number of x less 64, for x from 64 to 96: the bits below
// the exponent of a double, which are faster to get at than by conversion. Of a
// value's distance from the center in bins and ruler.middle, it is one more than
// the bin, and for a value within rounding of the extremes one more or less than
// that.
func wholeLess64(x float64) int { return int(math.Float64bits(x) >> 46 & 31) }

// inBins returns the bin that a place is in.
func inBins(place int) int { return min(max(place-1, 0), histogramBins-1) }

// offset returns the sum of the distances from the center of r.
func (t *census) offset(r ruler) float64 { return math.FMA(-float64(t.n), r.center, t.sum) + t.rest }
