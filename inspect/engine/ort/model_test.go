//go:build cgo

package ort

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The test models are written here field by field, so that the tests depend on
// no other room's reading or writing of ONNX.

func msg(b []byte, n protowire.Number, sub []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), sub)
}

func str(b []byte, n protowire.Number, s string) []byte { return msg(b, n, []byte(s)) }

func num(b []byte, n protowire.Number, x int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(x))
}

// dim is a dimension: an int64, or a string that names it.
type dim any

// elem is the number of an element type in TensorProto.DataType.
type elem int64

const (
	elemFloat   elem = 1
	elemUint8   elem = 2
	elemInt64   elem = 7
	elemString  elem = 8
	elemBool    elem = 9
	elemFloat16 elem = 10
)

// tensorInfo is a ValueInfoProto of a tensor; a nil shape is left out.
func tensorInfo(name string, t elem, shape []dim) []byte {
	tensor := num(nil, 1, int64(t))
	if shape != nil {
		var s []byte
		for _, d := range shape {
			var one []byte
			switch d := d.(type) {
			case int:
				one = num(nil, 1, int64(d))
			case string:
				one = str(nil, 2, d)
			}
			s = msg(s, 1, one)
		}
		tensor = msg(tensor, 2, s)
	}
	return msg(str(nil, 1, name), 2, msg(nil, 1, tensor))
}

type attr struct {
	name string
	i    int64
}

func node(op string, in, out []string, attrs ...attr) []byte {
	var b []byte
	for _, s := range in {
		b = str(b, 1, s)
	}
	for _, s := range out {
		b = str(b, 2, s)
	}
	b = str(b, 4, op)
	for _, a := range attrs {
		b = msg(b, 5, num(num(str(nil, 1, a.name), 3, a.i), 20, 2))
	}
	return b
}

func floats(name string, data []float32, shape ...int64) []byte {
	var b []byte
	for _, d := range shape {
		b = num(b, 1, d)
	}
	b = num(b, 2, int64(elemFloat))
	b = str(b, 8, name)
	var raw []byte
	for _, x := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return msg(b, 9, raw)
}

type graph struct {
	nodes, initializers, inputs, outputs [][]byte
}

func (g graph) model() []byte {
	var b []byte
	for _, n := range g.nodes {
		b = msg(b, 1, n)
	}
	b = str(b, 2, "test")
	for _, t := range g.initializers {
		b = msg(b, 5, t)
	}
	for _, v := range g.inputs {
		b = msg(b, 11, v)
	}
	for _, v := range g.outputs {
		b = msg(b, 12, v)
	}
	m := num(nil, 1, 8)
	m = msg(m, 7, b)
	return msg(m, 8, num(nil, 2, 17))
}

// reluModel computes y = max(x, 0) for x of shape [N, 3].
func reluModel() []byte {
	return graph{
		nodes:   [][]byte{node("Relu", []string{"x"}, []string{"y"})},
		inputs:  [][]byte{tensorInfo("x", elemFloat, []dim{"N", 3})},
		outputs: [][]byte{tensorInfo("y", elemFloat, []dim{"N", 3})},
	}.model()
}

// identityModel copies x of one type and shape to y.
func identityModel(t elem, shape ...dim) []byte {
	if shape == nil {
		shape = []dim{}
	}
	return graph{
		nodes:   [][]byte{node("Identity", []string{"x"}, []string{"y"})},
		inputs:  [][]byte{tensorInfo("x", t, shape)},
		outputs: [][]byte{tensorInfo("y", t, shape)},
	}.model()
}

// slowModel multiplies x of shape [n, n] with itself steps times.
func slowModel(n, steps int) []byte {
	g := graph{
		inputs:  [][]byte{tensorInfo("x", elemFloat, []dim{n, n})},
		outputs: [][]byte{tensorInfo("y", elemFloat, []dim{n, n})},
	}
	prev := "x"
	for i := range steps {
		next := "y"
		if i < steps-1 {
			next = "t" + string(rune('0'+i/100)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10))
		}
		g.nodes = append(g.nodes, node("MatMul", []string{prev, "x"}, []string{next}))
		prev = next
	}
	return g.model()
}
