package report

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

// measuredResult is goldenResult with every statistic, of which one layer lacks
// what can be lacking.
func measuredResult() *probe.Result {
	r := goldenResult()
	r.Provider, r.Nodes = "cuda", map[string]int{"cuda": 118, "cpu": 4}
	r.Elsewhere = []string{"/fc/Gemm (Gemm)", "/shape/Shape", "/x", "/y"}
	first, second := &r.Layers[0], &r.Layers[1]
	for i := range 10 {
		theta := float64(i) / 10
		first.Sweep = append(first.Sweep, afcc.Summarize(first.Filters, 3, theta))
		second.Sweep = append(second.Sweep, afcc.Summarize(second.Filters, 3, theta))
	}
	first.Stability = &afcc.Stability{Runs: 2, Jaccard: ptr(0.8125), Phi: ptr(0.75), Cluster: &afcc.ClusterStability{Jaccard: 0.625, Identical: 0.5}, Filters: []afcc.FilterStability{
		{Index: 0, Jaccard: ptr(0.8125), Phi: ptr(0.75), Labels: []afcc.LabelFrequency{{Label: 0, Share: 1}, {Label: 2, Share: 0.5}}, Clusters: []afcc.ClusterStability{{Jaccard: 0.8, Identical: 1}, {Jaccard: 0.45}}},
		{Index: 1}, {Index: 2},
	}}
	second.Stability = &afcc.Stability{Runs: 2, Filters: []afcc.FilterStability{{Index: 0}}}
	spread := afcc.Spread{Mean: 1.75, SD: 0.25, Min: 1.5, Max: 2}
	first.Order = &afcc.LabelOrder{Seed: 1, Ascending: first.Stats, Permuted: []afcc.Stats{first.Stats, first.Stats}, Nc: spread, Cs: spread, N: spread, NAll: spread}
	first.Confusion = &afcc.ClusterConfusion{Pairs: 1, Errors: 18, Inside: 9, Share: ptr(0.5), Expected: ptr(1. / 3), Lift: ptr(1.5), WeightedLift: ptr(1.5)}
	second.Confusion = &afcc.ClusterConfusion{Errors: 3, Share: ptr(0.0), Expected: ptr(0.0)}
	first.Single = []probe.SingleFilter{{Accuracy: ptr(0.4), Own: ptr(0.6)}, {Accuracy: ptr(0.2)}, {Accuracy: ptr(0.0)}}
	second.Single = []probe.SingleFilter{{}}
	return r
}

func TestStatisticsGolden(t *testing.T) {
	r := measuredResult()
	for name, doc := range map[string]Document{
		"stats-full": FromStats(r), "filters-full": FromFilters(&r.Layers[0], r.Data.Labels, r.Theta), "definitions": FromDefinitions(NewDefinitions()),
	} {
		var b bytes.Buffer
		golden(t, name+".txt", &b, WriteText(&b, TextOptions{}, doc))
		golden(t, name+".80.txt", &b, WriteText(&b, TextOptions{Width: 80}, doc))
		if name != "definitions" {
			golden(t, name+".csv", &b, WriteCSV(&b, doc))
		}
	}
}

// The main table stays whole where a terminal is at least 80 columns wide, in the
// columns that matter most.
func TestStatsFitATerminal(t *testing.T) {
	r := measuredResult()
	r.Layers[0].Layers = []string{"/features/features.40/Conv"}
	var b bytes.Buffer
	if err := WriteText(&b, TextOptions{Width: 80}, FromStats(r)); err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(b.String()) {
		if n := len([]rune(strings.TrimRight(l, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, l)
		}
	}
	for _, want := range []string{"  layer", "accuracy", "N_c", "C_s", "SNR", "stable"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not shown:\n%s", want, b.String())
		}
	}
}

// Every column of the tables of a measured model has a definition under its name.
func TestColumnsAreDefined(t *testing.T) {
	r := measuredResult()
	defined := map[string]bool{}
	for _, d := range NewDefinitions().Definitions {
		defined[d.Term] = true
		if d.Meaning == "" || d.Source == "" || strings.HasSuffix(d.Meaning, ".") {
			t.Errorf("%+v", d)
		}
	}
	// What stands for itself, or is a part of what is defined.
	plainly := []string{"engine", "engine version", "provider", "split", "used for", "per label", "sha256", "filter", "filters", "mean", "sd", "best", "best own", ">= 0.75", "< 0.5", "lift"}
	for _, doc := range []Document{FromStats(r), FromFilters(&r.Layers[0], r.Data.Labels, r.Theta)} {
		for _, s := range doc.Sections {
			if s.Table == nil || strings.Contains(s.Title, "thresholds") {
				continue
			}
			for _, c := range s.Table.Columns {
				if !defined[c.Title] && !slices.Contains(plainly, c.Title) {
					t.Errorf("section %q: column %q has no definition", s.Title, c.Title)
				}
			}
		}
	}
}

// What does not follow the paper is said plainly, with where and how much.
func TestTrendSection(t *testing.T) {
	r := goldenResult()
	if s := trendSection(r); len(s.Facts) > 0 {
		t.Errorf("a trend of %d layers: %+v", len(r.Layers), s)
	}
	r.Layers = append(r.Layers, r.Layers[0], r.Layers[0])
	for i, v := range []struct {
		accuracy float64
		snr      *float64
	}{{0.5, ptr(1.0)}, {0.7, nil}, {0.65, ptr(3.0)}, {0.2, ptr(2.0)}} {
		r.Layers[i].Accuracy, r.Layers[i].Stats.SNR = v.accuracy, v.snr
	}
	r.Data.Eval.Samples = 100
	s := trendSection(r)
	for i, want := range []string{
		"rho = -0.40 over 4 layers; it falls at 2 of 3 steps: conv2 + short to conv1 (70.00 % to 65.00 %, within the error), conv1 to conv1 (65.00 % to 20.00 %)",
		"rho = 0.50 over 3 layers; it falls at 1 of 2 steps: conv1 to conv1 (3.00 to 2.00)",
	} {
		if got := s.Facts[i].Value.Text; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for i := range r.Layers {
		r.Layers[i].Accuracy, r.Layers[i].Stats.SNR = float64(i)/10, ptr(1.0)
	}
	s = trendSection(r)
	for i, want := range []string{"rho = 1.00 over 4 layers; it falls nowhere", "the same in all layers; it falls nowhere"} {
		if got := s.Facts[i].Value.Text; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRunOn(t *testing.T) {
	for _, c := range []struct {
		provider  string
		nodes     map[string]int
		elsewhere []string
		want      string
	}{
		{"cpu", nil, nil, "ort 1, provider cpu"},
		{"cpu", map[string]int{"cpu": 1}, nil, "ort 1, provider cpu: 1 node"},
		{"cuda", map[string]int{"cpu": 2, "cuda": 1118}, []string{"a", "b"}, "ort 1, provider cuda: 1,118 nodes, cpu: 2 (a, b)"},
		{"cuda", map[string]int{"cpu": 5, "cuda": 2}, []string{"a", "b", "c", "d", "e"}, "ort 1, provider cuda: 2 nodes, cpu: 5 (a, b, c and 2 more)"},
	} {
		if got := runOn("ort", "1", c.provider, c.nodes, c.elsewhere); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
