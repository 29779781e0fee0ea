package delta

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func (m *bench) bytes() []byte {
	b, err := proto.Marshal(m.ModelProto)
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// described reads a model that may be anything; nil where it is none.
func described(t *testing.T, b []byte) *inspect.Model {
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "fuzz.onnx")
	if err != nil {
		return nil
	}
	m, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		return nil
	}
	return m
}

// FuzzCompare compares whatever can be opened: nothing may panic, and a model is
// the same as itself.
func FuzzCompare(f *testing.F) {
	// Small ones, so that a random byte is seldom one of a weight.
	small := chain(f, 13, 2)
	turned := small.clone()
	matMul(turned)
	norm := sketch(f, 15).input("x", -1, 1, 2, 2).floats("w", []int64{1, 1, 1, 1}, 1).floats("v", []int64{1}, 1).
		node("Conv", "x w v", "c", attrI("group", 1)).node("BatchNormalization", "c v v v v", "n").node("Slice", "n s e a", "h").ints("s", 0).ints("e", 1).ints("a", 1).
		node("Concat", "h n", "k", attrI("axis", 1)).node("Relu", "k", "r").node("Flatten", "r", "y").output("y", -1, 8)
	for _, p := range [][2]*bench{{small, small}, {small, turned}, {norm, norm}, {small, norm}} {
		f.Add(p[0].bytes(), p[1].bytes())
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a)+len(b) > 1<<17 {
			return
		}
		x, y := described(t, a), described(t, b)
		if x == nil {
			return
		}
		if y != nil {
			_, _ = Compare(t.Context(), x, y, Options{Workers: 2})
		}
		self(t, x)
	})
}

func self(t *testing.T, m *inspect.Model) {
	d, err := Compare(t.Context(), m, m, Options{Workers: 2})
	if err == nil && (!d.Same || d.Totals.TensorsDiffer > 0) && d.Totals.TensorsNotRead == 0 {
		t.Errorf("a model differs from itself: %v", summary(d))
	}
}

// TestMutated compares models after random edits of their structure, valid or not.
func TestMutated(t *testing.T) {
	bases := []*bench{network(t), chain(t, 13, 4, 5, 4), chain(t, 11, 6, 6, 6, 6)}
	bases[1].convert(onnxfile.Float16)
	done := 0
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 99))
		pick := func() *inspect.Model {
			m := bases[r.IntN(len(bases))].clone()
			for range 1 + r.IntN(6) {
				m.mutate(r)
			}
			return described(t, m.bytes())
		}
		a, b := pick(), pick()
		if a == nil || b == nil {
			continue
		}
		if _, err := Compare(t.Context(), a, b, Options{Workers: 2}); err == nil {
			done++
		}
		self(t, a)
	}
	if done < 100 {
		t.Errorf("only %d pairs could be compared", done)
	}
}

func (m *bench) mutate(r *rand.Rand) {
	nodes := m.Graph.Node
	n := nodes[r.IntN(len(nodes))]
	var tensors []string
	for _, k := range nodes {
		tensors = append(tensors, k.Output...)
	}
	for _, p := range m.Graph.Initializer {
		tensors = append(tensors, p.GetName())
	}
	some := func() string { return tensors[r.IntN(len(tensors))] }
	p := m.Graph.Initializer[r.IntN(len(m.Graph.Initializer))]
	dims := []int64{-1, 0, 1, 2, 3, 4, 6, 12, 16, 48, 1 << 20, 1 << 40, 1 << 62}
	switch r.IntN(14) {
	case 0:
		i := r.IntN(len(nodes))
		if len(nodes) > 2 {
			m.Graph.Node = slices.Delete(nodes, i, i+1)
		}
	case 1:
		m.Graph.Node = slices.Insert(nodes, r.IntN(len(nodes)), proto.Clone(n).(*onnxpb.NodeProto))
	case 2, 3:
		if len(n.Input) > 0 {
			n.Input[r.IntN(len(n.Input))] = some()
		}
	case 4:
		ops := []string{"Conv", "Gemm", "MatMul", "Add", "Mul", "BatchNormalization", "Concat", "Slice", "Split", "Pad", "Flatten", "Reshape", "Transpose", "Relu", "Clip", "Softmax", "ReduceMean", "Identity", "Unknown", "If", "DequantizeLinear"}
		n.OpType = proto.String(ops[r.IntN(len(ops))])
	case 5:
		n.Attribute = nil
	case 6:
		names := []string{"group", "axis", "transB", "transA", "alpha", "kernel_shape", "pads", "axes", "perm", "split", "epsilon", "training_mode"}
		name := names[r.IntN(len(names))]
		if r.IntN(2) == 0 {
			n.Attribute = append(n.Attribute, attrI(name, dims[r.IntN(len(dims))]))
		} else {
			n.Attribute = append(n.Attribute, attrInts(name, dims[r.IntN(len(dims))], 1, dims[r.IntN(len(dims))]), attrF("alpha", 2))
		}
	case 7:
		if len(p.Dims) > 0 {
			p.Dims[r.IntN(len(p.Dims))] = dims[r.IntN(len(dims))]
		}
	case 8:
		p.DataType = proto.Int32(int32(r.IntN(30)))
	case 9:
		if len(p.RawData) > 0 {
			p.RawData = p.RawData[:r.IntN(len(p.RawData))]
		}
	case 10:
		// Two dimensions change places: the number of bytes still fits.
		if k := len(p.Dims); k > 1 {
			p.Dims[0], p.Dims[k-1] = p.Dims[k-1], p.Dims[0]
		}
	case 11:
		for i := range p.RawData {
			if r.IntN(8) == 0 {
				p.RawData[i] = byte(r.IntN(256)) // NaN and infinities among them
			}
		}
	case 12:
		m.Graph.Input[0] = info("x", dims[r.IntN(len(dims))], dims[r.IntN(len(dims))], 4, 4)
	case 13:
		if len(n.Output) > 0 {
			n.Output = append(n.Output, some())
		}
	}
}
