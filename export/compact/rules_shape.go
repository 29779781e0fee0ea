package compact

import (
	"fmt"
	"slices"

	"github.com/filterlens/filterlens/inspect"
)

// A merge says where the channels of a tensor lie after its axes were merged:
// channel c at (before*C+c)*after + rest of axis axis.
type merge struct {
	axis, before, after int
}

// align finds the axis of out that holds the channels on axis of in, when a
// tensor of shape in is read as one of shape out.
func align(in, out []inspect.Dim, axis int) (m merge, ok bool) {
	type dim struct {
		inspect.Dim
		at int
	}
	strip := func(dims []inspect.Dim) (list []dim) {
		for i, d := range dims {
			if d.Value != 1 {
				list = append(list, dim{d, i})
			}
		}
		return list
	}
	product := func(list []dim) (n int64, ok bool) {
		n = 1
		for _, d := range list {
			if d.Value < 1 || n > 1<<40/d.Value {
				return 0, false
			}
			n *= d.Value
		}
		return n, true
	}
	x, y := strip(in), strip(out)
	if len(x) > 0 && len(y) > 0 && x[0].Value < 0 && y[0].Value < 0 {
		p, ok1 := product(x[1:])
		q, ok2 := product(y[1:])
		if ok1 && ok2 && p == q { // the open dimension is the same
			x, y = x[1:], y[1:]
		}
	}
	for len(x) > 0 && len(y) > 0 {
		i, j := 1, 1
		if x[0].Value < 0 || y[0].Value < 0 {
			if x[0].Value != y[0].Value || x[0].Name == "" || x[0].Name != y[0].Name || x[0].at == axis {
				return m, false
			}
		} else {
			p, q := x[0].Value, y[0].Value
			for p != q {
				switch {
				case p < q && i < len(x) && x[i].Value > 0 && p <= 1<<40/x[i].Value:
					p *= x[i].Value
					i++
				case q < p && j < len(y) && y[j].Value > 0 && q <= 1<<40/y[j].Value:
					q *= y[j].Value
					j++
				default:
					return m, false
				}
			}
		}
		for k, d := range x[:i] {
			if d.at != axis {
				continue
			}
			if j != 1 {
				return m, false
			}
			before, _ := product(x[:k])
			after, _ := product(x[k+1 : i])
			return merge{y[0].at, int(before), int(after)}, true
		}
		x, y = x[i:], y[j:]
	}
	return m, false
}

// reshape follows channels through Flatten, Reshape, Squeeze and Unsqueeze: into
// an axis of their own, or merged with others as in a Flatten to vectors.
func (a *analysis) reshape(n *inspect.Node) string {
	x := a.live[n.Input(0)]
	from, to := a.g.Shape(n.Input(0)), a.g.Shape(n.Output(0))
	if x == nil || !from.Known || !to.Known {
		return "a shape is not known"
	}
	if x.n == 1 {
		a.pin(x, "it has one channel, which has to stay")
		a.pinTensor(n.Output(0), "it has one channel, which has to stay")
		if a.live[n.Output(0)] == nil {
			return "the shape of its output is not known"
		}
		return ""
	}
	m, ok := align(from.Dims, to.Dims, x.axis)
	if !ok {
		return "it parts the channels or mixes them with what is not fixed"
	}
	same := m.before == 1 && m.after == 1
	rewrite := false
	if n.Op == "Reshape" {
		if n.Input(1) == "" {
			return "its shape is an attribute"
		}
		entry, ok := a.entry(n.Input(1), m.axis, len(to.Dims), 0)
		copied := entry == 0 && n.AttrInt("allowzero", 0) == 0
		if !ok || copied && (!same || m.axis != x.axis) {
			return "its shape is computed"
		}
		rewrite = entry != -1 && !copied
		if _, ok := a.g.Ints(n.Input(1)); rewrite && !ok {
			return "its shape is computed"
		}
	}
	if m.before*m.after*x.n > maxPlaces {
		return "its output has too many places"
	}
	out := a.sized(n, m.axis, m.before*m.after*x.n)
	if out == nil {
		return "the shape of its output does not fit"
	}
	channel := func(i int) int { return i / m.after % x.n }
	for i := range out.n {
		a.union(x.base+channel(i), out.base+i)
	}
	a.eval(func(v *values) error {
		from, to := v.of(x), v.of(out)
		for i := range to {
			to[i] = from[channel(i)]
		}
		return nil
	})
	if rewrite {
		a.fixes = append(a.fixes, func(e *editor) error {
			kept := len(e.kept(out))
			if kept == out.n {
				return nil
			}
			shape, _ := a.g.Ints(n.Input(1))
			shape = slices.Clone(shape)
			shape[m.axis] = int64(kept)
			e.ints(n, 1, "shape", shape)
			return nil
		})
	}
	return ""
}

// entry returns number i of a list of length numbers that may be computed: that
// of a Concat whose parts are known as far as it.
func (a *analysis) entry(list string, i, length, depth int) (int64, bool) {
	if v, ok := a.g.Ints(list); ok {
		if i < len(v) {
			return v[i], true
		}
		return 0, false
	}
	n := a.g.Producer(list)
	if n == nil || !n.Standard() || n.Op != "Concat" || depth > 4 {
		return 0, false
	}
	for _, part := range n.Inputs {
		s := a.g.Shape(part)
		size := int64(1)
		if s.Known && len(s.Dims) == 1 {
			size = s.Dims[0].Value
		}
		if size < 0 {
			return 0, false
		}
		if int64(i) < size {
			return a.entry(part, i, length, depth+1)
		}
		i -= int(size)
	}
	return 0, false
}

// normal returns an axis counted from the front, -1 when there is none.
func normal(axis int64, rank int) int {
	if axis < 0 {
		axis += int64(rank)
	}
	if axis < 0 || axis >= int64(rank) {
		return -1
	}
	return int(axis)
}

func (a *analysis) concat(n *inspect.Node) (string, error) {
	rank := a.rank(n.Output(0))
	axis := normal(n.AttrInt("axis", 1), rank)
	if rank < 1 || axis < 0 {
		return "the shape of its output is not known", nil
	}
	// The axis of the channels is that of its inputs.
	channels := -1
	for _, in := range n.Inputs {
		t := a.live[in]
		if t == nil {
			continue
		}
		if channels >= 0 && t.axis != channels {
			return "the channels of its inputs lie on different axes", nil
		}
		channels = t.axis
	}
	if channels != axis {
		return a.concatAcross(n, channels), nil
	}
	type part struct {
		t *track
		v []float64
		n int
	}
	var parts []part
	total := 0
	for i, in := range n.Inputs {
		if t := a.live[in]; t != nil {
			parts, total = append(parts, part{t: t, n: t.n}), total+t.n
			continue
		}
		v, ok := a.view(n, i)
		if !ok || len(v.dims) != rank {
			return "one of its inputs is not followed", nil
		}
		t := a.places(v, axis)
		if t == nil {
			return "a stored input does not fit", nil
		}
		list, err := a.numbers(v, axis, t.n)
		if err != nil {
			return "", err
		}
		parts, total = append(parts, part{t, list, t.n}), total+t.n
	}
	out := a.sized(n, axis, total)
	if out == nil {
		return "the shape of its output does not fit", nil
	}
	base := out.base
	for _, p := range parts {
		for i := range p.n {
			a.union(p.t.base+i, base+i)
		}
		base += p.n
	}
	a.eval(func(v *values) error {
		to := v.of(out)
		for _, p := range parts {
			from := p.v
			if from == nil {
				from = v.of(p.t)
			}
			to = to[copy(to, from):]
		}
		return nil
	})
	return "", nil
}

// concatAcross joins tensors along another axis than that of their channels.
func (a *analysis) concatAcross(n *inspect.Node, axis int) string {
	if axis < 0 {
		return "none of its inputs has channels"
	}
	var parts []*track
	for _, in := range n.Inputs {
		t := a.live[in]
		if t == nil || t.n != a.live[n.Input(0)].n {
			return "one of its inputs is not followed"
		}
		parts = append(parts, t)
		a.join(parts[0], t)
	}
	out := a.sized(n, axis, parts[0].n)
	if out == nil {
		return "the shape of its output does not fit"
	}
	a.join(parts[0], out)
	a.eval(func(v *values) error {
		to := v.of(out)
		for c := range to {
			to[c] = v.of(parts[0])[c]
			for _, p := range parts {
				if v.of(p)[c] != to[c] {
					to[c] = nan
				}
			}
		}
		return nil
	})
	return ""
}

// cut couples out with the places [from, from+out.n) of x.
func (a *analysis) cut(x, out *track, from int) {
	for i := range out.n {
		a.union(x.base+from+i, out.base+i)
	}
	a.eval(func(v *values) error {
		copy(v.of(out), v.of(x)[from:])
		return nil
	})
}

func (a *analysis) split(n *inspect.Node) string {
	x := a.live[n.Input(0)]
	axis := normal(n.AttrInt("axis", 0), a.rank(n.Input(0)))
	if x == nil || axis < 0 {
		return "the shape of its input is not known"
	}
	if axis != x.axis {
		for i := range n.Outputs {
			out := a.track(n.Output(i), x.axis)
			if out == nil || out.n != x.n {
				return "the shape of an output is not known or does not fit"
			}
			a.join(x, out)
			a.cut(x, out, 0)
		}
		return ""
	}
	if n.Input(1) != "" {
		if _, ok := a.g.Ints(n.Input(1)); !ok {
			return "its sizes are computed"
		}
	}
	at := 0
	var outs []*track
	for i := range n.Outputs {
		out := a.track(n.Output(i), axis)
		if out == nil || at+out.n > x.n {
			return "the shape of an output is not known or does not fit"
		}
		a.cut(x, out, at)
		outs = append(outs, out)
		at += out.n
	}
	if at != x.n {
		return "its outputs do not make up its input"
	}
	a.fixes = append(a.fixes, func(e *editor) error {
		if len(e.kept(x)) == x.n {
			return nil
		}
		var list []int64
		for _, o := range outs {
			list = append(list, int64(len(e.kept(o))))
		}
		e.dropAttr(n, "num_outputs")
		if a.g.Opset("") >= 13 {
			e.ints(n, 1, "split", list)
		} else {
			e.setInts(n, "split", list)
		}
		return nil
	})
	return ""
}

func (a *analysis) slice(n *inspect.Node) string {
	x := a.live[n.Input(0)]
	rank := a.rank(n.Input(0))
	if x == nil || rank < 0 {
		return "the shape of its input is not known"
	}
	inputs := a.g.Opset("") >= 10
	list := func(i int, name string) ([]int64, bool) {
		if !inputs {
			l := n.AttrInts(name)
			return l, l != nil
		}
		return a.g.Ints(n.Input(i))
	}
	starts, okS := list(1, "starts")
	ends, okE := list(2, "ends")
	axes, okA := list(3, "axes")
	if inputs && n.Input(3) != "" && !okA {
		return "its axes are computed"
	}
	if !okA {
		for i := range starts {
			axes = append(axes, int64(i))
		}
		if !okS {
			return "its axes are computed"
		}
	}
	entry := -1
	for i, ax := range axes {
		k := normal(ax, rank)
		if k < 0 {
			return "its axes do not fit"
		}
		if k == x.axis {
			entry = i
		}
	}
	if entry < 0 {
		return a.pass(n, x, x.axis, keepValue)
	}
	steps, okT := list(4, "steps")
	if !inputs || n.Input(4) == "" {
		steps = slices.Repeat([]int64{1}, len(axes))
		okT = true
	}
	if !okS || !okE || !okT || len(starts) != len(axes) || len(ends) != len(axes) || len(steps) != len(axes) {
		return "its limits are computed"
	}
	if steps[entry] != 1 {
		return "it takes channels in steps"
	}
	clip := func(v int64) int {
		if v < 0 {
			v += int64(x.n)
		}
		return int(min(max(v, 0), int64(x.n)))
	}
	from, to := clip(starts[entry]), clip(ends[entry])
	if from >= to {
		return "it takes no channels"
	}
	out := a.sized(n, x.axis, to-from)
	if out == nil {
		return "the shape of its output is not known or does not fit"
	}
	a.cut(x, out, from)
	a.fixes = append(a.fixes, func(e *editor) error {
		kept := e.kept(x)
		if len(kept) == x.n {
			return nil
		}
		before, _ := slices.BinarySearch(kept, from)
		starts, ends := slices.Clone(starts), slices.Clone(ends)
		starts[entry], ends[entry] = int64(before), int64(before+len(e.kept(out)))
		if !inputs {
			e.setInts(n, "starts", starts)
			e.setInts(n, "ends", ends)
			return nil
		}
		e.ints(n, 1, "starts", starts)
		e.ints(n, 2, "ends", ends)
		e.ints(n, 3, "axes", axes)
		e.ints(n, 4, "steps", steps)
		return nil
	})
	return ""
}

// pad passes channels, and may put constant ones before and behind.
func (a *analysis) pad(n *inspect.Node) string {
	x := a.live[n.Input(0)]
	rank := a.rank(n.Input(0))
	if x == nil || rank < 0 {
		return "the shape of its input is not known"
	}
	pads, ok := n.AttrInts("pads"), true
	if pads == nil {
		pads = n.AttrInts("paddings")
	}
	inputs := a.g.Opset("") >= 11
	value, valueKnown := float64(n.AttrFloat("value", 0)), true
	axes := make([]int64, rank)
	for i := range axes {
		axes[i] = int64(i)
	}
	if inputs {
		if pads, ok = a.g.Ints(n.Input(1)); !ok {
			return "its sizes are computed"
		}
		value = 0
		if n.Input(2) != "" {
			value, valueKnown = a.g.Float(n.Input(2))
		}
		if n.Input(3) != "" {
			if axes, ok = a.g.Ints(n.Input(3)); !ok {
				return "its axes are computed"
			}
		}
	}
	if len(pads) != 2*len(axes) {
		return fmt.Sprintf("it has %d sizes for %d axes", len(pads), len(axes))
	}
	if !valueKnown {
		value = nan
	}
	begin, end, entry, elsewhere := int64(0), int64(0), -1, false
	for i, ax := range axes {
		b, f := pads[i], pads[len(axes)+i]
		switch normal(ax, rank) {
		case -1:
			return "its axes do not fit"
		case x.axis:
			begin, end, entry = b, f, i
		default:
			elsewhere = elsewhere || b > 0 || f > 0
		}
	}
	constant := n.AttrString("mode", "constant") == "constant"
	if begin < 0 || end < 0 || begin > maxPlaces || end > maxPlaces || (begin > 0 || end > 0) && !constant {
		return "it cuts channels off or repeats them"
	}
	out := a.sized(n, x.axis, x.n+int(begin)+int(end))
	if out == nil {
		return "the shape of its output is not known or does not fit"
	}
	first := int(begin)
	for i := range x.n {
		a.union(x.base+i, out.base+first+i)
	}
	a.eval(func(v *values) error {
		from, to := v.of(x), v.of(out)
		for i := range to {
			to[i] = value
		}
		for i, y := range from {
			if elsewhere && constant && y != value {
				y = nan
			}
			to[first+i] = y
		}
		return nil
	})
	if begin > 0 || end > 0 {
		a.fixes = append(a.fixes, func(e *editor) error {
			kept := e.kept(out)
			if len(kept) == out.n {
				return nil
			}
			b, _ := slices.BinarySearch(kept, first)
			f, _ := slices.BinarySearch(kept, first+x.n)
			pads := slices.Clone(pads)
			pads[entry], pads[len(axes)+entry] = int64(b), int64(len(kept)-f)
			if inputs {
				e.ints(n, 1, "pads", pads)
			} else {
				e.setInts(n, "pads", pads)
				e.dropAttr(n, "paddings")
			}
			return nil
		})
	}
	return ""
}
