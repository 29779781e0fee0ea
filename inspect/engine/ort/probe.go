//go:build cgo

package ort

import "google.golang.org/protobuf/encoding/protowire"

// probeModel returns a graph of one node, y = Relu(x) over one float: enough to
// make an execution provider start up.
func probeModel() []byte { return oneNode("Relu", 1, true) }

// oneNode returns the model y = op(x). Both have the element type of that number
// in TensorProto.DataType and the shape [1], or any.
func oneNode(op string, elem uint64, one bool) []byte {
	msg := func(num protowire.Number, b, sub []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), sub)
	}
	num := func(n protowire.Number, b []byte, x uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), x)
	}
	tensor := num(tensorElem, nil, elem)
	if one {
		tensor = msg(tensorShape, tensor, msg(shapeDim, nil, num(dimValue, nil, 1)))
	}
	info := func(name string) []byte {
		return msg(valueType, msg(valueName, nil, []byte(name)), msg(typeTensor, nil, tensor))
	}
	node := msg(1, nil, []byte("x")) // NodeProto.input
	node = msg(2, node, []byte("y")) // NodeProto.output
	node = msg(4, node, []byte(op))  // NodeProto.op_type
	graph := msg(1, nil, node)
	graph = msg(2, graph, []byte("probe"))
	graph = msg(graphInput, graph, info("x"))
	graph = msg(graphOutput, graph, info("y"))
	model := num(1, nil, 8) // ir_version
	model = msg(modelGraph, model, graph)
	return msg(8, model, num(2, nil, 13)) // opset_import
}
