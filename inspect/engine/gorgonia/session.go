package gorgonia

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
)

// keptPlans is how many batch sizes a session keeps plans for: a data set has
// two, that of all batches and that of the last one.
const keptPlans = 4

// session is one loaded graph.
type session struct {
	model   string
	workers *compute.Workers

	mu      sync.Mutex
	program *program // nil once closed
	plans   []kept
	arena   []uint64 // the tensors of a run
	scratch scratch
}

type kept struct {
	shapes [][]int
	plan   *plan
}

var _ engine.Session = (*session)(nil)

// Inputs describes what Run has to be fed, in the order of the file.
func (s *session) Inputs() []engine.Value {
	return s.ports(func(p *program) []port { return p.inputs })
}

// Outputs describes what Run can return, in the order of the file.
func (s *session) Outputs() []engine.Value {
	return s.ports(func(p *program) []port { return p.outputs })
}

func (s *session) ports(of func(*program) []port) []engine.Value {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.program == nil {
		return nil
	}
	var out []engine.Value
	for _, p := range of(s.program) {
		v := p.Value
		v.Shape = slices.Clone(v.Shape)
		out = append(out, v)
	}
	return out
}

// Close drops the graph and its weights; closing twice does nothing.
func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.program, s.plans, s.arena, s.scratch.free = nil, nil, nil, nil
	return nil
}

// Run implements engine.Session. A cancelled context takes effect between two
// nodes. Nothing is handed over when a run fails.
func (s *session) Run(ctx context.Context, in, out map[string]*engine.Tensor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.run(ctx, in, out)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return ctx.Err()
	}
	return &engine.Error{Op: "run", Model: s.model, Err: err}
}

func (s *session) run(ctx context.Context, in, out map[string]*engine.Tensor) error {
	p := s.program
	if p == nil {
		return errors.New("the session is closed")
	}
	shapes := make([][]int, len(p.inputs))
	for i, port := range p.inputs {
		t := in[port.Name]
		if err := port.accept("input", t); err != nil {
			return err
		}
		shapes[i] = toInts(t.Shape)
	}
	if err := strangers("input", p.inputs, in); err != nil {
		return err
	}
	if err := strangers("output", p.outputs, out); err != nil {
		return err
	}
	pl, err := s.planFor(ctx, shapes)
	if err != nil {
		return err
	}
	wanted := make([]bool, len(p.outputs))
	for i, port := range p.outputs {
		var t *engine.Tensor
		if t, wanted[i] = out[port.Name]; t == nil {
			continue
		}
		if err := port.accept("output", t); err != nil {
			return err
		}
		if want := pl.specs[port.tensor].shape; !slices.Equal(toInts(t.Shape), want) {
			return fmt.Errorf("output %q has shape %v, given %v", port.Name, want, t.Shape)
		}
	}
	todo := pl.scheduleFor(p, wanted)
	if int64(todo.words) > maxWords {
		return fmt.Errorf("the tensors of one run take %d GiB; use smaller batches", todo.words>>27)
	}
	if todo.words > len(s.arena) {
		// So that it can be collected before there is a second one.
		s.arena = nil
		for _, k := range s.plans {
			for _, other := range k.plan.recent {
				other.leave()
			}
		}
		s.arena = make([]uint64, todo.words)
	}
	todo.lieIn(s.arena)
	defer todo.forget()
	for i, v := range todo.inputs {
		if v != nil {
			v.data = in[p.inputs[i].Name].Data
		}
	}
	if err := todo.run(&run{ctx: ctx, workers: s.workers, scratch: &s.scratch}); err != nil {
		return err
	}
	for i, v := range todo.output {
		if v == nil {
			continue
		}
		storage, _ := storageFor(v.dtype)
		name := p.outputs[i].Name
		if t := out[name]; t != nil {
			storage.copy(t.Data, v.data)
		} else {
			// A copy: the result may be an input, a weight, or what the next run
			// overwrites.
			out[name] = &engine.Tensor{Shape: toInt64s(v.shape), Data: storage.clone(v.data)}
		}
	}
	return nil
}

// planFor returns the plan for shapes of the inputs, made when there is none.
func (s *session) planFor(ctx context.Context, shapes [][]int) (*plan, error) {
	for _, k := range s.plans {
		if slices.EqualFunc(k.shapes, shapes, slices.Equal) {
			return k.plan, nil
		}
	}
	pl, err := s.program.plan(ctx, s.workers, shapes)
	if err != nil {
		return nil, err
	}
	s.program.describe(pl)
	s.keep(shapes, pl)
	return pl, nil
}

// keep adds a plan and drops the oldest when there are too many.
func (s *session) keep(shapes [][]int, pl *plan) {
	if len(s.plans) == keptPlans {
		s.plans = slices.Delete(s.plans, 0, 1)
	}
	s.plans = append(s.plans, kept{shapes, pl})
}

// accept says whether t can stand for p.
func (p port) accept(kind string, t *engine.Tensor) error {
	if t == nil {
		return fmt.Errorf("%s %q is missing", kind, p.Name)
	}
	held, ok := holds(p.dtype, t.Data)
	if !ok {
		return fmt.Errorf("%s %q has type %s, given data of Go type %T", kind, p.Name, p.DType, t.Data)
	}
	n, err := checkedSize(t.Shape)
	if err != nil {
		return fmt.Errorf("%s %q: %w", kind, p.Name, err)
	}
	if n != held {
		return fmt.Errorf("%s %q: shape %v does not fit its data of %d elements", kind, p.Name, t.Shape, held)
	}
	if p.Shape == nil {
		return nil
	}
	fits := len(p.Shape) == len(t.Shape)
	for i := 0; fits && i < len(p.Shape); i++ {
		fits = p.Shape[i] < 0 || p.Shape[i] == t.Shape[i]
	}
	if !fits {
		return fmt.Errorf("%s %q has shape %s, given %v", kind, p.Name, formatShape(p.Shape), t.Shape)
	}
	return nil
}

func formatShape(shape []int64) string {
	dims := make([]string, len(shape))
	for i, d := range shape {
		dims[i] = "?"
		if d >= 0 {
			dims[i] = fmt.Sprint(d)
		}
	}
	return "[" + strings.Join(dims, " ") + "]"
}

// strangers refuses names that the graph does not have.
func strangers(kind string, ports []port, given map[string]*engine.Tensor) error {
	var have, unknown []string
	for _, p := range ports {
		have = append(have, p.Name)
	}
	for name := range given {
		if !slices.Contains(have, name) {
			unknown = append(unknown, name)
		}
	}
	if unknown == nil {
		return nil
	}
	slices.Sort(unknown)
	if len(have) > 8 {
		have = append(have[:8], "...")
	}
	return fmt.Errorf("the graph has no %s %q; it has %s", kind, unknown[0], strings.Join(have, ", "))
}
