package afcc

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Scores holds one number for each connection of a layer: row = output (a label
// or an output filter), column = input filter. A connection is kept at threshold
// theta iff its score is above theta, so a score is the threshold at which the
// connection falls. -Inf stands for a connection that no threshold keeps.
type Scores struct {
	Rows, Cols int
	v          []float32
}

// At returns the score of the connection from input filter c to output r. It
// panics when there is no such connection.
func (s *Scores) At(r, c int) float32 { return s.v[position(r, c, s.Rows, s.Cols)] }

// Ratios collects the filters' ratios, the input of the scoring functions. The
// slices are shared.
func Ratios(filters []Filter) [][]float32 {
	r := make([][]float32, len(filters))
	for i := range filters {
		r[i] = filters[i].Ratios
	}
	return r
}

// ClassifierScores scores the connections of the classifier that reads the
// filters: K rows, one column per filter. AFCC keeps filter f for output j iff j
// is in L_f (arXiv:2309.07537), hence
//
//	score(j,f) = ratio_f(j)
//
// ratios is F x K; a nil row is a filter without a clipped matrix. The error is an
// *ArgumentError when a row has another length than k or holds a NaN.
func ClassifierScores(ratios [][]float32, k int) (*Scores, error) {
	if k < 1 {
		return nil, argumentf("labels", "%d is no number of labels", k)
	}
	if err := checkRatios("ratios", ratios, k); err != nil {
		return nil, err
	}
	s := newScores(k, len(ratios))
	for f, r := range ratios {
		for j := range r {
			s.v[j*s.Cols+f] = r[j]
		}
	}
	return s, nil
}

// ConvScores scores the connections from the filters of one layer to those of the
// next, convolutional or hidden fully connected: rows = output filters, columns =
// input filters. AFCC keeps a connection iff the label sets of both filters share
// a label (arXiv:2501.12880), hence
//
//	score(f,f') = max_j min(ratio_f(j), ratio_f'(j))
//
// in and out are F x K; a nil row is a filter without a clipped matrix, and no
// connection with it is ever kept. The work is shared by all cores. The error is
// an *ArgumentError when rows differ in length or hold a NaN, or the context's.
func ConvScores(ctx context.Context, in, out [][]float32) (*Scores, error) {
	k := 0
	for _, r := range slices.Concat(in, out) {
		if k = len(r); k > 0 {
			break
		}
	}
	if err := checkRatios("ratios of the input filters", in, k); err != nil {
		return nil, err
	}
	if err := checkRatios("ratios of the output filters", out, k); err != nil {
		return nil, err
	}
	s := newScores(len(out), len(in))
	var next atomic.Int64
	var wg sync.WaitGroup
	blocks := (len(out) + scoreBlock - 1) / scoreBlock
	for range min(runtime.GOMAXPROCS(0), blocks) {
		wg.Go(func() {
			var sorted [scoreBlock][]labelRatio
			for ctx.Err() == nil {
				first := (int(next.Add(1)) - 1) * scoreBlock
				if first >= len(out) {
					return
				}
				rows := out[first:min(first+scoreBlock, len(out))]
				for i, r := range rows {
					sorted[i] = descending(sorted[i], r)
				}
				s.scoreBlock(first, in, sorted[:len(rows)])
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// scoreBlock is how many output filters are scored at a time: an input filter's
// ratios stay in the nearest cache for all of them.
const scoreBlock = 16

// labelRatio is a label with its ratio.
type labelRatio struct {
	label int32
	ratio float32
}

// descending returns the labels of a filter, those with the largest ratio first,
// in dst where it is long enough.
func descending(dst []labelRatio, ratios []float32) []labelRatio {
	dst = slices.Grow(dst[:0], len(ratios))
	for j, r := range ratios {
		dst = append(dst, labelRatio{int32(j), r})
	}
	slices.SortFunc(dst, func(a, b labelRatio) int { return cmp.Compare(b.ratio, a.ratio) })
	return dst
}

// scoreBlock scores the connections to the output filters from first on, whose
// labels are sorted.
func (s *Scores) scoreBlock(first int, in [][]float32, sorted [][]labelRatio) {
	for c, ratios := range in {
		if ratios == nil {
			continue
		}
		for i, labels := range sorted {
			best := float32(math.Inf(-1))
			for _, o := range labels {
				if o.ratio <= best {
					break // no later label can give more than its own ratio
				}
				if v := ratios[o.label]; v > best {
					best = min(o.ratio, v)
				}
			}
			s.v[(first+i)*s.Cols+c] = best
		}
	}
}

// SharedLabel returns the label that two filters share up to the highest
// threshold, and that threshold: the reason why [ConvScores] keeps or drops their
// connection. Of equal labels the first is taken. It is -1, with -Inf, when a
// filter has no ratios. a and b have the same length, unless nil.
func SharedLabel(a, b []float32) (label int, score float32) {
	label, score = -1, float32(math.Inf(-1))
	if a == nil || b == nil {
		return label, score
	}
	for j := range a {
		if v := min(a[j], b[j]); v > score {
			label, score = j, v
		}
	}
	return label, score
}

// MagnitudeScores scores connections by a norm of their weights, the usual
// control at equal dilution: norms is rows x cols, row-major, one number for each
// connection (for a convolution a norm of the kernel). Any other measure by which
// connections can be ordered may be given, such as the activation norm of the input
// filter. A NaN becomes -Inf.
// The error is an *ArgumentError when the length does not match.
func MagnitudeScores(norms []float32, rows, cols int) (*Scores, error) {
	if rows < 0 || cols < 0 || (cols > 0 && len(norms)/cols != rows) || len(norms) != rows*cols {
		return nil, argumentf("norms", "%d values for %d x %d connections", len(norms), rows, cols)
	}
	s := &Scores{rows, cols, slices.Clone(norms)}
	for i, v := range s.v {
		if v != v {
			s.v[i] = float32(math.Inf(-1))
		}
	}
	return s, nil
}

// RandomRatios returns a control for AFCC: each filter's ratios permuted over the
// labels, so that at every threshold each filter has as many labels as before, but
// random ones. The same seed gives the same result; nil rows stay nil.
func RandomRatios(ratios [][]float32, seed uint64) [][]float32 {
	shuffled := make([][]float32, len(ratios))
	for f, r := range ratios {
		c := slices.Clone(r)
		rand.New(rand.NewPCG(seed, uint64(f))).Shuffle(len(c), func(i, j int) { c[i], c[j] = c[j], c[i] })
		shuffled[f] = c
	}
	return shuffled
}

// RandomKeptShare returns the probability that random label sets of a and b out
// of k labels share a label, 1 - C(k-a,b)/C(k,b): the kept share of a layer if its
// label sets meant nothing. It is 0 unless 0 <= a,b <= k.
func RandomKeptShare(k, a, b int) float64 {
	if a < 0 || b < 0 || a > k || b > k {
		return 0
	}
	none := 1.0
	for i := range b {
		none *= max(0, float64(k-a-i)) / float64(k-i)
	}
	return 1 - none
}

// Mask keeps the connections whose score is above theta, compared in float32.
func (s *Scores) Mask(theta float64) *Mask {
	m := NewMask(s.Rows, s.Cols)
	for i, v := range s.v {
		if v > float32(theta) {
			set(m.bits, i)
		}
	}
	return m
}

// ThresholdFor returns the smallest threshold theta >= 0 that dilutes at least the
// given share of the connections, and the share that it dilutes. Connections of
// equal score fall together, and at theta = 0 those fall that share no label at
// all, so achieved may be far above dilution: compare controls by [Scores.Top]
// with the count of the mask. theta is a float32 value, 1 or more when only
// connections of that score are left to drop. A dilution outside [0,1] is taken as
// the nearer end, NaN as 0.
func (s *Scores) ThresholdFor(dilution float64) (theta, achieved float64) {
	n := len(s.v)
	if n == 0 {
		return 0, 0
	}
	share := func(count int) float64 { return float64(count) / float64(n) }
	if dilution > 0 {
		// The product may round past a whole number: count from just below it.
		drop := max(1, int(min(dilution, 1)*float64(n))-1)
		for share(drop) < min(dilution, 1) {
			drop++
		}
		theta = max(0, float64(s.ascending()[drop-1]))
	}
	return theta, s.Mask(theta).Dilution()
}

// Top keeps exactly the n connections of highest score; of equal scores those
// first in row-major order. n outside [0, Rows*Cols] is taken as the nearer end.
func (s *Scores) Top(n int) *Mask {
	m := NewMask(s.Rows, s.Cols)
	if n = min(n, len(s.v)); n <= 0 {
		return m
	}
	sorted := s.ascending()
	lowest := sorted[len(sorted)-n]
	equal := n // how many of score lowest are kept
	for _, v := range sorted[len(sorted)-n:] {
		if v > lowest {
			equal--
		}
	}
	for i, v := range s.v {
		if v == lowest && equal > 0 {
			equal--
			set(m.bits, i)
		} else if v > lowest {
			set(m.bits, i)
		}
	}
	return m
}

// TopRows keeps exactly the n connections that Top keeps in number, but shares them
// out evenly: each row keeps its n/Rows connections of highest score, and what the
// division leaves over goes to the rows whose next connection scores highest. No
// output then starves because its weights are small, which a ranking over the whole
// layer lets happen (comparison groups of Sun et al., arXiv:2306.11695). Of equal
// scores those first in row-major order come first. n outside [0, Rows*Cols] is taken
// as the nearer end.
func (s *Scores) TopRows(n int) *Mask {
	m := NewMask(s.Rows, s.Cols)
	if n = min(n, len(s.v)); n <= 0 {
		return m
	}
	each, rest := n/s.Rows, n%s.Rows
	order := make([]int, s.Cols)
	next := make([]int, 0, s.Rows) // the best connection of each row that is not kept
	for r := range s.Rows {
		row := s.v[r*s.Cols:][:s.Cols]
		for c := range order {
			order[c] = c
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(row[b], row[a]) })
		for _, c := range order[:each] {
			m.Keep(r, c)
		}
		if each < s.Cols {
			next = append(next, r*s.Cols+order[each])
		}
	}
	slices.SortStableFunc(next, func(a, b int) int { return cmp.Compare(s.v[b], s.v[a]) })
	for _, i := range next[:rest] {
		set(m.bits, i)
	}
	return m
}

func (s *Scores) ascending() []float32 {
	v := slices.Clone(s.v)
	slices.Sort(v)
	return v
}

func newScores(rows, cols int) *Scores {
	s := &Scores{rows, cols, make([]float32, rows*cols)}
	for i := range s.v {
		s.v[i] = float32(math.Inf(-1))
	}
	return s
}

func checkRatios(name string, ratios [][]float32, k int) error {
	for f, r := range ratios {
		if r != nil && len(r) != k {
			return argumentf(name, "filter %d has %d where %d labels are", f, len(r), k)
		}
		for j, v := range r {
			if v != v {
				return argumentf(name, "filter %d has no number for label %d", f, j)
			}
		}
	}
	return nil
}
