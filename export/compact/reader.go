package compact

import (
	"context"
	"math/bits"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// A sink is a reader: a node that mixes channels with stored weights. Output row
// o of group q reads column c of its group.
type sink struct {
	number  int // among all
	node    *inspect.Node
	in, out *track
	groups  int
	weight  string // the stored tensor's name
	w       weights
	// read has a bit for each row and column, set where the kernel is not zero.
	read []uint64
	// count is how many rows read a place of in.
	count []int32
	// padded: a constant other than 0 does not reach every position alike.
	padded bool
	// scale multiplies the products, biasScale the bias (Gemm's alpha and beta).
	scale, biasScale float64
	// bias is what the node itself adds to each row, nil for nothing.
	bias []float64
	// mend adds what removed constants did to the node's bias; nil where that is
	// not possible.
	mend func(e *editor, delta []float64) error
}

func (s *sink) columns() int { return s.in.n / s.groups }
func (s *sink) rows() int    { return s.out.n / s.groups } // of a group
func (s *sink) words() int   { return (s.columns() + 63) / 64 }

func (s *sink) row(o int) []uint64 { return s.read[o*s.words() : (o+1)*s.words()] }

// reads tells whether row o reads column c of its group.
func (s *sink) reads(o, c int) bool { return s.row(o)[c/64]>>(c%64)&1 != 0 }

// columnsOf calls fn with the places of in that row o reads.
func (s *sink) columnsOf(o int, fn func(place int)) {
	base := o / s.rows() * s.columns()
	for w, word := range s.row(o) {
		for word != 0 {
			fn(base + w*64 + bits.TrailingZeros64(word))
			word &= word - 1
		}
	}
}

// find fills read and count from the stored weights.
func (s *sink) find(ctx context.Context) error {
	s.read = make([]uint64, s.out.n*s.words())
	s.count = make([]int32, s.in.n)
	rows, columns, words := s.rows(), s.columns(), s.words()
	return s.w.each(ctx, func(o, c, down, right int, kernels []float64, inner int) {
		for len(kernels) > 0 {
			for _, v := range kernels[:inner] {
				if v != 0 {
					at, bit := o*words+c/64, uint64(1)<<(c%64)
					if s.read[at]&bit == 0 {
						s.read[at] |= bit
						s.count[o/rows*columns+c]++
					}
					break
				}
			}
			kernels = kernels[inner:]
			o, c = o+down, c+right
		}
	})
}

// sums adds factor times the sum of each kernel to its row. factor is that of a
// place of in; kernels whose factor is 0 are left out.
func (s *sink) sums(ctx context.Context, factor, rows []float64) error {
	per, columns := s.rows(), s.columns()
	return s.w.each(ctx, func(o, c, down, right int, kernels []float64, inner int) {
		for len(kernels) > 0 {
			if f := factor[o/per*columns+c]; f != 0 {
				sum := 0.0
				for _, v := range kernels[:inner] {
					sum += v
				}
				rows[o] += f * sum
			}
			kernels = kernels[inner:]
			o, c = o+down, c+right
		}
	})
}

// weights is a stored tensor of kernels.
type weights struct {
	t onnxfile.Tensor
	// row and column are the stored axes of the outputs and of the inputs.
	row, column int
}

// each calls fn with all kernels, in the order in which they are stored: runs of
// kernels of inner numbers, or of parts of them, the first of which is of row o
// and column c and each further one down rows and right columns on. A kernel may
// come in several parts.
func (w weights) each(ctx context.Context, fn func(o, c, down, right int, kernels []float64, inner int)) error {
	dims := w.t.Dims()
	last := max(w.row, w.column)
	inner, rowStride, columnStride := int64(1), int64(1), int64(1)
	for _, d := range dims[last+1:] {
		inner *= d
	}
	for _, d := range dims[w.row+1:] {
		rowStride *= d
	}
	for _, d := range dims[w.column+1:] {
		columnStride *= d
	}
	if inner == 0 {
		return nil
	}
	down, right := 0, 1
	if w.row == last {
		down, right = 1, 0
	}
	at := int64(0)
	return w.t.Values(func(block []float64) error {
		for len(block) > 0 {
			o, c := int(at/rowStride%dims[w.row]), int(at/columnStride%dims[w.column])
			// As far as the last axis goes, or to the end of a kernel begun.
			size := inner
			n := (dims[last] - at/inner%dims[last]) * inner
			if begun := at % inner; begun != 0 {
				size = inner - begun
				n = size
			}
			n = min(n, int64(len(block)))
			if n < size {
				size = n
			} else {
				n -= n % size
			}
			fn(o, c, down, right, block[:n], int(size))
			block, at = block[n:], at+n
		}
		return ctx.Err()
	})
}

// values are the numbers that slots hold in every run, NaN where that varies.
type values struct {
	ctx context.Context // of the evaluation
	v   []float64
	// asked are the slots whose channels are removed on request: readers get 0.
	asked []bool
}

func (v *values) of(t *track) []float64 { return v.v[t.base : t.base+t.n] }

// at is what s gets from a place of its input; ok tells that it is one number and
// has the same effect everywhere.
func (v *values) at(s *sink, place int) (x float64, ok bool) {
	slot := s.in.base + place
	if v.asked != nil && v.asked[slot] {
		return 0, true
	}
	x = v.v[slot]
	return x, x == 0 || x == x && !s.padded
}

// evaluate finds the rows of s that are constant.
func (s *sink) evaluate(v *values) error {
	varies := make([]uint64, s.groups*s.words())
	matters := make([]uint64, s.groups*s.words())
	factor := make([]float64, s.in.n)
	for p := range s.in.n {
		q, c := p/s.columns(), p%s.columns()
		x, ok := v.at(s, p)
		switch {
		case !ok:
			varies[q*s.words()+c/64] |= 1 << (c % 64)
		case x != 0:
			factor[p] = x
			matters[q*s.words()+c/64] |= 1 << (c % 64)
		}
	}
	out := v.of(s.out)
	needed := false
	for o := range out {
		q := o / s.rows() * s.words()
		constant := true
		for w, word := range s.row(o) {
			if word&varies[q+w] != 0 {
				constant = false
				break
			}
			needed = needed || word&matters[q+w] != 0
		}
		out[o] = nan
		if constant {
			out[o] = 0
		}
	}
	sums := make([]float64, len(out))
	if needed {
		if err := s.sums(v.ctx, factor, sums); err != nil {
			return err
		}
	}
	for o := range out {
		out[o] += s.scale * sums[o]
		if s.bias != nil {
			out[o] += s.biasScale * s.bias[o]
		}
	}
	return nil
}
