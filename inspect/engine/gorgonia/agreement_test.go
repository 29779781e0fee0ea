package gorgonia_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TestAgreementCorpus runs the models of the corpus that come without expected
// outputs (old operator sets, what PyTorch exports, other projects' import tests)
// on drawn numbers: what this engine computes must be what ONNX Runtime computes.
func TestAgreementCorpus(t *testing.T) {
	root := corpusRoot(t)
	ours := gorgonia.Open(gorgonia.Options{Threads: 1})
	theirs := openORT(t, 1)
	count := make(map[string]int)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".onnx" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) > 1<<20 {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if sets, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "test_data_set_*")); len(sets) == 0 {
			what, err := agreement(t, ours, theirs, b)
			count[what]++
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(count) == 0 {
		t.Fatal("no model was found")
	}
	for _, what := range byCount(count) {
		t.Logf("%6d  %s", count[what], what)
	}
}

// agreement runs a model on both engines and compares all outputs. It says what
// became of it, and fails where they differ.
func agreement(t *testing.T, ours, theirs engine.Engine, model []byte) (what string, failure error) {
	f, err := onnxfile.Read(strings.NewReader(string(model)), int64(len(model)), "test")
	if err != nil {
		return "not read", nil
	}
	defer f.Close()
	if len(f.Model.GetGraph().GetNode()) == 0 {
		return "without nodes", nil
	}
	s, err := ours.Load(t.Context(), engine.Model{Name: "test", Bytes: model})
	if err != nil {
		return "refused", nil
	}
	in := make(map[string]*engine.Tensor)
	for i, v := range s.Inputs() {
		if in[v.Name] = feed(v, uint64(i)); in[v.Name] == nil {
			s.Close()
			return "not fed", nil
		}
	}
	s.Close()
	var got map[string]*engine.Tensor
	err = guarded("agreement", func() (err error) {
		got, _, err = compute(t.Context(), ours, engine.Model{Name: "test", Bytes: model}, in)
		return err
	})
	if err != nil {
		return "not run", nil
	}
	want, _, err := compute(t.Context(), theirs, engine.Model{Name: "test", Bytes: model}, in)
	if err != nil {
		return "computed, but not by ONNX Runtime", nil
	}
	types := make(map[string]onnxfile.DType)
	for _, v := range f.Model.GetGraph().GetOutput() {
		types[v.GetName()] = onnxfile.DType(v.GetType().GetTensorType().GetElemType())
	}
	for name, y := range want {
		if got[name] == nil {
			return "differs", fmt.Errorf("output %q is missing (%s)", name, brief(nodesOf(f.Model.GetGraph())))
		}
		// Sums that nearly cancel differ by more than the tolerance for single
		// numbers; the largest number is the measure then.
		if _, err := agree(got[name], y, types[name]); err != nil && distance(got[name], y) > logitTolerance {
			return "differs", fmt.Errorf("output %q: %w (%s)", name, err, brief(nodesOf(f.Model.GetGraph())))
		}
	}
	return "agrees", nil
}

// nodesOf lists a graph's nodes for a message.
func nodesOf(g *onnxpb.GraphProto) []string {
	var list []string
	for _, n := range g.GetNode() {
		n = proto.Clone(n).(*onnxpb.NodeProto)
		n.DocString = nil
		list = append(list, strings.Join(strings.Fields(fmt.Sprint(n)), " "))
	}
	return list
}
