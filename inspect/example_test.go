package inspect_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// The models of the examples are those that the repository keeps for tests.
const (
	vgg          = "../fixtures/vgg16-glyphs20.onnx"
	efficientNet = "../fixtures/efficientnet-b0-bn-glyphs20.onnx"
)

// Open a model and print its layers. Weights stay where they are: a file of half
// a gigabyte takes no longer than one of half a megabyte.
func Example() {
	m, err := inspect.Open(context.Background(), vgg, inspect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	for _, l := range m.Layers[:3] {
		fmt.Printf("%s: %s, %v -> %v, %d parameters\n", l.Name, l.Op, l.In, l.Out, l.Parameters)
	}
	fmt.Printf("%d layers, %d parameters, %d multiply-accumulates\n", m.Totals.Layers, m.Totals.Parameters, *m.Totals.MACs)
	// Output:
	// /features/features.0/Conv: Conv, batch x 1 x 32 x 32 -> batch x 8 x 32 x 32, 80 parameters
	// /features/features.3/Conv: Conv, batch x 8 x 32 x 32 -> batch x 8 x 32 x 32, 584 parameters
	// /features/features.7/Conv: Conv, batch x 8 x 16 x 16 -> batch x 16 x 16 x 16, 1168 parameters
	// 14 layers, 231724 parameters, 4941056 multiply-accumulates
}

// The shapes of all tensors follow from those of the inputs. A dimension that a
// model leaves open keeps its name until it is given a size.
func ExampleOptions_batch() {
	for _, batch := range []int64{0, 8} {
		m, err := inspect.Open(context.Background(), vgg, inspect.Options{Batch: batch})
		if err != nil {
			log.Fatal(err)
		}
		defer m.Close()
		fmt.Println(m.Graph.Shape("/features/features.0/Conv_output_0"))
	}
	// Output:
	// batch x 8 x 32 x 32
	// 8 x 8 x 32 x 32
}

// Print the values of one tensor. The limit bounds what a lying shape can ask for.
func ExampleGraph_Initializer() {
	m, err := inspect.Open(context.Background(), vgg, inspect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	bias, ok := m.Graph.Initializer(m.Layers[0].Bias)
	if !ok {
		log.Fatal("the first layer has no bias of its own")
	}
	values, err := bias.Float32s(1000)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bias.Name(), bias.DType(), bias.Dims())
	fmt.Printf("%.3f\n", values)
	// Output:
	// features.0.bias float [8]
	// [0.617 1.168 0.140 -0.020 -0.015 0.615 0.075 0.047]
}

// Follow a tensor through the graph: who makes it, who reads it.
func ExampleGraph_Consumers() {
	m, err := inspect.Open(context.Background(), efficientNet, inspect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	g := m.Graph
	tensor := g.Nodes[1].Output(0)
	fmt.Println(tensor, "is made by", g.Producer(tensor).Op)
	for _, n := range g.Consumers(tensor) {
		fmt.Println("and read by", n.Op, n.Label())
	}
	// Output:
	// /features/features.0/features.0.1/BatchNormalization_output_0 is made by BatchNormalization
	// and read by Sigmoid /features/features.0/features.0.2/Sigmoid
	// and read by Mul /features/features.0/features.0.2/Mul
}

// Read the weights of a model when it is known how large they are.
func ExampleModel_ReadWeights() {
	ctx := context.Background()
	m, err := inspect.Open(ctx, vgg, inspect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	if m.Totals.WeightBytes < 64<<20 {
		if err := m.ReadWeights(ctx, true); err != nil {
			log.Fatal(err)
		}
	}
	w := m.Tensors[0]
	fmt.Printf("%s: from %.2f to %.2f, %d of %d are zero\n", w.Name, *w.Values.Min, *w.Values.Max, w.Values.Zeros, w.Elements)
	// Output:
	// features.0.weight: from -1.47 to 2.26, 0 of 72 are zero
}

// Find what is wrong or wasted in a model, here in a copy with a tensor that no
// node reads.
func ExampleModel_Findings() {
	ctx := context.Background()
	f, err := onnxfile.Open(vgg)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	d := f.Draft()
	left := &onnxpb.TensorProto{Name: proto.String("left")}
	d.SetFloat32(left, []float32{1, 2}, 2)
	d.Model.Graph.Initializer = append(d.Model.Graph.Initializer, left)
	b, err := d.Bytes()
	if err != nil {
		log.Fatal(err)
	}
	changed, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "copy.onnx")
	if err != nil {
		log.Fatal(err)
	}
	m, err := inspect.New(ctx, changed, inspect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	found, err := m.Findings(ctx, inspect.FindingOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range found {
		fmt.Printf("%s, %s: %s\n", f.Level, f.Code, f.Text)
	}
	// Output:
	// warning, unused-initializer: no node reads the initializer "left" (float, 2, 8 bytes); remove it
}
