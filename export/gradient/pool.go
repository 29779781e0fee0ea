package gradient

import (
	"math"
	"slices"

	"github.com/filterlens/filterlens/inspect"
)

// apart tells whether the windows neither overlap nor read padding nor reach
// beyond the input.
func (p plane) apart() bool {
	for _, s := range p {
		if s.stride != s.kernel || s.dilation != 1 || s.before != 0 || s.out*s.kernel > s.n {
			return false
		}
	}
	return true
}

// read tells how many elements, and how many of padding, the windows of a
// dimension read.
func (s span) read(y int64) (inside, padded int64) {
	for a := range s.kernel {
		i := s.at(y, a)
		if i >= 0 && i < s.n {
			inside++
		} else if i >= -s.before && i < s.n+s.after {
			padded++
		}
	}
	return inside, padded
}

// repeated copies every element of x (N x C x Ho x Wo), times f, to all places of
// its window, where windows are apart.
func (b *builder) repeated(x string, p plane, f float64) string {
	s := b.shape[x]
	to := []int64{s[0], s[1], s[2] * p[0].kernel, s[3] * p[1].kernel}
	if b.opset >= 13 {
		if f != 1 {
			x = b.mul(x, b.scalar(f))
		}
		scales := b.floats([]float32{1, 1, float32(p[0].kernel), float32(p[1].kernel)}, 4)
		return b.op("Resize", to, []string{x, "", scales}, attrString("mode", "nearest"),
			attrString("coordinate_transformation_mode", "asymmetric"), attrString("nearest_mode", "floor"))
	}
	return b.op("ConvTranspose", to, []string{x, b.filled(f, s[1], 1, p[0].kernel, p[1].kernel)},
		attrInts("kernel_shape", p.kernel()...), attrInts("strides", p.strides()...), attrInt("group", s[1]))
}

// same is 1 where x is y, which is nowhere smaller, else 0.
func (b *builder) same(x, y string) string {
	if b.opset >= 11 {
		return b.is("Equal", x, y)
	}
	return b.sub(b.scalar(1), b.is("Less", x, y)) // Equal knew no floats
}

func (b *backward) maxPoolBackward(n *inspect.Node, dy string) error {
	x, y := n.Input(0), n.Output(0)
	if n.Output(1) != "" && len(b.graph.Consumers(n.Output(1))) > 0 {
		return b.refuse(n, "its indices are used")
	}
	p, reason := planeOf(n, n.AttrInts("kernel_shape"), b.shape[x], b.shape[y])
	if reason != "" {
		return b.refuse(n, reason)
	}
	s := b.shape[x]
	if p.apart() {
		height, width := p[0].out*p[0].kernel, p[1].out*p[1].kernel
		inner := b.slice(x, []int64{2, 3}, []int64{0, 0}, []int64{height, width}, []int64{1, 1})
		hit := b.same(inner, b.repeated(y, p, 1))
		// The mean of the hits is their number over that of positions.
		share := b.op("AveragePool", b.shape[y], []string{hit}, attrInts("kernel_shape", p.kernel()...), attrInts("strides", p.strides()...))
		dx := b.mul(hit, b.repeated(b.div(dy, share), p, 1/float64(p.positions())))
		b.give(x, b.fit(dx, make([]int64, 4), []int64{0, 0, s[2] - height, s[3] - width}))
		return nil
	}
	framed := b.framedBy(x, p, -math.MaxFloat32)
	var hits []string
	for _, shift := range b.shifted(framed, p, false) {
		hits = append(hits, b.same(shift, y))
	}
	share := b.div(dy, b.total(hits))
	for i, h := range hits {
		hits[i] = b.reshape(b.mul(h, share), s[0], s[1], 1, p[0].out, p[1].out)
	}
	k := p.positions()
	parts := b.reshape(b.concat(2, hits...), s[0], s[1]*k, p[0].out, p[1].out)
	places := make([]float32, s[1]*k*k)
	for i := range s[1] * k {
		places[i*k+i%k] = 1
	}
	b.give(x, b.scattered(parts, b.floats(places, s[1]*k, 1, p[0].kernel, p[1].kernel), p, s[1]))
	return nil
}

// framedBy is framed for N x C x H x W with another padding than zero.
func (b *builder) framedBy(x string, p plane, v float32) string {
	s := slices.Clone(b.shape[x])
	pads := make([]int64, 8)
	var axes, from, to, steps []int64
	for i, q := range p {
		pads[2+i], pads[6+i] = q.before, max(0, q.rest())
		if q.rest() < 0 {
			axes, from = append(axes, int64(2+i)), append(from, 0)
			to, steps = append(to, q.n+q.rest()), append(steps, 1)
		}
	}
	if len(axes) > 0 {
		x = b.slice(x, axes, from, to, steps)
		s = slices.Clone(b.shape[x])
	}
	none := true
	for i := range s {
		s[i] += pads[i] + pads[4+i]
		none = none && pads[i] == 0 && pads[4+i] == 0
	}
	if none {
		return x
	}
	if b.opset < 11 {
		return b.op("Pad", s, []string{x}, attrInts("pads", pads...), attrFloat("value", v))
	}
	return b.op("Pad", s, []string{x, b.ints(pads...), b.scalar(float64(v))})
}

func (b *backward) averagePoolBackward(n *inspect.Node, dy string) error {
	x, y := n.Input(0), n.Output(0)
	p, reason := planeOf(n, n.AttrInts("kernel_shape"), b.shape[x], b.shape[y])
	if reason != "" {
		return b.refuse(n, reason)
	}
	s := b.shape[x]
	if p.apart() {
		dx := b.repeated(dy, p, 1/float64(p.positions()))
		b.give(x, b.fit(dx, make([]int64, 4), []int64{0, 0, s[2] - b.shape[dx][2], s[3] - b.shape[dx][3]}))
		return nil
	}
	padding := n.AttrInt("count_include_pad", 0) != 0
	if padding && n.AttrInt("ceil_mode", 0) != 0 && (p[0].rest() > p[0].after || p[1].rest() > p[1].after) {
		return b.refuse(n, "runtimes do not agree what windows that reach beyond the padding are divided by")
	}
	shares := make([]float32, p.size())
	for i := range p[0].out {
		for j := range p[1].out {
			h, hp := p[0].read(i)
			w, wp := p[1].read(j)
			if padding {
				h, w = h+hp, w+wp
			}
			shares[i*p[1].out+j] = 1 / float32(h*w)
		}
	}
	dy = b.mul(dy, b.floats(shares, 1, 1, p[0].out, p[1].out))
	b.give(x, b.scattered(dy, b.filled(1, s[1], 1, p[0].kernel, p[1].kernel), p, s[1]))
	return nil
}

func (b *backward) globalPoolBackward(n *inspect.Node, dy string) error {
	x, y := n.Input(0), n.Output(0)
	s := b.shape[x]
	if len(s) < 3 {
		return b.refuse(n, "its input has no spatial dimensions")
	}
	spread := slices.Clone(s)
	spread[0], spread[1] = 1, 1
	count := elements(spread)
	if n.Op == "GlobalAveragePool" {
		b.give(x, b.mul(dy, b.filled(1/float64(count), spread...)))
		return nil
	}
	var axes []int64
	for i := 2; i < len(s); i++ {
		axes = append(axes, int64(i))
	}
	hit := b.same(x, y)
	b.give(x, b.mul(hit, b.div(dy, b.sum(hit, true, axes...))))
	return nil
}
