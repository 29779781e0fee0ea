package gorgonia_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// logitTolerance bounds the difference of two engines' logits, by the largest
// of them.
const logitTolerance = 1e-4

// openORT returns the reference; the test is left out where it is not there.
func openORT(t testing.TB, threads int) engine.Engine {
	t.Helper()
	e, err := ort.Open(t.Context(), ort.Options{Offline: true, Threads: threads})
	if err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func load(t testing.TB, e engine.Engine, m engine.Model) engine.Session {
	t.Helper()
	s, err := e.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A classifier is a model and what it is shown.
type classifier struct {
	name  string
	path  string
	bytes []byte
	// batches are the sizes that it is run at, one after the other.
	batches []int64
	// images are real ones in the model's own normalisation, drawn when nil.
	images func(t *testing.T, n int64, shape []int64) []float32
}

func (c classifier) model() engine.Model {
	return engine.Model{Name: c.name, Path: c.path, Bytes: c.bytes}
}

// against runs a model on both engines, batch after batch in one session each,
// and returns the largest difference by the largest logit.
func against(t *testing.T, reference engine.Engine, c classifier) (worst float64) {
	t.Helper()
	theirs := load(t, reference, c.model())
	ours := load(t, gorgonia.Open(gorgonia.Options{}), c.model())
	for i, n := range c.batches {
		in := make(map[string]*engine.Tensor)
		for _, v := range ours.Inputs() {
			shape := slices.Clone(v.Shape)
			if shape[0] < 0 {
				shape[0] = n
			} else if shape[0] != n {
				t.Fatalf("the batch is fixed to %d", shape[0])
			}
			x := drawn(engine.Elements(shape), uint64(i))
			if c.images != nil {
				x = c.images(t, n, shape)
			}
			in[v.Name] = engine.NewFloat32(x, shape...)
		}
		outputs := func(s engine.Session) map[string]*engine.Tensor {
			out := make(map[string]*engine.Tensor)
			for _, v := range s.Outputs() {
				out[v.Name] = nil
			}
			if err := s.Run(t.Context(), in, out); err != nil {
				t.Fatal(err)
			}
			return out
		}
		got, want := outputs(ours), outputs(theirs)
		if len(got) != len(want) {
			t.Fatalf("%d outputs, the reference has %d", len(got), len(want))
		}
		for name, y := range want {
			d := distance(got[name], y)
			worst = max(worst, d)
			if !(d <= logitTolerance) {
				t.Errorf("batch %d: %q differs by %.3g of the largest number: %s, the reference %s", n, name, d, brief(got[name].Data), brief(y.Data))
			}
		}
	}
	return worst
}

// distance is the largest difference by the largest magnitude in want; infinite
// where shapes differ or numbers are not finite in one only.
func distance(got, want *engine.Tensor) float64 {
	a, b := got.Float32(), want.Float32()
	if !slices.Equal(got.Shape, want.Shape) || len(a) != len(b) || len(b) == 0 {
		return math.Inf(1)
	}
	var worst, largest float64
	for i := range b {
		x, y := float64(a[i]), float64(b[i])
		if x == y || x != x && y != y {
			continue
		}
		if d := math.Abs(x - y); d <= math.MaxFloat64 {
			worst = max(worst, d)
		} else {
			return math.Inf(1)
		}
	}
	for _, y := range b {
		if y := math.Abs(float64(y)); y <= math.MaxFloat64 {
			largest = max(largest, y)
		}
	}
	if worst == 0 {
		return 0
	}
	return worst / largest
}

// drawn returns n numbers of a normal distribution.
func drawn(n int64, seed uint64) []float32 {
	x := make([]float32, n)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// imagesOf returns the first images of a data set in "signed" normalisation,
// x/127.5 - 1, or with a mean and deviation for each channel.
func imagesOf(path string, mean, std []float32) func(*testing.T, int64, []int64) []float32 {
	return func(t *testing.T, n int64, shape []int64) []float32 {
		t.Helper()
		set, err := dataset.Open(path, dataset.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		tr := &dataset.Transform{Mean: mean, Std: std, Channels: int(shape[1]), Height: int(shape[2]), Width: int(shape[3])}
		index := make([]int, n)
		for i := range index {
			index[i] = i * (set.Len() / int(n))
		}
		for b, err := range set.Batches(context.Background(), [][]int{index}, tr, 1) {
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Index) == int(n) {
				return b.X
			}
		}
		t.Fatalf("%s: %d images could not be read", path, n)
		return nil
	}
}

var (
	signed      = []float32{0.5}
	imagenet    = []float32{0.485, 0.456, 0.406}
	imagenetStd = []float32{0.229, 0.224, 0.225}
)

const fixtures = "../../../fixtures/"

// written writes a draft to a file of the test.
func written(t testing.TB, d *onnxfile.Draft, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := arch.Write(path, d); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestClassifiers holds logits against ONNX Runtime: the trained fixtures on
// their own images, and published architectures with a fraction of their filters
// and drawn weights.
func TestClassifiers(t *testing.T) {
	reference := openORT(t, 1)
	batches := []int64{1, 3, 32, 1}
	var list []classifier
	for _, name := range []string{"vgg16-glyphs20", "efficientnet-b0-glyphs20", "efficientnet-b0-bn-glyphs20"} {
		list = append(list,
			classifier{name: name, path: fixtures + name + ".onnx", batches: batches, images: imagesOf(fixtures+"glyphs20", signed, signed)},
			classifier{name: name + " on noise", path: fixtures + name + ".onnx", batches: batches})
	}
	small := arch.Options{Width: 1. / 8, Size: 64, Classes: 100, Seed: 3}
	folded := small
	folded.Fold = true
	vgg, err := arch.VGG16(arch.Options{Width: 1. / 16, Classes: 100, Seed: 3})
	list = append(list, classifier{name: "VGG-16, narrow", path: written(t, vgg, err), batches: []int64{1, 3}})
	eff, err := arch.EfficientNetB0(small)
	list = append(list, classifier{name: "EfficientNet-B0, narrow", path: written(t, eff, err), batches: []int64{1, 3}})
	eff, err = arch.EfficientNetB0(folded)
	list = append(list, classifier{name: "EfficientNet-B0, narrow, folded", path: written(t, eff, err), batches: []int64{1, 3}})
	for _, opset := range []int64{7, 9, 10, 11, 13, 18, 21} {
		list = append(list, classifier{name: fmt.Sprintf("forms of opset %d", opset), bytes: mobile(t, opset), batches: batches})
	}
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			t.Logf("logits differ by %.2g of the largest", against(t, reference, c))
		})
	}
}

// TestClassifiersCorpus does the same with the checkpoints beside the corpus
// (its sibling "models"), on images of the data they were trained on, and with
// the published networks that ONNX ships without weights, whose weights are
// drawn.
func TestClassifiersCorpus(t *testing.T) {
	root := corpusRoot(t)
	reference := openORT(t, 2)
	cifar := filepath.Join(root, "..", "data")
	for _, c := range []classifier{
		{name: "vgg16-cifar100", images: imagesOf(filepath.Join(cifar, "cifar100"), signed, signed)},
		{name: "resnet20-cifar10", images: imagesOf(filepath.Join(cifar, "cifar10"), imagenet, imagenetStd)},
		{name: "resnet20-cifar10-bn", images: imagesOf(filepath.Join(cifar, "cifar10"), imagenet, imagenetStd)},
	} {
		c.path, c.batches = filepath.Join(root, "..", "models", c.name+".onnx"), []int64{1, 3, 32, 1}
		t.Run(c.name, func(t *testing.T) {
			if _, err := os.Stat(c.path); err != nil {
				t.Skipf("LEFT OUT: %v", err)
			}
			t.Logf("logits on images differ by %.2g of the largest", against(t, reference, c))
			c.images, c.batches = nil, []int64{1, 3}
			t.Logf("logits on noise differ by %.2g of the largest", against(t, reference, c))
		})
	}
	networks, err := filepath.Glob(filepath.Join(root, "onnx/onnx/backend/test/data/light/*.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range networks {
		c := classifier{name: strings.TrimSuffix(filepath.Base(path), ".onnx"), batches: []int64{1}}
		t.Run(c.name, func(t *testing.T) {
			if info, err := os.Stat(path); testing.Short() || err != nil || strings.HasSuffix(c.name, "vgg19") && os.Getenv("FILTERLENS_SLOW") == "" {
				t.Skipf("LEFT OUT: %v is large", info.Name())
			}
			c.bytes = withWeights(t, path)
			t.Logf("logits differ by %.2g of the largest", against(t, reference, c))
		})
	}
}

// withWeights replaces the weights that ConstantOfShape nodes make by drawn
// ones, and puts out what the last Softmax reads, too.
func withWeights(t *testing.T, path string) []byte {
	t.Helper()
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := f.Draft()
	g := d.Model.Graph
	shapes := make(map[string][]int64)
	for _, p := range g.Initializer {
		if p.GetDataType() == int32(onnxfile.Int64) {
			if shapes[p.GetName()], err = f.Tensor(p).Int64s(8); err != nil && !strings.Contains(err.Error(), "at most") {
				t.Fatal(err)
			}
		}
	}
	// What a tensor is for decides how it is drawn, so that numbers neither vanish
	// nor grow.
	type use struct {
		op    string
		input int
	}
	uses := make(map[string]use)
	for _, n := range g.Node {
		for i, in := range n.Input {
			u := use{n.GetOpType(), i}
			if op := n.GetOpType(); op == "Unsqueeze" {
				u = use{"scale", 0}
			}
			uses[in] = u
		}
	}
	r := rand.New(rand.NewPCG(5, 11))
	var nodes []*onnxpb.NodeProto
	for _, n := range g.Node {
		dims, ok := shapes[append(n.Input, "")[0]]
		if n.GetOpType() != "ConstantOfShape" || !ok {
			nodes = append(nodes, n)
			continue
		}
		x := make([]float32, engine.Elements(dims))
		mean, deviation, u := 0., 0.1, uses[n.Output[0]]
		switch {
		case len(dims) > 1:
			fan := float64(engine.Elements(dims[1:]))
			deviation = math.Sqrt(2 / fan)
		case u.op == "BatchNormalization" && (u.input == 1 || u.input == 4) || u.op == "scale":
			mean = 1
		}
		for i := range x {
			x[i] = float32(mean + deviation*r.NormFloat64())
			if u.op == "BatchNormalization" && u.input == 4 {
				x[i] = max(x[i], 0.5)
			}
		}
		p := &onnxpb.TensorProto{Name: proto.String(n.Output[0])}
		d.SetFloat32(p, x, dims...)
		g.Initializer = append(g.Initializer, p)
	}
	if last := nodes[len(nodes)-1]; last.GetOpType() == "Softmax" {
		g.Output = append(g.Output, &onnxpb.ValueInfoProto{Name: proto.String(last.Input[0]), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
			TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxfile.Float))},
		}}})
	}
	g.Node = nodes
	d.Model.IrVersion = proto.Int64(max(4, d.Model.GetIrVersion()))
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A builder makes a graph node by node; names count up.
type builder struct {
	t     testing.TB
	opset int64
	draft *onnxfile.Draft
	graph *onnxpb.GraphProto
	r     *rand.Rand
	count int
}

// node adds an operator and returns the name of its output. attrs are pairs of a
// name and an int, []int64, float32, []float32 or string.
func (b *builder) node(op string, in []string, attrs ...any) string {
	n := &onnxpb.NodeProto{OpType: proto.String(op), Input: in}
	for i := 0; i < len(attrs); i += 2 {
		a := &onnxpb.AttributeProto{Name: proto.String(attrs[i].(string))}
		switch v := attrs[i+1].(type) {
		case int:
			a.Type, a.I = onnxpb.AttributeProto_INT.Enum(), proto.Int64(int64(v))
		case []int64:
			a.Type, a.Ints = onnxpb.AttributeProto_INTS.Enum(), v
		case float32:
			a.Type, a.F = onnxpb.AttributeProto_FLOAT.Enum(), proto.Float32(v)
		case []float32:
			a.Type, a.Floats = onnxpb.AttributeProto_FLOATS.Enum(), v
		case string:
			a.Type, a.S = onnxpb.AttributeProto_STRING.Enum(), []byte(v)
		default:
			b.t.Fatalf("attribute %s of type %T", attrs[i], v)
		}
		n.Attribute = append(n.Attribute, a)
	}
	b.count++
	n.Name = proto.String(fmt.Sprintf("%s_%d", op, b.count))
	out := n.GetName() + "_out"
	n.Output = []string{out}
	b.graph.Node = append(b.graph.Node, n)
	return out
}

func (b *builder) initializer(set func(p *onnxpb.TensorProto)) string {
	b.count++
	p := &onnxpb.TensorProto{Name: proto.String(fmt.Sprintf("w%d", b.count))}
	set(p)
	b.graph.Initializer = append(b.graph.Initializer, p)
	return p.GetName()
}

func (b *builder) weights(deviation, mean float64, dims ...int64) string {
	x := make([]float32, engine.Elements(dims))
	for i := range x {
		x[i] = float32(mean + deviation*b.r.NormFloat64())
	}
	return b.initializer(func(p *onnxpb.TensorProto) { b.draft.SetFloat32(p, x, dims...) })
}

func (b *builder) number(v float32) string {
	return b.initializer(func(p *onnxpb.TensorProto) { b.draft.SetFloat32(p, []float32{v}) })
}

func (b *builder) ints(v ...int64) string {
	return b.initializer(func(p *onnxpb.TensorProto) { b.draft.SetInt64(p, v, int64(len(v))) })
}

func (b *builder) conv(x string, in, out, kernel int64, stride int64, groups int) string {
	fan := float64(in / int64(groups) * kernel * kernel)
	pad := kernel / 2
	w := b.weights(math.Sqrt(2/fan), 0, out, in/int64(groups), kernel, kernel)
	return b.node("Conv", []string{x, w, b.weights(0.1, 0, out)}, "group", groups, "kernel_shape", []int64{kernel, kernel},
		"pads", []int64{pad, pad, pad, pad}, "strides", []int64{stride, stride}, "dilations", []int64{1, 1})
}

// clip is ReLU6, whose bounds moved from attributes to inputs in opset 11.
func (b *builder) clip(x string) string {
	if b.opset < 11 {
		return b.node("Clip", []string{x}, "min", float32(0), "max", float32(6))
	}
	return b.node("Clip", []string{x, b.number(0), b.number(6)})
}

// hardSwish as exporters wrote it before opset 14 had the operator.
func (b *builder) hardSwish(x string) string {
	if b.opset >= 14 {
		return b.node("HardSwish", []string{x})
	}
	y := b.node("Add", []string{x, b.number(3)})
	return b.node("Div", []string{b.node("Mul", []string{x, b.clip(y)}), b.number(6)})
}

// pooled is the mean over height and width, in the forms of adaptive pooling.
func (b *builder) pooled(x string) string {
	switch {
	case b.opset < 11:
		return b.node("GlobalAveragePool", []string{x})
	case b.opset < 18:
		return b.node("ReduceMean", []string{x}, "axes", []int64{-1, -2}, "keepdims", 1)
	}
	return b.node("ReduceMean", []string{x, b.ints(2, 3)}, "keepdims", 1)
}

// flat turns [N C 1 1] into [N C] by arithmetic on the shape, as exporters of
// x.view(x.size(0), -1) write it.
func (b *builder) flat(x string) string {
	n := b.node("Gather", []string{b.node("Shape", []string{x}), b.initializer(func(p *onnxpb.TensorProto) {
		p.DataType, p.Int64Data = proto.Int32(int32(onnxfile.Int64)), []int64{0}
	})}, "axis", 0)
	if b.opset < 13 {
		n = b.node("Unsqueeze", []string{n}, "axes", []int64{0})
	} else {
		n = b.node("Unsqueeze", []string{n, b.ints(0)})
	}
	return b.node("Reshape", []string{x, b.node("Concat", []string{n, b.ints(-1)}, "axis", 0)})
}

// upsampled doubles height and width, nearest neighbour, in the forms that the
// operators had.
func (b *builder) upsampled(x string) string {
	scales := func() string {
		return b.initializer(func(p *onnxpb.TensorProto) { b.draft.SetFloat32(p, []float32{1, 1, 2, 2}, 4) })
	}
	switch {
	case b.opset < 9:
		return b.node("Upsample", []string{x}, "mode", "nearest", "scales", []float32{1, 1, 2, 2})
	case b.opset < 10:
		return b.node("Upsample", []string{x, scales()}, "mode", "nearest")
	case b.opset < 11:
		return b.node("Resize", []string{x, scales()}, "mode", "nearest")
	}
	roi := ""
	if b.opset < 13 {
		roi = b.initializer(func(p *onnxpb.TensorProto) { b.draft.SetFloat32(p, nil, 0) })
	}
	return b.node("Resize", []string{x, roi, scales()}, "mode", "nearest", "coordinate_transformation_mode", "asymmetric", "nearest_mode", "floor")
}

// mobile is a network of 16 x 16 images with what the published ones for mobile
// devices and residual ones are made of, in the forms that exporters write for an
// operator set: inverted residuals with ReLU6, hard swish, squeeze and
// excitation, shuffled channels, a projected shortcut, growing by Concat, padding
// by Pad, pooling with and without padding, all four of pooling's roundings,
// BatchNorm, upsampling, dropout, flattening by shape arithmetic.
func mobile(t testing.TB, opset int64) []byte {
	t.Helper()
	dims := func(d ...any) *onnxpb.TypeProto {
		s := new(onnxpb.TensorShapeProto)
		for _, d := range d {
			dim := new(onnxpb.TensorShapeProto_Dimension)
			switch d := d.(type) {
			case int:
				dim.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}
			case string:
				dim.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: d}
			}
			s.Dim = append(s.Dim, dim)
		}
		return &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxfile.Float)), Shape: s}}}
	}
	g := &onnxpb.GraphProto{Name: proto.String("mobile"), Input: []*onnxpb.ValueInfoProto{{Name: proto.String("input"), Type: dims("N", 3, 16, 16)}}}
	b := &builder{t: t, opset: opset, graph: g, r: rand.New(rand.NewPCG(uint64(opset), 1)), draft: onnxfile.NewDraft(&onnxpb.ModelProto{
		IrVersion: proto.Int64(8), Graph: g, OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(opset)}},
	})}
	norm := func(x string, c int64) string {
		return b.node("BatchNormalization", []string{x, b.weights(0.1, 1, c), b.weights(0.1, 0, c), b.weights(0.1, 0, c), b.weights(0, 1.5, c)}, "epsilon", float32(1e-3))
	}
	// Stem, with the padding in a node of its own.
	x := "input"
	if opset < 11 {
		x = b.node("Pad", []string{x}, "mode", "constant", "pads", []int64{0, 0, 1, 1, 0, 0, 1, 1}, "value", float32(0.5))
	} else {
		x = b.node("Pad", []string{x, b.ints(0, 0, 1, 1, 0, 0, 1, 1), b.number(0.5)}, "mode", "constant")
	}
	w := b.weights(math.Sqrt(2./27), 0, 16, 3, 3, 3)
	x = b.hardSwish(norm(b.node("Conv", []string{x, w}, "kernel_shape", []int64{3, 3}), 16))
	// Inverted residual with squeeze and excitation.
	y := b.clip(norm(b.conv(x, 16, 48, 1, 1, 1), 48))
	y = b.clip(norm(b.conv(y, 48, 48, 3, 1, 48), 48))
	e := b.node("Relu", []string{b.conv(b.pooled(y), 48, 12, 1, 1, 1)})
	e = b.node("HardSigmoid", []string{b.conv(e, 12, 48, 1, 1, 1)}, "alpha", float32(1./6), "beta", float32(0.5))
	y = norm(b.conv(b.node("Mul", []string{y, e}), 48, 16, 1, 1, 1), 16)
	x = b.node("Add", []string{x, y})
	// Grouped convolution, shuffled channels, projected shortcut.
	y = b.node("Relu", []string{b.conv(x, 16, 32, 1, 1, 4)})
	y = b.node("Reshape", []string{y, b.ints(0, 4, 8, 16, 16)})
	y = b.node("Transpose", []string{y}, "perm", []int64{0, 2, 1, 3, 4})
	y = b.node("Reshape", []string{y, b.ints(-1, 32, 16, 16)})
	y = norm(b.conv(y, 32, 32, 5, 2, 32), 32)
	x = b.node("Sum", []string{y, b.conv(x, 16, 32, 1, 2, 1)})
	x = b.node("LeakyRelu", []string{x}, "alpha", float32(0.1))
	// Growth: four ways of pooling beside each other, then halves.
	pool := func(op string, attrs ...any) string {
		return b.node(op, []string{x}, append([]any{"kernel_shape", []int64{3, 3}, "strides", []int64{1, 1}, "pads", []int64{1, 1, 1, 1}}, attrs...)...)
	}
	x = b.node("Concat", []string{x, pool("MaxPool"), pool("AveragePool"), pool("AveragePool", "count_include_pad", 1)}, "axis", 1)
	x = b.node("Relu", []string{b.conv(x, 128, 32, 1, 1, 1)})
	// PReLU and swish side by side on the halves of the channels.
	half := []string{}
	for i := range int64(2) {
		if opset < 10 {
			half = append(half, b.node("Slice", []string{x}, "axes", []int64{1}, "starts", []int64{16 * i}, "ends", []int64{16*i + 16}))
		} else {
			half = append(half, b.node("Slice", []string{x, b.ints(16 * i), b.ints(16*i + 16), b.ints(1)}))
		}
	}
	half[0] = b.node("PRelu", []string{half[0], b.weights(0.1, 0.2, 16, 1, 1)})
	half[1] = b.node("Mul", []string{half[1], b.node("Sigmoid", []string{half[1]})})
	x = b.node("Concat", half, "axis", 1)
	if opset >= 10 {
		x = b.node("MaxPool", []string{x}, "kernel_shape", []int64{2, 2}, "strides", []int64{3, 3}, "ceil_mode", 1)
	} else {
		x = b.node("MaxPool", []string{x}, "kernel_shape", []int64{2, 2}, "strides", []int64{2, 2})
	}
	if opset >= 19 {
		x = b.node("AveragePool", []string{x}, "kernel_shape", []int64{2, 2}, "strides", []int64{2, 2}, "ceil_mode", 1)
	} else {
		x = b.node("AveragePool", []string{x}, "kernel_shape", []int64{2, 2}, "strides", []int64{1, 1}, "auto_pad", "SAME_UPPER")
	}
	x = b.node("Tanh", []string{b.upsampled(b.conv(x, 32, 64, 1, 1, 1))})
	if opset < 12 {
		x = b.node("Dropout", []string{x}, "ratio", float32(0.2))
	} else {
		x = b.node("Dropout", []string{x, b.number(0.2)})
	}
	x = b.flat(b.pooled(x))
	x = b.node("Gemm", []string{x, b.weights(0.2, 0, 20, 64), b.weights(0.1, 0, 20)}, "transB", 1, "alpha", float32(0.5))
	x = b.node("Add", []string{b.node("MatMul", []string{b.node("Relu", []string{x}), b.weights(0.3, 0, 20, 10)}), b.weights(0.1, 0, 10)})
	g.Output = []*onnxpb.ValueInfoProto{
		{Name: proto.String(x), Type: dims("N", 10)},
		{Name: proto.String(b.node("Softmax", []string{x}, "axis", 1)), Type: dims("N", 10)},
		{Name: proto.String(b.node("LogSoftmax", []string{x}, "axis", 1)), Type: dims("N", 10)},
	}
	model, err := b.draft.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return model
}

// halved returns a model whose float weights are stored as float16, with a Cast
// in front of what reads them, as converters leave it.
func halved(t *testing.T, path string) []byte {
	t.Helper()
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := f.Draft()
	g := d.Model.Graph
	var casts []*onnxpb.NodeProto
	for _, p := range g.Initializer {
		if p.GetDataType() != int32(onnxfile.Float) {
			continue
		}
		x, err := f.Tensor(p).Float32s(1 << 26)
		if err != nil {
			t.Fatal(err)
		}
		var raw []byte
		for _, v := range x {
			raw = binary.LittleEndian.AppendUint16(raw, toHalf(v))
		}
		name := p.GetName()
		p.Name, p.DataType = proto.String(name+"/half"), proto.Int32(int32(onnxfile.Float16))
		d.SetRaw(p, onnxfile.BytesContent(raw))
		casts = append(casts, &onnxpb.NodeProto{OpType: proto.String("Cast"), Input: []string{name + "/half"}, Output: []string{name}, Attribute: []*onnxpb.AttributeProto{
			{Name: proto.String("to"), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(int64(onnxfile.Float))},
		}})
	}
	g.Node = append(casts, g.Node...)
	b, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// toHalf rounds towards zero, which is enough for a test; numbers too small or
// too large become 0.
func toHalf(v float32) uint16 {
	bits := math.Float32bits(v)
	exponent := int(bits>>23&255) - 127 + 15
	if exponent <= 0 || exponent > 30 {
		return 0
	}
	return uint16(bits>>16&0x8000) | uint16(exponent)<<10 | uint16(bits>>13&1023)
}

// Weights that are stored as float16 are those that ONNX Runtime reads.
func TestHalfWeights(t *testing.T) {
	reference := openORT(t, 1)
	for _, name := range []string{"vgg16-glyphs20", "efficientnet-b0-bn-glyphs20"} {
		c := classifier{name: name, bytes: halved(t, fixtures+name+".onnx"), batches: []int64{1, 3}}
		t.Run(name, func(t *testing.T) {
			t.Logf("logits differ by %.2g of the largest", against(t, reference, c))
		})
	}
}
