package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// opened returns a store in a new folder and the lines that it logs.
func opened(t testing.TB) (*Store, *[]string) {
	t.Helper()
	return reopened(t, filepath.Join(t.TempDir(), "state"))
}

func reopened(t testing.TB, dir string) (*Store, *[]string) {
	t.Helper()
	var lines []string
	s, err := Open(dir, Options{Log: func(l string) { lines = append(lines, l) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, &lines
}

type info struct {
	Epoch int
	Name  string
}

// content is what the tests keep.
func content() (info, []float32, []float64, []int64, []int32) {
	f := make([]float32, 3*chunk+17)
	for i := range f {
		f[i] = float32(i)*0.25 - 7
	}
	return info{3, "conv1"}, f, []float64{0.1, -1e300, 3}, []int64{1, -2, 1 << 60, 4}, []int32{-5, 6}
}

func put(t testing.TB, s *Store, key Key) {
	t.Helper()
	i, f, d, n, m := content()
	if err := s.Put("head", key, i, f, d, n, m); err != nil {
		t.Fatal(err)
	}
}

// get tells whether the part is there, and fails when it is another.
func get(t testing.TB, s *Store, key Key) bool {
	t.Helper()
	wi, wf, wd, wn, wm := content()
	var i info
	f, d, n, m := make([]float32, len(wf)), make([]float64, len(wd)), make([]int64, len(wn)), make([]int32, len(wm))
	if !s.Get("head", key, &i, f, d, n, m) {
		return false
	}
	if i != wi || !slices.Equal(f, wf) || !slices.Equal(d, wd) || !slices.Equal(n, wn) || !slices.Equal(m, wm) {
		t.Fatal("a part came back as another")
	}
	return true
}

func TestPartReturns(t *testing.T) {
	s, lines := opened(t)
	key := KeyOf("model", 1, 0.3)
	if get(t, s, key) {
		t.Error("a part was there before it was put")
	}
	put(t, s, key)
	if !get(t, s, key) {
		t.Error("a part was not there")
	}
	if get(t, s, KeyOf("model", 1, 0.4)) {
		t.Error("a part answered to another key")
	}
	if err := s.Put("empty", key, nil); err != nil {
		t.Fatal(err)
	}
	var none any
	if !s.Get("empty", key, &none) {
		t.Error("a part without anything was not there")
	}
	if len(*lines) > 0 {
		t.Errorf("logged %q", *lines)
	}
	dir := s.Dir()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, _ = reopened(t, dir); !get(t, s, key) {
		t.Error("a part was gone after Close")
	}
	if err := s.Remove("head", key); err != nil {
		t.Fatal(err)
	}
	if get(t, s, key) {
		t.Error("a part was there after Remove")
	}
	if err := s.Remove("head", key); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
}

// only returns the one file in the folder that ends so.
func only(t testing.TB, s *Store, ending string) string {
	t.Helper()
	m, err := filepath.Glob(filepath.Join(s.Dir(), "*."+ending))
	if err != nil || len(m) != 1 {
		t.Fatalf("files %q, %v", m, err)
	}
	return m[0]
}

// TestDamageIsNoticed cuts a part at every length and changes every byte of it.
func TestDamageIsNoticed(t *testing.T) {
	s, lines := opened(t)
	key := KeyOf("x")
	want := []float32{1, 2, 3}
	if err := s.Put("head", key, info{1, "a"}, want, []int64{7}); err != nil {
		t.Fatal(err)
	}
	file := only(t, s, "part")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, data []byte, fine bool) {
		t.Helper()
		if err := os.WriteFile(file, data, 0o666); err != nil {
			t.Fatal(err)
		}
		before := len(*lines)
		var i info
		got := s.Get("head", key, &i, make([]float32, 3), make([]int64, 1))
		if got != fine {
			t.Fatalf("%s: used: %v", what, got)
		}
		if reported := len(*lines) > before; reported == fine {
			t.Fatalf("%s: reported: %v", what, reported)
		}
	}
	try("as written", good, true)
	for n := range good {
		try(fmt.Sprintf("cut to %d bytes", n), good[:n], false)
		bad := bytes.Clone(good)
		bad[n] ^= 0x10
		try(fmt.Sprintf("byte %d changed", n), bad, false)
	}
	try("a byte too many", append(bytes.Clone(good), 0), false)
	try("foreign", []byte("GIF89a and then a lot more, so that it is as long as any part would be, and longer than that: 123456789012345678901234567890"), false)
	// It is written again and then is there.
	if err := s.Put("head", key, info{1, "a"}, want, []int64{7}); err != nil {
		t.Fatal(err)
	}
	var i info
	if !s.Get("head", key, &i, make([]float32, 3), make([]int64, 1)) {
		t.Error("not there after it was put again")
	}
}

func TestOtherPartsAreRefused(t *testing.T) {
	s, lines := opened(t)
	key, other := KeyOf("x"), KeyOf("y")
	if err := s.Put("head", key, info{}, []float32{1, 2}); err != nil {
		t.Fatal(err)
	}
	file := only(t, s, "part")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// Under another name it is still itself.
	for _, name := range []string{fmt.Sprintf("head-%s.part", other), fmt.Sprintf("means-%s.part", key)} {
		if err := os.WriteFile(filepath.Join(s.Dir(), name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		kind   string
		key    Key
		arrays []any
		say    string
	}{
		{"key", "head", other, []any{make([]float32, 2)}, "something else"},
		{"kind", "means", key, []any{make([]float32, 2)}, "something else"},
		{"length", "head", key, []any{make([]float32, 3)}, "sizes"},
		{"type", "head", key, []any{make([]float64, 2)}, "sizes"},
		{"fewer", "head", key, nil, "sizes"},
		{"more", "head", key, []any{make([]float32, 2), []int64{}}, "sizes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			*lines = nil
			var i info
			if s.Get(tt.kind, tt.key, &i, tt.arrays...) {
				t.Error("it was used")
			}
			if len(*lines) != 1 || !strings.Contains((*lines)[0], tt.say) || !strings.Contains((*lines)[0], s.Dir()) {
				t.Errorf("logged %q", *lines)
			}
		})
	}
}

func TestLock(t *testing.T) {
	s, _ := opened(t)
	_, err := Open(s.Dir(), Options{})
	var held *LockedError
	if !errors.As(err, &held) || held.Dir != s.Dir() || held.PID != os.Getpid() {
		t.Fatalf("opened twice: %v", err)
	}
	// The lock is in the kernel: what a file says is of no weight.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), lockName), []byte("4242\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	again, _ := reopened(t, s.Dir())
	again.Close()
	// Somebody's file of that name stays as it is.
	mine := []byte("notes about the film, scene one\n")
	if err := os.WriteFile(filepath.Join(s.Dir(), lockName), mine, 0o666); err != nil {
		t.Fatal(err)
	}
	again, _ = reopened(t, s.Dir())
	again.Close()
	if got, err := os.ReadFile(filepath.Join(s.Dir(), lockName)); err != nil || !bytes.Equal(got, mine) {
		t.Errorf("the file is now %q, %v", got, err)
	}
}

// TestOnlyOwnFilesGo puts files of others into the folder.
func TestOnlyOwnFilesGo(t *testing.T) {
	dir := t.TempDir()
	hex64 := strings.Repeat("0123456789abcdef", 4)
	foreign := map[string]string{
		"thesis.tex":                          "x",
		"head-" + hex64 + ".part":             "not ours in spite of its name",
		"head-" + hex64 + ".part.bak":         "x",
		"HEAD-" + hex64 + ".part":             "x",
		".filterlens-12345678.tmp":            "somebody writes a model here",
		".filterlens-state-12345678.tmp.keep": "x",
		"sub/head.part":                       "x",
	}
	for name, text := range foreign {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	torn := filepath.Join(dir, ".filterlens-state-0badcafe.tmp")
	if err := os.WriteFile(torn, []byte("torn"), 0o666); err != nil {
		t.Fatal(err)
	}
	s, _ := reopened(t, dir)
	if _, err := os.Stat(torn); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a torn file of ours is still there: %v", err)
	}
	key := KeyOf("old")
	put(t, s, key)
	rows, err := s.Rows("features", key)
	if err != nil {
		t.Fatal(err)
	}
	rows.Close()
	s.Close()
	s, _ = reopened(t, dir)
	put(t, s, KeyOf("new"))
	size, err := s.Size()
	if err != nil {
		t.Fatal(err)
	}
	files, freed, err := s.Prune()
	if err != nil || files != 2 || freed == 0 {
		t.Fatalf("pruned %d files, %d bytes, %v", files, freed, err)
	}
	if left, err := s.Size(); err != nil || left != size-freed {
		t.Errorf("%d bytes are left of %d, %d were freed, %v", left, size, freed, err)
	}
	if get(t, s, key) || !get(t, s, KeyOf("new")) {
		t.Error("Prune took the wrong part")
	}
	for name, text := range foreign {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestFailedWriteKeepsTheOld has the disk run full in the middle of a part.
func TestFailedWriteKeepsTheOld(t *testing.T) {
	s, _ := opened(t)
	key := KeyOf("x")
	put(t, s, key)
	err := s.replace(s.name("head", key, "part"), func(f *os.File) error {
		f.Write(make([]byte, 100))
		return &fs.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	})
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v", err)
	}
	if want := fmt.Sprintf("cannot write the state in %s: %v", s.Dir(), syscall.ENOSPC); err.Error() != want {
		t.Errorf("message %q, want %q", err, want)
	}
	if !get(t, s, key) {
		t.Error("the old part is gone")
	}
	names, err := s.names()
	slices.Sort(names)
	if want := []string{lockName, "head-" + key.String() + ".part"}; err != nil || !reflect.DeepEqual(names, want) {
		slices.Sort(want)
		if !reflect.DeepEqual(names, want) {
			t.Errorf("files %q, want %q", names, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(dir, "no", "parent"), ""} {
		_, err := Open(path, Options{})
		var e *Error
		if !errors.As(err, &e) || e.Op != "open" || e.Path != path {
			t.Errorf("%q: %v", path, err)
		}
	}
	// A folder where a part should be is not taken away.
	s, lines := opened(t)
	key := KeyOf("x")
	if err := os.Mkdir(filepath.Join(s.Dir(), fmt.Sprintf("head-%s.part", key)), 0o777); err != nil {
		t.Fatal(err)
	}
	if get(t, s, key) || len(*lines) != 1 {
		t.Errorf("logged %q", *lines)
	}
	var e *Error
	if err := s.Put("head", key, nil); !errors.As(err, &e) {
		t.Errorf("error %v", err)
	}
}

func FuzzPart(f *testing.F) {
	s, _ := opened(f)
	key := KeyOf("x")
	if err := s.Put("head", key, info{1, "a"}, []float32{1, 2, 3}, []int64{7}); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(only(f, s, "part"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte(partMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		var i info
		v, n := make([]float32, 3), make([]int64, 1)
		if readPart(bytes.NewReader(data), int64(len(data)), "head", key, &i, []any{v, n}) == nil && !bytes.Equal(data, good) {
			// Only a whole part with its checksum is taken; its info may be other JSON.
			if len(data) < len(good)-40 || !slices.Equal(data[:16], good[:16]) {
				t.Errorf("%q was taken", data)
			}
		}
	})
}

func BenchmarkPut(b *testing.B) {
	s, _ := opened(b)
	v := make([]float32, 16<<20)
	b.SetBytes(int64(4 * len(v)))
	for b.Loop() {
		if err := s.Put("head", KeyOf("x"), info{}, v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s, _ := opened(b)
	v := make([]float32, 16<<20)
	b.SetBytes(int64(4 * len(v)))
	if err := s.Put("head", KeyOf("x"), info{}, v); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var i info
		if !s.Get("head", KeyOf("x"), &i, v) {
			b.Fatal("not there")
		}
	}
}
