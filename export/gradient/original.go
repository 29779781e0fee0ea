package gradient

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// common relates what an original computes to what a model computes: the two agree,
// bit for bit, up to the first weight that differs.
type common struct {
	original, model *fixed
	// tensors leads from those of the original to the same ones of the model.
	tensors map[string]string
}

// compare finds what a model and its original have in common. apart names stored
// tensors of the model that are another's even where their numbers are the same,
// because they are about to change.
func compare(original, model *fixed, apart func(stored string) bool) (*common, error) {
	c := &common{original: original, model: model, tensors: map[string]string{original.image: model.image}}
	nodes := map[string]*inspect.Node{}
	constants := map[string]*inspect.Node{}
	for _, n := range model.nodes {
		if n.Standard() && n.Op == "Constant" {
			constants[n.Output(0)] = n
		} else if key, ok := nodeKey(n, n.Inputs); ok {
			nodes[key] = n
		}
	}
	for _, n := range original.nodes {
		if n.Standard() && n.Op == "Constant" {
			out := n.Output(0)
			if constants[out] == nil || apart(out) {
				continue
			}
			if err := c.note(out, original.graph.Stored, model.graph.Stored); err != nil {
				return nil, err
			}
			continue
		}
		inputs := make([]string, len(n.Inputs))
		all := true
		for i, in := range n.Inputs {
			if in == "" {
				continue
			}
			if _, ok := c.tensors[in]; !ok && !apart(in) {
				if err := c.note(in, initializer(original.graph), initializer(model.graph)); err != nil {
					return nil, err
				}
			}
			var ok bool
			inputs[i], ok = c.tensors[in]
			all = all && ok
		}
		key, ok := nodeKey(n, inputs)
		same := nodes[key]
		if !all || !ok || same == nil {
			continue
		}
		for i, out := range n.Outputs {
			if out != "" && same.Output(i) != "" {
				c.tensors[out] = same.Output(i)
			}
		}
	}
	return c, nil
}

// initializer looks a tensor up that is one, and no constant computed from others.
func initializer(g *inspect.Graph) func(string) (inspect.Stored, bool) {
	return func(name string) (inspect.Stored, bool) {
		t, ok := g.Initializer(name)
		return inspect.Stored{Name: name, Tensor: t}, ok
	}
}

// note takes up a stored tensor that both have under one name, if its data are the same.
func (c *common) note(name string, original, model func(string) (inspect.Stored, bool)) error {
	a, ok := original(name)
	if !ok || a.Name != name {
		return nil
	}
	b, ok := model(name)
	if !ok || b.Name != name {
		return nil
	}
	same, err := onnxfile.SameData(a.Tensor, b.Tensor)
	if same {
		c.tensors[name] = name
	}
	return err
}

// nodeKey tells what a node computes of its inputs. It is not ok for a node whose
// attributes hold tensors or graphs.
func nodeKey(n *inspect.Node, inputs []string) (string, bool) {
	p := &onnxpb.NodeProto{Domain: n.Proto.Domain}
	for _, a := range n.Proto.Attribute {
		if holdsMore(a) {
			return "", false
		}
		p.Attribute = append(p.Attribute, a)
	}
	slices.SortFunc(p.Attribute, func(a, b *onnxpb.AttributeProto) int { return strings.Compare(a.GetName(), b.GetName()) })
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	return fmt.Sprintf("%s %q %s", n.Op, inputs, b), err == nil
}

// holdsMore tells that an attribute holds a tensor or a graph.
func holdsMore(a *onnxpb.AttributeProto) bool {
	return a.T != nil || a.SparseTensor != nil || a.G != nil || len(a.Tensors)+len(a.SparseTensors)+len(a.Graphs) > 0
}

// computed returns the model's tensors that the original computes too.
func (c *common) computed() map[string]bool {
	own := map[string]bool{}
	for _, t := range c.tensors {
		own[t] = true
	}
	return own
}

// fits tells whether the original's nodes mean in the model's graph what they mean in
// their own.
func (c *common) fits() bool {
	if c.original.graph.Opset("") != c.model.graph.Opset("") {
		return false
	}
	for _, n := range c.original.nodes {
		if !n.Standard() || n.Op != "Constant" && slices.ContainsFunc(n.Proto.Attribute, holdsMore) {
			return false
		}
	}
	return true
}

// teach adds what the original computes and the model does not, and returns its logits.
func (b *backward) teach(c *common) (string, error) {
	g := c.original.graph
	name := func(t string) (string, error) {
		if t == "" {
			return "", nil
		}
		if own, ok := c.tensors[t]; ok {
			return own, nil
		}
		s, ok := g.Stored(t)
		if !ok || s.Name != t {
			return "", fmt.Errorf("tensor %q of %s is neither stored nor computed", t, b.file)
		}
		p := &onnxpb.TensorProto{Name: proto.String(b.prefix + "original." + t), Dims: s.Tensor.Dims(), DataType: proto.Int32(int32(s.Tensor.DType()))}
		data, err := s.Tensor.Raw(nil)
		if err != nil {
			return "", err
		}
		b.d.SetRaw(p, data)
		b.g.Initializer = append(b.g.Initializer, p)
		c.tensors[t] = p.GetName()
		b.shape[p.GetName()] = p.Dims
		return p.GetName(), nil
	}
	for _, n := range c.original.nodes {
		if n.Op == "Constant" || !slices.ContainsFunc(n.Outputs, func(t string) bool { return t != "" && c.tensors[t] == "" }) {
			continue
		}
		p := proto.Clone(n.Proto).(*onnxpb.NodeProto)
		p.Name = proto.String(b.fresh())
		for i, in := range n.Inputs {
			own, err := name(in)
			if err != nil {
				return "", err
			}
			p.Input[i] = own
		}
		for i, out := range n.Outputs {
			if out == "" {
				continue
			}
			p.Output[i] = b.prefix + "original." + out
			c.tensors[out] = p.Output[i]
			if dims, ok := g.Shape(out).Fixed(); ok {
				b.shape[p.Output[i]] = dims
			}
		}
		b.g.Node = append(b.g.Node, p)
	}
	return c.tensors[c.original.logits], nil
}
