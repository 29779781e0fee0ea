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
	tensors := make(map[onnxfile.Tensor]bool)
	for i := range m.Layers {
		if s, ok := m.LayerWeight(&m.Layers[i]); ok {
			tensors[s.Tensor] = true
		}
	}
	counts := make(map[onnxfile.Tensor]*count, len(tensors))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for t := range tensors {
		c := new(count)
		counts[t] = c
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
	added := make(map[*count]bool)
	for i := range m.Layers {
		l := &m.Layers[i]
		s, _ := m.LayerWeight(l)
		c := counts[s.Tensor]
		if c == nil || c.all == 0 {
			continue
		}
		share := float64(c.zeros) / float64(c.all)
		l.Zeros = &share
		switch l.Op {
		case "Conv", "ConvTranspose", "Gemm", "MatMul":
			if !added[c] {
				added[c] = true
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
