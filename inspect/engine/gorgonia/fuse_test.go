package gorgonia

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"google.golang.org/protobuf/proto"
)

// chain is x -> Conv -> BatchNormalization -> act -> y, with weights that another
// convolution reads too, and x * Sigmoid(x) behind it.
func chain(t testing.TB, act string, a attrs, bias bool) *net {
	n := newNet(t, 13)
	r := rand.New(rand.NewPCG(8, 8))
	draw := func(name string, least float32, dims ...int64) {
		v := make([]float32, engine.Elements(dims))
		for i := range v {
			v[i] = max(least, float32(r.NormFloat64()))
		}
		n.floats(name, v, dims...)
	}
	lowest := float32(math.Inf(-1))
	n.input("x", "N", 3, 6, 6)
	draw("w", lowest, 4, 3, 3, 3)
	draw("b", lowest, 4)
	for _, name := range []string{"scale", "shift", "mean"} {
		draw(name, lowest, 4)
	}
	draw("variance", 0.1, 4)
	in := []string{"x", "w"}
	if bias {
		in = append(in, "b")
	}
	n.node("Conv", attrs{"pads": []int64{1, 1, 1, 1}}, "conv", in...)
	n.node("BatchNormalization", attrs{"epsilon": float32(1e-3)}, "bn", "conv", "scale", "shift", "mean", "variance")
	n.node(act, a, "act", "bn")
	n.node("Sigmoid", nil, "s", "act")
	n.node("Mul", nil, "silu", "act", "s")
	n.node("Conv", nil, "other", "x", "w")
	n.output("silu")
	n.output("other")
	return n
}

func TestFuse(t *testing.T) {
	reference := openORT(t)
	for _, c := range []struct {
		act    string
		bias   bool
		tapped string
		want   string // the nodes that are left
	}{
		{"Relu", true, "", "/conv /silu /other"},
		{"Relu", false, "", "/conv /silu /other"},
		{"Relu", true, "conv", "/conv /bn /act /silu /other"},
		{"Relu", true, "bn", "/conv /act /silu /other"},
		{"Relu", true, "act", "/conv /silu /other"},
		{"Relu", true, "s", "/conv /s /silu /other"},
		{"Softplus", true, "", "/conv /act /silu /other"},
	} {
		t.Run(fmt.Sprint(c.act, c.bias, c.tapped), func(t *testing.T) {
			n := chain(t, c.act, nil, c.bias)
			outputs := []string{"silu", "other"}
			if c.tapped != "" {
				n.output(c.tapped)
				outputs = append(outputs, c.tapped)
			}
			s := load(t, Open(Options{}), engine.Model{Name: "fuse", Bytes: n.bytes()})
			var left []string
			offered := rules()["Conv"].then
			for _, n := range s.(*session).program.nodes {
				left = append(left, n.name)
			}
			want := c.want
			if !offered && !strings.Contains(want, "/act") { // the function stays a node of its own
				want = strings.Replace(want, "/conv ", "/conv /act ", 1)
			}
			if got := strings.Join(left, " "); got != want {
				t.Errorf("left %s, want %s", got, want)
			}
			feed := batch(s, 2, 5)
			out := make(map[string]*engine.Tensor)
			for _, name := range outputs {
				out[name] = nil
			}
			if err := s.Run(t.Context(), feed, out); err != nil {
				t.Fatal(err)
			}
			theirs, err := evaluate(t, reference, n.bytes(), feed, outputs...)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range outputs {
				if d := difference(out[name], theirs[name]); d > 1e-5 {
					t.Errorf("%s differs by %g", name, d)
				}
			}
		})
	}
}

// Parameters that would make weights infinite, and those that are computed, leave
// the normalization as it is.
func TestFuseLeavesAlone(t *testing.T) {
	for name, edit := range map[string]func(n *net){
		"no variance": func(n *net) {
			for _, i := range n.g.Initializer {
				if i.GetName() == "variance" {
					i.RawData = nil
					n.draft.SetFloat32(i, []float32{0, 1, 1, -1}, 4)
				}
			}
			n.g.Node[1].Attribute = attrs{"epsilon": float32(0)}.proto()
		},
		"computed weights": func(n *net) {
			n.g.Input = append(n.g.Input, valueInfo("u", 1, 4, 3, 3, 3))
			n.g.Node[0].Input[1] = "u"
		},
		"two readers": func(n *net) { n.node("Neg", nil, "neg", "conv"); n.output("neg") },
	} {
		n := chain(t, "Relu", nil, true)
		edit(n)
		s := load(t, Open(Options{}), engine.Model{Name: name, Bytes: n.bytes()})
		if !slices.ContainsFunc(s.(*session).program.nodes, func(n *node) bool { return n.op == "BatchNormalization" }) {
			t.Errorf("%s: the normalization is gone", name)
		}
	}
}

// A function is the same in place as from one tensor to another, whatever the
// length.
func TestEpilogues(t *testing.T) {
	limits := &program{constants: []*value{floatValue([]float32{-0.5}), floatValue([]float32{1.5})}}
	r := rand.New(rand.NewPCG(4, 4))
	for _, n := range []*node{
		{op: "Relu"}, {op: "Sigmoid"}, {op: "Tanh"}, {op: "SiLU"}, {op: "HardSwish"}, {op: "HardSigmoid"}, {op: "LeakyRelu"},
		{op: "LeakyRelu", attributes: attributes{"alpha": {F: proto.Float32(0.3), Type: onnxpb.AttributeProto_FLOAT.Enum()}}},
		{op: "Clip", program: limits, in: []int{-1, 0, 1}}, {op: "Clip", program: limits, in: []int{-1, -1, 1}},
	} {
		e, ok := epilogueOf(n)
		if !ok || !e.given() || e.clamp == (e.after != nil) {
			t.Fatalf("%s: %+v", n.op, e)
		}
		if e.clamp {
			if want := map[int][2]float32{0: {0, float32(math.Inf(1))}, 3: {-0.5, 1.5}}[len(n.in)]; n.op == "Relu" || n.in[1] == 0 {
				if e.min != want[0] || e.max != want[1] {
					t.Errorf("%s: %+v", n.op, e)
				}
			} else if !math.IsInf(float64(e.min), -1) || e.max != 1.5 {
				t.Errorf("%s: %+v", n.op, e)
			}
			continue
		}
		for length := range 70 {
			x := make([]float32, length)
			for i := range x {
				x[i] = 4 * float32(r.NormFloat64())
			}
			whole := slices.Clone(x)
			e.after(whole)
			for i := range x {
				one := []float32{x[i]}
				if e.after(one); math.Abs(float64(one[0]-whole[i])) > 1e-6*math.Abs(float64(one[0])) {
					t.Fatalf("%s of %g: %g alone, %g as one of %d in place", n.op, x[i], one[0], whole[i], length)
				}
			}
		}
	}
	if _, ok := epilogueOf(&node{op: "Clip", program: &program{constants: []*value{floatValue([]float32{2}), floatValue([]float32{1})}}, in: []int{-1, 0, 1}}); ok {
		t.Error("limits in the wrong order are left to the operator")
	}
	if _, ok := epilogueOf(&node{op: "Exp"}); ok {
		t.Error("Exp")
	}
}

// Two reshaped forms of one stored tensor lie in the same memory, which folding
// a normalization into one of them must not change for the other.
func TestFuseSharedWeights(t *testing.T) {
	n := chain(t, "Relu", nil, true)
	n.int64s("shape", []int64{4, 3, 3, 3}, 4)
	n.node("Reshape", nil, "w1", "w", "shape")
	n.node("Reshape", nil, "w2", "w", "shape")
	n.g.Node[0].Input[1] = "w1"
	n.g.Node[5].Input[1] = "w2"
	b := n.bytes()
	s := load(t, Open(Options{}), engine.Model{Name: "fuse", Bytes: b})
	if slices.ContainsFunc(s.(*session).program.nodes, func(n *node) bool { return n.op == "BatchNormalization" }) {
		t.Error("the normalization is not folded")
	}
	feed := batch(s, 2, 5)
	out := map[string]*engine.Tensor{"silu": nil, "other": nil}
	if err := s.Run(t.Context(), feed, out); err != nil {
		t.Fatal(err)
	}
	theirs, err := evaluate(t, openORT(t), b, feed, "silu", "other")
	if err != nil {
		t.Fatal(err)
	}
	for name := range out {
		if d := difference(out[name], theirs[name]); d > 1e-5 {
			t.Errorf("%s differs by %g", name, d)
		}
	}
}
