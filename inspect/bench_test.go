package inspect_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// BenchmarkInspectVGG16 opens and describes a 553 MB file without reading its
// weights. It reports the process's peak resident memory; the goals are 20 ms
// and 40 MB.
func BenchmarkInspectVGG16(b *testing.B) {
	d, err := arch.VGG16(arch.Options{Zero: true})
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "vgg16.onnx")
	if err := arch.Write(path, d); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		describe(b, path)
	}
	b.ReportMetric(float64(info.Size())/1e6, "MB-file")
	if peak, ok := peakResident(); ok {
		b.ReportMetric(peak/1e6, "MB-resident")
	}
}

// BenchmarkInspectEfficientNetB0 has more nodes and smaller tensors.
func BenchmarkInspectEfficientNetB0(b *testing.B) {
	d, err := arch.EfficientNetB0(arch.Options{Zero: true})
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "efficientnet_b0.onnx")
	if err := arch.Write(path, d); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		describe(b, path)
	}
}

func describe(b *testing.B, path string) {
	f, err := onnxfile.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	m, err := inspect.New(b.Context(), f, inspect.Options{})
	if err != nil {
		b.Fatal(err)
	}
	if m.Totals.Parameters == 0 || m.Totals.MACsUnknown > 0 {
		b.Fatalf("totals %+v", m.Totals)
	}
}

// peakResident returns the process's peak resident memory in bytes, where the
// system tells it.
func peakResident() (float64, bool) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kb * 1024, err == nil
		}
	}
	return 0, false
}
