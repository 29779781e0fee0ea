package afcc

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// worked is the example of the method's description.
var worked = []float32{
	1.0, 0.8, 0.1, 0.0, 0.2,
	0.6, 0.9, 0.1, 0.35, 0.0,
	0.4, 0.1, 0.5, 0.0, 0.0,
	0.0, 0.2, 0.0, 0.1, 0.6,
	-.5, 0.0, 0.31, 0.0, 0.3,
}

func TestWorkedExample(t *testing.T) {
	want := Filter{
		Max:      1,
		Ratios:   []float32{1, 0.9, 0.5, 0.1, 0.3},
		Clusters: [][]int{{0, 1}, {2}},
		Ones:     9, Noise: 4, Internal: 2, External: 2,
	}
	got := Analyze(worked, 5, 0.3)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got.D() != 3 || !slices.Equal(got.Labels(), []int{0, 1, 2}) {
		t.Errorf("labels %v", got.Labels())
	}
}

var inf = float32(math.Inf(1))
var nan = float32(math.NaN())

func TestAnalyzeEdges(t *testing.T) {
	for _, tt := range []struct {
		name  string
		m     []float32
		theta float64
		want  Filter
	}{
		{"one label", []float32{2}, 0.3, Filter{Max: 2, Ratios: []float32{1}, Clusters: [][]int{{0}}, Ones: 1}},
		{"all zero", make([]float32, 4), 0, Filter{}},
		{"negative zero", []float32{float32(math.Copysign(0, -1))}, 0, Filter{}},
		{"all negative", []float32{-1, -2, -3, -0.5}, 0.3, Filter{Max: -0.5}},
		{"NaN", []float32{1, nan, 1, 1}, 0.3, Filter{NonFinite: true}},
		{"first NaN", []float32{nan, 1, 1, 1}, 0.3, Filter{NonFinite: true}},
		{"+Inf", []float32{1, 1, inf, 1}, 0.3, Filter{NonFinite: true}},
		{"-Inf", []float32{-inf, 1, 1, 1}, 0.3, Filter{
			Max: 1, Ratios: []float32{-math.MaxFloat32, 1}, Clusters: [][]int{{1}}, Ones: 3, Noise: 2, Internal: 1, External: 1}},
		{"all -Inf", []float32{-inf}, 0.3, Filter{NonFinite: true}},
		{"quotient overflows", []float32{-math.MaxFloat32, 0, 0, math.SmallestNonzeroFloat32}, 0.3, Filter{
			Max: math.SmallestNonzeroFloat32, Ratios: []float32{-math.MaxFloat32, 1}, Clusters: [][]int{{1}}, Ones: 1}},
		{"largest off the diagonal", []float32{1, 10, 0, 2}, 0.3, Filter{
			Max: 10, Ratios: []float32{0.1, 0.2}, Ones: 1, Noise: 1, External: 1}},
		{"theta 0 is strict", []float32{0, 0, 0, 1}, 0, Filter{
			Max: 1, Ratios: []float32{0, 1}, Clusters: [][]int{{1}}, Ones: 1}},
		{"one direction is not enough", []float32{1, 1, 0, 1}, 0.3, Filter{
			Max: 1, Ratios: []float32{1, 1}, Clusters: [][]int{{0}, {1}}, Ones: 3, Noise: 1, Internal: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := int(math.Sqrt(float64(len(tt.m))))
			if got := Analyze(tt.m, k, tt.theta); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// A stored 0.3 is not above 0.3, whatever scale it comes in as long as the
// quotient rounds to it.
func TestThresholdIsStrictInFloat32(t *testing.T) {
	for _, theta := range []float64{0.1, 0.2, 0.3, 0.7, 0.9} {
		at := float32(theta)
		m := []float32{1, 0, 0, at}
		if f := Analyze(m, 2, theta); f.D() != 1 {
			t.Errorf("%v counts as above %v", at, theta)
		}
		m[3] = math.Nextafter32(at, 1)
		if f := Analyze(m, 2, theta); f.D() != 2 {
			t.Errorf("%v does not count as above %v", m[3], theta)
		}
	}
}

// The cutoff must agree with the quotient at every float near it, for scales up
// to the ends of the range.
func TestCutoffAgreesWithQuotient(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20000 {
		top := math.Float32frombits(1 + rng.Uint32N(math.Float32bits(math.MaxFloat32)))
		theta := rng.Float32()
		if rng.IntN(4) == 0 {
			theta = math.Float32frombits(rng.Uint32N(math.Float32bits(1)))
		}
		c := cutoff(top, theta)
		if !(c > 0 && c <= top) {
			t.Fatalf("cutoff(%v, %v) = %v", top, theta, c)
		}
		for v, i := c, 0; i < 4 && v <= top; v, i = math.Nextafter32(v, inf), i+1 {
			if !(v/top > theta) {
				t.Fatalf("cutoff(%v, %v) = %v, but %v/top = %v", top, theta, c, v, v/top)
			}
		}
		if below := math.Nextafter32(c, -1); below/top > theta {
			t.Fatalf("cutoff(%v, %v) = %v is not the smallest", top, theta, c)
		}
	}
}

// randomMatrix returns fields with a chosen share of large values; ties with
// theta = 0.3 and 0.5 occur often.
func randomMatrix(rng *rand.Rand, k int) []float32 {
	m := make([]float32, k*k)
	density := rng.Float64()
	diagonal := rng.Float64()
	symmetric := rng.IntN(2) == 0
	scale := float32(math.Exp2(float64(rng.IntN(40) - 20)))
	for i := range k {
		for j := range k {
			share := density
			if i == j {
				share = diagonal
			}
			switch {
			case rng.Float64() < share:
				m[i*k+j] = float32(rng.IntN(11)) / 10
			case rng.IntN(2) == 0:
				m[i*k+j] = rng.Float32()*2 - 1.5
			}
			if symmetric && j < i {
				m[i*k+j] = m[j*k+i]
			}
			m[i*k+j] *= scale
		}
	}
	switch rng.IntN(24) {
	case 0:
		m[rng.IntN(len(m))] = nan
	case 1:
		m[rng.IntN(len(m))] = inf
	case 2:
		m[rng.IntN(len(m))] = -inf
	case 3:
		clear(m)
	case 4:
		for i := range m {
			m[i] = -rng.Float32()
		}
	case 5:
		for i := range m {
			m[i] = 1
		}
	}
	return m
}

func TestAnalyzeMatchesSlowVersion(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	thetas := []float64{0, 0.1, 0.3, 0.5, 0.9, 0.999}
	most := 0
	for k := 1; k <= 70; k++ {
		for range 60 {
			m := randomMatrix(rng, k)
			theta := thetas[rng.IntN(len(thetas))]
			got, want := Analyze(m, k, theta), slowAnalyze(m, k, theta)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("K=%d theta=%v m=%v\ngot  %+v\nwant %+v", k, theta, m, got, want)
			}
			checkFilter(t, &got, m, k, theta)
			if len(got.Clusters) > 1 {
				most = max(most, len(got.Clusters[0]))
			}
		}
	}
	if most < 3 {
		t.Errorf("matrices are too plain: no filter has several clusters and one of three labels")
	}
}

// checkFilter checks what must hold for any analysed filter.
func checkFilter(t *testing.T, f *Filter, m []float32, k int, theta float64) {
	t.Helper()
	top := float32(f.Max)
	one := func(i, j int) bool { return m[i*k+j]/top > float32(theta) }
	owner := make([]int, k)
	for n, c := range f.Clusters {
		for _, i := range c {
			if owner[i] != 0 {
				t.Fatalf("label %d is in two clusters", i)
			}
			owner[i] = n + 1
			for _, j := range c {
				if !one(i, j) {
					t.Fatalf("block of cluster %d has a hole at (%d,%d)", n, i, j)
				}
			}
		}
		if !slices.IsSorted(c) {
			t.Fatalf("cluster %v is not ascending", c)
		}
	}
	if f.NonFinite || f.Max <= 0 {
		if f.Ratios != nil || f.Clusters != nil || f.Ones != 0 {
			t.Fatalf("filter without a clipped matrix has %+v", f)
		}
		return
	}
	for j := range k {
		if (owner[j] != 0) != one(j, j) {
			t.Fatalf("label %d: in a cluster %v, diagonal one %v", j, owner[j] != 0, one(j, j))
		}
	}
	if f.Internal+f.External != f.Noise || f.Internal < 0 || f.External < 0 {
		t.Fatalf("noise %d is not %d + %d", f.Noise, f.Internal, f.External)
	}
	if !slices.Equal(f.Labels(), f.LabelsAt(theta)) {
		t.Fatalf("labels %v by clusters, %v by ratios", f.Labels(), f.LabelsAt(theta))
	}
}

// The ratios kept at one threshold give the label set of every other exactly.
func TestLabelsAtOtherThresholds(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 300 {
		k := 1 + rng.IntN(40)
		m := randomMatrix(rng, k)
		f := Analyze(m, k, 0.3)
		for _, theta := range []float64{0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.999} {
			g := Analyze(m, k, theta)
			if got, want := f.LabelsAt(theta), g.Labels(); !slices.Equal(got, want) {
				t.Fatalf("theta %v: %v by ratios, %v by analysis", theta, got, want)
			}
		}
		for _, r := range f.Ratios {
			if r < 0 || r >= 1 {
				continue
			}
			g := Analyze(m, k, float64(r))
			if got, want := f.LabelsAt(float64(r)), g.Labels(); !slices.Equal(got, want) {
				t.Fatalf("theta at a ratio %v: %v by ratios, %v by analysis", r, got, want)
			}
		}
	}
}

// Clusters are greedy in label order: label 1 fits with 0 and with 2, but 0 and
// 2 do not fit. Renaming the labels changes the partition, though not the
// label set.
func TestClustersDependOnLabelOrder(t *testing.T) {
	m := []float32{ // 0-1 and 1-2-3 fit
		1, 1, 0, 0,
		1, 1, 1, 1,
		0, 1, 1, 1,
		0, 1, 1, 1,
	}
	reversed := slices.Clone(m)
	slices.Reverse(reversed) // label j becomes 3-j
	a, b := Analyze(m, 4, 0.3), Analyze(reversed, 4, 0.3)
	if want := [][]int{{0, 1}, {2, 3}}; !reflect.DeepEqual(a.Clusters, want) {
		t.Errorf("ascending: %v, want %v", a.Clusters, want)
	}
	if want := [][]int{{0, 1, 2}, {3}}; !reflect.DeepEqual(b.Clusters, want) {
		t.Errorf("reversed: %v, want %v", b.Clusters, want)
	}
	if a.D() != b.D() || a.Ones != b.Ones || a.Noise == b.Noise {
		t.Errorf("ascending %+v, reversed %+v", a, b)
	}
}

func TestFilterJSONRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 300 {
		k := 1 + rng.IntN(20)
		f := Analyze(randomMatrix(rng, k), k, 0.3)
		b, err := json.Marshal(f)
		if err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
		var g Filter
		if err := json.Unmarshal(b, &g); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(f, g) {
			t.Fatalf("got %+v from %s", g, b)
		}
	}
}

func TestCheckTheta(t *testing.T) {
	for _, theta := range []float64{0, 0.3, 0.999, math.SmallestNonzeroFloat64} {
		if err := CheckTheta(theta); err != nil {
			t.Errorf("%v: %v", theta, err)
		}
	}
	for _, theta := range []float64{-0.1, -1e-300, 1, 1 - 1e-12, 2, math.NaN(), math.Inf(1), math.Inf(-1)} {
		var e *ArgumentError
		if err := CheckTheta(theta); !errors.As(err, &e) || e.Name != "theta" {
			t.Errorf("%v: %v", theta, err)
		}
	}
}

func TestAnalyzePanics(t *testing.T) {
	for name, call := range map[string]func(){
		"length": func() { Analyze(make([]float32, 3), 2, 0.3) },
		"labels": func() { Analyze(nil, 0, 0.3) },
		"theta":  func() { Analyze(make([]float32, 4), 2, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}

func FuzzAnalyze(f *testing.F) {
	var seed []byte
	for _, v := range worked {
		seed = binary.LittleEndian.AppendUint32(seed, math.Float32bits(v))
	}
	f.Add(seed, 0.3)
	f.Add(make([]byte, 16), 0.0)
	f.Add([]byte{0, 0, 0x80, 0x7f, 0, 0, 0xc0, 0xff, 1, 0, 0, 0, 0, 0, 0, 0x80}, 0.999)
	f.Fuzz(func(t *testing.T, data []byte, theta float64) {
		k := min(int(math.Sqrt(float64(len(data)/4))), 80)
		if k < 1 || CheckTheta(theta) != nil {
			return
		}
		m := make([]float32, k*k)
		for i := range m {
			m[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		got, want := Analyze(m, k, theta), slowAnalyze(m, k, theta)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("K=%d theta=%v m=%v\ngot  %+v\nwant %+v", k, theta, m, got, want)
		}
		checkFilter(t, &got, m, k, theta)
	})
}
