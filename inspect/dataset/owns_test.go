package dataset

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOwns(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	record := make([]byte, 3073)
	bin := write("cifar/data.bin", record)
	names := write("cifar/batches.meta.txt", []byte("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n"))
	report := write("cifar/stats.json", nil)
	outside := write("other.bin", record)
	for _, root := range []string{bin, filepath.Join(dir, "cifar")} {
		if root != bin {
			write("cifar/train.bin", record)
			write("cifar/test.bin", record)
			os.Remove(bin)
		}
		s, err := Open(root, Options{})
		if err != nil {
			t.Fatal(err)
		}
		own := bin
		if root != bin {
			own = filepath.Join(root, "test.bin")
		}
		for path, want := range map[string]bool{own: true, names: true, report: false, outside: false, filepath.Join(dir, "cifar", "new.bin"): false, dir: false} {
			if s.Owns(path) != want {
				t.Errorf("%s: Owns(%s) = %v", root, path, !want)
			}
		}
		s.Close()
	}
}

func TestOwnsArchives(t *testing.T) {
	dir := t.TempDir()
	own := put(t, dir, "data/train.parquet", parquetBytes(t, hfRows(t, 2)))
	other := put(t, dir, "report.html", nil)
	s := mustOpen(t, dir, Options{})
	if !s.Owns(own) || s.Owns(other) {
		t.Errorf("Owns(%s) %v, Owns(%s) %v", own, s.Owns(own), other, s.Owns(other))
	}
	file := put(t, t.TempDir(), "x.tar", tarBytes(t, tarFile{"1.png", tiny(t, 0)}, tarFile{"1.cls", []byte("0")}))
	if s := mustOpen(t, file, Options{}); !s.Owns(file) {
		t.Errorf("Owns(%s) false", file)
	}
}

func TestSkippedText(t *testing.T) {
	list := []Skipped{{"a", "x"}, {"b", "y"}, {"c", "z"}, {"d", "w"}, {"e", "v"}}
	for n, want := range map[int]string{0: "", 1: "a (x)", 3: "a (x), b (y), c (z)", 5: "a (x), b (y), c (z) and 2 more"} {
		if got := SkippedText(list[:n]); got != want {
			t.Errorf("%d files: %q, want %q", n, got, want)
		}
	}
}
