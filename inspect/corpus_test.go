package inspect

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// TestCorpus describes every model below the folder FILTERLENS_CORPUS, which CI
// sets where it has one: files of other projects' test suites. A report or a
// typed error is right; a panic, a hang or an error of no type is not.
func TestCorpus(t *testing.T) {
	root := os.Getenv("FILTERLENS_CORPUS")
	if root == "" {
		t.Skip("FILTERLENS_CORPUS is not set")
	}
	described, refused, unsound := 0, 0, 0
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".onnx" {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		f, err := onnxfile.Open(path)
		if err == nil {
			defer f.Close()
			var m *Model
			if m, err = New(ctx, f, Options{Weights: true}); err == nil {
				described++
				if err := m.Check(); err != nil {
					unsound++
					t.Log("could not run: ", err)
					typed(t, path, err)
				}
				return nil
			}
		}
		refused++
		t.Log(err)
		typed(t, path, err)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d models described, %d refused; of those described %d could not run", described, refused, unsound)
	if described == 0 {
		t.Error("no model was found")
	}
}

func typed(t *testing.T, path string, err error) {
	t.Helper()
	var format *onnxfile.FormatError
	var tensor *onnxfile.TensorError
	var graph *GraphError
	if !errors.As(err, &format) && !errors.As(err, &tensor) && !errors.As(err, &graph) {
		t.Errorf("%s: an error of no type: %v", path, err)
	}
}
