package gorgonia

import (
	"errors"
	"fmt"
	"math"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesQuantize has the steps between numbers and their levels of 8 and 16 bits,
// with which exporters surround the operators of quantized networks.
func rulesQuantize() map[string]rule {
	levels := typeSet(1<<int8Type | 1<<uint8Type | 1<<int16Type | 1<<uint16Type)
	attributes := []string{"axis", "block_size", "output_dtype", "precision", "saturate"}
	return map[string]rule{
		"QuantizeLinear":   {attributes: attributes, least: 2, most: 3, types: []typeSet{floatSet, floatSet, levels}, bind: bindQuantize},
		"DequantizeLinear": {attributes: attributes, least: 2, most: 3, types: []typeSet{levels | 1<<onnxfile.Int32, floatSet, levels | 1<<onnxfile.Int32}, bind: bindDequantize},
	}
}

// scaled returns how many numbers in a row share a scale and how many scales
// there are: one for all, or one for each place of an axis.
func (b *binder) scaled() (stretch, n int, err error) {
	if b.integer("block_size", 0) != 0 {
		return 0, 0, errors.New("scales of blocks are lacking")
	}
	if b.integer("precision", int64(onnxfile.Float)) != int64(onnxfile.Float) && b.integer("precision", 0) != 0 {
		return 0, 0, errors.New("another precision than float is lacking")
	}
	x, scale := b.in[0].shape, b.in[1].shape
	if b.has(2) && size(b.in[2].shape) != size(scale) {
		return 0, 0, fmt.Errorf("scales of shape %v and zero points of shape %v do not fit", scale, b.in[2].shape)
	}
	if size(scale) == 1 && len(scale) <= 1 {
		return size(x), 1, nil
	}
	at, err := axis(b.integer("axis", 1), len(x))
	if err != nil {
		return 0, 0, err
	}
	if len(scale) != 1 || scale[0] != x[at] {
		return 0, 0, fmt.Errorf("scales of shape %v do not fit axis %d of %v", scale, at, x)
	}
	return size(x[at+1:]), scale[0], nil
}

// wideZero returns the zero points as float64, zeros when there are none.
func wideZero(in []*value, n int) ([]float64, error) {
	zero := make([]float64, n)
	if len(in) < 3 || in[2] == nil {
		return zero, nil
	}
	return zero, convert(&value{onnxfile.Double, in[2].shape, zero}, in[2])
}

// bindQuantize rounds x/scale to the nearest level, to the even one between two,
// adds the zero point and stays within the type.
func bindQuantize(b *binder) (kernel, error) {
	to := onnxfile.DType(b.integer("output_dtype", 0))
	switch {
	case b.has(2) && to != 0 && to != b.in[2].dtype:
		return nil, fmt.Errorf("output_dtype %s and zero points of type %s do not fit", to, b.in[2].dtype)
	case b.has(2):
		to = b.in[2].dtype
	case to == 0:
		to = uint8Type
	}
	stretch, n, err := b.scaled()
	if err != nil {
		return nil, err
	}
	switch to {
	case int8Type:
		return quantizing[int8](b, to, stretch, n), nil
	case uint8Type:
		return quantizing[uint8](b, to, stretch, n), nil
	case int16Type:
		return quantizing[int16](b, to, stretch, n), nil
	case uint16Type:
		return quantizing[uint16](b, to, stretch, n), nil
	}
	return nil, fmt.Errorf("type %s is lacking", to)
}

func quantizing[T compute.Integer](b *binder, to onnxfile.DType, stretch, n int) kernel {
	low, high := extremes[T]()
	least, most := float64(low), float64(high)
	return &each{spec{to, b.in[0].shape}, func(r *run, in []*value, out *value) error {
		zero, err := wideZero(in, n)
		if err != nil {
			return err
		}
		scale, x, y := in[1].floats(), in[0].floats(), typed[T](out)
		r.workers.Do(len(x)/stretch, func(k int) {
			s, z := scale[k%n], zero[k%n]
			for i := k * stretch; i < (k+1)*stretch; i++ {
				y[i] = T(min(max(math.RoundToEven(float64(x[i]/s))+z, least), most))
			}
		})
		return nil
	}}
}

func bindDequantize(b *binder) (kernel, error) {
	if to := b.integer("output_dtype", 0); to != 0 && to != int64(onnxfile.Float) {
		return nil, fmt.Errorf("type %s is lacking", onnxfile.DType(to))
	}
	if b.has(2) && b.in[2].dtype != b.in[0].dtype {
		return nil, fmt.Errorf("zero points of type %s do not fit %s", b.in[2].dtype, b.in[0].dtype)
	}
	return byType{i32: dequantizing[int32], i16: dequantizing[int16], i8: dequantizing[int8], u16: dequantizing[uint16], u8: dequantizing[uint8]}.first(b)
}

// dequantizing makes (x - zero point) * scale.
func dequantizing[T compute.Integer](b *binder) (kernel, error) {
	stretch, n, err := b.scaled()
	if err != nil {
		return nil, err
	}
	return &each{spec{onnxfile.Float, b.in[0].shape}, func(r *run, in []*value, out *value) error {
		zero, err := wideZero(in, n)
		if err != nil {
			return err
		}
		scale, x, y := in[1].floats(), typed[T](in[0]), out.floats()
		r.workers.Do(len(x)/stretch, func(k int) {
			s, z := scale[k%n], zero[k%n]
			for i := k * stretch; i < (k+1)*stretch; i++ {
				y[i] = float32(float64(x[i])-z) * s
			}
		})
		return nil
	}}, nil
}
