package probe

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect/engine"
)

// BenchmarkHeadStep takes one training step of a head the size of an early
// layer's, 64 filters of 16 x 16 positions and 100 labels, on cached features.
func BenchmarkHeadStep(b *testing.B) {
	const k, d, samples, batch = 100, 64 * 256, 1000, 100
	r := rand.New(rand.NewPCG(1, 1))
	features := make([]float32, samples*d)
	for i := range features {
		features[i] = r.Float32()
	}
	h := &head{tap: &Tap{Layers: []string{"bench"}, Filters: 64, Height: 16, Width: 16, Pool: 1}, norm: 10}
	rec := DefaultRecipe()
	if err := h.start(k, 70, 1, rec); err != nil {
		b.Fatal(err)
	}
	g := newGraph()
	all, index := g.input("features", 1, -1, d), g.input("index", 7, -1)
	si := g.newStepInputs(k)
	names := g.step(g.node("Gather", []string{all, index}, attrInt("axis", 0)), si, k, d, "0", h.scale, rec)
	data, err := g.serialize()
	if err != nil {
		b.Fatal(err)
	}
	s, err := runtime(b).Load(b.Context(), engine.Model{Name: "head", Bytes: data})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	t := newStepTensors(k)
	labels, idx := make([]int, batch), make([]int64, batch)
	for i := range batch {
		labels[i], idx[i] = i%k, int64(i*samples/batch)
	}
	table := engine.NewFloat32(features, samples, d)
	b.ResetTimer()
	for b.Loop() {
		in := map[string]*engine.Tensor{all: table, index: engine.NewInt64(idx, batch)}
		out := map[string]*engine.Tensor{}
		t.feed(si, labels, rec.LearningRate, rec, in)
		h.feed(names, k, in, out)
		if err := s.Run(b.Context(), in, out); err != nil {
			b.Fatal(err)
		}
		h.swap()
	}
}

// BenchmarkLabelMeans compares the statistics pass of all layers with the bare
// forward pass of the same samples, batch by batch in turn; the metric is the
// ratio of their times.
func BenchmarkLabelMeans(b *testing.B) {
	const batch, k = 50, 10
	n := newNet(-1, 3, 32)
	n.conv("c1", 3, 32, 3, 1).op("Relu").conv("c2", 32, 32, 3, 1).op("Relu").pool()
	n.conv("c3", 32, 64, 3, 1).op("Relu").conv("c4", 64, 64, 3, 1).op("Relu").pool()
	n.conv("c5", 64, 128, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten").gemm("out", 128, k)
	m := n.model(b, -1, k)
	s := mustSurvey(b, m)
	eng := runtime(b)
	t, err := newTrunk(m)
	if err != nil {
		b.Fatal(err)
	}
	means := map[string]*engine.Tensor{}
	for i, tap := range s.Taps {
		d := tap.Filters * tap.Positions()
		means[t.batchSum("sum."+string(rune('a'+i)), t.features(tap), int64(d))] = engine.NewFloat32(make([]float32, d), int64(d))
	}
	data, err := t.serialize()
	if err != nil {
		b.Fatal(err)
	}
	with, err := eng.Load(b.Context(), engine.Model{Name: "means", Bytes: data})
	if err != nil {
		b.Fatal(err)
	}
	defer with.Close()
	bare, err := eng.Load(b.Context(), engine.Model{Name: m.File, Path: m.File})
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	x := make([]float32, batch*3*32*32)
	in := map[string]*engine.Tensor{"image": engine.NewFloat32(x, batch, 3, 32, 32)}
	logits := map[string]*engine.Tensor{n.t: engine.NewFloat32(make([]float32, batch*k), batch, k)}
	var tBare, tMeans time.Duration
	for b.Loop() {
		begin := time.Now()
		if err := bare.Run(b.Context(), in, logits); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		if err := with.Run(b.Context(), in, means); err != nil {
			b.Fatal(err)
		}
		tBare += middle.Sub(begin)
		tMeans += time.Since(middle)
	}
	b.ReportMetric(float64(tMeans)/float64(tBare), "x-bare-forward")
}
