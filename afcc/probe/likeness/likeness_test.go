package likeness

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/delta"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

const (
	vggFixture    = "../../../fixtures/vgg16-glyphs20.onnx"
	foldedFixture = "../../../fixtures/efficientnet-b0-glyphs20.onnx"
	bnFixture     = "../../../fixtures/efficientnet-b0-bn-glyphs20.onnx"
	glyphs        = "../../../fixtures/glyphs20"
)

func runtime(t testing.TB) engine.Engine {
	t.Helper()
	if !ort.Available {
		t.Skip("ONNX Runtime needs cgo")
	}
	eng, err := ort.Open(context.Background(), ort.Options{Provider: os.Getenv("FILTERLENS_TEST_EP"), Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

func open(t testing.TB, path string) *inspect.Model {
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

func samples(t testing.TB) (*dataset.Set, []int) {
	t.Helper()
	set, err := dataset.Open(glyphs, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	var index []int
	for i := range set.Len() {
		if set.Part(i) == dataset.PartTest {
			index = append(index, i)
		}
	}
	return set, index
}

// edit changes the float weights of m, by the nodes that read them, and opens the
// result.
func edit(t testing.TB, m *inspect.Model, f func(node *onnxpb.NodeProto, weights func(input int) (v []float32, set func([]float32, ...int64)))) *inspect.Model {
	t.Helper()
	model := inline(t, m)
	byName := map[string]*onnxpb.TensorProto{}
	for _, p := range model.Graph.Initializer {
		byName[p.GetName()] = p
	}
	for _, n := range model.Graph.Node {
		f(n, func(input int) ([]float32, func([]float32, ...int64)) {
			p := byName[n.Input[input]]
			v := make([]float32, len(p.RawData)/4)
			for i := range v {
				v[i] = math.Float32frombits(binary.LittleEndian.Uint32(p.RawData[4*i:]))
			}
			return v, func(v []float32, dims ...int64) {
				p.RawData = nil
				for _, x := range v {
					p.RawData = binary.LittleEndian.AppendUint32(p.RawData, math.Float32bits(x))
				}
				if dims != nil {
					p.Dims = dims
				}
			}
		})
	}
	return written(t, model)
}

// inline returns the skeleton of m with all weights in it.
func inline(t testing.TB, m *inspect.Model) *onnxpb.ModelProto {
	t.Helper()
	model := proto.Clone(m.Handle.Model).(*onnxpb.ModelProto)
	for i, p := range m.Handle.Model.Graph.Initializer {
		to := model.Graph.Initializer[i]
		if len(p.FilterlensPayload) == 0 {
			continue
		}
		c, err := m.Handle.Tensor(p).Raw(nil)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if _, err := c.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		to.FilterlensPayload, to.RawData = nil, []byte(b.String())
	}
	return model
}

// written writes a model to a file and opens it.
func written(t testing.TB, model *onnxpb.ModelProto) *inspect.Model {
	t.Helper()
	model.Graph.ValueInfo = nil
	b, err := proto.Marshal(model)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "edited.onnx")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

// A trial is two models with their taps.
type trial struct {
	a, b         *inspect.Model
	tapsA, tapsB []*probe.Tap
	pairs        []probe.Pair
}

func newTrial(t testing.TB, a, b *inspect.Model) *trial {
	t.Helper()
	d, err := delta.Compare(t.Context(), a, b, delta.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x := &trial{a: a, b: b}
	for _, s := range []struct {
		m    *inspect.Model
		taps *[]*probe.Tap
	}{{a, &x.tapsA}, {b, &x.tapsB}} {
		survey, err := probe.NewSurvey(s.m)
		if err != nil {
			t.Fatal(err)
		}
		*s.taps = survey.Taps
	}
	x.pairs = probe.PairTaps(d, a, b, x.tapsA, x.tapsB)
	return x
}

func options(t testing.TB, n int) Options {
	t.Helper()
	pre, err := dataset.Preset("signed")
	if err != nil {
		t.Fatal(err)
	}
	return Options{PreprocessA: pre, PreprocessB: pre, Samples: n, Seed: 5}
}

func (x *trial) measure(t testing.TB, eng engine.Engine, set *dataset.Set, index []int, opt Options) *Likeness {
	t.Helper()
	l, err := Measure(t.Context(), eng, x.a, x.b, x.tapsA, x.tapsB, x.pairs, set, index, opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(l); err != nil {
		t.Fatal(err)
	}
	return l
}

func isLayer(n *onnxpb.NodeProto) bool { return n.GetOpType() == "Conv" || n.GetOpType() == "Gemm" }

// TestOneLayerScaled: everything before the layer that was changed agrees exactly, and
// activations part at it.
func TestOneLayerScaled(t *testing.T) {
	set, index := samples(t)
	a := open(t, vggFixture)
	for _, at := range []int{0, 6, 12} {
		layer := -1
		b := edit(t, a, func(n *onnxpb.NodeProto, weights func(int) ([]float32, func([]float32, ...int64))) {
			if !isLayer(n) {
				return
			}
			if layer++; layer != at {
				return
			}
			for _, input := range []int{1, 2} {
				v, set := weights(input)
				for i := range v {
					v[i] *= 1.1
				}
				set(v)
			}
		})
		x := newTrial(t, a, b)
		bothEngines(t, func(t *testing.T, eng engine.Engine) {
			l := x.measure(t, eng, set, index, options(t, 24))
			if l.Parting == nil || *l.Parting != at || len(l.Layers) != 13 || l.Samples != 24 {
				t.Fatalf("parting %v of %d layers, %d samples", l.Parting, len(l.Layers), l.Samples)
			}
			for i, y := range l.Layers {
				switch {
				case y.A != i || y.B != i || y.Filters != x.tapsA[i].Filters:
					t.Errorf("layer %d: %+v", i, y)
				case i < at:
					if *y.RelL2 != 0 || *y.MaxRel != 0 || y.Parts || *y.Cosine < 1-1e-12 {
						t.Errorf("layer %d before %d: %v, %v, %v", i, at, *y.RelL2, *y.MaxRel, *y.Cosine)
					}
				case i == at:
					// A linear layer with a ReLU: ten percent more.
					near(t, "relative L2", y.RelL2, 0.1, 1e-4)
					near(t, "largest", y.MaxRel, 0.1, 1e-4)
					near(t, "cosine", y.Cosine, 1, 1e-6)
					near(t, "CKA", y.CKA, 1, 1e-6)
				default:
					if !y.Parts {
						t.Errorf("layer %d behind %d does not part: %v", i, at, *y.RelL2)
					}
				}
				if y.CKA == nil || *y.CKA < 0.5 || y.Debiased == nil {
					t.Errorf("layer %d: CKA %v, %v", i, show(y.CKA), show(y.Debiased))
				}
			}
		})
	}
}

// TestPermuted: filters in another order are the same when put into place, and
// similarity does not see the order.
func TestPermuted(t *testing.T) {
	set, index := samples(t)
	a := open(t, vggFixture)
	r := rand.New(rand.NewPCG(8, 8))
	var before []int
	layer, gone := -1, 0
	permuted := func(cut int) *inspect.Model {
		before, layer = nil, -1
		return edit(t, a, func(n *onnxpb.NodeProto, weights func(int) ([]float32, func([]float32, ...int64))) {
			if !isLayer(n) {
				return
			}
			layer++
			v, set := weights(1)
			bias, setBias := weights(2)
			rows := len(bias)
			keep := make([]int, rows)
			for i := range keep {
				keep[i] = i
			}
			if layer < 13 {
				keep = r.Perm(rows)[:rows-cut]
				gone += cut
			}
			cols := len(v) / rows
			size, channels := cols, 1 // what stands for a channel
			if before != nil {
				channels = len(before) + cut
				size = cols / channels
			} else {
				before = []int{0}
			}
			var out, outBias []float32
			for _, i := range keep {
				for _, c := range before {
					out = append(out, v[i*cols+c*size:i*cols+(c+1)*size]...)
				}
				outBias = append(outBias, bias[i])
			}
			setBias(outBias, int64(len(keep)))
			if n.GetOpType() == "Conv" {
				set(out, int64(len(keep)), int64(len(out)/len(keep)/9), 3, 3)
			} else {
				set(out, int64(len(keep)), int64(len(out)/len(keep)))
			}
			before = keep
		})
	}
	x := newTrial(t, a, permuted(0))
	bothEngines(t, func(t *testing.T, eng engine.Engine) {
		l := x.measure(t, eng, set, index, options(t, 20))
		if l.Parting != nil || len(l.Layers) != 13 {
			t.Fatalf("parting %v of %d layers", *l.Parting, len(l.Layers))
		}
		for i, y := range l.Layers {
			if y.RelL2 == nil || *y.RelL2 > 1e-4 || y.Filters != x.tapsA[i].Filters {
				t.Errorf("layer %d: %v apart", i, show(y.RelL2))
			}
			near(t, fmt.Sprintf("layer %d, CKA", i), y.CKA, 1, 1e-6)
			near(t, fmt.Sprintf("layer %d, debiased", i), y.Debiased, 1, 1e-5)
			if slices.Equal(x.pairs[i].Filters, nil) {
				t.Errorf("layer %d: no filter moved", i)
			}
		}
		// Without the places they are far apart.
		y := *x
		y.pairs = slices.Clone(x.pairs)
		for i := range y.pairs {
			y.pairs[i].Filters = nil
		}
		if l := y.measure(t, eng, set, index, options(t, 20)); l.Parting == nil || *l.Parting != 0 || *l.Layers[0].RelL2 < 0.1 {
			t.Errorf("parting %v without places", l.Parting)
		}
	})
	// With filters gone the first layer is still the same, in those that live on.
	gone = 0
	x = newTrial(t, a, permuted(1))
	l := x.measure(t, runtime(t), set, index, options(t, 20))
	if l.Parting == nil || *l.Parting == 0 || l.Layers[0].Filters != x.tapsA[0].Filters-1 || *l.Layers[0].RelL2 > 1e-5 {
		t.Errorf("parting %v, first layer %+v", l.Parting, l.Layers[0])
	}
}

// TestRewritten: the same model by another hand parts nowhere.
func TestRewritten(t *testing.T) {
	set, index := samples(t)
	x := newTrial(t, open(t, foldedFixture), open(t, bnFixture))
	l := x.measure(t, runtime(t), set, index, options(t, 16))
	if len(l.Layers) != len(x.tapsA) {
		t.Fatalf("%d layers of %d taps", len(l.Layers), len(x.tapsA))
	}
	for i, y := range l.Layers {
		if y.Parts || y.Note != "" {
			t.Errorf("%s: %v apart, %q", x.tapsA[i].Name(), show(y.RelL2), y.Note)
		}
	}
}

// TestFloat16 stores all weights with 11 significant bits: nothing parts at one
// percent, something does at a millionth.
func TestFloat16(t *testing.T) {
	set, index := samples(t)
	a := open(t, vggFixture)
	b := edit(t, a, func(n *onnxpb.NodeProto, weights func(int) ([]float32, func([]float32, ...int64))) {
		if isLayer(n) {
			for _, input := range []int{1, 2} {
				v, set := weights(input)
				for i := range v {
					v[i] = math.Float32frombits((math.Float32bits(v[i]) + 0x1000) &^ 0x1fff)
				}
				set(v)
			}
		}
	})
	x := newTrial(t, a, b)
	eng, opt := runtime(t), options(t, 16)
	opt.Tolerance = 1e-2
	if l := x.measure(t, eng, set, index, opt); l.Parting != nil || l.Tolerance != 1e-2 {
		t.Errorf("parting at %d, %v apart", *l.Parting, show(l.Layers[*l.Parting].RelL2))
	}
	opt.Tolerance = 1e-6
	if l := x.measure(t, eng, set, index, opt); l.Parting == nil || *l.Parting != 0 {
		t.Errorf("parting %v", l.Parting)
	}
}

// TestMemory: in many passes the results are the same but for rounding, and what is
// planned stays within the limit.
func TestMemory(t *testing.T) {
	set, index := samples(t)
	x := newTrial(t, open(t, vggFixture), open(t, foldedFixture))
	eng, opt := runtime(t), options(t, 24)
	want := x.measure(t, eng, set, index, opt)
	if len(want.Layers) != len(x.pairs) {
		t.Fatalf("%d layers of %d pairs", len(want.Layers), len(x.pairs))
	}
	var taps int64
	for range len(x.tapsA) + len(x.tapsB) {
		taps++
	}
	for _, memory := range []int64{12 << 20, 6 << 20} {
		opt := opt
		opt.Memory = memory
		last, stages := 0, map[string]bool{}
		opt.Progress = func(stage string, done, total int) {
			if done < 0 || done > total {
				t.Errorf("%s: %d of %d", stage, done, total)
			}
			stages[stage] = true
			last = done
		}
		r := run{index: make([]int, 24), opt: opt}
		r.sides[0].taps, r.sides[1].taps = x.tapsA, x.tapsB
		passes, err := r.plan()
		if err != nil {
			t.Fatal(err)
		}
		covered := map[[2]int]int{}
		for i, p := range passes {
			held := taps*kernelBytes(24) + multiplierBytes(24)
			for _, piece := range p.pieces {
				held += 4 * 24 * int64(piece.to-piece.from)
				key := [2]int{piece.side, piece.tap}
				if covered[key] != piece.from {
					t.Errorf("pass %d: tap %v from %d on, %d are there", i, key, piece.from, covered[key])
				}
				covered[key] = piece.to
			}
			if i > 0 && len(p.pieces) == 0 || p.distances != (i == 0) {
				t.Errorf("pass %d: %+v", i, p)
			}
			if held > memory {
				t.Errorf("pass %d holds %d bytes of %d", i, held, memory)
			}
		}
		for s := range r.sides {
			for i, tap := range r.sides[s].taps {
				if covered[[2]int{s, i}] != features(tap) {
					t.Errorf("tap %d of model %d: %d of %d features", i, s, covered[[2]int{s, i}], features(tap))
				}
			}
		}
		if len(passes) < 3 {
			t.Errorf("%d bytes take %d passes", memory, len(passes))
		}
		got := x.measure(t, eng, set, index, opt)
		if last == 0 || len(stages) < len(passes) {
			t.Errorf("stages %v of %d passes", stages, len(passes))
		}
		for i := range want.CKA {
			for j := range want.CKA[i] {
				for k, w := range []*float64{want.CKA[i][j], want.Debiased[i][j]} {
					g := []*float64{got.CKA[i][j], got.Debiased[i][j]}[k]
					if (w == nil) != (g == nil) {
						t.Errorf("%d, %d: %v, want %v", i, j, show(g), show(w))
					} else if w != nil {
						near(t, fmt.Sprintf("%d, %d", i, j), g, *w, 1e-5)
					}
				}
			}
		}
		if got.SHA256 != want.SHA256 || got.Samples != want.Samples {
			t.Errorf("%d samples %s", got.Samples, got.SHA256)
		}
	}
	opt.Memory, opt.Samples = 1<<20, 200
	var many *TooManyError
	if _, err := Measure(t.Context(), eng, x.a, x.b, x.tapsA, x.tapsB, x.pairs, set, index, opt); !errors.As(err, &many) {
		t.Errorf("a megabyte: %v", err)
	}
}

// TestHostile: dead layers, layers of NaN, one sample; nothing is NaN in the result and
// nothing panics.
func TestHostile(t *testing.T) {
	set, index := samples(t)
	a := open(t, vggFixture)
	change := func(at int, f func(v []float32)) *inspect.Model {
		layer := -1
		return edit(t, a, func(n *onnxpb.NodeProto, weights func(int) ([]float32, func([]float32, ...int64))) {
			if isLayer(n) {
				if layer++; layer == at {
					for _, input := range []int{1, 2} {
						v, set := weights(input)
						f(v)
						set(v)
					}
				}
			}
		})
	}
	dead := change(5, func(v []float32) { clear(v) })
	// The first filter becomes NaN.
	void := change(5, func(v []float32) {
		for i := range v[:1] {
			v[i] = float32(math.NaN())
		}
	})
	bothEngines(t, func(t *testing.T, eng engine.Engine) {
		x := newTrial(t, a, dead)
		// The weights tell nothing of where the filters are: they are taken to stay.
		for i := range x.pairs {
			x.pairs[i].Filters = nil
		}
		l := x.measure(t, eng, set, index, options(t, 12))
		if l.Parting == nil || *l.Parting != 5 {
			t.Fatalf("dead layer: parting %v", l.Parting)
		}
		for i, y := range l.Layers {
			if l.B[y.B].Constant != (i >= 5) || l.A[y.A].Constant || (y.CKA == nil) != (i >= 5) || (y.Debiased == nil) != (i >= 5) {
				t.Errorf("dead layer, %d: constant %v, %v and %v", i, l.B[y.B].Constant, show(y.CKA), show(y.Debiased))
			}
		}
		if y := l.Layers[5]; y.RelL2 == nil || *y.RelL2 != 1 || y.Cosine != nil || y.Note != "zero throughout in B" {
			t.Errorf("dead layer: %+v", y)
		}
		z := *x
		z.a, z.b, z.tapsA, z.tapsB = x.b, x.a, x.tapsB, x.tapsA
		z.pairs = slices.Clone(x.pairs)
		for i, p := range x.pairs {
			z.pairs[i] = probe.Pair{A: p.B, B: p.A}
		}
		l = z.measure(t, eng, set, index, options(t, 12))
		if y := l.Layers[5]; y.RelL2 != nil || !y.Parts || y.Note != "zero throughout in A" || *l.Parting != 5 {
			t.Errorf("dead layer in A: %+v", y)
		}

		x = newTrial(t, a, void)
		for i := range x.pairs {
			x.pairs[i].Filters = nil
		}
		l = x.measure(t, eng, set, index, options(t, 12))
		if l.Parting == nil || *l.Parting != 5 {
			t.Fatalf("NaN: parting %v", l.Parting)
		}
		y := l.Layers[5]
		if !l.B[y.B].NotFinite || l.A[y.A].NotFinite || y.RelL2 != nil || y.CKA != nil || y.Note != "activations that are not finite" {
			t.Errorf("NaN: %+v, %+v", y, l.B[y.B])
		}
		// With itself a model of NaN does not part.
		x = newTrial(t, void, void)
		for i := range x.pairs {
			x.pairs[i].Filters = nil
		}
		if l = x.measure(t, eng, set, index, options(t, 12)); l.Parting != nil {
			t.Errorf("NaN and itself part at %d", *l.Parting)
		}

		x = newTrial(t, a, a)
		for n := 1; n < 5; n++ {
			l := x.measure(t, eng, set, index, options(t, n))
			if l.Samples != n || (l.Note == "") != (n >= 4) || l.Parting != nil {
				t.Errorf("%d samples: %d, %q", n, l.Samples, l.Note)
			}
			for i, y := range l.Layers {
				if *y.RelL2 != 0 || (y.CKA != nil) != (n > 1) || (y.Debiased != nil) && n < 4 || n > 1 && l.A[i].Constant || n == 1 && l.A[i].Constant {
					t.Errorf("%d samples, layer %d: %+v, %+v", n, i, y, l.A[i])
				}
			}
		}
	})
}

// TestOtherSizes: two architectures compare by similarity alone where their maps differ.
func TestOtherSizes(t *testing.T) {
	set, index := samples(t)
	x := newTrial(t, open(t, vggFixture), open(t, foldedFixture))
	x.pairs = []probe.Pair{
		{A: x.tapsA[0], B: x.tapsB[0]},
		{A: x.tapsA[3], B: x.tapsB[len(x.tapsB)-1]},
		{A: x.tapsA[1], B: x.tapsB[1], Filters: slices.Repeat([]int{-1}, x.tapsA[1].Filters)},
	}
	l := x.measure(t, runtime(t), set, index, options(t, 12))
	if l.Parting != nil && l.Layers[*l.Parting].Filters == 0 {
		t.Error("parts though nothing is compared")
	}
	for i, y := range l.Layers {
		if y.Filters == 0 && (y.Note == "" || y.RelL2 != nil || y.Parts) {
			t.Errorf("%d: %+v", i, y)
		}
		if y.CKA == nil {
			t.Errorf("%d: no CKA", i)
		}
	}
	x.pairs = []probe.Pair{{A: x.tapsB[0], B: x.tapsB[0]}}
	if _, err := Measure(t.Context(), runtime(t), x.a, x.b, x.tapsA, x.tapsB, x.pairs, set, index, options(t, 4)); err == nil {
		t.Error("a pair of strangers is accepted")
	}
}

// TestPreprocessed: each model gets its samples in its own way.
func TestPreprocessed(t *testing.T) {
	set, index := samples(t)
	a := open(t, vggFixture)
	x := newTrial(t, a, a)
	opt := options(t, 8)
	opt.PreprocessB = dataset.Preprocess{}
	if l := x.measure(t, runtime(t), set, index, opt); l.Parting == nil || *l.Parting != 0 {
		t.Errorf("parting %v though the inputs differ", l.Parting)
	}
}

func TestChoose(t *testing.T) {
	set, index := samples(t)
	k := len(set.Labels())
	for _, n := range []int{1, k - 1, k, 3*k + 2, len(index), len(index) + 1} {
		got := choose(set, index, n, 7)
		if len(got) != min(n, len(index)) || !slices.IsSorted(got) {
			t.Fatalf("%d samples of %d", len(got), n)
		}
		count := make([]int, k)
		for _, i := range got {
			count[set.Label(i)]++
		}
		if n < len(index) && slices.Max(count)-slices.Min(count) > 1 {
			t.Errorf("%d: by label %v", n, count)
		}
		if !slices.Equal(got, choose(set, index, n, 7)) {
			t.Error("the same seed draws others")
		}
		if n == 3*k+2 && slices.Equal(got, choose(set, index, n, 8)) {
			t.Error("another seed draws the same")
		}
	}
}

func TestRefused(t *testing.T) {
	set, index := samples(t)
	a := open(t, vggFixture)
	x, eng := newTrial(t, a, a), runtime(t)
	for name, f := range map[string]func(o *Options){
		"samples":   func(o *Options) { o.Samples = -1 },
		"tolerance": func(o *Options) { o.Tolerance = math.NaN() },
		"negative":  func(o *Options) { o.Tolerance = -1 },
		"memory":    func(o *Options) { o.Memory = -1 },
		"batch":     func(o *Options) { o.Batch = -2 },
	} {
		opt := options(t, 8)
		f(&opt)
		if _, err := Measure(t.Context(), eng, a, a, x.tapsA, x.tapsB, x.pairs, set, index, opt); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Measure(t.Context(), eng, a, a, x.tapsA, x.tapsB, x.pairs, set, nil, options(t, 8)); !errors.Is(err, dataset.ErrEmpty) {
		t.Errorf("no samples: %v", err)
	}
	if _, err := Measure(t.Context(), eng, a, a, nil, x.tapsB, nil, set, index, options(t, 8)); err == nil {
		t.Error("no taps: accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	opt := options(t, 64)
	opt.Batch = 8
	opt.Progress = func(_ string, done, _ int) {
		if done > 8 {
			cancel()
		}
	}
	if _, err := Measure(ctx, eng, a, a, x.tapsA, x.tapsB, x.pairs, set, index, opt); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestFixedBatch compares a model with a copy that takes seven samples at a time and
// mixes their rows on the way, so that this cannot be changed.
func TestFixedBatch(t *testing.T) {
	set, index := samples(t)
	a := open(t, vggFixture)
	const batch = 7
	model := inline(t, a)
	for _, v := range []*onnxpb.ValueInfoProto{model.Graph.Input[0], model.Graph.Output[0]} {
		v.Type.GetTensorType().Shape.Dim[0].Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: batch}
	}
	last := len(model.Graph.Node) - 1
	classifier := model.Graph.Node[last]
	model.Graph.Node = model.Graph.Node[:last]
	for i, rows := range []int64{2 * batch, batch} {
		name := fmt.Sprint("rows", i)
		model.Graph.Initializer = append(model.Graph.Initializer, &onnxpb.TensorProto{Name: proto.String(name + ".shape"),
			DataType: proto.Int32(int32(onnxfile.Int64)), Dims: []int64{2}, Int64Data: []int64{rows, -1}})
		model.Graph.Node = append(model.Graph.Node, &onnxpb.NodeProto{OpType: proto.String("Reshape"), Name: proto.String(name),
			Input: []string{classifier.Input[0], name + ".shape"}, Output: []string{name}})
		classifier.Input[0] = name
	}
	model.Graph.Node = append(model.Graph.Node, classifier)
	x := newTrial(t, a, written(t, model))
	if s, err := probe.NewSurvey(x.b); err != nil || s.Batch != batch || s.Opened {
		t.Fatalf("the batch is not fixed: %+v, %v", s, err)
	}
	eng := runtime(t)
	want := newTrial(t, a, a).measure(t, eng, set, index, options(t, 24))
	for _, swap := range []bool{false, true} {
		y := x
		if swap {
			y = newTrial(t, x.b, x.a)
		}
		got := y.measure(t, eng, set, index, options(t, 24))
		if got.Samples != 24 || got.SHA256 != want.SHA256 || got.Parting != nil || len(got.Layers) != len(want.Layers) {
			t.Fatalf("%d samples, parting %v, %d layers", got.Samples, got.Parting, len(got.Layers))
		}
		for i := range want.CKA {
			for j := range want.CKA[i] {
				near(t, fmt.Sprintf("%d, %d", i, j), got.CKA[i][j], *want.CKA[i][j], 1e-5)
			}
		}
	}
}
