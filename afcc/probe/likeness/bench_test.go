//go:build unix

package likeness

import (
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// BenchmarkMeasure compares Measure with the bare forward pass of both models over the
// same samples, in turn: "x-bare" is the ratio of the times on the clock, "x-bare-cpu"
// that on all processors together, by the medians. It runs on fixtures/vgg16-glyphs20.onnx and the same again unless the environment names models
// and data:
//
//	FILTERLENS_BENCH_MODEL=vgg16-cifar100.onnx FILTERLENS_BENCH_OTHER=pruned.onnx \
//	FILTERLENS_BENCH_DATA=cifar100/test.bin FILTERLENS_BENCH_PREPROCESS=signed \
//	go test ./afcc/probe/likeness -run '^$' -bench Measure -benchtime 3x
func BenchmarkMeasure(b *testing.B) {
	env := func(name, otherwise string) string {
		if v := os.Getenv("FILTERLENS_BENCH_" + name); v != "" {
			return v
		}
		return otherwise
	}
	number := func(name string) int {
		n, err := strconv.Atoi(env(name, "0"))
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	first := env("MODEL", vggFixture)
	x := newTrial(b, open(b, first), open(b, env("OTHER", first)))
	set, err := dataset.Open(env("DATA", glyphs), dataset.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer set.Close()
	pre, err := dataset.ParsePreprocess(env("PREPROCESS", "signed"))
	if err != nil {
		b.Fatal(err)
	}
	var index []int
	for i := range set.Len() {
		if set.Part(i) != dataset.PartTrain {
			index = append(index, i)
		}
	}
	eng := runtime(b)
	opt := Options{PreprocessA: pre, PreprocessB: pre, Samples: number("LIMIT"), Memory: int64(number("MEMORY"))}
	if err := opt.complete(); err != nil {
		b.Fatal(err)
	}
	opt.Progress = nil
	index = choose(set, index, opt.Samples, 0)
	bare := func(m *inspect.Model) {
		s, err := eng.Load(b.Context(), engine.Model{Name: m.File, Path: m.File})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		var shape []int64
		for _, d := range m.Inputs[0].Shape.Dims {
			shape = append(shape, d.Value)
		}
		tr, err := pre.Transform(shape)
		if err != nil {
			b.Fatal(err)
		}
		dims := []int64{0, int64(tr.Channels), int64(tr.Height), int64(tr.Width)}
		for batch, err := range set.Batches(b.Context(), dataset.Sequential(index, 100), tr, 0) {
			if err != nil {
				b.Fatal(err)
			}
			dims[0] = int64(len(batch.Index))
			in := map[string]*engine.Tensor{m.Inputs[0].Name: engine.NewFloat32(batch.X, dims...)}
			if err := s.Run(b.Context(), in, map[string]*engine.Tensor{m.Outputs[0].Name: nil}); err != nil {
				b.Fatal(err)
			}
		}
	}
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	var spans [4][]time.Duration // wall and cpu of the bare passes, then of Measure
	for b.Loop() {
		wall, used := time.Now(), cpu()
		bare(x.a)
		bare(x.b)
		wall2, used2 := time.Now(), cpu()
		x.measure(b, eng, set, index, opt)
		for i, d := range []time.Duration{wall2.Sub(wall), used2 - used, time.Since(wall2), cpu() - used2} {
			spans[i] = append(spans[i], d)
		}
	}
	var median [4]float64
	for i, s := range spans {
		slices.Sort(s)
		median[i] = s[len(s)/2].Seconds()
	}
	b.ReportMetric(median[2]/median[0], "x-bare")
	b.ReportMetric(median[3]/median[1], "x-bare-cpu")
	b.ReportMetric(median[0], "bare-s")
	b.ReportMetric(median[2], "s")
	b.ReportMetric(0, "ns/op")
}

var benchCKA [][]*float64

// BenchmarkAlignments is of the alignments alone, of 15 taps with 49 of 512 samples.
func BenchmarkAlignments(b *testing.B) {
	kernels := func(taps int) []*kernel {
		list := make([]*kernel, taps)
		for i := range list {
			k := newKernel(512)
			for j := range k.off {
				k.off[j] = float64((j*7919+i)%1009) - 504
			}
			for j := range k.diag {
				k.diag[j] = 2000
			}
			list[i] = k
		}
		return list
	}
	x, y := kernels(15), kernels(49)
	for b.Loop() {
		benchCKA, _ = alignments(x, y)
	}
}
