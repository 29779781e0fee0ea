package refit

import (
	"math"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// pools average a map of 8 x 8.
var pools = map[string]func(n *net){
	"GlobalAveragePool": func(n *net) { n.node("pool", "GlobalAveragePool", []string{n.t}) },
	"ReduceMean": func(n *net) {
		n.node("pool", "ReduceMean", []string{n.t}, attrInts("axes", -1, 2), attrInt("keepdims", 0))
	},
	"AveragePool": func(n *net) { n.node("pool", "AveragePool", []string{n.t}, attrInts("kernel_shape", 8, 8)) },
}

const pooledChannels = 40

// pooledNet ends in a convolution of 1 x 1 whose outputs are averaged.
func pooledNet(relu bool, pool string) *net {
	n := newNet(onnxfile.Float).twins(pooledChannels)
	n.node("classifier", "Conv", []string{n.t, n.weights("w.classifier", classes, pooledChannels, 1, 1), n.weights("b.classifier", classes)})
	if relu {
		n.node("relu", "Relu", []string{n.t})
	}
	pools[pool](n)
	n.node("flat", "Flatten", []string{n.t})
	return n
}

// TestPooledHead: a convolution whose outputs are averaged is trained as what it is.
// What the fit says of the samples held out is what the model itself answers.
func TestPooledHead(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	index := indexes(set, 400)
	for pool := range pools {
		for _, relu := range []bool{false, true} {
			m := pooledNet(relu, pool).model(t)
			masked := diluted(t, m, []string{"classifier"}, 0.7, byChance)
			if s, p, err := classifierSite(m, DefaultMemory); err != nil || s.name != "classifier" || p != map[bool]pooling{false: averaged, true: activated}[relu] {
				t.Errorf("%s, Relu %v: %v, %v", pool, relu, p, err)
			}
			if pool != "GlobalAveragePool" {
				continue
			}
			for _, head := range []HeadOptions{{Iterations: 25}, {Original: m, Soft: 0.2, Iterations: 25}} {
				opt := Options{Index: index, HoldOut: 0.25}
				w, h, err := Head(t.Context(), eng, masked, set, opt, head)
				if err != nil {
					t.Fatalf("%s, Relu %v: %v", pool, relu, err)
				}
				sameMask(t, masked, w)
				r, err := newRunner(eng, nil, masked, set, opt)
				if err != nil {
					t.Fatal(err)
				}
				held := slices.Concat(r.batches[r.held:]...)
				a := accuracy(t, eng, set, held, dataset.Preprocess{}, masked, rewritten(t, masked, w))
				// The largest output of a sample may be so twice, to rounding.
				if math.Abs(a[0]-h.AccuracyBefore) > 0.021 || math.Abs(a[1]-h.AccuracyAfter) > 0.021 || len(held) != h.HeldOut {
					t.Errorf("%s, Relu %v: accuracies %v of %d samples; %+v", pool, relu, a, len(held), *h)
				}
				if h.Kept || head.Original == nil && a[1] < a[0]+0.1 {
					t.Errorf("%s, Relu %v: accuracies %v", pool, relu, a)
				}
			}
		}
	}
}

// TestPooledGradient checks the gradient of the loss against differences.
func TestPooledGradient(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	for _, relu := range []bool{false, true} {
		m := pooledNet(relu, "GlobalAveragePool").model(t)
		s, pool, err := classifierSite(m, DefaultMemory)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]pooling{false: averaged, true: activated}[relu]; pool != want {
			t.Fatalf("Relu %v is taken for %v", relu, pool)
		}
		r, err := newRunner(eng, nil, m, set, Options{Index: indexes(set, 40)})
		if err != nil {
			t.Fatal(err)
		}
		h := &headTrainer{r: r, s: s, pool: pool, fit: &HeadFit{}}
		if err := h.features(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer h.close()
		v := make([]float64, pooledChannels*classes+classes)
		for i := range v {
			v[i] = math.Sin(float64(3*i)) / 2
		}
		for i := range pooledChannels * classes {
			h.free = append(h.free, i)
		}
		g, scratch := make([]float64, len(v)), make([]float64, len(v))
		if _, err := h.loss(t.Context(), v, g); err != nil {
			t.Fatal(err)
		}
		const step = 4e-3
		for i := 0; i < len(v); i += 7 {
			at := func(d float64) float64 {
				was := v[i]
				v[i] += d
				l, err := h.loss(t.Context(), v, scratch)
				if err != nil {
					t.Fatal(err)
				}
				v[i] = was
				return l
			}
			if d := (at(step) - at(-step)) / (2 * step); math.Abs(d-g[i]) > 3e-4+0.03*math.Abs(g[i]) {
				t.Errorf("Relu %v: derivative %d is %v, differences give %v", relu, i, g[i], d)
			}
		}
	}
}

// TestPooledConv: what only looks like an average over a classifier's outputs is not
// taken for one.
func TestPooledConv(t *testing.T) {
	conv := func(n *net, attrs ...*onnxpb.AttributeProto) *net {
		return n.node("classifier", "Conv", []string{n.t, n.weights("w", classes, 4, 1, 1)}, attrs...)
	}
	for name, draw := range map[string]func(n *net){
		"Relu behind the average": func(n *net) {
			conv(n).node("pool", "GlobalAveragePool", []string{n.t}).node("relu", "Relu", []string{"pool"})
		},
		"sigmoid": func(n *net) {
			conv(n).node("s", "Sigmoid", []string{n.t}).node("pool", "GlobalAveragePool", []string{"s"})
		},
		"largest": func(n *net) { conv(n).node("pool", "GlobalMaxPool", []string{n.t}) },
		"Softmax of positions": func(n *net) {
			conv(n).node("s", "Softmax", []string{n.t}, attrInt("axis", 1)).node("pool", "GlobalAveragePool", []string{"s"})
		},
		"part of the map": func(n *net) {
			conv(n).node("pool", "AveragePool", []string{n.t}, attrInts("kernel_shape", 7, 7), attrInts("strides", 8, 8))
		},
		"strides": func(n *net) { conv(n, attrInts("strides", 2, 2)).node("pool", "GlobalAveragePool", []string{n.t}) },
		"pads":    func(n *net) { conv(n, attrInts("pads", 1, 0, 0, 0)).node("pool", "GlobalAveragePool", []string{n.t}) },
	} {
		n := newNet(onnxfile.Float).twins(4)
		draw(n)
		n.node("flat", "Flatten", []string{n.t})
		m := n.model(t)
		if _, err := probe.NewSurvey(m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s, pool, err := classifierSite(m, DefaultMemory); err == nil {
			t.Errorf("%s: %s is taken for a classifier, %v", name, s.name, pool)
		}
	}
}
