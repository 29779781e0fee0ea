package state

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"
)

func block(n int) []float32 {
	v := make([]float32, 5)
	for i := range v {
		v[i] = float32(10*n + i)
	}
	return v
}

// write appends the blocks from to to-1, each as two arrays.
func write(t testing.TB, r *Rows, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		v := block(n)
		if err := r.Append(fmt.Appendf(nil, "block %d", n), v[:2], v[2:]); err != nil {
			t.Fatal(err)
		}
	}
}

// read reads all blocks and returns how many there are; they must be block 0, 1, ...
func read(t testing.TB, r *Rows) int {
	t.Helper()
	for n := 0; ; n++ {
		note, values, ok := r.Next()
		if !ok {
			return n
		}
		v := make([]float32, values)
		if !r.Fill(v) {
			return n
		}
		if string(note) != fmt.Sprintf("block %d", n) || !slices.Equal(v, block(n)) {
			t.Fatalf("block %d is %q %v", n, note, v)
		}
	}
}

func rows(t testing.TB, s *Store, key Key) *Rows {
	t.Helper()
	r, err := s.Rows("features", key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestRowsGoOn(t *testing.T) {
	s, lines := opened(t)
	key := KeyOf("x")
	r := rows(t, s, key)
	if n := read(t, r); n != 0 {
		t.Errorf("%d blocks in a new file", n)
	}
	write(t, r, 0, 3)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = rows(t, s, key)
	if n := read(t, r); n != 3 {
		t.Errorf("%d blocks, want 3", n)
	}
	write(t, r, 3, 5)
	r.Close()
	r = rows(t, s, key)
	if n := read(t, r); n != 5 {
		t.Errorf("%d blocks, want 5", n)
	}
	r.Close()
	// Appending after two blocks were read cuts off the rest, also where the note
	// of the third was looked at.
	r = rows(t, s, key)
	for range 2 {
		r.Next()
		r.Fill(make([]float32, 5))
	}
	r.Next()
	write(t, r, 2, 3)
	r.Close()
	r = rows(t, s, key)
	if n := read(t, r); n != 3 {
		t.Errorf("%d blocks, want 3", n)
	}
	r.Close()
	if len(*lines) > 0 {
		t.Errorf("logged %q", *lines)
	}
}

// TestRowsAfterAKill cuts the file at many lengths and changes many bytes.
func TestRowsAfterAKill(t *testing.T) {
	s, _ := opened(t)
	key := KeyOf("x")
	r := rows(t, s, key)
	write(t, r, 0, 3)
	r.Close()
	file := only(t, s, "rows")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	each := (len(good) - rowsHead) / 3
	check := func(what string, data []byte, want int) {
		t.Helper()
		if err := os.WriteFile(file, data, 0o666); err != nil {
			t.Fatal(err)
		}
		r := rows(t, s, key)
		if n := read(t, r); n != want {
			t.Fatalf("%s: %d blocks, want %d", what, n, want)
		}
		write(t, r, want, 3)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, good) {
			t.Fatalf("%s: written again it is another file, %v", what, err)
		}
	}
	for n := 0; n < len(good); n += 5 {
		check(fmt.Sprintf("cut to %d", n), good[:n], max(0, n-rowsHead)/each)
		bad := bytes.Clone(good)
		bad[n] ^= 1
		check(fmt.Sprintf("byte %d changed", n), bad, max(0, n-rowsHead)/each)
	}
	check("zeros for the last block", append(bytes.Clone(good[:rowsHead+2*each]), make([]byte, 200)...), 2)
}

func FuzzRows(f *testing.F) {
	s, _ := opened(f)
	key := KeyOf("x")
	r := rows(f, s, key)
	write(f, r, 0, 2)
	r.Close()
	file := only(f, s, "rows")
	good, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[rowsHead:])
	f.Add(good[rowsHead : len(good)-3])
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, append(bytes.Clone(good[:rowsHead]), data...), 0o666); err != nil {
			t.Fatal(err)
		}
		r, err := s.Rows("features", key)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		total := 0
		for {
			note, values, ok := r.Next()
			if !ok {
				break
			}
			if total += len(note) + 4*int(values); total > len(data) {
				t.Fatalf("%d bytes out of %d", total, len(data))
			}
			if !r.Fill(make([]float32, values)) {
				break
			}
		}
		if err := r.Append([]byte("more"), []float32{1}); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkRows(b *testing.B) {
	s, _ := opened(b)
	v := make([]float32, 1<<20)
	b.SetBytes(int64(4 * len(v)))
	r := rows(b, s, KeyOf("x"))
	for b.Loop() {
		if err := r.Append(nil, v); err != nil {
			b.Fatal(err)
		}
		if r.n == 64 {
			b.StopTimer()
			r.Close()
			s.Remove("features", KeyOf("x"))
			r = rows(b, s, KeyOf("x"))
			b.StartTimer()
		}
	}
}
