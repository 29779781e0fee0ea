package dataset

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// The Parquet format (https://github.com/apache/parquet-format): columns lie in
// row groups as chunks of pages, the footer says where. Read here is what a
// column of images and one of labels are made of, page by page and no further:
// a library that decodes columns would decode a page for every image asked for,
// and allocate what a footer claims.

const (
	parquetMagic = "PAR1"
	// parquetFooter and parquetPage bound a footer and a decompressed page.
	parquetFooter = 64 << 20
	parquetPage   = 1 << 30
	// parquetHeader bounds a page header, which may quote two values.
	parquetHeader = 1 << 20
)

// Physical types of a column.
const (
	parquetInt32     = 1
	parquetInt64     = 2
	parquetByteArray = 6
)

// Codecs of a column chunk.
const (
	codecNone   = 0
	codecSnappy = 1
	codecGzip   = 2
	codecZstd   = 6
)

func codecName(c int32) string {
	names := []string{"none", "Snappy", "gzip", "LZO", "Brotli", "LZ4", "Zstandard", "LZ4_RAW"}
	if c < 0 || int(c) >= len(names) {
		return fmt.Sprintf("number %d", c)
	}
	return names[c]
}

// Encodings of a page's values.
const (
	encodingPlain           = 0
	encodingPlainDictionary = 2
	encodingRLE             = 3
	encodingDeltaPacked     = 5
	encodingDeltaLengths    = 6
	encodingDeltaArrays     = 7
	encodingRLEDictionary   = 8
)

func encodingName(e int32) string {
	names := map[int32]string{0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 4: "BIT_PACKED", 5: "DELTA_BINARY_PACKED",
		6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY", 8: "RLE_DICTIONARY", 9: "BYTE_STREAM_SPLIT"}
	if n, ok := names[e]; ok {
		return n
	}
	return fmt.Sprintf("number %d", e)
}

// parquetColumn is a leaf of the schema.
type parquetColumn struct {
	// path is joined with dots: "image.bytes".
	path string
	// index is its number among the leaves and so among a row group's chunks.
	index int
	kind  int32
	// maxDef is 0 for a required column; a value is there where the definition
	// level equals it. repeated columns hold lists.
	maxDef   int
	repeated bool
}

// parquetChunk is the part of a column in one row group.
type parquetChunk struct {
	start, size, values int64
	codec               int32
}

type parquetFile struct {
	name    string
	file    io.ReaderAt
	closer  io.Closer
	size    int64
	columns []parquetColumn
	rows    int64
	// huggingface is the value of that key in the footer.
	huggingface []byte
	footer      []byte
}

// openParquetFile reads the footer. The file's rows are checked against its
// size: no image takes less than a byte.
func openParquetFile(path, name string) (_ *parquetFile, err error) {
	file, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	f, err := newParquetFile(file, size)
	if err != nil {
		file.Close()
		return nil, err
	}
	f.name, f.closer = name, file
	return f, nil
}

func newParquetFile(r io.ReaderAt, size int64) (*parquetFile, error) {
	f := &parquetFile{file: r, size: size}
	var head [4]byte
	var tail [8]byte
	if size < 12 {
		return nil, fault(ErrFormat, "%d bytes, too short for a Parquet file", size)
	}
	if err := readFull(r, head[:], 0); err != nil {
		return nil, err
	}
	if err := readFull(r, tail[:], size-8); err != nil {
		return nil, err
	}
	if string(head[:]) == "PARE" || string(tail[4:]) == "PARE" {
		return nil, fault(ErrFormat, "encrypted Parquet file; decrypt it first")
	}
	if string(head[:]) != parquetMagic {
		return nil, fault(ErrFormat, "not a Parquet file: begins with %q", head[:])
	}
	if string(tail[4:]) != parquetMagic {
		return nil, fault(ErrFormat, "cut off: a Parquet file ends with %q, this one with %q", parquetMagic, tail[4:])
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if n > size-12 {
		return nil, fault(ErrFormat, "footer of %d bytes in a file of %d", n, size)
	}
	if n > parquetFooter {
		return nil, fault(ErrTooLarge, "footer of %d bytes, at most %d are read", n, parquetFooter)
	}
	f.footer = make([]byte, n)
	if err := readFull(r, f.footer, size-8-n); err != nil {
		return nil, err
	}
	if err := f.readSchema(); err != nil {
		return nil, err
	}
	if f.rows < 0 || f.rows > size {
		return nil, fault(ErrFormat, "%d rows in %d bytes", f.rows, size)
	}
	return f, nil
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		return fault(ErrFormat, "file became shorter than it was")
	}
	return err
}

type parquetElement struct {
	name             string
	kind, repetition int32
	children         int64
	leaf             bool
}

// readSchema reads columns, rows and metadata from the footer.
func (f *parquetFile) readSchema() error {
	t := &thrift{b: f.footer}
	var elements []parquetElement
	t.fields(func(id int16, kind byte) {
		switch {
		case id == 2 && t.expect(kind, thriftList):
			t.structs(func(int) {
				e := parquetElement{leaf: false, kind: -1}
				t.fields(func(id int16, kind byte) {
					switch {
					case id == 1 && t.expect(kind, thriftI32):
						e.kind, e.leaf = t.int32(), true
					case id == 3 && t.expect(kind, thriftI32):
						e.repetition = t.int32()
					case id == 4 && t.expect(kind, thriftBinary):
						e.name = string(t.binary())
					case id == 5 && t.expect(kind, thriftI32):
						e.children = t.int()
					default:
						t.skip(kind, false)
					}
				})
				elements = append(elements, e)
			})
		case id == 3 && t.expect(kind, thriftI64):
			f.rows = t.int()
		case id == 5 && t.expect(kind, thriftList):
			t.structs(func(int) {
				var key string
				var value []byte
				t.fields(func(id int16, kind byte) {
					switch {
					case id == 1 && t.expect(kind, thriftBinary):
						key = string(t.binary())
					case id == 2 && t.expect(kind, thriftBinary):
						value = t.binary()
					default:
						t.skip(kind, false)
					}
				})
				if key == "huggingface" {
					f.huggingface = value
				}
			})
		default:
			t.skip(kind, false)
		}
	})
	if t.err != nil {
		return fmt.Errorf("footer: %w", t.err)
	}
	if len(elements) == 0 {
		return fault(ErrFormat, "footer without a schema")
	}
	rest := elements[1:]
	for range elements[0].children {
		var err error
		if rest, err = f.addColumns(rest, nil, 0, false); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return fault(ErrFormat, "schema of %d elements with %d too many", len(elements), len(rest))
	}
	return nil
}

// addColumns takes an element and what is below it from the front of rest.
func (f *parquetFile) addColumns(rest []parquetElement, path []string, def int, repeated bool) ([]parquetElement, error) {
	if len(rest) == 0 {
		return nil, fault(ErrFormat, "schema is cut off")
	}
	if len(path) > thriftDepth {
		return nil, fault(ErrFormat, "schema nested more than %d deep", thriftDepth)
	}
	e := rest[0]
	rest = rest[1:]
	path = append(path, e.name)
	switch e.repetition {
	case 1:
		def++
	case 2:
		def, repeated = def+1, true
	}
	if e.leaf {
		f.columns = append(f.columns, parquetColumn{strings.Join(path, "."), len(f.columns), e.kind, def, repeated})
		return rest, nil
	}
	for range e.children {
		var err error
		if rest, err = f.addColumns(rest, path, def, repeated); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// parquetGroup is a row group: the chunks of the columns asked for.
type parquetGroup struct {
	rows   int64
	chunks []parquetChunk
}

// groups reads the chunks of the given columns from the footer and checks that
// they lie in the file and their rows add up.
func (f *parquetFile) groups(columns ...parquetColumn) ([]parquetGroup, error) {
	t := &thrift{b: f.footer}
	var out []parquetGroup
	t.fields(func(id int16, kind byte) {
		if id != 4 {
			t.skip(kind, false)
			return
		}
		if !t.expect(kind, thriftList) {
			return
		}
		t.structs(func(int) {
			g := parquetGroup{chunks: make([]parquetChunk, len(columns))}
			t.fields(func(id int16, kind byte) {
				switch {
				case id == 1 && t.expect(kind, thriftList):
					t.structs(func(i int) {
						k := slices.IndexFunc(columns, func(c parquetColumn) bool { return c.index == i })
						if k < 0 {
							t.skip(thriftStruct, false)
							return
						}
						g.chunks[k] = f.readChunk(t)
					})
				case id == 3 && t.expect(kind, thriftI64):
					g.rows = t.int()
				default:
					t.skip(kind, false)
				}
			})
			out = append(out, g)
		})
	})
	if t.err != nil {
		return nil, fmt.Errorf("footer: %w", t.err)
	}
	left := f.rows
	for i, g := range out {
		if g.rows < 0 || g.rows > left {
			return nil, fault(ErrFormat, "row group %d has %d rows of the %d that are left", i, g.rows, left)
		}
		left -= g.rows
		for k, c := range g.chunks {
			if c.start < 4 || c.size < 0 || c.start > f.size || c.size > f.size-c.start {
				return nil, fault(ErrFormat, "row group %d: column %s lies at %d+%d in a file of %d bytes", i, columns[k].path, c.start, c.size, f.size)
			}
			if c.codec < 0 || !slices.Contains([]int32{codecNone, codecSnappy, codecGzip, codecZstd}, c.codec) {
				return nil, fault(ErrFormat, "column %s is compressed with %s; Snappy, gzip, Zstandard and none are read", columns[k].path, codecName(c.codec))
			}
		}
	}
	if left != 0 {
		return nil, fault(ErrFormat, "row groups hold %d rows fewer than the %d of the file", left, f.rows)
	}
	return out, nil
}

func (f *parquetFile) readChunk(t *thrift) (c parquetChunk) {
	var data, dictionary int64
	t.fields(func(id int16, kind byte) {
		switch {
		case id == 1 && kind == thriftBinary:
			if len(t.binary()) > 0 {
				t.fail(fault(ErrFormat, "column in another file"))
			}
		case id == 3 && t.expect(kind, thriftStruct):
			t.fields(func(id int16, kind byte) {
				switch {
				case id == 4 && t.expect(kind, thriftI32):
					c.codec = t.int32()
				case id == 5 && t.expect(kind, thriftI64):
					c.values = t.int()
				case id == 7 && t.expect(kind, thriftI64):
					c.size = t.int()
				case id == 9 && t.expect(kind, thriftI64):
					data = t.int()
				case id == 11 && t.expect(kind, thriftI64):
					dictionary = t.int()
				default:
					t.skip(kind, false)
				}
			})
		default:
			t.skip(kind, false)
		}
	})
	c.start = data
	if dictionary > 0 && dictionary < data {
		c.start = dictionary
	}
	return c
}

// parquetPageHeader is what a page says about itself.
type parquetPageHeader struct {
	kind, size, packed int32 // size when decompressed, packed as it lies
	values, encoding   int32
	levels             int32 // encoding of the definition levels
	// Version 2 puts levels of these lengths in front of the compressed values.
	v2              bool
	defLen, repLen  int32
	valuesAreStored bool
}

// Kinds of pages.
const (
	pageData       = 0
	pageIndex      = 1
	pageDictionary = 2
	pageDataV2     = 3
)

func readPageHeader(t *thrift) (h parquetPageHeader) {
	h.kind, h.levels = -1, encodingRLE
	i32 := func(kind byte, to *int32) {
		if t.expect(kind, thriftI32) {
			*to = t.int32()
		}
	}
	t.fields(func(id int16, kind byte) {
		switch id {
		case 1:
			i32(kind, &h.kind)
		case 2:
			i32(kind, &h.size)
		case 3:
			i32(kind, &h.packed)
		case 5, 7, 8: // data page, dictionary page, data page of version 2
			if !t.expect(kind, thriftStruct) {
				return
			}
			page := id
			h.v2 = page == 8
			t.fields(func(id int16, kind byte) {
				switch {
				case id == 1:
					i32(kind, &h.values)
				case id == 2 && page != 8, id == 4 && page == 8:
					i32(kind, &h.encoding)
				case id == 3 && page == 5:
					i32(kind, &h.levels)
				case id == 5 && page == 8:
					i32(kind, &h.defLen)
				case id == 6 && page == 8:
					i32(kind, &h.repLen)
				case id == 7 && page == 8 && kind == thriftFalse:
					h.valuesAreStored = true
				default:
					t.skip(kind, false)
				}
			})
		default:
			t.skip(kind, false)
		}
	})
	return h
}

// parquetBuffers is the memory of one walk over pages.
type parquetBuffers struct{ packed, page, head []byte }

// parquetPageData is a page in memory: body is decompressed, the levels of
// version 2 stand before it in the file and are in def.
type parquetPageData struct {
	parquetPageHeader
	def, body []byte
	blob      parquetBlob
}

// parquetBlob is a compressed run of bytes in the file.
type parquetBlob struct {
	at           int64
	packed, size int32
	codec        int32
	// Above 0, what is decompressed holds that many values of DELTA_BYTE_ARRAY at
	// off, and is rewritten by expandDelta.
	values, off int32
	// points of a Snappy block, when they were asked for.
	points []seekPoint
}

// pages calls page for each page of a chunk, in order; what it gets is valid
// during the call. seekable asks for seek points.
func (f *parquetFile) pages(c parquetChunk, seekable bool, buf *parquetBuffers, page func(p parquetPageData) error) error {
	pos, end := c.start, c.start+c.size
	for pos < end {
		h, length, err := f.pageHeader(pos, end, buf)
		if err != nil {
			return fmt.Errorf("page at %d: %w", pos, err)
		}
		body := pos + length
		if h.packed < 0 || h.size < 0 || int64(h.packed) > end-body || h.values < 0 {
			return fault(ErrFormat, "page at %d: %d bytes, %d of the column are left", pos, h.packed, end-body)
		}
		pos = body + int64(h.packed)
		if h.kind == pageIndex {
			continue
		}
		if err := f.page(c, h, body, seekable, buf, page); err != nil {
			return fmt.Errorf("page at %d: %w", body-length, err)
		}
	}
	return nil
}

func (f *parquetFile) page(c parquetChunk, h parquetPageHeader, at int64, seekable bool, buf *parquetBuffers, page func(p parquetPageData) error) error {
	p := parquetPageData{parquetPageHeader: h}
	var levels int32
	if h.kind == pageDataV2 {
		if h.defLen < 0 || h.repLen < 0 || int64(h.defLen)+int64(h.repLen) > int64(min(h.packed, h.size)) {
			return fault(ErrFormat, "levels of %d and %d bytes in a page of %d", h.repLen, h.defLen, h.packed)
		}
		levels = h.defLen + h.repLen
	} else {
		p.defLen, p.repLen = 0, 0
	}
	codec := c.codec
	if p.valuesAreStored {
		codec = codecNone
	}
	p.blob = parquetBlob{at: at + int64(levels), packed: h.packed - levels, size: h.size - levels, codec: codec}
	buf.packed = grow(buf.packed, int(h.packed))
	if err := readFull(f.file, buf.packed, at); err != nil {
		return err
	}
	p.def = buf.packed[p.repLen:levels]
	var err error
	p.body, p.blob.points, err = unpack(buf.packed[levels:], p.blob, seekable, buf)
	if err != nil {
		return err
	}
	return page(p)
}

// grow returns n bytes, content undefined.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// pageHeader reads the header at pos, which ends before end.
func (f *parquetFile) pageHeader(pos, end int64, buf *parquetBuffers) (h parquetPageHeader, length int64, err error) {
	for n := int64(256); ; n *= 8 {
		n = min(n, end-pos)
		buf.head = grow(buf.head, int(n))
		if err := readFull(f.file, buf.head, pos); err != nil {
			return h, 0, err
		}
		t := &thrift{b: buf.head}
		h = readPageHeader(t)
		if t.err == nil {
			return h, int64(t.pos), nil
		}
		if !errors.Is(t.err, errCutOff) || n == end-pos || n >= parquetHeader {
			return h, 0, fmt.Errorf("header: %w", t.err)
		}
	}
}

// unpack decompresses a blob. What it claims to hold is believed as far as the
// codec allows.
func unpack(packed []byte, b parquetBlob, seekable bool, buf *parquetBuffers) (body []byte, points []seekPoint, err error) {
	if b.size > parquetPage {
		return nil, nil, fault(ErrTooLarge, "page of %d bytes, at most %d are read", b.size, parquetPage)
	}
	switch {
	case b.codec == codecNone, b.packed == 0 && b.size == 0: // a page of nulls
		body = packed
	case b.codec == codecSnappy:
		if seekable {
			body, points, err = snappyIndex(buf.page, packed)
		} else {
			var n, start int
			if n, start, err = snappyLength(packed); err == nil {
				body, err = unsnap(grow(buf.page, n)[:0], packed[start:], 0, n, nil, nil)
			}
		}
	default:
		body, err = inflatePage(packed, b, buf.page)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(body) != int(b.size) {
		return nil, nil, fault(ErrFormat, "%d bytes when decompressed, its header says %d", len(body), b.size)
	}
	if b.codec != codecNone && len(body) > 0 {
		buf.page = body
	}
	return body, points, nil
}

func inflatePage(packed []byte, b parquetBlob, dst []byte) ([]byte, error) {
	var r io.Reader
	switch b.codec {
	case codecGzip:
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return nil, fault(ErrFormat, "gzip: %v", err)
		}
		r = z
	case codecZstd:
		z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, fault(ErrFormat, "Zstandard: %v", err)
		}
		defer z.Close()
		r = z
	}
	// What images are made of does not compress: a claim like that is believed,
	// a bolder one costs no more than what is there.
	dst = dst[:0]
	if int64(b.size) <= 16*int64(b.packed) {
		dst = slices.Grow(dst, int(b.size))
	}
	for len(dst) < int(b.size) {
		n := min(blockSize, int(b.size)-len(dst))
		dst = slices.Grow(dst, n)
		k, err := io.ReadFull(r, dst[len(dst):len(dst)+n])
		dst = dst[:len(dst)+k]
		if err != nil {
			return nil, fault(ErrFormat, "%s data ends after %d of %d bytes or is damaged: %v", codecName(b.codec), len(dst), b.size, err)
		}
	}
	return dst, nil
}

// hybrid decodes n numbers of width bits in the hybrid of run lengths and bit
// packing, and calls emit with each and how often it repeats.
func hybrid(b []byte, width, n int, emit func(v uint32, times int) error) error {
	damaged := func() error { return fault(ErrFormat, "run lengths end early") }
	if width < 0 || width > 32 {
		return fault(ErrFormat, "numbers of %d bits", width)
	}
	if width == 0 {
		return emit(0, n)
	}
	for n > 0 {
		head, k := binary.Uvarint(b)
		if k <= 0 {
			return damaged()
		}
		b = b[k:]
		if head&1 == 0 {
			size := (width + 7) / 8
			if len(b) < size {
				return damaged()
			}
			var v uint32
			for i := range size {
				v |= uint32(b[i]) << (8 * i)
			}
			times := int(min(head>>1, uint64(n)))
			if times == 0 {
				return fault(ErrFormat, "run of no values")
			}
			b, n = b[size:], n-times
			if err := emit(v, times); err != nil {
				return err
			}
			continue
		}
		groups := head >> 1
		if groups == 0 {
			return fault(ErrFormat, "run of no values")
		}
		// The last run may be padded, but not its padding cut off.
		count := n
		if groups < uint64(n+7)/8 {
			count = int(groups) * 8
		}
		if (count*width+7)/8 > len(b) {
			return damaged()
		}
		var acc uint64
		bits, pos := 0, 0
		for range count {
			for bits < width {
				acc |= uint64(b[pos]) << bits
				pos, bits = pos+1, bits+8
			}
			if err := emit(uint32(acc&(1<<width-1)), 1); err != nil {
				return err
			}
			acc, bits = acc>>width, bits-width
		}
		n -= count
		if n > 0 {
			b = b[int(groups)*width:]
		}
	}
	return nil
}

// split takes a data page apart: present is called for runs of rows, with
// whether there are values; the values begin at off in the body.
func (p *parquetPageData) split(col parquetColumn, present func(there bool, times int)) (off int, err error) {
	n := int(p.values)
	if col.maxDef == 0 {
		present(true, n)
		return 0, nil
	}
	def := p.def
	if p.kind == pageData {
		if p.levels != encodingRLE {
			return 0, fault(ErrFormat, "definition levels are encoded as %s; only RLE is read", encodingName(p.levels))
		}
		if len(p.body) < 4 {
			return 0, fault(ErrFormat, "definition levels are cut off")
		}
		size := binary.LittleEndian.Uint32(p.body)
		if uint64(size) > uint64(len(p.body)-4) {
			return 0, fault(ErrFormat, "definition levels of %d bytes in a page of %d", size, len(p.body))
		}
		off = 4 + int(size)
		def = p.body[4:off]
	}
	width := 0
	for 1<<width <= col.maxDef {
		width++
	}
	return off, hybrid(def, width, n, func(v uint32, times int) error {
		present(int(v) == col.maxDef, times)
		return nil
	})
}

// featureNames finds the names of a ClassLabel column in the metadata that the
// datasets library writes; nil when there are none.
func (f *parquetFile) featureNames(column string) []string {
	var meta struct {
		Info struct {
			Features map[string]json.RawMessage `json:"features"`
		} `json:"info"`
	}
	if json.Unmarshal(f.huggingface, &meta) != nil {
		return nil
	}
	var feature struct {
		Type  string   `json:"_type"`
		Names []string `json:"names"`
	}
	if json.Unmarshal(meta.Info.Features[column], &feature) != nil || len(feature.Names) == 0 {
		return nil
	}
	return feature.Names
}
