package compact

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A drawing is a small model made for one rule or trap.
type drawing struct {
	name string
	net  func() *net
	opt  Options
	// dims are those of stored tensors as they must be written, "gone" when dropped.
	dims map[string]string
	// barrier is part of what the plan must say of a barrier.
	barrier string
	// skip is an engine without the operator.
	skip string
}

func in(dims ...int64) *net { return newNet(1, append([]int64{-1}, dims...)...) }

func drawings() []drawing {
	return []drawing{
		{name: "nothing reads it", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("r", "Relu", []string{"a"})
			n.conv("b", "r", 6, 5, 3, 1, 1)
			return n.head("b", 5).zero("b.w", 1, 1, 4)
		}, dims: map[string]string{"a.w": "4 3 3 3", "a.b": "4", "b.w": "5 4 3 3"}},
		{name: "to the fixed point", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.conv("b", "a", 6, 5, 3, 1, 1)
			n.conv("c", "b", 5, 5, 3, 1, 1)
			// Channel 2 of a is read by row 3 of b only, which nothing reads.
			n.head("c", 5).zero("c.w", 1, 3).zero("b.w", 1, 2)
			for k := range 9 {
				n.floatAt("b.w", ((3*6)+2)*9+k, 1)
			}
			return n
		}, dims: map[string]string{"a.w": "5 3 3 3", "b.w": "4 5 3 3", "c.w": "5 4 3 3"}},
		{name: "constant below zero, padded", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("r", "Relu", []string{"a"})
			n.conv("b", "r", 6, 5, 3, 1, 1)
			return n.head("b", 5).zero("a.w", 0, 2).set("a.b", 0, -1, 2)
		}, dims: map[string]string{"a.w": "5 3 3 3", "b.w": "5 5 3 3"}},
		{name: "constant above zero, padded", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("r", "Relu", []string{"a"})
			n.conv("b", "r", 6, 5, 3, 1, 1)
			return n.head("b", 5).zero("a.w", 0, 2).set("a.b", 0, 1, 2)
		}, dims: map[string]string{"a.w": "6 3 3 3", "b.w": "5 6 3 3"}},
		{name: "one constant stands for others", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("r", "Sigmoid", []string{"a"})
			n.conv("b", "r", 6, 5, 3, 1, 1)
			n.conv("c", "r", 6, 5, 5, 2, 1)
			n.node("sum", "Add", []string{"b", "c"})
			return n.head("sum", 5).zero("a.w", 0, 0, 2, 3, 5).zeroKernel("b.w", []int64{1}, 3)
		}, dims: map[string]string{"a.w": "3 3 3 3", "b.w": "5 3 3 3", "c.w": "5 3 5 5"}},
		{name: "one constant stands for others of its convolution group", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 12, 3, 1, 1)
			n.conv("b", "a", 12, 6, 3, 1, 2)
			return n.head("b", 6).zero("a.w", 0, 0, 1, 2, 6, 7, 8)
		}, dims: map[string]string{"a.w": "12 3 3 3"}},
		{name: "a constant that is asked for stands for none", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.conv("b", "a", 6, 5, 3, 1, 1)
			return n.head("b", 5).zero("a.w", 0, 0, 2, 3, 5).set("a.b", 0, 9, 0)
		}, opt: Options{Remove: map[string][]int{"a": {0, 1}}}, dims: map[string]string{"a.w": "2 3 3 3", "b.w": "5 2 3 3"}},
		{name: "a constant between layers that differ", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.floats("s", []float32{1, 2, 0, 1, 1, 3}, 6, 1, 1)
			n.node("m", "Mul", []string{"a", "s"})
			n.conv("b", "a", 6, 5, 3, 1, 1)
			n.conv("c", "m", 6, 5, 3, 1, 1)
			n.node("sum", "Add", []string{"b", "c"})
			return n.head("sum", 5).zero("a.w", 0, 1, 2, 5)
		}, dims: map[string]string{"a.w": "4 3 3 3", "s": "4 1 1"}},
		{name: "constant above zero, not padded", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("r", "Relu", []string{"a"})
			n.conv("b", "r", 6, 5, 3, 0, 1)
			return n.head("b", 5).zero("a.w", 0, 2).set("a.b", 0, 1, 2)
		}, dims: map[string]string{"a.w": "5 3 3 3", "b.w": "5 5 3 3", "b.b": "5"}},
		{name: "constant into a convolution without bias", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.weights("b.w", 5, 6, 1, 1)
			n.node("b", "Conv", []string{"a", "b.w"})
			return n.head("b", 5).zero("a.w", 0, 2)
		}, dims: map[string]string{"a.w": "5 3 3 3", "b.bias": "5"}},
		{name: "auto_pad pads, a kernel of 1 does not", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.weights("b.w", 5, 6, 1, 1)
			n.node("b", "Conv", []string{"a", "b.w"}, text("auto_pad", "SAME_UPPER"))
			n.weights("c.w", 5, 5, 2, 2)
			n.node("c", "Conv", []string{"b", "c.w"}, text("auto_pad", "SAME_UPPER"))
			n.zero("a.w", 0, 2).zero("b.w", 0, 1)
			n.node("s", "Sigmoid", []string{"c"})
			return n.head("s", 5)
		}, dims: map[string]string{"a.w": "5 3 3 3", "b.w": "4 5 1 1", "c.w": "5 4 2 2"}},
		{name: "activations keep a constant", net: func() *net {
			n := in(3, 8, 8)
			t := n.conv("a", "x", 3, 6, 3, 1, 1)
			n.zero("a.w", 0, 0, 5)
			for i, op := range []string{"Sigmoid", "Tanh", "LeakyRelu", "Elu", "HardSigmoid", "Softplus", "Abs", "Exp", "Selu", "Softsign", "Celu", "Neg", "Erf", "ThresholdedRelu"} {
				t = n.node(fmt.Sprint("act", i), op, []string{t})
			}
			n.conv("b", t, 6, 5, 1, 0, 1)
			return n.head("b", 5)
		}, dims: map[string]string{"a.w": "4 3 3 3", "b.w": "5 4 1 1"}},
		{name: "HardSwish and Clip", net: func() *net {
			n := in(3, 8, 8)
			n.opset = 14
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("h", "HardSwish", []string{"a"})
			n.floats("lo", []float32{-0.2})
			n.floats("hi", []float32{3})
			n.node("c", "Clip", []string{"h", "lo", "hi"})
			n.conv("b", "c", 6, 5, 1, 0, 1)
			return n.head("b", 5).zero("a.w", 0, 0, 5)
		}, dims: map[string]string{"a.w": "4 3 3 3", "b.w": "5 4 1 1"}},
		{name: "HardSwish in parts", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.floats("three", []float32{3})
			n.floats("six", []float32{6})
			n.floats("nought", []float32{0})
			n.node("p", "Add", []string{"a", "three"})
			n.node("q", "Clip", []string{"p", "nought", "six"})
			n.node("m", "Mul", []string{"a", "q"})
			n.node("h", "Div", []string{"m", "six"})
			n.conv("b", "h", 6, 5, 1, 0, 1)
			return n.head("b", 5).zero("a.w", 0, 0, 5)
		}, dims: map[string]string{"a.w": "4 3 3 3", "b.w": "5 4 1 1"}},
		{name: "BatchNorm", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.weights("g", 6)
			n.weights("be", 6)
			n.weights("mu", 6)
			n.floats("var", []float32{1, 2, 3, 4, 0.5, 1}, 6)
			n.node("bn", "BatchNormalization", []string{"a", "g", "be", "mu", "var"})
			n.conv("b", "bn", 6, 5, 1, 0, 1)
			// One by its kernels, one by gamma, one that nothing reads.
			return n.head("b", 5).zero("a.w", 0, 0).zero("g", 0, 3).zero("b.w", 1, 5)
		}, dims: map[string]string{"a.w": "3 3 3 3", "g": "3", "be": "3", "mu": "3", "var": "3", "b.w": "5 3 1 1"}},
		{name: "InstanceNorm", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.weights("g", 6)
			n.weights("be", 6)
			n.node("in", "InstanceNormalization", []string{"a", "g", "be"})
			n.conv("b", "in", 6, 5, 1, 0, 1)
			return n.head("b", 5).zero("g", 0, 3).zero("b.w", 1, 5)
		}, dims: map[string]string{"a.w": "4 3 3 3", "g": "4"}},
		{name: "PRelu", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.weights("slope", 6, 1, 1)
			n.node("p", "PRelu", []string{"a", "slope"})
			n.conv("b", "p", 6, 5, 1, 0, 1)
			return n.head("b", 5).zero("b.w", 1, 1).zero("a.w", 0, 0).set("a.b", 0, -2, 0)
		}, dims: map[string]string{"slope": "4 1 1"}},
		{name: "PRelu with one slope", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.weights("slope", 1, 1, 1)
			n.node("p", "PRelu", []string{"a", "slope"})
			n.conv("b", "p", 6, 5, 1, 0, 1)
			return n.head("b", 5).zero("b.w", 1, 1)
		}, dims: map[string]string{"slope": "1 1 1", "a.w": "5 3 3 3"}},
		{name: "residual: all must agree", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.conv("b", "a", 6, 6, 3, 1, 1)
			n.node("sum", "Add", []string{"a", "b"})
			n.conv("c", "sum", 6, 5, 1, 0, 1)
			// 1: b reads it still. 2: neither. 3: both constant, but b is padded.
			return n.head("c", 5).zero("c.w", 1, 1, 2).zero("b.w", 1, 2).zero("a.w", 0, 3).zero("b.w", 0, 3)
		}, dims: map[string]string{"a.w": "5 3 3 3", "b.w": "5 5 3 3", "c.w": "5 5 1 1"}},
		{name: "squeeze-excite", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("pool", "GlobalAveragePool", []string{"a"})
			n.conv("s1", "pool", 6, 3, 1, 0, 1)
			n.node("r", "Relu", []string{"s1"})
			n.conv("s2", "r", 3, 6, 1, 0, 1)
			n.node("gate", "Sigmoid", []string{"s2"})
			n.node("m", "Mul", []string{"gate", "a"})
			n.conv("b", "m", 6, 5, 3, 1, 1)
			// 1: nothing reads it at either place. 2: the gates still do.
			return n.head("b", 5).zero("b.w", 1, 1, 2).zero("s1.w", 1, 1).zero("s1.w", 0, 2)
		}, dims: map[string]string{"a.w": "5 3 3 3", "s1.w": "2 5 1 1", "s2.w": "5 2 1 1", "b.w": "5 5 3 3"}},
		{name: "gates of fully connected layers", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("pool", "ReduceMean", []string{"a"}, ints("axes", 2, 3), integer("keepdims", 0))
			n.gemm("s1", "pool", 6, 3)
			n.gemm("s2", "s1", 3, 6)
			n.node("gate", "Sigmoid", []string{"s2"})
			n.ints("shape", -1, 6, 1, 1)
			n.node("gate4", "Reshape", []string{"gate", "shape"})
			n.node("m", "Mul", []string{"a", "gate4"})
			n.conv("b", "m", 6, 5, 3, 1, 1)
			return n.head("b", 5).zero("b.w", 1, 1).zero("s1.w", 1, 1)
		}, dims: map[string]string{"a.w": "5 3 3 3", "s2.w": "5 3"}},
		{name: "a gate for each position", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.conv("s", "a", 6, 1, 3, 1, 1)
			n.node("m", "Mul", []string{"a", "s"})
			n.conv("b", "m", 6, 5, 3, 1, 1)
			// The gate still reads 3.
			return n.head("b", 5).zero("b.w", 1, 1, 3).zero("s.w", 1, 1)
		}, dims: map[string]string{"a.w": "5 3 3 3", "s.w": "1 5 3 3"}},
		{name: "times zero", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.floats("f", []float32{1, 0, 2, 1, 1, 1}, 1, 6, 1, 1)
			n.node("m", "Mul", []string{"a", "f"})
			n.conv("b", "m", 6, 5, 3, 1, 1)
			return n.head("b", 5)
		}, dims: map[string]string{"a.w": "5 3 3 3", "f": "1 5 1 1"}},
		{name: "depthwise", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 1, 0, 1)
			n.conv("d", "a", 6, 6, 3, 1, 6)
			n.conv("b", "d", 6, 5, 1, 0, 1)
			// 0: nothing reads it. 1: its own kernel is zero. 2: its input is constant, which the padding spoils.
			return n.head("b", 5).zero("b.w", 1, 0).zero("d.w", 0, 1).zero("a.w", 0, 2)
		}, dims: map[string]string{"a.w": "4 3 1 1", "d.w": "4 1 3 3", "b.w": "5 4 1 1"}},
		{name: "depthwise with a multiplier", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 4, 1, 0, 1)
			n.conv("d", "a", 4, 8, 3, 1, 4)
			n.conv("b", "d", 8, 5, 1, 0, 1)
			// Both outputs of 1 and one of 2.
			return n.head("b", 5).zero("b.w", 1, 2, 3, 4)
		}, dims: map[string]string{"a.w": "3 3 1 1", "d.w": "6 1 3 3", "b.w": "5 6 1 1"}},
		{name: "one output is not depthwise", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 4, 1, 0, 1)
			n.conv("d", "a", 4, 1, 3, 1, 1)
			n.conv("b", "d", 1, 5, 1, 0, 1)
			return n.head("b", 5).zero("d.w", 1, 2)
		}, dims: map[string]string{"a.w": "3 3 1 1", "d.w": "1 3 3 3"}},
		{name: "one input is not depthwise", net: func() *net {
			n := in(1, 8, 8)
			n.conv("a", "x", 1, 4, 3, 1, 1)
			return n.head("a", 4).zero("head.w", 1, 2)
		}, dims: map[string]string{"a.w": "3 1 3 3", "head.w": "4 3"}},
		{name: "grouped: a whole group", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 8, 1, 0, 1)
			n.conv("d", "a", 8, 8, 3, 1, 4)
			n.conv("b", "d", 8, 5, 1, 0, 1)
			return n.head("b", 5).zero("b.w", 1, 2, 3)
		}, dims: map[string]string{"a.w": "6 3 1 1", "d.w": "6 2 3 3", "b.w": "5 6 1 1"}},
		{name: "grouped: equal numbers of each group", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 8, 1, 0, 1)
			n.conv("d", "a", 8, 6, 3, 1, 2)
			n.conv("b", "d", 6, 5, 1, 0, 1)
			// Different places of the two groups, and one more of the second.
			return n.head("b", 5).zero("b.w", 1, 2, 3, 4).zeroKernel("d.w", []int64{0, 1, 2}, 3).zeroKernel("d.w", []int64{3, 4, 5}, 0)
		}, dims: map[string]string{"a.w": "6 3 1 1", "d.w": "4 3 3 3", "b.w": "5 4 1 1"}},
		{name: "ConvTranspose", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.weights("t.w", 6, 5, 2, 2)
			n.weights("t.b", 5)
			n.node("t", "ConvTranspose", []string{"a", "t.w", "t.b"}, ints("strides", 2, 2))
			n.conv("b", "t", 5, 5, 1, 0, 1)
			// An input that is not read, an input that is constant, an output that is constant.
			return n.head("b", 5).zero("t.w", 0, 1).zero("a.w", 0, 2).zero("t.w", 1, 3)
		}, dims: map[string]string{"a.w": "5 3 3 3", "t.w": "5 4 2 2", "t.b": "4", "b.w": "5 4 1 1"}},
		{name: "Concat", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 4, 1, 0, 1)
			n.conv("b", "x", 3, 5, 1, 0, 1)
			n.node("cat", "Concat", []string{"a", "b", "a"}, integer("axis", 1))
			n.conv("c", "cat", 13, 5, 1, 0, 1)
			// 1 of a at both places, 2 of a at one, 3 of b.
			return n.head("c", 5).zero("c.w", 1, 1, 10, 2, 7)
		}, dims: map[string]string{"a.w": "3 3 1 1", "b.w": "4 3 1 1", "c.w": "5 10 1 1"}},
		{name: "Concat of positions", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 4, 1, 0, 1)
			n.conv("b", "x", 3, 4, 1, 0, 1)
			n.node("cat", "Concat", []string{"a", "b"}, integer("axis", -1))
			n.conv("c", "cat", 4, 5, 1, 0, 1)
			return n.head("c", 5).zero("c.w", 1, 1)
		}, dims: map[string]string{"a.w": "3 3 1 1", "b.w": "3 3 1 1"}},
		{name: "Concat with stored channels", net: func() *net {
			n := newNet(1, 2, 3, 8, 8)
			n.conv("a", "x", 3, 4, 1, 0, 1)
			n.weights("more", 2, 3, 8, 8)
			n.node("cat", "Concat", []string{"a", "more"}, integer("axis", 1))
			n.conv("c", "cat", 7, 5, 1, 0, 1)
			return n.head("c", 5).zero("c.w", 1, 1, 5)
		}, dims: map[string]string{"a.w": "3 3 1 1", "more": "2 2 8 8"}},
		{name: "Split", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 7, 1, 0, 1)
			n.ints("sizes", 3, 4)
			n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: proto.String("Split"), Name: proto.String("sp"), Input: []string{"a", "sizes"},
				Output: []string{"p", "q"}, Attribute: []*onnxpb.AttributeProto{integer("axis", 1)}})
			n.conv("b", "p", 3, 5, 1, 0, 1)
			n.conv("c", "q", 4, 5, 1, 0, 1)
			n.node("sum", "Add", []string{"b", "c"})
			return n.head("sum", 5).zero("b.w", 1, 1).zero("c.w", 1, 0, 2)
		}, dims: map[string]string{"a.w": "4 3 1 1", "b.w": "5 2 1 1", "c.w": "5 2 1 1", "sizes": "gone"}},
		{name: "Split into equal parts", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 8, 1, 0, 1)
			n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: proto.String("Split"), Name: proto.String("sp"), Input: []string{"a"},
				Output: []string{"p", "q"}, Attribute: []*onnxpb.AttributeProto{integer("axis", 1)}})
			n.conv("b", "p", 4, 5, 1, 0, 1)
			n.conv("c", "q", 4, 5, 1, 0, 1)
			n.node("sum", "Add", []string{"b", "c"})
			return n.head("sum", 5).zero("b.w", 1, 1)
		}, dims: map[string]string{"a.w": "7 3 1 1", "b.w": "5 3 1 1"}},
		{name: "Slice of channels", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 8, 1, 0, 1)
			n.ints("from", 2, 1)
			n.ints("to", 6, 7)
			n.ints("axes", 1, 2)
			n.node("s", "Slice", []string{"a", "from", "to", "axes"})
			n.conv("b", "s", 4, 5, 1, 0, 1)
			// 0, 1, 6 and 7 of a are not taken.
			return n.head("b", 5).zero("b.w", 1, 1)
		}, dims: map[string]string{"a.w": "3 3 1 1", "b.w": "5 3 1 1"}},
		{name: "Slice of positions", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 8, 1, 0, 1)
			n.ints("from", 0, 0)
			n.ints("to", 8, 8)
			n.ints("axes", 2, 3)
			n.ints("steps", 2, 2)
			n.node("s", "Slice", []string{"a", "from", "to", "axes", "steps"})
			n.conv("b", "s", 8, 5, 1, 0, 1)
			return n.head("b", 5).zero("b.w", 1, 1)
		}, dims: map[string]string{"a.w": "7 3 1 1"}},
		{name: "Flatten into Gemm", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("p", "MaxPool", []string{"a"}, ints("kernel_shape", 4, 4), ints("strides", 4, 4))
			n.node("flat", "Flatten", []string{"p"})
			return n.out(n.gemm("head", "flat", 24, 4)).zero("head.w", 1, 4, 5, 6, 7, 8)
		}, dims: map[string]string{"a.w": "5 3 3 3", "head.w": "4 20"}},
		{name: "Reshape into Gemm, not transposed, alpha and beta", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("p", "MaxPool", []string{"a"}, ints("kernel_shape", 4, 4), ints("strides", 4, 4))
			n.ints("shape", -1, 24)
			n.node("flat", "Reshape", []string{"p", "shape"})
			n.weights("w", 24, 4)
			n.weights("b", 1, 4)
			n.node("head", "Gemm", []string{"flat", "w", "b"}, number("alpha", 0.5), number("beta", 2))
			return n.out("head").zero("w", 0, 4, 5, 6, 7).zero("a.w", 0, 3)
		}, dims: map[string]string{"a.w": "4 3 3 3", "w": "16 4"}},
		{name: "Reshape that copies and infers", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.ints("shape", 0, 0, -1)
			n.node("r", "Reshape", []string{"a", "shape"})
			n.node("m", "ReduceMax", []string{"r"}, ints("axes", 2), integer("keepdims", 0))
			return n.out(n.gemm("head", "m", 6, 4)).zero("head.w", 1, 4)
		}, dims: map[string]string{"a.w": "5 3 3 3", "shape": "3"}},
		{name: "view(x.size(0), -1)", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("p", "MaxPool", []string{"a"}, ints("kernel_shape", 4, 4), ints("strides", 4, 4))
			n.node("s", "Shape", []string{"p"})
			n.ints("nought", 0)
			n.node("g", "Gather", []string{"s", "nought"}, integer("axis", 0))
			n.ints("rest", -1)
			n.node("c", "Concat", []string{"g", "rest"}, integer("axis", 0))
			n.node("flat", "Reshape", []string{"p", "c"})
			return n.out(n.gemm("head", "flat", 24, 4)).zero("head.w", 1, 4, 5, 6, 7)
		}, dims: map[string]string{"a.w": "5 3 3 3", "head.w": "4 20"}},
		{name: "the number of channels in arithmetic", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("s", "Shape", []string{"a"})
			n.node("c", "Cast", []string{"s"}, integer("to", 1))
			n.node("m", "ReduceMax", []string{"c"}, integer("keepdims", 0))
			n.node("d", "Div", []string{"a", "m"})
			return n.head("d", 6).zero("head.w", 1, 4)
		}, dims: map[string]string{"a.w": "6 3 3 3"}, barrier: "arithmetic"},
		{name: "channels last", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("p", "MaxPool", []string{"a"}, ints("kernel_shape", 4, 4), ints("strides", 4, 4))
			n.node("t", "Transpose", []string{"p"}, ints("perm", 0, 2, 3, 1))
			n.weights("bias", 6)
			n.node("add", "Add", []string{"t", "bias"})
			n.node("flat", "Flatten", []string{"add"})
			return n.out(n.gemm("head", "flat", 24, 4)).zero("head.w", 1, 1, 7, 13, 19, 2)
		}, dims: map[string]string{"a.w": "5 3 3 3", "bias": "5", "head.w": "4 20"}},
		{name: "MatMul on the last axis", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("t", "Transpose", []string{"a"}, ints("perm", 0, 2, 3, 1))
			n.weights("w", 6, 5)
			n.node("mm", "MatMul", []string{"t", "w"})
			n.weights("bias", 5)
			n.node("add", "Add", []string{"bias", "mm"})
			n.node("r", "Relu", []string{"add"})
			n.weights("w2", 5, 4)
			n.node("mm2", "MatMul", []string{"r", "w2"})
			n.node("mean", "ReduceMean", []string{"mm2"}, ints("axes", 1, 2), integer("keepdims", 0))
			// One not read, one constant that is added, one output that nothing reads, one that is constant.
			return n.out("mean").zero("w", 0, 1).zero("a.w", 0, 2).zero("w2", 0, 3).zero("w", 1, 0).set("bias", 0, 0.7, 0)
		}, dims: map[string]string{"a.w": "4 3 3 3", "w": "4 3", "bias": "3", "w2": "3 4", "mm.bias": "3", "mm2.bias": "4"}},
		{name: "MatMul of another axis", net: func() *net {
			n := in(3, 4, 8)
			n.node("i", "Identity", []string{"x"})
			n.conv("a", "i", 3, 6, 3, 1, 1)
			n.weights("w", 8, 5)
			n.node("mm", "MatMul", []string{"a", "w"})
			return n.head("mm", 6).zero("head.w", 1, 1)
		}, dims: map[string]string{"a.w": "6 3 3 3", "w": "8 5"}, barrier: "another axis"},
		{name: "weights through Transpose and Identity", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("gap", "GlobalAveragePool", []string{"a"})
			n.node("flat", "Flatten", []string{"gap"})
			n.weights("w", 4, 6)
			n.node("wi", "Identity", []string{"w"})
			n.node("wt", "Transpose", []string{"wi"}, ints("perm", 1, 0))
			n.node("head", "MatMul", []string{"flat", "wt"})
			n.g.ValueInfo = append(n.g.ValueInfo, value("wt", 6, 4))
			return n.out("head").zero("w", 1, 5)
		}, dims: map[string]string{"a.w": "5 3 3 3", "w": "4 5"}},
		{name: "a bias put into shape", net: func() *net {
			n := in(3, 8, 8)
			n.weights("w", 6, 3, 3, 3)
			n.node("a", "Conv", []string{"x", "w"})
			n.weights("b", 6)
			n.ints("axes", 1, 2)
			n.node("b3", "Unsqueeze", []string{"b", "axes"})
			n.node("add", "Add", []string{"a", "b3"})
			return n.head("add", 6).zero("head.w", 1, 5)
		}, dims: map[string]string{"w": "5 3 3 3", "b": "5"}},
		{name: "Pad of positions", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("r", "Relu", []string{"a"})
			n.ints("pads", 0, 0, 1, 1, 0, 0, 1, 1)
			n.node("p", "Pad", []string{"r", "pads"})
			n.conv("b", "p", 6, 5, 3, 0, 1)
			// Not read; 0; a constant that the padding spoils.
			return n.head("b", 5).zero("b.w", 1, 0).zero("a.w", 0, 1, 2).set("a.b", 0, -1, 1).set("a.b", 0, 1, 2)
		}, dims: map[string]string{"a.w": "4 3 3 3"}},
		{name: "Pad with the channel's own value", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.ints("pads", 0, 0, 1, 1, 0, 0, 1, 1)
			n.floats("v", []float32{0.5})
			n.node("p", "Pad", []string{"a", "pads", "v"})
			n.conv("b", "p", 6, 5, 3, 0, 1)
			return n.head("b", 5).zero("a.w", 0, 1, 2).set("a.b", 0, 0.5, 1)
		}, dims: map[string]string{"a.w": "5 3 3 3"}},
		{name: "Pad by reflection", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.ints("pads", 0, 0, 1, 1, 0, 0, 1, 1)
			n.node("p", "Pad", []string{"a", "pads"}, text("mode", "reflect"))
			n.conv("b", "p", 6, 5, 3, 0, 1)
			return n.head("b", 5).zero("a.w", 0, 1)
		}, dims: map[string]string{"a.w": "5 3 3 3"}},
		{name: "Pad of channels, as ResNet-20 widens", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 4, 3, 1, 1)
			n.ints("pads", 0, 2, 0, 0, 0, 2, 0, 0)
			n.node("p", "Pad", []string{"a", "pads"})
			n.conv("b", "a", 4, 8, 3, 1, 1)
			n.node("sum", "Add", []string{"b", "p"})
			n.conv("c", "sum", 8, 5, 3, 1, 1)
			// 0 and 7 are padding at one side, 3 is channel 1 of a.
			return n.head("c", 5).zero("c.w", 1, 0, 7, 3).zero("b.w", 1, 1)
		}, dims: map[string]string{"a.w": "3 3 3 3", "b.w": "5 3 3 3", "c.w": "5 5 3 3", "pads": "gone", "p.pads": "8"}},
		{name: "pools", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("m", "MaxPool", []string{"a"}, ints("kernel_shape", 3, 3), ints("pads", 1, 1, 1, 1))
			n.node("v", "AveragePool", []string{"m"}, ints("kernel_shape", 3, 3), ints("pads", 1, 1, 1, 1))
			n.conv("b", "v", 6, 5, 1, 0, 1)
			return n.head("b", 5).zero("a.w", 0, 1).set("a.b", 0, -1, 1).zero("b.w", 1, 5)
		}, dims: map[string]string{"a.w": "4 3 3 3"}},
		{name: "AveragePool that counts the padding", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("r", "Relu", []string{"a"})
			n.node("v", "AveragePool", []string{"r"}, ints("kernel_shape", 3, 3), ints("pads", 1, 1, 1, 1), integer("count_include_pad", 1))
			n.conv("b", "v", 6, 5, 1, 0, 1)
			return n.head("b", 5).zero("a.w", 0, 1, 2).set("a.b", 0, 1, 1).set("a.b", 0, -1, 2)
		}, dims: map[string]string{"a.w": "5 3 3 3"}},
		{name: "AveragePool that rounds up", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("v", "AveragePool", []string{"a"}, ints("kernel_shape", 2, 2), ints("strides", 3, 3), integer("ceil_mode", 1))
			n.conv("b", "v", 6, 5, 1, 0, 1)
			return n.head("b", 5).zero("a.w", 0, 1).zero("b.w", 1, 0)
		}, dims: map[string]string{"a.w": "5 3 3 3"}},
		{name: "GlobalMaxPool, Dropout, Squeeze", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("g", "GlobalMaxPool", []string{"a"})
			n.node("d", "Dropout", []string{"g"})
			n.ints("axes", 2, 3)
			n.node("s", "Squeeze", []string{"d", "axes"})
			return n.out(n.gemm("head", "s", 6, 4)).zero("head.w", 1, 4).zero("a.w", 0, 0)
		}, dims: map[string]string{"a.w": "4 3 3 3", "head.w": "4 4"}},
		{name: "Softmax at the end", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.head("a", 6).zero("head.w", 1, 4).zero("head.w", 0, 2)
			n.g.Output = nil
			return n.out(n.node("soft", "Softmax", []string{"head"}, integer("axis", 1)))
		}, dims: map[string]string{"a.w": "5 3 3 3", "head.w": "4 5"}, barrier: "no rule"},
		{name: "LRN in the middle", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("l", "LRN", []string{"a"}, integer("size", 3))
			n.conv("b", "l", 6, 5, 3, 1, 1)
			return n.head("b", 5).zero("b.w", 1, 2).zero("head.w", 1, 1)
		}, dims: map[string]string{"a.w": "6 3 3 3", "b.w": "4 6 3 3"}, barrier: "no rule"},
		{name: "channel shuffle", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.ints("s1", -1, 2, 3, 8, 8)
			n.ints("s2", -1, 6, 8, 8)
			n.node("r1", "Reshape", []string{"a", "s1"})
			n.node("t", "Transpose", []string{"r1"}, ints("perm", 0, 2, 1, 3, 4))
			n.node("r2", "Reshape", []string{"t", "s2"})
			n.conv("b", "r2", 6, 5, 3, 1, 1)
			return n.head("b", 5).zero("b.w", 1, 2)
		}, dims: map[string]string{"a.w": "6 3 3 3"}, barrier: "parts the channels"},
		{name: "an output in the middle", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.conv("b", "a", 6, 5, 3, 1, 1)
			return n.head("b", 5).out("a").zero("b.w", 1, 2)
		}, dims: map[string]string{"a.w": "6 3 3 3"}},
		{name: "shared weights", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("a2", "Conv", []string{"x", "a.w", "a.b"}, ints("pads", 1, 1, 1, 1), ints("dilations", 1, 1))
			n.conv("b", "a", 6, 5, 3, 1, 1)
			n.conv("c", "a2", 6, 5, 3, 1, 1)
			n.node("sum", "Add", []string{"b", "c"})
			return n.head("sum", 5).zero("b.w", 1, 2, 3).zero("c.w", 1, 2)
		}, dims: map[string]string{"a.w": "5 3 3 3", "b.w": "5 5 3 3", "c.w": "5 5 3 3"}},
		{name: "a shared bias is not folded into", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.conv("b", "a", 6, 5, 1, 0, 1)
			n.weights("c.w", 5, 3, 1, 1)
			n.node("c", "Conv", []string{"x", "c.w", "b.b"})
			n.node("sum", "Add", []string{"b", "c"})
			return n.head("sum", 5).zero("a.w", 0, 2)
		}, dims: map[string]string{"a.w": "5 3 3 3", "b.b": "5", "b.bias": "5"}},
		{name: "a weight that is read otherwise too", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("w2", "Softmax", []string{"a.w"})
			n.node("a2", "Conv", []string{"x", "w2"}, ints("pads", 1, 1, 1, 1))
			n.node("sum", "Add", []string{"a", "a2"})
			return n.head("sum", 6).zero("head.w", 1, 2)
		}, dims: map[string]string{"a.w": "6 3 3 3"}, barrier: "not stored"},
		{name: "a weight that is read along other axes", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("pool", "ReduceMean", []string{"a"}, ints("axes", 2, 3), integer("keepdims", 0))
			n.gemm("s1", "pool", 6, 3)
			n.gemm("s2", "s1", 3, 6)
			n.ints("shape", -1, 6, 1, 1)
			n.node("gate4", "Reshape", []string{"s2", "shape"})
			n.node("m", "Mul", []string{"s2.w", "gate4"})
			n.conv("b", "m", 6, 5, 3, 1, 1)
			return n.head("b", 5).zero("b.w", 1, 1).zero("s1.w", 1, 1)
		}, dims: map[string]string{"a.w": "5 3 3 3", "s2.w": "6 3", "b.w": "5 6 3 3"}},
		{name: "one tensor twice in a node", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.conv("one", "a", 6, 2, 3, 1, 1)
			n.node("gap", "GlobalAveragePool", []string{"one"})
			n.node("flat", "Flatten", []string{"gap"})
			n.weights("w", 2, 2)
			n.node("two", "Gemm", []string{"flat", "w", "w"})
			return n.out("two").zero("one.w", 0, 0).zero("one.w", 1, 3)
		}, dims: map[string]string{"a.w": "5 3 3 3", "one.w": "2 5 3 3"}, barrier: "bias", skip: "gorgonia"},
		{name: "initializers that are inputs", net: func() *net {
			n := in(3, 8, 8)
			n.ir, n.opset = 3, 8
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.weights("b.w", 5, 6, 1, 1)
			n.node("b", "Conv", []string{"a", "b.w"})
			n.conv("c", "b", 5, 6, 1, 0, 1)
			n.head("c", 6).zero("a.w", 0, 2).zero("b.w", 0, 0).zero("c.w", 1, 1).zero("head.w", 1, 1).weights("unused", 3)
			n.floatAt("b.w", 2, 0.5) // of the constant channel: a constant too
			for _, t := range n.g.Initializer {
				n.g.Input = append(n.g.Input, value(t.GetName(), t.Dims...))
			}
			return n
		}, dims: map[string]string{"a.w": "5 3 3 3", "b.bias": "3", "c.b": "5", "unused": "gone"}},
		{name: "weights in Constant nodes", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.constant("a.w")
			n.g.Node = append([]*onnxpb.NodeProto{{OpType: proto.String("Constant"), Output: []string{"f"}, Attribute: []*onnxpb.AttributeProto{
				{Name: proto.String("value_floats"), Type: onnxpb.AttributeProto_FLOATS.Enum(), Floats: []float32{1, 2, 3, 4, 5, 6}}}}}, n.g.Node...)
			n.node("t", "Transpose", []string{"a"}, ints("perm", 0, 2, 3, 1))
			n.node("m", "Mul", []string{"t", "f"})
			n.node("t2", "Transpose", []string{"m"}, ints("perm", 0, 3, 1, 2))
			n.head("t2", 6).zero("head.w", 1, 2)
			n.constant("head.w")
			return n
		}, dims: map[string]string{"a.b": "5"}},
		{name: "unused tensors and nodes", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.weights("lost", 7)
			n.conv("dead", "a", 6, 9, 3, 1, 1)
			n.node("deader", "Relu", []string{"dead"})
			n.g.ValueInfo = append(n.g.ValueInfo, value("nowhere", 1), value("a", -1, 6, 8, 8), value("dead", -1, 9, 8, 8))
			return n.head("a", 6).zero("head.w", 1, 0)
		}, dims: map[string]string{"a.w": "5 3 3 3", "lost": "gone", "dead.w": "gone", "dead.b": "gone"}},
		{name: "one channel stays", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.conv("b", "a", 6, 5, 3, 1, 1)
			return n.head("b", 5).zero("b.w", 0, 0, 1, 2, 3, 4)
		}, dims: map[string]string{"a.w": "1 3 3 3", "b.w": "1 1 3 3", "head.w": "4 1"}},
		{name: "multiples of 4", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 14, 3, 1, 1)
			n.conv("b", "a", 14, 6, 3, 1, 1)
			return n.head("b", 6).zero("b.w", 1, 0, 1, 2, 3, 4, 5, 6, 7, 8).zero("head.w", 1, 1)
		}, opt: Options{RoundTo: 4}, dims: map[string]string{"a.w": "8 3 3 3", "b.w": "6 8 3 3"}},
		{name: "asked for, through BatchNorm and a residual sum", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.weights("g", 6)
			n.weights("be", 6)
			n.weights("mu", 6)
			n.floats("var", []float32{1, 2, 3, 4, 0.5, 1}, 6)
			n.node("bn", "BatchNormalization", []string{"a", "g", "be", "mu", "var"})
			n.conv("b", "bn", 6, 6, 3, 1, 1)
			n.node("sum", "Add", []string{"bn", "b"})
			n.conv("c", "sum", 6, 5, 3, 1, 1)
			return n.head("c", 5)
		}, opt: Options{Remove: map[string][]int{"b": {4}, "a": {1}, "c": {0, 1}}},
			dims: map[string]string{"a.w": "4 3 3 3", "g": "4", "b.w": "4 4 3 3", "c.w": "3 4 3 3", "head.w": "4 3"}},
		{name: "asked for: what only it read goes too", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("r", "Relu", []string{"a"})
			n.conv("b", "r", 6, 5, 3, 1, 1)
			n.conv("c", "b", 5, 5, 1, 0, 1)
			n.zero("b.w", 1, 2)
			n.floatAt("b.w", ((1*6)+2)*9, 1)
			// Row 3 of c reads b's channel 1 only: it is constant without it.
			n.zero("c.w", 0, 3)
			n.floatAt("c.w", 3*5+1, 1)
			return n.head("c", 5)
		}, opt: Options{Remove: map[string][]int{"b": {1}}},
			dims: map[string]string{"a.w": "5 3 3 3", "b.w": "4 5 3 3", "c.w": "4 4 1 1", "head.w": "4 4"}},
		{name: "asked for, depthwise and gates", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 1, 0, 1)
			n.conv("d", "a", 6, 6, 3, 1, 6)
			n.node("pool", "GlobalAveragePool", []string{"d"})
			n.conv("s1", "pool", 6, 3, 1, 0, 1)
			n.conv("s2", "s1", 3, 6, 1, 0, 1)
			n.node("gate", "Sigmoid", []string{"s2"})
			n.node("m", "Mul", []string{"gate", "d"})
			n.conv("b", "m", 6, 5, 1, 0, 1)
			return n.head("b", 5)
		}, opt: Options{Remove: map[string][]int{"d": {4, 2}, "s1": {0}}, RoundTo: 2},
			dims: map[string]string{"a.w": "4 3 1 1", "d.w": "4 1 3 3", "s1.w": "2 4 1 1", "s2.w": "4 2 1 1", "b.w": "5 4 1 1"}},
		{name: "one dimension and three", net: func() *net {
			n := in(3, 8)
			n.weights("a.w", 6, 3, 3)
			n.node("a", "Conv", []string{"x", "a.w"}, ints("pads", 1, 1))
			n.node("g", "GlobalAveragePool", []string{"a"})
			n.node("flat", "Flatten", []string{"g"})
			return n.out(n.gemm("head", "flat", 6, 4)).zero("head.w", 1, 4)
		}, dims: map[string]string{"a.w": "5 3 3"}},
		{name: "an If reads it", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("yes"), DataType: proto.Int32(9), Int32Data: []int32{1}})
			branch := func(name, op string) *onnxpb.AttributeProto {
				return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: &onnxpb.GraphProto{Name: proto.String(name),
					Node:   []*onnxpb.NodeProto{{OpType: proto.String(op), Input: []string{"a"}, Output: []string{name + ".out"}}},
					Output: []*onnxpb.ValueInfoProto{value(name+".out", -1, 6, 8, 8)}}}
			}
			n.node("if", "If", []string{"yes"}, branch("then_branch", "Relu"), branch("else_branch", "Neg"))
			n.conv("b", "if", 6, 5, 3, 1, 1)
			return n.head("b", 5).zero("b.w", 1, 2)
		}, dims: map[string]string{"a.w": "6 3 3 3"}, barrier: "nested", skip: "gorgonia"},
		{name: "attributes of old operator sets", net: func() *net {
			n := in(3, 8, 8)
			n.opset = 9
			n.conv("a", "x", 3, 8, 1, 0, 1)
			n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: proto.String("Split"), Name: proto.String("sp"), Input: []string{"a"},
				Output: []string{"p", "q"}, Attribute: []*onnxpb.AttributeProto{integer("axis", 1), ints("split", 3, 5)}})
			n.node("s", "Slice", []string{"q"}, ints("axes", 1), ints("starts", 1), ints("ends", 4))
			n.node("pd", "Pad", []string{"s"}, ints("pads", 0, 2, 0, 0, 0, 1, 0, 0))
			n.conv("b", "p", 3, 5, 1, 0, 1)
			n.conv("c", "pd", 6, 5, 1, 0, 1)
			n.node("sum", "Sum", []string{"b", "c", "b"})
			n.node("gap", "GlobalAveragePool", []string{"sum"})
			n.node("flat", "Squeeze", []string{"gap"}, ints("axes", 2, 3))
			// q is 3 to 7 of a, s 4 to 6 of a; c reads none of the padding.
			return n.out(n.gemm("head", "flat", 5, 4)).zero("b.w", 1, 1).zero("c.w", 1, 0, 3)
		}, dims: map[string]string{"a.w": "4 3 1 1", "b.w": "5 2 1 1", "c.w": "5 2 1 1"}},
		{name: "Gemm that transposes its input", net: func() *net {
			n := newNet(1, 2, 3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("gap", "GlobalAveragePool", []string{"a"})
			n.node("flat", "Flatten", []string{"gap"})
			n.node("t", "Transpose", []string{"flat"})
			n.weights("w", 6, 4)
			return n.out(n.node("head", "Gemm", []string{"t", "w"}, integer("transA", 1))).zero("w", 0, 2).zero("a.w", 0, 1)
		}, dims: map[string]string{"a.w": "4 3 3 3", "w": "4 4", "head.bias": "4"}},
		{name: "double precision", net: func() *net {
			n := in(3, 8, 8)
			n.node("gap", "GlobalAveragePool", []string{"x"})
			n.node("flat", "Flatten", []string{"gap"})
			n.node("d", "Cast", []string{"flat"}, integer("to", 11))
			n.double("a.w", 6, 3)
			n.double("a.b", 6)
			n.node("a", "Gemm", []string{"d", "a.w", "a.b"}, integer("transB", 1))
			n.double("b.w", 6, 4)
			n.node("b", "MatMul", []string{"a", "b.w"})
			// Row 2 is read by a weight too small for single precision; nothing reads
			// row 0's neighbour; row 3 is constant.
			n.doubleAt("b.w", 2, 4, 8, 1e-300)
			n.doubleAt("b.w", 2, 8, 9, 0)
			n.doubleAt("b.w", 1, 0, 4, 0)
			n.doubleAt("a.w", 1, 9, 12, 0)
			return n.out(n.node("y", "Cast", []string{"b"}, integer("to", 1)))
		}, dims: map[string]string{"a.w": "4 3", "a.b": "4", "b.w": "4 4", "b.bias": "4"}, skip: "gorgonia"},
		{name: "half precision, converted", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.node("gap", "GlobalAveragePool", []string{"a"})
			n.node("flat", "Flatten", []string{"gap"})
			var b []byte
			for i := range 24 {
				b = append(b, 0, byte(i/6+1)*4) // 0x0400 and on, by rows
			}
			for r := range 4 {
				clear(b[2*(6*r+3) : 2*(6*r+4)])
			}
			n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("h"), Dims: []int64{4, 6}, DataType: proto.Int32(10), RawData: b})
			n.node("w", "Cast", []string{"h"}, integer("to", 1))
			return n.out(n.node("head", "Gemm", []string{"flat", "w"}, integer("transB", 1)))
		}, dims: map[string]string{"a.w": "5 3 3 3", "h": "4 5"}},
		{name: "Resize", net: func() *net {
			n := in(3, 8, 8)
			n.conv("a", "x", 3, 6, 3, 1, 1)
			n.floats("scales", []float32{1, 1, 2, 2}, 4)
			n.node("up", "Resize", []string{"a", "", "scales"}, text("mode", "nearest"))
			n.conv("b", "up", 6, 5, 1, 0, 1)
			return n.head("b", 5).zero("b.w", 1, 2).zero("a.w", 0, 0)
		}, dims: map[string]string{"a.w": "4 3 3 3"}},
	}
}

// floatAt sets one number of a stored tensor.
func (n *net) floatAt(name string, e int, v float32) {
	t := n.initializer(name)
	copy(t.RawData[4*e:], (&net{g: &onnxpb.GraphProto{}}).raw(v))
}

func (n *net) raw(v float32) []byte {
	n.floats("v", []float32{v}, 1)
	return n.g.Initializer[0].RawData
}

// double adds an initializer of doubles.
func (n *net) double(name string, dims ...int64) {
	var b []byte
	for _, v := range n.draw(dims...) {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(float64(v)))
	}
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String(name), Dims: dims, DataType: proto.Int32(11), RawData: b})
}

// doubleAt sets the elements [from, to) of a tensor of doubles, by steps.
func (n *net) doubleAt(name string, step, from, to int, v float64) {
	for e := from; e < to; e += step {
		binary.LittleEndian.PutUint64(n.initializer(name).RawData[8*e:], math.Float64bits(v))
	}
}

// zeroKernel clears one column of some rows.
func (n *net) zeroKernel(name string, rows []int64, column int64) *net {
	t := n.initializer(name)
	size := int64(1)
	for _, d := range t.Dims[2:] {
		size *= d
	}
	for _, r := range rows {
		at := (r*t.Dims[1] + column) * size * 4
		clear(t.RawData[at : at+size*4])
	}
	return n
}

// constant makes an initializer a Constant node.
func (n *net) constant(name string) {
	t := n.initializer(name)
	n.g.Initializer = slices.DeleteFunc(n.g.Initializer, func(x *onnxpb.TensorProto) bool { return x == t })
	t.Name = nil
	n.g.Node = append([]*onnxpb.NodeProto{{OpType: proto.String("Constant"), Output: []string{name}, Attribute: []*onnxpb.AttributeProto{
		{Name: proto.String("value"), Type: onnxpb.AttributeProto_TENSOR.Enum(), T: t}}}}, n.g.Node...)
}

// TestRules: each rule removes what it should, no more and no less, and the
// written model computes what the drawn one does.
func TestRules(t *testing.T) {
	list := engines(t)
	for _, d := range drawings() {
		t.Run(d.name, func(t *testing.T) {
			n := d.net()
			source := n.bytes(t)
			use := list
			if d.skip != "" {
				use = slices.Clone(list)
				use = slices.DeleteFunc(use, func(e engine.Engine) bool { return e.Name() == d.skip })
			}
			p, w := compacted(t, use, read(t, source), source, d.opt)
			got := map[string]string{}
			for _, x := range w.Handle.Model.Graph.Initializer {
				got[x.GetName()] = strings.Trim(fmt.Sprint(x.Dims), "[]")
			}
			for name, dims := range d.dims {
				if is := got[name]; is != dims && !(is == "" && dims == "gone") {
					t.Errorf("%s: %s, want %s", name, is, dims)
				}
			}
			found := d.barrier == ""
			for _, b := range p.Barriers {
				found = found || strings.Contains(b.Reason, d.barrier)
				if d.barrier == "" {
					t.Errorf("barrier %+v", b)
				}
			}
			if !found {
				t.Errorf("no barrier says %q: %+v", d.barrier, p.Barriers)
			}
			again, err := NewPlan(t.Context(), w, Options{RoundTo: d.opt.RoundTo})
			if err != nil {
				t.Fatal(err)
			}
			if again.Removed > 0 {
				t.Errorf("a second pass removes %d more", again.Removed)
			}
			for _, v := range w.Handle.Model.Graph.Input {
				if x, ok := w.Graph.Initializer(v.GetName()); ok {
					for i, d := range v.GetType().GetTensorType().GetShape().GetDim() {
						if d.GetDimValue() != x.Dims()[i] {
							t.Errorf("input %s is declared as %v, stored as %v", v.GetName(), v.GetType(), x.Dims())
						}
					}
				}
			}
			for _, v := range w.Handle.Model.Graph.ValueInfo {
				if s := w.Graph.Shape(v.GetName()); !w.Graph.Has(v.GetName()) || !s.Known {
					t.Errorf("value_info of %s", v.GetName())
				}
			}
		})
	}
}
