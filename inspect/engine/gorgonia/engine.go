// Package gorgonia runs graphs in pure Go, without any shared library: on
// machines that have no ONNX Runtime, and as a second opinion beside it.
//
// The graph is lowered to the few forms of operators that onnx-go's Gorgonia
// backend computes correctly, and evaluated node by node: each node becomes a
// small Gorgonia graph of fixed shapes, made by onnx-go and kept per batch size.
// Whatever is not known to be right is refused by name before any work. What a
// graph means (layers, labels, filters) may not enter here.
package gorgonia

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// version names the modules behind the engine; a test compares it with go.mod.
const version = "onnx-go v0.5.0, gorgonia v0.9.18"

// Engine is the pure-Go engine. It is safe for concurrent use.
type Engine struct {
	mu     sync.Mutex
	closed bool
}

var _ engine.Engine = (*Engine)(nil)

// Open returns the engine; it needs nothing from the system.
func Open() *Engine { return new(Engine) }

// Name returns "gorgonia".
func (e *Engine) Name() string { return "gorgonia" }

// Version returns the versions of the Go modules that compute.
func (e *Engine) Version() string { return version }

// Provider returns "cpu".
func (e *Engine) Provider() string { return "cpu" }

// Close ends the engine; it holds nothing. Closing twice does nothing.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	return nil
}

// Load reads a graph of float32 tensors with its weights. When the graph has
// nodes that this engine does not compute, the *engine.Error wraps an
// *UnsupportedError that lists them all. Forms that depend on shapes are judged
// for one sample; where dimensions other than an input's first are symbolic,
// they are judged no earlier than in Run.
func (e *Engine) Load(ctx context.Context, m engine.Model) (engine.Session, error) {
	s, err := e.load(ctx, m)
	if err != nil {
		return nil, &engine.Error{Op: "load", Model: m.Name, Err: err}
	}
	return s, nil
}

func (e *Engine) load(ctx context.Context, m engine.Model) (s *session, err error) {
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return nil, errors.New("the engine is closed")
	}
	if (m.Bytes == nil) == (m.Path == "") {
		return nil, errors.New("a model needs either bytes or a path")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := openFile(m)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			s, err = nil, e
		}
	}()
	p, err := readProgram(ctx, f)
	if err != nil {
		return nil, err
	}
	s = &session{model: m.Name, program: p}
	shapes, ok := p.sampleShapes()
	if !ok {
		return s, p.check()
	}
	plan, err := p.plan(shapes)
	if err != nil {
		return nil, err
	}
	s.keep(shapes, plan)
	return s, nil
}

func openFile(m engine.Model) (*onnxfile.File, error) {
	if m.Bytes != nil {
		return onnxfile.Read(bytes.NewReader(m.Bytes), int64(len(m.Bytes)), m.Name)
	}
	return onnxfile.Open(m.Path)
}

// UnsupportedError lists the nodes of a graph that this engine does not compute.
type UnsupportedError struct {
	Nodes []Unsupported
}

// Unsupported is a node that is not computed, and why.
type Unsupported struct {
	// Index is the node's position in the file.
	Index int
	// Node is its name, which may be empty, and Op its operator.
	Node, Op string
	// Reason says what of it is lacking.
	Reason string
}

// named is how many nodes of one kind a message names.
const named = 3

func (e *UnsupportedError) Error() string {
	type kind struct{ op, reason string }
	var kinds []kind
	nodes := make(map[kind][]string)
	for _, n := range e.Nodes {
		k := kind{n.Op, n.Reason}
		if nodes[k] == nil {
			kinds = append(kinds, k)
		}
		nodes[k] = append(nodes[k], fmt.Sprintf("%d %q", n.Index, n.Node))
	}
	var b strings.Builder
	b.WriteString("the pure-Go engine does not compute ")
	for i, k := range kinds {
		if i > 0 {
			b.WriteString("; ")
		}
		list, more := nodes[k], ""
		if len(list) > named {
			list, more = list[:named], fmt.Sprintf(" and %d more", len(list)-named)
		}
		fmt.Fprintf(&b, "%s: %s (node %s%s)", k.op, k.reason, strings.Join(list, ", "), more)
	}
	b.WriteString("; run it on ONNX Runtime")
	return b.String()
}
