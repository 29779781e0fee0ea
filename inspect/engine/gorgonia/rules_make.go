package gorgonia

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// rulesMake has the operators that change element types or make tensors of
// little.
func rulesMake() map[string]rule {
	any1 := []typeSet{anySet}
	return map[string]rule{
		"Cast":            {attributes: []string{"round_mode", "saturate", "to"}, least: 1, most: 1, types: any1, empty: true, bind: bindCast},
		"CastLike":        {attributes: []string{"round_mode", "saturate"}, least: 2, most: 2, types: any1, empty: true, bind: bindCastLike},
		"ConstantOfShape": {attributes: []string{"value"}, least: 1, most: 1, types: []typeSet{1 << onnxfile.Int64}, empty: true, bind: bindConstantOfShape},
		"Range":           withHalf(rule{attributes: []string{"stash_type"}, least: 3, most: 3, types: []typeSet{numberSet}, bind: byType{f32: bindRange[float32], f64: bindRange[float64], i64: bindRange[int64], i32: bindRange[int32], i16: bindRange[int16]}.first}),
		"OneHot":          {attributes: []string{"axis"}, least: 3, most: 3, types: []typeSet{numberSet, numberSet, anySet}, bind: bindOneHot},
		"EyeLike":         {attributes: []string{"dtype", "k"}, least: 1, most: 1, types: any1, bind: bindEyeLike},
	}
}

// convert writes the numbers of src as those of dst's type.
func convert(dst, src *value) error {
	if halfSet.has(src.dtype) {
		wide := widened(src.dtype, typed[uint16](src))
		return convert(dst, floatValue(wide, src.shape...))
	}
	switch x := src.data.(type) {
	case []float32:
		return convertFrom(dst, x)
	case []float64:
		return convertFrom(dst, x)
	case []int64:
		return convertFrom(dst, x)
	case []int32:
		return convertFrom(dst, x)
	case []int16:
		return convertFrom(dst, x)
	case []int8:
		return convertFrom(dst, x)
	case []uint64:
		return convertFrom(dst, x)
	case []uint32:
		return convertFrom(dst, x)
	case []uint16:
		return convertFrom(dst, x)
	case []uint8:
		return convertFrom(dst, x)
	case []bool:
		return convertFrom(dst, over[uint8](x))
	}
	return fmt.Errorf("type %s is lacking", src.dtype)
}

func convertFrom[S compute.Number](dst *value, x []S) error {
	if halfSet.has(dst.dtype) {
		wide := make([]float32, len(x))
		compute.Convert(wide, x)
		narrow(dst.dtype, typed[uint16](dst), wide)
		return nil
	}
	switch y := dst.data.(type) {
	case []float32:
		compute.Convert(y, x)
	case []float64:
		compute.Convert(y, x)
	case []int64:
		compute.Convert(y, x)
	case []int32:
		compute.Convert(y, x)
	case []int16:
		compute.Convert(y, x)
	case []int8:
		compute.Convert(y, x)
	case []uint64:
		compute.Convert(y, x)
	case []uint32:
		compute.Convert(y, x)
	case []uint16:
		compute.Convert(y, x)
	case []uint8:
		compute.Convert(y, x)
	case []bool:
		compute.ToBool(y, x)
	default:
		return fmt.Errorf("type %s is lacking", dst.dtype)
	}
	return nil
}

// scalar returns a number as a value of type d.
func scalar(d onnxfile.DType, x float64) (*value, error) {
	v := newValue(spec{d, nil})
	return v, convert(v, &value{onnxfile.Double, nil, []float64{x}})
}

// castTo is a kernel that converts the first input.
func (b *binder) castTo(to onnxfile.DType) (kernel, error) {
	x := b.in[0]
	if !anySet.has(to) {
		return nil, fmt.Errorf("type %s is lacking", to)
	}
	if to == x.dtype {
		return b.reshapedTo(x.shape), nil
	}
	if x.dtype == onnxfile.Float && halfSet.has(to) || halfSet.has(x.dtype) && to == onnxfile.Float {
		return &each{spec{to, x.shape}, func(r *run, in []*value, out *value) error {
			if to == onnxfile.Float {
				compute.Map(r.workers, func(dst []float32, y []uint16) { widen(x.dtype, dst, y) }, out.floats(), typed[uint16](in[0]))
			} else {
				compute.Map(r.workers, func(dst []uint16, y []float32) { narrow(to, dst, y) }, typed[uint16](out), in[0].floats())
			}
			return nil
		}}, nil
	}
	return &each{spec{to, x.shape}, func(_ *run, in []*value, out *value) error { return convert(out, in[0]) }}, nil
}

func bindCast(b *binder) (kernel, error) {
	return b.castTo(onnxfile.DType(b.integer("to", 0)))
}

func bindCastLike(b *binder) (kernel, error) { return b.castTo(b.in[1].dtype) }

// constant is a kernel whose result is v repeated to a shape.
func constant(v *value, shape []int) kernel {
	s := spec{v.dtype, shape}
	return moved(s, repeated[uint8](v), repeated[uint16](v), repeated[uint32](v), repeated[uint64](v))
}

func repeated[T bits](v *value) func(r *run, in []*value, out *value) error {
	return func(r *run, in []*value, out *value) error {
		dst, x := asBits[T](out), asBits[T](v)[0]
		for i := range dst {
			dst[i] = x
		}
		return nil
	}
}

func bindConstantOfShape(b *binder) (kernel, error) {
	shape, err := b.knownShape(0)
	if err != nil {
		return nil, err
	}
	if len(b.in[0].shape) != 1 {
		return nil, fmt.Errorf("a shape of rank %d", len(b.in[0].shape))
	}
	v := newValue(spec{onnxfile.Float, nil})
	if p := b.attributes["value"]; p != nil {
		if v, err = oneOf(p.GetT()); err != nil {
			return nil, fmt.Errorf("value: %w", err)
		}
	}
	return constant(v, shape), nil
}

// oneOf reads a tensor of one number that stands in an attribute.
func oneOf(t *onnxpb.TensorProto) (*value, error) {
	d := onnxfile.DType(t.GetDataType())
	storage, ok := storageFor(d)
	if !ok || t.GetDataLocation() != onnxpb.TensorProto_DEFAULT {
		return nil, fmt.Errorf("a tensor of type %s is lacking", d)
	}
	v := newValue(spec{d, nil})
	if raw := t.GetRawData(); len(raw) > 0 {
		if len(raw) != storage.width {
			return nil, errors.New("it is not one number")
		}
		copy(storage.bytes(v.data), raw)
		fromLittleEndian(storage.bytes(v.data), storage.width)
		if x, ok := v.data.([]bool); ok {
			x[0] = raw[0] != 0
		}
		return v, nil
	}
	// Every type has the field that the format gives it.
	switch {
	case d == onnxfile.Float && len(t.FloatData) == 1:
		return v, convertFrom(v, t.FloatData)
	case d == onnxfile.Double && len(t.DoubleData) == 1:
		return v, convertFrom(v, t.DoubleData)
	case d == onnxfile.Int64 && len(t.Int64Data) == 1:
		return v, convertFrom(v, t.Int64Data)
	case (d == uint64Type || d == uint32Type) && len(t.Uint64Data) == 1:
		return v, convertFrom(v, t.Uint64Data)
	case halfSet.has(d) && len(t.Int32Data) == 1:
		v.data.([]uint16)[0] = uint16(t.Int32Data[0])
		return v, nil
	case (intSet | boolSet).has(d) && len(t.Int32Data) == 1:
		return v, convertFrom(v, t.Int32Data)
	}
	return nil, errors.New("it is not one number")
}

// bindRange needs to know its bounds, because the shape depends on them.
func bindRange[T compute.Number](b *binder) (kernel, error) {
	if err := b.sameTypes(0); err != nil {
		return nil, err
	}
	var bound [3]T
	for i := range bound {
		v, err := b.known(i)
		if err != nil {
			return nil, err
		}
		if size(v.shape) != 1 {
			return nil, fmt.Errorf("input %d has shape %v in place of one number", i, v.shape)
		}
		bound[i] = elements[T](v)[0]
	}
	start, limit, delta := bound[0], bound[1], bound[2]
	if delta == 0 {
		return nil, errors.New("the step is 0")
	}
	n := math.Ceil((float64(limit) - float64(start)) / float64(delta))
	if !(n <= maxElements) {
		return nil, fmt.Errorf("%g numbers are more than %d", n, maxElements)
	}
	shape := []int{int(max(0, n))}
	return &each{spec{b.in[0].dtype, shape}, func(_ *run, _ []*value, out *value) error {
		x := start
		for i := range elements[T](out) {
			elements[T](out)[i] = x
			x += delta
		}
		return nil
	}}, nil
}

func bindOneHot(b *binder) (kernel, error) {
	index := b.in[0].shape
	v, err := b.known(1)
	if err != nil {
		return nil, err
	}
	if size(v.shape) != 1 || !slices.Equal(b.in[2].shape, []int{2}) {
		return nil, fmt.Errorf("a depth of shape %v and values of shape %v are lacking", v.shape, b.in[2].shape)
	}
	depth := newValue(spec{onnxfile.Int64, nil})
	if err := convert(depth, v); err != nil {
		return nil, err
	}
	n := depth.ints()[0]
	if n < 1 || n > maxElements {
		return nil, fmt.Errorf("depth %d is lacking", n)
	}
	at, err := axis(b.integer("axis", -1), len(index)+1)
	if err != nil {
		return nil, err
	}
	shape := slices.Insert(slices.Clone(index), at, int(n))
	inner := size(index[at:])
	s := spec{b.in[2].dtype, shape}
	return moved(s, oneHot[uint8](n, inner), oneHot[uint16](n, inner), oneHot[uint32](n, inner), oneHot[uint64](n, inner)), nil
}

// oneHot leaves numbers out of range without a one, as ONNX says.
func oneHot[T bits](depth int64, inner int) func(r *run, in []*value, out *value) error {
	return func(r *run, in []*value, out *value) error {
		places := newValue(spec{onnxfile.Int64, in[0].shape})
		if err := convert(places, in[0]); err != nil {
			return err
		}
		off, on := asBits[T](in[2])[0], asBits[T](in[2])[1]
		dst := asBits[T](out)
		for i := range dst {
			dst[i] = off
		}
		for i, k := range places.ints() {
			if k < 0 {
				k += depth
			}
			if k >= 0 && k < depth {
				dst[(i/inner*int(depth)+int(k))*inner+i%inner] = on
			}
		}
		return nil
	}
}

func bindEyeLike(b *binder) (kernel, error) {
	x := b.in[0]
	if len(x.shape) != 2 {
		return nil, fmt.Errorf("rank %d is lacking", len(x.shape))
	}
	to := onnxfile.DType(b.integer("dtype", int64(x.dtype)))
	if !anySet.has(to) {
		return nil, fmt.Errorf("type %s is lacking", to)
	}
	k := b.integer("k", 0)
	one, err := scalar(to, 1)
	if err != nil {
		return nil, err
	}
	rows, cols := x.shape[0], x.shape[1]
	s := spec{to, x.shape}
	diagonal := func(set func(out *value, at int), clear func(out *value)) func(r *run, in []*value, out *value) error {
		return func(_ *run, _ []*value, out *value) error {
			clear(out)
			for i := range rows {
				if j := int64(i) + k; j >= 0 && j < int64(cols) {
					set(out, i*cols+int(j))
				}
			}
			return nil
		}
	}
	return moved(s,
		diagonal(setBits[uint8](one), clearBits[uint8]), diagonal(setBits[uint16](one), clearBits[uint16]),
		diagonal(setBits[uint32](one), clearBits[uint32]), diagonal(setBits[uint64](one), clearBits[uint64])), nil
}

func setBits[T bits](one *value) func(out *value, at int) {
	return func(out *value, at int) { asBits[T](out)[at] = asBits[T](one)[0] }
}

func clearBits[T bits](out *value) { clear(asBits[T](out)) }
