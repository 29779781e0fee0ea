package compute

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas"
	gonumblas "gonum.org/v1/gonum/blas/gonum"
)

func (x arch) String() string {
	return [...]string{"fastest", "portable", "avx2", "avx512"}[x]
}

func random(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// near fails unless got is within the roundings of n additions of numbers about
// as large as magnitude.
func near(got float32, want, magnitude float64, n int) bool {
	if math.IsNaN(want) {
		return math.IsNaN(float64(got))
	}
	if math.IsInf(want, 0) {
		return float64(got) == want
	}
	return math.Abs(float64(got)-want) <= 1e-7*(4+math.Sqrt(float64(n)))*(magnitude+1e-30)
}

type gemmCase struct {
	Gemm
	lda, ldb, ldc int
	a, b, c       []float32
}

// newGemmCase makes matrices with gaps between the rows that hold NaN.
func newGemmCase(r *rand.Rand, g Gemm, gap int) *gemmCase {
	s := &gemmCase{Gemm: g}
	matrix := func(rows, columns int, trans bool) ([]float32, int) {
		if trans {
			rows, columns = columns, rows
		}
		ld := columns + gap
		x := random(r, rows*ld)
		for i := range rows {
			for j := columns; j < ld; j++ {
				x[i*ld+j] = float32(math.NaN())
			}
		}
		if rows > 0 {
			x = x[:(rows-1)*ld+columns]
		}
		return x, ld
	}
	s.a, s.lda = matrix(g.M, g.K, g.TransA)
	s.b, s.ldb = matrix(g.K, g.N, g.TransB)
	s.c, s.ldc = matrix(g.M, g.N, false)
	if g.Beta == 0 {
		for i := range s.c {
			s.c[i] = float32(math.NaN())
		}
	}
	return s
}

// reference computes the sums and the sums of their terms' magnitudes.
func (s *gemmCase) reference() (sums, sizes []float64) {
	sums, sizes = make([]float64, s.M*s.N), make([]float64, s.M*s.N)
	for i := range s.M {
		for j := range s.N {
			var sum, size float64
			for p := range s.K {
				x, y := i*s.lda+p, p*s.ldb+j
				if s.TransA {
					x = p*s.lda + i
				}
				if s.TransB {
					y = j*s.ldb + p
				}
				v := float64(s.a[x]) * float64(s.b[y])
				sum += v
				size += math.Abs(v)
			}
			sum *= float64(s.Alpha)
			size *= math.Abs(float64(s.Alpha))
			if s.Beta != 0 {
				v := float64(s.Beta) * float64(s.c[i*s.ldc+j])
				sum += v
				size += math.Abs(v)
			}
			sums[i*s.N+j], sizes[i*s.N+j] = sum, size
		}
	}
	return sums, sizes
}

func (s *gemmCase) check(t *testing.T, c []float32, sums, sizes []float64) {
	t.Helper()
	for i := range s.M {
		for j := range s.N {
			if got := c[i*s.ldc+j]; !near(got, sums[i*s.N+j], sizes[i*s.N+j], s.K) {
				t.Fatalf("%s, %+v, lda %d, ldb %d, ldc %d: row %d, column %d is %g, want %g",
					s.arch, s.Gemm, s.lda, s.ldb, s.ldc, i, j, got, sums[i*s.N+j])
			}
		}
		for j := s.N; j < s.ldc && i < s.M-1; j++ {
			if v := c[i*s.ldc+j]; !math.IsNaN(float64(v)) {
				t.Fatalf("%s, %+v: wrote beyond row %d", s.arch, s.Gemm, i)
			}
		}
	}
}

// runAll runs the case with every set of kernels and several numbers of workers.
func (s *gemmCase) runAll(t *testing.T) {
	t.Helper()
	sums, sizes := s.reference()
	for _, x := range arches() {
		s.arch = x
		var first []float32
		for _, n := range []int{1, 2, 5} {
			w := NewWorkers(n)
			c := append([]float32(nil), s.c...)
			scratch := make([]float32, s.Scratch(w))
			for i := range scratch {
				scratch[i] = float32(math.NaN())
			}
			s.Run(w, s.a, s.lda, s.b, s.ldb, c, s.ldc, scratch)
			if first == nil {
				first = c
				s.check(t, c, sums, sizes)
				continue
			}
			for i, v := range c {
				if math.Float32bits(v) != math.Float32bits(first[i]) {
					t.Fatalf("%s, %+v: %d workers and 1 differ at %d: %g and %g", x, s.Gemm, n, i, v, first[i])
				}
			}
		}
	}
}

func TestGemm(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	sizes := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 34, 65}
	pick := func() int { return sizes[r.IntN(len(sizes))] }
	scales := []float32{0, 1, 1, 1, -0.5}
	for range 300 {
		g := Gemm{
			TransA: r.IntN(2) == 1, TransB: r.IntN(2) == 1, M: pick(), N: pick(), K: pick(),
			Alpha: scales[1+r.IntN(4)], Beta: scales[r.IntN(5)],
		}
		if r.IntN(20) == 0 {
			g.K = 0
		}
		newGemmCase(r, g, r.IntN(3)).runAll(t)
	}
}

// Sizes at which the ways of cutting change.
func TestGemmLarge(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i, g := range []Gemm{
		{M: 1, N: 5000, K: 50},
		{M: 3, N: 700, K: 333},
		{M: 1, N: 77, K: 9001, TransB: true},
		{M: 70, N: 1, K: 5001},
		{M: 32, N: 130, K: 2100, TransB: true},
		{M: 33, N: 70, K: 1100, TransB: true},
		{M: 300, N: 4, K: 700, TransB: true},
		{M: 300, N: 4, K: 700},
		{M: 9, N: 1700, K: 641},
		{M: 170, N: 40, K: 1300},
		{M: 60, N: 900, K: 321, TransA: true},
		{M: 500, N: 3, K: 40, TransA: true},
		{M: 1, N: 300, K: 300, TransA: true},
		{M: 40, N: 1100, K: 3, TransA: true, TransB: true},
	} {
		g.Alpha, g.Beta = 1, 1
		if i%2 == 1 {
			g.Alpha, g.Beta = 0.5, 0
		}
		newGemmCase(r, g, i%2).runAll(t)
	}
}

// Panels that workers share in more than one round.
func TestGemmSharedRounds(t *testing.T) {
	if testing.Short() {
		t.Skip("large")
	}
	r := rand.New(rand.NewPCG(5, 6))
	g := Gemm{M: 12, N: 500, K: 2600, Alpha: 1}
	w := NewWorkers(5)
	p := g.product()
	p.arch = best
	if c := p.cut(w); best != portable && (!c.shared || c.together >= c.slices) {
		t.Fatalf("not in rounds: %+v", c)
	}
	newGemmCase(r, g, 0).runAll(t)
}

// What is not finite reaches exactly the results that it belongs to.
func TestGemmNotFinite(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	r := rand.New(rand.NewPCG(7, 8))
	for _, g := range []Gemm{
		{M: 13, N: 37, K: 20}, {M: 13, N: 37, K: 20, TransB: true}, {M: 40, N: 50, K: 20, TransA: true},
		{M: 50, N: 40, K: 20, TransB: true}, {M: 2, N: 37, K: 20}, {M: 7, N: 1, K: 20},
	} {
		g.Alpha = 1
		s := newGemmCase(r, g, 0)
		s.a[3], s.b[5] = inf, nan
		s.a[s.lda+1], s.b[s.ldb/2] = 0, -inf
		s.runAll(t)
	}
}

func TestGemmShortMatrixPanics(t *testing.T) {
	for name, f := range map[string]func(g Gemm, x []float32){
		"a": func(g Gemm, x []float32) { g.Run(nil, x[:15], 4, x, 4, x, 4, nil) },
		"b": func(g Gemm, x []float32) { g.Run(nil, x, 4, x[:15], 4, x, 4, nil) },
		"c": func(g Gemm, x []float32) { g.Run(nil, x, 4, x, 4, x[:15], 4, nil) },
		"d": func(g Gemm, x []float32) { g.Run(nil, x, 3, x, 4, x, 4, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f(Gemm{M: 4, N: 4, K: 4, Alpha: 1}, make([]float32, 16))
		})
	}
}

func FuzzGemm(f *testing.F) {
	f.Add(uint64(1), uint16(5), uint16(7), uint16(9), uint8(0))
	f.Add(uint64(2), uint16(1), uint16(70), uint16(33), uint8(2))
	f.Add(uint64(3), uint16(90), uint16(40), uint16(350), uint8(13))
	f.Fuzz(func(t *testing.T, seed uint64, m, n, k uint16, form uint8) {
		g := Gemm{
			M: int(m % 150), N: int(n % 150), K: int(k % 700), TransA: form&1 != 0, TransB: form&2 != 0,
			Alpha: 1, Beta: float32(form >> 2 & 1),
		}
		newGemmCase(rand.New(rand.NewPCG(seed, 0)), g, int(form>>3&1)).runAll(t)
	})
}

func BenchmarkGemm(b *testing.B) {
	for _, s := range [][3]int{
		{64, 1024, 27}, {64, 1024, 576}, {64, 32768, 576}, {128, 256, 1152}, {256, 64, 2304}, {512, 16, 4608}, {512, 4, 4608}, {512, 512, 4608},
		{32, 12544, 27}, {96, 12544, 16}, {24, 3136, 96}, {240, 784, 40}, {112, 196, 672}, {1280, 49, 320},
	} {
		g := Gemm{M: s[0], N: s[1], K: s[2], Alpha: 1}
		r := rand.New(rand.NewPCG(1, 1))
		x, y, z := random(r, g.M*g.K), random(r, g.K*g.N), make([]float32, g.M*g.N)
		flops := 2 * float64(g.M) * float64(g.N) * float64(g.K)
		for _, a := range arches() {
			for _, workers := range []int{1, 2} {
				b.Run(fmt.Sprintf("%dx%dx%d/%s/%d", g.M, g.K, g.N, a, workers), func(b *testing.B) {
					g := g
					g.arch = a
					w := NewWorkers(workers)
					scratch := make([]float32, g.Scratch(w))
					for b.Loop() {
						g.Run(w, x, g.K, y, g.N, z, g.N, scratch)
					}
					b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
		b.Run(fmt.Sprintf("%dx%dx%d/gonum/2", g.M, g.K, g.N), func(b *testing.B) {
			for b.Loop() {
				gonumblas.Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, g.M, g.N, g.K, 1, x, g.K, y, g.N, 0, z, g.N)
			}
			b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

// Fully connected layers: VGG-16's first on one sample and on a batch.
func BenchmarkGemmLinear(b *testing.B) {
	g := Gemm{N: 4096, K: 25088, TransB: true, Alpha: 1}
	y := make([]float32, g.N*g.K)
	for i := range y {
		y[i] = float32(i%7) - 3
	}
	for _, m := range []int{1, 4, 32, 64} {
		g.M = m
		x, z := make([]float32, g.M*g.K), make([]float32, g.M*g.N)
		for _, trans := range []bool{true, false} {
			g.TransB = trans
			ldb := g.N
			if trans {
				ldb = g.K
			}
			for _, workers := range []int{1, 2} {
				b.Run(fmt.Sprintf("%d/trans=%t/%d", m, trans, workers), func(b *testing.B) {
					w := NewWorkers(workers)
					scratch := make([]float32, g.Scratch(w))
					for b.Loop() {
						g.Run(w, x, g.K, y, ldb, z, g.N, scratch)
					}
					b.ReportMetric(float64(len(y))*4*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
					b.ReportMetric(2*float64(m)*float64(len(y))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}
