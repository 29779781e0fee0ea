package probe

import (
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// batchSymbol names the batch of a graph that was written for a fixed one.
const batchSymbol = "filterlens_batch"

// declaredBatch returns the first dimension of an input as the file has it, 0
// when it is open.
func declaredBatch(m *inspect.Model, input string) int {
	for _, v := range m.Handle.Model.Graph.Input {
		if dims := v.GetType().GetTensorType().GetShape().GetDim(); v.GetName() == input && len(dims) > 0 {
			return int(dims[0].GetDimValue())
		}
	}
	return 0
}

// openBatch makes the batch of a graph, which has the fixed size n, symbolic:
// that of the input, and the constant targets of Reshape that repeat it. Whether
// the graph still means the same is for canOpen to say.
func openBatch(model *onnxpb.ModelProto, g *inspect.Graph, input string, n int) {
	for _, v := range model.Graph.Input {
		if dims := v.GetType().GetTensorType().GetShape().GetDim(); v.GetName() == input && len(dims) > 0 {
			dims[0] = &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: batchSymbol}}
		}
	}
	for i, node := range model.Graph.Node[:len(g.Nodes)] {
		if node.GetOpType() != "Reshape" || !g.Nodes[i].Standard() || g.Nodes[i].AttrInt("allowzero", 0) != 0 {
			continue
		}
		to, ok := g.Ints(g.Nodes[i].Input(1))
		if _, constant := g.Stored(g.Nodes[i].Input(0)); !ok || constant || len(to) == 0 || to[0] != int64(n) {
			continue
		}
		to = slices.Clone(to)
		to[0] = -1
		if slices.Contains(to[1:], -1) {
			to[0] = 0 // as the tensor that it reads
		}
		name := fmt.Sprintf("%s.target.%d", batchSymbol, i)
		for g.Has(name) {
			name = "_" + name
		}
		// Inline, so that the shapes of the new graph can be told at once.
		model.Graph.Initializer = append(model.Graph.Initializer, &onnxpb.TensorProto{
			Name: proto.String(name), DataType: proto.Int32(int32(onnxfile.Int64)), Dims: []int64{int64(len(to))}, Int64Data: to,
		})
		node.Input[1] = name
	}
}

// canOpen tells whether the batch of m, fixed in the file, may be made symbolic:
// when then each floating-point tensor on the way from the image still has a row
// for each sample, computed from that sample alone, and all else of its shape is
// what it was. It is false where that cannot be told.
func canOpen(m *inspect.Model, input string, n int) bool {
	draft := m.Handle.Draft()
	openBatch(draft.Model, m.Graph, input, n)
	draft.Model.Graph.ValueInfo, draft.Model.Graph.Output = nil, nil
	f := *m.Handle
	f.Model = draft.Model
	opt := m.Options
	opt.Batch = 0
	opt.InputShapes = map[string][]int64{}
	for name, dims := range m.Options.InputShapes {
		dims = slices.Clone(dims)
		if name == input && len(dims) > 0 {
			dims[0] = -1
		}
		opt.InputShapes[name] = dims
	}
	g, err := inspect.NewGraph(&f, opt)
	if err != nil {
		return false
	}
	order, err := g.Order()
	if err != nil {
		return false
	}
	depends := map[string]bool{input: true}
	for _, node := range order {
		if node.Standard() && (node.Op == "Shape" || node.Op == "Size") || !slices.ContainsFunc(node.Inputs, func(t string) bool { return depends[t] }) {
			continue
		}
		if acrossSamples(g, node) {
			return false
		}
		for _, out := range node.Outputs {
			if out == "" || !g.DType(out).IsFloat() && g.DType(out) != 0 {
				continue
			}
			depends[out] = true
			is, was := g.Shape(out), m.Graph.Shape(out)
			if !is.Known || len(is.Dims) == 0 || is.Dims[0].Name != batchSymbol || len(is.Dims) != len(was.Dims) || !slices.Equal(is.Dims[1:], was.Dims[1:]) {
				return false
			}
		}
	}
	return true
}

// images is how samples enter a model: rows of dims numbers each.
type images struct {
	dims []int64
	// fixed is the number of samples that every run takes, 0 when it takes any.
	fixed int
	// half tells that the model takes and gives float16.
	half   bool
	padded []float32
}

// tensor returns the first n samples of x as a model takes them. Where it takes
// more, the first sample fills the rows behind.
func (im *images) tensor(x []float32, n int) *engine.Tensor {
	size := int(engine.Elements(im.dims))
	if n < im.fixed {
		im.padded = append(im.padded[:0], x[:n*size]...)
		for ; n < im.fixed; n++ {
			im.padded = append(im.padded, x[:size]...)
		}
		x = im.padded
	}
	shape := append([]int64{int64(n)}, im.dims...)
	return NewTensor(x[:n*size], im.half, shape...)
}

// NewTensor returns a tensor over x, which must have as many numbers as shape
// says; with half it is float16 and holds the nearest numbers of that type.
func NewTensor(x []float32, half bool, shape ...int64) *engine.Tensor {
	if !half {
		return engine.NewFloat32(x, shape...)
	}
	h := make([]uint16, len(x))
	for i, v := range x {
		h[i] = float16Bits(v)
	}
	return &engine.Tensor{Shape: shape, Data: h}
}

// Numbers returns the numbers of a tensor that is float or float16, nil for other
// types.
func Numbers(t *engine.Tensor) []float32 {
	h, ok := t.Data.([]uint16)
	if !ok {
		return t.Float32()
	}
	v := make([]float32, len(h))
	for i, x := range h {
		v[i] = onnxfile.Float16Value(x)
	}
	return v
}

// numbers returns the first n rows of d numbers of a tensor that a model gave.
func numbers(t *engine.Tensor, n, d int) ([]float32, error) {
	v := Numbers(t)
	if len(v) < n*d || len(v)%d != 0 {
		return nil, fmt.Errorf("%d values of type %T for %d samples and %d labels", engine.Elements(t.Shape), t.Data, n, d)
	}
	return v[:n*d], nil
}

// float16Bits returns the IEEE 754 binary16 number nearest to f, ties to even.
func float16Bits(f float32) uint16 {
	b := math.Float32bits(f)
	sign, abs := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case abs > 0x7f800000:
		return sign | 0x7e00
	case abs >= 0x477ff000: // 65520 and above
		return sign | 0x7c00
	case abs < 0x38800000: // below 2^-14: a multiple of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(abs))*(1<<24)))
	}
	abs -= (127 - 15) << 23
	return sign | uint16((abs+0xfff+(abs>>13&1))>>13)
}
