//go:build cgo

package ort

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/filterlens/filterlens/inspect/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// session is one loaded graph.
type session struct {
	engine          *Engine
	model           string
	inputs, outputs []value

	mu     sync.Mutex
	native *ort.DynamicAdvancedSession
	run    *ort.RunOptions
	held   *held
	closed bool
}

var _ engine.Session = (*session)(nil)

// create makes the native session; the caller closes s when it fails.
func (s *session) create(m engine.Model) error {
	options, err := s.engine.sessionOptions()
	if err != nil {
		return err
	}
	defer options.Destroy()
	if m.Dir != "" {
		// Without it the library looks in the process's working directory.
		dir, err := filepath.Abs(m.Dir)
		if err != nil {
			return err
		}
		if err := options.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", dir); err != nil {
			return err
		}
	}
	if err := s.infer(m, options); err != nil {
		return oneLine(err)
	}
	if m.Bytes != nil {
		s.native, err = ort.NewDynamicAdvancedSessionWithONNXData(m.Bytes, names(s.inputs), names(s.outputs), options)
	} else {
		s.native, err = ort.NewDynamicAdvancedSession(m.Path, names(s.inputs), names(s.outputs), options)
	}
	if err != nil {
		return oneLine(err)
	}
	s.run, err = ort.NewRunOptions()
	return err
}

// infer asks the library for the outputs whose element type is not declared.
func (s *session) infer(m engine.Model, options *ort.SessionOptions) error {
	if !slices.ContainsFunc(s.outputs, func(v value) bool { return v.DType == "" && (v.tensor || v.Shape == nil) }) {
		return nil
	}
	var infos []ort.InputOutputInfo
	var err error
	if m.Bytes != nil {
		_, infos, err = ort.GetInputOutputInfoWithONNXData(m.Bytes)
	} else {
		_, infos, err = ort.GetInputOutputInfoWithOptions(m.Path, options)
	}
	if err != nil {
		return err
	}
	for i := range s.outputs {
		v := &s.outputs[i]
		for _, info := range infos {
			if info.Name != v.Name || v.DType != "" || info.OrtValueType != ort.ONNXTypeTensor {
				continue
			}
			v.tensor = true
			v.DType = dtypeName(uint64(info.DataType))
			// Rank 0 here may also mean that the rank is unknown.
			if len(info.Dimensions) > 0 {
				v.Shape = info.Dimensions
				v.params = make([]string, len(v.Shape))
			}
		}
	}
	return nil
}

func names(vs []value) []string {
	out := make([]string, len(vs))
	for i, v := range vs {
		out[i] = v.Name
	}
	return out
}

// Inputs describes what Run has to be fed, in the order of the file.
func (s *session) Inputs() []engine.Value { return export(s.inputs) }

// Outputs describes what Run can return, in the order of the file.
func (s *session) Outputs() []engine.Value { return export(s.outputs) }

func export(vs []value) []engine.Value {
	out := make([]engine.Value, len(vs))
	for i, v := range vs {
		out[i] = v.Value
		out[i].Shape = slices.Clone(v.Shape)
	}
	return out
}

// Close frees the graph; closing twice does nothing.
func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	errs := []error{s.letGo()}
	if s.run != nil {
		errs = append(errs, s.run.Destroy())
	}
	if s.native != nil {
		errs = append(errs, s.native.Destroy())
	}
	return errors.Join(append(errs, release())...)
}

// Run implements engine.Session. The binding fixes the outputs when the session
// is made, so outputs that nobody asked for are computed and dropped.
func (s *session) Run(ctx context.Context, in, out map[string]*engine.Tensor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	var err error
	for {
		err = s.evaluate(ctx, in, out)
		if !errors.Is(err, errScalar) {
			break
		}
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return ctx.Err()
	}
	return &engine.Error{Op: "run", Model: s.model, Err: err}
}

func (s *session) evaluate(ctx context.Context, in, out map[string]*engine.Tensor) error {
	if s.closed {
		return errors.New("the session is closed")
	}
	if s.held != nil {
		return s.evaluateHeld(ctx, in, out)
	}
	if err := check(s.inputs, s.outputs, in, out); err != nil {
		return err
	}

	var pinner runtime.Pinner
	defer pinner.Unpin()
	bounds := make([]bound, 0, len(s.inputs)+len(s.outputs))
	defer func() {
		for _, b := range bounds {
			b.value.Destroy()
		}
	}()
	values := make([]ort.Value, len(s.inputs)+len(s.outputs))
	ins, outs := values[:len(s.inputs)], values[len(s.inputs):]
	for i := range s.inputs {
		v := &s.inputs[i]
		b, err := bind(&pinner, v, in[v.Name])
		if err != nil {
			return fmt.Errorf("input %q: %w", v.Name, err)
		}
		bounds = append(bounds, b)
		ins[i] = b.value
	}
	// made holds the tensors that stand for nil outputs the binding cannot
	// allocate: scalars and half-precision numbers.
	made := make(map[string]*engine.Tensor)
	var fetch []func()
	for i := range s.outputs {
		v := &s.outputs[i]
		t := out[v.Name]
		if t == nil {
			var err error
			if t, err = s.provide(v, in); err != nil {
				return err
			}
			if t == nil {
				continue
			}
			made[v.Name] = t
		}
		b, err := bind(&pinner, v, t)
		if err != nil {
			return fmt.Errorf("output %q: %w", v.Name, err)
		}
		bounds = append(bounds, b)
		outs[i] = b.value
		if b.fetch != nil {
			fetch = append(fetch, b.fetch)
		}
	}

	given := slices.Clone(outs)
	err := s.call(ctx, ins, outs)
	for i, v := range outs {
		if v == nil || given[i] != nil {
			continue
		}
		if !isNil(v) {
			bounds = append(bounds, bound{value: v})
		} else if errors.Is(err, ort.ZeroShapeLengthError) {
			s.outputs[i].Shape, s.outputs[i].params = []int64{}, nil
			err = errScalar
		}
	}
	if err != nil {
		return s.explain(err, in, out)
	}
	for _, f := range fetch {
		f()
	}
	return s.hand(out, outs, given, made)
}

// errScalar says that an output whose rank the file does not declare turned out
// to be a scalar, which the binding cannot allocate. The run is repeated with
// memory for it, at most once for every such output of a session. The binding
// drops the outputs that come after it without freeing them, the one leak that
// a caller cannot prevent; a declared shape avoids it.
var errScalar = errors.New("scalar output of undeclared rank")

// isNil says whether v is an interface around a nil pointer, which the binding
// returns beside an error.
func isNil(v ort.Value) bool { return reflect.ValueOf(v).IsNil() }

// hand puts the results that are not in their place yet into out, all of them
// or none.
func (s *session) hand(out map[string]*engine.Tensor, outs, given []ort.Value, made map[string]*engine.Tensor) error {
	for i := range s.outputs {
		name := s.outputs[i].Name
		if t, wanted := out[name]; !wanted || t != nil || given[i] != nil {
			continue
		}
		t, err := take(outs[i])
		if err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
		made[name] = t
	}
	for name, t := range made {
		if _, wanted := out[name]; wanted {
			out[name] = t
		}
	}
	return nil
}

// call runs the native session and stops it when ctx is cancelled.
func (s *session) call(ctx context.Context, ins, outs []ort.Value) error {
	return s.stoppable(ctx, func() error { return s.native.RunWithOptions(ins, outs, s.run) })
}

// stoppable calls f, which runs the session with s.run, and stops it when ctx is
// cancelled.
func (s *session) stoppable(ctx context.Context, f func() error) error {
	if ctx.Done() == nil {
		return f()
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.run.Terminate()
	})
	err := f()
	if !stop() {
		<-stopped
		if e := s.run.UnsetTerminate(); e != nil {
			return e
		}
		if err != nil {
			return ctx.Err()
		}
	}
	return err
}

// check compares in and out with the graph before anything native is made.
func check(inputs, outputs []value, in, out map[string]*engine.Tensor) error {
	for i := range inputs {
		v := &inputs[i]
		if err := checkTensor("input", v, in[v.Name]); err != nil {
			return err
		}
	}
	if len(in) > len(inputs) {
		return unknown("input", inputs, in)
	}
	known := 0
	for i := range outputs {
		v := &outputs[i]
		t, wanted := out[v.Name]
		if !wanted {
			continue
		}
		known++
		if t == nil && v.tensor && v.DType != "" && makeData(v.DType, 0) == nil {
			return fmt.Errorf("output %q has type %s, which cannot be handed over", v.Name, v.DType)
		}
		if t == nil && v.tensor {
			continue
		}
		if err := checkTensor("output", v, t); err != nil {
			return err
		}
	}
	if len(out) > known {
		return unknown("output", outputs, out)
	}
	return nil
}

func unknown(kind string, vs []value, given map[string]*engine.Tensor) error {
	have := names(vs)
	var strangers []string
	for name := range given {
		if !slices.Contains(have, name) {
			strangers = append(strangers, name)
		}
	}
	slices.Sort(strangers)
	if len(have) > 8 {
		have = append(have[:8], "...")
	}
	return fmt.Errorf("the graph has no %s %q; it has %s", kind, strangers[0], strings.Join(have, ", "))
}

// provide returns memory for an output that the binding could not allocate,
// nil for all others.
func (s *session) provide(v *value, in map[string]*engine.Tensor) (*engine.Tensor, error) {
	switch {
	case !v.tensor:
		return nil, nil
	case v.scalar() && !isHalf(v.DType):
		if data := makeData(v.DType, 1); data != nil {
			return &engine.Tensor{Shape: []int64{}, Data: data}, nil
		}
		return nil, nil
	case isHalf(v.DType):
		shape, ok := s.resolve(v, in)
		n, fits := elements(shape)
		if !ok || !fits || n == 0 || len(shape) == 0 {
			return nil, fmt.Errorf("output %q of type %s has shape %s, which is not known before the run; pass a tensor for it", v.Name, v.DType, formatShape(v.Shape, v.params))
		}
		return &engine.Tensor{Shape: shape, Data: make([]uint16, n)}, nil
	}
	return nil, nil
}

// resolve replaces the symbols in v's shape by the sizes that they have in the
// inputs. It fails when a dimension stays open.
func (s *session) resolve(v *value, in map[string]*engine.Tensor) ([]int64, bool) {
	if v.Shape == nil {
		return nil, false
	}
	shape := slices.Clone(v.Shape)
	for i, d := range shape {
		if d < 0 {
			shape[i] = s.symbol(v.params[i], in)
		}
		if shape[i] < 0 {
			return shape, false
		}
	}
	return shape, true
}

// symbol returns the size of a symbolic dimension in the inputs, -1 when they
// do not settle it.
func (s *session) symbol(param string, in map[string]*engine.Tensor) int64 {
	if param == "" {
		return -1
	}
	for i := range s.inputs {
		v := &s.inputs[i]
		if in[v.Name] == nil {
			continue
		}
		for k, p := range v.params {
			if p == param {
				return in[v.Name].Shape[k]
			}
		}
	}
	return -1
}

// explain finds the tensor behind a failed run where the library names only a
// node. Symbols are settled no earlier than here, for a file may use them
// wrongly without harm.
func (s *session) explain(err error, in, out map[string]*engine.Tensor) error {
	err = oneLine(err)
	if !strings.Contains(strings.ToLower(err.Error()), "shape") {
		return err
	}
	for i := range s.outputs {
		v := &s.outputs[i]
		t := out[v.Name]
		if t == nil || v.Shape == nil {
			continue
		}
		want, _ := s.resolve(v, in)
		expected := *v
		expected.Shape = want
		if !expected.fits(t.Shape) {
			return fmt.Errorf("output %q has shape %s, given %v: %w", v.Name, formatShape(want, v.params), t.Shape, err)
		}
	}
	return err
}

// formatShape writes a shape with the names of its open dimensions.
func formatShape(shape []int64, params []string) string {
	if shape == nil {
		return "of unknown rank"
	}
	dims := make([]string, len(shape))
	for i, d := range shape {
		switch {
		case d >= 0:
			dims[i] = fmt.Sprint(d)
		case i < len(params) && params[i] != "":
			dims[i] = params[i]
		default:
			dims[i] = "?"
		}
	}
	return "[" + strings.Join(dims, " ") + "]"
}

// oneLine gives the messages of the library and of the binding the form of the
// house's: one line, no full stop, no places in the library's own source.
// Unwrap still reaches the error itself.
func oneLine(err error) error {
	s := strings.Join(strings.Fields(err.Error()), " ")
	for _, prefix := range []string{"Error running network: ", "Error creating C session: ", "Error creating C session from file: "} {
		s = strings.TrimPrefix(s, prefix)
	}
	s = regexp.MustCompile(`\S+\.(cc|cpp|h):\d+ .*?\[ONNXRuntimeError\] : \d+ : \w+ : `).ReplaceAllString(s, "")
	s = strings.TrimSuffix(s, ".")
	if s == err.Error() {
		return err
	}
	return &flattened{s, err}
}

type flattened struct {
	message string
	err     error
}

func (f *flattened) Error() string { return f.message }
func (f *flattened) Unwrap() error { return f.err }
