package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
// runtime; of each label instead of each batch where that is done in the graph
// (graphSums), with the same result.
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
	g := (*graphSums)(nil)
	count, countRuns := "", ""
	if p.sumsInGraph(b) {
		g = b.newGraphSums()
		if whole {
			count = b.input("count", onnxfile.Double)
		}
		if runs > 0 {
			countRuns = b.input("count.runs", onnxfile.Double, int64(runs), 1)
		}
	}
	// What a run gives of each head: of each batch the sum, or of each label the mean.
	names, runNames := make([]string, len(heads)), make([]string, len(heads))
	for i, h := range heads {
		d, x := h.d(), b.features(h.tap)
		if runs > 0 {
			shape, product := []int64{int64(runs), int64(d)}, []string{weights, x}
			h.runMeans = make([][]float32, runs)
			for r := range h.runMeans {
				h.runMeans[r] = make([]float32, p.k*d)
			}
			h.runAcc = make([]float64, runs*d)
			h.runSum = engine.NewFloat32(make([]float32, runs*d), shape...)
			if name := fmt.Sprintf("runs.%d", i); g != nil {
				runNames[i] = g.add(b, name, b.node("MatMul", product), countRuns, &h.runAcc, shape...).mean
			} else {
				runNames[i] = b.outputOf(name, "MatMul", product, shape)
			}
		}
		if whole {
			if counted != "" {
				x = b.node("Mul", []string{x, counted})
			}
			h.means = make([]float32, p.k*d)
			h.acc = make([]float64, d)
			if g != nil {
				in, attrs := b.overBatch(x)
				names[i] = g.add(b, fmt.Sprint(i), b.node("ReduceSum", in, attrs...), count, &h.acc, int64(d)).mean
			} else {
				names[i] = b.batchSum(fmt.Sprintf("sum.%d", i), x, int64(d))
				h.sum = engine.NewFloat32(make([]float32, d), int64(d))
			}
		}
	}
	seen := make([]int, p.k)
	drawn := make([]float64, runs)
	done, label, n := under.load(seen, drawn)
	divided := false // the label's means are there
	flush := func() error {
		if label >= 0 && n > 0 {
			if g != nil && !divided {
				if err := g.sync(ctx); err != nil {
					return err
				}
			}
			for _, h := range heads {
				h.divide(label, n, drawn, whole, divided)
			}
		}
		if err := under.labelDone(label, n, p.done); err != nil {
			return err
		}
		for _, h := range heads {
			clear(h.acc)
			clear(h.runAcc)
		}
		clear(drawn)
		n, divided = 0, false
		return nil
	}
	draws := newResampler(p.stats.Index, p.set.Label, p.opt.Stability, p.opt.Split.Seed)
	sess, err := p.load(ctx, "label means", b)
	if err != nil {
		return err
	}
	defer sess.Close()
	if g != nil {
		if err := g.begin(p, sess); err != nil {
			return err
		}
	}
	plan := p.set.ByLabel(p.stats.Index, p.batch)
	ends := p.labelEnds(plan)
	save := func() error {
		if g != nil {
			if g.held != nil && ctx.Err() != nil {
				return nil // a session that was cancelled hands nothing out
			}
			if err := g.sync(ctx); err != nil {
				return err
			}
		}
		return under.save(label, n, p.done, drawn)
	}
	err = p.pass(ctx, stage, sess, plan, done, save,
		func(b *dataset.Batch, in, out map[string]*engine.Tensor) error {
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
			size := len(b.Index)
			filled := max(size, p.fixed)
			if counted != "" {
				in[counted] = engine.NewFloat32(append(ones(size), make([]float32, filled-size)...), int64(filled), 1)
			}
			total := slices.Clone(drawn)
			if runs > 0 {
				w := make([]float32, runs*filled)
				for i, sample := range b.Index {
					of := draws.of(label, sample)[first:end]
					for r, x := range of {
						w[r*filled+i] = x
					}
					add(total, of)
				}
				in[weights] = engine.NewFloat32(w, int64(runs), int64(filled))
			}
			if g != nil {
				g.feed(n == 0, in, out)
				if whole {
					in[count] = &engine.Tensor{Data: []float64{float64(n + size)}}
				}
				if runs > 0 {
					in[countRuns] = &engine.Tensor{Shape: []int64{int64(runs), 1}, Data: total}
				}
				if !ends[p.done+size+len(b.Skipped)] {
					return nil
				}
			}
			for i, h := range heads {
				if whole {
					out[names[i]] = h.sum
					if g != nil {
						d := h.d()
						out[names[i]] = engine.NewFloat32(h.means[label*d:(label+1)*d], int64(d))
					}
				}
				if runs > 0 {
					out[runNames[i]] = h.runSum
				}
			}
			return nil
		},
		func(b *dataset.Batch, out map[string]*engine.Tensor) error {
			if g != nil {
				g.took()
				divided = ends[p.done+len(b.Index)+len(b.Skipped)]
			}
			for _, h := range heads {
				switch {
				case g == nil:
					if whole {
						add(h.acc, h.sum.Float32())
					}
					if runs > 0 {
						add(h.runAcc, h.runSum.Float32())
					}
				case divided:
					for r, mean := range h.runMeans {
						d := h.d()
						copy(mean[label*d:(label+1)*d], h.runSum.Float32()[r*d:(r+1)*d])
					}
				}
			}
			if runs > 0 {
				for _, sample := range b.Index {
					add(drawn, draws.of(label, sample)[first:end])
				}
			}
			n += len(b.Labels)
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

// labelEnds returns the numbers of samples of a plan at which the batches of a label
// end.
func (p *measurer) labelEnds(plan [][]int) map[int]bool {
	ends := make(map[int]bool)
	at := 0
	for i, b := range plan {
		at += len(b)
		if i+1 == len(plan) || p.set.Label(plan[i+1][0]) != p.set.Label(b[0]) {
			ends[at] = true
		}
	}
	return ends
}

// divide makes means of the sums over n samples of a label, unless they are divided
// already. A repeated measurement that has drawn none of the label takes the mean over
// all.
func (h *head) divide(label, n int, drawn []float64, whole, divided bool) {
	d := h.d()
	of := h.means[label*d : (label+1)*d]
	if whole && !divided {
		for j, s := range h.acc {
			of[j] = float32(s / float64(n))
		}
	}
	for r, n := range drawn {
		mean := h.runMeans[r][label*d : (label+1)*d]
		switch {
		case n == 0:
			copy(mean, of)
		case !divided:
			for j, s := range h.runAcc[r*d : (r+1)*d] {
				mean[j] = float32(s / n)
			}
		}
	}
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
