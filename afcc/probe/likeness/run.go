package likeness

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// A run compares two models.
type run struct {
	eng   engine.Engine
	set   *dataset.Set
	index []int
	opt   Options
	batch int
	sides [2]side
	// distances are in the order of the taps of the first model.
	distances []*distance
	// ran holds the samples that could be read, n of them.
	ran []int
	// slab is the memory of the pieces of a pass.
	slab []float32
}

// A side is one of the two models.
type side struct {
	m       *inspect.Model
	taps    []*probe.Tap
	pre     dataset.Preprocess
	kernels []*kernel // of taps
}

// A piece is a part of the features of a tap, for all samples.
type piece struct {
	side, tap int
	from, to  int // features
	v         []float32
}

// A pass runs one model, or both in step, over all samples.
type pass struct {
	pieces []piece
	// distances tells that activations are compared as they come.
	distances bool
}

func features(t *probe.Tap) int { return t.Filters * t.Positions() }

// plan says which features are gathered in which pass. The first one runs both models
// to their ends for the distances and takes the last taps; for others, less and less of
// a model is run.
func (r *run) plan() ([]pass, error) {
	n := int64(len(r.index))
	var taps int64
	var row int64 // bytes of a sample's activations
	for s := range r.sides {
		for _, t := range r.sides[s].taps {
			taps++
			row += 4 * int64(features(t))
		}
	}
	kernels := taps * kernelBytes(n)
	if kernels > r.opt.Memory/2 {
		return nil, &TooManyError{Samples: int(n), Taps: int(taps), Needed: kernels, Memory: r.opt.Memory}
	}
	r.batch = int(min(int64(r.opt.Batch), n, max(1, r.opt.Memory/4/max(1, row))))
	// At least so many features at a time, whatever the limit: fewer would take passes
	// without end.
	const least = 1024
	room := max(least, (r.opt.Memory-kernels-multiplierBytes(n)-int64(r.batch)*row)/(4*n))

	// The last taps first, those of both models in turn.
	type place struct {
		side, tap int
		depth     float64
	}
	var order []place
	for s := range r.sides {
		for i := range r.sides[s].taps {
			order = append(order, place{s, i, float64(i+1) / float64(len(r.sides[s].taps))})
		}
	}
	slices.SortStableFunc(order, func(x, y place) int { return cmp.Compare(y.depth, x.depth) })
	passes := []pass{{distances: true}}
	left := room
	current := [2]int{}      // the pass that takes more of a side
	free := [2]int64{-1, -1} // its room; -1: that of the first pass
	for _, p := range order {
		d := int64(features(r.sides[p.side].taps[p.tap]))
		for from := int64(0); from < d; {
			space := &left
			if free[p.side] >= 0 {
				space = &free[p.side]
			}
			if *space == 0 {
				passes = append(passes, pass{})
				current[p.side], free[p.side] = len(passes)-1, room
				continue
			}
			w := min(d-from, *space)
			to := &passes[current[p.side]]
			to.pieces = append(to.pieces, piece{side: p.side, tap: p.tap, from: int(from), to: int(from + w)})
			from += w
			*space -= w
		}
	}
	return passes, nil
}

// A stream delivers the activations of one side.
type stream struct {
	taps []int // which of the side's, in the order delivered
	next func() (*probe.Activity, error, bool)
	stop func()
	a    *probe.Activity
	at   int // rows of a that are used
}

// open begins to run one side for some of its taps.
func (r *run) open(ctx context.Context, s int, taps []int) *stream {
	list := make([]*probe.Tap, len(taps))
	for k, i := range taps {
		list[k] = r.sides[s].taps[i]
	}
	opt := probe.Options{Preprocess: r.sides[s].pre, Batch: r.batch}
	x := &stream{taps: taps}
	x.next, x.stop = iter.Pull2(probe.Activations(ctx, r.eng, r.sides[s].m, list, r.set, r.index, opt))
	return x
}

// fill makes rows available, false at the end.
func (x *stream) fill() (bool, error) {
	if x.a != nil && x.at < len(x.a.Index) {
		return true, nil
	}
	a, err, ok := x.next()
	if err != nil || !ok {
		return false, err
	}
	x.a, x.at = a, 0
	return true, nil
}

// rows returns n rows of the side's tap i that were not used yet.
func (x *stream) rows(i, n int) []float32 {
	v := x.a.Taps[slices.Index(x.taps, i)]
	d := len(v) / len(x.a.Index)
	return v[x.at*d : (x.at+n)*d]
}

// pass runs a pass and adds the inner products of what it gathered. The first one
// notes which samples could be read; the others must see the same.
func (r *run) pass(ctx context.Context, stage string, p *pass, first bool) error {
	var wanted [2][]int
	want := func(s, tap int) {
		if !slices.Contains(wanted[s], tap) {
			wanted[s] = append(wanted[s], tap)
		}
	}
	held := 0
	for i := range p.pieces {
		held += len(r.index) * (p.pieces[i].to - p.pieces[i].from)
	}
	if len(r.slab) < held {
		r.slab = nil
		r.slab = make([]float32, held)
	}
	left := r.slab
	for i := range p.pieces {
		x := &p.pieces[i]
		want(x.side, x.tap)
		n := len(r.index) * (x.to - x.from)
		x.v, left = left[:n], left[n:]
	}
	if p.distances {
		for _, d := range r.distances {
			if len(d.from) > 0 {
				want(0, d.a)
				want(1, d.b)
			}
		}
	}
	var streams []*stream
	var of [2]*stream
	for s := range wanted {
		if len(wanted[s]) > 0 {
			x := r.open(ctx, s, wanted[s])
			defer x.stop()
			of[s] = x
			streams = append(streams, x)
		}
	}
	r.opt.Progress(stage, 0, len(r.index))
	var seen []int
	for len(streams) > 0 {
		n, ended := len(r.index), 0
		for _, x := range streams {
			ok, err := x.fill()
			if err != nil {
				return err
			}
			if !ok {
				ended++
				continue
			}
			n = min(n, len(x.a.Index)-x.at)
		}
		if ended == len(streams) {
			break
		}
		lead := streams[0]
		if ended > 0 || len(streams) == 2 && !slices.Equal(lead.a.Index[lead.at:lead.at+n], streams[1].a.Index[streams[1].at:streams[1].at+n]) ||
			!first && (len(seen)+n > len(r.ran) || !slices.Equal(lead.a.Index[lead.at:lead.at+n], r.ran[len(seen):len(seen)+n])) {
			return errDifferent
		}
		r.take(p, of, len(seen), n)
		seen = append(seen, lead.a.Index[lead.at:lead.at+n]...)
		for _, x := range streams {
			x.at += n
		}
		r.opt.Progress(stage, len(seen), len(r.index))
	}
	for _, x := range streams {
		x.stop() // what the models hold is not needed any more
	}
	if first {
		r.ran = seen
		for s := range r.sides {
			for range r.sides[s].taps {
				r.sides[s].kernels = append(r.sides[s].kernels, newKernel(len(seen)))
			}
		}
	}
	if len(streams) > 0 && len(seen) != len(r.ran) {
		return errDifferent
	}
	return r.products(ctx, p)
}

var errDifferent = fmt.Errorf("the two models were given different samples; did the data change meanwhile?")

// take compares and gathers n rows, the first of which is row at of all.
func (r *run) take(p *pass, of [2]*stream, at, n int) {
	var tasks []func()
	if p.distances {
		for _, d := range r.distances {
			if len(d.from) > 0 {
				tasks = append(tasks, func() { d.add(of[0].rows(d.a, n), of[1].rows(d.b, n)) })
			}
		}
	}
	for i := range p.pieces {
		x := &p.pieces[i]
		tasks = append(tasks, func() {
			v, w := of[x.side].rows(x.tap, n), x.to-x.from
			d := len(v) / n
			for k := range n {
				copy(x.v[(at+k)*w:(at+k+1)*w], v[k*d+x.from:k*d+x.to])
			}
		})
	}
	var wg sync.WaitGroup
	limit := make(chan struct{}, workers())
	for _, f := range tasks {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			f()
		})
	}
	wg.Wait()
}

// products adds the inner products of the gathered pieces to the kernels.
func (r *run) products(ctx context.Context, p *pass) (err error) {
	n := len(r.ran)
	if n == 0 {
		return dataset.ErrEmpty
	}
	m, err := newMultiplier(ctx, r.eng, n)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := m.close(); err == nil {
			err = cerr
		}
	}()
	for i := range p.pieces {
		x := &p.pieces[i]
		w := x.to - x.from
		if err := m.add(ctx, r.sides[x.side].kernels[x.tap], x.v[:n*w], w); err != nil {
			return err
		}
		r.opt.Progress("comparing layers", i+1, len(p.pieces))
	}
	return nil
}
