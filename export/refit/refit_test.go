package refit

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/ort"
)

const fixtures = "../../fixtures/"

func open(t testing.TB, path string) *inspect.Model {
	t.Helper()
	m, err := inspect.Open(t.Context(), path, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func openSet(t testing.TB, path string) *dataset.Set {
	t.Helper()
	set, err := dataset.Open(path, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

func onnxRuntime(t testing.TB, threads int) engine.Engine {
	t.Helper()
	if !ort.Available {
		t.Skip("ONNX Runtime needs cgo")
	}
	eng, err := ort.Open(context.Background(), ort.Options{Provider: os.Getenv("FILTERLENS_TEST_EP"), Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

// rewritten returns m with new weights, from a file of its own.
func rewritten(t testing.TB, m *inspect.Model, weights map[string][]float32) *inspect.Model {
	t.Helper()
	d, err := Rewrite(m, weights)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

// How kernels are chosen that stay.
const (
	byMagnitude = "magnitude"
	byChance    = "chance"
)

// diluted returns m with whole kernels of the layers set to zero, of each layer so
// many that the share keep stays.
func diluted(t testing.TB, m *inspect.Model, layers []string, keep float64, how string) *inspect.Model {
	t.Helper()
	weights := map[string][]float32{}
	r := rand.New(rand.NewPCG(11, 7))
	for _, name := range layers {
		l := layer(t, m, name)
		st, ok := m.LayerWeight(l)
		if !ok {
			t.Fatalf("layer %s has no weight", name)
		}
		w, err := st.Tensor.Float32s(1 << 28)
		if err != nil {
			t.Fatal(err)
		}
		size := 1
		for _, k := range l.Kernel {
			size *= int(k)
		}
		kernels := len(w) / size
		score := make([]float64, kernels)
		order := make([]int, kernels)
		for i := range score {
			order[i] = i
			score[i] = r.Float64()
			if how == byMagnitude {
				score[i] = 0
				for _, x := range w[i*size : (i+1)*size] {
					score[i] += float64(x * x)
				}
			}
		}
		slices.SortFunc(order, func(a, b int) int {
			if score[a] > score[b] {
				return -1
			}
			return 1
		})
		for _, i := range order[int(keep*float64(kernels)):] {
			clear(w[i*size : (i+1)*size])
		}
		weights[st.Name] = w
	}
	return rewritten(t, m, weights)
}

func layer(t testing.TB, m *inspect.Model, name string) *inspect.Layer {
	t.Helper()
	name = m.LayerName(name)
	for i := range m.Layers {
		if m.Layers[i].Name == name {
			return &m.Layers[i]
		}
	}
	t.Fatalf("no layer %q", name)
	return nil
}

func accuracy(t testing.TB, eng engine.Engine, set *dataset.Set, index []int, pre dataset.Preprocess, models ...*inspect.Model) []float64 {
	t.Helper()
	ev, err := probe.Evaluate(t.Context(), eng, models, set, index, probe.Options{Preprocess: pre})
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float64, len(ev))
	for i := range ev {
		out[i] = ev[i].Top1
	}
	return out
}

// sameMask fails unless weights that are zero in the masked model are zero.
func sameMask(t testing.TB, masked *inspect.Model, weights map[string][]float32) {
	t.Helper()
	for i := range masked.Layers {
		st, ok := masked.LayerWeight(&masked.Layers[i])
		if !ok || weights[st.Name] == nil || len(st.Tensor.Dims()) < 2 {
			continue
		}
		was, err := st.Tensor.Float32s(1 << 28)
		if err != nil {
			t.Fatal(err)
		}
		for j, x := range weights[st.Name] {
			if was[j] == 0 && x != 0 || math.IsNaN(float64(x)) {
				t.Fatalf("%s: element %d was %v and is %v", st.Name, j, was[j], x)
			}
		}
	}
}

func convolutions(m *inspect.Model, from, to int) (names []string) {
	n := 0
	for i := range m.Layers {
		if m.Layers[i].Op == "Conv" {
			if n++; n >= from && n <= to {
				names = append(names, m.Layers[i].Name)
			}
		}
	}
	return names
}

// TestFixtures: diluted networks answer better once they are refitted, on samples
// that were not used for it.
func TestFixtures(t *testing.T) {
	eng := onnxRuntime(t, 1)
	set := openSet(t, fixtures+"glyphs20")
	fit, _, eval, err := set.Split(dataset.SplitOptions{Limit: 1200})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file     string
		from, to int
		keep     float64
		how      string
		// gain is what bias and ridge are worth at least, lost what ridge leaves lost
		// at most.
		bias, ridge, lost float64
	}{
		{"vgg16-glyphs20.onnx", 8, 13, 0.3, byChance, -0.03, 0.5, 0.1},
		{"vgg16-glyphs20.onnx", 5, 13, 0.3, byMagnitude, 0, 0.4, 0.15},
		{"efficientnet-b0-glyphs20.onnx", 50, 81, 0.5, byMagnitude, 0, 0.2, 0.1},
		{"efficientnet-b0-bn-glyphs20.onnx", 50, 81, 0.5, byMagnitude, 0.1, 0.2, 0.1},
	} {
		t.Run(c.file+" "+c.how, func(t *testing.T) {
			m := open(t, fixtures+c.file)
			masked := diluted(t, m, convolutions(m, c.from, c.to), c.keep, c.how)
			opt := Options{Index: fit.Index}
			biased, _, err := Bias(t.Context(), eng, m, masked, nil, set, opt)
			if err != nil {
				t.Fatal(err)
			}
			ridged, errs, err := Ridge(t.Context(), eng, m, masked, nil, set, opt)
			if err != nil {
				t.Fatal(err)
			}
			sameMask(t, masked, ridged)
			if len(errs) != len(convolutions(m, c.from, c.to)) {
				t.Errorf("%d layers refitted", len(errs))
			}
			for _, e := range errs {
				if e.Skipped != "" || e.After > e.Before || e.After > 1 || e.Samples == 0 || e.Observations == 0 || e.Weights == 0 {
					t.Errorf("%+v", e)
				}
			}
			a := accuracy(t, eng, set, eval.Index, opt.Preprocess, m, masked, rewritten(t, masked, biased), rewritten(t, masked, ridged))
			t.Logf("original, masked, bias, ridge: %.4f", a)
			if a[2] < a[1]+c.bias || a[3] < a[1]+c.ridge || a[3] < a[0]-c.lost {
				t.Errorf("original, masked, bias, ridge: %.4f", a)
			}
		})
	}
}
