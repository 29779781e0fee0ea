package gorgonia

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesPool has the operators that look at an image through a window or as a
// whole.
func rulesPool() map[string]rule {
	pool := func(types typeSet, outputs int, bind binding, attributes ...string) rule {
		return withHalf(rule{
			attributes: append([]string{"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"}, attributes...),
			least:      1, most: 1, outputs: outputs, types: []typeSet{types}, check: checkPool, bind: bind,
		})
	}
	most := byType{f32: bindMaxPool[float32], f64: bindMaxPool[float64], i8: bindMaxPool[int8], u8: bindMaxPool[uint8]}
	average := byType{f32: bindAveragePool[float32], f64: bindAveragePool[float64]}
	lp := byType{f32: bindLpPool[float32], f64: bindLpPool[float64]}
	global := withHalf(rule{least: 1, most: 1, types: []typeSet{realSet}, bind: byType{f32: bindGlobalPool[float32], f64: bindGlobalPool[float64]}.first})
	globalLp := global
	globalLp.attributes = []string{"p"}
	return map[string]rule{
		"MaxPool":           pool(realSet|1<<int8Type|1<<uint8Type, 2, most.first, "storage_order"),
		"AveragePool":       pool(realSet, 1, average.first, "count_include_pad"),
		"LpPool":            pool(realSet, 1, lp.first, "p"),
		"GlobalMaxPool":     global,
		"GlobalAveragePool": global,
		"GlobalLpPool":      globalLp,
	}
}

func checkPool(n *node) error {
	if n.attributes["kernel_shape"] == nil {
		return errors.New("it has no kernel_shape")
	}
	return nil
}

// maxWindow bounds the places of a window along one dimension and how far apart
// they are, because they come from files.
const maxWindow = 1 << 20

// pooling returns where the windows of a pooling lie, the images' count (samples
// times channels) and the shape of the result.
func (b *binder) pooling() (w compute.Windows, planes int, shape []int, err error) {
	x := b.in[0].shape
	rank := len(x) - 2
	if rank < 1 || rank > 3 {
		return w, 0, nil, fmt.Errorf("pooling of rank %d is lacking", len(x))
	}
	for _, s := range []struct {
		name    string
		n       int
		missing int
		to      *[]int
	}{{"kernel_shape", rank, 0, &w.Kernel}, {"strides", rank, 1, &w.Stride}, {"dilations", rank, 1, &w.Dilation}, {"pads", 2 * rank, 0, &w.Begin}} {
		if *s.to, err = b.ints(s.name, s.n, s.missing); err != nil {
			return w, 0, nil, err
		}
	}
	// The slices are changed below, and attributes are not.
	w.Begin, w.End = slices.Clone(w.Begin[:rank]), slices.Clone(w.Begin[rank:])
	w.In, w.Out = x[2:], make([]int, rank)
	ceil := b.integer("ceil_mode", 0) != 0
	mode := b.text("auto_pad")
	for i, in := range w.In {
		if w.Kernel[i] < 1 || w.Stride[i] < 1 || w.Dilation[i] < 1 {
			return w, 0, nil, errors.New("kernel_shape, strides and dilations must be positive")
		}
		if w.Kernel[i] > maxWindow || w.Dilation[i] > maxWindow {
			return w, 0, nil, fmt.Errorf("a window of %d places, %d apart, is too large", w.Kernel[i], w.Dilation[i])
		}
		extent := (w.Kernel[i]-1)*w.Dilation[i] + 1
		switch mode {
		case "", "NOTSET":
		case "VALID":
			w.Begin[i], w.End[i] = 0, 0
		case "SAME_UPPER", "SAME_LOWER":
			total := ((in+w.Stride[i]-1)/w.Stride[i]-1)*w.Stride[i] + extent - in
			if total < -1 && b.op == "LpPool" {
				return w, 0, nil, errSameCuts
			}
			total = max(0, total)
			w.Begin[i], w.End[i] = total/2, total-total/2
			if mode == "SAME_LOWER" {
				w.Begin[i], w.End[i] = w.End[i], w.Begin[i]
			}
		default:
			return w, 0, nil, fmt.Errorf("auto_pad %q is unknown", mode)
		}
		if w.Begin[i] >= extent || w.End[i] >= extent {
			return w, 0, nil, errors.New("padding as wide as the window is lacking")
		}
		room := in + w.Begin[i] + w.End[i] - extent
		if room < 0 {
			return w, 0, nil, fmt.Errorf("a window of %d does not fit in %d", extent, in+w.Begin[i]+w.End[i])
		}
		w.Out[i] = room/w.Stride[i] + 1
		// One window more that sticks out, unless it would begin in the padding at
		// the end (ONNX, MaxPool, ceil_mode).
		if ceil && room%w.Stride[i] != 0 && w.Out[i]*w.Stride[i] < in+w.Begin[i] {
			w.Out[i]++
		}
	}
	return w, x[0] * x[1], append(slices.Clone(x[:2]), w.Out...), nil
}

// bindMaxPool finds NaN in a window that holds one, which ONNX Runtime does for
// some widths and not for others, and minus infinity in a window of nothing
// else, where it may find the lowest finite number.
func bindMaxPool[T compute.Number](b *binder) (kernel, error) {
	w, planes, shape, err := b.pooling()
	if err != nil {
		return nil, err
	}
	d := b.in[0].dtype
	columns := b.integer("storage_order", 0) != 0
	if len(b.out) < 2 || b.out[1] < 0 {
		return &each{spec{d, shape}, func(r *run, in []*value, out *value) error {
			compute.MaxPool(r.workers, elements[T](out), elements[T](in[0]), planes, w)
			return nil
		}}, nil
	}
	if columns && len(w.In) != 2 {
		return nil, errors.New("indices column by column of other than images are lacking")
	}
	return &several{[]spec{{d, shape}, {onnxfile.Int64, shape}}, func(r *run, in, out []*value) error {
		if out[1] == nil {
			compute.MaxPool(r.workers, elements[T](out[0]), elements[T](in[0]), planes, w)
			return nil
		}
		compute.MaxPoolIndices(r.workers, elements[T](out[0]), out[1].ints(), elements[T](in[0]), planes, w, columns)
		return nil
	}}, nil
}

func bindAveragePool[T compute.Float](b *binder) (kernel, error) {
	w, planes, shape, err := b.pooling()
	if err != nil {
		return nil, err
	}
	padding := b.integer("count_include_pad", 0) != 0
	return &each{spec{b.in[0].dtype, shape}, func(r *run, in []*value, out *value) error {
		compute.AveragePool(r.workers, typed[T](out), typed[T](in[0]), planes, w, padding)
		return nil
	}}, nil
}

func bindLpPool[T compute.Float](b *binder) (kernel, error) {
	w, planes, shape, err := b.pooling()
	if err != nil {
		return nil, err
	}
	p := b.integer("p", 2)
	if p < 1 {
		return nil, fmt.Errorf("p %d is not positive", p)
	}
	return &each{spec{b.in[0].dtype, shape}, func(r *run, in []*value, out *value) error {
		compute.LpPool(r.workers, typed[T](out), typed[T](in[0]), planes, w, float64(p))
		return nil
	}}, nil
}

func bindGlobalPool[T compute.Float](b *binder) (kernel, error) {
	x := b.in[0].shape
	if len(x) < 2 {
		return nil, fmt.Errorf("pooling of rank %d is lacking", len(x))
	}
	shape := slices.Clone(x)
	for i := range shape[2:] {
		shape[2+i] = 1
	}
	var f func(row []T) T
	switch b.op {
	case "GlobalMaxPool":
		f = compute.Most[T]
	case "GlobalAveragePool":
		f = compute.Mean[T]
	default:
		p := b.integer("p", 2)
		if p < 1 {
			return nil, fmt.Errorf("p %d is not positive", p)
		}
		f = func(row []T) T {
			var s float64
			for _, v := range row {
				s += math.Pow(math.Abs(float64(v)), float64(p))
			}
			return T(math.Pow(s, 1/float64(p)))
		}
	}
	flat, over := []int{x[0] * x[1], size(x[2:])}, []bool{false, true}
	return &each{spec{b.in[0].dtype, shape}, func(r *run, in []*value, out *value) error {
		compute.Fold(r.workers, f, typed[T](out), typed[T](in[0]), flat, over)
		return nil
	}}, nil
}
