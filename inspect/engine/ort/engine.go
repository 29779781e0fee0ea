//go:build cgo

package ort

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/filterlens/filterlens/inspect/engine"
	ort "github.com/yalue/onnxruntime_go"
)

func (o *Options) log(format string, args ...any) {
	if o.Log != nil {
		o.Log(fmt.Sprintf(format, args...))
	}
}

// Available tells whether this binary can load ONNX Runtime, which takes cgo.
const Available = true

// Engine is ONNX Runtime on one execution provider.
type Engine struct {
	opts    Options
	version string
	// cuda is where the CUDA provider lies, nil on the CPU.
	cuda *cudaLibrary

	mu     sync.Mutex
	closed bool
}

var _ engine.Engine = (*Engine)(nil)

// Open finds and loads the library and checks that the provider works. A
// library or a provider that is not there is an *engine.UnavailableError; no
// other provider takes its place. All engines of a process share one library:
// opening another one before they are closed is an error.
func Open(ctx context.Context, opts Options) (*Engine, error) {
	switch opts.Provider {
	case "":
		opts.Provider = CPU
	case CPU, CUDA:
	default:
		return nil, fmt.Errorf("unknown execution provider %q; use cpu or cuda", opts.Provider)
	}
	// The library starts as many threads as it is told to, and a typing error
	// would bring the machine to its knees.
	if most := max(64, 4*runtime.NumCPU()); opts.Threads < 0 || opts.Threads > most {
		return nil, fmt.Errorf("%d threads: from 1 to %d are possible on this machine, 0 leaves it to the library", opts.Threads, most)
	}
	lib, err := Locate(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := acquire(lib.Path); err != nil {
		return nil, err
	}
	e := &Engine{opts: opts, version: ort.GetVersion()}
	if opts.Provider == CUDA {
		if err := e.startCUDA(ctx, lib.Path); err != nil {
			e.Close()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, err
		}
	}
	return e, nil
}

// Name returns "onnxruntime".
func (e *Engine) Name() string { return "onnxruntime" }

// Version returns the version of the loaded library.
func (e *Engine) Version() string { return e.version }

// Provider returns CPU or CUDA.
func (e *Engine) Provider() string { return e.opts.Provider }

// Close gives up the library, which is unloaded when its last engine and its
// last session are closed. Closing twice does nothing.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return release()
}

// hold keeps the library loaded for a session or a load.
func (e *Engine) hold() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.New("the engine is closed")
	}
	retain()
	return nil
}

// Load prepares a graph. Names, types and shapes of its inputs and outputs are
// read from the model itself, so that the library loads it once; only where an
// output lacks its element type is it loaded a second time to infer it. The
// library cannot be interrupted while it loads: a context that is cancelled
// meanwhile takes effect when it is done.
func (e *Engine) Load(ctx context.Context, m engine.Model) (engine.Session, error) {
	s, err := e.load(ctx, m)
	if err != nil {
		return nil, &engine.Error{Op: "load", Model: m.Name, Err: err}
	}
	return s, nil
}

func (e *Engine) load(ctx context.Context, m engine.Model) (*session, error) {
	if (m.Bytes == nil) == (m.Path == "") {
		return nil, errors.New("a model needs either bytes or a path")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	inputs, outputs, err := signature(m)
	if err != nil {
		return nil, err
	}
	if err := checkSignature(inputs, outputs); err != nil {
		return nil, err
	}
	if err := e.hold(); err != nil {
		return nil, err
	}
	s := &session{engine: e, model: m.Name, inputs: inputs, outputs: outputs}
	if err := s.create(m); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func signature(m engine.Model) (inputs, outputs []value, err error) {
	if m.Bytes != nil {
		return readSignature(bytes.NewReader(m.Bytes), int64(len(m.Bytes)))
	}
	f, err := os.Open(m.Path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	return readSignature(f, info.Size())
}

// checkSignature refuses what the binding would crash on or cannot tell apart.
func checkSignature(inputs, outputs []value) error {
	if len(inputs) == 0 {
		return errors.New("the graph has no inputs to feed")
	}
	if len(outputs) == 0 {
		return errors.New("the graph has no outputs")
	}
	for kind, vs := range map[string][]value{"input": inputs, "output": outputs} {
		seen := make(map[string]bool, len(vs))
		for _, v := range vs {
			if v.Name == "" || seen[v.Name] {
				return fmt.Errorf("%s name %q is empty or not unique", kind, v.Name)
			}
			seen[v.Name] = true
		}
	}
	return nil
}

// sessionOptions returns native options that the caller destroys.
func (e *Engine) sessionOptions() (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	if err := e.configure(o); err != nil {
		return nil, errors.Join(err, o.Destroy())
	}
	return o, nil
}

func (e *Engine) configure(o *ort.SessionOptions) error {
	if err := o.SetLogSeverityLevel(ort.LoggingLevelFatal); err != nil {
		return err
	}
	if e.opts.Threads > 0 {
		if err := o.SetIntraOpNumThreads(e.opts.Threads); err != nil {
			return err
		}
		if e.opts.Threads > runtime.NumCPU() {
			// Waiting threads spin by default, and would take the processors from
			// those that work.
			if err := o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"); err != nil {
				return err
			}
		}
	}
	if e.opts.DisableOptimizations {
		if err := o.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll); err != nil {
			return err
		}
	}
	if err := o.AddSessionConfigEntry("session.record_ep_graph_assignment_info", "1"); err != nil {
		return err
	}
	if e.opts.Provider != CUDA {
		return nil
	}
	return e.appendCUDA(o)
}

// probe runs a graph of one node, for ONNX Runtime touches a device only when a
// session is made, and returns who ran it.
func (e *Engine) probe(ctx context.Context) (providers map[string][]string, err error) {
	s, err := e.load(ctx, engine.Model{Name: "probe", Bytes: probeModel()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	in := map[string]*engine.Tensor{"x": engine.NewFloat32([]float32{-1}, 1)}
	out := map[string]*engine.Tensor{"y": nil}
	if err := s.Run(ctx, in, out); err != nil {
		return nil, err
	}
	if y := out["y"].Float32(); len(y) != 1 || y[0] != 0 {
		return nil, fmt.Errorf("it computes max(-1, 0) as %v", y)
	}
	if e.opts.Provider == CPU {
		return nil, nil
	}
	return s.Providers()
}
