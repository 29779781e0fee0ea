package delta

import (
	"slices"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect"
)

// channels follows where the channels of a graph come from. Each channel that a
// layer makes is an identity; what keeps channels apart hands them on, an Add
// makes two of them one, a Concat lines them up, a Flatten repeats each for its
// positions.
type channels struct {
	g      *graph
	parent []int32 // union-find
	outs   [][]channelList
	inputs map[int]channelList
	// unknown marks identities that stand for nothing but a dimension of the output
	// of an operator that is not seen through.
	unknown []bool
	room    int
}

// A channelList is the identities along one axis of a tensor; unknown without
// ids.
type channelList struct {
	ids  []int32
	axis int
}

// maxChannels bounds the identities along one axis, and their sum over a graph
// sixteen times that, whatever the shapes in a file claim.
const maxChannels = 1 << 18

func followChannels(g *graph) *channels {
	c := &channels{g: g, outs: make([][]channelList, len(g.ops)), inputs: map[int]channelList{}, room: 16 * maxChannels}
	for _, o := range g.ops {
		c.outs[o.id] = c.follow(o)
		for len(c.outs[o.id]) < len(o.outs) {
			c.outs[o.id] = append(c.outs[o.id], channelList{})
		}
	}
	return c
}

func (c *channels) find(x int32) int32 {
	for c.parent[x] != x {
		c.parent[x] = c.parent[c.parent[x]]
		x = c.parent[x]
	}
	return x
}

func (c *channels) union(x, y int32) {
	x, y = c.find(x), c.find(y)
	if x < y { // the older one stays
		c.parent[y] = x
	} else {
		c.parent[x] = y
	}
}

// fresh makes n new identities, nil when there are too many.
func (c *channels) fresh(n int64) []int32 {
	if n < 1 || n > maxChannels || int(n) > c.room {
		return nil
	}
	c.room -= int(n)
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(len(c.parent))
		c.parent = append(c.parent, ids[i])
		c.unknown = append(c.unknown, false)
	}
	return ids
}

// of returns the channels of a tensor.
func (c *channels) of(r ref) channelList {
	if r.op == nil {
		return c.inputs[r.in]
	}
	if l := c.outs[r.op.id]; r.out < len(l) {
		return l[r.out]
	}
	return channelList{}
}

// need returns the n channels of a tensor along axis, new ones where they were
// not known; nil when it has another number.
func (c *channels) need(r ref, n int64, axis int) []int32 {
	l := c.of(r)
	if l.ids == nil {
		l = channelList{c.fresh(n), axis}
		switch {
		case r.op == nil:
			c.inputs[r.in] = l
		case r.out < len(c.outs[r.op.id]):
			c.outs[r.op.id][r.out] = l
		}
	}
	if int64(len(l.ids)) != n {
		return nil
	}
	return l.ids
}

// follow returns the channels of what o puts out.
func (c *channels) follow(o *op) []channelList {
	one := func(ids []int32, axis int) []channelList { return []channelList{{ids, axis}} }
	if len(o.ins) == 0 {
		return one(nil, 0)
	}
	x := c.of(o.ins[0])
	switch o.kind {
	case "Conv":
		if o.weight == nil || len(o.weight.dims) < 3 {
			break
		}
		in := c.need(o.ins[0], o.weight.dims[1]*o.group, 1)
		if o.depthwise() && o.weight.rows == o.group {
			return one(in, 1)
		}
		return one(c.fresh(o.weight.rows), 1)
	case "Linear":
		y := o.shape()
		axis := 1
		if y.Known {
			axis = len(y.Dims) - 1
		}
		c.need(o.ins[0], o.weight.cols, axis)
		return one(c.fresh(o.weight.rows), axis)
	case "BatchNormalization":
		if o.weight != nil {
			return one(c.need(o.ins[0], o.weight.rows, 1), 1)
		}
		return one(x.ids, x.axis)
	case "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Gelu", "Mish",
		"Clip", "Erf", "Exp", "Log", "Sqrt", "Neg", "Abs", "Pow", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Cast", "Softmax", "LogSoftmax",
		"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool", "LRN", "InstanceNormalization", "Dropout",
		"Resize", "Upsample", "QuantizeLinear", "DequantizeLinear", "ThresholdedRelu", "Swish":
		return one(x.ids, x.axis)
	case "Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Mean":
		return c.join(o)
	case "Concat":
		return c.concat(o)
	case "Flatten":
		return c.flatten(o, x)
	case "ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2":
		axes := integers(o.attr("axes"))
		if x.ids != nil && len(axes) > 0 && slices.Min(axes) > int64(x.axis) {
			return one(x.ids, x.axis)
		}
	case "Pad":
		return c.pad(o, x)
	case "Slice":
		return c.slice(o, x)
	case "Split":
		return c.split(o, x)
	case "Transpose":
		perm := integers(o.attr("perm"))
		if k := slices.Index(perm, int64(x.axis)); x.ids != nil && k >= 0 {
			return one(x.ids, k)
		}
	case "Reshape", "Squeeze":
		in, y := shapeOf(o.ins[0]), o.shape()
		if x.ids != nil && x.axis == 1 && in.Known && y.Known && len(y.Dims) >= 2 && y.Dims[1].Value == int64(len(x.ids)) && y.Dims[0] == in.Dims[0] {
			return one(x.ids, 1)
		}
	}
	// Nothing is known of what it does to channels.
	if y := o.shape(); y.Known && len(y.Dims) >= 2 {
		ids := c.fresh(y.Dims[1].Value)
		for _, id := range ids {
			c.unknown[id] = true
		}
		return one(ids, 1)
	}
	return one(nil, 0)
}

func (o *op) shape() inspect.Shape {
	if len(o.outs) == 0 {
		return inspect.Shape{}
	}
	return o.g.Shape(o.outs[0])
}

// shapeOf is the shape of what an op puts out, unknown for an input.
func shapeOf(r ref) inspect.Shape {
	if r.op == nil || r.out >= len(r.op.outs) {
		return inspect.Shape{}
	}
	return r.op.g.Shape(r.op.outs[r.out])
}

// join makes the channels of all inputs one, where they are as many.
func (c *channels) join(o *op) []channelList {
	var out channelList
	for _, r := range o.ins {
		x := c.of(r)
		switch {
		case x.ids == nil || out.ids != nil && len(x.ids) == 1:
		case out.ids == nil || len(out.ids) == 1:
			out = x
		case len(x.ids) == len(out.ids) && x.axis == out.axis:
			for i := range x.ids {
				c.union(x.ids[i], out.ids[i])
			}
		default:
			return []channelList{{}}
		}
	}
	return []channelList{out}
}

func (c *channels) concat(o *op) []channelList {
	axis := -1
	if v := integers(o.attr("axis")); len(v) == 1 {
		axis = int(v[0])
	}
	var out channelList
	for k, r := range o.ins {
		x := c.of(r)
		if x.ids == nil || len(o.operands) > 0 {
			return []channelList{{}}
		}
		switch {
		case k == 0:
			out = x
		case x.axis != out.axis:
			return []channelList{{}}
		case axis != x.axis:
			if len(x.ids) != len(out.ids) {
				return []channelList{{}}
			}
			for i := range x.ids {
				c.union(x.ids[i], out.ids[i])
			}
		default:
			if len(out.ids)+len(x.ids) > maxChannels || len(x.ids) > c.room {
				return []channelList{{}}
			}
			c.room -= len(x.ids)
			out.ids = append(slices.Clip(out.ids), x.ids...)
		}
	}
	return []channelList{out}
}

func (c *channels) flatten(o *op, x channelList) []channelList {
	if x.ids == nil || x.axis != 1 {
		return []channelList{{}}
	}
	y := o.shape()
	times := int64(1)
	if y.Known && len(y.Dims) == 2 && y.Dims[1].Value > 0 {
		if y.Dims[1].Value%int64(len(x.ids)) != 0 {
			return []channelList{{}}
		}
		times = y.Dims[1].Value / int64(len(x.ids))
	} else {
		in := shapeOf(o.ins[0])
		if !in.Known {
			return []channelList{{}}
		}
		for _, d := range in.Dims[min(2, len(in.Dims)):] {
			if d.Value < 1 || times > maxChannels {
				return []channelList{{}}
			}
			times *= d.Value
		}
	}
	n := times * int64(len(x.ids))
	if times == 1 {
		return []channelList{x}
	}
	if times > maxChannels || n > maxChannels || int(n) > c.room {
		return []channelList{{}}
	}
	c.room -= int(n)
	ids := make([]int32, 0, n)
	for _, id := range x.ids {
		for range times {
			ids = append(ids, id)
		}
	}
	return []channelList{{ids, 1}}
}

func (c *channels) pad(o *op, x channelList) []channelList {
	pads := integers(o.attr("pads"))
	rank := len(pads) / 2
	if x.ids == nil || o.attr("axes") != "" || x.axis >= rank || len(pads) != 2*rank {
		return []channelList{{}}
	}
	before, after := pads[x.axis], pads[rank+x.axis]
	if before == 0 && after == 0 {
		return []channelList{x}
	}
	if before < 0 || after < 0 || before > maxChannels || after > maxChannels || before+after+int64(len(x.ids)) > maxChannels {
		return []channelList{{}}
	}
	ids := c.fresh(before + after)
	if ids == nil {
		return []channelList{{}}
	}
	return []channelList{{slices.Concat(ids[:before], x.ids, ids[before:]), x.axis}}
}

func (c *channels) slice(o *op, x channelList) []channelList {
	starts, axes, steps := integers(o.attr("starts")), integers(o.attr("axes")), integers(o.attr("steps"))
	ends := strings.Fields(strings.Trim(o.attr("ends"), "[]"))
	if x.ids == nil || len(starts) == 0 || len(axes) != len(starts) || len(ends) != len(starts) {
		return []channelList{{}}
	}
	for i, a := range axes {
		if int(a) != x.axis {
			continue
		}
		n := int64(len(x.ids))
		clamp := func(v int64) int64 {
			if v < 0 {
				v += n
			}
			return min(max(v, 0), n)
		}
		from, to := clamp(starts[i]), n
		if ends[i] != "end" {
			e, err := strconv.ParseInt(ends[i], 10, 64)
			if err != nil {
				return []channelList{{}}
			}
			to = clamp(e)
		}
		if len(steps) > i && steps[i] != 1 || from >= to {
			return []channelList{{}}
		}
		return []channelList{{x.ids[from:to:to], x.axis}}
	}
	return []channelList{x}
}

func (c *channels) split(o *op, x channelList) []channelList {
	sizes := integers(o.attr("split"))
	axis := integers(o.attr("axis"))
	at := 0
	if len(axis) == 1 {
		at = int(axis[0])
	}
	var out []channelList
	var from int64
	for i := range o.outs {
		switch {
		case x.ids == nil || len(sizes) != len(o.outs):
			out = append(out, channelList{})
		case at != x.axis:
			out = append(out, x)
		case sizes[i] < 1 || sizes[i] > int64(len(x.ids))-from:
			out = append(out, channelList{})
		default:
			out = append(out, channelList{x.ids[from : from+sizes[i] : from+sizes[i]], x.axis})
			from += sizes[i]
		}
	}
	return out
}
