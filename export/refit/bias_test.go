package refit

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// TestBias: behind the layer, or behind the BatchNormalization that follows it, the
// output has the mean, and there the variance too, that it has in the original.
func TestBias(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	behind := map[string]string{"convolution": "layer", "groups": "layer", "depthwise": "layer", "BatchNormalization behind": "norm", "Gemm": "layer", "MatMul and Add": "add"}
	for name, tensor := range behind {
		t.Run(name, func(t *testing.T) {
			m := shaped(t, name, onnxfile.Float).model(t)
			s := findSite(t, m, m, "layer")
			masked := rewritten(t, m, map[string][]float32{"w": halved(s)})
			if name == "depthwise" { // a mask that leaves something of each filter
				w := slices.Clone(s.w)
				for i := range w {
					if i%2 == 0 {
						w[i] = 0
					}
				}
				masked = rewritten(t, m, map[string][]float32{"w": w})
			}
			opt := Options{Index: indexes(set, 100)}
			w, errs, err := Bias(t.Context(), eng, m, masked, nil, set, opt)
			if err != nil {
				t.Fatal(err)
			}
			if len(errs) != 1 || errs[0].Layer != "layer" || errs[0].Skipped != "" || errs[0].Kept {
				t.Fatalf("%+v", errs)
			}
			if w["w"] != nil {
				t.Error("weights changed")
			}
			fixed := rewritten(t, masked, w)
			run, err := newRunner(eng, m, fixed, set, opt)
			if err != nil {
				t.Fatal(err)
			}
			mean, variance := channelMoments(t, run, run.original, tensor, s)
			meanNow, varianceNow := channelMoments(t, run, run.masked, tensor, s)
			for k := range mean {
				if math.Abs(mean[k]-meanNow[k]) > 1e-4*(1+math.Abs(mean[k])) {
					t.Errorf("filter %d has mean %v, not %v", k, meanNow[k], mean[k])
				}
				if name == "BatchNormalization behind" && math.Abs(variance[k]-varianceNow[k]) > 1e-3*(1+variance[k]) {
					t.Errorf("filter %d has variance %v, not %v", k, varianceNow[k], variance[k])
				}
			}
		})
	}
}

func channelMoments(t *testing.T, r *runner, n *network, tensor string, s *site) (mean, variance []float64) {
	t.Helper()
	st, err := n.load(t.Context(), []string{tensor}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.close()
	f := s.filters()
	mean, variance = make([]float64, f), make([]float64, f)
	rows := 0.0
	r.decoded = false
	err = r.each(t.Context(), "", 0, len(r.batches), true, func(i int, held bool, image func() (*engine.Tensor, error)) error {
		if held {
			return nil
		}
		made, err := st.run(t.Context(), i, image, nil)
		if err != nil {
			return err
		}
		s.addMoments(made[tensor], make([]float64, f), mean, variance)
		rows += float64(len(made[tensor].Float32())) / float64(f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for k := range f {
		mean[k] /= rows
		variance[k] = variance[k]/rows - mean[k]*mean[k]
	}
	return mean, variance
}

// TestSkipped: layers that cannot be refitted are left alone, with the reason.
func TestSkipped(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	base := func(n *net) *net { return n.twins(8) }
	for reason, build := range map[string]func(n *net) *net{
		"more than one node": func(n *net) *net {
			n.node("layer", "Conv", []string{n.t, n.weights("w", 8, 8, 1, 1)})
			return n.node("again", "Conv", []string{n.t, "w"}).head(8)
		},
		"its bias \"b\" is read by more than one node": func(n *net) *net {
			n.node("layer", "Conv", []string{n.t, n.weights("w", 8, 8, 1, 1), n.weights("b", 8)})
			return n.node("again", "Conv", []string{n.t, n.weights("v", 8, 8, 1, 1), "b"}).head(8)
		},
		"passes through Transpose": func(n *net) *net {
			n.node("rows", "GlobalAveragePool", []string{n.t})
			n.node("flat0", "Flatten", []string{n.t})
			x := n.t
			n.node("w.turned", "Transpose", []string{n.weights("w", 6, 8)})
			n.node("layer", "MatMul", []string{x, "w.turned"})
			n.node("back", "Unsqueeze", []string{n.t, "axes"})
			return n.head(6)
		},
		"ConvTranspose is not one of": func(n *net) *net {
			return n.node("layer", "ConvTranspose", []string{n.t, n.weights("w", 8, 6, 1, 1)}).head(6)
		},
	} {
		t.Run(reason, func(t *testing.T) {
			n := newNet(onnxfile.Float)
			n.g.Initializer = append(n.g.Initializer, intsTensor("axes", 2, 3))
			m := build(base(n)).model(t)
			v := values(t, m, "w")
			v[0] = 0
			masked := rewritten(t, m, map[string][]float32{"w": v})
			for _, layers := range [][]string{nil, {"layer"}} {
				w, errs, err := Ridge(t.Context(), eng, m, masked, layers, set, Options{Index: indexes(set, 40)})
				if err != nil {
					t.Fatal(err)
				}
				if len(errs) == 0 || !strings.Contains(errs[0].Skipped, reason) || len(w) > 0 {
					t.Errorf("%+v", errs)
				}
			}
		})
	}
}

// TestNothingToDo: models that do not differ need no refit, and none is made up.
func TestNothingToDo(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	m := open(t, fixtures+"vgg16-glyphs20.onnx")
	for name, fit := range map[string]func() (map[string][]float32, []LayerError, error){
		"bias": func() (map[string][]float32, []LayerError, error) {
			return Bias(t.Context(), eng, m, m, nil, set, Options{Index: []int{1, 2}})
		},
		"ridge": func() (map[string][]float32, []LayerError, error) {
			return Ridge(t.Context(), eng, m, m, nil, set, Options{Index: []int{1, 2}})
		},
	} {
		w, errs, err := fit()
		if err != nil || len(w)+len(errs) > 0 {
			t.Errorf("%s: %v %v %v", name, len(w), errs, err)
		}
	}
}
