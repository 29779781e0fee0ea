package probe

import (
	"context"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// net writes small models for the tests of this package.
type net struct {
	*builder
	r *rand.Rand
	t string // the tensor that the next operator reads
	// calm makes biases small, so that hardly a filter is silent.
	calm bool
}

// newNet begins a model that reads batch x channels x side x side.
func newNet(batch, channels, side int64) *net {
	n := &net{builder: newGraph(), r: rand.New(rand.NewPCG(7, 7)), t: "image"}
	n.g.Input = append(n.g.Input, valueInfo("image", onnxfile.Float, batch, channels, side, side))
	return n
}

func (n *net) op(op string, attrs ...*onnxpb.AttributeProto) *net {
	n.t = n.node(op, []string{n.t}, attrs...)
	return n
}

func (n *net) weights(dims ...int64) string {
	v := make([]float32, engine.Elements(dims))
	fan := float64(len(v)) / float64(dims[0])
	for i := range v {
		v[i] = float32(n.r.NormFloat64() * 1.4 / fan * 4)
		if n.calm && len(dims) == 1 {
			v[i] /= 20
		}
	}
	return n.constFloat(v, dims...)
}

// conv adds a 3x3 convolution (1x1 when size is 1) of groups with bias.
func (n *net) conv(name string, in, out, size, group int64) *net {
	w, b := n.weights(out, in/group, size, size), n.weights(out)
	n.named(name, "Conv", []string{n.t, w, b}, attrInts("kernel_shape", size, size),
		attrInts("pads", size/2, size/2, size/2, size/2), attrInt("group", group))
	n.t = name
	return n
}

func (n *net) gemm(name string, in, out int64) *net {
	n.named(name, "Gemm", []string{n.t, n.weights(out, in), n.weights(out)}, attrInt("transB", 1))
	n.t = name
	return n
}

func (n *net) pool() *net {
	return n.op("MaxPool", attrInts("kernel_shape", 2, 2), attrInts("strides", 2, 2))
}

// model writes the net to a file and opens it; dims are those of its output.
func (n *net) model(t testing.TB, dims ...int64) *inspect.Model {
	t.Helper()
	n.g.Output = append(n.g.Output, valueInfo(n.t, onnxfile.Float, dims...))
	return n.open(t, inspect.Options{})
}

// open writes the net with the outputs that it has and opens it.
func (n *net) open(t testing.TB, opt inspect.Options) *inspect.Model {
	t.Helper()
	n.d.Model.ProducerName = proto.String("test")
	path := filepath.Join(t.TempDir(), "model.onnx")
	data, err := n.d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := inspect.New(t.Context(), f, opt)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// small is a classifier of k labels with two convolutions and a hidden layer.
func small(t testing.TB, k int64) *inspect.Model {
	n := newNet(-1, 3, 8)
	n.conv("conv1", 3, 4, 3, 1).op("Relu").pool()
	n.conv("conv2", 4, 6, 3, 1).op("Relu")
	n.op("Flatten").gemm("hidden", 6*4*4, 7).op("Relu").gemm("classifier", 7, k)
	return n.model(t, -1, k)
}

// folder opens an image folder of k labels.
func folder(t testing.TB, k, each int) *dataset.Set {
	t.Helper()
	return openSet(t, imageFolder(t, k, each))
}

func openSet(t testing.TB, dir string) *dataset.Set {
	t.Helper()
	set, err := dataset.Open(dir, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

// imageFolder writes an image folder of k labels, each a colour with noise.
func imageFolder(t testing.TB, k, each int) string {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(3, uint64(k)))
	for l := range k {
		sub := filepath.Join(dir, "label"+strconv.Itoa(l))
		if err := os.Mkdir(sub, 0o777); err != nil {
			t.Fatal(err)
		}
		base := [3]int{r.IntN(256), r.IntN(256), r.IntN(256)}
		for i := range each {
			im := image.NewRGBA(image.Rect(0, 0, 8, 8))
			for p := range 64 {
				var c [3]uint8
				for j := range c {
					c[j] = uint8(min(max(base[j]+r.IntN(120)-60, 0), 255))
				}
				im.SetRGBA(p%8, p/8, color.RGBA{c[0], c[1], c[2], 255})
			}
			f, err := os.Create(filepath.Join(sub, strconv.Itoa(i)+".png"))
			if err != nil {
				t.Fatal(err)
			}
			if err := png.Encode(f, im); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// runtime opens ONNX Runtime on the provider that FILTERLENS_TEST_EP names, the
// CPU where it is not set. A provider that is not there fails the test.
func runtime(t testing.TB) engine.Engine {
	t.Helper()
	if !ort.Available {
		t.Skip("ONNX Runtime needs cgo")
	}
	eng, err := ort.Open(context.Background(), ort.Options{Provider: os.Getenv("FILTERLENS_TEST_EP"), Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}
