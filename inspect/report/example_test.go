package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/report"
)

// describe reads one of the models that the repository keeps for tests.
func describe() *inspect.Model {
	m, err := inspect.Open(context.Background(), "../../fixtures/vgg16-glyphs20.onnx", inspect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	return m
}

// Print a table of a report as a person reads it.
func ExampleWriteText() {
	m := describe()
	defer m.Close()
	doc := report.FromModel(report.NewModel(m, report.Selection{}, nil), report.LayerTable)
	for _, s := range doc.Sections {
		if s.Title == "Inputs and outputs" {
			doc = report.Document{Title: doc.Title, Sections: []report.Section{s}}
		}
	}
	if err := report.WriteText(os.Stdout, report.TextOptions{Width: 80}, doc); err != nil {
		log.Fatal(err)
	}
	// Output:
	// ../../fixtures/vgg16-glyphs20.onnx
	//
	// Inputs and outputs
	//           name    type   shape
	//   input   input   float  batch x 1 x 32 x 32
	//   output  logits  float  batch x 20
}

// Write a report for programs, and read it back.
func ExampleWriteJSON() {
	m := describe()
	defer m.Close()
	var b bytes.Buffer
	if err := report.WriteJSON(&b, report.NewModel(m, report.Selection{}, nil)); err != nil {
		log.Fatal(err)
	}

	var back report.Model
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		log.Fatal(err)
	}
	l := back.Layers[0]
	fmt.Println(back.Schema)
	fmt.Println(l.Name, l.Op, l.Kernel, l.Out)
	// Output:
	// filterlens.inspect/1
	// /features/features.0/Conv Conv [3 3] batch x 8 x 32 x 32
}
