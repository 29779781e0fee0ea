package delta

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

const (
	vggFile    = "../../fixtures/vgg16-glyphs20.onnx"
	foldedFile = "../../fixtures/efficientnet-b0-glyphs20.onnx"
	bnFile     = "../../fixtures/efficientnet-b0-bn-glyphs20.onnx"
)

// models are those that every edit is tried on: the trained ones of the
// repository, a drawn one, and those in the folder FILTERLENS_MODELS.
func models(t *testing.T) map[string]*bench {
	t.Helper()
	list := map[string]*bench{}
	for _, p := range []string{vggFile, foldedFile, bnFile} {
		list[filepath.Base(p)] = loaded(t, p)
	}
	d, err := arch.EfficientNetB0(arch.Options{Classes: 10, Size: 32, Width: 0.25, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "drawn.onnx")
	if err := arch.Write(path, d); err != nil {
		t.Fatal(err)
	}
	list["drawn"] = loaded(t, path)
	if root := os.Getenv("FILTERLENS_MODELS"); root != "" {
		paths, err := filepath.Glob(filepath.Join(root, "*.onnx"))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			list[filepath.Base(p)] = loaded(t, p)
		}
	}
	return list
}

func forModels(t *testing.T, f func(t *testing.T, m *bench)) {
	for name, m := range models(t) {
		t.Run(name, func(t *testing.T) { f(t, &bench{t, m.ModelProto}) })
	}
}

// allEqual requires that every tensor is the same number for number.
func allEqual(t *testing.T, d *Delta) {
	t.Helper()
	if x := d.Totals; !d.Same || x.TensorsWithin+x.TensorsDiffer+x.TensorsNotRead > 0 || x.ElementsChanged > 0 {
		t.Errorf("same: %v, totals: %+v", d.Same, x)
	}
}

func TestSelf(t *testing.T) {
	forModels(t, func(t *testing.T, m *bench) {
		d := compared(t, m, m, Options{})
		expect(t, d)
		allEqual(t, d)
	})
}

func TestRenamed(t *testing.T) {
	forModels(t, func(t *testing.T, m *bench) {
		b := m.clone()
		seen := map[string]int{}
		b.rename(func(s string) string {
			if _, ok := seen[s]; !ok {
				seen[s] = len(seen)
			}
			return fmt.Sprint("t", (seen[s]*7919)%10007)
		})
		d := compared(t, m, b, Options{})
		allEqual(t, d)
		if x := d.Totals; x.Renamed != len(d.Nodes) || x.Unclear != 0 {
			t.Errorf("%+v", x)
		}
		for _, v := range append(d.Inputs, d.Outputs...) {
			if v.Kind != Renamed {
				t.Errorf("%s is %s", v.A.Name, v.Kind)
			}
		}
	})
}

// TestMisleadingNames has every tensor bear the name of another one, as exports
// that number their tensors have after an edit.
func TestMisleadingNames(t *testing.T) {
	forModels(t, func(t *testing.T, m *bench) {
		b := m.clone()
		var names []string
		for _, n := range b.Graph.Node {
			names = append(names, n.Output...)
		}
		next := map[string]string{}
		for i, s := range names[:len(names)-1] {
			next[s] = names[(i+3)%(len(names)-1)]
		}
		b.rename(func(s string) string {
			if to, ok := next[s]; ok {
				return to
			}
			return s
		})
		for i, n := range b.Graph.Node {
			n.Name = proto.String(fmt.Sprint("node", i))
		}
		d := compared(t, m, b, Options{})
		allEqual(t, d)
		if x := d.Totals; x.Kept+x.Renamed != len(d.Nodes) {
			t.Errorf("%+v", x)
		}
	})
}

// TestShuffled writes the nodes in another order that is as good.
func TestShuffled(t *testing.T) {
	forModels(t, func(t *testing.T, m *bench) {
		b := m.clone()
		r := rand.New(rand.NewPCG(1, 2))
		known := map[string]bool{"": true}
		for _, p := range b.Graph.Initializer {
			known[p.GetName()] = true
		}
		for _, v := range b.Graph.Input {
			known[v.GetName()] = true
		}
		var order []*onnxpb.NodeProto
		left := slices.Clone(b.Graph.Node)
		for len(left) > 0 {
			var ready []int
			for i, n := range left {
				if !slices.ContainsFunc(n.Input, func(s string) bool { return !known[s] }) {
					ready = append(ready, i)
				}
			}
			k := ready[r.IntN(len(ready))]
			order = append(order, left[k])
			for _, o := range left[k].Output {
				known[o] = true
			}
			left = slices.Delete(left, k, k+1)
		}
		b.Graph.Node = order
		r.Shuffle(len(b.Graph.Initializer), func(i, j int) {
			l := b.Graph.Initializer
			l[i], l[j] = l[j], l[i]
		})
		d := compared(t, m, b, Options{})
		expect(t, d)
		allEqual(t, d)
	})
}

func TestFloatTypes(t *testing.T) {
	for _, c := range []struct {
		to     onnxfile.DType
		digits int
	}{{onnxfile.Float16, 3}, {onnxfile.BFloat16, 2}, {onnxfile.Double, 17}} {
		t.Run(c.to.String(), func(t *testing.T) {
			forModels(t, func(t *testing.T, m *bench) {
				for _, swap := range []bool{false, true} {
					a, b := m, m.clone()
					b.convert(c.to)
					from, to := "float", c.to.String()
					if swap {
						a, b, from, to = b, a, to, from
					}
					d := compared(t, a, b, Options{})
					expect(t, d, fmt.Sprintf("input changed type %s->%s", from, to), fmt.Sprintf("output changed type %s->%s", from, to))
					x := d.Totals
					if x.TensorsDiffer+x.TensorsNotRead > 0 || x.Filters.Changed+x.Filters.Gone+x.Filters.Moved+x.Filters.Scaled > 0 {
						t.Errorf("%+v", x)
					}
					switch {
					case c.to == onnxfile.Double:
						if x.ElementsChanged > 0 || x.Digits != nil {
							t.Errorf("%d numbers changed", x.ElementsChanged)
						}
					case strings.Contains(t.Name(), "drawn") || strings.Contains(t.Name(), "-bn"):
						// Folding adds the rounding of several numbers.
					case x.Digits == nil || *x.Digits != c.digits:
						t.Errorf("same to %v digits, want %d", x.Digits, c.digits)
					}
				}
			})
		})
	}
}

// TestFoldedBatchNorm compares two exports of one trained network by PyTorch.
func TestFoldedBatchNorm(t *testing.T) {
	pairs := [][2]string{{bnFile, foldedFile}}
	if root := os.Getenv("FILTERLENS_MODELS"); root != "" {
		pairs = append(pairs, [2]string{filepath.Join(root, "resnet20-cifar10-bn.onnx"), filepath.Join(root, "resnet20-cifar10.onnx")})
	}
	for _, p := range pairs {
		a, b := loaded(t, p[0]), loaded(t, p[1])
		for _, swap := range []bool{false, true} {
			if swap {
				a, b = b, a
			}
			d := compared(t, a, b, Options{})
			if got := summary(d); slices.ContainsFunc(got, func(s string) bool {
				return !strings.HasSuffix(s, ": kept rewritten") && !strings.HasPrefix(s, "model ")
			}) {
				t.Error(got)
			}
			norms := len(a.ops("BatchNormalization")) + len(b.ops("BatchNormalization"))
			if x := d.Totals; !d.Same || x.Rewritten != norms || *x.Digits < 6 || x.Filters.Changed > 0 {
				t.Errorf("same: %v, %d rewritten, want %d; %+v", d.Same, x.Rewritten, norms, x)
			}
		}
	}
}

// TestPermuted puts the filters of every convolution of VGG-16 into another order
// and the channels of the layer after it with them.
func TestPermuted(t *testing.T) {
	paths := []string{vggFile}
	if root := os.Getenv("FILTERLENS_MODELS"); root != "" {
		paths = append(paths, filepath.Join(root, "vgg16-cifar100.onnx"))
	}
	for _, path := range paths {
		a := loaded(t, path)
		b := a.clone()
		r := rand.New(rand.NewPCG(3, 4))
		layers := b.stack()
		perms := make([][]int, len(layers))
		for i, n := range layers {
			rows := int(b.init(n.Input[1]).Dims[0])
			if i > 0 {
				b.pickChannels(n, perms[i-1], len(perms[i-1]))
			}
			if perms[i] = r.Perm(rows); i == len(layers)-1 {
				break // labels keep their order
			}
			b.pickRows(n, perms[i])
		}
		d := compared(t, a, b, Options{})
		var want []string
		for i, n := range layers {
			s := n.GetName() + ": changed"
			if i < len(layers)-1 {
				s += " filter_order"
			}
			if i > 0 {
				s += " channel_order"
			}
			want = append(want, s)
		}
		expect(t, d, want...)
		for i, n := range layers[:len(layers)-1] {
			x := node(d, n.GetName())
			f := x.Filters
			if !slices.Equal(f.KeptIndices, perms[i]) || f.Gone+f.New+f.Changed+f.Scaled+f.Unclear > 0 || f.Moved != misplaced(perms[i]) {
				t.Errorf("%s: %+v, want %v", n.GetName(), f.FilterCounts, perms[i])
			}
			if w := x.Tensors[0]; w.Agreement != Equal || !w.Aligned || w.Values.Elements != int64(len(a.weights(n.Input[1]))) {
				t.Errorf("%s: %+v", n.GetName(), w)
			}
		}
	}
}

func misplaced(perm []int) (n int) {
	for i, p := range perm {
		if i != p {
			n++
		}
	}
	return n
}

// TestPruned removes filters of every convolution of VGG-16, and what reads them.
func TestPruned(t *testing.T) {
	for _, converted := range []bool{false, true} {
		a := loaded(t, vggFile)
		b := a.clone()
		r := rand.New(rand.NewPCG(5, 6))
		layers := b.stack()
		var kept [][]int
		var want []string
		for i, n := range layers {
			dims := b.init(n.Input[1]).Dims
			rows, channels := int(dims[0]), int(dims[1])
			s := n.GetName() + ": changed"
			keep := make([]int, 0, rows)
			for k := range rows {
				if i == len(layers)-1 || k == 0 || r.IntN(3) > 0 {
					keep = append(keep, k)
				}
			}
			kept = append(kept, keep)
			if len(keep) < rows {
				s += fmt.Sprintf(" filters(%d->%d)", rows, len(keep))
			}
			if i > 0 {
				b.pickChannels(n, kept[i-1], channels)
				if len(kept[i-1]) < channels {
					s += fmt.Sprintf(" channels(%d->%d)", channels, len(kept[i-1]))
				}
			}
			b.pickRows(n, keep)
			want = append(want, s)
		}
		if converted {
			b.convert(onnxfile.Float16)
			want = append([]string{"input changed type float->float16", "output changed type float->float16"}, want...)
		}
		d := compared(t, a, b, Options{})
		expect(t, d, want...)
		for i, n := range layers {
			x := node(d, n.GetName())
			f := x.Filters
			rows := int(a.init(n.Input[1]).Dims[0])
			if !slices.Equal(f.KeptIndices, kept[i]) || f.Gone != rows-len(kept[i]) || f.New+f.Changed+f.Moved+f.Unclear > 0 || !f.InOrder {
				t.Errorf("%s: %+v, kept %v, want %v", n.GetName(), f.FilterCounts, f.KeptIndices, kept[i])
			}
			w := x.Tensors[0]
			if !converted && w.Agreement != Equal || converted && w.Agreement != Within {
				t.Errorf("%s: %s", n.GetName(), w.Agreement)
			}
		}
		// Seen from the other side, filters are new.
		d = compared(t, b, a, Options{})
		for i, n := range layers {
			f := node(d, n.GetName()).Filters
			if f.New != int(a.init(n.Input[1]).Dims[0])-len(kept[i]) || f.Gone+f.Changed+f.Moved > 0 {
				t.Errorf("back, %s: %+v", n.GetName(), f.FilterCounts)
			}
		}
	}
}

// TestTuned changes the weights of one layer slightly.
func TestTuned(t *testing.T) {
	forModels(t, func(t *testing.T, m *bench) {
		convs := m.ops("Conv")
		n := convs[len(convs)/2]
		b := m.clone()
		all := b.weights(n.Input[1])
		r := rand.New(rand.NewPCG(7, 8))
		for v, rows := all, int(b.init(n.Input[1]).Dims[0]); len(v) > 0; rows-- {
			k := len(v) / rows
			tune(v[:k], 0.1, r)
			v = v[k:]
		}
		b.set(n.Input[1], all)
		d := compared(t, m, b, Options{})
		expect(t, d, n.GetName()+": changed weight")
		x := node(d, n.GetName())
		f := x.Filters
		if rows := int(m.init(n.Input[1]).Dims[0]); f.Changed != rows || len(f.Filters) != rows {
			t.Errorf("%+v", f.FilterCounts)
		}
		for _, c := range f.Filters {
			if *c.From != *c.To || *c.Similarity < 0.8 {
				t.Errorf("filter %d is %d, similarity %v", *c.From, *c.To, *c.Similarity)
			}
		}
		w := x.Tensors[0].Values
		if w.Share < 0.99 || *w.RelL2 < 0.09 || *w.RelL2 > 0.11 || *w.Cosine < 0.99 || *w.Cosine > 0.999 {
			t.Errorf("share %v, relative L2 %v, cosine %v", w.Share, *w.RelL2, *w.Cosine)
		}
	})
}

// TestRetrained changes all weights, so that nothing but structure and similarity
// is left to match by; names are gone too.
func TestRetrained(t *testing.T) {
	forModels(t, func(t *testing.T, m *bench) {
		b := m.clone()
		r := rand.New(rand.NewPCG(9, 10))
		for _, p := range b.Graph.Initializer {
			if p.GetDataType() == int32(onnxfile.Float) && !strings.Contains(p.GetName(), "running") {
				v := floatsOf(p)
				for rest, rows := v, int(p.Dims[0]); rows > 0; rows-- {
					k := len(rest) / rows
					tune(rest[:k], 0.05, r)
					rest = rest[k:]
				}
				b.set(p.GetName(), v)
			}
		}
		b.rename(func(s string) string { return "r." + s })
		d := compared(t, m, b, Options{})
		if x := d.Totals; x.Added+x.Removed+x.Moved+x.Unclear > 0 {
			t.Errorf("%+v", x)
		}
		for _, n := range d.Nodes {
			if n.B.Name != "r."+n.A.Name {
				t.Errorf("%s is taken for %s", n.A.Name, n.B.Name)
			}
			if f := n.Filters; f != nil && (f.Gone+f.New > 0 || !f.InOrder) {
				t.Errorf("%s: %+v", n.A.Name, f.FilterCounts)
			}
		}
	})
}

// TestOneBias changes the bias of one filter.
func TestOneBias(t *testing.T) {
	a := loaded(t, vggFile)
	b := a.clone()
	n := b.stack()[3]
	v := b.weights(n.Input[2])
	v[5] += 0.25
	b.set(n.Input[2], v)
	d := compared(t, a, b, Options{})
	expect(t, d, n.GetName()+": changed bias")
	x := node(d, n.GetName())
	if f := x.Filters; f.Changed != 1 || len(f.Filters) != 1 || *f.Filters[0].From != 5 || !f.Filters[0].BiasChanged {
		t.Errorf("%+v", f)
	}
	if w := x.Tensors[1].Values; w.Changed != 1 || !slices.Equal(w.At, []int64{5}) || math.Abs(*w.MaxAbs-0.25) > 1e-6 {
		t.Errorf("%+v", w)
	}
	// A tolerance makes them the same.
	if d := compared(t, a, b, Options{ATol: 0.3}); !d.Same || d.Totals.TensorsWithin != 1 {
		t.Error("a tolerance of 0.3 does not help")
	}
}

// TestMatMul writes each Gemm as a MatMul of the transposed weight and an Add.
func TestMatMul(t *testing.T) {
	forModels(t, func(t *testing.T, m *bench) {
		b := m.clone()
		matMul(b)
		for _, p := range [][2]*bench{{m, b}, {b, m}} {
			d := compared(t, p[0], p[1], Options{})
			allEqual(t, d)
			if x := d.Totals; x.Rewritten != 1 || x.Kept != len(d.Nodes) {
				t.Errorf("%+v, %v", x, summary(d))
			}
		}
	})
}

func matMul(b *bench) {
	var nodes []*onnxpb.NodeProto
	for _, n := range b.Graph.Node {
		if n.GetOpType() != "Gemm" {
			nodes = append(nodes, n)
			continue
		}
		p := b.init(n.Input[1])
		v := floatsOf(p)
		rows, cols := int(p.Dims[0]), int(p.Dims[1])
		turned := make([]float32, len(v))
		for i := range rows {
			for j := range cols {
				turned[j*rows+i] = v[i*cols+j]
			}
		}
		b.set(n.Input[1], turned, int64(cols), int64(rows))
		out := n.Output[0]
		x := newNode("MatMul", n.Input[0]+" "+n.Input[1], out+"_product")
		x.Name = n.Name
		nodes = append(nodes, x, newNode("Add", n.Input[2]+" "+out+"_product", out))
	}
	b.Graph.Node = nodes
}

// TestConstants makes every initializer a Constant node, behind an Identity.
func TestConstants(t *testing.T) {
	forModels(t, func(t *testing.T, m *bench) {
		b := m.clone()
		var nodes []*onnxpb.NodeProto
		for _, p := range b.Graph.Initializer {
			name := p.GetName()
			p.Name = nil
			nodes = append(nodes, newNode("Constant", "", name+"_stored", attrT("value", p)), newNode("Identity", name+"_stored", name))
		}
		b.Graph.Initializer = nil
		b.Graph.Node = append(nodes, b.Graph.Node...)
		d := compared(t, m, b, Options{})
		expect(t, d)
		allEqual(t, d)
	})
}

// TestNoise adds what changes nothing.
func TestNoise(t *testing.T) {
	forModels(t, func(t *testing.T, m *bench) {
		b := m.clone()
		var nodes []*onnxpb.NodeProto
		for i, n := range b.Graph.Node {
			out := n.Output[0]
			if n.GetOpType() == "Relu" || n.GetOpType() == "Flatten" || n.GetOpType() == "Conv" && i%2 == 0 && len(m.ops("BatchNormalization")) == 0 {
				n.Output[0] = out + "_raw"
				nodes = append(nodes, n, newNode([]string{"Dropout", "Identity"}[i%2], out+"_raw", out))
				continue
			}
			nodes = append(nodes, n)
		}
		b.Graph.Node = nodes
		for _, n := range nodes {
			n.Attribute = slices.DeleteFunc(n.Attribute, func(a *onnxpb.AttributeProto) bool {
				return a.GetName() == "dilations" || a.GetName() == "kernel_shape" && n.GetOpType() == "Conv" || a.GetName() == "group" && a.GetI() == 1
			})
		}
		d := compared(t, m, b, Options{})
		allEqual(t, d)
		for _, n := range d.Nodes {
			if n.Kind != Kept && n.Kind != Renamed {
				t.Errorf("%s: %s", n.A.Name, n.Kind)
			}
		}
	})
}

// TestExternal moves the weights beside the file.
func TestExternal(t *testing.T) {
	m := loaded(t, vggFile)
	b := m.clone()
	dir := t.TempDir()
	var data []byte
	for _, p := range b.Graph.Initializer {
		entry := func(k, v string) {
			p.ExternalData = append(p.ExternalData, &onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(v)})
		}
		entry("location", "weights.bin")
		entry("offset", fmt.Sprint(len(data)))
		entry("length", fmt.Sprint(len(p.RawData)))
		data = append(data, p.RawData...)
		p.RawData, p.DataLocation = nil, onnxpb.TensorProto_EXTERNAL.Enum()
	}
	raw, err := proto.Marshal(b.ModelProto)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"m.onnx": raw, "weights.bin": data} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	x, err := inspect.Open(t.Context(), filepath.Join(dir, "m.onnx"), inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	d, err := Compare(t.Context(), m.open(), x, Options{})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, d)
	allEqual(t, d)
}

// TestOpset raises the operator set, and writes what moved from attributes to
// inputs.
func TestOpset(t *testing.T) {
	forModels(t, func(t *testing.T, m *bench) {
		b := m.clone()
		from := b.OpsetImport[0].GetVersion()
		b.OpsetImport[0].Version = proto.Int64(20)
		b.IrVersion = proto.Int64(9)
		b.ProducerVersion = proto.String("another")
		for _, n := range b.ops("BatchNormalization") {
			n.Attribute = append(slices.DeleteFunc(n.Attribute, func(a *onnxpb.AttributeProto) bool { return a.GetName() == "training_mode" }), attrI("training_mode", 0))
		}
		d := compared(t, m, b, Options{})
		expect(t, d, fmt.Sprintf("model ir_version  %d->9", m.GetIrVersion()), fmt.Sprintf("model opset ai.onnx %d->20", from),
			fmt.Sprintf("model producer_version  %s->another", m.GetProducerVersion()))
		allEqual(t, d)
	})
}

// TestJSON requires that a Delta can be written and read back.
func TestJSON(t *testing.T) {
	a := loaded(t, vggFile)
	b := a.clone()
	v := b.weights(b.stack()[2].Input[1])
	v[0], v[1] = float32(math.NaN()), float32(math.Inf(1))
	b.set(b.stack()[2].Input[1], v)
	d := compared(t, a, b, Options{})
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back Delta
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(&back)
	if err != nil || string(again) != string(raw) {
		t.Error("it reads back as something else", err)
	}
	w := node(d, b.stack()[2].GetName()).Tensors[0]
	if w.Agreement != Differs || w.Values.NaNB != 1 || w.Values.InfB != 1 || w.Values.Changed != 2 || w.Values.MaxAbs != nil || *w.Values.RelL2 != 0 {
		t.Errorf("%+v", w.Values)
	}
}

// TestWorkers requires the same result whatever the number of goroutines.
func TestWorkers(t *testing.T) {
	a := loaded(t, foldedFile)
	b := a.clone()
	r := rand.New(rand.NewPCG(11, 12))
	for _, p := range b.Graph.Initializer {
		v := floatsOf(p)
		tune(v, 0.3, r)
		b.set(p.GetName(), v)
	}
	var first string
	for _, n := range []int{1, 2, 5} {
		raw, err := json.Marshal(compared(t, a, b, Options{Workers: n}))
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(raw)
		} else if string(raw) != first {
			t.Errorf("%d workers give another result", n)
		}
	}
}
