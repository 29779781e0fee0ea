package gorgonia

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// fixture is the trained VGG-16 of the repository.
const fixture = "../../../fixtures/vgg16-glyphs20.onnx"

// models returns the paths of the models that stand for real ones: the fixture,
// a VGG-16 with a fraction of its filters, and a file that
// FILTERLENS_TEST_MODEL names.
func models(t testing.TB) map[string]string {
	t.Helper()
	paths := make(map[string]string)
	if _, err := os.Stat(fixture); err == nil {
		paths["fixture"] = fixture
	}
	if path := os.Getenv("FILTERLENS_TEST_MODEL"); path != "" {
		paths["named"] = path
	}
	d, err := arch.VGG16(arch.Options{Width: 1. / 16, Classes: 10, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	paths["arch"] = write(t, d)
	return paths
}

func write(t testing.TB, d *onnxfile.Draft) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := arch.Write(path, d); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, e engine.Engine, m engine.Model) engine.Session {
	t.Helper()
	s, err := e.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// batch draws images for the first input of s.
func batch(s engine.Session, n int64, seed uint64) map[string]*engine.Tensor {
	in := s.Inputs()[0]
	shape := slices.Clone(in.Shape)
	shape[0] = n
	x := make([]float32, engine.Elements(shape))
	r := rand.New(rand.NewPCG(seed, 2))
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return map[string]*engine.Tensor{in.Name: engine.NewFloat32(x, shape...)}
}

func answer(t testing.TB, s engine.Session, feed map[string]*engine.Tensor) *engine.Tensor {
	t.Helper()
	name := s.Outputs()[0].Name
	out := map[string]*engine.Tensor{name: nil}
	if err := s.Run(t.Context(), feed, out); err != nil {
		t.Fatal(err)
	}
	return out[name]
}

func TestModelsAgainstORT(t *testing.T) {
	reference := openORT(t)
	for name, path := range models(t) {
		t.Run(name, func(t *testing.T) {
			m := engine.Model{Name: name, Path: path}
			theirs, ours := load(t, reference, m), load(t, Open(Options{}), m)
			for _, n := range []int64{1, 3, 1} {
				feed := batch(ours, n, uint64(n))
				got, want := answer(t, ours, feed), answer(t, theirs, feed)
				d := difference(got, want)
				t.Logf("batch %d: logits differ by %.2g of the largest", n, d)
				if d > 1e-4 {
					t.Errorf("batch %d: logits differ by %g of the largest", n, d)
				}
			}
		})
	}
}

// BenchmarkFixture gives the time of one batch of 32 images, per image in the
// metric, for both engines.
func BenchmarkFixture(b *testing.B) {
	path := fixture
	if p := os.Getenv("FILTERLENS_TEST_MODEL"); p != "" {
		path = p
	}
	if _, err := os.Stat(path); err != nil {
		b.Skip(err)
	}
	const n = 32
	for _, e := range []engine.Engine{Open(Options{}), openORT(b)} {
		b.Run(e.Name(), func(b *testing.B) {
			s := load(b, e, engine.Model{Name: "fixture", Path: path})
			feed := batch(s, n, 1)
			answer(b, s, feed)
			b.ReportAllocs()
			for b.Loop() {
				answer(b, s, feed)
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N*n), "ms/image")
		})
	}
}
