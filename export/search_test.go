package export

import (
	"slices"
	"testing"
)

func TestSteps(t *testing.T) {
	for _, c := range []struct {
		size, roundTo int
		kept          []int
	}{
		{64, 8, []int{64, 56, 48, 40, 32, 24, 16, 8}},
		{20, 0, []int{20, 16, 8}},
		{8, 8, []int{8}},
		{4, 1, []int{4, 3, 2, 1}},
		{32, 1, []int{32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2}},
	} {
		r := removable{size: c.size}
		r.steps(c.roundTo)
		if !slices.Equal(r.kept, c.kept) {
			t.Errorf("%d by %d: %v, want %v", c.size, c.roundTo, r.kept, c.kept)
		}
	}
}

// TestOrder: the step that costs least for what it saves comes first, and what it
// saves depends on what is gone already.
func TestOrder(t *testing.T) {
	f := &finder{
		groups: []removable{
			{layer: "a", size: 4, kept: []int{4, 2}, errors: []float64{0, 1}},
			{layer: "b", size: 4, kept: []int{4, 2, 1}, errors: []float64{0, 1.5, 4}},
			{layer: "none", size: 4, kept: []int{4, 2}, errors: []float64{0, 0}},
		},
		// a reads the image, b reads a, another layer reads b; nothing of the third
		// group saves anything.
		layers: []costly{{macs: 100, out: 0}, {macs: 1000, out: 1, in: []int{0}}, {macs: 1000, out: -1, in: []int{1}}},
	}
	// a saves 550 at a cost of 1, b 1000 at 1.5; then b saves 375 at 2.5, and a only
	// 300 at 1.
	if f.order(); !slices.Equal(f.path, []int{1, 0, 1}) {
		t.Errorf("%v", f.path)
	}
	if s := f.share(2); s != 4.0/12 {
		t.Errorf("share %v", s)
	}
}
