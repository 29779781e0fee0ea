package dataset

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// snap encodes with another implementation.
func snap(t testing.TB, data []byte) []byte {
	t.Helper()
	out, err := parquet.Snappy.Encode(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// mixed is n bytes in which noise, runs and repetitions of earlier bytes, near
// and far, take turns: all elements of the format occur.
func mixed(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 2))
	out := make([]byte, 0, n)
	for len(out) < n {
		k := 1 + rng.IntN(5000)
		switch kind := rng.IntN(4); {
		case kind == 0 || len(out) == 0:
			for range k {
				out = append(out, byte(rng.Uint32()))
			}
		case kind == 1:
			out = append(out, bytes.Repeat([]byte{byte(k)}, k)...)
		default:
			from := max(0, len(out)-1-rng.IntN(min(len(out), 70_000)))
			for i := range k {
				out = append(out, out[from+i])
			}
		}
	}
	return out[:n]
}

func TestSnappy(t *testing.T) {
	for _, test := range []struct {
		name string
		data []byte
	}{
		{"empty", nil},
		{"short", []byte("abc")},
		{"run", bytes.Repeat([]byte("ab"), 200_000)},
		{"mixed", mixed(600_000, 1)},
		{"noise", noise(300, 300, 5).Pix},
	} {
		t.Run(test.name, func(t *testing.T) {
			block := snap(t, test.data)
			got, points, err := snappyIndex(nil, block)
			if err != nil || !bytes.Equal(got, test.data) {
				t.Fatalf("%d bytes of %d, %v", len(got), len(test.data), err)
			}
			rng := rand.New(rand.NewPCG(3, 4))
			for range 60 {
				if len(test.data) == 0 {
					break
				}
				a := rng.IntN(len(test.data))
				b := a + 1 + rng.IntN(min(len(test.data)-a, 100_000))
				p, in, end := snappyRange(points, a, b)
				if end == 0 {
					end = len(block)
				}
				out, err := unsnap(nil, block[in:end], int(p.lit), b-int(p.out), nil, nil)
				if err != nil || !bytes.Equal(out[a-int(p.out):], test.data[a:b]) {
					t.Fatalf("%d to %d from %+v: %v", a, b, p, err)
				}
			}
		})
	}
}

// TestSnappyPoints: of what does not compress, a small part is decoded for a
// small range.
func TestSnappyPoints(t *testing.T) {
	data := noise(1000, 1000, 1).Pix
	for i := range data {
		data[i] ^= byte(i * 7)
	}
	_, points, err := snappyIndex(nil, snap(t, data))
	if err != nil {
		t.Fatal(err)
	}
	if want := len(data) / seekStep / 2; len(points) < want {
		t.Errorf("%d points for %d bytes, want %d at least", len(points), len(data), want)
	}
	for a := 0; a+1000 < len(data); a += 100_000 {
		p, in, end := snappyRange(points, a, a+1000)
		if end != 0 && (a-int(p.out) > 2*seekStep || end-in > 4*seekStep) {
			t.Errorf("range at %d reads %d bytes from %d on", a, end-in, p.out)
		}
	}
}

func TestSnappyDamaged(t *testing.T) {
	for _, block := range [][]byte{
		nil, {0x80}, {255, 255, 255, 255, 15, 0}, // no length, a length that lies
		{4, 0x0c, 1, 2},        // a literal that is cut off
		{4, 0x00, 9, 0x01},     // a copy that is cut off
		{8, 0x00, 9, 0x0d, 0},  // offset 0
		{8, 0x00, 9, 0x0d, 99}, // before the beginning
		{4, 0xf0}, {4, 0x02, 1}, {4, 0x03, 1, 0, 0},
	} {
		if got, _, err := snappyIndex(nil, block); err == nil {
			t.Errorf("%v gives %v", block, got)
		}
	}
}

func FuzzSnappy(f *testing.F) {
	f.Add(snap(f, mixed(3000, 1)), uint16(10), uint16(100))
	f.Add(snap(f, []byte("abcabcabc")), uint16(1), uint16(3))
	f.Add([]byte{8, 0x00, 9, 0x0d, 1}, uint16(0), uint16(8))
	f.Fuzz(func(t *testing.T, block []byte, at, length uint16) {
		data, points, err := snappyIndex(nil, block)
		if err != nil {
			return
		}
		// The other decoder also refuses what follows the last byte.
		if want, err := parquet.Snappy.Decode(nil, block); err == nil && !bytes.Equal(want, data) {
			t.Fatalf("%d bytes, want %d", len(data), len(want))
		}
		a, b := int(at), int(at)+int(length)
		if b > len(data) || a == b {
			return
		}
		p, in, end := snappyRange(points, a, b)
		if end == 0 {
			end = len(block)
		}
		out, err := unsnap(nil, block[in:end], int(p.lit), b-int(p.out), nil, nil)
		if err != nil || !bytes.Equal(out[a-int(p.out):], data[a:b]) {
			t.Fatalf("range %d to %d: %v", a, b, err)
		}
	})
}
