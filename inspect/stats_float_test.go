package inspect

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// Numbers in single precision are counted two in a word, in groups: against the
// definition, for lengths around those of a group and for numbers that take every
// path.
func TestStatsOfSingles(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	kinds := map[string]func(i int) float32{
		"both signs":    func(int) float32 { return float32(r.NormFloat64()) },
		"positive":      func(int) float32 { return 1 + float32(r.ExpFloat64()) },
		"negative":      func(int) float32 { return -1 - float32(r.ExpFloat64()) },
		"not negative":  func(int) float32 { return max(0, float32(r.NormFloat64())) },
		"wider later":   func(i int) float32 { return float32(i) * float32(r.NormFloat64()) },
		"narrower":      func(i int) float32 { return float32(r.NormFloat64()) / float32(i+1) },
		"zeros":         func(int) float32 { return float32(math.Copysign(0, r.NormFloat64())) },
		"one value":     func(int) float32 { return -3.25 },
		"rare zeros":    func(int) float32 { return float32(r.IntN(300)) },
		"far from zero": func(int) float32 { return math.Nextafter32(1e6, float32(r.IntN(2)*4e6)) },
		"outlier":       func(i int) float32 { return math.Float32frombits(math.Float32bits(1) + uint32(i/1999%2)) },
		"subnormal":     func(int) float32 { return math.Float32frombits(r.Uint32() & 0x80ffffff) },
		"any pattern":   func(int) float32 { return math.Float32frombits(r.Uint32()) },
		"rarely a NaN": func(i int) float32 {
			if i%3000 == 2999 {
				return float32(math.NaN())
			}
			return float32(r.NormFloat64())
		},
		"nothing finite": func(int) float32 { return float32(math.Inf(1)) },
		"largest":        func(int) float32 { return math.MaxFloat32 * float32(r.IntN(3)-1) },
	}
	sizes := []int{1, 2, 3, 4, 5, 7, 8, 9, 17, groupElements - 1, groupElements, groupElements + 9, 3*groupElements + 5}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		next := kinds[name]
		for _, n := range sizes {
			v := make([]float32, n)
			half, brain := make([]uint16, n), make([]uint16, n)
			for i := range v {
				v[i] = next(i)
				half[i] = uint16(math.Float32bits(v[i]) >> 13) // some other number
				brain[i] = uint16(math.Float32bits(v[i]) >> 16)
			}
			for _, p := range []*onnxpb.TensorProto{floats(v), shorts(onnxpb.TensorProto_FLOAT16, half...), shorts(onnxpb.TensorProto_BFLOAT16, brain...)} {
				x := opened(t, p)[0]
				edges := int64(1)
				if name == "any pattern" { // most of them are next to nothing, where bins may meet
					edges = int64(n)
				}
				all, want := statsFor(t, p), slowStats(x)
				sameStats(t, fmt.Sprintf("%s, %d of %s", name, n, x.DType()), all, want, edges)
				sum := int64(0)
				for _, k := range all.Histogram {
					sum += k
				}
				if all.Histogram != nil && sum != int64(n)-want.NaN-want.Inf {
					t.Errorf("%s, %d of %s: %d values in bins", name, n, x.DType(), sum)
				}
				counts, err := readStats(t.Context(), opened(t, p), false)
				if err != nil || counts[0].err != nil {
					t.Fatal(err, counts[0].err)
				}
				got := counts[0].stats
				if got.Zeros != want.Zeros || got.Subnormal != want.Subnormal || got.NaN != want.NaN || got.Inf != want.Inf {
					t.Errorf("%s, %d of %s: counts %+v, want %+v", name, n, x.DType(), got, want)
				}
				if got.Min != nil || got.Mean != nil || got.Histogram != nil {
					t.Errorf("%s, %d of %s: more than counts: %+v", name, n, x.DType(), got)
				}
			}
		}
	}
}
