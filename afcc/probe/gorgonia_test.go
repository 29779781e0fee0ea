package probe

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/inspect/engine"
	pure "github.com/filterlens/filterlens/inspect/engine/gorgonia"
)

// bothEngines calls fn for ONNX Runtime and for the pure-Go engine.
func bothEngines(t *testing.T, fn func(t *testing.T, e engine.Engine)) {
	t.Run("onnxruntime", func(t *testing.T) { fn(t, runtime(t)) })
	t.Run("gorgonia", func(t *testing.T) { fn(t, pure.Open(pure.Options{Threads: 2})) })
}

// autodiff is the loss of a head and its gradient as Gorgonia derives it.
type autodiff struct {
	vm         gorgonia.VM
	w          *gorgonia.Node // D x K: Gorgonia's Mul has no transposed form
	loss, grad *gorgonia.Node
}

// newAutodiff builds the cross-entropy of softmax(x W), plus l2/2 times the
// squares of W. x is B x D, onehot B x K.
func newAutodiff(t *testing.T, x, onehot []float32, batch, d, k int, l2 float32) *autodiff {
	g := gorgonia.NewGraph()
	matrix := func(name string, data []float32, rows, cols int) *gorgonia.Node {
		return gorgonia.NewMatrix(g, gorgonia.Float32, gorgonia.WithName(name), gorgonia.WithShape(rows, cols), gorgonia.WithValue(dense(data, rows, cols)))
	}
	a := &autodiff{w: matrix("w", make([]float32, d*k), d, k)}
	gx, gy := matrix("x", x, batch, d), matrix("y", onehot, batch, k)
	p := gorgonia.Must(gorgonia.SoftMax(gorgonia.Must(gorgonia.Mul(gx, a.w)), 1))
	picked := gorgonia.Must(gorgonia.Sum(gorgonia.Must(gorgonia.HadamardProd(gorgonia.Must(gorgonia.Log(p)), gy))))
	a.loss = gorgonia.Must(gorgonia.Div(gorgonia.Must(gorgonia.Neg(picked)), gorgonia.NewConstant(float32(batch))))
	total := a.loss
	if l2 != 0 {
		squares := gorgonia.Must(gorgonia.Sum(gorgonia.Must(gorgonia.Square(a.w))))
		total = gorgonia.Must(gorgonia.Add(total, gorgonia.Must(gorgonia.Mul(squares, gorgonia.NewConstant(l2/2)))))
	}
	grads, err := gorgonia.Grad(total, a.w)
	if err != nil {
		t.Fatal(err)
	}
	a.grad = grads[0]
	a.vm = gorgonia.NewTapeMachine(g)
	t.Cleanup(func() { a.vm.Close() })
	return a
}

// at returns loss and gradient at weights w, D x K.
func (a *autodiff) at(t *testing.T, w []float32) (loss float64, grad *tensor.Dense) {
	t.Helper()
	a.vm.Reset()
	if err := gorgonia.Let(a.w, dense(w, a.w.Shape()...)); err != nil {
		t.Fatal(err)
	}
	if err := a.vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	v := a.grad.Value().(*tensor.Dense)
	return float64(a.loss.Value().Data().(float32)), dense(v.Data().([]float32), v.Shape()...)
}

// dense is a tensor over a copy of data.
func dense(data []float32, shape ...int) *tensor.Dense {
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(append([]float32(nil), data...)))
}

// parameter hands a solver weights and a gradient that was taken elsewhere.
type parameter struct{ value, grad *tensor.Dense }

func (p parameter) Value() gorgonia.Value         { return p.value }
func (p parameter) Grad() (gorgonia.Value, error) { return p.grad, nil }

// transposed returns the rows x cols matrix m as cols x rows.
func transposed(m []float32, rows, cols int) []float32 {
	out := make([]float32, len(m))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = m[i*cols+j]
		}
	}
	return out
}

// headCase is a small training problem.
type headCase struct {
	batch, d, k int
	x, onehot   []float32
	labels      []int
}

func newHeadCase() (headCase, *rand.Rand) {
	c := headCase{batch: 6, d: 11, k: 4, labels: []int{0, 3, 1, 1, 2, 0}}
	r := rand.New(rand.NewPCG(5, 5))
	c.x, c.onehot = normals(r, c.batch*c.d), make([]float32, c.batch*c.k)
	for i, l := range c.labels {
		c.onehot[i*c.k+l] = 1
	}
	return c, r
}

func normals(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// scaled returns the features times s.
func (c headCase) scaled(s float32) []float32 {
	v := append([]float32(nil), c.x...)
	for i := range v {
		v[i] *= s
	}
	return v
}

// stepper runs the training step of a graph.
type stepper struct {
	session engine.Session
	names   headNames
	inputs  stepInputs
	image   string
	c       headCase
	recipe  Recipe
}

func newStepper(t *testing.T, e engine.Engine, c headCase, recipe Recipe, scale float32) *stepper {
	b := newGraph()
	s := &stepper{c: c, recipe: recipe, image: b.input("x", 1, -1, int64(c.d)), inputs: b.newStepInputs(c.k)}
	s.names = b.step(s.image, s.inputs, c.k, c.d, "0", scale, recipe)
	data, err := b.serialize()
	if err != nil {
		t.Fatal(err)
	}
	if s.session, err = e.Load(t.Context(), engine.Model{Name: "step", Bytes: data}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.session.Close() })
	return s
}

// step takes weights and point, K x D, to those after it.
func (s *stepper) step(t *testing.T, w, z []float32, rate float64) (newW, newZ []float32, loss float64) {
	t.Helper()
	k, d := int64(s.c.k), int64(s.c.d)
	in := map[string]*engine.Tensor{s.image: engine.NewFloat32(s.c.x, int64(s.c.batch), d),
		s.names.weight: engine.NewFloat32(w, k, d), s.names.point: engine.NewFloat32(z, k, d)}
	(&stepTensors{k: s.c.k}).feed(s.inputs, s.c.labels, rate, s.recipe, in)
	out := map[string]*engine.Tensor{s.names.newWeight: nil, s.names.newPoint: nil, s.names.loss: nil}
	if err := s.session.Run(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	return out[s.names.newWeight].Float32(), out[s.names.newPoint].Float32(), float64(out[s.names.loss].Float32()[0])
}

// closeTo fails when two matrices differ by more than rounding.
func closeTo(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Abs(float64(got[i])-float64(want[i])) > 1e-5*(1+math.Abs(float64(want[i]))) {
			t.Fatalf("%s: element %d is %v, Gorgonia says %v", what, i, got[i], want[i])
		}
	}
}

// TestStepAgainstAutodiff takes one training step in an engine and one with the
// gradient that Gorgonia derives by itself from the loss.
func TestStepAgainstAutodiff(t *testing.T) {
	bothEngines(t, func(t *testing.T, e engine.Engine) {
		c, r := newHeadCase()
		recipe := DefaultRecipe()
		recipe.L2 = 0.02
		const rate, scale = 0.3, 0.5
		w, v := normals(r, c.k*c.d), normals(r, c.k*c.d)
		mu := recipe.Momentum
		z := make([]float32, len(w))
		for i := range z {
			z[i] = float32((1 + mu) * (float64(w[i]) + rate*mu*float64(v[i])))
		}
		newW, newZ, loss := newStepper(t, e, c, recipe, scale).step(t, w, z, rate)

		wantLoss, grad := newAutodiff(t, c.scaled(scale), c.onehot, c.batch, c.d, c.k, 0).at(t, transposed(w, c.k, c.d))
		if math.Abs(loss-wantLoss) > 1e-5 {
			t.Errorf("loss %v, Gorgonia says %v", loss, wantLoss)
		}
		g := transposed(grad.Data().([]float32), c.d, c.k)
		wantW, wantZ := make([]float32, len(w)), make([]float32, len(w))
		for i := range w {
			gr := float64(g[i]) + recipe.L2*float64(w[i])
			newV := mu*float64(v[i]) + gr
			to := float64(w[i]) - rate*(gr+mu*newV)
			wantW[i], wantZ[i] = float32(to), float32((1+mu)*(to+rate*mu*newV))
		}
		closeTo(t, "point", newZ, wantZ)
		closeTo(t, "weights", newW, wantW)
	})
}

// TestStepsAgainstSolver takes several training steps in an engine and as many with
// Gorgonia's own gradients and solvers.
//
// Its momentum is the classical one, u' = mu u - rate g, q' = q + u'. Nesterov's
// momentum is the same with g taken at q + mu u, which is what the head calls its
// weights, while its point is (1+mu) q (Sutskever et al., ICML 2013, equations 3
// and 4). The penalty is a term of the loss there, because Gorgonia's momentum
// solver applies its own to the velocity in place of the weights; without
// momentum, the plain solver's penalty is the head's.
func TestStepsAgainstSolver(t *testing.T) {
	const rate, scale, l2, steps = 0.3, 0.5, 0.02, 12
	bothEngines(t, func(t *testing.T, e engine.Engine) {
		for name, mu := range map[string]float64{"momentum": 0.9, "plain": 0} {
			t.Run(name, func(t *testing.T) {
				c, r := newHeadCase()
				recipe := DefaultRecipe()
				recipe.L2, recipe.Momentum = l2, mu
				w := normals(r, c.k*c.d)
				z := make([]float32, len(w))
				for i := range w {
					z[i] = float32(1+mu) * w[i]
				}
				head := newStepper(t, e, c, recipe, scale)

				var solver gorgonia.Solver = gorgonia.NewMomentum(gorgonia.WithLearnRate(rate), gorgonia.WithMomentum(mu))
				penalty := float32(l2)
				if mu == 0 {
					solver, penalty = gorgonia.NewVanillaSolver(gorgonia.WithLearnRate(rate), gorgonia.WithL2Reg(l2)), 0
				}
				auto := newAutodiff(t, c.scaled(scale), c.onehot, c.batch, c.d, c.k, penalty)
				q := dense(transposed(w, c.k, c.d), c.d, c.k)
				at := append([]float32(nil), q.Data().([]float32)...) // where gradients are taken
				first, last := 0.0, 0.0
				for step := range steps {
					loss, grad := auto.at(t, at)
					before := append([]float32(nil), q.Data().([]float32)...)
					if err := solver.Step([]gorgonia.ValueGrad{parameter{q, grad}}); err != nil {
						t.Fatal(err)
					}
					for i, x := range q.Data().([]float32) {
						at[i] = x + float32(mu)*(x-before[i])
					}
					var got float64
					w, z, got = head.step(t, w, z, rate)
					if math.Abs(got-loss) > 1e-5 {
						t.Fatalf("step %d: loss %v, Gorgonia says %v", step, got, loss)
					}
					closeTo(t, "weights", w, transposed(at, c.d, c.k))
					point := transposed(q.Data().([]float32), c.d, c.k)
					for i := range point {
						point[i] *= float32(1 + mu)
					}
					closeTo(t, "point", z, point)
					if step == 0 {
						first = loss
					}
					last = loss
				}
				if last > 0.7*first {
					t.Errorf("the loss went from %v to %v", first, last)
				}
			})
		}
	})
}

// TestEnginesAgree measures fixtures on ONNX Runtime and on the pure-Go engine:
// taps, heads that each engine trains itself, label means, evaluation. Model and
// heads must be as often right, and clusters may differ only where rounding
// decides, in fields within a thousandth of the threshold; it logs how many do.
func TestEnginesAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("measures two models twice")
	}
	theirs := runtime(t)
	for name, layers := range map[string][]string{
		"vgg16-glyphs20.onnx": nil,
		// The stem, a depthwise convolution, one behind squeeze and excitation, the last.
		"efficientnet-b0-glyphs20.onnx": {
			"/features/features.0/features.0.0/Conv", "/features/features.3/features.3.0/block/block.1/block.1.0/Conv",
			"/features/features.5/features.5.1/block/block.3/block.3.0/Conv", "/features/features.8/features.8.0/Conv",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := openModel(t, filepath.Join("..", "..", "fixtures", name))
			set := openSet(t, filepath.Join("..", "..", "fixtures", "glyphs20"))
			measure := func(eng engine.Engine) (*Result, []Fields) {
				var fields []Fields
				opt := Options{Theta: afcc.DefaultTheta, Recipe: DefaultRecipe(), Layers: layers,
					Each: func(_ *Layer, f Fields) error {
						f.W, f.Means = slices.Clone(f.W), slices.Clone(f.Means)
						fields = append(fields, f)
						return nil
					}}
				opt.Recipe.Epochs = 3
				opt.Split.Seed, opt.Split.PerLabel = 1, 60
				opt.Preprocess.Mean, opt.Preprocess.Std = []float32{0.5}, []float32{0.5}
				res, err := Measure(t.Context(), eng, m, set, opt)
				if err != nil {
					t.Fatal(err)
				}
				return res, fields
			}
			a, fieldsA := measure(theirs)
			b, fieldsB := measure(pure.Open(pure.Options{}))
			if len(a.Layers) == 0 || len(layers) > 0 && len(a.Layers) != len(layers) || len(a.Layers) != len(b.Layers) || len(fieldsA) != len(a.Layers) || len(fieldsB) != len(b.Layers) {
				t.Fatalf("%d and %d layers, %d and %d with fields", len(a.Layers), len(b.Layers), len(fieldsA), len(fieldsB))
			}
			if a.Accuracy != b.Accuracy {
				t.Errorf("accuracy %v and %v", a.Accuracy, b.Accuracy)
			}
			apart := 0.0
			for i, l := range a.Layers {
				apart = max(apart, meansAgree(t, l.Name(), fieldsA[i].Means, fieldsB[i].Means))
				if l.Accuracy != b.Layers[i].Accuracy {
					t.Errorf("layer %s: the head's accuracy is %v and %v", l.Name(), l.Accuracy, b.Layers[i].Accuracy)
				}
			}
			t.Logf("label means differ by at most %.2g of their layer's largest", apart)
			d, err := Compare(a, b)
			if err != nil {
				t.Fatal(err)
			}
			logDifferences(t, "heads of its own", d)
			if len(d.Unpaired) > 0 {
				t.Errorf("unpaired: %v", d.Unpaired)
			}
			for i, l := range d.Layers {
				for _, differ := range l.Differ {
					onlyRounding(t, l.Layer, differ, fieldsA[i].Matrix(nil, differ.Filter), fieldsB[i].Matrix(nil, differ.Filter), float32(a.Theta))
				}
			}
		})
	}
}
