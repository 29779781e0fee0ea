package inspect

import (
	"sync"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// listed holds the tensors of Constant nodes whose numbers stand in the attribute
// itself (value_float and the like), made when they are first asked for.
type listed struct {
	mu      sync.Mutex
	tensors map[*onnxpb.AttributeProto]*onnxpb.TensorProto
}

// constant returns the dense tensor that a Constant node holds, nil for others.
func (x *expansion) constant(n *Node) *onnxpb.TensorProto {
	if !n.Standard() || n.Op != "Constant" || n.function != nil {
		return nil
	}
	if t := n.Attr("value").GetT(); t != nil {
		return t
	}
	for _, name := range []string{"value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings"} {
		if a := n.Attr(name); a != nil {
			if t := x.listed.tensor(name, a); t != nil {
				return t
			}
		}
	}
	return nil
}

// constantOf does the same for an attribute of a node that has no place in a
// Graph.
func (x *expansion) constantOf(n *onnxpb.NodeProto, a *onnxpb.AttributeProto) *onnxpb.TensorProto {
	if n.GetOpType() != "Constant" || plainDomain(n.GetDomain()) != "" || a.GetRefAttrName() != "" {
		return nil
	}
	return x.listed.tensor(a.GetName(), a)
}

// tensor returns the tensor that an attribute of a Constant stands for, always
// the same one, nil when it does not hold what its name says.
func (l *listed) tensor(name string, a *onnxpb.AttributeProto) *onnxpb.TensorProto {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.tensors[a]; ok {
		return t
	}
	d, dims := onnxpb.TensorProto_FLOAT, []int64{}
	t := &onnxpb.TensorProto{}
	switch {
	case name == "value_float" && a.F != nil:
		t.FloatData = []float32{a.GetF()}
	case name == "value_floats":
		t.FloatData = a.GetFloats()
		dims = append(dims, int64(len(t.FloatData)))
	case name == "value_int" && a.I != nil:
		d, t.Int64Data = onnxpb.TensorProto_INT64, []int64{a.GetI()}
	case name == "value_ints":
		d, t.Int64Data = onnxpb.TensorProto_INT64, a.GetInts()
		dims = append(dims, int64(len(t.Int64Data)))
	case name == "value_string" && a.S != nil:
		d, t.StringData = onnxpb.TensorProto_STRING, [][]byte{a.GetS()}
	case name == "value_strings":
		d, t.StringData = onnxpb.TensorProto_STRING, a.GetStrings()
		dims = append(dims, int64(len(t.StringData)))
	default:
		return nil
	}
	kind := int32(d)
	t.DataType, t.Dims = &kind, dims
	if l.tensors == nil {
		l.tensors = make(map[*onnxpb.AttributeProto]*onnxpb.TensorProto)
	}
	l.tensors[a] = t
	return t
}
