package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// everything asks for all that Measure can say of a filter.
func everything(stability int) Options {
	opt := testOptions()
	opt.Thetas, opt.Stability, opt.Orders, opt.Confusion, opt.Single, opt.Top = []float64{0.6, 0.1, 0.3, 0.1, 0}, stability, 3, true, true, 4
	return opt
}

// observe measures and keeps the fields of each layer.
func observe(t *testing.T, eng engine.Engine, m *inspect.Model, set *dataset.Set, opt Options) (*Result, []Fields) {
	t.Helper()
	var fields []Fields
	opt.Each = func(l *Layer, f Fields) error {
		if l.Top == nil || l.Sweep == nil || l.Stability == nil || l.Order == nil || l.Confusion == nil || l.Single == nil || l.PerLabel == nil {
			t.Errorf("%s is handed out before it is complete", l.Name())
		}
		f.W, f.Means = slices.Clone(f.W), slices.Clone(f.Means)
		fields = append(fields, f)
		return nil
	}
	res, err := Measure(t.Context(), eng, m, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	return res, fields
}

// pooled averages a sample's maps as Tap.Pool says.
func pooled(x []float32, tap *Tap) []float64 {
	p, h, w := tap.Pool, tap.Height/tap.Pool, tap.Width/tap.Pool
	out := make([]float64, 0, tap.Filters*h*w)
	for f := range tap.Filters {
		for i := range h * w {
			sum := 0.0
			for y := range p {
				for z := range p {
					sum += float64(x[(f*tap.Height+i/w*p+y)*tap.Width+i%w*p+z])
				}
			}
			out = append(out, sum/float64(p*p))
		}
	}
	return out
}

// field64 is the field of filter f for output j.
func field64(w []float32, x []float64, d, j, f, p int) float64 {
	sum := 0.0
	for q := range p {
		sum += float64(w[j*d+f*p+q]) * x[f*p+q]
	}
	return sum
}

// slowStatistics compares a measurement in which everything was asked for with what
// follows from the activations of one sample after the other. tol is how far, as a
// share, activations may be off.
func slowStatistics(t *testing.T, eng engine.Engine, m *inspect.Model, set *dataset.Set, opt Options, res *Result, fields []Fields, tol float64) {
	t.Helper()
	_, stats, eval, err := set.Split(opt.Split)
	if err != nil {
		t.Fatal(err)
	}
	k := len(set.Labels())
	taps := func(tap *Tap, index []int) [][]float64 {
		var rows [][]float64
		for _, x := range perSample(t, eng, m, set, tap, index) {
			rows = append(rows, pooled(x, tap))
		}
		return rows
	}
	of := make([]int, k)
	for _, i := range eval.Index {
		of[set.Label(i)]++
	}
	if want := float64(slices.Max(of)) / float64(len(eval.Index)); res.Chance != want {
		t.Errorf("chance %v, want %v", res.Chance, want)
	}
	sure, open := 0, 0 // filters that were compared, and that rounding leaves in doubt
	for n := range res.Layers {
		l, w, p := &res.Layers[n], fields[n].W, fields[n].P
		d := l.Tap.Filters * p
		near := func(a, b float64) bool { return math.Abs(a-b) <= tol*(1e-3+math.Abs(a)+math.Abs(b)) }

		// Accuracy by label, confusion and filters alone, on the evaluation split.
		rows := taps(&l.Tap, eval.Index)
		matrix := make([]int, k*k)
		var logits [][]float32
		if l.Own {
			logits = perSample(t, eng, m, set, &Tap{Tensor: m.Outputs[0].Name}, eval.Index)
		}
		for s, x := range rows {
			best, at := math.Inf(-1), 0
			for j := range k {
				z := 0.0
				for i, v := range x {
					z += float64(w[j*d+i]) * v
				}
				if l.Own {
					z = float64(logits[s][j])
				}
				if z > best {
					best, at = z, j
				}
			}
			matrix[set.Label(eval.Index[s])*k+at]++
		}
		if len(l.PerLabel) != k || len(res.PerLabel) != k {
			t.Fatalf("%s: accuracies of %d labels", l.Name(), len(l.PerLabel))
		}
		mean := 0.0
		for j, a := range l.PerLabel {
			if want := float64(matrix[j*k+j]) / float64(of[j]); a == nil || math.Abs(*a-want) > 1e-12 {
				t.Errorf("%s: accuracy on label %d %v, want %v", l.Name(), j, a, want)
			} else {
				mean += *a * float64(of[j]) / float64(len(eval.Index))
			}
			if l.Own && *res.PerLabel[j] != *l.PerLabel[j] {
				t.Errorf("label %d: the model has %v, its own head %v", j, res.PerLabel[j], l.PerLabel[j])
			}
		}
		if math.Abs(mean-l.Accuracy) > 1e-12 {
			t.Errorf("%s: accuracies by label average to %v, not %v", l.Name(), mean, l.Accuracy)
		}
		together := map[[2]int]bool{}
		for _, f := range l.Filters {
			for _, c := range f.Clusters {
				for _, a := range c {
					for _, b := range c {
						if a < b {
							together[[2]int{a, b}] = true
						}
					}
				}
			}
		}
		wrong, inside := 0, 0
		for i := range k {
			for j := range k {
				if i != j {
					wrong += matrix[i*k+j]
					if together[[2]int{min(i, j), max(i, j)}] {
						inside += matrix[i*k+j]
					}
				}
			}
		}
		if c := l.Confusion; c.Errors != wrong || c.Inside != inside || c.Pairs != len(together) {
			t.Errorf("%s: confusion %+v, want %d pairs, %d errors, %d inside", l.Name(), c, len(together), wrong, inside)
		}
		if len(l.Single) != l.Tap.Filters || len(l.Top) != l.Tap.Filters {
			t.Fatalf("%s: %d filters alone, %d lists of samples", l.Name(), len(l.Single), len(l.Top))
		}
		for f := range l.Tap.Filters {
			labels := l.Filters[f].Labels()
			var low, high, ownLow, ownHigh, own float64
			for s, x := range rows {
				y := set.Label(eval.Index[s])
				phi, scale := field64(w, x, d, y, f, p), 0.0
				other := math.Inf(-1)
				for j := range k {
					z := field64(w, x, d, j, f, p)
					scale = math.Max(scale, math.Abs(z))
					if j != y {
						other = math.Max(other, z)
					}
				}
				mine := slices.Contains(labels, y)
				if mine {
					own++
				}
				if phi > other+10*tol*scale {
					low++
					if mine {
						ownLow++
					}
				}
				if phi > other-10*tol*scale && scale > 0 {
					high++
					if mine {
						ownHigh++
					}
				}
			}
			total := float64(len(rows))
			if a := l.Single[f].Accuracy; a == nil || *a < low/total-1e-12 || *a > high/total+1e-12 {
				t.Errorf("%s filter %d alone: %v, want %v to %v", l.Name(), f, a, low/total, high/total)
			}
			if a := l.Single[f].Own; (a == nil) != (own == 0) || a != nil && (*a < ownLow/own-1e-12 || *a > ownHigh/own+1e-12) {
				t.Errorf("%s filter %d alone on %v: %v, want %v to %v", l.Name(), f, labels, a, ownLow/own, ownHigh/own)
			}

			strength := make([]float64, len(rows))
			for s, x := range rows {
				for _, v := range x[f*p : (f+1)*p] {
					strength[s] += v / float64(p)
				}
			}
			byStrength := slices.Sorted(slices.Values(strength))
			slices.Reverse(byStrength)
			if len(l.Top[f]) != min(opt.Top, len(rows)) {
				t.Fatalf("%s filter %d: %d samples", l.Name(), f, len(l.Top[f]))
			}
			seen := map[int]bool{}
			for r, top := range l.Top[f] {
				s := slices.Index(eval.Index, top.Sample)
				if s < 0 || seen[s] || top.ID != set.ID(top.Sample) || top.Label != set.Label(top.Sample) {
					t.Fatalf("%s filter %d: %+v", l.Name(), f, top)
				}
				seen[s] = true
				if !near(top.Activation, strength[s]) || !near(top.Activation, byStrength[r]) {
					t.Errorf("%s filter %d, place %d: %v; the sample has %v, the place %v", l.Name(), f, r, top.Activation, strength[s], byStrength[r])
				}
				if r > 0 && (top.Activation > l.Top[f][r-1].Activation || top.Activation == l.Top[f][r-1].Activation && top.Sample < l.Top[f][r-1].Sample) {
					t.Errorf("%s filter %d: %+v stands behind %+v", l.Name(), f, top, l.Top[f][r-1])
				}
			}
		}

		// Label means, again with the samples of each run.
		rows = taps(&l.Tap, stats.Index)
		draws := newResampler(stats.Index, set.Label, opt.Stability, opt.Split.Seed)
		fieldsOf := func(f int, weight func(s int) float64) []float32 {
			sum, n := make([]float64, k*p), make([]float64, k)
			whole, all := make([]float64, k*p), make([]float64, k)
			for s, x := range rows {
				y, c := set.Label(stats.Index[s]), weight(s)
				n[y] += c
				all[y]++
				for q, v := range x[f*p : (f+1)*p] {
					sum[y*p+q] += c * v
					whole[y*p+q] += v
				}
			}
			matrix := make([]float32, k*k)
			for i := range k {
				of, c := sum[i*p:(i+1)*p], n[i]
				if c == 0 {
					of, c = whole[i*p:(i+1)*p], all[i]
				}
				for j := range k {
					z := 0.0
					for q, v := range of {
						z += float64(w[j*d+f*p+q]) * v / c
					}
					matrix[i*k+j] = float32(z)
				}
			}
			return matrix
		}
		doubtful := func(matrix []float32, theta float64) bool {
			most := slices.Max(matrix)
			for _, v := range matrix {
				if math.Abs(float64(v/most)-theta) < 20*tol {
					return true
				}
			}
			return most != 0 && math.Abs(float64(most)) < 1e-6
		}
		clear := make([]bool, l.Tap.Filters)
		reference, runs := make([]afcc.Filter, l.Tap.Filters), make([][]afcc.Filter, opt.Stability)
		for r := range runs {
			runs[r] = make([]afcc.Filter, l.Tap.Filters)
		}
		for f := range clear {
			matrix := fieldsOf(f, func(int) float64 { return 1 })
			clear[f] = !doubtful(matrix, opt.Theta)
			reference[f] = afcc.Analyze(matrix, k, opt.Theta)
			for r := range runs {
				matrix := fieldsOf(f, func(s int) float64 {
					return float64(draws.of(set.Label(stats.Index[s]), stats.Index[s])[r])
				})
				clear[f] = clear[f] && !doubtful(matrix, opt.Theta)
				runs[r][f] = afcc.Analyze(matrix, k, opt.Theta)
			}
			if clear[f] {
				sure++
			} else {
				open++
			}
		}
		want, err := afcc.MeasureStability(reference, runs, k)
		if err != nil {
			t.Fatal(err)
		}
		if l.Stability.Runs != opt.Stability || len(l.Stability.Filters) != l.Tap.Filters {
			t.Fatalf("%s: stability %+v", l.Name(), l.Stability)
		}
		for f, ok := range clear {
			got, want := l.Stability.Filters[f], want.Filters[f]
			got.Index = want.Index
			if ok && !reflect.DeepEqual(got, want) {
				t.Errorf("%s filter %d: stability %+v, want %+v", l.Name(), f, got, want)
			}
		}

		// Thresholds and label orders, from the label means that were handed out.
		thetas := slices.Compact(slices.Sorted(slices.Values(opt.Thetas)))
		if len(l.Sweep) != len(thetas) {
			t.Fatalf("%s: %d thresholds, want %v", l.Name(), len(l.Sweep), thetas)
		}
		for i, theta := range thetas {
			filters := make([]afcc.Filter, l.Tap.Filters)
			for f := range filters {
				filters[f] = afcc.Analyze(fields[n].Matrix(nil, f), k, theta)
			}
			if want := afcc.Summarize(filters, k, theta); !reflect.DeepEqual(l.Sweep[i], want) {
				t.Errorf("%s at %v: %+v, want %+v", l.Name(), theta, l.Sweep[i], want)
			}
			if theta == opt.Theta && !reflect.DeepEqual(l.Sweep[i], l.Stats) {
				t.Errorf("%s at its own threshold: %+v, want %+v", l.Name(), l.Sweep[i], l.Stats)
			}
		}
		if !reflect.DeepEqual(l.Order.Ascending, l.Stats) || len(l.Order.Permuted) != opt.Orders || l.Order.Seed != opt.Split.Seed {
			t.Errorf("%s: label orders %+v", l.Name(), l.Order)
		}
		for r, row := range l.Order.Permuted {
			order := rand.New(rand.NewPCG(opt.Split.Seed, uint64(r))).Perm(k)
			filters := make([]afcc.Filter, l.Tap.Filters)
			for f := range filters {
				matrix, renamed := fields[n].Matrix(nil, f), make([]float32, k*k)
				for i := range k {
					for j := range k {
						renamed[i*k+j] = matrix[order[i]*k+order[j]]
					}
				}
				filters[f] = afcc.Analyze(renamed, k, opt.Theta)
			}
			if want := afcc.Summarize(filters, k, opt.Theta); !reflect.DeepEqual(row, want) {
				t.Errorf("%s, order %d: %+v, want %+v", l.Name(), r, row, want)
			}
		}
	}
	if open > sure || sure == 0 {
		t.Errorf("%d filters compared, %d left in doubt", sure, open)
	}
}

// closed is a model that runs with its own batch only.
func closed(t *testing.T, batch int64) *inspect.Model {
	n := newNet(batch, 3, 8)
	n.conv("conv1", 3, 4, 3, 1).op("Relu").pool().reshape(-1, 4, 16).op("Flatten").reshape(4*batch, 16).reshape(batch, 64)
	return n.gemm("hidden", 64, 6).op("Relu").gemm("classifier", 6, testK).model(t, batch, testK)
}

// TestStatistics measures everything in each way in which a model can run.
func TestStatistics(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 17)
	conv := func(n *net) *net { return n.conv("conv1", 3, 4, 3, 1).op("Relu").pool() }
	fixed := func(batch int64) *inspect.Model { return closed(t, batch) }
	half := func() *inspect.Model {
		n := newNet(-1, 3, 8)
		n.op("Cast", attrInt("to", int64(onnxfile.Float16)))
		conv(n).op("Flatten").gemm("hidden", 64, 6).op("Relu").gemm("classifier", 6, testK)
		n.op("Cast", attrInt("to", int64(onnxfile.Float)))
		n.convert(t, onnxfile.Float16)
		return n.model(t, -1, testK)
	}
	newer := func() *inspect.Model {
		n := newNet(-1, 3, 8)
		*n.d.Model.OpsetImport[0].Version = 18
		conv(n).op("Flatten").gemm("hidden", 64, 6).op("Relu").gemm("classifier", 6, testK)
		return n.model(t, -1, testK)
	}
	for _, c := range []struct {
		name      string
		model     *inspect.Model
		fixed     int
		stability int
		change    func(*Options)
		tol       float64
	}{
		{"halves", small(t, testK), 0, 2, nil, 1e-5},
		{"resamples", small(t, testK), 0, 5, nil, 1e-5},
		{"batches of 1", small(t, testK), 0, 3, func(o *Options) { o.Batch = 1 }, 1e-5},
		{"averaged maps", small(t, testK), 0, 3, func(o *Options) { o.MaxSide = 2 }, 1e-5},
		{"fixed batch 1", fixed(1), 1, 3, nil, 1e-5},
		{"fixed batch 3", fixed(3), 3, 3, nil, 1e-5},
		{"fixed batch 3, halves", fixed(3), 3, 2, nil, 1e-5},
		{"opset 18", newer(), 0, 3, nil, 1e-5},
		{"float16", half(), 0, 3, nil, 2e-4},
		{"more samples than there are", small(t, testK), 0, 3, func(o *Options) { o.Top = 1000 }, 1e-5},
	} {
		t.Run(c.name, func(t *testing.T) {
			if s := mustSurvey(t, c.model); c.fixed != 0 && (s.Batch != c.fixed || s.Opened) {
				t.Fatalf("the model runs with a batch of %d, opened %v", s.Batch, s.Opened)
			}
			opt := everything(c.stability)
			if c.change != nil {
				c.change(&opt)
			}
			thetas := slices.Clone(opt.Thetas)
			res, fields := observe(t, eng, c.model, set, opt)
			if !slices.Equal(opt.Thetas, thetas) {
				t.Error("the caller's thresholds were changed")
			}
			slowStatistics(t, eng, c.model, set, opt, res, fields, c.tol)
			text, err := json.Marshal(res)
			if err != nil {
				t.Fatal(err)
			}
			back, err := ReadResult(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if again, err := json.Marshal(back); err != nil || !bytes.Equal(text, again) {
				t.Errorf("a result does not survive JSON: %v", err)
			}
		})
	}
}

// uneven opens an image folder with as many samples of each label as given.
func uneven(t testing.TB, counts ...int) *dataset.Set {
	t.Helper()
	dir := imageFolder(t, len(counts), slices.Max(counts))
	for l, n := range counts {
		for i := n; i < slices.Max(counts); i++ {
			if err := os.Remove(filepath.Join(dir, "label"+strconv.Itoa(l), strconv.Itoa(i)+".png")); err != nil {
				t.Fatal(err)
			}
		}
	}
	return openSet(t, dir)
}

// TestUnevenLabels measures labels of 3 to 60 samples, of which the scarcest have one
// in each split: means are those of each label, whatever the others have.
func TestUnevenLabels(t *testing.T) {
	eng := runtime(t)
	set := uneven(t, 3, 60, 7, 3, 21)
	for _, c := range []struct {
		model     *inspect.Model
		stability int
	}{{small(t, testK), 2}, {small(t, testK), 4}, {closed(t, 4), 2}, {closed(t, 4), 4}} {
		m, opt := c.model, everything(c.stability)
		_, stats, eval, err := set.Split(opt.Split)
		if err != nil {
			t.Fatal(err)
		}
		count := func(index []int) []int {
			n := make([]int, testK)
			for _, i := range index {
				n[set.Label(i)]++
			}
			return n
		}
		if n := count(stats.Index); slices.Min(n) != 1 || slices.Max(n) < 15 {
			t.Fatalf("%v samples of the labels", n)
		}
		res, fields := observe(t, eng, m, set, opt)
		slowStatistics(t, eng, m, set, opt, res, fields, 1e-5)
		if n := count(eval.Index); res.Chance <= 1.0/testK || res.Chance != float64(n[1])/float64(len(eval.Index)) {
			t.Errorf("chance %v with %v samples of the labels", res.Chance, n)
		}
		// The mean of each label over its own samples, added up one by one.
		for n, l := range res.Layers {
			d := l.Tap.Filters * l.Positions()
			sum, of := make([]float64, testK*d), count(stats.Index)
			for s, x := range perSample(t, eng, m, set, &l.Tap, stats.Index) {
				y := set.Label(stats.Index[s])
				for i, v := range x {
					sum[y*d+i] += float64(v) / float64(of[y])
				}
			}
			for i, v := range fields[n].Means {
				if math.Abs(float64(v)-sum[i]) > 1e-5*(1+math.Abs(sum[i])) {
					t.Fatalf("%s, label %d, place %d: mean %v, want %v", l.Name(), i/d, i%d, v, sum[i])
				}
			}
		}
		if !slices.ContainsFunc(res.Warnings, func(w string) bool { return strings.Contains(w, "a label has only 1 sample to") }) {
			t.Errorf("no warning of a label with one sample in %q", res.Warnings)
		}
		if !slices.ContainsFunc(res.Warnings, func(w string) bool { return strings.Contains(w, "seem more stable") }) {
			t.Errorf("no warning of the stability of one sample in %q", res.Warnings)
		}
	}
}

// TestChanceWarning: a model that always answers the commonest label is at chance,
// however common the label is.
func TestChanceWarning(t *testing.T) {
	set := uneven(t, 3, 60, 4, 3, 5)
	n := newNet(-1, 3, 8)
	n.conv("conv1", 3, 4, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten").gemm("classifier", 4, testK)
	n.t = n.node("Add", []string{n.t, n.constFloat([]float32{0, 1e4, 0, 0, 0}, testK)})
	res, err := Measure(t.Context(), runtime(t), n.model(t, -1, testK), set, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if res.Accuracy != res.Chance || res.Accuracy < 0.7 || *res.PerLabel[1] != 1 || *res.PerLabel[0] != 0 {
		t.Errorf("accuracy %v, chance %v", res.Accuracy, res.Chance)
	}
	if !slices.ContainsFunc(res.Warnings, func(w string) bool { return strings.Contains(w, "at chance level") }) {
		t.Errorf("no warning in %q", res.Warnings)
	}
}

// TestStatisticsInGroups: a limit of memory changes the way, not what comes out.
func TestStatisticsInGroups(t *testing.T) {
	eng, m, set := runtime(t), small(t, testK), folder(t, testK, 20)
	opt := everything(6)
	whole, fields := observe(t, eng, m, set, opt)
	slowStatistics(t, eng, m, set, opt, whole, fields, 1e-5)
	for _, memory := range []int64{80 << 10, 40 << 10, 16 << 10} {
		opt.Memory = memory
		plan, err := NewPlan(m, set, opt)
		if err != nil {
			t.Fatal(err)
		}
		passes, smaller := 0, false
		for _, g := range plan.Groups {
			for _, p := range g.Passes {
				if p.Kind == "label means" {
					passes = max(passes, p.Times)
				}
				smaller = smaller || p.Kind == "accuracy" && p.Bytes > g.Held
			}
		}
		if len(plan.Groups) < 2 || memory == 16<<10 && passes < 2 || !smaller {
			t.Errorf("limit %d: %d groups, %d passes for label means, activations counted %v", memory, len(plan.Groups), passes, smaller)
		}
		ran := 0
		opt.Progress = func(stage string, done, total int) {
			if strings.HasPrefix(stage, "measuring label means") && done == total {
				ran += total
			}
		}
		res, fields := observe(t, eng, m, set, opt)
		slowStatistics(t, eng, m, set, opt, res, fields, 1e-5)
		planned := 0
		for _, g := range plan.Groups {
			for _, p := range g.Passes {
				if p.Kind == "label means" {
					planned += p.Samples * p.Times
				}
			}
		}
		if ran != planned {
			t.Errorf("limit %d: label means of %d samples, %d planned", memory, ran, planned)
		}
	}
}

// TestStabilityLeavesClusters: what is asked for besides does not change a row.
func TestStabilityLeavesClusters(t *testing.T) {
	eng, m, set := runtime(t), small(t, testK), folder(t, testK, 12)
	plain, err := Measure(t.Context(), eng, m, set, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	res, _ := observe(t, eng, m, set, everything(4))
	for i, l := range res.Layers {
		p := plain.Layers[i]
		if !reflect.DeepEqual(l.Filters, p.Filters) || !reflect.DeepEqual(l.Stats, p.Stats) || l.Accuracy != p.Accuracy || !reflect.DeepEqual(l.PerLabel, p.PerLabel) {
			t.Errorf("%s differs from what is measured without further statistics", l.Name())
		}
		if p.Stability != nil || p.Order != nil || p.Confusion != nil || p.Sweep != nil || p.Single != nil || p.Top != nil {
			t.Errorf("%s has statistics that were not asked for", p.Name())
		}
	}
}

// TestConfusionMatrix: rows are right labels, columns answers.
func TestConfusionMatrix(t *testing.T) {
	got := confusion([]int32{0, 0, 0, 1, 2, 2}, []int32{0, 2, 2, 0, 2, 1}, 3)
	if want := []int{1, 0, 2, 1, 0, 0, 0, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	all, perLabel := accuracies([]int32{0, 0, 0, 3, 2, 2}, []int32{0, 2, 0, 3, 1, 1}, 4)
	if all != 0.5 || *perLabel[0] != 2.0/3 || perLabel[1] != nil || *perLabel[2] != 0 || *perLabel[3] != 1 {
		t.Errorf("%v, %v", all, perLabel)
	}
}

func TestStatisticsRefused(t *testing.T) {
	m, set := small(t, testK), folder(t, testK, 6)
	for _, c := range []struct {
		name   string
		change func(*Options)
	}{
		{"stability 1", func(o *Options) { o.Stability = 1 }},
		{"stability -2", func(o *Options) { o.Stability = -2 }},
		{"stability without end", func(o *Options) { o.Stability = maxRepeats + 1 }},
		{"orders -1", func(o *Options) { o.Orders = -1 }},
		{"orders without end", func(o *Options) { o.Orders = 1 << 40 }},
		{"top -1", func(o *Options) { o.Top = -1 }},
		{"theta 1", func(o *Options) { o.Thetas = []float64{0.3, 1} }},
		{"theta nan", func(o *Options) { o.Thetas = []float64{math.NaN()} }},
	} {
		opt := testOptions()
		c.change(&opt)
		var bad *afcc.ArgumentError
		if _, err := NewPlan(m, set, opt); !errors.As(err, &bad) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestStatisticsOfFixture measures a network as others train them.
func TestStatisticsOfFixture(t *testing.T) {
	f, err := onnxfile.Open("../../fixtures/vgg16-glyphs20.onnx")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	taps := mustSurvey(t, m).Taps
	set := openSet(t, "../../fixtures/glyphs20")
	opt := everything(4)
	opt.Split.Limit, opt.Recipe.Epochs, opt.Batch = 8*len(set.Labels()), 2, 9
	opt.Layers = []string{taps[len(taps)/2].Name(), taps[len(taps)-1].Name()}
	res, fields := observe(t, runtime(t), m, set, opt)
	slowStatistics(t, runtime(t), m, set, opt, res, fields, 2e-5)
}
