package gorgonia

import (
	"errors"
	"fmt"
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesPool has the operators that look at an image through a window or as a
// whole.
func rulesPool() map[string]rule {
	return map[string]rule{
		"MaxPool":           {attributes: []string{"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"}, least: 1, most: 1, check: checkMaxPool, bind: bindMaxPool},
		"AveragePool":       {attributes: []string{"auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"}, least: 1, most: 1, bind: bindAveragePool},
		"GlobalAveragePool": {least: 1, most: 1, bind: bindGlobalAveragePool},
	}
}

var errRank4 = errors.New("only images (rank 4) are computed")

// window is the geometry of a convolution or pooling over height and width.
type window struct {
	kernel, strides, dilations [2]int
	begin, end                 [2]int // padding
}

// window reads the geometry; in is the image's shape.
func (b *binder) window(in []int, kernel []int) (w window, err error) {
	pair := func(name string, missing int) (v [2]int, err error) {
		s, err := b.ints(name, 2, missing)
		if err == nil {
			v = [2]int(s)
		}
		return v, err
	}
	if len(in) != 4 {
		return w, errRank4
	}
	w.kernel = [2]int(kernel)
	if w.strides, err = pair("strides", 1); err != nil {
		return w, err
	}
	if w.dilations, err = pair("dilations", 1); err != nil {
		return w, err
	}
	pads, err := b.ints("pads", 4, 0)
	if err != nil {
		return w, err
	}
	for i := range 2 {
		if w.kernel[i] < 1 || w.strides[i] < 1 || w.dilations[i] < 1 {
			return w, errors.New("kernel, strides and dilations must be positive")
		}
		size := in[2+i]
		extent := (w.kernel[i]-1)*w.dilations[i] + 1
		switch mode := b.text("auto_pad"); mode {
		case "", "NOTSET":
			w.begin[i], w.end[i] = pads[i], pads[2+i]
		case "VALID":
		case "SAME_UPPER", "SAME_LOWER":
			total := max(0, ((size+w.strides[i]-1)/w.strides[i]-1)*w.strides[i]+extent-size)
			w.begin[i] = total / 2
			w.end[i] = total - total/2
			if mode == "SAME_LOWER" {
				w.begin[i], w.end[i] = w.end[i], w.begin[i]
			}
		default:
			return w, fmt.Errorf("auto_pad %q is unknown", mode)
		}
		if size+w.begin[i]+w.end[i] < extent {
			return w, fmt.Errorf("a window of %d does not fit in %d", extent, size+w.begin[i]+w.end[i])
		}
	}
	return w, nil
}

// outputs returns the shape that a window makes of an image.
func (w *window) outputs(in []int, channels int) ([]int, error) {
	shape := []int{in[0], channels, 0, 0}
	for i := range 2 {
		extent := (w.kernel[i]-1)*w.dilations[i] + 1
		shape[2+i] = (in[2+i]+w.begin[i]+w.end[i]-extent)/w.strides[i] + 1
	}
	_, err := checkedSize(shape)
	return shape, err
}

func longs(v ...int) []int64 { return toInt64s(v) }

func checkMaxPool(n *node) error {
	if p := n.attributes["dilations"]; p != nil && slices.ContainsFunc(p.Ints, func(d int64) bool { return d != 1 }) {
		return errors.New("dilated pooling is lacking")
	}
	if p := n.attributes["kernel_shape"]; p == nil || len(p.Ints) != 2 {
		return errRank4
	}
	return nil
}

// bindMaxPool does not tell minus infinity from the lowest finite number: that
// is what the backend finds in a window with nothing above it.
func bindMaxPool(b *binder) (kernel, error) {
	extent, err := b.ints("kernel_shape", 2, 0)
	if err != nil {
		return nil, err
	}
	x := b.in[0].shape
	w, err := b.window(x, extent)
	if err != nil {
		return nil, err
	}
	for i := range 2 {
		if w.begin[i] >= w.kernel[i] || w.end[i] >= w.kernel[i] {
			return nil, errors.New("padding as wide as the window is lacking")
		}
		if b.integer("ceil_mode", 0) == 0 || b.text("auto_pad") != "" && b.text("auto_pad") != "NOTSET" {
			continue
		}
		// One window more at the end is padding of what it sticks out, unless it
		// would begin in the padding (ONNX, MaxPool, ceil_mode).
		size := x[2+i]
		rest := size + w.begin[i] + w.end[i] - w.kernel[i]
		count := (rest + w.strides[i] - 1) / w.strides[i]
		if count*w.strides[i] >= size+w.begin[i] {
			count--
		}
		w.end[i] += max(0, count*w.strides[i]-rest)
		if w.end[i] >= w.kernel[i]+w.strides[i] {
			return nil, errors.New("this form of ceil_mode is lacking")
		}
	}
	shape, err := w.outputs(x, x[1])
	if err != nil {
		return nil, err
	}
	positions := size(shape[1:])
	if positions > maxPositions {
		return nil, fmt.Errorf("%d positions are more than the %d that are pooled", positions, maxPositions)
	}
	// Gorgonia reads four pads as end and begin of the height, then of the width.
	attributes := map[string]any{
		"kernel_shape": longs(extent...),
		"pads":         longs(w.end[0], w.begin[0], w.end[1], w.begin[1]),
		"strides":      longs(w.strides[:]...),
	}
	return b.split(max(1, positionBudget/positions), shape, func() (kernel, error) { return b.call("MaxPool", attributes) })
}

// Gorgonia keeps eight bytes for each position that a pooling makes, as long as
// the plan lives. positionBudget bounds that where there are several samples, to
// 8 MiB; maxPositions bounds one sample.
const (
	positionBudget = 1 << 20
	maxPositions   = 1 << 24
)

// bindAveragePool lowers the two forms that need no averaging operator of their
// own: windows of one position, and one window over all positions.
func bindAveragePool(b *binder) (kernel, error) {
	lacking := errors.New("average pooling with more than one window is lacking")
	if p := b.attributes["kernel_shape"]; p == nil || len(p.Ints) != 2 {
		return nil, errRank4
	}
	kernel, err := b.ints("kernel_shape", 2, 0)
	if err != nil {
		return nil, err
	}
	x := b.in[0].shape
	w, err := b.window(x, kernel)
	if err != nil {
		return nil, err
	}
	if w.begin != [2]int{} || w.end != [2]int{} {
		return nil, lacking
	}
	if w.kernel == [2]int{1, 1} && w.strides == [2]int{1, 1} {
		return view{spec{onnxfile.Float, x}}, nil
	}
	if w.kernel != [2]int(x[2:]) || w.dilations != [2]int{1, 1} {
		return nil, lacking
	}
	return b.call("GlobalAveragePool", nil)
}

func bindGlobalAveragePool(b *binder) (kernel, error) {
	if len(b.in[0].shape) != 4 {
		return nil, errRank4
	}
	return b.call("GlobalAveragePool", nil)
}
