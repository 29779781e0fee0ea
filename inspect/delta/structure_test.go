package delta

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// chain is input - conv - relu - conv - relu - ... - pool - flatten - gemm.
func chain(t testing.TB, opset int64, widths ...int64) *bench {
	m := sketch(t, opset).input("x", -1, 3, 8, 8)
	in, channels := "x", int64(3)
	for i, w := range widths {
		c := fmt.Sprint("c", i)
		m.random(c+".w", uint64(i), w, channels, 3, 3).random(c+".b", uint64(100+i), w)
		m.node("Conv", in+" "+c+".w "+c+".b", c, attrInts("pads", 1, 1, 1, 1)).node("Relu", c, fmt.Sprint("r", i))
		in, channels = fmt.Sprint("r", i), w
	}
	m.node("GlobalAveragePool", in, "p").node("Flatten", "p", "f")
	m.random("g.w", 50, 5, channels).random("g.b", 51, 5)
	return m.node("Gemm", "f g.w g.b", "y", attrI("transB", 1)).output("y", -1, 5)
}

func (m *bench) at(name string) (int, *onnxpb.NodeProto) {
	for i, n := range m.Graph.Node {
		if n.GetName() == name {
			return i, n
		}
	}
	m.t.Fatalf("no node %q", name)
	return 0, nil
}

// bypass removes a node of one input and one output.
func (m *bench) bypass(name string) {
	i, n := m.at(name)
	for _, o := range m.Graph.Node {
		for k, in := range o.Input {
			if in == n.Output[0] {
				o.Input[k] = n.Input[0]
			}
		}
	}
	m.Graph.Node = slices.Delete(m.Graph.Node, i, i+1)
}

// insert puts a node behind another.
func (m *bench) insert(after string, n *onnxpb.NodeProto) {
	i, a := m.at(after)
	out := a.Output[0]
	for _, o := range m.Graph.Node {
		for k, in := range o.Input {
			if in == out {
				o.Input[k] = n.Output[0]
			}
		}
	}
	n.Input = append([]string{out}, n.Input...)
	m.Graph.Node = slices.Insert(m.Graph.Node, i+1, n)
}

// anonymous takes all names of nodes and gives all tensors new ones.
func (m *bench) anonymous() *bench {
	m.rename(func(s string) string {
		if s == "x" || s == "y" {
			return s
		}
		return "z." + s
	})
	for _, n := range m.Graph.Node {
		n.Name = nil
	}
	return m
}

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(m *bench)
		want []string
	}{
		{"a layer more", func(m *bench) {
			m.random("new.w", 900, 8, 8, 1, 1)
			m.insert("n_r1", newNode("Conv", "new.w", "new"))
		}, []string{"n_new: added"}},
		{"a layer less", func(m *bench) {
			m.bypass("n_c2")
			m.bypass("n_r2")
		}, []string{"n_c2: removed", "n_r2: removed"}},
		{"an activation less", func(m *bench) { m.bypass("n_r2") }, []string{"n_r2: removed"}},
		{"a first operator more", func(m *bench) {
			m.random("mean", 901, 1, 3, 1, 1)
			m.Graph.Node = slices.Insert(m.Graph.Node, 0, newNode("Sub", "x mean", "centred"))
			_, n := m.at("n_c0")
			n.Input[0] = "centred"
		}, []string{"n_centred: added"}},
		{"a last operator more", func(m *bench) {
			_, n := m.at("n_y")
			n.Output[0] = "logits"
			m.Graph.Node = append(m.Graph.Node, newNode("Softmax", "logits", "y"))
		}, []string{"n_y: added"}},
		{"another activation", func(m *bench) {
			_, n := m.at("n_r1")
			n.OpType = proto.String("Sigmoid")
		}, []string{"n_r1: changed operator(Relu->Sigmoid)"}},
		{"another attribute", func(m *bench) {
			_, n := m.at("n_c2")
			n.Attribute = append(n.Attribute, attrInts("dilations", 2, 2))
			n.Attribute[0].Ints = []int64{2, 2, 2, 2}
		}, []string{"n_c2: changed attribute:dilations(->[2 2]) attribute:pads([1 1 1 1]->[2 2 2 2])"}},
		{"two changes", func(m *bench) {
			_, n := m.at("n_r0")
			n.OpType, n.Attribute = proto.String("LeakyRelu"), []*onnxpb.AttributeProto{attrF("alpha", 0.2)}
			v := m.weights("c3.w")
			for i := range v {
				v[i] *= 1 + float32(i%7)/100
			}
			m.set("c3.w", v)
		}, []string{"n_r0: changed operator(Relu->LeakyRelu)", "n_c3: changed weight"}},
		{"another input size", func(m *bench) { m.Graph.Input[0] = info("x", -1, 3, 16, 16) }, []string{"input changed shape N x 3 x 8 x 8->N x 3 x 16 x 16"}},
		{"an output more", func(m *bench) { m.Graph.Output = append(m.Graph.Output, info("r1", -1, 8, 8, 8)) }, []string{"output added"}},
		{"metadata", func(m *bench) {
			m.MetadataProps = []*onnxpb.StringStringEntryProto{{Key: proto.String("labels"), Value: proto.String("a")}}
			m.Domain = proto.String("d")
		}, []string{"model domain  ->d", "model metadata labels ->a"}},
		{"a layer elsewhere", func(m *bench) {
			// c1 and c2 change places with all that is theirs.
			_, a := m.at("n_c1")
			_, b := m.at("n_c2")
			for k := 1; k < 3; k++ {
				a.Input[k], b.Input[k] = b.Input[k], a.Input[k]
			}
			a.Name, b.Name = b.Name, a.Name
		}, []string{"n_c1: moved"}},
	} {
		for _, named := range []bool{true, false} {
			t.Run(fmt.Sprint(c.name, named), func(t *testing.T) {
				a := chain(t, 13, 8, 8, 8, 8, 8)
				b := a.clone()
				c.edit(b)
				want := c.want
				if !named && !strings.Contains(c.name, "output") {
					// A keeps its names, so that the report can be read.
					b.anonymous()
					want = nil
					for _, s := range c.want {
						if i := strings.Index(s, ": added"); i > 0 {
							s = "z." + strings.TrimPrefix(s[:i], "n_") + ": added"
							s = strings.Replace(s, "z.y:", "y:", 1)
						}
						want = append(want, s)
					}
				}
				d := compared(t, a, b, Options{})
				got := slices.DeleteFunc(summary(d), func(s string) bool { return strings.HasSuffix(s, ": renamed") })
				if !slices.Equal(got, want) {
					t.Errorf("%q, want %q", got, want)
				}
			})
		}
	}
}

// TestForms writes one thing in several ways; each must be the same as the first.
func TestForms(t *testing.T) {
	type form struct {
		opset int64
		make  func(m *bench)
	}
	image := func(m *bench) { m.input("x", -1, 4, 8, 8) }
	for name, forms := range map[string][]form{
		"clip": {
			{13, func(m *bench) { image(m); m.floats("lo", nil, 0).floats("hi", nil, 6).node("Clip", "x lo hi", "y") }},
			{7, func(m *bench) { image(m); m.node("Clip", "x", "y", attrF("min", 0), attrF("max", 6)) }},
		},
		"slice": {
			{13, func(m *bench) {
				image(m)
				m.ints("s", 0).ints("e", 1<<40).ints("a", 3).ints("st", 2).node("Slice", "x s e a st", "y")
			}},
			{13, func(m *bench) {
				image(m)
				m.ints("s", 0).ints("e", 8).ints("a", -1).ints("st", 2).node("Slice", "x s e a st", "y")
			}},
		},
		"unsqueeze": {
			{13, func(m *bench) { image(m); m.ints("a", -1).node("Unsqueeze", "x a", "y") }},
			{11, func(m *bench) { image(m); m.node("Unsqueeze", "x", "y", attrInts("axes", 4)) }},
		},
		"global pool": {
			{13, func(m *bench) { image(m); m.node("GlobalAveragePool", "x", "p").node("Flatten", "p", "y") }},
			{13, func(m *bench) {
				image(m)
				m.node("ReduceMean", "x", "y", attrInts("axes", -2, -1), attrI("keepdims", 0))
			}},
			{18, func(m *bench) { image(m); m.ints("a", 2, 3).node("ReduceMean", "x a", "y", attrI("keepdims", 0)) }},
			{13, func(m *bench) {
				image(m)
				m.node("AveragePool", "x", "p", attrInts("kernel_shape", 8, 8)).ints("s", 0, -1).node("Reshape", "p s", "y")
			}},
			{13, func(m *bench) {
				image(m)
				m.node("GlobalAveragePool", "x", "p").ints("a", 2, 3).node("Squeeze", "p a", "y")
			}},
			{13, func(m *bench) {
				// The batch is taken from the input, as exporters with dynamic axes do.
				image(m)
				m.node("GlobalAveragePool", "x", "p").node("Shape", "p", "s").ints("zero", 0).node("Gather", "s zero", "n").ints("rest", -1)
				m.node("Concat", "n rest", "to", attrI("axis", 0)).node("Reshape", "p to", "y")
			}},
		},
		"softmax": {
			{13, func(m *bench) { m.input("x", -1, 5).node("Softmax", "x", "y") }},
			{11, func(m *bench) { m.input("x", -1, 5).node("Softmax", "x", "y") }},
			{13, func(m *bench) { m.input("x", -1, 5).node("Softmax", "x", "y", attrI("axis", 1)) }},
		},
		"linear": {
			{13, func(m *bench) {
				m.input("x", -1, 3).floats("w", []int64{2, 3}, 1, 2, 3, 4, 5, 6).floats("b", []int64{2}, 7, 8).node("Gemm", "x w b", "y", attrI("transB", 1))
			}},
			{13, func(m *bench) {
				m.input("x", -1, 3).floats("w", []int64{3, 2}, 1, 4, 2, 5, 3, 6).floats("b", []int64{1, 2}, 7, 8).node("Gemm", "x w b", "y")
			}},
			{13, func(m *bench) {
				m.input("x", -1, 3).floats("w", []int64{3, 2}, 1, 4, 2, 5, 3, 6).floats("b", []int64{2}, 7, 8).node("MatMul", "x w", "p").node("Add", "b p", "y")
			}},
			{13, func(m *bench) {
				m.input("x", -1, 3).floats("w", []int64{2, 3}, 1, 2, 3, 4, 5, 6).floats("b", []int64{2}, 7, 8).node("Transpose", "w", "t", attrInts("perm", 1, 0)).node("MatMul", "x t", "p").node("Add", "p b", "y")
			}},
			{13, func(m *bench) {
				m.input("x", -1, 3).floats("w", []int64{2, 3}, .5, 1, 1.5, 2, 2.5, 3).floats("b", []int64{2}, 14, 16).node("Gemm", "x w b", "y", attrI("transB", 1), attrF("alpha", 2), attrF("beta", 0.5))
			}},
		},
		"fused": {
			{13, func(m *bench) {
				image(m)
				m.floats("w", []int64{2, 4, 1, 1}, 1, 2, 3, 4, 5, 6, 7, 8).input("z", -1, 2, 8, 8)
				m.node("Conv", "x w", "c").node("Add", "z c", "a").node("LeakyRelu", "a", "r", attrF("alpha", 0.25)).node("Sigmoid", "r", "s").node("Mul", "s r", "y")
			}},
			{13, func(m *bench) {
				image(m)
				m.floats("w", []int64{2, 4, 1, 1}, 1, 2, 3, 4, 5, 6, 7, 8).input("z", -1, 2, 8, 8)
				m.node("com.microsoft/FusedConv", "x w _ z", "r", &onnxpb.AttributeProto{Name: proto.String("activation"), S: []byte("LeakyRelu")},
					&onnxpb.AttributeProto{Name: proto.String("activation_params"), Floats: []float32{0.25}}, attrInts("strides", 1, 1))
				m.node("com.microsoft/QuickGelu", "r", "y", attrF("alpha", 1))
			}},
		},
		"scaled convolution": {
			{13, func(m *bench) {
				image(m)
				m.floats("w", []int64{2, 4, 1, 1}, 2, 4, 6, 8, 30, 40, 50, 60).floats("b", []int64{2}, 1, 5).node("Conv", "x w b", "y")
			}},
			{13, func(m *bench) {
				image(m)
				m.floats("w", []int64{2, 4, 1, 1}, 1, 2, 3, 4, 3, 4, 5, 6).floats("s", []int64{2, 1, 1}, 2, 10).floats("b", []int64{1, 2, 1, 1}, 1, 5)
				m.node("Conv", "x w", "c").node("Mul", "c s", "k").node("Add", "k b", "y")
			}},
			{15, func(m *bench) {
				image(m)
				m.floats("w", []int64{2, 4, 1, 1}, 1, 2, 3, 4, 3, 4, 5, 6).floats("g", []int64{2}, 4, 30).floats("b", []int64{2}, 5, 8).floats("mean", []int64{2}, 2, .3).floats("var", []int64{2}, 3, 8)
				m.node("Conv", "x w", "c").node("BatchNormalization", "c g b mean var", "y", attrF("epsilon", 1))
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var first *bench
			for i, f := range forms {
				m := sketch(t, f.opset)
				f.make(m)
				m.output("y")
				m.Graph.Output[0].Type.GetTensorType().Shape = nil
				if first == nil {
					first = m
				}
				for _, p := range [][2]*bench{{first, m}, {m, first}} {
					d := compared(t, p[0], p[1], Options{})
					// The names of nodes between are another matter.
					if x := d.Totals; !d.Same && !onlyShape(d) || x.Added+x.Removed+x.Changed+x.Moved > 0 || x.TensorsDiffer > 0 {
						t.Errorf("form %d: %v", i, summary(d))
					}
				}
			}
		})
	}
}

// onlyShape tells whether nothing but a shape that could not be inferred differs.
func onlyShape(d *Delta) bool {
	return !slices.ContainsFunc(summary(d), func(s string) bool {
		return !strings.HasPrefix(s, "output changed shape") && !strings.HasPrefix(s, "model ") && !strings.HasSuffix(s, "renamed") && !strings.HasSuffix(s, "rewritten")
	})
}

// TestDifferentForms requires that what looks alike and computes another thing is
// told.
func TestDifferentForms(t *testing.T) {
	a := chain(t, 13, 4, 4)
	for name, edit := range map[string]func(m *bench){
		"transposed square weight": func(m *bench) {
			m.random("sq", 70, 5, 5)
			_, n := m.at("n_y")
			n.Output[0] = "h"
			m.Graph.Node = append(m.Graph.Node, newNode("MatMul", "h sq", "y"))
		},
	} {
		b, c := a.clone(), a.clone()
		edit(b)
		edit(c)
		c.Graph.Node[len(c.Graph.Node)-1] = newNode("Gemm", "h sq", "y", attrI("transB", 1))
		d := compared(t, b, c, Options{})
		if d.Same {
			t.Errorf("%s: taken for the same", name)
		}
	}
	// A product with one number for each column is no scale of channels.
	one := sketch(t, 13).input("x", -1, 4, 4, 4).random("w", 1, 4, 4, 1, 1).random("s", 2, 4).node("Conv", "x w", "c").node("Mul", "c s", "y").output("y", -1, 4, 4, 4)
	two := one.clone()
	two.init("s").Dims = []int64{4, 1, 1}
	if d := compared(t, one, two, Options{}); d.Same {
		t.Error("a scale of columns is taken for one of channels")
	}
}

// TestFunction compares a model with one whose layers are calls of a function.
func TestFunction(t *testing.T) {
	a := chain(t, 18, 4, 6)
	b := a.clone()
	b.OpsetImport = append(b.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: proto.String("local"), Version: proto.Int64(1)})
	b.Functions = []*onnxpb.FunctionProto{{
		Name: proto.String("ConvRelu"), Domain: proto.String("local"), Input: []string{"a", "w", "b"}, Output: []string{"z"},
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(18)}},
		Node:        []*onnxpb.NodeProto{newNode("Conv", "a w b", "c", attrInts("pads", 1, 1, 1, 1)), newNode("Relu", "c", "z")},
	}}
	var nodes []*onnxpb.NodeProto
	for i, n := range b.Graph.Node {
		if n.GetOpType() == "Conv" {
			nodes = append(nodes, newNode("local/ConvRelu", strings.Join(n.Input, " "), b.Graph.Node[i+1].Output[0]))
		} else if n.GetOpType() != "Relu" {
			nodes = append(nodes, n)
		}
	}
	b.Graph.Node = nodes
	d := compared(t, a, b, Options{})
	if x := d.Totals; !d.Same || x.TensorsEqual != 6 || x.Filters.Kept != 4+6+5 {
		t.Errorf("%v %+v", summary(d), x)
	}
}

// TestNested compares graphs within an If.
func TestNested(t *testing.T) {
	make := func(k float32, name string) *bench {
		m := sketch(t, 16).input("x", -1, 4)
		branch := func(op string) *onnxpb.GraphProto {
			g := &onnxpb.GraphProto{Name: proto.String(op), Output: []*onnxpb.ValueInfoProto{info(name, -1, 4)}}
			p := &onnxpb.TensorProto{}
			setFloats(p, name+"c", []int64{4}, []float32{1, 2, 3, k})
			g.Initializer = []*onnxpb.TensorProto{p}
			g.Node = []*onnxpb.NodeProto{newNode(op, "x "+name+"c", name)}
			return g
		}
		then := &onnxpb.AttributeProto{Name: proto.String("then_branch"), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: branch("Add")}
		other := &onnxpb.AttributeProto{Name: proto.String("else_branch"), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: branch("Mul")}
		m.input("c")
		m.Graph.Input[1] = info("c")
		m.Graph.Input[1].Type.GetTensorType().ElemType = proto.Int32(9)
		return m.node("If", "c", "y", then, other).output("y", -1, 4)
	}
	if d := compared(t, make(4, "t"), make(4, "u"), Options{}); !d.Same {
		t.Error(summary(d))
	}
	d := compared(t, make(4, "t"), make(5, "t"), Options{})
	if d.Same || len(d.Nodes) != 1 || len(d.Nodes[0].Changes) != 2 {
		t.Error(summary(d))
	}
}

// TestQuantized compares integers as they are stored.
func TestQuantized(t *testing.T) {
	make := func(k byte) *bench {
		m := sketch(t, 13).input("x", -1, 4)
		m.Graph.Initializer = append(m.Graph.Initializer, &onnxpb.TensorProto{Name: proto.String("q"), Dims: []int64{4, 2}, DataType: proto.Int32(int32(onnxpb.TensorProto_INT8)), RawData: []byte{1, 2, 3, 4, 5, 6, 7, k}})
		m.floats("s", nil, 0.5)
		return m.node("DequantizeLinear", "q s", "w").node("MatMul", "x w", "y").output("y", -1, 2)
	}
	if d := compared(t, make(8), make(8), Options{}); !d.Same {
		t.Error(summary(d))
	}
	d := compared(t, make(8), make(10), Options{})
	expect(t, d, "n_w: changed operand:0")
	if v := node(d, "n_w").Tensors[0].Values; *v.MaxAbs != 2 || !slices.Equal(v.At, []int64{3, 1}) {
		t.Errorf("%+v", v)
	}
}

func TestErrors(t *testing.T) {
	ctx := context.Background()
	m := chain(t, 13, 4)
	x := m.open()
	for _, opt := range []Options{{RTol: -1}, {ATol: -1}, {Similarity: 2}, {Similarity: -1}} {
		if _, err := Compare(ctx, x, x, opt); err == nil {
			t.Errorf("%+v is taken", opt)
		}
	}
	if _, err := Compare(ctx, x, &inspect.Model{File: "saved.json"}, Options{}); err == nil || !strings.Contains(err.Error(), "saved.json") {
		t.Error(err)
	}
	cycle := m.clone()
	_, n := cycle.at("n_c0")
	n.Input[0] = "f"
	var ge *inspect.GraphError
	if _, err := Compare(ctx, x, cycle.open(), Options{}); !errors.As(err, &ge) {
		t.Error(err)
	}
	short := m.clone()
	short.init("c0.w").RawData = short.init("c0.w").RawData[:40]
	var te *onnxfile.TensorError
	if _, err := Compare(ctx, x, short.open(), Options{}); !errors.As(err, &te) || te.Tensor != "c0.w" {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Compare(cancelled, x, x, Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestLayerLess removes a block of a trained network whose weights were changed
// since, so that neither digests nor names help.
func TestLayerLess(t *testing.T) {
	a := loaded(t, foldedFile)
	b := a.clone()
	r := rand.New(rand.NewPCG(21, 22))
	for _, p := range b.Graph.Initializer {
		v := floatsOf(p)
		tune(v, 0.1, r)
		b.set(p.GetName(), v)
	}
	// The second block of the third stage: from its first Conv to its Add.
	prefix := "/features/features.3/features.3.1/"
	var in, out string
	var nodes []*onnxpb.NodeProto
	removed := 0
	for _, n := range b.Graph.Node {
		if strings.HasPrefix(n.GetName(), prefix) {
			if in == "" {
				in = n.Input[0]
			}
			out = n.Output[0]
			removed++
			continue
		}
		for k, s := range n.Input {
			if s == out {
				n.Input[k] = in
			}
		}
		nodes = append(nodes, n)
	}
	b.Graph.Node = nodes
	b.rename(func(s string) string { return "r." + s })
	d := compared(t, a, b, Options{})
	if x := d.Totals; x.Removed != removed || x.Added != 0 || x.Moved != 0 || x.Unclear != 0 {
		t.Errorf("%d removed: %+v", removed, x)
	}
	for _, n := range d.Nodes {
		switch {
		case n.B == nil:
			if !strings.HasPrefix(n.A.Name, prefix) {
				t.Errorf("%s is told as removed", n.A.Name)
			}
		case n.B.Name != "r."+n.A.Name:
			t.Errorf("%s is taken for %s", n.A.Name, n.B.Name)
		}
	}
}

// number names nodes and tensors by their place in the file, as exporters do that
// know no names.
func (m *bench) number() *bench {
	to := map[string]string{"x": "x", "y": "y"}
	for i, n := range m.Graph.Node {
		to[n.GetName()] = fmt.Sprint("node_", i)
		for _, o := range n.Output {
			if to[o] == "" {
				to[o] = fmt.Sprint(20 + i)
			}
		}
	}
	m.rename(func(s string) string {
		if t := to[s]; t != "" {
			return t
		}
		return s
	})
	return m
}

// TestNumbered removes and inserts layers in models whose tensors are numbered, so
// that all names after the edit belong to something else, and trains them on.
func TestNumbered(t *testing.T) {
	for _, more := range []bool{false, true} {
		a := chain(t, 13, 8, 8, 8, 8, 8)
		b := a.clone()
		if more {
			b.random("new.w", 900, 8, 8, 3, 3)
			b.insert("n_r1", newNode("Conv", "new.w", "new", attrInts("pads", 1, 1, 1, 1)))
			b.insert("n_new", newNode("Relu", "", "newr"))
		} else {
			b.bypass("n_c2")
			b.bypass("n_r2")
		}
		for _, p := range b.Graph.Initializer {
			v := floatsOf(p)
			tune(v, 0.1, rand.New(rand.NewPCG(1, 9)))
			b.set(p.GetName(), v)
		}
		d := compared(t, a.number(), b.number(), Options{})
		x := d.Totals
		if more && (x.Added != 2 || x.Removed != 0) || !more && (x.Removed != 2 || x.Added != 0) || x.Unclear > 0 || x.Moved > 0 {
			t.Errorf("more %v: %v", more, summary(d))
		}
		for _, n := range d.Nodes {
			if n.A != nil && n.B != nil && n.Filters != nil && n.Filters.Gone > 0 {
				t.Errorf("more %v: %s is taken for %s", more, n.A.Name, n.B.Name)
			}
		}
	}
}

// TestSparse compares weights that are stored sparse.
func TestSparse(t *testing.T) {
	make := func(k float32) *bench {
		m := sketch(t, 13).input("x", -1, 4)
		values, places := &onnxpb.TensorProto{}, &onnxpb.TensorProto{Dims: []int64{2}, DataType: proto.Int32(int32(onnxfile.Int64)), Int64Data: []int64{1, 3}}
		setFloats(values, "s", []int64{2}, []float32{1, k})
		m.Graph.SparseInitializer = []*onnxpb.SparseTensorProto{{Values: values, Indices: places, Dims: []int64{4, 2}}}
		return m.node("MatMul", "x s", "y").output("y", -1, 2)
	}
	if d := compared(t, make(1), make(1), Options{}); !d.Same {
		t.Error(summary(d))
	}
	if d := compared(t, make(1), make(2), Options{}); d.Same {
		t.Error("another number is not told")
	}
}

// TestDeeper compares networks of unequal depth that share no weights and no names.
func TestDeeper(t *testing.T) {
	a := chain(t, 13, 8, 8, 16, 16)
	b := chain(t, 13, 8, 8, 8, 16, 16)
	for i, p := range b.Graph.Initializer {
		b.random("drawn", uint64(5000+i), p.Dims...)
		last := b.Graph.Initializer[len(b.Graph.Initializer)-1]
		b.Graph.Initializer = b.Graph.Initializer[:len(b.Graph.Initializer)-1]
		p.RawData = last.RawData
	}
	b.anonymous()
	d := compared(t, a, b, Options{})
	// Nothing tells whether the second or the third layer of eight filters is the
	// one that is new: the guess is told.
	x := d.Totals
	if x.Added != 2 || x.Removed != 0 || x.Moved != 0 || x.Unclear != 1 || !node(d, "n_c1").Unclear {
		t.Error(summary(d))
	}
	for _, n := range d.Nodes {
		if n.A != nil && n.shapes() != "" {
			t.Errorf("%s: %s", n.A.Name, n.shapes())
		}
	}
}

// shapes tells where the two sides of a node differ in shape, for tests.
func (n *NodeDelta) shapes() string {
	if n.B != nil && n.A.Shape.String() != n.B.Shape.String() {
		return n.A.Shape.String() + " and " + n.B.Shape.String()
	}
	return ""
}

// TestSwapped swaps what comes out of two outputs and what goes into two inputs: the
// operators stay what they are, the models do not.
func TestSwapped(t *testing.T) {
	heads := func(u, v string) *bench {
		m := sketch(t, 17).input("x", 1, 4)
		return m.node("Relu", "x", u).node("Sigmoid", "x", v).output("u", 1, 4).output("v", 1, 4)
	}
	a := heads("u", "v")
	d := compared(t, a, heads("v", "u"), Options{})
	if d.Same || d.Outputs[0].Kind != Changed || !slices.Equal(d.Outputs[0].Changes, []Change{{What: "source", From: "Relu n_u", To: "Sigmoid n_u"}}) || d.Outputs[1].Kind != Changed {
		t.Errorf("same %v, %+v", d.Same, d.Outputs)
	}
	if d := compared(t, a, a, Options{}); !d.Same {
		t.Errorf("%+v", d.Outputs)
	}
	// The order in which outputs are declared is no difference, nor is what is told by
	// an operator that was added.
	b := a.clone()
	slices.Reverse(b.Graph.Output)
	if d := compared(t, a, b, Options{}); !d.Same {
		t.Errorf("%+v", d.Outputs)
	}
	b = heads("w", "v").node("Tanh", "w", "u")
	if d := compared(t, a, b, Options{}); len(d.Outputs[0].Changes) > 0 || d.Totals.Added != 1 {
		t.Errorf("%+v", d.Outputs)
	}
	// An output that hands an input on.
	pass := func(y string) *bench {
		return sketch(t, 17).input("p", 1, 4).input("q", 1, 4).node("Identity", y, "y").output("y", 1, 4)
	}
	if d := compared(t, pass("p"), pass("q"), Options{}); d.Same {
		t.Errorf("%+v", d.Outputs)
	}

	less := func(first, second, in string) *bench {
		m := sketch(t, 17)
		for _, name := range strings.Fields(in) {
			m.input(name, 1, 4)
		}
		return m.node("Sub", first+" "+second, "y").output("y", 1, 4)
	}
	d = compared(t, less("p", "q", "p q"), less("q", "p", "q p"), Options{})
	want := []Change{{What: "input", From: "p", To: "q"}, {What: "input", From: "q", To: "p"}}
	if got := d.Nodes[0].Changes; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
