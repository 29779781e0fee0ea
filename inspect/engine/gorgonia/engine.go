// Package gorgonia runs graphs in pure Go, without any shared library: on
// machines that have no ONNX Runtime, and as a second opinion beside it.
//
// The way of a graph: lower.go reads it from the file into a program, without
// nodes that do nothing; plan.go binds each node to the shapes of a batch, by the
// rule that rules.go and its subjects (rules_*.go) have for the operator, and
// computes what no input has a part in; a schedule lays the tensors that certain
// outputs need into one piece of memory, and is run node by node. The arithmetic
// is that of package compute; rare operators are onnx-go's on Gorgonia
// (backend.go). Whatever is not known to be right is refused by name before any
// work. What a graph means (layers, labels, filters) may not enter here.
package gorgonia

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// version names the modules behind the engine; a test compares it with go.mod.
const version = "onnx-go v0.5.0, gorgonia v0.9.18"

// Engine is the pure-Go engine. It is safe for concurrent use.
type Engine struct {
	workers *compute.Workers

	mu     sync.Mutex
	closed bool
}

// Options says how an engine computes.
type Options struct {
	// Threads is how many processors the nodes of one run may use at once; 0
	// takes all that Go may use. Results do not depend on it.
	Threads int
}

var _ engine.Engine = (*Engine)(nil)

// Open returns the engine; it needs nothing from the system.
func Open(o Options) *Engine { return &Engine{workers: compute.NewWorkers(o.Threads)} }

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

// Load reads a graph with its weights into memory. When the graph has nodes that
// this engine does not compute, the *engine.Error wraps an *UnsupportedError that
// lists them all. Forms that depend on shapes are judged for one sample; where
// dimensions other than an input's first are symbolic, they are judged no earlier
// than in Run.
func (e *Engine) Load(ctx context.Context, m engine.Model) (engine.Session, error) {
	s, err := e.load(ctx, m)
	if err != nil {
		return nil, &engine.Error{Op: "load", Model: m.Name, Err: err}
	}
	return s, nil
}

func (e *Engine) load(ctx context.Context, m engine.Model) (*session, error) {
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
	p, err := e.read(ctx, m)
	if err != nil {
		return nil, err
	}
	s := &session{model: m.Name, workers: e.workers, program: p}
	shapes, ok := p.sampleShapes()
	if !ok {
		return s, p.check()
	}
	plan, err := p.plan(ctx, e.workers, shapes)
	if err != nil {
		return nil, err
	}
	p.describe(plan)
	s.keep(shapes, plan)
	return s, nil
}

// read returns the program of a model; its file is closed then.
func (e *Engine) read(ctx context.Context, m engine.Model) (p *program, err error) {
	f, err := openFile(m)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			p, err = nil, e
		}
	}()
	return readProgram(ctx, f, e.workers)
}

func openFile(m engine.Model) (*onnxfile.File, error) {
	if m.Bytes != nil && m.Dir != "" {
		return onnxfile.ReadIn(bytes.NewReader(m.Bytes), int64(len(m.Bytes)), m.Name, m.Dir)
	}
	if m.Bytes != nil {
		return onnxfile.Read(bytes.NewReader(m.Bytes), int64(len(m.Bytes)), m.Name)
	}
	return onnxfile.Open(m.Path)
}

// UnsupportedError says what of a model this engine does not compute.
type UnsupportedError struct {
	// Nodes are all nodes that it does not compute, in the order of the file.
	Nodes []Unsupported
	// Reason is set, and Nodes is empty, when it is no single node's matter.
	Reason string
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
	if len(e.Nodes) == 0 {
		return "the pure-Go engine does not compute it: " + e.Reason + "; run it on ONNX Runtime"
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
