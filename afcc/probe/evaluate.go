package probe

import (
	"context"
	"fmt"
	"iter"
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
	// Correct counts those whose label has the largest output.
	Correct int `json:"correct"`
	// Unanswered counts those with an output that is not a number (NaN); they are
	// wrong.
	Unanswered int `json:"unanswered,omitempty"`
	// Top1 and Top5 are shares of samples whose label has the largest output, or
	// one of the five largest. Top5 is nil for fewer than six labels.
	Top1 float64  `json:"top1"`
	Top5 *float64 `json:"top5"`
	// Changed is the share of samples whose answer differs from that of the
	// first model evaluated, nil for the first itself.
	Changed *float64 `json:"changed"`
	// Throughput is the time for one sample while evaluating in batches of
	// Batch, nil when no full batch was run, Latency that of a run with one
	// sample, or with as many as the file fixes; both exclude decoding.
	Throughput *Timing `json:"throughput"`
	Latency    *Timing `json:"latency"`
	// Nodes counts the model's nodes by the provider that runs them, as the engine
	// tells, empty where it does not; Elsewhere names the first of those that
	// another provider than the engine's runs.
	Nodes     map[string]int `json:"nodes,omitempty"`
	Elsewhere []string       `json:"elsewhere,omitempty"`
	// Predictions holds the answer for each sample in the order evaluated, Chance
	// the accuracy of always answering their commonest label.
	Predictions []int   `json:"-"`
	Chance      float64 `json:"-"`
}

// A Timing summarises repeated measurements, in milliseconds.
type Timing struct {
	Batch  int     `json:"batch"`
	Runs   int     `json:"runs"`
	Median float64 `json:"median_ms"`
	// Low and High are the 10th and the 90th percentile, interpolated linearly
	// between the measurements, as the median is.
	Low  float64 `json:"p10_ms"`
	High float64 `json:"p90_ms"`
}

func newTiming(batch int, ms []float64) *Timing {
	if len(ms) == 0 {
		return nil
	}
	slices.Sort(ms)
	at := func(q float64) float64 {
		pos := q * float64(len(ms)-1)
		i := int(pos)
		next := ms[min(i+1, len(ms)-1)]
		return ms[i] + (pos-float64(i))*(next-ms[i])
	}
	return &Timing{Batch: batch, Runs: len(ms), Median: at(0.5), Low: at(0.1), High: at(0.9)}
}

// latencyRuns is how many single samples each model is timed on.
const latencyRuns = 30

// Evaluate runs models over the samples index of set and compares their
// answers. All models see every batch, one after the other, so that whatever
// else the machine does falls on all of them. The files are opened by the
// engine itself, as a deployment would. Models must be classifiers of the same
// labels; their inputs may differ in size and channels.
func Evaluate(ctx context.Context, eng engine.Engine, models []*inspect.Model, set *dataset.Set, index []int, opt Options) ([]Evaluation, error) {
	return EvaluateEach(ctx, slices.Repeat([]engine.Engine{eng}, len(models)), models, set, index, opt, nil)
}

// A Run is what one model was given for a batch, and what it answered.
type Run struct {
	// Index holds the numbers of the samples in the set, Labels theirs.
	Index, Labels []int
	// In is the model's input; where the file fixes a larger batch than there are
	// samples, the rows behind them repeat the first. Out holds the outputs, a row for
	// each sample. Both are valid until the next batch.
	In  *engine.Tensor
	Out []float32
}

// EvaluateEach is Evaluate with an engine for each model, so that one model can be
// run on two. watch, unless nil, is called for each model and batch, in the order of
// the models; an error of it ends the evaluation.
func EvaluateEach(ctx context.Context, engines []engine.Engine, models []*inspect.Model, set *dataset.Set, index []int, opt Options, watch func(model int, r Run) error) ([]Evaluation, error) {
	return evaluate(ctx, engines, models, set, index, slices.Repeat([]Options{opt}, len(models)), watch)
}

// evaluate is EvaluateEach with options for each model, so that each has its own
// preprocessing; batches are as large as the smallest, all else is the first's.
func evaluate(ctx context.Context, engines []engine.Engine, models []*inspect.Model, set *dataset.Set, index []int, opts []Options, watch func(model int, r Run) error) ([]Evaluation, error) {
	progress, seed := func(string, int, int) {}, uint64(0)
	if len(opts) > 0 {
		seed = opts[0].Split.Seed
		if opts[0].Progress != nil {
			progress = opts[0].Progress
		}
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
		// The file runs as it is, with the batch that it fixes.
		if ps[i], err = newMeasurer(m, set, opts[i], &Survey{Input: in, Output: out, Labels: k, Batch: declaredBatch(m, in.Name)}); err != nil {
			return nil, err
		}
		ps[i].rows.half = ps[i].half
		if sessions[i], err = engines[i].Load(ctx, engine.Model{Name: m.File, Path: m.File}); err != nil {
			return nil, err
		}
		ps[i].eng = engines[i]
		if t, ok := sessions[i].(interface {
			Providers() (map[string][]string, error)
		}); ok {
			nodes, err := t.Providers()
			if err != nil {
				return nil, err
			}
			ps[i].countNodes(nodes)
		}
	}
	batch := max(1, len(index))
	for _, p := range ps {
		batch = min(batch, p.batch)
	}
	evals := make([]Evaluation, len(models))
	times := make([][]float64, len(models))
	top5 := make([]int, len(models))
	top1 := make([]int, len(models))
	changed := make([]int, len(models))
	perLabel := make([]int, len(set.Labels()))
	run := func(i int, x []float32, n int) ([]float32, float64, error) {
		p := ps[i]
		in := map[string]*engine.Tensor{p.in: p.rows.tensor(x, n)}
		out := map[string]*engine.Tensor{p.out: p.halfOutput(max(n, p.fixed))}
		begin := time.Now()
		if err := sessions[i].Run(ctx, in, out); err != nil {
			return nil, 0, err
		}
		ms := float64(time.Since(begin)) / 1e6
		v, err := numbers(out[p.out], n, p.k)
		if err != nil {
			return nil, 0, &engine.Error{Op: "run", Model: p.m.File, Err: fmt.Errorf("output %q: %w", p.out, err)}
		}
		return v, ms, nil
	}
	// Models with inputs of one size and one preprocessing share their samples; the
	// others get theirs from a stream of their own, in step.
	streams := map[string]*stream{}
	of := make([]*stream, len(ps))
	for i, p := range ps {
		key := fmt.Sprintf("%+v", *p.tr)
		if streams[key] == nil {
			streams[key] = &stream{}
			streams[key].next, streams[key].stop = iter.Pull2(set.Batches(ctx, dataset.Sequential(index, batch), p.tr, 0))
			defer streams[key].stop()
		}
		of[i] = streams[key]
	}
	done, first := 0, true
	for {
		more := false
		for _, s := range streams {
			var err error
			if s.batch, err, more = s.next(); err != nil {
				return nil, err
			}
		}
		if !more {
			break
		}
		b := &of[0].batch
		n := len(b.Index)
		for _, l := range b.Labels {
			perLabel[l]++
		}
		for i, p := range ps {
			if !slices.Equal(of[i].batch.Index, b.Index) {
				return nil, fmt.Errorf("%s and %s were given different samples", ps[0].m.File, p.m.File)
			}
			if first {
				// The first run of a session allocates; it is no measurement.
				if _, _, err := run(i, of[i].batch.X, n); err != nil {
					return nil, err
				}
			}
			v, ms, err := run(i, of[i].batch.X, n)
			if err != nil {
				return nil, err
			}
			if watch != nil {
				r := Run{Index: b.Index, Labels: b.Labels, In: p.rows.tensor(of[i].batch.X, n), Out: v}
				if err := watch(i, r); err != nil {
					return nil, err
				}
			}
			if n == batch {
				times[i] = append(times[i], ms/float64(n))
			}
			for j, label := range b.Labels {
				row := v[j*p.k : (j+1)*p.k]
				best := Argmax(row)
				evals[i].Predictions = append(evals[i].Predictions, best)
				answered := row[best] == row[best]
				if !answered {
					evals[i].Unanswered++
				}
				if answered && best == label {
					top1[i]++
				}
				if answered && rank(row, label) < 5 {
					top5[i]++
				}
				if i > 0 && best != evals[0].Predictions[len(evals[i].Predictions)-1] {
					changed[i]++
				}
			}
		}
		first = false
		done += n
		progress("evaluating", done, len(index))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	noise := make([][]float32, len(models))
	for i, p := range ps {
		r := rand.New(rand.NewPCG(seed, 1))
		noise[i] = make([]float32, engine.Elements(p.dims))
		for j := range noise[i] {
			noise[i][j] = float32(r.NormFloat64())
		}
	}
	single := make([][]float64, len(models))
	for round := range latencyRuns + 3 {
		for i := range ps {
			if round%2 == 1 {
				i = len(ps) - 1 - i // no model always comes after the same other
			}
			_, ms, err := run(i, noise[i], 1)
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
		e.Nodes, e.Elsewhere = ps[i].nodes, ps[i].elsewhere
		e.Samples = len(e.Predictions)
		if e.Samples == 0 {
			return nil, dataset.ErrEmpty
		}
		n := float64(e.Samples)
		e.Correct, e.Chance = top1[i], chance(perLabel)
		e.Top1 = float64(top1[i]) / n
		if ps[i].k > 5 {
			t := float64(top5[i]) / n
			e.Top5 = &t
		}
		if i > 0 {
			c := float64(changed[i]) / n
			e.Changed = &c
		}
		e.Throughput, e.Latency = newTiming(batch, times[i]), newTiming(max(1, ps[i].fixed), single[i])
	}
	return evals, nil
}

// halfOutput returns a tensor for n rows of the output of a model where that is
// float16, for engines that do not allocate one where the file leaves the number of
// rows open and without a name; else nil.
func (p *measurer) halfOutput(n int) *engine.Tensor {
	if p.m.Outputs[0].DType != "float16" {
		return nil
	}
	shape := []int64{int64(n)}
	for _, d := range p.m.Graph.Shape(p.out).Dims[1:] {
		shape = append(shape, d.Value)
	}
	return &engine.Tensor{Shape: shape, Data: make([]uint16, engine.Elements(shape))}
}

// stream hands out the batches that suit inputs of one size and preprocessing.
type stream struct {
	batch dataset.Batch
	next  func() (dataset.Batch, error, bool)
	stop  func()
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
