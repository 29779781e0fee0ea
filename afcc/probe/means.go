package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// labelMeans fills means (K x F x P) of each head with the mean activation of
// each label, and finds the clusters of repeated measurements where these are asked
// for. One pass does, unless the label means of all repetitions do not fit in
// memory.
func (p *measurer) labelMeans(ctx context.Context, heads []*head) error {
	for _, h := range heads {
		h.resampled = resampled{}
	}
	bounds := p.runsInPasses(heads)
	for n, first := range bounds[:len(bounds)-1] {
		end := bounds[n+1]
		if p.loadMeans(heads, first, end) {
			continue
		}
		under, err := p.newMeansState(heads, first, end)
		if err != nil {
			return err
		}
		if err := p.meansPass(ctx, heads, first, end, stageOf("measuring label means", n, len(bounds)-1), under); err != nil {
			return err
		}
		for i, h := range heads {
			if len(h.runMeans) > 0 {
				p.opt.Progress("finding clusters of repeated measurements", i, len(heads))
			}
			if err := p.analyseRuns(ctx, h, first, end); err != nil {
				return err
			}
		}
		if first == 0 {
			if err := p.saveMeans(heads); err != nil {
				return err
			}
		}
		if err := under.remove(); err != nil {
			return err
		}
	}
	return nil
}

// meansPass takes the label means of all samples, unless they are there, and those
// of the repeated measurements from first to end. A batch holds samples of one
// label, so that the sum is a reduction inside the graph, that of the runs a
// product with the counts of the samples, and only F*P numbers for each leave the
// runtime.
func (p *measurer) meansPass(ctx context.Context, heads []*head, first, end int, stage string, under *meansState) (err error) {
	defer func() {
		if cerr := under.close(); err == nil {
			err = cerr
		}
	}()
	b, err := p.trunk()
	if err != nil {
		return err
	}
	runs, whole := end-first, first == 0
	rows := int64(-1)
	if p.fixed > 0 {
		rows = int64(p.fixed)
	}
	// Where the last batch of a label may have to be filled up, the rows count
	// that are samples.
	counted, weights := "", ""
	if whole && p.fixed > 1 {
		counted = b.input("counted", onnxfile.Float, rows, 1)
	}
	if runs > 0 {
		weights = b.input("weights", onnxfile.Float, int64(runs), rows)
	}
	sums, runSums := make([]string, len(heads)), make([]string, len(heads))
	for i, h := range heads {
		d, x := h.d(), b.features(h.tap)
		if runs > 0 {
			runSums[i] = b.outputOf(fmt.Sprintf("runs.%d", i), "MatMul", []string{weights, x}, []int64{int64(runs), int64(d)})
			h.runMeans = make([][]float32, runs)
			for r := range h.runMeans {
				h.runMeans[r] = make([]float32, p.k*d)
			}
			h.runAcc = make([]float64, runs*d)
			h.runSum = engine.NewFloat32(make([]float32, runs*d), int64(runs), int64(d))
		}
		if whole {
			if counted != "" {
				x = b.node("Mul", []string{x, counted})
			}
			sums[i] = b.batchSum(fmt.Sprintf("sum.%d", i), x, int64(d))
			h.means = make([]float32, p.k*d)
			h.acc = make([]float64, d)
			h.sum = engine.NewFloat32(make([]float32, d), int64(d))
		}
	}
	seen := make([]int, p.k)
	drawn := make([]float64, runs)
	done, label, count := under.load(seen, drawn)
	flush := func() error {
		if label >= 0 && count > 0 {
			for _, h := range heads {
				d := h.d()
				of := h.means[label*d : (label+1)*d]
				if whole {
					for j, s := range h.acc {
						of[j] = float32(s / float64(count))
					}
				}
				for r, n := range drawn {
					mean := h.runMeans[r][label*d : (label+1)*d]
					if n == 0 {
						copy(mean, of)
						continue
					}
					for j, s := range h.runAcc[r*d : (r+1)*d] {
						mean[j] = float32(s / n)
					}
				}
			}
		}
		if err := under.labelDone(label, count, p.done); err != nil {
			return err
		}
		for _, h := range heads {
			clear(h.acc)
			clear(h.runAcc)
		}
		clear(drawn)
		count = 0
		return nil
	}
	draws := newResampler(p.stats.Index, p.set.Label, p.opt.Stability, p.opt.Split.Seed)
	sess, err := p.load(ctx, "label means", b)
	if err != nil {
		return err
	}
	defer sess.Close()
	err = p.pass(ctx, stage, sess, p.set.ByLabel(p.stats.Index, p.batch),
		done, func() error { return under.save(label, count, p.done, drawn) },
		func(b *dataset.Batch, in, out map[string]*engine.Tensor) {
			n := len(b.Index)
			filled := max(n, p.fixed)
			if counted != "" {
				in[counted] = engine.NewFloat32(append(ones(n), make([]float32, filled-n)...), int64(filled), 1)
			}
			if runs > 0 {
				w := make([]float32, runs*filled)
				for i, sample := range b.Index {
					for r, x := range draws.of(b.Labels[i], sample)[first:end] {
						w[r*filled+i] = x
					}
				}
				in[weights] = engine.NewFloat32(w, int64(runs), int64(filled))
			}
			for i, h := range heads {
				if whole {
					out[sums[i]] = h.sum
				}
				if runs > 0 {
					out[runSums[i]] = h.runSum
				}
			}
		},
		func(b *dataset.Batch, _ map[string]*engine.Tensor) error {
			if b.Labels[0] != label {
				if err := flush(); err != nil {
					return err
				}
				label = b.Labels[0]
			}
			for _, l := range b.Labels {
				if l != label {
					return errors.New("a batch holds samples of two labels")
				}
			}
			for _, h := range heads {
				if whole {
					add(h.acc, h.sum.Float32())
				}
				if runs > 0 {
					add(h.runAcc, h.runSum.Float32())
				}
			}
			for _, sample := range b.Index {
				if runs > 0 {
					add(drawn, draws.of(label, sample)[first:end])
				}
			}
			count += len(b.Labels)
			seen[label] += len(b.Labels)
			return nil
		})
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	p.seenStats = seen
	for l, n := range seen {
		if n == 0 {
			return fmt.Errorf("none of the samples of label %q to measure on can be read; left out: %s", p.set.Labels()[l], dataset.SkippedText(p.skipped()))
		}
	}
	for _, h := range heads {
		h.acc, h.sum = nil, nil
	}
	return nil
}

// add adds v to sum, on all cores where that is worth starting them.
func add(sum []float64, v []float32) {
	const block = 1 << 18
	var wg sync.WaitGroup
	for ; len(v) > block; sum, v = sum[block:], v[block:] {
		sum, v := sum[:block], v[:block]
		wg.Go(func() {
			for i, x := range v {
				sum[i] += float64(x)
			}
		})
	}
	for i, x := range v {
		sum[i] += float64(x)
	}
	wg.Wait()
}
