package dataset

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
)

// TestParquetPyArrow reads what pyarrow wrote; testdata/delta/make.py says what
// that is.
func TestParquetPyArrow(t *testing.T) {
	files, err := filepath.Glob("testdata/delta/*.parquet")
	if err != nil || len(files) != 6 {
		t.Fatalf("files %q, %v", files, err)
	}
	for _, file := range files {
		for _, column := range []string{"", "number", "NAME"} {
			t.Run(filepath.Base(file)+" "+column, func(t *testing.T) {
				s := mustOpen(t, file, Options{LabelColumn: column})
				name := map[string]string{"": "", "number": "", "NAME": "class "}[column]
				if s.Len() != 300 {
					t.Fatalf("%d samples", s.Len())
				}
				for i := range s.Len() {
					if got, want := s.Labels()[s.Label(i)], fmt.Sprint(name, i*i%7); column == "NAME" && got != want || column != "NAME" && s.Label(i) != i*i%7 {
						t.Fatalf("sample %d: label %q, want %q", i, got, want)
					}
				}
				// Any order: pages are found without those before them.
				for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(s.Len()) {
					m, err := s.Decode(i)
					if i == 7 {
						if err == nil || !strings.Contains(err.Error(), "column image.bytes is null") {
							t.Errorf("sample 7: %v", err)
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					if m.Width != 8 || m.Height != 8 || m.Pix[0] != uint8(i%5*50) {
						t.Fatalf("sample %d: %d x %d of %d", i, m.Width, m.Height, m.Pix[0])
					}
				}
			})
		}
	}
}

// TestParquetGoDelta reads what parquet-go writes, which fills the last part of
// a block otherwise than pyarrow.
func TestParquetGoDelta(t *testing.T) {
	type row struct {
		Image []byte `parquet:"image,optional,delta"`
		Label int32  `parquet:"label,delta"`
	}
	rows := make([]row, 1000)
	for i := range rows {
		rows[i] = row{tiny(t, i), int32(i * 31 % 997)}
	}
	for _, codec := range []compress.Codec{&parquet.Uncompressed, &parquet.Snappy, &parquet.Gzip} {
		for _, version := range []int{1, 2} {
			file := put(t, t.TempDir(), "x.parquet", parquetBytes(t, rows, parquet.Compression(codec), parquet.DataPageVersion(version), parquet.PageBufferSize(20000)))
			s := mustOpen(t, file, Options{})
			checkTiny(t, s, func(i int) int { return i })
			for i := range rows {
				if s.Label(i) != i*31%997 {
					t.Fatalf("%v v%d: label %d of sample %d", codec, version, s.Label(i), i)
				}
			}
		}
	}
}

// packDeltas writes DELTA_BINARY_PACKED of blocks of 128 in four parts.
func packDeltas(values []int64) []byte {
	b := binary.AppendUvarint(nil, 128)
	b = binary.AppendUvarint(b, 4)
	b = binary.AppendUvarint(b, uint64(len(values)))
	b = binary.AppendVarint(b, append(values, 0)[0])
	for at := 1; at < len(values); at += 128 {
		deltas := make([]int64, 0, 128)
		for i := at; i < min(at+128, len(values)); i++ {
			deltas = append(deltas, values[i]-values[i-1])
		}
		least := slices.Min(deltas)
		b = binary.AppendVarint(b, least)
		var widths [4]byte
		var parts []byte
		for k := range 4 {
			var bits [32]uint64
			width := 0
			for i := range 32 {
				if 32*k+i < len(deltas) {
					bits[i] = uint64(deltas[32*k+i] - least)
					for width < 64 && bits[i]>>width != 0 {
						width++
					}
				}
			}
			widths[k] = byte(width)
			part := make([]byte, 4*width)
			for i, v := range bits {
				for j := range width {
					part[(i*width+j)/8] |= byte(v>>j&1) << ((i*width + j) % 8)
				}
			}
			parts = append(parts, part...)
		}
		b = append(append(b, widths[:]...), parts...)
	}
	return b
}

func TestDeltaPacked(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{1, 2, 32, 33, 128, 129, 130, 1000} {
		for _, span := range []int64{0, 1, 5, 1000, math.MaxInt64} {
			values := make([]int64, n)
			for i := range values {
				if span > 0 {
					values[i] = r.Int64N(span) - span/2
				}
				if span == math.MaxInt64 && i%2 == 0 {
					values[i] = math.MinInt64 // differences wrap around
				}
			}
			var got []int64
			rest, err := deltaPacked(append(packDeltas(values), 1, 2, 3), n, func(v int64) error { got = append(got, v); return nil })
			if err != nil || !slices.Equal(got, values) || !slices.Equal(rest, []byte{1, 2, 3}) {
				t.Fatalf("%d numbers of span %d: %v, rest %v, %v", n, span, got, rest, err)
			}
		}
	}
	// The example of the format's description: 7, 5, 3, 1, 2, 3, 4, 5.
	example := []byte{128, 1, 4, 8, 14, 3, 2, 0, 0, 0, 0xc0, 0x3f, 0, 0, 0, 0, 0, 0}
	var got []int64
	if rest, err := deltaPacked(example, 8, func(v int64) error { got = append(got, v); return nil }); err != nil || len(rest) != 0 || !slices.Equal(got, []int64{7, 5, 3, 1, 2, 3, 4, 5}) {
		t.Errorf("%v, rest %v, %v", got, rest, err)
	}
	good := packDeltas(make([]int64, 200))
	for _, bad := range []struct {
		b    []byte
		n    int
		text string
	}{
		{nil, 1, "cut off"},
		{good, 199, "200 numbers, 199 are expected"},
		{good[:len(good)-5], 200, "cut off"},
		{[]byte{127, 4, 1, 0}, 1, "blocks of 127"},
		{[]byte{128, 1, 0, 1, 0}, 1, "in 0 parts"},
		{[]byte{128, 1, 3, 1, 0}, 1, "in 3 parts"},
		{[]byte{128, 1, 8, 1, 0}, 1, "in 8 parts"},
		{[]byte{128, 128, 128, 128, 1, 1, 1, 0}, 1, "blocks of 268435456"},
		{[]byte{128, 1, 4, 2, 0, 0, 65, 0, 0, 0, 0}, 2, "65 bits"},
		{[]byte{128, 1, 4, 2, 0, 0, 64, 0, 0, 0, 0}, 2, "cut off"},
	} {
		if _, err := deltaPacked(bad.b, bad.n, func(int64) error { return nil }); err == nil || !strings.Contains(err.Error(), bad.text) {
			t.Errorf("%v: %v, want %q", bad.b, err, bad.text)
		}
	}
}

func TestExpandDelta(t *testing.T) {
	page := func(prefixes, suffixes []int64, tail string) []byte {
		return append(append(packDeltas(prefixes), packDeltas(suffixes)...), tail...)
	}
	body, err := expandDelta(page([]int64{0, 3, 0, 4}, []int64{3, 1, 2, 0}, "abcdxy"), 3, 100)
	if err == nil {
		t.Errorf("fewer values than there are: %q", body)
	}
	body, err = expandDelta(page([]int64{0, 3, 0, 2}, []int64{3, 1, 2, 0}, "abcdxy"), 4, 100)
	var got []string
	if err == nil {
		err = byteArrays(body, 0, 4, func(off, n int) error { got = append(got, string(body[off:off+n])); return nil })
	}
	if err != nil || !slices.Equal(got, []string{"abc", "abcd", "xy", "xy"}) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []struct {
		body []byte
		text string
	}{
		{page([]int64{1, 0}, []int64{1, 1}, "ab"), "value 0 repeats 1 bytes of 0"},
		{page([]int64{0, 2}, []int64{1, 1}, "ab"), "value 1 repeats 2 bytes of 1"},
		{page([]int64{0, 1}, []int64{1, 2}, "ab"), "value 1 of 3 bytes, 1 are left"},
		{page([]int64{0, -1}, []int64{1, 2}, "ab"), "value 1 has a length of -1"},
		{page([]int64{0, 1 << 40}, []int64{1, 2}, "ab"), "length of 1099511627776"},
	} {
		if _, err := expandDelta(bad.body, 2, 100); err == nil || !strings.Contains(err.Error(), bad.text) {
			t.Errorf("%v, want %q", err, bad.text)
		}
	}
	// Four values of four bytes with their lengths.
	repeat := page([]int64{0, 4, 4, 4}, []int64{4, 0, 0, 0}, "abcd")
	if body, err := expandDelta(repeat, 4, 32); err != nil || len(body) != 32 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if _, err := expandDelta(repeat, 4, 31); err == nil || !strings.Contains(err.Error(), "more than 31 bytes") {
		t.Errorf("%v", err)
	}
}

func FuzzDelta(f *testing.F) {
	f.Add(packDeltas([]int64{1, 2, 3}), 3)
	f.Add(append(append(packDeltas([]int64{0, 3, 0, 2}), packDeltas([]int64{3, 1, 2, 0})...), "abcdxy"...), 4)
	f.Add(packDeltas(make([]int64, 300)), 300)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 0 || n > 1<<12 || len(b) > 1<<12 {
			return
		}
		numbers := 0
		if _, err := deltaPacked(b, n, func(int64) error { numbers++; return nil }); err == nil && numbers != n {
			t.Errorf("%d numbers of %d", numbers, n)
		}
		values := 0
		if err := deltaLengths(b, 0, n, func(off, length int) error { values++; _ = b[off : off+length]; return nil }); err == nil && values != n {
			t.Errorf("%d values of %d", values, n)
		}
		if body, err := expandDelta(b, n, 1<<20); err == nil {
			if err := byteArrays(body, 0, n, func(int, int) error { return nil }); err != nil {
				t.Errorf("what was written out cannot be read: %v", err)
			}
		}
	})
}

// BenchmarkDeltaPacked decodes the labels of a million rows.
func BenchmarkDeltaPacked(b *testing.B) {
	values := make([]int64, 1_000_000)
	r := rand.New(rand.NewPCG(3, 3))
	for i := range values {
		values[i] = r.Int64N(1000)
	}
	data := packDeltas(values)
	for b.Loop() {
		if _, err := deltaPacked(data, len(values), func(int64) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// deltaSeeds adds pyarrow's files to a fuzz target.
func deltaSeeds(f *testing.F) {
	files, err := filepath.Glob("testdata/delta/*zstd.parquet")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}
