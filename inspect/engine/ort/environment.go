//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"github.com/filterlens/filterlens/inspect/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// environment counts the users of the binding's one environment. It has to be
// package-level, for the binding keeps library, API table and environment in
// package-level variables of its own and locks none of them.
var environment struct {
	sync.Mutex
	library string
	users   int
	// native is nil where nativeErr says why it could not be had; running on
	// the CPU needs none.
	native    *native
	nativeErr error
	// plugins are the paths of the provider libraries that are registered.
	plugins map[string]bool
}

// acquire loads library, or joins those who loaded it already. Every success
// is paired with one release.
func acquire(library string) error {
	if abs, err := filepath.Abs(library); err == nil {
		library = abs
	}
	if real, err := filepath.EvalSymlinks(library); err == nil {
		library = real
	}
	environment.Lock()
	defer environment.Unlock()
	if environment.users > 0 {
		if library != environment.library {
			return fmt.Errorf("onnxruntime is loaded from %s already; a process can hold one library, close its engines before loading %s", environment.library, library)
		}
		environment.users++
		return nil
	}
	if _, err := os.Stat(library); err != nil {
		return &engine.UnavailableError{What: "the onnxruntime library cannot be read", Err: err, Hint: hintGet}
	}
	// The library itself would say so on standard error.
	if tooOld(filepath.Base(library)) {
		return &engine.UnavailableError{What: "the onnxruntime library " + library + " is older than 1.24", Hint: hintGet}
	}
	ort.SetSharedLibraryPath(library)
	// Failures come back as statuses; what the library writes to standard error
	// would only repeat them.
	var env unsafe.Pointer
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal(), captureEnvironment(&env)); err != nil {
		if strings.Contains(err.Error(), "Error setting ORT API base") {
			err = errors.New("it is older than 1.24")
		}
		return &engine.UnavailableError{What: "the onnxruntime library " + library + " cannot be loaded", Err: err, Hint: hintGet}
	}
	if err := ort.DisableTelemetry(); err != nil {
		return errors.Join(fmt.Errorf("cannot switch off telemetry: %w", err), ort.DestroyEnvironment())
	}
	environment.native, environment.nativeErr = newNative(library, env)
	environment.plugins = make(map[string]bool)
	environment.library = library
	environment.users = 1
	return nil
}

// retain adds a user to an environment that the caller knows to be in use.
func retain() {
	environment.Lock()
	environment.users++
	environment.Unlock()
}

// release gives up one use; the last one destroys the environment.
func release() error {
	environment.Lock()
	defer environment.Unlock()
	environment.users--
	if environment.users > 0 {
		return nil
	}
	environment.library = ""
	var errs []error
	for path := range environment.plugins {
		errs = append(errs, ort.UnregisterExecutionProviderLibrary(registration(path)))
	}
	environment.plugins = nil
	n := environment.native
	environment.native = nil
	errs = append(errs, ort.DestroyEnvironment())
	if n != nil {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}

// nativeCalls returns what reaches the parts of the library that the binding
// leaves out. The caller is a user of the environment.
func nativeCalls() (*native, error) {
	environment.Lock()
	defer environment.Unlock()
	if environment.native == nil {
		return nil, fmt.Errorf("the onnxruntime library %s cannot be called directly: %w", environment.library, environment.nativeErr)
	}
	return environment.native, nil
}

// registration is the name under which a plugin library is registered. ONNX
// Runtime leaves the name to the program; two libraries need two.
func registration(path string) string { return "filterlens:" + path }

// register has the environment load a plugin library, once.
func register(path string) error {
	environment.Lock()
	defer environment.Unlock()
	if environment.plugins[path] {
		return nil
	}
	if err := ort.RegisterExecutionProviderLibrary(registration(path), path); err != nil {
		return err
	}
	environment.plugins[path] = true
	return nil
}
