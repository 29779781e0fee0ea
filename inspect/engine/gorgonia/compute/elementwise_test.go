package compute

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// floats returns n numbers from a normal distribution.
func floats(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// ulps is how many float32 lie between a and b; NaN equals NaN.
func ulps(a, b float32) float64 {
	if a != a || b != b {
		if a != a && b != b {
			return 0
		}
		return math.Inf(1)
	}
	order := func(x float32) int64 {
		b := int64(int32(math.Float32bits(x)))
		if b < 0 {
			b = math.MinInt32 - b
		}
		return b
	}
	return math.Abs(float64(order(a) - order(b)))
}

var special = []float32{0, float32(math.Copysign(0, -1)), 1, -1, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
	88.72, 88.73, 89, 100, 1000, -87.3, -87.4, -88, -100, -103.9, -104, -105, -1000, math.MaxFloat32, -math.MaxFloat32,
	math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 1e-20, -1e-20, .625, -.625, .6250001, .9375, .93750006, 4, 4.1, -4, 9, -9, 20, 30, -30}

// sweep are numbers of every magnitude, both signs, and the special ones.
func sweep() []float32 {
	x := slices.Clone(special)
	for b := uint32(0); b < 0x7f800000; b += 10007 {
		v := math.Float32frombits(b)
		x = append(x, v, -v)
	}
	for i := range 200_000 {
		x = append(x, float32(i-100_000)*.0011)
	}
	return x
}

func TestFunctionsOfOneNumber(t *testing.T) {
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	clamp := func(x, lo, hi float64) float64 { return math.Min(math.Max(x, lo), hi) }
	cases := []struct {
		name string
		f    func(dst, x []float32)
		wide func(dst, x []float64)
		want func(x float64) float64
		ulps float64
		abs  float64 // allowed beside ulps
	}{
		{"exp", Exp[float32], Exp[float64], math.Exp, 2, 0},
		// Below -88 exp(-x) is no float32 and the sigmoid is 0 in place of 1e-39.
		{"sigmoid", Sigmoid[float32], Sigmoid[float64], sigmoid, 3, 6e-39},
		{"silu", SiLU[float32], SiLU[float64], func(x float64) float64 { return x * sigmoid(x) }, 4, 1e-36},
		{"tanh", Tanh[float32], Tanh[float64], math.Tanh, 3, 0},
		{"erf", Erf[float32], Erf[float64], math.Erf, 3, 0},
		{"gelu", Gelu[float32], Gelu[float64], func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }, 4, 5e-7},
		{"gelu tanh", GeluTanh[float32], GeluTanh[float64], func(x float64) float64 {
			return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+.044715*x*x*x)))
		}, 4, 1e-6},
		{"relu", Relu[float32], Relu[float64], func(x float64) float64 { return math.Max(x, 0) }, 0, 0},
		{"clip", Clip[float32](-1.5, 6), Clip[float64](-1.5, 6), func(x float64) float64 { return clamp(x, -1.5, 6) }, 0, 0},
		{"hard sigmoid", HardSigmoid[float32](.2, .5), HardSigmoid(.2, .5), func(x float64) float64 { return clamp(.2*x+.5, 0, 1) }, 4, 1e-7},
		{"hard swish", HardSwish[float32], HardSwish[float64], func(x float64) float64 { return x * clamp(x/6+.5, 0, 1) }, 8, 1e-6},
		{"leaky relu", LeakyRelu[float32](.125), LeakyRelu(.125), func(x float64) float64 { return math.Max(x, x*.125) }, 1, 0},
		{"thresholded relu", ThresholdedRelu[float32](.5), ThresholdedRelu(.5), func(x float64) float64 {
			if x > .5 {
				return x
			}
			return 0
		}, 0, 0},
		{"elu", Elu[float32](1.5, 1, 1), Elu[float64](1.5, 1, 1), func(x float64) float64 {
			if x > 0 {
				return x
			}
			return 1.5 * math.Expm1(x)
		}, 1, 0},
		{"celu", Elu[float32](2, 1, 2), Elu[float64](2, 1, 2), func(x float64) float64 {
			return math.Max(0, x) + math.Min(0, 2*math.Expm1(x/2))
		}, 1, 0},
		{"softplus", Real[float32](Softplus), Real[float64](Softplus), func(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }, 1, 0},
		{"abs", Abs[float32], Abs[float64], math.Abs, 0, 0},
		{"neg", Neg[float32], Neg[float64], func(x float64) float64 { return -x }, 0, 0},
	}
	x := sweep()
	wide := make([]float64, len(x))
	for i, v := range x {
		wide[i] = float64(v)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := make([]float32, len(x))
			Map(NewWorkers(3), c.f, got, x)
			got64 := make([]float64, len(x))
			c.wide(got64, wide)
			worst := 0.
			for i, v := range wide {
				want := c.want(v)
				if c.name == "thresholded relu" && v != v {
					continue
				}
				if e := ulps(got[i], float32(want)); e > c.ulps && !(math.Abs(float64(got[i])-want) <= c.abs) {
					t.Fatalf("f(%g) = %g, want %g: %g ulps", x[i], got[i], float32(want), e)
				} else if e <= c.ulps {
					worst = max(worst, e)
				}
				if !(math.Abs(got64[i]-want) <= 1e-14*math.Abs(want)+1e-15) && !(want != want && got64[i] != got64[i]) && want != got64[i] {
					t.Fatalf("float64: f(%g) = %g, want %g", v, got64[i], want)
				}
			}
			t.Logf("at most %g ulps", worst)
			// In place, in any length, the same numbers.
			for n := range 40 {
				y := slices.Clone(x[100 : 100+n])
				c.f(y, y)
				for i := range y {
					if math.Float32bits(y[i]) != math.Float32bits(got[100+i]) {
						t.Fatalf("%d numbers in place: f(%g) = %g, else %g", n, x[100+i], y[i], got[100+i])
					}
				}
			}
		})
	}
}

func TestSign(t *testing.T) {
	got := make([]float64, 4)
	Sign(got, []float64{-3, 0, 5, math.NaN()})
	if got[0] != -1 || got[1] != 0 || got[2] != 1 || got[3] == got[3] {
		t.Error(got)
	}
	n := make([]int8, 3)
	Sign(n, []int8{-3, 0, 5})
	if !slices.Equal(n, []int8{-1, 0, 1}) {
		t.Error(n)
	}
}

// The form of this processor agrees with the portable one.
func TestPortable(t *testing.T) {
	x := sweep()
	for _, c := range []struct {
		name     string
		f, plain func(dst, x []float32)
		ulps     float64
	}{
		{"exp", exp32, expGo, 1},
		{"sigmoid", sigmoid32, sigmoidGo, 2},
		{"silu", silu32, siluGo, 2},
		{"tanh", tanh32, tanhGo, 2},
		{"erf", erf32, erfGo, 2},
		{"relu", relu32, reluGo, 0},
		{"hard swish", hardSwish32, hardSwishGo[float32], 2},
		{"clip", func(dst, x []float32) { clip32(dst, x, -2, 3) }, func(dst, x []float32) { clipGo(dst, x, -2, 3) }, 0},
		{"clip below", func(dst, x []float32) { clip32(dst, x, 3, -2) }, func(dst, x []float32) { clipGo(dst, x, 3, -2) }, 0},
	} {
		a, b := make([]float32, len(x)), make([]float32, len(x))
		c.f(a, x)
		c.plain(b, x)
		for i := range a {
			// Near the end of hard swish's ramp the two cancel differently.
			if e := ulps(a[i], b[i]); e > c.ulps && !(c.name == "hard swish" && math.Abs(float64(a[i]-b[i])) < 1e-6) {
				t.Fatalf("%s(%g) = %g, portable %g", c.name, x[i], a[i], b[i])
			}
		}
	}
}

func BenchmarkFunctions(b *testing.B) {
	x := floats(1, 1<<20)
	dst := make([]float32, len(x))
	for _, c := range []struct {
		name string
		f    func(dst, x []float32)
	}{
		{"exp", Exp[float32]}, {"sigmoid", Sigmoid[float32]}, {"silu", SiLU[float32]}, {"tanh", Tanh[float32]}, {"erf", Erf[float32]},
		{"gelu", Gelu[float32]}, {"relu", Relu[float32]}, {"hardswish", HardSwish[float32]}, {"clip", Clip[float32](0, 6)},
		{"exp portable", expGo}, {"sigmoid portable", sigmoidGo}, {"silu portable", siluGo}, {"relu portable", reluGo},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				Map(nil, c.f, dst, x)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(x)), "ns/number")
		})
	}
}

// each calls f for every place of shape in row-major order.
func each(shape []int, f func(at int, index []int)) {
	index := make([]int, len(shape))
	for at := range size(shape) {
		f(at, index)
		for i := len(shape) - 1; i >= 0; i-- {
			if index[i]++; index[i] < shape[i] {
				break
			}
			index[i] = 0
		}
	}
}

// place is where an index lies in a tensor of the shape, broadcast at its end.
func place(shape, index []int) int {
	at := 0
	for i, n := range shape {
		k := index[len(index)-len(shape)+i]
		if n == 1 {
			k = 0
		}
		at = at*n + k
	}
	return at
}

func TestBroadcast(t *testing.T) {
	cases := [][2][]int{
		{{}, {}}, {{3}, {}}, {{}, {3}}, {{1}, {1, 1}}, {{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{2, 3}, {2, 1}}, {{2, 1}, {1, 3}},
		{{2, 3, 4, 5}, {3, 1, 1}}, {{2, 3, 4, 5}, {2, 3, 1, 1}}, {{2, 3, 1, 1}, {2, 3, 4, 5}}, {{2, 3, 4, 5}, {3, 1, 5}},
		{{2, 1, 4, 1}, {3, 1, 5}}, {{2, 3, 4, 5}, {5}}, {{2, 3, 4, 5}, {4, 5}}, {{1, 3, 1, 5, 1}, {2, 1, 4, 1, 6}},
		{{3, 0}, {1}}, {{70000}, {1}}, {{300, 200}, {300, 1}}, {{300, 200}, {200}}, {{2, 40000}, {2, 1}},
	}
	for _, c := range cases {
		shape, err := BroadcastShape(c[0], c[1])
		if err != nil {
			t.Fatal(err)
		}
		x, y := floats(1, size(c[0])), floats(2, size(c[1]))
		for name, op := range map[string]struct {
			op Binary[float32, float32]
			f  func(x, y float32) float32
		}{
			"add": {Add[float32](), func(x, y float32) float32 { return x + y }},
			"sub": {Sub[float32](), func(x, y float32) float32 { return x - y }},
			"mul": {Mul[float32](), func(x, y float32) float32 { return x * y }},
			"div": {Div[float32](), func(x, y float32) float32 { return x / y }},
			"max": {Max[float32](), func(x, y float32) float32 { return float32(math.Max(float64(x), float64(y))) }},
			"min": {Min[float32](), func(x, y float32) float32 { return float32(math.Min(float64(x), float64(y))) }},
			"prelu": {PRelu[float32](), func(x, y float32) float32 {
				if x < 0 {
					return x * y
				}
				return x
			}},
		} {
			got := make([]float32, size(shape))
			Broadcast(NewWorkers(3), op.op, got, shape, x, c[0], y, c[1])
			each(shape, func(at int, index []int) {
				if want := op.f(x[place(c[0], index)], y[place(c[1], index)]); got[at] != want {
					t.Fatalf("%s of %v and %v at %v: %g, want %g", name, c[0], c[1], index, got[at], want)
				}
			})
		}
		cond := make([]bool, size(c[1]))
		for i := range cond {
			cond[i] = y[i] > 0
		}
		got := make([]float32, size(shape))
		Select(NewWorkers(3), got, shape, cond, c[1], x, c[0], y, c[1])
		each(shape, func(at int, index []int) {
			want := y[place(c[1], index)]
			if cond[place(c[1], index)] {
				want = x[place(c[0], index)]
			}
			if got[at] != want {
				t.Fatalf("select %v and %v at %v: %g, want %g", c[0], c[1], index, got[at], want)
			}
		})
	}
	for _, c := range [][][]int{{{2}, {3}}, {{2, 3}, {2}}, {{0}, {2}}} {
		if s, err := BroadcastShape(c...); err == nil {
			t.Errorf("%v broadcast to %v", c, s)
		}
	}
}

func TestIntegers(t *testing.T) {
	for _, c := range []struct {
		name string
		op   Binary[int64, int64]
		x, y int64
		want int64
	}{
		{"div", Div[int64](), -7, 2, -3},
		{"div", Div[int64](), math.MinInt64, -1, math.MinInt64},
		{"mod", Remainder[int64](), -7, 3, 2},
		{"mod", Remainder[int64](), 7, -3, -2},
		{"mod", Remainder[int64](), 6, -3, 0},
		{"pow", Pow[int64](), 3, 4, 81},
		{"pow", Pow[int64](), -3, 2, 9},
		{"max", Max[int64](), -3, 2, 2},
	} {
		got := make([]int64, 3)
		x, y := []int64{c.x, c.x, c.x}, []int64{c.y, c.y, c.y}
		c.op.Both(got, x, y)
		c.op.Left(got[1:2], x[:1], c.y)
		c.op.Right(got[2:], c.x, y[:1])
		if !slices.Equal(got, []int64{c.want, c.want, c.want}) {
			t.Errorf("%s(%d, %d) = %v, want %d", c.name, c.x, c.y, got, c.want)
		}
	}
}

func BenchmarkBroadcast(b *testing.B) {
	for _, c := range [][2][]int{
		{{8, 32, 56, 56}, {8, 32, 56, 56}}, {{8, 32, 56, 56}, {}}, {{8, 32, 56, 56}, {8, 32, 1, 1}}, {{8, 56, 56, 32}, {32}}, {{8, 32, 56, 56}, {1, 32, 1, 1}},
	} {
		b.Run(fmt.Sprint(c[0], c[1]), func(b *testing.B) {
			x, y := floats(1, size(c[0])), floats(2, size(c[1]))
			dst := make([]float32, len(x))
			op := Mul[float32]()
			b.SetBytes(int64(4 * len(x)))
			b.ReportAllocs()
			for b.Loop() {
				Broadcast(nil, op, dst, c[0], x, c[0], y, c[1])
			}
		})
	}
}
