package delta

import (
	"cmp"
	"context"
	"math"
	"slices"

	"golang.org/x/sync/errgroup"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
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

	to      []int32 // result: of each row of A, the row of B or -1
	cosine  []float64
	scale   []float64
	status  []rowStatus
	unclear []bool
	others  [][]int32
	sum     tally
}

type rowStatus struct {
	same, scaled, bias bool
}

// rowsOf reads the rows of a view.
type rowsOf struct {
	v     *view
	strip []float32 // rows from first on, of a view that is stored transposed
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
	if !v.transposed {
		return v.doubles(r*v.cols, (r+1)*v.cols, &x.buf)
	}
	out := grow(&x.buf, int(v.cols))
	if v.vals != nil {
		for c := range out {
			out[c] = v.vals[int64(c)*v.rows+r]
		}
	} else {
		if r < x.first || r >= x.first+x.count {
			n := min(max(stripElements/max(v.cols, 1), 1), v.rows)
			x.first = r / n * n
			x.count = min(n, v.rows-x.first)
			if err := v.block(x.first, 0, x.count, v.cols, grow(&x.strip, int(x.count*v.cols)), &x.b); err != nil {
				return nil, err
			}
		}
		for c, w := range x.strip[(r-x.first)*v.cols : (r-x.first+1)*v.cols] {
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

// survey reads the rows of one side: their hash, their length and, into sketches
// of sketchWidth each, their sketch.
func (s *assignment) survey(ctx context.Context, second bool, list []int32, sketches []float32) ([]rowInfo, error) {
	side := s.a
	if second {
		side = s.b
	}
	out := make([]rowInfo, len(list))
	ordered := s.orderB()
	workers := s.workers
	if side.v.transposed {
		workers = min(workers, 2) // each has a strip of its own
	}
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
			var sketch []float32
			if sketches != nil {
				sketch = sketches[i*sketchWidth : (i+1)*sketchWidth]
			}
			h := uint64(14695981039346656037)
			var norm float64
			take := func(v float64, place int) {
				h = (h ^ math.Float64bits(v+0)) * 0x100000001b3
				h ^= h >> 29
				if v-v != 0 {
					return
				}
				norm += v * v
				if sketch != nil {
					x := uint64(place+1) * 0x9e3779b97f4a7c15
					x = (x ^ x>>32) * 0xd6e8feb86659fd93
					if x>>63 == 0 {
						sketch[x>>40&(sketchWidth-1)] += float32(v)
					} else {
						sketch[x>>40&(sketchWidth-1)] -= float32(v)
					}
				}
			}
			switch {
			case s.each:
				for k, v := range row {
					take(v, k)
				}
			case !second:
				per := len(s.cols) / s.groupsA
				base := int(r) / (int(s.a.v.rows) / s.groupsA) * per
				for c := range per {
					if s.cols[base+c] < 0 {
						continue
					}
					for k, v := range row[c*s.inner : (c+1)*s.inner] {
						if s.colScale != nil {
							v /= s.colScale[base+c]
						}
						take(v, (base+c)*s.inner+k)
					}
				}
			default:
				group := int(r) / (int(s.b.v.rows) / s.groupsB)
				per := len(s.inverse) / s.groupsB
				for _, j := range ordered[group] {
					c := int(j) - group*per
					for k, v := range row[c*s.inner : (c+1)*s.inner] {
						take(v, int(s.inverse[j])*s.inner+k)
					}
				}
			}
			out[i] = rowInfo{h, norm}
		}
		return nil
	})
	return out, err
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
	if len(free) > 0 && len(freeB) > 0 {
		var err error
		if free, freeB, err = s.exact(ctx, free, freeB); err != nil {
			return err
		}
		if err := s.similar(ctx, free, freeB); err != nil {
			return err
		}
	}
	return s.judge(ctx)
}

// exact pairs rows whose numbers are the same, and returns those that are left.
func (s *assignment) exact(ctx context.Context, free, freeB []int32) (restA, restB []int32, err error) {
	ia, err := s.survey(ctx, false, free, nil)
	if err != nil {
		return nil, nil, err
	}
	ib, err := s.survey(ctx, true, freeB, nil)
	if err != nil {
		return nil, nil, err
	}
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
	for _, f := range free {
		if s.to[f] < 0 {
			restA = append(restA, f)
		}
	}
	for _, q := range freeB {
		if !used[q] {
			restB = append(restB, q)
		}
	}
	return restA, restB, nil
}

// twins pairs rows of the same weights: by their bias where it tells them apart,
// then at the same index, then in order.
func (s *assignment) twins(la, lb []int32, used map[int32]bool) {
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
func (s *assignment) similar(ctx context.Context, free, freeB []int32) error {
	if len(free) == 0 || len(freeB) == 0 {
		return nil
	}
	list, err := s.candidates(ctx, free, freeB)
	if err != nil {
		return err
	}
	if err := s.measure(ctx, list); err != nil {
		return err
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
func (s *assignment) candidates(ctx context.Context, free, freeB []int32) ([]candidate, error) {
	if len(free)*len(freeB) <= 1<<10 {
		var list []candidate
		for _, f := range free {
			for _, q := range freeB {
				list = append(list, candidate{f: f, q: q})
			}
		}
		return list, nil
	}
	// Few rows of B at a time, so that memory does not grow with the layer.
	const block = 512
	sa := make([]float32, len(free)*sketchWidth)
	ia, err := s.survey(ctx, false, free, sa)
	if err != nil {
		return nil, err
	}
	normalise(sa, ia)
	const most = 8
	ofA := make([][]candidate, len(free))
	seen := map[[2]int32]bool{}
	var list []candidate
	product := make([]float32, len(free)*block)
	for from := 0; from < len(freeB); from += block {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		part := freeB[from:min(from+block, len(freeB))]
		sb := make([]float32, len(part)*sketchWidth)
		ib, err := s.survey(ctx, true, part, sb)
		if err != nil {
			return nil, err
		}
		normalise(sb, ib)
		p := blas32.General{Rows: len(free), Cols: len(part), Stride: len(part), Data: product[:len(free)*len(part)]}
		blas32.Gemm(blas.NoTrans, blas.Trans, 1,
			blas32.General{Rows: len(free), Cols: sketchWidth, Stride: sketchWidth, Data: sa},
			blas32.General{Rows: len(part), Cols: sketchWidth, Stride: sketchWidth, Data: sb}, 0, p)
		for q := range part {
			// The most similar rows of A to this one of B.
			var best []candidate
			for f := range free {
				best = keepBest(best, candidate{int32(f), int32(q), float64(p.Data[f*len(part)+q])}, most)
			}
			for _, c := range prune(best) {
				pair := [2]int32{free[c.f], part[q]}
				if !seen[pair] {
					seen[pair] = true
					list = append(list, candidate{f: pair[0], q: pair[1]})
				}
			}
		}
		for f := range free {
			for q, v := range p.Data[f*len(part) : (f+1)*len(part)] {
				ofA[f] = keepBest(ofA[f], candidate{free[f], part[q], float64(v)}, most)
			}
		}
	}
	for _, best := range ofA {
		for _, c := range prune(best) {
			pair := [2]int32{c.f, c.q}
			if !seen[pair] {
				seen[pair] = true
				list = append(list, candidate{f: c.f, q: c.q})
			}
		}
	}
	// Where a row was changed beyond recognition, its own index is the first guess.
	for _, f := range free {
		if _, ok := slices.BinarySearch(freeB, f); ok && !seen[[2]int32{f, f}] {
			list = append(list, candidate{f: f, q: f})
		}
	}
	return list, nil
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

func normalise(sketches []float32, info []rowInfo) {
	for i, x := range info {
		if x.norm == 0 {
			continue
		}
		d := float32(1 / math.Sqrt(x.norm))
		row := sketches[i*sketchWidth : (i+1)*sketchWidth]
		for k := range row {
			row[k] *= d
		}
	}
}

// measure computes the cosines of candidates from the weights themselves.
func (s *assignment) measure(ctx context.Context, list []candidate) error {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int {
		return cmp.Or(cmp.Compare(list[x].f, list[y].f), cmp.Compare(list[x].q, list[y].q))
	})
	return s.pairs(ctx, len(order), func(k int) (int32, int32) { return list[order[k]].f, list[order[k]].q },
		func(k int, x, y []float64) {
			var xx, yy, xy float64
			for i, a := range x {
				if b := y[i]; a-a == 0 && b-b == 0 {
					xx += a * a
					yy += b * b
					xy += a * b
				}
			}
			c := &list[order[k]]
			switch {
			case xx == 0 && yy == 0:
				c.cosine = 1
			case xx > 0 && yy > 0:
				c.cosine = min(max(xy/math.Sqrt(xx)/math.Sqrt(yy), -1), 1)
			}
		})
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

// judge compares the weights of each pair that was found.
func (s *assignment) judge(ctx context.Context) error {
	var rows []int32
	for f, q := range s.to {
		if q >= 0 {
			rows = append(rows, int32(f))
		}
	}
	tallies := make([]tally, len(rows))
	err := s.pairs(ctx, len(rows), func(k int) (int32, int32) { return rows[k], s.to[rows[k]] },
		func(k int, x, y []float64) {
			f := rows[k]
			t := tally{tol: s.tol}
			var xx, yy, xy float64
			for i, a := range x {
				b := y[i]
				t.add(a, b, s.place(int(f), i), math.Abs(a))
				if a-a == 0 && b-b == 0 {
					xx += a * a
					yy += b * b
					xy += a * b
				}
			}
			if xx > 0 && yy > 0 {
				s.cosine[f] = min(max(xy/math.Sqrt(xx)/math.Sqrt(yy), -1), 1)
				s.scale[f] = xy / xx
			} else {
				s.cosine[f], s.scale[f] = math.NaN(), 1
			}
			st := &s.status[f]
			st.same = t.v.Beyond == 0
			if st.same {
				s.scale[f] = 1
			} else if xx > 0 && yy > 0 && t.v.NaNA+t.v.NaNB+t.v.InfA+t.v.InfB == 0 {
				limit := 1e-5 + 4*s.tol.rel
				rest := max(yy-xy*xy/xx, 0)
				st.scaled = s.scale[f] > 0 && rest <= limit*limit*yy && math.Abs(s.scale[f]-1) > limit
			}
			if !st.scaled {
				s.scale[f] = 1
			}
			st.bias = !s.biasAlike(f, s.to[f], s.scale[f])
			tallies[k] = t
		})
	for k := range tallies {
		s.sum.merge(&tallies[k])
	}
	return err
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
