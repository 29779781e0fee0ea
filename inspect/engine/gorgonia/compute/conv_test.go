package compute

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

type convCase struct {
	Conv
	x, weights, bias, out []float32
}

func newConvCase(r *rand.Rand, c Conv, bias bool) *convCase {
	s := &convCase{Conv: c}
	s.x = random(r, c.N*c.C*c.H*c.W)
	s.weights = random(r, c.Filters*c.C/c.Groups*c.KernelH*c.KernelW)
	if bias {
		s.bias = random(r, c.Filters)
	}
	s.out = make([]float32, c.N*c.Filters*c.OutH()*c.OutW())
	return s
}

// reference computes the results and the sums of their terms' magnitudes.
func (s *convCase) reference() (sums, sizes []float64) {
	oh, ow := s.OutH(), s.OutW()
	cg, fg := s.C/s.Groups, s.Filters/s.Groups
	for n := range s.N {
		for f := range s.Filters {
			for oy := range oh {
				for ox := range ow {
					var sum, size float64
					if s.bias != nil {
						sum = float64(s.bias[f])
						size = math.Abs(sum)
					}
					for ch := range cg {
						for ky := range s.KernelH {
							for kx := range s.KernelW {
								iy, ix := oy*s.StrideH-s.PadTop+ky*s.DilationH, ox*s.StrideW-s.PadLeft+kx*s.DilationW
								if iy < 0 || iy >= s.H || ix < 0 || ix >= s.W {
									continue
								}
								v := float64(s.weights[((f*cg+ch)*s.KernelH+ky)*s.KernelW+kx]) *
									float64(s.x[((n*s.C+f/fg*cg+ch)*s.H+iy)*s.W+ix])
								sum += v
								size += math.Abs(v)
							}
						}
					}
					if s.Clamp && !math.IsNaN(sum) {
						sum = min(max(sum, float64(s.Min)), float64(s.Max))
					}
					sums, sizes = append(sums, sum), append(sizes, size)
				}
			}
		}
	}
	return sums, sizes
}

func (s *convCase) runAll(t *testing.T) {
	t.Helper()
	sums, sizes := s.reference()
	for _, x := range arches() {
		s.arch = x
		var first []float32
		for _, n := range []int{1, 2, 5} {
			w := NewWorkers(n)
			scratch := make([]float32, s.Scratch(w))
			for _, v := range [][]float32{s.out, scratch} {
				for i := range v {
					v[i] = float32(math.NaN())
				}
			}
			s.Run(w, s.x, s.weights, s.bias, s.out, scratch)
			if first == nil {
				first = append(first, s.out...)
				for i, v := range s.out {
					if !near(v, sums[i], sizes[i], s.C/s.Groups*s.KernelH*s.KernelW) {
						t.Fatalf("%s, %+v: number %d is %g, want %g", x, s.Conv, i, v, sums[i])
					}
				}
				continue
			}
			for i, v := range s.out {
				if math.Float32bits(v) != math.Float32bits(first[i]) {
					t.Fatalf("%s, %+v: %d workers and 1 differ at %d: %g and %g", x, s.Conv, n, i, v, first[i])
				}
			}
		}
	}
}

// randomConv returns a convolution with an output, whatever the numbers.
func randomConv(r *rand.Rand, size int) Conv {
	n := func(least, most int) int { return least + r.IntN(most-least+1) }
	c := Conv{
		N: n(1, 3), H: n(1, size), W: n(1, size), KernelH: n(1, 5), KernelW: n(1, 5),
		StrideH: n(1, 3), StrideW: n(1, 3), DilationH: n(1, 2), DilationW: n(1, 2),
		PadTop: n(0, 2), PadLeft: n(0, 2), PadBottom: n(0, 2), PadRight: n(0, 2),
	}
	switch n(0, 4) {
	case 0: // depthwise, with one or two filters for a channel
		c.C = n(1, 9)
		c.Groups, c.Filters = c.C, c.C*n(1, 2)
	case 1:
		c.Groups = n(2, 3)
		c.C, c.Filters = c.Groups*n(1, 5), c.Groups*n(1, 9)
	case 2:
		c.KernelH, c.KernelW = 1, 1
		fallthrough
	default:
		c.Groups, c.C, c.Filters = 1, n(1, 20), n(1, 20)
	}
	if n(0, 3) == 0 {
		c.StrideH, c.StrideW = 1, 1
		c.PadTop, c.PadLeft, c.PadBottom, c.PadRight = 0, 0, 0, 0
	}
	c.PadBottom += max(0, c.DilationH*(c.KernelH-1)+1-c.H-c.PadTop-c.PadBottom)
	c.PadRight += max(0, c.DilationW*(c.KernelW-1)+1-c.W-c.PadLeft-c.PadRight)
	if n(0, 2) == 0 {
		c.Clamp, c.Min, c.Max = true, 0, 6
	}
	return c
}

func TestConv(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	rounds := 250
	if testing.Short() {
		rounds = 100
	}
	for range rounds {
		newConvCase(r, randomConv(r, 14), r.IntN(2) == 0).runAll(t)
	}
}

func square(n, channels, side, filters, kernel, stride, groups int) Conv {
	p := kernel / 2
	return Conv{
		N: n, C: channels, H: side, W: side, Filters: filters, Groups: groups, KernelH: kernel, KernelW: kernel,
		StrideH: stride, StrideW: stride, DilationH: 1, DilationW: 1, PadTop: p, PadLeft: p, PadBottom: p, PadRight: p,
	}
}

// Shapes of networks, and sizes at which the ways of cutting change.
func TestConvLarge(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []Conv{
		square(2, 3, 33, 64, 3, 1, 1),
		square(5, 64, 8, 70, 3, 1, 1),
		square(9, 128, 2, 40, 3, 1, 1),
		square(1, 80, 7, 24, 1, 1, 1),
		square(3, 80, 1, 24, 1, 1, 1),
		square(2, 8, 50, 8, 3, 1, 8),
		square(2, 8, 50, 8, 5, 2, 8),
		square(1, 3, 97, 8, 5, 2, 3),
		square(1, 2, 130, 2, 5, 1, 2),
		square(1, 3, 80, 9, 7, 2, 1),
	} {
		if c.Groups == 3 {
			c.Filters = 6
		}
		newConvCase(r, c, true).runAll(t)
	}
}

// Forms that look like others.
func TestConvOdd(t *testing.T) {
	one := square(3, 4, 1, 9, 1, 1, 1)
	dilated := square(2, 3, 3, 5, 3, 1, 1)
	dilated.DilationH, dilated.PadTop, dilated.PadLeft, dilated.PadRight = 2, 0, 0, 0
	dilated.PadBottom = 2
	padded := square(2, 3, 5, 4, 1, 1, 1) // 1 x 1, but rows do not follow each other
	padded.PadRight = 1
	shifted := square(2, 3, 5, 4, 1, 1, 1)
	shifted.PadTop, shifted.PadBottom, shifted.StrideH = 1, 3, 2
	strided := square(2, 6, 9, 6, 3, 1, 6) // depthwise, by groups
	strided.StrideW = 9
	far := square(2, 3, 2, 3, 1, 1, 3)
	far.PadTop, far.PadRight, far.StrideH, far.StrideW = 700, 800, 8, 8
	r := rand.New(rand.NewPCG(9, 9))
	for _, c := range []Conv{one, dilated, padded, shifted, strided, far} {
		newConvCase(r, c, true).runAll(t)
	}
}

// Planes that are mostly padding are not laid out.
func TestConvHugePadding(t *testing.T) {
	c := square(1, 3, 2, 3, 2, 1, 3)
	c.PadTop, c.PadBottom, c.PadLeft, c.PadRight = 1<<30, 1<<30, 1<<30, 1<<30
	c.StrideH, c.StrideW = 1<<30, 1<<30
	if n := c.Scratch(NewWorkers(2)); n > 1<<16 {
		t.Errorf("%d numbers for an output of %d x %d", n, c.OutH(), c.OutW())
	}
	newConvCase(rand.New(rand.NewPCG(1, 1)), c, true).runAll(t)
	c.StrideH, c.StrideW, c.PadTop, c.PadLeft, c.PadBottom, c.PadRight = 8, 8, 40000, 40000, 0, 0
	if n := c.Scratch(NewWorkers(2)); n > 1<<16 {
		t.Errorf("%d numbers for an output of %d x %d", n, c.OutH(), c.OutW())
	}
}

func TestConvNotFinite(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, c := range []Conv{square(2, 3, 9, 8, 1, 1, 1), square(2, 4, 9, 4, 3, 1, 4), square(1, 16, 4, 9, 3, 1, 1)} {
		c.PadTop, c.PadLeft, c.PadBottom, c.PadRight = 0, 0, 0, 0
		c.Clamp, c.Min, c.Max = true, 0, posInf
		s := newConvCase(r, c, true)
		s.x[5], s.x[len(s.x)/2], s.weights[2] = float32(math.NaN()), posInf, 0
		s.runAll(t)
	}
}

func TestConvAfterSeesEachResultOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 40 {
		c := randomConv(r, 20)
		s := newConvCase(r, c, true)
		want := make([]float32, len(s.out))
		s.Run(NewWorkers(1), s.x, s.weights, s.bias, want, nil)
		var seen atomic.Int64
		s.After = func(y []float32) {
			seen.Add(int64(len(y)))
			for i := range y {
				y[i] = y[i]*2 + 1
			}
		}
		for _, n := range []int{1, 3} {
			seen.Store(0)
			s.Run(NewWorkers(n), s.x, s.weights, s.bias, s.out, nil)
			if int(seen.Load()) != len(want) {
				t.Fatalf("%+v: %d of %d results seen", c, seen.Load(), len(want))
			}
			for i, v := range want {
				if s.out[i] != v*2+1 {
					t.Fatalf("%+v: result %d is %g, want %g", c, i, s.out[i], v*2+1)
				}
			}
		}
	}
}

func TestConvScratchDoesNotGrow(t *testing.T) {
	w := NewWorkers(2)
	for _, c := range []Conv{square(1, 64, 32, 64, 3, 1, 1), square(1, 512, 2, 512, 3, 1, 1), square(1, 96, 56, 96, 5, 2, 96)} {
		for _, n := range []int{1, 16, 4096} {
			c.N = n
			if got := c.Scratch(w); got > 2*sharedPanels {
				t.Errorf("%d images: %d numbers", n, got)
			}
		}
	}
}

func FuzzConv(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(seed, uint8(10))
	}
	f.Fuzz(func(t *testing.T, seed uint64, size uint8) {
		r := rand.New(rand.NewPCG(seed, uint64(size)))
		newConvCase(r, randomConv(r, 1+int(size%40)), seed%2 == 0).runAll(t)
	})
}

func BenchmarkConv(b *testing.B) {
	for _, s := range []struct {
		name string
		Conv
	}{
		// VGG-16 on 32 x 32 images.
		{"vgg1", square(1, 3, 32, 64, 3, 1, 1)},
		{"vgg2", square(1, 64, 32, 64, 3, 1, 1)},
		{"vgg4", square(1, 128, 16, 128, 3, 1, 1)},
		{"vgg7", square(1, 256, 8, 256, 3, 1, 1)},
		{"vgg10", square(1, 512, 4, 512, 3, 1, 1)},
		{"vgg13", square(1, 512, 2, 512, 3, 1, 1)},
		// EfficientNet-B0 on 224 x 224 images.
		{"stem", square(1, 3, 224, 32, 3, 2, 1)},
		{"expand", square(1, 16, 112, 96, 1, 1, 1)},
		{"project", square(1, 144, 56, 24, 1, 1, 1)},
		{"late", square(1, 192, 7, 1152, 1, 1, 1)},
		{"squeeze", square(1, 1152, 1, 48, 1, 1, 1)},
		{"dw3s1", square(1, 144, 56, 144, 3, 1, 144)},
		{"dw3s2", square(1, 96, 112, 96, 3, 2, 96)},
		{"dw5s1", square(1, 672, 14, 672, 5, 1, 672)},
		{"dw5s2", square(1, 672, 14, 672, 5, 2, 672)},
	} {
		for _, n := range []int{1, 16} {
			for _, workers := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%d/%d", s.name, n, workers), func(b *testing.B) {
					c := s.Conv
					c.N = n
					w := NewWorkers(workers)
					k := newConvCase(rand.New(rand.NewPCG(1, 1)), c, true)
					scratch := make([]float32, c.Scratch(w))
					for b.Loop() {
						c.Run(w, k.x, k.weights, k.bias, k.out, scratch)
					}
					flops := 2 * float64(len(k.out)) * float64(c.C/c.Groups*c.KernelH*c.KernelW)
					b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}
