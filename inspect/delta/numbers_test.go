package delta

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// addition is a model that adds a constant to its input.
func addition(t *testing.T, p *onnxpb.TensorProto) *bench {
	p.Name = proto.String("k")
	m := sketch(t, 17).input("x", p.Dims...).node("Add", "x k", "y").output("y", p.Dims...)
	m.Graph.Initializer = append(m.Graph.Initializer, p)
	return m
}

func floats(t *testing.T, v ...float32) *bench {
	return addition(t, &onnxpb.TensorProto{Dims: []int64{int64(len(v))}, DataType: proto.Int32(1), FloatData: v})
}

// only returns the one tensor that is compared.
func only(t *testing.T, a, b *bench, opt Options) *TensorDelta {
	t.Helper()
	d := compared(t, a, b, opt)
	if len(d.Nodes) != 1 || len(d.Nodes[0].Tensors) != 1 {
		t.Fatalf("%d nodes, %+v", len(d.Nodes), d.Nodes)
	}
	return &d.Nodes[0].Tensors[0]
}

func TestToleranceIsInclusive(t *testing.T) {
	a, b := floats(t, 1, 2, -2, 0), floats(t, 1.5, 3, -1, 0.25)
	for _, c := range []struct {
		opt    Options
		beyond int64
	}{
		{Options{}, 4}, {Options{RTol: 0.5}, 1}, {Options{ATol: 0.25}, 3},
		{Options{ATol: 0.25, RTol: 0.25}, 2}, {Options{ATol: 0.25, RTol: 0.375}, 0}, {Options{ATol: 1}, 0},
	} {
		want := Differs
		if c.beyond == 0 {
			want = Within
		}
		if x := only(t, a, b, c.opt); x.Values.Beyond != c.beyond || x.Values.Changed != 4 || x.Agreement != want {
			t.Errorf("%+v: %s, %+v", c.opt, x.Agreement, x.Values)
		}
	}
}

// A NaN that both models have does not hide how far the other values are, and
// zeros are counted where they come and go.
func TestEqualNaN(t *testing.T) {
	n := 600_000 // several blocks; only the last ones change
	v := make([]float32, n)
	v[0], v[1], v[2] = float32(math.NaN()), float32(math.Inf(-1)), 3
	w := slices.Clone(v)
	v[n-1], w[n-1], v[n-2], w[n-3] = 4, 14, 1e-3, 1e-3
	x := only(t, floats(t, v...), floats(t, w...), Options{})
	if v := x.Values; v.Changed != 3 || v.RelL2 == nil || math.Abs(*v.RelL2-2) > 1e-6 || *v.MaxAbs != 10 || v.NewZeros != 1 || v.GoneZeros != 1 || v.NaNA != 1 || v.InfB != 1 || !slices.Equal(v.At, []int64{int64(n - 1)}) {
		t.Errorf("%+v", v)
	}
}

func TestTypesWithoutNumbers(t *testing.T) {
	with := func(d onnxpb.TensorProto_DataType, columns int64, fill byte) *bench {
		return addition(t, &onnxpb.TensorProto{DataType: proto.Int32(int32(d)), Dims: []int64{2, columns}, RawData: bytes.Repeat([]byte{fill}, 800)})
	}
	single, double := onnxpb.TensorProto_COMPLEX64, onnxpb.TensorProto_COMPLEX128
	for _, c := range []struct {
		b    *bench
		want Agreement
	}{{with(single, 50, 1), Equal}, {with(single, 50, 2), Differs}, {with(double, 25, 1), Incomplete}} {
		if x := only(t, with(single, 50, 1), c.b, Options{}); x.Agreement != c.want || x.Values != nil {
			t.Errorf("%s, want %s: %+v", x.Agreement, c.want, x)
		}
	}
}

func TestLargeIntegers(t *testing.T) {
	with := func(v int64) *bench {
		return addition(t, &onnxpb.TensorProto{DataType: proto.Int32(7), Dims: []int64{1}, Int64Data: []int64{v}})
	}
	if x := only(t, with(math.MaxInt64), with(math.MaxInt64-1), Options{}); x.Agreement != Differs {
		t.Errorf("%+v", x)
	}
}

// Recount of what Compare made changes nothing, and what is taken out no longer
// counts.
func TestRecount(t *testing.T) {
	d := compared(t, floats(t, 1, 2), floats(t, 1, 3), Options{})
	was := d.Totals
	if d.Recount(); d.Totals != was || d.Same || was.Changed != 1 {
		t.Errorf("%+v, was %+v", d.Totals, was)
	}
	d.Nodes[0].Changes, d.Nodes[0].Tensors = nil, nil
	if d.Recount(); !d.Same || d.Totals != (Totals{Kept: 1}) || d.Nodes[0].Kind != Kept {
		t.Errorf("%+v", d.Totals)
	}
}

// Progress ends with all numbers compared, and never tells more.
func TestProgress(t *testing.T) {
	var last, total int64
	a, b := loaded(t, vggFile), loaded(t, bnFile)
	for _, other := range []*bench{a, b} {
		last = 0
		compared(t, a, other, Options{Progress: func(done, of int64) {
			if done < last || done > of {
				t.Errorf("%d of %d after %d", done, of, last)
			}
			last, total = done, of
		}})
		if last != total || total == 0 {
			t.Errorf("ends with %d of %d", last, total)
		}
	}
}

// Doubles keep their digits where one side is stored transposed, and where filters
// are then looked for.
func TestTransposedDoubles(t *testing.T) {
	const rows, cols = 6, 5
	write := func(turned bool, edit func(w []float64)) *bench {
		w := make([]float64, rows*cols)
		for i := range w {
			w[i] = math.Sin(float64(i + 1))
		}
		edit(w)
		dims := []int64{rows, cols}
		if turned {
			v := make([]float64, len(w))
			for r := range rows {
				for c := range cols {
					v[c*rows+r] = w[r*cols+c]
				}
			}
			w, dims = v, []int64{cols, rows}
		}
		m := sketch(t, 17).input("x", 1, cols)
		m.Graph.Initializer = append(m.Graph.Initializer, &onnxpb.TensorProto{Name: proto.String("w"), Dims: dims, DataType: proto.Int32(11), DoubleData: w})
		trans := int64(1)
		if turned {
			trans = 0
		}
		return m.node("Gemm", "x w", "y", attrI("transB", trans)).output("y", 1, rows)
	}
	for _, by := range []float64{1e-12, 1e300} {
		for _, turned := range []bool{false, true} {
			d := compared(t, write(!turned, func([]float64) {}), write(turned, func(w []float64) { w[7] += by }), Options{})
			if len(d.Nodes) != 1 || len(d.Nodes[0].Tensors) != 1 {
				t.Fatalf("%+v", d.Nodes)
			}
			if x := d.Nodes[0].Tensors[0]; x.Agreement != Differs || x.Values.Changed != 1 || x.Values.InfB != 0 || math.Abs(*x.Values.MaxAbs/by-1) > 1e-3 {
				t.Errorf("by %g, turned %v: %s, %+v", by, turned, x.Agreement, x.Values)
			}
			if f := d.Nodes[0].Filters; f.Kept != rows-1 {
				t.Errorf("by %g, turned %v: filters %+v", by, turned, f.FilterCounts)
			}
		}
	}
}
