package gorgonia_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// hostileMutants is how many mutants of each corpus model are tried.
const hostileMutants = 5

// TestHostileCorpus feeds the engine the models below FILTERLENS_CORPUS as they
// are, cut in half, and mutated. Whatever they are, it answers with a result or
// an error: no panic, also none that was caught, no hang, bounded memory, and a
// refusal says what it is about.
func TestHostileCorpus(t *testing.T) {
	root := corpusRoot(t)
	e := gorgonia.Open(gorgonia.Options{Threads: 1})
	defer e.Close()
	count := make(map[string]int)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".onnx" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) > 1<<20 {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if strings.Contains(filepath.ToSlash(name), "/light/") {
			return nil // their nodes make weights of hundreds of megabytes
		}
		for i := range 2 + hostileMutants {
			form, model := "as it is", b
			switch {
			case i == 1:
				form, model = "cut", b[:len(b)/2]
			case i > 1:
				form = fmt.Sprintf("mutant %d", i)
				if model = mutated(b, rand.New(rand.NewPCG(uint64(i), uint64(len(b))))); model == nil {
					return nil
				}
			}
			what, err := attack(t, e, model)
			kind, _, _ := strings.Cut(form, " ")
			count[kind+": "+what]++
			if err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(count) == 0 {
		t.Fatal("no model was found")
	}
	for _, what := range byCount(count) {
		t.Logf("%6d  %s", count[what], what)
	}
}

// attack loads a model and, when that succeeds, runs it on drawn numbers. It says
// what became of it, and fails where the engine misbehaves.
func attack(t testing.TB, e engine.Engine, model []byte) (what string, failure error) {
	g := new(onnxpb.GraphProto)
	if f, err := onnxfile.Read(strings.NewReader(string(model)), int64(len(model)), "test"); err == nil {
		g = f.Model.GetGraph()
		defer f.Close()
	}
	what = "computed"
	err := guarded("hostile", func() error {
		s, err := e.Load(t.Context(), engine.Model{Name: "test", Bytes: model})
		if err != nil {
			what = "not loaded"
			return err
		}
		defer s.Close()
		in := make(map[string]*engine.Tensor)
		for i, v := range s.Inputs() {
			if in[v.Name] = feed(v, uint64(i)); in[v.Name] == nil {
				what = "not fed"
				return nil
			}
		}
		out := make(map[string]*engine.Tensor)
		for _, v := range s.Outputs() {
			out[v.Name] = nil
		}
		if err := s.Run(t.Context(), in, out); err != nil {
			what = "not run"
			return err
		}
		for name, y := range out {
			if y == nil {
				return fmt.Errorf("%w: output %q is missing", errBroken, name)
			}
		}
		return nil
	})
	var typed *engine.Error
	switch u, wrong := refusal(err, g); {
	case err == nil:
		return what, nil
	case errors.Is(err, errPanic), errors.Is(err, errBroken), strings.Contains(err.Error(), "internal error"), strings.Contains(err.Error(), "bytes were allocated"):
		return what, err
	case wrong != nil:
		return what, wrong
	case u != nil:
		return "refused", nil
	case !errors.As(err, &typed) || strings.ContainsAny(err.Error(), "\n"):
		return what, fmt.Errorf("no error of the engine: %w", err)
	}
	return what, nil
}

// errBroken marks what contradicts the interface.
var errBroken = errors.New("broken promise")

// feed makes a tensor for an input, nil where it would be large or of a type that
// is not made.
func feed(v engine.Value, seed uint64) *engine.Tensor {
	shape, n := []int64{}, int64(1)
	for i, d := range v.Shape {
		if d < 0 {
			d = int64(1 + i)
		}
		if d > 1<<16 {
			return nil
		}
		if n *= d; n > 1<<18 {
			return nil
		}
		shape = append(shape, d)
	}
	var data any
	switch v.DType {
	case "float":
		data = drawn(n, seed)
	case "double":
		data = made(n, func(i int64) float64 { return float64(i%7) / 4 })
	case "float16", "bfloat16", "uint16":
		data = made(n, func(i int64) uint16 { return 0x3c00 + uint16(i%5) })
	case "int64":
		data = made(n, func(i int64) int64 { return i % 3 })
	case "int32":
		data = made(n, func(i int64) int32 { return int32(i % 3) })
	case "int16":
		data = made(n, func(i int64) int16 { return int16(i % 3) })
	case "int8":
		data = made(n, func(i int64) int8 { return int8(i % 3) })
	case "uint8":
		data = made(n, func(i int64) uint8 { return uint8(i % 3) })
	case "uint32":
		data = made(n, func(i int64) uint32 { return uint32(i % 3) })
	case "uint64":
		data = made(n, func(i int64) uint64 { return uint64(i % 3) })
	case "bool":
		data = made(n, func(i int64) bool { return i%3 == 0 })
	default:
		return nil
	}
	return &engine.Tensor{Shape: shape, Data: data}
}

func made[T any](n int64, f func(i int64) T) []T {
	v := make([]T, n)
	for i := range v {
		v[i] = f(int64(i))
	}
	return v
}

// mutated returns a model with a few things changed that a reader may trust:
// operators, attributes, wiring, shapes, types, opsets; nil when it cannot be read.
func mutated(model []byte, r *rand.Rand) []byte {
	f, err := onnxfile.Read(strings.NewReader(string(model)), int64(len(model)), "test")
	if err != nil {
		return nil
	}
	defer f.Close()
	d := f.Draft()
	for range 1 + r.IntN(3) {
		mutate(d, r)
	}
	b, err := d.Bytes()
	if err != nil {
		return nil
	}
	if r.IntN(8) == 0 && len(b) > 0 {
		b = slices.Clone(b)
		b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
	}
	return b
}

// extreme are numbers on which arithmetic with sizes goes wrong.
var extreme = []int64{0, 1, 2, 3, 5, 7, -1, -2, -3, 17, 1 << 16, 1<<31 - 1, 1 << 31, -1 << 31, 1 << 40, 1 << 62, math.MaxInt64, math.MinInt64}

// swapped are operators that mutants put in place of others.
var swapped = strings.Fields(`Conv ConvTranspose Gemm MatMul BatchNormalization MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool Softmax
	LogSoftmax Concat Split Slice Gather GatherElements GatherND Transpose Reshape Flatten Squeeze Unsqueeze Expand Tile Pad Resize Upsample
	Relu Clip PRelu HardSwish HardSigmoid Sigmoid Add Sub Mul Div Pow Mod Where Cast Shape Size ConstantOfShape Range OneHot ReduceMean ReduceSum
	ReduceMax ReduceL2 ArgMax TopK CumSum Einsum LRN LayerNormalization InstanceNormalization GroupNormalization DepthToSpace SpaceToDepth
	ScatterND ScatterElements NonZero Trilu Identity Dropout Max Min Mean Sum Equal Less And Not Constant EyeLike Gelu Mish Celu Erf Round`)

func mutate(d *onnxfile.Draft, r *rand.Rand) {
	g := d.Model.GetGraph()
	if g == nil || len(g.Node) == 0 {
		return
	}
	n := g.Node[r.IntN(len(g.Node))]
	some := func() int64 { return extreme[r.IntN(len(extreme))] }
	shape := func(v *onnxpb.ValueInfoProto) {
		s := v.GetType().GetTensorType().GetShape()
		if s == nil || len(s.Dim) == 0 {
			return
		}
		switch i := r.IntN(len(s.Dim)); r.IntN(3) {
		case 0:
			s.Dim = slices.Delete(s.Dim, i, i+1)
		case 1:
			s.Dim[i].Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: some()}
		case 2:
			s.Dim[i].Value = nil
		}
	}
	// Most mutants come from attributes and stored shapes.
	switch k := r.IntN(12); k {
	case 0:
		n.OpType = proto.String(swapped[r.IntN(len(swapped))])
	case 1, 2, 3:
		if len(n.Attribute) == 0 {
			n.Attribute = append(n.Attribute, &onnxpb.AttributeProto{Name: proto.String([]string{"axis", "axes", "pads", "group", "kernel_shape", "perm"}[r.IntN(6)]),
				I: proto.Int64(some()), Ints: []int64{some(), some()}, Type: onnxpb.AttributeProto_INTS.Enum()})
			return
		}
		i := r.IntN(len(n.Attribute))
		a := n.Attribute[i]
		switch {
		case r.IntN(6) == 0:
			n.Attribute = slices.Delete(n.Attribute, i, i+1)
		case a.T != nil:
			tensor(d, a.T, r)
		case len(a.Ints) > 0 && r.IntN(3) == 0:
			a.Ints = a.Ints[:r.IntN(len(a.Ints))]
		case len(a.Ints) > 0:
			a.Ints[r.IntN(len(a.Ints))] = some()
		case a.F != nil:
			a.F = proto.Float32([]float32{0, -1, float32(math.NaN()), float32(math.Inf(1)), 1e30}[r.IntN(5)])
		case a.S != nil:
			a.S = []byte([]string{"", "SAME_UPPER", "VALID", "x"}[r.IntN(4)])
		default:
			a.I = proto.Int64(some())
		}
	case 4, 5:
		if len(n.Input) == 0 {
			return
		}
		i := r.IntN(len(n.Input))
		switch other := g.Node[r.IntN(len(g.Node))]; r.IntN(4) {
		case 0:
			n.Input[i] = ""
		case 1:
			n.Input = slices.Delete(n.Input, i, i+1)
		case 2:
			n.Input = append(n.Input, n.Input[i])
		default:
			if names := slices.Concat(other.Input, other.Output); len(names) > 0 {
				n.Input[i] = names[r.IntN(len(names))]
			}
		}
	case 6:
		n.Output = append(n.Output, fmt.Sprintf("more%d", r.IntN(3)))
	case 7, 8:
		if len(g.Initializer) > 0 {
			tensor(d, g.Initializer[r.IntN(len(g.Initializer))], r)
		} else if len(g.Input) > 0 {
			shape(g.Input[r.IntN(len(g.Input))])
		}
	case 9:
		if len(g.Input) > 0 {
			shape(g.Input[r.IntN(len(g.Input))])
		}
	case 10:
		if len(g.Input) > 0 {
			if v := g.Input[r.IntN(len(g.Input))].GetType().GetTensorType(); v != nil {
				v.ElemType = proto.Int32(int32(r.IntN(24)))
			}
		}
	case 11:
		for _, o := range d.Model.OpsetImport {
			o.Version = proto.Int64(int64(r.IntN(28)))
		}
	}
}

// tensor changes a stored tensor: its numbers, its shape or its type.
func tensor(d *onnxfile.Draft, p *onnxpb.TensorProto, r *rand.Rand) {
	switch r.IntN(4) {
	case 0:
		if len(p.Dims) > 0 {
			p.Dims[r.IntN(len(p.Dims))] = extreme[r.IntN(len(extreme))]
		} else {
			p.Dims = []int64{1}
		}
	case 1:
		p.DataType = proto.Int32(int32(r.IntN(24)))
	default:
		n := int64(1)
		for _, k := range p.Dims {
			if k < 0 || k > 64 || n > 64 {
				return
			}
			n *= k
		}
		if p.GetDataType() == int32(onnxfile.Int64) {
			d.SetInt64(p, made(n, func(int64) int64 { return extreme[r.IntN(len(extreme))] }), p.Dims...)
		} else if p.GetDataType() == int32(onnxfile.Float) {
			d.SetFloat32(p, made(n, func(int64) float32 { return []float32{0, -1, 1e30, float32(math.NaN()), 0.5}[r.IntN(5)] }), p.Dims...)
		}
	}
}

// FuzzLoadRun mutates small graphs whose operators and forms are those of
// exporters; seed draws the mutations.
func FuzzLoadRun(f *testing.F) {
	var seeds [][]byte
	for _, opset := range []int64{7, 11, 13, 18, 21} {
		seeds = append(seeds, mobile(f, opset))
	}
	for i := range seeds {
		f.Add(uint8(i), uint64(i))
	}
	e := gorgonia.Open(gorgonia.Options{Threads: 1})
	f.Fuzz(func(t *testing.T, which uint8, seed uint64) {
		model := mutated(seeds[int(which)%len(seeds)], rand.New(rand.NewPCG(seed, uint64(which))))
		if model == nil {
			t.Skip()
		}
		if what, err := attack(t, e, model); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
}
