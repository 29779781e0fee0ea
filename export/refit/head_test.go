package refit

import (
	"errors"
	"testing"

	"github.com/filterlens/filterlens/inspect/dataset"
)

// TestHead: a diluted classifier is trained under its mask, and answers better on
// samples that were not used.
func TestHead(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	fit, _, eval, err := set.Split(dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file string
		how  string
		keep float64
		soft bool
		gain float64
	}{
		{"vgg16-glyphs20.onnx", byChance, 0.15, false, 0.1},
		{"vgg16-glyphs20.onnx", byChance, 0.15, true, 0.1},
		{"efficientnet-b0-glyphs20.onnx", byChance, 0.2, false, 0.05},
	} {
		m := open(t, fixtures+c.file)
		s, _, err := classifierSite(m, DefaultMemory)
		if err != nil {
			t.Fatal(err)
		}
		masked := diluted(t, m, []string{s.name}, c.keep, c.how)
		opt := HeadOptions{}
		if c.soft {
			opt.Original = m
		}
		w, h, err := Head(t.Context(), eng, masked, set, Options{Index: fit.Index}, opt)
		if err != nil {
			t.Fatal(err)
		}
		sameMask(t, masked, w)
		a := accuracy(t, eng, set, eval.Index, dataset.Preprocess{}, m, masked, rewritten(t, masked, w))
		t.Logf("%s: %.4f; %+v", c.file, a, *h)
		if a[2] < a[1]+c.gain || h.LossAfter >= h.LossBefore || h.Kept {
			t.Errorf("%s: accuracy %.4f", c.file, a)
		}
		if h.Samples+h.HeldOut != len(fit.Index) || h.HeldOut == 0 {
			t.Errorf("%d samples and %d held out, of %d", h.Samples, h.HeldOut, len(fit.Index))
		}
	}
}

func TestHeadRefuses(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	m := open(t, fixtures+"vgg16-glyphs20.onnx")
	var bad *OptionError
	for _, opt := range []HeadOptions{{Soft: -1}, {Soft: 2}, {L2: []float64{-1}}} {
		if _, _, err := Head(t.Context(), eng, m, set, Options{Index: []int{0, 1, 2}}, opt); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", opt, err)
		}
	}
}
