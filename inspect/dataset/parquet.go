package dataset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// parquetName is the Format of Parquet files.
const parquetName = "Parquet"

// imageColumns and labelColumns are what columns are called in data sets on
// Hugging Face; the first that is there is taken.
func imageColumns() []string { return []string{"image", "img", "jpg", "jpeg", "png", "webp"} }
func labelColumns() []string {
	return []string{"label", "fine_label", "labels", "class", "cls", "target", "coarse_label"}
}

// parquetShard is an open file of a set.
type parquetShard struct {
	*parquetFile
	image, label parquetColumn
	groups       []parquetGroup
	// index of each row group, made when its first image is asked for.
	index []parquetIndex
}

// parquetIndex says where the images of a row group lie.
type parquetIndex struct {
	once  sync.Once
	err   error
	blobs []parquetBlob
	spans []parquetSpan
}

// parquetSpan is an image: length bytes at off in a decompressed blob. Off is 0
// where there is no image, a value has its length in front.
type parquetSpan struct{ blob, off, length uint32 }

// parquetSet is a source of the rows of Parquet files. Open reads footers and
// labels. The first image of a row group reads its column once, a page and its
// compressed form in memory at a time, and keeps 12 bytes an image and 16 for
// each 64 KiB; from then on an image costs a read of its bytes and up to 128 KiB
// around them where the page is compressed with Snappy or not at all. Pages of
// other codecs are decompressed whole and kept as far as the limit allows.
type parquetSet struct {
	shards []*parquetShard
	// The rows of group[k] are samples first[k] ...
	first     []int
	group     []groupRef
	n         int
	maxPixels int64
	buffers   sync.Pool
	cache     blobCache
}

func openParquet(root string, files []string, opt Options) (_ *Set, err error) {
	plan, skipped, err := planShards(files)
	if err != nil {
		return nil, err
	}
	src := &parquetSet{maxPixels: opt.MaxPixels}
	src.cache.limit = opt.MaxBytes
	defer func() {
		if err != nil {
			src.close()
		}
	}()
	var column string
	var names []string
	var labels labelList
	var parts []Part
	read := func(files []string, part Part) (useful bool, err error) {
		mark := labels.len()
		shards := len(src.shards)
		for _, name := range files {
			full := filepath.Join(root, filepath.FromSlash(name))
			sh, err := openParquetShard(full, name, opt.LabelColumn)
			if err != nil {
				return false, failure("read", full, err)
			}
			src.shards = append(src.shards, sh)
			if column == "" {
				column = sh.label.path
				names = sh.featureNames(column)
			} else if sh.label.path != column {
				return false, failure("read", full, fault(ErrFormat, "labels in column %s, in the files before it in %s", sh.label.path, column))
			} else if own := sh.featureNames(column); !slices.Equal(own, names) {
				return false, failure("read", full, fault(ErrLabel, "label names are not those of the files before it"))
			}
			for g, group := range sh.groups {
				if group.rows == 0 {
					continue
				}
				if err := sh.readLabels(g, &labels); err != nil {
					return false, failure("read", full, fmt.Errorf("column %s, row group %d: %w", sh.label.path, g, err))
				}
			}
		}
		if part == PartTest && labels.unlabelled(mark) {
			// A test part whose labels are kept secret.
			labels.cut(mark)
			for _, sh := range src.shards[shards:] {
				sh.closer.Close()
			}
			src.shards = src.shards[:shards]
			return false, nil
		}
		for range labels.len() - mark {
			parts = append(parts, part)
		}
		return true, nil
	}
	for _, p := range plan {
		for k, choice := range p.choices {
			useful, err := read(choice.files, p.part)
			if err != nil {
				return nil, err
			}
			if useful {
				skipped = append(skipped, p.others(k)...)
				break
			}
			skipped = append(skipped, skipAll(choice.files, "not used: its samples have no labels")...)
		}
	}
	for k, sh := range src.shards {
		row := 0
		for g, group := range sh.groups {
			if group.rows > 0 {
				src.first = append(src.first, src.n)
				src.group = append(src.group, groupRef{int32(k), int32(g), row})
				src.n += int(group.rows)
				row += int(group.rows)
			}
		}
		sh.index = make([]parquetIndex, len(sh.groups))
		sh.footer, sh.huggingface = nil, nil
	}
	if src.n == 0 {
		if len(skipped) > 0 {
			return nil, fault(ErrEmpty, "no rows with labels: %s", SkippedText(skipped))
		}
		return nil, fault(ErrEmpty, "no rows in %s", strings.Join(files[:min(len(files), 3)], ", "))
	}
	s := &Set{format: parquetName, src: src, skipped: skipped}
	if slices.Contains(parts, PartTrain) && slices.Contains(parts, PartTest) {
		s.part = parts
	}
	if s.label, s.labels, err = labels.resolve(names, opt, src.id); err != nil {
		return nil, err
	}
	return s, nil
}

// openParquetShard opens a file and finds its two columns, that of labels by its
// name where one is given.
func openParquetShard(full, name, label string) (_ *parquetShard, err error) {
	f, err := openParquetFile(full, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.closer.Close()
		}
	}()
	sh := &parquetShard{parquetFile: f}
	if err := sh.findColumns(label); err != nil {
		return nil, err
	}
	sh.groups, err = f.groups(sh.image, sh.label)
	return sh, err
}

func (sh *parquetShard) findColumns(chosen string) error {
	find := func(path string) *parquetColumn {
		for i, c := range sh.columns {
			if strings.EqualFold(c.path, path) && !c.repeated {
				return &sh.columns[i]
			}
		}
		return nil
	}
	var image *parquetColumn
	for _, name := range imageColumns() {
		for _, path := range []string{name + ".bytes", name} {
			if c := find(path); image == nil && c != nil && c.kind == parquetByteArray {
				image = c
			}
		}
	}
	if image == nil {
		// An image feature of any other name, when it is the only one.
		for i, c := range sh.columns {
			base, ok := strings.CutSuffix(c.path, ".bytes")
			if !ok || c.kind != parquetByteArray || c.repeated || find(base+".path") == nil {
				continue
			}
			if image != nil {
				return fault(ErrFormat, "columns %s and %s both look like images, none is called image", image.path, c.path)
			}
			image = &sh.columns[i]
		}
	}
	if image == nil {
		return fault(ErrFormat, "no column of images; expected image or img (a struct of bytes and path, or binary), found %s", sh.columnNames())
	}
	var label *parquetColumn
	names := labelColumns()
	if chosen != "" {
		names = []string{chosen}
	}
	for _, name := range names {
		if label = find(name); label != nil {
			break
		}
		for _, c := range sh.columns {
			if c.repeated && strings.HasPrefix(strings.ToLower(c.path)+".", strings.ToLower(name)+".") {
				return fault(ErrFormat, "column %s holds lists; one label an image is needed", name)
			}
		}
	}
	if label == nil && chosen != "" {
		return fault(ErrFormat, "no labels %q: the columns are %s", chosen, sh.columnNames())
	}
	if label == nil {
		return fault(ErrFormat, "no column of labels; expected label, fine_label or labels, found %s", sh.columnNames())
	}
	switch {
	case label.index == image.index:
		return fault(ErrFormat, "no labels %q: that column holds the images", chosen)
	case label.kind != parquetInt32 && label.kind != parquetInt64 && label.kind != parquetByteArray:
		return fault(ErrFormat, "column %s is neither integer nor text", label.path)
	}
	sh.image, sh.label = *image, *label
	return nil
}

func (sh *parquetShard) columnNames() string {
	var names []string
	for _, c := range sh.columns[:min(len(sh.columns), 12)] {
		names = append(names, c.path)
	}
	if len(names) < len(sh.columns) {
		names = append(names, "...")
	}
	return strings.Join(names, ", ")
}

// ownValues tells whether the values of a data page lie in it, encoded in a way
// that suits a column of that kind.
func (p *parquetPageData) ownValues(kind int32) bool {
	switch p.encoding {
	case encodingPlain:
		return true
	case encodingDeltaPacked:
		return kind == parquetInt32 || kind == parquetInt64
	case encodingDeltaLengths, encodingDeltaArrays:
		return kind == parquetByteArray
	}
	return false
}

// integers decodes the n integers of a page, or of a dictionary, at off.
func (p *parquetPageData) integers(kind int32, off, n int, emit func(v int64) error) error {
	width := 8
	if kind == parquetInt32 {
		width = 4
	}
	if p.kind != pageDictionary && p.encoding == encodingDeltaPacked {
		if n == 0 {
			return nil
		}
		_, err := deltaPacked(p.body[off:], n, func(v int64) error {
			if width == 4 {
				v = int64(int32(v))
			}
			return emit(v)
		})
		return err
	}
	if n > (len(p.body)-off)/width {
		return fault(ErrFormat, "%d labels in %d bytes", n, len(p.body)-off)
	}
	for k := range n {
		v := int64(0)
		if width == 4 {
			v = int64(int32(binary.LittleEndian.Uint32(p.body[off+4*k:])))
		} else {
			v = int64(binary.LittleEndian.Uint64(p.body[off+8*k:]))
		}
		if err := emit(v); err != nil {
			return err
		}
	}
	return nil
}

// byteArrays finds the n byte arrays of a page, or of a dictionary, at off.
// Where they do not lie there in one piece the page is rewritten as one of plain
// values, and positions are in that: in body in any case.
func (p *parquetPageData) byteArrays(off, n int, value func(body []byte, off, length int) error) (rewritten bool, err error) {
	body := p.body
	find := byteArrays
	if p.kind != pageDictionary {
		switch p.encoding {
		case encodingDeltaLengths:
			find = deltaLengths
		case encodingDeltaArrays:
			rewritten = true
			if body, err = expandDelta(body[off:], n, parquetPage); err != nil {
				return rewritten, err
			}
			off = 0
		}
	}
	return rewritten, find(body, off, n, func(off, length int) error { return value(body, off, length) })
}

// byteArrays finds the values of a page of byte arrays: each has its length in
// front as a little-endian uint32.
func byteArrays(body []byte, off, n int, value func(off, length int) error) error {
	for k := range n {
		if len(body)-off < 4 {
			return fault(ErrFormat, "value %d of %d is cut off", k, n)
		}
		length := int64(binary.LittleEndian.Uint32(body[off:]))
		off += 4
		if length > int64(len(body)-off) {
			return fault(ErrFormat, "value %d of %d bytes, %d are left of the page", k, length, len(body)-off)
		}
		if err := value(off, int(length)); err != nil {
			return err
		}
		off += int(length)
	}
	return nil
}

// walk is what to do on the way through a column chunk.
type walk struct {
	// dictionary is called with the dictionary page, values with a data page
	// whose n values, at off in its body, are its own.
	dictionary func(p parquetPageData) error
	values     func(p parquetPageData, off, n int) error
	// row is called for the next rows of the chunk, after the page that they
	// are in, with the number of a value of the page's own or of the dictionary,
	// -1 for null. times is above 1 for null only.
	row func(own bool, value, times int) error
}

func (f *parquetFile) walk(c parquetChunk, col parquetColumn, rows int64, seekable bool, buf *parquetBuffers, w walk) error {
	left := rows
	err := f.pages(c, seekable, buf, func(p parquetPageData) error {
		switch p.kind {
		case pageDictionary:
			if p.encoding != encodingPlain && p.encoding != encodingPlainDictionary {
				return fault(ErrFormat, "dictionary encoded as %s; only PLAIN is read", encodingName(p.encoding))
			}
			return w.dictionary(p)
		case pageData, pageDataV2:
		default:
			return fault(ErrFormat, "page of unknown kind %d", p.kind)
		}
		if int64(p.values) > left {
			return fault(ErrFormat, "%d values, %d rows are left of the group", p.values, left)
		}
		left -= int64(p.values)
		type run struct {
			there bool
			times int
		}
		var runs []run
		there := 0
		off, err := p.split(col, func(yes bool, times int) {
			if k := len(runs); k > 0 && runs[k-1].there == yes {
				runs[k-1].times += times
			} else {
				runs = append(runs, run{yes, times})
			}
			if yes {
				there += times
			}
		})
		if err != nil {
			return err
		}
		k := 0
		// fill emits the nulls before the next value and counts the value.
		fill := func() error {
			for k < len(runs) && (!runs[k].there || runs[k].times == 0) {
				if !runs[k].there {
					if err := w.row(false, -1, runs[k].times); err != nil {
						return err
					}
				}
				k++
			}
			if k < len(runs) {
				runs[k].times--
			}
			return nil
		}
		switch {
		case p.ownValues(col.kind):
			if err := w.values(p, off, there); err != nil {
				return err
			}
			for v := range there {
				if err := fill(); err != nil {
					return err
				}
				if err := w.row(true, v, 1); err != nil {
					return err
				}
			}
		case p.encoding == encodingPlainDictionary, p.encoding == encodingRLEDictionary:
			if there > 0 {
				if off >= len(p.body) {
					return fault(ErrFormat, "numbers of the dictionary are cut off")
				}
				err := hybrid(p.body[off+1:], int(p.body[off]), there, func(v uint32, times int) error {
					for range times {
						if err := fill(); err != nil {
							return err
						}
						if err := w.row(false, int(v), 1); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
		default:
			return fault(ErrFormat, "values encoded as %s; PLAIN, dictionaries and differences that suit the column's type are read, write the file with them", encodingName(p.encoding))
		}
		return fill() // nulls at the end
	})
	if err == nil && left != 0 {
		err = fault(ErrFormat, "%d rows fewer than the %d of the group", left, rows)
	}
	return err
}

// readLabels appends the labels of a row group.
func (sh *parquetShard) readLabels(g int, out *labelList) error {
	c, rows := sh.groups[g].chunks[1], sh.groups[g].rows
	type value struct {
		number int64
		text   string
	}
	var dictionary, own []value
	decode := func(p parquetPageData, off, n int) (vs []value, err error) {
		if sh.label.kind == parquetByteArray {
			_, err = p.byteArrays(off, n, func(body []byte, off, length int) error {
				if length > maxLabelText {
					return fault(ErrLabel, "label of %d bytes, at most %d are allowed", length, maxLabelText)
				}
				vs = append(vs, value{text: string(body[off : off+length])})
				return nil
			})
			return vs, err
		}
		err = p.integers(sh.label.kind, off, n, func(v int64) error {
			vs = append(vs, value{number: v})
			return nil
		})
		return vs, err
	}
	return sh.walk(c, sh.label, rows, false, &parquetBuffers{}, walk{
		dictionary: func(p parquetPageData) (err error) {
			dictionary, err = decode(p, 0, int(p.values))
			return err
		},
		values: func(p parquetPageData, off, n int) (err error) {
			own, err = decode(p, off, n)
			return err
		},
		row: func(isOwn bool, v, times int) error {
			if v < 0 {
				for range times {
					out.none()
				}
				return nil
			}
			from := dictionary
			if isOwn {
				from = own
			}
			if v >= len(from) {
				return fault(ErrFormat, "value %d of a dictionary of %d", v, len(from))
			}
			if sh.label.kind == parquetByteArray {
				return out.text(from[v].text)
			}
			return out.number(from[v].number)
		},
	})
}

// locate indexes the images of a row group: it reads the column once, page by
// page, and notes where each image lies and where decompressing can begin.
func (sh *parquetShard) locate(g int, pool *sync.Pool) *parquetIndex {
	x := &sh.index[g]
	x.once.Do(func() {
		c, rows := sh.groups[g].chunks[0], sh.groups[g].rows
		var dictionary, own []parquetSpan
		decode := func(p parquetPageData, off, n int) ([]parquetSpan, error) {
			number := uint32(len(x.blobs))
			var spans []parquetSpan
			rewritten, err := p.byteArrays(off, n, func(_ []byte, off, length int) error {
				spans = append(spans, parquetSpan{number, uint32(off), uint32(length)})
				return nil
			})
			blob := p.blob
			if rewritten {
				blob.points, blob.off, blob.values = nil, int32(off), int32(n)
			}
			x.blobs = append(x.blobs, blob)
			return spans, err
		}
		buf, _ := pool.Get().(*parquetBuffers)
		if buf == nil {
			buf = &parquetBuffers{}
		}
		defer pool.Put(buf)
		x.err = sh.walk(c, sh.image, rows, true, buf, walk{
			dictionary: func(p parquetPageData) (err error) {
				dictionary, err = decode(p, 0, int(p.values))
				return err
			},
			values: func(p parquetPageData, off, n int) (err error) {
				own, err = decode(p, off, n)
				return err
			},
			row: func(isOwn bool, v, times int) error {
				if v < 0 {
					x.spans = append(x.spans, make([]parquetSpan, times)...)
					return nil
				}
				from := dictionary
				if isOwn {
					from = own
				}
				if v >= len(from) {
					return fault(ErrFormat, "value %d of a dictionary of %d", v, len(from))
				}
				x.spans = append(x.spans, from[v])
				return nil
			},
		})
		if x.err != nil {
			x.err = fmt.Errorf("column %s, row group %d: %w", sh.image.path, g, x.err)
			x.blobs, x.spans = nil, nil
		}
	})
	return x
}

func (s *parquetSet) len() int      { return s.n }
func (s *parquetSet) lenient() bool { return true }

// groupRef says where a row group is: its file, its number there and the number
// of its first row.
type groupRef struct {
	shard, group int32
	row          int
}

// find returns the row group of sample i and its row in it.
func (s *parquetSet) find(i int) (g groupRef, row int) {
	if i < 0 || i >= s.n {
		panic(fmt.Sprintf("dataset: sample %d of %d", i, s.n))
	}
	k, ok := slices.BinarySearch(s.first, i)
	if !ok {
		k--
	}
	return s.group[k], i - s.first[k]
}

func (s *parquetSet) id(i int) string {
	g, row := s.find(i)
	return fmt.Sprintf("%s#%d", s.shards[g.shard].name, g.row+row)
}

func (s *parquetSet) span(i int) (*parquetShard, *parquetIndex, parquetSpan, error) {
	g, row := s.find(i)
	sh := s.shards[g.shard]
	x := sh.locate(int(g.group), &s.buffers)
	if x.err != nil {
		return nil, nil, parquetSpan{}, x.err
	}
	return sh, x, x.spans[row], nil
}

func (s *parquetSet) size(i int) (int64, error) {
	_, _, span, err := s.span(i)
	return int64(span.length), err
}

// bytes returns an image file; it is valid until w is used again.
func (s *parquetSet) bytes(i int, w *scratch) ([]byte, error) {
	sh, x, span, err := s.span(i)
	if err != nil {
		return nil, err
	}
	if span.off == 0 {
		return nil, fault(ErrFormat, "no image in its row, column %s is null", sh.image.path)
	}
	if span.length == 0 {
		return nil, noImage(nil)
	}
	b := &x.blobs[span.blob]
	a, z := int(span.off), int(span.off)+int(span.length)
	switch {
	case b.values > 0:
		// Written out anew, whatever the codec.
	case b.codec == codecNone:
		out := w.bytes(int(span.length))
		return out, readFull(sh.file, out, b.at+int64(a))
	case b.codec == codecSnappy:
		p, in, end := snappyRange(b.points, a, z)
		if end == 0 {
			end = int(b.packed)
		}
		w.packed = grow(w.packed, end-in)
		if err := readFull(sh.file, w.packed, b.at+int64(in)); err != nil {
			return nil, err
		}
		want := z - int(p.out)
		w.buf, err = unsnap(w.bytes(want)[:0], w.packed, int(p.lit), want, nil, nil)
		if err != nil {
			return nil, err
		}
		return w.buf[a-int(p.out):], nil
	}
	body, err := s.cache.get(b, func() ([]byte, error) {
		w.packed = grow(w.packed, int(b.packed))
		if err := readFull(sh.file, w.packed, b.at); err != nil {
			return nil, err
		}
		if b.values > 0 {
			body, _, err := unpack(w.packed, *b, false, &parquetBuffers{})
			if err != nil {
				return nil, err
			}
			return expandDelta(body[b.off:], int(b.values), parquetPage)
		}
		return inflatePage(w.packed, *b, nil)
	})
	if err != nil {
		return nil, err
	}
	return body[a:z], nil
}

func (s *parquetSet) decode(i int, w *scratch) error {
	data, err := s.bytes(i, w)
	if err != nil {
		return err
	}
	return decodeImage(bytes.NewReader(data), w, s.maxPixels)
}

func (s *parquetSet) content(i int, w *scratch) (io.ReadCloser, error) {
	data, err := s.bytes(i, w)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (s *parquetSet) close() error {
	var errs []error
	for _, sh := range s.shards {
		errs = append(errs, sh.closer.Close())
	}
	return errors.Join(errs...)
}

// blobCache keeps the decompressed pages used last of codecs without seek
// points. The zero value with a limit is ready; one blob may pass the limit.
type blobCache struct {
	limit int64

	mu   sync.Mutex
	held int64
	tick uint64
	kept map[*parquetBlob]*keptBlob
}

type keptBlob struct {
	// mu is held while body is loaded: who else needs it waits for it.
	mu   sync.Mutex
	body []byte
	// used and size are guarded by the cache; size is 0 until body is there.
	used uint64
	size int64
}

// get returns what load returned for b; it must not be changed.
func (c *blobCache) get(b *parquetBlob, load func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	k := c.kept[b]
	if k == nil {
		if c.kept == nil {
			c.kept = map[*parquetBlob]*keptBlob{}
		}
		k = &keptBlob{}
		c.kept[b] = k
	}
	c.tick++
	k.used = c.tick
	c.mu.Unlock()

	k.mu.Lock()
	defer k.mu.Unlock()
	if k.body != nil {
		return k.body, nil
	}
	body, err := load()
	if err != nil {
		return nil, err
	}
	k.body = body
	c.mu.Lock()
	defer c.mu.Unlock()
	k.size = int64(len(body))
	c.held += k.size
	for c.held > c.limit {
		var oldest *parquetBlob
		for b, other := range c.kept {
			if other != k && other.size > 0 && (oldest == nil || other.used < c.kept[oldest].used) {
				oldest = b
			}
		}
		if oldest == nil {
			break
		}
		c.held -= c.kept[oldest].size
		delete(c.kept, oldest)
	}
	return body, nil
}
