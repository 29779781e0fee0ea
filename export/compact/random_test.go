package compact

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A map4 is an activation of batch x c x h x w.
type map4 struct {
	name string
	c, h int64 // h x h positions
}

// randomNet draws a network of every kind of rule, with zeros among its weights.
func randomNet(seed uint64) *net {
	n := newNet(seed, -1, 3, 8, 8)
	r := n.r
	maps := []map4{{"x", 3, 8}}
	id := 0
	fresh := func(op string) string { id++; return fmt.Sprint(op, id) }
	pick := func() map4 { return maps[max(0, len(maps)-1-r.IntN(min(3, len(maps))))] }
	push := func(name string, c, h int64) { maps = append(maps, map4{name, c, h}) }
	var shared []map4 // convolutions whose weights may be used again
	for range 4 + r.IntN(12) {
		m := pick()
		switch r.IntN(19) {
		case 0, 1, 2, 3, 4:
			to, k, p := 2+r.Int64N(7), []int64{1, 3}[r.IntN(2)], r.Int64N(2)
			if m.h+2*p < k {
				continue
			}
			name := n.conv(fresh("conv"), m.name, m.c, to, k, p, 1)
			push(name, to, m.h+2*p-k+1)
			shared = append(shared, map4{name, m.c, k})
		case 5:
			mult := 1 + r.Int64N(2)
			push(n.conv(fresh("dw"), m.name, m.c, m.c*mult, 3, 1, m.c), m.c*mult, m.h)
		case 6:
			for _, g := range []int64{2, 3, 4} {
				if m.c%g == 0 && m.c > g {
					push(n.conv(fresh("gconv"), m.name, m.c, 2*g, 3, 1, g), 2*g, m.h)
					break
				}
			}
		case 7:
			name := fresh("bn")
			n.weights(name+".g", m.c)
			n.weights(name+".be", m.c)
			n.weights(name+".mu", m.c)
			v := make([]float32, m.c)
			for i := range v {
				v[i] = 0.5 + r.Float32()
			}
			n.floats(name+".var", v, m.c)
			push(n.node(name, "BatchNormalization", []string{m.name, name + ".g", name + ".be", name + ".mu", name + ".var"}), m.c, m.h)
			if r.IntN(2) == 0 {
				n.zero(name+".g", 0, r.Int64N(m.c))
			}
		case 8, 9:
			op := []string{"Relu", "Sigmoid", "LeakyRelu", "HardSigmoid", "Tanh", "Elu"}[r.IntN(6)]
			push(n.node(fresh(op), op, []string{m.name}), m.c, m.h)
		case 10: // residual or gate
			for _, o := range maps {
				if o.c == m.c && o.h == m.h && o.name != m.name {
					op := []string{"Add", "Mul", "Sub", "Max"}[r.IntN(4)]
					push(n.node(fresh(op), op, []string{m.name, o.name}), m.c, m.h)
					break
				}
			}
		case 11: // squeeze-excite
			mid := 1 + r.Int64N(3)
			gap := n.node(fresh("gap"), "GlobalAveragePool", []string{m.name})
			s1 := n.conv(fresh("se"), gap, m.c, mid, 1, 0, 1)
			s2 := n.conv(fresh("se"), s1, mid, m.c, 1, 0, 1)
			gate := n.node(fresh("gate"), "Sigmoid", []string{s2})
			push(n.node(fresh("mul"), "Mul", []string{gate, m.name}), m.c, m.h)
		case 12:
			o := pick()
			if o.h == m.h && m.c+o.c < 16 {
				push(n.node(fresh("cat"), "Concat", []string{m.name, o.name}, integer("axis", 1)), m.c+o.c, m.h)
			}
		case 13:
			if m.h%2 == 0 {
				op := []string{"MaxPool", "AveragePool"}[r.IntN(2)]
				push(n.node(fresh("pool"), op, []string{m.name}, ints("kernel_shape", 2, 2), ints("strides", 2, 2)), m.c, m.h/2)
			} else {
				push(n.node(fresh("pool"), "AveragePool", []string{m.name}, ints("kernel_shape", 3, 3), ints("pads", 1, 1, 1, 1), integer("count_include_pad", r.Int64N(2))), m.c, m.h)
			}
		case 14:
			name := fresh("pad")
			if r.IntN(2) == 0 {
				n.ints(name+".p", 0, 0, 1, 1, 0, 0, 1, 1)
				push(n.node(name, "Pad", []string{m.name, name + ".p"}), m.c, m.h+2)
			} else {
				n.ints(name+".p", 0, 1, 0, 0, 0, 2, 0, 0)
				push(n.node(name, "Pad", []string{m.name, name + ".p"}), m.c+3, m.h)
			}
		case 15:
			if m.c > 3 {
				name := fresh("split")
				at := 1 + r.Int64N(m.c-1)
				n.ints(name+".s", at, m.c-at)
				n.g.Node = append(n.g.Node, &onnxpb.NodeProto{OpType: proto.String("Split"), Name: proto.String(name), Input: []string{m.name, name + ".s"},
					Output: []string{name, name + "b"}, Attribute: []*onnxpb.AttributeProto{integer("axis", 1)}})
				push(name, at, m.h)
				push(name+"b", m.c-at, m.h)
			}
		case 16:
			name := fresh("scale")
			n.weights(name+".f", m.c, 1, 1)
			if r.IntN(2) == 0 {
				n.zero(name+".f", 0, r.Int64N(m.c))
			}
			push(n.node(name, []string{"Mul", "Add", "PRelu"}[r.IntN(3)], []string{m.name, name + ".f"}), m.c, m.h)
		case 17: // channels last and back
			name := fresh("last")
			n.node(name, "Transpose", []string{m.name}, ints("perm", 0, 2, 3, 1))
			to := 2 + r.Int64N(5)
			n.weights(name+".w", m.c, to)
			n.node(name+"m", "MatMul", []string{name, name + ".w"})
			push(n.node(name+"t", "Transpose", []string{name + "m"}, ints("perm", 0, 3, 1, 2)), to, m.h)
		case 18:
			for _, s := range shared {
				if s.c == m.c && s.h <= m.h { // of a convolution: inputs and kernel
					w := n.initializer(s.name + ".w")
					push(n.node(fresh("again"), "Conv", []string{m.name, s.name + ".w", s.name + ".b"}), w.Dims[0], m.h-s.h+1)
					break
				}
			}
		}
	}
	last := maps[len(maps)-1]
	parts, size := []string{n.node("flat", "Flatten", []string{last.name})}, last.c*last.h*last.h
	for i := range min(3, len(maps)-1) {
		m := maps[r.IntN(len(maps))]
		gap := n.node(fmt.Sprint("end", i), "GlobalAveragePool", []string{m.name})
		parts = append(parts, n.node(fmt.Sprint("flat", i), "Flatten", []string{gap}))
		size += m.c
	}
	n.out(n.gemm("head", n.node("features", "Concat", parts, integer("axis", 1)), size, 4))
	for _, t := range n.g.Initializer {
		if len(t.Dims) < 2 || len(t.RawData) == 0 {
			continue
		}
		rows, columns := t.Dims[0], t.Dims[1]
		for row := range rows {
			if r.IntN(4) == 0 && t.GetName() != "head.w" {
				n.zero(t.GetName(), 0, row)
				if b := t.GetName()[:len(t.GetName())-1] + "b"; r.IntN(2) == 0 && slices.ContainsFunc(n.g.Initializer, func(x *onnxpb.TensorProto) bool { return x.GetName() == b }) {
					n.set(b, 0, []float32{-1, 0, 0.5}[r.IntN(3)], row)
				}
			}
			for c := range columns {
				if r.IntN(3) == 0 {
					n.zeroKernel(t.GetName(), []int64{row}, c)
				}
			}
		}
		for c := range columns {
			if r.IntN(5) == 0 {
				n.zero(t.GetName(), 1, c)
			}
		}
		if t.GetName() == "head.w" { // whole channels
			for c := range last.c {
				if r.IntN(3) == 0 {
					for i := range last.h * last.h {
						n.zero("head.w", 1, c*last.h*last.h+i)
					}
				}
			}
		}
	}
	return n
}

// TestRandomNetworks: whatever goes from a random network, its answers stay.
func TestRandomNetworks(t *testing.T) {
	list := engines(t)
	removed, barriers, left, apartFromMask := 0, 0, 0, 0
	for seed := range uint64(150) {
		source := randomNet(seed).bytes(t)
		for _, opt := range []Options{{}, {RoundTo: 2}, {Remove: half(t, read(t, source)), RoundTo: int(seed % 3)}} {
			p, w := compacted(t, list, read(t, source), source, opt)
			if md, err := Mask(t.Context(), p.solved.a.m, p); err != nil {
				t.Error(err)
			} else if b, err := md.Bytes(); err != nil {
				t.Error(err)
			} else if q, err := NewPlan(t.Context(), read(t, b), Options{RoundTo: opt.RoundTo}); err != nil {
				t.Error(err)
			} else if opt.RoundTo < 2 && !reflect.DeepEqual(q.After, p.After) {
				apartFromMask++ // groups of a convolution may be kept alike in other ways
				if q.After.Parameters > p.After.Parameters {
					t.Errorf("seed %d, %+v: compacted %+v, what Mask makes of it compacted %+v", seed, opt, p.After, q.After)
				}
			}
			removed += p.Removed
			barriers += len(p.Barriers)
			for _, g := range p.Groups {
				if g.Fixed != "" && len(g.Removed) > 0 || len(g.Removed) >= g.Size && len(g.Tensors) == 1 && len(g.Makers) == 1 && g.Makers[0].Each == 1 && g.Makers[0].First == 0 && g.Size == 1 {
					t.Errorf("seed %d: group %+v", seed, g)
				}
			}
			if again, err := NewPlan(t.Context(), w, Options{RoundTo: opt.RoundTo}); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			} else if again.Removed > 0 && opt.RoundTo < 2 {
				left += again.Removed
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d channels removed, %d barriers, %d left for a second pass", removed, barriers, left)
	if apartFromMask > 5 {
		t.Errorf("%d plans differ from those of their masks", apartFromMask)
	}
	if left*50 > removed {
		t.Errorf("%d channels are left for a second pass, of %d", left, removed)
	}
	if removed < 1000 {
		t.Errorf("%d channels went, too few to show anything", removed)
	}
}

// TestPrice: what a group says of one channel is what the file is smaller by when
// that channel alone goes.
func TestPrice(t *testing.T) {
	checked := 0
	for seed := range uint64(60) {
		n := randomNet(seed)
		for _, x := range n.g.Initializer { // nothing goes by itself
			for i := range len(x.RawData) / 4 {
				x.RawData[4*i+2] |= 0x40
				x.RawData[4*i+3] |= 0x3c
			}
		}
		source := n.bytes(t)
		m := read(t, source)
		base, err := NewPlan(t.Context(), m, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if base.Removed > 0 {
			continue // padding, or times zero
		}
		for i, g := range base.Groups {
			if g.Fixed != "" || len(g.Makers) == 0 || g.Size < 2 {
				continue
			}
			p, err := NewPlan(t.Context(), m, Options{Remove: map[string][]int{g.Makers[0].Layer: g.Makers[0].Filters(g.Size - 1)}})
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(g.Readers, func(name string) bool { return strings.HasPrefix(name, "gconv") }) || p.Removed != 1 || *p.After.MACs > *base.After.MACs {
				continue // a group of a convolution stays, or more goes
			}
			checked++
			if parameters, macs := base.After.Parameters-p.After.Parameters, *base.After.MACs-*p.After.MACs; parameters != g.Parameters || macs != g.MACs {
				t.Errorf("seed %d, group %d %+v: the file has %d parameters and %d MACs less", seed, i, g, parameters, macs)
			}
		}
	}
	t.Logf("%d channels", checked)
	if checked < 50 {
		t.Error("too few")
	}
}

// TestCoupling finds by trial what channels of its output each node changes when
// one channel of an input changes: those must be the rows that read it, or else of
// the same class.
func TestCoupling(t *testing.T) {
	e := gorgonia.Open(gorgonia.Options{Threads: 1})
	defer e.Close()
	checked := 0
	check := func(name string, b []byte) {
		m := read(t, b)
		a, err := analyse(t.Context(), m, true)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		whole := new(onnxpb.ModelProto)
		if err := proto.Unmarshal(b, whole); err != nil {
			t.Fatal(err)
		}
		readers := map[int]*sink{}
		for _, s := range a.sinks {
			readers[s.node.Index] = s
		}
		for _, n := range m.Graph.Nodes {
			if a.live[n.Output(0)] == nil || n.Op == "Shape" || slices.ContainsFunc(a.barriers, func(x Barrier) bool { return x.Index == n.Index }) {
				continue
			}
			one := &onnxpb.GraphProto{Name: proto.String("one"), Node: []*onnxpb.NodeProto{n.Proto}, Initializer: whole.Graph.Initializer}
			shapes := map[string][]int64{}
			known := true
			for _, in := range n.Inputs {
				if a.live[in] == nil && in != "" {
					if _, ok := m.Graph.Initializer(in); !ok {
						known = false // computed from shapes or stored elsewhere
					}
				}
				if a.live[in] != nil && shapes[in] == nil {
					dims := m.Graph.Shape(in).Dims
					shape := make([]int64, len(dims))
					for i, d := range dims {
						shape[i] = d.Value
						if d.Value < 0 {
							shape[i] = 2
						}
					}
					shapes[in] = shape
					one.Input = append(one.Input, value(in, shape...))
				}
			}
			if !known {
				continue
			}
			for _, out := range n.Outputs {
				v := value(out)
				v.GetType().GetTensorType().Shape = nil
				one.Output = append(one.Output, v)
			}
			mb, err := proto.Marshal(&onnxpb.ModelProto{IrVersion: proto.Int64(8), OpsetImport: whole.OpsetImport, Graph: one})
			if err != nil {
				t.Fatal(err)
			}
			s, err := e.Load(t.Context(), engine.Model{Name: n.Label(), Bytes: mb})
			if err != nil {
				t.Fatalf("%s: %s: %v", name, n.Label(), err)
			}
			run := func(in map[string]*engine.Tensor) map[string]*engine.Tensor {
				out := map[string]*engine.Tensor{}
				for _, o := range n.Outputs {
					out[o] = nil
				}
				if err := s.Run(t.Context(), in, out); err != nil {
					t.Fatalf("%s: %s: %v", name, n.Label(), err)
				}
				return out
			}
			in := feed(s, 5)
			before := run(in)
			for tensor, shape := range shapes {
				x := a.live[tensor]
				for c := range x.n {
					data := slices.Clone(in[tensor].Float32())
					r := rand.New(rand.NewPCG(uint64(c), 3))
					for i := range data {
						if place(shape, x.axis, i) == c {
							data[i] += 2 * float32(r.NormFloat64())
						}
					}
					changedIn := map[string]*engine.Tensor{}
					for k, v := range in {
						changedIn[k] = v
					}
					changedIn[tensor] = engine.NewFloat32(data, shape...)
					after := run(changedIn)
					for _, name := range n.Outputs {
						out := a.live[name]
						if out == nil {
							continue
						}
						changed := make([]bool, out.n)
						for i, v := range before[name].Float32() {
							if v != after[name].Float32()[i] {
								changed[place(before[name].Shape, out.axis, i)] = true
							}
						}
						for o, is := range changed {
							if k := readers[n.Index]; k != nil {
								q := c / k.columns()
								if want := o/k.rows() == q && k.reads(o, c%k.columns()); is != want {
									t.Errorf("%s: %s: place %d of %s and row %d: changed %v, read %v", n.Label(), n.Op, c, tensor, o, is, want)
								}
							} else if is && a.class[x.base+c] != a.class[out.base+o] && !wide(a, x, out) {
								t.Errorf("%s: %s: place %d of %s changes place %d of %s, of another class", n.Label(), n.Op, c, tensor, o, name)
							}
							checked++
						}
					}
				}
			}
			s.Close()
		}
	}
	for _, d := range drawings() {
		if d.skip == "" {
			check(d.name, d.net().bytes(t))
		}
	}
	for seed := range uint64(40) {
		check(fmt.Sprint("seed ", seed), randomNet(seed).bytes(t))
	}
	t.Logf("%d pairs of channels", checked)
}

// wide tells whether x is broadcast over out's channels, which fixes it.
func wide(a *analysis, x, out *track) bool {
	return (x.n == 1 || x.axis != out.axis) && a.pinned[a.class[x.base]] != ""
}

// place returns where element i of a tensor lies along an axis.
func place(shape []int64, axis, i int) int {
	stride := int64(1)
	for _, d := range shape[axis+1:] {
		stride *= d
	}
	return int(int64(i) / stride % shape[axis])
}
