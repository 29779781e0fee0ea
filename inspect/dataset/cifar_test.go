package dataset

import (
	"slices"
	"testing"
)

// cifar makes a file of records; pixel p of record r is byte(r + p).
func cifar(labels ...[]byte) []byte {
	var out []byte
	for r, l := range labels {
		out = append(out, l...)
		for p := range cifarPixels {
			out = append(out, byte(r+p))
		}
	}
	return out
}

func TestOpenCIFAR(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "train.bin", cifar([]byte{1, 99}, []byte{19, 0}, []byte{3, 7}))
	put(t, dir, "test.bin", cifar([]byte{2, 50}))
	s := mustOpen(t, dir, Options{})
	if s.Format() != "CIFAR-100 binary" || s.Len() != 4 || len(s.Labels()) != 100 || s.Labels()[42] != "42" {
		t.Fatalf("%s, %d samples, labels %q", s.Format(), s.Len(), s.Labels())
	}
	for i, want := range []struct {
		id    string
		label int
		part  Part
		first byte
	}{{"train.bin#0", 99, PartTrain, 0}, {"train.bin#1", 0, PartTrain, 1}, {"train.bin#2", 7, PartTrain, 2}, {"test.bin#0", 50, PartTest, 0}} {
		m, err := s.Decode(i)
		if err != nil {
			t.Fatal(err)
		}
		if s.ID(i) != want.id || s.Label(i) != want.label || s.Part(i) != want.part {
			t.Errorf("sample %d: %s label %d part %v, want %+v", i, s.ID(i), s.Label(i), s.Part(i), want)
		}
		if m.Channels != 3 || m.Height != 32 || m.Width != 32 || m.Pix[0] != want.first || m.Pix[1024] != want.first || m.Pix[3071] != want.first+255 {
			t.Errorf("sample %d: %d channels %dx%d, first %d, last %d", i, m.Channels, m.Width, m.Height, m.Pix[0], m.Pix[3071])
		}
	}

	put(t, dir, "fine_label_names.txt", []byte("a\r\nb\r\n"))
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("label 99 with two names: no error")
	}
	// One file alone is of no part.
	s = mustOpen(t, dir+"/test.bin", Options{Labels: numbered(51)})
	if s.Part(0) != PartNone || s.ID(0) != "test.bin#0" || len(s.Labels()) != 51 {
		t.Errorf("one file: part %v, %s, %d labels", s.Part(0), s.ID(0), len(s.Labels()))
	}
}

func TestOpenCIFAR10(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"data_batch_2.bin", "data_batch_1.bin", "test_batch.bin"} {
		put(t, dir, n, cifar([]byte{n[11] % 10}))
	}
	put(t, dir, "batches.meta.txt", []byte("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n\n"))
	s := mustOpen(t, dir, Options{})
	if want := []string{"data_batch_1.bin#0", "data_batch_2.bin#0", "test_batch.bin#0"}; !slices.Equal(ids(s), want) {
		t.Errorf("samples %q, want %q", ids(s), want)
	}
	if s.Format() != "CIFAR-10 binary" || len(s.Labels()) != 10 || s.Labels()[9] != "j" {
		t.Errorf("%s, labels %q", s.Format(), s.Labels())
	}
	if s.Part(1) != PartTrain || s.Part(2) != PartTest || s.Label(0) != int('1'%10) {
		t.Errorf("parts %v %v, label %d", s.Part(1), s.Part(2), s.Label(0))
	}
}

// TestCIFARKindBySize: 3073*3074 bytes are a whole number of either record.
func TestCIFARKindBySize(t *testing.T) {
	ten, hundred := make([]byte, 0, 3073*3074), make([]byte, 0, 3073*3074)
	pixels := make([]byte, cifarPixels)
	for i := range pixels {
		pixels[i] = 200
	}
	for r := range 3074 {
		ten = append(append(ten, byte(r%10)), pixels...)
	}
	for r := range 3073 {
		hundred = append(append(hundred, byte(r%20), byte(r%100)), pixels...)
	}
	for _, test := range []struct {
		name, format string
		data         []byte
		names        string
	}{
		{"labels", "CIFAR-10 binary", ten, ""},
		{"labels", "CIFAR-100 binary", hundred, ""},
		{"names", "CIFAR-10 binary", make([]byte, len(ten)), "batches.meta.txt"},
		{"names", "CIFAR-100 binary", make([]byte, len(ten)), "fine_label_names.txt"},
	} {
		dir := t.TempDir()
		put(t, dir, "train.bin", test.data)
		if test.names != "" {
			put(t, dir, test.names, []byte("only\n"))
		}
		if s := mustOpen(t, dir, Options{}); s.Format() != test.format {
			t.Errorf("told by %s: %s, want %s", test.name, s.Format(), test.format)
		}
	}
}

// FuzzCIFAR makes a file of a size and what it begins with; the rest repeats.
func FuzzCIFAR(f *testing.F) {
	f.Add([]byte{}, uint32(0), "")
	f.Add([]byte{3}, uint32(3073), "a\nb\nc\nd")
	f.Add([]byte{3, 4}, uint32(2*3074), "")
	f.Add([]byte{200}, uint32(3074), "")
	f.Add([]byte{3}, uint32(3000), "x")
	f.Add([]byte{1}, uint32(3073*3074), "")
	f.Fuzz(func(t *testing.T, head []byte, size uint32, names string) {
		data := make([]byte, size%(3073*3074+1))
		for i := range data {
			if len(head) > 0 {
				data[i] = head[i%len(head)]
			}
		}
		dir := t.TempDir()
		put(t, dir, "train.bin", data)
		put(t, dir, "batches.meta.txt", []byte(names))
		s, err := Open(dir, Options{})
		if err != nil {
			return
		}
		defer s.Close()
		for i := range s.Len() {
			if l := s.Label(i); l < 0 || l >= len(s.Labels()) {
				t.Fatalf("label %d of %d", l, len(s.Labels()))
			}
		}
		if _, err := s.Decode(s.Len() - 1); err != nil {
			t.Fatal(err)
		}
	})
}
