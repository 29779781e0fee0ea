package afcc

import (
	"math"
	"math/rand/v2"
	"testing"
)

// slowTopRows takes connections one by one: always from a row that has the fewest,
// there the best that is left.
func slowTopRows(s *Scores, n int) map[[2]int]bool {
	kept, count := map[[2]int]bool{}, make([]int, s.Rows)
	best := func(r int) (c int, v float32) {
		c, v = -1, float32(math.Inf(-1))
		for i := range s.Cols {
			if !kept[[2]int{r, i}] && (c < 0 || s.At(r, i) > v) {
				c, v = i, s.At(r, i)
			}
		}
		return c, v
	}
	for len(kept) < min(n, s.Rows*s.Cols) {
		row, col, top := -1, -1, float32(0)
		for r := range s.Rows {
			if c, v := best(r); c >= 0 && (row < 0 || count[r] < count[row] || count[r] == count[row] && v > top) {
				row, col, top = r, c, v
			}
		}
		kept[[2]int{row, col}] = true
		count[row]++
	}
	return kept
}

func TestTopRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 7))
	for range 100 {
		rows, cols := rng.IntN(7), rng.IntN(9)
		norms := make([]float32, rows*cols)
		for i := range norms {
			switch norms[i] = float32(rng.IntN(5)); rng.IntN(6) {
			case 0:
				norms[i] = float32(math.NaN())
			case 1:
				norms[i] = rng.Float32() * 4
			}
		}
		s, err := MagnitudeScores(norms, rows, cols)
		if err != nil {
			t.Fatal(err)
		}
		for n := -1; n <= rows*cols+1; n++ {
			got, want := s.TopRows(n), slowTopRows(s, n)
			if got.Count() != len(want) || got.Count() != s.Top(n).Count() {
				t.Fatalf("%d x %d, %d asked for: %d kept, want %d, Top keeps %d", rows, cols, n, got.Count(), len(want), s.Top(n).Count())
			}
			for r := range rows {
				for c := range cols {
					if got.Kept(r, c) != want[[2]int{r, c}] {
						t.Fatalf("%v, %d of %d x %d: connection %d,%d kept %v, want %v", norms, n, rows, cols, r, c, got.Kept(r, c), want[[2]int{r, c}])
					}
				}
			}
		}
	}
}

// An output whose weights are all small keeps its share; ranked over the layer it
// loses everything.
func TestTopRowsFeedsSmallOutputs(t *testing.T) {
	s, err := MagnitudeScores([]float32{9, 8, 7, 6, .4, .3, .2, .1}, 2, 4)
	if err != nil {
		t.Fatal(err)
	}
	if m := s.Top(4); m.Kept(1, 0) {
		t.Error("the layer's best four include one of the second output")
	}
	if m := s.TopRows(4); !m.Kept(1, 0) || !m.Kept(1, 1) || m.Kept(1, 2) || !m.Kept(0, 1) || m.Kept(0, 2) {
		t.Error("not the best two of each output")
	}
}

func BenchmarkTopRows(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	norms := make([]float32, 512*512)
	for i := range norms {
		norms[i] = rng.Float32()
	}
	s, err := MagnitudeScores(norms, 512, 512)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s.TopRows(len(norms) / 10)
	}
}
