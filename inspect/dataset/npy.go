package dataset

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// npyHeader is what an array in NumPy's format
// (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html) says
// about itself.
type npyHeader struct {
	// kind and width are the type: 'u' and 1 for uint8; 'i', 'f', 'b' likewise.
	kind  byte
	width int
	order binary.ByteOrder
	// descr is the type as it is written.
	descr string
	shape []int64
	// values is the product of shape; the values begin at start.
	values, start int64
}

func (h *npyHeader) bytes() int64 { return h.values * int64(h.width) }

const (
	npyMagic = "\x93NUMPY"
	// npyHeaderMost is far more than a header without field names takes.
	npyHeaderMost = 64 << 10
	npyDims       = 32
)

// readNPYHeader reads the header of versions 1 to 3 and checks that its numbers
// are possible; that the values are there is for the caller to check.
func readNPYHeader(r io.Reader) (h npyHeader, err error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:8]); err != nil {
		return h, short(err, "header is cut off")
	}
	if string(head[:6]) != npyMagic {
		return h, fault(ErrFormat, "not a NumPy array: begins with %q", head[:6])
	}
	width := 4
	switch head[6] {
	case 1:
		width = 2
	case 2, 3:
	default:
		return h, fault(ErrFormat, "NumPy format version %d.%d; 1 to 3 are read", head[6], head[7])
	}
	if _, err := io.ReadFull(r, head[8:8+width]); err != nil {
		return h, short(err, "header is cut off")
	}
	n := int64(binary.LittleEndian.Uint32(head[8:]))
	if n > npyHeaderMost {
		return h, fault(ErrFormat, "header of %d bytes, at most %d are read", n, npyHeaderMost)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return h, short(err, "header is cut off")
	}
	h.start = int64(8+width) + n
	return h, h.parse(string(text))
}

// parse reads the dictionary of a header, a Python literal.
func (h *npyHeader) parse(text string) error {
	p := npyText{strings.TrimSpace(text)}
	if !p.take("{") {
		return fault(ErrFormat, "header is no dictionary")
	}
	fortran, seen := false, map[string]bool{}
	for !p.take("}") {
		key, ok := p.text()
		if !ok || !p.take(":") || seen[key] {
			return fault(ErrFormat, "header %.60q is damaged", text)
		}
		seen[key] = true
		switch key {
		case "descr":
			if h.descr, ok = p.text(); !ok {
				return fault(ErrFormat, "array of records; images and labels are plain arrays")
			}
		case "fortran_order":
			fortran = p.take("True")
			ok = fortran || p.take("False")
		case "shape":
			h.shape, ok = p.tuple()
		default:
			return fault(ErrFormat, "header has an unknown key %.40q", key)
		}
		if !ok {
			return fault(ErrFormat, "header %.60q is damaged", text)
		}
		if !p.take(",") && !strings.HasPrefix(p.rest, "}") {
			return fault(ErrFormat, "header %.60q is damaged", text)
		}
	}
	if len(seen) != 3 || p.rest != "" {
		return fault(ErrFormat, "header %.60q is damaged", text)
	}
	if err := h.readType(); err != nil {
		return err
	}
	if fortran && len(h.shape) > 1 {
		return fault(ErrFormat, "array in Fortran order; save numpy.ascontiguousarray(x) instead")
	}
	h.values = 1
	for _, d := range h.shape {
		if d != 0 && h.values > math.MaxInt64/16/d {
			return fault(ErrFormat, "impossible shape %v", h.shape)
		}
		h.values *= d
	}
	return nil
}

func (h *npyHeader) readType() error {
	d := h.descr
	if d == "|O" || d == "O" {
		return fault(ErrFormat, "array of Python objects, which only Python can read; save it as integers (x.astype(numpy.uint8))")
	}
	if len(d) < 3 || !strings.Contains("<>|=", d[:1]) {
		return fault(ErrFormat, "array of unknown type %.20q", d)
	}
	h.kind = d[1]
	h.order = binary.LittleEndian
	if d[0] == '>' {
		h.order = binary.BigEndian
	}
	switch h.kind {
	case 'u', 'i', 'f', 'b':
	default:
		return fault(ErrFormat, "array of type %.20q; integers are read", d)
	}
	switch d[2:] {
	case "1", "2", "4", "8":
		h.width = int(d[2] - '0')
		return nil
	}
	return fault(ErrFormat, "array of type %.20q; integers of 1, 2, 4 and 8 bytes are read", d)
}

// npyText is what is left of a Python literal.
type npyText struct{ rest string }

func (p *npyText) take(token string) bool {
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = strings.TrimLeft(rest, " \t\n")
	}
	return ok
}

func (p *npyText) text() (string, bool) {
	for _, quote := range []string{"'", `"`} {
		if strings.HasPrefix(p.rest, quote) {
			text, rest, ok := strings.Cut(p.rest[1:], quote)
			if !ok || strings.Contains(text, `\`) {
				return "", false
			}
			p.rest = strings.TrimLeft(rest, " \t\n")
			return text, true
		}
	}
	return "", false
}

func (p *npyText) tuple() (out []int64, ok bool) {
	if !p.take("(") {
		return nil, false
	}
	for !p.take(")") {
		end := strings.IndexFunc(p.rest, func(r rune) bool { return r < '0' || r > '9' })
		if end <= 0 || len(out) == npyDims {
			return nil, false
		}
		v, err := strconv.ParseInt(p.rest[:end], 10, 64)
		if err != nil {
			return nil, false
		}
		out = append(out, v)
		p.rest = p.rest[end:]
		p.take("L") // Python 2 wrote long integers so
		p.take(" ")
		if !p.take(",") && !strings.HasPrefix(p.rest, ")") {
			return nil, false
		}
	}
	return out, true
}

// npyImages says how the images of an array lie, as records.
func (h *npyHeader) images(opt Options) (*recordFile, error) {
	if h.kind == 'f' {
		return nil, fault(ErrFormat, "images of type %s; save them as bytes, (x * 255).round().astype(numpy.uint8) where they are 0 to 1, "+
			"and leave scaling to the preprocessing", h.descr)
	}
	if h.kind != 'u' || h.width != 1 {
		return nil, fault(ErrFormat, "images of type %s; only uint8 is read (x.astype(numpy.uint8))", h.descr)
	}
	d := h.shape
	isChannels := func(n int64) bool { return n == 1 || n == 3 }
	f := &recordFile{start: h.start}
	var height, width, channels int64
	switch {
	case len(d) == 3:
		height, width, channels = d[1], d[2], 1
	case len(d) == 4 && isChannels(d[1]) && isChannels(d[3]):
		return nil, fault(ErrFormat, "shape %v can be [N,C,H,W] as well as [N,H,W,C]; save grey images as [N,H,W]", d)
	case len(d) == 4 && isChannels(d[3]):
		height, width, channels = d[1], d[2], d[3]
		f.interleaved = true
	case len(d) == 4 && isChannels(d[1]):
		channels, height, width = d[1], d[2], d[3]
	default:
		return nil, fault(ErrFormat, "shape %v is no array of images; expected [N,H,W], [N,H,W,C] or [N,C,H,W] with 1 or 3 channels", d)
	}
	if d[0] > math.MaxInt32 {
		return nil, fault(ErrTooLarge, "%d images, at most %d are read", d[0], math.MaxInt32)
	}
	if d[0] > 0 && (height == 0 || width == 0) {
		return nil, fault(ErrFormat, "shape %v: images without pixels", d)
	}
	if height > 0 && width > opt.MaxPixels/height {
		return nil, fault(ErrTooLarge, "images of %dx%d pixels, at most %d are allowed", width, height, opt.MaxPixels)
	}
	f.n, f.stride = int(d[0]), height*width*channels
	f.channels, f.height, f.width = int(channels), int(height), int(width)
	return f, nil
}

// labels reads an array of n labels, of shape [N] or [N,1].
func (h *npyHeader) labels(r io.Reader, n int, out *labelList) error {
	switch d := h.shape; {
	case len(d) == 2 && d[1] > 1:
		return fault(ErrLabel, "labels of shape %v; one number a sample is read, of one-hot rows save y.argmax(1)", d)
	case len(d) != 1 && !(len(d) == 2 && d[1] == 1):
		return fault(ErrLabel, "labels of shape %v; expected [N] or [N,1]", d)
	case h.kind == 'f':
		return fault(ErrLabel, "labels of type %s; save y.astype(numpy.int64)", h.descr)
	case d[0] != int64(n):
		return fault(ErrFormat, "%d labels for %d images", d[0], n)
	}
	var b [8]byte
	for i := range n {
		if _, err := io.ReadFull(r, b[:h.width]); err != nil {
			return short(err, "array is cut off")
		}
		var v int64
		switch h.width {
		case 1:
			v = int64(b[0])
			if h.kind == 'i' {
				v = int64(int8(b[0]))
			}
		case 2:
			v = int64(h.order.Uint16(b[:]))
			if h.kind == 'i' {
				v = int64(int16(v))
			}
		case 4:
			v = int64(h.order.Uint32(b[:]))
			if h.kind == 'i' {
				v = int64(int32(v))
			}
		case 8:
			u := h.order.Uint64(b[:])
			v = int64(u)
			if h.kind == 'u' && u > math.MaxInt64 {
				v = math.MaxInt64
			}
		}
		if v < 0 {
			return fault(ErrLabel, "label %d of image %d is negative", v, i)
		}
		if err := out.number(v); err != nil {
			return fmt.Errorf("image %d: %w", i, err)
		}
	}
	return nil
}
