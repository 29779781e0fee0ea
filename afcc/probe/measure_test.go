package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

const testK = 5

func testOptions() Options {
	r := DefaultRecipe()
	r.Epochs, r.Batch = 3, 7
	pre, err := dataset.Preset("signed")
	if err != nil {
		panic(err)
	}
	return Options{Preprocess: pre, Theta: 0.3, Recipe: r, Split: dataset.SplitOptions{Seed: 11}, Batch: 4}
}

// perSample runs the model as the file has it, one sample at a time, and returns
// each sample's flattened tap. A model with a fixed batch gets the sample as often
// as it asks for.
func perSample(t *testing.T, eng engine.Engine, m *inspect.Model, set *dataset.Set, tap *Tap, index []int) [][]float32 {
	t.Helper()
	b, err := newTrunk(m, maxInline)
	if err != nil {
		t.Fatal(err)
	}
	x := tap.Tensor
	if d := m.Graph.DType(x); d != onnxfile.Float {
		x = b.node("Cast", []string{x}, attrInt("to", int64(onnxfile.Float)))
	}
	name := b.outputOf("tap", "Identity", []string{x}, nil)
	b.g.Output[0].Type.GetTensorType().Shape = nil
	data, err := b.serialize()
	if err != nil {
		t.Fatal(err)
	}
	s, err := eng.Load(t.Context(), engine.Model{Name: "tap", Bytes: data})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := m.Inputs[0]
	var dims []int64
	for _, d := range in.Shape.Dims {
		dims = append(dims, d.Value)
	}
	tr, err := testOptions().Preprocess.Transform(dims)
	if err != nil {
		t.Fatal(err)
	}
	rows := max(1, int(dims[0]))
	dims[0] = int64(rows)
	var taps [][]float32
	for _, i := range index {
		im, err := set.Decode(i)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, tr.Len())
		if err := tr.Apply(im, x); err != nil {
			t.Fatal(err)
		}
		x = slices.Repeat(x, rows)
		image := engine.NewFloat32(x, dims...)
		if in.DType == "float16" {
			h := make([]uint16, len(x))
			for i, v := range x {
				h[i] = half(v)
			}
			image = &engine.Tensor{Shape: dims, Data: h}
		}
		out := map[string]*engine.Tensor{name: nil}
		if err := s.Run(t.Context(), map[string]*engine.Tensor{in.Name: image}, out); err != nil {
			t.Fatal(err)
		}
		v := out[name].Float32()
		v = v[:len(v)/rows]
		if tap.ChannelsLast {
			v = filtersFirst(v, tap.Filters)
		}
		taps = append(taps, v)
	}
	return taps
}

// filtersFirst rearranges a map of positions x filters.
func filtersFirst(v []float32, filters int) []float32 {
	w, p := make([]float32, len(v)), len(v)/filters
	for i, x := range v {
		w[i%filters*p+i/filters] = x
	}
	return w
}

// plainHead trains a head as method.md says it, in float64 and without any of
// the rearrangements of the training graph.
func plainHead(features [][]float32, labels []int, k int, r Recipe, seed, number uint64) [][]float64 {
	d := len(features[0])
	var sq float64
	for _, x := range features {
		for _, v := range x {
			sq += float64(v) * float64(v)
		}
	}
	scale := r.Norm / math.Sqrt(sq/float64(len(features)))
	first := make([]float32, k*d)
	InitialWeights(first, d, seed, number)
	w, v := make([][]float64, k), make([][]float64, k)
	for j := range w {
		w[j], v[j] = make([]float64, d), make([]float64, d)
		for i := range w[j] {
			w[j][i] = float64(first[j*d+i])
		}
	}
	all := make([]int, len(labels))
	for i := range all {
		all[i] = i
	}
	rate := r.LearningRate
	for epoch := range r.Epochs {
		for _, batch := range dataset.Shuffled(all, r.Batch, seed, uint64(epoch)) {
			grad := make([][]float64, k)
			for j := range grad {
				grad[j] = make([]float64, d)
			}
			for _, n := range batch {
				z, sum := make([]float64, k), 0.0
				for j := range z {
					for i, x := range features[n] {
						z[j] += w[j][i] * float64(x) * scale
					}
					z[j] = math.Exp(z[j])
					sum += z[j]
				}
				for j := range z {
					g := z[j] / sum
					if j == labels[n] {
						g--
					}
					for i, x := range features[n] {
						grad[j][i] += g * float64(x) * scale / float64(len(batch))
					}
				}
			}
			for j := range w {
				for i := range w[j] {
					g := grad[j][i] + r.L2*w[j][i]
					v[j][i] = r.Momentum*v[j][i] + g
					w[j][i] -= rate * (g + r.Momentum*v[j][i])
				}
			}
		}
		rate *= r.Decay
	}
	for j := range w {
		for i := range w[j] {
			w[j][i] *= scale
		}
	}
	return w
}

func TestMeasureAgainstPlainComputation(t *testing.T) {
	opt := testOptions()
	opt.Recipe.Epochs = 25
	res := againstPlain(t, runtime(t), small(t, testK), folder(t, testK, 20), opt, 1)
	if len(res.Layers) != 3 {
		t.Fatalf("%d layers, 3 are expected", len(res.Layers))
	}
	last := res.Layers[2]
	if last.Head != "classifier" || last.Accuracy != res.Accuracy {
		t.Errorf("the hidden layer before the classifier has head %q, accuracy %v; the model's is %v", last.Head, last.Accuracy, res.Accuracy)
	}
	if last.Accuracy == res.Layers[1].Accuracy {
		t.Errorf("the test cannot tell the model's accuracy %v from a head's", last.Accuracy)
	}
}

// againstPlain measures m and compares every row with fields computed sample by
// sample under heads trained in float64. slack multiplies the tolerances.
func againstPlain(t *testing.T, eng engine.Engine, m *inspect.Model, set *dataset.Set, opt Options, slack float64) *Result {
	t.Helper()
	res, err := Measure(t.Context(), eng, m, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	fit, stats, eval, err := set.Split(opt.Split)
	if err != nil {
		t.Fatal(err)
	}
	labelsOf := func(index []int) []int {
		var ls []int
		for _, i := range index {
			ls = append(ls, set.Label(i))
		}
		return ls
	}
	for _, l := range res.Layers {
		var w [][]float64
		if l.Own {
			flat, err := ownWeights(m, mustSurvey(t, m).Classifier)
			if err != nil {
				t.Fatal(err)
			}
			d := len(flat) / testK
			for j := range testK {
				row := make([]float64, d)
				for i := range row {
					row[i] = float64(flat[j*d+i])
				}
				w = append(w, row)
			}
		} else {
			w = plainHead(perSample(t, eng, m, set, &l.Tap, fit.Index), labelsOf(fit.Index), testK, opt.Recipe, opt.Split.Seed, mustSurvey(t, m).number(&l.Tap))
		}
		rows := perSample(t, eng, m, set, &l.Tap, stats.Index)
		labels := labelsOf(stats.Index)
		p := l.Tap.Positions()
		for f := range l.Tap.Filters {
			// The field of every sample, averaged by label: no label means.
			field := make([]float64, testK*testK)
			count := make([]float64, testK)
			for s, x := range rows {
				count[labels[s]]++
				for j := range testK {
					for q := range p {
						field[labels[s]*testK+j] += w[j][f*p+q] * float64(x[f*p+q])
					}
				}
			}
			peak := math.Inf(-1)
			for i := range field {
				field[i] /= count[i/testK]
				peak = math.Max(peak, field[i])
			}
			got := l.Filters[f]
			if peak <= 1e-6 {
				if got.Max > 1e-5 {
					t.Errorf("%s filter %d: max %v, want %v", l.Name(), f, got.Max, peak)
				}
				continue
			}
			if math.Abs(got.Max-peak) > slack*2e-3*math.Abs(peak) {
				t.Errorf("%s filter %d: max %v, want %v", l.Name(), f, got.Max, peak)
			}
			if len(got.Ratios) != testK {
				t.Errorf("%s filter %d: %d ratios, max %v, want %v", l.Name(), f, len(got.Ratios), got.Max, peak)
				continue
			}
			for j := range testK {
				if want := field[j*testK+j] / peak; math.Abs(float64(got.Ratios[j])-want) > slack*5e-3*(1+math.Abs(want)) {
					t.Errorf("%s filter %d label %d: ratio %v, want %v", l.Name(), f, j, got.Ratios[j], want)
				}
			}
		}
		correct := 0
		for s, x := range perSample(t, eng, m, set, &l.Tap, eval.Index) {
			best, at := math.Inf(-1), 0
			for j := range testK {
				z := 0.0
				for i, v := range x {
					z += w[j][i] * float64(v)
				}
				if z > best {
					best, at = z, j
				}
			}
			if at == set.Label(eval.Index[s]) {
				correct++
			}
		}
		// The model's own classifier has a bias that fields leave out.
		if want := float64(correct) / float64(len(eval.Index)); !l.Own && math.Abs(l.Accuracy-want) > slack*1.01/float64(len(eval.Index)) {
			t.Errorf("%s: accuracy %v, want %v", l.Name(), l.Accuracy, want)
		}
	}
	return res
}

func mustSurvey(t testing.TB, m *inspect.Model) *Survey {
	t.Helper()
	s, err := NewSurvey(m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// equalResults compares rows up to the rounding of another order of summation.
func equalResults(t *testing.T, a, b *Result, tol float64) {
	t.Helper()
	if len(a.Layers) != len(b.Layers) {
		t.Fatalf("%d and %d layers", len(a.Layers), len(b.Layers))
	}
	for i, l := range a.Layers {
		for f, x := range l.Filters {
			y := b.Layers[i].Filters[f]
			if math.Abs(x.Max-y.Max) > tol*math.Abs(x.Max) || len(x.Ratios) != len(y.Ratios) {
				t.Errorf("%s filter %d: max %v and %v", l.Name(), f, x.Max, y.Max)
				continue
			}
			for j := range x.Ratios {
				if d := math.Abs(float64(x.Ratios[j] - y.Ratios[j])); d > tol*(1+math.Abs(float64(x.Ratios[j]))) {
					t.Errorf("%s filter %d label %d: ratio %v and %v", l.Name(), f, j, x.Ratios[j], y.Ratios[j])
				}
			}
		}
	}
}

func TestMemoryLimitChangesOnlyTheWay(t *testing.T) {
	eng, m, set := runtime(t), small(t, testK), folder(t, testK, 20)
	opt := testOptions()
	whole, err := Measure(t.Context(), eng, m, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	// Training conv1 takes 5,120 bytes and 10,240 for its features, conv2 7,680 and
	// 15,360: the limits force groups of one, then training inside the trunk.
	for _, memory := range []int64{40 << 10, 16 << 10} {
		opt.Memory = memory
		streamed, grouped := false, false
		opt.Progress = func(s string, _, _ int) {
			streamed = streamed || strings.HasPrefix(s, "training heads, epoch")
			grouped = grouped || s == "collecting features (group 2 of 2)"
		}
		res, err := Measure(t.Context(), eng, m, set, opt)
		if err != nil {
			t.Fatal(err)
		}
		if streamed != (memory == 16<<10) || grouped != (memory == 40<<10) {
			t.Errorf("limit %d: streamed %v, grouped %v", memory, streamed, grouped)
		}
		equalResults(t, whole, res, 2e-3)
	}
	opt.Memory = 10000
	pooled, err := Measure(t.Context(), eng, m, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	if pooled.Layers[1].Pool < 2 || len(pooled.Warnings) == 0 {
		t.Errorf("pool %d, warnings %q: a head that does not fit must be pooled and named", pooled.Layers[1].Pool, pooled.Warnings)
	}
	opt.Memory = 100
	if _, err := Measure(t.Context(), eng, m, set, opt); err == nil {
		t.Error("a limit of 100 bytes was accepted")
	}
}

func TestMeasureRepeats(t *testing.T) {
	eng, m, set := runtime(t), small(t, testK), folder(t, testK, 12)
	var texts [2][]byte
	for i := range texts {
		res, err := Measure(t.Context(), eng, m, set, testOptions())
		if err != nil {
			t.Fatal(err)
		}
		if texts[i], err = json.Marshal(res); err != nil {
			t.Fatal(err)
		}
		back, err := ReadResult(bytes.NewReader(texts[i]))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(res, back) {
			t.Error("a result does not survive JSON")
		}
	}
	if !bytes.Equal(texts[0], texts[1]) {
		t.Error("two measurements with one seed differ")
	}
}

func TestMeasureRefuses(t *testing.T) {
	eng, m := runtime(t), small(t, testK)
	set := folder(t, testK, 6)
	var mismatch *LabelMismatchError
	if _, err := Measure(t.Context(), eng, m, folder(t, testK+1, 6), testOptions()); !errors.As(err, &mismatch) {
		t.Errorf("another number of labels: %v", err)
	}
	opt := testOptions()
	opt.Layers = []string{"conv9"}
	var unknown *UnknownLayerError
	if _, err := Measure(t.Context(), eng, m, set, opt); !errors.As(err, &unknown) || unknown.Layer != "conv9" {
		t.Errorf("an unknown layer: %v", err)
	}
	opt = testOptions()
	opt.Theta = 1
	if _, err := Measure(t.Context(), eng, m, set, opt); err == nil {
		t.Error("theta 1 was accepted")
	}
	lacks, err := dataset.Open(imageFolder(t, testK-1, 6), dataset.Options{Labels: append(slices.Clone(set.Labels()[:testK-1]), "unseen")})
	if err != nil {
		t.Fatal(err)
	}
	defer lacks.Close()
	// It is noticed before anything runs.
	if _, err := NewPlan(m, lacks, testOptions()); err == nil || !strings.Contains(err.Error(), `1 of the 5 labels have no sample to measure on, the first is "unseen"`) {
		t.Errorf("a label without samples: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opt = testOptions()
	opt.Progress = func(stage string, done, _ int) {
		if done > 0 {
			cancel()
		}
	}
	if _, err := Measure(ctx, eng, m, set, opt); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestMeasureOldOpsets runs the same network under operator sets whose Gemm,
// ReduceSum and Softmax differ.
func TestMeasureOldOpsets(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 9)
	var first *Result
	for _, opset := range []int64{13, 7, 9, 11, 17, 21} {
		n := newNet(-1, 3, 8)
		n.d.Model.OpsetImport[0].Version = proto.Int64(opset)
		n.conv("conv1", 3, 4, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten").gemm("hidden", 4, 6).op("Relu").gemm("classifier", 6, testK).op("Softmax", attrInt("axis", 1))
		m := n.model(t, -1, testK)
		for _, memory := range []int64{0, 700} { // cached, and trained inside the trunk
			opt, streamed := testOptions(), false
			opt.Memory = memory
			opt.Progress = func(stage string, _, _ int) { streamed = streamed || strings.Contains(stage, "epoch") }
			res, err := Measure(t.Context(), eng, m, set, opt)
			if err != nil {
				t.Fatalf("opset %d: %v", opset, err)
			}
			if first == nil {
				first = res
			}
			if streamed != (memory > 0) {
				t.Errorf("limit %d: streamed %v", memory, streamed)
			}
			equalResults(t, first, res, 2e-3)
		}
	}
	n := newNet(-1, 3, 8)
	n.d.Model.OpsetImport[0].Version = proto.Int64(6)
	n.conv("conv1", 3, 4, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten").gemm("classifier", 4, testK)
	var refused *NotClassifierError
	if _, err := Measure(t.Context(), eng, n.model(t, -1, testK), set, testOptions()); !errors.As(err, &refused) {
		t.Errorf("opset 6: %v", err)
	}
}

func TestEvaluate(t *testing.T) {
	eng, m, set := runtime(t), small(t, 7), folder(t, 7, 9)
	opt := testOptions()
	_, _, eval, err := set.Split(opt.Split)
	if err != nil {
		t.Fatal(err)
	}
	evals, err := Evaluate(t.Context(), eng, []*inspect.Model{m, m}, set, eval.Index, opt)
	if err != nil {
		t.Fatal(err)
	}
	res, err := Measure(t.Context(), eng, m, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	logits := perSample(t, eng, m, set, &Tap{Tensor: m.Outputs[0].Name}, eval.Index)
	var top1, top5 int
	for i, row := range logits {
		if Argmax(row) != evals[0].Predictions[i] {
			t.Errorf("sample %d: answer %d, want %d", i, evals[0].Predictions[i], Argmax(row))
		}
		label := set.Label(eval.Index[i])
		better := 0
		for j, v := range row {
			if v > row[label] || v == row[label] && j < label {
				better++
			}
		}
		if better == 0 {
			top1++
		}
		if better < 5 {
			top5++
		}
	}
	n := float64(len(eval.Index))
	if evals[0].Top1 != float64(top1)/n || *evals[0].Top5 != float64(top5)/n || evals[0].Samples != len(eval.Index) {
		t.Errorf("top-1 %v, top-5 %v of %d samples; want %v, %v", evals[0].Top1, *evals[0].Top5, evals[0].Samples, float64(top1)/n, float64(top5)/n)
	}
	if *evals[1].Changed != 0 || evals[0].Changed != nil || evals[1].Top1 != evals[0].Top1 {
		t.Errorf("the same model twice: changed %v", *evals[1].Changed)
	}
	if res.Accuracy != evals[0].Top1 {
		t.Errorf("Measure says %v, Evaluate %v", res.Accuracy, evals[0].Top1)
	}
	if evals[0].Latency.Runs != latencyRuns || !(evals[0].Latency.Median > 0) {
		t.Errorf("latency %+v", evals[0].Latency)
	}
}

// TestEvaluateSizes evaluates models of different inputs in one call.
func TestEvaluateSizes(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 9)
	build := func(batch, channels, side int64) *inspect.Model {
		n := newNet(batch, channels, side)
		n.conv("conv1", channels, 4, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten").gemm("classifier", 4, testK)
		return n.model(t, batch, testK)
	}
	models := []*inspect.Model{build(-1, 3, 8), build(-1, 1, 8), build(1, 3, 16), build(-1, 3, 8)}
	opt := testOptions()
	_, _, eval, err := set.Split(opt.Split)
	if err != nil {
		t.Fatal(err)
	}
	together, err := Evaluate(t.Context(), eng, models, set, eval.Index, opt)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range models {
		alone, err := Evaluate(t.Context(), eng, []*inspect.Model{m}, set, eval.Index, opt)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(alone[0].Predictions, together[i].Predictions) || alone[0].Top1 != together[i].Top1 {
			t.Errorf("model %d answers differently in company: %v, %v", i, together[i].Predictions, alone[0].Predictions)
		}
	}
	if *together[3].Changed != 0 {
		t.Errorf("the same network: %v changed", *together[3].Changed)
	}
}

func TestTiming(t *testing.T) {
	if newTiming(1, nil) != nil {
		t.Error("a timing without a run")
	}
	for _, c := range []struct {
		ms                []float64
		median, low, high float64
	}{
		{[]float64{7}, 7, 7, 7},
		{[]float64{4, 1}, 2.5, 1.3, 3.7},
		{[]float64{11, 1, 2, 3, 10, 4, 5, 9, 6, 7, 8}, 6, 2, 10},
		{[]float64{1, 100, 3, 2}, 2.5, 1.3, 70.9}, // as numpy.percentile has it
	} {
		got := newTiming(5, c.ms)
		if got.Batch != 5 || got.Runs != len(c.ms) || math.Abs(got.Median-c.median) > 1e-9 || math.Abs(got.Low-c.low) > 1e-9 || math.Abs(got.High-c.high) > 1e-9 {
			t.Errorf("%v: %+v, want %v, %v to %v", c.ms, *got, c.median, c.low, c.high)
		}
	}
}

func TestEpochs(t *testing.T) {
	r := DefaultRecipe()
	for _, c := range [][3]int{{6000, 100, 10}, {720, 100, 50}, {50000, 100, 10}, {1, 100, 400}} {
		if r.Batch = c[1]; r.epochsFor(c[0]) != c[2] {
			t.Errorf("%d samples in batches of %d: %d epochs, want %d", c[0], c[1], r.epochsFor(c[0]), c[2])
		}
	}
	if r.Epochs = 3; r.epochsFor(720) != 3 {
		t.Error("a given number of epochs is not kept")
	}
}

func TestAtChance(t *testing.T) {
	for _, c := range []struct {
		accuracy float64
		k, n     int
		want     bool
	}{{0.01, 100, 10000, true}, {0.012, 100, 10000, true}, {0.02, 100, 10000, false}, {0.5, 2, 100, true}, {0.7, 2, 100, false}, {0, 10, 5, true}} {
		if got := AtChance(c.accuracy, 1/float64(c.k), c.n); got != c.want {
			t.Errorf("AtChance(%v, %d, %d) = %v", c.accuracy, c.k, c.n, got)
		}
	}
}

func TestResultRejectsOtherFiles(t *testing.T) {
	for _, text := range []string{"", "{}", `{"schema":"filterlens.stats/0"}`, "[1,2", `{"schema":"filterlens.stats/1","theta":0.3,"layers":[{"layers":["a"],"filter_count":2,"filters":[]}]}`,
		`{"schema":"filterlens.stats/1","theta":7}`} {
		if _, err := ReadResult(bytes.NewReader([]byte(text))); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
