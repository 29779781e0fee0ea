package afcc_test

import (
	"fmt"

	"github.com/filterlens/filterlens/afcc"
)

// A field matrix of five labels: rows are input labels, columns outputs.
func ExampleAnalyze() {
	m := []float32{
		1.0, 0.8, 0.1, 0.0, 0.2,
		0.6, 0.9, 0.1, 0.35, 0.0,
		0.4, 0.1, 0.5, 0.0, 0.0,
		0.0, 0.2, 0.0, 0.1, 0.6,
		-.5, 0.0, 0.31, 0.0, 0.3,
	}
	f := afcc.Analyze(m, 5, 0.3)
	fmt.Println("clusters", f.Clusters, "labels", f.Labels())
	fmt.Println("ones", f.Ones, "noise", f.Noise, "internal", f.Internal, "external", f.External)
	fmt.Println("labels at 0.6", f.LabelsAt(0.6))
	// Output:
	// clusters [[0 1] [2]] labels [0 1 2]
	// ones 9 noise 4 internal 2 external 2
	// labels at 0.6 [0 1]
}
