package inspect

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// BenchmarkStats reads one tensor of 64 MiB of floats: "counts" is the reading that
// counts zeros and what is not finite, "all" makes all of the statistics. The plain
// reading of the same bytes is what they are to be compared with.
func BenchmarkStats(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, sparse := range []bool{false, true} {
		v := make([]float32, 1<<24)
		for i := range v {
			if !sparse || r.IntN(2) == 0 {
				v[i] = float32(r.NormFloat64())
			}
		}
		s := newSketch(13).input("x", 1)
		s.weights("w", []int64{int64(len(v))}, v...)
		s.node("Identity", "x", "y").output("y", 1)
		path := filepath.Join(b.TempDir(), "m.onnx")
		if err := os.WriteFile(path, s.bytes(b), 0o600); err != nil {
			b.Fatal(err)
		}
		f, err := onnxfile.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		t := f.Tensor(f.Model.Graph.Initializer[0])
		name := map[bool]string{false: "dense", true: "half zeros"}[sparse]
		for _, procs := range []int{1, 2} {
			if procs > runtime.NumCPU() {
				continue
			}
			run := func(what string, fn func() error) {
				b.Run(fmt.Sprintf("%s/%s/procs=%d", name, what, procs), func(b *testing.B) {
					defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
					b.SetBytes(4 << 24)
					for b.Loop() {
						if err := fn(); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			run("read", func() error { return readPlain(path, procs) })
			read := func(full bool) func() error {
				return func() error {
					_, err := readStats(context.Background(), []onnxfile.Tensor{t}, full)
					return err
				}
			}
			run("counts", read(false))
			run("all", read(true))
		}
	}
}

// readPlain reads a file in blocks, as many goroutines at once as procs.
func readPlain(path string, procs int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var group errgroup.Group
	part := info.Size() / int64(procs)
	for i := range procs {
		group.Go(func() error {
			buf := make([]byte, 1<<18)
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.NewSectionReader(f, int64(i)*part, part), buf)
			return err
		})
	}
	return group.Wait()
}
