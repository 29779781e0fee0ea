package dataset

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The IDX format (http://yann.lecun.com/exdb/mnist): two zero bytes, the type
// of a value, the number of dimensions, the dimensions as big-endian uint32,
// then the values in row-major order, big-endian.
const (
	idxUint8 = 0x08
	idxInt32 = 0x0c

	// maxLabels bounds what an int32 label may ask for: the names of all
	// labels up to it.
	maxLabels = 1 << 20
)

type idxHeader struct {
	kind byte
	dims []int64
	// values is the product of dims, bytes the size of the whole file.
	values, bytes int64
}

func (h idxHeader) length() int64 { return 4 + 4*int64(len(h.dims)) }

// readIDXHeader reads a header and checks that its numbers are possible; that
// the file holds what they promise is for the caller to check.
func readIDXHeader(r io.Reader) (idxHeader, error) {
	var h idxHeader
	var magic [4]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil {
		return h, short(err, "header is cut off")
	}
	if magic[0] != 0 || magic[1] != 0 {
		return h, fault(ErrFormat, "not an IDX file: begins with %#x", magic)
	}
	h.kind = magic[2]
	width := map[byte]int64{idxUint8: 1, 0x09: 1, 0x0b: 2, idxInt32: 4, 0x0d: 4, 0x0e: 8}[h.kind]
	if width == 0 {
		return h, fault(ErrFormat, "not an IDX file: type %#02x", h.kind)
	}
	n := int(magic[3])
	if n < 1 || n > 4 {
		return h, fault(ErrFormat, "IDX file of %d dimensions; images have 3 or 4, labels 1", n)
	}
	var raw [16]byte
	if _, err := io.ReadFull(r, raw[:4*n]); err != nil {
		return h, short(err, "header is cut off")
	}
	h.values = 1
	for i := range n {
		d := int64(binary.BigEndian.Uint32(raw[4*i:]))
		h.dims = append(h.dims, d)
		if d != 0 && h.values > math.MaxInt64/16/d {
			return h, fault(ErrFormat, "impossible dimensions %v", h.dims)
		}
		h.values *= d
	}
	h.bytes = h.length() + h.values*width
	return h, nil
}

func short(err error, text string) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fault(ErrFormat, "%s", text)
	}
	return err
}

func isGzip(head []byte) bool { return len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b }

// sniffIDX returns why a file is no IDX file, nil when it has such a header,
// looking through gzip, and whether a plain file has just the size that the
// header says.
func sniffIDX(file string) (reason error, fits bool) {
	st, err := os.Stat(file)
	if err != nil {
		return failure("open", file, err), false
	}
	if !st.Mode().IsRegular() {
		return failure("read", file, fault(ErrFormat, "not a regular file")), false
	}
	f, err := os.Open(file)
	if err != nil {
		return failure("open", file, err), false
	}
	defer f.Close()
	br := bufio.NewReader(f)
	head, _ := br.Peek(2)
	if isGzip(head) {
		z, err := gzip.NewReader(br)
		if err == nil {
			_, err = readIDXHeader(z)
		} else {
			err = short(err, "gzip stream is cut off")
		}
		if err != nil {
			return failure("read", file, err), false
		}
		return nil, false
	}
	h, err := readIDXHeader(br)
	if err != nil {
		return failure("read", file, err), false
	}
	return nil, h.bytes == st.Size()
}

// idxLike tells whether a file name claims to be IDX.
func idxLike(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "ubyte") || strings.Contains(name, "idx")
}

// idxName takes a file name apart: "train-images-idx3-ubyte.gz" is the images
// of "train". Images and labels belong together when their sets are equal.
func idxName(name string) (set string, images, labels bool) {
	set = strings.ToLower(name)
	images, labels = strings.Contains(set, "images"), strings.Contains(set, "labels")
	set = strings.TrimSuffix(set, ".gz")
	for _, cut := range []string{"images", "labels", "idx1", "idx3", "idx4", "ubyte", ".idx", "int"} {
		set = strings.ReplaceAll(set, cut, "")
	}
	return strings.Trim(strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_. ", r) {
			return -1
		}
		return r
	}, set), " "), images && !labels, labels && !images
}

// idxImages picks the images files of an IDX folder. rejected is why the first
// file that is called so is none.
func idxImages(dir string, names []string) (out []string, rejected error) {
	for _, n := range names {
		if _, images, _ := idxName(n); !images {
			continue
		}
		reason, _ := sniffIDX(filepath.Join(dir, n))
		switch {
		case reason == nil:
			out = append(out, n)
		case rejected == nil && idxLike(n):
			rejected = reason
		}
	}
	slices.Sort(out)
	return out, rejected
}

func idxPart(set string) Part {
	switch {
	case strings.Contains(set, "train"):
		return PartTrain
	case strings.Contains(set, "t10k"), strings.Contains(set, "test"), strings.Contains(set, "val"):
		return PartTest
	}
	return PartNone
}

func openIDX(dir string, images, names []string, opt Options) (_ *Set, err error) {
	if err := opt.oneLabel("IDX files"); err != nil {
		return nil, err
	}
	// The same file is often there plain and compressed; the plain one needs
	// no memory.
	bySet := map[string]string{}
	byPart := map[Part]string{}
	var use []string
	for _, name := range images {
		set, _, _ := idxName(name)
		if other, ok := bySet[set]; ok {
			if strings.TrimSuffix(name, ".gz") != other {
				return nil, fault(ErrFormat, "%s and %s both look like the images of %q; give one of the files", other, name, set)
			}
			continue
		}
		bySet[set] = name
		if other, ok := byPart[idxPart(set)]; ok {
			return nil, fault(ErrFormat, "more than one data set in the folder (%s, %s); give one of the files", other, name)
		}
		byPart[idxPart(set)] = name
		use = append(use, name)
	}
	if _, train := byPart[PartTrain]; len(use) > 1 && (!train || byPart[PartTest] == "") || len(use) > 2 {
		return nil, fault(ErrFormat, "%s do not form a training and a test part; give one of the files", strings.Join(use, ", "))
	}

	slices.SortFunc(use, func(a, b string) int { // training part first
		setA, _, _ := idxName(a)
		setB, _, _ := idxName(b)
		return int(idxPart(setA)) - int(idxPart(setB))
	})

	src := &records{}
	defer func() {
		if err != nil {
			src.close()
		}
	}()
	budget := opt.MaxBytes
	s := &Set{format: "IDX"}
	var parts []Part
	for _, name := range use {
		set, _, _ := idxName(name)
		f, err := openIDXImages(filepath.Join(dir, name), opt, &budget)
		if err != nil {
			return nil, failure("read", filepath.Join(dir, name), err)
		}
		f.name = name
		src.add(f)
		labelFile, err := idxLabels(dir, name, names)
		if err != nil {
			return nil, err
		}
		l, err := readIDXLabels(filepath.Join(dir, labelFile), f.n, &budget)
		if err != nil {
			return nil, failure("read", filepath.Join(dir, labelFile), err)
		}
		s.label = append(s.label, l...)
		for range l {
			parts = append(parts, idxPart(set))
		}
	}
	if len(s.label) == 0 {
		return nil, fault(ErrEmpty, "no images in %s", strings.Join(use, ", "))
	}
	if len(use) == 2 {
		s.part = parts
	}
	s.labels = slices.Clone(opt.Labels)
	if s.labels == nil {
		if s.labels, err = readNames(filepath.Join(dir, "labels.txt")); err != nil {
			return nil, err
		}
	}
	highest := int(slices.Max(s.label))
	if s.labels == nil {
		s.labels = numbered(highest + 1)
	}
	if highest >= len(s.labels) {
		i := slices.Index(s.label, int32(highest))
		return nil, fault(ErrLabel, "%s has label %d, but there are %d label names", src.id(i), highest, len(s.labels))
	}
	s.src = src
	return s, nil
}

// idxLabels finds the labels file of an images file.
func idxLabels(dir, images string, names []string) (string, error) {
	set, _, _ := idxName(images)
	var found []string
	var rejected error
	for _, n := range names {
		if s, _, labels := idxName(n); labels && s == set {
			reason, _ := sniffIDX(filepath.Join(dir, n))
			if reason == nil {
				found = append(found, n)
			} else if rejected == nil && !strings.EqualFold(filepath.Ext(n), ".txt") {
				rejected = reason
			}
		}
	}
	if len(found) == 0 && rejected != nil {
		return "", rejected
	}
	if len(found) == 0 {
		return "", fault(ErrFormat, "no labels file beside %s; expected %s", images,
			strings.NewReplacer("images", "labels", "idx3", "idx1", "idx4", "idx1").Replace(images))
	}
	slices.Sort(found)
	return found[0], nil
}

// openIDXFile returns the content of a plain or gzip IDX file and its header.
func openIDXFile(path string, budget *int64) (h idxHeader, at io.ReaderAt, file *os.File, err error) {
	f, size, err := openRegular(path)
	if err != nil {
		return h, nil, nil, err
	}
	br := bufio.NewReader(f)
	if head, _ := br.Peek(2); isGzip(head) {
		defer f.Close()
		h, mem, err := inflateIDX(br, budget)
		return h, mem, nil, err
	}
	if h, err = readIDXHeader(br); err == nil && h.bytes != size {
		err = fault(ErrFormat, "%d bytes, its header %v says %d", size, h.dims, h.bytes)
	}
	if err != nil {
		f.Close()
		return h, nil, nil, err
	}
	return h, f, f, nil
}

// blockSize is the step in which a compressed file grows in memory, so that a
// header that lies costs no more than what the file really holds.
const blockSize = 1 << 20

// blocks is content in memory, in pieces of blockSize.
type blocks struct {
	piece [][]byte
	size  int64
}

// ReadAt implements io.ReaderAt.
func (b *blocks) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off < 0 || off >= b.size {
			return n, io.EOF
		}
		c := copy(p[n:], b.piece[off/blockSize][off%blockSize:])
		n, off = n+c, off+int64(c)
	}
	return n, nil
}

// inflateIDX decompresses an IDX file. It takes what it holds from budget.
func inflateIDX(r io.Reader, budget *int64) (idxHeader, *blocks, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return idxHeader{}, nil, short(err, "gzip stream is cut off")
	}
	var head [20]byte
	w := sliceWriter{buf: head[:0]}
	h, err := readIDXHeader(io.TeeReader(z, &w))
	if err != nil {
		return h, nil, err
	}
	if h.bytes > *budget {
		return h, nil, fault(ErrTooLarge, "%v values are %d bytes when decompressed, %d are left of the limit; decompress the file on disk", h.dims, h.bytes, *budget)
	}
	b := &blocks{}
	stream := io.MultiReader(strings.NewReader(string(w.buf)), z)
	for b.size < h.bytes {
		piece := make([]byte, min(blockSize, h.bytes-b.size))
		if _, err := io.ReadFull(stream, piece); err != nil {
			return h, nil, short(err, fmt.Sprintf("compressed data ends before the %d bytes that the header %v promises", h.bytes, h.dims))
		}
		b.piece, b.size = append(b.piece, piece), b.size+int64(len(piece))
	}
	// Reading on to the end also verifies the checksum.
	switch n, err := io.ReadFull(stream, head[:1]); {
	case n > 0:
		return h, nil, fault(ErrFormat, "compressed data is longer than the %d bytes that the header %v promises", h.bytes, h.dims)
	case err != io.EOF:
		return h, nil, short(err, "gzip stream is cut off")
	}
	*budget -= b.size
	return h, b, nil
}

type sliceWriter struct{ buf []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	return len(p), nil
}

// openIDXImages opens an images file. Of four dimensions the one that is 1 or
// 3 is the channels; when both could be, they are the last.
func openIDXImages(path string, opt Options, budget *int64) (_ *recordFile, err error) {
	h, at, file, err := openIDXFile(path, budget)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && file != nil {
			file.Close()
		}
	}()
	if h.kind != idxUint8 {
		return nil, fault(ErrFormat, "images of type %#02x; only unsigned bytes (0x08) are read", h.kind)
	}
	isChannels := func(d int64) bool { return d == 1 || d == 3 }
	f := &recordFile{at: at, file: file}
	var height, width, channels int64
	switch d := h.dims; {
	case len(d) == 3:
		height, width, channels = d[1], d[2], 1
	case len(d) == 4 && isChannels(d[3]):
		height, width, channels = d[1], d[2], d[3]
		f.interleaved = true
	case len(d) == 4 && isChannels(d[1]):
		channels, height, width = d[1], d[2], d[3]
	default:
		return nil, fault(ErrFormat, "dimensions %v are no images; expected [N,H,W], [N,H,W,C] or [N,C,H,W] with 1 or 3 channels", d)
	}
	if h.dims[0] > 0 && (height == 0 || width == 0) {
		return nil, fault(ErrFormat, "dimensions %v: images without pixels", h.dims)
	}
	if height > 0 && width > opt.MaxPixels/height {
		return nil, fault(ErrTooLarge, "images of %dx%d pixels, at most %d are allowed", width, height, opt.MaxPixels)
	}
	f.n = int(h.dims[0])
	f.start, f.stride = h.length(), height*width*channels
	f.channels, f.height, f.width = int(channels), int(height), int(width)
	return f, nil
}

// readIDXLabels reads a labels file of want labels.
func readIDXLabels(path string, want int, budget *int64) ([]int32, error) {
	h, at, file, err := openIDXFile(path, budget)
	if err != nil {
		return nil, err
	}
	if file != nil {
		defer file.Close()
	}
	var width int
	switch {
	case len(h.dims) != 1:
		return nil, fault(ErrFormat, "dimensions %v are no labels; expected [N]", h.dims)
	case h.kind == idxUint8:
		width = 1
	case h.kind == idxInt32:
		width = 4
	default:
		return nil, fault(ErrFormat, "labels of type %#02x; unsigned bytes (0x08) and int32 (0x0c) are read", h.kind)
	}
	if h.dims[0] != int64(want) {
		return nil, fault(ErrFormat, "%d labels for %d images", h.dims[0], want)
	}
	*budget += memory(at) // freed on return
	r := bufio.NewReaderSize(io.NewSectionReader(at, h.length(), h.values*int64(width)), 64<<10)
	out := make([]int32, want)
	var b [4]byte
	for i := range out {
		if _, err := io.ReadFull(r, b[4-width:]); err != nil {
			return nil, short(err, "file became shorter than it was")
		}
		l := int32(binary.BigEndian.Uint32(b[:]))
		if l < 0 || l >= maxLabels {
			return nil, fault(ErrLabel, "label %d of image %d; expected 0 to %d", l, i, maxLabels-1)
		}
		out[i] = l
	}
	return out, nil
}

func memory(at io.ReaderAt) int64 {
	if b, ok := at.(*blocks); ok {
		return b.size
	}
	return 0
}
