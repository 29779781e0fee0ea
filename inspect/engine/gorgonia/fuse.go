package gorgonia

import (
	"math"
	"slices"
	"unsafe"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// fuse joins nodes whose results in between nobody else reads, outputs of the
// graph included: normalization goes into the weights of the convolution before
// it, x * Sigmoid(x) becomes one function, and functions of single numbers are
// applied where a convolution or a product writes. Numbers change by rounding
// only.
func (p *program) fuse() {
	f := &fusion{program: p, readers: p.readers(), producer: make([]*node, len(p.constants)), holders: make(map[*float32]int)}
	for _, c := range p.constants {
		if d := c.floats(); len(d) > 0 {
			f.holders[unsafe.SliceData(d)]++
		}
	}
	for _, n := range p.nodes {
		for _, t := range n.out {
			if t >= 0 {
				f.producer[t] = n
			}
		}
	}
	for _, join := range []func(*node) bool{f.normalization, f.silu, f.unread, f.function} {
		p.nodes = slices.DeleteFunc(p.nodes, join)
	}
	p.dropUnread()
}

// fusion is the state of fuse. Its methods say whether a node has been taken out.
type fusion struct {
	*program
	readers  []int
	producer []*node // by tensor
	// holders counts the constants over each piece of memory: a Reshape of a
	// constant shares it.
	holders map[*float32]int
}

// before returns the node that computes input i of n, when it is of the given
// operator, has one output, and n alone reads that.
func (f *fusion) before(n *node, i int, ops ...string) *node {
	if i >= len(n.in) || n.in[i] < 0 || f.readers[n.in[i]] != 1 {
		return nil
	}
	m := f.producer[n.in[i]]
	if m == nil || !slices.Contains(ops, m.op) || len(m.out) != 1 || m.check() != nil {
		return nil
	}
	return m
}

// alone says whether n has one output and is a form that can be computed.
func alone(n *node) bool { return len(n.out) == 1 && n.out[0] >= 0 && n.check() == nil }

// replace has m compute what n does; n is out of use then.
func (f *fusion) replace(n, m *node) {
	for _, t := range n.in {
		if t >= 0 {
			f.readers[t]--
		}
	}
	m.out = n.out
	f.producer[n.out[0]] = m
}

// normalization folds BatchNormalization into the weights and the bias of the
// convolution before it: with s = scale / sqrt(variance + epsilon), the weights of
// each filter are multiplied by s, and its bias becomes
// (bias - mean) * s + shift (the operator's definition in ONNX, solved for the
// input).
func (f *fusion) normalization(n *node) bool {
	if n.op != "BatchNormalization" || !alone(n) {
		return false
	}
	conv := f.before(n, 0, "Conv")
	if conv == nil || conv.then.given() {
		return false
	}
	w, bias := conv.param(1), conv.param(2)
	if w.floats() == nil || len(w.shape) < 3 || w.shape[0] == 0 || bias.floats() == nil && len(conv.in) > 2 && conv.in[2] >= 0 {
		return false
	}
	filters := w.shape[0]
	var params [4][]float32 // scale, shift, mean, variance
	for i := range params {
		if params[i] = n.param(i + 1).floats(); len(params[i]) != filters {
			return false
		}
	}
	if bias != nil && len(bias.floats()) != filters {
		return false
	}
	scale, shift := make([]float64, filters), make([]float32, filters)
	epsilon := float64(n.float("epsilon", 1e-5))
	for i := range filters {
		scale[i] = float64(params[0][i]) / math.Sqrt(float64(params[3][i])+epsilon)
		b := -float64(params[2][i])
		if bias != nil {
			b += float64(bias.floats()[i])
		}
		shift[i] = float32(b*scale[i] + float64(params[1][i]))
		if !finite(scale[i]) || !finite(float64(shift[i])) {
			return false
		}
	}
	each := len(w.floats()) / filters
	for i, x := range w.floats() {
		if y := float32(float64(x) * scale[i/each]); !finite(float64(y)) {
			return false
		}
	}
	// Weights that nobody else reads are changed where they lie.
	scaled := w.floats()
	if f.readers[conv.in[1]] > 1 || f.holders[unsafe.SliceData(scaled)] > 1 {
		scaled = make([]float32, len(scaled))
	}
	for i, x := range w.floats() {
		scaled[i] = float32(float64(x) * scale[i/each])
	}
	f.replace(n, conv)
	for _, t := range conv.in[1:] {
		if t >= 0 {
			f.readers[t]--
		}
	}
	conv.in = []int{conv.in[0], f.constant(floatValue(scaled, w.shape...)), f.constant(floatValue(shift, filters))}
	return true
}

func finite(x float64) bool { return !math.IsInf(x, 0) && !math.IsNaN(x) }

// constant adds a tensor with a value and one reader.
func (f *fusion) constant(v *value) int {
	f.constants = append(f.constants, v)
	f.readers = append(f.readers, 1)
	f.producer = append(f.producer, nil)
	return len(f.constants) - 1
}

// silu makes one node of x * Sigmoid(x), which training code calls SiLU or swish.
func (f *fusion) silu(n *node) bool {
	if n.op != "Mul" || !alone(n) || len(n.in) != 2 {
		return false
	}
	for i := range 2 {
		s := f.before(n, i, "Sigmoid")
		if s == nil || !alone(s) || len(s.in) != 1 || s.in[0] != n.in[1-i] {
			continue
		}
		f.readers[s.out[0]]--
		n.op, n.in, n.attributes = "SiLU", []int{s.in[0]}, nil
		n.rule = realRule()
		f.readers[s.in[0]]-- // read twice before
		return false         // the Sigmoid is the node that nobody reads now
	}
	return false
}

// unread takes out a node that nobody reads any more.
func (f *fusion) unread(n *node) bool {
	return !slices.ContainsFunc(n.out, func(t int) bool { return t >= 0 && f.readers[t] > 0 })
}

// function has a node that offers it (rule.then) apply the function of single
// numbers that follows.
func (f *fusion) function(n *node) bool {
	if !alone(n) {
		return false
	}
	then, ok := epilogueOf(n)
	if !ok {
		return false
	}
	m := f.before(n, 0, "Conv", "ConvTranspose", "Gemm", "MatMul")
	if m == nil || !m.rule.then || m.then.given() || m.param(1) == nil || m.param(1).dtype != onnxfile.Float {
		return false
	}
	m.then = then
	f.replace(n, m)
	return true
}

// epilogue is what a node does with each of its results before it writes them
// (rule.then): either a clamp or a function that changes them in place, on
// several goroutines at once. The zero value does nothing.
type epilogue struct {
	// clamp limits them to [min, max]; what is not a number stays so.
	clamp    bool
	min, max float32
	after    func(y []float32)
}

func (e *epilogue) given() bool { return e.clamp || e.after != nil }

// epilogueOf returns the epilogue that does what n does.
func epilogueOf(n *node) (e epilogue, ok bool) {
	inPlace := func(f func(dst, x []float32)) (epilogue, bool) {
		return epilogue{after: func(y []float32) { f(y, y) }}, true
	}
	switch n.op {
	case "Relu":
		return epilogue{clamp: true, max: float32(math.Inf(1))}, true
	case "Clip":
		e := epilogue{clamp: true, min: n.float("min", float32(math.Inf(-1))), max: n.float("max", float32(math.Inf(1)))}
		for i, limit := range []*float32{&e.min, &e.max} {
			if i+1 >= len(n.in) || n.in[i+1] < 0 {
				continue
			}
			v := n.param(i + 1).floats()
			if len(v) != 1 {
				return epilogue{}, false
			}
			*limit = v[0]
		}
		return e, e.min <= e.max
	case "Sigmoid":
		return inPlace(compute.Sigmoid[float32])
	case "Tanh":
		return inPlace(compute.Tanh[float32])
	case "SiLU":
		return inPlace(compute.SiLU[float32])
	case "HardSwish":
		return inPlace(compute.HardSwish[float32])
	case "HardSigmoid":
		return inPlace(compute.HardSigmoid(n.float("alpha", 0.2), n.float("beta", 0.5)))
	case "LeakyRelu":
		return inPlace(compute.LeakyRelu(n.float("alpha", 0.01)))
	}
	return epilogue{}, false
}
