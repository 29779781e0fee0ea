package onnxfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

type dtype = onnxpb.TensorProto_DataType

// readable lists the types whose values are read, with the typed field that
// ONNX gives them.
var readable = map[dtype]int32{
	onnxpb.TensorProto_FLOAT: floatField, onnxpb.TensorProto_DOUBLE: doubleField,
	onnxpb.TensorProto_FLOAT16: int32Field, onnxpb.TensorProto_BFLOAT16: int32Field,
	onnxpb.TensorProto_INT64: int64Field, onnxpb.TensorProto_UINT64: uint64Field, onnxpb.TensorProto_UINT32: uint64Field,
	onnxpb.TensorProto_INT32: int32Field, onnxpb.TensorProto_INT16: int32Field, onnxpb.TensorProto_INT8: int32Field,
	onnxpb.TensorProto_UINT16: int32Field, onnxpb.TensorProto_UINT8: int32Field, onnxpb.TensorProto_BOOL: int32Field,
	onnxpb.TensorProto_FLOAT8E4M3FN: int32Field, onnxpb.TensorProto_FLOAT8E4M3FNUZ: int32Field,
	onnxpb.TensorProto_FLOAT8E5M2: int32Field, onnxpb.TensorProto_FLOAT8E5M2FNUZ: int32Field, onnxpb.TensorProto_FLOAT8E8M0: int32Field,
	onnxpb.TensorProto_FLOAT6E2M3: int32Field, onnxpb.TensorProto_FLOAT6E3M2: int32Field, onnxpb.TensorProto_FLOAT4E2M1: int32Field,
	onnxpb.TensorProto_UINT4: int32Field, onnxpb.TensorProto_INT4: int32Field,
	onnxpb.TensorProto_UINT2: int32Field, onnxpb.TensorProto_INT2: int32Field,
}

// sample makes n values of type d: as float64, in raw form and in the typed
// field, each written down on its own.
func sample(t testing.TB, rnd *rand.Rand, d dtype, n int) (want []float64, raw []byte, typed *onnxpb.TensorProto) {
	typed = tensorOf("typed", d, int64(n))
	if bits := DType(d).Bits(); bits < 8 || codeValue(DType(d)) != nil {
		table, list := codes(t)[d], make([]uint8, n)
		for i := range list {
			list[i] = uint8(rnd.IntN(len(table)))
			want = append(want, table[list[i]])
		}
		typed.Int32Data = entries32(list, bits)
		return want, packBits(list, bits), typed
	}
	le := binary.LittleEndian
	for i := range n {
		u := rnd.Uint64()
		if i < 2 {
			u = []uint64{0, math.MaxUint64}[i]
		}
		switch d {
		case onnxpb.TensorProto_FLOAT:
			v := math.Float32frombits(uint32(u))
			want, raw, typed.FloatData = append(want, float64(v)), le.AppendUint32(raw, uint32(u)), append(typed.FloatData, v)
		case onnxpb.TensorProto_DOUBLE:
			v := math.Float64frombits(u)
			want, raw, typed.DoubleData = append(want, v), le.AppendUint64(raw, u), append(typed.DoubleData, v)
		case onnxpb.TensorProto_FLOAT16:
			want, raw, typed.Int32Data = append(want, slowFloat16(uint16(u))), le.AppendUint16(raw, uint16(u)), append(typed.Int32Data, int32(uint16(u)))
		case onnxpb.TensorProto_BFLOAT16:
			v := math.Float32frombits(uint32(uint16(u)) << 16)
			want, raw, typed.Int32Data = append(want, float64(v)), le.AppendUint16(raw, uint16(u)), append(typed.Int32Data, int32(uint16(u)))
		case onnxpb.TensorProto_INT64:
			want, raw, typed.Int64Data = append(want, float64(int64(u))), le.AppendUint64(raw, u), append(typed.Int64Data, int64(u))
		case onnxpb.TensorProto_UINT64:
			want, raw, typed.Uint64Data = append(want, float64(u)), le.AppendUint64(raw, u), append(typed.Uint64Data, u)
		case onnxpb.TensorProto_UINT32:
			want, raw, typed.Uint64Data = append(want, float64(uint32(u))), le.AppendUint32(raw, uint32(u)), append(typed.Uint64Data, uint64(uint32(u)))
		case onnxpb.TensorProto_INT32:
			want, raw, typed.Int32Data = append(want, float64(int32(u))), le.AppendUint32(raw, uint32(u)), append(typed.Int32Data, int32(u))
		case onnxpb.TensorProto_INT16:
			want, raw, typed.Int32Data = append(want, float64(int16(u))), le.AppendUint16(raw, uint16(u)), append(typed.Int32Data, int32(int16(u)))
		case onnxpb.TensorProto_INT8:
			want, raw, typed.Int32Data = append(want, float64(int8(u))), append(raw, byte(u)), append(typed.Int32Data, int32(int8(u)))
		case onnxpb.TensorProto_UINT16:
			want, raw, typed.Int32Data = append(want, float64(uint16(u))), le.AppendUint16(raw, uint16(u)), append(typed.Int32Data, int32(uint16(u)))
		case onnxpb.TensorProto_UINT8:
			want, raw, typed.Int32Data = append(want, float64(uint8(u))), append(raw, byte(u)), append(typed.Int32Data, int32(uint8(u)))
		case onnxpb.TensorProto_BOOL:
			want, raw, typed.Int32Data = append(want, float64(u&1)), append(raw, byte(u&1)), append(typed.Int32Data, int32(u&1))
		}
	}
	return want, raw, typed
}

// slowFloat16 is the definition of IEEE 754 binary16.
func slowFloat16(h uint16) float64 {
	sign := 1.0
	if h>>15 == 1 {
		sign = -1
	}
	exp, frac := int(h>>10&31), float64(h&1023)
	switch exp {
	case 0:
		return sign * frac * math.Pow(2, -24)
	case 31:
		if frac != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * (1 + frac/1024) * math.Pow(2, float64(exp-15))
}

func TestFloat16Value(t *testing.T) {
	for h := range 1 << 16 {
		got, want := float64(Float16Value(uint16(h))), slowFloat16(uint16(h))
		if !sameFloats([]float64{got}, []float64{want}) {
			t.Fatalf("Float16Value(%#04x) = %v, want %v", h, got, want)
		}
	}
}

// Every type in every form, in the skeleton and in the file: the same values,
// the same raw bytes, and the same again after a draft is written and read.
func TestValuesOfEveryTypeAndStorage(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	dir := t.TempDir()
	for d, typedField := range readable {
		for _, n := range []int{0, 1, 3, 700, blockElements + 7} {
			want, raw, typed := sample(t, rnd, d, n)
			inRaw := tensorOf("raw", d, int64(n))
			inRaw.RawData = raw
			blob := fmt.Sprintf("%s-%d.bin", d, n)
			write(t, filepath.Join(dir, blob), append([]byte("head"), raw...))
			outside := external(tensorOf("external", d, int64(n)), blob, 4, int64(len(raw)))
			f := openAt(t, write(t, filepath.Join(dir, "m.onnx"), marshal(t, modelOf(inRaw, typed, outside))))
			for _, p := range f.Model.Graph.Initializer {
				x := f.Tensor(p)
				name := fmt.Sprintf("%s, %d values, %s", d, n, p.GetName())
				if len(raw) >= payloadLimit && x.Name() != "external" {
					field := int32(rawField)
					if x.Name() == "typed" {
						field = typedField
					}
					if len(p.FilterlensPayload) != 1 || p.FilterlensPayload[0].GetField() != field {
						t.Fatalf("%s: payload %v", name, p.FilterlensPayload)
					}
				}
				if got := values(t, x); !sameFloats(got, want) {
					t.Fatalf("%s: other values", name)
				}
				var viaBlocks []float64
				for b, err := range x.Blocks() {
					if err != nil {
						t.Fatal(err)
					}
					viaBlocks = append(viaBlocks, b...)
				}
				if !sameFloats(viaBlocks, want) {
					t.Fatalf("%s: other blocks", name)
				}
				c, err := x.Raw(nil)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				var buf bytes.Buffer
				if k, err := c.WriteTo(&buf); err != nil || k != c.Len() || !bytes.Equal(buf.Bytes(), raw) {
					t.Fatalf("%s: Raw wrote %d of %d bytes, %v", name, k, c.Len(), err)
				}
				if same, err := SameData(x, f.Tensor(f.Model.Graph.Initializer[0])); err != nil || !same {
					t.Fatalf("%s: SameData %v, %v", name, same, err)
				}
				if f32, err := x.Float32s(int64(n)); err != nil || len(f32) != n || n > 0 && math.Float32bits(f32[n-1]) != math.Float32bits(float32(want[n-1])) && !math.IsNaN(want[n-1]) {
					t.Fatalf("%s: Float32s: %d values, %v", name, len(f32), err)
				}
			}
			draft := f.Draft()
			if err := draft.InlineExternal(); err != nil {
				t.Fatal(err)
			}
			b, err := draft.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			again := read(t, b)
			if again.External() {
				t.Fatal("still external")
			}
			for _, p := range again.Model.Graph.Initializer {
				if got := values(t, again.Tensor(p)); !sameFloats(got, want) {
					t.Fatalf("%s, %d values, %s: other values after writing", d, n, p.GetName())
				}
			}
		}
	}
}

// A part is the same slice of the whole, wherever it begins and ends, also when
// others read at the same time.
func TestValuesIn(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	const n = blockElements + 77
	for d, typedField := range readable {
		want, raw, typed := sample(t, rnd, d, n)
		inRaw := tensorOf("raw", d, n)
		inRaw.RawData = raw
		f := openAt(t, write(t, filepath.Join(t.TempDir(), "m.onnx"), marshal(t, modelOf(inRaw, typed))))
		parts := [][2]int64{{0, 0}, {0, 1}, {1, 1}, {1, 2}, {3, 4}, {5, 9}, {0, n}, {n, n}, {n - 1, n}, {blockElements, n}, {blockElements - 1, blockElements + 1}}
		for range 4 {
			from := rnd.Int64N(n)
			parts = append(parts, [2]int64{from, from + rnd.Int64N(n-from+1)})
		}
		for _, p := range f.Model.Graph.Initializer {
			x := f.Tensor(p)
			sequential := x.Name() == "typed" && typedField != floatField && typedField != doubleField
			var wg sync.WaitGroup
			for _, part := range parts {
				wg.Go(func() {
					var got []float64
					err := x.ValuesIn(part[0], part[1], func(b []float64) error {
						if len(b) == 0 || len(b) > blockElements {
							t.Errorf("block of %d", len(b))
						}
						got = append(got, b...)
						return nil
					})
					var single []float32
					buf := make([]float32, []int{0, 3, 4, 1003, 2 * blockElements}[part[1]%5])
					longest := len(buf)
					if longest < 4 {
						longest = blockElements
					}
					err32 := x.Float32sIn(part[0], part[1], buf, func(b []float32) error {
						if len(b) == 0 || len(b) > longest {
							t.Errorf("block of %d", len(b))
						}
						single = append(single, b...)
						return nil
					})
					var te *TensorError
					switch {
					case sequential && part[0] > 0:
						if !errors.Is(err, ErrSequential) || !errors.As(err, &te) || !errors.Is(err32, ErrSequential) {
							t.Errorf("%s, %s, %v: %v, %v", d, x.Name(), part, err, err32)
						}
					case err != nil || !sameFloats(got, want[part[0]:part[1]]):
						t.Errorf("%s, %s, %v: other values, %v", d, x.Name(), part, err)
					case err32 != nil || !sameFloats(double(single), double(narrow(want[part[0]:part[1]]))):
						t.Errorf("%s, %s, %v: other values as float32, %v", d, x.Name(), part, err32)
					}
				})
			}
			wg.Wait()
			for _, part := range [][2]int64{{-1, 1}, {2, 1}, {0, n + 1}, {n + 1, n + 1}, {math.MinInt64, math.MaxInt64}} {
				if err := x.ValuesIn(part[0], part[1], func([]float64) error { return nil }); err == nil || !strings.Contains(err.Error(), "elements [") {
					t.Errorf("%v: %v", part, err)
				}
			}
		}
	}
}

func narrow(v []float64) (out []float32) {
	for _, x := range v {
		out = append(out, float32(x))
	}
	return out
}

func double(v []float32) (out []float64) {
	for _, x := range v {
		out = append(out, float64(x))
	}
	return out
}

func TestInt64sOfEveryIntegerType(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 12))
	for d := range readable {
		want, raw, typed := sample(t, rnd, d, 700)
		x := tensorOf("raw", d, 700)
		x.RawData = raw
		if d == onnxpb.TensorProto_UINT64 || d == onnxpb.TensorProto_INT64 {
			continue // below, and with their own tests: float64 cannot hold what is wanted
		}
		f := read(t, marshal(t, modelOf(x, typed)))
		for _, p := range f.Model.Graph.Initializer {
			got, err := f.Tensor(p).Int64s(700)
			if strings.Contains(d.String(), "INT") != (err == nil) {
				t.Errorf("%s: %v", d, err)
			}
			for i, v := range got {
				if float64(v) != want[i] {
					t.Fatalf("%s: %d, want %v", d, v, want[i])
				}
			}
		}
	}
	for last, want := range map[uint64]bool{math.MaxInt64: true, math.MaxInt64 + 1: false, math.MaxUint64: false} {
		x := tensorOf("w", onnxpb.TensorProto_UINT64, 2)
		x.Uint64Data = []uint64{1 << 60, last}
		f := read(t, marshal(t, modelOf(x)))
		got, err := f.Tensor(f.Model.Graph.Initializer[0]).Int64s(2)
		if want != (err == nil) || want && !slices.Equal(got, []int64{1 << 60, int64(last)}) {
			t.Errorf("%d: %v, %v", last, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("element 1 is %d", last)) {
			t.Error(err)
		}
	}
}

func TestInt64sAreNotRounded(t *testing.T) {
	for _, n := range []int{1, 1000} {
		want := slices.Repeat([]int64{math.MaxInt64, math.MinInt64, 1<<53 + 1, -7}, n)
		typed := tensorOf("typed", onnxpb.TensorProto_INT64, int64(len(want)))
		typed.Int64Data = want
		raw := tensorOf("raw", onnxpb.TensorProto_INT64, int64(len(want)))
		for _, v := range want {
			raw.RawData = binary.LittleEndian.AppendUint64(raw.RawData, uint64(v))
		}
		f := read(t, marshal(t, modelOf(typed, raw)))
		for _, p := range f.Model.Graph.Initializer {
			if got, err := f.Tensor(p).Int64s(int64(len(want))); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %d: %v", p.GetName(), n, err)
			}
			if _, err := f.Tensor(p).Int64s(int64(len(want) - 1)); err == nil {
				t.Errorf("%s, %d: the limit does not hold", p.GetName(), n)
			}
		}
	}
	small := tensorOf("small", onnxpb.TensorProto_INT32, 2)
	small.Int32Data = []int32{-5, math.MaxInt32}
	wrong := tensorOf("wrong", onnxpb.TensorProto_FLOAT, 1)
	wrong.FloatData = []float32{1}
	f := read(t, marshal(t, modelOf(small, wrong)))
	if got, err := f.Tensor(f.Model.Graph.Initializer[0]).Int64s(2); err != nil || !slices.Equal(got, []int64{-5, math.MaxInt32}) {
		t.Errorf("int32: %v, %v", got, err)
	}
	if _, err := f.Tensor(f.Model.Graph.Initializer[1]).Int64s(2); err == nil {
		t.Error("float is no integer")
	}
}

func TestTensorErrors(t *testing.T) {
	with := func(d dtype, dims []int64, set func(*onnxpb.TensorProto)) *onnxpb.TensorProto {
		x := tensorOf("w", d, dims...)
		if set != nil {
			set(x)
		}
		return x
	}
	raw := func(n int) func(*onnxpb.TensorProto) {
		return func(x *onnxpb.TensorProto) { x.RawData = make([]byte, n) }
	}
	packed := func(b ...byte) func(*onnxpb.TensorProto) { // int64_data as a payload of these bytes
		return func(x *onnxpb.TensorProto) { x.ProtoReflect().SetUnknown(field(int64Field, b)) }
	}
	f, i64 := onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_INT64
	for _, c := range []struct {
		name, want string
		x          *onnxpb.TensorProto
	}{
		{"negative dimension", "dimension -1 is negative", with(f, []int64{2, -1}, raw(8))},
		{"dimensions overflow", "overflow", with(f, []int64{1 << 31, 1 << 31, 4}, raw(8))},
		{"lying dimensions", "8 bytes stored, [1000000000000] of float needs 4000000000000", with(f, []int64{1e12}, raw(8))},
		{"lying dimensions, payload", "2000 bytes stored", with(f, []int64{1 << 40}, raw(2000))},
		{"too many bytes", "2004 bytes stored", with(f, []int64{500}, raw(2004))},
		{"no data", "0 bytes stored", with(f, []int64{3}, nil)},
		{"lying dimensions, varints", "has 1099511627776 values", with(i64, []int64{1 << 40}, packed(bytes.Repeat([]byte{1}, 2000)...))},
		{"too few varints", "1000 values of int64_data stored, [1500] has 1500", with(i64, []int64{1500}, packed(bytes.Repeat([]byte{0x80, 1}, 1000)...))},
		{"too many varints", "more values of int64_data stored", with(i64, []int64{999}, packed(bytes.Repeat([]byte{1}, 1000)...))},
		{"varint cut off", "ends in the middle", with(i64, []int64{601}, packed(append(bytes.Repeat([]byte{1}, 600), 0x80)...))},
		{"varint too long", "more than 64 bits", with(i64, []int64{5}, packed(bytes.Repeat([]byte{0xff}, 600)...))},
		{"data twice", "given twice", with(f, []int64{200}, func(x *onnxpb.TensorProto) { x.RawData = make([]byte, 800); x.FloatData = make([]float32, 200) })},
		{"data twice, short", "given twice, as raw_data and as float_data", with(f, []int64{2}, func(x *onnxpb.TensorProto) { x.RawData = make([]byte, 8); x.FloatData = make([]float32, 2) })},
		{"float in int64_data", "cannot be read from int64_data", with(f, []int64{1}, func(x *onnxpb.TensorProto) { x.Int64Data = []int64{1} })},
		{"int32 in float_data", "cannot be read from float_data", with(onnxpb.TensorProto_INT32, []int64{1}, func(x *onnxpb.TensorProto) { x.FloatData = []float32{1} })},
		{"string", "string: values of this type cannot be read", with(onnxpb.TensorProto_STRING, []int64{1}, func(x *onnxpb.TensorProto) { x.StringData = [][]byte{{65}} })},
		{"complex128", "complex128: values of this type cannot be read", with(onnxpb.TensorProto_COMPLEX128, []int64{2}, raw(32))},
		{"unknown type", "type 99: values of this type cannot be read", with(99, []int64{2}, raw(2))},
		{"complex", "complex64: values", with(onnxpb.TensorProto_COMPLEX64, []int64{1}, raw(8))},
		{"segment", "segmented", with(f, []int64{1}, func(x *onnxpb.TensorProto) { x.Segment = &onnxpb.TensorProto_Segment{} })},
		{"external without a folder", "was not opened from a folder", external(with(f, []int64{1}, nil), "x", 0, 4)},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := read(t, marshal(t, modelOf(c.x)))
			x := f.Tensor(f.Model.Graph.Initializer[0])
			err := x.Values(func([]float64) error { return nil })
			var te *TensorError
			if !errors.As(err, &te) || te.Tensor != "w" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Values: %v, want %q", err, c.want)
			}
			if strings.Contains(c.want, "values of this type") && !errors.Is(err, ErrUnsupportedType) {
				t.Error("not ErrUnsupportedType")
			}
			if _, err := x.Float32s(math.MaxInt64); err == nil {
				t.Error("Float32s passes")
			}
			x.StoredBytes() // must not panic
		})
	}
	ok := read(t, marshal(t, modelOf(with(f, []int64{4, 200}, raw(3200)))))
	x := ok.Tensor(ok.Model.Graph.Initializer[0])
	if _, err := x.Float32s(799); err == nil || !strings.Contains(err.Error(), "at most 799") {
		t.Errorf("limit: %v", err)
	}
	stop := errors.New("stop")
	if err := x.Values(func([]float64) error { return stop }); err != stop {
		t.Errorf("fn's error comes back as %v", err)
	}
	for range x.Blocks() {
		break
	}
}

func TestElementsAndStoredBytes(t *testing.T) {
	x := tensorOf("w", onnxpb.TensorProto_INT64, 2, 0, 1<<40)
	scalar := tensorOf("s", onnxpb.TensorProto_FLOAT)
	scalar.FloatData = []float32{1}
	ints := tensorOf("i", onnxpb.TensorProto_INT64, 3)
	ints.Int64Data = []int64{1, -1, 300}
	out := external(tensorOf("e", onnxpb.TensorProto_INT4, 5), "w.bin", 0, 3)
	noLength := tensorOf("n", onnxpb.TensorProto_INT4, 5)
	noLength.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
	noLength.ExternalData = entries("location", "w.bin")
	lying := external(tensorOf("l", onnxpb.TensorProto_INT4, 5), "w.bin", 0, -3)
	f := read(t, marshal(t, modelOf(x, scalar, ints, out, noLength, lying)))
	for i, want := range []struct{ elements, bytes int64 }{{0, 0}, {1, 4}, {3, 13}, {5, 3}, {5, 3}, {5, 0}} {
		got := f.Tensor(f.Model.Graph.Initializer[i])
		if n, err := got.Elements(); err != nil || n != want.elements || got.StoredBytes() != want.bytes {
			t.Errorf("%s: %d elements, %d bytes, %v, want %v", got.Name(), n, got.StoredBytes(), err, want)
		}
	}
}

func TestExternalData(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "model")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	data := []byte{0, 0, 0, 0, 0, 0, 128, 63} // 0, 1
	write(t, filepath.Join(parent, "secret"), data)
	write(t, filepath.Join(dir, "w.bin"), data)
	write(t, filepath.Join(dir, "sub", "w.bin"), data)
	for link, to := range map[string]string{"out": "../secret", "abs": filepath.Join(parent, "secret"), "in": "w.bin", "updir": "..", "dangling": "nothing"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
	}
	mkfifo(t, filepath.Join(dir, "fifo"))
	for _, c := range []struct {
		want string // "" when it is read
		kv   []string
	}{
		{"", []string{"location", "w.bin"}},
		{"", []string{"location", "w.bin", "offset", "0", "length", "8", "checksum", "zz"}},
		{"", []string{"location", "./sub/../sub/w.bin"}},
		{"", []string{"location", "in"}},
		{"escapes", []string{"location", "../secret"}},
		{"escapes", []string{"location", "sub/../../secret"}},
		{"escapes", []string{"location", filepath.Join(parent, "secret")}},
		{"escapes", []string{"location", "out"}},
		{"escapes", []string{"location", "abs"}},
		{"escapes", []string{"location", "updir/secret"}},
		{"no such file", []string{"location", "dangling"}},
		{"no such file", []string{"location", "missing.bin"}},
		{"not a regular file", []string{"location", "fifo"}},
		{"not a regular file", []string{"location", "sub"}},
		{"not a regular file", []string{"location", "."}},
		{"invalid argument", []string{"location", "w.bin\x00"}},
		{"without a location", []string{"offset", "0"}},
		{"8 bytes at 1, the file has 8", []string{"location", "w.bin", "offset", "1"}},
		{"8 bytes at 9223372036854775807", []string{"location", "w.bin", "offset", "9223372036854775807"}},
		{"9223372036854775807 bytes at 8", []string{"location", "w.bin", "offset", "8", "length", "9223372036854775807"}},
		{"4 bytes stored", []string{"location", "w.bin", "length", "4"}},
		{`offset "-1" is not`, []string{"location", "w.bin", "offset", "-1"}},
		{`length "-1" is not`, []string{"location", "w.bin", "length", "-1"}},
		{`length "8 bytes" is not`, []string{"location", "w.bin", "length", "8 bytes"}},
		{`offset "99999999999999999999" is not`, []string{"location", "w.bin", "offset", "99999999999999999999"}},
	} {
		x := tensorOf("w", onnxpb.TensorProto_FLOAT, 2)
		x.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
		x.ExternalData = entries(c.kv...)
		f := openAt(t, write(t, filepath.Join(dir, "m.onnx"), marshal(t, modelOf(x))))
		if !f.External() {
			t.Error("not external")
		}
		got, err := f.Tensor(f.Model.Graph.Initializer[0]).Float32s(10)
		if c.want == "" {
			if err != nil || !slices.Equal(got, []float32{0, 1}) {
				t.Errorf("%q: %v, %v", c.kv, got, err)
			}
			continue
		}
		var te *TensorError
		if !errors.As(err, &te) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v, want %q", c.kv, err, c.want)
		}
		if err := f.Draft().InlineExternal(); err == nil {
			t.Errorf("%q: InlineExternal passes", c.kv)
		}
	}
	// A link to the model: the data lies beside the model.
	x := external(tensorOf("w", onnxpb.TensorProto_FLOAT, 2), "w.bin", 0, 8)
	write(t, filepath.Join(dir, "m.onnx"), marshal(t, modelOf(x)))
	link := filepath.Join(parent, "link.onnx")
	if err := os.Symlink(filepath.Join("model", "m.onnx"), link); err != nil {
		t.Fatal(err)
	}
	f := openAt(t, link)
	if _, err := f.Tensor(f.Model.Graph.Initializer[0]).Float32s(10); err != nil {
		t.Error(err)
	}
}

func TestPairs(t *testing.T) {
	n := 2*blockElements + 5
	rnd := rand.New(rand.NewPCG(5, 6))
	half := tensorOf("a", onnxpb.TensorProto_FLOAT16, int64(n))
	single := tensorOf("b", onnxpb.TensorProto_FLOAT, int64(n))
	for range n {
		h := uint16(rnd.Uint32()) &^ (1 << 14) // no infinities
		half.RawData = binary.LittleEndian.AppendUint16(half.RawData, h)
		single.FloatData = append(single.FloatData, Float16Value(h))
	}
	changed := proto.Clone(single).(*onnxpb.TensorProto)
	changed.FloatData[blockElements+9]++
	short := tensorOf("short", onnxpb.TensorProto_FLOAT, 1)
	short.FloatData = []float32{1}
	f := read(t, marshal(t, modelOf(half, single, changed, short)))
	at := func(i int) Tensor { return f.Tensor(f.Model.Graph.Initializer[i]) }
	for _, c := range []struct {
		a, b           int
		same, unequals int
	}{{0, 1, 0, 0}, {1, 1, 3, 0}, {1, 2, 2, 1}, {2, 0, 0, 1}} {
		same, unequals, total := 0, 0, 0
		err := Pairs(at(c.a), at(c.b), func(x, y []float64, s bool) error {
			if s {
				same++
			}
			for i := range x {
				if x[i] != y[i] {
					unequals++
				}
			}
			total += len(x)
			return nil
		})
		if err != nil || same != c.same || unequals != c.unequals || total != n {
			t.Errorf("Pairs(%d, %d): %d same blocks, %d unequal of %d values, %v", c.a, c.b, same, unequals, total, err)
		}
	}
	if err := Pairs(at(0), at(3), func([]float64, []float64, bool) error { return nil }); err == nil || !strings.Contains(err.Error(), "1 elements, 65541 in m.onnx") {
		t.Errorf("unequal lengths: %v", err)
	}
	if same, err := SameData(at(1), at(2)); same || err != nil {
		t.Errorf("SameData: %v, %v", same, err)
	}
}

func TestSameDataOfTypesWithoutValues(t *testing.T) {
	str := func(s string) *onnxpb.TensorProto {
		x := tensorOf("s", onnxpb.TensorProto_STRING, 1)
		x.StringData = [][]byte{[]byte(s)}
		return x
	}
	four := func(b byte) *onnxpb.TensorProto {
		x := tensorOf("q", onnxpb.TensorProto_INT4, 1999)
		x.RawData = bytes.Repeat([]byte{b}, 1000)
		return x
	}
	f := read(t, marshal(t, modelOf(str("a"), str("b"), four(1), four(2))))
	for a := range 4 {
		for b := range 4 {
			got, err := SameData(f.Tensor(f.Model.Graph.Initializer[a]), f.Tensor(f.Model.Graph.Initializer[b]))
			if err != nil || got != (a == b) {
				t.Errorf("SameData(%d, %d) = %v, %v", a, b, got, err)
			}
		}
	}
}
