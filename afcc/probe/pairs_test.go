package probe

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

const (
	vggFixture    = "../../fixtures/vgg16-glyphs20.onnx"
	foldedFixture = "../../fixtures/efficientnet-b0-glyphs20.onnx"
	bnFixture     = "../../fixtures/efficientnet-b0-bn-glyphs20.onnx"
)

// An edit is a copy of a model with its float weights inline, to be changed.
type edit struct {
	t testing.TB
	*onnxpb.ModelProto
}

func edited(t testing.TB, m *inspect.Model) *edit {
	t.Helper()
	e := &edit{t, proto.Clone(m.Handle.Model).(*onnxpb.ModelProto)}
	for i, p := range m.Handle.Model.Graph.Initializer {
		to := e.Graph.Initializer[i]
		if p.GetDataType() != int32(onnxfile.Float) {
			if len(p.FilterlensPayload) > 0 {
				v, err := m.Handle.Tensor(p).Int64s(1 << 20)
				if err != nil {
					t.Fatal(err)
				}
				to.FilterlensPayload, to.Int64Data = nil, v
			}
			continue
		}
		v, err := m.Handle.Tensor(p).Float32s(1 << 26)
		if err != nil {
			t.Fatal(err)
		}
		to.FilterlensPayload = nil
		setWeights(to, v, p.Dims...)
	}
	return e
}

func setWeights(p *onnxpb.TensorProto, v []float32, dims ...int64) {
	p.Dims, p.FloatData, p.RawData = dims, nil, make([]byte, 0, 4*len(v))
	for _, x := range v {
		p.RawData = binary.LittleEndian.AppendUint32(p.RawData, math.Float32bits(x))
	}
}

func (e *edit) weights(name string) (*onnxpb.TensorProto, []float32) {
	e.t.Helper()
	for _, p := range e.Graph.Initializer {
		if p.GetName() == name {
			v := make([]float32, len(p.RawData)/4)
			for i := range v {
				v[i] = math.Float32frombits(binary.LittleEndian.Uint32(p.RawData[4*i:]))
			}
			return p, v
		}
	}
	e.t.Fatalf("no initializer %q", name)
	return nil, nil
}

// node returns the node that makes a tensor, or that has the name.
func (e *edit) node(name string) *onnxpb.NodeProto {
	e.t.Helper()
	for _, n := range e.Graph.Node {
		if n.GetName() == name || slices.Contains(n.Output, name) {
			return n
		}
	}
	e.t.Fatalf("no node %q", name)
	return nil
}

// rows keeps the given filters of layers, in this order.
func (e *edit) rows(keep []int, nodes ...*onnxpb.NodeProto) {
	for _, n := range nodes {
		for _, name := range n.Input[1:] {
			p, v := e.weights(name)
			size := len(v) / int(p.Dims[0])
			var out []float32
			for _, k := range keep {
				out = append(out, v[k*size:(k+1)*size]...)
			}
			setWeights(p, out, append([]int64{int64(len(keep))}, p.Dims[1:]...)...)
		}
	}
}

// columns keeps the given ones of so many channels that layers read, in this order.
func (e *edit) columns(keep []int, channels int, nodes ...*onnxpb.NodeProto) {
	for _, n := range nodes {
		p, v := e.weights(n.Input[1])
		cols := len(v) / int(p.Dims[0])
		size := cols / channels
		var out []float32
		for r := range int(p.Dims[0]) {
			for _, k := range keep {
				out = append(out, v[r*cols+k*size:r*cols+(k+1)*size]...)
			}
		}
		dims := slices.Clone(p.Dims)
		dims[1] = dims[1] / int64(channels) * int64(len(keep))
		setWeights(p, out, dims...)
	}
}

// rename gives every node and tensor another name.
func (e *edit) rename() {
	seen := map[string]string{}
	name := func(s string) string {
		if s == "" {
			return ""
		}
		if seen[s] == "" {
			seen[s] = fmt.Sprint("t", (len(seen)*7919)%10007)
		}
		return seen[s]
	}
	for _, n := range e.Graph.Node {
		n.Name = proto.String(name(n.GetName() + "()"))
		for _, list := range [][]string{n.Input, n.Output} {
			for i, s := range list {
				list[i] = name(s)
			}
		}
	}
	for _, p := range e.Graph.Initializer {
		p.Name = proto.String(name(p.GetName()))
	}
	for _, list := range [][]*onnxpb.ValueInfoProto{e.Graph.Input, e.Graph.Output, e.Graph.ValueInfo} {
		for _, v := range list {
			v.Name = proto.String(name(v.GetName()))
		}
	}
}

// open writes the model to a file and opens it.
func (e *edit) open() *inspect.Model {
	e.t.Helper()
	e.Graph.ValueInfo = nil
	b, err := proto.Marshal(e.ModelProto)
	if err != nil {
		e.t.Fatal(err)
	}
	path := filepath.Join(e.t.TempDir(), "edited.onnx")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		e.t.Fatal(err)
	}
	f, err := onnxfile.Open(path)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { f.Close() })
	m, err := inspect.New(e.t.Context(), f, inspect.Options{})
	if err != nil {
		e.t.Fatal(err)
	}
	return m
}

func fixture(t testing.TB, path string) *inspect.Model {
	t.Helper()
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// paired compares two models and pairs the taps that words choose.
func paired(t testing.TB, a, b *inspect.Model, words ...string) (sa, sb *Survey, pairs []Pair) {
	t.Helper()
	d, err := delta.Compare(t.Context(), a, b, delta.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sa, sb = mustSurvey(t, a), mustSurvey(t, b)
	ta, err := sa.Choose(words)
	if err != nil {
		t.Fatal(err)
	}
	tb, err := sb.Choose(words)
	if err != nil {
		t.Fatal(err)
	}
	return sa, sb, PairTaps(d, a, b, ta, tb)
}

// pairedInOrder requires that each tap of a has the one of b in the same place, and
// that filters stay but in the taps that moved names by their tensors in a.
func pairedInOrder(t *testing.T, a, b *inspect.Model, moved map[string][]int) {
	t.Helper()
	sa, sb, pairs := paired(t, a, b)
	if len(pairs) != len(sa.Taps) || len(sa.Taps) != len(sb.Taps) {
		t.Fatalf("%d pairs of %d and %d taps", len(pairs), len(sa.Taps), len(sb.Taps))
	}
	for i, p := range pairs {
		if p.A != sa.Taps[i] || p.B != sb.Taps[i] {
			t.Errorf("%s is paired with %s", p.A.Tensor, p.B.Tensor)
		}
		if !slices.Equal(p.Filters, moved[p.A.Tensor]) || p.Assumed {
			t.Errorf("%s: filters at %v, want %v; assumed: %v", p.A.Tensor, p.Filters, moved[p.A.Tensor], p.Assumed)
		}
	}
}

func TestPairsOfEqualModels(t *testing.T) {
	for _, path := range []string{vggFixture, foldedFixture, bnFixture} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			a := fixture(t, path)
			pairedInOrder(t, a, fixture(t, path), nil)
			e := edited(t, a)
			e.rename()
			pairedInOrder(t, a, e.open(), nil)
			e = edited(t, a)
			e.OpsetImport[0].Version = proto.Int64(e.OpsetImport[0].GetVersion() + 1)
			pairedInOrder(t, a, e.open(), nil)
			// Every tensor on the way.
			sa, _, pairs := paired(t, a, a, TapsAll)
			if all := must(sa.Choose([]string{TapsAll})); len(pairs) < len(sa.Taps)+10 {
				t.Errorf("%d pairs of %d tensors", len(pairs), len(all))
			}
			for _, p := range pairs {
				if p.A.Tensor != p.B.Tensor || p.Filters != nil {
					t.Errorf("%s is paired with %s, filters %v", p.A.Tensor, p.B.Tensor, p.Filters)
				}
			}
		})
	}
	// The same model with BatchNormalization folded and kept.
	pairedInOrder(t, fixture(t, foldedFixture), fixture(t, bnFixture), nil)
	pairedInOrder(t, fixture(t, bnFixture), fixture(t, foldedFixture), nil)
}

// inverseOf says where each of n filters went, of which keep remain in this order.
func inverseOf(keep []int, n int) []int {
	to := slices.Repeat([]int{-1}, n)
	for i, k := range keep {
		to[k] = i
	}
	return to
}

// stackOf lists the convolutions and the hidden layers of a chain.
func (e *edit) stackOf() (list []*onnxpb.NodeProto) {
	for _, n := range e.Graph.Node {
		if n.GetOpType() == "Conv" || n.GetOpType() == "Gemm" {
			list = append(list, n)
		}
	}
	return list
}

func TestPairsPermutedAndPruned(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a := fixture(t, vggFixture)
	taps := mustSurvey(t, a).Taps
	for name, cut := range map[string]func(n int) int{
		"permuted": func(n int) int { return n },
		"pruned":   func(n int) int { return n - n/4 },
	} {
		for _, ordered := range []bool{false, true} {
			if ordered && name == "permuted" {
				continue
			}
			e := edited(t, a)
			moved := map[string][]int{}
			layers := e.stackOf()
			for i, n := range layers[:len(layers)-1] {
				if i%2 == 1 && name == "permuted" {
					continue
				}
				count := taps[i].Filters
				keep := r.Perm(count)[:cut(count)]
				if ordered {
					slices.Sort(keep)
				}
				e.rows(keep, n)
				e.columns(keep, count, layers[i+1])
				moved[taps[i].Tensor] = inverseOf(keep, count)
			}
			e.rename()
			t.Run(fmt.Sprint(name, ordered), func(t *testing.T) { pairedInOrder(t, a, e.open(), moved) })
		}
	}
}

// TestPairsOfSums permutes what a residual network adds up, and what its depthwise
// convolutions and gates hand on.
func TestPairsOfSums(t *testing.T) {
	build := func() *inspect.Model {
		n := newNet(-1, 3, 8)
		n.conv("stem", 3, 8, 3, 1).norm(8).silu()
		stem := n.t
		n.conv("expand", 8, 12, 1, 1).norm(12).silu().conv("each", 12, 12, 3, 12).silu()
		deep := n.t
		n.op("GlobalAveragePool").conv("squeeze", 12, 4, 1, 1).op("Relu").conv("excite", 4, 12, 1, 1).op("Sigmoid")
		n.t = n.builder.node("Mul", []string{deep, n.t})
		n.conv("project", 12, 8, 1, 1).add(stem).op("Relu")
		n.conv("last", 8, 6, 3, 1).op("Relu").head(6)
		return n.model(t, -1, testK)
	}
	a := build()
	s := mustSurvey(t, a)
	stream, inner := []int{3, 1, 7, 0, 2, 6, 4, 5}, []int{11, 0, 5, 1, 7, 3, 2, 4, 10, 6, 9, 8}
	e := edited(t, a)
	norms := []*onnxpb.NodeProto{}
	for _, n := range e.Graph.Node {
		if n.GetOpType() == "BatchNormalization" {
			norms = append(norms, n)
		}
	}
	e.rows(stream, e.node("stem"), norms[0], e.node("project"))
	e.columns(stream, 8, e.node("expand"), e.node("last"))
	e.rows(inner, e.node("expand"), norms[1], e.node("each"), e.node("excite"))
	e.columns(inner, 12, e.node("squeeze"), e.node("project"))
	e.rename()
	moved := map[string][]int{}
	for layer, keep := range map[string][]int{"stem": stream, "expand": inner, "each": inner, "project": stream} {
		moved[s.LayerTap(layer).Tensor] = inverseOf(keep, len(keep))
	}
	pairedInOrder(t, a, e.open(), moved)
}

// TestPairsOfConcatenations prunes and permutes branches of a network that
// concatenates, as DenseNet and Inception do.
func TestPairsOfConcatenations(t *testing.T) {
	n := newNet(-1, 3, 8)
	n.conv("stem", 3, 6, 3, 1).op("Relu")
	stem := n.t
	n.conv("left", 6, 5, 3, 1).op("Relu")
	left := n.t
	n.from(stem).conv("right", 6, 7, 1, 1).op("Relu")
	n.concat(1, stem, left, n.t)
	dense := n.t
	n.conv("grow", 18, 4, 3, 1).op("Relu")
	n.concat(1, dense, n.t)
	n.norm(22).op("Relu").conv("last", 22, 6, 1, 1).op("Relu").head(6)
	a := n.model(t, -1, testK)
	s := mustSurvey(t, a)

	e := edited(t, a)
	keepLeft, keepRight := []int{4, 0, 2, 1, 3}, []int{0, 2, 3, 5, 6}
	e.rows(keepLeft, e.node("left"))
	e.rows(keepRight, e.node("right"))
	keep := []int{0, 1, 2, 3, 4, 5}
	for _, k := range keepLeft {
		keep = append(keep, 6+k)
	}
	for _, k := range keepRight {
		keep = append(keep, 11+k)
	}
	e.columns(keep, 18, e.node("grow"))
	keep = append(keep, 18, 19, 20, 21)
	e.columns(keep, 22, e.node("last"))
	for _, n := range e.Graph.Node {
		if n.GetOpType() == "BatchNormalization" {
			e.rows(keep, n)
		}
	}
	b := e.open()
	_, _, pairs := paired(t, a, b)
	if len(pairs) != len(s.Taps) {
		t.Fatalf("%d pairs of %d taps", len(pairs), len(s.Taps))
	}
	widest := 0
	for _, p := range pairs {
		var want []int
		switch p.A.Filters {
		case 22:
			want = inverseOf(keep, 22)
		case 18:
			want = inverseOf(keep[:16], 18)
		case 5:
			want = inverseOf(keepLeft, 5)
		case 7:
			want = inverseOf(keepRight, 7)
		}
		widest = max(widest, p.A.Filters)
		if !slices.Equal(p.Filters, want) || p.Assumed {
			t.Errorf("%s: %v, want %v (assumed: %v)", p.A.Tensor, p.Filters, want, p.Assumed)
		}
	}
	if widest < 18 {
		t.Errorf("no tap is a concatenation: %d filters at most", widest)
	}
}

// TestPairsByLayer: taps whose last operators have no counterpart go with their
// layers; those of layers that only one model has are left out.
func TestPairsByLayer(t *testing.T) {
	a := small(t, testK)
	e := edited(t, a)
	for i, n := range e.Graph.Node {
		if n.GetOpType() == "Relu" && i < 3 {
			n.OpType, n.Attribute = proto.String("HardSigmoid"), nil
		}
	}
	pairedInOrder(t, a, e.open(), nil)

	n := newNet(-1, 3, 8)
	n.conv("conv1", 3, 4, 3, 1).op("Relu").pool()
	n.conv("conv2", 4, 6, 3, 1).op("Relu").conv("conv3", 6, 6, 3, 1).op("Tanh")
	n.op("Flatten").gemm("hidden", 6*4*4, 7).op("Relu").gemm("classifier", 7, testK)
	deeper := n.model(t, -1, testK)
	for _, swap := range []bool{false, true} {
		x, y := a, deeper
		if swap {
			x, y = y, x
		}
		_, _, pairs := paired(t, x, y)
		for _, p := range pairs {
			if p.A.Name() != p.B.Name() {
				t.Errorf("%s is paired with %s", p.A.Name(), p.B.Name())
			}
		}
		if len(pairs) != 3 {
			t.Errorf("%d pairs, want 3", len(pairs))
		}
	}
}

// TestPairsOfStrangers: a comparison of other models, or none of the taps, gives no
// pair and no harm.
func TestPairsOfStrangers(t *testing.T) {
	a, b := small(t, testK), fixture(t, vggFixture)
	d, err := delta.Compare(t.Context(), a, a, delta.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sa, sb := mustSurvey(t, a), mustSurvey(t, b)
	if p := PairTaps(d, b, b, sb.Taps, sb.Taps); len(p) != 0 {
		t.Errorf("%d pairs by a comparison of other models", len(p))
	}
	if p := PairTaps(d, a, a, nil, sa.Taps); len(p) != 0 {
		t.Errorf("%d pairs of no taps", len(p))
	}
	if p := PairTaps(&delta.Delta{}, a, a, sa.Taps, sa.Taps); len(p) != 0 {
		t.Errorf("%d pairs by nothing", len(p))
	}
	// Models that have nothing to do with each other.
	_, _, pairs := paired(t, a, b)
	for _, p := range pairs {
		for i, q := range p.Filters {
			if q >= p.B.Filters || i >= p.A.Filters {
				t.Errorf("%s: filter %d is at %d of %d", p.A.Name(), i, q, p.B.Filters)
			}
		}
		if p.Filters == nil && p.A.Filters > p.B.Filters {
			t.Errorf("%s: %d filters stay where there are %d", p.A.Name(), p.A.Filters, p.B.Filters)
		}
	}
	// Without the search for filters their places are assumed.
	if d, err = delta.Compare(t.Context(), a, a, delta.Options{SkipFilters: true}); err != nil {
		t.Fatal(err)
	}
	for _, p := range PairTaps(d, a, a, sa.Taps, sa.Taps) {
		if p.Filters != nil || !p.Assumed {
			t.Errorf("%s: %v, assumed: %v", p.A.Name(), p.Filters, p.Assumed)
		}
	}
}
