package gradient

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// wholeNet is glyphNet with another second layer, none of it masked.
func wholeNet(opset int64) *net {
	n := glyphNet()
	n.opset = opset
	other := newNet(opset, 0, 1, 1, 1)
	other.drawn("w", 0.2, 8, 6, 3, 3)
	for _, w := range n.g.Initializer {
		if w.GetName() == "w.second" {
			w.RawData = other.g.Initializer[0].RawData
		}
	}
	return n
}

func names(g *Graph) []string {
	var list []string
	for i := range g.Params {
		list = append(list, g.Params[i].Name)
	}
	return list
}

// TestOriginal: what a model and its original have in common is computed once and not
// trained, and the teacher within the graph is the one beside it.
func TestOriginal(t *testing.T) {
	eng := runtime(t, 1)
	m, whole, old := glyphNet().model(t), wholeNet(13).model(t), wholeNet(12).model(t)
	opt := BuildOptions{Batch: 4, Distill: 0.7, Temperature: 2, Original: whole, Gradients: true}
	behind := []string{"w.second", "b.second", "w.classifier", "b.classifier"}
	all := append([]string{"w.first", "b.first"}, behind...)
	for name, c := range map[string]struct {
		edit   func(o *BuildOptions)
		params []string
		first  int // how often the first layer is computed
		asks   bool
	}{
		"behind what differs": {func(*BuildOptions) {}, behind, 1, false},
		"all":                 {func(o *BuildOptions) { o.Whole = true }, all, 2, false},
		"chosen":              {func(o *BuildOptions) { o.Layers = []Layer{{Name: "classifier"}} }, behind[2:], 1, false},
		"nothing differs":     {func(o *BuildOptions) { o.Original = m }, all, 2, false},
		"no original":         {func(o *BuildOptions) { o.Original = nil }, all, 1, true},
		"another opset":       {func(o *BuildOptions) { o.Original = old }, behind, 1, true},
		"labels alone":        {func(o *BuildOptions) { o.Distill = 0 }, behind, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := opt
			c.edit(&o)
			g, err := Build(m, o)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(g); !slices.Equal(got, c.params) {
				t.Errorf("trains %q", got)
			}
			if (g.Teacher != "") != c.asks {
				t.Errorf("teacher input %q", g.Teacher)
			}
			var p onnxpb.ModelProto
			if err := proto.Unmarshal(g.Model, &p); err != nil {
				t.Fatal(err)
			}
			first := 0
			for _, n := range p.Graph.Node {
				if n.GetOpType() == "Conv" && n.Input[0] == g.Image {
					first++
				}
			}
			if first != c.first {
				t.Errorf("the first layer is computed %d times", first)
			}
			if g.Teacher != "" || o.Distill == 0 {
				return
			}
			// The same with the original beside the graph.
			beside := o
			beside.Original = nil
			for _, p := range g.Params {
				layer := p.Name[2:]
				if p.Name[0] == 'w' && o.Layers == nil {
					beside.Layers = append(beside.Layers, Layer{Name: layer, Masked: true})
				}
			}
			h, err := Build(m, beside)
			if err != nil {
				t.Fatal(err)
			}
			compareGraphs(t, eng, o.Original, g, h)
		})
	}
}

// compareGraphs runs two graphs, the second one with the original's logits for input.
func compareGraphs(t *testing.T, eng engine.Engine, original *inspect.Model, g, h *Graph) {
	t.Helper()
	ctx := context.Background()
	bytes, f, err := answering(original, g.Batch)
	if err != nil {
		t.Fatal(err)
	}
	teacher := load(t, eng, engine.Model{Name: "teacher", Bytes: bytes})
	b := newBatch(g)
	r := rand.New(rand.NewPCG(2, 9))
	for i := range b.image.Float32() {
		b.image.Float32()[i] = float32(r.NormFloat64())
	}
	for i := range g.Batch {
		b.target.Float32()[i*g.Labels+i] = 1
		b.rows.Float32()[i] = 1 / float32(g.Batch)
	}
	z := map[string]*engine.Tensor{f.logits: nil}
	if err := teacher.Run(ctx, map[string]*engine.Tensor{f.image: b.image}, z); err != nil {
		t.Fatal(err)
	}
	var found [2][]float32
	for k, g := range []*Graph{g, h} {
		in := map[string]*engine.Tensor{g.Image: b.image, g.Target: b.target, g.Rows: b.rows}
		out := map[string]*engine.Tensor{g.Loss: nil}
		if g.Teacher != "" {
			in[g.Teacher] = z[f.logits]
		}
		for i := range g.Params {
			p := &g.Params[i]
			v, err := p.Values(ctx)
			if err != nil {
				t.Fatal(err)
			}
			in[p.Weight] = engine.NewFloat32(p.Pack(v), p.Shape...)
			out[p.Gradient] = nil
		}
		if err := load(t, eng, engine.Model{Name: "graph", Bytes: g.Model}).Run(ctx, in, out); err != nil {
			t.Fatal(err)
		}
		found[k] = append(found[k], out[g.Loss].Float32()...)
		for i := range g.Params {
			found[k] = append(found[k], out[g.Params[i].Gradient].Float32()...)
		}
	}
	if len(found[0]) != len(found[1]) || found[0][0] < 0.1 {
		t.Fatalf("%d and %d numbers, loss %v", len(found[0]), len(found[1]), found[0][0])
	}
	for i, v := range found[0] {
		if d := math.Abs(float64(v - found[1][i])); d > 1e-5 {
			t.Fatalf("number %d is %v, with the teacher beside it %v", i, v, found[1][i])
		}
	}
}

// TestMix: images and targets are mixed alike, each with one other, by shares that
// follow the distribution asked for.
func TestMix(t *testing.T) {
	g := &Graph{Batch: 40, Labels: 40, Dims: []int64{1, 2, 2}}
	for a, variance := range map[float64]float64{0.2: 1 / (4 * 1.4), 1: 1. / 12, 4: 1. / 36} {
		r := rand.New(rand.NewPCG(1, 1))
		sum, squares, n := 0.0, 0.0, 0.0
		for range 100 {
			b := newBatch(g)
			tr := &dataset.Transform{Channels: 1, Height: 2, Width: 2}
			s := dataset.Batch{Labels: make([]int, 38)}
			for i := range s.Labels {
				s.Labels[i] = i
			}
			b.fill(s, tr, func(i int, x []float32) {
				for p := range x {
					x[p] = float32(100*p + i)
				}
			})
			b.mix(38, a, r)
			for i := range 38 {
				row := b.target.Float32()[i*40 : (i+1)*40]
				total, mean := 0.0, 0.0
				for j, v := range row {
					total, mean = total+float64(v), mean+float64(v)*float64(j)
				}
				for p, v := range b.image.Float32()[i*4 : (i+1)*4] {
					if math.Abs(float64(v)-float64(100*p)-mean) > 1e-3 {
						t.Fatalf("image %d, pixel %d is %v, the targets say %v", i, p, v, mean)
					}
				}
				if math.Abs(total-1) > 1e-6 || row[i] < 0 {
					t.Fatalf("targets %v", row)
				}
				if row[i] == 1 {
					continue // mixed with itself, or not at all
				}
				l := float64(row[i]) - 0.5
				sum, squares, n = sum+l, squares+l*l, n+1
			}
			if x := b.image.Float32()[38*4]; x != 0 {
				t.Fatalf("a row without sample is %v", x)
			}
		}
		if got := squares / n; math.Abs(sum/n) > 0.03 || math.Abs(got-variance) > 0.1*variance {
			t.Errorf("a = %v: mean %v, variance %v, want %v", a, sum/n+0.5, got, variance)
		}
	}
}
