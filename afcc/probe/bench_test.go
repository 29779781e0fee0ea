//go:build unix

package probe

import (
	"context"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// The benchmarks of this file compare measuring with the bare forward pass of the
// same images in the same process, in turn, and report the ratio of the times as
// "x-bare". Either way the time begins with loading a session and counts reading
// and decoding the images; what differs is what the task adds.
//
// They run on fixtures/vgg16-glyphs20.onnx unless the environment names a model and
// data:
//
//	FILTERLENS_BENCH_MODEL=vgg16-cifar100.onnx FILTERLENS_BENCH_DATA=cifar100/test.bin \
//	FILTERLENS_BENCH_PREPROCESS=signed FILTERLENS_BENCH_LIMIT=10000 \
//	go test ./afcc/probe -run '^$' -bench XBare -benchtime 1x
type bench struct {
	*measurer
	ctx context.Context
	// heads are of all taps; their weights are those of a head not yet trained.
	heads []*head
}

// A benched is what the environment names.
type benched struct {
	model          *inspect.Model
	set            *dataset.Set
	pre            dataset.Preprocess
	limit, threads int
	memory         int64
	onFixture      bool
}

// env returns the value of FILTERLENS_BENCH_name, or what stands for it.
func env(name, otherwise string) string {
	if v := os.Getenv("FILTERLENS_BENCH_" + name); v != "" {
		return v
	}
	return otherwise
}

func openBenched(tb testing.TB) *benched {
	tb.Helper()
	const fixture = "../../fixtures/vgg16-glyphs20.onnx"
	b := &benched{onFixture: env("MODEL", fixture) == fixture}
	f, err := onnxfile.Open(env("MODEL", fixture))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	if b.model, err = inspect.New(tb.Context(), f, inspect.Options{}); err != nil {
		tb.Fatal(err)
	}
	b.set = openSetAt(tb, env("DATA", "../../fixtures/glyphs20"))
	if b.pre, err = dataset.ParsePreprocess(env("PREPROCESS", "signed")); err != nil {
		tb.Fatal(err)
	}
	for name, to := range map[string]*int{"LIMIT": &b.limit, "THREADS": &b.threads} {
		if *to, err = strconv.Atoi(env(name, map[string]string{"LIMIT": "1000", "THREADS": "0"}[name])); err != nil {
			tb.Fatal(err)
		}
	}
	if b.memory, err = strconv.ParseInt(env("MEMORY", "0"), 10, 64); err != nil {
		tb.Fatal(err)
	}
	return b
}

// newBench prepares what the environment names. Every split of the measurer holds
// all samples up to the limit.
func newBench(tb testing.TB) *bench {
	tb.Helper()
	o := openBenched(tb)
	b := &bench{ctx: tb.Context()}
	var groups [][]*head
	var err error
	if b.measurer, _, groups, err = prepare(o.model, o.set, Options{Preprocess: o.pre, Theta: 0.3, Memory: o.memory}); err != nil {
		tb.Fatal(err)
	}
	index := make([]int, o.set.Len())
	for i := range index {
		index[i] = i
	}
	// Of every label, whether they are sorted or take turns.
	all := dataset.Split{Index: dataset.Shuffled(index, min(o.limit, len(index)), 1, 0)[0]}
	slices.Sort(all.Index)
	b.fit, b.stats, b.eval = all, all, all
	eng, err := ort.Open(b.ctx, ort.Options{Provider: os.Getenv("FILTERLENS_TEST_EP"), Threads: o.threads})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { eng.Close() })
	b.eng = eng
	b.heads = slices.Concat(groups...)
	return b
}

func openSetAt(tb testing.TB, path string) *dataset.Set {
	tb.Helper()
	set, err := dataset.Open(path, dataset.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { set.Close() })
	return set
}

// A span is how long something took: on the clock, and on all processors together.
// On a machine with other work the second is the steadier measure; with more than
// one thread it also counts those of the runtime that wait.
type span struct{ wall, cpu time.Duration }

// measure returns what f takes.
func measure(tb testing.TB, f func() error) span {
	tb.Helper()
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			tb.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	wall, before := time.Now(), cpu()
	if err := f(); err != nil {
		tb.Fatal(err)
	}
	return span{time.Since(wall), cpu() - before}
}

// bare runs the model as the file has it over all samples.
func (b *bench) bare() error {
	s, err := b.eng.Load(b.ctx, engine.Model{Name: b.m.File, Path: b.m.File})
	if err != nil {
		return err
	}
	defer s.Close()
	for batch, err := range b.set.Batches(b.ctx, dataset.Sequential(b.stats.Index, b.batch), b.tr, 0) {
		if err != nil {
			return err
		}
		in := map[string]*engine.Tensor{b.in: b.rows.tensor(batch.X, len(batch.Index))}
		if err := s.Run(b.ctx, in, map[string]*engine.Tensor{b.out: nil}); err != nil {
			return err
		}
	}
	return nil
}

// compare runs tasks between bare passes and reports the medians of what each
// takes, as a multiple of the two passes around it.
func (b *bench) compare(tb *testing.B, names []string, tasks ...func() error) {
	measure(tb, b.bare) // the first pass finds nothing in the caches
	wall, cpu := make([][]float64, len(tasks)), make([][]float64, len(tasks))
	var bare, all time.Duration
	for tb.Loop() {
		before := measure(tb, b.bare)
		for i, f := range tasks {
			t := measure(tb, f)
			after := measure(tb, b.bare)
			wall[i] = append(wall[i], float64(2*t.wall)/float64(before.wall+after.wall))
			cpu[i] = append(cpu[i], float64(2*t.cpu)/float64(before.cpu+after.cpu))
			before, bare, all = after, bare+after.wall, all+t.wall
		}
	}
	n := time.Duration(tb.N)
	for i, name := range names {
		slices.Sort(wall[i])
		slices.Sort(cpu[i])
		tb.ReportMetric(wall[i][len(wall[i])/2], name+"x-bare")
		tb.ReportMetric(cpu[i][len(cpu[i])/2], name+"x-bare-cpu")
	}
	tb.ReportMetric((bare / n / time.Duration(len(tasks))).Seconds(), "bare-s")
	tb.ReportMetric((all / n).Seconds(), "task-s")
	tb.ReportMetric(0, "ns/op")
}

// give gives every head weights, those of one that is not trained yet.
func (b *bench) give() {
	for _, h := range b.heads {
		h.w = make([]float32, b.k*h.d())
		InitialWeights(h.w, h.d(), 1, uint64(h.i))
	}
}

// BenchmarkStatisticsXBare takes the label means of all layers, forms every field
// matrix and finds the clusters of every filter; heads are given.
func BenchmarkStatisticsXBare(tb *testing.B) {
	b := newBench(tb)
	b.compare(tb, []string{""}, func() error {
		b.give()
		if err := b.labelMeans(b.ctx, b.heads); err != nil {
			return err
		}
		return b.analyse(b.ctx, b.heads, &Result{})
	})
}

// BenchmarkEpochXBare trains all heads for one epoch inside the trunk's graph.
func BenchmarkEpochXBare(tb *testing.B) {
	b := newBench(tb)
	b.opt.Recipe.Epochs = 1
	b.compare(tb, []string{""}, func() error {
		heads := b.fresh()
		for _, h := range heads {
			if err := h.prepare(b.k, spread{RMS: 100}); err != nil {
				return err
			}
			h.start(1, b.opt.Recipe)
		}
		_, err := b.streamEpochs(b.ctx, heads, attempt{}, 0, 1)
		return err
	})
}

// BenchmarkCachedEpochsXBare trains all heads on features that are held in memory,
// for one epoch and for four. A third of the difference is one epoch's steps; the
// rest of the first is the pass of the trunk that all epochs share.
func BenchmarkCachedEpochsXBare(tb *testing.B) {
	b := newBench(tb)
	run := func(n int) func() error {
		return func() error {
			b.opt.Recipe.Epochs = n
			return b.fitCached(b.ctx, b.fresh(), newLengths(nil), 0, 1)
		}
	}
	b.compare(tb, []string{"one-", "four-"}, run(1), run(4))
}

// fresh returns the heads that are trained, as if nothing had been done to them.
func (b *bench) fresh() []*head {
	var heads []*head
	for _, h := range b.heads {
		if !h.own {
			heads = append(heads, &head{tap: h.tap, i: h.i, norm: b.opt.Recipe.Norm})
		}
	}
	return heads
}
