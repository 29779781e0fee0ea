package delta

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TestCorpus compares every model below the folder FILTERLENS_CORPUS with itself
// and, where the weights are inline, with a copy that has other names throughout.
func TestCorpus(t *testing.T) {
	root := os.Getenv("FILTERLENS_CORPUS")
	if root == "" {
		t.Skip("FILTERLENS_CORPUS is not set")
	}
	count, renamed := 0, 0
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".onnx" {
			return err
		}
		f, err := onnxfile.Open(path)
		if err != nil {
			return nil
		}
		defer f.Close()
		m, err := inspect.New(t.Context(), f, inspect.Options{})
		if err != nil {
			return nil
		}
		start := time.Now()
		d, err := Compare(t.Context(), m, m, Options{})
		var te *onnxfile.TensorError
		var ge *inspect.GraphError
		switch {
		case errors.As(err, &te) || errors.As(err, &ge):
			return nil
		case err != nil:
			t.Errorf("%s: %v", path, err)
			return nil
		case !d.Same || d.Totals.TensorsDiffer > 0:
			t.Errorf("%s: %v", path, summary(d))
		}
		count++
		if time.Since(start) > 5*time.Second {
			t.Errorf("%s takes %v", path, time.Since(start))
		}
		if f.External() || f.Size > 1<<22 || len(f.Model.Functions) > 0 || nested(f) {
			return nil
		}
		b := &bench{t, proto.Clone(f.Model).(*onnxpb.ModelProto)}
		for _, p := range b.Graph.Initializer {
			if len(p.FilterlensPayload) > 0 {
				return nil
			}
		}
		for _, n := range b.Graph.Node {
			for _, a := range n.Attribute {
				if len(a.GetT().GetFilterlensPayload()) > 0 || a.SparseTensor != nil {
					return nil
				}
			}
		}
		if len(b.Graph.SparseInitializer) > 0 || b.Graph.QuantizationAnnotation != nil {
			return nil
		}
		b.rename(func(s string) string { return "r:" + s })
		raw, err := proto.Marshal(b.ModelProto)
		if err != nil {
			return nil
		}
		x := described(t, raw)
		if x == nil {
			return nil
		}
		d, err = Compare(t.Context(), m, x, Options{})
		if err != nil || !d.Same {
			t.Errorf("%s renamed: %v", path, err)
			if d != nil {
				t.Log(strings.Join(summary(d), "; "))
			}
		}
		renamed++
		return nil
	})
	if err != nil || count == 0 {
		t.Fatal(err, count)
	}
	t.Logf("%d models, %d of them renamed", count, renamed)
}

func nested(f *onnxfile.File) bool {
	for _, n := range f.Model.Graph.GetNode() {
		for _, a := range n.Attribute {
			if a.G != nil || len(a.Graphs) > 0 {
				return true
			}
		}
	}
	return false
}
