package inspect

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

const vggPath = "../fixtures/vgg16-glyphs20.onnx"

func TestOpen(t *testing.T) {
	m, err := Open(t.Context(), vggPath, Options{Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	if m.File != vggPath || m.Totals.Layers != 14 || m.Inputs[0].Shape.Dims[0].Value != 2 {
		t.Errorf("%s: %d layers, input %v", m.File, m.Totals.Layers, m.Inputs[0].Shape)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := new(Model).Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), "nothere.onnx", Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	var oe *OptionError
	if _, err := Open(t.Context(), vggPath, Options{InputShapes: map[string][]int64{"x": {1}}}); !errors.As(err, &oe) {
		t.Errorf("a shape of no input: %v", err)
	}
}

// Reading the weights later gives what reading them at once does.
func TestReadWeights(t *testing.T) {
	for _, statistics := range []bool{false, true} {
		want, err := Open(t.Context(), vggPath, Options{Weights: true, Statistics: statistics})
		if err != nil {
			t.Fatal(err)
		}
		defer want.Close()
		m, err := Open(t.Context(), vggPath, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		stopped, stop := context.WithCancel(t.Context())
		stop()
		if err := m.ReadWeights(stopped, statistics); !errors.Is(err, context.Canceled) || m.Tensors != nil || m.Options.Weights {
			t.Errorf("interrupted: %v, %d tensors, options %+v", err, len(m.Tensors), m.Options)
		}
		for range 2 {
			if err := m.ReadWeights(t.Context(), statistics); err != nil {
				t.Fatal(err)
			}
			if m.Totals.Zeros == nil || !reflect.DeepEqual(m.Totals, want.Totals) || !reflect.DeepEqual(m.Layers, want.Layers) ||
				!reflect.DeepEqual(m.Tensors, want.Tensors) || !reflect.DeepEqual(m.Options, want.Options) {
				t.Errorf("statistics %v: %+v, %d tensors; want %+v, %d tensors", statistics, m.Totals, len(m.Tensors), want.Totals, len(want.Tensors))
			}
		}
	}
}

// What cannot be read leaves the model as it was.
func TestReadWeightsFails(t *testing.T) {
	f, err := onnxfile.Open(vggPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := f.Draft()
	last := d.Model.Graph.Initializer[len(d.Model.Graph.Initializer)-1]
	last.Dims = append(last.Dims, 2)
	path := filepath.Join(t.TempDir(), "short.onnx")
	if err := d.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var te *onnxfile.TensorError
	if err := m.ReadWeights(t.Context(), true); !errors.As(err, &te) || m.Tensors != nil || m.Totals.Zeros != nil || m.Options.Weights || m.Options.Statistics {
		t.Errorf("%v, %d tensors, options %+v", err, len(m.Tensors), m.Options)
	}
}
