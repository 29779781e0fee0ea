package probe

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TestPrefix: names that the probe adds must not be names of the model, be it
// of tensors, of nodes or of what a subgraph holds, which sees the names outside.
func TestPrefix(t *testing.T) {
	const taken = "filterlens.7"
	sub := func(g *onnxpb.GraphProto) func(n *net) {
		return func(n *net) {
			n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: proto.String("If"), Input: []string{"image"}, Output: []string{"if"},
				Attribute: []*onnxpb.AttributeProto{{Name: proto.String("then_branch"), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: g}}})
		}
	}
	node := func(name, out string) *onnxpb.NodeProto {
		return &onnxpb.NodeProto{OpType: proto.String("Relu"), Name: proto.String(name), Input: []string{"image"}, Output: []string{out}}
	}
	nested := &onnxpb.NodeProto{OpType: proto.String("Loop"), Output: []string{"o"}, Attribute: []*onnxpb.AttributeProto{
		{Name: proto.String("bodies"), Type: onnxpb.AttributeProto_GRAPHS.Enum(), Graphs: []*onnxpb.GraphProto{
			{}, {Node: []*onnxpb.NodeProto{node("n", taken)}}}}}}
	for _, c := range []struct {
		name   string
		build  func(n *net)
		prefix string
	}{
		{"nothing", func(*net) {}, "filterlens."},
		{"a name that only resembles it", func(n *net) { n.g.Node = append(n.g.Node, node("filterlens", "a.filterlens.1")) }, "filterlens."},
		{"a tensor", func(n *net) { n.g.Node = append(n.g.Node, node("n", taken)) }, "_filterlens."},
		{"a node", func(n *net) { n.g.Node = append(n.g.Node, node(taken, "x")) }, "_filterlens."},
		{"an initializer", func(n *net) { n.prefix = "filterlens."; n.constInt([]int64{1}, 1) }, "_filterlens."},
		{"a sparse initializer", func(n *net) {
			n.g.SparseInitializer = append(n.g.SparseInitializer, &onnxpb.SparseTensorProto{Dims: []int64{4},
				Values: &onnxpb.TensorProto{Name: proto.String(taken), DataType: proto.Int32(1), Dims: []int64{0}}})
		}, "_filterlens."},
		{"an input", func(n *net) { n.g.Input = append(n.g.Input, valueInfo(taken, onnxfile.Float, 1)) }, "_filterlens."},
		{"a tensor of a subgraph", sub(&onnxpb.GraphProto{Node: []*onnxpb.NodeProto{node("n", taken)}}), "_filterlens."},
		{"a node of a subgraph", sub(&onnxpb.GraphProto{Node: []*onnxpb.NodeProto{node(taken, "x")}}), "_filterlens."},
		{"an initializer of a subgraph", sub(&onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{
			{Name: proto.String(taken), DataType: proto.Int32(1), Dims: []int64{0}}}}), "_filterlens."},
		{"an input of a subgraph", sub(&onnxpb.GraphProto{Input: []*onnxpb.ValueInfoProto{valueInfo(taken, onnxfile.Float)}}), "_filterlens."},
		{"a subgraph of a subgraph", sub(&onnxpb.GraphProto{Node: []*onnxpb.NodeProto{nested}}), "_filterlens."},
		{"both prefixes", func(n *net) { n.g.Node = append(n.g.Node, node(taken, "_filterlens.x")) }, "__filterlens."},
	} {
		n := newNet(-1, 3, 8)
		n.prefix = "own."
		n.conv("conv1", 3, 4, 3, 1).op("Relu").head(4)
		c.build(n)
		b, err := newTrunk(n.model(t, -1, testK), maxInline)
		if err != nil {
			t.Fatal(err)
		}
		if b.prefix != c.prefix {
			t.Errorf("%s: prefix %q, want %q", c.name, b.prefix, c.prefix)
		}
	}
}

// TestMeasureTakenNames measures a model that uses the probe's own names.
func TestMeasureTakenNames(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 9)
	var results []*Result
	for _, c := range [][2]string{{"own.", "conv1"}, {"filterlens.", "conv1"}, {"filterlens.w.", "conv1"}, {"own.", "filterlens.1"}} {
		n := newNet(-1, 3, 8)
		n.prefix = c[0]
		n.conv("conv1", 3, 4, 3, 1).op("Relu").head(4)
		for _, node := range n.g.Node {
			node.Name = proto.String(strings.Replace(node.GetName(), "conv1", c[1], 1))
		}
		res, err := Measure(t.Context(), eng, n.model(t, -1, testK), set, testOptions())
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		results = append(results, res)
		equalResults(t, results[0], res, 1e-6)
	}
}
