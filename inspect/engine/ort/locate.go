package ort

import (
	"context"
	"os"

	"github.com/filterlens/filterlens/inspect/engine"
)

const hintGet = "run 'filterlens runtime install', or name a library of ONNX Runtime 1.24 or newer with FILTERLENS_ORT_LIBRARY"

// Library is an onnxruntime library on disk.
type Library struct {
	Path string
	// Source says how it was found: "option", the name of an environment
	// variable, "cache" or "system".
	Source string
}

// libraryVariables name the library, in the order in which they are asked.
var libraryVariables = [...]string{"FILTERLENS_ORT_LIBRARY", "ONNXRUNTIME_SHARED_LIBRARY_PATH", "ORT_DYLIB_PATH"}

// Locate finds the library.
func Locate(ctx context.Context, opts Options) (Library, error) {
	if opts.Library != "" {
		return Library{Path: opts.Library, Source: "option"}, nil
	}
	for _, name := range libraryVariables {
		if path := os.Getenv(name); path != "" {
			return Library{Path: path, Source: name}, nil
		}
	}
	return Library{}, &engine.UnavailableError{What: "no onnxruntime library found", Hint: hintGet}
}
