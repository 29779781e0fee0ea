package delta

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// reorder puts the slices along an axis of an initializer into another order, or
// keeps only some.
func (m *bench) reorder(name string, axis int, keep []int) {
	p := m.init(name)
	v := floatsOf(p)
	outer, inner := 1, 1
	for i, d := range p.Dims {
		if i < axis {
			outer *= int(d)
		} else if i > axis {
			inner *= int(d)
		}
	}
	n := int(p.Dims[axis])
	var out []float32
	for o := range outer {
		for _, k := range keep {
			at := (o*n + k) * inner
			out = append(out, v[at:at+inner]...)
		}
	}
	dims := slices.Clone(p.Dims)
	dims[axis] = int64(len(keep))
	setFloats(p, name, dims, out)
}

// within puts an offset before each index.
func within(keep []int, offset int) (out []int) {
	for _, k := range keep {
		out = append(out, k+offset)
	}
	return out
}

func upTo(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

// network is a sketch with all ways in which channels go: an Add of two paths, a
// Concat, a depthwise and a grouped convolution, squeeze and excitation, an own
// BatchNormalization, a Slice and a Pad along channels, and a Flatten of 2 x 2
// positions.
func network(t testing.TB) *bench {
	m := sketch(t, 13).input("x", -1, 3, 4, 4)
	conv := func(name, in string, filters, channels, kernel int64, attrs ...*onnxpb.AttributeProto) {
		m.random(name+".w", uint64(len(m.Graph.Initializer)), filters, channels, kernel, kernel).random(name+".b", uint64(1000+len(m.Graph.Initializer)), filters)
		if kernel == 3 {
			attrs = append(attrs, attrInts("pads", 1, 1, 1, 1))
		}
		m.node("Conv", fmt.Sprintf("%s %s.w %s.b", in, name, name), name, attrs...)
	}
	relu := func(in string) string {
		m.node("Relu", in, in+"_r")
		return in + "_r"
	}
	conv("stem", "x", 12, 3, 3)
	s := relu("stem")
	conv("in1", s, 10, 12, 3)
	conv("in2", relu("in1"), 12, 10, 3)
	m.node("Add", "in2 "+s, "sum")
	r := relu("sum")
	conv("left", r, 6, 12, 1)
	conv("right", r, 7, 12, 3)
	m.node("Concat", relu("left")+" "+relu("right"), "cat", attrI("axis", 1))
	conv("mix", "cat", 16, 13, 1)
	conv("depth", relu("mix"), 16, 1, 3, attrI("group", 16))
	m.node("GlobalAveragePool", "depth", "pooled")
	conv("squeeze", "pooled", 5, 16, 1)
	conv("excite", relu("squeeze"), 16, 5, 1)
	m.node("Sigmoid", "excite", "gate").node("Mul", "depth gate", "gated")
	for i, k := range []string{"gamma", "beta", "mean"} {
		m.random("bn."+k, uint64(300+i), 16)
	}
	m.floats("bn.var", []int64{16}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
	m.node("BatchNormalization", "gated bn.gamma bn.beta bn.mean bn.var", "norm")
	m.ints("from", 0, 4).ints("to", 4, 20).ints("one", 1)
	m.node("Slice", "norm zero four one", "firsts").node("Slice", "norm four end one", "rest").ints("zero", 0).ints("four", 4).ints("end", 1000)
	m.node("Concat", "rest firsts", "turned", attrI("axis", 1))
	conv("grouped", "turned", 8, 4, 3, attrI("group", 4))
	m.ints("padding", 0, 2, 0, 0, 0, 2, 0, 0).node("Pad", relu("grouped")+" padding", "padded")
	conv("wide", "padded", 12, 12, 1)
	m.node("MaxPool", "wide", "small", attrInts("kernel_shape", 2, 2), attrInts("strides", 2, 2)).node("Flatten", "small", "flat")
	m.random("fc.w", 400, 20, 48).random("fc.b", 401, 20).node("Gemm", "flat fc.w fc.b", "hidden", attrI("transB", 1))
	m.random("out.w", 402, 20, 4).node("MatMul", relu("hidden")+" out.w", "y")
	return m.output("y", -1, 4)
}

// TestEveryWay permutes the channels of network along all ways at once.
func TestEveryWay(t *testing.T) {
	a := network(t)
	for seed := range uint64(5) {
		b := a.clone()
		r := rand.New(rand.NewPCG(seed, 1))
		rows := func(name string, p []int) {
			b.reorder(name+".w", 0, p)
			b.reorder(name+".b", 0, p)
		}
		stem, in1, left, right, squeeze, wide, hidden := r.Perm(12), r.Perm(10), r.Perm(6), r.Perm(7), r.Perm(5), r.Perm(12), r.Perm(20)
		// The slices of the normalised channels must stay together.
		mix := append(r.Perm(4), within(r.Perm(12), 4)...)
		// The groups read [4:16) and then [0:4): four channels each, so each group
		// keeps its own channels, in any order within.
		for g := range 3 {
			copy(mix[4+4*g:], within(r.Perm(4), 4+4*g))
		}
		rows("stem", stem)
		b.reorder("in1.w", 1, stem)
		rows("in1", in1)
		b.reorder("in2.w", 1, in1)
		rows("in2", stem)
		b.reorder("left.w", 1, stem)
		b.reorder("right.w", 1, stem)
		rows("left", left)
		rows("right", right)
		b.reorder("mix.w", 1, append(slices.Clone(left), within(right, 6)...))
		rows("mix", mix)
		rows("depth", mix)
		b.reorder("squeeze.w", 1, mix)
		rows("squeeze", squeeze)
		b.reorder("excite.w", 1, squeeze)
		rows("excite", mix)
		for _, k := range []string{"gamma", "beta", "mean", "var"} {
			b.reorder("bn."+k, 0, mix)
		}
		// Each group of the grouped convolution: rows 2g and 2g+1, its own channels.
		w := b.weights("grouped.w")
		was := slices.Clone(w)
		turned := append(slices.Clone(mix[4:]), mix[:4]...)
		for f := range 8 {
			for c := range 4 {
				from := turned[f/2*4+c]
				local := from % 4
				copy(w[(f*4+c)*9:][:9], was[(f*4+local)*9:][:9])
			}
		}
		b.set("grouped.w", w)
		grouped := []int{1, 0, 2, 3, 5, 4, 7, 6}
		rows("grouped", grouped)
		b.reorder("wide.w", 1, append(append([]int{0, 1}, within(grouped, 2)...), 10, 11))
		rows("wide", wide)
		var positions []int
		for _, k := range wide {
			positions = append(positions, within(upTo(4), 4*k)...)
		}
		b.reorder("fc.w", 1, positions)
		rows("fc", hidden)
		b.reorder("out.w", 0, hidden)

		d := compared(t, a, b, Options{})
		x := d.Totals
		if x.TensorsDiffer+x.TensorsNotRead+x.TensorsWithin > 0 || x.Filters.Gone+x.Filters.New+x.Filters.Changed+x.Filters.Scaled+x.Filters.Unclear > 0 {
			t.Errorf("seed %d: %+v", seed, x)
			for _, n := range d.Nodes {
				t.Log(n.A.Name, n.Kind, n.Changes)
			}
		}
		for name, want := range map[string][]int{"n_stem": stem, "n_in1": in1, "n_in2": stem, "n_left": left, "n_right": right, "n_mix": mix, "n_depth": mix,
			"n_squeeze": squeeze, "n_excite": mix, "n_grouped": grouped, "n_wide": wide, "n_hidden": hidden, "n_y": upTo(4)} {
			if f := node(d, name).Filters; !slices.Equal(f.KeptIndices, want) || f.Note != "" {
				t.Errorf("seed %d, %s: %v, want %v; %s", seed, name, f.KeptIndices, want, f.Note)
			}
		}
	}
}

// TestResidualPruned removes channels of a residual stream and within a block.
func TestResidualPruned(t *testing.T) {
	a := network(t)
	b := a.clone()
	stem, in1 := []int{0, 2, 3, 5, 6, 7, 9, 11}, []int{1, 2, 3, 8}
	for _, name := range []string{"stem", "in2"} {
		b.reorder(name+".w", 0, stem)
		b.reorder(name+".b", 0, stem)
	}
	b.reorder("in1.w", 0, in1)
	b.reorder("in1.b", 0, in1)
	b.reorder("in2.w", 1, in1)
	for _, name := range []string{"in1", "left", "right"} {
		b.reorder(name+".w", 1, stem)
	}
	d := compared(t, a, b, Options{})
	expect(t, d, "n_stem: changed filters(12->8)", "n_in1: changed filters(10->4) channels(12->8)", "n_in2: changed filters(12->8) channels(10->4)",
		"n_left: changed channels(12->8)", "n_right: changed channels(12->8)")
	for name, want := range map[string][]int{"n_stem": stem, "n_in1": in1, "n_in2": stem} {
		f := node(d, name).Filters
		if !slices.Equal(f.KeptIndices, want) || f.Kept != len(want) || f.Gone != f.CountA-len(want) || f.New > 0 {
			t.Errorf("%s: %+v", name, f)
		}
	}
	// Weights of what lives on are compared, and found the same.
	if w := node(d, "n_in2").Tensors[0]; w.Agreement != Equal || !w.Aligned || w.Values.Elements != 8*4*9 {
		t.Errorf("%+v", w)
	}
}

// TestScaled multiplies filters, and divides what reads them.
func TestScaled(t *testing.T) {
	for _, undone := range []bool{false, true} {
		a := chain(t, 13, 8, 6)
		b := a.clone()
		w, bias, next := b.weights("c0.w"), b.weights("c0.b"), b.weights("c1.w")
		for _, f := range []int{2, 5} {
			s := float32(f) // 2 and 5
			for k := range 27 {
				w[f*27+k] *= s
			}
			bias[f] *= s
			for row := range 6 {
				for k := range 9 {
					if undone {
						next[(row*8+f)*9+k] /= s
					}
				}
			}
		}
		b.set("c0.w", w)
		b.set("c0.b", bias)
		b.set("c1.w", next)
		d := compared(t, a, b, Options{})
		want := []string{"n_c0: changed weight bias"}
		if undone {
			// By place its numbers differ; filter by filter they are the same.
			want = append(want, "n_c1: changed weight")
		}
		expect(t, d, want...)
		f := node(d, "n_c0").Filters
		if f.Scaled != 2 || f.Kept != 6 || len(f.Filters) != 2 || *f.Filters[0].From != 2 || math.Abs(*f.Filters[0].Scale-2) > 1e-6 || math.Abs(*f.Filters[1].Scale-5) > 1e-6 || f.Filters[0].BiasChanged {
			t.Errorf("%+v", f)
		}
		if f := node(d, "n_c1").Filters; f.Kept != 6 || f.Channels.Scaled != undone {
			t.Errorf("undone %v: %+v", undone, f)
		}
	}
}

// TestFarScaled multiplies filters by what training hardly does but decay and
// folded normalization do.
func TestFarScaled(t *testing.T) {
	for _, scale := range []float32{1e-12, 1e-8, 1e8, 1e12} {
		a := chain(t, 13, 8, 6)
		b := a.clone()
		w, bias := b.weights("c0.w"), b.weights("c0.b")
		for i := range w {
			w[i] *= scale
		}
		for i := range bias {
			bias[i] *= scale
		}
		b.set("c0.w", w)
		b.set("c0.b", bias)
		f := node(compared(t, a, b, Options{}), "n_c0").Filters
		if f.Scaled != 8 || math.Abs(*f.Filters[3].Scale/float64(scale)-1) > 1e-6 || math.Abs(*f.Filters[3].Similarity-1) > 1e-9 {
			t.Errorf("scale %g: %+v", scale, f.FilterCounts)
		}
	}
}

// TestTwins has filters that cannot be told apart.
func TestTwins(t *testing.T) {
	a := chain(t, 13, 8, 6)
	w, bias := a.weights("c0.w"), a.weights("c0.b")
	copy(w[4*27:5*27], w[:27]) // 4 is a twin of 0
	bias[4] = bias[0]
	clear(w[6*27:]) // 6 and 7 have no weights
	bias[6], bias[7] = 1, 2
	a.set("c0.w", w)
	a.set("c0.b", bias)

	// The twin is removed, and the bias tells 6 and 7 apart, which change places.
	b := a.clone()
	keep := []int{0, 1, 2, 3, 5, 7, 6}
	b.reorder("c0.w", 0, keep)
	b.reorder("c0.b", 0, keep)
	b.reorder("c1.w", 1, keep)
	d := compared(t, a, b, Options{})
	f := node(d, "n_c0").Filters
	if f.Gone != 1 || f.Unclear != 1 || !slices.Equal(f.KeptIndices, keep) {
		t.Errorf("%+v", f)
	}
	for _, x := range f.Filters {
		if x.Unclear != (*x.From == 0) {
			t.Errorf("filter %d: %+v", *x.From, x)
		}
	}
	// Nothing is moved, so twins are where they were, and nothing has to be said.
	c := a.clone()
	v := c.weights("c1.w")
	v[0]++
	c.set("c1.w", v)
	if d := compared(t, a, c, Options{}); d.Totals.Filters.Unclear > 0 {
		t.Errorf("%+v", d.Totals.Filters)
	}
	// Twins after training are similar to each other's partners; what reads them
	// tells them apart, unless it reads them alike.
	for _, readAlike := range []bool{false, true} {
		g := a.clone()
		if readAlike {
			v := g.weights("c1.w")
			for row := range 6 {
				copy(v[(row*8+4)*9:][:9], v[row*8*9:][:9])
			}
			g.set("c1.w", v)
		}
		e := g.clone()
		v = e.weights("c0.w")
		tune(v[:6*27], 0.001, rand.New(rand.NewPCG(1, 1)))
		e.set("c0.w", v)
		f = node(compared(t, g, e, Options{}), "n_c0").Filters
		for _, x := range f.Filters {
			if k := *x.From; x.Unclear != (readAlike && (k == 0 || k == 4)) && k < 6 {
				t.Errorf("read alike %v, filter %d: %+v", readAlike, k, x)
			}
		}
	}
}

// TestToldApart has twins that a later layer tells apart: the one that reads them,
// or the one that adds to them.
func TestToldApart(t *testing.T) {
	for _, adds := range []bool{false, true} {
		a := network(t)
		layer, next := "in1", "in2.w"
		if adds {
			layer, next = "stem", "in1.w"
		}
		w, bias := a.weights(layer+".w"), a.weights(layer+".b")
		size := len(w) / len(bias)
		for _, k := range []int{3, 7} {
			copy(w[k*size:(k+1)*size], w[:size]) // twins of 0
			bias[k] = bias[0]
		}
		a.set(layer+".w", w)
		a.set(layer+".b", bias)
		b := a.clone()
		p := rand.New(rand.NewPCG(8, 8)).Perm(len(bias))
		b.reorder(layer+".w", 0, p)
		b.reorder(layer+".b", 0, p)
		b.reorder(next, 1, p)
		if adds {
			for _, name := range []string{"in2.w", "in2.b"} {
				b.reorder(name, 0, p)
			}
			b.reorder("left.w", 1, p)
			b.reorder("right.w", 1, p)
		}
		d := compared(t, a, b, Options{})
		x := d.Totals
		if f := node(d, "n_"+layer).Filters; !slices.Equal(f.KeptIndices, p) || x.Filters.Unclear+x.Filters.Gone+x.Filters.Changed > 0 || x.TensorsDiffer > 0 {
			t.Errorf("adds %v: %v, want %v; %+v", adds, f.KeptIndices, p, x)
		}
	}
}

// TestStrangers compares layers that have nothing to do with each other.
func TestStrangers(t *testing.T) {
	a := chain(t, 13, 32, 32)
	b := a.clone()
	b.random("other", 77, 32, 32, 3, 3)
	_, n := b.at("n_c1")
	n.Input[1] = "other"
	d := compared(t, a, b, Options{})
	expect(t, d, "n_c1: changed weight")
	if f := node(d, "n_c1").Filters; f.Gone != 32 || f.New != 32 || f.Changed > 0 {
		t.Errorf("%+v", f.FilterCounts)
	}
	// Nothing of it is said to be equal.
	for _, w := range node(d, "n_c1").Tensors {
		if w.Agreement != Incomplete || w.Values != nil || w.Note == "" {
			t.Errorf("%+v", w)
		}
	}
	// What comes after is still compared, by index, and says so.
	if f := node(d, "n_y").Filters; f.Kept != 5 || f.Channels.Gone > 0 {
		t.Errorf("%+v", f)
	}
}

// TestIgnored permutes the filters of one layer and forgets what reads them.
func TestIgnored(t *testing.T) {
	a := chain(t, 13, 8, 6)
	b := a.clone()
	p := []int{1, 0, 2, 3, 4, 5, 6, 7}
	b.reorder("c0.w", 0, p)
	b.reorder("c0.b", 0, p)
	d := compared(t, a, b, Options{})
	expect(t, d, "n_c0: changed filter_order")
	if f := node(d, "n_c1").Filters; !f.Channels.Ignored || f.Kept != 6 {
		t.Errorf("%+v", f)
	}
}

// TestColumns finds filters that are stored in columns, in one model or in both,
// in more than one strip.
func TestColumns(t *testing.T) {
	const in, out = 2048, 1100 // more than one strip
	build := func() *bench {
		m := sketch(t, 13).input("x", -1, in).random("w", 1, out, in).random("b", 2, out)
		return m.node("Gemm", "x w b", "y", attrI("transB", 1)).output("y", -1, out)
	}
	a := build()
	b := a.clone()
	p := rand.New(rand.NewPCG(3, 3)).Perm(out)
	for k := range 20 {
		i := k * 50
		p[i], p[i+1] = p[i+1], p[i]
	}
	slices.Sort(p[40:]) // a random order would have strips read again and again
	b.reorder("w", 0, p)
	b.reorder("b", 0, p)
	turnA, turnB := a.clone(), b.clone()
	matMul(turnA)
	matMul(turnB)
	for i, pair := range [][2]*bench{{a, b}, {a, turnB}, {turnA, b}, {turnA, turnB}} {
		d := compared(t, pair[0], pair[1], Options{})
		f := d.Nodes[0].Filters
		if !slices.Equal(f.KeptIndices, p) || f.Gone+f.Changed+f.Unclear > 0 || d.Nodes[0].Tensors[0].Agreement != Equal {
			t.Errorf("pair %d: %+v %s", i, f.FilterCounts, d.Nodes[0].Tensors[0].Agreement)
		}
	}
}

// TestAssignment compares the assignment by sketches with that by all weights, on
// filters that were permuted and changed.
func TestAssignment(t *testing.T) {
	for _, noise := range []float64{0.1, 0.5, 1} {
		const n, d = 300, 256 * 9
		a := sketch(t, 13).input("x", -1, 256, 4, 4).random("w", 1, n, 256, 3, 3).node("Conv", "x w", "y").output("y", -1, n, 2, 2)
		b := a.clone()
		p := rand.New(rand.NewPCG(5, 5)).Perm(n)
		b.reorder("w", 0, p)
		v := b.weights("w")
		tune(v, noise, rand.New(rand.NewPCG(6, 6)))
		b.set("w", v)
		f := compared(t, a, b, Options{}).Nodes[0].Filters
		if !slices.Equal(f.KeptIndices, p) || f.Changed != n || f.Unclear > 0 {
			t.Errorf("noise %v: %+v", noise, f.FilterCounts)
		}
		for _, x := range f.Filters {
			if want := 1 / math.Sqrt(1+noise*noise); math.Abs(*x.Similarity-want) > 0.05 {
				t.Errorf("noise %v: similarity %v, want about %v", noise, *x.Similarity, want)
				break
			}
		}
	}
}

// Filters of which most weights became zero, the largest first, live on where they
// were, however small their cosine.
func TestDiluted(t *testing.T) {
	a := loaded(t, vggFile)
	b := a.clone()
	conv := b.ops("Conv")[4]
	name := conv.Input[1]
	w, dims := slices.Clone(b.weights(name)), b.init(name).Dims
	per := len(w) / int(dims[0])
	for f := range int(dims[0]) {
		row := w[f*per : (f+1)*per]
		order := make([]int, per)
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(i, j int) int { return cmp.Compare(math.Abs(float64(row[j])), math.Abs(float64(row[i]))) })
		for _, i := range order[:per*9/10] {
			row[i] = 0
		}
	}
	clear(w[:per])
	b.set(name, w, dims...)
	for _, opt := range []Options{{}, {RTol: 1e-3}} {
		d := compared(t, a, b, opt)
		f := node(d, conv.GetName()).Filters
		if n := int(dims[0]); f.FilterCounts != (FilterCounts{Changed: n}) || len(f.KeptIndices) != n || !f.InOrder || f.Filters[0].Similarity != nil {
			t.Errorf("%+v: %+v", opt, f.FilterCounts)
		}
		if c := *f.Filters[1].Similarity; c > 0.5 {
			t.Errorf("cosine %v: the test shows nothing", c)
		}
	}
}

// The rows of a classifier are labels: one that was trained anew is changed, and
// neither gone nor new, while labels that changed places are found.
func TestAnswers(t *testing.T) {
	a := loaded(t, vggFile)
	b := a.clone()
	const name = "classifier.weight"
	w, dims := slices.Clone(b.weights(name)), b.init(name).Dims
	per := len(w) / int(dims[0])
	r := rand.New(rand.NewPCG(1, 1))
	for i := range w[2*per : 5*per] {
		w[2*per+i] = r.Float32() - 0.5
	}
	b.set(name, w, dims...)
	n := int(dims[0])
	if f := node(compared(t, a, b, Options{}), "/classifier/Gemm").Filters; f.FilterCounts != (FilterCounts{Kept: n - 3, Changed: 3}) || !f.InOrder {
		t.Errorf("trained anew: %+v", f.FilterCounts)
	}
	b = a.clone()
	b.reorder(name, 0, append([]int{1, 0}, countUp(2, n)...))
	b.reorder("classifier.bias", 0, append([]int{1, 0}, countUp(2, n)...))
	if f := node(compared(t, a, b, Options{}), "/classifier/Gemm").Filters; f.Moved == 0 || f.Changed+f.Gone+f.New > 0 || f.InOrder {
		t.Errorf("exchanged: %+v", f.FilterCounts)
	}
}

func countUp(from, to int) (list []int) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}
