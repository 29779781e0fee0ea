package refit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// Ridge fits what is left of the weights of layers, one layer after the other in the
// order in which they run, and each of its filters for itself: by ridge regression of
// the original network's output of the layer, before any activation, on what the
// layer reads in the masked network, with the layers before it refitted. The ridge
// pulls towards the weights that are there. The constant that a filter adds is
// fitted too where there is a place for it: the layer's own bias, the mean of a
// BatchNormalization behind it (the output is that of the layer before it), or what
// an Add behind it adds; else the fit is without one.
//
// layers are names as inspect.Model.LayerName takes them; with none these are the
// layers whose weights differ between the models. Conv, grouped and depthwise too,
// Gemm and MatMul are fitted; what cannot be is reported with the reason. The new
// weights are keyed by the names of masked's stored tensors and in their layout;
// weights that are zero in masked are zero. A fit that makes the error on held-out
// samples larger is dropped.
//
// The samples run through each of the networks once, in parts from layer to layer,
// as far as the activations in between fit in opt.Memory; where not, parts run
// again. What a layer with D weights a filter takes is 16 D^2 bytes, some D^2 / 2
// multiply-adds for each observation, and for each filter with S of them left S^3 / 6,
// or with conjugate gradients some 60 D^2. Held-out samples run through the layer
// itself twice more.
//
// Errors are of the engine, of the data set, *OptionError, *UnknownLayerError,
// those of probe.NewSurvey, or the context's.
func Ridge(ctx context.Context, eng engine.Engine, original, masked *inspect.Model, layers []string, set *dataset.Set, opt Options) (map[string][]float32, []LayerError, error) {
	return walk(ctx, eng, original, masked, layers, set, opt, func(r *runner, s *site) worker { return &ridge{r: r, s: s} })
}

// A worker refits one layer from what it is shown of it.
type worker interface {
	// refuse says why the layer cannot be refitted, "" when it can.
	refuse() string
	// fit is shown the layer's input and the original's output for a batch.
	fit(ctx context.Context, x, y *engine.Tensor) error
	// solve returns new weights by the names of stored tensors, and what happens to
	// the layer's output behind it that did not happen before.
	solve(ctx context.Context, e *LayerError) (weights map[string][]float32, after change, err error)
	close() error
}

// A change is what happens to each filter's output: times scale, plus add; nil
// stands for 1 and 0.
type change struct{ scale, add []float64 }

// A skipError is why a layer cannot be refitted after all.
type skipError struct{ reason string }

func (e *skipError) Error() string { return e.reason }

// walk refits layers in the order in which they run.
func walk(ctx context.Context, eng engine.Engine, original, masked *inspect.Model, layers []string, set *dataset.Set, opt Options, begin func(*runner, *site) worker) (_ map[string][]float32, errs []LayerError, err error) {
	r, err := newRunner(eng, original, masked, set, opt)
	if err != nil {
		return nil, nil, err
	}
	sites, skipped, err := findSites(original, masked, layers, r.opt.Memory)
	if err != nil {
		return nil, nil, err
	}
	found := map[string]LayerError{}
	for _, e := range skipped {
		found[e.Layer] = e
	}
	for i, s := range sites {
		e, err := r.layer(ctx, sites, i, begin(r, s))
		if err != nil {
			return nil, nil, err
		}
		found[s.name] = e
	}
	for i := range masked.Layers {
		if e, ok := found[masked.Layers[i].Name]; ok && masked.Layers[i].Scope == "" {
			errs = append(errs, e)
		}
	}
	return r.masked.weights, errs, nil
}

// heldShare says which part of the memory the inputs and outputs of held-out samples
// may take: one in so many.
const heldShare = 8

// layer refits the layer i of sites.
func (r *runner) layer(ctx context.Context, sites []*site, i int, w worker) (e LayerError, err error) {
	s := sites[i]
	e = LayerError{Layer: s.name}
	if e.Skipped = w.refuse(); e.Skipped != "" {
		return e, nil
	}
	defer func() {
		if cerr := w.close(); err == nil {
			err = cerr
		}
	}()
	var later, laterTargets []string
	for _, t := range sites[i+1:] {
		later = append(later, t.in)
		laterTargets = append(laterTargets, t.target)
	}
	maskedNames := r.masked.cut([]string{s.in}, append(later, s.out))
	originalNames := r.original.cut([]string{s.target}, laterTargets)
	if i == len(sites)-1 {
		maskedNames, originalNames = nil, nil
	}
	same := false
	if len(r.masked.kept) == 0 && len(r.original.kept) == 0 {
		if same, err = sameWay(r.masked, r.original, s.in); err != nil {
			return e, err
		}
	}
	wanted := append(slices.Clone(originalNames), s.target)
	var front *stage
	if same {
		wanted = append(append(wanted, maskedNames...), s.in)
	} else if front, err = r.masked.load(ctx, unique(append(slices.Clone(maskedNames), s.in)), nil); err != nil {
		return e, err
	}
	defer front.close()
	behind, err := r.original.load(ctx, unique(wanted), nil)
	if err != nil {
		return e, err
	}
	defer behind.close()

	keepMasked, keepOriginal := r.masked.keep(maskedNames), r.original.keep(originalNames)
	images := behind.needsImage() || front != nil && front.needsImage()
	var held []pair
	heldBytes := int64(0)
	err = r.each(ctx, "refitting "+s.name, 0, len(r.batches), images, func(b int, out bool, image func() (*engine.Tensor, error)) error {
		made, err := behind.run(ctx, b, image, nil)
		if err != nil {
			return err
		}
		front := front
		x := made
		if front != nil {
			if x, err = front.run(ctx, b, image, nil); err != nil {
				return err
			}
		}
		p := pair{x[s.in], made[s.target]}
		if _, _, err := s.maps(p.x, p.y); err != nil {
			return &skipError{err.Error()}
		}
		switch size := bytesOf(p.x) + bytesOf(p.y); {
		case !out:
			err = w.fit(ctx, p.x, p.y)
		case len(held) == 0 || heldBytes+size <= r.opt.Memory/heldShare:
			held = append(held, p)
			heldBytes += size
		}
		keepMasked.take(b, len(r.batches), x)
		keepOriginal.take(b, len(r.batches), made)
		return err
	})
	var skip *skipError
	if errors.As(err, &skip) {
		e.Skipped = skip.reason
		return e, nil
	}
	if err != nil {
		return e, err
	}
	weights, behindLayer, err := w.solve(ctx, &e)
	if errors.As(err, &skip) {
		return LayerError{Layer: s.name, Skipped: skip.reason}, nil
	}
	if err != nil {
		return e, err
	}
	for _, v := range s.w {
		if v != 0 {
			e.Weights++
		}
	}
	if err := r.judge(ctx, s, held, weights, behindLayer, &e); err != nil {
		return e, err
	}
	keepMasked.done()
	keepOriginal.done()
	switch finite := e.After-e.After == 0; {
	case e.Before-e.Before != 0:
		return LayerError{Layer: s.name, Skipped: "what it gives is not finite"}, nil
	case !finite, e.After > e.Before && behindLayer.scale == nil:
		e.Kept, e.After = true, e.Before
		return e, nil
	}
	maps.Copy(r.masked.weights, weights)
	return e, nil
}

// A pair is what a layer reads in the masked network and gives in the original.
type pair struct{ x, y *engine.Tensor }

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// judge measures the errors of a layer on held-out samples: the layer itself is run,
// with the weights that it had and with the new ones.
func (r *runner) judge(ctx context.Context, s *site, held []pair, weights map[string][]float32, later change, e *LayerError) error {
	before, err := r.current(s)
	if err != nil {
		return err
	}
	layer, err := r.masked.load(ctx, []string{s.out}, append(slices.Sorted(maps.Keys(before)), s.in))
	if err != nil {
		return err
	}
	defer layer.close()
	after := maps.Clone(before)
	for name, v := range weights {
		if t, ok := before[name]; ok {
			after[name] = engine.NewFloat32(v, t.Shape...)
		}
	}
	means := make([]float64, s.filters())
	for _, p := range held {
		for k, m := range s.channelMeans(p.y) {
			means[k] += m / float64(len(held))
		}
	}
	var total, off [2]float64 // off: before, after
	sums := make([]float64, s.filters())
	n := 0.0
	for _, p := range held {
		for i, inputs := range []map[string]*engine.Tensor{before, after} {
			inputs[s.in] = p.x
			made, err := layer.run(ctx, 0, nil, inputs)
			if err != nil {
				return err
			}
			var c change
			if i == 1 {
				c = later
			}
			off[i] += s.distance(p.y, made[s.out], c)
		}
		total[0] += s.deviation(p.y, means, sums)
		n += float64(engine.Elements(p.y.Shape)) / float64(s.filters())
		e.Samples += int(p.y.Shape[0])
	}
	// The means were those of batches; the sum of squares about the true ones is less.
	for _, v := range sums {
		total[0] -= v * v / n
	}
	e.Before, e.After = ratio(off[0], total[0]), ratio(off[1], total[0])
	return nil
}

// ratio is a / b, 0 where nothing is wrong.
func ratio(a, b float64) float64 {
	if a <= 0 {
		return 0
	}
	if b <= 0 {
		return 1
	}
	return a / b
}

// current returns the weight and the bias that the node of a site reads, as they are.
func (r *runner) current(s *site) (map[string]*engine.Tensor, error) {
	names := []string{s.weight}
	if s.biasInside {
		names = append(names, s.bias)
	}
	out := map[string]*engine.Tensor{}
	for _, name := range names {
		t, ok := storedTensor(r.masked.m, name)
		if !ok {
			return nil, fmt.Errorf("layer %s: no stored tensor %q", s.name, name)
		}
		v := s.w
		if name == s.bias {
			v = s.b
		}
		out[name] = engine.NewFloat32(v, t.Dims()...)
	}
	return out, nil
}

// channel calls fn for each run of numbers of one filter of a layer's output.
func (s *site) channel(t *engine.Tensor, fn func(filter, from, to int)) {
	f := s.filters()
	inner := 1
	if !s.channelsLast {
		inner = int(engine.Elements(t.Shape[2:]))
	}
	for i := 0; i < len(t.Float32()); i += inner {
		fn(i/inner%f, i, i+inner)
	}
}

// distance returns the sum of squares of the differences between y and z, changed.
func (s *site) distance(y, z *engine.Tensor, c change) float64 {
	a, b := y.Float32(), z.Float32()
	sum := 0.0
	s.channel(y, func(k, from, to int) {
		scale, add := 1.0, 0.0
		if c.scale != nil {
			scale = c.scale[k]
		}
		if c.add != nil {
			add = c.add[k]
		}
		for i := from; i < to; i++ {
			d := float64(a[i]) - scale*float64(b[i]) - add
			sum += d * d
		}
	})
	return sum
}

// deviation returns the sum of squares of y about the given means, and adds the
// deviations themselves to sums.
func (s *site) deviation(y *engine.Tensor, means, sums []float64) float64 {
	v := y.Float32()
	total := 0.0
	s.channel(y, func(k, from, to int) {
		for _, x := range v[from:to] {
			d := float64(x) - means[k]
			sums[k] += d
			total += d * d
		}
	})
	return total
}

// ridge is the worker of Ridge.
type ridge struct {
	r    *runner
	s    *site
	g    *gram
	rand *rand.Rand
	// positions is how many of all places of the output map are read for each sample.
	positions, all int64
	// way overrides how equations are solved, for tests.
	way string
}

func (w *ridge) refuse() string {
	need, limit := gramBytes(w.s), w.r.opt.Memory/2
	if need > limit {
		return fmt.Sprintf("the equations of its %d weights a filter take %d MB, and %d MB are left for them; give more memory", w.s.d(), need>>20, limit>>20)
	}
	return ""
}

func (w *ridge) fit(ctx context.Context, x, y *engine.Tensor) error {
	if w.g == nil {
		_, onto, err := w.s.maps(x, y)
		if err != nil {
			return err
		}
		samples := int64(w.r.samples(0, w.r.held))
		want := w.r.opt.Observations
		if want == 0 {
			want = max(DefaultObservations*int64(w.s.d()), minObservations)
		}
		w.all = engine.Elements(onto)
		w.positions = min(max(1, (want+samples-1)/samples), w.all)
		w.rand = rand.New(rand.NewPCG(w.r.opt.Seed, 0x91d6))
		if w.g, err = newGram(ctx, w.r.eng, w.s, x, y, w.positions); err != nil {
			return err
		}
	}
	return w.g.add(ctx, x, y, choose(w.rand, w.positions, w.all))
}

func (w *ridge) close() error { return w.g.close() }

func (w *ridge) solve(ctx context.Context, e *LayerError) (map[string][]float32, change, error) {
	s := w.s
	e.Observations = int64(w.g.m.n)
	next := slices.Clone(s.w)
	constant := make([]float64, s.filters())
	for g := range s.groups {
		way, iterations, err := w.group(ctx, g, next, constant[g*s.f:(g+1)*s.f])
		if err != nil {
			return nil, change{}, err
		}
		e.Method, e.Iterations = way, max(e.Iterations, iterations)
	}
	weights := map[string][]float32{s.weight: next}
	if !s.intercept() {
		return weights, change{}, nil
	}
	b, add := s.constant(constant)
	weights[s.bias] = b
	return weights, change{add: add}, nil
}

// constant returns the stored numbers of the bias with which each filter adds the
// given constant to what its weights make, and what is then still to be added to the
// layer's output.
func (s *site) constant(c []float64) (b []float32, add []float64) {
	b = make([]float32, len(c))
	for k, v := range c {
		b[k] = float32(v * float64(s.biasScale))
		if !s.biasInside {
			b[k] += s.b[k]
		}
	}
	if !s.biasInside {
		add = c
	}
	return b, add
}

// group fits the filters of a group: their weights go to next, what they add to
// constant.
func (w *ridge) group(ctx context.Context, g int, next []float32, constant []float64) (way string, iterations int, err error) {
	s := w.s
	sys := w.g.m.system(g, s.intercept())
	mul, err := newMultiplier(ctx, w.r.eng, sys.a, sys.d)
	if err != nil {
		return "", 0, err
	}
	defer func() {
		if cerr := mul.close(); err == nil {
			err = cerr
		}
	}()
	w0, support := s.matrix(g), s.support(g)
	p, err := newProblem(ctx, mul, sys, w0, support, w.r.opt.Lambda)
	if err != nil {
		return "", 0, err
	}
	p.memory = w.r.opt.Memory / 4
	v, way, iterations, err := p.solve(ctx, mul, w.way)
	if err != nil {
		return "", 0, err
	}
	copy(constant, sys.meanY)
	for i := range sys.d {
		for k := range s.f {
			if !support[i*s.f+k] {
				continue
			}
			x := float32((w0[i*s.f+k] + v[i*s.f+k]) / float64(s.scale))
			next[s.index(g, i, k)] = x
			constant[k] -= sys.meanX[i] * float64(x*s.scale)
		}
	}
	return way, iterations, nil
}
