package probe

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

func built(t *testing.T, make func(arch.Options) (*onnxfile.Draft, error), opt arch.Options) *inspect.Model {
	t.Helper()
	d, err := make(opt)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := arch.Write(path, d); err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSurveyVGG16(t *testing.T) {
	s := mustSurvey(t, built(t, arch.VGG16, arch.Options{Zero: true}))
	if len(s.Taps) != 15 || len(s.Skipped) != 0 || s.Labels != 1000 {
		t.Fatalf("%d taps, %d skipped, %d labels; VGG-16 has 13 convolutions and 2 hidden layers", len(s.Taps), len(s.Skipped), s.Labels)
	}
	// Filters and side of the map that each block hands on, after its pooling.
	want := [][2]int{{64, 224}, {64, 112}, {128, 112}, {128, 56}, {256, 56}, {256, 56}, {256, 28}, {512, 28}, {512, 28}, {512, 14},
		{512, 14}, {512, 14}, {512, 7}, {4096, 1}, {4096, 1}}
	for i, tap := range s.Taps {
		if tap.Filters != want[i][0] || tap.Height != want[i][1] || tap.Width != want[i][1] {
			t.Errorf("%s: %d x %d x %d, want %v", tap.Name(), tap.Filters, tap.Height, tap.Width, want[i])
		}
		if tap.Own != (i == 14) {
			t.Errorf("%s: own classifier is %v", tap.Name(), tap.Own)
		}
	}
}

func TestSurveyEfficientNetB0(t *testing.T) {
	for _, fold := range []bool{false, true} {
		m := built(t, arch.EfficientNetB0, arch.Options{Zero: true, Fold: fold})
		s := mustSurvey(t, m)
		// Stem, a first block of two convolutions, fifteen of three, and the head;
		// two convolutions of each block's squeeze-excite branch are gates.
		if len(s.Taps) != 1+2+15*3+1 || len(s.Skipped) != 32 {
			t.Fatalf("fold %v: %d taps, %d skipped; want 49 and 32", fold, len(s.Taps), len(s.Skipped))
		}
		last := s.Taps[len(s.Taps)-1]
		if !last.Own || last.Filters != 1280 || last.Positions() != 1 {
			t.Errorf("fold %v: the head's tap is %+v", fold, last)
		}
		// Every convolution that mixes filters reads a tap, except the stem.
		image := 0
		for i := range m.Layers {
			l := &m.Layers[i]
			if l.Op != "Conv" || slices.ContainsFunc(s.Skipped, func(sk Skip) bool { return sk.Layer == l.Name }) {
				continue
			}
			if s.InputTap(m.Graph, m.Graph.Nodes[l.Node].Input(0)) == nil {
				image++
			}
		}
		if image != 1 {
			t.Errorf("fold %v: %d convolutions read no tap, only the stem should", fold, image)
		}
		// The depthwise convolution's filters are those behind the gate.
		dw := s.Taps[1]
		if n := m.Graph.Producer(dw.Tensor); n == nil || n.Op != "Mul" || n.Index < 5 {
			t.Errorf("fold %v: the first depthwise convolution ends in %q", fold, dw.Tensor)
		}
	}
}

func TestSurveyResidual(t *testing.T) {
	n := newNet(-1, 3, 8)
	n.conv("stem", 3, 4, 3, 1).op("Relu")
	stem := n.t
	n.conv("a", 4, 4, 3, 1).op("Relu").conv("b", 4, 4, 3, 1)
	b := n.t
	n.t = stem
	n.conv("shortcut", 4, 4, 1, 1)
	n.t = n.node("Add", []string{b, n.t})
	n.op("Relu")
	sum := n.t
	n.conv("last", 4, 5, 3, 1).op("GlobalAveragePool").op("Flatten").op("Softmax")
	s := mustSurvey(t, n.model(t, -1, 5))
	var got [][]string
	for _, tap := range s.Taps {
		got = append(got, tap.Layers)
	}
	want := [][]string{{"stem"}, {"a"}, {"b", "shortcut"}}
	if len(got) != 3 || !slices.Equal(got[0], want[0]) || !slices.Equal(got[1], want[1]) || !slices.Equal(got[2], want[2]) {
		t.Errorf("taps %v, want %v", got, want)
	}
	if s.Tap(sum) == nil {
		t.Error("the sum behind its activation is no tap")
	}
	if s.Classifier != nil || len(s.Skipped) != 1 || s.Skipped[0].Layer != "last" {
		t.Errorf("the last convolution's outputs are labels: %v, %v", s.Skipped, s.Classifier)
	}
}

func TestSurveyRefuses(t *testing.T) {
	var refused *NotClassifierError
	n := newNet(-1, 3, 8)
	n.conv("a", 3, 4, 3, 1)
	m := n.model(t, -1, 4, 8, 8)
	if _, err := NewSurvey(m); !errors.As(err, &refused) {
		t.Errorf("a model whose only layer is its output: %v", err)
	}
	n = newNet(-1, 3, 8)
	n.op("Flatten").gemm("only", 192, 5)
	if _, err := NewSurvey(n.model(t, -1, 5)); !errors.As(err, &refused) {
		t.Errorf("a linear classifier of pixels: %v", err)
	}
}
