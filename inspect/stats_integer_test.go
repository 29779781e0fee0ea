package inspect

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func TestIntegersAreNotRounded(t *testing.T) {
	signed := func(v ...int64) *onnxpb.TensorProto { return intTensor("w", []int64{int64(len(v))}, v...) }
	raw := func(p *onnxpb.TensorProto) *onnxpb.TensorProto {
		for _, v := range p.Int64Data {
			p.RawData = binary.LittleEndian.AppendUint64(p.RawData, uint64(v))
		}
		p.Int64Data = nil
		return p
	}
	unsigned := func(v ...uint64) *onnxpb.TensorProto {
		return &onnxpb.TensorProto{Name: proto.String("w"), Dims: []int64{int64(len(v))}, DataType: proto.Int32(int32(onnxpb.TensorProto_UINT64)), Uint64Data: v}
	}
	for _, c := range []struct {
		name      string
		tensor    *onnxpb.TensorProto
		low, high string // in JSON
		exact     bool
	}{
		{"the largest", signed(math.MaxInt64), "9223372036854775807", "9223372036854775807", true},
		{"both ends", signed(7, math.MinInt64, math.MaxInt64-1, -3), "-9223372036854775808", "9223372036854775806", true},
		{"both ends, raw", raw(signed(7, math.MinInt64, math.MaxInt64-1, -3)), "-9223372036854775808", "9223372036854775806", true},
		{"just beyond", raw(signed(0, 1<<53+1)), "0", "9007199254740993", true},
		{"negative alone", raw(signed(-1<<53-1, -1<<54)), "-18014398509481984", "-9007199254740993", true},
		{"without a sign", unsigned(3, math.MaxUint64), "3", "18446744073709551615", true},
		{"small ones", signed(-3, 70000), "-3", "70000", false},
		{"a list of many", raw(signed(append(make([]int64, 300000), math.MaxInt64)...)), "0", "9223372036854775807", true},
	} {
		s := newSketch(17).input("x", 1).node("Relu", "x", "y").output("y")
		s.Graph.Initializer = append(s.Graph.Initializer, c.tensor)
		v := s.model(t, Options{Statistics: true}).Tensors[0].Values
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"min":` + c.low + `,"max":` + c.high + `,"mean":`; !strings.HasPrefix(string(b), want) {
			t.Errorf("%s: %s, want %s", c.name, b, want)
		}
		if (v.MinInteger != "") != c.exact || (v.MaxInteger != "") != c.exact {
			t.Errorf("%s: %q to %q", c.name, v.MinInteger, v.MaxInteger)
		}
		var back ValueStats
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(back)
		if err != nil || string(again) != string(b) || back.MinInteger != v.MinInteger || *back.Max != *v.Max {
			t.Errorf("%s: read as %s, %v", c.name, again, err)
		}
	}
	b, err := json.Marshal(ValueStats{NaN: 1})
	if err != nil || !strings.HasPrefix(string(b), `{"min":null,"max":null,"mean":null`) {
		t.Errorf("%s, %v", b, err)
	}
	large := 0x1p60
	b, err = json.Marshal(ValueStats{Min: &large, Max: &large})
	var back ValueStats
	if err != nil || json.Unmarshal(b, &back) != nil || *back.Min != large {
		t.Errorf("%s, %v", b, err)
	}
}

// Blocks may end anywhere.
func TestIntegerRange(t *testing.T) {
	var all []byte
	for _, v := range []int64{5, -9, math.MaxInt64, 12} {
		all = binary.LittleEndian.AppendUint64(all, uint64(v))
	}
	for size := 1; size <= len(all); size++ {
		e := integerRange{ctx: t.Context(), flip: 1 << 63, low: math.MaxUint64}
		for b := all; len(b) > 0; b = b[min(size, len(b)):] {
			if _, err := e.Write(b[:min(size, len(b))]); err != nil {
				t.Fatal(err)
			}
		}
		if low, high := int64(e.low^e.flip), int64(e.high^e.flip); low != -9 || high != math.MaxInt64 {
			t.Errorf("blocks of %d: %d to %d", size, low, high)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := integerRange{ctx: ctx}
	if _, err := e.Write(all); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
