package inspect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// The levels of findings.
const (
	LevelError   = "error"
	LevelWarning = "warning"
)

// A Finding is something in a file that a person should look at.
type Finding struct {
	// Code names the kind, in lower case with hyphens ("unused-initializer").
	Code string `json:"code"`
	// Level is "error" for what no runtime can run as it stands, "warning" for
	// what runs and is wasted, slower, not portable or doubtful.
	Level string `json:"level"`
	// Node and Tensor are the labels of what it is about, "" when it is about
	// none; Scope is that of the node or tensor, as in Layer.
	Scope  string `json:"scope,omitempty"`
	Node   string `json:"node,omitempty"`
	Tensor string `json:"tensor,omitempty"`
	// Text is a sentence: what is wrong and, where it helps, what to do.
	Text string `json:"text"`
}

// FindingOptions says what Findings looks at.
type FindingOptions struct {
	// Weights reads the stored numbers, for the findings that are about them:
	// duplicate-initializer, nan-weights, inf-weights, zero-filter and
	// subnormal-weights.
	Weights bool
}

// findingCodes are all codes in the order in which findings are listed, with the
// level that they have unless the case says otherwise.
var findingCodes = []struct{ code, level string }{
	// What keeps a model from running.
	{"missing-tensor", LevelError},
	{"written-twice", LevelError},
	{"cycle", LevelError},
	{"output-missing", LevelError},
	{"stored-size", LevelError},
	{"channels", LevelError},
	{"shapes", LevelError},
	{"operands", LevelError},
	{"input-type", LevelError},
	{"attribute", LevelError},
	{"type-mismatch", LevelError},
	{"empty-name", LevelError},
	{"duplicate-name", LevelError},
	// Operators and versions.
	{"ir-opset", LevelWarning},
	{"domain-not-imported", LevelError},
	{"op-unknown", LevelError},
	{"op-deprecated", LevelWarning},
	{"function-missing", LevelWarning},
	{"unused-function", LevelWarning},
	// External data.
	{"external-outside", LevelError},
	{"external-missing", LevelError},
	{"external-unreadable", LevelError},
	{"external-range", LevelError},
	{"external-overlap", LevelWarning},
	{"external-orphan", LevelWarning},
	// What is there for nothing, or says what is not so.
	{"unused-input", LevelWarning},
	{"unused-initializer", LevelWarning},
	{"duplicate-initializer", LevelWarning},
	{"dead-node", LevelWarning},
	{"unsorted-nodes", LevelWarning},
	{"initializer-input", LevelWarning},
	{"stale-value-info", LevelWarning},
	{"stale-output-shape", LevelWarning},
	{"baked-batch", LevelWarning},
	// Weights.
	{"nan-weights", LevelWarning},
	{"inf-weights", LevelWarning},
	{"zero-filter", LevelWarning},
	{"subnormal-weights", LevelWarning},
}

// Findings returns what a person should look at: faults that keep the model from
// running, what is unused, contradictory or out of date, and with opt.Weights
// what is odd about the numbers. The order is that of the kinds, then of the
// file. A tensor that cannot be read is a finding; an error is that ctx ended.
// Findings are made with care not to raise a false alarm: where something is
// not certain, there is none.
func (m *Model) Findings(ctx context.Context, opt FindingOptions) ([]Finding, error) {
	f := finder{m: m, graphs: m.locatedGraphs(), told: make(map[*onnxpb.NodeProto]bool), dead: make(map[*onnxpb.NodeProto]bool)}
	f.faults()
	f.interfaces()
	f.versions()
	f.operators()
	f.functions()
	f.unused()
	f.shapes()
	f.declarations()
	f.batch()
	if err := f.storage(ctx); err != nil {
		return nil, err
	}
	if opt.Weights {
		if err := f.weights(ctx); err != nil {
			return nil, err
		}
	}
	rank := make(map[string]int, len(findingCodes))
	for i, c := range findingCodes {
		rank[c.code] = i
	}
	slices.SortStableFunc(f.list, func(a, b Finding) int { return cmp.Compare(rank[a.Code], rank[b.Code]) })
	return f.list, ctx.Err()
}

// A finder collects findings.
type finder struct {
	m      *Model
	graphs []locatedGraph
	list   []Finding
	// told are the nodes that an error was found at, dead those that reach no
	// output.
	told, dead map[*onnxpb.NodeProto]bool
}

// A locatedGraph is a graph with its scope.
type locatedGraph struct {
	scope string
	*Graph
}

// locatedGraphs returns the main graph and those within, the body of a function
// once however often it is called.
func (m *Model) locatedGraphs() []locatedGraph {
	var all []locatedGraph
	seen := make(map[any]bool)
	for scope, g := range m.Graph.All() {
		var key any = g.Function()
		if _, owner := g.Parent(); owner != nil && g.Function() == nil {
			key = [2]any{owner.Proto, g.attr}
		}
		if seen[key] && g != m.Graph {
			continue
		}
		seen[key] = true
		all = append(all, locatedGraph{scope, g})
	}
	return all
}

// proto returns the GraphProto of g, nil for the body of a function.
func (g *Graph) proto() *onnxpb.GraphProto {
	if g.parent == nil {
		return g.file.Model.GetGraph()
	}
	for _, a := range g.owner.Proto.GetAttribute() {
		if a.G != nil && a.GetName() == g.attr && g.calls == nil {
			return a.G
		}
		for i, pb := range a.Graphs {
			if fmt.Sprintf("%s[%d]", a.GetName(), i) == g.attr {
				return pb
			}
		}
	}
	return nil
}

// A place is what a finding is about.
type place struct {
	scope  string
	node   *Node
	tensor string
}

// add adds a finding with the level of its code.
func (f *finder) add(code string, p place, format string, a ...any) {
	for _, c := range findingCodes {
		if c.code == code {
			f.addAs(c.level, code, p, format, a...)
		}
	}
}

func (f *finder) addAs(level, code string, p place, format string, a ...any) {
	x := Finding{Code: code, Level: level, Scope: p.scope, Tensor: p.tensor, Text: fmt.Sprintf(format, a...)}
	if p.node != nil {
		x.Node = p.node.Label()
		f.told[p.node.Proto] = f.told[p.node.Proto] || level == LevelError
	}
	f.list = append(f.list, x)
}

// described names a node in a sentence.
func described(n *Node) string { return fmt.Sprintf("node %q (%s)", n.Label(), n.Op) }

// faults adds what Check looks for, in all graphs.
func (f *finder) faults() {
	for _, g := range f.graphs {
		for x := range g.faults() {
			if x.code == "output-missing" && x.tensor == "" {
				continue // interfaces tells
			}
			text := x.what
			if x.node != nil {
				text = described(x.node) + " " + text
			}
			f.add(x.code, place{g.scope, x.node, x.tensor}, "%s", text)
		}
		late, first := 0, (*Node)(nil)
		for _, n := range g.Nodes {
			for _, in := range n.Inputs {
				if p := g.Producer(in); p != nil && p.Index > n.Index {
					if late++; first == nil {
						first = n
					}
					break
				}
			}
		}
		if late > 0 && g.cycle == nil {
			f.add("unsorted-nodes", place{scope: g.scope, node: first},
				"%s before the nodes that they read from, which the standard does not allow and the checker refuses; the first is %s; sort them",
				count(late, "node stands", "nodes stand"), described(first))
		}
	}
	f.eachLayer(func(l *Layer, at foundLayer) error {
		if per, have, ok := f.m.channels(l); !ok {
			f.add("channels", place{l.Scope, at.node, l.InTensor}, "%s %s", described(at.node), channelFault(l, per, have))
		}
		return nil
	})
}

// interfaces adds what is wrong with names: of nodes, of what goes in and of what
// comes out.
func (f *finder) interfaces() {
	for _, g := range f.graphs {
		nodes := make(map[string]bool, len(g.Nodes))
		for _, n := range g.Nodes {
			if n.Name != "" && nodes[n.Name] {
				f.add("duplicate-name", place{scope: g.scope, node: n},
					"%s has the name of a node before it, which ONNX Runtime refuses; give each its own or none", described(n))
			}
			nodes[n.Name] = true
			if !slices.ContainsFunc(n.Outputs, func(s string) bool { return s != "" }) {
				f.add("empty-name", place{scope: g.scope, node: n}, "%s has no output; remove it", described(n))
			}
			for _, out := range n.Outputs {
				switch {
				case out == "":
				case g.inits[out] != nil || g.sparse[out] != nil:
					f.add("written-twice", place{g.scope, n, out}, "%s writes %q, which an initializer provides too; rename one of them", described(n), out)
				case g.inputs[out] != nil:
					f.add("written-twice", place{g.scope, n, out}, "%s writes %q, which is an input too; rename one of them", described(n), out)
				}
			}
		}
		pb := g.proto()
		seen := make(map[string]bool)
		for i, v := range pb.GetInput() {
			name := v.GetName()
			switch {
			case name == "":
				f.add("empty-name", place{scope: g.scope}, "input %d has no name; give it one", i)
			case seen[name]:
				f.add("duplicate-name", place{scope: g.scope, tensor: name}, "input %q is listed twice; remove one", name)
			}
			seen[name] = true
		}
		clear(seen)
		for i, v := range pb.GetOutput() {
			name := v.GetName()
			switch {
			case name == "":
				f.add("empty-name", place{scope: g.scope}, "output %d has no name; give it that of the tensor it stands for or remove it", i)
			case seen[name]:
				f.addAs(LevelWarning, "duplicate-name", place{scope: g.scope, tensor: name}, "output %q is listed twice; remove one", name)
			}
			seen[name] = true
		}
		clear(seen)
		stored := func(name string) {
			switch {
			case name == "":
				f.addAs(LevelWarning, "empty-name", place{scope: g.scope}, "an initializer has no name, so that nothing can read it; remove it")
			case seen[name]:
				f.addAs(LevelWarning, "duplicate-name", place{scope: g.scope, tensor: name},
					"two initializers have the name %q, and which one is read is up to the runtime; remove one", name)
			}
			seen[name] = true
		}
		for _, t := range pb.GetInitializer() {
			stored(t.GetName())
		}
		for _, t := range pb.GetSparseInitializer() {
			stored(t.GetValues().GetName())
		}
	}
	if g := f.m.Graph; len(f.m.Handle.Model.GetGraph().GetInput()) > 0 {
		fed := f.m.Handle.Model.GetGraph().GetInput()
		first, number := "", 0
		for _, v := range fed {
			if name := v.GetName(); name != "" && (g.inits[name] != nil || g.sparse[name] != nil) {
				if number++; number == 1 {
					first = name
				}
			}
		}
		switch {
		case number == 0:
		case f.m.IRVersion >= 4:
			f.add("initializer-input", place{tensor: first},
				"%s listed among the inputs, so that a caller may replace them and a runtime cannot fold or fuse them; the first is %q; take them off the list of inputs",
				count(number, "initializer is", "initializers are"), first)
		default:
			f.add("initializer-input", place{tensor: first},
				"%s listed among the inputs, as IR version %d demands, so that a runtime cannot fold or fuse them; the first is %q; convert the model to IR version 4 or later and take them off the list of inputs",
				count(number, "initializer is", "initializers are"), f.m.IRVersion, first)
		}
	}
}

// count returns a number with the form of a word that goes with it.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// list returns at most six of the names, quoted, and how many more there are.
func list(names []string) string {
	const most = 6
	var b strings.Builder
	for i, name := range names {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(names)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", name)
	}
	return b.String()
}

// typeAndShape is how a tensor's type and shape read.
func typeAndShape(t onnxfile.Tensor) string {
	return fmt.Sprintf("%s, %s", t.DType(), FixedShape(t.Dims()...))
}
