package report

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine/ort"
)

var update = flag.Bool("update", false, "write the golden files")

func ptr[T any](v T) *T { return &v }

func shapeOf(batch string, dims ...int64) inspect.Shape {
	s := inspect.Shape{Known: true, Dims: []inspect.Dim{{Value: -1, Name: batch}}}
	for _, d := range dims {
		s.Dims = append(s.Dims, inspect.Dim{Value: d})
	}
	return s
}

// goldenModel has a layer of every sort of gap: unread weights, unknown shapes,
// an operator without a kernel.
func goldenModel() *inspect.Model {
	return &inspect.Model{
		File: "net.onnx", FileBytes: 553_433_881, ExternalBytes: 1_500_000_000, IRVersion: 8,
		Opsets: []inspect.Opset{{Version: 17}, {Domain: "com.microsoft", Version: 1}}, Producer: "pytorch", ProducerVersion: "2.1",
		Metadata:  []inspect.KV{{Key: "filterlens.preprocess", Value: "signed"}, {Key: "filterlens.labels", Value: "cat\ndog\n"}},
		Inputs:    []inspect.Value{{Name: "input", DType: "float", Shape: shapeOf("batch", 3, 224, 224)}},
		Outputs:   []inspect.Value{{Name: "logits", DType: "float", Shape: shapeOf("batch", 2)}, {Name: "odd"}},
		Operators: []inspect.OpCount{{Op: "Conv", Count: 2}, {Op: "Fancy", Domain: "com.microsoft", Count: 1}},
		Layers: []inspect.Layer{
			{Name: "/conv1/Conv", Op: "Conv", Kernel: []int64{3, 3}, Strides: []int64{2, 2}, Group: 1, In: shapeOf("batch", 3, 224, 224), Out: shapeOf("batch", 64, 112, 112),
				Weight: "w1", Parameters: 1792, MACs: ptr(int64(21676032)), WeightBytes: 7168, OutBytes: ptr(int64(3211264)), Zeros: ptr(0.125)},
			{Name: "/conv2/Conv", Op: "Conv", Kernel: []int64{1, 1}, Strides: []int64{1, 1}, Group: 64, Weight: "w2", Parameters: 64, WeightBytes: 256},
			{Name: "/fc/Gemm", Op: "Gemm", In: shapeOf("batch", 64), Out: shapeOf("batch", 2), Weight: "w3", Parameters: 138_357_544, MACs: ptr(int64(128)), WeightBytes: 553_430_176, OutBytes: ptr(int64(8))},
		},
		Types: []inspect.TypeCount{{DType: "float", Tensors: 3, Elements: 138_359_400, Bytes: 553_437_600}, {DType: "int64", Tensors: 1, Elements: 4, Bytes: 32}},
		Totals: inspect.Totals{Layers: 3, Parameters: 138_359_400, Constants: 4, MACs: ptr(int64(21676160)), MACsUnknown: 1, WeightBytes: 553_430_000,
			Nodes: 3, PeakActivationBytes: ptr(int64(3813376)), PeakNode: "/conv1/Conv", ActivationsUnknown: 1},
	}
}

// richModel has besides a function, a nested graph, training nodes and the
// statistics of its tensors.
func richModel() *inspect.Model {
	m := goldenModel()
	m.Functions = []inspect.Function{{Name: "Block", Domain: "local", Nodes: 4, Calls: 2}}
	m.Totals.Subgraphs, m.Totals.TrainingNodes = 2, 7
	m.Layers = append(m.Layers, inspect.Layer{Index: 3, Scope: "if_3/then_branch", Name: "conv", Op: "Conv", Kernel: []int64{1, 1}, Strides: []int64{1, 1}, Group: 1, Weight: "w4", Bias: "b4", Parameters: 10, MACs: ptr(int64(10)), WeightBytes: 40})
	m.Totals.Layers = 4
	m.Tensors = []inspect.TensorStats{
		{Name: "w1", DType: "float", Dims: []int64{64, 3, 3, 3}, Elements: 1728, Bytes: 6912, Values: &inspect.ValueStats{Min: ptr(-0.5), Max: ptr(1.0), Mean: ptr(0.0123456), Std: ptr(1. / 3), Zeros: 216, Histogram: []int64{1, 0, 500, 1000, 200, 27}}},
		{Name: "w2", DType: "float16", Dims: []int64{64, 1, 1, 1}, Elements: 64, Bytes: 128, Values: &inspect.ValueStats{Min: ptr(2.0), Max: ptr(2.0), Mean: ptr(2.0), Std: ptr(0.0), Subnormal: 3, NaN: 2, Inf: 1}},
		{Name: "nan", DType: "float", Dims: []int64{}, Elements: 1, Bytes: 4, Values: &inspect.ValueStats{NaN: 1}},
		{Name: "words", DType: "string", Dims: []int64{2}, Elements: 2, Bytes: 10},
		{Name: "b4", DType: "float", Dims: []int64{10}, Elements: 10, Bytes: 40, Values: &inspect.ValueStats{Min: ptr(-1e-9), Max: ptr(123456.0), Mean: ptr(1.0), Std: ptr(2.0), Histogram: []int64{9, 1}}},
	}
	return m
}

// model is NewModel with definitions that do not change with those of package
// inspect.
func model(m *inspect.Model, sel Selection, findings []inspect.Finding) Model {
	r := NewModel(m, sel, findings)
	r.Definitions = []string{"parameters: elements of weights and biases", "MACs: multiply-accumulates; batch 1 where the model leaves the batch open"}
	return r
}

func goldenFindings() []inspect.Finding {
	return []inspect.Finding{
		{Code: "missing-tensor", Level: "error", Node: "/conv2/Conv", Tensor: "x", Text: "it reads \"x\", which is neither an input, an initializer nor any node's output; export the model again"},
		{Code: "unused-initializer", Level: "warning", Tensor: "w9", Text: "no node reads it; it takes 4,096 bytes of the file"},
		{Code: "unused-initializer", Level: "warning", Scope: "if_3/then_branch", Tensor: "w8", Text: "no node reads it"},
	}
}

func goldenSummaries() []Summary {
	odd := goldenModel()
	odd.File, odd.IRVersion, odd.Opsets, odd.Totals = "odd.onnx", 0, nil, inspect.Totals{Nodes: 1}
	return []Summary{Summarize(goldenModel(), goldenFindings()), {File: "no.onnx", Err: "not a readable ONNX model (byte 12): wire type 7"}, Summarize(odd, nil)}
}

func goldenResult() *probe.Result {
	filters := []afcc.Filter{
		{Index: 0, Max: 1.5, Ratios: []float32{1, 0.4, 0.9}, Clusters: [][]int{{0, 2}, {1}}, Ones: 6, Noise: 1, Internal: 1},
		{Index: 1, Max: 0},
		{Index: 2, NonFinite: true},
	}
	none := []afcc.Filter{{Index: 0, Max: 0}}
	return &probe.Result{
		Schema: probe.Schema, Model: "net.onnx", ModelSHA256: "00ff",
		Data: probe.Data{Path: "data", Format: "image folder", Labels: []string{"cat", "dog", "cow"}, Samples: 90, Preprocess: "unit",
			Fit: probe.Part{Samples: 36, MinPerLabel: 12, MaxPerLabel: 12, SHA256: "0123456789abcdef"}, Stats: probe.Part{Samples: 27, MinPerLabel: 8, MaxPerLabel: 10, SHA256: "aa"},
			Eval: probe.Part{Samples: 27, MinPerLabel: 9, MaxPerLabel: 9, SHA256: "bb"}},
		Engine: "onnxruntime", EngineVersion: "1.30.0", Provider: "cpu", Theta: 0.3, Seed: 1, Recipe: probe.Recipe{Epochs: 10, Batch: 100, LearningRate: 0.01, Decay: 0.975, Momentum: 0.975, L2: 1e-3, Norm: 10}, Accuracy: 0.9, Chance: 1. / 3,
		Layers: []probe.Layer{
			{Tap: probe.Tap{Layers: []string{"/conv1/Conv"}, Tensor: "t1", Op: "Conv", Filters: 3, Height: 4, Width: 4, Pool: 1}, Head: "trained", Accuracy: 0.5, Loss: ptr(1.25), Norm: 10,
				Stats: afcc.Summarize(filters, 3, 0.3), Filters: filters},
			{Tap: probe.Tap{Layers: []string{"/conv2/Conv", "/short/Conv"}, Tensor: "t2", Op: "Conv", Filters: 1, Height: 1, Width: 1, Pool: 1, Own: true}, Head: "classifier", Accuracy: 0.9,
				Stats: afcc.Summarize(none, 3, 0.3), Filters: none},
		},
		Skipped:  []probe.Skip{{Layer: "/fc/Gemm", Reason: "its outputs are the labels"}, {Layer: "/se/Conv", Reason: "it feeds a gate"}, {Layer: "/se2/Conv", Reason: "it feeds a gate"}},
		Warnings: []string{"a label has only 8 samples to measure on; its means are uncertain"},
	}
}

func goldenEvaluations() *Evaluations {
	e := probe.Evaluation{Samples: 27, Top1: 0.9, Throughput: &probe.Timing{Batch: 100, Runs: 3, Median: 0.5}, Latency: &probe.Timing{Batch: 1, Runs: 30, Median: 1.25, Low: 1.2, High: 12.5}, Nodes: map[string]int{"cpu": 4, "cuda": 118}, Elsewhere: []string{"Shape (/Shape)"}}
	changed := e
	changed.Changed, changed.Top5, changed.Throughput = ptr(0.125), ptr(0.99), nil
	return &Evaluations{Schema: EvaluationSchema, Data: "data", Format: "IDX", Labels: 3, Split: "eval", SHA256: "0123456789abcdef", Preprocess: "unit", Seed: 1,
		Engine: "onnxruntime", EngineVersion: "1.30.0", Provider: "cpu", Models: []EvaluatedModel{{"a.onnx", e}, {"b.onnx", changed}}}
}

// Every document as text on a wide and a narrow screen, as CSV and, from its
// value, as JSON.
func TestGolden(t *testing.T) {
	info := ort.Info{Library: ort.Library{Path: "/lib/libonnxruntime.so", Source: "cache"}, Version: "1.30.0",
		Providers: []ort.ProviderInfo{{Name: "cpu", Library: "/lib/libonnxruntime.so", Usable: true}, {Name: "cuda", Shape: ort.ShapeBuiltIn, Library: "/gpu/libonnxruntime.so", Provider: "/gpu/libonnxruntime_providers_cuda.so", Usable: true},
			{Name: "cuda", Shape: ort.ShapePlugin, Reason: "not in this build"}}}
	engines := []RuntimeEngine{{Name: "onnxruntime", Version: "1.30.0", Usable: true}, {Name: "gorgonia", Version: "onnx-go v0.5.0", Usable: true}}
	lacking := []RuntimeEngine{{Name: "onnxruntime", Reason: "this binary was built without cgo"}, engines[1]}
	unverified := goldenPrune()
	unverified.Verified, unverified.Before, unverified.After = false, nil, nil
	res := goldenResult()
	rich := model(richModel(), Selection{}, goldenFindings())
	filtered := model(richModel(), Selection{Filter: regexp.MustCompile("(?i)CONV"), Sort: ByMACs, Top: 2}, nil)
	deep := model(richModel(), Selection{Depth: 1, Sort: ByMemory}, nil)
	for _, c := range []struct {
		name  string
		doc   Document
		value any
	}{
		{"model", FromModel(model(goldenModel(), Selection{}, nil), LayerTable), model(goldenModel(), Selection{}, nil)},
		{"model-top", FromModel(model(goldenModel(), Selection{Top: 1}, nil), LayerTable), model(goldenModel(), Selection{Top: 1}, nil)},
		{"model-rich", FromModel(rich, LayerTable), rich},
		{"model-check", FromModel(rich, FindingTable), nil},
		{"model-tensors", FromModel(rich, TensorTable), nil},
		{"model-clean", FromModel(model(goldenModel(), Selection{}, []inspect.Finding{}), FindingTable), model(goldenModel(), Selection{}, []inspect.Finding{})},
		{"model-filter", FromModel(filtered, TensorTable), filtered},
		{"model-depth", FromModel(deep, LayerTable), deep},
		{"models", FromSummaries(goldenSummaries(), false), nil},
		{"models-check", FromSummaries(goldenSummaries(), true), nil},
		{"model-failure", FromFailure(Failure{"no.onnx", "not a readable ONNX model (byte 12): wire type 7"}), Failure{"no.onnx", "not a readable ONNX model"}},
		{"stats", FromStats(res), res},
		{"filters", FromFilters(&res.Layers[0], res.Data.Labels, res.Theta), nil},
		{"eval", FromEvaluations(goldenEvaluations()), goldenEvaluations()},
		{"duel", FromDuel(goldenDuel()), goldenDuel()},
		{"duel-random", FromDuel(randomDuel()), randomDuel()},
		{"runtime", FromRuntime(NewRuntime(info, engines)), NewRuntime(info, engines)},
		{"runtime-none", FromRuntime(NewRuntime(ort.Info{}, lacking)), NewRuntime(ort.Info{}, lacking)},
		{"measuring", FromMeasuring(goldenMeasuring()), goldenMeasuring()},
		{"plan", FromPlan(goldenPlan(), nil), goldenPlan()},
		{"plan-filters", FromPlan(goldenFilterPlan(), goldenPreview()), goldenFilterPlan()},
		{"prune", FromPrune(goldenPrune()), goldenPrune()},
		{"prune-recovered", FromPrune(goldenRecovered()), goldenRecovered()},
		{"prune-failed", FromPrune(unverified), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			golden(t, c.name+".txt", &b, WriteText(&b, TextOptions{}, c.doc))
			golden(t, c.name+".72.txt", &b, WriteText(&b, TextOptions{Width: 72}, c.doc))
			if err := WriteCSV(&b, c.doc); !errors.Is(err, ErrNoTable) {
				golden(t, c.name+".csv", &b, err)
			}
			if c.value != nil {
				golden(t, c.name+".json", &b, WriteJSON(&b, c.value))
			}
		})
	}
}

func golden(t *testing.T, name string, b *bytes.Buffer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s (go test -update writes it): got\n%s\nwant\n%s", name, b.Bytes(), want)
	}
	b.Reset()
}

// What is written as JSON for prune to read must be read back whole.
func TestStatsReadBack(t *testing.T) {
	var a, b bytes.Buffer
	if err := WriteJSON(&a, goldenResult()); err != nil {
		t.Fatal(err)
	}
	r, err := probe.ReadResult(bytes.NewReader(a.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteJSON(&b, r); err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() {
		t.Errorf("read back as\n%s", b.String())
	}
}
