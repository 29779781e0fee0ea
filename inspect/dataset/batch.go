package dataset

import (
	"context"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
)

// Batch is a number of decoded and transformed samples.
type Batch struct {
	// Index and Labels say which samples these are. Index has at least one.
	Index, Labels []int
	// X holds len(Index) images in the transform's layout, one after the other:
	// [len(Index), C, H, W] or [len(Index), H, W, C].
	X []float32
	// Skipped lists the samples that could not be decoded and are not in
	// Index: those of this batch and of batches that were left out before it
	// because nothing of them could be decoded.
	Skipped []Skipped
}

// slot is the memory of a batch in the making.
type slot struct {
	index, labels []int
	x             []float32
	skipped       []Skipped
	err           error
	done          chan struct{}
}

// Batches decodes the batches of plan, sample numbers, in background goroutines
// and delivers them in order. At most workers+1 batches are held beside the one
// being consumed; workers below 1 means all processors but one. A batch and
// everything in it may be used until the next one is asked for.
//
// An image file that cannot be decoded is left out of its batch and listed in
// Skipped, here and of the set; Set.Skipped is complete also when the last
// batches held nothing else. The iteration ends after the first error: that of
// the context, one of reading, or an *Error with ErrEmpty when nothing in the
// plan could be decoded. No goroutine is left when it ends, early or not.
func (s *Set) Batches(ctx context.Context, plan [][]int, t *Transform, workers int) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		p, err := t.prepare()
		if err != nil {
			yield(Batch{}, &Error{Op: "transform", Err: err})
			return
		}
		workers := workers
		if workers < 1 {
			workers = max(1, runtime.GOMAXPROCS(0)-1)
		}
		workers = max(1, min(workers, len(plan)))

		inner, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()

		// A slot is taken before its place in the order is: the batch that is
		// due next always has one.
		free := make(chan *slot, workers+2)
		for range cap(free) {
			free <- &slot{}
		}
		type job struct {
			*slot
			plan []int
		}
		jobs := make(chan job)
		due := make(chan *slot, cap(free))
		wg.Go(func() {
			defer close(due)
			defer close(jobs)
			for _, want := range plan {
				if len(want) == 0 {
					continue
				}
				var sl *slot
				select {
				case sl = <-free:
				case <-inner.Done():
					return
				}
				sl.done = make(chan struct{})
				due <- sl
				select {
				case jobs <- job{sl, want}:
				case <-inner.Done():
					return
				}
			}
		})
		for range workers {
			wg.Go(func() {
				w := new(scratch)
				for j := range jobs {
					s.fill(inner, j.slot, j.plan, p, w)
					close(j.done)
				}
			})
		}

		var carried []Skipped
		delivered := false
		for sl := range due {
			select {
			case <-sl.done:
			case <-ctx.Done():
			}
			if err := ctx.Err(); err != nil {
				yield(Batch{}, err)
				return
			}
			if sl.err != nil {
				yield(Batch{}, sl.err)
				return
			}
			carried = append(carried, sl.skipped...)
			if len(sl.index) > 0 {
				delivered = true
				if !yield(Batch{sl.index, sl.labels, sl.x, carried}, nil) {
					return
				}
				carried = nil
			}
			free <- sl
		}
		if err := ctx.Err(); err != nil {
			yield(Batch{}, err)
			return
		}
		if !delivered && len(carried) > 0 {
			yield(Batch{}, &Error{Op: "read", Path: s.root, Err: fault(ErrEmpty,
				"none of %d images could be decoded, the first is %s (%s)", len(carried), carried[0].Name, carried[0].Reason)})
		}
	}
}

// fill decodes the samples of want into sl.
func (s *Set) fill(ctx context.Context, sl *slot, want []int, p *prepared, w *scratch) {
	n := p.Len()
	sl.index, sl.labels, sl.skipped, sl.err = sl.index[:0], sl.labels[:0], nil, nil
	sl.x = slices.Grow(sl.x[:0], len(want)*n)[:len(want)*n]
	for _, i := range want {
		if sl.err = ctx.Err(); sl.err != nil {
			return
		}
		if err := s.decode(i, w); err != nil {
			if !s.src.lenient() {
				sl.err = err
				return
			}
			sl.skipped = append(sl.skipped, s.drop(i, err))
			continue
		}
		k := len(sl.index)
		p.apply(&w.img, sl.x[k*n:(k+1)*n], w)
		sl.index = append(sl.index, i)
		sl.labels = append(sl.labels, s.Label(i))
	}
	sl.x = sl.x[:len(sl.index)*n]
}

// ByLabel cuts index into batches of one label, at most n samples each, label
// after label, the order within a label kept.
func (s *Set) ByLabel(index []int, n int) [][]int {
	byLabel := make([][]int, len(s.labels))
	for _, i := range index {
		byLabel[s.label[i]] = append(byLabel[s.label[i]], i)
	}
	var plan [][]int
	for _, list := range byLabel {
		plan = append(plan, Sequential(list, n)...)
	}
	return plan
}

// Shuffled cuts index into batches of n in an order drawn for seed and epoch;
// the last batch may be smaller. It is the same on every machine.
func Shuffled(index []int, n int, seed, epoch uint64) [][]int {
	index = slices.Clone(index)
	rng := rand.New(rand.NewPCG(seed, epoch))
	rng.Shuffle(len(index), func(a, b int) { index[a], index[b] = index[b], index[a] })
	return Sequential(index, n)
}

// Sequential cuts index into batches of n as it stands; the last batch may be
// smaller. An n below 1 gives one batch.
func Sequential(index []int, n int) [][]int {
	if len(index) == 0 {
		return nil
	}
	if n < 1 {
		n = len(index)
	}
	return slices.Collect(slices.Chunk(slices.Clone(index), n))
}
