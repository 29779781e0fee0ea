package gorgonia

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesResize has the operators that scale images.
func rulesResize() map[string]rule {
	scales := floatSet
	return map[string]rule{
		"Resize": withHalf(rule{
			attributes: []string{"antialias", "axes", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy", "mode", "nearest_mode"},
			least:      1, most: 4, types: []typeSet{anySet &^ halfSet, realSet, scales, 1 << onnxfile.Int64}, check: checkResize, bind: bindResize,
			// roi and scales may be there and have no elements.
			empty: true,
		}),
		"Upsample": withHalf(rule{attributes: []string{"mode", "scales"}, least: 1, most: 2, types: []typeSet{anySet &^ halfSet, scales}, check: checkUpsample, bind: bindUpsample}),
	}
}

func checkResize(n *node) error {
	if n.opset < 10 {
		return fmt.Errorf("it is not part of operator set %d", n.opset)
	}
	if n.opset == 10 && (len(n.in) != 2 || len(n.attributes) > 1 || len(n.attributes) == 1 && n.attributes["mode"] == nil) {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	if n.opset < 18 && (n.attributes["antialias"] != nil || n.attributes["axes"] != nil || n.attributes["keep_aspect_ratio_policy"] != nil) {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	return nil
}

func checkUpsample(n *node) error {
	if n.opset >= 10 || (n.opset < 9) != (n.attributes["scales"] != nil) || (n.opset < 9) != (len(n.in) == 1) {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	return nil
}

// numbers returns the floats of input i, which must be known before the run; nil
// when there is none.
func (b *binder) numbers(i int) ([]float32, error) {
	if !b.has(i) || size(b.in[i].shape) == 0 {
		return nil, nil
	}
	v, err := b.known(i)
	if err != nil {
		return nil, err
	}
	if d := v.doubles(); d != nil {
		f := make([]float32, len(d))
		compute.Convert(f, d)
		return f, nil
	}
	return v.floats(), nil
}

// bindUpsample is Resize by the oldest rules.
func bindUpsample(b *binder) (kernel, error) {
	scales, err := b.numbers(1)
	if err != nil {
		return nil, err
	}
	if p := b.attributes["scales"]; p != nil {
		scales = p.Floats
	}
	return b.resized(scales, nil, nil, nil)
}

func bindResize(b *binder) (kernel, error) {
	if b.opset == 10 {
		scales, err := b.numbers(1)
		if err != nil {
			return nil, err
		}
		return b.resized(scales, nil, nil, nil)
	}
	scales, err := b.numbers(2)
	if err != nil {
		return nil, err
	}
	var roi []float32
	if b.text("coordinate_transformation_mode") == "tf_crop_and_resize" {
		if roi, err = b.numbers(1); err != nil {
			return nil, err
		}
		if roi == nil {
			return nil, errors.New("it has no region")
		}
	}
	var sizes []int64
	if b.has(3) && size(b.in[3].shape) > 0 {
		if sizes, err = b.int64s(3); err != nil {
			return nil, err
		}
	}
	var axes []int64
	if p := b.attributes["axes"]; p != nil {
		axes = p.Ints
	}
	return b.resized(scales, sizes, roi, axes)
}

// resized makes the kernel of Resize from scales or sizes for the given axes, all
// when there are none, with the region in the form of the operator.
func (b *binder) resized(scales []float32, sizes []int64, roi []float32, axes []int64) (kernel, error) {
	x := b.in[0].shape
	if size(x) == 0 {
		return nil, errors.New("input 0 has no elements")
	}
	if axes == nil {
		for i := range x {
			axes = append(axes, int64(i))
		}
	}
	if (scales == nil) == (sizes == nil) || scales != nil && len(scales) != len(axes) || sizes != nil && len(sizes) != len(axes) || roi != nil && len(roi) != 2*len(axes) {
		return nil, fmt.Errorf("%d scales, %d sizes and a region of %d numbers do not fit %d axes", len(scales), len(sizes), len(roi), len(axes))
	}
	text := func(name, missing string) string {
		if s := b.text(name); s != "" {
			return s
		}
		return missing
	}
	coordinate := text("coordinate_transformation_mode", "half_pixel")
	rounding := text("nearest_mode", "round_prefer_floor")
	if b.opset == 10 || b.op == "Upsample" {
		coordinate, rounding = "asymmetric", "floor"
	}
	if coordinate == "half_pixel_symmetric" && b.opset < 19 || coordinate == "tf_half_pixel_for_nn" && b.opset > 12 {
		return nil, fmt.Errorf("%s is not part of operator set %d", coordinate, b.opset)
	}
	dims := make([]compute.Scaling, len(x))
	for i, n := range x {
		dims[i] = compute.Scaling{In: n, Out: n, Scale: 1, Coordinate: coordinate, Limit: 1}
	}
	policy := text("keep_aspect_ratio_policy", "stretch")
	same := float32(0)
	for i, a := range axes {
		at, err := axis(a, len(x))
		if err != nil {
			return nil, err
		}
		d := &dims[at]
		if roi != nil {
			d.Start, d.Limit = roi[i], roi[i+len(axes)]
		}
		if sizes != nil {
			if sizes[i] < 1 || sizes[i] > maxElements {
				return nil, fmt.Errorf("size %d is lacking", sizes[i])
			}
			d.Out = int(sizes[i])
			d.Scale = float32(d.Out) / float32(d.In)
			if i == 0 || policy == "not_larger" && d.Scale < same || policy == "not_smaller" && d.Scale > same {
				same = d.Scale
			}
			continue
		}
		d.Scale = scales[i]
		length := math.Floor(float64(d.In) * float64(d.Scale))
		if coordinate == "tf_crop_and_resize" && roi != nil {
			length = math.Floor(float64(float32(d.In) * (d.Limit - d.Start) * d.Scale))
		}
		if !(d.Scale > 0) || !(length >= 1 && length <= maxElements) {
			return nil, fmt.Errorf("scale %g of %d places is lacking", d.Scale, d.In)
		}
		d.Out = int(length)
		// ONNX divides by the length that the scale makes, ONNX Runtime by that of
		// the result.
		if coordinate == "align_corners" && length != float64(d.In)*float64(d.Scale) {
			return nil, fmt.Errorf("align_corners with scale %g of %d places, which makes no whole places, is lacking", d.Scale, d.In)
		}
	}
	switch policy {
	case "stretch":
	case "not_larger", "not_smaller":
		if sizes == nil {
			break
		}
		for _, a := range axes {
			at, _ := axis(a, len(x))
			d := &dims[at]
			d.Scale = same
			d.Out = int(math.Floor(float64(same)*float64(d.In) + .5))
		}
	default:
		return nil, fmt.Errorf("keep_aspect_ratio_policy %q is lacking", policy)
	}
	shape := make([]int64, len(x))
	unchanged := true
	for i, d := range dims {
		shape[i] = int64(d.Out)
		unchanged = unchanged && d.In == d.Out && d.Scale == 1 && roi == nil
	}
	if _, err := checkedSize(shape); err != nil {
		return nil, err
	}
	if unchanged {
		return b.reshapedTo(x), nil
	}
	outside := float64(b.float("extrapolation_value", 0))
	switch mode := text("mode", "nearest"); mode {
	case "nearest":
		return b.nearest(dims, rounding, outside)
	case "linear", "bilinear":
		return b.interpolated(dims, compute.Linear(), outside)
	case "cubic":
		return b.interpolated(dims, compute.Cubic(float64(b.float("cubic_coeff_a", -.75))), outside)
	default:
		return nil, fmt.Errorf("mode %q is lacking", mode)
	}
}

// nearest takes elements as they are.
func (b *binder) nearest(dims []compute.Scaling, rounding string, outside float64) (kernel, error) {
	index := make([][]int, len(dims))
	for i, d := range dims {
		var err error
		if index[i], err = d.Nearest(rounding); err != nil {
			return nil, err
		}
		for k, out := range d.Outside() {
			if out {
				index[i][k] = -1
			}
		}
	}
	fill, err := scalar(b.in[0].dtype, outside)
	if err != nil {
		return nil, err
	}
	return b.taking(index, func([]*value) *value { return fill }), nil
}

// interpolated scales one dimension after the other.
func (b *binder) interpolated(dims []compute.Scaling, k compute.Kernel, outside float64) (kernel, error) {
	if d := b.in[0].dtype; !realSet.has(d) {
		return nil, fmt.Errorf("interpolation of type %s is lacking", d)
	}
	inside, smooth := b.integer("exclude_outside", 0) != 0, b.integer("antialias", 0) != 0
	taps := make([]*compute.Taps, len(dims))
	beyond := make([][]bool, len(dims))
	shape := make([]int, len(dims))
	crops := false
	for i, d := range dims {
		shape[i] = d.Out
		if d.In == d.Out && d.Scale == 1 && (d.Coordinate != "tf_crop_and_resize" || d.Start == 0 && d.Limit == 1) {
			continue
		}
		if d.Out > maxElements/8 || smooth && float64(d.In)/float64(d.Out) > maxWindow {
			return nil, fmt.Errorf("scaling %d places to %d is lacking", d.In, d.Out)
		}
		var err error
		if taps[i], err = d.Taps(k, inside, smooth); err != nil {
			return nil, err
		}
		beyond[i] = d.Outside()
		crops = crops || beyond[i] != nil
	}
	s := spec{b.in[0].dtype, shape}
	in := b.in[0].shape
	if s.dtype == onnxfile.Double {
		return &each{s, func(r *run, args []*value, out *value) error {
			interpolate(r, out.doubles(), args[0].doubles(), in, taps, func(n int) []float64 { return make([]float64, n) })
			if crops {
				extrapolate(out.doubles(), shape, beyond, outside)
			}
			return nil
		}}, nil
	}
	return &each{s, func(r *run, args []*value, out *value) error {
		interpolate(r, out.floats(), args[0].floats(), in, taps, r.floats)
		if crops {
			extrapolate(out.floats(), shape, beyond, float32(outside))
		}
		return nil
	}}, nil
}

// interpolate goes through the dimensions that have taps, those that shrink
// first.
func interpolate[T compute.Float](r *run, dst, x []T, in []int, taps []*compute.Taps, scratch func(n int) []T) {
	shape := slices.Clone(in)
	var order []int
	for i, t := range taps {
		if t != nil {
			order = append(order, i)
		}
	}
	places := func(i int) int { return len(taps[i].Index) / taps[i].Each }
	slices.SortStableFunc(order, func(a, b int) int { return places(a)*in[b] - places(b)*in[a] })
	for k, i := range order {
		n := shape[i]
		shape[i] = places(i)
		to := dst
		if k < len(order)-1 {
			to = scratch(size(shape))
		}
		compute.Resample(r.workers, to, x, n, size(shape[i+1:]), taps[i])
		x = to
	}
	if len(order) == 0 {
		copy(dst, x)
	}
}

// extrapolate writes a number where any dimension lies outside the input.
func extrapolate[T compute.Float](dst []T, shape []int, beyond [][]bool, with T) {
	for at := range dst {
		for i, rest := len(shape)-1, at; i >= 0; i-- {
			if beyond[i] != nil && beyond[i][rest%shape[i]] {
				dst[at] = with
				break
			}
			rest /= shape[i]
		}
	}
}
