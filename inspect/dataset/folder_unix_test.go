//go:build unix

package dataset

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestOpenFolderLinks: links to class folders and images are followed, a link
// further down is not (it may lead in a circle), and a pipe is not waited for.
func TestOpenFolderLinks(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	img := put(t, other, "cat/1.png", pngBytes(t, noise(2, 2, 1)))
	put(t, dir, "dog/1.png", pngBytes(t, noise(2, 2, 2)))
	for name, target := range map[string]string{
		"cat": filepath.Join(other, "cat"), "dog/2.png": img, "dog/loop": dir, "dog/lost.png": filepath.Join(dir, "nowhere"),
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "dog", "pipe.png"), 0o666); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir, Options{})
	if want := []string{"cat/1.png", "dog/1.png", "dog/2.png"}; !slices.Equal(ids(s), want) {
		t.Errorf("samples %q, want %q", ids(s), want)
	}
	want := []Skipped{{"dog/loop", "a link to a folder below a class is not followed"},
		{"dog/lost.png", "no such file or directory"}, {"dog/pipe.png", "not a regular file"}}
	if !slices.Equal(s.Skipped(), want) {
		t.Errorf("skipped %q, want %q", s.Skipped(), want)
	}
}
