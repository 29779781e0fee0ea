package inspect

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

const (
	// maxRank bounds the number of dimensions; beyond, a shape is unknown.
	maxRank = 64
	// maxFold bounds the elements of a tensor that is computed with. Shape
	// arithmetic needs a handful.
	maxFold = 1024
	// maxTerms bounds the terms of all tensors of a model that have many, less
	// than 100 bytes each: more numbers than smallValue or more dimensions than smallRank.
	maxTerms   = 1 << 18
	smallValue = 16
	smallRank  = 8
)

// A tensor is what is known of one tensor without running the model, or of a
// sequence or an optional of them.
type tensor struct {
	dtype onnxfile.DType // 0 unknown
	known bool           // of shape: the number of dimensions
	shape []term         // a dimension is an integer term that is not negative, or unknown
	value *value

	// Of a sequence and an optional the fields above are empty. elem holds for
	// every element; it is nil for a sequence that never had one.
	kind   kind
	elem   *tensor
	length term // of a sequence
}

// A kind is that of a type; what nothing is known of is a tensorKind as well.
type kind uint8

const (
	tensorKind kind = iota
	sequenceKind
	optionalKind
)

// A value is a small tensor whose elements are known, each of them or in part.
type value struct {
	dims []int64
	e    []term
}

// scalar returns the only element of v.
func (v *value) scalar() (term, bool) {
	if v == nil || len(v.e) != 1 {
		return term{}, false
	}
	return v.e[0], true
}

// ints returns the elements when all of them are numbers.
func (v *value) ints() ([]int64, bool) {
	if v == nil {
		return nil, false
	}
	out := make([]int64, len(v.e))
	for i, t := range v.e {
		k, ok := t.number()
		if !ok {
			return nil, false
		}
		out[i] = k
	}
	return out, true
}

// An OptionError says that a shape asked for does not fit the model.
type OptionError struct {
	File  string
	Input string // "" when it is about no input in particular
	Err   error
}

func (e *OptionError) Error() string {
	if e.Input == "" {
		return e.File + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s: input %q: %v", e.File, e.Input, e.Err)
}

func (e *OptionError) Unwrap() error { return e.Err }

// infer fills g.tensors of the main graph and of those within.
func (g *Graph) infer(opt Options) error {
	g.tensors = make(map[string]tensor, len(g.producer)+len(g.inits)+len(g.inputs))
	g.batch = make(map[string]bool)
	g.inferStored()
	if err := g.inferInputs(opt); err != nil {
		return err
	}
	// A declared shape describes the model as it was exported, not as it is
	// asked about here.
	g.trust = len(opt.InputShapes) == 0 && len(opt.Dims) == 0 && opt.Batch == 0
	g.inferNodes()
	return nil
}

// inferBody infers a nested graph or the body of a function anew, given what is
// known of its inputs in all runs; inputs beyond those given are unknown. It is
// not ok when the bodies of this model have been inferred often enough: then
// nothing is known of what is within.
func (g *Graph) inferBody(in []tensor) bool {
	g.inferred = true
	g.trips, g.idle = term{}, false
	if g.x.work -= g.size; g.x.work < 0 {
		g.forget()
		return false
	}
	g.batch = g.parent.batch
	// The body of a function is made for any call.
	g.trust = g.parent.trust && g.calls == nil
	g.tensors = make(map[string]tensor, len(g.producer)+len(g.inits)+len(g.inputs))
	g.inferStored()
	for i, name := range g.ins {
		declared := g.declaration(name, g.inputs[name])
		t := declared
		if i < len(in) {
			if t = in[i]; t.dtype == 0 && t.kind == tensorKind {
				t.dtype = declared.dtype
			}
		}
		g.tensors[name] = t
	}
	g.inferNodes()
	return true
}

// forget drops what was inferred of g and the graphs within.
func (g *Graph) forget() {
	if g.tensors == nil {
		return
	}
	g.tensors, g.clashes = nil, nil
	for _, n := range g.Nodes {
		for _, b := range n.bodies {
			b.forget()
			b.trips, b.idle = term{}, false
		}
	}
}

// inferStored fills g.tensors with the initializers.
func (g *Graph) inferStored() {
	for name, t := range g.sparse {
		g.tensors[name] = tensor{dtype: onnxfile.DType(t.GetValues().GetDataType())}.withDims(t.GetDims())
	}
	for name, p := range g.inits {
		g.tensors[name] = tensor{dtype: onnxfile.DType(p.GetDataType())}.withDims(p.GetDims())
	}
}

// inferNodes fills g.tensors, node by node.
func (g *Graph) inferNodes() {
	g.clashes = nil
	for _, n := range g.order[:g.ordered] {
		c := call{g: g, Node: n, opset: g.Opset(n.Domain), out: make([]tensor, len(n.Outputs))}
		for _, b := range n.bodies {
			b.inferred = false
		}
		r := g.rule(n)
		if r != nil && !c.mistyped() {
			r(&c)
		}
		for _, b := range n.bodies {
			if !b.inferred {
				b.inferBody(nil)
			}
		}
		for i, name := range n.Outputs {
			if name == "" || g.producer[name] != n {
				continue
			}
			t := c.out[i]
			if r == nil && g.trust {
				t = g.declaration(name, g.declared[name])
			}
			g.tensors[name] = g.x.bounded(t.checked())
		}
	}
}

// bounded drops the numbers and the shape of a tensor when there are many of
// them and the model has used up what all of them may take.
func (x *expansion) bounded(t tensor) tensor {
	if t.value != nil && len(t.value.e) > smallValue {
		if x.terms -= len(t.value.e); x.terms < 0 {
			t.value = nil
		}
	}
	if len(t.shape) > smallRank {
		if x.terms -= len(t.shape); x.terms < 0 {
			return tensor{dtype: t.dtype}
		}
	}
	return t
}

// declaration reads what the file declares of a tensor. In a body a symbol may
// stand for another number in each run, so only numbers count there.
func (g *Graph) declaration(name string, v *onnxpb.ValueInfoProto) tensor {
	t := g.fromDeclaration(v.GetType(), name)
	if g.parent != nil {
		t = t.numbers()
	}
	if !g.trust {
		t = t.shapeless()
	}
	return t
}

// shapeless drops the shape, that of elements too.
func (t tensor) shapeless() tensor {
	t.known, t.shape, t.value, t.length = false, nil, nil, term{}
	if t.elem != nil {
		e := t.elem.shapeless()
		t.elem = &e
	}
	return t
}

// numbers drops symbols.
func (t tensor) numbers() tensor {
	for i, d := range t.shape {
		if _, ok := d.number(); !ok {
			t.shape[i] = term{}
		}
	}
	return t
}

// lookup returns what is known of a tensor, in the graphs around g too.
func (g *Graph) lookup(name string) tensor {
	if t, ok := g.tensors[name]; ok || g.parent == nil {
		return t
	}
	if g = g.home(name); g == nil {
		return tensor{}
	}
	return g.tensors[name]
}

// rule returns how the outputs of n follow from its inputs, nil when that is
// not known.
func (g *Graph) rule(n *Node) rule {
	if n.function != nil {
		for _, b := range n.bodies {
			if b.calls == n.function {
				return functionRule
			}
		}
		return nil // the model brings its own definition
	}
	if n.Standard() {
		return ruleOf(n.Op)
	}
	return ruleOfDomain(n.Domain, n.Op)
}

// inferInputs gives the inputs their declared shapes, changed as opt says.
func (g *Graph) inferInputs(opt Options) error {
	fail := func(input, format string, a ...any) error {
		return &OptionError{File: g.file.Name, Input: input, Err: fmt.Errorf(format, a...)}
	}
	for _, name := range slices.Sorted(maps.Keys(opt.InputShapes)) {
		if !g.IsInput(name) {
			return fail(name, "the model has no such input; it has %s", g.inputNames())
		}
	}
	size := make(map[string]int64) // of symbols that are given one
	declared := make(map[string]bool)
	for _, v := range g.file.Model.GetGraph().GetInput() {
		name := v.GetName()
		if !g.IsInput(name) {
			continue
		}
		t := g.fromDeclaration(v.GetType(), name)
		for _, d := range t.shape {
			for _, s := range d.syms {
				declared[s] = true
			}
		}
		if dims, ok := opt.InputShapes[name]; ok {
			if len(dims) > maxRank {
				return fail(name, "%d dimensions are too many", len(dims))
			}
			if t.known && len(t.shape) != len(dims) {
				return fail(name, "%d dimensions are given, the model declares %s", len(dims), outerShape(t))
			}
			if !t.known {
				t.known, t.shape = true, make([]term, len(dims))
				for i := range dims {
					t.shape[i] = nameless(name, i)
				}
			}
			for i, d := range dims {
				switch {
				case d < -1:
					return fail(name, "dimension %d is negative", d)
				case d < 0:
					continue
				}
				for _, s := range t.shape[i].syms {
					if old, ok := size[s]; ok && old != d {
						return fail(name, "dimension %q is given as %d and as %d", s, old, d)
					}
					size[s] = d
				}
				t.shape[i] = integer(d)
			}
		}
		g.tensors[name] = t
	}
	for _, s := range slices.Sorted(maps.Keys(opt.Dims)) {
		d := opt.Dims[s]
		if !declared[s] {
			return fail("", "no input has a dimension named %q", s)
		}
		if d < 0 {
			return fail("", "dimension %q is given as %d, which is negative", s, d)
		}
		if old, ok := size[s]; ok && old != d {
			return fail("", "dimension %q is given as %d and as %d", s, old, d)
		}
		size[s] = d
	}
	for name, v := range g.inputs {
		t, ok := g.tensors[name]
		if !ok || !g.IsInput(name) || v == nil {
			continue
		}
		for i, d := range t.shape {
			if len(d.syms) == 1 {
				if n, ok := size[d.syms[0]]; ok {
					t.shape[i] = integer(n)
				}
			}
		}
		if len(t.shape) > 0 && len(t.shape[0].syms) > 0 {
			if opt.Batch > 0 {
				t.shape[0] = integer(opt.Batch)
			} else {
				g.batch[t.shape[0].syms[0]] = true
			}
		}
	}
	return nil
}

// nameless returns the symbol of a dimension that the file gives no name, told
// apart by the tensor that it was declared for.
func nameless(tensor string, i int) term {
	return term{kind: integerTerm, k: 1, syms: []string{fmt.Sprintf("%s%d %s", anonymous, i, tensor)}}
}

func (g *Graph) inputNames() string {
	s := ""
	for _, v := range g.file.Model.GetGraph().GetInput() {
		if g.IsInput(v.GetName()) {
			if s != "" {
				s += ", "
			}
			s += fmt.Sprintf("%q", v.GetName())
		}
	}
	if s == "" {
		return "none"
	}
	return s
}

// fromDeclaration reads a declared type. Dimensions without a name become
// symbols of their own.
func (g *Graph) fromDeclaration(p *onnxpb.TypeProto, name string) tensor {
	var t tensor
	var shape *onnxpb.TensorShapeProto
	switch v := p.GetValue().(type) {
	case *onnxpb.TypeProto_TensorType:
		t.dtype, shape = onnxfile.DType(v.TensorType.GetElemType()), v.TensorType.GetShape()
	case *onnxpb.TypeProto_SparseTensorType:
		t.dtype, shape = onnxfile.DType(v.SparseTensorType.GetElemType()), v.SparseTensorType.GetShape()
	case *onnxpb.TypeProto_SequenceType:
		// A symbol may stand for another number in each element.
		e := g.fromDeclaration(v.SequenceType.GetElemType(), name).numbers()
		return tensor{kind: sequenceKind, elem: &e}
	case *onnxpb.TypeProto_OptionalType:
		e := g.fromDeclaration(v.OptionalType.GetElemType(), name).numbers()
		return tensor{kind: optionalKind, elem: &e}
	}
	if shape == nil || len(shape.Dim) > maxRank {
		return t
	}
	t.known, t.shape = true, make([]term, len(shape.Dim))
	for i, d := range shape.Dim {
		switch v := d.GetValue().(type) {
		case *onnxpb.TensorShapeProto_Dimension_DimValue:
			t.shape[i] = integer(v.DimValue).dim()
		case *onnxpb.TensorShapeProto_Dimension_DimParam:
			t.shape[i] = symbol(v.DimParam)
		}
		if t.shape[i].kind == unknownTerm {
			t.shape[i] = nameless(name, i)
		}
	}
	return t
}

func (t tensor) withDims(dims []int64) tensor {
	if len(dims) > maxRank {
		return t
	}
	t.known, t.shape = true, integers(dims)
	for i := range t.shape {
		t.shape[i] = t.shape[i].dim()
	}
	return t
}

// checked drops what no rule should have made.
func (t tensor) checked() tensor {
	if t.kind != tensorKind {
		return tensor{kind: t.kind, elem: t.elem, length: t.length}
	}
	if !t.known || len(t.shape) > maxRank {
		t.known, t.shape, t.value = false, nil, nil
		return t
	}
	for i, d := range t.shape {
		if d.kind != unknownTerm && d.dim().kind == unknownTerm {
			t.shape[i] = term{}
		}
	}
	return t
}

func outerShape(t tensor) Shape {
	if !t.known {
		return Shape{}
	}
	s := Shape{Known: true, Dims: make([]Dim, len(t.shape))}
	for i, d := range t.shape {
		s.Dims[i] = d.outer()
	}
	return s
}

// Shape returns the shape of a tensor; that of a sequence or an optional is
// unknown.
func (g *Graph) Shape(tensor string) Shape {
	return outerShape(g.lookup(tensor))
}

// DType returns the element type of a tensor, 0 when it is not known.
func (g *Graph) DType(tensor string) onnxfile.DType { return g.lookup(tensor).dtype }

// Value describes a tensor. For an output of the model whose shape does not
// follow from its inputs the declaration stands in.
func (g *Graph) Value(name string) Value {
	t := g.tensors[name]
	v := Value{Name: name, Shape: outerShape(t), DType: typeName(t.dtype)}
	d := g.declared[name]
	if in := g.inputs[name]; in != nil {
		d = in
	}
	if d != nil && t.dtype == 0 {
		v.DType = declaredType(d.GetType(), 0)
	}
	if d != nil && !t.known && g.trust && g.IsOutput(name) {
		v.Shape = outerShape(g.fromDeclaration(d.GetType(), name))
	}
	return v
}

func typeName(d onnxfile.DType) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func declaredType(p *onnxpb.TypeProto, depth int) string {
	if depth > 8 {
		return "..."
	}
	switch v := p.GetValue().(type) {
	case *onnxpb.TypeProto_TensorType:
		return typeName(onnxfile.DType(v.TensorType.GetElemType()))
	case *onnxpb.TypeProto_SparseTensorType:
		return "sparse(" + typeName(onnxfile.DType(v.SparseTensorType.GetElemType())) + ")"
	case *onnxpb.TypeProto_SequenceType:
		return "sequence(" + declaredType(v.SequenceType.GetElemType(), depth+1) + ")"
	case *onnxpb.TypeProto_OptionalType:
		return "optional(" + declaredType(v.OptionalType.GetElemType(), depth+1) + ")"
	case *onnxpb.TypeProto_MapType:
		return "map(" + typeName(onnxfile.DType(v.MapType.GetKeyType())) + ", " + declaredType(v.MapType.GetValueType(), depth+1) + ")"
	case *onnxpb.TypeProto_OpaqueType:
		return "opaque(" + v.OpaqueType.GetName() + ")"
	}
	return ""
}

// Ints returns the integers of a tensor when they follow from the graph alone:
// a small initializer, a Constant, or shape arithmetic on them.
func (g *Graph) Ints(tensor string) (v []int64, ok bool) {
	return g.valueOf(tensor).ints()
}

// Float returns a tensor of one number when it follows from the graph alone.
func (g *Graph) Float(tensor string) (v float64, ok bool) {
	t, ok := g.valueOf(tensor).scalar()
	if !ok {
		return 0, false
	}
	if k, ok := t.number(); ok {
		return float64(k), true
	}
	return t.f, t.kind == floatTerm
}

func (g *Graph) valueOf(name string) *value {
	for {
		if g = g.home(name); g == nil {
			return nil
		}
		if t, ok := g.tensors[name]; ok && t.value != nil {
			return t.value
		}
		if p := g.inits[name]; p != nil && g.producer[name] == nil {
			return g.stored(p)
		}
		if g.calls == nil || g.inputs[name] == nil {
			return nil
		}
		name, g = g.args[name], g.parent
	}
}

// stored reads the numbers of a small tensor; nil when it is none. What cannot
// be read has no value; reporting it is not the business of shapes.
func (g *Graph) stored(p *onnxpb.TensorProto) *value {
	t := g.file.Tensor(p)
	n, err := t.Elements()
	if err != nil || n > maxFold || len(t.Dims()) > maxRank {
		return nil
	}
	v := &value{dims: t.Dims(), e: make([]term, 0, n)}
	switch d := t.DType(); {
	case d == onnxfile.Int64 || d == onnxfile.Int32:
		k, err := t.Int64s(maxFold)
		if err != nil {
			return nil
		}
		v.e = integers(k)
	case d.IsFloat():
		err = t.Values(func(block []float64) error {
			for _, f := range block {
				v.e = append(v.e, float(f))
			}
			return nil
		})
	default:
		err = t.Values(func(block []float64) error {
			for _, f := range block {
				if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
					return errors.New("not exact")
				}
				v.e = append(v.e, integer(int64(f)))
			}
			return nil
		})
	}
	if err != nil {
		return nil
	}
	return v
}

// A rule says how the outputs of an operator follow from its inputs. What it
// does not set stays unknown; it must never guess.
type rule func(*call)

// A call is one node on its way through its rule.
type call struct {
	*Node
	g     *Graph
	opset int64
	out   []tensor
}

// mistyped tells whether an attribute has another type than the standard says,
// so that nothing follows from what it holds.
func (c *call) mistyped() bool {
	if len(c.attrs) == 0 || c.function != nil {
		return false
	}
	s := schemaOf(c.Domain, c.Op)
	if s == nil {
		return false
	}
	v := s.at(c.opset)
	if v == nil {
		return false
	}
	a, _ := v.mistyped(c.Node)
	return a != nil
}

// A clash says why a node cannot compute with what it reads: dimensions that are
// numbers and do not fit.
type clash struct {
	tensor string // one that takes part
	// text goes on after the name of the node.
	text string
}

// clash takes down why c, a node of a standard operator, cannot compute, and that
// input i has to do with it.
func (c *call) clash(i int, format string, a ...any) {
	if !c.Standard() || c.function != nil {
		return // what runtimes allow in operators of their own is not certain
	}
	if c.g.clashes == nil {
		c.g.clashes = make(map[*Node]clash)
	}
	if _, ok := c.g.clashes[c.Node]; !ok {
		c.g.clashes[c.Node] = clash{c.Input(i), fmt.Sprintf(format, a...)}
	}
}

// dims is how the dimensions of a tensor read in a sentence.
func dims(s []term) string { return outerShape(tensor{known: true, shape: s}).String() }

// apart tells whether a and b are numbers that differ.
func apart(a, b term) bool {
	n, ok1 := a.number()
	m, ok2 := b.number()
	return ok1 && ok2 && n != m
}

// empty tells whether one of the dimensions is 0; some runtimes fit such tensors
// to anything.
func empty(s []term) bool {
	return slices.ContainsFunc(s, func(d term) bool { return d.is(0) })
}

// in returns what is known of input i.
func (c *call) in(i int) tensor {
	name := c.Input(i)
	if name == "" {
		return tensor{}
	}
	return c.g.lookup(name)
}

// has tells whether input i is given.
func (c *call) has(i int) bool { return c.Input(i) != "" }

// value returns the numbers of input i, nil when they are not known.
func (c *call) value(i int) *value {
	name := c.Input(i)
	if name == "" {
		return nil
	}
	return c.g.valueOf(name)
}

// ints returns input i as integers, all of them known.
func (c *call) ints(i int) ([]int64, bool) { return c.value(i).ints() }

// set sets output i.
func (c *call) set(i int, t tensor) {
	if i < len(c.out) {
		c.out[i] = t
	}
}

// shape sets output i to a type and a shape.
func (c *call) shape(i int, d onnxfile.DType, dims []term) {
	c.set(i, tensor{dtype: d, known: true, shape: dims})
}

// typed sets output i to a type without a shape.
func (c *call) typed(i int, d onnxfile.DType) { c.set(i, tensor{dtype: d}) }

// result sets output i to a value, its shape included.
func (c *call) result(i int, d onnxfile.DType, v *value) {
	c.set(i, tensor{dtype: d, known: true, shape: integers(v.dims), value: v})
}

// keep adds a value to output i when it fits the shape that is set.
func (c *call) keep(i int, v *value) {
	if i >= len(c.out) || v == nil {
		return
	}
	t := &c.out[i]
	if !t.known || len(t.shape) != len(v.dims) {
		return
	}
	for j, d := range t.shape {
		if !d.is(v.dims[j]) {
			return
		}
	}
	t.value = v
}

// axis resolves a negative axis; it is not ok outside the rank.
func axis(a int64, rank int) (int, bool) {
	if a < 0 {
		a += int64(rank)
	}
	return int(a), a >= 0 && a < int64(rank)
}

// axesOf resolves a list of axes without repetition.
func axesOf(axes []int64, rank int) (set []bool, ok bool) {
	set = make([]bool, rank)
	for _, a := range axes {
		i, ok := axis(a, rank)
		if !ok || set[i] {
			return nil, false
		}
		set[i] = true
	}
	return set, true
}

// unknowns returns rank unknown dimensions.
func unknowns(rank int) []term { return make([]term, rank) }

const (
	boolType   = onnxfile.DType(onnxpb.TensorProto_BOOL)
	uint8Type  = onnxfile.DType(onnxpb.TensorProto_UINT8)
	stringType = onnxfile.DType(onnxpb.TensorProto_STRING)
)

// parseType reads the name of a type as Cast spelled it before opset 6.
func parseType(s string) onnxfile.DType {
	return onnxfile.DType(onnxpb.TensorProto_DataType_value[strings.ToUpper(s)])
}
