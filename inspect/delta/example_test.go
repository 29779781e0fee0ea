package delta_test

import (
	"context"
	"fmt"
	"log"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
)

// Two exports of one network, with BatchNormalization as nodes and folded.
func ExampleCompare() {
	ctx := context.Background()
	a, err := inspect.Open(ctx, "../../fixtures/efficientnet-b0-bn-glyphs20.onnx", inspect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	b, err := inspect.Open(ctx, "../../fixtures/efficientnet-b0-glyphs20.onnx", inspect.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	d, err := delta.Compare(ctx, a, b, delta.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("same:", d.Same)
	fmt.Println("operators:", d.Totals.Kept, "kept,", d.Totals.Rewritten, "of them written in another way")
	fmt.Println("weights: the same to", *d.Totals.Digits, "digits")
	n := d.Nodes[0]
	fmt.Println(n.A.Nodes, "and", n.B.Nodes)
	// Output:
	// same: true
	// operators: 240 kept, 49 of them written in another way
	// weights: the same to 6 digits
	// [Conv BatchNormalization] and [Conv]
}
