package compact

import (
	"bytes"
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// cost fills p.After and what is dropped, from the draft that Apply makes.
func (p *Plan) cost(ctx context.Context, s *solution) error {
	d, err := s.apply(ctx)
	if err != nil {
		return err
	}
	before := s.a.m.Handle.Model.GetGraph()
	there := map[string]bool{}
	for _, n := range d.Model.Graph.Node {
		there[nodeKey(n)] = true
	}
	for i, n := range before.GetNode() {
		if !there[nodeKey(n)] {
			p.DroppedNodes = append(p.DroppedNodes, s.a.g.Nodes[i].Label())
		}
	}
	there = map[string]bool{}
	for _, t := range d.Model.Graph.Initializer {
		there[t.GetName()] = true
	}
	for _, t := range before.GetInitializer() {
		if !there[t.GetName()] {
			p.DroppedTensors = append(p.DroppedTensors, t.GetName())
		}
	}
	size, err := d.Size()
	if err != nil {
		return fmt.Errorf("%s: %w", s.a.m.File, err)
	}
	f, err := outline(d, s.a.m.File)
	if err != nil {
		return err
	}
	defer f.Close()
	opt := s.a.m.Options
	opt.Weights, opt.Statistics = false, false
	m, err := inspect.New(ctx, f, opt)
	if err != nil {
		return err
	}
	p.After = Cost{Bytes: size, Parameters: m.Totals.Parameters, MACs: m.Totals.MACs}
	for _, t := range d.Model.Graph.Initializer {
		if t.GetDataLocation() == onnxpb.TensorProto_EXTERNAL {
			if src, ok := s.a.g.Initializer(t.GetName()); ok {
				p.After.Bytes += src.StoredBytes()
			}
		}
	}
	return nil
}

// nodeKey tells nodes apart by what they make.
func nodeKey(n *onnxpb.NodeProto) string {
	if len(n.Output) == 0 {
		return n.GetName()
	}
	return n.Output[0]
}

// outlined is the size above which a tensor's numbers are left out of an outline:
// shapes do not follow from such.
const outlined = 64 << 10

// outline returns the model of a draft as a file in memory, without its large
// tensors.
func outline(d *onnxfile.Draft, name string) (*onnxfile.File, error) {
	c := *d
	c.Model = proto.Clone(d.Model).(*onnxpb.ModelProto)
	for _, t := range c.Model.Graph.Initializer {
		outlineTensor(t)
	}
	for _, n := range c.Model.Graph.Node {
		for _, at := range n.Attribute {
			if at.T != nil {
				outlineTensor(at.T)
			}
		}
	}
	b, err := c.Bytes()
	if err != nil {
		return nil, err
	}
	return onnxfile.Read(bytes.NewReader(b), int64(len(b)), name)
}

func outlineTensor(t *onnxpb.TensorProto) {
	n := int64(0)
	for _, p := range t.FilterlensPayload {
		n += p.GetLength()
	}
	if n < outlined {
		return
	}
	entry := func(k, v string) *onnxpb.StringStringEntryProto {
		return &onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(v)}
	}
	t.FilterlensPayload = nil
	t.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
	t.ExternalData = []*onnxpb.StringStringEntryProto{entry("location", "weights"), entry("length", fmt.Sprint(n))}
}
