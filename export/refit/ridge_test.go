package refit

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// shapes are the kinds of layers that are fitted. Each is put behind eight channels
// of which two and two are the same.
var shapes = map[string]struct {
	build func(n *net) // adds the node "layer" with the weight "w"
	// twin tells that one of two equal channels can be read for both.
	twin bool
	// out is the number of its filters.
	out int64
}{
	"convolution": {func(n *net) {
		n.node("layer", "Conv", []string{n.t, n.weights("w", 6, 8, 3, 3), n.weights("b", 6)}, attrInts("pads", 1, 1, 1, 1))
	}, true, 6},
	"without bias": {func(n *net) { n.node("layer", "Conv", []string{n.t, n.weights("w", 6, 8, 1, 1)}) }, true, 6},
	"strides, pads and dilations": {func(n *net) {
		n.node("layer", "Conv", []string{n.t, n.weights("w", 6, 8, 3, 2), n.weights("b", 6)}, attrInts("pads", 2, 0, 1, 1), attrInts("strides", 2, 1), attrInts("dilations", 1, 2))
	}, true, 6},
	"automatic pads": {func(n *net) {
		n.node("layer", "Conv", []string{n.t, n.weights("w", 6, 8, 4, 3), n.weights("b", 6)}, attrText("auto_pad", "SAME_UPPER"), attrInts("strides", 2, 2))
	}, true, 6},
	"automatic pads at the beginning": {func(n *net) {
		n.node("layer", "Conv", []string{n.t, n.weights("w", 6, 8, 2, 4), n.weights("b", 6)}, attrText("auto_pad", "SAME_LOWER"))
	}, true, 6},
	"groups": {func(n *net) {
		n.node("layer", "Conv", []string{n.t, n.weights("w", 6, 4, 3, 3), n.weights("b", 6)}, attrInt("group", 2), attrInts("pads", 1, 1, 1, 1))
	}, true, 6},
	"depthwise": {func(n *net) {
		n.node("layer", "Conv", []string{n.t, n.weights("w", 16, 1, 3, 3), n.weights("b", 16)}, attrInt("group", 8))
	}, false, 16},
	"BatchNormalization behind": {func(n *net) {
		n.node("layer", "Conv", []string{n.t, n.weights("w", 6, 8, 3, 3)})
		one := make([]float32, 6)
		for i := range one {
			one[i] = 1 + float32(i)/10
		}
		n.node("norm", "BatchNormalization", []string{n.t, n.weights("gamma", 6), n.weights("beta", 6), n.weights("mean", 6), n.floats("variance", one, 6)})
	}, true, 6},
	"Gemm": {func(n *net) {
		n.node("in", "GlobalAveragePool", []string{n.t})
		n.node("rows", "Flatten", []string{n.t})
		n.node("layer", "Gemm", []string{n.t, n.weights("w", 8, 6), n.weights("b", 6)}, attrNumber("alpha", 0.5), attrNumber("beta", 2))
		n.node("back", "Unsqueeze", []string{n.t, "axes"})
	}, true, 6},
	"MatMul and Add": {func(n *net) {
		n.node("in", "Transpose", []string{n.t}, attrInts("perm", 0, 2, 3, 1))
		n.node("layer", "MatMul", []string{n.t, n.weights("w", 8, 6)})
		n.node("add", "Add", []string{n.t, n.weights("b", 6)})
		n.node("back", "Transpose", []string{n.t}, attrInts("perm", 0, 3, 1, 2))
	}, true, 6},
}

func shaped(t testing.TB, name string, dtype onnxfile.DType) *net {
	n := newNet(dtype)
	n.g.Initializer = append(n.g.Initializer, intsTensor("axes", 2, 3))
	n.twins(8)
	shapes[name].build(n)
	return n.head(shapes[name].out)
}

// halved returns weights in which of two equal channels the second is not read.
func halved(s *site) []float32 {
	w := slices.Clone(s.w)
	for g := range s.groups {
		for r := range s.d() {
			for k := range s.f {
				if r%s.channels%2 == 1 {
					w[s.index(g, r, k)] = 0
				}
			}
		}
	}
	return w
}

// TestRedundant: what one of two equal channels did, the other can do.
func TestRedundant(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	for name, c := range shapes {
		if !c.twin {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m := shaped(t, name, onnxfile.Float).model(t)
			masked := rewritten(t, m, map[string][]float32{"w": halved(siteOf(t, m, m))})
			opt := Options{Index: indexes(set, 200), Lambda: 1e-8}
			w, errs, err := Ridge(t.Context(), eng, m, masked, nil, set, opt)
			if err != nil {
				t.Fatal(err)
			}
			if len(errs) != 1 || errs[0].Skipped != "" || errs[0].After > 1e-6 || errs[0].Before < 0.01 {
				t.Errorf("%+v", errs)
			}
			sameMask(t, masked, w)
			// The whole network answers as it did.
			n := rewritten(t, masked, w)
			_, again, err := Ridge(t.Context(), eng, m, n, []string{"classifier"}, set, opt)
			if err != nil {
				t.Fatal(err)
			}
			if again[0].Before > 1e-6 {
				t.Errorf("the answers of the refitted network are off by %g", again[0].Before)
			}
		})
	}
}

// TestAgainstPatches: ridge regression on explicit patches, with gonum.
func TestAgainstPatches(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	for name := range shapes {
		for _, dtype := range []onnxfile.DType{onnxfile.Float, onnxfile.Float16} {
			t.Run(name+" "+dtype.String(), func(t *testing.T) {
				m := shaped(t, name, dtype).model(t)
				r := rand.New(rand.NewPCG(8, 8))
				w := values(t, m, "w")
				for i := range w {
					if r.Float64() < 0.5 {
						w[i] = 0
					}
				}
				masked := rewritten(t, m, map[string][]float32{"w": w})
				opt := Options{Index: indexes(set, 60), Lambda: 1e-2, Batch: 16}
				got, errs, err := Ridge(t.Context(), eng, m, masked, []string{"layer"}, set, opt)
				if err != nil {
					t.Fatal(err)
				}
				if errs[0].Skipped != "" || errs[0].After >= errs[0].Before {
					t.Errorf("%+v", errs)
				}
				s := siteOf(t, m, masked)
				// Runtimes round to half precision where they like.
				tolerance := 2e-3
				if dtype == onnxfile.Float16 {
					tolerance = 4e-2
				}
				want := slowRidge(t, eng, s, set, opt, m.File, masked.File)
				for k, v := range want {
					if len(got[k]) != len(v) {
						t.Fatalf("%d numbers for %q, not %d", len(got[k]), k, len(v))
					}
					for i := range v {
						if math.Abs(float64(got[k][i]-v[i])) > tolerance*(1+math.Abs(float64(v[i]))) {
							t.Fatalf("%s[%d] is %v, not %v", k, i, got[k][i], v[i])
						}
					}
				}
				if len(got) != len(want) {
					t.Errorf("%d tensors, not %d", len(got), len(want))
				}
			})
		}
	}
}

// slowRidge does what Ridge does for one layer, in the obvious way.
func slowRidge(t *testing.T, eng engine.Engine, s *site, set *dataset.Set, opt Options, original, masked string) map[string][]float32 {
	t.Helper()
	run, err := newRunner(eng, open(t, original), open(t, masked), set, opt)
	if err != nil {
		t.Fatal(err)
	}
	a, err := run.original.load(t.Context(), []string{s.target}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	b, err := run.masked.load(t.Context(), []string{s.in}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	d, f := s.d(), s.f
	rows := make([][][]float64, s.groups) // of each group
	outs := make([][][]float64, s.groups)
	err = run.each(t.Context(), "", 0, len(run.batches), true, func(i int, held bool, image func() (*engine.Tensor, error)) error {
		if held {
			return nil
		}
		ya, err := a.run(t.Context(), i, image, nil)
		if err != nil {
			return err
		}
		xa, err := b.run(t.Context(), i, image, nil)
		if err != nil {
			return err
		}
		x, y := xa[s.in], ya[s.target]
		s.patches(x, y, func(g int, row, out []float64) {
			rows[g], outs[g] = append(rows[g], row), append(outs[g], out)
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w := slices.Clone(s.w)
	constant := make([]float64, s.filters())
	for g := range s.groups {
		n := len(rows[g])
		mx, my := make([]float64, d), make([]float64, f)
		if s.intercept() {
			for i := range n {
				for j := range d {
					mx[j] += rows[g][i][j] / float64(n)
				}
				for k := range f {
					my[k] += outs[g][i][k] / float64(n)
				}
			}
		}
		gram := mat.NewDense(d, d, nil)
		for i := range n {
			for j := range d {
				for l := range d {
					gram.Set(j, l, gram.At(j, l)+(rows[g][i][j]-mx[j])*(rows[g][i][l]-mx[l])/float64(n))
				}
			}
		}
		lambda := opt.Lambda * gram.Trace() / float64(d)
		w0 := s.matrix(g)
		for k := range f {
			if lambda == 0 { // the input is always the same
				for j := range d {
					constant[g*f+k] += my[k]/float64(d) - w0[j*f+k]*mx[j]
				}
				continue
			}
			var on []int
			for j := range d {
				if w0[j*f+k] != 0 {
					on = append(on, j)
				}
			}
			constant[g*f+k] = my[k]
			if len(on) == 0 {
				continue
			}
			// (A + lambda) w = b + lambda w0
			a, b := mat.NewDense(len(on), len(on), nil), mat.NewVecDense(len(on), nil)
			for i, p := range on {
				for j, q := range on {
					a.Set(i, j, gram.At(p, q))
				}
				a.Set(i, i, a.At(i, i)+lambda)
				sum := lambda * w0[p*f+k]
				for r := range n {
					sum += (rows[g][r][p] - mx[p]) * (outs[g][r][k] - my[k]) / float64(n)
				}
				b.SetVec(i, sum)
			}
			var v mat.VecDense
			if err := v.SolveVec(a, b); err != nil {
				t.Fatal(err)
			}
			for i, p := range on {
				w[s.index(g, p, k)] = float32(v.AtVec(i) / float64(s.scale))
				constant[g*f+k] -= v.AtVec(i) * mx[p]
			}
		}
	}
	out := map[string][]float32{s.weight: w}
	switch {
	case s.norm != nil:
		b := slices.Clone(s.norm.m)
		for k := range b {
			b[k] -= float32(constant[k])
		}
		out[s.norm.mean] = b
	case s.op == "MatMul":
		b := slices.Clone(s.b)
		for k := range b {
			b[k] += float32(constant[k])
		}
		out[s.bias] = b
	case s.op == "Gemm":
		b := slices.Clone(s.b)
		for k := range b {
			b[k] = float32(constant[k] / 2)
		}
		out[s.bias] = b
	case s.bias != "":
		b := slices.Clone(s.b)
		for k := range b {
			b[k] = float32(constant[k])
		}
		out[s.bias] = b
	}
	return out
}

// patches calls fn with the regressors and the outputs of each group, position by
// position, by the definition of a convolution.
func (s *site) patches(x, y *engine.Tensor, fn func(g int, row, out []float64)) {
	d, f := s.d(), s.f
	if s.channelsLast {
		xs, ys := x.Float32(), y.Float32()
		for i := range len(xs) / d {
			row, out := make([]float64, d), make([]float64, f)
			for j := range d {
				row[j] = float64(xs[i*d+j])
			}
			for k := range f {
				out[k] = float64(ys[i*f+k])
			}
			fn(0, row, out)
		}
		return
	}
	in, onto := x.Shape[2:], y.Shape[2:]
	begin := [2]int64{}
	stride, dilation := [2]int64{1, 1}, [2]int64{1, 1}
	w := s.window
	for i := range 2 {
		if len(w.strides) > 0 {
			stride[i] = w.strides[i]
		}
		if len(w.dilations) > 0 {
			dilation[i] = w.dilations[i]
		}
		total := (onto[i]-1)*stride[i] + (w.kernel[i]-1)*dilation[i] + 1 - in[i]
		switch {
		case w.auto == "SAME_UPPER":
			begin[i] = total / 2
		case w.auto == "SAME_LOWER":
			begin[i] = (total + 1) / 2
		case len(w.pads) > 0:
			begin[i] = w.pads[i]
		}
	}
	at := func(t *engine.Tensor, n, c, i, j int64) float64 {
		if i < 0 || j < 0 || i >= t.Shape[2] || j >= t.Shape[3] {
			return 0
		}
		return float64(t.Float32()[((n*t.Shape[1]+c)*t.Shape[2]+i)*t.Shape[3]+j])
	}
	for n := range x.Shape[0] {
		for i := range onto[0] {
			for j := range onto[1] {
				for g := range s.groups {
					row, out := make([]float64, d), make([]float64, f)
					for p := range w.kernel[0] {
						for q := range w.kernel[1] {
							for c := range s.channels {
								row[int(p*w.kernel[1]+q)*s.channels+c] = at(x, n, int64(g*s.channels+c), i*stride[0]-begin[0]+p*dilation[0], j*stride[1]-begin[1]+q*dilation[1])
							}
						}
					}
					for k := range f {
						out[k] = at(y, n, int64(g*f+k), i, j)
					}
					fn(g, row, out)
				}
			}
		}
	}
}

func siteOf(t testing.TB, original, masked *inspect.Model) *site {
	t.Helper()
	return findSite(t, original, masked, "layer")
}

// TestMemory: with little memory activations are computed again, and nothing else
// changes; with far too little layers are skipped.
func TestMemory(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	m := open(t, fixtures+"vgg16-glyphs20.onnx")
	masked := diluted(t, m, convolutions(m, 9, 11), 0.5, byMagnitude)
	opt := Options{Index: indexes(set, 90), Batch: 30}
	want, _, err := Ridge(t.Context(), eng, m, masked, nil, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	opt.Memory = 2 * gramBytes(findSite(t, m, masked, "conv10"))
	got, errs, err := Ridge(t.Context(), eng, m, masked, nil, set, opt)
	if err != nil || len(errs) != 3 {
		t.Fatal(err, errs)
	}
	for name, v := range want {
		for i := range v {
			if math.Abs(float64(v[i]-got[name][i])) > 1e-3 {
				t.Fatalf("%s[%d] is %v, with much memory %v", name, i, got[name][i], v[i])
			}
		}
	}
	opt.Memory = 1 << 20
	got, errs, err = Ridge(t.Context(), eng, m, masked, nil, set, opt)
	if err != nil || len(got) != 0 || len(errs) != 3 || !strings.Contains(errs[0].Skipped, "memory") {
		t.Errorf("%v, %d tensors, %+v", err, len(got), errs)
	}
}

// TestCancel: a context that ends stops a fit, and nothing goes on behind it.
func TestCancel(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	m := open(t, fixtures+"vgg16-glyphs20.onnx")
	masked := diluted(t, m, convolutions(m, 5, 13), 0.5, byMagnitude)
	time.Sleep(50 * time.Millisecond)
	before := runtime.NumGoroutine()
	for name, fit := range map[string]func(ctx context.Context, opt Options) error{
		"bias": func(ctx context.Context, opt Options) error {
			_, _, err := Bias(ctx, eng, m, masked, nil, set, opt)
			return err
		},
		"ridge": func(ctx context.Context, opt Options) error {
			_, _, err := Ridge(ctx, eng, m, masked, nil, set, opt)
			return err
		},
		"head": func(ctx context.Context, opt Options) error {
			_, _, err := Head(ctx, eng, masked, set, opt, HeadOptions{Original: m})
			return err
		},
	} {
		for _, after := range []int{0, 2, 8} {
			ctx, cancel := context.WithCancel(t.Context())
			calls := 0
			opt := Options{Index: indexes(set, 200), Batch: 20, Progress: func(string, int, int) {
				if calls++; calls > after {
					cancel()
				}
			}}
			if err := fit(ctx, opt); !errors.Is(err, context.Canceled) {
				t.Errorf("%s cancelled after %d calls: %v", name, after, err)
			}
			cancel()
		}
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// TestPureGo: another engine gives the same, but for rounding.
func TestPureGo(t *testing.T) {
	one, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	two := gorgonia.Open(gorgonia.Options{})
	defer two.Close()
	for _, name := range []string{"convolution", "groups", "MatMul and Add"} {
		m := shaped(t, name, onnxfile.Float).model(t)
		masked := rewritten(t, m, map[string][]float32{"w": halved(siteOf(t, m, m))})
		opt := Options{Index: indexes(set, 50), Lambda: 1e-2}
		for what, fit := range map[string]func(eng engine.Engine) (map[string][]float32, error){
			"bias": func(eng engine.Engine) (w map[string][]float32, err error) {
				w, _, err = Bias(t.Context(), eng, m, masked, nil, set, opt)
				return w, err
			},
			"ridge": func(eng engine.Engine) (w map[string][]float32, err error) {
				w, _, err = Ridge(t.Context(), eng, m, masked, nil, set, opt)
				return w, err
			},
			"head": func(eng engine.Engine) (w map[string][]float32, err error) {
				w, _, err = Head(t.Context(), eng, masked, set, opt, HeadOptions{Iterations: 2, L2: []float64{1}})
				return w, err
			},
		} {
			a, err := fit(one)
			if err != nil {
				t.Fatal(name, what, err)
			}
			b, err := fit(two)
			if err != nil {
				t.Fatal(name, what, err)
			}
			if len(a) != len(b) || len(a) == 0 {
				t.Errorf("%s, %s: %d and %d tensors", name, what, len(a), len(b))
			}
			for k := range a {
				for i := range a[k] {
					if d := math.Abs(float64(a[k][i] - b[k][i])); d > 1e-3*(1+math.Abs(float64(a[k][i]))) {
						t.Errorf("%s, %s: %s[%d] is %v and %v", name, what, k, i, a[k][i], b[k][i])
					}
				}
			}
		}
	}
}

// TestSameAgain: the same arguments give the same weights, bit for bit.
func TestSameAgain(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	m := open(t, fixtures+"vgg16-glyphs20.onnx")
	masked := diluted(t, m, convolutions(m, 3, 5), 0.5, byChance)
	opt := Options{Index: indexes(set, 100), Observations: 2000, Seed: 4}
	first, _, err := Ridge(t.Context(), eng, m, masked, nil, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := Ridge(t.Context(), eng, m, masked, nil, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	opt.Seed = 5
	third, _, err := Ridge(t.Context(), eng, m, masked, nil, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	other := false
	for name, v := range first {
		if !slices.Equal(v, second[name]) {
			t.Errorf("tensor %q differs", name)
		}
		other = other || !slices.Equal(v, third[name])
	}
	if !other {
		t.Error("the seed changes nothing")
	}
}

// TestFixedBatch: a batch that the file fixes is kept to; samples that do not fill
// one are left out.
func TestFixedBatch(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	n := shaped(t, "convolution", onnxfile.Float)
	n.g.Input[0] = valueInfo("image", onnxfile.Float, 8, 1, 8, 8)
	m := n.model(t)
	masked := rewritten(t, m, map[string][]float32{"w": halved(siteOf(t, m, m))})
	_, errs, err := Ridge(t.Context(), eng, m, masked, nil, set, Options{Index: indexes(set, 61), Lambda: 1e-8})
	if err != nil {
		t.Fatal(err)
	}
	if e := errs[0]; e.After > 1e-6 || e.Samples != 8 || e.Observations != 48*64 {
		t.Errorf("%+v", e)
	}
	var bad *OptionError
	if _, _, err := Ridge(t.Context(), eng, m, masked, nil, set, Options{Index: indexes(set, 9)}); !errors.As(err, &bad) {
		t.Error(err)
	}
}

// TestOptions: what cannot be done is refused before anything runs.
func TestOptions(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	m := open(t, fixtures+"vgg16-glyphs20.onnx")
	masked := diluted(t, m, convolutions(m, 3, 3), 0.5, byChance)
	var bad *OptionError
	for _, opt := range []Options{{}, {Index: []int{1}}, {Index: []int{1, 2}, HoldOut: 1}, {Index: []int{1, 2}, HoldOut: math.NaN()},
		{Index: []int{1, 2}, Lambda: -1}, {Index: []int{1, 2}, Lambda: math.NaN()}, {Index: []int{1, 2}, Memory: -1}} {
		if _, _, err := Ridge(t.Context(), eng, m, masked, nil, set, opt); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", opt, err)
		}
	}
	var unknown *UnknownLayerError
	if _, _, err := Bias(t.Context(), eng, m, masked, []string{"no such layer"}, set, Options{Index: []int{1, 2}}); !errors.As(err, &unknown) || unknown.Layer != "no such layer" {
		t.Error(err)
	}
}

// TestNotFinite: a network that overflows is left alone, and the rest is not harmed.
func TestNotFinite(t *testing.T) {
	eng, set := onnxRuntime(t, 1), openSet(t, fixtures+"glyphs20")
	n := shaped(t, "convolution", onnxfile.Float)
	for _, p := range n.g.Initializer {
		if p.GetName() == "b.twins" {
			p.RawData = raw(onnxfile.Float, []float32{3e38, 3e38, 1, 1, 1, 1, 1, 1})
		}
	}
	m := n.model(t)
	masked := rewritten(t, m, map[string][]float32{"w": halved(siteOf(t, m, m))})
	for what, fit := range map[string]func() (map[string][]float32, []LayerError, error){
		"bias": func() (map[string][]float32, []LayerError, error) {
			return Bias(t.Context(), eng, m, masked, nil, set, Options{Index: indexes(set, 40)})
		},
		"ridge": func() (map[string][]float32, []LayerError, error) {
			return Ridge(t.Context(), eng, m, masked, nil, set, Options{Index: indexes(set, 40)})
		},
	} {
		w, errs, err := fit()
		if err != nil || len(w) > 0 || len(errs) != 1 || errs[0].Skipped == "" {
			t.Errorf("%s: %v, %d tensors, %+v", what, err, len(w), errs)
		}
		if _, err := json.Marshal(errs); err != nil {
			t.Error(err)
		}
	}
}
