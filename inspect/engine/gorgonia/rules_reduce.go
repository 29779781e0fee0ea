package gorgonia

import "errors"

// rulesReduce has the operators that make one number of many, or many of many
// along an axis.
func rulesReduce() map[string]rule {
	return map[string]rule{
		"Softmax": {attributes: []string{"axis"}, least: 1, most: 1, bind: bindSoftmax},
	}
}

// bindSoftmax hands a matrix over, the only form that the backend gets right.
func bindSoftmax(b *binder) (kernel, error) {
	shape := b.in[0].shape
	missing := int64(1)
	if b.opset >= 13 {
		missing = -1
	}
	at, err := axis(b.integer("axis", missing), len(shape))
	if err != nil {
		return nil, err
	}
	// Before version 13 everything from the axis on is one distribution.
	if b.opset >= 13 && size(shape[at:]) != shape[at] {
		return nil, errors.New("softmax over another axis than the last is lacking")
	}
	rows := reshaped(b.in[0], []int{size(shape[:at]), size(shape[at:])})
	return b.adapt("Softmax", map[string]any{"axis": int64(1)}, []adapted{rows}, shape)
}
