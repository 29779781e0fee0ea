package afcc_test

import (
	"context"
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

// The statistics of a layer whose only filter is that of the example above.
func ExampleSummarize() {
	f := afcc.Analyze([]float32{
		1.0, 0.8, 0.1, 0.0, 0.2,
		0.6, 0.9, 0.1, 0.35, 0.0,
		0.4, 0.1, 0.5, 0.0, 0.0,
		0.0, 0.2, 0.0, 0.1, 0.6,
		-.5, 0.0, 0.31, 0.0, 0.3,
	}, 5, 0.3)
	s := afcc.Summarize([]afcc.Filter{f}, 5, 0.3)
	fmt.Println("N_c", s.Mean.Nc, "C_s", s.Mean.Cs, "d", s.Mean.D, "n", s.Mean.N)
	fmt.Println("S", s.Signal, "N_int", s.NoiseInternal, "N_ext", s.NoiseExternal, "SNR", *s.SNR)
	// Output:
	// N_c 2 C_s 1.5 d 3 n 4
	// S 0.6 N_int 0.1 N_ext 0.2 SNR 2
}

// Two input filters and one output filter, three labels. The score of a
// connection is the threshold at which it falls.
func ExampleConvScores() {
	in := [][]float32{{1, 0.4, 0}, {0, 0.2, 1}}
	out := [][]float32{{0.5, 1, 0.1}}
	s, err := afcc.ConvScores(context.Background(), in, out)
	if err != nil {
		panic(err)
	}
	mask := s.Mask(0.3)
	for c := range in {
		label, score := afcc.SharedLabel(in[c], out[0])
		fmt.Println("input", c, "shares label", label, "up to", score, "kept", mask.Kept(0, c))
	}
	fmt.Println(s.ThresholdFor(1))
	// Output:
	// input 0 shares label 0 up to 0.5 kept true
	// input 1 shares label 1 up to 0.2 kept false
	// 0.5 1
}
