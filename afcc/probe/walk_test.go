package probe

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// head ends a net in a pooling and the layer "classifier" of testK labels.
func (n *net) head(in int64) *net {
	return n.op("GlobalAveragePool").op("Flatten").gemm("classifier", in, testK)
}

// ends fails the test when f does not come to an end.
func ends(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s does not end", what)
	}
}

// TestMalformedGraphs gives the walks graphs in which a way leads back to where
// it began. NewSurvey must refuse them, and no walk may rely on that.
func TestMalformedGraphs(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(n *net)
	}{
		{"a tensor written twice", func(n *net) {
			n.conv("d", 3, 4, 3, 1).named("d", "Relu", []string{"d"})
			n.head(4)
		}},
		{"a layer written over", func(n *net) {
			n.conv("d", 3, 4, 3, 1).conv("d", 4, 4, 3, 1).head(4)
		}},
		{"a cycle of activations", func(n *net) {
			n.conv("c", 3, 4, 3, 1)
			n.named("a", "Add", []string{"c", "z"})
			n.named("z", "Relu", []string{"a"})
			n.t = "z"
			n.head(4)
		}},
		{"a node that reads itself", func(n *net) {
			n.conv("c", 3, 4, 3, 1)
			n.named("r", "Relu", []string{"r"})
			n.t = n.node("Add", []string{"c", "r"})
			n.head(4)
		}},
		{"a gate that never ends", func(n *net) {
			n.conv("c", 3, 4, 3, 1)
			n.named("s", "Sigmoid", []string{"u"})
			n.named("u", "Tanh", []string{"s"})
			n.t = n.node("Mul", []string{"c", "s"})
			n.head(4)
		}},
		{"a ring beside the model", func(n *net) {
			n.conv("c", 3, 4, 3, 1).head(4)
			n.named("s", "Sigmoid", []string{"u"})
			n.named("u", "Tanh", []string{"s"})
		}},
		{"a layer whose activation is written over it", func(n *net) {
			n.conv("d", 3, 4, 3, 1).named("d", "Relu", []string{"d"})
			n.t = "image"
			n.conv("c", 3, 4, 3, 1).head(4)
		}},
		{"a factor written twice", func(n *net) {
			n.conv("c", 3, 4, 3, 1)
			n.named("d", "Relu", []string{"c"})
			n.named("d", "Relu", []string{"d"})
			n.t = "image"
			n.conv("e", 3, 4, 3, 1)
			n.t = n.node("Mul", []string{"c", "e"})
			n.head(4)
		}},
		{"reshapes before the classifier", func(n *net) {
			n.conv("c", 3, 4, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten")
			n.named("a", "Identity", []string{"b"})
			n.named("b", "Identity", []string{"a"})
			n.t = "b"
			n.gemm("classifier", 4, testK)
		}},
		{"an output made of itself", func(n *net) {
			n.conv("c", 3, 4, 3, 1).head(4)
			n.named("p", "Softmax", []string{"p"})
			n.t = "p"
		}},
		{"a sum that adds to itself", func(n *net) {
			n.conv("c", 3, 4, 3, 1).head(4)
			n.named("p", "Add", []string{"p", n.constFloat([]float32{1})})
			n.t = "p"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet(-1, 3, 8)
			c.build(n)
			var m *inspect.Model
			ends(t, "opening the file", func() { m = n.model(t, -1, testK) })
			ends(t, "NewSurvey", func() {
				if s, err := NewSurvey(m); err == nil {
					t.Errorf("taps %v were found", s.Taps)
				}
			})
			ends(t, "a walk", func() {
				w := newWalker(m.Graph, "image")
				w.necks("image", n.t)
				w.classifier(m, n.t, testK)
				for _, node := range n.g.Node {
					out := node.Output[0]
					w.follow(place{tensor: out})
					w.endsInOutput(out, n.t)
					w.endsInOutput("nothing", out)
					for range w.back(out) {
					}
				}
			})
		})
	}
}

// TestWalks checks the tensor that the layer "c" hands on. build leaves the
// tensor expected in n.t and adds what reads it to the rest.
func TestWalks(t *testing.T) {
	scalar := func(n *net, v float32) string { return n.constFloat([]float32{v}) }
	pads := func(n *net, v ...int64) string { return n.constInt(v, int64(len(v))) }
	two := func(op string, n *net, a, b string) { n.t = n.node(op, []string{a, b}) }
	for _, c := range []struct {
		name string
		// build adds what follows the convolution "c" and returns the tensor
		// that c hands on; n.t is what the classifier pools.
		build func(n *net) string
		// out is the number of channels of n.t, 4 when it is 0.
		out int64
	}{
		{"SiLU written out", func(n *net) string {
			two("Mul", n, "c", n.node("Sigmoid", []string{"c"}))
			return n.t
		}, 0},
		{"SiLU with its factors exchanged", func(n *net) string {
			two("Mul", n, n.node("Sigmoid", []string{"c"}), "c")
			return n.t
		}, 0},
		{"SiLU with its nodes exchanged", func(n *net) string {
			n.t = n.node("Mul", []string{"c", "s"})
			n.named("s", "Sigmoid", []string{"c"})
			return n.t
		}, 0},
		{"HardSwish, divided at last", func(n *net) string {
			clip := n.node("Clip", []string{n.node("Add", []string{"c", scalar(n, 3)}), scalar(n, 0), scalar(n, 6)})
			two("Div", n, n.node("Mul", []string{"c", clip}), scalar(n, 6))
			return n.t
		}, 0},
		{"HardSwish, divided before", func(n *net) string {
			clip := n.node("Clip", []string{n.node("Add", []string{scalar(n, 3), "c"}), scalar(n, 0), scalar(n, 6)})
			two("Mul", n, "c", n.node("Div", []string{clip, scalar(n, 6)}))
			return n.t
		}, 0},
		{"ReLU6 by Min and Max", func(n *net) string {
			two("Min", n, n.node("Max", []string{"c", scalar(n, 0)}), scalar(n, 6))
			return n.t
		}, 0},
		{"GELU by Erf", func(n *net) string {
			erf := n.node("Erf", []string{n.node("Div", []string{"c", scalar(n, 1.4142135)})})
			two("Mul", n, n.node("Mul", []string{"c", n.node("Add", []string{erf, scalar(n, 1)})}), scalar(n, 0.5))
			return n.t
		}, 0},
		{"a BatchNorm written out", func(n *net) string {
			two("Sub", n, "c", n.weights(1, 4, 1, 1))
			two("Mul", n, n.t, n.weights(4, 1, 1))
			return n.op("Relu").t
		}, 0},
		{"a BatchNorm of computed numbers", func(n *net) string {
			scale := n.node("ConstantOfShape", []string{n.constInt([]int64{4, 1, 1}, 3)})
			two("Mul", n, "c", n.node("Exp", []string{scale}))
			return n.op("Relu").t
		}, 0},
		{"a factor by the size of the image", func(n *net) string {
			size := n.node("Cast", []string{n.node("Size", []string{"image"})}, attrInt("to", int64(onnxfile.Float)))
			two("Mul", n, "c", size)
			return "c"
		}, 0},
		{"LRN", func(n *net) string { return n.op("Relu").op("LRN", attrInt("size", 3)).t }, 0},
		{"Sum", func(n *net) string {
			relu := n.op("Relu").t
			n.from("image").conv("d", 3, 4, 3, 1)
			two("Sum", n, relu, n.t)
			return n.t
		}, 0},
		{"one factor has another reader", func(n *net) string {
			s := n.node("Sigmoid", []string{"c"})
			two("Mul", n, "c", s)
			two("Add", n, n.t, s)
			return "c"
		}, 0},
		{"one factor is an output", func(n *net) string {
			s := n.node("Sigmoid", []string{"c"})
			n.g.Output = append(n.g.Output, valueInfo(s, onnxfile.Float, -1, 4, 8, 8))
			two("Mul", n, "c", s)
			return "c"
		}, 0},
		{"one factor is pooled", func(n *net) string {
			two("Mul", n, "c", n.node("GlobalMaxPool", []string{"c"}))
			return "c"
		}, 0},
		{"the raw output is an output of the model", func(n *net) string {
			n.g.Output = append(n.g.Output, valueInfo("c", onnxfile.Float, -1, 4, 8, 8))
			n.op("Relu")
			return "c"
		}, 0},
		{"a constant that adds a dimension", func(n *net) string {
			two("Add", n, "c", n.weights(1, 1, 4, 1, 1))
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{-1, 4, 8, 8}, 4)})
			return "c"
		}, 0},
		{"a Pad of maps", func(n *net) string {
			two("Pad", n, n.op("Relu").t, pads(n, 0, 0, 1, 1, 0, 0, 1, 1))
			return n.t
		}, 0},
		{"a Pad of channels behind", func(n *net) string {
			relu := n.op("Relu").t
			two("Pad", n, relu, pads(n, 0, 0, 0, 0, 0, 2, 0, 0))
			return relu
		}, 6},
		{"a Pad of channels before", func(n *net) string {
			relu := n.op("Relu").t
			two("Pad", n, relu, pads(n, 0, 1, 1, 1, 0, 0, 1, 1))
			return relu
		}, 5},
		{"a Pad of some axes", func(n *net) string {
			n.d.Model.OpsetImport[0].Version = proto.Int64(18)
			relu := n.op("Relu").t
			n.t = n.node("Pad", []string{relu, pads(n, 0, 2), "", n.constInt([]int64{1}, 1)})
			return relu
		}, 6},
		{"a Pad of axes in another order", func(n *net) string {
			n.d.Model.OpsetImport[0].Version = proto.Int64(18)
			relu := n.op("Relu").t
			n.t = n.node("Pad", []string{relu, pads(n, 0, 0, 0, 2, 0, 0, 0, 0), "", n.constInt([]int64{2, 3, 0, 1}, 4)})
			return relu
		}, 6},
		{"a Pad by attribute", func(n *net) string {
			n.d.Model.OpsetImport[0].Version = proto.Int64(9)
			return n.op("Relu").op("Pad", attrInts("pads", 0, 0, 1, 0, 0, 0, 1, 0)).t
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet(-1, 3, 8)
			n.conv("c", 3, 4, 3, 1)
			want := c.build(n)
			n.conv("next", max(c.out, 4), 4, 1, 1).op("Relu").head(4)
			n.g.Output = append([]*onnxpb.ValueInfoProto{valueInfo(n.t, onnxfile.Float, -1, testK)}, n.g.Output...)
			m := n.open(t, inspect.Options{})
			s := mustSurvey(t, m)
			tap := s.LayerTap("c")
			if tap == nil || tap.Tensor != want {
				t.Fatalf("the tap is %+v, tensor %q is expected (skipped %v)", tap, want, s.Skipped)
			}
			if tap.Filters != 4 {
				t.Errorf("%d filters", tap.Filters)
			}
			// What the next convolution reads is the tap or is computed from it.
			next := m.Graph.Nodes[m.Layers[1].Node].Input(0)
			if in := s.InputTap(m.Graph, next); (in == tap) != (next == want) {
				t.Errorf("the next convolution reads %q: tap %v", next, in)
			}
		})
	}
}

// TestClassifierTap looks for the tap whose filters the classifier reads.
func TestClassifierTap(t *testing.T) {
	zero := func(n *net, rank int) string { return n.constInt(make([]int64, 2*rank), int64(2*rank)) }
	for _, c := range []struct {
		name string
		in   int64
		// build adds what stands between the Relu of "c", 4 x 8 x 8, and the
		// classifier, and returns the tap expected, "" for none.
		build func(n *net) string
	}{
		{"an empty Pad before the pooling", 4, func(n *net) string {
			n.t = n.node("Pad", []string{n.t, zero(n, 4)})
			pooled := n.op("AveragePool", attrInts("kernel_shape", 8, 8)).t
			n.op("Flatten")
			return pooled
		}},
		{"an empty Pad of a tap with another reader", 4, func(n *net) string {
			pooled := n.op("GlobalAveragePool").t
			n.g.Output = append(n.g.Output, valueInfo(n.node("Softsign", []string{pooled}), onnxfile.Float, -1, 4, 1, 1))
			n.t = n.node("Pad", []string{pooled, zero(n, 4)})
			n.op("Flatten")
			return pooled
		}},
		{"a Pad of maps of a tap with another reader", 4 * 9 * 8, func(n *net) string {
			n.g.Output = append(n.g.Output, valueInfo(n.node("Softsign", []string{n.t}), onnxfile.Float, -1, 4, 8, 8))
			n.t = n.node("Pad", []string{n.t, n.constInt([]int64{0, 0, 1, 0, 0, 0, 0, 0}, 8)})
			n.op("Flatten")
			return ""
		}},
		{"an unpooled map", 256, func(n *net) string {
			relu := n.t
			n.op("Flatten")
			return relu
		}},
		{"Flatten twice", 256, func(n *net) string {
			relu := n.t
			n.op("Flatten").op("Flatten", attrInt("axis", 1))
			return relu
		}},
		{"Squeeze and Identity", 4, func(n *net) string {
			pooled := n.op("GlobalAveragePool").t
			n.t = n.node("Squeeze", []string{n.t, n.constInt([]int64{2, 3}, 2)})
			n.op("Identity")
			return pooled
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet(-1, 3, 8)
			n.conv("c", 3, 4, 3, 1).op("Relu")
			want := c.build(n)
			n.gemm("classifier", c.in, testK)
			n.g.Output = append([]*onnxpb.ValueInfoProto{valueInfo(n.t, onnxfile.Float, -1, testK)}, n.g.Output...)
			m := n.open(t, inspect.Options{})
			s := mustSurvey(t, m)
			if s.Classifier == nil || s.Classifier.Layer != "classifier" {
				t.Fatalf("classifier %+v", s.Classifier)
			}
			tap := s.Classifier.Tap
			if (tap == nil) != (want == "") || tap != nil && (tap.Tensor != want || !tap.Own) {
				t.Errorf("the classifier reads tap %+v, %q is expected", tap, want)
			}
			if s.InputTap(m.Graph, s.Classifier.In) != tap {
				t.Errorf("InputTap finds %+v", s.InputTap(m.Graph, s.Classifier.In))
			}
		})
	}
}

// TestFlattenAxis: only axis 1 leaves a row for each sample.
func TestFlattenAxis(t *testing.T) {
	for axis := range int64(5) {
		n := newNet(-1, 3, 8)
		relu := n.conv("c", 3, 4, 3, 1).op("Relu").t
		flat := n.node("Flatten", []string{relu}, attrInt("axis", axis))
		n.head(4)
		m := n.model(t, -1, testK)
		s := mustSurvey(t, m)
		if tap := s.InputTap(m.Graph, flat); (tap != nil) != (axis == 1) {
			t.Errorf("axis %d: tap %+v", axis, tap)
		}
	}
}

// TestSkippedShapes: a layer whose output has no row for each sample is left
// out, and the reason says so.
func TestSkippedShapes(t *testing.T) {
	for _, c := range []struct {
		name   string
		batch  int64
		opt    inspect.Options
		build  func(n *net)
		reason string
	}{
		{"rows that are no samples", -1, inspect.Options{}, func(n *net) {
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{-1, 8}, 2)})
			n.gemm("l", 8, 3)
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{-1, 3 * 32}, 2)})
			n.gemm("classifier", 3*32, testK)
		}, "rows are not"},
		{"rows that are no samples of a batch with a name", -1, inspect.Options{}, func(n *net) {
			n.g.Input[0].GetType().GetTensorType().Shape.Dim[0].Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "batch"}
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{-1, 8}, 2)})
			n.gemm("l", 8, 3)
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{-1, 3 * 32}, 2)})
			n.gemm("classifier", 3*32, testK)
		}, "rows are not"},
		{"rows that are no samples of a fixed batch", 1, inspect.Options{}, func(n *net) {
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{-1, 8}, 2)})
			n.gemm("l", 8, 3)
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{1, 3 * 32}, 2)})
			n.gemm("classifier", 3*32, testK)
		}, "rows are not"},
		{"rows that are no samples of a given batch", -1, inspect.Options{Batch: 2}, func(n *net) {
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{-1, 8}, 2)})
			n.gemm("l", 8, 3)
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{-1, 3 * 32}, 2)})
			n.gemm("classifier", 3*32, testK)
		}, "rows are not"},
		{"a fixed number of rows", -1, inspect.Options{}, func(n *net) {
			rows := n.t
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{numberedBatch, -1}, 2)})
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{numberedBatch, 16}, 2)})
			n.gemm("l", 16, 3)
			n.t = rows
			n.head(4)
		}, "rows are not"},
		{"a product of rank 3", -1, inspect.Options{}, func(n *net) {
			n.t = n.node("Reshape", []string{n.t, n.constInt([]int64{0, 4, 64}, 3)})
			n.named("l", "MatMul", []string{n.t, n.weights(64, 2)})
			n.t = "l"
			n.op("Flatten").gemm("classifier", 8, testK)
		}, "batch x filters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet(c.batch, 3, 8)
			n.conv("c", 3, 4, 3, 1).op("Relu")
			c.build(n)
			n.g.Output = append(n.g.Output, valueInfo(n.t, onnxfile.Float, c.batch, testK))
			s := mustSurvey(t, n.open(t, c.opt))
			if s.LayerTap("l") != nil || s.LayerTap("c") == nil {
				t.Fatalf("taps %v", s.Taps)
			}
			i := slices.IndexFunc(s.Skipped, func(sk Skip) bool { return sk.Layer == "l" })
			if i < 0 || !strings.Contains(s.Skipped[i].Reason, c.reason) {
				t.Errorf("skipped %v, a reason with %q is expected", s.Skipped, c.reason)
			}
		})
	}
}

// TestHugeMaps: sizes of which the products overflow are no taps.
func TestHugeMaps(t *testing.T) {
	n := newNet(-1, 3, 8)
	n.g.Input[0] = valueInfo("image", onnxfile.Float, -1, 3, 1<<20, 1<<20)
	n.conv("wide", 3, 640, 1, 1).op("Relu").conv("narrow", 640, 2, 1, 1).head(2)
	s, err := NewSurvey(n.model(t, -1, testK))
	if err != nil {
		t.Fatal(err)
	}
	if s.LayerTap("wide") != nil || len(s.Skipped) != 1 || !strings.Contains(s.Skipped[0].Reason, "too large") {
		t.Errorf("taps %+v, skipped %v", s.LayerTap("wide"), s.Skipped)
	}
	if tap := s.LayerTap("narrow"); tap == nil || tap.Positions() != 1 {
		t.Errorf("the pooled tap is %+v", tap)
	}
}
