package compact

import (
	"bytes"
	"context"
	"errors"
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
	if err != nil && !errors.Is(err, onnxfile.ErrTooLarge) {
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
	return nil
}

// price returns a function that tells what one channel alone takes along.
func (a *analysis) price() func(c int) (parameters, macs int64) {
	type layer struct {
		in, out *track // in is nil where it is coupled with out
		macs    int64
	}
	layers := map[int32][]*layer{}
	counted := map[string]bool{} // as parameters
	for i := range a.m.Layers {
		l := &a.m.Layers[i]
		for _, name := range append([]string{l.Weight, l.Bias}, l.Others...) {
			counted[name] = true
		}
		if l.Scope != "" || l.MACs == nil || a.live[l.OutTensor] == nil {
			continue
		}
		x := &layer{out: a.live[l.OutTensor], macs: *l.MACs}
		layers[a.owner[x.out.base]] = append(layers[a.owner[x.out.base]], x)
		for _, s := range a.sinks {
			if s.node.Index == l.Node && s.groups == 1 {
				x.in = s.in
				layers[a.owner[s.in.base]] = append(layers[a.owner[s.in.base]], x)
			}
		}
	}
	params := map[int32]*param{}
	for name, p := range a.params {
		for _, t := range p.tracks {
			if !counted[name] {
				continue
			}
			params[a.owner[t.base]] = p
		}
	}
	return func(c int) (parameters, macs int64) {
		places := map[int32]int64{} // of the channel, by track
		for _, s := range a.members(c) {
			places[a.owner[s]]++
		}
		// What is left of a tensor of n elements, without the channel.
		seenP, seenL := map[*param]bool{}, map[*layer]bool{}
		for o := range places {
			if p := params[o]; p != nil && !seenP[p] {
				seenP[p] = true
				all, left := int64(1), int64(1)
				for axis, d := range p.dims {
					all *= d
					if t := p.tracks[axis]; t != nil {
						d -= places[a.owner[t.base]]
					}
					left *= d
				}
				parameters += all - left
			}
			for _, l := range layers[o] {
				if seenL[l] {
					continue
				}
				seenL[l] = true
				left := l.macs / int64(l.out.n) * (int64(l.out.n) - places[a.owner[l.out.base]])
				if l.in != nil {
					left = left / int64(l.in.n) * (int64(l.in.n) - places[a.owner[l.in.base]])
				}
				macs += l.macs - left
			}
		}
		return parameters, macs
	}
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
