package probe

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// reshape adds a Reshape to the given dimensions.
func (n *net) reshape(dims ...int64) *net {
	n.t = n.node("Reshape", []string{n.t, n.constInt(dims, int64(len(dims)))})
	return n
}

// TestFixedBatch measures models whose file fixes the batch: opened where the
// graph says the same for any batch, else with the batch of the file.
func TestFixedBatch(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 17)
	conv := func(n *net) *net { return n.conv("conv1", 3, 4, 3, 1).op("Relu").pool() }
	for _, c := range []struct {
		name   string
		batch  int64
		build  func(n *net, batch int64)
		opened bool
	}{
		{"flattened", 1, func(n *net, _ int64) { conv(n).op("Flatten").gemm("hidden", 64, 6).op("Relu") }, true},
		{"target 1 and -1", 1, func(n *net, b int64) { conv(n).reshape(b, -1).gemm("hidden", 64, 6).op("Relu") }, true},
		{"target of numbers", 1, func(n *net, b int64) { conv(n).reshape(b, 64).gemm("hidden", 64, 6).op("Relu") }, true},
		{"target of numbers, batch 3", 3, func(n *net, b int64) { conv(n).reshape(b, 64).gemm("hidden", 64, 6).op("Relu") }, true},
		{"target -1", 3, func(n *net, _ int64) { conv(n).reshape(-1, 64).gemm("hidden", 64, 6).op("Relu") }, true},
		{"target from the shape", 3, func(n *net, _ int64) {
			conv(n)
			rows := n.node("Gather", []string{n.node("Shape", []string{n.t}), n.constInt([]int64{0}, 1)})
			to := n.node("Concat", []string{rows, n.constInt([]int64{-1}, 1)}, attrInt("axis", 0))
			n.t = n.node("Reshape", []string{n.t, to})
			n.gemm("hidden", 64, 6).op("Relu")
		}, true},
		{"all rows in one", 1, func(n *net, b int64) {
			conv(n).reshape(-1, 4).reshape(1, 4*16).reshape(b, 64).gemm("hidden", 64, 6).op("Relu")
		}, false},
		{"an axis that joins the batch", 3, func(n *net, b int64) {
			conv(n).reshape(-1, 4, 16).op("Flatten").reshape(4*b, 16).reshape(b, 64).gemm("hidden", 64, 6).op("Relu")
		}, false},
		{"a constant for each sample", 3, func(n *net, b int64) {
			conv(n)
			shift := n.constFloat(slices.Repeat([]float32{0.25}, int(b)*4), b, 4, 1, 1)
			n.t = n.node("Add", []string{n.t, shift})
			n.op("Flatten").gemm("hidden", 64, 6).op("Relu")
		}, false},
		{"split and joined again", 3, func(n *net, b int64) {
			conv(n).op("Flatten").gemm("hidden", 64, 6).op("Relu")
			n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: new(string), Input: []string{n.t}, Output: []string{"s1", "s2", "s3"},
				Attribute: []*onnxpb.AttributeProto{attrInt("axis", 0)}})
			*n.g.Node[len(n.g.Node)-1].OpType = "Split"
			n.t = n.node("Concat", []string{"s1", "s2", "s3"}, attrInt("axis", 0))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet(c.batch, 3, 8)
			c.build(n, c.batch)
			n.gemm("classifier", 6, testK)
			m := n.model(t, c.batch, testK)
			s := mustSurvey(t, m)
			if s.Batch != int(c.batch) || s.Opened != c.opened {
				t.Errorf("batch %d, opened %v", s.Batch, s.Opened)
			}
			res := againstPlain(t, eng, m, set, testOptions(), 1)
			// Samples that fill up a batch count nowhere.
			_, _, eval, err := set.Split(testOptions().Split)
			if err != nil {
				t.Fatal(err)
			}
			evals, err := Evaluate(t.Context(), eng, []*inspect.Model{m}, set, eval.Index, testOptions())
			if err != nil {
				t.Fatal(err)
			}
			if e := evals[0]; e.Samples != len(eval.Index) || e.Top1 != res.Accuracy || e.Latency.Batch != int(c.batch) {
				t.Errorf("evaluated %+v, measured %v on %d samples", e, res.Accuracy, len(eval.Index))
			}
		})
	}
	// An open batch that a Reshape closes again.
	closed := newNet(-1, 3, 8)
	conv(closed).reshape(1, -1).gemm("classifier", 64, testK)
	var refused *NotClassifierError
	if _, err := NewSurvey(closed.model(t, 1, testK)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "row for each sample") {
		t.Errorf("a batch that is open at first: %v", err)
	}
	n := newNet(maxBatch+1, 3, 8)
	n.conv("c", 3, 4, 3, 1).op("Relu").head(4)
	if _, err := NewSurvey(n.model(t, maxBatch+1, testK)); !errors.As(err, &refused) {
		t.Errorf("a batch of %d: %v", maxBatch+1, err)
	}
}

// TestFloat16Bits checks every number of the type, the middle between each and the
// next, and what lies outside.
func TestFloat16Bits(t *testing.T) {
	for h := range uint16(0x7c00) {
		v, next := onnxfile.Float16Value(h), onnxfile.Float16Value(h+1)
		if h == 0x7bff {
			next = 65536
		}
		middle := v + (next-v)/2
		even := h + h&1
		for _, c := range []struct {
			f    float32
			want uint16
		}{{v, h}, {-v, h | 0x8000}, {middle, even}, {-middle, even | 0x8000},
			{math.Nextafter32(middle, 0), h}, {math.Nextafter32(middle, 1e9), h + 1}} {
			if got := float16Bits(c.f); got != c.want && c.f != 0 {
				t.Fatalf("%v: %#x, want %#x", c.f, got, c.want)
			}
		}
	}
	inf, nan := float32(math.Inf(-1)), float32(math.NaN())
	if float16Bits(inf) != 0xfc00 || float16Bits(1e30) != 0x7c00 || !math.IsNaN(float64(onnxfile.Float16Value(float16Bits(nan)))) {
		t.Errorf("%#x, %#x, %#x", float16Bits(inf), float16Bits(1e30), float16Bits(nan))
	}
}
