package compact

import (
	"fmt"
	"math"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// conv: a convolution of one group reads its input and makes new channels, a
// depthwise one (as many groups as input channels, more than one) couples each
// input channel with its outputs.
func (a *analysis) conv(n *inspect.Node) (string, error) {
	x, reason := a.spatial(n)
	if reason != "" {
		return reason, nil
	}
	w, ok := a.view(n, 1)
	if !ok || len(w.dims) < 3 {
		return "its weight is not stored", nil
	}
	groups := n.AttrInt("group", 1)
	m, c := w.dims[0], w.dims[1]
	if groups < 1 || m < 1 || c < 1 || m%groups != 0 || int64(x.n)%groups != 0 || int64(x.n)/groups != c {
		return fmt.Sprintf("its weight is for %d channels in %d groups, its input has %d", c, groups, x.n), nil
	}
	out := a.sized(n, 1, int(m))
	if out == nil {
		return "the shape of its output is not known or does not fit", nil
	}
	if !a.along(w, 0, out) {
		return "its weight does not fit its output", nil
	}
	s := &sink{node: n, in: x, out: out, groups: int(groups), scale: 1, biasScale: 1, padded: paddedConv(n, w.dims[2:]),
		weight: w.p.stored.Name, w: weights{w.p.stored.Tensor, w.axes[0], w.axes[1]}}
	if reason, err := a.bias(n, 2, out, s); reason != "" || err != nil {
		return reason, err
	}
	switch {
	case groups == 1:
		if !a.along(w, 1, x) {
			return "its weight does not fit its input", nil
		}
	case c == 1:
		return "", a.depthwise(s, m/groups)
	default:
		if len(w.p.stored.Through) > 0 {
			return "the weight of its groups is rearranged by other nodes", nil
		}
		w.p.grouped = s
		a.grouped = append(a.grouped, &groupedConv{n, x, out, int(groups)})
		a.fixes = append(a.fixes, func(e *editor) error { return e.groups(s) })
	}
	return "", a.sink(s)
}

// depthwise couples each channel with its each outputs.
func (a *analysis) depthwise(s *sink, each int64) error {
	for o := range s.out.n {
		a.union(s.in.base+o/int(each), s.out.base+o)
	}
	if err := a.kernelsOf(s); err != nil {
		return err
	}
	a.eval(func(v *values) error {
		own := &values{ctx: v.ctx, v: v.v} // an elementwise operator: what is asked for goes as a whole
		return s.evaluate(own)
	})
	a.fixes = append(a.fixes, func(e *editor) error {
		if kept := len(e.kept(s.in)); kept < s.in.n {
			e.setInt(s.node, "group", int64(kept))
		}
		return nil
	})
	return nil
}

// kernelsOf finds which kernels of s are not zero, where that matters.
func (a *analysis) kernelsOf(s *sink) error {
	if !a.kernels {
		return nil
	}
	return s.find(a.ctx)
}

func paddedConv(n *inspect.Node, kernel []int64) bool {
	switch n.AttrString("auto_pad", "NOTSET") {
	case "NOTSET", "":
		return anyNot(n.AttrInts("pads"), 0)
	case "VALID":
		return false
	}
	return anyNot(kernel, 1) || anyNot(n.AttrInts("dilations"), 1)
}

// sink adds a reader.
func (a *analysis) sink(s *sink) error {
	if err := a.kernelsOf(s); err != nil {
		return err
	}
	s.number = len(a.sinks)
	a.sinks = append(a.sinks, s)
	a.eval(func(v *values) error { return s.evaluate(v) })
	return nil
}

// bias couples input i of n, one number for each place of out or one for all,
// and tells s how to change it.
func (a *analysis) bias(n *inspect.Node, i int, out *track, s *sink) (string, error) {
	t := a.g.DType(n.Output(0))
	writable := t == onnxfile.Float || t == onnxfile.Double
	if n.Input(i) == "" {
		if writable {
			s.mend = func(e *editor, delta []float64) error { return e.bias(s, i, nil, delta) }
		}
		return "", nil
	}
	b, ok := a.view(n, i)
	if !ok {
		return "its bias is not stored", nil
	}
	axis := -1
	for j, d := range b.dims {
		if d == 1 {
			continue
		}
		if axis = j; d != int64(out.n) || j != len(b.dims)-1 {
			return "its bias does not fit its output", nil
		}
		if !a.along(b, j, out) {
			return "its bias does not fit its output", nil
		}
	}
	if axis < 0 && n.Op != "Gemm" && len(b.dims) == 1 && out.n == 1 {
		if !a.along(b, 0, out) {
			return "its bias does not fit its output", nil
		}
	}
	var err error
	if s.bias, err = a.numbers(b, axis, out.n); err != nil {
		return "", err
	}
	if writable {
		s.mend = func(e *editor, delta []float64) error { return e.bias(s, i, b, delta) }
	}
	return "", nil
}

func (a *analysis) convTranspose(n *inspect.Node) (string, error) {
	x, reason := a.spatial(n)
	if reason != "" {
		return reason, nil
	}
	w, ok := a.view(n, 1)
	if !ok || len(w.dims) < 3 {
		return "its weight is not stored", nil
	}
	if n.AttrInt("group", 1) != 1 {
		return "there is no rule for its groups", nil
	}
	out := a.sized(n, 1, int(w.dims[1]))
	if out == nil || !a.along(w, 0, x) || !a.along(w, 1, out) {
		return "its weight does not fit", nil
	}
	// Even without padding its border positions see fewer inputs.
	s := &sink{node: n, in: x, out: out, groups: 1, scale: 1, biasScale: 1, padded: true,
		weight: w.p.stored.Name, w: weights{w.p.stored.Tensor, w.axes[1], w.axes[0]}}
	if reason, err := a.bias(n, 2, out, s); reason != "" || err != nil {
		return reason, err
	}
	return "", a.sink(s)
}

func (a *analysis) gemm(n *inspect.Node) (string, error) {
	x := a.live[n.Input(0)]
	contracted := 1
	if n.AttrInt("transA", 0) != 0 {
		contracted = 0
	}
	if x == nil || x.axis != contracted {
		return "it multiplies along another axis than that of the channels", nil
	}
	w, ok := a.view(n, 1)
	if !ok || len(w.dims) != 2 {
		return "its weight is not stored", nil
	}
	row, column := 1, 0
	if n.AttrInt("transB", 0) != 0 {
		row, column = 0, 1
	}
	if w.dims[column] != int64(x.n) {
		return fmt.Sprintf("its weight is for %d inputs, its input has %d", w.dims[column], x.n), nil
	}
	out := a.sized(n, 1, int(w.dims[row]))
	if out == nil || !a.along(w, row, out) || !a.along(w, column, x) {
		return "its weight does not fit", nil
	}
	s := &sink{node: n, in: x, out: out, groups: 1, scale: float64(n.AttrFloat("alpha", 1)), biasScale: float64(n.AttrFloat("beta", 1)),
		weight: w.p.stored.Name, w: weights{w.p.stored.Tensor, w.axes[row], w.axes[column]}}
	if reason, err := a.bias(n, 2, out, s); reason != "" || err != nil {
		return reason, err
	}
	if s.biasScale == 0 && n.Input(2) != "" {
		s.mend = nil
	}
	return "", a.sink(s)
}

func (a *analysis) matMul(n *inspect.Node) (string, error) {
	x := a.live[n.Input(0)]
	rank := a.rank(n.Input(0))
	if x == nil || rank < 2 || x.axis != rank-1 {
		return "it multiplies along another axis than that of the channels", nil
	}
	w, ok := a.view(n, 1)
	if !ok || len(w.dims) != 2 {
		return "its weight is not a stored matrix", nil
	}
	if w.dims[0] != int64(x.n) {
		return fmt.Sprintf("its weight is for %d inputs, its input has %d", w.dims[0], x.n), nil
	}
	out := a.sized(n, rank-1, int(w.dims[1]))
	if out == nil || !a.along(w, 1, out) || !a.along(w, 0, x) {
		return "its weight does not fit", nil
	}
	s := &sink{node: n, in: x, out: out, groups: 1, scale: 1, weight: w.p.stored.Name, w: weights{w.p.stored.Tensor, w.axes[1], w.axes[0]}}
	if t := a.g.DType(n.Output(0)); t == onnxfile.Float || t == onnxfile.Double {
		s.mend = func(e *editor, delta []float64) error { return e.added(s, delta) }
	}
	return "", a.sink(s)
}

// perChannel couples input i of n, one number for each channel, with x.
func (a *analysis) perChannel(n *inspect.Node, i int, x *track) ([]float64, string, error) {
	v, ok := a.view(n, i)
	if !ok || len(v.dims) != 1 || !a.along(v, 0, x) {
		return nil, fmt.Sprintf("its input %d is not stored or does not fit", i), nil
	}
	list, err := a.numbers(v, 0, x.n)
	return list, "", err
}

// batchNorm is y = (x-mean) / sqrt(variance+epsilon) * scale + bias.
func (a *analysis) batchNorm(n *inspect.Node) (string, error) {
	x, reason := a.spatial(n)
	if reason != "" {
		return reason, nil
	}
	if n.AttrInt("training_mode", 0) != 0 || a.used(n, 1) || a.used(n, 2) || n.AttrInt("spatial", 1) != 1 {
		return "it is in training mode", nil
	}
	var p [4][]float64 // scale, bias, mean, variance
	for i := range p {
		var err error
		if p[i], reason, err = a.perChannel(n, i+1, x); reason != "" || err != nil {
			return reason, err
		}
	}
	epsilon := float64(n.AttrFloat("epsilon", 1e-5))
	return a.normalised(n, x, func(c int, v float64) float64 {
		if p[0][c] == 0 {
			return p[1][c]
		}
		return (v-p[2][c])/math.Sqrt(p[3][c]+epsilon)*p[0][c] + p[1][c]
	})
}

// instanceNorm gives a constant channel its bias.
func (a *analysis) instanceNorm(n *inspect.Node) (string, error) {
	x, reason := a.spatial(n)
	if reason != "" {
		return reason, nil
	}
	scale, reason, err := a.perChannel(n, 1, x)
	if reason != "" || err != nil {
		return reason, err
	}
	bias, reason, err := a.perChannel(n, 2, x)
	if reason != "" || err != nil {
		return reason, err
	}
	return a.normalised(n, x, func(c int, v float64) float64 {
		if scale[c] == 0 {
			return bias[c]
		}
		return nan // rounding decides what is left of x-mean
	})
}

func (a *analysis) normalised(n *inspect.Node, x *track, fn func(c int, v float64) float64) (string, error) {
	out := a.sized(n, 1, x.n)
	if out == nil {
		return "the shape of its output is not known or does not fit", nil
	}
	a.join(x, out)
	a.eval(func(v *values) error {
		from, to := v.of(x), v.of(out)
		for c := range to {
			if to[c] = fn(c, from[c]); math.IsInf(to[c], 0) {
				to[c] = nan
			}
		}
		return nil
	})
	return "", nil
}
