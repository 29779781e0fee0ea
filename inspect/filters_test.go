package inspect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// Zero filters are found whatever operator reads the weight and however it is
// turned round on the way.
func TestZeroFilters(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, c := range []struct {
		op    string
		dims  []int64 // of the stored tensor
		attrs []*onnxpb.AttributeProto
		perm  []int64 // of a Transpose before the reader
		n     int64
		// filter of the element at an index
		filter func(at []int64) int64
	}{
		{"Conv", []int64{5, 3, 2, 2}, nil, nil, 5, func(at []int64) int64 { return at[0] }},
		{"Conv", []int64{6, 1, 3, 3}, []*onnxpb.AttributeProto{attrInt("group", 6)}, nil, 6, func(at []int64) int64 { return at[0] }},
		{"Conv", []int64{2, 2, 3, 5}, nil, []int64{3, 2, 0, 1}, 5, func(at []int64) int64 { return at[3] }},
		{"ConvTranspose", []int64{4, 3, 2, 2}, nil, nil, 3, func(at []int64) int64 { return at[1] }},
		{"ConvTranspose", []int64{4, 3, 2, 2}, []*onnxpb.AttributeProto{attrInt("group", 2)}, nil, 6, func(at []int64) int64 { return at[1] + 3*(at[0]/2) }},
		{"Gemm", []int64{4, 7}, nil, nil, 7, func(at []int64) int64 { return at[1] }},
		{"Gemm", []int64{7, 4}, []*onnxpb.AttributeProto{attrInt("transB", 1)}, nil, 7, func(at []int64) int64 { return at[0] }},
		{"MatMul", []int64{4, 7}, nil, nil, 7, func(at []int64) int64 { return at[1] }},
		{"MatMul", []int64{7, 4}, nil, []int64{1, 0}, 7, func(at []int64) int64 { return at[0] }},
		{"MatMul", []int64{400, 700}, nil, nil, 700, func(at []int64) int64 { return at[1] }}, // many blocks
	} {
		n := int64(1)
		for _, d := range c.dims {
			n *= d
		}
		zero := make([]bool, c.n)
		for i := range zero {
			zero[i] = r.IntN(3) == 0
		}
		zero[0] = true
		v := make([]float32, n)
		for e := range n {
			at := make([]int64, len(c.dims))
			rest := e
			for i := len(at) - 1; i >= 0; i-- {
				at[i] = rest % c.dims[i]
				rest /= c.dims[i]
			}
			if !zero[c.filter(at)] {
				v[e] = 1
			}
		}
		s := newSketch(17).input("x", "n").weights("w", c.dims, v...)
		name := "w"
		if c.perm != nil {
			s.node("Transpose", "w", "turned", attrInts("perm", c.perm...))
			name = "turned"
		}
		s.node(c.op, "x "+name, "y", c.attrs...)
		m := s.model(t, Options{})
		if len(m.Layers) != 1 {
			t.Fatalf("%s: %d layers", c.op, len(m.Layers))
		}
		got, err := m.ZeroFilters(t.Context(), &m.Layers[0])
		var want []int
		for i, z := range zero {
			if z {
				want = append(want, i)
			}
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s %v %v: %v, %v; want %v", c.op, c.dims, c.perm, got, err, want)
		}
	}
	// A quantized weight is zero where it equals the offset, which is left alone.
	for _, offset := range []int64{0, 3} {
		s := newSketch(17).input("x", "n", 2)
		s.Graph.Initializer = []*onnxpb.TensorProto{rawTensor(onnxpb.TensorProto_INT8, []int64{2, 2}, []byte{0, 1, 0, 1}), rawTensor(onnxpb.TensorProto_INT8, nil, []byte{byte(offset)})}
		zeroPoint := "zero"
		s.Graph.Initializer[1].Name = &zeroPoint
		s.weights("scale", nil, 0.5).node("DequantizeLinear", "w scale zero", "d").node("MatMul", "x d", "y")
		m := s.model(t, Options{})
		got, err := m.ZeroFilters(t.Context(), &m.Layers[0])
		if want := map[int64]string{0: "[0]", 3: "[]"}[offset]; err != nil || fmt.Sprint(got) != want {
			t.Errorf("offset %d: %v, %v", offset, got, err)
		}
	}
}
