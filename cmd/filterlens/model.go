package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// openFile opens a model, "-" being standard input.
func openFile(c *cli.Context, path string) (*onnxfile.File, error) {
	if path == "" {
		return nil, usage("the name of a model is empty")
	}
	if path != "-" {
		f, err := onnxfile.Open(path)
		if err != nil {
			return nil, notOpened(path, err)
		}
		// The path itself was checked before; now it is known where else data lies.
		for _, out := range outputPaths(c) {
			if f.SameFile(out) {
				f.Close()
				return nil, usage("the output %s is a file of the model %s; give another path", out, path)
			}
		}
		return f, nil
	}
	b, err := io.ReadAll(c.App.Reader)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return onnxfile.Read(bytes.NewReader(b), int64(len(b)), "standard input")
}

// notOpened says of a file that the system does not give that it cannot be opened,
// whatever call that was.
func notOpened(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("cannot open %s: %w", path, pe.Err)
	}
	return err
}

// openModel opens and describes a model, which must be closed.
func openModel(ctx context.Context, c *cli.Context, path string, opt inspect.Options) (*inspect.Model, error) {
	f, err := openFile(c, path)
	if err != nil {
		return nil, err
	}
	m, err := describe(ctx, f, opt)
	if err != nil {
		f.Close()
		return nil, err
	}
	return m, nil
}

// describe is inspect.New with a shape that names no input given to the only one.
func describe(ctx context.Context, f *onnxfile.File, opt inspect.Options) (*inspect.Model, error) {
	dims, ok := opt.InputShapes[""]
	if !ok {
		return inspect.New(ctx, f, opt)
	}
	m, err := inspect.New(ctx, f, inspect.Options{})
	if err != nil {
		return nil, err
	}
	if len(m.Inputs) != 1 {
		return nil, usage("--input-shape without a name: %s has %d inputs; write NAME:1,3,224,224", f.Name, len(m.Inputs))
	}
	opt.InputShapes = map[string][]int64{m.Inputs[0].Name: dims}
	return inspect.New(ctx, f, opt)
}

// shapeOptions reads the flags that say what shapes to assume.
func shapeOptions(c *cli.Context) (opt inspect.Options, err error) {
	if opt.InputShapes, err = inputShapes(c.StringSlice("input-shape")); err != nil {
		return opt, err
	}
	opt.Dims, err = dimSizes(c.StringSlice("dim"))
	return opt, err
}

// metadata returns an entry of the model's metadata, "" when there is none.
func metadata(m *inspect.Model, key string) string {
	for _, kv := range m.Metadata {
		if kv.Key == key {
			return kv.Value
		}
	}
	return ""
}
