package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc"
)

func ptr[T any](v T) *T { return &v }

// soundResult is a result in which every field of a layer is set.
func soundResult() *Result {
	r := &Result{Schema: Schema, Theta: 0.3, PerLabel: []*float64{ptr(0.5), nil, ptr(1.0)}}
	r.Data.Labels, r.Data.Samples = []string{"a", "b", "c"}, 20
	l := Layer{Tap: Tap{Layers: []string{"l"}, Tensor: "t", Filters: 2, Height: 1, Width: 1, Pool: 1}, Filters: []afcc.Filter{
		{Index: 0, Max: 1, Ratios: []float32{1, 0.5, 1}, Clusters: [][]int{{0, 2}, {1}}, Ones: 6, Noise: 1, Internal: 1},
		{Index: 1},
	}}
	l.Stats = afcc.Summarize(l.Filters, 3, 0.3)
	l.PerLabel = r.PerLabel
	l.Sweep = []afcc.Stats{{Theta: 0.1}, {Theta: 0.3}}
	l.Stability = &afcc.Stability{Runs: 3, Filters: []afcc.FilterStability{
		{Index: 0, Labels: []afcc.LabelFrequency{{Label: 0, Share: 0.5}, {Label: 2, Share: 1}}, Clusters: make([]afcc.ClusterStability, 2)}, {Index: 1}}}
	l.Order = &afcc.LabelOrder{Permuted: make([]afcc.Stats, 2)}
	l.Confusion = &afcc.ClusterConfusion{Pairs: 1, Errors: 5, Inside: 2}
	l.Single = []SingleFilter{{Accuracy: ptr(0.5), Own: ptr(1.0)}, {Accuracy: ptr(0.0)}}
	l.Top = [][]TopSample{{{Sample: 19, ID: "x", Label: 2, Activation: -1}}, {}}
	r.Layers = []Layer{l}
	return r
}

// TestReadStatistics alters one thing of a sound result at a time.
func TestReadStatistics(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(r *Result, l *Layer)
		ok     bool
	}{
		{"nothing", func(*Result, *Layer) {}, true},
		{"none of it", func(r *Result, l *Layer) {
			r.PerLabel, l.PerLabel, l.Sweep, l.Stability, l.Order, l.Confusion, l.Single, l.Top = nil, nil, nil, nil, nil, nil, nil, nil
		}, true},
		{"the model's accuracy on a label missing", func(r *Result, _ *Layer) { r.PerLabel = r.PerLabel[:2] }, false},
		{"the model's accuracy on a label above 1", func(r *Result, _ *Layer) { r.PerLabel = []*float64{nil, nil, ptr(1.5)} }, false},
		{"an accuracy on a label missing", func(_ *Result, l *Layer) { l.PerLabel = l.PerLabel[:1] }, false},
		{"an accuracy on a label below 0", func(_ *Result, l *Layer) { l.PerLabel = []*float64{nil, ptr(-0.1), nil} }, false},
		{"an empty cluster", func(_ *Result, l *Layer) { l.Filters[0].Clusters[1] = []int{} }, false},
		{"a cluster out of order", func(_ *Result, l *Layer) { l.Filters[0].Clusters[0] = []int{2, 0} }, false},
		{"a label in two clusters", func(_ *Result, l *Layer) { l.Filters[0].Clusters[1] = []int{2} }, false},
		{"a label twice", func(_ *Result, l *Layer) { l.Filters[0].Clusters[1] = []int{1, 1} }, false},
		{"clusters without ratios", func(_ *Result, l *Layer) { l.Filters[0].Ratios = nil }, false},
		{"a ratio below theta", func(_ *Result, l *Layer) { l.Filters[0].Ratios[1] = 0.3 }, false},
		{"another theta", func(r *Result, _ *Layer) { r.Theta = 0.5 }, false},
		{"a one more", func(_ *Result, l *Layer) { l.Filters[0].Ones++ }, false},
		{"noise inside that is outside, too", func(_ *Result, l *Layer) { l.Filters[0].External++ }, false},
		{"another row", func(_ *Result, l *Layer) { l.Stats.Mean.Nc++ }, false},
		{"another SNR", func(_ *Result, l *Layer) { l.Stats.SNR = ptr(*l.Stats.SNR * 1.01) }, false},
		{"no SNR", func(_ *Result, l *Layer) { l.Stats.SNR = nil }, false},
		{"a row summed in another order", func(_ *Result, l *Layer) { l.Stats.MeanAll.D *= 1 + 1e-15 }, true},
		{"a row of more filters", func(_ *Result, l *Layer) { l.Stats.Filters++ }, false},
		{"an accuracy of 2", func(_ *Result, l *Layer) { l.Accuracy = 2 }, false},
		{"the model's accuracy below 0", func(r *Result, _ *Layer) { r.Accuracy = -0.1 }, false},
		{"noise below 0", func(_ *Result, l *Layer) { l.Filters[1].Noise = -1 }, false},
		{"thresholds exchanged", func(_ *Result, l *Layer) { l.Sweep[0], l.Sweep[1] = l.Sweep[1], l.Sweep[0] }, false},
		{"a threshold twice", func(_ *Result, l *Layer) { l.Sweep[1] = l.Sweep[0] }, false},
		{"a threshold of 1", func(_ *Result, l *Layer) { l.Sweep[1].Theta = 1 }, false},
		{"one run", func(_ *Result, l *Layer) { l.Stability.Runs = 1 }, false},
		{"stability of one filter", func(_ *Result, l *Layer) { l.Stability.Filters = l.Stability.Filters[:1] }, false},
		{"stability of another filter", func(_ *Result, l *Layer) { l.Stability.Filters[1].Index = 0 }, false},
		{"stability of one cluster", func(_ *Result, l *Layer) {
			l.Stability.Filters[0].Clusters = l.Stability.Filters[0].Clusters[:1]
		}, false},
		{"stability of a cluster above 1", func(_ *Result, l *Layer) { l.Stability.Filters[0].Clusters[0].Jaccard = 2 }, false},
		{"the frequency of label 3", func(_ *Result, l *Layer) { l.Stability.Filters[0].Labels[1].Label = 3 }, false},
		{"the frequency of label -1", func(_ *Result, l *Layer) { l.Stability.Filters[0].Labels[0].Label = -1 }, false},
		{"a frequency twice", func(_ *Result, l *Layer) { l.Stability.Filters[0].Labels[1].Label = 0 }, false},
		{"a frequency above 1", func(_ *Result, l *Layer) { l.Stability.Filters[0].Labels[1].Share = 1.5 }, false},
		{"more errors inside than there are", func(_ *Result, l *Layer) { l.Confusion.Inside = 6 }, false},
		{"errors below 0", func(_ *Result, l *Layer) { l.Confusion.Errors, l.Confusion.Inside = -1, -2 }, false},
		{"one filter alone", func(_ *Result, l *Layer) { l.Single = l.Single[:1] }, false},
		{"an accuracy alone above 1", func(_ *Result, l *Layer) { l.Single[1].Accuracy = ptr(1.01) }, false},
		{"samples of one filter", func(_ *Result, l *Layer) { l.Top = l.Top[1:] }, false},
		{"a sample behind the last", func(_ *Result, l *Layer) { l.Top[0][0].Sample = 20 }, false},
		{"a sample below 0", func(_ *Result, l *Layer) { l.Top[0][0].Sample = -1 }, false},
		{"a sample of label 3", func(_ *Result, l *Layer) { l.Top[0][0].Label = 3 }, false},
	} {
		r := soundResult()
		c.change(r, &r.Layers[0])
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ReadResult(bytes.NewReader(text))
		if c.ok != (err == nil) || err != nil && !(errors.Is(err, ErrNotStats) || errors.As(err, new(*afcc.ArgumentError))) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// FuzzReadResult: what is accepted can be written and read again, and used.
func FuzzReadResult(f *testing.F) {
	sound, err := json.Marshal(soundResult())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(sound))
	for _, change := range [][2]string{{`"sample":19`, `"sample":99`}, {`"top_samples":[`, `"top_samples":[null,`}, {`"label_order":{`, `"label_order":{"seed":-1,`},
		{`"runs":3`, `"runs":2`}, {`"cluster":null`, `"cluster":{}`}, {`[0,2]`, `[0,1e2]`}, {`"filters":[`, `"filters":[null,`}, {`"ratios":[1,0.5,1]`, `"ratios":[]`}} {
		if text := strings.Replace(string(sound), change[0], change[1], 1); text != string(sound) {
			f.Add(text)
		} else {
			f.Fatalf("%s is not there", change[0])
		}
	}
	f.Add(`{"schema":"filterlens.stats/1","theta":0.3,"layers":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ReadResult(strings.NewReader(text))
		if err != nil {
			return
		}
		k := len(r.Data.Labels)
		for _, l := range r.Layers {
			if n := l.Positions(); n < 0 {
				t.Errorf("%d positions", n)
			}
			for i := range l.Filters {
				for _, j := range l.Filters[i].Labels() {
					_ = r.Data.Labels[j]
				}
			}
			if s := afcc.Summarize(l.Filters, k, r.Theta); s.Mean.D > float64(k) {
				t.Errorf("%v of %d labels", s.Mean.D, k)
			}
		}
		once, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadResult(bytes.NewReader(once))
		if err != nil {
			t.Fatalf("refused when written again: %v", err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("another result when written again: %v", err)
		}
	})
}
