package compute

import (
	"math"
	"math/rand/v2"
	"testing"
)

// pools calls f for windows of every form in one to three dimensions.
func pools(f func(s Windows)) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		rank := 1 + r.IntN(3)
		var s Windows
		for range rank {
			k, d := 1+r.IntN(3), 1+r.IntN(2)
			wide := (k-1)*d + 1
			lo, hi := r.IntN(wide), r.IntN(wide)
			in := max(1+r.IntN(9), wide-lo-hi)
			stride := 1 + r.IntN(3)
			out := (in+lo+hi-wide)/stride + 1
			if r.IntN(2) == 0 && (out*stride) < in+lo { // as ceil_mode does
				out++
			}
			s.In, s.Out = append(s.In, in), append(s.Out, out)
			s.Kernel, s.Stride, s.Dilation = append(s.Kernel, k), append(s.Stride, stride), append(s.Dilation, d)
			s.Begin, s.End = append(s.Begin, lo), append(s.End, hi)
		}
		f(s)
	}
}

// window lists the places of x in the window at index, and how many more lie in
// the padding.
func window(s Windows, index []int) (at []int, padded int) {
	each(s.Kernel, func(_ int, tap []int) {
		place, inside := 0, true
		for d, k := range tap {
			p := index[d]*s.Stride[d] - s.Begin[d] + k*s.Dilation[d]
			if p >= s.In[d]+s.End[d] {
				return
			}
			inside = inside && p >= 0 && p < s.In[d]
			place = place*s.In[d] + p
		}
		if inside {
			at = append(at, place)
		} else {
			padded++
		}
	})
	return at, padded
}

func TestPools(t *testing.T) {
	const planes = 3
	w := NewWorkers(3)
	pools(func(s Windows) {
		in, out := size(s.In), size(s.Out)
		x := floats(uint64(in*out), planes*in)
		most, least, mean, full, lp := make([]float32, planes*out), make([]float32, planes*out), make([]float32, planes*out), make([]float32, planes*out), make([]float32, planes*out)
		index := make([]int64, planes*out)
		MaxPool(w, most, x, planes, s)
		MaxPoolIndices(w, least, index, x, planes, s, false)
		AveragePool(w, mean, x, planes, s, false)
		AveragePool(w, full, x, planes, s, true)
		LpPool(w, lp, x, planes, s, 3)
		for p := range planes {
			each(s.Out, func(at int, i []int) {
				places, padded := window(s, i)
				wantMax, sum, cubes, found := math.Inf(-1), 0., 0., -1
				for _, k := range places {
					v := float64(x[p*in+k])
					if v > wantMax {
						wantMax, found = v, p*in+k
					}
					sum += v
					cubes += math.Abs(v * v * v)
				}
				at += p * out
				near := func(name string, got float32, want float64) {
					if math.Abs(float64(got)-want) > 1e-6*math.Abs(want)+1e-7 && float64(got) != want {
						t.Fatalf("%s, %+v, plane %d at %v: %g, want %g", name, s, p, i, got, want)
					}
				}
				near("max", most[at], wantMax)
				near("max with indices", least[at], wantMax)
				near("index", float32(index[at]), float64(found))
				if len(places) > 0 {
					near("mean", mean[at], sum/float64(len(places)))
				} else {
					near("mean of nothing", mean[at], 0)
				}
				if len(places)+padded > 0 {
					near("mean with padding", full[at], sum/float64(len(places)+padded))
				}
				near("lp", lp[at], math.Cbrt(cubes))
			})
		}
	})
}

func TestMaxPoolSpecial(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	s := Windows{In: []int{4}, Out: []int{3}, Kernel: []int{2}, Stride: []int{1}, Dilation: []int{1}, Begin: []int{0}, End: []int{0}}
	got := make([]float32, 3)
	for _, f := range []func(dst, x []float32){
		func(dst, x []float32) { MaxPool(nil, dst, x, 1, s) },
		func(dst, x []float32) { MaxPoolIndices(nil, dst, make([]int64, 3), x, 1, s, false) },
	} {
		if f(got, []float32{nan, 1, inf, inf}); got[0] == got[0] || got[1] != 1 || got[2] != inf {
			t.Error(got)
		}
		if f(got, []float32{1, nan, 2, 3}); got[0] == got[0] || got[1] == got[1] || got[2] != 3 {
			t.Error(got)
		}
	}
	bytes := make([]uint8, 3)
	if MaxPool(nil, bytes, []uint8{0, 0, 5, 1}, 1, s); bytes[0] != 0 || bytes[1] != 5 {
		t.Error(bytes)
	}
	small := make([]int8, 3)
	if MaxPool(nil, small, []int8{-128, -3, -5, -7}, 1, s); small[0] != -3 || small[2] != -5 {
		t.Error(small)
	}
}

func TestMaxPoolColumns(t *testing.T) {
	s := Windows{In: []int{2, 3}, Out: []int{1, 2}, Kernel: []int{2, 2}, Stride: []int{1, 1}, Dilation: []int{1, 1}, Begin: []int{0, 0}, End: []int{0, 0}}
	index := make([]int64, 4)
	MaxPoolIndices(nil, make([]float32, 4), index, []float32{1, 2, 3, 4, 5, 6, 9, 1, 8, 1, 1, 1}, 2, s, true)
	if want := [4]int64{3, 5, 6, 10}; [4]int64(index) != want {
		t.Errorf("%v, want %v", index, want)
	}
}

func BenchmarkPool(b *testing.B) {
	for _, c := range []struct {
		name              string
		kernel, stride    int
		begin, in, planes int
	}{{"2x2/2", 2, 2, 0, 112, 64}, {"3x3/2", 3, 2, 1, 112, 64}, {"3x3/1", 3, 1, 1, 56, 64}} {
		out := (c.in+2*c.begin-c.kernel)/c.stride + 1
		two := func(n int) []int { return []int{n, n} }
		s := Windows{two(c.in), two(out), two(c.kernel), two(c.stride), two(1), two(c.begin), two(c.begin)}
		x := floats(1, c.planes*c.in*c.in)
		dst := make([]float32, c.planes*out*out)
		b.Run("max "+c.name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				MaxPool(nil, dst, x, c.planes, s)
			}
		})
		b.Run("average "+c.name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				AveragePool(nil, dst, x, c.planes, s, false)
			}
		})
	}
}
