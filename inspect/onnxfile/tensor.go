package onnxfile

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// DType is an ONNX element type (TensorProto.DataType); types newer than the
// schema keep their number.
type DType int32

// The element types that the rest of the program names.
const (
	Float    = DType(onnxpb.TensorProto_FLOAT)
	Float16  = DType(onnxpb.TensorProto_FLOAT16)
	BFloat16 = DType(onnxpb.TensorProto_BFLOAT16)
	Double   = DType(onnxpb.TensorProto_DOUBLE)
	Int64    = DType(onnxpb.TensorProto_INT64)
	Int32    = DType(onnxpb.TensorProto_INT32)
)

// String returns the ONNX name in lower case, "type 99" for one it does not know.
func (d DType) String() string {
	if s, ok := onnxpb.TensorProto_DataType_name[int32(d)]; ok {
		return strings.ToLower(s)
	}
	return fmt.Sprintf("type %d", int32(d))
}

// Bits returns the width of an element in bits, 0 for strings and unknown types.
func (d DType) Bits() int64 {
	switch onnxpb.TensorProto_DataType(d) {
	case onnxpb.TensorProto_UINT2, onnxpb.TensorProto_INT2:
		return 2
	case onnxpb.TensorProto_UINT4, onnxpb.TensorProto_INT4, onnxpb.TensorProto_FLOAT4E2M1:
		return 4
	case onnxpb.TensorProto_FLOAT6E2M3, onnxpb.TensorProto_FLOAT6E3M2:
		return 6
	case onnxpb.TensorProto_UINT8, onnxpb.TensorProto_INT8, onnxpb.TensorProto_BOOL,
		onnxpb.TensorProto_FLOAT8E4M3FN, onnxpb.TensorProto_FLOAT8E4M3FNUZ, onnxpb.TensorProto_FLOAT8E5M2,
		onnxpb.TensorProto_FLOAT8E5M2FNUZ, onnxpb.TensorProto_FLOAT8E8M0:
		return 8
	case onnxpb.TensorProto_UINT16, onnxpb.TensorProto_INT16, onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_BFLOAT16:
		return 16
	case onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_INT32, onnxpb.TensorProto_UINT32:
		return 32
	case onnxpb.TensorProto_DOUBLE, onnxpb.TensorProto_INT64, onnxpb.TensorProto_UINT64, onnxpb.TensorProto_COMPLEX64:
		return 64
	case onnxpb.TensorProto_COMPLEX128:
		return 128
	}
	return 0
}

// IsFloat tells whether d is a floating-point type.
func (d DType) IsFloat() bool {
	switch onnxpb.TensorProto_DataType(d) {
	case onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_DOUBLE, onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_BFLOAT16,
		onnxpb.TensorProto_FLOAT8E4M3FN, onnxpb.TensorProto_FLOAT8E4M3FNUZ, onnxpb.TensorProto_FLOAT8E5M2,
		onnxpb.TensorProto_FLOAT8E5M2FNUZ, onnxpb.TensorProto_FLOAT8E8M0, onnxpb.TensorProto_FLOAT4E2M1,
		onnxpb.TensorProto_FLOAT6E2M3, onnxpb.TensorProto_FLOAT6E3M2:
		return true
	}
	return false
}

// IsInteger tells whether d is a type of integers, signed or not; bool is none.
func (d DType) IsInteger() bool {
	switch onnxpb.TensorProto_DataType(d) {
	case onnxpb.TensorProto_INT64, onnxpb.TensorProto_INT32, onnxpb.TensorProto_INT16, onnxpb.TensorProto_INT8,
		onnxpb.TensorProto_INT4, onnxpb.TensorProto_INT2, onnxpb.TensorProto_UINT64, onnxpb.TensorProto_UINT32,
		onnxpb.TensorProto_UINT16, onnxpb.TensorProto_UINT8, onnxpb.TensorProto_UINT4, onnxpb.TensorProto_UINT2:
		return true
	}
	return false
}

// A TensorError says what is wrong with one tensor of a file.
type TensorError struct {
	File, Tensor string
	Err          error
}

func (e *TensorError) Error() string {
	return fmt.Sprintf("%s: tensor %q: %v", e.File, e.Tensor, e.Err)
}

func (e *TensorError) Unwrap() error { return e.Err }

// ErrUnsupportedType says that the numbers of a type cannot be read as values.
var ErrUnsupportedType = errors.New("values of this type cannot be read")

// A Tensor is a tensor of a File: its description at hand, its numbers read on
// demand.
type Tensor struct {
	f *File
	p *onnxpb.TensorProto
}

// Tensor returns a view of p, which must belong to f.Model.
func (f *File) Tensor(p *onnxpb.TensorProto) Tensor { return Tensor{f, p} }

// Name returns the tensor's name as in the file.
func (t Tensor) Name() string { return t.p.GetName() }

// Dims returns the tensor's dimensions as in the file; a hostile file may hold
// negative ones, Elements checks them.
func (t Tensor) Dims() []int64 { return t.p.GetDims() }

// DType returns the element type.
func (t Tensor) DType() DType { return DType(t.p.GetDataType()) }

// maxElements keeps the bits of a tensor of the widest type, complex128, in an int64.
const maxElements = math.MaxInt64 / 128

// Elements returns the product of the dimensions. It fails when one of them is
// negative or the product overflows.
func (t Tensor) Elements() (int64, error) {
	n := int64(1)
	for _, d := range t.p.GetDims() {
		if d < 0 {
			return 0, t.errorf("dimension %d is negative", d)
		}
		if d != 0 && n > maxElements/d {
			return 0, t.errorf("dimensions %v overflow", t.p.GetDims())
		}
		n *= d
	}
	return n, nil
}

func (t Tensor) errorf(format string, a ...any) error {
	return &TensorError{File: t.f.Name, Tensor: t.Name(), Err: fmt.Errorf(format, a...)}
}

// denseBytes is what the elements take in raw form.
func (t Tensor) denseBytes() (int64, error) {
	n, err := t.Elements()
	if err != nil {
		return 0, err
	}
	bits := t.DType().Bits()
	if bits == 0 {
		return 0, t.errorf("elements of %s have no fixed size: %w", t.DType(), ErrUnsupportedType)
	}
	return (n*bits + 7) / 8, nil
}

// StoredBytes returns the bytes that the tensor's numbers take where they are
// stored, in the file or beside it, as the file claims.
func (t Tensor) StoredBytes() int64 {
	if isExternal(t.p) {
		e, err := t.external()
		if err != nil {
			return 0
		}
		return e.length
	}
	n := t.inlineBytes()
	for _, p := range t.p.FilterlensPayload {
		n += p.GetLength()
	}
	return n
}

// inlineBytes is the part of StoredBytes that is in the skeleton.
func (t Tensor) inlineBytes() int64 {
	n := int64(len(t.p.RawData)) + 4*int64(len(t.p.FloatData)) + 8*int64(len(t.p.DoubleData))
	for _, v := range t.p.Int32Data {
		n += int64(protowire.SizeVarint(uint64(v)))
	}
	for _, v := range t.p.Int64Data {
		n += int64(protowire.SizeVarint(uint64(v)))
	}
	for _, v := range t.p.Uint64Data {
		n += int64(protowire.SizeVarint(v))
	}
	for _, s := range t.p.StringData {
		n += int64(len(s))
	}
	return n
}
