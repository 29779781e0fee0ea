package inspect

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func labels(nodes []*Node) string {
	var s []string
	for _, n := range nodes {
		s = append(s, n.Output(0))
	}
	return strings.Join(s, " ")
}

func TestGraphIndex(t *testing.T) {
	inner := &onnxpb.GraphProto{
		Node:   []*onnxpb.NodeProto{newNode("Add", "local r", "sum"), newNode("Mul", "sum c", "inner")},
		Input:  []*onnxpb.ValueInfoProto{valueInfo("local", 1, nil)},
		Output: []*onnxpb.ValueInfoProto{valueInfo("inner", 1, nil)},
	}
	// The body hands on a tensor of the outer graph as it is.
	body := &onnxpb.GraphProto{
		Node:   []*onnxpb.NodeProto{newNode("Loop", "_ _ s", "looped", attrGraph("body", inner))},
		Output: []*onnxpb.ValueInfoProto{valueInfo("looped", 1, nil), valueInfo("through", 1, nil)},
	}
	g := newSketch(17).
		input("x", 1, 4).weights("w", []int64{4}).scalar("k", 1).
		input("w", 4). // as IR version 3 lists them
		node("Relu", "x", "r").
		node("Add", "r r", "s").
		node("Identity", "x", "c").
		node("Abs", "s", "through").
		node("If", "k", "y _", attrGraph("then_branch", body)).
		output("y").graph(t)

	if got := g.Producer("s"); got == nil || got.Index != 1 {
		t.Errorf("s is made by %v", got)
	}
	if g.Producer("x") != nil || g.Producer("") != nil {
		t.Error("an input has a producer")
	}
	for tensor, want := range map[string]string{"r": "s y", "x": "r c", "s": "through y", "c": "y", "through": "y", "local": "", "sum": "", "y": "", "": ""} {
		if got := labels(g.Consumers(tensor)); got != want {
			t.Errorf("%q is read by %q, want %q", tensor, got, want)
		}
	}
	if !g.IsInput("x") || g.IsInput("w") || g.IsInput("r") || !g.IsOutput("y") || g.IsOutput("x") {
		t.Error("inputs or outputs are wrong")
	}
	if !g.Has("w") || !g.Has("y") || g.Has("nowhere") || g.Has("") {
		t.Error("Has is wrong")
	}
	if k, ok := g.Ints("k"); !ok || !slices.Equal(k, []int64{1}) {
		t.Errorf("k is %v, %v", k, ok)
	}
	if f, ok := g.Float("k"); !ok || f != 1 {
		t.Errorf("k is %v, %v", f, ok)
	}
	if _, ok := g.Ints("x"); ok {
		t.Error("an input has numbers")
	}
}

func TestOrder(t *testing.T) {
	g := newSketch(17).input("x", 1).
		node("Relu", "b", "c").node("Relu", "a a", "b").node("Relu", "x", "a").node("Relu", "missing", "m").graph(t)
	order, err := g.Order()
	if err != nil || labels(order) != "a b c m" {
		t.Errorf("order %q, %v", labels(order), err)
	}

	// A name that one node makes twice is still one tensor to wait for.
	g = newSketch(17).input("x", 1).node("Relu", "x", "a a").node("Add", "a b", "c").node("Relu", "x", "b").graph(t)
	if order, err := g.Order(); err != nil || labels(order) != "a b c" {
		t.Errorf("order %q, %v", labels(order), err)
	}

	g = newSketch(17).input("x", 1, 2).
		node("Add", "x q", "p").node("Relu", "p", "q").node("Relu", "q", "after").node("Relu", "x", "free").node("Relu", "self", "self").graph(t)
	order, err = g.Order()
	var ge *GraphError
	if !errors.As(err, &ge) || ge.Index != 0 || !strings.Contains(err.Error(), "cycle") {
		t.Errorf("a cycle gave %v", err)
	}
	if labels(order) != "free p q after self" {
		t.Errorf("order %q", labels(order))
	}
	if got := g.Shape("free").String() + ", " + g.Shape("q").String(); got != "1 x 2, unknown" {
		t.Errorf("shapes %s", got)
	}
}

// A graph that breaks the rules is indexed all the same.
func TestGraphTolerates(t *testing.T) {
	s := newSketch(17).input("x", 1, 2).input("x", 3).
		node("Relu", "x", "y y").node("Neg", "y", "y").node("Relu", "", "").node("", "y", "z").
		weights("y", []int64{3}).weights("y", []int64{4}).output("nowhere").output("y")
	s.Graph.Node = append(s.Graph.Node, &onnxpb.NodeProto{})
	m := s.model(t, Options{Weights: true})
	if len(m.Graph.Nodes) != 5 {
		t.Errorf("%d nodes", len(m.Graph.Nodes))
	}
	if got := m.Graph.Nodes[4].Label(); got != "node 4" {
		t.Errorf("label %q", got)
	}
	m = (&sketch{&onnxpb.ModelProto{Graph: &onnxpb.GraphProto{}}}).model(t, Options{Weights: true})
	if len(m.Layers) != 0 || m.Totals.MACs == nil || *m.Totals.MACs != 0 {
		t.Errorf("an empty graph gave %+v", m.Totals)
	}
}

func TestStored(t *testing.T) {
	g := newSketch(17).input("x", 4).weights("w", []int64{2, 2}).
		node("Constant", "", "c", attrTensor("value", floatTensor("", []int64{2, 2}))).
		node("DequantizeLinear", "w scale", "dq").
		node("Transpose", "dq", "tr").
		node("Identity", "c", "id").
		node("Identity", "loop", "loop").
		node("Identity", "x", "live").
		node("my/Identity", "w", "foreign").
		node("Constant", "", "list", attrInts("value_ints", 1)).graph(t)
	for tensor, want := range map[string]string{"w": "w", "tr": "w", "c": "c", "id": "c", "loop": "", "live": "", "foreign": "", "list": "list", "": "", "no": ""} {
		s, ok := g.Stored(tensor)
		if s.Name != want || ok != (want != "") {
			t.Errorf("behind %q is %q, %v, want %q", tensor, s.Name, ok, want)
		}
	}
	if s, _ := g.Stored("tr"); labels(s.Through) != "tr dq" {
		t.Errorf("through %q", labels(s.Through))
	}
}

func TestAttributes(t *testing.T) {
	g := newSketch(17).node("X", "", "y", attrInt("i", 3), attrInts("l", 4, 5), attrString("s", "text"),
		&onnxpb.AttributeProto{Name: proto.String("f"), F: proto.Float32(0.5)}).graph(t)
	n := g.Nodes[0]
	if n.AttrInt("i", 1) != 3 || n.AttrInt("no", 1) != 1 || n.AttrInt("s", 1) != 1 {
		t.Error("integers")
	}
	if !slices.Equal(n.AttrInts("l"), []int64{4, 5}) || n.AttrInts("no") != nil {
		t.Error("lists")
	}
	if n.AttrString("s", "") != "text" || n.AttrString("no", "d") != "d" {
		t.Error("strings")
	}
	if n.AttrFloat("f", 1) != 0.5 || n.AttrFloat("no", 1) != 1 {
		t.Error("floats")
	}
	if n.Attr("no") != nil || n.Input(7) != "" || n.Output(-1) != "" {
		t.Error("missing things")
	}
}
