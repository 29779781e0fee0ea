package inspect

import (
	"context"

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
// be read has none.
func (m *Model) countZeros(ctx context.Context) error {
	var tensors []onnxfile.Tensor
	index := make(map[onnxfile.Tensor]int)
	for i := range m.Layers {
		s, ok := m.LayerWeight(&m.Layers[i])
		if _, seen := index[s.Tensor]; ok && !seen {
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
		s, ok := m.LayerWeight(l)
		if !ok {
			continue
		}
		v := readings[index[s.Tensor]].stats
		n, err := s.Tensor.Elements()
		if err != nil || v == nil || n == 0 {
			continue
		}
		share := float64(v.Zeros) / float64(n)
		l.Zeros = &share
		switch l.Op {
		case "Conv", "ConvTranspose", "Gemm", "MatMul":
			if !added[s.Tensor] {
				added[s.Tensor] = true
				zeros += v.Zeros
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
