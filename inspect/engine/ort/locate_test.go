//go:build cgo

package ort

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
)

// bare makes the environment name no library and the cache an empty folder.
func bare(t *testing.T) (cache string) {
	t.Helper()
	for _, name := range libraryVariables() {
		t.Setenv(name, "")
	}
	cache = t.TempDir()
	t.Setenv("FILTERLENS_CACHE", cache)
	return cache
}

func TestLocateOrder(t *testing.T) {
	cache := bare(t)
	f, err := newFetcher(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(f.path(), cache) {
		t.Fatalf("%s is not in %s", f.path(), cache)
	}
	locate := func(opts Options, path, source string) {
		t.Helper()
		opts.Offline = true
		lib, err := Locate(context.Background(), opts)
		if err != nil || lib != (Library{path, source}) {
			t.Errorf("%v, %v, want %s from %s", lib, err, path, source)
		}
	}
	if len(f.pins) > 0 {
		if err := os.MkdirAll(filepath.Dir(f.path()), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.path(), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(f.path(), f.pins[0].member.size); err != nil {
			t.Fatal(err)
		}
		locate(Options{}, f.path(), "cache")
	}
	for _, name := range []string{"ORT_DYLIB_PATH", "ONNXRUNTIME_SHARED_LIBRARY_PATH", "FILTERLENS_ORT_LIBRARY"} {
		t.Setenv(name, "/"+name)
		locate(Options{}, "/"+name, name)
	}
	locate(Options{Library: "/mine"}, "/mine", "option")
}

func TestRelativeCache(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	f, err := newFetcher(Options{CacheDir: "cache"})
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(f.path()) {
		t.Errorf("%s", f.path())
	}
}

func TestLocateOffline(t *testing.T) {
	bare(t)
	if findSystem(systemDirs("linux"), "linux", func(string, ...any) {}) != "" {
		t.Skip("this system has a library of its own")
	}
	_, err := Locate(context.Background(), Options{Offline: true})
	var u *engine.UnavailableError
	if !errors.As(err, &u) || u.Hint == "" {
		t.Errorf("%v (%T)", err, err)
	}
	if _, err := Describe(context.Background(), Options{}); !errors.As(err, &u) {
		t.Errorf("describe: %v (%T)", err, err)
	}
}

func TestFindSystem(t *testing.T) {
	put := func(dir, name string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old, plain, versioned, folder := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	oldReal := put(old, "libonnxruntime.so.1.21.0")
	if err := os.Symlink(oldReal, filepath.Join(old, "libonnxruntime.so")); err != nil {
		t.Skip(err)
	}
	put(plain, "libonnxruntime.so")
	put(plain, "libonnxruntime.dylib")
	put(plain, "onnxruntime.dll")
	if err := os.Symlink(put(versioned, "libonnxruntime.so.1.24.0"), filepath.Join(versioned, "libonnxruntime.so.1")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "libonnxruntime.so"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, goos string
		dirs       []string
		want       string
	}{
		{"none", "linux", nil, ""},
		{"relative", "linux", []string{".", ""}, ""},
		{"old only", "linux", []string{old}, ""},
		{"a folder of that name", "linux", []string{folder}, ""},
		{"old, then versioned", "linux", []string{old, versioned, plain}, filepath.Join(versioned, "libonnxruntime.so.1")},
		{"darwin", "darwin", []string{versioned, plain}, filepath.Join(plain, "libonnxruntime.dylib")},
		{"windows", "windows", []string{plain}, filepath.Join(plain, "onnxruntime.dll")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := findSystem(tt.dirs, tt.goos, func(string, ...any) {}); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestTooOld(t *testing.T) {
	for name, want := range map[string]bool{
		"libonnxruntime.so.1.23.2":    true,
		"libonnxruntime.so.1.24.0":    false,
		"libonnxruntime.so.1.30.0":    false,
		"libonnxruntime.so.2.0.0":     false,
		"libonnxruntime.so.0.9":       true,
		"libonnxruntime.1.20.0.dylib": true,
		"libonnxruntime.so":           false,
		"libonnxruntime.so.1":         false,
		"onnxruntime.dll":             false,
	} {
		if got := tooOld(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestPins sees that every platform has a pip and an npm package and that no
// sum was left out or pasted twice.
func TestPins(t *testing.T) {
	seen := make(map[string]bool)
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"} {
		ps := pins(platform)
		if len(ps) != 2 || ps[0].client != "pip" || ps[1].client != "npm" {
			t.Fatalf("%s: %+v", platform, ps)
		}
		for _, p := range ps {
			if p.archive.size == 0 || p.member.size == 0 || len(p.archive.sum) != 64 || len(p.member.sum) != 64 || !strings.HasSuffix(p.spec, Version) {
				t.Errorf("%s: %+v", platform, p)
			}
			if seen[p.member.sum] || p.client == "pip" && seen[p.archive.sum] {
				t.Errorf("%s: a sum occurs twice: %+v", platform, p)
			}
			seen[p.member.sum], seen[p.archive.sum] = true, true
		}
	}
	if pins("plan9/mips") != nil {
		t.Error("pins for plan9")
	}
	for _, major := range []int{12, 13} {
		for _, p := range cudaBuild("linux/amd64", major).pins {
			for _, b := range append(p.companions, p.archive, p.member) {
				if b.size == 0 || len(b.sum) != 64 || seen[b.sum] && !strings.HasSuffix(b.name, "_shared.so") {
					t.Errorf("CUDA %d: %+v", major, b)
				}
				seen[b.sum] = true
			}
			if len(p.companions) != 2 || path.Base(p.companions[1].name) != cudaName("linux") {
				t.Errorf("CUDA %d: %+v", major, p.companions)
			}
		}
		if cudaBuild("plan9/mips", major).pins != nil {
			t.Error("a GPU build for plan9")
		}
	}
}

func TestDescribe(t *testing.T) {
	lib, err := Locate(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := Describe(context.Background(), Options{Library: lib.Path})
	if err != nil {
		t.Fatal(err)
	}
	if info.Library.Path != lib.Path || info.Version == "" || len(info.Providers) != 3 {
		t.Errorf("%+v", info)
	}
	if cpu := info.Providers[0]; cpu.Name != CPU || !cpu.Usable || cpu.Reason != "" {
		t.Errorf("%+v", cpu)
	}
	usable := false
	for i, shape := range []string{ShapeBuiltIn, ShapePlugin} {
		cuda := info.Providers[1+i]
		if cuda.Name != CUDA || cuda.Shape != shape || cuda.Usable == (cuda.Reason != "") || strings.Contains(cuda.Reason, "\n") {
			t.Errorf("%+v", cuda)
		}
		usable = usable || cuda.Usable
	}
	e, err := Open(context.Background(), Options{Library: lib.Path, Provider: CUDA})
	if usable {
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	var u *engine.UnavailableError
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "cuda") || u.Hint == "" {
		t.Errorf("%v (%T)", err, err)
	}
	t.Log(err)
	if environment.users != 0 {
		t.Errorf("%d users left", environment.users)
	}
}
