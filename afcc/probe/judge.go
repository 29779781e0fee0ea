package probe

import (
	"context"
	"fmt"
	goruntime "runtime"
	"slices"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// judgement is what the evaluation split says of a head.
type judgement struct {
	answers []int32 // for each sample judged
	single  *afcc.FilterHits
	top     topLists
	// Outputs of the judging graph: K logits, the features, and the mean
	// activation of each filter.
	logits, activations, strengths string
}

// activationBytes is what a batch of a head's features takes that leaves the runtime,
// where filters are judged alone.
func (p *measurer) activationBytes(h *head, batch int) int64 {
	if !p.opt.Single {
		return 0
	}
	return 4 * int64(batch) * int64(h.d())
}

// judgeBatch returns the number of samples judged at a time, fewer than elsewhere
// where the activations of that many would not fit, and the bytes that judging takes
// beyond what the heads hold: activations of all, and for one head after the other
// what afcc.FilterHits.Add needs on each core.
func (p *measurer) judgeBatch(heads []*head) (batch int, bytes int64) {
	room := p.opt.Memory
	for _, h := range heads {
		room -= p.held(h)
	}
	room = max(room, p.opt.Memory/2)
	for batch = p.batch; ; batch = (batch + 1) / 2 {
		var scratch int64
		bytes = 0
		for _, h := range heads {
			bytes += p.activationBytes(h, batch)
			cores, n, k, pos := int64(min(goruntime.GOMAXPROCS(0), h.tap.Filters)), int64(batch), int64(p.k), int64(h.tap.Positions())
			scratch = max(scratch, 4*cores*(n*k+2*(n+k)*pos))
		}
		if !p.opt.Single {
			return batch, 0
		}
		if bytes += scratch; bytes <= room || batch == 1 || p.fixed > 0 {
			return batch, bytes
		}
	}
}

// judge runs the evaluation split and notes what each head, and the model
// itself, answers. Where it is asked for, it counts what each filter gets right
// alone, which takes K multiply-adds for each number of a tap, and keeps the samples
// that each filter answers most.
func (p *measurer) judge(ctx context.Context, heads []*head, res *Result) error {
	b, err := p.trunk()
	if err != nil {
		return err
	}
	answer := b.answer(p.m)
	weights := map[string]*engine.Tensor{}
	for i, h := range heads {
		f, d := h.tap.Filters, h.d()
		x := ""
		if !h.own || p.opt.Single || p.opt.Top > 0 {
			x = b.features(h.tap)
		}
		h.judgement = judgement{}
		if !h.own {
			w := b.input(fmt.Sprintf("w.%d", i), onnxfile.Float, int64(p.k), int64(d))
			weights[w] = engine.NewFloat32(h.w, int64(p.k), int64(d))
			h.logits = b.outputOf(fmt.Sprintf("logits.%d", i), "Gemm", b.noBias(x, w), []int64{-1, int64(p.k)}, attrInt("transB", 1))
		}
		if p.opt.Single {
			if h.single, err = afcc.NewFilterHits(h.w, p.k, f, h.tap.Positions()); err != nil {
				return fmt.Errorf("layer %s: %w", h.tap.Name(), err)
			}
			h.activations = b.outputOf(fmt.Sprintf("activations.%d", i), "Identity", []string{x}, []int64{-1, int64(d)})
		}
		if p.opt.Top > 0 {
			h.top = newTopLists(f, p.opt.Top)
			h.strengths = b.positionMean(fmt.Sprintf("strengths.%d", i), x, f, h.tap.Positions())
		}
	}
	done, labels, own := p.loadJudging(heads)
	if done < len(p.eval.Index) {
		if labels, own, err = p.judgePass(ctx, b, answer, weights, heads, done, labels, own); err != nil {
			return err
		}
	}
	if len(labels) == 0 {
		return dataset.ErrEmpty
	}
	p.evalLabels, p.seenEval = labels, make([]int, p.k)
	for _, l := range labels {
		p.seenEval[l]++
	}
	res.Chance = chance(p.seenEval)
	res.Accuracy, res.PerLabel = accuracies(labels, own, p.k)
	p.unanswered = 0
	for _, a := range own {
		if a == noAnswer {
			p.unanswered++
		}
	}
	for _, h := range heads {
		if h.own {
			h.answers = own
		}
	}
	return nil
}

// judgePass runs the graph b over the evaluation split but for the first samples, as
// many as done says, of which labels and own, the model's answers, are there.
func (p *measurer) judgePass(ctx context.Context, b *builder, answer string, weights map[string]*engine.Tensor, heads []*head, done int, labels, own []int32) ([]int32, []int32, error) {
	sess, err := p.load(ctx, "heads", b)
	if err != nil {
		return nil, nil, err
	}
	defer sess.Close()
	if weights, err = p.holdFixed(sess, weights); err != nil {
		return nil, nil, err
	}
	batch, _ := p.judgeBatch(heads)
	err = p.pass(ctx, "judging heads", sess, dataset.Sequential(p.eval.Index, batch),
		done, func() error { return p.saveJudging(heads, p.done, labels, own) },
		func(_ *dataset.Batch, in, out map[string]*engine.Tensor) error {
			for n, t := range weights {
				in[n] = t
			}
			out[answer] = nil
			for _, h := range heads {
				for _, name := range []string{h.logits, h.activations, h.strengths} {
					if name != "" {
						out[name] = nil
					}
				}
			}
			return nil
		},
		func(b *dataset.Batch, out map[string]*engine.Tensor) error {
			n := len(b.Labels)
			for _, l := range b.Labels {
				labels = append(labels, int32(l))
			}
			if own, err = appendAnswers(own, out[answer], n, p.k); err != nil {
				return fmt.Errorf("output %q: %w", p.out, err)
			}
			for _, h := range heads {
				if err := h.see(ctx, b, out, p.k); err != nil {
					return fmt.Errorf("layer %s: %w", h.tap.Name(), err)
				}
			}
			return nil
		})
	if err != nil {
		return nil, nil, err
	}
	return labels, own, p.saveJudging(heads, len(p.eval.Index), labels, own)
}

// see notes what a run of the judging graph says of h.
func (h *head) see(ctx context.Context, b *dataset.Batch, out map[string]*engine.Tensor, k int) (err error) {
	n := len(b.Labels)
	if h.logits != "" {
		if h.answers, err = appendAnswers(h.answers, out[h.logits], n, k); err != nil {
			return err
		}
	}
	if h.activations != "" {
		v, err := numbers(out[h.activations], n, h.d())
		if err != nil {
			return err
		}
		if err := h.single.Add(ctx, v, b.Labels); err != nil {
			return err
		}
	}
	if h.strengths != "" {
		v, err := numbers(out[h.strengths], n, h.tap.Filters)
		if err != nil {
			return err
		}
		h.top.add(v, b.Index)
	}
	return nil
}

// positionMean adds an output that is the mean of each filter over its positions:
// B x F*P becomes B x F.
func (b *builder) positionMean(name, x string, f, positions int) string {
	dims := []int64{-1, int64(f)}
	if positions == 1 {
		return b.outputOf(name, "Identity", []string{x}, dims)
	}
	x = b.node("Reshape", []string{x, b.constInt([]int64{-1, int64(f), int64(positions)}, 3)})
	if b.opset < 18 {
		return b.outputOf(name, "ReduceMean", []string{x}, dims, attrInts("axes", 2), attrInt("keepdims", 0))
	}
	return b.outputOf(name, "ReduceMean", []string{x, b.constInt([]int64{2}, 1)}, dims, attrInt("keepdims", 0))
}

// appendAnswers appends the position of the largest value of each of the first n
// rows of t (B x K), noAnswer for a row that holds a NaN. Of equal values the first
// counts, as in numpy's argmax.
func appendAnswers(to []int32, t *engine.Tensor, n, k int) ([]int32, error) {
	v, err := numbers(t, n, k)
	if err != nil {
		return nil, err
	}
	for row := range slices.Chunk(v, k) {
		best := Argmax(row)
		if row[best] != row[best] {
			best = noAnswer
		}
		to = append(to, int32(best))
	}
	return to, nil
}

// noAnswer stands for the answer to a sample whose outputs are not all numbers. It is
// never right.
const noAnswer = -1

// accuracies returns the share of answers that are right, of all and of those to
// samples of each label.
func accuracies(labels, answers []int32, k int) (all float64, perLabel []*float64) {
	right, of := make([]int, k), make([]int, k)
	for i, l := range labels {
		of[l]++
		if answers[i] == l {
			right[l]++
		}
	}
	perLabel = make([]*float64, k)
	for l, n := range of {
		if n > 0 {
			share := float64(right[l]) / float64(n)
			perLabel[l] = &share
		}
	}
	return float64(total(right)) / float64(max(total(of), 1)), perLabel
}

// confusion returns the confusion matrix of answers, K x K: row = right label,
// column = answer. Where there is none, nothing is taken for anything.
func confusion(labels, answers []int32, k int) []int {
	m := make([]int, k*k)
	for i, l := range labels {
		if answers[i] != noAnswer {
			m[int(l)*k+int(answers[i])]++
		}
	}
	return m
}

// chance returns the accuracy of always answering the commonest label; counts has
// the samples of each. With as many samples of each label it is 1/K, never less.
func chance(counts []int) float64 {
	return float64(slices.Max(counts)) / float64(max(total(counts), 1))
}

func total(counts []int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
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
