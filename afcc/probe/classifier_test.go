package probe

import (
	"math"
	"testing"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// TestOwnWeights compares the classifier's weights with what the model answers
// to single samples: its output less that for weights of zero, the bias.
func TestOwnWeights(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 2)
	const in = 7
	for _, c := range []struct {
		name  string
		build func(n *net, bias string)
	}{
		{"MatMul", func(n *net, bias string) {
			n.named("classifier", "MatMul", []string{n.t, n.weights(in, testK)})
			n.t = n.node("Add", []string{"classifier", bias})
		}},
		{"MatMul, bias first", func(n *net, bias string) {
			n.named("classifier", "MatMul", []string{n.t, n.weights(in, testK)})
			n.t = n.node("Add", []string{bias, "classifier"})
		}},
		{"Gemm", func(n *net, bias string) {
			n.named("classifier", "Gemm", []string{n.t, n.weights(in, testK), bias})
			n.t = "classifier"
		}},
		{"Gemm, transposed", func(n *net, bias string) {
			n.named("classifier", "Gemm", []string{n.t, n.weights(testK, in), bias}, attrInt("transB", 1))
			n.t = "classifier"
		}},
		{"Gemm with alpha", func(n *net, bias string) {
			n.named("classifier", "Gemm", []string{n.t, n.weights(in, testK), bias}, attrFloat("alpha", -2))
			n.t = "classifier"
		}},
		{"Gemm, transposed, with alpha and beta", func(n *net, bias string) {
			n.named("classifier", "Gemm", []string{n.t, n.weights(testK, in), bias}, attrInt("transB", 1), attrFloat("alpha", -2), attrFloat("beta", 1))
			n.t = "classifier"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNet(-1, 3, 8)
			n.conv("conv1", 3, in, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten")
			bias := []float32{1, -2, 3, 0.5, 0}
			c.build(n, n.constFloat(bias, testK))
			logits := n.t
			m := n.model(t, -1, testK)
			s := mustSurvey(t, m)
			if s.Classifier == nil || s.Classifier.Outputs != testK || s.Classifier.Inputs != in || s.Classifier.Tap == nil {
				t.Fatalf("classifier %+v", s.Classifier)
			}
			w, err := ownWeights(m, s.Classifier)
			if err != nil || len(w) != testK*in {
				t.Fatalf("%d weights, %v", len(w), err)
			}
			index := []int{0, 3, 5, 9}
			taps := perSample(t, eng, m, set, s.Classifier.Tap, index)
			for i, row := range perSample(t, eng, m, set, &Tap{Tensor: logits}, index) {
				for j, got := range row {
					want := float64(bias[j])
					for f, a := range taps[i] {
						want += float64(w[j*in+f]) * float64(a)
					}
					if math.Abs(want-float64(got)) > 1e-4*(1+math.Abs(want)) {
						t.Errorf("sample %d, label %d: the model says %v, its weights %v", index[i], j, got, want)
					}
				}
			}
		})
	}
}

// TestTransposedInput: with transA the rows are not samples.
func TestTransposedInput(t *testing.T) {
	n := newNet(-1, 3, 8)
	n.conv("conv1", 3, 7, 3, 1).op("Relu").op("GlobalAveragePool").op("Flatten")
	flat := n.t
	n.t = n.node("Transpose", []string{flat}, attrInts("perm", 1, 0))
	n.named("classifier", "Gemm", []string{n.t, n.weights(7, testK)}, attrInt("transA", 1))
	n.t = "classifier"
	n.g.Output = append(n.g.Output, valueInfo(n.t, onnxfile.Float, -1, testK))
	if s := mustSurvey(t, n.open(t, inspect.Options{})); s.Classifier != nil {
		t.Errorf("classifier %+v", s.Classifier)
	}
}
