package gorgonia_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
)

// BenchmarkAgainst runs this engine and ONNX Runtime in turns, so that whatever
// else the machine does meets both, and reports milliseconds of a run of each
// (the median), how many times slower this engine is ("factor", the median of the
// turns' factors) and what it allocates in a run. Models: the fixtures; those
// beside the corpus when FILTERLENS_CORPUS is set; EfficientNet-B0 as published;
// and the files that FILTERLENS_BENCH_MODEL lists, as PATH lists folders.
//
//	go test ./inspect/engine/gorgonia -run '^$' -bench Against -benchtime 10x
func BenchmarkAgainst(b *testing.B) {
	var models []engine.Model
	add := func(name, path string) {
		if _, err := os.Stat(path); err == nil {
			models = append(models, engine.Model{Name: name, Path: path})
		} else {
			b.Logf("LEFT OUT: %v", err)
		}
	}
	add("vgg16-glyphs20", fixtures+"vgg16-glyphs20.onnx")
	add("efficientnet-b0-glyphs20", fixtures+"efficientnet-b0-glyphs20.onnx")
	if root := os.Getenv("FILTERLENS_CORPUS"); root != "" {
		for _, name := range []string{"vgg16-cifar100", "resnet20-cifar10"} {
			add(name, filepath.Join(root, "..", "models", name+".onnx"))
		}
	}
	d, err := arch.EfficientNetB0(arch.Options{Seed: 1, Fold: true})
	add("efficientnet-b0-224", written(b, d, err))
	for _, path := range filepath.SplitList(os.Getenv("FILTERLENS_BENCH_MODEL")) {
		add(strings.TrimSuffix(filepath.Base(path), ".onnx"), path)
	}
	for _, threads := range []int{1, 2} {
		theirs := openORT(b, threads)
		ours := gorgonia.Open(gorgonia.Options{Threads: threads})
		for _, m := range models {
			for _, n := range []int64{1, 32} {
				b.Run(fmt.Sprintf("%s/threads=%d/batch=%d", m.Name, threads, n), func(b *testing.B) { benchAgainst(b, ours, theirs, m, n) })
			}
		}
	}
}

func benchAgainst(b *testing.B, ours, theirs engine.Engine, m engine.Model, n int64) {
	sessions := []engine.Session{load(b, ours, m), load(b, theirs, m)}
	in := make(map[string]*engine.Tensor)
	for i, v := range sessions[1].Inputs() {
		shape := slices.Clone(v.Shape)
		if shape[0] >= 0 && shape[0] != n {
			b.Skipf("the batch is fixed to %d", shape[0])
		}
		shape[0] = n
		in[v.Name] = engine.NewFloat32(drawn(engine.Elements(shape), uint64(i)), shape...)
	}
	out := make([]map[string]*engine.Tensor, len(sessions))
	run := func(i int) time.Duration {
		start := time.Now()
		if err := sessions[i].Run(b.Context(), in, out[i]); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	for i := range sessions {
		out[i] = make(map[string]*engine.Tensor)
		for _, v := range sessions[i].Outputs() {
			out[i][v.Name] = nil
		}
		run(i) // makes the outputs, which later runs write to, and all that is made once
		run(i)
	}
	var took [2][]float64
	var factors []float64
	for b.Loop() {
		x, y := run(0), run(1)
		took[0], took[1] = append(took[0], x.Seconds()*1e3), append(took[1], y.Seconds()*1e3)
		factors = append(factors, x.Seconds()/y.Seconds())
	}
	run(0) // a collection of garbage between runs may have taken the memory that is reused
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run(0)
	runtime.ReadMemStats(&after)
	b.ReportMetric(median(took[0]), "ms")
	b.ReportMetric(median(took[1]), "ort-ms")
	b.ReportMetric(median(factors), "factor")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc), "B/run")
	b.ReportMetric(0, "ns/op")
}

func median(v []float64) float64 {
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
