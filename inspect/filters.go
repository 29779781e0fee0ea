package inspect

import (
	"context"
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// ZeroFilters returns the numbers of the filters of a layer whose weights are
// all exactly zero, in ascending order: output channels of Conv and
// ConvTranspose, columns of Gemm and of a MatMul by a stored matrix. It is
// empty for other layers and where the weights are computed or quantized with an
// offset. A weight that cannot be read is an error (*onnxfile.TensorError), and
// ctx stops the reading.
func (m *Model) ZeroFilters(ctx context.Context, l *Layer) ([]int, error) {
	at := m.layer(l)
	if at.node == nil {
		return nil, nil
	}
	f, ok := at.graph.filters(at.node)
	if !ok {
		return nil, nil
	}
	return f.zero(ctx)
}

// filters says how the elements of a weight belong to n filters: element e is
// of filter e/inner%n, and with groups of filters of filter
// e/inner%n + n*(e/outer), n then being the filters of one group.
type filters struct {
	t     onnxfile.Tensor
	n     int64 // in all
	inner int64
	per   int64 // of each group
	outer int64 // elements of each group
}

// size returns how many weights a filter has.
func (f filters) size() int64 {
	all, _ := f.t.Elements()
	return max(all/f.n, 1)
}

// filters finds the filters of a node; it is not ok for nodes without any.
func (g *Graph) filters(n *Node) (f filters, ok bool) {
	if !n.Standard() || n.function != nil {
		return f, false
	}
	// A matrix that is stored may stand on the left of a MatMul, where its rows
	// are no filters.
	s, ok := g.Stored(n.Input(1))
	if !ok {
		return f, false
	}
	dims, axis := s.Tensor.Dims(), 0
	switch n.Op {
	case "Conv":
	case "ConvTranspose":
		axis = 1
	case "Gemm":
		if len(dims) != 2 {
			return f, false
		}
		if n.AttrInt("transB", 0) == 0 {
			axis = 1
		}
	case "MatMul":
		if len(dims) != 2 {
			return f, false
		}
		axis = 1
	default:
		return f, false
	}
	for _, through := range s.Through {
		switch through.Op {
		case "Identity", "Cast":
		case "Transpose":
			perm := through.AttrInts("perm")
			if perm == nil {
				for i := range dims {
					perm = append(perm, int64(len(dims)-1-i))
				}
			}
			if axis >= len(perm) || perm[axis] < 0 || perm[axis] >= int64(len(dims)) {
				return f, false
			}
			axis = int(perm[axis])
		case "DequantizeLinear":
			if zero := through.Input(2); zero != "" {
				offsets, ok := g.Ints(zero)
				if !ok || slices.ContainsFunc(offsets, func(k int64) bool { return k != 0 }) {
					return f, false
				}
			}
		default:
			return f, false
		}
	}
	all, err := s.Tensor.Elements()
	if err != nil || all == 0 || axis >= len(dims) {
		return f, false
	}
	f = filters{t: s.Tensor, per: dims[axis], inner: 1, outer: all}
	for _, d := range dims[axis+1:] {
		f.inner *= d
	}
	groups := int64(1)
	if n.Op == "ConvTranspose" {
		groups = max(n.AttrInt("group", 1), 1)
		if len(s.Through) > 0 || dims[0]%groups != 0 {
			return f, false
		}
	}
	f.outer = all / groups
	f.n = f.per * groups
	return f, true
}

// zero returns the filters without a weight.
func (f filters) zero(ctx context.Context) ([]int, error) {
	// The weights are read before memory is taken for each filter, so that a
	// shape without data behind it takes none.
	var some []bool
	at := int64(0)
	err := f.t.Values(func(block []float64) error {
		if some == nil {
			some = make([]bool, f.n)
		}
		for len(block) > 0 {
			// A run of elements belongs to one filter.
			run := min(f.inner-at%f.inner, int64(len(block)))
			k := at/f.inner%f.per + f.per*(at/f.outer)
			if !some[k] {
				some[k] = slices.ContainsFunc(block[:run], func(v float64) bool { return v != 0 })
			}
			at += run
			block = block[run:]
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, unlessUnsupported(err)
	}
	var empty []int
	for k, ok := range some {
		if !ok {
			empty = append(empty, k)
		}
	}
	return empty, nil
}
