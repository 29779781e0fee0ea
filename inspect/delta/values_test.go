package delta

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
)

// slowValues is the definition, number by number, in two passes.
func slowValues(x, y []float64, tol tolerance) (v Values, cosine, relL2, meanA, stdA float64) {
	var n, xx, yy, xy, dd, sum float64
	largest := 0.0
	for i, a := range x {
		b := y[i]
		v.Elements++
		differ := a != b && !(math.IsNaN(a) && math.IsNaN(b))
		odd := math.IsNaN(a) || math.IsNaN(b) || math.IsInf(a, 0) || math.IsInf(b, 0)
		if differ {
			v.Changed++
			if odd || math.Abs(b-a) > tol.abs+tol.rel*math.Abs(a) {
				v.Beyond++
			}
			if b == 0 {
				v.NewZeros++
			}
			if a == 0 {
				v.GoneZeros++
			}
		}
		if odd {
			continue
		}
		if d := math.Abs(b - a); d > largest {
			largest = d
			v.MaxAbs, v.At = &d, []int64{int64(i)}
		}
		n++
		sum += a
		xx += a * a
		yy += b * b
		xy += a * b
		dd += (b - a) * (b - a)
	}
	meanA = sum / n
	for i, a := range x {
		if b := y[i]; a-a == 0 && b-b == 0 {
			stdA += (a - meanA) * (a - meanA)
		}
	}
	return v, xy / math.Sqrt(xx) / math.Sqrt(yy), math.Sqrt(dd / xx), meanA, math.Sqrt(stdA / n)
}

func near(a *float64, b, tol float64) bool {
	return a != nil && math.Abs(*a-b) <= tol*max(1, math.Abs(b))
}

func TestValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		n := 1 + r.IntN(5000)
		x, y := make([]float64, n), make([]float64, n)
		shift := []float64{0, 3, 1e6}[round%3]
		for i := range x {
			x[i] = float64(float32(shift + r.NormFloat64()))
			switch r.IntN(5 + round%40) {
			case 0:
				y[i] = 0
			case 1:
				x[i], y[i] = 0, r.NormFloat64()
			case 2:
				y[i] = x[i] + r.NormFloat64()/10
			default:
				y[i] = x[i]
			}
			if round%4 == 1 && r.IntN(50) == 0 {
				odd := []float64{math.NaN(), math.Inf(1), math.Inf(-1)}
				if x[i] = odd[r.IntN(3)]; r.IntN(2) == 0 {
					y[i] = odd[r.IntN(3)]
				}
			}
		}
		tol := tolerance{rel: float64(round%2) * 0.01, abs: float64(round%3) * 0.01}
		// In parts, as the goroutines do.
		var sum tally
		pivot := 0.0
		if x[0]-x[0] == 0 {
			pivot = x[0]
		}
		sum.pivotA, sum.pivotB, sum.tol = pivot, -pivot, tol
		for from := 0; from < n; from += 1700 {
			to := min(from+1700, n)
			part := tally{tol: tol, pivotA: pivot, pivotB: -pivot}
			addBlock(&part, x[from:to], y[from:to], int64(from))
			sum.merge(&part)
		}
		got := sum.values([]int64{int64(n)})
		want, cosine, relL2, mean, std := slowValues(x, y, tol)
		if got.Elements != want.Elements || got.Changed != want.Changed || got.Beyond != want.Beyond || got.NewZeros != want.NewZeros || got.GoneZeros != want.GoneZeros {
			t.Fatalf("round %d: %+v, want %+v", round, got, want)
		}
		if (got.MaxAbs == nil) != (want.MaxAbs == nil) || got.MaxAbs != nil && (*got.MaxAbs != *want.MaxAbs || !slices.Equal(got.At, want.At)) {
			t.Errorf("round %d: max %v at %v, want %v at %v", round, got.MaxAbs, got.At, want.MaxAbs, want.At)
		}
		if !near(got.Cosine, cosine, 1e-12) || !near(got.RelL2, relL2, 1e-12) || !near(got.MeanA, mean, 1e-12) || !near(got.StdA, std, 1e-9) {
			t.Errorf("round %d: cosine %v %v, relative %v %v, mean %v %v, deviation %v %v", round, *got.Cosine, cosine, *got.RelL2, relL2, *got.MeanA, mean, *got.StdA, std)
		}
	}
}

// A side that is far smaller than the other has its own moments and direction.
func TestValuesOfOtherSize(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, scale := range []float64{1e-30, 1e-9, 1e-6, 1, 1e6, 1e9, 1e30} {
		x, y := make([]float64, 3000), make([]float64, 3000)
		for i := range x {
			x[i] = 0.1 + r.NormFloat64()
			y[i] = scale * x[i]
		}
		var want tally
		addBlock(&want, y, y, 0)
		w := want.values(nil)
		s := tally{pivotA: x[0], pivotB: y[0]}
		addBlock(&s, x, y, 0)
		v := s.values(nil)
		if !near(v.Cosine, 1, 1e-12) || math.Abs(*v.StdB / *w.StdA - 1) > 1e-12 || math.Abs(*v.MeanB / *w.MeanA - 1) > 1e-9 {
			t.Errorf("scale %g: cosine %v, mean %g, want %g, deviation %g, want %g", scale, *v.Cosine, *v.MeanB, *w.MeanA, *v.StdB, *w.StdA)
		}
	}
}

func TestDigits(t *testing.T) {
	for _, c := range []struct {
		x, y []float64
		want int
	}{{[]float64{1, 0.5}, []float64{1, 0.5001}, 4}, {[]float64{100, 1}, []float64{100, 1.9}, 2}, {[]float64{1}, []float64{2}, 0}, {[]float64{1}, []float64{30}, 0}, {[]float64{1e300, 0}, []float64{1e300, 5e-324}, 17}} {
		s := tally{}
		addBlock(&s, c.x, c.y, 0)
		if v := s.values(nil); *v.Digits != c.want {
			t.Errorf("%v and %v are the same to %d digits, want %d", c.x, c.y, *v.Digits, c.want)
		}
	}
	s := tally{}
	addBlock(&s, []float64{0}, []float64{1}, 0)
	if v := s.values(nil); v.Digits != nil || v.RelL2 != nil || v.Cosine != nil {
		t.Errorf("%+v", v)
	}
}

func TestAscending(t *testing.T) {
	for _, c := range []struct{ seq, want []int }{{nil, nil}, {[]int{3}, []int{0}}, {[]int{0, 2, 1, 3}, []int{0, 2, 3}}, {[]int{5, 1, 2, 3, 4, 0}, []int{1, 2, 3, 4}}} {
		if got := ascending(c.seq); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.seq, got, c.want)
		}
	}
}

// big is a VGG-16 of 553 MB whose weights are zero, but for the second layer of
// the classifier, which tuned has changed by noise.
func big(t testing.TB, dir, name string, noise float32) string {
	t.Helper()
	d, err := arch.VGG16(arch.Options{Zero: true})
	if err != nil {
		t.Fatal(err)
	}
	p := d.Initializer("classifier.3.weight")
	v := make([]float32, 4096*4096)
	r := rand.New(rand.NewPCG(1, 1))
	s := rand.New(rand.NewPCG(2, 2))
	for i := range v {
		v[i] = r.Float32() - 0.5
		if noise > 0 {
			v[i] += noise * (s.Float32() - 0.5)
		}
	}
	d.SetFloat32(p, v, 4096, 4096)
	path := filepath.Join(dir, name)
	if err := arch.Write(path, d); err != nil {
		t.Fatal(err)
	}
	return path
}

func opened(t testing.TB, path string) *inspect.Model {
	t.Helper()
	m, err := inspect.Open(t.Context(), path, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestMemory compares two models of 553 MB, one of whose layers of 67 MB was
// changed, in less than 64 MB.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes and reads half a gigabyte")
	}
	dir := t.TempDir()
	pa, pb := big(t, dir, "a.onnx", 0), big(t, dir, "b.onnx", 0.1)
	a, b := opened(t, pa), opened(t, pb)
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		most := uint64(0)
		for {
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	d, err := Compare(t.Context(), a, b, Options{Workers: 2})
	close(stop)
	most := <-peak
	if err != nil {
		t.Fatal(err)
	}
	if got := summary(d); len(got) != 1 || d.Totals.Filters.Changed != 4096 {
		t.Errorf("%v, %+v", got, d.Totals)
	}
	used := (most - min(most, before.HeapAlloc)) >> 20
	t.Logf("%d MB beside the %d MB in use before", used, before.HeapAlloc>>20)
	if used > 64 {
		t.Errorf("%d MB", used)
	}
}

// BenchmarkWeights compares two models of 553 MB that are the same: what the disk
// and the reading of numbers take.
func BenchmarkWeights(b *testing.B) {
	dir := b.TempDir()
	path := big(b, dir, "a.onnx", 0)
	x, y := opened(b, path), opened(b, path)
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(2 * info.Size())
	for b.Loop() {
		if _, err := Compare(b.Context(), x, y, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChanged does so with one layer of 67 MB changed, with and without its
// 4,096 filters.
func BenchmarkChanged(b *testing.B) {
	dir := b.TempDir()
	x, y := opened(b, big(b, dir, "a.onnx", 0)), opened(b, big(b, dir, "b.onnx", 0.1))
	for name, skip := range map[string]bool{"weights": true, "filters": false} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Compare(b.Context(), x, y, Options{SkipFilters: skip}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFilters finds 2,048 filters of 1,152 weights each that were put into
// another order and changed.
func BenchmarkFilters(b *testing.B) {
	m := sketch(b, 13).input("x", -1, 128, 4, 4).random("w", 1, 2048, 128, 3, 3).node("Conv", "x w", "y").output("y", -1, 2048, 2, 2)
	c := m.clone()
	c.reorder("w", 0, rand.New(rand.NewPCG(5, 5)).Perm(2048))
	v := c.weights("w")
	tune(v, 0.3, rand.New(rand.NewPCG(6, 6)))
	c.set("w", v)
	x, y := m.open(), c.open()
	for b.Loop() {
		if _, err := Compare(b.Context(), x, y, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStructure matches two networks of some hundred nodes by structure alone.
func BenchmarkStructure(b *testing.B) {
	m := loaded(b, foldedFile)
	c := m.clone().anonymous()
	x, y := m.open(), c.open()
	for b.Loop() {
		if _, err := Compare(b.Context(), x, y, Options{SkipFilters: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestUnreadable compares types that have no numbers by their bytes, and says
// where it cannot.
func TestUnreadable(t *testing.T) {
	make := func(s string, odd int32) *bench {
		m := sketch(t, 13).input("x", -1, 4)
		m.Graph.Initializer = append(m.Graph.Initializer, sketch(t, 13).ints("i", 1<<60, 1<<60+1).Graph.Initializer...)
		m.floats("c", []int64{2}, 1, 2)
		last := m.Graph.Initializer[1]
		last.Name, last.DataType, last.RawData, last.StringData, last.Dims = proto.String("s"), proto.Int32(int32(8)), nil, [][]byte{[]byte(s)}, []int64{1}
		if odd == 1 {
			m.Graph.Initializer[0].Int64Data[1]--
		}
		return m.node("Odd", "x s i", "y").output("y", -1, 2)
	}
	if d := compared(t, make("a", 0), make("a", 0), Options{}); !d.Same || d.Totals.TensorsEqual != 2 {
		t.Errorf("%v %+v", summary(d), d.Totals)
	}
	expect(t, compared(t, make("a", 0), make("b", 0), Options{}), "n_y: changed operand:1")
	// 2^60+1 is 2^60 as a float64.
	expect(t, compared(t, make("a", 0), make("a", 1), Options{}), "n_y: changed operand:2")
}
