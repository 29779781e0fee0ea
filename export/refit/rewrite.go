package refit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// What can be wrong with new weights; found with errors.Is in an
// *onnxfile.TensorError.
var (
	// ErrNoTensor: the main graph stores no numbers under the name.
	ErrNoTensor = errors.New("the main graph has no initializer and no Constant of this name")
	// ErrLength: there are more or fewer numbers than the tensor has elements.
	ErrLength = errors.New("the number of new values is not that of its elements")
	// ErrRange: a number is infinite, no number at all, or beyond the stored type.
	ErrRange = errors.New("a new value cannot be stored")
)

// Rewrite returns m with new numbers in some of its stored tensors: initializers
// of the main graph, or values of its Constant nodes by the name of their output.
// weights holds them in the tensor's own order. Type, dimensions and everything
// else of the model stay; external data is spliced in. float, float16, bfloat16 and
// double can be written, rounded to nearest even; of a double tensor the elements
// of which weights only repeats the rounded value keep all their digits. The slices
// are read when the draft is written and may not change before.
//
// The error is an *onnxfile.TensorError around ErrNoTensor, ErrLength, ErrRange,
// onnxfile.ErrUnsupportedType, or what keeps external data from being read.
func Rewrite(m *inspect.Model, weights map[string][]float32) (*onnxfile.Draft, error) {
	d := m.Handle.Draft()
	if err := d.InlineExternal(); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		if err := replace(m, d, name, weights[name]); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// replace gives the tensor called name new values in d, a draft of m that may have
// fewer nodes.
func replace(m *inspect.Model, d *onnxfile.Draft, name string, values []float32) error {
	fail := func(err error) error { return &onnxfile.TensorError{File: m.File, Tensor: name, Err: err} }
	length := func(n int64) error {
		if n != int64(len(values)) {
			return fail(fmt.Errorf("%w: %d values for %d elements", ErrLength, len(values), n))
		}
		return nil
	}
	t := d.Initializer(name)
	if t == nil {
		a := constantValue(d.Model.Graph, name)
		switch {
		case a == nil:
			return fail(ErrNoTensor)
		case a.T != nil:
			t = a.T
		case a.GetName() == "value_float" || a.GetName() == "value_floats":
			n := int64(len(a.Floats))
			if a.GetName() == "value_float" {
				n = 1
			}
			if err := errors.Join(length(n), finite(values, math.MaxFloat32, fail)); err != nil {
				return err
			}
			if a.GetName() == "value_float" {
				a.F = proto.Float32(values[0])
			} else {
				a.Floats = slices.Clone(values)
			}
			return nil
		default:
			return fail(fmt.Errorf("attribute %q: %w", a.GetName(), onnxfile.ErrUnsupportedType))
		}
	}
	stored, ok := storedTensor(m, name)
	if !ok {
		return fail(ErrNoTensor)
	}
	n, err := stored.Elements()
	if err != nil {
		return err
	}
	if err := length(n); err != nil {
		return err
	}
	dtype := stored.DType()
	largest := math.MaxFloat32
	switch dtype {
	case onnxfile.Float16:
		largest = 65519 // what is nearer to 65504 than to the next power of two
	case onnxfile.BFloat16:
		largest = float64(math.Float32frombits(0x7f7f7fff))
	case onnxfile.Float, onnxfile.Double:
	default:
		return fail(fmt.Errorf("%s: %w", dtype, onnxfile.ErrUnsupportedType))
	}
	if err := finite(values, largest, fail); err != nil {
		return err
	}
	if dtype != onnxfile.Double {
		d.SetRaw(t, narrowContent{values, dtype})
		return nil
	}
	c, err := stored.Raw(func(b []byte, off int64) {
		for i := 0; i+8 <= len(b); i += 8 {
			v := values[(off+int64(i))/8]
			if was := math.Float64frombits(binary.LittleEndian.Uint64(b[i:])); float32(was) != v {
				binary.LittleEndian.PutUint64(b[i:], math.Float64bits(float64(v)))
			}
		}
	})
	if err != nil {
		return err
	}
	d.SetRaw(t, c)
	return nil
}

func finite(values []float32, largest float64, fail func(error) error) error {
	for i, v := range values {
		if !(math.Abs(float64(v)) <= largest) {
			return fail(fmt.Errorf("%w: element %d would be %v", ErrRange, i, v))
		}
	}
	return nil
}

// constantValue returns the attribute of the Constant node that makes name.
func constantValue(g *onnxpb.GraphProto, name string) *onnxpb.AttributeProto {
	for _, n := range g.Node {
		if n.GetOpType() != "Constant" || len(n.Output) != 1 || n.Output[0] != name || len(n.Attribute) != 1 {
			continue
		}
		return n.Attribute[0]
	}
	return nil
}

// storedTensor finds a tensor by the name under which the file of m stores it.
func storedTensor(m *inspect.Model, name string) (onnxfile.Tensor, bool) {
	if t, ok := m.Graph.Initializer(name); ok {
		return t, true
	}
	s, ok := m.Graph.Stored(name)
	return s.Tensor, ok && s.Name == name
}

// narrowContent writes numbers in single precision or less.
type narrowContent struct {
	values []float32
	dtype  onnxfile.DType
}

// narrowBlock is how many numbers are converted at a time.
const narrowBlock = 1 << 15

func (c narrowContent) Len() int64 { return int64(len(c.values)) * c.dtype.Bits() / 8 }

func (c narrowContent) WriteTo(w io.Writer) (int64, error) {
	var done int64
	var buf []byte
	for v := c.values; len(v) > 0; {
		k := min(len(v), narrowBlock)
		buf = buf[:0]
		switch c.dtype {
		case onnxfile.Float:
			for _, x := range v[:k] {
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(x))
			}
		case onnxfile.Float16:
			for _, x := range probe.NewTensor(v[:k], true, int64(k)).Data.([]uint16) {
				buf = binary.LittleEndian.AppendUint16(buf, x)
			}
		default:
			for _, x := range v[:k] {
				buf = binary.LittleEndian.AppendUint16(buf, bfloat16Bits(x))
			}
		}
		n, err := w.Write(buf)
		done += int64(n)
		if err != nil {
			return done, err
		}
		v = v[k:]
	}
	return done, nil
}

// bfloat16Bits returns the bfloat16 number nearest to x, which is finite, ties to
// even.
func bfloat16Bits(x float32) uint16 {
	b := math.Float32bits(x)
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
