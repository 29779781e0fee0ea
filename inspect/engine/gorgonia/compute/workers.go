// Package compute holds the arithmetic of the pure-Go engine: matrix products,
// convolutions, pooling, functions of single numbers and the like, over slices
// of numbers in row-major order and plain shapes. It knows neither ONNX nor
// graphs; who calls it has checked the shapes.
//
// Results do not depend on the number of workers: work is cut by shape alone,
// and every sum is formed in one order.
package compute

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Workers spreads work over a fixed number of goroutines. It is safe for
// concurrent use; the zero value works alone.
type Workers struct {
	n int
}

// NewWorkers returns n workers, one for each processor that Go may use when n is
// not positive.
func NewWorkers(n int) *Workers {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return &Workers{n: n}
}

// N returns how many work at once, at least 1.
func (w *Workers) N() int {
	if w == nil {
		return 1
	}
	return max(1, w.n)
}

// Do calls f once for every part in [0, parts), on at most N goroutines, and
// returns when all are done. Which goroutine does which part is open, so f may
// depend on nothing but the part. A panic of f is raised again in the caller,
// after the others have ended.
func (w *Workers) Do(parts int, f func(part int)) {
	n := min(w.N(), parts)
	if n <= 1 {
		for i := range parts {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var failed atomic.Pointer[any]
	work := func() {
		defer func() {
			if v := recover(); v != nil {
				failed.CompareAndSwap(nil, &v)
			}
		}()
		for failed.Load() == nil {
			i := int(next.Add(1)) - 1
			if i >= parts {
				return
			}
			f(i)
		}
	}
	var wg sync.WaitGroup
	for range n - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if v := failed.Load(); v != nil {
		panic(*v)
	}
}
