package export

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/export/compact"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// Moments are the first and second moments of the filters of a tap over samples and
// positions.
type Moments struct {
	// Rows is how many rows, samples times positions, they are of.
	Rows int64
	// Mean holds that of each of F filters, Covariance the F x F sums of products of
	// deviations from the means divided by Rows, row by row.
	Mean, Covariance []float64
}

const (
	// momentsSamples is how many samples measure moments at most.
	momentsSamples = 1000
	// momentsRows is how many rows are read of a tap at least, as far as there are
	// so many, and momentsPerFilter how many for each of its filters.
	momentsRows      = 1 << 14
	momentsPerFilter = 16
	// maxMoments is the largest number of filters of a tap whose covariances are
	// formed: 0.5 GB.
	maxMoments = 8192
)

// MeasureMoments measures what PlanOptions.Moments holds: for the taps tensors of m
// (see Taps) the moments of their filters. The samples are those of the fitting and
// the statistics split of opt, at most a thousand; of large maps positions are drawn
// for each sample by the seed of the split. A tap of more than 8,192 filters is left
// out. What a tap of F filters takes is 8 F^2 bytes, and F^2 / 2 multiply-adds a row.
// Errors are those of probe.Activations and of the split.
func MeasureMoments(ctx context.Context, eng engine.Engine, m *inspect.Model, set *dataset.Set, tensors []string, opt probe.Options) (map[string]*Moments, error) {
	fit, stats, _, err := set.Split(opt.Split)
	if err != nil {
		return nil, err
	}
	return measureMoments(ctx, eng, m, set, tensors, slices.Sorted(slices.Values(slices.Concat(fit.Index, stats.Index))), opt)
}

// measureMoments is MeasureMoments on some of the samples index.
func measureMoments(ctx context.Context, eng engine.Engine, m *inspect.Model, set *dataset.Set, tensors []string, index []int, opt probe.Options) (map[string]*Moments, error) {
	index = some(index, momentsSamples)
	survey, err := probe.NewSurvey(m)
	if err != nil {
		return nil, err
	}
	var taps []*probe.Tap
	for _, name := range tensors {
		t := survey.Tap(name)
		if t == nil {
			return nil, &probe.UnknownLayerError{Layer: name}
		}
		if t.Filters <= maxMoments {
			taps = append(taps, t)
		}
	}
	sums := make([]*momentSums, len(taps))
	for i, t := range taps {
		sums[i] = newMomentSums(t.Filters)
	}
	draw := rand.New(rand.NewPCG(opt.Split.Seed, 0x30e5))
	seen := 0
	for a, err := range probe.Activations(ctx, eng, m, taps, set, index, opt) {
		if err != nil {
			return nil, err
		}
		for i, t := range taps {
			all := len(a.Taps[i]) / (len(a.Index) * t.Filters)
			rows := max(momentsRows, momentsPerFilter*t.Filters)
			sums[i].add(a.Taps[i], len(a.Index), all, min(all, (rows+len(index)-1)/len(index)), draw)
		}
		seen += len(a.Index)
		if opt.Progress != nil {
			opt.Progress("covariances", seen, len(index))
		}
	}
	out := map[string]*Moments{}
	for i, t := range taps {
		out[t.Tensor] = sums[i].moments()
	}
	return out, nil
}

// momentSums are the sums behind Moments, of values less a shift, so that little is
// lost when the means are subtracted.
type momentSums struct {
	f, n         int
	shift, first []float64
	second       blas64.Symmetric
	block        []float64
}

func newMomentSums(f int) *momentSums {
	return &momentSums{f: f, first: make([]float64, f), second: blas64.Symmetric{Uplo: blas.Upper, N: f, Stride: f, Data: make([]float64, f*f)}}
}

// add adds a batch, samples x f x positions, at so many positions of each sample.
func (s *momentSums) add(v []float32, samples, positions, chosen int, draw *rand.Rand) {
	s.block = slices.Grow(s.block[:0], samples*chosen*s.f)[:samples*chosen*s.f]
	places := make([]int, positions)
	for p := range places {
		places[p] = p
	}
	row := 0
	for i := range samples {
		for k := range chosen {
			if chosen < positions {
				j := k + draw.IntN(positions-k)
				places[k], places[j] = places[j], places[k]
			}
			for c := range s.f {
				s.block[row*s.f+c] = float64(v[(i*s.f+c)*positions+places[k]])
			}
			row++
		}
	}
	if row == 0 {
		return
	}
	if s.shift == nil {
		s.shift = make([]float64, s.f)
		for i, x := range s.block {
			s.shift[i%s.f] += x / float64(row)
		}
	}
	for r := range row {
		for c, x := range s.shift {
			s.block[r*s.f+c] -= x
			s.first[c] += s.block[r*s.f+c]
		}
	}
	blas64.Syrk(blas.Trans, 1, blas64.General{Rows: row, Cols: s.f, Stride: s.f, Data: s.block}, 1, s.second)
	s.n += row
}

func (s *momentSums) moments() *Moments {
	m := &Moments{Rows: int64(s.n), Mean: make([]float64, s.f), Covariance: s.second.Data}
	n := float64(max(1, s.n))
	for i := range s.f {
		for j := i; j < s.f; j++ {
			v := s.second.Data[i*s.f+j]/n - s.first[i]/n*(s.first[j]/n)
			m.Covariance[i*s.f+j], m.Covariance[j*s.f+i] = v, v
		}
	}
	for c := range m.Mean {
		m.Mean[c] = s.first[c] / n
		if s.shift != nil {
			m.Mean[c] += s.shift[c]
		}
	}
	return m
}

// A view is how the layers that read one tap see the channels of a group: the
// covariance of the channels, and the Gram matrix of the readers' weights for them,
// each reader's divided by the variance of what it makes of them. Both are n x n.
type view struct{ covariance, weights []float64 }

// ridgeShare is what is added to the variance of each channel, as a share of it, so
// that covariances can be inverted.
const ridgeShare = 1e-3

// reconstruction returns for each channel of a group how much of what the group's
// readers make is lost once this channel and those of lower scores are gone and the
// readers' weights for the others have been fitted anew, as a share of its variance,
// mean over the readers.
//
// Channels go one after another, always the one whose loss adds least,
//
//	d(c) = sum_r |w_r(c)|^2 / (P(c,c) V_r),  P = inv(C),
//
// where C is the covariance of the channels that are left, w_r(c) the weights of
// reader r for channel c as they are fitted by then, and V_r the variance of what it
// makes of the whole group: the optimal brain surgeon (Hassibi and Stork, NIPS 1992)
// with whole channels and the least squares problem of each reader for the loss. What
// goes can so be made good from what stays, which is what refit.Ridge does later. Two
// things are simplified: positions under one kernel count as if they were not
// correlated, and what a gate reads does not count.
func (p *planner) reconstruction(ctx context.Context, g *compact.Group) (scores []float64, reason string, err error) {
	views, reason, err := p.views(ctx, g)
	if err != nil || reason != "" {
		return nil, reason, err
	}
	scores, err = eliminate(ctx, views, g.Size, nil)
	return scores, "", err
}

// views collects how readers see a group; a reason says why none does.
func (p *planner) views(ctx context.Context, g *compact.Group) (views []view, reason string, err error) {
	at := map[*probe.Tap]int{}
	readers := 0
	for _, name := range g.Readers {
		l := layerNamed(p.m, name)
		if l == nil {
			continue
		}
		node := p.m.Graph.Nodes[l.Node]
		tap := p.survey.InputTap(p.m.Graph, node.Input(0))
		if tap == nil {
			continue
		}
		channels := channelsIn(g, tap)
		moments := p.opt.Moments[tap.Tensor]
		if channels == nil || moments == nil {
			continue
		}
		if len(moments.Covariance) != tap.Filters*tap.Filters {
			return nil, "", &OptionError{fmt.Sprintf("the covariances of tensor %q are of %d numbers, the model has %d filters there; measure this model", tap.Tensor, len(moments.Covariance), tap.Filters)}
		}
		gram, err := p.readerGram(ctx, l, node, tap, channels)
		if err != nil {
			return nil, "", err
		}
		if gram == nil {
			continue
		}
		i, ok := at[tap]
		if !ok {
			i = len(views)
			at[tap] = i
			v := view{make([]float64, g.Size*g.Size), make([]float64, g.Size*g.Size)}
			for a, ca := range channels {
				for b, cb := range channels {
					v.covariance[a*g.Size+b] = moments.Covariance[ca*tap.Filters+cb]
				}
			}
			views = append(views, v)
		}
		variance := 0.0
		for j, h := range gram {
			variance += h * views[i].covariance[j]
		}
		if !(variance > 0) || math.IsInf(variance, 0) {
			continue
		}
		readers++
		for j, h := range gram {
			views[i].weights[j] += h / variance
		}
	}
	if readers == 0 {
		return nil, "nothing that reads its filters was measured", nil
	}
	for _, v := range views {
		for j := range v.weights {
			v.weights[j] /= float64(readers)
		}
	}
	return views, "", nil
}

// channelsIn returns for each channel of a group the filter of a tap that it is, nil
// where the tap does not hold all of them, one filter each.
func channelsIn(g *compact.Group, tap *probe.Tap) []int {
	for i := range g.Makers {
		mk := &g.Makers[i]
		if !slices.Contains(tap.Layers, mk.Layer) {
			continue
		}
		first, filters := tap.Range(mk.Layer)
		channels := make([]int, g.Size)
		for c := range channels {
			of := mk.Filters(c)
			if len(of) != 1 || of[0] >= filters || first+of[0] >= tap.Filters {
				channels = nil
				break
			}
			channels[c] = first + of[0]
		}
		if channels != nil {
			return channels
		}
	}
	return nil
}

// readerGram returns the products of the weights by which a layer reads channels,
// summed over its outputs and the places of its kernel, one row and column for each
// channel; nil where the layer's weights are not numbers that are laid out like that.
func (p *planner) readerGram(ctx context.Context, l *inspect.Layer, node *inspect.Node, tap *probe.Tap, channels []int) ([]float64, error) {
	st, ok := p.m.Graph.Stored(node.Input(1))
	if !ok || len(st.Through) > 0 || !st.Tensor.DType().IsFloat() {
		return nil, nil
	}
	lay, reason := weightLayout(l, node, st.Tensor.Dims())
	if reason != "" || lay.cols%tap.Filters != 0 || l.Op == "Conv" && lay.cols != tap.Filters {
		return nil, nil
	}
	lay.inner *= lay.cols / tap.Filters
	lay.cols = tap.Filters
	if lay.elements() == 0 {
		return nil, nil
	}
	n := len(channels)
	place := make([]int, lay.cols)
	for i := range place {
		place[i] = -1
	}
	for c, f := range channels {
		place[f] = c
	}
	// Weights are turned in blocks of outputs, since they may not fit otherwise.
	gram := blas64.Symmetric{Uplo: blas.Upper, N: n, Stride: n, Data: make([]float64, n*n)}
	w := make([]float64, lay.elements())
	var e int64
	err := st.Tensor.Values(func(block []float64) error {
		for _, v := range block {
			r, c := lay.connection(e)
			if place[c] >= 0 {
				w[(int64(r)*int64(lay.inner)+lay.within(e))*int64(n)+int64(place[c])] = v
			}
			e++
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	blas64.Syrk(blas.Trans, 1, blas64.General{Rows: lay.rows * lay.inner, Cols: n, Stride: n, Data: w[:lay.rows*lay.inner*n]}, 0, gram)
	for i := range n {
		for j := range i {
			gram.Data[i*n+j] = gram.Data[j*n+i]
		}
	}
	return gram.Data, nil
}

// within returns which of its connection's weights element e is.
func (l layout) within(e int64) int64 {
	if l.transposed {
		return e / int64(l.rows) % int64(l.inner)
	}
	return e % int64(l.inner)
}

// eliminate takes n channels away one after another, in an order or, where that is
// nil, always the one that costs least, and returns for each the cost of all that are
// gone with it. views are used up.
func eliminate(ctx context.Context, views []view, n int, order []int) ([]float64, error) {
	for i := range views {
		if err := views[i].invert(n); err != nil {
			return nil, err
		}
	}
	at := make([]int, n) // the channel in each place
	for c := range at {
		at[c] = c
	}
	scores := make([]float64, n)
	total := 0.0
	for left := n; left > 0; left-- {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		best, least := left-1, math.Inf(1)
		for c := range left {
			if order != nil && at[c] != order[n-left] {
				continue
			}
			cost := 0.0
			for i := range views {
				v := &views[i]
				cost += max(0, v.weights[c*n+c]) / v.covariance[c*n+c]
			}
			// Of channels that cost the same the last goes first.
			if cost <= least {
				best, least = c, cost
			}
		}
		if !math.IsInf(least, 1) {
			total += least
		}
		scores[at[best]] = total
		at[best], at[left-1] = at[left-1], at[best]
		for i := range views {
			views[i].remove(n, left, best)
		}
	}
	return scores, nil
}

// invert puts the inverse into the place of the covariance.
func (v *view) invert(n int) error {
	mean := 0.0
	for c := range n {
		mean += v.covariance[c*n+c] / float64(n)
	}
	for c := range n {
		v.covariance[c*n+c] += ridgeShare*v.covariance[c*n+c] + 1e-9*mean + math.SmallestNonzeroFloat32
	}
	var chol mat.Cholesky
	if ok := chol.Factorize(mat.NewSymDense(n, v.covariance)); !ok {
		return fmt.Errorf("covariances of %d channels are not positive definite", n)
	}
	var inv mat.SymDense
	if err := chol.InverseTo(&inv); err != nil && inv.SymmetricDim() != n {
		return err
	}
	for i := range n {
		for j := range n {
			v.covariance[i*n+j] = inv.At(i, j)
		}
	}
	return nil
}

// remove takes channel c of the first left ones away: the last of them takes its
// place, and the others' weights and inverse covariance become those of the smaller
// problem.
func (v *view) remove(n, left, c int) {
	p, m := v.covariance, v.weights
	last := left - 1
	swap := func(a []float64) {
		if c == last {
			return
		}
		for j := range left {
			a[c*n+j], a[last*n+j] = a[last*n+j], a[c*n+j]
		}
		for i := range left {
			a[i*n+c], a[i*n+last] = a[i*n+last], a[i*n+c]
		}
	}
	swap(p)
	swap(m)
	pc, mc := p[last*n:last*n+left], m[last*n:last*n+left]
	pp, mm := pc[last], mc[last]
	if !(pp > 0) {
		return
	}
	for i := range last {
		q := pc[i] / pp
		if q == 0 && mc[i] == 0 {
			continue
		}
		pi, mi := p[i*n:i*n+last], m[i*n:i*n+last]
		a, b := mc[i]-q*mm, q
		for j := range pi {
			qj := pc[j] / pp
			mi[j] -= a*qj + b*mc[j]
			pi[j] -= q * pc[j]
		}
	}
}
