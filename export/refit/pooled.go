package refit

import (
	"slices"

	"github.com/filterlens/filterlens/inspect"
)

// A pooling says what becomes of a classifier's outputs at the positions of a map.
type pooling int

const (
	// single: there is one position.
	single pooling = iota
	// averaged: they are averaged, so that the features might as well be.
	averaged
	// activated: they pass a Relu and are averaged then.
	activated
)

// rows brings features of channels x places for each sample into rows of channels:
// one a sample where they are averaged, else one for each place. A row holds d
// channels.
func (p pooling) rows(x []float32, d, places int) []float32 {
	n := len(x) / d / places
	if p == averaged {
		out := make([]float32, n*d)
		for i := range out {
			sum := 0.0
			for _, v := range x[i*places : (i+1)*places] {
				sum += float64(v)
			}
			out[i] = float32(sum / float64(places))
		}
		return out
	}
	out := make([]float32, len(x))
	for i := range n {
		in, rows := x[i*d*places:(i+1)*d*places], out[i*d*places:]
		for c := range d {
			for q, v := range in[c*places : (c+1)*places] {
				rows[q*d+c] = v
			}
		}
	}
	return out
}

// pooledConv returns the convolution whose outputs, averaged over all positions, are
// the logits; its node is -1 where there is none.
func pooledConv(m *inspect.Model, output string) (node int, p pooling) {
	g := m.Graph
	t := output
	for range g.Nodes {
		n := g.Producer(t)
		if n == nil || !n.Standard() {
			return -1, single
		}
		switch n.Op {
		case "Identity", "Dropout":
		case "Softmax", "LogSoftmax", "Flatten", "Reshape", "Squeeze", "Unsqueeze":
			if p != single {
				return -1, single
			}
		case "GlobalAveragePool", "ReduceMean", "AveragePool":
			if p != single || !averagesAll(m, n) {
				return -1, single
			}
			p = averaged
		case "Relu":
			if p != averaged {
				return -1, single
			}
			p = activated
		case "Conv":
			if p == single {
				return -1, single
			}
			return n.Index, p
		default:
			return -1, single
		}
		t = n.Input(0)
	}
	return -1, single
}

// averagesAll tells whether a node averages each channel of a map over all positions.
func averagesAll(m *inspect.Model, n *inspect.Node) bool {
	in := m.Graph.Shape(n.Input(0))
	if n.Op == "GlobalAveragePool" {
		return true
	}
	if !in.Known || len(in.Dims) != 4 {
		return false
	}
	if n.Op == "AveragePool" {
		kernel := n.AttrInts("kernel_shape")
		auto := n.AttrString("auto_pad", "NOTSET")
		return len(kernel) == 2 && kernel[0] == in.Dims[2].Value && kernel[1] == in.Dims[3].Value &&
			(auto == "NOTSET" || auto == "VALID") && !slices.ContainsFunc(n.AttrInts("pads"), func(p int64) bool { return p != 0 }) &&
			!slices.ContainsFunc(n.AttrInts("dilations"), func(d int64) bool { return d != 1 })
	}
	axes := n.AttrInts("axes")
	if n.Input(1) != "" {
		st, ok := m.Graph.Stored(n.Input(1))
		if !ok || len(st.Through) > 0 {
			return false
		}
		var err error
		if axes, err = st.Tensor.Int64s(8); err != nil {
			return false
		}
	}
	axes = slices.Clone(axes)
	for i := range axes {
		if axes[i] < 0 {
			axes[i] += 4
		}
	}
	slices.Sort(axes)
	return slices.Equal(axes, []int64{2, 3})
}

// pointwise tells whether a convolution reads each position for itself, and all of
// them.
func (s *site) pointwise() bool {
	other := func(than int64) func(int64) bool { return func(v int64) bool { return v != than } }
	return s.window != nil && s.taps == 1 && !slices.ContainsFunc(s.window.strides, other(1)) && !slices.ContainsFunc(s.window.pads, other(0))
}

// endsInSoftmax tells whether the numbers of a tensor are probabilities.
func endsInSoftmax(m *inspect.Model, t string) bool {
	for range m.Graph.Nodes {
		n := m.Graph.Producer(t)
		if n == nil || !n.Standard() {
			return false
		}
		switch n.Op {
		case "Softmax":
			return true
		case "Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast":
			t = n.Input(0)
		default:
			return false
		}
	}
	return false
}
