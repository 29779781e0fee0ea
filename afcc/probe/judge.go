package probe

import (
	"context"
	"fmt"

	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// judge runs the evaluation split and counts what each head, and the model
// itself, gets right.
func (p *measurer) judge(ctx context.Context, heads []*head, res *Result) error {
	b, err := p.trunk()
	if err != nil {
		return err
	}
	answer := b.answer(p.m)
	weights := map[string]*engine.Tensor{}
	for i, h := range heads {
		if h.own {
			continue
		}
		w := b.input(fmt.Sprintf("w.%d", i), onnxfile.Float, int64(p.k), int64(h.d()))
		weights[w] = engine.NewFloat32(h.w, int64(p.k), int64(h.d()))
		h.logits = b.outputOf(fmt.Sprintf("logits.%d", i), "Gemm", b.noBias(b.features(h.tap), w), []int64{-1, int64(p.k)}, attrInt("transB", 1))
	}
	sess, err := p.load(ctx, "heads", b)
	if err != nil {
		return err
	}
	defer sess.Close()
	correct := 0
	p.seenEval = make([]int, p.k)
	err = p.pass(ctx, "judging heads", sess, dataset.Sequential(p.eval.Index, p.batch),
		func(_ *dataset.Batch, in, out map[string]*engine.Tensor) {
			for n, t := range weights {
				in[n] = t
			}
			out[answer] = nil
			for _, h := range heads {
				if !h.own {
					out[h.logits] = nil
				}
			}
		},
		func(b *dataset.Batch, out map[string]*engine.Tensor) error {
			for _, l := range b.Labels {
				p.seenEval[l]++
			}
			own, err := hits(out[answer], b.Labels, p.k)
			if err != nil {
				return fmt.Errorf("output %q: %w", p.out, err)
			}
			correct += own
			for _, h := range heads {
				n := own
				if !h.own {
					if n, err = hits(out[h.logits], b.Labels, p.k); err != nil {
						return err
					}
				}
				h.correct += n
			}
			return nil
		})
	if err != nil {
		return err
	}
	judged := total(p.seenEval)
	if judged == 0 {
		return dataset.ErrEmpty
	}
	res.Accuracy = float64(correct) / float64(judged)
	for _, h := range heads {
		h.accuracy = float64(h.correct) / float64(judged)
	}
	return nil
}

func total(counts []int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// hits counts the rows of t (B x K) whose largest value stands at the label; B
// may be larger than the number of labels. Of equal values the first counts, as
// in numpy's argmax.
func hits(t *engine.Tensor, labels []int, k int) (int, error) {
	v, err := numbers(t, len(labels), k)
	if err != nil {
		return 0, err
	}
	n := 0
	for i, label := range labels {
		if Argmax(v[i*k:(i+1)*k]) == label {
			n++
		}
	}
	return n, nil
}

// Argmax returns the position of the largest value, the first of equal ones. A
// NaN is larger than everything, as in numpy, so that it is never overlooked.
func Argmax(v []float32) int {
	best := 0
	for i, x := range v {
		if x != x {
			return i
		}
		if x > v[best] {
			best = i
		}
	}
	return best
}
