package gradient

import "fmt"

// An UnsupportedError says that a model cannot be trained, and what stands in the
// way: a node whose operator has no gradient rule, or, where Op is "", the model as
// a whole.
type UnsupportedError struct {
	File string
	// Node is the node's name, else its first output; Tensor the tensor that it is
	// about, "" where it is about none.
	Node, Op, Tensor string
	Reason           string
}

func (e *UnsupportedError) Error() string {
	s := "cannot train " + e.File + ": "
	if e.Op != "" {
		s += fmt.Sprintf("node %q (%s): ", e.Node, e.Op)
	}
	if e.Tensor != "" {
		s += fmt.Sprintf("tensor %q: ", e.Tensor)
	}
	return s + e.Reason
}

// An OptionError says that an option is out of range or names what is not there.
type OptionError struct {
	Option, Reason string
}

func (e *OptionError) Error() string { return "training option " + e.Option + ": " + e.Reason }
