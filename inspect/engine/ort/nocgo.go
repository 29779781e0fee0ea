//go:build !cgo

package ort

import (
	"context"
	"errors"

	"github.com/filterlens/filterlens/inspect/engine"
)

// Available tells whether this binary can load ONNX Runtime, which takes cgo.
const Available = false

// Engine is never opened in this binary.
type Engine struct{}

var _ engine.Engine = (*Engine)(nil)

func unavailable() error {
	return &engine.UnavailableError{
		What: "this binary was built without cgo; it has the pure-Go engine only",
		Hint: "use that, --engine gorgonia, or a binary built with cgo, which has ONNX Runtime",
	}
}

// Open returns an *engine.UnavailableError: without cgo nothing can be loaded.
func Open(context.Context, Options) (*Engine, error) { return nil, unavailable() }

// Locate returns an *engine.UnavailableError and looks for nothing, for what it
// found could not be loaded.
func Locate(context.Context, Options) (Library, error) { return Library{}, unavailable() }

// Install returns an *engine.UnavailableError and fetches nothing.
func Install(context.Context, Options) (string, error) { return "", unavailable() }

// Describe returns an *engine.UnavailableError.
func Describe(context.Context, Options) (Info, error) { return Info{}, unavailable() }

// Name returns "onnxruntime".
func (*Engine) Name() string { return "onnxruntime" }

// Version returns "", for there is no library.
func (*Engine) Version() string { return "" }

// Provider returns CPU.
func (*Engine) Provider() string { return CPU }

// Load fails.
func (*Engine) Load(_ context.Context, m engine.Model) (engine.Session, error) {
	return nil, &engine.Error{Op: "load", Model: m.Name, Err: errors.New("this binary was built without cgo")}
}

// Close does nothing.
func (*Engine) Close() error { return nil }
