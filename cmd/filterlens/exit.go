package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/filterlens/filterlens/export"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/duel"
)

// The exit codes.
const (
	exitVerdict     = 1
	exitUsage       = 2
	exitUnavailable = 3
	exitInference   = 4
	exitInterrupted = 130
)

// errSaid is a verdict that the report has told already.
var errSaid = errors.New("see the report")

// usageError says that a command line cannot be understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(format string, a ...any) error { return &usageError{fmt.Sprintf(format, a...)} }

// verdictError is a verdict in a few words.
type verdictError struct{ text string }

func (e *verdictError) Error() string { return e.text }

// exitCode returns what the program ends with after err. Whatever is neither a
// verdict nor a failure of the runtime has to do with what the user gave: the
// command line, a file, a data set.
func exitCode(err error) int {
	var unavailable *engine.UnavailableError
	var inference *engine.Error
	var verdict *export.VerdictError
	var found *verdictError
	var shape *duel.ShapeError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, errSaid), errors.As(err, &verdict), errors.As(err, &found), errors.As(err, &shape):
		return exitVerdict
	case errors.As(err, &unavailable):
		return exitUnavailable
	case errors.As(err, &inference):
		return exitInference
	}
	return exitUsage
}
