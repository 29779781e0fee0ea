package gradient

import (
	"github.com/filterlens/filterlens/inspect"
)

// A form is how a convolution is computed. The forms differ in speed alone; the
// bounds between them are measured (see BenchmarkConv).
type form uint8

const (
	// plain is the operator itself. Its weight gradient is a product of the shifted
	// inputs with the output gradient, its input gradient a convolution with the
	// turned kernel or, with strides or groups, the transposed convolution.
	plain form = iota
	// depthwise is plain, but for the weight gradient: one convolution in which each
	// channel of each sample has its output gradient for a kernel.
	depthwise
	// columns is for small maps: rows of all that one output reads times the weight,
	// over all samples at once. A product for each sample, as the operator computes
	// it, would read the whole weight for the sake of a few outputs.
	columns
	// banded is for depthwise convolutions of small maps: for each channel a product
	// of the samples with the matrix that maps a whole input map to an output map.
	banded
)

const (
	// maxColumns is the most outputs of a map for which columns is used.
	maxColumns = 16
	// maxBand is the most elements of a matrix of banded, maxBands of all of them.
	maxBand  = 1 << 14
	maxBands = 8 << 20
	// minBatched is the number of outputs of a map from which on weight gradients
	// are summed over products for each sample.
	minBatched = 128
	// smallProduct is the number of elements of these products up to which that is
	// done for smaller maps too.
	smallProduct = 4 << 20
	// maxGather is the most bytes of shifted inputs that are held together.
	maxGather = 128 << 20
)

// conv is a convolution of x (N x C x H x W) to y (N x O x Ho x Wo).
type conv struct {
	plane
	form          form
	x, w, bias, y string
	n, c, o       int64
	groups        int64
	// whole is the kernel in the file, from its first position that is used.
	whole, from [2]int64
	// rows is, in the form columns, the input for the product, N*Ho*Wo x k*C; band,
	// in the form banded, the matrices and maps the inputs (C x N x H*W).
	rows, band, maps string
}

func (c *conv) perGroup() (in, out int64) { return c.c / c.groups, c.o / c.groups }

func (c *conv) cropped() bool {
	return c.whole[0] != c.plane[0].kernel || c.whole[1] != c.plane[1].kernel
}

// planConv reads a Conv. own tells that the weight is a parameter that nothing else
// reads, so that it may be held in another layout.
func (b *backward) planConv(n *inspect.Node, own bool) (*conv, error) {
	c := &conv{x: n.Input(0), w: n.Input(1), bias: n.Input(2), y: n.Output(0), groups: n.AttrInt("group", 1)}
	x, w, y := b.shape[c.x], b.shape[c.w], b.shape[c.y]
	if len(w) != 4 {
		return nil, b.refuse(n, "only two spatial dimensions are supported")
	}
	p, reason := planeOf(n, w[2:], x, y)
	if reason != "" {
		return nil, b.refuse(n, reason)
	}
	c.plane, c.n, c.c, c.o, c.form = p, x[0], x[1], y[1], plain
	if c.groups < 1 || c.c%c.groups != 0 || c.o%c.groups != 0 || w[0] != c.o || w[1] != c.c/c.groups {
		return nil, b.refuse(n, "its weight does not fit its input")
	}
	for i := range c.plane {
		from, to := c.plane[i].used()
		c.whole[i], c.from[i] = c.plane[i].kernel, from
		c.plane[i] = c.plane[i].crop(from, to)
	}
	switch in, out := c.perGroup(); {
	case in == 1 && out == 1 && c.groups > 1:
		c.form = depthwise
		if band := c.plane[0].n * c.plane[1].n * c.size(); band <= maxBand && c.c <= maxBands/band {
			c.form = banded
		}
	case own && c.groups == 1 && c.size() <= maxColumns && c.plane[0].stride == 1 && c.plane[1].stride == 1:
		c.form = columns
	}
	return c, nil
}

// kernelOf returns the part of the weight that reads more than padding.
func (b *builder) kernelOf(c *conv) string {
	if !c.cropped() {
		return c.w
	}
	to := []int64{c.from[0] + c.plane[0].kernel, c.from[1] + c.plane[1].kernel}
	return b.slice(c.w, []int64{2, 3}, c.from[:], to, []int64{1, 1})
}

// convForward adds the convolution.
func (b *backward) convForward(c *conv, n *inspect.Node) {
	switch c.form {
	case columns:
		b.columnsForward(c)
	case banded:
		b.bandedForward(c)
	default:
		if !c.cropped() {
			b.copy(n)
			return
		}
		in := []string{c.x, b.kernelOf(c)}
		if c.bias != "" {
			in = append(in, c.bias)
		}
		b.call(b.op("Conv", b.shape[c.y], in, attrInts("kernel_shape", c.kernel()...), attrInts("strides", c.strides()...),
			attrInts("dilations", c.dilations()...), attrInts("pads", c.pads()...), attrInt("group", c.groups)), c.y)
	}
}

func (b *builder) columnsForward(c *conv) {
	rows, k := c.n*c.size(), c.positions()*c.c
	x := b.framed(b.transpose(c.x, 0, 2, 3, 1), c.plane, true)
	c.rows = b.reshape(b.concat(3, b.shifted(x, c.plane, true)...), rows, k)
	y := b.gemm(c.rows, c.w, false, true, 1)
	if c.bias != "" {
		y = b.add(y, c.bias)
	}
	y = b.reshape(y, c.n, c.plane[0].out, c.plane[1].out, c.o)
	b.call(b.transpose(y, 0, 3, 1, 2), c.y)
}

func (b *builder) bandedForward(c *conv) {
	in, out := c.plane[0].n*c.plane[1].n, c.size()
	kernel := b.reshape(c.w, c.c, c.whole[0]*c.whole[1])
	c.band = b.reshape(b.matmul(kernel, b.places(c, false)), c.c, in, out)
	c.maps = b.transpose(b.reshape(c.x, c.n, c.c, in), 1, 0, 2)
	y := b.reshape(b.transpose(b.matmul(c.maps, c.band), 1, 0, 2), c.n, c.c, c.plane[0].out, c.plane[1].out)
	if c.bias != "" {
		y = b.add(y, b.reshape(c.bias, c.c, 1, 1))
	}
	b.call(y, c.y)
}

// places is the matrix of ones and zeros (positions x inputs*outputs, or its
// transpose) that spreads a kernel over the pairs of input and output it connects.
func (b *builder) places(c *conv, transposed bool) string {
	in, out, k := c.plane[0].n*c.plane[1].n, c.size(), c.whole[0]*c.whole[1]
	v := make([]float32, k*in*out)
	for y := range c.plane[0].out {
		for x := range c.plane[1].out {
			for i := range c.plane[0].kernel {
				for j := range c.plane[1].kernel {
					if !c.plane[0].reads(y, i) || !c.plane[1].reads(x, j) {
						continue
					}
					pos := (i+c.from[0])*c.whole[1] + j + c.from[1]
					pair := (c.plane[0].at(y, i)*c.plane[1].n+c.plane[1].at(x, j))*out + y*c.plane[1].out + x
					if transposed {
						v[pair*k+pos] = 1
					} else {
						v[pos*in*out+pair] = 1
					}
				}
			}
		}
	}
	if transposed {
		return b.floats(v, in*out, k)
	}
	return b.floats(v, k, in*out)
}

// convBackward adds the gradients of a convolution.
func (b *backward) convBackward(c *conv, dy string) {
	switch c.form {
	case columns:
		b.columnsBackward(c, dy)
		return
	case banded:
		b.bandedBackward(c, dy)
		return
	}
	if b.active[c.bias] {
		b.give(c.bias, b.sum(dy, false, 0, 2, 3))
	}
	if b.active[c.w] {
		dw := ""
		in, out := c.perGroup()
		switch {
		case c.form == depthwise:
			dw = b.depthwiseWeight(c, dy)
		case c.groups > 1 || c.size() >= minBatched || c.n*c.positions()*in*out <= smallProduct:
			dw = b.batchedWeight(c, dy)
		default:
			dw = b.shiftedWeight(c, dy)
		}
		if c.cropped() {
			after := []int64{0, 0, c.whole[0] - c.from[0] - c.plane[0].kernel, c.whole[1] - c.from[1] - c.plane[1].kernel}
			dw = b.pad(dw, []int64{0, 0, c.from[0], c.from[1]}, after)
		}
		b.give(c.w, dw)
	}
	if b.active[c.x] {
		b.give(c.x, b.convInput(c, dy))
	}
}

// depthwiseWeight convolves each map of each sample with its output gradient:
// strides become dilations and dilations strides. The samples are channels here.
func (b *builder) depthwiseWeight(c *conv, dy string) string {
	x := b.framed(c.x, c.plane, false)
	s := b.shape[x]
	maps := c.n * c.c
	x = b.reshape(x, 1, maps, s[2], s[3])
	k := b.reshape(dy, maps, 1, c.plane[0].out, c.plane[1].out)
	dw := b.op("Conv", []int64{1, maps, c.plane[0].kernel, c.plane[1].kernel}, []string{x, k}, attrInts("kernel_shape", c.plane[0].out, c.plane[1].out),
		attrInts("strides", c.dilations()...), attrInts("dilations", c.strides()...), attrInt("group", maps))
	dw = b.sum(b.reshape(dw, c.n, c.c*c.positions()), false, 0)
	return b.reshape(dw, c.o, 1, c.plane[0].kernel, c.plane[1].kernel)
}

// batchedWeight multiplies shifted inputs and output gradient sample by sample and
// adds up the products.
func (b *builder) batchedWeight(c *conv, dy string) string {
	in, out := c.perGroup()
	size := c.size()
	k := c.positions()
	shifts := b.shifted(b.framed(c.x, c.plane, false), c.plane, false)
	grad := b.transpose(b.reshape(dy, c.n, c.groups, out, size), 0, 1, 3, 2)
	chunk := int(max(1, min(k, maxGather/(4*c.n*c.c*size))))
	var sums []string
	for len(shifts) > 0 {
		part := shifts[:min(chunk, len(shifts))]
		shifts = shifts[len(part):]
		m := int64(len(part))
		cols := make([]string, len(part))
		for i, s := range part {
			cols[i] = b.reshape(s, c.n, c.groups, 1, in, size)
		}
		rows := b.reshape(b.concat(2, cols...), c.n, c.groups, m*in, size)
		sum := b.sum(b.matmul(rows, grad), false, 0)
		sums = append(sums, b.reshape(sum, c.groups, m, in, out))
	}
	dw := b.transpose(b.concat(1, sums...), 0, 3, 2, 1)
	return b.reshape(dw, c.o, in, c.plane[0].kernel, c.plane[1].kernel)
}

// shiftedWeight is one product for each position of the kernel, over all samples.
func (b *builder) shiftedWeight(c *conv, dy string) string {
	rows := c.n * c.size()
	x := b.transpose(b.framed(c.x, c.plane, false), 0, 2, 3, 1)
	grad := b.reshape(b.transpose(dy, 1, 0, 2, 3), c.o, rows)
	var parts []string
	for _, s := range b.shifted(x, c.plane, true) {
		parts = append(parts, b.reshape(b.matmul(grad, b.reshape(s, rows, c.c)), 1, c.o, c.c))
	}
	dw := b.transpose(b.concat(0, parts...), 1, 2, 0)
	return b.reshape(dw, c.o, c.c, c.plane[0].kernel, c.plane[1].kernel)
}

// convInput is the gradient of the input: a convolution with the turned kernel
// where that is one, else the transposed convolution.
func (b *builder) convInput(c *conv, dy string) string {
	w := b.kernelOf(c)
	k := c.positions()
	var before, after [2]int64
	turn := c.groups == 1 && c.plane[0].stride == 1 && c.plane[1].stride == 1
	for i, s := range c.plane {
		before[i] = s.dilation*(s.kernel-1) - s.before
		after[i] = s.n - s.out + s.dilation*(s.kernel-1) - before[i]
		turn = turn && before[i] >= 0 && after[i] >= 0
	}
	if !turn {
		return b.scattered(dy, w, c.plane, c.groups)
	}
	if k > 1 {
		// A product with a matrix is faster than a slice with negative steps.
		back := make([]float32, k*k)
		for i := range k {
			back[i*k+k-1-i] = 1
		}
		w = b.reshape(b.matmul(b.reshape(w, c.o*c.c, k), b.floats(back, k, k)), c.o, c.c, c.plane[0].kernel, c.plane[1].kernel)
	}
	return b.op("Conv", []int64{c.n, c.c, c.plane[0].n, c.plane[1].n}, []string{dy, b.transpose(w, 1, 0, 2, 3)}, attrInts("kernel_shape", c.kernel()...),
		attrInts("dilations", c.dilations()...), attrInts("pads", before[0], before[1], after[0], after[1]))
}

func (b *backward) columnsBackward(c *conv, dy string) {
	rows := c.n * c.size()
	grad := b.reshape(b.transpose(dy, 0, 2, 3, 1), rows, c.o)
	if b.active[c.bias] {
		b.give(c.bias, b.sum(grad, false, 0))
	}
	b.give(c.w, b.gemm(grad, c.rows, true, false, 1))
	if !b.active[c.x] {
		return
	}
	cols := b.reshape(b.gemm(grad, c.w, false, false, 1), c.n, c.plane[0].out, c.plane[1].out, c.positions()*c.c)
	height, width := c.plane[0].reach(), c.plane[1].reach()
	var parts []string
	for i := range c.plane[0].kernel {
		for j := range c.plane[1].kernel {
			at := (i*c.plane[1].kernel + j) * c.c
			part := b.slice(cols, []int64{3}, []int64{at}, []int64{at + c.c}, []int64{1})
			top, left := i*c.plane[0].dilation, j*c.plane[1].dilation
			parts = append(parts, b.pad(part, []int64{0, top, left, 0}, []int64{0, height - top - c.plane[0].out, width - left - c.plane[1].out, 0}))
		}
	}
	dx := b.fit(b.total(parts), []int64{0, -c.plane[0].before, -c.plane[1].before, 0}, []int64{0, -c.plane[0].rest(), -c.plane[1].rest(), 0})
	b.give(c.x, b.transpose(dx, 0, 3, 1, 2))
}

func (b *backward) bandedBackward(c *conv, dy string) {
	in, out := c.plane[0].n*c.plane[1].n, c.size()
	if b.active[c.bias] {
		b.give(c.bias, b.sum(dy, false, 0, 2, 3))
	}
	grad := b.transpose(b.reshape(dy, c.n, c.c, out), 1, 0, 2)
	if b.active[c.w] {
		band := b.reshape(b.matmul(b.transpose(c.maps, 0, 2, 1), grad), c.c, in*out)
		dw := b.matmul(band, b.places(c, true))
		b.give(c.w, b.reshape(dw, b.shape[c.w]...))
	}
	if b.active[c.x] {
		dx := b.transpose(b.matmul(grad, b.transpose(c.band, 0, 2, 1)), 1, 0, 2)
		b.give(c.x, b.reshape(dx, b.shape[c.x]...))
	}
}
