package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// numberedSet holds n images of 2x2 pixels that all have the value of their
// number.
func numberedSet(t testing.TB, n int) *Set {
	t.Helper()
	dir := t.TempDir()
	var pixels, labels []byte
	for i := range n {
		pixels = append(pixels, byte(i), byte(i), byte(i), byte(i))
		labels = append(labels, byte(i%3))
	}
	put(t, dir, "labels", idx(idxUint8, []int{n}, labels))
	return mustOpen(t, put(t, dir, "images", idx(idxUint8, []int{n, 2, 2}, pixels)), Options{})
}

func unitTransform() *Transform { return &Transform{Channels: 1, Height: 2, Width: 2} }

// settled waits for goroutines that have said they are done to be gone.
func settled(t *testing.T, before int) {
	t.Helper()
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func TestBatches(t *testing.T) {
	s := numberedSet(t, 200)
	var all []int
	for i := range s.Len() {
		all = append(all, i)
	}
	before := runtime.NumGoroutine()
	for _, workers := range []int{0, 1, 3, 100} {
		for name, plan := range map[string][][]int{
			"sequential": Sequential(all, 7), "shuffled": Shuffled(all, 7, 1, 2), "by label": s.ByLabel(all, 7),
			"one": Sequential(all, 0), "none": nil, "holes": {nil, {5, 5}, {}, {6}},
		} {
			want := slices.DeleteFunc(slices.Clone(plan), func(p []int) bool { return len(p) == 0 })
			k := 0
			for b, err := range s.Batches(t.Context(), plan, unitTransform(), workers) {
				if err != nil {
					t.Fatal(err)
				}
				if k >= len(want) || !slices.Equal(b.Index, want[k]) || len(b.X) != 4*len(b.Index) || len(b.Skipped) != 0 {
					t.Fatalf("%s, %d workers: batch %d is %v, %d values", name, workers, k, b.Index, len(b.X))
				}
				for j, i := range b.Index {
					if b.Labels[j] != i%3 || b.X[4*j] != float32(i)/255 || b.X[4*j+3] != float32(i)/255 {
						t.Fatalf("%s: sample %d has label %d and values %v", name, i, b.Labels[j], b.X[4*j:4*j+4])
					}
				}
				k++
			}
			if k != len(want) {
				t.Errorf("%s, %d workers: %d batches, want %d", name, workers, k, len(want))
			}
		}
	}
	settled(t, before)
}

func TestBatchesStop(t *testing.T) {
	s := numberedSet(t, 200)
	var all []int
	for i := range s.Len() {
		all = append(all, i)
	}
	before := runtime.NumGoroutine()
	for stop := range 5 {
		k := 0
		for _, err := range s.Batches(t.Context(), Sequential(all, 3), unitTransform(), 3) {
			if err != nil {
				t.Fatal(err)
			}
			if k == stop {
				break
			}
			k++
		}
	}
	settled(t, before)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	k := 0
	for b, err := range s.Batches(ctx, Sequential(all, 3), unitTransform(), 3) {
		if last = err; err != nil {
			if len(b.Index) != 0 {
				t.Error("an error comes with a batch")
			}
			continue
		}
		if k++; k == 2 {
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) || k != 2 {
		t.Errorf("cancelled after 2 batches: %d batches, error %v", k, last)
	}
	settled(t, before)

	func() {
		defer func() { recover() }()
		for range s.Batches(t.Context(), Sequential(all, 3), unitTransform(), 3) {
			panic("consumer fails")
		}
	}()
	settled(t, before)
}

func TestBatchesTransformError(t *testing.T) {
	s := numberedSet(t, 2)
	for _, tr := range []*Transform{nil, {}} {
		k := 0
		for _, err := range s.Batches(t.Context(), [][]int{{0}}, tr, 1) {
			var e *Error
			if k++; !errors.As(err, &e) || e.Op != "transform" {
				t.Errorf("error %v", err)
			}
		}
		if k != 1 {
			t.Errorf("%d iterations, want 1", k)
		}
	}
}

func TestBatchesSkip(t *testing.T) {
	dir := t.TempDir()
	good := pngBytes(t, noise(2, 2, 1))
	bad := good[:len(good)-20]
	for i, data := range [][]byte{good, bad, good, bad, bad, good, bad} {
		put(t, dir, fmt.Sprintf("a/%d.png", i), data)
	}
	s := mustOpen(t, dir, Options{})
	tr := &Transform{Channels: 3, Height: 2, Width: 2}
	for range 2 { // a second pass does not count them again
		var got []string
		for b, err := range s.Batches(t.Context(), [][]int{{0, 1, 2}, {3, 4}, {5}, {6}}, tr, 2) {
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, k := range b.Skipped {
				names = append(names, k.Name)
			}
			got = append(got, fmt.Sprint(b.Index, len(b.X), names))
		}
		want := []string{"[0 2] 24 [a/1.png]", "[5] 12 [a/3.png a/4.png]"}
		if !slices.Equal(got, want) {
			t.Errorf("batches %q, want %q", got, want)
		}
		sk := s.Skipped()
		if len(sk) != 4 || sk[3].Name != "a/6.png" || !strings.HasPrefix(sk[3].Reason, "PNG: ") {
			t.Errorf("skipped %v", sk)
		}
	}

	var last error
	n := 0
	for _, err := range s.Batches(t.Context(), [][]int{{1}, {3, 4}}, tr, 2) {
		last = err
		n++
	}
	if !errors.Is(last, ErrEmpty) || n != 1 || !strings.Contains(last.Error(), "none of 3 images could be decoded, the first is a/1.png (PNG: ") {
		t.Errorf("all bad: %v", last)
	}
	if _, err := s.Decode(1); err == nil || !strings.HasPrefix(err.Error(), "cannot decode a/1.png: PNG: ") {
		t.Errorf("decode: %v", err)
	}
}

// TestBatchesFileShrinks: a record that cannot be read any more is an error,
// not a skip.
func TestBatchesFileShrinks(t *testing.T) {
	dir := t.TempDir()
	file := put(t, dir, "train.bin", cifar([]byte{1}, []byte{2}))
	s := mustOpen(t, dir, Options{})
	if err := os.Truncate(file, 4000); err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range s.Batches(t.Context(), [][]int{{0}, {1}}, &Transform{Channels: 3, Height: 32, Width: 32}, 1) {
		last = err
	}
	if !errors.Is(last, ErrFormat) || !strings.Contains(last.Error(), "train.bin#1: file became shorter") {
		t.Errorf("error %v", last)
	}
}

func TestPlans(t *testing.T) {
	s := unread([]int32{0, 1, 0, 0, 2, 1, 0}, nil)
	if got, want := fmt.Sprint(s.ByLabel([]int{6, 5, 4, 3, 2, 0}, 3)), "[[6 3 2] [0] [5] [4]]"; got != want {
		t.Errorf("by label %s, want %s", got, want)
	}
	index := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	a, b := Shuffled(index, 4, 1, 1), Shuffled(index, 4, 1, 2)
	if fmt.Sprint(a) == fmt.Sprint(b) {
		t.Error("two epochs have one order")
	}
	if got, want := fmt.Sprint(a), "[[3 5 8 2] [7 1 6 4] [0 9]]"; got != want {
		t.Errorf("shuffled %s, want %s", got, want)
	}
	flat := slices.Sorted(slices.Values(slices.Concat(a...)))
	if !slices.Equal(flat, index) || len(a[0]) != 4 || len(a[2]) != 2 {
		t.Errorf("shuffled %v", a)
	}
	a[0][0] = -1
	if Sequential(index, 3)[0][0] != 0 || len(Sequential(nil, 3)) != 0 {
		t.Error("a plan shares memory with its index, or is made of nothing")
	}
}

func drain(b *testing.B, s *Set, plan [][]int, tr *Transform, workers int) {
	n := 0
	for b.Loop() {
		for batch, err := range s.Batches(b.Context(), plan, tr, workers) {
			if err != nil {
				b.Fatal(err)
			}
			n += len(batch.Index)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "images/s")
}

func BenchmarkBatchesCIFAR(b *testing.B) {
	dir := b.TempDir()
	put(b, dir, "train.bin", bytes.Repeat(cifar([]byte{1}), 2000))
	s := mustOpen(b, dir, Options{})
	p, err := Preset("imagenet")
	if err != nil {
		b.Fatal(err)
	}
	tr, err := p.Transform([]int64{-1, 3, 32, 32})
	if err != nil {
		b.Fatal(err)
	}
	var all []int
	for i := range s.Len() {
		all = append(all, i)
	}
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) { drain(b, s, Sequential(all, 100), tr, workers) })
	}
}

func BenchmarkBatchesJPEG(b *testing.B) {
	dir := b.TempDir()
	var jpg bytes.Buffer
	// Noise smoothed by enlarging, so that the file is about as large as a
	// photograph of this size.
	small := new(Image)
	fromGo(noise(60, 45, 1), small, nil)
	big := resample(small, new(Image), new(scratch), 375, 500, window{0, 0, 375, 500})
	m := noise(500, 375, 1)
	for i := range 500 * 375 {
		m.Pix[4*i], m.Pix[4*i+1], m.Pix[4*i+2] = big.plane(0)[i], big.plane(1)[i], big.plane(2)[i]
	}
	if err := jpeg.Encode(&jpg, m, &jpeg.Options{Quality: 90}); err != nil {
		b.Fatal(err)
	}
	var all []int
	for i := range 100 {
		put(b, dir, filepath.Join("a", fmt.Sprint(i)), jpg.Bytes())
		all = append(all, i)
	}
	s := mustOpen(b, dir, Options{})
	p, err := Preset("imagenet")
	if err != nil {
		b.Fatal(err)
	}
	tr, err := p.Transform([]int64{-1, 3, 224, 224})
	if err != nil {
		b.Fatal(err)
	}
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) { drain(b, s, Sequential(all, 10), tr, workers) })
	}
}
