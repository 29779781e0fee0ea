package delta

import (
	"context"
	"errors"
	"math"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// A view is a tensor as the canonical form sees it: a matrix of rows times cols,
// read from the file on demand, transposed or scaled on the way where the file
// has another form.
type view struct {
	name       string
	dtype      onnxfile.DType
	dims       []int64 // as the node sees it
	rows, cols int64
	t          onnxfile.Tensor
	stored     bool
	// flipped says, of a constant that is no matrix yet, that t is its transpose.
	flipped bool
	// transposed says that t is stored with cols times rows.
	transposed bool
	scale      []float64 // of each row, nil for ones
	vals       []float64 // in the place of t
	mag        []float64 // size of what each of vals was summed from
	computed   bool      // vals do not stand in the file
}

func (v *view) count() int64 { return v.rows * v.cols }

// made tells whether the numbers were computed from those in the file.
func (v *view) made() bool { return v.computed || v.scale != nil }

// maxLoad bounds the numbers of a tensor that is read as a whole.
const maxLoad = 1 << 22

var errTooLong = errors.New("too many numbers to keep in memory")

// load reads all numbers in the order of the stored tensor; it fails with
// errTooLong above maxLoad. The result must not be changed.
func (v *view) load(ctx context.Context) ([]float64, error) {
	if v.vals != nil || !v.stored {
		return v.vals, nil
	}
	if v.count() > maxLoad {
		return nil, errTooLong
	}
	out := make([]float64, 0, min(v.count(), 1<<16))
	err := v.t.Values(func(block []float64) error {
		out = append(out, block...)
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	if v.flipped && len(v.dims) == 2 {
		r, c := int(v.dims[0]), int(v.dims[1])
		turned := make([]float64, len(out))
		for i := range r {
			for j := range c {
				turned[i*c+j] = out[j*r+i]
			}
		}
		out = turned
	}
	return out, nil
}

// sketchSize is how many numbers a sketch has at most.
const sketchSize = 128

// sketch reads numbers at places that follow from the number of rows and columns
// alone, so that two forms of one tensor have one sketch. It is nil where the
// numbers cannot be read one by one.
func (v *view) sketch() ([]float64, error) {
	n := v.count()
	if n == 0 {
		return nil, nil
	}
	at := func(i int64) int64 {
		if n <= sketchSize {
			return i
		}
		x := uint64(i+1) * 0x9e3779b97f4a7c15 // splitmix64
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return int64((x ^ x>>31) % uint64(n))
	}
	out := make([]float64, min(n, sketchSize))
	var all []float64
	if v.vals != nil {
		all = v.vals
	} else if n <= 1<<12 {
		all = make([]float64, 0, n)
		if err := v.t.Values(func(b []float64) error { all = append(all, b...); return nil }); err != nil {
			return nil, unlessUnreadable(err)
		}
	}
	var buf [4]float32
	for i := range out {
		k := at(int64(i))
		row := k / v.cols
		if v.transposed {
			k = (k%v.cols)*v.rows + row
		}
		switch {
		case all != nil:
			out[i] = all[k]
		case v.dtype == onnxfile.Double:
			err := v.t.ValuesIn(k, k+1, func(b []float64) error { out[i] = b[0]; return nil })
			if err != nil {
				return nil, unlessUnreadable(err)
			}
		default:
			err := v.t.Float32sIn(k, k+1, buf[:], func(b []float32) error { out[i] = float64(b[0]); return nil })
			if err != nil {
				return nil, unlessUnreadable(err)
			}
		}
		if v.scale != nil {
			out[i] *= v.scale[row]
		}
	}
	return out, nil
}

// unlessUnreadable drops the errors of tensors whose numbers cannot be read, or
// not from the middle.
func unlessUnreadable(err error) error {
	if errors.Is(err, onnxfile.ErrUnsupportedType) || errors.Is(err, onnxfile.ErrSequential) {
		return nil
	}
	return err
}

// rounding returns by how much a number may differ for the type that it was
// rounded to: relative to its size, and at least.
func rounding(d onnxfile.DType) (rel, abs float64) {
	switch d {
	case onnxfile.Float16:
		// Converters lift what would vanish to 1e-7.
		return 0x1p-11 * (1 + 1e-6), 1.01e-7
	case onnxfile.BFloat16:
		return 0x1p-8 * (1 + 1e-6), 0x1p-133
	case onnxfile.Float:
		return 0x1p-24 * (1 + 1e-6), math.SmallestNonzeroFloat32
	}
	return 0, 0
}

// foldRounding is by how much folding in single precision may change a weight,
// relative to the sizes of what it is computed from: a handful of roundings.
const foldRounding = 0x1p-20

// tolerance says when two numbers are the same.
type tolerance struct{ rel, abs float64 }

// between returns the tolerance of a pair: nothing but opt's where both are
// stored in one type, and what rounding explains where they are not.
func between(a, b *view, opt Options) tolerance {
	t := tolerance{opt.RTol, opt.ATol}
	if a.dtype != b.dtype && a.dtype != 0 && b.dtype != 0 {
		for _, d := range []onnxfile.DType{a.dtype, b.dtype} {
			rel, abs := rounding(d)
			if a.made() || b.made() {
				// Several numbers were rounded, and one was multiplied by the scale.
				rel, abs = 4*rel, abs*max(1, a.largestScale(), b.largestScale())
			}
			t.rel, t.abs = max(t.rel, rel), max(t.abs, abs)
		}
	}
	if a.made() != b.made() || a.made() && b.made() && (a.scale != nil) != (b.scale != nil) {
		t.rel = max(t.rel, foldRounding)
	}
	return t
}

func (v *view) largestScale() (m float64) {
	for _, x := range v.scale {
		if x-x == 0 {
			m = max(m, math.Abs(x))
		}
	}
	return m
}
