package inspect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// versions adds what is wrong with the IR version and the imported operator sets.
func (f *finder) versions() {
	pb := f.m.Handle.Model
	ir := pb.GetIrVersion()
	switch {
	case pb.IrVersion == nil:
		f.addAs(LevelError, "ir-opset", place{}, "the file does not say which IR version it has; export the model again")
	case ir > newestIR():
		f.add("ir-opset", place{}, "IR version %d is newer than %d, the newest of ONNX %s; what is new in it is not checked", ir, newestIR(), schemaRelease)
	}
	if len(pb.GetOpsetImport()) == 0 && ir >= 3 {
		f.addAs(LevelError, "ir-opset", place{}, "the model imports no operator set, which IR version %d demands; export it again", ir)
	}
	seen, used := make(map[string]int64), f.domains()
	for _, o := range pb.GetOpsetImport() {
		domain, v := plainDomain(o.GetDomain()), o.GetVersion()
		name := domain
		if name == "" {
			name = "ai.onnx"
		}
		if before, ok := seen[domain]; ok {
			f.add("ir-opset", place{}, "the model imports %s twice, as version %d and as version %d; which one holds is up to the runtime; remove one", name, before, v)
			continue
		}
		seen[domain] = v
		newest, oldest := newestOpset(domain), oldestIR(domain, v)
		switch {
		case v <= 0:
			f.addAs(LevelError, "ir-opset", place{}, "the model imports version %d of %s, which there is none of", v, name)
		case !used[domain]:
			// Some programs import all that they know.
		case newest > 0 && v > newest:
			f.add("ir-opset", place{}, "the model imports version %d of %s, newer than %d, the newest of ONNX %s; its operators are checked as those of %d", v, name, newest, schemaRelease, newest)
		case oldest > ir && ir > 0:
			f.add("ir-opset", place{}, "version %d of %s came with IR version %d, the file has %d; a reader of that age may refuse it; convert the file to IR version %d", v, name, oldest, ir, oldest)
		}
	}
}

// domains returns those of the nodes of all graphs, functions and training_info.
func (f *finder) domains() map[string]bool {
	used := make(map[string]bool)
	pb := f.m.Handle.Model
	keepDomains(used, pb.GetGraph().GetNode())
	for _, fn := range pb.GetFunctions() {
		keepDomains(used, fn.GetNode())
	}
	for _, t := range pb.GetTrainingInfo() {
		keepDomains(used, t.GetInitialization().GetNode())
		keepDomains(used, t.GetAlgorithm().GetNode())
	}
	return used
}

func keepDomains(used map[string]bool, nodes []*onnxpb.NodeProto) {
	for _, n := range nodes {
		used[plainDomain(n.GetDomain())] = true
		for _, a := range n.GetAttribute() {
			keepDomains(used, a.GetG().GetNode())
			for _, g := range a.GetGraphs() {
				keepDomains(used, g.GetNode())
			}
		}
	}
}

// usage counts the nodes that have one fault in common.
type usage struct {
	level, code string
	first       place
	nodes       int
	// text begins with what the nodes are.
	text string
}

// usages keeps faults in the order in which they are found.
type usages struct {
	order []*usage
	by    map[string]*usage
}

func (u *usages) add(level, code string, p place, text string) {
	x := u.by[code+"\n"+text]
	if x == nil {
		x = &usage{level: level, code: code, first: p, text: text}
		if u.by == nil {
			u.by = make(map[string]*usage)
		}
		u.by[code+"\n"+text] = x
		u.order = append(u.order, x)
	}
	x.nodes++
}

// operators adds what is wrong with single nodes, going by the tables of the
// standard.
func (f *finder) operators() {
	var all usages
	domains := make(map[string]bool) // that functions of the model belong to
	for _, fn := range f.m.Handle.Model.GetFunctions() {
		domains[plainDomain(fn.GetDomain())] = true
	}
	for _, g := range f.graphs {
		for _, n := range g.Nodes {
			if n.function == nil {
				f.operator(&all, g, n, domains)
			}
		}
	}
	for _, u := range all.order {
		text := u.text + "; the node is " + fmt.Sprintf("%q", u.first.node.Label())
		if u.nodes > 1 {
			text = u.text + fmt.Sprintf("; %d nodes, the first is %q", u.nodes, u.first.node.Label())
		}
		f.addAs(u.level, u.code, u.first, "%s", text)
	}
}

func (f *finder) operator(all *usages, g locatedGraph, n *Node, local map[string]bool) {
	p := place{scope: g.scope, node: n}
	domain := plainDomain(n.Domain)
	opset, imported := g.opsets[domain]
	if !imported && len(g.opsets) > 0 && !(g.calls != nil && domain == "") {
		level := LevelError
		if domain == "" || newestOpset(domain) > 0 || hasKnownPrefix(domain) {
			level = LevelWarning // runtimes take the newest version that they have
		}
		name := domain
		if name == "" {
			name = "ai.onnx"
		}
		all.add(level, "domain-not-imported", p, fmt.Sprintf("operators of %s are used, and the model does not import it; add it to the imported operator sets", name))
		return
	}
	if !imported {
		if opset = g.Opset(domain); opset == 0 {
			return
		}
	}
	if local[domain] && domain != "" && newestOpset(domain) == 0 {
		all.add(LevelWarning, "function-missing", p, fmt.Sprintf("the model defines functions of the domain %s, and none of them is %s%s; unless a runtime brings it, the model cannot run", domain, n.Op, overload(n.Proto)))
		return
	}
	newest := newestOpset(domain)
	if newest == 0 {
		return // not the standard's
	}
	s := schemaOf(domain, n.Op)
	level := LevelError
	if domain == "" && outsideStandard(n.Op) {
		level = LevelWarning
	}
	switch {
	case n.Op == "":
		all.add(LevelError, "op-unknown", p, "a node without an operator")
		return
	case s == nil && opset > newest:
		return // perhaps it came after the tables
	case s == nil:
		where := ""
		if domain != "" {
			where = " of " + domain
		}
		all.add(level, "op-unknown", p, fmt.Sprintf("%s is no operator%s in any version of the standard up to ONNX %s", n.Op, where, schemaRelease))
		return
	}
	v := s.at(opset)
	if v == nil {
		all.add(level, "op-unknown", p, fmt.Sprintf("%s was introduced in version %d, the model imports %d; convert it to that version or export it again", n.Op, s.versions[0].since, opset))
		return
	}
	if v.deprecated {
		since := v.since
		all.add(LevelWarning, "op-deprecated", p, fmt.Sprintf("%s is deprecated since version %d, the model imports %d; %s", n.Op, since, opset, instead(n.Op)))
	}
	inputs, outputs := int16(min(len(n.Inputs), 1<<14)), int16(min(len(n.Outputs), 1<<14))
	switch {
	case inputs < v.minIn:
		f.add("operands", p, "%s has %s, version %d needs at least %d", described(n), count(len(n.Inputs), "input", "inputs"), opset, v.minIn)
	case v.maxIn >= 0 && inputs > v.maxIn:
		f.add("operands", p, "%s has %s, version %d takes at most %d", described(n), count(len(n.Inputs), "input", "inputs"), opset, v.maxIn)
	}
	for i, in := range n.Inputs {
		if in == "" && i < 64 && v.required>>i&1 != 0 {
			f.add("operands", p, "%s leaves out input %d, which version %d demands; export the model again", described(n), i, opset)
			break
		}
	}
	if v.maxOut >= 0 && outputs > v.maxOut {
		f.add("operands", p, "%s has %s, version %d gives at most %d", described(n), count(len(n.Outputs), "output", "outputs"), opset, v.maxOut)
	}
	f.inputTypes(g, n, v, opset)
	f.attributes(g, n, v, opset)
}

// inputTypes adds the first input of a node whose type is known and not one that
// the operator takes.
func (f *finder) inputTypes(g locatedGraph, n *Node, v *schemaVersion, opset int64) {
	if len(v.types) == 0 {
		return
	}
	first := make(map[byte]int) // input of each type parameter
	for i, in := range n.Inputs {
		t := g.at(in)
		if in == "" || t.kind != tensorKind || t.dtype <= 0 || t.dtype > 63 {
			continue
		}
		k := min(i, len(v.types)-1)
		p := place{g.scope, n, in}
		if v.types[k]&(1|1<<t.dtype) == 0 {
			f.add("input-type", p, "%s reads %q, which is %s; version %d does not take that as input %d; cast it or convert the model", described(n), in, t.dtype, opset, i)
			return
		}
		letter := v.parameters[k]
		if letter == '-' {
			continue
		}
		j, ok := first[letter]
		if !ok {
			first[letter] = i
			continue
		}
		if other := g.at(n.Inputs[j]); other.dtype != t.dtype {
			f.add("input-type", p, "%s reads %q, which is %s, and %q, which is %s; they have to be of one type; cast one of them", described(n), n.Inputs[j], other.dtype, in, t.dtype)
			return
		}
	}
}

// attributes adds those that a node has and its operator does not, or the other
// way round.
func (f *finder) attributes(g locatedGraph, n *Node, v *schemaVersion, opset int64) {
	p := place{scope: g.scope, node: n}
	given := n.Proto.GetAttribute()
	for _, a := range given {
		name := a.GetName()
		// Those that begin so are notes of a program to itself.
		if _, ok := v.rule(name); !ok && !strings.HasPrefix(name, "__") {
			f.add("attribute", p, "%s has the attribute %q, which version %d does not have; convert the model or remove it", described(n), name, opset)
		}
	}
	if a, r := v.mistyped(n); a != nil {
		f.add("attribute", p, "%s has the attribute %q of type %s, version %d wants %s; export the model again",
			described(n), a.GetName(), kindName(a.GetType()), opset, kindName(r.kind))
	}
	for r := range v.rules() {
		if r.required && !slices.ContainsFunc(given, func(a *onnxpb.AttributeProto) bool { return a.GetName() == r.name }) {
			f.add("attribute", p, "%s lacks the attribute %q, which version %d demands; export the model again", described(n), r.name, opset)
		}
	}
}

// kindName is what the standard calls a type of attribute, in lower case.
func kindName(k onnxpb.AttributeProto_AttributeType) string { return strings.ToLower(k.String()) }

// hasKnownPrefix tells whether a domain is one that runtimes bring and import
// by themselves.
func hasKnownPrefix(domain string) bool {
	return strings.HasPrefix(domain, "com.microsoft") || strings.HasPrefix(domain, "com.ms.") || strings.HasPrefix(domain, "ai.onnx.")
}

func overload(n *onnxpb.NodeProto) string {
	if n.GetOverload() == "" {
		return ""
	}
	return fmt.Sprintf(" (overload %q)", n.GetOverload())
}

// instead says what stands in for a deprecated operator.
func instead(op string) string {
	switch op {
	case "Upsample":
		return "ONNX Runtime and the checker refuse it; use Resize"
	case "Scatter":
		return "ONNX Runtime and the checker refuse it; use ScatterElements"
	case "GroupNormalization":
		return "its scale and bias were given by group; use the one of version 21"
	case "TreeEnsembleClassifier", "TreeEnsembleRegressor":
		return "use TreeEnsemble"
	}
	return "use what the standard names instead"
}

// functions adds the functions that nothing calls.
func (f *finder) functions() {
	pb := f.m.Handle.Model
	if len(pb.GetFunctions()) == 0 {
		return
	}
	byID := make(map[functionID]*onnxpb.FunctionProto)
	id := func(fn *onnxpb.FunctionProto) functionID {
		return functionID{plainDomain(fn.GetDomain()), fn.GetName(), fn.GetOverload()}
	}
	for _, fn := range pb.GetFunctions() {
		if byID[id(fn)] == nil {
			byID[id(fn)] = fn
		}
	}
	called := make(map[*onnxpb.FunctionProto]bool)
	var visit func(nodes []*onnxpb.NodeProto)
	visit = func(nodes []*onnxpb.NodeProto) {
		for _, n := range nodes {
			if fn := byID[calledBy(n)]; fn != nil && !called[fn] {
				called[fn] = true
				visit(fn.GetNode())
			}
			for _, a := range n.GetAttribute() {
				visit(a.GetG().GetNode())
				for _, g := range a.GetGraphs() {
					visit(g.GetNode())
				}
			}
		}
	}
	visit(pb.GetGraph().GetNode())
	for _, t := range pb.GetTrainingInfo() {
		visit(t.GetInitialization().GetNode())
		visit(t.GetAlgorithm().GetNode())
	}
	for _, fn := range pb.GetFunctions() {
		switch {
		case byID[id(fn)] != fn:
			f.add("duplicate-name", place{}, "function %s of the domain %q is defined twice; remove one", fn.GetName(), fn.GetDomain())
		case !called[fn]:
			f.add("unused-function", place{}, "function %s of the domain %q is called by no node; remove it", fn.GetName(), fn.GetDomain())
		}
	}
}

// keep marks what training and quantization refer to by name.
func (f *finder) kept() map[string]bool {
	kept := make(map[string]bool)
	pb := f.m.Handle.Model
	for _, t := range pb.GetTrainingInfo() {
		for _, g := range []*onnxpb.GraphProto{t.GetInitialization(), t.GetAlgorithm()} {
			for _, n := range g.GetNode() {
				keepReads(kept, n)
			}
			for _, v := range g.GetOutput() {
				kept[v.GetName()] = true
			}
		}
		for _, kv := range slices.Concat(t.GetInitializationBinding(), t.GetUpdateBinding()) {
			kept[kv.GetKey()], kept[kv.GetValue()] = true, true
		}
	}
	for _, q := range pb.GetGraph().GetQuantizationAnnotation() {
		for _, kv := range q.GetQuantParameterTensorNames() {
			kept[kv.GetValue()] = true
		}
	}
	return kept
}

func keepReads(kept map[string]bool, n *onnxpb.NodeProto) {
	for _, in := range n.GetInput() {
		kept[in] = true
	}
	for _, a := range n.GetAttribute() {
		for _, g := range append(a.Graphs[:len(a.Graphs):len(a.Graphs)], a.G) {
			for _, n := range g.GetNode() {
				keepReads(kept, n)
			}
		}
	}
}
