package dataset

import (
	"bytes"
	"encoding/base64"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
)

// put writes a file below dir, with its folders.
func put(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

// noise is an image whose pixels are all different from each other's.
func noise(w, h int, seed uint64) *image.NRGBA {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = uint8(rng.Uint32())
		if i%4 == 3 {
			m.Pix[i] = 255
		}
	}
	return m
}

func pngBytes(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// losslessWebP is 3x2 pixels, webpPixels; limitedWebP is lossy, 16x16, black on
// the left and white on the right.
const (
	losslessWebP = "UklGRkYAAABXRUJQVlA4TDoAAAAvAkAAAC9AJEACyeQ3/5/xhoK2bZi+Hf6ARm1qAhBguBRY/ZOa/wB/kA9ZqWdnIBCgjBUPbBPR/xgv"
	limitedWebP  = "UklGRigAAABXRUJQVlA4IBwAAABQAQCdASoQABAAAUAmJaQABHQAAP2z//2Q0AAA"
)

var webpPixels = []uint8{255, 0, 0, 10, 200, 7 /**/, 0, 255, 0, 20, 100, 7 /**/, 0, 0, 255, 30, 50, 7}

func unbase64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustOpen(t testing.TB, path string, opt Options) *Set {
	t.Helper()
	s, err := Open(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func ids(s *Set) []string {
	var out []string
	for i := range s.Len() {
		out = append(out, s.ID(i))
	}
	return out
}

func TestOpenFolder(t *testing.T) {
	dir := t.TempDir()
	m := noise(5, 4, 1)
	var jpg, gf, bm bytes.Buffer
	pal := image.NewPaletted(m.Rect, color.Palette{color.Black, color.White})
	for _, err := range []error{jpeg.Encode(&jpg, m, nil), gif.Encode(&gf, pal, nil), bmp.Encode(&bm, m)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// The endings lie: content decides.
	put(t, dir, "dog/a.jpg", pngBytes(t, m))
	put(t, dir, "dog/deep/er/b.png", jpg.Bytes())
	put(t, dir, "cat/c", gf.Bytes())
	put(t, dir, "cat/d.dat", bm.Bytes())
	put(t, dir, "cat/e.webp", unbase64(t, losslessWebP))
	put(t, dir, "cat/notes.txt", []byte("BM is no bitmap"))
	put(t, dir, "cat/empty.png", nil)
	put(t, dir, "cat/.DS_Store", []byte("x"))
	put(t, dir, ".git/x.png", pngBytes(t, m))
	put(t, dir, "readme.txt", []byte("x"))
	if err := os.Mkdir(filepath.Join(dir, "emu"), 0o777); err != nil {
		t.Fatal(err)
	}

	s := mustOpen(t, dir, Options{})
	if got, want := s.Labels(), []string{"cat", "dog"}; !slices.Equal(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
	if got, want := ids(s), []string{"cat/c", "cat/d.dat", "cat/e.webp", "dog/a.jpg", "dog/deep/er/b.png"}; !slices.Equal(got, want) {
		t.Errorf("samples %q, want %q", got, want)
	}
	for i, want := range []int{0, 0, 0, 1, 1} {
		if s.Label(i) != want || s.Part(i) != PartNone {
			t.Errorf("sample %d: label %d part %v, want label %d part none", i, s.Label(i), s.Part(i), want)
		}
		if m, err := s.Decode(i); err != nil || m.Width*m.Height < 6 {
			t.Errorf("decode %s: %v", s.ID(i), err)
		}
	}
	var names []string
	for _, k := range s.Skipped() {
		names = append(names, k.Name+": "+k.Reason)
	}
	want := []string{"cat/empty.png: empty file", "cat/notes.txt: not a PNG, JPEG, WebP, BMP or GIF file",
		"emu: class folder without images; it is no label unless the labels are given", "readme.txt: outside of a class folder"}
	if !slices.Equal(names, want) {
		t.Errorf("skipped %q, want %q", names, want)
	}
	if s.Format() != "image folder" {
		t.Errorf("format %q", s.Format())
	}

	s = mustOpen(t, dir, Options{Labels: []string{"dog", "none", "emu", "cat"}})
	if !slices.Contains(s.Skipped(), Skipped{"emu", "class folder without images"}) {
		t.Errorf("skipped %v", s.Skipped())
	}
	if s.Label(0) != 3 || s.Label(4) != 0 || s.Labels()[1] != "none" {
		t.Errorf("labels given: %d, %d, %q", s.Label(0), s.Label(4), s.Labels())
	}
}

func TestOpenFolderParts(t *testing.T) {
	img := pngBytes(t, noise(2, 2, 1))
	for _, test := range []struct {
		name    string
		files   []string
		labels  []string
		parts   []Part
		skipped int
	}{
		{"train and test", []string{"test/b/1.png", "train/a/1.png"}, []string{"a", "b"}, []Part{PartTest, PartTrain}, 0},
		{"case and val", []string{"Train/a/1.png", "VAL/a/1.png"}, []string{"a"}, []Part{PartTrain, PartTest}, 0},
		{"test before val", []string{"test/a/1.png", "train/a/1.png", "val/a/1.png"}, []string{"a"}, []Part{PartTest, PartTrain}, 1},
		{"test without labels", []string{"test/1.png", "train/a/1.png", "val/a/1.png"}, []string{"a"}, []Part{PartTrain, PartTest}, 1},
		{"only train", []string{"train/a/1.png", "train/b/1.png"}, []string{"a", "b"}, []Part{PartNone, PartNone}, 0},
		{"train is a label", []string{"car/1.png", "train/1.png"}, []string{"car", "train"}, []Part{PartNone, PartNone}, 0},
		{"train and test are labels", []string{"test/1.png", "train/1.png"}, []string{"test", "train"}, []Part{PartNone, PartNone}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range test.files {
				put(t, dir, f, img)
			}
			s := mustOpen(t, dir, Options{})
			var parts []Part
			for i := range s.Len() {
				parts = append(parts, s.Part(i))
			}
			if !slices.Equal(s.Labels(), test.labels) || !slices.Equal(parts, test.parts) || len(s.Skipped()) != test.skipped {
				t.Errorf("labels %q parts %v skipped %v", s.Labels(), parts, s.Skipped())
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	img := pngBytes(t, noise(2, 2, 1))
	type files map[string][]byte
	for _, test := range []struct {
		name  string
		files files
		path  string
		opt   Options
		is    error
		text  string
	}{
		{"no such path", nil, "missing", Options{}, fs.ErrNotExist, "missing: no such file"},
		{"empty folder", nil, "", Options{}, ErrEmpty, "expected DIR/LABEL/*.png"},
		{"no class folders", files{"a.png": img}, "", Options{}, ErrNoClasses, "expected DIR/LABEL/*.png"},
		{"only other files", files{"a/x.txt": []byte("x"), "a/y.txt": nil}, "", Options{}, ErrEmpty, "no images in it: a/x.txt (not a PNG, JPEG, WebP, BMP or GIF file), a/y.txt (empty file)"},
		{"folder not a label", files{"a/1.png": img}, "", Options{Labels: []string{"b"}}, ErrLabel, `"a" is not among the 1 labels`},
		{"label twice", files{"a/1.png": img}, "", Options{Labels: []string{"a", "a"}}, ErrLabel, `"a" is given twice`},
		{"one image", files{"a.png": img}, "a.png", Options{}, ErrFormat, "give a folder"},
		{"CIFAR size", files{"train.bin": make([]byte, 3075)}, "", Options{}, ErrFormat, "train.bin: 3075 bytes, no multiple"},
		{"CIFAR empty", files{"test.bin": nil}, "", Options{}, ErrEmpty, "test.bin holds no record"},
		{"CIFAR mixed", files{"train.bin": make([]byte, 3073), "test.bin": make([]byte, 3074)}, "", Options{}, ErrFormat, "CIFAR-10 and CIFAR-100"},
		{"CIFAR label", files{"test.bin": append(make([]byte, 3073), bytes.Repeat([]byte{10}, 3073)...)}, "", Options{}, ErrLabel, "test.bin: record 1 has label 10, but there are 10 labels"},
		{"CIFAR-100 label", files{"x.bin": append([]byte{0, 100}, make([]byte, 3072)...)}, "x.bin", Options{}, ErrLabel, "x.bin: record 0 has label 100"},
		{"CIFAR ambiguous", files{"x.bin": make([]byte, 3073*3074)}, "x.bin", Options{}, ErrFormat, "cannot tell CIFAR-10 from CIFAR-100"},
		{"IDX without labels", files{"train-images-idx3-ubyte": idx(idxUint8, []int{1, 2, 2}, make([]byte, 4))}, "", Options{}, ErrFormat, "expected train-labels-idx1-ubyte"},
		{"IDX rejected", files{"train-images-idx3-ubyte": []byte("<html>")}, "", Options{}, ErrFormat, "train-images-idx3-ubyte: not an IDX file: begins with"},
		{"IDX cut off", files{"train-images-idx3-ubyte.gz": {0x1f, 0x8b, 8}}, "", Options{}, ErrFormat, "gz: gzip stream is cut off"},
		{"IDX labels rejected", files{"train-images-idx3-ubyte": idx(idxUint8, []int{1, 2, 2}, make([]byte, 4)), "train-labels-idx1-ubyte": nil}, "", Options{}, ErrFormat, "train-labels-idx1-ubyte: header is cut off"},
		{"IDX type", files{"x-images.idx": {0, 0, 7, 1, 0, 0, 0, 0}}, "x-images.idx", Options{}, ErrFormat, "x-images.idx: not an IDX file: type 0x07"},
		{"IDX short", files{"images": idx(idxUint8, []int{2, 2, 2}, make([]byte, 7)), "labels": idx(idxUint8, []int{2}, make([]byte, 2))}, "images", Options{}, ErrFormat, "images: 23 bytes, its header [2 2 2] says 24"},
		{"IDX counts", files{"images": idx(idxUint8, []int{2, 2, 2}, make([]byte, 8)), "labels": idx(idxUint8, []int{3}, make([]byte, 3))}, "", Options{}, ErrFormat, "labels: 3 labels for 2 images"},
		{"IDX huge", files{"images": idx(idxUint8, []int{1 << 31, 1 << 31, 1 << 31}, nil)}, "images", Options{}, ErrFormat, "neither"},
		{"IDX floats", files{"images": idx(0x0d, []int{1, 1, 1}, make([]byte, 4)), "labels": idx(idxUint8, []int{1}, make([]byte, 1))}, "", Options{}, ErrFormat, "only unsigned bytes"},
		{"IDX two channels", files{"images": idx(idxUint8, []int{1, 2, 2, 2}, make([]byte, 8)), "labels": idx(idxUint8, []int{1}, make([]byte, 1))}, "", Options{}, ErrFormat, "are no images"},
		{"IDX no images", files{"images": idx(idxUint8, []int{0, 2, 2}, nil), "labels": idx(idxUint8, []int{0}, nil)}, "", Options{}, ErrEmpty, "no images in images"},
		{"IDX without pixels", files{"images": idx(idxUint8, []int{1000, 0, 2}, nil), "labels": idx(idxUint8, []int{1000}, make([]byte, 1000))}, "", Options{}, ErrFormat, "without pixels"},
		{"IDX negative label", files{"images": idx(idxUint8, []int{1, 1, 1}, make([]byte, 1)), "labels": idx(idxInt32, []int{1}, []byte{255, 255, 255, 255})}, "", Options{}, ErrLabel, "label -1 of image 0"},
		{"IDX huge label", files{"images": idx(idxUint8, []int{1, 1, 1}, make([]byte, 1)), "labels": idx(idxInt32, []int{1}, []byte{127, 0, 0, 0})}, "", Options{}, ErrLabel, "of image 0"},
		{"IDX names", files{"images": idx(idxUint8, []int{1, 1, 1}, make([]byte, 1)), "labels": idx(idxUint8, []int{1}, []byte{2}), "labels.txt": []byte("a\nb\n")}, "", Options{}, ErrLabel, "images#0 has label 2, but there are 2 label names"},
		{"IDX several sets", files{"a-train-images": idx(idxUint8, []int{1, 1, 1}, make([]byte, 1)), "b-train-images": idx(idxUint8, []int{1, 1, 1}, make([]byte, 1))}, "", Options{}, ErrFormat, "give one of the files"},
		{"IDX pixel limit", files{"images": idx(idxUint8, []int{1, 4, 4}, make([]byte, 16)), "labels": idx(idxUint8, []int{1}, make([]byte, 1))}, "", Options{MaxPixels: 15}, ErrTooLarge, "4x4 pixels"},
		{"gzip bomb", files{"images.gz": gzipped(t, idx(idxUint8, []int{1000, 100, 100}, nil)), "labels": idx(idxUint8, []int{1}, make([]byte, 1))}, "", Options{MaxBytes: 1 << 20}, ErrTooLarge, "decompress the file on disk"},
		{"gzip that lies", files{"images.gz": gzipped(t, idx(idxUint8, []int{1000, 1000, 1000}, make([]byte, 50))), "labels": idx(idxUint8, []int{1}, make([]byte, 1))}, "", Options{}, ErrFormat, "ends before the 1000000016 bytes"},
		{"gzip too long", files{"images.gz": gzipped(t, idx(idxUint8, []int{1, 2, 2}, make([]byte, 5))), "labels": idx(idxUint8, []int{1}, make([]byte, 1))}, "", Options{}, ErrFormat, "longer than the 20 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range test.files {
				put(t, dir, name, data)
			}
			s, err := Open(filepath.Join(dir, test.path), test.opt)
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, test.is) {
				t.Errorf("%#v is no *Error of kind %v", err, test.is)
			}
			if msg := err.Error(); !strings.Contains(msg, test.text) || strings.Contains(msg, "\n") || strings.Count(msg, dir) != 1 {
				t.Errorf("message %q; want one line with %q and the path once", msg, test.text)
			}
		})
	}
}
