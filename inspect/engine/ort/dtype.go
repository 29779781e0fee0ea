//go:build cgo

package ort

import (
	"fmt"

	ort "github.com/yalue/onnxruntime_go"
)

// dtypes holds the names of the element types of ONNX at their numbers in
// TensorProto.DataType, which ONNX Runtime uses too.
var dtypes = [...]string{
	0: "", 1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32",
	7: "int64", 8: "string", 9: "bool", 10: "float16", 11: "double", 12: "uint32",
	13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
	17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz",
	21: "uint4", 22: "int4",
}

// dtypeName returns the lower-case ONNX name of an element type.
func dtypeName(n uint64) string {
	if n < uint64(len(dtypes)) {
		return dtypes[n]
	}
	return fmt.Sprintf("type%d", n)
}

// isHalf says that a dtype travels as []uint16 and needs its type told apart.
func isHalf(dtype string) bool { return dtype == "float16" || dtype == "bfloat16" }

func halfType(dtype string) ort.TensorElementDataType {
	if dtype == "float16" {
		return ort.TensorElementDataTypeFloat16
	}
	return ort.TensorElementDataTypeBFloat16
}

// describeData returns the dtype and length of a tensor's data; the dtype is
// "" for a type that no tensor may hold.
func describeData(data any) (dtype string, n int) {
	switch d := data.(type) {
	case []float32:
		return "float", len(d)
	case []float64:
		return "double", len(d)
	case []int64:
		return "int64", len(d)
	case []int32:
		return "int32", len(d)
	case []int16:
		return "int16", len(d)
	case []int8:
		return "int8", len(d)
	case []uint8:
		return "uint8", len(d)
	case []uint16:
		return "uint16", len(d)
	case []uint32:
		return "uint32", len(d)
	case []uint64:
		return "uint64", len(d)
	case []bool:
		return "bool", len(d)
	}
	return "", 0
}

// makeData returns zeroed Go memory for n elements, nil for a dtype that
// engine.Tensor cannot hold.
func makeData(dtype string, n int64) any {
	switch dtype {
	case "float":
		return make([]float32, n)
	case "double":
		return make([]float64, n)
	case "int64":
		return make([]int64, n)
	case "int32":
		return make([]int32, n)
	case "int16":
		return make([]int16, n)
	case "int8":
		return make([]int8, n)
	case "uint8":
		return make([]uint8, n)
	case "uint16", "float16", "bfloat16":
		return make([]uint16, n)
	case "uint32":
		return make([]uint32, n)
	case "uint64":
		return make([]uint64, n)
	case "bool":
		return make([]bool, n)
	}
	return nil
}
