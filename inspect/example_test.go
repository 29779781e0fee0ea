package inspect_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

func ExampleNew() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "vgg16.onnx")
	draft, err := arch.VGG16(arch.Options{Zero: true})
	if err != nil {
		log.Fatal(err)
	}
	if err := arch.Write(path, draft); err != nil {
		log.Fatal(err)
	}

	f, err := onnxfile.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	m, err := inspect.New(context.Background(), f, inspect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range m.Layers[:3] {
		fmt.Println(l.Name, l.Op, l.In, "->", l.Out, l.Parameters)
	}
	fmt.Println(m.Totals.Parameters, "parameters,", *m.Totals.MACs, "multiply-accumulates")
	// Output:
	// /features/features.0/Conv Conv batch x 3 x 224 x 224 -> batch x 64 x 224 x 224 1792
	// /features/features.2/Conv Conv batch x 64 x 224 x 224 -> batch x 64 x 224 x 224 36928
	// /features/features.5/Conv Conv batch x 64 x 112 x 112 -> batch x 128 x 112 x 112 73856
	// 138357544 parameters, 15470264320 multiply-accumulates
}
