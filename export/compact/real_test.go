package compact

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// TestModels compacts the models in the folder FILTERLENS_MODELS, with kernels
// and filters set to zero and with filters that are asked for.
func TestModels(t *testing.T) {
	dir := os.Getenv("FILTERLENS_MODELS")
	if dir == "" {
		t.Skip("FILTERLENS_MODELS is not set")
	}
	list := engines(t)
	paths, err := filepath.Glob(filepath.Join(dir, "*.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct{ kernels, filters float64 }{{0, 0}, {0, 0.5}, {0.9, 0.3}} {
				source := masked(t, b, 11, c.kernels, c.filters)
				p, _ := compacted(t, list, read(t, source), source, Options{})
				t.Logf("%v of kernels, %v of filters: %d of %d channels, bytes %d to %d, MACs %d to %d", c.kernels, c.filters,
					p.Removed, p.Channels, p.Before.Bytes, p.After.Bytes, *p.Before.MACs, *p.After.MACs)
				for _, x := range p.Barriers {
					t.Log(x)
				}
			}
			m := read(t, b)
			opt := Options{Remove: half(t, m), RoundTo: 8}
			p, _ := compacted(t, list, m, b, opt)
			t.Logf("half of all filters: %d of %d channels, bytes %d to %d, MACs %d to %d, %d refused", p.Removed, p.Channels,
				p.Before.Bytes, p.After.Bytes, *p.Before.MACs, *p.After.MACs, len(p.Refused))
		})
	}
}

// TestCorpus compacts the models below the folder FILTERLENS_CORPUS as they are,
// and with half of their channels asked for. Those that the pure-Go engine runs
// must answer as before, or as with the channels silenced.
func TestCorpus(t *testing.T) {
	root := os.Getenv("FILTERLENS_CORPUS")
	if root == "" {
		t.Skip("FILTERLENS_CORPUS is not set")
	}
	e := gorgonia.Open(gorgonia.Options{Threads: 1})
	defer e.Close()
	models, planned, changed, ran, removed := 0, 0, 0, 0, 0
	one := func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), path)
		if err != nil {
			return
		}
		m, err := inspect.New(t.Context(), f, inspect.Options{})
		if err != nil || m.Check() != nil {
			return
		}
		models++
		groups, err := Groups(t.Context(), m)
		if err != nil {
			return // refused, or its data lie elsewhere
		}
		for _, remove := range []map[string][]int{nil, halfOf(groups)} {
			p, err := NewPlan(t.Context(), m, Options{Remove: remove})
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			planned++
			d, err := Apply(t.Context(), m, p)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			out, err := d.Bytes()
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			if err := read(t, out).Check(); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			md, err := Mask(t.Context(), m, p)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			source, err := md.Bytes()
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			if p.Removed == 0 {
				continue
			}
			changed++
			before, ok := try(t, e, source)
			if !ok {
				continue
			}
			ran++
			removed += p.Removed
			after, ok := try(t, e, out)
			if !ok {
				t.Errorf("%s: compacted it does not run", path)
				continue
			}
			if d := apart(t, before, after); d > 1e-4 {
				t.Errorf("%s: answers differ by %.3g", path, d)
			}
		}
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".onnx") {
			one(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d models, %d plans, %d with channels to remove, %d of them ran, %d channels removed", models, planned, changed, ran, removed)
}
