package gradient

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// small is a net with a mask: some weights of "second" are zero.
func small(batch int64) *net {
	n := newNet(13, batch, 3, 6, 6).conv("first", [4]int64{4, 3, 3, 3}, attrInts("pads", 1, 1, 1, 1)).then("Relu")
	n.conv("second", [4]int64{4, 4, 3, 3}, attrInts("strides", 2, 2)).then("Relu")
	for _, w := range n.g.Initializer {
		if w.GetName() == "w.second" {
			for i := 0; i < len(w.RawData); i += 12 {
				copy(w.RawData[i:], []byte{0, 0, 0, 0})
			}
		}
	}
	return n.head(16)
}

func TestRefused(t *testing.T) {
	sine := func() *net {
		return newNet(13, 0, 3, 6, 6).conv("first", [4]int64{4, 3, 1, 1}).then("Sin").head(144)
	}
	for name, tc := range map[string]struct {
		n    *net
		opt  BuildOptions
		want string
	}{
		"operator without a rule":      {sine(), BuildOptions{}, `node "Sin_1" (Sin): the operator has no gradient rule`},
		"opset 6":                      {newNet(6, 0, 3, 4, 4).head(48), BuildOptions{}, "opset 6 is older than 7"},
		"no batch":                     {small(0), BuildOptions{Batch: -1}, "training option batch: -1 is out of range"},
		"momentum":                     {small(0), BuildOptions{Momentum: 1}, "training option momentum"},
		"weight decay":                 {small(0), BuildOptions{WeightDecay: math.NaN()}, "training option weight decay"},
		"distillation":                 {small(0), BuildOptions{Distill: 2}, "training option distillation"},
		"temperature":                  {small(0), BuildOptions{Distill: 1}, "training option temperature"},
		"clip":                         {small(0), BuildOptions{Clip: -1}, "training option clip"},
		"a layer that is not there":    {small(0), BuildOptions{Layers: []Layer{{Name: "third"}}}, `called "third"`},
		"a layer with another weight":  {small(0), BuildOptions{Layers: []Layer{{Name: "second", Weight: "w"}}}, `has the weight "w.second", not "w"`},
		"padding by reflection":        {reflecting(), BuildOptions{}, "padding by reflect"},
		"a sigmoid for each label":     {newNet(13, 0, 3, 6, 6).head(108).then("Sigmoid"), BuildOptions{}, "independent probabilities"},
		"softmax over the wrong axis":  {newNet(13, 0, 3, 6, 6).head(108).then("Softmax", attrInt("axis", 0)), BuildOptions{}, "its axis is not that of the labels"},
		"a reshape across the samples": {across(), BuildOptions{}, "export the model with an open batch"},
		"dropout in training":          {dropping(), BuildOptions{}, "drops values at random"},
		"batch statistics":             {normalising(), BuildOptions{}, "normalises by the statistics of the batch"},
		"no weight":                    {newNet(13, 0, 5, 1, 1).then("Flatten"), BuildOptions{}, "no layer with a stored weight"},
		"a weight of another type":     {halved(), BuildOptions{}, "float16"},
		"quantized":                    {quantized(), BuildOptions{}, "train the model before quantizing it"},
		"softmax over channels":        {newNet(13, 0, 3, 6, 6).conv("first", [4]int64{4, 3, 1, 1}).then("Softmax", attrInt("axis", 1)).head(144), BuildOptions{}, "the last one"},
		"pooling without a rule":       {newNet(13, 0, 3, 6, 6).conv("first", [4]int64{4, 3, 1, 1}).then("GlobalLpPool").head(4), BuildOptions{}, "GlobalLpPool"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.opt.Batch == 0 {
				tc.opt.Batch = 2
			}
			m := tc.n.model(t)
			g, err := Build(m, tc.opt)
			var unsupported *UnsupportedError
			var option *OptionError
			if g != nil || err == nil || !errors.As(err, &unsupported) && !errors.As(err, &option) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("%q has several lines", err)
			}
		})
	}
}

// across mixes the samples of a batch.
func across() *net {
	n := newNet(13, 0, 3, 6, 6).conv("first", [4]int64{4, 3, 1, 1})
	n.node("mixed", "Reshape", []string{n.t, n.ints("halves", -1, 72)})
	n.node("classifier", "Gemm", []string{n.t, n.drawn("w.classifier", 0.1, classes, 72)}, attrInt("transB", 1))
	n.node("joined", "Reshape", []string{n.t, n.ints("whole", -1, 2*classes)})
	n.g.Output = []*onnxpb.ValueInfoProto{described("joined", 0, 2*classes)}
	return n
}

func reflecting() *net {
	n := newNet(13, 0, 3, 6, 6).conv("first", [4]int64{4, 3, 1, 1})
	n.node("padded", "Pad", []string{n.t, n.ints("pads", 0, 0, 1, 1, 0, 0, 1, 1)}, attrString("mode", "reflect"))
	return n.head(4 * 64)
}

func dropping() *net {
	n := newNet(13, 0, 3, 6, 6).conv("first", [4]int64{4, 3, 1, 1})
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("training"), DataType: proto.Int32(9), Int32Data: []int32{1}})
	n.node("dropped", "Dropout", []string{n.t, n.floats("ratio", []float32{0.5}), "training"})
	return n.head(144)
}

func normalising() *net {
	n := newNet(15, 0, 3, 6, 6).conv("first", [4]int64{4, 3, 1, 1})
	n.node("norm", "BatchNormalization", []string{n.t, n.drawn("s", 1, 4), n.drawn("b", 1, 4), n.drawn("m", 1, 4), n.floats("v", []float32{1, 1, 1, 1}, 4)}, attrInt("training_mode", 1))
	return n.head(144)
}

func halved() *net {
	n := newNet(13, 0, 3, 6, 6)
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("half"), Dims: []int64{4, 3, 1, 1}, DataType: proto.Int32(int32(onnxfile.Float16)), RawData: make([]byte, 24)})
	n.node("up", "Cast", []string{"half"}, attrInt("to", 1))
	n.node("first", "Conv", []string{"image", "up"})
	return n.head(144)
}

func quantized() *net {
	n := newNet(13, 0, 3, 6, 6)
	n.g.Initializer = append(n.g.Initializer, &onnxpb.TensorProto{Name: proto.String("q"), Dims: []int64{4, 3, 1, 1}, DataType: proto.Int32(3), RawData: make([]byte, 12)})
	n.node("up", "DequantizeLinear", []string{"q", n.floats("scale", []float32{0.1})})
	n.node("first", "Conv", []string{"image", "up"})
	return n.head(144)
}

// TestBeforeFirstWeight: operators without a rule may lie before what is trained.
func TestBeforeFirstWeight(t *testing.T) {
	n := newNet(13, 0, 3, 6, 6).then("Sin").conv("first", [4]int64{4, 3, 1, 1}).then("Cos").conv("second", [4]int64{4, 4, 1, 1}).head(144)
	m := n.model(t)
	if _, err := Build(m, BuildOptions{Batch: 2}); err == nil {
		t.Error("Cos was differentiated")
	}
	tr := newTrial(t, runtime(t, 1), m, BuildOptions{Batch: 2, Layers: []Layer{{Name: "second"}, {Name: "classifier"}}})
	if len(tr.g.Params) != 4 {
		t.Errorf("%d parameters", len(tr.g.Params))
	}
	tr.check(2e-3, 4e-3)
}

// TestStored: weights in Constant nodes, listed inputs and fixed batches.
func TestStored(t *testing.T) {
	eng := runtime(t, 1)
	t.Run("constants", func(t *testing.T) {
		n := small(0)
		for _, w := range n.g.Initializer {
			n.g.Node = append([]*onnxpb.NodeProto{{OpType: proto.String("Constant"), Output: []string{w.GetName()},
				Attribute: []*onnxpb.AttributeProto{{Name: proto.String("value"), Type: onnxpb.AttributeProto_TENSOR.Enum(), T: w}}}}, n.g.Node...)
		}
		n.g.Initializer = nil
		newTrial(t, eng, n.model(t), BuildOptions{Batch: 2}).check(2e-3, 4e-3)
	})
	t.Run("fixed batch", func(t *testing.T) {
		n := newNet(13, 1, 3, 6, 6).conv("first", [4]int64{4, 3, 3, 3}, attrInts("pads", 1, 1, 1, 1)).then("Relu")
		n.node("flat", "Reshape", []string{n.t, n.ints("to", 1, -1)})
		n.node("classifier", "Gemm", []string{n.t, n.drawn("w.classifier", 0.1, classes, 144)}, attrInt("transB", 1))
		m := n.model(t)
		g, err := Build(m, BuildOptions{Batch: 3, Gradients: true})
		if err != nil {
			t.Fatal(err)
		}
		// The same net with an open batch has the same gradients.
		n.g.Input[0] = described("image", 0, 3, 6, 6)
		n.g.Output = nil
		n.ints("open", 0, -1)
		for _, node := range n.g.Node {
			if node.GetName() == "flat" {
				node.Input[1] = "open"
			}
		}
		tr := newTrial(t, eng, n.model(t), BuildOptions{Batch: 3})
		_, want := tr.gradients()
		tr.g, tr.graph = g, load(t, eng, engine.Model{Name: "fixed", Bytes: g.Model})
		if _, got := tr.gradients(); !slices.Equal(got["w.first"], want["w.first"]) {
			t.Error("the gradients of a model with batch 1 are others than with an open batch")
		}
	})
	t.Run("batch that cannot be opened", func(t *testing.T) {
		n := newNet(13, 1, 3, 6, 6).conv("first", [4]int64{4, 3, 1, 1})
		n.node("flat", "Reshape", []string{n.t, n.ints("to", -1, 144)})
		n.node("turned", "Transpose", []string{n.t}, attrInts("perm", 1, 0))
		n.node("rows", "Reshape", []string{n.t, n.ints("one row", 1, 144)})
		n.node("classifier", "Gemm", []string{n.t, n.drawn("w.classifier", 0.1, classes, 144)}, attrInt("transB", 1))
		var u *UnsupportedError
		if _, err := Build(n.model(t), BuildOptions{Batch: 3}); !errors.As(err, &u) {
			t.Errorf("error %v", err)
		}
	})
}

// TestStep compares two steps with the same arithmetic in Go.
func TestStep(t *testing.T) {
	eng := runtime(t, 1)
	m := small(0).model(t)
	opt := BuildOptions{Batch: 3, Momentum: 0.8, WeightDecay: 0.02, Clip: 0.5, Layers: []Layer{{Name: "first"}, {Name: "second", Masked: true}, {Name: "classifier"}}}
	tr := newTrial(t, eng, m, opt)
	g, err := Build(m, opt)
	if err != nil {
		t.Fatal(err)
	}
	s := &training{eng: eng, m: m, g: g, opt: Defaults()}
	if err := s.read(context.Background(), &BuildOptions{}); err != nil {
		t.Fatal(err)
	}
	s.arrange()
	s.sess = load(t, eng, engine.Model{Name: "step", Bytes: g.Model})
	if err := s.hold(); err != nil {
		t.Fatal(err)
	}
	b := newBatch(g)
	copy(b.image.Float32(), tr.x)
	copy(b.target.Float32(), tr.target)
	for i := range 3 {
		b.rows.Float32()[i] = 1. / 3
	}
	velocity := map[string][]float64{}
	for step, rate := range []float64{0.1, 0.05} {
		_, grads := tr.gradients()
		norm := 0.0
		for i := range g.Params {
			p := &g.Params[i]
			if (p.Mask != "") != (p.Name == "w.second") {
				t.Fatalf("%s: mask %q", p.Name, p.Mask)
			}
			for j := range grads[p.Name] {
				if p.Mask != "" && s.stored[p.Name][j] == 0 {
					grads[p.Name][j] = 0
				}
				norm += float64(grads[p.Name][j]) * float64(grads[p.Name][j])
			}
		}
		short := min(1, opt.Clip/math.Sqrt(norm))
		if short == 1 {
			t.Fatal("nothing is clipped")
		}
		for i := range g.Params {
			name := g.Params[i].Name
			w := tr.weights[name]
			if velocity[name] == nil {
				velocity[name] = make([]float64, len(w))
				tr.weights[name] = slices.Clone(w)
				w = tr.weights[name]
			}
			for j := range w {
				grad := short*float64(grads[name][j]) + opt.WeightDecay*float64(w[j])
				v := opt.Momentum*velocity[name][j] + grad
				velocity[name][j] = v
				w[j] = float32(float64(w[j]) - rate*(grad+opt.Momentum*v))
			}
		}
		if _, _, err := s.step(context.Background(), b, rate); err != nil {
			t.Fatal(err)
		}
		w, err := s.current(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range s.unpack(w) {
			for j, x := range v {
				if d := math.Abs(float64(x - tr.weights[name][j])); d > 2e-6 {
					t.Fatalf("step %d, %s: weight %d is %v, want %v", step, name, j, x, tr.weights[name][j])
				}
				if name == "w.second" && j%3 == 0 && x != 0 {
					t.Fatalf("step %d: masked weight %d is %v", step, j, x)
				}
			}
		}
	}
}

// TestPack: packing and unpacking are inverse, whatever is cropped.
func TestPack(t *testing.T) {
	n := newNet(13, 0, 3, 1, 2).conv("first", [4]int64{4, 3, 5, 3}, attrInts("pads", 2, 1, 2, 1)).head(8)
	g, err := Build(n.model(t), BuildOptions{Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	p := &g.Params[0]
	if p.conv == nil || !slices.Equal(p.Shape, []int64{4, 3 * 3}) {
		t.Fatalf("packed as %v", p.Shape)
	}
	v := make([]float32, 4*3*15)
	for i := range v {
		v[i] = float32(i + 1)
	}
	packed := p.Pack(v)
	for i := range packed {
		packed[i] = -packed[i]
	}
	out := slices.Clone(v)
	p.Unpack(packed, out)
	changed := 0
	for i, x := range out {
		if row := i / 3 % 5; x != v[i] {
			changed++
			if x != -v[i] || row != 2 {
				t.Errorf("element %d became %v", i, x)
			}
		}
	}
	if changed != len(packed) {
		t.Errorf("%d of %d elements came back", changed, len(packed))
	}
}
