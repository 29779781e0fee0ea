package inspect

import (
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// Each definition is there when the model has what it defines, and only then.
func TestDefinitions(t *testing.T) {
	share := 0.5
	open := Value{Shape: Shape{Known: true, Dims: []Dim{{Value: -1, Name: "batch"}, {Value: 3}}}}
	fixed := Value{Shape: Shape{Known: true, Dims: []Dim{{Value: 8}, {Value: 3}}}}
	for _, test := range []struct {
		name      string
		m         Model
		want, not []string // parts of the text
		n         int      // definitions
	}{
		{"nothing", Model{}, []string{"parameters: elements of the weights of convolutions,", "MACs: multiply-accumulates of convolutions, Gemm and MatMul, bias not counted", "activation memory:"},
			[]string{"statistics", "constants", "zeros", "batch", "If", "Loop", "function", "share"}, 3},
		{"plain", Model{Inputs: []Value{open}, Layers: []Layer{{Op: "Conv", Parameters: 4}, {Op: "Gemm", Parameters: 2}}, Operators: []OpCount{{Op: "Conv"}, {Op: "Gemm"}, {Op: "MatMul"}}, Totals: Totals{Parameters: 6}},
			[]string{"parameters: elements of the weights and biases of Conv and Gemm", "MACs: multiply-accumulates of Conv, Gemm and MatMul, bias not counted, batch 1"}, []string{"share", "sparse", "PRelu", "scale"}, 3},
		{"a batch of its own", Model{Inputs: []Value{fixed}}, nil, []string{"batch"}, 3},
		{"shared", Model{Layers: []Layer{{Op: "MatMul", Parameters: 4}, {Op: "MatMul", Parameters: 4}}, Totals: Totals{Parameters: 4}}, []string{"a tensor that several nodes share counts once"}, nil, 3},
		{"normalised", Model{Layers: []Layer{{Op: "BatchNormalization"}, {Op: "PRelu"}}, Totals: Totals{Statistics: 2}},
			[]string{"elements of the scale and shift of BatchNormalization and of the slopes of PRelu", "statistics: running mean and variance"}, []string{"of the weights"}, 4},
		{"constants", Model{Totals: Totals{Constants: 1}}, []string{"constants: elements of all other stored tensors, those in attributes included"}, []string{"nested", "functions"}, 4},
		{"constants everywhere", Model{Functions: []Function{{}}, Totals: Totals{Constants: 1, Subgraphs: 1, TrainingNodes: 1}},
			[]string{"those in attributes, nested graphs, functions and training_info included"}, []string{"a function at each call", "a call of a function"}, 4},
		{"If", Model{Operators: []OpCount{{Op: "If"}}}, []string{"of an If the branch with more of them", "for an If the most of a body"}, []string{"Loop", "function"}, 3},
		{"an If of others", Model{Operators: []OpCount{{Op: "If", Domain: "local"}}}, nil, []string{"If"}, 3},
		{"loops", Model{Operators: []OpCount{{Op: "Loop"}, {Op: "Scan"}}}, []string{"the body of Loop and Scan as often as it runs", "the most of a body of Loop and Scan adds"}, []string{"If"}, 3},
		{"functions", Model{Functions: []Function{{Calls: 1}}}, []string{"; a function at each call", "for a call of a function the most of a body"}, []string{"If"}, 3},
		{"zeros", Model{Operators: []OpCount{{Op: "Gemm"}}, Layers: []Layer{{Op: "Gemm", Zeros: &share}}, Totals: Totals{Zeros: &share}}, []string{"zeros: share of a weight's elements that are exactly zero"}, []string{"in the total"}, 4},
		{"zeros of a part", Model{Operators: []OpCount{{Op: "Gemm"}}, Layers: []Layer{{Op: "Gemm", Zeros: &share}, {Op: "PRelu", Zeros: &share}}, Totals: Totals{Zeros: &share}},
			[]string{"in the total, of those of Gemm"}, nil, 4},
	} {
		list := test.m.Definitions()
		text := strings.Join(list, "\n")
		if len(list) != test.n {
			t.Errorf("%s: %d definitions, want %d:\n%s", test.name, len(list), test.n, text)
		}
		for _, want := range test.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", test.name, want, text)
			}
		}
		for _, not := range test.not {
			if strings.Contains(text, not) {
				t.Errorf("%s: %q in\n%s", test.name, not, text)
			}
		}
	}
}

// A weight without elements for every place still has those of its dense shape.
func TestDefinitionsSparse(t *testing.T) {
	m := Model{Graph: &Graph{layers: []foundLayer{{}}}, Layers: []Layer{{Op: "Gemm"}}}
	if text := strings.Join(m.Definitions(), "\n"); strings.Contains(text, "sparse") {
		t.Error(text)
	}
	m.Graph.layers[0].bias.sparse = new(onnxpb.SparseTensorProto)
	if text := strings.Join(m.Definitions(), "\n"); !strings.Contains(text, "a sparse tensor has the elements of its dense shape") {
		t.Error(text)
	}
}
