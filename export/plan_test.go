package export

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TestBlocked: layers that cannot be diluted stay, each for its own reason.
func TestBlocked(t *testing.T) {
	for _, c := range []struct {
		name string
		// build adds the layer "l" behind "a.relu", which has 4 filters of 8 x 8.
		build  func(n *net)
		reason string
	}{
		{"shared with a layer", func(n *net) {
			n.node("l", "Conv", []string{n.t, n.weights("w", 4, 4, 1, 1)})
			n.node("l2", "Conv", []string{n.t, "w"})
			n.head(4)
		}, `its weights "w" are shared with "l2"`},
		{"shared with an output", func(n *net) {
			n.node("l", "Conv", []string{n.t, n.weights("w", 4, 4, 1, 1)})
			n.g.Output = append(n.g.Output, value("w", 4, 4, 1, 1))
			n.head(4)
		}, `its weights "w" are shared with an output`},
		{"transA", func(n *net) {
			n.node("p", "GlobalMaxPool", []string{n.t})
			n.node("f", "Flatten", []string{n.t})
			n.node("t", "Transpose", []string{n.t}, ints("perm", 1, 0))
			n.node("l", "Gemm", []string{n.t, n.weights("w", 4, 5)}, integer("transA", 1))
			n.node("r", "Relu", []string{n.t})
			n.classifier(5)
		}, "its input is transposed"},
		{"converted", func(n *net) {
			var b []byte
			for range 16 {
				b = binary.LittleEndian.AppendUint16(b, 0x3c00)
			}
			x := n.t
			n.node("f32", "Cast", []string{n.raw("h", onnxpb.TensorProto_FLOAT16, b, 4, 4, 1, 1)}, integer("to", 1))
			n.node("l", "Conv", []string{x, "f32"})
			n.head(4)
		}, "its weights pass through Cast"},
		{"renamed", func(n *net) {
			x := n.t
			n.node("i", "Identity", []string{n.weights("w", 4, 4, 1, 1)})
			n.node("l", "Conv", []string{x, "i"})
			n.head(4)
		}, "its weights pass through Identity"},
		{"computed", func(n *net) {
			x := n.t
			n.node("m", "Mul", []string{n.weights("w", 4, 4, 1, 1), n.floats("s", []float32{2}, 1)})
			n.node("l", "Conv", []string{x, "m"})
			n.head(4)
		}, "its weights are computed"},
		{"grouped", func(n *net) {
			n.node("l", "Conv", []string{n.t, n.weights("w", 4, 2, 1, 1)}, integer("group", 2))
			n.head(4)
		}, "grouped convolution"},
		{"depthwise", func(n *net) {
			n.node("l", "Conv", []string{n.t, n.weights("w", 4, 1, 1, 1)}, integer("group", 4))
			n.head(4)
		}, "depthwise"},
		{"transposed convolution", func(n *net) {
			n.node("l", "ConvTranspose", []string{n.t, n.weights("w", 4, 4, 1, 1)})
			n.conv("z", 4, 4).head(4)
		}, "transposed convolution"},
		{"filters cut into parts", func(n *net) {
			n.node("s", "Reshape", []string{n.t, n.ints("shape", 0, 8, 4, 8)})
			n.node("l", "Conv", []string{n.t, n.weights("w", 4, 8, 1, 1)})
			n.head(4)
		}, "it reads 8 columns, its input has 4 filters of 64 positions"},
		{"filters joined", func(n *net) {
			n.node("s", "Reshape", []string{n.t, n.ints("shape", 0, 2, 16, 8)})
			n.node("l", "Conv", []string{n.t, n.weights("w", 4, 2, 1, 1)})
			n.head(4)
		}, "it reads 2 columns, its input has 4 filters"},
		{"filters put together", func(n *net) {
			x := n.t
			n.node("two", "Concat", []string{x, x}, integer("axis", 1))
			n.node("l", "Conv", []string{n.t, n.weights("w", 4, 8, 1, 1)})
			n.head(4)
		}, `its input "two" is not the output of one layer`},
		{"rows that are no samples", func(n *net) {
			x := n.t
			n.node("s", "Reshape", []string{x, n.ints("shape", -1, 64)})
			n.node("l", "Gemm", []string{n.t, n.weights("w", 64, 4)})
			n.t = x
			n.conv("z", 4, 4).head(4)
		}, "rows are not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet().conv("a", 3, 4)
			c.build(n)
			m := n.model(t)
			plan, err := NewPlan(t.Context(), m, statistics(t, m), PlanOptions{Target: Both, Criterion: AFCC, Theta: 0.5})
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(plan.Layers, func(l LayerPlan) bool { return l.Layer == "l" }) {
				t.Fatal("the layer is diluted")
			}
			i := slices.IndexFunc(plan.Blocked, func(b Blocked) bool { return b.Layer == "l" })
			if i < 0 || !strings.Contains(plan.Blocked[i].Reason, c.reason) {
				t.Errorf("blocked %q, a reason with %q is expected", plan.Blocked, c.reason)
			}
			if !slices.ContainsFunc(plan.Blocked, func(b Blocked) bool { return b.Layer == "a" && strings.Contains(b.Reason, "the image") }) {
				t.Errorf("the layer that reads the image is not among %q", plan.Blocked)
			}
		})
	}
}

// TestQuantized: a quantized model is refused as a whole, with what to do.
func TestQuantized(t *testing.T) {
	n := newNet().conv("a", 3, 4)
	n.raw("q", onnxpb.TensorProto_INT8, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, 4, 4, 1, 1)
	x := n.t
	n.node("dq", "DequantizeLinear", []string{"q", n.floats("scale", []float32{0.1}), n.raw("zero", onnxpb.TensorProto_INT8, []byte{0})})
	n.node("l", "Conv", []string{x, "dq"})
	m := n.head(4).model(t)
	var quantized *QuantizedError
	_, err := NewPlan(t.Context(), m, statistics(t, m), PlanOptions{Target: Both, Criterion: AFCC, Theta: 0.5})
	if !errors.As(err, &quantized) || quantized.Op != "DequantizeLinear" || !strings.Contains(err.Error(), "prune the model that it was made from") {
		t.Errorf("planned: %v", err)
	}
}

// TestRowsThatAreNoSamples: a classifier with four rows for each sample.
func TestRowsThatAreNoSamples(t *testing.T) {
	n := newNet().conv("a", 3, 4).conv("b", 4, 4)
	n.node("s", "Reshape", []string{n.t, n.ints("shape", -1, 64)})
	n.classifier(64)
	var refused *probe.NotClassifierError
	if _, err := NewPlan(t.Context(), n.model(t), &probe.Result{}, PlanOptions{Target: Both, Criterion: AFCC, Theta: 0.5}); !errors.As(err, &refused) {
		t.Errorf("planned: %v", err)
	}
}

// TestStatisticsThatDoNotFit: statistics of other filters are refused before
// anything is looked up in them.
func TestStatisticsThatDoNotFit(t *testing.T) {
	n := newNet().conv("a", 3, 4).conv("b", 4, 5)
	n.node("flat", "Flatten", []string{n.t})
	m := n.classifier(5 * 64).model(t)
	var option *OptionError
	for _, c := range []struct {
		name   string
		target string
		change func(r *probe.Result)
		as     any
	}{
		{"nothing", Both, func(*probe.Result) {}, nil},
		{"a filter read is missing", Conv, func(r *probe.Result) { r.Layers[0].Filters = r.Layers[0].Filters[:3] }, &option},
		{"a filter more is read", Conv, func(r *probe.Result) { r.Layers[0].Filters = append(r.Layers[0].Filters, afcc.Filter{Index: 4}) }, &option},
		{"an own filter is missing", Conv, func(r *probe.Result) { r.Layers[1].Filters = r.Layers[1].Filters[:4] }, &option},
		{"a filter of the classifier is missing", Classifier, func(r *probe.Result) { r.Layers[1].Filters = r.Layers[1].Filters[:4] }, &option},
		{"no filters", Both, func(r *probe.Result) { r.Layers[1].Filters = nil }, &option},
		{"another height", Classifier, func(r *probe.Result) { r.Layers[1].Height = 4 }, &option},
		{"another width", Classifier, func(r *probe.Result) { r.Layers[1].Width = 16 }, &option},
		{"another label", Both, func(r *probe.Result) { r.Data.Labels = r.Data.Labels[:5] }, &option},
	} {
		res := statistics(t, m)
		if len(res.Layers) != 2 {
			t.Fatalf("%d taps", len(res.Layers))
		}
		c.change(res)
		plan, err := NewPlan(t.Context(), m, res, PlanOptions{Target: c.target, Criterion: Random, Theta: 0.5})
		if c.as == nil && err != nil || c.as != nil && !errors.As(err, c.as) {
			t.Errorf("%s: %+v, %v", c.name, plan, err)
		}
	}
	// Layers without statistics stay.
	res := statistics(t, m)
	res.Layers = res.Layers[1:]
	plan, err := NewPlan(t.Context(), m, res, PlanOptions{Target: Both, Criterion: AFCC, Theta: 0.5})
	if err != nil || len(plan.Layers) != 1 || !slices.ContainsFunc(plan.Blocked, func(b Blocked) bool {
		return b.Layer == "b" && b.Reason == "the filters it reads (a) were not measured"
	}) {
		t.Errorf("plan %+v, %v", plan, err)
	}
}

// TestPlanWarnings gives the filters of a layer label sets by hand.
func TestPlanWarnings(t *testing.T) {
	m := newNet().conv("a", 3, 4).conv("b", 4, 4).head(4).model(t)
	// with returns statistics in which filter f of the first layer has the label
	// in[f], of the second out[f], as strongly as 1.
	with := func(in, out [4]int) *probe.Result {
		res := statistics(t, m)
		for i, labels := range [][4]int{in, out} {
			for f, label := range labels {
				ratios := make([]float32, classes)
				ratios[label] = 1
				res.Layers[i].Filters[f] = afcc.Filter{Index: f, Max: 1, Ratios: ratios, Clusters: [][]int{{label}}, Ones: 1}
			}
		}
		return res
	}
	for _, c := range []struct {
		name     string
		in, out  [4]int
		dilution float64
		warning  string
		kept     int
	}{
		{"no label shared", [4]int{0, 1, 2, 0}, [4]int{3, 4, 5, 3}, 0, "layer b loses every connection", 0},
		{"no label shared, share given", [4]int{0, 1, 2, 0}, [4]int{3, 4, 5, 3}, 0.5, "layer b loses every connection", 0},
		{"one pair", [4]int{0, 1, 2, 0}, [4]int{3, 4, 2, 3}, 0, "", 1},
		{"one pair, a half is asked for", [4]int{0, 1, 2, 0}, [4]int{3, 4, 2, 3}, 0.5, "layer b is diluted to 93.8 %, 50.0 % was asked for", 1},
		{"twelve pairs, a quarter is asked for", [4]int{0, 0, 0, 1}, [4]int{0, 0, 0, 0}, 0.25, "", 12},
		{"twelve pairs, a fifth is asked for", [4]int{0, 0, 0, 1}, [4]int{0, 0, 0, 0}, 0.2, "", 12},
		{"twelve pairs, less is asked for", [4]int{0, 0, 0, 1}, [4]int{0, 0, 0, 0}, 0.19, "layer b is diluted to 25.0 %, 19.0 % was asked for", 12},
	} {
		p, err := NewPlan(t.Context(), m, with(c.in, c.out), PlanOptions{Target: Conv, Criterion: AFCC, Theta: 0.5, Dilution: c.dilution})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if p.Kept != c.kept || p.Connections != 16 {
			t.Errorf("%s: %d of %d connections kept, want %d of 16", c.name, p.Kept, p.Connections, c.kept)
		}
		if n := len(p.Warnings); c.warning == "" && n != 0 || c.warning != "" && (n != 1 || !strings.Contains(p.Warnings[0], c.warning)) {
			t.Errorf("%s: warnings %q, want %q", c.name, p.Warnings, c.warning)
		}
	}
}
