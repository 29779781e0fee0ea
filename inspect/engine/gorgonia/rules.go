package gorgonia

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rule says which forms of an operator are computed and how.
//
// What a rule states here is checked before bind is called: attributes, number of
// inputs and outputs, types. Whatever else a form may be, bind must compute it
// right or refuse it with an error that says what is lacking; that error appears
// behind the operator's name.
type rule struct {
	// attributes it may have; any other is refused.
	attributes []string
	// inputs, trailing ones that are left out not counted, are bounded by least
	// and most. Any of them may be left out (binder.has) beyond the first least.
	least, most int
	// outputs is the most outputs that it computes, 1 when it is 0.
	outputs int
	// types are the element types that each input may have; inputs beyond the last
	// entry have that of the last one, and no entry means float.
	types []typeSet
	// empty says that bind knows what to do with inputs without elements; they are
	// refused otherwise.
	empty bool
	// then says that bind honours the node's epilogue (node.then), a function of
	// single numbers that follows it in the graph: bind has it applied to the
	// first output, which is float, in place of nothing.
	then bool
	// check refuses what attributes and stored constants alone tell, for graphs
	// whose shapes are not known when they are loaded; may be nil.
	check func(n *node) error
	bind  func(b *binder) (kernel, error)
}

// typeSet is a set of element types.
type typeSet uint64

// Sets of element types. half are the types that are held as bit patterns.
const (
	floatSet  typeSet = 1 << onnxfile.Float
	doubleSet typeSet = 1 << onnxfile.Double
	halfSet   typeSet = 1<<onnxfile.Float16 | 1<<onnxfile.BFloat16
	realSet   typeSet = floatSet | doubleSet
	indexSet  typeSet = 1<<onnxfile.Int64 | 1<<onnxfile.Int32
	intSet    typeSet = indexSet | 1<<int16Type | 1<<int8Type | 1<<uint8Type | 1<<uint16Type | 1<<uint32Type | 1<<uint64Type
	boolSet   typeSet = 1 << boolType
	numberSet typeSet = realSet | intSet
	anySet    typeSet = numberSet | boolSet | halfSet
)

func (s typeSet) has(d onnxfile.DType) bool { return d > 0 && d < 64 && s&(1<<d) != 0 }

// typesOf returns the types that input i may have.
func (r *rule) typesOf(i int) typeSet {
	if len(r.types) == 0 {
		return floatSet
	}
	return r.types[min(i, len(r.types)-1)]
}

// accepts refuses a type for input i.
func (r *rule) accepts(i int, d onnxfile.DType) error {
	if d == noTensor {
		return fmt.Errorf("input %d is no tensor", i)
	}
	if !r.typesOf(i).has(d) {
		return fmt.Errorf("input %d has type %s, which is lacking", i, d)
	}
	return nil
}

// rules returns the operators that are computed. Each subject has a file of its
// own; no operator stands in two.
func rules() map[string]rule {
	all := make(map[string]rule)
	for _, subject := range subjects() {
		maps.Copy(all, subject)
	}
	return all
}

func subjects() []map[string]rule {
	return []map[string]rule{rulesConv(), rulesPool(), rulesElementwise(), rulesReduce(), rulesShape()}
}

// check refuses what can be refused without shapes.
func (n *node) check() error {
	if n.rule.bind == nil {
		return errors.New("the operator is lacking")
	}
	if err := knownOpset(n.opset); err != nil {
		return err
	}
	var unknown []string
	for name := range n.attributes {
		if !slices.Contains(n.rule.attributes, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("attribute %s is not known for it", unknown[0])
	}
	for i := max(1, n.rule.outputs); i < len(n.out); i++ {
		if n.out[i] >= 0 && i == 1 {
			return errors.New("outputs beyond the first are lacking")
		}
		if n.out[i] >= 0 {
			return fmt.Errorf("output %d is lacking", i)
		}
	}
	given := len(n.in)
	for given > 0 && n.in[given-1] < 0 {
		given--
	}
	if given < n.rule.least || given > n.rule.most {
		return fmt.Errorf("%d inputs are not among its forms", given)
	}
	for i, t := range n.in[:given] {
		if t < 0 && i < n.rule.least {
			return fmt.Errorf("input %d is left out", i)
		}
		if c := n.param(i); c != nil {
			if err := n.rule.accepts(i, c.dtype); err != nil {
				return err
			}
		}
	}
	if n.rule.check != nil {
		return n.rule.check(n)
	}
	return nil
}

// operand is what a node reads: its type, its shape and, when it is known before
// the run, its value. An input that is left out has the type 0.
type operand struct {
	dtype    onnxfile.DType
	shape    []int
	constant *value
}

// binder makes the kernel of one node for given shapes. It embeds the node, with
// its attributes.
type binder struct {
	*node
	// in are the inputs; trailing ones that are left out are not listed.
	in       []operand
	workers  *compute.Workers
	prepared *prepared
}

// has says whether input i is there.
func (b *binder) has(i int) bool { return i < len(b.in) && b.in[i].dtype != 0 }

func (b *binder) bind() (k kernel, err error) {
	defer catch(&err)
	for i, o := range b.in {
		if o.dtype == 0 {
			continue
		}
		n, err := checkedSize(o.shape)
		if err != nil {
			return nil, err
		}
		if err := b.rule.accepts(i, o.dtype); err != nil {
			return nil, err
		}
		if n == 0 && !b.rule.empty {
			return nil, fmt.Errorf("input %d has no elements", i)
		}
	}
	if k, err = b.rule.bind(b); err != nil {
		return nil, err
	}
	specs := k.results()
	for i, t := range b.out {
		if t >= 0 && i >= len(specs) {
			return nil, fmt.Errorf("output %d is lacking", i)
		}
	}
	for _, s := range specs {
		if _, err := checkedSize(s.shape); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// known returns the value of input i, or says that it is not known before the
// run.
func (b *binder) known(i int) (*value, error) {
	if v := b.in[i].constant; v != nil {
		return v, nil
	}
	if o := b.in[i]; size(o.shape) == 0 {
		return newValue(spec{o.dtype, o.shape}), nil
	}
	return nil, fmt.Errorf("input %d depends on what the graph is fed, which is lacking", i)
}

// int64s returns the numbers of input i, of type int64 or int32, that must be
// known before the run: axes, shapes, pads and the like. It returns nil when the
// input is left out.
func (b *binder) int64s(i int) ([]int64, error) {
	if !b.has(i) {
		return nil, nil
	}
	v, err := b.known(i)
	if err != nil {
		return nil, err
	}
	if len(v.shape) > 1 {
		return nil, fmt.Errorf("input %d has rank %d in place of 1", i, len(v.shape))
	}
	switch d := v.data.(type) {
	case []int64:
		return d, nil
	case []int32:
		wide := make([]int64, len(d))
		for i, x := range d {
			wide[i] = int64(x)
		}
		return wide, nil
	}
	return nil, fmt.Errorf("input %d has type %s in place of int64", i, v.dtype)
}

// intsOr returns the integers that older operator sets have as an attribute and
// newer ones as input i; given is false when the node has neither.
func (b *binder) intsOr(attribute string, i int) (v []int64, given bool, err error) {
	if p := b.attributes[attribute]; p != nil {
		return p.Ints, true, nil
	}
	if !b.has(i) {
		return nil, false, nil
	}
	v, err = b.int64s(i)
	return v, true, err
}

// prepared is what kernels have made of stored constants, kept as long as the
// session, so that plans for several batch sizes share it.
type prepared struct {
	made map[preparedKey]any
}

type preparedKey struct {
	of   *value
	what string
}

// prepare returns what from makes of input i, which is a constant: a packed form
// of weights, say. Equal ones of one session are made once, when what, which names
// the form with all that it depends on beside the numbers, is the same and the
// constant is stored in the file.
func prepare[T any](b *binder, i int, what string, from func(v *value) (T, error)) (T, error) {
	v := b.in[i].constant
	key := preparedKey{v, what}
	if made, ok := b.prepared.made[key].(T); ok {
		return made, nil
	}
	made, err := from(v)
	if err == nil && b.param(i) == v {
		b.prepared.made[key] = made
	}
	return made, err
}

// axis returns an axis that may be counted from the end; it must lie in [0, n).
func axis(a int64, n int) (int, error) {
	if a < 0 {
		a += int64(n)
	}
	if a < 0 || a >= int64(n) {
		return 0, fmt.Errorf("axis %d is out of range for rank %d", a, n)
	}
	return int(a), nil
}

func toInts(s []int64) []int {
	out := make([]int, len(s))
	for i, d := range s {
		out[i] = int(d)
	}
	return out
}

func toInt64s(s []int) []int64 {
	out := make([]int64, len(s))
	for i, d := range s {
		out[i] = int64(d)
	}
	return out
}
