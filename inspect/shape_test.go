package inspect

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
)

func TestShapeForms(t *testing.T) {
	for _, c := range []struct {
		shape      Shape
		text, json string
		elements   int64
	}{
		{Shape{}, "unknown", `null`, -1},
		{Shape{Known: true}, "scalar", `[]`, 1},
		{FixedShape(), "scalar", `[]`, 1},
		{FixedShape(1, 3, 224, 224), "1 x 3 x 224 x 224", `[1,3,224,224]`, 150528},
		{FixedShape(0, math.MaxInt64, math.MaxInt64), "0 x 9223372036854775807 x 9223372036854775807", `[0,9223372036854775807,9223372036854775807]`, 0},
		{FixedShape(math.MaxInt64, 2), "9223372036854775807 x 2", `[9223372036854775807,2]`, -1},
		{FixedShape(-7, 2), "? x 2", `[null,2]`, -1},
		{Shape{Known: true, Dims: []Dim{{-1, "batch*49"}, {Value: 7}, {Value: -1}}}, "batch*49 x 7 x ?", `["batch*49",7,null]`, -1},
	} {
		if got := c.shape.String(); got != c.text {
			t.Errorf("text %q, want %q", got, c.text)
		}
		n, ok := c.shape.Elements()
		if ok != (c.elements >= 0) || ok && n != c.elements {
			t.Errorf("%s: %d elements, %v", c.text, n, ok)
		}
		b, err := json.Marshal(c.shape)
		if err != nil || string(b) != c.json {
			t.Errorf("%s: JSON %s, %v, want %s", c.text, b, err, c.json)
		}
		back := FixedShape(9) // must be overwritten
		if err := json.Unmarshal(b, &back); err != nil {
			t.Errorf("%s: %v", b, err)
		}
		if back.Known != c.shape.Known || len(back.Dims) != len(c.shape.Dims) ||
			len(back.Dims) > 0 && !reflect.DeepEqual(back.Dims, c.shape.Dims) {
			t.Errorf("%s read back as %+v", b, back)
		}
	}
	for _, bad := range []string{`[-1]`, `{}`, `[1.5]`, `[true]`} {
		if err := json.Unmarshal([]byte(bad), new(Shape)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}
