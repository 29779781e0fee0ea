package afcc

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// FilterHits counts how many samples of each label the head would get right if all
// its weights were silenced except those of one filter: single-filter performance
// (arXiv:2309.07537). A sample x of label y is a hit of filter f iff its own field is
// the largest,
//
//	phi_f(x,y) > phi_f(x,j) for all j != y,  phi_f(x,j) = sum_p w[j,f,p] * x[f,p]
//
// with fields rounded like those of [FieldMatrix]. A tie is no hit, so that a filter
// that is silent for a sample does not score by answering label 0. A field that is
// not a number is never the largest.
type FilterHits struct {
	w       []float32
	k, f, p int
	samples []int // by label
	hits    []int // f x k
}

// NewFilterHits returns a counter without samples. w (K x F x P, row-major) holds the
// head's weights; they are not copied. The error is an *ArgumentError for a dimension
// or length that cannot be used.
func NewFilterHits(w []float32, k, f, p int) (*FilterHits, error) {
	if _, err := newLayer(w, w, k, f, p); err != nil {
		return nil, err
	}
	return &FilterHits{w: w, k: k, f: f, p: p, samples: make([]int, k), hits: make([]int, f*k)}, nil
}

// Add counts a batch of N samples: activations (N x F x P, row-major) and a label for
// each, in about N K F P multiplications and additions. It uses all cores; each takes
// up memory for N x K fields and 2 (N + K) P numbers until Add returns, and the weights
// are gathered once a batch, so batches of about a hundred samples are best. It must
// not be called concurrently.
//
// The error is an *ArgumentError for a length or label that cannot be used, or the
// context's; nothing is counted then.
func (h *FilterHits) Add(ctx context.Context, activations []float32, labels []int) error {
	n := len(labels)
	if want, ok := volume(max(n, 1), h.f, h.p); !ok || len(activations) != want*min(n, 1) {
		return argumentf("activations", "%d values for %d samples of %d filters x %d positions", len(activations), n, h.f, h.p)
	}
	for i, y := range labels {
		if y < 0 || y >= h.k {
			return argumentf("labels", "sample %d has label %d where %d labels are", i, y, h.k)
		}
	}
	if n == 0 {
		return ctx.Err()
	}
	hit := make([]bool, h.f*n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), h.f) {
		wg.Go(func() {
			b := newFieldBlock(n, h.k, h.p)
			for ctx.Err() == nil {
				f := int(next.Add(1)) - 1
				if f >= h.f {
					return
				}
				b.compute(activations, h.w, h.f, f)
				for i, y := range labels {
					hit[f*n+i] = b.isLargest(i, y)
				}
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, y := range labels {
		h.samples[y]++
		for f := range h.f {
			if hit[f*n+i] {
				h.hits[f*h.k+y]++
			}
		}
	}
	return nil
}

// Accuracy returns the share of hits of a filter among the samples of the given
// labels, such as those of its clusters; nil labels stand for all. It is nil when
// there are no such samples. It panics for a filter or label that is not there.
func (h *FilterHits) Accuracy(filter int, labels []int) *float64 {
	hits, samples := 0, 0
	row := h.hits[filter*h.k : (filter+1)*h.k]
	if labels == nil {
		for j, n := range h.samples {
			hits, samples = hits+row[j], samples+n
		}
	}
	for _, j := range labels {
		hits, samples = hits+row[j], samples+h.samples[j]
	}
	return quotient(hits, samples)
}

// Counts returns what was counted: the samples of each label (K), and for each filter
// the hits among them (F x K, row-major). The slices are the counter's own. Copying
// back what an earlier call returned continues a count that was broken off.
func (h *FilterHits) Counts() (samples, hits []int) { return h.samples, h.hits }

// isLargest reports whether field (i,y) is larger than all others of row i.
func (b *fieldBlock) isLargest(i, y int) bool {
	own := b.field(i, y)
	if own != own {
		return false
	}
	for j, v := range b.v[i*b.k : (i+1)*b.k] {
		if j == y || float64(v) < float64(own)-b.bound[i] {
			continue
		}
		if !(b.field(i, j) < own) {
			return false
		}
	}
	return true
}
