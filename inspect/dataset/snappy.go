package dataset

import (
	"encoding/binary"
	"sort"
)

// The raw Snappy format
// (https://github.com/google/snappy/blob/main/format_description.txt): the
// length as a varint, then literals and copies of earlier output.
//
// Parquet compresses whole pages, an image is a part of one. A seekPoint lets
// decoding begin in the middle: encoders restart every 64 KiB, and what images
// are made of does not compress, so that it lies in long literals.

// seekPoint is a place of a Snappy block where decoding can begin.
type seekPoint struct {
	// out and in are positions in the decoded and the encoded block; lit is
	// how many bytes of a literal are left at in, 0 at a tag.
	out, in, lit uint32
	// from is the number of the point at which decoding must begin for what
	// lies between this point and the next one, because of its copies.
	from uint32
}

// seekStep is how much output lies between two points at least.
const seekStep = 64 << 10

// snappyRatio bounds how much longer than its encoding a block can be: a copy
// of 64 bytes takes 3.
const snappyRatio = 22

func errSnappy() error { return fault(ErrFormat, "Snappy block is damaged") }

// snappyLength returns the decoded length and where the tags begin. It is
// checked against what src can decode to.
func snappyLength(src []byte) (n, start int, err error) {
	v, k := binary.Uvarint(src)
	if k <= 0 || v > uint64(len(src))*snappyRatio {
		return 0, 0, errSnappy()
	}
	return int(v), k, nil
}

// unsnap decodes src, which begins at a seekPoint with lit bytes of a literal
// to come (in a whole block: after the length, 0), and appends to dst up to
// want bytes; copies reach back to dst[0] at most. note is called with
// positions relative to src and dst before each tag, and copied with the
// earliest position that a copy refers to; both may be nil.
func unsnap(dst, src []byte, lit, want int, note func(out, in, lit int), copied func(ref int)) ([]byte, error) {
	s := 0
	for len(dst) < want {
		if lit > 0 {
			n := min(lit, want-len(dst))
			if n > len(src)-s {
				return nil, errSnappy()
			}
			for n > 0 {
				k := n
				if note != nil {
					note(len(dst), s, lit)
					k = min(n, seekStep)
				}
				dst = append(dst, src[s:s+k]...)
				s, lit, n = s+k, lit-k, n-k
			}
			continue
		}
		if note != nil {
			note(len(dst), s, 0)
		}
		if s >= len(src) {
			return nil, errSnappy()
		}
		tag := src[s]
		s++
		var length, offset int
		switch tag & 3 {
		case 0:
			length = int(tag >> 2)
			if extra := length - 59; extra > 0 {
				if extra > len(src)-s {
					return nil, errSnappy()
				}
				length = 0
				for i := range extra {
					length |= int(src[s+i]) << (8 * i)
				}
				s += extra
			}
			lit = length + 1
			continue
		case 1:
			if s >= len(src) {
				return nil, errSnappy()
			}
			length, offset = 4+int(tag>>2&7), int(tag>>5)<<8|int(src[s])
			s++
		case 2:
			if len(src)-s < 2 {
				return nil, errSnappy()
			}
			length, offset = 1+int(tag>>2), int(binary.LittleEndian.Uint16(src[s:]))
			s += 2
		case 3:
			if len(src)-s < 4 {
				return nil, errSnappy()
			}
			length, offset = 1+int(tag>>2), int(binary.LittleEndian.Uint32(src[s:]))
			s += 4
		}
		if offset <= 0 || offset > len(dst) {
			return nil, errSnappy()
		}
		from := len(dst) - offset
		if copied != nil {
			copied(from)
		}
		length = min(length, want-len(dst))
		if offset >= length {
			dst = append(dst, dst[from:from+length]...)
			continue
		}
		for range length {
			dst = append(dst, dst[from])
			from++
		}
	}
	return dst, nil
}

// snappyIndex decodes a whole block into dst and returns its seek points.
func snappyIndex(dst, src []byte) ([]byte, []seekPoint, error) {
	n, start, err := snappyLength(src)
	if err != nil {
		return nil, nil, err
	}
	if cap(dst) < n {
		dst = make([]byte, 0, n)
	}
	var points []seekPoint
	segment := func(out int) int {
		return sort.Search(len(points), func(k int) bool { return int(points[k].out) > out }) - 1
	}
	low := n // earliest position that a copy since the last point refers to
	settle := func() {
		if len(points) == 0 {
			return
		}
		p := &points[len(points)-1]
		if low < int(p.out) {
			for _, q := range points[segment(low) : len(points)-1] {
				p.from = min(p.from, q.from)
			}
		}
		low = n
	}
	note := func(out, in, lit int) {
		if k := len(points); k > 0 && out-int(points[k-1].out) < seekStep {
			return
		}
		settle()
		points = append(points, seekPoint{uint32(out), uint32(start + in), uint32(lit), uint32(len(points))})
	}
	dst, err = unsnap(dst[:0], src[start:], 0, n, note, func(ref int) { low = min(low, ref) })
	settle()
	return dst, points, err
}

// snappyRange says what to read of a block with these points for the decoded
// bytes from a to b: the encoded bytes from in to end (0: to the block's end),
// to be decoded from point p on.
func snappyRange(points []seekPoint, a, b int) (p seekPoint, in, end int) {
	after := func(out int) int {
		return sort.Search(len(points), func(k int) bool { return int(points[k].out) > out })
	}
	first, next := max(after(a)-1, 0), after(b-1)
	from := uint32(first)
	for _, q := range points[first:next] {
		from = min(from, q.from)
	}
	p = points[from]
	if next < len(points) {
		end = int(points[next].in)
	}
	return p, int(p.in), end
}
