package report

import (
	"fmt"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
)

// goldenMeasuring has a head of every kind, a pooled map and a fixed batch.
func goldenMeasuring() *probe.Plan {
	conv := probe.PlannedTap{Tap: probe.Tap{Layers: []string{"/conv1/Conv"}, Tensor: "t1", Op: "Conv", Filters: 64, Height: 112, Width: 112, Pool: 4}, Head: "streamed",
		HeadBytes: 20_070_400, MeansBytes: 20_672_512, TrainingBytes: 60_211_200, FeatureBytes: 321_126_400}
	joined := probe.PlannedTap{Tap: probe.Tap{Layers: []string{"/conv2/Conv", "/short/Conv"}, Parts: []probe.FilterRange{{Layer: "/conv2/Conv", First: 4, Filters: 8}}, Tensor: "t2", Op: "Conv", Filters: 8, Height: 1, Width: 1, Pool: 1, ChannelsLast: true, Inner: true}, Head: "cached",
		HeadBytes: 3200, MeansBytes: 3296, TrainingBytes: 9600, FeatureBytes: 51_200}
	own := probe.PlannedTap{Tap: probe.Tap{Layers: []string{"/conv3/Conv"}, Tensor: "t3", Op: "Conv", Filters: 8, Height: 1, Width: 1, Pool: 1, Own: true}, Head: "classifier", HeadBytes: 3200, MeansBytes: 3296}
	return &probe.Plan{
		Schema: probe.PlanSchema, Model: "net.onnx", Labels: 100, Memory: 4 << 30, Peak: 100_954_112, Batch: 100, FixedBatch: 1, Opened: true,
		Fit: 1600, Stats: 1200, Eval: 1200, Recipe: probe.Recipe{Epochs: 25, Batch: 100, LearningRate: 0.01, Decay: 0.975, Momentum: 0.975, L2: 1e-3, Norm: 10}, Forward: 48_400, State: 400_000_000, Kept: 41_000_000,
		Groups: []probe.Group{
			{Taps: []probe.PlannedTap{conv}, Held: 40_742_912, Passes: []probe.Pass{
				{Kind: "feature lengths", Split: "fit", Samples: 1600, Times: 1, Layers: []string{"/conv1/Conv"}, Bytes: 40_742_912},
				{Kind: "training", Split: "fit", Samples: 1600, Times: 25, Layers: []string{"/conv1/Conv"}, Bytes: 100_954_112},
				{Kind: "accuracy", Split: "eval", Samples: 1200, Times: 1, Layers: []string{"/conv1/Conv"}, Bytes: 40_742_912},
				{Kind: "label means", Split: "stats", Samples: 1200, Times: 1, Layers: []string{"/conv1/Conv"}, Bytes: 40_742_912}}},
			{Taps: []probe.PlannedTap{joined, own}, Held: 12_992, Passes: []probe.Pass{
				{Kind: "features", Split: "fit", Samples: 1600, Times: 1, Layers: []string{"/conv2/Conv"}, Bytes: 73_792},
				{Kind: "accuracy", Split: "eval", Samples: 1200, Times: 1, Layers: []string{"/conv2/Conv", "/conv3/Conv"}, Bytes: 12_992},
				{Kind: "label means", Split: "stats", Samples: 1200, Times: 1, Layers: []string{"/conv2/Conv", "/conv3/Conv"}, Bytes: 12_992}}},
		},
		Skipped: []probe.Skip{{Layer: "/fc/Gemm", Reason: "its outputs are the labels"}},
		LeftOut: []probe.LeftOut{{Statistic: "stability", Passes: 20}},
	}
}

func TestMeasuringSchema(t *testing.T) {
	t.Parallel()
	s, doc := compiled(t, "measuring")
	fits(t, doc, map[string]any{"plan": probe.Plan{}, "recipe": probe.Recipe{}, "group": probe.Group{}, "tap": probe.PlannedTap{}, "range": probe.FilterRange{}, "pass": probe.Pass{}, "skip": probe.Skip{}, "left_out": probe.LeftOut{}})
	v := plain(t, goldenMeasuring())
	if err := s.Validate(v); err != nil {
		t.Fatal(err)
	}
	strict(t, "measuring", s, doc, v)
}

// A result says what was left out, and how to get it.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	r := goldenResult()
	text := func() string {
		var b strings.Builder
		if err := WriteText(&b, TextOptions{}, FromStats(r)); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(b.String()), " ")
	}
	if s := text(); strings.Contains(s, "left out: ") {
		t.Error("something is left out of a result in which all is there")
	}
	for passes, want := range map[int]string{
		1:    "left out: stability, to save a pass through the model; ask for it with --statistics stability",
		1200: "left out: stability, to save 1,200 passes through the model; ask for it with --statistics stability",
	} {
		r.LeftOut = []probe.LeftOut{{Statistic: "stability", Passes: passes}}
		if s := text(); !strings.Contains(s, want) {
			t.Errorf("%q is not in %s", want, s)
		}
		s, _ := compiled(t, "stats")
		if err := s.Validate(plain(t, r)); err != nil {
			t.Error(err)
		}
	}
}

// Layers with outliers are named below the table, the first few of them.
func TestOutliersNote(t *testing.T) {
	t.Parallel()
	r := goldenResult()
	var b strings.Builder
	for n, want := range map[int]string{
		0: "", 1: "7 of 4,000 samples at conv1, at most 1,841 times the median",
		5: "7 of 4,000 samples at conv3, at most 1,841 times the median; and at 2 layers more",
	} {
		r.Layers = nil
		for i := range max(n, 1) {
			l := goldenResult().Layers[0]
			l.Layers = []string{fmt.Sprintf("conv%d", i+1)}
			if n > 0 {
				l.Outliers = &probe.Outliers{Samples: 4000, Shortened: 7, Far: 2, Longest: 1840.7, Sample: 3, ID: "train/3", Label: 1}
			}
			r.Layers = append(r.Layers, l)
		}
		b.Reset()
		if err := WriteText(&b, TextOptions{}, FromStats(r)); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(b.String()), " ")
		if strings.Contains(text, "long features") != (n > 0) || !strings.Contains(text, want) {
			t.Errorf("%d layers: %q is not in %s", n, want, text)
		}
		s, _ := compiled(t, "stats")
		if err := s.Validate(plain(t, r)); err != nil {
			t.Error(err)
		}
	}
}
