package inspect

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func rawTensor(d onnxpb.TensorProto_DataType, dims []int64, raw []byte) *onnxpb.TensorProto {
	return &onnxpb.TensorProto{Name: proto.String("w"), Dims: dims, DataType: proto.Int32(int32(d)), RawData: raw}
}

func doubles(v ...float64) *onnxpb.TensorProto {
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(x))
	}
	return rawTensor(onnxpb.TensorProto_DOUBLE, []int64{int64(len(v))}, raw)
}

func floats(v []float32) *onnxpb.TensorProto {
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return rawTensor(onnxpb.TensorProto_FLOAT, []int64{int64(len(v))}, raw)
}

func shorts(d onnxpb.TensorProto_DataType, v ...uint16) *onnxpb.TensorProto {
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint16(raw, x)
	}
	return rawTensor(d, []int64{int64(len(v))}, raw)
}

// opened writes tensors to a model in memory and reads them back.
func opened(t testing.TB, tensors ...*onnxpb.TensorProto) []onnxfile.Tensor {
	t.Helper()
	s := newSketch(13).input("x", 1).node("Identity", "x", "y").output("y", 1)
	s.Graph.Initializer = tensors
	f := s.file(t)
	var out []onnxfile.Tensor
	for _, p := range f.Model.Graph.Initializer {
		out = append(out, f.Tensor(p))
	}
	return out
}

func statsFor(t testing.TB, p *onnxpb.TensorProto) *ValueStats {
	t.Helper()
	s, err := readStats(t.Context(), opened(t, p), true)
	if err != nil || s[0].err != nil {
		t.Fatal(err, s[0].err)
	}
	return s[0].stats
}

// slowStats is the definition, with exact sums.
func slowStats(t onnxfile.Tensor) *ValueStats {
	out := &ValueStats{}
	var finite []float64
	tiny := smallestNormal(t.DType())
	for block, err := range t.Blocks() {
		if err != nil {
			panic(err)
		}
		for _, v := range block {
			switch {
			case math.IsNaN(v):
				out.NaN++
			case math.IsInf(v, 0):
				out.Inf++
			default:
				finite = append(finite, v)
			}
			if v == 0 {
				out.Zeros++
			} else if math.Abs(v) < tiny {
				out.Subnormal++
			}
		}
	}
	if len(finite) == 0 {
		return out
	}
	lo, hi := finite[0], finite[0]
	prec := uint(2200) // for all doubles
	if len(finite) > 1000 {
		prec = 200
	}
	exact := func() *big.Float { return new(big.Float).SetPrec(prec) }
	sum, n := exact(), exact().SetInt64(int64(len(finite)))
	x, d := exact(), exact()
	for _, v := range finite {
		lo, hi = min(lo, v), max(hi, v)
		sum.Add(sum, x.SetFloat64(v))
	}
	mean := exact().Quo(sum, n)
	squares := exact()
	for _, v := range finite {
		d.Sub(x.SetFloat64(v), mean)
		squares.Add(squares, d.Mul(d, d))
	}
	m, _ := mean.Float64()
	s, _ := exact().Sqrt(exact().Quo(squares, n)).Float64()
	out.Min, out.Max, out.Mean, out.Std = &lo, &hi, &m, &s
	if lo < hi {
		out.Histogram = make([]int64, histogramBins)
		low := exact().SetFloat64(lo)
		width := exact().Sub(x.SetFloat64(hi), low)
		bins := exact().SetInt64(histogramBins)
		for _, v := range finite {
			d.Sub(x.SetFloat64(v), low)
			k, _ := d.Mul(d, bins).Quo(d, width).Int64()
			out.Histogram[min(k, histogramBins-1)]++
		}
	}
	return out
}

// sameStats compares with the exact result; the mean and the deviation within a
// small multiple of the rounding of the range. Values within rounding of the edge
// of a bin may be counted on either side.
func sameStats(t *testing.T, name string, got, want *ValueStats, edges int64) {
	t.Helper()
	if got == nil {
		t.Errorf("%s: none", name)
		return
	}
	if got.Zeros != want.Zeros || got.Subnormal != want.Subnormal || got.NaN != want.NaN || got.Inf != want.Inf {
		t.Errorf("%s: zeros %d, subnormal %d, NaN %d, infinite %d; want %d, %d, %d, %d", name,
			got.Zeros, got.Subnormal, got.NaN, got.Inf, want.Zeros, want.Subnormal, want.NaN, want.Inf)
	}
	if (got.Min == nil) != (want.Min == nil) {
		t.Fatalf("%s: min %v, want %v", name, got.Min, want.Min)
	}
	if want.Min == nil {
		return
	}
	if *got.Min != *want.Min || *got.Max != *want.Max {
		t.Errorf("%s: %v to %v, want %v to %v", name, *got.Min, *got.Max, *want.Min, *want.Max)
	}
	size := max(math.Abs(*want.Min), math.Abs(*want.Max))
	if d := math.Abs(*got.Mean - *want.Mean); !(d <= 1e-13*size) {
		t.Errorf("%s: mean %v, want %v", name, *got.Mean, *want.Mean)
	}
	if d := math.Abs(*got.Std - *want.Std); !(d <= 1e-12**want.Std+5e-324) {
		t.Errorf("%s: std %v, want %v", name, *got.Std, *want.Std)
	}
	if len(got.Histogram) != len(want.Histogram) {
		t.Fatalf("%s: %d bins, want %d", name, len(got.Histogram), len(want.Histogram))
	}
	for i := range got.Histogram {
		if d := got.Histogram[i] - want.Histogram[i]; d < -edges || d > edges {
			t.Errorf("%s: histogram %v, want %v", name, got.Histogram, want.Histogram)
			break
		}
	}
}

func TestStats(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	r := rand.New(rand.NewPCG(3, 4))
	random := func(n int, scale, shift float64) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = r.NormFloat64()*scale + shift
		}
		return v
	}
	asFloat := func(v []float64) *onnxpb.TensorProto {
		f := make([]float32, len(v))
		for i := range v {
			f[i] = float32(v[i])
		}
		return floats(f)
	}
	edge := asFloat(random(chunkElements+3, 1, 0))
	binary.LittleEndian.PutUint32(edge.RawData[4*chunkElements:], math.Float32bits(77))
	with := func(v []float64, at int, x ...float64) []float64 {
		copy(v[at:], x)
		return v
	}
	for _, c := range []struct {
		name  string
		p     *onnxpb.TensorProto
		edges int64
	}{
		{"whole numbers", doubles(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), 0},
		{"one", doubles(3), 0},
		{"the same", doubles(0.1, 0.1, 0.1, 0.1, 0.1), 0},
		{"far from zero", doubles(random(1000, 1e-6, 1e6)...), 1},
		{"largest", doubles(math.MaxFloat64, -math.MaxFloat64, math.MaxFloat64, 1), 0},
		{"largest of one sign", doubles(math.MaxFloat64, math.MaxFloat64, math.MaxFloat64/2), 0},
		{"large", doubles(1e200, -3e200, 2e200, 0, 7), 0},
		{"small", doubles(1e-300, 3e-300, -1e-300, 0), 0},
		{"subnormal doubles", doubles(5e-324, 1e-323, 0, 2e-308, 3e-308), 0},
		{"nothing finite", doubles(nan, inf, -inf), 0},
		{"some finite", doubles(nan, 1, inf, 2, -inf, 5), 0},
		{"zeros of both signs", doubles(0, math.Copysign(0, -1), 1), 0},
		{"subnormal floats", floats([]float32{0, 1e-40, -1e-40, 0x1p-126, 1, 1e-45}), 0},
		{"NaN in the second block", asFloat(with(random(100_000, 1, 0), 50_000, nan, inf)), 1},
		{"blocks", asFloat(random(100_001, 3, 1)), 1},
		{"chunks", edge, 2},
		{"half", shorts(onnxpb.TensorProto_FLOAT16, 0, 0x8000, 1, 0x3ff, 0x400, 0x3c00, 0x7c00, 0xfc00, 0x7e00), 0},
		{"bfloat16", shorts(onnxpb.TensorProto_BFLOAT16, 0, 1, 0x80, 0x3f80, 0x7f80, 0x7fc0), 0},
		{"bytes", rawTensor(onnxpb.TensorProto_INT8, []int64{5}, []byte{0, 1, 0xff, 0x80, 0x7f}), 0},
		{"bools", rawTensor(onnxpb.TensorProto_BOOL, []int64{3}, []byte{0, 1, 1}), 0},
		{"integers as varints", &onnxpb.TensorProto{Name: proto.String("w"), Dims: []int64{4}, DataType: proto.Int32(int32(onnxfile.Int64)), Int64Data: []int64{-5, 0, 7, 1 << 40}}, 0},
	} {
		tensor := opened(t, c.p)[0]
		sameStats(t, c.name, statsFor(t, c.p), slowStats(tensor), c.edges)
	}
}

// What a person can count by hand.
func TestStatsByHand(t *testing.T) {
	s := statsFor(t, doubles(2, 4, 4, 4, 5, 5, 7, 9)) // mean 5, variance 4
	want := []int64{1, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 1}
	if *s.Mean != 5 || *s.Std != 2 || *s.Min != 2 || *s.Max != 9 || !reflect.DeepEqual(s.Histogram, want) {
		t.Errorf("mean %v, std %v, %v to %v, %v", *s.Mean, *s.Std, *s.Min, *s.Max, s.Histogram)
	}
	for _, p := range []*onnxpb.TensorProto{
		{Name: proto.String("w"), Dims: []int64{1}, DataType: proto.Int32(int32(onnxpb.TensorProto_STRING)), StringData: [][]byte{[]byte("a")}},
		rawTensor(onnxpb.TensorProto_COMPLEX64, []int64{1}, make([]byte, 8)),
		rawTensor(onnxpb.TensorProto_FLOAT, []int64{0, 3}, nil),
		rawTensor(99, []int64{1}, make([]byte, 8)),
	} {
		if s := statsFor(t, p); s != nil {
			t.Errorf("%v has %+v", p.GetDataType(), s)
		}
	}
}

// The sums do not depend on how many goroutines there are.
func TestStatsDeterministic(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	v := make([]float32, 2*chunkElements+12345)
	for i := range v {
		v[i] = float32(r.NormFloat64() * math.Exp(4*r.NormFloat64()))
	}
	tensors := opened(t, floats(v), floats(v[:1000]), floats(v[:chunkElements]))
	var first []reading
	for _, procs := range []int{1, 3} {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		s, err := readStats(t.Context(), tensors, true)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = s
		} else if !reflect.DeepEqual(s, first) {
			t.Errorf("%d goroutines: %+v, one: %+v", procs, s[0].stats, first[0].stats)
		}
	}
}

// Merging is associative and commutative but for rounding.
func TestStatsMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	parts := make([][]float64, 9)
	var all []float64
	for i := range parts {
		for range r.IntN(50) {
			v := r.NormFloat64()
			if r.IntN(20) == 0 {
				v = math.Inf(1)
			}
			parts[i] = append(parts[i], v)
		}
		all = append(all, parts[i]...)
	}
	want := slowStats(opened(t, doubles(all...))[0])
	for range 50 {
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		first := newCensus()
		for _, p := range parts {
			c := newCensus()
			c.add(p, 0x1p-1022)
			first.merge(&c)
		}
		ruler, _ := first.ruler()
		var second spread
		for _, p := range parts {
			var s spread
			s.add(p, ruler)
			second.merge(&s)
		}
		sameStats(t, "shuffled", first.stats(onnxfile.Double, &second), want, 0)
	}
}

func TestStatsErrors(t *testing.T) {
	var te *onnxfile.TensorError
	short := rawTensor(onnxpb.TensorProto_FLOAT, []int64{1 << 40}, make([]byte, 16))
	s, err := readStats(t.Context(), opened(t, floats([]float32{1}), short), true)
	if err != nil || s[0].err != nil || s[0].stats == nil || !errors.As(s[1].err, &te) {
		t.Errorf("a tensor that claims more than it has: %v, %v", s, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	big := floats(make([]float32, 2*chunkElements))
	for _, p := range []*onnxpb.TensorProto{floats([]float32{1}), big} {
		if _, err := readStats(ctx, opened(t, p), true); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
	if s, err := readStats(t.Context(), nil, true); err != nil || len(s) != 0 {
		t.Errorf("no tensors: %v, %v", s, err)
	}
}
