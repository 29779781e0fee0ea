package gorgonia

import "fmt"

// kernel is a node bound to the shapes of its inputs. It never writes to them;
// the result may share their memory.
type kernel interface {
	outShape() []int
	run(in []*value) (*value, error)
}

// view changes the shape and leaves the numbers alone.
type view struct{ shape []int }

func (k view) outShape() []int { return k.shape }

func (k view) run(in []*value) (*value, error) { return in[0].withShape(k.shape), nil }

// relu is computed here, because Gorgonia multiplies by 0 or 1, which makes NaN
// of minus infinity.
type relu struct{ shape []int }

func (k relu) outShape() []int { return k.shape }

func (k relu) run(in []*value) (*value, error) {
	out := make([]float32, len(in[0].floats))
	for i, x := range in[0].floats {
		if x > 0 || x != x {
			out[i] = x
		}
	}
	return &value{shape: k.shape, floats: out}, nil
}

// call is an operator of the backend, with inputs adapted to it.
type call struct {
	back  *backend
	in    []adapted
	shape []int
}

// adapted is an input of the backend: that of the node under another shape.
type adapted struct {
	operand
	// copied gives the backend memory of its own, because it overwrites this
	// input.
	copied bool
	// spread broadcasts the input to the shape; implies copied. zero takes
	// zeros where the node has no such input.
	spread, zero bool
}

func (k *call) outShape() []int { return k.shape }

func (k *call) run(in []*value) (*value, error) {
	args := make([]*value, len(k.in))
	for i, a := range k.in {
		switch {
		case a.zero:
			args[i] = &value{shape: a.shape, floats: make([]float32, size(a.shape))}
		case a.spread:
			args[i] = spread(in[i], a.shape)
		case a.copied:
			args[i] = &value{shape: a.shape, floats: append([]float32(nil), in[i].floats...)}
		default:
			args[i] = in[i].withShape(a.shape)
		}
	}
	out, err := k.back.run(args)
	if err != nil {
		return nil, err
	}
	if len(out.floats) != size(k.shape) {
		return nil, fmt.Errorf("the backend returned shape %v", out.shape)
	}
	return out.withShape(k.shape), nil
}

// parts runs a kernel on one part of the samples after the other.
type parts struct {
	samples    int // in a part
	part, rest kernel
	in, shape  []int
}

func (k *parts) outShape() []int { return k.shape }

func (k *parts) run(in []*value) (*value, error) {
	out := make([]float32, 0, size(k.shape))
	args := append([]*value(nil), in...)
	each := size(k.in[1:])
	for at := 0; at < k.in[0]; at += k.samples {
		n, one := k.samples, k.part
		if left := k.in[0] - at; left < n {
			n, one = left, k.rest
		}
		args[0] = &value{shape: append([]int{n}, k.in[1:]...), floats: in[0].floats[at*each : (at+n)*each]}
		v, err := one.run(args)
		if err != nil {
			return nil, err
		}
		out = append(out, v.floats...)
	}
	if len(out) != size(k.shape) {
		return nil, fmt.Errorf("the parts have %d elements in place of shape %v", len(out), k.shape)
	}
	return &value{shape: k.shape, floats: out}, nil
}

// spread broadcasts v to a matrix of the given shape, in new memory. v has at
// most two dimensions, each 1 or that of the matrix.
func spread(v *value, shape []int) *value {
	rows, cols := shape[0], shape[1]
	rowStep, colStep := 0, 0
	if n := len(v.shape); n > 0 && v.shape[n-1] != 1 {
		colStep = 1
	}
	if n := len(v.shape); n > 1 && v.shape[0] != 1 {
		rowStep = v.shape[1]
	}
	out := make([]float32, rows*cols)
	for i := range rows {
		row := out[i*cols : (i+1)*cols]
		if colStep == 1 {
			copy(row, v.floats[i*rowStep:])
			continue
		}
		for j := range row {
			row[j] = v.floats[i*rowStep]
		}
	}
	return &value{shape: shape, floats: out}
}
