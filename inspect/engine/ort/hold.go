//go:build cgo

package ort

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"unsafe"

	"github.com/filterlens/filterlens/inspect/engine"
)

// held is what stays on the device of a session between its runs.
type held struct {
	native  *native
	binding *binding
	// inputs and outputs are those that a caller still passes.
	inputs, outputs []value
	// carry maps outputs to the inputs that they become, order lists its keys.
	carry map[string]string
	order []string
	// memory says where the provider leaves each carried output.
	memory map[string]unsafe.Pointer
	// Of each carried input either first has what it was given, or current what the
	// last run made of it: a value of the library, released when it is replaced.
	first   map[string]*firstValue
	current map[string]unsafe.Pointer
	// readers copy values from the device, by element type.
	readers map[string]*session

	pinner runtime.Pinner
	bounds []bound
}

// firstValue is a tensor of a session's own that feeds a carried input until the
// first run is done.
type firstValue struct {
	tensor *engine.Tensor
	bound  bound
	pinner runtime.Pinner
}

func (f *firstValue) release() {
	if f.bound.value != nil {
		f.bound.value.Destroy()
	}
	f.pinner.Unpin()
}

// Hold keeps tensors where the provider computes, so that they do not travel
// with every run. The tensors of fixed feed the inputs of their names from now
// on; carry maps outputs to inputs of fixed: what a run computes for the output
// feeds the input of the next run. Run then takes and gives only the other
// inputs and outputs, and computes no output that nobody wants; Held reads the
// carried values and Put replaces them. A tensor of fixed that is not carried is borrowed: it may not
// change until Hold is called again or the session is closed.
//
// Hold replaces what was held before; without fixed and carry nothing is held. A
// name that the graph lacks, a tensor that does not fit and a carried pair of
// different types are an *engine.Error, and then nothing is held. It implements
// no method of engine.Session: callers ask for it by a type assertion.
func (s *session) Hold(fixed map[string]*engine.Tensor, carry map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.letGo()
	if err == nil && len(fixed)+len(carry) > 0 {
		if err = s.hold(fixed, carry); err != nil {
			err = errors.Join(err, s.letGo())
		}
	}
	if err != nil {
		return &engine.Error{Op: "run", Model: s.model, Err: err}
	}
	return nil
}

func (s *session) hold(fixed map[string]*engine.Tensor, carry map[string]string) error {
	if s.closed {
		return errors.New("the session is closed")
	}
	if err := s.checkHold(fixed, carry); err != nil {
		return err
	}
	n, err := nativeCalls()
	if err != nil {
		return err
	}
	h := &held{
		native: n, carry: carry, first: make(map[string]*firstValue), memory: make(map[string]unsafe.Pointer),
		current: make(map[string]unsafe.Pointer), readers: make(map[string]*session),
	}
	s.held = h
	address := sessionAddress(s.native)
	if h.binding, err = n.newBinding(address); err != nil {
		return err
	}
	memory, err := n.outputMemory(address, len(s.outputs))
	if err != nil {
		return err
	}
	for i, v := range s.outputs {
		if _, ok := carry[v.Name]; ok {
			h.order = append(h.order, v.Name)
			h.memory[v.Name] = memory[i]
		} else {
			h.outputs = append(h.outputs, v)
		}
	}
	carried := make(map[string]bool)
	for _, input := range carry {
		carried[input] = true
	}
	for i := range s.inputs {
		v := &s.inputs[i]
		t, ok := fixed[v.Name]
		if !ok {
			h.inputs = append(h.inputs, *v)
			continue
		}
		if carried[v.Name] {
			if err := h.put(v, t); err != nil {
				return err
			}
			continue
		}
		b, err := bind(&h.pinner, v, t)
		if err != nil {
			return fmt.Errorf("input %q: %w", v.Name, err)
		}
		h.bounds = append(h.bounds, b)
		if err := h.binding.input(v.Name, valueAddress(b.value)); err != nil {
			return fmt.Errorf("input %q: %w", v.Name, err)
		}
	}
	return nil
}

// put gives a carried input a copy of t.
func (h *held) put(v *value, t *engine.Tensor) error {
	f := &firstValue{tensor: clone(t)}
	var err error
	if f.bound, err = bind(&f.pinner, v, f.tensor); err == nil {
		err = h.binding.input(v.Name, valueAddress(f.bound.value))
	}
	if err != nil {
		f.release()
		return fmt.Errorf("input %q: %w", v.Name, err)
	}
	h.drop(v.Name)
	h.first[v.Name] = f
	return nil
}

// drop frees the value of a carried input to which nothing is bound any more.
func (h *held) drop(input string) {
	if f := h.first[input]; f != nil {
		f.release()
		delete(h.first, input)
	}
	if v := h.current[input]; v != nil {
		h.native.releaseValues([]unsafe.Pointer{v})
		delete(h.current, input)
	}
}

// Put replaces the values of carried inputs, by the name of the input; whatever
// else is held stays where it is. The tensors are copied. A name that is not of a
// carried input and a tensor that does not fit are an *engine.Error, and then every
// value is what it was.
func (s *session) Put(values map[string]*engine.Tensor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.put(values); err != nil {
		return &engine.Error{Op: "run", Model: s.model, Err: err}
	}
	return nil
}

func (s *session) put(values map[string]*engine.Tensor) error {
	var inputs []*value
	for i := range s.inputs {
		v := &s.inputs[i]
		t, ok := values[v.Name]
		if !ok {
			continue
		}
		if s.held == nil || !s.held.carries(v.Name) {
			return fmt.Errorf("input %q carries no output", v.Name)
		}
		if err := checkTensor("input", v, t); err != nil {
			return err
		}
		inputs = append(inputs, v)
	}
	if len(inputs) < len(values) {
		return unknown("input", s.inputs, values)
	}
	for _, v := range inputs {
		if err := s.held.put(v, values[v.Name]); err != nil {
			return err
		}
	}
	return nil
}

func (h *held) carries(input string) bool {
	for _, carried := range h.carry {
		if carried == input {
			return true
		}
	}
	return false
}

func (s *session) checkHold(fixed map[string]*engine.Tensor, carry map[string]string) error {
	left := len(fixed)
	for i := range s.inputs {
		v := &s.inputs[i]
		t, ok := fixed[v.Name]
		if !ok {
			continue
		}
		left--
		if err := checkTensor("input", v, t); err != nil {
			return err
		}
	}
	if left > 0 {
		return unknown("input", s.inputs, fixed)
	}
	taken := make(map[string]bool)
	for output, input := range carry {
		o := slices.IndexFunc(s.outputs, func(v value) bool { return v.Name == output })
		i := slices.IndexFunc(s.inputs, func(v value) bool { return v.Name == input })
		switch {
		case o < 0:
			return unknown("output", s.outputs, map[string]*engine.Tensor{output: nil})
		case i < 0:
			return unknown("input", s.inputs, map[string]*engine.Tensor{input: nil})
		case fixed[input] == nil:
			return fmt.Errorf("input %q, which carries output %q, has no first value", input, output)
		case s.outputs[o].DType != s.inputs[i].DType:
			return fmt.Errorf("output %q of type %s cannot become input %q of type %s", output, s.outputs[o].DType, input, s.inputs[i].DType)
		case taken[input]:
			return fmt.Errorf("input %q carries two outputs", input)
		}
		taken[input] = true
	}
	return nil
}

func clone(t *engine.Tensor) *engine.Tensor {
	from := reflect.ValueOf(t.Data)
	to := reflect.MakeSlice(from.Type(), from.Len(), from.Len())
	reflect.Copy(to, from)
	return &engine.Tensor{Shape: slices.Clone(t.Shape), Data: to.Interface()}
}

// letGo frees what is held.
func (s *session) letGo() error {
	h := s.held
	s.held = nil
	if h == nil {
		return nil
	}
	if h.binding != nil {
		h.binding.release()
	}
	for _, input := range h.carry {
		h.drop(input)
	}
	for _, b := range h.bounds {
		b.value.Destroy()
	}
	h.pinner.Unpin()
	var errs []error
	for _, r := range h.readers {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// evaluateHeld is evaluate for a session that holds something. Whatever fails,
// the carried values are those of before the run.
func (s *session) evaluateHeld(ctx context.Context, in, out map[string]*engine.Tensor) error {
	h := s.held
	for i := range s.inputs {
		name := s.inputs[i].Name
		if _, given := in[name]; given && !slices.ContainsFunc(h.inputs, func(v value) bool { return v.Name == name }) {
			return fmt.Errorf("input %q is held and cannot be passed", name)
		}
	}
	for name := range h.carry {
		if _, wanted := out[name]; wanted {
			return fmt.Errorf("output %q is carried and cannot be taken; ask Held", name)
		}
	}
	if err := check(h.inputs, h.outputs, in, out); err != nil {
		return err
	}
	var pinner runtime.Pinner
	defer pinner.Unpin()
	var bounds []bound
	defer func() {
		for _, b := range bounds {
			b.value.Destroy()
		}
	}()
	for i := range h.inputs {
		v := &h.inputs[i]
		b, err := bind(&pinner, v, in[v.Name])
		if err != nil {
			return fmt.Errorf("input %q: %w", v.Name, err)
		}
		bounds = append(bounds, b)
		if err := h.binding.input(v.Name, valueAddress(b.value)); err != nil {
			return fmt.Errorf("input %q: %w", v.Name, err)
		}
	}
	h.binding.clear()
	// The outputs come back in the order of names: carried ones, then others.
	names := slices.Clone(h.order)
	for _, name := range h.order {
		if err := h.binding.outputIn(name, h.memory[name]); err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
	}
	var fetch []func()
	for i := range h.outputs {
		v := &h.outputs[i]
		t, wanted := out[v.Name]
		if !wanted {
			continue
		}
		names = append(names, v.Name)
		if t == nil {
			if err := h.binding.outputIn(v.Name, h.binding.cpu); err != nil {
				return fmt.Errorf("output %q: %w", v.Name, err)
			}
			continue
		}
		b, err := bind(&pinner, v, t)
		if err != nil {
			return fmt.Errorf("output %q: %w", v.Name, err)
		}
		bounds = append(bounds, b)
		if b.fetch != nil {
			fetch = append(fetch, b.fetch)
		}
		if err := h.binding.output(v.Name, valueAddress(b.value)); err != nil {
			return fmt.Errorf("output %q: %w", v.Name, err)
		}
	}
	if len(names) == 0 {
		return errors.New("no output is wanted and none is carried")
	}
	if err := s.stoppable(ctx, func() error { return h.binding.run(runAddress(s.run)) }); err != nil {
		return s.explain(err, in, out)
	}
	values, err := h.binding.results()
	if err != nil {
		return err
	}
	defer func() { h.native.releaseValues(values) }()
	made := make(map[string]*engine.Tensor)
	for i, name := range names[len(h.order):] {
		if out[name] != nil {
			continue
		}
		if made[name], err = h.native.tensor(values[len(h.order)+i]); err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
	}
	for i, output := range h.order {
		input := h.carry[output]
		if err := h.binding.input(input, values[i]); err != nil {
			return fmt.Errorf("output %q as input %q: %w", output, input, err)
		}
	}
	for i, output := range h.order {
		input := h.carry[output]
		h.drop(input)
		h.current[input], values[i] = values[i], nil
	}
	for name, t := range made {
		out[name] = t
	}
	for _, f := range fetch {
		f()
	}
	return nil
}

// Held returns the current values of the inputs that carry an output, by the
// name of the input: copies in Go memory.
func (s *session) Held(ctx context.Context) (map[string]*engine.Tensor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make(map[string]*engine.Tensor)
	if s.held == nil {
		return out, nil
	}
	for _, name := range s.held.carry {
		v := s.held.current[name]
		if v == nil {
			out[name] = clone(s.held.first[name].tensor)
			continue
		}
		var err error
		if out[name], err = s.read(ctx, v); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, &engine.Error{Op: "run", Model: s.model, Err: fmt.Errorf("input %q: %w", name, err)}
		}
	}
	return out, nil
}

// read copies a value into Go memory, wherever it lies.
func (s *session) read(ctx context.Context, v unsafe.Pointer) (*engine.Tensor, error) {
	readable, err := s.held.native.readable(v)
	if err != nil {
		return nil, err
	}
	if readable {
		return s.held.native.tensor(v)
	}
	return s.readThrough(ctx, v)
}

// readThrough runs a graph that copies its input and has the output brought
// back, for only a session moves data between devices with every provider.
func (s *session) readThrough(ctx context.Context, v unsafe.Pointer) (*engine.Tensor, error) {
	h := s.held
	dtype, err := h.native.dtype(v)
	if err != nil {
		return nil, err
	}
	r := h.readers[dtype]
	if r == nil {
		elem := slices.Index(dtypes[:], dtype)
		if elem < 1 {
			return nil, fmt.Errorf("values of type %s cannot be read back", dtype)
		}
		m := engine.Model{Name: "reader", Bytes: oneNode("Identity", uint64(elem), false)}
		if r, err = s.engine.load(ctx, m); err != nil {
			return nil, err
		}
		h.readers[dtype] = r
	}
	b, err := h.native.newBinding(sessionAddress(r.native))
	if err != nil {
		return nil, err
	}
	defer b.release()
	if err := errors.Join(b.input("x", v), b.outputIn("y", b.cpu)); err != nil {
		return nil, err
	}
	if err := r.stoppable(ctx, func() error { return b.run(runAddress(r.run)) }); err != nil {
		return nil, err
	}
	values, err := b.results()
	if err != nil {
		return nil, err
	}
	defer h.native.releaseValues(values)
	return h.native.tensor(values[0])
}
