package probe

import (
	"context"
	"errors"
	"fmt"

	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// labelMeans fills means (K x F x P) of each head with the mean activation of
// each label. A batch holds samples of one label, so that the sum is a
// reduction inside the graph and only F*P numbers leave the runtime.
func (p *measurer) labelMeans(ctx context.Context, heads []*head) error {
	b, err := p.trunk()
	if err != nil {
		return err
	}
	sums := make([]string, len(heads))
	// Where the last batch of a label may have to be filled up, the rows count
	// that are samples.
	counted := ""
	if p.fixed > 1 {
		counted = b.input("counted", onnxfile.Float, int64(p.fixed), 1)
	}
	for i, h := range heads {
		d, x := h.d(), b.features(h.tap)
		if counted != "" {
			x = b.node("Mul", []string{x, counted})
		}
		sums[i] = b.batchSum(fmt.Sprintf("sum.%d", i), x, int64(d))
		h.means = make([]float32, p.k*d)
		h.acc = make([]float64, d)
		h.sum = engine.NewFloat32(make([]float32, d), int64(d))
	}
	sess, err := p.load(ctx, "label means", b)
	if err != nil {
		return err
	}
	defer sess.Close()
	label, count := -1, 0
	flush := func() {
		for _, h := range heads {
			if label >= 0 && count > 0 {
				d := h.d()
				for j, s := range h.acc {
					h.means[label*d+j] = float32(s / float64(count))
				}
			}
			clear(h.acc)
		}
		count = 0
	}
	seen := make([]int, p.k)
	err = p.pass(ctx, "measuring label means", sess, p.set.ByLabel(p.stats.Index, p.batch),
		func(b *dataset.Batch, in, out map[string]*engine.Tensor) {
			if counted != "" {
				in[counted] = engine.NewFloat32(append(ones(len(b.Index)), make([]float32, p.fixed-len(b.Index))...), int64(p.fixed), 1)
			}
			for i, h := range heads {
				out[sums[i]] = h.sum
			}
		},
		func(b *dataset.Batch, _ map[string]*engine.Tensor) error {
			if b.Labels[0] != label {
				flush()
				label = b.Labels[0]
			}
			for _, l := range b.Labels {
				if l != label {
					return errors.New("a batch holds samples of two labels")
				}
			}
			for _, h := range heads {
				for j, v := range h.sum.Float32() {
					h.acc[j] += float64(v)
				}
			}
			count += len(b.Labels)
			seen[label] += len(b.Labels)
			return nil
		})
	if err != nil {
		return err
	}
	flush()
	p.seenStats = seen
	for l, n := range seen {
		if n == 0 {
			return fmt.Errorf("label %q has no readable sample to measure on; left out: %s", p.set.Labels()[l], dataset.SkippedText(p.set.Skipped()))
		}
	}
	for _, h := range heads {
		h.acc, h.sum = nil, nil
	}
	return nil
}
