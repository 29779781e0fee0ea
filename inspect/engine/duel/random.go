package duel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
)

// RandomOptions says what Random runs.
type RandomOptions struct {
	// Samples is how many, Batch how many at once where the file does not say; both
	// are positive.
	Samples, Batch int
	Seed           uint64
	Tolerance      Tolerance
	// Progress, unless nil, is called after each batch.
	Progress func(stage string, done, total int)
}

// Sample is one of those that were run. In feeds it alone or, where the file fixes a
// larger batch, with those that ran beside it.
type Sample struct {
	Number int
	In     map[string]*engine.Tensor
}

// Output is an output of a model and how the engines differ on it.
type Output struct {
	Name string
	Outputs
}

// Random runs m on both engines with the same made-up inputs: numbers from a standard
// normal distribution, as those of preprocessed images are, for float16 of magnitudes
// from 1/8 to 2, zeros and ones for integers and booleans, always the same for a
// seed. It returns how the outputs differ, in the order of the file, and the sample
// that differs most, or the first, with its input for Walk.
//
// An input with an open dimension besides the first and one of a type without numbers
// are an error that names it; others are of the engines.
func Random(ctx context.Context, a, b engine.Engine, m *inspect.Model, opt RandomOptions) (outputs []Output, worst Sample, err error) {
	if err := opt.Tolerance.Check(); err != nil {
		return nil, worst, err
	}
	if opt.Progress == nil {
		opt.Progress = func(string, int, int) {}
	}
	// Refused before anything is loaded.
	if _, err := opt.inputs(m, 0, 1); err != nil {
		return nil, worst, err
	}
	batch := min(opt.Samples, opt.Batch)
	if n := fixedBatch(m); n > 0 {
		batch = n
	}
	p := new(pair)
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.load(ctx, a, b, m); err != nil {
		return nil, worst, err
	}
	for _, v := range m.Outputs {
		outputs = append(outputs, Output{Name: v.Name, Outputs: Outputs{Tolerance: opt.Tolerance}})
	}
	for done := 0; done < opt.Samples; done += batch {
		n := min(batch, opt.Samples-done)
		in, err := opt.inputs(m, done, n)
		if err != nil {
			return nil, worst, err
		}
		samples := make([]int, n)
		for i := range samples {
			samples[i] = done + i
		}
		if err := p.run(ctx, m, in, samples, outputs); err != nil {
			return nil, worst, err
		}
		opt.Progress("running on both", done+n, opt.Samples)
	}
	most := -1.0
	for _, o := range outputs {
		if i := o.Worst(); i >= 0 && o.Relative.Difference > most {
			worst.Number, most = i, o.Relative.Difference
		}
	}
	done := worst.Number - worst.Number%batch
	if worst.In, err = opt.inputs(m, done, min(batch, opt.Samples-done)); err != nil {
		return nil, Sample{}, err
	}
	for _, v := range m.Inputs {
		if len(v.Shape.Dims) > 0 && v.Shape.Dims[0].Value < 0 {
			worst.In[v.Name] = Row(worst.In[v.Name], worst.Number-done, 1)
		}
	}
	return outputs, worst, nil
}

// fixedBatch returns the first dimension of the inputs, 0 where one leaves it open.
func fixedBatch(m *inspect.Model) int {
	least := 0
	for _, v := range m.Inputs {
		switch {
		case len(v.Shape.Dims) == 0:
		case v.Shape.Dims[0].Value < 0:
			return 0
		case least == 0:
			least = int(v.Shape.Dims[0].Value)
		}
	}
	return max(1, least)
}

// pair is a model on both engines.
type pair struct{ a, b engine.Session }

func (p *pair) load(ctx context.Context, a, b engine.Engine, m *inspect.Model) (err error) {
	if p.a, err = a.Load(ctx, engine.Model{Name: m.File, Path: m.File}); err != nil {
		return err
	}
	p.b, err = b.Load(ctx, engine.Model{Name: m.File, Path: m.File})
	return err
}

func (p *pair) close() error {
	var errs []error
	for _, s := range []engine.Session{p.a, p.b} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

func (p *pair) run(ctx context.Context, m *inspect.Model, in map[string]*engine.Tensor, samples []int, outputs []Output) error {
	results := make([]map[string]*engine.Tensor, 2)
	for i, s := range []engine.Session{p.a, p.b} {
		results[i] = make(map[string]*engine.Tensor)
		for _, o := range outputs {
			results[i][o.Name] = nil
		}
		if err := s.Run(ctx, in, results[i]); err != nil {
			return err
		}
	}
	for i := range outputs {
		o := &outputs[i]
		if err := o.Add(samples, results[0][o.Name], results[1][o.Name], m.Outputs[i].DType); err != nil {
			return fmt.Errorf("%s: output %q of both engines: %w", m.File, o.Name, err)
		}
	}
	return nil
}

// Row returns a copy of row i of a tensor along its first axis, as often as times.
func Row(t *engine.Tensor, i, times int) *engine.Tensor {
	if len(t.Shape) == 0 {
		return t
	}
	from := reflect.ValueOf(t.Data)
	size := from.Len() / int(t.Shape[0])
	to := reflect.MakeSlice(from.Type(), 0, size*times)
	for range times {
		to = reflect.AppendSlice(to, from.Slice(i*size, (i+1)*size))
	}
	return &engine.Tensor{Shape: append([]int64{int64(times)}, t.Shape[1:]...), Data: to.Interface()}
}

// inputs returns those of n samples from number first on.
func (opt *RandomOptions) inputs(m *inspect.Model, first, n int) (map[string]*engine.Tensor, error) {
	in := make(map[string]*engine.Tensor)
	r := rand.New(rand.NewPCG(opt.Seed, uint64(first)))
	for _, v := range m.Inputs {
		if !v.Shape.Known {
			return nil, fmt.Errorf("%s: the shape of input %q is unknown; give it with --input-shape", m.File, v.Name)
		}
		shape := make([]int64, len(v.Shape.Dims))
		size := int64(1)
		for i, d := range v.Shape.Dims {
			switch {
			case d.Value > 0:
				shape[i] = d.Value
			case d.Value < 0 && i == 0:
				shape[i] = int64(n)
			case d.Value < 0:
				return nil, fmt.Errorf("%s: input %q has the open dimension %s; give its size with --input-shape or --dim", m.File, v.Name, d)
			default:
				return nil, fmt.Errorf("%s: input %q has no elements", m.File, v.Name)
			}
			if size > maxRandom/shape[i] {
				return nil, fmt.Errorf("%s: input %q has more than %d elements; run fewer samples at once", m.File, v.Name, maxRandom)
			}
			size *= shape[i]
		}
		data := draw(r, v.DType, int(size))
		if data == nil {
			return nil, fmt.Errorf("%s: input %q has type %q, for which nothing can be made up", m.File, v.Name, v.DType)
		}
		in[v.Name] = &engine.Tensor{Shape: shape, Data: data}
	}
	return in, nil
}

// maxRandom bounds the elements of an input, which a file's shape may ask for.
const maxRandom = 1 << 28

// draw returns n random numbers, nil for a type that has none.
func draw(r *rand.Rand, dtype string, n int) any {
	switch dtype {
	case "float":
		return fill(n, func() float32 { return float32(r.NormFloat64()) })
	case "double":
		return fill(n, r.NormFloat64)
	case "float16":
		return fill(n, func() uint16 { return half(r) })
	case "int64":
		return fill(n, func() int64 { return int64(r.IntN(2)) })
	case "int32":
		return fill(n, func() int32 { return int32(r.IntN(2)) })
	case "int16":
		return fill(n, func() int16 { return int16(r.IntN(2)) })
	case "int8":
		return fill(n, func() int8 { return int8(r.IntN(2)) })
	case "uint8":
		return fill(n, func() uint8 { return uint8(r.IntN(2)) })
	case "uint16":
		return fill(n, func() uint16 { return uint16(r.IntN(2)) })
	case "uint32":
		return fill(n, func() uint32 { return uint32(r.IntN(2)) })
	case "uint64":
		return fill(n, func() uint64 { return uint64(r.IntN(2)) })
	case "bool":
		return fill(n, func() bool { return r.IntN(2) == 1 })
	}
	return nil
}

func fill[T any](n int, f func() T) []T {
	v := make([]T, n)
	for i := range v {
		v[i] = f()
	}
	return v
}

// half returns a float16 whose magnitude is from 1/8 to 2.
func half(r *rand.Rand) uint16 {
	sign, exponent, mantissa := uint16(r.IntN(2)), uint16(12+r.IntN(4)), uint16(r.IntN(1<<10))
	return sign<<15 | exponent<<10 | mantissa
}
