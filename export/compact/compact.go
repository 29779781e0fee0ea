// Package compact makes a model smaller without changing what it computes: it
// removes channels that nothing reads, channels that are the same for every
// input, and channels that the caller asks to be rid of, through everything that
// is coupled to them.
//
// A Plan says what goes and why; Apply writes it into a draft. Both read the
// stored weights and run nothing. Which channels are worth less than others is
// decided elsewhere, and so is whether the result pays: neither a runtime nor
// data may enter.
//
// # How it works
//
// Of every tensor one axis is tracked, that of its channels; its places are
// slots. Each operator that works channel by channel joins the slots of what it
// reads and writes (union-find), so that a class of joined slots is what one
// decision removes: a channel. An operator that mixes channels with stored
// weights (a convolution, a matrix product) is a reader: it reads a channel when
// one of its kernels for it is not zero. An operator without a rule is a barrier,
// which fixes all channels that it touches.
//
// A channel goes when no reader needs it: because all kernels for it are zero or
// belong to outputs that go themselves, or because its value at that reader is
// one number, which is 0 or can be added to the reader's bias. Where padding keeps
// it from the bias, one constant channel of a group stays and stands for the
// others. What goes is found from the outputs back until nothing more can go.
//
// Where the kernels of a convolution fall into blocks that no other kernel joins,
// FindBlocks tells how it can be computed in groups, and ApplyBlocks does so: channels
// are put into another order through everything that they are coupled to.
//
// Values are taken to be finite: a weight of zero hides an infinity that it would
// have turned into a NaN.
package compact

import (
	"fmt"

	"github.com/filterlens/filterlens/inspect"
)

// A RefusedError says that a model, or a plan for it, cannot be compacted at all.
type RefusedError struct {
	File string
	// Node and Op are those of the node that it is about, at Index; Op is "" and
	// Index -1 when it is about none.
	Index    int
	Node, Op string
	// Reason says why, and what to do about it.
	Reason string
}

func (e *RefusedError) Error() string {
	s := e.File + ": "
	if e.Op != "" {
		s += fmt.Sprintf("node %d %q (%s): ", e.Index, e.Node, e.Op)
	}
	return s + "cannot be compacted: " + e.Reason
}

// A FilterError says that a filter that is to be removed does not exist.
type FilterError struct {
	File, Layer string
	// Filter is the number that does not fit, -1 when it is about the layer.
	Filter int
	Reason string
}

func (e *FilterError) Error() string {
	s := fmt.Sprintf("%s: layer %q: ", e.File, e.Layer)
	if e.Filter >= 0 {
		s += fmt.Sprintf("filter %d: ", e.Filter)
	}
	return s + e.Reason
}

func refuse(m *inspect.Model, n *inspect.Node, format string, v ...any) error {
	e := &RefusedError{File: m.File, Index: -1, Reason: fmt.Sprintf(format, v...)}
	if n != nil {
		e.Index, e.Node, e.Op = n.Index, n.Label(), n.Op
	}
	return e
}
