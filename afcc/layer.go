package afcc

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// Options steers [AnalyzeLayer].
type Options struct {
	// Theta is the threshold, in [0,1). The zero value means 0, not
	// [DefaultTheta].
	Theta float64
	// Workers is how many filters are analysed at a time; below 1 means one per
	// core. Each worker holds one K x K float32 matrix and, four
	// times over, K x P values of one filter.
	Workers int
}

// AnalyzeLayer analyses every filter of a layer output from its head weights w
// and label means, both K x F x P and row-major as for [FieldMatrix]. The result
// is in filter order, does not depend on the number of workers, and is what [Analyze]
// makes of each [FieldMatrix].
//
// The error is an *ArgumentError for a dimension, length or threshold that cannot
// be used, or the context's.
func AnalyzeLayer(ctx context.Context, w, means []float32, k, f, p int, opt Options) ([]Filter, error) {
	if err := CheckTheta(opt.Theta); err != nil {
		return nil, err
	}
	l, err := newLayer(w, means, k, f, p)
	if err != nil {
		return nil, err
	}
	filters := make([]Filter, f)
	err = l.each(ctx, opt.Workers, func(z *analyzer, i int) {
		filters[i] = z.at(float32(opt.Theta))
	})
	if err != nil {
		return nil, err
	}
	return filters, nil
}

// layer is a layer output: head weights and label means, both k x f x p.
type layer struct {
	w, means []float32
	k, f, p  int
}

func newLayer(w, means []float32, k, f, p int) (*layer, error) {
	n, ok := volume(k, f, p)
	if !ok {
		return nil, argumentf("layer output", "%d labels x %d filters x %d positions is no array", k, f, p)
	}
	if k > MaxLabels {
		return nil, argumentf("labels", "%d are too many; at most %d are supported", k, MaxLabels)
	}
	for _, x := range []struct {
		name string
		got  int
	}{{"head weights", len(w)}, {"label means", len(means)}} {
		if x.got != n {
			return nil, argumentf(x.name, "%d values where %d labels x %d filters x %d positions need %d", x.got, k, f, p, n)
		}
	}
	return &layer{w, means, k, f, p}, nil
}

// each loads every filter into an analyzer and calls visit, with one analyzer per
// worker; below 1 worker means one per core. The error is the context's.
func (l *layer) each(ctx context.Context, workers int, visit func(z *analyzer, filter int)) error {
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(workers, l.f) {
		wg.Go(func() {
			z := newAnalyzer(l.k)
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= l.f {
					return
				}
				z.load(l, i)
				visit(z, i)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}
