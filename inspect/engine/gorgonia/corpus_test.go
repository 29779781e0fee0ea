package gorgonia_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// corpusRoot is the folder of other projects' ONNX files; the test is left out
// where there is none.
func corpusRoot(t testing.TB) string {
	t.Helper()
	root := os.Getenv("FILTERLENS_CORPUS")
	if root == "" {
		t.Skip("LEFT OUT: FILTERLENS_CORPUS is not set")
	}
	return root
}

const (
	// caseTime is a hang, not a slow machine; caseMemory bounds what a model of
	// the size of a test may allocate, in bytes.
	caseTime   = 60 * time.Second
	caseMemory = 256 << 20
)

// errPanic wraps what an engine panicked with.
var errPanic = errors.New("panic")

// guarded runs do and turns a panic into an error; a hang ends the test with the
// stacks that say where, and too much memory is an error.
func guarded(name string, do func() error) (err error) {
	hang := time.AfterFunc(caseTime, func() { panic(fmt.Sprintf("%s: not done after %v", name, caseTime)) })
	defer hang.Stop()
	before := allocated()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
		} else if n := allocated() - before; n > caseMemory {
			err = fmt.Errorf("%d bytes were allocated, at most %d are allowed (%v)", n, caseMemory, err)
		}
	}()
	return do()
}

func allocated() int64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.TotalAlloc)
}

// refusal returns the error of an engine that names what it lacks, nil when err
// is another one. A refusal that says neither which nodes, which operators and
// why, nor what else of the model it is about, is an error.
func refusal(err error, g *onnxpb.GraphProto) (*gorgonia.UnsupportedError, error) {
	var u *gorgonia.UnsupportedError
	if !errors.As(err, &u) {
		return nil, nil
	}
	if (len(u.Nodes) == 0) != (u.Reason != "") {
		return u, fmt.Errorf("the refusal names neither nodes nor what else it is about, or both: %v", err)
	}
	for _, n := range u.Nodes {
		if n.Reason == "" {
			return u, fmt.Errorf("the refusal lacks a reason: %+v", n)
		}
		if n.Index < 0 || n.Index >= len(g.GetNode()) {
			return u, fmt.Errorf("the refusal names node %d of %d: %+v", n.Index, len(g.GetNode()), n)
		}
		if is := g.Node[n.Index]; is.GetName() != n.Node || operatorOf(is) != n.Op {
			return u, fmt.Errorf("node %d is %q (%s), the refusal says %+v", n.Index, is.GetName(), operatorOf(is), n)
		}
	}
	return u, nil
}

// operatorOf is a node's operator, with its domain when that is not the
// standard's.
func operatorOf(n *onnxpb.NodeProto) string {
	if d := n.GetDomain(); d != "" && d != "ai.onnx" {
		return d + "." + n.GetOpType()
	}
	return n.GetOpType()
}

// fed returns the inputs that have no value in the file, in its order.
func fed(g *onnxpb.GraphProto) []*onnxpb.ValueInfoProto {
	stored := make(map[string]bool)
	for _, t := range g.GetInitializer() {
		stored[t.GetName()] = true
	}
	return slices.DeleteFunc(slices.Clone(g.GetInput()), func(v *onnxpb.ValueInfoProto) bool { return stored[v.GetName()] })
}

// readTensorProto reads a TensorProto that lies in a file of its own.
func readTensorProto(path string) (*onnxpb.TensorProto, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := new(onnxpb.TensorProto)
	return p, proto.Unmarshal(b, p)
}

// tensorOf returns the numbers of a TensorProto that are in memory.
func tensorOf(p *onnxpb.TensorProto) (*engine.Tensor, error) {
	n := 1
	for _, d := range p.Dims {
		if d < 0 || d > 1<<24 {
			return nil, fmt.Errorf("shape %v", p.Dims)
		}
		n *= int(d)
	}
	var data any
	switch onnxpb.TensorProto_DataType(p.GetDataType()) {
	case onnxpb.TensorProto_FLOAT:
		data = numbers(p.RawData, p.FloatData, func(v float32) float32 { return v })
	case onnxpb.TensorProto_DOUBLE:
		data = numbers(p.RawData, p.DoubleData, func(v float64) float64 { return v })
	case onnxpb.TensorProto_INT64:
		data = numbers(p.RawData, p.Int64Data, func(v int64) int64 { return v })
	case onnxpb.TensorProto_UINT64:
		data = numbers(p.RawData, p.Uint64Data, func(v uint64) uint64 { return v })
	case onnxpb.TensorProto_UINT32:
		data = numbers(p.RawData, p.Uint64Data, func(v uint64) uint32 { return uint32(v) })
	case onnxpb.TensorProto_INT32:
		data = numbers(p.RawData, p.Int32Data, func(v int32) int32 { return v })
	case onnxpb.TensorProto_INT16:
		data = numbers(p.RawData, p.Int32Data, func(v int32) int16 { return int16(v) })
	case onnxpb.TensorProto_UINT16, onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_BFLOAT16:
		data = numbers(p.RawData, p.Int32Data, func(v int32) uint16 { return uint16(v) })
	case onnxpb.TensorProto_INT8:
		data = numbers(p.RawData, p.Int32Data, func(v int32) int8 { return int8(v) })
	case onnxpb.TensorProto_UINT8:
		data = numbers(p.RawData, p.Int32Data, func(v int32) uint8 { return uint8(v) })
	case onnxpb.TensorProto_BOOL:
		var list []bool
		for _, v := range numbers(p.RawData, p.Int32Data, func(v int32) uint8 { return uint8(v) }) {
			list = append(list, v != 0)
		}
		data = list
	default:
		return nil, fmt.Errorf("tensors of %s are not handed over", onnxfile.DType(p.GetDataType()))
	}
	v := reflect.ValueOf(data)
	if v.IsNil() {
		v = reflect.MakeSlice(v.Type(), 0, 0)
	}
	if v.Len() != n {
		return nil, fmt.Errorf("%d elements for shape %v", v.Len(), p.Dims)
	}
	return &engine.Tensor{Shape: append([]int64{}, p.Dims...), Data: v.Interface()}, nil
}

// numbers decodes raw, or converts the typed field when there is none.
func numbers[T, F any](raw []byte, field []F, convert func(F) T) []T {
	if len(field) > 0 {
		out := make([]T, len(field))
		for i, v := range field {
			out[i] = convert(v)
		}
		return out
	}
	var one T
	out := make([]T, len(raw)/binary.Size(one))
	if _, err := binary.Decode(raw, binary.LittleEndian, out); err != nil {
		return nil
	}
	return out
}

// floating returns the numbers of a tensor of floating-point type, nil for
// others; dtype tells the 16-bit types apart.
func floating(t *engine.Tensor, dtype onnxfile.DType) []float64 {
	out := []float64{}
	switch data := t.Data.(type) {
	case []float32:
		for _, v := range data {
			out = append(out, float64(v))
		}
		return out
	case []float64:
		return data
	case []uint16:
		for _, v := range data {
			switch dtype {
			case onnxfile.Float16:
				out = append(out, half(v))
			case onnxfile.BFloat16:
				out = append(out, float64(math.Float32frombits(uint32(v)<<16)))
			default:
				return nil
			}
		}
		return out
	}
	return nil
}

func half(v uint16) float64 {
	sign, exponent, fraction := 1-2*float64(v>>15), int(v>>10&31), float64(v&1023)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

// The tolerances of ONNX's own runner of these tests; bfloat16, which it rounds
// by the same rule, has but 8 bits.
const (
	relative         = 1e-3
	absolute         = 1e-7
	relativeBFloat16 = 1. / 128
)

// agree compares what an engine made with what is due. Numbers of floating-point
// type may differ by the tolerances, NaN equals NaN; all others are equal. worst
// is the largest difference by the largest magnitude.
func agree(got, want *engine.Tensor, dtype onnxfile.DType) (worst float64, err error) {
	if reflect.TypeOf(got.Data) != reflect.TypeOf(want.Data) {
		return 0, fmt.Errorf("made %T where %T is due", got.Data, want.Data)
	}
	if !slices.Equal(got.Shape, want.Shape) {
		return 0, fmt.Errorf("made shape %v where %v is due", got.Shape, want.Shape)
	}
	a, b := floating(got, dtype), floating(want, dtype)
	if b == nil {
		if !reflect.DeepEqual(got.Data, want.Data) && engine.Elements(want.Shape) > 0 {
			return 0, fmt.Errorf("made %s where %s is due", brief(got.Data), brief(want.Data))
		}
		return 0, nil
	}
	if len(a) != len(b) {
		return 0, fmt.Errorf("made %d elements where %d are due", len(a), len(b))
	}
	rtol := relative
	if dtype == onnxfile.BFloat16 {
		rtol = relativeBFloat16
	}
	var largest float64
	for i, y := range b {
		x := a[i]
		if !math.IsInf(y, 0) && !math.IsNaN(y) {
			largest = max(largest, math.Abs(y))
		}
		if x == y || math.IsNaN(x) && math.IsNaN(y) {
			continue
		}
		if d := math.Abs(x - y); d <= absolute+rtol*math.Abs(y) && !math.IsInf(y, 0) {
			worst = max(worst, d)
			continue
		}
		return 0, fmt.Errorf("element %d is %v where %v is due: made %s, due %s", i, x, y, brief(got.Data), brief(want.Data))
	}
	if worst > 0 {
		worst /= largest
	}
	return worst, nil
}

// brief prints the beginning of a slice.
func brief(data any) string {
	v := reflect.ValueOf(data)
	if v.Len() > 12 {
		return strings.TrimSuffix(fmt.Sprint(v.Slice(0, 12).Interface()), "]") + " ...]"
	}
	return fmt.Sprint(data)
}

// compute loads a model, runs it once and returns all its outputs. ran tells
// whether loading succeeded.
func compute(ctx context.Context, e engine.Engine, m engine.Model, in map[string]*engine.Tensor) (out map[string]*engine.Tensor, ran bool, err error) {
	s, err := e.Load(ctx, m)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	out = make(map[string]*engine.Tensor)
	for _, v := range s.Outputs() {
		out[v.Name] = nil
	}
	return out, true, s.Run(ctx, in, out)
}
