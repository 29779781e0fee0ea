package delta

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// attributeInput names the attribute that older operator sets have in the place
// of a constant input; "" where there is none.
func attributeInput(op string, slot int) string {
	names := []string{}
	switch op {
	case "Clip":
		names = []string{"", "min", "max"}
	case "Reshape", "Expand":
		names = []string{"", "shape"}
	case "Squeeze", "Unsqueeze", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp":
		names = []string{"", "axes"}
	case "Slice":
		names = []string{"", "starts", "ends", "axes", "steps"}
	case "Pad":
		names = []string{"", "pads", "value", "axes"}
	case "Split":
		names = []string{"", "split"}
	case "Tile":
		names = []string{"", "repeats"}
	case "TopK":
		names = []string{"", "k"}
	case "Upsample":
		names = []string{"", "scales"}
	case "Resize":
		names = []string{"", "roi", "scales", "sizes"}
	case "Dropout":
		names = []string{"", "ratio"}
	}
	if slot < len(names) {
		return names[slot]
	}
	return ""
}

// defaultText is what an attribute means where it is left out; ones and zeros
// stand for lists of any length.
func defaultText(op, name string) string {
	switch op + "." + name {
	case "Conv.strides", "Conv.dilations", "MaxPool.strides", "MaxPool.dilations", "AveragePool.strides", "AveragePool.dilations",
		"ConvTranspose.strides", "ConvTranspose.dilations", "LpPool.strides", "LpPool.dilations":
		return "ones"
	case "Conv.pads", "MaxPool.pads", "AveragePool.pads", "ConvTranspose.pads", "ConvTranspose.output_padding", "LpPool.pads":
		return "zeros"
	case "Conv.group", "ConvTranspose.group", "Flatten.axis", "LogSoftmax.noaxis", "Gemm.alpha", "Gemm.beta",
		"ReduceMean.keepdims", "ReduceSum.keepdims", "ReduceMax.keepdims", "ReduceMin.keepdims", "ReduceL2.keepdims", "ReduceL1.keepdims",
		"ReduceProd.keepdims", "ReduceSumSquare.keepdims", "ArgMax.keepdims", "ArgMin.keepdims", "TopK.largest", "TopK.sorted", "Elu.alpha",
		"LRN.bias", "BatchNormalization.spatial", "LayerNormalization.stash_type":
		return "1"
	case "Conv.auto_pad", "MaxPool.auto_pad", "AveragePool.auto_pad", "ConvTranspose.auto_pad", "LpPool.auto_pad":
		return "NOTSET"
	case "MaxPool.ceil_mode", "MaxPool.storage_order", "AveragePool.ceil_mode", "AveragePool.count_include_pad", "Gemm.transA", "Gemm.transB",
		"Reshape.allowzero", "Pad.value", "ReduceMean.noop_with_empty_axes", "ReduceSum.noop_with_empty_axes", "ReduceMax.noop_with_empty_axes",
		"ReduceMin.noop_with_empty_axes", "Gather.axis", "Split.axis", "Concat.noaxis", "ArgMax.axis", "ArgMin.axis", "ArgMax.select_last_index",
		"ArgMin.select_last_index", "BatchNormalization.training_mode", "Cast.saturate", "Resize.antialias":
		return "0"
	case "Pad.mode":
		return "constant"
	case "Slice.steps":
		return "ones"
	case "LeakyRelu.alpha":
		return "0.01"
	case "HardSigmoid.alpha":
		return "0.2"
	case "HardSigmoid.beta":
		return "0.5"
	case "Gelu.approximate":
		return "none"
	case "LRN.alpha":
		return "0.0001"
	case "LRN.beta":
		return "0.75"
	case "BatchNormalization.epsilon", "InstanceNormalization.epsilon", "LayerNormalization.epsilon":
		return "1e-05"
	case "BatchNormalization.momentum":
		return "0.9"
	case "LayerNormalization.axis":
		return "-1"
	case "Resize.mode", "Upsample.mode":
		return "nearest"
	case "Resize.coordinate_transformation_mode":
		return "half_pixel"
	case "Resize.cubic_coeff_a":
		return "-0.75"
	case "Resize.nearest_mode":
		return "round_prefer_floor"
	case "Resize.exclude_outside", "Resize.extrapolation_value":
		return "0"
	}
	return ""
}

// isDefault compares an attribute with its default.
func isDefault(op string, a attribute) bool {
	d := defaultText(op, a.name)
	all := func(x string) bool {
		f := strings.Fields(strings.Trim(a.text, "[]"))
		return !slices.ContainsFunc(f, func(s string) bool { return s != x })
	}
	switch d {
	case "":
		return false
	case "ones":
		return all("1")
	case "zeros":
		return all("0")
	}
	return a.text == d
}

// attributes describes what n was told, whichever operator set it was written
// for, sorted by name. consumed tells which inputs are among them. weight is that
// of a Conv.
func (c *canon) attributes(s *scope, n *inspect.Node, weight *view) (list []attribute, consumed map[int]bool, err error) {
	consumed = map[int]bool{}
	texts := map[string]string{}
	for _, p := range n.Proto.GetAttribute() {
		a := n.Attr(p.GetName()) // in a function's body, that of the call
		if a == nil || a.G != nil || len(a.Graphs) > 0 || weight != nil && strings.HasPrefix(p.GetName(), "activation") {
			continue // graphs and what a FusedConv ends in are told apart
		}
		text, err := c.attributeText(a)
		if err != nil {
			return nil, nil, err
		}
		texts[p.GetName()] = text
	}
	if n.Standard() {
		for i, in := range n.Inputs {
			name := attributeInput(n.Op, i)
			if name == "" || in == "" {
				continue
			}
			v, err := c.constant(s, in)
			if err != nil {
				return nil, nil, err
			}
			if v == nil {
				continue
			}
			x, err := c.small(s, in)
			if err != nil {
				return nil, nil, err
			}
			if x == nil && v.count() > 0 {
				continue
			}
			consumed[i] = true
			switch {
			case v.count() == 0:
			case len(v.dims) == 0 || name == "k":
				texts[name] = number(x[0], v.dtype)
			default:
				texts[name] = numbers(x, v.dtype)
			}
		}
		if err := c.normalise(s, n, texts, weight); err != nil {
			return nil, nil, err
		}
	}
	for name, text := range texts {
		if a := (attribute{name, text}); !n.Standard() || !isDefault(n.Op, a) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b attribute) int { return cmp.Compare(a.name, b.name) })
	return list, consumed, nil
}

func number(x float64, d onnxfile.DType) string {
	if d == onnxfile.Double || !d.IsFloat() {
		return strconv.FormatFloat(x, 'g', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', -1, 32)
}

func numbers(v []float64, d onnxfile.DType) string {
	var parts []string
	for _, x := range v {
		if d.IsInteger() && math.Abs(x) < 1<<62 {
			parts = append(parts, strconv.FormatInt(int64(x), 10))
		} else {
			parts = append(parts, number(x, d))
		}
	}
	return "[" + strings.Join(parts, " ") + "]"
}

func integers(text string) []int64 {
	var v []int64
	for _, f := range strings.Fields(strings.Trim(text, "[]")) {
		if x, err := strconv.ParseInt(f, 10, 64); err == nil {
			v = append(v, x)
		}
	}
	return v
}

// normalise brings what depends on ranks, shapes and operator sets to one form.
func (c *canon) normalise(s *scope, n *inspect.Node, texts map[string]string, weight *view) error {
	x := s.g.Shape(n.Input(0))
	rank := int64(len(x.Dims))
	positive := func(name string) {
		v := integers(texts[name])
		if !x.Known || texts[name] == "" {
			return
		}
		for i := range v {
			if v[i] < 0 {
				v[i] += rank
			}
		}
		if n.Op != "Slice" && n.Op != "Pad" {
			slices.Sort(v)
		}
		if strings.HasPrefix(texts[name], "[") {
			texts[name] = fmt.Sprint(v)
		} else if len(v) == 1 {
			texts[name] = strconv.FormatInt(v[0], 10)
		}
	}
	if n.Op == "Unsqueeze" && x.Known {
		rank += int64(len(integers(texts["axes"])))
	}
	switch n.Op {
	case "Softmax", "LogSoftmax", "Hardmax":
		if texts["axis"] == "" {
			texts["axis"] = "1"
			if s.g.Opset("") >= 13 {
				texts["axis"] = "-1"
			}
		}
	}
	positive("axis")
	positive("axes")
	switch n.Op {
	case "Conv":
		if weight != nil && len(weight.dims) >= 3 {
			texts["kernel_shape"] = fmt.Sprint(weight.dims[2:])
		}
		if texts["auto_pad"] != "" && texts["auto_pad"] != "NOTSET" {
			delete(texts, "pads")
		}
	case "Clip":
		for name, limit := range map[string]float64{"min": -math.MaxFloat32, "max": math.MaxFloat32} {
			if v, err := strconv.ParseFloat(strings.Trim(texts[name], "[]"), 64); err == nil {
				texts[name] = number(v, onnxfile.Float)
				if v == limit || math.IsInf(v, 0) {
					delete(texts, name)
				}
			}
		}
	case "Reshape":
		y := s.g.Shape(n.Output(0))
		if y.Known {
			var dims []string
			for _, d := range y.Dims {
				if d.Value >= 0 {
					dims = append(dims, strconv.FormatInt(d.Value, 10))
				} else {
					dims = append(dims, "?")
				}
			}
			texts["shape"] = "[" + strings.Join(dims, " ") + "]"
			delete(texts, "allowzero")
		}
	case "Slice":
		normaliseSlice(x, texts)
	case "Pad":
		if texts["paddings"] != "" {
			texts["pads"] = texts["paddings"]
			delete(texts, "paddings")
		}
		if texts["mode"] != "" && texts["mode"] != "constant" {
			delete(texts, "value")
		}
		texts["value"] = strings.Trim(texts["value"], "[]")
		if texts["value"] == "" {
			delete(texts, "value")
		}
	case "BatchNormalization":
		delete(texts, "momentum")
		delete(texts, "consumed_inputs")
		delete(texts, "is_test")
	case "Dropout":
		delete(texts, "is_test")
		delete(texts, "seed")
	case "Split":
		if y := s.g.Shape(n.Output(0)); texts["split"] == "" && y.Known {
			axis := integers(cmp.Or(texts["axis"], "0"))
			var sizes []int64
			for _, out := range n.Outputs {
				z := s.g.Shape(out)
				if len(axis) == 1 && z.Known && axis[0] >= 0 && axis[0] < int64(len(z.Dims)) {
					sizes = append(sizes, z.Dims[axis[0]].Value)
				}
			}
			if len(sizes) == len(n.Outputs) {
				texts["split"] = fmt.Sprint(sizes)
			}
		}
		delete(texts, "num_outputs")
	}
	delete(texts, "consumed_inputs")
	return nil
}

// normaliseSlice writes ends beyond the last element as "end" and all axes.
func normaliseSlice(x inspect.Shape, texts map[string]string) {
	starts, ends := integers(texts["starts"]), integers(texts["ends"])
	if len(starts) != len(ends) || len(starts) == 0 {
		return
	}
	axes := integers(texts["axes"])
	if texts["axes"] == "" {
		for i := range starts {
			axes = append(axes, int64(i))
		}
	}
	if len(axes) != len(starts) {
		return
	}
	var text []string
	for i, e := range ends {
		size := int64(-1)
		if x.Known && axes[i] >= 0 && axes[i] < int64(len(x.Dims)) {
			size = x.Dims[axes[i]].Value
		}
		switch {
		case e >= math.MaxInt32 || size >= 0 && e >= size:
			text = append(text, "end")
		default:
			text = append(text, strconv.FormatInt(e, 10))
		}
	}
	texts["axes"], texts["ends"] = fmt.Sprint(axes), "["+strings.Join(text, " ")+"]"
}

// attributeText writes an attribute's value; of a tensor, type, shape and numbers,
// or a digest of them where they are many.
func (c *canon) attributeText(a *onnxpb.AttributeProto) (string, error) {
	var parts []string
	if a.F != nil {
		parts = append(parts, strconv.FormatFloat(float64(a.GetF()), 'g', -1, 32))
	}
	if a.I != nil {
		parts = append(parts, strconv.FormatInt(a.GetI(), 10))
	}
	if a.S != nil {
		parts = append(parts, string(a.S))
	}
	if len(a.Floats) > 0 {
		v := make([]float64, len(a.Floats))
		for i, x := range a.Floats {
			v[i] = float64(x)
		}
		parts = append(parts, numbers(v, onnxfile.Float))
	}
	if len(a.Ints) > 0 {
		parts = append(parts, fmt.Sprint(a.Ints))
	}
	if len(a.Strings) > 0 {
		parts = append(parts, fmt.Sprintf("%q", a.Strings))
	}
	for _, t := range append([]*onnxpb.TensorProto{a.T}, a.Tensors...) {
		if t != nil {
			s, err := c.tensorText(t)
			if err != nil {
				return "", err
			}
			parts = append(parts, s)
		}
	}
	for _, t := range append([]*onnxpb.SparseTensorProto{a.SparseTensor}, a.SparseTensors...) {
		if t != nil {
			s, err := c.sparseText(t)
			if err != nil {
				return "", err
			}
			parts = append(parts, s)
		}
	}
	for _, t := range append([]*onnxpb.TypeProto{a.Tp}, a.TypeProtos...) {
		if t != nil {
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(t)
			if err != nil {
				return "", err
			}
			parts = append(parts, fmt.Sprintf("type %x", b))
		}
	}
	if len(parts) == 0 {
		return "[]", nil
	}
	return strings.Join(parts, ", "), nil
}

func (c *canon) sparseText(t *onnxpb.SparseTensorProto) (string, error) {
	s := fmt.Sprintf("sparse %v", t.GetDims())
	for _, p := range []*onnxpb.TensorProto{t.GetValues(), t.GetIndices()} {
		if p == nil {
			continue
		}
		x, err := c.tensorText(p)
		if err != nil {
			return "", err
		}
		s += " " + x
	}
	return s, nil
}

func (c *canon) tensorText(p *onnxpb.TensorProto) (string, error) {
	t := c.m.Handle.Tensor(p)
	s := fmt.Sprintf("%s%v", t.DType(), t.Dims())
	n, err := t.Elements()
	if err != nil {
		return "", err
	}
	if n <= 16 {
		v := &view{t: t, stored: true, rows: n, cols: 1}
		x, err := v.load(c.ctx)
		if err == nil {
			return s + " " + numbers(x, t.DType()), nil
		}
		if !errors.Is(err, onnxfile.ErrUnsupportedType) {
			return "", err
		}
	}
	sum, err := t.Hash(c.ctx)
	if errors.Is(err, onnxfile.ErrUnsupportedType) {
		return s, nil
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s SHA-256 %x", s, sum[:8]), nil
}
