package compact

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
)

// blocks clears the kernels between parts of a weight, of which there are parts;
// channels are dealt out by deal.
func (n *net) blocks(weight string, parts int, deal func(of int64) []int) {
	t := n.initializer(weight)
	rows, columns := deal(t.Dims[0]), deal(t.Dims[1])
	for o, p := range rows {
		for c, q := range columns {
			if p%parts != q%parts {
				n.zeroKernel(weight, []int64{int64(o)}, int64(c))
			}
		}
	}
}

func (n *net) dealt(size int64) []int { return n.r.Perm(int(size)) }

// grouped applies blocks and compares the answers on every engine.
func grouped(t testing.TB, engines []engine.Engine, m *inspect.Model, source []byte, list []Blocks) (*inspect.Model, int) {
	t.Helper()
	d, gathers, err := ApplyBlocks(t.Context(), m, list)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	w := read(t, b)
	if err := w.Check(); err != nil {
		t.Fatal(err)
	}
	for _, e := range engines {
		if d := apart(t, answers(t, e, source, 3), answers(t, e, b, 3)); d > tolerance {
			t.Errorf("%s: answers differ by %.3g", e.Name(), d)
		}
	}
	found := 0
	for _, n := range w.Graph.Nodes {
		if n.Op == "Gather" {
			found++
		}
	}
	for _, n := range m.Graph.Nodes {
		if n.Op == "Gather" {
			found--
		}
	}
	if found != gathers {
		t.Errorf("%d Gather nodes were added, %d were told", found, gathers)
	}
	return w, gathers
}

func find(t testing.TB, m *inspect.Model) [][]Blocks {
	t.Helper()
	list, err := FindBlocks(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// best returns the way with the fewest multiply-accumulates of each convolution.
func best(list [][]Blocks) (out []Blocks) {
	for _, forms := range list {
		out = append(out, forms[0])
	}
	return out
}

// TestBlocks groups convolutions in networks where it is known what that takes.
func TestBlocks(t *testing.T) {
	aligned := func(size int64) []int {
		list := make([]int, size)
		for i := range list {
			list[i] = i
		}
		return list
	}
	tests := []struct {
		name    string
		draw    func(n *net)
		gathers int
		groups  []int // of each convolution that is grouped
		macs    []float64
	}{
		{"both sides move", func(n *net) {
			x := n.conv("a", "x", 3, 8, 3, 1, 1)
			x = n.node("r", "Relu", []string{n.conv("b", x, 8, 12, 3, 1, 1)})
			n.blocks("b.w", 4, n.dealt)
			n.head(n.conv("c", x, 12, 4, 3, 1, 1), 4)
		}, 0, []int{4}, []float64{0.25}},
		{"the same parts in a row", func(n *net) {
			x := n.conv("a", "x", 3, 8, 3, 1, 1)
			for _, name := range []string{"b", "c", "d"} {
				x = n.node(name+"r", "Relu", []string{n.conv(name, x, 8, 8, 3, 1, 1)})
				n.blocks(name+".w", 4, aligned)
			}
			n.head(x, 8)
		}, 0, []int{4, 4, 4}, []float64{0.25, 0.25, 0.25}},
		{"other parts in a row", func(n *net) {
			x := n.conv("a", "x", 3, 8, 3, 1, 1)
			for i, name := range []string{"b", "c", "d"} {
				x = n.node(name+"r", "Relu", []string{n.conv(name, x, 8, 8, 3, 1, 1)})
				n.blocks(name+".w", 4, aligned)
				if i == 1 { // reads {0,1}, {2,3}, ... and the others {0,4}, {1,5}, ...
					n.weights("c.w2", 8, 8, 3, 3)
					n.initializer("c.w").RawData = n.initializer("c.w2").RawData
					n.blocks("c.w", 4, func(int64) []int { return []int{0, 0, 1, 1, 2, 2, 3, 3} })
				}
			}
			n.head(x, 8)
		}, 2, []int{4, 4, 4}, []float64{0.25, 0.25, 0.25}},
		{"an input and an output of the graph", func(n *net) {
			n.g.Input[0] = value("x", -1, 6, 5, 5)
			n.conv("a", "x", 6, 4, 3, 1, 1)
			n.blocks("a.w", 2, n.dealt)
			n.out("a")
		}, 2, []int{2}, []float64{0.5}},
		{"a residual", func(n *net) {
			x := n.conv("a", "x", 3, 8, 3, 1, 1)
			y := n.conv("b", x, 8, 8, 3, 1, 1)
			n.blocks("b.w", 2, aligned)
			n.head(n.node("sum", "Add", []string{x, y}), 8)
		}, 0, []int{2}, []float64{0.5}},
		{"a residual whose sides differ", func(n *net) {
			x := n.conv("a", "x", 3, 8, 3, 1, 1)
			y := n.conv("b", x, 8, 8, 3, 1, 1)
			n.blocks("b.w", 2, n.dealt)
			n.head(n.node("sum", "Add", []string{x, y}), 8)
		}, 1, []int{2}, []float64{0.5}},
		{"a concatenation", func(n *net) {
			x := n.node("cat", "Concat", []string{n.conv("a", "x", 3, 4, 3, 1, 1), n.conv("b", "x", 3, 4, 1, 0, 1)}, integer("axis", 1))
			x = n.conv("c", x, 8, 8, 1, 0, 1)
			n.blocks("c.w", 4, n.dealt)
			n.head(x, 8)
		}, 1, []int{4}, []float64{0.25}},
		{"flattened", func(n *net) {
			x := n.conv("a", "x", 3, 6, 3, 1, 1)
			x = n.node("p", "MaxPool", []string{n.conv("b", x, 6, 6, 3, 1, 1)}, ints("kernel_shape", 2, 2), ints("strides", 2, 2))
			n.blocks("b.w", 3, n.dealt)
			n.node("flat", "Flatten", []string{x})
			n.out(n.gemm("head", "flat", 6*16, 4))
		}, 0, []int{3}, []float64{1. / 3}},
		{"a grouped and a depthwise reader", func(n *net) {
			x := n.conv("a", "x", 3, 8, 3, 1, 1)
			x = n.conv("b", x, 8, 8, 1, 0, 1)
			n.blocks("b.w", 2, n.dealt)
			y := n.conv("g", x, 8, 8, 3, 1, 2) // fixes the channels of b
			z := n.conv("dw", x, 8, 16, 3, 1, 8)
			z = n.conv("c", z, 16, 8, 1, 0, 1)
			n.blocks("c.w", 2, n.dealt) // its inputs go in pairs
			n.head(n.node("sum", "Add", []string{y, z}), 8)
		}, 3, []int{2, 2}, []float64{0.5, 0.5}},
		{"a diagonal", func(n *net) {
			x := n.conv("a", "x", 3, 6, 3, 1, 1)
			x = n.conv("b", x, 6, 6, 3, 1, 1)
			n.blocks("b.w", 6, aligned)
			n.head(x, 6)
		}, 0, []int{6}, []float64{1. / 6}},
		{"blocks that differ in size", func(n *net) {
			x := n.conv("a", "x", 3, 8, 3, 1, 1)
			x = n.conv("b", x, 8, 8, 3, 1, 1)
			n.blocks("b.w", 2, func(int64) []int { return []int{0, 1, 0, 1, 0, 0, 1, 0} }) // 5 and 3
			n.head(x, 8)
		}, 0, nil, nil}, // 2 * 5 * 5 of 64 are 0.78
		{"a filling", func(n *net) {
			x := n.conv("a", "x", 3, 9, 3, 1, 1)
			x = n.conv("b", x, 9, 9, 3, 1, 1)
			n.blocks("b.w", 2, aligned) // 5 and 4
			n.head(x, 9)
		}, 2, []int{2}, []float64{50. / 81}},
		{"without a bias", func(n *net) {
			x := n.conv("a", "x", 3, 6, 3, 1, 1)
			x = n.conv("b", x, 6, 6, 3, 1, 1)
			n.g.Node[1].Input = n.g.Node[1].Input[:2]
			n.blocks("b.w", 2, n.dealt)
			n.head(x, 6)
		}, 0, []int{2}, []float64{0.5}},
	}
	engines := engines(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNet(5, -1, 3, 8, 8)
			tt.draw(n)
			source := n.bytes(t)
			m := read(t, source)
			list := best(find(t, m))
			var groups []int
			var macs []float64
			for _, b := range list {
				groups, macs = append(groups, b.Groups), append(macs, b.Share)
			}
			if !slices.Equal(groups, tt.groups) || !slices.EqualFunc(macs, tt.macs, func(x, y float64) bool { return math.Abs(x-y) < 1e-9 }) {
				t.Errorf("groups %v with %v of the multiply-accumulates, want %v and %v", groups, macs, tt.groups, tt.macs)
			}
			w, gathers := grouped(t, engines, m, source, list)
			if gathers != tt.gathers {
				t.Errorf("%d Gather nodes, want %d", gathers, tt.gathers)
			}
			saved := 0.0
			for _, b := range list {
				for i := range m.Layers {
					if m.Layers[i].Node == b.Index {
						saved += (1 - b.Share) * float64(*m.Layers[i].MACs)
					}
				}
			}
			if got := float64(*m.Totals.MACs - *w.Totals.MACs); math.Abs(got-saved) > 0.5 {
				t.Errorf("%v multiply-accumulates less, %v were told", got, saved)
			}
		})
	}
}

// TestRandomBlocks groups whatever can be grouped in random networks.
func TestRandomBlocks(t *testing.T) {
	engines := engines(t)
	convs, gathers, padded, orders := 0, 0, 0, 0
	for seed := range uint64(120) {
		n := randomNet(seed)
		r := rand.New(rand.NewPCG(seed, 11))
		for _, node := range n.g.Node {
			if node.GetOpType() != "Conv" || r.IntN(8) == 0 {
				continue
			}
			if w := n.initializer(node.Input[1]); w.Dims[1] > 1 {
				n.blocks(node.Input[1], 2+r.IntN(3), n.dealt)
			}
		}
		source := n.bytes(t)
		m := read(t, source)
		var list []Blocks
		for _, forms := range find(t, m) {
			if r.IntN(5) > 0 {
				b := forms[r.IntN(len(forms))]
				list = append(list, b)
				padded += len(slices.DeleteFunc(slices.Concat(b.Inputs, b.Outputs), func(c int) bool { return c >= 0 }))
			}
		}
		_, k := grouped(t, engines, m, source, list)
		convs, gathers, orders = convs+len(list), gathers+k, orders+2*len(list)-k
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d convolutions, %d Gather nodes, %d sides in order without, %d fillings", convs, gathers, orders, padded)
	if convs < 80 || gathers < 50 || orders < 50 || padded < 50 {
		t.Error("too few")
	}
}

// TestForms packs components against trying everything.
func TestForms(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	exact := 0
	for range 300 {
		c := components{}
		take := func() component {
			var x component
			for range 1 + r.IntN(3) {
				x.ins = append(x.ins, c.in)
				c.in++
			}
			for range 1 + r.IntN(3) {
				x.outs = append(x.outs, c.out)
				c.out++
			}
			return x
		}
		for range 2 + r.IntN(4) {
			c.list = append(c.list, take())
		}
		for range r.IntN(3) {
			c.loose.ins = append(c.loose.ins, c.in)
			c.in++
		}
		list := slices.Clone(c.list)
		for _, b := range c.forms() {
			if b.Share > maxShare || b.Components != len(list) {
				t.Fatalf("%+v", b)
			}
			in, out := len(b.Inputs)/b.Groups, len(b.Outputs)/b.Groups
			if got := float64(in*out*b.Groups) / float64(c.in*c.out); math.Abs(got-b.Share) > 1e-12 {
				t.Fatalf("%+v: %v", b, got)
			}
			for _, x := range list { // as a whole in one group
				for _, ch := range x.ins {
					for _, o := range x.outs {
						if slices.Index(b.Inputs, ch)/in != slices.Index(b.Outputs, o)/out {
							t.Fatalf("%+v cuts %+v", b, x)
						}
					}
				}
			}
			least := math.Inf(1)
			every(len(list), b.Groups, func(bin []int) {
				ins, outs := make([]int, b.Groups), make([]int, b.Groups)
				for i, x := range list {
					ins[bin[i]] += len(x.ins)
					outs[bin[i]] += len(x.outs)
				}
				least = min(least, float64(max(slices.Max(ins), (c.in+b.Groups-1)/b.Groups)*max(slices.Max(outs), (c.out+b.Groups-1)/b.Groups)*b.Groups))
			})
			got := float64(in * out * b.Groups)
			if got < least-0.5 {
				t.Fatalf("%+v: less than possible, %v", b, least)
			}
			if got > 2*least {
				t.Errorf("%+v: %v, possible were %v", b, got, least)
			}
			if got == least {
				exact++
			}
		}
	}
	t.Logf("%d packings as good as any", exact)
	if exact < 100 {
		t.Error("too few")
	}
}

// every calls fn with all ways to put n things into k bins.
func every(n, k int, fn func([]int)) {
	bin := make([]int, n)
	for {
		fn(bin)
		i := 0
		for ; i < n; i++ {
			if bin[i]++; bin[i] < k {
				break
			}
			bin[i] = 0
		}
		if i == n {
			return
		}
	}
}

// TestBlocksRefused: blocks that do not fit are refused before anything is written.
func TestBlocksRefused(t *testing.T) {
	n := newNet(5, -1, 3, 8, 8)
	x := n.conv("b", n.conv("a", "x", 3, 8, 3, 1, 1), 8, 8, 3, 1, 1)
	n.blocks("b.w", 2, n.dealt)
	source := n.head(x, 8).bytes(t)
	m := read(t, source)
	list := best(find(t, m))
	if len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	for name, change := range map[string]func(b *Blocks) []Blocks{
		"twice":            func(b *Blocks) []Blocks { return []Blocks{*b, *b} },
		"another node":     func(b *Blocks) []Blocks { b.Index = 2; return []Blocks{*b} },
		"one group":        func(b *Blocks) []Blocks { b.Groups = 1; return []Blocks{*b} },
		"uneven":           func(b *Blocks) []Blocks { b.Inputs = b.Inputs[1:]; return []Blocks{*b} },
		"a channel twice":  func(b *Blocks) []Blocks { b.Inputs[0] = b.Inputs[1]; return []Blocks{*b} },
		"no such channel":  func(b *Blocks) []Blocks { b.Outputs[0] = 8; return []Blocks{*b} },
		"a kernel between": func(b *Blocks) []Blocks { b.Inputs[0], b.Inputs[7] = b.Inputs[7], b.Inputs[0]; return []Blocks{*b} },
	} {
		b := list[0]
		b.Inputs, b.Outputs = slices.Clone(b.Inputs), slices.Clone(b.Outputs)
		_, _, err := ApplyBlocks(t.Context(), m, change(&b))
		var plan *PlanError
		if !errors.As(err, &plan) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := FindBlocks(ctx, m); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestBlocksOutside groups a model whose weights lie beside the file.
func TestBlocksOutside(t *testing.T) {
	n := newNet(5, -1, 3, 8, 8)
	x := n.conv("b", n.conv("a", "x", 3, 8, 3, 1, 1), 8, 8, 3, 1, 1)
	n.blocks("b.w", 2, n.dealt)
	n.head(x, 8)
	source := n.bytes(t)
	m, err := inspect.Open(t.Context(), beside(t, n, t.TempDir()), inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	grouped(t, engines(t), m, source, best(find(t, m)))
}

// TestFixtureBlocks: the masks of trained models are not block-diagonal by themselves.
func TestFixtureBlocks(t *testing.T) {
	for _, name := range []string{"vgg16-glyphs20.onnx", "efficientnet-b0-bn-glyphs20.onnx"} {
		path, _ := fixture(t, name)
		m, err := inspect.Open(t.Context(), path, inspect.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if list := find(t, m); len(list) > 0 {
			t.Errorf("%s: %+v", filepath.Base(path), fmt.Sprint(len(list)))
		}
	}
}

func BenchmarkFindBlocks(b *testing.B) {
	n := newNet(5, -1, 3, 8, 8)
	x := n.conv("a", "x", 3, 256, 3, 1, 1)
	x = n.conv("b", x, 256, 256, 3, 1, 1)
	n.blocks("b.w", 16, n.dealt)
	m := read(b, n.head(x, 256).bytes(b))
	for b.Loop() {
		if list := find(b, m); len(list) != 1 {
			b.Fatal(len(list))
		}
	}
}
