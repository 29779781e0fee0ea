package export

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// checkUntouched compares the two files bit for bit, wherever they store their
// numbers: nothing may differ but the numbers of the stored tensors named, and the
// entry that records how the file was made. What compare calls the same is not enough here: the file
// that is left has to be the one that was read.
func checkUntouched(ctx context.Context, original, written *inspect.Model, changed map[string]bool) error {
	a, b := original.Handle, written.Handle
	ta, tb := tensorsOf(a.Model.ProtoReflect()), tensorsOf(b.Model.ProtoReflect())
	if len(ta) != len(tb) {
		return fmt.Errorf("%d tensors became %d", len(ta), len(tb))
	}
	planned := map[*onnxpb.TensorProto]bool{}
	for name := range changed {
		planned[weightIn(a.Model, name)] = true
	}
	for i, t := range ta {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if planned[t] {
			continue
		}
		same, err := onnxfile.SameData(a.Tensor(t), b.Tensor(tb[i]))
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("tensor %q is changed", t.GetName())
		}
	}
	x, y := withoutNumbers(a.Model, changed), withoutNumbers(b.Model, changed)
	for i, n := range x.GetGraph().GetNode() {
		if nodes := y.GetGraph().GetNode(); i >= len(nodes) || !proto.Equal(n, nodes[i]) {
			return fmt.Errorf("node %d %q (%s) is changed", i, n.GetName(), n.GetOpType())
		}
	}
	if !proto.Equal(x, y) {
		return fmt.Errorf("something else than nodes and weights is changed: inputs, outputs, metadata, operator sets or functions")
	}
	return nil
}

// tensorsOf lists the tensors within a message, at any depth, in the order of the
// fields.
func tensorsOf(m protoreflect.Message) (list []*onnxpb.TensorProto) {
	if t, ok := m.Interface().(*onnxpb.TensorProto); ok {
		return []*onnxpb.TensorProto{t}
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Message() == nil || f.IsMap() || !m.Has(f):
		case f.IsList():
			l := m.Get(f).List()
			for k := range l.Len() {
				list = append(list, tensorsOf(l.Get(k).Message())...)
			}
		default:
			list = append(list, tensorsOf(m.Get(f).Message())...)
		}
	}
	return list
}

// withoutNumbers returns a copy of m that has neither what its tensors hold, wherever
// that is stored, nor the numbers of Constant nodes named, nor the entry that records
// how it was made.
func withoutNumbers(m *onnxpb.ModelProto, changed map[string]bool) *onnxpb.ModelProto {
	m = proto.Clone(m).(*onnxpb.ModelProto)
	for _, t := range tensorsOf(m.ProtoReflect()) {
		t.RawData, t.FloatData, t.Int32Data, t.Int64Data, t.DoubleData, t.Uint64Data, t.StringData = nil, nil, nil, nil, nil, nil, nil
		t.ExternalData, t.DataLocation, t.FilterlensPayload = nil, nil, nil
	}
	for _, n := range m.GetGraph().GetNode() {
		if n.GetOpType() == "Constant" && len(n.Output) == 1 && changed[n.Output[0]] {
			for _, at := range n.Attribute {
				at.F, at.Floats = nil, nil
			}
		}
	}
	kept := m.MetadataProps[:0]
	for _, kv := range m.MetadataProps {
		if kv.GetKey() != MetadataKey {
			kept = append(kept, kv)
		}
	}
	if m.MetadataProps = kept; len(kept) == 0 {
		m.MetadataProps = nil
	}
	return m
}
