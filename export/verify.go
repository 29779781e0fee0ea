package export

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// fail makes err the verdict of a check, unless it is the context's: a check
// that was interrupted has found nothing.
func (r *Report) fail(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.check(name, false, "%v", err)
}

// samples returns r.Samples, which is there from the first use on.
func (r *Report) samples(p *pipeline) *Samples {
	if r.Samples == nil {
		r.Samples = &Samples{Preprocess: p.opt.Probe.Preprocess.String()}
	}
	return r.Samples
}

func part(s dataset.Split) *Part { return &Part{len(s.Index), s.Hash} }

// layerWeights lists the stored weights of m's layers by name.
func layerWeights(m *inspect.Model) map[string]onnxfile.Tensor {
	list := map[string]onnxfile.Tensor{}
	for i := range m.Layers {
		l := &m.Layers[i]
		if l.Scope != "" {
			continue
		}
		switch l.Op {
		case "Conv", "ConvTranspose", "Gemm", "MatMul":
			if st, ok := m.LayerWeight(l); ok && len(st.Through) == 0 && st.Tensor.DType().IsFloat() {
				list[st.Name] = st.Tensor
			}
		}
	}
	return list
}

// checkSilenced proves that b is a with some weights of layers set to zero.
func checkSilenced(ctx context.Context, a, b *inspect.Model) error {
	names := map[string]bool{}
	after := layerWeights(b)
	for name, t := range layerWeights(a) {
		names[name] = true
		err := onnxfile.Pairs(t, after[name], func(x, y []float64, same bool) error {
			for i := range x {
				if !same && y[i] != 0 && y[i] != x[i] && (x[i] == x[i] || y[i] == y[i]) {
					return fmt.Errorf("%v became %v", x[i], y[i])
				}
			}
			return ctx.Err()
		})
		if err != nil {
			return fmt.Errorf("weight %q: %w", name, err)
		}
	}
	return checkUntouched(ctx, a, b, names)
}

// checkHeld proves that weights of layers that are zero in a are zero in b, and
// counts them.
func checkHeld(ctx context.Context, a, b *inspect.Model) (zeros int64, err error) {
	after := layerWeights(b)
	for name, t := range layerWeights(a) {
		err := onnxfile.Pairs(t, after[name], func(x, y []float64, same bool) error {
			for i := range x {
				if x[i] == 0 {
					zeros++
					if y[i] != 0 {
						return fmt.Errorf("a weight that was dropped is %v", y[i])
					}
				}
			}
			return ctx.Err()
		})
		if err != nil {
			return 0, fmt.Errorf("weight %q: %w", name, err)
		}
	}
	return zeros, nil
}

const (
	// equalSamples and equalNoise are how many inputs two models are compared on.
	equalSamples = 200
	equalNoise   = 8
	// equal is how far outputs may differ, as a share of the largest, where sums are
	// only rounded in another order; equalHalf where activations are half precision.
	equal     = 1e-4
	equalHalf = 2e-2
)

// tolerance returns how far the outputs of two models that compute the same may
// differ.
func tolerance(m *inspect.Model) float64 {
	for _, t := range layerWeights(m) {
		if t.DType().Bits() < 32 {
			return equalHalf
		}
	}
	return equal
}

// checkCompacted compares the outputs of two models on samples and on noise.
func (p *pipeline) checkCompacted(ctx context.Context, dense, compacted *inspect.Model, c *Compaction) error {
	c.Tolerance = tolerance(dense)
	var err error
	if c.Noise, err = noiseDifference(ctx, p.eng, dense, compacted); err != nil {
		return p.r.fail(ctx, "compacted", err)
	}
	if p.opt.Set != nil {
		index := some(slices.Sorted(slices.Values(slices.Concat(p.fit.Index, p.stats.Index, p.eval.Index))), equalSamples)
		if c.Real, err = p.sampleDifference(ctx, dense, compacted, index); err != nil {
			return p.r.fail(ctx, "compacted", err)
		}
	}
	detail, ok, varies := "", true, false
	for _, d := range []struct {
		on string
		d  *Difference
	}{{"samples", c.Real}, {"random inputs", c.Noise}} {
		if d.d == nil {
			continue
		}
		if detail != "" {
			detail += ", "
		}
		detail += fmt.Sprintf("by %.2g (%.2g of the largest) on %d %s", d.d.Largest, d.d.Relative, d.d.Samples, d.on)
		ok, varies = ok && d.d.Relative <= c.Tolerance, varies || d.d.varies
	}
	if detail == "" {
		return p.r.check("compacted", true, "outputs were not compared, for the size of the input is open; give --data")
	}
	if !varies {
		p.r.Warnings = append(p.r.Warnings, "the masked model gives the same outputs for every input, so that it shows little that the compacted one does, too: prune less, or recover it")
	}
	return p.r.check("compacted", ok, "outputs differ from those of the masked model %s; %.2g of the largest are allowed", detail, c.Tolerance)
}

// sampleDifference compares two models on samples of the data set.
func (p *pipeline) sampleDifference(ctx context.Context, a, b *inspect.Model, index []int) (*Difference, error) {
	opt := p.opt.Probe
	opt.Progress = func(_ string, done, total int) { p.opt.Probe.Progress("comparing with the masked model", done, total) }
	d := &Difference{}
	largest := 0.0
	var was []float32
	_, err := probe.EvaluateEach(ctx, []engine.Engine{p.eng, p.eng}, []*inspect.Model{a, b}, p.opt.Set, index, opt, func(model int, r probe.Run) error {
		if model == 0 {
			was = append(was[:0], r.Out...)
			d.Samples += len(r.Index)
			k := len(r.Out) / len(r.Index)
			for i := range r.Index {
				d.note(r.Out[i*k : (i+1)*k])
			}
			return nil
		}
		largest = d.add(was, r.Out, largest)
		return nil
	})
	d.relate(largest)
	return d, err
}

// add takes up the difference of b from a; largest is the largest |a| so far. What is
// not finite in a must be so in b.
func (d *Difference) add(a, b []float32, largest float64) float64 {
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		if x-x != 0 || y-y != 0 {
			if (x-x != 0) != (y-y != 0) {
				d.Largest = math.Inf(1)
			}
			continue
		}
		d.Largest, largest = max(d.Largest, math.Abs(y-x)), max(largest, math.Abs(x))
	}
	return largest
}

// note looks whether the outputs for one input are those for the first one.
func (d *Difference) note(out []float32) {
	if d.first == nil {
		d.first = slices.Clone(out)
	}
	d.varies = d.varies || !slices.Equal(d.first, out)
}

func (d *Difference) relate(largest float64) {
	switch {
	case math.IsInf(d.Largest, 1):
		// JSON has no infinity.
		d.Largest, d.Relative = math.MaxFloat64, math.MaxFloat64
	case d.Largest == 0:
	case largest > 0:
		d.Relative = d.Largest / largest
	default:
		d.Relative = math.MaxFloat64
	}
}

// A runner runs one model on noise.
type runner struct {
	m *inspect.Model
	s engine.Session
}

// noiseInputs draws an input for m, nil when the size of one is open.
func noiseInputs(m *inspect.Model, r *rand.Rand) map[string]*engine.Tensor {
	in := map[string]*engine.Tensor{}
	for _, v := range m.Inputs {
		shape := make([]int64, len(v.Shape.Dims))
		for i, d := range v.Shape.Dims {
			shape[i] = d.Value
			if d.Value < 0 {
				if i > 0 {
					return nil
				}
				shape[i] = 1
			}
		}
		x := make([]float32, engine.Elements(shape))
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		in[v.Name] = probe.NewTensor(x, v.DType == "float16", shape...)
	}
	return in
}

func load(ctx context.Context, eng engine.Engine, m *inspect.Model) (*runner, error) {
	s, err := eng.Load(ctx, engine.Model{Name: m.File, Path: m.File})
	if err != nil {
		return nil, err
	}
	return &runner{m, s}, nil
}

func (r *runner) run(ctx context.Context, in map[string]*engine.Tensor) (map[string]*engine.Tensor, error) {
	out := map[string]*engine.Tensor{}
	for _, v := range r.m.Outputs {
		out[v.Name] = nil
	}
	err := r.s.Run(ctx, in, out)
	return out, err
}

// noiseDifference compares two models on noise of a fixed seed, nil when the size of
// an input is open.
func noiseDifference(ctx context.Context, eng engine.Engine, a, b *inspect.Model) (*Difference, error) {
	ra, err := load(ctx, eng, a)
	if err != nil {
		return nil, err
	}
	defer ra.s.Close()
	rb, err := load(ctx, eng, b)
	if err != nil {
		return nil, err
	}
	defer rb.s.Close()
	d := &Difference{}
	largest := 0.0
	r := rand.New(rand.NewPCG(3, 5))
	for range equalNoise {
		in := noiseInputs(a, r)
		if in == nil {
			return nil, nil
		}
		x, err := ra.run(ctx, in)
		if err != nil {
			return nil, err
		}
		y, err := rb.run(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, v := range a.Outputs {
			xs, ys := probe.Numbers(x[v.Name]), probe.Numbers(y[v.Name])
			if len(xs) != len(ys) {
				return nil, fmt.Errorf("output %q has %d numbers, it had %d", v.Name, len(ys), len(xs))
			}
			largest = d.add(xs, ys, largest)
			if v.Name == a.Outputs[0].Name {
				d.note(xs)
			}
		}
		d.Samples++
	}
	d.relate(largest)
	return d, nil
}

// checkRuns describes both sides, loads the final file and runs it once on noise.
func (p *pipeline) checkRuns(ctx context.Context) (err error) {
	if p.r.Before, err = side(ctx, p.m); err != nil {
		return err
	}
	if p.r.After, err = side(ctx, p.final.m); err != nil {
		return err
	}
	if p.r.After.Bytes, err = p.final.bytes(); err != nil {
		return err
	}
	ran, err := runs(ctx, p.eng, p.m, p.final.m)
	if err != nil {
		return p.r.fail(ctx, "runs", err)
	}
	did := "opened the file and ran it"
	if !ran {
		did = "opened the file; it was not run on noise, for the size of its input is open"
	}
	return p.r.check("runs", true, "%s %s %s", p.eng.Name(), p.eng.Version(), did)
}

// judge measures accuracies and times, those of the dense models on the way too.
func (p *pipeline) judge(ctx context.Context, models []*inspect.Model) error {
	r := p.r
	if p.opt.Set == nil {
		r.Warnings = append(r.Warnings, "the accuracy was not measured: give --data")
		times, err := latencies(ctx, p.eng, p.m, p.final.m)
		if err != nil {
			return err
		}
		if times != nil {
			r.Before.Latency, r.After.Latency = times[0], times[1]
		}
		return nil
	}
	r.samples(p).Eval = part(p.eval)
	evals, err := probe.Evaluate(ctx, p.eng, []*inspect.Model{p.m, p.final.m}, p.opt.Set, p.eval.Index, p.opt.Probe)
	if err != nil {
		return err
	}
	before, after := &evals[0], &evals[1]
	r.Before.Evaluation, r.After.Evaluation = before, after
	r.Before.Latency, r.After.Latency = before.Latency, after.Latency
	if err := p.judgeSteps(ctx, models, before, after); err != nil {
		return err
	}
	drop := points(before.Correct-after.Correct, before.Samples)
	r.Drop, r.Changed = &drop, after.Changed
	if probe.AtChance(before.Top1, before.Chance, before.Samples) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the original model's accuracy of %.2f %% is at chance level: check the preprocessing and the order of the labels", 100*before.Top1))
	} else if probe.AtChance(after.Top1, after.Chance, after.Samples) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the pruned model's accuracy of %.2f %% is at chance level: prune less, fewer layers, or recover it with more samples", 100*after.Top1))
	}
	if p.opt.MaxDrop != nil {
		return r.check("accuracy", drop <= *p.opt.MaxDrop, "top-1 went from %.2f %% to %.2f %%, a loss of %.2f points; %.2f are allowed",
			100*before.Top1, 100*after.Top1, drop, *p.opt.MaxDrop)
	}
	return nil
}

// judgeSteps evaluates the models of the steps; one that is the final file itself is
// not run again.
func (p *pipeline) judgeSteps(ctx context.Context, models []*inspect.Model, before, after *probe.Evaluation) error {
	var list []*inspect.Model
	for _, m := range models {
		if m != p.final.m && !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	var evals []probe.Evaluation
	if len(list) > 0 {
		var err error
		if evals, err = probe.Evaluate(ctx, p.eng, list, p.opt.Set, p.eval.Index, p.opt.Probe); err != nil {
			return err
		}
	}
	i := 0
	for k := range p.r.Steps {
		s := &p.r.Steps[k]
		if s.Skipped != "" {
			continue
		}
		m := models[i]
		i++
		if m == p.final.m {
			s.Evaluation = after
			continue
		}
		e := evals[slices.Index(list, m)]
		e.Changed = changedFrom(before, &e)
		s.Evaluation = &e
	}
	return nil
}

// changedFrom returns the share of answers of b that are not those of a.
func changedFrom(a, b *probe.Evaluation) *float64 {
	if len(a.Predictions) != len(b.Predictions) || len(a.Predictions) == 0 {
		return nil
	}
	n := 0
	for i := range a.Predictions {
		if a.Predictions[i] != b.Predictions[i] {
			n++
		}
	}
	share := float64(n) / float64(len(a.Predictions))
	return &share
}

// points returns a share of samples in percentage points. Dividing once keeps a
// loss of exactly the allowed size from exceeding it by a rounding.
func points(samples, of int) float64 { return 100 * float64(samples) / float64(of) }

func side(ctx context.Context, m *inspect.Model) (*Side, error) {
	opt := m.Options
	opt.Weights = true
	full, err := inspect.New(ctx, m.Handle, opt)
	if err != nil {
		return nil, err
	}
	return &Side{Bytes: full.FileBytes + full.ExternalBytes, Parameters: full.Totals.Parameters, Zeros: full.Totals.Zeros, MACs: full.Totals.MACs}, nil
}

// runs loads the written file and runs it once on noise of a fixed seed. Where
// the original's outputs are finite, the written file's must be too. ran is false
// when the size of an input is open, so that the file was loaded only.
func runs(ctx context.Context, eng engine.Engine, original, written *inspect.Model) (ran bool, err error) {
	name, ran, err := notFinite(ctx, eng, written)
	if err != nil || name == "" {
		return ran, err
	}
	was, _, err := notFinite(ctx, eng, original)
	if err == nil && was == "" {
		err = fmt.Errorf("output %q is not finite", name)
	}
	return ran, err
}

// notFinite runs m on noise and names the first output that is not finite.
func notFinite(ctx context.Context, eng engine.Engine, m *inspect.Model) (name string, ran bool, err error) {
	r, err := load(ctx, eng, m)
	if err != nil {
		return "", false, err
	}
	defer r.s.Close()
	in := noiseInputs(m, rand.New(rand.NewPCG(1, 2)))
	if in == nil {
		return "", false, nil // the evaluation chooses one
	}
	out, err := r.run(ctx, in)
	if err != nil {
		return "", false, err
	}
	for _, v := range m.Outputs {
		for _, x := range probe.Numbers(out[v.Name]) {
			if x-x != 0 {
				return v.Name, true, nil
			}
		}
	}
	return "", true, nil
}

// timedRuns is how often each model is timed.
const timedRuns = 30

// latencies times models in turn on one sample of noise, nil when the size of an
// input is open.
func latencies(ctx context.Context, eng engine.Engine, models ...*inspect.Model) ([]*probe.Timing, error) {
	ms, err := inTurn(ctx, eng, timedRuns, models...)
	if ms == nil || err != nil {
		return nil, err
	}
	return timings(models[0], ms), nil
}

// inTurn runs models in turn on one sample of noise, and returns the milliseconds of
// each round by model; nil when the size of an input is open.
func inTurn(ctx context.Context, eng engine.Engine, rounds int, models ...*inspect.Model) ([][]float64, error) {
	in := noiseInputs(models[0], rand.New(rand.NewPCG(1, 2)))
	if in == nil {
		return nil, nil
	}
	runners := make([]*runner, len(models))
	for i, m := range models {
		r, err := load(ctx, eng, m)
		if err != nil {
			return nil, err
		}
		defer r.s.Close()
		runners[i] = r
	}
	ms := make([][]float64, len(models))
	for round := range rounds + 3 {
		for i := range runners {
			if round%2 == 1 {
				i = len(runners) - 1 - i // no model always comes after the same other
			}
			begin := time.Now()
			if _, err := runners[i].run(ctx, in); err != nil {
				return nil, err
			}
			if round >= 3 { // the first runs allocate
				ms[i] = append(ms[i], float64(time.Since(begin))/1e6)
			}
		}
	}
	return ms, nil
}

// timings sums up what inTurn measured, with the batch that m fixes.
func timings(m *inspect.Model, ms [][]float64) []*probe.Timing {
	times := make([]*probe.Timing, len(ms))
	batch := 1
	if len(m.Inputs) > 0 {
		if d := m.Inputs[0].Shape.Dims; len(d) > 0 && d[0].Value > 1 {
			batch = int(d[0].Value)
		}
	}
	for i, v := range ms {
		v = slices.Sorted(slices.Values(v))
		at := func(q float64) float64 {
			pos := q * float64(len(v)-1)
			k := int(pos)
			return v[k] + (pos-float64(k))*(v[min(k+1, len(v)-1)]-v[k])
		}
		times[i] = &probe.Timing{Batch: batch, Runs: len(v), Median: at(0.5), Low: at(0.1), High: at(0.9)}
	}
	return times
}
