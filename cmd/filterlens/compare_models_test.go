package main

import (
	"encoding/binary"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// compareVariants writes copies of a chain of convolutions that are edited in a known
// way, and returns their paths by the name of a variable:
//
//	$RENAMED   every node, weight and inner tensor has another name, and so has the
//	           producer
//	$PERMUTED  the 16 filters of the third convolution in reverse, and so the channels
//	           that the fourth reads
//	$CUT       the third convolution without every fourth filter
//	$TUNED     one number of each filter of the classifier is another
//	$BFLOAT    all numbers of the weights as bfloat16
//	$IMAGE     the input has another name
//	$OPSET     another opset, producer and IR version
func compareVariants(t *testing.T, from, dir string) map[string]string {
	t.Helper()
	f, err := onnxfile.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	weights := map[string][]float32{}
	for _, p := range f.Model.Graph.Initializer {
		if p.GetDataType() == int32(onnxfile.Float) {
			if weights[p.GetName()], err = f.Tensor(p).Float32s(1 << 20); err != nil {
				t.Fatal(err)
			}
		}
	}
	paths := map[string]string{}
	for name, edit := range map[string]func(d *onnxfile.Draft){
		"RENAMED":  renameAll,
		"PERMUTED": func(d *onnxfile.Draft) { pickFilters(d, weights, func(i int) bool { return true }, true) },
		"CUT":      func(d *onnxfile.Draft) { pickFilters(d, weights, func(i int) bool { return i%4 != 0 }, false) },
		"TUNED": func(d *onnxfile.Draft) {
			p := d.Initializer("classifier.weight")
			w := slices.Clone(weights["classifier.weight"])
			for row := range p.Dims[0] {
				w[row*p.Dims[1]+3] += 0.25
			}
			d.SetFloat32(p, w, p.Dims...)
		},
		"BFLOAT": func(d *onnxfile.Draft) {
			for _, p := range d.Model.Graph.Initializer {
				if w, ok := weights[p.GetName()]; ok {
					var raw []byte
					for _, v := range w {
						bits := math.Float32bits(v)
						raw = binary.LittleEndian.AppendUint16(raw, uint16((bits+0x7fff+bits>>16&1)>>16)) // to the nearest, ties to even
					}
					d.SetRaw(p, onnxfile.BytesContent(raw))
					p.DataType = proto.Int32(int32(onnxfile.BFloat16))
				}
			}
		},
		"IMAGE": func(d *onnxfile.Draft) {
			in := d.Model.Graph.Input[0]
			for _, n := range d.Model.Graph.Node {
				for i, name := range n.Input {
					if name == in.GetName() {
						n.Input[i] = "image"
					}
				}
			}
			in.Name = proto.String("image")
		},
		"OPSET": func(d *onnxfile.Draft) {
			d.Model.OpsetImport[0].Version = proto.Int64(d.Model.OpsetImport[0].GetVersion() + 1)
			d.Model.IrVersion, d.Model.ProducerName = proto.Int64(9), proto.String("other")
		},
	} {
		d := f.Draft()
		edit(d)
		paths[name] = filepath.Join(dir, "compare-"+name+".onnx")
		if err := d.WriteFile(paths[name]); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// renameAll gives everything within the graph another name.
func renameAll(d *onnxfile.Draft) {
	g := d.Model.Graph
	d.Model.ProducerName = proto.String("other")
	outer := map[string]bool{}
	for _, v := range slices.Concat(g.Input, g.Output) {
		outer[v.GetName()] = true
	}
	rename := func(names []string) {
		for i, s := range names {
			if s != "" && !outer[s] {
				names[i] = "renamed_" + s
			}
		}
	}
	for i, n := range g.Node {
		n.Name = proto.String("node_" + string(rune('a'+i%26)) + string(rune('a'+i/26)))
		rename(n.Input)
		rename(n.Output)
	}
	for _, p := range g.Initializer {
		p.Name = proto.String("renamed_" + p.GetName())
	}
	g.ValueInfo = nil
}

// pickFilters leaves some filters of the third convolution, maybe in reverse, and the
// channels of the fourth that stand for them.
func pickFilters(d *onnxfile.Draft, weights map[string][]float32, keep func(i int) bool, reversed bool) {
	var convs []*onnxpb.NodeProto
	for _, n := range d.Model.Graph.Node {
		if n.GetOpType() == "Conv" {
			convs = append(convs, n)
		}
	}
	var list []int
	for i := range int(d.Initializer(convs[2].Input[1]).Dims[0]) {
		if keep(i) {
			list = append(list, i)
		}
	}
	if reversed {
		slices.Reverse(list)
	}
	pick := func(name string, axis int) {
		p := d.Initializer(name)
		dims := slices.Clone(p.Dims)
		outer, inner := 1, 1
		for i, n := range dims {
			switch {
			case i < axis:
				outer *= int(n)
			case i > axis:
				inner *= int(n)
			}
		}
		n := int(dims[axis])
		var out []float32
		for o := range outer {
			for _, i := range list {
				at := (o*n + i) * inner
				out = append(out, weights[name][at:at+inner]...)
			}
		}
		dims[axis] = int64(len(list))
		d.SetFloat32(p, out, dims...)
	}
	pick(convs[2].Input[1], 0)
	pick(convs[2].Input[2], 0)
	pick(convs[3].Input[1], 1)
	d.Model.Graph.ValueInfo = nil
}
