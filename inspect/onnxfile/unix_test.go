//go:build unix

package onnxfile

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func mkfifo(t testing.TB, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
}

// A full disk is played by the limit on the size of files, which applies to a
// whole process; so a child writes.
func TestFullDisk(t *testing.T) {
	const key = "FILTERLENS_TEST_FULL_DISK"
	if target := os.Getenv(key); target != "" {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 21, Max: 1 << 21}); err != nil {
			t.Skip(err)
		}
		p, err := CreatePending(target)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Abort()
		f := read(t, marshal(t, modelOf(floats("w", make([]float32, 1<<20)...))))
		if _, err := f.Draft().WriteTo(p); !errors.Is(err, syscall.EFBIG) || !strings.HasPrefix(err.Error(), "cannot write "+target) {
			t.Errorf("WriteTo: %v", err)
		}
		if err := p.Commit(); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("Commit: %v", err)
		}
		return
	}
	dir := t.TempDir()
	target := write(t, filepath.Join(dir, "out.onnx"), []byte("old"))
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), key+"="+target)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "SKIP") {
		t.Skip("no limit on the size of files here")
	}
	if b, err := os.ReadFile(target); err != nil || string(b) != "old" {
		t.Errorf("target holds %q, %v", b, err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"out.onnx"}) {
		t.Errorf("left: %v", got)
	}
}
