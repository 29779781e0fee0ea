package dataset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
)

// hfImage is an image feature as the datasets library stores it.
type hfImage struct {
	Bytes []byte `parquet:"bytes,optional,plain"`
	Path  string `parquet:"path,optional,plain"`
}

type hfRow struct {
	Image *hfImage `parquet:"image,optional"`
	Label int64    `parquet:"label,plain"`
}

// hfMetadata is what the datasets library puts under the key huggingface.
func hfMetadata(column string, names ...string) string {
	return fmt.Sprintf(`{"info": {"features": {"image": {"_type": "Image"}, %q: {"names": ["%s"], "_type": "ClassLabel"}}}}`,
		column, strings.Join(names, `", "`))
}

func parquetBytes[T any](t testing.TB, rows []T, opt ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, opt...)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tiny is a PNG whose first pixel tells n.
func tiny(t testing.TB, n int) []byte {
	m := noise(8, 8, uint64(n))
	m.Pix[0], m.Pix[1], m.Pix[2] = byte(n), byte(n>>8), 77
	return pngBytes(t, m)
}

func hfRows(t testing.TB, n int) []hfRow {
	rows := make([]hfRow, n)
	for i := range rows {
		rows[i] = hfRow{&hfImage{Bytes: tiny(t, i)}, int64(i % 3)}
	}
	return rows
}

// checkTiny decodes every sample of s and compares it with number(i).
func checkTiny(t *testing.T, s *Set, number func(i int) int) {
	t.Helper()
	for i := range s.Len() {
		m, err := s.Decode(i)
		if err != nil {
			t.Fatal(err)
		}
		if n := number(i); int(m.Pix[0]) != n%256 || int(m.Pix[64]) != n/256 || m.Pix[128] != 77 {
			t.Fatalf("%s: pixel %d %d %d, want that of image %d", s.ID(i), m.Pix[0], m.Pix[64], m.Pix[128], n)
		}
	}
}

func TestOpenParquet(t *testing.T) {
	rows := hfRows(t, 100)
	meta := parquet.KeyValueMetadata("huggingface", hfMetadata("label", "cat", "dog", "emu", "fox"))
	for _, codec := range []compress.Codec{&parquet.Uncompressed, &parquet.Snappy, &parquet.Gzip, &parquet.Zstd} {
		for _, version := range []int{1, 2} {
			for _, group := range []int64{40, 1000} {
				t.Run(fmt.Sprintf("%v v%d groups of %d", codec, version, group), func(t *testing.T) {
					dir := t.TempDir()
					file := put(t, dir, "data/train-00000-of-00001.parquet", parquetBytes(t, rows, meta, parquet.Compression(codec),
						parquet.DataPageVersion(version), parquet.MaxRowsPerRowGroup(group), parquet.PageBufferSize(4096)))
					for _, path := range []string{dir, file} {
						s := mustOpen(t, path, Options{})
						if s.Format() != "Parquet" || s.Len() != 100 || !slices.Equal(s.Labels(), []string{"cat", "dog", "emu", "fox"}) {
							t.Fatalf("%s, %d samples, %q", s.Format(), s.Len(), s.Labels())
						}
						checkTiny(t, s, func(i int) int { return i })
						for i := range s.Len() {
							if s.Label(i) != i%3 || s.Part(i) != PartNone {
								t.Fatalf("sample %d: label %d, %v", i, s.Label(i), s.Part(i))
							}
						}
						if got := strings.TrimPrefix(s.ID(99), "data/"); got != "train-00000-of-00001.parquet#99" {
							t.Errorf("name %s", got)
						}
					}
				})
			}
		}
	}
}

func TestParquetColumns(t *testing.T) {
	type binaryImage struct {
		Img    []byte `parquet:"img,dict"`
		Coarse int32  `parquet:"coarse_label,dict"`
		Fine   int32  `parquet:"fine_label,dict"`
	}
	type text struct {
		Picture hfImage `parquet:"photo"`
		Label   string  `parquet:"label,dict"`
	}
	img := func(n int) []byte { return tiny(t, n) }
	dir := t.TempDir()
	put(t, dir, "a/x.parquet", parquetBytes(t, []binaryImage{{img(0), 1, 2}, {img(1), 0, 0}, {img(0), 0, 2}}))
	s := mustOpen(t, dir+"/a", Options{})
	if !slices.Equal(s.label, []int32{2, 0, 2}) || !slices.Equal(s.Labels(), []string{"0", "1", "2"}) {
		t.Errorf("labels %v %q", s.label, s.Labels())
	}
	checkTiny(t, s, func(i int) int { return i % 2 })
	n, err := s.Leaks(Split{Index: []int{0, 1}}, Split{Index: []int{2}})
	if err != nil || n != 1 {
		t.Errorf("%d leaks, %v; want 1", n, err)
	}
	put(t, dir, "b/x.parquet", parquetBytes(t, []text{{hfImage{Bytes: img(0)}, "dog"}, {hfImage{Bytes: img(1)}, "cat"}}))
	s = mustOpen(t, dir+"/b", Options{})
	if !slices.Equal(s.label, []int32{1, 0}) || !slices.Equal(s.Labels(), []string{"cat", "dog"}) {
		t.Errorf("labels %v %q", s.label, s.Labels())
	}
	s = mustOpen(t, dir+"/b", Options{Labels: []string{"dog", "emu", "cat"}})
	if !slices.Equal(s.label, []int32{0, 2}) {
		t.Errorf("labels %v", s.label)
	}
	// ClassLabel names are found among classes.
	put(t, dir, "c/x.parquet", parquetBytes(t, hfRows(t, 3), parquet.KeyValueMetadata("huggingface", hfMetadata("label", "cat", "dog, hound", "emu"))))
	s = mustOpen(t, dir+"/c", Options{Classes: []Class{{Name: "Dog"}, {Name: "emu"}, {Name: "cat"}}})
	if !slices.Equal(s.label, []int32{2, 0, 1}) {
		t.Errorf("labels %v", s.label)
	}
}

func TestParquetNull(t *testing.T) {
	rows := hfRows(t, 20)
	rows[3].Image, rows[4].Image = nil, &hfImage{Path: "x.png"}
	dir := t.TempDir()
	s := mustOpen(t, put(t, dir, "x.parquet", parquetBytes(t, rows)), Options{})
	for i := range s.Len() {
		_, err := s.Decode(i)
		if (i == 3 || i == 4) != (err != nil) || err != nil && !strings.Contains(err.Error(), "column image.bytes is null") {
			t.Errorf("sample %d: %v", i, err)
		}
	}
}

func TestParquetParts(t *testing.T) {
	good, none := hfRows(t, 4), hfRows(t, 3)
	for i := range none {
		none[i].Label = -1
	}
	for _, test := range []struct {
		name    string
		files   map[string][]hfRow
		ids     []string
		parts   []Part
		skipped string
	}{
		{"shards", map[string][]hfRow{"data/train-00001-of-00002.parquet": good[:1], "data/train-00000-of-00002.parquet": good[:2], "data/test-0.parquet": good[:1]},
			[]string{"data/train-00000-of-00002.parquet#0", "data/train-00000-of-00002.parquet#1", "data/train-00001-of-00002.parquet#0", "data/test-0.parquet#0"},
			[]Part{PartTrain, PartTrain, PartTrain, PartTest}, ""},
		{"plain names", map[string][]hfRow{"train.parquet": good[:1], "validation.parquet": good[:1]},
			[]string{"train.parquet#0", "validation.parquet#0"}, []Part{PartTrain, PartTest}, ""},
		{"folders", map[string][]hfRow{"default/train/0000.parquet": good[:1], "default/test/0000.parquet": good[:1]},
			[]string{"default/train/0000.parquet#0", "default/test/0000.parquet#0"}, []Part{PartTrain, PartTest}, ""},
		{"three", map[string][]hfRow{"train.parquet": good[:1], "validation.parquet": good[:1], "test.parquet": good[:1], "extra.parquet": good[:1]},
			[]string{"train.parquet#0", "test.parquet#0"}, []Part{PartTrain, PartTest},
			"extra.parquet (not used: its name names no part, others are called train or test), validation.parquet (not used: test is taken as the test part)"},
		{"secret labels", map[string][]hfRow{"train.parquet": good[:1], "validation.parquet": good[:1], "test.parquet": none},
			[]string{"train.parquet#0", "validation.parquet#0"}, []Part{PartTrain, PartTest}, "test.parquet (not used: its samples have no labels)"},
		{"no parts", map[string][]hfRow{"0001.parquet": good[:1], "0000.parquet": good[:1]},
			[]string{"0000.parquet#0", "0001.parquet#0"}, []Part{PartNone, PartNone}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, "assets/logo.png", tiny(t, 0))
			if test.name == "no parts" || test.name == "folders" {
				if err := os.RemoveAll(filepath.Join(dir, "assets")); err != nil {
					t.Fatal(err)
				}
			}
			for name, rows := range test.files {
				put(t, dir, name, parquetBytes(t, rows))
			}
			s := mustOpen(t, dir, Options{})
			var parts []Part
			for i := range s.Len() {
				parts = append(parts, s.Part(i))
			}
			if !slices.Equal(ids(s), test.ids) || !slices.Equal(parts, test.parts) || SkippedText(s.Skipped()) != test.skipped {
				t.Errorf("samples %q parts %v skipped %s", ids(s), parts, SkippedText(s.Skipped()))
			}
		})
	}
}

func TestParquetErrors(t *testing.T) {
	type noImage struct {
		Text  string `parquet:"text"`
		Label int64  `parquet:"label"`
	}
	type noLabel struct {
		Image []byte `parquet:"image"`
		Text  string `parquet:"caption"`
	}
	type lists struct {
		Image  []byte  `parquet:"image"`
		Labels []int64 `parquet:"labels"`
	}
	type floats struct {
		Image []byte  `parquet:"image"`
		Label float64 `parquet:"label"`
	}
	type split struct {
		Image []byte `parquet:"image,plain"`
		Label int64  `parquet:"label,split"`
	}
	good := parquetBytes(t, hfRows(t, 2))
	negative := hfRows(t, 2)
	negative[1].Label = -1
	footer := slices.Clone(good)
	binary.LittleEndian.PutUint32(footer[len(footer)-8:], 1<<31)
	meta := func(names ...string) parquet.WriterOption {
		return parquet.KeyValueMetadata("huggingface", hfMetadata("label", names...))
	}
	for _, test := range []struct {
		name  string
		files map[string][]byte
		is    error
		text  string
	}{
		{"no image", map[string][]byte{"a.parquet": parquetBytes(t, []noImage{{"x", 1}})}, ErrFormat, "found text, label"},
		{"no label", map[string][]byte{"a.parquet": parquetBytes(t, []noLabel{{nil, "x"}})}, ErrFormat, "expected label, fine_label or labels, found image, caption"},
		{"lists", map[string][]byte{"a.parquet": parquetBytes(t, []lists{{nil, []int64{1}}})}, ErrFormat, "column labels holds lists"},
		{"floats", map[string][]byte{"a.parquet": parquetBytes(t, []floats{{nil, 1}})}, ErrFormat, "neither integer nor text"},
		{"split", map[string][]byte{"a.parquet": parquetBytes(t, []split{{nil, 1}})}, ErrFormat, "encoded as BYTE_STREAM_SPLIT"},
		{"brotli", map[string][]byte{"a.parquet": parquetBytes(t, hfRows(t, 1), parquet.Compression(&parquet.Brotli))}, ErrFormat, "compressed with Brotli"},
		{"empty", map[string][]byte{"a.parquet": parquetBytes(t, []hfRow{})}, ErrEmpty, "no rows in a.parquet"},
		{"cut off", map[string][]byte{"a.parquet": good[:len(good)-20]}, ErrFormat, "cut off"},
		{"other file", map[string][]byte{"a.parquet": bytes.Repeat([]byte("x"), 100)}, ErrFormat, "not a Parquet file"},
		{"footer", map[string][]byte{"a.parquet": footer}, ErrFormat, "footer of 2147483648 bytes"},
		{"label missing", map[string][]byte{"a.parquet": parquetBytes(t, negative)}, ErrLabel, "a.parquet#1 has no label"},
		{"names", map[string][]byte{"a.parquet": parquetBytes(t, hfRows(t, 3), meta("a", "b"))}, ErrLabel, "a.parquet#2 has label 2, but there are 2"},
		{"names differ", map[string][]byte{"a.parquet": parquetBytes(t, hfRows(t, 1), meta("a")), "b.parquet": parquetBytes(t, hfRows(t, 1), meta("b"))}, ErrLabel, "not those of the files before"},
		{"two sets", map[string][]byte{"x/a.parquet": good, "y/a.parquet": good}, ErrFormat, "more than one data set in it (x, y)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range test.files {
				put(t, dir, name, data)
			}
			checkError(t, dir, Options{}, test.is, test.text)
		})
	}
}

// checkError opens path and expects an *Error of a kind with a text.
func checkError(t *testing.T, path string, opt Options, is error, text string) {
	t.Helper()
	s, err := Open(path, opt)
	if err == nil {
		s.Close()
		t.Fatal("no error")
	}
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, is) {
		t.Errorf("%#v is no *Error of kind %v", err, is)
	}
	if msg := err.Error(); !strings.Contains(msg, text) || strings.Contains(msg, "\n") || strings.Count(msg, path) != 1 {
		t.Errorf("message %q; want one line with %q and the path once", msg, text)
	}
}

// TestParquetDamage changes bytes all over a file: errors, no panic.
func TestParquetDamage(t *testing.T) {
	good := parquetBytes(t, hfRows(t, 9), parquet.MaxRowsPerRowGroup(4), parquet.Compression(&parquet.Snappy))
	dir := t.TempDir()
	errs := 0
	for i := 0; i < len(good); i += 29 {
		bad := slices.Clone(good)
		bad[i] ^= 0x55
		s, err := Open(put(t, dir, "x.parquet", bad), Options{})
		if err != nil {
			errs++
			continue
		}
		for i := range s.Len() {
			if _, err := s.Decode(i); err != nil {
				errs++
			}
		}
		s.Close()
	}
	if errs == 0 {
		t.Error("nothing was noticed")
	}
}

func TestHybrid(t *testing.T) {
	// 8 numbers of 3 bits, 0 to 7, as the format's description has them, then
	// five times 4.
	data := []byte{0x03, 0x88, 0xc6, 0xfa, 0x0a, 0x04}
	for n, want := range map[int][]uint32{13: {0, 1, 2, 3, 4, 5, 6, 7, 4, 4, 4, 4, 4}, 5: {0, 1, 2, 3, 4}, 9: {0, 1, 2, 3, 4, 5, 6, 7, 4}} {
		var got []uint32
		err := hybrid(data, 3, n, func(v uint32, times int) error {
			for range times {
				got = append(got, v)
			}
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d numbers: %v, %v, want %v", n, got, err, want)
		}
	}
	for _, bad := range []struct {
		data  []byte
		width int
	}{{data, 33}, {data[:3], 3}, {nil, 1}, {[]byte{0}, 1}, {[]byte{0, 1, 2}, 1}, {[]byte{1, 2}, 1}, {[]byte{4}, 8}} {
		if err := hybrid(bad.data, bad.width, 13, func(uint32, int) error { return nil }); err == nil {
			t.Errorf("%v of %d bits: no error", bad.data, bad.width)
		}
	}
}

func TestBlobCache(t *testing.T) {
	c := blobCache{limit: 25}
	blobs := make([]parquetBlob, 4)
	loads := 0
	get := func(k, size int) {
		t.Helper()
		body, err := c.get(&blobs[k], func() ([]byte, error) { loads++; return make([]byte, size), nil })
		if err != nil || len(body) != size {
			t.Fatal(err)
		}
	}
	get(0, 10)
	get(1, 10)
	get(0, 10)
	get(2, 10) // 1 goes
	get(0, 10)
	if loads != 3 || c.held != 20 {
		t.Errorf("%d loads, %d bytes held", loads, c.held)
	}
	get(1, 10)
	if loads != 4 || len(c.kept) != 2 {
		t.Errorf("%d loads, %d kept", loads, len(c.kept))
	}
	get(3, 30) // more than the limit, alone
	get(3, 30)
	if loads != 5 || c.held != 30 || len(c.kept) != 1 {
		t.Errorf("%d loads, %d bytes held", loads, c.held)
	}
	if _, err := c.get(&blobs[0], func() ([]byte, error) { return nil, ErrFormat }); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	get(0, 10)
	if c.held != 10 || len(c.kept) != 1 {
		t.Errorf("%d bytes held after an error", c.held)
	}
}

// TestParquetConcurrent reads one row group from many goroutines.
func TestParquetConcurrent(t *testing.T) {
	for _, codec := range []compress.Codec{&parquet.Snappy, &parquet.Zstd} {
		file := put(t, t.TempDir(), "x.parquet", parquetBytes(t, hfRows(t, 60), parquet.Compression(codec), parquet.PageBufferSize(4096)))
		s := mustOpen(t, file, Options{MaxBytes: 8000})
		index := make([]int, s.Len())
		for i := range index {
			index[i] = i
		}
		n := 0
		for b, err := range s.Batches(t.Context(), Shuffled(index, 3, 1, 1), &Transform{Channels: 3, Height: 8, Width: 8}, 8) {
			if err != nil {
				t.Fatal(err)
			}
			for k, i := range b.Index {
				if b.X[k*192] != float32(i)/255 {
					t.Errorf("%v: sample %d begins with %v", codec, i, b.X[k*192]*255)
				}
				n++
			}
		}
		if n != 60 {
			t.Errorf("%v: %d samples", codec, n)
		}
	}
}

func FuzzParquet(f *testing.F) {
	rows := hfRows(f, 6)
	rows[2].Image = nil
	for _, codec := range []compress.Codec{&parquet.Uncompressed, &parquet.Snappy, &parquet.Gzip, &parquet.Zstd} {
		f.Add(parquetBytes(f, rows, parquet.Compression(codec), parquet.MaxRowsPerRowGroup(4)))
		f.Add(parquetBytes(f, rows, parquet.Compression(codec), parquet.DataPageVersion(1)))
	}
	type dict struct {
		Image []byte `parquet:"image,optional,dict"`
		Label string `parquet:"label,optional,dict"`
	}
	deltaSeeds(f)
	f.Add(parquetBytes(f, []dict{{tiny(f, 1), "a"}, {nil, "b"}, {tiny(f, 1), ""}}, parquet.DataPageVersion(1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := readParquet(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		var w scratch
		for i := range min(s.n, 100) {
			if img, err := s.bytes(i, &w); err == nil && len(img) > snappyRatio*len(data)+16<<20 {
				t.Fatalf("image of %d bytes in a file of %d", len(img), len(data))
			}
		}
	})
}

// readParquet makes a source of one file in memory.
func readParquet(r io.ReaderAt, size int64) (*parquetSet, error) {
	f, err := newParquetFile(r, size)
	if err != nil {
		return nil, err
	}
	sh := &parquetShard{parquetFile: f}
	if err := sh.findColumns(""); err != nil {
		return nil, err
	}
	if sh.groups, err = f.groups(sh.image, sh.label); err != nil {
		return nil, err
	}
	f.featureNames(sh.label.path)
	s := &parquetSet{shards: []*parquetShard{sh}}
	var labels labelList
	for g, group := range sh.groups {
		if group.rows == 0 {
			continue
		}
		if err := sh.readLabels(g, &labels); err != nil {
			return nil, err
		}
		s.first = append(s.first, s.n)
		s.group = append(s.group, groupRef{0, int32(g), s.n})
		s.n += int(group.rows)
	}
	sh.index = make([]parquetIndex, len(sh.groups))
	if labels.len() != s.n {
		return nil, fmt.Errorf("%d labels of %d rows", labels.len(), s.n)
	}
	return s, nil
}
