package probe

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

func tapNames(taps []*Tap) []string {
	var names []string
	for _, t := range taps {
		names = append(names, t.Name())
	}
	return names
}

// TestChoose: what the words of Options.Taps mean.
func TestChoose(t *testing.T) {
	n := newNet(-1, 3, 8)
	relu := n.conv("conv1", 3, 4, 3, 1).norm(4).op("Relu").t
	gate := n.op("GlobalAveragePool").conv("gate", 4, 4, 1, 1).op("Sigmoid").t
	n.t = n.node("Mul", []string{relu, gate})
	pooled := n.pool().t
	n.conv("conv2", 4, 6, 3, 1).transpose(toNHWC...)
	last := n.op("Relu").t
	n.transpose(toNCHW...).op("GlobalAveragePool").op("Flatten")
	flat := n.t
	n.gemm("hidden", 6, 7).op("Relu")
	hidden := n.t
	n.gemm("classifier", 7, testK)
	shape := n.node("Shape", []string{flat})
	n.g.Output = append(n.g.Output, valueInfo(n.t, onnxfile.Float, -1, testK), valueInfo(shape, onnxfile.Int64, 2))
	m := n.open(t, inspect.Options{})
	s := mustSurvey(t, m)
	layers := []string{"conv1", "conv2", "hidden"}
	for _, c := range []struct {
		words string
		want  []string
	}{
		{"", layers},
		{"layer", layers},
		{"conv2,conv1,conv2", []string{"conv1", "conv2"}},
		{"stage", layers},
		{"all", []string{"conv1", "filterlens.6", relu, "filterlens.13", "conv1", "gate", gate, "conv2"}},
		{last, []string{last}},
		{flat, []string{flat}},
		{"hidden," + flat + "," + last, []string{last, "hidden", flat}},
		{"layer," + relu, []string{relu, "conv1", "conv2", "hidden"}},
	} {
		words := strings.FieldsFunc(c.words, func(r rune) bool { return r == ',' })
		taps, err := s.Choose(words)
		if err != nil {
			t.Errorf("%s: %v", c.words, err)
			continue
		}
		got := tapNames(taps)
		if c.words == "all" {
			// Every tensor with filters but for changes of layout.
			for _, tensor := range []string{"conv1", relu, gate, "gate", pooled, "conv2", last, "hidden", hidden} {
				if k := slices.IndexFunc(taps, func(t *Tap) bool { return t.Tensor == tensor }); k < 0 {
					t.Errorf("all: %q is missing", tensor)
				} else if tap := taps[k]; tap.Inner == (s.Tap(tensor) != nil) {
					t.Errorf("all: %+v", tap)
				}
			}
			continue
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.words, got, c.want)
		}
	}
	for name, reason := range map[string]string{
		"conv9": "", "gate": "squeeze-excite", "classifier": "the classifier", shape: "int64", n.t: "classifier", "": "",
	} {
		var unknown *UnknownLayerError
		if _, err := s.Choose([]string{"conv1", name}); name != n.t && (!errors.As(err, &unknown) || !strings.Contains(unknown.Reason, reason)) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if taps, err := s.restrict(s.Taps, []string{"hidden", "conv1"}); err != nil || !slices.Equal(tapNames(taps), []string{"conv1", "hidden"}) {
		t.Errorf("restricted to %v, %v", tapNames(taps), err)
	}
	var unknown *UnknownLayerError
	if _, err := s.restrict(s.Taps[:1], []string{"hidden"}); !errors.As(err, &unknown) {
		t.Errorf("a layer outside the taps: %v", err)
	}
	// What stands inside layers is measured like what they hand on.
	opt := testOptions()
	opt.Taps = []string{TapsAll}
	res := againstPlain(t, runtime(t), m, folder(t, testK, 12), opt, 2)
	if all := s.inside(); len(res.Layers) != len(all) || len(all) < 12 {
		t.Errorf("%d rows, %d taps", len(res.Layers), len(all))
	}
}

func TestStages(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(arch.Options) (*onnxfile.Draft, error)
		want  string
	}{
		// The last convolution of each size of maps, and the last hidden layer.
		{"VGG-16", arch.VGG16, "64x112 128x56 256x28 512x14 512x7 4096x1"},
		// Blocks of 112, 56, 28, 14 and 7; the head convolution is of the last.
		{"EfficientNet-B0", arch.EfficientNetB0, "16x112 24x56 40x28 112x14 1280x1"},
	} {
		s := mustSurvey(t, built(t, c.build, arch.Options{Zero: true}))
		taps, err := s.Choose([]string{TapsStage})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, tap := range taps {
			got = append(got, fmt.Sprintf("%dx%d", tap.Filters, tap.Height))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v (%v), want %s", c.name, got, tapNames(taps), c.want)
		}
	}
	for _, c := range []struct {
		name  string
		build func(n *net)
		want  string // the last layer of each stage
	}{
		{"a ResNet as torchvision names it", func(n *net) {
			begin := n.conv("/conv1/Conv", 3, 4, 3, 1).op("Relu").t
			for _, layer := range []string{"/layer1/layer1.0", "/layer1/layer1.1", "/layer2/layer2.0"} {
				n.conv(layer+"/conv1/Conv", 4, 4, 3, 1).op("Relu").conv(layer+"/conv2/Conv", 4, 4, 3, 1).add(begin).op("Relu")
				begin = n.t
			}
			n.head(4)
		}, "/conv1/Conv /layer1/layer1.1/conv2/Conv /layer2/layer2.0/conv2/Conv"},
		{"a list of layers", func(n *net) {
			n.conv("/layers.0/layers.0.0/Conv", 3, 4, 3, 1).op("Relu").conv("/layers.1/layers.1.0/Conv", 4, 4, 3, 1).op("Relu").pool()
			n.conv("/layers.2/layers.2.0/Conv", 4, 4, 3, 1).op("Relu").head(4)
		}, "/layers.1/layers.1.0/Conv /layers.2/layers.2.0/Conv"},
		{"bottlenecks without paths", func(n *net) {
			begin := n.conv("stem", 3, 4, 3, 1).op("Relu").t
			n.conv("a1", 4, 2, 1, 1).op("Relu").conv("a2", 2, 4, 3, 1).add(begin).op("Relu")
			begin = n.t
			// The first convolution of the next stage still gives large maps.
			main := n.conv("b1", 4, 2, 1, 1).op("Relu").pool().conv("b2", 2, 4, 3, 1).t
			n.from(begin).pool().conv("b3", 4, 4, 1, 1).add(main).op("Relu").head(4)
		}, "a2 b3"},
		{"branches", func(n *net) {
			begin := n.conv("stem", 3, 4, 3, 1).op("Relu").pool().t
			one := n.conv("one", 4, 2, 1, 1).op("Relu").t
			three := n.from(begin).conv("three1", 4, 2, 1, 1).op("Relu").conv("three2", 2, 3, 3, 1).op("Relu").t
			n.concat(1, one, three).head(5)
		}, "stem three2"},
	} {
		n := newNet(-1, 3, 8)
		c.build(n)
		taps, err := mustSurvey(t, n.model(t, -1, testK)).Choose([]string{TapsStage})
		var got []string
		for _, tap := range taps {
			got = append(got, tap.Layers[len(tap.Layers)-1])
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, %v; want %s", c.name, got, err, c.want)
		}
	}
}
