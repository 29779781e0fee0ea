package onnxfile

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// codes reads testdata/codes.txt: the value of every code of each type of at
// most eight bits, bool excepted.
func codes(t testing.TB) map[dtype][]float64 {
	t.Helper()
	b, err := os.ReadFile("testdata/codes.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[dtype][]float64{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		var list []float64
		for _, s := range f[1:] {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, v)
		}
		out[dtype(onnxpb.TensorProto_DataType_value[strings.ToUpper(f[0])])] = list
	}
	return out
}

// packBits is the definition of packed raw data: the bits of each code, lowest
// first, one code after the other.
func packBits(list []uint8, bits int64) []byte {
	var out []byte
	n := 0
	for _, c := range list {
		for i := range bits {
			if n%8 == 0 {
				out = append(out, 0)
			}
			out[n/8] |= c >> i & 1 << (n % 8)
			n++
		}
	}
	return out
}

// entries32 are codes as int32_data has them: six bits and eight one an entry,
// smaller ones packed into bytes.
func entries32(list []uint8, bits int64) []int32 {
	if bits < 6 {
		list = packBits(list, bits)
	}
	var out []int32
	for _, c := range list {
		out = append(out, int32(c))
	}
	return out
}

func TestEveryCodeOfTheSmallTypes(t *testing.T) {
	table := codes(t)
	for d := range onnxpb.TensorProto_DataType_name {
		if bits := DType(d).Bits(); bits > 0 && bits <= 8 && dtype(d) != onnxpb.TensorProto_BOOL && len(table[dtype(d)]) != 1<<bits {
			t.Errorf("%s: %d expected values", DType(d), len(table[dtype(d)]))
		}
	}
	for d, want := range table {
		bits := DType(d).Bits()
		all := make([]uint8, len(want))
		for i := range all {
			all[i] = uint8(i)
		}
		// Every number of elements, so that each place in a last byte occurs.
		for n := range len(all) + 1 {
			raw := tensorOf("raw", d, int64(n))
			raw.RawData = packBits(all[:n], bits)
			typed := tensorOf("typed", d, int64(n))
			typed.Int32Data = entries32(all[:n], bits)
			f := read(t, marshal(t, modelOf(raw, typed)))
			for _, p := range f.Model.Graph.Initializer {
				if got := values(t, f.Tensor(p)); !sameFloats(got, want[:n]) {
					t.Fatalf("%s, %d values, %s: %v, want %v", d, n, p.GetName(), got, want[:n])
				}
			}
		}
	}
}

// Writers of int8 and of packed int4 fill the entry's upper bits with the sign.
func TestUpperBitsOfEntriesDoNotCount(t *testing.T) {
	for _, c := range []struct {
		d    dtype
		n    int64
		in   int32
		want []float64
	}{
		{onnxpb.TensorProto_INT8, 1, -1, []float64{-1}},
		{onnxpb.TensorProto_UINT8, 1, -1, []float64{255}},
		{onnxpb.TensorProto_INT4, 2, -2, []float64{-2, -1}},
		{onnxpb.TensorProto_UINT2, 3, -1, []float64{3, 3, 3}},
		{onnxpb.TensorProto_FLOAT6E2M3, 1, 0x7fffffc8, []float64{1}},
	} {
		x := tensorOf("w", c.d, c.n)
		x.Int32Data = []int32{c.in}
		f := read(t, marshal(t, modelOf(x)))
		if got := values(t, f.Tensor(f.Model.Graph.Initializer[0])); !sameFloats(got, c.want) {
			t.Errorf("%s: %v, want %v", c.d, got, c.want)
		}
	}
}

// Elements of six bits straddle bytes, and so do the blocks they are read in.
func TestSixBitsInBlocksOfAnySize(t *testing.T) {
	const n = 1001
	list := make([]uint8, n)
	for i := range list {
		list[i] = uint8(i * 37 % 64)
	}
	x := tensorOf("w", onnxpb.TensorProto_FLOAT6E2M3, n)
	x.Int32Data = entries32(list, 6)
	f := read(t, marshal(t, modelOf(x)))
	want := packBits(list, 6)
	for size := 1; size < 20; size++ {
		r, err := f.Tensor(f.Model.Graph.Initializer[0]).raw()
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for buf := make([]byte, size); ; {
			b, err := r.fill(buf)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) == 0 {
				break
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("blocks of %d: other bytes", size)
		}
	}
}
