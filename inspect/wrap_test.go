package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TestWrapped moves the nodes of a model into the body of a function, into both
// branches of an If and into the body of a Loop: what is said of the tensors and
// what is counted must not change. It does so with the models of the
// repository, and with those below the folder FILTERLENS_CORPUS.
func TestWrapped(t *testing.T) {
	count := 0
	try := func(path string) {
		f, err := onnxfile.Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		if f.Size > 1<<24 || f.External() || len(f.Model.GetGraph().GetNode()) == 0 {
			return
		}
		want, err := New(t.Context(), f, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := want.Graph.Order(); err != nil {
			return
		}
		for name, wrap := range map[string]func(*onnxpb.ModelProto){"function": wrapFunction, "if": wrapIf, "loop": wrapLoop} {
			d := f.Draft()
			wrap(d.Model)
			b, err := d.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			file, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := New(t.Context(), file, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := sameWithin(want, got); err != nil {
				t.Errorf("%s in a %s: %v", path, name, err)
			}
			count++
		}
	}
	for _, path := range matches(t, "../fixtures/*.onnx") {
		try(path)
	}
	if root := os.Getenv("FILTERLENS_CORPUS"); root != "" {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && filepath.Ext(path) == ".onnx" {
				try(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if count == 0 {
		t.Error("no model was wrapped")
	}
	t.Logf("%d models", count)
}

// sameWithin compares the main graph of a with the only node of b, the wrapper,
// and what is in it.
func sameWithin(a, b *Model) error {
	wrapper := b.Graph.Nodes[len(b.Graph.Nodes)-1]
	for _, body := range wrapper.bodies {
		if len(body.Nodes) != len(a.Graph.Nodes) {
			return fmt.Errorf("%d nodes in the body", len(body.Nodes))
		}
		for i, n := range a.Graph.Nodes {
			for j, name := range n.Outputs {
				if name == "" {
					continue
				}
				x, y := a.Graph.lookup(name), body.lookup(body.Nodes[i].Output(j))
				if n.function == nil && a.Graph.rule(n) == nil {
					continue // what is declared counts less in a body
				}
				if !follows(a.Graph, n) {
					continue
				}
				if !x.equal(y) {
					return fmt.Errorf("%s %q: %v in the main graph, %v in the body", n.Op, name, x, y)
				}
			}
		}
	}
	if len(wrapper.bodies) == 0 {
		return errors.New("no body")
	}
	for i, v := range a.Graph.file.Model.GetGraph().GetOutput() {
		if wrapper.Op == "Loop" || !follows(a.Graph, a.Graph.Producer(v.GetName())) {
			break
		}
		x, y := a.Graph.lookup(v.GetName()), b.Graph.lookup(wrapper.Output(i))
		if !x.equal(y) {
			return fmt.Errorf("output %q: %v, %v of the wrapper", v.GetName(), x, y)
		}
	}
	x, y := a.Totals, b.Totals
	for _, sub := range a.Graph.All() {
		if sub.owner != nil && sub.owner.Op == "If" && len(sub.ins) > 0 {
			return nil // what it declares, against the standard, counts less in a function
		}
	}
	for i := range a.Layers {
		// Constant nodes stand in both branches.
		if _, ok := a.Graph.Initializer(a.Layers[i].Weight); !ok && wrapper.Op == "If" {
			return nil
		}
	}
	if x.Parameters != y.Parameters || x.Statistics != y.Statistics || x.WeightBytes != y.WeightBytes {
		return fmt.Errorf("totals %+v, %+v", x, y)
	}
	if (x.MACs == nil) != (y.MACs == nil) || x.MACs != nil && *x.MACs != *y.MACs || len(a.Layers)*len(wrapper.bodies) != len(b.Layers) {
		return fmt.Errorf("layers %d, %d; totals %+v, %+v", len(a.Layers), len(b.Layers), x, y)
	}
	return nil
}

// follows tells whether nothing that n depends on comes from a declaration.
func follows(g *Graph, n *Node) bool {
	seen := map[*Node]bool{}
	var from func(n *Node) bool
	from = func(n *Node) bool {
		if n == nil || seen[n] {
			return true
		}
		seen[n] = true
		if g.rule(n) == nil || len(n.bodies) > 0 {
			return false
		}
		for _, in := range n.Inputs {
			if !from(g.Producer(in)) {
				return false
			}
		}
		return true
	}
	return from(n)
}

// outputs gives the wrapper names of its own for what the model hands on.
func outputs(g *onnxpb.GraphProto) (names []string) {
	for i, v := range g.Output {
		names = append(names, fmt.Sprintf("wrapped%d", i))
		g.Output[i] = proto.Clone(v).(*onnxpb.ValueInfoProto)
		g.Output[i].Name = &names[i]
	}
	return names
}

func wrapFunction(m *onnxpb.ModelProto) {
	g := m.Graph
	f := &onnxpb.FunctionProto{Name: proto.String("Wrapped"), Domain: proto.String("wrap"), Node: g.Node, OpsetImport: m.OpsetImport}
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			f.Input = append(f.Input, name)
		}
	}
	for _, v := range g.Input {
		add(v.GetName())
	}
	for _, v := range g.Initializer {
		add(v.GetName())
	}
	for _, v := range g.SparseInitializer {
		add(v.GetValues().GetName())
	}
	for _, v := range g.Output {
		f.Output = append(f.Output, v.GetName())
	}
	out := outputs(g)
	g.Node = []*onnxpb.NodeProto{{OpType: f.Name, Domain: f.Domain, Input: f.Input, Output: out}}
	m.Functions = append(m.Functions, f)
}

func wrapIf(m *onnxpb.ModelProto) {
	g := m.Graph
	branch := func() *onnxpb.GraphProto {
		b := &onnxpb.GraphProto{}
		for _, n := range g.Node {
			b.Node = append(b.Node, proto.Clone(n).(*onnxpb.NodeProto))
		}
		for _, v := range g.Output {
			b.Output = append(b.Output, &onnxpb.ValueInfoProto{Name: proto.String(v.GetName())})
		}
		return b
	}
	yes, no := branch(), branch()
	yes.Node = g.Node
	out := outputs(g)
	g.Node = []*onnxpb.NodeProto{{OpType: proto.String("Oops"), Domain: proto.String("wrap"), Output: []string{"wrapped"}},
		newNode("If", "wrapped", "", attrGraph("then_branch", yes), attrGraph("else_branch", no))}
	g.Node[1].Output = out
}

func wrapLoop(m *onnxpb.ModelProto) {
	g := m.Graph
	b := counted(body("run again", "", func(s *sketch) {}))
	b.Output = []*onnxpb.ValueInfoProto{{Name: proto.String("again")}}
	for _, v := range g.Output {
		b.Output = append(b.Output, &onnxpb.ValueInfoProto{Name: proto.String(v.GetName())})
	}
	b.Node = g.Node
	out := outputs(g)
	g.Initializer = append(g.Initializer, intTensor("once", nil, 1))
	g.Node = []*onnxpb.NodeProto{newNode("Loop", "once _", "", attrGraph("body", b))}
	g.Node[0].Output = out
}
