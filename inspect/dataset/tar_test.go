package dataset

import (
	"archive/tar"
	"bytes"
	"errors"
	"slices"
	"testing"
)

type tarFile struct {
	name string
	data []byte
}

func tarBytes(t testing.TB, files ...tarFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestOpenTar(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "train-000.tar", tarBytes(t,
		tarFile{"./a/1.x.txt", []byte("not used")}, tarFile{"./a/1.PNG", tiny(t, 0)}, tarFile{"./a/1.cls", []byte("2\n")},
		tarFile{"./a/2.json", []byte(`{"caption": "x", "label": 1}`)}, tarFile{"./a/2.png", tiny(t, 1)},
		tarFile{"./a/3.png", tiny(t, 9)}, tarFile{"./a/4.cls", []byte("1")}))
	put(t, dir, "train-001.tar", tarBytes(t, tarFile{"1.png", tiny(t, 2)}, tarFile{"1.cls.txt", []byte("0")}, tarFile{"1.json", []byte(`{"label": "x"}`)}))
	put(t, dir, "val-000.tar", tarBytes(t, tarFile{"v.jpg", tiny(t, 3)}, tarFile{"v.json", []byte(`{"class": "1"}`)}))
	put(t, dir, "classnames.txt", []byte("cat\ndog\nemu\n"))
	s := mustOpen(t, dir, Options{})
	if s.Format() != "tar shards" || !slices.Equal(s.label, []int32{2, 1, 0, 1}) || !slices.Equal(s.Labels(), []string{"cat", "dog", "emu"}) {
		t.Errorf("%s, labels %v %q", s.Format(), s.label, s.Labels())
	}
	if want := []string{"train-000.tar#./a/1.PNG", "train-000.tar#./a/2.png", "train-001.tar#1.png", "val-000.tar#v.jpg"}; !slices.Equal(ids(s), want) {
		t.Errorf("samples %q", ids(s))
	}
	if s.Part(2) != PartTrain || s.Part(3) != PartTest {
		t.Errorf("parts %v", s.part)
	}
	if got := SkippedText(s.Skipped()); got != "train-000.tar#./a/3.png (image without a .cls, .cls.txt or .json beside it), train-000.tar#./a/4.cls (label without an image)" {
		t.Errorf("skipped %s", got)
	}
	checkTiny(t, s, func(i int) int { return i })

	// Names in place of numbers.
	file := put(t, dir, "names/x.tar", tarBytes(t, tarFile{"1.png", tiny(t, 0)}, tarFile{"1.cls", []byte("emu")}, tarFile{"2.png", tiny(t, 1)}, tarFile{"2.cls", []byte("cat")}))
	s = mustOpen(t, file, Options{})
	if !slices.Equal(s.label, []int32{1, 0}) || !slices.Equal(s.Labels(), []string{"cat", "emu"}) || s.ID(1) != "x.tar#2.png" {
		t.Errorf("labels %v %q, %s", s.label, s.Labels(), s.ID(1))
	}
}

func TestTarErrors(t *testing.T) {
	img := tarFile{"1.png", tiny(t, 0)}
	whole := tarBytes(t, tarFile{"1.cls", []byte("1")}, img)
	for _, test := range []struct {
		name, file string
		data       []byte
		is         error
		text       string
	}{
		{"compressed", "x.tar.gz", gzipped(t, whole), ErrFormat, "decompress it to a .tar file first"},
		{"compressed, short", "x.tgz", gzipped(t, whole), ErrFormat, "decompress it to a .tar file first"},
		{"cut off", "x.tar", whole[:1600], ErrFormat, "1.png is cut off"},
		{"cut in a header", "x.tar", whole[:1200], ErrFormat, "tar header after 1 samples"},
		{"no tar", "x.tar", bytes.Repeat([]byte("x"), 2000), ErrFormat, "tar header after 0 samples"},
		{"no label", "x.tar", tarBytes(t, img), ErrEmpty, "x.tar#1.png (image without a .cls"},
		{"two images", "x.tar", tarBytes(t, img, tarFile{"1.jpg", nil}), ErrFormat, "sample 1 has two images, the second is 1.jpg"},
		{"two labels", "x.tar", tarBytes(t, tarFile{"1.cls", nil}, tarFile{"1.cls", nil}), ErrFormat, "sample 1 has two labels"},
		{"bad label", "x.tar", tarBytes(t, img, tarFile{"1.cls", nil}), ErrLabel, `1.cls: "" is no label`},
		{"negative", "x.tar", tarBytes(t, img, tarFile{"1.cls", []byte("-5")}), ErrLabel, "label -5"},
		{"unlabelled", "x.tar", tarBytes(t, img, tarFile{"1.cls", []byte("-1")}), ErrLabel, "x.tar#1.png has no label"},
		{"json", "x.tar", tarBytes(t, img, tarFile{"1.json", []byte("{")}), ErrFormat, "1.json: JSON"},
		{"json without", "x.tar", tarBytes(t, img, tarFile{"1.json", []byte("{}")}), ErrLabel, "JSON without label or class"},
		{"json list", "x.tar", tarBytes(t, img, tarFile{"1.json", []byte(`{"label":[1]}`)}), ErrLabel, "neither a number nor a text"},
		{"json fraction", "x.tar", tarBytes(t, img, tarFile{"1.json", []byte(`{"label":1.5}`)}), ErrLabel, "1.5 is no whole number"},
		{"mixed", "x.tar", tarBytes(t, img, tarFile{"1.cls", []byte("1")}, tarFile{"2.png", nil}, tarFile{"2.cls", []byte("cat")}), ErrLabel, `"cat" is a name, the ones before it are numbers`},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			checkError(t, put(t, dir, test.file, test.data), Options{}, test.is, test.text)
			checkError(t, dir, Options{}, test.is, test.text)
		})
	}
}

func FuzzTar(f *testing.F) {
	f.Add(tarBytes(f, tarFile{"1.cls", []byte("1")}, tarFile{"1.png", tiny(f, 0)}))
	f.Add(tarBytes(f, tarFile{"a/1.json", []byte(`{"label": "x"}`)}, tarFile{"a/1.png", tiny(f, 0)}, tarFile{"2.cls", []byte("cat")}))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Open(put(t, t.TempDir(), "x.tar", data), Options{MaxPixels: 1 << 16})
		if err != nil {
			if e := (*Error)(nil); !errors.As(err, &e) {
				t.Fatalf("%#v is no *Error", err)
			}
			return
		}
		defer s.Close()
		for i := range s.Len() {
			if l := s.Label(i); l < 0 || l >= len(s.Labels()) {
				t.Fatalf("label %d of %d", l, len(s.Labels()))
			}
			s.Decode(i)
		}
	})
}
