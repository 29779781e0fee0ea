package refit

import (
	"errors"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// TestPartBeside: a part whose numbers stay in the file of external data computes what
// the one does that has them in itself, with weights replaced or not.
func TestPartBeside(t *testing.T) {
	eng := onnxRuntime(t, 1)
	m := open(t, newNet(onnxfile.Float).twins(4).head(4).save(t, true))
	image := make([]float32, 64)
	for i := range image {
		image[i] = float32(i%7) - 3
	}
	var first [][]float32
	for _, inline := range []int64{maxInline, 0} {
		for k, weights := range []map[string][]float32{{}, {"b.classifier": make([]float32, classes)}} {
			n := newNetwork(m, eng, "image", &budget{limit: 1 << 20})
			n.inline, n.weights = inline, weights
			if _, err := n.part(&stage{in: map[string]string{}, out: map[string]string{}}, []string{"classifier"}, nil, true); errors.Is(err, onnxfile.ErrTooLarge) != (inline == 0) {
				t.Errorf("%d bytes inline: %v", inline, err)
			}
			s, err := n.load(t.Context(), []string{"classifier"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			made, err := s.run(t.Context(), 0, func() (*engine.Tensor, error) { return engine.NewFloat32(image, 1, 1, 8, 8), nil }, nil)
			if err != nil {
				t.Fatal(err)
			}
			out := made["classifier"].Float32()
			if inline > 0 {
				first = append(first, slices.Clone(out))
			} else if !slices.Equal(out, first[k]) {
				t.Errorf("with %d weights: %v, want %v", len(weights), out, first[k])
			}
		}
	}
	if slices.Equal(first[0], first[1]) {
		t.Error("new weights change nothing")
	}
}

// TestTooLargeLayer: a layer that does not fit in the memory allowed is left alone, and
// says so.
func TestTooLargeLayer(t *testing.T) {
	m := newNet(onnxfile.Float).twins(4).head(4).model(t)
	for memory, want := range map[int64]int{4 * 4 * classes * 4: 1, 4*4*classes*4 - 4: 0} {
		sites, skipped, err := findSites(m, m, []string{"classifier"}, memory)
		if err != nil || len(sites) != want || len(skipped) != 1-want {
			t.Errorf("%d bytes: %d sites, %+v, %v", memory, len(sites), skipped, err)
		}
	}
}
