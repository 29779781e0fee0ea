package ort

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	hintName   = "name a library of ONNX Runtime 1.24 or newer with FILTERLENS_ORT_LIBRARY"
	hintGet    = "run 'filterlens runtime install', or " + hintName
	hintClient = "install pip or npm and see that it reaches its registry, or " + hintName
)

// Library is an onnxruntime library on disk.
type Library struct {
	Path string
	// Source says how it was found: "option", the name of an environment
	// variable, "cache", "system" or "fetched".
	Source string
}

// libraryVariables returns the variables that name the library, in the order in
// which they are asked: our own, then those that other users of ONNX Runtime
// (its Go binding's documentation, Rust's ort) have made customary.
func libraryVariables() []string {
	return []string{"FILTERLENS_ORT_LIBRARY", "ONNXRUNTIME_SHARED_LIBRARY_PATH", "ORT_DYLIB_PATH"}
}

// Locate finds the library without loading it: Options.Library, the environment
// (FILTERLENS_ORT_LIBRARY, ONNXRUNTIME_SHARED_LIBRARY_PATH, ORT_DYLIB_PATH), the
// cache, the system's library path; else it fetches the pinned release with pip
// or npm, unless Options.Offline is set. A library that is nowhere is an
// *engine.UnavailableError; a path that was named is not checked here.
func Locate(ctx context.Context, opts Options) (Library, error) {
	if opts.Library != "" {
		return Library{Path: opts.Library, Source: "option"}, nil
	}
	for _, name := range libraryVariables() {
		if path := os.Getenv(name); path != "" {
			return Library{Path: path, Source: name}, nil
		}
	}
	f, err := newFetcher(opts)
	if err == nil && f.cached() {
		return Library{Path: f.path(), Source: "cache"}, nil
	}
	if path := findSystem(systemDirs(runtime.GOOS), runtime.GOOS, opts.log); path != "" {
		return Library{Path: path, Source: "system"}, nil
	}
	if err != nil {
		return Library{}, err
	}
	path, err := f.install(ctx)
	if err != nil {
		return Library{}, err
	}
	return Library{Path: path, Source: "fetched"}, nil
}

// Install puts the pinned release into the cache, if it is not there already,
// and returns the path of its library. It looks neither at the environment nor
// at the system's library path.
func Install(ctx context.Context, opts Options) (path string, err error) {
	f, err := newFetcher(opts)
	if err != nil {
		return "", err
	}
	return f.install(ctx)
}

// systemDirs lists the folders where the system's loader looks for libraries.
func systemDirs(goos string) []string {
	switch goos {
	case "windows":
		return filepath.SplitList(os.Getenv("PATH"))
	case "darwin":
		return append(filepath.SplitList(os.Getenv("DYLD_LIBRARY_PATH")), "/usr/local/lib", "/opt/homebrew/lib")
	}
	dirs := append(filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")), "/usr/local/lib", "/usr/local/lib64")
	if triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]; triplet != "" {
		dirs = append(dirs, "/usr/lib/"+triplet)
	}
	return append(dirs, "/usr/lib64", "/usr/lib")
}

// findSystem returns the first library in dirs that is not known to be too old,
// "" when there is none.
func findSystem(dirs []string, goos string, log func(string, ...any)) string {
	names := []string{"libonnxruntime.so", "libonnxruntime.so.1"}
	switch goos {
	case "windows":
		names = []string{"onnxruntime.dll"}
	case "darwin":
		names = []string{"libonnxruntime.dylib", "libonnxruntime.1.dylib"}
	}
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			continue
		}
		for _, name := range names {
			path := filepath.Join(dir, name)
			real, err := filepath.EvalSymlinks(path)
			if err != nil {
				continue
			}
			if info, err := os.Stat(real); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if tooOld(filepath.Base(real)) {
				log("passing over %s: it is older than 1.24", real)
				continue
			}
			return path
		}
	}
	return ""
}

// tooOld says whether a file name like libonnxruntime.so.1.21.0 carries a
// version that lacks the API the binding was built for.
func tooOld(name string) bool {
	name = strings.TrimPrefix(name, "libonnxruntime.")
	name = strings.TrimPrefix(name, "so.")
	var major, minor int
	if n, _ := fmt.Sscanf(name, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major < 1 || major == 1 && minor < 24
}
