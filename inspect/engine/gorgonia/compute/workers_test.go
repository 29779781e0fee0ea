package compute

import (
	"sync/atomic"
	"testing"
)

func TestWorkersDoEachPartOnce(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7} {
		for _, parts := range []int{0, 1, 2, 100} {
			done := make([]atomic.Int32, parts)
			(&Workers{n: n}).Do(parts, func(i int) { done[i].Add(1) })
			for i := range done {
				if c := done[i].Load(); c != 1 {
					t.Errorf("%d workers, part %d of %d: done %d times", n, i, parts, c)
				}
			}
		}
	}
}

func TestWorkersPanicReachesTheCaller(t *testing.T) {
	defer func() {
		if v := recover(); v != "part 3" {
			t.Errorf("recovered %v", v)
		}
	}()
	NewWorkers(4).Do(10, func(i int) {
		if i == 3 {
			panic("part 3")
		}
	})
	t.Error("the panic was lost")
}
