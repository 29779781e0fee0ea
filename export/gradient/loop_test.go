package gradient

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// elsewhere says that an engine computes outside the processor's memory.
type elsewhere struct{ engine.Engine }

func (elsewhere) Provider() string { return "elsewhere" }

// glyphNet is a small untrained net for the glyphs, with a masked layer.
func glyphNet() *net {
	n := newNet(13, 0, 1, 32, 32).conv("first", [4]int64{6, 1, 3, 3}, attrInts("strides", 2, 2), attrInts("pads", 1, 1, 1, 1)).then("Relu")
	n.then("MaxPool", attrInts("kernel_shape", 2, 2), attrInts("strides", 2, 2))
	n.conv("second", [4]int64{8, 6, 3, 3}, attrInts("pads", 1, 1, 1, 1)).then("Relu")
	for _, w := range n.g.Initializer {
		if w.GetName() == "w.second" {
			for i := 0; i < len(w.RawData); i += 8 {
				copy(w.RawData[i:], []byte{0, 0, 0, 0})
			}
		}
	}
	n.then("MaxPool", attrInts("kernel_shape", 2, 2), attrInts("strides", 2, 2)).then("Flatten")
	n.node("classifier", "Gemm", []string{n.t, n.drawn("w.classifier", 0.1, 20, 128), n.drawn("b.classifier", 0.1, 20)}, attrInt("transB", 1))
	n.g.Output = append(n.g.Output, described(n.t, 0, 20))
	return n
}

// TestTrainOn: an engine that holds the state, and one in pure Go, train as well.
func TestTrainOn(t *testing.T) {
	set, train, _ := glyphs(t)
	ort := runtime(t, 1)
	m := damaged(t, open(t, fixtures+"vgg16-glyphs20.onnx"), 0.4)
	opt := options(t)
	opt.Epochs, opt.Batch, opt.Shift, opt.Clip = 1, 20, 0, 1
	results := map[string]map[string][]float32{}
	for name, eng := range map[string]engine.Engine{"in memory": ort, "held": elsewhere{ort}, "pure Go": pureGo(t)} {
		w, h, err := Train(context.Background(), eng, nil, m, set, train, opt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, e := range h.Epochs {
			t.Logf("%s %d: loss %s, held out %.3f", name, e.Epoch, text(e.Loss), *e.Accuracy)
		}
		first, last := h.Epochs[0], h.Epochs[h.Best]
		if h.Best == 0 || *last.Accuracy < *first.Accuracy+0.1 {
			t.Errorf("%s: accuracy %v after %v", name, *last.Accuracy, *first.Accuracy)
		}
		results[name] = w
	}
	for name, v := range results["in memory"] {
		if !slices.Equal(v, results["held"][name]) {
			t.Errorf("%s: other weights where they are held", name)
		}
		for i, x := range results["pure Go"][name] {
			// Sums in another order drift apart slowly.
			if math.Abs(float64(x-v[i])) > 0.02 {
				t.Errorf("%s: weight %d is %v in pure Go, %v in the runtime", name, i, x, v[i])
				break
			}
		}
	}
}

// TestNeverWorse: a learning rate that ruins the model leaves it as it was.
func TestNeverWorse(t *testing.T) {
	set, train, _ := glyphs(t)
	m := open(t, fixtures+"vgg16-glyphs20.onnx")
	opt := options(t)
	opt.Epochs, opt.LearningRate, opt.Clip, opt.Patience, opt.Constant = 3, 50, 0, 1, true
	w, h, err := Train(context.Background(), runtime(t, 2), nil, m, set, train[:300], opt)
	if err != nil {
		t.Fatal(err)
	}
	if h.Best != 0 || h.Stopped == "" || len(h.Epochs) > 3 {
		t.Errorf("best %d, stopped by %q after %d epochs", h.Best, h.Stopped, len(h.Epochs)-1)
	}
	for name, v := range w {
		p, _ := m.Graph.Initializer(name)
		if old, err := p.Float32s(1 << 30); err != nil || !slices.Equal(v, old) {
			t.Errorf("%s changed (%v)", name, err)
		}
	}
}

// TestMemory: the batch is halved until a step fits.
func TestMemory(t *testing.T) {
	set, train, _ := glyphs(t)
	m := glyphNet().model(t)
	opt := options(t)
	opt.Epochs, opt.HoldOut, opt.Batch = 0, 0, 64
	g, err := Build(m, BuildOptions{Batch: 16})
	if err != nil {
		t.Fatal(err)
	}
	opt.Memory = runtimeShare * g.Bytes
	w, h, err := Train(context.Background(), runtime(t, 1), nil, m, set, train, opt)
	if err != nil {
		t.Fatal(err)
	}
	if h.Batch > 16 || h.Batch < 8 || h.Best != 0 || len(h.Epochs) != 1 || len(w) != 6 {
		t.Errorf("history %+v, %d tensors", h, len(w))
	}
}

func TestOptions(t *testing.T) {
	set, train, _ := glyphs(t)
	m := glyphNet().model(t)
	eng := runtime(t, 1)
	for want, change := range map[string]func(o *Options){
		"epochs":         func(o *Options) { o.Epochs = -1 },
		"learning rate":  func(o *Options) { o.LearningRate = math.NaN() },
		"held-out share": func(o *Options) { o.HoldOut = 1 },
		"patience":       func(o *Options) { o.Patience = -1 },
		"shift":          func(o *Options) { o.Shift = -1 },
		"memory":         func(o *Options) { o.Memory = -1 },
		"batch":          func(o *Options) { o.Batch = 0 },
	} {
		opt := options(t)
		change(&opt)
		var e *OptionError
		if _, _, err := Train(context.Background(), eng, nil, m, set, train, opt); !errors.As(err, &e) || e.Option != want {
			t.Errorf("%s: error %v", want, err)
		}
	}
	var e *OptionError
	if _, _, err := Train(context.Background(), eng, nil, m, set, nil, options(t)); !errors.As(err, &e) || e.Option != "samples" {
		t.Errorf("no samples: error %v", err)
	}
	if _, _, err := Train(context.Background(), eng, small(0).model(t), m, set, train, options(t)); err == nil || !strings.Contains(err.Error(), "are not those of") {
		t.Errorf("another original: error %v", err)
	}
}

// TestAugment: shifts bring in black, or the border, and every image is one of the
// original's; a sample is treated alike in every batch.
func TestAugment(t *testing.T) {
	for _, layout := range []dataset.Layout{dataset.NCHW, dataset.NHWC} {
		tr := &dataset.Transform{Mean: []float32{0.5, 0.25, 0.5}, Std: []float32{0.5}, Channels: 3, Height: 5, Width: 4, Layout: layout}
		at := func(c, i, j int) int {
			if layout == dataset.NHWC {
				return (i*4+j)*3 + c
			}
			return (c*5+i)*4 + j
		}
		from := make([]float32, 60)
		for i := range from {
			from[i] = float32(i + 1)
		}
		for _, edge := range []bool{false, true} {
			s := &training{tr: tr, opt: Options{Shift: 2, Flip: true, Edge: edge, Seed: 9}}
			seen := map[[3]int]bool{}
			for sample := range 400 {
				x, again := make([]float32, 60), make([]float32, 60)
				s.augment(x, from, 1, sample)
				s.augment(again, from, 1, sample)
				if !slices.Equal(x, again) {
					t.Fatal("a sample is treated differently the second time")
				}
				found := false
				for dy := -2; dy <= 2 && !found; dy++ {
					for dx := -2; dx <= 2 && !found; dx++ {
						for flip := range 2 {
							same := true
							for p := range 60 {
								c, i, j := p/20, p/4%5, p%4
								si, sj := i+dy, j+dx
								if flip == 1 {
									sj = 3 - sj
								}
								v := float32(-1)
								if c == 1 {
									v = -0.5
								}
								if edge {
									si, sj = min(max(si, 0), 4), min(max(sj, 0), 3)
								}
								if si >= 0 && si < 5 && sj >= 0 && sj < 4 {
									v = from[at(c, si, sj)]
								}
								same = same && x[at(c, i, j)] == v
							}
							if same {
								found, seen[[3]int{dy, dx, flip}] = true, true
								break
							}
						}
					}
				}
				if !found {
					t.Fatalf("%s, sample %d is no shift of the image: %v", layout, sample, x)
				}
			}
			if len(seen) != 50 {
				t.Errorf("%s: %d of 50 ways to move an image occur", layout, len(seen))
			}
		}
	}
}

// TestHoldOut: disjoint, complete, by label, and drawn by the seed.
func TestHoldOut(t *testing.T) {
	set, train, _ := glyphs(t)
	fit, held := HoldOut(set, train, 0.1, 1)
	if len(held) != 120 || len(fit) != 1080 {
		t.Fatalf("%d and %d samples", len(fit), len(held))
	}
	count := make([]int, len(set.Labels()))
	for _, i := range held {
		count[set.Label(i)]++
		if slices.Contains(fit, i) {
			t.Fatalf("sample %d is on both sides", i)
		}
	}
	if slices.Min(count) != 6 || slices.Max(count) != 6 {
		t.Errorf("held out by label: %v", count)
	}
	if _, other := HoldOut(set, train, 0.1, 2); slices.Equal(held, other) {
		t.Error("another seed holds out the same samples")
	}
	if fit, held = HoldOut(set, train[:1], 0.5, 1); len(fit) != 1 || len(held) != 0 {
		t.Errorf("of one sample %d and %d", len(fit), len(held))
	}
}
