package probe

import (
	"context"
	"fmt"
	"iter"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Activity is what taps hand on for a batch of samples.
type Activity struct {
	// Index holds the numbers of the samples in the set, Labels theirs.
	Index, Labels []int
	// Taps holds for each tap a row for each sample: F x P numbers, filter by filter,
	// averaged over windows of Tap.Pool, as a head sees them.
	Taps [][]float32
}

// Activations runs the samples index of set through m, in this order and in batches of
// opt.Batch (100 when zero; what the file fixes where that cannot be opened), and
// delivers what taps hand on; of opt only Preprocess and Batch count. Samples that
// cannot be decoded are left out and listed by set. What is delivered may be used until
// the next batch is asked for. Only what the taps need of the model is run.
//
// The iteration ends after the first error, of the engine, the data set or the context,
// or one that Measure would refuse m with. Nothing is left open when it ends, early or
// not.
func Activations(ctx context.Context, eng engine.Engine, m *inspect.Model, taps []*Tap, set *dataset.Set, index []int, opt Options) iter.Seq2[*Activity, error] {
	return func(yield func(*Activity, error) bool) {
		wanted := true
		err := activations(ctx, eng, m, taps, set, index, opt, func(a *Activity) bool {
			wanted = yield(a, nil)
			return wanted
		})
		if err != nil && wanted {
			yield(nil, err)
		}
	}
}

// activations returns nil when yield asks for no more.
func activations(ctx context.Context, eng engine.Engine, m *inspect.Model, taps []*Tap, set *dataset.Set, index []int, opt Options, yield func(*Activity) bool) (err error) {
	in, out, k, err := classifierEnds(m)
	if err != nil {
		return err
	}
	p, err := newMeasurer(m, set, opt, newEnds(m, in, out, k))
	if err != nil {
		return err
	}
	p.eng = eng
	b, err := p.trunk()
	if err != nil {
		return err
	}
	names := make([]string, len(taps))
	for i, t := range taps {
		names[i] = b.features(t)
		b.g.Output = append(b.g.Output, valueInfo(names[i], onnxfile.Float, -1, int64(t.features())))
	}
	b.drop()
	sess, err := p.load(ctx, "activations", b)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := sess.Close(); err == nil {
			err = cerr
		}
	}()
	// Batches of one size share their memory.
	var outs map[string]*engine.Tensor
	rows := 0
	for b, err := range set.Batches(ctx, dataset.Sequential(index, p.batch), p.tr, 0) {
		if err != nil {
			return err
		}
		n := len(b.Index)
		if n == 0 {
			continue
		}
		if want := max(n, p.fixed); want != rows {
			rows, outs = want, map[string]*engine.Tensor{}
			for i, t := range taps {
				d := t.features()
				outs[names[i]] = engine.NewFloat32(make([]float32, rows*d), int64(rows), int64(d))
			}
		}
		if err := sess.Run(ctx, map[string]*engine.Tensor{p.image: p.rows.tensor(b.X, n)}, outs); err != nil {
			return err
		}
		a := &Activity{Index: b.Index, Labels: b.Labels, Taps: make([][]float32, len(taps))}
		for i, t := range taps {
			v := outs[names[i]].Float32()
			if len(v) != rows*t.features() {
				return &engine.Error{Op: "run", Model: m.File, Err: fmt.Errorf("%d values of %q for %d samples of %d", len(v), t.Tensor, rows, t.features())}
			}
			a.Taps[i] = v[:n*t.features()]
		}
		if !yield(a) {
			return nil
		}
	}
	return ctx.Err()
}

// features returns F*P.
func (t *Tap) features() int { return t.Filters * t.Positions() }
