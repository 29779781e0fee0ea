package compact

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// A padded convolution sees a constant channel everywhere but at the border, so
// its bias cannot stand for it. But another constant channel can: what reads
// channel c, of value v, is the same as what reads channel a, of value w, with
// v/w times the weights. So all constant channels of a group but one can go.

// A mergedPlace says that a place of a reader's input is added to another one.
type mergedPlace struct {
	from, to int
	ratio    float64
}

// merge removes constant channels that others can stand for.
func (s *solution) merge() {
	s.merged = map[*sink][]mergedPlace{}
	for again := true; again; {
		again = false
		for g, list := range s.groups {
			stuck := slices.DeleteFunc(slices.Clone(list), func(c int) bool { return !s.stuck(c) })
			anchor, ok := s.anchor[g]
			if !ok {
				// One that is to go stands for none.
				fit := slices.DeleteFunc(slices.Clone(stuck), func(c int) bool { _, wanted := s.rank[c]; return wanted })
				if len(stuck) < 2 || len(fit) == 0 {
					continue
				}
				anchor = slices.MaxFunc(fit, s.size)
			}
			var free []int
			for _, c := range stuck {
				if places, ok := s.standIn(c, anchor); c != anchor && !s.held[c] && ok {
					s.anchor[g], s.held[anchor] = anchor, true
					for k, list := range places {
						s.merged[k] = append(s.merged[k], list...)
					}
					free = append(free, s.remove(c, constant)...)
					again = true
				}
			}
			s.spread(free)
		}
	}
}

// stuck tells whether a channel stays only because readers cannot make up for
// its being constant.
func (s *solution) stuck(c int) bool {
	if s.why[c] != stays || s.a.pinned[c] != "" || s.blockers[c] == 0 {
		return false
	}
	ok := true
	s.blocked(c, func(k *sink, place int) {
		x := s.masked.of(k.in)[place]
		ok = ok && x == x
	})
	return ok
}

// blocked calls fn with the readers that need a channel, and the place that they
// read.
func (s *solution) blocked(c int, fn func(k *sink, place int)) {
	for _, slot := range s.a.members(c) {
		for _, k := range s.readsOf[s.a.owner[slot]] {
			if place := int(slot) - k.in.base; s.counts[k.number][place] > 0 {
				fn(k, place)
			}
		}
	}
}

// value is what a stuck channel holds where it is first read.
func (s *solution) value(c int) (x float64) {
	first := true
	s.blocked(c, func(k *sink, place int) {
		if first {
			x, first = s.masked.of(k.in)[place], false
		}
	})
	return x
}

// size orders channels by what they hold where they are first read.
func (s *solution) size(c, d int) int {
	switch x, y := math.Abs(s.value(c)), math.Abs(s.value(d)); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return d - c
}

// standIn finds how channel d can stand for channel c at each reader that needs
// it.
func (s *solution) standIn(c, d int) (map[*sink][]mergedPlace, bool) {
	ok := true
	out := map[*sink][]mergedPlace{}
	s.blocked(c, func(k *sink, place int) {
		p := s.a.params[k.weight]
		t := p.stored.Tensor.DType()
		if !s.a.own(p) || len(p.stored.Through) > 0 || k.w.row != 0 || k.w.column != 1 || t != onnxfile.Float && t != onnxfile.Double {
			ok = false
			return
		}
		// The same place among those of d in this tensor.
		at, rank := -1, 0
		for _, slot := range s.a.members(c) {
			if q := int(slot) - k.in.base; q >= 0 && q < place {
				rank++
			}
		}
		for _, slot := range s.a.members(d) {
			if q := int(slot) - k.in.base; q >= 0 && q < k.in.n {
				if rank == 0 {
					at = q
				}
				rank--
			}
		}
		if at < 0 || at/k.columns() != place/k.columns() {
			ok = false
			return
		}
		x, y := s.masked.of(k.in)[place], s.masked.of(k.in)[at]
		ratio := x / y
		if y == 0 || math.IsNaN(ratio) || math.Abs(ratio) > 1e6 {
			ok = false
			return
		}
		out[k] = append(out[k], mergedPlace{place, at, ratio})
	})
	return out, ok
}

// mergeWeights returns an edit for the raw bytes of the weight of k, which adds
// the kernels of places that go to those that stand for them.
func (e *editor) mergeWeights(k *sink) (func(b []byte, off int64), error) {
	list := e.s.merged[k]
	if len(list) == 0 {
		return nil, nil
	}
	dims := k.w.t.Dims()
	inner := int64(1)
	for _, d := range dims[2:] {
		inner *= d
	}
	// What is added to each kernel of a place that stands for others: by place, of
	// all rows.
	sums := map[int][]float64{}
	into := map[int][]mergedPlace{}
	for _, m := range list {
		into[m.from] = append(into[m.from], m)
		sums[m.to] = make([]float64, int64(k.out.n)*inner)
	}
	columns, rows := int64(k.columns()), k.rows()
	at := int64(0)
	err := k.w.t.Values(func(block []float64) error {
		for i := 0; i < len(block); {
			kernel := at / inner
			n := int(min(inner-at%inner, int64(len(block)-i)))
			o := int(kernel / columns)
			for _, m := range into[o/rows*int(columns)+int(kernel%columns)] {
				to := sums[m.to][int64(o)*inner+at%inner:]
				for j, v := range block[i : i+n] {
					to[j] += m.ratio * v
				}
			}
			i, at = i+n, at+int64(n)
		}
		return e.ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	width := k.w.t.DType().Bits() / 8
	return func(b []byte, off int64) {
		first := off / width
		last := first + int64(len(b))/width
		for place, sum := range sums {
			q := place / int(columns) * rows
			for o := q; o < q+rows; o++ {
				start := (int64(o)*columns + int64(place)%columns) * inner
				for i := max(start, first); i < min(start+inner, last); i++ {
					add(b[(i-first)*width:], width, sum[int64(o)*inner+i-start])
				}
			}
		}
	}, nil
}

// add adds v to a little-endian float or double.
func add(b []byte, width int64, v float64) {
	if width == 8 {
		binary.LittleEndian.PutUint64(b, math.Float64bits(math.Float64frombits(binary.LittleEndian.Uint64(b))+v))
		return
	}
	binary.LittleEndian.PutUint32(b, math.Float32bits(float32(float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))+v)))
}
