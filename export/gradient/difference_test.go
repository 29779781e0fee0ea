package gradient

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A trial is a model, a batch and the sessions that compute its loss and gradients.
type trial struct {
	t       testing.TB
	m       *inspect.Model
	g       *Graph
	x       []float32
	target  []float32
	teacher []float32
	weights map[string][]float32 // as stored
	// plain is the model as it is in the file, its trained tensors inputs.
	plain, graph engine.Session
	opt          BuildOptions
}

// newTrial builds the gradients of m. The model itself is run too, by the same
// engine, to find them by differences.
func newTrial(t testing.TB, eng engine.Engine, m *inspect.Model, opt BuildOptions) *trial {
	t.Helper()
	opt.Gradients = true
	g, err := Build(m, opt)
	if err != nil {
		t.Fatal(err)
	}
	tr := &trial{t: t, m: m, g: g, opt: opt, weights: map[string][]float32{}}
	r := rand.New(rand.NewPCG(7, 7))
	n := int64(opt.Batch)
	tr.x = make([]float32, n*elements(g.Dims))
	for i := range tr.x {
		tr.x[i] = float32(r.NormFloat64())
	}
	tr.target = make([]float32, n*int64(g.Labels))
	tr.teacher = make([]float32, len(tr.target))
	for i := range n {
		tr.target[int(i)*g.Labels+r.IntN(g.Labels)] = 1
	}
	for i := range tr.teacher {
		tr.teacher[i] = float32(2 * r.NormFloat64())
	}
	for i := range g.Params {
		if tr.weights[g.Params[i].Name], err = g.Params[i].Values(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	tr.graph = load(t, eng, engine.Model{Name: "gradients", Bytes: g.Model})
	tr.plain = load(t, eng, engine.Model{Name: "model", Bytes: opened(t, m, g)})
	return tr
}

// opened is the model with its trained tensors as inputs and an open batch.
func opened(t testing.TB, m *inspect.Model, g *Graph) []byte {
	t.Helper()
	d := m.Handle.Draft()
	for i := range g.Params {
		p := &g.Params[i]
		keep := d.Model.Graph.Initializer[:0]
		for _, w := range d.Model.Graph.Initializer {
			if w.GetName() != p.Name {
				keep = append(keep, w)
			}
		}
		d.Model.Graph.Initializer = keep
		nodes := d.Model.Graph.Node[:0]
		for _, n := range d.Model.Graph.Node {
			if n.GetOpType() != "Constant" || n.Output[0] != p.Name {
				nodes = append(nodes, n)
			}
		}
		d.Model.Graph.Node = nodes
		d.Model.Graph.Input = append(d.Model.Graph.Input, valueInfo(p.Name, p.Dims))
	}
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (tr *trial) image() *engine.Tensor {
	return engine.NewFloat32(tr.x, append([]int64{int64(tr.g.Batch)}, tr.g.Dims...)...)
}

// loss runs the model itself and computes the loss from its logits in float64.
func (tr *trial) loss() float64 {
	tr.t.Helper()
	in := map[string]*engine.Tensor{tr.g.Image: tr.image()}
	for _, p := range tr.g.Params {
		in[p.Name] = engine.NewFloat32(tr.weights[p.Name], p.Dims...)
	}
	out := map[string]*engine.Tensor{tr.m.Outputs[0].Name: nil}
	if err := tr.plain.Run(context.Background(), in, out); err != nil {
		tr.t.Fatal(err)
	}
	z := out[tr.m.Outputs[0].Name].Float32()
	if p := tr.m.Graph.Producer(tr.m.Outputs[0].Name); p.Op == "Softmax" {
		for i, v := range z {
			z[i] = float32(math.Log(float64(v)))
		}
	}
	k := tr.g.Labels
	sum := 0.0
	for i := range tr.g.Batch {
		row := slice(z, i, k)
		ce, kl := 0.0, 0.0
		for j, lp := range logSoftmax(row, 1) {
			ce -= float64(tr.target[i*k+j]) * lp
		}
		if a := tr.opt.Distill; a > 0 {
			T := tr.opt.Temperature
			lq := logSoftmax(slice(tr.teacher, i, k), T)
			for j, lp := range logSoftmax(row, T) {
				kl += math.Exp(lq[j]) * (lq[j] - lp)
			}
			ce = (1-a)*ce + a*T*T*kl
		}
		sum += ce
	}
	return sum / float64(tr.g.Batch)
}

func slice(v []float32, i, k int) []float64 {
	out := make([]float64, k)
	for j := range out {
		out[j] = float64(v[i*k+j])
	}
	return out
}

func logSoftmax(z []float64, temperature float64) []float64 {
	top := math.Inf(-1)
	for _, v := range z {
		top = max(top, v/temperature)
	}
	sum := 0.0
	for _, v := range z {
		sum += math.Exp(v/temperature - top)
	}
	out := make([]float64, len(z))
	for i, v := range z {
		out[i] = v/temperature - top - math.Log(sum)
	}
	return out
}

// gradients runs the graph: its loss, and the gradients as stored.
func (tr *trial) gradients() (float64, map[string][]float32) {
	tr.t.Helper()
	g, n := tr.g, int64(tr.g.Batch)
	rows := make([]float32, n)
	for i := range rows {
		rows[i] = 1 / float32(n)
	}
	in := map[string]*engine.Tensor{
		g.Image: tr.image(), g.Rows: engine.NewFloat32(rows, n, 1), g.Target: engine.NewFloat32(tr.target, n, int64(g.Labels)),
	}
	if g.Teacher != "" {
		in[g.Teacher] = engine.NewFloat32(tr.teacher, n, int64(g.Labels))
	}
	out := map[string]*engine.Tensor{g.Loss: nil}
	for i := range g.Params {
		p := &g.Params[i]
		in[p.Weight] = engine.NewFloat32(p.Pack(tr.weights[p.Name]), p.Shape...)
		out[p.Gradient] = nil
	}
	if err := tr.graph.Run(context.Background(), in, out); err != nil {
		tr.t.Fatal(err)
	}
	grads := map[string][]float32{}
	for i := range g.Params {
		p := &g.Params[i]
		grads[p.Name] = make([]float32, len(tr.weights[p.Name]))
		p.Unpack(out[p.Gradient].Float32(), grads[p.Name])
	}
	return float64(out[g.Loss].Float32()[0]), grads
}

// check compares the gradients with central differences. A difference that straddles
// a kink (a zero of Relu, a tie of MaxPool) is wrong by itself, so that other images
// are drawn when some do not agree; a wrong gradient agrees with none.
func (tr *trial) check(step, tolerance float64) {
	tr.t.Helper()
	var faults []string
	for draw := range uint64(20) {
		r := rand.New(rand.NewPCG(11, draw))
		for i := range tr.x {
			tr.x[i] = float32(r.NormFloat64())
		}
		if faults = tr.compare(step, tolerance, r); faults == nil {
			return
		}
	}
	for _, f := range faults {
		tr.t.Error(f)
	}
}

// compare is one try: of each parameter in some directions, with the error allowed
// relative to the norm of the parameter's gradient.
func (tr *trial) compare(step, tolerance float64, r *rand.Rand) (faults []string) {
	tr.t.Helper()
	fault := func(format string, a ...any) { faults = append(faults, fmt.Sprintf(format, a...)) }
	loss, grads := tr.gradients()
	if want := tr.loss(); math.Abs(loss-want) > 1e-4*(1+math.Abs(want)) {
		fault("loss %v, of the model itself %v", loss, want)
	}
	for i := range tr.g.Params {
		p := &tr.g.Params[i]
		w, grad := tr.weights[p.Name], grads[p.Name]
		norm := 0.0
		for _, v := range grad {
			norm += float64(v) * float64(v)
		}
		norm = math.Sqrt(norm)
		if norm == 0 || math.IsNaN(norm) {
			fault("%s: a gradient of norm %v", p.Name, norm)
			continue
		}
		saved := append([]float32(nil), w...)
		for try := range 6 {
			// The first direction is the gradient itself, the next ones are drawn, the
			// last ones a single weight each.
			d := make([]float64, len(w))
			switch {
			case try == 0:
				for j, v := range grad {
					d[j] = float64(v) / norm
				}
			case try < 4:
				for j := range d {
					d[j] = r.NormFloat64() / math.Sqrt(float64(len(d)))
				}
			default:
				d[r.IntN(len(d))] = 1
			}
			var l [2]float64
			exact := 0.0
			for s, sign := range []float64{1, -1} {
				for j, v := range saved {
					w[j] = float32(float64(v) + sign*step*d[j])
				}
				for j := range w {
					exact += sign * float64(grad[j]) * (float64(w[j]) - float64(saved[j])) / (2 * step)
				}
				l[s] = tr.loss()
			}
			copy(w, saved)
			found := (l[0] - l[1]) / (2 * step)
			if math.Abs(found-exact) > tolerance*norm+3e-4 || math.IsNaN(found) {
				fault("%s, direction %d: the loss changes by %v, the gradient says %v (norm %v)", p.Name, try, found, exact, norm)
			}
		}
	}
	return faults
}

func TestGradients(t *testing.T) {
	eng := runtime(t, 1)
	for name, n := range cases() {
		t.Run(name, func(t *testing.T) {
			newTrial(t, eng, n.model(t), BuildOptions{Batch: 3, Norms: true}).check(2e-3, 4e-3)
		})
	}
}

func TestGradientsPureGo(t *testing.T) {
	eng := pureGo(t)
	for name, n := range cases() {
		t.Run(name, func(t *testing.T) {
			newTrial(t, eng, n.model(t), BuildOptions{Batch: 3, Norms: true}).check(2e-3, 4e-3)
		})
	}
}

func cases() map[string]*net {
	all := map[string]*net{}
	pads := func(v ...int64) *onnxpb.AttributeProto { return attrInts("pads", v...) }
	strides := func(v ...int64) *onnxpb.AttributeProto { return attrInts("strides", v...) }
	dilations := func(v ...int64) *onnxpb.AttributeProto { return attrInts("dilations", v...) }
	kernel := func(v ...int64) *onnxpb.AttributeProto { return attrInts("kernel_shape", v...) }
	group := func(v int64) *onnxpb.AttributeProto { return attrInt("group", v) }
	// begin is a net whose tensor depends on weights and has c channels.
	begin := func(opset, c, h, w int64) *net {
		return newNet(opset, 0, 3, h, w).conv("first", [4]int64{c, 3, 1, 1})
	}
	// end reads whatever shape is there.
	end := func(n *net, features int64) *net { return n.head(features) }

	conv := func(name string, c, h, w, out int64, k [4]int64, attrs ...*onnxpb.AttributeProto) {
		all["conv "+name] = end(begin(13, c, h, w).conv("second", k, attrs...), out)
	}
	conv("3x3 large", 4, 14, 12, 5*14*12, [4]int64{5, 4, 3, 3}, pads(1, 1, 1, 1))
	conv("3x3 middle", 4, 7, 6, 5*7*6, [4]int64{5, 4, 3, 3}, pads(1, 1, 1, 1))
	conv("3x3 small map", 4, 3, 4, 5*3*4, [4]int64{5, 4, 3, 3}, pads(1, 1, 1, 1))
	conv("3x3 on 2x2", 4, 2, 2, 5*2*2, [4]int64{5, 4, 3, 3}, pads(1, 1, 1, 1))
	conv("3x3 on 1x1", 4, 1, 1, 5, [4]int64{5, 4, 3, 3}, pads(1, 1, 1, 1))
	conv("5x5 on 2x2, most of it padding", 4, 2, 2, 5*2*2, [4]int64{5, 4, 5, 5}, pads(2, 2, 2, 2))
	conv("small map without padding", 4, 5, 5, 5*3*3, [4]int64{5, 4, 3, 3})
	conv("small map, padding on one side", 4, 3, 3, 5*3*3, [4]int64{5, 4, 2, 2}, pads(1, 0, 0, 1))
	conv("1x1", 4, 6, 6, 5*36, [4]int64{5, 4, 1, 1})
	conv("1x1 small", 4, 3, 3, 5*9, [4]int64{5, 4, 1, 1})
	conv("1x1 stride 2", 4, 7, 8, 5*16, [4]int64{5, 4, 1, 1}, strides(2, 2))
	conv("3x3 stride 2", 4, 8, 8, 5*16, [4]int64{5, 4, 3, 3}, strides(2, 2), pads(1, 1, 1, 1))
	conv("3x3 stride 2, uneven pads", 4, 9, 7, 5*4*3, [4]int64{5, 4, 3, 3}, strides(2, 2), pads(0, 0, 1, 1))
	conv("stride 3 that leaves elements unread", 4, 10, 9, 5*3*3, [4]int64{5, 4, 2, 2}, strides(3, 3))
	conv("dilated", 4, 9, 9, 5*9*9, [4]int64{5, 4, 3, 3}, dilations(2, 2), pads(2, 2, 2, 2))
	conv("dilated with stride", 4, 11, 9, 5*5*4, [4]int64{5, 4, 3, 3}, dilations(2, 3), pads(1, 2, 1, 2), strides(2, 2))
	conv("dilated on a small map", 4, 2, 2, 5*4, [4]int64{5, 4, 3, 3}, dilations(2, 2), pads(2, 2, 2, 2))
	conv("more padding than kernel", 4, 4, 4, 5*36, [4]int64{5, 4, 3, 3}, pads(2, 2, 2, 2))
	conv("padding beyond the kernel", 4, 8, 8, 5*12*12, [4]int64{5, 4, 1, 1}, pads(2, 2, 2, 2))
	conv("rectangular", 4, 9, 8, 5*9*4, [4]int64{5, 4, 1, 5}, strides(1, 2), pads(0, 2, 0, 2))
	conv("same upper", 4, 7, 7, 5*16, [4]int64{5, 4, 3, 3}, attrString("auto_pad", "SAME_UPPER"), strides(2, 2))
	conv("same lower", 4, 8, 8, 5*64, [4]int64{5, 4, 2, 2}, attrString("auto_pad", "SAME_LOWER"))
	conv("valid", 4, 8, 8, 5*36, [4]int64{5, 4, 3, 3}, attrString("auto_pad", "VALID"))
	conv("grouped", 6, 7, 7, 4*49, [4]int64{4, 3, 3, 3}, pads(1, 1, 1, 1), group(2))
	conv("grouped, small, stride 2", 6, 5, 5, 4*9, [4]int64{4, 3, 3, 3}, pads(1, 1, 1, 1), group(2), strides(2, 2))
	conv("depthwise", 6, 12, 11, 6*12*11, [4]int64{6, 1, 3, 3}, pads(1, 1, 1, 1), group(6))
	conv("depthwise stride 2", 6, 14, 13, 6*7*7, [4]int64{6, 1, 3, 3}, pads(1, 1, 1, 1), group(6), strides(2, 2))
	conv("depthwise stride 2, large", 6, 23, 22, 6*12*11, [4]int64{6, 1, 5, 5}, pads(2, 2, 2, 2), group(6), strides(2, 2))
	conv("depthwise dilated", 6, 14, 14, 6*14*14, [4]int64{6, 1, 3, 3}, pads(2, 2, 2, 2), group(6), dilations(2, 2))
	conv("depthwise on a small map", 6, 4, 4, 6*16, [4]int64{6, 1, 5, 5}, pads(2, 2, 2, 2), group(6))
	conv("depthwise on 1x1", 6, 1, 1, 6, [4]int64{6, 1, 3, 3}, pads(1, 1, 1, 1), group(6))
	conv("depthwise small, stride 2", 6, 5, 5, 6*9, [4]int64{6, 1, 3, 3}, pads(1, 1, 1, 1), group(6), strides(2, 2))
	conv("depthwise with multiplier", 3, 6, 6, 6*36, [4]int64{6, 1, 3, 3}, pads(1, 1, 1, 1), group(3))

	unary := func(name, op string, opset int64, attrs ...*onnxpb.AttributeProto) {
		all[name] = end(begin(opset, 4, 5, 4).then(op, attrs...), 80)
	}
	unary("relu", "Relu", 13)
	unary("leaky relu", "LeakyRelu", 13, attrFloat("alpha", 0.2))
	unary("sigmoid", "Sigmoid", 13)
	unary("tanh", "Tanh", 13)
	unary("hard sigmoid", "HardSigmoid", 13)
	unary("hard swish", "HardSwish", 14)
	unary("clip, opset 7", "Clip", 7, attrFloat("min", -0.5), attrFloat("max", 0.8))
	unary("identity", "Identity", 13)
	unary("neg", "Neg", 13)
	unary("dropout", "Dropout", 12)
	unary("softmax within", "Softmax", 13, attrInt("axis", -1))
	unary("log softmax within", "LogSoftmax", 13, attrInt("axis", 3))
	unary("cast", "Cast", 13, attrInt("to", 1))
	unary("transpose", "Transpose", 13, attrInts("perm", 0, 2, 3, 1))

	n := begin(13, 4, 5, 4)
	x := n.t
	n.node("clip", "Clip", []string{x, n.floats("low", []float32{0}), n.floats("high", []float32{1})})
	all["clip"] = end(n, 80)

	n = begin(13, 4, 5, 4)
	n.node("prelu", "PRelu", []string{n.t, n.drawn("slope", 0.3, 4, 1, 1)})
	all["prelu"] = end(n, 80)

	n = begin(13, 4, 5, 4)
	x = n.t
	n.node("s", "Sigmoid", []string{x})
	n.node("silu", "Mul", []string{x, "s"})
	all["silu"] = end(n, 80)

	n = begin(13, 4, 5, 4)
	x = n.t
	n.node("pool", "GlobalAveragePool", []string{x})
	n.conv("squeeze", [4]int64{2, 4, 1, 1}).then("Relu").conv("excite", [4]int64{4, 2, 1, 1}).then("Sigmoid")
	n.node("scaled", "Mul", []string{x, n.t})
	all["squeeze and excite"] = end(n, 80)

	for _, op := range []string{"Add", "Sub", "Mul", "Div"} {
		n = begin(13, 4, 5, 4)
		x = n.t
		n.conv("other", [4]int64{4, 4, 1, 1}).then("Tanh")
		y := n.node("shifted", "Add", []string{n.t, n.floats("two", []float32{2})})
		n.node("op", op, []string{x, y})
		all[op] = end(n, 80)
		n = begin(13, 4, 5, 4)
		x = n.t
		n.then("GlobalMaxPool").then("Tanh")
		y = n.node("shifted", "Add", []string{n.t, n.floats("two", []float32{2})})
		n.node("op", op, []string{y, x})
		if op == "Div" {
			n.g.Node[len(n.g.Node)-1].Input = []string{x, y}
		}
		all[op+" broadcasting"] = end(n, 80)
		n = begin(13, 4, 5, 4)
		n.node("op", op, []string{n.t, n.drawn("constant", 1, 4, 1, 4)})
		all[op+" with a constant"] = end(n, 80)
	}
	n = begin(13, 4, 5, 4)
	x = n.t
	n.node("twice", "Mul", []string{x, x})
	all["square"] = end(n, 80)
	n = begin(13, 4, 5, 4)
	x = n.t
	n.then("Tanh")
	n.node("sum", "Sum", []string{x, n.t, x})
	all["sum of three"] = end(n, 80)

	pool := func(name, op string, opset, h, w, out int64, attrs ...*onnxpb.AttributeProto) {
		all[name] = end(begin(opset, 4, h, w).then(op, attrs...), 4*out)
	}
	for _, opset := range []int64{8, 11, 13} {
		at := ", opset " + strconv.Itoa(int(opset))
		pool("max pool"+at, "MaxPool", opset, 6, 8, 12, kernel(2, 2), strides(2, 2))
		pool("max pool, overlapping"+at, "MaxPool", opset, 7, 8, 4*4, kernel(3, 3), strides(2, 2), pads(1, 1, 1, 1))
		pool("average pool"+at, "AveragePool", opset, 6, 8, 12, kernel(2, 2), strides(2, 2))
	}
	pool("max pool, a rest", "MaxPool", 13, 7, 5, 6, kernel(2, 2), strides(2, 2))
	pool("max pool, wide windows", "MaxPool", 13, 7, 7, 9, kernel(3, 3), strides(2, 2))
	pool("max pool, ceil", "MaxPool", 13, 7, 8, 16, kernel(2, 2), strides(2, 2), attrInt("ceil_mode", 1))
	pool("max pool, dilated", "MaxPool", 13, 7, 7, 9, kernel(3, 3), strides(1, 1), dilations(2, 2))
	pool("average pool, padded", "AveragePool", 13, 7, 8, 16, kernel(3, 3), strides(2, 2), pads(1, 1, 1, 1))
	pool("average pool, padded and counted", "AveragePool", 13, 7, 8, 16, kernel(3, 3), strides(2, 2), pads(1, 1, 1, 1), attrInt("count_include_pad", 1))
	pool("average pool, ceil", "AveragePool", 13, 7, 8, 16, kernel(2, 2), strides(2, 2), attrInt("ceil_mode", 1))
	pool("average pool, same", "AveragePool", 13, 7, 8, 16, kernel(3, 3), strides(2, 2), attrString("auto_pad", "SAME_UPPER"))
	pool("global average pool", "GlobalAveragePool", 13, 7, 8, 1)
	pool("global max pool", "GlobalMaxPool", 13, 7, 8, 1)
	pool("reduce mean", "ReduceMean", 13, 7, 8, 1, attrInts("axes", 2, 3))
	pool("reduce mean without dims", "ReduceMean", 13, 7, 8, 1, attrInts("axes", -1, -2), attrInt("keepdims", 0))
	pool("reduce sum, old", "ReduceSum", 11, 7, 8, 7, attrInts("axes", 3))
	n = begin(18, 4, 7, 8)
	n.node("mean", "ReduceMean", []string{n.t, n.ints("axes", 2, 3)}, attrInt("keepdims", 0))
	all["reduce mean 18"] = end(n, 4)

	norm := func(n *net) *net {
		v := make([]float32, 4)
		for i := range v {
			v[i] = 0.5 + n.r.Float32()
		}
		n.node("norm", "BatchNormalization", []string{n.t, n.drawn("scale", 1, 4), n.drawn("shift", 1, 4), n.drawn("mean", 1, 4), n.floats("variance", v, 4)}, attrFloat("epsilon", 1e-3))
		return n
	}
	all["batch normalization"] = end(norm(begin(13, 4, 5, 4)).then("Relu"), 80)

	n = begin(13, 4, 5, 4)
	n.node("reshaped", "Reshape", []string{n.t, n.ints("to", 0, -1, 10)})
	n.node("product", "MatMul", []string{n.t, n.drawn("w.product", 0.4, 10, 6)})
	n.node("biased", "Add", []string{n.t, n.drawn("b.product", 0.3, 6)})
	all["reshape and matrix product"] = end(n, 48)

	n = begin(13, 4, 4, 4)
	x = n.t
	n.conv("other", [4]int64{4, 4, 1, 1})
	n.node("stacked", "MatMul", []string{x, n.t})
	all["product of stacks"] = end(n, 64)

	n = begin(13, 4, 5, 4)
	x = n.t
	n.conv("other", [4]int64{3, 4, 1, 1})
	n.node("joined", "Concat", []string{x, n.t, x}, attrInt("axis", 1))
	all["concat"] = end(n, 11*20)

	n = begin(13, 6, 5, 4)
	n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: proto.String("Split"), Name: proto.String("split"), Input: []string{n.t, n.ints("parts", 2, 3, 1)},
		Output: []string{"p0", "p1", "p2"}, Attribute: []*onnxpb.AttributeProto{attrInt("axis", 1)}})
	n.node("back", "Concat", []string{"p2", "p0"}, attrInt("axis", 1))
	all["split"] = end(n, 60)

	n = begin(13, 4, 7, 6)
	n.node("cut", "Slice", []string{n.t, n.ints("from", 1, -6), n.ints("to", 4, 1<<40), n.ints("axes", 1, 2), n.ints("steps", 1, 2)})
	all["slice"] = end(n, 3*3*6)
	n = begin(8, 4, 7, 6)
	n.then("Slice", attrInts("starts", 1), attrInts("ends", 4), attrInts("axes", 2))
	all["slice, opset 8"] = end(n, 4*3*6)
	all["conv stride 2, opset 8"] = end(begin(8, 4, 8, 8).conv("second", [4]int64{5, 4, 3, 3}, strides(2, 2), pads(1, 1, 1, 1)).then("Relu"), 80)
	all["conv, opset 11"] = end(begin(11, 4, 8, 8).conv("second", [4]int64{5, 4, 3, 3}, pads(1, 1, 1, 1)).then("Relu"), 5*64)
	all["conv, opset 18"] = end(begin(18, 4, 3, 3).conv("second", [4]int64{5, 4, 3, 3}, pads(1, 1, 1, 1)).then("Relu"), 5*9)

	n = begin(13, 4, 5, 4)
	n.node("padded", "Pad", []string{n.t, n.ints("pads", 0, 1, 2, 0, 0, 0, 1, 3)})
	all["pad"] = end(n, 5*8*7)
	n = begin(10, 4, 5, 4)
	n.then("Pad", attrInts("pads", 0, 0, 2, 0, 0, 0, 1, 3))
	all["pad, opset 10"] = end(n, 4*8*7)

	n = begin(13, 4, 1, 1)
	n.node("squeezed", "Squeeze", []string{n.t, n.ints("axes", 2, 3)})
	n.node("again", "Unsqueeze", []string{n.t, n.ints("axis", 1)})
	all["squeeze"] = end(n, 4)

	n = begin(13, 4, 1, 1)
	n.node("expanded", "Expand", []string{n.t, n.ints("to", 1, 1, 3, 2)})
	all["expand"] = end(n, 24)

	n = begin(13, 4, 5, 4)
	w := n.drawn("w.second", 0.4, 5, 4, 3, 3)
	n.node("same weight", "Conv", []string{n.t, w}, pads(1, 1, 1, 1))
	n.conv("between", [4]int64{4, 5, 1, 1})
	n.node("once more", "Conv", []string{n.t, w}, pads(1, 1, 1, 1))
	all["shared weight"] = end(n, 100)

	n = begin(13, 4, 5, 4)
	n.node("turned", "Transpose", []string{n.drawn("w.turned", 0.4, 3, 3, 5, 4)}, attrInts("perm", 2, 3, 0, 1))
	n.node("second", "Conv", []string{"first", "turned"}, pads(1, 1, 1, 1))
	all["weight behind a transpose"] = end(n, 100)

	n = newNet(13, 0, 3, 4, 4).then("Flatten")
	n.node("hidden", "Gemm", []string{n.t, n.drawn("w.hidden", 0.2, 48, 7), n.drawn("b.hidden", 0.2, 1, 7)}, attrFloat("alpha", 0.7), attrFloat("beta", 1.5))
	n.then("Relu")
	all["gemm"] = end(n, 7)

	n = end(begin(13, 4, 5, 4), 80).then("Softmax", attrInt("axis", 1))
	all["softmax output"] = n

	n = begin(13, 4, 5, 4).conv("labels", [4]int64{classes, 4, 1, 1}).then("GlobalAveragePool")
	n.g.Output = []*onnxpb.ValueInfoProto{described(n.t, 0, classes, 1, 1)}
	all["convolutional classifier"] = n
	return all
}

// TestRandomConvs draws convolutions of all kinds; without kinks, so that differences
// are exact.
func TestRandomConvs(t *testing.T) {
	eng := runtime(t, 1)
	r := rand.New(rand.NewPCG(20, 7))
	forms := map[form]int{}
	for range 120 {
		groups := []int64{1, 1, 2, 4}[r.IntN(4)]
		in, out := groups*(1+r.Int64N(2)), groups*(1+r.Int64N(2))
		if groups == 4 && r.IntN(2) == 0 {
			in, out = 4, 4
		}
		var k, s, p, d, after, x, y [2]int64
		good := true
		for i := range 2 {
			k[i], s[i], d[i] = 1+r.Int64N(4), 1+r.Int64N(3), 1+r.Int64N(2)
			p[i], after[i], x[i] = r.Int64N(k[i]), r.Int64N(k[i]), 1+r.Int64N(14)
			span := x[i] + p[i] + after[i] - d[i]*(k[i]-1) - 1
			y[i] = span/s[i] + 1
			good = good && span >= 0
		}
		if !good {
			continue
		}
		n := newNet(13, 0, 3, x[0], x[1]).conv("first", [4]int64{in, 3, 1, 1})
		n.conv("second", [4]int64{out, in / groups, k[0], k[1]}, attrInts("strides", s[:]...), attrInts("pads", p[0], p[1], after[0], after[1]),
			attrInts("dilations", d[:]...), attrInt("group", groups))
		n.head(out * y[0] * y[1])
		m := n.model(t)
		t.Run(fmt.Sprintf("%dx%d to %d channels, kernel %v, strides %v, pads %v %v, dilations %v, groups %d, %v",
			in, in/groups, out, k, s, p, after, d, groups, x), func(t *testing.T) {
			tr := newTrial(t, eng, m, BuildOptions{Batch: 2})
			tr.check(5e-3, 4e-3)
			f, err := fixBatch(m, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, node := range f.nodes {
				if node.Name == "second" {
					b := &backward{builder: &builder{shape: map[string][]int64{}}, file: "net"}
					for _, name := range append(node.Inputs, node.Outputs...) {
						b.shape[name], _ = f.graph.Shape(name).Fixed()
					}
					c, err := b.planConv(node, true)
					if err != nil {
						t.Fatal(err)
					}
					forms[c.form]++
				}
			}
		})
	}
	for _, f := range []form{plain, depthwise, columns, banded} {
		if forms[f] == 0 && f != depthwise { // too large to be drawn here
			t.Errorf("form %d was not drawn: %v", f, forms)
		}
	}
}
