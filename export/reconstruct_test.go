package export

import (
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/filterlens/filterlens/afcc/probe"
)

// lostBy is what least squares loses of x w without some columns of x, as a share, the
// slow way. x has a column of ones behind those.
func lostBy(x, w *mat.Dense, gone []int) float64 {
	rows, n := x.Dims()
	var y mat.Dense
	y.Mul(x, w)
	var left []int
	for c := range n {
		if !slices.Contains(gone, c) {
			left = append(left, c)
		}
	}
	part := mat.NewDense(rows, len(left), nil)
	for k, c := range left {
		part.SetCol(k, mat.Col(nil, c, x))
	}
	var fit, z mat.Dense
	var qr mat.QR
	qr.Factorize(part)
	if err := qr.SolveTo(&fit, false, &y); err != nil {
		panic(err)
	}
	z.Mul(part, &fit)
	z.Sub(&y, &z)
	_, k := y.Dims()
	variance := 0.0
	for j := range k {
		mean := mat.Sum(y.ColView(j)) / float64(rows)
		for _, v := range mat.Col(nil, j, &y) {
			variance += (v - mean) * (v - mean)
		}
	}
	return math.Pow(mat.Norm(&z, 2), 2) / variance
}

// sample draws correlated channels with a mean, the last column ones, and weights.
func sample(seed uint64, rows, n, outputs int) (x, w *mat.Dense, v view) {
	r := rand.New(rand.NewPCG(seed, 1))
	mix := mat.NewDense(n, n, nil)
	mix.Apply(func(i, j int, _ float64) float64 { return r.NormFloat64() / float64(1+j) }, mix)
	raw := mat.NewDense(rows, n, nil)
	raw.Apply(func(int, int, float64) float64 { return r.NormFloat64() }, raw)
	var mixed mat.Dense
	mixed.Mul(raw, mix)
	x, w = mat.NewDense(rows, n+1, nil), mat.NewDense(n+1, outputs, nil)
	x.Apply(func(i, j int, _ float64) float64 {
		if j == n {
			return 1
		}
		return mixed.At(i, j) + float64(j)
	}, x)
	w.Apply(func(i, _ int, _ float64) float64 {
		if i == n {
			return 0
		}
		return r.NormFloat64()
	}, w)
	sums := newMomentSums(n)
	block := make([]float32, rows*n)
	for i := range rows {
		for j := range n {
			block[i*n+j] = float32(x.At(i, j))
		}
	}
	half := rows / 2 * n
	sums.add(block[:half], rows/2, 1, 1, nil)
	sums.add(block[half:], rows-rows/2, 1, 1, nil)
	v = view{sums.moments().Covariance, make([]float64, n*n)}
	total := 0.0
	for i := range n {
		for j := range n {
			h := mat.Dot(w.RowView(i), w.RowView(j))
			v.weights[i*n+j] = h
			total += h * v.covariance[i*n+j]
		}
	}
	for i := range v.weights {
		v.weights[i] /= total
	}
	return x, w, v
}

func (v view) clone() view {
	return view{slices.Clone(v.covariance), slices.Clone(v.weights)}
}

// TestEliminate: what is lost is what least squares loses, and each step is the best
// one; in a given order too.
func TestEliminate(t *testing.T) {
	const n = 9
	for seed := range uint64(4) {
		x, w, v := sample(seed, 400, n, 3)
		close := func(got, want float64) bool { return math.Abs(got-want) < 0.01*want+1e-3 }
		scores, err := eliminate(t.Context(), []view{v.clone()}, n, nil)
		if err != nil {
			t.Fatal(err)
		}
		order := worstFirst(scores)
		for k := 1; k < n; k++ {
			if want := lostBy(x, w, order[:k]); !close(scores[order[k-1]], want) {
				t.Errorf("seed %d: without %v %v is lost, want %v", seed, order[:k], scores[order[k-1]], want)
			}
			for _, other := range order[k:] {
				if swapped := append(slices.Clone(order[:k-1]), other); lostBy(x, w, swapped) < scores[order[k-1]]*0.98-1e-3 {
					t.Errorf("seed %d: %v costs less than %v", seed, swapped, order[:k])
				}
			}
		}
		given := rand.New(rand.NewPCG(seed, 2)).Perm(n)
		if scores, err = eliminate(t.Context(), []view{v.clone()}, n, given); err != nil {
			t.Fatal(err)
		}
		for k := 1; k < n; k++ {
			if want := lostBy(x, w, given[:k]); !close(scores[given[k-1]], want) {
				t.Errorf("seed %d: without %v %v is lost, want %v", seed, given[:k], scores[given[k-1]], want)
			}
		}
	}
}

// TestEliminateTwins: of two channels that are the same one is free and the other is
// not; a dead one is free; two readers count alike.
func TestEliminateTwins(t *testing.T) {
	v := view{covariance: []float64{
		4, 4, 0, 0,
		4, 4, 0, 0,
		0, 0, 1, 0,
		0, 0, 0, 0,
	}, weights: []float64{
		1, 0, 0, 0,
		0, 1, 0, 0,
		0, 0, 0.1, 0,
		0, 0, 0, 5,
	}}
	for i := range v.weights {
		v.weights[i] /= 8.1
	}
	none := view{slices.Clone(v.covariance), make([]float64, 16)}
	scores, err := eliminate(t.Context(), []view{v, none}, 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	order := worstFirst(scores)
	if order[0] != 3 || order[1] != 1 || order[2] != 2 || order[3] != 0 {
		t.Errorf("order %v of %v", order, scores)
	}
	if scores[1] > 0.01 || math.Abs(scores[2]-0.1/8.1) > 0.01 || scores[0] < 0.9 {
		t.Errorf("%v", scores)
	}
}

// TestMoments: covariances are those of the activations; filters that are left out
// are those that readers can do without.
func TestMoments(t *testing.T) {
	eng := runtime(t)
	m, opt := trained(t, vgg)
	opt.Probe.Split.PerLabel = 10
	po := PlanOptions{Target: Conv, Criterion: Reconstruction, FiltersKeep: 0.5, RoundTo: 1}
	taps, err := Taps(m, po)
	if err != nil {
		t.Fatal(err)
	}
	var option *OptionError
	if _, err := NewPlan(t.Context(), m, nil, po); !errors.As(err, &option) || !strings.Contains(err.Error(), "covariances") {
		t.Errorf("without covariances: %v", err)
	}
	if po.Moments, err = MeasureMoments(t.Context(), eng, m, opt.Set, taps, opt.Probe); err != nil {
		t.Fatal(err)
	}
	survey, err := probe.NewSurvey(m)
	if err != nil {
		t.Fatal(err)
	}
	fit, stats, _, err := opt.Set.Split(opt.Probe.Split)
	if err != nil {
		t.Fatal(err)
	}
	last := survey.Tap(taps[len(taps)-1]) // of few positions, so that all are read
	got := po.Moments[last.Tensor]
	var rows [][]float64
	for a, err := range probe.Activations(t.Context(), eng, m, []*probe.Tap{last}, opt.Set, slices.Concat(fit.Index, stats.Index), opt.Probe) {
		if err != nil {
			t.Fatal(err)
		}
		positions := last.Positions()
		for i := range a.Index {
			for p := range positions {
				row := make([]float64, last.Filters)
				for c := range row {
					row[c] = float64(a.Taps[0][(i*last.Filters+c)*positions+p])
				}
				rows = append(rows, row)
			}
		}
	}
	if got.Rows != int64(len(rows)) {
		t.Fatalf("%d rows, want %d", got.Rows, len(rows))
	}
	for i := range last.Filters {
		mean := 0.0
		for _, r := range rows {
			mean += r[i] / float64(len(rows))
		}
		if math.Abs(got.Mean[i]-mean) > 1e-6*(1+math.Abs(mean)) {
			t.Errorf("mean of filter %d: %v, want %v", i, got.Mean[i], mean)
		}
		j, product := (i*7+3)%last.Filters, 0.0
		for _, r := range rows {
			product += (r[i] - got.Mean[i]) * (r[j] - got.Mean[j]) / float64(len(rows))
		}
		if c := got.Covariance[i*last.Filters+j]; math.Abs(c-product) > 1e-6*(1+math.Abs(product)) || c != got.Covariance[j*last.Filters+i] {
			t.Errorf("covariance of filters %d and %d: %v, want %v", i, j, c, product)
		}
	}
	plan, err := NewPlan(t.Context(), m, nil, po)
	if err != nil || len(plan.Filters) < 5 {
		t.Fatalf("%+v, %v", plan, err)
	}
	for _, f := range plan.Filters {
		if !slices.IsSorted(f.Scores) || f.Scores[len(f.Scores)-1] > f.KeptScore || f.KeptScore > 1.001 || f.Scores[0] < 0 {
			t.Errorf("layer %s: scores %v, then %v", f.Layer, f.Scores, f.KeptScore)
		}
	}
	for _, bad := range []PlanOptions{{Target: Conv, Criterion: Reconstruction, Theta: 0.3, Moments: po.Moments}, {Target: Conv, Criterion: Reconstruction, FiltersKeep: 0.5, Dilution: 0.5, Moments: po.Moments}} {
		if _, err := NewPlan(t.Context(), m, nil, bad); !errors.As(err, &option) {
			t.Errorf("%v", err)
		}
	}
	po.Moments = map[string]*Moments{taps[0]: {Covariance: make([]float64, 3)}}
	if _, err := NewPlan(t.Context(), m, nil, po); !errors.As(err, &option) {
		t.Errorf("covariances of another model: %v", err)
	}
}

// TestReconstructionRecovers: after a refit, less is lost than with the filters of
// largest norm.
func TestReconstructionRecovers(t *testing.T) {
	eng := runtime(t)
	m, opt := trained(t, vgg)
	opt.PlanOptions = PlanOptions{Target: Conv, FiltersKeep: 0.5, RoundTo: 1, Recover: []string{RecoverRidge}}
	opt.Probe.Split.PerLabel = 40
	taps, err := Taps(m, PlanOptions{Target: Conv, Criterion: Reconstruction, FiltersKeep: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	if opt.Moments, err = MeasureMoments(t.Context(), eng, m, opt.Set, taps, opt.Probe); err != nil {
		t.Fatal(err)
	}
	errs := map[string]float64{}
	for _, criterion := range []string{Reconstruction, Magnitude} {
		opt.Criterion = criterion
		r, err := Prune(t.Context(), eng, m, nil, filepath.Join(t.TempDir(), "out.onnx"), nil, opt)
		if err != nil {
			t.Fatal(err)
		}
		layers := r.Steps[1].Layers
		errs[criterion] = layers[len(layers)-1].After
	}
	if !(errs[Reconstruction] < errs[Magnitude]) {
		t.Errorf("errors of the last layer: %v", errs)
	}
}

func BenchmarkEliminate(b *testing.B) {
	_, _, v := sample(1, 1200, 256, 100)
	for b.Loop() {
		if _, err := eliminate(b.Context(), []view{v.clone()}, 256, nil); err != nil {
			b.Fatal(err)
		}
	}
}
