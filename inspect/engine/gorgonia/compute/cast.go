package compute

import "math"

// Convert is Go's conversion between numbers: floats are cut off towards zero,
// integers too large wrap around.
func Convert[D, S Number](dst []D, x []S) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = D(v)
	}
}

// FromBool is 1 where x holds, else 0.
func FromBool[D Number](dst []D, x []bool) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = 0
		if v {
			dst[i] = 1
		}
	}
}

// ToBool holds where x is not 0.
func ToBool[S Number](dst []bool, x []S) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = v != 0
	}
}

// FromFloat16 widens IEEE 754 half precision, given by its bits.
func FromFloat16(dst []float32, x []uint16) {
	dst = dst[:len(x)]
	for i, h := range x {
		sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&0x3ff
		switch exponent {
		case 0:
			// A multiple of 2^-24, which float32 holds exactly.
			v := float32(fraction) * (1. / (1 << 24))
			dst[i] = math.Float32frombits(math.Float32bits(v) | sign)
		case 31:
			dst[i] = math.Float32frombits(sign | 0xff<<23 | fraction<<13)
		default:
			dst[i] = math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
		}
	}
}

// ToFloat16 rounds to half precision, to even between two; what is too large is
// infinity.
func ToFloat16(dst []uint16, x []float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		bits := math.Float32bits(v)
		sign, a := uint16(bits>>16)&0x8000, bits&^(1<<31)
		switch {
		case a > 0xff<<23:
			dst[i] = sign | 0x7e00 | uint16(a>>13)&0x3ff
		case a >= 0x477ff000: // halfway between the greatest number and 2^16
			dst[i] = sign | 0x7c00
		case a < 0x38800000: // below 2^-14: multiples of 2^-24
			// Adding 1/2 leaves just these in the fraction, rounded.
			dst[i] = sign | uint16(math.Float32bits(math.Float32frombits(a)+.5)-math.Float32bits(.5))
		default:
			a += 0xfff + a>>13&1
			dst[i] = sign | uint16((a-112<<23)>>13)
		}
	}
}

// FromBFloat16 widens bfloat16, given by its bits.
func FromBFloat16(dst []float32, x []uint16) {
	dst = dst[:len(x)]
	for i, h := range x {
		dst[i] = math.Float32frombits(uint32(h) << 16)
	}
}

// ToBFloat16 rounds to bfloat16, to even between two.
func ToBFloat16(dst []uint16, x []float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		bits := math.Float32bits(v)
		if v != v {
			dst[i] = uint16(bits>>16) | 0x40
			continue
		}
		dst[i] = uint16((bits + 0x7fff + bits>>16&1) >> 16)
	}
}
