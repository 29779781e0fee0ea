package probe

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"testing"
)

// TestGraphSums: label means that are summed and divided in the graph are those that
// are summed outside, to the last bit, whether the session holds the sums or is given
// them; and of each label they leave it once.
func TestGraphSums(t *testing.T) {
	for name, r := range trials(t) {
		t.Run(name, func(t *testing.T) {
			type found struct {
				means []float32
				runs  any // what repeated measurements make of the layer
			}
			eng := r.eng
			if s, ok := eng.(*spy); ok {
				eng = s.Engine
			}
			measure := func(provider string, plain bool) (layers []found, s *spy, res *Result) {
				s = &spy{Engine: eng, provider: provider, plain: plain}
				r.eng = s
				opt := r.opt
				defer func() { r.opt = opt }()
				r.opt.Each = func(l *Layer, f Fields) error {
					layers = append(layers, found{slices.Clone(f.Means), l.Stability})
					return nil
				}
				res, err := r.run(t.Context(), t, "", nil)
				if err != nil {
					t.Fatal(err)
				}
				return layers, s, res
			}
			want, outside, res := measure("cpu", false)
			numbers := 0
			for _, l := range want {
				numbers += len(l.means)
			}
			for what, plain := range map[string]bool{"held": false, "passed": true} {
				got, inside, _ := measure("elsewhere", plain)
				if len(got) != len(want) {
					t.Fatalf("%s: %d layers, want %d", what, len(got), len(want))
				}
				for i := range got {
					if tolerance(eng) == 0 && !slices.EqualFunc(got[i].means, want[i].means, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
						t.Errorf("%s: the label means of layer %d differ", what, i)
					}
					a, _ := json.Marshal(got[i].runs)
					b, _ := json.Marshal(want[i].runs)
					if tolerance(eng) == 0 && string(a) != string(b) {
						t.Errorf("%s: repeated measurements of layer %d make %s, want %s", what, i, a, b)
					}
				}
				if r.opt.Stability > 0 || plain {
					continue
				}
				if gave := inside.gave["label"]; gave != numbers {
					t.Errorf("%d numbers left the sessions for label means of %d", gave, numbers)
				}
				if gave := outside.gave["label"]; gave <= numbers && res.Data.Stats.MinPerLabel > r.opt.Batch {
					t.Errorf("%d numbers left the sessions for sums of batches, %d for means", gave, numbers)
				}
			}
		})
	}
}

// TestGraphSumsUnread: a label of which the last batch holds no readable sample is
// divided all the same.
func TestGraphSumsUnread(t *testing.T) {
	eng, data := runtime(t), imageFolder(t, testK, 30)
	opt := testOptions()
	_, stats, _, err := openSet(t, data).Split(opt.Split)
	if err != nil {
		t.Fatal(err)
	}
	s := samples{t, data, openSet(t, data)}
	var last []int
	for _, b := range s.set.ByLabel(stats.Index, opt.Batch) {
		if s.set.Label(b[0]) == 0 {
			last = b
		}
	}
	s.corrupt(last...)
	var means [][]float32
	for _, provider := range []string{"cpu", "elsewhere"} {
		r := &trial{eng: &spy{Engine: eng, provider: provider}, m: small(t, testK), data: data, opt: opt}
		r.opt.Each = func(_ *Layer, f Fields) error {
			means = append(means, slices.Clone(f.Means))
			return nil
		}
		if _, err := r.run(context.Background(), t, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	n := len(means) / 2
	for i := range n {
		if tolerance(eng) == 0 && !slices.Equal(means[i], means[n+i]) {
			t.Errorf("layer %d: the means of a label with an unreadable batch differ", i)
		}
	}
}
