package probe

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestHalves: the halves of each label share no sample, have all, and differ in size
// by one at most; which samples are in which depends on the seed alone.
func TestHalves(t *testing.T) {
	sizes := []int{1, 2, 3, 8, 41, 0, 100}
	var index []int
	var labels []int
	for l, n := range sizes {
		for range n {
			index, labels = append(index, 7*len(index)), append(labels, l)
		}
	}
	label := func(sample int) int { return labels[sample/7] }
	larger := map[int]bool{} // which half has one more
	var first []float32
	for seed := range uint64(30) {
		s := newResampler(index, label, 2, seed)
		var all []float32
		for l, n := range sizes {
			var halves [2]int
			for _, i := range index {
				if label(i) != l {
					continue
				}
				c := s.of(l, i)
				if c[0]+c[1] != 1 || c[0]*c[1] != 0 {
					t.Fatalf("a sample of label %d counts %v in the halves", l, c)
				}
				halves[0] += int(c[0])
				halves[1] += int(c[1])
				all = append(all, c...)
			}
			if d := halves[0] - halves[1]; halves[0]+halves[1] != n || d < -1 || d > 1 {
				t.Errorf("label %d: halves of %v samples", l, halves)
			} else if d != 0 {
				larger[d] = true
			}
		}
		// Again, label by label in another order.
		s = newResampler(index, label, 2, seed)
		var again []float32
		for _, i := range slices.Backward(index) {
			again = append(again, s.of(label(i), i)[1], s.of(label(i), i)[0])
		}
		slices.Reverse(again)
		if !slices.Equal(all, again) {
			t.Errorf("seed %d gives other halves when labels are read in another order", seed)
		}
		if first == nil {
			first = all
		} else if slices.Equal(first, all) {
			t.Errorf("seed %d gives the halves of seed 0", seed)
		}
	}
	if len(larger) != 2 {
		t.Error("of an odd number the same half always gets one more")
	}
}

// TestBootstrap: each run draws as many samples of a label as there are, a sample on
// average once, with the variance of a binomial count.
func TestBootstrap(t *testing.T) {
	const n, runs = 40, 500
	index := make([]int, n)
	for i := range index {
		index[i] = 3 * i
	}
	label := func(sample int) int { return sample / 3 % 2 }
	s := newResampler(index, label, runs, 9)
	sum := map[int][]float64{0: make([]float64, runs), 1: make([]float64, runs)}
	var squares, cross float64
	for _, i := range index {
		l := label(i)
		c := s.of(l, i)
		mean := 0.0
		for r, x := range c {
			sum[l][r] += float64(x)
			mean += float64(x) / runs
			squares += (float64(x) - 1) * (float64(x) - 1) / runs / n
			if r > 0 {
				cross += (float64(x) - 1) * (float64(c[r-1]) - 1) / runs / n
			}
		}
		if math.Abs(mean-1) > 5*math.Sqrt(1.0/runs) {
			t.Errorf("sample %d counts %v on average", i, mean)
		}
	}
	for l, of := range sum {
		for r, x := range of {
			if x != n/2 {
				t.Errorf("label %d, run %d: %v draws from %d samples", l, r, x, n/2)
			}
		}
	}
	// n/2 draws of 2/n each: the variance is 1 - 2/n.
	if want := 1 - 2.0/n; math.Abs(squares-want) > 0.05 || math.Abs(cross) > 0.05 {
		t.Errorf("variance %v, want %v; covariance of runs %v", squares, want, cross)
	}
	if slices.Equal(slices.Clone(s.of(0, 0)), s.of(1, 3)) {
		t.Error("two labels with as many samples are drawn alike")
	}
	other := newResampler(index, label, runs, 10)
	if slices.Equal(other.of(0, 0), s.of(0, 0)) {
		t.Error("another seed gives the same draws")
	}
	again := newResampler(index, label, 7, 9)
	if !slices.Equal(again.of(1, 3), s.of(1, 3)[:7]) {
		t.Error("the first runs depend on how many there are")
	}
}

// TestTopLists compares with sorting all, and looks at ties and at what is no number.
func TestTopLists(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		n, f, most := r.IntN(30), 1+r.IntN(3), 1+r.IntN(8)
		all := make([][]strength, f)
		lists := newTopLists(f, most)
		for at := 0; at < n; {
			batch := min(1+r.IntN(5), n-at)
			v, samples := make([]float32, batch*f), make([]int, batch)
			for i := range samples {
				samples[i] = 1000 - 3*(at+i)
				for j := range f {
					x := float32(r.IntN(6)) // ties
					switch r.IntN(8) {
					case 0:
						x = float32(math.NaN())
					case 1:
						x = float32(math.Inf(1 - 2*r.IntN(2)))
					default:
						all[j] = append(all[j], strength{x, samples[i]})
					}
					v[i*f+j] = x
				}
			}
			lists.add(v, samples)
			at += batch
		}
		for j, want := range all {
			slices.SortFunc(want, func(a, b strength) int {
				if a.value != b.value {
					return int(b.value - a.value)
				}
				return a.sample - b.sample
			})
			want = want[:min(most, len(want))]
			if got := lists.ordered(j); !slices.Equal(got, want) {
				t.Fatalf("filter %d, %d kept: %v, want %v", j, most, got, want)
			}
		}
	}
}
