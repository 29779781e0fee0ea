package gorgonia

import (
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesNorm has the normalizations whose statistics come from what is
// normalized.
func rulesNorm() map[string]rule {
	real := func(least, most int, f32, f64 binding, attributes ...string) rule {
		return withHalf(rule{attributes: attributes, least: least, most: most, types: []typeSet{realSet}, bind: byType{f32: f32, f64: f64}.first})
	}
	layer := real(2, 3, bindLayerNorm[float32], bindLayerNorm[float64], "axis", "epsilon", "stash_type")
	layer.outputs = 3
	bind := layer.bind
	layer.bind = func(b *binder) (kernel, error) {
		// Which are float32 whatever is normalized.
		if b.in[0].dtype != onnxfile.Float && b.readsBeyond() {
			return nil, fmt.Errorf("statistics of type %s are lacking", b.in[0].dtype)
		}
		return bind(b)
	}
	return map[string]rule{
		"InstanceNormalization":     real(3, 3, bindInstanceNorm[float32], bindInstanceNorm[float64], "epsilon"),
		"GroupNormalization":        real(3, 3, bindGroupNorm[float32], bindGroupNorm[float64], "epsilon", "num_groups", "stash_type"),
		"LayerNormalization":        layer,
		"RMSNormalization":          real(2, 2, bindLayerNorm[float32], bindLayerNorm[float64], "axis", "epsilon", "stash_type"),
		"LRN":                       real(1, 1, bindLRN[float32], bindLRN[float64], "alpha", "beta", "bias", "size"),
		"LpNormalization":           real(1, 1, bindLpNorm[float32], bindLpNorm[float64], "axis", "p"),
		"MeanVarianceNormalization": real(1, 1, bindMeanVariance[float32], bindMeanVariance[float64], "axes"),
	}
}

// readsBeyond says whether somebody reads an output beyond the first.
func (b *binder) readsBeyond() bool {
	return len(b.out) > 1 && slices.ContainsFunc(b.out[1:], func(t int) bool { return t >= 0 })
}

// perChannel sees that inputs 1 and 2 have n numbers.
func (b *binder) perChannel(n int) error {
	for i, o := range b.in[1:] {
		if !slices.Equal(o.shape, []int{n}) {
			return fmt.Errorf("input %d has shape %v in place of [%d]", 1+i, o.shape, n)
		}
	}
	return b.sameTypes(0)
}

// normalizing is a kernel that normalizes runs of n numbers.
func normalizing[T compute.Float](b *binder, n, period int, centred bool) kernel {
	epsilon := float64(b.float("epsilon", 1e-5))
	return &each{spec{b.in[0].dtype, b.in[0].shape}, func(r *run, in []*value, out *value) error {
		var bias []T
		if len(in) > 2 && in[2] != nil {
			bias = typed[T](in[2])
		}
		compute.Normalize(r.workers, typed[T](out), typed[T](in[0]), n, period, typed[T](in[1]), bias, epsilon, centred)
		return nil
	}}
}

func bindInstanceNorm[T compute.Float](b *binder) (kernel, error) {
	x := b.in[0].shape
	if len(x) < 3 {
		return nil, fmt.Errorf("rank %d is lacking", len(x))
	}
	if err := b.perChannel(x[1]); err != nil {
		return nil, err
	}
	n := size(x[2:])
	return normalizing[T](b, n, n, true), nil
}

// bindGroupNorm has a scale for each group in version 18 and for each channel
// since 21.
func bindGroupNorm[T compute.Float](b *binder) (kernel, error) {
	x := b.in[0].shape
	if len(x) < 3 {
		return nil, fmt.Errorf("rank %d is lacking", len(x))
	}
	groups := b.integer("num_groups", 0)
	if groups < 1 || groups > int64(x[1]) || x[1]%int(groups) != 0 {
		return nil, fmt.Errorf("%d channels do not fall into %d groups", x[1], groups)
	}
	n := size(x[1:]) / int(groups)
	if b.opset < 21 {
		return normalizing[T](b, n, n, true), b.perChannel(int(groups))
	}
	return normalizing[T](b, n, size(x[2:]), true), b.perChannel(x[1])
}

func bindLayerNorm[T compute.Float](b *binder) (kernel, error) {
	x := b.in[0].shape
	at, err := axis(b.integer("axis", -1), len(x))
	if err != nil {
		return nil, err
	}
	if err := b.sameTypes(0); err != nil {
		return nil, err
	}
	// Scale and bias may broadcast; only leading ones are told apart here.
	for i, o := range b.in[1:] {
		if o.dtype == 0 {
			continue
		}
		s := o.shape
		for len(s) > len(x)-at && s[0] == 1 {
			s = s[1:]
		}
		if !slices.Equal(s, x[at:]) {
			return nil, fmt.Errorf("input %d of shape %v for runs of shape %v is lacking", 1+i, o.shape, x[at:])
		}
	}
	k := normalizing[T](b, size(x[at:]), 1, b.op == "LayerNormalization")
	if !b.readsBeyond() {
		return k, nil
	}
	if stash := b.integer("stash_type", 1); stash != 1 {
		return nil, fmt.Errorf("statistics of type %s are lacking", onnxfile.DType(stash))
	}
	shape := slices.Concat(x[:at], slices.Repeat([]int{1}, len(x)-at))
	epsilon := float64(b.float("epsilon", 1e-5))
	over := make([]bool, len(x))
	for i := at; i < len(x); i++ {
		over[i] = true
	}
	statistics := []func(row []float32) float32{nil, compute.Mean[float32], func(row []float32) float32 {
		mean, square := float64(compute.Sum(row))/float64(len(row)), 0.
		for _, v := range row {
			square += (float64(v) - mean) * (float64(v) - mean)
		}
		return float32(1 / math.Sqrt(square/float64(len(row))+epsilon))
	}}
	return &several{[]spec{{onnxfile.Float, x}, {onnxfile.Float, shape}, {onnxfile.Float, shape}}, func(r *run, in, out []*value) error {
		for i, v := range out {
			if i > 0 && v != nil {
				compute.Fold(r.workers, statistics[i], v.floats(), in[0].floats(), x, over)
			}
		}
		return k.run(r, in, out[:1])
	}}, nil
}

func bindLRN[T compute.Float](b *binder) (kernel, error) {
	x := b.in[0].shape
	if len(x) < 2 {
		return nil, fmt.Errorf("rank %d is lacking", len(x))
	}
	around := b.integer("size", 0)
	if around < 1 || around > math.MaxInt32 {
		return nil, fmt.Errorf("size %d is not positive", around)
	}
	alpha, beta, bias := float64(b.float("alpha", 1e-4)), float64(b.float("beta", .75)), float64(b.float("bias", 1))
	return &each{spec{b.in[0].dtype, x}, func(r *run, in []*value, out *value) error {
		compute.LRN(r.workers, typed[T](out), typed[T](in[0]), x[1], size(x[2:]), int(around), alpha, beta, bias)
		return nil
	}}, nil
}

func bindLpNorm[T compute.Float](b *binder) (kernel, error) {
	x := b.in[0].shape
	at, err := axis(b.integer("axis", -1), len(x))
	if err != nil {
		return nil, err
	}
	p := b.integer("p", 2)
	if p != 1 && p != 2 {
		return nil, fmt.Errorf("p %d is lacking", p)
	}
	return &each{spec{b.in[0].dtype, x}, func(r *run, in []*value, out *value) error {
		compute.Along(r.workers, compute.LpNormalize[T](int(p)), typed[T](out), typed[T](in[0]), x[at], x[at], size(x[at+1:]))
		return nil
	}}, nil
}

// bindMeanVariance brings the axes together at the end and normalizes runs; the
// standard deviation is moved by 1e-9, as ONNX's function does.
func bindMeanVariance[T compute.Float](b *binder) (kernel, error) {
	x := b.in[0].shape
	list := []int64{0, 2, 3}
	if p := b.attributes["axes"]; p != nil {
		list = p.Ints
	}
	over := make([]bool, len(x))
	for _, a := range list {
		at, err := axis(a, len(x))
		if err != nil {
			return nil, err
		}
		over[at] = true
	}
	var perm, back []int
	n := 1
	for i := range x {
		if !over[i] {
			perm = append(perm, i)
		}
	}
	for i, d := range x {
		if over[i] {
			perm, n = append(perm, i), n*d
		}
	}
	turned := make([]int, len(x))
	back = make([]int, len(x))
	for i, p := range perm {
		turned[i], back[p] = x[p], i
	}
	return &each{spec{b.in[0].dtype, x}, func(r *run, in []*value, out *value) error {
		src, dst := typed[T](in[0]), typed[T](out)
		rows := make([]T, len(src))
		compute.Transpose(r.workers, rows, src, x, perm)
		compute.Along(r.workers, func(dst, row []T) {
			mean, square := float64(compute.Sum(row))/float64(len(row)), 0.
			for _, v := range row {
				square += (float64(v) - mean) * (float64(v) - mean)
			}
			by := 1 / (math.Sqrt(square/float64(len(row))) + 1e-9)
			for i, v := range row {
				dst[i] = T((float64(v) - mean) * by)
			}
		}, rows, slices.Clone(rows), n, n, 1)
		compute.Transpose(r.workers, dst, rows, turned, back)
		return nil
	}}, nil
}
