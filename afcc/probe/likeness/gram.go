package likeness

import (
	"context"
	"fmt"
	"math"
	goruntime "runtime"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func workers() int { return goruntime.GOMAXPROCS(0) }

// width is how many features are multiplied at a time in single precision.
const width = 2048

// A multiplier makes the inner products of n samples, by an engine: of each block of
// samples with itself and those behind it, since products are symmetric.
type multiplier struct {
	sess    engine.Session
	n       int
	x       []float32 // n x width
	blocks  []block
	in, out map[string]*engine.Tensor
}

// A block is the products of samples from to to with those from from on.
type block struct {
	from, to int
	k        *engine.Tensor
}

// newMultiplier loads a graph with k = x y' for each block.
func newMultiplier(ctx context.Context, eng engine.Engine, n int) (*multiplier, error) {
	value := func(name string, dims []int64) *onnxpb.ValueInfoProto {
		shape := &onnxpb.TensorShapeProto{}
		for _, d := range dims {
			shape.Dim = append(shape.Dim, &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
		}
		return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
			TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxfile.Float)), Shape: shape}}}}
	}
	m := &multiplier{n: n, x: make([]float32, n*width), in: map[string]*engine.Tensor{}, out: map[string]*engine.Tensor{}}
	g := &onnxpb.GraphProto{Name: proto.String("products")}
	count := 4
	if n < 64 {
		count = 1
	}
	for i := range count {
		b := block{from: i * n / count, to: (i + 1) * n / count}
		b.k = engine.NewFloat32(make([]float32, (b.to-b.from)*(n-b.from)), int64(b.to-b.from), int64(n-b.from))
		x, y, k := fmt.Sprint("x", i), fmt.Sprint("y", i), fmt.Sprint("k", i)
		m.in[x] = engine.NewFloat32(m.x[b.from*width:b.to*width], int64(b.to-b.from), width)
		m.in[y] = engine.NewFloat32(m.x[b.from*width:], int64(n-b.from), width)
		m.out[k] = b.k
		g.Input = append(g.Input, value(x, m.in[x].Shape), value(y, m.in[y].Shape))
		g.Output = append(g.Output, value(k, b.k.Shape))
		g.Node = append(g.Node, &onnxpb.NodeProto{OpType: proto.String("Gemm"), Name: proto.String(k), Input: []string{x, y}, Output: []string{k},
			Attribute: []*onnxpb.AttributeProto{{Name: proto.String("transB"), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(1)}}})
		m.blocks = append(m.blocks, b)
	}
	model, err := proto.Marshal(&onnxpb.ModelProto{IrVersion: proto.Int64(7), OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(13)}}, Graph: g})
	if err != nil {
		return nil, err
	}
	if m.sess, err = eng.Load(ctx, engine.Model{Name: "inner products", Bytes: model}); err != nil {
		return nil, err
	}
	return m, nil
}

// multiplierBytes is what a multiplier for n samples takes at most.
func multiplierBytes(n int64) int64 { return 4 * n * (width + n) }

func (m *multiplier) close() error { return m.sess.Close() }

// add adds to k the products of features of samples, n rows of d numbers.
func (m *multiplier) add(ctx context.Context, k *kernel, v []float32, d int) error {
	for from := 0; from < d && !k.notFinite; from += width {
		c := centre(m.x, v, m.n, d, from, min(from+width, d))
		k.squares += c.squares
		if k.notFinite = c.notFinite; c.notFinite || c.scale == 0 {
			continue
		}
		if err := m.sess.Run(ctx, m.in, m.out); err != nil {
			return fmt.Errorf("inner products: %w", err)
		}
		for _, b := range m.blocks {
			k.add(b.from, b.k.Float32(), c.scale)
		}
	}
	return nil
}

// centred is what centre says of a block of features.
type centred struct {
	squares   float64 // sum of the squares before
	notFinite bool
	// scale is what products are multiplied by for those of the features themselves; 0
	// where all features are constant.
	scale float64
}

// centre writes the features from to to of n rows of d numbers to x, n x width, without
// their means, divided by a power of two that keeps products within single precision;
// the rest of x becomes zero. The means are of differences to the first row: what is
// constant becomes exactly zero.
func centre(x, v []float32, n, d, from, to int) centred {
	w := workers()
	parts := make([]centred, w)
	largest := make([]float64, w)
	each := func(f func(part, from, to int)) {
		var wg sync.WaitGroup
		step := (to - from + w - 1) / w
		for p := range w {
			a, b := min(from+p*step, to), min(from+(p+1)*step, to)
			if a < b {
				wg.Go(func() { f(p, a, b) })
			}
		}
		wg.Wait()
	}
	means := make([]float64, to-from)
	each(func(p, a, b int) {
		first, means := v[a:b], means[a-from:b-from]
		var squares, most float64
		for i := range n {
			for j, y := range v[i*d+a : i*d+b] {
				y := float64(y)
				squares += y * y
				y -= float64(first[j])
				means[j] += y
				if y < 0 {
					y = -y
				}
				if y > most {
					most = y
				}
			}
		}
		for j := range means {
			means[j] /= float64(n)
		}
		parts[p].squares, largest[p] = squares, 2*most // no further from their mean than that
		parts[p].notFinite = squares-squares != 0
	})
	var c centred
	var most float64
	for p, part := range parts {
		c.squares += part.squares
		c.notFinite = c.notFinite || part.notFinite
		most = max(most, largest[p])
	}
	if c.notFinite || most == 0 {
		return c
	}
	_, exp := math.Frexp(most)
	down := math.Ldexp(1, -exp)
	c.scale = math.Ldexp(1, 2*exp)
	each(func(_, a, b int) {
		first, means := v[a:b], means[a-from:b-from]
		for i := range n {
			row := x[i*width+a-from : i*width+b-from]
			for j, y := range v[i*d+a : i*d+b] {
				row[j] = float32((float64(y) - float64(first[j]) - means[j]) * down)
			}
		}
	})
	if rest := to - from; rest < width {
		for i := range n {
			clear(x[i*width+rest : (i+1)*width])
		}
	}
	return c
}
