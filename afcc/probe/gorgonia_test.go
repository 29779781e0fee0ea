package probe

import (
	"math"
	"math/rand/v2"
	"testing"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/filterlens/filterlens/inspect/engine"
)

// TestStepAgainstAutodiff takes one training step in the runtime and one with
// the gradient that Gorgonia derives by itself from the loss.
func TestStepAgainstAutodiff(t *testing.T) {
	const batch, d, k = 6, 11, 4
	r := rand.New(rand.NewPCG(5, 5))
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}
	x, w, v := random(batch*d), random(k*d), random(k*d)
	labels := []int{0, 3, 1, 1, 2, 0}
	onehot := make([]float32, batch*k)
	for i, l := range labels {
		onehot[i*k+l] = 1
	}
	recipe := DefaultRecipe()
	recipe.L2 = 0.02
	const rate, scale = 0.3, 0.5

	b := newGraph()
	in := b.input("x", 1, -1, d)
	si := b.newStepInputs(k)
	names := b.step(in, si, k, d, "0", scale, recipe)
	data, err := b.serialize()
	if err != nil {
		t.Fatal(err)
	}
	s, err := runtime(t).Load(t.Context(), engine.Model{Name: "step", Bytes: data})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mu := recipe.Momentum
	z := make([]float32, k*d)
	for i := range z {
		z[i] = float32((1 + mu) * (float64(w[i]) + rate*mu*float64(v[i])))
	}
	feeds := map[string]*engine.Tensor{in: engine.NewFloat32(x, batch, d),
		names.weight: engine.NewFloat32(w, k, d), names.point: engine.NewFloat32(z, k, d)}
	(&stepTensors{k: k}).feed(si, labels, rate, recipe, feeds)
	out := map[string]*engine.Tensor{names.newWeight: nil, names.newPoint: nil, names.loss: nil}
	if err := s.Run(t.Context(), feeds, out); err != nil {
		t.Fatal(err)
	}

	g := gorgonia.NewGraph()
	matrix := func(name string, data []float32, rows, cols int) *gorgonia.Node {
		v := append([]float32(nil), data...)
		return gorgonia.NewMatrix(g, gorgonia.Float32, gorgonia.WithName(name), gorgonia.WithShape(rows, cols),
			gorgonia.WithValue(tensor.New(tensor.WithShape(rows, cols), tensor.WithBacking(v))))
	}
	scaled := append([]float32(nil), x...)
	for i := range scaled {
		scaled[i] *= scale
	}
	// W is held transposed, D x K: Gorgonia's Mul has no transposed form.
	wt := make([]float32, d*k)
	for j := range k {
		for i := range d {
			wt[i*k+j] = w[j*d+i]
		}
	}
	gx, gy, gw := matrix("x", scaled, batch, d), matrix("y", onehot, batch, k), matrix("w", wt, d, k)
	p := gorgonia.Must(gorgonia.SoftMax(gorgonia.Must(gorgonia.Mul(gx, gw)), 1))
	picked := gorgonia.Must(gorgonia.Sum(gorgonia.Must(gorgonia.HadamardProd(gorgonia.Must(gorgonia.Log(p)), gy))))
	loss := gorgonia.Must(gorgonia.Div(gorgonia.Must(gorgonia.Neg(picked)), gorgonia.NewConstant(float32(batch))))
	grads, err := gorgonia.Grad(loss, gw)
	if err != nil {
		t.Fatal(err)
	}
	vm := gorgonia.NewTapeMachine(g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	if got, want := float64(out[names.loss].Float32()[0]), float64(loss.Value().Data().(float32)); math.Abs(got-want) > 1e-5 {
		t.Errorf("loss %v, Gorgonia says %v", got, want)
	}
	grad := grads[0].Value().Data().([]float32)
	for j := range k {
		for i := range d {
			e := j*d + i
			gr := float64(grad[i*k+j]) + recipe.L2*float64(w[e])
			wantV := mu*float64(v[e]) + gr
			wantW := float64(w[e]) - rate*(gr+mu*wantV)
			if got, want := float64(out[names.newPoint].Float32()[e]), (1+mu)*(wantW+rate*mu*wantV); math.Abs(got-want) > 1e-5 {
				t.Errorf("point %d,%d: %v, want %v", j, i, got, want)
			}
			if got := float64(out[names.newWeight].Float32()[e]); math.Abs(got-wantW) > 1e-5 {
				t.Errorf("weight %d,%d: %v, want %v", j, i, got, wantW)
			}
		}
	}
}
