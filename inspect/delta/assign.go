package delta

import (
	"cmp"
	"context"
	"math"
	"slices"

	"golang.org/x/sync/errgroup"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// An assignment is the search for the filters of a layer.
type assignment struct {
	a, b    *rowsOf
	inner   int     // numbers of a channel in one row
	cols    []int32 // of each channel of A, that of B, -1 where it is gone
	inverse []int32
	gaps    [][]int32 // of each group of A, its channels that live on; nil where all do
	groupsA int
	groupsB int
	// colScale undoes the scale of the filters before; nil for none.
	colScale []float64
	// each says that row and channel are one: the channels of a row are not looked
	// for.
	each    bool
	forced  []int32 // of each row of A, the row of B; -1 where it is free, -2 where it is gone
	biasA   []float64
	biasB   []float64
	magA    []float64
	magB    []float64
	tol     tolerance
	biasTol tolerance
	least   float64
	workers int
	// answers says that the rows are outputs of the model, whose places have a meaning.
	answers bool

	to      []int32 // result: of each row of A, the row of B or -1
	cosine  []float64
	scale   []float64
	status  []rowStatus
	unclear []bool
	others  [][]int32
	sum     tally
	results map[[2]int32]rowResult
}

type rowStatus struct {
	same, scaled, bias bool
}

// rowsOf reads the rows of a view.
type rowsOf struct {
	v     *view
	strip []float32 // rows from first on, of a view that is stored transposed
	wide  []float64 // strip of a view that is not narrow
	first int64
	count int64
	buf   []float64
	b     buffers
}

// stripElements bounds the memory for rows of a tensor that is stored with its
// rows in columns.
const stripElements = 1 << 21

// row reads row r into the reader's buffer.
func (x *rowsOf) row(r int64) ([]float64, error) {
	v := x.v
	if !v.transposed && !(v.stored && v.vals == nil && v.t.DType() == onnxfile.Float) {
		return v.doubles(r*v.cols, (r+1)*v.cols, &x.buf)
	}
	out := grow(&x.buf, int(v.cols))
	switch {
	case !v.transposed:
		line := grow(&x.b.x, len(out))
		if err := run(v, r*v.cols, (r+1)*v.cols, line, &x.b); err != nil {
			return nil, err
		}
		for c, w := range line {
			out[c] = float64(w)
		}
	case v.vals != nil:
		for c := range out {
			out[c] = v.vals[int64(c)*v.rows+r]
		}
	default:
		if r < x.first || r >= x.first+x.count {
			n := min(max(stripElements/max(v.cols, 1), 1), v.rows)
			x.first = r / n * n
			x.count = min(n, v.rows-x.first)
			var err error
			if size := int(x.count * v.cols); v.narrow() {
				err = block(v, x.first, 0, x.count, v.cols, grow(&x.strip, size), &x.b.x, &x.b)
			} else {
				err = block(v, x.first, 0, x.count, v.cols, grow(&x.wide, size), &x.b.dx, &x.b)
			}
			if err != nil {
				return nil, err
			}
		}
		from, to := (r-x.first)*v.cols, (r-x.first+1)*v.cols
		if !v.narrow() {
			copy(out, x.wide[from:to])
			break
		}
		for c, w := range x.strip[from:to] {
			out[c] = float64(w)
		}
	}
	if v.scale != nil {
		for c := range out {
			out[c] *= v.scale[r]
		}
	}
	return out, nil
}

func (x *rowsOf) clone() *rowsOf { return &rowsOf{v: x.v} }

// pickA copies the numbers of a row of A that are compared into dst: those of the
// channels that live on, in the order of A.
func (s *assignment) pickA(row []float64, r int, dst []float64) []float64 {
	dst = dst[:0]
	if s.each {
		return append(dst, row...)
	}
	per := len(s.cols) / s.groupsA
	base := r / (int(s.a.v.rows) / s.groupsA) * per
	for c := range per {
		if s.cols[base+c] < 0 {
			continue
		}
		at := len(dst)
		dst = append(dst, row[c*s.inner:(c+1)*s.inner]...)
		if s.colScale != nil {
			for k := at; k < len(dst); k++ {
				dst[k] /= s.colScale[base+c]
			}
		}
	}
	return dst
}

// pickB does the same for the row of B that may stand for row r of A.
func (s *assignment) pickB(row []float64, r, q int, dst []float64) []float64 {
	dst = dst[:0]
	if s.each {
		return append(dst, row...)
	}
	per, perB := len(s.cols)/s.groupsA, len(s.inverse)/s.groupsB
	base := r / (int(s.a.v.rows) / s.groupsA) * per
	baseB := q / (int(s.b.v.rows) / s.groupsB) * perB
	for c := range per {
		j := s.cols[base+c]
		if j < 0 {
			continue
		}
		k := int(j) - baseB
		if k < 0 || k >= perB {
			for range s.inner {
				dst = append(dst, 0) // read by another group
			}
			continue
		}
		dst = append(dst, row[k*s.inner:(k+1)*s.inner]...)
	}
	return dst
}

// parallel calls f for parts of n with so many goroutines.
func parallel(ctx context.Context, n, workers int, f func(from, to int) error) error {
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	step := max((n+4*workers-1)/(4*workers), 1)
	for from := 0; from < n; from += step {
		g.Go(func() error {
			if running.Err() != nil {
				return context.Cause(running)
			}
			return f(from, min(from+step, n))
		})
	}
	return g.Wait()
}

// sketchWidth is how many numbers a row is reduced to before all rows are compared
// with all (Charikar, Chen and Farach-Colton, "Finding frequent items in data
// streams", 2002: the inner product of two such sketches is that of the rows, with
// a deviation of 1/sqrt(width) of the product of their lengths).
const sketchWidth = 512

// A rowInfo is what the first reading tells of a row.
type rowInfo struct {
	hash uint64
	norm float64
}

// add takes a run of numbers into account of which the first has the given place;
// the same place has the same part of a sketch.
func (x *rowInfo) add(run []float64, place int, sketch []float32) {
	h, norm := x.hash, x.norm
	sketch = sketch[:sketchWidth]
	for i, v := range run {
		h = (h ^ math.Float64bits(v+0)) * 0x100000001b3
		h ^= h >> 29
		if v-v != 0 {
			continue
		}
		norm += v * v
		p := uint64(place+i+1) * 0x9e3779b97f4a7c15
		p = (p ^ p>>32) * 0xd6e8feb86659fd93
		f := math.Float32frombits(math.Float32bits(float32(v)) ^ uint32(p>>63)<<31)
		sketch[p>>40&(sketchWidth-1)] += f
	}
	x.hash, x.norm = h, norm
}

// survey reads the rows of one side: their hash, their length and their sketch, of
// length 1.
func (s *assignment) survey(ctx context.Context, second bool, list []int32) ([]rowInfo, []float32, error) {
	side := s.a
	if second {
		side = s.b
	}
	out := make([]rowInfo, len(list))
	sketches := make([]float32, len(list)*sketchWidth)
	ordered := s.orderB()
	workers := s.workers
	if side.v.transposed {
		workers = min(workers, 2) // each has a strip of its own
	}
	whole := s.each || s.colScale == nil && s.groupsA == 1 && s.groupsB == 1 && identical(s.cols, len(s.inverse))
	err := parallel(ctx, len(list), workers, func(from, to int) error {
		rd := side.clone()
		for i := from; i < to; i++ {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r := list[i]
			row, err := rd.row(int64(r))
			if err != nil {
				return err
			}
			info := rowInfo{hash: 14695981039346656037}
			sketch := sketches[i*sketchWidth : (i+1)*sketchWidth]
			switch {
			case whole:
				info.add(row, 0, sketch)
			case !second:
				per := len(s.cols) / s.groupsA
				base := int(r) / (int(s.a.v.rows) / s.groupsA) * per
				for c := range per {
					if s.cols[base+c] < 0 {
						continue
					}
					run := row[c*s.inner : (c+1)*s.inner]
					if s.colScale != nil {
						for k := range run {
							run[k] /= s.colScale[base+c]
						}
					}
					info.add(run, (base+c)*s.inner, sketch)
				}
			default:
				group := int(r) / (int(s.b.v.rows) / s.groupsB)
				per := len(s.inverse) / s.groupsB
				for _, j := range ordered[group] {
					c := int(j) - group*per
					info.add(row[c*s.inner:(c+1)*s.inner], int(s.inverse[j])*s.inner, sketch)
				}
			}
			if info.norm > 0 {
				d := float32(1 / math.Sqrt(info.norm))
				for k := range sketch {
					sketch[k] *= d
				}
			}
			out[i] = info
		}
		return nil
	})
	return out, sketches, err
}

// orderB lists, for each group of B, the channels that live on in the order of A.
func (s *assignment) orderB() [][]int32 {
	if s.each {
		return nil
	}
	per := len(s.inverse) / s.groupsB
	out := make([][]int32, s.groupsB)
	for g := range out {
		for c := range per {
			if j := g*per + c; s.inverse[j] >= 0 {
				out[g] = append(out[g], int32(j))
			}
		}
		slices.SortFunc(out[g], func(x, y int32) int { return cmp.Compare(s.inverse[x], s.inverse[y]) })
	}
	return out
}

// biasAlike tells whether the bias of row f of A is that of row q of B.
func (s *assignment) biasAlike(f, q int32, scale float64) bool {
	var x, y, size float64
	if s.biasA != nil {
		x = s.biasA[f] * scale
		size = s.magA[f] * scale
	}
	if s.biasB != nil {
		y = s.biasB[q]
		size = max(size, s.magB[q])
	}
	if x == y || math.IsNaN(x) && math.IsNaN(y) {
		return true
	}
	t := s.biasTol
	if scale != 1 {
		t.rel = max(t.rel, 1e-5)
	}
	return math.Abs(x-y) <= t.abs+t.rel*size
}

// solve finds the partners of all rows.
func (s *assignment) solve(ctx context.Context) error {
	na, nb := int(s.a.v.rows), int(s.b.v.rows)
	s.to = make([]int32, na)
	s.cosine, s.scale = make([]float64, na), make([]float64, na)
	s.status, s.unclear, s.others = make([]rowStatus, na), make([]bool, na), make([][]int32, na)
	taken := make([]bool, nb)
	var free []int32
	for f := range s.to {
		s.to[f] = -1
		s.cosine[f] = math.NaN()
		switch {
		case s.forced != nil && s.forced[f] >= 0:
			s.to[f] = s.forced[f]
			taken[s.forced[f]] = true
		case s.forced != nil && s.forced[f] == -2:
		default:
			free = append(free, int32(f))
		}
	}
	var freeB []int32
	for q := range taken {
		if !taken[q] {
			freeB = append(freeB, int32(q))
		}
	}
	s.results = map[[2]int32]rowResult{}
	if len(free) > 0 && len(freeB) > 0 {
		if err := s.search(ctx, free, freeB); err != nil {
			return err
		}
	}
	if s.answers && na == nb {
		s.byPlace()
	}
	return s.judge(ctx)
}

// byPlace pairs what is left with the row of the same index.
func (s *assignment) byPlace() {
	taken := make([]bool, len(s.to))
	for _, q := range s.to {
		if q >= 0 {
			taken[q] = true
		}
	}
	for f, q := range s.to {
		if q < 0 && !taken[f] && (s.forced == nil || s.forced[f] != -2) {
			s.to[f] = int32(f)
		}
	}
}

// search pairs rows that are free: those with the same numbers, then by
// similarity.
func (s *assignment) search(ctx context.Context, free, freeB []int32) error {
	ia, sa, err := s.survey(ctx, false, free)
	if err != nil {
		return err
	}
	ib, sb, err := s.survey(ctx, true, freeB)
	if err != nil {
		return err
	}
	used := s.exact(free, freeB, ia, ib)
	// What is left moves to the front, with its sketch.
	keep := func(list []int32, sketches []float32, done func(r int32) bool) ([]int32, []float32) {
		n := 0
		for k, r := range list {
			if !done(r) {
				list[n] = r
				copy(sketches[n*sketchWidth:(n+1)*sketchWidth], sketches[k*sketchWidth:])
				n++
			}
		}
		return list[:n], sketches[:n*sketchWidth]
	}
	if err := s.diluted(ctx, free, freeB, used); err != nil {
		return err
	}
	free, sa = keep(free, sa, func(r int32) bool { return s.to[r] >= 0 })
	freeB, sb = keep(freeB, sb, func(r int32) bool { return used[r] })
	if len(free) == 0 || len(freeB) == 0 {
		return nil
	}
	return s.similar(ctx, s.candidates(free, freeB, sa, sb))
}

// diluted pairs rows at the same index of which B has the numbers of A but for some
// that became zero, however many: what is left of them says whose they are, where
// the cosine may be small.
func (s *assignment) diluted(ctx context.Context, free, freeB []int32, used map[int32]bool) error {
	var list []int32
	for _, f := range free {
		if _, ok := slices.BinarySearch(freeB, f); ok && s.to[f] < 0 && !used[f] {
			list = append(list, f)
		}
	}
	found := make([]bool, len(list))
	err := s.pairs(ctx, len(list), func(k int) (int32, int32) { return list[k], list[k] }, func(k int, x, y []float64) {
		found[k] = s.isDiluted(x, y)
	})
	for k, f := range list {
		if found[k] {
			s.to[f], used[f] = f, true
		}
	}
	return err
}

func (s *assignment) isDiluted(x, y []float64) bool {
	left := false
	// Rounding only: a tolerance that was asked for may be so large that every row
	// would do.
	abs, rel := min(s.tol.abs, 1e-6), min(s.tol.rel, 0.01)
	for i, v := range y {
		if v == 0 {
			continue
		}
		if x[i] == 0 || !(math.Abs(v-x[i]) <= abs+rel*math.Abs(x[i])) {
			return false
		}
		left = true
	}
	return left
}

// exact pairs rows whose numbers are the same; it returns the rows of B that are
// taken.
func (s *assignment) exact(free, freeB []int32, ia, ib []rowInfo) map[int32]bool {
	inB := map[uint64][]int32{}
	for k, q := range freeB {
		inB[ib[k].hash] = append(inB[ib[k].hash], q)
	}
	inA := map[uint64][]int32{}
	for k, f := range free {
		inA[ia[k].hash] = append(inA[ia[k].hash], f)
	}
	used := make(map[int32]bool)
	for k, f := range free {
		la, lb := inA[ia[k].hash], inB[ia[k].hash]
		if len(la) == 0 || la[0] != f || len(lb) == 0 {
			continue // no partner, or done with the first of its twins
		}
		if len(la) == 1 && len(lb) == 1 {
			s.to[f], used[lb[0]] = lb[0], true
			continue
		}
		s.twins(la, lb, used)
	}
	return used
}

// twins pairs rows of the same weights: each with itself where nothing has
// changed; else by their bias where it tells them apart,
// then at the same index, then in order.
func (s *assignment) twins(la, lb []int32, used map[int32]bool) {
	if slices.Equal(la, lb) && !slices.ContainsFunc(la, func(f int32) bool { return !s.biasAlike(f, f, 1) }) {
		// All of them are where they were.
		for _, f := range la {
			s.to[f], used[f] = f, true
		}
		return
	}
	for _, f := range la {
		var alike []int32
		for _, q := range lb {
			if s.biasAlike(f, q, 1) {
				alike = append(alike, q)
			}
		}
		if len(alike) != 1 || used[alike[0]] {
			continue
		}
		only := true
		for _, other := range la {
			only = only && (other == f || !s.biasAlike(other, alike[0], 1))
		}
		if only {
			s.to[f], used[alike[0]] = alike[0], true
		}
	}
	take := func(fits func(f, q int32) bool) {
		for _, f := range la {
			if s.to[f] >= 0 {
				continue
			}
			for _, q := range lb {
				if used[q] || !fits(f, q) {
					continue
				}
				s.to[f], used[q], s.unclear[f] = q, true, true
				for _, other := range lb {
					if other != q && len(s.others[f]) < 8 {
						s.others[f] = append(s.others[f], other)
					}
				}
				break
			}
		}
	}
	take(func(f, q int32) bool { return f == q && s.biasAlike(f, q, 1) })
	take(func(f, q int32) bool { return s.biasAlike(f, q, 1) })
	take(func(f, q int32) bool { return f == q })
	take(func(f, q int32) bool { return true })
}

// A candidate is a pair of rows with the cosine of their weights.
type candidate struct {
	f, q   int32
	cosine float64
}

// similar pairs the rows that are left by the cosine of their weights, the most
// similar first.
func (s *assignment) similar(ctx context.Context, list []candidate) error {
	if err := s.measure(ctx, list); err != nil {
		return err
	}
	for i := range list {
		list[i].cosine = s.results[[2]int32{list[i].f, list[i].q}].cosine
	}
	slices.SortStableFunc(list, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(y.cosine, x.cosine), cmp.Compare(b2i(x.f != x.q), b2i(y.f != y.q)), cmp.Compare(x.f, y.f), cmp.Compare(x.q, y.q))
	})
	ofA, ofB := map[int32][]candidate{}, map[int32][]candidate{}
	for _, c := range list {
		ofA[c.f], ofB[c.q] = append(ofA[c.f], c), append(ofB[c.q], c)
	}
	used := map[int32]bool{}
	for _, c := range list {
		if math.IsNaN(s.cosine[c.f]) {
			s.cosine[c.f] = c.cosine // the nearest, should it be gone
		}
		if c.cosine < s.least || s.to[c.f] >= 0 || used[c.q] {
			continue
		}
		s.to[c.f], used[c.q] = c.q, true
		for _, o := range ofA[c.f] {
			if o.q != c.q && alike(c.cosine, o.cosine) {
				s.unclear[c.f] = true
				s.others[c.f] = append(s.others[c.f], o.q)
			}
		}
		for _, o := range ofB[c.q] {
			if o.f != c.f && alike(c.cosine, o.cosine) {
				s.unclear[c.f] = true
			}
		}
		slices.Sort(s.others[c.f])
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// alike tells whether the second similarity is too near to the first to decide
// for it: within 0.02, and less than twice as far from 1.
func alike(best, other float64) bool {
	return best-other < 0.02 && 1-best > 0.5*(1-other)-1e-12
}

// candidates lists the pairs that are worth measuring: for each row the few most
// similar by their sketches.
func (s *assignment) candidates(free, freeB []int32, sa, sb []float32) []candidate {
	var list []candidate
	if len(free)*len(freeB) <= 1<<10 {
		for _, f := range free {
			for _, q := range freeB {
				list = append(list, candidate{f: f, q: q})
			}
		}
		return list
	}
	// Few rows of B at a time, so that memory does not grow with the layer.
	const block, most = 256, 8
	ofA := make([][]candidate, len(free))
	seen := map[[2]int32]bool{}
	add := func(best []candidate) {
		for _, c := range prune(best) {
			if pair := [2]int32{c.f, c.q}; !seen[pair] {
				seen[pair] = true
				list = append(list, candidate{f: c.f, q: c.q})
			}
		}
	}
	product := make([]float32, len(free)*block)
	for from := 0; from < len(freeB); from += block {
		part := freeB[from:min(from+block, len(freeB))]
		p := blas32.General{Rows: len(free), Cols: len(part), Stride: len(part), Data: product[:len(free)*len(part)]}
		blas32.Gemm(blas.NoTrans, blas.Trans, 1,
			blas32.General{Rows: len(free), Cols: sketchWidth, Stride: sketchWidth, Data: sa},
			blas32.General{Rows: len(part), Cols: sketchWidth, Stride: sketchWidth, Data: sb[from*sketchWidth : (from+len(part))*sketchWidth]}, 0, p)
		ofB := make([][]candidate, len(part))
		for f := range free {
			for q, v := range p.Data[f*len(part) : (f+1)*len(part)] {
				c := candidate{free[f], part[q], float64(v)}
				ofA[f] = keepBest(ofA[f], c, most)
				ofB[q] = keepBest(ofB[q], c, most)
			}
		}
		for _, best := range ofB {
			add(best)
		}
	}
	for _, best := range ofA {
		add(best)
	}
	// Where a row was changed beyond recognition, its own index is the first guess.
	for _, f := range free {
		if _, ok := slices.BinarySearch(freeB, f); ok && !seen[[2]int32{f, f}] {
			list = append(list, candidate{f: f, q: f})
		}
	}
	return list
}

// keepBest inserts c into a short list in descending order.
func keepBest(list []candidate, c candidate, most int) []candidate {
	if len(list) == most && c.cosine <= list[most-1].cosine {
		return list
	}
	at := len(list)
	for at > 0 && list[at-1].cosine < c.cosine {
		at--
	}
	list = slices.Insert(list, at, c)
	return list[:min(len(list), most)]
}

// prune drops candidates that are far behind the first: by more than five
// deviations of a sketch.
func prune(list []candidate) []candidate {
	far := 5 / math.Sqrt(sketchWidth)
	for i, c := range list {
		if c.cosine < list[0].cosine-far || c.cosine < 0.1 && i > 0 {
			return list[:i]
		}
	}
	return list
}

// A rowResult is what comparing a row of A with one of B gives.
type rowResult struct {
	t      tally
	cosine float64 // NaN where one of them is zero, 1 where both are
	scale  float64
}

// examine compares the numbers of row f of A with those of a row of B.
func (s *assignment) examine(f int32, x, y []float64) rowResult {
	r := rowResult{t: tally{tol: s.tol}, scale: 1, cosine: math.NaN()}
	t := &r.t
	if same(x, y) {
		addSame(t, x)
	} else {
		for i, a := range x {
			t.add(a, y[i], int64(i), math.Abs(a))
		}
		if t.found {
			t.at = s.place(int(f), int(t.at))
		}
	}
	switch {
	case t.aa == 0 && t.bb == 0, t.diff2 == 0 && t.aa > 0:
		r.cosine = 1
	case t.aa > 0 && t.bb > 0:
		r.cosine = t.cosine()
		r.scale = t.ab / t.aa
	}
	return r
}

// measure compares the rows of candidates.
func (s *assignment) measure(ctx context.Context, list []candidate) error {
	order := slices.Clone(list)
	slices.SortFunc(order, func(x, y candidate) int { return cmp.Or(cmp.Compare(x.f, y.f), cmp.Compare(x.q, y.q)) })
	results := make([]rowResult, len(order))
	err := s.pairs(ctx, len(order), func(k int) (int32, int32) { return order[k].f, order[k].q },
		func(k int, x, y []float64) { results[k] = s.examine(order[k].f, x, y) })
	for k, c := range order {
		s.results[[2]int32{c.f, c.q}] = results[k]
	}
	return err
}

// pairs reads the numbers of n pairs of rows and calls fn with each, from several
// goroutines.
func (s *assignment) pairs(ctx context.Context, n int, at func(k int) (f, q int32), fn func(k int, x, y []float64)) error {
	workers := s.workers
	if s.a.v.transposed || s.b.v.transposed {
		workers = min(workers, 2)
	}
	return parallel(ctx, n, workers, func(from, to int) error {
		ra, rb := s.a.clone(), s.b.clone()
		var x, y []float64
		last := int32(-1)
		for k := from; k < to; k++ {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			f, q := at(k)
			if f != last {
				row, err := ra.row(int64(f))
				if err != nil {
					return err
				}
				x, last = s.pickA(row, int(f), x), f
			}
			row, err := rb.row(int64(q))
			if err != nil {
				return err
			}
			y = s.pickB(row, int(f), int(q), y)
			fn(k, x, y)
		}
		return nil
	})
}

// judge says what became of each row that has a partner.
func (s *assignment) judge(ctx context.Context) error {
	var left []candidate
	for f, q := range s.to {
		if _, ok := s.results[[2]int32{int32(f), q}]; q >= 0 && !ok {
			left = append(left, candidate{f: int32(f), q: q})
		}
	}
	if err := s.measure(ctx, left); err != nil {
		return err
	}
	for f, q := range s.to {
		if q < 0 {
			continue
		}
		r := s.results[[2]int32{int32(f), q}]
		st := &s.status[f]
		s.cosine[f], s.scale[f] = r.cosine, 1
		st.same = r.t.v.Beyond == 0
		if v := r.t.v; !st.same && r.cosine > 0 && v.NaNA+v.NaNB+v.InfA+v.InfB == 0 {
			limit := 1e-5 + 4*s.tol.rel
			// ||b - scale a||^2, by Pythagoras
			rest := max(r.t.bb-r.scale*r.t.ab, 0)
			if st.scaled = rest <= (limit*limit+1e-13)*r.t.bb && math.Abs(r.scale-1) > limit; st.scaled {
				s.scale[f] = r.scale
			}
		}
		st.bias = !s.biasAlike(int32(f), q, s.scale[f])
		s.sum.merge(&r.t)
	}
	s.results = nil
	return nil
}

// place turns a position among the numbers compared of row f into one in A's
// tensor as it is stored.
func (s *assignment) place(f, i int) int64 {
	c := int64(i)
	if !s.each && s.gaps != nil {
		group := f / (int(s.a.v.rows) / s.groupsA)
		c = int64(s.gaps[group][i/s.inner])*int64(s.inner) + int64(i%s.inner)
	}
	if s.a.v.transposed {
		return c*s.a.v.rows + int64(f)
	}
	return int64(f)*s.a.v.cols + c
}
