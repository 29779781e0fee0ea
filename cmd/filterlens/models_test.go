package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestInOrder(t *testing.T) {
	items := make([]int, 100)
	for i := range items {
		items[i] = i
	}
	var now, most atomic.Int64
	work := func(_ context.Context, i int) int {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		time.Sleep(time.Duration((i*7)%5) * 100 * time.Microsecond)
		return i
	}
	if got := slices.Collect(inOrder(t.Context(), items, work)); !slices.Equal(got, items) {
		t.Errorf("got %v", got)
	}
	if limit := int64(2*runtime.GOMAXPROCS(0) + 2); most.Load() > limit {
		t.Errorf("%d at once, at most %d are meant", most.Load(), limit)
	}
	if got := slices.Collect(inOrder(t.Context(), nil, work)); got != nil {
		t.Errorf("of nothing: %v", got)
	}
	// A reader that stops, and a context that ends, leave nothing running.
	for range inOrder(t.Context(), items, work) {
		break
	}
	if n := now.Load(); n != 0 {
		t.Errorf("after a break %d are running", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	for range inOrder(ctx, items, work) {
		if seen++; seen == 5 {
			cancel()
		}
	}
	if seen == len(items) || now.Load() != 0 {
		t.Errorf("after a cancel: %d seen, %d running", seen, now.Load())
	}
}

// Links are not followed, so that no folder is walked twice or for ever.
func TestModelsBelow(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.onnx", "a/x.ONNX", "a/y.txt", "a/b/c.onnx"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..", filepath.Join(dir, "a", "loop")); err != nil {
		t.Skip(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{dir, link} {
		paths, many, err := modelPaths([]string{root})
		want := []string{filepath.Join(root, "a/b/c.onnx"), filepath.Join(root, "a/x.ONNX"), filepath.Join(root, "b.onnx")}
		if err != nil || !many || !slices.Equal(paths, want) {
			t.Errorf("%q, %v, %v, want %q", paths, many, err, want)
		}
	}
}
