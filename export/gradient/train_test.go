package gradient

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

const fixtures = "../../fixtures/"

func glyphs(t testing.TB) (set *dataset.Set, train, test []int) {
	t.Helper()
	set, err := dataset.Open(fixtures+"glyphs20", dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	for i := range set.Len() {
		if set.Part(i) == dataset.PartTest {
			test = append(test, i)
		} else {
			train = append(train, i)
		}
	}
	return set, train, test
}

func signed(t testing.TB) dataset.Preprocess {
	t.Helper()
	p, err := dataset.Preset("signed")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// damaged is m with a share of the weights of each layer in its second half zero,
// drawn at random. (In all layers it would leave nothing of the signal at the output.)
func damaged(t testing.TB, m *inspect.Model, share float64) *inspect.Model {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	weights := map[string][]float32{}
	for i := range m.Layers {
		l := &m.Layers[i]
		if l.Op != "Conv" && l.Op != "Gemm" || i < len(m.Layers)/2 {
			continue
		}
		s, ok := m.LayerWeight(l)
		if !ok {
			t.Fatal(l.Name)
		}
		v, err := s.Tensor.Float32s(1 << 30)
		if err != nil {
			t.Fatal(err)
		}
		for j := range v {
			if r.Float64() < share {
				v[j] = 0
			}
		}
		weights[s.Name] = v
	}
	return with(t, m, weights)
}

// with is m with other weights.
func with(t testing.TB, m *inspect.Model, weights map[string][]float32) *inspect.Model {
	t.Helper()
	d := m.Handle.Draft()
	for name, v := range weights {
		w := d.Initializer(name)
		if w == nil {
			t.Fatalf("no initializer %q", name)
		}
		d.SetFloat32(w, v, w.Dims...)
	}
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return read(t, b)
}

// accuracy runs the model as it is in the file.
func accuracy(t testing.TB, eng engine.Engine, m *inspect.Model, set *dataset.Set, index []int) float64 {
	t.Helper()
	b, err := m.Handle.Draft().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	s := load(t, eng, engine.Model{Name: "evaluated", Bytes: b})
	dims := []int64{-1}
	for _, d := range m.Inputs[0].Shape.Dims[1:] {
		dims = append(dims, d.Value)
	}
	tr, err := signed(t).Transform(dims)
	if err != nil {
		t.Fatal(err)
	}
	hits := 0
	for batch, err := range set.Batches(context.Background(), dataset.Sequential(index, 100), tr, 1) {
		if err != nil {
			t.Fatal(err)
		}
		dims[0] = int64(len(batch.Index))
		out := map[string]*engine.Tensor{m.Outputs[0].Name: nil}
		if err := s.Run(context.Background(), map[string]*engine.Tensor{m.Inputs[0].Name: engine.NewFloat32(batch.X, dims...)}, out); err != nil {
			t.Fatal(err)
		}
		hits += correct(out[m.Outputs[0].Name].Float32(), batch.Labels, len(set.Labels()))
	}
	return float64(hits) / float64(len(index))
}

// TestFixtureGradients checks whole models, trained ones.
func TestFixtureGradients(t *testing.T) {
	eng := runtime(t, 2)
	for _, name := range []string{"vgg16-glyphs20", "efficientnet-b0-glyphs20", "efficientnet-b0-bn-glyphs20"} {
		t.Run(name, func(t *testing.T) {
			m := open(t, fixtures+name+".onnx")
			tr := newTrial(t, eng, m, BuildOptions{Batch: 2, Norms: true, Distill: 0.4, Temperature: 3})
			if want := 2*14 + 0; name == "vgg16-glyphs20" && len(tr.g.Params) != want {
				t.Errorf("%d parameters, want %d", len(tr.g.Params), want)
			}
			set, _, test := glyphs(t)
			tf, err := signed(t).Transform(append([]int64{-1}, tr.g.Dims...))
			if err != nil {
				t.Fatal(err)
			}
			for b, err := range set.Batches(context.Background(), [][]int{{test[3], test[444]}}, tf, 1) {
				if err != nil {
					t.Fatal(err)
				}
				copy(tr.x, b.X)
			}
			tr.checkTrained()
		})
	}
}

// checkTrained compares the gradient with differences along itself, tensor by tensor:
// a step of a thousandth of the weights' norm.
func (tr *trial) checkTrained() {
	tr.t.Helper()
	loss, grads := tr.gradients()
	if want := tr.loss(); loss-want > 1e-4*(1+want) || want-loss > 1e-4*(1+want) {
		tr.t.Errorf("loss %v, of the model itself %v", loss, want)
	}
	wrong, seen := 0, 0
	for i, p := range tr.g.Params {
		if i%(1+len(tr.g.Params)/40) != 0 {
			continue // some are enough
		}
		seen++
		w, grad := tr.weights[p.Name], grads[p.Name]
		gg, ww := 0.0, 0.0
		for i, v := range grad {
			gg += float64(v) * float64(v)
			ww += float64(w[i]) * float64(w[i])
		}
		if gg == 0 {
			tr.t.Errorf("%s: no gradient", p.Name)
			continue
		}
		// As far as the loss changes by about 1e-3 of itself.
		h := 2e-3 * loss / gg
		if limit := 1e-2 * math.Sqrt(ww/gg); limit > 0 {
			h = min(h, limit)
		}
		saved := slices.Clone(w)
		var l [2]float64
		exact := 0.0
		for s, sign := range []float64{1, -1} {
			for i, v := range saved {
				w[i] = float32(float64(v) + sign*h*float64(grad[i]))
				exact += sign * float64(grad[i]) * (float64(w[i]) - float64(v))
			}
			l[s] = tr.loss()
		}
		copy(w, saved)
		found := l[0] - l[1]
		if found < 0.95*exact-1e-6*loss || found > 1.05*exact+1e-6*loss {
			wrong++
			tr.t.Logf("%s: the loss changes by %v, the gradient says %v", p.Name, found, exact)
		}
	}
	// Some tensors meet a kink of Relu or MaxPool on the way.
	if wrong > seen/10 {
		tr.t.Errorf("%d of %d gradients differ", wrong, seen)
	}
}

func options(t testing.TB) Options {
	o := Defaults()
	o.Preprocess = signed(t)
	o.Batch, o.Epochs, o.Shift, o.Flip = 50, 4, 2, false
	o.Workers = 1
	return o
}

// TestTrain damages trained models and has them recover, with their zeros in place.
func TestTrain(t *testing.T) {
	eng := runtime(t, 2)
	set, train, test := glyphs(t)
	for _, tc := range []struct {
		name        string
		share, rate float64
		epochs      int
		gain        float64
	}{{"vgg16-glyphs20", 0.6, 0.03, 2, 0.4}, {"efficientnet-b0-bn-glyphs20", 0.3, 0.02, 1, 0.4}} {
		t.Run(tc.name, func(t *testing.T) {
			whole := open(t, fixtures+tc.name+".onnx")
			m := damaged(t, whole, tc.share)
			opt := options(t)
			opt.LearningRate, opt.Epochs, opt.Batch = tc.rate, tc.epochs, 20
			opt.Norms = true
			stages := map[string]int{}
			opt.Progress = func(stage string, done, total int) {
				if done < 0 || done > total {
					t.Errorf("%s: %d of %d", stage, done, total)
				}
				stages[strings.Fields(stage)[0]]++
			}
			weights, h, err := Train(context.Background(), eng, whole, m, set, train, opt)
			if err != nil {
				t.Fatal(err)
			}
			trained := with(t, m, weights)
			before, after := accuracy(t, eng, m, set, test), accuracy(t, eng, trained, set, test)
			t.Logf("before %.4f, after %.4f; of the whole model %.4f", before, after, accuracy(t, eng, whole, set, test))
			for _, e := range h.Epochs {
				t.Logf("%d: loss %s, training %s, held out %.4f, %.1f s", e.Epoch, text(e.Loss), text(e.TrainAccuracy), *e.Accuracy, e.Seconds)
			}
			if after < before+tc.gain {
				t.Errorf("accuracy %.4f after %.4f", after, before)
			}
			if h.Best == 0 || h.HeldOutSamples != 120 || h.TrainSamples != 1080 || h.Batch != 20 {
				t.Errorf("history %+v", h)
			}
			if stages["train"] < tc.epochs*54 || stages["evaluate"] == 0 {
				t.Errorf("progress was told %v", stages)
			}
			zeros, moved := int64(0), 0
			for name, v := range weights {
				p, ok := m.Graph.Initializer(name)
				if !ok {
					t.Fatal(name)
				}
				old, err := p.Float32s(1 << 30)
				if err != nil {
					t.Fatal(err)
				}
				for i, x := range old {
					if x == 0 && (strings.HasSuffix(name, "weight") || len(p.Dims()) > 1) {
						zeros++
						if v[i] != 0 {
							t.Fatalf("%s: zero %d became %v", name, i, v[i])
						}
					}
					if x != v[i] {
						moved++
					}
				}
			}
			if zeros < 50000 || h.Zeros != zeros || moved == 0 {
				t.Errorf("%d zeros, the history says %d; %d weights moved", zeros, h.Zeros, moved)
			}
		})
	}
}

func text(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.4f", *v)
}

// TestTrainAgain: the same seed gives the same weights, another one others.
func TestTrainAgain(t *testing.T) {
	eng := runtime(t, 1)
	set, train, _ := glyphs(t)
	m := damaged(t, open(t, fixtures+"vgg16-glyphs20.onnx"), 0.6)
	opt := options(t)
	opt.Epochs, opt.HoldOut = 1, 0
	run := func(seed uint64) map[string][]float32 {
		opt.Seed = seed
		w, h, err := Train(context.Background(), eng, nil, m, set, train[:200], opt)
		if err != nil {
			t.Fatal(err)
		}
		if h.Best != 1 || h.HeldOutSamples != 0 || h.TrainSamples != 200 {
			t.Errorf("history %+v", h)
		}
		return w
	}
	a, b, c := run(3), run(3), run(4)
	differ := false
	for name, v := range a {
		if !slices.Equal(v, b[name]) {
			t.Errorf("%s differs between two runs with the same seed", name)
		}
		differ = differ || !slices.Equal(v, c[name])
	}
	if !differ {
		t.Error("two seeds gave the same weights")
	}
}

// TestTrainCancelled stops within a batch and leaves nothing open.
func TestTrainCancelled(t *testing.T) {
	eng := runtime(t, 1)
	set, train, _ := glyphs(t)
	m := damaged(t, open(t, fixtures+"vgg16-glyphs20.onnx"), 0.6)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	opt := options(t)
	after := 0
	opt.Progress = func(stage string, done, total int) {
		if ctx.Err() != nil {
			after++
		}
		if strings.HasPrefix(stage, "train") && done >= 100 {
			cancel()
		}
	}
	w, h, err := Train(ctx, eng, m, m, set, train, opt)
	if !errors.Is(err, context.Canceled) || w != nil || h != nil {
		t.Errorf("weights %v, error %v", w != nil, err)
	}
	if after > 0 {
		t.Errorf("%d steps after the end", after)
	}
}
