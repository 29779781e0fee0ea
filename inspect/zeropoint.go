package inspect

import (
	"context"
	"errors"
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// A zeroPoint is what stands for zero among the stored numbers of a quantized
// weight: nothing else than zero where values is empty, else one number for all
// or one for each index along axis.
type zeroPoint struct {
	tensor onnxfile.Tensor // that values were read from
	values []float64
	axis   int
}

// A zeroKey tells counts of zeros apart.
type zeroKey struct {
	weight, point onnxfile.Tensor
	axis          int
}

// errZeroPoint says that it is not known what stands for zero.
var errZeroPoint = errors.New("its zero point is not stored")

// weightZero finds the zero point of a layer's weight: that of the
// DequantizeLinear behind it, or the operator's own. It fails with errZeroPoint
// where it is not stored or not along one axis.
func (f foundLayer) weightZero(l *Layer) (z zeroPoint, err error) {
	w, n := f.weight, f.node
	dims := w.dense.GetDims()
	moved := false // some node between the stored tensor and the one at hand changes its shape
	for k := len(w.through) - 1; k >= 0; k-- {
		switch t := w.through[k]; t.Op {
		case "QuantizeLinear":
			return z, nil // what is stored is not quantized
		case "DequantizeLinear":
			if t.Input(2) == "" {
				return z, nil
			}
			along := int(t.AttrInt("axis", 1))
			if along < 0 {
				along += len(dims)
			}
			if moved || t.AttrInt("block_size", 0) != 0 {
				along = -1
			}
			return w.in[k].readZero(t.Input(2), dims, along)
		case "Identity", "Cast", "CastLike":
		default:
			moved = true
		}
	}
	last, at, along := len(dims)-1, -1, -1
	switch _, op := splitOp(l.Op); op {
	case "QLinearConv":
		at, along = 5, 0
	case "ConvInteger":
		at, along = 3, 0
	case "QLinearMatMul", "MatMulIntegerToFloat":
		at, along = 5, last
	case "MatMulInteger":
		if at, along = 3, last; l.InTensor != n.Input(0) {
			at, along = 2, last-1
		}
	case "DynamicQuantizeMatMul":
		at, along = 3, last
	case "QGemm":
		at, along = 5, b2i(n.AttrInt("transB", 0) == 0)
	case "QAttention":
		at, along = 7, last
	case "DynamicQuantizeLSTM":
		at = 9
	case "MatMulNBits", "MatMulBnb4":
		return z, errZeroPoint // several numbers share an element
	}
	if n.Input(at) == "" {
		return z, nil
	}
	if moved {
		along = -1
	}
	return f.graph.readZero(n.Input(at), dims, along)
}

// readZero reads the zero point of a tensor of dims. axis is where more than one
// number stand along, -1 where that is not known.
func (g *Graph) readZero(tensor string, dims []int64, axis int) (z zeroPoint, err error) {
	w, ok := g.weight(tensor)
	if !ok || w.dense == nil {
		return z, errZeroPoint
	}
	t := g.file.Tensor(w.dense)
	n, err := t.Elements()
	if err != nil {
		return z, err
	}
	z = zeroPoint{tensor: t, axis: axis}
	zero := true
	err = t.Values(func(block []float64) error {
		if n == 1 || axis >= 0 && axis < len(dims) && n == dims[axis] && len(t.Dims()) == 1 {
			z.values = append(z.values, block...)
		}
		zero = zero && !slices.ContainsFunc(block, func(v float64) bool { return v != 0 })
		return nil
	})
	switch {
	case err != nil:
		if unlessUnsupported(err) == nil {
			err = errZeroPoint
		}
		return zeroPoint{}, err
	case zero:
		return zeroPoint{}, nil
	case z.values == nil:
		return zeroPoint{}, errZeroPoint
	}
	return z, nil
}

// count returns how many elements of t stand for zero.
func (z zeroPoint) count(ctx context.Context, t onnxfile.Tensor) (zeros int64, err error) {
	inner := int64(1)
	if len(z.values) > 1 {
		for _, d := range t.Dims()[z.axis+1:] {
			inner *= d
		}
	}
	at := int64(0)
	err = t.Values(func(block []float64) error {
		for len(block) > 0 {
			run := int64(len(block))
			point := z.values[0]
			if len(z.values) > 1 {
				run = min(run, inner-at%inner)
				point = z.values[at/inner%int64(len(z.values))]
			}
			for _, v := range block[:run] {
				if v == point {
					zeros++
				}
			}
			at += run
			block = block[run:]
		}
		return ctx.Err()
	})
	return zeros, err
}
