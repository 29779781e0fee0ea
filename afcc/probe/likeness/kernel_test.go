package likeness

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
)

// slowCKA is the definition with features, in double precision.
func slowCKA(x, y *mat.Dense) float64 {
	norm := func(a, b *mat.Dense) float64 {
		var p mat.Dense
		p.Mul(a.T(), b)
		f := mat.Norm(&p, 2) // of Frobenius
		return f * f
	}
	cx, cy := fromMean(x), fromMean(y)
	return norm(cx, cy) / math.Sqrt(norm(cx, cx)*norm(cy, cy))
}

// slowDebiased is the sum over distinct samples that HSIC_1 estimates without bias
// (Song et al. 2012, theorem 2): products K_ij (L_ij + L_uv - 2 L_iu), averaged over all
// i, j, u, v that differ.
func slowDebiased(x, y *mat.Dense) float64 {
	var k, l mat.Dense
	x, y = fromFirst(x), fromFirst(y)
	k.Mul(x, x.T())
	l.Mul(y, y.T())
	n, _ := k.Dims()
	hsic := func(k, l *mat.Dense) (sum float64) {
		count := 0
		for i := range n {
			for j := range n {
				for u := range n {
					for v := range n {
						if i != j && i != u && i != v && j != u && j != v && u != v {
							sum += k.At(i, j) * (l.At(i, j) + l.At(u, v) - 2*l.At(i, u))
							count++
						}
					}
				}
			}
		}
		return sum / float64(count)
	}
	return hsic(&k, &l) / math.Sqrt(hsic(&k, &k)*hsic(&l, &l))
}

// fromMean takes the mean of each column from it.
func fromMean(m *mat.Dense) *mat.Dense {
	n, d := m.Dims()
	c := mat.NewDense(n, d, nil)
	for j := range d {
		var mean float64
		for i := range n {
			mean += m.At(i, j) / float64(n)
		}
		for i := range n {
			c.Set(i, j, m.At(i, j)-mean)
		}
	}
	return c
}

// fromFirst takes the first row from all, lest large means cost digits.
func fromFirst(x *mat.Dense) *mat.Dense {
	n, d := x.Dims()
	y := mat.NewDense(n, d, nil)
	y.Apply(func(_, j int, v float64) float64 { return v - x.At(0, j) }, x)
	return y
}

func randomFeatures(r *rand.Rand, n, d int, shift float64) *mat.Dense {
	m := mat.NewDense(n, d, nil)
	for i := range n {
		for j := range d {
			m.Set(i, j, float64(float32(r.NormFloat64()+shift)))
		}
	}
	return m
}

// kernelOf takes the way of Measure.
func kernelOf(t testing.TB, eng engine.Engine, x *mat.Dense) *kernel {
	t.Helper()
	n, d := x.Dims()
	v := make([]float32, n*d)
	for i := range v {
		v[i] = float32(x.At(i/d, i%d))
	}
	m, err := newMultiplier(t.Context(), eng, n)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	k := newKernel(n)
	// In two parts, as where memory is short.
	half := d / 2
	for _, part := range [][2]int{{0, half}, {half, d}} {
		w := part[1] - part[0]
		p := make([]float32, 0, n*w)
		for i := range n {
			p = append(p, v[i*d+part[0]:i*d+part[1]]...)
		}
		if err := m.add(t.Context(), k, p, w); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func bothEngines(t *testing.T, f func(t *testing.T, eng engine.Engine)) {
	t.Run("onnxruntime", func(t *testing.T) { f(t, runtime(t)) })
	t.Run("gorgonia", func(t *testing.T) { f(t, gorgonia.Open(gorgonia.Options{Threads: 2})) })
}

func near(t *testing.T, what string, got *float64, want, slack float64) {
	t.Helper()
	if got == nil || !(math.Abs(*got-want) <= slack) {
		t.Errorf("%s: %v, want %v", what, show(got), want)
	}
}

func show(x *float64) any {
	if x == nil {
		return nil
	}
	return *x
}

// TestAgainstDefinition compares with the definitions, written down as they stand.
func TestAgainstDefinition(t *testing.T) {
	bothEngines(t, func(t *testing.T, eng engine.Engine) {
		r := rand.New(rand.NewPCG(1, 1))
		for _, c := range []struct{ n, dx, dy int }{{4, 3, 5}, {5, 1, 1}, {8, 3, 70}, {9, 30, 2}, {12, 300, 2100}} {
			for _, shift := range []float64{0, 300} {
				x, y := randomFeatures(r, c.n, c.dx, shift), randomFeatures(r, c.n, c.dy, -shift)
				for i := range c.n { // something in common
					y.Set(i, 0, y.At(i, 0)+3*x.At(i, 0))
				}
				cka, debiased := alignments([]*kernel{kernelOf(t, eng, x)}, []*kernel{kernelOf(t, eng, y)})
				near(t, "CKA", cka[0][0], slowCKA(rounded(x), rounded(y)), 2e-6)
				near(t, "debiased", debiased[0][0], slowDebiased(rounded(x), rounded(y)), 2e-5)
			}
		}
	})
}

// rounded is what float32 makes of features.
func rounded(x *mat.Dense) *mat.Dense {
	n, d := x.Dims()
	y := mat.NewDense(n, d, nil)
	y.Apply(func(_, _ int, v float64) float64 { return float64(float32(v)) }, x)
	return y
}

// TestInvariance: similarity is 1 with itself, and the same under rotation of the
// features and under scaling; means do not count.
func TestInvariance(t *testing.T) {
	bothEngines(t, func(t *testing.T, eng engine.Engine) {
		r := rand.New(rand.NewPCG(2, 2))
		const n, d = 40, 24
		x, z := randomFeatures(r, n, d, 0), randomFeatures(r, n, 50, 1)
		var qr mat.QR
		qr.Factorize(randomFeatures(r, d, d, 0))
		var q, turned mat.Dense
		qr.QTo(&q)
		turned.Mul(x, &q)
		scaled, moved := mat.DenseCopyOf(x), mat.DenseCopyOf(x)
		scaled.Scale(1e-20, scaled)
		huge := mat.DenseCopyOf(x)
		huge.Scale(1e30, huge)
		for i := range n {
			for j := range d {
				moved.Set(i, j, moved.At(i, j)+float64(j)-7)
			}
		}
		kz := kernelOf(t, eng, z)
		base, baseDebiased := alignments([]*kernel{kernelOf(t, eng, x)}, []*kernel{kz})
		for name, y := range map[string]*mat.Dense{"itself": x, "turned": &turned, "scaled down": scaled, "scaled up": huge, "moved": moved} {
			kx, ky := kernelOf(t, eng, x), kernelOf(t, eng, y)
			cka, debiased := alignments([]*kernel{kx}, []*kernel{ky, kz})
			near(t, name, cka[0][0], 1, 1e-6)
			near(t, name+", debiased", debiased[0][0], 1, 1e-6)
			cka, debiased = alignments([]*kernel{ky}, []*kernel{kz})
			near(t, name+" with others", cka[0][0], *base[0][0], 1e-6)
			near(t, name+" with others, debiased", debiased[0][0], *baseDebiased[0][0], 1e-6)
		}
	})
}

// TestIndependent: features that have nothing to do with each other look similar where
// they are many, but not to the debiased estimate.
func TestIndependent(t *testing.T) {
	eng := runtime(t)
	r := rand.New(rand.NewPCG(3, 3))
	x, y := kernelOf(t, eng, randomFeatures(r, 60, 3000, 0)), kernelOf(t, eng, randomFeatures(r, 60, 3000, 0))
	cka, debiased := alignments([]*kernel{x}, []*kernel{y})
	if *cka[0][0] < 0.9 {
		t.Errorf("CKA of many random features: %v", *cka[0][0])
	}
	near(t, "debiased", debiased[0][0], 0, 0.1)
}

// TestUndefined: where similarity is not defined there is none, and no NaN.
func TestUndefined(t *testing.T) {
	eng := runtime(t)
	r := rand.New(rand.NewPCG(4, 4))
	constant := func(n int, v float64) *mat.Dense {
		m := mat.NewDense(n, 9, nil)
		m.Apply(func(_, j int, _ float64) float64 { return v * float64(j+1) }, m)
		return m
	}
	almost := constant(8, 0.1)
	almost.Set(3, 2, float64(math.Nextafter32(float32(almost.At(3, 2)), 1)))
	lone := constant(8, 0.1)
	lone.Set(5, 4, 17)
	lone.Set(5, 6, -3)
	with := func(v float64) *mat.Dense {
		m := randomFeatures(r, 8, 9, 0)
		m.Set(2, 5, v)
		return m
	}
	fine := kernelOf(t, eng, randomFeatures(r, 8, 5, 0))
	for name, c := range map[string]struct {
		x                             *mat.Dense
		constant, notFinite, ckaThere bool
	}{
		"zeros":         {constant(8, 0), true, false, false},
		"constant":      {constant(8, 1e20/3), true, false, false},
		"rounding":      {almost, true, false, false},
		"NaN":           {with(math.NaN()), false, true, false},
		"infinite":      {with(math.Inf(-1)), false, true, false},
		"one set apart": {lone, false, false, true},
	} {
		k := kernelOf(t, eng, c.x)
		cka, debiased := alignments([]*kernel{k}, []*kernel{fine, k})
		if k.constant() != c.constant || k.notFinite != c.notFinite {
			t.Errorf("%s: constant %v, not finite %v", name, k.constant(), k.notFinite)
		}
		for j := range 2 {
			if (cka[0][j] != nil) != c.ckaThere || debiased[0][j] != nil {
				t.Errorf("%s: %v and %v", name, show(cka[0][j]), show(debiased[0][j]))
			}
		}
	}
	for n := 1; n < 6; n++ {
		k, l := kernelOf(t, eng, randomFeatures(r, n, 7, 2)), kernelOf(t, eng, randomFeatures(r, n, 70, 2))
		cka, debiased := alignments([]*kernel{k}, []*kernel{l})
		if (cka[0][0] != nil) != (n >= 2) || (debiased[0][0] != nil) != (n >= 4) {
			t.Errorf("%d samples: %v and %v", n, show(cka[0][0]), show(debiased[0][0]))
		}
	}
}

// TestRatio: only rounding is clipped.
func TestRatio(t *testing.T) {
	for _, c := range []struct {
		x, low, want float64
	}{{1 + 1e-9, 0, 1}, {1.1, 0, 1.1}, {-1e-9, 0, 0}, {-0.2, 0, -0.2}, {-0.2, -1, -0.2}, {-1 - 1e-8, -1, -1}} {
		near(t, "ratio", ratio(c.x, 1, 1, c.low), c.want, 0)
	}
	for _, x := range []*float64{ratio(1, 0, 1, 0), ratio(math.NaN(), 1, 1, 0), ratio(0, 0, 0, 0), ratio(1, -1, 1, 0)} {
		if x != nil {
			t.Errorf("%v, want none", *x)
		}
	}
}

// TestProducts compares the inner products, put together of blocks of samples, with
// those in double precision.
func TestProducts(t *testing.T) {
	bothEngines(t, func(t *testing.T, eng engine.Engine) {
		r := rand.New(rand.NewPCG(5, 5))
		for _, n := range []int{2, 63, 64, 67, 130} {
			x := rounded(randomFeatures(r, n, 37, 4))
			k := kernelOf(t, eng, x)
			var want mat.Dense
			c := fromMean(x)
			want.Mul(c, c.T())
			at := 0
			for i := range n {
				if d := math.Abs(k.diag[i] - want.At(i, i)); d > 1e-4 {
					t.Fatalf("%d samples: %d with itself differs by %v", n, i, d)
				}
				for j := i + 1; j < n; j++ {
					if d := math.Abs(k.off[at] - want.At(i, j)); d > 1e-4 {
						t.Fatalf("%d samples: %d with %d differs by %v", n, i, j, d)
					}
					at++
				}
			}
		}
	})
}
