package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// double adds numbers of double precision.
func (n *net) double(name string, dims ...int64) string {
	var b []byte
	for range elements(dims) {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(n.r.NormFloat64()))
	}
	return n.raw(name, onnxpb.TensorProto_DOUBLE, b, dims...)
}

func to(dtype onnxpb.TensorProto_DataType) *onnxpb.AttributeProto { return integer("to", int64(dtype)) }

// halved turns all floats of a net into float16, its input and its output too.
func (n *net) halved() {
	half := proto.Int32(int32(onnxpb.TensorProto_FLOAT16))
	n.g.Input[0].GetType().GetTensorType().ElemType = half
	for _, t := range n.g.Initializer {
		if t.GetDataType() != int32(onnxpb.TensorProto_FLOAT) {
			continue
		}
		v := make([]float32, len(t.RawData)/4)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.RawData[4*i:])) / 8
		}
		t.RawData, t.DataType = nil, half
		for _, x := range probe.NewTensor(v, true, int64(len(v))).Data.([]uint16) {
			t.RawData = binary.LittleEndian.AppendUint16(t.RawData, x)
		}
	}
}

// inConstants moves all initializers of a net into Constant nodes.
func (n *net) inConstants() {
	var nodes []*onnxpb.NodeProto
	for _, t := range n.g.Initializer {
		nodes = append(nodes, &onnxpb.NodeProto{OpType: proto.String("Constant"), Name: proto.String("const." + t.GetName()), Output: []string{t.GetName()},
			Attribute: []*onnxpb.AttributeProto{{Name: proto.String("value"), Type: onnxpb.AttributeProto_TENSOR.Enum(), T: t}}})
	}
	n.g.Initializer, n.g.Node = nil, append(nodes, n.g.Node...)
}

// TestOddFiles prunes, recovers and compacts models that are stored in unusual ways,
// by connections and by filters.
func TestOddFiles(t *testing.T) {
	eng, set := runtime(t), patches(t, 12, 8)
	plain := func(n *net) { n.conv("a", 3, 6).conv("b", 6, 8).conv("c", 8, 8).head(8) }
	for _, c := range []struct {
		name string
		draw func(n *net)
		// finish changes the model that is written.
		finish func(d *onnxfile.Draft)
		beside bool
		check  func(t *testing.T, m, written *inspect.Model, r *Report)
	}{
		{name: "weights that two layers share", draw: func(n *net) {
			n.conv("a", 3, 6).conv("b", 6, 6)
			n.node("b2", "Conv", []string{n.t, "w.b"}, ints("pads", 1, 1, 1, 1))
			n.node("b2.relu", "Relu", []string{n.t})
			n.conv("c", 6, 8).head(8)
		}, check: func(t *testing.T, m, written *inspect.Model, r *Report) {
			if _, ok := written.Graph.Initializer("w.b"); !ok {
				t.Error("the shared weights are gone")
			}
			if r.Plan.FiltersKeep == nil && !slices.ContainsFunc(r.Plan.Blocked, func(b Blocked) bool { return strings.Contains(b.Reason, "shared with") }) {
				t.Errorf("blocked %+v", r.Plan.Blocked)
			}
		}},
		{name: "IR version 3", draw: plain, finish: func(d *onnxfile.Draft) {
			d.Model.IrVersion, d.Model.OpsetImport[0].Version = proto.Int64(3), proto.Int64(8)
			for _, p := range d.Model.Graph.Initializer {
				d.Model.Graph.Input = append(d.Model.Graph.Input, value(p.GetName(), p.Dims...))
			}
		}, check: func(t *testing.T, m, written *inspect.Model, r *Report) {
			g := written.Handle.Model.Graph
			if written.Handle.Model.GetIrVersion() != 3 || len(g.Input) != 1+len(g.Initializer) {
				t.Errorf("IR version %d, %d inputs, %d initializers", written.Handle.Model.GetIrVersion(), len(g.Input), len(g.Initializer))
			}
			for _, v := range g.Input[1:] {
				st, ok := written.Graph.Initializer(v.GetName())
				if !ok {
					t.Fatalf("input %s has no initializer", v.GetName())
				}
				for i, d := range v.GetType().GetTensorType().Shape.Dim {
					if d.GetDimValue() != st.Dims()[i] {
						t.Errorf("input %s: %v, its initializer has %v", v.GetName(), v.GetType(), st.Dims())
					}
				}
			}
		}},
		{name: "external data", draw: plain, beside: true, check: func(t *testing.T, m, written *inspect.Model, r *Report) {
			if written.Handle.External() {
				t.Error("a small model is not in one file")
			}
		}},
		{name: "unused initializers and stale shapes", draw: func(n *net) {
			plain(n)
			n.weights("unused", 5, 5)
			n.node("nowhere", "Relu", []string{"a"})
			n.t = "classifier"
			n.g.ValueInfo = append(n.g.ValueInfo, value("a", -1, 6, 8, 8), value("c.relu", -1, 8, 8, 8), value("gone", 3, 4))
		}, check: func(t *testing.T, m, written *inspect.Model, r *Report) {
			g := written.Handle.Model.Graph
			for _, p := range g.Initializer {
				if p.GetName() == "unused" {
					t.Error("an unused initializer is kept")
				}
			}
			for _, n := range g.Node {
				if n.GetName() == "nowhere" {
					t.Error("a node whose output nothing reads is kept")
				}
			}
			for _, v := range g.ValueInfo {
				dims := v.GetType().GetTensorType().GetShape().GetDim()
				if got := written.Graph.Shape(v.GetName()); v.GetName() == "gone" || dims[1].GetDimValue() != got.Dims[1].Value {
					t.Errorf("%s is told to be %v, it is %v", v.GetName(), dims, got)
				}
			}
		}},
		{name: "float16", draw: func(n *net) { plain(n); n.halved() }, finish: func(d *onnxfile.Draft) {
			d.Model.Graph.Output[0].GetType().GetTensorType().ElemType = proto.Int32(int32(onnxpb.TensorProto_FLOAT16))
		}, check: func(t *testing.T, m, written *inspect.Model, r *Report) {
			if st, ok := written.Graph.Initializer("w.b"); !ok || st.DType() != onnxfile.Float16 {
				t.Error("w.b is no longer float16")
			}
		}},
		{name: "double", draw: func(n *net) {
			n.conv("a", 3, 6).conv("b", 6, 8)
			n.node("pool", "GlobalAveragePool", []string{n.t})
			n.node("flat", "Flatten", []string{n.t})
			n.node("wide", "Cast", []string{n.t}, to(onnxpb.TensorProto_DOUBLE))
			n.node("hidden", "Gemm", []string{n.t, n.double("w.hidden", 10, 8), n.double("b.hidden", 10)}, integer("transB", 1))
			n.node("hidden.relu", "Relu", []string{n.t})
			n.node("last", "Gemm", []string{n.t, n.double("w.last", classes, 10), n.double("b.last", classes)}, integer("transB", 1))
			n.node("narrow", "Cast", []string{n.t}, to(onnxpb.TensorProto_FLOAT))
		}, check: func(t *testing.T, m, written *inspect.Model, r *Report) {
			if st, ok := written.Graph.Initializer("w.hidden"); !ok || st.DType() != onnxfile.Double {
				t.Error("w.hidden is no longer double")
			}
		}},
		{name: "weights in Constant nodes", draw: func(n *net) { plain(n); n.inConstants() }, check: func(t *testing.T, m, written *inspect.Model, r *Report) {
			if len(written.Handle.Model.Graph.Initializer) > 0 && r.Plan.FiltersKeep == nil {
				t.Errorf("%d initializers were made", len(written.Handle.Model.Graph.Initializer))
			}
		}},
		{name: "a batch of 1", draw: func(n *net) {
			plain(n)
			n.g.Input[0] = value("image", 1, 3, 8, 8)
		}, finish: func(d *onnxfile.Draft) { d.Model.Graph.Output[0] = value("classifier", 1, classes) },
			check: func(t *testing.T, m, written *inspect.Model, r *Report) {
				if got := written.Inputs[0].Shape.String(); got != "1 x 3 x 8 x 8" {
					t.Errorf("input %s", got)
				}
			}},
		{name: "a classifier of MatMul and Add", draw: func(n *net) {
			n.conv("a", 3, 6).conv("b", 6, 8)
			n.node("pool", "GlobalAveragePool", []string{n.t})
			n.node("flat", "Flatten", []string{n.t})
			n.node("classifier", "MatMul", []string{n.t, n.weights("w.classifier", 8, classes)})
			n.node("sum", "Add", []string{n.t, n.weights("b.classifier", classes)})
		}},
	} {
		for _, how := range []string{"connections", "filters"} {
			t.Run(c.name+", "+how, func(t *testing.T) {
				n := newNet()
				c.draw(n)
				path := n.save(t, c.beside)
				if c.finish != nil {
					source := open(t, path)
					d := source.Handle.Draft()
					c.finish(d)
					path = filepath.Join(t.TempDir(), "model.onnx")
					if err := arch.Write(path, d); err != nil {
						t.Fatal(err)
					}
				}
				m := open(t, path)
				opt := Options{Set: set, Probe: probe.Options{Split: dataset.SplitOptions{Seed: 1}}}
				var res *probe.Result
				if how == "filters" {
					opt.PlanOptions = PlanOptions{Target: Conv, Criterion: Magnitude, FiltersKeep: 0.5, RoundTo: 1}
				} else {
					opt.PlanOptions = PlanOptions{Target: Both, Criterion: Magnitude, Dilution: 0.5}
					res = statistics(t, m)
				}
				opt.Head.Iterations = 5
				before := hashes(t, filepath.Dir(path))
				out := filepath.Join(t.TempDir(), "out.onnx")
				r, err := Prune(t.Context(), eng, m, res, out, nil, opt)
				if err != nil {
					t.Fatal(err)
				}
				for _, check := range r.Checks {
					if !check.OK {
						t.Errorf("%+v", check)
					}
				}
				for _, s := range r.Steps {
					if s.Skipped != "" {
						t.Errorf("%s was left out: %s", s.Name, s.Skipped)
					}
				}
				if after := hashes(t, filepath.Dir(path)); after != before {
					t.Error("files of the input have changed")
				}
				if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 1 {
					t.Errorf("%v is there, %v", left, err)
				}
				written := open(t, out)
				if how == "filters" && (r.Compaction.Removed == 0 || written.Totals.Parameters >= m.Totals.Parameters) {
					t.Errorf("%d of %d channels went, %d of %d parameters are left", r.Compaction.Removed, r.Compaction.Channels, written.Totals.Parameters, m.Totals.Parameters)
				}
				if c.check != nil {
					c.check(t, m, written, r)
				}
			})
		}
	}
}

// hashes describes the files of a folder.
func hashes(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := ""
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		s += e.Name() + string(sum[:])
	}
	return s
}

// TestOutputIsData: neither the output nor what might lie beside it may be a file that
// the model is read from.
func TestOutputIsData(t *testing.T) {
	path := newNet().conv("a", 3, 4).conv("b", 4, 4).head(4).save(t, true)
	m := open(t, path)
	dir := filepath.Dir(path)
	var same *SameFileError
	for _, name := range []string{"model.onnx", "w.data", "w"} {
		_, err := Prune(t.Context(), runtime(t), m, nil, filepath.Join(dir, name), nil, Options{PlanOptions: halfOfFilters()})
		if !errors.As(err, &same) {
			t.Errorf("-o %s: %v", name, err)
		}
	}
	if _, err := Prune(t.Context(), runtime(t), m, nil, filepath.Join(dir, "v"), nil, Options{PlanOptions: halfOfFilters()}); err != nil {
		t.Error(err)
	}
}

// TestFromReader: a model that was read from standard input has no path.
func TestFromReader(t *testing.T) {
	b, err := os.ReadFile(newNet().conv("a", 3, 6).conv("b", 6, 8).head(8).save(t, false))
	if err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "standard input")
	if err != nil {
		t.Fatal(err)
	}
	m, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set := patches(t, 12, 8)
	eng := runtime(t)
	if m.Handle.DataDir() != "" {
		t.Fatal("the model has a folder")
	}
	for _, opt := range []Options{{PlanOptions: halfOfFilters()},
		{PlanOptions: PlanOptions{Target: Conv, Criterion: Magnitude, FiltersKeep: 0.5, RoundTo: 2}, Set: set, Probe: probe.Options{Split: dataset.SplitOptions{Seed: 1}}}} {
		var out bytes.Buffer
		r, err := Prune(t.Context(), eng, m, nil, "", &out, opt)
		if err != nil {
			t.Fatal(err)
		}
		if r.Plan.Model != "standard input" || !r.Verified || int64(out.Len()) != r.After.Bytes || r.After.Latency == nil || r.Before.Latency == nil {
			t.Errorf("%d bytes, %+v", out.Len(), r.After)
		}
	}
}

// TestQuantizedKinds: models quantized in either way are refused, with what to do.
func TestQuantizedKinds(t *testing.T) {
	q := func(n *net, name string, dims ...int64) string {
		return n.raw(name, onnxpb.TensorProto_INT8, make([]byte, elements(dims)), dims...)
	}
	for op, draw := range map[string]func(n *net){
		"QuantizeLinear": func(n *net) {
			n.conv("a", 3, 4)
			n.node("q", "QuantizeLinear", []string{n.t, n.floats("s", []float32{0.1}), q(n, "z")})
			n.node("dq", "DequantizeLinear", []string{"q", "s", "z"})
			n.conv("b", 4, 4).head(4)
		},
		"QLinearConv": func(n *net) {
			n.floats("s", []float32{0.1})
			q(n, "z")
			n.conv("a", 3, 4)
			n.node("c", "QLinearConv", []string{n.t, "s", "z", q(n, "w", 4, 4, 1, 1), "s", "z", "s", "z"})
			n.head(4)
		},
	} {
		n := newNet()
		draw(n)
		m := n.model(t)
		dir := t.TempDir()
		_, err := Prune(t.Context(), runtime(t), m, nil, filepath.Join(dir, "out.onnx"), nil, Options{PlanOptions: halfOfFilters()})
		var quantized *QuantizedError
		if !errors.As(err, &quantized) || quantized.Op != op || !strings.Contains(err.Error(), "then quantize again") {
			t.Errorf("%s: %v", op, err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: left %v", op, left)
		}
	}
}
