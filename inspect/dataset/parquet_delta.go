package dataset

import (
	"encoding/binary"
	"math"
	"slices"
)

// The delta encodings of Parquet
// (https://github.com/apache/parquet-format/blob/master/Encodings.md), which
// writers of version 2 choose where a dictionary does not pay.

// deltaBlock bounds the values of a block; writers take 128 to some thousands.
const deltaBlock = 1 << 20

// deltaPacked decodes n numbers of DELTA_BINARY_PACKED from the front of b and
// returns what follows them. Differences wrap around at 64 bits, so that the
// low 32 bits of each number are right for a column of int32, too.
func deltaPacked(b []byte, n int, emit func(v int64) error) (rest []byte, err error) {
	t := &thrift{b: b} // its numbers are written the same way
	block, minis, count, v := t.uvarint(), t.uvarint(), t.uvarint(), t.int()
	switch {
	case t.err != nil:
		return nil, t.err
	case block == 0 || block > deltaBlock || block%128 != 0 || minis == 0 || minis > block/32 || block%minis != 0 || block/minis%32 != 0:
		return nil, fault(ErrFormat, "differences in blocks of %d values in %d parts", block, minis)
	case count != uint64(n):
		return nil, fault(ErrFormat, "%d numbers, %d are expected", count, n)
	case n == 0:
		return b[t.pos:], nil
	}
	if err := emit(v); err != nil {
		return nil, err
	}
	size := int(block / minis) // values of a part
	for n--; n > 0; {
		least := t.int()
		at := t.pos
		if t.err != nil || uint64(len(b)-at) < minis {
			return nil, fault(ErrFormat, "differences are cut off")
		}
		widths := b[at : at+int(minis)]
		t.pos += int(minis)
		for k := 0; k < len(widths) && n > 0; k++ {
			width, here := int(widths[k]), min(size, n)
			if width > 64 {
				return nil, fault(ErrFormat, "differences of %d bits", width)
			}
			// The last part is padded, but the padding may be cut off.
			if len(b)-t.pos < (here*width+7)/8 {
				return nil, fault(ErrFormat, "differences are cut off")
			}
			bits := b[t.pos:min(len(b), t.pos+size*width/8)]
			t.pos += len(bits)
			for i := range here {
				v += least + int64(unpackBits(bits, i*width, width))
				if err := emit(v); err != nil {
					return nil, err
				}
			}
			n -= here
		}
	}
	return b[t.pos:], nil
}

// unpackBits returns the number of width bits, 64 at most, that begins at bit
// at of b, the lowest bit of a byte first. b holds all of it.
func unpackBits(b []byte, at, width int) uint64 {
	var v uint64
	for got := 0; got < width; {
		k := at + got
		take := min(8-k%8, width-got)
		v |= uint64(b[k/8]>>(k%8)&(1<<take-1)) << got
		got += take
	}
	return v
}

// deltaLengths finds the values of a page of DELTA_LENGTH_BYTE_ARRAY: all
// lengths stand in front of all bytes. Positions are in body.
func deltaLengths(body []byte, off, n int, value func(off, length int) error) error {
	if n == 0 {
		return nil
	}
	var lengths []int32
	rest, err := deltaSizes(body[off:], n, &lengths)
	if err != nil {
		return err
	}
	at := len(body) - len(rest)
	for k, length := range lengths {
		if int(length) > len(body)-at {
			return fault(ErrFormat, "value %d of %d bytes, %d are left of the page", k, length, len(body)-at)
		}
		if err := value(at, int(length)); err != nil {
			return err
		}
		at += int(length)
	}
	return nil
}

// deltaSizes decodes n lengths and checks that none is negative.
func deltaSizes(b []byte, n int, to *[]int32) (rest []byte, err error) {
	return deltaPacked(b, n, func(v int64) error {
		if v < 0 || v > math.MaxInt32 {
			return fault(ErrFormat, "value %d has a length of %d", len(*to), v)
		}
		*to = append(*to, int32(v))
		return nil
	})
}

// expandDelta rewrites n values of DELTA_BYTE_ARRAY, of which each repeats the
// beginning of the one before, as a page of plain values, of limit bytes at most.
func expandDelta(body []byte, n int, limit int64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	var prefixes, suffixes []int32
	rest, err := deltaSizes(body, n, &prefixes)
	if err != nil {
		return nil, err
	}
	if rest, err = deltaSizes(rest, n, &suffixes); err != nil {
		return nil, err
	}
	var out []byte
	last := 0 // where the value before begins in out
	for k, prefix := range prefixes {
		suffix, before := int(suffixes[k]), len(out)-last
		switch size := int64(prefix) + int64(suffix); {
		case int(prefix) > before:
			return nil, fault(ErrFormat, "value %d repeats %d bytes of %d", k, prefix, before)
		case suffix > len(rest):
			return nil, fault(ErrFormat, "value %d of %d bytes, %d are left of the page", k, size, len(rest))
		case int64(len(out))+4+size > limit:
			return nil, fault(ErrTooLarge, "page of more than %d bytes when its repetitions are written out", limit)
		}
		out = slices.Grow(out, 4+int(prefix)+suffix)
		out = binary.LittleEndian.AppendUint32(out, uint32(int(prefix)+suffix))
		start := len(out)
		out = append(out, out[last:last+int(prefix)]...)
		out = append(out, rest[:suffix]...)
		rest, last = rest[suffix:], start
	}
	return out, nil
}
