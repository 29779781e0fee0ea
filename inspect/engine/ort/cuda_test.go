//go:build cgo

package ort

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// compiler returns the C compiler and the folder of the header that the binding
// carries, and skips the test where there is none.
func compiler(t *testing.T) (cc, header string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the binding is compiled with other tools on windows")
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler")
	}
	b, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go").Output()
	if err != nil {
		t.Skipf("the binding's source is not at hand: %v", err)
	}
	return cc, strings.TrimSpace(string(b))
}

// compile makes a shared library, or a program, of C source.
func compile(t *testing.T, source, name string, flags ...string) string {
	t.Helper()
	cc, header := compiler(t)
	out := filepath.Join(t.TempDir(), name)
	flags = append(flags, "-w", "-I"+header, "-I.", source, "-o", out)
	if said, err := exec.Command(cc, flags...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return out
}

func compilePlugin(t *testing.T) string {
	t.Helper()
	return compile(t, "testdata/plugin.c", cudaName(runtime.GOOS), "-shared", "-fPIC")
}

// TestSlots compares native.h with the order of functions that is published.
func TestSlots(t *testing.T) {
	b, err := os.ReadFile("native.h")
	if err != nil {
		t.Fatal(err)
	}
	_, header := compiler(t)
	published, err := os.ReadFile(filepath.Join(header, "onnxruntime_c_api.h"))
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]string)
	for _, name := range regexp.MustCompile(`\w+`).FindAllString(string(published), -1) {
		names[strings.ToLower(strings.ReplaceAll(name, "_", ""))] = name
	}
	for _, class := range []string{"Status", "MemoryInfo", "Value", "TensorTypeAndShapeInfo", "IoBinding"} {
		names["release"+strings.ToLower(class)] = "Release" + class
	}
	program := "#include <stddef.h>\n#include \"onnxruntime_c_api.h\"\n#include \"native.h\"\n"
	slots := regexp.MustCompile(`(FL_([A-Z0-9_]+)) = \d+,`).FindAllStringSubmatch(string(b), -1)
	if len(slots) < 30 {
		t.Fatalf("%d slots", len(slots))
	}
	for _, m := range slots {
		name := names[strings.ToLower(strings.ReplaceAll(m[2], "_", ""))]
		program += fmt.Sprintf("_Static_assert(offsetof(OrtApi, %s) == %s * sizeof(void *), \"%s\");\n", name, m[1], name)
	}
	program += fmt.Sprintf("_Static_assert(ORT_API_VERSION >= %d, \"version\");\nint main(void) { return 0; }\n", apiVersion)
	source := filepath.Join(t.TempDir(), "slots.c")
	if err := os.WriteFile(source, []byte(program), 0o666); err != nil {
		t.Fatal(err)
	}
	compile(t, source, "slots")
}

// TestAddresses sees that the binding still has the fields through which its
// native objects are borrowed.
func TestAddresses(t *testing.T) {
	e := open(t, Options{})
	if _, err := nativeCalls(); err != nil {
		t.Fatal(err)
	}
	o, err := e.sessionOptions()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Destroy()
	v, err := ort.NewTensor(ort.NewShape(1), []float32{1})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Destroy()
	s := load(t, e, reluModel()).(*session)
	for name, p := range map[string]any{
		"options": optionsAddress(o) != nil, "run": runAddress(s.run) != nil,
		"session": sessionAddress(s.native) != nil, "value": valueAddress(v) != nil,
	} {
		if p != true {
			t.Errorf("%s: no address", name)
		}
	}
	for _, fields := range [][]string{{"none"}, {"s", "none"}, {"s", "ortSession", "none"}, {"s", "inputs"}} {
		if p := address(s.native, fields...); p != nil {
			t.Errorf("%q has address %v", fields, p)
		}
	}
}

func TestProviders(t *testing.T) {
	s := load(t, open(t, Options{Provider: CPU}), reluModel())
	got, err := s.(*session).Providers()
	if want := map[string][]string{"CPUExecutionProvider": {"Relu"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

// TestPlugin goes the whole way of a plugin library with one that needs no GPU.
func TestPlugin(t *testing.T) {
	path := compilePlugin(t)
	for _, tt := range []struct {
		mode   string
		device int
		want   string
	}{
		{"refuse", 0, "libfake.so.1: cannot open shared object file"},
		{"nodevice", 0, "finds no GPU"},
		{"relu", 1, "there is no GPU 1: plugin library " + path + " finds 1"},
		{"relu", -1, "there is no GPU -1"},
		{"idle", 0, "took no node"},
	} {
		t.Run(fmt.Sprint(tt.mode, tt.device), func(t *testing.T) {
			t.Setenv("FAKE_PLUGIN", tt.mode)
			_, err := Open(t.Context(), Options{Provider: CUDA, CUDALibrary: path, DeviceID: tt.device})
			var u *engine.UnavailableError
			if !errors.As(err, &u) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v (%T), want %q", err, err, tt.want)
			}
			if environment.users != 0 || environment.plugins != nil {
				t.Errorf("%d users, plugins %v left", environment.users, environment.plugins)
			}
		})
	}
}

func TestPluginRuns(t *testing.T) {
	path := compilePlugin(t)
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("FAKE_PLUGIN", "relu")
	t.Setenv("FAKE_PLUGIN_LOG", log)
	t.Setenv("FILTERLENS_CUDA_LIBRARY", path)
	for _, tf32 := range []bool{false, true} {
		t.Run(fmt.Sprintf("tf32=%v", tf32), func(t *testing.T) {
			if err := os.RemoveAll(log); err != nil {
				t.Fatal(err)
			}
			e := open(t, Options{Provider: CUDA, TF32: tf32})
			if e.Provider() != CUDA || e.cuda.shape() != ShapePlugin {
				t.Errorf("%s, %s", e.Provider(), e.cuda.shape())
			}
			m := graph{
				nodes:   [][]byte{node("Relu", []string{"x"}, []string{"r"}), node("Neg", []string{"r"}, []string{"y"})},
				inputs:  [][]byte{tensorInfo("x", elemFloat, []dim{"N", 3})},
				outputs: [][]byte{tensorInfo("y", elemFloat, []dim{"N", 3})},
			}
			s := load(t, e, m.model())
			out := tensors{"y": nil}
			if err := s.Run(t.Context(), tensors{"x": engine.NewFloat32([]float32{-1, 2, 3}, 1, 3)}, out); err != nil {
				t.Fatal(err)
			}
			if got := out["y"].Float32(); !slices.Equal(got, []float32{0, -2, -3}) {
				t.Error(got)
			}
			got, err := s.(*session).Providers()
			want := map[string][]string{"CUDAExecutionProvider": {"Relu"}, "CPUExecutionProvider": {"Neg"}}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v, %v; want %v", got, err, want)
			}
			said, err := os.ReadFile(log)
			if want := map[bool]string{false: "use_tf32=0\n", true: "use_tf32=1\n"}[tf32]; err != nil || string(said) != want+want {
				t.Errorf("%q, %v; want %q twice, for the probe and the model", said, err, want)
			}
		})
	}
	info, err := Describe(context.Background(), Options{})
	if err != nil || len(info.Providers) != 3 {
		t.Fatalf("%+v, %v", info, err)
	}
	if p := info.Providers[2]; p.Name != CUDA || p.Shape != ShapePlugin || p.Provider != path || !p.Usable || p.Reason != "" {
		t.Errorf("%+v", p)
	}
}

func TestReadCUDA(t *testing.T) {
	dir := t.TempDir()
	source := func(name, text string) string {
		path := filepath.Join(dir, name+".c")
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return compile(t, path, cudaName(runtime.GOOS), "-shared", "-fPIC")
	}
	builtIn := source("builtin", "void GetProvider(void) {} void CreateEpFactories(void) {}")
	other := source("other", "void CreateEpFactories(void); void f(void) { CreateEpFactories(); }")
	text := filepath.Join(dir, "text.so")
	if err := os.WriteFile(text, []byte("hello"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, shape, want string }{
		{builtIn, ShapeBuiltIn, ""},
		{compilePlugin(t), ShapePlugin, ""},
		{other, "", "is no execution provider"},
		{text, "", "is no shared library"},
		{filepath.Join(dir, "none"), "", "no such file"},
	} {
		c, err := readCUDA(tt.path)
		if tt.want == "" && (err != nil || c.shape() != tt.shape) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %+v, %v; want %s %q", tt.path, c, err, tt.shape, tt.want)
		}
	}

	// The library of a GPU build works only beside that build.
	t.Setenv("FILTERLENS_CACHE", t.TempDir())
	t.Setenv("FILTERLENS_CUDA_LIBRARY", "")
	library := filepath.Join(dir, libraryName(runtime.GOOS+"/"+runtime.GOARCH))
	if _, err := findCUDA(library, Options{CUDALibrary: builtIn}); err == nil || !strings.Contains(err.Error(), "works only beside") {
		t.Error(err)
	}
	beside := filepath.Join(filepath.Dir(builtIn), "libonnxruntime.so")
	if c, err := findCUDA(beside, Options{}); err != nil || c.plugin || c.path != builtIn {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := findCUDA(library, Options{}); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Error(err)
	}
}
