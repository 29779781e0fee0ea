// Package engine is the one interface through which filterlens runs a graph.
//
// An Engine loads serialized ONNX models and hands back Sessions; a Session
// maps named tensors to named tensors. Nothing here knows what the graph means:
// taps, heads and label means are ordinary nodes that other rooms put into the
// graph before it is loaded. Implementations live below: ort (ONNX Runtime) and
// gorgonia (pure Go); duel compares two of them.
package engine

import (
	"context"
	"fmt"
)

// Tensor is a dense tensor in row-major order, held in Go memory.
type Tensor struct {
	// Shape holds the dimensions; an empty Shape is a scalar.
	Shape []int64
	// Data is one of []float32, []float64, []int64, []int32, []int16, []int8,
	// []uint8, []uint16 (float16 and bfloat16 bit patterns too, told apart by
	// DType), []uint32, []uint64 or []bool. Its length is the product of Shape.
	Data any
}

// NewFloat32 returns a tensor over data, which is not copied. It panics when
// the length of data is not the product of shape.
func NewFloat32(data []float32, shape ...int64) *Tensor {
	mustFit(len(data), shape)
	return &Tensor{Shape: shape, Data: data}
}

// NewInt64 returns a tensor over data, which is not copied. It panics when the
// length of data is not the product of shape.
func NewInt64(data []int64, shape ...int64) *Tensor {
	mustFit(len(data), shape)
	return &Tensor{Shape: shape, Data: data}
}

func mustFit(n int, shape []int64) {
	if want := Elements(shape); want != int64(n) {
		panic(fmt.Sprintf("engine: %d elements for shape %v", n, shape))
	}
}

// Elements returns the product of shape, 1 for a scalar.
func Elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

// Float32 returns the data of a float32 tensor, nil when it has another type.
func (t *Tensor) Float32() []float32 {
	f, _ := t.Data.([]float32)
	return f
}

// Value describes an input or output of a loaded graph.
type Value struct {
	Name string
	// DType is the ONNX name of the element type in lower case: "float",
	// "float16", "int64", ...
	DType string
	// Shape holds -1 for every dimension that is not fixed. It is empty, not
	// nil, for a scalar, and nil where not even the rank is known.
	Shape []int64
}

// Model is a graph to load: its serialized ModelProto, or the path of a file
// that holds it (for models whose weights lie beside it). Exactly one is set.
type Model struct {
	// Name stands for the model in error messages.
	Name  string
	Bytes []byte
	Path  string
	// Dir is the folder in which the external data of Bytes lies, "" when there is
	// none. An engine that cannot read it refuses the model.
	Dir string
}

// An Engine loads graphs. It is safe for concurrent use.
type Engine interface {
	// Name is the engine's own name, Version that of the library behind it
	// and Provider the execution provider that runs the nodes ("cpu", "cuda").
	Name() string
	Version() string
	Provider() string
	// Load checks and prepares a graph. A failure is an *Error.
	Load(ctx context.Context, m Model) (Session, error)
	// Close frees what the engine holds. Sessions must be closed before.
	Close() error
}

// A Session runs one loaded graph. Run may not be called concurrently.
type Session interface {
	Inputs() []Value
	Outputs() []Value
	// Run evaluates the graph on in. The keys of out name the outputs that are
	// wanted: a nil value is replaced by a new tensor; a tensor that is already
	// there must have the output's exact shape and type and is overwritten in
	// place, so that a caller can reuse memory from batch to batch. A cancelled
	// context stops a run that has begun and returns the context's error. Every
	// other failure is an *Error.
	Run(ctx context.Context, in, out map[string]*Tensor) error
	Close() error
}

// Error says that a graph could not be loaded or run.
type Error struct {
	// Op is "load" or "run"; Model the name it was loaded under.
	Op, Model string
	Err       error
}

func (e *Error) Error() string { return fmt.Sprintf("cannot %s %s: %v", e.Op, e.Model, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// UnavailableError says that a runtime or an execution provider is not there
// (exit code 3). Hint tells what the user can do about it.
type UnavailableError struct {
	What string
	Hint string
	Err  error
}

func (e *UnavailableError) Error() string {
	s := e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *UnavailableError) Unwrap() error { return e.Err }
