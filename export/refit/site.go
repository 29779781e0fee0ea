package refit

import (
	"fmt"
	"slices"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// A site is a linear layer whose output is to be like that of the layer of the
// same name in another model.
//
// A convolution is read as a product of matrices: each position of its output has
// a row of regressors, the values under the kernel. Grouped convolutions are as
// many products as there are groups.
type site struct {
	name, op string
	// in and out are tensors of the masked model, target is out in the original.
	in, out, target string

	weight string
	w      []float32 // as stored
	// Of each of groups, d regressors make f filters. A regressor is a channel, of
	// channels in each group, at one of taps places of the kernel.
	groups, channels, taps, f int
	// scale is what the operator multiplies the stored weight with.
	scale float32
	// index returns the element of w for a regressor and a filter of a group.
	index func(g, regressor, filter int) int

	// bias is where a constant goes that is to be added to a filter's output, ""
	// where there is no such place. The stored number changes by the constant times
	// biasScale. biasInside tells that it is part of out.
	bias       string
	b          []float32
	biasScale  float32
	biasInside bool
	norm       *norm

	// window is set for convolutions.
	window *window
	// channelsLast tells that the channels of in and out are the last dimension.
	channelsLast bool
}

// A norm is a BatchNormalization that alone reads a layer's output.
type norm struct {
	mean, variance string
	m, v           []float32
	epsilon        float64
}

// d is the number of regressors of a group.
func (s *site) d() int { return s.channels * s.taps }

// filters is the number of filters of all groups.
func (s *site) filters() int { return s.groups * s.f }

// intercept tells whether a constant can be added to each filter's output.
func (s *site) intercept() bool { return s.bias != "" }

// matrix returns the weights of a group as d x f, in effect.
func (s *site) matrix(g int) []float64 {
	m := make([]float64, s.d()*s.f)
	for r := range s.d() {
		for k := range s.f {
			m[r*s.f+k] = float64(s.w[s.index(g, r, k)] * s.scale)
		}
	}
	return m
}

// support returns which weights of a group, d x f, are not zero.
func (s *site) support(g int) []bool {
	m := make([]bool, s.d()*s.f)
	for r := range s.d() {
		for k := range s.f {
			m[r*s.f+k] = s.w[s.index(g, r, k)] != 0
		}
	}
	return m
}

// findSites returns the layers of those names, in the order in which they run. With
// no names these are the linear layers whose weights differ. Layers that cannot be
// dealt with are reported with the reason; memory is that of Options.
func findSites(original, masked *inspect.Model, layers []string, memory int64) ([]*site, []LayerError, error) {
	asked := map[string]bool{}
	for _, name := range layers {
		asked[masked.LayerName(name)] = false
	}
	var sites []*site
	var skipped []LayerError
	for i := range masked.Layers {
		l := &masked.Layers[i]
		if l.Scope != "" {
			continue
		}
		_, named := asked[l.Name]
		if named {
			asked[l.Name] = true
		} else if len(layers) > 0 {
			continue
		}
		s, reason, err := newSite(original, masked, l, len(layers) == 0, memory)
		if err != nil {
			return nil, nil, err
		}
		if s != nil {
			sites = append(sites, s)
		} else if reason != "" {
			skipped = append(skipped, LayerError{Layer: l.Name, Skipped: reason})
		}
	}
	for _, name := range layers {
		if !asked[masked.LayerName(name)] {
			return nil, nil, &UnknownLayerError{File: masked.File, Layer: name}
		}
	}
	return sites, skipped, nil
}

// newSite returns nil and why where a layer cannot be dealt with. With changed it
// returns nothing for a layer that is the same in both models, or not linear.
func newSite(original, masked *inspect.Model, l *inspect.Layer, changed bool, memory int64) (s *site, reason string, err error) {
	why := func(format string, a ...any) (*site, string, error) { return nil, fmt.Sprintf(format, a...), nil }
	_, n := masked.LayerNode(l)
	st, ok := masked.LayerWeight(l)
	if !ok {
		if changed {
			return nil, "", nil
		}
		return why("its weight is not stored as numbers")
	}
	var o *inspect.Layer
	for i := range original.Layers {
		if original.Layers[i].Scope == "" && original.Layers[i].Name == l.Name {
			o = &original.Layers[i]
		}
	}
	if o == nil {
		return why("the original has no layer of this name")
	}
	_, on := original.LayerNode(o)
	ost, ok := original.LayerWeight(o)
	if !ok || on.Op != n.Op || on.Domain != n.Domain || !slices.Equal(ost.Tensor.Dims(), st.Tensor.Dims()) {
		return why("the layer of the original is another one")
	}
	if changed {
		same, err := onnxfile.SameData(st.Tensor, ost.Tensor)
		if err != nil || same {
			return nil, "", err
		}
	}
	if !n.Standard() || !slices.Contains([]string{"Conv", "Gemm", "MatMul"}, n.Op) {
		return why("%s is not one of Conv, Gemm and MatMul", l.Op)
	}
	switch st.Tensor.DType() {
	case onnxfile.Float, onnxfile.Float16, onnxfile.BFloat16, onnxfile.Double:
	default:
		return why("its weight is of type %s; prune before quantizing", st.Tensor.DType())
	}
	if len(st.Through) > 0 {
		return why("its weight passes through %s before it is used", st.Through[0].Op)
	}
	if n.Input(1) != st.Name {
		return why("its weight is not its second input")
	}
	if shared(masked, st.Name) {
		return why("its weight %q is read by more than one node", st.Name)
	}
	elements, err := st.Tensor.Elements()
	if err != nil {
		return nil, "", err
	}
	if most := memory / 4; 4*elements > most {
		return why("its %d weights take %d MB, more than the quarter of the memory allowed, %d MB, that one layer may have; give more memory", elements, 4*elements>>20, most>>20)
	}
	s = &site{name: l.Name, op: n.Op, in: l.InTensor, out: l.OutTensor, target: o.OutTensor, weight: st.Name, scale: 1, biasScale: 1, groups: 1, taps: 1}
	dims := st.Tensor.Dims()
	if n.Op == "Conv" {
		if reason := s.convolution(l, dims); reason != "" {
			return why("%s", reason)
		}
	} else if reason := s.product(n, dims, l); reason != "" {
		return why("%s", reason)
	}
	if s.w, err = st.Tensor.Float32s(elements); err != nil {
		return nil, "", err
	}
	if reason, err := s.findBias(masked, l, n); err != nil || reason != "" {
		return nil, reason, err
	}
	return s, "", nil
}

// maxElements bounds a weight tensor.
const maxElements = 1 << 30

func (s *site) convolution(l *inspect.Layer, dims []int64) (reason string) {
	spatial := len(dims) - 2
	if spatial < 1 || len(l.Kernel) != spatial || l.Group < 1 || dims[0]%l.Group != 0 || dims[0] < 1 || dims[1] < 1 {
		return "its weight has an unexpected shape"
	}
	for i, k := range l.Kernel {
		if k < 1 || k != dims[2+i] {
			return "its weight has an unexpected shape"
		}
		s.taps *= int(k)
	}
	s.groups, s.channels = int(l.Group), int(dims[1])
	s.f = int(dims[0]) / s.groups
	s.window = &window{kernel: l.Kernel, strides: l.Strides, dilations: l.Dilations, pads: l.Pads, auto: l.AutoPad}
	s.index = func(g, r, k int) int {
		// Regressors are ordered by place, then channel; weights the other way round.
		return ((g*s.f+k)*s.channels+r%s.channels)*s.taps + r/s.channels
	}
	return ""
}

func (s *site) product(n *inspect.Node, dims []int64, l *inspect.Layer) (reason string) {
	if len(dims) != 2 || dims[0] < 1 || dims[1] < 1 {
		return fmt.Sprintf("its weight has %d dimensions, 2 are expected", len(dims))
	}
	if !l.In.Known || len(l.In.Dims) < 2 {
		return "the shape of its input is not known"
	}
	in, out := int(dims[0]), int(dims[1])
	s.channelsLast = true
	if n.Op == "Gemm" {
		if n.AttrInt("transA", 0) != 0 {
			return "it reads its input transposed"
		}
		s.scale = n.AttrFloat("alpha", 1)
		if s.scale == 0 {
			return "its factor alpha is zero"
		}
		if n.AttrInt("transB", 0) != 0 {
			in, out = out, in
			s.channels, s.f = in, out
			s.index = func(_, r, k int) int { return k*in + r }
			return ""
		}
	}
	s.channels, s.f = in, out
	s.index = func(_, r, k int) int { return r*out + k }
	return ""
}

// findBias finds the numbers that are added to each filter's output: those that
// the node reads itself, the mean of a BatchNormalization that follows, or what the
// next node adds.
func (s *site) findBias(m *inspect.Model, l *inspect.Layer, n *inspect.Node) (reason string, err error) {
	g := m.Graph
	s.norm, err = normBehind(m, l.OutTensor, s.filters())
	if err != nil {
		return "", err
	}
	if own := n.Input(2); own != "" {
		st, ok := m.LayerBias(l)
		beta := n.AttrFloat("beta", 1)
		elements, err := st.Tensor.Elements()
		switch {
		case !ok || len(st.Through) > 0 || st.Name != own:
			return "its bias is computed", nil
		case err != nil || elements != int64(s.filters()) || beta == 0 && n.Op == "Gemm":
			return "its bias does not have a number for each filter", nil
		case shared(m, st.Name):
			return fmt.Sprintf("its bias %q is read by more than one node", st.Name), nil
		}
		if n.Op == "Gemm" {
			s.biasScale = 1 / beta
		}
		s.bias, s.biasInside = st.Name, true
		s.b, err = st.Tensor.Float32s(maxElements)
		return "", err
	}
	if s.norm != nil {
		// What is added before it and what it subtracts are one.
		s.bias, s.b, s.biasScale = s.norm.mean, slices.Clone(s.norm.m), -1
		return "", nil
	}
	if st, ok := m.LayerBias(l); ok && len(st.Through) == 0 && !shared(m, st.Name) {
		if elements, err := st.Tensor.Elements(); err == nil && elements == int64(s.filters()) && g.DType(l.OutTensor).IsFloat() {
			s.bias = st.Name
			s.b, err = st.Tensor.Float32s(maxElements)
			return "", err
		}
	}
	return "", nil
}

// normBehind returns the BatchNormalization that alone reads a tensor and has
// statistics of its own, nil when there is none.
func normBehind(m *inspect.Model, tensor string, filters int) (*norm, error) {
	g := m.Graph
	readers := g.Consumers(tensor)
	if len(readers) != 1 || g.IsOutput(tensor) {
		return nil, nil
	}
	n := readers[0]
	if n.Op != "BatchNormalization" || !n.Standard() || n.Input(0) != tensor || n.AttrInt("training_mode", 0) != 0 {
		return nil, nil
	}
	mean, ok := g.Stored(n.Input(3))
	variance, ok2 := g.Stored(n.Input(4))
	if !ok || !ok2 || mean.Name != n.Input(3) || variance.Name != n.Input(4) || shared(m, mean.Name) || shared(m, variance.Name) {
		return nil, nil
	}
	b := &norm{mean: mean.Name, variance: variance.Name, epsilon: float64(n.AttrFloat("epsilon", 1e-5))}
	for _, t := range []onnxfile.Tensor{mean.Tensor, variance.Tensor} {
		if e, err := t.Elements(); err != nil || e != int64(filters) || !t.DType().IsFloat() {
			return nil, err
		}
	}
	var err error
	if b.m, err = mean.Tensor.Float32s(maxElements); err == nil {
		b.v, err = variance.Tensor.Float32s(maxElements)
	}
	return b, err
}

// shared tells whether a stored tensor is read in more than one place, or is an
// output.
func shared(m *inspect.Model, name string) bool {
	if m.Graph.IsOutput(name) {
		return true
	}
	times := 0
	for _, n := range m.Graph.Consumers(name) {
		for _, in := range reads(n) {
			if in == name {
				times++
			}
		}
	}
	return times != 1
}
