package gorgonia

import (
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// withHalf lets a rule for floats take float16 and bfloat16 too: the node is
// computed in float32 and what it makes is rounded to the type of its first such
// input, as ONNX Runtime does on processors without arithmetic for these types.
func withHalf(r rule) rule {
	types := slices.Clone(r.types)
	if len(types) == 0 {
		types = []typeSet{floatSet}
	}
	for i, t := range types {
		if t.has(onnxfile.Float) {
			types[i] |= halfSet
		}
	}
	bind := r.bind
	r.types = types
	r.bind = func(b *binder) (kernel, error) {
		half := onnxfile.DType(0)
		for _, o := range b.in {
			if half == 0 && halfSet.has(o.dtype) {
				half = o.dtype
			}
		}
		if half == 0 {
			return bind(b)
		}
		wide := *b
		wide.in = slices.Clone(b.in)
		var mixed []int
		for i, o := range b.in {
			if o.dtype != half {
				if o.dtype == onnxfile.Float {
					mixed = append(mixed, i)
				}
				continue
			}
			wide.in[i].dtype = onnxfile.Float
			if o.constant == nil {
				continue
			}
			constant, err := prepare(b, i, "in float32", func(v *value) (*value, error) {
				return floatValue(widened(half, typed[uint16](v)), v.shape...), nil
			})
			if err != nil {
				return nil, err
			}
			wide.in[i].constant = constant
		}
		k, err := bind(&wide)
		if err != nil {
			return nil, err
		}
		// An operator that mixes types says with its first input what it makes.
		to := half
		if len(mixed) > 0 && mixed[0] == 0 {
			to = onnxfile.Float
		}
		return narrowed(k, half, to), nil
	}
	return r
}

// widened returns numbers of type d, given by their bits, as float32.
func widened(d onnxfile.DType, x []uint16) []float32 {
	y := make([]float32, len(x))
	widen(d, y, x)
	return y
}

func widen(d onnxfile.DType, dst []float32, x []uint16) {
	if d == onnxfile.Float16 {
		compute.FromFloat16(dst, x)
	} else {
		compute.FromBFloat16(dst, x)
	}
}

func narrow(d onnxfile.DType, dst []uint16, x []float32) {
	if d == onnxfile.Float16 {
		compute.ToFloat16(dst, x)
	} else {
		compute.ToBFloat16(dst, x)
	}
}

// narrowed makes of a kernel on float32 one whose inputs of type half are widened
// and whose results of float32 are rounded to type to.
func narrowed(k kernel, half, to onnxfile.DType) kernel {
	specs := slices.Clone(k.results())
	for i := range specs {
		if specs[i].dtype == onnxfile.Float {
			specs[i].dtype = to
		}
	}
	if _, ok := k.(view); ok {
		return view{specs[0]}
	}
	inner := k.results()
	return &several{specs, func(r *run, in, out []*value) error {
		args, results := slices.Clone(in), slices.Clone(out)
		for i, v := range in {
			if v == nil || v.dtype != half {
				continue
			}
			args[i] = floatValue(r.floats(size(v.shape)), v.shape...)
			compute.Map(r.workers, func(dst []float32, x []uint16) { widen(half, dst, x) }, args[i].floats(), typed[uint16](v))
		}
		for i, v := range out {
			if v != nil && v.dtype != inner[i].dtype {
				results[i] = floatValue(r.floats(size(v.shape)), v.shape...)
			}
		}
		if err := k.run(r, args, results); err != nil {
			return err
		}
		for i, v := range out {
			if v != nil && v.dtype != inner[i].dtype {
				compute.Map(r.workers, func(dst []uint16, x []float32) { narrow(to, dst, x) }, typed[uint16](v), results[i].floats())
			}
		}
		return nil
	}}
}
