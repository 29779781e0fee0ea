package probe

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// norm adds a BatchNormalization of c channels that is not folded.
func (n *net) norm(c int64) *net {
	variance := make([]float32, c)
	for i := range variance {
		variance[i] = 0.5 + n.r.Float32()
	}
	scale := make([]float32, c)
	for i := range scale {
		scale[i] = 0.7 + 0.6*n.r.Float32()
	}
	n.t = n.node("BatchNormalization", []string{n.t, n.constFloat(scale, c), n.weights(c), n.weights(c), n.constFloat(variance, c)})
	return n
}

func (n *net) relu6() *net {
	n.t = n.node("Clip", []string{n.t, n.constFloat([]float32{0}), n.constFloat([]float32{6})})
	return n
}

// from makes the next operator read t.
func (n *net) from(t string) *net {
	n.t = t
	return n
}

func (n *net) concat(axis int64, in ...string) *net {
	n.t = n.node("Concat", in, attrInt("axis", axis))
	return n
}

func (n *net) transpose(perm ...int64) *net { return n.op("Transpose", attrInts("perm", perm...)) }

// silu adds Sigmoid and Mul.
func (n *net) silu() *net {
	n.t = n.node("Mul", []string{n.t, n.node("Sigmoid", []string{n.t})})
	return n
}

// add adds a residual sum.
func (n *net) add(t string) *net {
	n.t = n.node("Add", []string{n.t, t})
	return n
}

// channelsLast makes the input N x H x W x C.
func (n *net) channelsLast() *net {
	n.g.Input[0] = valueInfo("image", onnxfile.Float, -1, 8, 8, 3)
	return n
}

// TestArchitectures measures a small network of each architecture with random
// weights and compares every row with a computation sample by sample. taps lists
// the layers of each tap with its filters and the side of its map.
func TestArchitectures(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 12)
	// fire is a module of SqueezeNet.
	fire := func(n *net, name string, in, squeeze, expand int64) {
		s := n.conv(name+"/squeeze", in, squeeze, 1, 1).op("Relu").t
		one := n.conv(name+"/expand1", squeeze, expand, 1, 1).op("Relu").t
		three := n.from(s).conv(name+"/expand3", squeeze, expand, 3, 1).op("Relu").t
		n.concat(1, one, three)
	}
	// dense is a layer of DenseNet, up to its new features.
	dense := func(n *net, name string, in, bottleneck, growth int64) string {
		return n.norm(in).op("Relu").conv(name+"/conv1", in, bottleneck, 1, 1).norm(bottleneck).op("Relu").
			conv(name+"/conv2", bottleneck, growth, 3, 1).t
	}
	// inverted is a block of MobileNetV2.
	inverted := func(n *net, name string, in, out int64, norm func(int64) *net) {
		begin := n.t
		n.conv(name+"/expand", in, 2*in, 1, 1)
		norm(2 * in).relu6()
		n.conv(name+"/depthwise", 2*in, 2*in, 3, 2*in)
		norm(2 * in).relu6()
		n.conv(name+"/project", 2*in, out, 1, 1)
		norm(out)
		if in == out {
			n.add(begin)
		}
	}
	for _, c := range []struct {
		name  string
		build func(n *net)
		taps  string
		// own tells that the last tap is what the classifier reads, which then is
		// its head; else all heads are trained.
		own     bool
		skipped string // the layers left out
	}{
		{"VGG with BatchNorm", func(n *net) {
			n.conv("conv1", 3, 4, 3, 1).norm(4).op("Relu").conv("conv2", 4, 4, 3, 1).norm(4).op("Relu").pool()
			n.conv("conv3", 4, 6, 3, 1).norm(6).op("Relu").pool()
			n.op("Flatten").gemm("fc1", 24, 7).op("Relu").op("Dropout").gemm("fc2", 7, 6).op("Relu").op("Dropout").gemm("classifier", 6, testK)
		}, "conv1 4x8, conv2 4x4, conv3 6x2, fc1 7x1, fc2 6x1", true, ""},
		{"ResNet", func(n *net) {
			begin := n.conv("stem", 3, 4, 3, 1).norm(4).op("Relu").pool().t
			n.conv("a/conv1", 4, 4, 3, 1).norm(4).op("Relu").conv("a/conv2", 4, 4, 3, 1).norm(4).add(begin).op("Relu")
			begin = n.pool().t
			main := n.conv("b/conv1", 4, 6, 3, 1).norm(6).op("Relu").conv("b/conv2", 6, 6, 3, 1).norm(6).t
			n.from(begin).conv("b/shortcut", 4, 6, 1, 1).norm(6).add(main).op("Relu").head(6)
		}, "stem 4x4, a/conv1 4x4, a/conv2 4x2, b/conv1 6x2, b/conv2+b/shortcut 6x1", true, ""},
		{"ResNet with pre-activation", func(n *net) {
			sum := n.conv("stem", 3, 4, 3, 1).t
			for _, b := range []string{"a", "b"} {
				n.norm(4).op("Relu").conv(b+"/conv1", 4, 4, 3, 1).norm(4).op("Relu").conv(b+"/conv2", 4, 4, 3, 1)
				sum = n.add(sum).t
			}
			// A block that changes the number of filters: the shortcut reads what
			// the first convolution reads.
			act := n.norm(4).op("Relu").t
			main := n.conv("c/conv1", 4, 6, 3, 1).norm(6).op("Relu").conv("c/conv2", 6, 6, 3, 1).t
			n.from(act).conv("c/shortcut", 4, 6, 1, 1).add(main).norm(6).op("Relu").head(6)
		}, "stem 4x8, a/conv1 4x8, a/conv2 4x8, b/conv1 4x8, b/conv2 4x8, c/conv1 6x8, c/conv2+c/shortcut 6x1", true, ""},
		{"SqueezeNet", func(n *net) {
			n.conv("conv1", 3, 4, 3, 1).op("Relu").pool()
			fire(n, "fire2", 4, 2, 3)
			fire(n, "fire3", 6, 3, 4)
			n.pool().conv("conv10", 8, testK, 1, 1).op("Relu").op("GlobalAveragePool").op("Flatten").op("Softmax", attrInt("axis", 1))
		}, "conv1 4x4, fire2/squeeze 2x4, fire2/expand1+fire2/expand3 6x4, fire3/squeeze 3x4, fire3/expand1+fire3/expand3 8x2", false, "conv10"},
		{"Inception", func(n *net) {
			begin := n.conv("stem", 3, 4, 3, 1).op("Relu").t
			one := n.conv("one", 4, 2, 1, 1).norm(2).op("Relu").t
			three := n.from(begin).conv("three/a", 4, 3, 1, 1).norm(3).op("Relu").conv("three/b", 3, 3, 3, 1).norm(3).op("Relu").t
			pooled := n.from(begin).op("MaxPool", attrInts("kernel_shape", 3, 3), attrInts("pads", 1, 1, 1, 1)).conv("pool", 4, 2, 1, 1).op("Relu").t
			n.concat(1, one, three, pooled).head(7)
		}, "stem 4x8, three/a 3x8, one+three/b+pool 7x1", true, ""},
		{"DenseNet, as PyTorch writes it", func(n *net) {
			features := []string{n.conv("stem", 3, 4, 3, 1).norm(4).op("Relu").pool().t}
			for i := range 3 {
				if i > 0 {
					n.concat(1, features...)
				}
				features = append(features, dense(n, fmt.Sprint("l", i), int64(4+3*i), 5, 3))
			}
			n.concat(1, features...).norm(13).op("Relu").conv("transition", 13, 6, 1, 1).op("AveragePool", attrInts("kernel_shape", 2, 2), attrInts("strides", 2, 2))
			more := dense(n, "m0", 6, 5, 3)
			n.concat(1, n.g.Node[indexOf(n, "AveragePool")].Output[0], more).norm(9).op("Relu").head(9)
		}, "stem 4x4, l0/conv1 5x4, l0/conv2 7x4, l1/conv1 5x4, l1/conv2 10x4, l2/conv1 5x4, l2/conv2 13x4, transition 6x2, m0/conv1 5x2, m0/conv2 9x1", true, ""},
		{"DenseNet, as Keras writes it", func(n *net) {
			all := n.conv("stem", 3, 4, 3, 1).norm(4).op("Relu").pool().t
			for i := range 3 {
				all = n.concat(1, all, dense(n, fmt.Sprint("l", i), int64(4+3*i), 5, 3)).t
			}
			n.norm(13).op("Relu").head(13)
		}, "stem 4x4, l0/conv1 5x4, l0/conv2 7x4, l1/conv1 5x4, l1/conv2 10x4, l2/conv1 5x4, l2/conv2 13x1", true, ""},
		{"MobileNetV2", func(n *net) {
			n.conv("stem", 3, 4, 3, 1).norm(4).relu6()
			inverted(n, "b1", 4, 4, n.norm)
			inverted(n, "b2", 4, 6, n.norm)
			n.conv("last", 6, 9, 1, 1).norm(9).relu6().head(9)
		}, "stem 4x8, b1/expand 8x8, b1/depthwise 8x8, b1/project 4x8, b2/expand 8x8, b2/depthwise 8x8, b2/project 6x8, last 9x1", true, ""},
		{"MobileNetV2, folded, its classifier a convolution", func(n *net) {
			n.conv("stem", 3, 4, 3, 1).relu6()
			none := func(int64) *net { return n }
			inverted(n, "b1", 4, 4, none)
			inverted(n, "b2", 4, 6, none)
			n.conv("last", 6, 9, 1, 1).relu6().op("GlobalAveragePool").conv("classifier", 9, testK, 1, 1).reshape(0, -1)
		}, "stem 4x8, b1/expand 8x8, b1/depthwise 8x8, b1/project 4x8, b2/expand 8x8, b2/depthwise 8x8, b2/project 6x8, last 9x1", true, ""},
		{"EfficientNet", func(n *net) {
			begin := n.conv("stem", 3, 4, 3, 1).norm(4).silu().t
			scaled := n.conv("expand", 4, 8, 1, 1).norm(8).silu().conv("depthwise", 8, 8, 3, 8).norm(8).silu().t
			gate := n.op("GlobalAveragePool").conv("reduce", 8, 2, 1, 1).silu().conv("raise", 2, 8, 1, 1).op("Sigmoid").t
			n.t = n.node("Mul", []string{gate, scaled})
			n.conv("project", 8, 4, 1, 1).norm(4).add(begin)
			n.conv("head", 4, 9, 1, 1).norm(9).silu().head(9)
		}, "stem 4x8, expand 8x8, depthwise 8x8, project 4x8, head 9x1", true, "reduce, raise"},
		{"N x H x W x C, as tf2onnx writes it", func(n *net) {
			n.channelsLast().transpose(toNCHW...).conv("conv1", 3, 4, 3, 1).op("Relu").pool()
			n.conv("conv2", 4, 6, 3, 1).op("Relu").pool().transpose(toNHWC...).reshape(-1, 24)
			n.named("fc1", "MatMul", []string{n.t, n.weights(24, 7)})
			n.from("fc1").add(n.weights(7)).op("Relu")
			n.named("classifier", "MatMul", []string{n.t, n.weights(7, testK)})
			n.from("classifier").add(n.weights(testK)).op("Softmax", attrInt("axis", 1))
		}, "conv1 4x4, conv2 6x2, fc1 7x1", true, ""},
		{"N x H x W x C to the end", func(n *net) {
			n.channelsLast().transpose(toNCHW...).conv("conv1", 3, 4, 3, 1).transpose(toNHWC...).add(n.weights(4)).op("Relu").transpose(toNCHW...)
			n.conv("conv2", 4, 6, 3, 1).transpose(toNHWC...).op("Relu").op("ReduceMean", attrInts("axes", 1, 2), attrInt("keepdims", 0))
			n.gemm("classifier", 6, testK)
		}, "conv1 4x8, conv2 6x1", true, ""},
		{"pooled, then N x H x W x C", func(n *net) {
			n.channelsLast().transpose(toNCHW...).conv("conv1", 3, 4, 3, 1).op("Relu").op("GlobalAveragePool").transpose(toNHWC...).op("Flatten").gemm("classifier", 4, testK)
		}, "conv1 4x1", true, ""},
		{"a classifier that reads N x H x W x C", func(n *net) {
			n.conv("conv1", 3, 4, 3, 1).op("Relu").pool().transpose(toNHWC...).op("Flatten").gemm("classifier", 64, testK)
		}, "conv1 4x4", false, ""},
		{"a classifier that reads N x H x W x C behind its activation", func(n *net) {
			n.conv("conv1", 3, 4, 3, 1).pool().transpose(toNHWC...).op("Relu").op("Flatten").gemm("classifier", 64, testK)
		}, "conv1 4x4", false, ""},
		{"pointwise layers as MatMul", func(n *net) {
			begin := n.conv("stem", 3, 4, 3, 1).t
			n.conv("depthwise", 4, 4, 3, 4).transpose(toNHWC...)
			n.named("up", "MatMul", []string{n.t, n.weights(4, 6)})
			n.from("up").add(n.weights(6)).op("Relu")
			n.named("down", "MatMul", []string{n.t, n.weights(6, 4)})
			n.from("down").add(n.weights(4)).transpose(toNCHW...).add(begin).head(4)
		}, "stem 4x8, depthwise 4x8, up 6x8, down 4x1", true, ""},
		{"logits by GlobalAveragePool", func(n *net) {
			n.conv("conv1", 3, 4, 3, 1).op("Relu").conv("conv2", 4, testK, 3, 1).op("GlobalAveragePool")
		}, "conv1 4x8", false, "conv2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet(-1, 3, 8)
			n.calm = true
			c.build(n)
			dims := []int64{-1, testK}
			if c.name == "logits by GlobalAveragePool" {
				dims = append(dims, 1, 1)
			}
			m := n.model(t, dims...)
			res := againstPlain(t, eng, m, set, testOptions(), 1)
			var taps, left []string
			for _, l := range res.Layers {
				if 4*l.Stats.WithoutCluster > 3*l.Tap.Filters {
					t.Errorf("%s: %d of %d filters have no cluster: the network tests little", l.Name(), l.Stats.WithoutCluster, l.Tap.Filters)
				}
				taps = append(taps, fmt.Sprintf("%s %dx%d", strings.Join(l.Tap.Layers, "+"), l.Tap.Filters, l.Height))
			}
			for _, s := range res.Skipped {
				left = append(left, s.Layer)
			}
			if got := strings.Join(taps, ", "); got != c.taps {
				t.Errorf("taps %s\nwant %s", got, c.taps)
			}
			if got := strings.Join(left, ", "); got != c.skipped {
				t.Errorf("skipped %s, want %s", res.Skipped, c.skipped)
			}
			last := res.Layers[len(res.Layers)-1]
			if last.Own != c.own {
				t.Errorf("the last tap's own classifier: %v", last.Own)
			}
		})
	}
}

// indexOf returns the number of the last node of an operator.
func indexOf(n *net, op string) int {
	for i := len(n.g.Node) - 1; i >= 0; i-- {
		if n.g.Node[i].GetOpType() == op {
			return i
		}
	}
	return -1
}

// TestParts: which filters of a concatenation a layer makes.
func TestParts(t *testing.T) {
	n := newNet(-1, 3, 8)
	begin := n.conv("stem", 3, 4, 3, 1).op("Relu").t
	a := n.conv("a", 4, 2, 1, 1).op("Relu").t
	b := n.from(begin).conv("b", 4, 3, 3, 1).op("Relu").t
	inner := n.concat(-3, a, b).t
	c := n.from(begin).conv("c", 4, 5, 3, 1).op("Relu").t
	n.concat(1, c, inner).conv("next", 10, 4, 1, 1).op("Relu").head(4)
	s := mustSurvey(t, n.model(t, -1, testK))
	tap := s.LayerTap("a")
	if tap == nil || tap.Filters != 10 {
		t.Fatalf("tap %+v", tap)
	}
	for _, c := range []struct {
		layer          string
		first, filters int
	}{{"a", 5, 2}, {"b", 7, 3}, {"c", 0, 5}} {
		if first, filters := tap.Range(c.layer); first != c.first || filters != c.filters || s.LayerTap(c.layer) != tap {
			t.Errorf("%s: filters %d from %d on, want %d from %d on", c.layer, filters, first, c.filters, c.first)
		}
	}
	if first, filters := s.Taps[0].Range("stem"); first != 0 || filters != 4 {
		t.Errorf("stem: %d from %d on", filters, first)
	}
}

// TestFloat16 measures a model that is float16 from its input to its output.
func TestFloat16(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 12)
	body := func(n *net) {
		begin := n.conv("conv1", 3, 4, 3, 1).op("Relu").pool().t
		n.conv("conv2", 4, 4, 3, 1).add(begin).op("Relu").op("GlobalAveragePool").op("Flatten").gemm("hidden", 4, 6).op("Relu").gemm("classifier", 6, testK)
	}
	for _, batch := range []int64{-1, 1} {
		n := newNet(batch, 3, 8)
		body(n)
		want, err := Measure(t.Context(), eng, n.model(t, batch, testK), set, testOptions())
		if err != nil {
			t.Fatal(err)
		}
		n = newNet(batch, 3, 8)
		body(n)
		n.convert(t, onnxfile.Float16)
		n.g.Input[0].GetType().GetTensorType().ElemType = proto.Int32(int32(onnxfile.Float16))
		m := n.model(t, batch, testK)
		res := againstPlain(t, eng, m, set, testOptions(), 3)
		if len(res.Layers) != 3 || !res.Layers[2].Own {
			t.Fatalf("layers %v", res.Layers)
		}
		equalResults(t, want, res, 3e-2)
	}
}
