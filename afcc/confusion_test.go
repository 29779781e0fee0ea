package afcc

import (
	"errors"
	"math/rand/v2"
	"testing"
)

func TestConfusionByHand(t *testing.T) {
	matrix := []int{
		5, 3, 0, 1,
		1, 6, 0, 0,
		0, 2, 8, 0,
		1, 0, 0, 9,
	}
	// Errors 8, of which 4 between 0 and 1, 2 between 1 and 2.
	c, err := MeasureConfusion(matrix, 4, [][]int{{0, 1}, {1, 0}, {1, 2}, {3}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Pairs != 2 || c.Errors != 8 || c.Inside != 6 || *c.Share != 0.75 || !near(*c.Expected, 1.0/3) || !near(*c.Lift, 2.25) {
		t.Errorf("%+v", c)
	}
	if want := (4 + 4 + 2) / 6.0 / (8 / 12.0); !near(*c.WeightedLift, want) {
		t.Errorf("weighted lift %v, want %v", *c.WeightedLift, want)
	}
}

// Over all ways to deal out the names of the labels, the mean share of errors inside
// clusters is what Expected says, and the mean weighted lift is 1.
func TestConfusionExpectation(t *testing.T) {
	rng := rand.New(rand.NewPCG(60, 60))
	const k = 6
	matrix := make([]int, k*k)
	for n := range matrix {
		matrix[n] = rng.IntN(20)
	}
	clusters := [][]int{{0, 2, 3}, {1, 4}, {2, 3}, {5}}
	var share, lift, weighted mean
	var permute func(names []int)
	permute = func(names []int) {
		if len(names) < k {
			for j := range k {
				used := false
				for _, n := range names {
					used = used || n == j
				}
				if !used {
					permute(append(names, j))
				}
			}
			return
		}
		renamed := make([][]int, len(clusters))
		for n, c := range clusters {
			for _, j := range c {
				renamed[n] = append(renamed[n], names[j])
			}
		}
		c, err := MeasureConfusion(matrix, k, renamed)
		if err != nil {
			t.Fatal(err)
		}
		if c.Pairs != 4 || !near(*c.Expected, 4.0/15) {
			t.Fatalf("%+v", c)
		}
		share.add(*c.Share)
		lift.add(*c.Lift)
		weighted.add(*c.WeightedLift)
	}
	permute(make([]int, 0, k))
	if share.n != 720 || !near(*share.value(), 4.0/15) || !near(*lift.value(), 1) || !near(*weighted.value(), 1) {
		t.Errorf("share %v, lift %v, weighted %v of %d permutations", *share.value(), *lift.value(), *weighted.value(), share.n)
	}
}

func TestConfusionEdges(t *testing.T) {
	for name, tt := range map[string]struct {
		matrix   []int
		k        int
		clusters [][]int
		want     string // the argument that is wrong
	}{
		"no errors":       {[]int{3, 0, 0, 3}, 2, [][]int{{0, 1}}, ""},
		"no pairs":        {[]int{3, 1, 1, 3}, 2, [][]int{{0}, {1}}, ""},
		"one label":       {[]int{3}, 1, [][]int{{0}}, ""},
		"size":            {[]int{3}, 2, nil, "confusion matrix"},
		"negative":        {[]int{3, -1, 0, 0}, 2, nil, "confusion matrix"},
		"label twice":     {[]int{3, 1, 1, 3}, 2, [][]int{{1, 1}}, "clusters"},
		"unknown label":   {[]int{3, 1, 1, 3}, 2, [][]int{{0, 2}}, "clusters"},
		"no labels":       {nil, 0, nil, "confusion matrix"},
		"label below all": {[]int{3}, 1, [][]int{{-1}}, "clusters"},
	} {
		c, err := MeasureConfusion(tt.matrix, tt.k, tt.clusters)
		var e *ArgumentError
		if tt.want == "" {
			if err != nil || c.Lift != nil || c.WeightedLift != nil {
				t.Errorf("%s: %+v, %v", name, c, err)
			}
		} else if !errors.As(err, &e) || e.Name != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
