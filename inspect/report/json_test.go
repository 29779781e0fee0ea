package report

import (
	"bytes"
	"encoding/json"
	"reflect"
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
		out := indentJSON(compact.Bytes())
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
