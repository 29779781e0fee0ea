package gorgonia

import (
	"context"
	"fmt"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
)

// kernel is a node bound to the shapes of its inputs: what a rule's bind returns.
// It is used by one goroutine at a time, and for many runs.
type kernel interface {
	// results describes the node's outputs, at least as many as the node has.
	results() []spec
	// run computes the node. in holds the inputs, nil for an optional one that is
	// left out; they are never written to. out[i] has memory for results()[i],
	// whose contents are undefined and which never overlaps an input; it is nil for
	// an output, other than the first, that nobody reads. Nothing of in and out may
	// be kept. A kernel that fails, or panics, ends the run with an error that names
	// its node. Kernels whose results are all empty are not run.
	run(r *run, in, out []*value) error
}

// run is what a kernel may use while it runs.
type run struct {
	// ctx ends the run; kernels that take long may ask it in between.
	ctx     context.Context
	workers *compute.Workers
	scratch *scratch
}

// floats returns memory for n numbers, of undefined content. It goes back to the
// session by release, or by itself when the kernel returns. floats and release
// may be called from several goroutines.
func (r *run) floats(n int) []float32 { return slice[float32](r.scratch.get((n+1)/2), n) }

// release gives memory back that floats returned, so that the same kernel can
// have it again.
func (r *run) release(buf []float32) { r.scratch.put(buf) }

// view is a kernel whose result has the numbers of its first input under another
// shape. It shares that input's memory and is never run.
type view struct{ spec }

func (k view) results() []spec { return []spec{k.spec} }

func (k view) run(*run, []*value, []*value) error { return fmt.Errorf("a view is not run") }

// fixed is a kernel whose results are known when it is bound, though its inputs
// may not be: what Shape makes. It is never run.
type fixed []*value

func (k fixed) results() []spec {
	s := make([]spec, len(k))
	for i, v := range k {
		s[i] = v.spec()
	}
	return s
}

func (k fixed) run(*run, []*value, []*value) error { return fmt.Errorf("a known result is not run") }

// each is a kernel of one result that is made by a function.
type each struct {
	spec
	f func(r *run, in []*value, out *value) error
}

func (k *each) results() []spec { return []spec{k.spec} }

func (k *each) run(r *run, in, out []*value) error { return k.f(r, in, out[0]) }
