//go:build cgo

package ort

import "testing"

func TestOpenRefusesThreads(t *testing.T) {
	for _, n := range []int{-1, 100000} {
		if e, err := Open(t.Context(), Options{Threads: n}); err == nil {
			e.Close()
			t.Errorf("%d threads were accepted", n)
		}
	}
}
