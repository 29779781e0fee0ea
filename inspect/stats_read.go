package inspect

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

const (
	// chunkElements is how many elements of a large tensor are read in one go.
	// Chunks begin at the same elements however many goroutines there are and are
	// merged in order, so that the sums are the same in every run. It is a
	// multiple of the blocks that tensors are read in.
	chunkElements = 1 << 20
	// blockElements is how many numbers in single precision a block has: few
	// enough to stay in the second level of cache, many enough that asking the
	// system for them costs little. A tensor of no more is read once for both
	// readings.
	blockElements = 1 << 17
)

// A reading is what became of reading one tensor.
type reading struct {
	stats *ValueStats // nil for one that is empty or of a type without numbers
	err   error       // a *onnxfile.TensorError
}

// readStats reads tensors, several at a time and large ones in parts. With full
// the statistics are complete; without it each tensor is read once, and only the
// counts of values are told. An error is that ctx ended. Memory is bounded by a
// block for each goroutine and some bytes for each chunk.
func readStats(ctx context.Context, tensors []onnxfile.Tensor, full bool) ([]reading, error) {
	surveys := make([]survey, len(tensors))
	var all, again []chunk
	longest := int64(0)
	for i, t := range tensors {
		s := &surveys[i]
		s.begin(t, full)
		for k := range s.parts {
			all = append(all, chunk{s, k})
			if len(s.parts) > 1 && full {
				again = append(again, chunk{s, k})
			}
		}
		longest = max(longest, s.n)
	}
	block := (min(longest, blockElements) + 3) &^ 3 // whole blocks for Float32sIn
	if err := eachChunk(ctx, all, block, chunk.first); err != nil {
		return nil, err
	}
	for i := range surveys {
		surveys[i].measure()
	}
	if err := eachChunk(ctx, again, block, chunk.second); err != nil {
		return nil, err
	}
	out := make([]reading, len(tensors))
	for i := range surveys {
		out[i].stats, out[i].err = surveys[i].result()
		if v := out[i].stats; full && v != nil {
			if out[i].err = v.exactly(ctx, tensors[i]); ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	return out, nil
}

// A survey is the reading of one tensor.
type survey struct {
	t      onnxfile.Tensor
	n      int64
	tiny   float64
	full   bool
	single bool // all values of the type fit into single precision
	parts  []part
	whole  census // of all parts
	ruler  ruler
	ok     bool // ruler is known
	err    error
}

// A part is what was read of a chunk.
type part struct {
	census census
	spread spread
	err    error
}

// begin finds out in how many parts t can be read.
func (s *survey) begin(t onnxfile.Tensor, full bool) {
	s.t, s.full, s.tiny = t, full, smallestNormal(t.DType())
	s.single = t.DType() == onnxfile.Float || t.DType().Bits() <= 16
	s.whole = newCensus()
	if s.n, s.err = t.Elements(); s.err != nil || s.n == 0 {
		// Values tells why an empty one cannot be read, if it cannot.
		if s.err == nil {
			s.err = t.Values(func([]float64) error { return nil })
		}
		return
	}
	parts := int64(1)
	if s.n > chunkElements {
		// A shape of a hostile file may claim more than is stored. And numbers that
		// can only be read from the front are one part.
		err := t.ValuesIn(s.n, s.n, func([]float64) error { return nil })
		switch {
		case err == nil:
			parts = (s.n + chunkElements - 1) / chunkElements
		case !errors.Is(err, onnxfile.ErrSequential):
			s.err = err
			return
		}
	}
	s.parts = make([]part, parts)
}

// measure merges what the first reading told.
func (s *survey) measure() {
	for i := range s.parts {
		p := &s.parts[i]
		if s.err == nil {
			s.err = p.err
		}
		s.whole.merge(&p.census)
	}
	s.ruler, s.ok = s.whole.ruler()
}

func (s *survey) result() (*ValueStats, error) {
	var all spread
	for i := range s.parts {
		p := &s.parts[i]
		if s.err == nil {
			s.err = p.err
		}
		all.merge(&p.spread)
	}
	switch {
	case s.err != nil || s.n == 0:
		return nil, unlessUnsupported(s.err)
	case !s.full:
		return s.whole.stats(s.t.DType(), nil), nil
	}
	if s.single && s.ok {
		all.s1 = s.whole.offset(s.ruler)
	}
	return s.whole.stats(s.t.DType(), &all), nil
}

// A chunk is one part of a survey.
type chunk struct {
	*survey
	index int
}

// eachChunk calls fn with the chunks, several at a time, and with a buffer of so
// many numbers. It fails when ctx ends.
func eachChunk(ctx context.Context, chunks []chunk, size int64, fn func(chunk, context.Context, []float32)) error {
	group, inner := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(runtime.GOMAXPROCS(0), len(chunks)) {
		group.Go(func() error {
			buf := make([]float32, size)
			for inner.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(chunks) {
					break
				}
				fn(chunks[i], inner, buf)
			}
			return inner.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// first reads a chunk for the census and, where it is all of a tensor, for the
// spread.
func (c chunk) first(ctx context.Context, buf []float32) {
	p := &c.parts[c.index]
	p.census = newCensus()
	if !c.single {
		p.err = c.each(ctx, func(b []float64) { p.census.add(b, c.tiny) })
	} else {
		p.err = c.eachSingle(ctx, buf, func(b []float32) { p.census.addSingles(b, float32(c.tiny), !c.full) })
	}
	if p.err != nil || !c.full || len(c.parts) > 1 {
		return
	}
	if r, ok := p.census.ruler(); ok {
		if c.single && c.n <= int64(len(buf)) {
			p.spread.addSingles(buf[:c.n], r) // still there
			return
		}
		c.addSpread(ctx, buf, r)
	}
}

// second reads a chunk for the spread.
func (c chunk) second(ctx context.Context, buf []float32) {
	if c.ok && c.err == nil {
		c.addSpread(ctx, buf, c.ruler)
	}
}

func (c chunk) addSpread(ctx context.Context, buf []float32, r ruler) {
	p := &c.parts[c.index]
	if !c.single {
		p.err = c.each(ctx, func(b []float64) { p.spread.add(b, r) })
		return
	}
	p.err = c.eachSingle(ctx, buf, func(b []float32) { p.spread.addSingles(b, r) })
}

// limits returns the elements of the chunk.
func (c chunk) limits() (from, to int64) {
	from = int64(c.index) * chunkElements
	if to = from + chunkElements; to > c.n || len(c.parts) == 1 {
		to = c.n
	}
	return from, to
}

func (c chunk) each(ctx context.Context, fn func([]float64)) error {
	from, to := c.limits()
	return c.t.ValuesIn(from, to, func(b []float64) error {
		fn(b)
		return ctx.Err()
	})
}

func (c chunk) eachSingle(ctx context.Context, buf []float32, fn func([]float32)) error {
	from, to := c.limits()
	return c.t.Float32sIn(from, to, buf, func(b []float32) error {
		fn(b)
		return ctx.Err()
	})
}

// unlessUnsupported returns err, nil when it says that the type of a tensor has
// no numbers that can be read.
func unlessUnsupported(err error) error {
	if errors.Is(err, onnxfile.ErrUnsupportedType) {
		return nil
	}
	return err
}
