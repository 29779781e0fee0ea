package afcc

import (
	"math/rand/v2"
	"testing"
)

func TestMask(t *testing.T) {
	rng := rand.New(rand.NewPCG(18, 18))
	for _, size := range []struct{ rows, cols int }{{0, 0}, {0, 5}, {1, 1}, {8, 8}, {5, 13}, {3, 64}, {7, 65}} {
		m := NewMask(size.rows, size.cols)
		want := map[[2]int]bool{}
		for range size.rows * size.cols / 2 {
			at := [2]int{rng.IntN(size.rows), rng.IntN(size.cols)}
			want[at] = true
			m.Keep(at[0], at[1])
		}
		for r := range size.rows {
			for c := range size.cols {
				if m.Kept(r, c) != want[[2]int{r, c}] {
					t.Fatalf("%v: (%d,%d) kept %v", size, r, c, m.Kept(r, c))
				}
			}
		}
		n, dilution := size.rows*size.cols, 0.0
		if n > 0 {
			dilution = float64(n-len(want)) / float64(n)
		}
		if m.Count() != len(want) || m.Dilution() != dilution {
			t.Errorf("%v: count %d, dilution %v; want %d, %v", size, m.Count(), m.Dilution(), len(want), dilution)
		}
	}
}

func TestConnectionOutOfRangePanics(t *testing.T) {
	m := NewMask(2, 3)
	s := newScores(2, 3)
	for _, at := range [][2]int{{-1, 0}, {0, -1}, {2, 0}, {0, 3}} {
		for name, call := range map[string]func(){
			"Kept": func() { m.Kept(at[0], at[1]) },
			"Keep": func() { m.Keep(at[0], at[1]) },
			"At":   func() { s.At(at[0], at[1]) },
			"New":  func() { NewMask(-1, 3) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s%v does not panic", name, at)
					}
				}()
				call()
			}()
		}
	}
}
