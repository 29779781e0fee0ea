package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// The shape of "y", and of "z" where a node has two outputs, for one node or a
// few over the input x.
func TestShapes(t *testing.T) {
	image := []any{"batch", 3, 32, 32}
	for _, c := range []struct {
		name  string
		opset int64 // 17 when zero
		x     []any
		build func(s *sketch)
		want  string
	}{
		{"conv", 0, image, func(s *sketch) {
			s.weights("w", []int64{16, 3, 3, 3}).node("Conv", "x w", "y", attrInts("pads", 1, 1, 1, 1))
		}, "batch x 16 x 32 x 32"},
		{"conv, stride and dilation", 0, image, func(s *sketch) {
			s.weights("w", []int64{16, 3, 3, 5}).node("Conv", "x w", "y", attrInts("strides", 2, 3), attrInts("dilations", 1, 2))
		}, "batch x 16 x 15 x 8"},
		{"conv, same", 0, []any{"n", 3, 31, "wide"}, func(s *sketch) {
			s.weights("w", []int64{8, 3, 3, 3}).node("Conv", "x w", "y", attrInts("strides", 2, 1), attrString("auto_pad", "SAME_UPPER"))
		}, "n x 8 x 16 x wide"},
		{"conv, open height", 0, []any{1, 3, "h", "h"}, func(s *sketch) {
			s.weights("w", []int64{8, 3, 3, 3}).node("Conv", "x w", "y", attrInts("pads", 1, 0, 1, 0))
		}, "1 x 8 x h x (h - 2)"},
		{"conv, kernel larger than input", 0, []any{1, 3, 2, 9}, func(s *sketch) {
			s.weights("w", []int64{8, 3, 3, 3}).node("Conv", "x w", "y")
		}, "1 x 8 x ? x 7"},
		{"conv, nothing known of x", 0, nil, func(s *sketch) {
			s.weights("w", []int64{8, 3, 3, 3}).node("Oops", "", "u").node("Conv", "u w", "y")
		}, "? x 8 x ? x ?"},
		{"conv, hostile attributes", 0, image, func(s *sketch) {
			s.weights("w", []int64{8, 3, 3, 3}).node("Conv", "x w", "y", attrInts("strides", 0, -1))
		}, "batch x 8 x ? x ?"},
		{"conv, wrong rank", 0, image, func(s *sketch) { s.weights("w", []int64{8, 3, 3}).node("Conv", "x w", "y") }, "unknown"},
		{"transposed conv", 0, []any{"n", 8, 7, 7}, func(s *sketch) {
			s.weights("w", []int64{8, 4, 3, 3}).node("ConvTranspose", "x w", "y", attrInts("strides", 2, 2), attrInts("pads", 1, 1, 1, 1),
				attrInts("output_padding", 1, 1), attrInt("group", 2))
		}, "n x 8 x 14 x 14"},
		{"transposed conv, given size", 0, []any{"n", 8, 7, 7}, func(s *sketch) {
			s.weights("w", []int64{8, 4, 3, 3}).node("ConvTranspose", "x w", "y", attrInts("output_shape", 20, 21))
		}, "n x 4 x 20 x 21"},
		{"pool", 0, image, func(s *sketch) {
			s.node("MaxPool", "x", "y z", attrInts("kernel_shape", 3, 3), attrInts("strides", 2, 2))
		}, "batch x 3 x 15 x 15; batch x 3 x 15 x 15"},
		{"pool, ceiling", 0, image, func(s *sketch) {
			s.node("MaxPool", "x", "y", attrInts("kernel_shape", 3, 3), attrInts("strides", 2, 2), attrInt("ceil_mode", 1))
		}, "batch x 3 x 16 x 16"},
		{"pool, ceiling, last window in the padding", 0, []any{1, 1, 2, 2}, func(s *sketch) {
			s.node("AveragePool", "x", "y", attrInts("kernel_shape", 1, 1), attrInts("strides", 2, 2), attrInts("pads", 0, 0, 0, 0), attrInt("ceil_mode", 1))
		}, "1 x 1 x 1 x 1"},
		{"global pool", 0, image, func(s *sketch) { s.node("GlobalAveragePool", "x", "y") }, "batch x 3 x 1 x 1"},
		{"batch norm", 0, image, func(s *sketch) {
			s.weights("p", []int64{3}).node("BatchNormalization", "x p p p p", "y z")
		}, "batch x 3 x 32 x 32; 3"},
		{"broadcast", 0, []any{"n", 1, 8}, func(s *sketch) { s.weights("w", []int64{4, 1}).node("Add", "x w", "y") }, "n x 4 x 8"},
		{"broadcast of a symbol", 0, []any{"n", 4}, func(s *sketch) { s.weights("w", []int64{3, 1}).node("Mul", "x w", "y") }, "3 x 4"},
		{"broadcast of two symbols", 0, []any{"n", 4}, func(s *sketch) {
			s.node("Transpose", "x", "u").node("Mul", "x u", "y")
		}, "4 x 4"},
		{"broadcast that does not fit", 0, []any{2, 4}, func(s *sketch) { s.weights("w", []int64{3}).node("Mul", "x w", "y") }, "unknown"},
		{"old broadcast", 6, []any{2, 3, 4}, func(s *sketch) {
			s.weights("w", []int64{3}).node("Add", "x w", "y", attrInt("broadcast", 1), attrInt("axis", 1))
		}, "2 x 3 x 4"},
		{"compare", 0, []any{"n", 4}, func(s *sketch) { s.weights("w", []int64{1}).node("Less", "x w", "y") }, "n x 4"},
		{"where", 0, []any{"n", 4}, func(s *sketch) {
			s.weights("w", []int64{3, 1, 4}).node("Less", "x x", "k").node("Where", "k x w", "y")
		}, "3 x n x 4"},
		{"sum", 0, []any{2, 1}, func(s *sketch) { s.weights("w", []int64{3}).node("Sum", "x w x", "y") }, "2 x 3"},
		{"flatten", 0, []any{"batch", 512, 7, 7}, func(s *sketch) { s.node("Flatten", "x", "y") }, "batch x 25088"},
		{"flatten all of it", 0, []any{"batch", 512}, func(s *sketch) { s.node("Flatten", "x", "y", attrInt("axis", 0)) }, "1 x batch*512"},
		{"flatten from behind", 0, []any{"n", 2, 3}, func(s *sketch) { s.node("Flatten", "x", "y", attrInt("axis", -1)) }, "n*2 x 3"},
		{"reshape", 0, []any{"batch", 512, 7, 7}, func(s *sketch) { s.ints("s", 0, -1).node("Reshape", "x s", "y") }, "batch x 25088"},
		{"reshape, batch open", 0, []any{"batch", 512, 7, 7}, func(s *sketch) { s.ints("s", -1, 512).node("Reshape", "x s", "y") }, "batch*49 x 512"},
		{"reshape that does not divide", 0, []any{"batch", 3}, func(s *sketch) { s.ints("s", -1, 2).node("Reshape", "x s", "y") }, "? x 2"},
		{"reshape, two open", 0, []any{"batch", 3}, func(s *sketch) { s.ints("s", -1, -1).node("Reshape", "x s", "y") }, "unknown"},
		{"reshape that does not fit", 0, []any{2, 4}, func(s *sketch) { s.ints("s", 3, 3).node("Reshape", "x s", "y") }, "unknown"},
		{"slopes", 0, image, func(s *sketch) { s.weights("w", []int64{3, 1, 1}).node("PRelu", "x w", "y") }, "batch x 3 x 32 x 32"},
		{"slopes beyond", 0, []any{4, 1}, func(s *sketch) { s.weights("w", []int64{4, 3}).node("PRelu", "x w", "y") }, "unknown"},
		{"gemm that does not fit", 0, []any{2, 4}, func(s *sketch) { s.weights("w", []int64{5, 3}).node("Gemm", "x w", "y") }, "unknown"},
		{"groups that do not fit", 0, []any{1, 4, 8, 8}, func(s *sketch) {
			s.weights("w", []int64{3, 2, 3, 3}).node("Conv", "x w", "y", attrInt("group", 2))
		}, "unknown"},
		{"channels that do not fit", 0, []any{1, 4, 8, 8}, func(s *sketch) { s.weights("w", []int64{3, 5, 3, 3}).node("Conv", "x w", "y") }, "unknown"},
		{"attribute of another type", 0, []any{2, 4}, func(s *sketch) { s.node("Concat", "x x", "y", attrString("axis", "a")) }, "unknown"},
		{"reshape, zero is zero", 0, []any{0, 3}, func(s *sketch) { s.ints("s", 3, 0).node("Reshape", "x s", "y", attrInt("allowzero", 1)) }, "3 x 0"},
		{"reshape, old", 4, []any{2, 3}, func(s *sketch) { s.node("Reshape", "x", "y", attrInts("shape", 3, -1)) }, "3 x 2"},
		{"reshape to what only a run knows", 0, []any{2, 3}, func(s *sketch) {
			s.Graph.Input = append(s.Graph.Input, valueInfo("s", onnxfile.Int64, []any{3}))
			s.node("Reshape", "x s", "y")
		}, "? x ? x ?"},
		{"transpose", 0, image, func(s *sketch) { s.node("Transpose", "x", "y", attrInts("perm", 0, 2, 3, 1)) }, "batch x 32 x 32 x 3"},
		{"transpose, bad", 0, image, func(s *sketch) { s.node("Transpose", "x", "y", attrInts("perm", 0, 2, 2, 1)) }, "unknown"},
		{"concat", 0, image, func(s *sketch) { s.node("Concat", "x x", "y", attrInt("axis", 1)) }, "batch x 6 x 32 x 32"},
		{"concat of batches", 0, image, func(s *sketch) { s.node("Concat", "x x", "y", attrInt("axis", 0)) }, "batch*2 x 3 x 32 x 32"},
		{"split", 0, image, func(s *sketch) { s.node("Split", "x", "y z", attrInt("axis", -1)) }, "batch x 3 x 32 x 16; batch x 3 x 32 x 16"},
		{"split by sizes", 0, image, func(s *sketch) { s.ints("s", 1, 2).node("Split", "x s", "y z", attrInt("axis", 1)) }, "batch x 1 x 32 x 32; batch x 2 x 32 x 32"},
		{"split unevenly", 18, []any{7}, func(s *sketch) { s.node("Split", "x", "y z", attrInt("num_outputs", 2)) }, "4; 3"},
		{"slice", 0, image, func(s *sketch) {
			s.ints("a", 0, 1).ints("b", 1<<62, 31).ints("c", 0, 3).node("Slice", "x a b c", "y")
		}, "batch x 3 x 32 x 30"},
		{"slice backwards", 0, image, func(s *sketch) {
			s.ints("a", -1).ints("b", -1<<63).ints("c", 1).ints("d", -2).node("Slice", "x a b c d", "y")
		}, "batch x 2 x 32 x 32"},
		{"slice, old", 9, image, func(s *sketch) {
			s.node("Slice", "x", "y", attrInts("starts", 1), attrInts("ends", -1), attrInts("axes", 2))
		}, "batch x 3 x 30 x 32"},
		{"slice of the batch", 0, image, func(s *sketch) { s.ints("a", 1).ints("b", 9).ints("c", 0).node("Slice", "x a b c", "y") }, "? x 3 x 32 x 32"},
		{"squeeze", 0, []any{"n", 5, 1, 1}, func(s *sketch) { s.ints("a", 2, -1).node("Squeeze", "x a", "y") }, "n x 5"},
		{"squeeze, old", 11, []any{"n", 5, 1, 1}, func(s *sketch) { s.node("Squeeze", "x", "y", attrInts("axes", 2, 3)) }, "n x 5"},
		{"squeeze everything", 0, []any{2, 5, 1, 1}, func(s *sketch) { s.node("Squeeze", "x", "y") }, "2 x 5"},
		{"squeeze perhaps", 0, []any{"n", 5, 1, 1}, func(s *sketch) { s.node("Squeeze", "x", "y") }, "unknown"},
		{"unsqueeze", 0, []any{"n", 5}, func(s *sketch) { s.ints("a", 0, -1).node("Unsqueeze", "x a", "y") }, "1 x n x 5 x 1"},
		{"unsqueeze, old", 11, []any{"n", 5}, func(s *sketch) { s.node("Unsqueeze", "x", "y", attrInts("axes", 2, 3)) }, "n x 5 x 1 x 1"},
		{"pad", 0, image, func(s *sketch) { s.ints("p", 0, 0, 1, 2, 0, 0, 3, 4).node("Pad", "x p", "y") }, "batch x 3 x 36 x 38"},
		{"pad some axes", 18, image, func(s *sketch) { s.ints("p", 1, 2).ints("a", -1).node("Pad", "x p _ a", "y") }, "batch x 3 x 32 x 35"},
		{"pad, old", 10, image, func(s *sketch) { s.node("Pad", "x", "y", attrInts("pads", 0, 1, 0, 0, 0, 0, 0, -2)) }, "batch x 4 x 32 x 30"},
		{"reduce", 0, image, func(s *sketch) { s.node("ReduceMean", "x", "y", attrInts("axes", 2, 3)) }, "batch x 3 x 1 x 1"},
		{"reduce, input", 18, image, func(s *sketch) { s.ints("a", -1, -2).node("ReduceMean", "x a", "y", attrInt("keepdims", 0)) }, "batch x 3"},
		{"reduce everything", 0, image, func(s *sketch) { s.node("ReduceSum", "x", "y", attrInt("keepdims", 0)) }, "scalar"},
		{"reduce nothing", 18, image, func(s *sketch) { s.node("ReduceSum", "x", "y", attrInt("noop_with_empty_axes", 1)) }, "batch x 3 x 32 x 32"},
		{"arg max", 0, image, func(s *sketch) { s.node("ArgMax", "x", "y", attrInt("axis", 1), attrInt("keepdims", 0)) }, "batch x 32 x 32"},
		{"top k", 0, []any{"n", 100}, func(s *sketch) { s.ints("k", 5).node("TopK", "x k", "y z") }, "n x 5; n x 5"},
		{"gemm", 0, []any{"n", 512}, func(s *sketch) { s.weights("w", []int64{10, 512}).node("Gemm", "x w", "y", attrInt("transB", 1)) }, "n x 10"},
		{"matmul", 0, []any{"n", 49, 64}, func(s *sketch) { s.weights("w", []int64{64, 10}).node("MatMul", "x w", "y") }, "n x 49 x 10"},
		{"matmul of a vector", 0, []any{64}, func(s *sketch) { s.weights("w", []int64{5, 64, 10}).node("MatMul", "x w", "y") }, "5 x 10"},
		{"matmul that does not fit", 0, []any{2, 3}, func(s *sketch) { s.weights("w", []int64{4, 5}).node("MatMul", "x w", "y") }, "unknown"},
		{"resize", 0, image, func(s *sketch) {
			s.weights("f", []int64{4}, 1, 1, 2, 0.5).node("Resize", "x _ f", "y")
		}, "batch x 3 x 64 x 16"},
		{"resize to sizes", 0, image, func(s *sketch) { s.ints("n", 1, 3, 5, 6).node("Resize", "x _ _ n", "y") }, "1 x 3 x 5 x 6"},
		{"resize, old", 10, image, func(s *sketch) { s.weights("f", []int64{4}, 1, 1, 2, 2).node("Resize", "x f", "y") }, "batch x 3 x 64 x 64"},
		{"upsample", 7, image, func(s *sketch) { s.node("Upsample", "x", "y", attrFloats("scales", 1, 1, 2, 2)) }, "batch x 3 x 64 x 64"},
		{"depth to space", 0, []any{"n", 12, 4, 5}, func(s *sketch) { s.node("DepthToSpace", "x", "y", attrInt("blocksize", 2)) }, "n x 3 x 8 x 10"},
		{"space to depth", 0, []any{"n", 3, 4, 7}, func(s *sketch) { s.node("SpaceToDepth", "x", "y", attrInt("blocksize", 2)) }, "n x 12 x 2 x ?"},
		{"gather", 0, []any{"n", 5, 6}, func(s *sketch) { s.ints("i", 0, 2).node("Gather", "x i", "y", attrInt("axis", 1)) }, "n x 2 x 6"},
		{"gather one", 0, []any{"n", 5, 6}, func(s *sketch) { s.scalar("i", 0).node("Gather", "x i", "y", attrInt("axis", 1)) }, "n x 6"},
		{"expand", 0, []any{"n", 1}, func(s *sketch) { s.ints("e", 3, 1, 4).node("Expand", "x e", "y") }, "3 x n x 4"},
		{"tile", 0, []any{"n", 2}, func(s *sketch) { s.ints("r", 1, 3).node("Tile", "x r", "y") }, "n x 6"},
		{"quantize", 0, image, func(s *sketch) {
			s.weights("q", nil).node("QuantizeLinear", "x q", "u").node("DequantizeLinear", "u q", "y")
		}, "batch x 3 x 32 x 32"},
		{"unnamed dimensions are told apart", 0, []any{nil, 3, nil, nil}, func(s *sketch) { s.node("Reshape", "x t", "y").ints("t", 0, -1) }, "? x ?"},
		{"unnamed batch is followed", 0, []any{nil, 3, 4}, func(s *sketch) { s.node("Reshape", "x t", "y").ints("t", -1, 12) }, "? x 12"},
		{"negative dimensions are open", 0, []any{-1, 3}, func(s *sketch) { s.node("Relu", "x", "y") }, "? x 3"},
		{"unknown operator", 0, image, func(s *sketch) { s.node("Oops", "x", "y") }, "unknown"},
		{"unknown domain", 0, image, func(s *sketch) { s.node("my.domain/Relu", "x", "y") }, "unknown"},
		{"long form of the domain", 0, image, func(s *sketch) { s.node("ai.onnx/Relu", "x", "y") }, "batch x 3 x 32 x 32"},
		{"missing inputs", 0, image, func(s *sketch) { s.node("Conv", "", "y").node("Add", "_ _", "z") }, "unknown; unknown"},

		// What exporters make of x.view(x.size(0), -1), of x.flatten(2) and of
		// expand, interpolate and padding by computed sizes.
		{"view", 0, []any{"batch", 64, 7, 7}, func(s *sketch) {
			s.scalar("zero", 0).ints("axes", 0).ints("rest", -1).
				node("Shape", "x", "s").node("Gather", "s zero", "n").node("Unsqueeze", "n axes", "u").
				node("Concat", "u rest", "t", attrInt("axis", 0)).node("Reshape", "x t", "y")
		}, "batch x 3136"},
		{"view that merges the batch", 0, []any{"batch", 64, 7, 7}, func(s *sketch) {
			s.scalar("zero", 0).scalar("k", 49).ints("axes", 0).ints("rest", 64).
				node("Shape", "x", "s").node("Gather", "s zero", "n").node("Mul", "n k", "m").node("Unsqueeze", "m axes", "u").
				node("Concat", "u rest", "t", attrInt("axis", 0)).node("Reshape", "x t", "y")
		}, "batch*49 x 64"},
		{"flatten from an axis", 0, []any{"batch", 64, 7, 9}, func(s *sketch) {
			s.ints("from", 0).ints("to", 2).ints("rest", -1).
				node("Shape", "x", "s").node("Slice", "s from to", "head").
				node("Concat", "head rest", "t", attrInt("axis", 0)).node("Reshape", "x t", "y")
		}, "batch x 64 x 63"},
		{"expand by a mask", 0, []any{"batch", 64}, func(s *sketch) {
			s.ints("want", 5, -1, -1).ints("minus", -1).
				node("Constant", "", "three", attrInts("value_ints", 3)).
				node("ConstantOfShape", "three", "ones", attrTensor("value", intTensor("", []int64{1}, 1))).
				node("Mul", "ones minus", "m").node("Equal", "want m", "k").node("Where", "k ones want", "t").node("Expand", "x t", "y")
		}, "5 x batch x 64"},
		{"interpolate", 0, []any{"batch", 8, 10, 20}, func(s *sketch) {
			s.scalar("two", 2).weights("factor", nil, 1.5).ints("axes", 0).ints("from", 0).ints("to", 2).
				node("Shape", "x", "s").node("Gather", "s two", "h").node("Cast", "h", "hf", attrInt("to", 1)).
				node("Mul", "hf factor", "hm").node("Floor", "hm", "hr").node("Cast", "hr", "hi", attrInt("to", 7)).node("Unsqueeze", "hi axes", "hu").
				node("Slice", "s from to", "head").node("Concat", "head hu hu", "t", attrInt("axis", 0)).
				node("Resize", "x _ _ t", "y")
		}, "batch x 8 x 15 x 15"},
		// torch.nn.functional.pad lists the last dimension first.
		{"pads turned round", 0, []any{"batch", 16, 8, 8}, func(s *sketch) {
			s.ints("p", 1, 2, 3, 4).ints("four", 4).ints("two", -1, 2).ints("a", -1).ints("b", -1<<63).ints("c", 0).ints("d", -1).ints("flat", -1).
				node("ConstantOfShape", "four", "zeros", attrTensor("value", intTensor("", []int64{1}, 0))).
				node("Concat", "p zeros", "all", attrInt("axis", 0)).node("Reshape", "all two", "pairs").
				node("Slice", "pairs a b c d", "back").node("Transpose", "back", "tr", attrInts("perm", 1, 0)).
				node("Reshape", "tr flat", "q").node("Cast", "q", "t", attrInt("to", 7)).node("Pad", "x t", "y")
		}, "batch x 16 x 15 x 11"},
		{"half of a symbolic size", 0, []any{"batch", 16}, func(s *sketch) {
			s.scalar("zero", 0).scalar("two", 2).ints("axes", 0).ints("rest", -1).
				node("Shape", "x", "s").node("Gather", "s zero", "n").node("Div", "n two", "m").node("Unsqueeze", "m axes", "u").
				node("Concat", "u rest", "t", attrInt("axis", 0)).node("Reshape", "x t", "y")
		}, "floor(batch/2) x ?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSketch(cmp.Or(c.opset, 17))
			if c.x != nil {
				s.input("x", c.x...)
			}
			c.build(s)
			g := s.graph(t)
			got := g.Shape("y").String()
			if g.Has("z") {
				got += "; " + g.Shape("z").String()
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// A model's declarations speak for operators without a rule, and only while the
// model is described as it was exported.
func TestDeclaredShapes(t *testing.T) {
	s := newSketch(17).input("x", "batch", 3).
		node("my/Op", "x", "u").info("u", "batch", 7).
		node("Relu", "x", "v").info("v", 9, 9, 9). // stale
		node("my/Op", "u", "y").output("y", "batch", 5)
	for _, c := range []struct {
		opt  Options
		want string
	}{
		{Options{}, "batch x 7, batch x 3, batch x 5"},
		{Options{Batch: 2}, "unknown, 2 x 3, unknown"},
		{Options{Dims: map[string]int64{"batch": 4}}, "unknown, 4 x 3, unknown"},
		{Options{InputShapes: map[string][]int64{"x": {-1, 8}}}, "unknown, batch x 8, unknown"},
	} {
		m := s.model(t, c.opt)
		if got := fmt.Sprintf("%s, %s, %s", m.Graph.Shape("u"), m.Graph.Shape("v"), m.Outputs[0].Shape); got != c.want {
			t.Errorf("%+v: %s, want %s", c.opt, got, c.want)
		}
	}
	// A model that brings its own Relu means something else by it.
	s = newSketch(17).input("x", 2).node("Relu", "x", "y")
	s.Functions = []*onnxpb.FunctionProto{{Name: proto.String("Relu"), Domain: proto.String("")}}
	if got := s.graph(t).Shape("y").String(); got != "unknown" {
		t.Errorf("a function's output is %s", got)
	}
}

func TestInputOptions(t *testing.T) {
	s := newSketch(17).input("x", "n", 3, "h", nil).input("m", "n", "h").node("Relu", "x", "y").node("Relu", "m", "z")
	for _, c := range []struct {
		opt  Options
		want string // shapes of y and z, or the error
	}{
		{Options{}, "n x 3 x h x ?; n x h"},
		{Options{Batch: 8}, "8 x 3 x h x ?; 8 x h"},
		{Options{Dims: map[string]int64{"h": 32}}, "n x 3 x 32 x ?; n x 32"},
		{Options{InputShapes: map[string][]int64{"x": {2, 1, 9, 9}}}, "2 x 1 x 9 x 9; 2 x 9"},
		{Options{InputShapes: map[string][]int64{"x": {-1, -1, -1, 5}}}, "n x 3 x h x 5; n x h"},
		{Options{InputShapes: map[string][]int64{"q": {1}}}, `test.onnx: input "q": the model has no such input; it has "x", "m"`},
		{Options{InputShapes: map[string][]int64{"y": {1}}}, `test.onnx: input "y": the model has no such input; it has "x", "m"`},
		{Options{InputShapes: map[string][]int64{"x": {1}}}, `test.onnx: input "x": 1 dimensions are given, the model declares n x 3 x h x ?`},
		{Options{InputShapes: map[string][]int64{"m": {1, -2}}}, `test.onnx: input "m": dimension -2 is negative`},
		{Options{InputShapes: map[string][]int64{"x": {1, 3, 2, 2}, "m": {1, 5}}}, `test.onnx: input "m": dimension "h" is given as 2 and as 5`},
		{Options{Dims: map[string]int64{"k": 1}}, `test.onnx: no input has a dimension named "k"`},
		{Options{Dims: map[string]int64{"n": -1}}, `test.onnx: dimension "n" is given as -1, which is negative`},
	} {
		g, err := NewGraph(s.file(t), c.opt)
		got := ""
		if err != nil {
			var oe *OptionError
			if got = err.Error(); !errors.As(err, &oe) {
				t.Errorf("%T", err)
			}
		} else {
			got = g.Shape("y").String() + "; " + g.Shape("z").String()
		}
		if got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.opt, got, c.want)
		}
	}
}

// Folding must agree with arithmetic done by hand.
func TestFoldedValues(t *testing.T) {
	g := newSketch(17).input("x", "n", 3, 8, 8).
		ints("a", 7, -7, 5).ints("b", 2, 2, -3).ints("i", 2, 0).ints("half", 0, 1, 0).
		node("Shape", "x", "s").node("Shape", "x", "tail", attrInt("start", -2)).
		node("Div", "a b", "div").node("Mod", "a b", "mod").node("Mod", "a b", "fmod", attrInt("fmod", 1)).
		node("Gather", "s i", "g").node("Gather", "a i", "ga").
		node("ReduceProd", "tail", "prod", attrInt("keepdims", 0)).
		node("Size", "tail", "size").
		node("Max", "a b", "max").node("Min", "a b", "min").
		node("Neg", "a", "neg").node("Abs", "a", "abs").
		node("Range", "zero seven two", "range").scalar("zero", 0).scalar("seven", 7).scalar("two", 2).
		node("Greater", "a b", "gt").node("Where", "gt a b", "pick").
		node("Cast", "a", "f", attrInt("to", 1)).node("Sqrt", "f", "root").node("Cast", "f", "back", attrInt("to", 6)).
		node("Split", "a cut", "s1 s2").ints("cut", 1, 2).
		node("Tile", "a twice", "tile").ints("twice", 2).
		node("Relu", "f", "opaque").graph(t)
	for tensor, want := range map[string]string{
		"div": "[3 -3 -1]", "mod": "[1 1 -1]", "fmod": "[1 -1 2]", "ga": "[5 7]", "tail": "[8 8]", "prod": "[64]", "size": "[2]",
		"max": "[7 2 5]", "min": "[2 -7 -3]", "neg": "[-7 7 -5]", "abs": "[7 7 5]", "range": "[0 2 4 6]", "gt": "[1 0 1]", "pick": "[7 2 5]",
		"back": "[7 -7 5]", "s1": "[7]", "s2": "[-7 5]", "tile": "[7 -7 5 7 -7 5]",
		"s": "", "g": "", "opaque": "", "x": "", "f": "",
	} {
		v, ok := g.Ints(tensor)
		got := ""
		if ok {
			got = fmt.Sprint(v)
		}
		if got != want {
			t.Errorf("%s is %q, want %q", tensor, got, want)
		}
	}
	if d := g.DType("gt"); d != boolType {
		t.Errorf("Greater gives %s", d)
	}
}

// Integers beyond a double's precision keep their last digit.
func TestLargeIntegers(t *testing.T) {
	g := newSketch(17).ints("a", 1<<62+1).ints("b", -1).node("Add", "a b", "y").graph(t)
	if v, ok := g.Ints("y"); !ok || v[0] != 1<<62 {
		t.Errorf("%v, %v", v, ok)
	}
}

// A window's size is the number of places where it fits, counted.
func TestWindowCountsPlaces(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		in := 1 + rng.Int64N(20)
		w := window{
			kernel: []int64{1 + rng.Int64N(5)}, strides: []int64{1 + rng.Int64N(4)}, dilations: []int64{1 + rng.Int64N(3)},
			begin: []int64{rng.Int64N(4)}, end: []int64{rng.Int64N(4)}, auto: "NOTSET", ceil: rng.IntN(2) == 0,
		}
		extent := (w.kernel[0]-1)*w.dilations[0] + 1
		want := int64(0)
		for at := -w.begin[0]; at+extent <= in+w.end[0]; at += w.strides[0] {
			want++
		}
		if next := want*w.strides[0] - w.begin[0]; w.ceil && want > 0 && next < in && next-w.strides[0]+extent < in+w.end[0] {
			want++ // one more begins inside the input and hangs over
		}
		got, ok := w.size(0, integer(in)).number()
		if ok != (want > 0) || ok && got != want {
			t.Fatalf("%+v over %d: %d (%v), want %d", w, in, got, ok, want)
		}
	}
}

// cut agrees with walking the indices.
func TestCutWalks(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 50_000 {
		n := rng.Int64N(8)
		s, e, step := rng.Int64N(24)-12, rng.Int64N(24)-12, rng.Int64N(9)-4
		if step == 0 {
			continue
		}
		var want []int64
		from, to := s, e
		if from < 0 {
			from += n
		}
		if to < 0 {
			to += n
		}
		if step > 0 {
			for i := max(from, 0); i < min(to, n); i += step {
				want = append(want, i)
			}
		} else {
			// Unlike NumPy, ONNX begins at the first element when the start
			// lies before it.
			for i := min(max(from, 0), n-1); i > max(to, -1); i += step {
				want = append(want, i)
			}
		}
		length, first := cut(integer(n), integer(s), integer(e), step)
		if k, ok := length.number(); !ok || k != int64(len(want)) || k > 0 && first != want[0] {
			t.Fatalf("%d[%d:%d:%d]: %v from %d, want %v", n, s, e, step, length, first, want)
		}
	}
}

func TestBroadcastIsSymmetric(t *testing.T) {
	dims := []term{integer(1), integer(0), integer(3), integer(4), symbol("n"), symbol("m"), {}}
	for _, a := range dims {
		for _, b := range dims {
			x, ok1 := broadcastDim(a, b)
			y, ok2 := broadcastDim(b, a)
			if ok1 != ok2 || x.outer() != y.outer() {
				t.Errorf("%v with %v: %v %v, %v %v", a, b, x, ok1, y, ok2)
			}
		}
	}
}

// Nothing in a file may make shapes large.
func TestHostileSizes(t *testing.T) {
	long := strings.Repeat("d", 1<<16)
	many := make([]any, 100)
	for i := range many {
		many[i] = 2
	}
	s := newSketch(17).input("x", long, 3).input("deep", many...).
		node("Relu", "x", "a").node("Relu", "deep", "b").
		ints("huge", 1<<40, 1<<40).node("ConstantOfShape", "huge", "c").node("Range", "zero big one", "d").
		scalar("zero", 0).scalar("big", 1<<60).scalar("one", 1).
		node("Unsqueeze", "x axes", "e").ints("axes", slices.Repeat([]int64{0}, 200)...).
		node("Concat", "d d d", "f", attrInt("axis", 0))
	g := s.graph(t)
	for tensor, want := range map[string]string{"a": "? x 3", "b": "unknown", "c": "1099511627776 x 1099511627776", "d": "1152921504606846976", "e": "unknown", "f": "3458764513820540928"} {
		if got := g.Shape(tensor).String(); got != want {
			t.Errorf("%s is %s, want %s", tensor, got, want)
		}
	}
}
