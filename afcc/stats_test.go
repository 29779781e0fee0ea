package afcc

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

func ptr(v float64) *float64 { return &v }

func TestSummarizeWorkedExample(t *testing.T) {
	f := Analyze(worked, 5, 0.3)
	dead := Filter{Index: 1}
	lone := Filter{Index: 2, Max: 1, Ratios: make([]float32, 5), Ones: 2, Noise: 2, External: 2}
	bad := Filter{Index: 3, NonFinite: true}
	got := Summarize([]Filter{f, dead, lone, bad}, 5, 0.3)
	want := Stats{
		K: 5, Theta: 0.3, Filters: 4, WithoutCluster: 3, NonFinite: 1,
		Mean:          Averages{Nc: 2, Cs: 1.5, D: 3, N: 4, Internal: 2, External: 2},
		MeanAll:       Averages{Nc: 0.5, Cs: 0.375, D: 0.75, N: 1.5, Internal: 0.5, External: 1},
		Signal:        3.0 / 5,
		NoiseInternal: 2.0 / 20,
		NoiseExternal: 6.0 / 20,
		SNR:           ptr(1.5),
		SNRExternal:   ptr(2),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// C_s counts each filter once, however many clusters it has: sizes 3 and
// (1, 1, 1) average to 2, although the mean over clusters is 1.5.
func TestClusterSizeIsAveragedByFilter(t *testing.T) {
	s := Summarize([]Filter{{Clusters: [][]int{{0, 1, 2}}}, {Clusters: [][]int{{0}, {1}, {2}}}}, 3, 0.3)
	if s.Mean.Cs != 2 || s.Mean.Nc != 2 {
		t.Errorf("C_s %v, N_c %v", s.Mean.Cs, s.Mean.Nc)
	}
}

func TestSNRWithoutNoise(t *testing.T) {
	for name, filters := range map[string][]Filter{
		"no filters":  nil,
		"no noise":    {{Max: 1, Ratios: []float32{1, 0}, Clusters: [][]int{{0}}, Ones: 1}},
		"no clusters": {{Max: -1}},
	} {
		s := Summarize(filters, 2, 0.3)
		b, err := json.Marshal(s)
		if err != nil || s.SNR != nil || s.SNRExternal != nil || !strings.Contains(string(b), `"snr":null`) {
			t.Errorf("%s: %s, %v", name, b, err)
		}
		var back Stats
		if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, s) {
			t.Errorf("%s: got %+v, %v", name, back, err)
		}
	}
	if s := Summarize([]Filter{Analyze([]float32{2}, 1, 0.3)}, 1, 0.3); s.Signal != 1 || s.SNR != nil || s.NoiseInternal != 0 {
		t.Errorf("one label: %+v", s)
	}
}

// Signal and noise by their meaning, label by label and output by output: S is the
// mean over labels of the filters that hold the label; N the mean over pairs of
// different labels of the filters in which input i wrongly drives output j.
func TestSignalAndNoiseIdentities(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for range 200 {
		k := 2 + rng.IntN(30)
		var filters []Filter
		holds := make([]int, k)
		ones, onDiagonal := 0, 0
		inside := 0
		for range 1 + rng.IntN(20) {
			m := randomMatrix(rng, k)
			f := Analyze(m, k, 0.3)
			filters = append(filters, f)
			for _, j := range f.Labels() {
				holds[j]++
				onDiagonal++
			}
			if f.Ratios == nil {
				continue
			}
			for _, v := range m {
				if v/float32(f.Max) > 0.3 {
					ones++
				}
			}
			for _, c := range f.Clusters {
				inside += len(c) * (len(c) - 1)
			}
		}
		s := Summarize(filters, k, 0.3)
		mean := 0.0
		for _, n := range holds {
			mean += float64(n) / float64(k)
		}
		pairs := float64(k * (k - 1))
		// Ones on the diagonal are all in clusters, so all others are wrong outputs.
		wrong := float64(ones-onDiagonal) / pairs
		if !near(s.Signal, mean) || !near(s.NoiseInternal+s.NoiseExternal, wrong) || !near(s.NoiseInternal, float64(inside)/pairs) {
			t.Fatalf("K=%d: %+v, signal %v, wrong outputs %v", k, s, mean, wrong)
		}
		n := float64(s.Filters)
		if !near(s.MeanAll.D*n, s.Signal*float64(k)) || !near(s.MeanAll.N*n, s.NoiseExternal*pairs) ||
			!near(s.MeanAll.Internal+s.MeanAll.External, s.MeanAll.N) || !near(s.Mean.Internal+s.Mean.External, s.Mean.N) {
			t.Fatalf("K=%d: sums do not fit: %+v", k, s)
		}
		if s.SNR != nil && !near(*s.SNR, s.Signal/wrong) {
			t.Fatalf("K=%d: SNR %v, want %v", k, *s.SNR, s.Signal/wrong)
		}
	}
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*(1+math.Abs(a)+math.Abs(b)) }
