package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDigest compares with the definition, and changes what it must notice.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{}
	for i := range 150 {
		name := fmt.Sprintf("%c/%03d.png", 'a'+i%2, i)
		data := pngBytes(t, noise(3, 3, uint64(i)))
		put(t, dir, name, data)
		files[name] = string(data)
	}
	index := func(s *Set) (all []int) {
		for i := range s.Len() {
			all = append(all, i)
		}
		return all
	}
	digest := func(s *Set, index []int) string {
		t.Helper()
		last := 0
		sum, err := s.Digest(t.Context(), index, func(n int) {
			if n <= last {
				t.Errorf("%d samples done after %d", n, last)
			}
			last = n
		})
		if err != nil || last != len(index) {
			t.Fatalf("%d of %d samples, %v", last, len(index), err)
		}
		return sum
	}
	s := mustOpen(t, dir, Options{})
	all := index(s)
	whole := digest(s, all)

	var lines []string
	for name, data := range files {
		lines = append(lines, fmt.Sprintf("%s\x00%d\x00%x\n", name, name[0]-'a', sha256.Sum256([]byte(data))))
	}
	slices.Sort(lines)
	want := sha256.Sum256([]byte(strings.Join(lines, "")))
	if whole != hex.EncodeToString(want[:]) {
		t.Error("the digest is not what its definition says")
	}
	backwards := slices.Clone(all)
	slices.Reverse(backwards)
	if digest(s, backwards) != whole {
		t.Error("the digest depends on the order of the index")
	}
	if digest(s, all[1:]) == whole {
		t.Error("a sample less goes unnoticed")
	}
	if got, err := s.Digest(t.Context(), nil, nil); err != nil || len(got) != 64 {
		t.Errorf("of nothing: %q, %v", got, err)
	}
	put(t, dir, "a/000.png", pngBytes(t, noise(3, 3, 1000)))
	if digest(mustOpen(t, dir, Options{}), all) == whole {
		t.Error("another file of the same name goes unnoticed")
	}
	// An unreadable file is left out by Batches and is no error here.
	if err := os.Remove(filepath.Join(dir, "a", "000.png")); err != nil {
		t.Fatal(err)
	}
	if digest(s, all) == whole {
		t.Error("a missing file goes unnoticed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Digest(ctx, all, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestDigestOfRecords(t *testing.T) {
	dir := t.TempDir()
	data := cifar([]byte{0}, []byte{1}, []byte{2})
	path := put(t, dir, "train.bin", data)
	s := mustOpen(t, path, Options{})
	before, err := s.Digest(t.Context(), []int{0, 1, 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(data))-1); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := s.Digest(t.Context(), []int{0, 1, 2}, nil); !errors.As(err, &e) {
		t.Errorf("a record cut short: %v", err)
	}
	data[5]++
	put(t, dir, "train.bin", data)
	after, err := mustOpen(t, path, Options{}).Digest(t.Context(), []int{0, 1, 2}, nil)
	if err != nil || after == before {
		t.Errorf("other pixels go unnoticed, %v", err)
	}
}

func BenchmarkDigest(b *testing.B) {
	const n = 20000
	labels := make([][]byte, n)
	for i := range labels {
		labels[i] = []byte{byte(i % 10)}
	}
	data := cifar(labels...)
	s := mustOpen(b, put(b, b.TempDir(), "train.bin", data), Options{})
	index := make([]int, s.Len())
	for i := range index {
		index[i] = i
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := s.Digest(b.Context(), index, nil); err != nil {
			b.Fatal(err)
		}
	}
}
