package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
)

func TestJSONLayout(t *testing.T) {
	v := map[string]any{"a": []int{1, 2, 3}, "b": []any{}, "c": map[string]any{}, "d": []any{map[string]any{"x": "], \"[{:,"}, []int{4}}, "e": nil, "f": "<&>"}
	var b bytes.Buffer
	if err := WriteJSON(&b, v); err != nil {
		t.Fatal(err)
	}
	want := `{
  "a": [1,2,3],
  "b": [],
  "c": {},
  "d": [
    {
      "x": "], \"[{:,"
    },
    [4]
  ],
  "e": null,
  "f": "<&>"
}
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func FuzzIndentJSON(f *testing.F) {
	for _, s := range []string{`{}`, `[]`, `[[],{}]`, `{"a":[1,"x]\\\"",{"b":null}],"c":-1.5e9}`, `"\u2028"`, `[1,[2],3]`, `[{"a":1},2]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(s)) != nil {
			return
		}
		var want, got any
		if json.Unmarshal(compact.Bytes(), &want) != nil {
			return
		}
		out := indentJSON(compact.Bytes(), 0)
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s became %s", s, out)
		}
	})
}

func BenchmarkWriteJSON(b *testing.B) {
	type filter struct {
		Ratios []float32 `json:"ratios"`
	}
	v := make([]filter, 4000)
	for i := range v {
		v[i].Ratios = make([]float32, 100)
		for j := range v[i].Ratios {
			v[i].Ratios[j] = float32(i*j) / 7919
		}
	}
	var out bytes.Buffer
	if err := WriteJSON(&out, v); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(out.Len()))
	for b.Loop() {
		out.Reset()
		if err := WriteJSON(&out, v); err != nil {
			b.Fatal(err)
		}
	}
}

// A list written piece by piece is what it is when written at once.
func TestWriteJSONs(t *testing.T) {
	for _, list := range [][]any{{}, {map[string]int{"a": 1}}, {map[string]any{"b": []int{1, 2}, "c": []any{[]int{3}}}, map[string]any{}, map[string]string{"x": "[]"}}} {
		var want, got bytes.Buffer
		if err := errors.Join(WriteJSON(&want, list), WriteJSONs(&got, slices.Values(list))); err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() {
			t.Errorf("got\n%s\nwant\n%s", got.String(), want.String())
		}
	}
	// What is full is said at once, and nothing more is made.
	made := 0
	err := WriteJSONs(failing{}, func(yield func(any) bool) {
		for ; made < 5 && yield(made); made++ {
		}
	})
	if err == nil || made > 0 {
		t.Errorf("error %v after %d values", err, made)
	}
}
