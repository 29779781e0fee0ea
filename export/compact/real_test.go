package compact

import (
	"os"
	"path/filepath"
	"testing"
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
