package probe

import (
	"math"
	"slices"
	"testing"
)

// A head that answers by the shares of the labels alone has their entropy as its
// cross-entropy; ln K where they are even.
func TestUntaught(t *testing.T) {
	layer := func(name string, loss float64) Layer {
		return Layer{Tap: Tap{Tensor: name, Layers: []string{name}}, Loss: &loss}
	}
	own := Layer{Tap: Tap{Tensor: "own", Layers: []string{"own"}}}
	layers := []Layer{layer("guesses", 1.39), layer("learned", 1.30), layer("little", 0.68), own, layer("diverging", 2)}
	for _, c := range []struct {
		name    string
		seenFit []int
		want    []string
	}{
		{"even", []int{5, 5, 5, 5}, []string{"guesses", "diverging"}},
		{"no count", nil, []string{"guesses", "diverging"}},
		// entropy 0.7 ln(1/0.7) + 3 x 0.1 ln 10 = 0.940
		{"uneven", []int{70, 10, 10, 10}, []string{"guesses", "learned", "diverging"}},
	} {
		p := &measurer{k: 4, seenFit: c.seenFit}
		if got := p.untaught(layers); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if 0.95*math.Log(4) > 1.39 {
		t.Fatal("the losses above are no test")
	}
}
