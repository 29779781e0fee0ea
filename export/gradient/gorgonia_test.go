package gradient

import (
	"math"
	"testing"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// symbolic builds a graph of Gorgonia's, whose automatic differentiation in float64
// is a second opinion on ours.
type symbolic struct {
	t  *testing.T
	g  *gorgonia.ExprGraph
	ws map[string]*gorgonia.Node
}

func (s *symbolic) must(n *gorgonia.Node, err error) *gorgonia.Node {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *symbolic) leaf(name string, v []float32, dims ...int) *gorgonia.Node {
	d := make([]float64, len(v))
	for i, x := range v {
		d[i] = float64(x)
	}
	return gorgonia.NewTensor(s.g, tensor.Float64, len(dims), gorgonia.WithShape(dims...), gorgonia.WithName(name),
		gorgonia.WithValue(tensor.New(tensor.WithShape(dims...), tensor.WithBacking(d))))
}

// weight is a leaf of the trial's.
func (s *symbolic) weight(tr *trial, name string) *gorgonia.Node {
	for _, p := range tr.g.Params {
		if p.Name == name {
			dims := make([]int, len(p.Dims))
			for i, d := range p.Dims {
				dims[i] = int(d)
			}
			s.ws[name] = s.leaf(name, tr.weights[name], dims...)
			return s.ws[name]
		}
	}
	s.t.Fatalf("no weight %q", name)
	return nil
}

func TestGradientsAgainstGorgonia(t *testing.T) {
	eng := runtime(t, 1)
	const n, c, h, w, o = 3, 3, 8, 8, 4
	type window struct{ kernel, pad, stride, dilation int }
	same := window{3, 1, 1, 1}
	for name, tc := range map[string]struct {
		conv window
		// op adds the operator under test to both models.
		onnx func(m *net)
		op   func(s *symbolic, x *gorgonia.Node) *gorgonia.Node
		out  int // features
	}{
		"Conv":          {same, func(*net) {}, func(_ *symbolic, x *gorgonia.Node) *gorgonia.Node { return x }, o * 64},
		"Conv stride 2": {window{3, 1, 2, 1}, func(*net) {}, func(_ *symbolic, x *gorgonia.Node) *gorgonia.Node { return x }, o * 16},
		"Conv unpadded": {window{3, 0, 1, 1}, func(*net) {}, func(_ *symbolic, x *gorgonia.Node) *gorgonia.Node { return x }, o * 36},
		"Conv 1x1":      {window{1, 0, 1, 1}, func(*net) {}, func(_ *symbolic, x *gorgonia.Node) *gorgonia.Node { return x }, o * 64},
		"Conv to 4x4":   {window{5, 0, 1, 1}, func(*net) {}, func(_ *symbolic, x *gorgonia.Node) *gorgonia.Node { return x }, o * 16},
		"Relu":          {same, func(m *net) { m.then("Relu") }, func(s *symbolic, x *gorgonia.Node) *gorgonia.Node { return s.must(gorgonia.Rectify(x)) }, o * 64},
		"Sigmoid":       {same, func(m *net) { m.then("Sigmoid") }, func(s *symbolic, x *gorgonia.Node) *gorgonia.Node { return s.must(gorgonia.Sigmoid(x)) }, o * 64},
		"Tanh":          {same, func(m *net) { m.then("Tanh") }, func(s *symbolic, x *gorgonia.Node) *gorgonia.Node { return s.must(gorgonia.Tanh(x)) }, o * 64},
		"Neg":           {same, func(m *net) { m.then("Neg") }, func(s *symbolic, x *gorgonia.Node) *gorgonia.Node { return s.must(gorgonia.Neg(x)) }, o * 64},
		"MaxPool": {same, func(m *net) { m.then("MaxPool", attrInts("kernel_shape", 2, 2), attrInts("strides", 2, 2)) }, func(s *symbolic, x *gorgonia.Node) *gorgonia.Node {
			return s.must(gorgonia.MaxPool2D(x, tensor.Shape{2, 2}, []int{0, 0}, []int{2, 2}))
		}, o * 16},
		"MaxPool 3x3 s2": {same, func(m *net) { m.then("MaxPool", attrInts("kernel_shape", 3, 3), attrInts("strides", 2, 2)) }, func(s *symbolic, x *gorgonia.Node) *gorgonia.Node {
			return s.must(gorgonia.MaxPool2D(x, tensor.Shape{3, 3}, []int{0, 0}, []int{2, 2}))
		}, o * 9},
		"SiLU": {same, func(m *net) { x := m.t; m.then("Sigmoid"); m.node("silu", "Mul", []string{x, m.t}) }, func(s *symbolic, x *gorgonia.Node) *gorgonia.Node {
			return s.must(gorgonia.HadamardProd(x, s.must(gorgonia.Sigmoid(x))))
		}, o * 64},
		"Add": {same, func(m *net) { x := m.t; m.then("Tanh"); m.node("add", "Add", []string{x, m.t}) }, func(s *symbolic, x *gorgonia.Node) *gorgonia.Node {
			return s.must(gorgonia.Add(x, s.must(gorgonia.Tanh(x))))
		}, o * 64},
		"Sub": {same, func(m *net) { x := m.t; m.then("Tanh"); m.node("sub", "Sub", []string{m.t, x}) }, func(s *symbolic, x *gorgonia.Node) *gorgonia.Node {
			return s.must(gorgonia.Sub(s.must(gorgonia.Tanh(x)), x))
		}, o * 64},
	} {
		t.Run(name, func(t *testing.T) {
			k, p, st, d := int64(tc.conv.kernel), int64(tc.conv.pad), int64(tc.conv.stride), int64(tc.conv.dilation)
			m := newNet(13, 0, c, h, w)
			attrs := []*onnxpb.AttributeProto{attrInts("pads", p, p, p, p), attrInts("strides", st, st), attrInts("dilations", d, d)}
			m.node("first", "Conv", []string{m.t, m.drawn("w.first", 0.6, c, c, 1, 1)})
			m.node("second", "Conv", []string{m.t, m.drawn("w.second", 0.4, o, c, k, k)}, attrs...)
			tc.onnx(m)
			m.then("Flatten")
			m.node("classifier", "Gemm", []string{m.t, m.drawn("w.classifier", 0.2, int64(tc.out), classes)})
			tr := newTrial(t, eng, m.model(t), BuildOptions{Batch: n})
			loss, grads := tr.gradients()

			s := &symbolic{t: t, g: gorgonia.NewGraph(), ws: map[string]*gorgonia.Node{}}
			x := s.leaf("image", tr.x, n, c, h, w)
			y := s.must(gorgonia.Conv2d(x, s.weight(tr, "w.first"), tensor.Shape{1, 1}, []int{0, 0}, []int{1, 1}, []int{1, 1}))
			y = s.must(gorgonia.Conv2d(y, s.weight(tr, "w.second"), tensor.Shape{tc.conv.kernel, tc.conv.kernel},
				[]int{tc.conv.pad, tc.conv.pad}, []int{tc.conv.stride, tc.conv.stride}, []int{tc.conv.dilation, tc.conv.dilation}))
			y = s.must(gorgonia.Reshape(tc.op(s, y), tensor.Shape{n, tc.out}))
			y = s.must(gorgonia.Mul(y, s.weight(tr, "w.classifier")))
			y = s.must(gorgonia.Log(s.must(gorgonia.SoftMax(y))))
			y = s.must(gorgonia.HadamardProd(y, s.leaf("target", tr.target, n, classes)))
			cost := s.must(gorgonia.Neg(s.must(gorgonia.Sum(y))))
			var leaves []*gorgonia.Node
			for _, l := range s.ws {
				leaves = append(leaves, l)
			}
			if _, err := gorgonia.Grad(cost, leaves...); err != nil {
				t.Fatal(err)
			}
			vm := gorgonia.NewTapeMachine(s.g, gorgonia.BindDualValues(leaves...))
			defer vm.Close()
			if err := vm.RunAll(); err != nil {
				t.Fatal(err)
			}
			if want := cost.Value().Data().(float64) / n; math.Abs(want-loss) > 1e-5*(1+want) {
				t.Errorf("loss %v, Gorgonia's %v", loss, want)
			}
			for name, leaf := range s.ws {
				v, err := leaf.Grad()
				if err != nil {
					t.Fatal(err)
				}
				want := v.Data().([]float64)
				top, off := 0.0, 0.0
				for i, x := range want {
					top = max(top, math.Abs(x/n))
					off = max(off, math.Abs(x/n-float64(grads[name][i])))
				}
				if off > 2e-5*top || math.IsNaN(off) || top == 0 {
					t.Errorf("%s: gradients differ by %v of at most %v", name, off, top)
				}
			}
		})
	}
}
