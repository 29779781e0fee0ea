package report

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export"
	"github.com/filterlens/filterlens/export/compact"
	"github.com/filterlens/filterlens/export/gradient"
	"github.com/filterlens/filterlens/export/refit"
)

func goldenPlan() *export.Plan {
	return &export.Plan{Schema: export.PlanSchema, Model: "net.onnx", Criterion: export.Random, Target: export.Both, Dilution: ptr(0.9), Seed: 7, Dense: true, Recover: []string{},
		Layers: []export.LayerPlan{{Layer: "/conv2/Conv", Op: "Conv", Rule: "filters", Theta: 0.4375, Rows: 64, Cols: 64, Inner: 9, Connections: 4096, Kept: 400, Dilution: 0.90234375, Elements: 36864, Dropped: 33264, CutOutputs: 1, CutInputs: 2},
			{Layer: "/fc/Gemm", Op: "Gemm", Rule: "classifier", Theta: 0.5, Rows: 2, Cols: 64, Inner: 1, Connections: 128, Kept: 12, Dilution: 0.90625, Elements: 128, Dropped: 116}},
		Blocked:     []export.Blocked{{Layer: "/conv1/Conv", Reason: "it reads the image, whose channels have no labels"}},
		Connections: 4224, Kept: 412, Elements: 36992, Dropped: 33380}
}

// goldenFilterPlan removes whole filters only.
func goldenFilterPlan() *export.Plan {
	return &export.Plan{Schema: export.PlanSchema, Model: "net.onnx", Criterion: export.AFCC, Target: export.Conv, FiltersKeep: ptr(0.5), RoundTo: 8, Layers: []export.LayerPlan{},
		Filters: []export.FilterPlan{{Layer: "/conv1/Conv", Coupled: []string{"/conv3/Conv"}, Size: 32, Kept: 16, Removed: []int{5, 3}, Scores: []float64{0.25, 0.5}, KeptScore: 0.75}, {Layer: "/conv2/Conv", Size: 64, Kept: 32, Removed: []int{1}}}}
}

func goldenPreview() *compact.Plan {
	return &compact.Plan{Schema: compact.PlanSchema, Model: "net.onnx", Channels: 96, Removed: 48,
		Before: compact.Cost{Bytes: 1000000, Parameters: 250000, MACs: ptr(int64(4e6))}, After: compact.Cost{Bytes: 400000, Parameters: 98000, MACs: ptr(int64(1.5e6))},
		Barriers: []compact.Barrier{{Index: 4, Node: "/Odd", Op: "Odd", Reason: "no rule for this operator"}},
		Refused:  []compact.Refusal{{Layer: "/conv2/Conv", Filters: []int{1, 2}, Reason: "the graph's output has them"}}}
}

func goldenPrune() *export.Report {
	before := probe.Evaluation{Samples: 200, Correct: 180, Top1: 0.9, Top5: ptr(1.0), Latency: &probe.Timing{Batch: 1, Runs: 30, Median: 2, Low: 1.5, High: 3}}
	after := before
	after.Correct, after.Top1, after.Changed, after.Nodes, after.Elsewhere = 170, 0.85, ptr(0.125), map[string]int{"cpu": 42, "x": 1}, []string{"Shape (/Shape)"}
	return &export.Report{Schema: export.ReportSchema, Output: "out.onnx", Plan: goldenPlan(), Verified: true,
		Checks: []export.Check{{Name: "surgery", OK: true, Detail: "dropped weights are zero"}, {Name: "accuracy", Detail: "a loss of 5.00 points; 0.50 are allowed"}},
		Steps:  []export.Step{{Name: export.Masked, Seconds: 0.25, Evaluation: &after}},
		Before: &export.Side{Bytes: 1000000, Parameters: 250000, Zeros: ptr(0.0), MACs: ptr(int64(1e9)), Latency: before.Latency, Evaluation: &before},
		After:  &export.Side{Bytes: 1000100, Parameters: 250000, Zeros: ptr(0.9), Latency: before.Latency, Evaluation: &after},
		Drop:   ptr(5.0), Changed: ptr(0.125), NewZeros: 33380, Engine: "onnxruntime", EngineVersion: "1.30.0", Provider: "cpu"}
}

// goldenRecovered has all that a report may have: every step, one left out, channels
// that went, and a search.
func goldenRecovered() *export.Report {
	r := goldenPrune()
	plan := goldenPlan()
	plan.Dense, plan.Recover, plan.Criterion, plan.RoundTo, plan.FiltersKeep = false, export.RecoverySteps(), export.AFCC, 8, ptr(0.5)
	plan.Filters = goldenFilterPlan().Filters
	r.Plan = plan
	masked, ridge, final := *r.After.Evaluation, *r.After.Evaluation, *r.After.Evaluation
	masked.Correct, masked.Top1, masked.Changed = 20, 0.1, ptr(0.875)
	ridge.Correct, ridge.Top1 = 150, 0.75
	final.Correct, final.Top1, final.Changed, final.Latency = 178, 0.89, ptr(0.0625), &probe.Timing{Batch: 1, Runs: 30, Median: 1, Low: 0.75, High: 1.25}
	final.Nodes, final.Elsewhere = nil, nil
	r.After = &export.Side{Bytes: 400000, Parameters: 98000, Zeros: ptr(0.25), MACs: ptr(int64(4e8)), Latency: final.Latency, Evaluation: &final}
	r.Drop, r.Changed = ptr(1.0), ptr(0.0625)
	r.Checks[1] = export.Check{Name: "compacted", OK: true, Detail: "outputs differ from those of the masked model by 1.2e-06"}
	r.Steps = []export.Step{
		{Name: export.Masked, Evaluation: &masked},
		{Name: export.RecoverBias, Seconds: 1.5, Evaluation: &masked, Layers: []refit.LayerError{{Layer: "/conv2/Conv", Before: 0.5, After: 0.4375, Samples: 100, Observations: 6400, Weights: 3600, Method: "mean"}}},
		{Name: export.RecoverRidge, Seconds: 12, Evaluation: &ridge, Layers: []refit.LayerError{
			{Layer: "/conv2/Conv", Before: 0.4375, After: 0.125, Samples: 100, Observations: 65536, Weights: 3600, Method: "conjugate gradients", Iterations: 17},
			{Layer: "/conv3/Conv", Before: 0.25, After: 0.25, Samples: 100, Observations: 65536, Weights: 36, Method: "cholesky", Kept: true},
			{Layer: "/fc/Gemm", Skipped: "no weight is left"}}},
		{Name: export.RecoverHead, Seconds: 0.5, Skipped: "net.onnx has no classifier that can be trained alone"},
		{Name: export.RecoverHead, Seconds: 2, Evaluation: &ridge, Head: &refit.HeadFit{Layer: "/fc/Gemm", Samples: 1080, HeldOut: 120, LossBefore: 1.25, LossAfter: 0.5, AccuracyBefore: 0.75, AccuracyAfter: 0.875, L2: 0.003, Iterations: 140, Soft: 0.5, Weights: 12, Kept: true}},
		{Name: export.RecoverFinetune, Seconds: 185, Evaluation: &final, Training: &gradient.History{Batch: 100, TrainSamples: 1080, HeldOutSamples: 120, Best: 1, Stopped: "patience", Parameters: 5000, Zeros: 3000, Epochs: []gradient.Epoch{
			{Epoch: 0, Accuracy: ptr(0.75), HeldOutLoss: ptr(0.5), Rate: 0.01, Seconds: 1}, {Epoch: 1, Loss: ptr(0.625), TrainAccuracy: ptr(0.8125), Accuracy: ptr(0.89), HeldOutLoss: ptr(0.375), Rate: 0.005, Seconds: 92}}}}}
	r.Samples = &export.Samples{Preprocess: "signed", Fit: &export.Part{Samples: 720, SHA256: "aa"}, Stats: &export.Part{Samples: 480, SHA256: "bb"}, Eval: &export.Part{Samples: 200, SHA256: "cc"}}
	p := goldenPreview()
	r.Compaction = &export.Compaction{Channels: 96, Removed: 48, Groups: []export.CompactedGroup{{Layers: []string{"/conv1/Conv", "/conv3/Conv"}, Size: 32, Kept: 16}, {Layers: []string{"/conv2/Conv"}, Size: 64, Kept: 32}},
		Grouped: []export.GroupedLayer{
			{Layer: "/conv3/Conv", Components: 8, Groups: 4, Gathers: 1, MACs: 0.25, Before: &probe.Timing{Batch: 1, Runs: 30, Median: 1.5, Low: 1.25, High: 2}, After: &probe.Timing{Batch: 1, Runs: 30, Median: 1, Low: 0.75, High: 1.25}, Won: 0.9, Kept: true},
			{Layer: "/conv2/Conv", Components: 2, Groups: 2, MACs: 0.5, Before: &probe.Timing{Batch: 1, Runs: 30, Median: 1, Low: 0.75, High: 1.25}, After: &probe.Timing{Batch: 1, Runs: 30, Median: 1.25, Low: 1, High: 2}, Won: 0.25, Reason: "not faster"},
			{Layer: "/conv4/Conv", Components: 2, Groups: 2, MACs: 0.625, Reason: "not measured"}},
		Barriers: p.Barriers, Refused: p.Refused, Nodes: 1, Tensors: 2, Tolerance: 1e-4, Real: &export.Difference{Samples: 200, Largest: 1.25e-5, Relative: 1.2e-6}, Noise: &export.Difference{Samples: 8}}
	r.Search = &export.Search{TargetMACs: ptr(0.5), TargetLatency: ptr(0.75), MaxDrop: ptr(1.0), Samples: 400, Met: true,
		Sensitivities: []export.Sensitivity{{Layer: "/conv1/Conv", Removed: []float64{0.25, 0.5}, Error: []float64{0.0625, 0.5}, MACs: 12345}},
		Trials:        []export.Trial{{Share: 0.25, MACs: ptr(0.625)}, {Share: 0.5, MACs: ptr(0.375), Latency: ptr(0.5), Drop: ptr(0.5), Margin: ptr(0.25), OK: true}}}
	r.Warnings = []string{"w"}
	return r
}

func planDocuments() []any {
	plan := goldenPlan()
	plan.Theta, plan.Warnings, plan.Layers[0].Out, plan.Layers[0].Transposed, plan.Layers[0].Mask = ptr(0.3), []string{"w"}, "t2", true, []byte{1, 2}
	plan.Recover = []string{export.RecoverRidge, export.RecoverFinetune}
	return []any{goldenPlan(), plan, goldenFilterPlan()}
}

func planTypes() map[string]any {
	return map[string]any{"plan": export.Plan{}, "layer": export.LayerPlan{}, "blocked": export.Blocked{}, "filters": export.FilterPlan{}}
}

func pruneDocuments() []any {
	failed := goldenPrune()
	failed.Before, failed.After, failed.Drop, failed.Changed, failed.Checks, failed.Steps = nil, nil, nil, nil, nil, nil
	unmeasured := goldenPrune()
	unmeasured.Before.Latency, unmeasured.Before.Evaluation, unmeasured.After.Latency, unmeasured.After.Evaluation, unmeasured.Drop, unmeasured.Changed = nil, nil, nil, nil, nil, nil
	return []any{goldenPrune(), goldenRecovered(), failed, unmeasured}
}

func pruneTypes() map[string]any {
	types := map[string]any{"report": export.Report{}, "check": export.Check{}, "side": export.Side{}, "evaluation": probe.Evaluation{}, "timing": probe.Timing{},
		"step": export.Step{}, "layer_error": refit.LayerError{}, "head_fit": refit.HeadFit{}, "training": gradient.History{}, "epoch": gradient.Epoch{},
		"samples": export.Samples{}, "part": export.Part{}, "compaction": export.Compaction{}, "group": export.CompactedGroup{}, "grouped_layer": export.GroupedLayer{}, "barrier": compact.Barrier{}, "refusal": compact.Refusal{},
		"difference": export.Difference{}, "search": export.Search{}, "sensitivity": export.Sensitivity{}, "trial": export.Trial{}}
	maps.Copy(types, planTypes())
	return types
}

// The three answers stand in their order, before the layers.
func TestPruneAnswersInOrder(t *testing.T) {
	var b bytes.Buffer
	if err := WriteText(&b, TextOptions{}, FromPrune(goldenRecovered())); err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, title := range []string{"criterion", "Is the surgery right?", "What did it cost?", "original", "masked", "+ bias", "+ ridge", "+ head", "+ finetune", "final", "Did it pay?", "Search", "Layers", "Recovery, layer by layer", "Channels removed"} {
		i := strings.Index(b.String()[at:], title)
		if i < 0 {
			t.Fatalf("%q is not behind what it should be behind:\n%s", title, b.String())
		}
		at += i
	}
}

// What was not measured is said, not shown as zero.
func TestPruneUnmeasured(t *testing.T) {
	r := pruneDocuments()[3].(*export.Report)
	var b bytes.Buffer
	if err := WriteText(&b, TextOptions{}, FromPrune(r)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"not measured; give --data DIR", "latency was not measured"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for _, no := range []string{"top-1", "latency, median"} {
		if strings.Contains(b.String(), no) {
			t.Errorf("%q in\n%s", no, b.String())
		}
	}
}

// A difference of medians within the spreads is not sold as a gain.
func TestPruneOverlappingLatency(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		overlap   bool
	}{{1.75, 2.5, true}, {0.5, 1, false}, {3.5, 4, false}} {
		r := goldenPrune()
		r.After.Latency = &probe.Timing{Batch: 1, Runs: 30, Median: (c.low + c.high) / 2, Low: c.low, High: c.high}
		var b bytes.Buffer
		if err := WriteText(&b, TextOptions{}, FromPrune(r)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(b.String(), "spreads of latency overlap"); got != c.overlap {
			t.Errorf("%v to %v: overlap %v, want %v", c.low, c.high, got, c.overlap)
		}
	}
}

// The steps that ran by themselves are named, those that were left out are not.
func TestPruneNamesSteps(t *testing.T) {
	steps := []export.Step{{Name: export.Masked}, {Name: export.RecoverBias}, {Name: export.RecoverHead, Skipped: "no classifier"}}
	if got, want := ranSteps(steps), "bias (what the data and the model allow)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := ranSteps(steps[:1]); got != "none" {
		t.Errorf("%q, want none", got)
	}
}
