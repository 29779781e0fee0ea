package dataset

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// npy writes an array as NumPy does, version 1.
func npy(descr string, fortran string, shape string, values []byte) []byte {
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", descr, fortran, shape)
	text += strings.Repeat(" ", 63-(10+len(text))%64) + "\n"
	out := append([]byte(npyMagic), 1, 0)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(text)))
	return append(append(out, text...), values...)
}

func images8(n int) []byte { return npy("|u1", "False", fmt.Sprintf("(%d, 2, 3)", n), counting(6*n)) }

func labels8(values ...byte) []byte {
	return npy("|u1", "False", fmt.Sprintf("(%d,)", len(values)), values)
}

// npz makes an archive of name, content, name, content ...
func npz(t testing.TB, method uint16, members ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(members); i += 2 {
		f, err := w.CreateHeader(&zip.FileHeader{Name: members[i].(string) + ".npy", Method: method})
		if err == nil {
			_, err = f.Write(members[i+1].([]byte))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestOpenNPZ(t *testing.T) {
	column := npy("<i8", "False", "(2, 1)", append(binary.LittleEndian.AppendUint64(nil, 3), 1, 0, 0, 0, 0, 0, 0, 0))
	for _, method := range []uint16{zip.Store, zip.Deflate} {
		for _, test := range []struct {
			name    string
			members []any
			labels  []int32
			parts   []Part
			last    string
			skipped int
		}{
			{"keras", []any{"x_test", images8(1), "x_train", images8(2), "y_train", labels8(1, 2), "y_test", labels8(0)},
				[]int32{1, 2, 0}, []Part{PartTrain, PartTrain, PartTest}, "d.npz/x_test#0", 0},
			{"medmnist", []any{"train_images", images8(2), "val_images", images8(1), "test_images", images8(2), "train_labels", column, "val_labels", labels8(9), "test_labels", column},
				[]int32{3, 1, 3, 1}, []Part{PartTrain, PartTrain, PartTest, PartTest}, "d.npz/test_images#1", 1},
			{"one", []any{"images", images8(2), "labels", column, "extra", []byte("x")}, []int32{3, 1}, []Part{PartNone, PartNone}, "d.npz/images#1", 0},
			{"capitals", []any{"X", images8(1), "Y", labels8(0)}, []int32{0}, []Part{PartNone}, "d.npz/X#0", 0},
			{"validation", []any{"x_train", images8(1), "y_train", labels8(0), "x_val", images8(1), "y_val", labels8(1)}, []int32{0, 1}, []Part{PartTrain, PartTest}, "d.npz/x_val#0", 0},
		} {
			t.Run(fmt.Sprint(test.name, method), func(t *testing.T) {
				dir := t.TempDir()
				file := put(t, dir, "d.npz", npz(t, method, test.members...))
				for _, path := range []string{file, dir} {
					s := mustOpen(t, path, Options{})
					var parts []Part
					for i := range s.Len() {
						parts = append(parts, s.Part(i))
						m, err := s.Decode(i)
						if err != nil || m.Channels != 1 || m.Height != 2 || m.Width != 3 || m.Pix[0]%6 != 0 || m.Pix[5] != m.Pix[0]+5 {
							t.Errorf("%s: %+v, %v", s.ID(i), m, err)
						}
					}
					if s.Format() != "NPZ" || !slices.Equal(s.label, test.labels) || !slices.Equal(parts, test.parts) || s.ID(s.Len()-1) != test.last || len(s.Skipped()) != test.skipped {
						t.Errorf("%s: labels %v parts %v last %s skipped %v", s.Format(), s.label, parts, s.ID(s.Len()-1), s.Skipped())
					}
				}
			})
		}
	}
	dir := t.TempDir()
	put(t, dir, "x_train.npy", images8(2))
	put(t, dir, "y_train.npy", labels8(1, 0))
	put(t, dir, "labels.txt", []byte("cat\ndog"))
	s := mustOpen(t, dir, Options{})
	if s.Format() != "NPY" || s.Len() != 2 || s.ID(1) != "x_train.npy#1" || s.Labels()[1] != "dog" {
		t.Errorf("%s, %q, %q", s.Format(), ids(s), s.Labels())
	}
}

func TestNPZAxes(t *testing.T) {
	planes := []uint8{0, 3, 6, 9, 12, 15 /**/, 1, 4, 7, 10, 13, 16 /**/, 2, 5, 8, 11, 14, 17}
	for shape, want := range map[string][]uint8{
		"(1, 2, 3, 3)": planes, "(1, 3, 3, 2)": counting(18), "(1, 1, 3, 6)": counting(18), "(1, 3, 6)": counting(18), "(1L, 6L, 3L, 1L)": counting(18),
	} {
		s := mustOpen(t, put(t, t.TempDir(), "d.npz", npz(t, zip.Store, "x", npy("|u1", "False", shape, counting(18)), "y", labels8(0))), Options{})
		if m, err := s.Decode(0); err != nil || !bytes.Equal(m.Pix, want) {
			t.Errorf("%s: %v, %v, want %v", shape, m, err, want)
		}
	}
}

func TestNPYLabels(t *testing.T) {
	for _, test := range []struct {
		descr  string
		values []byte
		want   int32
	}{
		{"|i1", []byte{5}, 5}, {"|b1", []byte{1}, 1}, {"<u2", []byte{1, 2}, 513}, {">i2", []byte{2, 1}, 513}, {"<i4", []byte{1, 2, 0, 0}, 513},
		{">u4", []byte{0, 0, 2, 1}, 513}, {">i8", []byte{0, 0, 0, 0, 0, 0, 2, 1}, 513}, {"=u8", []byte{1, 2, 0, 0, 0, 0, 0, 0}, 513},
	} {
		s := mustOpen(t, put(t, t.TempDir(), "d.npz", npz(t, zip.Store, "x", images8(1), "y", npy(test.descr, "False", "(1,)", test.values))), Options{})
		if s.label[0] != test.want {
			t.Errorf("%s: label %d, want %d", test.descr, s.label[0], test.want)
		}
	}
}

func TestNPZErrors(t *testing.T) {
	x := func(descr, fortran, shape string, values []byte) []any {
		return []any{"x", npy(descr, fortran, shape, values), "y", labels8(0)}
	}
	y := func(data []byte) []any { return []any{"x", images8(2), "y", data} }
	for _, test := range []struct {
		name    string
		members []any
		opt     Options
		is      error
		text    string
	}{
		{"ambiguous", x("|u1", "False", "(1, 3, 5, 3)", make([]byte, 45)), Options{}, ErrFormat, "x: shape [1 3 5 3] can be [N,C,H,W] as well as [N,H,W,C]"},
		{"float", x("<f4", "False", "(1, 2, 2)", make([]byte, 16)), Options{}, ErrFormat, "(x * 255).round().astype(numpy.uint8)"},
		{"int64 images", x("<i8", "False", "(1, 1, 1)", make([]byte, 8)), Options{}, ErrFormat, "only uint8 is read"},
		{"fortran", x("|u1", "True", "(1, 2, 2)", make([]byte, 4)), Options{}, ErrFormat, "numpy.ascontiguousarray"},
		{"objects", x("|O", "False", "(1,)", nil), Options{}, ErrFormat, "Python objects"},
		{"text", x("<U5", "False", "(1,)", nil), Options{}, ErrFormat, "array of type"},
		{"flat", x("|u1", "False", "(1, 784)", make([]byte, 784)), Options{}, ErrFormat, "shape [1 784] is no array of images"},
		{"channels", x("|u1", "False", "(1, 2, 2, 4)", make([]byte, 16)), Options{}, ErrFormat, "with 1 or 3 channels"},
		{"no pixels", x("|u1", "False", "(1000, 0, 2)", nil), Options{}, ErrFormat, "images without pixels"},
		{"short", x("|u1", "False", "(1, 2, 2)", make([]byte, 3)), Options{}, ErrFormat, "its shape [1 2 2] says"},
		{"huge", x("|u1", "False", "(4000000000, 4000000000, 4000000000)", nil), Options{}, ErrFormat, "impossible shape"},
		{"pixel limit", x("|u1", "False", "(1, 4, 4)", make([]byte, 16)), Options{MaxPixels: 15}, ErrTooLarge, "4x4 pixels"},
		{"memory", x("|u1", "False", "(100, 10, 10)", make([]byte, 10_000)), Options{MaxBytes: 9_999}, ErrTooLarge, "save it with numpy.savez"},
		{"none", x("|u1", "False", "(0, 2, 2)", nil), Options{}, ErrFormat, "1 labels for 0 images"},
		{"one-hot", y(npy("|u1", "False", "(2, 10)", make([]byte, 20))), Options{}, ErrLabel, "y: labels of shape [2 10]; one number a sample is read, of one-hot rows save y.argmax(1)"},
		{"count", y(labels8(1)), Options{}, ErrFormat, "1 labels for 2 images"},
		{"float labels", y(npy("<f4", "False", "(2,)", make([]byte, 8))), Options{}, ErrLabel, "y.astype(numpy.int64)"},
		{"negative", y(npy("|i1", "False", "(2,)", []byte{0, 255})), Options{}, ErrLabel, "label -1 of image 1"},
		{"large label", y(npy("<u8", "False", "(2,)", bytes.Repeat([]byte{255}, 16))), Options{}, ErrLabel, "image 0: label 9223372036854775807"},
		{"unknown arrays", []any{"arr_0", images8(1), "arr_1", labels8(0)}, Options{}, ErrFormat, "found arr_0, arr_1"},
		{"several", []any{"x_a", images8(1), "y_a", labels8(0), "x_b", images8(1), "y_b", labels8(0)}, Options{}, ErrFormat, "several arrays of images (a, b)"},
		{"twice", []any{"x", images8(1), "images", images8(1), "y", labels8(0)}, Options{}, ErrFormat, "look like the same"},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkError(t, put(t, t.TempDir(), "d.npz", npz(t, zip.Deflate, test.members...)), test.opt, test.is, test.text)
		})
	}
	t.Run("no archive", func(t *testing.T) {
		checkError(t, put(t, t.TempDir(), "d.npz", []byte("x")), Options{}, ErrFormat, "not an NPZ archive")
	})
	t.Run("cut off", func(t *testing.T) {
		data := npz(t, zip.Store, "x", images8(100), "y", labels8(make([]byte, 100)...))
		checkError(t, put(t, t.TempDir(), "d.npz", data[:300]), Options{}, ErrFormat, "not an NPZ archive")
	})
	t.Run("damaged", func(t *testing.T) {
		data := npz(t, zip.Deflate, "x", npy("|u1", "False", "(1, 100, 100)", noise(50, 50, 1).Pix), "y", labels8(0))
		data[3000] ^= 1
		checkError(t, put(t, t.TempDir(), "d.npz", data), Options{}, zip.ErrChecksum, "checksum")
	})
	t.Run("two archives", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir, "a.npz", nil)
		put(t, dir, "b.npz", nil)
		checkError(t, dir, Options{}, ErrFormat, `more than one data set in it ("a.npz", "b.npz")`)
	})
	t.Run("one array", func(t *testing.T) {
		checkError(t, put(t, t.TempDir(), "x.npy", images8(1)), Options{}, ErrFormat, "give the folder")
	})
}

func FuzzNPYHeader(f *testing.F) {
	f.Add(images8(2))
	f.Add(npy("<i8", "True", "()", nil))
	f.Add(npy(">f4", "False", "(3L, 4L)", nil))
	f.Add([]byte(npyMagic + "\x02\x00\x10\x00\x00\x00{'descr': '<f4',"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readNPYHeader(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%#v", err)
			}
			return
		}
		n := int64(1)
		for _, d := range h.shape {
			n *= d
		}
		if n != h.values || h.bytes() < 0 || h.start > int64(len(data)) || h.order == nil {
			t.Fatalf("%+v", h)
		}
	})
}

func FuzzNPZ(f *testing.F) {
	f.Add(npz(f, zip.Store, "x_train", images8(2), "y_train", labels8(0, 1), "x_test", images8(1), "y_test", labels8(1)))
	f.Add(npz(f, zip.Deflate, "images", images8(2), "labels", labels8(0, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Open(put(t, t.TempDir(), "x.npz", data), Options{MaxBytes: 1 << 20, MaxPixels: 1 << 16})
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
			if _, err := s.Decode(i); err != nil {
				t.Fatal(err)
			}
		}
	})
}
