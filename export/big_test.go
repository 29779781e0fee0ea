package export

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// files lists the names in a folder.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestTwoFiles: a model that does not fit in one file is written as two, at each step,
// with the same result.
func TestTwoFiles(t *testing.T) {
	eng, set := runtime(t), patches(t, 12, 8)
	m := newNet().conv("a", 3, 12).conv("b", 12, 16).conv("c", 16, 16).head(16).model(t)
	opt := Options{PlanOptions: PlanOptions{Target: Conv, Criterion: Magnitude, FiltersKeep: 0.5, RoundTo: 2}, Set: set, Probe: probe.Options{Split: dataset.SplitOptions{Seed: 1}}}
	opt.Head.Iterations = 5
	one := filepath.Join(t.TempDir(), "one.onnx")
	if _, err := Prune(t.Context(), eng, m, nil, one, nil, opt); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	two := filepath.Join(dir, "two.onnx")
	opt.oneFile = 1000
	for range 2 { // the second time over the files of the first
		r, err := Prune(t.Context(), eng, m, nil, two, nil, opt)
		if err != nil {
			t.Fatal(err)
		}
		if got := files(t, dir); !slices.Equal(got, []string{"two.onnx", "two.onnx.data"}) {
			t.Fatalf("files %q", got)
		}
		a, b := open(t, one), open(t, two)
		if !b.Handle.External() || a.Handle.External() {
			t.Error("numbers lie in the wrong files")
		}
		if err := checkUntouched(t.Context(), a, b, nil); err != nil {
			t.Error(err)
		}
		if !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "two.onnx.data") }) {
			t.Errorf("warnings %q", r.Warnings)
		}
		if r.After.Bytes != b.FileBytes+b.ExternalBytes || b.ExternalBytes == 0 {
			t.Errorf("%d bytes are reported, there are %d and %d", r.After.Bytes, b.FileBytes, b.ExternalBytes)
		}
		d, err := noiseDifference(t.Context(), eng, a, b)
		if err != nil || d.Largest != 0 {
			t.Errorf("outputs differ: %+v, %v", d, err)
		}
	}
	var option *OptionError
	if _, err := Prune(t.Context(), eng, m, nil, "", &bytes.Buffer{}, opt); !errors.As(err, &option) || !strings.Contains(err.Error(), "standard output") {
		t.Errorf("to standard output: %v", err)
	}
	worst := -1000.0
	opt.MaxDrop = &worst
	var verdict *VerdictError
	dir = t.TempDir()
	if _, err := Prune(t.Context(), eng, m, nil, filepath.Join(dir, "no.onnx"), nil, opt); !errors.As(err, &verdict) {
		t.Errorf("a limit that nothing keeps: %v", err)
	}
	if got := files(t, dir); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

// TestOver2GB prunes a model with 2.4 GB of external data, nearly all of them zeros
// that take no room on the disk; what is written takes 7 GB for a while.
// FILTERLENS_SLOW asks for it.
func TestOver2GB(t *testing.T) {
	if os.Getenv("FILTERLENS_SLOW") == "" {
		t.Skip("FILTERLENS_SLOW is not set")
	}
	const wide = 24576
	n := newNet().conv("a", 3, 8)
	n.node("flat", "Flatten", []string{n.t})
	n.node("fc0", "Gemm", []string{n.t, n.weights("w.fc0", wide, 8*64), n.weights("b.fc0", wide)}, integer("transB", 1))
	n.node("fc0.relu", "Relu", []string{n.t})
	entry := func(k, v string) *onnxpb.StringStringEntryProto {
		return &onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(v)}
	}
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("w.fc1"), Dims: []int64{wide, wide}, DataType: proto.Int32(int32(onnxfile.Float)),
		DataLocation: onnxpb.TensorProto_EXTERNAL.Enum(), ExternalData: []*onnxpb.StringStringEntryProto{entry("location", "huge.data"), entry("length", strconv.Itoa(4*wide*wide))}})
	n.node("fc1", "Gemm", []string{n.t, "w.fc1"}, integer("transB", 1))
	n.node("fc1.relu", "Relu", []string{n.t})
	n.node("fc2", "Gemm", []string{n.t, n.weights("w.fc2", 32, wide)}, integer("transB", 1))
	n.node("fc2.relu", "Relu", []string{n.t})
	n.classifier(32)
	path := n.save(t, false)
	f, err := os.Create(filepath.Join(filepath.Dir(path), "huge.data"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(wide) {
		b := binary.LittleEndian.AppendUint32(nil, math.Float32bits(1+float32(i*7919%wide)/wide))
		if _, err := f.WriteAt(b, 4*i*(wide+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(4*wide*wide), f.Close()); err != nil {
		t.Fatal(err)
	}
	m, eng := open(t, path), runtime(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.onnx")
	opt := Options{PlanOptions: PlanOptions{Target: Classifier, Criterion: Magnitude, FiltersKeep: 0.98, Recover: []string{RecoverHead}}, Set: patches(t, 12, 8),
		Probe: probe.Options{Split: dataset.SplitOptions{Seed: 1}}}
	opt.Head.Iterations = 3
	opt.Probe.Progress = func(stage string, done, total int) {
		if done == 0 {
			t.Logf("%s: %s", stage, peak())
		}
	}
	r, err := Prune(t.Context(), eng, m, nil, out, nil, opt)
	if err != nil {
		t.Fatal(err)
	}
	var mem goruntime.MemStats
	goruntime.ReadMemStats(&mem)
	t.Logf("%d MB from the system for Go; the process: %s", mem.Sys>>20, peak())
	for _, s := range r.Steps {
		t.Logf("%s: %.1f s %q", s.Name, s.Seconds, s.Skipped)
		for _, l := range s.Layers {
			t.Logf("%+v", l)
		}
	}
	for _, c := range r.Checks {
		t.Logf("%+v", c)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"out.onnx", "out.onnx.data"}) {
		t.Fatalf("files %q", got)
	}
	written := open(t, out)
	if written.ExternalBytes < 1<<31 || written.ExternalBytes >= m.ExternalBytes || r.After.Bytes != written.FileBytes+written.ExternalBytes {
		t.Errorf("%d and %d bytes, were %d and %d", written.FileBytes, written.ExternalBytes, m.FileBytes, m.ExternalBytes)
	}
	if st, _ := written.Graph.Initializer("w.fc1"); st.Dims()[0] >= wide || st.Dims()[0]%8 != 0 {
		t.Errorf("w.fc1 is %v", st.Dims())
	}
	s, err := eng.Load(t.Context(), engine.Model{Name: out, Path: out})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	answers := map[string]*engine.Tensor{"classifier": nil}
	if err := s.Run(t.Context(), map[string]*engine.Tensor{"image": engine.NewFloat32(make([]float32, 192), 1, 3, 8, 8)}, answers); err != nil || len(answers["classifier"].Float32()) != classes {
		t.Errorf("%v, %v", answers, err)
	}
	if mem.Sys > 3<<30 {
		t.Errorf("%d MB of memory, beside that of the engine", mem.Sys>>20)
	}
}

// peak is the most memory that the process has had, where the system tells.
func peak() string {
	b, _ := os.ReadFile("/proc/self/status")
	var lines []string
	for _, l := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(l, "VmHWM") || strings.HasPrefix(l, "RssAnon") {
			lines = append(lines, strings.Join(strings.Fields(l), " "))
		}
	}
	return strings.Join(lines, ", ")
}
