package gradient

import (
	"context"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect/engine"
)

// BenchmarkStep times a training step beside the bare forward pass of the same batch,
// one after the other, of the model that FILTERLENS_TRAIN_MODEL names, else of a
// fixture. FILTERLENS_TRAIN_BATCH is the batch (100), FILTERLENS_TRAIN_THREADS the
// number of threads (0: the runtime's choice).
//
//	FILTERLENS_TRAIN_MODEL=vgg16-cifar100.onnx go test -run - -bench Step -benchtime 5x ./export/gradient
func BenchmarkStep(b *testing.B) {
	path := os.Getenv("FILTERLENS_TRAIN_MODEL")
	if path == "" {
		path = fixtures + "vgg16-glyphs20.onnx"
	}
	number := func(name string, def int) int {
		if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return v
		}
		return def
	}
	eng := runtime(b, number("FILTERLENS_TRAIN_THREADS", 0))
	m := open(b, path)
	opt := BuildOptions{Batch: number("FILTERLENS_TRAIN_BATCH", 100), Momentum: 0.9, WeightDecay: 5e-4, Clip: 5}
	g, err := Build(m, opt)
	if err != nil {
		b.Fatal(err)
	}
	bytes, f, err := answering(m, opt.Batch)
	if err != nil {
		b.Fatal(err)
	}
	t := &training{eng: eng, m: m, g: g, opt: Defaults()}
	if err := t.read(context.Background(), &opt); err != nil {
		b.Fatal(err)
	}
	t.arrange()
	t.sess = load(b, eng, engine.Model{Name: "step", Bytes: g.Model})
	if err := t.hold(); err != nil {
		b.Fatal(err)
	}
	forward := load(b, eng, engine.Model{Name: "forward", Bytes: bytes})
	batch := newBatch(g)
	for i := range batch.image.Float32() {
		batch.image.Float32()[i] = float32(i%17)/8 - 1
	}
	for i := range opt.Batch {
		batch.target.Float32()[i*g.Labels+i%g.Labels] = 1
		batch.rows.Float32()[i] = 1 / float32(opt.Batch)
	}
	step := func() time.Duration {
		begin := time.Now()
		if _, _, err := t.step(context.Background(), batch, 0); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin)
	}
	pass := func() time.Duration {
		begin := time.Now()
		if err := forward.Run(context.Background(), map[string]*engine.Tensor{f.image: batch.image}, map[string]*engine.Tensor{f.logits: nil}); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin)
	}
	step()
	pass()
	var steps, passes, ratios []float64
	for b.Loop() {
		p, s := pass(), step()
		passes, steps = append(passes, p.Seconds()), append(steps, s.Seconds())
		ratios = append(ratios, s.Seconds()/p.Seconds())
	}
	for _, v := range [][]float64{steps, passes, ratios} {
		slices.Sort(v)
	}
	b.ReportMetric(1e3*steps[len(steps)/2], "ms/step")
	b.ReportMetric(1e3*passes[len(passes)/2], "ms/forward")
	b.ReportMetric(1e3*steps[0], "ms/step-min")
	b.ReportMetric(1e3*passes[0], "ms/forward-min")
	b.ReportMetric(ratios[len(ratios)/2], "forwards/step")
	b.ReportMetric(float64(g.Bytes)/(1<<20), "MiB")
}
