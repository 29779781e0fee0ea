package gradient

import (
	"slices"

	"github.com/filterlens/filterlens/inspect"
)

// A span is how a window moves along one spatial dimension: n elements in, out
// elements out, and position a of output y reads element y*stride + a*dilation - before.
type span struct {
	n, out, kernel, stride, dilation, before, after int64
}

// reads tells whether output y has an element, and no padding, at position a.
func (s span) reads(y, a int64) bool {
	i := s.at(y, a)
	return i >= 0 && i < s.n
}

func (s span) at(y, a int64) int64 { return y*s.stride + a*s.dilation - s.before }

// used returns the range of positions outside which only padding is read; the
// whole kernel where leaving them out would need negative padding.
func (s span) used() (from, to int64) {
	from, to = s.kernel, 0
	for a := range s.kernel {
		for y := range s.out {
			if s.reads(y, a) {
				from, to = min(from, a), a+1
				break
			}
		}
	}
	if from >= to {
		return 0, s.kernel
	}
	if c := s.crop(from, to); c.before < 0 || c.after < 0 {
		return 0, s.kernel
	}
	return from, to
}

// crop is the span of the positions [from, to) alone.
func (s span) crop(from, to int64) span {
	s.before -= from * s.dilation
	s.after -= (s.kernel - to) * s.dilation
	s.kernel = to - from
	return s
}

// reach is the number of elements, padding included, from the first to the last
// that any output reads.
func (s span) reach() int64 { return (s.out-1)*s.stride + (s.kernel-1)*s.dilation + 1 }

// rest is the padding behind, negative where elements at the end are never read.
func (s span) rest() int64 { return s.reach() - s.n - s.before }

// plane is a window that moves over height and width.
type plane [2]span

// positions is the number of elements under the window.
func (p plane) positions() int64 { return p[0].kernel * p[1].kernel }

// size is the number of places it takes.
func (p plane) size() int64 { return p[0].out * p[1].out }

func (p plane) pads() []int64 {
	return []int64{p[0].before, p[1].before, p[0].after, p[1].after}
}

func (p plane) strides() []int64   { return []int64{p[0].stride, p[1].stride} }
func (p plane) dilations() []int64 { return []int64{p[0].dilation, p[1].dilation} }
func (p plane) kernel() []int64    { return []int64{p[0].kernel, p[1].kernel} }

// planeOf reads the attributes of a convolution or pooling of x to y, both of
// rank 4. reason says why that is not possible.
func planeOf(n *inspect.Node, kernel, x, y []int64) (p plane, reason string) {
	if len(x) != 4 || len(y) != 4 || len(kernel) != 2 {
		return p, "only two spatial dimensions are supported"
	}
	list := func(name string, def int64, count int) []int64 {
		if v := n.AttrInts(name); len(v) == count {
			return v
		}
		return slices.Repeat([]int64{def}, count)
	}
	strides, dilations, pads := list("strides", 1, 2), list("dilations", 1, 2), list("pads", 0, 4)
	auto := n.AttrString("auto_pad", "NOTSET")
	for i := range p {
		s := span{n: x[2+i], out: y[2+i], kernel: kernel[i], stride: strides[i], dilation: dilations[i], before: pads[i], after: pads[2+i]}
		if s.kernel < 1 || s.stride < 1 || s.dilation < 1 || s.n < 1 || s.out < 1 {
			return p, "its attributes do not fit its tensors"
		}
		switch auto {
		case "VALID":
			s.before, s.after = 0, 0
		case "SAME_UPPER", "SAME_LOWER":
			total := max(0, s.reach()-s.n)
			s.before = total / 2
			if auto == "SAME_LOWER" {
				s.before = total - total/2
			}
			s.after = total - s.before
		}
		if s.before < 0 || s.after < 0 {
			return p, "negative padding is not supported"
		}
		p[i] = s
	}
	return p, ""
}

// framed pads x (N x C x H x W, or N x H x W x C with last) so that every window
// lies inside, and cuts off what none reads.
func (b *builder) framed(x string, p plane, last bool) string {
	h, w := 2, 3
	if last {
		h, w = 1, 2
	}
	before, after := make([]int64, 4), make([]int64, 4)
	before[h], before[w] = p[0].before, p[1].before
	after[h], after[w] = p[0].rest(), p[1].rest()
	return b.fit(x, before, after)
}

// shifted returns what each position of the window reads of a framed tensor, row
// by row.
func (b *builder) shifted(x string, p plane, last bool) []string {
	axes := []int64{2, 3}
	if last {
		axes = []int64{1, 2}
	}
	var parts []string
	for a := range p[0].kernel {
		for c := range p[1].kernel {
			from := []int64{a * p[0].dilation, c * p[1].dilation}
			to := []int64{from[0] + (p[0].out-1)*p[0].stride + 1, from[1] + (p[1].out-1)*p[1].stride + 1}
			parts = append(parts, b.slice(x, axes, from, to, p.strides()))
		}
	}
	return parts
}

// scattered is the transpose of a convolution with the kernel w: it adds what the
// outputs carry to the inputs that they were read from.
func (b *builder) scattered(dy, w string, p plane, groups int64) string {
	n, channels := b.shape[dy][0], b.shape[w][1]*groups
	pads, extra := make([]int64, 4), make([]int64, 2)
	late := make([]int64, 4)
	s := []int64{n, channels, 0, 0}
	for i, q := range p {
		pads[i] = q.before
		if rest := q.rest(); rest >= 0 {
			pads[2+i] = rest
		} else if -rest < q.stride {
			extra[i] = -rest
		} else {
			late[2+i] = -rest
		}
		s[2+i] = q.n - late[2+i]
	}
	out := b.op("ConvTranspose", s, []string{dy, w}, attrInts("kernel_shape", p.kernel()...), attrInts("strides", p.strides()...),
		attrInts("dilations", p.dilations()...), attrInts("pads", pads...), attrInts("output_padding", extra...), attrInt("group", groups))
	return b.pad(out, make([]int64, 4), late)
}
