package dataset

import "math"

// thrift reads the compact protocol of Apache Thrift
// (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md),
// in which Parquet writes its footer and page headers. Every length is held
// against the bytes that are left and nesting is bounded, so that a hostile
// file costs no more than its size. After the first error all reads give zero.
type thrift struct {
	b     []byte
	pos   int
	depth int
	err   error
}

// Types of the compact protocol.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12

	// thriftDepth is more than Parquet nests.
	thriftDepth = 32
)

// errCutOff is what reading past the end gives; more bytes may cure it.
var errCutOff = fault(ErrFormat, "structure is cut off")

func (t *thrift) fail(err error) {
	if t.err == nil {
		t.err = err
	}
	t.pos = len(t.b)
}

func (t *thrift) byte() byte {
	if t.pos >= len(t.b) {
		t.fail(errCutOff)
		return 0
	}
	t.pos++
	return t.b[t.pos-1]
}

func (t *thrift) uvarint() uint64 {
	var v uint64
	for shift := 0; ; shift += 7 {
		c := t.byte()
		if t.err != nil {
			return 0
		}
		if shift == 63 && c > 1 {
			t.fail(fault(ErrFormat, "number of more than 64 bits"))
			return 0
		}
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
}

func (t *thrift) int() int64 {
	v := t.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (t *thrift) int32() int32 {
	v := t.int()
	if v < math.MinInt32 || v > math.MaxInt32 {
		t.fail(fault(ErrFormat, "number of more than 32 bits"))
		return 0
	}
	return int32(v)
}

func (t *thrift) binary() []byte {
	n := t.uvarint()
	if n > uint64(len(t.b)-t.pos) {
		t.fail(errCutOff)
		return nil
	}
	t.pos += int(n)
	return t.b[t.pos-int(n) : t.pos]
}

// fields calls field for each field of a struct; it must read the value or
// skip it.
func (t *thrift) fields(field func(id int16, kind byte)) {
	if t.depth++; t.depth > thriftDepth {
		t.fail(fault(ErrFormat, "structures nested more than %d deep", thriftDepth))
		return
	}
	defer func() { t.depth-- }()
	var id int16
	for {
		head := t.byte()
		if t.err != nil || head == 0 {
			return
		}
		if delta := int16(head >> 4); delta != 0 {
			id += delta
		} else {
			id = int16(t.int())
		}
		field(id, head&0x0f)
		if t.err != nil {
			return
		}
	}
}

// list returns the length of a list and the type of its elements.
func (t *thrift) list() (n int, kind byte) {
	head := t.byte()
	size := uint64(head >> 4)
	if size == 15 {
		size = t.uvarint()
	}
	// An element takes a byte at least.
	if size > uint64(len(t.b)-t.pos) {
		t.fail(errCutOff)
		return 0, 0
	}
	return int(size), head & 0x0f
}

// structs calls element for each element of a list of structs.
func (t *thrift) structs(element func(i int)) {
	n, kind := t.list()
	if n > 0 && kind != thriftStruct {
		t.fail(fault(ErrFormat, "list of type %d where structures are expected", kind))
	}
	for i := 0; i < n && t.err == nil; i++ {
		element(i)
	}
}

// expect reports whether a field has the type that it must have.
func (t *thrift) expect(kind, want byte) bool {
	if kind != want {
		t.fail(fault(ErrFormat, "field of type %d where type %d is expected", kind, want))
	}
	return t.err == nil
}

// skip passes over a value. inList: a truth value in a list takes a byte, as a
// field it is its own type.
func (t *thrift) skip(kind byte, inList bool) {
	if t.err != nil {
		return
	}
	switch kind {
	case thriftTrue, thriftFalse:
		if inList {
			t.byte()
		}
	case thriftByte:
		t.byte()
	case thriftI16, thriftI32, thriftI64:
		t.uvarint()
	case thriftDouble:
		if len(t.b)-t.pos < 8 {
			t.fail(errCutOff)
			return
		}
		t.pos += 8
	case thriftBinary:
		t.binary()
	case thriftStruct:
		t.fields(func(_ int16, kind byte) { t.skip(kind, false) })
	case thriftList, thriftSet, thriftMap:
		if t.depth++; t.depth > thriftDepth {
			t.fail(fault(ErrFormat, "structures nested more than %d deep", thriftDepth))
			return
		}
		defer func() { t.depth-- }()
		if kind != thriftMap {
			n, kind := t.list()
			for i := 0; i < n && t.err == nil; i++ {
				t.skip(kind, true)
			}
			return
		}
		n := t.uvarint()
		if n == 0 {
			return
		}
		kinds := t.byte()
		for i := uint64(0); i < n && t.err == nil; i++ {
			t.skip(kinds>>4, true)
			t.skip(kinds&0x0f, true)
		}
	default:
		t.fail(fault(ErrFormat, "field of unknown type %d", kind))
	}
}
