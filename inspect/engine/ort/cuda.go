//go:build cgo

package ort

import (
	"bytes"
	"context"
	"debug/elf"
	"debug/pe"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/filterlens/filterlens/inspect/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// cudaProvider is what both shapes of the CUDA provider call themselves; early
// plugins had another name.
const cudaProvider = "CUDAExecutionProvider"

func isCUDA(provider string) bool {
	return provider == cudaProvider || provider == "CudaPluginExecutionProvider"
}

const (
	hintInstallCUDA = "run 'filterlens runtime install --ep cuda', name a plugin library (onnxruntime-ep-cuda12, onnxruntime-ep-cuda13) with FILTERLENS_CUDA_LIBRARY or a GPU build of ONNX Runtime with FILTERLENS_ORT_LIBRARY, or use --ep cpu"
	hintWorkCUDA    = "see that the NVIDIA driver works (nvidia-smi) and that the CUDA and cuDNN libraries of the provider's release are on the loader's path (pip: nvidia-cublas, nvidia-cuda-runtime, nvidia-cufft, nvidia-curand, nvidia-cudnn), or use --ep cpu"
)

// cudaLibrary is a CUDA provider on disk.
type cudaLibrary struct {
	path   string
	plugin bool
}

func (c *cudaLibrary) shape() string {
	if c.plugin {
		return ShapePlugin
	}
	return ShapeBuiltIn
}

// namedCUDA returns the provider library that the user names, "" for none.
func namedCUDA(opts Options) string {
	if opts.CUDALibrary != "" {
		return opts.CUDALibrary
	}
	return os.Getenv("FILTERLENS_CUDA_LIBRARY")
}

// findCUDA looks for the CUDA provider that goes with a library of ONNX
// Runtime: the one that was named, the one beside the library, the plugin in
// the cache. It loads nothing.
func findCUDA(library string, opts Options) (*cudaLibrary, error) {
	if real, err := filepath.EvalSymlinks(library); err == nil {
		library = real
	}
	beside := filepath.Join(filepath.Dir(library), cudaName(runtime.GOOS))
	if named := namedCUDA(opts); named != "" && opts.shape != ShapeBuiltIn {
		path, err := filepath.Abs(named)
		if err != nil {
			return nil, err
		}
		c, err := readCUDA(path)
		if err == nil && !c.plugin && !sameFile(path, beside) {
			err = fmt.Errorf("%s belongs to a GPU build of ONNX Runtime and works only beside that build's own library, not with %s", path, library)
		}
		return c, err
	}
	c, err := readCUDA(beside)
	if err == nil && opts.shape != "" && opts.shape != c.shape() {
		err = os.ErrNotExist
	}
	if !errors.Is(err, os.ErrNotExist) {
		return c, err
	}
	if opts.shape == ShapeBuiltIn {
		return nil, fmt.Errorf("%s: there is no %s beside %s", ShapeBuiltIn, filepath.Base(beside), library)
	}
	for _, major := range []int{13, 12} {
		f, err := newFetcher(opts)
		if err != nil {
			return nil, err
		}
		f.choose(cudaPlugin(f.platform, major))
		c, err := readCUDA(f.path())
		if !errors.Is(err, os.ErrNotExist) {
			return c, err
		}
	}
	if opts.shape == ShapePlugin {
		return nil, fmt.Errorf("%s: none is named by FILTERLENS_CUDA_LIBRARY and none is in the cache", ShapePlugin)
	}
	return nil, fmt.Errorf("there is neither %s beside %s nor a plugin library", filepath.Base(beside), library)
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func cudaName(goos string) string {
	if goos == "windows" {
		return "onnxruntime_providers_cuda.dll"
	}
	return "libonnxruntime_providers_cuda.so"
}

// readCUDA tells the shapes apart. They may have the same file name; both may
// export CreateEpFactories, but only the library of a GPU build exports
// GetProvider.
func readCUDA(path string) (*cudaLibrary, error) {
	names, err := exports(path)
	if err != nil {
		return nil, err
	}
	switch {
	case slices.Contains(names, "GetProvider"):
		return &cudaLibrary{path, false}, nil
	case slices.Contains(names, "CreateEpFactories"):
		return &cudaLibrary{path, true}, nil
	}
	return nil, fmt.Errorf("%s is no execution provider: it exports neither CreateEpFactories nor GetProvider", path)
}

// exports lists the functions that a shared library offers, without loading it.
func exports(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	if e, err := elf.NewFile(f); err == nil {
		symbols, err := e.DynamicSymbols()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, s := range symbols {
			if s.Section != elf.SHN_UNDEF {
				names = append(names, s.Name)
			}
		}
		return names, nil
	}
	if p, err := pe.NewFile(f); err == nil {
		return peExports(p)
	}
	return nil, fmt.Errorf("%s is no shared library", path)
}

// peExports looks for the two names in the read-only data of a Windows library,
// where the export table keeps them; the standard library does not read that
// table.
func peExports(p *pe.File) ([]string, error) {
	var names []string
	for _, section := range p.Sections {
		if section.Name != ".rdata" && section.Name != ".edata" {
			continue
		}
		b, err := section.Data()
		if err != nil {
			return nil, err
		}
		for _, name := range []string{"GetProvider", "CreateEpFactories"} {
			if bytes.Contains(b, []byte("\x00"+name+"\x00")) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// startCUDA finds the provider, registers it when it is a plugin, and sees that
// it runs a node. Every failure is an *engine.UnavailableError.
func (e *Engine) startCUDA(ctx context.Context, library string) error {
	fail := func(hint string, err error) error {
		return &engine.UnavailableError{What: "the cuda execution provider does not work with " + library, Err: oneLine(err), Hint: hint}
	}
	c, err := findCUDA(library, e.opts)
	if err != nil {
		return fail(hintInstallCUDA, err)
	}
	e.cuda = c
	if c.plugin {
		if err := register(c.path); err != nil {
			return fail(hintWorkCUDA, fmt.Errorf("plugin library %s: %w", c.path, err))
		}
	}
	providers, err := e.probe(ctx)
	if err != nil {
		return fail(hintWorkCUDA, err)
	}
	for name := range providers {
		if isCUDA(name) {
			return nil
		}
	}
	return fail(hintWorkCUDA, fmt.Errorf("%s was loaded from %s and took no node: %v", cudaProvider, c.path, providers))
}

// appendCUDA puts the CUDA provider first. TF32 is off unless asked for: it
// rounds the factors of convolutions to 10 bits of mantissa, more than a
// verification tolerates.
func (e *Engine) appendCUDA(o *ort.SessionOptions) error {
	settings := map[string]string{"use_tf32": "0"}
	if e.opts.TF32 {
		settings["use_tf32"] = "1"
	}
	if e.cuda.plugin {
		return e.appendPlugin(o, settings)
	}
	settings["device_id"] = strconv.Itoa(e.opts.DeviceID)
	c, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	err = c.Update(settings)
	if err == nil {
		err = o.AppendExecutionProviderCUDA(c)
	}
	return errors.Join(err, c.Destroy())
}

// appendPlugin adds the plugin's device of the engine's number. The device
// itself says which GPU it is, so that no setting does.
func (e *Engine) appendPlugin(o *ort.SessionOptions, settings map[string]string) error {
	n, err := nativeCalls()
	if err != nil {
		return err
	}
	all, err := n.devices()
	if err != nil {
		return err
	}
	var gpus []device
	for _, d := range all {
		if isCUDA(d.provider) {
			gpus = append(gpus, d)
		}
	}
	if len(gpus) == 0 {
		return fmt.Errorf("plugin library %s finds no GPU that it can use", e.cuda.path)
	}
	if e.opts.DeviceID < 0 || e.opts.DeviceID >= len(gpus) {
		return fmt.Errorf("there is no GPU %d: plugin library %s finds %d", e.opts.DeviceID, e.cuda.path, len(gpus))
	}
	return n.appendProvider(o, gpus[e.opts.DeviceID], settings)
}

// Providers returns which provider runs each node of the loaded graph, by the
// provider's own name ("CPUExecutionProvider"), each node as its operator and
// its name. The nodes are those that are left after the library has folded
// constants and before it fuses nodes. It implements no method of
// engine.Session: callers ask for it by a type assertion.
func (s *session) Providers() (map[string][]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the session is closed")
	}
	n, err := nativeCalls()
	if err != nil {
		return nil, err
	}
	return n.assignment(sessionAddress(s.native))
}
