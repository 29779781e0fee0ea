package gorgonia

import (
	"errors"
	"fmt"
	"slices"
)

// rule says which forms of an operator are computed and how. What onnx-go's
// backend does with each form has been tried (TestBackend): forms that it gets
// wrong or refuses are lowered to forms that it gets right, or refused here.
type rule struct {
	// attributes it may have; any other is refused.
	attributes []string
	// inputs are bounded by least and most.
	least, most int
	// integers is the input from which on inputs are int64 constants; 0 for none.
	integers int
	// check refuses what attributes and constants alone tell; may be nil.
	check func(n *node) error
	bind  func(b *binder) (kernel, error)
}

// rules returns the operators that are computed.
func rules() map[string]rule {
	unary := func(attributes ...string) rule {
		return rule{attributes: attributes, least: 1, most: 1, bind: bindUnary}
	}
	binary := rule{least: 2, most: 2, bind: bindBinary}
	return map[string]rule{
		"Conv":               {attributes: []string{"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}, least: 2, most: 3, check: checkConv, bind: bindConv},
		"MaxPool":            {attributes: []string{"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"}, least: 1, most: 1, check: checkMaxPool, bind: bindMaxPool},
		"AveragePool":        {attributes: []string{"auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"}, least: 1, most: 1, bind: bindAveragePool},
		"GlobalAveragePool":  {least: 1, most: 1, bind: bindGlobalAveragePool},
		"Gemm":               {attributes: []string{"alpha", "beta", "transA", "transB"}, least: 2, most: 3, bind: bindGemm},
		"MatMul":             {least: 2, most: 2, bind: bindMatMul},
		"BatchNormalization": {attributes: []string{"epsilon", "momentum", "spatial", "training_mode"}, least: 5, most: 5, check: checkBatchNorm, bind: bindBatchNorm},
		"Softmax":            {attributes: []string{"axis"}, least: 1, most: 1, bind: bindSoftmax},
		"Concat":             {attributes: []string{"axis"}, least: 1, most: 1 << 10, bind: bindConcat},
		"Transpose":          {attributes: []string{"perm"}, least: 1, most: 1, bind: bindTranspose},
		"Flatten":            {attributes: []string{"axis"}, least: 1, most: 1, bind: bindFlatten},
		"Reshape":            {attributes: []string{"allowzero"}, least: 2, most: 2, integers: 1, check: checkReshape, bind: bindReshape},
		"Squeeze":            {attributes: []string{"axes"}, least: 1, most: 2, integers: 1, check: checkAxes, bind: bindSqueeze},
		"Unsqueeze":          {attributes: []string{"axes"}, least: 1, most: 2, integers: 1, check: checkAxes, bind: bindUnsqueeze},
		"Relu":               {least: 1, most: 1, bind: bindRelu},
		"LeakyRelu":          unary("alpha"),
		"Sigmoid":            unary(),
		"Tanh":               unary(),
		"Softplus":           unary(),
		"Exp":                unary(),
		"Log":                unary(),
		"Sqrt":               unary(),
		"Abs":                unary(),
		"Neg":                unary(),
		"Ceil":               unary(),
		"Floor":              unary(),
		"Sin":                unary(),
		"Cos":                unary(),
		"Add":                binary,
		"Sub":                binary,
		"Mul":                binary,
		"Div":                {least: 2, most: 2, check: checkDiv, bind: bindBinary},
	}
}

// check refuses what can be refused without shapes.
func (n *node) check() error {
	if n.rule.bind == nil {
		return errors.New("the operator is lacking")
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
	if n.extra {
		return errors.New("outputs beyond the first are lacking")
	}
	in := n.in
	for len(in) > 0 && in[len(in)-1] < 0 {
		in = in[:len(in)-1]
	}
	if slices.Contains(in, -1) {
		return errors.New("an input before the last is left out")
	}
	if len(in) < n.rule.least || len(in) > n.rule.most {
		return fmt.Errorf("%d inputs are not among its forms", len(in))
	}
	for i := range in {
		c := n.params[i]
		if n.rule.integers > 0 && i >= n.rule.integers {
			if c == nil || c.ints == nil || len(c.shape) > 1 {
				return fmt.Errorf("input %d is no int64 constant of the graph", i)
			}
		} else if c != nil && c.floats == nil {
			return fmt.Errorf("input %d is a constant of another type than float", i)
		}
	}
	if n.rule.check != nil {
		return n.rule.check(n)
	}
	return nil
}

// binder makes the kernel of one node for given shapes.
type binder struct {
	*node
	in []operand
}

func (b *binder) bind() (kernel, error) {
	for i, o := range b.in {
		n, err := checkedSize(o.shape)
		if err != nil {
			return nil, err
		}
		if n == 0 && (b.rule.integers == 0 || i < b.rule.integers) {
			return nil, fmt.Errorf("input %d has no elements", i)
		}
	}
	return b.rule.bind(b)
}

// call makes a kernel of the backend from inputs as they are.
func (b *binder) call(op string, attributes map[string]any) (kernel, error) {
	in := make([]adapted, len(b.in))
	for i, o := range b.in {
		in[i] = adapted{operand: o}
	}
	return b.adapt(op, attributes, in, nil)
}

// adapt makes a kernel of the backend whose inputs are adapted first; the result
// gets the given shape, its own when that is nil.
func (b *binder) adapt(op string, attributes map[string]any, in []adapted, shape []int) (kernel, error) {
	operands := make([]operand, len(in))
	for i, a := range in {
		operands[i] = a.operand
		if a.constant != nil && (a.copied || a.spread) {
			operands[i].constant = nil
		}
	}
	back, err := newBackend(op, attributes, operands)
	if err != nil {
		return nil, err
	}
	if shape == nil {
		shape = back.shape
	} else if size(shape) != size(back.shape) {
		return nil, fmt.Errorf("the backend makes shape %v where %v is due", back.shape, shape)
	}
	return &call{back, in, shape}, nil
}

// reshaped is an input under another shape.
func reshaped(o operand, shape []int) adapted {
	if o.constant != nil {
		o.constant = o.constant.withShape(shape)
	}
	o.shape = shape
	return adapted{operand: o}
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
