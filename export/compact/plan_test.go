package compact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// three draws a chain of three convolutions, the first of which has a channel
// that nothing reads, one that is 0 and two that are constant.
func three() *net {
	n := in(3, 8, 8)
	n.conv("a", "x", 3, 8, 3, 1, 1)
	n.node("r", "Relu", []string{"a"})
	n.conv("b", "r", 8, 6, 3, 1, 1)
	n.conv("c", "b", 6, 5, 1, 0, 1)
	return n.head("c", 5).zero("b.w", 1, 0).zero("a.w", 0, 1, 2, 3).set("a.b", 0, -1, 1).set("a.b", 0, 1, 2).set("a.b", 0, 2, 3)
}

func TestPlan(t *testing.T) {
	source := three().bytes(t)
	m := read(t, source)
	p, err := NewPlan(t.Context(), m, Options{Remove: map[string][]int{"b": {5, 1}, "head": {2}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Groups) != 5 {
		t.Fatalf("%d groups", len(p.Groups))
	}
	a := p.Groups[1]
	if want := []Maker{{Layer: "a", Each: 1}}; !reflect.DeepEqual(a.Makers, want) || a.Size != 8 || !reflect.DeepEqual(a.Readers, []string{"b"}) ||
		!reflect.DeepEqual(a.Tensors, []string{"a", "r"}) || a.Fixed != "" {
		t.Errorf("group %+v", a)
	}
	var reasons []string
	for _, c := range a.Removed {
		reasons = append(reasons, strconv.Itoa(c.Channel)+" "+c.Reason)
	}
	if got, want := strings.Join(reasons, ", "), "0 nothing reads it, 1 constant, 2 constant"; got != want {
		t.Errorf("removed: %s, want %s", got, want)
	}
	if v := a.Removed[2].Value; v == nil || *v != 1 {
		t.Errorf("value %v of the constant, want 1", v)
	}
	if len(a.Stuck) != 1 || a.Stuck[0].Channel != 3 || *a.Stuck[0].Value != 2 {
		t.Errorf("stuck: %+v", a.Stuck)
	}
	if b := p.Groups[2]; len(b.Removed) != 2 || b.Removed[0] != (Channel{Channel: 1, Reason: Asked}) {
		t.Errorf("group of b: %+v", b)
	}
	if want := []Refusal{{"head", []int{2}, "it is an output of the graph"}}; !reflect.DeepEqual(p.Refused, want) {
		t.Errorf("refused: %+v", p.Refused)
	}
	if p.Removed != 5 || p.Before.Bytes != int64(len(source)) || p.After.Bytes >= p.Before.Bytes || *p.After.MACs >= *p.Before.MACs {
		t.Errorf("%d removed, before %+v, after %+v", p.Removed, p.Before, p.After)
	}
}

// TestPreference: what cannot all go goes in the order in which it was asked for.
func TestPreference(t *testing.T) {
	n := in(3, 8, 8)
	n.conv("a", "x", 3, 8, 3, 1, 1)
	n.conv("b", "a", 8, 6, 3, 1, 1)
	source := n.head("b", 6).bytes(t)
	for _, c := range []struct {
		remove map[string][]int
		round  int
		want   string
		stay   []Refusal
	}{
		{map[string][]int{"a": {6, 5, 0, 2, 1}}, 4, "[[] [0 2 5 6] [] []]", []Refusal{{"a", []int{1}, "counts are multiples of 4"}}},
		{map[string][]int{"a": {6, 5, 0}}, 4, "[[] [] [] []]", []Refusal{{"a", []int{6, 5, 0}, "counts are multiples of 4"}}},
		{map[string][]int{"a": {6, 5, 0}}, 0, "[[] [0 5 6] [] []]", nil},
		{map[string][]int{"b": {3, 1, 0, 2, 4, 5}}, 0, "[[] [] [0 1 2 3 4] []]", []Refusal{{"b", []int{5}, "a tensor keeps one channel at least"}}},
	} {
		p, err := NewPlan(t.Context(), read(t, source), Options{Remove: c.remove, RoundTo: c.round})
		if err != nil {
			t.Fatal(err)
		}
		got := make([][]int, len(p.Groups))
		for i, g := range p.Groups {
			got[i] = channels(g.Removed)
		}
		if fmt.Sprint(got) != c.want || !reflect.DeepEqual(p.Refused, c.stay) {
			t.Errorf("%v, round %d: %v, refused %+v", c.remove, c.round, got, p.Refused)
		}
	}
}

// TestPlanFile: a plan that was written and read again does the same, and does
// nothing to another model.
func TestPlanFile(t *testing.T) {
	source := three().bytes(t)
	m := read(t, source)
	p, err := NewPlan(t.Context(), m, Options{Remove: map[string][]int{"b": {5, 1}}, RoundTo: 2})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	q := new(Plan)
	if err := json.Unmarshal(text, q); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(q)
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("%v: the plan changed:\n%s\n%s", err, text, again)
	}
	write := func(m *inspect.Model, p *Plan) []byte {
		d, err := Apply(t.Context(), m, p)
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !bytes.Equal(write(m, p), write(read(t, source), q)) {
		t.Error("the plan that was read writes another file")
	}
	var pe *PlanError
	if _, err := Apply(t.Context(), read(t, three().zero("b.w", 1, 6).bytes(t)), q); !errors.As(err, &pe) {
		t.Errorf("another model: %v", err)
	}
	if _, err := Apply(t.Context(), read(t, in(3, 8, 8).head("x", 3).bytes(t)), &Plan{Schema: PlanSchema}); !errors.As(err, &pe) {
		t.Errorf("another graph: %v", err)
	}
	q.Schema = "filterlens.plan/1"
	if _, err := Apply(t.Context(), m, q); !errors.As(err, &pe) {
		t.Errorf("another schema: %v", err)
	}
}

func TestRefused(t *testing.T) {
	plan := func(m *inspect.Model, opt Options) error {
		_, err := NewPlan(t.Context(), m, opt)
		return err
	}
	var refused *RefusedError
	n := in(3, 8, 8)
	n.conv("a", "x", 3, 4, 3, 1, 1)
	n.floats("scale", []float32{0.1})
	n.node("q", "QuantizeLinear", []string{"a", "scale"})
	n.node("d", "DequantizeLinear", []string{"q", "scale"})
	if err := plan(read(t, n.head("d", 4).bytes(t)), Options{}); !errors.As(err, &refused) || refused.Op != "QuantizeLinear" {
		t.Errorf("a quantized model: %v", err)
	}
	training := new(onnxpb.ModelProto)
	if err := proto.Unmarshal(three().bytes(t), training); err != nil {
		t.Fatal(err)
	}
	training.TrainingInfo = []*onnxpb.TrainingInfoProto{{}}
	b, err := proto.Marshal(training)
	if err != nil {
		t.Fatal(err)
	}
	if err := plan(read(t, b), Options{}); !errors.As(err, &refused) {
		t.Errorf("a training graph: %v", err)
	}
	if err := plan(&inspect.Model{}, Options{}); !errors.As(err, &refused) {
		t.Errorf("a report: %v", err)
	}
	var fe *FilterError
	for _, remove := range []map[string][]int{{"z": {0}}, {"a": {8}}, {"a": {-1}}, {"r": {0}}} {
		if err := plan(read(t, three().bytes(t)), Options{Remove: remove}); !errors.As(err, &fe) {
			t.Errorf("%v: %v", remove, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewPlan(ctx, read(t, three().bytes(t)), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// beside writes a model whose stored tensors lie in a file beside it.
func beside(t *testing.T, n *net, dir string) string {
	t.Helper()
	var data []byte
	for _, p := range n.g.Initializer {
		if len(p.RawData) == 0 {
			continue
		}
		entry := func(k, v string) *onnxpb.StringStringEntryProto {
			return &onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(v)}
		}
		p.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
		p.ExternalData = []*onnxpb.StringStringEntryProto{entry("location", "w.data"), entry("offset", strconv.Itoa(len(data))), entry("length", strconv.Itoa(len(p.RawData)))}
		data, p.RawData = append(data, p.RawData...), nil
	}
	path := filepath.Join(dir, "model.onnx")
	for name, b := range map[string][]byte{path: n.bytes(t), filepath.Join(dir, "w.data"): data} {
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestExternalData: what lies beside the model becomes part of the file.
func TestExternalData(t *testing.T) {
	list := engines(t)
	m, err := inspect.Open(t.Context(), beside(t, three(), t.TempDir()), inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, w := compacted(t, list, m, three().bytes(t), Options{})
	if w.ExternalBytes != 0 || p.Removed != 3 || p.Before.Bytes != m.FileBytes+m.ExternalBytes {
		t.Errorf("%d bytes beside the file, %d channels removed, before %+v", w.ExternalBytes, p.Removed, p.Before)
	}
}

// TestLargerThanAFile compacts a model of 2.7 GB, whose weights are not held in
// memory. FILTERLENS_SLOW asks for it.
func TestLargerThanAFile(t *testing.T) {
	if os.Getenv("FILTERLENS_SLOW") == "" {
		t.Skip("FILTERLENS_SLOW is not set")
	}
	dir := t.TempDir()
	n := in(3, 32, 32)
	n.conv("a", "x", 3, 32, 3, 1, 1)
	n.node("flat", "Flatten", []string{"a"})
	const rows, columns = 20000, 32 * 32 * 32
	entry := func(k, v string) *onnxpb.StringStringEntryProto {
		return &onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(v)}
	}
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("w"), Dims: []int64{rows, columns}, DataType: proto.Int32(1),
		DataLocation: onnxpb.TensorProto_EXTERNAL.Enum(), ExternalData: []*onnxpb.StringStringEntryProto{entry("location", "w.data")}})
	n.node("g", "Gemm", []string{"flat", "w"}, integer("transB", 1))
	n.out(n.gemm("head", "g", rows, 4))
	f, err := os.Create(filepath.Join(dir, "w.data"))
	if err != nil {
		t.Fatal(err)
	}
	// Every fourth row reads the first half of the channels.
	ones := bytes.Repeat([]byte{0, 0, 0, 0x3c}, columns/2)
	for r := int64(0); r < rows; r += 4 {
		if _, err := f.WriteAt(ones, r*columns*4); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(rows * columns * 4); err != nil {
		t.Fatal(err)
	}
	f.Close()
	path := filepath.Join(dir, "model.onnx")
	if err := os.WriteFile(path, n.bytes(t), 0o666); err != nil {
		t.Fatal(err)
	}
	m, err := inspect.Open(t.Context(), path, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := NewPlan(t.Context(), m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Apply(t.Context(), m, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.WriteFile(filepath.Join(dir, "out.onnx")); err != nil {
		t.Fatal(err)
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	t.Logf("before %+v, after %+v, %d MB from the system", p.Before, p.After, mem.Sys>>20)
	if mem.Sys > 800<<20 {
		t.Errorf("%d MB of memory for %d MB of weights", mem.Sys>>20, p.Before.Bytes>>20)
	}
	w, err := inspect.Open(t.Context(), filepath.Join(dir, "out.onnx"), inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if w.FileBytes != p.After.Bytes || w.Check() != nil || p.After.Bytes > p.Before.Bytes/7 {
		t.Errorf("%d bytes written", w.FileBytes)
	}
}

func benchmarkPlan(b *testing.B, apply bool) {
	if testing.Short() {
		b.Skip("it writes a file of 553 MB")
	}
	d, err := arch.VGG16(arch.Options{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	path := filepath.Join(dir, "vgg16.onnx")
	if err := arch.Write(path, d); err != nil {
		b.Fatal(err)
	}
	m, err := inspect.Open(b.Context(), path, inspect.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	opt := Options{Remove: half(b, m)}
	b.SetBytes(m.FileBytes)
	b.ReportAllocs()
	for b.Loop() {
		p, err := NewPlan(b.Context(), m, opt)
		if err != nil {
			b.Fatal(err)
		}
		if !apply {
			continue
		}
		d, err := Apply(b.Context(), m, p)
		if err != nil {
			b.Fatal(err)
		}
		if err := d.WriteFile(filepath.Join(dir, "out.onnx")); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPlan plans to remove half of the channels of a VGG-16 of 553 MB.
func BenchmarkPlan(b *testing.B) { benchmarkPlan(b, false) }

// BenchmarkPlanAndWrite writes it too.
func BenchmarkPlanAndWrite(b *testing.B) { benchmarkPlan(b, true) }
