//go:build cgo

package ort

import (
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"github.com/filterlens/filterlens/inspect/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// bound is a native value over Go memory. The memory stays pinned from bind to
// the pinner's Unpin, for ONNX Runtime keeps its address beyond the call that
// made the value.
type bound struct {
	value ort.Value
	// fetch copies a scalar back, which the binding keeps in memory of its own.
	fetch func()
}

// checkTensor says whether t can stand for v: type, length of the data, rank
// and every dimension that v fixes.
func checkTensor(kind string, v *value, t *engine.Tensor) error {
	if !v.tensor {
		return fmt.Errorf("%s %q is no tensor, and nothing else can be passed", kind, v.Name)
	}
	if t == nil {
		return fmt.Errorf("%s %q is missing", kind, v.Name)
	}
	dtype, n := describeData(t.Data)
	if dtype == "" {
		return fmt.Errorf("%s %q has data of Go type %T, which no tensor holds", kind, v.Name, t.Data)
	}
	if dtype != v.DType && !(dtype == "uint16" && isHalf(v.DType)) {
		return fmt.Errorf("%s %q has type %s, given %s", kind, v.Name, v.DType, dtype)
	}
	want, ok := elements(t.Shape)
	if !ok || want != int64(n) {
		return fmt.Errorf("%s %q: shape %v does not fit its data of %d elements", kind, v.Name, t.Shape, n)
	}
	if !v.fits(t.Shape) {
		return fmt.Errorf("%s %q has shape %s, given %v", kind, v.Name, formatShape(v.Shape, v.params), t.Shape)
	}
	if isHalf(v.DType) && n == 0 {
		return fmt.Errorf("%s %q: a %s tensor without elements cannot be passed", kind, v.Name, v.DType)
	}
	if isHalf(v.DType) && len(t.Shape) == 0 {
		return fmt.Errorf("%s %q: a %s scalar cannot be passed; give it the shape [1]", kind, v.Name, v.DType)
	}
	return nil
}

// fits says whether shape agrees with what v declares.
func (v *value) fits(shape []int64) bool {
	if v.Shape == nil {
		return true
	}
	if len(v.Shape) != len(shape) {
		return false
	}
	for i, d := range v.Shape {
		if d >= 0 && d != shape[i] {
			return false
		}
	}
	return true
}

// elements is engine.Elements with negative dimensions and overflow refused.
func elements(shape []int64) (n int64, ok bool) {
	n = 1
	for _, d := range shape {
		if d < 0 || (d > 0 && n > math.MaxInt64/d) {
			return 0, false
		}
		n *= d
	}
	return n, true
}

// bind makes a native value over the data of t, which must have passed
// checkTensor. The caller destroys the value.
func bind(p *runtime.Pinner, v *value, t *engine.Tensor) (bound, error) {
	switch d := t.Data.(type) {
	case []float32:
		return bindSlice(p, t.Shape, d)
	case []float64:
		return bindSlice(p, t.Shape, d)
	case []int64:
		return bindSlice(p, t.Shape, d)
	case []int32:
		return bindSlice(p, t.Shape, d)
	case []int16:
		return bindSlice(p, t.Shape, d)
	case []int8:
		return bindSlice(p, t.Shape, d)
	case []uint8:
		return bindSlice(p, t.Shape, d)
	case []uint16:
		if isHalf(v.DType) {
			p.Pin(&d[0])
			raw := unsafe.Slice((*byte)(unsafe.Pointer(&d[0])), 2*len(d))
			value, err := ort.NewCustomDataTensor(t.Shape, raw, halfType(v.DType))
			if err != nil {
				return bound{}, err
			}
			return bound{value: value}, nil
		}
		return bindSlice(p, t.Shape, d)
	case []uint32:
		return bindSlice(p, t.Shape, d)
	case []uint64:
		return bindSlice(p, t.Shape, d)
	case []bool:
		return bindSlice(p, t.Shape, d)
	}
	return bound{}, fmt.Errorf("data of Go type %T", t.Data)
}

func bindSlice[T ort.TensorData](p *runtime.Pinner, shape []int64, data []T) (bound, error) {
	if len(shape) == 0 {
		s, err := ort.NewScalar(data[0])
		if err != nil {
			return bound{}, err
		}
		return bound{value: s, fetch: func() { data[0] = s.GetData() }}, nil
	}
	if len(data) > 0 {
		p.Pin(&data[0])
	}
	t, err := ort.NewTensor(shape, data)
	if err != nil {
		return bound{}, err
	}
	return bound{value: t}, nil
}

// take turns a value that ONNX Runtime allocated into a tensor in Go memory.
// The binding has copied the data already; the value may be destroyed after.
func take(v ort.Value) (*engine.Tensor, error) {
	shape := []int64(v.GetShape())
	switch t := v.(type) {
	case *ort.Tensor[float32]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	case *ort.Tensor[float64]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	case *ort.Tensor[int64]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	case *ort.Tensor[int32]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	case *ort.Tensor[int16]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	case *ort.Tensor[int8]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	case *ort.Tensor[uint8]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	case *ort.Tensor[uint16]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	case *ort.Tensor[uint32]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	case *ort.Tensor[uint64]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	case *ort.Tensor[bool]:
		return &engine.Tensor{Shape: shape, Data: t.GetData()}, nil
	}
	return nil, fmt.Errorf("values of kind %T cannot be handed over", v)
}
