package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/filterlens/filterlens/afcc"
)

// TestReadResultChecks alters one thing of a sound result at a time.
func TestReadResultChecks(t *testing.T) {
	sound := func() *Result {
		r := &Result{Schema: Schema, Theta: 0.3}
		r.Data.Labels = []string{"a", "b", "c"}
		r.Layers = []Layer{{Tap: Tap{Layers: []string{"l"}, Tensor: "t", Filters: 2, Height: 1, Width: 1, Pool: 1}, Filters: []afcc.Filter{
			{Index: 0, Max: 1, Ratios: []float32{1, 0, 1}, Clusters: [][]int{{0, 2}}, Ones: 4},
			{Index: 1},
		}}}
		r.Layers[0].Stats = afcc.Summarize(r.Layers[0].Filters, 3, 0.3)
		return r
	}
	filter := func(r *Result) *afcc.Filter { return &r.Layers[0].Filters[0] }
	for _, c := range []struct {
		name   string
		change func(r *Result)
		ok     bool
	}{
		{"nothing", func(*Result) {}, true},
		{"pool 0", func(r *Result) { r.Layers[0].Pool = 0 }, false},
		{"pool -1", func(r *Result) { r.Layers[0].Pool = -1 }, false},
		{"height 0", func(r *Result) { r.Layers[0].Height = 0 }, false},
		{"width -3", func(r *Result) { r.Layers[0].Width = -3 }, false},
		{"no layer name", func(r *Result) { r.Layers[0].Tap.Layers = nil }, false},
		{"filters exchanged", func(r *Result) { f := r.Layers[0].Filters; f[0], f[1] = f[1], f[0] }, false},
		{"a filter's number", func(r *Result) { filter(r).Index = 7 }, false},
		{"a filter missing", func(r *Result) { r.Layers[0].Filters = r.Layers[0].Filters[:1] }, false},
		{"the label behind the last", func(r *Result) { filter(r).Clusters[0][1] = 3 }, false},
		{"label -1", func(r *Result) { filter(r).Clusters[0][0] = -1 }, false},
		{"a ratio missing", func(r *Result) { filter(r).Ratios = filter(r).Ratios[:2] }, false},
		{"a label name missing", func(r *Result) { r.Data.Labels = r.Data.Labels[:2] }, false},
	} {
		r := sound()
		c.change(r)
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ReadResult(bytes.NewReader(text))
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrNotStats) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
