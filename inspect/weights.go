package inspect

import (
	"context"
	"errors"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// readWeights reads the stored numbers as far as the options ask for it. It
// fills Tensors, and the shares of zeros of the layers and of the model.
func (m *Model) readWeights(ctx context.Context) error {
	if m.Options.Statistics {
		if err := m.readTensors(ctx); err != nil {
			return err
		}
	}
	if m.Options.Weights {
		return m.countZeros(ctx)
	}
	return nil
}

// readTensors fills m.Tensors, as many as storedTensors has and in its order.
func (m *Model) readTensors(ctx context.Context) error {
	all := m.storedTensors()
	tensors := make([]onnxfile.Tensor, len(all))
	for i, s := range all {
		tensors[i] = s.t
	}
	readings, err := readStats(ctx, tensors, true)
	if err != nil {
		return err
	}
	m.Tensors = make([]TensorStats, len(all))
	for i, s := range all {
		if readings[i].err != nil {
			return readings[i].err
		}
		n, err := s.t.Elements()
		if err != nil {
			return err
		}
		m.Tensors[i] = TensorStats{Scope: s.scope, Name: s.name, DType: s.t.DType().String(), Dims: append([]int64{}, s.t.Dims()...),
			Elements: n, Bytes: s.t.StoredBytes(), Values: readings[i].stats}
	}
	return nil
}

// valuesOf returns what reading each of the tensors tells, without the second
// reading where the first has not been done.
func (m *Model) valuesOf(ctx context.Context, tensors []onnxfile.Tensor) ([]reading, error) {
	if all := m.storedTensors(); m.Tensors != nil && len(m.Tensors) == len(all) {
		at := make(map[onnxfile.Tensor]*ValueStats, len(all))
		for i, s := range all {
			at[s.t] = m.Tensors[i].Values
		}
		out := make([]reading, len(tensors))
		known := true
		for i, t := range tensors {
			v, ok := at[t]
			out[i].stats, known = v, known && ok
		}
		if known {
			return out, ctx.Err()
		}
	}
	return readStats(ctx, tensors, false)
}

// countZeros fills the shares of zeros. A weight of a type whose numbers cannot
// be read has none, nor has one whose zero point is not known.
func (m *Model) countZeros(ctx context.Context) error {
	var tensors []onnxfile.Tensor
	index := make(map[onnxfile.Tensor]int)
	counts := make(map[zeroKey]int64) // of quantized ones
	keys := make([]*zeroKey, len(m.Layers))
	for i := range m.Layers {
		l := &m.Layers[i]
		s, ok := m.LayerWeight(l)
		if !ok {
			continue
		}
		z, err := m.layer(l).weightZero(l)
		switch {
		case errors.Is(err, errZeroPoint):
			continue
		case err != nil:
			return err
		}
		k := zeroKey{s.Tensor, z.tensor, z.axis}
		keys[i] = &k
		if len(z.values) > 0 {
			if _, known := counts[k]; !known {
				none, err := z.count(ctx, s.Tensor)
				if errors.Is(err, onnxfile.ErrUnsupportedType) {
					keys[i] = nil
					continue
				}
				if err != nil {
					return err
				}
				counts[k] = none
			}
		} else if _, seen := index[s.Tensor]; !seen {
			index[s.Tensor] = len(tensors)
			tensors = append(tensors, s.Tensor)
		}
	}
	readings, err := m.valuesOf(ctx, tensors)
	if err != nil {
		return err
	}
	for _, r := range readings {
		if r.err != nil {
			return r.err
		}
	}
	zeros, elements := int64(0), int64(0)
	added := make(map[onnxfile.Tensor]bool)
	for i := range m.Layers {
		l := &m.Layers[i]
		if keys[i] == nil {
			continue
		}
		t := keys[i].weight
		none, quantized := counts[*keys[i]]
		if !quantized {
			v := readings[index[t]].stats
			if v == nil {
				continue
			}
			none = v.Zeros
		}
		n, err := t.Elements()
		if err != nil || n == 0 {
			continue
		}
		share := float64(none) / float64(n)
		l.Zeros = &share
		switch l.Op {
		case "Conv", "ConvTranspose", "Gemm", "MatMul":
			if !added[t] {
				added[t] = true
				zeros += none
				elements += n
			}
		}
	}
	if elements > 0 {
		share := float64(zeros) / float64(elements)
		m.Totals.Zeros = &share
	}
	return nil
}
