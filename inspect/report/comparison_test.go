package report

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/afcc/probe/likeness"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/delta"
)

func deltaNode(name, op string, nodes ...string) *delta.Node {
	if nodes == nil {
		nodes = []string{op}
	}
	return &delta.Node{Name: name, Op: op, Nodes: nodes, Output: name + "_out", Shape: shapeOf("batch", 8)}
}

func deltaTensor(name, dtype string, dims ...int64) *delta.Tensor {
	if dims == nil {
		dims = []int64{}
	}
	return &delta.Tensor{Name: name, DType: dtype, Dims: dims}
}

// goldenDelta has an operator of every kind.
func goldenDelta() *delta.Delta {
	kept := func(n int) []int {
		list := make([]int, n)
		for i := range list {
			list[i] = i
		}
		return list
	}
	value := func(name, dtype string) *inspect.Value {
		return &inspect.Value{Name: name, DType: dtype, Shape: shapeOf("n", 3, 32, 32)}
	}
	noted := deltaNode("/fc2/Gemm", "Linear", "Gemm")
	d := &delta.Delta{A: "a.onnx", B: "dir/b.onnx", RTol: 1e-5, Similarity: 0.5,
		Model: []delta.Change{{What: "opset", Name: "ai.onnx", From: "13", To: "17"}, {What: "producer_name", From: "pytorch", To: "tf2onnx"}, {What: "metadata", Name: "filterlens.prune", To: `{"criterion": "afcc"}`}},
		Inputs: []delta.ValueDelta{{A: value("input", "float"), B: value("image", "float")}, {A: value("mask", "float"), B: value("mask", "float16"), Changes: []delta.Change{{What: "type", From: "float", To: "float16"}}},
			{Kind: delta.Removed, A: value("old", "int64")}},
		Outputs: []delta.ValueDelta{{A: value("logits", "float"), B: value("logits", "float")}, {Kind: delta.Added, B: value("aux", "float")}},
		Nodes: []delta.NodeDelta{
			{A: deltaNode("/features/features.0/Conv", "Conv"), B: deltaNode("/body/body.0/Conv", "Conv", "Conv", "BatchNormalization"), Renamed: true, Rewritten: true,
				Tensors: []delta.TensorDelta{
					{What: "weight", A: deltaTensor("features.0.weight", "float", 8, 3, 3, 3), B: &delta.Tensor{Name: "body.0.weight", DType: "float16", Dims: []int64{8, 3, 3, 3}, Effective: true}, Agreement: delta.Within,
						Values: &delta.Values{Elements: 216, Changed: 200, Share: 200. / 216, MaxAbs: ptr(1e-4), At: []int64{0, 1, 2, 0}, Digits: ptr(3), RelL2: ptr(2e-4), Cosine: ptr(0.99999998), MeanA: ptr(0.), MeanB: ptr(0.), StdA: ptr(0.1), StdB: ptr(0.1)}},
				},
				Filters: &delta.FilterDelta{CountA: 8, CountB: 8, FilterCounts: delta.FilterCounts{Kept: 8}, KeptIndices: kept(8), InOrder: true, Channels: delta.ChannelDelta{CountA: 3, CountB: 3, InOrder: true}}},
			{A: deltaNode("/features/features.1/Relu", "Relu"), B: deltaNode("/features/features.1/Relu", "Relu")},
			{A: deltaNode("/features/features.2/Conv", "Conv"), B: deltaNode("/features/features.2/Conv", "Conv"), Unclear: true,
				Changes: []delta.Change{{What: "attribute", Name: "strides", From: "[1 1]", To: "[2 2]"}, {What: "filters", From: "8", To: "6"}, {What: "filter_order"}, {What: "weight"}, {What: "bias"}},
				Tensors: []delta.TensorDelta{
					{What: "weight", A: deltaTensor("features.2.weight", "float", 8, 8, 3, 3), B: deltaTensor("features.2.weight", "float", 6, 8, 3, 3), Agreement: delta.Differs, Aligned: true,
						Values: &delta.Values{Elements: 360, Changed: 100, Beyond: 90, Share: 100. / 360, NewZeros: 80, GoneZeros: 1, MaxAbs: ptr(0.25), At: []int64{7, 0, 0, 0}, Digits: ptr(0), RelL2: ptr(0.125), Cosine: ptr(0.9921875), MeanA: ptr(0.01), MeanB: ptr(0.02), StdA: ptr(0.1), StdB: ptr(0.09), NaNA: 1, NaNB: 2, InfA: 3, InfB: 4}},
					{What: "bias", A: deltaTensor("features.2.bias", "float", 8), B: deltaTensor("features.2.bias", "float", 6), Agreement: delta.Differs, Aligned: true, Values: &delta.Values{Elements: 5, Changed: 5, Beyond: 5, Share: 1, Cosine: nil, RelL2: ptr(1.)}},
				},
				Filters: &delta.FilterDelta{CountA: 8, CountB: 6, FilterCounts: delta.FilterCounts{Kept: 2, Moved: 1, Scaled: 1, Changed: 1, Gone: 3, New: 1, Unclear: 1}, KeptIndices: []int{0, 4, 1, 2, 3},
					Filters: []delta.Filter{{Kind: delta.FilterMoved, From: ptr(1), To: ptr(2), Similarity: ptr(1.)}, {Kind: delta.FilterScaled, From: ptr(2), To: ptr(3), Similarity: ptr(0.9999999), Scale: ptr(2.)},
						{Kind: delta.FilterChanged, From: ptr(4), To: ptr(1), Similarity: ptr(0.75), BiasChanged: true, Unclear: true, Candidates: []int{1, 3}}, {Kind: delta.FilterGone, From: ptr(5), Similarity: ptr(0.125)}, {Kind: delta.FilterGone, From: ptr(6)}, {Kind: delta.FilterGone, From: ptr(7), Similarity: ptr(-0.5)},
						{Kind: delta.FilterNew, To: ptr(5)}},
					Channels: delta.ChannelDelta{CountA: 8, CountB: 8, InOrder: false, Gone: 1, New: 1, Assumed: true, Scaled: true, Ignored: true}}},
			{Kind: delta.Added, B: deltaNode("/features/norm/LayerNormalization", "LayerNormalization")},
			{A: deltaNode("/pool/MaxPool", "MaxPool"), B: deltaNode("/pool/MaxPool", "MaxPool"), Moved: true},
			{Kind: delta.Removed, A: deltaNode("/gone/Sigmoid", "Sigmoid")},
			{A: deltaNode("/act/Relu", "Relu"), B: deltaNode("/act/LeakyRelu", "LeakyRelu"), Renamed: true, Changes: []delta.Change{{What: "operator", From: "Relu", To: "LeakyRelu"}, {What: "input", From: "/a/Conv", To: "/b/Conv"}}},
			{A: deltaNode("/fc/Gemm", "Linear", "Gemm"), B: deltaNode("/fc/Gemm", "Linear", "Gemm"), Changes: []delta.Change{{What: "channels", From: "8", To: "6"}, {What: "channel_order"}},
				Tensors: []delta.TensorDelta{{What: "weight", A: deltaTensor("fc.weight", "float", 10, 8), B: deltaTensor("fc.weight", "float", 10, 6), Agreement: delta.Equal, Aligned: true, Values: &delta.Values{Elements: 60, RelL2: ptr(0.), Cosine: ptr(1.)}}},
				Filters: &delta.FilterDelta{CountA: 10, CountB: 10, FilterCounts: delta.FilterCounts{Kept: 10}, KeptIndices: kept(10), InOrder: true, Channels: delta.ChannelDelta{CountA: 8, CountB: 6, Gone: 2}}},
			{A: noted, B: deltaNode("/fc2/Gemm", "Linear", "Gemm"), Changes: []delta.Change{{What: "weight", From: "[10 10]", To: "[10 12]"}, {What: "operand", Name: "2"}},
				Tensors: []delta.TensorDelta{{What: "weight", A: deltaTensor("fc2.weight", "float", 10, 10), B: deltaTensor("fc2.weight", "float", 10, 12), Agreement: delta.Incomplete, Note: "the shapes differ"},
					{What: "operand", Position: 2, B: deltaTensor("k", "int64"), Agreement: delta.Incomplete, Note: "A has none"}},
				Filters: &delta.FilterDelta{CountA: 10, CountB: 10, KeptIndices: []int{}, InOrder: true, Channels: delta.ChannelDelta{InOrder: true}, Note: "its channels could not be followed"}},
			{A: deltaNode("/drop/Softmax", "Softmax"), B: deltaNode("/drop/Softmax", "Softmax")},
		},
	}
	d.Recount()
	return d
}

func goldenSides() (a, b ComparedSide) {
	return ComparedSide{File: "a.onnx", Bytes: ptr(int64(61_234_567)), Parameters: ptr(int64(15_300_000)), MACs: ptr(int64(313_000_000)), Layers: ptr(4)},
		ComparedSide{File: "dir/b.onnx", Bytes: ptr(int64(41_234_567)), Parameters: ptr(int64(10_300_000)), Layers: ptr(4)}
}

func goldenCompared(c CompareChoice) *Compared {
	a, b := goldenSides()
	r := NewCompared(a, b, c)
	r.SetDelta(goldenDelta(), c)
	r.Judge(c)
	return r
}

func goldenAnswers() *probe.Answers {
	labels := []probe.LabelAnswers{{Samples: 10, RightA: 9, RightB: 5, Flips: 5}, {Samples: 10, RightA: 8, RightB: 9, Flips: 2}, {Samples: 10, RightA: 7, RightB: 7, Flips: 1}}
	return &probe.Answers{Samples: 30, A: probe.Evaluation{Samples: 30, Correct: 24, Top1: 0.8, Top5: ptr(1.)}, B: probe.Evaluation{Samples: 30, Correct: 21, Unanswered: 1, Top1: 0.7, Top5: ptr(0.9)},
		Agree: 22, Neither: 5, BothRight: 19, OnlyA: 5, OnlyB: 2, BothWrong: 4, P: 0.453125, MaxDiff: ptr(1.5), RelDiff: ptr(0.25), PerLabel: labels,
		Flips: []probe.Flip{{Sample: 3, ID: "cat/3.png", Label: 0, A: 0, B: 1, MarginA: ptr(0.5), MarginB: ptr(0.125)}, {Sample: 7, ID: "dog/1.png", Label: 1, A: 2, B: 1, MarginA: ptr(0.01), MarginB: ptr(0.9)}, {Sample: 9, ID: "cow/1.png", Label: 2, A: 0, B: -1}}}
}

func goldenLikeness() *likeness.Likeness {
	return &likeness.Likeness{Samples: 30, SHA256: "00aa", Tolerance: 1e-4, Note: "3 samples: debiased similarity needs four", Parting: ptr(1),
		A: []likeness.Tap{{Layer: "/features/features.0/Conv", Op: "Conv", Tensor: "t0", Filters: 64, Height: 32, Width: 32, Pool: 2}, {Layer: "/features/features.2/Conv", Op: "Conv", Tensor: "t2", Filters: 8, Height: 16, Width: 16, Constant: true}},
		B: []likeness.Tap{{Layer: "/body/body.0/Conv", Op: "Conv", Tensor: "u0", Filters: 64, Height: 32, Width: 32}, {Layer: "/features/features.2/Conv", Op: "Conv", Tensor: "t2", Filters: 6, Height: 16, Width: 16, NotFinite: true}},
		Layers: []likeness.Layer{{A: 0, B: 0, Filters: 64, RelL2: ptr(1e-6), MaxRel: ptr(1e-5), Cosine: ptr(1.), CKA: ptr(1.), Debiased: ptr(1.)},
			{A: 1, B: 1, Filters: 5, Assumed: true, RelL2: ptr(0.5), MaxRel: ptr(0.75), Cosine: ptr(0.875), Parts: true, Note: "5 of 8 filters have a place in B", CKA: ptr(0.9)}},
		CKA: [][]*float64{{ptr(1.), ptr(0.5)}, {ptr(0.25), nil}}, Debiased: [][]*float64{{ptr(1.), ptr(0.5)}, {ptr(0.25), nil}}}
}

// goldenComparedData holds all that a comparison can.
func goldenComparedData(t *testing.T) *Compared {
	t.Helper()
	c := CompareChoice{Data: true, Strict: true, Only: Aspects()}
	r := goldenCompared(c)
	r.Data = &ComparedData{Path: "data", Format: "image folder", Labels: []string{"cat", "dog", "cow"}, Split: "eval", SHA256: "0123456789abcdef", PreprocessA: "unit", PreprocessB: "signed", Seed: 1,
		Engine: "onnxruntime", EngineVersion: "1.30.0", Provider: "cpu", Skipped: []dataset.Skipped{{Name: "x.png", Reason: "no picture"}}}
	r.Answers, r.Likeness, r.Statistics = goldenAnswers(), goldenLikeness(), statisticsDelta(t)
	r.Warnings = []string{"a warning"}
	r.Judge(c)
	return r
}

// goldenDescribed compares what reports tell.
func goldenDescribed(c CompareChoice) *Compared {
	a, b := goldenModel(), richModel()
	b.File, b.Producer, b.Inputs[0].DType = "rich.onnx", "tf2onnx", "float16"
	b.Layers[0].Strides, b.Layers[0].Zeros = []int64{1, 1}, ptr(0.5)
	b.Layers[1].Name = "/other/Conv"
	b.Layers[2].WeightBytes /= 2
	sa, sb := NewComparedSide("a.json", a), NewComparedSide("rich.onnx", b)
	sa.Saved, sa.Model = "inspect", a.File
	r := NewCompared(sa, sb, c)
	r.SetDescription(CompareDescriptions(a, b), c)
	r.Judge(c)
	return r
}

func TestComparedGolden(t *testing.T) {
	t.Parallel()
	all := CompareChoice{}
	self := func() *Compared {
		d := goldenDelta()
		d.Model, d.Inputs, d.Outputs, d.Nodes = nil, nil, nil, d.Nodes[1:2]
		a, _ := goldenSides()
		r := NewCompared(a, a, all)
		r.SetDelta(d, all)
		r.Judge(all)
		return r
	}
	for _, c := range []struct {
		name string
		r    *Compared
		view CompareView
	}{
		{"compare", goldenCompared(all), CompareView{}},
		{"compare-all", goldenCompared(all), CompareView{All: true, Filters: true}},
		{"compare-top", goldenCompared(all), CompareView{Top: 2, Filters: true}},
		{"compare-strict", goldenCompared(CompareChoice{Strict: true}), CompareView{}},
		{"compare-filters", goldenCompared(CompareChoice{Only: []string{AspectFilters}}), CompareView{}},
		{"compare-ignore", goldenCompared(CompareChoice{Ignore: []string{AspectStructure, AspectMetadata, "features.2", "fc2*", "aux", "old", "mask", "image"}}), CompareView{}},
		{"compare-data", goldenComparedData(t), CompareView{}},
		{"compare-described", goldenDescribed(all), CompareView{}},
		{"compare-same", self(), CompareView{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.r.Statistics = nil // has golden files of its own
			var b bytes.Buffer
			golden(t, c.name+".txt", &b, WriteText(&b, TextOptions{}, FromCompared(c.r, c.view)))
			golden(t, c.name+".72.txt", &b, WriteText(&b, TextOptions{Width: 72}, FromCompared(c.r, c.view)))
			golden(t, c.name+".csv", &b, WriteCSV(&b, ComparedTable(c.r, c.view)))
			golden(t, c.name+".json", &b, WriteJSON(&b, c.r))
		})
	}
}

// Where only what was run is compared, CSV has that.
func TestComparedTableOfData(t *testing.T) {
	r := goldenComparedData(t)
	r.Delta = nil
	for _, want := range []string{"kind,id,sample,label,a,b,margin_a,margin_b\nonly A right,cat/3.png,3,cat,cat,dog,0.5,0.125\n", "layer_a,layer_b,filters_compared,rel_l2,max_rel,cosine,cka,cka_debiased,parts,note\n", "layer,"} {
		var b bytes.Buffer
		if err := WriteCSV(&b, ComparedTable(r, CompareView{})); err != nil || !strings.HasPrefix(b.String(), want) {
			t.Errorf("%v: %s, want %s", err, b.String(), want)
		}
		switch {
		case r.Answers != nil:
			r.Answers = nil
		case r.Likeness != nil:
			r.Likeness = nil
		}
	}
	r.Statistics = nil
	if err := WriteCSV(&bytes.Buffer{}, ComparedTable(r, CompareView{})); !errors.Is(err, ErrNoTable) {
		t.Errorf("nothing compared: %v", err)
	}
}

// A cosine is 1 when it is but for rounding, and an output that is put out by another
// operator says by which.
func TestComparedCells(t *testing.T) {
	for v, want := range map[float64]string{1: "1.0000", 1 - 1e-11: "1.0000", 1 - 1e-7: ">.9999", 0.5: "0.5000"} {
		if got := cosineCell(v).Text; got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
	v := inspect.Value{Name: "u", DType: "float"}
	d := &delta.Delta{Outputs: []delta.ValueDelta{{Kind: delta.Changed, A: &v, B: &v, Changes: []delta.Change{{What: "source", From: "Relu u", To: "Sigmoid v"}}}}}
	rows := valueChanges(d, CompareView{}).Table.Rows
	if got := rows[0][len(rows[0])-1].Text; len(rows) != 1 || got != "Relu u -> Sigmoid v" {
		t.Errorf("%q", rows)
	}
	d.Totals = delta.Totals{TensorsEqual: 3, Filters: delta.FilterCounts{Kept: 4, Gone: 2}}
	if got := deltaFacts(d)[0].Value.Text; got != "3 equal in the filters that live on" {
		t.Errorf("%q", got)
	}
}

// What NaN has left out is not said of all outputs, and notes are kept apart.
func TestComparedNaN(t *testing.T) {
	var b bytes.Buffer
	r := goldenComparedData(t)
	if r.Answers == nil || r.Likeness == nil || r.Likeness.Parting == nil {
		t.Fatal("nothing was run")
	}
	r.Answers.MaxDiff = ptr(0.)
	r.Answers.B.Unanswered = 3
	r.Likeness.Layers[*r.Likeness.Parting].Note = "activations that are not finite"
	if err := WriteText(&b, TextOptions{Width: 200}, FromCompared(r, CompareView{})); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"of those that are numbers in both", "parts here first; activations that are not finite"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}
