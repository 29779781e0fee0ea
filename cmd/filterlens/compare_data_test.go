package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"github.com/filterlens/filterlens/inspect/report"
)

// compared runs compare and returns what it writes as JSON, and the exit code.
func compared(t *testing.T, args ...string) (*report.Compared, int) {
	t.Helper()
	var out, stderr bytes.Buffer
	code := run(t.Context(), append([]string{"compare", "-f", "json"}, args...), nil, &out, &stderr)
	if code > exitVerdict {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	r := &report.Compared{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	return r, code
}

// rewritten writes a copy of the VGG fixture whose float tensors edit has changed, by
// name.
func rewritten(t *testing.T, name string, edit func(tensor func(string) []float32, set func(name string, v []float32, dims ...int64))) string {
	t.Helper()
	f, err := onnxfile.Open(vggFixture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := f.Draft()
	of := func(name string) *onnxpb.TensorProto {
		p := d.Initializer(name)
		if p == nil {
			t.Fatalf("no tensor %s", name)
		}
		return p
	}
	edit(func(name string) []float32 {
		v, err := f.Tensor(of(name)).Float32s(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}, func(name string, v []float32, dims ...int64) { d.SetFloat32(of(name), v, dims...) })
	path := filepath.Join(t.TempDir(), name)
	if err := d.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// pick returns rows of a matrix of rows of n numbers.
func pick(v []float32, n int, rows []int) (out []float32) {
	for _, r := range rows {
		out = append(out, v[r*n:(r+1)*n]...)
	}
	return out
}

// columns returns columns of a matrix of n columns.
func columns(v []float32, n int, cols []int) (out []float32) {
	for at := 0; at < len(v); at += n {
		for _, c := range cols {
			out = append(out, v[at+c])
		}
	}
	return out
}

// Filters of the last layer are compared with what they have become when they were
// put into another order, and when some were taken out: the model's own classifier is
// their head, so that they recognise exactly what they did.
func TestCompareMovedFilters(t *testing.T) {
	const filters, labels, channels = 64, 20, 64
	layer := "features.40"
	moved := func(name string, keep []int) string {
		return rewritten(t, name, func(tensor func(string) []float32, set func(string, []float32, ...int64)) {
			n := int64(len(keep))
			set(layer+".weight", pick(tensor(layer+".weight"), channels*9, keep), n, channels, 3, 3)
			set(layer+".bias", pick(tensor(layer+".bias"), 1, keep), n)
			set("classifier.weight", columns(tensor("classifier.weight"), filters, keep), labels, n)
		})
	}
	args := func(path string) []string {
		return []string{vggFixture, path, "--data", glyphs, "--per-label", "20", "--epochs", "1", "--layers", layer}
	}
	perm := rand.New(rand.NewPCG(1, 2)).Perm(filters)
	r, code := compared(t, args(moved("permuted.onnx", perm))...)
	if len(r.Statistics.Layers) != 1 {
		t.Fatalf("%+v", r.Statistics)
	}
	l := r.Statistics.Layers[0]
	if l.Filters != filters || l.Clusters+l.Gained+l.Lost+l.Gone+l.New != 0 || l.A.Accuracy != l.B.Accuracy {
		t.Errorf("permuted: %+v", l)
	}
	if r.Answers.Agree != r.Answers.Samples || r.Likeness.Layers[0].Parts || code != exitVerdict {
		t.Errorf("permuted: %d of %d answers agree, %+v, exit code %d", r.Answers.Agree, r.Answers.Samples, r.Likeness.Layers[0], code)
	}
	// 60 are left, in another order.
	r, _ = compared(t, args(moved("pruned.onnx", perm[:60]))...)
	l = r.Statistics.Layers[0]
	if l.Filters != filters || l.Gone != 4 || l.New != 0 || l.B.Filters != 60 || l.Clusters+l.Gained+l.Lost != 0 {
		t.Errorf("pruned: %+v", l)
	}
	if r.Likeness.Layers[0].Filters != 60 || r.Likeness.Layers[0].Parts {
		t.Errorf("pruned: %+v", r.Likeness.Layers[0])
	}
	// A saved measurement finds its model, which says which filters are left.
	stats := filepath.Join(t.TempDir(), "stats.json")
	if code := run(t.Context(), []string{"inspect", vggFixture, "--data", glyphs, "--per-label", "20", "--epochs", "1", "--layers", "features.37,features.40", "-q", "-o", stats}, nil, io.Discard, io.Discard); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	// What is measured beside another model is what inspect measures.
	r, _ = compared(t, append(args(moved("again.onnx", perm)), "--layers", "features.37", "--only", "statistics")...)
	beside := r.Statistics.Layers
	r, _ = compared(t, stats, moved("again.onnx", perm), "--data", glyphs)
	for i, l := range r.Statistics.Layers {
		if len(beside) != 2 || !reflect.DeepEqual(l.A, beside[i].A) || l.A.SNR == nil {
			t.Errorf("%s: %+v, measured alone %+v", l.Layer, beside, l.A)
		}
	}
	for _, c := range []struct {
		args   []string
		layers int
	}{{[]string{stats, moved("pruned.onnx", perm[:60]), "--data", glyphs}, 2}, {[]string{stats, moved("pruned.onnx", perm[:60]), "--data", glyphs, "--layers", layer}, 1}} {
		r, _ = compared(t, c.args...)
		s := r.Statistics
		l = s.Layers[len(s.Layers)-1]
		if len(s.Layers) != c.layers || s.Unpaired != nil || l.Gone != 4 || l.New != 0 || l.Clusters != 0 || r.Answers != nil || r.Likeness != nil {
			t.Errorf("saved: %+v, %v", l, s.Unpaired)
		}
	}
}

func TestCompareOtherLabels(t *testing.T) {
	other := rewritten(t, "few.onnx", func(tensor func(string) []float32, set func(string, []float32, ...int64)) {
		set("classifier.weight", tensor("classifier.weight")[:10*64], 10, 64)
		set("classifier.bias", tensor("classifier.bias")[:10], 10)
	})
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"compare", vggFixture, other, "--data", glyphs, "--runtime-library", "no.so"}, nil, io.Discard, &stderr)
	if code != exitUsage || !strings.Contains(stderr.String(), "outputs") {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
	// Among many it has a row that says why.
	stderr.Reset()
	var out bytes.Buffer
	code = run(t.Context(), []string{"compare", vggFixture, other, vggFixture, "--data", glyphs, "--per-label", "10", "-f", "csv"}, nil, &out, &stderr)
	if want := "has 20 labels, the model has 10 outputs"; code != exitUsage || !strings.Contains(out.String(), want) {
		t.Errorf("exit code %d: %s%s", code, &out, &stderr)
	}
}

// Whenever the work is interrupted the exit code is 130, one line says so, and neither
// a file nor a goroutine is left.
func TestInterruptCompare(t *testing.T) {
	out := t.TempDir()
	file := filepath.Join(out, "x.json")
	for _, c := range []struct {
		at   string
		args []string
	}{
		{"evaluating", []string{vggFixture, vggFixture, "--data", glyphs, "-o", file, "-v"}},
		{"judging heads of A", []string{vggFixture, vggFixture, "--data", glyphs, "--per-label", "10", "--epochs", "1", "--only", "statistics", "-o", file, "-v"}},
		{"judging heads of B", []string{vggFixture, vggFixture, "--data", glyphs, "--per-label", "10", "--epochs", "1", "--only", "statistics", "-o", file, "-v"}},
		{"evaluating", []string{vggFixture, vggFixture, vggFixture, "--data", glyphs, "-o", file, "-v"}},
	} {
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		stderr := &cancelling{at: c.at, cancel: cancel}
		name := fmt.Sprint(c.at, " ", len(c.args))
		if code := run(ctx, append([]string{"compare"}, c.args...), nil, io.Discard, stderr); code != exitInterrupted {
			t.Errorf("%s: exit code %d: %s", name, code, stderr)
		}
		cancel()
		if !strings.HasSuffix(stderr.String(), "filterlens: interrupted\n") {
			t.Errorf("%s: %s", name, stderr)
		}
		if left, _ := os.ReadDir(out); len(left) > 0 {
			t.Errorf("%s: %v is left", name, left)
		}
		for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%s: %d goroutines, %d before", name, n, before)
		}
	}
}
