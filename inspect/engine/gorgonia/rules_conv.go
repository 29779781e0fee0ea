package gorgonia

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesConv has the operators that are products: convolutions, matrices and
// normalization over channels.
func rulesConv() map[string]rule {
	window := []string{"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}
	return map[string]rule{
		"Conv":               withHalf(rule{attributes: window, least: 2, most: 3, check: checkConv, then: true, bind: bindConv}),
		"ConvTranspose":      withHalf(rule{attributes: append(slices.Clone(window), "output_padding", "output_shape"), least: 2, most: 3, check: checkConv, then: true, bind: bindConvTranspose}),
		"Gemm":               withHalf(rule{attributes: []string{"alpha", "beta", "transA", "transB"}, least: 2, most: 3, then: true, bind: bindGemm}),
		"MatMul":             withHalf(rule{least: 2, most: 2, types: []typeSet{numberSet}, then: true, bind: bindMatMul}),
		"BatchNormalization": withHalf(rule{attributes: []string{"epsilon", "momentum", "spatial", "training_mode"}, least: 5, most: 5, check: checkBatchNorm, bind: bindBatchNorm}),
	}
}

var errConvRank = errors.New("only convolutions along one or two axes are computed")

// errSameCuts is about strides so far beyond the window that ONNX's rule for SAME
// makes negative padding: ONNX Runtime cuts places off then, by operator, or not.
var errSameCuts = errors.New("auto_pad SAME with strides that leave out two places or more at the end is lacking")

func checkConv(n *node) error {
	if w := n.param(1); w != nil && len(w.shape) != 3 && len(w.shape) != 4 {
		return errConvRank
	}
	return nil
}

// planar is what the attributes of a convolution say, for two axes; one axis is
// the second one of two, the first being of size 1.
type planar struct {
	axes                      int
	in, kernel                [2]int
	strides, dilations        [2]int
	begin, end                [2]int
	channels, filters, groups int
	transposed                bool
	extra                     [2]int // output_padding
	out                       [2]int
	shape                     []int
}

// planar reads a convolution's geometry and sees that its inputs fit.
func (b *binder) planar(transposed bool) (c planar, err error) {
	x, f := b.in[0].shape, b.in[1].shape
	c.axes = len(x) - 2
	if c.axes != 1 && c.axes != 2 {
		return c, errConvRank
	}
	if len(f) != len(x) {
		return c, fmt.Errorf("weights of shape %v do not fit an input of shape %v", f, x)
	}
	group := b.integer("group", 1)
	if group < 1 || group > int64(x[1]) {
		return c, fmt.Errorf("group is %d for %d channels", group, x[1])
	}
	c.groups, c.channels, c.transposed = int(group), x[1], transposed
	if transposed {
		c.filters = f[1] * c.groups
		if f[0] != x[1] || x[1]%c.groups != 0 {
			return c, fmt.Errorf("weights of shape %v in %d groups do not fit %d channels", f, group, x[1])
		}
	} else {
		c.filters = f[0]
		if f[1]*c.groups != x[1] || f[0]%c.groups != 0 {
			return c, fmt.Errorf("weights of shape %v in %d groups do not fit %d channels", f, group, x[1])
		}
	}
	if b.has(2) && !slices.Equal(b.in[2].shape, []int{c.filters}) {
		return c, fmt.Errorf("a bias of shape %v does not fit %d filters", b.in[2].shape, c.filters)
	}
	read := func(name string, n, missing int, to ...*[2]int) {
		v, e := b.ints(name, n, missing)
		if e != nil {
			err = errors.Join(err, e)
			return
		}
		for i, t := range to {
			t[0] = missing
			copy(t[2-c.axes:], v[i*c.axes:][:c.axes])
		}
	}
	read("strides", c.axes, 1, &c.strides)
	read("dilations", c.axes, 1, &c.dilations)
	read("pads", 2*c.axes, 0, &c.begin, &c.end)
	read("kernel_shape", c.axes, 1, &c.kernel)
	if transposed {
		read("output_padding", c.axes, 0, &c.extra)
	}
	if err != nil {
		return c, err
	}
	if b.attributes["kernel_shape"] != nil && !slices.Equal(c.kernel[2-c.axes:], f[2:]) {
		return c, fmt.Errorf("kernel_shape %v does not fit weights of shape %v", c.kernel[2-c.axes:], f)
	}
	c.in, c.kernel = [2]int{1, 1}, [2]int{1, 1}
	copy(c.in[2-c.axes:], x[2:])
	copy(c.kernel[2-c.axes:], f[2:])
	var stated []int
	if b.attributes["output_shape"] != nil {
		if stated, err = b.ints("output_shape", c.axes, 0); err != nil {
			return c, err
		}
	}
	for i := range 2 {
		if c.strides[i] < 1 || c.dilations[i] < 1 {
			return c, errors.New("strides and dilations must be positive")
		}
		if i < 2-c.axes {
			c.out[i] = 1
			continue
		}
		at := -1
		if stated != nil {
			at = stated[i-(2-c.axes)]
		}
		if err := c.place(i, b.text("auto_pad"), at); err != nil {
			return c, err
		}
	}
	c.shape = append([]int{x[0], c.filters}, c.out[2-c.axes:]...)
	_, err = checkedSize(c.shape)
	return c, err
}

// place finds padding and output along axis i. stated is the output that a
// transposed convolution asks for, -1 if it does not.
func (c *planar) place(i int, mode string, stated int) error {
	size, stride := c.in[i], c.strides[i]
	extent := (c.kernel[i]-1)*c.dilations[i] + 1
	// Where the padding is odd, SAME_UPPER alone has the larger half at the end.
	share := func(total int) {
		c.begin[i], c.end[i] = total-total/2, total/2
		if mode == "SAME_UPPER" {
			c.begin[i], c.end[i] = c.end[i], c.begin[i]
		}
	}
	full := (size-1)*stride + extent + c.extra[i] // of a transposed one, without padding
	switch mode {
	case "", "NOTSET":
		if stated >= 0 {
			share(full - stated)
		}
	case "VALID":
		c.begin[i], c.end[i] = 0, 0
		if stated >= 0 {
			share(full - stated)
		}
	case "SAME_UPPER", "SAME_LOWER":
		switch {
		case !c.transposed:
			total := (ceilDiv(size, stride)-1)*stride + extent - size
			if total < -1 {
				return errSameCuts
			}
			share(max(0, total))
		case stated >= 0:
			share(full - stated)
		default:
			share(max(0, full-size*stride))
		}
	default:
		return fmt.Errorf("auto_pad %q is unknown", mode)
	}
	if c.transposed {
		c.out[i] = full - c.begin[i] - c.end[i]
		if c.begin[i] < 0 || c.end[i] < 0 || c.out[i] < 1 {
			return fmt.Errorf("an output of %d cannot be made of %d", c.out[i], size)
		}
		return nil
	}
	padded := size + c.begin[i] + c.end[i]
	if padded < extent {
		return fmt.Errorf("a window of %d does not fit in %d", extent, padded)
	}
	c.out[i] = (padded-extent)/stride + 1
	return nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func bindConv(b *binder) (kernel, error) {
	c, err := b.planar(false)
	if err != nil {
		return nil, err
	}
	conv := compute.Conv{
		N: b.in[0].shape[0], C: c.channels, H: c.in[0], W: c.in[1], Filters: c.filters, Groups: c.groups,
		KernelH: c.kernel[0], KernelW: c.kernel[1], StrideH: c.strides[0], StrideW: c.strides[1],
		DilationH: c.dilations[0], DilationW: c.dilations[1],
		PadTop: c.begin[0], PadLeft: c.begin[1], PadBottom: c.end[0], PadRight: c.end[1],
		Clamp: b.then.clamp, Min: b.then.min, Max: b.then.max, After: b.then.after,
	}
	scratch := conv.Scratch(b.workers)
	return &each{spec{onnxfile.Float, c.shape}, func(r *run, in []*value, out *value) error {
		conv.Run(r.workers, in[0].floats(), in[1].floats(), optional(in, 2), out.floats(), r.floats(scratch))
		return nil
	}}, nil
}

// optional returns the numbers of an input that may be left out, nil if it is.
func optional(in []*value, i int) []float32 {
	if i < len(in) && in[i] != nil {
		return in[i].floats()
	}
	return nil
}

func bindConvTranspose(b *binder) (kernel, error) {
	c, err := b.planar(true)
	if err != nil {
		return nil, err
	}
	conv := compute.ConvTranspose{
		N: b.in[0].shape[0], C: c.channels, H: c.in[0], W: c.in[1], Filters: c.filters, Groups: c.groups,
		KernelH: c.kernel[0], KernelW: c.kernel[1], StrideH: c.strides[0], StrideW: c.strides[1],
		DilationH: c.dilations[0], DilationW: c.dilations[1],
		PadTop: c.begin[0], PadLeft: c.begin[1], OutH: c.out[0], OutW: c.out[1],
	}
	scratch, then := conv.Scratch(b.workers), b.then
	return &each{spec{onnxfile.Float, c.shape}, func(r *run, in []*value, out *value) error {
		conv.Run(r.workers, in[0].floats(), in[1].floats(), optional(in, 2), out.floats(), r.floats(scratch))
		then.apply(r, out.floats())
		return nil
	}}, nil
}

func bindGemm(b *binder) (kernel, error) {
	x, y := b.in[0].shape, b.in[1].shape
	if len(x) != 2 || len(y) != 2 {
		return nil, errors.New("the factors are no matrices")
	}
	g := compute.Gemm{
		TransA: b.integer("transA", 0) != 0, TransB: b.integer("transB", 0) != 0,
		M: x[0], K: x[1], N: y[1], Alpha: b.float("alpha", 1),
	}
	inner := y[0]
	if g.TransA {
		g.M, g.K = g.K, g.M
	}
	if g.TransB {
		g.N, inner = inner, g.N
	}
	if g.K != inner {
		return nil, fmt.Errorf("shapes %v and %v cannot be multiplied", x, y)
	}
	// The addend is laid out first: element (i, j) of it lies at i*down + j*across.
	var down, across int
	if b.has(2) {
		s := b.in[2].shape
		wide := append(slices.Repeat([]int{1}, max(0, 2-len(s))), s...)
		if len(s) > 2 || wide[0] != 1 && wide[0] != g.M || wide[1] != 1 && wide[1] != g.N {
			return nil, fmt.Errorf("an addend of shape %v does not fit %v", s, []int{g.M, g.N})
		}
		if wide[0] > 1 {
			down = wide[1]
		}
		if wide[1] > 1 {
			across = 1
		}
		g.Beta = b.float("beta", 1)
	}
	scratch, then := g.Scratch(b.workers), b.then
	return &each{spec{onnxfile.Float, []int{g.M, g.N}}, func(r *run, in []*value, out *value) error {
		c := out.floats()
		if g.Beta != 0 {
			addend := in[2].floats()
			for i := range g.M {
				row := c[i*g.N:][:g.N]
				if across == 1 {
					copy(row, addend[i*down:])
					continue
				}
				for j := range row {
					row[j] = addend[i*down]
				}
			}
		}
		g.Run(r.workers, in[0].floats(), x[1], in[1].floats(), y[1], c, g.N, r.floats(scratch))
		then.apply(r, c)
		return nil
	}}, nil
}

// product is a product of matrices, or of as many as the leading dimensions say.
type product struct {
	m, n, k int
	// Pair i multiplies the matrices that start at x[i] and y[i].
	x, y  []int
	shape []int
}

// product reads the shapes of MatMul: vectors are rows on the left and columns
// on the right, leading dimensions are broadcast, and where the right factor has
// none, those of the left one become rows.
func (b *binder) product() (p product, err error) {
	x, y := b.in[0].shape, b.in[1].shape
	misfit := fmt.Errorf("shapes %v and %v cannot be multiplied", x, y)
	if len(x) == 0 || len(y) == 0 {
		return p, misfit
	}
	row, column := len(x) == 1, len(y) == 1
	if row {
		x = []int{1, x[0]}
	}
	if column {
		y = []int{y[0], 1}
	}
	nx, ny := len(x)-2, len(y)-2
	p.m, p.k, p.n = x[nx], x[nx+1], y[ny+1]
	if p.k != y[ny] {
		return p, misfit
	}
	lead, err := compute.BroadcastShape(x[:nx], y[:ny])
	if err != nil {
		return p, misfit
	}
	p.shape = slices.Clone(lead)
	if !row {
		p.shape = append(p.shape, p.m)
	}
	if !column {
		p.shape = append(p.shape, p.n)
	}
	if _, err := checkedSize(p.shape); err != nil {
		return p, err
	}
	if size(y[:ny]) == 1 {
		p.m *= size(lead)
		p.x, p.y = []int{0}, []int{0}
		return p, nil
	}
	p.x = starts(lead, x[:nx], p.m*p.k)
	p.y = starts(lead, y[:ny], p.k*p.n)
	return p, nil
}

// starts returns where, for each index of shape, the part of a tensor lies whose
// leading dimensions from are broadcast to shape; parts have n elements.
func starts(shape, from []int, n int) []int {
	at := []int{0}
	for i, d := range shape {
		own, step := 1, 0
		if k := i - (len(shape) - len(from)); k >= 0 {
			own = from[k]
		}
		if own > 1 {
			step = 1
		}
		next := make([]int, 0, len(at)*d)
		for _, a := range at {
			for j := range d {
				next = append(next, a*own+j*step)
			}
		}
		at = next
	}
	for i := range at {
		at[i] *= n
	}
	return at
}

func bindMatMul(b *binder) (kernel, error) {
	if err := b.sameTypes(0); err != nil {
		return nil, err
	}
	return byType{
		f32: bindProduct, f64: plainProduct[float64],
		i64: plainProduct[int64], i32: plainProduct[int32], i16: plainProduct[int16], i8: plainProduct[int8],
		u64: plainProduct[uint64], u32: plainProduct[uint32], u16: plainProduct[uint16], u8: plainProduct[uint8],
	}.bind(b, 0)
}

func plainProduct[T compute.Number](b *binder) (kernel, error) {
	p, err := b.product()
	if err != nil {
		return nil, err
	}
	return &each{spec{b.in[0].dtype, p.shape}, func(r *run, in []*value, out *value) error {
		x, y, z := elements[T](in[0]), elements[T](in[1]), elements[T](out)
		for i := range p.x {
			compute.Multiply(r.workers, p.m, p.n, p.k, x[p.x[i]:], y[p.y[i]:], z[i*p.m*p.n:])
		}
		return nil
	}}, nil
}

// smallProduct is the number of multiplications below which one worker computes
// a product, where there are several.
const smallProduct = 1 << 20

func bindProduct(b *binder) (kernel, error) {
	p, err := b.product()
	if err != nil {
		return nil, err
	}
	g := compute.Gemm{M: p.m, N: p.n, K: p.k, Alpha: 1}
	apart := len(p.x) > 1 && p.m*p.n < smallProduct/max(1, p.k)
	alone := compute.NewWorkers(1)
	if !apart {
		alone = b.workers
	}
	scratch, then := g.Scratch(alone), b.then
	return &each{spec{onnxfile.Float, p.shape}, func(r *run, in []*value, out *value) error {
		x, y, z := in[0].floats(), in[1].floats(), out.floats()
		one := func(w *compute.Workers, i int, s []float32) {
			g.Run(w, x[p.x[i]:], p.k, y[p.y[i]:], p.n, z[i*p.m*p.n:], p.n, s)
		}
		if !apart {
			s := r.floats(scratch)
			for i := range p.x {
				one(r.workers, i, s)
			}
			then.apply(r, z)
			return nil
		}
		parts := min(len(p.x), 4*r.workers.N())
		r.workers.Do(parts, func(part int) {
			s := r.floats(scratch)
			for i := part * len(p.x) / parts; i < (part+1)*len(p.x)/parts; i++ {
				one(alone, i, s)
			}
			r.release(s)
		})
		then.apply(r, z)
		return nil
	}}, nil
}

// apply does to results that lie finished what the epilogue is.
func (e *epilogue) apply(r *run, y []float32) {
	if e.clamp {
		compute.Map(r.workers, compute.Clip(e.min, e.max), y, y)
	}
	if e.after != nil {
		compute.Map(r.workers, func(y, _ []float32) { e.after(y) }, y, y)
	}
}

func checkBatchNorm(n *node) error {
	if n.integer("training_mode", 0) != 0 || n.integer("spatial", 1) != 1 {
		return errors.New("only normalization with stored statistics per channel is computed")
	}
	return nil
}

// bindBatchNorm computes scale*(x-mean)/sqrt(variance+epsilon) + bias (Ioffe and
// Szegedy, 2015, algorithm 2) as a factor and an addend for each channel.
func bindBatchNorm(b *binder) (kernel, error) {
	shape := b.in[0].shape
	if len(shape) < 2 {
		return nil, errors.New("the input has no channels")
	}
	for _, o := range b.in[1:] {
		if !slices.Equal(o.shape, shape[1:2]) {
			return nil, fmt.Errorf("a parameter of shape %v does not fit %d channels", o.shape, shape[1])
		}
	}
	epsilon := float64(b.float("epsilon", 1e-5))
	inner := size(shape[2:])
	return &each{spec{onnxfile.Float, shape}, func(r *run, in []*value, out *value) error {
		factor, addend := r.floats(shape[1]), r.floats(shape[1])
		scale, bias, mean, variance := in[1].floats(), in[2].floats(), in[3].floats(), in[4].floats()
		for c := range factor {
			f := float64(scale[c]) / math.Sqrt(float64(variance[c])+epsilon)
			factor[c] = float32(f)
			addend[c] = float32(float64(bias[c]) - float64(mean[c])*f)
		}
		compute.Affine(r.workers, out.floats(), in[0].floats(), inner, factor, addend)
		return nil
	}}, nil
}
