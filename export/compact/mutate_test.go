package compact

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// mutate changes a model in ways that a file may be odd in.
func mutate(r *rand.Rand, m *onnxpb.ModelProto) {
	g := m.Graph
	node := func() *onnxpb.NodeProto { return g.Node[r.IntN(len(g.Node))] }
	tensor := func() *onnxpb.TensorProto { return g.Initializer[r.IntN(len(g.Initializer))] }
	var names []string
	for _, n := range g.Node {
		names = append(append(names, n.Output...), n.Input...)
	}
	name := func() string { return names[r.IntN(len(names))] }
	odd := []int64{-2, -1, 0, 1, 2, 3, 5, 6, 1 << 20, 1 << 40, math.MaxInt64}
	ops := []string{"Add", "Mul", "Relu", "Concat", "Conv", "Gemm", "MatMul", "Flatten", "Transpose", "Split", "Slice", "Pad", "Reshape", "Sigmoid",
		"GlobalAveragePool", "Softmax", "BatchNormalization", "PRelu", "MaxPool", "AveragePool", "ReduceMean", "Shape", "Squeeze", "Unsqueeze", "ConvTranspose", "Identity", "Dropout", "Resize", "If"}
	for range 1 + r.IntN(3) {
		if len(g.Node) == 0 || len(g.Initializer) == 0 {
			return
		}
		switch r.IntN(14) {
		case 0:
			node().OpType = proto.String(ops[r.IntN(len(ops))])
		case 1, 2, 3:
			n := node()
			if len(n.Input) > 0 {
				n.Input[r.IntN(len(n.Input))] = name()
			}
		case 4:
			n := node()
			if len(n.Input) > 0 {
				n.Input[r.IntN(len(n.Input))] = ""
			}
		case 5:
			n := node()
			n.Input = n.Input[:r.IntN(len(n.Input)+1)]
		case 6:
			n := node()
			n.Input = append(n.Input, name())
		case 7:
			t := tensor()
			if len(t.Dims) > 0 {
				t.Dims[r.IntN(len(t.Dims))] = odd[r.IntN(len(odd))]
			}
		case 8:
			t := tensor()
			t.Dims = append(t.Dims, 1)
			r.Shuffle(len(t.Dims), func(i, j int) { t.Dims[i], t.Dims[j] = t.Dims[j], t.Dims[i] })
		case 9, 10:
			n := node()
			if len(n.Attribute) > 0 {
				a := n.Attribute[r.IntN(len(n.Attribute))]
				if len(a.Ints) > 0 {
					a.Ints[r.IntN(len(a.Ints))] = odd[r.IntN(len(odd))]
				} else if a.I != nil {
					a.I = proto.Int64(odd[r.IntN(len(odd))])
				}
			}
		case 11:
			t := tensor()
			if len(t.Int64Data) > 0 {
				t.Int64Data[r.IntN(len(t.Int64Data))] = odd[r.IntN(len(odd))]
			}
		case 12:
			i := r.IntN(len(g.Node))
			g.Node = append(g.Node[:i:i], g.Node[i+1:]...)
		case 13:
			g.Output = append(g.Output, &onnxpb.ValueInfoProto{Name: proto.String(name()), Type: value("", 1).Type})
			g.Output[len(g.Output)-1].GetType().GetTensorType().Shape = nil
		}
	}
}

// TestMutants: odd files never make it panic, never make it write what does not
// pass its check, and never change answers where the file runs at all.
func TestMutants(t *testing.T) {
	e := gorgonia.Open(gorgonia.Options{Threads: 1})
	defer e.Close()
	list := drawings()
	planned, ran, removed := 0, 0, 0
	for seed := range uint64(mutants(t)) {
		r := rand.New(rand.NewPCG(seed, 17))
		var n *net
		if r.IntN(2) == 0 {
			n = list[r.IntN(len(list))].net()
		} else {
			n = randomNet(seed)
		}
		m := new(onnxpb.ModelProto)
		if err := proto.Unmarshal(n.bytes(t), m); err != nil {
			t.Fatal(err)
		}
		mutate(r, m)
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "mutant.onnx")
		if err != nil {
			continue
		}
		im, err := inspect.New(t.Context(), f, inspect.Options{})
		if err != nil {
			continue
		}
		p, err := NewPlan(t.Context(), im, Options{RoundTo: r.IntN(3)})
		if err != nil {
			continue
		}
		planned++
		d, err := Apply(t.Context(), im, p)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		out, err := d.Bytes()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := read(t, out).Check(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		before, ok := try(t, e, b)
		if !ok {
			continue
		}
		after, ok := try(t, e, out)
		if !ok {
			t.Errorf("seed %d: the mutant runs, compacted it does not", seed)
			continue
		}
		ran++
		removed += p.Removed
		if d := apart(t, before, after); d > 1e-4 {
			t.Errorf("seed %d: answers differ by %.3g", seed, d)
		}
	}
	t.Logf("%d mutants planned, %d ran, %d channels removed", planned, ran, removed)
	if ran < mutants(t)/10 {
		t.Error("too few mutants run")
	}
}

func mutants(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("FILTERLENS_MUTANTS")); err == nil {
		return n // a long run
	}
	if testing.Short() {
		return 200
	}
	return 800
}

// try runs a model that may not run; one whose answers are no numbers does not
// count.
func try(t *testing.T, e engine.Engine, b []byte) (map[string]*engine.Tensor, bool) {
	s, err := e.Load(t.Context(), engine.Model{Name: "mutant", Bytes: b})
	if err != nil {
		return nil, false
	}
	defer s.Close()
	size := int64(1)
	for _, v := range s.Inputs() {
		for _, d := range v.Shape {
			if size *= max(d, 2); size > 1<<20 || v.DType != "float" {
				return nil, false
			}
		}
	}
	out := map[string]*engine.Tensor{}
	for _, v := range s.Outputs() {
		out[v.Name] = nil
	}
	if err := s.Run(t.Context(), feed(s, 3), out); err != nil {
		if e := new(engine.Error); !errors.As(err, &e) {
			t.Error(err)
		}
		return nil, false
	}
	for _, x := range out {
		for _, v := range x.Float32() {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				return nil, false
			}
		}
	}
	return out, true
}
