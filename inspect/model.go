// Package inspect is what a model is: its graph, the shapes of its tensors, its
// layers and what they cost.
//
// It reads skeletons (package onnxfile) and runs nothing; neither a runtime nor
// the method's mathematics may enter. Weights are read only when asked for.
package inspect

import (
	"context"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// Options says what New is to find out.
type Options struct {
	// InputShapes replaces declared input shapes; -1 leaves a dimension as it
	// is declared.
	InputShapes map[string][]int64
	// Dims gives symbolic dimensions of the inputs a size, by name.
	Dims map[string]int64
	// Batch, when positive, is the first dimension of every input that leaves
	// it open.
	Batch int64
	// Weights reads the weights and counts their zeros.
	Weights bool
	// Statistics reads the weights and fills Model.Tensors.
	Statistics bool
}

// A Model is what can be said of a file without running it.
type Model struct {
	// File is the name it was opened with.
	File string `json:"file"`
	// FileBytes is its size, ExternalBytes that of the data stored beside it,
	// each byte once.
	FileBytes       int64   `json:"file_bytes"`
	ExternalBytes   int64   `json:"external_bytes"`
	IRVersion       int64   `json:"ir_version"`
	Opsets          []Opset `json:"opsets"`
	Producer        string  `json:"producer,omitempty"`
	ProducerVersion string  `json:"producer_version,omitempty"`
	Domain          string  `json:"domain,omitempty"`
	ModelVersion    int64   `json:"model_version,omitempty"`
	Doc             string  `json:"doc,omitempty"`
	Metadata        []KV    `json:"metadata"`
	// Inputs are the tensors that have to be fed, Outputs those that come out.
	Inputs  []Value `json:"inputs"`
	Outputs []Value `json:"outputs"`
	// Operators counts the nodes of the main graph and of the graphs nested in
	// it, most frequent first. Those in the bodies of Functions do not count
	// unless a node calls the function; then they count once, as they stand in
	// the file, however many calls there are.
	Operators []OpCount `json:"operators"`
	// Functions are the operators that the model defines itself.
	Functions []Function `json:"functions,omitempty"`
	// Layers lists the nodes that hold parameters, in the order in which they
	// run; those of a nested graph or of a function that is called stand where
	// the node stands that it belongs to.
	Layers []Layer `json:"layers"`
	// Types sums up all stored tensors by element type, most bytes first: in
	// nested graphs, functions, attributes and training_info too. The values of a
	// sparse one and their places are two tensors.
	Types  []TypeCount `json:"types"`
	Totals Totals      `json:"totals"`
	// Tensors holds the statistics of all stored tensors, in the order of the
	// file; nil when they were not asked for.
	Tensors []TensorStats `json:"tensors,omitempty"`

	// Options are those that New was called with.
	Options Options `json:"-"`

	Graph  *Graph         `json:"-"`
	Handle *onnxfile.File `json:"-"`
}

// An Opset is a version of an operator set; the domain of ONNX itself is "".
type Opset struct {
	Domain  string `json:"domain"`
	Version int64  `json:"version"`
}

// A Function is an operator that the model defines itself.
type Function struct {
	Name   string `json:"name"`
	Domain string `json:"domain"`
	// Nodes counts those of its body, Calls the nodes that stand for it among
	// those that Model.Operators counts.
	Nodes int `json:"nodes"`
	Calls int `json:"calls"`
}

// A TypeCount sums up the stored tensors of one element type.
type TypeCount struct {
	DType    string `json:"dtype"`
	Tensors  int    `json:"tensors"`
	Elements int64  `json:"elements"`
	// Bytes is what they take where they are stored.
	Bytes int64 `json:"bytes"`
}

// A KV is an entry of the model's metadata.
type KV struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// A Value is an input or output of the model.
type Value struct {
	Name string `json:"name"`
	// DType is the ONNX name of the element type in lower case, or a form like
	// "sequence(float)"; "" when it is not declared.
	DType string `json:"dtype"`
	Shape Shape  `json:"shape"`
}

// An OpCount says how often an operator occurs.
type OpCount struct {
	Op     string `json:"op"`
	Domain string `json:"domain,omitempty"`
	Count  int    `json:"count"`
}

// Totals sums up a model. Model.Definitions says what is counted.
type Totals struct {
	Layers     int   `json:"layers"`
	Parameters int64 `json:"parameters"`
	// ParametersUnknown counts weights that are computed from stored numbers and
	// have a shape that is not known; Parameters is without them.
	ParametersUnknown int   `json:"parameters_unknown,omitempty"`
	Statistics        int64 `json:"statistics"`
	Constants         int64 `json:"constants"`
	// MACs sums the nodes whose shapes are known, nil when there are some and
	// none is known; MACsUnknown counts the others.
	MACs        *int64 `json:"macs"`
	MACsUnknown int    `json:"macs_unknown"`
	// WeightBytes is what the parameters and statistics take where they are
	// stored.
	WeightBytes int64 `json:"weight_bytes"`
	// PeakActivationBytes is the largest sum of the bytes of all tensors that
	// are alive at once, weights not counted, when nodes run one by one in
	// order and nothing is computed in place. It is nil when there are
	// activations and the size of none is known; ActivationsUnknown counts
	// those that are left out. PeakNode is the node at which it is reached.
	PeakActivationBytes *int64 `json:"peak_activation_bytes"`
	PeakNode            string `json:"peak_node,omitempty"`
	ActivationsUnknown  int    `json:"activations_unknown"`
	// Nodes counts as Operators does; Subgraphs counts the graphs nested in
	// attributes, at any depth.
	Nodes     int `json:"nodes"`
	Subgraphs int `json:"subgraphs"`
	// TrainingNodes counts the nodes of training_info.
	TrainingNodes int `json:"training_nodes,omitempty"`
	// Zeros is the share of exact zeros among the weights of Conv,
	// ConvTranspose, Gemm and MatMul, each tensor counted once; nil when the
	// weights were not read.
	Zeros *float64 `json:"zeros"`
}

// New describes the model in f, which must stay open as long as the Model is
// used. Weights are read only when opt asks for it; then a tensor that cannot
// be read is an error (*onnxfile.TensorError) and ctx stops the reading. A
// shape that does not fit the model is an *OptionError.
func New(ctx context.Context, f *onnxfile.File, opt Options) (*Model, error) {
	g, err := NewGraph(f, opt)
	if err != nil {
		return nil, err
	}
	pb := f.Model
	m := &Model{
		File:            f.Name,
		FileBytes:       f.Size,
		IRVersion:       pb.GetIrVersion(),
		Opsets:          []Opset{},
		Producer:        pb.GetProducerName(),
		ProducerVersion: pb.GetProducerVersion(),
		Domain:          pb.GetDomain(),
		ModelVersion:    pb.GetModelVersion(),
		Doc:             pb.GetDocString(),
		Metadata:        []KV{},
		Inputs:          []Value{},
		Outputs:         []Value{},
		Options:         opt,
		Graph:           g,
		Handle:          f,
	}
	for _, o := range pb.GetOpsetImport() {
		m.Opsets = append(m.Opsets, Opset{o.GetDomain(), o.GetVersion()})
	}
	for _, kv := range pb.GetMetadataProps() {
		m.Metadata = append(m.Metadata, KV{kv.GetKey(), kv.GetValue()})
	}
	for _, v := range pb.GetGraph().GetInput() {
		if g.IsInput(v.GetName()) {
			m.Inputs = append(m.Inputs, g.Value(v.GetName()))
		}
	}
	for _, v := range pb.GetGraph().GetOutput() {
		m.Outputs = append(m.Outputs, g.Value(v.GetName()))
	}
	m.count(m.findLayers())
	m.findPeak()
	if err := m.checkChannels(opt); err != nil {
		return nil, err
	}
	if opt.Weights || opt.Statistics {
		if err := m.readWeights(ctx); err != nil {
			return nil, err
		}
	}
	return m, ctx.Err()
}
