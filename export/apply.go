package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// MetadataKey is the metadata_props entry that records how a model was made.
const MetadataKey = "filterlens.prune"

// provenance is the value of MetadataKey.
type provenance struct {
	Source      string             `json:"source_sha256"`
	Criterion   string             `json:"criterion"`
	Target      string             `json:"target"`
	Seed        uint64             `json:"seed"`
	Thresholds  map[string]float64 `json:"thresholds"`
	Kept        int                `json:"kept_connections"`
	Connections int                `json:"connections"`
	// Filters says how many filters of each group stay, by its first layer.
	Filters map[string]int `json:"filters,omitempty"`
	Recover []string       `json:"recover,omitempty"`
	Before  string         `json:"before,omitempty"`
}

// Apply returns m with the connections of p set to zero; its filters are left alone.
// Names, metadata, opset and every weight that stays are as in the file; external
// data is spliced in. p must have been made for the same m.
func Apply(m *inspect.Model, p *Plan) (*onnxfile.Draft, error) {
	d := m.Handle.Draft()
	if err := d.InlineExternal(); err != nil {
		return nil, err
	}
	prov := provenance{Source: p.ModelSHA256, Criterion: p.Criterion, Target: p.Target, Seed: p.Seed, Recover: p.Recover,
		Thresholds: map[string]float64{}, Kept: p.Kept, Connections: p.Connections}
	for i := range p.Layers {
		l := &p.Layers[i]
		t := weightIn(d.Model, l.Weight)
		st, ok := stored(m, l)
		if t == nil || !ok {
			return nil, fmt.Errorf("layer %s: no weight tensor %q", l.Layer, l.Weight)
		}
		if n, err := st.Elements(); err != nil || n != l.Elements {
			return nil, fmt.Errorf("layer %s: tensor %q has %d elements, the plan has %d", l.Layer, l.Weight, n, l.Elements)
		}
		c, err := st.Raw(zeroDropped(l, st.DType().Bits()/8))
		if err != nil {
			return nil, err
		}
		d.SetRaw(t, c)
		prov.Thresholds[l.Layer] = l.Theta
	}
	for i := range p.Filters {
		if prov.Filters == nil {
			prov.Filters = map[string]int{}
		}
		prov.Filters[p.Filters[i].Layer] = p.Filters[i].Kept
	}
	for _, kv := range d.Model.MetadataProps {
		if kv.GetKey() == MetadataKey {
			prov.Before = kv.GetValue()
		}
	}
	v, err := json.Marshal(prov)
	if err != nil {
		return nil, err
	}
	setMetadata(d.Model, MetadataKey, string(v))
	return d, nil
}

// weightIn finds the tensor called name in a model: an initializer, or the
// value of a Constant node.
func weightIn(m *onnxpb.ModelProto, name string) *onnxpb.TensorProto {
	for _, t := range m.GetGraph().GetInitializer() {
		if t.GetName() == name {
			return t
		}
	}
	for _, n := range m.GetGraph().GetNode() {
		if n.GetOpType() == "Constant" && len(n.Output) == 1 && n.Output[0] == name {
			for _, a := range n.Attribute {
				if a.GetName() == "value" {
					return a.T
				}
			}
		}
	}
	return nil
}

// stored finds the layer's weights in the original.
func stored(m *inspect.Model, l *LayerPlan) (onnxfile.Tensor, bool) {
	for i := range m.Layers {
		if m.Layers[i].Scope == "" && m.Layers[i].Name == l.Layer {
			st, ok := m.Graph.Stored(m.Graph.Nodes[m.Layers[i].Node].Input(1))
			return st.Tensor, ok && st.Name == l.Weight
		}
	}
	return onnxfile.Tensor{}, false
}

func setMetadata(m *onnxpb.ModelProto, key, value string) {
	for _, kv := range m.MetadataProps {
		if kv.GetKey() == key {
			kv.Value = proto.String(value)
			return
		}
	}
	m.MetadataProps = append(m.MetadataProps, &onnxpb.StringStringEntryProto{Key: proto.String(key), Value: proto.String(value)})
}

// zeroDropped returns an edit for Tensor.Raw that clears the weights of dropped
// connections. All bits zero is the number +0 in every floating-point format.
func zeroDropped(p *LayerPlan, width int64) func(b []byte, off int64) {
	l := p.layout()
	return func(b []byte, off int64) {
		first, n := off/width, int64(len(b))/width
		for e := first; e < first+n; {
			run := min(l.run(e), first+n-e)
			if r, c := l.connection(e); !p.kept(r, c) {
				clear(b[(e-first)*width : (e-first+run)*width])
			}
			e += run
		}
	}
}

// checkSurgery compares the written model with the original, value by value:
// weights of dropped connections must be zero, all others what they were. It
// returns how many weights became zero that were not.
func checkSurgery(ctx context.Context, original, written *inspect.Model, p *Plan) (newZeros int64, err error) {
	for i := range p.Layers {
		l := &p.Layers[i]
		a, ok := stored(original, l)
		b, ok2 := stored(written, l)
		if !ok || !ok2 {
			return 0, fmt.Errorf("layer %s: its weight %q is missing", l.Layer, l.Weight)
		}
		n, err := checkWeights(ctx, a, b, l)
		if err != nil {
			return 0, fmt.Errorf("layer %s: weight %q: %w", l.Layer, l.Weight, err)
		}
		newZeros += n
	}
	return newZeros, nil
}

func checkWeights(ctx context.Context, a, b onnxfile.Tensor, l *LayerPlan) (newZeros int64, err error) {
	lay := l.layout()
	var readErr error
	next, stop := iter.Pull(func(yield func([]float64) bool) {
		readErr = a.Values(func(block []float64) error {
			if !yield(block) {
				return errStopped
			}
			return nil
		})
	})
	defer stop()
	var was []float64
	e := int64(0)
	err = b.Values(func(block []float64) error {
		for _, v := range block {
			if len(was) == 0 {
				var ok bool
				if was, ok = next(); !ok {
					return fmt.Errorf("the original ends at element %d: %w", e, readErr)
				}
			}
			old := was[0]
			was = was[1:]
			r, c := lay.connection(e)
			switch kept := l.kept(r, c); {
			case !kept && v != 0:
				return fmt.Errorf("element %d should be zero and is %v", e, v)
			case kept && v != old && (v == v || old == old):
				return fmt.Errorf("element %d should be %v and is %v", e, old, v)
			case !kept && old != 0:
				newZeros++
			}
			e++
		}
		return ctx.Err()
	})
	if err == nil && e != l.Elements {
		err = fmt.Errorf("%d elements, %d are expected", e, l.Elements)
	}
	return newZeros, err
}

var errStopped = errors.New("stopped")
