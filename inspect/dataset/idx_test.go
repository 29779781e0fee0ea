package dataset

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"slices"
	"testing"
)

func idx(kind byte, dims []int, values []byte) []byte {
	out := []byte{0, 0, kind, byte(len(dims))}
	for _, d := range dims {
		out = binary.BigEndian.AppendUint32(out, uint32(d))
	}
	return append(out, values...)
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func counting(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i)
	}
	return out
}

func TestOpenIDX(t *testing.T) {
	train := idx(idxUint8, []int{3, 2, 2}, counting(12))
	test := idx(idxUint8, []int{1, 2, 2}, []byte{9, 8, 7, 6})
	for _, name := range []string{"plain", "gzip", "both"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range map[string][]byte{
				"train-images-idx3-ubyte": train, "t10k-images-idx3-ubyte": test,
				"train-labels-idx1-ubyte": idx(idxUint8, []int{3}, []byte{2, 0, 1}),
				"t10k-labels-idx1-ubyte":  idx(idxUint8, []int{1}, []byte{2}),
			} {
				if name != "gzip" {
					put(t, dir, file, data)
				}
				if name != "plain" {
					put(t, dir, file+".gz", gzipped(t, data))
				}
			}
			put(t, dir, "labels.txt", []byte("x\ny\nz\nmore"))
			s := mustOpen(t, dir, Options{})
			if s.Format() != "IDX" || s.Len() != 4 || !slices.Equal(s.Labels(), []string{"x", "y", "z", "more"}) {
				t.Fatalf("%s, %d samples, %q", s.Format(), s.Len(), s.Labels())
			}
			if s.ID(0)[:6] != "train-" || s.ID(3)[:5] != "t10k-" {
				t.Errorf("samples %q", ids(s))
			}
			var trained, tested int
			for i := range s.Len() {
				m, err := s.Decode(i)
				if err != nil {
					t.Fatal(err)
				}
				if m.Channels != 1 || m.Height != 2 || m.Width != 2 {
					t.Errorf("image %+v", m)
				}
				switch s.Part(i) {
				case PartTrain:
					if want := []byte{2, 0, 1}[trained]; s.Label(i) != int(want) || m.Pix[3] != byte(4*trained+3) {
						t.Errorf("train %d: label %d, %v", trained, s.Label(i), m.Pix)
					}
					trained++
				case PartTest:
					if !bytes.Equal(m.Pix, []byte{9, 8, 7, 6}) || s.Label(i) != 2 {
						t.Errorf("test: label %d, %v", s.Label(i), m.Pix)
					}
					tested++
				}
			}
			if trained != 3 || tested != 1 {
				t.Errorf("%d of train, %d of test", trained, tested)
			}
		})
	}
}

func TestIDXAxes(t *testing.T) {
	planes := []uint8{0, 3, 6, 9, 12, 15 /**/, 1, 4, 7, 10, 13, 16 /**/, 2, 5, 8, 11, 14, 17}
	for _, test := range []struct {
		dims []int
		want []uint8
	}{
		{[]int{1, 2, 3, 3}, planes},
		{[]int{1, 3, 2, 3}, planes}, // the last axis wins
		{[]int{1, 3, 3, 2}, counting(18)},
		{[]int{1, 1, 3, 6}, counting(18)},
		{[]int{1, 3, 6, 1}, counting(18)},
	} {
		dir := t.TempDir()
		put(t, dir, "x-images.idx4", idx(idxUint8, test.dims, counting(18)))
		put(t, dir, "x-labels.idx1", idx(idxInt32, []int{1}, []byte{0, 0, 1, 4}))
		s := mustOpen(t, dir+"/x-images.idx4", Options{})
		m, err := s.Decode(0)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Pix, test.want) {
			t.Errorf("%v: %d channels %dx%d %v, want %v", test.dims, m.Channels, m.Width, m.Height, m.Pix, test.want)
		}
		if s.Label(0) != 260 || len(s.Labels()) != 261 || s.ID(0) != "x-images.idx4#0" {
			t.Errorf("label %d of %d, %s", s.Label(0), len(s.Labels()), s.ID(0))
		}
	}
}

func TestBlocks(t *testing.T) {
	data := counting(2*blockSize + 100)
	b := &blocks{size: int64(len(data))}
	for c := range slices.Chunk(data, blockSize) {
		b.piece = append(b.piece, c)
	}
	got := make([]byte, 300)
	if n, err := b.ReadAt(got, blockSize-150); n != 300 || err != nil || !bytes.Equal(got, data[blockSize-150:blockSize+150]) {
		t.Errorf("across a border: %d, %v", n, err)
	}
	if n, err := b.ReadAt(got, int64(len(data))-100); n != 100 || err != io.EOF || !bytes.Equal(got[:100], data[len(data)-100:]) {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

func FuzzIDX(f *testing.F) {
	images, labels := idx(idxUint8, []int{2, 2, 3}, counting(12)), idx(idxUint8, []int{2}, []byte{1, 0})
	f.Add(images, labels)
	f.Add(gzipped(f, images), gzipped(f, labels))
	f.Add(idx(idxUint8, []int{2, 2, 3, 1}, counting(12)), idx(idxInt32, []int{2}, make([]byte, 8)))
	f.Add(idx(idxUint8, []int{1 << 20, 1 << 10, 3}, nil), labels)
	f.Add(gzipped(f, idx(idxUint8, []int{1 << 10, 1 << 10, 3}, nil)), labels)
	f.Fuzz(func(t *testing.T, images, labels []byte) {
		dir := t.TempDir()
		file := put(t, dir, "images", images)
		put(t, dir, "labels", labels)
		s, err := Open(file, Options{MaxBytes: 1 << 20, MaxPixels: 1 << 16})
		if err != nil {
			return
		}
		defer s.Close()
		for i := range s.Len() {
			if l := s.Label(i); l < 0 || l >= len(s.Labels()) {
				t.Fatalf("label %d of %d", l, len(s.Labels()))
			}
			if _, err := s.Decode(i); err != nil {
				t.Fatal(err)
			}
		}
	})
}
