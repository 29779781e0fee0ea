//go:build cgo && unix

package ort

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
)

// fakeDriver compiles a driver library that says what body makes it say.
func fakeDriver(t *testing.T, body string) string {
	t.Helper()
	source := filepath.Join(t.TempDir(), "driver.c")
	if err := os.WriteFile(source, []byte(body), 0o666); err != nil {
		t.Fatal(err)
	}
	return compile(t, source, "libcuda.so.1", "-shared", "-fPIC")
}

func TestDriver(t *testing.T) {
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "nvidia-smi")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o777); err != nil {
			t.Fatal(err)
		}
		return path
	}
	says := "int cuDriverGetVersion(int *v) { *v = 12040; return 0; }"
	for _, tt := range []struct {
		name, library, command string
		major, minor           int
		want                   string
	}{
		{"library", fakeDriver(t, says), "no such program", 12, 4, ""},
		{"failing library", fakeDriver(t, "int cuDriverGetVersion(int *v) { return 35; }"), "no such program", 0, 0, "failed with code 35"},
		{"stub library", fakeDriver(t, "int cuDriverGetVersion(int *v) { *v = 0; return 0; }"), "no such program", 0, 0, "no driver is loaded"},
		{"other library", fakeDriver(t, "int f(void) { return 0; }"), "no such program", 0, 0, "does not export cuDriverGetVersion"},
		{"command", "no-such-library.so", script(`echo "| NVIDIA-SMI 580.95  Driver Version: 580.95  CUDA Version: 13.0     |"`), 13, 0, ""},
		{"new command", "no-such-library.so", script(`echo "CUDA UMD Version : 13.2"`), 13, 2, ""},
		{"mute command", "no-such-library.so", script("echo hello"), 0, 0, "names no CUDA version"},
		{"failing command", "no-such-library.so", script("exit 9"), 0, 0, "exit status 9"},
		{"nothing", "no-such-library.so", "no such program", 0, 0, "no-such-library.so"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			major, minor, err := driver{[]string{tt.library}, tt.command}.cudaVersion(t.Context())
			if major != tt.major || minor != tt.minor {
				t.Errorf("CUDA %d.%d, want %d.%d", major, minor, tt.major, tt.minor)
			}
			if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestInstallCUDA takes the choice of the product, and every refusal, without
// fetching anything.
func TestInstallCUDA(t *testing.T) {
	version := func(v string) driver {
		return driver{libraries: []string{fakeDriver(t, "int cuDriverGetVersion(int *v) { *v = "+v+"; return 0; }")}}
	}
	d11, d12, d13, d14 := version("11080"), version("12080"), version("13000"), version("14010")
	for _, tt := range []struct {
		name     string
		driver   driver
		platform string
		want     string
	}{
		{"no driver", driver{[]string{"no-such-library.so"}, "no such program"}, "linux/amd64", "no NVIDIA driver was found"},
		{"old driver", d11, "linux/amd64", "runs CUDA 11.8 and no provider for less than CUDA 12"},
		{"other platform", d13, "darwin/arm64", "no CUDA provider is known to fetch for darwin/arm64"},
		{"12", d12, "linux/amd64", "the GPU build of onnxruntime 1.26.0 for CUDA 12 is not in the cache, and fetching it is off"},
		{"13", d13, "linux/amd64", "the GPU build of onnxruntime 1.30.0 for CUDA 13 is not in the cache, and fetching it is off"},
		{"14", d14, "linux/amd64", "the GPU build of onnxruntime 1.30.0 for CUDA 13 is not in the cache"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fetcher{dir: t.TempDir(), platform: tt.platform, offline: true, log: func(string, ...any) {}}
			_, err := f.installCUDA(t.Context(), tt.driver)
			var u *engine.UnavailableError
			if !errors.As(err, &u) || !strings.Contains(err.Error(), tt.want) || u.Hint == "" {
				t.Errorf("%v (%T), want %q", err, err, tt.want)
			}
			if entries, _ := os.ReadDir(f.dir); len(entries) > 0 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

// TestInstallCompanions sees that the libraries of one package come together.
func TestInstallCompanions(t *testing.T) {
	s := newStage(t)
	wheel := makeZip(t, file{"capi/lib.so.1", fakeLibrary}, file{"capi/lib_shared.so", "shared"}, file{"capi/lib_cuda.so", "cuda"})
	s.archive("wheel", wheel)
	p := pin{
		client: "pip", spec: "onnxruntime-gpu==0", tag: "any", archive: blobOf("", wheel), member: blobOf("capi/lib.so.1", []byte(fakeLibrary)),
		companions: []blob{blobOf("capi/lib_shared.so", []byte("shared")), blobOf("capi/lib_cuda.so", []byte("cuda"))},
	}
	s.client("pip", goodPip)
	bad := p
	bad.companions = []blob{p.companions[0], blobOf("capi/lib_cuda.so", []byte("evil"))}
	s.f.choose(product{name: "the fake build", version: "9.9", suffix: "-cuda12", pins: []pin{bad}})
	if _, err := s.f.install(t.Context()); err == nil || !strings.Contains(err.Error(), "is pinned") {
		t.Fatalf("a companion with another sum was taken: %v", err)
	}
	if s.f.cached() {
		t.Error("the library is there without its companions")
	}
	s.f.choose(product{name: "the fake build", version: "9.9", suffix: "-cuda12", pins: []pin{p}})
	path, err := s.f.install(t.Context())
	if err != nil || !s.f.cached() || !strings.Contains(path, "9.9/plan9-mips-cuda12") {
		t.Fatalf("%s, %v", path, err)
	}
	for name, want := range map[string]string{path: fakeLibrary, "lib_shared.so": "shared", "lib_cuda.so": "cuda"} {
		if name != path {
			name = filepath.Join(filepath.Dir(path), name)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if err := os.Remove(filepath.Join(filepath.Dir(path), "lib_cuda.so")); err != nil {
		t.Fatal(err)
	}
	if s.f.cached() {
		t.Error("a missing companion goes unnoticed")
	}
	if _, err := s.f.install(t.Context()); err != nil || !s.f.cached() {
		t.Errorf("it is not fetched again: %v", err)
	}
}
