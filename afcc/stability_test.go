package afcc

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func clustered(clusters ...[]int) Filter { return Filter{Clusters: clusters} }

func TestStabilityByHand(t *testing.T) {
	reference := []Filter{clustered([]int{0, 1}, []int{2}), clustered(), clustered([]int{3})}
	runs := [][]Filter{
		{clustered([]int{0, 1}, []int{3}), clustered(), clustered()},
		{clustered([]int{0, 2}, []int{1}), clustered(), clustered([]int{3})},
	}
	s, err := MeasureStability(reference, runs, 4)
	if err != nil {
		t.Fatal(err)
	}
	// Filter 0: {0,1,3} and {0,1,2} share 2 of 4.
	f := s.Filters[0]
	if f.Jaccard == nil || *f.Jaccard != 0.5 {
		t.Errorf("Jaccard %v", f.Jaccard)
	}
	// p = 1, 1, 1/2, 1/2: variance 2 (1/4 + 1/4) / 4 = 1/4 against 3/4 * 1/4.
	if f.Phi == nil || !near(*f.Phi, 1-0.25/(3.0/16)) {
		t.Errorf("Phi %v", f.Phi)
	}
	if want := []LabelFrequency{{0, 1}, {1, 1}, {2, 0.5}, {3, 0.5}}; !slices.Equal(f.Labels, want) {
		t.Errorf("labels %v", f.Labels)
	}
	// {0,1}: itself, then 1/3 with {0,2} and 1/2 with {1}. {2}: nothing, then 1/2.
	if want := []ClusterStability{{0.75, 0.5}, {0.25, 0}}; !slices.Equal(f.Clusters, want) {
		t.Errorf("clusters %v", f.Clusters)
	}
	if f := s.Filters[1]; f.Jaccard != nil || f.Phi != nil || f.Labels != nil || f.Clusters != nil {
		t.Errorf("filter without clusters: %+v", f)
	}
	if f := s.Filters[2]; *f.Jaccard != 0 || !slices.Equal(f.Clusters, []ClusterStability{{0.5, 0.5}}) {
		t.Errorf("filter with clusters in one run: %+v", f)
	}
	if *s.Jaccard != 0.25 || *s.Cluster != (ClusterStability{0.5, 1.0 / 3}) || s.Runs != 2 {
		t.Errorf("layer: %+v, %v", s, *s.Cluster)
	}
}

// Label means of samples that differ by noise give runs; label sets, clusters and
// frequencies are compared with maps instead of bits.
func TestStabilityMatchesSlowVersion(t *testing.T) {
	rng := rand.New(rand.NewPCG(50, 50))
	const k, f, p, count = 70, 12, 2, 5
	w, means := normals(rng, k*f*p), normals(rng, k*f*p)
	analyze := func(noise float32) []Filter {
		x := slices.Clone(means)
		for n, v := range normals(rng, len(x)) {
			x[n] += noise * v
		}
		filters, err := AnalyzeLayer(t.Context(), w, x, k, f, p, Options{Theta: 0.5})
		if err != nil {
			t.Fatal(err)
		}
		return filters
	}
	reference := analyze(0)
	var runs [][]Filter
	for range count {
		runs = append(runs, analyze(0.1))
	}
	s, err := MeasureStability(reference, runs, k)
	if err != nil {
		t.Fatal(err)
	}
	index := func(a, b []int) float64 {
		either := map[int]int{}
		for _, j := range append(slices.Clone(a), b...) {
			either[j]++
		}
		both := 0
		for _, n := range either {
			both += n - 1
		}
		return float64(both) / float64(len(either))
	}
	for i := range reference {
		sum, pairs := 0.0, 0
		times := map[int]int{}
		for r := range runs {
			for _, j := range runs[r][i].Labels() {
				times[j]++
			}
			for q := range r {
				if a, b := runs[r][i].Labels(), runs[q][i].Labels(); len(a)+len(b) > 0 {
					sum, pairs = sum+index(a, b), pairs+1
				}
			}
		}
		if got := s.Filters[i].Jaccard; pairs > 0 && (got == nil || !near(*got, sum/float64(pairs))) {
			t.Errorf("filter %d: Jaccard %v, want %v", i, got, sum/float64(pairs))
		}
		for _, l := range s.Filters[i].Labels {
			if !near(l.Share*count, float64(times[l.Label])) {
				t.Errorf("filter %d: label %+v is in %d runs", i, l, times[l.Label])
			}
			delete(times, l.Label)
		}
		if len(times) > 0 {
			t.Errorf("filter %d: labels %v are missing", i, times)
		}
		for n, c := range reference[i].Clusters {
			best, same := 0.0, 0
			for r := range runs {
				x := 0.0
				for _, other := range runs[r][i].Clusters {
					x = max(x, index(c, other))
					if slices.Equal(c, other) {
						same++
					}
				}
				best += x / count
			}
			if got := s.Filters[i].Clusters[n]; !near(got.Jaccard, best) || !near(got.Identical, float64(same)/count) {
				t.Errorf("filter %d cluster %v: %+v, want %v, %d", i, c, got, best, same)
			}
		}
	}
	if *s.Cluster == (ClusterStability{1, 1}) || s.Cluster.Identical == 0 || *s.Jaccard == 1 {
		t.Errorf("runs are all alike or all different: %+v", *s.Cluster)
	}
	same, err := MeasureStability(reference, [][]Filter{reference, reference}, k)
	if err != nil || *same.Jaccard != 1 || !near(*same.Phi, 1) || *same.Cluster != (ClusterStability{1, 1}) {
		t.Errorf("equal runs: %+v, %v", same, err)
	}
}

// For label sets of equal size d, Phi is Kuncheva's index averaged over pairs of runs:
// (both - d^2/K) / (d - d^2/K). For random sets it is 0 on average, at any size.
func TestPhiIsCorrectedForChance(t *testing.T) {
	rng := rand.New(rand.NewPCG(51, 51))
	const k, count = 40, 6
	for _, d := range []int{1, 5, 20, 39} {
		var overall mean
		for range 200 {
			var runs [][]Filter
			for range count {
				labels := rng.Perm(k)[:d]
				slices.Sort(labels)
				runs = append(runs, []Filter{clustered(labels)})
			}
			s, err := MeasureStability(runs[0], runs, k)
			if err != nil {
				t.Fatal(err)
			}
			var kuncheva mean
			for r := range runs {
				for q := range r {
					both := 0.0
					for _, j := range runs[r][0].Clusters[0] {
						if slices.Contains(runs[q][0].Clusters[0], j) {
							both++
						}
					}
					chance := float64(d*d) / k
					kuncheva.add((both - chance) / (float64(d) - chance))
				}
			}
			if !near(*s.Phi, *kuncheva.value()) {
				t.Fatalf("d=%d: Phi %v, Kuncheva %v", d, *s.Phi, *kuncheva.value())
			}
			overall.add(*s.Phi)
		}
		if v := *overall.value(); v < -0.03 || v > 0.03 {
			t.Errorf("d=%d: random sets have Phi %v", d, v)
		}
	}
}

func TestStabilityArguments(t *testing.T) {
	one := []Filter{clustered([]int{0})}
	for name, tt := range map[string]struct {
		runs [][]Filter
		k    int
		want string
	}{
		"one run":         {[][]Filter{one}, 1, "runs"},
		"filters missing": {[][]Filter{one, {}}, 1, "runs"},
		"label":           {[][]Filter{one, {clustered([]int{1})}}, 1, "clusters"},
		"no labels":       {[][]Filter{one, one}, 0, "labels"},
		"too many labels": {[][]Filter{one, one}, MaxLabels + 1, "labels"},
	} {
		var e *ArgumentError
		if _, err := MeasureStability(one, tt.runs, tt.k); !errors.As(err, &e) || e.Name != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := MeasureStability(nil, [][]Filter{nil, nil}, 3)
	if err != nil || !reflect.DeepEqual(*s, Stability{Runs: 2, Filters: []FilterStability{}}) {
		t.Errorf("no filters: %+v, %v", s, err)
	}
}
