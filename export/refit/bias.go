package refit

import (
	"context"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// Bias corrects the mean of what each filter of the layers gives, one layer after
// the other as Ridge does: what the original network's output of the layer, before
// any activation, has more in the mean over samples and positions is added to the
// layer's bias. Where a BatchNormalization alone reads the layer, its statistics are
// estimated anew instead: its mean and variance become such that what it gives has
// the mean and the variance that it has in the original network on the same samples.
// No weight changes.
//
// layers, results and errors are those of Ridge; but a layer whose error grows is not
// left alone where the statistics of a BatchNormalization are what was changed, for
// with the right variance an output that is noisy is farther off in squares.
func Bias(ctx context.Context, eng engine.Engine, original, masked *inspect.Model, layers []string, set *dataset.Set, opt Options) (map[string][]float32, []LayerError, error) {
	return walk(ctx, eng, original, masked, layers, set, opt, func(r *runner, s *site) worker { return &mean{r: r, s: s} })
}

// mean is the worker of Bias.
type mean struct {
	r     *runner
	s     *site
	layer *stage
	// n counts rows; of each filter, shift is about the mean of the original's
	// output, and the sums are of the original's outputs (y) and the masked one's
	// (z), less the shift.
	n            float64
	shift        []float64
	y, z, yy, zz []float64
}

func (w *mean) refuse() string {
	if w.s.bias == "" && w.s.norm == nil {
		return "it has no bias, and no BatchNormalization of its own follows"
	}
	return ""
}

func (w *mean) fit(ctx context.Context, x, y *engine.Tensor) error {
	s := w.s
	if w.layer == nil {
		var err error
		if w.layer, err = w.r.masked.load(ctx, []string{s.out}, []string{s.in}); err != nil {
			return err
		}
		f := s.filters()
		w.shift = s.channelMeans(y)
		w.y, w.z, w.yy, w.zz = make([]float64, f), make([]float64, f), make([]float64, f), make([]float64, f)
	}
	made, err := w.layer.run(ctx, 0, nil, map[string]*engine.Tensor{s.in: x})
	if err != nil {
		return err
	}
	z := made[s.out]
	if !slices.Equal(z.Shape, y.Shape) {
		return &skipError{"its output has not the shape that it has in the original"}
	}
	w.n += float64(engine.Elements(y.Shape)) / float64(s.filters())
	s.addMoments(y, w.shift, w.y, w.yy)
	s.addMoments(z, w.shift, w.z, w.zz)
	return nil
}

// addMoments adds to sums and squares what a tensor has more than shift.
func (s *site) addMoments(t *engine.Tensor, shift, sums, squares []float64) {
	v := t.Float32()
	s.channel(t, func(k, from, to int) {
		for _, x := range v[from:to] {
			d := float64(x) - shift[k]
			sums[k] += d
			squares[k] += d * d
		}
	})
}

func (w *mean) solve(_ context.Context, e *LayerError) (map[string][]float32, change, error) {
	s, f := w.s, w.s.filters()
	e.Method, e.Observations = "mean", int64(w.n)
	if s.norm == nil {
		b, add := slices.Clone(s.b), make([]float64, f)
		for k := range f {
			add[k] = (w.y[k] - w.z[k]) / w.n
			b[k] += float32(add[k] * float64(s.biasScale))
		}
		c := change{add: add}
		if s.biasInside {
			c = change{}
		}
		return map[string][]float32{s.bias: b}, c, nil
	}
	n := s.norm
	c := change{scale: make([]float64, f), add: make([]float64, f)}
	m, v := slices.Clone(n.m), slices.Clone(n.v)
	for k := range f {
		my, mz := w.y[k]/w.n, w.z[k]/w.n
		vy, vz := w.yy[k]/w.n-my*my, w.zz[k]/w.n-mz*mz
		was := float64(n.v[k]) + n.epsilon
		is := was
		// A filter that hardly varies has a ratio that means nothing.
		if vy > 1e-6*was && vz > 1e-6*was {
			is = max(was*vz/vy, n.epsilon)
		}
		spread := math.Sqrt(is / was)
		// (z - m') / sqrt(is) has the mean that (y - m) / sqrt(was) has.
		my, mz = my+w.shift[k], mz+w.shift[k]
		m[k] = float32(mz - (my-float64(n.m[k]))*spread)
		v[k] = float32(is - n.epsilon)
		c.scale[k] = 1 / spread
		c.add[k] = float64(n.m[k]) - float64(m[k])/spread
	}
	return map[string][]float32{n.mean: m, n.variance: v}, c, nil
}

func (w *mean) close() error { return w.layer.close() }
