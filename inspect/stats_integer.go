package inspect

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// exactLimit is the number up to which every integer is a float64.
const exactLimit = 1 << 53

// MarshalJSON writes integers that no float64 holds in all their digits.
func (v ValueStats) MarshalJSON() ([]byte, error) {
	type plain ValueStats
	low, high := any(v.Min), any(v.Max)
	if v.MinInteger != "" && v.MaxInteger != "" {
		low, high = v.MinInteger, v.MaxInteger
	}
	return json.Marshal(struct {
		Min any `json:"min"`
		Max any `json:"max"`
		*plain
	}{low, high, (*plain)(&v)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (v *ValueStats) UnmarshalJSON(b []byte) error {
	type plain ValueStats
	var p plain
	var ends struct{ Min, Max json.Number }
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	if err := json.Unmarshal(b, &ends); err != nil {
		return err
	}
	*v = ValueStats(p)
	if v.Min != nil && v.Max != nil && v.rounds() && isInteger(ends.Min) && isInteger(ends.Max) {
		v.MinInteger, v.MaxInteger = ends.Min, ends.Max
	}
	return nil
}

// rounds tells whether Min or Max may be a rounded integer.
func (v *ValueStats) rounds() bool {
	return math.Abs(*v.Min) >= exactLimit || math.Abs(*v.Max) >= exactLimit
}

// isInteger tells whether n is written as an integer of 64 bits.
func isInteger(n json.Number) bool {
	_, err := strconv.ParseInt(string(n), 10, 64)
	if err != nil {
		_, err = strconv.ParseUint(string(n), 10, 64)
	}
	return err == nil
}

// exactly reads t once more when it has integers that Min and Max round.
func (v *ValueStats) exactly(ctx context.Context, t onnxfile.Tensor) error {
	signed := t.DType() == onnxfile.Int64
	if !signed && t.DType() != onnxfile.DType(onnxpb.TensorProto_UINT64) || v.Min == nil || v.Max == nil || !v.rounds() {
		return nil
	}
	raw, err := t.Raw(nil)
	if err != nil {
		return err
	}
	e := integerRange{ctx: ctx, low: math.MaxUint64}
	if signed {
		e.flip = 1 << 63
	}
	if _, err := raw.WriteTo(&e); err != nil {
		return err
	}
	digits := func(k uint64) json.Number {
		if signed {
			return json.Number(strconv.FormatInt(int64(k^e.flip), 10))
		}
		return json.Number(strconv.FormatUint(k, 10))
	}
	v.MinInteger, v.MaxInteger = digits(e.low), digits(e.high)
	return nil
}

// integerRange finds the smallest and the largest of the integers of 64 bits,
// little-endian, that are written to it.
type integerRange struct {
	ctx       context.Context
	flip      uint64 // the sign bit of signed ones, so that they are in order without it
	low, high uint64
	rest      []byte // of an integer that is not complete
}

func (e *integerRange) Write(b []byte) (int, error) {
	n := len(b)
	if len(e.rest) > 0 {
		take := min(8-len(e.rest), len(b))
		e.rest, b = append(e.rest, b[:take]...), b[take:]
		if len(e.rest) < 8 {
			return n, nil
		}
		e.add(binary.LittleEndian.Uint64(e.rest))
	}
	for ; len(b) >= 8; b = b[8:] {
		e.add(binary.LittleEndian.Uint64(b))
	}
	e.rest = append(e.rest[:0], b...)
	return n, e.ctx.Err()
}

func (e *integerRange) add(k uint64) {
	k ^= e.flip
	e.low, e.high = min(e.low, k), max(e.high, k)
}
