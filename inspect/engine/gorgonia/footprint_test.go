package gorgonia_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/engine/ort"
)

// memoryFactor bounds the largest resident memory of a process that loads a
// model of VGG-16's size and runs an image, by the size of its file.
const memoryFactor = 1.5

// TestMemory loads VGG-16 at its published size, 553 MB, by path in a process of
// its own, runs one image and asks the system for the most memory that the
// process ever had. It takes some seconds and two processors' time:
// FILTERLENS_SLOW=1.
func TestMemory(t *testing.T) {
	if os.Getenv("FILTERLENS_SLOW") == "" {
		t.Skip("LEFT OUT: FILTERLENS_SLOW is not set")
	}
	if _, err := peak(); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	d, err := arch.VGG16(arch.Options{Seed: 1})
	path := written(t, d, err)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	d = nil
	for _, name := range []string{"gorgonia", "onnxruntime"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestMemoryChild$", "-test.v")
		cmd.Env = append(os.Environ(), "FILTERLENS_MEMORY_MODEL="+path, "FILTERLENS_MEMORY_ENGINE="+name)
		b, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, b)
		}
		line, ok := between(string(b), "measured: ", "\n")
		if !ok {
			t.Logf("%s: nothing measured: %s", name, b)
			continue
		}
		var loaded, ran int64
		var loading, running float64
		if _, err := fmt.Sscan(line, &loaded, &ran, &loading, &running); err != nil {
			t.Fatalf("%s: %q: %v", name, line, err)
		}
		size := float64(info.Size())
		t.Logf("%s: file %.1f MB; most memory %.1f MB when loaded (%.2f of the file), %.1f MB after one image (%.2f); loading took %.2f s, two images %.2f s",
			name, size/1e6, float64(loaded)/1e6, float64(loaded)/size, float64(ran)/1e6, float64(ran)/size, loading, running)
		if name == "gorgonia" && float64(ran) > memoryFactor*size {
			t.Errorf("the process had %.2f times the size of the file, %.1f are allowed", float64(ran)/size, memoryFactor)
		}
	}
}

func between(s, from, to string) (string, bool) {
	_, s, ok := strings.Cut(s, from)
	if !ok {
		return "", false
	}
	s, _, ok = strings.Cut(s, to)
	return s, ok
}

// TestMemoryChild is the process that TestMemory measures.
func TestMemoryChild(t *testing.T) {
	path := os.Getenv("FILTERLENS_MEMORY_MODEL")
	if path == "" {
		t.Skip("TestMemory runs it in a process of its own")
	}
	var e engine.Engine = gorgonia.Open(gorgonia.Options{})
	if os.Getenv("FILTERLENS_MEMORY_ENGINE") == "onnxruntime" {
		var err error
		if e, err = ort.Open(t.Context(), ort.Options{Offline: true}); err != nil {
			t.Skip(err)
		}
	}
	defer e.Close()
	start := time.Now()
	s := load(t, e, engine.Model{Name: "VGG-16", Path: path})
	loading := time.Since(start)
	loaded, err := peak()
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]*engine.Tensor{"input": engine.NewFloat32(drawn(3*224*224, 1), 1, 3, 224, 224)}
	start = time.Now()
	for range 2 {
		out := map[string]*engine.Tensor{"logits": nil}
		if err := s.Run(t.Context(), in, out); err != nil {
			t.Fatal(err)
		}
		if n := len(out["logits"].Float32()); n != 1000 {
			t.Fatalf("%d logits", n)
		}
	}
	running := time.Since(start)
	ran, err := peak()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("measured:", loaded, ran, loading.Seconds(), running.Seconds())
}

// peak returns the most bytes of memory that this process has had at once.
func peak() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	line, ok := between(string(b), "VmHWM:", "kB")
	if !ok {
		return 0, fmt.Errorf("the system does not tell the peak of resident memory")
	}
	var kB int64
	_, err = fmt.Sscan(line, &kB)
	return kB << 10, err
}
