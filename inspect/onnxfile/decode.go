package onnxfile

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// decodable tells whether a type has a decoder.
func decodable(d DType) bool {
	return d.IsFloat() || d.IsInteger() || d == DType(onnxpb.TensorProto_BOOL)
}

// decoder returns the function that turns raw bytes into values, as many as dst
// holds, rounded where they do not fit; nil for types without.
func decoder[T float32 | float64](d DType) func(dst []T, b []byte) {
	le := binary.LittleEndian
	switch onnxpb.TensorProto_DataType(d) {
	case onnxpb.TensorProto_FLOAT:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(math.Float32frombits(le.Uint32(b[4*i:])))
			}
		}
	case onnxpb.TensorProto_DOUBLE:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(math.Float64frombits(le.Uint64(b[8*i:])))
			}
		}
	case onnxpb.TensorProto_FLOAT16:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(Float16Value(le.Uint16(b[2*i:])))
			}
		}
	case onnxpb.TensorProto_BFLOAT16:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(math.Float32frombits(uint32(le.Uint16(b[2*i:])) << 16))
			}
		}
	case onnxpb.TensorProto_INT64:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(float64(int64(le.Uint64(b[8*i:]))))
			}
		}
	case onnxpb.TensorProto_UINT64:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(float64(le.Uint64(b[8*i:])))
			}
		}
	case onnxpb.TensorProto_INT32:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(int32(le.Uint32(b[4*i:])))
			}
		}
	case onnxpb.TensorProto_UINT32:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(le.Uint32(b[4*i:]))
			}
		}
	case onnxpb.TensorProto_INT16:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(int16(le.Uint16(b[2*i:])))
			}
		}
	case onnxpb.TensorProto_UINT16:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(le.Uint16(b[2*i:]))
			}
		}
	case onnxpb.TensorProto_INT8:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(int8(b[i]))
			}
		}
	case onnxpb.TensorProto_UINT8, onnxpb.TensorProto_BOOL:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = T(b[i])
			}
		}
	}
	if code := codeValue(d); code != nil {
		return codeDecoder[T](d.Bits(), code)
	}
	return nil
}

// littleEndian turns v, whose memory was filled with little-endian floats, into
// the floats of this machine and returns it.
func littleEndian(v []float32) []float32 {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return v
	}
	b := bytesOfFloats(v)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}

// bytesOfFloats is the memory of v. Reading into it saves the copy that would
// take as long as the reading.
func bytesOfFloats(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

// codeDecoder decodes elements of at most eight bits, packed from the low bits
// of a byte to the high ones.
func codeDecoder[T float32 | float64](bits int64, value func(code uint8) float64) func(dst []T, b []byte) {
	table := make([]T, 1<<bits)
	for i := range table {
		table[i] = T(value(uint8(i)))
	}
	switch bits {
	case 8:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = table[b[i]]
			}
		}
	case 6:
		return func(dst []T, b []byte) {
			for i := range dst {
				at := 6 * uint(i)
				code := uint(b[at/8]) >> (at % 8)
				if at%8 > 2 {
					code |= uint(b[at/8+1]) << (8 - at%8)
				}
				dst[i] = table[code%64]
			}
		}
	case 4:
		return func(dst []T, b []byte) {
			for i := range dst {
				dst[i] = table[b[uint(i)/2]>>(uint(i)%2*4)%16]
			}
		}
	}
	return func(dst []T, b []byte) {
		for i := range dst {
			dst[i] = table[b[uint(i)/4]>>(uint(i)%4*2)%4]
		}
	}
}

// codeValue returns the value of each bit pattern of a type of at most eight
// bits that is no plain byte, nil for other types. The formats are those of
// the ONNX documents "Float stored in 8 bits", "4 bit integer types" and of OCP
// Microscaling Formats (MX) 1.0.
func codeValue(d DType) func(code uint8) float64 {
	signed := func(bits int) func(uint8) float64 {
		return func(c uint8) float64 { return float64(int8(c<<(8-bits)) >> (8 - bits)) }
	}
	switch onnxpb.TensorProto_DataType(d) {
	case onnxpb.TensorProto_UINT4, onnxpb.TensorProto_UINT2:
		return func(c uint8) float64 { return float64(c) }
	case onnxpb.TensorProto_INT4:
		return signed(4)
	case onnxpb.TensorProto_INT2:
		return signed(2)
	case onnxpb.TensorProto_FLOAT8E4M3FN:
		return func(c uint8) float64 {
			if c&0x7f == 0x7f {
				return math.NaN()
			}
			return minifloat(c, 4, 3, 7)
		}
	case onnxpb.TensorProto_FLOAT8E5M2:
		return func(c uint8) float64 { return float64(Float16Value(uint16(c) << 8)) }
	case onnxpb.TensorProto_FLOAT8E4M3FNUZ, onnxpb.TensorProto_FLOAT8E5M2FNUZ:
		exponent, bias := 4, 8
		if d == DType(onnxpb.TensorProto_FLOAT8E5M2FNUZ) {
			exponent, bias = 5, 16
		}
		return func(c uint8) float64 {
			if c == 0x80 { // the place of the missing negative zero
				return math.NaN()
			}
			return minifloat(c, exponent, 7-exponent, bias)
		}
	case onnxpb.TensorProto_FLOAT8E8M0:
		return func(c uint8) float64 {
			if c == 0xff {
				return math.NaN()
			}
			return math.Ldexp(1, int(c)-127)
		}
	case onnxpb.TensorProto_FLOAT6E2M3:
		return func(c uint8) float64 { return minifloat(c, 2, 3, 1) }
	case onnxpb.TensorProto_FLOAT6E3M2:
		return func(c uint8) float64 { return minifloat(c, 3, 2, 3) }
	case onnxpb.TensorProto_FLOAT4E2M1:
		return func(c uint8) float64 { return minifloat(c, 2, 1, 1) }
	}
	return nil
}

// minifloat is the value of a sign, an exponent and a fraction (mantissa) of so
// many bits, without infinities and NaN.
func minifloat(c uint8, exponent, mantissa, bias int) float64 {
	e := int(c>>mantissa) & (1<<exponent - 1)
	m := int(c) & (1<<mantissa - 1)
	if e > 0 {
		m += 1 << mantissa
	} else {
		e = 1
	}
	v := math.Ldexp(float64(m), e-bias-mantissa)
	if c>>(exponent+mantissa)&1 == 1 {
		v = math.Copysign(v, -1)
	}
	return v
}

// Float16Value returns the value of an IEEE 754 half-precision bit pattern.
func Float16Value(h uint16) float32 {
	// Moved into place, the bits are the number times 2^-112; the product is
	// exact, subnormals included.
	const exponents = 31 << 10
	v := math.Float32frombits(uint32(h&0x7fff)<<13) * 0x1p112
	bits := math.Float32bits(v) | uint32(h>>15)<<31
	if h&exponents == exponents {
		bits |= 0xff << 23
	}
	return math.Float32frombits(bits)
}
