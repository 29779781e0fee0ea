package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// CompareOptions says what counts as a difference. The zero value is exact.
type CompareOptions struct {
	// RTol and ATol are the tolerances of a tensor's values: b is within when
	// |b-a| <= ATol + RTol*|a|. Both must be finite and not negative.
	RTol, ATol float64
	// IgnoreMetadata leaves out what no runtime reads: producer, domain, model
	// version, graph name, metadata_props and the names of nodes.
	IgnoreMetadata bool
}

// A Comparison is what differs between two models, A and B. Everything in it
// is matched by name; its order is that of A, then of what only B has. Order of
// nodes and initializers, doc strings, value_info and metadata of parts are
// not compared.
type Comparison struct {
	// A and B are the names of the files.
	A string `json:"a"`
	B string `json:"b"`
	// RTol and ATol are the tolerances that it was made with.
	RTol float64 `json:"rtol"`
	ATol float64 `json:"atol"`
	// Same says that there is no structural change and every tensor is Same.
	Same bool `json:"same"`
	// Structure lists what differs outside the weights.
	Structure []Change `json:"structure"`
	// Tensors lists all weights, changed or not.
	Tensors []TensorComparison `json:"tensors"`
	Totals  ComparisonTotals   `json:"totals"`
}

// ChangeKind tells on which side of a comparison something is.
type ChangeKind string

// The kinds of change.
const (
	Added   ChangeKind = "added"   // B has it, A does not
	Removed ChangeKind = "removed" // A has it, B does not
	Changed ChangeKind = "changed" // both have it, and it differs
)

// A Change is one structural difference.
type Change struct {
	Kind ChangeKind `json:"kind"`
	// What it is: ir_version, opset, producer_name, producer_version, domain,
	// model_version, graph_name, metadata, input, output, node (a changed one
	// was renamed), operator, attribute, node_input, node_output, function,
	// sparse_initializer, training_info, quantization_annotation, configuration.
	What string `json:"what"`
	// Node is the node that an operator, attribute, node_input or node_output
	// belongs to: its name in A, else its first output.
	Node string `json:"node,omitempty"`
	// Name is the name of what changed; that of a node_input or node_output is
	// its position. It is empty for a single field and for the order of a list.
	Name string `json:"name,omitempty"`
	// From and To are the values in A and B as text; empty where there is none.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// A TensorComparison compares one weight: an initializer or the tensor of a
// Constant node. Differences are b-a, computed in float64.
type TensorComparison struct {
	Name string `json:"name"`
	// Kind is empty when type, shape and all values are the same.
	Kind ChangeKind `json:"kind,omitempty"`
	// Same says that type and shape are equal and every value is within the
	// tolerance. Equal infinities are the same, and so are two NaNs.
	Same bool `json:"same"`
	// A and B describe the two sides; nil where the tensor is missing.
	A *TensorSide `json:"a,omitempty"`
	B *TensorSide `json:"b,omitempty"`
	// Values is nil when values were not compared: the tensor is on one side
	// only, the shapes differ, or the type's values cannot be read (then the
	// bytes were compared, if the types are equal).
	Values *ValueComparison `json:"values,omitempty"`
}

// A TensorSide describes a tensor in one of the models.
type TensorSide struct {
	DType string  `json:"dtype"`
	Dims  []int64 `json:"dims"`
	// Zeros is the number of elements that are zero, nil for types whose values
	// cannot be read.
	Zeros *int64 `json:"zeros"`
}

// A ValueComparison counts and measures the differences of n pairs of values.
type ValueComparison struct {
	Elements int64 `json:"elements"`
	// Changed counts values that differ at all, Beyond those that differ by
	// more than the tolerance.
	Changed int64 `json:"changed"`
	Beyond  int64 `json:"beyond"`
	// NewZeros counts elements that are zero in B only, GoneZeros in A only.
	NewZeros  int64 `json:"new_zeros"`
	GoneZeros int64 `json:"gone_zeros"`
	// MaxAbs is the largest |b-a|. It is nil (null in JSON) when it is not a
	// finite number because a changed value is NaN or infinite.
	MaxAbs *float64 `json:"max_abs"`
	// RelL2 is ||b-a|| / ||a|| over the values that are finite on both sides.
	// It is nil like MaxAbs, and when all values of A are zero and B's are not.
	RelL2 *float64 `json:"rel_l2"`

	sumA, sumDiff float64 // squares
	nonFinite     bool    // a changed value is NaN or infinite
}

// ComparisonTotals sums up the tensors of a comparison.
type ComparisonTotals struct {
	// Tensors counts those that both models have; Changed is the part of them
	// that differs in type, shape or any value, Beyond the part that is not Same.
	Tensors int `json:"tensors"`
	Changed int `json:"changed"`
	Beyond  int `json:"beyond"`
	Added   int `json:"added"`
	Removed int `json:"removed"`
	// Elements and what follows are sums over the tensors with values compared;
	// RelL2 is taken over all of those with floating-point values in A as one
	// vector, nil as in ValueComparison.
	Elements        int64    `json:"elements"`
	ElementsChanged int64    `json:"elements_changed"`
	ElementsBeyond  int64    `json:"elements_beyond"`
	NewZeros        int64    `json:"new_zeros"`
	GoneZeros       int64    `json:"gone_zeros"`
	RelL2           *float64 `json:"rel_l2"`
}

// Compare compares structure and weights of two models by name. Tensors are
// read block by block, several at a time; memory does not grow with the models.
// A tensor that cannot be read gives an *onnxfile.TensorError. Graphs nested in
// attributes count as parts of their attribute.
func Compare(ctx context.Context, a, b *onnxfile.File, opt CompareOptions) (*Comparison, error) {
	for _, tol := range []float64{opt.RTol, opt.ATol} {
		if tol < 0 || !finite(tol) {
			return nil, fmt.Errorf("tolerance %v: it must be a finite number, zero or more", tol)
		}
	}
	s := &structureComparison{a: a, b: b, opt: opt}
	s.model(a.Model, b.Model)
	if s.err != nil {
		return nil, s.err
	}
	c := &Comparison{A: a.Name, B: b.Name, RTol: opt.RTol, ATol: opt.ATol, Structure: s.changes}
	if c.Structure == nil {
		c.Structure = []Change{}
	}
	var err error
	if c.Tensors, err = compareTensors(ctx, a, b, opt); err != nil {
		return nil, err
	}
	c.sum()
	return c, nil
}

func (c *Comparison) sum() {
	t := &c.Totals
	var all ValueComparison
	c.Same = len(c.Structure) == 0
	for i := range c.Tensors {
		x := &c.Tensors[i]
		c.Same = c.Same && x.Same
		switch x.Kind {
		case Added:
			t.Added++
			continue
		case Removed:
			t.Removed++
			continue
		case Changed:
			t.Changed++
		}
		t.Tensors++
		if !x.Same {
			t.Beyond++
		}
		if v := x.Values; v != nil {
			t.Elements += v.Elements
			t.ElementsChanged += v.Changed
			t.ElementsBeyond += v.Beyond
			t.NewZeros += v.NewZeros
			t.GoneZeros += v.GoneZeros
			if strings.Contains(x.A.DType, "float") || x.A.DType == "double" {
				all.sumA += v.sumA
				all.sumDiff += v.sumDiff
				all.nonFinite = all.nonFinite || v.nonFinite
			}
		}
	}
	t.RelL2 = all.relL2()
}

// match pairs the elements of two lists by key, the first of a key with the
// first, and calls fn with their positions, -1 where there is no partner.
func match[T any](a, b []T, key func(T) string, fn func(i, j int)) {
	left := map[string][]int{}
	for j, x := range b {
		left[key(x)] = append(left[key(x)], j)
	}
	taken := make([]bool, len(b))
	for i, x := range a {
		j := -1
		if l := left[key(x)]; len(l) > 0 {
			j, left[key(x)] = l[0], l[1:]
			taken[j] = true
		}
		fn(i, j)
	}
	for j := range b {
		if !taken[j] {
			fn(-1, j)
		}
	}
}

// weights

// constantTensor returns the tensor of a Constant node, nil for other nodes.
func constantTensor(n *onnxpb.NodeProto) *onnxpb.TensorProto {
	if n.GetOpType() != "Constant" || n.GetDomain() != "" && n.GetDomain() != "ai.onnx" || len(n.Output) == 0 {
		return nil
	}
	for _, a := range n.Attribute {
		if a.GetName() == "value" {
			return a.T
		}
	}
	return nil
}

type namedTensor struct {
	name string
	onnxfile.Tensor
}

func weightsOf(f *onnxfile.File) []namedTensor {
	var out []namedTensor
	for _, t := range f.Model.Graph.Initializer {
		out = append(out, namedTensor{t.GetName(), f.Tensor(t)})
	}
	for _, n := range f.Model.Graph.Node {
		if t := constantTensor(n); t != nil {
			out = append(out, namedTensor{n.Output[0], f.Tensor(t)})
		}
	}
	return out
}

func compareTensors(ctx context.Context, a, b *onnxfile.File, opt CompareOptions) ([]TensorComparison, error) {
	ta, tb := weightsOf(a), weightsOf(b)
	type job struct{ a, b *namedTensor }
	var jobs []job
	match(ta, tb, func(t namedTensor) string { return t.name }, func(i, j int) {
		var one job
		if i >= 0 {
			one.a = &ta[i]
		}
		if j >= 0 {
			one.b = &tb[j]
		}
		jobs = append(jobs, one)
	})
	out := make([]TensorComparison, len(jobs))
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, j := range jobs {
		if running.Err() != nil {
			break
		}
		g.Go(func() error {
			var err error
			out[i], err = compareTensor(running, j.a, j.b, opt)
			return err
		})
	}
	err := g.Wait()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func compareTensor(ctx context.Context, a, b *namedTensor, opt CompareOptions) (c TensorComparison, err error) {
	side := func(t *namedTensor, count bool) *TensorSide {
		s := &TensorSide{DType: t.DType().String(), Dims: append([]int64{}, t.Dims()...)}
		if !count || err != nil {
			return s
		}
		var zeros int64
		e := t.Values(func(block []float64) error {
			for _, v := range block {
				if v == 0 {
					zeros++
				}
			}
			return ctx.Err()
		})
		switch {
		case e == nil:
			s.Zeros = &zeros
		case !errors.Is(e, onnxfile.ErrUnsupportedType):
			err = e
		}
		return s
	}
	switch {
	case b == nil:
		return TensorComparison{Name: a.name, Kind: Removed, A: side(a, true)}, err
	case a == nil:
		return TensorComparison{Name: b.name, Kind: Added, B: side(b, true)}, err
	case !slices.Equal(a.Dims(), b.Dims()):
		return TensorComparison{Name: a.name, Kind: Changed, A: side(a, true), B: side(b, true)}, err
	}
	c = TensorComparison{Name: a.name, A: side(a, false), B: side(b, false)}
	w := valueCount{opt: opt, allSame: true}
	err = onnxfile.Pairs(a.Tensor, b.Tensor, func(x, y []float64, same bool) error {
		w.add(x, y, same)
		return ctx.Err()
	})
	equalTypes := a.DType() == b.DType()
	if errors.Is(err, onnxfile.ErrUnsupportedType) {
		c.Same, err = onnxfile.SameData(a.Tensor, b.Tensor)
		if errors.Is(err, onnxfile.ErrUnsupportedType) {
			err = fmt.Errorf("cannot be compared: %w", err)
		}
		if !c.Same {
			c.Kind = Changed
		}
		return c, err
	}
	if err != nil {
		return c, err
	}
	v := w.result()
	c.Values = &v
	c.A.Zeros, c.B.Zeros = &w.zerosA, &w.zerosB
	c.Same = equalTypes && v.Beyond == 0
	if !equalTypes || v.Changed > 0 {
		c.Kind = Changed
	}
	if t := a.DType().String(); equalTypes && v.Changed == 0 && !w.allSame && (t == "int64" || t == "uint64") {
		// As float64 they are equal: integers beyond 2^53 that differ by little.
		c.Kind, c.Same, c.Values = Changed, false, nil
	}
	return c, nil
}

// valueCount accumulates a ValueComparison over blocks of values.
type valueCount struct {
	opt            CompareOptions
	v              ValueComparison
	zerosA, zerosB int64
	maxAbs         float64
	allSame        bool // bit for bit
}

func (w *valueCount) add(x, y []float64, same bool) {
	w.v.Elements += int64(len(x))
	if same {
		w.addSame(x)
		return
	}
	w.allSame = false
	y = y[:len(x)]
	var sumA, sumDiff float64
	for i, a := range x {
		b := y[i]
		if a == 0 {
			w.zerosA++
			if b != 0 {
				w.v.GoneZeros++
			}
		}
		if b == 0 {
			w.zerosB++
			if a != 0 {
				w.v.NewZeros++
			}
		}
		if !finite(a) || !finite(b) {
			if a != b && !(math.IsNaN(a) && math.IsNaN(b)) {
				w.v.Changed++
				w.v.Beyond++
				w.v.nonFinite = true
			}
			continue
		}
		sumA += a * a
		if a == b {
			continue
		}
		w.v.Changed++
		d := math.Abs(b - a)
		if d > w.opt.ATol+w.opt.RTol*math.Abs(a) {
			w.v.Beyond++
		}
		sumDiff += d * d
		w.maxAbs = max(w.maxAbs, d)
	}
	w.v.sumA += sumA
	w.v.sumDiff += sumDiff
}

// addSame adds a block that is the same on both sides. Most blocks are, so it
// keeps four sums that do not wait for each other.
func (w *valueCount) addSame(x []float64) {
	var sum [4]float64
	var zeros int64
	rest := x
	for len(rest) >= 4 {
		q := rest[:4]
		for k := range sum {
			sum[k] += q[k] * q[k]
			if q[k] == 0 {
				zeros++
			}
		}
		rest = rest[4:]
	}
	for _, v := range rest {
		sum[0] += v * v
		if v == 0 {
			zeros++
		}
	}
	total := sum[0] + sum[1] + sum[2] + sum[3]
	if !finite(total) {
		total = 0
		for _, v := range x {
			if finite(v) {
				total += v * v
			}
		}
	}
	w.zerosA += zeros
	w.zerosB += zeros
	w.v.sumA += total
}

func finite(v float64) bool { return math.Abs(v) <= math.MaxFloat64 }

func (w *valueCount) result() ValueComparison {
	v := w.v
	if !v.nonFinite && finite(w.maxAbs) {
		v.MaxAbs = &w.maxAbs
	}
	v.RelL2 = v.relL2()
	return v
}

func (v *ValueComparison) relL2() *float64 {
	r := math.Sqrt(v.sumDiff) / math.Sqrt(v.sumA)
	if v.sumDiff == 0 {
		r = 0
	}
	if v.nonFinite || !finite(r) {
		return nil
	}
	return &r
}

// structure

type structureComparison struct {
	a, b    *onnxfile.File
	opt     CompareOptions
	changes []Change
	err     error // of the first tensor that could not be read
}

func (s *structureComparison) add(c Change) { s.changes = append(s.changes, c) }

func (s *structureComparison) field(what, from, to string) {
	if from != to {
		s.add(Change{Kind: Changed, What: what, From: from, To: to})
	}
}

// list compares two lists by name and describes an element by text.
func compareList[T any](s *structureComparison, what string, a, b []T, name, text func(T) string) {
	match(a, b, name, func(i, j int) {
		switch {
		case j < 0:
			s.add(Change{Kind: Removed, What: what, Name: name(a[i]), From: text(a[i])})
		case i < 0:
			s.add(Change{Kind: Added, What: what, Name: name(b[j]), To: text(b[j])})
		default:
			if from, to := text(a[i]), text(b[j]); from != to {
				s.add(Change{Kind: Changed, What: what, Name: name(a[i]), From: from, To: to})
			}
		}
	})
}

// compareMessages is compareList for what is only compared, not described.
func compareMessages[T proto.Message](s *structureComparison, what string, a, b []T, name func(T) string) {
	match(a, b, name, func(i, j int) {
		switch {
		case j < 0:
			s.add(Change{Kind: Removed, What: what, Name: name(a[i])})
		case i < 0:
			s.add(Change{Kind: Added, What: what, Name: name(b[j])})
		case !s.equal(a[i].ProtoReflect(), b[j].ProtoReflect()):
			s.add(Change{Kind: Changed, What: what, Name: name(a[i])})
		}
	})
}

func (s *structureComparison) model(a, b *onnxpb.ModelProto) {
	num := func(n int64) string { return strconv.FormatInt(n, 10) }
	s.field("ir_version", num(a.GetIrVersion()), num(b.GetIrVersion()))
	compareList(s, "opset", a.OpsetImport, b.OpsetImport,
		func(o *onnxpb.OperatorSetIdProto) string { return compareDomain(o.GetDomain()) },
		func(o *onnxpb.OperatorSetIdProto) string { return num(o.GetVersion()) })
	if !s.opt.IgnoreMetadata {
		s.field("producer_name", a.GetProducerName(), b.GetProducerName())
		s.field("producer_version", a.GetProducerVersion(), b.GetProducerVersion())
		s.field("domain", a.GetDomain(), b.GetDomain())
		s.field("model_version", num(a.GetModelVersion()), num(b.GetModelVersion()))
		s.field("graph_name", a.Graph.GetName(), b.Graph.GetName())
		compareList(s, "metadata", a.MetadataProps, b.MetadataProps,
			(*onnxpb.StringStringEntryProto).GetKey, (*onnxpb.StringStringEntryProto).GetValue)
	}
	s.values("input", a.Graph.Input, b.Graph.Input)
	s.values("output", a.Graph.Output, b.Graph.Output)
	s.nodes(a.Graph.Node, b.Graph.Node)
	compareMessages(s, "function", a.Functions, b.Functions, func(f *onnxpb.FunctionProto) string {
		return strings.Join([]string{f.GetDomain(), f.GetName(), f.GetOverload()}, ":")
	})
	compareMessages(s, "sparse_initializer", a.Graph.SparseInitializer, b.Graph.SparseInitializer,
		func(t *onnxpb.SparseTensorProto) string { return t.GetValues().GetName() })
	compareMessages(s, "training_info", a.TrainingInfo, b.TrainingInfo, func(*onnxpb.TrainingInfoProto) string { return "" })
	compareMessages(s, "quantization_annotation", a.Graph.QuantizationAnnotation, b.Graph.QuantizationAnnotation,
		(*onnxpb.TensorAnnotation).GetTensorName)
	compareMessages(s, "configuration", a.Configuration, b.Configuration, (*onnxpb.DeviceConfigurationProto).GetName)
}

func compareDomain(d string) string {
	if d == "" {
		return "ai.onnx"
	}
	return d
}

func (s *structureComparison) values(what string, a, b []*onnxpb.ValueInfoProto) {
	compareList(s, what, a, b, (*onnxpb.ValueInfoProto).GetName, func(v *onnxpb.ValueInfoProto) string { return compareType(v.GetType()) })
	join := func(list []*onnxpb.ValueInfoProto) ([]string, string) {
		var names []string
		for _, v := range list {
			names = append(names, v.GetName())
		}
		return slices.Sorted(slices.Values(names)), strings.Join(names, ", ")
	}
	sortedA, listA := join(a)
	sortedB, listB := join(b)
	if slices.Equal(sortedA, sortedB) && listA != listB {
		s.add(Change{Kind: Changed, What: what, From: listA, To: listB})
	}
}

// compareType writes a tensor type as float[1,N,?]; dimensions that are not
// given are ?, and float alone has no shape.
func compareType(t *onnxpb.TypeProto) string {
	tt := t.GetTensorType()
	if tt == nil {
		if t == nil {
			return "unknown"
		}
		// Sequences, maps and the like, which classifiers hardly have.
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(t)
		if err != nil {
			return "unknown"
		}
		return fmt.Sprintf("%s %x", compareOneof(t), b)
	}
	s := onnxfile.DType(tt.GetElemType()).String()
	if tt.Shape == nil {
		return s
	}
	var dims []string
	for _, d := range tt.Shape.Dim {
		switch v := d.Value.(type) {
		case *onnxpb.TensorShapeProto_Dimension_DimValue:
			dims = append(dims, strconv.FormatInt(v.DimValue, 10))
		case *onnxpb.TensorShapeProto_Dimension_DimParam:
			dims = append(dims, v.DimParam)
		default:
			dims = append(dims, "?")
		}
	}
	return s + "[" + strings.Join(dims, ",") + "]"
}

func compareOneof(t *onnxpb.TypeProto) string {
	m := t.ProtoReflect()
	if f := m.WhichOneof(m.Descriptor().Oneofs().ByName("value")); f != nil {
		return strings.TrimSuffix(string(f.Name()), "_type")
	}
	return "unknown"
}

// nodes pairs nodes by first output, which names what they compute, and those
// that are left by name.
func (s *structureComparison) nodes(a, b []*onnxpb.NodeProto) {
	pair := make([]int, len(a))
	left := make([]bool, len(b))
	var restA, restB []int
	output := func(n *onnxpb.NodeProto) string {
		if len(n.Output) == 0 || n.Output[0] == "" {
			return ""
		}
		return n.Output[0]
	}
	match(a, b, output, func(i, j int) {
		switch {
		case j < 0:
			pair[i] = -1
			restA = append(restA, i)
		case i < 0:
			left[j] = true
			restB = append(restB, j)
		default:
			pair[i] = j
		}
	})
	byName := map[string]int{}
	for _, j := range slices.Backward(restB) {
		if n := b[j].GetName(); n != "" {
			byName[n] = j
		}
	}
	for _, i := range restA {
		if j, ok := byName[a[i].GetName()]; ok && a[i].GetName() != "" {
			pair[i], left[j] = j, false
			delete(byName, a[i].GetName())
		}
	}
	for i, n := range a {
		if pair[i] < 0 {
			s.add(Change{Kind: Removed, What: "node", Name: compareLabel(n), From: compareOperator(n)})
		} else {
			s.node(n, b[pair[i]])
		}
	}
	for j, n := range b {
		if left[j] {
			s.add(Change{Kind: Added, What: "node", Name: compareLabel(n), To: compareOperator(n)})
		}
	}
}

func compareLabel(n *onnxpb.NodeProto) string {
	if n.GetName() == "" && len(n.Output) > 0 {
		return n.Output[0]
	}
	return n.GetName()
}

// compareOperator is the operator with its domain, unless that is ONNX's own.
func compareOperator(n *onnxpb.NodeProto) string {
	s := n.GetOpType()
	if d := compareDomain(n.GetDomain()); d != "ai.onnx" {
		s = d + "." + s
	}
	if n.GetOverload() != "" {
		s += ":" + n.GetOverload()
	}
	return s
}

func (s *structureComparison) node(a, b *onnxpb.NodeProto) {
	label := compareLabel(a)
	if a.GetName() != b.GetName() && !s.opt.IgnoreMetadata {
		s.add(Change{Kind: Changed, What: "node", Name: label, From: a.GetName(), To: b.GetName()})
	}
	if from, to := compareOperator(a), compareOperator(b); from != to {
		s.add(Change{Kind: Changed, What: "operator", Node: label, From: from, To: to})
	}
	s.wires("node_input", label, a.Input, b.Input)
	s.wires("node_output", label, a.Output, b.Output)
	// The tensors of constants are among the weights.
	constA, constB := constantTensor(a), constantTensor(b)
	skip := func(x *onnxpb.AttributeProto) bool { return x.T != nil && (x.T == constA || x.T == constB) }
	attrs := func(n *onnxpb.NodeProto) []*onnxpb.AttributeProto {
		return slices.DeleteFunc(slices.Clone(n.Attribute), skip)
	}
	listA, listB := attrs(a), attrs(b)
	match(listA, listB, (*onnxpb.AttributeProto).GetName, func(i, j int) {
		switch {
		case j < 0:
			s.add(Change{Kind: Removed, What: "attribute", Node: label, Name: listA[i].GetName(), From: attributeText(listA[i])})
		case i < 0:
			s.add(Change{Kind: Added, What: "attribute", Node: label, Name: listB[j].GetName(), To: attributeText(listB[j])})
		case !s.equal(listA[i].ProtoReflect(), listB[j].ProtoReflect()):
			s.add(Change{Kind: Changed, What: "attribute", Node: label, Name: listA[i].GetName(), From: attributeText(listA[i]), To: attributeText(listB[j])})
		}
	})
}

// wires compares what a node is connected to. A missing trailing input is the
// same as an empty one.
func (s *structureComparison) wires(what, label string, a, b []string) {
	at := func(list []string, i int) string {
		if i < len(list) {
			return list[i]
		}
		return ""
	}
	for i := range max(len(a), len(b)) {
		from, to := at(a, i), at(b, i)
		c := Change{Kind: Changed, What: what, Node: label, Name: strconv.Itoa(i), From: from, To: to}
		switch {
		case from == to:
			continue
		case from == "":
			c.Kind = Added
		case to == "":
			c.Kind = Removed
		}
		s.add(c)
	}
}

// attributeText writes an attribute's value; tensors and graphs in brief.
func attributeText(a *onnxpb.AttributeProto) string {
	var parts []string
	add := func(format string, v ...any) { parts = append(parts, fmt.Sprintf(format, v...)) }
	if a.GetRefAttrName() != "" {
		add("attribute %s of the function", a.GetRefAttrName())
	}
	if a.F != nil {
		add("%v", a.GetF())
	}
	if a.I != nil {
		add("%d", a.GetI())
	}
	if a.S != nil {
		add("%q", a.S)
	}
	if len(a.Floats) > 0 {
		add("%v", a.Floats)
	}
	if len(a.Ints) > 0 {
		add("%v", a.Ints)
	}
	if len(a.Strings) > 0 {
		add("%q", a.Strings)
	}
	for _, t := range append([]*onnxpb.TensorProto{a.T}, a.Tensors...) {
		if t != nil {
			add("tensor %s%v", onnxfile.DType(t.GetDataType()), t.Dims)
		}
	}
	for _, g := range append([]*onnxpb.GraphProto{a.G}, a.Graphs...) {
		if g != nil {
			add("graph of %d nodes", len(g.Node))
		}
	}
	for _, t := range append([]*onnxpb.TypeProto{a.Tp}, a.TypeProtos...) {
		if t != nil {
			add("type %s", compareType(t))
		}
	}
	for _, t := range append([]*onnxpb.SparseTensorProto{a.SparseTensor}, a.SparseTensors...) {
		if t != nil {
			add("sparse tensor %v", t.Dims)
		}
	}
	if parts == nil {
		return "[]"
	}
	return strings.Join(parts, ", ")
}

// equal is proto.Equal for messages of the two models, except that tensors are
// compared by their data, wherever it lies, and that doc strings, value_info
// and metadata are left out.
func (s *structureComparison) equal(a, b protoreflect.Message) bool {
	if a.IsValid() != b.IsValid() {
		return false
	}
	if ta, ok := a.Interface().(*onnxpb.TensorProto); ok {
		tb := b.Interface().(*onnxpb.TensorProto)
		same, err := onnxfile.SameData(s.a.Tensor(ta), s.b.Tensor(tb))
		if err != nil && s.err == nil {
			s.err = err
		}
		return same && ta.GetName() == tb.GetName()
	}
	if !bytes.Equal(a.GetUnknown(), b.GetUnknown()) {
		return false
	}
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch f.Name() {
		case "doc_string", "metadata_props", "value_info":
			continue
		}
		if f.Message() == nil || a.Has(f) != b.Has(f) {
			if a.Has(f) != b.Has(f) || !a.Get(f).Equal(b.Get(f)) {
				return false
			}
			continue
		}
		if !f.IsList() {
			if a.Has(f) && !s.equal(a.Get(f).Message(), b.Get(f).Message()) {
				return false
			}
			continue
		}
		la, lb := a.Get(f).List(), b.Get(f).List()
		if la.Len() != lb.Len() {
			return false
		}
		for k := range la.Len() {
			if !s.equal(la.Get(k).Message(), lb.Get(k).Message()) {
				return false
			}
		}
	}
	return true
}
