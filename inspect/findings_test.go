package inspect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// plain is a model that nothing is wrong with.
func plain() *sketch {
	s := newSketch(17).input("x", "n", 3, 8, 8).weights("w", []int64{2, 3, 1, 1}, 1, 2, 3).
		node("Conv", "x w", "y").node("Relu", "y", "z").output("z", "n", 2, 8, 8)
	s.Graph.Node[0].Name, s.Graph.Node[1].Name = proto.String("conv"), proto.String("relu")
	return s
}

func (s *sketch) findings(t testing.TB, opt FindingOptions) []Finding {
	t.Helper()
	list, err := s.model(t, Options{}).Findings(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (s *sketch) function(domain, name string, nodes ...*onnxpb.NodeProto) *sketch {
	s.Functions = append(s.Functions, &onnxpb.FunctionProto{Domain: proto.String(domain), Name: proto.String(name), Input: []string{"a"}, Output: []string{"b"}, Node: nodes,
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(17)}}})
	return s
}

func (s *sketch) imports(domain string, version int64) *sketch {
	s.OpsetImport = append(s.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: proto.String(domain), Version: proto.Int64(version)})
	return s
}

// only leaves one output.
func (s *sketch) only(name string) *sketch {
	s.Graph.Output = nil
	return s.output(name)
}

func TestFindings(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	body := func(nodes ...*onnxpb.NodeProto) *onnxpb.GraphProto {
		return &onnxpb.GraphProto{Name: proto.String("b"), Node: nodes, Output: []*onnxpb.ValueInfoProto{valueInfo("o", onnxfile.Float, []any{"n", 3, 8, 8})}}
	}
	branches := func(s *sketch, then, other *onnxpb.GraphProto) *sketch {
		s.Graph.Input = append(s.Graph.Input, valueInfo("c", onnxfile.DType(onnxpb.TensorProto_BOOL), nil))
		n := newNode("If", "c", "picked", attrGraph("then_branch", then), attrGraph("else_branch", other))
		n.Name = proto.String("if")
		s.Graph.Node = append(s.Graph.Node, n)
		s.Graph.Output = append(s.Graph.Output, valueInfo("picked", onnxfile.Float, []any{"n", 3, 8, 8}))
		return s
	}
	image := func(batch any, target ...int64) *sketch {
		return newSketch(17).input("x", batch, 512, 7, 7).ints("s", target...).node("Reshape", "x s", "y").output("y")
	}
	two := func(x []any, w []int64, op string, attrs ...*onnxpb.AttributeProto) *sketch {
		return newSketch(17).input("x", x...).weights("w", w, 1).node(op, "x w", "y", attrs...).output("y")
	}
	reshaped := func(x []any, target ...int64) *sketch {
		return newSketch(17).input("x", x...).ints("s", target...).node("Reshape", "x s", "y").output("y")
	}
	for _, c := range []struct {
		name  string
		model *sketch
		// want has "code level scope|node|tensor" for each, in order.
		want []string
		text string // part of the first one's
	}{
		{"nothing", plain(), nil, ""},
		{"missing tensor", plain().node("Relu", "gone", "q").output("q"), []string{"missing-tensor error |q|gone"}, `node "q" (Relu) reads "gone"`},
		{"written twice", plain().node("Relu", "y", "z"), []string{"written-twice error |z|z", "dead-node warning |z|"}, `which "relu" writes too`},
		{"initializer written", plain().weights("v", []int64{1}, 1).node("Relu", "y", "v").node("Relu", "v", "q").output("q"), []string{"written-twice error |v|v"}, "an initializer provides too"},
		{"input written", plain().input("u", 1).node("Relu", "y", "u").node("Relu", "u", "q").output("q"), []string{"written-twice error |u|u"}, "is an input too"},
		{"cycle", plain().node("Add", "y q", "p").node("Relu", "p", "q").output("q"), []string{"cycle error |p|"}, "part of a cycle"},
		{"output missing", plain().output("none"), []string{"output-missing error ||none"}, `the output "none"`},
		{"short data", func() *sketch {
			s := plain()
			s.Graph.Initializer[0].RawData = s.Graph.Initializer[0].RawData[:20]
			return s
		}(), []string{"stored-size error ||w"}, "20 bytes stored"},
		{"channels", plain().weights("v", []int64{2, 5, 1, 1}, 1).node("Conv", "z v", "q").output("q"), []string{"channels error |q|z"}, "weights for 5 channels"},
		{"product", two([]any{2, 4}, []int64{5, 3}, "MatMul"), []string{"shapes error |y|w"}, `multiplies "x", 2 x 4, by "w", 5 x 3, and sums over 4 and 5 values`},
		{"product with a list", two([]any{4}, []int64{5, 3}, "MatMul"), []string{"shapes error |y|w"}, ""},
		{"product of symbols", two([]any{"n", "k"}, []int64{5, 3}, "MatMul"), nil, ""},
		{"products of several", two([]any{3, 2, 4}, []int64{2, 4, 5}, "MatMul"), []string{"shapes error |y|w"}, "3 does not fit 2"},
		{"product with a scalar", two(nil, []int64{2, 4}, "MatMul"), []string{"shapes error |y|x"}, "is a scalar"},
		{"Gemm", two([]any{2, 4}, []int64{5, 3}, "Gemm"), []string{"shapes error |y|w"}, "sums over 4 and 5 values"},
		{"Gemm, transposed", two([]any{2, 4}, []int64{4, 3}, "Gemm", attrInt("transB", 1)), []string{"shapes error |y|w"}, "4 x 3 transposed, and sums over 4 and 3 values"},
		{"Gemm, transposed as it should be", two([]any{2, 4}, []int64{3, 4}, "Gemm", attrInt("transB", 1)), nil, ""},
		{"Gemm of lists", two([]any{4}, []int64{4, 3}, "Gemm"), []string{"shapes error |y|x"}, "multiplies matrices"},
		{"Gemm's bias", newSketch(17).input("x", "n", 4).weights("w", []int64{4, 3}, 1).weights("b", []int64{4}, 1).node("Gemm", "x w b", "y").output("y"), []string{"shapes error |y|b"}, `adds "b", 4, to a product of n x 3`},
		{"Gemm's bias, one for all", newSketch(17).input("x", "n", 4).weights("w", []int64{4, 3}, 1).weights("b", []int64{1, 1, 1}, 1).node("Gemm", "x w b", "y").output("y"), nil, ""},
		{"sum", two([]any{2, 4}, []int64{5, 3}, "Add"), []string{"shapes error |y|w"}, `combines "x", 2 x 4, with "w", 5 x 3, and 4 does not fit 3`},
		{"sum with one", two([]any{2, 1}, []int64{1, 3}, "Add"), nil, ""},
		{"sum with nothing", two([]any{2, 0}, []int64{2, 3}, "Add"), []string{"shapes error |y|w"}, "0 does not fit 3"},
		{"sum of nothing", two([]any{2, 0}, []int64{2, 1}, "Add"), nil, ""},
		{"a slope larger than what it bends", two([]any{4, 1}, []int64{4, 3}, "PRelu"), nil, ""},
		{"slopes", two([]any{"n", 4, 8}, []int64{3, 1}, "PRelu"), []string{"shapes error |y|w"}, ""},
		{"join", two([]any{2, 4}, []int64{5, 3}, "Concat", attrInt("axis", 0)), []string{"shapes error |y|w"}, `joins "x", 2 x 4, and "w", 5 x 3, along axis 0`},
		{"join of other ranks", two([]any{2, 4}, []int64{5}, "Concat", attrInt("axis", 0)), []string{"shapes error |y|w"}, ""},
		{"join along no axis", two([]any{2, 4}, []int64{2, 4}, "Concat", attrInt("axis", 2)), []string{"shapes error |y|x"}, "along axis 2"},
		{"join", two([]any{2, 4}, []int64{5, 4}, "Concat", attrInt("axis", 0)), nil, ""},
		{"join with nothing", two([]any{2, 4}, []int64{0}, "Concat", attrInt("axis", 0)), nil, ""},
		{"reshape", reshaped([]any{2, 4}, 3, 3), []string{"shapes error |y|x"}, `reshapes "x", 2 x 4, with 8 values, to [3 3]`},
		{"reshape, one open", reshaped([]any{2, 4}, 3, -1), []string{"shapes error |y|x"}, "to [3 -1]"},
		{"reshape, two open", reshaped([]any{2, 4}, -1, -1), []string{"shapes error |y|x"}, "leaves 2 dimensions open"},
		{"reshape, copied beyond", reshaped([]any{2, 4}, 2, 4, 0), []string{"shapes error |y|x"}, "copies dimension 2"},
		{"reshape, negative", reshaped([]any{2, 4}, -2, -4), []string{"shapes error |y|x"}, "to -2 in dimension 0"},
		{"reshape, as it should be", reshaped([]any{2, 4}, 0, 2, -1), nil, ""},
		{"reshape of nothing", reshaped([]any{0, 4}, 0, -1), nil, ""},
		{"reshape of symbols", reshaped([]any{4, "k"}, 3, 3), nil, ""},
		{"reshape, zeros as they are", newSketch(17).input("x", 2, 4).ints("s", 0, 8).node("Reshape", "x s", "y", attrInt("allowzero", 1)).output("y"), []string{"shapes error |y|x"}, "to [0 8]"},
		{"expand", newSketch(17).input("x", 2, 4).ints("s", 3, 4).node("Expand", "x s", "y").output("y"), []string{"shapes error |y|x"}, `expands "x", 2 x 4, to 3 x 4`},
		{"groups of filters", two([]any{"n", 4, 8, 8}, []int64{3, 2, 3, 3}, "Conv", attrInt("group", 2)), []string{"shapes error |y|w"}, "has 3 filters, which 2 groups cannot share"},
		{"rank of a filter", two([]any{"n", 4, 8}, []int64{3, 4, 3, 3}, "Conv"), []string{"shapes error |y|x"}, "its weight is 3 x 4 x 3 x 3"},
		{"kernel of a transpose", two([]any{"n", 4, 8, 8}, []int64{4, 3, 3, 3}, "ConvTranspose", attrInts("kernel_shape", 3, 5)), []string{"shapes error |y|x"}, "the kernel [3 5]"},
		{"kernel", two([]any{"n", 4, 8, 8}, []int64{3, 4, 3, 3}, "Conv", attrInts("kernel_shape", 3, 5)), []string{"shapes error |y|x"}, "the kernel [3 5]"},
		{"channels of a computed weight", newSketch(17).input("x", "n", 4, 8, 8).input("w", 3, 5, 3, 3).node("Conv", "x w", "y").output("y"), []string{"shapes error |y|w"}, `for 5 channels in each of 1 group and reads "x" with 4`},
		{"channels of a transpose", two([]any{"n", 4, 8, 8}, []int64{5, 3, 3, 3}, "ConvTranspose"), []string{"shapes error |y|w"}, "for 5 channels and reads"},
		{"channels of a normalisation", newSketch(17).input("x", "n", 4, 8, 8).weights("v", []int64{3}, 1).node("InstanceNormalization", "x v v", "y").output("y"), []string{"shapes error |y|v"}, "3 numbers for the 4 channels"},
		{"shapes of what is dead", two([]any{2, 4}, []int64{5, 3}, "Add").node("Relu", "x", "z").only("z"), []string{"dead-node warning |y|"}, ""},
		{"shapes in a function", two([]any{2, 4}, []int64{2, 4}, "f/F").imports("f", 1).function("f", "F", newNode("Transpose", "a", "t"), newNode("Add", "a t", "b")), []string{"shapes error y|b|t"}, ""},
		{"shapes in a branch", branches(plain().weights("v", []int64{5}, 1), body(newNode("Add", "x v", "o")), body(newNode("Relu", "x", "o"))), nil, ""},
		{"too few inputs", plain().node("Conv", "y", "q").output("q"), []string{"operands error |q|"}, "has 1 input, version 17 needs at least 2"},
		{"too many inputs", plain().node("Relu", "y y", "q").output("q"), []string{"operands error |q|"}, "takes at most 1"},
		{"too many outputs", plain().node("Relu", "y", "q r").output("q"), []string{"operands error |q|"}, "gives at most 1"},
		{"type of an input", plain().node("Not", "y", "q").node("Cast", "q", "r", attrInt("to", 1)).output("r"), []string{"input-type error |q|y"}, `reads "y", which is float; version 17 does not take that as input 0`},
		{"types that differ", plain().ints("i", 1).node("Mul", "y i", "q").output("q"), []string{"input-type error |q|i"}, `"y", which is float, and "i", which is int64`},
		{"types that may differ", plain().ints("i", 1).node("Where", "b y y", "q").node("Greater", "y y", "b").node("Slice", "q i i", "r").output("r"), []string{"unsorted-nodes warning |q|"}, ""},
		{"an attribute of an older version", plain().node("Squeeze", "y", "q", attrInts("axes", 1)).output("q"), []string{"attribute error |q|"}, `has the attribute "axes", which version 17 does not have`},
		{"an attribute of another type", plain().node("Concat", "y y", "q", attrString("axis", "a")).output("q"), []string{"attribute error |q|"}, `attribute "axis" of type string, version 17 wants int`},
		{"an attribute without a type", plain().node("Concat", "y y", "q", &onnxpb.AttributeProto{Name: proto.String("axis"), I: proto.Int64(1)}).output("q"), nil, ""},
		{"an attribute missing", plain().node("Concat", "y y", "q").output("q"), []string{"attribute error |q|"}, `lacks the attribute "axis"`},
		{"a note as an attribute", plain().node("Relu", "y", "q", attrInt("__note", 1)).output("q"), nil, ""},
		{"a required input left out", plain().node("Conv", "y _", "q").output("q"), []string{"operands error |q|"}, "leaves out input 1, which version 17 demands"},
		{"optional left out before one that is there", func() *sketch {
			s := newSketch(11).input("x", "n", 2, 8, 8).weights("k", []int64{4}, 1).weights("r", []int64{0}).node("Resize", "x r k _", "y").output("y")
			s.IrVersion = proto.Int64(6)
			return s
		}(), nil, ""},
		{"optional left out", plain().ints("lo", 0).node("Clip", "y _ _", "q").output("q").node("Cast", "lo", "i", attrInt("to", 1)).output("i"), nil, ""},
		{"type", func() *sketch {
			s := plain()
			s.Graph.Output[0].GetType().GetTensorType().ElemType = proto.Int32(int32(onnxfile.Int64))
			return s
		}(), []string{"type-mismatch error ||z"}, "is int64, and it is float"},
		{"output without a name", plain().output(""), []string{"empty-name error ||"}, "output 1 has no name"},
		{"node without outputs", plain().node("Relu", "y", "_"), []string{"empty-name error |node 2|", "dead-node warning |node 2|"}, "has no output"},
		{"nodes of one name", func() *sketch {
			s := plain()
			s.Graph.Node[1].Name = proto.String("conv")
			return s
		}(), []string{"duplicate-name error |conv|"}, "name of a node before it"},
		{"an initializer twice", plain().weights("w", []int64{2, 3, 1, 1}, 1), []string{"duplicate-name warning ||w"}, "two initializers"},
		{"an output twice", plain().output("z", "n", 2, 8, 8), []string{"duplicate-name warning ||z"}, "listed twice"},

		{"no IR version", func() *sketch { s := plain(); s.IrVersion = nil; return s }(), []string{"ir-opset error ||"}, "does not say"},
		{"IR version of the future", func() *sketch { s := plain(); s.IrVersion = proto.Int64(99); return s }(), []string{"ir-opset warning ||"}, "newer than"},
		{"no operator sets", func() *sketch { s := plain(); s.OpsetImport = nil; return s }(), []string{"ir-opset error ||"}, "imports no operator set"},
		{"old IR version", func() *sketch { s := plain(); s.IrVersion = proto.Int64(4); return s }(), []string{"ir-opset warning ||"}, "version 17 of ai.onnx came with IR version 8, the file has 4"},
		{"old IR version, for what is not used", plain().imports("ai.onnx.ml", 5), nil, ""},
		{"old IR version, for what is used", plain().imports("ai.onnx.ml", 5).node("ai.onnx.ml/Binarizer", "y", "q").output("q"), []string{"ir-opset warning ||"}, "version 5 of ai.onnx.ml"},
		{"imported twice", plain().imports("ai.onnx", 16), []string{"ir-opset warning ||"}, "twice, as version 17 and as version 16"},
		{"opset of the future", func() *sketch {
			s := plain().node("Unheard", "y", "q").output("q")
			s.OpsetImport[0].Version = proto.Int64(999)
			return s
		}(), []string{"ir-opset warning ||"}, "imports version 999"},
		{"domain not imported", plain().node("org.example/Odd", "y", "q").node("org.example/Odd", "q", "r").output("r"), []string{"domain-not-imported error |q|"}, "2 nodes"},
		{"a runtime's domain", plain().node("com.microsoft/Gelu", "y", "q").output("q"), []string{"domain-not-imported warning |q|"}, "com.microsoft"},
		{"a domain of somebody's", plain().imports("org.example", 1).node("org.example/Odd", "y", "q").output("q"), nil, ""},
		{"no operator", plain().node("Conf", "y w", "q").output("q"), []string{"op-unknown error |q|"}, "Conf is no operator in any version"},
		{"not yet", plain().node("Gelu", "y", "q").output("q"), []string{"op-unknown error |q|"}, "introduced in version 20, the model imports 17"},
		{"a runtime's own", plain().node("Affine", "y", "q").output("q"), []string{"op-unknown warning |q|"}, "Affine"},
		{"deprecated", plain().weights("k", []int64{4}, 1).node("Upsample", "y k", "q").output("q"), []string{"op-deprecated warning |q|"}, "since version 10, the model imports 17; ONNX Runtime and the checker refuse it; use Resize"},
		{"a function called", plain().imports("f", 1).function("f", "F", newNode("Relu", "a", "b")).node("f/F", "y", "q").output("q"), nil, ""},
		{"a function not called", plain().imports("f", 1).function("f", "F", newNode("f/G", "a", "b")).function("f", "G", newNode("Relu", "a", "b")),
			[]string{"unused-function warning ||", "unused-function warning ||"}, "F of the domain"},
		{"a function missing", plain().imports("f", 1).function("f", "F", newNode("Relu", "a", "b")).node("f/F", "y", "q").node("f/H", "q", "r").output("r"),
			[]string{"function-missing warning |r|"}, "none of them is H"},
		{"inside a function, told once", plain().imports("f", 1).function("f", "F", newNode("Relu", "a", "b"), newNode("Relu", "a", "idle")).node("f/F", "y", "q").node("f/F", "q", "r").output("r"),
			[]string{"dead-node warning q|idle|"}, ""},

		{"unused input", plain().input("u", 1), []string{"unused-input warning ||u"}, "leave it out"},
		{"an input that is an output", plain().input("u", 1).output("u", 1), nil, ""},
		{"unused initializer", plain().weights("u", []int64{4}, 1), []string{"unused-initializer warning ||u"}, "(float, 4, 16 bytes)"},
		{"dead nodes", plain().node("Relu", "y", "a").node("Relu", "a", "b").node("Relu", "a", "c"), []string{"dead-node warning |b|", "dead-node warning |c|"}, "nor 1 node before it does"},
		{"unsorted", func() *sketch { s := plain(); slices.Reverse(s.Graph.Node); return s }(), []string{"unsorted-nodes warning |relu|"}, "1 node stands"},
		{"initializer among inputs", plain().input("w", 2, 3, 1, 1), []string{"initializer-input warning ||w"}, "a caller may replace them"},
		{"initializer among inputs, IR 3", func() *sketch {
			s := plain().input("w", 2, 3, 1, 1)
			s.IrVersion, s.OpsetImport[0].Version = proto.Int64(3), proto.Int64(8)
			return s
		}(), []string{"initializer-input warning ||w"}, "as IR version 3 demands"},
		{"value_info of nothing", plain().info("gone", 1).info("y", "n", 2, 8, 8), []string{"stale-value-info warning ||gone"}, "1 tensor that nothing makes"},
		{"value_info of a function's inside", plain().info("f::F/a", 1), nil, ""},
		{"wrong value_info", plain().info("y", "n", 5, 8, 8), []string{"stale-value-info warning ||y"}, "is n x 5 x 8 x 8, and it is n x 2 x 8 x 8"},
		{"wrong output", plain().node("Relu", "y", "q").output("q", "n", 2, 8), []string{"stale-output-shape warning ||q"}, ""},
		{"symbols of any name", plain().node("Relu", "y", "q").output("q", "m", 2, "h", "w"), nil, ""},

		{"batch fixed", image("n", 1, 25088), []string{"baked-batch warning |y|"}, "1 x 25088; it fails at any other; use 0 or -1 for the first dimension"},
		{"batch fixed without a name", image(nil, 1, 25088), []string{"baked-batch warning |y|"}, ""},
		{"another dimension first", image("n", 512, 49), []string{"baked-batch warning |y|"}, "export the model with a batch of any size"},
		{"batch dropped", image("n", 25088), []string{"baked-batch warning |y|"}, ""},
		{"batch of one declared", image(1, 1, 25088), nil, ""},
		{"batch of one declared, another shape", image(1, 512, 49), nil, ""},
		{"samples mixed", image("n", 1, 512, -1), []string{"baked-batch warning |y|"}, "mixes the samples"},
		{"batch copied", image("n", 0, 25088), nil, ""},
		{"batch left open", image("n", -1, 25088), nil, ""},
		{"batch of eight", image(8, 8, 25088), nil, ""},
		{"batch in the last dimension", image("n", 1, -1), []string{"baked-batch warning |y|"}, "first dimension fixed at 1 in its shape [1 -1]"},
		{"batch in the last dimension of two", image("n", 2, -1), []string{"baked-batch warning |y|"}, "fixed at 2"},
		{"batch that does not divide", image("n", 3, -1), []string{"baked-batch warning |y|"}, "fixed at 3"},
		{"batch in the last dimension, declared", image(1, 1, -1), nil, ""},
		{"batch in the last dimension before a product", newSketch(17).input("x", "n", 3, 8, 8).ints("s", 1, -1).weights("w", []int64{192, 5}, 1).
			node("Reshape", "x s", "f").node("Relu", "f", "r").node("Gemm", "r w", "y").output("y"), []string{"baked-batch warning |f|"}, ""},
		{"batch in the channels", image("n", 1, -1, 7, 7), []string{"baked-batch warning |y|"}, ""},
		{"batch in the channels and back", newSketch(17).input("x", "n", 4, 7, 7).ints("s", 1, -1, 7, 7).ints("t", -1, 4, 7, 7).
			node("Reshape", "x s", "a").node("MaxPool", "a", "b", attrInts("kernel_shape", 1, 1)).node("Reshape", "b t", "y").output("y"), nil, ""},
		{"batch that follows", newSketch(17).input("x", "n", 3, 8, 8).ints("z", 0).ints("m", -1).node("Shape", "x", "s").node("Gather", "s z", "k").
			node("Concat", "k m", "t", attrInt("axis", 0)).node("Reshape", "x t", "y").output("y"), nil, ""},
		{"batch that follows, one more", newSketch(17).input("x", "n", 3, 8, 8).ints("z", 0).ints("m", -1).ints("one", 1).node("Shape", "x", "s").node("Gather", "s z", "k").
			node("Add", "k one", "kk").node("Concat", "kk m", "t", attrInt("axis", 0)).node("Reshape", "x t", "y").output("y"), nil, ""},
		{"batch summed up", newSketch(17).input("x", "n", 4, 7, 7).ints("s", 1, -1).node("Reshape", "x s", "a").node("ReduceMax", "a", "y").output("y"), nil, ""},
		{"groups", image("n", 0, 32, -1), nil, ""},
		{"token for one", newSketch(17).input("x", "n", 4, 8).weights("t", []int64{1, 1, 8}, 1).node("Concat", "t x", "y", attrInt("axis", 1)).output("y"),
			[]string{"baked-batch warning |y|"}, `joins "t"`},
		{"token for all", newSketch(17).input("x", "n", 4, 8).weights("t", []int64{1, 4, 8}, 1).node("Add", "t x", "y").output("y"), nil, ""},
		{"sizes with the batch", newSketch(17).input("x", "n", 2, 4, 4).ints("s", 1, 2, 8, 8).node("Resize", "x _ _ s", "y").output("y"), []string{"baked-batch warning |y|"}, ""},

		{"branches", branches(plain(), body(newNode("Relu", "x", "o")), body(newNode("Relu", "gone", "o"), newNode("Exp", "o", "idle"))),
			[]string{"missing-tensor error if/else_branch|o|gone", "dead-node warning if/else_branch|idle|"}, ""},
		{"read in a branch alone", branches(plain().weights("v", []int64{1}, 1).node("Relu", "v", "vv"), body(newNode("Add", "x vv", "o")), body(newNode("Relu", "x", "o"))), nil, ""},

		{"NaN", plain().weights("v", []int64{2, 2, 1, 1}, 1, nan).node("Conv", "z v", "q").output("q"), []string{"nan-weights warning ||v"}, "2 of the 4 values"},
		{"NaN as a marker", plain().weights("v", nil, nan).node("Greater", "z z", "b").node("Where", "b z v", "q").output("q"), nil, ""},
		{"infinite", plain().weights("v", []int64{2, 2, 1, 1}, 1, inf).node("Conv", "z v", "q").output("q"), []string{"inf-weights warning ||v"}, "2 of the 4 values"},
		{"a mask", plain().weights("v", []int64{1, 1, 8, 8}, 1, inf).node("Add", "z v", "q").output("q"), nil, ""},
		{"subnormal", plain().weights("v", []int64{2, 2, 1, 1}, 1, 1e-40, 1, 1).node("Conv", "z v", "q").output("q"), []string{"subnormal-weights warning ||v"}, "1 of the 4 values"},
		{"filters of zeros", plain().weights("v", []int64{4, 2, 1, 1}, 0, 0, 1, 0).node("Conv", "z v", "q").output("q"), []string{"zero-filter warning |q|v"}, "has 4 filters, and all weights of 2 of them are zero: 0, 2"},
		{"columns of zeros", newSketch(17).input("x", "n", 2).weights("v", []int64{2, 3}, 0, 1, 0, 0, 1, 1).node("MatMul", "x v", "y").output("y"), []string{"zero-filter warning |y|v"}, "1 of them are zero: 0"},
		{"duplicates", plain().weights("v", []int64{32, 32}, 1, 2).weights("u", []int64{32, 32}, 1, 2).weights("t", []int64{32, 32}, 2, 1).weights("r", []int64{32 * 32}, 1, 2).
			node("Concat", "v u t", "q", attrInt("axis", 0)).output("q").node("Identity", "r", "p").output("p"), []string{"duplicate-initializer warning ||u"}, `1 tensor has the same type, shape and bytes as "v"`},
	} {
		list := c.model.findings(t, FindingOptions{Weights: true})
		var got []string
		for _, f := range list {
			got = append(got, fmt.Sprintf("%s %s %s|%s|%s", f.Code, f.Level, f.Scope, f.Node, f.Tensor))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q\n%+v", c.name, got, c.want, list)
			continue
		}
		if len(list) > 0 && !strings.Contains(list[0].Text, c.text) {
			t.Errorf("%s: %q does not have %q", c.name, list[0].Text, c.text)
		}
		for _, f := range list {
			if f.Text == "" || strings.HasSuffix(f.Text, ".") || strings.Contains(f.Text, "\n") || strings.Contains(f.Text, "%!") || strings.Contains(f.Text, "test.onnx") {
				t.Errorf("%s: the sentence %q", c.name, f.Text)
			}
		}
	}
}

// What cannot run costs nothing that is known.
func TestMACsOfClashes(t *testing.T) {
	for _, c := range []struct {
		op    string
		x     []any
		w     []int64
		attrs []*onnxpb.AttributeProto
	}{
		{"Gemm", []any{2, 4}, []int64{5, 3}, nil},
		{"MatMul", []any{2, 4}, []int64{5, 3}, nil},
		{"Conv", []any{1, 4, 8, 8}, []int64{3, 2, 3, 3}, []*onnxpb.AttributeProto{attrInt("group", 2)}},
		{"ConvTranspose", []any{1, 4, 8, 8}, []int64{5, 3, 3, 3}, nil},
	} {
		m := newSketch(17).input("x", c.x...).weights("w", c.w, 1).node(c.op, "x w", "y", c.attrs...).output("y").model(t, Options{})
		if l := m.Layers[0]; l.MACs != nil || m.Totals.MACsUnknown != 1 || l.Out.Known {
			t.Errorf("%s: %v MACs, output %v, %+v", c.op, l.MACs, l.Out, m.Totals)
		}
	}
}

// What the options ask for is no fault of the model, and hides none.
func TestShapesAtOtherSizes(t *testing.T) {
	fits := newSketch(17).input("x", "n", "k").weights("w", []int64{4, 3}, 1).node("MatMul", "x w", "y").output("y")
	m := fits.model(t, Options{InputShapes: map[string][]int64{"x": {1, 5}}})
	if list, err := m.Findings(t.Context(), FindingOptions{}); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	m = newSketch(17).input("x", "n", 5).weights("w", []int64{4, 3}, 1).node("MatMul", "x w", "y").output("y").model(t, Options{Batch: 3})
	if list, err := m.Findings(t.Context(), FindingOptions{}); err != nil || len(list) != 1 || list[0].Code != "shapes" {
		t.Errorf("%+v, %v", list, err)
	}
}

// Weights are read only when asked for, and once.
func TestFindingsWithoutWeights(t *testing.T) {
	s := plain().weights("v", []int64{2, 2, 1, 1}, float32(math.NaN())).node("Conv", "z v", "q").output("q")
	if list := s.findings(t, FindingOptions{}); len(list) != 0 {
		t.Errorf("weights were read: %+v", list)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.model(t, Options{}).Findings(ctx, FindingOptions{Weights: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context gave %v", err)
	}
	// Statistics have been read already, and tell the same.
	m := s.model(t, Options{Statistics: true})
	list, err := m.Findings(t.Context(), FindingOptions{Weights: true})
	if err != nil || len(list) != 1 || list[0].Code != "nan-weights" {
		t.Errorf("%+v, %v", list, err)
	}
	// At other sizes than the declared ones declarations are no contradiction.
	m = plain().info("y", "n", 2, 9, 9).model(t, Options{InputShapes: map[string][]int64{"x": {1, 3, 9, 9}}})
	if list, err := m.Findings(t.Context(), FindingOptions{}); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// Training and quantization refer to tensors by name.
func TestFindingsKept(t *testing.T) {
	s := plain().weights("scale", []int64{1}, 1).weights("rate", []int64{1}, 1).node("Relu", "y", "loss_in")
	s.Graph.QuantizationAnnotation = []*onnxpb.TensorAnnotation{{TensorName: proto.String("y"),
		QuantParameterTensorNames: []*onnxpb.StringStringEntryProto{{Key: proto.String("SCALE_TENSOR"), Value: proto.String("scale")}}}}
	s.TrainingInfo = []*onnxpb.TrainingInfoProto{{Algorithm: &onnxpb.GraphProto{Node: []*onnxpb.NodeProto{newNode("Mul", "loss_in rate", "step")}}}}
	if list := s.findings(t, FindingOptions{Weights: true}); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestFindingsExternal(t *testing.T) {
	at := func(name, location, offset, length string) *onnxpb.TensorProto {
		p := &onnxpb.TensorProto{Name: proto.String(name), Dims: []int64{4}, DataType: proto.Int32(int32(onnxfile.Float)), DataLocation: onnxpb.TensorProto_EXTERNAL.Enum()}
		for _, kv := range [][2]string{{"location", location}, {"offset", offset}, {"length", length}} {
			if kv[1] != "" {
				p.ExternalData = append(p.ExternalData, &onnxpb.StringStringEntryProto{Key: proto.String(kv[0]), Value: proto.String(kv[1])})
			}
		}
		return p
	}
	const size = 300 << 10
	for _, c := range []struct {
		name    string
		tensors []*onnxpb.TensorProto
		want    []string
	}{
		{"as it should be", []*onnxpb.TensorProto{at("a", "small.bin", "0", "16"), at("b", "small.bin", "16", "16"), at("c", "small.bin", "16", "16")}, nil},
		{"length not given", []*onnxpb.TensorProto{at("a", "small.bin", "", "")}, nil},
		{"outside", []*onnxpb.TensorProto{at("a", "../w.bin", "0", "16"), at("b", "../w.bin", "16", "16")}, []string{"external-outside a"}},
		{"absolute", []*onnxpb.TensorProto{at("a", "/etc/hosts", "0", "16")}, []string{"external-outside a"}},
		{"through a link", []*onnxpb.TensorProto{at("a", "link.bin", "0", "16")}, []string{"external-outside a"}},
		{"missing", []*onnxpb.TensorProto{at("a", "none.bin", "0", "16"), at("b", "none.bin", "16", "16")}, []string{"external-missing a"}},
		{"no location", []*onnxpb.TensorProto{at("a", "", "0", "16")}, []string{"external-unreadable a"}},
		{"a folder", []*onnxpb.TensorProto{at("a", "folder", "0", "16")}, []string{"external-unreadable a"}},
		{"two names", []*onnxpb.TensorProto{at("a", "hard.bin", "0", "16")}, []string{"external-unreadable a"}},
		{"no number", []*onnxpb.TensorProto{at("a", "small.bin", "x", "16")}, []string{"external-unreadable a"}},
		{"beyond the end", []*onnxpb.TensorProto{at("a", "small.bin", "0", "16"), at("b", "small.bin", "24", "16")}, []string{"external-range b"}},
		{"far beyond", []*onnxpb.TensorProto{at("a", "small.bin", "9223372036854775807", "16")}, []string{"external-range a"}},
		{"another length", []*onnxpb.TensorProto{at("a", "small.bin", "0", "12")}, []string{"stored-size a"}},
		{"overlap", []*onnxpb.TensorProto{at("a", "small.bin", "0", "16"), at("b", "small.bin", "8", "16")}, []string{"external-overlap b"}},
		{"orphans", []*onnxpb.TensorProto{at("a", "large.bin", "0", "16"), at("b", "large.bin", "131072", "16")}, []string{"external-orphan a"}},
		{"padding", []*onnxpb.TensorProto{at("a", "padded.bin", "4096", "16")}, nil},
	} {
		dir := t.TempDir()
		write := func(name string, n int) {
			if err := os.WriteFile(filepath.Join(dir, name), make([]byte, n), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("w.bin", 64)
		dir = filepath.Join(dir, "model")
		if err := os.MkdirAll(filepath.Join(dir, "folder"), 0o700); err != nil {
			t.Fatal(err)
		}
		write("small.bin", 32)
		write("padded.bin", 8192)
		write("large.bin", size)
		write("first.bin", 16)
		if err := errors.Join(os.Symlink("../w.bin", filepath.Join(dir, "link.bin")), os.Link(filepath.Join(dir, "first.bin"), filepath.Join(dir, "hard.bin"))); err != nil {
			t.Skip(err)
		}
		s := newSketch(17).input("x", 4).output("y", 4)
		in := "x"
		for _, p := range c.tensors {
			s.Graph.Initializer = append(s.Graph.Initializer, p)
			s.node("Add", in+" "+p.GetName(), "sum_"+p.GetName())
			in = "sum_" + p.GetName()
		}
		s.node("Relu", in, "y")
		path := filepath.Join(dir, "m.onnx")
		if err := os.WriteFile(path, s.bytes(t), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := onnxfile.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(t.Context(), f, Options{})
		if err != nil {
			t.Fatal(err)
		}
		list, err := m.Findings(t.Context(), FindingOptions{Weights: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range list {
			got = append(got, x.Code+" "+x.Tensor)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q: %+v", c.name, got, c.want, list)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Every code is in the table once.
func TestFindingCodes(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range findingCodes {
		if seen[c.code] || c.level != LevelError && c.level != LevelWarning {
			t.Errorf("%+v", c)
		}
		seen[c.code] = true
	}
}

// Update tells whether expected tables are to be written.
func Update() bool { return *update }
