package probe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// An Evaluation says how well and how fast a model answers.
type Evaluation struct {
	Samples int `json:"samples"`
	// Top1 and Top5 are shares of samples whose label has the largest output, or
	// one of the five largest. Top5 is nil for fewer than six labels.
	Top1 float64  `json:"top1"`
	Top5 *float64 `json:"top5"`
	// Changed is the share of samples whose answer differs from that of the
	// first model evaluated, nil for the first itself.
	Changed *float64 `json:"changed"`
	// Throughput is the time for one sample while evaluating in batches of
	// Batch, Latency that of a run with one sample; both exclude decoding.
	Throughput Timing `json:"throughput"`
	Latency    Timing `json:"latency"`
	// Predictions holds the answer for each sample in the order evaluated.
	Predictions []int `json:"-"`
}

// A Timing summarises repeated measurements, in milliseconds.
type Timing struct {
	Batch  int     `json:"batch"`
	Runs   int     `json:"runs"`
	Median float64 `json:"median_ms"`
	// Low and High are the 10th and the 90th percentile.
	Low  float64 `json:"p10_ms"`
	High float64 `json:"p90_ms"`
}

func newTiming(batch int, ms []float64) Timing {
	if len(ms) == 0 {
		return Timing{Batch: batch}
	}
	slices.Sort(ms)
	at := func(q float64) float64 { return ms[int(q*float64(len(ms)-1)+0.5)] }
	return Timing{Batch: batch, Runs: len(ms), Median: at(0.5), Low: at(0.1), High: at(0.9)}
}

// latencyRuns is how many single samples each model is timed on.
const latencyRuns = 30

// Evaluate runs models over the samples index of set and compares their
// answers. All models see every batch, one after the other, so that whatever
// else the machine does falls on all of them. The files are opened by the
// engine itself, as a deployment would. Models must be classifiers of the same
// labels with inputs of the same size.
func Evaluate(ctx context.Context, eng engine.Engine, models []*inspect.Model, set *dataset.Set, index []int, opt Options) ([]Evaluation, error) {
	if opt.Progress == nil {
		opt.Progress = func(string, int, int) {}
	}
	ps := make([]*measurer, len(models))
	sessions := make([]engine.Session, len(models))
	defer func() {
		for _, s := range sessions {
			if s != nil {
				s.Close()
			}
		}
	}()
	for i, m := range models {
		in, out, k, err := classifierEnds(m)
		if err != nil {
			return nil, err
		}
		if ps[i], err = newMeasurer(m, eng, set, opt, &Survey{Input: in, Output: out, Labels: k}); err != nil {
			return nil, err
		}
		if !slices.Equal(ps[i].dims, ps[0].dims) {
			return nil, fmt.Errorf("%s reads samples of %v, %s of %v; they cannot be evaluated together", models[0].File, ps[0].dims, m.File, ps[i].dims)
		}
		if sessions[i], err = eng.Load(ctx, engine.Model{Name: m.File, Path: m.File}); err != nil {
			return nil, err
		}
	}
	batch := ps[0].batch
	for _, p := range ps {
		batch = min(batch, p.batch)
	}
	evals := make([]Evaluation, len(models))
	times := make([][]float64, len(models))
	top5 := make([]int, len(models))
	top1 := make([]int, len(models))
	changed := make([]int, len(models))
	run := func(i int, x []float32, n int) ([]float32, float64, error) {
		p := ps[i]
		in := map[string]*engine.Tensor{p.in: engine.NewFloat32(x, append([]int64{int64(n)}, p.dims...)...)}
		out := map[string]*engine.Tensor{p.out: nil}
		begin := time.Now()
		if err := sessions[i].Run(ctx, in, out); err != nil {
			return nil, 0, err
		}
		ms := float64(time.Since(begin)) / 1e6
		v := out[p.out].Float32()
		if len(v) != n*p.k {
			return nil, 0, &engine.Error{Op: "run", Model: p.m.File, Err: fmt.Errorf("output %q has %d values for %d samples and %d labels", p.out, len(v), n, p.k)}
		}
		return v, ms, nil
	}
	done, first := 0, true
	for b, err := range set.Batches(ctx, dataset.Sequential(index, batch), ps[0].tr, 0) {
		if err != nil {
			return nil, err
		}
		n := len(b.Index)
		for i, p := range ps {
			if n == 0 {
				continue
			}
			v, ms, err := run(i, b.X, n)
			if err != nil {
				return nil, err
			}
			// The first run of a session allocates; it is no measurement.
			if !first && n == batch {
				times[i] = append(times[i], ms/float64(n))
			}
			for j, label := range b.Labels {
				row := v[j*p.k : (j+1)*p.k]
				best := Argmax(row)
				evals[i].Predictions = append(evals[i].Predictions, best)
				if best == label {
					top1[i]++
				}
				if rank(row, label) < 5 {
					top5[i]++
				}
				if i > 0 && best != evals[0].Predictions[len(evals[i].Predictions)-1] {
					changed[i]++
				}
			}
		}
		first = false
		done += n
		opt.Progress("evaluating", done, len(index))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	size := int(engine.Elements(ps[0].dims))
	x := make([]float32, size)
	r := rand.New(rand.NewPCG(opt.Split.Seed, 1))
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	single := make([][]float64, len(models))
	for round := range latencyRuns + 3 {
		for i := range ps {
			_, ms, err := run(i, x, 1)
			if err != nil {
				return nil, err
			}
			if round >= 3 {
				single[i] = append(single[i], ms)
			}
		}
	}
	for i := range evals {
		e := &evals[i]
		e.Samples = len(e.Predictions)
		if e.Samples == 0 {
			return nil, dataset.ErrEmpty
		}
		n := float64(e.Samples)
		e.Top1 = float64(top1[i]) / n
		if ps[i].k > 5 {
			t := float64(top5[i]) / n
			e.Top5 = &t
		}
		if i > 0 {
			c := float64(changed[i]) / n
			e.Changed = &c
		}
		e.Throughput, e.Latency = newTiming(batch, times[i]), newTiming(1, single[i])
	}
	return evals, nil
}

// rank counts the values that come before that of label when the values are
// sorted, larger first and equal ones by position. It is len(row) when the
// value is not a number.
func rank(row []float32, label int) int {
	x := row[label]
	if x != x {
		return len(row)
	}
	n := 0
	for j, v := range row {
		if v > x || v != v || v == x && j < label {
			n++
		}
	}
	return n
}
