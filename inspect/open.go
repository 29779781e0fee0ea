package inspect

import (
	"context"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Open opens the model at path and describes it as New does. Close it when it is
// no longer needed. The error is one of onnxfile.Open or of New.
func Open(ctx context.Context, path string, opt Options) (*Model, error) {
	f, err := onnxfile.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := New(ctx, f, opt)
	if err != nil {
		f.Close()
		return nil, err
	}
	return m, nil
}

// Close closes the file of m, whoever opened it. What m says of the model stays;
// its Graph and stored tensors can no longer be used. A Model without a file has
// nothing to close.
func (m *Model) Close() error {
	if m.Handle == nil {
		return nil
	}
	return m.Handle.Close()
}

// ReadWeights reads the weights of a model that was described without them, and
// fills what Options.Weights asks for and, with statistics, Options.Statistics
// too. It changes m, which nothing else may use meanwhile; when it fails, as New
// does, m stays as it was.
func (m *Model) ReadWeights(ctx context.Context, statistics bool) error {
	options, tensors := m.Options, m.Tensors
	m.Options.Weights = true
	// Statistics that are there already are not read again.
	m.Options.Statistics = statistics && tensors == nil
	err := m.readWeights(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		m.Options, m.Tensors = options, tensors
		return err
	}
	m.Options.Statistics = options.Statistics || statistics
	return nil
}
