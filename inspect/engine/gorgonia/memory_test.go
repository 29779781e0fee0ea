package gorgonia

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// What is taken at the same time never overlaps, what was given back is used
// again, and in the end one gap is left.
func TestLayoutPlacesWithoutOverlap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		var l layout
		var held []gap
		peak, now := 0, 0
		for range 500 {
			if len(held) > 0 && (r.IntN(2) == 0 || len(held) > 12) {
				k := r.IntN(len(held))
				l.give(held[k].at, held[k].n)
				now -= held[k].n
				held = slices.Delete(held, k, k+1)
				continue
			}
			n := words(8 * r.IntN(1000))
			at := l.take(n)
			if at%memoryUnit != 0 || at+n > l.end {
				t.Fatalf("%d words at %d of %d", n, at, l.end)
			}
			for _, h := range held {
				if n > 0 && h.n > 0 && at < h.at+h.n && h.at < at+n {
					t.Fatalf("[%d, %d) overlaps [%d, %d)", at, at+n, h.at, h.at+h.n)
				}
			}
			held = append(held, gap{at, n})
			now += n
			peak = max(peak, now)
		}
		if l.end > 2*peak {
			t.Errorf("seed %d: %d words for at most %d at once", seed, l.end, peak)
		}
		for _, h := range held {
			l.give(h.at, h.n)
		}
		if len(l.gaps) != 1 || l.gaps[0] != (gap{0, l.end}) {
			t.Errorf("seed %d: gaps %v of %d words are left", seed, l.gaps, l.end)
		}
	}
}

// Two tensors that follow each other, as in a network without branches, take the
// room of two.
func TestLayoutOfAChain(t *testing.T) {
	var l layout
	sizes := []int{64, 64, 16, 32, 32, 8, 64}
	before := l.take(sizes[0])
	for i, n := range sizes[1:] {
		at := l.take(n)
		l.give(before, sizes[i])
		before = at
	}
	if l.end != 128 {
		t.Errorf("%d words in place of 128", l.end)
	}
}

func TestScratchIsUsedAgain(t *testing.T) {
	r := &run{scratch: new(scratch)}
	total := func() (n int) {
		for _, b := range slices.Concat(r.scratch.free, r.scratch.used) {
			n += len(b)
		}
		return n
	}
	for range 3 {
		for _, kernel := range [][]int{{100}, {1000, 10}, {0}, {500, 400, 10}} {
			var bufs [][]float32
			for _, n := range kernel {
				b := r.floats(n)
				if len(b) != n {
					t.Fatalf("%d numbers in place of %d", len(b), n)
				}
				for i := range b {
					b[i] = float32(n)
				}
				bufs = append(bufs, b)
			}
			for i, b := range bufs {
				if slices.ContainsFunc(b, func(x float32) bool { return x != float32(kernel[i]) }) {
					t.Fatal("two pieces overlap")
				}
			}
			r.scratch.reclaim()
		}
	}
	if n := total(); n != 500+200+5 {
		t.Errorf("%d words are kept, the most demanding kernels need 705", n)
	}
	a := r.floats(7)
	r.release(a)
	if b := r.floats(7); &a[0] != &b[0] {
		t.Error("what was given back is not used again")
	}
	r.release(make([]float32, 7)) // a stranger
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				r.release(r.floats(50))
			}
		})
	}
	wg.Wait()
}
