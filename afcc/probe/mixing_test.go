package probe

import (
	"errors"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TestAcrossSamples takes models that compute over the rows of a batch without
// changing its shape. With a fixed batch of one sample they are measured one by one,
// with an open batch refused.
func TestAcrossSamples(t *testing.T) {
	eng, set := runtime(t), folder(t, testK, 17)
	for _, c := range []struct {
		name  string
		mixes bool
		add   func(n *net)
	}{
		{"softmax", true, func(n *net) { n.op("Softmax", attrInt("axis", 0)) }},
		{"softmax, axis from the end", true, func(n *net) { n.op("Softmax", attrInt("axis", -4)) }},
		{"softmax over filters", false, func(n *net) { n.op("Softmax", attrInt("axis", 1)) }},
		{"mean and variance", true, func(n *net) { n.op("MeanVarianceNormalization") }},
		{"mean and variance of maps", false, func(n *net) { n.op("MeanVarianceNormalization", attrInts("axes", 2, 3)) }},
		{"running sum", true, func(n *net) { n.t = n.node("CumSum", []string{n.t, n.constInt([]int64{0}, 1)}) }},
		{"mean of the batch", true, func(n *net) {
			mean := n.node("ReduceMean", []string{n.t}, attrInts("axes", 0, 2, 3))
			n.t = n.node("Sub", []string{n.t, mean})
		}},
		{"mean of everything", true, func(n *net) {
			n.t = n.node("Sub", []string{n.t, n.node("ReduceMean", []string{n.t})})
		}},
		{"mean of a map", false, func(n *net) {
			mean := n.node("ReduceMean", []string{n.t}, attrInts("axes", -1, -2))
			n.t = n.node("Sub", []string{n.t, mean})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			build := func(batch int64) *net {
				n := newNet(batch, 3, 8)
				n.conv("conv1", 3, 4, 3, 1)
				c.add(n)
				return n.op("Relu").conv("conv2", 4, 4, 3, 1).op("Relu").op("Flatten").gemm("classifier", 256, testK)
			}
			one := build(1).model(t, 1, testK)
			if s := mustSurvey(t, one); s.Opened == c.mixes {
				t.Errorf("a batch of 1: opened %v", s.Opened)
			}
			againstPlain(t, eng, one, set, testOptions(), 1)

			open := build(-1)
			open.g.Input[0].GetType().GetTensorType().Shape.Dim[0].Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "N"}
			_, err := NewSurvey(open.model(t, -1, testK))
			var refused *NotClassifierError
			if c.mixes && (!errors.As(err, &refused) || !strings.Contains(err.Error(), "run together")) || !c.mixes && err != nil {
				t.Errorf("an open batch: %v", err)
			}
		})
	}
}
