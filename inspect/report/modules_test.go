package report

import (
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect"
)

func TestModules(t *testing.T) {
	for _, c := range []struct {
		scope, name, op, weight string
		want                    string // parts joined by "|"
	}{
		// PyTorch's exporter since 1.13.
		{name: "/features/features.40/Conv", op: "Conv", want: "features|40"},
		{name: "/layer1/layer1.0/conv1/Conv", op: "Conv", want: "layer1|0|conv1"},
		{name: "/features/features.2/features.2.0/block/block.1/block.1.0/Conv", op: "Conv", want: "features|2|0|block|1|0"},
		{name: "/model.0/conv/Conv", op: "Conv", want: "model|0|conv"},
		{name: "/Conv", op: "Conv", want: ""},
		{name: "/Conv_2", op: "Conv", want: ""},
		{name: "/fc/Gemm", op: "Gemm", want: "fc"},
		{name: "/attn/attn.proj/MatMul_1", op: "MatMul", want: "attn|proj"},
		// A part that repeats more than the last one, and one that only looks so.
		{name: "/a/ab.c/Conv", op: "Conv", want: "a|ab|c"},
		// PyTorch before: numbered nodes, weights with names.
		{name: "Conv_0", op: "Conv", weight: "features.0.weight", want: "features|0"},
		{name: "Conv_12", op: "Conv", weight: "onnx::Conv_183", want: ""},
		{name: "183", op: "Conv", weight: "layer1.0.conv1.weight", want: "layer1|0|conv1"},
		{name: "node_conv2d_3", op: "Conv", weight: "layer4.1.conv2.weight", want: "layer4|1|conv2"},
		{name: "node_MatMul_7", op: "MatMul", weight: "val_12", want: ""},
		// Names of modules with dots alone.
		{name: "layer1.0.conv1", op: "Conv", want: "layer1|0|conv1"},
		// tf2onnx and Keras.
		{name: "StatefulPartitionedCall/model/block1_conv1/Conv2D", op: "Conv", want: "StatefulPartitionedCall|model|block1_conv1"},
		{name: "resnet50/conv2_block1_1_conv/Conv2D", op: "Conv", want: "resnet50|conv2_block1_1_conv"},
		{name: "resnet_v1_50/block1/unit_1/bottleneck_v1/conv1/Conv2D__12", op: "Conv", want: "resnet_v1_50|block1|unit_1|bottleneck_v1|conv1"},
		{name: "Conv__9", op: "Conv", weight: "model/conv1/Conv2D/ReadVariableOp:0", want: "model|conv1|Conv2D"},
		// MXNet, Gluon, and what looks like it.
		{name: "vgg0_conv0_fwd", op: "Conv", want: "vgg0|conv0"},
		{name: "resnetv17_stage1_conv0_fwd", op: "Conv", want: "resnetv17|stage1|conv0"},
		{name: "stage1_unit1_conv1", op: "Conv", want: "stage1|unit1|conv1"},
		{name: "conv1_1", op: "Conv", want: "conv1|1"},
		{name: "fwd", op: "Conv", want: "fwd"},
		// Nothing to go by.
		{name: "", op: "Conv", want: ""},
		{name: "", op: "Conv", weight: "w", want: ""},
		{name: "%5", op: "Conv", want: ""},
		{name: "///", op: "Conv", want: ""},
		{name: "...", op: "Conv", want: ""},
		{name: "___", op: "Conv", want: ""},
		// Nested graphs and functions.
		{scope: "if_3/then_branch", name: "conv", op: "Conv", want: "if_3|then_branch|conv"},
		{scope: "/block/Call", name: "/conv/Conv", op: "Conv", want: "block|Call|conv"},
	} {
		l := inspect.Layer{Scope: c.scope, Name: c.name, Op: c.op, Weight: c.weight}
		if got := strings.Join(Modules(&l), "|"); got != c.want {
			t.Errorf("%q, weight %q: %q, want %q", c.name, c.weight, got, c.want)
		}
	}
}
