package onnxfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPendingCommit(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "out.onnx")
	p, err := CreatePending(target)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	big := bytes.Repeat([]byte("model"), 1<<19)
	if _, err := p.Write(big); err != nil {
		t.Fatal(err)
	}
	path, err := p.Path()
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(path) != dir {
		t.Errorf("pending at %s", path)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, big) {
		t.Errorf("%d bytes at Path, %v", len(b), err)
	}
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("target before Commit: %v", err)
	}
	if _, err := p.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	p.Abort()
	if b, err := os.ReadFile(target); err != nil || string(b) != string(big)+"end" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"out.onnx"}) {
		t.Errorf("left: %v", got)
	}
	_, werr := p.Write([]byte("x"))
	_, perr := p.Path()
	for _, err := range []error{werr, perr, p.Commit()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("after Commit: %v", err)
		}
	}
}

func TestPendingAbortKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	target := write(t, filepath.Join(dir, "out.onnx"), []byte("old"))
	p, err := CreatePending(target)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(bytes.Repeat([]byte("new"), 1<<20)); err != nil {
		t.Fatal(err)
	}
	p.Abort()
	p.Abort()
	if b, err := os.ReadFile(target); err != nil || string(b) != "old" {
		t.Errorf("%q, %v", b, err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"out.onnx"}) {
		t.Errorf("left: %v", got)
	}
	if err := p.Commit(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Commit after Abort: %v", err)
	}
}

func TestPendingKeepsModeAndLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	real := write(t, filepath.Join(dir, "real", "out.onnx"), []byte("old"))
	link := filepath.Join(dir, "link.onnx")
	if err := os.Symlink(filepath.Join("real", "out.onnx"), link); err != nil {
		t.Skip(err)
	}
	for _, mode := range []fs.FileMode{0o600, 0o666, 0o751} {
		if err := os.Chmod(real, mode); err != nil {
			t.Fatal(err)
		}
		p, err := CreatePending(link)
		if err != nil {
			t.Fatal(err)
		}
		p.Write([]byte(mode.String()))
		if err := p.Commit(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(real)
		if err != nil || info.Mode() != mode {
			t.Errorf("mode %v, want %v, %v", info.Mode(), mode, err)
		}
		if b, _ := os.ReadFile(real); string(b) != mode.String() {
			t.Errorf("holds %q", b)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
			t.Error("the link is gone")
		}
	}
	if got := names(t, filepath.Join(dir, "real")); !slices.Equal(got, []string{"out.onnx"}) {
		t.Errorf("left: %v", got)
	}
}

func TestCreatePendingRefuses(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), nil)
	fifo := filepath.Join(dir, "fifo")
	mkfifo(t, fifo)
	cases := map[string]string{
		dir:                                      "folder, not a file",
		dir + "/":                                "folder, not a file",
		filepath.Join(dir, "none", "out.onnx"):   "no such file or directory",
		filepath.Join(dir, "none") + "/":         "no file name",
		filepath.Join(file, "out.onnx"):          "not a directory",
		fifo:                                     "not a regular file",
		"":                                       "no file name",
		filepath.Join(dir, "x\x00"):              "invalid argument",
		filepath.Join(dir, string(make512("n"))): "file name too long",
	}
	if os.Geteuid() != 0 { // root may write anywhere
		locked := filepath.Join(dir, "locked")
		if err := os.Mkdir(locked, 0o555); err != nil {
			t.Fatal(err)
		}
		cases[filepath.Join(locked, "out.onnx")] = "permission denied"
	}
	before := names(t, dir)
	for target, want := range cases {
		p, err := CreatePending(target)
		if err == nil {
			p.Abort()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "cannot write "+target) {
			t.Errorf("CreatePending(%q): %v, want %q", target, err, want)
		}
		if err != nil && strings.Contains(err.Error(), ".tmp") {
			t.Errorf("%v names the temporary file", err)
		}
	}
	if after := names(t, dir); !slices.Equal(after, before) {
		t.Errorf("left: %v, before %v", after, before)
	}
	long := filepath.Join(dir, strings.Repeat("n", 255))
	p, err := CreatePending(long)
	if err != nil {
		t.Fatalf("a name of 255 bytes: %v", err)
	}
	if err := p.Commit(); err != nil {
		t.Error(err)
	}
}

func make512(s string) []byte { return bytes.Repeat([]byte(s), 512) }

// The target may become a folder while the file is being written.
func TestCommitFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "out.onnx")
	p, err := CreatePending(target)
	if err != nil {
		t.Fatal(err)
	}
	p.Write([]byte("x"))
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); err == nil || !strings.HasPrefix(err.Error(), "cannot write "+target) || strings.Contains(err.Error(), ".tmp") {
		t.Errorf("Commit: %v", err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"out.onnx"}) {
		t.Errorf("left: %v", got)
	}
}
