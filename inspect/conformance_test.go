//go:build cgo

package inspect_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TestConformance holds every inferred dimension, element type and folded
// number against what ONNX Runtime makes of the models below the folder
// FILTERLENS_CORPUS, and against the expected outputs that lie beside them.
// What is unknown counts against the share that is printed; what is wrong is an
// error.
//
// The library runs in a second process, for some models make it abort.
func TestConformance(t *testing.T) {
	root := os.Getenv("FILTERLENS_CORPUS")
	if root == "" {
		t.Skip("FILTERLENS_CORPUS is not set")
	}
	library, err := ort.Locate(t.Context(), ort.Options{Offline: true})
	if err != nil {
		t.Skip(err)
	}
	w := &worker{library: library.Path}
	defer w.stop()
	run, runGiven, runOpen, stored, storedGiven := newTally(), newTally(), newTally(), newTally(), newTally()
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".onnx" {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := onnxfile.Open(path)
		if err != nil {
			run.skipped["no ONNX model"]++
			return nil
		}
		defer f.Close()
		m, err := inspect.New(t.Context(), f, inspect.Options{})
		if err != nil {
			run.skipped["refused by inspect"]++
			return nil
		}
		c := conformance{t: t, file: name, path: path, model: m}
		c.expected(stored, storedGiven)
		c.run(w, run, runGiven, runOpen)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("against the runs of ONNX Runtime\n%s", run)
	t.Logf("against the same runs, what is fed being stored in the model\n%s", runGiven)
	t.Logf("against the same runs, every dimension of the inputs being open\n%s", runOpen)
	t.Logf("against stored outputs\n%s", stored)
	t.Logf("against the same outputs, what is fed being stored in the model\n%s", storedGiven)
	if run.models == 0 && stored.models == 0 {
		t.Error("nothing was compared")
	}
}

// A tally counts what was compared.
type tally struct {
	models, tensors, ranks             int
	numbers, symbols, unbound, unknown int
	values, valuesUnknown              int
	types, typesUnknown                int
	wrong, wrongDeclared, declared     int
	skipped                            map[string]int
	leaves, roots                      map[string]int // dimensions left unknown, by operator
}

func newTally() *tally {
	return &tally{skipped: map[string]int{}, leaves: map[string]int{}, roots: map[string]int{}}
}

func (y *tally) String() string {
	dims := y.numbers + y.symbols + y.unbound + y.unknown
	share := func(n, of int) string { return fmt.Sprintf("%d (%.2f%%)", n, 100*float64(n)/float64(max(of, 1))) }
	not := 0
	for _, n := range y.skipped {
		not += n
	}
	return fmt.Sprintf(`  models compared %d, not compared %d%s
  tensors %d, number of dimensions known %s, element type known %s
  dimensions %d: known as numbers %s, as symbols %s, of no input %s, unknown %s
  of those known, %d stand in the file for operators without a rule
  folded numbers compared %d, unknown elements of folded tensors %d
  wrong %d, where the file's own declarations say so %d
  operators that leave dimensions unknown though they know their inputs:%s
  operators of all dimensions left unknown:%s`,
		y.models, not, ranking(y.skipped, 40), y.tensors, share(y.ranks, y.tensors), share(y.types, y.types+y.typesUnknown),
		dims, share(y.numbers, dims), share(y.symbols, dims), share(y.unbound, dims), share(y.unknown, dims),
		y.declared, y.values, y.valuesUnknown, y.wrong, y.wrongDeclared, ranking(y.roots, 40), ranking(y.leaves, 40))
}

func ranking(count map[string]int, most int) string {
	keys := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return strings.Compare(a, b)
	})
	var s strings.Builder
	for i, k := range keys {
		if i == most {
			s.WriteString(" ...")
			break
		}
		fmt.Fprintf(&s, " %s %d;", k, count[k])
	}
	return s.String()
}

type conformance struct {
	t     *testing.T
	file  string
	path  string
	model *inspect.Model
}

// A fact is what is known of a tensor for certain. numbers is nil when they
// were not fetched; NaN stands for one that cannot be compared.
type fact struct {
	dtype   onnxfile.DType
	dims    []int64
	ints    []int64
	numbers []float64
}

// hold compares one tensor.
func (c *conformance) hold(y *tally, n *inspect.Node, tensor string, is fact, sizes map[string]int64) {
	g := c.model.Graph
	op, label, ruled := "", "", true
	if n != nil {
		op, label, ruled = n.Op, n.Label(), g.Ruled(n)
		if !n.Standard() {
			op = n.Domain + "/" + op
		}
	}
	wrong := func(format string, a ...any) {
		if !ruled {
			y.wrongDeclared++
			c.t.Logf("%s: the file declares: node %q (%s): tensor %q: %s", c.file, label, op, tensor, fmt.Sprintf(format, a...))
			return
		}
		y.wrong++
		c.t.Errorf("%s: node %q (%s): tensor %q: %s", c.file, label, op, tensor, fmt.Sprintf(format, a...))
	}
	y.tensors++
	switch d := g.DType(tensor); {
	case d == 0:
		y.typesUnknown++
	case d != is.dtype && is.dtype != 0:
		wrong("has type %s, inferred %s", is.dtype, d)
	default:
		y.types++
	}
	dims, known := g.SettledShape(tensor, sizes)
	missing := 0
	if !known {
		missing = max(1, len(is.dims))
		y.unknown += len(is.dims)
	} else {
		y.ranks++
		if len(dims) != len(is.dims) {
			wrong("has shape %v, inferred %s", is.dims, g.Shape(tensor))
			return
		}
	}
	for i, d := range dims {
		switch d.Kind {
		case inspect.Number, inspect.Symbolic:
			if d.Int != is.dims[i] {
				wrong("has shape %v, inferred %s, where dimension %d is %d", is.dims, g.Shape(tensor), i, d.Int)
			}
			if !ruled {
				y.declared++
			}
			if d.Kind == inspect.Number {
				y.numbers++
			} else {
				y.symbols++
			}
		case inspect.Unbound:
			y.unbound++
		default:
			y.unknown++
			missing++
		}
	}
	if missing > 0 {
		y.leaves[op] += missing
		if n != nil && c.settledInputs(n) {
			y.roots[op] += missing
		}
	}
	if is.ints == nil && is.numbers == nil {
		return
	}
	v := g.SettledValue(tensor, sizes)
	if v == nil {
		return
	}
	if len(v) != max(len(is.ints), len(is.numbers)) {
		wrong("has %d elements, %d were folded", max(len(is.ints), len(is.numbers)), len(v))
		return
	}
	for i, x := range v {
		ok := true
		switch {
		case x.Kind == inspect.Unknown || x.Kind == inspect.Unbound:
			y.valuesUnknown++
			continue
		case is.ints != nil:
			ok = x.Kind != inspect.Real && x.Int == is.ints[i]
		case x.Kind == inspect.Real:
			ok = x.Float == is.numbers[i] || math.Abs(x.Float-is.numbers[i]) <= 1e-6*math.Abs(is.numbers[i]) || x.Float != x.Float && is.numbers[i] != is.numbers[i]
		default:
			ok = float64(x.Int) == is.numbers[i]
		}
		y.values++
		if !ok {
			wrong("element %d is %v, folded to %+v", i, is, x)
			return
		}
	}
}

// settledInputs tells whether the shapes of all that n reads are known.
func (c *conformance) settledInputs(n *inspect.Node) bool {
	for _, in := range n.Inputs {
		if in == "" {
			continue
		}
		dims, known := c.model.Graph.SettledShape(in, nil)
		if !known || slices.ContainsFunc(dims, func(d inspect.Settled) bool { return d.Kind == inspect.Unknown }) {
			return false
		}
	}
	return true
}

// expected compares the outputs that lie beside the model: with the model as it
// stands, and with one that has its inputs stored in it.
func (c *conformance) expected(y, given *tally) {
	sets, _ := filepath.Glob(filepath.Join(filepath.Dir(c.path), "test_data_set_*"))
	for i, set := range sets {
		sizes, ok := map[string]int64{}, true
		for i, in := range c.inputs() {
			p, err := readTensor(filepath.Join(set, fmt.Sprintf("input_%d.pb", i)))
			if err == nil && in.GetType().GetTensorType() != nil {
				ok = ok && c.model.Graph.BindSizes(in.GetName(), p.Dims, sizes)
			}
		}
		if !ok {
			y.skipped["inputs contradict the declaration"]++
			continue
		}
		outputs := c.model.Handle.Model.GetGraph().GetOutput()
		c.holdOutputs(y, set, outputs, sizes)
		if i > 0 {
			continue
		}
		if d, _ := c.feeds(0); d != nil && !d.made {
			if with := c.given(d); with != nil {
				with.holdOutputs(given, set, outputs, nil)
				with.model.Handle.Close()
			}
		}
	}
}

func (c *conformance) holdOutputs(y *tally, set string, outputs []*onnxpb.ValueInfoProto, sizes map[string]int64) {
	compared := false
	for i, out := range outputs {
		if out.GetType().GetTensorType() == nil {
			continue
		}
		p, err := readTensor(filepath.Join(set, fmt.Sprintf("output_%d.pb", i)))
		if err != nil {
			continue
		}
		compared = true
		is := fact{dtype: onnxfile.DType(p.GetDataType()), dims: p.Dims}
		if is.ints, err = tensorInts(p); err != nil {
			is.numbers, _ = tensorFloats(p)
		}
		c.hold(y, c.model.Graph.Producer(out.GetName()), out.GetName(), is, sizes)
	}
	if compared {
		y.models++
	}
}

// inputs returns what has to be fed, in the order of the test data.
func (c *conformance) inputs() []*onnxpb.ValueInfoProto {
	var in []*onnxpb.ValueInfoProto
	for _, v := range c.model.Handle.Model.GetGraph().GetInput() {
		if c.model.Graph.IsInput(v.GetName()) {
			in = append(in, v)
		}
	}
	return in
}

func readTensor(path string) (*onnxpb.TensorProto, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &onnxpb.TensorProto{}
	return p, proto.Unmarshal(b, p)
}

// asTensor reads p by way of a model that holds nothing else.
func asTensor(p *onnxpb.TensorProto, read func(onnxfile.Tensor) error) error {
	p = proto.Clone(p).(*onnxpb.TensorProto)
	p.Name = proto.String("t")
	b, err := onnxfile.NewDraft(&onnxpb.ModelProto{IrVersion: proto.Int64(8), Graph: &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{p}}}).Bytes()
	if err != nil {
		return err
	}
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "tensor")
	if err != nil {
		return err
	}
	defer f.Close()
	return read(f.Tensor(f.Model.GetGraph().GetInitializer()[0]))
}

func tensorInts(p *onnxpb.TensorProto) (v []int64, err error) {
	err = asTensor(p, func(t onnxfile.Tensor) (err error) {
		v, err = t.Int64s(1 << 20)
		return err
	})
	return v, err
}

func tensorFloats(p *onnxpb.TensorProto) (v []float64, err error) {
	err = asTensor(p, func(t onnxfile.Tensor) error {
		return t.Values(func(block []float64) error {
			v = append(v, block...)
			return nil
		})
	})
	return v, err
}

// feeds returns initializers that stand for the inputs, nodes that make
// sequences of them, and the sizes of the symbols; attempt counts the ways to
// make up what is not given.
type feeds struct {
	tensors []*onnxpb.TensorProto
	nodes   []*onnxpb.NodeProto
	sizes   map[string]int64
	made    bool
}

// madeSizes are distinct, so that no symbol passes for another, and large
// enough at first for windows to fit; the last ones fit together whatever they
// are called.
var madeSizes = [][]int64{{3, 32, 48, 40, 36, 28, 24, 20}, {2, 3, 5, 7, 11, 13, 4, 6}, {8, 8, 8, 8, 8, 8, 8, 8}}

func (c *conformance) feeds(attempt int) (*feeds, string) {
	d := &feeds{sizes: map[string]int64{}}
	g := c.model.Graph
	for i, in := range c.inputs() {
		name := in.GetName()
		path := filepath.Join(filepath.Dir(c.path), "test_data_set_0", fmt.Sprintf("input_%d.pb", i))
		switch v := in.GetType().GetValue().(type) {
		case *onnxpb.TypeProto_TensorType:
			p, err := readTensor(path)
			if err != nil {
				symbols, dims, ok := g.InputSymbols(name)
				if !ok {
					return nil, "not fed: an input without a declared shape"
				}
				for j, s := range symbols {
					if s == "" {
						continue
					}
					if d.sizes[s] == 0 {
						d.sizes[s] = madeSizes[attempt][len(d.sizes)%8]
					}
					dims[j] = d.sizes[s]
				}
				if p = makeTensor(onnxfile.DType(v.TensorType.GetElemType()), dims, attempt); p == nil {
					return nil, "not fed: too large or of a type that is not made up"
				}
				d.made = true
			}
			p.Name = proto.String(name)
			if !g.BindSizes(name, p.Dims, d.sizes) {
				return nil, "not fed: the inputs given contradict the declaration"
			}
			d.tensors = append(d.tensors, p)
		case *onnxpb.TypeProto_SequenceType:
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, "not fed: a sequence"
			}
			n := &onnxpb.NodeProto{OpType: proto.String("SequenceConstruct"), Output: []string{name}}
			err = sequenceTensors(b, func(p *onnxpb.TensorProto) {
				p.Name = proto.String(fmt.Sprintf("conformance/%s/%d", name, len(n.Input)))
				n.Input = append(n.Input, p.GetName())
				d.tensors = append(d.tensors, p)
			})
			if err != nil || len(n.Input) == 0 {
				return nil, "not fed: a sequence"
			}
			d.nodes = append(d.nodes, n)
		default:
			return nil, "not fed: an input that is no tensor"
		}
	}
	return d, ""
}

// sequenceTensors reads the tensors of a SequenceProto, field 3.
func sequenceTensors(b []byte, fn func(*onnxpb.TensorProto)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		size := protowire.ConsumeFieldValue(num, typ, b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		if num > 3 {
			return errors.New("no sequence of tensors")
		}
		if num == 3 && typ == protowire.BytesType {
			body, _ := protowire.ConsumeBytes(b)
			p := &onnxpb.TensorProto{}
			if err := proto.Unmarshal(body, p); err != nil {
				return err
			}
			fn(p)
		}
		b = b[size:]
	}
	return nil
}

func makeTensor(d onnxfile.DType, dims []int64, attempt int) *onnxpb.TensorProto {
	n := int64(1)
	for _, k := range dims {
		if k > 0 && n > (1<<24)/k {
			return nil
		}
		n *= k
	}
	p := &onnxpb.TensorProto{DataType: proto.Int32(int32(d)), Dims: dims}
	for i := range n {
		whole := (1 + int64(attempt)) % 2 // most integers are indices or sizes
		switch d {
		case onnxfile.Float:
			p.RawData = binary.LittleEndian.AppendUint32(p.RawData, math.Float32bits(float32(i%7)/4))
		case onnxfile.Double:
			p.RawData = binary.LittleEndian.AppendUint64(p.RawData, math.Float64bits(float64(i%7)/4))
		case onnxfile.Int64, onnxfile.DType(onnxpb.TensorProto_UINT64):
			p.RawData = binary.LittleEndian.AppendUint64(p.RawData, uint64(whole))
		case onnxfile.Int32, onnxfile.DType(onnxpb.TensorProto_UINT32):
			p.RawData = binary.LittleEndian.AppendUint32(p.RawData, uint32(whole))
		case onnxfile.Float16:
			p.RawData = binary.LittleEndian.AppendUint16(p.RawData, 0x3800) // 0.5
		case onnxfile.BFloat16:
			p.RawData = binary.LittleEndian.AppendUint16(p.RawData, 0x3f00) // 0.5
		case onnxfile.DType(onnxpb.TensorProto_INT16), onnxfile.DType(onnxpb.TensorProto_UINT16):
			p.RawData = binary.LittleEndian.AppendUint16(p.RawData, uint16(whole))
		case onnxfile.DType(onnxpb.TensorProto_INT8), onnxfile.DType(onnxpb.TensorProto_UINT8), onnxfile.DType(onnxpb.TensorProto_BOOL):
			p.RawData = append(p.RawData, byte(i%2))
		case onnxfile.DType(onnxpb.TensorProto_STRING):
			p.StringData = append(p.StringData, []byte("a1"))
		default:
			return nil
		}
	}
	if n == 0 {
		p.RawData = []byte{}
	}
	return p
}

// draft returns the model with its inputs filled in, and nothing that it puts
// out yet. One input that nothing reads is left, for the binding needs one.
func (c *conformance) draft(d *feeds) (*onnxfile.Draft, error) {
	draft := c.model.Handle.Draft()
	if err := draft.InlineExternal(); err != nil {
		return nil, err
	}
	m := draft.Model
	if len(m.OpsetImport) == 0 {
		m.OpsetImport = []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(1)}}
	}
	m.IrVersion = proto.Int64(max(4, m.GetIrVersion())) // initializers need not be inputs
	if !slices.ContainsFunc(m.OpsetImport, func(o *onnxpb.OperatorSetIdProto) bool { return o.GetDomain() == "" || o.GetDomain() == "ai.onnx" }) {
		m.OpsetImport = append(m.OpsetImport, &onnxpb.OperatorSetIdProto{Version: proto.Int64(13)})
	}
	g := m.GetGraph()
	g.Input = []*onnxpb.ValueInfoProto{{Name: proto.String(idle), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: &onnxpb.TypeProto_Tensor{
		ElemType: proto.Int32(int32(onnxfile.Float)),
		Shape:    &onnxpb.TensorShapeProto{Dim: []*onnxpb.TensorShapeProto_Dimension{{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: 1}}}},
	}}}}}
	g.Output = nil
	g.Initializer = append(g.Initializer, d.tensors...)
	g.Node = append(slices.Clone(d.nodes), g.Node...)
	return draft, nil
}

const idle = "conformance/idle"

// run compares the outputs of all nodes with what the library makes of them.
// y counts the model as it stands, given the model with all that is fed made
// part of it: then axes and sizes that test models take as inputs are known.
// open counts the model with every dimension of its inputs left open, which
// shape arithmetic with symbols has to get right.
func (c *conformance) run(w *worker, y, given, open *tally) {
	reason := ""
	for attempt := range madeSizes {
		d, why := c.feeds(attempt)
		if d == nil {
			reason = why
			break
		}
		facts, why := c.facts(w, d)
		if why == "" {
			c.holdAll(y, facts, d.sizes)
			if with := c.given(d); with != nil {
				with.holdAll(given, facts, nil)
				with.model.Handle.Close()
			}
			if with, sizes := c.opened(d); with != nil {
				with.holdAll(open, facts, sizes)
				with.model.Handle.Close()
			}
			return
		}
		if reason == "" {
			reason = why
		}
		if !d.made {
			break
		}
	}
	y.skipped[reason]++
	if testing.Verbose() && os.Getenv("FILTERLENS_CONFORMANCE_LOG") != "" {
		c.t.Logf("%s: %s", c.file, reason)
	}
}

func (c *conformance) holdAll(y *tally, facts map[string]fact, sizes map[string]int64) {
	y.models++
	for _, n := range c.model.Graph.Nodes {
		for _, out := range n.Outputs {
			if is, ok := facts[out]; ok && c.model.Graph.Producer(out) == n {
				c.hold(y, n, out, is, sizes)
			}
		}
	}
}

// given returns c with a model that has its inputs stored in it, nil when that
// cannot be had. The caller closes the model's file.
func (c *conformance) given(d *feeds) *conformance {
	draft, err := c.draft(d)
	if err != nil {
		return nil
	}
	return c.with(draft)
}

// opened returns c with a model whose inputs leave every dimension open, each
// with a symbol of its own, and the sizes that these have in d.
func (c *conformance) opened(d *feeds) (*conformance, map[string]int64) {
	draft := c.model.Handle.Draft()
	if err := draft.InlineExternal(); err != nil {
		return nil, nil
	}
	g, sizes := draft.Model.GetGraph(), map[string]int64{}
	g.ValueInfo = nil
	for _, out := range g.Output {
		out.Type = nil
	}
	for i, in := range g.Input {
		at := slices.IndexFunc(d.tensors, func(p *onnxpb.TensorProto) bool { return p.GetName() == in.GetName() })
		if at < 0 {
			continue
		}
		shape := &onnxpb.TensorShapeProto{}
		for j, n := range d.tensors[at].Dims {
			dim := &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: n}}
			if n > 0 { // a symbol stands for a positive number
				name := fmt.Sprintf("d%d_%d", i, j)
				sizes[name] = n
				dim.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: name}
			}
			shape.Dim = append(shape.Dim, dim)
		}
		in.Type = &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: &onnxpb.TypeProto_Tensor{
			ElemType: proto.Int32(d.tensors[at].GetDataType()), Shape: shape,
		}}}
	}
	return c.with(draft), sizes
}

func (c *conformance) with(draft *onnxfile.Draft) *conformance {
	b, err := draft.Bytes()
	if err != nil {
		c.t.Errorf("%s: %v", c.file, err)
		return nil
	}
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), c.path)
	if err != nil {
		c.t.Errorf("%s: %v", c.file, err)
		return nil
	}
	m, err := inspect.New(c.t.Context(), f, inspect.Options{})
	if err != nil {
		c.t.Errorf("%s: %v", c.file, err)
		f.Close()
		return nil
	}
	with := *c
	with.model = m
	return &with
}

// facts runs the model twice: for the types of all tensors, then for their
// shapes and for those numbers that were folded.
func (c *conformance) facts(w *worker, d *feeds) (map[string]fact, string) {
	draft, err := c.draft(d)
	if err != nil {
		return nil, "external data is missing"
	}
	g := draft.Model.GetGraph()
	var tensors []string
	for _, n := range c.model.Graph.Nodes {
		for _, out := range n.Outputs {
			if out != "" && c.model.Graph.Producer(out) == n {
				tensors = append(tensors, out)
				g.Output = append(g.Output, &onnxpb.ValueInfoProto{Name: proto.String(out)})
			}
		}
	}
	if len(tensors) == 0 {
		return nil, "no nodes"
	}
	types, why := w.ask(request{Kind: "types"}, draft)
	if why != "" {
		return nil, why
	}
	// A shape can be empty and a number without dimensions, both of which the
	// binding cannot fetch; behind one more element neither is.
	g.Output = nil
	g.Initializer = append(g.Initializer,
		&onnxpb.TensorProto{Name: proto.String("conformance/flat"), Dims: []int64{1}, DataType: proto.Int32(int32(onnxfile.Int64)), Int64Data: []int64{-1}},
		&onnxpb.TensorProto{Name: proto.String("conformance/real"), Dims: []int64{1}, DataType: proto.Int32(int32(onnxfile.Double)), DoubleData: []float64{-1}})
	facts := make(map[string]fact)
	node := func(op, in, out string, attrs ...*onnxpb.AttributeProto) {
		g.Node = append(g.Node, &onnxpb.NodeProto{OpType: proto.String(op), Input: strings.Split(in, "\n"), Output: []string{out}, Attribute: attrs})
	}
	put := func(front, tensor, out string) {
		node("Concat", front+"\n"+tensor, out, intAttr("axis", 0))
		g.Output = append(g.Output, &onnxpb.ValueInfoProto{Name: proto.String(out)})
	}
	var fetch []string
	for i, name := range tensors {
		dtype, isTensor := types.Types[name]
		if !isTensor {
			continue
		}
		facts[name] = fact{dtype: onnxfile.DType(dtype)}
		at := fmt.Sprintf("conformance/%d", i)
		node("Shape", name, at+"/shape")
		put("conformance/flat", at+"/shape", at+"/dims")
		fetch = append(fetch, at+"/dims")
		if foldable(c.model.Graph, onnxfile.DType(dtype), name) {
			to, front := onnxfile.Int64, "conformance/flat"
			if onnxfile.DType(dtype).IsFloat() {
				to, front = onnxfile.Double, "conformance/real"
			}
			node("Cast", name, at+"/cast", intAttr("to", int64(to)))
			node("Reshape", at+"/cast\nconformance/flat", at+"/line")
			put(front, at+"/line", at+"/numbers")
			fetch = append(fetch, at+"/numbers")
		}
	}
	if len(fetch) == 0 {
		return nil, "no tensors"
	}
	result, why := w.ask(request{Kind: "run", Outputs: fetch}, draft)
	if why != "" {
		return nil, why
	}
	for i, name := range tensors {
		is, ok := facts[name]
		if !ok {
			continue
		}
		at := fmt.Sprintf("conformance/%d", i)
		is.dims = result.Ints[at+"/dims"][1:]
		if v := result.Ints[at+"/numbers"]; v != nil {
			is.ints = v[1:]
		}
		if v := result.Floats[at+"/numbers"]; v != nil {
			is.numbers = make([]float64, len(v)-1)
			for j, bits := range v[1:] {
				is.numbers[j] = math.Float64frombits(bits)
			}
		}
		facts[name] = is
	}
	return facts, ""
}

// foldable tells whether the numbers of a tensor are worth fetching.
func foldable(g *inspect.Graph, d onnxfile.DType, name string) bool {
	if v := g.SettledValue(name, nil); v != nil {
		return true
	}
	if k, ok := g.Shape(name).Elements(); ok && k > 1024 {
		return false
	}
	switch d {
	case onnxfile.Float, onnxfile.Double, onnxfile.Int64, onnxfile.Int32, onnxfile.DType(onnxpb.TensorProto_BOOL):
		return true
	}
	return false
}

func intAttr(name string, v int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

// A request is a line to the second process, an answer the line that comes
// back.
type request struct {
	Kind    string // "types" or "run"
	Model   string
	Outputs []string
}

type answer struct {
	Err    string
	Types  map[string]int // of the outputs that are tensors
	Ints   map[string][]int64
	Floats map[string][]uint64 // as bits, for JSON has no NaN
}

// A worker is the process that ONNX Runtime is loaded in; it is started again
// after a crash.
type worker struct {
	library string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// ask sends a request about draft and waits for the answer; why says what went
// wrong, "" when nothing did.
func (w *worker) ask(r request, draft *onnxfile.Draft) (a answer, why string) {
	b, err := draft.Bytes()
	if err != nil {
		return a, "cannot be written again"
	}
	file, err := os.CreateTemp("", "conformance-*.onnx")
	if err != nil {
		return a, err.Error()
	}
	defer os.Remove(file.Name())
	_, err = file.Write(b)
	if err = errors.Join(err, file.Close()); err != nil {
		return a, err.Error()
	}
	r.Model = file.Name()
	if w.cmd == nil {
		if err := w.start(); err != nil {
			return a, err.Error()
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return a, err.Error()
	}
	timeout := time.AfterFunc(20*time.Second, func() { w.cmd.Process.Kill() })
	_, err = w.in.Write(append(line, '\n'))
	var reply []byte
	if err == nil {
		reply, err = w.out.ReadBytes('\n')
	}
	if !timeout.Stop() {
		w.stop()
		return a, "not run: took too long"
	}
	if err != nil {
		w.stop()
		return a, "not run: the library crashed"
	}
	if err := json.Unmarshal(reply, &a); err != nil {
		return a, err.Error()
	}
	return a, a.Err
}

func (w *worker) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "-test.run=^TestConformanceWorker$")
	cmd.Env = append(os.Environ(), "FILTERLENS_CONFORMANCE_WORKER="+w.library)
	if w.in, err = cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	w.out = bufio.NewReader(out)
	w.cmd = cmd
	return cmd.Start()
}

func (w *worker) stop() {
	if w.cmd == nil {
		return
	}
	w.in.Close()
	w.cmd.Wait()
	w.cmd = nil
}

// TestConformanceWorker is the second process of TestConformance and no test.
func TestConformanceWorker(t *testing.T) {
	library := os.Getenv("FILTERLENS_CONFORMANCE_WORKER")
	if library == "" {
		t.Skip("it is started by TestConformance")
	}
	onnxruntime_go.SetSharedLibraryPath(library)
	if err := onnxruntime_go.InitializeEnvironment(onnxruntime_go.WithLogLevelFatal()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			os.Exit(1)
		}
		a, err := answerTo(t.Context(), r)
		if err != nil {
			a.Err = class(err)
			if os.Getenv("FILTERLENS_CONFORMANCE_LOG") != "" {
				fmt.Fprintln(os.Stderr, strings.Join(strings.Fields(err.Error()), " "))
			}
		}
		out, err := json.Marshal(a)
		if err != nil {
			os.Exit(1)
		}
		fmt.Printf("%s\n", out)
	}
}

// class shortens a message of the library to what counts can be kept of.
func class(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	switch {
	case strings.Contains(s, "Could not find an implementation") || strings.Contains(s, "Failed to find kernel"):
		return "not run: no kernel"
	case strings.Contains(s, "is under development") || strings.Contains(s, "only *guarantees*") || strings.Contains(s, "opset"):
		return "not run: opset not supported"
	case strings.Contains(s, "is not a registered function/op"):
		return "not run: unknown operator"
	}
	for _, kind := range []string{"ShapeInferenceError", "TypeInferenceError", "Type Error", "This is an invalid model", "Exception during initialization"} {
		if strings.Contains(s, kind) {
			return "not run: " + strings.ToLower(kind)
		}
	}
	if m := regexp.MustCompile(`while running (\w+) node`).FindStringSubmatch(s); m != nil {
		return "not run: fails in " + m[1]
	}
	return "not run: " + s[:min(len(s), 80)]
}

func answerTo(ctx context.Context, r request) (a answer, err error) {
	o, err := onnxruntime_go.NewSessionOptions()
	if err != nil {
		return a, err
	}
	defer o.Destroy()
	if err := errors.Join(
		o.SetLogSeverityLevel(onnxruntime_go.LoggingLevelFatal),
		o.SetIntraOpNumThreads(1),
		o.SetGraphOptimizationLevel(onnxruntime_go.GraphOptimizationLevelDisableAll),
	); err != nil {
		return a, err
	}
	if r.Kind == "types" {
		_, infos, err := onnxruntime_go.GetInputOutputInfoWithOptions(r.Model, o)
		if err != nil {
			return a, err
		}
		a.Types = make(map[string]int)
		for _, info := range infos {
			if info.OrtValueType == onnxruntime_go.ONNXTypeTensor {
				a.Types[info.Name] = int(info.DataType)
			}
		}
		return a, nil
	}
	s, err := onnxruntime_go.NewDynamicAdvancedSession(r.Model, []string{idle}, r.Outputs, o)
	if err != nil {
		return a, err
	}
	defer s.Destroy()
	in, err := onnxruntime_go.NewTensor(onnxruntime_go.NewShape(1), []float32{0})
	if err != nil {
		return a, err
	}
	defer in.Destroy()
	out := make([]onnxruntime_go.Value, len(r.Outputs))
	if err := s.Run([]onnxruntime_go.Value{in}, out); err != nil {
		return a, err
	}
	a.Ints, a.Floats = make(map[string][]int64), make(map[string][]uint64)
	for i, v := range out {
		switch v := v.(type) {
		case *onnxruntime_go.Tensor[int64]:
			a.Ints[r.Outputs[i]] = slices.Clone(v.GetData())
		case *onnxruntime_go.Tensor[float64]:
			for _, f := range v.GetData() {
				a.Floats[r.Outputs[i]] = append(a.Floats[r.Outputs[i]], math.Float64bits(f))
			}
		default:
			return a, fmt.Errorf("output of kind %T", v)
		}
		v.Destroy()
	}
	return a, ctx.Err()
}
