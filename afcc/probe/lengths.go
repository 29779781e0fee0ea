package probe

import (
	"context"
	"fmt"
	"math"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/filterlens/filterlens/inspect/engine"
)

// A few samples can have features that are longer than those of all others by orders
// of magnitude (SiLU networks with folded BatchNorm do that). They make steps of
// gradient descent on them as much longer, and a root mean square length that is
// theirs alone, so that scaled to it the features of the others are next to nothing and
// heads learn nothing. Since a head has no bias, its answers do not depend on the
// length of a sample's features: shortening them for training changes what a sample
// weighs there, and neither what a head is nor what any field is.

// shortenFrom is the length in medians to which the features of samples are shortened
// while heads are trained. In layers without outliers none is as long: the longest of
// VGG-16 and of the early layers of EfficientNet-B0 on CIFAR-100 have 2.5 medians.
const shortenFrom = 5

// farFrom is the length in medians from which a sample is told of.
const farFrom = 100

// Outliers says how many samples have features that are longer than those of others,
// among the samples of the fitting split that a head was trained on. Lengths are
// Euclidean, of all features of a sample.
type Outliers struct {
	// Samples is how many there are in all.
	Samples int `json:"samples"`
	// Shortened counts those over 5 times as long as the median; heads are trained as
	// if they had that length. A head has no bias, so that it answers a sample of any
	// length alike. Far counts those over 100 times
	// as long, which dominate label means as well.
	Shortened int `json:"shortened"`
	Far       int `json:"far"`
	// Longest is the largest length, in medians; Sample is that sample's number in the
	// data set, ID its name there and Label its label.
	Longest float64 `json:"longest"`
	Sample  int     `json:"sample"`
	ID      string  `json:"id"`
	Label   int     `json:"label"`
}

// A spread says how long feature vectors are.
type spread struct {
	// RMS is the root mean square length, of vectors longer than Limit as if they had
	// that length; Limit is 0 where none is.
	RMS, Limit float64
	// N counts the vectors, Shortened those that are longer than Limit, Far those over
	// farFrom medians. The longest is that in place Row and has Longest medians.
	N, Shortened, Far, Row int
	Longest                float64
}

// spreadOf returns the spread of vectors of which squared lengths are given.
func spreadOf(squares []float64) spread {
	s := spread{N: len(squares)}
	var sum float64
	for i, x := range squares {
		sum += x
		if x > squares[s.Row] {
			s.Row = i
		}
	}
	s.RMS = math.Sqrt(sum / float64(max(s.N, 1)))
	if s.N == 0 || !finite(sum) {
		return s
	}
	sorted := slices.Clone(squares)
	slices.Sort(sorted)
	median := (math.Sqrt(sorted[(s.N-1)/2]) + math.Sqrt(sorted[s.N/2])) / 2
	if median == 0 {
		return s // most vectors are zero: that others are not says nothing
	}
	s.Longest = math.Sqrt(sorted[s.N-1]) / median
	limit := shortenFrom * median
	sum = 0
	for _, x := range squares {
		if length := math.Sqrt(x); length > limit {
			s.Shortened++
			if length > farFrom*median {
				s.Far++
			}
			x = limit * limit
		}
		sum += x
	}
	if s.Shortened > 0 {
		s.Limit, s.RMS = limit, math.Sqrt(sum/float64(s.N))
	}
	return s
}

// squaredLengths returns the squared length of each vector of d numbers. Cores share
// the vectors, so that the sums are the same whatever their number.
func squaredLengths(v []float32, d int) []float64 {
	sums := make([]float64, len(v)/d)
	const block = 1 << 18
	rows := max(1, block/d)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(goruntime.GOMAXPROCS(0), (len(sums)+rows-1)/rows) {
		wg.Go(func() {
			for from := int(next.Add(int64(rows))) - rows; from < len(sums); from = int(next.Add(int64(rows))) - rows {
				for i := from; i < min(from+rows, len(sums)); i++ {
					var sum float64
					for _, x := range v[i*d : (i+1)*d] {
						sum += float64(x) * float64(x)
					}
					sums[i] = sum
				}
			}
		})
	}
	wg.Wait()
	return sums
}

// shorten shortens vectors of d numbers that are longer than the limit, if there is
// one.
func (s spread) shorten(v []float32, d int, squares []float64) {
	if s.Limit == 0 {
		return
	}
	for i, square := range squares {
		if length := math.Sqrt(square); length > s.Limit {
			f := float32(s.Limit / length)
			for j := range v[i*d : (i+1)*d] {
				v[i*d+j] *= f
			}
		}
	}
}

// shortened does the same in a graph: x (B x d) times 1 / max(1, length/limit).
func (b *builder) shortened(x string, d int, limit float64) string {
	if limit == 0 {
		return x
	}
	constant := func(v float64) string { return b.constFloat([]float32{float32(v)}) }
	// The lengths are taken in units of the limit, lest squares overflow.
	unit := b.node("Mul", []string{x, constant(1 / limit)})
	length := b.node("Sqrt", []string{b.squares(unit, d)})
	over := b.node("Relu", []string{b.node("Sub", []string{length, constant(1)})})
	return b.node("Div", []string{x, b.node("Add", []string{over, constant(1)})})
}

// squares returns the squared length of each row of x (B x d), B x 1.
func (b *builder) squares(x string, d int) string {
	in := b.squaresOf(x, d)
	return b.node("MatMul", in)
}

// squaresOf returns the inputs of the MatMul that gives squares.
func (b *builder) squaresOf(x string, d int) []string {
	return []string{b.node("Mul", []string{x, x}), b.constFloat(ones(d), int64(d), 1)}
}

// outliers describes a spread of the fitting split, nil when nothing is unusual.
func (p *measurer) outliers(s spread) *Outliers {
	if s.Shortened == 0 {
		return nil
	}
	o := &Outliers{Samples: s.N, Shortened: s.Shortened, Far: s.Far, Longest: s.Longest}
	if read := p.read(p.fit.Index).Index; len(read) == s.N {
		o.Sample = read[s.Row]
		o.ID, o.Label = p.set.ID(o.Sample), p.set.Label(o.Sample)
	}
	return o
}

// lengths is how long the feature vectors of each head are over the fitting split.
type lengths struct {
	heads   []*head
	names   []string
	squares map[*head][]float32
	// spreads is there when known is true.
	spreads map[*head]spread
	known   bool
}

func newLengths(heads []*head) *lengths {
	return &lengths{heads: heads, squares: map[*head][]float32{}, spreads: map[*head]spread{}, known: len(heads) == 0}
}

// add has a graph give the squared length of each feature vector.
func (l *lengths) add(b *builder) {
	l.names = make([]string, len(l.heads))
	for i, h := range l.heads {
		l.names[i] = b.outputOf(fmt.Sprintf("square.%d", i), "MatMul", b.squaresOf(b.features(h.tap), h.d()), []int64{-1, 1})
	}
}

func (l *lengths) want(out map[string]*engine.Tensor) {
	for _, name := range l.names {
		out[name] = nil
	}
}

// take adds a batch of n samples.
func (l *lengths) take(out map[string]*engine.Tensor, n int) {
	for i, h := range l.heads {
		l.squares[h] = append(l.squares[h], out[l.names[i]].Float32()[:n]...)
	}
}

// last returns the squares of the last n samples of each head.
func (l *lengths) last(n int) (squares [][]float32) {
	for _, h := range l.heads {
		of := l.squares[h]
		squares = append(squares, of[len(of)-n:])
	}
	return squares
}

// complete is called when all samples have been taken.
func (l *lengths) complete() {
	for _, h := range l.heads {
		squares := make([]float64, len(l.squares[h]))
		for i, x := range l.squares[h] {
			squares[i] = float64(x)
		}
		l.spreads[h] = spreadOf(squares)
	}
	l.squares, l.known = nil, true
}

// measureLengths runs the fitting split for nothing but the lengths.
func (p *measurer) measureLengths(ctx context.Context, l *lengths) error {
	_, under, err := p.collect(ctx, nil, nil, l, "scaling features")
	if err != nil {
		return err
	}
	return p.dropFeatures(under)
}
