package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

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
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		if strings.Contains(err.Error(), "Error setting ORT API base") {
			err = errors.New("it is older than 1.24")
		}
		return &engine.UnavailableError{What: "the onnxruntime library " + library + " cannot be loaded", Err: err, Hint: hintGet}
	}
	if err := ort.DisableTelemetry(); err != nil {
		return errors.Join(fmt.Errorf("cannot switch off telemetry: %w", err), ort.DestroyEnvironment())
	}
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
	return ort.DestroyEnvironment()
}
