//go:build cgo

package ort

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/filterlens/filterlens/inspect/engine"
)

const (
	hintName   = "name a library of ONNX Runtime 1.24 or newer with FILTERLENS_ORT_LIBRARY"
	hintGet    = "run 'filterlens runtime install', or " + hintName
	hintClient = "install pip or npm and see that it reaches its registry, or " + hintName
)

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
	if err == nil && opts.Provider == CUDA && opts.shape != ShapePlugin && namedCUDA(opts) == "" {
		if path := f.cachedBuild(); path != "" {
			return Library{Path: path, Source: "cache"}, nil
		}
	}
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

// cachedBuild returns the GPU build that has been fetched, "" for none.
func (f *fetcher) cachedBuild() string {
	for _, major := range []int{13, 12} {
		build := *f
		build.choose(cudaBuild(f.platform, major))
		if build.cached() {
			return build.path()
		}
	}
	return ""
}

// Install puts the pinned release into the cache, if it is not there already,
// and returns the path of its library. It looks neither at the environment nor
// at the system's library path. With Options.Provider CUDA it is the plugin
// library that fits the machine's driver, beside the plain release, or, where no
// plugin is pinned, the GPU build that fits; a machine without a driver, or
// with one that is too old, is an *engine.UnavailableError.
func Install(ctx context.Context, opts Options) (path string, err error) {
	f, err := newFetcher(opts)
	if err != nil {
		return "", err
	}
	if opts.Provider != CUDA {
		return f.install(ctx)
	}
	return f.installCUDA(ctx, systemDriver(runtime.GOOS))
}

// installCUDA fetches the newest product that the driver runs.
func (f *fetcher) installCUDA(ctx context.Context, d driver) (path string, err error) {
	major, minor, err := d.cudaVersion(ctx)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", &engine.UnavailableError{What: "no NVIDIA driver was found", Err: err, Hint: "install the driver and see that nvidia-smi works, or use --ep cpu"}
	}
	if major < 12 {
		return "", &engine.UnavailableError{What: fmt.Sprintf("the NVIDIA driver runs CUDA %d.%d and no provider for less than CUDA 12 is known", major, minor), Hint: "install a newer driver, or use --ep cpu"}
	}
	for m := min(major, 13); m >= 12; m-- {
		for _, p := range []product{cudaPlugin(f.platform, m), cudaBuild(f.platform, m)} {
			if len(p.pins) == 0 {
				continue
			}
			f.log("the driver runs CUDA %d.%d: %s", major, minor, p.name)
			plain := *f
			f.choose(p)
			if path, err = f.install(ctx); err != nil || p.library == "" {
				return path, err
			}
			// A plugin needs the plain library beside it.
			return plain.install(ctx)
		}
	}
	return "", &engine.UnavailableError{What: "no CUDA provider is known to fetch for " + f.platform, Hint: hintInstallCUDA}
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
