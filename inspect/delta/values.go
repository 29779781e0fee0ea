package delta

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Values measures how the numbers of a tensor in A became those in B. Pairs in
// which one number is NaN or infinite are counted and left out of everything
// that is not a count. All sums are in double precision.
type Values struct {
	// Elements counts the pairs.
	Elements int64 `json:"elements"`
	// Changed counts the pairs that differ at all, Beyond those that differ by
	// more than the tolerance. Two NaNs, and equal infinities, do not differ; a
	// pair that is not finite and differs is beyond every tolerance.
	Changed int64 `json:"changed"`
	Beyond  int64 `json:"beyond"`
	// Share is Changed / Elements.
	Share float64 `json:"changed_share"`
	// NewZeros counts numbers that are zero in B only, GoneZeros in A only.
	NewZeros  int64 `json:"new_zeros"`
	GoneZeros int64 `json:"gone_zeros"`
	// MaxAbs is the largest |b-a| and At the place of it in A's tensor as it is
	// stored; both nil where no pair differs or none is finite.
	MaxAbs *float64 `json:"max_abs"`
	At     []int64  `json:"max_abs_at,omitempty"`
	// Digits is to how many decimal digits the tensors are the same, measured by
	// the largest number: the largest d up to 17 with max|b-a| <= 10^-d max|a|. It
	// is nil where no pair differs and where A is zero throughout.
	Digits *int `json:"digits"`
	// RelL2 is ||b-a|| / ||a||, nil where A is zero throughout and B is not.
	RelL2 *float64 `json:"rel_l2"`
	// Cosine is a.b / (||a|| ||b||), nil where one of them is zero throughout.
	Cosine *float64 `json:"cosine"`
	// Means and standard deviations (of the population) on both sides; nil where
	// no pair is finite. Their differences are the shift of the distribution.
	MeanA *float64 `json:"mean_a"`
	MeanB *float64 `json:"mean_b"`
	StdA  *float64 `json:"std_a"`
	StdB  *float64 `json:"std_b"`
	// NaNs and infinities on each side.
	NaNA int64 `json:"nan_a,omitempty"`
	NaNB int64 `json:"nan_b,omitempty"`
	InfA int64 `json:"inf_a,omitempty"`
	InfB int64 `json:"inf_b,omitempty"`
}

// A tally gathers Values. Moments are of distances from a number of the side's
// own, so that numbers far from zero lose no digits, nor does a side that is far
// smaller than the other; lengths and the product are of the numbers themselves,
// so that the cosine does not come from a difference of large sums.
type tally struct {
	v                    Values
	finite               int64
	maxAbs               float64
	at                   int64
	top                  float64 // largest |a|
	pivotA, pivotB       float64
	sumA, sumB, sqA, sqB float64
	aa, bb, ab           float64
	diff2                float64
	tol                  tolerance
	found                bool
}

func (t *tally) add(x, y float64, at int64, size float64) {
	t.v.Elements++
	d := y - x
	if d-d != 0 {
		t.odd(x, y, at)
		return
	}
	t.finite++
	if d != 0 {
		t.differ(x, y, d, at, size)
	}
	t.top = max(t.top, math.Abs(x))
	p, q := x-t.pivotA, y-t.pivotB
	t.sumA += p
	t.sqA += p * p
	t.sumB += q
	t.sqB += q * q
	t.aa += x * x
	t.bb += y * y
	t.ab += x * y
}

func (t *tally) differ(x, y, d float64, at int64, size float64) {
	t.v.Changed++
	a := math.Abs(d)
	if a > t.tol.abs+t.tol.rel*size {
		t.v.Beyond++
	}
	if a > t.maxAbs {
		t.maxAbs, t.at, t.found = a, at, true
	}
	if y == 0 {
		t.v.NewZeros++
	} else if x == 0 {
		t.v.GoneZeros++
	}
	t.diff2 += d * d
}

// odd counts a pair that is not finite, or too far apart for a float64.
func (t *tally) odd(x, y float64, at int64) {
	count := func(v float64, nan, inf *int64) {
		switch {
		case math.IsNaN(v):
			*nan++
		case math.IsInf(v, 0):
			*inf++
		}
	}
	count(x, &t.v.NaNA, &t.v.InfA)
	count(y, &t.v.NaNB, &t.v.InfB)
	if x == y || math.IsNaN(x) && math.IsNaN(y) {
		return
	}
	t.v.Changed++
	t.v.Beyond++
	if y == 0 {
		t.v.NewZeros++
	} else if x == 0 {
		t.v.GoneZeros++
	}
}

// addBlock adds two blocks of which the first element stands at.
func addBlock[T float32 | float64](t *tally, x, y []T, at int64) {
	const step = 1024
	for len(x) > 0 {
		n := min(step, len(x))
		if same(x[:n], y[:n]) {
			addSame(t, x[:n])
		} else {
			for i, a := range x[:n] {
				a := float64(a)
				t.add(a, float64(y[i]), at+int64(i), math.Abs(a))
			}
		}
		x, y, at = x[n:], y[n:], at+int64(n)
	}
}

func same[T float32 | float64](x, y []T) bool {
	y = y[:len(x)]
	for i, a := range x {
		if a != y[i] {
			return false
		}
	}
	return true
}

// addSame adds a block that both sides have.
func addSame[T float32 | float64](t *tally, x []T) {
	s, q, length, top, inf := sums(x, t.pivotA)
	sB, qB := s, q
	if t.pivotB != t.pivotA {
		sB, qB, _, _, _ = sums(x, t.pivotB)
	}
	t.v.Elements += int64(len(x))
	t.finite += int64(len(x)) - inf
	t.v.InfA += inf
	t.v.InfB += inf
	t.sumA += s
	t.sumB += sB
	t.sqA += q
	t.sqB += qB
	t.aa += length
	t.bb += length
	t.ab += length
	t.top = max(t.top, top)
}

// sums returns the sum and the sum of squares of distances from the pivot, the sum
// of squares, the largest size, and the number of infinities, which are in none of
// them.
func sums[T float32 | float64](x []T, pivot float64) (s, q, length, top float64, inf int64) {
	for _, a := range x {
		v := float64(a)
		d := v - pivot
		if d-d != 0 {
			inf++
			continue
		}
		s += d
		q += d * d
		length += v * v
		top = max(top, math.Abs(v))
	}
	return s, q, length, top, inf
}

func (t *tally) merge(o *tally) {
	v, w := &t.v, &o.v
	v.Elements += w.Elements
	v.Changed += w.Changed
	v.Beyond += w.Beyond
	v.NewZeros += w.NewZeros
	v.GoneZeros += w.GoneZeros
	v.NaNA += w.NaNA
	v.NaNB += w.NaNB
	v.InfA += w.InfA
	v.InfB += w.InfB
	t.finite += o.finite
	t.sumA += o.sumA
	t.sumB += o.sumB
	t.sqA += o.sqA
	t.sqB += o.sqB
	t.aa += o.aa
	t.bb += o.bb
	t.ab += o.ab
	t.diff2 += o.diff2
	t.top = max(t.top, o.top)
	if o.found && (!t.found || o.maxAbs > t.maxAbs || o.maxAbs == t.maxAbs && o.at < t.at) {
		t.maxAbs, t.at, t.found = o.maxAbs, o.at, true
	}
}

// values makes the result. dims are those of A's tensor as it is stored.
func (t *tally) values(dims []int64) *Values {
	v := t.v
	if v.Elements > 0 {
		v.Share = float64(v.Changed) / float64(v.Elements)
	}
	if t.finite == 0 {
		return &v
	}
	n := float64(t.finite)
	moments := func(pivot, s, q float64) (mean, std *float64) {
		m := s / n
		d := math.Sqrt(max(q/n-m*m, 0))
		return number64(m + pivot), number64(d)
	}
	v.MeanA, v.StdA = moments(t.pivotA, t.sumA, t.sqA)
	v.MeanB, v.StdB = moments(t.pivotB, t.sumB, t.sqB)
	if t.found {
		v.MaxAbs = number64(t.maxAbs)
		v.At = place(t.at, dims)
		if t.top > 0 {
			d := int(min(max(math.Floor(-math.Log10(t.maxAbs/t.top)), 0), 17))
			v.Digits = &d
		}
	}
	switch {
	case t.diff2 == 0:
		v.RelL2 = number64(0)
	case t.aa > 0:
		v.RelL2 = number64(math.Sqrt(t.diff2) / math.Sqrt(t.aa))
	}
	switch {
	case t.aa == 0 || t.bb == 0:
	case t.diff2 == 0:
		v.Cosine = number64(1)
	default:
		v.Cosine = number64(t.cosine())
	}
	return &v
}

// cosine is NaN where a side is zero.
func (t *tally) cosine() float64 {
	return min(max(t.ab/(math.Sqrt(t.aa)*math.Sqrt(t.bb)), -1), 1)
}

// number64 returns nil for what is not a number that JSON can hold.
func number64(v float64) *float64 {
	if v-v != 0 {
		return nil
	}
	return &v
}

// place turns the position in a tensor into an index for each dimension.
func place(at int64, dims []int64) []int64 {
	out := make([]int64, len(dims))
	for i, d := range slices.Backward(dims) {
		if d < 1 {
			return nil
		}
		out[i] = at % d
		at /= d
	}
	return out
}

// A pairing is two tensors of equally many rows and columns on the way to Values.
type pairing struct {
	a, b   *view
	tol    tolerance
	strict bool // integers of 64 bits: also compare bit for bit
	parts  []tally
	sum    tally
	equal  *bool // instead of sum, for types whose numbers cannot be read
	note   string
}

// chunk is how many elements a part of a pairing has. It does not depend on the
// number of workers, so that no sum does.
const chunk = 1 << 18

// tile is the side of the squares in which a tensor is compared with a transposed
// one.
const tile = 1 << 10

// buffers of one worker.
type buffers struct {
	x, y   []float32
	dx, dy []float64
	bx, by []float32 // tiles
	wx, wy []float64 // tiles of numbers that single precision does not hold
}

func grow[T any](b *[]T, n int) []T {
	if cap(*b) < n {
		*b = make([]T, n)
	}
	return (*b)[:n]
}

// comparePairs fills all pairings, with so many workers. progress may be nil.
func comparePairs(ctx context.Context, list []*pairing, workers int, progress func(done, total int64)) error {
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	pool := sync.Pool{New: func() any { return &buffers{} }}
	var mu sync.Mutex
	var done, total int64
	for _, p := range list {
		total += p.a.count()
	}
	finished := func(n int64) {
		if progress == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		done += n
		progress(done, total)
	}
	turned := make(chan struct{}, 4) // bounds the memory of tiles
	submit := func(f func(b *buffers) error) {
		g.Go(func() error {
			if running.Err() != nil {
				return context.Cause(running)
			}
			b := pool.Get().(*buffers)
			defer pool.Put(b)
			return f(b)
		})
	}
	for _, p := range list {
		if running.Err() != nil {
			break
		}
		if err := p.prepare(running); err != nil {
			g.Go(func() error { return err })
			break
		}
		switch {
		case p.equal != nil || p.note != "":
			finished(p.a.count())
		case p.a.transposed == p.b.transposed:
			n := p.a.count()
			p.parts = make([]tally, (n+chunk-1)/chunk)
			for i := range p.parts {
				submit(func(b *buffers) error {
					defer finished(min(chunk, n-int64(i)*chunk))
					return p.part(i, b)
				})
			}
		default:
			wide := (p.a.cols + tile - 1) / tile
			p.parts = make([]tally, wide*((p.a.rows+tile-1)/tile))
			for i := range p.parts {
				submit(func(b *buffers) error {
					turned <- struct{}{}
					defer func() { <-turned }()
					r, c := int64(i)/wide*tile, int64(i)%wide*tile
					defer finished(min(tile, p.a.rows-r) * min(tile, p.a.cols-c))
					return p.square(i, r, c, b)
				})
			}
		}
	}
	err := g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	for _, p := range list {
		p.sum.tol = p.tol
		for i := range p.parts {
			p.sum.pivotA, p.sum.pivotB = p.parts[i].pivotA, p.parts[i].pivotB
			p.sum.merge(&p.parts[i])
		}
		p.parts = nil
	}
	return nil
}

// prepare reads what can only be read from the front, and compares what has no
// numbers.
func (p *pairing) prepare(ctx context.Context) error {
	for _, v := range []**view{&p.a, &p.b} {
		if !(*v).stored || (*v).vals != nil || (*v).count() == 0 {
			continue
		}
		err := (*v).t.ValuesIn(min(1, (*v).count()-1), (*v).count(), func([]float64) error { return errStop })
		switch {
		case err == nil || errors.Is(err, errStop):
		case errors.Is(err, onnxfile.ErrUnsupportedType):
			same, err := onnxfile.SameData(p.a.t, p.b.t)
			if errors.Is(err, onnxfile.ErrUnsupportedType) {
				p.note = err.Error()
				return nil
			}
			p.equal = &same
			return err
		case errors.Is(err, onnxfile.ErrSequential):
			vals, err := (*v).load(ctx)
			if errors.Is(err, errTooLong) {
				p.note = fmt.Sprintf("tensor %q: stored as varints, and too large to keep in memory", (*v).name)
				return nil
			}
			if err != nil {
				return err
			}
			w := **v
			w.vals = vals
			*v = &w
		default:
			return err
		}
	}
	return nil
}

var errStop = errors.New("stop")

// single tells whether the numbers of v are exact in single precision and can be
// read as they are stored.
func (v *view) single() bool {
	return v.narrow() && v.scale == nil
}

// floats reads elements [from, to) in the order in which they are stored, of a
// view that is single.
func (v *view) floats(from, to int64, buf *[]float32) ([]float32, error) {
	b := grow(buf, int(to-from+3)&^3+4)
	out := b[:0]
	err := v.t.Float32sIn(from, to, b, func(block []float32) error {
		if len(out) == 0 {
			out = block
		} else { // a first block that was short: both are kept apart
			out = append(slices.Clone(out), block...)
		}
		return nil
	})
	return out, err
}

// doubles reads elements [from, to) in the order in which they are stored, scaled.
func (v *view) doubles(from, to int64, buf *[]float64) ([]float64, error) {
	out := grow(buf, int(to-from))[:0]
	if v.vals != nil {
		out = append(out, v.vals[from:to]...)
	} else if v.stored {
		err := v.t.ValuesIn(from, to, func(block []float64) error {
			out = append(out, block...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if v.scale != nil {
		for i := range out {
			k := from + int64(i)
			if v.transposed {
				out[i] *= v.scale[k%v.rows]
			} else {
				out[i] *= v.scale[k/v.cols]
			}
		}
	}
	return out, nil
}

// tally begins a part of the comparison.
func (p *pairing) tally() tally {
	return tally{tol: p.tol, pivotA: p.a.first(), pivotB: p.b.first()}
}

// first is the first number as it is stored, 0 where there is none that is finite.
func (v *view) first() float64 {
	if v.count() == 0 {
		return 0
	}
	var buf []float64
	x, err := v.doubles(0, 1, &buf)
	if err != nil || len(x) == 0 || x[0]-x[0] != 0 {
		return 0
	}
	return x[0]
}

// part compares chunk i of two tensors that are stored alike.
func (p *pairing) part(i int, b *buffers) error {
	from := int64(i) * chunk
	to := min(from+chunk, p.a.count())
	t := p.tally()
	if p.a.single() && p.b.single() {
		x, err := p.a.floats(from, to, &b.x)
		if err != nil {
			return err
		}
		y, err := p.b.floats(from, to, &b.y)
		if err != nil {
			return err
		}
		addBlock(&t, x, y, from)
		p.parts[i] = t
		return nil
	}
	x, err := p.a.doubles(from, to, &b.dx)
	if err != nil {
		return err
	}
	y, err := p.b.doubles(from, to, &b.dy)
	if err != nil {
		return err
	}
	if p.a.mag != nil || p.b.mag != nil {
		for k := range x {
			size := math.Abs(x[k])
			for _, m := range [][]float64{p.a.mag, p.b.mag} {
				if m != nil {
					size = max(size, m[from+int64(k)])
				}
			}
			t.add(x[k], y[k], from+int64(k), size)
		}
	} else {
		addBlock(&t, x, y, from)
	}
	p.parts[i] = t
	return nil
}

// square compares the rows from r and the columns from c on, where one of the
// tensors is stored transposed.
func (p *pairing) square(i int, r, c int64, b *buffers) error {
	if p.a.narrow() && p.b.narrow() {
		return square(p, i, r, c, &b.bx, &b.by, &b.x, b)
	}
	return square(p, i, r, c, &b.wx, &b.wy, &b.dx, b)
}

func square[T float32 | float64](p *pairing, i int, r, c int64, bx, by, line *[]T, b *buffers) error {
	rows, cols := min(tile, p.a.rows-r), min(tile, p.a.cols-c)
	x, y := grow(bx, int(rows*cols)), grow(by, int(rows*cols))
	if err := block(p.a, r, c, rows, cols, x, line, b); err != nil {
		return err
	}
	if err := block(p.b, r, c, rows, cols, y, line, b); err != nil {
		return err
	}
	t := p.tally()
	for k := range rows {
		for j := range cols {
			at := (r+k)*p.a.cols + c + j
			if p.a.transposed {
				at = (c+j)*p.a.rows + r + k
			}
			u, v := float64(x[k*cols+j]), float64(y[k*cols+j])
			if p.a.scale != nil {
				u *= p.a.scale[r+k]
			}
			if p.b.scale != nil {
				v *= p.b.scale[r+k]
			}
			t.add(u, v, at, math.Abs(u))
		}
	}
	p.parts[i] = t
	return nil
}

// narrow tells whether the numbers of v, before they are scaled, are exact in
// single precision and stand in the file.
func (v *view) narrow() bool {
	return v.vals == nil && (v.dtype == onnxfile.Float || v.dtype == onnxfile.Float16 || v.dtype == onnxfile.BFloat16)
}

// block reads a part of the matrix into out, row by row, not scaled.
func block[T float32 | float64](v *view, r, c, rows, cols int64, out []T, lines *[]T, b *buffers) error {
	if !v.transposed {
		for k := range rows {
			from := (r+k)*v.cols + c
			if err := run(v, from, from+cols, out[k*cols:(k+1)*cols], b); err != nil {
				return err
			}
		}
		return nil
	}
	line := grow(lines, int(rows)+8)
	for j := range cols {
		from := (c+j)*v.rows + r
		if err := run(v, from, from+rows, line[:rows], b); err != nil {
			return err
		}
		for k := range rows {
			out[k*cols+j] = line[k]
		}
	}
	return nil
}

// run reads elements [from, to) as they are stored into out.
func run[T float32 | float64](v *view, from, to int64, out []T, b *buffers) error {
	if v.vals != nil {
		for i := range out {
			out[i] = T(v.vals[from+int64(i)])
		}
		return nil
	}
	at := 0
	if out, ok := any(out).([]float32); ok {
		return v.t.Float32sIn(from, to, grow(&b.y, len(out)+8), func(block []float32) error {
			at += copy(out[at:], block)
			return nil
		})
	}
	return v.t.ValuesIn(from, to, func(block []float64) error {
		for _, x := range block {
			out[at] = T(x)
			at++
		}
		return nil
	})
}

// workersOf is how many goroutines compare at once.
func workersOf(opt Options) int {
	n := opt.Workers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return min(n, 16)
}
