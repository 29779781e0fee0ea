package onnxfile_test

import (
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

const vgg = "../../fixtures/vgg16-glyphs20.onnx"

// Open a file and look at what is stored in it.
func ExampleOpen() {
	f, err := onnxfile.Open(vgg)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	fmt.Println("written by", f.Model.GetProducerName(), f.Model.GetProducerVersion())
	for _, p := range f.Model.Graph.Initializer[:3] {
		t := f.Tensor(p)
		fmt.Println(t.Name(), t.DType(), t.Dims(), t.StoredBytes(), "bytes")
	}
	// Output:
	// written by pytorch 1.13.0
	// features.0.weight float [8 1 3 3] 288 bytes
	// features.0.bias float [8] 32 bytes
	// features.3.weight float [8 8 3 3] 2304 bytes
}

// Read a tensor block by block: memory does not grow with its size.
func ExampleTensor_Blocks() {
	f, err := onnxfile.Open(vgg)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	largest := 0.0
	for block, err := range f.Tensor(f.Model.Graph.Initializer[0]).Blocks() {
		if err != nil {
			log.Fatal(err)
		}
		for _, v := range block {
			largest = max(largest, math.Abs(v))
		}
	}
	fmt.Printf("%.4f\n", largest)
	// Output:
	// 2.2630
}

// Write a changed copy of a model: new metadata, one tensor replaced. All other
// weights are spliced from the source as they stand, and nothing is at the
// target before everything is written.
func ExampleFile_Draft() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	target := filepath.Join(dir, "changed.onnx")

	f, err := onnxfile.Open(vgg)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	draft := f.Draft()
	draft.Model.MetadataProps = append(draft.Model.MetadataProps, &onnxpb.StringStringEntryProto{
		Key: proto.String("author"), Value: proto.String("me"),
	})
	draft.SetFloat32(draft.Initializer("classifier.bias"), make([]float32, 20), 20)

	out, err := onnxfile.CreatePending(target)
	if err != nil {
		log.Fatal(err)
	}
	defer out.Abort()
	if _, err := draft.WriteTo(out); err != nil {
		log.Fatal(err)
	}
	if err := out.Commit(); err != nil {
		log.Fatal(err)
	}

	g, err := onnxfile.Open(target)
	if err != nil {
		log.Fatal(err)
	}
	defer g.Close()
	for _, p := range g.Model.Graph.Initializer {
		if t := g.Tensor(p); t.Name() == "classifier.bias" {
			values, err := t.Float32s(20)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(t.Name(), values[:3])
		}
	}
	props := g.Model.MetadataProps
	fmt.Println(props[len(props)-1].GetKey(), "=", props[len(props)-1].GetValue())
	// Output:
	// classifier.bias [0 0 0]
	// author = me
}
