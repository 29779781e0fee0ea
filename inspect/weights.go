package inspect

import (
	"context"
	"errors"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// countZeros reads the weights of all layers, several at a time, and fills the
// shares of zeros. A weight of a type whose numbers cannot be read has none.
func (m *Model) countZeros(ctx context.Context) error {
	type count struct{ zeros, all int64 }
	tensors := make(map[string]onnxfile.Tensor)
	for _, l := range m.Layers {
		if s, ok := m.Graph.Stored(l.Weight); ok {
			tensors[s.Name] = s.Tensor
		}
	}
	counts := make(map[string]*count, len(tensors))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for name, t := range tensors {
		c := new(count)
		counts[name] = c
		group.Go(func() error {
			err := t.Values(func(block []float64) error {
				for _, v := range block {
					if v == 0 {
						c.zeros++
					}
				}
				c.all += int64(len(block))
				return ctx.Err()
			})
			if errors.Is(err, onnxfile.ErrUnsupportedType) {
				c.all = 0
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var total count
	added := make(map[string]bool)
	for i := range m.Layers {
		l := &m.Layers[i]
		c := counts[l.Weight]
		if c == nil || c.all == 0 {
			continue
		}
		share := float64(c.zeros) / float64(c.all)
		l.Zeros = &share
		switch l.Op {
		case "Conv", "ConvTranspose", "Gemm", "MatMul":
			if !added[l.Weight] {
				added[l.Weight] = true
				total.zeros += c.zeros
				total.all += c.all
			}
		}
	}
	if total.all > 0 {
		share := float64(total.zeros) / float64(total.all)
		m.Totals.Zeros = &share
	}
	return nil
}
