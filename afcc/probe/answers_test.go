package probe

import (
	"context"
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// TestMcNemar compares with the sum of binomial coefficients in whole numbers.
func TestMcNemar(t *testing.T) {
	exact := func(b, c int) float64 {
		n, tail := int64(b+c), new(big.Int)
		for i := range int64(min(b, c) + 1) {
			tail.Add(tail, new(big.Int).Binomial(n, i))
		}
		p, _ := new(big.Rat).SetFrac(tail.Lsh(tail, 1), new(big.Int).Lsh(big.NewInt(1), uint(n))).Float64()
		return min(p, 1)
	}
	for _, c := range [][2]int{{0, 0}, {1, 0}, {0, 1}, {1, 1}, {0, 5}, {5, 4}, {3, 9}, {10, 25}, {100, 131}, {131, 100}, {499, 502}, {30, 900}, {1000, 1001}, {0, 1000}, {700, 700}} {
		got, want := mcnemar(c[0], c[1]), exact(c[0], c[1])
		if !(math.Abs(got-want) <= 1e-12*want) {
			t.Errorf("%v: %v, want %v", c, got, want)
		}
	}
	// Known: 6 against 1 of 7 is 2 (1 + 7) / 2^7.
	if got := mcnemar(6, 1); math.Abs(got-0.125) > 1e-15 {
		t.Errorf("6 and 1: %v, want 0.125", got)
	}
	// Large counts follow the normal distribution with continuity correction.
	for _, c := range [][2]int{{500_000, 501_000}, {5_000_000, 5_002_000}, {20_000_000, 20_001_000}} {
		n, d := float64(c[0]+c[1]), float64(c[1]-c[0])
		want := math.Erfc((d - 1) / math.Sqrt(n) / math.Sqrt2)
		if got := mcnemar(c[0], c[1]); !(math.Abs(got-want) < 1e-3*want) {
			t.Errorf("%v: %v, about %v is expected", c, got, want)
		}
	}
	if got := mcnemar(1_000_000, 9_000_000); got != 0 {
		t.Errorf("a million against nine: %v", got)
	}
}

func everySample(set *dataset.Set) []int {
	index := make([]int, set.Len())
	for i := range index {
		index[i] = i
	}
	return index
}

// TestCompareAnswers counts again what both models answer one by one.
func TestCompareAnswers(t *testing.T) {
	set := folder(t, testK, 12)
	index := everySample(set)
	slices.Reverse(index)
	build := func(channel int) *inspect.Model {
		// The labels are told apart by how bright the channels are, the first the worst.
		n := newNet(-1, 3, 8)
		n.op("GlobalAveragePool").op("Flatten")
		v := make([]float32, 3*testK)
		for i := range v {
			v[i] = float32(i%3) / 8
			if i%3 == channel {
				v[i] = float32(i / 3)
			}
		}
		bias := make([]float32, testK)
		for l := range bias {
			bias[l] = -float32(l*l) / 2 / testK
		}
		n.t = n.builder.node("Gemm", []string{n.t, n.constFloat(v, testK, 3), n.constFloat(bias, testK)}, attrInt("transB", 1))
		return n.model(t, -1, testK)
	}
	a, b := build(1), build(2)
	bothEngines(t, func(t *testing.T, eng engine.Engine) {
		opt := testOptions()
		got, err := CompareAnswers(t.Context(), eng, a, b, set, index, opt, opt)
		if err != nil {
			t.Fatal(err)
		}
		evals, err := Evaluate(t.Context(), eng, []*inspect.Model{a, b}, set, index, opt)
		if err != nil {
			t.Fatal(err)
		}
		var want Answers
		perLabel := make([]LabelAnswers, testK)
		flips := 0
		for i, sample := range index {
			x, y, l := evals[0].Predictions[i], evals[1].Predictions[i], set.Label(sample)
			if x == y {
				want.Agree++
			} else {
				f := got.Flips[flips]
				if f.Sample != sample || f.ID != set.ID(sample) || f.A != x || f.B != y || f.Label != l {
					t.Errorf("flip %d: %+v, want sample %d of label %d: %d and %d", flips, f, sample, l, x, y)
				}
				if f.MarginA == nil || f.MarginB == nil || !(*f.MarginA > 0 && *f.MarginA <= 1 && *f.MarginB > 0 && *f.MarginB <= 1) {
					t.Errorf("flip %d: margins %v and %v", flips, f.MarginA, f.MarginB)
				}
				flips++
				perLabel[l].Flips++
			}
			perLabel[l].Samples++
			if x == l {
				perLabel[l].RightA++
			}
			if y == l {
				perLabel[l].RightB++
			}
			switch {
			case x == l && y == l:
				want.BothRight++
			case x == l:
				want.OnlyA++
			case y == l:
				want.OnlyB++
			default:
				want.BothWrong++
			}
		}
		if flips == 0 || want.OnlyA+want.OnlyB == 0 || want.Agree == 0 {
			t.Fatalf("the test says nothing: %d flips, %+v", flips, want)
		}
		if got.Samples != len(index) || got.Agree != want.Agree || got.Neither != 0 || len(got.Flips) != flips ||
			got.BothRight != want.BothRight || got.OnlyA != want.OnlyA || got.OnlyB != want.OnlyB || got.BothWrong != want.BothWrong {
			t.Errorf("%+v, want %+v", got, want)
		}
		if !slices.Equal(got.PerLabel, perLabel) {
			t.Errorf("by label %+v, want %+v", got.PerLabel, perLabel)
		}
		if got.P != mcnemar(want.OnlyA, want.OnlyB) || *got.B.Changed != float64(flips)/float64(len(index)) || got.A.Correct != evals[0].Correct {
			t.Errorf("p %v, changed %v, right %d", got.P, *got.B.Changed, got.A.Correct)
		}
		if got.MaxDiff == nil || *got.MaxDiff == 0 || got.RelDiff == nil {
			t.Errorf("differences %v and %v", got.MaxDiff, got.RelDiff)
		}
		same, err := CompareAnswers(t.Context(), eng, a, a, set, index, opt, opt)
		if err != nil {
			t.Fatal(err)
		}
		if same.Agree != same.Samples || *same.MaxDiff != 0 || *same.RelDiff != 0 || same.P != 1 || len(same.Flips) != 0 || *same.B.Changed != 0 {
			t.Errorf("a model and itself: %+v", same)
		}
	})
}

// TestAnswersOfOtherInputs: models that want their samples in another way, and other
// batches, answer alike.
func TestAnswersOfOtherInputs(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 11)
	index := everySample(set)
	signed, err := dataset.Preset("signed")
	if err != nil {
		t.Fatal(err)
	}
	// body is one network whatever comes before it.
	body := func(n *net) *net { return n.conv("conv1", 3, 4, 3, 1).op("Relu").head(4) }
	plain := body(newNet(-1, 3, 8)).model(t, -1, testK)
	build := map[string]func() (*inspect.Model, dataset.Preprocess){
		"signed": func() (*inspect.Model, dataset.Preprocess) {
			n := newNet(-1, 3, 8)
			n.t = n.builder.node("Mul", []string{n.t, n.constFloat([]float32{0.5})})
			n.t = n.builder.node("Add", []string{n.t, n.constFloat([]float32{0.5})})
			return body(n).model(t, -1, testK), signed
		},
		"channels last": func() (*inspect.Model, dataset.Preprocess) {
			return body(newNet(-1, 3, 8).channelsLast().transpose(0, 3, 1, 2)).model(t, -1, testK), dataset.Preprocess{}
		},
		"batches of 3": func() (*inspect.Model, dataset.Preprocess) {
			return body(newNet(3, 3, 8)).model(t, 3, testK), dataset.Preprocess{}
		},
		"float16": func() (*inspect.Model, dataset.Preprocess) {
			n := newNet(-1, 3, 8)
			n.g.Input[0] = valueInfo("image", onnxfile.Float16, -1, 3, 8, 8)
			n.op("Cast", attrInt("to", int64(onnxfile.Float)))
			body(n).op("Cast", attrInt("to", int64(onnxfile.Float16)))
			n.g.Output = append(n.g.Output, valueInfo(n.t, onnxfile.Float16, -1, testK))
			return n.open(t, inspect.Options{}), dataset.Preprocess{}
		},
		"16 x 16": func() (*inspect.Model, dataset.Preprocess) {
			n := newNet(-1, 3, 16)
			n.op("AveragePool", attrInts("kernel_shape", 2, 2), attrInts("strides", 2, 2))
			return body(n).model(t, -1, testK), dataset.Preprocess{}
		},
		"probabilities": func() (*inspect.Model, dataset.Preprocess) {
			n := body(newNet(-1, 3, 8))
			return n.op("Softmax", attrInt("axis", 1)).model(t, -1, testK), dataset.Preprocess{}
		},
	}
	for name, f := range build {
		t.Run(name, func(t *testing.T) {
			b, pre := f()
			optA, optB := testOptions(), testOptions()
			optA.Preprocess, optB.Preprocess = dataset.Preprocess{}, pre
			for _, swap := range []bool{false, true} {
				x, y, ox, oy := plain, b, optA, optB
				if swap {
					x, y, ox, oy = y, x, oy, ox
				}
				got, err := CompareAnswers(t.Context(), eng, x, y, set, index, ox, oy)
				if err != nil {
					t.Fatal(err)
				}
				want := len(index)
				switch name {
				case "16 x 16":
					want = len(index) / 2 // resampling changes the image
				case "float16":
					want -= 3
				}
				if got.Samples != len(index) || got.Agree < want {
					t.Errorf("%d of %d samples agree", got.Agree, got.Samples)
				}
				if name == "signed" || name == "channels last" || name == "batches of 3" {
					if *got.RelDiff > 1e-5 {
						t.Errorf("outputs differ by %v", *got.RelDiff)
					}
				}
			}
			if name == "signed" {
				// With the other's preprocessing it sees something else.
				got, err := CompareAnswers(t.Context(), eng, plain, b, set, index, optA, optA)
				if err != nil {
					t.Fatal(err)
				}
				if *got.RelDiff < 1e-2 {
					t.Errorf("outputs differ by %v though the inputs do", *got.RelDiff)
				}
			}
		})
	}
}

// TestMargins: the margins of logits and of the probabilities made of them are the
// same.
func TestMargins(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	row := []float32{1, 3, -2, 2.5}
	p, sum := make([]float32, 4), 0.0
	for _, x := range row {
		sum += math.Exp(float64(x))
	}
	for i, x := range row {
		p[i] = float32(math.Exp(float64(x)) / sum)
	}
	want := float64(p[1] - p[3])
	for _, got := range []*float64{margin(row, 1, 3, false), margin(p, 1, 3, true)} {
		if got == nil || math.Abs(*got-want) > 1e-6 {
			t.Errorf("margin %v, want %v", got, want)
		}
	}
	if got := margin([]float32{1e30, -1e30}, 0, 1, false); got == nil || *got != 1 {
		t.Errorf("margin of a certain answer: %v", got)
	}
	if got := margin([]float32{0, -inf}, 0, 1, false); got == nil || *got != 1 {
		t.Errorf("margin to -inf: %v", got)
	}
	for _, row := range [][]float32{{inf, inf}, {inf, 0}, {nan, 0}} {
		if got := margin(row, 0, 1, false); got != nil {
			t.Errorf("margin of %v: %v", row, *got)
		}
	}
}

// TestAnswersThatAreNone: outputs that are not numbers agree with nothing, not even
// with themselves.
func TestAnswersThatAreNone(t *testing.T) {
	n := newNet(-1, 3, 8)
	n.op("Flatten").gemm("classifier", 192, testK)
	plain := n.t
	first := n.builder.node("Gather", []string{"image", n.constInt([]int64{0}, 1)}, attrInt("axis", 1))
	root := n.builder.node("ReduceMean", []string{n.builder.node("Sqrt", []string{first})}, attrInts("axes", 1, 2, 3), attrInt("keepdims", 0))
	column := n.builder.node("Reshape", []string{root, n.constInt([]int64{-1, 1}, 2)})
	n.t = n.builder.node("Add", []string{plain, column})
	m, set := n.model(t, -1, testK), folder(t, testK, 12)
	eng, index, opt := runtime(t), everySample(set), testOptions()
	// Values below zero make the roots of some samples NaN.
	opt.Preprocess = dataset.Preprocess{Mean: []float32{0.3}, Std: []float32{0.3}}
	got, err := CompareAnswers(t.Context(), eng, m, m, set, index, opt, opt)
	if err != nil {
		t.Fatal(err)
	}
	if u := got.A.Unanswered; u == 0 || u == got.Samples || got.Neither != u || got.Agree != got.Samples-u || len(got.Flips) != 0 || got.P != 1 {
		t.Errorf("%d unanswered, %+v", u, got)
	}
	if *got.MaxDiff != 0 {
		t.Errorf("outputs differ by %v", *got.MaxDiff)
	}
	other := small(t, testK)
	if got, err = CompareAnswers(t.Context(), eng, m, other, set, index, opt, opt); err != nil {
		t.Fatal(err)
	}
	none := 0
	for _, f := range got.Flips {
		if f.B < 0 || (f.A < 0) != (f.MarginA == nil) || (f.MarginA == nil) != (f.MarginB == nil) {
			t.Errorf("%+v", f)
		}
		if f.A < 0 {
			none++
		}
	}
	if none != got.A.Unanswered || got.Neither != 0 || got.Agree+len(got.Flips) != got.Samples {
		t.Errorf("%d flips from no answer, %+v", none, got)
	}
	// Nothing but NaN: no difference is defined.
	n = newNet(-1, 3, 8)
	n.op("Flatten").gemm("classifier", 192, testK)
	n.t = n.builder.node("Add", []string{n.t, n.constFloat([]float32{float32(math.NaN())})})
	void := n.model(t, -1, testK)
	if got, err = CompareAnswers(t.Context(), eng, void, other, set, index, opt, opt); err != nil {
		t.Fatal(err)
	}
	if got.MaxDiff != nil || got.RelDiff != nil || got.A.Unanswered != got.Samples || got.BothRight+got.OnlyA != 0 {
		t.Errorf("%+v", got)
	}
}

func TestAnswersRefused(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 3)
	a, other := small(t, testK), small(t, testK+1)
	opt := testOptions()
	for _, models := range [][2]*inspect.Model{{a, other}, {other, a}} {
		_, err := CompareAnswers(t.Context(), eng, models[0], models[1], set, everySample(set), opt, opt)
		var mismatch *LabelMismatchError
		if !errors.As(err, &mismatch) || mismatch.Model != testK+1 || !strings.Contains(err.Error(), other.File) {
			t.Errorf("other labels: %v", err)
		}
	}
	e := edited(t, a)
	e.Graph.Input[0].Type.GetTensorType().Shape.Dim = e.Graph.Input[0].Type.GetTensorType().Shape.Dim[:3]
	e.Graph.Name = proto.String("three")
	var not *NotClassifierError
	if _, err := CompareAnswers(t.Context(), eng, a, e.open(), set, everySample(set), opt, opt); !errors.As(err, &not) {
		t.Errorf("three dimensions: %v", err)
	}
	if _, err := CompareAnswers(t.Context(), eng, a, a, set, nil, opt, opt); !errors.Is(err, dataset.ErrEmpty) {
		t.Errorf("no samples: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := CompareAnswers(ctx, eng, a, a, set, everySample(set), opt, opt); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
