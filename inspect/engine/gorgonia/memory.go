package gorgonia

import (
	"slices"
	"sync"
	"unsafe"
)

// Memory is counted in words of eight bytes. Tensors begin at multiples of
// memoryUnit words, a cache line.
const memoryUnit = 8

// words is what n bytes take.
func words(n int) int { return (n + 8*memoryUnit - 1) / (8 * memoryUnit) * memoryUnit }

// layout places tensors of different lifetimes in one piece of memory: each where
// it fits best among the gaps that those before it have left.
type layout struct {
	gaps []gap // by offset, never touching
	end  int
}

// gap is a range of words.
type gap struct{ at, n int }

// take returns the offset of n free words.
func (l *layout) take(n int) int {
	if n == 0 {
		return 0
	}
	best := -1
	for i, g := range l.gaps {
		if g.n >= n && (best < 0 || g.n < l.gaps[best].n) {
			best = i
		}
	}
	if best < 0 {
		at := l.end
		if k := len(l.gaps) - 1; k >= 0 && l.gaps[k].at+l.gaps[k].n == l.end {
			at = l.gaps[k].at
			l.gaps = l.gaps[:k]
		}
		l.end = at + n
		return at
	}
	g := &l.gaps[best]
	at := g.at
	if g.at, g.n = g.at+n, g.n-n; g.n == 0 {
		l.gaps = slices.Delete(l.gaps, best, best+1)
	}
	return at
}

// give returns n words at an offset that take returned.
func (l *layout) give(at, n int) {
	if n == 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(l.gaps, at, func(g gap, at int) int { return g.at - at })
	if i < len(l.gaps) && at+n == l.gaps[i].at {
		l.gaps[i].at, l.gaps[i].n = at, n+l.gaps[i].n
	} else {
		l.gaps = slices.Insert(l.gaps, i, gap{at, n})
	}
	if i > 0 && l.gaps[i-1].at+l.gaps[i-1].n == l.gaps[i].at {
		l.gaps[i-1].n += l.gaps[i].n
		l.gaps = slices.Delete(l.gaps, i, i+1)
	}
}

// scratch is memory that kernels use while they run. What one kernel has given
// back serves the next one; since kernels run one after the other, it grows to
// what the most demanding one needs.
type scratch struct {
	mu         sync.Mutex
	free, used [][]uint64
}

// get returns n words.
func (s *scratch) get(n int) []uint64 {
	if n == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	best, largest := -1, -1
	for i, b := range s.free {
		if len(b) >= n && (best < 0 || len(b) < len(s.free[best])) {
			best = i
		}
		if largest < 0 || len(b) > len(s.free[largest]) {
			largest = i
		}
	}
	var b []uint64
	switch {
	case best >= 0:
		b = s.free[best]
		s.free = slices.Delete(s.free, best, best+1)
	case largest >= 0:
		// The new piece takes the place of one that was too small.
		s.free = slices.Delete(s.free, largest, largest+1)
		fallthrough
	default:
		b = make([]uint64, n)
	}
	s.used = append(s.used, b)
	return b
}

// put takes back what get returned, as floats. Anything else is left alone.
func (s *scratch) put(buf []float32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.used {
		if unsafe.Pointer(unsafe.SliceData(b)) == unsafe.Pointer(unsafe.SliceData(buf)) {
			s.used = slices.Delete(s.used, i, i+1)
			s.free = append(s.free, b)
			return
		}
	}
}

// reclaim takes everything back.
func (s *scratch) reclaim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, s.used...)
	clear(s.used)
	s.used = s.used[:0]
}
